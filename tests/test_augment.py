"Policies, their random numbers, the linter, and the same policies for whole batches"
from collections import Counter
import albumentations as A
import cv2, numpy as np, pytest, torch
from albumentations.augmentations.geometric.functional import create_affine_transformation_matrix
from fastai.vision.all import PILImage, TfmdDL, ToTensor, set_seed
from scipy.stats import chi2_contingency
from cifar_fastai import augment
from cifar_fastai.augment import (
    AlbumentationsTransform, BatchAugment, Cutout, lint_policy, make_policy, policies, reseed)
from cifar_fastai.core import InputError

@pytest.fixture(scope='module')
def x(source): return torch.from_numpy(source.x[:64])

def generator(seed=0): return torch.Generator().manual_seed(seed)

# ---- policies

@pytest.mark.parametrize('size', (32,64))
@pytest.mark.parametrize('name', policies)
def test_policy_keeps_size_and_type(name, size):
    res = make_policy(name, size)(image=np.zeros((size,size,3), np.uint8))['image']
    assert res.shape==(size,size,3) and res.dtype==np.uint8

def test_translate_takes_every_offset_of_a_mirrored_border():
    policy,x = make_policy('translate1', 4),np.arange(48, dtype=np.uint8).reshape(4,4,3)
    seen = {policy(image=x)['image'].tobytes() for _ in range(200)}
    padded = np.pad(x, ((1,1),(1,1),(0,0)), 'reflect')
    assert seen=={np.ascontiguousarray(padded[i:i+4,j:j+4]).tobytes() for i in range(3) for j in range(3)}

@pytest.mark.parametrize('policy,says', (
    ('flip2', "unknown policy 'flip2': did you mean 'flip'"), ('crop4+', 'unknown policy'),
    (3, 'policy is 3'), ('cutout0', 'takes 1 to 31 pixels'), (['flip'], "policy is 'flip'")))
def test_unknown_policy_is_refused(policy, says):
    with pytest.raises(InputError, match=says): make_policy(policy)

# ---- Cutout

def drawn_holes(cls, n=4000):
    "How often each place of a 3x4 hole in a 6x7 image was drawn"
    policy = A.Compose([cls(num_holes_range=(1,1), hole_height_range=(3,3), hole_width_range=(4,4), fill=255, p=1.)])
    reseed(policy, 0)
    imgs = [policy(image=np.zeros((6,7,3), np.uint8))['image'][...,0] for _ in range(n)]
    return Counter(tuple(np.argwhere(o)[[0,-1]].ravel().tolist()) for o in imgs)

def test_cutout_is_distributed_as_coarse_dropout():
    ours,theirs = drawn_holes(Cutout),drawn_holes(A.CoarseDropout)
    assert set(ours)==set(theirs) and len(ours)==16 # 4 x 4 places
    assert max(abs(ours[k]-theirs[k])/4000 for k in ours)<0.02 # 3.6 standard deviations of the difference

def test_cutout_covers_a_small_image_and_leaves_mask_and_original_alone():
    x = np.zeros((8,8,3), np.uint8)
    cut = Cutout(num_holes_range=(1,1), hole_height_range=(12,12), hole_width_range=(12,12), fill=(1,2,3), p=1.)
    res = cut(image=x, mask=x[...,0])
    assert (res['image']==[1,2,3]).all() and res['mask'].max()==0 and x.max()==0

# ---- the transform

class TrainSet(list): split_idx = 0

def draws(tfm, workers, seed=0):
    "The images of two epochs over 48 copies of one"
    set_seed(seed)
    img = PILImage.create(np.random.RandomState(0).randint(0, 255, (32,32,3), dtype=np.uint8))
    dl = TfmdDL(TrainSet([img]*48), bs=4, num_workers=workers, after_item=[tfm, ToTensor()])
    return [o.numpy().tobytes() for _ in range(2) for b in dl for o in b]

