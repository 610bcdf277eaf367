"What stands in a run folder: metrics of the weights beside them, the finder's rate, the number of validation images, whether the network was compiled"
import json, os, signal
import pytest
from fastai.vision.all import Callback, SaveModelCallback, torch
import cifar_fastai.recipes as recipes
from cifar_fastai.data import cifar_dls
from cifar_fastai.errors import InputError
from cifar_fastai.learner import cifar_learner, find_lr, load_network, read_history
from cifar_fastai.recipes import Recipe, compile_pays, make_recipe, predicted_seconds, read_run, rerun, resume, train

small = dict(bs=50, model_kw=dict(width=8), precision='fp32')

def metrics(run): return json.loads((run/'metrics.json').read_text())

def log(run): return (run/'log.txt').read_text()

def measured(run, source):
    "Correct answers of the weights in a run folder"
    learn = cifar_learner(cifar_dls(source, bs=50, device='cpu'), load_network(run)[0], precision='fp32')
    with learn.no_bar(), learn.no_logging(): learn.validate()
    return sum(c for c,_ in learn.history.by_class)

class Spoil(Callback):
    "Spoil the weights after the second epoch, before it is validated"
    order = -30
    def before_validate(self):
        if self.epoch==1: torch.nn.init.normal_(self.learn.model.head.weight, std=5)

def test_metrics_are_those_of_the_best_weights(source, tmp_path, monkeypatch):
    "`SaveModelCallback` puts the weights of the best epoch back at the end: metrics, counts and energies are theirs, and the log says so"
    monkeypatch.chdir(tmp_path)
    run = train(Recipe(epochs=2, sched='none', lr=0.02, **small), source, tmp_path/'run', device='cpu', cbs=[Spoil(), SaveModelCallback('valid_loss')])
    first,last = read_history(run)
    m = metrics(run)
    assert first['valid_loss']<last['valid_loss'] and m['epochs_done']==2
    assert m['final']['epoch']==1 and m['final']['valid_correct']==first['valid_correct']==measured(run, source)==sum(c for c,_ in m['by_class'].values())
    assert abs(m['final']['valid_loss']-first['valid_loss'])<1e-3*first['valid_loss']
    assert 'the weights that are kept are those of epoch 1: ' in log(run)

def test_a_run_that_keeps_its_last_weights_is_not_measured_again(source, tmp_path, monkeypatch):
    "Neither plain nor averaged weights are, which were validated as they are kept"
    monkeypatch.setattr(recipes, '_measure', lambda learn: pytest.fail('measured again'))
    for name,kw in (('plain',{}), ('ema',dict(ema=0.9)), ('slow',dict(lookahead=True))):
        run = train(Recipe(epochs=1, **small, **kw), source, tmp_path/name, device='cpu')
        assert metrics(run)['final']['valid_correct']==read_history(run)[0]['valid_correct']==measured(run, source)

class StopLate(Callback):
    "Ctrl-C within the second epoch"
    def after_batch(self):
        if self.training and self.epoch==1 and self.iter==2: os.kill(os.getpid(), signal.SIGINT)

def test_metrics_of_a_stopped_run_are_those_of_its_weights(source, tmp_path):
    run = train(Recipe(epochs=3, sched='none', lr=0.02, **small), source, tmp_path/'run', device='cpu', cbs=StopLate())
    m = metrics(run)
    assert not m['completed'] and m['final']['valid_correct']==measured(run, source)==sum(c for c,_ in m['by_class'].values())

def test_rate_of_the_finder_is_told(source, tmp_path, capsys):
    run = train(Recipe(epochs=1, lr='find', find_kw=dict(num_it=40, chosen='valley'), **small), source, tmp_path/'run', device='cpu')
    c = json.loads((run/'config.json').read_text())
    line = f"learning rate {c['lr']:.3g} (valley); other suggestions: steep {c['lr_find']['steep']:.3g}, minimum "
    assert line in capsys.readouterr().out and line in log(run)

def test_default_suggestion(source):
    "The one that measured best, and the careful one where the loss hardly fell, see `results/finder-proxy.json` and `finder-adam-proxy.json`"
    learn = cifar_learner(cifar_dls(source, bs=20, device='cpu'), model_kw=dict(width=8), precision='fp32')
    assert find_lr(learn, plot=False).name=='minimum'
    assert find_lr(learn, start_lr=1e-9, end_lr=1e-8, num_it=40, plot=False).name=='valley'
    with pytest.raises(InputError, match='hardly fell'): find_lr(learn, start_lr=1e-9, end_lr=1e-8, num_it=40, chosen='minimum', plot=False)

