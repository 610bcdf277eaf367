"Maps against autograd by hand, at every layer that is listed, on networks of several kinds"
import pytest, torchvision.models as tv
from fastai.vision.all import nn, torch
from cifar_fastai import cam
from cifar_fastai.cam import cam_maps, find_layer
from cifar_fastai.errors import InputError
from cifar_fastai.models import layer_outputs, layer_sizes, resnet18

def by_hand(model, xb, targets, outputs):
    "HiResCAM of each layer: its output times the gradient of the score by it, from one plain pass"
    seen,hooks = {},[]
    def keep(nm):
        def hook(m, i, o):
            same = o is i[0] and not getattr(m, 'inplace', False)
            if same: o = o.clone() # a module that hands on its input: what others do with that is not its doing
            seen[nm] = o.detach().clone(),torch.autograd.graph.get_gradient_edge(o) # before an in-place operation changes it
            return o if same else None
        return hook
    for nm,m in model.named_modules():
        if nm in outputs and outputs[nm].axes: hooks.append(m.register_forward_hook(keep(nm)))
    out = model.eval()(xb.clone().requires_grad_())
    for h in hooks: h.remove()
    grads = torch.autograd.grad(out[range(len(targets)),targets].sum(), [e for _,e in seen.values()], allow_unused=True)
    parts = {nm: (a*g).permute(0, *outputs[nm].axes) for (nm,(a,_)),g in zip(seen.items(), grads)}
    return {nm: (o.sum(1), float(o.abs().sum(1).max())) for nm,o in parts.items()} # and how large its terms are, since they may cancel

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
    "`pytest -m slow tests/test_cam_layers.py` tries the larger networks"
    torch.manual_seed(0)
    build,size = nets[name]
    model,xb,targets = trained(build()),torch.randn(2, 3, size, size),[1,3]
    outputs = layer_outputs(model, size)
    monkeypatch.setattr(cam, 'layer_outputs', lambda *args: outputs) # looked at once, not for each layer
    hand = by_hand(model, xb, targets, outputs)
    assert set(hand)==set(layer_sizes(model, size)) and hand
    for nm,(ref,scale) in hand.items():
        got = cam_maps(model, xb, targets, 'HiResCAM', nm, signed=True, force=True)
        assert got.shape==ref.shape and scale>0, nm
        assert (got-ref).abs().max()<=1e-5*scale, nm

def test_a_module_that_runs_twice_is_refused():
    "Its map would be one run's activations times the other's gradients"
    model = tv.resnet18(num_classes=5)
    assert 'layer1.0.relu' not in layer_sizes(model, 64) and 'layer1.0.bn1' in layer_sizes(model, 64)
    with pytest.raises(InputError, match="'layer1.0.relu' runs 2 times in a forward pass"): find_layer(model, 'layer1.0.relu', 64)
    with pytest.raises(InputError, match='runs 2 times'): cam_maps(Mixed(), torch.randn(1, 3, 8, 8), [0], layer='relu')

def test_attention_is_no_map_and_channels_at_the_end_are():
    "Heads x tokens x tokens is refused; the map of a layer with channels last has height and width"
    model = Mixed()
    with pytest.raises(InputError, match="'softmax' is 2x64x64, and not for sure a map"): find_layer(model, 'softmax', 8)
    with pytest.raises(InputError, match="'softmax'"): cam_maps(model, torch.randn(1, 3, 8, 8), [0], layer='softmax')
    assert layer_sizes(model, (8,12))['norm']==(8,8,12) and cam_maps(model, torch.randn(2, 3, 8, 12), [0,1], layer='mix').shape==(2,8,12)
    with pytest.raises(InputError, match="'encoder.ln' is 65x16, which is no map"): find_layer(nets['vit'][0](), 'encoder.ln', 32)

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
    assert b.act is b.get_submodule('act')

def test_layers_before_an_in_place_relu():
    "DenseNet's last norm feeds one, as ResNet's norms do"
    for model,layer in ((tv.DenseNet(8, (2,2), 16, num_classes=5), 'features.norm5'), (tv.resnet18(num_classes=5), 'bn1')):
        for method in ('GradCAM','LayerCAM','EigenCAM'):
            assert cam_maps(model, torch.randn(1, 3, 64, 64), [1], method, layer, force=True).isfinite().all()

def test_a_layer_that_no_gradient_reaches_is_refused():
    "A map of zeros would look like an answer"
    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv,self.head = nn.Conv2d(3, 4, 3, 1, 1),nn.Linear(4, 5)
        def forward(self, x): return self.head(self.conv(x).detach().mean((2,3)))
    with pytest.raises(InputError, match='no gradient comes from the scores'): cam_maps(Cut(), torch.randn(1, 3, 8, 8), [1], layer='conv')

def test_names_of_the_reference_notebooks_and_torchvision():
    "`layer1` to `layer4` are `stage1` to `stage4`, and the other way round"
    ours,theirs = resnet18(width=4),tv.resnet18(num_classes=5)
    xb = torch.randn(1, 3, 32, 32)
    for i in (1,2,3): assert find_layer(ours, f'layer{i}') is getattr(ours, f'stage{i}')
    assert find_layer(ours, 'layer2.0.conv1') is ours.stage2[0].conv1 and find_layer(theirs, 'stage2', 64) is theirs.layer2
    assert torch.equal(cam_maps(ours, xb, [1], layer='layer2'), cam_maps(ours, xb, [1], layer='stage2'))
    with pytest.raises(InputError, match="unknown layer 'layer5'"): find_layer(ours, 'layer5')
    with pytest.raises(InputError, match="the map of 'stage4' is 4x4"): find_layer(ours, 'layer4')

def test_a_network_without_stages_has_a_default_layer():
    "The last outermost one with a map of 5x5"
    body = nn.Sequential(*list(tv.resnet18().children())[:-2])
    model = nn.Sequential(body, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 5)))
    ours = resnet18(width=4)
    assert find_layer(model, size=224) is model[0] and find_layer(model, size=64) is model[0][5] and find_layer(ours) is ours.stage1
    assert cam_maps(model, torch.randn(1, 3, 64, 64), [1]).shape==(1,8,8)
