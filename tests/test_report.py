"The report of a run: one page that loads nothing, whole for any run, safe with any class name, right in a browser."
import json, re, shutil, subprocess
from html.parser import HTMLParser
import numpy as np, pytest, torch
from PIL import Image
from fastcore.xml import to_xml
import cifar_fastai.interpret as interpret, cifar_fastai.report as report
from cifar_fastai.cam import is_empty, overlay
from cifar_fastai.cli import cifar_report
from cifar_fastai.core import InputError
from cifar_fastai.recipes import Recipe
from cifar_fastai.train import train
from cifar_fastai.report import make_report
from cifar_fastai.shapes import shapes10
from cifar_fastai.sources import Source, load_source
from browser import chromium, contrast

every = ['history','diagnosis','confusion','classes','calibration','maps_mistakes','maps_correct','finder','recipe','data']
bare = ['history','diagnosis','finder','recipe','data'] # without predictions
at = 'HiResCAM_stage1','HiResCAM_stage3','GradCAM_stage2','GradCAM_stage3'
pngs = {f'{o}.png' for o in ('loss','accuracy','confusion_matrix','calibration')}
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

def figures(page):
    "The figures beside a page"
    return [*page.with_name('figures' if page.name=='report.html' else f'{page.stem}-figures').iterdir()]

def checked(path, sections=every):
    "The page of a report, after what holds for each of them"
    p = Page(path)
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
    for f in figures(path):
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
    passes,bar = [],interpret.BatchProgress # one for each pass
    monkeypatch.setattr(interpret, 'BatchProgress', lambda *a: passes.append(a) or bar(*a))
    path = make_report(run, n=4, device='cpu')
    p = checked(path)
    assert len(passes)==1 and path==run/'report.html' and {o.name for o in figures(path)}==pngs | {'history.png','lr.png','lr_find.png'}
    m,c = (json.loads((run/f).read_text()) for f in ('metrics.json','config.json'))
    f = m['final']
    said = [
        f"{100 * f['valid_acc']:.2f} %",
        f"{f['valid_correct']:,} of {f['valid_n']:,}",
        'for a test',
        'with test-time augmentation (flip_translate)',
        '50: the test images',
        c['source']['fingerprint'],
        c['hardware'],
        c['versions']['torch'],
        *m['diagnosis'],
        *c['source']['vocab'],
    ]
    for s in said: assert s in p.text, s
    assert 'label' not in p.text.replace('label_smoothing', '') # those of generated images are right
    assert f"{c['lr_find']['valley']:.3g}" in p.text
    n_wrong = f['valid_n']-f['valid_correct']
    assert len(p.all('article'))==min(4, n_wrong)+min(2, f['valid_correct'])
    maps = [a for a in p.all('img') if a['alt'].startswith(tuple(o.replace('_', ' at ') for o in at))]
    n_maps = 8*min(4, n_wrong)+4*min(2, f['valid_correct'])
    assert len(maps)+p.text.count('no positive evidence')==n_maps
    assert f'{n_wrong} mistakes' in p.text

def test_elsewhere_with_other_maps(run, source, tmp_path):
    before = {p: p.stat().st_mtime_ns for p in run.rglob('*')}
    p = checked(make_report(run, source, tmp_path/'new/page.html', methods='LayerCAM', layers='stage2', device='cpu'))
    assert sorted(o.name for o in (tmp_path/'new').iterdir())==['page-figures','page.html']
    assert {o.name for o in (tmp_path/'new/page-figures').iterdir()}==pngs
    assert {p: p.stat().st_mtime_ns for p in run.rglob('*')}==before
    assert all('LayerCAM at stage2' in a['alt'] for a in p.all('img') if ' at stage' in a['alt'])
    f = json.loads((run/'metrics.json').read_text())['final'] # twenty mistakes, and ten that are right, by default
    assert len(p.all('article'))==min(20, f['valid_n']-f['valid_correct'])+min(10, f['valid_correct'])

