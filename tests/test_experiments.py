"Series of runs: complete ones are taken as they are, records lose nothing, and tables are made of them"
import json
import numpy as np, pytest
import matplotlib.pyplot as plt
from dataclasses import replace
from pathlib import Path
from fastai.vision.all import Callback
from cifar_fastai.core import InputError
from cifar_fastai.experiments import (
    ablate,
    ablation_table,
    mean_std,
    one_run,
    plot_ablation,
    read_records,
    recipe_changes,
    results_table,
    run_label,
    run_seeds,
)
from cifar_fastai.recipes import get_recipe, recipes
from cifar_fastai.shapes import shapes10
from cifar_fastai.sources import load_source
from cifar_fastai.train import train

root = Path(__file__).parents[1]
small = dict(epochs=2, bs=50, lr=0.1, policy='none', model_kw=dict(width=8))

def series(source, path, seeds, **kwargs):
    kwargs = {**dict(recipe='plain', changes=small, out=path/'results'), **kwargs}
    return run_seeds(kwargs.pop('recipe'), source, seeds, runs=path/'runs', device='cpu', **kwargs)

@pytest.fixture(scope='module')
def done(source, tmp_path_factory):
    "Two seeds of a small recipe, and their folder"
    path = tmp_path_factory.mktemp('series')
    return path,series(source, path, 2)

class CutOff(Callback):
    def before_batch(self):
        if self.training and self.epoch==1: raise KeyboardInterrupt

def test_mean_std_of_one_number_has_no_deviation():
    assert mean_std([0.5])==(0.5, None, 1) and mean_std([1,3])==(2, np.std([1,3], ddof=1), 2)

def test_record_holds_mean_and_seeds_under_the_label_of_its_changes(done):
    rec = json.loads(done[1].read_text())
    assert rec['mean']==np.mean([o['acc'] for o in rec['seeds']]) and [o['seed'] for o in rec['seeds']]==[0,1]
    assert rec['label']==done[1].stem=='plain-bs-50-epochs-2-lr-0.1-model_kw-width-8-policy-none-source-shapes10'
    assert (rec['full'],rec['validated_on'],set(rec['tta']))==(False, 'test images', {'flip','flip_translate'})

def test_complete_runs_are_taken_and_one_cut_off_is_resumed(source, done, tmp_path):
    path,file = done
    folder = path/'runs'/file.stem
    def stamps(): return {p: p.stat().st_mtime_ns for p in folder.glob('*/model.safetensors')}
    before = stamps()
    try: train(get_recipe('plain', seed=2, **small), source, folder/'seed-2', device='cpu', cbs=CutOff())
    except KeyboardInterrupt: pass
    assert (folder/'seed-2/checkpoint/last.pt').exists()
    rec = json.loads(series(source, path, 3, out=tmp_path).read_text())
    assert len(rec['seeds'])==3 and {p: t for p,t in stamps().items() if p in before}==before

def test_another_run_in_the_folder_is_refused(source, done):
    path,file = done
    with pytest.raises(InputError, match='holds another run'):
        one_run(get_recipe('plain', **{**small, 'bs': 100}), source, path / 'runs' / file.stem / 'seed-0')


def test_that_runs_shared_their_gpu_stays_in_the_record(source, done):
    "So that no seconds of theirs come into the table"
    path,file = done
    was = file.read_text()
    file.write_text(json.dumps({**json.loads(was), 'shared_gpu': True}))
    try: assert json.loads(series(source, path, 2).read_text())['shared_gpu'] is True
    finally: file.write_text(was)

def test_a_record_loses_no_seed_and_mixes_no_images(source, done):
    path,_ = done
    with pytest.raises(InputError, match='holds 2 seeds of shapes10, and would lose them'): series(source, path, 1)
    other = load_source(shapes10(path/'shapes', n_train=210, n_test=50))
    with pytest.raises(InputError, match='seeds of the same images'): series(other, path, 2)

