"Interpretation: figures that are fastai's own, from one pass; learners of ours, of fastai's, and loaded ones"
import contextlib, io, random
from unittest.mock import patch as mock
import numpy as np, pandas as pd, pytest
from fastai.vision.all import (
    CategoryBlock,
    ClassificationInterpretation,
    ColReader,
    DataBlock,
    F,
    ImageBlock,
    ImageDataLoaders,
    Learner,
    MultiCategoryBlock,
    Normalize,
    PILImageBW,
    Resize,
    accuracy,
    imagenet_stats,
    load_learner,
    resnet18,
    torch,
    vision_learner,
)
from matplotlib import pyplot as plt
from PIL import Image
from cifar_fastai.core import InputError
from cifar_fastai.interpret import CifarInterpretation, Scored
from cifar_fastai.predict import explain
from cifar_fastai.shapes import shapes10
import cifar_fastai.cam_metrics # noqa: F401 (it adds methods)
from learners import fitted, plain_net, without_source

@pytest.fixture(scope='module')
def learn(source): return fitted(source)

@pytest.fixture(scope='module')
def interp(learn): return CifarInterpretation.from_learner(learn)

@pytest.fixture(scope='module')
def perfect(learn, interp):
    "The same items, all answered right, and sure"
    logits = torch.eye(10)[interp.targs]*9
    return CifarInterpretation(learn, interp.dl, interp.losses, None, logits, interp.targs)

def test_figures_are_fastais_own_from_one_pass(learn, interp):
    "Matrix, losses, pairs and batches equal those of `ClassificationInterpretation`; none asks the network again"
    with learn.no_bar():
        ref = ClassificationInterpretation.from_learner(learn)
        assert (ref.confusion_matrix()==interp.confusion_matrix()).all()
        assert ref.most_confused(2)==interp.most_confused(2)
    assert torch.allclose(torch.as_tensor(ref.losses), interp.losses, atol=1e-4)
    assert [o.tolist() for o in ref.top_losses(5)[1:]]==[o.tolist() for o in interp.top_losses(5)[1:]]
    for a,b in zip(interp[[3,7]], ref[[3,7]]): assert torch.allclose(a.float(), torch.as_tensor(b).float(), atol=1e-4)
    top = interp.top_losses(3, items=True)
    assert top[2][0].label==interp.vocab[interp.targs[top[1][0]]]
    with mock.object(type(learn.model), 'forward', side_effect=AssertionError('the network was asked again')):
        interp.confusion_matrix(); interp.most_confused(); interp[[1,2]]
        with contextlib.redirect_stdout(io.StringIO()): interp.print_classification_report()
        interp.plot_top_losses(4); plt.close('all')

def test_the_learner_comes_back_as_it_was(learn):
    "Modes, random states and hooks; training items are scored without augmentation, so twice the same"
    learn.model.train()
    torch.manual_seed(3)
    before = torch.get_rng_state(),random.getstate(),learn.dls.train.rng.getstate()
    a,b = (CifarInterpretation.from_learner(learn, ds_idx=0) for _ in range(2))
    assert learn.model.training and torch.equal(before[0], torch.get_rng_state())
    assert before[1:]==(random.getstate(), learn.dls.train.rng.getstate())
    assert torch.equal(a.losses, b.losses) and len(a.losses)==100

def test_a_shuffled_loader_is_scored_in_order(learn):
    "Without augmentation, pictures are the images themselves"
    mixed,items = CifarInterpretation.from_learner(learn, dl=learn.dls.train),learn.dls.train_ds.items
    assert mixed.targs.tolist()==[o.source.y[o.idx] for o in items]
    assert all((a==items[i].x).all() for i,a in zip((5,3), mixed.pictures([5,3])))

def test_a_run_is_refused_without_weights_or_with_other_images(run_dir, tmp_path):
    with pytest.raises(InputError, match='config.json cannot be read'): CifarInterpretation.from_run(tmp_path)
    with pytest.raises(InputError, match='are not those of the run'):
        CifarInterpretation.from_run(run_dir, shapes10(n_train=100, n_test=20))

def test_items_are_ordered_by_loss_by_confidence_or_drawn(interp, perfect):
    wrong = interp.misclassified(50)
    assert all(o.actual!=o.predicted for o in wrong) and all(a.loss>=b.loss for a,b in zip(wrong, wrong[1:]))
    assert wrong[0].idx==int(interp.losses.argmax())
    assert type(wrong[:3]) is type(wrong)
    assert wrong[:3].idxs==wrong.idxs[:3]
    sure = interp.misclassified(5, 'confidence')
    assert all(a.prob>=b.prob for a,b in zip(sure, sure[1:]))
    first,second = (interp.misclassified(5, 'random', o).idxs for o in (1,2))
    assert first==interp.misclassified(5, 'random', 1).idxs!=second
    assert all(o.actual==o.predicted for o in perfect.correct(10))
    with pytest.raises(InputError, match='no mistakes'): perfect.misclassified(1)
    with pytest.raises(InputError, match="did you mean 'loss'"): interp.correct(1, 'los')

