"What a GPU would show, shown without one: on PyTorch's device 'meta' tensors hold no numbers, so a look at one is an error, and so is mixing devices"
import os, subprocess, sys
from contextlib import ExitStack
from functools import partial
from types import SimpleNamespace
import numpy as np, pytest
from fastai.vision.all import Callback, CancelFitException, ShortEpochCallback, TfmdDL, torch
from torch.utils._python_dispatch import TorchDispatchMode
import cifar_fastai.learner
from cifar_fastai.batchwise import BatchPolicy
from cifar_fastai.data import cifar_dls
from cifar_fastai.learner import History, Progress, _fused, cifar_learner, opts
from cifar_fastai.recipes import Recipe, recipe_callbacks, recipe_learner
from cifar_fastai.sources import Source

class NoWait(TorchDispatchMode):
    "Refuse copies between devices that wait"
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        res,kw,name = func(*args, **(kwargs or {})),kwargs or {},func.name()
        if name in ('aten::_to_copy','aten::copy_'):
            a,b = (args[0],res) if name=='aten::_to_copy' else (args[1],args[0])
            assert a.device==b.device or kw.get('non_blocking') or name=='aten::copy_' and len(args)>2 and args[2], f'a copy from {a.device} to {b.device} waits'
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

pieces = dict(plain={}, ema=dict(ema=0.9), cutout=dict(policy='crop4+cutout12'), r3=dict(policy='r3'), r4=dict(policy='r4'), reflect=dict(policy='translate2+flip'), alternate=dict(alternate=True, policy='crop4'),
              sizes=dict(sizes=[16,32]), muon=dict(opt='muon'), adam=dict(opt='adam'), lookahead=dict(lookahead=True), penalty=dict(l1=1e-5, l2=1e-4), clip=dict(grad_clip=1.), smooth=dict(label_smoothing=0.1))

@pytest.mark.parametrize('kw', pieces.values(), ids=pieces)
def test_no_step_waits_for_the_device(kw, source, monkeypatch):
    "Nor does one mix devices; fastai's MixUp and CutMix draw on the CPU and do wait"
    monkeypatch.setattr(torch, 'Generator', MetaGenerator)
    r = Recipe(**{**dict(epochs=1, bs=20, model_kw=dict(width=8), precision='fp32'), **kw})
    assert fit_strictly(monkeypatch, recipe_learner(r, source, 'meta'), *recipe_callbacks(r))==10

def test_waiting_is_found(source, monkeypatch):
    "The test above can fail"
    monkeypatch.setattr(torch, 'Generator', MetaGenerator)
    learn = cifar_learner(cifar_dls(source, bs=20, device='meta', loader='device'), model_kw=dict(width=8))
    class Ask(Callback):
        def __init__(self, f): self.f = f
        def after_loss(self): self.f(self.loss)
    for f,msg in ((lambda o: o.item(), 'cannot be called on meta'), (lambda o: o+torch.ones(2), 'device'), (lambda o: torch.ones(2).to(o.device), 'waits')):
        with pytest.raises((RuntimeError,AssertionError), match=msg): fit_strictly(monkeypatch, learn, Ask(f))

@pytest.mark.parametrize('side,most', ((32,200), (224,80)))
def test_fewer_large_images_are_made_at_once(side, most, source, monkeypatch):
    monkeypatch.setattr(torch, 'Generator', MetaGenerator)
    dl,seen = cifar_dls(source, policy='flip', bs=20, device='meta', loader='device').train,[]
    dl.put_on_device(torch.zeros(len(source), side, side, 3, dtype=torch.uint8, device='meta'))
    dl.randomize()
    batches = list(dl._device_batches(range(200), *dl.on_device, lambda b: (seen.append(len(b[0])), b)[1]))
    assert max(seen)==most and [len(x) for x,_ in batches]==[20]*10

@pytest.mark.parametrize('policy', ('crop_flip_cutout','r3','r4'))
def test_colours_are_brought_to_the_device_once(policy, monkeypatch):
    bp,x,g = BatchPolicy(policy),torch.zeros(2,32,32,3, dtype=torch.uint8),torch.Generator()
    bp(x, g)
    def no(*args, **kwargs): raise AssertionError('a batch brings something along')
    for o in ('tensor','as_tensor','from_numpy'): monkeypatch.setattr(torch, o, no)
    bp(x, g)

