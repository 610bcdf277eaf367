"Figures: titles and units, every validated epoch joined, sharp at any size, written whole in the format their ending names."
import matplotlib.pyplot as plt, numpy as np, pytest
from PIL import Image
from cifar_fastai.diagnosis import diagnose, plot_runs
from cifar_fastai.errors import InputError
from cifar_fastai.files import save_figure
from cifar_fastai.learner import plot_history, plot_lr

rows = [dict(epoch=i, lr=0.1, train_loss=2/i, train_acc=i/12, **(dict(valid_loss=2.1/i, valid_acc=i/14, valid_n=100) if i%5==0 else {})) for i in range(1,11)]

@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close('all')

def labels(ax): return ax.get_title(),ax.get_xlabel(),ax.get_ylabel()
def curves(ax): return {o.get_label(): o.get_xdata().tolist() if hasattr(o.get_xdata(), 'tolist') else list(o.get_xdata()) for o in ax.get_lines()}

@pytest.mark.parametrize('valid', ['validation','test'])
def test_history(valid):
    "Epochs that were not validated leave no gap in the curve"
    axs = plot_history(rows, valid=valid)
    assert [labels(o) for o in axs]==[('Loss','epoch','mean loss per image'), ('Accuracy','epoch','images correct, %')]
    for ax in axs: assert curves(ax)=={'training': list(range(1,11)), valid: [5,10]}
    assert list(curves(plot_history([dict(epoch=1, train_loss=1., train_acc=.5)])[0]))==['training']

def test_rates():
    ax = plot_lr([.1,.2])
    assert labels(ax)==('Learning rate','training step (batches)','learning rate')
    assert plot_lr([.1,.2], [.9,.8]).get_title()=='Learning rate and momentum'

def test_runs():
    axs = plot_runs({'a': [rows,rows], 'b': [rows]}, valid='test')
    assert [labels(o) for o in axs]==[('Loss','epoch','mean loss per image'), ('Accuracy','epoch','images correct, %')]
    assert set(curves(axs[1]))=={'a, training','a, test','b, training','b, test'} and curves(axs[1])['a, test']==[5,10]

def test_diagnosis_says_test():
    said = [str(diagnose(rows, dict(cat=(1,2)), valid=o)) for o in ('test','validation')]
    assert 'validation' not in said[0] and said[0].replace('test accuracy', 'validation accuracy').replace('test loss', 'validation loss')==said[1]

def test_files(tmp_path):
    fig = plot_lr([.1,.2]).figure
    for kind,starts in (('png',b'\x89PNG'), ('jpg',b'\xff\xd8'), ('svg',b'<?xml'), ('pdf',b'%PDF'), ('PDF',b'%PDF')):
        save_figure(fig, tmp_path/f'a.{kind}')
        assert (tmp_path/f'a.{kind}').read_bytes().startswith(starts)
    sizes = []
    for dpi in (100,300):
        save_figure(fig, tmp_path/'a.png', dpi)
        with Image.open(tmp_path/'a.png') as img: sizes.append(img.size)
    assert np.allclose(np.divide(*sizes[::-1]), 3, rtol=0.01)
    with pytest.raises(InputError, match="'a.bmp' names no format of figures: give it the ending .png, .jpg, .svg or .pdf"): save_figure(fig, tmp_path/'a.bmp')
    with pytest.raises(InputError, match='dpi is 5'): save_figure(fig, tmp_path/'a.png', 5)
