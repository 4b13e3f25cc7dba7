"""The command line in tests: small models, what a command printed, and pictures."""

from __future__ import annotations

import json
from typing import Any

from PIL import Image

from realnvp.cli.main import main

SMALL = ["--model.hidden", "8", "--model.blocks", "1", "--quiet"]


def run(command: str, *more: str) -> None:
    """Run a command, which must succeed. The report of a training has tests of its own."""
    without = ["--no-report"] if command.startswith("train ") else []
    assert main([*command.split(), *more, *without]) == 0


def json_of(capsys: Any) -> dict[str, Any]:
    """Return the JSON object that was printed last."""
    return json.loads(capsys.readouterr().out)


def refused(capsys: Any, command: str, *more: str) -> str:
    """Run a command, which must be refused in one line, and return that line."""
    assert main([*command.split(), *more]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def size_of(name: str) -> tuple[int, int]:
    """Return width and height of a picture."""
    with Image.open(name) as image:
        return image.size