def test_a_cpu_loader_asks_for_no_gpu(source, monkeypatch):
    "Where there is one, it would start CUDA and take memory there"
    import fastai.torch_core
    def no(*args, **kwargs): raise AssertionError('the default device was asked for')
    monkeypatch.setattr(fastai.torch_core, 'default_device', no)
    for loader in ('cpu','device'):
        learn = cifar_learner(cifar_dls(source, bs=20, device='cpu', loader=loader), start='whiten', model_kw=dict(width=32))
        with learn.no_bar(), learn.no_logging(): learn.fit(1, cbs=ShortEpochCallback(0.2))

narrow = """
from cifar_fastai.all import *
src = load_source(shapes10(n_train=100, n_test=50))
for loader,cbs in (('device',None), ('cpu',[ProgressiveSize([16,32])])):
    learn = cifar_learner(cifar_dls(src, bs=50, device='cpu', loader=loader), model_kw=dict(width=2), cbs=cbs)
    with learn.no_bar(), learn.no_logging(): learn.fit(2, 0.01)
print('alive')
"""
def test_a_narrow_network_lives_whatever_the_layout_of_its_images():
    "In a process of its own, since it would die"
    res = subprocess.run([sys.executable, '-c', narrow], capture_output=True, text=True, env={**os.environ, 'OMP_NUM_THREADS': '1'})
    assert res.returncode==0 and res.stdout.strip()=='alive', res.stderr[-500:]

def test_whitening_sees_every_class(source, monkeypatch):
    "Folders are in the order of their classes"
    seen = []
    monkeypatch.setattr(cifar_fastai.learner, 'start_from', lambda model,start,xb: seen.append(xb))
    monkeypatch.setattr(cifar_fastai.learner._spread, '__defaults__', (len(source.vocab),))
    order = np.argsort(source.y, kind='stable')
    dls = cifar_dls(Source(source.x[order], source.y[order], source.vocab, source.is_valid[order]), bs=20, device='cpu')
    cifar_learner(dls, start='whiten', model_kw=dict(width=8))
    x,y = dls.train_ds.items,[o.label for o in dls.train_ds.items]
    at = [i for xb in seen[0] for i,o in enumerate(dls.test_dl(x, bs=len(x), num_workers=0).one_batch()[0]) if torch.equal(o.as_subclass(torch.Tensor), xb)]
    assert {y[i] for i in at}==set(source.vocab)

def test_whitening_leaves_the_loaders_where_they_are(source, monkeypatch):
    "`test_dl` on another device would take the statistics along, which all loaders share"
    dls,seen = cifar_dls(source, bs=20, device='cpu:0'),[]
    to = TfmdDL.to
    monkeypatch.setattr(TfmdDL, 'to', lambda self, device: seen.append(device) or to(self, device))
    made = []
    init = TfmdDL.__init__
    monkeypatch.setattr(TfmdDL, '__init__', lambda self, *args, **kwargs: (made.append(kwargs.get('device')), init(self, *args, **kwargs))[1])
    cifar_learner(dls, start='whiten', model_kw=dict(width=32))
    assert made and {*seen, *made}<={torch.device('cpu:0')}, (seen, made)

def test_fused_on_a_gpu():
    gpu,cpu = map(torch.device, ('cuda','cpu'))
    for k in ('sgd','adam','adamw'):
        opt = opts[k][0]
        assert _fused(opt, gpu).keywords['fused'] and _fused(opt, cpu) is opt and 'fused' not in _fused(partial(opt, foreach=True), gpu).keywords
        a,b = (torch.nn.Linear(5, 3) for _ in range(2)); b.load_state_dict(a.state_dict())
        for m,o in ((a, opt(a.parameters(), lr=0.1)), (b, _fused(opt, gpu)(b.parameters(), lr=0.1))):
            for i in range(3): o.zero_grad(); m(torch.arange(10.).view(2,5)).pow(2).mean().backward(); o.step()
        for p,q in zip(a.parameters(), b.parameters()): torch.testing.assert_close(p, q)
    assert 'fused' not in _fused(opts['muon'][0], gpu).keywords

def test_the_bar_asks_for_the_loss_when_it_is_drawn():
    asked = []
    class Loss:
        def item(self): asked.append(1); return 0.5
    cb = Progress(); assert cb.name=='progress' # where fastai looks for its bar
    bar = SimpleNamespace(last_v=0, comment='')
    bar.update = lambda v: setattr(bar, 'last_v', v if v%10==0 else bar.last_v)
    cb.pbar,cb.learn = bar,SimpleNamespace(smooth_loss=Loss(), iter=0)
    for i in range(100): cb.learn.iter = i; cb.after_batch()
    assert len(asked)==10 and bar.comment=='0.5000'
