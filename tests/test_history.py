"The log of a fit, its bar, its curves and its diagnosis; how sure an accuracy is."
import os, re
from types import SimpleNamespace
import matplotlib.pyplot as plt
import pytest, torch
from fastai.vision.all import (
    AvgSmoothLoss, Callback, CancelBatchException, CSVLogger, F1Score, FetchPredsCallback, ShortEpochCallback,
    ShowGraphCallback, accuracy)
from cifar_fastai.callbacks import ValidEvery
from cifar_fastai.core import InputError
from cifar_fastai.data import cifar_dls
from cifar_fastai.history import (
    Progress, accuracy_interval, diagnose, log_line, plot_history, plot_runs)
from cifar_fastai.sources import load_source
from learners import Raise, make_learner
from terminal import on_terminal

@pytest.fixture(scope='module')
def source(data_dir): return load_source(data_dir, size=16)

@pytest.fixture(scope='module')
def dls(source): return cifar_dls(source, 'none', bs=50, device='cpu')

@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close('all')

# ---- the log

class Skip(Callback):
    "Leave out a batch before its loss"
    order = 5
    def after_pred(self):
        if self.training and self.iter==1: raise CancelBatchException()

class Peek(Callback):
    "Validate in the middle of a fit, on the same images"
    def after_train(self): self.learn.get_preds(dl=self.dls.valid, inner=True, reorder=False)

@pytest.mark.parametrize(
    'cb',
    [lambda: FetchPredsCallback(ds_idx=0), lambda: ShortEpochCallback(0.5), lambda: ValidEvery(2), Skip, Peek],
    ids=['fetch', 'short', 'every', 'skip', 'peek'],
)
def test_history_is_what_the_recorder_says(cb, source):
    "Whatever else is predicted, skipped or cut short within an epoch; the validation has five batches"
    learn = make_learner(cifar_dls(source, 'none', bs=5, n_train=20, device='cpu'))
    with learn.no_logging(): learn.fit(2, 0.01, cbs=cb())
    for row,values in zip(learn.history.rows, learn.recorder.values): # these end with loss and accuracy
        assert ('valid_loss' in row)==(len(values)>1)
        if 'valid_loss' in row: assert [row['valid_loss'], row['valid_acc']]==pytest.approx(list(values[-2:]), rel=1e-5)
        assert row.get('valid_n', 50)==50

def test_history_counts_and_keeps_each_step(dls):
    learn = make_learner(dls)
    with learn.no_logging(): learn.fit_one_cycle(2, 0.01)
    row = learn.history.rows[-1]
    assert [row['train_n'], row['valid_n'], len(learn.history.lrs), len(learn.history.momenta)]==[200, 50, 8, 8]
    assert 0.84<min(learn.history.momenta)<0.86
    assert list(learn.validate())==pytest.approx([row['valid_loss'], row['valid_acc']], rel=1e-4)
    assert len(learn.history.rows)==2 # `validate` leaves the history alone
    assert len(learn.get_preds(with_loss=True)[2])==50 # a loss of each item

def test_history_is_whole_where_a_callback_validates(dls):
    "fastai sends the events of a fit then, its recorder begins anew, and its count of epochs too"
    class Look(Callback):
        def after_train(self): self.value = self.learn.validate()
    learn,look = make_learner(dls),Look()
    with learn.no_logging(): learn.fit(2, 0.01, cbs=look)
    assert [(r['train_n'], r['valid_n']) for r in learn.history.rows]==[(200,50)]*2 and len(learn.history.lrs)==8
    assert [learn.history.rows[1][k] for k in ('valid_loss','valid_acc')]==pytest.approx(list(look.value), rel=1e-5)

class Says(list):
    def __call__(self, o): self.append(o)

