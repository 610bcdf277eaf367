"""Maps a second: `cam_maps` in batches, pytorch-grad-cam image by image as its users call it, and the forward pass
alone.

No method can beat the forward pass without gradients, so that is the limit. The three take turns, and what is
reported are medians.
Committed: results/bench-cam.json, made on 2 cores of an AMD EPYC, fp32, nothing beside it.

    python benchmarks/cam.py --device cpu
"""
from functools import partial
from cifar_fastai.cam import cam_maps, cam_methods, find_layer
from cifar_fastai.data import pick_device
from cifar_fastai.models import resnet18
from fastai.vision.all import set_seed, torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from common import compared, in_turns, options, run, speed_table as table, whole


def ours(model, xs, targets, method, layer, bs): return len(cam_maps(model, xs, targets, method, layer, bs=bs))


def one_by_one(model, xs, targets, method, layer):
    with cam_methods[method](model=model, target_layers=[find_layer(model, layer)]) as cam:
        for x,t in zip(xs, targets): cam(x[None], [ClassifierOutputTarget(t)])
    return len(xs)


def forward(model, xs, bs):
    with torch.no_grad():
        for o in xs.split(bs): model(o).cpu()
    return len(xs)


def measure(n, bs, width, method, layer, rounds, device):
    device = pick_device(device)
    set_seed(0)
    model = resnet18(width=width).to(device, memory_format=torch.channels_last).eval()
    xs,targets = torch.randn(n, 3, 32, 32, device=device), [i%10 for i in range(n)]
    todo = {'cam_maps': partial(ours, model, xs, targets, method, layer, bs),
            'library, image by image': partial(one_by_one, model, xs, targets, method, layer),
            'forward pass alone': partial(forward, model, xs, bs)}
    return compared(in_turns(todo, rounds), 'cam_maps', ('library, image by image',), 'forward pass alone',
                    device=str(device), images=n, method=method, layer=layer, batch=bs)


def parser():
    p = options('cam', __doc__)
    whole(p, 'n', 1000, 'images')
    whole(p, 'bs', 64, 'images at a time')
    whole(p, 'width', 64, "channels of the network's first stage")
    p.add_argument('--method', default='GradCAM', metavar='NAME', help='method, by name (default %(default)s)')
    p.add_argument('--layer', default='stage3', metavar='PATH', help='layer, by module path (default %(default)s)')
    return p


if __name__=='__main__':
    run(parser(), measure, table)
