"""Command lines of the documents: taken apart, and read by the parser that would read them. `check` raises
AssertionError with what is wrong; a program that is not known here is wrong too.
`main` of a script is reached, but nothing is run."""
import argparse, contextlib, importlib, io, re, runpy, shlex, subprocess, sys
from importlib.metadata import entry_points
from pathlib import Path
from unittest.mock import patch
try: import tomllib
except ImportError: import tomli as tomllib # Python 3.10

root = Path(__file__).resolve().parents[2]
project = tomllib.loads((root/'pyproject.toml').read_text())
scripts = project['project']['scripts']

def split(line):
    "The simple commands of a shell line, each a list of words; loops unrolled, comments left out"
    line = re.sub(r'\\\n\s*', ' ', line)
    line = re.sub(
        r'\bfor (\w+) in ([^;]+); do (.+?);? *\bdone\b',
        lambda m: ' ; '.join(m[3].replace(f'${m[1]}', o) for o in m[2].split()),
        line,
    )
    res = []
    for l in line.splitlines():
        lex = shlex.shlex(l, posix=True, punctuation_chars=True); lex.whitespace_split = True
        cmd = []
        for t in lex:
            if t and set(t)<=set('&|;'): res.append(cmd); cmd = []
            else: cmd.append(t)
        res.append(cmd)
    return [o for o in res if o]

def words(argv): return shlex.join(argv)

def cifar(argv):
    "A command of the package, after `cifar-` or `python -m cifar_fastai.cli`: options, recipe, names"
    from cifar_fastai import cli, options
    from cifar_fastai.cam import cam_methods
    from cifar_fastai.core import InputError
    from cifar_fastai.recipes import get_recipe
    seen,read,err = [],options.Parser.parse_args,io.StringIO()
    def keep(self, *args, **kw):
        seen.append(read(self, *args, **kw))
        return seen[-1]
    with patch.object(options.Parser, 'parse_args', keep), patch.object(options, 'run_command', lambda *args: 0):
        with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
            try: code = cli.main(argv)
            except SystemExit as e: code = e.code
    assert not code, f'{words(argv)}: {err.getvalue().strip()}'
    for ns in seen:
        try:
            recipe = getattr(ns, 'recipe', '')
            if not re.search(r'\.json$|/|^RUN$', recipe): get_recipe(recipe or None, **cli.recipe_changes(vars(ns)))
        except InputError as e: raise AssertionError(f'{words(argv)}: {e}') from e
        for m in [getattr(ns, 'method', None), *(getattr(ns, 'methods', None) or ())]:
            assert m is None or m in cam_methods, f'{words(argv)}: no method {m}'


@contextlib.contextmanager
def read_or_fail(argv):
    err = io.StringIO()
    try:
        with contextlib.redirect_stderr(err): yield
    except SystemExit as e: assert not e.code, f'{words(argv)}: {err.getvalue().strip()}'

def console(argv):
    "A console command made by fastcore's `call_parse`, such as those of nbdev"
    from fastcore.script import anno_parser
    e = [o for o in entry_points(group='console_scripts') if o.name==argv[0]]
    assert e or argv[0] in scripts, f'there is no command {argv[0]}'
    if argv[0] in scripts: # nbdev_test, by the pyproject.toml of this checkout
        mod,_,name = scripts[argv[0]].partition(':')
        f = getattr(importlib.import_module(mod), name)
    else: f = e[0].load()
    # `nbdev_test` takes its path without a name in front
    pos = ['path'] if f.__name__=='nbdev_test' else None
    with read_or_fail(argv): ns = anno_parser(f, pos=pos).parse_args(argv[1:])
    if getattr(ns, 'flags', None):
        assert set(ns.flags.split()) <= set(project['tool']['nbdev']['tst_flags']), f'{words(argv)}: no such flag'


def pytest_(argv):
    p = argparse.ArgumentParser(allow_abbrev=False)
    p.add_argument('-m')
    p.add_argument('-k')
    p.add_argument('-n')
    p.add_argument('--dist')
    p.add_argument('-q', action='store_true')
    p.add_argument('-x', action='store_true')
    p.add_argument('paths', nargs='*')
    with read_or_fail(argv): ns = p.parse_args(argv[1:])
    for o in ns.paths: assert (root/o.split('::')[0]).exists(), f'{words(argv)}: no {o}'
    marks = {o.split(':')[0] for o in project['tool']['pytest']['ini_options']['markers']}
    assert set(re.findall(r'\w+', ns.m or ''))-{'and','or','not'}<=marks, f'{words(argv)}: no such marker'

class _Read(Exception): pass

def script(argv):
    "A Python file of the project: up to the options that it reads, by argparse or as `--check`"
    f = root/argv[0]
    assert f.is_file() and f.suffix=='.py', f'there is no {argv[0]}'
    if not re.search('argparse|^from common import', f.read_text(), re.M):
        assert set(argv[1:]) <= {'--check'}, f'{words(argv)}: it takes no option but --check'
        return
    real = argparse.ArgumentParser.parse_args
    def stop(self, *args, **kw): real(self, *args, **kw); raise _Read
    at_f = patch.object(sys, 'argv', [str(f), *argv[1:]]),patch.object(sys, 'path', [str(f.parent), *sys.path])
    with (
        at_f[0],
        at_f[1],
        patch.object(argparse.ArgumentParser, 'parse_args', stop),
        contextlib.suppress(_Read),
        read_or_fail(argv),
    ):
        runpy.run_path(str(f), run_name='__main__')
        raise AssertionError(f'{argv[0]} read no options')

def python(argv):
    if argv[1:3]==['-m','cifar_fastai.cli']: cifar(argv[3:])
    elif argv[1:3]==['-m','venv']: assert len(argv)==4
    else: script(argv[1:])

def pip(argv):
    "Only what the project itself offers: its folder, its name, its extras"
    import configparser
    cfg = configparser.ConfigParser(); cfg.read(root/'settings.ini')
    assert argv[1]=='install', words(argv)
    rest = [o for o in argv[2:] if o not in ('-e','-q')]
    assert len(rest)==1 or rest[:2]==['-c','constraints.txt'] and len(rest)==3, words(argv)
    m = re.fullmatch(r'(?:\.|cifar_fastai)(?:\[([\w,]+)\])?', rest[-1])
    assert m, f'{words(argv)}: neither . nor cifar_fastai'
    for o in (m[1] or '').split(','):
        assert not o or f'{o}_requirements' in cfg['DEFAULT'], f'{words(argv)}: no extra {o}'


def bash(argv):
    f = root/argv[-1]
    assert f.is_file(), words(argv)
    assert subprocess.run(['bash','-n',f]).returncode==0

def one(argv):
    "Check a simple command"
    prog = argv[0]
    if prog.startswith('cifar-'):
        assert prog in scripts, f'there is no command {prog}'
        return cifar([prog[len('cifar-'):], *argv[1:]])
    if prog.startswith('nbdev'): return console(argv)
    known = {
        'pytest': pytest_,
        'python': python,
        'python3': python,
        'pip': pip,
        'bash': bash,
        '.ci/run': bash,
        '.': lambda a: None,
        'pip-audit': lambda a: None,
    }
    assert prog in known, f'{words(argv)}: the tests do not know {prog}: teach it to tests/helpers/commands.py'
    known[prog](argv)

def check(line):
    "Check a shell line; its simple commands"
    cmds = split(line)
    for o in cmds: one(o)
    return cmds
