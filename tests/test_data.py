"Splits, the loader of each kind, and the data block"
import contextlib, io, pickle
import albumentations as A
import matplotlib.pyplot as plt
import fastai.torch_core
import numpy as np, pytest, torch
from fastai.vision.all import (CrossEntropyLossFlat, Learner, ShortEpochCallback, TensorImage, ToTensor, Transform,
    first, nn)
from PIL import Image
from cifar_fastai.augment import AlbumentationsTransform
from cifar_fastai.core import InputError
from cifar_fastai.data import CifarDL, Item, _in_proportion, _pick_loader, cifar_block, cifar_dls, split_idxs
from cifar_fastai.learner import cifar_learner
from meta import MetaGenerator
from parts import part

def make_dls(source, policy='none', **kw): return cifar_dls(source, policy, **{'bs': 30, 'device': 'cpu', **kw})

# ---- splits

def sizes(source, **kw): return [len(o) for o in split_idxs(source, **kw)]

def test_split_is_complete_stratified_and_follows_the_seed(source):
    trn,val = split_idxs(source, 0.1)
    assert set(trn)|set(val)==set(np.flatnonzero(~source.is_valid)) and not set(trn)&set(val)
    assert np.bincount(source.y[val]).tolist()==[2]*10
    assert np.array_equal(split_idxs(source, 0.1)[1], val) and set(split_idxs(source, 0.1, seed=1)[1])!=set(val)
    assert sizes(source)==[200,50]

def test_fewer_images_are_of_each_class_in_proportion_and_leave_the_other_part_alone(source):
    trn,val = split_idxs(source, n_train=100, n_valid=30)
    assert np.bincount(source.y[trn]).tolist()==[10]*10 and not source.is_valid[trn].any()
    assert np.bincount(source.y[val]).tolist()==[3]*10 and source.is_valid[val].all()
    assert np.array_equal(split_idxs(source, n_train=100)[0], trn)
    assert np.array_equal(split_idxs(source, n_valid=30)[1], val)
    assert set(split_idxs(source, n_valid=30, seed=1)[1])!=set(val)
    held = set(split_idxs(source, 0.1)[1])
    assert not set(split_idxs(source, 0.1, n_train=100)[0])&held and set(split_idxs(source, 0.1, n_valid=10)[1])<held
    for n in (15,25,133): assert sizes(source, n_train=n)==[n,50]

def test_fewer_validation_images_where_a_class_has_none(source):
    keep = part(source, np.flatnonzero(~source.is_valid | (source.y!=0)))
    assert sizes(keep, n_valid=18)==[200,18] and not (keep.y[split_idxs(keep, n_valid=18)[1]]==0).any()
    assert sizes(source, valid=0.1, n_train=100, n_valid=10)==[100,10]

def test_what_is_over_goes_to_the_largest_remainders():
    assert _in_proportion([900,100], 101)==[91,10] and _in_proportion([5,5,5], 4)==[2,1,1]

# ---- batches

def same(a, b):
    "Are two batches the same, types and devices and all?"
    kinds = [[(type(o), o.dtype, o.device) for o in both] for both in (a, b)]
    return kinds[0]==kinds[1] and all(torch.equal(p, q) for p,q in zip(a, b))

def images(dl): return torch.cat([xb for xb,_ in dl])
def labels(dl): return torch.cat([yb for _,yb in dl])
def is_channels_last(x): return x.is_contiguous(memory_format=torch.channels_last)

@pytest.mark.parametrize('loader', ('cpu','device'))
def test_validation_batches_are_the_source_in_its_order(loader, source):
    dls,idx = make_dls(source, loader=loader),np.flatnonzero(source.is_valid)
    assert np.array_equal(labels(dls.valid), source.y[idx])
    x = dls.valid.after_batch.fs[-1].decode(TensorImage(images(dls.valid)))*255
    assert np.abs(x.numpy().transpose(0,2,3,1)-source.x[idx]).max()<0.01

@pytest.mark.parametrize('loader', ('cpu','device'))
def test_an_epoch_has_each_training_item_once_less_the_last_partial_batch(loader, source):
    dl = make_dls(source, 'crop_flip', loader=loader).train
    one,two = ([o.numpy().tobytes() for o in images(dl)] for _ in range(2))
    assert len(dl)==6 and len(set(one))==len(set(two))==180 and one!=two

