"""Training images from the cache: time to the first step, memory, and speed beside memory.

The model is tiny and batches are small, so that what is measured is the data: a folder of generated
images of 64x64 pixels, or `--data FOLDER`. Each start is a process of its own that runs the command
line; the two speeds are of one process that trains two equal models in turns, one from the cache
and one from memory, whose losses must be equal.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from common import table, write

MODEL = ["--model.scales", "1", "--model.hidden", "4", "--model.blocks", "1"]
SIZE, BATCH = 64, 16


def generate(folder: Path, count: int) -> None:
    """Write so many BMP files: coarse colors with noise, so that there is something to learn."""
    pixels = 3 * SIZE * SIZE
    head = struct.pack("<2sIHHI", b"BM", 54 + pixels, 0, 0, 54)
    head += struct.pack("<IiiHHIIiiII", 40, SIZE, SIZE, 1, 24, 0, pixels, 2835, 2835, 0, 0)
    rng = np.random.default_rng(0)
    for start in range(0, count, 1000):
        inside = folder / f"{start // 1000:04d}"
        inside.mkdir(parents=True, exist_ok=True)
        n = min(1000, count - start)
        coarse = rng.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8) // 2
        images = coarse.repeat(8, axis=1).repeat(8, axis=2)
        images = images + rng.integers(0, 64, images.shape, dtype=np.uint8)
        for i, image in enumerate(images):
            (inside / f"{i:03d}.bmp").write_bytes(head + image.tobytes())


def peak() -> int:
    """Return the largest resident memory of this process so far, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def start(folder: str, cache: str, steps: int, began: float) -> None:
    """Train from the command line, and print when the first step was done, and the memory."""
    from realnvp.cli.main import main
    from realnvp.training.trainer import Trainer

    step, first = Trainer.train_step, {}

    def timed(self: Trainer, lr: float) -> object:
        terms = step(self, lr)
        if not first:
            used = os.times()
            first.update(seconds=time.time() - began, cpu=used.user + used.system, peak=peak())
        return terms

    Trainer.train_step = timed  # type: ignore[method-assign, assignment]
    with tempfile.TemporaryDirectory() as out:
        arguments = ["--data", folder, "--data-cache", cache, "--data-size", str(SIZE)]
        arguments += ["--steps", str(steps), "--out", f"{out}/run", "--training.batch_size", "8"]
        arguments += ["--training.num_validations", "1", "--training.validation_examples", "64"]
        arguments += ["--data.test", "64", "--training.calibration", "0", "--no-report", *MODEL]
        main(["train", "images", *arguments])
    print("RESULT", json.dumps({**first, "whole": peak()}), flush=True)


def speeds(folder: str, cache: str, rounds: int) -> tuple[float, float]:
    """Return the images per second of processor time from the cache and from memory."""
    from realnvp.config import DataConfig, ImageModel, ImageRecipe, TrainingConfig
    from realnvp.data import load_data
    from realnvp.training.trainer import Trainer

    trainers = []
    for storage in ("disk", "memory"):
        recipe = ImageRecipe(
            ImageModel(scales=1, hidden=4, blocks=1),
            DataConfig(folder, size=SIZE, cache=cache, storage=storage),
            TrainingConfig(steps=10**6, batch_size=BATCH),
        )
        trainers.append(Trainer.from_recipe(recipe, load_data(recipe.data)))
    each, seconds = 5, [0.0, 0.0]
    for round_ in range(rounds + 1):  # the first one warms up
        losses = []
        for i, trainer in enumerate(trainers):
            began = time.process_time()
            losses.append([float(sum(trainer.train_step(1e-3).values())) for _ in range(each)])
            seconds[i] += time.process_time() - began if round_ else 0.0
        if losses[0] != losses[1]:
            raise AssertionError(f"not the same training: {losses}")
    return tuple(BATCH * each * rounds / value for value in seconds)  # type: ignore[return-value]


def measure(*arguments: object) -> dict[str, float]:
    """Run this file as another process, and return what it prints."""
    command = [sys.executable, __file__, "--child", *map(str, arguments), str(time.time())]
    done = subprocess.run(command, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(lines[0].removeprefix("RESULT "))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--child", nargs=4)
    parser.add_argument("--data", help="folder of images; generated if left out")
    parser.add_argument("--images", type=int, default=5_000, help="number that is generated")
    parser.add_argument("--cache", help="folder of the cache; a temporary one if left out")
    parser.add_argument("--rounds", type=int, default=10, help="of five steps of each; 0 for none")
    args = parser.parse_args()
    if args.child:
        folder, cache, steps, began = args.child
        start(folder, cache, int(steps), float(began))
        return
    command = "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
    bare = 1024 * int(subprocess.check_output([sys.executable, "-c", command]))
    with tempfile.TemporaryDirectory() as temporary:
        folder, cache = args.data or f"{temporary}/images", args.cache or f"{temporary}/cache"
        if not args.data:
            generate(Path(folder), args.images)
        rows = []
        for name in ("first start: decodes", "second start"):
            found = measure(folder, cache, 20)
            row = [f"{found['seconds']:.1f}", f"{found['cpu']:.1f}"]
            row += [f"{(found[key] - bare) / 1e6:,.0f}" for key in ("peak", "whole")]
            rows.append([name, *row])
        text = "Memory is above that of a bare interpreter."
        if args.rounds:
            cached, memory = speeds(folder, cache, args.rounds)
            text += (
                f" Images per second of processor time: {cached:.1f} from the cache, {memory:.1f} "
                f"from memory, ratio {cached / memory:.3f}."
            )
    columns = [
        "",
        "s to the first step",
        "of processor time",
        "MB at the first step",
        "MB, 20 steps",
    ]
    write("storage", "Images from the cache", table(columns, rows), text)


if __name__ == "__main__":
    main()
