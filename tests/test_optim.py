"Optimizers, schedules and the finder: groups by depth, Muon's steps, PyTorch's own schedule, and nothing left behind."
import matplotlib.pyplot as plt
import numpy as np, pytest, torch
from fastai.vision.all import Callback, CSVLogger, L, ReduceLROnPlateau, SaveModelCallback, params
from torch import nn
from cifar_fastai.callbacks import EMA
from cifar_fastai.core import InputError
from cifar_fastai.data import cifar_dls
from cifar_fastai.models import archs
from cifar_fastai.optim import (
    LRSuggestions, Muon, TorchOpt, depth_groups, find_lr, linear_cycle, opts, orthogonal, plot_lr, schedules,
    with_fused)
from cifar_fastai.checkpoints import Checkpoint
from cifar_fastai.runs import RunLog
from cifar_fastai.sources import load_source
from learners import equal, make_learner, weights

@pytest.fixture(scope='module')
def source(data_dir): return load_source(data_dir, size=16)

@pytest.fixture(scope='module')
def dls(source): return cifar_dls(source, 'none', bs=50, device='cpu')

# ---- Muon

def newton_schulz(g, steps=5):
    "As it is usually written"
    x = g/g.norm()
    for _ in range(steps):
        s = x@x.T
        x = 3.4445*x + (-4.7750*s + 2.0315*s@s)@x
    return x

@pytest.mark.parametrize('shape', [(64,576), (128,576), (10,10)])
def test_orthogonal_of_any_shape_is_the_usual_iteration(shape):
    g = torch.randn(shape)
    torch.testing.assert_close(orthogonal(g), newton_schulz(g), atol=2e-3, rtol=0)
    torch.testing.assert_close(orthogonal(g.T), newton_schulz(g).T, atol=2e-3, rtol=0)

def test_orthogonal_of_few_directions_stays_finite_and_bounded():
    rank2 = torch.randn(32,2)@torch.randn(2,288)
    q = lambda n: torch.linalg.qr(torch.randn(n,64))[0]
    uneven = q(64)@torch.diag(torch.logspace(0,-4,64))@q(576).T # hardly any length in most directions
    for g in (rank2, uneven):
        for dtype in (torch.float32, torch.bfloat16):
            assert torch.linalg.svdvals(orthogonal(g, dtype=dtype)).max() < 1.35, dtype
    assert orthogonal(rank2).isfinite().all() and orthogonal(torch.zeros(4,9)).abs().max()==0

def test_orthogonal_in_bfloat16_has_lengths_near_one():
    s = torch.linalg.svdvals(orthogonal(torch.randn(3,64,576), dtype=torch.bfloat16))
    assert 0.55<s.min() and s.max()<1.35

@pytest.mark.parametrize('wd', [0., 0.1])
def test_muon_on_a_vector_is_sgd_with_nesterov_momentum(wd):
    a,b = (nn.Parameter(torch.arange(3.)) for _ in range(2))
    muon, sgd = (
        Muon([a], lr=0.1, weight_decay=wd),
        torch.optim.SGD([b], lr=0.1, momentum=0.9, nesterov=True, weight_decay=wd),
    )
    for _ in range(5):
        for p,o in ((a,muon), (b,sgd)):
            o.zero_grad()
            (p**2).sum().backward()
            o.step()
    torch.testing.assert_close(a, b)

def test_muon_steps_kernels_of_one_shape_as_each_alone():
    shapes = (16,8,3,3), (16,8,3,3), (16,24,3,1), (8,16,1,1), (16,3,3,3), (5,16), (16,), (8,16,1,1)
    ps = [nn.Parameter(torch.randn(s)) for s in shapes]
    ps[0].data = ps[0].data.to(memory_format=torch.channels_last)
    qs = [nn.Parameter(p.detach().clone()) for p in ps]
    together,single = Muon(ps, weight_decay=0.1),[Muon([q], weight_decay=0.1) for q in qs]
    for _ in range(3):
        for p,q in zip(ps, qs): p.grad = torch.randn_like(p); q.grad = p.grad.clone()
        for o in (together, *single): o.step()
    for p,q in zip(ps, qs): torch.testing.assert_close(p, q, atol=1e-5, rtol=1e-5)

def test_muon_of_a_recipe_learns_with_its_options(dls):
    learn = make_learner(dls, opt='muon', opt_kw=dict(ratio=0.3))
    with learn.no_logging(): learn.fit_one_cycle(3, 0.05)
    assert {g['ratio'] for g in learn.opt.opt.param_groups}=={0.3}
    assert learn.history.rows[-1]['train_loss']<learn.history.rows[0]['train_loss']

# ---- parameter groups

def trained(learn, fit):
    "The names of the weights that `fit` changes"
    before = weights(learn)
    with learn.no_logging(): fit()
    return {k for k,p in learn.model.named_parameters() if not torch.equal(p, before[k])}

