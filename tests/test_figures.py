"Charts and galleries as a reader sees them: titles, units, words that do not run into each other"
import json, shutil
import numpy as np, pytest, torch
from matplotlib import pyplot as plt
from cifar_fastai import report, train
from cifar_fastai.experiments import plot_ablation
from cifar_fastai.history import plot_history, plot_runs
from cifar_fastai.interpret import CifarInterpretation, run_learner
from cifar_fastai.optim import LRSuggestions, plot_lr
from cifar_fastai.predict import explain
from cifar_fastai.runs import Run
from cifar_fastai.sources import cifar10_vocab
from learners import fitted

@pytest.fixture(scope='module')
def interp(source): return CifarInterpretation.from_learner(fitted(source))

rows = [dict(epoch=i, train_loss=2/i, train_acc=i/9, valid_loss=2/i, valid_acc=i/9) for i in (1,2,3)]
found = LRSuggestions(dict(valley=1e-3, minimum=1e-2), np.geomspace(1e-5, 1, 20), np.linspace(3, 2, 20))

def ablation(path):
    rows = dict(base=dict(changes={}, acc=[0.5], seconds=[1]), wider=dict(changes={}, acc=[0.6], effect=10., se=1., seconds=[1]))
    (path/'a.json').write_text(json.dumps(dict(rows=rows)))
    return plot_ablation(path/'a.json')

charts = dict(
    history    =lambda interp, path: plot_history(rows),
    runs       =lambda interp, path: plot_runs(dict(a=[rows])),
    rate       =lambda interp, path: plot_lr([.1,.2], [.9,.8]),
    finder     =lambda interp, path: found.plot(),
    calibration=lambda interp, path: interp.plot_calibration(),
    confusion  =lambda interp, path: report._confusion_figure(interp, 'test'),
    ablation   =lambda interp, path: ablation(path))

@pytest.mark.parametrize('name', charts)
def test_a_chart_has_a_title_and_says_what_its_axes_count(name, interp, tmp_path):
    "A vertical axis of names needs no words"
    plt.close('all')
    charts[name](interp, tmp_path)
    axs = plt.gcf().axes
    assert axs and any(ax.get_title() for ax in axs)
    for ax in axs:
        assert ax.get_xlabel() or ax.get_shared_x_axes().get_siblings(ax)!=[ax], name
        assert ax.get_ylabel() or name=='ablation', name
    plt.close('all')

@pytest.fixture
def named(monkeypatch):
    "What the charts are told to call the images that a network was validated on"
    seen = []
    def noted(plot): return lambda *args: seen.append(args[-1]) or plot(*args)
    for module,name in ((report, '_confusion_figure'), (report, 'plot_history'), (report, 'plot_runs'), (train, 'plot_history')):
        monkeypatch.setattr(module, name, noted(getattr(module, name)))
    yield seen
    plt.close('all')

def test_charts_say_whose_images_they_are_of(named, interp, run_dir, source, tmp_path):
    "Those of a run that was validated on the test images, in its folder, its report and a comparison"
    run = Run(shutil.copytree(run_dir, tmp_path/'run'))
    learn = run_learner(run.path, source, 'cpu')
    learn.history.rows = run.history
    train.finish_run(run, learn, True)
    report._confusion_section(run, interp, {})
    report._history_section(run, {})
    report._curves_section(dict(a=run, b=run), {})
    assert named==['test']*4
    assert report._confusion_figure(interp, 'test').axes[0].get_title()=='Confusion matrix of the test images'

def test_an_explanation_says_what_its_bars_and_its_colors_are(interp, source):
    _,of_map,bars = explain(source.x[0], interp.learn, target='star', versus='ring').show().axes
    assert of_map.get_title()=='star (red) over ring (blue)\nHiResCAM at stage1' and bars.get_xlabel()=='probability'
    plt.close('all')

@pytest.fixture
def surely_wrong(interp):
    "Each item is taken for another class, with long names"
    logits = 9*torch.eye(10)[torch.where(interp.targs==1, 0, 1)]
    res = CifarInterpretation(interp.learn, interp.dl, interp.losses, None, logits, interp.targs)
    res.vocab = list(cifar10_vocab)
    return res.misclassified(20)

@pytest.mark.parametrize('ncols,imsize', [(10,0.8), (5,1.5), (4,1.1)])
def test_titles_of_a_gallery_do_not_run_into_each_other(ncols, imsize, surely_wrong, arranged):
    "Nor into the pictures above them"
    fig = surely_wrong.show(ncols=ncols, imsize=imsize)
    fig.draw_without_rendering()
    boxes = [ax.title.get_window_extent() for ax in fig.axes if ax.title.get_text()]
    pictures = [ax.get_window_extent() for ax in fig.axes if ax.images]
    assert len(boxes)==len(pictures)==20 and min(o.width for o in pictures)>=0.7*imsize*fig.dpi
    for i,a in enumerate(boxes): assert not any(a.overlaps(b) for b in [*boxes[i+1:], *pictures]), i
    plt.close('all')

def test_a_figure_of_maps_says_how_to_read_it(interp):
    "In words above the maps, and by the ends of the color bar; a lead of a class over itself is no lack of evidence"
    fig = interp.plot_cam([0,1])
    assert 'share a scale' in fig.get_suptitle() and 'strongest value' in fig.get_suptitle()
    assert [o.get_text() for o in fig.axes[-1].get_xticklabels()]==['no evidence','strongest']
    fig = interp.plot_cam([0], [('predicted','predicted')], scale='each')
    assert 'scale of its own' in fig.get_suptitle() and 'strongest value' in fig.get_suptitle()
    assert [o.get_text() for o in fig.axes[-1].get_xticklabels()]==['second class','0','first class']
    assert [o.get_text() for o in fig.axes[1].texts if 'evidence' in o.get_text() or 'difference' in o.get_text()]==['no\ndifference']
    plt.close('all')
