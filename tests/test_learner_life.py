"A learner behaves as fastai's users know it: groups by depth, callbacks beside ours, other precisions, failures within a fit."
import os
import pytest, torch
from fastai.vision.all import (Callback, CancelBatchException, CSVLogger, FetchPredsCallback, GradientAccumulation, L, MixedPrecision,
    ReduceLROnPlateau, SaveModelCallback, ShortEpochCallback, ShowGraphCallback, params, set_seed)
import cifar_fastai.all as everything
from cifar_fastai import learner as module
from cifar_fastai.data import cifar_dls
from cifar_fastai.errors import InputError
from cifar_fastai.learner import Checkpoint, RunLog, TorchOpt, cifar_learner, depth_groups, describe, find_lr, going_on
from cifar_fastai.models import ResNet, archs
from cifar_fastai.sources import load_source
from cifar_fastai.tricks import EMA, ValidEvery

@pytest.fixture(scope='module')
def source(data_dir): return load_source(data_dir, size=16)

@pytest.fixture(scope='module')
def dls(source): return cifar_dls(source, 'none', bs=50, device='cpu')

def make(dls, **kw):
    set_seed(0)
    return cifar_learner(dls, **{**dict(model_kw=dict(width=8), precision='fp32'), **kw})

def weights(learn): return {k: v.clone() for k,v in learn.model.state_dict().items()}
def quiet(learn): return learn.no_logging()

# ---- parameter groups

def trained(learn, fit):
    "The names of the weights that `fit` changes"
    before = weights(learn)
    with quiet(learn): fit()
    return {k for k,p in learn.model.named_parameters() if not torch.equal(p, before[k])}

@pytest.mark.parametrize('opt', ['sgd','adam','adamw','muon'])
def test_groups_by_depth(opt, dls):
    "`freeze` leaves the head, and norms as everywhere in fastai; a slice gives each depth its rate; norms and biases never decay"
    learn = make(dls, opt=opt, wd=0.1)
    learn.freeze()
    head,norms = {'head.weight','head.bias'},{k for k,p in learn.model.named_parameters() if p.ndim==1}
    assert trained(learn, lambda: learn.fit(1, 0.01))==head|norms
    learn.unfreeze()
    assert trained(learn, lambda: learn.fit(1, slice(1e-3, 1e-2)))=={k for k,_ in learn.model.named_parameters()}
    assert [h['lr'] for h in learn.opt.hypers]==pytest.approx([1e-3, 1e-2]) and [h['wd'] for h in learn.opt.hypers]==[0.1]*2
    names = {p: k for k,p in learn.model.named_parameters()}
    for pg in learn.opt.opt.param_groups:
        for p in pg['params']:
            assert pg['lr']==pytest.approx(1e-2 if names[p] in head else 1e-3), names[p]
            assert pg['weight_decay']==(0.1 if p.ndim>1 else 0), names[p]

def test_groups_of_any_network():
    "The last module that has parameters is the head"
    from torchvision.models import densenet121, vit_b_16
    with torch.device('meta'): nets = dict(classifier=densenet121(), heads=vit_b_16(), head=archs['resnet34']())
    for k,m in nets.items():
        body,head = depth_groups(m)
        assert L(head).map(id)==L(params(getattr(m, k))).map(id) and len(body)+len(head)==len(params(m))
    assert len(depth_groups(torch.nn.Linear(2, 2)))==1

def test_hypers_are_written_through():
    "As with fastai's own optimizers: also for the norms, and for one of a pair"
    ps = [torch.nn.Parameter(torch.zeros(s)) for s in ((2,2), (2,), (2,2), (2,))]
    opt = TorchOpt([ps[:2], ps[2:]], opt=torch.optim.Adam, weight_decay=0.1)
    assert [pg['weight_decay'] for pg in opt.opt.param_groups]==[0.1, 0, 0.1, 0]
    for h,lr in zip(opt.hypers, (1., 2.)): h['lr'],h['mom'],h['wd'] = lr,0.5,0.3
    now = [(pg['lr'],pg['betas'],pg['weight_decay']) for pg in opt.opt.param_groups]
    assert now==[(lr,(0.5,0.999),wd) for lr in (1.,2.) for wd in (0.3,0.)]
    opt.set_hyper('lr', slice(1e-4, 1e-2))
    assert [h['lr'] for h in opt.hypers]==pytest.approx([1e-4, 1e-2]) and [len(o) for o in opt.param_lists]==[2,2]

