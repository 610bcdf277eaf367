"""A run on the Hub: a card made from the run, nothing of this machine in what travels, and every refusal in words. A
folder plays the Hub."""
import json, shutil
from types import SimpleNamespace
from unittest.mock import patch
import pytest
from cifar_fastai.core import InputError
from cifar_fastai.hub import _parcel, _travels, model_card, pull_run, push_run
from cifar_fastai.runs import Run

hub = pytest.importorskip('huggingface_hub')
httpx = pytest.importorskip('httpx')

@pytest.fixture
def far(tmp_path):
    "A folder that plays the Hub, and what was asked of it"
    asked = []
    def create_repo(self, repo_id, **kw):
        asked.append((repo_id, kw))
        (tmp_path/repo_id).mkdir(parents=True, exist_ok=True)
    def upload_folder(self, *, repo_id, folder_path, **kw):
        shutil.copytree(folder_path, tmp_path/repo_id, dirs_exist_ok=True)
        return SimpleNamespace(commit_url=f'commit of {repo_id}')
    def snapshot_download(self, repo_id, **kw): return str(tmp_path/repo_id)

    with patch.multiple(
        hub.HfApi, create_repo=create_repo, upload_folder=upload_folder, snapshot_download=snapshot_download
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

def test_what_travels_is_the_network_and_no_path_of_this_machine(run_dir, tmp_path):
    source = json.loads((run_dir/'config.json').read_text())['source']
    run = change(run_dir, tmp_path/'run', 'config.json', earlier_sources=[{**source, 'path': '/home/me'}])
    with _parcel(run, 'a/b', None) as folder:
        assert {o.name for o in folder.iterdir()}=={*_travels, 'config.json', 'README.md'}
        config = (folder/'config.json').read_text()
        assert '/home/me' not in config and json.loads(config)['source']['path'] is None
        assert str(tmp_path) not in config+(folder/'README.md').read_text()

def test_what_comes_back_is_what_went(run_dir, far):
    assert push_run(run_dir, 'someone/demo')=='commit of someone/demo'
    back = pull_run('someone/demo')
    assert far.asked==[('someone/demo', dict(private=True, exist_ok=True))]
    a,b = (Run(o).load_model()[0].state_dict() for o in (run_dir,back))
    assert all((a[k]==b[k]).all() for k in a)

def answer(code): return dict(response=httpx.Response(code, request=httpx.Request('GET', 'https://hub.invalid')))
e = hub.errors
refused = [
    (e.RepositoryNotFoundError('x', **answer(404)), 'there is no a/b'),
    (e.HfHubHTTPError('x', **answer(403)), 'refused a/b \\(403'),
    (e.HfHubHTTPError('x', **answer(500)), 'answered 500'),
    (e.GatedRepoError('x', **answer(403)), 'open only'),
    (e.RevisionNotFoundError('x', **answer(404)), 'no such revision'),
    (ConnectionError(), 'cannot be reached'),
    (e.LocalEntryNotFoundError('x'), 'not here yet'),
    (e.LocalTokenNotFoundError('x'), 'not logged in'),
]
@pytest.mark.parametrize('error,says', refused, ids=[type(o).__name__+str(i) for i,(o,_) in enumerate(refused)])
def test_refusals_of_the_hub_are_said_in_words(error, says):
    with patch.object(hub.HfApi, 'snapshot_download', side_effect=error), pytest.raises(InputError, match=says):
        pull_run('a/b')


def test_a_push_that_is_not_allowed_asks_to_log_in(run_dir):
    error = e.HfHubHTTPError('x', **answer(401))
    with (
        patch.object(hub.HfApi, 'create_repo', side_effect=error),
        pytest.raises(InputError, match='refused a/b \\(401'),
    ):
        push_run(run_dir, 'a/b')

def test_repositories_that_are_none_are_refused():
    with pytest.raises(InputError, match='owner/name'): pull_run(3)

def test_a_name_that_is_none_is_refused():
    with pytest.raises(InputError, match='not the name of a repository'): pull_run('a/b/c')
