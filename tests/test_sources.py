"One form for images from anywhere: folders, the official files, the disk cache; and which images are CIFAR-10."
import os, pickle, shutil, sys, tarfile
from pathlib import Path
from types import SimpleNamespace
import numpy as np, pytest
from fastai.data import external
from PIL import Image
from cifar_fastai import sources
from cifar_fastai.core import InputError, data_home
from cifar_fastai.sources import Source, cifar10_vocab, load_source, source_title

def picture(seed, w=32, h=32):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8))


def draw_folder(root, classes, n, w=32, h=32, suffix='png'):
    "Draw `n` pictures in each `root/class`"
    for j,c in enumerate(classes):
        (Path(root)/c).mkdir(parents=True, exist_ok=True)
        for i in range(n): picture(1000*j+i, w, h).save(Path(root)/c/f'{i}.{suffix}')
    return Path(root)

def draw_batch(n, seed=0):
    "The dict of an official batch file"
    r = np.random.default_rng(seed)
    return dict(
        batch_label='drawn', labels=r.integers(0, 10, n).tolist(), data=r.integers(0, 256, (n, 3072), dtype=np.uint8)
    )


def draw_official(folder):
    folder.mkdir(parents=True)
    for i,o in enumerate(sources._batch_names): (folder/o).write_bytes(pickle.dumps(draw_batch(20, i), 2))
    return folder

def quiet(src=None, **kw): return load_source(src, verbose=False, **kw)
def fails(msg, src, **kw):
    with pytest.raises(InputError) as e: quiet(src, **kw)
    assert msg in str(e.value) and '\n' not in str(e.value), str(e.value)

@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    "A folder to work in, and a home of its own for data and cache"
    monkeypatch.setenv('FASTAI_HOME', str(tmp_path/'home'))
    monkeypatch.delenv('CIFAR_FASTAI_DATA', raising=False)
    external.fastai_cfg.cache_clear()
    (tmp_path/'work').mkdir(); monkeypatch.chdir(tmp_path/'work')
    yield tmp_path/'work'
    external.fastai_cfg.cache_clear()

@pytest.fixture
def pets(): return draw_folder('pets', ['cat','dog','fox'], 12, 60, 45)

# ---- Source

shades = np.repeat(np.arange(0, 240, 6, dtype=np.uint8), 32*32*3).reshape(-1,32,32,3)
def toy(**kw): return Source(**{**dict(
    x=shades, y=[0]*20+[1]*20, vocab=['dark','light'], is_valid=[False,False,False,True]*10, name='shades'), **kw})

@pytest.mark.parametrize('kw', [
    dict(is_valid=[True]*40), dict(vocab=['a','b']), dict(y=[1]*40), dict(x=255-shades)], ids=lambda o: list(o)[0])
def test_fingerprint_changes_with_anything_it_covers(kw): assert toy(**kw).fingerprint!=toy().fingerprint

def test_arrays_are_read_only():
    s = toy()
    for o in (s.x, s.y, s.is_valid):
        with pytest.raises(ValueError, match='read-only'): o[0] = 1
    assert shades.flags.writeable # the array that was given is its owner's

def test_source_shows_itself():
    assert (
        'dark' in toy()._repr_markdown_()
        and repr(toy()) == 'shades: 30 training and 10 validation images of 2 classes, 32x32'
    )


# ---- which images are CIFAR-10

def digest(s): return sources._content_digest(s.x, s.y, s.vocab, s.is_valid)
x = np.random.default_rng(0).integers(0, 256, (30,32,32,3), dtype=np.uint8)
def ten(**kw): return Source(**{**dict(
    x=x, y=[0,1,2]*10, vocab=cifar10_vocab, is_valid=[False]*20+[True]*10, name='ten'), **kw})

def test_content_digest_is_the_same_in_any_order():
    at = np.random.default_rng(1).permutation(30)
    mixed = ten(x=ten().x[at], y=ten().y[at], is_valid=ten().is_valid[at])
    assert digest(mixed)==digest(ten()) and mixed.fingerprint!=ten().fingerprint
    assert digest(ten(y=9-ten().y, vocab=cifar10_vocab[::-1]))==digest(ten())

