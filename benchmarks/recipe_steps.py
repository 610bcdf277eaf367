"""Milliseconds of a training step of each recipe, on the generated sample data, with nothing beside it.

Shows how much of a step is the recipe's own (optimizer, norm, batch size), and whether cudnn.benchmark pays.
Measured on an H100: results/gpu/recipe-steps.json. About a minute there.

    python benchmarks/recipe_steps.py [--device cuda] [--out results/gpu/recipe-steps.json]
"""
import argparse, gc, time
from pathlib import Path
import torch
from fastai.vision.all import Callback
from cifar_fastai.core import write_json
from cifar_fastai.runs import environment
from cifar_fastai.optim import schedules
from cifar_fastai.recipes import get_recipe, recipe_callbacks
from cifar_fastai.train import recipe_learner
from cifar_fastai.shapes import shapes10
from common import typed_command, wait


class StepTime(Callback):
    "Seconds of a training step, one mean an epoch; waits for the device at both ends of an epoch"
    order, name = 100, 'step_time'
    def __init__(self): self.seconds = []
    def before_train(self):
        wait(self.dls.device)
        self.began = time.perf_counter()
    def after_train(self):
        wait(self.dls.device)
        self.seconds.append((time.perf_counter()-self.began)/len(self.dls.train))


def step_ms(name, device, epochs=3):
    "Milliseconds of a step of recipe `name`: the last epoch of `epochs`, over 4,000 images at full size"
    changes = dict(n_train=4000, epochs=epochs, valid_every=epochs, tta='none', progressive_sizes=[], lr=0.01)
    recipe = get_recipe(name, **changes)
    learn, timer = recipe_learner(recipe, shapes10(n_train=4000, n_test=10), device), StepTime()
    with learn.no_bar(), learn.no_logging():
        schedules[recipe.sched](learn, epochs, recipe.lr, cbs=[timer, *recipe_callbacks(recipe)], **recipe.sched_kw)
    return recipe.bs, 1000*timer.seconds[-1]


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    p.add_argument('--out', type=Path, help='JSON file for the record (default: none)')
    args = p.parse_args()
    rows = []
    for benchmark in (False, True):
        torch.backends.cudnn.benchmark = benchmark
        for name in ('plain', 'fast20', 'quick', 'R2', 'R3', 'R4'):
            bs, ms = step_ms(name, args.device)
            rows.append(
                dict(
                    recipe=name,
                    batch=bs,
                    cudnn_benchmark=benchmark,
                    ms_per_step=round(ms, 2),
                    images_per_s=round(1000 * bs / ms),
                )
            )
            print(f'{name:8} batch {bs:4}  cudnn.benchmark {str(benchmark):5}  {ms:7.2f} ms a step', flush=True)
            gc.collect()
    record = dict(bench='recipe-steps', command=typed_command(), rows=rows, **environment(args.device))
    if args.out: write_json(args.out, record)


if __name__ == '__main__': main()
