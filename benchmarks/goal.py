"""Seconds and joules that a recipe takes, and whether its final epoch reaches an accuracy: time to accuracy.

The run is not stopped when the test images say so, which would choose the epoch by them: the recipe has its number
of epochs, and the final one
counts. `speed94` is meant for 94 % on CIFAR-10 with a large GPU. The time is that of the fit with its one
validation, images on the device already;
the same recipe runs for two batches an epoch first, so that no kernel is loaded within the time, and nothing is
compiled. The energy is what the
driver of an NVIDIA GPU counts, that of the whole card (pip install 'cifar_fastai[energy]').
No record is committed yet: it needs a GPU with nothing beside it. Some minutes there.

    python benchmarks/goal.py
"""
import time
from dataclasses import asdict, replace
from cifar_fastai.core import InputError, md_table
from cifar_fastai.data import pick_device
from cifar_fastai.experiments import mean_std
from cifar_fastai.models import pick_precision
from cifar_fastai.optim import schedules
from cifar_fastai.recipes import get_recipe, recipe_callbacks
from cifar_fastai.sources import load_source
from cifar_fastai.train import recipe_learner
from fastai.vision.all import torch
from common import options, run, wait, whole


def energy_meter(device):
    "A function that reads the joules a GPU has used so far, or None and why there is none"
    if device.type!='cuda': return None, 'energy is read from the driver of NVIDIA GPUs alone'
    try: import pynvml
    except ImportError: return None, "energy not read: pip install 'cifar_fastai[energy]'"
    try:
        pynvml.nvmlInit()
        h = pynvml.nvmlDeviceGetHandleByUUID(f'GPU-{torch.cuda.get_device_properties(device).uuid}')
        pynvml.nvmlDeviceGetTotalEnergyConsumption(h)
    except pynvml.NVMLError as e: return None, f'the driver reports no energy: {e}'
    def joules(): return pynvml.nvmlDeviceGetTotalEnergyConsumption(h)/1000 # the driver counts millijoules
    return joules, ''


def fit_once(r, src, device, joules=None):
    "Fit as the recipe says: the last row of its history, seconds, joules"
    learn = recipe_learner(r, src, device, compile=False)
    wait(learn.dls.device)
    before, start = joules and joules(), time.perf_counter()
    with learn.no_bar(), learn.no_logging():
        schedules[r.sched](learn, r.epochs, learn.lr, cbs=recipe_callbacks(r), **r.sched_kw)
    wait(learn.dls.device)
    seconds = time.perf_counter()-start
    return learn.history.rows[-1], seconds, joules and joules()-before


def measure(recipe, source, goal, seeds, device):
    if not 0<=goal<=1: raise InputError(f'goal is {goal}: it is an accuracy, 0 to 1')
    r, device = get_recipe(recipe), pick_device(device)  # before any download
    if r.lr == 'find':
        raise InputError(f'recipe {r.name!r} uses the finder, whose time is not that of the training: give another')
    src = load_source(source)
    fit_once(replace(r, valid='test', n_train=min(2*r.bs, int((~src.is_valid).sum()))), src, device)
    (joules, why), rows = energy_meter(device), []
    for s in range(seeds):
        end, seconds, used = fit_once(replace(r, seed=s), src, device, joules)
        rows.append(dict(seed=s, seconds=seconds, joules=used, acc=end['valid_acc'], reached=end['valid_acc']>=goal))
    return dict(
        recipe=asdict(r),
        goal=goal,
        rows=rows,
        energy=why or 'NVML, the whole card',
        precision=pick_precision(r.precision, device),
        source=dict(name=src.name, fingerprint=src.fingerprint),
        compile=False,
        device=str(device),
    )


def column(rows, k, by=1):
    "Mean and standard deviation over the seeds"
    if rows[0][k] is None: return ''
    mean, std, _ = mean_std([o[k]*by for o in rows])
    return f'{mean:.2f}'+('' if std is None else f' ± {std:.2f}')


def table(rec):
    r, rows = rec['recipe'], rec['rows']
    reached = f"{sum(o['reached'] for o in rows)} of {len(rows)}"
    head = ['recipe','epochs','accuracy, %',f"seeds at {100*rec['goal']:g} % or above",'seconds','kJ']
    cells = [
        r['name'],
        r['epochs'],
        column(rows, 'acc', 100),
        reached,
        column(rows, 'seconds'),
        column(rows, 'joules', 1e-3) or rec['energy'],
    ]
    return md_table(head, [cells], 'lrrrrr')


def parser():
    p = options('goal', __doc__, rounds=0)
    p.add_argument(
        'recipe',
        nargs='?',
        default='speed94',
        metavar='NAME',
        help='recipe, by name or JSON file (default %(default)s)',
    )
    p.add_argument('--goal', type=float, default=0.94, metavar='X', help='accuracy, 0 to 1 (default %(default)s)')
    whole(p, 'seeds', 5, 'how many seeds')
    p.add_argument('--source', metavar='SRC', help='the images (default: CIFAR-10, see cifar-train --help)')
    return p


if __name__=='__main__':
    run(parser(), measure, table)
