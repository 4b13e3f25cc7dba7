"""Data sets in memory, in parts that share no example.

A density model is judged on examples that it has not seen, so the parts are made once, here:
`train` is learned from; `validation` chooses (stopping, checkpoints, settings); `test` is only
reported. A source's own test part is never touched; what a source lacks is held out of its training
part. By its fingerprint, a part is recognized later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from realnvp.data.stored import StoredImages
from realnvp.utils.errors import some_of

if TYPE_CHECKING:
    from realnvp.config import DataConfig
    from realnvp.data.columns import Coordinate, TableSchema
    from realnvp.data.toy import ToySet

__all__ = [
    "Dataset",
    "Part",
    "Parts",
    "Split",
    "assemble",
    "check_fingerprint",
    "conditioned",
    "hold_out",
    "integer_columns",
    "parse_labels",
    "part_of",
]

Part = Literal["train", "validation", "test"]


_BLOCK = 1 << 22  # bytes that are copied at once, where a whole copy would double the memory


TEST_FROM = 1_000
"""Rows of a table from which on some are held out to test."""


def _named(values: np.ndarray, categories: Sequence[str]) -> np.ndarray:
    """Return numbers by the names of the classes, if all of these are numbers."""
    try:
        known = {float(name): name for name in categories}
    except ValueError:
        return values
    return np.array([known.get(value, str(value)) for value in values.tolist()], dtype=object)


def parse_labels(
    values: np.ndarray, where: str, categories: Sequence[str] | None = None
) -> tuple[torch.Tensor, tuple[str, ...] | None]:
    """Turn labels, as they are found in files, into classes 0, 1, 2, ...

    Args:
        values: `(N,)` or `(N, 1)`: integers from 0, or names, which are numbered in sorted order.
        where: name of the labels, for messages.
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
    if categories is not None and values.dtype.kind in "iuf":
        values = _named(values, categories)
    if values.dtype.kind in "UO":
        names = values.astype(str).tolist()
        known = sorted(set(names)) if categories is None else categories
        codes = {str(name): code for code, name in enumerate(known)}
        unknown = sorted(set(names) - set(codes))
        if unknown:
            raise ValueError(
                f"{where} holds {unknown[0]!r}, which is none of the known classes "
                f"{some_of(tuple(codes))}"
            )
        numbers = np.array([codes[name] for name in names], dtype=np.int64)
        return torch.from_numpy(numbers), tuple(codes)
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{where} must be integers or names, got {values.dtype}")
    if values.dtype.kind == "f" and not (np.isfinite(values) & (values == np.floor(values))).all():
        raise ValueError(f"{where} must be integers to be used as classes")
    if values.size and (values.min() < 0 or values.max() > 2**62):
        raise ValueError(
            f"{where} must be classes numbered from 0, got {values.min()} to {values.max()}"
        )
    return torch.from_numpy(values.astype(np.int64)), None


