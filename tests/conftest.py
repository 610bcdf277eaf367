"What the tests share: small generated data, and commands run in this process."
import os
os.environ.setdefault('MPLBACKEND', 'Agg')
import pytest
from cifar_fastai.shapes import shapes10
from cifar_fastai.sources import load_source

@pytest.fixture(scope='session')
def data_dir(tmp_path_factory): return shapes10(tmp_path_factory.mktemp('data')/'shapes', n_train=200, n_test=50)

@pytest.fixture(scope='session')
def source(data_dir): return load_source(data_dir)
