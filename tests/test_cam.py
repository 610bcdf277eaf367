"Maps: against autograd by hand and against the library; the network comes back as it was; compiled networks; drawing"
import copy, gc, shutil
import cv2, numpy as np, pytest, pytorch_grad_cam as pgc, torchvision.models as tv
from fastai.vision.all import load_learner, nn, torch
from matplotlib import pyplot as plt
from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection
from cifar_fastai import cam
from cifar_fastai.cam import cam_maps, cam_methods, find_layer, overlay, show_map, upsample_maps
from cifar_fastai.core import InputError
from cifar_fastai.data import cifar_dls
from cifar_fastai.interpret import CifarInterpretation
from cifar_fastai.learner import cifar_learner
from cifar_fastai.models import layer_outputs, layer_sizes, resnet18, summary
from cifar_fastai.ood import known_features
from cifar_fastai.predict import explain
import cifar_fastai.cam_metrics # noqa: F401 (it adds methods)
from learners import fitted, without_source

def by_hand(model, xb, targets, outputs):
    "HiResCAM of each layer: its output times the gradient of the score by it, from one plain pass"
    seen,hooks = {},[]
    def keep(nm):
        def hook(m, i, o):
            same = o is i[0] and not getattr(m, 'inplace', False)
            if same: o = o.clone() # a module that hands on its input: what others do with that is not its doing
            # before an in-place operation changes it
            seen[nm] = o.detach().clone(),torch.autograd.graph.get_gradient_edge(o)
            return o if same else None
        return hook
    for nm,m in model.named_modules():
        if nm in outputs and outputs[nm].axes: hooks.append(m.register_forward_hook(keep(nm)))
    out = model.eval()(xb.clone().requires_grad_())
    for h in hooks: h.remove()
    grads = torch.autograd.grad(out[range(len(targets)),targets].sum(), [e for _,e in seen.values()], allow_unused=True)
    parts = {nm: (a*g).permute(0, *outputs[nm].axes) for (nm,(a,_)),g in zip(seen.items(), grads)}
    return {nm: (o.sum(1), float(o.abs().sum(1).max())) for nm,o in parts.items()} # and how large its terms are

@torch.no_grad()
def trained(model):
    "The statistics of norms and the scales of branches as training might leave them, so that every layer matters"
    g = torch.Generator().manual_seed(0)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.1, generator=g)
            m.running_var.uniform_(0.5, 1.5, generator=g)
        if hasattr(m, 'layer_scale'): nn.init.constant_(m.layer_scale, 0.5)
        if isinstance(m, nn.Linear): m.weight.normal_(0, m.in_features**-0.5, generator=g) # ViT's head starts at zero
    return model

class Mixed(nn.Module):
    "What is easily read wrong: a module run twice, an in-place one whose input is read again, channels last, attention"
    def __init__(self):
        super().__init__()
        self.conv,self.relu,self.act = nn.Conv2d(3, 8, 3, 1, 1),nn.ReLU(inplace=True),nn.ReLU(inplace=True)
        self.same,self.norm,self.mix = nn.Identity(),nn.LayerNorm(8),nn.Linear(8, 8)
        self.softmax,self.head = nn.Softmax(-1),nn.Linear(8, 5)
    def forward(self, x):
        x = self.conv(x)
        x = x+self.act(x)
        x = self.relu(x+self.same(x))
        y = self.mix(self.norm(x.permute(0,2,3,1)))
        q = y.flatten(1,2).unflatten(2, (2,4)).transpose(1,2)
        x = x+(self.softmax(q@q.transpose(2,3))@q).transpose(1,2).flatten(2).transpose(1,2).unflatten(2, x.shape[2:])
        return self.head(self.relu(x).mean((2,3)))

blocks = (8,16,2),(16,32,2),(32,64,3),(64,None,2) # channels in and out and number, of each stage of a ConvNeXt
nets = dict(
    ours     =(lambda: resnet18(width=4, n_out=5), 32), mixed=(Mixed, 8),
    resnet18 =(lambda: tv.ResNet(tv.resnet.BasicBlock, [2,2,2,2], num_classes=5), 16),
    vit      =(lambda: tv.VisionTransformer(32, 4, 2, 2, 16, 32, num_classes=5), 32),
    densenet =(lambda: tv.DenseNet(8, (6,12,24,16), 16, bn_size=2, num_classes=5), 32), # DenseNet121's blocks, narrower
    convnext =(lambda: tv.ConvNeXt([tv.convnext.CNBlockConfig(*o) for o in blocks], num_classes=5), 64),
    swin     =(lambda: tv.SwinTransformer([4,4], 8, [2,2,2,2], [1,2,4,8], [7,7], num_classes=5), 64))
