"Pictures of any kind, asked of a run or of any fastai learner; signs of what is no class; folders of pictures"
import shutil
import numpy as np, pandas as pd, pytest, torch
from fastai.vision.all import (
    CrossEntropyLossFlat,
    IntToFloatTensor,
    ImageDataLoaders,
    Learner,
    Normalize,
    PILImage,
    Resize,
    TensorImage,
    Transform,
    imagenet_stats,
    load_learner,
    resnet18 as fastai_resnet18,
    set_seed,
    vision_learner,
)
from PIL import Image
from cifar_fastai import predict
from cifar_fastai.data import cifar_block, cifar_dls
from cifar_fastai.core import InputError
from cifar_fastai.learner import cifar_learner
from cifar_fastai.models import resnet18
from cifar_fastai.predict import Explanation, ImageClassifier, explain, picture_files, seen_box

def folder_dls(data_dir, **kw):
    return ImageDataLoaders.from_folder(data_dir, train='train', valid='test', bs=20, device='cpu', **kw)
def sharp():
    "A network with logits far apart: else all pictures have almost the same probabilities, and comparing them is no test"
    set_seed(0)
    model = resnet18(n_out=10, width=8)
    with torch.no_grad(): model.head.weight.mul_(100)
    return model
def plain(dls): return Learner(dls, sharp(), loss_func=CrossEntropyLossFlat())
def ours(dls): return cifar_learner(dls, sharp(), precision='fp32')
def reloaded(learn, path):
    learn.export(path)
    return load_learner(path)

def learner(kind, source, data_dir, tmp_path):
    if kind=='cifar_block': return ours(cifar_block(source, 'none').dataloaders(source, bs=20, device='cpu'))
    if kind=='from_folder': return plain(folder_dls(data_dir))
    if kind=='resized':
        return plain(
            folder_dls(data_dir, item_tfms=Resize(48), batch_tfms=Normalize.from_stats(*imagenet_stats, cuda=False))
        )
    if kind=='vision_learner':
        return vision_learner(folder_dls(data_dir, item_tfms=Resize(64)), fastai_resnet18, pretrained=False)
    if kind=='loaded, ours': return reloaded(ours(cifar_dls(source, 'none', bs=20, device='cpu')), tmp_path/'ours.pkl')
    if kind=='loaded, resized': return reloaded(learner('resized', source, data_dir, tmp_path), tmp_path/'resized.pkl')

sizes = {
    'cifar_block': 32,
    'from_folder': 32,
    'resized': 48,
    'vision_learner': 64,
    'loaded, ours': 32,
    'loaded, resized': 48,
}


@pytest.mark.parametrize('kind', sizes)
def test_any_learner_is_asked_through_its_own_transforms(kind, source, data_dir, tmp_path):
    "What `explain` says of a picture of the network's size is what the learner's own `predict` says"
    learn = learner(kind, source, data_dir, tmp_path)
    clf = ImageClassifier.from_learner(learn)
    assert clf.size==sizes[kind] and clf.vocab==list(source.vocab)
    img = Image.fromarray(source.x[0]).resize((clf.size,)*2)
    with learn.no_bar(): c,_,probs = learn.predict(PILImage.create(img))
    e = explain(img, learn, k=10)
    assert e.target==c
    assert np.allclose([dict(e.prediction.top)[o] for o in clf.vocab], probs, atol=1e-4)
    assert e.cam.shape==(clf.size,)*2 and e.cam.isfinite().all()

def test_the_size_of_a_loaded_learner_that_does_not_resize(source, data_dir, tmp_path):
    "An exported learner has no images that show the size, so it is asked for"
    learn = reloaded(plain(folder_dls(data_dir)), tmp_path/'l.pkl')
    with pytest.raises(InputError, match='give size'): ImageClassifier.from_learner(learn)
    assert len(ImageClassifier.from_learner(learn, 32).predict(source.x[0], k=10)[0].top)==10

