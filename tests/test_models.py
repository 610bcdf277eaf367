"The networks against the reference tables, their initializations, and the layout that they may be trained in"
import os, subprocess, sys
import numpy as np, pytest, torch, torchvision
from fastai.vision.all import TfmdDL, set_seed
from torch import nn
import cifar_fastai.learner
from cifar_fastai.core import InputError
from cifar_fastai.data import cifar_dls
from cifar_fastai.learner import cifar_learner
from cifar_fastai.models import (
    channels_last_is_safe,
    check_model_kw,
    initialize,
    n_params,
    preserve_state,
    resnet18,
    summary,
)
from cifar_fastai.sources import Source

# ---- the reference tables

def rows(model):
    "Kind, parameters and output shape of every convolution, norm and head, in the order they run"
    res,hooks = [],[]
    def note(m, i, o): res.append((type(m).__name__, sum(p.numel() for p in m.parameters()), tuple(o.shape[1:])))
    for m in model.modules():
        kinds = (nn.Conv2d, nn.BatchNorm2d, nn.GroupNorm, nn.Linear)
        if isinstance(m, kinds): hooks.append(m.register_forward_hook(note))
    model.eval()(torch.zeros(1,3,32,32))
    for h in hooks: h.remove()
    return res

def expected(last, norm):
    res = [('Conv2d',1728,(64,32,32)), (norm,128,(64,32,32))]
    stages = (
        (36864, 36864, 0, 64, 32),
        (73728, 147456, 8192, 128, 16),
        (294912, 589824, 32768, 256, 8),
        (1179648, 2359296, 131072, 512, last),
    )
    for first,conv,shortcut,nf,side in stages:
        shape = (nf,side,side)
        res += [('Conv2d',first,shape), (norm,2*nf,shape), ('Conv2d',conv,shape), (norm,2*nf,shape)]
        if shortcut: res += [('Conv2d',shortcut,shape), (norm,2*nf,shape)]
        res += [('Conv2d',conv,shape), (norm,2*nf,shape)]*2
    return [*res, ('Linear',5130,(10,))]

@pytest.mark.parametrize('kw,last,norm', (({}, 4, 'BatchNorm2d'), (dict(norm='layer', last_stride=1), 8, 'GroupNorm')))
def test_every_layer_is_that_of_the_reference_table(kw, last, norm): assert rows(resnet18(**kw))==expected(last, norm)

tables = (
    (
        {},
        'layers',
        (
            'Forward/backward pass size (MB): 11.25',
            'Params size (MB): 42.63',
            'Estimated total size (MB): 53.89',
            'Input size (MB): 0.01',
            'Conv2d-1 [-1, 64, 32, 32] 1,728',
            'BasicBlock-7 [-1, 64, 32, 32] 0',
            'Linear-49 [-1, 10] 5,130',
            'Total params: 11,173,962',
            'Trainable params: 11,173,962',
            'Non-trainable params: 0',
        ),
    ),
    (
        dict(norm='layer', last_stride=1),
        'layers',
        ('Forward/backward pass size (MB): 13.50', 'Estimated total size (MB): 56.14'),
    ),
    (
        {},
        'kernels',
        (
            'Total mult-adds (G): 35.55',
            'Input size (MB): 0.79',
            'Forward/backward pass size (MB): 629.15',
            'Params size (MB): 44.70',
            'Estimated Total Size (MB): 674.63',
        ),
    ),
    (
        {},
        'full',
        (
            'Total mult-adds (G): 11.11',
            'Input size (MB): 0.25',
            'Forward/backward pass size (MB): 196.61',
            'Params size (MB): 44.70',
            'Estimated Total Size (MB): 241.55',
        ),
    ),
)
@pytest.mark.parametrize('kw,style,lines', tables)
def test_summary_is_that_of_the_reference_table(kw, style, lines):
    text = '\n'.join(' '.join(o.split()) for o in summary(resnet18(**kw), style).splitlines())
    for o in lines: assert o in text, o

# ---- the network

def test_no_layer_writes_over_what_another_gave():
    "What a hook recorded is what the layer gave"
    model,seen = resnet18(width=8),{}
    def note(nm): return lambda m,i,o: seen.update({nm: (o, o.clone())})
    for nm,m in model.named_modules(): m.register_forward_hook(note(nm))
    model.eval()(torch.randn(2,3,32,32))
    assert len(seen)==len(list(model.named_modules())) and all(torch.equal(o, c) for o,c in seen.values())

@pytest.mark.parametrize('kw,says', ((dict(dropout=1), 'dropout is 1'), (dict(n_out=0), 'n_out is 0'),
    (dict(last_stride=3), 'last_stride is 3'), (dict(width='x'), "width is 'x'")))
def test_network_refuses_a_value(kw, says):
    with pytest.raises(InputError, match=says): resnet18(**kw)
    with pytest.raises(InputError, match=says): check_model_kw('resnet18', kw)

def test_unknown_option_is_named_with_those_there_are():
    says = "unknown option of model_kw 'wdth': did you mean 'width'.* n_out, norm, last_stride, dropout, width"
    with pytest.raises(InputError, match=says): check_model_kw('resnet18', dict(wdth=8))

def test_state_is_preserved_where_an_error_ends_the_look():
    model = resnet18(width=8)
    set_seed(0)
    with pytest.raises(ZeroDivisionError), preserve_state(model):
        model.eval()
        torch.rand(3)
        np.random.rand(3)
        1/0
    a = torch.rand(2),np.random.rand(2)
    set_seed(0)
    assert torch.equal(a[0], torch.rand(2)) and np.array_equal(a[1], np.random.rand(2))
    assert all(m.training for m in model.modules())