def test_every_fit_is_told_unless_it_is_silenced(dls):
    "Also after `tta`, with `CSVLogger`, and after a fit that failed"
    learn = make_learner(dls)
    learn.history.say = said = Says()
    def rows():
        n = sum(o.startswith('epoch ') for o in said)
        said.clear()
        return n
    learn.fit(1); assert len(said)==2 and said[1].startswith('epoch 1/1  lr 0.1') and '/50)' in said[1]
    learn.fit(1); assert rows()==2
    learn.fine_tune(1); assert rows()==2
    learn.tta(n=1); learn.fit(1); assert rows()==1
    learn.fit(1, cbs=CSVLogger()); learn.fit(1); assert rows()==2
    with pytest.raises(KeyboardInterrupt): learn.fit(1, cbs=Raise(KeyboardInterrupt()))
    with learn.no_logging(): learn.fit(1)
    assert rows()==0
    with learn.no_logging(): learn.fit(1, cbs=CSVLogger())
    assert rows()==0
    with learn.no_bar(): learn.validate()
    learn.fit(1); assert rows()==1
    os.unlink(learn.path/'history.csv')

def test_history_prints_no_table_of_fastai(dls, capsys):
    learn = make_learner(dls)
    learn.fit(1)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines)==2 and lines[0].startswith('resnet18 (') and lines[1].startswith('epoch 1/1 ')

def test_a_line_a_minute_where_there_is_no_bar(dls):
    "The clock is made here"
    learn,clock = make_learner(dls),[0.]
    learn.history.say,learn.history.clock = Says(),lambda: clock[0]
    class Tick(Callback):
        def before_batch(self): clock[0] += 25 if self.training else 40
    learn.fit(2, 0.01, cbs=Tick()) # 4 steps of 25 s and one of 40 s an epoch
    lines = [o for o in learn.history.say if ', step ' in o]
    assert lines == [
        'epoch 1/2, step 3 of 4: 2 images/s, 2 min left',
        'epoch 2/2, step 3 of 4: 2 images/s, 65 s left',
    ], lines
    learn.history.say.clear()
    with learn.no_logging(): learn.fit(1, 0.01, cbs=Tick())
    learn.validate(cbs=Tick())
    assert learn.history.say==[]

def test_line_of_an_epoch_without_validation_says_so():
    row = dict(
        epoch=1, epochs=2, lr=0.1, train_loss=1.0, train_acc=0.5, train_correct=5, train_n=10, seconds=1, img_per_s=2
    )
    assert log_line(row)=='epoch 1/2  lr 0.100000  train 1.0000 50.00% (5/10)  not validated  1.0 s  2 img/s'

def test_line_of_an_epoch_keeps_large_counts_apart():
    row = dict(
        epoch=10, epochs=20, lr=0.1, train_loss=1.0, train_acc=0.5, train_correct=25000, train_n=50000,
        valid_loss=1.2, valid_acc=0.562, valid_correct=5620, valid_n=10000, seconds=123.4, img_per_s=12345.6
    )
    assert log_line(row).split('  ')==[
        'epoch 10/20', 'lr 0.100000', 'train 1.0000 50.00% (25000/50000)', 'valid 1.2000 56.20% (5620/10000)',
        '123.4 s', '12346 img/s']

def test_losses_of_the_recorder_are_fastais_own_though_no_step_waits(dls):
    class Losses(Callback):
        def __init__(self): self.raw = []
        def after_loss(self):
            if self.training: self.raw.append(self.loss.detach().mean().clone())
    cb = Losses()
    learn = make_learner(dls, cbs=cb)
    with learn.no_logging(): learn.fit(2, 0.01)
    smooth,want = AvgSmoothLoss(beta=0.98),[]
    for o in cb.raw:
        smooth.accumulate(SimpleNamespace(loss=o))
        want.append(smooth.value)
    assert torch.stack(list(learn.recorder.losses)).tolist()==pytest.approx(torch.stack(want).tolist(), rel=1e-6)
    assert float(learn.recorder.values[-1][0])==pytest.approx(float(want[-1]), rel=1e-6)

def test_metrics_beside_the_accuracy_are_shown(dls):
    "As fastai's table shows them; '-' where an epoch was not validated"
    learn = make_learner(dls, metrics=[accuracy, F1Score(average='macro')], cbs=ValidEvery(2))
    learn.history.say = said = Says()
    learn.fit(2, 0.01)
    f1 = learn.recorder.values[-1][-1]
    assert said[1].endswith(' img/s  f1_score -') and said[2].endswith(f' img/s  f1_score {f1:.4f}')
    assert learn.history.rows[1]['f1_score']==f1 and f'| {f1:.4f} |' in learn.history._repr_markdown_()
    assert '| img/s | f1_score |' in learn.history._repr_markdown_()

