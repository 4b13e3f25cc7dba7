"""Models on the Hugging Face Hub: ``hf://owner/name``, or ``hf://owner/name@revision``.

A repository holds the files of a saved model (:mod:`realnvp.utils.model_folder`) and a card,
``README.md``, as ``ModelHubMixin`` of huggingface_hub lays them out. Its client, which the extra
the extra ``hub`` installs, uploads and downloads files, and manages the cache and the tokens.

Files of the hub are untrusted. A revision is first resolved to a commit, and all files are those
of that commit. Each must have the size and the checksum that the commit gives; only the files of a
model are downloaded; and they are then read like those of any folder.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from realnvp.utils.files import hash_file
from realnvp.utils.model_folder import (
    CALIBRATION,
    CALIBRATION_LIMIT,
    CONFIG,
    CONFIG_LIMIT,
    WEIGHTS,
    physical_memory,
)

__all__ = ["PREFIX", "fetch", "parse_address", "pinned", "upload"]

PREFIX = "hf://"

_ADDRESS = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def parse_address(address: str) -> tuple[str, str | None]:
    """Return the repository and the revision of an address; without a revision, None.

    Raises:
        ValueError: if it is not such an address.

    >>> parse_address("hf://owner/name"), parse_address("hf://owner/name@v1")
    (('owner/name', None), ('owner/name', 'v1'))
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise ValueError(
            f"{address!r} is not the address of a model: it is hf://owner/name, or "
            f"hf://owner/name@revision with a branch, a tag or a commit"
        )
    return found[1], found[2]


def pinned(address: str) -> str:
    """Return the address of the commit that a revision refers to now, whose files never change.

    Raises:
        ValueError: if it is not the address of a model.
        OSError: if there is no such repository or revision, or the hub cannot be reached.
    """
    repo, revision = parse_address(address)
    return f"{PREFIX}{repo}@{_info(repo, revision).sha}"


def fetch(address: str) -> Path:
    """Return a folder, in the cache of the hub's client, with the verified files of a model.

    If the hub cannot be reached, files that were downloaded and verified before are used.

    Args:
        address: ``hf://owner/name``, or ``hf://owner/name@revision`` with a branch, a tag or a
            commit. Only a commit names the same files forever: see :func:`pinned`.

    Raises:
        ValueError: if it is not the address of a model, the repository holds none, or the
            files are not those of the commit.
        OSError: if there is no such repository or revision, or the hub cannot be reached.
        ModuleNotFoundError: if huggingface_hub is not installed.
    """
    import huggingface_hub as hub

    repo, revision = parse_address(address)
    try:
        info = _info(repo, revision)
    except ConnectionError as error:
        found = hub.try_to_load_from_cache(repo, CONFIG, revision=revision)
        weights = hub.try_to_load_from_cache(repo, WEIGHTS, revision=revision)
        if isinstance(found, str) and isinstance(weights, str):
            return Path(found).parent
        raise ConnectionError(f"{error}; {address} was not fetched before") from error
    files = {file.rfilename: file for file in info.siblings or []}
    for name in (CONFIG, WEIGHTS):
        if name not in files:
            raise ValueError(f"{address} has no saved model: {name} is missing")
    memory = physical_memory()
    most = {CONFIG: CONFIG_LIMIT, CALIBRATION: CALIBRATION_LIMIT, WEIGHTS: memory and memory // 3}
    folder = Path()
    for name in (CONFIG, WEIGHTS, CALIBRATION):
        file, limit = files.get(name), most[name]
        if file is None:
            continue
        if limit is not None and (file.size or 0) > limit:
            raise ValueError(
                f"{name} of {address} is too large: {file.size:,} bytes, and at most {limit:,} "
                f"are read"
            )
        with _explained(repo, revision):
            path = Path(hub.hf_hub_download(repo, name, revision=revision))
        if path.parent.name != info.sha:
            raise ValueError(f"{address} changed while it was fetched: try again")
        try:
            _verify(path, file)
        except ValueError as error:
            path.resolve().unlink()  # remove it from the cache, which would return it again
            raise ValueError(f"{name} of {address} {error}: it was removed, try again") from None
        folder = path.parent
    return folder


def upload(
    folder: Path,
    repo: str,
    *,
    message: str = "Push model using realnvp",
    private: bool | None = None,
    token: str | None = None,
    branch: str | None = None,
    create_pr: bool = False,
) -> str:
    """Upload the files of a folder as one commit, and return the address of that commit.

    Args:
        folder: a saved model and its card; all of its files are uploaded.
        repo: ``owner/name``; made if there is none.
        message: message of the commit.
        private: whether a repository that is made is private; None leaves it to the owner's
            settings.
        token: token of the hub; None uses that of ``hf auth login`` or of ``HF_TOKEN``.
        branch: branch to commit to, made if there is none; None is the main one.
        create_pr: propose the commit rather than make it.

    Raises:
        ValueError: if ``repo`` is not the name of a repository.
        OSError: if the hub refuses, or cannot be reached.
        ModuleNotFoundError: if huggingface_hub is not installed.
    """
    import huggingface_hub as hub

    parse_address(f"{PREFIX}{repo}")
    api = hub.HfApi(token=token, library_name="realnvp")
    with _explained(repo, branch):
        repo = api.create_repo(repo, private=private, exist_ok=True).repo_id
        if branch is not None:
            api.create_branch(repo, branch=branch, exist_ok=True)
        done = api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            commit_message=message,
            revision=branch,
            create_pr=create_pr,
        )
    return f"{PREFIX}{repo}@{done.oid}"


