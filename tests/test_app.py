"""The app: it shows what the library says, keeps its bounds, reads no file that was not sent to it,
and is right in a browser (`pytest -m slow tests/test_app.py`)."""
import inspect, io, json, os, re, shutil, signal, socket, subprocess, sys
from pathlib import Path
import httpx, numpy as np, pytest
from PIL import Image
import cifar_fastai.app as app_module, cifar_fastai.cli as cli, offline
from browser import contrast
from cifar_fastai.app import make_app, serve_app
from cifar_fastai.cli import cifar_app
from cifar_fastai.core import InputError
from cifar_fastai.ood import KnownFeatures
from cifar_fastai.predict import ImageClassifier, is_ood
from cifar_fastai.recipes import Recipe
from cifar_fastai.shapes import shapes10
from cifar_fastai.sources import load_source, Source
from cifar_fastai.train import train
from cifar_fastai.viewer import RunViewer, for_page
from pages import Browser, Page, copy_weights, png

@pytest.fixture(scope='module')
def view(run_dir, source): return RunViewer(run_dir, source, 'cpu', n_images=30)

@pytest.fixture(scope='module')
def page(run_dir, source):
    app = make_app(run_dir, source, 'cpu', n_images=30)
    yield Page(app, serve_app(app, max_mb=0.2))
    app.close(verbose=False)

def test_listens_to_this_machine_alone(page):
    where = [s.getsockname()[0] for o in page.app.server.servers for s in o.sockets]
    assert where==['127.0.0.1'] and page.url.startswith('http://127.0.0.1:')
    assert inspect.signature(serve_app).parameters['host'].default=='127.0.0.1' and page.app.share is False
    assert not page.app.share_url
    assert not page.app.analytics_enabled and page.app.max_file_size==int(0.2*2**20) and page.app.allowed_paths==[]

def test_a_picture_is_answered(page, view, source):
    img = Image.fromarray(source.x[0])
    classes,drawn,note = page.look(page.sent(png(img)))
    e = view.explain(img)
    assert [(o['label'], round(o['confidence'], 4))
            for o in classes['confidences']]==[(c, round(p, 4)) for c,p in e.prediction.top]
    assert f'evidence for {e.target}' in note
    got = page.http.get(f"gradio_api/file={drawn['path']}")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(got.content)).convert('RGB')),
                          np.asarray(for_page(e).overlay(0.65)))
    signed = page.look(page.sent(png(img)), target='star', versus='ring', method='GradCAM', layer='stage3',
                       resize='squish', alpha=1)
    assert 'Red is evidence for star, blue for ring. GradCAM at stage3.' in signed[2]
    assert signed[1]['path']!=drawn['path']
    assert page.look(None)==[None]*3

def test_opacity_asks_the_network_nothing(page, view, source, monkeypatch):
    def never(*a, **k): raise AssertionError('the network was asked')
    c = next(c for c in page.app.blocks.values() if getattr(c, 'elem_id', None)=='alpha')
    fn = next(f for f in page.app.fns.values() if (c._id, 'change') in f.targets)
    e = for_page(view.explain(source.x[0]))
    monkeypatch.setattr(RunViewer, 'explain', never)
    monkeypatch.setattr('cifar_fastai.predict.cam_maps', never)
    a,b = fn.fn(e, 0.2),fn.fn(e, 0.9)
    assert a.size==(384,384) and np.abs(np.asarray(a, int)-np.asarray(b, int)).max()>20 and fn.fn(None, 0.5) is None

refused = [(b'no picture', 'not an image'), (b'\x89PNG\r\n\x1a\n'+bytes(50), 'cannot read image'),
           (b'', 'cannot read image'), (b'<svg xmlns="http://www.w3.org/2000/svg"/>', 'not an image')]
@pytest.mark.parametrize('data,says', refused, ids=[s+str(i) for i,(_,s) in enumerate(refused)])
def test_what_is_no_picture(page, data, says, capfd):
    classes,drawn,note = page.look(page.sent(data))
    assert classes is None and drawn is None and says in note and 'warn' in note
    assert 'Traceback' not in note+''.join(capfd.readouterr())

