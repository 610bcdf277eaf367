"""Which ranking finds the test labels that people reject, and does a network doubt where people do?

    python benchmarks/label_errors.py PEOPLE RUN [--logits FILE] [--features FILE] [--source SRC] [--out OUT]

For the 10,000 test images of CIFAR-10 as published it shows precision at 20, 50 and 100 and the area under the
precision-recall curve of each ranking, against two referees; then calibration, and the rank correlation of the
network's entropy with the entropy of people's answers.

PEOPLE is a JSON file, in the order of the published test images, with
`humans`: the `index` and `label` of each image that most people call something else than its label (CIFAR-10H);
`mturk`: candidates with `index` and five `votes`, an error where fewer than 3 are for the `given` label
(cleanlab/label-errors; networks chose the candidates, so this referee favors networks);
`human_entropy`: of people's answers to each image (CIFAR-10H).
The terms of CIFAR-10H allow no commercial use. The file is not part of this repository.

RUN is a run folder with weights. FILE of `--logits` is an .npz with scores of further runs, images x classes, by
'recipe/seed-0'. FILE of `--features` keeps the one pass over all images; it is made where it is missing, which takes
12 minutes on one core. A temperature is fitted on one half of the test images and judged on the other, both ways;
the figures are the mean of the two."""
import argparse, hashlib
from pathlib import Path
import numpy as np, torch
from scipy.optimize import minimize_scalar
from scipy.stats import spearmanr
from cifar_fastai.core import read_json, write_json, md_table
from cifar_fastai.runs import environment, load_weights
from cifar_fastai.ood import picture_features
from cifar_fastai.sources import load_source

