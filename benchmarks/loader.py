"""Augmented, normalized images a second, for one core: this package's loaders beside stock fastai and torchvision.

Peers: stock fastai with the same albumentations policy as an item transform, from files; a plain torchvision
`ImageFolder` with torchvision's transforms, where the policy is `crop_flip_cutout`. Limit of the CPU path: the policy
alone, in a bare loop over the arrays (`albumentations alone`: with its own `CoarseDropout`, as the stock pipeline has
it, in place of `Cutout`). The device path makes whole batches with PyTorch. All in one process with one thread, in
turns.
Committed: results/bench-loader.json, made on 2 cores of an AMD EPYC, fp32, nothing beside it.

    python benchmarks/loader.py --device cpu
"""
from functools import partial
from pathlib import Path
import albumentations as A, numpy as np, torchvision.transforms as T
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from cifar_fastai.augment import BatchAugment, Cutout, make_policy
from cifar_fastai.data import cifar_dls, pick_device
from cifar_fastai.shapes import shapes10
from cifar_fastai.sources import load_source
from fastai.vision.all import (
    CategoryBlock,
    DataBlock,
    GrandparentSplitter,
    ImageBlock,
    IntToFloatTensor,
    Normalize,
    PILImage,
    Transform,
    get_image_files,
    parent_label,
    torch,
)
from common import compared, drain, in_turns, options, run, speed_table as table, wait, whole

half, quarter = (.5,.5,.5), (.25,.25,.25)


class StockPolicy(Transform):
    "albumentations as users of fastai put it into an item pipeline"
    split_idx = 0
    def __init__(self, aug): self.aug = aug
    def encodes(self, img:PILImage): return PILImage.create(self.aug(image=np.array(img))['image'])


def own_dropout(t):
    "The same transform, albumentations' own class in place of `Cutout`"
    if not isinstance(t, Cutout): return t
    return A.CoarseDropout(t.num_holes_range, t.hole_height_range, t.hole_width_range, t.fill, p=t.p)


def stock_policy(policy): return A.Compose([own_dropout(t) for t in make_policy(policy).transforms])


def stock_dl(path, policy, bs):
    block = DataBlock(
        (ImageBlock, CategoryBlock),
        get_items=get_image_files,
        get_y=parent_label,
        splitter=GrandparentSplitter('train', 'test'),
        item_tfms=StockPolicy(stock_policy(policy)),
        batch_tfms=[IntToFloatTensor(), Normalize.from_stats(half, quarter, cuda=False)],
    )
    return block.dataloaders(path, bs=bs, num_workers=0, device='cpu').train


def torchvision_dl(path, bs):
    erase = T.RandomErasing(p=1., scale=(.25,.25), ratio=(1,1))
    tfms = T.Compose(
        [T.RandomCrop(32, padding=4), T.RandomHorizontalFlip(), T.ToTensor(), T.Normalize(half, quarter), erase]
    )
    return DataLoader(ImageFolder(str(path/'train'), tfms), bs, shuffle=True, drop_last=True, num_workers=0)


def alone(aug, images):
    "The policy in a bare loop"
    for o in images: aug(image=o)
    return len(images)


def batches_alone(policy, images, bs, device, passes):
    "The policy for whole batches, as many images at once as the loader makes"
    x,g,aug = torch.tensor(images).to(device), torch.Generator(device), BatchAugment(policy)
    for o in x.split(bs if device.type=='cpu' else max(bs, 4096))*passes: aug(o, g)
    wait(device)
    return len(images)*passes


def measure(n, bs, rounds, workers, policy, device):
    src,device = load_source(shapes10(n_train=n, n_test=10)), pick_device(device)
    path,images = Path(src.path), src.x[:n]
    passes = 1 if device.type=='cpu' else 50  # a GPU finishes some thousand images before a clock can measure it

    def ours(loader, device, workers=0):
        return cifar_dls(src, policy, bs, loader=loader, device=device, workers=workers).train

    dls = {'stock fastai': stock_dl(path, policy, bs)}
    if policy=='crop_flip_cutout': dls['torchvision'] = torchvision_dl(path, bs)
    peers = list(dls)
    dls['CPU path'] = ours('cpu', 'cpu')
    if workers: dls[f'CPU path, {workers} workers'] = ours('cpu', 'cpu', workers)
    todo = {k: partial(drain, dl) for k,dl in dls.items()}
    todo['device path'] = partial(drain, ours('device', device), passes)
    todo['policy alone'] = partial(alone, make_policy(policy), images)
    todo['albumentations alone'] = partial(alone, stock_policy(policy), images)
    todo['batch policy alone'] = partial(batches_alone, policy, images, bs, device, passes)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try: rates = in_turns(todo, rounds)
    finally: torch.set_num_threads(threads) # a notebook that runs this trains on
    return compared(
        rates,
        'CPU path',
        peers,
        'policy alone',
        device=str(device),
        images=n,
        policy=policy,
        batch=bs,
        loader_threads=1,
    )


def parser():
    p = options('loader', __doc__)
    whole(p, 'n', 2000, 'training images of the sample data')
    whole(p, 'bs', 128, 'images in a batch')
    whole(p, 'workers', 0, 'loader processes of one more CPU path; 0: none')
    p.add_argument('--policy', default='crop_flip_cutout', metavar='NAME', help='augmentation (default %(default)s)')
    return p


if __name__=='__main__':
    run(parser(), measure, table)
