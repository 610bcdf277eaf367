"Training trouble: one line that says what and where, what to do, and the last good checkpoint as it was."
import errno, gc, json, multiprocessing, os, shutil, signal, subprocess, sys, time
from contextlib import suppress
import pytest, torch
from fastai.vision.all import Callback
from cifar_fastai import core, train as training
from cifar_fastai.cli import cifar_train
from cifar_fastai.data import cifar_dls
from cifar_fastai.core import InputError
from cifar_fastai.interpret import CifarInterpretation
from cifar_fastai.callbacks import FiniteLoss
from cifar_fastai.learner import cifar_learner
from cifar_fastai.runs import load_weights, lock_folder, Run
from cifar_fastai.recipes import Recipe, recipe_callbacks
from cifar_fastai.train import recipe_learner, resume, train
from cifar_fastai.shapes import shapes10
from cifar_fastai.sources import load_source
from parts import part

small = dict(bs=50, model_kw=dict(width=8), precision='fp32')
argv = '--bs 50 --model-kw width=8 --precision fp32 --device cpu --epochs 3'.split()
sha = lambda run: json.loads((run/'model.json').read_text())['weights_sha256']
last = lambda run: torch.load(run/'checkpoint/last.pt', weights_only=True)

class At(Callback):
    "Do something to the learner at a batch"

    def __init__(self, do, epoch=1, batch=1, event='before_batch', training=True):
        self.do, self.at = do, (epoch, batch, event, training)

    def before_batch(self):  self.go('before_batch')
    def after_step(self):    self.go('after_step')
    def before_backward(self): self.go('before_backward')
    def go(self, event):
        if (self.epoch,self.iter,event,bool(self.training))==self.at: self.do(self.learn)

@pytest.fixture(scope='module')
def data_dir(tmp_path_factory): return shapes10(tmp_path_factory.mktemp('few')/'set', n_train=100, n_test=20)
@pytest.fixture(scope='module')
def source(data_dir): return load_source(data_dir)

def poison(learn): next(learn.model.parameters()).data.fill_(float('nan'))
def fail(e):
    def f(learn): raise e
    return f

@pytest.fixture(scope='module')
def whole(source, tmp_path_factory):
    return train(Recipe(epochs=3, **small), source, tmp_path_factory.mktemp('whole') / 'run', device='cpu')


def one_line(capsys, code, expect):
    out,err = capsys.readouterr()
    assert code==2 and err.count('\n')==1 and 'Traceback' not in err and all(o in err for o in expect), err

# ---- the loss

def test_loss_not_finite(source, tmp_path):
    with pytest.raises(
        InputError,
        match=r'the loss became nan in epoch 2, batch 2 of 2: try a lower learning rate, '
              r'gradient clipping',
    ):
        train(Recipe(epochs=3, **small), source, tmp_path/'run', device='cpu', cbs=At(poison))
    s = last(tmp_path/'run')
    assert s['epoch']==1 and all(v.isfinite().all() for v in s['model'].values())
    assert not (tmp_path/'run/metrics.json').exists()

@pytest.mark.parametrize('kw', [{}, dict(valid_every=3)], ids=['validated','not'])
def test_weights_spoilt_by_the_last_step(kw, source, tmp_path):
    with pytest.raises(InputError, match='weights are no longer finite after epoch 2'):
        train(Recipe(epochs=3, **small, **kw), source, tmp_path/'run', device='cpu', cbs=At(poison, event='after_step'))
    assert last(tmp_path/'run')['epoch']==1

def test_first_bad_batch_is_named_at_the_end_of_the_epoch(source):
    "As on a GPU, where no single loss is looked at"
    class Later(FiniteLoss):
        def after_loss(self): self.losses.append(self.loss.detach().mean())

    learn = cifar_learner(
        cifar_dls(source, bs=20, device='cpu'),
        model_kw=dict(width=8),
        precision='fp32',
        cbs=[Later(), At(poison, 1, 2)],
    )
    with (
        learn.no_bar(),
        learn.no_logging(),
        pytest.raises(InputError, match='nan in epoch 2, batch 3 of 5: '),
    ):
        learn.fit(2, 0.01)
    assert learn.iter==4 and learn.training # the epoch was trained to its end, and not validated

