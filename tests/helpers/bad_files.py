"""Broken files, models and runs in the current folder, for the table of refused inputs."""

from __future__ import annotations

import contextlib
import io
import resource
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from realnvp.builders import image_flow, vector_flow
from realnvp.cli.main import main
from realnvp.training.run_directory import RunDirectory


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """Limit files to 100 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def in_use() -> Iterator[None]:
    """Somebody trains in the folder of the run."""
    run = RunDirectory(Path("runs/moons"), resume=True)
    try:
        yield
    finally:
        run.close()


def text(name: str, content: str | bytes) -> Callable[[], Path]:
    def make() -> Path:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return make


def array(name: str, values: Any) -> Callable[[], None]:
    return lambda: np.save(name, values)


def picture(name: str, size: tuple[int, int] = (8, 8), mode: str = "L", **options: Any) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, 100 if len(mode) < 3 else None).save(name, **options)


def pictures(*more: Callable[[], Any]) -> Callable[[], None]:
    """Return a function that makes a folder f of good images, and something that is not."""

    def make() -> None:
        for i in range(4):
            picture(f"f/{i}.png")
        for one in more:
            one()

    return make


def model(kind: str = "points", **changes: Any) -> Callable[[], Path]:
    """Return a function that saves a model m."""

    def make() -> Path:
        if kind == "images":
            flow = image_flow((1, 8, 8), levels=17, hidden=4, blocks=1)
        elif kind == "labels":
            flow = vector_flow(2, couplings=2, hidden=4, classes=3)
        elif kind == "numbers":
            flow = vector_flow(2, couplings=2, hidden=4, condition_dim=2)
        else:
            flow = vector_flow(2, couplings=2, hidden=4)
        flow.trained_on = changes.get("trained_on")
        flow.save_pretrained("m")
        return Path("m")

    return make


def damaged_model(damage: Callable[[bytes], bytes], name: str = "model.safetensors") -> Callable:
    def make() -> None:
        path = model("images")() / name
        path.write_bytes(damage(path.read_bytes()))

    return make


def flip(content: bytes) -> bytes:
    return content[:-3] + bytes([content[-3] ^ 255]) + content[-2:]


def run() -> None:
    """Make a finished run of points."""
    with contextlib.redirect_stdout(io.StringIO()):
        command = "train moons --steps 2 --data.points 50 --quiet --model.hidden 4"
        assert main(command.split()) == 0


def no_array() -> None:
    """Make an archive whose member is no array."""
    with zipfile.ZipFile("o.npz", "w") as archive:
        archive.writestr("x.npy", "no array")


def integer_table() -> None:
    """Make a run of a table with an integer column, and other data with fractions in it."""
    rows = "\n".join(f"{i},{i % 7 / 7}" for i in range(30))
    Path("t.csv").write_text(f"n,x\n{rows}\n")
    Path("new.csv").write_text("n,x\n1,0.5\n1.5,0.5\n")
    with contextlib.redirect_stdout(io.StringIO()):
        command = "train table --data t.csv --steps 2 --quiet --model.hidden 4"
        assert main(command.split()) == 0


def changed_table() -> None:
    """Make a run of a table, to which a row is added afterwards."""
    integer_table()
    with Path("t.csv").open("a") as file:
        file.write("30,0.5\n")


def torn_run() -> None:
    run()
    for path in Path("runs/moons/checkpoints").glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:50])


def foreign_checkpoint() -> None:
    """Make a run whose checkpoint is a pickle, as older tools wrote them."""
    run()
    for path in Path("runs/moons/checkpoints").glob("*.safetensors"):
        torch.save({"model": torch.ones(2)}, path)


def loop() -> None:
    Path("loop.csv").symlink_to("loop.csv")


def folder_loop() -> None:
    pictures()()
    Path("g").mkdir()
    Path("g/again").symlink_to("../g")
    Path("g/self.png").symlink_to("self.png")
    Path("g/dangling.png").symlink_to("missing.png")