# ---- bars

def bars_of(raw): return [o for o in re.split('[\r\n]', raw) if '|' in o]

def test_bar_says_what_is_done_and_how_long_the_fit_still_takes(source, monkeypatch):
    "Also where it validates, which is no second epoch of that number"
    with on_terminal(monkeypatch) as told:
        learn = make_learner(cifar_dls(source, 'none', bs=5, device='cpu'))
        learn.fit(2)
        learn.validate()
    bars = bars_of(told[0])
    train,valid = ([o for o in bars if f'/{n} ' in o and o.startswith('Epoch ')] for n in (40, 5))
    assert len(train)>=12 and len(valid)>=10, bars
    assert not any('validating' in o for o in train) and sum('validating' not in o for o in valid)<=2, valid
    assert re.search(r'\... \d\.\d{4}, \d+ s left in all\]', train[3]) and 'left in all' in valid[-1], bars
    assert not any('left in all' in o for o in bars if not o.startswith('Epoch ')), bars # `validate` is no fit

def test_bars_of_a_fit_are_a_line_of_a_narrow_terminal(dls, monkeypatch):
    with on_terminal(monkeypatch, columns=60) as told: make_learner(dls).fit(11)
    assert max(map(len, bars_of(told[0])))<=58, bars_of(told[0]) # and ^C has its place

def test_time_left_counts_the_validations(source):
    "The clock is made here: 4 steps of 25 s and 2 of 20 s an epoch; how long a validation takes, the first one shows"
    learn,clock,left = make_learner(cifar_dls(source, 'none', bs=50, device='cpu')),[0.],[]
    learn.dls.valid.bs = 25
    learn.history.clock = lambda: clock[0]
    class Tick(Callback):
        def before_batch(self): clock[0] += 25 if self.training else 20
        def after_batch(self): left.append(self.learn.history.time_left())
    with learn.no_logging(): learn.fit(2, 0.01, cbs=Tick())
    assert left==[175, 150, 125, 100, 160, 140, 115, 90, 65, 40, 20, 0]

def test_graph_is_left_out_where_nothing_is_drawn(dls):
    "In a script, and with `no_bar`; also in a validation"
    learn = make_learner(dls, cbs=ShowGraphCallback())
    with learn.no_logging(): learn.fit(1)
    learn.validate()
    assert learn.show_graph.run and not hasattr(learn, 'progress')

def test_bar_asks_for_the_loss_when_it_is_drawn():
    asked = []
    class Loss:
        def item(self): asked.append(1); return 0.5
    cb = Progress()
    assert cb.name=='progress' # where fastai looks for its bar
    bar = SimpleNamespace(last_v=0, comment='', total=100)
    bar.update = lambda v: setattr(bar, 'last_v', v if v%10==0 else bar.last_v)
    history = SimpleNamespace(validating=False, time_left=lambda: 120)
    cb.pbar,cb.learn = bar,SimpleNamespace(smooth_loss=Loss(), iter=0, training=True, history=history)
    for i in range(100):
        cb.learn.iter = i
        cb.after_batch()
    assert len(asked)==10 and bar.comment=='0.5000, 2 min left in all'

# ---- curves

rows = [
    dict(
        epoch=i,
        lr=0.1,
        train_loss=2 / i,
        train_acc=i / 12,
        **(dict(valid_loss=2.1 / i, valid_acc=i / 14, valid_n=100) if i % 5 == 0 else {}),
    )
    for i in range(1, 11)
]

def labels(ax): return ax.get_title(),ax.get_xlabel(),ax.get_ylabel()
def curves(ax): return {o.get_label(): list(o.get_xdata()) for o in ax.get_lines()}

@pytest.mark.parametrize('valid', ['validation','test'])
def test_curves_of_a_run_leave_no_gap_where_it_was_not_validated(valid):
    axs = plot_history(rows, valid=valid)
    assert [labels(o) for o in axs]==[('Loss','epoch','mean loss per image'), ('Accuracy','epoch','images correct, %')]
    for ax in axs: assert curves(ax)=={'training': list(range(1,11)), valid: [5,10]}
    assert list(curves(plot_history([dict(epoch=1, train_loss=1., train_acc=.5)])[0]))==['training']

