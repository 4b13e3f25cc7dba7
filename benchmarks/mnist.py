"""Bits/dim of MNIST's recipes after the same time, and what each part brings.

    python benchmarks/mnist.py --data mnist-train.npz --minutes 10 [--threads 1] [--only NAME ...]

The last 5,000 training images are held out, and all of them evaluated in float32 with one draw of
the noise. The ablation begins with the paper's parts and adds one part after the other. What was
measured before is kept in results/mnist.json: a run that is missing is added.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys

import torch
from PIL import Image, ImageDraw

from common import RESULTS, machine, table, write
from realnvp.config import DataConfig, ImageRecipe
from realnvp.data import load_data
from realnvp.evaluate import evaluate
from realnvp.plots import image_grid
from realnvp.progress import Bar
from realnvp.settings import load_recipe
from realnvp.trainer import Trainer

PARTS = {
    "+ ActNorm between couplings": {"norm": "act"},
    "+ split prior": {"norm": "act", "split_prior": True},
    "+ learned noise": {"norm": "act", "split_prior": True, "dequantization": "variational"},
}
"""The last step to mnist-best are mixture couplings."""

NAMES = ["mnist-realnvp", *PARTS, "mnist-best", "mnist-glow"]


def recipe(name: str, data: str, minutes: float) -> ImageRecipe:
    base = "mnist-best" if name in PARTS else name
    found = load_recipe(base, "--data", data, "--minutes", str(minutes))
    assert isinstance(found, ImageRecipe)
    if name in PARTS:
        plain = {"coupling": "affine", "dequantization": "uniform", "split_prior": False}
        model = dataclasses.replace(found.model, **{**plain, **PARTS[name]})
        found = dataclasses.replace(found, model=model)
    training = dataclasses.replace(found.training, validations=4, validation_examples=500)
    return dataclasses.replace(found, training=training)


def measure(name: str, data: str, minutes: float) -> dict[str, object]:
    chosen = recipe(name, data, minutes)
    trainer = Trainer(chosen, load_data(DataConfig(**dataclasses.asdict(chosen.data))))
    trainer.fit([], Bar(name, visible=sys.stderr.isatty()))
    flow = trainer.best_flow()
    found = evaluate(flow, trainer.dataset.validation)
    picture = RESULTS / f"mnist-{NAMES.index(name)}.png"
    image_grid(flow.sample(36, generator=torch.Generator().manual_seed(0)), picture, columns=6)
    return {
        "bits_per_dim": found.bits_per_dim,
        "standard_error": found.standard_error,
        "images_per_s": trainer.step * trainer.batches.size / trainer.seconds,
        "parameters": sum(p.numel() for p in flow.parameters()),
        "machine": machine(),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--only", nargs="+", default=NAMES, choices=NAMES)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    path = RESULTS / "mnist.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    for name in args.only:
        key = f"{name}, {args.minutes:g} minutes"
        if key in known:
            continue
        known[key] = measure(name, args.data, args.minutes)
        print(key, known[key], file=sys.stderr, flush=True)
        path.write_text(json.dumps(known, indent=1))
    rows = []
    for key, found in known.items():
        bits = f"{found['bits_per_dim']:.4f} ± {found['standard_error']:.4f}"
        rate, count = f"{found['images_per_s']:.0f}", f"{found['parameters']:,}"
        rows.append([*key.rsplit(", ", 1), bits, rate, count])
    columns = ["model", "time", "bits/dim", "images/s", "parameters"]
    write("mnist", "MNIST in a given time", (__doc__ or "").rsplit("\n\n", 1)[1].strip(),
          table(columns, rows))  # fmt: skip
    join_pictures()


def join_pictures() -> None:
    """The grids that there are, side by side under their names."""
    named = [(name, RESULTS / f"mnist-{i}.png") for i, name in enumerate(NAMES)]
    grids = []
    for name, path in named:
        if path.exists():
            with Image.open(path) as image:
                grids.append((name, image.resize((300, 300))))
    canvas = Image.new("L", (320 * len(grids), 330), 255)
    draw = ImageDraw.Draw(canvas)
    for i, (name, grid) in enumerate(grids):
        draw.text((320 * i + 12, 6), name, fill=0, font_size=16)
        canvas.paste(grid, (320 * i + 10, 28))
    canvas.save(RESULTS / "mnist.png")


if __name__ == "__main__":
    main()
