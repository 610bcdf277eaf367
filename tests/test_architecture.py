"""The shape of the package: what imports what, how large it is, and how its notebooks are cut. The limits are those
of CONTRIBUTING.md."""
import ast
import collections
import importlib
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path
import pytest

root = Path(__file__).resolve().parents[1]
modules = {p.stem: p for p in sorted((root/'cifar_fastai').glob('[a-z]*.py')) if p.stem!='all'}
trees = {name: ast.parse(p.read_text()) for name,p in modules.items()}
pages = sorted(
    p for p in (root / 'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts and '_proc' not in p.parts
)
number = {p.stem.split('_', 1)[1]: int(p.stem.split('_')[0]) for p in pages if p.stem[0].isdigit()}
definitions = ast.FunctionDef, ast.ClassDef

def imported(name):
    "Module and name of everything that a module imports from the package"
    for n in ast.walk(trees[name]):
        if not isinstance(n, ast.ImportFrom): continue
        module = (n.module or '').removeprefix('cifar_fastai.')
        if module in modules and (n.level==1 or n.module.startswith('cifar_fastai.')):
            for a in n.names: yield module,a.name

def private(name):
    "Not one of Python's own, nor of IPython's for what an object shows"
    return name.startswith('_') and not name.endswith('_')

# ---- modules

@pytest.mark.parametrize('name', modules)
def test_a_module_imports_from_no_higher_ten(name):
    for other,_ in imported(name): assert number[other]//10<=number[name]//10, f'{name} imports from {other}'

def test_imports_have_no_cycle():
    graph = {name: {o for o,_ in imported(name)}-{name} for name in modules}
    while graph:
        free = [name for name,used in graph.items() if not used&set(graph)]
        assert free, f'a cycle among {sorted(graph)}'
        for name in free: del graph[name]

@pytest.mark.parametrize('name', modules)
def test_no_private_name_is_imported(name):
    assert not [f'{o}.{n}' for o,n in imported(name) if private(n)]

def test_a_private_name_has_one_meaning():
    homes = collections.defaultdict(set)
    for name,tree in trees.items():
        for n in tree.body:
            if isinstance(n, definitions) and private(n.name): homes[n.name].add(name)
    assert not {n: sorted(h) for n,h in homes.items() if len(h)>1}

def test_the_picture_of_the_imports_is_up_to_date():
    r = subprocess.run([sys.executable, 'tools/import_graph.py', '--check'], cwd=root, capture_output=True, text=True)
    assert r.returncode==0, r.stderr

@pytest.mark.parametrize('name', modules)
def test_a_module_has_at_most_480_lines(name):
    assert len(modules[name].read_text().splitlines())<=480

def test_the_package_does_not_grow():
    "The lines in which nbdev names the cell of a notebook are not counted"
    statements = sum(isinstance(n, ast.stmt) for t in trees.values() for n in ast.walk(t))
    lines = [l for p in modules.values() for l in p.read_text().splitlines(True)]
    characters = sum(len(l) for l in lines if not l.startswith('# %% '))
    assert statements<=4900 and characters<=365_000, (statements, characters)

def test_all_exports_few_names():
    names = {n for name in modules if name!='cli' for n in importlib.import_module(f'cifar_fastai.{name}').__all__}
    assert len(names)<=120, len(names)

# ---- lines

def long_lines(files, limit):
    lines = [l for f in files for l in f.read_text().splitlines() if l.strip()]
    return sum(len(l)>limit for l in lines),len(lines)

@pytest.mark.parametrize(
    'files', [list(modules.values()), sorted((root / 'tests').rglob('*.py'))], ids=['package', 'tests']
)
def test_few_lines_are_over_120_columns(files):
    n,of = long_lines(files, 120)
    assert n<=0.03*of, f'{n} of {of}'

def test_ruff_finds_nothing():
    r = subprocess.run(
        [sys.executable, '-m', 'ruff', 'check', '--no-cache', '.'], cwd=root, capture_output=True, text=True
    )
    assert r.returncode==0, r.stdout[-3000:]

# ---- cells

def code_cells(page):
    for c in json.loads(page.read_text())['cells']:
        if c['cell_type']=='code': yield ''.join(c['source']),c['outputs']

def is_directive(text, what): return re.match(rf'\s*#\|\s*{what}', text) is not None

def n_lines(text): return sum(bool(l.strip()) and not l.startswith('#|') for l in text.splitlines())

def only_imports(text): return all(isinstance(n, (ast.Import,ast.ImportFrom,ast.Try)) for n in ast.parse(text).body)

def shows(text, outputs):
    return bool(outputs) or re.search(r'\b(test_eq|test_close|test_is|expect_fail)\b', text) is not None


def stretches(page):
    "Numbers of exported lines between two visible results"
    found,lines = [],0
    for text,outputs in code_cells(page):
        if is_directive(text, 'hide'): continue
        if is_directive(text, 'export') and not only_imports(text): lines += n_lines(text)
        elif not is_directive(text, 'export') and shows(text, outputs): found,lines = [*found, lines],0
    return [*found, lines]

def exported_lengths():
    return [n_lines(t) for p in pages for t,_ in code_cells(p) if is_directive(t, 'export') and not only_imports(t)]

def hidden_lengths(): return [n_lines(t) for p in pages for t,_ in code_cells(p) if is_directive(t, 'hide')]

def test_exported_cells_are_short():
    lengths = exported_lengths()
    assert max(lengths)<=30 and statistics.median(lengths)<=10, (max(lengths), statistics.median(lengths))

@pytest.mark.parametrize('page', [p for p in pages if p.stem[0].isdigit()], ids=lambda p: p.stem)
def test_results_come_soon_and_often(page):
    found = stretches(page)
    assert found[0]<=40 and max(found)<=60, found

def test_hidden_cells_are_few_and_short():
    lengths = hidden_lengths()
    assert len(lengths)<100 and max(lengths)<=12, (len(lengths), max(lengths))
