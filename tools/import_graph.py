"""Draw which module imports which: `python tools/import_graph.py` writes nbs/images/imports.svg, `--check` compares
only.
A module's row is the ten of its notebook's number. An arrow that a longer way implies is left out."""
import argparse
import ast
import re
import sys
from pathlib import Path

root = Path(__file__).resolve().parents[1]
picture = root/'nbs/images/imports.svg'

def layers():
    "The number of each module's notebook"
    found = {}
    for p in sorted((root/'nbs').glob('[0-9]*.ipynb')):
        number, name = re.match(r'(\d+)_(\w+)', p.stem).groups()
        found[name] = int(number)
    return found

def imports():
    "The modules of the package that each module imports"
    known, found = layers(), {}
    for name in known:
        tree = ast.parse((root/f'cifar_fastai/{name}.py').read_text())
        froms = [n.module or '' for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
        used = {m.removeprefix('cifar_fastai.') for m in froms}&set(known)
        found[name] = sorted(used, key=lambda m: (known[m], m))
    return found

def reach(graph, name):
    "All that a module needs, through others too"
    return set(graph[name]).union(*(reach(graph, o) for o in graph[name]))

def direct(graph):
    "The graph without the arrows that a longer way implies"
    implied = {name: set().union(*(reach(graph, o) for o in used)) for name,used in graph.items()}
    return {name: [o for o in used if o not in implied[name]] for name,used in graph.items()}

def edges():
    "Importing and imported module, as text"
    return '; '.join(f'{name} > {" ".join(used)}' for name,used in imports().items() if used)

def places(numbers):
    "Where each module stands: one row for each ten, from left to right by number"
    rows = {}
    for name,number in numbers.items(): rows.setdefault(number//10, []).append(name)
    widest = max(map(len, rows.values()))
    return {name: (widest*(i+0.5)/len(names), row) for row,names in rows.items() for i,name in enumerate(names)}

def draw():
    import matplotlib
    matplotlib.use('svg')
    import matplotlib.pyplot as plt
    matplotlib.rcParams.update({'svg.hashsalt': 'cifar_fastai', 'svg.fonttype': 'none', 'font.family': 'sans-serif'})
    spots = places(layers())
    fig, ax = plt.subplots(figsize=(9, 5))
    for name,used in direct(imports()).items():
        for other in used: _arrow(ax, spots[name], spots[other])
    for name,(x,y) in spots.items():
        box = dict(boxstyle='round,pad=0.35', facecolor='#eef3fb', edgecolor='#44648f')
        ax.text(x, y, name, ha='center', va='center', fontsize=10, bbox=box, zorder=2)
    ax.set(xlim=(0, max(x for x,_ in spots.values())+0.6), ylim=(-0.4, max(y for _,y in spots.values())+0.4))
    ax.axis('off')
    fig.savefig(picture, bbox_inches='tight', metadata={'Date': None, 'Title': 'imports', 'Description': edges()})
    plt.close(fig)

def _arrow(ax, a, b):
    "From the importing module down to the imported one; within a row it bends"
    bend = 0.25 if a[1]==b[1] else 0
    style = dict(arrowstyle='->', color='#8a97a8', lw=0.7, shrinkA=11, shrinkB=11, connectionstyle=f'arc3,rad={bend}')
    ax.annotate('', xy=b, xytext=a, arrowprops=style, zorder=1)

def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--check', action='store_true', help='compare only')
    if not p.parse_args(argv).check: return draw()
    import html
    if html.escape(edges()) not in picture.read_text():
        sys.exit(
            f'{picture.relative_to(root)} shows other imports than the package has: run python tools/import_graph.py'
        )


if __name__=='__main__': main()
