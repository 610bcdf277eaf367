"What the tests share: no network, small generated data, a trained run, and commands run in this process."
import os, signal
signal.signal(signal.SIGINT, signal.default_int_handler) # a shell switches Ctrl-C off in what it runs in the background
os.environ.setdefault('MPLBACKEND', 'Agg')
if 'PYTEST_XDIST_WORKER' in os.environ: os.environ.setdefault('OMP_NUM_THREADS', '1') # processes side by side
import offline
offline.block() # before the package is imported
import pytest
from hypothesis import settings
from matplotlib.layout_engine import ConstrainedLayoutEngine
from cifar_fastai import core # what takes seconds to import is imported where it is used

# the same examples each time: a failure is found again
settings.register_profile('same', derandomize=True, deadline=None, database=None)
settings.load_profile('same')

core._patience = 600. # so that a slow machine says no more than a fast one
arrange = ConstrainedLayoutEngine.execute
ConstrainedLayoutEngine.execute = lambda self, fig: None # half of the time of a figure

@pytest.fixture
def arranged(monkeypatch):
    "Figures whose parts are where a reader sees them"
    monkeypatch.setattr(ConstrainedLayoutEngine, 'execute', arrange)

@pytest.fixture(autouse=True)
def no_network():
    "A test that tried to reach the network fails, even where the attempt was caught"
    before = len(offline.tried)
    yield
    assert len(offline.tried)==before, f'the network was tried: {offline.tried[before:]}'

@pytest.fixture(scope='session')
def data_dir(tmp_path_factory):
    from cifar_fastai.shapes import shapes10
    return shapes10(tmp_path_factory.mktemp('data')/'shapes', n_train=200, n_test=50)

@pytest.fixture(scope='session')
def source(data_dir):
    from cifar_fastai.sources import load_source
    return load_source(data_dir)

@pytest.fixture(scope='session')
def run_dir(source, tmp_path_factory):
    from cifar_fastai.recipes import Recipe
    from cifar_fastai.train import train
    recipe = Recipe(epochs=1, bs=50, model_kw=dict(width=8))
    return train(recipe, source, tmp_path_factory.mktemp('runs')/'run', device='cpu')
