"""What app and explorer share: choices of what can be shown, items in an order, maps and their sentences; and one
network asked by several."""
import json, shutil, threading
import numpy as np, pytest, torch
from PIL import Image
import cifar_fastai.app as app
from cifar_fastai.cam import default_method, is_empty, overlay
from cifar_fastai.core import InputError
from cifar_fastai.interpret import CifarInterpretation
from cifar_fastai.models import resnet18
from cifar_fastai.viewer import RunViewer, explain_item, find_items, for_page, how_to_read, layer_choices
from pages import copy_weights

@pytest.fixture(scope='module')
def view(run_dir, source): return RunViewer(run_dir, source, 'cpu', n_images=30)

@pytest.fixture(scope='module')
def interp(run_dir, source): return CifarInterpretation.from_run(run_dir, source, device='cpu')

# ---- what can be chosen

def test_layer_choices_of_a_resnet_are_its_stages(interp):
    model = interp.learn.model
    assert [k for _,k in layer_choices(model, 32)]==['stem','stage1','stage2','stage3']
    assert [k for _,k in layer_choices(model, 64)][-1]=='stage4'

def test_layer_choices_of_tiny_images_are_refused():
    with pytest.raises(InputError, match='no layer of this ResNet has a map of 5x5 or more for images of 4x4'):
        layer_choices(resnet18(width=8), 4)

# ---- items

def test_items_found_are_those_of_group_class_and_order(interp):
    right,n = interp.decoded==interp.targs,len(interp.targs)
    assert find_items(interp, 'all', order='listed')==list(range(n))
    assert sorted(find_items(interp, 'correct')+find_items(interp))==list(range(n))
    wrong = find_items(interp)
    assert (
        wrong == interp.misclassified(n).idxs
        and find_items(interp, order='confidence') == interp.misclassified(n, 'confidence').idxs
    )
    o = interp.scored(wrong)[0]
    both = find_items(interp, actual=o.actual, predicted=o.predicted)
    assert both==[i for i in wrong if (interp.targs[i],interp.decoded[i])==(interp.targs[o.idx],interp.decoded[o.idx])]
    some = [7, 3, 20]
    assert find_items(interp, 'all', order='listed', among=some)==some
    assert not any(right[find_items(interp, among=some)])

# ---- maps

def test_the_map_of_an_item_is_the_library_s(interp):
    e = explain_item(
        interp, 3, 'actual', 'star' if interp.vocab[interp.targs[3]] != 'star' else 'ring', 'GradCAM', 'stage2', k=2
    )
    cam = interp.cam([3], 'actual', e.versus, method='GradCAM', layer='stage2')[0]
    assert torch.equal(e.cam, cam) and e.target==interp.vocab[interp.targs[3]] and e.how=='GradCAM at stage2'
    assert np.array_equal(np.asarray(e.picture), interp.pictures([3])[0])
    # the actual class is always listed
    assert e.target in [c for c,_ in e.prediction.top] and len(e.prediction.top) in (2,3)

def test_pictures_of_a_page_are_enlarged_by_whole_factors_and_photographs_reduced(view, source):
    photo = Image.fromarray(source.x[0]).resize((1600,1200))
    big = view.explain(photo)
    page = for_page(big)
    assert (page.picture.size,page.box,big.picture.size)==((768,576),(96,0,672,576),(1600,1200))
    assert for_page(view.explain(photo, resize='squish')).box==(0,0,768,576)
    small = for_page(view.explain(source.x[0])).picture
    assert small.size==(384,384) and np.array_equal(np.asarray(small)[::12,::12], source.x[0])
    assert for_page(view.explain(Image.new('RGB', (9000,1)))).picture.size==(768,1)
    assert for_page(view.explain(photo.resize((300,200)))).picture.size==(300,200)

def test_a_map_says_how_to_read_it(view, source):
    e = view.explain(source.x[0], 'ring', target='star')
    assert how_to_read(e)=='Red is evidence for star, blue for ring.'
    assert how_to_read(view.explain(source.x[0], target='star'))=='Bright is evidence for star.'
    assert 'does not ask for a class' in how_to_read(view.explain(source.x[0], method='EigenCAM'))

# ---- what a page asks of a run

def state(model):
    "All of a network that a map might leave changed"
    hooks = [len(h) for m in model.modules() for h in (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks)]
    weights = [(k, v.clone()) for k,v in model.state_dict().items()]
    return weights,[m.training for m in model.modules()],[(p.requires_grad, p.grad) for p in model.parameters()],hooks