@pytest.mark.parametrize('workers', (0,2))
def test_transform_repeats_no_image_and_follows_set_seed(workers):
    runs = []
    for _ in range(2):
        set_seed(3)
        runs.append(draws(AlbumentationsTransform('crop_flip_cutout'), workers, seed=3))
    one,two = runs
    assert one==two and len(set(one))>94

def test_transform_of_one_seed_draws_the_same_and_leaves_validation_alone():
    img = PILImage.create(np.random.RandomState(0).randint(0, 255, (32,32,3), dtype=np.uint8))
    one,two = (np.array(AlbumentationsTransform('r4', seed=1)(img, split_idx=0)) for _ in range(2))
    assert np.array_equal(one, two)
    assert np.array_equal(AlbumentationsTransform('r4', seed=1)(img, split_idx=1), img)

# ---- the linter

def says(policy): return '\n'.join(lint_policy(policy))

@pytest.mark.parametrize('name', policies)
def test_linter_is_content_with_our_policies(name): assert lint_policy(name)==[]

@pytest.mark.filterwarnings('ignore::UserWarning')
@pytest.mark.parametrize('policy,found', (
    (lambda: [A.HorizontalFlip(p=1)], 'flips every image'),
    (lambda: [A.CoarseDropout(max_holes=1)], "'max_holes' was dropped and the default used"),
    (lambda: [A.Normalize()], 'twice'),
    (lambda: [A.RandomCrop(32, 32, pad_if_needed=True)], 'is the image'),
    (lambda: [A.CoarseDropout(fill=0.473)], 'is on the 0-1 scale, but pixels here are 0-255, so it is black: use 121'),
    (lambda: [A.Normalize(), A.CoarseDropout(fill=(125,123,114))], 'CoarseDropout: comes after the normalization'),
    (lambda: [A.Normalize(), A.RandomBrightnessContrast()], 'RandomBrightnessContrast: comes after'),
    (lambda: [A.OneOf([A.HorizontalFlip(p=1)]), A.ToTensorV2()], 'ToTensorV2')))
def test_linter_finds(policy, found): assert found in says(policy())

@pytest.mark.parametrize('policy,n', (
    (A.OneOf([A.HorizontalFlip(p=1), A.NoOp(p=1)], p=1), 0), (A.Sequential([A.HorizontalFlip(p=1)], p=1), 1),
    (A.Sequential([A.HorizontalFlip(p=1)], p=0.5), 0), (A.Compose([A.HorizontalFlip(p=1)], p=1), 1),
    (A.Compose([A.HorizontalFlip(p=1)], p=0.5), 0)))
def test_linter_knows_whether_every_image_is_flipped(policy, n): assert len(lint_policy([policy]))==n

# ---- whole batches: the same numbers give the same pictures

def worst_difference(t, x, theirs):
    "The largest difference of a batch operation from albumentations, on the same draws, all images hit"
    draw,apply,_ = augment._batch_ops[type(t)]
    d = draw(t, len(x), 32, generator(1))
    if 'hit' in d: d['hit'] = torch.ones(len(x), dtype=torch.bool)
    ours = apply(t, x, **d).numpy().astype(int)
    each = [{k: v[i].item() for k,v in d.items()} for i in range(len(x))]
    return np.abs(ours-np.stack([theirs(o, k) for o,k in zip(x.numpy(), each)])).max()

@pytest.mark.parametrize('border', (cv2.BORDER_CONSTANT, cv2.BORDER_REFLECT_101))
def test_crop_of_a_batch_is_albumentations_byte_for_byte(border, x):
    pad = A.Pad(padding=4, fill=0, border_mode=border)
    assert worst_difference(pad, x, lambda o,d: pad(image=o)['image'][4+d['dy']:36+d['dy'], 4+d['dx']:36+d['dx']])==0

def test_flip_of_a_batch_is_albumentations_byte_for_byte(x):
    assert worst_difference(A.HorizontalFlip(p=0.5), x, lambda o,d: o[:,::-1])==0

