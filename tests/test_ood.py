"Features of training images: what is far from them, and the file they travel in."
import numpy as np, pytest, torch
from PIL import Image
from sklearn.datasets import load_sample_images
from safetensors.torch import save
from cifar_fastai.core import InputError
from cifar_fastai.data import cifar_dls
from cifar_fastai.demo import demo_learner
from cifar_fastai.models import resnet18
from cifar_fastai.ood import KnownFeatures, known_features, load_features, picture_features, save_features
from cifar_fastai.predict import ImageClassifier, is_ood
from cifar_fastai.sources import load_source
from learners import make_learner

@pytest.fixture(scope='module')
def learn(data_dir):
    learn = make_learner(cifar_dls(load_source(data_dir, size=16), 'none', bs=25, device='cpu'))
    with learn.no_logging(): learn.fit_one_cycle(2, 0.05)
    return learn

@pytest.fixture(scope='module')
def known(learn): return known_features(learn)

def test_validation_images_spread_evenly_over_the_ranks(learn, known):
    xb = torch.cat([b[0] for b in learn.dls.valid])
    with torch.no_grad(): far = known.distance(picture_features(learn.model.eval(), xb)[1])
    assert 0.4<np.mean([known.rank(o) for o in far.tolist()])<0.6

def crops(n, rng):
    "Squares of any size and place from two photographs"
    for i in range(n):
        img = Image.fromarray(load_sample_images().images[i%2])
        side = int(rng.integers(32, min(img.size)))
        left,top = (int(rng.integers(0, o-side)) for o in img.size)
        yield img.crop((left, top, left+side, top+side))

def test_the_network_of_the_sample_data_marks_what_is_none_of_its_classes():
    "Every plain color, all noise and most photographs, and few images of its own; the threshold is set by other ones"
    learn,rng = demo_learner(),np.random.default_rng(0)
    items = learn.dls.valid_ds.items
    held,learn.dls.valid_ds.items = items[1::9],items[::3]
    clf = ImageClassifier.from_learner(learn, known=known_features(learn))
    def marked(pictures): return np.mean([is_ood(p) for p in clf.predict(list(pictures))])
    assert marked(Image.new('RGB', (60,60), tuple(map(int, c))) for c in rng.integers(0, 256, (20,3)))==1
    assert marked(rng.integers(0, 256, (20,32,32,3), dtype=np.uint8))==1
    assert marked(crops(40, rng))>=0.5
    assert marked(o.x for o in held)<=0.1

def test_known_features_of_few_images_leave_the_network_as_it_was(learn):
    learn.model.train()
    few = known_features(learn, 3)
    assert learn.model.training and len(few.features['content'])==3

def test_known_features_of_a_network_of_others_are_refused(learn):
    other = make_learner(
        learn.dls, arch=torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 10)), model_kw=None
    )
    with pytest.raises(InputError, match='a ResNet of this package'): known_features(other)

def test_features_are_read_back_with_their_weights_alone(learn, known, tmp_path):
    assert load_features(tmp_path, learn.model) is None
    save_features(known, tmp_path, 'abc')
    back = load_features(tmp_path, learn.model, 'abc')
    for k in known.names:
        torch.testing.assert_close(back.features[k].float(), known.features[k].float(), atol=1e-3, rtol=0)
    assert back.rank(2.5)==pytest.approx(known.rank(2.5))
    with pytest.raises(InputError, match='belongs to other weights'): load_features(tmp_path, learn.model, 'abd')
    with pytest.raises(InputError, match="'contrast': .*, not "): load_features(tmp_path, resnet18(width=16), 'abc')

@pytest.mark.parametrize(
    'damage,says',
    [
        (lambda o: o[:50], 'cannot be used'),
        (lambda o: save({'content': torch.ones(2, 3)}), "it holds {'content'"),
        (lambda o: o[:-4] + b'\xff\xff\xff\x7f', 'not finite'),
    ],
    ids=['cut', 'other', 'nan'],
)
def test_damaged_features_are_named(damage, says, learn, known, tmp_path):
    save_features(known, tmp_path, 'abc')
    f = tmp_path/KnownFeatures.file
    f.write_bytes(damage(f.read_bytes()))
    with pytest.raises(InputError, match=says): load_features(tmp_path, learn.model, 'abc')