# ---- initializations

@pytest.fixture(scope='module')
def xb(source): return torch.from_numpy(source.x[:100]).permute(0,3,1,2)/255-0.5

def test_whitening_gives_filters_and_their_negatives_and_no_parameter(xb):
    model = initialize(resnet18(), 'whiten', xb)
    k = model.stem[0].weight
    assert torch.equal(k[:27], -k[27:54]) and n_params(model)==11_173_962

@pytest.mark.parametrize('model,how,says', (
    (resnet18(width=8), 'whitten', "did you mean 'whiten'"), (nn.Linear(2,2), 'whiten', 'Linear'),
    (resnet18(width=8), 'whiten', 'needs images'), (resnet18(width=8), 3, 'init is 3')))
def test_unsuitable_initialization_is_refused(model, how, says):
    with pytest.raises(InputError, match=says): initialize(model, how)

def test_whitening_sees_every_class(source, monkeypatch):
    "Folders are in the order of their classes"
    seen = []
    monkeypatch.setattr(cifar_fastai.learner, 'initialize', lambda model,init,xb: seen.append(xb))
    monkeypatch.setattr(cifar_fastai.learner.spread_items, '__defaults__', (len(source.vocab),))
    order = np.argsort(source.y, kind='stable')
    dls = cifar_dls(Source(source.x[order], source.y[order], source.vocab, source.is_valid[order]), bs=20, device='cpu')
    cifar_learner(dls, init='whiten', model_kw=dict(width=8))
    items = dls.train_ds.items
    x = dls.test_dl(items, bs=len(items), num_workers=0).one_batch()[0].as_subclass(torch.Tensor)
    at = [i for xb in seen[0] for i,o in enumerate(x) if torch.equal(o, xb)]
    assert {items[i].label for i in at}==set(source.vocab)

def test_whitening_leaves_the_loaders_where_they_are(source, monkeypatch):
    "`test_dl` on another device would take the statistics along, which all loaders share"
    dls,seen = cifar_dls(source, bs=20, device='cpu:0'),[]
    to,init = TfmdDL.to,TfmdDL.__init__
    def noted_to(self, device): seen.append(device); return to(self, device)
    def noted_init(self, *args, **kwargs): seen.append(kwargs.get('device')); return init(self, *args, **kwargs)
    monkeypatch.setattr(TfmdDL, 'to', noted_to)
    monkeypatch.setattr(TfmdDL, '__init__', noted_init)
    cifar_learner(dls, init='whiten', model_kw=dict(width=32))
    assert seen and {*seen}<={torch.device('cpu:0')}, seen

# ---- the layout

def lives(code, *args, **env):
    "Does a process with this code live to the end? Where it would not, it takes no other with it"
    res = subprocess.run([sys.executable, '-c', code, *args], capture_output=True, text=True, env={**os.environ, **env})
    assert res.returncode==0 and res.stdout.strip().endswith('alive'), res.stderr[-500:]

fit = """
import sys, torch
from cifar_fastai.all import *
def fit(dls, width, **kw):
    learn = cifar_learner(dls, model_kw=dict(width=width), **kw)
    with learn.no_bar(), learn.no_logging(): learn.fit(2, 0.01)
"""
large = fit+"""
src = load_source(shapes10(n_train=40, n_test=20), size=64, cache=False)
fit(cifar_dls(src, bs=20, device='cpu', loader=sys.argv[2]), int(sys.argv[1]), precision='fp32')
print('alive')
"""
@pytest.mark.slow
@pytest.mark.parametrize('width,loader', ((8,'cpu'), (12,'device')))
def test_a_narrow_network_lives_on_larger_images(width, loader): lives(large, str(width), loader, OMP_NUM_THREADS='1')

threads = fit+"""
torch.set_num_threads(4)
fit(cifar_dls(shapes10(n_train=100, n_test=20), bs=50, device='cpu'), 8, precision='fp32')
print('alive')
"""
@pytest.mark.slow
def test_a_narrow_network_lives_with_more_threads():
    "With three threads or more, 32x32 images are large enough to end the process"
    lives(threads)

narrow = fit+"""
src = load_source(shapes10(n_train=100, n_test=50))
for loader,cbs in (('device',None), ('cpu',[ProgressiveSize([16,32])])):
    fit(cifar_dls(src, bs=50, device='cpu', loader=loader), 2, cbs=cbs)
print('alive')
"""
def test_a_narrow_network_lives_whatever_the_layout_of_its_images(): lives(narrow, OMP_NUM_THREADS='1')

def test_which_networks_may_be_in_channels_last():
    "What `benchmarks/channels_last.py` finds: 1x1 kernels with a stride, from fewer than 16 channels"
    conv = nn.Conv2d
    assert not channels_last_is_safe(conv(8, 16, 1, 2), 'cpu') and not channels_last_is_safe(conv(15, 16, 1, 3), 'cpu')
    for m in (conv(16, 16, 1, 2), conv(8, 16, 1, 1), conv(8, 16, 3, 2)): assert channels_last_is_safe(m, 'cpu')
    assert channels_last_is_safe(conv(8, 16, 1, 2), 'cuda')
    for width,safe in ((2,False), (8,False), (15,False), (16,True), (64,True)):
        assert channels_last_is_safe(resnet18(width=width), 'cpu')==safe
    assert channels_last_is_safe(torchvision.models.resnet18(), 'cpu')
