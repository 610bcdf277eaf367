"What the commands say of themselves: options in groups, recipes in a table for terminals, what a device lacks before anything is downloaded, and what long stages do"
import contextlib, json, re, shlex, shutil, sys
import pytest
from cifar_fastai import cli
from cifar_fastai.cli import cifar_bench, cifar_lr_find, cifar_train, main
from cifar_fastai.errors import InputError
from cifar_fastai.recipes import recipe_learner, recipes, train
from test_progress import in_terminal, on_screen

def said(capsys, argv):
    "What a command prints, and its exit code"
    try: code = main(argv)
    except SystemExit as e: code = e.code or 0
    return *capsys.readouterr(),code

@pytest.mark.parametrize('argv', ['train', 'lr-find', 'bench accuracy', 'bench effects'])
def test_help_has_groups_and_examples(argv, capsys):
    "Three examples come first, then the groups; what the examples say can be parsed"
    out,err,code = said(capsys, [*argv.split(), '--help'])
    heads = re.findall(r'^(\w+):$', out, re.M)
    assert (err,code)==('',0) and heads==['examples', 'options', 'data', 'recipe', 'training', 'output'], heads
    lines = [l.strip() for l in out.split('examples:\n')[1].split('\n\n')[0].splitlines()]
    assert len(lines)==3 and max(map(len, out.splitlines()))<=100, lines
    from commands import check
    for l in lines: check(l)

def test_every_option_is_in_the_group_that_names_it():
    flags = {o[0][2:] for o in cli._recipe_options}
    for k,v in cli._in_group.items(): assert set(v.split())<=flags, (k, set(v.split())-flags)

def test_list_is_a_table_for_a_terminal(capsys):
    out,err,code = said(capsys, ['train', '--list'])
    assert (err,code)==('',0) and max(map(len, out.splitlines()))<=100 and '|' not in out and '---' not in out
    for r in recipes.values(): assert re.search(rf'^{r.name} +{r.epochs} +{r.bs}  ', out, re.M), r.name
    assert ' '.join(recipes['R3'].note.split()) in ' '.join(out.split())

@pytest.mark.parametrize('line', ['train', 'lr-find', 'bench accuracy', 'bench effects --variants {v}', 'bench goal', 'bench growth'])
def test_a_device_that_is_not_there_is_refused_before_a_download(line, tmp_path, capsys, monkeypatch):
    "The source is not looked at: `--source` may mean a download of 170 MB"
    import cifar_fastai.recipes, cifar_fastai.bench, cifar_fastai.sources, cifar_fastai.speed
    monkeypatch.chdir(tmp_path); (tmp_path/'v.json').write_text('{"a": {"bs": 64}}')
    for m in (cifar_fastai.recipes, cifar_fastai.bench, cifar_fastai.sources, cifar_fastai.speed): monkeypatch.setattr(m, 'load_source', lambda *a, **kw: pytest.fail('the source was loaded'))
    out,err,code = said(capsys, [*shlex.split(line.format(v=tmp_path/'v.json')), '--source', 'cifar10', '--device', 'cuda:77', *(['--valid', '0.1'] if 'effects' in line else [])])
    assert code==2 and "device 'cuda:77' cannot be used" in err and err.count('\n')==1, err
    for f in (train, recipe_learner):
        with pytest.raises(InputError, match='cuda:77'): f('plain', 'cifar10', device='cuda:77')

def test_compile_option(data_dir, tmp_path, monkeypatch):
    "auto by default, alone it means on, and it goes from the command to the training"
    import cifar_fastai.recipes, cifar_fastai.bench
    given = []
    for m in (cifar_fastai.recipes, cifar_fastai.bench): monkeypatch.setattr(m, 'train', lambda *a, compile, **kw: given.append(compile) or (_ for _ in ()).throw(InputError('enough')))
    monkeypatch.chdir(tmp_path)
    for extra in ([], ['--compile'], ['--compile', 'on'], ['--compile', 'off'], ['--compile=auto']): assert cifar_train(['--source', str(data_dir), '--device', 'cpu', *extra])==2
    assert given==['auto', True, True, False, 'auto']
    assert cifar_bench(['accuracy', '--recipe', 'plain', '--source', str(data_dir), '--device', 'cpu', '--seeds', '1', '--compile'])==2 and given[5:]==[True]

def test_finder_names_what_it_chose(data_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cifar_lr_find(['--source', str(data_dir), '--bs', '20', '--device', 'cpu', '--model-kw', 'width=8', '--precision', 'fp32'])==0
    assert re.search(r'^minimum +\S+  \(chosen\)$', capsys.readouterr().out, re.M)

def test_a_run_with_best_weights_says_whose_they_are(tmp_path, capsys):
    for f,d in (('metrics', dict(completed=True, epochs_done=3, seconds=1., final=dict(epoch=2, valid_acc=.5, valid_correct=5, valid_n=10))), ('config', dict(recipe=dict(epochs=3)))):
        (tmp_path/f'{f}.json').write_text(json.dumps(d))
    assert cli._ended(tmp_path)==0
    assert 'valid accuracy 50.00% (5/10) after 3 epochs in 1 s, with the weights of epoch 2\n' in capsys.readouterr().out

@pytest.mark.slow # a process of its own that trains, finds a rate and writes a report: pytest -m slow tests/test_options.py
def test_long_stages_in_a_terminal(data_dir, tmp_path):
    "Each has a bar with its name, which is gone afterwards; the loading of libraries is announced"
    base = ['--source', str(data_dir), '--bs', '20', '--device', 'cpu', '--model-kw', 'width=8']
    code = f"""import sys, time
from cifar_fastai import cli, progress
sys.meta_path.insert(0, type('Slow', (), dict(find_spec=staticmethod(lambda name, *a: time.sleep(4) if name=='cifar_fastai.recipes' else None)))) # a slow disk
assert cli.cifar_lr_find({[*base, '--out', str(tmp_path/'lr.png')]!r})==0
assert cli.cifar_train({[*base, '--epochs', '2', '--tta', 'mirror', '--lr', '0.02', '--run-dir', str(tmp_path/'run')]!r})==0
"""
    out,rc = in_terminal(code)
    assert rc==0, out[-3000:]
    for label in ('loading PyTorch and fastai ...', 'looking for a learning rate', 'whole run: ', 'test-time augmentation (mirror)', 'scoring 50 images', 'maps of '): assert label in out, label
    seen = on_screen(out)
    assert not [l for l in seen if 'looking for' in l or 'scoring' in l or 'augmentation (mirror) ' in l and '%' not in l], seen
    assert seen[-1].startswith('report: ')
