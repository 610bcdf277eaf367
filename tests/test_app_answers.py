"The app: what it says of pictures of none of its classes, its pages of mistakes, and the app behind a proxy."
import shutil, signal, socket, subprocess
import httpx, numpy as np, pytest
from PIL import Image
import cifar_fastai.app as app_module
from cifar_fastai.app import RunViewer, make_app, serve_app
from cifar_fastai.errors import InputError
from cifar_fastai.ood import KnownFeatures
from cifar_fastai.pictures import PictureClassifier, is_unusual
from cifar_fastai.recipes import Recipe, train
from cifar_fastai.shapes import shapes10
from cifar_fastai.sources import load_source
from test_app import Browser, Page, copy_weights, png

@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    "A narrow run that knows its shapes well enough to tell a plain color from them, and its images"
    src = load_source(shapes10(tmp_path_factory.mktemp('known')/'shapes', n_train=500, n_test=200))
    recipe = Recipe(epochs=8, bs=25, lr=0.05, policy='none', model_kw=dict(width=8))
    return train(recipe, src, tmp_path_factory.mktemp('known')/'run', device='cpu'),src

@pytest.fixture(scope='module')
def view(trained): return RunViewer(*trained, device='cpu', n_images=200)

@pytest.fixture(scope='module')
def page(trained):
    app = make_app(*trained, device='cpu', n_images=200)
    yield Page(app, serve_app(app, max_mb=0.2))
    app.close(verbose=False)

# ---- none of the classes

def test_plain_pictures_and_noise_are_none_of_the_classes(view, trained):
    "Every plain color and most noise are marked, even by a network so small, and one in twenty test images"
    clf,rng = view.clf,np.random.default_rng(0)
    colors = [Image.new('RGB', (60,60), c) for c in ('blue','red','white','black','gray','green','yellow')]
    noise = list(rng.integers(0, 256, (20,32,32,3), dtype=np.uint8))
    assert all(map(is_unusual, clf.predict(colors))) and sum(map(is_unusual, clf.predict(noise)))>=10
    src = trained[1]
    assert sum(map(is_unusual, clf.predict(list(src.x[src.valid_idxs]))))==10

def test_the_page_says_so(page, trained):
    "The note and the headline say it; the shares of the classes stay"
    classes,_,note = page.look(page.sent(png(Image.new('RGB', (60,60), 'blue'))))
    assert classes['label']=='probably none of these' and len(classes['confidences'])==5
    assert 'Probably none of these classes' in note and 'One in twenty test images gets this mark too' in note

def test_a_folder_without_features_goes_by_the_energy(trained, tmp_path):
    "A run folder of an earlier version has none: its percentiles of the energy are taken"
    clf = PictureClassifier.from_run(copy_weights(trained[0], tmp_path/'bare'))
    p = clf.predict(trained[1].x[0])[0]
    assert clf.known is None and p.distance is None and 0<=p.unusual<=1

def test_features_of_other_weights_are_refused(trained, tmp_path):
    "The file of features is tied to the weights by their checksum, and a damaged one is named"
    run = copy_weights(trained[0], tmp_path/'run')
    data = (trained[0]/KnownFeatures.file).read_bytes()
    sha = PictureClassifier.from_run(trained[0]) and (trained[0]/'model.json').read_text().split('"weights_sha256": "')[1][:64]
    for bad,says in ((data.replace(sha.encode(), b'0'*64), 'belongs to other weights'), (data[:100], 'cannot be read')):
        (run/KnownFeatures.file).write_bytes(bad)
        with pytest.raises(InputError, match=says): PictureClassifier.from_run(run)

# ---- pages of mistakes

def test_mistakes_by_class_and_page(page, view):
    "Filters and pages show the same mistakes as the viewer, and the one that is chosen is the one that was shown"
    every = view.wrong()
    said = lambda o: f'{o.actual} predicted as {o.predicted}, {100*o.prob:.0f} %'
    captions = lambda data: [o['caption'] for o in data[1]['value']]
    first = page.ask('actual', 'input', ['loss', every[0].actual, '', None])['output']['data']
    assert captions(first)==[said(o) for o in every if o.actual==every[0].actual][:24] and f'of class {every[0].actual}' in first[0]
    o = next(o for o in every if o.actual==every[0].actual)
    about = page.ask('mistakes', 'select', ['loss', o.actual, o.predicted, None], event_data=dict(index=0, value=None))['output']['data'][1]
    assert f'<b>{o.actual}</b>, predicted as <b>{o.predicted}</b>' in about
    if len(every)>24:
        second = page.ask('next', 'click', ['loss', '', '', None])['output']['data']
        assert captions(second)==[said(o) for o in every[24:48]] and f'25 to {min(48, len(every))} of the {len(every)} mistakes' in second[0]
    none = page.ask('actual', 'input', ['loss', every[0].actual, every[0].actual, None])['output']['data']
    assert 'There are no mistakes of class' in none[0] and none[1]['value']==[]

