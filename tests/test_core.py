"""Checks that name the value and the remedy, tables that show names as they are, files written whole, progress that
leaves nothing behind."""
import html, io, os, pty, re, subprocess, sys, time
from contextlib import redirect_stderr, suppress
from pathlib import Path
import matplotlib.pyplot as plt, numpy as np, pytest
from markdown_it import MarkdownIt
from PIL import Image
from cifar_fastai import core
from cifar_fastai.core import *
from cifar_fastai.core import (
    check_number, from_extra, home_path, md_table, stage, write_atomic)

# ---- checks

@pytest.mark.parametrize('bad', [float('nan'), float('inf'), '3', None, True], ids=str)
def test_check_number_refuses_what_is_no_number(bad):
    with pytest.raises(InputError, match='lr is'): check_number('lr', bad, above=0)

def test_check_number_keeps_its_bounds():
    assert check_number('pct', 0.5, above=0, below=1)==0.5
    with pytest.raises(InputError, match='above 0 and below 1'): check_number('pct', 1, above=0, below=1)
    with pytest.raises(InputError, match='must be a whole number'): check_number('epochs', 1.5, low=1, whole=True)

def test_from_extra_leaves_other_mistakes_as_they_are():
    with from_extra('text', 'none'): pass
    with pytest.raises(OSError), from_extra('text', 'none'): raise OSError

def test_importing_core_imports_neither_fastai_nor_torch():
    code = "import cifar_fastai.core, sys; print([o for o in ('fastai','torch') if o in sys.modules])"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout=='[]\n'

# ---- Markdown

names = [
    '<b>|x',
    '*a* **b** _c_ __d__ ~~e~~',
    '`a\\|b` ``c``',
    '[t](https://x.org) ![i](y)',
    '<script>alert(1)</script>',
    '&amp; &lt;',
    'a\\',
    '|',
    '$x$ and $$y$$',
    'l1\nl2\r\n\n| 3',
    'plain_name',
    '猫',
    '<!--',
    'x\x1b[2J',
    '9\xa0%',
]

def test_md_table_shows_any_name_as_its_text():
    "As a Markdown reader of its own sees it: every cell is its text, and nothing else is there"
    table = md_table(['a|b','n'], [[o, i] for i,o in enumerate(names)], 'lr')
    page = MarkdownIt('commonmark').enable(['table','strikethrough']).render(table)
    cells = [html.unescape(re.sub('</?span>', '', o)) for o in re.findall(r'<td[^>]*>(.*?)</td>', page, re.S)]
    shown = [re.sub('[ \r\n]+', ' ', o.replace('\x1b', '\\x1b')) for o in names]
    assert cells==[o for i,s in enumerate(shown) for o in (s, str(i))]
    assert page.count('<th')==1+2 and page.count('<tr>')==1+len(names) # a head and its two cells
    assert not re.findall(r'<(?!/|table|thead|tbody|tr|th|td|span)', page)

def test_md_table_without_rows_is_its_head():
    t = md_table(['x'], [])
    assert (str(t), repr(t), t._repr_markdown_())==('| x |\n|---|',)*3 and type(t._repr_markdown_()) is str

# ---- files

def test_write_atomic_takes_text_and_functions(tmp_path):
    write_atomic(tmp_path/'f', 'old')
    write_atomic(tmp_path/'f', lambda f: f.write(b'new'))
    assert (tmp_path/'f').read_bytes()==b'new'
    with pytest.raises(FileNotFoundError): write_atomic(tmp_path/'no'/'f', 'x')

@pytest.mark.parametrize(
    'raw,says',
    [
        ('{"epochs": ', 'is not JSON'),
        (b'\xff\xfe', 'is not JSON'),
        ('[' * 100_000, 'is not JSON'),
        (b' ' * (2**26 + 1), 'bytes'),
    ],
    ids=['cut', 'no text', 'deep', 'long'],
)
def test_read_json_refuses_in_one_line(raw, says, tmp_path):
    write_atomic(tmp_path/'broken.json', raw)
    with pytest.raises(InputError, match=f'broken.json .*{says}.*: write it again'):
        read_json(tmp_path/'broken.json', 'write it again')

def test_read_json_refuses_a_folder(tmp_path):
    with pytest.raises(InputError, match='cannot be read'): read_json(tmp_path)

# ---- figures

@pytest.fixture
def fig():
    fig,ax = plt.subplots(figsize=(2,1))
    ax.plot([1,2,4])
    yield fig
    plt.close(fig)

formats = dict(png=b'\x89PNG', jpg=b'\xff\xd8', svg=b'<?xml', pdf=b'%PDF', PDF=b'%PDF')
@pytest.mark.parametrize('kind,starts', formats.items(), ids=formats)
def test_save_figure_writes_what_the_ending_names(kind, starts, fig, tmp_path):
    save_figure(fig, tmp_path/f'a.{kind}')
    assert (tmp_path/f'a.{kind}').read_bytes().startswith(starts)