@pytest.mark.parametrize(
    'kw', [dict(x=x ^ 1), dict(y=[2, 1, 0] * 10), dict(is_valid=[True] * 20 + [False] * 10)], ids=lambda o: list(o)[0]
)
def test_content_digest_changes_with_pixel_label_and_split(kw): assert digest(ten(**kw))!=digest(ten())

def black(n_valid=10_000, vocab=cifar10_vocab):
    "As many images as CIFAR-10 has, all black"
    return Source(
        np.broadcast_to(np.uint8(0), (60_000, 32, 32, 3)), np.arange(60_000) % 10, vocab, np.arange(60_000) < n_valid
    )


def test_cifar10_is_known_by_its_digest(monkeypatch):
    assert [black().is_cifar10, black(9_999).is_cifar10, black(vocab=list('abcdefghij')).is_cifar10]==[False,False,None]
    monkeypatch.setattr(sources, '_cifar10_digest', digest(black()))
    same = black()
    assert same.is_cifar10 is True and source_title(same)=='CIFAR-10' and black(9_999).is_cifar10 is False

@pytest.mark.parametrize('d,title', [
    (dict(name='x', is_cifar10=True), 'CIFAR-10'),
    (dict(name='x', is_cifar10=False), 'x (not the published pixels)'), (dict(name='x', is_cifar10=None), 'x'),
    (dict(name='cifar10'), 'cifar10'), (ten(), 'ten (not the published pixels)'), (toy(), 'shades')], ids=str)
def test_source_title(d, title): assert source_title(d)==title

# ---- folders

def test_unreadable_images_are_refused_or_left_out(pets):
    whole,bad = quiet(pets),pets/'cat/3.png'
    kept = bad.read_bytes()
    bad.write_text('an error page')
    s = quiet(pets, skip_bad=True)
    assert len(s)==35; fails('1 unreadable image in pets: cat/3.png (not an image)', pets)
    bad.unlink(); assert quiet(pets).fingerprint==s.fingerprint # as if it had not been there
    bad.write_bytes(kept); assert quiet(pets).fingerprint==whole.fingerprint
    os.symlink('gone.png', pets/'fox/link.png'); fails('fox/link.png (No such file', pets)

def test_every_bad_image_is_named_and_a_class_that_loses_all_is_refused():
    draw_folder('signs/train', ['stop','yield'], 8); draw_folder('signs/val', ['stop','yield'], 3)
    for i in range(8): Path(f'signs/train/stop/{i}.png').write_bytes(b'\x89PNG')
    fails('8 unreadable', 'signs')
    fails('stop/7.png', 'signs')
    fails('no training images of stop', 'signs', skip_bad=True)


def test_load_source_returns_a_source_as_it_is(pets):
    s = quiet(pets)
    assert quiet(s) is s and s.fingerprint==Source(s.x, s.y, s.vocab, s.is_valid).fingerprint

@pytest.mark.parametrize('bad', [
    '', 'http://x.org/a.tgz', '~nobody/x', 'x'*5000, 'a\0b', 3, np.zeros(3)], ids=lambda o: repr(o)[:20])
def test_load_source_refuses_what_is_nowhere(bad): fails('nothing at', bad)

@pytest.mark.parametrize('kw', [dict(size=0), dict(size=3.5)], ids=str)
def test_load_source_refuses_numbers_out_of_range(kw, pets): fails(f'{list(kw)[0]} is', pets, **kw)

def test_folders_that_cannot_be_trained_on_are_refused():
    Path('empty').mkdir(); fails('no images in class folders in empty', 'empty')
    draw_folder('one', ['cat'], 3); fails("one class, 'cat'", 'one')
    draw_folder('flat', [''], 3); fails('no images in class folders', 'flat')
    draw_folder('kaggle', ['train','test'], 3); fails('no images in class folders', 'kaggle')
    draw_folder('gap', ['a','b'], 3); Path('gap/c').mkdir(); fails('no training images of c', 'gap')

def test_splits_whose_classes_differ():
    d = draw_folder('differ/train', ['a','b'], 3).parent
    draw_folder('differ/test', ['a','c'], 2); fails('no training images of c', d)
    shutil.rmtree('differ/test/c')
    s = quiet(d)
    assert s.notes==['no validation images of b'] and s.y.tolist()==[0,0,0,1,1,1,0,0]

