"""How speed and peak memory depend on the number of training images and on the batch size.

Ten times the images should take a loader ten times as long, and no more memory: each process reads the whole source,
and trains on some of its images. A step of twice the batch should take at most twice as long. Each figure comes from
a process of its own, so that its peak of memory is its own.
Committed: results/bench-growth.json, made on 2 cores of an AMD EPYC, fp32, on CIFAR-10.

    python benchmarks/growth.py --source cifar10 --device cpu
"""
import json, subprocess, sys, time
from cifar_fastai.core import InputError, md_table
from cifar_fastai.data import cifar_dls, pick_device
from cifar_fastai.learner import cifar_learner
from cifar_fastai.sources import load_source
from fastai.vision.all import torch
from common import NoValid, drain, last_line, options, run, wait


def images(n, source, policy, device):
    "Seconds to load and to a first batch, images a second of both paths"
    start = time.perf_counter()
    src = load_source(source)
    loaded = time.perf_counter()
    dl = cifar_dls(src, policy, 128, n_train=n, loader='cpu', device='cpu', workers=0).train
    dl.one_batch()
    res = dict(images=n, load_s=loaded-start, first_batch_s=time.perf_counter()-loaded)
    on_device = cifar_dls(src, policy, 128, n_train=n, loader='device', device=device).train
    # a GPU finishes some thousand images before a clock can measure it
    passes = 1 if on_device.device.type=='cpu' else max(1, 10**6//n)
    drain(on_device) # the first pass loads kernels
    for k,dl,times in (('cpu_path', dl, 1), ('device_path', on_device, passes)):
        start = time.perf_counter()
        res[k] = drain(dl, times)/(time.perf_counter()-start)
    return res


def batch(bs, source, policy, device, steps=3):
    "Images a second of training steps; a batch an epoch on a CPU, on a GPU so many that its clock has risen"
    src = load_source(source)
    n = bs if device=='cpu' else min(50*bs, len(src.train_idxs))
    dls = cifar_dls(src, policy, bs, n_train=max(n, len(src.vocab)), loader='device', device=device)
    learn = cifar_learner(dls, cbs=NoValid())
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, 0.01)
        start = time.perf_counter()
        learn.fit(steps, 0.01)
        wait(dls.device)
    return dict(batch=bs, step=steps*len(dls.train)*bs/(time.perf_counter()-start))


def peak_mb():
    "Peak memory of this process, MB; `getrusage` would begin with that of its parent on Linux"
    try: return int(next(o for o in open('/proc/self/status') if o.startswith('VmHWM')).split()[1])/1024
    except (OSError, StopIteration): pass
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/(2**20 if sys.platform=='darwin' else 1024)


def here(kind, *args):
    "One measure, in this process"
    res = dict(images=images, batch=batch)[kind](*args)
    res['peak_mb'] = peak_mb()
    if torch.device(args[-1]).type=='cuda': res['gpu_peak_mb'] = torch.cuda.max_memory_allocated(args[-1])/2**20
    print(json.dumps(res))


def apart(*args):
    "One measure, in a process of its own"
    res = subprocess.run([sys.executable, __file__, '--here', json.dumps(args)], capture_output=True, text=True)
    if res.returncode: raise InputError(f'measuring {args[:2]} failed: {last_line(res)}')
    return json.loads(res.stdout.splitlines()[-1])


def measure(images, batches, source, policy, device):
    device = str(pick_device(device)) # before any download
    src = load_source(source)
    rest = str(src.path), policy, device
    return dict(source=src.name, policy=policy, device=device, images=[apart('images', n, *rest) for n in images],
                batches=[apart('batch', n, *rest) for n in batches])


def table(rec):
    peaks = {'peak_mb': 'peak memory, MB', 'gpu_peak_mb': "the GPU's, MB"}
    heads = (
        dict(
            images='images',
            load_s='to load all, s',
            first_batch_s='to the first batch, s',
            cpu_path='CPU path, images/s',
            device_path='device path, images/s',
        ),
        dict(batch='batch', step='training step, images/s'),
    )
    def one(head, rows):
        cols = {k: v for k,v in {**head, **peaks}.items() if k in rows[0]}
        return md_table(cols.values(), [[number(o[k]) for k in cols] for o in rows], 'r'*len(cols))
    return '\n\n'.join(map(one, heads, (rec['images'], rec['batches'])))


def number(x): return f'{x:,.2f}' if isinstance(x, float) and x<10 else f'{x:,.0f}'


def numbers(s): return [int(o) for o in s.split(',')]


def parser():
    p = options('growth', __doc__, rounds=0)
    p.add_argument(
        '--images',
        type=numbers,
        default=(1000, 10000, 50000),
        metavar='N,N',
        help='numbers of training images (default 1000,10000,50000)',
    )
    p.add_argument(
        '--batches',
        type=numbers,
        default=(64, 128, 256, 512),
        metavar='N,N',
        help='images in a batch (default 64,128,256,512)',
    )
    p.add_argument(
        '--source', metavar='SRC', help='the images, at least as many as the largest number (default: CIFAR-10)'
    )
    p.add_argument('--policy', default='crop_flip_cutout', metavar='NAME', help='augmentation (default %(default)s)')
    return p


if __name__=='__main__':
    if '--here' in sys.argv: sys.exit(here(*json.loads(sys.argv[-1])))
    run(parser(), measure, table)
