"""What is written is whole, whatever happens."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest

from helpers.bad_files import full_disk
from realnvp.utils.files import (
    append,
    remove_temporary,
    replacing,
    standard_json,
    write_atomically,
)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_atomically(path, b"old")
    with suppress(KeyError), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    with suppress(KeyError), replacing(tmp_path / "new" / "deep" / "a.txt"):
        raise KeyError
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    with pytest.raises(NotADirectoryError):
        write_atomically(path / "b.txt", b"")


def test_writers_of_one_file_do_not_meet_and_its_name_may_be_long(tmp_path):
    path = tmp_path / f"{'a' * 251}.txt"  # 255 bytes are the most that file systems allow
    with replacing(path) as one, replacing(path) as other:
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in (".a.12.tmp~.png", "deep/.b.1.tmp~.safetensors"):
        (tmp_path / name).write_text("half")
    (tmp_path / "kept.txt").write_text("whole")
    remove_temporary(tmp_path)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["kept.txt"]


def test_a_record_that_does_not_fit_is_taken_back(tmp_path):
    append(path := tmp_path / "log", b"x" * 95 + b"\n")
    with full_disk(), pytest.raises(OSError, match="too large"):
        append(path, b"too much\n")
    append(path, b"three\n")
    assert path.read_bytes() == b"x" * 95 + b"\nthree\n"


def test_json_has_no_numbers_that_readers_refuse():
    values = {"a": [float("inf"), 1.5, (float("nan"), "NaN")], "b": None}
    assert json.loads(standard_json(values)) == {"a": [None, 1.5, [None, "NaN"]], "b": None}
