"Which images are called CIFAR-10: in the log, the config, the report, the records and the table of results."
import json, shutil
import pytest
from cifar_fastai.experiments import read_records, results_table, run_seeds
from cifar_fastai.recipes import Recipe
from cifar_fastai.train import train
from cifar_fastai.runs import Run
from cifar_fastai.sources import Source, cifar10_vocab

tiny = dict(epochs=1, bs=50, lr=0.02, policy='none', tta='none', model_kw=dict(width=8))

@pytest.fixture(scope='module')
def named(source):
    "Drawn images with the class names of CIFAR-10"
    return Source(source.x, source.y, cifar10_vocab, source.is_valid, name='drawn')

@pytest.fixture(scope='module')
def run(named, tmp_path_factory):
    return train(Recipe(**tiny), named, tmp_path_factory.mktemp('run')/'run', device='cpu')

def config(run): return json.loads((run/'config.json').read_text())

def test_class_names_do_not_make_cifar10(run):
    "A run on other images with CIFAR-10's class names says that they are not the published pixels"
    assert config(run)['source']['is_cifar10'] is False
    assert 'validation images of drawn (not the published pixels), batches of 50' in (run/'log.txt').read_text()
    assert Run(run).facts()['data'].startswith('drawn (not the published pixels): 200 training')

def test_other_classes_need_no_word(run_dir):
    "A run on images of other classes says nothing of CIFAR-10"
    assert config(run_dir)['source']['is_cifar10'] is None
    assert 'published' not in (run_dir/'log.txt').read_text() and 'CIFAR' not in Run(run_dir).facts()['data']

def test_a_config_from_before_the_flag(run, tmp_path):
    "A config without the flag says the name that its images had, and nothing of the published pixels"
    shutil.copytree(run, tmp_path/'run')
    c = config(run)
    del c['source']['is_cifar10']
    (tmp_path/'run/config.json').write_text(json.dumps(c))
    assert Run(tmp_path/'run').facts()['data'].startswith('drawn: ')

def test_the_record_has_the_flag(named, tmp_path):
    "A record of seeds has the flag, and the name of the images in its own name"
    path = run_seeds('plain', named, 1, tmp_path/'results', tmp_path/'runs', changes=tiny, device='cpu')
    assert path.stem.endswith('source-drawn') and json.loads(path.read_text())['source']['is_cifar10'] is False

def record(folder, label, source=None, seeds=1, **kw):
    "Write a record like those of `run_seeds`"
    source = source or {}
    runs = [dict(seconds=s, hardware='a GPU', precision='bf16', history=[]) for s in (100.,140.)[:seeds]]
    rec = dict(
        label=label,
        recipe=dict(name='R1', epochs=20),
        full=True,
        validated_on='test images',
        mean=0.92,
        std=0.001,
        n_seeds=seeds,
        tta={'six': [0.93, 0.002]},
        seeds=runs,
        source=dict(name='x', n_train=50_000, n_valid=10_000, **source),
    )
    (folder/f'{label}.json').write_text(json.dumps({**rec, **kw}))

def rows(folder, **kw):
    "The cells of each row of the table, below its head"
    return [[c.strip() for c in o.strip('|').split('|')] for o in results_table(folder, **kw).splitlines()[2:]]

@pytest.mark.parametrize('source,shown', [
    (dict(is_cifar10=True), 'CIFAR-10, 50,000'), (dict(is_cifar10=False), 'x (not the published pixels), 50,000'),
    (dict(is_cifar10=None), 'x, 50,000'), (dict(fingerprint='1'), 'x, 50,000')], ids=str)
def test_images_of_a_row(source, shown, tmp_path):
    "The table calls the published pixels CIFAR-10, by the flag of a record"
    record(tmp_path, 'a', source)
    assert rows(tmp_path)[0][1]==shown

def test_full_runs_only(tmp_path):
    "Shortened runs are in the table only if they are asked for"
    record(tmp_path, 'a'); record(tmp_path, 'b', full=False, recipe=dict(name='R1', epochs=2))
    assert [o[2] for o in rows(tmp_path)]==['20'] and [o[2] for o in rows(tmp_path, full_only=False)]==['20','2']
    assert 'full run' not in results_table(tmp_path) and [o[-1] for o in rows(tmp_path, full_only=False)]==['yes','no']

def test_columns(tmp_path):
    "Each figure stands in its column"
    record(tmp_path, 'a', dict(is_cifar10=True), seeds=2)
    head = [o.strip() for o in results_table(tmp_path).splitlines()[0].strip('|').split('|')]
    assert dict(zip(head, rows(tmp_path)[0])) == {
        'recipe': 'R1',
        'training images': 'CIFAR-10, 50,000',
        'epochs': '20',
        'seeds': '2',
        'test accuracy, %': '92.00 ± 0.10',
        'TTA: flip': '',
        'TTA: flip + translate': '93.00 ± 0.20',
        'reference notebook': '91.63',
        'hardware': 'a GPU, bf16',
        'time of a run': '120 s',
    }

def test_runs_that_shared_a_gpu_have_no_time(tmp_path):
    "Where several runs shared one GPU, the seconds of one mean nothing, so none are given"
    record(tmp_path, 'a', shared_gpu=True); assert rows(tmp_path)[0][-2:]==['a GPU, bf16', '—']
    record(tmp_path, 'a', shared_gpu='yes')
    with pytest.raises(ValueError, match='shared_gpu'): read_records(tmp_path)
