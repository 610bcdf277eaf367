"""The whole life of a run where a bar is drawn: trained, interrupted, resumed, fitted again, its rate found, reported.
In a pseudo-terminal here; `pytest -m slow tests/test_terminal.py` has the commands themselves, and a Jupyter kernel."""
import json, os, re, signal, sys, time
import pytest
from fastai.vision.all import Callback
from cifar_fastai import recipes
from cifar_fastai.data import cifar_dls
from cifar_fastai.learner import cifar_learner, find_lr
from cifar_fastai.recipes import Recipe, resume, train
from cifar_fastai.sources import load_source
from terminal import Terminal, on_terminal, screen

small = dict(model_kw=dict(width=8), precision='fp32')

class PressCtrlC(Callback):
    "In the second epoch"
    def after_batch(self):
        if self.epoch==1 and self.iter==1 and self.training: os.kill(os.getpid(), signal.SIGINT)

def test_life_on_a_terminal(data_dir, tmp_path, monkeypatch):
    source = load_source(data_dir, size=16)
    monkeypatch.setattr(recipes, '_save_figure', lambda *args: None) # curves take longer to draw than this run to train
    r = Recipe(epochs=3, bs=50, policy='none', **small)
    with on_terminal(monkeypatch) as cut: train(r, source, tmp_path/'run', device='cpu', cbs=PressCtrlC())
    with on_terminal(monkeypatch) as rest: resume(tmp_path/'run', source)
    with on_terminal(monkeypatch) as more:
        learn = cifar_learner(cifar_dls(source, 'none', bs=50, device='cpu'), **small)
        learn.fit(1); learn.fine_tune(1); learn.tta(n=1); learn.fit(1)
        find_lr(learn, num_it=30, plot=False); learn.validate(); learn.fit(1)
    cut,rest,more = (screen(o[0]).splitlines() for o in (cut, rest, more))
    head = 'epoch +lr +train loss +acc +correct +valid loss +acc +correct +seconds +img/s'
    row = lambda e: rf' *{e} +0\.\d+ +\d+\.\d+ +\d+\.\d+% +\d+/200 +\d+\.\d+ +\d+\.\d+% +\d+/50 +\d+\.\d +\d+'
    assert re.fullmatch(r'resnet18 \(.+', cut[0]) and re.fullmatch(head, cut[1]) and re.fullmatch(row('1/3'), cut[2]), cut
    assert re.fullmatch(r'Epoch 2/3 : .+\]', cut[3]), cut # what stood there at Ctrl-C has its own line
    assert all(o.startswith('the weights that are kept are not those of the last validation') for o in cut[4:] if o), cut
    assert re.fullmatch(head, rest[0]) and re.fullmatch(row('2/3'), rest[1]) and re.fullmatch(row('3/3'), rest[2]), rest
    assert len(rest[0])==len(rest[2])<=100 and not any(rest[3:]), rest
    assert sum(bool(re.match(row('1/1'), o)) for o in more)==sum('resnet18 (' in o for o in more)==5, more

commands = [sys.executable, '-m', 'cifar_fastai.cli']

@pytest.mark.slow
def test_life_of_the_commands_on_a_terminal(data_dir, tmp_path):
    run,argv = tmp_path/'run','--bs 50 --epochs 3 --model-kw width=8 --policy none --device cpu'.split()
    with Terminal([*commands, 'train', '--source', data_dir, '--run-dir', run, *argv], cwd=tmp_path) as t:
        t.until(r' 1/3 .*\n'); t.until('Epoch 2/3'); t.ctrl_c()
        assert t.wait()==130 and 'stopped after 1 of 3 epochs' in t.screen and 'after 1 epoch in' in t.screen and 'Traceback' not in t.raw
    with Terminal([*commands, 'train', '--resume', run], cwd=tmp_path) as t:
        assert t.wait()==0 and f'report: {run}' in t.screen and 'after 3 epochs in' in t.screen and ' 3/3 ' in t.screen, t.screen
    assert json.loads((run/'metrics.json').read_text())['completed']
    with Terminal([*commands, 'lr-find', '--source', data_dir, *argv[:2], *argv[4:], '--num-it', '30'], cwd=tmp_path) as t:
        assert t.wait()==0 and 'valley' in t.screen, t.screen
    with Terminal([*commands, 'report', run], cwd=tmp_path) as t: assert t.wait()==0 and f'report: {run}' in t.screen, t.screen