@pytest.mark.parametrize('policy', ('crop_flip_cutout','none','r4'))
def test_batches_from_arrays_are_those_made_item_by_item(policy, source):
    fast,slow = make_dls(source, policy),make_dls(source, policy)
    for a,b in zip(fast.loaders, slow.loaders):
        assert a._in_memory() is not None
        b._in_memory = lambda: None
        for _ in range(2): assert all(same(p, q) for p,q in zip(a, b))

@pytest.mark.parametrize('policy', ('none','r4'))
def test_batches_do_not_depend_on_the_number_of_workers(policy, source):
    alone,three = (make_dls(source, policy, workers=n).train for n in (0,3))
    for _ in range(2): assert all(same(a, b) for a,b in zip(alone, three))

def test_other_items_and_other_transforms_go_the_stock_way(source):
    dls = make_dls(source, loader='device')
    test = dls.test_dl(dls.train_ds.items[:9], with_labels=True)
    for o in (dls.valid.new(dls.train_ds), dls.train.new(after_item=[ToTensor()]), test): assert o.on_device is None
    assert dls.test_dl([source.x[0]])._in_memory() is None and len(first(dls.test_dl([source.x[0], source.x[1]]))[0])==2
    block = cifar_block(source).new(item_tfms=[AlbumentationsTransform('none'), lambda o: o])
    own = block.dataloaders(source, bs=8, num_workers=0)
    assert own.train._in_memory() is None
    with pytest.raises(InputError, match='not just images'): own.train.put_on_device()

@pytest.mark.parametrize('policy', ([A.Normalize()], [A.Resize(16,16)], [A.ToFloat()]))
def test_policy_that_changes_the_type_or_shape_of_images_is_refused(policy, source):
    with pytest.raises(InputError, match='changes the type or shape of images .*: leave out what normalizes'):
        first(make_dls(source, policy, loader='cpu').train)

# ---- on the device

def test_batches_on_the_device_are_those_of_the_cpu_but_for_order_draws_and_layout(source):
    dev,cpu = (make_dls(source, loader=o) for o in ('device','cpu'))
    assert [dev.loader,cpu.loader]==['device','cpu']
    dev.train.shuffle = cpu.train.shuffle = False
    for p,q in zip(dev.loaders, cpu.loaders):
        for _ in range(2):
            for a,b in zip(p, q): assert same(a, b) and is_channels_last(a[0])

def test_batches_on_the_device_follow_the_seed_and_differ_in_each_epoch(source):
    dls = [make_dls(source, 'r4', seed=s, loader='device') for s in (0,0,1)]
    one,two,three = ([images(o.train) for _ in range(2)] for o in dls)
    assert all(torch.equal(a, b) for a,b in zip(one, two))
    assert not torch.equal(one[0], three[0]) and not torch.equal(one[0], one[1])

def test_a_new_loader_of_the_same_items_gives_them_in_the_order_asked_for(source):
    dl = make_dls(source, loader='device').train
    y = labels(dl.new(shuffle=False, drop_last=False))
    assert np.array_equal(y, source.y[split_idxs(source)[0]])
    few = dl.new(shuffle=False, drop_last=False, get_idxs=lambda: [3,1]) # as `get_preds` asks
    assert labels(few).tolist()==y[[3,1]].tolist()

def test_item_transform_added_to_a_loader_on_the_device_is_refused(source):
    dls = make_dls(source, loader='device')
    dls.add_tfms([Transform(lambda o: o)], 'after_item', 'train')
    with pytest.raises(InputError, match='a transform of items was added'): first(dls.train)

@pytest.mark.parametrize('policy', ('none','crop4'))
def test_several_batches_made_at_once_have_the_same_items(policy, source):
    many,each = (make_dls(source, policy, loader='device').train for _ in range(2))
    many._n_at_once = lambda: 90
    a,b = list(many),list(each)
    assert [len(y) for _,y in a]==[len(y) for _,y in b] and all(is_channels_last(x) for x,_ in a)
    assert all(torch.equal(p[1], q[1]) for p,q in zip(a, b))
    # as many draws, but not in the same order
    assert all(torch.equal(p[0], q[0]) for p,q in zip(a, b))==(policy=='none')

