"""What the commands promise: their options are the library's, help answers at once, a device that is not there is
refused before a download,
pictures find their run, and the whole life of a run in a terminal and in a Jupyter kernel. `pytest -m slow
tests/test_cli.py` has the long ones."""

import importlib, json, os, re, shlex, signal, subprocess, sys
from dataclasses import fields
import pytest
from fastcore.docments import docments
from PIL import Image
from fastai.vision.all import Callback
from cifar_fastai import cli, options, runs
from cifar_fastai.augment import policies
from cifar_fastai.callbacks import named_cbs, ttas
from cifar_fastai.cam import default_method
from cifar_fastai.cli import cifar_bench, cifar_lr_find, cifar_train, main
from cifar_fastai.core import InputError
from cifar_fastai.data import cifar_dls
from cifar_fastai.learner import cifar_learner
from cifar_fastai.models import archs, inits
from cifar_fastai.optim import find_lr, opts, schedules
from cifar_fastai.recipes import Recipe, recipes
from cifar_fastai.sources import load_source
from cifar_fastai.train import recipe_learner, resume, train
from terminal import Terminal, on_terminal, screen
from test_core import in_terminal, on_screen

def said(capsys, argv):
    "What a command prints, its errors and its exit code"
    try: code = main(argv)
    except SystemExit as e: code = e.code or 0
    return *capsys.readouterr(),code

# ---- options

@pytest.mark.parametrize('argv', ['train', 'lr-find', 'bench accuracy', 'bench ablate'])
def test_help_with_a_recipe_has_groups_and_examples_that_can_be_parsed(argv, capsys):
    out,err,code = said(capsys, [*argv.split(), '--help'])
    heads = re.findall(r'^(\w+):$', out, re.M)
    assert (err,code)==('',0) and heads==['examples', 'options', 'data', 'recipe', 'training', 'output'], heads
    lines = [l.strip() for l in out.split('examples:\n')[1].split('\n\n')[0].splitlines()]
    assert len(lines)==3 and max(map(len, out.splitlines()))<=100, lines
    from commands import check
    for l in lines: check(l)

helps = ['train', 'lr-find', 'report', 'predict', 'explain', 'app', 'bench', *(f'bench {o}' for o in cli.benches)]

@pytest.mark.parametrize('argv', helps)
def test_help_of_each_command_is_printed(argv, capsys, monkeypatch):
    monkeypatch.setenv('COLUMNS', '80')
    out,err,code = said(capsys, [*argv.split(), '-h'])
    assert (err,code)==('',0) and 'usage: ' in out and '`' not in out, out
    assert max(len(l) for l in out.splitlines() if not l.startswith('  cifar-'))<=(100 if argv=='bench' else 80), out

@pytest.mark.parametrize('argv', [[], ['bench']], ids=str)
def test_commands_are_listed_in_a_line_each(argv, capsys):
    "And the line is a whole sentence"
    out,_,code = said(capsys, argv)
    listed = re.findall(r'^  ([\w-]+) +(.+)$', out, re.M)
    assert code==0 and [k for k,_ in listed]==list(cli.benches if argv else cli.commands)
    for _,text in listed: assert len(text)<=88 and len(text.split())>3 and 'the extra' not in text, text

def test_help_imports_nothing_heavy():
    r = subprocess.run(
        [sys.executable, '-X', 'importtime', '-m', 'cifar_fastai.cli', 'train', '--help'],
        capture_output=True,
        text=True,
    )
    assert r.returncode==0 and ' torch' not in r.stderr and 'fastai.vision' not in r.stderr