slow = {'densenet','convnext','swin'}

@pytest.mark.parametrize('name', [pytest.param(k, marks=pytest.mark.slow) if k in slow else k for k in nets])
def test_every_listed_layer_gives_the_map_of_autograd_by_hand(name, monkeypatch):
    "`pytest -m slow tests/test_cam.py` tries the larger networks"
    torch.manual_seed(0)
    build,size = nets[name]
    model,xb,targets = trained(build()),torch.randn(2, 3, size, size),[1,3]
    outputs = layer_outputs(model, size)
    monkeypatch.setattr(cam, 'layer_outputs', lambda *args: outputs) # looked at once, not for each layer
    hand = by_hand(model, xb, targets, outputs)
    assert set(hand)==set(layer_sizes(model, size)) and hand
    for nm,(ref,scale) in hand.items():
        got = cam_maps(model, xb, targets, 'HiResCAM', nm, signed=True, allow_coarse=True)
        assert got.shape==ref.shape and scale>0, nm
        assert (got-ref).abs().max()<=1e-5*scale, nm

def test_a_module_that_runs_twice_is_refused():
    "Its map would be one run's activations times the other's gradients"
    model = tv.resnet18(num_classes=5)
    assert 'layer1.0.relu' not in layer_sizes(model, 64) and 'layer1.0.bn1' in layer_sizes(model, 64)
    with pytest.raises(InputError, match="'layer1.0.relu' gives no single map"):
        find_layer(model, 'layer1.0.relu', 64)
    with pytest.raises(InputError, match='gives no single map'): cam_maps(Mixed(), torch.randn(1, 3, 8, 8), [0], layer='relu')

def test_attention_is_no_map_and_channels_at_the_end_are():
    "Heads x tokens x tokens is refused; the map of a layer with channels last has height and width"
    model = Mixed()
    with pytest.raises(InputError, match="'softmax' gives no single map"):
        find_layer(model, 'softmax', 8)
    with pytest.raises(InputError, match="'softmax'"): cam_maps(model, torch.randn(1, 3, 8, 8), [0], layer='softmax')
    assert layer_sizes(model, (8,12))['norm']==(8,8,12)
    assert cam_maps(model, torch.randn(2, 3, 8, 12), [0,1], layer='mix').shape==(2,8,12)
    with pytest.raises(InputError, match="'encoder.ln' gives no single map"):
        find_layer(nets['vit'][0](), 'encoder.ln', 32)

@pytest.mark.parametrize('method', cam.cam_methods)
def test_every_method_takes_channels_at_the_end(method):
    "The same map as with the channels first"
    class Block(nn.Module):
        def __init__(self, last):
            super().__init__()
            self.last,self.conv,self.act,self.head = last,nn.Conv2d(3, 6, 3, 1, 1),nn.Sigmoid(),nn.Linear(6, 5)
        def forward(self, x):
            x = self.conv(x)
            x = self.act(x.permute(0,2,3,1)).permute(0,3,1,2) if self.last else self.act(x)
            return self.head((x**2*x.flip(3)).mean((2,3)))
    a,b = Block(False),Block(True)
    b.load_state_dict(a.state_dict())
    xb = torch.randn(2, 3, 8, 10)
    m,n = (cam_maps(o, xb, [0,4], method, 'act', signed=True) for o in (a,b))
    assert m.shape==(2,8,10) and m.abs().max()>0 and (m-n).abs().max()<=1e-4*m.abs().max()

def test_layers_before_an_in_place_relu():
    "DenseNet's last norm feeds one, as ResNet's norms do"
    for model, layer in (
        (tv.DenseNet(8, (2, 2), 16, num_classes=5), 'features.norm5'),
        (tv.resnet18(num_classes=5), 'bn1'),
    ):
        for method in ('GradCAM','LayerCAM','EigenCAM'):
            assert cam_maps(model, torch.randn(1, 3, 64, 64), [1], method, layer, allow_coarse=True).isfinite().all()

