"The report of a run: one page that loads nothing, whole for any run, safe with any class name, right in a browser."
import json, re, shutil, subprocess
from html.parser import HTMLParser
import numpy as np, pytest, torch
from PIL import Image
import cifar_fastai.interpret as interpret, cifar_fastai.report as report
from cifar_fastai.cam import is_empty, overlay
from cifar_fastai.cli import cifar_report
from cifar_fastai.core import InputError, md_text
from cifar_fastai.recipes import Recipe
from cifar_fastai.train import train
from cifar_fastai.report import make_report
from cifar_fastai.shapes import shapes10
from cifar_fastai.sources import Source, load_source
from browser import chromium, contrast

every = ['history','diagnosis','confusion','classes','calibration','losses','maps_mistakes','maps_correct','finder',
         'recipe','data','machine']
bare = ['history','diagnosis','finder','recipe','data','machine'] # without predictions
pngs = {'lr_find.png','history.png','lr.png','confusion_matrix.png','calibration.png','top_losses.png',
        'maps_mistakes.png','maps_correct.png'}
void = {'meta','link','img','br','hr','input'}
tiny = dict(epochs=1, bs=50, policy='none', model_kw=dict(width=8))

class Page(HTMLParser):
    "Tags with their attributes, the text of each, and what is left open"
    def __init__(self, path):
        super().__init__()
        self.tags,self.open,self.text,self.raw = [],[],'',path.read_text(encoding='utf8')
        self.feed(self.raw); self.close()
    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in void: self.open.append(tag)
    def handle_endtag(self, tag):
        assert self.open and self.open[-1]==tag, (tag, self.open[-3:])
        self.open.pop()
    def handle_data(self, s):
        if not {'style','script'} & set(self.open): self.text += s.replace('\xa0', ' ')
    def all(self, *names): return [a for t,a in self.tags if t in names]
    @property
    def sections(self): return [a['id'] for a in self.all('section')]

def checked(rep, sections=every):
    "The page of a report, after what holds for each of them"
    p = Page(rep.path)
    assert not p.open and p.sections==[o for o in sections]
    for tag,a in p.tags:
        for k,v in a.items():
            if k in ('src','href','srcset','action','data','poster'):
                assert v.startswith(('data:','#')), (tag, k, v[:60])
            assert not k.startswith('on'), (tag, k)
    assert not {'script','iframe','object','embed','form'} & {t for t,_ in p.tags}
    css = re.findall(r'<style>(.*?)</style>', p.raw, re.S)
    assert len(css)==1 and 'url(' not in p.raw and '@import' not in css[0]
    assert 'http' not in re.sub(r'data:[\w/;,+=]*', '', p.raw).replace('http-equiv', '')
    assert p.all('html')[0]['lang']=='en'
    assert any(a.get('name')=='viewport' and 'width=device-width' in a['content'] for a in p.all('meta'))
    assert "default-src 'none'" in next(a['content'] for a in p.all('meta') if a.get('http-equiv'))
    ids = [a['id'] for _,a in p.tags if 'id' in a]
    assert len(ids)==len(set(ids)) and all(a['href'][1:] in ids for a in p.all('a'))
    assert [a['href'][1:] for a in p.all('a')][1:1+len(sections)]==sections # the contents, after the skip link
    for a in p.all('img'): assert a['alt'].strip() and int(a['width'])>0 and int(a['height'])>0
    assert len(p.all('h1'))==1 and len(p.all('h2'))==len(sections) and not p.all('h3','h4')
    assert len(p.all('caption'))==len(p.all('table')) and all('scope' in a for a in p.all('th'))
    assert len(p.raw)<3e6
    for f in rep.figures:
        with Image.open(f) as img: img.load(); assert img.format=='PNG' and min(img.size)>90
    return p