def test_what_is_no_image_does_no_harm():
    d = draw_folder('d/train', ['a','b'], 3).parent
    draw_folder('d/test', ['a','b'], 2)
    before = quiet(d).fingerprint
    others = 'train/.DS_Store train/a/Thumbs.db train/a/README train/b/.hidden.png labels.txt train/b/._0.png'
    for o in others.split(): (d/o).write_text('x')
    draw_folder('d/masks', ['a', 'b'], 1)
    draw_folder('d/train/.cache', [''], 1)
    draw_folder('d/train/a', ['deeper'], 1)
    assert quiet(d).fingerprint==before

def test_layouts_of_one_split():
    s = quiet(draw_folder('vehicles', ['bus','train'], 5)); assert s.vocab==('bus','train') and s.is_valid.sum()==2
    s = quiet(draw_folder('only/train', ['x10', 'x9', 'x1'], 4).parent)
    assert s.vocab == ('x1', 'x9', 'x10') and len(s.valid_idxs) == 3
    s = quiet(draw_folder('odd', ['a', 'b'], 4, suffix='JPG'))
    assert len(s.notes) == 1 and s.items[1] == Path('odd/a/1.JPG')
    assert quiet(draw_folder('tiny', ['a','b'], 1)).notes[-1]=='no validation images of a, b'
    assert len(quiet(draw_folder('big', ['a','b'], 3, 300, 300, 'bmp')))==6 # decoded by several threads

def test_class_names_of_cifar10_keep_its_order():
    d = draw_folder('c10/train', cifar10_vocab[::-1], 2).parent; draw_folder('c10/test', cifar10_vocab, 1)
    s = quiet(d)
    assert (
        s.vocab == cifar10_vocab
        and s.name == 'c10'
        and s.is_cifar10 is False
        and s.is_valid.tolist() == [False] * 20 + [True] * 10
    )
    assert [o.parent.name for o in s.items[:4]]==['airplane','airplane','automobile','automobile']
    picture(0, 200, 300).save('c10/test/cat/0.png'); picture(0, 20, 16).save('c10/test/dog/0.png')
    assert quiet(d).notes[0].startswith('resized 2 images to 32x32') and quiet(d, size=16).x.shape == (
        30,
        16,
        16,
        3,
    )


def test_a_third_split_is_not_used_and_that_is_said():
    for o,n in (('train',8),('val',3),('test',1)): draw_folder(f'signs/{o}', ['stop','yield'], n)
    s = quiet('signs')
    assert 'not used: test' in s.notes and len(s)==22

# ---- the official files

@pytest.mark.parametrize('proto', range(2,5))
def test_batches_are_read_in_later_protocols_too(proto):
    d = draw_batch(5)
    images,labels = sources._read_batch(pickle.dumps(d, proto), 'b')
    assert labels==d['labels'] and np.array_equal(images, d['data'].reshape(-1,3,32,32).transpose(0,2,3,1))

def test_a_batch_as_python_2_wrote_it():
    py2 = (
        b"\x80\x02}q\x01(U\x06labelsq\x02]q\x03(K\x03K\x09eU\x04dataq\x04cnumpy.core.multiarray\n_reconstruct\nq\x05"
        b"cnumpy\nndarray\nq\x06K\x00\x85U\x01b\x87Rq\x07(K\x01K\x02M\x00\x0c\x86cnumpy\ndtype\nq\x08U\x02u1K\x00K\x01\x87Rq\x09"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T\x00\x18\x00\x00"
        + bytes(range(256)) * 24
        + b"tbU\x0bbatch_labelU\x01xu."
    )
    images,labels = sources._read_batch(py2, 'python 2')
    assert labels==[3,9] and images[0,0,:3,0].tolist()==[0,1,2]

class Calls:
    def __init__(self, *a): self.a = a
    def __reduce__(self): return self.a

@pytest.mark.parametrize('o', [
    Calls(eval, ('1',)), Calls(getattr, (1,'real')), Calls(np.load, ('x',)), Calls(Path, ('x',)),
    {**draw_batch(5), 'labels': Calls(print, ('x',))}, Calls(exec, ('1',))], ids=range(6))
def test_a_batch_that_calls_something_is_refused(o):
    with pytest.raises(InputError, match='b is cut short'): sources._read_batch(pickle.dumps(o, 2), 'b')

