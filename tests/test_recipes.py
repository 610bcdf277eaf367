"Recipes: what a run cannot use is refused when they are made; those of files, runs and earlier versions are read"
import json
from pathlib import Path

import pytest
from fastai.vision.all import CutMix, EarlyStoppingCallback, GradientClip, MixUp

from cifar_fastai.callbacks import (
    EMA,
    named_cbs,
    Penalty,
    ProgressiveSize,
    ValidEvery,
)
from cifar_fastai.core import InputError
from cifar_fastai.recipes import get_recipe, make_recipe, Recipe, recipe_callbacks, recipe_table, recipes

results = Path(__file__).resolve().parents[1]/'results'

refused = [  # fields, what the message says
    (dict(arch='vgg'), 'unknown architecture'),
    (dict(policy='crp'), 'unknown policy'),
    (dict(opt='sdg'), "did you mean 'sgd'"),
    (dict(sched='cos'), 'unknown schedule'),
    (dict(precision='half'), 'unknown precision'),
    (dict(tta='seven'), 'unknown test-time'),
    (dict(init='whiten+foo'), 'unknown init'),
    (dict(lr='auto'), "lr is 'auto'"),
    (dict(lr=float('nan')), 'lr is nan'),
    (dict(lr=-0.1), 'lr is -0.1'),
    (dict(valid='tset'), "valid is 'tset'"),
    (dict(valid=1.0), 'valid is 1.0'),
    (dict(bs=0), 'bs is 0'),
    (dict(seed=-1), 'seed is -1'),
    (dict(label_smoothing=1.0), 'label_smoothing'),
    (dict(epochs=2.5), 'whole number'),
    (dict(valid_every=0), 'valid_every is 0'),
    (dict(progressive_sizes=[4]), 'progressive_sizes is 4'),
    (dict(progressive_sizes=16), 'progressive_sizes is 16'),
    (dict(model_kw=[1]), 'options by name'),
    (dict(opt_kw=dict(lr=0.5)), 'give it as lr'),
    (dict(opt_kw=dict(momentum=0.5)), 'sched_kw moms'),
    (dict(opt='adam', opt_kw=dict(weight_decay=0.5)), 'give it as wd'),
    (dict(sched='plateau', sched_kw=dict(monitor='valid_loss')), "has 'monitor', but plateau takes"),
    (dict(sched_kw=dict(speed=3)), "has 'speed', but one_cycle takes"),
    (dict(sched='none', sched_kw=dict(div=3)), 'takes none'),
    (dict(sched_kw=dict(pct_start=1)), 'pct_start is 1'),
    (dict(sched_kw=dict(moms=0.9)), '3 numbers'),
    (dict(sched_kw=dict(moms=[0.9, 0.9, 2])), 'moms is 2'),
    (dict(sched='plateau', sched_kw=dict(factor=0.1)), 'factor is 0.1'),
    (dict(find_kw=dict(steps=3)), 'find_kw takes'),
]

@pytest.mark.parametrize('kw,message', refused, ids=str)
def test_a_value_that_no_run_could_use_is_refused(kw, message):
    with pytest.raises(InputError) as e: Recipe(**kw)
    assert message in str(e.value)

refused_cbs = [  # callbacks, other fields, what the message says
    ({'emma': {}}, {}, "unknown callback 'emma': did you mean 'ema'"),
    ({'ema': 0.9}, {}, 'cbs ema is 0.9: it must be its arguments by name'),
    ({'ema': {'decay': 1.0}}, {}, 'cbs ema: decay is 1'),
    ({'ema': {'rate': 1}}, {}, 'cbs ema: '),
    ({'mixup': {'alpha': -1}}, {}, 'alpha is -1'),
    ({'cutmix': {'alpha': 0}}, {}, 'alpha is 0'),
    ({'mixup': {}, 'cutmix': {}}, {}, 'use one of them'),
    ({'grad_clip': {'max_norm': 0}}, {}, 'max_norm is 0'),
    ({'penalty': {'l1': -1}}, {}, 'l1 is -1'),
    ({'lookahead': {}}, {}, 'cbs has lookahead, which is no longer there: leave it out'),
    ({'early_stop': {'patience': 3}}, {}, 'by the test images'),
    ({'early_stop': {'patience': 0}}, dict(valid=0.1), 'patience is 0'),
    ({'early_stop': {}}, dict(valid=0.1, valid_every=2), 'set it to 1'),
    ({'alternate_flip': {}}, {}, 'cbs has alternate_flip, which is no longer there: leave it out'),
]


