"""Mistakes of a user at the command line: one line that names the value and the remedy, exit code 2, nothing
half-written. In the messages, ... is anything."""
import io, shlex, subprocess, sys, tarfile
import numpy as np, pytest
from PIL import Image
from cifar_fastai.cli import cifar_lr_find, cifar_train, main
from messages import says, tree

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

sources = [
    (missing, 'nowhere'),
    (empty, 'empty'),
    (one_class, 'cat'),
    (textual, 'bad.jpg'),
    (truncated, 'cifar-10-python.tar.gz'),
    (text_file, 'notes.txt'),
]
options = [
    ('--bs 0', 'bs is 0'),
    ('--bs -4', 'bs is -4'),
    ('--bs 1000', 'only 200 training images'),
    ('--epochs 0', 'epochs is 0'),
    ('--epochs -1', 'epochs is -1'),
    ('--epochs two', "'two'"),
    ('--epoch 3', 'unrecognized arguments: --epoch 3; did you mean --epochs?'),
    ('--lr -0.1', 'lr is -0.1'),
    ('--lr 0', 'lr is 0'),
    ('--lr nan', 'lr is nan'),
    ('--lr inf', 'lr is inf'),
    ('--lr fast', "'fast'"),
    ('--wd -1', 'wd is -1'),
    ('--policy flp', "unknown policy 'flp'"),
    ('--arch resnet19', "unknown architecture 'resnet19'"),
    ('--opt sdg', "did you mean 'sgd'"),
    ('--sched cosine', "unknown schedule 'cosine'"),
    ('--valid 1.5', 'valid is 1.5'),
    ('--valid -1', 'valid is -1'),
    ('--valid tset', "'tset'"),
    ('--label-smoothing 1', 'label_smoothing is 1'),
    ('--precision half', "unknown precision 'half'"),
    ('--precision fp16 --device cpu', "'fp16'"),
    ('--device cuda:77', "'cuda:77'"),
    ('--device gpu', "'gpu'"),
    ('--seed -1', 'seed is -1'),
    ('--workers -1', 'workers is -1'),
    ('--nonsense', '--nonsense'),
    ('--recipe plian', "did you mean 'plain'"),
    ('--recipe nowhere.json', 'nowhere.json'),
    ('--cbs mixup=-1', 'alpha is -1'),
    ('--cbs mixup=1 cutmix=1', 'mixup'),
    ('--cbs emma=1', "did you mean 'ema'"),
    ('--progressive-sizes 4', 'progressive_sizes is 4'),
    ('--progressive-sizes big', "'big'"),
    ('--cbs early_stop=3', 'by the test images'),
    ('--cbs alternate_flip', 'no longer there'),
    ('--cbs ema=1', 'decay is 1'),
    ('--tta seven', "unknown test-time augmentation 'seven'"),
    ('--init wite', "did you mean 'whiten'"),
    ('--sched-kw speed=3', "has 'speed'"),
    ('--sched-kw pct_start=2', 'pct_start is 2'),
    ('--sched-kw pct_start', "'pct_start'"),
    ('--sched none --sched-kw div=3', 'takes none'),
    ('--model-kw depth=3', "unknown option of model_kw 'depth'"),
    ('--model-kw wdth=8', "did you mean 'width'"),
    ('--epoch 3', 'did you mean --epochs?'),
    ('--n-valid 5', 'n_valid is 5'),
    ('--compile maybe', "'maybe'"),
    ('--model-kw width=0', 'width is 0'),
    ('--opt-kw speed=3', 'refuses'),
    ('--find-kw steps=3 --lr find', "has 'steps'"),
    ('--lr find --find-kw num_it=3', 'num_it is 3'),
    ('--policy crop99', 'crop takes 1 to 31 pixels'),
    ('--cbs grad_clip=0', 'max_norm is 0'),
    ('--cbs penalty={"l1":-1}', 'l1 is -1'),
    ('--valid-every 0', 'valid_every is 0'),
    ('--resume nowhere --epochs 3', '--resume'),
    ('--loader gpu', "unknown loader 'gpu'"),
    ('--loader device --workers 2', 'workers is 2'),
]


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
    one_line(
        capsys,
        cifar_train,
        ['--source', str(data_dir), '--bs', '50', '--run-dir', str(tmp_path / 'run')],
        'not empty',
    )
    assert tree(tmp_path)==[str(tmp_path/'run'), str(tmp_path/'run/notes')]

