"""Make the sidebar of _quarto.yml and the lists of nbs/llms.txt from the table of nbs/reading.md: `python
tools/site.py`, or `--check` to compare only.
What stands above them in the two files is written by hand."""
import re, sys
from pathlib import Path
from fastcore.nbio import read_nb

root = Path(__file__).resolve().parents[1]

def reading_table():
    "Path below nbs/ and words of each row of the reading table, in order"
    return re.findall(r'^\| \[[^]]+\]\(([^)]+)\) \| (.+) \|$', (root/'nbs/reading.md').read_text(), re.M)

def title(path):
    "The heading of a page"
    f = root/'nbs'/path
    src = f.read_text() if f.suffix=='.md' else read_nb(f).cells[0].source
    return re.match(r'# (.+)', src)[1]

def sections():
    "Sections of the site: name, and of each page path, title and words"
    rows = [(p, title(p), words) for p,words in reading_table()]
    tutorial = lambda o: o[0].startswith('tutorials/')
    start = [('index.ipynb', 'cifar_fastai', 'installation, two commands, results, a first training'),
             ('reading.md', title('reading.md'), 'the tutorials and the notebooks of the package, a line each'),
             ('results.md', title('results.md'), 'the records: what was measured, on what, with which command')]
    layers = {'Foundations': '0', 'Images and data': '1', 'Network and training': '2', 'Understanding': '3',
              'Report, app, hub': '4', 'Experiments and commands': '56'}
    groups = [(name, [o for o in rows if o[0][0] in tens]) for name,tens in layers.items()]
    return [('Start', start), ('Tutorials', [o for o in rows if tutorial(o)]), *groups]

def output(path):
    "Where quarto puts a page; nbdev takes the number from its name"
    p = Path(path)
    return p.with_name(re.sub(r'^\d+[a-zA-Z0-9]*_', '', p.name.lower())).with_suffix('.html').as_posix()

def quarto_yml(text):
    head = re.match(r'.*?\n    contents:\n', text, re.S)[0]
    q = lambda s: "'"+s.replace("'", "''")+"'"
    page = lambda p,t: f'          - {{text: {q(t)}, href: {p}}}\n'
    return head + ''.join(
        f'      - section: {q(name)}\n        contents:\n' + ''.join(page(p, t) for p, t, _ in pages)
        for name, pages in sections()
    )


def llms_txt(text):
    link = lambda p: output(p)+('.md' if p.endswith('.ipynb') else '') # the Markdown of a page stands beside it
    head = text.split('\n## ')[0].rstrip()
    return (
        head
        + ''.join(
            f'\n\n## {name}\n\n' + '\n'.join(f'- [{t}]({link(p)}): {words}' for p, t, words in pages)
            for name, pages in sections()
        )
        + '\n'
    )


made = {'_quarto.yml': quarto_yml, 'nbs/llms.txt': llms_txt}

if __name__=='__main__':
    for name,f in made.items():
        p = root/name
        old = p.read_text(); new = f(old)
        if old==new: continue
        if '--check' in sys.argv:
            sys.exit(f'{name} differs from the table of nbs/reading.md: run `python tools/site.py`')
        p.write_text(new)
