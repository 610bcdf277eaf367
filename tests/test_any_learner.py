"Pictures asked of any fastai learner: size, normalization and classes are those of its own transforms."
import numpy as np, pytest, torch
from fastai.vision.all import (CrossEntropyLossFlat, IntToFloatTensor, ImageDataLoaders, Learner, Normalize, PILImage, Resize,
    TensorImage, Transform, imagenet_stats, load_learner, resnet18 as fastai_resnet18, vision_learner)
from PIL import Image
from cifar_fastai.data import cifar_block, cifar_dls
from cifar_fastai.errors import InputError
from cifar_fastai.learner import cifar_learner
from cifar_fastai.models import resnet18
from cifar_fastai.pictures import PictureClassifier, explain

def folder_dls(data_dir, **kw): return ImageDataLoaders.from_folder(data_dir, train='train', valid='test', bs=20, device='cpu', **kw)
def plain(dls): return Learner(dls, resnet18(n_out=10, width=8), loss_func=CrossEntropyLossFlat())
def ours(dls): return cifar_learner(dls, model_kw=dict(width=8), precision='fp32')
def reloaded(learn, path):
    learn.export(path)
    return load_learner(path)

def learner(kind, source, data_dir, tmp_path):
    if kind=='cifar_block': return ours(cifar_block(source, 'none').dataloaders(source, bs=20, device='cpu'))
    if kind=='from_folder': return plain(folder_dls(data_dir))
    if kind=='resized': return plain(folder_dls(data_dir, item_tfms=Resize(48), batch_tfms=Normalize.from_stats(*imagenet_stats, cuda=False)))
    if kind=='vision_learner': return vision_learner(folder_dls(data_dir, item_tfms=Resize(64)), fastai_resnet18, pretrained=False)
    if kind=='loaded, ours': return reloaded(ours(cifar_dls(source, 'none', bs=20, device='cpu')), tmp_path/'ours.pkl')
    if kind=='loaded, resized': return reloaded(learner('resized', source, data_dir, tmp_path), tmp_path/'resized.pkl')

sizes = {'cifar_block': 32, 'from_folder': 32, 'resized': 48, 'vision_learner': 64, 'loaded, ours': 32, 'loaded, resized': 48}

@pytest.mark.parametrize('kind', sizes)
def test_any_learner_is_asked_through_its_own_transforms(kind, source, data_dir, tmp_path):
    "What `explain` says of a picture of the network's size is what the learner's own `predict` says"
    learn = learner(kind, source, data_dir, tmp_path)
    clf = PictureClassifier.from_learner(learn)
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
    with pytest.raises(InputError, match='give size'): PictureClassifier.from_learner(learn)
    assert PictureClassifier.from_learner(learn, 32).logits(torch.zeros(2,3,32,32)).shape==(2,10)

def test_learners_that_a_picture_cannot_be_asked_of(source, data_dir):
    "Images that are no squares, or whose colors are changed in another way, are refused with what to do"
    class Gamma(Transform):
        order = 99
        def encodes(self, x:TensorImage): return x**2
    for kw,says in ((dict(item_tfms=Resize((32,48))), '48x32: give size'), (dict(batch_tfms=[IntToFloatTensor, Gamma()]), 'changes colors by more than')):
        with pytest.raises(InputError, match=says): PictureClassifier.from_learner(plain(folder_dls(data_dir, **kw)))

def test_tensors_are_pictures(source):
    "`predict` and `explain` take a TensorImage of whole or of decimal numbers, as they take the array"
    learn,x = ours(cifar_dls(source, 'none', bs=20, device='cpu')),source.x[0]
    t = torch.from_numpy(x).permute(2,0,1)
    with learn.no_bar(): want,clf = learn.predict(x)[2],PictureClassifier.from_learner(learn)
    for o in (TensorImage(t), TensorImage(t).float(), TensorImage(t).float()/255, t, torch.from_numpy(x)):
        with learn.no_bar(): assert torch.allclose(learn.predict(o)[2], want, atol=1e-3)
        assert clf.predict(o)[0].top[0][0]==explain(o, learn).target==clf.predict(x)[0].top[0][0]
    with pytest.raises(InputError, match='is not an image'): explain(TensorImage(t).float()/255-1, learn)