def test_a_layer_that_no_gradient_reaches_is_refused():
    "A map of zeros would look like an answer"
    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv,self.head = nn.Conv2d(3, 4, 3, 1, 1),nn.Linear(4, 5)
        def forward(self, x): return self.head(self.conv(x).detach().mean((2,3)))
    with pytest.raises(InputError, match='no gradient comes from the scores'):
        cam_maps(Cut(), torch.randn(1, 3, 8, 8), [1], layer='conv')

def test_names_of_the_reference_notebooks_and_torchvision():
    "`layer1` to `layer4` are `stage1` to `stage4`, and the other way round"
    ours,theirs = resnet18(width=4),tv.resnet18(num_classes=5)
    xb = torch.randn(1, 3, 32, 32)
    for i in (1,2,3): assert find_layer(ours, f'layer{i}') is getattr(ours, f'stage{i}')
    assert find_layer(ours, 'layer2.0.conv1') is ours.stage2[0].conv1
    assert find_layer(theirs, 'stage2', 64) is theirs.layer2
    assert torch.equal(cam_maps(ours, xb, [1], layer='layer2'), cam_maps(ours, xb, [1], layer='stage2'))
    with pytest.raises(InputError, match="unknown layer 'layer5'"): find_layer(ours, 'layer5')
    with pytest.raises(InputError, match="the map of 'stage4' is 4x4"): find_layer(ours, 'layer4')

def test_a_network_without_stages_has_a_default_layer():
    "The last outermost one with a map of 5x5"
    body = nn.Sequential(*list(tv.resnet18().children())[:-2])
    model = nn.Sequential(body, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 5)))
    ours = resnet18(width=4)
    assert find_layer(model, size=224) is model[0]
    assert find_layer(model, size=64) is model[0][5]
    assert find_layer(ours) is ours.stage1
    assert cam_maps(model, torch.randn(1, 3, 64, 64), [1]).shape==(1,8,8)

@pytest.fixture(scope='module')
def net():
    torch.manual_seed(0)
    return trained(resnet18(width=4)).eval()

@pytest.fixture(scope='module')
def xb(): return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))

def stretched(o):
    "As the library hands a map on: scaled to its own range, at the size of the image"
    o = cv2.resize((o-o.min())/(1e-7+(o-o.min()).max()), (32,32))
    return (o-o.min())/(1e-7+o.max()-o.min())

@pytest.mark.parametrize('method', [o for o in cam_methods if o!='RandomCAM'])
def test_every_method_gives_the_librarys_map(method, net, xb):
    ts = [1,3]
    targets = [pgc.utils.model_targets.ClassifierOutputTarget(o) for o in ts]
    ours = cam_maps(net, xb[:2], ts, method, 'stage3')
    with cam_methods[method](model=net, target_layers=[net.stage3]) as o: ref = o(xb[:2], targets)
    for a,b in zip(ours.numpy(), ref): assert np.allclose(stretched(a), b, atol=2e-3)

def test_the_main_direction_is_the_librarys():
    "Of the centered activations, whatever the number of places"
    for shape in ((2,16,32,32), (2,64,16,16), (2,256,8,8), (2,4,1,1)):
        a = np.random.default_rng(0).normal(size=shape).astype(np.float32).clip(0)
        ours,ref = cam._main_direction(a),get_2d_projection(a)
        assert ours.shape==ref.shape and np.allclose(ours, ref, atol=1e-4*np.abs(ref).max()+1e-6)

def alike(a, b):
    "The same up to rounding, by the largest value: maps of a network that learned nothing are small"
    return bool(0<b.abs().max() and (a-b).abs().max()<=1e-4*b.abs().max())

def state(m):
    "Modes, hooks, flags, gradients, random states"
    grads = [(p.requires_grad, None if p.grad is None else p.grad.tolist()) for p in m.parameters()]
    modes = [(k, o.training, len(o._forward_hooks)) for k,o in m.named_modules()]
    return modes,grads,np.random.get_state()[1].tolist(),torch.get_rng_state().tolist()

