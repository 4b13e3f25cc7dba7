"""From a recipe to what is trained: the model, its arithmetic, the optimizer, the schedule."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from realnvp.bijections import Affine, Rosenblatt
from realnvp.builders import image_flow, vector_flow
from realnvp.config import ImageRecipe, Recipe, TrainingConfig, VectorRecipe, to_dict
from realnvp.data import Dataset
from realnvp.models import Flow
from realnvp.muon import Muon
from realnvp.nets import Conditioner
from realnvp.noise import uniform
from realnvp.progress import warn
from realnvp.start import fit_mixture

__all__ = [
    "build",
    "compile_conditioners",
    "compute_dtype",
    "dequantized",
    "keep_freed_memory",
    "learning_rate",
    "limit_threads",
    "make_optimizer",
    "smoothing_of",
    "uncompiled",
]

SMALL_BATCH = 2**14
"""Numbers in a batch up to which one thread is as fast as two."""

MOMENTS = 6  # a stream of random numbers, beside those of training and evaluation

COPIES = 6
"""Tensors per parameter while training: itself, gradient, two moments, average and best."""


def build(recipe: Recipe, dataset: Dataset) -> Flow:
    """The recipe's untrained model for a data set.

    Raises:
        ValueError: if the recipe is for the other kind of data.
    """
    condition: dict[str, Any] = {
        "condition_dim": dataset.condition_dim,
        "classes": dataset.condition_classes or None,
    }
    options = to_dict(recipe.model)
    if isinstance(recipe, ImageRecipe) and dataset.kind == "image":
        assert dataset.levels is not None  # images always have levels
        channels, height, width = dataset.shape
        arguments = {"levels": dataset.levels, **condition, **options}
        _check_memory(lambda: image_flow((channels, height, width), **arguments))
        return image_flow((channels, height, width), **arguments)
    if isinstance(recipe, VectorRecipe) and dataset.kind == "vector":
        arguments = {"integers": dataset.integers, **condition, **options}
        _check_memory(lambda: vector_flow(dataset.shape[0], **arguments))
        return vector_flow(dataset.shape[0], **_moments(dataset, recipe), **arguments)
    raise ValueError(
        f"the recipe models {'images' if isinstance(recipe, ImageRecipe) else 'vectors'}, but "
        f"{dataset.name} holds {dataset.kind}s: choose another recipe (realnvp recipes lists them)"
    )


def _moments(dataset: Dataset, recipe: VectorRecipe) -> dict[str, Any]:
    """What the first layer standardizes with, or starts as; of columns that are dequantized."""
    x, weight = dequantized(dataset.train.x, dataset.integers, recipe.seed), dataset.train.weight
    if recipe.model.start:
        return {"mixture": fit_mixture(x, recipe.model.start, weight, recipe.seed)}
    share = torch.full_like(x[:, 0], 1 / len(x)) if weight is None else weight / weight.sum()
    mean = share @ x
    std = (share @ (x - mean).square()).sqrt()
    return {"mean": mean, "std": std.clamp(min=1e-6)}


def dequantized(x: torch.Tensor, integers: Sequence[int], seed: int) -> torch.Tensor:
    """The rows, with noise on their columns of whole numbers: what a start is fitted to."""
    if not integers:
        return x
    x = x.clone()
    x[:, list(integers)] += uniform((seed, MOMENTS), 0, len(x), (len(integers),)).to(x)
    return x


def smoothing_of(
    flow: Flow, dataset: Dataset, amount: float, device: torch.device
) -> torch.Tensor | None:
    """What takes normal noise to that which training adds to vectors, not to their whole numbers.

    Returns:
        ``(D, D)``: ``amount`` deviations of the columns, or of the Gaussians that the flow starts
        as. None if nothing is to be added.

    Raises:
        ValueError: if the data are images, whose noise is that of dequantization.
    """
    if not amount:
        return None
    if dataset.kind != "vector":
        raise ValueError(
            f"training.smoothing adds noise to vectors, but {dataset.name} holds images: "
            "leave it out"
        )
    first = next(m for m in flow.modules() if isinstance(m, Affine | Rosenblatt))
    if isinstance(first, Rosenblatt):  # the mean covariance of its Gaussians
        covariances = first.weights[:, None, None] * first.factors @ first.factors.mT
        factor = torch.linalg.cholesky(covariances.sum(0).double()).T
    else:
        factor = torch.diag(first.scale)
    factor = amount * factor.to(device, flow.dtype)
    factor[:, list(dataset.integers)] = 0.0
    return factor


def _check_memory(make: Callable[[], Flow]) -> None:
    """Refuse a model that cannot fit, before an attempt takes the machine down."""
    try:
        with torch.device("meta"):  # sizes without memory
            count = sum(tensor.numel() for tensor in make().state_dict().values())
    except RuntimeError as error:  # a size beyond what numbers of bytes can be
        raise ValueError("the model is larger than any memory: lower model.hidden") from error
    needed = COPIES * 4 * count
    try:
        held = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return
    if needed > held:
        raise ValueError(
            f"the model has {count:,} parameters, which takes {needed / 2**30:,.0f} GiB to train, "
            f"and this machine has {held / 2**30:,.0f}: lower model.hidden or the number of layers"
        )


def compute_dtype(config: TrainingConfig, flow: Flow, device: torch.device) -> torch.dtype | None:
    """The type in which the conditioners compute: bfloat16 where it is native, if "auto"."""
    if config.precision == "auto":
        if len(flow.shape) == 1:  # tiny matrices gain nothing
            return None
        return torch.bfloat16 if _native_bfloat16(device) else None
    return torch.bfloat16 if config.precision == "bfloat16" else None


def compile_conditioners(flow: Flow) -> None:
    """Compile every conditioner, where that is possible; else one line says why not."""
    if flow.device.type == "cpu" and shutil.which(os.environ.get("CXX", "g++")) is None:
        warn("there is no C++ compiler, so nothing is compiled: install g++, or leave it out")
        return
    import torch._dynamo

    conditioners = [m for m in flow.modules() if isinstance(m, Conditioner)]
    # Each has a shape of its own, and all are the same code, which by default is compiled 8 times.
    limits = torch._dynamo.config
    limits.recompile_limit = max(limits.recompile_limit, len(conditioners))
    limits.accumulated_recompile_limit = max(
        limits.accumulated_recompile_limit, 2 * len(conditioners)
    )
    for module in conditioners:
        module.compile(dynamic=False)


@contextlib.contextmanager
def uncompiled(config: TrainingConfig) -> Iterator[None]:
    """Evaluate without compiled conditioners: for a few batches, compiling would take longer."""
    if not config.compile:  # to import what switches it off takes seconds
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def _native_bfloat16(device: torch.device) -> bool:
    native = {
        "cpu": getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False),
        "cuda": lambda: torch.cuda.is_bf16_supported(including_emulation=False),
    }
    return bool(native.get(device.type, lambda: False)())


def make_optimizer(flow: Flow, config: TrainingConfig) -> torch.optim.Optimizer:
    """Muon, Adam or AdamW; weight decay is of matrices and kernels, not of biases and norms.

    Muon orthogonalizes in the type in which the conditioners compute.
    """
    if config.optimizer == "muon":
        conditioners = [m for m in flow.modules() if isinstance(m, Conditioner)]
        matrices = [weight for conditioner in conditioners for weight in conditioner.matrices()]
        known = {id(weight) for weight in matrices}
        others = [p for p in flow.parameters() if id(p) not in known]
        dtype = next((m.compute_dtype for m in conditioners), None)
        return Muon(matrices, others, config.lr, config.betas, dtype)
    weights = [p for p in flow.parameters() if p.ndim > 1]
    others = [p for p in flow.parameters() if p.ndim <= 1]
    groups = [
        {"params": weights, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.lr, betas=config.betas, fused=True)


def learning_rate(config: TrainingConfig, step: int, progress: float) -> float:
    """Warm-up by steps, then the decay over the last ``cooldown`` of the budget."""
    rise = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    done = max(0.0, (progress - (1 - config.cooldown)) / config.cooldown)
    fall = {
        "constant": 1.0,
        "linear": 1 - done,
        "cosine": 0.5 * (1 + math.cos(math.pi * min(done, 1.0))),
    }[config.decay]
    return config.lr * rise * fall


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next step, instead of giving it back to the system.

    Every activation above some size would otherwise be mapped anew in each step, and every page of
    it touched for the first time: 4 % of the time of MNIST's recipes, and for a batch norm of 3 MB,
    alone, more than its arithmetic.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def limit_threads(flow: Flow, batch_size: int) -> None:
    """One thread for models so small that a second one mostly waits for the first.

    On a busy machine that waiting is ruinous: the digits' recipe, with another process on one of
    two cores, took ten times as long with two threads as with one. The choice depends on sizes
    only, since the order of sums, and so the last bits of a run, depend on it.
    """
    if flow.device.type == "cpu" and flow.dim * batch_size <= SMALL_BATCH:
        torch.set_num_threads(1)