def test_command_says_it_in_a_line(data_dir, tmp_path, capsys):
    one_line(
        capsys,
        cifar_train(['--source', str(data_dir), '--run-dir', str(tmp_path / 'run'), *argv, '--lr', '1e30']),
        ['the loss became ', 'in epoch 1, batch 2 of 2'],
    )


# ---- memory and loader processes

@pytest.mark.parametrize('bs,hint', [(50, 'batches of 50 images: try bs=25'), (1, 'narrower network')])
def test_out_of_memory(bs, hint, source, tmp_path):
    oom = torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has a total capacity')
    with pytest.raises(InputError, match=hint) as e:
        train(
            Recipe(epochs=1, n_train=10 if bs == 1 else None, **{**small, 'bs': bs}),
            source,
            tmp_path / 'run',
            device='cpu',
            cbs=At(fail(oom), 0, 0, 'before_backward'),
        )
    assert '\n' not in str(e.value)

def test_dead_loader_process_is_reported(source, tmp_path):
    def kill(learn): os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
    start = time.time()
    with pytest.raises(InputError, match=r'loader process died, .*continue with fewer workers') as e:
        train(
            Recipe(epochs=2, **{**small, 'bs': 4}),
            source,
            tmp_path / 'run',
            device='cpu',
            workers=2,
            cbs=At(kill, 0, 1),
        )
    assert time.time()-start<60 and '\n' not in str(e.value)
    del e; gc.collect()
    for p in multiprocessing.active_children(): p.join(20)
    assert not multiprocessing.active_children()

# ---- folders

def files_fail(monkeypatch, e, name, n):
    "The `n`-th file of this name cannot be written to its end"
    left,old = [n],os.fsync
    def fsync(fd):
        if name in os.readlink(f'/proc/self/fd/{fd}'):
            left[0] -= 1
            if left[0]==0: raise e
        old(fd)
    monkeypatch.setattr(core.os, 'fsync', fsync)

@pytest.mark.skipif(sys.platform!='linux', reason='reads /proc')
@pytest.mark.parametrize(
    'no,name,n',
    [(errno.ENOSPC, 'last.pt', 2), (errno.EACCES, 'history.csv', 2), (errno.EROFS, 'model.safetensors', 1)],
    ids=['full', 'forbidden', 'read-only'],
)
def test_folder_that_cannot_be_written(no, name, n, data_dir, tmp_path, whole, monkeypatch, capsys):
    run = tmp_path/'run'
    files_fail(monkeypatch, OSError(no, os.strerror(no)), name, n)
    one_line(
        capsys,
        cifar_train(['--source', str(data_dir), '--run-dir', str(run), *argv]),
        [os.strerror(no), str(run), 'resume'],
    )
    assert last(run)['epoch'] in (1,3) and not [*run.rglob('.*')] # whole, and nothing half-written beside it
    monkeypatch.undo()
    assert cifar_train(['--resume', str(run)])==0 and sha(run)==sha(whole)

def test_vanished_folder(source, tmp_path):
    run = tmp_path/'run'
    with pytest.raises(InputError, match=f'folder {run} is gone'):
        train(Recipe(epochs=3, **small), source, run, device='cpu', cbs=At(lambda learn: shutil.rmtree(run)))
    assert not run.exists()

def test_config_cannot_be_written(source, tmp_path, monkeypatch):
    monkeypatch.setattr(core.os, 'replace', lambda a,b: fail(OSError(errno.EACCES, 'Permission denied'))(None))
    with pytest.raises(InputError, match='cannot be written .Permission denied'):
        train(Recipe(epochs=1, **small), source, tmp_path / 'run', device='cpu')
    assert not [*(tmp_path/'run').iterdir()]
    monkeypatch.undo()
    train(Recipe(epochs=1, **small), source, tmp_path/'run', device='cpu') # the empty folder is in nobody's way

