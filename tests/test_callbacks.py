"Callbacks: averages are what a loop by hand gives, penalties stay out of the log, views and sizes are what they say."
from contextlib import nullcontext
import pytest, torch
from fastai.vision.all import Callback, CrossEntropyLossFlat, EarlyStoppingCallback, Learner, SaveModelCallback
from cifar_fastai import callbacks
from cifar_fastai.callbacks import (
    EMA, Penalty, TTA, ValidEvery, deterministic_algorithms, explain_errors, ttas)
from cifar_fastai.core import RunError
from cifar_fastai.data import cifar_dls
from cifar_fastai.models import resnet18
from cifar_fastai.checkpoints import Checkpoint, resume_from
from cifar_fastai.sources import load_source
from learners import CutOff, Raise, equal, make_learner, weights

@pytest.fixture(scope='module')
def source(data_dir): return load_source(data_dir, size=16)

@pytest.fixture(scope='module')
def dls(source): return cifar_dls(source, 'none', bs=50, device='cpu')

# ---- averaged weights

class ByHand(Callback):
    "The average of the head's weights in a loop"
    order = 99
    def before_fit(self): self.w,self.n = None,0
    def after_step(self):
        v = self.learn.model.head.weight.detach().clone()
        self.w = v if self.w is None else self.w.lerp(v, 1-min(0.9, (1+self.n)/(10+self.n)))
        self.n += 1

def test_ema_is_what_a_loop_by_hand_gives_and_stays(dls):
    hand = ByHand()
    learn = make_learner(dls, cbs=[EMA(0.9), hand])
    with learn.no_logging(): learn.fit(2, 0.01)
    torch.testing.assert_close(learn.model.head.weight.detach(), hand.w)
    assert learn.recorder.values[-1][1]==pytest.approx(learn.validate()[0], rel=1e-5) and not learn.model.training

@pytest.mark.parametrize('how', ['fit','valid_every'])
def test_save_model_callback_with_ema_saves_the_weights_it_announces(how, dls, tmp_path):
    learn = make_learner(dls, path=tmp_path)
    more = [ValidEvery(2)] if how=='valid_every' else []
    save = SaveModelCallback('train_loss' if more else 'valid_loss')
    with learn.no_logging(): learn.fit(2 if more else 3, 0.3, cbs=[EMA(0.5), save, *more])
    best = [r['valid_loss'] for r in learn.history.rows if 'valid_loss' in r]
    assert learn.validate()[0]==pytest.approx(best[-1] if more else min(best), rel=1e-4), best

def test_ema_in_a_checkpoint_resumes_the_network_and_not_its_average(source, tmp_path):
    whole,cut,rest = (make_learner(cifar_dls(source, 'none', bs=50, device='cpu'), cbs=EMA(0.9)) for _ in range(3))
    with whole.no_logging(): whole.fit(3, 0.01)
    with cut.no_logging(), pytest.raises(KeyboardInterrupt):
        cut.fit(3, 0.01, cbs=[Checkpoint(tmp_path / 'c.pt'), CutOff(2)])
    with rest.no_logging(), resume_from(rest, tmp_path/'c.pt'): rest.fit(3, 0.01)
    assert equal(weights(rest), weights(whole))

def test_ema_after_a_failed_validation_leaves_the_trained_network(dls):
    learn = make_learner(dls, cbs=EMA(0.9))
    model = learn.model
    class Stop(Callback):
        def before_validate(self): raise KeyboardInterrupt
    with learn.no_logging(), pytest.raises(KeyboardInterrupt): learn.fit(1, 0.01, cbs=Stop())
    assert learn.model is model

def test_ema_averages_a_network_without_counts(dls):
    "Group norm has no statistics"
    learn = make_learner(dls, model_kw=dict(width=8, norm='layer'), cbs=EMA(0.9))
    with learn.no_logging(): learn.fit(1, 0.01)
    assert learn.ema.n==4

@pytest.mark.parametrize('cb,fits', [
    (SaveModelCallback('valid_loss'), False), (EarlyStoppingCallback('accuracy'), False),
    (SaveModelCallback('train_loss'), True), (SaveModelCallback(every_epoch=True), True)], ids=str)
def test_what_watches_validations_needs_one_in_every_epoch(cb, fits, dls, tmp_path):
    "fastai's trackers end in an IndexError else"
    learn = make_learner(dls, path=tmp_path)
    says = nullcontext() if fits else pytest.raises(RunError, match='validation is left out .* every 2')
    with learn.no_logging(), says: learn.fit(3, 0.01, cbs=[ValidEvery(2), cb])

# ---- what is differentiated, and what is shown

def test_penalty_is_in_the_gradient_and_not_in_the_loss(dls):
    class Grab(Callback):
        order = 99
        def after_loss(self):
            if self.training: self.diff = (self.loss_grad-self.loss).detach()
    grab,model = Grab(),resnet18(width=8)
    still = Learner(dls, model, loss_func=CrossEntropyLossFlat(), cbs=[Penalty(l1=1e-3, l2=1e-2), grab], lr=1e-9)
    with still.no_bar(), still.no_logging(): still.fit(1)
    ws = [p.detach() for p in model.parameters() if p.ndim>1]
    assert float(grab.diff)==pytest.approx(float(sum(1e-3*w.abs().sum()+5e-3*w.pow(2).sum() for w in ws)), rel=1e-2)

# ---- test-time augmentation

def test_views_are_six_and_shifts_move_by_a_pixel():
    x,views = torch.rand(3,3,32,32),ttas['flip_translate']
    images = [x, *(f(x) for _,f in views)]
    assert len({v.numpy().tobytes() for v in images})==6 and [w for w,_ in views]==[1/4]+[1/8]*4
    up_left,down_right = callbacks._shifted(x, -1),callbacks._shifted(x, 1)
    assert torch.equal(down_right[...,1:,1:], x[...,:-1,:-1]) and torch.equal(up_left[...,:-1,:-1], x[...,1:,1:])

def test_tta_averages_the_logits_of_its_views(dls):
    learn = make_learner(dls)
    model,(xb,_) = learn.model.eval(),dls.valid.one_batch()
    with torch.no_grad(): want = ((model(xb)+model(xb.flip(-1)))/2).softmax(1)
    torch.testing.assert_close(
        learn.get_preds(cbs=TTA('flip'))[0], want.as_subclass(torch.Tensor), atol=1e-4, rtol=1e-4
    )


# ---- trouble

@pytest.mark.parametrize(
    'e,says',
    [
        (torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB'), 'batches of 50 images: try bs=25'),
        (
            RuntimeError('DataLoader worker (pid 71) is killed by signal: Killed. '),
            'a loader process died',
        ),
    ],
)
def test_explain_errors_says_what_a_failed_fit_means(e, says, dls):
    learn = make_learner(dls)
    with pytest.raises(RunError, match=says), learn.no_logging(), explain_errors(50, 'cpu'):
        learn.fit(1, 0.01, cbs=Raise(e))


def test_explain_errors_leaves_other_errors_alone(dls):
    learn = make_learner(dls)
    with pytest.raises(RuntimeError, match='something else') as e, learn.no_logging(), explain_errors(50, 'cpu'):
        learn.fit(1, 0.01, cbs=Raise(RuntimeError('something else')))
    assert not isinstance(e.value, RunError)

@pytest.mark.parametrize('on', [True, False])
def test_deterministic_algorithms_are_put_back(on):
    was = torch.get_deterministic_debug_mode(),torch.backends.cudnn.benchmark
    with deterministic_algorithms(on): assert torch.are_deterministic_algorithms_enabled() is on
    assert (torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark)==was
