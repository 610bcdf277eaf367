"The drawn data set: the same pixels everywhere, whole or not there."
import hashlib, os, shutil, subprocess, sys
import numpy as np, pytest
from PIL import Image
from cifar_fastai import shapes
from cifar_fastai.core import InputError
from cifar_fastai.shapes import draw_pair, draw_shape, shapes10, shapes10_classes, shapes10_mask

def test_pixels_are_the_same_on_every_machine():
    "On purpose another? Then take the new value, and the next version of the generator"
    h = hashlib.sha256()
    for k,c in enumerate(shapes10_classes):
        for i in range(20):
            for a in draw_shape(c, (0,0,k,i)): h.update(a.tobytes())
    assert h.hexdigest()=='4928de539c6e228ce3dbf963fef4262f13eb73dd50ed4b86a555f55c372e26ad'

@pytest.mark.parametrize('size', [16,32,128])
def test_most_of_every_object_can_be_seen(size):
    for k,c in enumerate(shapes10_classes):
        for i in range(100 if size<128 else 5):
            img,mask = draw_shape(c, (7,k,i), size)
            assert (img.shape, img.dtype, mask.shape, mask.dtype)==((size,size,3), np.uint8, (size,size), bool)
            assert mask.mean()>=.05, (c, i)

def inner(m): return m & np.logical_and.reduce([np.roll(m, o, ax) for o in (-1,1) for ax in (0,1)])

@pytest.mark.parametrize('size', [32,128])
def test_an_object_is_brighter_than_all_of_its_ground(size):
    for k,c in enumerate(shapes10_classes):
        img,mask = draw_shape(c, (7,k), size, 'ground')
        light = img.sum(-1, dtype=int)
        ground = inner(inner(inner(~mask))) # away from the edges
        assert light[inner(mask)].min() >= light[ground].max()+shapes._difficulty['contrast']-3, c

@pytest.mark.parametrize(
    'kw,says',
    [
        (dict(cls='sqare'), "unknown shape 'sqare': did you mean 'square'"),
        (dict(upto='nose'), "unknown layer 'nose': did you mean 'noise'"),
        (dict(size=32.0), 'size is 32.0'),
        (dict(size=129), 'size is 129'),
        (dict(seed=(0, -1)), 'seed is -1'),
    ],
    ids=str,
)
def test_draw_shape_refuses(kw, says):
    with pytest.raises(InputError, match=says): draw_shape(**{**dict(cls='star'), **kw})

@pytest.fixture(scope='module')
def small(tmp_path_factory): return shapes10(tmp_path_factory.mktemp('shapes')/'small', 200, 50)

def test_a_set_found_is_not_drawn_again(small):
    before = (small/'shapes10.json').stat().st_mtime_ns
    assert shapes10(small, 200, 50)==small and (small/'shapes10.json').stat().st_mtime_ns==before

def test_files_hold_what_is_drawn(small):
    for split,n in (('train',20),('test',5)):
        for k,c in enumerate(shapes10_classes):
            assert [o.name for o in sorted((small/split/c).iterdir())]==[f'{i:05}.png' for i in range(n)]
            f = small/split/c/'00002.png'
            img,mask = draw_shape(c, (0,int(split=='test'),k,2))
            assert np.array_equal(np.array(Image.open(f)), img) and np.array_equal(shapes10_mask(f), mask)

def test_a_smaller_set_begins_a_larger_one(small, tmp_path):
    other = shapes10(tmp_path/'other', 20, 10)
    for f in other.glob('t*/*/*.png'): assert f.read_bytes()==(small/f.relative_to(other)).read_bytes()

def test_drawing_is_counted(tmp_path, monkeypatch):
    "All of the set takes half a minute"
    seen = []
    monkeypatch.setattr(shapes, 'progress', lambda items, label: seen.append((len(items), label)) or items)
    shapes10(tmp_path/'told', 20, 10)
    assert seen==[(10, 'drawing shapes10 (train)'), (10, 'drawing shapes10 (test)')]

def test_odd_numbers_are_spread_over_the_classes(small, tmp_path):
    odd = shapes10(tmp_path/'odd', 13, 10, seed=np.int64(3))
    assert [len(list((odd/'train'/c).iterdir())) for c in shapes10_classes]==[2,2,2]+[1]*7
    assert (odd/'train/star/00000.png').read_bytes()!=(small/'train/star/00000.png').read_bytes()
    assert odd.stat().st_mode==small.stat().st_mode