@pytest.mark.slow
@pytest.mark.skipif(sys.platform!='linux' or os.geteuid()!=0, reason='mounts a small disk')
def test_really_full_disk(data_dir, tmp_path, whole, capsys, monkeypatch):
    disk = tmp_path/'disk'; disk.mkdir()
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', disk]).returncode:
        pytest.skip('mount is not allowed here')

    def fill(learn): (disk/'filler').write_bytes(b'x'*(os.statvfs(disk).f_bavail*os.statvfs(disk).f_frsize-100_000))
    try:
        spoilt(monkeypatch, fill, disk/'run', data_dir, capsys, 'No space left on device')
        (disk/'filler').unlink()
        assert cifar_train(['--resume', str(disk/'run')])==0 and sha(disk/'run')==sha(whole)
    finally: subprocess.run(['umount',disk], check=True)

@pytest.mark.slow
@pytest.mark.skipif(sys.platform!='linux' or os.geteuid()!=0, reason='makes a folder immutable, even for root')
def test_really_forbidden_folder(data_dir, tmp_path, whole, capsys, monkeypatch):
    run = tmp_path/'run'
    chattr = lambda how,*files: subprocess.run(['chattr',how,*files], check=True)
    (tmp_path/'try').mkdir()
    if shutil.which('chattr') is None or subprocess.run(['chattr', '+i', tmp_path / 'try']).returncode:
        pytest.skip('no chattr here')
    chattr('-i', tmp_path/'try')
    try:
        spoilt(
            monkeypatch,
            lambda learn: chattr('+i', run, run / 'checkpoint'),
            run,
            data_dir,
            capsys,
            'Operation not permitted',
        )
        one_line(capsys, cifar_train(['--resume', str(run)]), ['Operation not permitted'])
    finally: chattr('-i', run, run/'checkpoint')
    assert cifar_train(['--resume', str(run)])==0 and sha(run)==sha(whole)

def spoilt(monkeypatch, do, run, data_dir, capsys, why):
    "Train, and `do` something in the second epoch: the run ends with a line and keeps the checkpoint of the first"
    monkeypatch.setattr(training, 'recipe_callbacks', lambda r: [*recipe_callbacks(r), At(do)])
    one_line(capsys, cifar_train(['--source', str(data_dir), '--run-dir', str(run), *argv]), [why, 'resume'])
    assert last(run)['epoch']==1
    monkeypatch.undo()

# ---- the lock

@pytest.mark.skipif(sys.platform!='linux', reason='the lock of a run folder is that of POSIX')
def test_run_folder_of_a_living_run(source, tmp_path, whole, capsys):
    run = tmp_path/'run'
    with suppress(KeyboardInterrupt):
        train(Recipe(epochs=3, **small), source, run, device='cpu', cbs=At(fail(KeyboardInterrupt()), 2))
    (run/'.lock').write_text('process 1 on elsewhere')  # left by a dead one, whose number may be in use again
    code = ("import fcntl, sys, time; f = open(sys.argv[1], 'r+'); fcntl.lockf(f, fcntl.LOCK_EX); "
            "print('locked', flush=True); time.sleep(600)")
    with subprocess.Popen([sys.executable, '-c', code, run/'.lock'], stdout=subprocess.PIPE) as p:
        try:
            assert p.stdout.readline()==b'locked\n'
            before = sorted(o.name for o in run.iterdir())
            one_line(capsys, cifar_train(['--resume', str(run)]), ['is in use by process 1 on elsewhere'])
            assert sorted(o.name for o in run.iterdir())==before
        finally: p.kill()
    assert cifar_train(['--resume', str(run)])==0 and sha(run)==sha(whole) and not (run/'.lock').exists()

def test_lock_of_this_process(whole):
    run = Run(whole)
    with lock_folder(run.path):
        with pytest.raises(InputError, match='in use by this process'), lock_folder(run.path): pass
        assert (whole/'.lock').read_text().startswith(f'process {os.getpid()} on ')
    assert not (whole/'.lock').exists()
    with lock_folder(run.path): pass

# ---- another network, other data

@pytest.fixture
def cut(source, tmp_path):
    "A run that was cut off in its third epoch"
    with suppress(KeyboardInterrupt):
        train(Recipe(epochs=3, **small), source, tmp_path / 'cut', device='cpu', cbs=At(fail(KeyboardInterrupt()), 2))
    assert last(tmp_path/'cut')['epoch']==2
    return tmp_path/'cut'

