"""The site: pages, sidebar, llms.txt, links, and the workflow that publishes it. `nbdev-docs` needs the quarto
binary; all that comes before quarto is done here, by `nbdev-proc-nbs`, and what
quarto would be given is followed link by link."""
import ast, importlib, importlib.util, inspect, json, os, re, shutil, subprocess, sys
import pytest, yaml
from commands import check
from links import anchors, broken, markdown, root, targets, text

nbs = root/'nbs'
notebooks = sorted(p.relative_to(nbs).as_posix() for p in nbs.rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts)
quarto = yaml.safe_load((root/'_quarto.yml').read_text())

def tool(name):
    spec = importlib.util.spec_from_file_location(f'tools_{name}', root/f'tools/{name}.py')
    mod = importlib.util.module_from_spec(spec); spec.loader.exec_module(mod)
    return mod
site = tool('site')

# ---- pages in reading order

def test_every_notebook_is_in_the_reading_table():
    rows = [p for p,_ in site.reading_table()]
    for p in notebooks:
        if p != 'index.ipynb':
            assert p in rows, (
                f'nbs/{p} is not in the reading table: add a row `| [{p[:-6]}]({p}) | what it is |` to the table of '
                f'nbs/reading.md, then run tools/site.py'
            )
    for p in rows:
        assert p in notebooks, (
            f'the table of nbs/reading.md has a row for {p}, but there is no such notebook in nbs/: take the row out'
        )
    assert len(rows)==len(set(rows)), 'the table of nbs/reading.md has two rows for a notebook'
    assert rows == [o for o in rows if o.startswith('tutorials/')] + [
        o for o in rows if not o.startswith('tutorials/')
    ], 'the tutorials come first in the reading table'


def test_sidebar_and_llms_txt_are_made_from_the_reading_table():
    r = subprocess.run([sys.executable, 'tools/site.py', '--check'], cwd=root, capture_output=True, text=True)
    assert r.returncode==0, r.stderr

def test_sidebar_is_in_reading_order():
    pages = [o for s in quarto['website']['sidebar']['contents'] for o in s['contents']]
    rows = [p for p,_ in site.reading_table()]
    grouped = [p for tens in ('t','0','1','2','3','4','56') for p in rows if p[0] in tens]
    assert [o['href'] for o in pages]==['index.ipynb', 'reading.md', 'results.md', *grouped]
    for o in pages: assert o['text']==site.title(o['href'])

def test_quarto_finds_what_it_is_told():
    html = quarto['format']['html']
    for f in (html['css'], *quarto['filters'], *quarto['project']['resources']): assert (nbs/f).is_file(), f
    assert set(html['theme'])=={'light','dark'} and html['toc'] and html['code-copy'] and quarto['website']['search']
    assert os.path.samefile(nbs / '_quarto.yml', root / '_quarto.yml') and os.path.samefile(
        nbs / 'results.md', root / 'results/README.md'
    )
    from nbdev.config import get_config
    cfg = get_config(root)
    assert cfg.custom_sidebar is True, 'nbdev would write a sidebar of its own, in the order of the file names'
    assert (
        cfg.doc_path.name == quarto['project']['output-dir']
        and quarto['website']['title'] == cfg.title
        and quarto['website']['description'] == cfg.description
    )
    assert not cfg.doc_url, 'a Documentation address puts a line into every module'

def test_no_two_pages_have_one_address():
    from nbdev.config import nbpath2html
    out = [nbpath2html(p).as_posix() for p in notebooks]
    assert len(out)==len(set(out)), sorted(o for o in out if out.count(o)>1)
    assert out==[site.output(p) for p in notebooks]

def test_llms_txt():
    "Title, summary, free text without headings, sections of links: https://llmstxt.org"
    t = (nbs/'llms.txt').read_text()
    head,*sections = t.split('\n## ')
    assert re.match(r'# cifar_fastai\n\n> .+\n\n', head) and '\n#' not in head
    listed = []
    for s in sections:
        name,*lines = s.strip().split('\n')
        for l in filter(None, lines):
            assert (m := re.fullmatch(r'- \[[^]]+\]\(([^)]+)\): \S.*', l)), f'not a link with its words: {l}'
            listed.append(re.sub(r'\.md$', '', m[1]))
    assert sorted(listed)==sorted([site.output(p) for p in notebooks]+['reading.html','results.html'])
    for n in re.findall(r'`([a-z]\w+)`', head):
        assert hasattr(importlib.import_module('cifar_fastai.all'), n), f'llms.txt names {n}, which there is not'


