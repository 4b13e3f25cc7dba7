"""Bits/dim of MNIST's recipes after the same time, and what each part brings.

    python benchmarks/mnist.py --data mnist-train.npz --minutes 10 [--threads 1] [--only NAME ...]
        [--judge JUDGE.py]

``--judge`` takes a script that reads 2,000 samples, ``python JUDGE.py SAMPLES.npz [--labels]``, and
prints a dictionary: ``confident``, the share of them that a classifier of digits is sure about,
``frechet``, the Frechet distance of its features to those of real digits, and with the labels that
were asked for ``as_asked``, the share that it reads as those.

The last 5,000 training images are held out, and all of them evaluated in float32 with one draw of
the noise. The ablation begins with the paper's parts and adds one part after the other. Likelihood
is not what samples look like: where there are columns of them, a classifier has read 2,000 samples
at temperature 1 (real digits: 0.978 confident, Frechet distance 0.8). Rows are kept in
results/mnist.json, and those of another machine or other settings measured again.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import fcntl
import json
import re
import subprocess
import sys
import tempfile
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from common import RESULTS, machine, table, write
from realnvp.config import DataConfig, ImageRecipe, TrainingConfig
from realnvp.data import load_data
from realnvp.evaluation import evaluate
from realnvp.flow import Flow
from realnvp.plots import image_grid
from realnvp.recipes import load_recipe
from realnvp.training.trainer import Trainer
from realnvp.utils.files import write_atomically
from realnvp.utils.progress import Bar
from realnvp.utils.settings import to_dict

ADAM = "the paper's parts and optimizer"
"""The model of mnist-paper, trained as in the paper (section 4.1): Adam, batches of 64."""

PARTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "+ gated blocks on patches": ({"block": "gated", "patch": 2, "blocks": 1, "hidden": 48}, {}),
    "+ ActNorm between couplings, rate 0.006": ({"norm": "act"}, {"lr": 0.006}),
    "+ split prior": ({"split_prior": True}, {}),
    "+ learned noise": ({"dequantization": "variational"}, {}),
}
"""What each step adds to mnist-paper: settings of the model, and of the training. The last one,
mixture couplings, makes it mnist-multiscale."""

NAMES = [ADAM, "mnist-paper", *PARTS, "mnist-multiscale", "mnist-glow", "mnist"]

TIMES = (10.0, 30.0)

JUDGED = {"confident": "confident", "frechet": "Frechet", "as_asked": "as asked"}
"""What a judge says about samples, and the names of its columns."""


def recipe(name: str, data: str, minutes: float) -> ImageRecipe:
    base = "mnist-paper" if name in (ADAM, *PARTS) else name
    found = load_recipe(base, data={"source": data}, training={"minutes": minutes})
    assert isinstance(found, ImageRecipe)
    model, training = found.model, found.training
    if name == ADAM:
        training = TrainingConfig(minutes=minutes, batch_size=64)
    for part in list(PARTS)[: list(PARTS).index(name) + 1] if name in PARTS else []:
        model = dataclasses.replace(model, **PARTS[part][0])
        training = dataclasses.replace(training, **PARTS[part][1])
    training = dataclasses.replace(training, num_validations=4, validation_examples=500)
    return dataclasses.replace(found, model=model, training=training)


def grid(key: str) -> Path:
    """Return the file of a model's samples."""
    name = re.sub("[^a-z0-9]+", "-", key.lower()).strip("-").removeprefix("mnist-")
    return RESULTS / f"mnist-{name}.png"


def rows_in(path: Path) -> dict[str, dict[str, Any]]:
    """Return all rows that were ever measured."""
    return json.loads(path.read_text()) if path.exists() else {}


def known(path: Path, key: str, recipe: ImageRecipe) -> bool:
    """Return whether this machine has measured this row with these settings."""
    row = rows_in(path).get(key)
    here = row is not None and row["machine"] == machine()
    return here and row["settings"] == settings_of(recipe)


def add(path: Path, key: str, row: dict[str, Any]) -> None:
    """Write a row, in place of one of its name; other processes may add theirs meanwhile."""
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        write_atomically(path, json.dumps({**rows_in(path), key: row}, indent=1).encode())


def settings_of(recipe: ImageRecipe) -> dict[str, Any]:
    """Return the settings that a row depends on, as JSON holds them."""
    found = {"model": to_dict(recipe.model), "training": to_dict(recipe.training)}
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]


