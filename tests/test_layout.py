"Networks that end the process in channels-last are kept out of it"
import os, subprocess, sys
import pytest, torchvision
from torch import nn
from cifar_fastai.models import channels_last_is_safe, resnet18

train = """
import sys
from cifar_fastai.all import *
src = load_source(shapes10(n_train=40, n_test=20), size=64, cache=False)
learn = cifar_learner(cifar_dls(src, bs=20, device='cpu', loader=sys.argv[2]), model_kw=dict(width=int(sys.argv[1])), precision='fp32')
with learn.no_bar(), learn.no_logging(): learn.fit(2, 0.01)
print('alive')
"""
@pytest.mark.slow
@pytest.mark.parametrize('width,loader', ((8,'cpu'), (12,'device')))
def test_a_narrow_network_lives_on_larger_images(width, loader):
    "In a process of its own, since it would die: `pytest -m slow tests/test_layout.py`"
    cmd,env = [sys.executable, '-c', train, str(width), loader],{**os.environ, 'OMP_NUM_THREADS': '1'}
    res = subprocess.run(cmd, capture_output=True, text=True, env=env)
    assert res.returncode==0 and res.stdout.strip().endswith('alive'), res.stderr[-500:]

def test_which_networks_may_be_in_channels_last():
    "What `benchmarks/channels_last.py` finds: 1x1 kernels with a stride, from fewer than 16 channels"
    def conv(*args): return nn.Conv2d(*args)
    assert not channels_last_is_safe(conv(8, 16, 1, 2), 'cpu') and not channels_last_is_safe(conv(15, 16, 1, 3), 'cpu')
    for m in (conv(16, 16, 1, 2), conv(8, 16, 1, 1), conv(8, 16, 3, 2)): assert channels_last_is_safe(m, 'cpu')
    assert channels_last_is_safe(conv(8, 16, 1, 2), 'cuda')
    for width,safe in ((2,False), (8,False), (15,False), (16,True), (64,True)):
        assert channels_last_is_safe(resnet18(width=width), 'cpu')==safe
    assert channels_last_is_safe(torchvision.models.resnet18(), 'cpu')

threads = """
import sys, torch
from cifar_fastai.all import *
torch.set_num_threads(4)
learn = cifar_learner(cifar_dls(shapes10(n_train=100, n_test=20), bs=50, device='cpu'), model_kw=dict(width=8), precision='fp32')
with learn.no_bar(), learn.no_logging(): learn.fit(2, 0.01)
print('alive')
"""
@pytest.mark.slow
def test_a_narrow_network_lives_with_more_threads():
    "With three threads or more, 32x32 images are large enough to end the process: `pytest -m slow tests/test_layout.py`"
    res = subprocess.run([sys.executable, '-c', threads], capture_output=True, text=True)
    assert res.returncode==0 and res.stdout.strip().endswith('alive'), res.stderr[-500:]
