"""Maps a second: `cam_maps` in batches, pytorch-grad-cam image by image as its users call it, torchcam and Captum in the
same batches where they are installed, and the forward pass alone.

No method can beat the forward pass without gradients, so that is the limit. They take turns, and what is reported are
medians. `difference` is how far the maps of a peer are from ours at most, in shares of the largest value of ours: before
they are scaled and drawn, GradCAM is the same formula everywhere.

torchcam and Captum know GradCAM alone of our methods under that name, and are measured with it: pip install torchcam captum
Committed: results/bench-cam.json, made on 2 cores of an AMD EPYC, fp32, nothing beside it.

    python benchmarks/cam.py --device cpu
"""
from functools import partial
from importlib.util import find_spec
from cifar_fastai.cam import cam_maps, cam_methods, find_layer
from cifar_fastai.core import md_table, say
from cifar_fastai.data import pick_device
from cifar_fastai.models import resnet18
from fastai.vision.all import set_seed, torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from common import compared, in_turns, options, run, speed_table, whole


def ours(model, xs, targets, method, layer, bs): return len(cam_maps(model, xs, targets, method, layer, bs=bs))


def one_by_one(model, xs, targets, method, layer):
    with cam_methods[method](model=model, target_layers=[find_layer(model, layer)]) as cam:
        for x,t in zip(xs, targets): cam(x[None], [ClassifierOutputTarget(t)])
    return len(xs)


def with_torchcam(model, xs, targets, layer, bs):
    from torchcam.methods import GradCAM
    with GradCAM(model, target_layer=find_layer(model, layer)) as cam:
        maps = [cam(targets[i:i+bs], model(xs[i:i+bs]), normalized=False)[0].cpu() for i in range(0, len(xs), bs)]
    return torch.cat(maps)


def with_captum(model, xs, targets, layer, bs):
    from captum.attr import LayerGradCam
    cam,ts = LayerGradCam(model, find_layer(model, layer)),torch.tensor(targets, device=xs.device)
    parts = [slice(i, i+bs) for i in range(0, len(xs), bs)]
    return torch.cat([cam.attribute(xs[p], ts[p], relu_attributions=True).detach()[:,0].cpu() for p in parts])


def peers(method):
    "The other libraries that are installed and have the method: name to a function"
    if method!='GradCAM': return {}
    found = {k: f for k,f in dict(torchcam=with_torchcam, captum=with_captum).items() if find_spec(k)}
    for k in {'torchcam','captum'}-set(found): say(f'{k} is not installed: not measured')
    return found


def forward(model, xs, bs):
    with torch.no_grad():
        for o in xs.split(bs): model(o).cpu()
    return len(xs)


def measure(n, bs, width, method, layer, rounds, device):
    device = pick_device(device)
    set_seed(0)
    model = resnet18(width=width).to(device, memory_format=torch.channels_last).eval()
    xs,targets = torch.randn(n, 3, 32, 32, device=device), [i%10 for i in range(n)]
    others = {k: partial(f, model, xs, targets, layer, bs) for k,f in peers(method).items()}
    maps = cam_maps(model, xs, targets, method, layer, bs=bs)
    difference = {k: float((f()-maps).abs().max()/maps.max()) for k,f in others.items()}
    todo = {'cam_maps': partial(ours, model, xs, targets, method, layer, bs),
            **{k: lambda f=f: len(f()) for k,f in others.items()},
            'library, image by image': partial(one_by_one, model, xs, targets, method, layer),
            'forward pass alone': partial(forward, model, xs, bs)}
    return compared(in_turns(todo, rounds), 'cam_maps', ('library, image by image', *others), 'forward pass alone',
                    difference=difference, device=str(device), images=n, method=method, layer=layer, batch=bs)


def table(rec):
    "Speeds, and how far the maps of other libraries are from ours"
    rows = [(k, f'{v:.1e}') for k,v in rec['difference'].items()]
    return speed_table(rec)+('\n\n'+md_table(['library','largest difference'], rows, 'lr') if rows else '')


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
