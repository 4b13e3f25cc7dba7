"""The short form of the fuzz of all readers, of which `make faults` is the long one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from realnvp import vector_flow
from realnvp.estimator import RealNVPDensity
from system import fuzz

SCRIPT = Path(__file__).with_name("fuzz.py")


def test_mutated_files_are_read_or_refused():
    command = [sys.executable, str(SCRIPT), "--count", "30"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("30 of 30") == len(done.stdout.splitlines()) >= 9


def test_a_truth_value_is_no_column():
    with pytest.raises(ValueError, match="got True"):
        vector_flow(3, integers=[True])


def without_columns(notes: dict) -> None:
    del notes["table"]["columns"]


def with_digits_without_end(notes: dict) -> None:
    notes["estimator"]["n_iter"] = "9" * 10_000


@pytest.mark.parametrize("change", [without_columns, with_digits_without_end])
def test_a_density_with_damaged_notes_is_refused(tmp_path, change):
    (path,) = fuzz.KINDS["density"].make(tmp_path)
    settings = json.loads(path.read_bytes())
    change(settings["trained_on"])
    path.write_bytes(fuzz._belongs(path, json.dumps(settings).encode()))
    with pytest.raises(ValueError, match=r"is damaged|not one of a table"):
        RealNVPDensity.load(tmp_path)