def test_options_of_a_recipe_are_its_fields_with_their_defaults_and_docments(capsys):
    p = options.Parser('p', '', ('p',))
    cli.recipe_options()(p)
    params = options.read_params('recipes.Recipe')
    assert {k: o.text for k,o in params.items()}==docments(Recipe, returns=False)
    assert all(params[f.name].default in (None, getattr(Recipe(), f.name)) for f in fields(Recipe))
    flags = {'--'+f.name.replace('_', '-') for f in fields(Recipe)}-{'--name','--note'}
    # what is not given has the library's default
    assert flags<=set(p._option_string_actions) and vars(p.parse_args([]))=={}

registries = dict(policy=policies, opt=opts, sched=schedules, arch=archs, init=inits, tta=ttas, cbs=named_cbs)

@pytest.mark.parametrize('field', registries)
def test_help_names_all_that_a_field_can_be(field):
    text = options.read_params('recipes.Recipe')[field].text
    assert not [o for o in registries[field] if not re.search(rf'\b{o}\b', text)], text

def test_help_names_the_method_of_the_library(capsys):
    out = ' '.join(said(capsys, ['explain', '-h'])[0].split())
    assert f'(default {default_method})' in out

def recipe_from(tmp_path, words):
    p = options.Parser('p', '', ('p',))
    cli.recipe_options()(p)
    return cli.recipe_of(vars(p.parse_args(['--recipe', str(tmp_path/'full.json'), *words.split()])))

def test_none_unsets_what_may_be_left_out(tmp_path):
    (tmp_path / 'full.json').write_text(
        json.dumps(dict(lr=0.3, wd=0.1, n_train=100, valid=0.1, progressive_sizes=[16, 32]))
    )
    assert recipe_from(tmp_path, '--lr none --wd none --n-train none --progressive-sizes none')==Recipe(valid=0.1)
    assert recipe_from(tmp_path, '--n-train 50 --wd 1e-3 --lr find').n_train==50

def test_callbacks_are_read_with_their_main_argument_or_json(tmp_path):
    (tmp_path/'full.json').write_text('{"policy": "none"}')
    r = recipe_from(tmp_path, '--valid 0.1 --cbs mixup=0.4 ema=0.99 early_stop penalty={"l1":0.001}')
    assert r.cbs==dict(mixup=dict(alpha=0.4), ema=dict(decay=0.99), early_stop={}, penalty=dict(l1=0.001))
    assert recipe_from(tmp_path, '--cbs mixup=0.4 --cbs ema=0.99').cbs==dict(mixup=dict(alpha=0.4), ema=dict(decay=0.99))
    for words,why in (('ema=2', 'decay is 2'), ('emma', "did you mean 'ema'"), ('alternate_flip=3', 'no longer there')):
        with pytest.raises(InputError, match=why): recipe_from(tmp_path, f'--cbs {words}')

def test_list_is_a_table_for_a_terminal(capsys):
    out,err,code = said(capsys, ['train', '--list'])
    assert (err,code)==('',0) and max(map(len, out.splitlines()))<=100 and '|' not in out and '---' not in out
    for r in recipes.values(): assert re.search(rf'^{r.name} +{r.epochs} +{r.bs}  ', out, re.M), r.name
    assert ' '.join(recipes['R3'].note.split()) in ' '.join(out.split())

@pytest.mark.parametrize('line', ['train', 'lr-find', 'bench accuracy', 'bench ablate --valid 0.1 --variants v.json'])
def test_a_device_that_is_not_there_is_refused_before_a_download(line, tmp_path, capsys, monkeypatch):
    "The source is not looked at: `--source` may mean a download of 170 MB"
    monkeypatch.chdir(tmp_path); (tmp_path/'v.json').write_text('{"a": {"bs": 64}}')
    modules = [importlib.import_module(f'cifar_fastai.{m}') for m in ('sources','train','experiments')]
    for m in modules: monkeypatch.setattr(m, 'load_source', lambda *a, **kw: pytest.fail('the source was loaded'))
    out,err,code = said(capsys, [*line.split(), '--source', 'cifar10', '--device', 'cuda:77'])
    assert code==2 and "device 'cuda:77' cannot be used" in err and err.count('\n')==1, err
    for f in (train, recipe_learner):
        with pytest.raises(InputError, match='cuda:77'): f('plain', 'cifar10', device='cuda:77')

