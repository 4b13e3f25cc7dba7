"""The parts of a data source: training, validation and test, which share no example.

A density model is judged on examples that it has not seen, so the parts are made once, here:
``train`` is for training; ``validation`` for choices (stopping, checkpoints, settings); ``test`` is
only reported. A source's own test part is used as it is; missing parts are held out of its training
part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from realnvp.data.dataset import Dataset, Part, Split
from realnvp.data.stored_images import StoredImages
from realnvp.utils.distributed import rank
from realnvp.utils.hashing import row_hashes, scrambled
from realnvp.utils.progress import warn

if TYPE_CHECKING:
    from realnvp.columns.schema import TableSchema
    from realnvp.config import DataConfig
    from realnvp.data.toy import ToySet

MIN_ROWS_FOR_TEST = 1_000
"""Smallest number of rows of a table of which some are held out for testing by default."""


@dataclass(frozen=True, eq=False)
class Parts:
    """Parts that a source holds, each read when it is called; other fields are as in ``Dataset``.

    Args:
        owned: whether the arrays that are read belong to the source, so that they can be split in
            place. Arrays that a user passes are copied instead.
    """

    train: Callable[[], Split]
    validation: Callable[[], Split] | None = None
    test: Callable[[], Split] | None = None
    levels: int | None = None
    categories: tuple[str, ...] | None = None
    toy: ToySet | None = None
    owned: bool = True
    schema: TableSchema | None = None
    condition_schema: TableSchema | None = None


def integer_columns(x: torch.Tensor) -> tuple[int, ...]:
    """Return the indices of integer columns, of a size that leaves room for noise in float32.

    >>> integer_columns(torch.tensor([[0.5, 1.0], [1.0, 2.0]]))
    (1,)
    """
    return tuple(
        index
        for index, column in enumerate(x.unbind(1))
        if bool((column == column.floor()).all()) and bool((column.abs() <= 2**18).all())
    )


def hold_out(
    n: int, validation: float, holdout: str = "random", seed: int = 0, name: str = "validation"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose which of ``n`` examples train and which are held out.

    Args:
        n: number of examples.
        validation: share that is held out: a fraction below 1, or a number of examples.
        holdout: "last" holds out the last ones, "random" any.
        seed: seed of the random choice.
        name: name of the setting, for messages.

    Returns:
        Two ascending int64 index tensors, training first.

    Raises:
        ValueError: if fewer than two examples would be left to train on.

    >>> hold_out(5, 0.4, "last")
    (tensor([0, 1, 2]), tensor([3, 4]))
    """
    count = held_out_count(n, validation)
    if n < 3:
        raise ValueError(
            f"{n} example{'s are' if n != 1 else ' is'} too few to train with: at least 3 are "
            "needed, 2 to learn from and 1 to hold out"
        )
    if n - count < 2:
        raise ValueError(
            f"{name}={validation:g} holds out {count} of {n} examples, which leaves "
            f"{max(n - count, 0)} to train on: at least 2 are needed, so hold out less "
            f"(--data.{name}) or give more data"
        )
    order = torch.arange(n)
    if holdout == "random":
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return order[: n - count].sort().values, order[n - count :].sort().values


def held_out_count(n: int, share: float) -> int:
    """Return the number of examples to hold out of ``n``: at least one.

    >>> held_out_count(1000, 0.1), held_out_count(1000, 50), held_out_count(3, 0.1)
    (100, 50, 1)
    """
    return max(1, round(n * share)) if share < 1 else int(share)


def groups_of_copies(split: Split, discrete: bool) -> torch.Tensor | None:
    """Return groups of equal examples, numbered by their first ones; None if there are none.

    A copy in a held-out part of what is trained on would be an example that has been seen. Where
    all columns are discrete and most rows have copies, these are to be expected, as new rows will
    have them, too: they are no groups.

    Args:
        split: examples; those with another condition are others.
        discrete: whether no column has a density.

    >>> x = torch.tensor([[0.5], [1.5], [0.5], [2.5]])
    >>> groups_of_copies(Split(x), discrete=False)
    tensor([0, 1, 0, 2])
    """
    if isinstance(split.x, StoredImages):
        hashes = split.x.copies().astype(np.uint64)
    else:
        hashes = row_hashes(split.x.flatten(1).numpy())
    if split.condition is not None:
        hashes = scrambled(hashes)
        hashes += row_hashes(split.condition.reshape(len(split), -1).numpy())
    _, first, group = np.unique(hashes, return_index=True, return_inverse=True)
    if (discrete and len(group) > 4 * len(first)) or len(first) == len(group):
        return None
    return torch.from_numpy(np.argsort(np.argsort(first))[group])