@pytest.fixture(scope='module')
def run(source, tmp_path_factory):
    return train(Recipe(**{**tiny, 'lr': 'find', 'find_kw': dict(num_it=30), 'name': 'tiny', 'note': 'for a test',
                           'tta': 'flip_translate'}), source, tmp_path_factory.mktemp('run')/'run', device='cpu')

def copy(run, to, **changes):
    "A copy of a run with other fields in its config"
    shutil.copytree(run, to, ignore=shutil.ignore_patterns('report*'))
    c = json.loads((to/'config.json').read_text())
    for k,v in changes.items(): c[k] = {**c[k], **v} if isinstance(v, dict) else v
    (to/'config.json').write_text(json.dumps(c))
    return to

def test_all_of_it_from_one_pass(run, monkeypatch):
    passes,one = [],interpret._one_pass
    monkeypatch.setattr(interpret, '_one_pass', lambda *a: passes.append(a) or one(*a))
    rep = make_report(run, n=4, device='cpu')
    p = checked(rep)
    assert len(passes)==1 and rep.path==run/'report.html' and rep.without is None and str(rep)==str(run/'report.html')
    assert {o.name for o in rep.figures}==pngs and all(o.parent==run/'figures' for o in rep.figures)
    m,c = (json.loads((run/f).read_text()) for f in ('metrics.json','config.json'))
    f = m['final']
    said = [
        f"{100 * f['valid_acc']:.2f} %",
        f"{f['valid_correct']:,} of {f['valid_n']:,}",
        'for a test',
        'with test-time augmentation (flip_translate)',
        '200, 20 of each class',
        '50, 5 of each class: the test images',
        c['source']['fingerprint'],
        c['hardware'],
        c['versions']['torch'],
        *m['diagnosis'],
        *c['source']['vocab'],
    ]
    for s in said: assert s in p.text, s
    assert f"{c['lr_find']['valley']:.3g}" in p.text
    n_wrong = f['valid_n']-f['valid_correct']
    cards = [a['id'] for a in p.all('article')]
    assert len(cards)==min(4, n_wrong)+min(2, f['valid_correct'])
    at = tuple(
        f'{m} at {l}'
        for m, l in [('HiResCAM', 'stage1'), ('HiResCAM', 'stage3'), ('GradCAM', 'stage2'), ('GradCAM', 'stage3')]
    )
    drawn = [a for a in p.all('img') if a['alt'].startswith(at)]
    n_maps = 8*min(4, n_wrong)+4*min(2, f['valid_correct'])
    assert len(drawn)+p.text.count('no positive evidence')==n_maps
    assert f'{n_wrong} mistakes' in p.text

def test_elsewhere_with_other_maps(run, source, tmp_path):
    before = {p: p.stat().st_mtime_ns for p in run.rglob('*')}
    rep = make_report(run, source, tmp_path/'new/page.html', n=1, methods='LayerCAM', layers='stage2', device='cpu')
    p = checked(rep)
    assert sorted(o.name for o in (tmp_path/'new').iterdir())==['page-figures','page.html']
    assert {o.name for o in (tmp_path/'new/page-figures').iterdir()}==pngs
    assert {p: p.stat().st_mtime_ns for p in run.rglob('*')}==before
    assert all('LayerCAM at stage2' in a['alt'] for a in p.all('img') if ' at stage' in a['alt'])

def test_stopped_and_cut_off(run, tmp_path):
    stopped = copy(run, tmp_path/'stopped', recipe=dict(epochs=3))
    m = json.loads((stopped/'metrics.json').read_text())
    (stopped/'metrics.json').write_text(json.dumps({**m, 'completed': False}))
    assert 'stopped after 1 of 3 epochs' in checked(make_report(stopped, n=1, device='cpu')).text
    for f in ('metrics.json','model.json','model.safetensors'): (stopped/f).unlink()
    rep = make_report(stopped, device='cpu')
    p = checked(rep, bare)
    assert 'the run left no weights' in str(rep) and 'the run left no weights' in p.text
    assert 'not finished, 1 of 3 epochs done' in p.text and m['diagnosis'][0] in p.text
    (stopped/'history.csv').unlink(); shutil.rmtree(stopped/'figures')
    p = checked(make_report(stopped, device='cpu'), bare)
    assert 'No epoch was finished' in p.text and 'not finished, 0 of 3 epochs done' in p.text and not p.all('img')

