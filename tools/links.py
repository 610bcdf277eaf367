"""Check the inner links of the built site: `python tools/links.py [FOLDER]`, by default _docs. Every link to the site
needs its file and its anchor; the exit code is 1 if one is missing."""
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlparse

class Page(HTMLParser):
    "The anchors and the links of a page"
    def __init__(self, path):
        super().__init__()
        self.path,self.anchors,self.links = path,set(),[]
        self.feed(path.read_text(encoding='utf-8', errors='replace'))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors.add(attrs.get('id'))
        self.links += [attrs[o] for o in ('href','src') if attrs.get(o)]

def missing(link, page, pages, root):
    "What a link leads to that is not there, or None"
    url = urlparse(link)
    if url.scheme or url.netloc: return None
    path,anchor = unquote(url.path),unquote(url.fragment)
    target = page.path if not path else (root/path[1:] if path[0]=='/' else page.path.parent/path).resolve()
    if target.is_dir(): target = target/'index.html'
    if not target.exists(): return 'no file'
    if anchor and target in pages and anchor not in pages[target].anchors: return 'no anchor'

def main(folder='_docs'):
    root = Path(folder).resolve()
    pages = {p: Page(p) for p in sorted(root.rglob('*.html')) if 'site_libs' not in p.parts}
    dead = [(page.path.relative_to(root), link, why) for page in pages.values() for link in page.links
            if (why := missing(link, page, pages, root))]
    for path,link,why in dead: print(f'{path}: {why}: {link}')
    print(f'{len(pages)} pages, {sum(len(o.links) for o in pages.values())} links, {len(dead)} dead')
    return int(bool(dead) or not pages)

if __name__=='__main__': sys.exit(main(*sys.argv[1:]))