def test_too_many_pixels(page):
    data = png(Image.new('1', (12000,12000)))
    assert len(data)<200_000
    classes,drawn,note = page.look(page.sent(data))
    assert classes is None and drawn is None and f'exceeds limit of {Image.MAX_IMAGE_PIXELS} pixels' in note

def test_too_large_a_file(page):
    assert page.upload(bytes(150_000)).status_code==200
    r = page.upload(bytes(250_000))
    assert r.status_code==413 and str(int(0.2*2**20)) in r.text

wrong = [dict(target='cow'), dict(versus='cow'), dict(method='NoCAM'), dict(layer='stage4'), dict(resize='pad'),
         dict(alpha=7)]
@pytest.mark.parametrize('kw', wrong, ids=str)
def test_choices_that_are_none(page, source, kw):
    res = page.look(page.sent(png(Image.fromarray(source.x[0]))), **kw)
    assert not res['success'] and 'Traceback' not in json.dumps(res)
    assert next(iter(kw.values())) in (*re.findall(r'\w+', json.dumps(res)), 7)

def test_two_that_are_the_same(page, source):
    classes,_,note = page.look(page.sent(png(Image.fromarray(source.x[0]))), target='star', versus='star')
    assert classes is None and 'target and versus are both star' in note

@pytest.mark.parametrize('index', [-1, 10**6, None, 'x', [0,0]])
def test_a_thumbnail_that_is_none(page, index):
    m = page.ask('samples', 'select', [], event_data=dict(index=index, value=None))
    assert not m['success'] and 'Traceback' not in json.dumps(m)

def test_mistakes(page, view):
    m = page.ask('by', 'input', ['loss','',''])['output']['data']
    first = view.mistakes()[:24]
    assert f'1 to {len(first)} of the' in m[0] and 'a temperature of' in m[0]
    said = [f'{o.actual} predicted as {o.predicted}, {100*o.prob:.0f} %' for o in first]
    assert [o['caption'] for o in m[1]['value']]==said
    img,note,target,versus,tabs = page.ask('mistakes', 'select', ['loss','','',1],
                                           event_data=dict(index=1, value=None))['output']['data'][:5]
    o = first[1]
    assert f'<b>{o.actual}</b>' in note and (target,versus,tabs['selected'])==('predicted','','picture')
    # pixel for pixel
    shown = Image.open(io.BytesIO(page.http.get(f"gradio_api/file={img['path']}").content)).convert('RGB')
    assert np.array_equal(np.asarray(shown), view.interp.pictures([o.idx])[0])

def secrets(run_dir): return ['/etc/passwd', str(run_dir/'model.json'), str(run_dir/'config.json'),
                              str(Path.cwd()/'pyproject.toml'), __file__, '/proc/self/environ',
                              str(Path.home()/'.bashrc'), '../../etc/passwd', '/tmp']
def test_no_file_of_the_machine_is_served(page, run_dir, tmp_path):
    for f in secrets(run_dir):
        for how in ('gradio_api/file=', 'file=', 'gradio_api/file/', 'static/', 'assets/', 'gradio_api/file=/',
                    'svelte/'):
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
            for slot in ('target','versus','method','layer','resize','alpha'): # gradio looks for files everywhere
                res = page.look(None, **{slot: {**o, 'meta': {'_type': 'gradio.FileData'}}})
                assert isinstance(res, dict) and not res['success'] or res==[None]*3, slot
        for how in ('gradio_api/file=', 'gradio_api/proxy=', 'file=', 'gradio_api/file/'):
            assert page.http.get(page.url+how+u).status_code in (400,403,404), how

def test_no_way_in_beside_the_page(page):
    info = page.http.get('gradio_api/info').json()
    assert info['named_endpoints']=={} and info['unnamed_endpoints']=={}
    assert page.http.post('gradio_api/run/predict', json=dict(data=[], fn_index=0)).status_code>=400
    assert page.http.get('monitoring/summary').status_code in (403,404)
    assert page.http.get('gradio_api/mcp/').status_code==404

def test_the_page_asks_nobody_for_anything(page):
    html,css = page.http.get('').text,page.http.get('theme.css').text
    loads = re.findall(r'<(?:script|link|img|iframe)[^>]*?(?:src|href)="([^"]*)"', html)
    assert loads and not [o for o in loads if '://' in o] and '@import' not in css
    assert not re.search(r'url\(["\']?http', css)