@dataclass(frozen=True, eq=False)
class Split:
    """One part of the data.

    Args:
        x: the examples: uint8 `(N, C, H, W)` images, or float32 `(N, D)` vectors; or
            :class:`~realnvp.data.stored.StoredImages` or, also as the condition,
            :class:`~realnvp.data.grouped_rows.GroupedRows` in the place of a tensor.
        condition: what the density is conditioned on: int64 `(N,)` classes, float32 `(N, K)`
            numbers, or None.
        labels: int64 `(N,)` labels of the set where it has them, conditioned on or not.
        weight: float32 `(N,)` weights of the examples; None for equal ones.
        rows: int64 `(N,)` indices of the examples in their source; None for all in order.

    >>> split = Split(torch.zeros(3, 2), labels=torch.tensor([0, 1, 1]))
    >>> len(split), len(split.select(torch.tensor([2])))
    (3, 1)
    """

    x: torch.Tensor
    condition: torch.Tensor | None = None
    labels: torch.Tensor | None = None
    weight: torch.Tensor | None = None
    rows: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def select(self, index: torch.Tensor) -> Split:
        """Return a copy of the examples at `index`, int64 `(M,)`; stored images stay in files."""
        return self._map(
            lambda values: values.take(index) if isinstance(values, StoredImages) else values[index]
        )

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the examples in their order, with their conditions, labels and weights.

        It reads every byte (about 1 GB/s): one that is changed, a row that is added, and another
        order are noticed.

        >>> one = Split(torch.tensor([[0.0, 1.0], [2.0, 3.0]]))
        >>> one.fingerprint == Split(one.x.clone()).fingerprint
        True
        >>> one.fingerprint == Split(one.x.flip(0)).fingerprint
        False
        """
        # Where the examples are is not what they are.
        fields = "x", "condition", "labels", "weight"
        values = {name: getattr(self, name) for name in fields}
        held = {name: tensor for name, tensor in values.items() if tensor is not None}
        if not isinstance(self.x, torch.Tensor):
            others = [values for name, values in held.items() if name != "x"]
            return self.x.remembered(others, lambda: _hash_of(held))
        return _hash_of(held)

    def separate(self, groups: Sequence[torch.Tensor]) -> list[Split]:
        """Take the split apart in place, so that the memory of its examples is not needed twice.

        The examples are rearranged within this split's tensors, which is not to be used again.

        Args:
            groups: ascending int64 indices, which together are all of the examples.

        Returns:
            A split for each group, views of this one's tensors.
        """
        if isinstance(self.x, StoredImages):
            return [self.select(group) for group in groups]
        sizes = [len(group) for group in groups]
        in_order = torch.equal(torch.cat(list(groups)), torch.arange(len(self)))
        # Each tensor once: the labels may be the condition, too.
        for values in {id(values): values for values in self._tensors().values()}.values():
            if in_order:
                continue
            taken = [values[group] for group in groups[1:]]
            start = 0
            # What stays only moves down, so that nothing is overwritten before it has moved.
            for index in groups[0].split(max(1, _BLOCK // max(1, values[:1].nbytes))):
                stop = start + len(index)
                if int(index[0]) != start or int(index[-1]) != stop - 1:
                    values[start:stop] = values[index]
                start = stop
            for group in taken:
                values[start : start + len(group)] = group
                start += len(group)
        ends = np.cumsum(sizes).tolist()
        places = [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]
        return [self._map(lambda values, place=place: values[place]) for place in places]  # type: ignore[misc]

    def _map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Split:
        return Split(**{name: change(values) for name, values in self._tensors().items()})

    def _tensors(self) -> dict[str, torch.Tensor]:
        held = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.rows is None:
            held["rows"] = torch.arange(len(self), device=self.x.device)
        return {name: values for name, values in held.items() if values is not None}


def _hash_of(tensors: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, values in tensors.items():
        digest.update(f"{name} {values.dtype} {tuple(values.shape)};".encode())
        for block in _blocks(values):
            digest.update(block.cpu().numpy().tobytes())
    return digest.hexdigest()


def _blocks(values: torch.Tensor) -> Sequence[torch.Tensor]:
    return values.split(max(1, _BLOCK // max(1, values[:1].nbytes))) if len(values) else ()


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set, split and ready to train on.

    Args:
        name: name of the set, or the path it was read from.
        train: part that is learned from.
        validation: part that choices are made on; it shares no example with the others.
        test: part that is only reported, or None where there is none.
        shape: shape of one example: `(C, H, W)` or `(D,)`.
        levels: number of grey levels of the images, None for vectors. bits/dim of different
            levels are not comparable.
        classes: number of classes, where there are labels.
        columns: names of a table's columns, in the order of `x`.
        categories: names of the classes in the order of their numbers, where they are names
            (subfolders, a table's text column); `load_examples` numbers other data the same way.
        toy: toy set, which knows its true log-density, if it is one.
        flip: train on random horizontal flips.
        shift: train on images half of which are moved by up to so many pixels at random.
        integers: indices of an array's columns that hold integers, to be dequantized.
        schema: columns of a table, whose coordinates ``x`` holds, in float64.
        condition_schema: likewise of the columns that the density is conditioned on.
        sample: random training examples in memory, where the others stay in files.
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
    schema: TableSchema | None = None
    condition_schema: TableSchema | None = None
    sample: Split | None = None

    @property
    def known(self) -> Split:
        """The training examples that statistics are of: all, or a sample of those in files."""
        return self.train if self.sample is None else self.sample

    @property
    def coordinates(self) -> tuple[Coordinate, ...]:
        """What each of the numbers of a table's row is; empty if the data are no table."""
        return () if self.schema is None else self.schema.coordinates

    @property
    def kind(self) -> Literal["image", "vector"]:
        """Kind of one example."""
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

    @property
    def reporting(self) -> tuple[Part, Split]:
        """Name and examples of the part that results are reported of.

        It is the test part, which nothing was chosen on, where there is one.
        """
        return ("validation", self.validation) if self.test is None else ("test", self.test)

    @cached_property
    def fingerprint(self) -> dict[Part, str]:
        """Fingerprint of each part, to be saved with a model; empty for a toy set.

        The points of a toy set are drawn, not read: its settings say which they are.
        """
        if self.toy is not None:
            return {}
        parts: dict[Part, Split | None] = {
            "train": self.train, "validation": self.validation, "test": self.test
        }  # fmt: skip
        return {part: split.fingerprint for part, split in parts.items() if split is not None}


