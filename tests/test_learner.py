"""A learner behaves as fastai's users know it: precisions, failures within a fit, checkpoints, other devices.
What a GPU would show is shown without one: on PyTorch's device 'meta' tensors hold no numbers, so a look at one is
an error, and so is mixing devices."""

from contextlib import ExitStack
import numpy as np, pytest, torch
from fastai.vision.all import (
    Callback,
    CancelBatchException,
    CancelFitException,
    CrossEntropyLossFlat,
    GradientAccumulation,
    GradientClip,
    L,
    MixedPrecision,
    TensorCategory,
    params,
)
from torch.utils._python_dispatch import TorchDispatchMode
import cifar_fastai.all as everything
from cifar_fastai.callbacks import EMA, Penalty, ProgressiveSize
from cifar_fastai.core import InputError, RunError
from cifar_fastai.data import cifar_dls
from cifar_fastai.history import History, describe
from cifar_fastai.learner import cifar_learner
from cifar_fastai.models import ResNet
from cifar_fastai.recipes import Recipe
from cifar_fastai.checkpoints import Checkpoint, resume_from
from cifar_fastai.sources import load_source
from cifar_fastai.train import recipe_learner
from learners import CutOff, Raise, equal, make_learner, weights

@pytest.fixture(scope='module')
def small(data_dir): return load_source(data_dir, size=16)

@pytest.fixture(scope='module')
def dls(small): return cifar_dls(small, 'none', bs=50, device='cpu')

# ---- what it is made of

@pytest.mark.parametrize('width,options', [(8, dict(layout_optimization=False)), (16, None)])
def test_a_narrow_network_is_not_compiled_into_channels_last(width, options, dls, monkeypatch):
    "On a CPU that ends the process; `pytest -m slow tests/test_cam.py -k a_compiled_learner` trains one"
    asked = []
    monkeypatch.setattr(torch.nn.Module, 'compile', lambda self, **kwargs: asked.append(kwargs))
    make_learner(dls, model_kw=dict(width=width), compile=True)
    assert asked==[dict(options=options)]

def test_loss_is_cross_entropy_as_a_plain_tensor(dls):
    loss_func = make_learner(dls).loss_func
    x,y = torch.randn(6,10),TensorCategory(torch.arange(6))
    loss = loss_func(x, y)
    assert (
        isinstance(loss_func, CrossEntropyLossFlat)
        and type(loss) is torch.Tensor
        and loss == CrossEntropyLossFlat()(x, y)
    )


def test_init_whiten_makes_pairs_of_filters(dls):
    k = make_learner(dls, init='whiten', model_kw=dict(width=64)).model.stem[0].weight
    assert torch.equal(k[:27], -k[27:54])

def test_items_without_labels_have_predictions_and_no_loss(dls):
    learn,bare = make_learner(dls),dls.test_dl(dls.valid_ds.items)
    with pytest.raises(RunError, match='have no labels'): learn.validate(dl=bare)
    assert len(learn.get_preds(dl=bare)[0])==50

def test_network_for_other_classes_is_refused(dls):
    with pytest.raises(RunError, match='5 outputs, and the data 10 classes'):
        make_learner(dls, model_kw=dict(width=8, n_out=5))


def test_summary_names_the_history(dls):
    "fastai lists callbacks by what they print, and `History` prints its rows"
    learn = make_learner(dls)
    with learn.no_logging(): learn.fit(2)
    with learn.no_bar(): lines = learn.summary().splitlines()
    assert '  - History' in lines and not [o for o in lines if 'epoch' in o]

def test_names_of_fastai_stay_after_both_star_imports():
    "`vision_learner(dls, resnet18)` works"
    import fastai.vision.all as theirs
    for n in ('resnet18','resnet34','ResNet'): assert getattr(everything, n) is getattr(theirs, n)
    assert isinstance(everything.archs['resnet18'](width=8), ResNet) and everything.ResNet is not ResNet

# ---- precision

def precisions(learn): return [o for o in learn.cbs if isinstance(o, MixedPrecision)]

def test_one_precision_at_a_time(dls):
    "`to_fp16` takes the place of what 'auto' chose; on a CPU half precision is bf16"
    learn = make_learner(dls, precision='bf16')
    given = lambda: make_learner(dls, precision='bf16', cbs=MixedPrecision())
    for change in (learn.to_fp16, learn.to_bf16, lambda: learn.add_cb(MixedPrecision()), given):
        learn = change() or learn
        assert (
            len(precisions(learn)) == 1
            and learn.mixed_precision is precisions(learn)[0]
            and ' in bf16' in describe(learn)
        )
    seen = set()
    learn.model.head.register_forward_hook(lambda m, i, o: seen.add(o.dtype))
    with learn.no_logging(): learn.fit(1, 0.01)
    assert np.isfinite(learn.history.rows[0]['train_loss']) and seen=={torch.bfloat16}
    assert not precisions(learn.to_fp32()) and ' in fp32' in describe(learn)

oom = torch.OutOfMemoryError('no memory')
@pytest.mark.parametrize(
    'how,cb',
    [
        ('fit', Raise(oom, 'after_pred')),
        ('fit', Raise(KeyboardInterrupt(), 'before_batch', 1)),
        ('fit', Raise(CancelBatchException(), 'after_pred')),
        ('validate', Raise(oom, 'after_pred')),
    ],
    ids=['memory', 'Ctrl-C', 'canceled', 'validate'],
)
def test_autocast_ends_with_its_batch_whatever_happens(how, cb, dls):
    "Else all that the process computes later would be in bf16"
    learn = make_learner(dls, precision='bf16', metrics=[])
    cb.order = 20
    try:
        with learn.no_logging(): learn.fit(1, 0.01, cbs=cb) if how=='fit' else learn.validate(cbs=cb)
    except (RuntimeError, KeyboardInterrupt, TypeError): pass
    assert not torch.is_autocast_enabled('cpu')
    a = torch.randn(4, 4)
    assert (a@a).dtype==torch.float32 and learn.mixed_precision.entered is False