class Kernel:
    "A Jupyter kernel; `run` gives what stands below a cell after all updates, as pairs of kind and text"
    def __init__(self, folder):
        from jupyter_client.manager import start_new_kernel
        self.km,self.kc = start_new_kernel(kernel_name='python3', cwd=str(folder))
    def __enter__(self): return self
    def __exit__(self, *args): self.kc.stop_channels(); self.km.shutdown_kernel(now=True)

    def run(self, code, interrupt_at=None, seconds=180):
        out,places,asked = [],{},False
        def hook(msg):
            nonlocal asked
            kind,c = msg['msg_type'],msg['content']
            if kind=='stream': out.append((c['name'], c['text']))
            if kind=='error': out.append(('error', '\n'.join(c['traceback'])))
            if kind in ('display_data','execute_result','update_display_data'):
                where = c.get('transient', {}).get('display_id')
                text = c['data'].get('text/html') or c['data'].get('text/markdown') or c['data'].get('text/plain', '')
                if kind=='update_display_data': out[places[where]] = ('display', text)
                else: places[where] = len(out); out.append(('display', text))
            if interrupt_at and not asked and re.search(interrupt_at, ''.join(o[1] for o in out)):
                asked = True
                self.km.interrupt_kernel()
        self.kc.execute_interactive(code, output_hook=hook, timeout=seconds)
        return out

def table(out): return [re.findall(r'<td>(.*?)</td>', o) for k,t in out for o in re.findall(r'<tr>(.*?)</tr>', t, re.S) if '<td>' in o]

@pytest.mark.slow
def test_life_in_a_kernel(data_dir, tmp_path):
    pytest.importorskip('ipykernel')
    with Kernel(tmp_path) as k:
        out = k.run(f'''from cifar_fastai.all import *
r,src = Recipe(epochs=3, bs=50, policy='none', model_kw=dict(width=8)),load_source({str(data_dir)!r})
class Slow(Callback):
    def after_batch(self): time.sleep(0.1)
import time
run = train(r, src, 'run', device='cpu', cbs=Slow())''', interrupt_at=r'<td>1/3</td>')
        assert not [o for o in out if o[0]=='error'], out
        assert [kind for kind,t in out if 'resnet18 (' in t or '<td>1/3' in t]==['stdout','display'], out # the network first, then its table
        assert [o[0] for o in table(out)]==['1/3'], out
        out = k.run("run = resume('run', cbs=Slow())")
        assert [o[0] for o in table(out)]==['2/3','3/3'] and all(len(o)==10 for o in table(out)), out
        out = k.run('''learn = cifar_learner(cifar_dls(src, 'none', bs=50, device='cpu'), model_kw=dict(width=8))
learn.fit(1); learn.fine_tune(1); learn.tta(n=1)
with learn.no_bar(): learn.fit(1)
found = find_lr(learn, num_it=30, plot=False)
learn.fit(1, cbs=ShowGraphCallback())''')
        assert [o[0] for o in table(out)]==['1/1']*4 and sum('epoch 1/1' in t for _,t in out)==1, out # without the bar, a line
        assert not [o for o in out if o[0]=='error'], out
        assert 'report.html' in k.run("make_report(run, n=1, device='cpu')")[-1][1]
        # an error, and Ctrl-C in a fit of the learner itself, leave the table and no bar
        out = k.run('learn.fit(9, cbs=Slow())', interrupt_at=r'<td>2/9</td>')
        assert 'KeyboardInterrupt' in out[-1][1] and [o[0] for o in table(out)]==['1/9','2/9'] and not any('<progress' in t for _,t in out), out
        assert [o[0] for o in table(k.run('learn.fit(1)'))]==['1/1']
