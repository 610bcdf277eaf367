"""Every command and every piece of code in README.md, results/README.md and the prose of the notebooks: read by the
parser that would read it, and run, on little data. What is not run stands in
`not_run`, with its reason; what is neither there nor known how to run fails."""
import ast, contextlib, functools, inspect, json, re, shutil, subprocess, sys
from pathlib import Path
from unittest.mock import patch
import pytest
from PIL import Image
import cifar_fastai.all as everything
from cifar_fastai import cli
from commands import check, one, root, scripts, split, words
from links import fence, text

notebooks = sorted((root/'nbs').rglob('[!.]*.ipynb'))
starts = re.compile(
    r'(cifar-(?!10-)[a-z-]*|pytest|nbdev[-_]\w+|python3?|pip|pip-audit|bash|git|playwright|\.ci/run)(\s|$)'
)
shell = ('', 'sh', 'bash', 'console')

def sources(path):
    "Markdown of a document"
    if path.suffix=='.md': return [path.read_text()]
    return [text(c['source']) for c in json.loads(path.read_text())['cells'] if c['cell_type']=='markdown']

def fences(md):
    return [
        (m[2], re.sub(r'^\$ ', '', m[3], flags=re.M))
        for m in re.finditer(r'^ *(```+)(\w*)[^\n]*\n(.*?)^ *\1 *$', md, re.M | re.S)
    ]


def inline(md):
    "Inline code, of prose and tables"
    return [m[1] for m in re.finditer(r'(?<!`)`([^`\n]+)`(?!`)', fence.sub('', md))]

@functools.cache
def option_names():
    "All options of all commands of the package, and of `cifar-train` alone"
    import argparse
    seen = {}
    def keep(self, *args, **kw):
        seen[self.prog] = set(self._option_string_actions)
        raise SystemExit
    with patch.object(argparse.ArgumentParser, 'parse_known_args', keep):
        for argv in [[o] for o in cli.commands if o!='bench']+[['bench',o] for o in cli.benches]:
            with contextlib.suppress(SystemExit): cli.main(argv)
    return set().union(*seen.values()),seen['cifar-train']

def is_name(argv):
    "A command that is only named, in prose"
    return len(argv)==1 or argv[0]=='cifar-bench' and len(argv)==2

def found():
    "(document, command as written, whether it only names one) of all command lines, once each"
    seen,ours = {},option_names()[1]
    for p in [root/'README.md', root/'CONTRIBUTING.md', root/'results/README.md', *notebooks]:
        doc = p.relative_to(root).as_posix()
        for md in sources(p):
            for lang,code in fences(md):
                if lang in shell and not (doc == 'README.md' and code.rstrip() in outputs()):
                    seen.setdefault(code.strip(), (doc, False))
            for o in inline(md):
                if o.startswith('--') and ' ' in o and o.split()[0] in ours: o = f'cifar-train {o}'
                if not starts.match(o): continue
                o = re.sub(r' \.\.\.$', '', o)
                seen.setdefault(o, (doc, all(map(is_name, split(o))) and o!='cifar-bench table'))
    return [(doc,o,name) for o,(doc,name) in seen.items()]

def index(): return json.loads((root/'nbs/index.ipynb').read_text())['cells']

def outputs():
    "What the cells of the index print, as the README has it"
    res = []
    for c in index():
        for o in c.get('outputs', []):
            res.append(text(o['text'] if o['output_type'] == 'stream' else o['data'].get('text/plain', '')).rstrip())
    return res

commands = found()

@pytest.mark.parametrize('doc,line,name', commands, ids=[f'{d}: {l}'[:110] for d,l,_ in commands])
def test_command_is_read(doc, line, name):
    if not name: check(line)
    else:
        for argv in split(line):
            if argv[0].startswith('cifar-'): one([*argv, '--help'])
            else: one(argv)

@pytest.mark.parametrize(
    'path', [root / 'README.md', root / 'results/README.md', *notebooks], ids=lambda p: p.relative_to(root).as_posix()
)
def test_options_named_in_prose_are_there(path):
    bad = {
        o
        for md in sources(path)
        for o in inline(md)
        if o.startswith('--') and o.split()[0] not in option_names()[0]
    }
    assert not bad, f'no command has {bad}'

def test_there_are_commands():
    assert len(commands) > 40 and {'README.md', 'results/README.md', 'nbs/tutorials/own_images.ipynb'} <= {
        d for d, _, _ in commands
    }
    assert {s for s in scripts if s.startswith('cifar-')} <= {w[0] for _, l, _ in commands for w in split(l)}, (
        'a command that no document names'
    )