def test_images_that_are_gone(run, tmp_path):
    gone = copy(run, tmp_path/'gone', source=dict(path=str(tmp_path/'nowhere')))
    rep = make_report(gone, device='cpu')
    p = checked(rep, bare)
    assert 'nowhere' in rep.without and rep.without in p.text and rep.without in str(rep)
    assert md_text(f'without predictions and maps: {rep.without}') in rep._repr_markdown_()
    assert {o.name for o in rep.figures}=={'lr_find.png','history.png','lr.png'}
    other = copy(run, tmp_path/'other', source=dict(fingerprint='0'*64))
    assert 'are not those of the run' in make_report(other, device='cpu').without

def images(k, n, size=32, seed=0):
    "Images of `k` classes, each of its own color"
    rng = np.random.default_rng(seed)
    y = np.arange(n)%k
    return (rng.integers(0, 256, (k,1,1,3))[y]*0.7+rng.integers(0, 77, (n,size,size,3))).astype(np.uint8),y

def test_class_names_are_text(tmp_path):
    "Two classes that are called what would break a page or a figure, and a source without test images"
    names = ['<script>alert(1)</script>', '''"a" & 'b' $\\frac{$ </style><img src=x onerror=alert(2)>''']
    x,y = images(2, 120)
    src = Source(x, y, names, np.zeros(120, bool), name='<b>mine</b>')
    run = train(Recipe(**{**tiny, 'valid': 0.5, 'note': '</title><script>alert(3)</script>'}), src, tmp_path/'<i>run',
                device='cpu')
    p = checked(make_report(run, src, n=3, device='cpu'), [o for o in every if o!='finder'])
    assert all(o in p.text for o in names) and '<b>mine</b>' in p.text and '</title><script>alert(3)</script>' in p.text
    assert '50 % of the training images, held out' in p.text
    assert not re.search('<script|<b>mine|<i>run|<img src=x', p.raw)

def test_images_of_64_pixels(tmp_path):
    src = load_source(shapes10(tmp_path/'large', n_train=20, n_test=10, size=64), size=64)
    run = train(Recipe(**{**tiny, 'bs': 20}), src, tmp_path/'run', device='cpu')
    p = checked(make_report(run, n=3, device='cpu'), [o for o in every if o!='finder']) # finds its images by itself
    assert {'64'}=={a['width'] for a in p.all('img') if a.get('class')=='tile'}
    assert any('GradCAM at stage4' in a['alt'] for a in p.all('img'))
    assert '64x64 pixels' in p.text

def test_a_hundred_classes(tmp_path):
    x,y = images(100, 300)
    src = Source(x, y, [f'class {i}' for i in range(100)], np.arange(300)>=200, name='hundred')
    run = train(Recipe(**tiny), src, tmp_path/'run', device='cpu')
    p = checked(make_report(run, src, n=2, device='cpu'), [o for o in every if o!='finder'])
    assert all(f'class {i}' in p.text for i in range(100)) and '100 classes' in p.text

def test_no_mistakes_and_nothing_right(run, tmp_path, monkeypatch):
    interp,_ = report._interpretation(report.Run(run), None, 'cpu')
    for right,says in ((True, 'There are no mistakes among the test images.'),
                       (False, 'There are no correct answers among the test images.')):
        it = interpret.CifarInterpretation(interp.learn, interp.dl, interp.losses, None,
                                           (9 if right else -9)*torch.eye(10)[interp.targs], interp.targs)
        monkeypatch.setattr(report, '_interpretation', lambda *a: (it, None))
        p = checked(make_report(run, out=tmp_path/f'{right}.html', n=1, device='cpu'))
        assert says in p.text and 'From here on the images are scored again' in p.text