def test_calibration_is_that_by_hand(perfect):
    "Two bins; and a network that is always right errs by what it is unsure"
    two = CifarInterpretation.__new__(CifarInterpretation)
    two.probs,two.targs = torch.tensor([[.85,.15],[.85,.15],[.65,.35],[.35,.65]]),torch.tensor([0,1,0,1])
    two.decoded = two.probs.argmax(1)
    df,ece = two.calibration(10)
    assert abs(ece-(2*abs(.5-.85)+2*abs(1-.65))/4)<1e-6 and df.images.tolist()==[2,2]
    assert np.allclose(df[['low','high']], [[.6,.7],[.8,.9]])
    assert abs(perfect.calibration()[1]-(1-float(perfect.probs.max(1)[0].mean())))<1e-5

def test_the_temperature_is_that_of_the_labels(interp):
    "Labels drawn with half of the logits: the network is twice too sure"
    logits = 4*torch.randn(4000, 10, generator=torch.Generator().manual_seed(0))
    y = torch.multinomial((logits/2).softmax(1), 1, generator=torch.Generator().manual_seed(1))[:,0]
    two = CifarInterpretation(interp.learn, interp.dl, torch.zeros(4000), None, logits, y)
    t,before,after = two.fit_temperature()
    assert 1.9<t<2.1 and before>0.1 and after<0.02
    assert f'a temperature of {t:.2f}' in two.describe_calibration()
    one = CifarInterpretation(interp.learn, interp.dl, torch.zeros(1), None, logits[:1], y[:1])
    assert 'temperature' not in one.describe_calibration()
    with pytest.raises(InputError, match='number of items is 1'): one.fit_temperature()

@pytest.fixture(scope='module')
def changed(interp):
    "A network that is right of all items, of which 20 have another label"
    rng = np.random.RandomState(0)
    idxs = rng.choice(50, 20, replace=False)
    targs = interp.targs.clone()
    targs[idxs] = (targs[idxs]+torch.from_numpy(rng.randint(1, 10, 20)))%10
    noise = torch.randn(50, 10, generator=torch.Generator().manual_seed(0))
    return idxs,targs,2*F.one_hot(interp.targs, 10)+noise

def with_labels(interp, logits, targs):
    losses = F.cross_entropy(logits, targs, reduction='none')
    return CifarInterpretation(interp.learn, interp.dl, losses, None, logits, targs)

def test_label_errors_are_the_mistakes_by_loss(interp, perfect, changed):
    "A network that knows better finds every changed label; one without mistakes has no label to look at"
    idxs,targs,logits = changed
    it = with_labels(interp, logits, targs)
    by_loss = [i for i in it.losses.argsort(descending=True, stable=True).tolist() if it.decoded[i]!=targs[i]]
    assert it.label_errors(50).item.tolist()==by_loss and it.label_errors(5).item.tolist()==by_loss[:5]
    assert set(with_labels(interp, 20*F.one_hot(interp.targs, 10).float(), targs).label_errors(20).item)==set(idxs)
    assert len(perfect.label_errors())==0

@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "Twenty files in two folders, of several sizes"
    path = tmp_path_factory.mktemp('files')
    g = torch.Generator().manual_seed(0)
    for i in range(20):
        x = torch.randint(0, 256, (40+i, 50, 3), generator=g, dtype=torch.uint8).numpy()
        (path/('ant','bee')[i%2]).mkdir(exist_ok=True)
        Image.fromarray(x).save(path/('ant','bee')[i%2]/f'{i}.png')
    return path

def loaders(folder, size, **kwargs):
    kwargs = dict(bs=4, device='cpu', num_workers=0, **kwargs)
    return ImageDataLoaders.from_folder(folder, valid_pct=0.5, seed=0, item_tfms=Resize(size), **kwargs)

def look(interp, n=4, **kwargs):
    "Every view of an interpretation; the maps are of the size of the images that the network takes"
    maps,xb = interp.cam(range(n), **kwargs),interp[range(n)][0]
    assert maps.shape[1:]==xb.shape[-2:] and maps.isfinite().all()
    fig = interp.plot_cam(range(n), **kwargs)
    assert len(fig.axes)==3*n+1
    interp.scored([0,1]).show(); plt.close('all')
    assert all(o.shape==(*xb.shape[-2:], 3) for o in interp.pictures(range(n)))
    interp.confusion_matrix(); interp.per_class(); interp.label_errors()
    return maps