# ---- what nbdev makes of the notebooks

@pytest.mark.parametrize('path', notebooks)
def test_title_cell_holds_heading_and_description_alone(path):
    src = text(json.loads((nbs/path).read_text())['cells'][0]['source'])
    assert re.fullmatch(r'# [^\n]+\n\n> [^\n]+\s*', src), (
        f'nbs/{path}: nbdev leaves out of the page what else stands in the first cell: put it into the next one'
    )


def mixed(nb):
    "Cells that import and do more, in a notebook that exports"
    code = [text(c['source']) for c in nb['cells'] if c['cell_type']=='code']
    if not any(re.search(r'^#\|\s*exports?\b', s, re.M) for s in code): return []
    res = []
    for s in code:
        if (
            re.search(r'^#\|\s*(exporti?|exports|exec_doc)\b', s, re.M)
            or 'nbdev_export()' in s
            or re.search(r'^#\|\s*eval:\s*false', s, re.M)
        ):
            continue
        tree = ast.parse('\n'.join('' if l.startswith(('%','!')) else l for l in s.splitlines()))
        only = lambda n: (
            isinstance(n, (ast.Import, ast.ImportFrom))
            or isinstance(n, ast.With)
            and 'catch_warnings' in ast.unparse(n.items[0])
        )
        if any(isinstance(n, (ast.Import, ast.ImportFrom)) for n in ast.walk(tree)) and not all(map(only, tree.body)):
            res.append(s)
    return res

@pytest.mark.parametrize('path', notebooks)
def test_imports_stand_in_cells_of_their_own(path):
    found = mixed(json.loads((nbs/path).read_text()))
    assert not found, (
        f'nbs/{path}: the docs build runs a cell that imports, in a fresh namespace, and stops at what else stands '
        f'in it: put the imports into a cell of their own, before this one\n{found[0]}'
    )


def test_a_cell_that_imports_and_does_more_is_found():
    cell = lambda s: dict(cell_type='code', source=s)
    export = cell('#| export\ndef f(): import os')
    assert mixed(dict(cells=[export, cell('import os\nos.name')])) and mixed(
        dict(cells=[export, cell('for i in x:\n    import os')])
    )
    assert not mixed(dict(cells=[export, cell('import os\nfrom sys import path')])) and not mixed(
        dict(cells=[cell('import os\nos.name')])
    )


# ---- links

@pytest.mark.parametrize(
    'path',
    [
        'README.md',
        'CHANGELOG.md',
        'results/README.md',
        'nbs/results.md',
        'nbs/reading.md',
        *(f'nbs/{o}' for o in notebooks),
    ],
)
def test_links(path):
    p = root/path
    within = nbs if p.is_relative_to(nbs) else root # quarto takes nothing from outside nbs/
    bad = broken(p, within, repo=tool('badges').address())
    assert not bad, '\n'.join(bad)