def test_plateau_of_fastai_lowers_the_rate(dls):
    learn = make(dls)
    with quiet(learn): learn.fit(3, 0.1, cbs=ReduceLROnPlateau('train_loss', min_delta=99., patience=1))
    assert learn.history.lrs[::4]==pytest.approx([0.1, 0.1, 0.01])

def test_linear_cycle_takes_a_slice(dls):
    learn = make(dls)
    with quiet(learn): learn.fit_linear_cycle(1, slice(1e-3, 1e-2), pct_start=0.5)
    assert max(learn.history.lrs)<=1e-2 and learn.opt.hypers[0]['lr']==pytest.approx(learn.opt.hypers[1]['lr']/10)
    with pytest.raises(InputError, match='lr_max is'): learn.fit_linear_cycle(1, slice(-1., 1e-2))
    assert make(dls, lr=slice(1e-4, 1e-3)).lr==slice(1e-4, 1e-3)

# ---- the log

class Says(list):
    def __call__(self, o): self.append(o)

@pytest.mark.parametrize('cb', [lambda: FetchPredsCallback(ds_idx=0), lambda: ShortEpochCallback(0.5), lambda: ValidEvery(2),
    lambda: Skip(), lambda: Peek()], ids=['fetch','short','every','skip','peek'])
def test_history_is_what_the_recorder_says(cb, dls):
    "Whatever else is predicted, skipped or cut short within an epoch"
    learn = make(dls)
    with quiet(learn): learn.fit(2, 0.01, cbs=cb())
    for row,values in zip(learn.history.rows, learn.recorder.values): # these end with loss and accuracy
        assert ('valid_loss' in row)==(len(values)>1)
        if 'valid_loss' in row: assert [row['valid_loss'], row['valid_acc']]==pytest.approx(list(values[-2:]), rel=1e-5)
        assert row.get('valid_n', 50)==50
    assert learn.history.by_class is None or sum(n for _,n in learn.history.by_class)==50

class Skip(Callback):
    "Leaves out a batch before its loss"
    order = 5
    def after_pred(self):
        if self.training and self.iter==1: raise CancelBatchException()

class Peek(Callback):
    "Validates in the middle of a fit, on the same images"
    def after_train(self): self.learn.get_preds(dl=self.dls.valid, inner=True)

def test_every_fit_is_told(dls):
    "Also after `tta`, with `CSVLogger`, after a fit that failed, and by fastai's own bar"
    learn = make(dls)
    learn.history.say = said = Says()
    def rows():
        n = sum(o.startswith('epoch ') for o in said); said.clear()
        return n
    learn.fit(1); learn.fit(1); assert rows()==2
    learn.fine_tune(1); assert rows()==2
    learn.tta(n=1); learn.fit(1); assert rows()==1
    learn.fit(1, cbs=CSVLogger()); learn.fit(1); assert rows()==2
    with pytest.raises(KeyboardInterrupt): learn.fit(1, cbs=Fail(KeyboardInterrupt()))
    assert learn.logger is print
    with quiet(learn): learn.fit(1)
    assert rows()==0
    with learn.no_bar(): learn.validate()
    learn.fit(1); assert rows()==1 and learn.logger is print
    os.unlink(learn.path/'history.csv')

class Fail(Callback):
    def __init__(self, e, event='before_backward', at=0): self.e,self.event,self.at = e,event,at
    def go(self, event):
        if event==self.event and self.iter==self.at: raise self.e
    def before_batch(self): self.go('before_batch')
    def after_pred(self): self.go('after_pred')
    def before_backward(self): self.go('before_backward')