@pytest.mark.parametrize('cbs,kw,message', refused_cbs, ids=str)
def test_a_callback_that_no_run_could_use_is_refused(cbs, kw, message):
    with pytest.raises(InputError) as e: Recipe(cbs=cbs, **kw)
    assert message in str(e.value)

def test_each_named_callback_is_made():
    kinds = dict(
        mixup=MixUp,
        cutmix=CutMix,
        penalty=Penalty,
        grad_clip=GradientClip,
        ema=EMA,
        early_stop=EarlyStoppingCallback,
    )
    assert list(kinds)==list(named_cbs)
    for name,kind in kinds.items():
        cb, = recipe_callbacks(Recipe(cbs={name: {}}, policy='crop4', valid=0.1))
        assert isinstance(cb, kind)
    assert named_cbs['ema'][1]=='decay' and named_cbs['early_stop'][1]=='patience'

def test_callbacks_of_a_recipe_have_its_arguments():
    r = Recipe(progressive_sizes=[16,32], valid_every=2,
               cbs={'ema': {'decay': 0.9}, 'penalty': {'l1': 1e-5}, 'grad_clip': {'max_norm': 2}})
    cbs = {type(o): o for o in recipe_callbacks(r)}
    assert (
        cbs[EMA].decay == 0.9
        and cbs[Penalty].l1 == 1e-5
        and cbs[GradientClip].max_norm == 2
    )
    assert {ProgressiveSize, ValidEvery}<={*cbs} and len(cbs)==5

def test_early_stop_watches_the_validation_loss():
    cb, = recipe_callbacks(Recipe(valid=0.1, cbs={'early_stop': {'patience': 3}}))
    assert cb.monitor=='valid_loss' and cb.patience==3

old_fields = dict(  # what earlier versions wrote, and what it is now
    start=(dict(start='whiten'), dict(init='whiten')),
    sizes=(dict(sizes=[16, 32]), dict(progressive_sizes=[16, 32])),
    mirror=(dict(tta='mirror'), dict(tta='flip')),
    six=(dict(tta='six'), dict(tta='flip_translate')),
    mixup=(dict(mixup=0.4), dict(cbs={'mixup': {'alpha': 0.4}})),
    cutmix=(dict(cutmix=1.0), dict(cbs={'cutmix': {'alpha': 1.0}})),
    penalty=(dict(l1=1e-5, l2=1e-4), dict(cbs={'penalty': {'l1': 1e-5, 'l2': 1e-4}})),
    grad_clip=(dict(grad_clip=1.0), dict(cbs={'grad_clip': {'max_norm': 1.0}})),
    ema=(dict(ema=0.9), dict(cbs={'ema': {'decay': 0.9}})),
    early_stop=(dict(early_stop=3, valid=0.1), dict(cbs={'early_stop': {'patience': 3}}, valid=0.1)),
    off=(
        dict(
            alternate=False,
            mixup=0.0,
            cutmix=0.0,
            l1=0.0,
            l2=0.0,
            grad_clip=None,
            ema=None,
            lookahead=False,
            early_stop=None,
        ),
        {},
    ),
)


@pytest.mark.parametrize('old,new', old_fields.values(), ids=old_fields)
def test_fields_of_earlier_versions_are_read(old, new):
    assert make_recipe(old)==Recipe(**new)
    assert get_recipe('plain5', **old)==get_recipe('plain5', **new)

@pytest.mark.parametrize('old', (dict(lookahead=True), dict(cbs={'lookahead': {'k': 5}}), dict(alternate=True)), ids=str)
def test_a_callback_that_is_gone_is_refused_in_a_line(old, tmp_path):
    with pytest.raises(InputError, match='cbs has (lookahead|alternate_flip), which is no longer there: leave it out'): make_recipe(old)
    (tmp_path/'config.json').write_text(json.dumps(dict(recipe=old)))
    with pytest.raises(InputError, match='no longer there'): get_recipe(tmp_path)

