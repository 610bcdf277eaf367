"""tools/badges.py on a copy: the address set, set again, another one, taken out; and the cell that installs the
package where it is missing"""
import importlib.util, json, re, shutil, subprocess, sys
import pytest
from links import broken, root, targets, text

tutorials = sorted(p.name for p in (root/'nbs/tutorials').glob('[!.]*.ipynb'))

def state(d):
    return {
        p.relative_to(d).as_posix(): p.read_bytes()
        for p in sorted(d.rglob('*'))
        if p.is_file() and '__pycache__' not in p.parts
    }


def badges(d, *args):
    return subprocess.run([sys.executable, 'tools/badges.py', *args], cwd=d, capture_output=True, text=True)

@pytest.fixture(scope='module')
def project(tmp_path_factory):
    "The little of the project that the tool touches, without an address"
    d = tmp_path_factory.mktemp('badges')/'p'
    for o in ('tools', 'nbs/tutorials', 'nbs/images'):
        shutil.copytree(root / o, d / o, ignore=shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints'))
    for o in (
        'pyproject.toml',
        '_quarto.yml',
        'README.md',
        'nbs/index.ipynb',
        'nbs/00_core.ipynb',
        'cifar_fastai/__init__.py',
        'cifar_fastai/core.py',
        'cifar_fastai/_modidx.py',
    ):
        (d/o).parent.mkdir(exist_ok=True); shutil.copy(root/o, d/o)
    (d/'nbs/results.md').symlink_to('../results/README.md')
    r = badges(d, '--no-repo'); assert r.returncode==0, r.stderr
    return d

def cell(d, name, id):
    found = [text(c['source']) for c in json.loads((d/'nbs'/name).read_text())['cells'] if c['id']==id]
    assert len(found)<=1, f'{name} has {len(found)} cells {id}'
    return found[0] if found else ''

def test_this_checkout_is_in_step():
    r = badges(root, '--check')
    assert r.returncode==0, r.stderr

def test_set_and_taken_out(project):
    before = state(project)
    assert not any(b'colab.research' in o for k, o in before.items() if not k.startswith('tools/')), (
        'a badge without an address'
    )
    r = badges(project, '--repo', 'an-owner/a.name', '--check')
    assert (
        r.returncode == 1
        and all(o in r.stderr for o in ('pyproject.toml', '_quarto.yml', 'nbs/index.ipynb', *tutorials))
        and state(project) == before
    )
    r = badges(project, '--repo', 'an-owner/a.name'); assert r.returncode==0, r.stderr
    assert badges(project, '--check').returncode==0
    after = state(project)
    changed = {k for k in after if after[k]!=before.get(k)}
    assert changed == {
        'pyproject.toml',
        '_quarto.yml',
        'README.md',
        'cifar_fastai/_modidx.py',
        'nbs/index.ipynb',
        *(f'nbs/tutorials/{o}' for o in tutorials),
    }
    for name in ('index.ipynb', *(f'tutorials/{o}' for o in tutorials)):
        img,to = targets(cell(project, name, 'colab-badge'))
        assert img=='https://colab.research.google.com/assets/colab-badge.svg'
        m = re.fullmatch(
            r'https://colab\.research\.google\.com/github/an-owner/a\.name/blob/main/(nbs/tutorials/\w+\.ipynb)', to
        )
        assert m and (project/m[1]).is_file() and (name=='index.ipynb' or m[1]==f'nbs/{name}'), to
        assert not [o for o in broken(project/'nbs'/name, repo='an-owner/a.name') if 'a.name' in o]
    assert 'blob/main/nbs/tutorials/cifar10.ipynb)\n' in (project/'README.md').read_text().split('\n## ')[0]
    for k in ('site-url: https://an-owner.github.io/a.name/', 'repo-url: https://github.com/an-owner/a.name'):
        assert (project / '_quarto.yml').read_text().count(f'  {k}\n') == 1
    assert badges(project, '--repo', 'an-owner/a.name').stdout=='nothing to change\n' and state(project)==after
    assert badges(project).stdout=='nothing to change\n' and state(project)==after
    assert badges(project, '--repo', 'other/b').returncode==0
    assert not any(b'an-owner' in o for o in state(project).values())
    assert badges(project, '--no-repo').returncode==0 and state(project)==before

def test_a_new_tutorial_gets_its_cells(project):
    new = project/'nbs/tutorials/new.ipynb'
    new.write_text(
        json.dumps(
            dict(
                nbformat=4,
                nbformat_minor=5,
                metadata={},
                cells=[
                    dict(cell_type='markdown', id='a', metadata={}, source='# New\n\n> A new one'),
                    dict(cell_type='markdown', id='b', metadata={}, source='Why.'),
                    dict(cell_type='code', id='c', metadata={}, execution_count=None, outputs=[], source='1'),
                ],
            )
        )
    )
    assert 'nbs/tutorials/new.ipynb' in badges(project, '--check').stderr
    assert badges(project).returncode==0
    assert [c['id'] for c in json.loads(new.read_text())['cells']]==['a','b','colab-install','c']
    assert badges(project, '--repo', 'me/mine').returncode==0
    assert [c['id'] for c in json.loads(new.read_text())['cells']]==['a','colab-badge','b','colab-install','c']
    new.unlink(); assert badges(project, '--no-repo').returncode==0

@pytest.mark.parametrize('repo', ['', 'mine', 'https://github.com/me/mine'])
def test_no_address(project, repo):
    before = state(project)
    r = badges(project, '--repo', repo)
    assert r.returncode==2 and 'give OWNER/NAME' in r.stderr and state(project)==before

# ---- the install cell

def run_cell(src, monkeypatch, cwd, there):
    "What a cell asks of IPython, where the package is there or not"
    from IPython.core.inputtransformer2 import TransformerManager
    asked = []
    class Shell:
        def run_line_magic(self, name, line): asked.append(f'%{name} {line}')
        def system(self, cmd): asked.append(f'!{cmd}')
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        'find_spec',
        lambda n, *a: (object() if there else None) if n == 'cifar_fastai' else find(n, *a),
    )
    monkeypatch.chdir(cwd)
    exec(compile(TransformerManager().transform_cell(src), 'cell', 'exec'), dict(get_ipython=Shell))
    return asked