def test_weights_alone(run_dir, tmp_path, source):
    app = make_app(copy_weights(run_dir, tmp_path/'bare'), device='cpu')
    try:
        p = Page(app, serve_app(app))
        assert {'samples','mistakes','by'}.isdisjoint(p.ids)
        assert 'Without test images and mistakes' in json.dumps(p.config)
        assert p.look(p.sent(png(Image.fromarray(source.x[0]))))[0]['label'] in source.vocab
    finally: app.close(verbose=False)

# ---- mistakes of who starts it

needs = "the app needs the extra 'app' ({}): pip install 'cifar_fastai[app]'"
def test_without_gradio(run_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, 'gradio', None)
    with pytest.raises(InputError,
                       match=re.escape(needs.format('import of gradio halted; None in sys.modules'))):
        make_app(run_dir)
    with pytest.raises(InputError, match="the app needs the extra 'app'"): serve_app(None)

def test_a_gradio_that_is_broken(run_dir, monkeypatch, tmp_path):
    (tmp_path/'gradio.py').write_text('import nothing_of_this_name')
    monkeypatch.delitem(sys.modules, 'gradio', raising=False); monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError,
                       match=re.escape(needs.format("No module named 'nothing_of_this_name'"))):
        make_app(run_dir)

def test_addresses(page):
    n = len(offline.tried)
    used = page.app.server_port
    for kw,says in (
        (dict(port=0), 'port is 0'), (dict(port=70000), 'port is 70000'), (dict(port='http'), "port is 'http'"),
        (dict(max_mb=0), 'max_mb is 0'),
        (dict(port=used), f'the page cannot be served at 127.0.0.1, port {used} (')):
        with pytest.raises(InputError, match=re.escape(says)): serve_app(page.app, **kw)
    with pytest.raises(InputError, match='cannot be served at 192.0.2.1, port any'): serve_app(page.app, '192.0.2.1')
    del offline.tried[n:] # `getaddrinfo` of an address asks nobody

