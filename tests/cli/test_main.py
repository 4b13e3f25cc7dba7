"""Dispatch to the commands: help, did you mean, exit statuses."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from helpers.command import refused
from realnvp.cli.main import COMMANDS, main


def test_help_lists_every_command(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(command in out for command in COMMANDS)
    assert main(["--version"]) == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    options, _, examples = capsys.readouterr().out.partition("examples:")
    assert f"realnvp {command}" in examples
    for noise in ("default: null", "default: False", "default: None", "Literal[", "lambda"):
        assert noise not in options


def test_help_imports_neither_torch_nor_rich():
    code = f"""
import contextlib, io, sys
from realnvp.cli.main import main
for command in {list(COMMANDS)} + ["train cifar10", "train moons"]:
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        main([*command.split(), "--help"])
loaded = sorted({{"torch", "rich", "numpy", "pandas", "matplotlib"}} & set(sys.modules))
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_misspelled_command_is_suggested(capsys):
    assert "did you mean 'train'?" in refused(capsys, "tran digits")
    assert "did you mean" not in refused(capsys, "xyzzy")


def test_a_bug_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr("realnvp.cli.recipes.main", lambda argv: {}["bug"])
    with pytest.raises(KeyError):
        main(["recipes"])


def test_debug_shows_the_traceback(here):
    with pytest.raises(FileNotFoundError):
        main(["eval", "nowhere", "--debug"])


def test_messages_name_options_rather_than_settings(here, monkeypatch, capsys):
    def fail(argv):
        raise ValueError("there is nothing in data.root, and data.csv is no model.hidden.csv")

    monkeypatch.setattr("realnvp.cli.recipes.main", fail)
    assert "in --data-root, and data.csv is no model.hidden.csv" in refused(capsys, "recipes")


@pytest.mark.parametrize("given", [None, "active"])
def test_waiting_threads_leave_the_cores_to_others_unless_the_user_says_else(given):
    code = """
import os, sys
from realnvp.cli.main import main
assert main(["recipes", "moons"]) == 0
print(os.environ["OMP_WAIT_POLICY"], file=sys.stderr)
"""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    environment |= {} if given is None else {"OMP_WAIT_POLICY": given}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr.split() == [given or "passive"]
