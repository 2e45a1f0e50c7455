"""Priors from the Hugging Face Hub, by names such as ``hf://owner/name@revision``.

A prior's repository holds the files of a prior's folder at its top: ``recipe.toml``,
``weights.safetensors``, ``MODEL_CARD.md``, and pictures in ``examples/``. Nothing else is
downloaded, nothing is unpickled, and no code of a repository runs. Files go to the Hub's usual
cache, so that a prior that was loaded once is there without a network.

A branch moves. A name without a revision means the newest commit of the main branch, which is
looked up once for the whole process; the warning says which it is, and the name to write for the
same again.
"""

import re
import warnings
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from bayes1bit.errors import InputError

SCHEME = "hf://"
FILES = ["recipe.toml", "weights.safetensors", "MODEL_CARD.md", "examples/*"]

_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?"
_NAME = re.compile(rf"hf://(?P<repository>{_PART}/{_PART})(?:@(?P<revision>[A-Za-z0-9._/-]+))?")


class HubFolder(NamedTuple):
    """A prior's folder in the cache.

    Attributes:
        name: Its name with the commit, ``hf://owner/name@commit``.
        path: The folder.
    """

    name: str
    path: Path


def is_hub_name(name: str | Path) -> bool:
    """Whether a name asks for the Hub."""
    return str(name).startswith(SCHEME)


@lru_cache
def hub_folder(name: str) -> HubFolder:
    """Download a prior, or find it in the cache.

    Args:
        name: ``hf://owner/name`` or ``hf://owner/name@revision``, with a branch, a tag, or a whole
            commit.

    Returns:
        Its folder, and the name with the commit.

    Raises:
        InputError: If the name is not of that form, there is no such repository, revision or prior
            in it, or the Hub cannot be reached and the cache has nothing.
    """
    found = _NAME.fullmatch(name)
    if not found:
        raise InputError(
            f'"{name}" is not the name of a prior on the Hub; write hf://owner/name, or '
            "hf://owner/name@revision with a branch, a tag or a commit"
        )
    repository, revision = found["repository"], found["revision"]
    path = _download(name, repository, revision)
    for file in FILES[:2]:
        if not (path / file).is_file():
            raise InputError(
                f"{name} holds no {file}; a prior's repository has that at its top, as "
                "bayes1bit train writes it"
            )
    # a folder of the cache bears the name of its commit
    pinned = f"{SCHEME}{repository}@{path.name}"
    if revision is None:
        warnings.warn(
            f'{name} is commit {path.name}; load "{pinned}" for the same again', stacklevel=4
        )
    return HubFolder(pinned, path)


def _download(name: str, repository: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    def fetch(local_files_only: bool) -> Path:
        return Path(
            snapshot_download(
                repository,
                revision=revision,
                allow_patterns=FILES,
                local_files_only=local_files_only,
            )
        )

    try:
        return fetch(local_files_only=False)
    except GatedRepoError as error:
        raise InputError(
            f"{name} is open only to those who accepted its terms; accept them on its page, and "
            "log in with the command hf auth login"
        ) from error
    except RevisionNotFoundError as error:
        raise InputError(f'{name}: the repository has no revision "{revision}"') from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"{name}: there is no such repository on the Hub, or it is private and you are not "
            "logged in"
        ) from error
    except Exception as unreachable:
        # what a network's failure raises differs between versions of the library
        try:
            return fetch(local_files_only=True)
        except OSError as error:
            raise InputError(
                f"{name} is not in the cache, and the Hub cannot be reached ({unreachable})"
            ) from error
