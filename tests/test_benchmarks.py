"The scripts in benchmarks/: each on little data, what it measures by other means, and the plans for a GPU"
import importlib, json, os, re, subprocess, sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch
import numpy as np, pytest, torch
from sklearn.metrics import average_precision_score
from cifar_fastai import cli
from cifar_fastai.augment import make_policy
from cifar_fastai.core import write_json
from cifar_fastai.data import cifar_dls
from cifar_fastai.experiments import check_variants
from cifar_fastai.interpret import CifarInterpretation
from cifar_fastai.recipes import get_recipe, recipes
from commands import check, split

root = Path(__file__).parents[1]
tiny = dict(base='speed94', epochs=1, valid_every=1, bs=50, model_kw=dict(width=8))

@pytest.fixture
def script(monkeypatch):
    "A script as a module"
    monkeypatch.syspath_prepend(str(root/'benchmarks'))
    yield importlib.import_module
    for o in ('common','loader','step','cam','start','goal','growth','recipes','label_errors'): sys.modules.pop(o, None)

def run(script, name, argv, tmp_path, monkeypatch, capsys):
    "Run a script: its record, and what it printed"
    m = script(name)
    monkeypatch.setattr(sys, 'argv', [f'{name}.py', *argv, '--out', str(tmp_path/'r.json')])
    m.run(m.parser(), m.measure, m.table)
    return json.loads((tmp_path/'r.json').read_text()),capsys.readouterr().out

small = dict(
    loader='--n 100 --bs 50 --rounds 1 --device cpu',
    step='--n-batches 1 --bs 16 --width 8 --rounds 1 --device cpu --precision fp32',
    cam='--n 4 --width 8 --rounds 1 --device cpu',
)

@pytest.mark.parametrize('name', small)
def test_script_writes_rates_with_hardware_versions_and_command(name, script, tmp_path, monkeypatch, capsys):
    rec,out = run(script, name, small[name].split(), tmp_path, monkeypatch, capsys)
    assert (
        rec['bench'] == name
        and rec['command'].startswith(f'python benchmarks/{name}.py --')
        and rec['hardware']
        and rec['versions']['torch']
    )
    assert (
        all(v > 0 for v in rec['median'].values())
        and set(rec['times_peer']) < set(rec['median'])
        and 0 < rec['share_of_limit']
    )
    assert f'| {rec["ours"]} |' in out and 'record: ' in out
    if name=='step': assert rec['loader_share_of_step']>0 and rec['share_of_floor']>0

@pytest.mark.parametrize('name', ['torchcam','captum'])
def test_maps_of_other_libraries_are_ours(name, script):
    pytest.importorskip(name)
    rec = script('cam').measure(5, 2, 8, 'GradCAM', 'stage2', 1, 'cpu')
    assert rec['difference'][name]<1e-4 and rec['median'][name]>0 and f'| {name} |' in script('cam').table(rec)

def test_other_libraries_are_asked_for_gradcam_alone(script, capsys):
    cam = script('cam')
    with patch.object(cam, 'find_spec', lambda o: None): assert cam.peers('GradCAM')=={}
    assert capsys.readouterr().err.count('is not installed: not measured')==2 and cam.peers('HiResCAM')=={}

def test_goal_reports_each_seed_and_leaves_no_trace(script, data_dir, tmp_path, monkeypatch, capsys):
    "The warm-up and the seeds before change nothing: a seed has the same accuracy again"
    (tmp_path/'fast.json').write_text(json.dumps(tiny))
    argv = [str(tmp_path/'fast.json'), '--source', str(data_dir), '--goal', '0.1', '--device', 'cpu', '--seeds']
    rec,out = run(script, 'goal', [*argv, '2'], tmp_path, monkeypatch, capsys)
    assert [o['seed'] for o in rec['rows']]==[0,1] and 'NVIDIA' in rec['energy'] and ' of 2 |' in out
    assert all(o['seconds']>0 and o['joules'] is None and o['reached']==(o['acc']>=0.1) for o in rec['rows'])
    again,_ = run(script, 'goal', [*argv, '1'], tmp_path, monkeypatch, capsys)
    assert again['rows'][0]['acc']==rec['rows'][0]['acc']