def without_copies(split: Split, discrete: bool) -> Split:
    """Return examples with one in place of equal ones, with the sum of their weights.

    What is fitted to some of the examples and judged by others is misled by copies among them.
    Those that :func:`groups_of_copies` expects stay.

    Args:
        split: vectors.
        discrete: whether no column has a density.
    """
    group = groups_of_copies(split, discrete)
    if group is None:
        return split
    weight = torch.ones(len(split)) if split.weight is None else split.weight
    total = torch.zeros(int(group.max()) + 1).index_add_(0, group, weight)
    order = torch.argsort(group, stable=True)
    sizes = group.bincount()
    first = order[sizes.cumsum(0) - sizes]
    equal = bool((total == total[0]).all())
    return replace(split.select(first), weight=None if equal else total / total.mean())


def condition_on_labels(split: Split, condition: str | None, where: str) -> Split:
    """Return the split with its labels as its condition, where it is to be conditioned on them.

    Raises:
        ValueError: if there are no labels.
    """
    if condition is None or split.condition is not None:  # a table has set its own condition
        return split
    if split.labels is None:
        raise ValueError(
            f"{where} has no labels to condition on: leave data.condition out, or, of images, put "
            "those of each kind into a folder of their own"
        )
    return replace(split, condition=split.labels)


def is_discrete(schema: TableSchema | None) -> bool:
    """Return whether no column of a table has a density."""
    return schema is not None and all(f.kind != "number" for f in schema.features)


def _held_out(train: Split, parts: Parts, config: DataConfig) -> dict[Part, torch.Tensor]:
    """Choose the held-out examples: indices of every part that the training part is split into.

    With "last", training examples come first, and test examples last.
    """
    n, share = len(train), config.test
    if share is None:
        long_table = train.x.ndim == 2 and parts.toy is None and n >= MIN_ROWS_FOR_TEST
        share = 0.1 if long_table and parts.test is None else 0
    elif share and parts.test is not None:
        raise ValueError(
            f"{config.source} has a test part of its own: leave data.test out, which holds out one"
        )
    group = groups_of_copies(train, is_discrete(parts.schema))
    if group is not None and int(group.max()) < 2:  # too few to divide
        group = None
    # Copies stay together: what is held out is groups, in the order of their first rows.
    size = n if group is None else int(group.max()) + 1

    def groups_held_out(share: float) -> int:
        return max(1, round(held_out_count(n, share) * size / n))

    learn, aside = torch.arange(size), torch.arange(0)
    if share:
        learn, aside = hold_out(size, groups_held_out(share), config.holdout, config.seed, "test")
    index: dict[Part, torch.Tensor] = {"train": learn}
    if parts.validation is None:
        count = groups_held_out(config.validation)
        keep, check = hold_out(len(learn), count, config.holdout, config.seed)
        index = {"train": learn[keep], "validation": learn[check]}
    index = {**index, "test": aside} if share else index
    if group is None:
        return index
    return {part: torch.isin(group, chosen).nonzero()[:, 0] for part, chosen in index.items()}


