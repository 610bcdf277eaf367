"""Do our scores of maps agree with Quantus (0.6), the toolkit for evaluating explanations? On the same maps:

- pointing game, with `quantus.PointingGame`
- energy on the object, with `quantus.RelevanceMassAccuracy`, and with `quantus.AttributionLocalisation`, which adds 1e-9
  to the sum of a map, and so differs where a map is nearly empty
- entropy rise, with `quantus.EfficientMPRT`, whose network with new weights is given to ours

Empty maps are left out of the first two: they have no peak and no sum (ours counts them as misses).
Committed: results/quantus.json. It needs the extra `quantus`:

    python benchmarks/quantus_agreement.py
"""
import argparse, copy
from functools import partial
from pathlib import Path
import numpy as np
import torch
from cifar_fastai.cam import cam_maps, upsample_maps
from cifar_fastai.cam_metrics import _compare_maps, map_entropy, score_maps, tried_methods
from cifar_fastai.core import md_table, write_json
from cifar_fastai.demo import demo_learner
from cifar_fastai.interpret import CifarInterpretation
from cifar_fastai.runs import environment
from common import typed_command


def explained(model, inputs, targets, method, layer, **kwargs):
    "Maps for Quantus: one channel, at the size of the images"
    x = torch.as_tensor(inputs, dtype=torch.float32)
    return upsample_maps(cam_maps(model, x, [int(o) for o in targets], method, layer, signed=True), x.shape[-2:]).numpy()[:,None]


def all_new(quantus, model, seed):
    "The network with all weights new, as Quantus makes it"
    wrapped = quantus.PyTorchModel(copy.deepcopy(model))
    return list(wrapped.get_random_layer_generator(order='bottom_up', seed=seed))[-1][1]


def compare(quantus, interp, method, layer, n, seed=0):
    "Largest difference of each score over the images, and how many images both score"
    items = interp.correct(n, 'random', seed)
    model,xb,targets = interp.learn.model.eval(),interp[items][0].as_subclass(torch.Tensor),interp.decoded[items.idxs].numpy()
    maps,masks = interp.cam(items, method=method, layer=layer),interp.masks(items)
    s,full = score_maps(maps, masks),np.flatnonzero(maps.flatten(1).max(1)[0]>1e-12)
    quiet = dict(disable_warnings=True, display_progressbar=False, abs=False, normalise=False)
    given = dict(model=model, x_batch=xb.numpy()[full], y_batch=targets[full], a_batch=maps.numpy()[full,None],
                 s_batch=masks[full,None], device='cpu')
    def theirs(name): return np.array([float(o) for o in getattr(quantus, name)(**quiet)(**given)])
    explain = partial(explained, method=method, layer=layer)
    mprt = quantus.EfficientMPRT(seed=seed, **quiet)
    rise = np.array(mprt(model=model, x_batch=xb.numpy(), y_batch=targets, explain_func=explain, device='cpu'))
    was,new = (explain(o, xb, targets)[:,0] for o in (model, all_new(quantus, model, seed)))
    ours = map_entropy(new)/map_entropy(was)-1
    mean = _compare_maps(torch.from_numpy(was), torch.from_numpy(new))['entropy_rise']
    def off(a, b): return float(np.abs(np.asarray(a, float)-b).max())
    return dict(method=method, layer=layer, images=n, empty=int(s['empty'].sum()),
                means=dict(hits=float(s['hit'].mean()), energy=float(s['mass_inside'].mean()), entropy_rise=float(mean)),
                hits=off(s['hit'][full], theirs('PointingGame')),
                energy_mass_accuracy=off(s['mass_inside'][full], theirs('RelevanceMassAccuracy')),
                energy_localisation=off(s['mass_inside'][full], theirs('AttributionLocalisation')),
                entropy_rise=off(ours, rise), entropy_rise_mean=abs(float(mean-np.mean(rise))))


def measure(n=50, methods=tried_methods, layers=('stage1','stage2','stage3')):
    import quantus
    interp = CifarInterpretation.from_learner(demo_learner())
    rows = [compare(quantus, interp, m, l, n) for l in layers for m in methods]
    keys = 'hits','energy_mass_accuracy','energy_localisation','entropy_rise','entropy_rise_mean'
    return dict(quantus=quantus.__version__, network='demo_learner()', images=n, rows=rows,
                largest_difference={k: max(o[k] for o in rows) for k in keys})


def table(rec):
    return md_table(['score','largest difference'], [(k, f'{v:.1e}') for k,v in rec['largest_difference'].items()], 'lr')


if __name__=='__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('-n', type=int, default=50, help='images (default %(default)s)')
    p.add_argument('--out', type=Path, default=Path('results/quantus.json'))
    args = p.parse_args()
    rec = measure(args.n)
    write_json(args.out, dict(command=typed_command(), **rec, **environment('cpu')))
    print(table(rec))
