"""Which convolutions end the process in channels-last on this CPU? Each shape is tried in a process that may die.

    python benchmarks/channels_last.py           # about two minutes where none dies, a few seconds more for each
    that does
    python benchmarks/channels_last.py --wide    # more shapes, for half an hour

Ends in 1 if a shape dies that `channels_last_is_safe` calls safe. Found with PyTorch 2.15 on a CPU with AVX-512: in
float32 alone, the
gradient of the weights of 1x1 kernels with a stride of 2 or more, from fewer than 16 channels to any number: on
maps from 45x45 with one
thread, on 32x32 already with three. Kernels of 3x3 and 5x5, stride 1, 16 channels or more, bfloat16 and the
gradient of the images live.
"""
import itertools, json, subprocess, sys
import torch
from torch import nn
from cifar_fastai.models import channels_last_is_safe

def conv(ni, nf, kernel, stride):
    return nn.Conv2d(ni, nf, kernel, stride, kernel // 2, bias=False).to(memory_format=torch.channels_last)


def work(shapes):
    """Train a convolution of each shape on 20 images, three times, since what is overwritten is a matter of luck; say
    which before"""
    for o in shapes:
        print(json.dumps(o), flush=True)
        torch.set_num_threads(o['threads'])
        for _ in range(3):
            x = torch.randn(20, o['ni'], o['size'], o['size']).to(memory_format=torch.channels_last).requires_grad_()
            with torch.autocast('cpu', torch.bfloat16, o['half']):
                y = conv(o['ni'], o['nf'], o['kernel'], o['stride'])(x)
            y.float().sum().backward()

def search(shapes):
    "The shapes that end the process"
    dead = []
    while shapes:
        res = subprocess.run(
            [sys.executable, __file__, '--work'], input=json.dumps(shapes), capture_output=True, text=True
        )
        if res.returncode==0: break
        if not res.stdout: raise SystemExit(res.stderr)
        last = json.loads(res.stdout.splitlines()[-1])
        print('dies:', last, flush=True)
        dead.append(last)
        shapes = shapes[shapes.index(last)+1:]
    return dead

def main(wide):
    few = dict(ni=(4,8,15,16), nf=(4,16), kernel=(1,3), stride=(1,2), size=(32,64), half=(False,True), threads=(1,4))
    many = dict(ni=(1,2,3,4,7,8,9,12,15,16,24,32), nf=(1,2,7,8,9,16,32), kernel=(1,3,5), stride=(1,2,3),
                size=(16,32,44,46,56,64,96), half=(False,True), threads=(1,2,3,8))
    shapes = [dict(zip(few, o)) for o in itertools.product(*(many if wide else few).values())]
    dead = search(shapes)
    missed = [o for o in dead if channels_last_is_safe(conv(o['ni'], o['nf'], o['kernel'], o['stride']), 'cpu')]
    print(f'{len(dead)} of {len(shapes)} shapes end the process, {len(missed)} of them are called safe')
    return bool(missed)

if __name__=='__main__':
    if '--work' in sys.argv: work(json.load(sys.stdin))
    else: sys.exit(main('--wide' in sys.argv))
