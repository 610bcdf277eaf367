"""Training a recipe into a run folder: metrics of the weights beside them, the finder's rate, compiling, cut off and
resumed"""
import json, os, signal
from contextlib import nullcontext, suppress
from dataclasses import replace

import pytest
from fastai.vision.all import Callback, SaveModelCallback, set_seed, torch

from cifar_fastai import train as training
from cifar_fastai.core import InputError
from cifar_fastai.data import cifar_dls
from cifar_fastai.learner import cifar_learner
from cifar_fastai.optim import find_lr
from cifar_fastai.recipes import get_recipe, make_recipe, Recipe, recipes
from cifar_fastai.runs import load_weights, Run
from cifar_fastai.train import compile_pays, resume, train
from parts import part

small = dict(bs=50, model_kw=dict(width=8), precision='fp32')

def log(run): return (run/'log.txt').read_text()
def metrics(run): return Run(run).metrics
def sha(run): return json.loads((run/'model.json').read_text())['weights_sha256']

def measured(run, source):
    "Correct answers of the weights in a run folder"
    learn = cifar_learner(cifar_dls(source, bs=50, device='cpu'), load_weights(run)[0], precision='fp32')
    with learn.no_bar(), learn.no_logging(): learn.validate()
    return int(learn.history.sums['valid'][1])

class Spoil(Callback):
    "Spoil the weights after the second epoch, before it is validated"
    order = -30
    def before_validate(self):
        if self.epoch==1: torch.nn.init.normal_(self.learn.model.head.weight, std=5)

def test_metrics_are_those_of_the_best_weights(source, tmp_path, monkeypatch):
    """`SaveModelCallback` puts the weights of the best epoch back at the end: metrics and counts are
    theirs, and the log says so"""
    monkeypatch.chdir(tmp_path)
    run = train(
        Recipe(epochs=2, sched='none', lr=0.02, **small),
        source,
        tmp_path / 'run',
        device='cpu',
        cbs=[Spoil(), SaveModelCallback('valid_loss')],
    )
    first,last = Run(run).history
    m = metrics(run)
    assert first['valid_loss']<last['valid_loss'] and m['epochs_done']==2
    assert m['final']['valid_correct'] == first['valid_correct'] == measured(
        run, source
    ) == sum(c for c, _ in m['by_class'].values())
    assert abs(m['final']['valid_loss']-first['valid_loss'])<1e-3*first['valid_loss']
    for k in ('epoch','train_loss','train_acc'): assert abs(m['final'][k]-first[k])<1e-4, k # of their epoch, too
    assert 'the weights that are kept are not those of the last validation: ' in log(run)

def test_a_run_ends_with_the_metrics_of_its_last_epoch(source, tmp_path):
    "With averaged weights too, which were validated as they are kept"
    for name,cbs in (('plain',{}), ('ema',{'ema': {'decay': 0.9}})):
        run = train(Recipe(epochs=1, cbs=cbs, **small), source, tmp_path/name, device='cpu')
        assert metrics(run)['final']['valid_correct']==Run(run).history[0]['valid_correct']==measured(run, source)

