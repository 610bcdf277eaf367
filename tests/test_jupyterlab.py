"""Notebooks opened and run in a real JupyterLab, through its own menus, in headless Chromium, with the extra `browser`:
`pytest -m slow tests/test_jupyterlab.py`. Others than these two: JUPYTERLAB_NOTEBOOKS='nbs/30_interpret.ipynb' before
the command, paths from the top of the repository."""
import contextlib, json, os, re, shutil, signal, socket, subprocess, sys, time
from pathlib import Path
from urllib.request import urlopen
import pytest
from browser import chromium

pytestmark = pytest.mark.slow
sync = pytest.importorskip('playwright.sync_api')
pytest.importorskip('jupyterlab')

root = Path(__file__).resolve().parents[1]
named = os.getenv('JUPYTERLAB_NOTEBOOKS', 'nbs/index.ipynb nbs/43_explore.ipynb').split()
minutes = 20 # a notebook may take
blocked = '''import sys
sys.path.insert(0, {tests!r})
import offline
class Told(list):
    def append(self, o):
        with open({log!r}, 'a') as f: print(sys.argv[:3], o, file=f)
offline.tried = Told()
offline.block()
'''

def checkout(to):
    "What a notebook finds around it, without history: it may export, and changes nothing of ours"
    to.mkdir()
    for d in ('nbs','results','cifar_fastai'):
        shutil.copytree(root/d, to/d, symlinks=True, ignore=shutil.ignore_patterns('__pycache__','.ipynb_checkpoints'))
    for f in ('pyproject.toml','settings.ini','setup.py','README.md'): shutil.copy(root/f, to)
    subprocess.run(['git','init','-q'], cwd=to, check=True)

def settings(to, theme):
    "Settings of a user: the theme, all cells in the page at once, no news, no extension that fetches MathJax"
    (to/'labconfig').mkdir(parents=True)
    (to/'labconfig/page_config.json').write_text(json.dumps(dict(disabledExtensions={'jupyterlab-quarto': True})))
    for plugin,d in {'apputils-extension/themes': dict(theme=theme),
                     'apputils-extension/notification': dict(fetchNews='false', checkForUpdates=False),
                     'notebook-extension/tracker': dict(windowingMode='none')}.items():
        f = to/'lab/user-settings/@jupyterlab'/f'{plugin}.jupyterlab-settings'
        f.parent.mkdir(parents=True, exist_ok=True)
        f.write_text(json.dumps(d))

@contextlib.contextmanager
def lab(tmp, folder, theme):
    "A server on this machine alone that can reach nothing else, nor can its kernels; it ends with the block"
    settings(tmp/'config', theme)
    (tmp/'site').mkdir()
    (tmp / 'site/sitecustomize.py').write_text(
        blocked.format(tests=str(root / 'tests/helpers'), log=str(tmp / 'reached.txt'))
    )
    with socket.create_server(('127.0.0.1', 0)) as s: port = s.getsockname()[1]
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(tmp/'site'), str(root)]), 'FASTAI_HOME': str(tmp/'fastai'),
           'JUPYTER_CONFIG_DIR': str(tmp/'config'), 'JUPYTER_RUNTIME_DIR': str(tmp/'runtime'),
           'IPYTHONDIR': str(tmp/'ipython'), 'JUPYTER_DATA_DIR': str(tmp/'data')}
    env.pop('MPLBACKEND', None) # the kernel brings its own
    opts = {
        'ServerApp.ip': '127.0.0.1',
        'ServerApp.port': port,
        'ServerApp.port_retries': 0,
        'IdentityProvider.token': 'test',
        'ServerApp.root_dir': folder,
        'ServerApp.open_browser': False,
        'ServerApp.allow_root': True,
        'LabApp.news_url': '',
        'LabApp.check_for_updates_class': 'jupyterlab.NeverCheckForUpdate',
        'LabApp.extension_manager': 'readonly',
    }
    with (tmp/'server.txt').open('w') as log:
        server = subprocess.Popen([sys.executable, '-m', 'jupyterlab', *(f'--{k}={v}' for k,v in opts.items())],
                                  cwd=tmp, env=env, stdout=log, stderr=log, start_new_session=True)
        try:
            base,end = f'http://127.0.0.1:{port}',time.time()+90
            while True:
                with contextlib.suppress(OSError): urlopen(f'{base}/api?token=test', timeout=5); break
                assert server.poll() is None and time.time()<end, (tmp/'server.txt').read_text()
                time.sleep(0.2)
            yield base
        finally:
            server.send_signal(signal.SIGINT); server.send_signal(signal.SIGTERM) # it ends its kernels
            try: server.wait(20)
            except subprocess.TimeoutExpired: pass
            with contextlib.suppress(ProcessLookupError): os.killpg(server.pid, signal.SIGKILL)
            server.wait()

