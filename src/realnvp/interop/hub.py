"""Models on the Hugging Face Hub: ``hf://owner/name``, or ``hf://owner/name@revision``.

A repository holds the files of a saved model (:mod:`realnvp.utils.model_folder`) and a card,
``README.md``, as ``ModelHubMixin`` of huggingface_hub lays them out. Its client, which the extra
``hub`` installs, uploads and downloads files, and manages the cache and the tokens.

Files of the hub are untrusted. Only the files of a model are downloaded, all from one commit, and
they are then read like the files of any folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from realnvp.utils.model_folder import CALIBRATION, CONFIG, WEIGHTS

__all__ = ["PREFIX", "fetch", "parse_address", "upload"]

PREFIX = "hf://"

_ADDRESS = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")


def parse_address(address: str) -> tuple[str, str | None]:
    """Return the repository and the revision of an address; without a revision, None.

    Raises:
        ValueError: if it is not such an address.

    >>> parse_address("hf://owner/name"), parse_address("hf://owner/name@v1")
    (('owner/name', None), ('owner/name', 'v1'))
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise ValueError(
            f"{address!r} is not the address of a model: it is hf://owner/name, or "
            f"hf://owner/name@revision with a branch, a tag or a commit"
        )
    return match[1], match[2]


def fetch(address: str) -> Path:
    """Return a folder, in the cache of the hub's client, with the files of a model.

    The folder is named by the commit. If the hub cannot be reached, files that were
    downloaded before are used.

    Args:
        address: ``hf://owner/name``, or ``hf://owner/name@revision`` with a branch, a tag or a
            commit. Only a commit names the same files forever.

    Raises:
        ValueError: if it is not the address of a model.
        OSError: if there is no such repository, revision or model, or the hub cannot be reached.
        ModuleNotFoundError: if huggingface_hub is not installed.
    """
    import huggingface_hub as hub

    repo, revision = parse_address(address)
    with _reached():
        folder = Path(hub.hf_hub_download(repo, CONFIG, revision=revision)).parent
        hub.hf_hub_download(repo, WEIGHTS, revision=folder.name)  # of the same commit
        with suppress(hub.errors.EntryNotFoundError):
            hub.hf_hub_download(repo, CALIBRATION, revision=folder.name)
    return folder


def upload(
    folder: Path,
    repo: str,
    *,
    commit_message: str = "Push model using realnvp",
    private: bool | None = None,
    token: str | None = None,
    branch: str | None = None,
) -> str:
    """Upload the files of a folder as one commit, and return the address of that commit.

    Args:
        folder: a saved model and its card; all of its files are uploaded.
        repo: ``owner/name``; made if there is none.
        commit_message: message of the commit.
        private: whether a repository that is made is private; None leaves it to the owner's
            settings.
        token: token of the hub; None uses the one of ``hf auth login``, or ``HF_TOKEN``.
        branch: branch to commit to, made if there is none; None is the main one.

    Raises:
        ValueError: if ``repo`` is not the name of a repository.
        OSError: if the hub refuses, or cannot be reached.
        ModuleNotFoundError: if huggingface_hub is not installed.
    """
    import huggingface_hub as hub

    parse_address(f"{PREFIX}{repo}")
    api = hub.HfApi(token=token, library_name="realnvp")
    with _reached():
        repo = api.create_repo(repo, private=private, exist_ok=True).repo_id
        if branch is not None:
            api.create_branch(repo, branch=branch, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            commit_message=commit_message,
            revision=branch,
        )
    return f"{PREFIX}{repo}@{commit.oid}"


@contextmanager
def _reached() -> Iterator[None]:
    """Turn errors of the client's network library, which differs by version, into OSErrors."""
    try:
        yield
    except (OSError, ValueError):
        raise
    except Exception as error:
        raise ConnectionError(f"the hub cannot be reached: {error}") from error
