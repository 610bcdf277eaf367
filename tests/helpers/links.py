"Links of Markdown files and notebooks: found, and followed as far as one can without a network"
import json, os, re
from pathlib import Path
from urllib.parse import unquote, urlsplit

root = Path(__file__).resolve().parents[2]
fence = re.compile(r'^ *(```+|~~~+).*?^ *\1 *$', re.M|re.S)

def text(o): return o if isinstance(o, str) else ''.join(o)

def markdown(path):
    "The Markdown of a file: all of it, or of a notebook its cells and its Markdown outputs"
    path = Path(path)
    if path.suffix!='.ipynb': return [path.read_text()]
    res = []
    for c in json.loads(path.read_text())['cells']:
        if c['cell_type']=='markdown': res.append(text(c['source']))
        res += [text(o['data']['text/markdown']) for o in c.get('outputs', []) if 'text/markdown' in o.get('data', {})]
    return res

def prose(md):
    "Markdown without what stands in code"
    return re.sub(r'(`+)(?!`).+?(?<!`)\1(?!`)', 'code', fence.sub('', md))

def targets(md):
    "Where links and pictures lead, in order"
    p = prose(md)
    found = [
        (m.start(), m[1] or m[2])
        for m in re.finditer(r'\]\(\s*(?:<([^>]*)>|((?:[^()\s]|\([^()\s]*\))*))(?:\s+"[^"]*")?\s*\)', p)
    ]
    found += [(m.start(), m[1]) for m in re.finditer(r'^\[[^]]+\]:\s*(\S+)', p, re.M)]
    found += [(m.start(), m[1]) for m in re.finditer(r'<(?:a|img)\b[^>]*?\b(?:href|src)="([^"]*)"', p)]
    found += [(m.start(), m[0].rstrip('.,;:')) for m in re.finditer(r'(?<![\w("])(?<!\(<)\w+://[^\s)>"]+', p)]
    return [t or '' for _,t in sorted(found)]

def anchors(mds):
    "What can be linked to in a page, by the rules of pandoc, which quarto uses, and of GitHub"
    res,seen = set(),{}
    for md in mds:
        for h in re.findall(r'^#{1,6}\s+(.+?)\s*#*$', fence.sub('', md), re.M):
            explicit = re.search(r'\{[^}]*#([\w.-]+)[^}]*\}$', h)
            h = (
                re.sub(r'\[([^]]*)\]\([^)]*\)', r'\1', re.sub(r'\s*\{[^}]*\}$', '', h))
                .replace('`', '')
                .replace('*', '')
            )
            slug = re.sub(r'\s+', '-', re.sub(r'[^\w\s.-]', '', h.lower()))
            for s in {re.sub(r'^[^a-z]+', '', slug), slug.replace('.', ''), explicit and explicit[1]}-{None}:
                n = seen[s] = seen.get(s, -1)+1
                res.add(f'{s}-{n}' if n else s)
        res |= set(re.findall(r'\bid="([^"]+)"', md))
    return res

def external(t):
    "What is wrong with an address outside, as far as its spelling goes"
    u = urlsplit(t)
    if u.scheme=='mailto': return None
    if u.scheme!='https': return f'{t}: not https'
    if not re.fullmatch(r'(?=.*[a-z])([a-z0-9-]+\.)+[a-z]{2,}', u.netloc): return f'{t}: no host'

def in_repo(t, repo):
    """What is wrong with a link to a file of the repository `repo` on GitHub or Colab; None where nothing is, or it
    leads elsewhere"""
    m = re.fullmatch(
        rf'https://(?:github\.com|colab\.research\.google\.com/github)/{re.escape(repo)}/blob/main/([^#?]+)(?:#L(\d+))?',
        t,
    )
    if not m: return None
    f = root/m[1]
    if not f.is_file(): return f'{t}: the repository has no file {m[1]}'
    if m[2] and int(m[2])>len(f.read_text().splitlines()): return f'{t}: {m[1]} has fewer lines'

def broken(page, within=None, site=None, repo=None):
    """What is wrong with the links of `page`, one line each. `within`: the folder that it must not lead out of
    (default: the repository);
    `site`: of a processed page, where each page of the site is, by its address from the top; `repo`: the owner/name
    of the project"""
    page = Path(page); mds = markdown(page); res = []
    within = Path(within or root)
    for t in (t for md in mds for t in targets(md)):
        path,_,anchor = t.partition('#')
        if not t: why = 'a link without a target'
        elif '://' in t or t.startswith('mailto:'): why = external(t) or (repo and in_repo(t, repo))
        elif site is not None and path.startswith('/'):
            to = site.get(path[1:])
            why = (
                f'{t}: the site has no such page'
                if to is None
                else None
                if not anchor or anchor in anchors(markdown(to))
                else f'{t}: {Path(to).name} has no such heading'
            )
        else:
            to = page if not path else Path(os.path.abspath(page.parent/unquote(path)))
            if path.startswith('/'): why = f'{t}: from the top of the machine'
            elif not to.is_relative_to(within): why = f'{t}: leads out of {within.name}/'
            elif not to.exists(): why = f'{t}: no such file'
            elif anchor and to.suffix in ('.md', '.ipynb') and anchor not in anchors(markdown(to)):
                why = f'{t}: {to.name} has no such heading'
            else: why = None
        if why: res.append(f'{page.name}: {why}')
    return res
