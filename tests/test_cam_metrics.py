"Scores by hand, verdicts, and the network that comes back as it was"
import importlib, json, sys
from pathlib import Path
import numpy as np, pandas as pd, pytest
from fastai.vision.all import Learner, nn, torch
from scipy.stats import spearmanr
from cifar_fastai.cam import default_fails, default_layer, default_method
from cifar_fastai.cam_metrics import (
    _compare_maps,
    _faithfulness,
    add_verdicts,
    baseline_maps,
    bootstrap_interval,
    curve_area,
    map_entropy,
    mean_scores,
    pixel_order,
    pointing_row,
    randomization_verdicts,
    rank_correlation,
    score_maps,
    score_pairs,
)
from cifar_fastai.core import InputError
from cifar_fastai.interpret import CifarInterpretation
from learners import fitted, without_source

@pytest.fixture(scope='module')
def interp(source):
    "A narrow network; all count as correct, whatever it learned"
    res = CifarInterpretation.from_learner(fitted(source, epochs=2, lr=0.05))
    res.decoded = res.targs
    return res

def test_a_map_that_is_the_mask_passes_its_opposite_fails_an_empty_one_is_counted():
    mk = np.zeros((3,32,32), bool)
    mk[:,8:24,8:24] = True
    one = torch.tensor(mk[0]).float()
    s = score_maps(torch.stack([one, 1-one, torch.zeros(32,32)]), mk)
    assert s['hit'].tolist()==[True,False,False] and s['empty'].tolist()==[False,False,True]
    assert np.allclose(s['mass_inside'], [1,0,0])

def test_masks_are_of_the_size_of_the_images(interp):
    mask = interp.masks([3])
    assert mask.shape==(1,32,32) and 0.02<mask.mean()<0.7

@pytest.fixture
def square():
    "An image with a bright square off the middle, and the mask of the square"
    img,mask = np.full((1,32,32,3), 40, np.uint8),np.zeros((1,32,32), bool)
    mask[:,4:14,18:28] = True
    img[mask] = 200,90,30
    return img,mask

def test_contrast_finds_what_stands_out_and_the_center_only_the_middle(square):
    img,mask = square
    s = {k: score_maps(m, mask) for k,m in baseline_maps(img).items()}
    assert [*s]==['random map','center','edges','contrast','blurred random']
    assert s['contrast']['hit'][0] and not s['center']['hit'][0]
    assert s['contrast']['mass_inside'][0]>0.7>s['edges']['mass_inside'][0]>mask.mean()

def test_edges_are_at_the_outline_and_nowhere_in_a_plain_image(square):
    img,mask = square
    edges = baseline_maps(img)['edges'][0]
    assert edges[4,18:28].mean()>4*edges[9,23] and baseline_maps(0*img)['edges'].max()==0

def test_a_plain_image_has_an_empty_contrast_map_and_a_center_in_the_middle():
    maps = baseline_maps(np.full((2,24,32,3), 7, np.uint8))
    assert all(m.shape==(2,24,32) for m in maps.values())
    assert score_maps(maps['contrast'], np.ones((2,24,32)))['empty'].all()
    y,x = divmod(int(maps['center'][1].argmax()), 32)
    assert y in (11,12) and x in (15,16)

@pytest.mark.parametrize('name', ['random map','blurred random'])
def test_baseline_maps_repeat_with_their_seed(name, square):
    a,b,c = (baseline_maps(square[0], seed)[name] for seed in (0,0,1))
    assert torch.equal(a, b) and not torch.equal(a, c)

def test_blurred_baselines_are_smooth_and_the_mask_lies_on_its_object(square):
    img,mask = square
    maps = baseline_maps(img, masks=mask)
    def rough(m): return float((m[:,1:]-m[:,:-1]).abs().mean()/m.abs().mean())
    assert rough(maps['blurred random'])<rough(maps['random map']-maps['random map'].mean())/2
    s = score_maps(maps['blurred mask'], mask)
    assert s['hit'][0] and 0.3<s['mass_inside'][0]<0.9 and 'blurred mask' not in baseline_maps(img)