wrong = [
    (dict(n=0), 'n is 0'),
    (dict(n=101), 'n is 101'),
    (dict(methods=['Gradcam']), "did you mean 'GradCAM'"),
    (dict(layers=['stage9']), "unknown layer 'stage9'"),
    (dict(layers=['stage4']), 'under 5x5'),
    (dict(layers=[]), 'no layer'),
    (dict(device='gpu'), "'gpu'"),
    (dict(source='nowhere'), 'nowhere'),
    (dict(figures='gif'), "'gif'"),
    (dict(dpi=1), 'dpi is 1'),
]


@pytest.mark.parametrize('kw,says', wrong, ids=[str(o[0]) for o in wrong])
def test_wrong_options(run, tmp_path, kw, says):
    with pytest.raises(InputError, match=re.escape(says)):
        make_report(run, out=tmp_path/'page.html', **{'device': 'cpu', **kw})
    assert not list(tmp_path.iterdir())

def test_wrong_places(run, tmp_path):
    with pytest.raises(InputError, match='is a folder'): make_report(run, out=tmp_path)
    (tmp_path/'file').write_text('')
    gone = copy(run, tmp_path/'gone', source=dict(path=str(tmp_path/'nowhere')))
    with pytest.raises(InputError, match='cannot be written'):
        make_report(gone, out=tmp_path/'file/page.html', device='cpu')
    with pytest.raises(InputError, match='config.json'): make_report(tmp_path)
    with pytest.raises(InputError, match='not those of the run'):
        make_report(run, shapes10(tmp_path/'few', n_train=20, n_test=10), device='cpu')

def test_command(run, tmp_path, capsys):
    gone = copy(run, tmp_path/'gone', source=dict(path=str(tmp_path/'nowhere')))
    for argv,says in (([tmp_path], 'config.json'), ([run,'--n','0'], 'n is 0'), ([run,'--n','x'], "'x'"), ([], 'RUN'),
                      ([run,'--methods','Gradcam'], 'GradCAM'), ([run,'--figures','gif'], "'gif'"),
                      ([run,'--dpi','1'], 'dpi is 1'), ([gone,'--source',tmp_path/'nowhere'], 'nowhere'),
                      ([run,'--device','gpu'], "'gpu'")):
        try: code = cifar_report(list(map(str, argv)))
        except SystemExit as e: code = e.code
        out,err = capsys.readouterr()
        assert (code,out,err.count('\n'))==(2,'',1) and says in err, err
    assert cifar_report([str(gone), '--device', 'cpu', '--out', str(tmp_path/'a.html')])==0
    out,err = capsys.readouterr()
    assert err=='' and out.count('\n')==1
    assert out.startswith(f"report: {tmp_path/'a.html'} (without predictions and maps: ")

