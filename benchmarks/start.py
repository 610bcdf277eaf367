"""Seconds until the package is imported, until `cifar-train --help` is through, and from the call to a first batch.

Each in a process of its own, in turns; the first round, which warms the disk's cache, does not count. Peer: the
import of fastai alone. Committed: results/bench-start.json and, with the requirements alone in place of all extras,
results/start-requirements-only.json, made on 2 cores of an AMD EPYC with CIFAR-10 at hand.

    python benchmarks/start.py --source cifar10
"""
import subprocess, sys, time
import numpy as np
from cifar_fastai.core import InputError, md_table
from cifar_fastai.sources import load_source
from common import last_line, options, run

package, stock = (f'from {o} import *' for o in ('cifar_fastai.all', 'fastai.vision.all'))
batch = (
    package
    + "; import time; s=time.perf_counter(); cifar_dls({!r}, device='cpu').one_batch(); print(time.perf_counter()-s)"
)


def timed(*argv):
    "Seconds of a command of Python, and what it printed"
    start = time.perf_counter()
    res = subprocess.run([sys.executable, *argv], capture_output=True, text=True)
    if res.returncode: raise InputError(f"{' '.join(argv)} failed: {last_line(res)}")
    return time.perf_counter()-start, res.stdout


def measure(source, rounds):
    name = load_source(source).name  # which fills its cache
    todo = {
        package: ('-c', package),
        stock: ('-c', stock),
        'cifar-train --help': ('-m', 'cifar_fastai.cli', 'train', '--help'),
    }
    rows = []
    for _ in range(rounds+1):
        took = {k: timed(*argv)[0] for k,argv in todo.items()}
        rows.append({**took, 'call to first batch, second start': float(timed('-c', batch.format(source))[1])})
    secs = {k: [o[k] for o in rows[1:]] for k in rows[0]}
    return dict(unit='s', source=name, median={k: float(np.median(v)) for k,v in secs.items()}, rounds=secs,
                import_over_fastai=float(np.median([a/b for a,b in zip(secs[package], secs[stock])])))


def table(rec):
    rows = [(k, f'{v:.2f}') for k,v in rec['median'].items()]
    return md_table(['what','seconds'], [*rows, ("import over fastai's own", f"{rec['import_over_fastai']:.2f}")], 'lr')


def parser():
    p = options('start', __doc__, device=False)
    p.add_argument('--source', default='shapes10', metavar='SRC', help='whose first batch (default %(default)s)')
    return p


if __name__=='__main__':
    run(parser(), measure, table)
