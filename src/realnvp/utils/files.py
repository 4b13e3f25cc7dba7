"""Writing of files such that a crash, a full disk or a second writer never leaves a partial one."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import secrets
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_MARK = ".tmp~"

_FORMULA = re.compile(r"[=+\-@\t\r](?![\d.,\s]+(e[+-]?\d+)?%?$)")
"""Text that a spreadsheet would run, rather than show; negative numbers are none."""


def csv_text(frame: pd.DataFrame, *, escape: bool = False, **options: Any) -> str:
    """Return a table as CSV.

    Args:
        frame: the table.
        escape: write an apostrophe before text and names that a spreadsheet would take for a
            formula.
        options: arguments of ``DataFrame.to_csv``.

    >>> import pandas as pd
    >>> frame = pd.DataFrame({"town": ["=1+1", "-5", "Rome"], "@n": [-1, 2, 3]})
    >>> csv_text(frame, escape=True).split()
    ["town,'@n", "'=1+1,-1", '-5,2', 'Rome,3']
    """
    if escape:
        text = frame.select_dtypes(["object", "string", "category"]).columns
        frame = frame.assign(**{name: frame[name].map(_escaped) for name in text})
        frame = frame.rename(columns=_escaped)
    written: str = frame.to_csv(index=False, **options)
    return written


def _escaped(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def standard_json(value: Any) -> str:
    """Return JSON that every parser accepts: numbers that are not finite become null.

    >>> standard_json({"loss": [0.5, float("nan")]})
    '{"loss": [0.5, null]}'
    """

    def finite(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: finite(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [finite(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(finite(value), allow_nan=False)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, which is read in parts."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sync_file(path: Path) -> None:
    """Flush a file to the disk, which fails if there is no room for it."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush a folder to the disk, so that renames in it survive a power loss."""
    with contextlib.suppress(OSError):  # not possible on Windows and some file systems
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to ``path``, which replaces it when the block succeeds.

    In any case, ``path`` is the complete old or new file, and the temporary file is removed. It has
    the suffix of ``path``, by which libraries choose the format. The folder is made if needed.
    Writers of the same path do not meet, even on different machines.

    Args:
        path: file to replace.

    Raises:
        OSError: if it cannot be written, naming ``path``.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with replacing(folder / "a.txt") as temporary:
    ...     _ = temporary.write_text("whole")
    >>> [file.name for file in folder.iterdir()]
    ['a.txt']
    """
    # The name of a file may be as long as the system allows, so only its beginning is used.
    temporary = path.with_name(f".{path.stem[:32]}.{secrets.token_hex(4)}{_MARK}{path.suffix}")
    made = [folder for folder in path.parents if not folder.exists()]
    try:
        if path.parent.exists() and not path.parent.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        sync_file(temporary)
        temporary.replace(path)
        sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        for folder in made:
            with contextlib.suppress(OSError):  # it was not made, or is in use
                folder.rmdir()
        if isinstance(error, OSError) and error.filename in (None, str(temporary)) and error.errno:
            # the user knows the final name only
            raise type(error)(error.errno, error.strerror, str(path)) from error
        raise


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file atomically: in any case, the old or the new content is complete.

    Args:
        path: file to write.
        content: its bytes.

    Raises:
        OSError: if it cannot be written, naming it.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def remove_temporary(folder: Path) -> None:
    """Remove the temporary files of :func:`replacing` that a killed process left in a folder."""
    for path in folder.rglob(f".*{_MARK}*"):
        path.unlink(missing_ok=True)


def append(path: Path, record: bytes) -> None:
    """Write a record at the end of a file, which the first one creates.

    Raises:
        OSError: if the record cannot be written; the file is then unchanged.
    """
    size = path.stat().st_size if path.exists() else 0
    try:
        with path.open("ab") as file:
            file.write(record)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.truncate(path, size)
        raise type(error)(error.errno, error.strerror, str(path)) from error


@contextlib.contextmanager
def readable(path: Path | str) -> Iterator[None]:
    """Turn any error of a damaged file into a ValueError of one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about headers that Python 2 wrote, and damaged ones
            yield
    # What numpy, zipfile and pyarrow raise for damaged files; RuntimeError: for encrypted ones.
    except (
        OSError, ValueError, TypeError, EOFError, KeyError, MemoryError, RuntimeError,
        OverflowError, RecursionError, SyntaxError, zipfile.BadZipFile, zlib.error,
        tokenize.TokenError,
    ) as error:  # fmt: skip
        reason = " ".join(str(error).split()) or type(error).__name__
        if "allow_pickle" in reason:
            reason = "it holds Python objects, or is no array file: save one plain array of numbers"
        raise ValueError(f"cannot read {path}: {reason}") from error
