"""Which files of a folder are images, and what a sequence of them holds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.data_files import GREY, RGB, save, write
from realnvp.utils.image_files import UnusableImage, attempt, image_files, read_image, stack


def test_files_come_in_the_order_of_their_paths_without_hidden_ones(tmp_path):
    for name in ("b.PNG", "a/z.jpg", "a/c/y.tiff", "a.png", ".hidden.png", ".d/x.png", "n.txt"):
        write(tmp_path / name, "x")
    (tmp_path / "folder.png").mkdir()
    found = [path.relative_to(tmp_path).as_posix() for path in image_files(tmp_path)]
    assert found == ["a/c/y.tiff", "a/z.jpg", "a.png", "b.PNG"]
    assert [*image_files(tmp_path)] == sorted(image_files(tmp_path))


def test_links_are_followed_but_not_in_a_circle(tmp_path):
    folder = tmp_path / "data"
    write(tmp_path / "elsewhere/deep/b.png", "x")
    write(folder / "a/a.png", "x")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "a/up").symlink_to(folder)
    (tmp_path / "elsewhere/deep/itself").symlink_to(tmp_path / "elsewhere/deep")
    found = [path.relative_to(folder).as_posix() for path in image_files(folder)]
    assert found == ["a/a.png", "linked/deep/b.png"]


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch, capsys):
    write(tmp_path / "a/a.png", "x")
    write(tmp_path / "b/b.png", "x")
    scan = os.scandir

    def refuse(path):
        if Path(path).name == "a":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert [path.name for path in image_files(tmp_path)] == ["b.png"]
    said = " ".join(capsys.readouterr().err.split())
    assert f"{tmp_path / 'a'} is left out, as it cannot be read: Permission denied" in said


def test_a_stack_says_what_is_not_in_it(tmp_path):
    bad = attempt(read_image, write(tmp_path / "bad.png", b"no"))
    assert isinstance(bad, UnusableImage)
    found = stack([bad, GREY[0], GREY[1].T, RGB[0], GREY[2]], 5)
    assert found.kept == [1, 3, 4]
    assert list(found.bad) == [0]
    assert found.odd == {2: (8, 6)}
    assert found.images.shape == (3, 3, 8, 6)
    assert (found.images[0] == GREY[0]).all()
    assert (found.images[1] == RGB[0].transpose(2, 0, 1)).all()


def test_a_read_image_is_as_on_the_screen(tmp_path):
    path = save(RGB[0], tmp_path / "a.png")
    assert (read_image(Path(path)) == RGB[0]).all()
    assert read_image(path, size=4, channels=1).shape == (4, 4)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_ends_with_its_parent(tmp_path):
    code = f"""
import os, time
import os
import subprocess
import sys
from pathlib import Path

import pytest
from realnvp.utils.image_files import end_with
if os.fork() == 0:
    end_with(os.getppid())
    Path({str(tmp_path / "child")!r}).write_text(str(os.getpid()))
    time.sleep(60)
    print("it has outlived its parent", flush=True)
while not Path({str(tmp_path / "child")!r}).exists():
    time.sleep(0.01)
os._exit(0)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read() == b""  # until the last one that holds it has ended