def test_the_network_comes_back_as_it_was(net, xb):
    "Whatever its modes, flags and gradients were, for every method; and the maps do not depend on them"
    def check(m, **kw):
        before = state(m)
        res = cam_maps(m, xb, [1,2,3,4], **kw)
        assert state(m)==before
        return res
    m = copy.deepcopy(net)
    m.train(); m.stage1.eval(); m(xb).sum().backward()
    m.load_state_dict(net.state_dict())
    a = check(m)
    for p in m.stage2.parameters(): p.requires_grad_(False)
    assert alike(check(m), a)
    m.requires_grad_(False)
    assert alike(check(m), a)
    with torch.no_grad(), torch.autocast('cpu', dtype=torch.bfloat16): assert alike(check(m), a)
    m.requires_grad_(True); m.zero_grad(); m.eval()
    for nm in cam_methods: check(m, method=nm, layer='stage3')

def test_batches_and_single_images_agree(net, xb):
    a = cam_maps(net, xb, [1,2,3,4])
    assert alike(torch.cat([cam_maps(net, xb[i:i+1], [i+1]) for i in range(4)]), a)
    assert alike(cam_maps(net, xb, [1,2,3,4], bs=3), a)

def test_the_map_of_a_difference_is_the_difference_of_maps(net, xb):
    "For methods that are linear in the score: red of a lead is blue of its opposite, whatever the sign of a logit"
    a,b = [1,2],[3,4]
    d = cam_maps(net, xb[:2], a, versus=b)
    assert alike(d, cam_maps(net, xb[:2], a, signed=True)-cam_maps(net, xb[:2], b, signed=True))
    lead,lag = (cam_maps(net, xb[:2], o, layer='stage3', versus=p) for o,p in ((a,b), (b,a)))
    assert alike(lead, -lag)
    for k in ('LayerCAM','GradCAM++','EigenCAM'):
        with pytest.raises(InputError, match="has no map of one class's lead over another"):
            cam_maps(net, xb[:2], a, k, versus=b)

def test_many_calls_hold_no_more_memory_than_a_few(net, xb):
    "No tensor and no hook is left behind"
    def count():
        gc.collect()
        return sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects())
    for _ in range(3): cam_maps(net, xb[:2], [1,2], layer='stage3')
    was = count()
    for i in range(30): cam_maps(net, xb[:2], [1,2], ('GradCAM','HiResCAM')[i%2], 'stage3')
    assert count()==was and not any(o._forward_hooks or o._backward_hooks for o in net.modules())

def test_after_training_in_bf16_weights_stay_and_maps_are_float32(source):
    interp = CifarInterpretation.from_learner(fitted(source, precision='bf16'))
    model = interp.learn.model
    before = copy.deepcopy(model.state_dict())
    a = interp.cam([0,1,2])
    assert {p.dtype for p in model.parameters()}=={torch.float32} and a.isfinite().all() and a.dtype==torch.float32
    assert all(torch.equal(v, before[k]) for k,v in model.state_dict().items())

@pytest.mark.parametrize('layer,stride', [('stage1',1), ('stage2',2), ('stage3',4)])
def test_a_cell_is_drawn_where_its_convolutions_are_centered(layer, stride):
    "What a cell depends on has its center of mass there (even weights, a picture larger than what a cell sees)"
    even = resnet18(width=4).eval()
    for o in even.modules():
        if isinstance(o, nn.Conv2d): nn.init.constant_(o.weight, 1/o.weight[0].numel())
    x,got,i = torch.ones(1, 3, 128, 128, requires_grad=True),[],64//stride
    with getattr(even, layer).register_forward_hook(lambda m,a,o: got.append(o)): even(x)
    g = torch.autograd.grad(got[0][0,:,i,i].sum(), x)[0][0].abs().sum(0)
    assert g[0].max()==0 and (g.sum(1)>0).sum()>=11
    assert abs(float((g.sum(1)*torch.arange(128.)).sum()/g.sum())-64)<0.01

def peak(m, size): return divmod(int(upsample_maps(m, size, 0)[0].argmax()), size)