def judged(flow: Flow, judge: Path) -> dict[str, float]:
    """Return what a judge's script says about 2,000 samples, of each class as many."""
    labels = None if flow.classes is None else torch.arange(2000) % flow.classes
    images = flow.sample(2000, 1.0, labels, torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "samples.npz")
        asked = {} if labels is None else {"labels": labels.numpy()}
        np.savez(file, images=images.numpy(), **asked)
        command = [sys.executable, str(judge), str(file), *(["--labels"] if asked else [])]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return ast.literal_eval(said.strip().splitlines()[-1])


def measure(name: str, chosen: ImageRecipe, picture: Path, judge: Path | None) -> dict[str, object]:
    trainer = Trainer.from_recipe(chosen, load_data(DataConfig(**dataclasses.asdict(chosen.data))))
    trainer.fit(Bar(name, visible=sys.stderr.isatty()))
    flow = trainer.best_flow()
    found = evaluate(flow, trainer.dataset.validation)
    image_grid(flow.sample(36, generator=torch.Generator().manual_seed(0)), picture, columns=6)
    return {
        "bits_per_dim": found.bits_per_dim,
        "standard_error": found.standard_error,
        "images_per_s": trainer.step * trainer.batches.size / trainer.seconds,
        "parameters": sum(p.numel() for p in flow.parameters()),
        "machine": machine(),
        "settings": settings_of(chosen),
        **(judged(flow, judge) if judge else {}),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--only", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--judge", type=Path, help="script that reads samples")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    path = RESULTS / "mnist.json"
    recipes = {
        f"{name}, {minutes:g} minutes": recipe(name, args.data, minutes)
        for name in NAMES
        for minutes in {args.minutes, *TIMES}
    }
    every = dataclasses.replace(
        recipes[f"{list(PARTS)[-1]}, 10 minutes"].model, coupling="logistic_mixture"
    )
    assert every == recipes["mnist-multiscale, 10 minutes"].model, "the parts do not add up"
    for name in args.only:
        key = f"{name}, {args.minutes:g} minutes"
        chosen = recipes[key]
        if (args.threads or 1) > 1:
            key += f", {args.threads} threads"
        if known(path, key, chosen):
            continue
        found = measure(name, chosen, grid(key), args.judge)
        print(key, found, file=sys.stderr, flush=True)
        add(path, key, found)
    rows = sorted(rows_in(path).items(), key=lambda item: (item[1]["machine"], *_place(item[0])))
    parts = [(__doc__ or "").rsplit("\n\n", 1)[1].strip()]
    for where, own in groupby(rows, key=lambda item: item[1]["machine"]):
        parts += [f"## {where}", of_machine(dict(own))]
    write("mnist", "MNIST in a given time", *parts)
    join_pictures([key for key in sorted(rows_in(path), key=_place) if key.startswith("mnist")])


def of_machine(rows: dict[str, dict[str, Any]]) -> str:
    """Return the table of one machine's rows."""
    seen = [name for name in JUDGED if any(name in row for row in rows.values())]
    lines = []
    for key, row in rows.items():
        bits = f"{row['bits_per_dim']:.4f} ± {row['standard_error']:.4f}"
        rate, count = f"{row['images_per_s']:.0f}", f"{row['parameters']:,}"
        words = [str(row.get(name, "")) for name in seen]
        lines.append([*_name_and_time(key), bits, *words, rate, count])
    columns = ["model", "time", "bits/dim", *(JUDGED[name] for name in seen)]
    return table([*columns, "images/s", "parameters"], lines)


def _name_and_time(key: str) -> tuple[str, str]:
    name, minutes, threads = key.partition(" minutes")
    name, _, number = name.rpartition(", ")
    return name, number + minutes + threads


def _place(key: str) -> tuple[float, str, int]:
    name, time = _name_and_time(key)
    return float(time.split()[0]), time, NAMES.index(name)


def join_pictures(keys: list[str]) -> None:
    """Draw the grids of samples under their names, those of the same time side by side."""
    rows = [list(own) for _, own in groupby(keys, key=lambda key: _name_and_time(key)[1])]
    canvas = Image.new("L", (320 * max(map(len, rows)), 330 * len(rows)), 255)
    draw = ImageDraw.Draw(canvas)
    for i, row in enumerate(rows):
        for j, name in enumerate(row):
            draw.text((320 * j + 12, 330 * i + 6), name, fill=0, font_size=16)
            with Image.open(grid(name)) as image:
                canvas.paste(image.resize((300, 300)), (320 * j + 10, 330 * i + 28))
    canvas.save(RESULTS / "mnist.png")


if __name__ == "__main__":
    main()
