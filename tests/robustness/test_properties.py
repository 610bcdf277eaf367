"Laws that hold for any input: splits, schedules, policies and their linter, the caches."
import warnings
import albumentations as A
import numpy as np, pytest, torch
from hypothesis import assume, given, settings, strategies as st
from PIL import Image
from cifar_fastai.augment import lint_policy, make_policy, policies, reseed, BatchAugment
from cifar_fastai.data import split_idxs
from cifar_fastai.core import InputError, check_number, one_of
from cifar_fastai.optim import linear_cycle
from cifar_fastai.sources import Source, load_source
from cifar_fastai.images import fit_image, open_image

def drawn(counts, n_test, size=2):
    "A source with these numbers of training images in its classes, and `n_test` test images"
    y = np.repeat(np.arange(len(counts)), counts)
    y,test = np.concatenate([y, np.zeros(n_test, int)]),np.arange(len(y)+n_test)>=len(y)
    return Source(np.zeros((len(y),size,size,3), np.uint8), y, [f'c{i}' for i in range(len(counts))], test)

counts,seeds = st.lists(st.integers(1, 40), min_size=2, max_size=6),st.integers(0, 2**32-1)

# ---- splits

@settings(max_examples=60)
@given(counts=counts, share=st.floats(0.01, 0.99), seed=seeds, n_test=st.integers(0, 10))
def test_split(counts, share, seed, n_test):
    src = drawn(counts, n_test)
    try: trn,val = split_idxs(src, share, seed)
    except InputError: # only where some class would lose all or none
        assert any(round(n*share) in (0,n) for n in counts)
        return
    assert sorted([*trn,*val])==list(np.flatnonzero(~src.is_valid)) # complete and disjoint, no test image
    assert [int((src.y[val]==c).sum()) for c in range(len(counts))]==[round(n*share) for n in counts] # stratified
    assert np.array_equal(split_idxs(src, share, seed)[1], val) # reproducible

@settings(max_examples=60)
@given(counts=counts, seed=seeds, n=st.integers(2, 300))
def test_fewer_training_images(counts, seed, n):
    src = drawn(counts, 3)
    try: trn,val = split_idxs(src, 'test', seed, n)
    except InputError:
        assert not len(counts)<=n<=sum(counts) or any(c*n<sum(counts) for c in counts) # less than one of a class
        return
    assert set(trn)<=set(src.train_idxs) and set(val)==set(src.valid_idxs) and len(set(trn))==len(trn)
    got = [int((src.y[trn]==c).sum()) for c in range(len(counts))]
    assert sum(got)==n and all(abs(g-k*n/sum(counts))<1 for g,k in zip(got, counts))
    assert np.array_equal(split_idxs(src, 'test', seed, n)[0], trn)

@settings(max_examples=40)
@given(counts=counts, seed=seeds)
def test_splits_of_two_seeds_differ_in_nothing_but_the_draw(counts, seed):
    assume(min(counts)>=4)
    src = drawn(counts, 0)
    sizes = {
        tuple(np.bincount(src.y[split_idxs(src, 0.5, s)[1]], minlength=len(counts)))
        for s in (seed, (seed + 1) % 2**32)
    }
    assert len(sizes)==1

# ---- schedules

@settings(max_examples=60)
@given(
    n=st.integers(1, 500),
    lr=st.floats(1e-5, 10),
    pct=st.floats(0.01, 0.99),
    div=st.floats(1, 1e3),
    final=st.floats(1, 1e4),
)
def test_linear_cycle(n, lr, pct, div, final):
    f = linear_cycle(n, lr, pct, div, final)
    lrs = np.array([f(i/n) for i in range(n)]+[f(1.)])
    assert (lrs>0).all() and (lrs<=lr*(1+1e-9)).all()
    peak = int(lrs.argmax())
    assert (np.diff(lrs[:peak+1])>=-1e-12).all() and (np.diff(lrs[peak:])<=1e-12).all() # up, then down
    assert lrs[-1]==pytest.approx(lr/div/final)