def test_command(run_dir, source, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for argv,says in (([], 'no finished run under runs/'), (['nowhere'], 'has no model.json'),
                      ([run_dir,'--port','x'], "'x'"), ([run_dir,'--n-images','0'], 'n_images is 0'),
                      ([run_dir,'--source','nowhere'], 'nowhere'), ([run_dir,'--max-mb','0'], 'max_mb is 0'),
                      ([run_dir,'--device','gpu'], "'gpu'")):
        try: code = cifar_app(list(map(str, argv)))
        except SystemExit as e: code = e.code
        out,err = capsys.readouterr()
        assert (code,out,err.count('\n'))==(2,'',1) and says in err, err
    asked,serve = [],app_module.serve_app
    monkeypatch.setattr(app_module, 'serve_app', lambda app, **kw: asked.append((app, kw)) or serve(app, **kw))
    def stop():
        assert httpx.get(asked[-1][0].local_url, trust_env=False).status_code==200
        raise KeyboardInterrupt
    monkeypatch.setattr(cli, 'wait_for_stop', stop)
    (tmp_path/'runs').mkdir(); (tmp_path/'runs/newest').symlink_to(run_dir)
    assert cifar_app(['--device','cpu'])==130
    out,err = capsys.readouterr()
    assert out==f'run: runs/newest\npage: {asked[0][0].local_url}\n' and err=='cifar-app: stopped\n'
    assert asked[0][1]=={} and asked[0][0].local_url.startswith('http://127.0.0.1:') # the defaults of `serve_app`
    with pytest.raises(httpx.ConnectError): httpx.get(asked[0][0].local_url, trust_env=False)
    assert cifar_app([str(run_dir), '--device','cpu', '--host','0.0.0.0', '--max-mb','3'])==130
    assert 'anyone who can reach this machine can use the page' in capsys.readouterr().err
    assert asked[1][1]==dict(host='0.0.0.0', max_mb=3.)

# ---- none of the classes

@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    "A narrow run that knows its shapes well enough to tell a plain color from them, and its images"
    src = load_source(shapes10(tmp_path_factory.mktemp('known')/'shapes', n_train=300, n_test=200, size=16), size=16)
    recipe = Recipe(epochs=8, bs=25, lr=0.05, policy='none', model_kw=dict(width=8))
    return train(recipe, src, tmp_path_factory.mktemp('known')/'run', device='cpu'),src

@pytest.fixture(scope='module')
def known_view(trained): return RunViewer(*trained, device='cpu', n_images=200)

@pytest.fixture(scope='module')
def known_page(trained):
    app = make_app(*trained, device='cpu', n_images=200)
    yield Page(app, serve_app(app, max_mb=0.2))
    app.close(verbose=False)

def test_plain_pictures_and_noise_are_none_of_the_classes(known_view, trained):
    "Every plain color and most noise are marked, even by a network so small, and one in twenty test images"
    clf,rng = known_view.clf,np.random.default_rng(0)
    colors = [Image.new('RGB', (60,60), c) for c in ('blue','red','white','black','gray','green','yellow')]
    noise = list(rng.integers(0, 256, (20,32,32,3), dtype=np.uint8))
    assert all(map(is_ood, clf.predict(colors))) and sum(map(is_ood, clf.predict(noise)))>=10
    src = trained[1]
    assert sum(map(is_ood, clf.predict(list(src.x[src.valid_idxs]))))==10

def test_the_page_says_so(known_page, trained):
    "The note and the headline say it; the shares of the classes stay"
    classes,_,note = known_page.look(known_page.sent(png(Image.new('RGB', (60,60), 'blue'))))
    assert classes['label']=='probably none of these' and len(classes['confidences'])==5
    assert 'probably none of these classes' in note and 'One in twenty validation images gets this mark too' in note

def test_a_folder_without_features_marks_nothing(trained, tmp_path):
    "A run folder of an earlier version has none; what else its `model.json` holds is ignored"
    bare = copy_weights(trained[0], tmp_path/'bare')
    meta = json.loads((bare/'model.json').read_text())
    (bare/'model.json').write_text(json.dumps({**meta, 'energy': [o/10-15 for o in range(101)]}))
    clf = ImageClassifier.from_run(bare)
    p = clf.predict(Image.new('RGB', (60,60), 'blue'))[0]
    assert clf.known is None and p.ood_percentile is None and not is_ood(p)

def test_features_of_other_weights_are_refused(trained, tmp_path):
    "The file of features is tied to the weights by their checksum, and a damaged one is named"
    run = copy_weights(trained[0], tmp_path/'run')
    data = (trained[0]/KnownFeatures.file).read_bytes()
    sha = json.loads((trained[0]/'model.json').read_text())['weights_sha256']
    for bad,says in ((data.replace(sha.encode(), b'0'*64), 'belongs to other weights'), (data[:100], 'cannot be used')):
        (run/KnownFeatures.file).write_bytes(bad)
        with pytest.raises(InputError, match=says): ImageClassifier.from_run(run)

# ---- mistakes by class

def said(o): return f'{o.actual} predicted as {o.predicted}, {100*o.prob:.0f} %'
def captions(data): return [o['caption'] for o in data[1]['value']]

def test_mistakes_by_class(known_page, known_view):
    "Filters show the same mistakes as the viewer, and the one that is chosen is the one that was shown"
    every = known_view.mistakes()
    first = known_page.ask('actual', 'input', ['loss', every[0].actual, ''])['output']['data']
    assert captions(first)==[said(o) for o in every if o.actual==every[0].actual][:24]
    assert f'of class {every[0].actual}' in first[0]
    o = next(o for o in every if o.actual==every[0].actual)
    about = known_page.ask('mistakes', 'select', ['loss', o.actual, o.predicted, 1],
                           event_data=dict(index=0, value=None))['output']['data'][1]
    assert f'<b>{o.actual}</b>, predicted as <b>{o.predicted}</b>' in about
    none = known_page.ask('actual', 'input', ['loss', every[0].actual, every[0].actual])['output']['data']
    assert 'There are no mistakes of class' in none[0] and none[1]['value']==[]

def test_mistakes_in_pages(known_page, known_view, monkeypatch):
    "A page goes on where the one before ends, a thumbnail on it opens its own image, and a class begins with its first page"
    monkeypatch.setattr(app_module, '_per_page', 5)
    every = known_view.mistakes()
    assert len(every)>10
    first = known_page.ask('by', 'input', ['loss','',''])['output']['data']
    assert captions(first)==list(map(said, every[:5])) and f'1 to 5 of the {len(every)} mistakes' in first[0]
    assert {k: first[2][k] for k in ('maximum','value','visible')}==dict(maximum=-(-len(every)//5), value=1, visible=True)
    second = known_page.ask('page', 'input', ['loss','','',2])['output']['data']
    assert captions(second)==list(map(said, every[5:10])) and f'6 to 10 of the {len(every)} mistakes' in second[0]
    img,about = known_page.ask('mistakes', 'select', ['loss','','',2], event_data=dict(index=3, value=None))['output']['data'][:2]
    shown = Image.open(io.BytesIO(known_page.http.get(f"gradio_api/file={img['path']}").content)).convert('RGB')
    assert np.array_equal(np.asarray(shown), known_view.interp.pictures([every[8].idx])[0])
    assert f'<b>{every[8].actual}</b>, predicted as <b>{every[8].predicted}</b>' in about
    few = known_page.ask('predicted', 'input', ['loss', every[0].actual, every[0].predicted])['output']['data']
    n = len(known_view.mistakes('loss', every[0].actual, every[0].predicted))
    assert few[2]['visible']==(n>5) and few[2]['value']==1

def test_held_out_images_are_not_called_test_images(run_dir, source, tmp_path):
    run = tmp_path/'run'
    shutil.copytree(run_dir, run)
    c = json.loads((run/'config.json').read_text())
    c['recipe']['valid'] = 0.2
    (run/'config.json').write_text(json.dumps(c))
    app = make_app(run, source, 'cpu')
    on_page = json.dumps(app.config, default=str)
    assert 'Or pick a validation image' in on_page and 'test image' not in on_page
    told = app_module._gallery(app_module._gradio(), RunViewer(run, source, 'cpu'), 'loss')[0]
    assert 'among the 40 validation images' in told and 'test' not in told

# ---- behind a proxy

def test_paths_that_are_none(known_page):
    "A path that no proxy has is refused"
    with pytest.raises(InputError, match="root_path is 'cifar'"): serve_app(known_page.app, root_path='cifar')

def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]

nginx_conf = """daemon off; worker_processes 1; pid {d}/pid; error_log {d}/error.log;
events {{}}
http {{ access_log off; client_body_temp_path {d}/body; proxy_temp_path {d}/proxy; fastcgi_temp_path {d}/f;
  uwsgi_temp_path {d}/u; scgi_temp_path {d}/s;
  server {{ listen 127.0.0.1:{port}; client_max_body_size 10m;
    location = /favicon.ico {{ return 204; }}
    location /user/me/cifar/ {{ proxy_pass {to}; proxy_http_version 1.1; proxy_set_header Host $http_host;
      proxy_buffering off; proxy_request_buffering off; }} }} }}"""

@pytest.fixture
def proxied(trained, tmp_path):
    "The address of a page behind a real nginx, at a path of its own"
    if not shutil.which('nginx'): pytest.skip('no nginx: apt-get install nginx-light')
    app,port = make_app(*trained, device='cpu', n_images=50),free_port()
    to = serve_app(app, root_path='/user/me/cifar/')
    (tmp_path/'nginx.conf').write_text(nginx_conf.format(d=tmp_path, port=port, to=to))
    o = subprocess.Popen(['nginx','-c',str(tmp_path/'nginx.conf'),'-e',str(tmp_path/'error.log')])
    try: yield f'http://127.0.0.1:{port}/user/me/cifar/'
    finally:
        o.send_signal(signal.SIGQUIT); o.wait(20)
        app.close(verbose=False)

@pytest.mark.slow
def test_behind_nginx_in_a_browser(proxied, trained):
    "Upload, map, thumbnails and mistakes work below the path, and nothing beside it is asked for"
    sync = pytest.importorskip('playwright.sync_api')
    with sync.sync_playwright() as p:
        b = Browser(p, proxied)
        b.upload(png(Image.new('RGB', (60,60), 'blue')), 'blue.png')
        b.until(lambda: b.shown() and 'probably none of these' in b.classes(), 'upload')
        assert b.shown().startswith(proxied)
        b.page.locator('#samples button').nth(1).click(); b.until(lambda: 'A test image' in b.text('about'), 'pick')
        b.page.get_by_role('tab', name='Mistakes').click()
        b.until(lambda: b.page.locator('#mistakes img').count(), 'mistakes')
        assert [o for o in b.wrong if 'upload_progress' not in o and '404' not in o]==[]
        b.browser.close()

# ---- in a browser

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
        b.changes(lambda: b.choose('versus', 'ring'), 'versus')
        b.until(lambda: 'Red is evidence for star, blue for ring' in b.text('said'), 'said')
        b.changes(lambda: b.page.locator('#alpha input[type=number]').fill('0.2'), 'opacity')
        b.changes(lambda: b.page.get_by_role('radio', name='squish').check(), 'resize')
        b.choose('versus', 'star')
        b.until(lambda: 'target and versus are both star' in b.text('said') and not b.shown(), 'same classes')
        b.changes(lambda: b.choose('versus', 'nothing'), 'fixed')
        assert b.wrong==[]
        b.page.get_by_label('Remove Image').click(); b.until(lambda: not b.shown() and b.text('said')=='', 'clear')
        b.upload(b'no picture', 'torn.png')
        b.until(lambda: 'cannot read image 10 bytes: not an image' in b.text('said'), 'torn')
        assert not b.shown()
        b.page.get_by_label('Remove Image').click()
        b.upload(bytes(250_000), 'large.png')
        b.until(lambda: b.page.get_by_text('large.png is larger than 204.8 KB').count(), 'too large')
        assert [o for o in b.wrong if '413' not in o]==[]; b.wrong.clear()
        pick = lambda i: b.page.locator('#samples button').nth(i).click()
        b.page.reload(); b.page.wait_for_selector('#samples img')
        b.changes(lambda: pick(0), 'pick')
        b.until(lambda: 'A test image: '+source.vocab[0] in b.text('about'), 'about')
        b.page.get_by_role('tab', name='Mistakes').click()
        b.until(lambda: b.page.locator('#mistakes img').count()==len(view.mistakes()[:24]), 'mistakes')
        b.page.get_by_role('radio', name='surest').check(); o = view.mistakes('confidence')[1]
        second = b.page.locator('#mistakes button').nth(1)
        b.until(lambda: f'{o.actual} predicted as {o.predicted}' in second.inner_text(), 'order')
        b.changes(lambda: b.page.locator('#mistakes button').nth(1).click(), 'look into')
        about = f'A test image: {o.actual}, predicted as {o.predicted}.'
        b.until(lambda: about in b.text('about') and o.predicted in b.classes(), 'mistake')
        assert b.page.get_by_role('tab', name='Picture').get_attribute('aria-selected')=='true'
        assert b.page.locator('#picture img').evaluate('o => o.naturalWidth')==32
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
    src = Source((rng.integers(0, 256, (2,1,1,3))[y]*0.2+rng.integers(0, 200, (120,32,32,3))).astype(np.uint8), y,
                 names, np.arange(120)>=80, name='<b>mine</b>')
    run = train(Recipe(epochs=1, bs=40, policy='none', model_kw=dict(width=8)), src, tmp_path/'<i>run', device='cpu')
    app = make_app(run, src, 'cpu')
    try:
        with sync.sync_playwright() as p:
            b = Browser(p, serve_app(app))
            for i in (0,1):
                b.changes(lambda: b.page.locator('#samples button').nth(i).click(), 'pick')
                b.until(lambda: names[i] in b.text('about'), 'about'); assert all(o in b.classes() for o in names)
            b.choose('target', names[0]); b.until(lambda: f'vidence for {names[0]}' in b.text('said'), 'target')
            b.choose('versus', names[0])
            b.until(lambda: 'target and versus are both' in b.text('said') and names[0] in b.text('said'), 'versus')
            b.page.get_by_role('tab', name='Mistakes').click()
            b.until(lambda: ' predicted as ' in b.page.inner_text('body') or 'no mistakes' in b.page.inner_text('body'),
                    'mistakes')
            assert '<i>run' in b.page.inner_text('h1') and '<b>mine</b>' in b.page.inner_text('body') and b.wrong==[]
            b.browser.close()
    finally: app.close(verbose=False)

@pytest.mark.slow
def test_ends_without_a_trace(run_dir, tmp_path):
    "The command as a process of its own: a page, then SIGTERM, and no upload is left"
    env = {**{k: v for k,v in os.environ.items() if k!='GRADIO_TEMP_DIR'}, 'TMPDIR': str(tmp_path)}
    o = subprocess.Popen([sys.executable, '-m', 'cifar_fastai.cli', 'app', str(run_dir), '--device', 'cpu'],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    try:
        url = next(l for l in o.stdout if l.startswith('page: ')).split()[1]
        assert httpx.post(url+'gradio_api/upload', files={'files': ('a.png', png(Image.new('RGB', (40,40))))},
                          trust_env=False).status_code==200
        assert len(list(tmp_path.glob('cifar-app-*/*/a.png')))==1
    finally: o.terminate()
    assert o.wait(60)==130 and o.stderr.read().endswith('cifar-app: stopped\n')
    assert not list(tmp_path.glob('cifar-app-*'))


@pytest.mark.slow
def test_thumbnails_and_messages_in_a_browser(known_page, known_view, monkeypatch):
    "The picture shown is highlighted, pages are turned, the keyboard will do, a text file gets plain words"
    monkeypatch.setattr(app_module, '_per_page', 5)
    sync = pytest.importorskip('playwright.sync_api')
    marked = lambda b: b.page.locator('#samples .selected').count()
    with sync.sync_playwright() as p:
        b = Browser(p, known_page.url)
        b.page.locator('#samples button').nth(1).click(); b.until(lambda: b.shown() and marked(b)==1, 'pick')
        b.page.get_by_label('Remove Image').click(); b.until(lambda: marked(b)==0, 'clear')
        b.page.locator('#samples button').nth(1).focus(); b.page.keyboard.press('Enter')
        b.until(lambda: b.shown() and marked(b)==1, 'pick the same again')
        b.page.locator('#target input').focus(); b.until(lambda: b.page.get_by_role('listbox').count()==1, 'a list')
        b.page.keyboard.press('Tab'); b.page.wait_for_timeout(500)
        assert b.page.get_by_role('listbox').count()==1 # of the dropdown that has the focus now
        b.page.keyboard.press('Escape'); b.until(lambda: b.page.get_by_role('listbox').count()==0, 'escape')
        b.page.get_by_role('tab', name='Mistakes').click()
        b.until(lambda: b.page.locator('#mistakes img').count(), 'mistakes')
        o = known_view.mistakes()[0]
        slider = b.page.locator('#page input[type=range]')
        slider.focus(); b.page.keyboard.press('ArrowRight'); b.until(lambda: b.text('told').startswith('6 to 10'), 'page 2')
        b.until(lambda: said(known_view.mistakes()[6]) in b.page.locator('#mistakes button').nth(1).inner_text(), 'thumbnails')
        b.page.get_by_role('tab', name='Picture').click(); b.page.get_by_role('tab', name='Mistakes').click()
        b.page.wait_for_timeout(2000); assert b.text('told').startswith('6 to 10') and slider.input_value()=='2'
        b.choose('actual', o.actual); b.until(lambda: f'of class {o.actual}' in b.text('told'), 'filter')
        b.until(lambda: '1 to ' in b.text('told'), 'page 1')
        b.page.locator('#mistakes button').first.click()
        b.until(lambda: f'A test image: {o.actual}' in b.text('about') and marked(b)==0, 'look into')
        b.page.get_by_label('Remove Image').click(); b.until(lambda: b.text('about')=='', 'clear')
        b.page.locator('#picture input[type=file]').set_input_files(dict(name='notes.txt', mimeType='text/plain',
                                                                         buffer=b'words'))
        b.until(lambda: b.page.get_by_text('notes.txt is not a picture: choose a PNG').count(), 'text')
        assert b.wrong==[]
        b.browser.close()
