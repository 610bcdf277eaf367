"The app: it shows what the library says, keeps its bounds, reads no file that was not sent to it, and is right in a browser."
import inspect, io, json, os, re, shutil, subprocess, sys, threading
from pathlib import Path
import httpx, numpy as np, pytest, torch
from PIL import Image
import cifar_fastai.app as app_room, cifar_fastai.cli as cli
from cifar_fastai.app import RunViewer, make_app, serve_app
from cifar_fastai.cli import cifar_app
from cifar_fastai.errors import InputError
from cifar_fastai.recipes import Recipe, train
from cifar_fastai.sources import Source
import offline
from browser import chromium, contrast

def png(img):
    f = io.BytesIO(); img.save(f, 'PNG')
    return f.getvalue()

def copy_weights(run, to):
    to.mkdir()
    for f in ('model.json','model.safetensors'): shutil.copy(run/f, to)
    return to

# ---- what the page asks of a run

@pytest.fixture(scope='module')
def view(run_dir, source): return RunViewer(run_dir, source, 'cpu', n_images=30)

def state(model):
    "All of a network that a map might leave changed"
    return ([(k, v.clone()) for k,v in model.state_dict().items()], [m.training for m in model.modules()], [(p.requires_grad, p.grad) for p in model.parameters()],
            [len(h) for m in model.modules() for h in (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks)])

@pytest.mark.parametrize('train', [False, True])
def test_networks_are_left_as_they_were(view, source, train):
    nets = view.clf.model,view.learn.model
    for o in nets: o.train(train)
    before = [state(o) for o in nets]
    for method in ('HiResCAM','GradCAM++','ScoreCAM','EigenCAM'): view.explain(source.x[0], method=method)
    view.interp = None; view.drawn.clear(); view.mistakes()
    for (w,*rest),o in zip(before, nets):
        now,*others = state(o)
        assert rest==others and all(torch.equal(a, b) and k==l for (k,a),(l,b) in zip(w, now))
        o.eval()

def test_two_at_once_get_what_each_would_alone(view, source):
    ask = [(source.x[i], t, m) for i,(t,m) in enumerate([('star','HiResCAM'), ('ring','GradCAM'), ('predicted','EigenGradCAM'), ('heart','LayerCAM')]*3)]
    alone = [view.explain(x, t, method=m) for x,t,m in ask]
    got = [None]*len(ask)
    def one(i): x,t,m = ask[i]; got[i] = view.explain(x, t, method=m)
    threads = [threading.Thread(target=one, args=(i,)) for i in range(len(ask))]
    for o in threads: o.start()
    for o in threads: o.join()
    assert all(a.line==b.line and torch.equal(a.cam, b.cam) for a,b in zip(alone, got))

def test_images_that_are_gone(run_dir, tmp_path, source):
    gone = tmp_path/'gone'; shutil.copytree(run_dir, gone)
    c = json.loads((gone/'config.json').read_text()); c['source']['path'] = str(tmp_path/'nowhere'); (gone/'config.json').write_text(json.dumps(c))
    for folder,says in ((gone, 'nowhere'), (copy_weights(run_dir, tmp_path/'bare'), 'config.json')):
        v = RunViewer(folder, device='cpu')
        assert v.learn is None and says in v.why and '\n' not in v.why and says in app_room._head(v)[1] and says in app_room._gallery(v, 'loss')[0]
        assert v.explain(source.x[0]).prediction.top
    with pytest.raises(InputError, match='nowhere'): RunViewer(gone, tmp_path/'nowhere', 'cpu')

# ---- the server

