"""What every source becomes: tensors in memory, in parts that never overlap.

A density model is judged on examples it has not seen, so the parts are made once, here: `train`
is learned from, `validation` chooses (learning rate, stopping, checkpoints), and `test` is only
reported. Where a source brings its own test part that part is never touched; validation is always
held out of the training part, unless the source has an official one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from realnvp.utils.errors import some_of
from realnvp.utils.rng import uniform

if TYPE_CHECKING:
    from realnvp.config import DataConfig
    from realnvp.data.toy import ToySet

__all__ = [
    "Dataset",
    "Parts",
    "Split",
    "assemble",
    "conditioned",
    "dequantized",
    "hold_out",
    "parse_labels",
    "whole_columns",
]


def parse_labels(
    values: np.ndarray, where: str, categories: Sequence[str] | None = None
) -> tuple[torch.Tensor, tuple[str, ...] | None]:
    """Turn labels as they are found in files into classes 0, 1, 2, ...

    Args:
        values: `(N,)` or `(N, 1)`: whole numbers from 0, or names, which are numbered in sorted
            order.
        where: what the labels are, for messages.
        categories: names that are numbered already, in order; other names are then an error.

    Returns:
        int64 `(N,)`, and the names in order where the labels are names.

    Raises:
        ValueError: for negative or fractional labels, and for unknown names.

    >>> parse_labels(np.array(["cat", "ant", "cat"]), "labels")
    (tensor([1, 0, 1]), ('ant', 'cat'))
    """
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise ValueError(f"{where} must be one label per example, got shape {values.shape}")
    if values.dtype.kind in "UO":
        names = values.astype(str)
        known = np.unique(names) if categories is None else np.asarray(categories, dtype=str)
        codes = {str(name): code for code, name in enumerate(known)}
        unknown = sorted(set(names.tolist()) - set(codes))
        if unknown:
            raise ValueError(
                f"{where} holds {unknown[0]!r}, which is none of the known classes "
                f"{some_of(tuple(codes))}"
            )
        numbers = np.array([codes[name] for name in names.tolist()], dtype=np.int64)
        return torch.from_numpy(numbers), tuple(codes)
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{where} must be whole numbers or names, got {values.dtype}")
    if values.dtype.kind == "f" and not (np.isfinite(values) & (values == np.floor(values))).all():
        raise ValueError(f"{where} must be whole numbers to be used as classes")
    if values.size and (values.min() < 0 or values.max() > 2**62):
        raise ValueError(
            f"{where} must be classes numbered from 0, got {values.min()} to {values.max()}"
        )
    return torch.from_numpy(values.astype(np.int64)), None


@dataclass(frozen=True, eq=False)
class Split:
    """One part of the data, in memory.

    Args:
        x: the examples: uint8 `(N, C, H, W)` images, or float32 `(N, D)` vectors.
        condition: what the density is conditioned on: int64 `(N,)` classes, float32 `(N, K)`
            numbers, or None.
        labels: int64 `(N,)` labels of the set where it has them, conditioned on or not.
        weight: float32 `(N,)`, how much each example counts; None for all alike.

    >>> split = Split(torch.zeros(3, 2), labels=torch.tensor([0, 1, 1]))
    >>> len(split), len(split.select(torch.tensor([2])))
    (3, 1)
    """

    x: torch.Tensor
    condition: torch.Tensor | None = None
    labels: torch.Tensor | None = None
    weight: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def select(self, index: torch.Tensor) -> Split:
        """The examples at `index`, int64 `(M,)`, as a split of their own."""
        condition = None if self.condition is None else self.condition[index]
        labels = None if self.labels is None else self.labels[index]
        weight = None if self.weight is None else self.weight[index]
        return Split(self.x[index], condition, labels, weight)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set, split and ready to train on.

    Args:
        name: name of the set, or the path it was read from.
        train: what is learned from.
        validation: what choices are made on; it shares no example with the others.
        test: what is only reported, or None where the source has no test part.
        shape: shape of one example: `(C, H, W)` or `(D,)`.
        levels: number of grey levels of the images, None for vectors. bits/dim of different
            levels are not comparable.
        classes: number of classes, where there are labels.
        columns: names of a table's columns, in the order of `x`.
        categories: names of the classes in the order of their numbers, where they are names
            (subfolders, a table's text column); `load_examples` numbers other data the same way.
        toy: the toy set itself, which knows its true log-density.
        flip: train on random horizontal flips.
        shift: train on images half of which are moved by up to so many pixels at random.
        integers: numbers of a table's columns that hold whole numbers, to be dequantized.
    """

    name: str
    train: Split
    validation: Split
    test: Split | None
    shape: tuple[int, ...]
    levels: int | None = None
    classes: int | None = None
    columns: tuple[str, ...] | None = None
    categories: tuple[str, ...] | None = None
    toy: ToySet | None = None
    flip: bool = False
    shift: int = 0
    integers: tuple[int, ...] = ()

    @property
    def kind(self) -> Literal["image", "vector"]:
        """What one example is."""
        return "image" if len(self.shape) == 3 else "vector"

    @property
    def condition_dim(self) -> int:
        """Numbers per example that the density is conditioned on; 0 for none, and for classes."""
        condition = self.train.condition
        return condition.shape[1] if condition is not None and condition.ndim == 2 else 0

    @property
    def condition_classes(self) -> int:
        """Number of classes that the density is conditioned on; 0 for none, and for numbers."""
        condition = self.train.condition
        return (self.classes or 0) if condition is not None and condition.ndim == 1 else 0


