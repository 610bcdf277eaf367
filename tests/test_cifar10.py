"""CIFAR-10 itself, where it is: set CIFAR_FASTAI_DATA to a folder or an archive of it.

Its other layouts are written and read by: python -m pytest -m slow tests/test_cifar10.py
CIFAR_FASTAI_COPY names a copy with other pixels, in folders train/<class>/* and test/<class>/*, for the tests of one.
"""
import io, json, os, pickle, tarfile
from pathlib import Path
import numpy as np, pytest
from PIL import Image
from cifar_fastai.sources import _batch_names, cifar10_vocab, load_source, source_title
from cifar_fastai.data import cifar_dls, measure_stats, source_stats
from cifar_fastai.augment import cifar10_mean, cifar10_std
from cifar_fastai.learner import cifar_learner
from cifar_fastai.history import describe

@pytest.fixture(scope='module')
def cifar():
    "CIFAR-10 as published"
    if not os.environ.get('CIFAR_FASTAI_DATA'): pytest.skip('CIFAR_FASTAI_DATA is not set')
    src = load_source()
    if not src.is_cifar10: pytest.skip('CIFAR_FASTAI_DATA is not of the published pixels')
    return src

@pytest.fixture(scope='module')
def copy():
    "A copy of CIFAR-10 with other pixels, as folders"
    if not os.environ.get('CIFAR_FASTAI_COPY'): pytest.skip('CIFAR_FASTAI_COPY is not set')
    return load_source(os.environ['CIFAR_FASTAI_COPY'])

def check_whole(src):
    "`src` has the numbers of CIFAR-10"
    assert src.x.shape==(60000,32,32,3) and src.x.dtype==np.uint8 and src.y.dtype==np.int64 and src.vocab==cifar10_vocab
    assert (
        np.bincount(src.y[~src.is_valid]).tolist() == [5000] * 10
        and np.bincount(src.y[src.is_valid]).tolist() == [1000] * 10
    )


def test_whole(cifar):
    "All images are there, and are called CIFAR-10"
    check_whole(cifar)
    assert source_title(cifar)=='CIFAR-10' and cifar.name=='cifar10'

def test_a_run_says_so(cifar):
    "The first line of a run's log calls the images CIFAR-10, however few are trained on"
    learn = cifar_learner(cifar_dls(cifar, bs=100, n_train=1000, device='cpu'), model_kw=dict(width=8))
    assert '1,000 training and 10,000 validation images of CIFAR-10, batches of 100' in describe(learn)

@pytest.mark.parametrize('changed', ['pixel','label','split'])
def test_not_the_published_ones(cifar, changed):
    "One other pixel, label or image of the test set, and it is not CIFAR-10"
    x,y,valid = cifar.x.copy(),cifar.y.copy(),cifar.is_valid.copy()
    if changed=='pixel': x[7,3,3,0] ^= 1
    if changed=='label': y[7] = (y[7]+1)%10
    if changed=='split': valid[[0,-1]] = valid[[-1,0]]
    assert type(cifar)(x, y, cifar.vocab, valid).is_cifar10 is False

def test_second_start_gives_the_same(cifar):
    "From the disk cache come the same images, known as CIFAR-10"
    again = load_source()
    assert again.fingerprint==cifar.fingerprint and np.array_equal(again.x, cifar.x) and again.is_cifar10 is True

def test_statistics(cifar):
    "The constants are the statistics of the published training images"
    mean,std = measure_stats(cifar.x[~cifar.is_valid])
    assert np.allclose(mean, cifar10_mean, atol=1e-4) and np.allclose(std, cifar10_std, atol=1e-4)
    assert source_stats(cifar)==(cifar10_mean, cifar10_std)

def test_batches(cifar):
    "Batches are normalized, and a tenth is held out"
    dls = cifar_dls(cifar, bs=128, valid=0.1, device='cpu')
    assert len(dls.train_ds)==45000 and len(dls.valid_ds)==5000
    xb,yb = dls.one_batch()
    assert xb.shape==(128,3,32,32) and abs(float(xb.mean()))<0.3 and 0.7<float(xb.std())<1.3

def test_a_copy(copy):
    "A copy with other pixels is whole, and is not called CIFAR-10"
    check_whole(copy)
    assert copy.is_cifar10 is False and source_title(copy).endswith('(not the published pixels)')
    assert source_stats(copy)==measure_stats(copy.x[~copy.is_valid])

def test_the_records_were_made_with_these_images(cifar):
    "In the order of the official batches the images have the fingerprint that the records name"
    if cifar.path.name != 'cifar-10-batches-py':
        pytest.skip('CIFAR_FASTAI_DATA is not the folder of the official batches')
    records = [json.loads(o.read_text()) for o in (Path(__file__).parents[1]/'results').glob('*.json')]
    named = {
        r['source']['fingerprint']
        for r in records
        if isinstance(r.get('source'), dict) and r['source'].get('is_cifar10')
    }
    assert named=={cifar.fingerprint}

@pytest.mark.slow
def test_png_folders(cifar, tmp_path):
    "As PNG folders train/<class>/*.png and test/<class>/*.png it is known too: writes and reads 60,000 files, a minute"
    for split in ('train','test'):
        for c in cifar10_vocab: (tmp_path/'png'/split/c).mkdir(parents=True)
    for i,(x,y,v) in enumerate(zip(cifar.x, cifar.y, cifar.is_valid)):
        c = cifar10_vocab[y]
        Image.fromarray(x).save(tmp_path/'png'/('test' if v else 'train')/c/f'{i}_{c}.png', compress_level=1)
    src = load_source(tmp_path/'png', cache=False)
    check_whole(src)
    assert src.is_cifar10 is True and src.name=='cifar10'
    Image.fromarray(src.x[0]^1).save(src.items[0])
    assert load_source(tmp_path/'png', cache=False).is_cifar10 is False

@pytest.mark.slow
def test_archive(cifar, tmp_path):
    "As a tar.gz of official batches it is known too: half a minute"
    data,labels = cifar.x.transpose(0,3,1,2).reshape(-1,3072),cifar.y.tolist()
    with tarfile.open(tmp_path/'c.tar.gz', 'w:gz', compresslevel=1) as tar:
        for i,name in enumerate(_batch_names):
            part = slice(10_000*i, 10_000*(i+1))
            raw = pickle.dumps(dict(data=data[part], labels=labels[part]), protocol=2)
            info = tarfile.TarInfo(f'cifar-10-batches-py/{name}')
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
    src = load_source(tmp_path/'c.tar.gz', cache=False)
    check_whole(src)
    assert src.is_cifar10 is True and src.fingerprint==cifar.fingerprint
