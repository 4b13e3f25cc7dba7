"""The short form of the fuzz of all readers, of which `make faults` is the long one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("fuzz.py")


def test_mutated_files_are_read_or_refused():
    command = [sys.executable, str(SCRIPT), "--count", "30"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("30 of 30") == len(done.stdout.splitlines()) >= 9
