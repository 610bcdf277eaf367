"Prose uses the field's words and American spelling: Markdown, docstrings, messages, help and the project's pages."
import io, re, tokenize
from pathlib import Path

import pytest
from fastcore.nbio import read_nb

root = Path(__file__).resolve().parents[1]

# word: what to write instead
banned = {
    r'mend(s|ed|ing)?': 'fix',
    r'strangers?': 'out-of-distribution pictures',
    r'sp(oke|eaks?|oken) (for|against)': 'evidence for',
    r'taken for': 'predicted as',
    r'write-?ups?': 'reference notebook',
    r'anew': 'again',
    r'kin': 'variants',
    r'want of': 'lack of, out of',
    r'(go|goes|going|gone|went) on': 'resume, continue',
    r'rooms?': 'module, notebook, space',
    r'tells|told': 'reports, says, shows',
    r'(un)?colour\w*|(optim|normal|random|initial|synchron|recogn|summar|memor)is(e|es|ed|er|ers|ing|ation|ations)'
    r'|neighbour\w*|(off-)?cent(re|red|res)|grey\w*|behaviour\w*|licence\w*|labell(ed|ing)': 'American spelling',
}
pattern = re.compile(r'\b('+'|'.join(f'(?:{k})' for k in banned)+r')\b', re.I)

# Whole literals that are names in the code, not prose
names = {
    'taken for': 'a key of the tables in metrics.json and in the records',
    'strangers': 'a key of the explain records',
    'cascading_randomization': 'a key of the explain records, and the method of that name',
    'randomization_verdicts': 'a key of the explain records',
    'neighbours': 'the parameter of `label_errors`, as named in its error',
    'told': 'an element of the app\'s page',
}

def prose(text):
    "Text without code blocks, names in backticks, link targets and addresses"
    return re.sub(r'```.*?```|`[^`\n]*`|\]\([^)]*\)|https?://\S+', ' ', text, flags=re.S)

def words_of_code(path):
    "Line and text of each comment and string of a module; what stands in the braces of an f-string is code"
    middle = getattr(tokenize, 'FSTRING_MIDDLE', tokenize.STRING)
    for t in tokenize.generate_tokens(io.StringIO(path.read_text(encoding='utf-8')).readline):
        if t.type not in (tokenize.COMMENT, tokenize.STRING, middle): continue
        s = re.sub(r'^[rRbBfFuU]*["\']+|["\']+$', '', t.string)
        if s in names: continue
        if t.type == tokenize.STRING and 'f' in t.string.split('"')[0].split("'")[0].lower():
            s = re.sub(r'\{[^{}]*(\{[^{}]*\}[^{}]*)*\}', ' ', s)
        yield t.start[0],s

def texts(path):
    "Where and what: each piece of prose of a file"
    if path.suffix == '.ipynb':
        return [(f'cell {i}', c.source) for i, c in enumerate(read_nb(path).cells) if c.cell_type == 'markdown']
    if path.suffix=='.py': return list(words_of_code(path))
    return list(enumerate(path.read_text(encoding='utf-8').splitlines(), 1))

pages = [
    'README.md',
    'CHANGELOG.md',
    'CONTRIBUTING.md',
    'results/README.md',
    'nbs/llms.txt',
    'settings.ini',
    'pyproject.toml',
]
files = [
    *sorted((root / 'nbs').rglob('[!.]*.ipynb')),
    *sorted((root / 'cifar_fastai').glob('*.py')),
    *(root / o for o in pages),
]
files = [o for o in files if '.ipynb_checkpoints' not in o.parts and o.name!='_modidx.py']

def found(path):
    "Banned words of a file, each with its place"
    return [f'{path.relative_to(root)}, {at}: {m[0]!r} in {text[max(0, m.start()-40):m.end()+40].strip()!r}'
            for at,text in ((a, prose(t)) for a,t in texts(path)) for m in pattern.finditer(text)]

@pytest.mark.parametrize('path', files, ids=lambda o: str(o.relative_to(root)))
def test_no_banned_word(path):
    "A sentence that a reader sees has none of the banned words"
    assert not (res := found(path)), '\n'.join(res)

def test_banned_words_are_found(tmp_path):
    "The scan finds a word in a comment, a docstring and a message, and leaves names alone"
    f = tmp_path / 'm.py'
    f.write_text(
        '"Mended"\nx = f"two strangers {strangers}" # anew\ny = t["taken for"], "`cascading_randomization`", '
        '"mistaken for"\n'
    )
    assert [m[0] for _,t in words_of_code(f) for m in pattern.finditer(prose(t))]==['Mended','strangers','anew']
