"""What goes wrong in long trainings, done on purpose and counted: `make faults`.

    python tests/system/faults.py [--fast] [--only NAME ...]

Prints a line for each kind of fault: how many were tried, and how many ended as they must. The exit
status is 1 if one did not. ``--fast`` tries few of each, in a minute on one thread.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing as mp
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))


import realnvp
from helpers import bad_input, data_files, kills, poison, processes
from helpers.memory import memory_growth
from realnvp.cli.main import main as command_line
from realnvp.config import (
    DataConfig,
    ImageModel,
    ImageRecipe,
    TrainingConfig,
    VectorModel,
    VectorRecipe,
)
from realnvp.data import cache, images, load_data
from realnvp.training import rollback as rollback
from realnvp.training.train import train
from realnvp.training.trainer import Trainer
from realnvp.utils import serialization as checkpoint
from system import fuzz

Result = tuple[int, int, str]
"""How many ended as they must, of how many, and what to say about it."""


def spread(count: int, total: int) -> list[int]:
    """Return numbers below ``total``, evenly spread."""
    return [(2 * i + 1) * total // (2 * count) for i in range(min(count, total))]


def kill_points(folder: Path, fast: bool) -> Result:
    """Kill a training, resume it, and compare with one that was not killed."""
    status = kills.run(folder / "whole")
    assert status == 0, (folder / "whole.log").read_text()
    moments = json.loads((folder / "moments.json").read_text())
    points = spread(3 if fast else 20, len(moments))
    torn = good = 0
    for number, point in enumerate(points):
        tear = number % 2 == 1
        kills.kill_and_resume(folder / f"{point}", point, tear=tear)
        found = kills.differences(folder / "whole", folder / f"{point}")
        good += not found
        torn += tear
        if found:
            print(f"killed at moment {point}, {moments[point]}: {found}", file=sys.stderr)
    say = f"kills of {len(moments)} moments resumed bit for bit, {torn} from a torn checkpoint"
    return good, len(points), say


def full_disks(folder: Path, fast: bool) -> Result:
    """Let no file grow for some steps, or to the end."""
    assert kills.run(folder / "whole") == 0
    cases = [(8, 99)] if fast else [(8, 99), (2, 5), (3, 9)]
    good = 0
    for first, last in cases:
        run = folder / f"{first}"
        status = kills.fill_disk(run, first, last)
        if last > kills.STEPS:  # it stays full: an error, and a run to go on with
            good_end = status != 0 and kills.run(run, resume=True) == 0
        else:
            good_end = status == 0
        found = [d for d in kills.differences(folder / "whole", run) if "samples/" not in d]
        good += good_end and not found
        if found:
            print(f"disk full from step {first} to {last}: {found}", file=sys.stderr)
    return good, len(cases), "full disks cost no step and no weight"


def damaged_files(folder: Path, fast: bool) -> Result:
    """Flip bits of saved models and checkpoints, and cut them off."""
    chance = random.Random(0)
    flow = trained_digits(folder, 2).best_flow()
    flow.save_pretrained(folder / "model")
    paths = [folder / "model" / name for name in ("model.safetensors", "config.json")]
    whole = {path: path.read_bytes() for path in paths}
    tried = 40 if fast else 200
    found = 0
    for number in range(tried):
        path = paths[number % 4 == 3]
        content = bytearray(whole[path])
        if number % 2:
            content = content[: chance.randrange(len(content))]
        else:
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        try:
            realnvp.load(folder / "model")
        except (ValueError, FileNotFoundError):
            found += 1
        path.write_bytes(whole[path])
    realnvp.load(folder / "model")
    state = checkpoint.to_bytes({"x": torch.randn(1000), "step": 3, "betas": (0.9, 0.999)})
    for number in range(tried):
        content = bytearray(state)
        if number % 2:
            content = content[: chance.randrange(len(content))]
        else:
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        try:
            checkpoint.from_bytes(bytes(content))
        except ValueError:
            found += 1
    return found, 2 * tried, "flips and cuts found, half in saved models, half in checkpoints"


def bad_inputs(folder: Path, fast: bool) -> Result:
    """Everything that the command line must refuse."""
    names = list(bad_input.BAD)
    names = [names[i] for i in spread(20, len(names))] if fast else names
    good = 0
    for number, name in enumerate(names):
        here = folder / f"{number}"
        here.mkdir()
        os.chdir(here)
        try:
            bad_input.refuse(name, here)
            good += 1
        except AssertionError as error:
            print(f"{name}: {error}", file=sys.stderr)
        finally:
            os.chdir(folder)
    return good, len(names), "bad inputs refused in one line, nothing lost, nothing left behind"


def trained_digits(folder: Path, steps: int) -> Trainer:
    """Return a trainer of digits after some steps."""
    config = TrainingConfig(steps=steps, batch_size=64, lr=3e-3, num_validations=1, ema=0.95)
    recipe = ImageRecipe(ImageModel(hidden=12, blocks=1), DataConfig("digits"), config)
    trainer = Trainer.from_recipe(recipe, load_data(recipe.data))
    trainer.fit()
    return trainer


def every_image(folder: Path, fast: bool) -> Result:
    """Real and random images, black, white, and with one pixel different."""
    trainer = trained_digits(folder, 60 if fast else 300)
    flow, total = trainer.best_flow(), 1000 if fast else 10_000
    real = torch.cat([trainer.dataset.train.x, trainer.dataset.validation.x])
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 17, (total, 1, 8, 8), generator=generator, dtype=torch.uint8)
    x[: len(real)] = real[:total]
    x[-1], x[-2] = 0, 16
    x[-66:-2] = 0
    x[-66:-2].view(64, 64).fill_diagonal_(16)
    same = 0
    with torch.no_grad():
        for part in x.split(500):
            back = flow.decode(flow.encode(part, noise=generator))
            same += int((back == part).flatten(1).all(1).sum())
    say = f"images pixel-exact in float32, by a model of {trainer.selection.loss:.2f} bits/dim"
    return same, total, say


def non_finite(folder: Path, fast: bool) -> Result:
    """Poison data, weights and gradients, at several steps."""
    rollback.EVERY = 3
    good = tried = 0
    for name, (spoil, recipe, layer, _) in poison.CASES.items():
        for seed in range(1 if fast else 4):
            tried += 1
            trainer = Trainer.from_recipe(
                type(recipe)(recipe.model, recipe.data, recipe.training, seed=seed),
                load_data(recipe.data),
            )
            spoil(trainer, SimpleNamespace(setattr=setattr))
            with contextlib.redirect_stderr(io.StringIO()):
                trainer.fit()
            found = trainer.rollback.skipped
            right = list(found) == [5] and found[5]["layer"] == layer and trainer.step == 12
            good += right and all(torch.isfinite(t).all() for t in trainer.ema.average.values())
            if not right:
                print(f"NaN in {name}, seed {seed}: {found}", file=sys.stderr)
    rollback.EVERY = 100
    return good, tried, "NaNs in data, weights and gradients named by layer, undone and skipped"


@contextlib.contextmanager
def small_cache() -> Iterator[None]:
    """Cache few images, in shards of four, in the process that needs them."""
    before = images._CACHE_FROM, cache.SHARD, cache.MOST_PROCESSES
    images._CACHE_FROM, cache.SHARD, cache.MOST_PROCESSES = 8, 4 * 3 * 64, 1
    yield
    images._CACHE_FROM, cache.SHARD, cache.MOST_PROCESSES = before


def cached_images(folder: Path, fast: bool) -> Result:
    """Kill, starve, double and change what makes the cache of images, and what trains from it."""
    photos = folder / "photos"
    for i in range(40):
        pixels = torch.randint(0, 256, (8, 8, 3), dtype=torch.uint8).numpy()
        data_files.save(pixels, photos / f"{i:02}.png")

    data = DataConfig(str(photos), flip=True, storage="disk")
    home, outcomes = os.environ.get("XDG_CACHE_HOME"), {}
    assert kills.run(folder / "whole", data=data) == 0  # so few are read without a cache
    with small_cache():
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        assert kills.run(folder / "cached", data=data) == 0
        assert list((folder / "cache").rglob("*.npy"))
        found = kills.differences(folder / "whole", folder / "cached")
        outcomes[f"from the cache: {found}"] = not found
        moments = json.loads((folder / "moments.json").read_text())
        for point in spread(4 if fast else 30, len(moments)):
            os.environ["XDG_CACHE_HOME"] = str(folder / f"cache{point}")
            kills.kill_and_resume(folder / f"{point}", point, data=data)
            found = kills.differences(folder / "whole", folder / f"{point}")
            outcomes[f"killed at moment {point}, {moments[point]}: {found}"] = not found
        arguments = ["train", "images", "--data", str(photos), "--steps", "1", "--quiet"]
        arguments += ["--data-cache", str(folder / "full"), "--out", str(folder / "refused")]
        for limit in (10, 500):  # bytes of a shard that can be written
            log = folder / f"{limit}.log"
            status = kills.in_child(partial(starved, limit, arguments), log)
            said = log.read_text().splitlines()
            one_line = len(said) == 1 and said[0].startswith("realnvp: error: File too large: ")
            outcomes[f"files of {limit} bytes, {status}: {said}"] = status == 2 and one_line
        outcomes["no run is left"] = not (folder / "refused").exists()
        os.environ["XDG_CACHE_HOME"] = str(folder / "shared")
        both = [
            mp.get_context("fork").Process(
                target=kills.run, args=(folder / name,), kwargs={"data": data}
            )
            for name in ("left", "right")
        ]
        for process in both:
            process.start()
        for process in both:
            process.join()
        for name in ("left", "right"):
            found = kills.differences(folder / "whole", folder / name)
            outcomes[f"two at once, {name}: {found}"] = not found
        data_files.save(255 - pixels, photos / "39.png")
        os.utime(photos / "39.png", ns=(0, 10**18))
        status = kills.run(folder / "left", resume=True, data=data)
        said = (folder / "left.log").read_text()
        refused = "has changed since the model was trained" in said
        outcomes[f"a changed file, {status}: {said}"] = status != 0 and refused
    os.environ.pop("XDG_CACHE_HOME")
    if home is not None:
        os.environ["XDG_CACHE_HOME"] = home
    for what in (what for what, good in outcomes.items() if not good):
        print(what, file=sys.stderr)
    say = "images of a cache that was killed, starved, shared or changed are right"
    return sum(outcomes.values()), len(outcomes), say


def starved(limit: int, arguments: list[str]) -> None:
    """Run a command whose cache can write files of so many bytes, and exit with its status."""
    opened, (soft, hard) = images.open_cached, resource.getrlimit(resource.RLIMIT_FSIZE)

    def limited(*args: object) -> object:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            return opened(*args)  # type: ignore[arg-type]
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    images.open_cached = limited  # type: ignore[assignment]
    status = command_line(arguments)
    sys.stderr.flush()
    os._exit(status)


def process_counts(folder: Path, fast: bool) -> Result:
    """Compare a training by one process and by several."""
    names = ["batch norm", "batch norm+double", "invertible+double"]
    if not fast:
        names += ["act norm+double", "vectors+double"]
    ones = {
        name: processes.train_some(processes.recipes()[name.split("+")[0]], "double" in name)
        for name in names
    }
    good = tried = 0
    worst = {False: 0.0, True: 0.0}
    for count in (2,) if fast else (2, 3):
        out = folder / f"{count}"
        out.mkdir()
        world_size = processes.in_processes(count, out, *names)
        for name, one in ones.items():
            double = "double" in name
            off = processes.largest_difference(world_size[0][name], one, "" if double else "scores")
            same = all(
                processes.largest_difference(r[name], world_size[0][name]) == 0 for r in world_size
            )
            tried += 1
            good += same and off < (1e-9 if double else 1e-5)
            worst[double] = max(worst[double], off)
    return good, tried, (
        f"trainings by {'2' if fast else '2 and 3'} processes as by 1: after 20 steps scores to "
        f"{worst[False]:.0e} in float32, all numbers to {worst[True]:.0e} in float64"
    )  # fmt: skip


def memory(folder: Path, fast: bool) -> Result:
    """Steps without end."""
    steps = 600 if fast else 5000
    config = TrainingConfig(
        steps=steps, batch_size=8, num_validations=5, validation_examples=20, checkpoint_every=0.5
    )
    model = VectorModel(couplings=1, hidden=2, blocks=0)
    recipe = VectorRecipe(model, DataConfig(source="moons", points=100), config)
    grown = memory_growth(recipe, folder / "run")
    return int(grown < 8), 1, f"long run: memory grew by {grown:.1f} MiB in {steps:,} steps"


def mutated_files(folder: Path, fast: bool) -> Result:
    """Files of every format with some bytes changed."""
    count, wrong = 30 if fast else 2000, []
    for name in fuzz.KINDS:
        wrong += fuzz.fuzz(name, count)
    print(*wrong, sep="\n", end="\n" if wrong else "", file=sys.stderr)
    tried = count * len(fuzz.KINDS)
    return tried - len(wrong), tried, f"mutated files of {len(fuzz.KINDS)} formats read or refused"


CHECKS: dict[str, Callable[[Path, bool], Result]] = {
    "kills": kill_points,
    "disks": full_disks,
    "cache": cached_images,
    "files": damaged_files,
    "inputs": bad_inputs,
    "fuzz": mutated_files,
    "images": every_image,
    "nans": non_finite,
    "processes": process_counts,
    "memory": memory,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="few of each, in a minute")
    parser.add_argument("--only", nargs="+", choices=CHECKS, default=list(CHECKS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    failed = 0
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        # Everything that a forked process would have to load again.
        train(kills.recipe(2), Path(temporary) / "warm", quiet=True)
        for name in arguments.only:
            folder = Path(temporary) / name
            folder.mkdir()
            good, tried, say = CHECKS[name](folder, arguments.fast)
            failed += good < tried
            print(f"{good:>6,} of {tried:<6,} {say}", flush=True)
    print(f"{'all well' if not failed else 'FAILED'}, {time.monotonic() - begin:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
