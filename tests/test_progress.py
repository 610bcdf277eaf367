"What is drawn in a terminal while a long stage runs, and that nothing of it is left behind"
import os, pty, subprocess, sys
from pathlib import Path

root = Path(__file__).parents[1]

def in_terminal(code):
    "What a program writes to a pseudo-terminal, and its exit code"
    here,there = pty.openpty()
    p = subprocess.Popen([sys.executable, '-c', code], stdin=there, stdout=there, stderr=there, env={**os.environ, 'PYTHONPATH': str(root), 'COLUMNS': '100'})
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
    "The lines that are seen at the end: a carriage return goes back to the first column, and what is written then covers what was there"
    res = []
    for line in text.replace('\r\n', '\n').split('\n'):
        seen = ''
        for part in line.split('\r'): seen = part+seen[len(part):]
        res.append(seen.rstrip())
    return [o for o in res if o]

def test_a_bar_has_its_label_and_is_gone_at_the_end():
    out,code = in_terminal("from cifar_fastai.progress import progress\nfor o in progress(range(3), 'drawing maps'): pass\nprint('end')")
    assert code==0 and on_screen(out)==['end'] and '3/3' in out and 'drawing maps' in out, out

def test_a_bar_is_gone_after_an_error_too():
    out,code = in_terminal("from cifar_fastai.progress import progress\ntry:\n  for o in progress(range(3), 'drawing maps'): 1/0\nexcept ZeroDivisionError: print('end')")
    assert code==0 and on_screen(out)==['end'], out

def test_a_stage_is_named_where_it_takes_long():
    out,code = in_terminal("import time\nfrom cifar_fastai.progress import stage\nwith stage('reading', after=0.05): time.sleep(0.3)\nwith stage('quick'): pass\nprint('end')")
    assert code==0 and on_screen(out)==['reading ...', 'end'], out