def test_stopped_and_cut_off(run, tmp_path):
    stopped = copy(run, tmp_path/'stopped', recipe=dict(epochs=3))
    m = json.loads((stopped/'metrics.json').read_text())
    (stopped/'metrics.json').write_text(json.dumps({**m, 'completed': False}))
    assert 'stopped after 1 of 3 epochs' in checked(make_report(stopped, n=1, device='cpu')).text
    for f in ('metrics.json','model.json','model.safetensors'): (stopped/f).unlink()
    p = checked(make_report(stopped, device='cpu'), bare)
    assert 'the run left no weights' in p.text
    assert 'not finished, 1 of 3 epochs done' in p.text and m['diagnosis'][0] in p.text
    (stopped/'history.csv').unlink(); shutil.rmtree(stopped/'figures')
    p = checked(make_report(stopped, device='cpu'), bare)
    assert 'No epoch was finished' in p.text and 'not finished, 0 of 3 epochs done' in p.text and not p.all('img')
    twice = make_report([stopped, copy(stopped, tmp_path/'again')], out=tmp_path/'both.html', device='cpu')
    both = checked(twice, ['curves','results','recipe'])
    assert 'not finished, 0 of 3 epochs done' in both.text

def test_one_suggestion_of_the_finder_is_marked(run, tmp_path):
    lr = json.loads((run/'config.json').read_text())['lr']
    equal = copy(run, tmp_path/'equal', recipe=dict(find_kw=dict(chosen='least')), lr_find=dict(slide=lr, least=lr),
                 source=dict(path=str(tmp_path/'nowhere')))
    assert checked(make_report(equal, device='cpu'), bare).raw.count('>chosen<')==1

def test_images_that_are_gone(run, tmp_path, capsys):
    gone = copy(run, tmp_path/'gone', source=dict(path=str(tmp_path/'nowhere')))
    p = checked(make_report(gone, out=tmp_path/'gone.html', device='cpu'), bare)
    why = f"nothing at '{tmp_path}/nowhere'"
    assert why in p.text and f'{gone} is without predictions and maps: {why}' in capsys.readouterr().err
    assert {o.name for o in figures(tmp_path/'gone.html')}=={'loss.png','accuracy.png'}
    other = copy(run, tmp_path/'other', source=dict(fingerprint='0'*64))
    assert 'are not those of the run' in checked(make_report(other, device='cpu'), bare).text

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
    for right,none in ((True, 'maps_mistakes'), (False, 'maps_correct')):
        it = interpret.CifarInterpretation(interp.learn, interp.dl, interp.losses, None,
                                           (9 if right else -9)*torch.eye(10)[interp.targs], interp.targs)
        monkeypatch.setattr(report, '_interpretation', lambda *a: (it, ''))
        p = checked(make_report(run, out=tmp_path/f'{right}.html', n=1, device='cpu'), [o for o in every if o!=none])
        assert ('There are no mistakes.' in p.text)==right and 'From here on the images are scored again' in p.text

wrong = [
    (dict(n=0), 'n is 0'),
    (dict(n=101), 'n is 101'),
    (dict(methods=['Gradcam']), "did you mean 'GradCAM'"),
    (dict(layers=['stage9']), "unknown layer 'stage9'"),
    (dict(layers=['stage4']), 'under 5x5'),
    (dict(device='gpu'), "'gpu'"),
    (dict(source='nowhere'), 'nowhere'),
]


@pytest.mark.parametrize('kw,says', wrong, ids=[str(o[0]) for o in wrong])
def test_wrong_options(run, tmp_path, kw, says):
    with pytest.raises(InputError, match=re.escape(says)):
        make_report(run, out=tmp_path/'page.html', **{'device': 'cpu', **kw})
    assert not list(tmp_path.iterdir())

def test_wrong_places(run, tmp_path):
    with pytest.raises(InputError, match='is a folder'): make_report(run, out=tmp_path)
    with pytest.raises(InputError, match='config.json'): make_report(tmp_path)
    with pytest.raises(InputError, match='not those of the run'):
        make_report(run, shapes10(tmp_path/'few', n_train=20, n_test=10), device='cpu')