def test_save_figure_has_the_dots_per_inch_it_is_told(fig, tmp_path):
    sizes = []
    for dpi in (100,300):
        save_figure(fig, tmp_path/'a.png', dpi)
        with Image.open(tmp_path/'a.png') as img:
            assert np.allclose(img.info['dpi'], dpi, atol=0.1)
            sizes.append(img.size)
    assert np.allclose(np.divide(*sizes[::-1]), 3, rtol=0.01)

def test_save_figure_refuses_other_endings_and_no_dots(fig, tmp_path):
    with pytest.raises(InputError, match="unknown ending of a figure 'bmp': choose from png, jpg, svg, pdf"):
        save_figure(fig, tmp_path/'a.bmp')
    with pytest.raises(InputError, match='dpi is 5'): save_figure(fig, tmp_path/'a.png', 5)

# ---- progress

def test_stage_is_said_only_where_it_takes_long(monkeypatch):
    with redirect_stderr(io.StringIO()) as err:
        with stage('done at once'): pass
        with suppress(KeyError), stage('failing'): raise KeyError
        monkeypatch.setattr(core, '_patience', 0.01)
        with stage('waiting'): time.sleep(0.2)
    assert err.getvalue()=='waiting ...\n'

def in_terminal(code, columns=100):
    "What a program writes to a pseudo-terminal, and its exit code"
    here,there = pty.openpty()
    env = {**os.environ, 'PYTHONPATH': str(Path(__file__).parents[1]), 'COLUMNS': str(columns)}
    p = subprocess.Popen([sys.executable, '-c', code], stdin=there, stdout=there, stderr=there, env=env)
    os.close(there)
    out = b''
    while True:
        try: part = os.read(here, 65536)
        except OSError: break # the program has ended
        if not part: break
        out += part
    os.close(here)
    return out.decode(),p.wait(60)

def on_screen(text):
    "The lines that are seen at the end: what is written after a carriage return covers what was there"
    res = []
    for line in text.replace('\r\n', '\n').split('\n'):
        seen = ''
        for part in line.split('\r'): seen = part+seen[len(part):]
        res.append(seen.rstrip())
    return [o for o in res if o]

def test_a_bar_has_its_label_and_is_gone_at_the_end_and_after_an_error():
    out,code = in_terminal('''from cifar_fastai.core import progress
for o in progress(range(3), 'drawing maps'): pass
print('end')
try:
    for o in progress(range(3), 'drawing maps'): 1/0
except ZeroDivisionError: print('again')''')
    assert code==0 and on_screen(out)==['end', 'again'] and '3/3' in out and 'drawing maps' in out, out

def test_a_line_that_is_said_while_a_bar_is_drawn_does_not_stick_to_it():
    out,code = in_terminal('''from cifar_fastai.core import progress, say
for o in progress(range(3), 'drawing maps'):
    if o==1: say('drawing ...')
print('end')''')
    assert code==0 and on_screen(out)==['drawing ...', 'end'], out

@pytest.mark.parametrize('columns', [40, 60, 80])
def test_a_bar_fits_on_a_line_of_a_narrow_terminal(columns):
    "Else each update would leave a line; a terminal writes ^C at the end of it"
    out,code = in_terminal('''from cifar_fastai.core import progress
for o in progress(range(300), 'looking for a learning rate, which takes a while'): pass''', columns)
    drawn = re.split('[\r\n]', out)
    assert code==0 and '300/300' in out and max(map(len, drawn))<=columns-2, drawn
    assert columns==40 or 'looking' in out

def test_a_stage_is_named_in_a_terminal_where_it_takes_long():
    out,code = in_terminal('''import time
from cifar_fastai import core
core._patience = 0.1
with core.stage('reading'): time.sleep(0.4)
with core.stage('quick'): pass
print('end')''')
    assert code==0 and on_screen(out)==['reading ...', 'end'], out

# ---- threads

@pytest.mark.parametrize('env,n', [({}, 1), ({'OMP_NUM_THREADS': '2'}, 2)], ids=str)
def test_share_cores_is_inherited_unless_it_was_set(env, n):
    code = '''from cifar_fastai.core import share_cores; import os, subprocess, sys
share_cores()
assert "torch" not in sys.modules
print(os.environ['OMP_NUM_THREADS'])'''
    clean = {k: v for k,v in os.environ.items() if k!='OMP_NUM_THREADS'}
    done = subprocess.run(
        [sys.executable, '-c', code], env={**clean, **env}, capture_output=True, text=True, check=True
    )
    assert int(done.stdout)==n

def test_the_home_folder_alone_is_shortened(monkeypatch, tmp_path):
    monkeypatch.setenv('HOME', str(tmp_path)); monkeypatch.setenv('USERPROFILE', str(tmp_path))
    assert str(home_path(tmp_path/'a'/'b'))==str(Path('~/a/b')) and home_path('a/b')==Path('a/b')
    for o in (f'/mnt{tmp_path}/a', f'{tmp_path}2/a'): assert home_path(o)==Path(o)
