"""How far the maps of a network can be trusted: every check, for each method and layer, beside maps that know no
network.

    python benchmarks/cam_metrics.py --n-slow 32     # the network that ships with the package
    python benchmarks/cam_metrics.py RUN RUN RUN --n-slow 32 --out results/cam-metrics-shapes10.json

RUN is a run folder of a network trained on the sample data; the full-width networks, three seeds:

    for s in 0 1 2; do cifar-train --source shapes10 --epochs 4 --bs 32 --lr 0.05 --policy flip --seed $s; done

Where a run was trained on other images, which have no masks, the record has what needs none: emprt, correlation,
bottom_up, road, insertion, deletion.

Each score is a mean over images, with a 95 % interval (`..._95`, bootstrap over images):

- hits, energy: the peak lies on the object; share of the map's sum on it
- emprt: the share by which the entropy of the map rises when all weights are new (efficient MPRT)
- correlation, bottom_up: rank correlation with the map of the trained network, after all above the layer got new
  weights, and after the stem alone got new ones
- road, insertion, deletion: what taking pixels away, or giving them back, does to the probability
- two_objects, two_hits: in an image with two objects, the share of the mass on both that is on the own one; the peak
  lies on the own one

Over several networks a score is the mean, its interval reaches from the lowest to the highest of theirs, and a method
passes if it does for each. `fails` names the checks that it does not pass. The default is the row that fails the
fewest among those whose map changes with the weights (a map that does not explains no decision), by more hits where
two fail as many, or by a higher ROAD where there are no masks. `blurred mask` is no bar, since it knows the answer.
"""
import argparse, sys
from functools import partial
from pathlib import Path
import numpy as np
from joblib import Parallel, delayed # comes with scikit-learn
from cifar_fastai.cam import default_layer, default_method
from cifar_fastai.cam_metrics import baseline_maps, map_entropy, mean_scores, score_maps, tried_layers, tried_methods
from cifar_fastai.core import InputError, md_table, read_json, write_json
from cifar_fastai.data import pick_device
from cifar_fastai.demo import demo_learner
from cifar_fastai.interpret import CifarInterpretation
from cifar_fastai.runs import environment
from common import typed_command

columns = dict(hits='hits', mass_inside='energy', entropy_rise='emprt', road='road', insertion='insertion',
               deletion='deletion', share='two_objects')
baseline_names = {'random map': 'random', 'blurred random': 'blurred_random', 'blurred mask': 'blurred_mask'}


def score(row, key, name=None):
    "A score and its interval, in the words of the record"
    name,short = name or columns[key],key.split('_')[0]
    return {name: round(float(row[key]), 4), f'{name}_95': [round(float(row[f'{short}_{o}']), 4) for o in ('low','high')]}


def by_row(df): return {(o['method'], o['layer']): o for o in df.to_dict('records')}


def check_network(interp, methods, layers, n, n_slow, seed):
    "Every score of each method and layer, and of the baselines, for one network"
    args = methods,layers
    n,n_slow = (min(o, int((interp.decoded==interp.targs).sum())) for o in (n, n_slow))
    points = by_row(interp.pointing_game(*args, n, seed=seed)) if interp.has_masks else {}
    pairs = by_row(interp.two_objects(*args, n, seed=seed)) if interp.has_masks else {}
    road = by_row(interp.road(*args, n_slow, seed=seed))
    down = interp.cascading_randomization(*args, n_slow, seed=seed)
    up = interp.cascading_randomization(*args, n_slow, order='bottom-up', seed=seed)
    first,new = by_row(up[up.part==up.part.iloc[0]]),by_row(down[down.part==down.part.iloc[-1]])
    decided = down[down.verdict!=''].groupby(['method','layer'])
    stays = {k: (o.verdict!='changes').any() for k,o in decided}
    above = {k: float(o.correlation.iloc[0]) for k,o in decided}
    rows = {}
    for at,o in road.items():
        row = {**score(o, 'road'), **score(o, 'insertion'), **score(o, 'deletion')}
        if at in pairs: row |= {**score(pairs[at], 'share'), **score(pairs[at], 'hits', 'two_hits')}
        if at in points: row |= {**score(points[at], 'hits'), **score(points[at], 'mass_inside')}
        if at in new:
            row |= {**score(new[at], 'entropy_rise'), 'correlation': round(above[at], 4), 'stays': bool(stays[at]),
                    'bottom_up': round(float(first[at]['correlation']), 4)}
        rows[at] = row
    return rows


def image_baselines(interp, rows, n, seed):
    "What is left of the baselines: the blurred mask's own hits and energy, and entropies that no weights can change"
    items = interp.correct(n, 'random', seed)
    masks = interp.masks(items) if interp.has_masks else None
    for nm,m in baseline_maps(np.stack(interp.pictures(items.idxs)), seed, masks).items():
        had = map_entropy(m)
        scores = dict(entropy_rise=(had-had)/had)
        if masks is not None:
            s = score_maps(m, masks)
            scores |= dict(hits=s['hit'], mass_inside=s['mass_inside'])
        means = mean_scores(**scores)
        rows[nm,''] |= {k: v for o in scores for k,v in score(means, o).items()}