@pytest.mark.parametrize('opt', ['sgd','adam','adamw','muon'])
def test_groups_by_depth_freeze_and_decay_as_in_fastai(opt, dls):
    """`freeze` leaves the head, and norms as everywhere in fastai; a slice gives each depth its rate; norms and
    biases never decay"""
    learn = make_learner(dls, opt=opt, wd=0.1)
    learn.freeze()
    head,norms = {'head.weight','head.bias'},{k for k,p in learn.model.named_parameters() if p.ndim==1}
    assert trained(learn, lambda: learn.fit(1, 0.01))==head|norms
    learn.unfreeze()
    assert trained(learn, lambda: learn.fit(1, slice(1e-3, 1e-2)))=={k for k,_ in learn.model.named_parameters()}
    assert [h['lr'] for h in learn.opt.hypers] == pytest.approx([1e-3, 1e-2]) and [
        h['wd'] for h in learn.opt.hypers
    ] == [0.1] * 2
    names = {p: k for k,p in learn.model.named_parameters()}
    for pg in learn.opt.opt.param_groups:
        for p in pg['params']:
            assert pg['lr']==pytest.approx(1e-2 if names[p] in head else 1e-3), names[p]
            assert pg['weight_decay']==(0.1 if p.ndim>1 else 0), names[p]

def test_depth_groups_of_any_network_end_with_the_last_module():
    from torchvision.models import densenet121, vit_b_16
    with torch.device('meta'): nets = dict(classifier=densenet121(), heads=vit_b_16(), head=archs['resnet34']())
    for k,m in nets.items():
        body,head = depth_groups(m)
        assert L(head).map(id)==L(params(getattr(m, k))).map(id) and len(body)+len(head)==len(params(m))
    assert len(depth_groups(torch.nn.Linear(2, 2)))==1

def test_hypers_that_are_written_are_set():
    "As with fastai's own optimizers: also for the norms, and for one of a pair"
    ps = [torch.nn.Parameter(torch.zeros(s)) for s in ((2,2), (2,), (2,2), (2,))]
    opt = TorchOpt([ps[:2], ps[2:]], opt=torch.optim.Adam, weight_decay=0.1)
    assert [pg['weight_decay'] for pg in opt.opt.param_groups]==[0.1, 0, 0.1, 0]
    for h,lr in zip(opt.hypers, (1., 2.)): h['lr'],h['mom'],h['wd'] = lr,0.5,0.3
    now = [(pg['lr'],pg['betas'],pg['weight_decay']) for pg in opt.opt.param_groups]
    assert now==[(lr,(0.5,0.999),wd) for lr in (1.,2.) for wd in (0.3,0.)]
    opt.set_hyper('lr', slice(1e-4, 1e-2))
    assert [h['lr'] for h in opt.hypers]==pytest.approx([1e-4, 1e-2]) and [len(o) for o in opt.param_lists]==[2,2]

def test_optimizers_on_a_gpu_are_fused():
    gpu,cpu = map(torch.device, ('cuda','cpu'))
    for k in ('sgd','adam','adamw'):
        opt = opts[k][0]
        assert with_fused(opt, gpu).keywords['fused'] and with_fused(opt, cpu) is opt
        a,b = (torch.nn.Linear(5, 3) for _ in range(2))
        b.load_state_dict(a.state_dict())
        for m,o in ((a, opt(a.parameters(), lr=0.1)), (b, with_fused(opt, gpu)(b.parameters(), lr=0.1))):
            for _ in range(3):
                o.zero_grad()
                m(torch.arange(10.).view(2,5)).pow(2).mean().backward()
                o.step()
        for p,q in zip(a.parameters(), b.parameters()): torch.testing.assert_close(p, q)
    assert 'fused' not in with_fused(opts['muon'][0], gpu).keywords

# ---- schedules

def test_linear_cycle_is_that_of_pytorch_at_every_step():
    opt = torch.optim.SGD([torch.zeros(1)], lr=1)
    sched = torch.optim.lr_scheduler.OneCycleLR(opt, 0.0722, total_steps=400, pct_start=0.25, anneal_strategy='linear',
                                                div_factor=100, final_div_factor=100, cycle_momentum=False)
    f = linear_cycle(400, 0.0722, 0.25, 100, 100)
    for i in range(400):
        assert f(i/400)==pytest.approx(opt.param_groups[0]['lr'], abs=1e-7)
        opt.step()
        if i<399: sched.step()
    assert f(399/400)>0 and f(1.)>0

def test_linear_cycle_takes_a_slice(dls):
    learn = make_learner(dls)
    with learn.no_logging(): learn.fit_linear_cycle(1, slice(1e-3, 1e-2), pct_start=0.5)
    assert max(learn.history.lrs)<=1e-2 and learn.opt.hypers[0]['lr']==pytest.approx(learn.opt.hypers[1]['lr']/10)

def test_linear_cycle_of_a_fit_reaches_its_peak(dls):
    learn = make_learner(dls)
    with learn.no_logging(): learn.fit_linear_cycle(2, 0.1, pct_start=0.25)
    assert len(learn.history.lrs)==8 and max(learn.history.lrs)==pytest.approx(0.1)

