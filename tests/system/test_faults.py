"""The short form of `make faults`; what is left out here has tests of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("faults.py")
TABLES = SCRIPT.with_name("table_faults.py")


def test_faults_end_as_they_must():
    command = [sys.executable, str(SCRIPT), "--fast", "--only", "kills", "images", "files", "cache"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[:3:2] for line in lines[:4]] == [
        ["3", "3"], ["1,000", "1,000"], ["80", "80"], ["11", "11"]
    ]  # fmt: skip


def test_generated_tables_have_no_faults():
    command = [sys.executable, str(TABLES), "--fast"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