def test_bootstrap_interval_is_that_of_the_normal_distribution_and_repeats():
    xs = np.random.default_rng(3).random(400)
    low,high = bootstrap_interval(xs)
    half = 1.96*xs.std()/20
    assert np.allclose([low,high], [xs.mean()-half,xs.mean()+half], atol=half/5)
    assert bootstrap_interval(xs)==(low,high) and bootstrap_interval([1,1,1])==(1,1)

def test_mean_scores_lie_within_their_intervals_and_leave_out_what_has_none():
    rng = np.random.default_rng(0)
    o = pointing_row(score_maps(torch.from_numpy(rng.random((50,8,8))), rng.random((50,8,8))>0.6))
    assert o['hits_low']<o['hits']<o['hits_high'] and o['mass_low']<o['mass_inside']<o['mass_high'] and o['images']==50
    assert mean_scores(s=[2,np.nan,2])==dict(images=3, s=2, s_low=2, s_high=2)
    assert np.isnan([mean_scores(s=[np.nan])[k] for k in ('s','s_low','s_high')]).all()

@pytest.mark.parametrize('change,verdict', [({}, 'passes'), (dict(hits_low=0.7), 'fails'),
    (dict(mass_low=0.4), 'fails'), (dict(good=False), 'fails'), (dict(gone_high=0.2), 'fails')],
    ids=['better','hits','mass','goal','lower'])
def test_a_method_passes_beyond_the_best_baseline_by_every_score(change, verdict):
    "The best by one score and the best by another may be two; the blurred mask is no bar"
    row = dict(layer='x', hits_low=0.9, mass_low=0.55, gone_high=0.1, good=True)|change
    base = [dict(method='center', hits=0.7, mass_inside=0.2, gone=0.3), dict(method='edges', hits=0.3, mass_inside=0.4, gone=0.2),
            dict(method='blurred mask', hits=1., mass_inside=0.9, gone=0.)]
    df = pd.DataFrame([row, *(dict(layer='', good=True)|o for o in base)])
    found = add_verdicts(df, ('hits','mass_inside'), ('gone',), df.good)
    assert found.verdict.tolist()==[verdict]+['baseline']*3

def test_pointing_game_has_a_row_for_each_and_one_for_each_baseline(interp):
    t = interp.pointing_game(('GradCAM','HiResCAM'), ('stage2','stage3'), n=20)
    baselines = ['chance','random map','center','edges','contrast','blurred random']
    assert t.method.tolist()==['GradCAM','HiResCAM']*2+baselines and (t.images==20).all()
    assert t[t.verdict=='baseline'].method.tolist()==baselines and set(t.verdict)<={'passes','fails','baseline'}
    chance = t[t.method=='chance'].iloc[0]
    assert chance.hits==chance.mass_inside and (chance.hits_low,chance.hits_high)==(chance.mass_low,chance.mass_high)
    assert ((t.mass_low<=t.mass_inside)&(t.mass_inside<=t.mass_high)&(t.hits_low<=t.hits)&(t.hits<=t.hits_high)).all()
    pd.testing.assert_frame_equal(t, interp.pointing_game(('GradCAM','HiResCAM'), ('stage2','stage3'), n=20))

def test_pointing_game_says_why_it_needs_masks(interp, source, monkeypatch):
    "In one line, and what needs none"
    other = CifarInterpretation.from_learner(without_source(source))
    other.decoded = other.targs  # something is right
    with pytest.raises(
        InputError, match='nothing says whether a map hits one.*`cascading_randomization` and `road` need none'
    ) as e:
        other.pointing_game(('GradCAM',), ('stage2',))
    assert '\n' not in str(e.value)
    monkeypatch.setattr(interp.learn.dls.source, 'name', 'cifar10')
    with pytest.raises(InputError, match='cifar10 has no masks'): interp.pointing_game()

def test_rank_correlation_is_spearmans():
    g = torch.Generator().manual_seed(0)
    a,b = torch.randn(3, 4, 4, generator=g),torch.randn(3, 4, 4, generator=g).round()
    assert np.allclose(rank_correlation(a, a.exp()), 1) and np.allclose(rank_correlation(a, -a), -1)
    assert np.isnan(rank_correlation(a, torch.zeros(3,4,4))).all()
    assert np.allclose(
        rank_correlation(a, b), [spearmanr(x.flatten(), y.flatten())[0] for x, y in zip(a.numpy(), b.numpy())]
    )