def test_learners_that_a_picture_cannot_be_asked_of(source, data_dir):
    "Images that are no squares, or whose colors are changed in another way, are refused with what to do"
    class Gamma(Transform):
        order = 99
        def encodes(self, x:TensorImage): return x**2
    for kw,says in ((dict(item_tfms=Resize((32,48))), '48x32: give size'),
                    (dict(batch_tfms=[IntToFloatTensor, Gamma()]), 'changes colors by more than')):
        with pytest.raises(InputError, match=says): ImageClassifier.from_learner(plain(folder_dls(data_dir, **kw)))

def test_tensors_are_pictures(source):
    "`predict` and `explain` take a TensorImage of whole or of decimal numbers, as they take the array"
    learn,x = ours(cifar_dls(source, 'none', bs=20, device='cpu')),source.x[0]
    t = torch.from_numpy(x).permute(2,0,1)
    clf = ImageClassifier.from_learner(learn)
    def asked(o):
        with learn.no_bar(): return learn.predict(o)[2].numpy(),probs(clf, o),explain(o, learn).prediction.top[0][1]
    want = asked(x)
    assert np.abs(asked(source.x[1])[0]-want[0]).max()>0.01
    for o in (TensorImage(t), TensorImage(t).float()/255, t, torch.from_numpy(x)):
        for a,b in zip(asked(o), want): assert np.allclose(a, b, atol=1e-3)
    with pytest.raises(InputError, match='is not an image'): explain(TensorImage(t).float()/255-1, learn)

@pytest.fixture(scope='module')
def clf(run_dir): return ImageClassifier.from_run(run_dir, 'cpu')

@pytest.fixture(scope='module')
def rgb(source): return Image.fromarray(source.x[3]).resize((64,64), Image.Resampling.BICUBIC)

def test_inputs_and_answers_are_those_of_the_loaders(clf, source):
    "Of a run and of a learner, which comes back in its mode"
    learn = cifar_learner(cifar_dls(source, 'none', bs=50, device='cpu'), clf.model, precision='fp32')
    item = learn.dls.valid_ds.items[5]
    assert torch.allclose(
        clf.inputs([Image.fromarray(source.x[item.idx])])[0], learn.dls.test_dl([item]).one_batch()[0][0], atol=1e-5
    )
    learn.model.train()
    other = ImageClassifier.from_learner(learn)
    assert np.allclose(probs(other, source.x[0]), probs(clf, source.x[0]), atol=1e-5) and learn.model.training

def test_the_part_that_is_seen_is_the_center_or_all_of_it(clf, rgb):
    assert seen_box((300,200))==(50,0,250,200) and seen_box((300,200), 'squish')==(0,0,300,200)
    with pytest.raises(InputError, match="did you mean 'crop'"): clf.inputs([rgb], 'corp')

def test_a_prediction_of_one_picture_is_that_of_a_list(clf, source):
    noise = np.random.default_rng(0).integers(0, 256, (32,32,3), dtype=np.uint8)
    assert clf.predict(noise)==clf.predict([noise]) and len(clf.predict(source.x[:3]))==3
    p = clf.predict(source.x[0], k=10)[0]
    assert abs(sum(o for _,o in p.top)-1)<1e-5 and 0<=p.ood_percentile<=1
    bare = ImageClassifier(clf.model, clf.vocab, clf.mean.flatten().tolist(), clf.std.flatten().tolist())
    assert bare.predict(noise)[0].ood_percentile is None

def probs(clf, picture): return np.array([o for _,o in sorted(clf.predict(picture, k=10)[0].top)])

exact = dict(png=dict(), webp=dict(lossless=True), tif=dict(), bmp=dict())
@pytest.mark.parametrize('kind', exact)
def test_a_format_that_loses_nothing_changes_nothing(kind, clf, rgb, tmp_path):
    rgb.save(tmp_path/f'a.{kind}', **exact[kind])
    assert np.allclose(probs(clf, tmp_path/f'a.{kind}'), probs(clf, rgb), atol=1e-6)