def test_hole_of_a_batch_is_albumentations_byte_for_byte(x):
    cut = make_policy('cutout9').transforms[0]
    def theirs(o, d): return cut.apply(o, hole=(slice(d['top'], d['top']+9), slice(d['left'], d['left']+9)))
    assert worst_difference(cut, x, theirs)==0

def test_brightness_of_a_batch_is_albumentations_to_a_level(x):
    light = make_policy('r4').transforms[2]
    assert worst_difference(light, x, lambda o,d: light.apply(o, alpha=d['alpha'], beta=d['beta']))<=1

def matrix(d):
    move,scale = dict(x=d['tx'], y=d['ty']),dict(x=d['sx'], y=d['sy'])
    return create_affine_transformation_matrix(move, dict(x=0, y=0), scale, np.rad2deg(d['angle']), (15.5,15.5))

def test_affine_of_a_batch_is_albumentations_to_what_opencv_rounds(x):
    affine,rotate = make_policy('r4').transforms[1],make_policy('r3').transforms[0] # which goes by 32nds of a pixel
    assert worst_difference(affine, x, lambda o,d: affine.apply(o, matrix=matrix(d), output_shape=(32,32)))<=8
    assert worst_difference(rotate, x, lambda o,d: rotate.apply(o, matrix(d), -1, -1, -1, -1, shape=(32,32)))<=8

# ---- whole batches: the same distribution

def what_was_done(batch):
    """To a picture whose red is the row, green the column, blue 200: offsets, mirrored or not, place and size of the
    hole"""
    r,c,b = batch[...,0].astype(np.int16),batch[...,1].astype(np.int16),batch[...,2]
    hole,ok = b==7,(b==200)&(c>0)&(r>0)
    turned = np.where(ok[:,:,1:]&ok[:,:,:-1], np.diff(c, axis=2), 0).sum((1,2))<0
    at = np.arange(32, dtype=np.int16)
    def shift(o): # the same at all that is neither border nor hole
        assert np.array_equal(np.where(ok, o, 99).min((1,2)), np.where(ok, o, -99).max((1,2)))
        return np.where(ok, o, -99).max((1,2))
    dy,dx = shift(r-at[:,None]),shift(c-np.where(turned[:,None,None], 31-at, at))
    top,left = hole.any(2).argmax(1),hole.any(1).argmax(1)
    return dict(dy=dy-1, dx=dx-1, turned=turned, top=top, left=left, holes=hole.reshape(len(batch), -1).sum(1))

def test_batches_are_distributed_as_albumentations():
    n,(rows,cols) = 10_000,np.mgrid[1:33,1:33]
    card = np.stack([rows, cols, np.full((32,32), 200)], -1).astype(np.uint8)
    bp = BatchAugment('crop4+flip+cutout8', fill=(7,7,7))
    ours = what_was_done(bp(torch.from_numpy(card).expand(n,-1,-1,-1), generator(2)).numpy())
    reseed(bp.aug, 3)
    theirs = what_was_done(np.stack([bp.aug(image=card)['image'] for _ in range(n)]))
    for k in ('dy','dx','turned','top','left'):
        seen = np.unique(np.r_[ours[k], theirs[k]])
        p = chi2_contingency([[(o[k]==i).sum() for i in seen] for o in (ours, theirs)])[1]
        assert p>1e-4, (k, p)
    assert set(ours['dy'])==set(range(-4,5)) and set(ours['top'])==set(range(25)) and set(ours['holes'])=={64}
    for a,b in (('dy','top'), ('dx','turned')): assert abs(np.corrcoef(ours[a], ours[b])[0,1])<0.03 # independent draws

@pytest.mark.parametrize('name', policies)
def test_batches_have_mean_and_spread_of_albumentations(name, source):
    n,img,bp = 3000,source.x[3],BatchAugment(name)
    reseed(bp.aug, 0)
    a = bp(torch.from_numpy(img).expand(n,-1,-1,-1), generator()).numpy().astype(float)
    b = np.stack([bp.aug(image=img)['image'] for _ in range(n)]).astype(float)
    tol = 5*np.sqrt((a.var(0)+b.var(0))/n)+0.6
    assert (np.abs(a.mean(0)-b.mean(0))<=tol).mean()>0.999
    assert abs(a.std(0).mean()-b.std(0).mean())<0.03*b.std(0).mean()+0.3

