"What tests of messages share"
import re

def tree(path):
    "All that lies below a folder"
    return sorted(str(p) for p in path.rglob('*'))

def says(text, expect):
    "Check that `text` is one line, and is `expect`, where ... stands for anything"
    assert '\n' not in text and text.isprintable(), text
    assert re.fullmatch(re.escape(expect).replace(r'\.\.\.', '.*'), text), f'{text!r} is not {expect!r}'
