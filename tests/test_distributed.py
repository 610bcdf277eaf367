"Several processes: the same training, each image counted once, one log and one run folder"
import json, os, socket, subprocess, sys
from collections import Counter
import pytest

pytest.importorskip('accelerate')
# Norms of single images, so that the shares of a batch do not matter: what is left is rounding.
recipe = dict(precision='fp32', model_kw=dict(width=8, norm='layer'), policy='none', epochs=2, bs=32, opt='sgd', lr=0.02, sched='linear', n_train=330, label_smoothing=0.1, ema=0.5, tta='mirror')

def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return str(s.getsockname()[1])

def launch(launcher, tmp_path, *more):
    "Two processes on the CPU; what they printed"
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    cmd = [sys.executable, '-m', *launcher, '-m', 'cifar_fastai.cli', 'train', '--source', 'shapes10', '--device', 'cpu', *more]
    res = subprocess.run(cmd, capture_output=True, text=True, cwd=tmp_path, env=env, timeout=120)
    assert res.returncode==0, res.stderr[-3000:]
    return res.stdout

def test_two_processes_train_as_one(tmp_path):
    "accelerate launch: the losses of one process up to rounding, all test images counted once, one log, one run folder"
    from cifar_fastai.recipes import make_recipe, train
    from cifar_fastai.learner import read_history
    one = read_history(train(make_recipe(recipe), 'shapes10', tmp_path/'one', device='cpu'))
    (tmp_path/'r.json').write_text(json.dumps(recipe))
    out = launch(('accelerate.commands.launch', '--multi_gpu', '--num_processes', '2', '--num_machines', '1', '--mixed_precision', 'no', '--dynamo_backend', 'no', '--main_process_port', free_port()),
                 tmp_path, '--recipe', 'r.json')
    runs = list((tmp_path/'runs').iterdir())
    assert len(runs)==1
    two = read_history(runs[0])
    assert [r['valid_n'] for r in two]==[1000, 1000]
    for a,b in zip(one, two):
        for k in ('train_loss','valid_loss'): assert abs(a[k]-b[k])<2e-3, (k, a[k], b[k])
        for k in ('train_acc','valid_acc'): assert abs(a[k]-b[k])<0.02, (k, a[k], b[k])
    said = Counter(l.split()[0] for l in out.splitlines() if l)
    assert said['epoch']==2 and said['run']==1 and said['resnet18']==1
    assert len([l for l in (runs[0]/'log.txt').read_text().splitlines() if l.startswith('epoch')])==2
    c,m = (json.loads((runs[0]/f).read_text()) for f in ('config.json','metrics.json'))
    assert c['processes']==2 and m['completed'] and m['tta']['mirror']['n']==1000 and sum(n for _,n in m['by_class'].values())==1000

@pytest.mark.slow
def test_resumed_processes(tmp_path):
    "A run of two processes that was cut off and resumed ends with the weights of one that was not"
    import hashlib
    (tmp_path/'r.json').write_text(json.dumps({**recipe, 'epochs': 3, 'policy': 'crop_flip_cutout'}))
    tr = ('torch.distributed.run', '--nproc-per-node', '2', '--master-port', free_port())
    launch(tr, tmp_path, '--recipe', 'r.json', '--run-dir', 'whole')
    cut = "import sys; from fastai.vision.all import Callback\nfrom cifar_fastai import recipes\nclass Cut(Callback):\n    order=58\n    def after_epoch(self):\n        if self.epoch==1: sys.exit(3)\nrecipes.train('r.json', 'shapes10', 'cut', device='cpu', cbs=[Cut()])"
    (tmp_path/'cut.py').write_text(cut)
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    res = subprocess.run([sys.executable, '-m', *tr, 'cut.py'], capture_output=True, text=True, cwd=tmp_path, env=env, timeout=120)
    assert res.returncode!=0 and not (tmp_path/'cut/metrics.json').exists()
    res = subprocess.run([sys.executable, '-m', *tr, '-m', 'cifar_fastai.cli', 'train', '--resume', 'cut', '--device', 'cpu'], capture_output=True, text=True, cwd=tmp_path, env=env, timeout=120)
    assert res.returncode==0, res.stderr[-3000:]
    a,b = (hashlib.sha256((tmp_path/o/'model.safetensors').read_bytes()).hexdigest() for o in ('whole','cut'))
    assert a==b
