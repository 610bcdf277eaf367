"Small networks and learners to look into, the same each time."
import torch
from fastai.vision.all import Callback, nn, set_seed
from cifar_fastai.data import cifar_block, cifar_dls
from cifar_fastai.learner import cifar_learner

def without_source(source, width=4):
    "A network of ours on loaders that know no source"
    set_seed(0)
    dls = cifar_block(source, 'none').dataloaders(source, bs=50, device='cpu')
    return cifar_learner(dls, model_kw=dict(width=width), precision='fp32')

def fitted(source, epochs=1, lr=0.01, **kwargs):
    "A narrow network after a short training on 100 images"
    set_seed(0)
    dls = cifar_dls(source, 'flip', bs=50, n_train=100, device='cpu')
    learn = cifar_learner(dls, **{**dict(model_kw=dict(width=4), precision='fp32'), **kwargs})
    with learn.no_bar(), learn.no_logging(): learn.fit(epochs, lr)
    return learn

def plain_net(n_in=3, n_out=2):
    "A network that is nobody's: two convolutions and a linear layer, in-place activations"
    return nn.Sequential(
        nn.Sequential(
            nn.Conv2d(n_in, 8, 3, 1, 1), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(inplace=True)
        ),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, n_out)),
    )

def make_learner(dls, **kwargs):
    set_seed(0)
    return cifar_learner(dls, **{**dict(model_kw=dict(width=8), precision='fp32'), **kwargs})

def weights(learn): return {k: v.clone() for k,v in learn.model.state_dict().items()}
def equal(a, b): return a.keys()==b.keys() and all(torch.equal(v, b[k]) for k,v in a.items())

class Raise(Callback):
    "Raise `e` at an event of a batch"
    def __init__(self, e, event='before_backward', at=0): self.e,self.event,self.at = e,event,at
    def go(self, event):
        if event==self.event and self.iter==self.at: raise self.e
    def before_batch(self): self.go('before_batch')
    def after_pred(self): self.go('after_pred')
    def before_backward(self): self.go('before_backward')

class CutOff(Callback):
    "Interrupt a fit at the first batch of an epoch"
    def __init__(self, epoch): self.at = epoch
    def before_batch(self):
        if self.epoch==self.at: raise KeyboardInterrupt