def test_a_file_of_changes_is_another_recipe_but_validations_in_between_are_not(source, done, tmp_path):
    (tmp_path/'mine.json').write_text(json.dumps(dict(base='plain', **{**small, 'epochs': 1})))
    file = series(source, tmp_path, 1, recipe=str(tmp_path/'mine.json'), changes=dict(valid_every=5))
    assert (
        file.stem == 'plain-bs-50-epochs-1-lr-0.1-model_kw-width-8-policy-none-source-shapes10'
        and json.loads(file.read_text())['full'] is False
    )


def test_changes_are_the_fields_that_differ():
    assert recipe_changes(replace(recipes['R3'], model_kw={}))==dict(model_kw={}) # options taken out are changes too
    for changes in ({}, dict(epochs=2), dict(sched='constant', seed=3)):
        found = recipe_changes(get_recipe('plain', **changes))
        assert {k: v for k,v in found.items() if k!='sched_kw'}==changes

@pytest.mark.parametrize(
    'base,changed,label',
    [
        (
            'plain',
            dict(n_train=10, progressive_sizes=[16, 32], model_kw=dict(width=8)),
            'plain-model_kw-width-8-n_train-10-progressive_sizes-16-32',
        ),
        ('run', dict(name='../../harm'), 'run-name-..-..-harm'),
        ('.x/y', {}, 'x-y'),
    ],
    ids=['fields', 'up', 'hidden'],
)
def test_label_is_a_file_name(base, changed, label): assert run_label(base, changed)==label

def test_table_tells_records_of_one_name_apart(done, tmp_path):
    d = json.loads(done[1].read_text())
    machines = [d['seeds'][0], {**d['seeds'][1], 'hardware': 'another'}]
    for o in (d, {**d, 'label': 'other', 'seeds': machines}): (tmp_path/f"{o['label']}.json").write_text(json.dumps(o))
    assert '| several machines | — |' in results_table(tmp_path, full_only=False)

def test_records_of_earlier_versions_are_read():
    "Their views had other names, and their recipes other fields"
    recs = {o['label']: o for o in read_records(root/'results')}
    assert (
        recs['quick']['tta']['flip_translate'][0]
        == json.loads((root / 'results/quick.json').read_text())['tta']['six'][0]
    )
    row = next(o for o in results_table(root/'results').splitlines() if o.startswith('| quick '))
    assert '| 92.50 ± 0.17 |' in row
    assert '| no label smoothing |' in ablation_table(root/'results/ablation-proxy.json')

def test_ablation_gives_differences_and_their_standard_error(source, tmp_path, capsys):
    base = get_recipe('plain', valid=0.2, tta='none', **small)
    kwargs = dict(seeds=2, runs=tmp_path/'runs', device='cpu')
    rec = ablate(base, {'constant': dict(sched='constant')}, source, out=tmp_path/'a.json', **kwargs)
    told = [o for o in capsys.readouterr().err.splitlines() if o.startswith('run ')]
    assert told==[f'run {2*s+i} of 4: {k}, seed {s}' for s in (0,1) for i,k in ((1,'base'), (2,'constant'))]
    row,d = rec['rows']['constant'],100*(np.array(rec['rows']['constant']['acc'])-np.array(rec['rows']['base']['acc']))
    assert (
        np.allclose([row['effect'], row['se']], [d.mean(), abs(d[0] - d[1]) / 2])
        and json.loads((tmp_path / 'a.json').read_text()) == rec
    )
    # taken as they are
    assert ablate(base, {'constant': dict(sched='constant')}, source, **kwargs)['rows']['constant']['acc']==row['acc']
    assert '| constant | sched=constant' in ablation_table(rec)
    assert [o.get_text() for o in plot_ablation(tmp_path/'a.json').get_yticklabels()]==['constant']
    plt.close('all')

@pytest.mark.parametrize(
    'valid,variants,why',
    [
        ('test', {}, 'not made on the test images'),
        (0.2, dict(x=dict(valid='test')), "'x': .*cannot be compared"),
        (0.2, dict(base=dict(lr=0.1)), 'another name than base'),
    ],
    ids=['test', 'valid', 'base'],
)
def test_ablation_refuses_what_cannot_be_compared(valid, variants, why, source):
    with pytest.raises(InputError, match=why): ablate(get_recipe('plain', valid=valid), variants, source)