class Page:
    "What a browser may send to a page, without one"
    def __init__(self, app, url):
        self.app,self.url,self.http = app,url,httpx.Client(base_url=url, timeout=60, trust_env=False)
        self.config = self.http.get('config').raise_for_status().json()
        self.ids = {c['props']['elem_id']: c['id'] for c in self.config['components'] if c['props'].get('elem_id')}
    def upload(self, data, name='picture.png'): return self.http.post('gradio_api/upload', files={'files': (name, data)})
    def sent(self, data, name='picture.png'): return {'path': self.upload(data, name).raise_for_status().json()[0], 'orig_name': name, 'meta': {'_type': 'gradio.FileData'}}
    def event(self, elem, event): return next(d for d in self.config['dependencies'] if [self.ids[elem], event] in [list(t) for t in d['targets']])
    def ask(self, elem, event, data, **kwargs):
        "The outcome of an event, as the page gets it"
        session = f'{id(data)}-{threading.get_ident()}'
        r = self.http.post('gradio_api/queue/join', json=dict(data=data, fn_index=self.event(elem, event)['id'], session_hash=session, **kwargs))
        if r.status_code!=200: return r.json()
        with self.http.stream('GET', 'gradio_api/queue/data', params=dict(session_hash=session)) as s:
            for line in s.iter_lines():
                if line.startswith('data:') and (m:=json.loads(line[5:]))['msg']=='process_completed': return m
    def look(self, picture, **kw):
        "Classes, map and note of a picture"
        a = {**dict(target='predicted', minus='', method='HiResCAM', layer='stage1', fit='crop', alpha=0.65), **kw}
        m = self.ask('picture', 'change', [picture, a['target'], a['minus'], a['method'], a['layer'], a['fit'], a['alpha']])
        return [o or None for o in m['output']['data'][1:]] if m['success'] else m

@pytest.fixture(scope='module')
def page(run_dir, source):
    app = make_app(run_dir, source, 'cpu', n_images=30)
    yield Page(app, serve_app(app, max_mb=0.2))
    app.close(verbose=False)

def test_listens_to_this_machine_alone(page):
    where = [s.getsockname()[0] for o in page.app.server.servers for s in o.sockets]
    assert where==['127.0.0.1'] and page.url.startswith('http://127.0.0.1:')
    assert inspect.signature(serve_app).parameters['host'].default=='127.0.0.1' and page.app.share is False and not page.app.share_url
    assert not page.app.analytics_enabled and page.app.max_file_size==int(0.2*2**20) and page.app.allowed_paths==[]

def test_a_picture_is_answered(page, view, source):
    img = Image.fromarray(source.x[0])
    classes,drawn,note = page.look(page.sent(png(img)))
    e = view.explain(img)
    assert [(o['label'], round(o['confidence'], 4)) for o in classes['confidences']]==[(c, round(p, 4)) for c,p in e.prediction.top] and f'evidence for {e.target}' in note
    got = page.http.get(f"gradio_api/file={drawn['path']}")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(got.content)).convert('RGB')), np.asarray(app_room._for_page(e).overlay(0.65)))
    signed = page.look(page.sent(png(img)), target='star', minus='ring', method='GradCAM', layer='stage3', fit='squash', alpha=1)
    assert 'Red is evidence for star, blue for ring. GradCAM at stage3.' in signed[2] and signed[1]['path']!=drawn['path']
    assert page.look(None)==[None]*3

def test_opacity_asks_the_network_nothing(page, source, monkeypatch):
    def never(*a, **k): raise AssertionError('the network was asked')
    c = next(c for c in page.app.blocks.values() if getattr(c, 'elem_id', None)=='alpha')
    fn = next(f for f in page.app.fns.values() if (c._id, 'change') in f.targets)
    e = app_room._for_page(RunViewer.explain(page_view(page), source.x[0]))
    monkeypatch.setattr(RunViewer, 'explain', never); monkeypatch.setattr('cifar_fastai.pictures.cam_maps', never)
    a,b = fn.fn(e, 0.2),fn.fn(e, 0.9)
    assert a.size==(384,384) and np.abs(np.asarray(a, int)-np.asarray(b, int)).max()>20 and fn.fn(None, 0.5) is None

