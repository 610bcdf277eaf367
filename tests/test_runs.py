"Run folders: weights that travel, what a run left, one run at a time, checkpoints"
import errno, json, os, warnings
from functools import partial
from pathlib import Path

import pytest
from fastai.vision.all import Callback, EarlyStoppingCallback, load_learner, MixUp, ReduceLROnPlateau, set_seed, torch

from cifar_fastai.callbacks import EMA
from cifar_fastai.core import InputError, write_json, writing_to
from cifar_fastai.data import cifar_dls
from cifar_fastai.learner import cifar_learner
from cifar_fastai.recipes import make_recipe, Recipe
from cifar_fastai.checkpoints import Checkpoint, resume_from
from cifar_fastai.runs import free_folder, lock_folder, Run
from cifar_fastai.train import resume, train
from parts import part

results = Path(__file__).resolve().parents[1]/'results'
small = dict(bs=50, model_kw=dict(width=8), precision='fp32')

# ---- what a run left

@pytest.mark.parametrize('folder', [o.parent for o in results.glob('*/config.json')], ids=lambda o: o.name)
def test_a_folder_of_an_earlier_version_is_read(folder):
    run = Run(folder)
    assert (
        run.state == f'complete, {run.recipe.epochs} epochs'
        and run.valid_name == 'test'
        and run.validated_on == 'the test images'
    )
    assert run.validated == (run.history[-1]['valid_correct'], 1000) and run.facts()['test accuracy'].endswith(
        'of 1,000)'
    )
    assert f'custom, {run.state}' in repr(run) and run._repr_markdown_().startswith('|')

def test_views_of_an_earlier_version_have_the_names_of_today():
    assert [*Run(results/'runs/plain-valid_every-5/seed-0').metrics['tta']]==['flip', 'flip_translate']

def test_recipes_and_configs_of_earlier_versions_are_resumed(source, tmp_path):
    "They have no `n_valid`, no `cbs`, and no way of compiling"
    run = train(Recipe(epochs=1, **small), source, tmp_path/'run', device='cpu')
    c = json.loads((run/'config.json').read_text())
    del c['recipe']['n_valid'], c['recipe']['cbs'], c['compile']
    c['recipe'].update(
        start=c['recipe'].pop('init'),
        sizes=c['recipe'].pop('progressive_sizes'),
        ema=None,
        mixup=0.0,
        lookahead=False,
    )
    assert make_recipe(c['recipe'])==Recipe(epochs=1, **small)
    write_json(run/'config.json', c)
    (run/'metrics.json').unlink()
    assert Run(run).recipe.n_valid is None and Run(run).state=='not finished, 1 of 1 epoch done'
    resume(run, source, 'cpu')
    assert Run(run).metrics['completed']

@pytest.mark.parametrize(
    'metrics,epochs,state',
    [
        (dict(completed=True), 1, 'complete, 1 epoch'),
        (dict(completed=False), 3, 'stopped after 1 of 3 epochs'),
        (dict(completed=True), 3, 'complete, ended early after 1 of 3 epochs'),
        (None, 3, 'not finished, 1 of 3 epochs done'),
    ],
    ids=str,
)
def test_the_state_says_how_far_a_run_came(metrics, epochs, state, run_dir, tmp_path):
    c = json.loads((run_dir/'config.json').read_text())
    write_json(tmp_path/'config.json', {**c, 'recipe': {**c['recipe'], 'epochs': epochs}})
    (tmp_path/'history.csv').write_text((run_dir/'history.csv').read_text())
    if metrics: write_json(tmp_path/'metrics.json', metrics)
    run = Run(tmp_path)
    assert run.state==state and len(run.diagnosis)>=3 and run.validated[1]==50

def test_a_source_of_other_images_is_refused(run_dir, source):
    assert Run(run_dir).source().fingerprint==Run(run_dir).source(source).fingerprint==source.fingerprint
    with pytest.raises(InputError, match='of shapes.* are not those of the run'): Run(run_dir).source(part(source, slice(100)))

def test_an_exported_learner_is_loaded_by_fastai(source, tmp_path):
    "fastai's own way, for those who trust the file: the exported learner holds none of the data"
    learn = cifar_learner(cifar_dls(source, bs=50, device='cpu'), model_kw=dict(width=8))
    learn.path = tmp_path
    learn.export('learner.pkl')
    assert (tmp_path/'learner.pkl').stat().st_size<3_000_000
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        again = load_learner(tmp_path/'learner.pkl')
    with again.no_bar(), learn.no_bar(): a,b = (o.predict(source.x[7]) for o in (again, learn))
    assert a[0]==b[0] and torch.allclose(a[2], b[2], atol=1e-6)

# ---- a new run

@pytest.fixture
def dls(source): return cifar_dls(source, bs=50, device='cpu')

def test_a_new_run_is_locked_and_leaves_no_lock(dls, tmp_path):
    with Run.create(Recipe(), dls, tmp_path/'run', lr=0.1) as run:
        assert (run.path/'.lock').exists() and run.config['lr']==0.1 and run.recipe==Recipe()
        with pytest.raises(InputError, match='in use by this process'), lock_folder(run.path): pass
    assert [o.name for o in (tmp_path/'run').iterdir()]==['config.json']

