"""Training images a second of whole recipes, side by side over all their epochs.

What a recipe costs is more than a step: Muon computes longer than SGD, smaller images first save. A few batches an
epoch, in turns, without validation. Committed: results/bench-recipes.json, made on 2 cores of an AMD EPYC, fp32,
nothing beside it.

    python benchmarks/recipes.py --n-batches 4 --device cpu
"""
from functools import partial
from cifar_fastai.core import InputError
from cifar_fastai.data import pick_device
from cifar_fastai.models import pick_precision
from cifar_fastai.optim import schedules
from cifar_fastai.recipes import get_recipe, recipe_callbacks
from cifar_fastai.shapes import shapes10
from cifar_fastai.train import recipe_learner
from common import NoValid, compared, in_turns, options, run, speed_table as table, wait, whole


def fit(learn, r):
    with learn.no_bar(), learn.no_logging():
        schedules[r.sched](learn, r.epochs, learn.lr, cbs=[NoValid(), *recipe_callbacks(r)], **r.sched_kw)
    wait(learn.dls.device)
    return r.epochs*len(learn.dls.train)*r.bs


def measure(names, n_batches, rounds, device):
    if len(names)<2: raise InputError(f'{names[0]} alone is compared with nothing: give two recipes or more')
    device, todo, recipes = pick_device(device), {}, [get_recipe(o) for o in names]
    if len({r.name for r in recipes})<len(recipes):
        raise InputError('two of the recipes have one name: give each its own')
    for r in recipes:
        learn = recipe_learner(r, shapes10(n_train=n_batches*r.bs, n_test=10), device, compile=False)
        todo[r.name] = partial(fit, learn, r)
    precision = pick_precision(recipes[0].precision, device)
    ours, *peers = (r.name for r in recipes)
    return compared(in_turns(todo, rounds), ours, peers, device=str(device), batches=n_batches, precision=precision)


def parser():
    p = options('recipes', __doc__)
    p.add_argument(
        'names',
        nargs='*',
        default=['quick', 'plain5'],
        metavar='NAME',
        help='the first is compared with the others (default quick plain5)',
    )
    whole(p, 'n-batches', 2, 'batches in an epoch')
    return p


if __name__=='__main__':
    run(parser(), measure, table)
