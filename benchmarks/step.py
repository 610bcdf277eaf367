"""Training images a second: the learner's loop beside bare PyTorch loops with the same network, batch and optimizer.

Peer: the loop of the reference notebooks, float32 and channels-first. Limit: a bare loop of the learner's kind
(precision, channels-last). Floor: the network's convolutions alone, forward and backward, which no training step can
beat. These have their batches ready. What making them on the device takes, with crop, flip and cutout, is measured
beside them, as `loader_share_of_step`. Nothing else should run on the machine.
Committed: results/bench-step.json, made on 2 cores of an AMD EPYC, fp32, nothing beside it.

    python benchmarks/step.py --device cpu
"""
import time
from functools import partial
from cifar_fastai.data import cifar_dls, pick_device
from cifar_fastai.learner import cifar_learner
from cifar_fastai.models import pick_precision, resnet18
from cifar_fastai.shapes import shapes10
from fastai.vision.all import F, nn, set_seed, torch
from common import NoValid, compared, drain, in_turns, options, ratio, run, speed_table, wait, whole

dtypes = dict(bf16=torch.bfloat16, fp16=torch.float16)


class Ready(NoValid):
    "Batches that are there already, in place of the loader's"
    def __init__(self, xs, ys): self.xs,self.ys = xs,ys
    def before_batch(self): self.learn.xb,self.learn.yb = (self.xs[self.iter],),(self.ys[self.iter],)


def network(device, width, channels_last=True):
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return resnet18(width=width).to(device, memory_format=layout)


def bare_loop(model, xs, ys, precision, fused=None):
    "A plain loop over batches that are there already"
    kind,dtype = xs[0].device.type, dtypes.get(precision)
    opt = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, fused=fused)
    scaler = torch.amp.GradScaler(kind, enabled=precision=='fp16')
    def fit():
        model.train()
        for x,y in zip(xs, ys):
            with torch.autocast(kind, dtype, enabled=dtype is not None): loss = F.cross_entropy(model(x), y)
            scaler.scale(loss).backward()
            scaler.step(opt)
            scaler.update()
            opt.zero_grad()
        wait(xs[0].device)
        return sum(map(len, xs))
    return fit


def convolutions(model, x, precision, n):
    "The convolutions of a training step and nothing else, `n` times: forward, and the gradients of inputs and weights"
    calls,convs = [], [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    hooks = [m.register_forward_hook(lambda m,i,o: calls.append((m, i[0].shape, o.shape))) for m in convs]
    with torch.no_grad(): model(x)
    for h in hooks: h.remove()
    def tensor(shape, grad=True):
        res = torch.randn(shape, device=x.device, dtype=dtypes.get(precision, torch.float32))
        return res.contiguous(memory_format=torch.channels_last).requires_grad_(grad)
    parts = [(m, tensor(i, k>0), tensor(m.weight.shape), tensor(o, False)) for k,(m,i,o) in enumerate(calls)]
    def work():
        for m, i, w, g in parts * n:
            torch.autograd.grad(F.conv2d(i, w, None, m.stride, m.padding), [w, i] if i.requires_grad else [w], g)
        wait(x.device)
        return n*len(x)
    return work


def fitting(dls, xs, ys, width, precision, compile):
    "A fit of the learner over batches that are there already"
    learn = cifar_learner(
        dls, network(dls.device, width), 'sgd', precision=precision, cbs=Ready(xs, ys), compile=compile
    )

    def fit():
        with learn.no_bar(), learn.no_logging(): learn.fit(1, 0.01)
        wait(dls.device)
        return sum(map(len, xs))
    return fit


def measure(n_batches, bs, rounds, width, precision, compile, device):
    device = pick_device(device)
    precision = pick_precision(precision, device)
    set_seed(0)
    dls = cifar_dls(shapes10(n_train=n_batches*bs, n_test=10), 'none', bs, device=device, loader='device', workers=0)
    # what a step would wait for
    made = cifar_dls(dls.source, 'crop_flip_cutout', bs, device=device, loader='device', workers=0).train
    xs,ys = zip(*[(x.as_subclass(torch.Tensor), y.as_subclass(torch.Tensor)) for x,y in dls.train])
    last,first = ([x.contiguous(memory_format=o) for x in xs] for o in (torch.channels_last, torch.contiguous_format))
    fused = True if device.type=='cuda' else None # as the learner; the reference notebooks' loop as they had it
    todo,more = {'learner': fitting(dls, xs, ys, width, precision, False)}, {}
    if compile:
        todo['learner, compiled'] = fitting(dls, xs, ys, width, precision, True)
        start = time.perf_counter()
        todo['learner, compiled']()
        more['first_round_compiled_s'] = time.perf_counter()-start
    todo['bare loop'] = bare_loop(network(device, width), last, ys, precision, fused)
    todo['float32, channels-first'] = bare_loop(network(device, width, False), first, ys, 'fp32')
    todo['convolutions alone'] = convolutions(network(device, width), xs[0], precision, n_batches)
    todo['augmented batches alone, device path'] = partial(drain, made, 1 if device.type=='cpu' else 50)
    rates = in_turns(todo, rounds)
    best = 'learner, compiled' if compile else 'learner'
    more.update(share_of_floor=ratio(rates, best, 'convolutions alone'),
                loader_share_of_step=ratio(rates, 'learner', 'augmented batches alone, device path'))
    return compared(
        rates,
        'learner',
        ('float32, channels-first',),
        'bare loop',
        floor='convolutions alone',
        device=str(device),
        batch=bs,
        batches=n_batches,
        width=width,
        precision=precision,
        **more,
    )


def table(rec):
    lines = [f"making the batches takes {100*rec['loader_share_of_step']:.2f} % of a step's time",
             f"the learner runs at {100*rec['share_of_floor']:.0f} % of the speed of its convolutions alone"]
    if 'first_round_compiled_s' in rec:
        lines.append(f"the first round, which compiles, took {rec['first_round_compiled_s']:.0f} s")
    return '\n'.join([speed_table(rec), '', *lines])


def parser():
    p = options('step', __doc__)
    whole(p, 'n-batches', 4, 'batches in a round')
    whole(p, 'bs', 128, 'images in a batch')
    whole(p, 'width', 64, 'channels of the first stage')
    p.add_argument('--precision', default='auto', metavar='NAME', help='auto, fp32, bf16 or fp16 (default %(default)s)')
    p.add_argument('--compile', action='store_true', help='try torch.compile too')
    return p


if __name__=='__main__':
    run(parser(), measure, table)