def test_maps_are_upsampled_to_any_size():
    "A flat one stays flat, a cell comes to its multiple, also where the size is none"
    m8,m7,r = torch.zeros(1,8,8),torch.zeros(1,7,7),torch.rand(2,32,32)
    m8[0,3,5] = m7[0,6,6] = 1
    assert torch.allclose(upsample_maps(torch.ones(2,8,8), smooth=0), torch.ones(2,32,32))
    assert upsample_maps(m8, 64).shape==(1,64,64) and peak(m8, 64)==(24,40) and peak(m7, 50)==(48,48)
    assert torch.allclose(upsample_maps(r, smooth=0), r, atol=1e-5)

def test_an_overlay_shows_the_picture_far_from_the_evidence():
    "And the picture itself where there is none; whole numbers and floats give the same"
    pic,one = np.random.default_rng(0).integers(0, 256, (32,32,3), dtype=np.uint8),np.zeros((32,32), np.float32)
    one[:8,:8] = 1
    a = overlay(pic, one, alpha=0.6).astype(int)
    assert np.abs(a[16:,16:]-pic[16:,16:]*0.91).max()<=1.5 and np.abs(a[:7,:7]-pic[:7,:7]).max()>20
    assert (overlay(pic, -one)==pic).all() and (overlay(pic, -one, signed=True)[16:,16:]==pic[16:,16:]).all()
    assert (overlay((pic/255).astype(np.float32), one)==overlay(pic, one)).all()

def test_an_empty_map_says_so():
    for m, signed, empty in (
        (np.zeros((8, 8)), False, True),
        (-np.ones((8, 8)), False, True),
        (-np.ones((8, 8)), True, False),
    ):
        _,ax = plt.subplots()
        show_map(ax, np.zeros((32,32,3)), m, signed=signed)
        assert [o.get_text() for o in ax.texts]==['no positive\nevidence']*empty
    plt.close('all')

def test_a_gallery_of_maps_wraps_and_tells_strengths(source, arranged):
    "Twenty maps stand in rows; the number under a map is its strongest value, and the scale is what is asked for"
    interp = CifarInterpretation.from_learner(without_source(source))
    fig = interp.plot_cam(range(19), ('predicted','actual'), ncols=5)
    fig.draw_without_rendering()
    ys = sorted({round(a.get_position().y0, 2) for a in fig.axes})
    assert len(fig.axes)==58
    assert len(ys)==4*3+1
    assert min(a.get_position().width*fig.get_figwidth() for a in fig.axes[:57])>=1.4
    maps = interp.cam(range(19), 'actual')
    assert [o.texts[0].get_text() for o in fig.axes[10:15]]==[f'{m.max():.2g}' for m in maps[:5]]
    i = interp.misclassified(1)[0].idx
    predicted,actual = interp.cam([i])[0],interp.cam([i], 'actual')[0]
    def drawn(**kwargs):
        return [a.images[0].get_array() for a in interp.plot_cam([i], ('predicted','actual'), **kwargs).axes[:3]]
    shared,own = drawn(),drawn(scale='each')
    weak,strong = (1,2) if predicted.max()<actual.max() else (2,1)
    assert (shared[strong]==own[strong]).all() and not (shared[weak]==own[weak]).all()
    assert (own[weak]==overlay(interp.pictures([i])[0], (predicted,actual)[weak-1])).all()
    plt.close('all')
    with pytest.raises(InputError, match="scale is 'all'|unknown scale"): interp.plot_cam([0], scale='all')

compiled = []

def counting(gm, inputs):
    "A compiler that changes nothing and counts what it is given"
    compiled.append(gm)
    return gm.forward

def compiled_and_fitted(source, arch='resnet18', **kwargs):
    learn = cifar_learner(cifar_dls(source, 'none', bs=50, n_train=100, device='cpu'), arch, precision='fp32', **kwargs)
    if not kwargs.get('compile') and not hasattr(learn.model, '_orig_mod'): learn.model.compile(backend=counting)
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 0.01)
    return learn

def views(learn, tmp_path):
    "Everything that looks into a network; the maps that came of it, to compare"
    interp = CifarInterpretation.from_learner(learn)
    maps = interp.cam([0,1])
    interp.plot_cam([0,1]); plt.close('all')
    assert len(interp.label_errors()) and len(layer_sizes(learn.model))>50
    interp.decoded = interp.targs # all count as correct, whatever it learned
    for f in (interp.pointing_game, interp.cascading_randomization, interp.road): f(('GradCAM',), ('layer2',), n=2)
    summary(learn.model)
    learn.export(tmp_path/'learn.pkl')
    with pytest.warns(UserWarning, match='pickle'): loaded = load_learner(tmp_path/'learn.pkl')
    dl = loaded.dls.test_dl(interp.dl.items, with_labels=True)
    again = CifarInterpretation.from_learner(loaded, dl=dl).cam([0,1])
    assert (again-maps).abs().max()<=1e-5*maps.max()
    return interp,maps