@pytest.mark.parametrize(
    'argv,why', [(['--goal', '94'], 'goal is 94'), (['R2'], 'uses the finder')], ids=['goal', 'finder']
)
def test_goal_refuses_in_one_line(argv, why, script, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit, match=why):
        run(script, 'goal', [*argv, '--device', 'cpu'], tmp_path, monkeypatch, capsys)


@pytest.mark.slow # a process for each figure: pytest -m slow tests/test_benchmarks.py
@pytest.mark.parametrize(
    'line',
    [
        'growth.py --images 200 --batches 8 --source {data} --device cpu',
        'start.py --rounds 1 --source {data}',
        'recipes.py {tmp}/a.json {tmp}/b.json --n-batches 2 --rounds 1 --device cpu',
    ],
)
def test_script_in_processes_of_its_own(line, data_dir, tmp_path):
    for o in 'ab': (tmp_path/f'{o}.json').write_text(json.dumps({**tiny, 'base': dict(a='speed94', b='plain5')[o]}))
    argv = line.format(data=data_dir, tmp=tmp_path).split()
    env = {**os.environ, 'PYTHONPATH': str(root)}
    r = subprocess.run(
        [sys.executable, root / 'benchmarks' / argv[0], *argv[1:], '--out', tmp_path / 'r.json'],
        capture_output=True,
        text=True,
        env=env,
    )
    assert r.returncode==0 and '|' in r.stdout, r.stderr
    assert json.loads((tmp_path/'r.json').read_text())['hardware']

def test_in_turns_warms_up_once_and_takes_turns(script):
    common,said = script('common'),[]
    def work(k):
        said.append(k)
        return 7
    rates = common.in_turns({k: lambda k=k: work(k) for k in 'ab'}, 2)
    assert ''.join(said)=='ababab' and [len(o) for o in rates.values()]==[2,2]
    assert common.ratio(dict(ours=[30,8,10], theirs=[10,4,1]), 'ours', 'theirs')==3

def test_drain_counts_images_and_stock_policy_is_albumentations_own(script, data_dir):
    import albumentations as A
    common,loader = script('common'),script('loader')
    dl = cifar_dls(data_dir, bs=40, device='cpu').train
    assert [common.drain(dl), common.drain(dl, 3)]==[200, 600]
    aug = loader.stock_policy('crop_flip_cutout').transforms[-1]
    assert (type(aug), aug.hole_height_range, aug.fill, aug.p) == (
        A.CoarseDropout,
        (16, 16),
        make_policy('crop_flip_cutout').transforms[-1].fill,
        1.0,
    )


def test_growth_table_has_the_gpus_memory_where_it_was_measured(script):
    images = dict(images=1000, load_s=1., first_batch_s=1., cpu_path=1., device_path=1., peak_mb=1., gpu_peak_mb=2.)
    assert (
        script('growth')
        .table(dict(images=[images], batches=[dict(batch=8, step=1.0, peak_mb=1.0, gpu_peak_mb=2.0)]))
        .count("the GPU's, MB")
        == 2
    )


class NVMLError(Exception): pass

def handle(uuid):
    if uuid!='GPU-cafe': raise NVMLError('Not Found')
    return 7

@pytest.mark.parametrize(
    'uuid,driver,why',
    [
        ('cafe', True, ''),
        ('dead', True, 'the driver reports no energy: Not Found'),
        ('cafe', False, "'cifar_fastai[energy]'"),
    ],
)
def test_energy_is_read_by_the_driver_or_its_lack_is_said(uuid, driver, why, script):
    millijoules = iter((0, 5_000, 12_500))
    fake = SimpleNamespace(NVMLError=NVMLError, nvmlInit=lambda: None, nvmlDeviceGetHandleByUUID=handle,
                           nvmlDeviceGetTotalEnergyConsumption=lambda h: next(millijoules))
    with (
        patch.dict(sys.modules, pynvml=fake if driver else None),
        patch.object(torch.cuda, 'get_device_properties', lambda d: SimpleNamespace(uuid=uuid)),
    ):
        read,said = script('goal').energy_meter(torch.device('cuda'))
        assert why in said and (read is None)==bool(why)
        if read: assert [read(), read()]==[5., 12.5]

