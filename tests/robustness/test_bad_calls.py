"""Mistakes in calls from Python: one `InputError` of one line that names the value and the remedy; nothing written.
In the messages, ... is anything."""
import io
import albumentations as A
import numpy as np, pytest
from PIL import Image
import cifar_fastai.all as everything
from cifar_fastai import core
from cifar_fastai.all import (
    CifarInterpretation,
    InputError,
    ImageClassifier,
    Recipe,
    cifar_dls,
    cifar_learner,
    read_history,
    torch,
)
from cifar_fastai.data import pick_device
from cifar_fastai.models import ResNet, pick_precision, resnet18
from messages import says, tree
from parts import part

@pytest.fixture(scope='module')
def names(data_dir, source, run_dir):
    "What the calls below speak of"
    f = io.BytesIO()
    Image.fromarray(np.random.RandomState(0).randint(0, 255, (40, 40, 3), dtype=np.uint8)).save(f, 'PNG')
    dls = cifar_dls(source, bs=50, device='cpu')
    return {
        **vars(core),
        **vars(everything),
        **dict(
            ResNet=ResNet,
            resnet18=resnet18,
            part=part,
            pick_device=pick_device,
            pick_precision=pick_precision,
            data=data_dir,
            source=source,
            run=run_dir,
            small=Recipe(epochs=1, bs=50, model_kw=dict(width=8)),
            dls=dls,
            learn=cifar_learner(dls, model_kw=dict(width=8)),
            interp=CifarInterpretation.from_run(run_dir, source, device='cpu'),
            clf=ImageClassifier.from_run(run_dir, 'cpu'),
            rows=read_history(run_dir),
            net=resnet18(width=8),
            xb=torch.zeros(2, 3, 32, 32),
            x=np.zeros((6, 32, 32, 3), np.uint8),
            y=np.array([0, 1] * 3),
            vocab=['cat', 'dog'],
            v=np.array([False] * 4 + [True] * 2),
            png=f.getvalue(),
            A=A,
            Image=Image,
            np=np,
            io=io,
        ),
    }