def test_a_broken_link_is_found(tmp_path):
    (tmp_path/'nbs').mkdir(); (tmp_path/'outside.md').write_text('# Out')
    (tmp_path/'nbs/b.md').write_text('# A heading, `code()` and 2.0\n\n## Twice\n\n## Twice\n')
    good = ('[a](b.md) [b](b.md#twice) [b](b.md#twice-1) [c](b.md#a-heading-code-and-2.0) [s](#here) '
            '[w](https://arxiv.org/abs/1512.03385) <https://a.org/b> [d](b.md "titled")\n# Here\n`[no](nowhere.md)`\n'
            '```\n[no](nowhere.md)\n```\n')
    page = tmp_path/'nbs/page.md'
    page.write_text(good)
    assert broken(page, tmp_path/'nbs')==[] and len(targets(good))==8
    bad = {
        'nowhere.md': 'no such file',
        'b.md#thrice': 'no such heading',
        'b.md#twice-2': 'no such heading',
        '#there': 'no such heading',
        '../outside.md': 'leads out of nbs/',
        'no.png': 'no such file',
        'http://a.org': 'not https',
        'https://localhost/a': 'no host',
        'https:///a': 'no host',
        '/b.md': 'from the top of the machine',
        'https://github.com/me/mine/blob/main/no.py': 'the repository has no file',
        'https://github.com/me/mine/blob/main/setup.py#L999': 'has fewer lines',
    }
    for t,why in bad.items():
        page.write_text(f'{good}\n[`text` of it]({t})')
        assert [why in o and t in o for o in broken(page, tmp_path / 'nbs', repo='me/mine')] == [True], (
            t,
            broken(page, tmp_path / 'nbs', repo='me/mine'),
        )
    for md in ('![picture](no.png)', '<img src="no.png">', '[text]\n\n[text]: no.png', '[![a](no.png)](b.md)'):
        page.write_text(md)
        assert broken(page, tmp_path)==['page.md: no.png: no such file'], md
    nb = dict(
        cells=[
            dict(
                cell_type='code',
                source='',
                outputs=[dict(output_type='execute_result', data={'text/markdown': '[x](no.md)'})],
            ),
            dict(cell_type='markdown', source=['[y]\n', '(no.md) [`Name`](/b.html#name)']),
        ]
    )
    (tmp_path/'nbs/n.ipynb').write_text(json.dumps(nb))
    assert broken(tmp_path / 'nbs/n.ipynb', tmp_path, {'b.html': tmp_path / 'nbs/b.md'}) == [
        'n.ipynb: no.md: no such file',
        'n.ipynb: /b.html#name: b.md has no such heading',
    ]
    assert broken(tmp_path/'nbs/n.ipynb', tmp_path, {})[1]=='n.ipynb: /b.html#name: the site has no such page'

# ---- the workflow

@pytest.mark.parametrize('path', sorted((root/'.github/workflows').glob('*.yml')), ids=lambda p: p.stem)
def test_workflow(path):
    w = yaml.safe_load(path.read_text())
    assert w['jobs'] and (w.get(True) or w.get('on')), 'YAML reads a bare `on` as true'
    for name,job in w['jobs'].items():
        assert job['runs-on'] and job['timeout-minutes'] and job['steps'], name
        for need in [job['needs']] if isinstance(job.get('needs'), str) else job.get('needs', []):
            assert need in w['jobs']
        for s in job['steps']:
            assert ('uses' in s)!=('run' in s), s
            if 'uses' in s: assert re.fullmatch(r'(actions|quarto-dev)/[\w/-]+@v\d+', s['uses']), s['uses']
            else: check(s['run'].replace('$GITHUB_REPOSITORY', 'owner/name'))

def test_the_docs_workflow_may_do_no_more_than_it_must():
    w = yaml.safe_load((root/'.github/workflows/docs.yml').read_text())
    assert w[True]['push']=={'branches': ['main']} and w['permissions']=={}
    assert w['jobs']['build']['permissions'] == {'contents': 'read', 'pages': 'read'} and w['jobs']['deploy'][
        'permissions'
    ] == {'pages': 'write', 'id-token': 'write'}
    steps = [s.get('run') or s['uses'].split('@')[0] for j in w['jobs'].values() for s in j['steps']]
    order = [
        'quarto-dev/quarto-actions/setup',
        "pip install -e '.[dev]'",
        'python tools/badges.py --repo "$GITHUB_REPOSITORY"',
        'nbdev-docs',
        'actions/configure-pages',
        'actions/upload-pages-artifact',
        'actions/deploy-pages',
    ]
    assert [s for s in steps if s in order]==order
    up = next(s for s in w['jobs']['build']['steps'] if s.get('uses', '').startswith('actions/upload-pages-artifact'))
    assert up['with']['path']==quarto['project']['output-dir']

# ---- the pages as quarto would have them

