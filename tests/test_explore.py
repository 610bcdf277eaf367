"The explorer: its controls show what the library gives; the network comes back as it was."
import io, random, re, sys
from unittest.mock import patch as mock
import numpy as np, pytest, torch
from PIL import Image
from torch import nn
from cifar_fastai.cam import cam_methods, default_layer, default_method, is_empty, overlay
from cifar_fastai.data import cifar_dls
from cifar_fastai.core import InputError
from cifar_fastai.explore import Explorer
from cifar_fastai.interpret import CifarInterpretation
from cifar_fastai.learner import cifar_learner
from cifar_fastai.sources import Source

widgets = pytest.importorskip('ipywidgets')
from traitlets import TraitError

@pytest.fixture(scope='module')
def interp(run_dir, source): return CifarInterpretation.from_run(run_dir, source, device='cpu')

def with_answers(interp, right):
    "The same items, all answered right, or all wrong"
    return CifarInterpretation(interp.learn, interp.dl, interp.losses, None,
                               (9 if right else -9)*torch.eye(10)[interp.targs], interp.targs)

image = lambda w: np.asarray(Image.open(io.BytesIO(w.value)))
values = lambda w: [v for _,v in w.options]

def check(e):
    "The pictures are the library's, enlarged"
    o,it = e.scored,e.interp
    img = it.pictures([o.idx])[0].astype(np.uint8).repeat(8, 0).repeat(8, 1)
    signed = bool(e.versus.value)
    cam = it.cam([o.idx], e.target.value, e.versus.value or None, method=e.method.value, layer=e.layer.value)[0]
    assert np.array_equal(image(e.left), img)
    shown = image(e.right)
    assert shown.shape==(256,256,3)
    if not is_empty(cam, signed): assert np.array_equal(shown, overlay(img, cam, None, signed, e.alpha.value))
    assert e.note.value=='' and str(o.idx) in e.under_left.value and e.method.value in e.under_right.value
    assert set(re.findall(r'([\d.]+) %', e.table.value))<={f'{100*p:.1f}' for p in it.probs[o.idx].tolist()}

def test_every_control_shows_the_maps_of_the_library(interp):
    e = interp.explore()
    wrong = interp.misclassified(int((interp.decoded!=interp.targs).sum()))
    assert e.idxs==wrong.idxs
    assert (e.group.value,e.method.value,e.layer.value)==('misclassified',default_method,default_layer)
    check(e)
    seen = {e.right.value}
    for control,v in ((e.method,'LayerCAM'), (e.method,'GradCAM'), (e.layer,'stage2'), (e.layer,'stage3'),
                      (e.target,'actual'), (e.versus,'predicted'), (e.target,'star'), (e.alpha,1.), (e.item,3),
                      (e.versus,''), (e.group,'all'), (e.order,'listed'), (e.method,'EigenCAM'), (e.method,'XGradCAM')):
        control.value = v
        check(e); seen.add(e.right.value)
    assert len(seen)>=12 and e.idxs==list(range(len(interp.targs)))

def test_the_random_method_comes_last_and_says_so(interp):
    options = interp.explore().method.options
    assert {v for _,v in options}==set(cam_methods) and options[0]==(default_method,default_method)
    assert options[-1]==('RandomCAM (weights drawn at random)','RandomCAM')

def test_opacity_computes_nothing(interp):
    e = interp.explore()
    never = AssertionError('something was computed')
    with mock.object(CifarInterpretation, 'cam', side_effect=never), mock.object(CifarInterpretation, 'pictures',
                                                                                 side_effect=never):
        was = e.right.value
        e.alpha.value = 0.2
    assert e.right.value!=was
    check(e)

def test_items_in_groups_classes_and_orders(interp):
    e = interp.explore()
    right = interp.decoded==interp.targs
    e.item.value = 3
    e.group.value = 'correct'
    assert all(right[e.idxs]) and len(e.idxs)==int(right.sum()) and e.item.value==1
    e.order.value = 'confidence'
    assert e.idxs==interp.correct(len(e.idxs)).idxs and e.item.max==len(e.idxs) and e.item.value==1
    e.group.value,e.order.value = 'all','listed'
    e.item.value = 30
    assert [n for n,_ in e.group.options]==[f'misclassified ({int((~right).sum())})', f'correct ({int(right.sum())})',
                                            'all (50)']
    e.actual.value = 'star'
    assert e.idxs==[i for i in range(50) if interp.vocab[interp.targs[i]]=='star'] and e.item.value==1 and e.item.max==5
    check(e)
    e.item.value = 5
    assert e.scored.idx==e.idxs[-1]

def test_what_cannot_be_shown_is_said(interp):
    "And no map of another choice is left standing"
    e = interp.explore(interp.misclassified(1))
    def refused(says): assert says in e.note.value and image(e.right).shape==(1,1,3) and e.under_right.value==''
    e.versus.value = 'predicted'
    refused(f'no map:</b> target and versus are both {e.scored.predicted}')
    e.versus.value = 'actual'
    check(e)
    e.method.value = 'EigenCAM'
    refused('no map:</b> EigenCAM has no map of one class')
    e.versus.value = ''
    check(e)
    e.actual.value = next(c for c in interp.vocab if c!=e.scored.actual)
    refused(f'no map:</b> of class {e.actual.value} there are no items that are misclassified')
    for control,v in ((e.layer,'head'), (e.method,'Gradcam'), (e.target,'dog'), (e.group,'none'), (e.actual,'dog')):
        with pytest.raises(TraitError): control.value = v
    e.item.value,e.alpha.value = 10**6,7 # the bounds of a slider
    assert e.item.value==e.item.max and e.alpha.value==1
    assert [n for n,_ in e.layer.options]==['stem (32x32)','stage1 (32x32)','stage2 (16x16)','stage3 (8x8)']