def page_view(page):
    "The viewer behind a page"
    return next(c.cell_contents for f in page.app.fns.values() for c in (f.fn.__closure__ or ()) if isinstance(c.cell_contents, RunViewer))

refused = [(b'no picture', 'not an image'), (b'\x89PNG\r\n\x1a\n'+bytes(50), 'cannot read image'), (b'', 'cannot read image'), (b'<svg xmlns="http://www.w3.org/2000/svg"/>', 'not an image')]
@pytest.mark.parametrize('data,says', refused, ids=[s+str(i) for i,(_,s) in enumerate(refused)])
def test_what_is_no_picture(page, data, says, capfd):
    classes,drawn,note = page.look(page.sent(data))
    assert classes is None and drawn is None and says in note and 'warn' in note and 'Traceback' not in note+''.join(capfd.readouterr())

def test_too_many_pixels(page):
    data = png(Image.new('1', (12000,12000)))
    assert len(data)<200_000
    classes,drawn,note = page.look(page.sent(data))
    assert classes is None and drawn is None and f'more than {Image.MAX_IMAGE_PIXELS:,} pixels' in note

def test_too_large_a_file(page):
    assert page.upload(bytes(150_000)).status_code==200
    r = page.upload(bytes(250_000))
    assert r.status_code==413 and str(int(0.2*2**20)) in r.text

wrong = [dict(target='cow'), dict(minus='cow'), dict(method='NoCAM'), dict(layer='stage4'), dict(fit='pad'), dict(alpha=7)]
@pytest.mark.parametrize('kw', wrong, ids=str)
def test_choices_that_are_none(page, source, kw):
    res = page.look(page.sent(png(Image.fromarray(source.x[0]))), **kw)
    assert not res['success'] and 'Traceback' not in json.dumps(res) and next(iter(kw.values())) in (*re.findall(r'\w+', json.dumps(res)), 7)

def test_two_that_are_the_same(page, source):
    classes,_,note = page.look(page.sent(png(Image.fromarray(source.x[0]))), target='star', minus='star')
    assert classes is None and 'target and minus are both star' in note

@pytest.mark.parametrize('index', [-1, 10**6, None, 'x', [0,0]])
def test_a_thumbnail_that_is_none(page, index):
    m = page.ask('samples', 'select', [], event_data=dict(index=index, value=None))
    assert not m['success'] and 'Traceback' not in json.dumps(m)

def test_mistakes(page, view):
    m = page.ask('by', 'input', ['loss','','',None])['output']['data']
    assert f'{len(view.mistakes())} of the' in m[0] and [o['caption'] for o in m[1]['value']]==[f'{o.actual} predicted as {o.predicted}, {100*o.prob:.0f} %' for o,*_ in view.mistakes()]
    img,note,target,minus,tabs = page.ask('mistakes', 'select', ['loss','','',None], event_data=dict(index=1, value=None))['output']['data'][:5]
    o,pic,_ = view.mistakes()[1]
    assert f'<b>{o.actual}</b>' in note and (target,minus,tabs['selected'])==('predicted','','picture')
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(page.http.get(f"gradio_api/file={img['path']}").content)).convert('RGB')), np.asarray(pic)) # pixel for pixel

def secrets(run_dir): return ['/etc/passwd', str(run_dir/'model.json'), str(run_dir/'config.json'), str(Path.cwd()/'pyproject.toml'), __file__, '/proc/self/environ', str(Path.home()/'.bashrc'), '../../etc/passwd', '/tmp']
def test_no_file_of_the_machine_is_served(page, run_dir, tmp_path):
    for f in secrets(run_dir):
        for how in ('gradio_api/file=', 'file=', 'gradio_api/file/', 'static/', 'assets/', 'gradio_api/file=/', 'svelte/'):
            r = page.http.get(page.url+how+f)
            assert r.status_code in (403,404), (how, f, r.status_code)
    (tmp_path/'own.png').write_bytes(png(Image.new('RGB', (40,40))))
    for f in ('/etc/passwd', str(tmp_path/'own.png')): # nor read, if it is named as a picture
        res = page.look({'path': f, 'orig_name': 'a.png', 'meta': {'_type': 'gradio.FileData'}})
        assert not res['success'], f

