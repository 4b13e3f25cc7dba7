"""Errors that are not bugs, and their description in one line.

This module imports nothing heavy: the command line needs it before anything else.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Sequence

_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), ": make room, or write elsewhere"),
    **dict.fromkeys((errno.EACCES, errno.EPERM), ": change its permissions, or choose another"),
    errno.EROFS: ": choose a writable location",
    errno.ENOTDIR: ": a part of this path is a file, not a folder",
    errno.EISDIR: ": this is a folder, give a file",
    errno.ELOOP: ": the links form a cycle, give the file itself",
}


_PACKAGES = {
    **dict.fromkeys(("onnx", "onnxruntime", "onnxscript"), "'.[onnx]'"),
    "gradio": "'.[studio]'",
    "huggingface_hub": "'.[hub]'",
    "constriction": "'.[codec]'",
    "pyarrow": "'.[parquet]'",
    "sklearn": "scikit-learn",
    "PIL": "pillow",
    "lightning_fabric": "lightning-fabric",
    **{
        name: name
        for name in (
            "filelock", "matplotlib", "openpyxl", "pandas", "rich", "scipy", "tensorboard",
            "torchvision",
        )
    },
}  # fmt: skip
"""What to install for missing modules that samples and likelihoods do not need."""


_LONGEST = 3_000  # characters of an error: ten file names with their reasons


class Interrupted(Exception):
    """A signal ended the run; everything is saved.

    Args:
        message: what was done, and how to continue.
        number: number of the signal; the exit status is 128 + number, as in shells.
    """

    def __init__(self, message: str, number: int = 2) -> None:
        super().__init__(message)
        self.status = 128 + number


class RemoteRankError(Exception):
    """Another process of the same run reports why all of them end.

    Args:
        status: exit status of this process.
    """

    def __init__(self, status: int = 2) -> None:
        super().__init__("another process of this run reports the error")
        self.status = status


def is_too_large(error: BaseException) -> bool:
    """Return whether memory ran out or a size overflowed, for which PyTorch has several messages.

    >>> is_too_large(RuntimeError("CUDA out of memory")), is_too_large(RuntimeError("a bug"))
    (True, False)
    """
    signs = (
        "out of memory",
        "can't allocate memory",
        "Storage size calculation overflowed",
        "numel: integer multiplication overflow",
    )
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in signs)


def is_expected(error: BaseException) -> bool:
    """Return whether an error is one that the user can fix; any other one is a bug.

    >>> is_expected(ValueError("bad")), is_expected(KeyError("bug"))
    (True, False)
    """
    if isinstance(error, RuntimeError) and is_too_large(error):
        return True
    if isinstance(error, ModuleNotFoundError):
        return _package_of(error) is not None
    return isinstance(error, ValueError | OSError | FloatingPointError | MemoryError)


def _package_of(error: ModuleNotFoundError) -> str | None:
    """Return what to install for a missing module; None if no feature needs it."""
    return _PACKAGES.get((error.name or "").partition(".")[0])


def describe(error: BaseException) -> str:
    """Return an error in one line, with a remedy where one is known.

    >>> describe(FileNotFoundError(2, "No such file or directory", "a.csv"))
    'No such file or directory: a.csv'
    >>> describe(ModuleNotFoundError("No module named 'sklearn'", name="sklearn"))
    'this needs sklearn, which is not installed: pip install scikit-learn'
    """
    if isinstance(error, ModuleNotFoundError) and (package := _package_of(error)):
        return f"this needs {error.name}, which is not installed: pip install {package}"
    if isinstance(error, UnicodeError):
        return f"this is not text in UTF-8: {error}"
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{where}{_REMEDIES.get(error.errno or 0, '')}"
    if is_too_large(error):
        return "out of memory: lower the batch size, the model's size or how many are asked for"
    text = " ".join(str(error).split()) or type(error).__name__
    # Quoted input may have any length, and the end of the message says what to do.
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 600]} ... {text[-600:]}"


def some_of(names: Sequence[str], most: int = 20) -> str:
    """Return a list of names for a message, truncated if it is long.

    >>> some_of(["a", "b", "c"], most=2)
    'a, b, ... (3 in all)'
    """
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown}, ... ({len(names)} in all)"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the beginning of a message that suggests the known name closest to one, if any is.

    >>> did_you_mean("tran", ["train", "eval"]), did_you_mean("tran", ["eval"])
    ("did you mean 'train'? ", '')
    """
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}? " if close else ""
