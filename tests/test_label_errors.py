"""What `benchmarks/label_errors.py` measures, by other means"""
import importlib.util
from pathlib import Path
import numpy as np, pytest
from sklearn.metrics import average_precision_score
from cifar_fastai.files import write_json
from cifar_fastai.interpret import CifarInterpretation

@pytest.fixture(scope='module')
def bench():
    file = Path(__file__).parent.parent/'benchmarks/label_errors.py'
    spec = importlib.util.spec_from_file_location('label_errors', file)
    res = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(res)
    return res

def some_probs(n=200):
    rng = np.random.default_rng(0)
    p = np.exp(3*rng.standard_normal((n,10)))
    return p/p.sum(1, keepdims=True),rng.integers(0, 10, n)

def test_area_is_the_average_precision(bench):
    "Of a ranking without ties"
    p,y = some_probs()
    score,wrong = -bench.own(p, y),y==3
    row,_ = bench.precision_recall(score, wrong, n_boot=10)
    assert abs(row['area']-average_precision_score(wrong, score))<1e-4
    assert row['p20']==round(wrong[np.argsort(-score)[:20]].mean(), 3)

def test_ranks_as_cleanlab(bench):
    "The published formulas"
    rank = pytest.importorskip('cleanlab.rank')
    p,y = some_probs()
    score = lambda method: rank.get_label_quality_scores(y, p, method=method)
    assert np.allclose(1-bench.normalized_margin(p, y), score('normalized_margin'))
    assert np.allclose(bench.own(p, y), score('self_confidence'))

def test_measures_any_run_with_a_file_of_answers(bench, run_dir, source, tmp_path):
    "From the folder, with a second run from a file of logits; the calibration error is that of the interpretation"
    interp = CifarInterpretation.from_run(run_dir, source, device='cpu')
    y = interp.targs.numpy()
    people = dict(humans=[dict(index=i, label=int(y[i])) for i in (1,7)],
                  mturk=[dict(index=i, votes=dict(given=i)) for i in (2,9)], human_entropy=[i/50 for i in range(50)])
    write_json(tmp_path/'people.json', people)
    np.savez(tmp_path/'logits.npz', **{'other/seed-1': interp.logits.numpy()})
    rec = bench.measure(tmp_path/'people.json', run_dir, tmp_path/'logits.npz', tmp_path/'features.npz', source)
    assert rec['referees']==dict(people=2, votes=1) and len(rec['learners'])==2
    assert 'loss of the mean probabilities' in bench.tables(rec)
    assert abs(bench.ece(interp.probs.double().numpy(), y)-interp.calibration()[1])<1e-6
    again = bench.measure(tmp_path/'people.json', run_dir, tmp_path/'logits.npz', tmp_path/'features.npz', source)
    assert again==rec
