"""Priors from a cache of the Hub, with the network turned off."""

import os
import shutil
import subprocess
import sys

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants

from bayes1bit import hub
from bayes1bit.diffusion import MixedPrior
from bayes1bit.errors import InputError
from bayes1bit.hub import hub_folder, is_hub_name
from bayes1bit.zoo import load_prior, open_prior

FIRST, SECOND = "1" * 40, "2" * 40
NAME = "hf://somebody/tiny"


@pytest.fixture
def cache(tmp_path, tiny_prior, monkeypatch):
    """A cache with two commits of a prior, the second one the main branch, without a network."""
    repository = tmp_path / "models--somebody--tiny"
    for commit in (FIRST, SECOND):
        shutil.copytree(tiny_prior, repository / "snapshots" / commit)
    recipe = repository / "snapshots" / FIRST / "recipe.toml"
    recipe.write_text(recipe.read_text().replace('"tiny"', '"the first"'))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(SECOND)
    (repository / "refs" / "v1").write_text(FIRST)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub_folder.cache_clear()
    yield repository
    hub_folder.cache_clear()


def test_names_of_the_hub_are_told_from_others():
    assert is_hub_name(NAME)
    assert not is_hub_name("fashion32")
    assert not is_hub_name("hf/owner")


def test_a_name_without_revision_says_which_commit_it_is(cache):
    with pytest.warns(UserWarning, match=f'is commit {SECOND}; load "{NAME}@{SECOND}"'):
        opened = open_prior(NAME)
    assert opened.name == f"{NAME}@{SECOND}"
    assert opened.path == cache / "snapshots" / SECOND
    assert (opened.path / "examples" / "01.png").is_file()
    # the branch is looked up once, whatever happens to it meanwhile, and nothing is said again
    (cache / "refs" / "main").write_text(FIRST)
    assert open_prior(NAME).name == f"{NAME}@{SECOND}"


@pytest.mark.parametrize("revision", ["v1", FIRST])
def test_a_revision_is_a_tag_or_a_commit(cache, revision):
    opened = open_prior(f"{NAME}@{revision}")
    assert opened.recipe.card.title == "the first"
    assert opened.name == f"{NAME}@{FIRST}"


def test_the_loaded_prior_is_the_one_in_the_cache(cache, tiny_prior):
    prior, same = load_prior(f"{NAME}@{SECOND}"), load_prior(tiny_prior)
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(prior.denoise(x, 0.5), same.denoise(x, 0.5))


def test_parts_of_a_mixed_prior_may_come_from_the_hub(cache, tiny_prior):
    prior = load_prior(f"{tiny_prior}+{NAME}@v1@2.5")
    assert isinstance(prior, MixedPrior)
    assert prior.switch == 2.5
    assert open_prior(f"{tiny_prior}+{NAME}@v1").recipe.card.title == "the first"


@pytest.mark.parametrize(
    "name",
    ["hf://tiny", "hf://", "hf://a/b/c", "hf://a/b@", "hf://a /b", "hf://../b", "hf://a/b@x y"],
)
def test_names_that_are_none_are_refused(name):
    with pytest.raises(
        InputError, match="is not the name of a prior on the Hub; write hf://owner"
    ):
        open_prior(name)


@pytest.mark.parametrize("name", ["hf://nobody/tiny", f"{NAME}@v2", f"{NAME}@{'3' * 40}"])
def test_what_is_not_in_the_cache_is_an_error_without_a_network(cache, name):
    with pytest.raises(InputError, match=f"{name} is not in the cache, and the Hub cannot"):
        load_prior(name)


@pytest.mark.parametrize("missing", ["recipe.toml", "weights.safetensors"])
def test_repositories_that_hold_no_prior_are_refused(cache, missing):
    (cache / "snapshots" / FIRST / missing).unlink()
    with pytest.raises(InputError, match=rf"{NAME}@v1 holds no {missing}"):
        open_prior(f"{NAME}@v1")


def response(error, status):
    import httpx2

    request = httpx2.Request("GET", "https://huggingface.co")
    return error("no", response=httpx2.Response(status, request=request))


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        ("GatedRepoError", 403, "accept them on its page"),
        ("RepositoryNotFoundError", 404, "no such repository on the Hub"),
        ("RevisionNotFoundError", 404, 'no revision "v9"'),
    ],
)
def test_answers_of_the_hub_become_sentences(cache, monkeypatch, error, status, message):
    def refuse(*args, **kwargs):
        raise response(getattr(huggingface_hub.errors, error), status)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(InputError, match=message):
        open_prior(f"{NAME}@v9")


def test_a_broken_connection_leads_to_the_cache_and_only_a_priors_files_are_asked_for(
    cache, monkeypatch
):
    asked = []

    def broken(repository, *, revision, allow_patterns, local_files_only):
        asked.append((repository, revision, local_files_only))
        assert allow_patterns == hub.FILES
        if not local_files_only:
            raise RuntimeError("the line was cut")
        return str(cache / "snapshots" / FIRST)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", broken)
    assert open_prior(f"{NAME}@v1").name == f"{NAME}@{FIRST}"
    assert hub.FILES == ["recipe.toml", "weights.safetensors", "MODEL_CARD.md", "examples/*"]
    assert asked == [("somebody/tiny", "v1", False), ("somebody/tiny", "v1", True)]


@pytest.mark.slow
def test_the_environment_turns_the_network_off(cache):
    program = f"import bayes1bit; print(bayes1bit.load_prior('{NAME}@v1').event_shape)"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache.parent)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "[1, 8, 8]" in done.stdout