def test_nothing_is_fetched_from_elsewhere(page): # `no_network` sees whether it was tried
    for u in ('http://192.0.2.1/a.png', 'https://example.org/a.png'):
        for o in ({'path': u}, {'path': u, 'url': u}, {'path': None, 'url': u}):
            res = page.look({**o, 'orig_name': 'a.png', 'meta': {'_type': 'gradio.FileData'}})
            assert isinstance(res, dict) and not res['success'] or res==[None]*3
            for slot in ('target','minus','method','layer','fit','alpha'): # gradio looks for files in whatever is sent
                res = page.look(None, **{slot: {**o, 'meta': {'_type': 'gradio.FileData'}}})
                assert isinstance(res, dict) and not res['success'] or res==[None]*3, slot
        for how in ('gradio_api/file=', 'gradio_api/proxy=', 'file=', 'gradio_api/file/'): assert page.http.get(page.url+how+u).status_code in (400,403,404), how

def test_no_way_in_beside_the_page(page):
    info = page.http.get('gradio_api/info').json()
    assert info['named_endpoints']=={} and info['unnamed_endpoints']=={}
    assert page.http.post('gradio_api/run/predict', json=dict(data=[], fn_index=0)).status_code>=400
    assert page.http.get('monitoring/summary').status_code in (403,404) and page.http.get('gradio_api/mcp/').status_code==404

def test_the_page_asks_nobody_for_anything(page):
    html,css = page.http.get('').text,page.http.get('theme.css').text
    loads = re.findall(r'<(?:script|link|img|iframe)[^>]*?(?:src|href)="([^"]*)"', html)
    assert loads and not [o for o in loads if '://' in o] and '@import' not in css and not re.search(r'url\(["\']?http', css)

def test_weights_alone(run_dir, tmp_path, source):
    app = make_app(copy_weights(run_dir, tmp_path/'bare'), device='cpu')
    try:
        p = Page(app, serve_app(app))
        assert {'samples','mistakes','by'}.isdisjoint(p.ids) and 'Without test images and mistakes' in json.dumps(p.config)
        assert p.look(p.sent(png(Image.fromarray(source.x[0]))))[0]['label'] in source.vocab
    finally: app.close(verbose=False)

# ---- mistakes of who starts it

def test_without_gradio(run_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, 'gradio', None)
    with pytest.raises(InputError, match=re.escape("the app needs the extra 'app' (import of gradio halted; None in sys.modules): pip install 'cifar_fastai[app]'")): make_app(run_dir)
    with pytest.raises(InputError, match="the app needs the extra 'app'"): serve_app(None)

def test_a_gradio_that_is_broken(run_dir, monkeypatch, tmp_path):
    (tmp_path/'gradio.py').write_text('import nothing_of_this_name')
    monkeypatch.delitem(sys.modules, 'gradio', raising=False); monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=re.escape("the app needs the extra 'app' (No module named 'nothing_of_this_name'): pip install 'cifar_fastai[app]'")): make_app(run_dir)

def test_addresses(page):
    n = len(offline.tried)
    with pytest.raises(InputError, match="app is 3: it must be what `make_app` returns"): serve_app(3)
    for kw,says in ((dict(port=0), 'port is 0'), (dict(port=70000), 'port is 70000'), (dict(port='http'), "port is 'http'"), (dict(max_mb=0), 'max_mb is 0'), (dict(host=3), 'host is 3'), (dict(host=''), "''"),
                    (dict(port=page.app.server_port), f'port {page.app.server_port}, cannot be listened on')):
        with pytest.raises(InputError, match=re.escape(says)): serve_app(page.app, **kw)
    with pytest.raises(InputError, match='192.0.2.1, port any, cannot be listened on'): serve_app(page.app, '192.0.2.1')
    del offline.tried[n:] # `getaddrinfo` of an address asks nobody

