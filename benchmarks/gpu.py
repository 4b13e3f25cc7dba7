"""What the paper's recipes cost to train: arithmetic, and GPU hours at an assumed speed.

    python benchmarks/gpu.py

The arithmetic is counted: the convolutions of one training step of the recipe's own model,
forwards and backwards, times the examples of its budget. The hours are not measured: they assume
40 TFLOP/s sustained, an eighth of the bfloat16 peak of an A100: a guess, since narrow convolutions
and the normalizations between them keep such a processor waiting for its memory. What a machine
really takes is what `realnvp train RECIPE --dry-run` measures there in ten seconds.
"""

from __future__ import annotations

import dataclasses

import torch
from torch.utils.flop_counter import FlopCounterMode

from common import table, write
from realnvp import image_flow
from realnvp.config import ImageModel
from realnvp.recipes import load_recipe

SUSTAINED = 40e12

SETS = [  # recipe, option that names the data, data set, image, training examples
    ("cifar10-paper", "cifar10", "CIFAR-10", (3, 32, 32), 45_000),
    ("celeba-paper", "celeba", "CelebA 64x64", (3, 64, 64), 162_770),
    ("imagenet32-paper", "folder", "ImageNet 32x32", (3, 32, 32), 1_271_149),
    ("imagenet64-paper", "folder", "ImageNet 64x64", (3, 64, 64), 1_271_149),
    ("lsun-paper", "folder", "LSUN bedrooms 64x64", (3, 64, 64), 3_030_042),
    ("lsun-paper", "folder", "LSUN church outdoor 64x64", (3, 64, 64), 123_227),
]


def flops_of(model: ImageModel, shape: tuple[int, int, int]) -> tuple[int, float]:
    """Parameters, and floating point operations of a training step, for one example."""
    flow = image_flow(shape, **dataclasses.asdict(model))
    x = torch.randint(256, (2, *shape)).to(torch.uint8)
    with FlopCounterMode(display=False) as counter:
        torch.stack(list(flow.loss_terms(x).values())).sum().backward()
    return sum(p.numel() for p in flow.parameters()), counter.get_total_flops() / len(x)


def main() -> None:
    rows = []
    for recipe, source, name, shape, examples in SETS:
        settings = load_recipe(recipe, data={"source": source})
        epochs = settings.training.epochs
        assert epochs is not None
        assert isinstance(settings.model, ImageModel)
        parameters, flops = flops_of(settings.model, shape)
        total = flops * epochs * examples
        hours = total / SUSTAINED / 3600
        rows.append(
            [name, f"`{recipe}`", f"{parameters / 1e6:.1f} M", f"{flops / 1e9:.1f}", f"{epochs:g}",
             f"{total / 1e18:.2f}", f"{hours:.0f}"]
        )  # fmt: skip
    columns = ["data", "recipe", "parameters", "GFLOP an example", "epochs", "EFLOP in all",
               "GPU hours at 40 TFLOP/s"]  # fmt: skip
    write("gpu", "The paper's recipes on a GPU", (__doc__ or "").split("\n\n", 2)[2].strip(),
          table(columns, rows))  # fmt: skip


if __name__ == "__main__":
    main()