def change_config(run, **kw):
    c = json.loads((run/'config.json').read_text())
    (run/'config.json').write_text(json.dumps({**c, **kw, 'recipe': {**c['recipe'], **kw.get('recipe', {})}}))

def test_checkpoint_of_another_run(cut):
    for change, expect in (
        (dict(arch='resnet34'), 'of another run, whose'),
        (dict(opt='adam'), 'whose optimizer is SGD, and here Adam'),
        (dict(model_kw=dict(width=4)), 'whose stem.0.weight is 8x3x3x3, and here 4x3x3x3'),
        (dict(epochs=4), 'whose epochs is 3, and here 4'),
        (dict(cbs={'ema': {}}), 'whose callbacks is none, and here ema'),
    ):
        was = (cut/'config.json').read_text()
        change_config(cut, recipe=change)
        with pytest.raises(InputError, match=expect) as e: resume(cut)
        assert '\n' not in str(e.value)
        (cut/'config.json').write_text(was)

def test_a_run_is_not_resumed_on_other_images(cut, source, tmp_path, capsys):
    other = shapes10(tmp_path/'other', n_train=100, n_test=20, seed=1)
    one_line(
        capsys,
        cifar_train(['--resume', str(cut), '--source', str(other)]),
        ['are not those of the run', 'give the same'],
    )
    assert last(cut)['epoch']==2 and Run(cut).config['source']['fingerprint']==source.fingerprint
    few = load_source(other); few.vocab = ('cat',)*10
    with pytest.raises(InputError, match='are not those of the run'): resume(cut, few)

def test_image_folder_that_changed_by_itself(data_dir, tmp_path, capsys):
    images = shutil.copytree(data_dir, tmp_path/'images')
    with suppress(KeyboardInterrupt):
        train(Recipe(epochs=3, **small), images, tmp_path / 'run', device='cpu', cbs=At(fail(KeyboardInterrupt())))
    next((images/'train').rglob('*.png')).unlink()
    one_line(capsys, cifar_train(['--resume', str(tmp_path/'run')]), ['are not those of the run'])

def test_unreadable_image_left_out_before_is_left_out_again(data_dir, tmp_path):
    images = shutil.copytree(data_dir, tmp_path/'images')
    next((images/'train').rglob('*.png')).write_bytes(b'torn')
    with suppress(KeyboardInterrupt):
        train(
            Recipe(epochs=2, **{**small, 'bs': 33}),
            load_source(images, skip_bad=True),
            tmp_path / 'run',
            device='cpu',
            cbs=At(fail(KeyboardInterrupt())),
        )
    resume(tmp_path/'run')

def test_classes_that_the_network_has_not(source, whole):
    with pytest.raises(InputError, match='5 outputs, and the data 10 classes'):
        recipe_learner(Recipe(**{**small, 'model_kw': dict(width=8, n_out=5)}), source, 'cpu')
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 7))
    learn = cifar_learner(cifar_dls(source, bs=50, device='cpu'), net)
    with learn.no_bar(), learn.no_logging(), pytest.raises(InputError, match='7 outputs, and the data 10 classes'):
        learn.fit(1)
    two = part(source, source.y<2, source.vocab[:2])
    with pytest.raises(InputError, match='10 outputs, and the data 2 classes'):
        cifar_learner(cifar_dls(two, bs=10, device='cpu'), load_weights(whole)[0])


def test_missing_labels(source):
    learn = cifar_learner(cifar_dls(source, bs=50, device='cpu'), model_kw=dict(width=8))
    dl = learn.dls.test_dl(learn.dls.valid_ds.items)
    for f in (
        lambda: learn.validate(dl=dl),
        lambda: CifarInterpretation.from_learner(learn, dl=dl),
        lambda: learn.get_preds(dl=dl, with_loss=True),
    ):
        with pytest.raises(InputError, match='have no labels') as e: f()
        assert '\n' not in str(e.value)
    assert len(learn.get_preds(dl=dl)[0])==20

# ---- the same again

def test_a_run_is_trained_again_from_its_folder(whole, data_dir, tmp_path):
    again = train(whole, data_dir, tmp_path/'again', device='cpu')
    a,b = (json.loads((o/'config.json').read_text()) for o in (again, whole))
    assert sha(again)==sha(whole) and b['recipe'].pop('lr') is None and a['recipe'].pop('lr')==b['lr'] and a==b