def test_entropy_of_a_map_is_that_of_its_values():
    "Scale and place of the values make no difference"
    even = torch.arange(100.).reshape(1, 10, 10)
    half = (even>49).float()
    assert np.allclose(map_entropy(torch.cat([even, half, 0*even])), [np.log(100),np.log(2),0])
    assert np.allclose(map_entropy(3*even.flip(1)-7), map_entropy(even))

def test_changes_leave_out_maps_of_one_value():
    even = torch.arange(100.).reshape(1, 10, 10)
    half,flat = (even>49).float(),0*even
    o = _compare_maps(torch.cat([half, flat]), torch.cat([even, even]))
    assert np.isclose(o['entropy_rise'], np.log(100)/np.log(2)-1) and (o['images'],o['flat'])==(2,1)
    assert np.isnan(_compare_maps(flat, even)['entropy_rise'])

def test_randomization_repeats_and_leaves_the_network_alone(interp):
    "Two rows have a verdict: all above the layer new, and all new"
    model,s = interp.learn.model,torch.get_rng_state()
    before = [p.clone() for p in model.parameters()]
    a,b = (interp.cascading_randomization(('HiResCAM',), ('stage2',), n=8) for _ in range(2))
    pd.testing.assert_frame_equal(a, b)
    assert all(torch.equal(x, y) for x,y in zip(before, model.parameters())) and torch.equal(s, torch.get_rng_state())
    assert list(a.part)==['head','stage4','stage3','stage2','stage1','stem']
    assert [o!='' for o in a.verdict]==[False,False,True,False,False,True]
    with pytest.raises(InputError, match='unknown method'): interp.cascading_randomization(('Gradcam',), n=4)

def test_a_method_without_class_and_gradient_fails_and_one_without_a_map_too(interp):
    rand = interp.cascading_randomization(('GradCAM','EigenCAM'), ('stage2',), n=8)
    v = randomization_verdicts(rand).set_index('method').verdict
    assert v.index.tolist()==['GradCAM','EigenCAM'] and v['EigenCAM']=='fails'
    assert randomization_verdicts(rand).entropy_rise.tolist()==rand[rand.part=='stem'].entropy_rise.tolist()
    old = rand.drop(columns='entropy_rise') # of an earlier version
    assert 'entropy_rise' not in randomization_verdicts(old)
    lost = (rand.method=='GradCAM')&(rand.part=='stem')
    none = rand.assign(correlation=rand.correlation.where(~lost), verdict=rand.verdict.mask(lost, 'no map'))
    assert randomization_verdicts(none).set_index('method').verdict['GradCAM']=='fails'

def test_a_layer_without_weights_is_judged_like_the_one_before_it(source, interp):
    "The last activation of a network that is nobody's: what is above it is the linear layer alone"
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    other = CifarInterpretation.from_learner(Learner(interp.learn.dls, net, loss_func=interp.learn.loss_func))
    other.decoded = other.targs
    t = other.cascading_randomization(('GradCAM',), ('0','1'), n=4)
    assert t.part.tolist()==['4','4','0','0'] and (t.verdict!='').all()

def test_both_orders_end_with_the_same_network(interp):
    "From the head down and from the stem up: every weight is new in the end, and gets the same values"
    down,up = (interp.cascading_randomization(('HiResCAM',), ('stage2',), n=6, order=o) for o in ('top-down','bottom-up'))
    assert up.part.tolist()==down.part.tolist()[::-1] and [o!='' for o in up.verdict]==[False]*5+[True]
    drop = ['part']
    pd.testing.assert_series_equal(down.iloc[-1].drop(drop), up.iloc[-1].drop(drop), check_names=False)
    assert up.correlation[0]!=down.correlation[0]
    with pytest.raises(InputError, match="unknown order 'up'"): interp.cascading_randomization(order='up')

# ---- two objects

@pytest.fixture
def halves():
    "The object of the left half, and that of the right half"
    left = np.zeros((1,8,16), bool)
    left[:,2:6,2:6] = True
    return left,left[...,::-1].copy()

