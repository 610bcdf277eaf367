"The wheel and the source archive: what is in them, and that the wheel works where nothing else of the project is."
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path
import pytest

root = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow

@pytest.fixture(scope='module')
def built(tmp_path_factory):
    "A wheel and a source archive, made of a copy of what git knows"
    src, out = tmp_path_factory.mktemp('src'), tmp_path_factory.mktemp('out')
    files = subprocess.run(
        ['git', 'ls-files', '-z'], cwd=root, check=True, capture_output=True, text=True
    ).stdout.split('\0')
    for f in filter(None, files):
        if not (root/f).is_file(): continue
        (src/f).parent.mkdir(parents=True, exist_ok=True)
        (src/f).write_bytes((root/f).read_bytes())
    for kind in ('wheel','sdist'):
        code = f"from setuptools import build_meta as b; b.build_{kind}({str(out)!r})"
        subprocess.run([sys.executable, '-c', code], cwd=src, check=True, capture_output=True)
    return next(out.glob('*.whl')),next(out.glob('*.tar.gz'))

def test_wheel_holds_the_package_and_its_data(built):
    names = set(zipfile.ZipFile(built[0]).namelist())
    for p in (root/'cifar_fastai').iterdir():
        if p.is_file() and p.suffix!='.pyc': assert f'cifar_fastai/{p.name}' in names, p.name
    assert not [n for n in names if n.startswith(('tests/','nbs/'))]

def test_source_archive_can_be_built_from(built):
    names = {n.split('/', 1)[1] for n in tarfile.open(built[1]).getnames() if '/' in n}
    assert {'settings.ini','setup.py','pyproject.toml','README.md','LICENSE'}<=names

def test_wheel_works_in_a_bare_environment(built, tmp_path):
    "The requirements are lent by this environment; the package is the wheel's"
    venv.create(tmp_path/'env', system_site_packages=False, with_pip=False)
    python = tmp_path/'env/bin/python'
    site = next((tmp_path/'env/lib').glob('python*/site-packages'))
    zipfile.ZipFile(built[0]).extractall(site)
    (site/'lent.pth').write_text(str(next(Path(p) for p in sys.path if p.endswith('site-packages'))))
    code = ("import cifar_fastai; from cifar_fastai.cli import cifar_train; print(cifar_fastai.__file__);"
            "cifar_train(['--source','shapes10','--n-train','40','--n-valid','20','--epochs','1','--bs','20',"
            "'--model-kw','width=8','--device','cpu','--run-dir','run'])")
    env = {k: v for k,v in os.environ.items() if k!='PYTHONPATH'}
    r = subprocess.run([python, '-c', code], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert r.returncode==0, r.stderr[-2000:]
    assert str(site) in r.stdout and (tmp_path/'run/report.html').is_file()