def one_pass(run, src, file):
    "Logits of the test images, features of all images, in bfloat16; read from `file` if it is there"
    meta = read_json(Path(run)/'model.json')
    if file and Path(file).exists():
        res = dict(np.load(file))
        if str(res['weights'])==meta['weights_sha256']: return res
        raise SystemExit(f'{file} is of other weights: name another file')
    model = load_weights(run)[0].eval().to(memory_format=torch.channels_last)
    mean,std = (255*torch.tensor(meta[o]).view(1,3,1,1) for o in ('mean','std'))
    res = dict(weights=meta['weights_sha256'])
    for part in ('test','train'):
        idxs,outs = np.flatnonzero(np.asarray(src.is_valid)==(part=='test')),[]
        for o in np.array_split(idxs, max(1, len(idxs)//200)):
            xb = (torch.from_numpy(src.x[o]).permute(0,3,1,2).float()-mean)/std
            with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
                logits,feats = picture_features(model, xb.contiguous(memory_format=torch.channels_last))
            outs.append((logits.float().numpy(), feats['content'].half().numpy()))
        res[f'{part}_logits'],res[f'{part}_features'] = map(np.concatenate, zip(*outs))
        res[f'{part}_labels'] = src.y[idxs]
    if file:
        with open(file, 'wb') as f: np.savez(f, **res) # under this very name
    return res

def log_softmax(x):
    x = x.astype(np.float64)
    return x-np.logaddexp.reduce(x, 1, keepdims=True)

def own(p, y): return p[np.arange(len(y)),y]

def normalized_margin(p, y):
    "cleanlab's formula, turned so that the most suspicious is largest"
    q = p.copy()
    q[np.arange(len(y)),y] = -1
    return 1-(own(p, y)-q.max(1)+1)/2

def nearest(x, known, k, same=False):
    "Indices and cosines of the k nearest of `known`, without the image itself if both are the same"
    unit = lambda o: torch.nn.functional.normalize(torch.from_numpy(o).float(), dim=1)
    a,b,res = unit(x),unit(known),[]
    for i in range(0, len(a), 1000):
        s = a[i:i+1000]@b.T
        if same: s[torch.arange(len(s)),torch.arange(i, i+len(s))] = -9
        res.append(s.topk(k))
    return torch.cat([o.indices for o in res]).numpy(),torch.cat([o.values for o in res]).numpy()

def weighted_loss(y, labels, sims):
    "Log loss of the label among neighbors, each weighted by how near it is; many near ones of another class weigh most"
    w = np.exp((sims-1)/0.03)
    return -np.log((((labels==y[:,None])*w).sum(1)+0.01)/(w.sum(1)+0.1))

def by_neighbors(p, y, feats, k=50):
    "Rankings with the neighbors of the network's features"
    loss,said,x = -np.log(own(p, y)+1e-12),p.argmax(1),feats['test_features']
    near,sims = nearest(x, x, k, True)
    share = (y[near[:,:10]]==said[:,None]).mean(1)
    test = weighted_loss(y, y[near], sims)
    near,sims = nearest(x, feats['train_features'], k)
    labels = feats['train_labels'][near]
    against,train = (labels!=y[:,None]).mean(1),weighted_loss(y, labels, sims)
    agree = np.where((said!=y)&(share>=0.5), p.max(1)*share, 0)
    return {'half of 10 test neighbors agree, by probability times share': agree,
            f'weighted loss of {k} test neighbors, plus loss': test+loss,
            f'{k} training neighbors: share against the label': against,
            f'{k} training neighbors: that share times loss': against*loss,
            f'weighted loss of {k} training neighbors': train,
            f'weighted loss of {k} training neighbors, plus loss': train+loss}

def precision_recall(score, wrong, n_boot=300):
    "Precision of the first 20, 50, 100, and the area under the curve, with 95 % of resamplings of the images"
    order = np.argsort(-score, kind='stable')
    hit = wrong[order].astype(float)
    def area(n): # n: how often each image counts
        found = (n*hit).cumsum()
        return float((n*hit*found/np.maximum(n.cumsum(), 1)).sum()/max(found[-1], 1))
    rng = np.random.default_rng(0)
    draws = [area(rng.multinomial(len(hit), np.full(len(hit), 1/len(hit)))[order]) for _ in range(n_boot)]
    low,high = np.quantile(draws, (0.025, 0.975))
    areas = dict(area=area(np.ones(len(hit))), low=low, high=high)
    first = {f'p{k}': round(float(hit[:k].mean()), 3) for k in (20,50,100)}
    return {**first, **{k: round(float(v), 4) for k,v in areas.items()}},np.array(draws)

def judge(name, learners, score, referees, base):
    "One row of the record; `base` holds the areas of plain loss in the same resamplings"
    row = dict(ranking=name, learners=learners)
    for k,wrong in referees.items():
        row[k],draws = precision_recall(score, wrong)
        base.setdefault(k, draws)
        row[k]['above_loss'] = round(float((draws>base[k]).mean()), 3)
    return row

def ece(p, y, bins=10):
    "Expected calibration error, as `CifarInterpretation.calibration` has it"
    top,right = p.max(1),p.argmax(1)==y
    which = np.clip(np.ceil(top*bins).astype(int)-1, 0, bins-1)
    return sum(abs((right-top)[which==b].sum()) for b in range(bins))/len(y)

def calibration(name, lp, y, human_entropy):
    "Calibration before and after a temperature that the other half of the images gave"
    halves,res = (np.arange(0, len(y), 2),np.arange(1, len(y), 2)),[]
    log_loss = lambda t, i: -own(log_softmax(lp[i]/t), y[i]).mean()
    entropy = lambda o: -(np.exp(o)*o).sum(1)
    for fit,test in (halves, halves[::-1]):
        best = minimize_scalar(lambda o: log_loss(np.exp(o), fit), bounds=(-3,3), method='bounded')
        t = float(np.exp(best.x))
        row = dict(temperature=t)
        for suffix,o in (('',lp[test]), ('_fitted',log_softmax(lp[test]/t))):
            row['ece'+suffix],row['log_loss'+suffix] = ece(np.exp(o), y[test]),-own(o, y[test]).mean()
            row['doubt'+suffix] = spearmanr(entropy(o), human_entropy[test])[0]
        res.append(row)
    mean = {k: round(float(np.mean([o[k] for o in res])), 4) for k in res[0]}
    return dict(learners=name, accuracy=round(float((lp.argmax(1)==y).mean()), 4), **mean)

def gather(run, pass_logits, file):
    "Log probabilities by (recipe, seed), and which of them is `run`; those of `file` are preferred to a new pass"
    r,res = read_json(Path(run)/'config.json')['recipe'],{}
    one = r['name'],int(r['seed'])
    if file:
        with np.load(file) as z:
            for k in z.files:
                recipe,seed = k.split('/seed-')
                res[recipe.split('-')[0],int(seed)] = log_softmax(z[k])
    res.setdefault(one, log_softmax(pass_logits))
    return one,res

def in_order(one, lps, y):
    "Runs of the recipe of `one`, then those of the other recipes, the more accurate recipe first"
    acc = lambda recipe: np.mean([(v.argmax(1)==y).mean() for (r,_),v in lps.items() if r==recipe])
    return sorted(lps, key=lambda o: (o[0]!=one[0], -acc(o[0]), o!=one, o[1]))

def groups_of(runs):
    "The first 2, 5, 9 and 13 of the runs, and one run of each recipe"
    res = {f'the first {i}': runs[:i] for i in (2,5,9,13) if i<=len(runs)}
    once = [o for i,o in enumerate(runs) if o[0] not in [r for r,_ in runs[:i]]]
    return {**res, 'each recipe once': once} if len(once)>1 else res

def text(run): return f'{run[0]} seed {run[1]}'

def single_runs(runs, lps, y, referees):
    "Loss and margin of each run alone, and their means"
    res,scores = {},dict(loss=lambda lp: -own(lp, y), margin=lambda lp: normalized_margin(np.exp(lp), y))
    for name,score in scores.items():
        rows = [judge(name, text(o), score(lps[o]), referees, {}) for o in runs]
        mean = lambda k, q: round(float(np.mean([o[k][q] for o in rows])), 4)
        res[name] = dict(rows=rows, mean={k: {q: mean(k, q) for q in ('p20','p50','p100','area')} for k in referees})
    return res

def measure(people, run, logits=None, features=None, source=None):
    src,answers = load_source(source),read_json(people)
    feats = one_pass(run, src, features)
    y = feats['test_labels']
    if any(y[o['index']]!=o['label'] for o in answers['humans']):
        raise SystemExit(f'the test images are not in the order of {people}: give CIFAR-10 as published')
    mark = lambda idxs: np.isin(np.arange(len(y)), list(idxs))
    referees = dict(people=mark(o['index'] for o in answers['humans']),
                    votes=mark(o['index'] for o in answers['mturk'] if o['votes']['given']<3))
    one,lps = gather(run, feats['test_logits'], logits)
    runs,base,rows = in_order(one, lps, y),{},[]
    groups,p = groups_of(runs),np.exp(lps[one])
    means = {k: np.mean([np.exp(lps[o]) for o in ns], 0) for k,ns in groups.items()}
    def add(name, learners, score): rows.append(judge(name, learners, score, referees, base))
    add("loss (cleanlab's self-confidence)", text(one), -own(lps[one], y))
    add("cleanlab's normalized margin", text(one), normalized_margin(p, y))
    for k,score in by_neighbors(p, y, feats).items(): add(k, text(one), score)
    for k,mean in means.items():
        add('loss of the mean probabilities', k, -np.log(own(mean, y)))
        add('mean of the losses', k, -np.mean([own(lps[o], y) for o in groups[k]], 0))
        add('normalized margin of the mean probabilities', k, normalized_margin(mean, y))
    said = np.array([lps[o].argmax(1) for o in runs])
    count = lambda m: dict(images=int(m.sum()), **{k: int(v[m].sum()) for k,v in referees.items()})
    asked = {**{text(o): lps[o] for o in runs}, **{k: np.log(o) for k,o in means.items()}}
    sha = lambda f: hashlib.sha256(Path(f).read_bytes()).hexdigest()
    prints = dict(source=src.fingerprint, people=sha(people), weights=str(feats['weights']))
    return dict(images=len(y), referees={k: int(v.sum()) for k,v in referees.items()},
                both=int((referees['people']&referees['votes']).sum()), run=text(one), learners=[text(o) for o in runs],
                rows=rows, single_runs=single_runs(runs, lps, y, referees),
                mistakes_of_the_run=count(p.argmax(1)!=y), unanimous=count((said==said[0]).all(0)&(said[0]!=y)),
                calibration=[calibration(k, o, y, np.array(answers['human_entropy'])) for k,o in asked.items()],
                fingerprints={**prints, 'logits': sha(logits)} if logits else prints)

def tables(rec):
    "The record as two tables"
    heads = 'p20','p50','p100'
    percents = lambda o: [f'{100*o[q]:.0f}' for q in heads]
    interval = lambda o: f"{o['area']:.3f} [{o['low']:.3f}, {o['high']:.3f}]"
    each = lambda o, area: [c for k in rec['referees'] for c in (*percents(o[k]), area(o[k]))]
    rows = [[o['ranking'], o['learners'], *each(o, interval)] for o in rec['rows']]
    for name,o in rec['single_runs'].items():
        rows.append([f'{name}, mean over single runs', len(o['rows']), *each(o['mean'], lambda q: f"{q['area']:.3f}")])
    cols = ['ranking','learners',*(f'{k} {q}' for k in rec['referees'] for q in ('20','50','100','area'))]
    keys = 'accuracy','temperature','ece','ece_fitted','log_loss','log_loss_fitted','doubt','doubt_fitted'
    calibrations = [[o['learners'], *(f'{o[k]:.3f}' for k in keys)] for o in rec['calibration']]
    return md_table(cols, rows, 'll'+'r'*8)+'\n\n'+md_table(['learners',*keys], calibrations, 'l'+'r'*8)

if __name__=='__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for o in ('people','run','--logits','--features','--source'): p.add_argument(o)
    p.add_argument('--out', default='results/label-errors.json')
    args = p.parse_args()
    rec = measure(args.people, args.run, args.logits, args.features, args.source)
    given = [f'--{k} {Path(getattr(args, k)).name}' for k in ('logits','features') if getattr(args, k)]
    names = Path(args.people).name,Path(args.run).name
    if args.source: given.append(f'--source {args.source}')
    command = ' '.join(['python benchmarks/label_errors.py', *names, *given])
    write_json(args.out, dict(command=command, **rec, **environment()))
    print(tables(rec))
    print('\nall wrong, and the same way:', rec['unanimous'], '\nmistakes of the run:', rec['mistakes_of_the_run'])