def test_an_opaque_alpha_and_the_first_frame_change_nothing(clf, rgb, tmp_path):
    rgba = rgb.copy()
    rgba.putalpha(255)
    rgba.save(tmp_path/'rgba.png')
    rgb.save(tmp_path/'anim.png', save_all=True, append_images=[Image.new('RGB', (64,64))])
    for nm in ('rgba.png','anim.png'): assert np.allclose(probs(clf, tmp_path/nm), probs(clf, rgb), atol=1e-6)

def test_any_mode_is_explained(clf, rgb, tmp_path):
    "Gray, palette, CMYK, one bit; 16 bits as the same in 8"
    gray = rgb.convert('L')
    files = {'gray.png': gray, 'la.png': rgb.convert('LA'), 'pal.gif': rgb.quantize(64),
             'cmyk.jpg': rgb.convert('CMYK'), 'bits.png': rgb.convert('1'),
             'i16.png': Image.fromarray(np.asarray(gray).astype(np.uint16)*257)}
    for nm,img in files.items():
        img.save(tmp_path/nm)
        e = clf.explain(tmp_path/nm)
        assert e.overlay().size==(64,64)
    assert clf.predict(tmp_path/'i16.png')==clf.predict(tmp_path/'gray.png')

@pytest.mark.parametrize('size', [(1,1), (1,300), (3000,2), (7,5), (2001,1501)])
def test_any_size_is_explained_at_its_own_size(size, clf):
    assert clf.explain(Image.new('RGB', size, 'teal')).overlay().size==size

@pytest.fixture(scope='module')
def photo(rgb, tmp_path_factory):
    "800x480, rotated by its EXIF tag"
    path,exif = tmp_path_factory.mktemp('photo')/'photo.jpg',Image.Exif()
    exif[0x0112] = 6
    img = Image.new('RGB', (800,480), 'teal')
    img.paste(rgb.resize((480,480)), (160,0))
    img.rotate(90, expand=True).save(path, exif=exif)
    return path

def test_the_map_lies_where_the_network_looked_and_the_rest_is_darkened(clf, photo, tmp_path):
    e = clf.explain(photo)
    e.cam = torch.ones(32,32)
    a,b = np.asarray(e.picture).astype(float),np.asarray(e.overlay()).astype(float)
    assert e.picture.size==(800,480) and e.box==(160,0,640,480)
    assert np.abs(b[:,:150]-0.4*a[:,:150]).max()<=1 and np.abs(b[:,160:640]-0.4*a[:,160:640]).max()>20
    with Image.open(e.save(tmp_path/'out.png')) as o: assert o.size==e.picture.size

def test_an_empty_map_says_so_on_the_picture(clf, photo):
    e = clf.explain(photo)
    hollow, tiny = (
        Explanation(e.picture, e.prediction, o, 'star') for o in (torch.zeros(8, 8), torch.zeros(8, 8) - 1e-20)
    )
    assert (np.asarray(hollow.overlay())==np.asarray(tiny.overlay())).all()
    assert (np.asarray(hollow.overlay().crop(e.box))!=np.asarray(e.picture.crop(e.box))).any()

wrong = [(dict(target='starr'), "did you mean 'star'"), (dict(versus='hexagn'), "did you mean 'hexagon'"),
         (dict(layer='stage9'), 'unknown layer'),
         (dict(method='gradcam'), 'unknown method'), (dict(k=0), 'k is 0'), (dict(resize='pad'), 'unknown resize'),
         (dict(target='star', versus='star'), 'both star'), (dict(layer='stage4'), 'too coarse')]
@pytest.mark.parametrize('kw,says', wrong)
def test_what_cannot_be_explained_is_refused(kw, says, clf, rgb):
    with pytest.raises(InputError, match=says): clf.explain(rgb, **kw)