# the kernel's name stands before it once there is one
def idle(page, timeout):
    page.locator('#jp-main-statusbar').get_by_text('| Idle').wait_for(timeout=timeout)

def choose(page, menu, item):
    "Click an item of a menu of JupyterLab"
    page.locator('#jp-MainMenu').get_by_role('menuitem', name=menu, exact=True).click()
    page.locator(f'.lm-Menu-item:has(> .lm-Menu-itemLabel:text-is("{item}"))').click()

def run_all(page, base, path):
    "Open a notebook, run it, save it"
    page.goto(f'{base}/lab/tree/{path}?token=test&reset', wait_until='domcontentloaded')
    idle(page, 120_000)
    choose(page, 'Run', 'Run All Cells')
    end = time.time()+60*minutes
    def prompts():
        shown = page.locator('.jp-NotebookPanel:visible .jp-CodeCell .jp-InputPrompt')
        return [o.strip() for o in shown.all_inner_texts()]
    while not all(re.fullmatch(r'\[\d+\]:', o) for o in prompts()):
        assert time.time()<end, prompts()
        assert not page.locator('.jp-Dialog').count(), page.locator('.jp-Dialog').inner_text()
        if page.locator('.jp-NotebookPanel:visible [data-mime-type="application/vnd.jupyter.error"]').count(): break
        page.wait_for_timeout(500)
    idle(page, 30_000)
    choose(page, 'File', 'Save Notebook')
    page.wait_for_selector('.jp-mod-dirty', state='detached', timeout=15_000)
    page.wait_for_timeout(500)

def errors(nb):
    return [''.join(o['traceback']) for c in nb['cells'] if c['cell_type']=='code'
            for o in c['outputs'] if o['output_type']=='error']

def explore(page):
    "Move the explorer's controls: each changes the picture"
    first = page.locator('.jp-OutputArea-output .jupyter-widgets.widget-vbox:has(.widget-image)').first
    first.scroll_into_view_if_needed()
    imgs = first.locator('img.widget-image')
    assert imgs.count()==2 and first.locator('select').count()==7
    assert first.locator('.noUi-target, .ui-slider').count()==2
    assert first.locator('img.widget-image').evaluate_all('os => os.every(o => o.complete && o.naturalWidth==256)')
    copy = '''o => {
      const c = Object.assign(document.createElement("canvas"), {width: o.naturalWidth, height: o.naturalHeight})
      c.getContext("2d").drawImage(o, 0, 0)
      return c.toDataURL()
    }'''
    def pixels(i): return imgs.nth(i).evaluate(copy)
    def changes(do, i=1):
        was,end = pixels(i),time.time()+60
        do()
        while pixels(i)==was:
            assert time.time()<end, 'the picture stayed as it was'
            page.wait_for_timeout(100)
    pick = lambda name,label: first.get_by_label(name, exact=True).select_option(label=label)
    changes(lambda: pick('method', 'GradCAM'))
    changes(lambda: pick('layer', 'stage3 (8x8)'))
    changes(lambda: pick('versus', 'nothing')) # the cell below it has set another
    handle = first.locator('.widget-hslider').last.locator('.noUi-handle')
    changes(lambda: (handle.focus(), [page.keyboard.press('ArrowLeft') for _ in range(6)]))
    changes(lambda: (first.locator('.widget-hslider').first.locator('.noUi-handle').focus(),
                     page.keyboard.press('ArrowRight')), 0)
    changes(lambda: first.get_by_label('items', exact=True).select_option(index=1), 0)
    return first

