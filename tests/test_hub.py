"""A run on the Hub: a card made from the run, nothing of this machine in what travels, and every refusal in words. A
folder plays the Hub."""
import json, shutil
from types import SimpleNamespace
from unittest.mock import patch
import pytest
from cifar_fastai.core import InputError
from cifar_fastai.hub import model_card, pull_run, push_run
from cifar_fastai.runs import load_weights

hub = pytest.importorskip('huggingface_hub')
httpx = pytest.importorskip('httpx')

@pytest.fixture
def far(tmp_path):
    "A folder that plays the Hub, and what was asked of it"
    asked = []
    def create_repo(self, repo_id, **kw):
        asked.append((repo_id, kw))
        (tmp_path/repo_id).mkdir(parents=True, exist_ok=True)
    def create_commit(self, repo_id, operations, **kw):
        for o in operations:
            with o.as_file() as f: (tmp_path/repo_id/o.path_in_repo).write_bytes(f.read())
        return SimpleNamespace(commit_url=f'commit of {repo_id}')
    def snapshot_download(self, repo_id, **kw): return str(tmp_path/repo_id)

    with patch.multiple(
        hub.HfApi, create_repo=create_repo, create_commit=create_commit, snapshot_download=snapshot_download
    ):
        yield SimpleNamespace(path=tmp_path, asked=asked)

def change(run, to, file, **changes):
    "A copy of a run with other fields in one of its files"
    shutil.copytree(run, to)
    d = json.loads((to/file).read_text())
    (to/file).write_text(json.dumps({**d, **changes}))
    return to

def test_a_card_has_what_the_hub_searches_by(run_dir):
    card = model_card(run_dir, 'someone/demo', license='apache-2.0')
    assert card.startswith('---\n') and '\nlicense: apache-2.0\n' in card and 'value: ' in card
    assert "pull_run('someone/demo')" in card and 'license' not in model_card(run_dir)

def test_a_card_of_no_run_or_of_half_a_run_is_refused(run_dir, tmp_path):
    with pytest.raises(InputError, match='give the folder of a run'): model_card(tmp_path)
    half = change(run_dir, tmp_path/'half', 'metrics.json', completed=False)
    with pytest.raises(InputError, match='finish it first'): model_card(half)

def test_what_travels_is_the_network_and_no_path_of_this_machine(run_dir, tmp_path, far):
    source = json.loads((run_dir/'config.json').read_text())['source']
    run = change(run_dir, tmp_path/'run', 'config.json', earlier_sources=[{**source, 'path': '/home/me'}])
    (run/'report.html').write_text('figures of the data')
    push_run(run, 'a/b')
    folder = far.path/'a/b'
    weights = 'model.safetensors','model.json','features.safetensors'
    assert {o.name for o in folder.iterdir()}=={*weights, 'history.csv', 'metrics.json', 'config.json', 'README.md'}
    config = (folder/'config.json').read_text()
    assert '/home/me' not in config and json.loads(config)['source']['path'] is None
    assert str(tmp_path) not in config+(folder/'README.md').read_text()

def test_what_comes_back_is_what_went(run_dir, far):
    assert push_run(run_dir, 'someone/demo')=='commit of someone/demo'
    back = pull_run('someone/demo')
    assert far.asked==[('someone/demo', dict(private=True, exist_ok=True))]
    a,b = (load_weights(o)[0].state_dict() for o in (run_dir,back))
    assert all((a[k]==b[k]).all() for k in a)

def answer(code): return dict(response=httpx.Response(code, request=httpx.Request('GET', 'https://hub.invalid')))
e = hub.errors
refused = [
    e.RepositoryNotFoundError('404\nno such repository', **answer(404)),
    e.HfHubHTTPError('403', **answer(403)),
    ConnectionError('403'),
    e.HTTPError('404'),
    e.LocalEntryNotFoundError('404'),
    e.LocalTokenNotFoundError('403'),
]
@pytest.mark.parametrize('error', refused, ids=lambda o: type(o).__name__)
def test_refusals_of_the_hub_are_its_own_first_line(error, run_dir):
    says = r"no exchange with 'a/b' on the Hub \(40[34]\)"
    with patch.object(hub.HfApi, 'snapshot_download', side_effect=error), pytest.raises(InputError, match=says):
        pull_run('a/b')
    with patch.object(hub.HfApi, 'create_repo', side_effect=error), pytest.raises(InputError, match=says):
        push_run(run_dir, 'a/b')

@pytest.mark.parametrize('name', [3, 'a/b/c'])
def test_repositories_that_are_none_are_refused(name):
    with pytest.raises(InputError, match='Repo id must be'): pull_run(name)