def test_image_data_loaders_and_what_load_learner_gives(folder, tmp_path):
    """Images that are not square, statistics of another data set, a network of fastai's; the loaded one gives the
    same maps"""
    dls = loaders(folder, (40,64), batch_tfms=Normalize.from_stats(*imagenet_stats))
    learn = Learner(dls, plain_net(), metrics=accuracy)
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 0.01)
    interp = CifarInterpretation.from_learner(learn)
    assert interp.vocab==['ant','bee'] and tuple(interp[[0]][0].shape)==(1,3,40,64)
    maps = look(interp)
    learn.export(tmp_path/'learn.pkl')
    with pytest.warns(UserWarning, match='pickle'): again = load_learner(tmp_path/'learn.pkl')
    with pytest.raises(InputError, match='there are no items to interpret'): CifarInterpretation.from_learner(again)
    bare = again.dls.test_dl(interp.dl.items)
    with pytest.raises(InputError, match='the items have no labels'): CifarInterpretation.from_learner(again, dl=bare)
    loaded = CifarInterpretation.from_learner(again, dl=again.dls.test_dl(interp.dl.items, with_labels=True))
    assert loaded.vocab==interp.vocab and torch.equal(loaded.targs, interp.targs)
    assert (loaded.cam(range(4))-maps).abs().max()<=1e-5*maps.abs().max()

def test_a_vision_learner(folder):
    "A body and a head, the names of its layers are numbers"
    dls = loaders(folder, 64)
    learn = vision_learner(dls, resnet18, pretrained=False, normalize=False)
    interp = CifarInterpretation.from_learner(learn)
    assert interp.plot_cam([0]).get_suptitle().startswith('HiResCAM at 0.5\n')
    plt.close('all')

def test_classes_that_are_numbers_are_named(folder, capsys):
    "Two classes, no and yes, as many ask"
    block = DataBlock((ImageBlock, CategoryBlock), get_items=lambda p: sorted(p.glob('*/*.png')),
                      get_y=lambda f: f.parent.name=='bee', item_tfms=Resize(32))
    learn = Learner(block.dataloaders(folder, bs=4, device='cpu', num_workers=0), plain_net())
    interp = CifarInterpretation.from_learner(learn)
    look(interp)
    assert set(interp.target_idxs('True', [0,1]).tolist())=={1} and interp.scored([0])[0].actual in ('False','True')
    interp.print_classification_report()
    assert 'True' in capsys.readouterr().out and interp.most_confused()[0][0] in ('False','True')
    e = explain(sorted(folder.glob('*/*.png'))[0], learn)
    assert {c for c,_ in e.prediction.top}=={'False','True'} and sum(p for _,p in e.prediction.top)==pytest.approx(1)

def test_a_data_frame_and_one_channel(folder):
    "Items that are the rows of a data frame, gray images"
    files = sorted(folder.glob('*/*.png'))
    df = pd.DataFrame(dict(file=map(str, files), label=[o.parent.name for o in files]))
    block = DataBlock(
        (ImageBlock(PILImageBW), CategoryBlock),
        get_x=ColReader('file'),
        get_y=ColReader('label'),
        item_tfms=Resize(32),
    )
    look(
        CifarInterpretation.from_learner(
            Learner(block.dataloaders(df, bs=4, device='cpu', num_workers=0), plain_net(1))
        )
    )


def test_a_block_without_a_source(source):
    "`cifar_block` gives loaders that know no source"
    interp = CifarInterpretation.from_learner(without_source(source))
    look(interp, 2)
    assert [o for o in interp.road(('GradCAM',), ('layer2',), n=2).layer if o]==['layer2'] # beside the baselines

def test_what_is_no_classifier_is_refused(folder):
    "Several labels for an image"
    block = DataBlock((ImageBlock, MultiCategoryBlock), get_items=lambda p: sorted(p.glob('*/*.png')),
                      get_y=lambda f: [f.parent.name], item_tfms=Resize(32))
    with pytest.raises(InputError, match='only classifiers with one class for an image'):
        CifarInterpretation.from_learner(
            Learner(block.dataloaders(folder, bs=4, device='cpu', num_workers=0), plain_net())
        )

def test_items_come_in_several_ways(source):
    "A tensor of indices, an array, items, a list of any of them, and an item alone"
    interp = CifarInterpretation.from_learner(without_source(source))
    idxs = interp.top_losses(3)[1]
    for o in (idxs, idxs.numpy(), idxs.tolist(), [*idxs], [*idxs.numpy()], interp.scored(idxs), [*interp.scored(idxs)]):
        assert isinstance(interp.scored(o)[0], Scored) and interp.scored(o).idxs==idxs.tolist()
    assert len(interp.scored(range(3)))==3 and interp.scored(interp.scored(idxs)[1]).idxs==[int(idxs[1])]
    assert len(interp.plot_cam(idxs, 'predicted').axes)==7
    plt.close('all')
    with pytest.raises(InputError, match='items are'): interp.scored(torch.tensor([], dtype=torch.long))
