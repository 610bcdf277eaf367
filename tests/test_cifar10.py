"All of CIFAR-10, where it is: set CIFAR_FASTAI_DATA to a folder or archive of it."
import os, time
import numpy as np, pytest
from cifar_fastai.sources import cifar10_vocab, load_source
from cifar_fastai.data import cifar_dls, measure_stats, source_stats, split_idxs
from cifar_fastai.augment import cifar10_mean, cifar10_std

pytestmark = pytest.mark.skipif(not os.environ.get('CIFAR_FASTAI_DATA'), reason='CIFAR_FASTAI_DATA is not set')

@pytest.fixture(scope='module')
def cifar(): return load_source()

def test_whole(cifar):
    assert cifar.x.shape==(60000,32,32,3) and cifar.x.dtype==np.uint8 and cifar.y.dtype==np.int64
    assert tuple(cifar.vocab)==cifar10_vocab and cifar.is_cifar10
    assert np.bincount(cifar.y[~cifar.is_valid]).tolist()==[5000]*10 and np.bincount(cifar.y[cifar.is_valid]).tolist()==[1000]*10

def test_second_start_gives_the_same(cifar):
    again = load_source()
    assert again.fingerprint==cifar.fingerprint and np.array_equal(again.x, cifar.x)

def test_statistics(cifar):
    mean,std = measure_stats(cifar.x[~cifar.is_valid])
    assert np.allclose(mean, cifar10_mean, atol=2e-3) and np.allclose(std, cifar10_std, atol=3e-3)
    assert source_stats(cifar)==(cifar10_mean, cifar10_std)

def test_batches(cifar):
    dls = cifar_dls(cifar, bs=128, valid=0.1, device='cpu')
    assert len(dls.train_ds)==45000 and len(dls.valid_ds)==5000
    xb,yb = dls.one_batch()
    assert xb.shape==(128,3,32,32) and abs(float(xb.mean()))<0.3 and 0.7<float(xb.std())<1.3