def test_compile_is_auto_by_default_and_alone_means_on(data_dir, tmp_path, monkeypatch):
    given = []
    def stop(*args, compile='auto', **kwargs):
        given.append(compile)
        raise InputError('enough')
    for m in ('train','experiments'): monkeypatch.setattr(importlib.import_module(f'cifar_fastai.{m}'), 'train', stop)
    monkeypatch.chdir(tmp_path)
    base = ['--source', str(data_dir), '--device', 'cpu']
    for extra in ([], ['--compile'], ['--compile', 'on'], ['--compile', 'off'], ['--compile=auto']):
        assert cifar_train([*base, *extra]) == 2
    assert given==['auto', True, True, False, 'auto']
    assert cifar_bench(['accuracy', '--recipe', 'plain', *base, '--seeds', '1', '--compile'])==2 and given[5:]==[True]

# ---- commands

def test_finder_names_what_it_chose_and_draws_the_curve(data_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (
        cifar_lr_find(
            [
                '--source',
                str(data_dir),
                '--bs',
                '20',
                '--device',
                'cpu',
                '--model-kw',
                'width=8',
                '--precision',
                'fp32',
                '--dpi',
                '50',
            ]
        )
        == 0
    )
    assert re.search(r'^minimum +\S+  \(chosen\)$', capsys.readouterr().out, re.M)
    with Image.open('lr_find.png') as img: assert round(img.info['dpi'][0])==50

def test_options_of_a_recipe_reach_the_run(data_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ('--recipe plain --epochs 1 --bs 50 --lr 0.02 --policy flip --model-kw width=8 --sched-kw pct_start=0.5 '
             '--no-report --run-dir run')
    assert cifar_train(['--source', str(data_dir), '--device', 'cpu', *words.split()])==0
    assert '\ntest accuracy ' in capsys.readouterr().out
    r = runs.Run('run').recipe
    assert (r.name, r.epochs, r.lr, r.model_kw, r.sched_kw['pct_start'], r.sched_kw['div']) == (
        'plain',
        1,
        0.02,
        dict(width=8),
        0.5,
        100,
    )
    assert not (tmp_path/'run/report.html').exists()

def test_a_run_as_the_recipe_is_repeated(run_dir, tmp_path, capsys, monkeypatch):
    "With its images and as many threads: the same weights"
    import torch
    config = json.loads((run_dir/'config.json').read_text())
    seen,real = [],train
    monkeypatch.setattr(
        importlib.import_module('cifar_fastai.train'),
        'train',
        lambda *a, **kw: (seen.append(torch.get_num_threads()), real(*a, **kw))[1],
    )
    assert cifar_train(['--recipe', str(run_dir), '--run-dir', str(tmp_path/'again'), '--no-report'])==0
    digest = [json.loads((o/'model.json').read_text())['weights_sha256'] for o in (run_dir, tmp_path/'again')]
    assert digest[0]==digest[1] and seen==[config['threads']]
    assert json.loads((tmp_path/'again/config.json').read_text())['loader']==config['loader']

@pytest.fixture
def album(source, tmp_path, monkeypatch):
    "A folder of two pictures and a file that is none, in a working folder of its own"
    monkeypatch.chdir(tmp_path); (tmp_path/'album').mkdir()
    for i in range(2): Image.fromarray(source.x[i]).resize((90,60)).save(f'album/{i}.jpg')
    (tmp_path/'album/torn.png').write_bytes(b'no picture')
    return tmp_path

def test_predict_takes_the_newest_run_and_writes_a_table(album, run_dir, capsys):
    (album/'runs').mkdir(); (album/'runs/newest').symlink_to(run_dir)
    out,err,code = said(capsys, ['predict', 'album', '--csv', 'all.csv'])
    assert (
        code == 0
        and 'run: runs/newest' in out
        and 'class 3' in out
        and max(map(len, out.split('\n\n')[1].splitlines()))<=80
        and 'passed over: cannot read image album/torn.png' in err
    )
    assert len((album/'all.csv').read_text().splitlines())==3

def test_explain_writes_a_map_of_each_picture(album, run_dir, capsys):
    out,err,code = said(capsys, ['explain', 'album', '--run', str(run_dir), '--k', '1', '--out', 'maps'])
    assert code==0 and 'maps: maps' in out
    assert sorted(o.name for o in (album / 'maps').iterdir()) == [
        '0-map.png',
        '1-map.png',
        'table.csv',
    ]


def test_benches_write_their_records_with_the_command(data_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path); (tmp_path/'v.json').write_text('{"smooth": {"label_smoothing": 0.2}}')
    base = [
        '--recipe',
        'plain5',
        '--source',
        str(data_dir),
        '--epochs',
        '1',
        '--bs',
        '50',
        '--model-kw',
        'width=8',
        '--device',
        'cpu',
    ]
    out,_,code = said(capsys, ['bench', 'accuracy', *base, '--seeds', '1'])
    record = re.search(r'record: (.+)', out)[1]
    assert code == 0 and json.loads((tmp_path / record).read_text())['command'] == shlex.join(
        ['cifar-bench', 'accuracy', *base, '--seeds', '1']
    )
    assert '| plain5 |' in said(capsys, ['bench', 'table', '--all'])[0]
    out,_,code = said(capsys, ['bench', 'ablate', *base, '--valid', '0.2', '--seeds', '1', '--variants', 'v.json'])
    assert code==0 and '| smooth | label_smoothing=0.2 | 1 |' in out and (tmp_path/'results/ablation.json').exists()


def test_bench_explain_prints_each_check(run_dir, capsys):
    words = '--n 4 --methods HiResCAM --layers stage2 --device cpu'.split()
    out,_,code = said(capsys, ['bench', 'explain', str(run_dir), *words])
    tables = [o.splitlines() for o in out.strip().split('\n\n')]
    assert code==0 and len(tables)==3 and all('verdict' in head and 'HiResCAM' in first for head,first,*_ in tables)
    assert 'road' in tables[0][0] and 'above the layer' in tables[1][0] and 'mass_inside' in tables[2][0]


# ---- in a terminal, and in a kernel

def test_what_stopped_at_ctrl_c_says_so_on_a_line_of_its_own():
    "A terminal writes ^C where the bar was"
    code = """import time
from cifar_fastai import core, options
def work():
    for o in core.progress(range(300), 'waiting'): time.sleep(0.1)
raise SystemExit(options.run_command('cifar-wait', work, {}))"""
    with Terminal([sys.executable, '-c', code]) as t:
        t.until('waiting'); t.ctrl_c()
        assert t.wait()==130 and t.screen.splitlines()[-1]=='cifar-wait: stopped', t.screen

@pytest.mark.slow # a process of its own that trains, finds a rate and writes a report
def test_long_stages_in_a_terminal(data_dir, tmp_path):
    "Each has a bar with its name, which is gone afterwards; the loading of libraries is announced"
    base = ['--source', str(data_dir), '--bs', '20', '--device', 'cpu', '--model-kw', 'width=8']
    code = f"""import sys, time
from cifar_fastai import cli
def slow_disk(name, *a): return time.sleep(4) if name=='cifar_fastai.recipes' else None
sys.meta_path.insert(0, type('Slow', (), dict(find_spec=staticmethod(slow_disk))))
assert cli.cifar_lr_find({[*base, '--out', str(tmp_path / 'lr.png')]!r})==0
assert cli.cifar_train({[*base, '--epochs', '2', '--tta', 'flip', '--lr', '0.02', '--run-dir', str(tmp_path / 'run')]!r})==0
"""
    out,rc = in_terminal(code)
    assert rc==0, out[-3000:]
    labels = (
        'loading PyTorch and fastai ...',
        'looking for a learning rate',
        'validating, ',
        ' left in all',
        'test-time augmentation (flip)',
        'scoring 50 images',
        'maps of ',
    )
    for label in labels: assert label in out, label
    seen = on_screen(out)
    assert not [
        l for l in seen if 'looking for' in l or 'scoring' in l or 'augmentation (flip) ' in l and '%' not in l
    ], seen
    assert seen[-1].startswith('report: ')

small = dict(model_kw=dict(width=8), precision='fp32')

class PressCtrlC(Callback):
    "In the second epoch"
    def after_batch(self):
        if self.epoch==1 and self.iter==1 and self.training: os.kill(os.getpid(), signal.SIGINT)

def test_life_on_a_terminal(data_dir, tmp_path, monkeypatch):
    source = load_source(data_dir, size=16)
    r = Recipe(epochs=3, bs=50, policy='none', **small)
    with on_terminal(monkeypatch) as cut: train(r, source, tmp_path/'run', device='cpu', cbs=PressCtrlC())
    with on_terminal(monkeypatch) as rest: resume(tmp_path/'run', source)
    with on_terminal(monkeypatch) as more:
        learn = cifar_learner(cifar_dls(source, 'none', bs=50, device='cpu'), **small)
        learn.fit(1); learn.fine_tune(1); learn.tta(n=1); learn.fit(1)
        find_lr(learn, num_it=30, plot=False); learn.validate(); learn.fit(1)
    cut,rest,more = (screen(o[0]).splitlines() for o in (cut, rest, more))
    row = lambda e: rf'epoch {e}  lr 0\.\d+  train .+/200\)  valid .+/50\)  \d+\.\d s  \d+ img/s'
    assert re.fullmatch(r'resnet18 \(.+', cut[0]) and re.fullmatch(row('1/3'), cut[1]), cut
    assert re.fullmatch(r'Epoch 2/3 : .+\]', cut[2]), cut  # what stood there at Ctrl-C has its own line
    assert all(
        o.startswith('the weights that are kept are not those of the last validation') for o in cut[3:] if o
    ), cut
    assert re.fullmatch(row('2/3'), rest[0]) and re.fullmatch(row('3/3'), rest[1]) and not any(rest[2:]), rest
    assert sum(bool(re.match(row('1/1'), o)) for o in more)==sum('resnet18 (' in o for o in more)==5, more

commands = [sys.executable, '-m', 'cifar_fastai.cli']

@pytest.mark.slow
def test_life_of_the_commands_on_a_terminal(data_dir, tmp_path):
    run,argv = tmp_path/'run','--bs 50 --epochs 3 --model-kw width=8 --policy none --device cpu'.split()
    with Terminal([*commands, 'train', '--source', data_dir, '--run-dir', run, *argv], cwd=tmp_path) as t:
        t.until(r' 1/3 .*\n'); t.until('Epoch 2/3'); t.ctrl_c()
        assert (
            t.wait() == 130
            and 'stopped after 1 of 3 epochs' in t.screen
            and 'after 1 epoch in' in t.screen
            and 'Traceback' not in t.raw
        )
    with Terminal([*commands, 'train', '--resume', run], cwd=tmp_path) as t:
        assert (
            t.wait() == 0 and f'report: {run}' in t.screen and 'after 3 epochs in' in t.screen and ' 3/3 ' in t.screen
        ), t.screen
    assert json.loads((run/'metrics.json').read_text())['completed']
    with Terminal(
        [*commands, 'lr-find', '--source', data_dir, *argv[:2], *argv[4:], '--num-it', '30'], cwd=tmp_path
    ) as t:
        assert t.wait()==0 and 'valley' in t.screen, t.screen
    with Terminal([*commands, 'report', run], cwd=tmp_path) as t:
        assert t.wait() == 0 and f'report: {run}' in t.screen, t.screen


class Kernel:
    "A Jupyter kernel; `run` gives what stands below a cell after all updates, as pairs of kind and text"
    def __init__(self, folder):
        from jupyter_client.manager import start_new_kernel
        self.km,self.kc = start_new_kernel(kernel_name='python3', cwd=str(folder))
    def __enter__(self): return self
    def __exit__(self, *args): self.kc.stop_channels(); self.km.shutdown_kernel(now=True)

    def run(self, code, interrupt_at=None, seconds=180):
        out,places,asked = [],{},False
        def hook(msg):
            nonlocal asked
            kind,c = msg['msg_type'],msg['content']
            if kind=='stream': out.append((c['name'], c['text']))
            if kind=='error': out.append(('error', '\n'.join(c['traceback'])))
            if kind in ('display_data','execute_result','update_display_data'):
                where = c.get('transient', {}).get('display_id')
                text = c['data'].get('text/html') or c['data'].get('text/markdown') or c['data'].get('text/plain', '')
                if kind=='update_display_data': out[places[where]] = ('display', text)
                else: places[where] = len(out); out.append(('display', text))
            if interrupt_at and not asked and re.search(interrupt_at, ''.join(o[1] for o in out)):
                asked = True
                self.km.interrupt_kernel()
        self.kc.execute_interactive(code, output_hook=hook, timeout=seconds)
        return out

def table(out):
    return [
        re.findall(r'<td>(.*?)</td>', o)
        for k, t in out
        for o in re.findall(r'<tr>(.*?)</tr>', t, re.S)
        if '<td>' in o
    ]


@pytest.mark.slow
def test_life_in_a_kernel(data_dir, tmp_path):
    pytest.importorskip('ipykernel')
    with Kernel(tmp_path) as k:
        out = k.run(f'''from cifar_fastai.all import *
r,src = Recipe(epochs=3, bs=50, policy='none', model_kw=dict(width=8)),load_source({str(data_dir)!r})
class Slow(Callback):
    def after_batch(self): time.sleep(0.1)
import time
run = train(r, src, 'run', device='cpu', cbs=Slow())''', interrupt_at=r'<td>1/3</td>')
        assert not [o for o in out if o[0]=='error'], out
        # the network first, then its table
        assert [kind for kind,t in out if 'resnet18 (' in t or '<td>1/3' in t]==['stdout','display'], out
        assert [o[0] for o in table(out)]==['1/3'], out
        out = k.run("run = resume('run', cbs=Slow())")
        assert [o[0] for o in table(out)]==['2/3','3/3'] and all(len(o)==10 for o in table(out)), out
        out = k.run('''learn = cifar_learner(cifar_dls(src, 'none', bs=50, device='cpu'), model_kw=dict(width=8))
learn.fit(1); learn.fine_tune(1); learn.tta(n=1)
with learn.no_bar(): learn.fit(1)
found = find_lr(learn, num_it=30, plot=False)
learn.fit(1, cbs=ShowGraphCallback())''')
        # without the bar, a line
        assert [o[0] for o in table(out)]==['1/1']*4 and sum('epoch 1/1' in t for _,t in out)==1, out
        assert not [o for o in out if o[0]=='error'], out
        assert 'report.html' in k.run("make_report(run, n=1, device='cpu')")[-1][1]
        # an error, and Ctrl-C in a fit of the learner itself, leave the table and no bar
        out = k.run('learn.fit(9, cbs=Slow())', interrupt_at=r'<td>2/9</td>')
        assert (
            'KeyboardInterrupt' in out[-1][1]
            and [o[0] for o in table(out)] == ['1/9', '2/9']
            and not any('<progress' in t for _, t in out)
        ), out
        assert [o[0] for o in table(k.run('learn.fit(1)'))]==['1/1']
