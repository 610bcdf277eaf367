"Mistakes of a user: one line that names the value and the remedy, exit code 2, nothing half-written."
import io, os, tarfile
import numpy as np, pytest
from PIL import Image
from cifar_fastai.cli import cifar_lr_find, cifar_train, main

def tree(path): return sorted(str(p) for p in path.rglob('*'))

def folder(root, classes, n=4, split='train'):
    for c in classes:
        d = root/split/c; d.mkdir(parents=True)
        for i in range(n): Image.fromarray(np.full((32,32,3), 20*i, np.uint8)).save(d/f'{i}.png')
    return root

def missing(p):     return p/'nowhere'
def empty(p):       (p/'empty').mkdir(); return p/'empty'
def one_class(p):   return folder(p/'one', ['cat'])
def textual(p):
    d = folder(p/'textual', ['cat','dog']); (d/'train/cat/bad.jpg').write_text('not a picture')
    return d
def truncated(p):
    f = io.BytesIO()
    with tarfile.open(fileobj=f, mode='w:gz') as t:
        i = tarfile.TarInfo('cifar-10-batches-py/data_batch_1'); i.size = 100_000
        t.addfile(i, io.BytesIO(np.random.RandomState(0).bytes(100_000)))
    a = p/'cifar-10-python.tar.gz'; a.write_bytes(f.getvalue()[:50_000])
    return a
def text_file(p):   f = p/'notes.txt'; f.write_text('hello'); return f

sources = [(missing, 'nowhere'), (empty, 'empty'), (one_class, 'cat'), (textual, 'bad.jpg'), (truncated, 'cifar-10-python.tar.gz'), (text_file, 'notes.txt')]
options = [('--bs 0', 'bs is 0'), ('--bs -4', 'bs is -4'), ('--bs 1000', 'only 200 training images'), ('--epochs 0', 'epochs is 0'), ('--epochs -1', 'epochs is -1'),
    ('--epochs two', "'two'"), ('--lr -0.1', 'lr is -0.1'), ('--lr 0', 'lr is 0'), ('--lr nan', 'lr is nan'), ('--lr inf', 'lr is inf'), ('--lr fast', "'fast'"), ('--wd -1', 'wd is -1'),
    ('--policy flp', "unknown policy 'flp'"), ('--arch resnet19', "unknown architecture 'resnet19'"), ('--opt sdg', "did you mean 'sgd'"), ('--sched cosine', "unknown schedule 'cosine'"),
    ('--valid 1.5', 'valid is 1.5'), ('--valid -1', 'valid is -1'), ('--valid tset', "'tset'"), ('--label-smoothing 1', 'label_smoothing is 1'), ('--precision half', "unknown precision 'half'"),
    ('--precision fp16 --device cpu', "'fp16'"), ('--device cuda:77', "'cuda:77'"), ('--device gpu', "'gpu'"), ('--seed -1', 'seed is -1'), ('--workers -1', 'workers is -1'), ('--nonsense', '--nonsense'),
    ('--recipe plian', "did you mean 'plain'"), ('--recipe nowhere.json', 'nowhere.json'), ('--mixup -1', 'mixup is -1'), ('--mixup 1 --cutmix 1', 'use one of them'), ('--sizes 4', 'sizes is 4'), ('--sizes big', "'big'"),
    ('--early-stop 3', 'by the test images'), ('--alternate', 'alternate is on'), ('--ema 1', 'ema is 1'), ('--tta seven', "unknown test-time augmentation 'seven'"), ('--start wite', "did you mean 'whiten'"),
    ('--sched-kw speed=3', "has 'speed'"), ('--sched-kw pct_start=2', 'pct_start is 2'), ('--sched-kw pct_start', "'pct_start'"), ('--sched none --sched-kw div=3', 'takes no options'), ('--model-kw depth=3', "'depth'"),
    ('--model-kw width=0', 'width is 0'), ('--opt-kw speed=3', 'refuses'), ('--find-kw steps=3 --lr find', "has 'steps'"), ('--lr find --find-kw num_it=3', 'num_it is 3'), ('--policy crop99', 'crop takes 1 to 31 pixels'),
    ('--grad-clip 0', 'grad_clip is 0'), ('--l1 -1', 'l1 is -1'), ('--valid-every 0', 'valid_every is 0'), ('--checkpoint-every -1', 'checkpoint_every is -1'), ('--resume nowhere --epochs 3', '--resume'),
    ('--sched plateau --sched-kw monitor=valid_loss', 'by the test images'), ('--loader gpu', "unknown loader 'gpu'"), ('--loader device --workers 2', 'workers is 2')]

def one_line(capsys, f, argv, expect):
    try: code = f(argv)
    except SystemExit as e: code = e.code
    out,err = capsys.readouterr()
    assert code==2, (code, err)
    assert out=='' and err.count('\n')==1 and 'Traceback' not in err and 'error: ' in err, err
    assert expect in err, err

@pytest.mark.parametrize('make,expect', sources, ids=lambda o: getattr(o, '__name__', ''))
@pytest.mark.parametrize('cmd', [cifar_train, cifar_lr_find], ids=lambda f: f.__name__)
def test_bad_source(cmd, make, expect, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    src = make(tmp_path)
    before = tree(tmp_path)
    one_line(capsys, cmd, ['--source', str(src)], expect)
    assert tree(tmp_path)==before

@pytest.mark.parametrize('opts,expect', options, ids=[o[0] for o in options])
def test_bad_option(opts, expect, data_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = ['--source', str(data_dir), '--bs', '50', '--epochs', '1', '--device', 'cpu', *opts.split()]
    one_line(capsys, cifar_train, argv, expect)
    assert tree(tmp_path)==[]

def test_run_folder_in_use(data_dir, tmp_path, capsys):
    (tmp_path/'run').mkdir(); (tmp_path/'run/notes').write_text('mine')
    one_line(capsys, cifar_train, ['--source', str(data_dir), '--bs', '50', '--run-dir', str(tmp_path/'run')], 'not empty')
    assert tree(tmp_path)==[str(tmp_path/'run'), str(tmp_path/'run/notes')]

def test_run_folder_under_a_file(data_dir, tmp_path, capsys):
    (tmp_path/'file').write_text('')
    one_line(capsys, cifar_train, ['--source', str(data_dir), '--bs', '50', '--device', 'cpu', '--run-dir', str(tmp_path/'file/run')], 'cannot be made')

@pytest.mark.parametrize('argv,expect', [(['--num-it','5'], 'num_it is 5'), (['--num-it','x'], "'x'"), (['--end-lr','1e-9'], 'end_lr'), (['--out','no/such/dir/f.png'], 'no/such/dir')], ids=str)
def test_bad_lr_find(argv, expect, data_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one_line(capsys, cifar_lr_find, ['--source', str(data_dir), '--bs', '50', '--device', 'cpu', *argv], expect)
    assert tree(tmp_path)==[]

def test_unknown_command(capsys): one_line(capsys, main, ['trian'], 'trian')
