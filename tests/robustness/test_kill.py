"""A run that is killed at any moment and resumed ends as one that was never interrupted: the same weights, bit for
bit, and the same history."""
import csv, hashlib, json, os, platform, random, shutil, sys, time
from collections import Counter
from pathlib import Path
import pytest
from cifar_fastai.core import write_json
from cifar_fastai.shapes import shapes10
from forked import Forks

pytestmark = pytest.mark.skipif(sys.platform!='linux', reason='kills by /proc and fork')
common = dict(bs=25, precision='fp32', epochs=4, model_kw=dict(width=8, dropout=0.1))
averages = dict(ema=dict(decay=0.9), mixup=dict(alpha=0.2))
stops = dict(early_stop=dict(patience=3), penalty=dict(l1=1e-5))
recipes = {
    'averages': (
        dict(
            policy='crop4+cutout12',
            progressive_sizes=[16, 24, 32],
            init='whiten',
            opt='muon',
            sched='linear',
            tta='flip',
            valid_every=2,
            cbs=averages,
            **common,
        ),
        [],
    ),
    'plateau': (
        dict(
            policy='crop_flip',
            valid=0.2,
            opt='sgd',
            lr=0.5,
            sched='plateau',
            sched_kw=dict(patience=1, factor=2),
            cbs=stops,
            **common,
        ),
        ['--workers', '1'],
    ),
}

@pytest.fixture(scope='module')
def forks():
    with Forks() as f: yield f

@pytest.fixture(scope='module')
def images(tmp_path_factory): return shapes10(tmp_path_factory.mktemp('images')/'set', n_train=100, n_test=20)

class Lives:
    "Runs of one recipe: `whole` is never interrupted, the others are to end like it"
    def __init__(self, forks, images, tmp, recipe):
        self.forks,self.images,self.tmp = forks,images,tmp
        self.n,self.kills,self.found = 0,0,Counter()
        self.fields,options = recipes[recipe]
        write_json(tmp/'recipe.json', self.fields)
        self.recipe = ['--recipe', str(tmp/'recipe.json'), '--device', 'cpu', *options]
        self.whole = self.new('whole')
        code,self.seconds = self.process(self.whole)
        assert code==0, (tmp/'log').read_text()
        assert self.process(self.whole)[0]==2 # there is nothing to resume
    def new(self, name=None):
        self.n += 1
        return self.tmp/(name or f'run-{self.n}')

    def process(self, run, copies=None, **kw):
        "Start the run, or resume it; its exit code (those of `copies` processes at once) and seconds"
        begun,f = (run/'config.json').exists(),self.forks.run_copies if copies else self.forks.run
        argv = [
            *(['--resume', run] if begun else ['--source', self.images, '--run-dir', run, *self.recipe]),
            '--no-report',
        ]
        return f(
            argv,
            self.tmp / 'log',
            env=dict(FASTAI_HOME=str(self.tmp / 'home')),
            **(dict(copies=copies) if copies else {}),
            **kw,
        )

    def kill(self, run, **kw):
        "Is the run killed at this moment? False if it ended before, also where its process was killed on its way out"
        ended = (run/'metrics.json').exists() and not (run/'checkpoint').exists()
        code,_ = self.process(run, **kw)
        assert code in ((2,-9) if ended else (0,-9)), (kw, (self.tmp/'log').read_text()[-2000:])
        if code==-9: self.kills += 1; self.found[self.state(run)] += 1
        return code==-9

    def state(self, run):
        if not (run/'config.json').exists(): return 'before the run folder was begun'
        if (run/'metrics.json').exists(): return 'while tidying up'
        if (run/'model.safetensors').exists(): return 'while the run folder was finished'
        return 'after a checkpoint' if (run/'checkpoint/last.pt').exists() else 'before the first checkpoint'

    def check(self, run):
        "Has `run` ended like the one never interrupted?"
        metrics = lambda p: {
            k: v for k, v in json.loads((p / 'metrics.json').read_text()).items() if k not in ('seconds', 'final')
        }
        names = lambda p: sorted(str(o.relative_to(p)) for o in p.rglob('*'))
        assert names(run)==names(self.whole)
        assert history(run)==history(self.whole)
        assert (
            hashlib.sha256((run / 'model.safetensors').read_bytes()).digest()
            == hashlib.sha256((self.whole / 'model.safetensors').read_bytes()).digest()
        )
        assert metrics(run)==metrics(self.whole)
        assert (run/'model.json').read_bytes()==(self.whole/'model.json').read_bytes()