def add_fails(rows):
    "Name the checks that each method fails: its interval is not beyond the best baseline"
    bars = [o for (nm,layer),o in rows.items() if layer=='' and nm!='blurred mask']
    for at,o in rows.items():
        if not at[1]: continue
        higher = [k for k in (*columns.values(),'two_hits') if k in o and k!='deletion']
        fails = [k for k in higher if o[f'{k}_95'][0]<=max(b[k] for b in bars)]
        if o['deletion_95'][1]>=min(b['deletion'] for b in bars): fails.append('deletion')
        o['fails'] = fails+['randomization']*o.pop('stays')+['goal']*(o.get('hits', 1)<0.9)


def over_networks(all_rows):
    "The mean of each score, the interval that holds all of theirs, and every check that one of them fails"
    def merged(key, xs):
        if key=='fails': return sorted({o for x in xs for o in x})
        if key.endswith('_95'): return [min(x[0] for x in xs), max(x[1] for x in xs)]
        return round(float(np.mean(xs)), 4)
    return {at: {k: merged(k, [o[at][k] for o in all_rows]) for k in first} for at,first in all_rows[0].items()}


def all_scores(run, n, n_slow, seed, methods, layers, device):
    "Accuracy of a network, and its rows with what each fails; without a run of the network of the package"
    if run: interp = CifarInterpretation.from_run(run, device=device)
    else: interp = CifarInterpretation.from_learner(demo_learner())
    rows = check_network(interp, methods, layers, n, n_slow, seed)
    image_baselines(interp, rows, min(n, int((interp.decoded==interp.targs).sum())), seed)
    add_fails(rows)
    return interp.accuracy,rows


def measure(runs, n, n_slow, seed, methods, layers, device, jobs=1):
    score_run = partial(all_scores, n=n, n_slow=n_slow, seed=seed, methods=methods, layers=layers, device=device)
    accuracies,all_rows = zip(*Parallel(jobs)(delayed(score_run)(o) for o in runs or [None]))
    rows = over_networks(all_rows)
    methods = [dict(method=nm, layer=layer, **o, passes=not o['fails']) for (nm,layer),o in rows.items() if layer]
    learned = [o for o in methods if 'randomization' not in o['fails']]
    best = min(learned or methods, key=lambda o: (len(o['fails']), -o.get('hits', o['road'])))
    ours = [o for o in methods if (o['method'],o['layer'])==(default_method,default_layer)]
    brief = lambda o: {k: o[k] for k in ('method','layer','fails')}
    names = [f'{Path(o).name}: {read_json(Path(o)/"model.json")["weights_sha256"]}' for o in runs]
    return dict(networks=names or ['demo_learner()'], accuracy=[round(o, 4) for o in accuracies], images=n,
                images_slow=n_slow, seed=seed, goal=0.9, rows=methods,
                baselines={baseline_names.get(nm, nm): o for (nm,layer),o in rows.items() if not layer},
                default=brief(best), in_package=brief(ours[0]) if ours else None)


def table(rec):
    "The record as a table"
    keys = [k for k in ('hits','energy','emprt','road','insertion','deletion','two_objects') if k in rec['rows'][0]]
    def cell(o, k): return '' if o.get(k) is None else f'{o[k]:.2f} [{o[k+"_95"][0]:.2f}, {o[k+"_95"][1]:.2f}]'
    def line(o, nm, layer): return [nm, layer, *(cell(o, k) for k in keys), ', '.join(o.get('fails', []))]
    rows = [line(o, o['method'], o['layer']) for o in rec['rows']]
    rows += [line(o, nm.replace('_', ' '), '') for nm,o in rec['baselines'].items()]
    return md_table(['method','layer',*keys,'fails'], rows, 'll'+'r'*len(keys)+'l')


def parser():
    p = argparse.ArgumentParser('benchmarks/cam_metrics.py', description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('runs', nargs='*', metavar='RUN', help='run folders; by default the network of the package')
    for nm,default,text in (('n',200,'images, and pairs'), ('n-slow',100,'images for randomization, ROAD, insertion and deletion'),
                            ('seed',0,'of images, new weights and noise')):
        p.add_argument(f'--{nm}', type=int, default=default, metavar='N', help=f'{text} (default {default})')
    p.add_argument('--jobs', type=int, default=1, metavar='N', help='networks to measure side by side (default 1)')
    p.add_argument('--methods', nargs='+', default=list(tried_methods), metavar='NAME')
    p.add_argument('--layers', nargs='+', default=list(tried_layers), metavar='PATH')
    p.add_argument('--device', metavar='NAME', help='of the runs: cpu, cuda, ... (default: the GPU if there is one); the network '
                   'of the package stays on the CPU')
    p.add_argument('--out', type=Path, default=Path('results/cam-metrics-demo.json'), metavar='FILE')
    return p


if __name__=='__main__':
    args = vars(parser().parse_args())
    out = args.pop('out')
    try: rec = measure(**args)
    except InputError as e: sys.exit(f'cam_metrics.py: error: {e}')
    write_json(out, dict(command=typed_command(), **rec,
                         **environment(pick_device(args['device']) if args['runs'] else 'cpu')))
    print(f'{table(rec)}\nrecord: {out}')
