"Pointing game, randomization check and ROAD: scores by hand, verdicts, and the network that comes back as it was"
import numpy as np, pandas as pd, pytest
from fastai.vision.all import torch
from scipy.stats import spearmanr
from cifar_fastai.cam_metrics import (
    _compare_maps,
    _road,
    add_verdicts,
    baseline_maps,
    bootstrap_interval,
    map_entropy,
    mean_scores,
    randomization_verdicts,
    rank_correlation,
    score_maps,
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
    assert [*s]==['random map','center','edges','contrast']
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

def test_baseline_maps_repeat_with_their_seed(square):
    a,b,c = (baseline_maps(square[0], seed)['random map'] for seed in (0,0,1))
    assert torch.equal(a, b) and not torch.equal(a, c)

def test_bootstrap_interval_is_that_of_the_normal_distribution_and_repeats():
    xs = np.random.default_rng(3).random(400)
    low,high = bootstrap_interval(xs)
    half = 1.96*xs.std()/20
    assert np.allclose([low,high], [xs.mean()-half,xs.mean()+half], atol=half/5)
    assert bootstrap_interval(xs)==(low,high) and bootstrap_interval([1,1,1])==(1,1)

def test_mean_scores_lie_within_their_intervals():
    rng = np.random.default_rng(0)
    o = mean_scores(score_maps(torch.from_numpy(rng.random((50,8,8))), rng.random((50,8,8))>0.6))
    assert o['hits_low']<o['hits']<o['hits_high'] and o['mass_low']<o['mass_inside']<o['mass_high'] and o['images']==50

@pytest.mark.parametrize('change,verdict', [({}, 'passes'), (dict(hits_low=0.7), 'fails'),
    (dict(mass_low=0.4), 'fails'), (dict(hits=0.89), 'fails')], ids=['above','hits','mass','goal'])
def test_a_method_passes_above_the_best_baseline_by_hits_and_by_mass(change, verdict):
    "The best by hits and the best by mass may be two"
    row = dict(hits=0.95, hits_low=0.9, mass_inside=0.6, mass_low=0.55)|change
    base = [dict(hits=0.7, mass_inside=0.2), dict(hits=0.3, mass_inside=0.4)]
    assert add_verdicts(pd.DataFrame([row]), pd.DataFrame(base), 0.9).verdict.tolist()==[verdict,'baseline','baseline']

def test_pointing_game_has_a_row_for_each_and_one_for_each_baseline(interp):
    t = interp.pointing_game(('GradCAM','HiResCAM'), ('stage2','stage3'), n=20)
    baselines = ['chance','random map','center','edges','contrast']
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

def test_road_of_the_opposite_map_is_the_opposite(interp):
    items = interp.correct(16, 'random')
    xb,ts = interp[items][0],interp.decoded[items.idxs]
    mask = torch.from_numpy(interp.masks(items).astype(np.float32))
    def score(m):
        return np.subtract(*_road(interp.learn.model, xb, m, ts, (30,60), np.random.default_rng(0), 0)).mean()/2
    assert abs(score(mask)+score(-mask))<0.05

def test_road_repeats_and_has_a_random_baseline_at_each_layer(interp):
    s = torch.get_rng_state()
    a,b = (interp.road(('GradCAM',), ('stage2','stage3'), n=4) for _ in range(2))
    pd.testing.assert_frame_equal(a, b)
    assert torch.equal(s, torch.get_rng_state())
    assert a[a.verdict=='baseline'].layer.tolist()==['stage2','stage3']
    assert (a[a.verdict=='baseline'].method=='random map').all()
    for layer,says in (('stage7','unknown layer'), ('stage4','too coarse')):
        with pytest.raises(InputError, match=says): interp.road(('GradCAM',), (layer,), n=4)