def test_few_drawn_mistakes_are_kept(view, monkeypatch):
    "A visitor who turns many pages fills no memory"
    monkeypatch.setattr(app_module, '_most_drawn', 10)
    view.mistakes(n=8); view.mistakes(n=8, page=2)
    assert len(view.drawn)==10

# ---- behind a proxy

@pytest.mark.parametrize('bad,says', [('cifar', "root_path is 'cifar'"), (3, 'root_path is 3')])
def test_paths_that_are_none(page, bad, says):
    "A path that no proxy has is refused"
    with pytest.raises(InputError, match=says): serve_app(page.app, root_path=bad)

def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]

nginx_conf = """daemon off; worker_processes 1; pid {d}/pid; error_log {d}/error.log;
events {{}}
http {{ access_log off; client_body_temp_path {d}/body; proxy_temp_path {d}/proxy; fastcgi_temp_path {d}/f; uwsgi_temp_path {d}/u; scgi_temp_path {d}/s;
  server {{ listen 127.0.0.1:{port}; client_max_body_size 10m;
    location = /favicon.ico {{ return 204; }}
    location /user/me/cifar/ {{ proxy_pass {to}; proxy_http_version 1.1; proxy_set_header Host $http_host; proxy_buffering off; proxy_request_buffering off; }} }} }}"""

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
    "Upload, map, thumbnails and mistakes work below the path, and nothing beside it is asked for: `pytest -m slow tests/test_app_answers.py`"
    sync = pytest.importorskip('playwright.sync_api')
    with sync.sync_playwright() as p:
        b = Browser(p, proxied)
        b.upload(png(Image.new('RGB', (60,60), 'blue')), 'blue.png')
        b.until(lambda: b.shown() and 'probably none of these' in b.classes(), 'upload'); assert b.shown().startswith(proxied)
        b.page.locator('#samples button').nth(1).click(); b.until(lambda: 'A test image' in b.text('about'), 'pick')
        b.page.get_by_role('tab', name='Mistakes').click(); b.until(lambda: b.page.locator('#mistakes img').count(), 'mistakes')
        assert [o for o in b.wrong if 'upload_progress' not in o and '404' not in o]==[]
        b.browser.close()

# ---- what a visitor sees

@pytest.mark.slow
def test_thumbnails_and_messages_in_a_browser(page, view):
    "A thumbnail is highlighted while its picture is shown and no longer; a text file gets a plain message: `pytest -m slow tests/test_app_answers.py`"
    sync = pytest.importorskip('playwright.sync_api')
    marked = lambda b: b.page.locator('#samples .selected').count()
    with sync.sync_playwright() as p:
        b = Browser(p, page.url)
        b.page.locator('#samples button').nth(1).click(); b.until(lambda: b.shown() and marked(b)==1, 'pick')
        b.page.get_by_label('Remove Image').click(); b.until(lambda: marked(b)==0, 'clear')
        b.page.locator('#samples button').nth(1).click(); b.until(lambda: b.shown() and marked(b)==1, 'pick the same again')
        b.page.get_by_role('tab', name='Mistakes').click(); b.until(lambda: b.page.locator('#mistakes img').count(), 'mistakes')
        o = view.wrong()[0]
        b.choose('actual', o.actual); b.until(lambda: f'of class {o.actual}' in b.text('told'), 'filter')
        b.page.locator('#mistakes button').first.click(); b.until(lambda: f'A test image: {o.actual}' in b.text('about') and marked(b)==0, 'look into')
        b.page.get_by_label('Remove Image').click(); b.until(lambda: b.text('about')=='', 'clear')
        b.page.locator('#picture input[type=file]').set_input_files(dict(name='notes.txt', mimeType='text/plain', buffer=b'words'))
        b.until(lambda: b.page.get_by_text('notes.txt is not a picture: choose a PNG').count(), 'text')
        assert b.wrong==[]
        b.browser.close()