def test_curves_of_seeds_are_a_line_for_each_name_and_part():
    axs = plot_runs({'a': [rows,rows], 'b': [rows]}, valid='test')
    assert [labels(o) for o in axs]==[('Loss','epoch','mean loss per image'), ('Accuracy','epoch','images correct, %')]
    assert set(curves(axs[1]))=={'a, training','a, test','b, training','b, test'} and curves(axs[1])['a, test']==[5,10]

# ---- the diagnosis

def history(train, valid, loss, **more):
    lrs = more.pop('lr', [None]*len(train))
    parts = enumerate(zip(train, valid, loss, lrs), 1)
    return [
        dict(
            epoch=i,
            train_acc=t,
            valid_acc=v,
            valid_loss=l,
            valid_n=1000,
            **more,
            **({} if lr is None else dict(lr=lr)),
        )
        for i, (t, v, l, lr) in parts
    ]

heart = history([.5,.7,.86,.95,.99], [.52,.69,.80,.84,.86], [1.4,.9,.6,.58,.66])
early = [.3,.4,.5],[.35,.45,.56],[1.9,1.6,1.3]
rising = [.70,.87],[.76,.866],[.5,.33]

def test_diagnosis_of_a_run_that_learned_by_heart():
    d = diagnose(heart, dict(cat=(70,100), dog=(81,100), ship=(93,100), truck=(95,100)))
    assert [d[k] for k in ('verdict','parts_at','loss_rises_from','first_at_level')]==['over-fitting', 3, 4, 5]
    assert d['gap']==pytest.approx(13) and list(d['worst'])==['cat','dog','ship']

@pytest.mark.parametrize('rows,verdict', [
    (history(*early), 'under-fitting'), (history(*early, lr=(.1,.05,.01)), 'under-fitting'),
    (history([.90,.92], [.91,.915], [.3,.29]), 'well balanced'),
    (history([.11,.12], [.11,.115], [2.3,2.3]), 'under-fitting'), # nothing is learned
    (history([.92], [.915], [.3]), 'not known'),
    (history(*rising), 'under-fitting'), (history(*rising, lr=(.1,.1)), 'under-fitting'), # still rising
    (history(*rising, lr=(.1,.01)), 'well balanced')]) # because the rate fell
def test_verdict(rows, verdict): assert diagnose(rows)['verdict']==verdict

def test_diagnosis_says_how_much_was_gained_while_the_rate_fell():
    assert 'gained 10.60 points' in diagnose(history(*rising, lr=(.1,.01))).lines[0]

def test_one_high_epoch_or_a_difference_within_the_noise_is_no_parting():
    assert diagnose(history([.9,.5,.9], [.5,.6,.85], [1,1,1]))['parts_at']==3
    assert diagnose(history([.9,.861], [.5,.85], [1,1]))['parts_at'] is None
    for n,says in ((50,'under-fitting'), (5000,'over-fitting')): # 6.5 points are nothing on 50 images
        assert diagnose([{**o, 'valid_n': n} for o in history([.2,.305], [.1,.24], [3,2])])['verdict']==says

def test_diagnosis_passes_over_epochs_that_were_not_validated():
    assert diagnose([*heart[:2], dict(epoch=3, train_acc=.8), *heart[3:]])['parts_at']==4
    with pytest.raises(InputError, match='nothing to compare'): diagnose([dict(epoch=1, train_acc=1.)])

def test_diagnosis_says_test_where_these_were_test_images():
    test,valid = (str(diagnose(rows, dict(cat=(1,2)), valid=o)) for o in ('test','validation'))
    assert (
        'validation' not in test
        and test.replace('test accuracy', 'validation accuracy').replace('test loss', 'validation loss') == valid
    )
    assert 'test accuracy at 86.00 %' in diagnose(heart, valid='test').lines[0]

def test_accuracy_interval_is_within_zero_and_one():
    lo,hi = accuracy_interval(0, 10)
    assert lo==0 and 0.2<hi<0.35 and accuracy_interval(10, 10)[1]==1
    assert accuracy_interval(900, 1000)==pytest.approx([0.8798476, 0.9170908], abs=1e-6)
