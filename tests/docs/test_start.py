"""Every command of the page Start, in an empty folder, with budgets of a few steps."""

from __future__ import annotations

import re
import runpy
import shlex
import warnings
from pathlib import Path

import pytest

from realnvp.cli.main import main

PAGE = Path(__file__).parents[2] / "docs" / "start.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text("utf-8"), flags=re.M | re.S)


def shortened(words: list[str]) -> list[str]:
    """Return the words of a command with a budget of few steps in place of minutes."""
    if words[0] != "train" or "--dry-run" in words:
        return words
    if "--minutes" in words:
        at = words.index("--minutes")
        words = words[:at] + words[at + 2 :]
    return [*words, "--steps", "4", "--quiet", "--seed", "0"]


def run(line: str) -> None:
    program, *words = shlex.split(line)
    if program == "python":
        runpy.run_path(words[0], run_name="__main__")
        return
    assert program == "realnvp", line
    assert main(shortened(words)) == 0, line


def test_the_page_has_commands():
    lines = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]
    assert len(lines) >= 15
    assert {shlex.split(line)[0] for line in lines} == {"realnvp", "python"}


@pytest.mark.filterwarnings("ignore:.*dequantized:UserWarning")
def test_every_command_of_the_page_works(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for kind, text in BLOCKS:
        if kind == "sh":
            for line in text.splitlines():
                run(line)
        elif kind == "python" and (name := re.match(r"# (\w+\.py)\n", text)):
            Path(name[1]).write_text(text, "utf-8")
        elif kind == "python":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                names: dict = {}
                exec(compile(text, str(PAGE), "exec"), names)
            assert len(names["scores"]) == 178
            assert len(names["rows"]) == 5
    made = {path.name for path in tmp_path.iterdir()}
    assert made >= {"samples.png", "threes.png", "mine.png", "scores.csv", "wine-scores.csv"}
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == 401
    assert len((tmp_path / "more-wine.csv").read_text().splitlines()) == 1001