def test_fit_after_a_forward_that_failed(dls):
    learn = make_learner(dls, precision='bf16')
    def fail(*args): raise oom
    h = learn.model.stage2.register_forward_hook(fail)
    with learn.no_logging(), pytest.raises(torch.OutOfMemoryError): learn.fit(1)
    assert not torch.is_autocast_enabled('cpu')
    h.remove()
    with learn.no_logging(): learn.fit(1, 0.01)

# ---- checkpoints

def test_gradients_in_a_checkpoint_are_added_up_further(small, tmp_path):
    "A run that was cut off between two steps of `GradientAccumulation` ends as one that was not"
    cbs = lambda: [GradientAccumulation(150)] # of four batches of 50, one is left over
    whole,cut,rest = (make_learner(cifar_dls(small, 'none', bs=50, device='cpu')) for _ in range(3))
    with whole.no_logging(): whole.fit(3, 0.01, cbs=cbs())
    with cut.no_logging(), pytest.raises(KeyboardInterrupt):
        cut.fit(3, 0.01, cbs=[*cbs(), Checkpoint(tmp_path / 'c.pt'), CutOff(1)])
    with rest.no_logging(), resume_from(rest, tmp_path/'c.pt'): rest.fit(3, 0.01, cbs=cbs())
    assert equal(weights(rest), weights(whole))

def test_checkpoint_with_other_groups_is_refused_in_a_line(dls, tmp_path):
    "Of an earlier version, or with another splitter: no traceback of PyTorch's"
    one = make_learner(dls, splitter=lambda m: L(params(m)))
    with one.no_logging(): one.fit(1, cbs=Checkpoint(tmp_path/'made/for/it/c.pt'))
    learn = make_learner(dls)
    with learn.no_logging(), pytest.raises(InputError, match='whose parameters by group is 21, 41, and here 20, 40, 1, 1'):
        with resume_from(learn, tmp_path/'made/for/it/c.pt'): learn.fit(1)

# ---- steps that do not wait for the device

class NoWait(TorchDispatchMode):
    "Refuse copies between devices that wait"
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        res,kw,name = func(*args, **(kwargs or {})),kwargs or {},func.name()
        if name in ('aten::_to_copy','aten::copy_'):
            a,b = (args[0],res) if name=='aten::_to_copy' else (args[1],args[0])
            free = kw.get('non_blocking') or name=='aten::copy_' and len(args)>2 and args[2]
            assert a.device==b.device or free, f'a copy from {a.device} to {b.device} waits'
        return res

class MetaGenerator(torch.Generator):
    "PyTorch has none for 'meta'"
    device = torch.device('meta')
    def __new__(cls, device=None): return super().__new__(cls)

class Strict(Callback):
    "No waiting from the second batch of training on, to the last"
    order = 100
    def __init__(self, stack): self.stack,self.n = stack,0
    def after_batch(self):
        if not self.training: return
        self.n += 1
        if self.n==1: self.stack.enter_context(NoWait())
        if self.n==self.n_iter: raise CancelFitException

def fit_strictly(monkeypatch, learn, *cbs):
    "The number of batches that were trained on, and none waited for"
    monkeypatch.setattr(History, '_sync', lambda self: None) # what is looked at when an epoch is over
    with learn.no_bar(), learn.no_logging(), ExitStack() as stack:
        strict = Strict(stack)
        learn.fit(1, 0.01, cbs=[*cbs, strict])
    return strict.n

pieces = dict(
    plain=({},),
    ema=({}, EMA(0.9)),
    cutout=(dict(policy='crop4+cutout12'),),
    r3=(dict(policy='r3'),),
    r4=(dict(policy='r4'),),
    reflect=(dict(policy='translate2+flip'),),
    sizes=({}, ProgressiveSize([16, 32])),
    muon=(dict(opt='muon'),),
    adam=(dict(opt='adam'),),
    penalty=({}, Penalty(1e-5, 1e-4)),
    clip=({}, GradientClip(1.0)),
    smooth=(dict(label_smoothing=0.1),),
)

@pytest.mark.parametrize('piece', pieces.values(), ids=pieces)
def test_no_step_waits_for_the_device(piece, source, monkeypatch):
    "Nor does one mix devices; fastai's MixUp and CutMix draw on the CPU and do wait"
    monkeypatch.setattr(torch, 'Generator', MetaGenerator)
    kw,*cbs = piece
    r = Recipe(**{**dict(epochs=1, bs=50, model_kw=dict(width=8), precision='fp32'), **kw})
    assert fit_strictly(monkeypatch, recipe_learner(r, source, 'meta'), *cbs)==4

@pytest.mark.parametrize(
    'look,says',
    [
        (lambda o: o.item(), 'cannot be called on meta'),
        (lambda o: o + torch.ones(2), 'device'),
        (lambda o: torch.ones(2).to(o.device), 'waits'),
    ],
)
def test_waiting_is_found(look, says, source, monkeypatch):
    "The test above can fail"
    monkeypatch.setattr(torch, 'Generator', MetaGenerator)
    learn = cifar_learner(cifar_dls(source, bs=20, device='meta', loader='device'), model_kw=dict(width=8))
    class Ask(Callback):
        def after_loss(self): look(self.loss)
    with pytest.raises((RuntimeError,AssertionError), match=says): fit_strictly(monkeypatch, learn, Ask())