@pytest.mark.slow
@pytest.mark.parametrize('scheme', ['light','dark'])
@pytest.mark.parametrize('size', [(390,844),(1280,900)], ids=['phone','desktop'])
def test_in_a_browser(run, scheme, size, tmp_path):
    sync = pytest.importorskip('playwright.sync_api')
    rep = make_report(run, n=6, out=tmp_path/'page.html', device='cpu')
    with sync.sync_playwright() as p:
        browser,log = chromium(p),[]
        page = browser.new_page(viewport=dict(zip(('width','height'), size)), color_scheme=scheme)
        page.on('console', lambda o: log.append(o.text))
        page.on('pageerror', lambda o: log.append(str(o)))
        page.on('requestfailed', lambda o: log.append(o.url[:80]))
        page.on('request', lambda o: o.url.startswith(('data:','file:')) or log.append(o.url))
        page.goto(rep.path.as_uri(), wait_until='load')
        assert log==[]
        assert page.evaluate('document.documentElement.scrollWidth')==size[0]
        assert page.evaluate('[...document.images].every(o => o.complete && o.naturalWidth>0)')
        ratio = page.evaluate(contrast)
        assert min(ratio)>=4.5, ratio
        dark = page.evaluate('getComputedStyle(document.body).backgroundColor')
        assert (sum(map(int, re.findall(r'\d+', dark)[:3]))<150)==(scheme=='dark')
        for name in ('Loss over','Accuracy over'): # both are on the first screen of a desktop, one on that of a phone
            box = page.locator(f'#history img[alt^="{name}"]').bounding_box()
            assert box['y']+box['height']<=size[1] or (size[0]<500 and name=='Accuracy over'), (name, box)
        shown = page.evaluate('''() => [...document.querySelectorAll('.chart img')].map(
            o => o.clientWidth/o.getAttribute('width'))''')
        assert len(shown)==6 and min(shown)>=0.66 # letters of 10 points are 9 pixels high at least
        for sel in ('#history .chart img', '.maps img'):
            img = page.locator(sel).first
            img.scroll_into_view_if_needed()
            before,at = img.bounding_box(),page.evaluate('scrollY')
            img.click()
            assert img.bounding_box()==dict(x=0, y=0, width=size[0], height=size[1])
            page.keyboard.press('Space') # the check box behind the picture has the focus
            assert img.bounding_box()==before and page.evaluate('scrollY')==at
        assert log==[] and page.pdf().startswith(b'%PDF')
        browser.close()

@pytest.mark.slow
def test_in_print(run, tmp_path):
    "No page ends with a heading, a caption or an introduction of what is on the next; needs poppler's pdftotext"
    sync = pytest.importorskip('playwright.sync_api')
    if not shutil.which('pdftotext'): pytest.skip('no pdftotext: install poppler-utils')
    rep = make_report(run, n=6, out=tmp_path/'page.html', device='cpu')
    with sync.sync_playwright() as play:
        browser = chromium(play)
        page = browser.new_page()
        page.goto(rep.path.as_uri(), wait_until='load')
        heads = page.evaluate("[...document.querySelectorAll('h2, .scroll caption')].map(o => o.textContent)")
        texts = page.evaluate("[...document.querySelectorAll('section > p')].map(o => o.textContent)")
        intros = [' '.join(o.split()) for o in texts]
        parts = lambda line: line in heads or any(o.endswith(' '.join(line.split())) for o in intros)
        for fmt in ('A4','A5','Letter'): # other pages break in other places
            page.pdf(path=tmp_path/'page.pdf', format=fmt)
            text = subprocess.run(['pdftotext', '-layout', tmp_path/'page.pdf', '-'], capture_output=True, text=True,
                                  check=True).stdout
            last = [[l.strip() for l in o.splitlines() if l.strip()][-1] for o in text.split('\f') if o.strip()]
            assert len(last)>2 and not [l for l in last[:-1] if parts(l)], (fmt, last)
        browser.close()

def test_test_images_are_called_so(run, source, tmp_path):
    "Whoever validates on the test images reads 'test' everywhere, and 'validation' with a part of the others held out"
    p = checked(make_report(run, n=2, device='cpu'))
    assert 'test accuracy, ' in p.text and 'among the 50 test images' in p.text
    assert 'validation' not in p.text.replace('The last validation', '')
    assert 'test accuracy' in report.Run(run).facts()
    assert any('test accuracy' in o for o in json.loads((run/'metrics.json').read_text())['diagnosis'])
    held = train(Recipe(**{**tiny, 'valid': 0.2}), source, tmp_path/'held', device='cpu')
    p = checked(make_report(held, n=2, device='cpu'), [o for o in every if o!='finder'])
    assert 'validation accuracy, ' in p.text and 'among the 40 validation images' in p.text
    assert 'test accuracy' not in p.text and 'validation accuracy' in report.Run(held).facts()