def history(run):
    with (run / 'history.csv').open() as f:
        return [{k: v for k, v in r.items() if k not in ('seconds', 'img_per_s')} for r in csv.DictReader(f)]


def die_at(lives, rng, n):
    "Kill runs at `n` random moments, each run up to four times, and let it end"
    while lives.kills<n:
        run = lives.new()
        for _ in range(4):
            if not lives.kill(run, kill_after=rng.uniform(0, 0.8*lives.seconds)): break
        else: assert not lives.kill(run)
        lives.check(run)
        shutil.rmtree(run)

@pytest.mark.parametrize('recipe', recipes)
def test_killed_at_random(recipe, forks, images, tmp_path):
    lives = Lives(forks, images, tmp_path, recipe)
    die_at(lives, random.Random(0), 10)
    assert lives.kills>=10

moments = [ # each process of one run dies at its moment, the next resumes
    dict(event='writing', file='.set-*.npz.*'), # the cache of the source
    dict(event='replaced', file='set-*.npz'),
    dict(event='writing', file='.config.json.*'),
    dict(event='written', file='config.json'),
    dict(event='replaced', file='config.json'),
    dict(event='step', epoch=0, batch=2),
    dict(event='written', file='last.pt'),
    dict(event='replaced', file='last.pt'), # from here on there is a checkpoint
    dict(event='step', epoch=1, batch=0),
    dict(event='validation', epoch=1),
    dict(event='written', file='history.csv'),
    dict(event='replaced', file='history.csv', n=2),
    dict(event='writing', file='.last.pt.*', n=2),
    dict(event='written', file='last.pt'),
    dict(event='writing', file='.model.safetensors.*'),
    dict(event='replaced', file='model.safetensors'),
    dict(event='written', file='history.png'),
    dict(event='written', file='metrics.json'),
    dict(event='replaced', file='metrics.json'),
    dict(event='removed', file='last.pt')]

def test_killed_at_chosen_moments(forks, images, tmp_path):
    lives = Lives(forks, images, tmp_path, 'averages')
    shutil.rmtree(tmp_path/'home')
    run = lives.new()
    for m in moments: assert lives.kill(run, aim=m), m
    assert lives.process(run)[0]==0 # was complete but for its checkpoint
    lives.check(run)
    assert set(lives.found) == {
        'before the run folder was begun',
        'before the first checkpoint',
        'after a checkpoint',
        'while the run folder was finished',
        'while tidying up',
    }, lives.found


def test_two_at_once(forks, images, tmp_path):
    "Of two processes that start or resume one run at the same time, one does it and the other says why not, in a line"
    lives = Lives(forks, images, tmp_path, 'averages')
    run = lives.new()
    (tmp_path/'log').unlink()
    # the one that trains dies in its second epoch
    codes,_ = lives.process(run, copies=2, aim=dict(event='step', epoch=1, batch=1))
    assert sorted(codes)==[-9,2], codes
    codes,_ = lives.process(run, copies=3)
    assert sorted(codes)==[0,2,2], codes
    lives.check(run)
    said = [l for l in (tmp_path/'log').read_text().splitlines() if 'error' in l]
    assert len(said)==3 and all(' is in use by ' in l or ' not empty' in l or 'is complete' in l for l in said), said

@pytest.mark.slow
def test_killed_a_hundred_times(forks, images, tmp_path):
    "Writes `results/kills.json`"
    start,rec = time.time(),{}
    for recipe in recipes:
        (tmp_path/recipe).mkdir()
        lives = Lives(forks, images, tmp_path/recipe, recipe)
        die_at(lives, random.Random(1), 50)
        rec[recipe] = dict(
            recipe=lives.fields,
            seconds_uninterrupted=round(lives.seconds, 2),
            kills=lives.kills,
            runs_resumed_to_the_end=lives.n - 1,
            found=dict(lives.found),
        )
    import torch, fastai
    write_json(
        Path(__file__).parents[2] / 'results/kills.json',
        dict(
            what='SIGKILL at random moments of tiny runs, each resumed to its end: weights, history, metrics and '
                 'files equal those of a run never interrupted',
            command='pytest -m slow tests/robustness/test_kill.py',
            kills=sum(o['kills'] for o in rec.values()),
            survived=sum(o['kills'] for o in rec.values()),
            seed=1,
            data='shapes10, 100 training and 20 test images',
            recipes=rec,
            seconds=round(time.time() - start),
            cores=os.cpu_count(),
            versions=dict(python=platform.python_version(), torch=torch.__version__, fastai=fastai.__version__),
        ),
    )
