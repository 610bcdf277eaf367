"What the benchmarks of speed share: measures in turns, a record with hardware and versions, and its table."
import argparse, shlex, sys, time
from pathlib import Path
import numpy as np
from cifar_fastai.core import InputError, md_table, progress, say, write_json
from cifar_fastai.runs import environment
from fastai.vision.all import Callback, CancelValidException, torch


def options(name, doc, rounds=3, device=True):
    "A parser with the header of a script, and the options that most of them have"
    p = argparse.ArgumentParser(
        f'benchmarks/{name}.py', description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if device: p.add_argument('--device', metavar='NAME', help='cpu, cuda, ... (default: the GPU if there is one)')
    p.add_argument(
        '--out',
        type=Path,
        default=Path(f'results/bench-{name}.json'),
        metavar='FILE',
        help='the record (default %(default)s)',
    )
    if rounds: whole(p, 'rounds', rounds, 'rounds; the median is reported')
    return p


def whole(p, name, default, text):
    "Add an option for a whole number"
    p.add_argument(f'--{name}', type=int, default=default, metavar='N', help=f'{text} (default {default})')


def typed_command():
    "The command of this script as it was typed, for its record"
    return shlex.join(['python', f'benchmarks/{Path(sys.argv[0]).name}', *sys.argv[1:]])


def run(p, measure, table):
    "Read the options, measure, write the record and print its table; a mistake is one line"
    args = vars(p.parse_args())
    out, name = args.pop('out'), Path(sys.argv[0]).name
    try: rec = measure(**args)
    except InputError as e: sys.exit(f'{name}: error: {e}')
    write_json(out, {'bench': Path(name).stem, **rec, 'command': typed_command(), **environment(rec.get('device', 'cpu'))})
    print(f'{table(rec)}\nrecord: {out}')


def in_turns(todo, rounds):
    """Run functions that return what they counted in turns, each once to warm up: name to counts a second, one for
    each round"""
    for k in progress(list(todo), 'warming up'): todo[k]()
    rates = {k: [] for k in todo}
    for k in progress([*todo]*rounds, f'{rounds} rounds in turns'):
        start = time.perf_counter()
        n = todo[k]()
        took = time.perf_counter()-start
        rates[k].append(n/took)
        if took > 3: say(f'{k}: {rates[k][-1]:,.0f} a second')
    return rates


def ratio(rates, a, b):
    "The median over the rounds of how many times as fast `a` is as `b`"
    return float(np.median([x/y for x,y in zip(rates[a], rates[b])]))


def compared(rates, ours, peers=(), limit=None, **more):
    "What was measured, as a record: `peers` do the same by other means, and nothing can be faster than the `limit`"
    median = {k: float(np.median(v)) for k,v in rates.items()}
    share = None if limit is None else ratio(rates, ours, limit)
    return dict(unit='images/s', median=median, rounds=rates, ours=ours, limit=limit, share_of_limit=share,
                times_peer={k: ratio(rates, ours, k) for k in peers}, **more)


def speed_table(rec):
    "Medians, and how many times as fast ours is"
    ours = rec['ours']
    roles = {ours: 'ours', rec['limit']: 'limit', rec.get('floor'): 'floor', **{k: 'peer' for k in rec['times_peer']}}
    over = {k: '' if k==ours else f"{ratio(rec['rounds'], ours, k):.2f}" for k in rec['median']}
    rows = [(k, f'{v:,.0f}', over[k], roles.get(k, '')) for k,v in rec['median'].items()]
    return md_table(['what', rec['unit'], 'ours over it', ''], rows, 'lrrl')


def wait(device):
    "Wait until a GPU has finished its work"
    if device.type=='cuda': torch.cuda.synchronize(device)
    elif device.type=='mps': torch.mps.synchronize()


def drain(dl, passes=1):
    "Make all batches of a loader, some times over; how many images that were"
    n = 0
    for _ in range(passes):
        for xb,*_ in dl: n += len(xb)
    wait(xb.device)
    return n


def last_line(res):
    "Why a process failed: the end of what it said, or its exit code, where something killed it"
    return (res.stderr.strip().splitlines() or [f'exit code {res.returncode}'])[-1]


class NoValid(Callback):
    "Leave the validation out"
    def before_validate(self): raise CancelValidException