folders = [*results.glob('*/config.json'), *results.glob('runs/*/seed-0/config.json')]

@pytest.mark.parametrize('config', folders, ids=lambda o: str(o.relative_to(results).parent))
def test_configs_of_earlier_versions_are_read(config):
    c = json.loads(config.read_text())
    r = make_recipe(c['recipe'])
    assert (r.epochs, r.bs, r.policy, r.seed)==tuple(c['recipe'][k] for k in ('epochs','bs','policy','seed'))
    assert make_recipe(json.loads(json.dumps(dict(vars(r)))))==r
    assert r.cbs=={} and get_recipe(config.parent).lr==c['lr']

def test_a_recipe_of_a_run_has_its_rate_and_precision(tmp_path):
    config = dict(recipe=dict(name='mine', lr='find', bs=50, ema=0.9), lr=0.25, precision='bf16')
    (tmp_path/'config.json').write_text(json.dumps(config))
    r = get_recipe(tmp_path, epochs=3)
    assert (r.name, r.lr, r.precision, r.bs, r.epochs, r.cbs)==('mine', 0.25, 'bf16', 50, 3, {'ema': {'decay': 0.9}})

@pytest.mark.parametrize('config', [[1], {}, {'recipe': 3}, {'recipe': {}, 'lr': 'x'}, {'recipe': {'lrr': 1}}], ids=str)
def test_a_folder_that_is_no_run_is_refused(config, tmp_path):
    (tmp_path/'config.json').write_text(json.dumps(config))
    with pytest.raises(InputError, match=f'recipe {tmp_path}: '): get_recipe(tmp_path)

def test_a_changed_recipe_keeps_the_options_that_fit():
    assert get_recipe('plain', sched_kw=dict(pct_start=.4)).sched_kw=={**recipes['plain'].sched_kw, 'pct_start': .4}
    assert get_recipe(recipes['R1'])==recipes['R1'] and get_recipe()==Recipe()
    assert get_recipe('plain', sched='none').sched_kw=={}
    assert get_recipe('plain', sched='one_cycle', sched_kw=dict(div=5)).sched_kw==dict(div=5)
    assert get_recipe('R3', model_kw=dict(width=8)).model_kw==dict(norm='layer', last_stride=1, width=8)
    assert get_recipe(Recipe(cbs={'ema': {}}), cbs={'penalty': {}}).cbs=={'ema': {}, 'penalty': {}}

@pytest.mark.parametrize(
    'name,kw,lr,wd',
    [
        ('plain', dict(opt='adam'), None, None),
        ('R5', dict(opt='sgd'), 'find', None),
        ('plain', dict(opt='adam', lr=0.01, wd=0.1), 0.01, 0.1),
        ('R3', dict(opt='adam'), 1e-3, None),
    ],
    ids=str,
)
def test_another_optimizer_comes_with_its_own_rate(name, kw, lr, wd):
    r = get_recipe(name, **kw)
    assert (r.lr, r.wd)==(lr, wd)

@pytest.mark.parametrize(
    'text,message',
    [
        ('[1]', 'fields of a recipe by name'),
        ('{', 'is not JSON'),
        ('{"lrr": 1}', "did you mean 'lr'"),
        ('{"base": "no"}', 'unknown recipe'),
        ('{"epochs": "ten"}', 'epochs is'),
        ('{"sizes": "big"}', 'sizes is'),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(text, message, tmp_path):
    (tmp_path/'bad.json').write_text(text)
    with pytest.raises(InputError) as e: get_recipe(tmp_path/'bad.json')
    assert message in str(e.value)

def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match='cannot be read'): get_recipe(tmp_path/'none.json')

def test_the_table_has_a_line_for_each_recipe():
    assert recipe_table().count('\n')==1+len(recipes) and recipe_table()._repr_markdown_().startswith('| recipe |')

def test_a_policy_for_larger_images_is_a_recipe():
    assert make_recipe(dict(policy='crop4+flip+cutout32')).policy=='crop4+flip+cutout32'