@dataclass(frozen=True, eq=False)
class Parts:
    """What a source holds before validation is held out; the fields are those of `Dataset`."""

    train: Split
    validation: Split | None = None
    test: Split | None = None
    levels: int | None = None
    columns: tuple[str, ...] | None = None
    categories: tuple[str, ...] | None = None
    toy: ToySet | None = None


def whole_columns(x: torch.Tensor) -> tuple[int, ...]:
    """The columns that hold whole numbers only, of a size that leaves room for noise in float32.

    >>> whole_columns(torch.tensor([[0.5, 1.0], [1.0, 2.0]]))
    (1,)
    """
    whole = (x == x.floor()).all(dim=0) & (x.abs() <= 2**18).all(dim=0)
    return tuple(whole.nonzero()[:, 0].tolist())


def hold_out(
    n: int, validation: float, holdout: str = "random", seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose which of `n` examples train and which validate.

    Args:
        n: number of examples.
        validation: how many validate: a fraction below 1, or a number of examples.
        holdout: "last" holds out the last ones, "random" any.
        seed: of the random choice.

    Returns:
        Two ascending int64 index tensors, training first.

    Raises:
        ValueError: when fewer than two examples would be left to train on.

    >>> hold_out(5, 0.4, "last")
    (tensor([0, 1, 2]), tensor([3, 4]))
    """
    count = validation_count(n, validation)
    if n - count < 2:
        raise ValueError(
            f"validation={validation:g} holds out {count} of {n} examples, which leaves "
            f"{max(n - count, 0)} to train on: at least 2 are needed, so hold out less "
            "(--data.validation) or give more data"
        )
    if holdout == "last":
        order = torch.arange(n)
    elif holdout == "random":
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    else:
        raise ValueError(f"holdout is 'last' or 'random', got {holdout!r}")
    return order[: n - count].sort().values, order[n - count :].sort().values


def validation_count(n: int, validation: float) -> int:
    """Number of examples to hold out of `n`: at least one.

    >>> validation_count(1000, 0.1), validation_count(1000, 50), validation_count(3, 0.1)
    (100, 50, 1)
    """
    return max(1, round(n * validation)) if validation < 1 else int(validation)


def conditioned(split: Split, condition: str | None, where: str) -> Split:
    """The split with its labels as its condition, where it is to be conditioned on them.

    Raises:
        ValueError: when there are no labels.
    """
    if condition is None or split.condition is not None:  # a table has set its own condition
        return split
    if split.labels is None:
        raise ValueError(f"{where} has no labels to condition on: leave data.condition out")
    return replace(split, condition=split.labels)


def assemble(parts: Parts, config: DataConfig) -> Dataset:
    """Hold out validation and apply the condition: the last step of every source.

    Raises:
        ValueError: when the parts are too small, or the settings do not fit the data.
    """
    name, train, validation = config.source, parts.train, parts.validation
    if validation is None:
        learn, check = hold_out(len(train), config.validation, config.holdout, config.seed)
        train, validation = train.select(learn), train.select(check)
    train = conditioned(train, config.condition, name)
    validation = conditioned(validation, config.condition, name)
    test = parts.test and conditioned(parts.test, config.condition, name)
    splits = [split for split in (train, validation, test) if split is not None]
    if len(train) < 2 or len(validation) < 1:
        raise ValueError(
            f"{name} has {len(train)} training and {len(validation)} validation examples: at "
            "least 2 and 1 are needed"
        )
    for split in splits:
        if split.x.shape[1:] != train.x.shape[1:]:
            raise ValueError(
                f"the parts of {name} differ: training examples have shape "
                f"{tuple(train.x.shape[1:])}, others {tuple(split.x.shape[1:])}"
            )
    tops = [int(s.labels.max()) for s in splits if s.labels is not None and len(s)]
    classes = len(parts.categories) if parts.categories else max(tops) + 1 if tops else None
    if config.condition is not None and classes and classes > max(1000, len(train)):
        raise ValueError(
            f"the labels of {name} go up to {classes - 1}, more classes than training examples: "
            "number them 0, 1, 2, ... to condition on them"
        )
    shape = tuple(train.x.shape[1:])
    for option, does in (("flip", "mirrors"), ("shift", "moves")):
        if getattr(config, option) and len(shape) != 3:
            raise ValueError(f"data.{option} {does} images, but {name} holds vectors: leave it out")
    if len(shape) == 3 and config.shift >= min(shape[1:]):
        raise ValueError(
            f"data.shift moves images by up to {config.shift} pixels, but those of {name} have "
            f"{shape[1]}x{shape[2]}"
        )
    if len(shape) == 1:
        constant = (train.x == train.x[0]).all(dim=0)
        if constant.any():
            index = int(constant.int().argmax())
            column = repr(parts.columns[index]) if parts.columns else index
            raise ValueError(
                f"column {column} of {name} is the same in all training rows, so its density is "
                "infinite: drop it"
            )
    dequantize = len(shape) == 1 and parts.toy is None and config.integers == "auto"
    whole = [set(whole_columns(split.x)) for split in splits]
    integers = tuple(sorted(set.intersection(*whole))) if dequantize else ()
    return Dataset(
        name, train, validation, test, shape, parts.levels, classes, parts.columns,
        parts.categories, parts.toy, config.flip,
        config.shift, integers,
    )  # fmt: skip


MOMENTS = 6  # a stream of random numbers, beside those of training and evaluation


def dequantized(x: torch.Tensor, integers: Sequence[int], seed: int) -> torch.Tensor:
    """The rows, with noise on their columns of whole numbers: what a start is fitted to."""
    if not integers:
        return x
    x = x.clone()
    x[:, list(integers)] += uniform((seed, MOMENTS), 0, len(x), (len(integers),)).to(x)
    return x