def check_fingerprint(
    known: Mapping[str, str] | None, found: Mapping[Part, str], name: str
) -> None:
    """Raise ValueError unless parts of the data are still those that a model was trained with.

    Args:
        known: fingerprints that were saved with the model; None for a model without any.
        found: fingerprints of today's parts; parts that the model does not know are not compared.
        name: name of the data, for the message.

    >>> check_fingerprint({"train": "ab"}, {"train": "ab"}, "my.csv")
    >>> check_fingerprint({"train": "ab"}, {"train": "cd"}, "my.csv")
    Traceback (most recent call last):
    ValueError: my.csv has changed since the model was trained: its train part is ...
    """
    known = known if isinstance(known, Mapping) else {}  # it may come from anybody's file
    other = [part for part, value in found.items() if known.get(part, value) != value]
    if other:
        what = "part is another one" if len(other) == 1 else "parts are others"
        raise ValueError(
            f"{name} has changed since the model was trained: its {', '.join(other)} {what}, so "
            "that examples which the model has seen may count as held out: restore the data, name "
            "others with --data, or train again"
        )


@dataclass(frozen=True, eq=False)
class Parts:
    """Parts that a source holds, each read when it is called; the fields are those of `Dataset`.

    Args:
        owned: whether what is read is used by nobody else, so that it is split in place. Data of
            a user's own are copied instead.
        is_divided: whether held-out parts have been chosen already, as settings say.
    """

    train: Callable[[], Split]
    validation: Callable[[], Split] | None = None
    test: Callable[[], Split] | None = None
    levels: int | None = None
    columns: tuple[str, ...] | None = None
    categories: tuple[str, ...] | None = None
    toy: ToySet | None = None
    owned: bool = True
    schema: TableSchema | None = None
    condition_schema: TableSchema | None = None
    sample: Split | None = None
    is_divided: bool = False


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
    """Choose which of `n` examples train and which are held out.

    Args:
        n: number of examples.
        validation: share that is held out: a fraction below 1, or a number of examples.
        holdout: "last" holds out the last ones, "random" any.
        seed: seed of the random choice.
        name: name of the setting, for messages.

    Returns:
        Two ascending int64 index tensors, training first.

    Raises:
        ValueError: when fewer than two examples would be left to train on.

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
    if holdout == "last":
        order = torch.arange(n)
    elif holdout == "random":
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    else:
        raise ValueError(f"holdout is 'last' or 'random', got {holdout!r}")
    return order[: n - count].sort().values, order[n - count :].sort().values


def held_out_count(n: int, share: float) -> int:
    """Return the number of examples to hold out of `n`: at least one.

    >>> held_out_count(1000, 0.1), held_out_count(1000, 50), held_out_count(3, 0.1)
    (100, 50, 1)
    """
    return max(1, round(n * share)) if share < 1 else int(share)


def conditioned(split: Split, condition: str | None, where: str) -> Split:
    """Return the split with its labels as its condition, where it is to be conditioned on them.

    Raises:
        ValueError: when there are no labels.
    """
    if condition is None or split.condition is not None:  # a table has set its own condition
        return split
    if split.labels is None:
        raise ValueError(f"{where} has no labels to condition on: set data.condition to null")
    return replace(split, condition=split.labels)


def _held_out(train: Split, parts: Parts, config: DataConfig) -> dict[Part, torch.Tensor]:
    """Choose what is held out of the training part: indices of every part that it is split into.

    In the order of the examples ("last"), what trains comes first, and what tests last.
    """
    n, share = len(train), config.test
    if share is None:
        long_table = train.x.ndim == 2 and parts.toy is None and n >= TEST_FROM
        share = 0.1 if long_table and parts.test is None else 0
    elif share and parts.test is not None:
        raise ValueError(
            f"{config.source} has a test part of its own: leave data.test out, which holds out one"
        )
    learn, held = torch.arange(n), torch.arange(0)
    if share:
        learn, held = hold_out(n, share, config.holdout, config.seed, "test")
    index: dict[Part, torch.Tensor] = {"train": learn}
    if parts.validation is None:
        count = held_out_count(n, config.validation)
        keep, check = hold_out(len(learn), count, config.holdout, config.seed)
        index = {"train": learn[keep], "validation": learn[check]}
    return {**index, "test": held} if share else index


def assemble(parts: Parts, config: DataConfig) -> Dataset:
    """Read all parts, hold out those that the source lacks, and apply the condition.

    Raises:
        ValueError: when the parts are too small, or the settings do not fit the data.
    """
    name, whole = config.source, parts.train()
    found: dict[Part, Split] = {"train": whole}
    if not parts.is_divided:
        index = _held_out(whole, parts, config)
        groups = [*index.values()]
        splits = whole.separate(groups) if parts.owned else [whole.select(rows) for rows in groups]
        found = dict(zip(index, splits, strict=True))
    own: dict[Part, Callable[[], Split] | None] = {
        "validation": parts.validation, "test": parts.test
    }  # fmt: skip
    for part, read in own.items():
        if read is not None:
            found[part] = read()
    found = {part: conditioned(split, config.condition, name) for part, split in found.items()}
    train, validation, splits = found["train"], found["validation"], list(found.values())
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
    if len(shape) == 1:
        if parts.schema is None:
            _check_columns(train.x, parts.columns, name)
        if parts.toy is None and parts.schema is None and config.integers == "auto":
            columns = [set(integer_columns(split.x)) for split in splits]
            integers = tuple(sorted(set.intersection(*columns)))
    return Dataset(
        name, train, validation, found.get("test"), shape,
        parts.levels or (256 if len(shape) == 3 else None), classes, parts.columns,
        parts.categories, parts.toy, config.flip, config.shift, integers,
        parts.schema, parts.condition_schema, parts.sample,
    )  # fmt: skip


def part_of(parts: Parts, config: DataConfig, part: Part | None = None) -> tuple[Part, Split]:
    """Read one part, as `assemble` makes it, and nothing that is not needed for it.

    Args:
        parts: source.
        config: settings.
        part: name of the part; None for the one that is reported (`Dataset.reporting`).

    Raises:
        ValueError: when there is no such part, and as `assemble` does.
    """
    own = {"validation": parts.validation, "test": parts.test}
    if part is None and parts.is_divided:
        part = "validation" if parts.test is None else "test"
    if part is None and parts.test is not None:
        part = "test"
    read = own.get(part or "")
    if part == "train" and parts.is_divided:
        read = parts.train
    if part is None or (read is None and not parts.is_divided):
        whole = parts.train()
        index = _held_out(whole, parts, config)
        if part is None:
            part = "test" if "test" in index else "validation"
        if part in index:
            everything = list(index.values())
            split = whole.separate(everything)[0] if part == "train" else whole.select(index[part])
            return part, conditioned(split, config.condition, config.source)
        read = own.get(part)
    if read is None:
        raise ValueError(
            f"{config.source} has no {part} part: give other data with --data, or another --split"
        )
    return part, conditioned(read(), config.condition, config.source)


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


def _check_columns(x: torch.Tensor, names: Sequence[str] | None, where: str) -> None:
    """Raise ValueError for columns that make the density infinite: constant or equal ones."""

    def column(index: int) -> str:
        return repr(names[index]) if names else str(index)

    seen: dict[bytes, int] = {}
    for index, values in enumerate(x.unbind(1)):
        if bool((values == values[0]).all()):
            raise ValueError(
                f"column {column(index)} of {where} is the same in all training rows, so its "
                "density is infinite: drop it"
            )
        digest = hashlib.blake2b((values + 0.0).numpy().tobytes()).digest()  # -0 equals 0
        if digest in seen:
            raise ValueError(
                f"columns {column(seen[digest])} and {column(index)} of {where} are equal in all "
                "training rows, so their density is infinite: drop one"
            )
        seen[digest] = index