def test_a_run_that_is_resumed_says_what_is_not_as_it_was(cut, capsys):
    c = json.loads((cut/'config.json').read_text())
    change_config(cut, versions={**c['versions'], 'torch': '2.10.0'}, threads=3)
    resume(cut)
    line = [l for l in capsys.readouterr().out.splitlines() if l.startswith('not as before')]
    threads = torch.get_num_threads()
    assert line == [
        f'not as before, so the last bits may differ: torch {torch.__version__} (was 2.10.0), threads {threads} (was 3)'
    ]


def test_run_of_images_in_memory(source, tmp_path):
    mem = part(source, slice(None))
    run = train(Recipe(epochs=1, **small), mem, tmp_path/'run', device='cpu')
    with pytest.raises(InputError, match='given in memory'): Run(run).source()
    assert Run(run).source(mem).fingerprint==mem.fingerprint

def test_deterministic(source, tmp_path):
    seen = []
    run = train(
        Recipe(epochs=1, **small),
        source,
        tmp_path / 'run',
        device='cpu',
        deterministic=True,
        cbs=At(lambda learn: seen.append(torch.are_deterministic_algorithms_enabled()), 0, 0),
    )
    assert (
        seen == [True]
        and not torch.are_deterministic_algorithms_enabled()
        and Run(run).config['deterministic'] is True
    )


@pytest.mark.cuda
def test_deterministic_on_a_gpu(source, tmp_path):
    "Every piece that a recipe can have runs with it, and gives the same weights twice"
    r = Recipe(
        epochs=3,
        bs=50,
        policy='crop4+cutout12',
        progressive_sizes=[16, 24, 32],
        cbs={'ema': {'decay': 0.9}, 'mixup': {'alpha': 0.2}},
        init='whiten',
        opt='muon',
        tta='flip_translate',
        model_kw=dict(dropout=0.1),
    )
    runs = [train(r, source, tmp_path/str(i), device='cuda', deterministic=True) for i in range(2)]
    assert sha(runs[0])==sha(runs[1])==sha(train(runs[0], source, tmp_path/'again', device='cuda', deterministic=True))
    with suppress(KeyboardInterrupt):
        train(r, source, tmp_path / 'cut', device='cuda', deterministic=True, cbs=At(fail(KeyboardInterrupt()), 2))
    assert sha(resume(tmp_path/'cut'))==sha(runs[0])

@pytest.mark.cuda
@pytest.mark.parametrize(
    'kw',
    (
        dict(cbs={'ema': {'decay': 0.9}}, policy='crop_flip_cutout'),
        dict(opt='muon', init='whiten', policy='crop4', progressive_sizes=[16, 32]),
        dict(opt='adam', policy='r4'),
    ),
)
def test_no_step_waits_for_the_gpu(source, kw):
    "The looks at the loss and the counts of the log happen once an epoch"
    r = Recipe(epochs=2, bs=50, **kw)
    learn = recipe_learner(r, source, 'cuda')
    class Strict(Callback):
        order = 100
        def before_train(self): self.n = 0
        def after_batch(self):
            self.n += 1
            torch.cuda.set_sync_debug_mode('error' if self.training and self.n<self.n_iter else 'default')
        def after_train(self): torch.cuda.set_sync_debug_mode('default')
    try:
        with learn.no_bar(): learn.fit(2, 0.01, cbs=[*recipe_callbacks(r), FiniteLoss(), Strict()])
    finally: torch.cuda.set_sync_debug_mode('default')

@pytest.mark.cuda
def test_a_real_lack_of_gpu_memory(source, tmp_path):
    gc.collect(); torch.cuda.empty_cache() # what is kept is not counted
    torch.cuda.set_per_process_memory_fraction(0.001)
    try:
        with pytest.raises(InputError, match='has not enough memory for batches of 100 images: try bs=50'):
            train(Recipe(epochs=1, bs=100), source, tmp_path / 'run', device='cuda')
    finally: torch.cuda.set_per_process_memory_fraction(1.)