def plain_maps(learn, interp):
    "The maps of the same weights in a network that was never compiled"
    model = resnet18(width=4)
    model.load_state_dict(getattr(learn.model, '_orig_mod', learn.model).state_dict())
    return cam_maps(model, interp[[0,1]][0], interp.logits.argmax(1)[[0,1]])

def same_tta(learn, interp):
    "Test-time augmentation that augments nothing: the same probabilities"
    with learn.no_bar(): probs,_ = learn.tta(dl=interp.dl, n=1)
    assert (probs-interp.probs).abs().max()<=1e-5

def test_the_maps_of_a_compiled_network():
    "Its layers are found, and nothing more is compiled"
    torch._dynamo.reset()
    model,plain,xb = resnet18(width=4).eval(),resnet18(width=4),torch.randn(2, 3, 32, 32)
    plain.load_state_dict(model.state_dict())
    model.compile(backend=counting)
    model(xb)
    n = len(compiled)
    assert n and layer_sizes(model)==layer_sizes(plain)
    got,ref = (cam_maps(o, xb, [1,2]) for o in (model, plain))
    assert len(compiled)==n and ref.max()>0 and (got-ref).abs().max()<=1e-5*ref.max()
    torch._dynamo.reset()

def test_a_learner_is_interpreted_uncompiled(source):
    "Scores, maps, checks of maps, pictures from outside and features: none waits for a compiler"
    def refuse(gm, inputs): raise AssertionError('the network was compiled')
    torch._dynamo.reset()
    learn = fitted(source)
    learn.model.compile(backend=refuse)
    interp = CifarInterpretation.from_learner(learn)
    interp.decoded = interp.targs # all count as correct, whatever it learned
    interp.plot_cam([0]); plt.close('all')
    for f in (interp.pointing_game, interp.cascading_randomization, interp.road): f(('GradCAM',), ('layer2',), n=2)
    assert explain(source.x[0], learn, versus='ring', target='star').cam.abs().max()>0
    assert len(known_features(learn, 10).features['content'])==10
    summary(learn.model, 'kernels', bs=2)
    torch._dynamo.reset()

@pytest.mark.slow
@pytest.mark.parametrize('wrapped', (False,True), ids=('model.compile','torch.compile'))
def test_no_view_compiles_anything(wrapped, source, tmp_path):
    "Whether the network itself was compiled or wrapped: `pytest -m slow tests/test_cam.py`"
    torch._dynamo.reset()
    if wrapped: learn = compiled_and_fitted(source, torch.compile(resnet18(width=4), backend=counting))
    else: learn = compiled_and_fitted(source, model_kw=dict(width=4))
    n = len(compiled)
    assert n # the fit was compiled
    interp,maps = views(learn, tmp_path)
    ref = plain_maps(learn, interp)
    assert len(compiled)==n and ref.max()>0
    got = cam_maps(learn.model, interp[[0,1]][0], interp.logits.argmax(1)[[0,1]])
    assert (got-ref).abs().max()<=1e-5*ref.max()
    same_tta(learn, interp)
    torch._dynamo.reset()

@pytest.mark.slow
@pytest.mark.skipif(not shutil.which('g++'), reason='needs a C++ compiler')
def test_a_compiled_learner(source, tmp_path):
    "With PyTorch's own compiler, and a second fit after it: `pytest -m slow tests/test_cam.py`"
    learn = compiled_and_fitted(source, model_kw=dict(width=4), compile=True)
    interp,maps = views(learn, tmp_path)
    ref = plain_maps(learn, interp)
    got = cam_maps(learn.model, interp[[0,1]][0], interp.logits.argmax(1)[[0,1]])
    assert ref.max()>0 and (got-ref).abs().max()<=1e-5*ref.max()
    same_tta(learn, interp)
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 0.01)
