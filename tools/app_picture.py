"""Draws nbs/images/app.png, the picture of the page in nbs/42_app.ipynb: python tools/app_picture.py
Trains a small run on the sample data (a minute or two), serves it, and needs playwright with a Chromium
(the extras app, browser and dev)."""
import io, sys, tempfile
from pathlib import Path
from PIL import Image
from playwright.sync_api import sync_playwright
from cifar_fastai.app import make_app, serve_app
from cifar_fastai.recipes import Recipe
from cifar_fastai.train import train
from cifar_fastai.shapes import shapes10
from cifar_fastai.sources import load_source

root = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(root/'tests/helpers'))
from browser import chromium

with tempfile.TemporaryDirectory() as tmp, sync_playwright() as p:
    run = train(Recipe(epochs=4, bs=32, lr=0.05, policy='flip', model_kw=dict(width=16)),
                load_source(shapes10(n_train=1000, n_test=300)), Path(tmp)/'a-run', device='cpu')
    app,browser = make_app(run, device='cpu'),chromium(p)
    page = browser.new_page(viewport=dict(width=1200, height=900))
    page.goto(serve_app(app))
    page.get_by_role('tab', name='Mistakes').click()
    page.locator('#mistakes button').nth(2).click()
    page.wait_for_selector('#map img'); page.wait_for_timeout(2000)
    f = io.BytesIO(page.screenshot(full_page=True))
    browser.close(); app.close(verbose=False)

out = root/'nbs/images/app.png'
out.parent.mkdir(exist_ok=True)
Image.open(f).convert('RGB').quantize(256, kmeans=2).save(out, optimize=True)
print(f'{out}: {out.stat().st_size/1000:.0f} kB')