d = draw_batch(5)
wrong = dict(
    label_beyond={**d, 'labels': [10]*5}, few_labels={**d, 'labels': [1]*4},
    text_labels={**d, 'labels': ['a']*5}, bool_labels={**d, 'labels': [True]*5},
    floats={**d, 'data': d['data'].astype(float)}, narrow={**d, 'data': d['data'][:,:9]},
    by_columns={**d, 'data': np.asfortranarray(d['data'])}, no_array={**d, 'data': None}, a_list=[], a_number=3,
    no_labels={'data': d['data']}, objects={**d, 'data': np.array([[object()]*3072])},
    no_images={**d, 'data': d['data'][:0], 'labels': []},
    dtype_as_labels={**d, 'labels': Calls(np.dtype, ('u1',))})
@pytest.mark.parametrize('o', wrong.values(), ids=wrong)
def test_a_batch_of_other_data_is_refused(o):
    with pytest.raises(InputError, match='b is cut short'): sources._read_batch(pickle.dumps(o, 2), 'b')

@pytest.mark.parametrize('part', [0, 1, 20, 0.5, -1], ids=str)
def test_a_cut_batch_is_refused(part):
    raw = pickle.dumps(draw_batch(5), 2)
    with pytest.raises(InputError, match='b is cut short'):
        sources._read_batch(raw[: int(len(raw) * part) if part == 0.5 else part], 'b')


def test_what_else_a_batch_asks_for_is_passed_over():
    "Nothing is carried out, and the images are read all the same"
    b = {'note': Calls(os.system, ('touch harm',)), **draw_batch(5), 'more': Calls(os.system, ('touch harm',))}
    images,labels = sources._read_batch(pickle.dumps(b, 2), 'b')
    assert labels==b['labels'] and len(images)==5 and not Path('harm').exists()

@pytest.fixture
def archive():
    "The official folder of drawn images in `data`, and the same as an archive"
    official = draw_official(Path('data/cifar-10-batches-py'))
    with tarfile.open('cifar-10-python.tar.gz', 'w:gz') as tar: tar.add(official, official.name)
    return Path('cifar-10-python.tar.gz')

def test_the_official_files_give_the_same_from_anywhere(archive):
    s,official = quiet('data'),Path('data/cifar-10-batches-py')
    assert (
        s.name == 'cifar10'
        and s.is_cifar10 is False
        and s.items[21] == (official / 'data_batch_2', 1)
        and s.valid_idxs[0] == 100
    )
    assert np.array_equal(s.x[20].transpose(2,0,1).ravel(), draw_batch(20, 1)['data'][0])
    assert quiet(official).fingerprint==s.fingerprint==quiet(archive).fingerprint
    assert quiet(official, size=24).x.shape==(120,24,24,3)
    Path('around').mkdir(); shutil.copy(archive, 'around')
    assert len(quiet('around'))==120

@pytest.mark.parametrize('n', [0, 10, 0.5, -5], ids=str)
def test_a_cut_archive_is_refused(n, archive):
    raw = archive.read_bytes()
    Path('cut.tar.gz').write_bytes(raw[:int(len(raw)*n) if n==0.5 else n])
    fails('cut.tar.gz is cut short', 'cut.tar.gz')

def test_another_file_is_no_archive():
    Path('note.txt').write_text('hello')
    fails('no tar.gz archive', 'note.txt')


@pytest.mark.parametrize('limit,value,says', [
    ('_max_all', 500_000, 'far more than CIFAR-10'),
    ('_max_members', 3, 'missing in'), ('_max_batch', 10_000, 'missing in')], ids=str)
def test_an_archive_of_other_size_is_refused(limit, value, says, archive, monkeypatch):
    monkeypatch.setattr(sources, limit, value)
    fails(says, archive, cache=False)

def test_an_official_folder_that_changes_is_read_again(archive):
    official = Path('data/cifar-10-batches-py')
    before,f = quiet(official).fingerprint,official/'test_batch'
    raw = f.read_bytes()
    f.write_bytes(raw[:-100]); fails('test_batch is cut short', official)
    f.write_bytes(pickle.dumps(Calls(os.system, ('touch harm',)), 2))
    fails('test_batch is cut short', official)
    f.unlink(); fails('test_batch missing', 'data')
    f.write_bytes(raw)
    assert quiet('data').fingerprint==before and not Path('harm').exists()

# ---- the disk cache

