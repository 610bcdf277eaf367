"What the tests share: no network, small generated data, a trained run, and commands run in this process."
import os
os.environ.setdefault('MPLBACKEND', 'Agg')
import offline
offline.block() # before the package is imported
import pytest
from hypothesis import settings
from cifar_fastai import core
from cifar_fastai.recipes import Recipe
from cifar_fastai.train import train
from cifar_fastai.shapes import shapes10
from cifar_fastai.sources import load_source

# the same examples each time: a failure is found again
settings.register_profile('same', derandomize=True, deadline=None, database=None)
settings.load_profile('same')

core._patience = 600. # so that a slow machine says no more than a fast one

@pytest.fixture(autouse=True)
def no_network():
    "A test that tried to reach the network fails, even where the attempt was caught"
    before = len(offline.tried)
    yield
    assert len(offline.tried)==before, f'the network was tried: {offline.tried[before:]}'

@pytest.fixture(scope='session')
def data_dir(tmp_path_factory): return shapes10(tmp_path_factory.mktemp('data')/'shapes', n_train=200, n_test=50)

@pytest.fixture(scope='session')
def source(data_dir): return load_source(data_dir)

@pytest.fixture(scope='session')
def run_dir(source, tmp_path_factory):
    return train(
        Recipe(epochs=1, bs=50, model_kw=dict(width=8)), source, tmp_path_factory.mktemp('runs') / 'run', device='cpu'
    )