def test_a_broken_or_missing_picture_is_refused(run_dir, photo, tmp_path):
    (tmp_path/'broken.jpg').write_bytes(photo.read_bytes()[:400])
    with pytest.raises(InputError, match='cannot read image'): explain(tmp_path/'broken.jpg', run_dir)
    with pytest.raises(InputError, match='no image at'): explain(tmp_path/'none.jpg', run_dir)

@pytest.fixture
def album(source, tmp_path, monkeypatch):
    "Twelve pictures of several sizes, noise, and a torn one"
    monkeypatch.chdir(tmp_path)
    path = tmp_path/'album'
    path.mkdir()
    for i in range(12): Image.fromarray(source.x[source.valid_idxs[i]]).resize((96,80+10*i)).save(path/f'{i}.png')
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32,32,3), dtype=np.uint8)).save(path/'noise.png')
    (path/'torn.jpg').write_bytes(b'\xff\xd8\xff')
    return path

def test_a_folder_is_explained_at_the_size_of_each_picture(album, clf):
    "A map of each, and a table that `predict_files` gives too"
    table,bad = clf.explain_files('album', 'explained')
    assert len(bad)==1 and len(table)==13
    written = sorted(o.name for o in album.with_name('explained').iterdir())
    assert written==sorted(['table.csv','noise-map.png',*(f'{i}-map.png' for i in range(12))])
    for i in range(12):
        with Image.open(f'explained/{i}-map.png') as o: assert o.size==(96,80+10*i)
    pd.testing.assert_frame_equal(clf.predict_files('album')[0], table.drop(columns='map'))

@pytest.mark.parametrize('how', ['predict_files','explain_files'])
def test_pictures_of_a_folder_are_counted(how, album, clf, monkeypatch):
    "So that a large folder is not looked at in silence"
    seen = []
    monkeypatch.setattr(predict, 'progress', lambda items, label: seen.append((len(items), label)) or items)
    getattr(clf, how)('album')
    assert seen==[(14, 'looking at pictures')]

def test_maps_of_an_earlier_call_are_no_pictures(album, clf):
    for f in album.glob('[4-9n1]*.png'): f.unlink()
    for _ in range(2): assert len(clf.explain_files('album', 'album/maps')[0])==3

@pytest.mark.parametrize('out', ('.', 'album'))
def test_pictures_may_lie_below_the_folder_of_the_maps(out, album, clf):
    for f in album.glob('[4-9n1]*.png'): f.unlink()
    for _ in range(2): assert len(clf.explain_files('album', out)[0])==3

def test_folders_are_read_in_natural_order_and_maps_get_names_of_their_own(album, clf):
    (album/'sub').mkdir()
    shutil.copy(album/'noise.png', album/'sub/1.png')
    assert [o.name for o in picture_files('album')]==[f'{i}.png' for i in range(12)]+['noise.png','1.png','torn.jpg']
    table,_ = clf.explain_files(['album/sub','album/1.png'], 'two')
    assert sorted(table['map'])==['1-2-map.png','1-map.png']
    clf.explain_files('album/3.png', 'one')
    assert [o.name for o in album.with_name('one').iterdir()]==['3-map.png']

def test_paths_without_a_picture_are_refused_and_nothing_is_written(album, clf):
    hollow = album.with_name('hollow')
    hollow.mkdir()
    (hollow/'notes.txt').write_text('no picture')
    for paths,says in (('hollow', 'no pictures: name files'), ('nowhere.png', 'no image at nowhere.png'),
                       ('album/torn.jpg', 'cannot read image album/torn.jpg'),
                       ([], 'no pictures'), (['album/torn.jpg','nowhere.png'], 'cannot read image album/torn.jpg')):
        with pytest.raises(InputError, match=says): clf.predict_files(paths)
        with pytest.raises(InputError, match=says): clf.explain_files(paths, 'never')
    assert not album.with_name('never').exists()
    with pytest.raises(InputError, match='cannot be made'): clf.explain_files('album/1.png', 'album/1.png/out')