@pytest.mark.parametrize('which,hits,share', [('left',True,1), ('right',False,0), ('even',False,0.5), ('empty',False,0),
    ('beside',False,0)])
def test_a_map_of_a_class_is_scored_by_its_own_object(which, hits, share, halves):
    "The mask of the object, that of the other, a uniform map, and maps without anything on either"
    left,right = halves
    m = dict(left=left, right=right, even=np.ones_like(left), empty=0*left, beside=~(left|right))[which].astype(np.float32)
    o = score_pairs(torch.from_numpy(m), left, right)
    assert (o['hits'].tolist(), o['share'].tolist())==([hits],[share])

def test_maps_that_ask_for_no_class_share_the_mass_equally(interp):
    "And so do the baselines but the mask of each class; a table that repeats"
    def table(): return interp.two_objects(('EigenCAM','HiResCAM'), ('stage2',), n=400)
    t = table().set_index('method')
    blind = t.drop(index=['HiResCAM','blurred mask'])
    assert np.allclose(blind[['share','share_low','share_high']], 0.5, atol=1e-6) and (blind.hits<=0.5).all()
    assert t.share['blurred mask']>0.9 and t.hits['blurred mask']>0.9 and t.verdict['EigenCAM']=='fails'
    assert 0<t.images.iloc[0]<400 and t.images.nunique()==1
    pd.testing.assert_frame_equal(table().set_index('method'), t)

def test_two_objects_of_a_compiled_network(interp, monkeypatch):
    "Nothing is compiled, and the table is that of the same weights"
    def refuse(gm, inputs): raise AssertionError('the network was compiled')
    plain = interp.two_objects(('HiResCAM',), ('stage2',), n=100)
    monkeypatch.setattr(interp.learn.model, '_compiled_call_impl', None)
    interp.learn.model.compile(backend=refuse)
    pd.testing.assert_frame_equal(interp.two_objects(('HiResCAM',), ('stage2',), n=100), plain)

def test_two_objects_need_masks_and_a_network_that_knows_both(interp, monkeypatch):
    monkeypatch.setattr(interp.learn.model.head, 'forward', lambda x: torch.arange(10.).repeat(len(x), 1))
    with pytest.raises(InputError, match='knows both objects in none of 3 pairs'): interp.two_objects(n=3)
    monkeypatch.setattr(interp.learn.dls.source, 'name', 'cifar10')
    with pytest.raises(InputError, match='cifar10 has no masks'): interp.two_objects()

# ---- faithfulness

def test_pixels_come_strongest_first_and_equal_ones_in_one_order():
    g = np.random.default_rng(1).permutation(24).reshape(2,3,4)
    assert np.array_equal(pixel_order(g), np.array([o.size-1-o.reshape(-1).argsort().argsort().reshape(o.shape) for o in g]))
    ties = pixel_order(np.float32([[[1,1,1],[1,1,1]]]*2)+np.float32(1e-9))
    assert np.array_equal(ties[0], ties[1]) and sorted(ties[0].flatten())==[*range(6)] and (np.diff(ties[0].flatten())<0).any()
    assert np.array_equal(pixel_order(np.zeros((1,2,3))), ties[:1])

class OnObject(nn.Module):
    "Its probability is the share of the object, a quarter of 8x8 pixels, that is white"
    def forward(self, x):
        p = x[:,:,:4,:4].mean((1,2,3)).clamp(0, 1)
        return torch.stack([p, 1-p], 1).log()

@pytest.mark.parametrize('which,area', [('mask',1/8), ('opposite',7/8), ('other class',7/8)])
def test_area_under_a_curve_by_hand(which, area):
    "Deletion: the object goes in the first quarter of the steps, or in the last"
    mask = np.zeros((2,8,8))
    mask[:,:4,:4] = 1
    x = torch.ones(2,3,8,8)
    order,target = pixel_order(-mask if which=='opposite' else mask),[int(which=='other class')]*2
    assert np.allclose(curve_area(OnObject(), x, 0*x, order, target), area, atol=1e-6)
    assert np.allclose(curve_area(OnObject(), 0*x, x, order, target), 1-area, atol=1e-6) # insertion, of the same order