def test_plateau_of_fastai_lowers_the_rate(dls):
    learn = make_learner(dls)
    with learn.no_logging(): learn.fit(3, 0.1, cbs=ReduceLROnPlateau('train_loss', min_delta=99., patience=1))
    assert learn.history.lrs[::4]==pytest.approx([0.1, 0.1, 0.01])

def test_schedule_plateau_watches_the_training_loss(dls):
    class Rise(Callback):
        order = 51 # the loss, as the plateau sees it, rises from epoch to epoch
        def after_epoch(self): self.recorder.values[-1][0] = float(self.epoch)
    learn = make_learner(dls)
    with learn.no_logging(): schedules['plateau'](learn, 4, 1e-3, cbs=Rise(), patience=1, factor=4., min_lr=1e-4)
    assert learn.history.lrs[::4]==pytest.approx([1e-3,1e-3,2.5e-4,1e-4])

def test_plot_lr_names_its_axes():
    ax = plot_lr([.1,.2])
    assert (ax.get_title(), ax.get_xlabel(), ax.get_ylabel()) == (
        'Learning rate',
        'training step (batches)',
        'learning rate',
    )
    assert plot_lr([.1,.2], [.9,.8]).get_title()=='Learning rate and momentum'
    plt.close('all')

# ---- the finder

def test_find_lr_names_its_suggestions(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    learn = make_learner(cifar_dls(source, bs=20, device='cpu'))
    found = find_lr(learn, num_it=60, plot=False)
    assert list(found) == ['valley', 'steep', 'minimum', 'slide', 'least'] and found['least'] == pytest.approx(
        10 * found['minimum']
    )
    assert found['least']==found.lrs[np.argmin(found.losses)] and all(1e-6<v<10 for v in found.values())
    assert str(found).startswith(f'{found.chosen:.3g} (minimum); other suggestions: valley ')
    assert not list(tmp_path.iterdir()), 'the finder left a folder behind'

@pytest.mark.parametrize('kw,says', [(dict(num_it=10), 'num_it is 10'), (dict(chosen='vally'), 'unknown suggestion'),
    (dict(start_lr=10, end_lr=1e3, num_it=30), 'diverged'), (dict(start_lr=1, end_lr=0.1), 'end_lr is'),
    (dict(start_lr=1e-9, end_lr=1e-8, num_it=40, chosen='least'), 'hardly fell')])
def test_find_lr_says_why_it_found_nothing(kw, says, dls):
    with pytest.raises(InputError, match=says): find_lr(make_learner(dls), **kw, plot=False)

def test_find_lr_where_nothing_is_learned_takes_the_valley(dls):
    assert find_lr(make_learner(dls), start_lr=1e-9, end_lr=1e-8, num_it=40, plot=False).name=='valley'

@pytest.mark.parametrize('loader', ['cpu','device'])
def test_fit_after_find_lr_is_the_same_to_the_bit(loader, source):
    "Also between two fits"
    def fitted(finder):
        dls = cifar_dls(source, 'crop_flip_cutout', bs=20, seed=4, device='cpu', loader=loader)
        learn = make_learner(dls, model_kw=dict(width=8, dropout=0.2))
        dls.train.rng.seed(4)
        for lr in (0.01, 0.02):
            if finder: find_lr(learn, num_it=30, plot=False)
            with learn.no_logging(): learn.fit(1, lr)
        return weights(learn)
    assert equal(fitted(True), fitted(False))

class Writes(Callback):
    "As users write them: a file beside the learner's"
    def after_epoch(self): (self.path/'mine.txt').write_text('x')

def test_find_lr_writes_nothing_whatever_callbacks_there_are(dls, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path/'history.csv').write_text('mine')
    (tmp_path/'abs').mkdir()
    cbs = [
        CSVLogger(),
        CSVLogger(tmp_path / 'abs/history.csv'),
        SaveModelCallback('train_loss'),
        RunLog(tmp_path),
        Checkpoint(tmp_path / 'c.pt'),
        Writes(),
        EMA(0.9),
    ]
    learn = make_learner(dls, path=tmp_path, cbs=cbs)
    before,order = weights(learn),list(learn.cbs)
    find_lr(learn, num_it=30, plot=False)
    assert sorted(p.name for p in tmp_path.rglob('*'))==['abs','history.csv']
    assert (tmp_path/'history.csv').read_text()=='mine' and list(learn.cbs)==order and learn.path==tmp_path
    assert equal(weights(learn), before)
    learn.fit(1)
    assert (tmp_path/'mine.txt').exists() and (tmp_path/'log.txt').exists()

def test_suggestions_are_drawn_with_the_chosen_one_marked():
    lrs,losses = np.geomspace(1e-4, 1, 20),np.linspace(2, 1, 20)
    ax = LRSuggestions(dict(valley=0.01, minimum=0.1), lrs, losses).plot()
    assert [o.get_text() for o in ax.get_legend().get_texts()] == [
        'valley 0.01',
        'minimum 0.1 (chosen)',
    ] and ax.get_xscale() == 'log'
    plt.close('all')
