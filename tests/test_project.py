"The repository: README in step, requirements live, notebooks exported, cleaned and with their outputs."
import configparser, importlib, json, re, shutil, subprocess, sys
from pathlib import Path
import pytest

root = Path(__file__).resolve().parents[1]
notebooks = sorted(p for p in (root/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts)

def test_readme_is_made_from_index():
    r = subprocess.run([sys.executable, 'tools/readme.py', '--check'], cwd=root, capture_output=True, text=True)
    assert r.returncode==0, r.stderr

def test_readme_has_two_commands():
    cmds = [l for l in (root/'README.md').read_text().splitlines() if l.startswith('pip install ')]
    assert len(cmds)==2 and 'cifar-train' in cmds[0] and 'nbdev_test' in cmds[1]

def metadata(folder):
    "What setuptools would tell pip of the project in `folder`"
    code = "from setuptools import build_meta; print(build_meta.prepare_metadata_for_build_wheel('.'))"
    subprocess.run([sys.executable, '-c', code], cwd=folder, check=True, capture_output=True)
    return next(folder.glob('*.dist-info/METADATA')).read_text()

def test_requirements_of_settings_ini_are_live(tmp_path):
    for f in ('pyproject.toml', 'settings.ini', 'setup.py', 'README.md', 'LICENSE', 'MANIFEST.in'):
        shutil.copy(root / f, tmp_path)
    shutil.copytree(root/'cifar_fastai', tmp_path/'cifar_fastai')
    ini = tmp_path/'settings.ini'
    ini.write_text(ini.read_text().replace('torchinfo>=', 'torchinfo>=1.7.999,>='))
    text = metadata(tmp_path)
    assert re.search(r'Requires-Dist: torchinfo.*>=1\.7\.999', text)
    cfg = configparser.ConfigParser(); cfg.read(ini)
    names = [re.match(r'[\w-]+', l)[0] for l in cfg['DEFAULT']['requirements'].split('\n')[1:]]
    assert re.findall(r'^Requires-Dist: ([\w-]+)(?!.*extra)', text, re.M)==names
    assert {'fastai','torch','torchvision','nbdev','albumentations','grad-cam','matplotlib'} <= set(names)

@pytest.mark.parametrize('path', notebooks, ids=lambda p: p.stem)
def test_notebook_is_saved_as_it_should_be(path):
    nb = json.loads(path.read_text())
    code = [c for c in nb['cells'] if c['cell_type']=='code']
    assert (nb['nbformat'],nb['nbformat_minor'])>=(4,5) and all(c.get('id') for c in nb['cells'])
    assert any(c['outputs'] for c in code), 'no saved output'
    for c in code:
        for o in c['outputs']:
            assert o['output_type']!='error', ''.join(o.get('traceback', []))
            assert 'object at 0x' not in json.dumps(o), 'an address as output'
            assert 'site-packages' not in json.dumps(o), 'a path of the machine it ran on'
            assert o.get('name')!='stderr' or path.stem=='00_core', 'a line about progress' # core shows one
            assert 'Error in callback' not in json.dumps(o), 'a figure could not be drawn'
            assert 'Figure size' not in json.dumps(o) or 'image/' in json.dumps(o), 'a figure without its picture'
    long = [len(c['source']) for c in code if len(c['source'])>45]
    assert not long, f'code cells of {long} lines'
    assert path.stat().st_size<1_200_000

def test_export_and_clean_change_nothing(tmp_path):
    for d in ('nbs', 'cifar_fastai'):
        shutil.copytree(root / d, tmp_path / d, symlinks=True, ignore=shutil.ignore_patterns('__pycache__'))
    for f in ('pyproject.toml','settings.ini','setup.py'): shutil.copy(root/f, tmp_path)
    subprocess.run(['git','init','-q'], cwd=tmp_path, check=True)
    for c in ('export', 'clean'):
        subprocess.run(
            [
                sys.executable,
                '-c',
                f'from nbdev.{dict(export="doclinks", clean="clean")[c]} import nbdev_{c} as f; f()',
            ],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )
    for d in ('nbs','cifar_fastai'):
        for p in sorted((root/d).rglob('*')):
            if p.is_file() and p.suffix in ('.py','.ipynb') and '.ipynb_checkpoints' not in p.parts:
                assert p.read_bytes()==(tmp_path/p.relative_to(root)).read_bytes(), p

def test_all_gives_every_public_name():
    names = vars(importlib.import_module('cifar_fastai.all'))
    for f in (root/'cifar_fastai').glob('[a-z]*.py'):
        if f.stem in ('all','cli'): continue
        for n in importlib.import_module(f'cifar_fastai.{f.stem}').__all__: assert n in names, (f.stem, n)

def test_public_functions_are_documented():
    import inspect
    from fastcore.docments import docments
    for f in (root/'cifar_fastai').glob('[a-z]*.py'):
        if f.stem=='all': continue
        mod = importlib.import_module(f'cifar_fastai.{f.stem}')
        for n in mod.__all__:
            o = getattr(mod, n, None)
            if not (inspect.isfunction(o) or inspect.isclass(o)) or o.__module__!=mod.__name__: continue
            if o.__name__=='<lambda>': continue
            assert o.__doc__, f'{f.stem}.{n} has no docstring'
            if inspect.isfunction(o):
                lacking = [k for k,v in docments(o).items() if v is None and k not in ('return','kwargs')]
                assert not lacking, f'{f.stem}.{n}: no docment for {lacking}'

def test_results_table_is_made_from_the_records():
    from cifar_fastai.experiments import results_table
    assert results_table(root/'results') in (root/'README.md').read_text()