@settings(max_examples=50)
@given(n=st.integers(2, 100), lrs=st.lists(st.floats(1e-4, 1), min_size=1, max_size=4), pct=st.floats(0.05, 0.95))
def test_linear_cycle_of_groups(n, lrs, pct):
    "An array of rates gives what each of its rates gives"
    f,fs = linear_cycle(n, np.array(lrs), pct),[linear_cycle(n, o, pct) for o in lrs]
    for i in range(0, n, max(1, n//7)): assert f(i/n)==pytest.approx([g(i/n) for g in fs])

# ---- policies

def image(seed, size, level=255): return np.random.RandomState(seed).randint(0, level+1, (size,size,3), dtype=np.uint8)

@settings(max_examples=60)
@given(name=st.sampled_from(sorted(policies)), size=st.integers(4, 48), seed=seeds, level=st.integers(0, 255))
def test_policy(name, size, seed, level):
    img = image(seed, size, level)
    before,aug = img.copy(),make_policy(name, size)
    reseed(aug, seed); a = aug(image=img)['image']
    reseed(aug, seed); b = aug(image=img)['image']
    assert a.shape==img.shape and a.dtype==np.uint8 and np.array_equal(a, b) and np.array_equal(img, before)

pieces = st.lists(st.one_of(st.sampled_from([
    'flip', 'crop', 'translate', 'cutout']), st.builds(lambda k,n: f'{k}{n}', st.sampled_from([
    'crop', 'translate', 'cutout', 'flip', 'zoom']), st.integers(0, 40))), min_size=1, max_size=4).map('+'.join)

@settings(max_examples=80)
@given(policy=st.one_of(pieces, st.text(max_size=12)), seed=seeds)
def test_policy_by_pieces(policy, seed):
    """Either a policy that keeps shape and type, or an `InputError` that quotes it; and the linter has nothing to say
    of ours"""
    try: aug = make_policy(policy, 16)
    except InputError as e:
        assert 'policy' in str(e)
        return
    reseed(aug, seed)
    img = image(seed, 16)
    out = aug(image=img)['image']
    assert out.shape==img.shape and out.dtype==np.uint8 and lint_policy(policy, 16)==[]

@settings(max_examples=40)
@given(name=st.sampled_from('none flip crop_flip crop_flip_cutout r3 r4 r5 translate2+flip+cutout4'.split()),
       n=st.integers(1, 6), size=st.sampled_from([8,16,32]), seed=seeds)
def test_policy_for_batches(name, n, size, seed):
    x = torch.from_numpy(np.stack([image((seed+i)%2**32, size) for i in range(n)]))
    before,aug = x.clone(),BatchAugment(name, size)
    a,b = (aug(x, torch.Generator().manual_seed(seed)) for _ in range(2))
    assert a.shape==x.shape and a.dtype==torch.uint8 and torch.equal(a, b) and torch.equal(x, before)

# ---- the linter

@settings(max_examples=60)
@given(p=st.floats(0, 1), n=st.integers(8, 64), pad=st.booleans(), fill=st.integers(0, 255), order=st.permutations([
    0, 1, 2, 3]), normal=st.booleans())
def test_linter(p, n, pad, fill, order, normal):
    "Each mistake is named where it is made, and only there"
    ts = [
        A.HorizontalFlip(p=p), A.CoarseDropout(fill=fill, p=0.5), *([A.Pad(padding=4)] if pad else []),
        A.RandomCrop(n, n)]
    if normal: ts.append(A.Normalize())
    said = ' '.join(lint_policy(ts, 32))
    assert ('flips every image' in said)==(p>=1)
    assert ('RandomCrop: a crop' in said)==(n>=32 and not pad)
    assert ('0-1 scale' in said)==(fill==1)
    assert ('twice' in said)==normal
    assert lint_policy(ts, 32)==lint_policy(A.Compose(ts), 32)

# ---- images

@settings(max_examples=60)
@given(w=st.integers(1, 90), h=st.integers(1, 90), size=st.integers(1, 64), seed=seeds, mode=st.sampled_from([
    'RGB', 'RGBA', 'L', 'LA', 'P', '1', 'CMYK', 'YCbCr', 'HSV', 'LAB', 'I', 'F']))
def test_any_image(w, h, size, seed, mode):
    img = Image.fromarray(np.random.RandomState(seed).randint(0, 256, (h,w,3), dtype=np.uint8))
    if mode in ('LAB', 'HSV', 'YCbCr', 'CMYK'):
        img = Image.merge(mode, img.convert('CMYK' if mode == 'CMYK' else 'RGB').split())
    elif mode in ('I','F'): img = img.convert('L').convert(mode)
    else: img = img.convert(mode)
    try: rgb = open_image(img)
    except InputError as e: # what LAB becomes depends on the version of Pillow
        assert mode=='LAB' and 'cannot read image' in str(e)
        return
    assert rgb.mode=='RGB' and rgb.size==(w,h)
    assert np.asarray(fit_image(rgb, size)).shape==(size,size,3)

arrays = st.tuples(st.lists(st.integers(0, 5), max_size=4), st.sampled_from([
    'u1', 'u2', 'i8', 'f4', 'f8', '?', 'c8', 'U1', 'O']))
@settings(max_examples=80)
@given(o=arrays, fill=st.sampled_from([0, 1, 0.5, -1, 300, float('nan')]))
def test_any_array(o, fill):
    shape,kind = o
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        a = np.full(shape, fill).astype(kind)
    try: rgb = open_image(a)
    except InputError as e:
        assert 'is not an image' in str(e)
        return
    assert rgb.mode=='RGB' and rgb.size==a.shape[1::-1] and a.dtype.kind in 'uf?'

# ---- caches

@settings(max_examples=15)
@given(data=st.data())
def test_cache(data, tmp_path_factory):
    """What is kept gives the same source; after any change of an image, and any damage of what is kept, the images as
    they are now"""
    with pytest.MonkeyPatch.context() as mp:
        d = tmp_path_factory.mktemp('cache'); mp.setenv('FASTAI_HOME', str(d/'home'))
        for c in 'ab':
            (d/f'src/{c}').mkdir(parents=True)
            for i in range(3): Image.fromarray(image(i, 8)).save(d/f'src/{c}/{i}.png')
        load = lambda **kw: load_source(d/'src', size=8, verbose=False, **kw)
        first,second = load(),load()
        kept = sorted((d/'home/data/cifar_fastai-cache').iterdir())
        assert (
            len(kept) == 1
            and first.fingerprint == second.fingerprint == load(cache=False).fingerprint
            and np.array_equal(first.x, second.x)
        )
        f = data.draw(st.sampled_from(kept)); raw = bytearray(f.read_bytes())
        i = data.draw(st.integers(0, len(raw)-1))
        how = data.draw(st.sampled_from(['change','cut','empty','remove','long']))
        if how=='change': raw[i] ^= data.draw(st.integers(1, 255))
        f.unlink()
        if how!='remove': f.write_bytes(bytes({'change': raw, 'cut': raw[:i], 'empty': b'', 'long': raw+b'[' * 9}[how]))
        assert load().fingerprint==first.fingerprint
        Image.fromarray(image(99, 8)).save(d/'src/a/1.png')
        now = load()
        assert now.fingerprint!=first.fingerprint and now.fingerprint==load(cache=False).fingerprint==load().fingerprint

# ---- errors

plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary())
anything = st.recursive(plain, lambda o: st.one_of(st.lists(o), st.dictionaries(st.text(), o)), max_leaves=8)

@settings(max_examples=100)
@given(x=anything, low=st.one_of(st.none(), st.integers(-5, 5)), whole=st.booleans())
def test_check_number(x, low, whole):
    "What passes is a finite number in its range; what does not is answered in one line that can be printed"
    try: y = check_number('x', x, low=low, whole=whole)
    except InputError as e:
        assert str(e).startswith('x is ') and str(e).isprintable() and len(str(e))<2000
        return
    assert (
        y is x
        and not isinstance(x, bool)
        and np.isfinite(float(x))
        and (low is None or x >= low)
        and (not whole or isinstance(x, int))
    )


@settings(max_examples=100)
@given(x=anything, names=st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=5))
def test_one_of(x, names):
    try: assert one_of('name', x, names) in names
    except InputError as e: assert x not in names and str(e).isprintable()