def test_scores_of_the_opposite_map_are_the_opposite(interp):
    items = interp.correct(16, 'random')
    xb,ts = interp[items][0],interp.decoded[items.idxs]
    mask = interp.masks(items).astype(np.float32)
    a,b = (_faithfulness(interp.learn.model, xb, m, ts, (30,60), 0) for m in (mask, -mask))
    assert abs(a['road'].mean()+b['road'].mean())<0.05
    assert all(o.shape==(16,) and ((o>=0)&(o<=1)).all() for s in (a,b) for o in (s['insertion'], s['deletion']))

def test_road_repeats_and_has_baselines(interp, monkeypatch):
    s = torch.get_rng_state()
    a,b = (interp.road(('GradCAM',), ('stage2','stage3'), n=4) for _ in range(2))
    pd.testing.assert_frame_equal(a, b)
    assert torch.equal(s, torch.get_rng_state())
    names = ['random map','center','edges','contrast','blurred random','blurred mask']
    assert a[a.verdict=='baseline'].method.tolist()==names and (a[a.verdict=='baseline'].layer=='').all()
    assert ((a.road_low<=a.road)&(a.road<=a.road_high)&(a.insertion_low<=a.insertion)).all() and (a.se>0).all()
    for layer,says in (('stage7','unknown layer'), ('stage4','too coarse')):
        with pytest.raises(InputError, match=says): interp.road(('GradCAM',), (layer,), n=4)
    monkeypatch.setattr(interp.learn.dls.source, 'name', 'cifar10') # no masks
    assert interp.road(('GradCAM',), ('stage2',), n=2).method.tolist()==['GradCAM',*names[:-1]]

# ---- records

@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]/'benchmarks'))
    yield importlib.import_module
    for o in ('cam_metrics','quantus_agreement'): sys.modules.pop(o, None)

def test_the_record_has_every_score_with_its_interval(script):
    rec = script('cam_metrics').measure([], 12, 3, 0, ['EigenCAM'], ['stage2'], 'cpu')
    keys = 'hits','energy','emprt','road','insertion','deletion','two_objects'
    assert [*rec['baselines']]==['random','center','edges','contrast','blurred_random','blurred_mask']
    for o in (*rec['rows'], *rec['baselines'].values()):
        assert all(o[f'{k}_95'][0]<=o[k]<=o[f'{k}_95'][1] for k in keys)
    row = rec['rows'][0]
    assert row['passes'] is False and {'two_objects','randomization'}<=set(row['fails'])
    assert rec['default']==dict(method='EigenCAM', layer='stage2', fails=row['fails']) and rec['in_package'] is None
    assert script('cam_metrics').table(rec).count('\n')==8

def test_several_networks_pass_together(script):
    a = {('m','l'): dict(hits=0.8, hits_95=[0.7,0.9], fails=['road'])}
    b = {('m','l'): dict(hits=0.6, hits_95=[0.5,0.65], fails=[])}
    assert script('cam_metrics').over_networks([a,b])=={('m','l'): dict(hits=0.7, hits_95=[0.5,0.9], fails=['road'])}

@pytest.mark.slow
def test_quantus_agrees(script):
    "On the same maps, to rounding: pip install 'cifar_fastai[quantus]'"
    pytest.importorskip('quantus')
    rec = script('quantus_agreement').measure(16, ('GradCAM','HiResCAM','EigenCAM'), ('stage2',))
    off = rec['largest_difference']
    assert off['hits']==0 and off['energy_localisation']<1e-3, off # it adds 1e-9 to the sum of each map
    assert max(off[k] for k in ('energy_mass_accuracy','entropy_rise','entropy_rise_mean'))<1e-6, off
    assert all(0<o['means']['hits']<=1 and o['means']['energy']>0.1 for o in rec['rows'])

def test_the_default_is_that_of_the_record():
    root = Path(__file__).resolve().parents[1]
    chosen = json.loads((root/'results/cam-metrics-shapes10.json').read_text())['default']
    assert chosen==dict(method=default_method, layer=default_layer, fails=[*default_fails])
