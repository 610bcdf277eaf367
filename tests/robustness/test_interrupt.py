"Ctrl-C ends a run in order: the step is finished, the files are whole, and what was reached is there."
import json, os, signal
import pytest
from fastai.vision.all import Callback
from cifar_fastai.experiments import run_seeds
from cifar_fastai.cli import cifar_train
from cifar_fastai.data import cifar_dls
from cifar_fastai.learner import cifar_learner
from cifar_fastai.runs import load_weights
from cifar_fastai.history import read_history
from cifar_fastai.callbacks import graceful_interrupt
from cifar_fastai.recipes import Recipe
from cifar_fastai.train import train

class PressCtrlC(Callback):
    def __init__(self, at): self.at = at
    def after_batch(self):
        if self.train_iter==self.at: os.kill(os.getpid(), signal.SIGINT)

def test_stoppable(source):
    learn = cifar_learner(cifar_dls(source, bs=50, device='cpu'), model_kw=dict(width=8))
    before = signal.getsignal(signal.SIGINT)
    with graceful_interrupt(learn) as stop: learn.fit(3, cbs=PressCtrlC(6))
    assert stop.asked and signal.getsignal(signal.SIGINT)==before
    assert len(learn.history.lrs)==6 and len(learn.history.rows)==1  # four batches an epoch
    assert not [o for o in learn.cbs if o.order == 90] and 'stop' not in ' '.join(
        type(o).__name__.lower() for o in learn.cbs
    )
    learn.fit(1)
    assert len(learn.history.rows)==1 and len(learn.history.lrs)==4

def test_run_folder_of_a_stopped_run(source, tmp_path):
    run = train(
        Recipe(epochs=3, bs=50, model_kw=dict(width=8)), source, tmp_path / 'run', device='cpu', cbs=[PressCtrlC(6)]
    )
    m = json.loads((run/'metrics.json').read_text())
    assert (m['completed'],m['epochs_done'])==(False,1) and len(read_history(run))==1
    load_weights(run)

def test_a_stopped_run_is_never_reported(source, tmp_path):
    "Nor is one that was stopped again while it was resumed"
    kw = dict(
        recipe=Recipe(epochs=3, bs=50, model_kw=dict(width=8)),
        source=source,
        seeds=1,
        out=tmp_path / 'results',
        runs=tmp_path / 'runs',
        device='cpu',
    )
    for at,done in ((6,1), (10,2)):
        with pytest.raises(KeyboardInterrupt): run_seeds(**kw, cbs=PressCtrlC(at))
        m = json.loads(next((tmp_path/'runs').rglob('metrics.json')).read_text())
        assert (m['completed'],m['epochs_done'])==(False,done) and not (tmp_path/'results').exists()
    rec = json.loads(run_seeds(**kw).read_text())
    assert [r['epoch'] for r in rec['seeds'][0]['history']]==[1,2,3] and rec['full']

def test_command_says_so_and_goes_on(data_dir, tmp_path, capsys, monkeypatch):
    import cifar_fastai.train as module

    argv = [
        '--source',
        str(data_dir),
        '--bs',
        '50',
        '--epochs',
        '3',
        '--model-kw',
        'width=8',
        '--cbs',
        'ema=0.9',
        '--device',
        'cpu',
        '--no-report',
    ]
    sha = lambda run: json.loads((run/'model.json').read_text())['weights_sha256']
    assert cifar_train([*argv, '--run-dir', str(tmp_path/'whole')])==0
    monkeypatch.setattr(module, 'cifar_learner', lambda *a, **kw: cifar_learner(*a, **{**kw, 'cbs': PressCtrlC(5)}))
    capsys.readouterr()
    code = cifar_train([*argv, '--run-dir', str(tmp_path/'run')])
    out,err = capsys.readouterr()
    assert (
        code == 130
        and err == f"cifar-train: stopped after 1 of 3 epochs; continue with --resume {tmp_path / 'run'}\n"
        and f"run folder: {tmp_path / 'run'}" in out
    )
    monkeypatch.undo()
    assert cifar_train(['--resume', str(tmp_path/'run'), '--device', 'cpu', '--no-report'])==0
    assert sha(tmp_path/'run')==sha(tmp_path/'whole')
    same = lambda run: [{k: v for k,v in r.items() if k not in ('seconds','img_per_s')} for r in read_history(run)]
    assert same(tmp_path/'run')==same(tmp_path/'whole')

@pytest.mark.parametrize('at', ['step', 'measuring'])
def test_a_run_stopped_at_once_can_be_resumed_and_the_command_says_which(at, data_dir, tmp_path, capsys, monkeypatch):
    "By Ctrl-C twice in a step, or once after the last epoch"
    import cifar_fastai.train as module
    def press(*args): os.kill(os.getpid(), signal.SIGINT)
    class PressTwice(Callback):
        def before_batch(self):
            if self.train_iter==5: press(); press()
    if at=='measuring': monkeypatch.setattr(module, '_views', press)
    else: monkeypatch.setattr(module, 'cifar_learner', lambda *a, **kw: cifar_learner(*a, **{**kw, 'cbs': PressTwice()}))
    run,argv = tmp_path/'run','--epochs 2 --bs 50 --model-kw width=8 --device cpu --tta flip --no-report'.split()
    code = cifar_train(['--source', str(data_dir), '--run-dir', str(run), *argv])
    assert (code, capsys.readouterr().err)==(130, f'cifar-train: stopped; the run in {run} can be resumed\n')
    monkeypatch.undo()
    assert cifar_train(['--resume', str(run), '--no-report'])==0
    assert 'with test-time augmentation (flip)' in capsys.readouterr().out and len(read_history(run))==2
