"""How well signs of a picture that is none of the classes work: distance to training features, energy, largest logit,
probability.

    python benchmarks/ood.py RUN [--source SRC] [--out results/ood.json]

For each kind of picture: the area under the ROC curve, and the share that is marked at 5 % false alarms. Every
second test image, the first 1,000 of them, sets the threshold; the first 1,000 of the others are the known pictures,
and tell the rate of false alarms. The record of another run is added to the file. A folder may hold its weights in
half precision (`model-half.safetensors`)."""

import argparse, tempfile
from pathlib import Path
import numpy as np, torch
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits, load_sample_images
from sklearn.metrics import roc_auc_score
from cifar_fastai.data import cifar_dls
from cifar_fastai.core import read_json, write_json, md_table
from cifar_fastai.learner import cifar_learner
from cifar_fastai.runs import environment, load_weights
from cifar_fastai.ood import known_features, picture_features
from cifar_fastai.predict import ImageClassifier
from cifar_fastai.shapes import shapes10
from cifar_fastai.sources import Source, load_source
from common import typed_command

def photo_crops(n, size, rng):
    "Squares of any size and place from scikit-learn's two photographs"
    res,photos = [],[Image.fromarray(o) for o in load_sample_images().images]
    for i in range(n):
        img = photos[i%len(photos)]
        side = int(rng.integers(size, min(img.size)+1))
        left,top = (int(rng.integers(0, o-side+1)) for o in img.size)
        box = left,top,left+side,top+side
        res.append(np.asarray(img.resize((size,size), Image.Resampling.BICUBIC, box=box)))
    return np.stack(res)

def digits(n, size):
    "scikit-learn's handwritten digits, white on black"
    imgs = (load_digits().images[:n]*255/16).astype(np.uint8)
    return np.stack(
        [np.asarray(Image.fromarray(o).resize((size, size), Image.Resampling.BICUBIC).convert('RGB')) for o in imgs]
    )


def shapes(n, size):
    src = load_source(shapes10(n_train=100, n_test=n, size=size))
    return src.x[src.valid_idxs]

def others(src, n, seed=0):
    "Pictures of something else, by what they are"
    rng,size = np.random.default_rng(seed),src.size
    real = src.x[rng.choice(src.valid_idxs, min(n, len(src.valid_idxs)), replace=False)]
    res = dict(noise=rng.integers(0, 256, (n,size,size,3), dtype=np.uint8),
               shuffled=np.stack([rng.permutation(o.reshape(-1,3)).reshape(o.shape) for o in real]),
               plain=np.broadcast_to(rng.integers(0, 256, (n,1,1,3), dtype=np.uint8), (n,size,size,3)),
               digits=digits(n, size), photos=photo_crops(n, size, rng))
    return res if src.name=='shapes10' else {**res, 'shapes': shapes(n, size)}

def full_precision(run):
    "A folder with the weights of `run` in float32"
    if not (run/'model-half.safetensors').exists(): return run
    out,meta = Path(tempfile.mkdtemp()),read_json(run/'model.json')
    meta.pop('weights_sha256', None)
    write_json(out/'model.json', meta)
    half = load_file(run/'model-half.safetensors')
    save_file({k: o.float() if o.is_floating_point() else o for k,o in half.items()}, out/'model.safetensors')
    return out

def signals(clf, xs):
    "Each sign that images are none of the classes, by name, larger out of distribution"
    found = []
    with torch.no_grad():
        for xb in clf.inputs([Image.fromarray(o) for o in xs]).split(64):
            logits,features = picture_features(clf.model.eval(), xb)
            found.append(
                dict(
                    {'probability': 1-logits.softmax(1).amax(1), 'largest logit': -logits.amax(1)},
                    energy=-logits.logsumexp(1),
                    distance=clf.known.distance(features),
                )
            )
    return {k: torch.cat([o[k] for o in found]) for k in found[0]}

def measure(run, source, n):
    "AUROC and share marked at 5 % false alarms, by score and kind of picture"
    run,src = Path(run),load_source(source)
    config = read_json(run/'config.json')
    recipe = config['recipe']
    if recipe.get('valid', 'test')!='test':
        raise SystemExit(f'{run} was validated on training images: name a run that was not')
    model,meta = load_weights(full_precision(run))
    val = src.valid_idxs
    first,second = val[::2],val[1::2]
    keep = np.r_[np.flatnonzero(~np.asarray(src.is_valid)), first]
    part = Source(src.x[keep], src.y[keep], src.vocab, np.asarray(src.is_valid)[keep], name=src.name)
    dls = cifar_dls(
        part, 'none', 50, stats=(meta['mean'], meta['std']), n_train=recipe.get('n_train'), seed=recipe.get('seed', 0),
        device='cpu'
    )
    known = known_features(cifar_learner(dls, model, precision='fp32'))
    clf = ImageClassifier(model, meta['vocab'], meta['mean'], meta['std'], meta['size'], known=known)
    a,b = signals(clf, src.x[first[:1000]]),signals(clf, src.x[second[:1000]])
    rows = []
    for kind,xs in others(src, n).items():
        for score,s in signals(clf, xs).items():
            at = float(np.quantile(a[score].double(), 0.95))
            y = np.r_[np.zeros(len(b[score])), np.ones(len(s))]
            auroc,share = roc_auc_score(y, np.r_[b[score], s]),lambda o: round(float((o>at).float().mean()), 3)
            rows.append(
                dict(pictures=kind, score=score, auroc=round(auroc, 4), marked=share(s), false_alarms=share(b[score]))
            )
    mb = sum(o.numel()*2 for o in known.features.values())/1e6
    return dict(
        run=Path(run).name,
        recipe=recipe,
        source=src.name,
        fingerprint=src.fingerprint,
        features=len(known.features['content']),
        megabytes=round(mb, 2),
        known=len(b['energy']),
        pictures=n,
        rows=rows,
    )


def table(rec):
    scores = list(dict.fromkeys(o['score'] for o in rec['rows']))
    cell = {(o['pictures'],o['score']): f"{o['auroc']:.3f}, {100*o['marked']:.0f} %" for o in rec['rows']}
    kinds = dict.fromkeys(o['pictures'] for o in rec['rows'])
    return md_table(['pictures',*scores], [[k,*(cell[k,s] for s in scores)] for k in kinds], 'l'+'r'*len(scores))

if __name__=='__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('run'); p.add_argument('--source'); p.add_argument('-n', type=int, default=300)
    p.add_argument('--out', default='results/ood.json')
    args = p.parse_args()
    rec = measure(args.run, args.source, args.n)
    rec['command'] = typed_command()
    old = read_json(args.out)['runs'] if Path(args.out).exists() else []
    write_json(
        args.out,
        dict(
            runs=[*(o for o in old if (o['run'], o['source']) != (rec['run'], rec['source'])), rec], **environment()
        ),
    )
    print(table(rec))