def test_joules_are_those_of_the_fit(script, data_dir):
    r = get_recipe('speed94', **{k: v for k,v in tiny.items() if k!='base'})
    assert script('goal').fit_once(r, data_dir, 'cpu', iter((1,4)).__next__)[2]==3

# ---- the plans for a GPU

def gpu(tmp_path, python):
    "What `benchmarks/gpu.sh` does with another program in Python's place"
    return subprocess.run(
        ['bash', root / 'benchmarks/gpu.sh', tmp_path],
        env={**os.environ, 'PYTHON': python},
        capture_output=True,
        text=True,
    )


def test_gpu_script_measures_everything(tmp_path):
    res = gpu(tmp_path, 'echo')
    lines = [o for o in res.stdout.splitlines() if re.match(r'-m |benchmarks/', o)]
    for o in lines: check(f'python {o}')
    argv = [split(o)[0] for o in lines]
    benches = [o[2:] for o in argv if o[0]=='-m']
    assert {o[1] for o in benches}==set(cli.benches)-{'ablate','explain'} and benches[-1][1:]==['table', str(tmp_path)]
    assert {o[o.index('--recipe')+1] for o in benches if o[1]=='accuracy'}==set(recipes)-{'speed94'}
    assert {Path(o[0]).stem for o in argv if o[0]!='-m'}=={'loader','step','recipes','cam','growth','goal'}
    assert res.returncode==0 and res.stdout.rstrip().endswith('0 failed')

def test_gpu_script_tells_what_failed_and_repeats_nothing(tmp_path):
    res = gpu(tmp_path, 'false')
    n = res.stdout.count('\n== python ')
    assert res.returncode==1 and f'\n{n} failed\n  python -m cifar_fastai.cli bench accuracy ' in res.stdout
    (tmp_path/'gpu/bench-step.json').write_text('{}')
    assert gpu(tmp_path, 'false').stdout.count('\n== python ')==n-1

def test_plans_of_a_short_lease_can_be_read(tmp_path):
    "Each command of benchmarks/gpu-plan.sh, as the script that sources it would run it"
    stub = 'one() { shift; printf "%s\\n" "$*"; }; bench() { local l=$1; shift; one "$l" "$py" -m cifar_fastai.cli bench "$@"; }'
    plans = '; '.join(f'plan_{o}' for o in ('first','accuracy','rest'))
    code = f'{stub}; py=python work={tmp_path} small=(--epochs 1); python() {{ :; }}; . benchmarks/gpu-plan.sh; {plans}'
    r = subprocess.run(['bash', '-c', code], cwd=root, capture_output=True, text=True)
    lines = [o for o in r.stdout.splitlines() if o.startswith('python ') and '-m pytest' not in o]
    assert len(lines) >= 12 and {'python benchmarks/' + o for o in ('step.py', 'loader.py', 'goal.py', 'cam.py')} <= {
        ' '.join(o.split()[:2]) for o in lines
    }, r.stderr
    for o in lines: check(o)

proxy = dict(valid=0.1, n_train=5000, epochs=5, model_kw=dict(width=16))
variant_files = { # what each is made for, as in results/README.md
    'fast20': ('fast20', {}),
    'ablation': ('plain', dict(opt='muon', lr=0.05, label_smoothing=0.1, bs=64, **proxy)),
    'norms': ('R3', dict(proxy, bs=64, model_kw=dict(width=16, norm='layer', last_stride=1))),
    'norms-full': ('R3', {}),
    'finder': ('R2', dict(lr=0.0012, **proxy)),
    'finder-adam': ('R5', dict(bs=64, lr=0.000398, **proxy)),
    'R1': ('R1', dict(proxy, n_train=None, epochs=10)),
}

def test_every_file_of_variants_is_tested():
    assert {p.stem for p in (root/'benchmarks').glob('*.json')}==set(variant_files)

@pytest.mark.parametrize('name', variant_files)
def test_variants_are_recipes(name):
    variants = json.loads((root/f'benchmarks/{name}.json').read_text())
    recipe,changes = variant_files[name]
    base = get_recipe(recipe, **{'valid': 0.1, **changes})
    check_variants(base, variants)
    for o in variants.values(): assert o.keys()<=vars(base).keys() and get_recipe(base, **o)!=base, o

# ---- label errors

@pytest.fixture
def bench(script): return script('label_errors')

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