def test_install_cell(project, monkeypatch, tmp_path):
    """One form in all tutorials; nothing where the package is there; from the clone the notebook is in; else a clone,
    or a word on what to do"""
    def same(): 
        src = {cell(project, f'tutorials/{o}', 'colab-install') for o in tutorials}
        assert len(src)==1 and src!={''}
        return src.pop()
    here = project/'nbs/tutorials'
    src = same()
    assert src.startswith('#| notest\n'), 'nbdev_test leaves it out'
    assert run_cell(src, monkeypatch, here, True)==run_cell(src, monkeypatch, tmp_path, True)==[]
    assert run_cell(src, monkeypatch, here, False)==['%pip install -q ../..']
    with pytest.raises(FileNotFoundError, match='clone the project or upload it'):
        run_cell(src, monkeypatch, tmp_path, False)
    assert badges(project, '--repo', 'me/mine').returncode==0
    src = same()
    assert run_cell(src, monkeypatch, tmp_path, True) == [] and run_cell(src, monkeypatch, here, False) == [
        '%pip install -q ../..'
    ]
    assert run_cell(src, monkeypatch, tmp_path, False) == [
        '!git clone -q --depth 1 https://github.com/me/mine',
        '%cd mine/nbs/tutorials',
        '%pip install -q ../..',
    ]
    (tmp_path/'mine').mkdir()  # after a restart: Colab is back in its own folder
    assert run_cell(src, monkeypatch, tmp_path, True) == ['%cd mine/nbs/tutorials'] and run_cell(
        src, monkeypatch, tmp_path, False
    ) == ['%cd mine/nbs/tutorials', '%pip install -q ../..']
    assert badges(project, '--no-repo').returncode==0