def test_no_doubt_about_labels_that_are_generated(run, tmp_path):
    assert 'wrong label' not in checked(make_report(run, n=2, device='cpu')).text
    x,y = images(2, 120)
    src = Source(x, y, ['a','b'], np.arange(120)>=60, name='photographs')
    own = train(Recipe(**tiny), src, tmp_path/'own', device='cpu')
    assert 'may bear a wrong label' in checked(make_report(own, src, n=2, device='cpu'),
                                               [o for o in every if o!='finder']).text

@pytest.mark.parametrize('kind,starts', [('png', b'\x89PNG'), ('svg', b'<?xml'), ('pdf', b'%PDF')])
def test_formats_of_figures(run, tmp_path, kind, starts):
    "Figures are written in the format that is asked for; what the run drew itself stays as it is"
    rep = make_report(run, n=1, out=tmp_path/'page.html', figures=kind, dpi=90, device='cpu')
    checked(rep) if kind=='png' else None
    own = {'lr_find.png','lr.png'}
    assert {o.name for o in rep.figures}=={o if o in own else o.replace('.png', f'.{kind}') for o in pngs}
    assert all(o.read_bytes().startswith(b'\x89PNG' if o.name in own else starts) for o in rep.figures)
    if kind=='png':
        for o in rep.figures:
            # the run draws at 200
            with Image.open(o) as img:
                assert round(img.info['dpi'][0])==(200 if o.name in own else 90), o

def test_every_mistake_is_in_the_figure(run, tmp_path, monkeypatch):
    "Twenty mistakes are twenty rows, each before its maps, with the share of the stronger class under each map"
    drawn,keep = {},report._Figures.keep
    def look(self, name, fig):
        drawn[name] = [t.get_text() for ax in fig.axes for t in (*ax.texts, ax.title)]
        return keep(self, name, fig)
    monkeypatch.setattr(report._Figures, 'keep', look)
    make_report(run, out=tmp_path/'page.html', n=20, device='cpu')
    texts = drawn['maps_mistakes']
    assert sum(bool(re.fullmatch(r'.+\nas .+', t)) for t in texts)==20
    assert sum(t.endswith('%') or 'no positive' in t for t in texts)==20*8
    assert sum(t.endswith('%') for t in drawn['top_losses'])==20

def test_maps_are_those_of_the_library_on_the_scale_that_was_asked_for(run):
    it = report._interpretation(report.Run(run), None, 'cpu')[0]
    combo,targets = ('GradCAM','stage2'),('predicted','actual')
    items = it.misclassified(2)
    shared,own = (report.ReportMaps(it, items, [combo], targets, shared=o) for o in (True,False))
    cams = {t: it.cam(items, t, method=combo[0], layer=combo[1])[1] for t in targets}
    top = max(float(o.max()) for o in cams.values())
    for t,o in cams.items():
        if is_empty(o):
            assert own.views[1,combo,t] is None and own.strength[1,combo,t]=='no positive evidence'
            continue
        assert np.array_equal(own.views[1,combo,t], overlay(own.imgs[1], o))
        assert np.array_equal(shared.views[1,combo,t], overlay(own.imgs[1], o, top))
        assert own.strength[1,combo,t]==f'{100*float(o.max())/top:.0f}\xa0%'

def test_stages_of_maps_are_the_fine_ones_of_the_network(run):
    model = report._interpretation(report.Run(run), None, 'cpu')[0].learn.model
    def stages(method): return [report._stages_of(model, s, method) for s in (32,64,4)]
    assert stages('GradCAM')==[['stage2','stage3'],['stage3','stage4'],[]]
    assert stages('HiResCAM')==[['stage1','stage3'],['stage1','stage4'],[]]

def test_every_long_step_says_so(run, tmp_path, monkeypatch):
    "Maps are counted, so that no report is silent for long"
    seen = []
    monkeypatch.setattr(report, 'progress', lambda items, label, *args: seen.append(label) or items)
    make_report(run, out=tmp_path/'page.html', n=4, device='cpu')
    assert seen==['maps of 4 images','maps of 2 images']
