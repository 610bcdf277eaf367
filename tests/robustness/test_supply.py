"""What the package is made of, and that it needs no network: bounds of the requirements, the constraints, imports, an
offline training."""
import ast, re, socket, subprocess, sys
from configparser import ConfigParser
from pathlib import Path
import pytest
from packaging.requirements import Requirement
from packaging.version import Version
import offline

root = Path(__file__).resolve().parents[2]
cfg = ConfigParser(); cfg.read(root/'settings.ini')
lists = {
    k: [Requirement(o) for o in cfg['DEFAULT'][k].split('\n')[1:] if o]
    for k in cfg['DEFAULT']
    if k.endswith('requirements')
}
norm = lambda s: re.sub(r'[-_.]+', '-', s).lower()

@pytest.mark.parametrize('req', [o for v in lists.values() for o in v], ids=str)
def test_bounds(req):
    assert sorted(o.operator for o in req.specifier) == ['<', '>='], f'{req} needs one lower and one upper bound'


def test_constraints_fit_the_bounds():
    pins = {
        norm(o.name): o
        for o in map(
            Requirement, filter(lambda l: l and l[0] != '#', (root / 'constraints.txt').read_text().splitlines())
        )
    }
    assert all([o.operator for o in p.specifier]==['=='] for p in pins.values())
    for r in sum(lists.values(), []):
        v = Version(next(iter(pins[norm(r.name)].specifier)).version)
        assert v in r.specifier, f'{r} leaves out {v}, with which the tests passed'

# these names come with the requirement beside them, in the version it asks for
brought = {
    'cv2': 'albumentations',
    'fastcore': 'fastai',
    'fastprogress': 'fastai',
    'starlette': 'gradio',
    'IPython': 'ipywidgets',
    'pydantic': 'albumentations',
}
imported = {'sklearn': 'scikit-learn', 'PIL': 'pillow', 'pytorch_grad_cam': 'grad-cam', 'pynvml': 'nvidia-ml-py'}

def test_each_import_is_required():
    # the app, the Hub, the explorer and the measure of energy
    # say what they need
    required, found = (
        {
            norm(o.name)
            for k in (
                'requirements',
                'app_requirements',
                'hub_requirements',
                'widgets_requirements',
                'energy_requirements',
            )
            for o in lists[k]
        },
        set(),
    )
    for f in (root/'cifar_fastai').glob('*.py'):
        for o in ast.walk(ast.parse(f.read_text())):
            if isinstance(o, ast.Import): found |= {a.name.split('.')[0] for a in o.names}
            if isinstance(o, ast.ImportFrom) and not o.level: found.add(o.module.split('.')[0])
    others = {o for o in found if o not in sys.stdlib_module_names and o!='cifar_fastai'}
    assert {'torch','numpy','PIL'}<=others
    for o in others:
        assert norm(brought.get(o, imported.get(o, o))) in required, (
            f'{o} is imported, and not among the requirements'
        )


# ---- no network

@pytest.mark.parametrize(
    'reach',
    [
        lambda: socket.create_connection(('192.0.2.1', 80), 1),
        lambda: socket.getaddrinfo('pypi.org', 443),
        lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 9)),
        lambda: socket.socket().connect_ex(('192.0.2.1', 80)),
    ],
    ids=['connect', 'look up', 'send', 'connect_ex'],
)
def test_the_network_is_blocked(reach):
    n = len(offline.tried)
    with pytest.raises(OSError, match='no network in the tests'): reach()
    assert len(offline.tried)==n+1
    del offline.tried[n:] # so that `no_network` of conftest.py lets this test pass

def test_this_machine_is_not():
    with socket.create_server(('127.0.0.1', 0)) as s, socket.create_connection(s.getsockname(), 5): pass

script = """
import sys; sys.path.insert(0, {tests!r})
for extra in ('gradio','huggingface_hub','playwright','ipywidgets','jupyterlab','pynvml'):
    sys.modules[extra] = None # as where only the requirements are installed
import offline; offline.block()
import cifar_fastai.augment # imports albumentations, whose import calls out unless that is turned off
from cifar_fastai.all import *
from cifar_fastai.cli import cifar_train
assert cifar_train(['--list'])==0 and cifar_train(['--resume', 'nowhere'])==2
learn = cifar_learner(cifar_dls(shapes10('data', n_train=20, n_test=10), bs=10, device='cpu'), model_kw=dict(width=8))
learn.fit(1)
assert len(learn.history.lrs)==2 and not offline.tried, offline.tried
print('two steps, offline')
"""

def test_import_and_training_need_no_network(tmp_path):
    import os

    r = subprocess.run(
        [sys.executable, '-c', script.format(tests=str(root / 'tests/helpers'))],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={
            **{k: v for k, v in os.environ.items() if k != 'NO_ALBUMENTATIONS_UPDATE'},
            'FASTAI_HOME': str(tmp_path),
        },
    )
    assert r.returncode==0 and r.stdout.endswith('two steps, offline\n'), r.stderr
