"Interpretation of fastai's own Learners: size and classes are those of their transforms"
import pandas as pd, pytest
from fastai.vision.all import (CategoryBlock, ColReader, DataBlock, ImageBlock, ImageDataLoaders, Learner, MultiCategoryBlock, Normalize,
    PILImageBW, Resize, accuracy, imagenet_stats, load_learner, nn, resnet18, torch, vision_learner)
from matplotlib import pyplot as plt
from PIL import Image
from cifar_fastai import cam
from cifar_fastai.data import cifar_block
from cifar_fastai.errors import InputError
from cifar_fastai.interpret import CifarInterpretation, Scored
from cifar_fastai.learner import cifar_learner
import cifar_fastai.trust # the views that it adds

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
    return ImageDataLoaders.from_folder(folder, valid_pct=0.5, seed=0, item_tfms=Resize(size), bs=4, device='cpu', num_workers=0, **kwargs)

def narrow(source):
    "A network of ours on loaders that know no source"
    return cifar_learner(cifar_block(source, 'none').dataloaders(source, bs=50, device='cpu'), model_kw=dict(width=4), precision='fp32')

def small(n_in=3, n_out=2):
    return nn.Sequential(nn.Sequential(nn.Conv2d(n_in, 8, 3, 1, 1), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(inplace=True)),
                         nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, n_out)))

def look(interp, n=4, **kwargs):
    "Every view of an interpretation; the maps are of the size of the images that the network takes"
    maps,xb = interp.cam(range(n), **kwargs),interp[range(n)][0]
    assert maps.shape[1:]==xb.shape[-2:] and maps.isfinite().all()
    fig = interp.plot_cam(range(n), **kwargs)
    assert len(fig.axes)==3*n+1
    interp.plot_stages(0); interp.scored([0,1]).show(); plt.close('all')
    assert all(o.shape==(*xb.shape[-2:], 3) for o in interp._pictures(range(n)))
    interp.confusion_matrix(); interp.per_class(); interp.tables(); interp.label_errors(neighbours=3)
    assert len(interp.features)==len(interp.targs)
    return maps

def test_image_data_loaders_and_what_load_learner_gives(folder, tmp_path):
    "Images that are not square, statistics of another data set, a network of fastai's; the loaded one gives the same maps"
    dls = loaders(folder, (40,64), batch_tfms=Normalize.from_stats(*imagenet_stats))
    learn = Learner(dls, small(), metrics=accuracy)
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
    assert interp.features.shape==(10,512)
    assert 'HiResCAM at 0.5' in [t.get_text() for t in interp.plot_cam([0]).texts]
    plt.close('all')

def test_a_data_frame_and_one_channel(folder):
    "Items that are the rows of a data frame, gray images"
    files = sorted(folder.glob('*/*.png'))
    df = pd.DataFrame(dict(file=map(str, files), label=[o.parent.name for o in files]))
    block = DataBlock((ImageBlock(PILImageBW), CategoryBlock), get_x=ColReader('file'), get_y=ColReader('label'), item_tfms=Resize(32))
    look(CifarInterpretation.from_learner(Learner(block.dataloaders(df, bs=4, device='cpu', num_workers=0), small(1))))

def test_a_block_without_a_source(source):
    "`cifar_block` gives loaders that know no source"
    interp = CifarInterpretation.from_learner(narrow(source))
    look(interp, 2)
    assert len(interp.road(('GradCAM',), ('layer2',), n=2))==2

def test_what_is_no_classifier_is_refused(folder):
    "Several labels for an image"
    block = DataBlock((ImageBlock, MultiCategoryBlock), get_items=lambda p: sorted(p.glob('*/*.png')),
                      get_y=lambda f: [f.parent.name], item_tfms=Resize(32))
    with pytest.raises(InputError, match='only classifiers with one class for an image'):
        CifarInterpretation.from_learner(Learner(block.dataloaders(folder, bs=4, device='cpu', num_workers=0), small()))

def test_pointing_game_says_why_it_needs_masks(folder):
    "In one line, and what needs none"
    dls = loaders(folder, 32)
    interp = CifarInterpretation.from_learner(Learner(dls, small()))
    interp.decoded = interp.targs # something is right
    with pytest.raises(InputError, match='nothing says whether a map hits one.*`randomisation` and `road` need none') as e:
        interp.pointing_game(('GradCAM',), ('0.0',))
    assert '\n' not in str(e.value)

class Head(nn.Module):
    "A network whose head takes maps, with a linear layer after its pooling or a convolution before it"
    def __init__(self, head):
        super().__init__()
        self.body,self.head = nn.Conv2d(3, 8, 3, 2, 1),head
    def forward(self, x): return self.head(self.body(x))

heads = dict(linear     =(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)),
             convolution=(nn.Conv2d(8, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
@pytest.mark.parametrize('head', heads)
def test_label_errors_where_the_head_takes_maps(head, source):
    "The features are the maps, pooled"
    dls = cifar_block(source, 'none').dataloaders(source, bs=50, device='cpu')
    learn = cifar_learner(dls, Head(nn.Sequential(*heads[head])), precision='fp32')
    interp = CifarInterpretation.from_learner(learn)
    ref = learn.model.body(interp[range(50)][0]).mean((2,3)).detach()
    assert interp.features.shape==(50,8) and (interp.features-ref).abs().max()<=1e-5*ref.abs().max()
    interp.label_errors(neighbours=5, agree=0)

def test_items_come_in_several_ways(source):
    "A tensor of indices, an array, items, and a list of them"
    interp = CifarInterpretation.from_learner(narrow(source))
    idxs = interp.top_losses(3)[1]
    for o in (idxs, idxs.numpy(), idxs.tolist(), interp.scored(idxs), [*interp.scored(idxs)], range(3)):
        assert isinstance(interp.scored(o)[0], Scored) and len(interp.scored(o))==3
    assert len(interp.plot_cam(idxs, 'predicted').axes)==7
    plt.close('all')
    with pytest.raises(InputError, match='items are'): interp.scored(torch.tensor([], dtype=torch.long))

def test_a_gallery_of_maps_wraps_and_tells_strengths(source):
    "Twenty maps stand in rows; the number under a map is its strongest value, and the scale is what is asked for"
    interp = CifarInterpretation.from_learner(narrow(source))
    fig = interp.plot_cam(range(20), ('predicted','actual'), ncols=5)
    ys = sorted({round(a.get_position().y0, 4) for a in fig.axes})
    assert len(fig.axes)==61 and len(ys)==4*3+1 and min(a.get_position().width*fig.get_figwidth() for a in fig.axes[:60])>=1.5
    maps = interp.cam(range(20), 'actual')
    assert fig.axes[2].texts[-2].get_text()==f'{maps[0].max():.2g}'
    def drawn(**kwargs): return [a.images[0].get_array() for a in interp.plot_cam([0], ('predicted','actual'), **kwargs).axes]
    shared,own = drawn(),drawn(scale='each')
    weak = 1 if interp.cam([0])[0].max()<maps[0].max() else 2
    assert (shared[3-weak]==own[3-weak]).all() and not (shared[weak]==own[weak]).all()
    assert (own[weak]==cam.overlay(interp._pictures([0])[0], interp.cam([0], ('predicted','actual')[weak-1])[0])).all()
    plt.close('all')
    with pytest.raises(InputError, match="scale is 'all'|unknown scale"): interp.plot_cam([0], scale='all')
    with pytest.raises(InputError, match='ncols is 0'): interp.plot_cam([0], ncols=0)