def test_run_folder_under_a_file(data_dir, tmp_path, capsys):
    (tmp_path/'file').write_text('')
    one_line(
        capsys,
        cifar_train,
        ['--source', str(data_dir), '--bs', '50', '--device', 'cpu', '--run-dir', str(tmp_path / 'file/run')],
        'cannot be made',
    )


@pytest.mark.parametrize(
    'argv,expect',
    [
        (['--num-it', '5'], 'num_it is 5'),
        (['--num-it', 'x'], "'x'"),
        (['--end-lr', '1e-9'], 'end_lr'),
    ],
    ids=str,
)
def test_bad_lr_find(argv, expect, data_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one_line(capsys, cifar_lr_find, ['--source', str(data_dir), '--bs', '50', '--device', 'cpu', *argv], expect)
    assert tree(tmp_path)==[]

# every command, as typed after `python -m cifar_fastai.cli`; {data} is the sample data, {run} a run of it, {pic} a
# picture, {tmp} a folder of files that are no good
commands = [
    ('train --skip-bad --source nowhere', "nothing at 'nowhere': give a folder ..."),
    ('train --source shapes11', "nothing at 'shapes11': give a folder ..."),
    ('train --recipe {tmp}/list.json', 'recipe ...list.json: this is [1]: it must be the fields of a recipe by name'),
    (
        'train --recipe {tmp}/deep.json',
        '...deep.json is not JSON (...): give the name of a recipe, a run folder, or a JSON file of fields',
    ),
    (
        'train --recipe {tmp}/types.json',
        'recipe ...types.json: epochs is {}: it must be a whole number at least 1 and at most 1000000',
    ),
    (
        'train --recipe {tmp}/broken.json',
        '...broken.json is not JSON (...): give the name of a recipe, a run folder, or a JSON file of fields',
    ),
    ('train --recipe {tmp}/name.json', 'recipe ...name.json: name is 3: it must be text'),
    ('train --recipe .json', "unknown recipe '.json': choose from R1, R2, ..."),
    ('train --resume {run}', 'the run in ...run is complete: there is nothing to resume'),
    (
        'train --resume {data}',
        '...shapes/config.json cannot be read (No such file or directory): give the folder of a run that was started '
        'here',
    ),
    (
        'train --resume nowhere',
        'nowhere/config.json cannot be read (No such file or directory): give the folder of a run that was started here',
    ),
    ('train --run-dir {data}', 'run folder ...shapes already exists and is not empty: name another, or remove it'),
    (
        'train --run-dir {tmp}/broken.json',
        'run folder ...broken.json already exists and is not empty: name another, or remove it',
    ),
    (
        'train --run-dir {tmp}/broken.json/x',
        'run folder ...broken.json/x cannot be made (Not a directory): name another',
    ),
    (
        'train --run-dir /proc/nowhere/x',
        'run folder /proc/nowhere/x cannot be made (No such file or directory): name another',
    ),
    ('train --epochs', 'argument --epochs: expected one argument (see cifar-train --help)'),
    ('train --epochs 1e3', "argument --epochs: invalid int value: '1e3' (see cifar-train --help)"),
    ('train --epochs 0x10', "argument --epochs: invalid int value: '0x10' (see cifar-train --help)"),
    ('train --bs 1.5', "argument --bs: invalid int value: '1.5' (see cifar-train --help)"),
    ('train --model-kw width', "argument --model-kw: 'width' has no value: give NAME=VALUE (see cifar-train --help)"),
    ('train --model-kw width=NaN', 'width is nan: it must be a whole number at least 1 and at most 4096'),
    ('train --model-kw width=wide', "width is 'wide': it must be a whole number at least 1 and at most 4096"),
    ('train --model-kw norm=bn', "unknown norm 'bn': choose from batch, layer, ..."),
    ('train --model-kw dropout=1', 'dropout is 1: it must be a number at least 0 and below 1'),
    ('train --model-kw last_stride=0', 'last_stride is 0: it must be a whole number at least 1 and at most 2'),
    ('train --sched constant --opt-kw momentum=high', "opt_kw is {'momentum': 'high'}, which SGD refuses: ..."),
    (
        'train --sched constant --opt-kw nesterov=true momentum=0',
        "opt_kw is {'nesterov': True, 'momentum': 0}, which SGD refuses: ...",
    ),
    ('train --sched-kw moms=[1,2]', 'moms is [1, 2]: it must be 3 numbers'),
    ('train --sched-kw div=-1', 'div is -1: it must be a number above 0'),
    ('train --sched plateau --sched-kw patience=0', 'patience is 0: it must be a whole number at least 1'),
    ('train --sched plateau --sched-kw factor=1', 'factor is 1: it must be a number above 1'),
    ('train --n-train 3', 'n_train is 3: it must be a whole number at least 10 and at most 200'),
    ('train --n-train 1e9', 'n_train is 1000000000.0: it must be a whole number at least 2'),
    ('train --valid 0.01', "valid is 0.01: that takes 0 of the 20 images of 'arrow'; leave some on either side"),
    ('train --valid 0', 'valid is 0: it must be a number above 0 and below 1'),
    ('train --valid nan', 'valid is nan: it must be a number above 0 and below 1'),
    (
        'train --progressive-sizes 16,',
        "argument --progressive-sizes: invalid pixels value: '16,' (see cifar-train --help)",
    ),
    (
        'train --progressive-sizes 8.5',
        "argument --progressive-sizes: invalid pixels value: '8.5' (see cifar-train --help)",
    ),
    ('train --cbs mixup=inf', "...alpha is 'inf': it must be a number ..."),
    ('train --cbs ema=-0.1', '...decay is -0.1: it must be a number above 0 and below 1'),
    ('train --label-smoothing -0.1', 'label_smoothing is -0.1: it must be a number at least 0 and below 1'),
    ('train --cbs early_stop=0 --valid 0.2', '...patience is 0: it must be a whole number at least 1'),
    ('train --seed 1e9', "argument --seed: invalid int value: '1e9' (see cifar-train --help)"),
    ('train --seed 4294967296', 'seed is 4294967296: it must be a whole number at least 0 and at most 4294967295'),
    ('train --workers two', "workers is 'two': it must be a whole number at least 0"),
    ('train --device cuda:-1', "device 'cuda:-1' cannot be used (...): try 'cpu'"),
    ("train --device ''", "device '' cannot be used (...): try 'cpu'"),
    (
        'train --policy crop4++flip',
        "unknown policy 'crop4++flip': did you mean 'crop_flip'? choose from none, flip, ...",
    ),
    ('train --source {data} --policy cutout40', "policy 'cutout40': 'cutout40' cannot be; cutout takes 1 to 31 pixels"),
    ('train --policy translate0', "policy 'translate0': 'translate0' cannot be; translate takes 1 to 1023 pixels"),
    ('train --init whten', "unknown init 'whten': did you mean 'whiten'? choose from whiten"),
    ('train --tta Flip', "unknown test-time augmentation 'Flip': did you mean 'flip'? choose from none, flip, ..."),
    ('train --precision FP32', "unknown precision 'FP32': did you mean 'fp32'? choose from auto, fp32, ..."),
    ('train extra', 'unrecognized arguments: extra (see cifar-train --help)'),
    ('lr-find --num-it 29', 'num_it is 29: it must be a whole number at least 30'),
    ('lr-find --num-it -1', 'num_it is -1: it must be a whole number at least 30'),
    ('lr-find --start-lr 0', 'start_lr is 0.0: it must be a number above 0'),
    ('lr-find --start-lr nan', 'start_lr is nan: it must be a number above 0'),
    ('lr-find --end-lr inf', 'end_lr is inf: it must be a number above 1e-06'),
    ('lr-find --out .', "--out is '.', which is a folder: name a file in it"),
    (
        'lr-find --out {tmp}/broken.json/x.png',
        "--out is '...broken.json/x.png', but there is no folder ...: make it, or name another file",
    ),
    ('lr-find --out x.txt', "unknown ending of a figure 'txt': choose from png, jpg, svg, pdf"),
    ('lr-find --epochs 3', 'unrecognized arguments: --epochs 3 (see cifar-lr-find --help)'),
    ('lr-find --source nowhere', "nothing at 'nowhere': give a folder ..."),
    ('lr-find --recipe plian', "unknown recipe 'plian': did you mean 'plain'? choose from R1, R2, ..."),
    ('predict', 'the following arguments are required: FILE (see cifar-predict --help)'),
    ('predict nowhere.png --run {run}', 'no image at nowhere.png: check the path'),
    (
        'predict {tmp}/broken.json --run {run}',
        'cannot read image ...broken.json: not an image; save it as PNG or JPEG',
    ),
    (
        'predict {tmp}/list.json {tmp}/deep.json --run {run}',
        'cannot read image ...list.json: not an image; save it as PNG '
        'or JPEG',
    ),
    (
        'predict {pic}',
        'there is no finished run under runs/: train one with cifar-train, or name its folder',
    ),
    (
        'predict {pic} --run nowhere',
        'nowhere has no model.json: give a folder that `save_weights` or a finished run wrote',
    ),
    (
        'predict {pic} --run {data}',
        '...shapes has no model.json: give a folder that `save_weights` or a finished run wrote',
    ),
    ('predict {pic} --run {run} --k 0', 'k is 0: it must be a whole number at least 1 and at most 10'),
    ('predict {pic} --run {run} --k 11', 'k is 11: it must be a whole number at least 1 and at most 10'),
    ('predict {pic} --run {run} --k two', "argument --k: invalid int value: 'two' (see cifar-predict --help)"),
    ('predict {pic} --run {run} --resize stretch', "unknown resize 'stretch': choose from crop, squish"),
    ('predict {pic} --run {run} --device gpu', "device 'gpu' cannot be used (...): try 'cpu'"),
    ('predict {pic} --run {run} --csv .', "--csv is '.', which is a folder: name a file in it"),
    (
        'predict {tmp}/empty --run {run}',
        'no pictures: name files, or folders that have some',
    ),
    ('predict {tmp} --run {run} --nonsense', 'unrecognized arguments: --nonsense (see cifar-predict --help)'),
    ('predict /dev/zero --run {run}', 'cannot read image /dev/zero: not a file; save it as PNG or JPEG'),
    ("predict '' --run {run}", 'no pictures: name files, or folders that have some'),
    ('explain', 'the following arguments are required: FILE (see cifar-explain --help)'),
    ('explain nowhere.png --run {run}', 'no image at nowhere.png: check the path'),
    (
        'explain {pic} --run nowhere',
        'nowhere has no model.json: give a folder that `save_weights` or a finished run wrote',
    ),
    ('explain {pic} --run {run} --target cow', "unknown target class 'cow': choose from predicted, arrow, ..."),
    ('explain {pic} --run {run} --versus cow', "unknown target class 'cow': choose from predicted, arrow, ..."),
    (
        'explain {pic} --run {run} --target star --versus star',
        'target and versus are both star: their difference is empty',
    ),
    (
        'explain {pic} --run {run} --method GradCam',
        "unknown method 'GradCam': did you mean 'GradCAM'? choose from GradCAM, GradCAM++, ...",
    ),
    (
        'explain {pic} --run {run} --method EigenCAM --versus star',
        "EigenCAM has no map of one class's lead over another: use GradCAM, HiResCAM, XGradCAM",
    ),
    (
        'explain {pic} --run {run} --layer stage9',
        "unknown layer 'stage9': choose from stem (32x32), stage1 (32x32), ...",
    ),
    (
        'explain {pic} --run {run} --layer stage4',
        "the map of 'stage4' is 4x4, under 5x5, too coarse to show a place: use 'stage3' (8x8), or set allow_coarse",
    ),
    ('explain {pic} --run {run} --alpha 2', 'alpha is 2.0: it must be a number at least 0 and at most 1'),
    ('explain {pic} --run {run} --alpha nan', 'alpha is nan: it must be a number at least 0 and at most 1'),
    ('explain {pic} --run {run} --alpha x', "argument --alpha: invalid float value: 'x' (see cifar-explain --help)"),
    ('explain {pic} --run {run} --k 0', 'k is 0: it must be a whole number at least 1 and at most 10'),
    ('explain {pic} --run {run} --resize no', "unknown resize 'no': choose from crop, squish"),
    (
        'explain {pic} --run {run} --out {tmp}/broken.json',
        '...broken.json cannot be made (File exists): name another folder',
    ),
    (
        'explain {pic} --run {run} --out /proc/nowhere',
        '/proc/nowhere cannot be made (No such file or directory): name another folder',
    ),
    ('explain {pic} --run {run} --device cuda:99', "device 'cuda:99' cannot be used (...): try 'cpu'"),
    (
        'explain {tmp}/broken.json --run {run}',
        'cannot read image ...broken.json: not an image; save it as PNG or JPEG',
    ),
    (
        'explain {tmp}/empty --run {run}',
        'no pictures: name files, or folders that have some',
    ),
    ('bench acuracy', "unknown bench 'acuracy': did you mean 'accuracy'? choose from accuracy, ablate, ..."),
    ('bench accuracy --seeds 0 --source {data}', 'seeds is 0: it must be a whole number at least 1'),
    ('bench accuracy --seeds x', "argument --seeds: invalid int value: 'x' (see cifar-bench accuracy --help)"),
    (
        'bench accuracy --seed 3',
        'unrecognized arguments: --seed 3; did you mean --seeds? (see cifar-bench accuracy --help)',
    ),
    (
        'bench accuracy --recipe plian --source {data}',
        "unknown recipe 'plian': did you mean 'plain'? choose from R1, R2, ...",
    ),
    (
        'bench accuracy --recipe {tmp}/list.json --source {data}',
        'recipe ...list.json: this is [1]: it must be the fields of a recipe by name',
    ),
    ('bench accuracy --source nowhere', "nothing at 'nowhere': give a folder ..."),
    (
        'bench accuracy --epochs 0 --source {data}',
        'epochs is 0: it must be a whole number at least 1 and at most 1000000',
    ),
    (
        'bench accuracy --bs 1000 --seeds 1 --source {data}',
        'bs is 1000, but there are only 200 training images: give at most 200',
    ),
    ('bench ablate', 'the following arguments are required: --variants (see cifar-bench ablate --help)'),
    (
        'bench ablate --variants nowhere.json',
        'nowhere.json cannot be read (No such file or directory): give a JSON file: name of each variant to the '
        'fields that differ',
    ),
    (
        'bench ablate --variants {tmp}/broken.json',
        '...broken.json is not JSON (...): give a JSON file: name of each variant to the fields that differ',
    ),
    (
        'bench ablate --variants {tmp}/list.json --source {data}',
        'choices are not made on the test images: give the base a held-out part, such as valid=0.1',
    ),
    (
        'bench ablate --variants {tmp}/list.json --valid 0.2 --source {data}',
        'variants is [1]: it must be fields that differ, by the name of each variant',
    ),
    (
        'bench ablate --variants {tmp}/deep.json --valid 0.2 --source {data}',
        '...deep.json is not JSON (...): give a JSON file: name of each variant to the fields that differ',
    ),
    (
        'bench ablate --variants {tmp}/variant.json --valid 0.2 --source {data}',
        "variant 'a' is 3: it must be the fields that differ, by name",
    ),
    (
        'bench ablate --variants {tmp}/variant2.json --valid 0.2 --source {data}',
        "unknown field of variant 'a' 'lrr': did you mean 'lr'? choose from name, note, ...",
    ),
    (
        'bench ablate --variants {tmp}/variant3.json --valid 0.2 --source {data}',
        'epochs is -1: it must be a whole number at least 1 and at most 1000000',
    ),
    (
        'bench ablate --variants {tmp}/ok.json --valid 0.2 --seeds 0 --source {data}',
        'seeds is 0: it must be a whole number at least 1',
    ),
    (
        'bench ablate --variants {tmp} --valid 0.2 --source {data}',
        '... cannot be read (Is a directory): give a JSON file: name of each variant to the fields that differ',
    ),
    ('bench table nowhere', 'nowhere is not a folder: give the one that holds the records'),
    ('bench table {tmp}/records', '...records/a.json is not JSON (...): check the path'),
    (
        'bench table {tmp}/records2',
        '...records2/a.json is not a whole record (ValueError(...label, full...)): make it again with its '
        'command, or remove it',
    ),
    (
        'bench table {tmp}/records3',
        '...records3/a.json is not a whole record (ValueError(...validated_on...)): make it '
        'again with its command, or remove it',
    ),
    ('bench table a b', 'unrecognized arguments: b (see cifar-bench table --help)'),
    ('bench explain', 'the following arguments are required: RUN (see cifar-bench explain --help)'),
    (
        'bench explain nowhere',
        'nowhere/config.json cannot be read (No such file or directory): give the folder of a run that was started '
        'here',
    ),
    ('bench explain {run} --n 1', 'n is 1: it must be a whole number at least 2'),
    ('bench explain {run} --n x', "argument --n: invalid int value: 'x' (see cifar-bench explain --help)"),
    (
        'bench explain {run} --methods GradCam',
        "unknown method 'GradCam': did you mean 'GradCAM'? choose from GradCAM, GradCAM++, ...",
    ),
    ('bench explain {run} --source nowhere', "nothing at 'nowhere': give a folder ..."),
    ('bench explain {run} --device gpu', "device 'gpu' cannot be used (...): try 'cpu'"),
    ('trian', "unknown command 'trian': did you mean 'train'? choose from train, lr-find, ..."),
]
texts = dict(
    list='[1]',
    deep='[' * 99_999,
    types='{"epochs": {}, "bs": []}',
    broken='{"a": ',
    name='{"name": 3}',
    variant='{"a": 3}',
    variant2='{"a": {"lrr": 1}}',
    variant3='{"a": {"epochs": -1}}',
    ok='{"a": {"epochs": 1}}',
)
records = dict(
    records='[',
    records2='{"seeds": 3, "recipe": []}',
    records3='{"seeds": [], "recipe": {"name": "R1"}, "label": "x", "full": true}',
)


@pytest.fixture(scope='module')
def no_good(tmp_path_factory):
    d = tmp_path_factory.mktemp('no-good')
    (d/'empty').mkdir()
    for k,v in texts.items(): (d/f'{k}.json').write_text(v)
    for k,v in records.items(): (d/k).mkdir(); (d/k/'a.json').write_text(v)
    return d

def argv_of(line, no_good, run_dir, data_dir):
    argv = shlex.split(
        line.format(tmp=no_good, run=run_dir, data=data_dir, pic=next((data_dir / 'test/star').glob('*.png')))
    )
    small = [
        '--source',
        str(data_dir),
        '--bs',
        '50',
        '--device',
        'cpu',
        *(['--epochs', '1'] if argv[0] == 'train' else []),
    ]
    return [
        argv[0],
        *(small if argv[0] in ('train', 'lr-find') and not {'--source', '--resume'} & set(argv) else []),
        *argv[1:],
    ]


def test_all_differ(): assert len({c for c,_ in commands})==len(commands)

@pytest.mark.parametrize('line,expect', commands, ids=[c for c,_ in commands])
def test_bad_command(line, expect, no_good, run_dir, data_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = tree(no_good)+tree(run_dir)
    try: code = main(argv_of(line, no_good, run_dir, data_dir))
    except SystemExit as e: code = e.code
    out,err = capsys.readouterr()
    assert (code,out)==(2,'') and err[-1:]=='\n', err
    says(err[:-1], '...: error: '+expect)
    assert tree(tmp_path)==[] and tree(no_good)+tree(run_dir)==before

@pytest.mark.parametrize('line', ['predict nowhere.png --run {run}', 'trian'])
def test_in_a_process_of_its_own(line, no_good, run_dir, data_dir, tmp_path):
    r = subprocess.run(
        [sys.executable, '-m', 'cifar_fastai.cli', *argv_of(line, no_good, run_dir, data_dir)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert r.returncode==2 and r.stdout=='' and r.stderr.count('\n')==1 and ': error: ' in r.stderr, r.stderr
    assert tree(tmp_path)==[]