def test_a_line_a_minute(dls):
    "Where there is no bar; the clock is made here"
    learn = make(dls)
    learn.history.say,learn.history.clock = Says(),lambda: clock[0]
    clock = [0.]
    class Tick(Callback):
        def before_batch(self): clock[0] += 25 if self.training else 40
    learn.fit(2, 0.01, cbs=Tick()) # 4 steps of 25 s and one of 40 s an epoch
    lines = [o for o in learn.history.say if ', step ' in o]
    assert lines==['epoch 1/2, step 3 of 4: 2 images/s, 2 min left', 'epoch 1/2, step 1 of 1 of the validation: 2 min left',
                   'epoch 2/2, step 3 of 4: 2 images/s, 1 min left', 'epoch 2/2, step 1 of 1 of the validation: 0 s left'], lines
    assert module._duration(7380)=='2 h 3 min' and module._duration(12)=='12 s'
    learn.history.say.clear()
    with quiet(learn): learn.fit(1, 0.01, cbs=Tick())
    learn.validate(cbs=Tick())
    assert learn.history.say==[]

# ---- precision

def amps(learn): return [o for o in learn.cbs if isinstance(o, MixedPrecision)]

def test_one_precision_at_a_time(dls):
    "`to_fp16` takes the place of what 'auto' chose; on a CPU half precision is bf16"
    learn = make(dls, precision='bf16')
    given = lambda: make(dls, precision='bf16', cbs=MixedPrecision())
    for change in (learn.to_fp16, learn.to_bf16, lambda: learn.add_cb(MixedPrecision()), given):
        learn = change() or learn
        assert len(amps(learn))==1 and learn.mixed_precision is amps(learn)[0] and ' in bf16' in describe(learn)
    with quiet(learn): learn.fit(1, 0.01)
    assert not amps(learn.to_fp32()) and ' in fp32' in describe(learn)

oom = torch.OutOfMemoryError('no memory')
@pytest.mark.parametrize('how,cb', [('fit',Fail(oom, 'after_pred')), ('fit',Fail(KeyboardInterrupt(), 'before_batch', 1)),
    ('fit',Fail(CancelBatchException(), 'after_pred')), ('validate',Fail(oom, 'after_pred'))], ids=['memory','Ctrl-C','canceled','validate'])
def test_autocast_ends_with_its_batch(how, cb, dls):
    "Whatever happens in it: else all that the process computes later would be in bf16"
    learn = make(dls, precision='bf16', metrics=[])
    cb.order = 20
    try:
        with quiet(learn): learn.fit(1, 0.01, cbs=cb) if how=='fit' else learn.validate(cbs=cb)
    except (RuntimeError, KeyboardInterrupt, TypeError): pass
    assert not torch.is_autocast_enabled('cpu')
    a = torch.randn(4, 4)
    assert (a@a).dtype==torch.float32 and learn.mixed_precision.entered is False

def test_a_forward_that_fails(dls):
    learn = make(dls, precision='bf16')
    def fail(*args): raise torch.OutOfMemoryError('no memory')
    h = learn.model.stage2.register_forward_hook(fail)
    with quiet(learn), pytest.raises(torch.OutOfMemoryError): learn.fit(1)
    assert not torch.is_autocast_enabled('cpu')
    h.remove()
    with quiet(learn): learn.fit(1, 0.01)

# ---- callbacks of fastai

@pytest.mark.parametrize('how', ['fit','valid_every'])
def test_best_average_is_what_was_measured(how, dls, tmp_path, capsys):
    "`SaveModelCallback` with `EMA` saves the weights whose loss it announces"
    learn = make(dls, path=tmp_path)
    more = [ValidEvery(2)] if how=='valid_every' else []
    save = SaveModelCallback('train_loss' if more else 'valid_loss')
    with quiet(learn): learn.fit(2 if more else 3, 0.3, cbs=[EMA(0.5), save, *more])
    best = [r['valid_loss'] for r in learn.history.rows if 'valid_loss' in r]
    with quiet(learn): now = learn.validate()[0]
    assert now==pytest.approx(best[-1] if more else min(best), rel=1e-4), (now, best)

