"""Train the network that `demo_learner` gives, and write it into the package: `python tools/demo_network.py` (a
minute on a CPU),
or `python tools/demo_network.py RUN` for a run that is there already."""
import json
import sys
import tempfile
from pathlib import Path
from safetensors.torch import save_file
from cifar_fastai.recipes import Recipe
from cifar_fastai.runs import load_weights, Run
from cifar_fastai.shapes import shapes10
from cifar_fastai.train import train

target = Path(__file__).resolve().parents[1]/'cifar_fastai/demo.safetensors'
recipe = Recipe(epochs=4, bs=50, lr=0.1, policy='flip', sched='linear', model_kw=dict(width=16), precision='fp32')

def main(folder=None):
    if folder is None: folder = train(recipe, shapes10(), Path(tempfile.mkdtemp())/'run', device='cpu')
    run = Run(folder)
    model, meta = load_weights(run.path)
    kept = {k: meta[k] for k in ('model','arch','vocab','mean','std','size')}
    right, n = run.validated
    kept |= dict(accuracy=right/n, n_test=n, n_train=run.config['source']['n_train'], hardware=run.config['hardware'])
    weights = {k: v.half() if v.is_floating_point() else v for k,v in model.state_dict().items()}
    save_file(weights, target, {'demo': json.dumps(kept)})
    print(f'{target.name}: {target.stat().st_size:,} bytes, {right} of {n} test images')

if __name__=='__main__': main(*sys.argv[1:2])