calls = [
    # errors and files
    ("one_of('policy', ['flip'], ['flip'])", "unknown policy ['flip']: choose from flip"),
    ("one_of('policy', np.zeros(3), ['flip'])", 'unknown policy array([0., 0., 0.]): choose from flip'),
    ("check_number('lr', '0.1')", "lr is '0.1': it must be a number"),
    ("check_number('lr', float('nan'))", 'lr is nan: it must be a number'),
    ("check_number('lr', True)", 'lr is True: it must be a number'),
    ("check_number('lr', None)", 'lr is None: it must be a number'),
    ("check_number('lr', 1j)", 'lr is 1j: it must be a number'),
    ("check_number('lr', np.zeros(3))", 'lr is array([0., 0., 0.]): it must be a number'),
    ("read_json('nowhere.json')", 'nowhere.json cannot be read (No such file or directory): check the path'),
    ("read_json('.')", '. cannot be read (Is a directory): check the path'),
    ("read_json('a\\0b')", 'a\\x00b is not JSON (embedded null byte): check the path'),
    # sources
    ('load_source(data, size=0)', 'size is 0: it must be a whole number at least 1 and at most 1024'),
    ('load_source(data, size=32.5)', 'size is 32.5: it must be a whole number at least 1 and at most 1024'),
    ('load_source(data, size=True)', 'size is True: it must be a whole number at least 1 and at most 1024'),
    ("load_source(data, size='32')", "size is '32': it must be a whole number at least 1 and at most 1024"),
    ('load_source(data, size=5000)', 'size is 5000: it must be a whole number at least 1 and at most 1024'),
    ("load_source('')", "nothing at '': give a folder ..."),
    ("load_source('nowhere')", "nothing at 'nowhere': give a folder ..."),
    ('load_source(3)', "nothing at '3': give a folder ..."),
    ("load_source(['a','b'])", 'nothing at "[\'a\', \'b\']": give a folder ...'),
    ("load_source(b'abc')", 'nothing at "b\'abc\'": give a folder ...'),
    ("load_source('http://x.org/cifar.tgz')", "nothing at 'http://x.org/cifar.tgz': give a folder ..."),
    ("load_source('x'*5000)", "nothing at 'xxxxx...xxx...: give a folder train/<class>/* ..."),
    (
        "load_source('/dev/null')",
        'cannot list /dev/null: Not a directory; give a folder or an archive that you may read',
    ),
    (
        'Source(x.astype(float), y, vocab, v)',
        'x is float64 of shape (6, 32, 32, 3): it must be uint8, N x size x size x 3',
    ),
    ('Source(x[0], y, vocab, v)', 'x is uint8 of shape (32, 32, 3): it must be uint8, N x size x size x 3'),
    ('Source(x[:,:20], y, vocab, v)', 'x is uint8 of shape (6, 20, 32, 3): it must be uint8, N x size x size x 3'),
    ('Source(x[...,:1], y, vocab, v)', 'x is uint8 of shape (6, 32, 32, 1): it must be uint8, N x size x size x 3'),
    ('Source(None, y, vocab, v)', 'x is object of shape (): it must be uint8, N x size x size x 3'),
    ("Source(x, ['cat']*6, vocab, v)", 'y is <U3 (6,), is_valid bool (6,), items 6: each of 6 images needs ...'),
    ('Source(x, y+0.5, vocab, v)', 'y is float64 (6,), is_valid bool (6,), items 6: each of 6 images needs ...'),
    ("Source(x, y*float('nan'), vocab, v)", 'y is float64 (6,), is_valid bool (6,), items 6: each of 6 images needs ...'),
    ('Source(x, y-1, vocab, v)', 'y is int64 (6,), is_valid bool (6,), items 6: each of 6 images needs ...'),
    ('Source(x, y+2, vocab, v)', 'y is int64 (6,), is_valid bool (6,), items 6: each of 6 images needs ...'),
    ('Source(x, y[:,None], vocab, v)', 'y is int64 (6, 1), is_valid bool (6,), items 6: each of 6 images needs ...'),
    ('Source(x, y[:5], vocab, v)', 'y is int64 (5,), is_valid bool (6,), items 6: each of 6 images needs ...'),
    ('Source(x, y, vocab, [0,1,2,3,4,5])', 'y is int64 (6,), is_valid int64 (6,), items 6: each of 6 images needs ...'),
    ('Source(x, y, vocab, v[:5])', 'y is int64 (6,), is_valid bool (5,), items 6: each of 6 images needs ...'),
    ('Source(x, y, vocab, None)', 'y is int64 (6,), is_valid object (), items 6: each of 6 images needs ...'),
    ("Source(x, y, 'cat', v)", "vocab is 'cat': give a list of class names, each once"),
    ("Source(x, y, ['cat','cat'], v)", "vocab is ['cat', 'cat']: give a list of class names, each once"),
    ('Source(x, y, None, v)', 'vocab is None: give a list of class names, each once'),
    ("Source(x, y, vocab, v, items=['a'])", 'y is int64 (6,), is_valid bool (6,), items 1: each of 6 images needs ...'),
    ('open_image(None)', 'cannot read image None: expected str, ... not NoneType; save it as PNG or JPEG'),
    ('open_image(3)', 'cannot read image 3: expected str, ... not int; save it as PNG or JPEG'),
    (
        'open_image(torch.zeros(2,4,5))',
        'an array of uint8, shape (2, 4, 5), is not an image: give H x W, H x W x 3 or H x W x 4, as uint8, or '
        'floats from 0 to 1',
    ),
    ("open_image('')", "cannot read image '': not a file; save it as PNG or JPEG"),
    ("open_image('nowhere.png')", 'no image at nowhere.png: check the path'),
    ("open_image('.')", 'cannot read image .: not a file; save it as PNG or JPEG'),
    ("open_image('a\\0b')", 'cannot read image a\\x00b: embedded null byte; save it as PNG or JPEG'),
    ("open_image(b'')", 'cannot read image 0 bytes: not an image; save it as PNG or JPEG'),
    ("open_image(b'<html>404</html>')", 'cannot read image 16 bytes: not an image; save it as PNG or JPEG'),
    (
        "open_image(b'%!PS-Adobe-3.0 EPSF-3.0\\n%%BoundingBox: 0 0 9 9\\n')",
        'cannot read image 47 bytes: not an image; save it as PNG or JPEG',
    ),
    (
        'open_image(b\'<svg xmlns="http://www.w3.org/2000/svg"/>\')',
        'cannot read image 41 bytes: not an image; save it as PNG or JPEG',
    ),
    ("open_image('/dev/zero')", 'cannot read image /dev/zero: not a file; save it as PNG or JPEG'),
    (
        'open_image(np.zeros((4,4,3), int))',
        'an array of int64, shape (4, 4, 3), is not an image: give H x W, H x W x 3 or H x W x 4, as uint8, or '
        'floats from 0 to 1',
    ),
    (
        'open_image(np.zeros((4,4,2), np.uint8))',
        'an array of uint8, shape (4, 4, 2), is not an image: give H x W, H x W x 3 or H x W x 4, as uint8, or '
        'floats from 0 to 1',
    ),
    (
        'open_image(np.zeros((4,4,3,1), np.uint8))',
        'an array of uint8, shape (4, 4, 3, 1), is not an image: give H x W, H x W x 3 or H x W x 4, as uint8, or '
        'floats from 0 to 1',
    ),
    (
        'open_image(np.zeros(4, np.uint8))',
        'an array of uint8, shape (4,), is not an image: give H x W, H x W x 3 or H x W x 4, as uint8, or floats '
        'from 0 to 1',
    ),
    (
        'open_image(np.zeros((0,4,3), np.uint8))',
        'an array of uint8, shape (0, 4, 3), is not an image: give H x W, H x W x 3 or H x W x 4, as uint8, or '
        'floats from 0 to 1',
    ),
    (
        'open_image(np.full((4,4,3), 2.))',
        'an array of float64, shape (4, 4, 3), is not an image: give H x W, H x W x 3 or H x W x 4, as uint8, or floats from 0 to 1',
    ),
    (
        'open_image(np.full((4,4,3), np.nan))',
        'an array of float64, shape (4, 4, 3), is not an image: give H x W, H x W x 3 or H x W x 4, as uint8, or '
        'floats from 0 to 1',
    ),
    (
        "open_image(np.full((4,4), 'a'))",
        'an array of <U1, shape (4, 4), is not an image: give H x W, H x W x 3 or H x W x 4, as uint8, or floats '
        'from 0 to 1',
    ),
    ("open_image(Image.new('RGB', (0,4)))", 'cannot read image 0x4: it has no pixels; save it as PNG or JPEG'),
    ('open_image(Image.open(io.BytesIO(png[:-30])))', 'cannot read image 40x40: ...; save it as PNG or JPEG'),
    # shapes
    ("draw_shape('blob')", "unknown shape 'blob': choose from arrow, circle, ..."),
    ("draw_shape('star', seed=-1)", 'seed is -1: it must be a whole number at least 0 and at most 4294967295'),
    ("draw_shape('star', seed=(1,'a'))", "seed is 'a': it must be a whole number at least 0 and at most 4294967295"),
    ("draw_shape('star', size=8)", 'size is 8: it must be a whole number at least 16 and at most 128'),
    ("draw_shape('star', upto='sky')", "unknown layer 'sky': choose from object, ground, ..."),
    ("shapes10('new', n_train=5)", 'n_train is 5: it must be a whole number at least 10'),
    ("shapes10('new', n_test=True)", 'n_test is True: it must be a whole number at least 10'),
    (
        "shapes10('new', seed=2**32)",
        'seed is 4294967296: it must be a whole number at least 0 and at most 4294967295',
    ),
    ("shapes10('new', size=300)", 'size is 300: it must be a whole number at least 16 and at most 128'),
    (
        "shapes10(data/'train')",
        '...shapes/train does not hold a complete copy of this data set: give a new or empty folder, or delete it',
    ),
    (
        "shapes10(data/'train/star/00000.png')",
        '...shapes/train/star/00000.png does not hold a complete copy of this data set: give a new or empty folder, '
        'or delete it',
    ),
    ("shapes10_mask('a.png')", 'a.png has no mask: give an image of a set that `shapes10` made'),
    (
        "shapes10_mask(data/'train/star/nowhere.png')",
        '...shapes/train/star/nowhere.png has no mask: give an image of a set that `shapes10` made',
    ),
    # policies and their linter
    ("make_policy('flp')", "unknown policy 'flp': did you mean 'flip'? choose from none, flip, ..."),
    ("make_policy('')", "unknown policy '': choose from none, flip, ..."),
    ("make_policy('flip3')", "unknown policy 'flip3': did you mean 'flip'? choose from none, flip, ..."),
    ("make_policy('crop32')", "policy 'crop32': 'crop32' cannot be; crop takes 1 to 31 pixels"),
    ("make_policy('crop4+cutout0')", "policy 'crop4+cutout0': 'cutout0' cannot be; cutout takes 1 to 31 pixels"),
    ('make_policy(3)', 'policy is 3: it must be a name, a list of albumentations transforms or a Compose'),
    ("make_policy(['flip'])", "policy is 'flip': it must be a list of albumentations transforms"),
    ('make_policy([A.HorizontalFlip])', 'policy is <class ...: it must be a list of albumentations transforms'),
    ("lint_policy('flp')", "unknown policy 'flp': did you mean 'flip'? choose from none, flip, ..."),
    ('lint_policy(3)', 'policy is 3: it must be a name, a list of albumentations transforms or a Compose'),
    ("lint_policy(['flip'])", "policy is 'flip': it must be a list of albumentations transforms"),
    ("BatchAugment('flp')", "unknown policy 'flp': did you mean 'flip'? choose from none, flip, ..."),
    (
        'BatchAugment([A.GaussianBlur()])',
        "GaussianBlur is not among the transforms known here, which cannot be done for whole batches: use the loader 'cpu'",
    ),
    (
        'BatchAugment([A.Pad(padding=4)])',
        "Pad comes without a RandomCrop to 32x32 for each image, which cannot be done for whole batches: use the loader 'cpu'",
    ),
    # data
    ('split_idxs(source, 0)', 'valid is 0: it must be a number above 0 and below 1'),
    ('split_idxs(source, 1)', 'valid is 1: it must be a number above 0 and below 1'),
    ('split_idxs(source, True)', 'valid is True: it must be a number above 0 and below 1'),
    ('split_idxs(source, None)', 'valid is None: it must be a number above 0 and below 1'),
    ("split_idxs(source, 'half')", "valid is 'half': it must be a number above 0 and below 1"),
    ("split_idxs(source, float('nan'))", 'valid is nan: it must be a number above 0 and below 1'),
    (
        'split_idxs(source, 0.001)',
        "valid is 0.001: that takes 0 of the 20 images of 'arrow'; leave some on either side",
    ),
    ('split_idxs(source, n_valid=1000)', 'n_valid is 1000: it must be a whole number at least 10 and at most 50'),
    (
        "cifar_dls(source, bs=50, n_valid='50')",
        "n_valid is '50': it must be a whole number at least 10 and at most 50",
    ),
    ('split_idxs(source, n_train=3)', 'n_train is 3: it must be a whole number at least 10 and at most 200'),
    (
        'split_idxs(source, n_train=10**6)',
        'n_train is 1000000: it must be a whole number at least 10 and at most 200',
    ),
    ('split_idxs(source, n_train=50.5)', 'n_train is 50.5: it must be a whole number at least 10 and at most 200'),
    (
        'split_idxs(part(source, ~source.is_valid))',
        "valid is 'test', but shapes10 has no test images: give a share such as 0.1",
    ),
    ('cifar_dls(source, bs=0)', 'bs is 0: it must be a whole number at least 1'),
    ('cifar_dls(source, bs=True)', 'bs is True: it must be a whole number at least 1'),
    ("cifar_dls(source, bs='64')", "bs is '64': it must be a whole number at least 1"),
    (
        'cifar_dls(source, bs=1000)',
        'bs is 1000, but there are only 200 training images: give at most 200',
    ),
    ('cifar_dls(source, bs=50, seed=-1)', 'seed is -1: it must be a whole number at least 0 and at most 4294967295'),
    (
        'cifar_dls(source, bs=50, seed=2**40)',
        'seed is 1099511627776: it must be a whole number at least 0 and at most 4294967295',
    ),
    ('cifar_dls(source, bs=50, workers=-1)', 'workers is -1: it must be a whole number at least 0'),
    ('cifar_dls(source, bs=50, workers=1.5)', 'workers is 1.5: it must be a whole number at least 0'),
    ("cifar_dls(source, bs=50, device='gpu')", "device 'gpu' cannot be used (...): try 'cpu'"),
    ('cifar_dls(source, bs=50, device=[1])', "device '[1]' cannot be used (...): try 'cpu'"),
    ("cifar_dls(source, bs=50, device='cpu', loader='disk')", "unknown loader 'disk': choose from auto, cpu, ..."),
    ("cifar_dls(source, bs=50, device='cpu', loader=None)", 'unknown loader None: choose from auto, cpu, ...'),
    (
        "cifar_dls(source, bs=50, device='cpu', loader='device', workers=2)",
        "workers is 2: the loader 'device' needs none, so give 0, or the loader 'cpu'",
    ),
    (
        "cifar_dls(source, bs=50, device='cpu', policy=[A.GaussianBlur()], loader='device')",
        "GaussianBlur is not among the transforms known here, which cannot be done for whole batches: use the loader "
        "'cpu'",
    ),
    ("pick_device('gpu')", "device 'gpu' cannot be used (...): try 'cpu'"),
    ("pick_device('')", "device '' cannot be used (...): try 'cpu'"),
    ('pick_device(3.5)', "device '3.5' cannot be used (...): try 'cpu'"),
    ('ResNet((2,2))', 'n_blocks is (2, 2): it must be 4 numbers'),
    ('ResNet((2,2,0,2))', 'n_blocks is 0: it must be a whole number at least 1 and at most 200'),
    ("ResNet('2222')", "n_blocks is '2222': it must be 4 numbers"),
    ("summary(net, 'lines')", "unknown style 'lines': choose from layers, kernels, ..."),
    # tricks
    ('layer_sizes(net, size=-1)', 'size is -1: it must be a whole number at least 4'),
    ("initialize(net, 'wite')", "unknown init 'wite': did you mean 'whiten'? choose from whiten"),
    ("initialize(net, 'whiten')", 'whitening needs images, N x 3 x H x W'),
    ('initialize(net, 3)', 'init is 3: it must be a name'),
    (
        "initialize(nn.Linear(2,2), 'whiten')",
        "init 'whiten' is for the ResNets here, and this is a Linear: leave it out",
    ),
    ("initialize(net, 'whiten', torch.zeros(4,1,8,8))", 'whitening needs images, N x 3 x H x W'),
    ('EMA(0)', 'decay is 0: it must be a number above 0 and below 1'),
    ("EMA('0.9')", "decay is '0.9': it must be a number above 0 and below 1"),
    ('ValidEvery(0)', 'valid_every is 0: it must be a whole number at least 1'),
    ('Penalty(l1=-1)', 'l1 is -1: it must be a number at least 0'),
    ("Penalty(l2=float('inf'))", 'l2 is inf: it must be a number at least 0'),
    ('ProgressiveSize([4])', 'progressive_sizes is 4: it must be a whole number at least 8'),
    ('ProgressiveSize([])', 'progressive_sizes is []: it must be a list of numbers'),
    ("ProgressiveSize('32')", "progressive_sizes is '32': it must be a list of numbers"),
    ('ProgressiveSize(32)', 'progressive_sizes is 32: it must be a list of numbers'),
    ("TTA('seven')", "unknown test-time augmentation 'seven': choose from none, flip, ..."),
    # learner
    ("pick_precision('half')", "unknown precision 'half': choose from auto, fp32, ..."),
    ("pick_precision('fp16', 'cpu')", "precision is 'fp16', which is for GPUs: on cpu use 'bf16' or 'fp32'"),
    (
        "cifar_learner(dls, 'resnet19')",
        "unknown architecture 'resnet19': did you mean 'resnet18'? choose from resnet18, resnet34",
    ),
    ('cifar_learner(dls, 3)', 'arch is 3: it must be a network, or one of resnet18, resnet34'),
    ("cifar_learner(dls, opt='sdg')", "unknown optimizer 'sdg': did you mean 'sgd'? choose from sgd, adam, ..."),
    ('cifar_learner(dls, opt=3)', 'opt is 3: it must be a fastai opt_func, or one of sgd, adam, adamw, muon'),
    ('cifar_learner(dls, opt_kw=dict(speed=3))', "opt_kw is {'speed': 3}, which SGD refuses: ..."),
    (
        "cifar_learner(dls, opt='adam', opt_kw=dict(betas=[0.9]))",
        "opt_kw is {'betas': [0.9]}, which Adam refuses: ...",
    ),
    ('cifar_learner(dls, lr=0)', 'lr is 0: it must be a number above 0'),
    ("cifar_learner(dls, lr=float('nan'))", 'lr is nan: it must be a number above 0'),
    ("cifar_learner(dls, lr='0.1')", "lr is '0.1': it must be a number above 0"),
    ('cifar_learner(dls, lr=True)', 'lr is True: it must be a number above 0'),
    ('cifar_learner(dls, wd=-1)', 'wd is -1: it must be a number at least 0'),
    ('cifar_learner(dls, label_smoothing=1)', 'label_smoothing is 1: it must be a number at least 0 and below 1'),
    ("cifar_learner(dls, precision='half')", "unknown precision 'half': choose from auto, fp32, ..."),
    ("cifar_learner(dls, init='wite')", "unknown init 'wite': did you mean 'whiten'? choose from whiten"),
    (
        'cifar_learner(dls, model_kw=dict(depth=3))',
        "unknown option of model_kw 'depth': did you mean 'width'? choose from n_out, norm, ...",
    ),
    ('cifar_learner(dls, model_kw=[1])', 'model_kw is [1]: it must be options by name'),
    (
        'cifar_learner(dls, net, model_kw=dict(width=8))',
        "model_kw is {'width': 8}, but arch is a network that is built already: give its name, or leave model_kw out",
    ),
    ('cifar_learner(None)', 'dls is None: it must be a DataLoaders, such as cifar_dls gives'),
    ('find_lr(learn, start_lr=0)', 'start_lr is 0: it must be a number above 0'),
    ('find_lr(learn, start_lr=1, end_lr=0.1)', 'end_lr is 0.1: it must be a number above 1'),
    ('find_lr(learn, num_it=5)', 'num_it is 5: it must be a whole number at least 30'),
    ("find_lr(learn, num_it='x')", "num_it is 'x': it must be a whole number at least 30"),
    (
        "find_lr(learn, chosen='best')",
        "unknown suggestion 'best': did you mean 'least'? choose from valley, steep, ...",
    ),
    ("read_history('nowhere')", 'nowhere/history.csv is missing: give a run folder'),
    (
        "load_weights('nowhere')",
        'nowhere has no model.json: give a folder that `save_weights` or a finished run wrote',
    ),
    ('load_weights(data)', '...shapes has no model.json: give a folder that `save_weights` or a finished run wrote'),
    # recipes
    ('Recipe(epochs=0)', 'epochs is 0: it must be a whole number at least 1 and at most 1000000'),
    ('Recipe(epochs=1.5)', 'epochs is 1.5: it must be a whole number at least 1 and at most 1000000'),
    ('Recipe(epochs=True)', 'epochs is True: it must be a whole number at least 1 and at most 1000000'),
    ("Recipe(epochs=float('nan'))", 'epochs is nan: it must be a whole number at least 1 and at most 1000000'),
    ("Recipe(bs='128')", "bs is '128': it must be a whole number at least 1 and at most 10000000"),
    ('Recipe(bs=None)', 'bs is None: it must be a whole number at least 1 and at most 10000000'),
    ("Recipe(lr='fast')", "lr is 'fast': give a number above 0, or 'find'"),
    ('Recipe(lr=True)', 'lr is True: it must be a number above 0'),
    ('Recipe(lr=[0.1])', 'lr is [0.1]: it must be a number above 0'),
    ('Recipe(lr=-0.1)', 'lr is -0.1: it must be a number above 0'),
    ("Recipe(wd='x')", "wd is 'x': it must be a number at least 0"),
    ("Recipe(progressive_sizes='32')", "progressive_sizes is '32': it must be a list"),
    ("Recipe(progressive_sizes=['a'])", "progressive_sizes is 'a': it must be a whole number at least 8"),
    ('Recipe(progressive_sizes=[True])', 'progressive_sizes is True: it must be a whole number at least 8'),
    ('Recipe(name=3)', 'name is 3: it must be text'),
    ('Recipe(note=None)', 'note is None: it must be text'),
    ('Recipe(policy=3)', 'policy is 3: it must be a name'),
    ('Recipe(init=None)', 'init is None: it must be text'),
    ("Recipe(init='wite')", "unknown init 'wite': did you mean 'whiten'? choose from whiten"),
    ('Recipe(cbs=[1])', 'cbs is [1]: it must be options by name'),
    ("Recipe(cbs={'ema': 'yes'})", "cbs ema is 'yes': it must be its arguments by name, such as {\"decay\": 'yes'}"),
    (
        "Recipe(cbs={'emma': {}})",
        "unknown callback 'emma': did you mean 'ema'? choose from mixup, cutmix, ...",
    ),
    ("Recipe(cbs={'ema': {'rate': 1}})", "cbs ema: ...unexpected keyword argument 'rate'"),
    ('Recipe(model_kw=[1])', 'model_kw is [1]: it must be options by name'),
    ("Recipe(opt_kw='momentum')", "opt_kw is 'momentum': it must be options by name"),
    ("Recipe(opt=['sgd'])", "unknown optimizer ['sgd']: choose from sgd, adam, ..."),
    ('Recipe(arch=None)', 'unknown architecture None: choose from resnet18, resnet34'),
    ('Recipe(sched={})', 'unknown schedule {}: choose from one_cycle, linear, ...'),
    ('Recipe(sched_kw=dict(moms=3))', 'moms is 3: it must be 3 numbers'),
    ('Recipe(sched_kw=dict(moms=[1,2,3]))', 'moms is 1: it must be a number at least 0 and below 1'),
    ("Recipe(sched_kw=dict(pct_start='a'))", "pct_start is 'a': it must be a number above 0 and below 1"),
    ('Recipe(find_kw=dict(steps=3))', "find_kw has 'steps', but find_kw takes start_lr, end_lr, num_it, chosen"),
    ("Recipe(find_kw=dict(num_it=3), lr='find')", 'num_it is 3: it must be a whole number at least 30'),
    (
        "Recipe(find_kw=dict(chosen='best'), lr='find')",
        "unknown suggestion 'best': did you mean 'least'? choose from valley, steep, ...",
    ),
    ('Recipe(valid=True)', 'valid is True: it must be a number above 0 and below 1'),
    ("Recipe(valid='tset')", "valid is 'tset': it must be 'test' or a share above 0 and below 1, such as 0.1"),
    ('Recipe(valid=[0.1])', 'valid is [0.1]: it must be a number above 0 and below 1'),
    ('Recipe(valid=None)', 'valid is None: it must be a number above 0 and below 1'),
    ('Recipe(n_train=1)', 'n_train is 1: it must be a whole number at least 2'),
    ("Recipe(n_train='all')", "n_train is 'all': it must be a whole number at least 2"),
    ("Recipe(cbs={'ema': {'decay': True}})", 'cbs ema: decay is True: it must be a number above 0 and below 1'),
    ("Recipe(cbs={'grad_clip': {'max_norm': 0}})", 'cbs grad_clip: max_norm is 0: it must be a number above 0'),
    (
        "Recipe(cbs={'early_stop': {}})",
        'early_stop would choose the epoch by the test images: hold out a part of the training images with valid, '
        'such as 0.1',
    ),
    (
        "Recipe(cbs={'early_stop': {}}, valid=0.1, valid_every=2)",
        'early_stop watches every epoch, but valid_every is 2: set it to 1',
    ),
    (
        "Recipe(cbs={'mixup': {'alpha': float('nan')}})",
        'cbs mixup: alpha is nan: it must be a number above 0 and at most 100',
    ),
    ("Recipe(cbs={'mixup': {}, 'cutmix': {}})", 'cbs has mixup and cutmix: use one of them'),
    ('Recipe(label_smoothing=1)', 'label_smoothing is 1: it must be a number at least 0 and below 1'),
    ('Recipe(precision=None)', 'unknown precision None: choose from auto, fp32, ...'),
    ('Recipe(tta=2)', 'unknown test-time augmentation 2: choose from none, flip, ...'),
    ('Recipe(seed=-1)', 'seed is -1: it must be a whole number at least 0 and at most 4294967295'),
    ('Recipe(seed=2**32)', 'seed is 4294967296: it must be a whole number at least 0 and at most 4294967295'),
    ('Recipe(seed=0.5)', 'seed is 0.5: it must be a whole number at least 0 and at most 4294967295'),
    ('Recipe(model_kw=dict(width=0))', 'width is 0: it must be a whole number at least 1 and at most 4096'),
    ('Recipe(model_kw=dict(depth=3))', "unknown option of model_kw 'depth': did you mean 'width'? choose from n_out, norm, ..."),
    ('Recipe(opt_kw=dict(speed=3))', "opt_kw is {'speed': 3}, which SGD refuses: ..."),
    ('make_recipe([])', 'this is []: it must be the fields of a recipe by name'),
    ("make_recipe('plain')", "this is 'plain': it must be the fields of a recipe by name"),
    ('make_recipe(None)', 'this is None: it must be the fields of a recipe by name'),
    ("make_recipe({'lrr': 1})", "unknown field of a recipe 'lrr': did you mean 'lr'? choose from name, note, ..."),
    ("make_recipe({'base': 'plian'})", "unknown recipe 'plian': did you mean 'plain'? choose from R1, R2, ..."),
    ("make_recipe({'base': ['plain']})", "unknown recipe ['plain']: choose from R1, R2, ..."),
    ('make_recipe({1: 2})', 'unknown field of a recipe 1: choose from name, note, ...'),
    ("get_recipe('plian')", "unknown recipe 'plian': did you mean 'plain'? choose from R1, R2, ..."),
    ('get_recipe(3)', 'recipe is 3: it must be a name, a JSON file, a run folder or a Recipe'),
    ("get_recipe(['plain'])", "recipe is ['plain']: it must be a name, a JSON file, a run folder or a Recipe"),
    (
        "get_recipe('nowhere.json')",
        'nowhere.json cannot be read (No such file or directory): give the name of a recipe, a run folder, or a JSON '
        'file of fields',
    ),
    ("get_recipe('plain', lrr=1)", "unknown field of a recipe 'lrr': did you mean 'lr'? choose from name, note, ..."),
    (
        "get_recipe('plain', epochs='ten')",
        "epochs is 'ten': it must be a whole number at least 1 and at most 1000000",
    ),
    ('train(3, source)', 'recipe is 3: it must be a name, a JSON file, a run folder or a Recipe'),
    ("train('plain', source, run_dir=3)", 'run_dir is 3: it must be the path of a folder'),
    (
        'train(small, source, run_dir=data)',
        'run folder ...shapes already exists and is not empty: name another, or remove it',
    ),
    ("train(small, source, run_dir='new', workers='two')", "workers is 'two': it must be a whole number at least 0"),
    ("train(small, source, run_dir='new', device='gpu')", "device 'gpu' cannot be used (...): try 'cpu'"),
    ("train(small, 'nowhere')", "nothing at 'nowhere': give a folder ..."),
    (
        "resume('nowhere')",
        'nowhere/config.json cannot be read (No such file or directory): give the folder of a run that was started here',
    ),
    ("resume(run, source, 'cpu')", 'the run in ...run is complete: there is nothing to resume'),
    (
        'Run(data)',
        '...shapes/config.json cannot be read (No such file or directory): give the folder of a run that was started '
        'here',
    ),
    # interpretation
    (
        "CifarInterpretation.from_run('nowhere')",
        'nowhere/config.json cannot be read (No such file or directory): give the folder of a run that was started here',
    ),
    ('CifarInterpretation.from_learner(3)', 'learn is 3: it must be a Learner'),
    ('interp.misclassified(0)', 'k is 0: it must be a whole number at least 1'),
    ("interp.misclassified(3, by='size')", "unknown order 'size': choose from loss, confidence, ..."),
    ('interp.correct(1.5)', 'k is 1.5: it must be a whole number at least 1'),
    ('interp.scored([10**6])', 'item is 1000000: it must be a whole number at least 0 and at most 49'),
    ('interp.scored([0.5])', 'item is 0.5: it must be a whole number at least 0 and at most 49'),
    ('interp.scored(3)', 'items are 3: give a list of indices, with at least one'),
    ("interp.scored('cat')", "items are 'cat': give a list of indices, with at least one"),
    # maps
    (
        "interp.cam([0], method='GradCam')",
        "unknown method 'GradCam': did you mean 'GradCAM'? choose from GradCAM, GradCAM++, ...",
    ),
    ("interp.cam([0], target='cow')", "unknown target class 'cow': choose from predicted, actual, ..."),
    ('interp.cam([0], target=3)', 'unknown target class 3: choose from predicted, actual, ...'),
    ("interp.cam([0], layer='stage9')", "unknown layer 'stage9': choose from stem (32x32), stage1 (32x32), ..."),
    (
        "interp.cam([0], layer='head')",
        "'head' gives no single map: choose from stem (32x32), stage1 (32x32), ...",
    ),
    ('interp.cam([10**6])', 'item is 1000000: it must be a whole number at least 0 and at most 49'),
    (
        "interp.cam([0], method='EigenCAM', versus='actual')",
        "EigenCAM has no map of one class's lead over another: use GradCAM, ...",
    ),
    ('interp.cam([])', 'items are []: give a list of indices, with at least one'),
    ("find_layer(net, 'stage9')", "unknown layer 'stage9': choose from stem (32x32), stage1 (32x32), ..."),
    (
        "find_layer(net, 'stage4')",
        "the map of 'stage4' is 4x4, under 5x5, too coarse to show a place: use 'stage3' (8x8), or set allow_coarse",
    ),
    ('find_layer(net, 3)', "layer is 3: it must be a module path such as 'stage2'"),
    ('find_layer(net, net.stage2)', "layer is Sequential( (0): BasicBlock( ...: it must be a module path such as 'stage2'"),
    ("interp.plot_cam([0], layer=['stage1','stage2'])", "layer is ['stage1', 'stage2']: it must be a module path such as 'stage2'"),
    ('interp.plot_cam([0], 3)', 'unknown target class 3: choose from predicted, actual, ...'),
    ('show_policy(source.x[0], ncols=0)', 'ncols is 0: it must be a whole number at least 1'),
    ('interp.plot_cam([0], ncols=0)', 'ncols is 0: it must be a whole number at least 1'),
    ('interp.misclassified(3).show(ncols=0)', 'ncols is 0: it must be a whole number at least 1'),
    ("find_layer(net, 'stage1', size=0)", 'size is 0: it must be a whole number at least 4'),
    ("cam_maps(net, xb, [0], 'GradCAM')", '2 images, 1 targets: give one each'),
    ('cam_maps(net, xb, [0,99])', 'one of targets is 99: it must be a whole number at least 0 and at most 9'),
    (
        "cam_maps(net, xb, ['cat','dog'])",
        "one of targets is 'cat': it must be a whole number at least 0 and at most 9",
    ),
    ('cam_maps(net, xb, [0.5,1])', 'one of targets is 0.5: it must be a whole number at least 0 and at most 9'),
    (
        'cam_maps(net, xb[0], [0])',
        'xb is tensor(...: it must be a tensor of normalized images, N x 3 x H x W, all finite',
    ),
    (
        "cam_maps(net, xb*float('nan'), [0,1])",
        'xb is tensor(...: it must be a tensor of normalized images, N x 3 x H x W, all finite',
    ),
    (
        'cam_maps(net, x, [0]*6)',
        'xb is array(...: it must be a tensor of normalized images, N x 3 x H x W, all finite',
    ),
    ('overlay(x[0], np.zeros((32,32)), alpha=2)', 'alpha is 2: it must be a number at least 0 and at most 1'),
    # pictures
    (
        "ImageClassifier.from_run('nowhere')",
        'nowhere has no model.json: give a folder that `save_weights` or a finished run wrote',
    ),
    ("ImageClassifier.from_run(run, 'gpu')", "device 'gpu' cannot be used (...): try 'cpu'"),
    ('ImageClassifier.from_learner(3)', 'learn is 3: it must be a Learner'),
    ('clf.predict(x[0], k=0)', 'k is 0: it must be a whole number at least 1 and at most 10'),
    ('clf.predict(x[0], k=99)', 'k is 99: it must be a whole number at least 1 and at most 10'),
    ("clf.predict(x[0], resize='stretch')", "unknown resize 'stretch': choose from crop, squish"),
    ('clf.predict([None])', 'cannot read image None: expected str, ... not NoneType; save it as PNG or JPEG'),
    ("clf.predict('nowhere.png')", 'no image at nowhere.png: check the path'),
    ("clf.explain(x[0], target='cow')", "unknown target class 'cow': choose from predicted, arrow, ..."),
    ('clf.explain(x[0], target=3)', 'unknown target class 3: choose from predicted, arrow, ...'),
    ("clf.explain(x[0], target='star', versus='star')", 'target and versus are both star: their difference is empty'),
    (
        "clf.explain(x[0], method='GradCam')",
        "unknown method 'GradCam': did you mean 'GradCAM'? choose from GradCAM, GradCAM++, ...",
    ),
    (
        "clf.explain(x[0], layer='stage4')",
        "the map of 'stage4' is 4x4, under 5x5, too coarse to show a place: use 'stage3' (8x8), or set allow_coarse",
    ),
    ("clf.explain(x[0], k='a')", "k is 'a': it must be a whole number at least 1 and at most 10"),
    ("clf.explain_files([data/'test'], 'maps', alpha=2)", 'alpha is 2: it must be a number at least 0 and at most 1'),
    ("clf.explain_files([], 'maps')", 'no pictures: name files, or folders that have some'),
    ("clf.explain_files(3, 'maps')", 'paths is 3: it must be a path, or a list of them'),
    ("clf.predict_files(['nowhere.png'])", 'no image at nowhere.png: check the path'),
    ("clf.predict_files(['.'])", 'no pictures: name files, or folders that have some'),
    (
        "explain(x[0], 'nowhere')",
        'nowhere has no model.json: give a folder that `save_weights` or a finished run wrote',
    ),
    ('explain(x[0], 3)', 'network is 3: it must be a run folder, a Learner or an ImageClassifier'),
    # trust
    (
        'score_maps(torch.zeros(2,4,4), np.zeros((2,5,5), bool))',
        'maps of shape (2, 4, 4) and masks of shape (2, 5, 5): give one each, of the same size, by upsample_maps',
    ),
    (
        'score_maps(torch.zeros(2,4,4), [[1]])',
        'maps of shape (2, 4, 4) and masks of shape (1, 1): give one each, of the same size, by upsample_maps',
    ),
    ('interp.cascading_randomization(limit=2)', 'limit is 2: it must be a number at least 0 and at most 1'),
    (
        "interp.cascading_randomization(methods=('GradCam',))",
        "unknown method 'GradCam': did you mean 'GradCAM'? choose from GradCAM, GradCAM++, ...",
    ),
    ("interp.cascading_randomization(methods='GradCAM')", "methods is 'GradCAM': it must be a list of names"),
    ("interp.cascading_randomization(layers='stage1')", "layers is 'stage1': it must be a list of names"),
    ('interp.cascading_randomization(n=0)', 'n is 0: it must be a whole number at least 1 and at most 5'),
    ('interp.pointing_game(methods=())', 'methods is empty: name at least one'),
    ('interp.pointing_game(n=0)', 'n is 0: it must be a whole number at least 1 and at most 5'),
    ('interp.road(n=1)', 'n is 1: it must be a whole number at least 2'),
    ('interp.road(percentiles=(150,))', 'percentiles is 150: it must be a number above 0 and below 100'),
    ('interp.masks([10**6])', 'item is 1000000: it must be a whole number at least 0 and at most 49'),
    # diagnosis
    ('diagnose([])', 'no epoch has both a training and a validation accuracy: there is nothing to compare'),
    (
        "diagnose([{'epoch': 1}])",
        'no epoch has both a training and a validation accuracy: there is nothing to compare',
    ),
    # experiments
    ("results_table('nowhere')", 'nowhere is not a folder: give the one that holds the records'),
    (
        'ablate(Recipe(), {}, source)',
        'choices are not made on the test images: give the base a held-out part, such as valid=0.1',
    ),
    (
        'ablate(Recipe(valid=0.2), [1], source)',
        'variants is [1]: it must be fields that differ, by the name of each variant',
    ),
    ("ablate(Recipe(valid=0.2), {'a': 3}, source)", "variant 'a' is 3: it must be the fields that differ, by name"),
    (
        "ablate(Recipe(valid=0.2), {'a': {'recipe': 3}}, source)",
        "unknown field of variant 'a' 'recipe': choose from name, note, ...",
    ),
    (
        "ablate(Recipe(valid=0.2), {'a': {'lrr': 3}}, source)",
        "unknown field of variant 'a' 'lrr': did you mean 'lr'? choose from name, note, ...",
    ),
    ('ablate(Recipe(valid=0.2), {}, source, seeds=0)', 'seeds is 0: it must be a whole number at least 1'),
    ("ablation_table('nowhere.json')", 'nowhere.json cannot be read (No such file or directory): check the path'),
    ("run_seeds('plian', source, 1)", "unknown recipe 'plian': did you mean 'plain'? choose from R1, R2, ..."),
    ('run_seeds(small, source, 0)', 'seeds is 0: it must be a whole number at least 1'),
    ("run_seeds(small, source, 'two')", "seeds is 'two': it must be a whole number at least 1"),
]

def test_all_differ(): assert len({c for c,_ in calls})==len(calls)

@pytest.mark.parametrize('call,expect', calls, ids=[c for c,_ in calls])
def test_bad_call(call, expect, names, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as e: eval(call, names)
    says(str(e.value), expect)
    assert tree(tmp_path)==[]