@pytest.mark.parametrize(
    'bad', [dict(n_test=9), dict(seed=-1), dict(size=8), dict(n_train=True), dict(seed=0.5)], ids=str
)
def test_shapes10_refuses_numbers_out_of_range(bad, tmp_path):
    with pytest.raises(InputError, match=f'{list(bad)[0]} is'): shapes10(tmp_path/'bad', **bad)

@pytest.mark.parametrize('name', ['x.png','train','train/star/99999.png','masks/train/star/00000.png'])
def test_other_files_have_no_mask(name, small):
    with pytest.raises(InputError, match='has no mask'): shapes10_mask(small/name)

def test_a_set_that_lost_a_file_is_refused(tmp_path):
    odd = shapes10(tmp_path/'odd', 13, 10)
    (odd/'train/star/00000.png').unlink()
    with pytest.raises(InputError, match='or delete it'): shapes10(odd, 13, 10)
    with pytest.raises(InputError, match='does not hold a complete copy'): shapes10(odd/'shapes10.json', 13, 10)
    with pytest.raises(InputError, match='cannot be made'): shapes10(odd/'shapes10.json/x', 13, 10)

def test_an_empty_folder_is_filled_and_nothing_stays_beside_it(tmp_path):
    (tmp_path/'empty').mkdir()
    assert shapes10(tmp_path / 'empty', 10, 10) == (tmp_path / 'empty').resolve() and [
        o.name for o in tmp_path.iterdir()
    ] == ['empty']


def test_an_interrupt_leaves_nothing(tmp_path, monkeypatch):
    keep,calls = draw_shape,[]
    def interrupted(*a):
        calls.append(1)
        if len(calls)>15: raise KeyboardInterrupt
        return keep(*a)
    monkeypatch.setattr(shapes, 'draw_shape', interrupted)
    with pytest.raises(KeyboardInterrupt): shapes10(tmp_path/'stop', 20, 10)
    assert not list(tmp_path.iterdir())

def start(where, n):
    "Another process that makes a set there"
    code = (f'from cifar_fastai.shapes import shapes10; import sys; shapes10(sys.argv[1], {n}, 10); '
            'assert "torch" not in sys.modules and "fastai" not in sys.modules')
    return subprocess.Popen([sys.executable, '-c', code, str(where)])

def test_what_a_kill_left_is_removed_a_day_later(tmp_path):
    p,left = start(tmp_path/'killed', 5000),[]
    while not left: left = list(tmp_path.glob('.killed-*.part/set/train/circle/*.png'))
    p.kill(), p.wait()
    part = left[0].parents[3]
    assert part.is_dir() and not (tmp_path/'killed').exists()
    shapes10(tmp_path/'killed', 10, 10)
    assert part.is_dir() # it may still be at work
    shutil.rmtree(tmp_path/'killed')
    os.utime(part, (0,0))
    shapes10(tmp_path/'killed', 10, 10)
    assert not part.exists()

def test_two_processes_end_with_the_same_set(tmp_path):
    both = [start(tmp_path/'both', 300) for _ in range(2)]
    assert [o.wait() for o in both]==[0,0]
    shapes10(tmp_path/'both', 300, 10)
    assert [o.name for o in tmp_path.iterdir()]==['both']

def test_the_standard_place_is_fastais(tmp_path):
    code = '''from cifar_fastai.shapes import shapes10
p = shapes10(n_train=20, n_test=10)
from fastai.data.external import fastai_path
from fastai.data.transforms import get_image_files
assert p==fastai_path('data').resolve()/'shapes10-v1-20-10-s0-32', p
assert len(get_image_files(p, folders=['train','test']))==30'''
    subprocess.run([sys.executable, '-c', code], env={**os.environ, 'FASTAI_HOME': str(tmp_path)}, check=True)

def test_a_pair_is_two_scenes_side_by_side_each_with_its_mask():
    img,masks = draw_pair(('heart','ring'), (3,1))
    (a,left),(b,right) = draw_shape('heart', (3,1,0)),draw_shape('ring', (3,1,1))
    assert np.array_equal(img, np.hstack([a,b])) and masks.shape==(2,32,64)
    assert np.array_equal(masks[0,:,:32], left) and np.array_equal(masks[1,:,32:], right)
    assert not masks[0,:,32:].any() and not masks[1,:,:32].any()
    assert np.array_equal(draw_pair(['star','star'], 4, 16)[0], draw_pair(('star','star'), (4,), 16)[0])

@pytest.mark.parametrize('classes', ['heart', ('heart',), ('heart','ring','star')], ids=str)
def test_a_pair_has_two_classes(classes):
    with pytest.raises(InputError, match='classes is .*: give two'): draw_pair(classes)