@pytest.mark.parametrize('train', [False, True])
def test_networks_are_left_as_they_were(view, source, train):
    nets = view.clf.model,view.learn.model
    for o in nets: o.train(train)
    before = [state(o) for o in nets]
    for method in ('HiResCAM','GradCAM++','XGradCAM','EigenCAM'): view.explain(source.x[0], method=method)
    vars(view).pop('interp', None)
    view.strips(view.mistakes()[:5])
    for (w,*rest),o in zip(before, nets):
        now,*others = state(o)
        assert rest==others and all(torch.equal(a, b) and k==l for (k,a),(l,b) in zip(w, now))
        o.eval()

def test_two_at_once_get_what_each_would_alone(view, source):
    asked = [('star','HiResCAM'), ('ring','GradCAM'), ('predicted','EigenCAM'), ('heart','LayerCAM')]*3
    def explain(i): return view.explain(source.x[i], target=asked[i][0], method=asked[i][1])
    alone,got = [explain(i) for i in range(len(asked))],[None]*len(asked)
    def one(i): got[i] = explain(i)
    threads = [threading.Thread(target=one, args=(i,)) for i in range(len(asked))]
    for o in threads: o.start()
    for o in threads: o.join()
    assert all(a.line==b.line and torch.equal(a.cam, b.cam) for a,b in zip(alone, got))

def test_images_that_are_gone_leave_explanations_and_a_reason(run_dir, tmp_path, source, view):
    gone = tmp_path/'gone'
    shutil.copytree(run_dir, gone)
    c = json.loads((gone/'config.json').read_text())
    c['source']['path'] = str(tmp_path/'nowhere')
    (gone/'config.json').write_text(json.dumps(c))
    for folder,says in ((gone, 'nowhere'), (copy_weights(run_dir, tmp_path/'bare'), 'config.json')):
        v = RunViewer(folder, device='cpu')
        assert v.learn is None and says in v.why and '\n' not in v.why
        assert says in app._head(v)[1]
        assert v.explain(source.x[0]).line.split(';')[0]==view.explain(source.x[0]).line.split(';')[0]
        for show in (v.samples, v.mistakes):
            with pytest.raises(InputError, match='images of this run are not available'): show()
    with pytest.raises(InputError, match='nowhere'): RunViewer(gone, tmp_path/'nowhere', 'cpu')

wrong = [
    (dict(n_images=0), 'n_images is 0'),
    (dict(device='gpu'), "'gpu'"),
    (dict(source='nowhere'), 'nowhere'),
]


@pytest.mark.parametrize('kw,says', wrong, ids=[s for _,s in wrong])
def test_options_that_are_none_are_refused(run_dir, kw, says):
    with pytest.raises(InputError, match=says): RunViewer(run_dir, **{'device': 'cpu', **kw})

def test_folders_that_hold_no_run_are_refused(tmp_path):
    with pytest.raises(InputError, match='has no model.json'): RunViewer(tmp_path)

def test_samples_are_the_exact_pixels_with_the_classes_in_turn(view, source):
    samples = view.samples()
    assert np.array_equal(np.asarray(samples[0][0]), source.x[source.valid_idxs[0]])
    assert sorted(c for _,c in samples)==sorted(source.vocab) and len(view.samples(15))==15

# ---- mistakes

def test_mistakes_come_from_a_bounded_number_of_images_scored_once(run_dir, source, view):
    assert len(view.interp.losses)==30 and view.interp is view.interp
    assert len(RunViewer(run_dir, source, 'cpu', n_images=10**6).interp.losses)==len(source.valid_idxs)

def test_mistakes_are_in_order_and_by_class(view):
    it,every = view.interp,view.mistakes()
    assert [o.idx for o in every]==it.misclassified(len(every)).idxs
    assert view.mistakes('confidence')[:3]==list(it.misclassified(3, 'confidence'))
    a = every[0]
    same = [o.idx for o in every if (o.actual,o.predicted)==(a.actual,a.predicted)]
    assert [o.idx for o in view.mistakes(actual=a.actual, predicted=a.predicted)]==same
    with pytest.raises(InputError, match="unknown class 'cow'"): view.mistakes(actual='cow')
    with pytest.raises(InputError, match="unknown order 'size'"): view.mistakes('size')

def test_a_strip_is_the_picture_before_its_maps_on_one_scale(view):
    o = view.mistakes()[0]
    strip = view.strips([o])[0]
    assert view.strips([])==[]
    assert strip.size==(3*(128+8),128)
    small,img = np.asarray(strip.convert('RGB'))[::4],view.interp.pictures([o.idx])[0]
    assert np.array_equal(small[:,:128:4], img)
    maps = torch.cat([view.interp.cam([o.idx], t, layer=view.layer) for t in ('predicted','actual')])
    for m,left in zip(maps, (136,272)):
        if not is_empty(m): assert np.array_equal(small[:,left:left+128:4], overlay(img, m, float(maps.max())))
    assert view.explain(view.interp.pictures([o.idx])[0], method=default_method).prediction.top[0][0]==o.predicted