def assemble(parts: Parts, config: DataConfig) -> Dataset:
    """Read all parts, hold out those that the source lacks, and apply the condition.

    Raises:
        ValueError: if the parts are too small, or the settings do not fit the data.
    """
    name, whole = config.source, parts.train()
    index = _held_out(whole, parts, config)
    groups = [*index.values()]
    splits = whole.separate(groups) if parts.owned else [whole.select(rows) for rows in groups]
    by_part = dict(zip(index, splits, strict=True))
    if parts.validation is not None:
        by_part["validation"] = parts.validation()
    if parts.test is not None:
        by_part["test"] = parts.test()
    by_part = {
        part: condition_on_labels(split, config.condition, name) for part, split in by_part.items()
    }
    if parts.toy is None and by_part["train"].x.ndim == 2:
        merged = without_copies(by_part["train"], is_discrete(parts.schema))
        by_part["train"] = merged if len(merged) > 1 else by_part["train"]
    train, validation, splits = by_part["train"], by_part["validation"], list(by_part.values())
    if len(train) < 2 or len(validation) < 1:
        raise ValueError(
            f"{name} has {len(train)} training and {len(validation)} validation examples: at "
            "least 2 and 1 are needed"
        )
    shape = tuple(train.x.shape[1:])
    for split in splits:
        if split.x.shape[1:] != train.x.shape[1:]:
            raise ValueError(
                f"the parts of {name} differ: training examples have shape {shape}, others "
                f"{tuple(split.x.shape[1:])}"
            )
    tops = [int(s.labels.max()) for s in splits if s.labels is not None and len(s)]
    classes = len(parts.categories) if parts.categories else max(tops) + 1 if tops else None
    if config.condition is not None and classes and classes > max(1000, len(train)):
        raise ValueError(
            f"the labels of {name} go up to {classes - 1}, more classes than training examples: "
            "number them 0, 1, 2, ... to condition on them"
        )
    _check_augmentation(config, shape)
    integers: tuple[int, ...] = ()
    if len(shape) == 1 and parts.schema is None:
        _check_columns(train.x, name)
        if parts.toy is None and config.integers == "auto":
            columns = [set(integer_columns(split.x)) for split in splits]
            integers = tuple(sorted(set.intersection(*columns)))
    levels = parts.levels or (256 if len(shape) == 3 else None)
    if levels == 256 and isinstance(train.x, torch.Tensor) and rank() == 0:
        top = max(1, *(int(split.x.max()) for split in splits if len(split)))
        if top < 32:  # images of few levels, or in other units, are hardly visible
            warn(
                f"the grey levels of {name} go up to {top}, of 255: images that are nearly black. "
                f"Multiply them by {255 // top}, or give the number of their levels to "
                f"realnvp.image_flow(levels={top + 1})"
            )
    return Dataset(
        name, train, validation, by_part.get("test"), shape, levels, classes,
        parts.categories, parts.toy, config.flip, config.shift, integers, parts.schema,
        parts.condition_schema,
    )  # fmt: skip


def read_part(parts: Parts, config: DataConfig, part: Part | None = None) -> tuple[Part, Split]:
    """Read one part, as ``assemble`` makes it; one of the source's own without the others.

    Args:
        parts: source.
        config: settings.
        part: name of the part; None for the one that is reported (``Dataset.reporting``).

    Raises:
        ValueError: if there is no such part, and as ``assemble`` does.
    """
    part = "test" if part is None and parts.test is not None else part
    read = {"validation": parts.validation, "test": parts.test}.get(part or "")
    if part is not None and read is not None:
        return part, condition_on_labels(read(), config.condition, config.source)
    data = assemble(parts, config)
    if part is None:
        return data.reporting
    split: Split | None = getattr(data, part)
    if split is None:
        raise ValueError(
            f"{config.source} has no {part} part: give other data with --data, or another --split"
        )
    return part, split


def _check_augmentation(config: DataConfig, shape: tuple[int, ...]) -> None:
    name = config.source
    for option, does in (("flip", "mirrors"), ("shift", "moves")):
        if getattr(config, option) and len(shape) != 3:
            raise ValueError(f"data.{option} {does} images, but {name} holds vectors: leave it out")
    if len(shape) == 3 and config.shift >= min(shape[1:]):
        raise ValueError(
            f"data.shift moves images by up to {config.shift} pixels, but those of {name} have "
            f"{shape[1]}x{shape[2]}"
        )


def _check_columns(x: torch.Tensor, where: str) -> None:
    """Raise ValueError for columns that make the density infinite: constant or equal ones."""
    seen: dict[bytes, int] = {}
    for index, values in enumerate(x.unbind(1)):
        if bool((values == values[0]).all()):
            raise ValueError(
                f"column {index} of {where} is the same in all training rows, so its "
                "density is infinite: drop it"
            )
        digest = hashlib.blake2b((values + 0.0).numpy().tobytes()).digest()  # -0 equals 0
        if digest in seen:
            raise ValueError(
                f"columns {seen[digest]} and {index} of {where} are equal in all "
                "training rows, so their density is infinite: drop one"
            )
        seen[digest] = index