@pytest.fixture(scope='module')
def processed(tmp_path_factory):
    """The processed pages of a copy of the project that has an address, as the workflow makes them; a `quarto` that
    does nothing stands in for the binary, which nbdev would download"""
    d = tmp_path_factory.mktemp('project')
    files = subprocess.run(
        ['git', 'ls-files', '-co', '--exclude-standard'], cwd=root, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    for f in files:
        if not (root/f).exists(): continue
        (d/f).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root/f, d/f, follow_symlinks=False)
    stub = d/'bin/quarto'; stub.parent.mkdir(); stub.write_text('#!/bin/sh\nexit 0\n'); stub.chmod(0o755)
    env = {**os.environ, 'PATH': f'{stub.parent}{os.pathsep}{os.environ["PATH"]}', 'PYTHONPATH': str(d), 'IN_TEST': ''}
    for argv in (
        ['tools/badges.py', '--repo', 'an-owner/a-name'],
        ['-c', 'from nbdev.quarto import nbdev_proc_nbs as f; f()'],
    ):
        r = subprocess.run([sys.executable, *argv], cwd=d, env=env, capture_output=True, text=True)
        assert r.returncode==0, r.stderr[-3000:]
    return d/'_proc'

@pytest.mark.slow
def test_processed_pages(processed):
    pages = {site.output(p): processed/p for p in [*notebooks, 'reading.md', 'results.md']}
    for a,p in pages.items(): assert p.is_file(), f'{a} was not made'
    for f in ('_quarto.yml','styles.css','llms.txt'): assert (processed/f).is_file(), f
    assert (
        not (processed / 'sidebar.yml').exists()
        and yaml.safe_load((processed / '_quarto.yml').read_text())['website']['repo-url']
        == 'https://github.com/an-owner/a-name'
    )
    bad = [o for p in pages.values() for o in broken(p, processed, pages, 'an-owner/a-name')]
    assert not bad, '\n'.join(bad)
    assert sum(t.startswith('/') for p in pages.values() for md in markdown(p) for t in targets(md)) > 50, (
        'nbdev makes links of the names of functions in backticks'
    )


@pytest.mark.slow
@pytest.mark.parametrize('path', [o for o in notebooks if o[0].isdigit()])
def test_processed_page_documents_what_it_exports(path, processed):
    """A heading for each public function and class, with its parameters and what they are; all the prose of the
    notebook; nothing of its hidden cells"""
    mds = markdown(processed/path); have = anchors(mds); page = '\n'.join(mds)
    src,made = (json.loads((d/path).read_text())['cells'] for d in (nbs, processed))
    assert not [c for c in made if re.match(r'#\|\s*(hide|export|default_exp)\b', text(c['source']))], (
        'a cell that does not belong on the page'
    )
    mod = importlib.import_module('cifar_fastai.'+site.title(path))
    from fastcore.docments import docments
    # a name that is assigned gets no entry of nbdev's
    defined = {o.name for o in ast.parse(inspect.getsource(mod)).body if isinstance(o, (ast.FunctionDef,ast.ClassDef))}
    for n in (n for n in mod.__all__ if n in defined):
        o = getattr(mod, n)
        assert n.lower() in have, f'{n} is not on the page of {path}'
        if not inspect.isfunction(o): continue
        for k,v in docments(o).items():
            if v and k not in ('return', 'kwargs', 'args'):
                assert v.split('\n')[0].replace('`', '')[:40] in re.sub(
                    r'\[`([^`]+)`\]\([^)]*\)', r'\1', page
                ).replace('`', ''), f'{n}: {k} has lost its words {v!r}'
    for c in src[1:]:
        first = text(c['source']).strip().split('\n')[0]
        if c['cell_type'] == 'markdown' and not re.match(r'#.* -$', first):
            assert re.sub(r'[`\s]', '', first)[:60] in re.sub(
                r'[`\s]', '', re.sub(r'\[(`[^`]+`)\]\([^)]*\)', r'\1', page)
            ), f'lost: {first}'

@pytest.mark.parametrize('link,code', [('b.html#there', 0), ('b.html#gone', 1), ('c.html', 1)])
def test_a_dead_link_of_the_built_site_is_found(link, code, tmp_path):
    (tmp_path/'a.html').write_text(f'<a href="{link}">b</a>')
    (tmp_path/'b.html').write_text('<h1 id="there">b</h1>')
    r = subprocess.run([sys.executable, 'tools/links.py', tmp_path], cwd=root, capture_output=True, text=True)
    assert r.returncode==code and (link in r.stdout+r.stderr)==bool(code)