def test_n_valid(source, tmp_path, capsys):
    "Few validation images, in proportion, said in log and config; a run is resumed and repeated with the same"
    run = train(Recipe(epochs=1, n_valid=20, **small), source, tmp_path/'run', device='cpu')
    c = json.loads((run/'config.json').read_text())
    assert c['source']['n_valid']==20 and c['source']['n_train']==int((~source.is_valid).sum()) and read_history(run)[0]['valid_n']==20
    assert [n for _,n in metrics(run)['by_class'].values()]==[2]*10
    line = f'validating on 20 of {int(source.is_valid.sum())} test images, of each class in proportion (n_valid)'
    assert line in capsys.readouterr().out and line in log(run)
    again = rerun(run, tmp_path/'again', source)
    assert metrics(again)['by_class']==metrics(run)['by_class']

def test_recipes_and_configs_of_earlier_versions_are_read(source, tmp_path):
    "They have no `n_valid`, and no way of compiling"
    run = train(Recipe(epochs=1, **small), source, tmp_path/'run', device='cpu')
    c = json.loads((run/'config.json').read_text())
    del c['recipe']['n_valid'], c['compile']
    assert make_recipe(c['recipe'])==Recipe(epochs=1, **small)
    (run/'config.json').write_text(json.dumps(c)); (run/'metrics.json').unlink()
    assert read_run(run)[0].n_valid is None
    assert metrics(resume(run, source, 'cpu'))['completed']

def test_when_compiling_pays(monkeypatch):
    "On a CPU with bf16, where the training is predicted to take ten minutes; never on a GPU, with changing sizes or without a compiler"
    monkeypatch.setattr(recipes, 'cpu_has_bf16', lambda: True)
    monkeypatch.setattr(recipes.shutil, 'which', lambda o: f'/usr/bin/{o}')
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 2)
    r = Recipe(epochs=20, precision='bf16')
    assert compile_pays(r, 50_000) and 6000<predicted_seconds(r, 50_000)<8000
    assert not compile_pays(r, 1000) and not compile_pays(Recipe(epochs=1, precision='bf16'), 50_000)
    assert not compile_pays(Recipe(epochs=20, precision='bf16', model_kw=dict(width=16)), 50_000)
    assert not compile_pays(Recipe(epochs=20, precision='fp32'), 50_000) # measured: no gain
    assert not compile_pays(Recipe(epochs=20, precision='bf16', sizes=[16,32]), 50_000)
    assert not compile_pays(r, 50_000, device='cuda') and not compile_pays(r, 50_000, device='mps')
    monkeypatch.setattr(recipes.shutil, 'which', lambda o: None)
    assert not compile_pays(r, 50_000)
    monkeypatch.setattr(recipes, 'cpu_has_bf16', lambda: False)
    assert not compile_pays(r, 50_000)

@pytest.mark.parametrize('pays', (True, False))
def test_compile_auto(source, tmp_path, monkeypatch, pays):
    "config.json says what was done, and a resumed run does the same whatever would pay by then; nothing is compiled here"
    asked = []
    monkeypatch.setattr(recipes, 'compile_pays', lambda *args: pays)
    monkeypatch.setattr(recipes, 'cifar_learner', lambda *args, compile, **kw: asked.append(compile) or cifar_learner(*args, **kw))
    run = train(Recipe(epochs=1, **small), source, tmp_path/'run', device='cpu')
    assert asked==[pays] and json.loads((run/'config.json').read_text())['compile'] is pays and ('compiling the network' in log(run))==pays
    (run/'metrics.json').unlink()
    monkeypatch.setattr(recipes, 'compile_pays', lambda *args: not pays)
    resume(run, source, 'cpu')
    train(Recipe(epochs=1, **small), source, tmp_path/'chosen', device='cpu', compile=pays)
    assert asked==[pays]*3

def test_compile_is_checked(source, tmp_path):
    with pytest.raises(InputError, match="compile is 'on': it must be True, False or 'auto'"): train(Recipe(**small), source, tmp_path/'run', device='cpu', compile='on')
    assert not (tmp_path/'run').exists()

@pytest.mark.slow # a minute or two: pytest -m slow tests/test_runs.py
def test_a_narrow_network_is_compiled(source, tmp_path):
    run = train(Recipe(epochs=1, bs=100, model_kw=dict(width=8), precision='fp32'), source, tmp_path/'run', device='cpu', compile=True)
    assert json.loads((run/'config.json').read_text())['compile'] is True and metrics(run)['completed']
    assert metrics(run)['final']['valid_correct']==measured(run, source)