def test_average_in_a_checkpoint(source, tmp_path):
    "What is trained further is the network and not its average"
    whole,cut,rest = (make(cifar_dls(source, 'none', bs=50, device='cpu'), cbs=EMA(0.9)) for _ in range(3))
    with quiet(whole): whole.fit(3, 0.01)
    class Cut(Callback):
        def before_batch(self):
            if self.epoch==2: raise KeyboardInterrupt
    with quiet(cut), pytest.raises(KeyboardInterrupt): cut.fit(3, 0.01, cbs=[Checkpoint(tmp_path/'c.pt'), Cut()])
    with quiet(rest), going_on(rest, tmp_path/'c.pt'): rest.fit(3, 0.01)
    assert all(torch.equal(v, weights(whole)[k]) for k,v in weights(rest).items())

def test_failed_validation_leaves_the_trained_network(dls):
    learn = make(dls, cbs=EMA(0.9))
    model = learn.model
    class Stop(Callback):
        def before_validate(self): raise KeyboardInterrupt
    with quiet(learn), pytest.raises(KeyboardInterrupt): learn.fit(1, 0.01, cbs=Stop())
    assert learn.model is model

def test_gradients_in_a_checkpoint(source, tmp_path):
    "A run that was cut off between two steps of `GradientAccumulation` ends as one that was not"
    cbs = lambda: [GradientAccumulation(150)] # of four batches of 50, one is left over
    whole,cut,rest = (make(cifar_dls(source, 'none', bs=50, device='cpu')) for _ in range(3))
    with quiet(whole): whole.fit(3, 0.01, cbs=cbs())
    class Cut(Callback):
        def before_batch(self):
            if self.epoch==1: raise KeyboardInterrupt
    with quiet(cut), pytest.raises(KeyboardInterrupt): cut.fit(3, 0.01, cbs=[*cbs(), Checkpoint(tmp_path/'c.pt'), Cut()])
    with quiet(rest), going_on(rest, tmp_path/'c.pt'): rest.fit(3, 0.01, cbs=cbs())
    assert all(torch.equal(v, weights(whole)[k]) for k,v in weights(rest).items())

def test_checkpoint_with_other_groups(dls, tmp_path):
    "Of an earlier version, or with another splitter: a line, and no traceback of PyTorch's"
    one = make(dls, splitter=lambda m: L(params(m)))
    with quiet(one): one.fit(1, cbs=Checkpoint(tmp_path/'c.pt'))
    learn = make(dls)
    with quiet(learn), pytest.raises(InputError, match='other parameter groups'):
        with going_on(learn, tmp_path/'c.pt'): learn.fit(1)

def test_graph_where_nothing_is_drawn(dls):
    learn = make(dls)
    with quiet(learn): learn.fit(1, cbs=ShowGraphCallback())
    learn.add_cb(ShowGraphCallback())
    with learn.no_bar(), quiet(learn): learn.fit(1)
    assert learn.show_graph.run is True

class Writes(Callback):
    "As users write them: a file beside the learner's"
    def after_epoch(self): (self.path/'mine.txt').write_text('x')

def test_finder_writes_nothing(dls, tmp_path, monkeypatch):
    "Whatever callbacks stand in the learner"
    monkeypatch.chdir(tmp_path)
    (tmp_path/'history.csv').write_text('mine')
    (tmp_path/'abs').mkdir()
    cbs = [CSVLogger(), CSVLogger(tmp_path/'abs/history.csv'), SaveModelCallback('train_loss'), RunLog(tmp_path), Checkpoint(tmp_path/'c.pt'),
           Writes(), EMA(0.9)]
    learn = make(dls, path=tmp_path, cbs=cbs)
    before,order = weights(learn),list(learn.cbs)
    find_lr(learn, num_it=30, plot=False)
    assert sorted(p.name for p in tmp_path.rglob('*'))==['abs','history.csv']
    assert (tmp_path/'history.csv').read_text()=='mine' and list(learn.cbs)==order and learn.path==tmp_path
    assert all(torch.equal(v, before[k]) for k,v in weights(learn).items())
    learn.fit(1)
    assert (tmp_path/'mine.txt').exists() and (tmp_path/'log.txt').exists()

def test_names_of_fastai_stay():
    "`vision_learner(dls, resnet18)` works after both star imports"
    import fastai.vision.all as theirs
    for n in ('resnet18','resnet34','ResNet'): assert getattr(everything, n) is getattr(theirs, n)
    assert isinstance(everything.archs['resnet18'](width=8), ResNet) and everything.ResNet is not ResNet
