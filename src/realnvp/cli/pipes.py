"""Tables through pipes: ``--data -`` is standard input, and ``--out -`` standard output."""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

READERS = ("columns", "eval", "impute", "predict", "score")
WRITERS = ("impute", "predict", "sample", "score")


@contextlib.contextmanager
def piped(command: str, arguments: Sequence[str]) -> Iterator[list[str]]:
    """Yield the arguments with files in place of the pipes, which are CSV tables.

    Input is read to its end first, and output is written when the command has succeeded. What the
    command prints goes to standard error then.

    Args:
        command: name of the command.
        arguments: its arguments.

    Raises:
        ValueError: if the command reads or writes no table, or JSON is printed, too.
    """
    words = [part for word in arguments for part in _divided(word)]
    reads = [i for i, word in enumerate(words) if word == "-" and not _is_value(words, i)]
    writes = [i for i, word in enumerate(words) if word == "-" and words[i - 1] == "--out" and i]
    if not reads and not writes:
        yield list(arguments)
        return
    if reads and command not in READERS:
        raise ValueError(f"{command} reads no standard input, which is for {', '.join(READERS)}")
    if writes and command not in WRITERS:
        raise ValueError(f"{command} writes to no pipe, which is for {', '.join(WRITERS)}")
    if writes and "--json" in words:
        raise ValueError("--json and --out - both write to standard output: give a file")
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder, "stdin.csv"), Path(folder, "stdout.csv")
        if reads:
            with source.open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
        for places, path in ((reads, source), (writes, result)):
            for i in places:
                words[i] = str(path)
        if not writes:
            yield words
            return
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            yield words
        print(printed.getvalue().replace(str(result), "-"), file=sys.stderr, end="")
        if result.is_file():
            with result.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)


def _divided(word: str) -> list[str]:
    """Return ``--data=-`` as two words."""
    return word.split("=") if word in ("--data=-", "--out=-") else [word]


def _is_value(words: Sequence[str], i: int) -> bool:
    """Return whether a word is the value of an option other than ``--data``."""
    return i > 0 and words[i - 1].startswith("--") and words[i - 1] != "--data"