def test_command(run, tmp_path, capsys):
    gone = copy(run, tmp_path/'gone', source=dict(path=str(tmp_path/'nowhere')))
    for argv,says in (([tmp_path], 'config.json'), ([run,'--n','0'], 'n is 0'), ([run,'--n','x'], "'x'"), ([], 'RUN'),
                      ([run,'--methods','Gradcam'], 'GradCAM'),
                      ([gone,'--source',tmp_path/'nowhere'], 'nowhere'),
                      ([run,'--device','gpu'], "'gpu'")):
        try: code = cifar_report(list(map(str, argv)))
        except SystemExit as e: code = e.code
        out,err = capsys.readouterr()
        assert (code,out,err.count('\n'))==(2,'',1) and says in err, err
    assert cifar_report([str(gone), '--device', 'cpu', '--out', str(tmp_path/'a.html')])==0
    out,err = capsys.readouterr()
    assert out==f"report: {tmp_path/'a.html'}\n" and err.count('\n')==1 and 'is without predictions and maps: ' in err

@pytest.mark.slow
@pytest.mark.parametrize('scheme', ['light','dark'])
@pytest.mark.parametrize('size', [(390,844),(768,1024),(1280,900)], ids=['phone','tablet','desktop'])
def test_in_a_browser(run, scheme, size, tmp_path):
    sync = pytest.importorskip('playwright.sync_api')
    path = make_report(run, n=6, out=tmp_path/'page.html', device='cpu')
    with sync.sync_playwright() as p:
        browser,log = chromium(p),[]
        page = browser.new_page(viewport=dict(zip(('width','height'), size)), color_scheme=scheme)
        page.on('console', lambda o: log.append(o.text))
        page.on('pageerror', lambda o: log.append(str(o)))
        page.on('requestfailed', lambda o: log.append(o.url[:80]))
        page.on('request', lambda o: o.url.startswith(('data:','file:')) or log.append(o.url))
        page.goto(path.as_uri(), wait_until='load')
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
        assert page.evaluate('[...document.querySelectorAll(".wide")].every(o => o.scrollWidth<=o.clientWidth)') # none is cut off
        broken = page.evaluate('''() => [...document.querySelectorAll('.maps thead th')].filter(o => {
            o.style.overflowWrap = 'normal'
            return o.scrollWidth>o.clientWidth}).map(o => o.innerText)''')
        assert broken==[] # 'HiResCA', 'M'
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
    path = make_report(run, n=6, out=tmp_path/'page.html', device='cpu')
    with sync.sync_playwright() as play:
        browser = chromium(play)
        page = browser.new_page()
        page.goto(path.as_uri(), wait_until='load')
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
            assert text.count('HiResCAM ')>6 and 'HiResCA ' not in text, fmt # the head of a map is not broken within a name
            assert fmt=='A5' or 'Loss of the training and of the test images' in ' '.join(text.split('\f')[0].split()), fmt
        browser.close()

@pytest.fixture(scope='module')
def other(source, tmp_path_factory):
    "A run that differs from `run` in its rate and its name"
    path = tmp_path_factory.mktemp('other')/'other'
    return train(Recipe(**{**tiny, 'lr': 0.02, 'name': '<b>', 'epochs': 2}), source, path, device='cpu')

def test_several_runs_are_side_by_side(run, other, tmp_path, capsys):
    "Curves, results, the fields that differ, and the same mistakes in the cards of each run"
    page = tmp_path/'both.html'
    assert cifar_report([run, other, '--out', page, '--n', 3, '--methods', 'GradCAM', '--device', 'cpu'])==0
    p = checked(page, ['curves','results','recipe','mistakes'])
    assert capsys.readouterr().out==f'report: {page}\n' and {o.name for o in figures(page)}=={'loss.png','accuracy.png'}
    names = [str(o.relative_to(tmp_path.parent)) for o in (run,other)]
    assert all(p.text.count(o)>=7 for o in names), names # head, two tables, three cards and more
    fields = p.text[p.text.index('Fields of the recipes that differ'):p.text.index('images are predicted wrongly')]
    assert 'epochs12' in fields and 'note' not in fields and 'policy' not in fields and 'lr used' in fields
    its = [report._interpretation(report.Run(o), None, 'cpu')[0] for o in (run,other)]
    wrong = torch.stack([o.decoded!=o.targs for o in its])
    loss = (torch.stack([o.losses for o in its])*wrong).amax(0)
    assert f'{int(wrong.any(0).sum())} images are predicted wrongly' in p.text
    assert re.findall(r'item (\d+)', re.sub('Maps of item', '', p.text))==[str(i) for i in loss.topk(3).indices.tolist() for _ in its]
    assert len(p.all('article'))==6 and sum(a['alt'].startswith('GradCAM at') for a in p.all('img'))>6

