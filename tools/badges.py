"""The address of the repository, wherever it stands: `python tools/badges.py --repo OWNER/NAME` sets it,
`--no-repo` takes it out, `--check` changes nothing and names what is out of step.
Without an option it goes by the address in pyproject.toml, the one place that all else is made from: Colab badges
and install cells of the tutorials, the badge and the lines about the
repository of README.md, index.ipynb and _quarto.yml, and the links to the source in cifar_fastai/_modidx.py."""
import argparse, re, subprocess, sys
from pathlib import Path
from fastcore.nbio import mk_cell, read_nb, write_nb

root = Path(__file__).resolve().parents[1]
badge_id,install_id = 'colab-badge','colab-install'

def tutorials(): return sorted((root/'nbs/tutorials').glob('[!.]*.ipynb'))

def pyproject(repo, text):
    """Text of pyproject.toml with the address of `repo`, or none. `Repository` is the key that nbdev reads;
    `Documentation` would put a line into every module."""
    text = re.sub(r'\[project\.urls\]\n(?:\w.*\n)*\n', '', text)
    return (
        text.replace(
            '[project.scripts]', f'[project.urls]\nRepository = "https://github.com/{repo}"\n\n[project.scripts]'
        )
        if repo
        else text
    )


def quarto_yml(repo, text):
    text = re.sub(r'^  (site-url|repo-\w+): .*\n', '', text, flags=re.M)
    if not repo: return text
    owner,name = repo.split('/')
    lines = [
        f'site-url: https://{owner}.github.io/{name}/',
        f'repo-url: https://github.com/{repo}',
        'repo-branch: main',
        'repo-subdir: nbs',
        'repo-actions: [issue, source]',
    ]
    return text.replace('  search: true\n', ''.join(f'  {o}\n' for o in lines)+'  search: true\n')

def badge(repo, nb):
    return f'[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/{repo}/blob/main/{nb})'


def install(repo):
    """Source of the cell that goes to the notebook's folder, cloned where it is needed, and installs the package
    where it is missing; nothing where both are there, after a restart too"""
    name = repo and repo.split('/')[1]
    if repo:
        go = [
            f"    cloned = pathlib.Path('{name}').exists()",
            '    if missing and not cloned:',
            f'        !git clone -q --depth 1 https://github.com/{repo}',
            '    if missing or cloned:',
            f'        %cd {name}/nbs/tutorials',
        ]
    else:
        go = [
            '    if missing:',
            "        raise FileNotFoundError('clone the project or upload it, go to its folder nbs/tutorials (%cd, "
            "on Colab), and run this cell again')",
        ]
    return '\n'.join(
        [
            '#| notest',
            'import importlib.util, pathlib',
            "missing = importlib.util.find_spec('cifar_fastai') is None # on Colab, for one",
            "if not pathlib.Path('../../pyproject.toml').exists():",
            *go,
            'if missing:',
            '    %pip install -q ../..',
        ]
    )


def put(nb, id, source, kind, at):
    "Give the cell `id` of `nb` this source, make it, or take it out where there is none"
    old = [c for c in nb.cells if c.get('id')==id]
    if not source: nb.cells = [c for c in nb.cells if c.get('id')!=id]
    elif old: old[0].source = source
    else:
        c = mk_cell(source, kind); c['id'] = id
        nb.cells.insert(at, c)

def notebook(repo, f):
    "Notebook `f` in step with `repo`"
    nb = read_nb(f)
    front = 'tutorials/cifar10.ipynb' if f.stem=='index' else f'tutorials/{f.name}' # the index leads to the walkthrough
    put(nb, badge_id, repo and badge(repo, f'nbs/{front}'), 'markdown', 1)
    if f.stem != 'index':
        put(nb, install_id, install(repo), 'code', next(i for i, c in enumerate(nb.cells) if c.cell_type == 'code'))
    return nb

def address():
    "owner/name of pyproject.toml, or ''"
    m = re.search(r'^Repository = "https://github\.com/(.+)"$', (root/'pyproject.toml').read_text(), re.M)
    return m[1] if m else ''

def cells(nb): return [(c.cell_type, c.get('id'), ''.join(c.source)) for c in nb.cells]

def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0], allow_abbrev=False)
    what = p.add_mutually_exclusive_group()
    what.add_argument('--repo', metavar='OWNER/NAME', help='set the address')
    what.add_argument('--no-repo', action='store_true', help='take it out')
    p.add_argument(
        '--check',
        action='store_true',
        help='change nothing; exit code 1 and the names of the files that are out of step',
    )
    args = p.parse_args()
    if args.repo is not None and not re.fullmatch(r'[\w-]+/[\w.-]+', args.repo):
        p.error(f'--repo is {args.repo!r}: give OWNER/NAME, as in https://github.com/OWNER/NAME')
    repo = '' if args.no_repo else args.repo or address()
    stale = []
    for name,f in (('pyproject.toml',pyproject), ('_quarto.yml',quarto_yml)):
        t = (root/name).read_text(); new = f(repo, t)
        if t==new: continue
        stale.append(name)
        if not args.check: (root/name).write_text(new)
    for f in [root/'nbs/index.ipynb', *tutorials()]:
        new = notebook(repo, f)
        if cells(new)==cells(read_nb(f)): continue
        stale.append(f.relative_to(root).as_posix())
        if not args.check: write_nb(new, f)
    if args.check:
        sys.exit(
            f"not in step with {repo or 'no address'}: {', '.join(stale)}: run `python tools/badges.py`"
            if stale
            else 0
        )
    subprocess.run([sys.executable, root/'tools/readme.py'], check=True)
    subprocess.run([sys.executable, '-c', 'from nbdev.doclinks import nbdev_export as f; f()'], cwd=root, check=True)
    print('\n'.join(f'written: {o}' for o in stale) or 'nothing to change')

if __name__=='__main__': main()