@pytest.mark.parametrize(
    'line,why',
    [
        ('cifar-train --epoch 3', '--epoch'),
        ('cifar-train --recipe R9', 'R9'),
        ('cifar-trian', 'no command cifar-trian'),
        ('cifar-train --policy flp', 'flp'),
        ('cifar-bench speed', 'speed'),
        ('python benchmarks/step.py --epochs 3', '--epochs'),
        ('cifar-explain a.png --method GradCAMM', 'GradCAMM'),
        ('nbdev_test --flags slw', 'no such flag'),
        ('nbdev_test --flagged slow', '--flagged'),
        ('nbdev-exprot', 'no command'),
        ('pytest tests/test_nothing.py', 'test_nothing'),
        ('pytest -m slwo', 'no such marker'),
        ('python tools/redme.py', 'redme'),
        ('python tools/badges.py --repository a/b', '--repository'),
        ('python tests/robustness/fuzz_readers.py --hours 3', '--hours'),
        ("pip install -e '.[devel]'", 'no extra devel'),
        ('pip install torch', 'neither'),
        ('make docs', 'do not know make'),
        ('true && cifar-train --list', 'do not know true'),
        ('cifar-train --list && cifar-train --lst', '--lst'),
        ('for r in R1 R9; do cifar-train --recipe $r; done', 'R9'),
    ],
)
def test_a_wrong_command_is_found(line, why):
    with pytest.raises(AssertionError, match=re.escape(why)): check(line)

# ---- commands are run

not_run = {  # by the words a command begins with
    'pip install': '.ci/run types both of the README, in a fresh environment',
    'python3 -m venv': '.ci/run makes one',
    '. .venv': 'the same',
    'bash .ci/run': 'it runs these tests',
    'nbdev-install-hooks': 'it changes the settings of git',
    'nbdev-export': 'it writes into the working tree: test_project runs it on a copy',
    'nbdev-clean': 'the same',
    'nbdev-test': '.ci/run runs all notebooks',
    'python tools/import_graph.py': 'test_architecture compares what it would draw',
    'pytest': 'it would run these tests from within',
    'python tools/demo_network.py': 'a minute of training, whose result is in the package',
    'nbdev_test': '.ci/run runs it, as the README has it',
    'nbdev-docs': 'it needs the quarto binary: test_site runs all before that',
    'python tools/links.py': 'it reads the built site, which needs quarto: test_site runs it on two pages',
    'python tools/badges.py': 'it writes into the working tree: test_badges runs it on a copy',
    'cifar-app': 'it serves until it is stopped: test_app starts it, and calls what it serves',
    'python tools/app_picture.py': 'it writes into the working tree, by a browser',
    'python tests/robustness/fuzz_readers.py': 'ten minutes: test_fuzz runs it for seconds',
    'pip-audit': 'it asks a service on the network',
    'bash benchmarks/gpu.sh': 'hours on a CPU: below, each of its commands is read',
    'cifar-bench ablate --recipe fast20': 'its variants are for all images: two of them have batches larger than the small data',
    'python benchmarks/': 'minutes to hours: test_benchmarks runs each on little data',
}

small = ['--n-train','100','--bs','50','--model-kw','width=8','--device','cpu','--workers','0']
train = [*small, '--epochs','1', '--lr','0.01']
less = {  # what makes a command small: it is added to its options, where the last one counts
    ('train',): [*train, '--run-dir', 'made', '--no-report'],
    ('train', '--resume'): ['--device', 'cpu', '--no-report'],
    ('train', '--list'): [],
    ('lr-find',): [*small, '--bs', '16', '--num-it', '30', '--out', 'found.png'],
    ('report',): ['--n', '2', '--device', 'cpu'],
    ('predict',): ['--device', 'cpu'],
    ('explain',): ['--device', 'cpu'],
    ('bench', 'accuracy'): [*train, '--seeds', '1', '--out', 'made', '--runs', 'runs/bench'],
    ('bench', 'table'): [],
    ('bench', 'explain'): ['--n', '4', '--methods', 'HiResCAM', '--layers', 'stage2', '--device', 'cpu'],
    ('bench', 'ablate'): [*train, '--seeds', '1', '--out', 'made.json', '--runs', 'runs/ablate'],
}
# commands that are given the small data as their source
sourced = ('train',),('lr-find',),('bench','accuracy'),('bench','ablate')
heavy = '--compile','bench accuracy','bench explain' # seconds to minutes each

def package(argv):
    "The words after `cifar-`, or None for a command of another program"
    if argv[0].startswith('cifar-'): return [argv[0][len('cifar-'):], *argv[1:]]
    if argv[:3]==['python','-m','cifar_fastai.cli']: return argv[3:]