@contextlib.contextmanager
def page_of(tmp, theme):
    "A page, and the address of a server that has a checkout in `tmp/work`; neither may complain or ask elsewhere"
    log = []
    with lab(tmp, tmp/'work', theme) as base, sync.sync_playwright() as p:
        browser = chromium(p)
        try:
            page = browser.new_page(viewport=dict(width=1280, height=1000))
            page.on('console', lambda o: o.type=='error' and log.append(f'{o.text} ({o.location.get("url")})'))
            page.on('pageerror', lambda o: log.append(str(o)))
            own = base,base.replace('http', 'ws'),'data:','blob:'
            page.on('request', lambda o: o.url.startswith(own) or log.append(f'asked for {o.url[:100]}'))
            yield page,base
            page.screenshot(path=tmp/'page.png')
        except BaseException: page.screenshot(path=tmp/'failed.png'); raise
        finally: browser.close()
    assert log==[]
    assert not (tmp/'reached.txt').exists(), (tmp/'reached.txt').read_text()

@pytest.mark.parametrize('theme', ['JupyterLab Light','JupyterLab Dark'], ids=['light','dark'])
@pytest.mark.parametrize('path', named, ids=lambda o: Path(o).stem)
def test_notebook_runs_in_jupyterlab(path, theme, tmp_path):
    checkout(tmp_path/'work')
    with page_of(tmp_path, theme) as (page,base):
        run_all(page, base, path)
        nb = json.loads((tmp_path/'work'/path).read_text())
        assert not errors(nb), errors(nb)[0]
        assert page.evaluate('document.body.dataset.jpThemeLight')==str(theme.endswith('Light')).lower()
        last = page.locator('.jp-NotebookPanel:visible .jp-OutputArea-output').last
        shown = explore(page) if Path(path).stem=='43_explore' else last
        shown.scroll_into_view_if_needed()

hostile = ['<b>|x', '*a* **b** _c_ __d__ ~~e~~', '`a\\|b` ``c``', '[t](x) ![i](y)',
           '<script>document.title="no"</script>', '&amp; &lt;', 'a\\', '|', '$x$ and $$y$$', '\\(x\\)', 'plain_name',
           '猫', '<!--']
def test_names_are_text_in_jupyterlab(tmp_path):
    "Whatever a class is called, a table shows its name: no HTML, no Markdown, no formula"
    (tmp_path/'work').mkdir()
    table = f'md_table(["name","n"], [[o, i] for i,o in enumerate({hostile!r})], "lr")'
    cell = dict(cell_type='code', id='a', metadata={}, execution_count=None, outputs=[],
                source=f'from cifar_fastai.core import md_table\n{table}')
    kernel = dict(display_name='python3', language='python', name='python3')
    nb = dict(cells=[cell], metadata=dict(kernelspec=kernel), nbformat=4, nbformat_minor=5)
    (tmp_path/'work/names.ipynb').write_text(json.dumps(nb))
    with page_of(tmp_path, 'JupyterLab Light') as (page,base):
        run_all(page, base, 'names.ipynb')
        page.wait_for_timeout(2000) # a formula is set after the table
        out = page.locator('.jp-OutputArea-output')
        assert [o.strip() for o in out.locator('td:first-child').all_text_contents()]==hostile
        assert out.locator('mjx-container').count()==0