def test_a_new_run_has_the_name_of_its_recipe(dls, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for recipe,name in ((Recipe(name='mine'), 'mine'), (Recipe(), 'resnet18')):
        with Run.create(recipe, dls, lr=0.1) as run: assert str(run.path).startswith(f'runs/{name}-{dls.source.name}-')
    monkeypatch.setattr('time.strftime', lambda *args: 'now')
    names = []
    for _ in range(3):
        with Run.create(Recipe(), dls, lr=0.1) as run:
            names.append(run.path.name.removeprefix(f'resnet18-{dls.source.name}-'))
    assert names==['now', 'now-2', 'now-3']

def test_leftovers_of_a_killed_run_take_no_folder(dls, tmp_path):
    for o in ('.lock','.config.json.ab12.tmp'): (tmp_path/o).write_text('')
    assert free_folder(tmp_path, '')==tmp_path
    with Run.create(Recipe(), dls, tmp_path, lr=0.1): pass
    assert [o.name for o in tmp_path.iterdir()]==['config.json']
    with pytest.raises(InputError, match='not empty'), Run.create(Recipe(), dls, tmp_path, lr=0.1): pass

def test_a_full_disk_is_said_in_a_line(dls, tmp_path):
    with (
        Run.create(Recipe(), dls, tmp_path / 'run', lr=0.1) as run,
        pytest.raises(InputError, match='No space left on device'),
        writing_to(run.path),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

def test_the_log_of_a_run_is_what_was_printed(dls, tmp_path, capsys):
    run = train(Recipe(epochs=2, **small), dls.source, tmp_path/'run', device='cpu')
    lines = (run/'log.txt').read_text().splitlines()
    assert len(lines)==3 and lines[0].startswith('resnet18 (') and lines[2].startswith('epoch 2/2 ')
    assert '\n'.join(lines) in capsys.readouterr().out

# ---- checkpoints

class CutOff(Callback):
    def before_batch(self):
        if self.epoch==2 and self.iter==2: raise KeyboardInterrupt

def fit(source, path=None, cut=False, resumed=False, cbs=(), seed=0):
    set_seed(seed)
    learn = cifar_learner(
        cifar_dls(source, 'crop_flip', bs=50, device='cpu'),
        opt='adamw',
        cbs=[o() for o in cbs],
        model_kw=dict(width=8, dropout=0.1),
    )
    more = [*([Checkpoint(path)] if path else []), *([CutOff()] if cut else [])]
    with learn.no_bar(), learn.no_logging():
        if not resumed: learn.fit_one_cycle(4, 1e-2, cbs=more)
        else:
            with resume_from(learn, path): learn.fit_one_cycle(4, 1e-2, cbs=more)
    return learn

# no epoch is better by 9: the rate falls after each
watch = [partial(ReduceLROnPlateau, 'train_loss', patience=1, min_delta=9.), partial(EarlyStoppingCallback, patience=9)]
@pytest.mark.parametrize('cbs', [[EMA, *watch], [MixUp]], ids=['averages','mixup'])
def test_a_resumed_fit_ends_like_one_that_was_not_cut_off(cbs, source, tmp_path):
    whole = fit(source, cbs=cbs)
    with pytest.raises(KeyboardInterrupt): fit(source, tmp_path/'last.pt', cut=True, cbs=cbs)
    rest = fit(source, tmp_path/'last.pt', resumed=True, cbs=cbs, seed=5)
    for a,b in zip(whole.model.state_dict().values(), rest.model.state_dict().values()): assert torch.equal(a, b)
    assert whole.history.lrs==rest.history.lrs and whole.history.momenta==rest.history.momenta
    assert [list(o)[:3] for o in whole.recorder.values]==[list(o)[:3] for o in rest.recorder.values]
    assert list(map(float, whole.recorder.losses))==list(map(float, rest.recorder.losses))

@pytest.mark.parametrize(
    'make,message',
    [
        (lambda f: None, 'No such file'),
        (lambda f: f.write_bytes(b'no'), 'cannot be read'),
        (lambda f: torch.save([1], f), 'of another version, or none'),
    ],
    ids=['missing', 'text', 'list'],
)
def test_what_is_no_checkpoint_is_refused(make, message, source, tmp_path):
    make(tmp_path/'bad.pt')
    with pytest.raises(InputError, match=message): fit(source, tmp_path/'bad.pt', resumed=True)

@pytest.fixture(scope='module')
def checkpoint(source, tmp_path_factory):
    "Of a fit of four epochs"
    path = tmp_path_factory.mktemp('fit')/'last.pt'
    fit(source, path, cbs=[EMA])
    return path

@pytest.mark.parametrize(
    'kw,n,message',
    [
        ({}, 2, 'whose epochs is 4, and here 2'),
        (dict(model_kw=dict(width=4)), 4, 'whose stem.0.weight is 8x3x3x3, and here 4x3x3x3'),
        (dict(opt='sgd'), 4, 'whose optimizer is AdamW, and here SGD'),
        (dict(cbs=[]), 4, 'whose callbacks is ema, and here none'),
        (dict(few=True), 4, 'whose data is '),
    ],
    ids=['epochs', 'width', 'optimizer', 'callbacks', 'data'],
)
def test_a_checkpoint_of_another_run_is_refused(kw, n, message, checkpoint, source):
    kw = {**dict(opt='adamw', model_kw=dict(width=8), cbs=EMA), **kw}
    src = part(source, slice(-10)) if kw.pop('few', False) else source
    learn = cifar_learner(cifar_dls(src, bs=50, device='cpu'), **kw)
    with pytest.raises(InputError, match=message), learn.no_bar(), learn.no_logging(), resume_from(learn, checkpoint):
        learn.fit(n)