def test_runs_of_one_recipe_whose_predictions_differ(run, tmp_path, monkeypatch):
    "No table without rows, and one row of maps in the card of a run that is right"
    twin = copy(run, tmp_path/'twin')
    it,_ = report._interpretation(report.Run(run), None, 'cpu')
    right = interpret.CifarInterpretation(it.learn, it.dl, it.losses*0, None, 9*torch.eye(10)[it.targs], it.targs)
    monkeypatch.setattr(report, '_interpretation', lambda o, *a: (right if o.path==twin else it, ''))
    p = checked(make_report([run, twin], out=tmp_path/'page.html', n=2, methods='GradCAM', layers='stage2', device='cpu'),
                ['curves','results','recipe','mistakes'])
    assert 'No field of the recipes differs.' in p.text and len(p.all('table'))==5
    cards = re.findall('<article.*?</article>', p.raw, re.S)
    assert [o.count('<th scope="row">') for o in cards]==[2,1,2,1], p.text[-900:]

def test_runs_on_other_images_or_without_weights_are_compared_without_mistakes(run, other, tmp_path):
    x,y = images(10, 120)
    src = Source(x, y, [f'class {i}' for i in range(10)], np.arange(120)>=60, name='others')
    apart = train(Recipe(**tiny), src, tmp_path/'apart', device='cpu')
    bare = copy(run, tmp_path/'bare')
    (bare/'model.safetensors').unlink()
    p = checked(make_report([other, bare, apart], device='cpu'), ['curves','results','recipe'])
    assert 'the run left no weights' in p.text and 'apart: the images of the run were given in memory' in p.text

def test_test_images_are_called_so(run, source, tmp_path):
    "Whoever validates on the test images reads 'test' everywhere, and 'validation' with a part of the others held out"
    p = checked(make_report(run, n=2, device='cpu'))
    assert 'test accuracy, ' in p.text and '50: the test images' in p.text
    assert 'validation' not in p.text.replace('The last validation', '')
    assert 'test accuracy' in report.Run(run).facts()
    assert any('test accuracy' in o for o in json.loads((run/'metrics.json').read_text())['diagnosis'])
    held = train(Recipe(**{**tiny, 'valid': 0.2}), source, tmp_path/'held', device='cpu')
    p = checked(make_report(held, n=2, device='cpu'), [o for o in every if o!='finder'])
    assert 'validation accuracy, ' in p.text and '40: 20 % of the training images, held out' in p.text
    assert 'test accuracy' not in p.text and 'validation accuracy' in report.Run(held).facts()

def test_a_map_is_that_of_the_library_on_its_own_scale_and_says_its_share(run):
    it = report._interpretation(report.Run(run), None, 'cpu')[0]
    items,targets = it.misclassified(2),('predicted','actual')
    cams = torch.stack([it.cam(items, t, method='GradCAM', layer='stage2')[1] for t in targets])
    img,card = it.pictures(items.idxs)[1],to_xml(report._cards(items, [('GradCAM','stage2')])[1])
    for o in cams:
        if is_empty(o): assert 'no positive evidence' in card
        else:
            tile = to_xml(report._tile(overlay(img, o), '', 'jpeg'))
            assert re.search('base64,[^"]+', tile)[0] in card and f'{100*float(o.max()/cams.max()):.0f}\xa0%' in card

def test_stages_of_maps_are_the_fine_ones_of_the_network(run):
    model = report._interpretation(report.Run(run), None, 'cpu')[0].learn.model
    def stages(method): return [[l for _,l in report._map_combos(model, s, method, None)] for s in (32,64,4)]
    assert stages('GradCAM')==[['stage2','stage3'],['stage3','stage4'],[]]
    assert stages('HiResCAM')==[['stage1','stage3'],['stage1','stage4'],[]]

def test_every_long_step_says_so(run, tmp_path, monkeypatch):
    "Maps are counted, so that no report is silent for long"
    seen = []
    monkeypatch.setattr(report, 'progress', lambda items, label, *args: seen.append(label) or items)
    make_report(run, out=tmp_path/'page.html', n=4, device='cpu')
    assert seen==['maps of 4 images','maps of 2 images']