def test_batches_normalized_at_once_are_those_normalized_one_by_one(source):
    many,each = (make_dls(source, loader='device').train for _ in range(2))
    many._n_at_once,calls = lambda: 90,[]
    class Seen(Transform):
        def encodes(self, x:TensorImage): calls.append(len(x)); return x
    each.after_batch.add(Seen()) # so that fastai's own loop is used
    assert all(same(a, b) for a,b in zip(many, each)) and calls==[30]*len(each)

@pytest.mark.parametrize('side,most', ((32,200), (224,80)))
def test_fewer_large_images_are_made_at_once(side, most, source, monkeypatch):
    monkeypatch.setattr(torch, 'Generator', MetaGenerator)
    dl,seen = cifar_dls(source, policy='flip', bs=20, device='meta', loader='device').train,[]
    dl.put_on_device(torch.zeros(len(source), side, side, 3, dtype=torch.uint8, device='meta'))
    dl.randomize()
    def note(b): seen.append(len(b[0])); return b
    batches = list(dl._device_batches(range(200), note))
    assert max(seen)==most and [len(x) for x,_ in batches]==[20]*10

# ---- which loader

cuda = torch.device('cuda')
@pytest.mark.parametrize('args,loader', (
    (('auto', cuda, 'crop_flip', 32, None), 'device'), (('auto', cuda, 'crop_flip', 32, 4), 'cpu'),
    (('auto', cuda, [A.Blur()], 32, None), 'cpu'), (('auto', torch.device('cpu'), 'none', 32, None), 'cpu'),
    (('device', cuda, 'none', 32, 0), 'device')))
def test_loader_is_picked_by_device_policy_and_workers(args, loader):
    res,why = _pick_loader(*args)
    assert res==loader and ('Blur' in why)==(args[2]!='crop_flip' and args[2]!='none')

def test_a_cpu_loader_asks_for_no_gpu(source, monkeypatch):
    "Where there is one, it would start CUDA and take memory there"
    def no(*args, **kwargs): raise AssertionError('the default device was asked for')
    monkeypatch.setattr(fastai.torch_core, 'default_device', no)
    for loader in ('cpu','device'):
        learn = cifar_learner(
            cifar_dls(source, bs=20, device='cpu', loader=loader), init='whiten', model_kw=dict(width=32)
        )
        with learn.no_bar(), learn.no_logging(): learn.fit(1, cbs=ShortEpochCallback(0.2))

# ---- what users of fastai call

def test_summary_of_the_block_builds_a_batch(source):
    with contextlib.redirect_stdout(io.StringIO()) as f: cifar_block(source).summary(source)
    assert 'Final sample' in f.getvalue() and 'Building one batch' in f.getvalue()

def test_new_loader_is_of_its_kind_and_empty_ones_hold_no_data(source):
    dls = make_dls(source)
    new = dls.train.new(bs=16)
    assert type(new) is CifarDL and len(first(new)[0])==16
    assert len(pickle.dumps(dls.new_empty()))<50_000

@pytest.mark.parametrize('loader', ('cpu','device'))
def test_one_image_many_times(loader, source):
    "`show_batch(unique=True)` asks for the first item without end"
    dl = make_dls(source, 'crop_flip', loader=loader).train
    def without_end():
        yield from [0]*10_000
        raise AssertionError('more was taken than there are items')
    dl.get_idxs = without_end
    xb,yb = dl.one_batch()
    assert len({*yb.tolist()})==1 and len({x.numpy().tobytes() for x in xb})>1 # augmented each time
    dl.show_batch(unique=True, max_n=4)
    plt.close('all')

def test_predict_takes_an_array_an_item_or_a_picture(source):
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    learn = Learner(make_dls(source), model, loss_func=CrossEntropyLossFlat())
    with learn.no_bar(): res = [learn.predict(o) for o in (source.x[3], Item(source, 3), Image.fromarray(source.x[3]))]
    assert len({o[0] for o in res})==1 and res[0][0] in source.vocab
    for o in res[1:]: torch.testing.assert_close(o[2], res[0][2])
