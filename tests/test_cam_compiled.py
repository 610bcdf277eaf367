"A compiled learner is interpreted by the same weights, uncompiled"
import shutil
import pytest, torch
from fastai.vision.all import load_learner
from matplotlib import pyplot as plt
from cifar_fastai.cam import cam_maps
from cifar_fastai.data import cifar_dls
from cifar_fastai.interpret import CifarInterpretation
from cifar_fastai.learner import cifar_learner
from cifar_fastai.models import layer_sizes, resnet18, summary
import cifar_fastai.all

compiled = []

def counting(gm, inputs):
    "A compiler that changes nothing and counts what it is given"
    compiled.append(gm)
    return gm.forward

def fitted(source, arch='resnet18', **kwargs):
    learn = cifar_learner(cifar_dls(source, 'none', bs=50, n_train=100, device='cpu'), arch, precision='fp32', **kwargs)
    if not kwargs.get('compile') and not hasattr(learn.model, '_orig_mod'): learn.model.compile(backend=counting)
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 0.01)
    return learn

def views(learn, tmp_path):
    "Everything that looks into a network; the maps that came of it, to compare"
    interp = CifarInterpretation.from_learner(learn)
    maps = interp.cam([0,1])
    interp.plot_cam([0,1]); interp.plot_stages(0); plt.close('all')
    assert interp.features is not None and len(interp.label_errors(agree=0)) and len(layer_sizes(learn.model))>50
    for method in ('ScoreCAM','AblationCAM'): interp.cam([0], method=method, layer='stage3')
    interp.decoded = interp.targs # all count as correct, whatever it learned
    for f in (interp.pointing_game, interp.randomisation, interp.road): f(('GradCAM',), ('layer2',), n=2)
    summary(learn.model)
    learn.export(tmp_path/'learn.pkl')
    with pytest.warns(UserWarning, match='pickle'): loaded = load_learner(tmp_path/'learn.pkl')
    again = CifarInterpretation.from_learner(loaded, dl=loaded.dls.test_dl(interp.dl.items, with_labels=True)).cam([0,1])
    assert (again-maps).abs().max()<=1e-5*maps.max()
    return interp,maps

def plain_maps(learn, interp):
    "The maps of the same weights in a network that was never compiled"
    model = resnet18(width=4)
    model.load_state_dict(getattr(learn.model, '_orig_mod', learn.model).state_dict())
    return cam_maps(model, interp[[0,1]][0], interp.logits.argmax(1)[[0,1]])

def same_tta(learn, interp):
    "Test-time augmentation that augments nothing: the same probabilities"
    with learn.no_bar(): probs,_ = learn.tta(dl=interp.dl, n=1)
    assert (probs-interp.probs).abs().max()<=1e-5

def test_the_maps_of_a_compiled_network():
    "Its layers are found, and nothing more is compiled"
    torch._dynamo.reset()
    model,plain,xb = resnet18(width=4).eval(),resnet18(width=4),torch.randn(2, 3, 32, 32)
    plain.load_state_dict(model.state_dict())
    model.compile(backend=counting)
    model(xb)
    n = len(compiled)
    assert n and layer_sizes(model)==layer_sizes(plain)
    got,ref = (cam_maps(o, xb, [1,2]) for o in (model, plain))
    assert len(compiled)==n and ref.max()>0 and (got-ref).abs().max()<=1e-5*ref.max()
    torch._dynamo.reset()

@pytest.mark.slow
@pytest.mark.parametrize('wrapped', (False,True), ids=('model.compile','torch.compile'))
def test_no_view_compiles_anything(wrapped, source, tmp_path):
    "Whether the network itself was compiled or wrapped: `pytest -m slow tests/test_cam_compiled.py`"
    torch._dynamo.reset()
    learn = fitted(source, torch.compile(resnet18(width=4), backend=counting)) if wrapped else fitted(source, model_kw=dict(width=4))
    n = len(compiled)
    assert n # the fit was compiled
    interp,maps = views(learn, tmp_path)
    ref = plain_maps(learn, interp)
    assert len(compiled)==n and ref.max()>0
    got = cam_maps(learn.model, interp[[0,1]][0], interp.logits.argmax(1)[[0,1]])
    assert (got-ref).abs().max()<=1e-5*ref.max()
    same_tta(learn, interp)
    torch._dynamo.reset()

@pytest.mark.slow
@pytest.mark.skipif(not shutil.which('g++'), reason='needs a C++ compiler')
def test_a_compiled_learner(source, tmp_path):
    "With PyTorch's own compiler, and a second fit after it: `pytest -m slow tests/test_cam_compiled.py`"
    learn = fitted(source, model_kw=dict(width=4), compile=True)
    interp,maps = views(learn, tmp_path)
    ref = plain_maps(learn, interp)
    got = cam_maps(learn.model, interp[[0,1]][0], interp.logits.argmax(1)[[0,1]])
    assert ref.max()>0 and (got-ref).abs().max()<=1e-5*ref.max()
    same_tta(learn, interp)
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 0.01)
