"What takes minutes on a CPU: `pytest -m slow`."
import json
import pytest
from cifar_fastai.recipes import Recipe, train

@pytest.mark.slow
def test_same_seed_same_weights_at_full_width(source, tmp_path):
    "Two runs with no worker and two with two: one and the same set of weights"
    recipe = Recipe(epochs=2, bs=50, policy='crop_flip_cutout')
    runs = [train(recipe, source, tmp_path/f'{w}-{i}', device='cpu', workers=w) for w in (0,2) for i in range(2)]
    assert len({json.loads((r/'model.json').read_text())['weights_sha256'] for r in runs})==1

@pytest.mark.cuda
def test_trains_on_a_gpu(source, tmp_path):
    run = train(Recipe(epochs=2, bs=50), source, tmp_path/'run', device='cuda')
    c = json.loads((run/'config.json').read_text())
    assert c['device'].startswith('cuda') and c['precision'] in ('bf16','fp16')
