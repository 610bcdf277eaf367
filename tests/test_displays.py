"What Jupyter shows of our objects: every name is text, whatever it is; what plain Python prints can be read."
import html, io, re
import numpy as np, pytest
from markdown_it import MarkdownIt
from PIL import Image
from cifar_fastai.experiments import ablation_table
from cifar_fastai.data import cifar_dls
from cifar_fastai.history import diagnose
from cifar_fastai.interpret import CifarInterpretation
from cifar_fastai.optim import LRSuggestions, find_lr
from cifar_fastai.learner import cifar_learner
from cifar_fastai.models import Summary, summary
from cifar_fastai.predict import ImageClassifier, explain
import cifar_fastai.report # noqa: F401, the summary of an interpretation is there
from cifar_fastai.recipes import Recipe, recipe_table, recipes
from cifar_fastai.train import train
from cifar_fastai.runs import Run
from cifar_fastai.sources import Source

names = ['<b>|x', '*a* `b` _c_ [t](x)', '$x$ <script>alert(1)</script> \\|']
plain = {'table','thead','tbody','tr','th','td','p','ul','ol','li','strong','code','span'} # what our own Markdown makes

class Shown:
    "Markdown as a reader of its own renders it"
    def __init__(self, o):
        self.html = MarkdownIt('commonmark').enable(['table','strikethrough']).render(o._repr_markdown_())
        assert set(re.findall(r'<(\w+)', self.html))<=plain, self.html
        self.text = html.unescape(re.sub(r'<[^>]+>', '', self.html))
    def cells(self):
        return [html.unescape(re.sub('<[^>]+>', '', o)).strip()
                for o in re.findall(r'<td[^>]*>(.*?)</td>', self.html, re.S)]

@pytest.fixture(scope='module')
def run(tmp_path_factory):
    x = np.random.default_rng(0).integers(0, 256, (90,32,32,3)).astype(np.uint8)
    src = Source(x, np.arange(90)%3, names, np.arange(90)>=60, name='<i>|mine')
    return src,train(Recipe(name='<u>|r', note='*n* | <b>', epochs=1, bs=20, policy='none', model_kw=dict(width=8)),
                     src, tmp_path_factory.mktemp('d')/'<s>run', device='cpu')

@pytest.fixture(scope='module')
def interp(run): return CifarInterpretation.from_run(run[1], run[0], device='cpu')

def test_tables_and_lists(run, interp):
    src,path = run
    assert all(o in Shown(src).text for o in [*names,'<i>|mine'])
    items = interp.scored(range(30))
    cells = Shown(items).cells()
    assert len(cells)==6*30 and cells[1::6]==[o.actual for o in items] and cells[2::6]==[o.predicted for o in items]
    assert cells[0::6]==[str(i) for i in range(30)]
    assert '30 images' in Shown(interp).text
    assert any(f'{a} predicted as {b}' in Shown(interp).text for a in names for b in names)
    folder = Shown(Run(path))
    assert any('<i>|mine' in c for c in folder.cells()) and any('<u>|r' in c for c in folder.cells())
    assert len(folder.cells())%2==0
    r = Shown(Run(path).recipe).cells()
    assert r[r.index('note')+1]=='*n* | <b>' and r[r.index('name')+1]=='<u>|r'
    d = Shown(diagnose(Run(path).history, {o: (i, 10) for i,o in enumerate(names)}))
    assert all(f'{o} {10*i}.0 % ({i} of 10)' in d.text for i,o in enumerate(names))

def test_tables_of_recipes_and_effects(monkeypatch):
    n = len(recipes)
    # the command prints it as it is
    assert Shown(recipe_table()).cells()[::7]==list(recipes) and '&#' not in recipe_table()
    monkeypatch.setitem(recipes, 'odd', Recipe(name='<b>|x', lr=0.1, note='a | b'))
    assert Shown(recipe_table()).cells()[7*n]=='<b>|x' and Shown(recipe_table()).cells()[-1]=='a | b'
    row = lambda **k: dict(changes=k, acc=[0.5], seconds=[1.], effect=0., se=None)
    assert Shown(ablation_table(dict(rows={'base': row(), '<b>|x': row(policy='a|b')}))).cells()[6:8]==['<b>|x',
                                                                                                        'policy=a|b']

def test_suggestions_summary():
    assert Shown(LRSuggestions(dict(valley=0.05, steep=0.1), [], [], 'valley')).cells()==['valley','0.05','chosen',
                                                                                          'steep','0.1','']
    assert Summary('<b> & c')._repr_html_().endswith('>&lt;b&gt; &amp; c</pre>')

def test_an_explanation_is_a_picture(run):
    e = explain(run[0].x[0], run[1])
    with Image.open(io.BytesIO(e._repr_png_())) as img: img.load(); assert img.format=='PNG' and img.width>300
    assert e.line in repr(e) and e.how in repr(e)

def test_plain_python_is_readable(run, interp, source):
    learn = cifar_learner(cifar_dls(source, 'none', bs=20, device='cpu'), model_kw=dict(width=8))
    assert str(learn.history)=='no epoch yet' and repr(learn.history)=='History' # its place in the list of callbacks
    found = find_lr(learn, num_it=30, plot=False)
    with learn.no_bar(): learn.fit(1)
    assert str(learn.history).startswith('epoch 1/1  lr ')
    wrong = interp.scored([3])
    rows = learn.history.rows
    for o in (run[0], interp, wrong, Run(run[1]), Run(run[1]).recipe, ImageClassifier.from_learner(learn),
              explain(source.x[0], learn), diagnose(rows), found, recipe_table(),
              summary(learn.model), learn.history):
        for s in (str(o), repr(o)): assert s and 'object at 0x' not in s, s
    assert '30 images of 3 classes' in repr(interp) and repr(Run(run[1])).endswith(', complete, 1 epoch')
