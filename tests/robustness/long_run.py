"""300 short epochs in one process, two loader processes started again in each: memory stays flat, and no process
and no file handle is left.
`python tests/robustness/long_run.py` writes `results/long-run.json`; exit code 1 if it is not so."""
import argparse, gc, multiprocessing, os, platform, sys, tempfile, time
from pathlib import Path
import fastai, torch
from fastai.vision.all import Callback
from cifar_fastai.core import write_json
from cifar_fastai.recipes import Recipe
from cifar_fastai.train import train
from cifar_fastai.shapes import shapes10
from cifar_fastai.sources import load_source

def rss(): return int(Path('/proc/self/statm').read_text().split()[1])*os.sysconf('SC_PAGE_SIZE')/2**20 # MiB
def handles(): return len(os.listdir('/proc/self/fd'))
def processes(): return len(multiprocessing.active_children())

class Watch(Callback):
    "Memory, handles and processes after each epoch"
    order = 95
    def __init__(self): self.rows = []
    def after_epoch(self): self.rows.append((self.epoch+1, rss(), handles(), processes()))

def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--epochs', type=int, default=300)
    p.add_argument('--out', default=Path(__file__).parents[2]/'results/long-run.json', type=Path)
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as tmp:
        src = load_source(shapes10(Path(tmp)/'set', n_train=200, n_test=50), cache=False)
        recipe = Recipe(
            epochs=args.epochs,
            bs=50,
            policy='crop4+cutout12',
            progressive_sizes=[16, 24],
            cbs={'ema': {'decay': 0.9}},
            precision='fp32',
            model_kw=dict(width=8, dropout=0.1),
        )
        # what is imported and opened once, is by now
        train(Recipe(epochs=1, bs=50, model_kw=dict(width=8)), src, Path(tmp)/'warm-up', device='cpu')
        before,watch,start = (handles(), processes()),Watch(),time.time()
        train(recipe, src, Path(tmp)/'run', device='cpu', workers=2, cbs=watch)
        seconds = time.time()-start
        gc.collect()
        after = handles(),processes()
    first = min(50, args.epochs//6)
    at = {e: m for e,m,*_ in watch.rows}
    grown = at[args.epochs]-at[first]
    flat = grown < 0.03*at[first]
    clean = after==before and len({o[2:] for o in watch.rows[first-1:]})==1
    write_json(
        args.out,
        dict(
            what='one run of many short epochs, two loader processes started again in each: memory after each tenth '
                 'epoch, MiB of resident set',
            command=' '.join(['python', 'tests/robustness/long_run.py', *sys.argv[1:]]),
            epochs=args.epochs,
            steps=args.epochs * 4,
            seconds=round(seconds),
            rss_mib={e: round(at[e], 1) for e in range(10, args.epochs + 1, 10)},
            grown_mib=round(grown, 1),
            from_epoch=first,
            flat=flat,
            handles_before=before[0],
            handles_after=after[0],
            processes_before=before[1],
            processes_after=after[1],
            handles_in_epochs=sorted({o[2] for o in watch.rows}),
            processes_in_epochs=sorted({o[3] for o in watch.rows}),
            clean=clean,
            data='shapes10, 200 training and 50 test images',
            recipe={k: getattr(recipe, k) for k in ('bs', 'policy', 'progressive_sizes', 'cbs', 'model_kw')},
            cores=os.cpu_count(),
            versions=dict(python=platform.python_version(), torch=torch.__version__, fastai=fastai.__version__),
        ),
    )
    print(args.out.read_text())
    return 0 if flat and clean else 1

if __name__=='__main__': raise SystemExit(main())