def _info(repo: str, revision: str | None) -> Any:
    """Return the commit of a revision, and the checksums of its files."""
    import huggingface_hub as hub

    with _explained(repo, revision):
        info = hub.HfApi(library_name="realnvp").model_info(
            repo, revision=revision, files_metadata=True
        )
    if not _COMMIT.fullmatch(info.sha or ""):
        raise ValueError(f"the hub names no commit of {repo}, but {info.sha!r}")
    if _COMMIT.fullmatch(revision or "") and info.sha != revision:
        raise ValueError(f"the hub answered with commit {info.sha} of {repo}, not {revision}")
    return info


def _verify(path: Path, file: Any) -> None:
    """Raise unless a file is the one that its commit names.

    Git names a small file by the SHA-1 of a header and its content; a large one is stored outside
    of Git, and named by its SHA-256.
    """
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        raise ValueError(f"has {size:,} bytes, not {file.size:,}")
    if file.lfs is not None:
        digest, expected = hashlib.sha256(), file.lfs.sha256
    else:
        header = f"blob {size}\0".encode()
        digest, expected = hashlib.sha1(header, usedforsecurity=False), file.blob_id
    hash_file(path, digest)
    if digest.hexdigest() != expected:
        raise ValueError(f"has the checksum {digest.hexdigest()}, not {expected}")


@contextmanager
def _explained(repo: str, revision: str | None) -> Iterator[None]:
    """Turn the client's errors into errors of one line; no answer is a ConnectionError."""
    from huggingface_hub import errors

    try:
        yield
    except errors.RevisionNotFoundError as error:
        raise FileNotFoundError(f"{repo} has no revision {revision!r} on the hub") from error
    except errors.GatedRepoError as error:
        raise PermissionError(f"{repo} is gated: request access on its page") from error
    except errors.RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"there is no model {repo} on the hub, or it is private: then run hf auth login, or "
            f"set HF_TOKEN"
        ) from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            raise PermissionError(
                f"the hub does not let you write to {repo}: run hf auth login, or set HF_TOKEN, "
                f"with a token that may write there"
            ) from error
        raise OSError(f"the hub answered for {repo}: {_line(error)}") from error
    except ValueError:
        raise
    except Exception as error:  # the client's network libraries differ between its versions
        if isinstance(error, OSError) and not isinstance(error, ConnectionError) and error.errno:
            raise  # of a file
        raise ConnectionError(f"the hub cannot be reached: {_line(error)}") from error


def _line(error: BaseException) -> str:
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)