def runs():
    seen = {}
    for doc,line,name in commands:
        if not name:
            for o in split(line): seen.setdefault(words(package(o) or o), (doc, package(o), words(o)))
    return list(seen.values())

@pytest.fixture(scope='module')
def cut_dir(source, tmp_path_factory):
    "A run that was cut off in its second epoch"
    class Cut(everything.Callback):
        order = 90
        def before_batch(self):
            if self.training and self.epoch==1: raise KeyboardInterrupt
    run = tmp_path_factory.mktemp('cut')/'run'
    with contextlib.suppress(KeyboardInterrupt):
        everything.train(
            everything.Recipe(epochs=2, bs=50, model_kw=dict(width=8)), source, run, device='cpu', cbs=Cut()
        )
    return run

@pytest.mark.parametrize(
    'doc,argv,line',
    [
        pytest.param(
            *o,
            marks=[pytest.mark.slow] if o[1] and any(h in words(o[1]) for h in heavy) else [],
            id=f'{o[0]}: {o[2]}'[:110],
        )
        for o in runs()
    ],
)
def test_command_is_run(doc, argv, line, data_dir, run_dir, cut_dir, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if argv is None or any(line.startswith(o) for o in not_run):
        # what they would write is compared with what is there
        if line in ('python tools/readme.py','python tools/site.py'):
            assert subprocess.run([sys.executable, root/line.split()[1], '--check']).returncode==0
        else:
            assert any(line.startswith(o) for o in not_run), (
                f'{line}: the tests do not know how to run it: teach it to test_snippets.py, or add it to `not_run` '
                f'with the reason'
            )
        return
    shutil.copytree(run_dir, 'runs/mine'); shutil.copytree(cut_dir if '--resume' in argv else run_dir, 'RUN')
    for o in ('results','benchmarks'): shutil.copytree(root/o, o)
    Path('holidays').mkdir()
    for o in ('photo.jpg','new.jpg','holidays/1.jpg'): Image.new('RGB', (60,40), (90,120,60)).save(o)
    Path('mine.json').write_text('{"base": "plain", "epochs": 1}')
    argv = ['RUN' if o=='runs/MY-RUN' else o for o in argv]
    key = max((k for k in less if set(k)<=set(argv) and k[0]==argv[0]), key=len, default=None)
    if not argv: key,extra = (),[]
    else:
        assert key, f'{line}: the tests do not know how to run it on little data: add it to `less` in test_snippets.py'
        extra = [*less[key], *(['--source',str(data_dir)] if key in sourced else [])]
    code = cli.main([*argv, *extra])
    out,err = capfd.readouterr()
    assert code==0 and 'error' not in err and out.strip(), err

def test_the_lists_are_short():
    "Each row is for a command that a document has"
    lines = {line for _,_,line in runs()} | {words(o) for _,l,name in commands if name for o in split(l)}
    for o in not_run: assert any(l.startswith(o) for l in lines), f'no document has {o!r}: take it out of `not_run`'
    given = [argv for _,argv,_ in runs() if argv]
    for k in less: assert any(set(k)<=set(argv) for argv in given), f'no document has {k}: take it out of `less`'

# ---- Python

def calls(md):
    "Inline code that is a call"
    for o in inline(md):
        try: e = ast.parse(o, mode='eval').body
        except SyntaxError: continue
        if any(
            isinstance(n, ast.Call) and (n.args or n.keywords or isinstance(n.func, ast.Attribute))
            for n in ast.walk(e)
        ):
            yield o, e


def test_python_of_the_readme_is_that_of_the_index():
    "Which `nbdev_test` runs"
    cells = [text(c['source']) for c in index() if c['cell_type']=='code']
    run = [
        '\n'.join(l for l in s.splitlines() if not l.startswith('#|')).strip()
        for s in cells
        if not re.search(r'^#\|\s*(notest|slow|cuda|eval: false)', s, re.M)
    ]
    blocks = [code.strip() for md in sources(root/'README.md') for lang,code in fences(md) if lang=='python']
    assert blocks and not [o for o in blocks if o not in run]
    others = {lang for md in sources(root/'README.md') for lang,_ in fences(md)}-{'python','',}
    assert not others, f'the tests do not know blocks of {others}'

@pytest.mark.parametrize(
    'path',
    [root / 'CONTRIBUTING.md', root / 'results/README.md', *notebooks],
    ids=lambda p: p.relative_to(root).as_posix(),
)
def test_blocks_of_other_kinds(path):
    "A block of Python in prose must be the source of a cell that is run; JSON must be JSON; others are not known here"
    if path.suffix == '.ipynb':
        run = [text(c['source']).strip() for c in json.loads(path.read_text())['cells'] if c['cell_type'] == 'code']
    for md in sources(path):
        for lang,code in fences(md):
            if lang == 'python':
                assert code.strip() in run, f'a block of Python that nothing runs: make it a code cell\n{code}'
            elif lang=='json': json.loads(code)
            elif lang=='nginx': assert 'proxy_pass' in code # test_app_answers runs one
            else: assert lang in shell, f'the tests do not know blocks of {lang!r}'
        indented = re.findall(r'(?<=\n\n)(?: {4}|\t)\S.*', fence.sub('', md))
        assert not [o for o in indented if not re.search(r'^\s*([-*]|\d+\.) ', md, re.M)], (
            f'an indented block, which the tests do not read: put it between ```\n{indented}'
        )


@pytest.fixture(scope='module')
def names(tmp_path_factory):
    "What calls in prose speak of: `dls`, `learn`, `interp`, `photo` and the like, little ones"
    ns = dict(vars(everything))
    ns['path'] = ns['root'] = ns['shapes10'](tmp_path_factory.mktemp('calls')/'shapes', n_train=100, n_test=150)
    ns['dls'] = ns['cifar_dls'](ns['root'], 'flip', bs=16, device='cpu'); ns['set_seed'](0)
    ns['learn'] = ns['cifar_learner'](ns['dls'], model_kw=dict(width=8))
    with ns['learn'].no_bar(), ns['learn'].no_logging(): ns['learn'].fit(1, 0.01)
    ns['interp'] = ns['CifarInterpretation'].from_learner(ns['learn'])
    ns['items'] = ns['interp'].misclassified(4)
    ns['photo'] = Image.new('RGB', (60,40), (90,120,60))
    ns['e'],ns['lr'] = ns['explain'](ns['photo'], ns['learn']),0.01
    return ns

# minutes, on 100 images each; 33_cam_metrics runs them on fewer
long_calls = 'interp.cascading_randomization()','interp.road()'

def all_calls():
    seen = {}
    for p in [root/'README.md', root/'CONTRIBUTING.md', root/'results/README.md', *notebooks]:
        for md in sources(p):
            for code,_ in calls(md):
                # one with ... is read below
                if '...' not in code and code not in long_calls: seen.setdefault(code, p.relative_to(root).as_posix())
    return [pytest.param(c, id=f'{d}: {c}'[:110]) for c,d in seen.items()]

@pytest.mark.parametrize('code', all_calls())
def test_inline_python_is_run(code, names, tmp_path, monkeypatch):
    import matplotlib.pyplot as plt
    monkeypatch.chdir(tmp_path); names['photo'].save('holiday.jpg')
    try: eval(code, dict(names))
    except NameError as e: raise AssertionError(f'{code}: {e}: give it a value in the fixture `names`') from e
    plt.close('all')

def misfit(n):
    "What is wrong with the arguments of a call, where it is known what is called"
    args, kw = (
        [o for o in n.args if not isinstance(o, ast.Constant) or o.value is not ...],
        {k.arg: None for k in n.keywords if k.arg},
    )
    if isinstance(n.func, ast.Name): f = getattr(everything, n.func.id, None)
    elif isinstance(n.func, ast.Attribute) and isinstance(n.func.value, ast.Name) and n.func.value.id=='interp':
        f,args = getattr(everything.CifarInterpretation, n.func.attr, None),[None,*args]
        if f is None: return f'there is no {n.func.attr}'
    else: return
    if not getattr(f, '__module__', '').startswith('cifar_fastai'): return
    try: inspect.signature(f).bind_partial(*args, **kw)
    except TypeError as e: return str(e)

@pytest.mark.parametrize('path', notebooks, ids=lambda p: p.relative_to(root/'nbs').as_posix())
def test_inline_calls_fit_what_they_call(path):
    "A call in prose of a public function, or of a method of `interp`: it takes these arguments"
    bad = []
    for md in sources(path):
        for code,e in calls(md):
            for n in ast.walk(e):
                if isinstance(n, ast.Call): bad += [f'{code}: {o}' for o in [misfit(n)] if o]
    assert not bad, '\n'.join(bad)

def test_a_wrong_call_is_found():
    assert [o for o, _ in calls('`find_lr(learn)` and `R1`, `learn.history`, `f()`, ``x``, `a b`, `x.f()`')] == [
        'find_lr(learn)',
        'x.f()',
    ]
    wrong = lambda s: misfit(ast.parse(s, mode='eval').body)
    assert (
        wrong('load_source(root, sizes=64)')
        and wrong('interp.rode()')
        and wrong('interp.road(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)')
        and not wrong('cifar_learner(..., compile=True)')
        and not wrong('interp.road()')
    )
