"A part of a source."
from cifar_fastai.sources import Source

def part(source, at, vocab=None):
    "The images at `at`, in memory only"
    return Source(source.x[at], source.y[at], vocab or source.vocab, source.is_valid[at], name=source.name)
