"Laws that hold for any input: splits, schedules, policies."
import numpy as np, pytest
from hypothesis import given, settings, strategies as st
from types import SimpleNamespace
from cifar_fastai.augment import make_policy, policies, reseed
from cifar_fastai.data import split_idxs
from cifar_fastai.errors import InputError
from cifar_fastai.learner import linear_cycle

@settings(max_examples=60, deadline=None)
@given(counts=st.lists(st.integers(1, 40), min_size=2, max_size=6), share=st.floats(0.01, 0.99), seed=st.integers(0, 99), n_test=st.integers(0, 10))
def test_split(counts, share, seed, n_test):
    y = np.repeat(np.arange(len(counts)), counts)
    y,test = np.concatenate([y, np.zeros(n_test, int)]),np.arange(len(y)+n_test)>=len(y)
    src = type('S', (), dict(y=y, is_valid=test, vocab=[f'c{i}' for i in range(len(counts))], name='s', __len__=lambda self: len(y)))()
    try: trn,val = split_idxs(src, share, seed)
    except InputError: # only where some class would lose all or none
        assert any(round(n*share) in (0,n) for n in counts)
        return
    assert sorted([*trn,*val])==list(np.flatnonzero(~test))                       # complete and disjoint, no test image
    assert [int((y[val]==c).sum()) for c in range(len(counts))]==[round(n*share) for n in counts] # stratified
    assert np.array_equal(split_idxs(src, share, seed)[1], val)                    # reproducible

@settings(max_examples=100, deadline=None)
@given(n=st.integers(2, 500), lr=st.floats(1e-5, 10), pct=st.floats(0.01, 0.99), div=st.floats(1, 1e3), final=st.floats(1, 1e4))
def test_linear_cycle(n, lr, pct, div, final):
    f = linear_cycle(n, lr, pct, div, final)
    lrs = np.array([f(i/n) for i in range(n)]+[f(1.)])
    assert (lrs>0).all() and (lrs<=lr*(1+1e-9)).all()
    peak = int(lrs.argmax())
    assert (np.diff(lrs[:peak+1])>=-1e-12).all() and (np.diff(lrs[peak:])<=1e-12).all() # up, then down

@settings(max_examples=25, deadline=None)
@given(name=st.sampled_from(sorted(policies)), size=st.sampled_from([16,32,48]), seed=st.integers(0, 2**32-1), level=st.integers(0, 255))
def test_policy(name, size, seed, level):
    img = np.random.RandomState(seed).randint(0, level+1, (size,size,3), dtype=np.uint8)
    before,aug = img.copy(),make_policy(name, size)
    reseed(aug, seed); a = aug(image=img)['image']
    reseed(aug, seed); b = aug(image=img)['image']
    assert a.shape==img.shape and a.dtype==np.uint8 and np.array_equal(a, b) and np.array_equal(img, before)