def test_the_cache_is_used_and_read_only(pets, monkeypatch):
    s,f = quiet(pets),sources._cache_file(pets, 32)
    assert list(f.parent.glob('*'))==[f]
    monkeypatch.setattr(sources, '_read_folder', None)
    t = quiet(pets)
    assert t.fingerprint==s.fingerprint and list(t.items)==list(s.items) and t.notes==s.notes
    with pytest.raises(ValueError, match='read-only'): t.x[:] = 0

damages = dict(
    cut=lambda a: a[:-50], empty=lambda a: b'', changed_array=lambda a: a[:500]+b'\1\2\3'+a[503:],
    changed_names=lambda a: a.replace(b'cat', b'cow'), no_zip=lambda a: b'\xff\xfe'*99)
@pytest.mark.parametrize('damage', damages.values(), ids=damages)
def test_a_damaged_cache_is_noticed_and_made_again(damage, pets):
    s,f = quiet(pets),sources._cache_file(pets, 32)
    raw = f.read_bytes()
    f.unlink(); f.write_bytes(damage(raw))
    t = quiet(pets)
    assert 'damaged' in t.notes[0] and t.fingerprint==s.fingerprint and quiet(pets).notes==s.notes

def test_a_changed_or_renamed_file_is_noticed(pets):
    s,f = quiet(pets),pets/'dog/5.png'
    st,old = f.stat(),f.read_bytes()
    f.write_bytes((pets/'dog/6.png').read_bytes().ljust(st.st_size, b'\0'))
    os.utime(f, ns=(st.st_atime_ns, st.st_mtime_ns))
    assert (quiet(pets).x!=s.x).any()
    f.write_bytes(old); assert np.array_equal(quiet(pets).x, s.x)
    f.rename(pets/'dog/50.png'); assert pets/'dog/50.png' in list(quiet(pets).items)

def test_nothing_is_kept_where_it_is_not_wanted_or_not_possible(pets, here, monkeypatch):
    s,folder = quiet(pets, cache=False),sources._cache_file(pets, 32).parent
    assert not folder.exists()
    def full_disk(*a, **kw): raise OSError(28, 'No space left on device')
    with monkeypatch.context() as m:
        m.setattr(np, 'savez', full_disk)
        assert 'No space left' in quiet(pets, size=8).notes[0] and not list(folder.glob('*.tmp'))
    Path('afile').write_text('')
    monkeypatch.setenv('FASTAI_HOME', 'afile/x')
    t = quiet(pets)
    assert 'the next start decodes them again' in t.notes[0] and np.array_equal(t.x, s.x)

def test_images_that_are_refused_are_not_kept():
    draw_folder('one', ['cat'], 3); fails('one class', 'one')
    assert not sources._cache_file(Path('one'), 32).parent.exists()

# ---- where to look

def test_data_home_is_fastais(): assert data_home()==external.fastai_path('data')

def test_the_environment_says_where_cifar10_is(archive, monkeypatch):
    s = quiet('data')
    monkeypatch.setenv('CIFAR_FASTAI_DATA', 'data')
    assert quiet().fingerprint==quiet('cifar10').fingerprint==s.fingerprint
    for o in ('nowhere','cifar10'):
        monkeypatch.setenv('CIFAR_FASTAI_DATA', o); fails(f"nothing at '{o}' (CIFAR_FASTAI_DATA)", None)

def test_fastais_copy_comes_before_a_download(archive):
    shutil.copytree('data/cifar-10-batches-py', data_home()/'cifar-10-batches-py')
    assert len(quiet())==120
    c10 = draw_folder(data_home()/'cifar10/train', cifar10_vocab, 2).parent; draw_folder(c10/'test', cifar10_vocab, 1)
    assert len(quiet())==30

def test_a_download_that_fails_says_so(monkeypatch):
    def offline(url): raise OSError('no network')
    monkeypatch.setattr(external, 'untar_data', offline)
    fails('cannot download CIFAR-10 (no network): give the path', None)

def test_a_download_is_said(pets, monkeypatch):
    monkeypatch.setattr(external, 'untar_data', lambda url: pets)
    s = quiet()
    assert len(s)==36 and 'downloading' in s.notes[0]

def test_shapes10_is_called_so(pets, monkeypatch):
    (pets/'shapes10.json').write_text('{}')
    monkeypatch.setitem(sys.modules, 'cifar_fastai.shapes', SimpleNamespace(shapes10=lambda: pets))
    assert quiet('shapes10').name=='shapes10'
