"""Make README.md from nbs/index.ipynb, and its picture from the saved outputs of the walkthrough: `python
tools/readme.py`, or `--check` to compare only. (`nbdev-readme` needs the quarto binary.)"""
import os, re, sys
from base64 import b64decode
from pathlib import Path
from fastcore.nbio import read_nb

root = Path(__file__).resolve().parents[1]
target,picture = root/'README.md',root/'nbs/images/mistakes.jpg'

def output(o):
    "Markdown of one output of a cell"
    text = lambda t: t if isinstance(t, str) else ''.join(t)
    if o.output_type=='stream': return f'```\n{text(o.text).rstrip()}\n```'
    d = o.get('data', {})
    if 'text/markdown' in d: return text(d['text/markdown'])
    if 'text/plain' in d and 'text/html' not in d: return f"```\n{text(d['text/plain'])}\n```"
    return ''

def relink(src):
    """Markdown of the notebook with its relative links as seen from the root; nbs/results.md is a link to
    results/README.md, and is named so"""
    def f(m):
        path,hash,anchor = m[1].partition('#')
        if not path or ':' in path: return m[0]
        return f"]({Path(os.path.realpath(root/'nbs'/path)).relative_to(root).as_posix()}{hash}{anchor})"
    return re.sub(r'\]\(([^)\s]+)\)', f, src)

def cell(c):
    "Markdown of a cell; hidden ones give nothing"
    src = ''.join(c.source)
    if src.startswith('#| hide'): return ''
    if c.cell_type=='markdown': return relink(src)
    shown = (
        []
        if '#| echo: false' in src
        else ['```python\n' + '\n'.join(l for l in src.splitlines() if not l.startswith('#|')) + '\n```']
    )
    return '\n\n'.join([*shown, *filter(None, map(output, c.get('outputs', [])))])

def readme():
    nb = read_nb(root/'nbs/index.ipynb')
    note = '<!-- Made from nbs/index.ipynb by tools/readme.py: edit the notebook. -->'
    return '\n\n'.join([note, *filter(None, (cell(c).strip() for c in nb.cells))])+'\n'

def drawn():
    "The maps over five mistakes, as the walkthrough drew them"
    c = next(
        c
        for c in read_nb(root / 'nbs/tutorials/cifar10.ipynb').cells
        if ''.join(c.source).startswith('interp.plot_cam(wrong[:5], layer')
    )
    return b64decode(''.join(c.outputs[0]['data']['image/jpeg']))

if __name__=='__main__':
    made = {target: readme().encode(), picture: drawn()}
    if '--check' not in sys.argv:
        for f,data in made.items(): f.write_bytes(data)
    for f,data in made.items():
        if not f.exists() or f.read_bytes() != data:
            sys.exit(f'{f.relative_to(root)} differs from what the notebooks hold: run `python tools/readme.py`')