def test_what_takes_long_and_has_no_steps_is_named(source, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(training, 'stage', lambda label: seen.append(label) or nullcontext())
    train(Recipe(epochs=1, **small), source, tmp_path/'run', device='cpu')
    assert seen==['preparing loaders and network', 'writing the run folder']

class StopLate(Callback):
    "Ctrl-C within the second epoch"
    def after_batch(self):
        if self.training and self.epoch==1 and self.iter==2: os.kill(os.getpid(), signal.SIGINT)

def test_metrics_of_a_stopped_run_are_those_of_its_weights(source, tmp_path):
    run = train(Recipe(epochs=3, sched='none', lr=0.02, **small), source, tmp_path/'run', device='cpu', cbs=StopLate())
    m = metrics(run)
    assert not m['completed'] and m['final']['valid_correct'] == measured(run, source) == sum(
        c for c, _ in m['by_class'].values()
    )


def test_rate_of_the_finder_is_said(source, tmp_path, capsys):
    run = train(
        Recipe(epochs=1, lr='find', find_kw=dict(num_it=40, chosen='valley'), **small),
        source,
        tmp_path / 'run',
        device='cpu',
    )
    c = json.loads((run/'config.json').read_text())
    line = f"learning rate {c['lr']:.3g} (valley); other suggestions: steep {c['lr_find']['steep']:.3g}, minimum "
    assert line in capsys.readouterr().out and line in log(run)

def test_default_suggestion(source):
    """The one that gained with SGD and with Adam, and the careful one where the loss hardly fell, see `results/finder-proxy.json` and
    `finder-adam-proxy.json`"""
    set_seed(1) # at rates where nothing is learned, the place of the least loss is the batches' chance
    learn = cifar_learner(cifar_dls(source, bs=20, device='cpu'), model_kw=dict(width=8), precision='fp32')
    assert find_lr(learn, plot=False).name=='minimum'
    assert find_lr(learn, start_lr=1e-9, end_lr=1e-8, num_it=40, plot=False).name=='valley'
    with pytest.raises(InputError, match='hardly fell'):
        find_lr(learn, start_lr=1e-9, end_lr=1e-8, num_it=40, chosen='minimum', plot=False)


def test_n_valid(source, tmp_path, capsys):
    "Few validation images, in proportion, said in log and config; a run is resumed and repeated with the same"
    run = train(Recipe(epochs=1, n_valid=20, **small), source, tmp_path/'run', device='cpu')
    c = json.loads((run/'config.json').read_text())
    assert (
        c['source']['n_valid'] == 20
        and c['source']['n_train'] == int((~source.is_valid).sum())
        and Run(run).history[0]['valid_n'] == 20
    )
    assert [n for _,n in metrics(run)['by_class'].values()]==[2]*10
    line = 'validating on 20 of the test images, of each class in proportion (n_valid)'
    assert line in capsys.readouterr().out and line in log(run)
    again = train(run, source, tmp_path/'again', device='cpu')
    assert metrics(again)['by_class']==metrics(run)['by_class']

def test_when_compiling_pays(monkeypatch):
    """On a CPU with bf16, from 250,000 images on; never on a GPU, with changing sizes or without a compiler"""
    monkeypatch.setattr(training, 'cpu_has_bf16', lambda: True)
    monkeypatch.setattr(training.shutil, 'which', lambda o: f'/usr/bin/{o}')
    r = Recipe(epochs=5, precision='bf16')
    assert compile_pays(r, 50_000) and not compile_pays(r, 49_999)
    assert not compile_pays(replace(r, precision='fp32'), 50_000) # measured: no gain
    assert not compile_pays(replace(r, progressive_sizes=[16,32]), 50_000)
    assert not compile_pays(r, 50_000, device='cuda') and not compile_pays(r, 50_000, device='mps')
    monkeypatch.setattr(training.shutil, 'which', lambda o: None)
    assert not compile_pays(r, 50_000)
    monkeypatch.undo()
    monkeypatch.setattr(training.shutil, 'which', lambda o: f'/usr/bin/{o}')
    monkeypatch.setattr(training, 'cpu_has_bf16', lambda: False)
    assert not compile_pays(r, 50_000)

@pytest.mark.parametrize('pays', (True, False))
def test_compile_auto(source, tmp_path, monkeypatch, pays):
    """config.json says what was done, and a resumed run does the same whatever would pay by then; nothing is compiled
    here"""
    asked = []
    monkeypatch.setattr(training, 'compile_pays', lambda *args: pays)
    monkeypatch.setattr(
        training, 'cifar_learner', lambda *args, compile, **kw: asked.append(compile) or cifar_learner(*args, **kw)
    )
    run = train(Recipe(epochs=1, **small), source, tmp_path/'run', device='cpu')
    assert (
        asked == [pays]
        and json.loads((run / 'config.json').read_text())['compile'] is pays
        and ('compiling the network' in log(run)) == pays
    )
    (run/'metrics.json').unlink()
    monkeypatch.setattr(training, 'compile_pays', lambda *args: not pays)
    resume(run, source, 'cpu')
    train(Recipe(epochs=1, **small), source, tmp_path/'chosen', device='cpu', compile=pays)
    assert asked==[pays]*3

def test_compile_is_checked(source, tmp_path):
    with pytest.raises(InputError, match="compile is 'on': it must be True, False or 'auto'"):
        train(Recipe(**small), source, tmp_path / 'run', device='cpu', compile='on')
    assert not (tmp_path/'run').exists()

@pytest.mark.slow # a minute or two: pytest -m slow tests/test_train.py
def test_a_narrow_network_is_compiled(source, tmp_path):
    run = train(
        Recipe(epochs=1, bs=100, model_kw=dict(width=8), precision='fp32'),
        source,
        tmp_path / 'run',
        device='cpu',
        compile=True,
    )
    assert json.loads((run/'config.json').read_text())['compile'] is True and metrics(run)['completed']
    assert metrics(run)['final']['valid_correct']==measured(run, source)

# ---- options

def short(recipe, source, tmp_path, **kw):
    "Train a recipe, narrow and short"
    kw = {**dict(epochs=2, bs=50, n_train=100, model_kw=dict(width=8), tta='none'), **kw}
    if recipe in recipes and recipes[recipe].lr=='find': kw.update(bs=20, find_kw=dict(num_it=30, chosen='valley'))
    return Run(train(get_recipe(recipe, **kw), source, tmp_path/'run', device='cpu'))

@pytest.mark.parametrize('name', recipes)
def test_each_named_recipe_trains(name, source, tmp_path):
    run = short(name, source, tmp_path)
    assert run.metrics['completed'] and len(run.history)==2 and run.history[-1]['train_loss']<3

pieces = dict(
    mixup=dict(cbs={'mixup': {'alpha': 0.4}}, label_smoothing=0.1, sched='constant'),
    cutmix=dict(cbs={'cutmix': {}, 'grad_clip': {'max_norm': 0.5}}, opt_kw=dict(momentum=0.5), sched='none'),
    penalty=dict(cbs={'penalty': {'l1': 1e-4, 'l2': 1e-3}}, sched='plateau', sched_kw=dict(patience=1)),
    muon=dict(opt='muon'), initialization=dict(init='whiten', arch='resnet34'))

@pytest.mark.parametrize('kw', pieces.values(), ids=pieces)
def test_each_option_reaches_the_fit(kw, source, tmp_path):
    run = short(None, source, tmp_path, **kw)
    assert run.metrics['completed'] and run.history[-1]['train_loss']<3

def test_epochs_between_validations(source, tmp_path):
    assert [
        r['epoch'] for r in short(None, source, tmp_path, epochs=4, valid_every=3).history if 'valid_acc' in r
    ] == [3, 4]


def test_a_run_without_progress_ends_early(source, tmp_path):
    run = short(None, source, tmp_path, epochs=6, cbs={'early_stop': {'patience': 1}}, valid=0.2, sched='none', lr=1e-7)
    assert len(run.history)<6 and 'ended early' in run.state

@pytest.mark.parametrize('kw,message', [
    (dict(model_kw=dict(depth=3)), "unknown option of model_kw 'depth'"), (dict(opt_kw=dict(speed=1)), 'which SGD refuses'),
    (dict(bs=512), 'training images')], ids=str)
def test_nothing_is_written_for_what_cannot_run(kw, message, source, tmp_path):
    with pytest.raises(InputError, match=message): short(None, source, tmp_path, **kw)
    assert not (tmp_path/'run').exists()

def test_a_folder_that_cannot_be_made_is_refused(source, tmp_path):
    (tmp_path/'file').write_text('')
    with pytest.raises(InputError, match='cannot be made'):
        train(Recipe(epochs=1, **small), source, tmp_path / 'file' / 'run', device='cpu')


# ---- the same again, cut off and resumed

def test_same_seed_same_weights(source, tmp_path):
    "With any number of loader workers; another seed gives others"
    r = Recipe(
        epochs=2,
        policy='crop4+cutout12',
        **{**small, 'model_kw': dict(width=8, dropout=0.2)},
    )
    a, b, other = (
        train(o, source, tmp_path / str(i), device='cpu', workers=w)
        for i, (o, w) in enumerate(((r, 0), (r, 2), (replace(r, seed=1), 0)))
    )
    assert sha(a)==sha(b)!=sha(other)

class CutOff(Callback):
    def before_batch(self):
        if self.training and self.epoch==2 and self.iter==1: raise KeyboardInterrupt

averages = Recipe(
    epochs=4,
    policy='crop4',
    progressive_sizes=[16, 32],
    cbs={'ema': {'decay': 0.9}},
    init='whiten',
    sched='linear',
    tta='flip',
    **small,
)

@pytest.fixture(scope='module')
def whole(source, tmp_path_factory):
    return train(averages, source, tmp_path_factory.mktemp('whole') / 'run', device='cpu')


def test_a_run_that_was_cut_off_is_resumed_to_the_same_end(whole, source, tmp_path):
    cut = tmp_path/'cut'
    with pytest.raises(KeyboardInterrupt): train(averages, source, cut, device='cpu', cbs=CutOff())
    assert not (cut/'metrics.json').exists()
    resume(cut, source, device='cpu')
    assert sha(cut)==sha(whole) and len(log(cut).splitlines())==6 # a head, 2 epochs, a head, 2 epochs
    assert sorted(o.name for o in cut.iterdir())==sorted(o.name for o in whole.iterdir())
    with pytest.raises(InputError, match='is complete'): resume(cut, source)

def test_a_run_with_batches_made_on_the_device_is_resumed(source, tmp_path):
    r = replace(averages, policy='r4', cbs={}, tta='none')
    whole = train(r, source, tmp_path/'whole', device='cpu', loader='device')
    with suppress(KeyboardInterrupt): train(r, source, tmp_path/'cut', device='cpu', loader='device', cbs=CutOff())
    assert (
        sha(resume(tmp_path / 'cut', source, device='cpu')) == sha(whole)
        and Run(tmp_path / 'cut').config['loader'] == 'device'
    )


def test_a_run_that_was_cut_off_after_its_last_epoch_is_resumed(whole, source, tmp_path, monkeypatch):
    monkeypatch.setattr(training, 'finish_run', None)
    with pytest.raises(TypeError): train(averages, source, tmp_path/'late', device='cpu')
    monkeypatch.undo()
    a,b = Run(resume(tmp_path/'late', source, device='cpu')).metrics,Run(whole).metrics
    assert (
        sha(tmp_path / 'late') == sha(whole)
        and a['by_class'] == b['by_class']
        and a['tta'] == b['tta']
        and 'flip' in a['tta']
    )
    assert a['final']['valid_correct']==b['final']['valid_correct']

def test_what_is_no_run_is_not_resumed(whole, source, tmp_path):
    with pytest.raises(InputError, match='config.json cannot be read'): resume(tmp_path/'nowhere', source)
    (tmp_path/'config.json').write_text('{}')
    with pytest.raises(InputError, match='recipe: Field required'): resume(tmp_path, source)
    (tmp_path/'config.json').write_text((whole/'config.json').read_text())
    (tmp_path/'checkpoint').mkdir()
    (tmp_path/'checkpoint/last.pt').write_bytes(b'')
    with pytest.raises(InputError, match='are not those of the run'): resume(tmp_path, part(source, slice(100)))
    with pytest.raises(InputError, match='last.pt cannot be read'): resume(tmp_path, source)

# ---- slow

@pytest.mark.slow
def test_same_seed_same_weights_at_full_width(source, tmp_path):
    "Two runs with no worker and two with two: one and the same set of weights"
    recipe = Recipe(epochs=2, bs=50, policy='crop_flip_cutout')
    runs = [train(recipe, source, tmp_path/f'{w}-{i}', device='cpu', workers=w) for w in (0,2) for i in range(2)]
    assert len({json.loads((r/'model.json').read_text())['weights_sha256'] for r in runs})==1

@pytest.mark.cuda
def test_trains_on_a_gpu(source, tmp_path):
    run = train(Recipe(epochs=2, bs=50), source, tmp_path/'run', device='cuda')
    c = json.loads((run/'config.json').read_text())
    assert c['device'].startswith('cuda') and c['precision'] in ('bf16','fp16')

def test_a_run_logs_for_tensorboard(source, tmp_path):
    accumulator = pytest.importorskip('tensorboard.backend.event_processing.event_accumulator')
    run = train(make_recipe(dict(epochs=1, **small)), source, tmp_path/'run', device='cpu', tensorboard=True)
    events = accumulator.EventAccumulator(str(run/'tensorboard')).Reload()
    assert [o.value for o in events.Scalars('accuracy')]==[pytest.approx(Run(run).history[-1]['valid_acc'], abs=1e-5)]