# ---- whole batches: the class

def test_batch_draws_by_its_generator_and_leaves_its_input_alone(x):
    bp,before = BatchAugment('r4'),x.clone()
    a,b,c = (bp(x, generator(s)) for s in (5,5,6))
    assert torch.equal(a, b) and not torch.equal(a, c) and torch.equal(x, before)
    assert a.dtype==torch.uint8 and a.shape==x.shape and torch.equal(BatchAugment('none')(x, generator()), x)

def test_batch_of_another_size_keeps_it():
    x = torch.zeros(2,24,24,3, dtype=torch.uint8)
    assert BatchAugment('translate2+flip+cutout12', 24)(x, generator()).shape==x.shape

def test_border_and_hole_of_a_batch_have_their_color():
    white,color = torch.full((200,32,32,3), 255, dtype=torch.uint8),torch.tensor([1,2,3])
    res = BatchAugment([A.Pad(padding=4, fill=(1,2,3)), A.RandomCrop(32,32)])(white, generator())
    assert (res==color).all(-1)[:,0].any() and ((res==255)|(res==color)).all()
    hole = Cutout(num_holes_range=(1,1), hole_height_range=(40,40), hole_width_range=(40,40), p=1.)
    assert (BatchAugment([hole])(white, generator())==0).all() # over all of it, as on the CPU

crop = A.RandomCrop(32,32)
@pytest.mark.parametrize(
    'policy,says',
    (
        ([A.Blur()], 'Blur is not among'),
        ([A.Pad(padding=4)], 'comes without a RandomCrop to 32x32'),
        ([A.CoarseDropout(num_holes_range=(1, 3))], 'CoarseDropout is not among'),
        ([A.Affine(shear=(3, 9))], 'has shear='),
        ([A.Affine(translate_px=(1, 3))], 'has translate_px='),
        ([A.Affine(keep_ratio=True)], 'has keep_ratio='),
        ([A.Rotate(border_mode=cv2.BORDER_REFLECT_101)], 'has border_mode='),
        ([A.Rotate(crop_border=True)], 'has crop_border='),
        ([A.RandomBrightnessContrast(ensure_safe_range=True)], 'has ensure_safe_range='),
        ([A.Pad(padding=4), A.RandomCrop(24, 24)], 'comes without a RandomCrop to 32x32'),
        ([A.Pad(padding=40), crop], 'has padding 40'),
        ([A.Pad(padding=4, p=0.5), crop], 'comes without a RandomCrop to 32x32 for each image'),
        ([A.PadIfNeeded(40, 40), crop], 'PadIfNeeded is not among'),
        ([crop], 'RandomCrop is not'),
        (A.Compose([A.HorizontalFlip()], p=0.5), 'Compose is not among'),
        ('crip', 'unknown policy'),
    ),
)
def test_what_cannot_be_done_for_batches_is_refused(policy, says):
    with pytest.raises(InputError, match=says): BatchAugment(policy)

def test_affine_is_done_for_batches(): assert len(BatchAugment([A.Affine(rotate=(-15,15), scale=(0.9,1.1))]).ops)==1

@pytest.mark.parametrize('policy', ('crop_flip_cutout','r3','r4'))
def test_colors_are_brought_to_the_device_once(policy, monkeypatch):
    "A batch that brings its own would wait for the device"
    bp,x,g = BatchAugment(policy),torch.zeros(2,32,32,3, dtype=torch.uint8),torch.Generator()
    bp(x, g)
    def no(*args, **kwargs): raise AssertionError('a batch brings something along')
    for o in ('tensor','as_tensor','from_numpy'): monkeypatch.setattr(torch, o, no)
    bp(x, g)