def test_command(run_dir, source, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for argv,says in (([], 'no finished run under runs/'), (['nowhere'], 'has no model.json'), ([run_dir,'--port','x'], "'x'"), ([run_dir,'--n-images','0'], 'n_images is 0'), ([run_dir,'--source','nowhere'], 'nowhere'), ([run_dir,'--max-mb','0'], 'max_mb is 0'), ([run_dir,'--device','gpu'], "'gpu'")):
        try: code = cifar_app(list(map(str, argv)))
        except SystemExit as e: code = e.code
        out,err = capsys.readouterr()
        assert (code,out,err.count('\n'))==(2,'',1) and says in err, err
    asked,serve = [],app_room.serve_app
    monkeypatch.setattr(app_room, 'serve_app', lambda app, *a: asked.append((app, a)) or serve(app, *a))
    def stop():
        assert httpx.get(asked[-1][0].local_url, trust_env=False).status_code==200
        raise KeyboardInterrupt
    monkeypatch.setattr(cli, '_until_stopped', stop)
    (tmp_path/'runs').mkdir(); (tmp_path/'runs/newest').symlink_to(run_dir)
    assert cifar_app(['--device','cpu'])==130
    out,err = capsys.readouterr()
    assert out==f'run: runs/newest\npage: {asked[0][0].local_url}\n' and err=='cifar-app: stopped\n' and asked[0][1]==('127.0.0.1', None, 10., False, '')
    with pytest.raises(httpx.ConnectError): httpx.get(asked[0][0].local_url, trust_env=False)
    assert cifar_app([str(run_dir), '--device','cpu', '--host','0.0.0.0', '--max-mb','3'])==130
    assert 'anyone who can reach this machine can use the page' in capsys.readouterr().err and asked[1][1]==('0.0.0.0', None, 3., False, '')

# ---- in a browser

class Browser:
    "A page in headless Chromium, and what went wrong on it"
    def __init__(self, p, url, size=(1280,1000), scheme='light'):
        self.url,self.wrong,self.browser = url,[],chromium(p)
        self.page = o = self.browser.new_page(viewport=dict(zip(('width','height'), size)), color_scheme=scheme)
        o.set_default_timeout(60_000)
        o.on('console', lambda m: m.type in ('error','warning') and m.text!='Method not implemented.' and self.wrong.append(m.text)) # that one is gradio's own, after an upload
        o.on('pageerror', lambda e: self.wrong.append(str(e))); o.on('dialog', lambda d: self.wrong.append(d.message) or d.dismiss())
        o.on('request', lambda r: r.url.startswith((url,'data:','blob:')) or self.wrong.append(r.url)); o.on('response', lambda r: r.status>=400 and self.wrong.append(f'{r.status} {r.url}'))
        o.goto(url); o.wait_for_selector('#classes')
    def text(self, elem): return self.page.locator('#'+elem).inner_text()
    def shown(self, elem='map'):
        "Where the picture of an element comes from, and '' where there is none"
        return self.page.evaluate("o => document.querySelector(o)?.getAttribute('src') ?? ''", f'#{elem} img')
    def until(self, f, what):
        "Wait for something to become true"
        for _ in range(300):
            if f(): return
            self.page.wait_for_timeout(100)
        raise AssertionError(f'{what} after 30 s: {self.text("said")!r}, {self.wrong}')
    def changes(self, act, what, elem='map'):
        "Do something after which the map is another"
        old = self.shown(elem)
        act()
        self.until(lambda: self.shown(elem) not in ('', old), f'{what}: no other {elem}')
    def upload(self, data, name): self.page.locator('#picture input[type=file]').set_input_files(dict(name=name, mimeType='image/png', buffer=data))
    def choose(self, elem, label):
        self.page.locator(f'#{elem} input').click()
        self.page.get_by_role('option', name=label, exact=True).click()
    def classes(self): return self.text('classes')

@pytest.mark.slow
def test_all_of_it_in_a_browser(page, view, source, tmp_path):
    sync = pytest.importorskip('playwright.sync_api')
    photo = Image.fromarray(source.x[0]).resize((300,200))
    e = view.explain(photo)
    with sync.sync_playwright() as p:
        b = Browser(p, page.url)
        b.upload(png(photo), 'photo.png')
        b.until(lambda: b.shown() and e.target in b.classes(), 'upload')
        assert f'Bright is evidence for {e.target}. HiResCAM at stage1.' in b.text('said')
        b.changes(lambda: b.choose('method', 'GradCAM'), 'method'); assert 'GradCAM at stage1' in b.text('said')
        b.changes(lambda: b.choose('layer', 'stage2 (16x16)'), 'stage'); assert 'GradCAM at stage2' in b.text('said')
        b.changes(lambda: b.choose('target', 'star'), 'target')
        b.changes(lambda: b.choose('minus', 'ring'), 'minus'); b.until(lambda: 'Red is evidence for star, blue for ring' in b.text('said'), 'said')
        b.changes(lambda: b.page.locator('#alpha input[type=number]').fill('0.2'), 'opacity')
        b.changes(lambda: b.page.get_by_role('radio', name='squash').check(), 'fit')
        b.choose('minus', 'star'); b.until(lambda: 'target and minus are both star' in b.text('said') and not b.shown(), 'same classes')
        b.changes(lambda: b.choose('minus', 'nothing'), 'fixed')
        assert b.wrong==[]
        b.page.get_by_label('Remove Image').click(); b.until(lambda: not b.shown() and b.text('said')=='', 'clear')
        b.upload(b'no picture', 'torn.png'); b.until(lambda: 'cannot read image 10 bytes: not an image' in b.text('said'), 'torn'); assert not b.shown()
        b.page.get_by_label('Remove Image').click()
        b.upload(bytes(250_000), 'large.png'); b.until(lambda: b.page.get_by_text('large.png is larger than 204.8 KB').count(), 'too large')
        assert [o for o in b.wrong if '413' not in o]==[]; b.wrong.clear()
        pick = lambda i: b.page.locator('#samples button').nth(i).click()
        b.page.reload(); b.page.wait_for_selector('#samples img')
        b.changes(lambda: pick(0), 'pick'); b.until(lambda: 'A test image: '+source.vocab[0] in b.text('about'), 'about')
        b.page.get_by_role('tab', name='Mistakes').click(); b.until(lambda: b.page.locator('#mistakes img').count()==len(view.mistakes()), 'mistakes')
        first = b.shown('mistakes')
        b.page.get_by_role('radio', name='surest').check(); o = view.mistakes('confidence')[1][0]
        b.until(lambda: f'{o.actual} predicted as {o.predicted}' in b.page.locator('#mistakes button').nth(1).inner_text(), 'order')
        b.changes(lambda: b.page.locator('#mistakes button').nth(1).click(), 'look into')
        b.until(lambda: f'A test image: {o.actual}, predicted as {o.predicted}.' in b.text('about') and o.predicted in b.classes(), 'mistake')
        assert b.page.get_by_role('tab', name='Picture').get_attribute('aria-selected')=='true' and b.page.locator('#picture img').evaluate('o => o.naturalWidth')==32
        b.changes(lambda: pick(0), 'pick the same again')
        b.page.get_by_role('tab', name='Mistakes').click(); b.page.wait_for_timeout(1000)
        b.changes(lambda: b.page.locator('#mistakes button').nth(1).click(), 'look into the same again')
        b.upload(png(photo), 'photo.png'); b.until(lambda: b.text('about')=='', 'about a photo')
        assert b.wrong==[]
        b.browser.close()

@pytest.mark.slow
@pytest.mark.parametrize('scheme', ['light','dark'])
@pytest.mark.parametrize('size', [(390,844),(1280,900)], ids=['phone','desktop'])
def test_how_it_looks(page, scheme, size, tmp_path):
    sync = pytest.importorskip('playwright.sync_api')
    with sync.sync_playwright() as p:
        b = Browser(p, page.url, size, scheme)
        b.page.locator('#samples button').nth(3).click(); b.until(b.shown, 'map')
        for tab in ('Picture','Mistakes'):
            b.page.get_by_role('tab', name=tab).click()
            b.until(lambda: b.page.locator('#samples img' if tab=='Picture' else '#mistakes img').count(), tab)
            b.page.screenshot(path=tmp_path/f'{tab}.png', full_page=True)
            assert b.page.evaluate('document.documentElement.scrollWidth')==size[0]
            assert min(b.page.evaluate(contrast))>=4.5
        ground = b.page.evaluate('getComputedStyle(document.body).backgroundColor')
        assert (sum(map(int, re.findall(r'\d+', ground)[:3]))<150)==(scheme=='dark')
        assert b.wrong==[]
        b.browser.close()

@pytest.mark.slow
def test_class_names_are_text(tmp_path):
    sync = pytest.importorskip('playwright.sync_api')
    rng,names = np.random.default_rng(0),['<img src=x onerror=alert(1)>', '<script>alert(2)</script> & "a" **b**']
    y = np.arange(120)%2
    src = Source((rng.integers(0, 256, (2,1,1,3))[y]*0.2+rng.integers(0, 200, (120,32,32,3))).astype(np.uint8), y, names, np.arange(120)>=80, name='<b>mine</b>')
    run = train(Recipe(epochs=1, bs=40, policy='none', model_kw=dict(width=8)), src, tmp_path/'<i>run', device='cpu')
    app = make_app(run, src, 'cpu')
    try:
        with sync.sync_playwright() as p:
            b = Browser(p, serve_app(app))
            for i in (0,1):
                b.changes(lambda: b.page.locator('#samples button').nth(i).click(), 'pick')
                b.until(lambda: names[i] in b.text('about'), 'about'); assert all(o in b.classes() for o in names)
            b.choose('target', names[0]); b.until(lambda: f'vidence for {names[0]}' in b.text('said'), 'target')
            b.choose('minus', names[0]); b.until(lambda: 'target and minus are both' in b.text('said') and names[0] in b.text('said'), 'minus')
            b.page.get_by_role('tab', name='Mistakes').click(); b.until(lambda: ' predicted as ' in b.page.inner_text('body') or 'no mistakes' in b.page.inner_text('body'), 'mistakes')
            assert '<i>run' in b.page.inner_text('h1') and '<b>mine</b>' in b.page.inner_text('body') and b.wrong==[]
            b.browser.close()
    finally: app.close(verbose=False)

@pytest.mark.slow
def test_ends_without_a_trace(run_dir, tmp_path):
    "The command as a process of its own: a page, then SIGTERM, and no upload is left"
    env = {**{k: v for k,v in os.environ.items() if k!='GRADIO_TEMP_DIR'}, 'TMPDIR': str(tmp_path)}
    o = subprocess.Popen([sys.executable, '-m', 'cifar_fastai.cli', 'app', str(run_dir), '--device', 'cpu'], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    try:
        url = next(l for l in o.stdout if l.startswith('page: ')).split()[1]
        assert httpx.post(url+'gradio_api/upload', files={'files': ('a.png', png(Image.new('RGB', (40,40))))}, trust_env=False).status_code==200
        assert len(list(tmp_path.glob('cifar-app-*/*/a.png')))==1
    finally: o.terminate()
    assert o.wait(60)==130 and o.stderr.read().endswith('cifar-app: stopped\n') and not list(tmp_path.glob('cifar-app-*'))