def test_no_mistakes_nothing_right_one_item(interp):
    for right,groups in ((True, ['correct','all']), (False, ['misclassified','all'])):
        e = with_answers(interp, right).explore()
        assert values(e.group)==groups; check(e)
    last = interp.explore([7, 7])
    assert last.idxs==[7] and last.order.value=='listed'; check(last)
    some = interp.explore(interp.misclassified(4, 'random', 3))
    assert some.idxs==interp.misclassified(4, 'random', 3).idxs
    assert [n for n,_ in some.group.options]==['misclassified (4)','all (4)']

def test_the_network_comes_back_as_it_was(interp):
    m = interp.learn.model.train(); m.stage1.eval(); m.stage2.requires_grad_(False)
    def state():
        modules = [(k, o.training, len(o._forward_hooks), len(o._backward_hooks)) for k,o in m.named_modules()]
        weights = (
            {k: v.sum().item() for k, v in m.state_dict().items()},
            [(p.requires_grad, p.grad) for p in m.parameters()],
        )
        return modules,weights,np.random.get_state()[1].tolist(),torch.get_rng_state().tolist(),random.getstate()
    before = state()
    e = interp.explore()
    for v in ('GradCAM','LayerCAM','RandomCAM'): e.method.value = v
    e.group.value = 'all'
    assert state()==before
    m.requires_grad_(True).eval()

def test_names_of_classes_are_text():
    names = ['<b>|x', '<script>alert(1)</script>', '$\\frac{$ & "q"']
    x = np.random.default_rng(0).integers(0, 256, (60,32,32,3)).astype(np.uint8)
    src = Source(x, np.arange(60)%3, names, np.arange(60)>=30)
    e = CifarInterpretation.from_learner(cifar_learner(cifar_dls(src, 'none', bs=15, device='cpu'),
                                                       model_kw=dict(width=8))).explore()
    for c in names:
        e.target.value = c; check(e)
        html = ''.join(o.value for o in (e.under_left,e.under_right,e.table))
        assert not re.search('<script|<b>\\|', html) and '&lt;script&gt;' in html
    assert e.explanation._repr_png_() # no formula is made of a dollar

def test_a_network_of_ones_own(source):
    net = lambda *strides: nn.Sequential(*(nn.Conv2d(3 if i==0 else 8, 8, 3, s, 1) for i,s in enumerate(strides)),
                                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    dls = cifar_dls(source, 'none', bs=50, device='cpu')
    look = lambda m: CifarInterpretation.from_learner(cifar_learner(dls, m)).explore()
    e = look(net(1,2,8)) # no layer of the usual name: the last that is large enough
    assert e.layer.value=='1' and [n for n,_ in e.layer.options]==['0 (32x32)','1 (16x16)']
    check(e)
    # large ones only within
    e = look(nn.Sequential(nn.Sequential(net(2)[:-3], nn.AdaptiveAvgPool2d(4)), nn.Flatten(), nn.Linear(128, 10)))
    assert '0.0 (16x16)' in [n for n,_ in e.layer.options]; check(e)
    with pytest.raises(InputError, match='no layer of this Sequential has a map of 5x5 or more'): look(net(8,2))

def test_an_error_is_shown(interp):
    e = interp.explore()
    with mock.object(CifarInterpretation, 'cam', side_effect=RuntimeError('<out> of memory')), pytest.raises(RuntimeError):
        e.method.value = 'XGradCAM'
    assert 'no map:</b> &lt;out&gt; of memory' in e.note.value and image(e.right).shape==(1,1,3)

def test_where_no_kernel_is_it_is_a_picture(interp):
    import IPython
    from base64 import b64decode
    e = interp.explore()
    d = e._repr_mimebundle_()
    assert set(d)=={'text/plain','image/png'} and d['text/plain']==repr(e) and f'at 1: {e.idxs[0]}, ' in repr(e)
    with Image.open(io.BytesIO(b64decode(d['image/png']))) as img: assert img.format=='PNG' and img.width>500
    with mock.object(IPython, 'get_ipython', lambda: type('Shell', (), dict(kernel=object()))()):
        view = dict(version_major=2, version_minor=0, model_id=e.box.model_id) # as ipywidgets' own
        assert e._repr_mimebundle_()=={'text/plain': repr(e), 'application/vnd.jupyter.widget-view+json': view}

def test_without_ipywidgets(interp, monkeypatch):
    monkeypatch.setitem(sys.modules, 'ipywidgets', None)
    with pytest.raises(InputError, match=re.escape("pip install 'cifar_fastai[widgets]'")): interp.explore()

wrong = [
    (dict(items=[]), 'items are []'),
    (dict(items=[50]), 'item is 50'),
]


@pytest.mark.parametrize('kw,says', wrong, ids=[str(o[0]) for o in wrong])
def test_wrong_options(interp, kw, says):
    with pytest.raises(InputError, match=re.escape(says)): interp.explore(**kw)

def test_what_is_not_an_interpretation(interp):
    with pytest.raises(InputError, match='must be a CifarInterpretation'): Explorer(interp.learn)
