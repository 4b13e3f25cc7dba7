"""Data sets in memory: examples with their conditions, labels and weights, in parts.

:class:`Split` is one part of the data and :class:`Dataset` all of them; :mod:`realnvp.data.parts`
makes them. A saved model stores the fingerprint of each part that it was trained with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from realnvp.columns.fitting.rows import TrainingRows
from realnvp.data.stored_images import StoredImages

if TYPE_CHECKING:
    from realnvp.columns.kinds import Feature
    from realnvp.columns.schema import TableSchema
    from realnvp.data.toy import ToySet

Part = Literal["train", "validation", "test"]


_BLOCK = 1 << 22  # bytes per copy, where copying everything would double the memory


@dataclass(frozen=True, eq=False)
class Split:
    """One part of the data.

    Args:
        x: the examples: uint8 ``(N, C, H, W)`` images, or float32 ``(N, D)`` vectors; or
            :class:`~realnvp.data.stored_images.StoredImages` in place of a tensor.
        condition: what the density is conditioned on: int64 ``(N,)`` classes, ``(N, K)`` numbers,
            float64 from a file, or None.
        labels: int64 ``(N,)`` labels of the set where it has them, conditioned on or not.
        weight: float32 ``(N,)`` weights of the examples; None for equal ones.
        rows: int64 ``(N,)`` indices of the examples in their source; None for all in order.

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
        """Return a copy of the examples at ``index``, int64 ``(M,)``; images stay in files."""
        return Split(
            **{
                name: values.take(index) if isinstance(values, StoredImages) else values[index]
                for name, values in self._tensors().items()
            }
        )

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the examples in their order, with their conditions, labels and weights.

        It reads every byte (about 1 GB/s), and detects a changed byte, an added row, or another
        order.

        >>> one = Split(torch.tensor([[0.0, 1.0], [2.0, 3.0]]))
        >>> one.fingerprint == Split(one.x.clone()).fingerprint
        True
        >>> one.fingerprint == Split(one.x.flip(0)).fingerprint
        False
        """
        # Where the examples are stored does not matter.
        names = "x", "condition", "labels", "weight"
        tensors = {n: values for n in names if (values := getattr(self, n)) is not None}
        if self.condition is not None and self.condition.is_floating_point():
            tensors["condition"] = self.condition.float()  # as when most models were saved
        if not isinstance(self.x, torch.Tensor):
            others = [values for name, values in tensors.items() if name != "x"]
            return self.x.remembered("", others, lambda: _hash_of(tensors))
        return _hash_of(tensors)

    def separate(self, groups: Sequence[torch.Tensor]) -> list[Split]:
        """Divide the split in place, so that the memory of its examples is not needed twice.

        The examples are rearranged within this split's tensors; do not use this split afterwards.

        Args:
            groups: ascending int64 indices, which together are all of the examples.

        Returns:
            A split for each group, views of this one's tensors.
        """
        if isinstance(self.x, StoredImages):
            return [self.select(group) for group in groups]
        sizes = [len(group) for group in groups]
        in_order = torch.equal(torch.cat(list(groups)), torch.arange(len(self)))
        tensors = self._tensors()
        # Each tensor once: the labels may be the condition, too.
        for values in {id(values): values for values in tensors.values()}.values():
            if in_order:
                continue
            taken = [values[group] for group in groups[1:]]
            start = 0
            # The first group only moves down, so that nothing is overwritten before it has moved.
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
        return [
            Split(**{name: values[place] for name, values in tensors.items()}) for place in places
        ]

    def _tensors(self) -> dict[str, torch.Tensor]:
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.rows is None:
            tensors["rows"] = torch.arange(len(self), device=self.x.device)
        return {name: values for name, values in tensors.items() if values is not None}


def _hash_of(tensors: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, values in tensors.items():
        digest.update(f"{name} {values.dtype} {tuple(values.shape)};".encode())
        for block in values.split(max(1, _BLOCK // max(1, values[:1].nbytes))):
            digest.update(block.cpu().numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set, split and ready to train on.

    Args:
        name: name of the set, or the path it was read from.
        train: part to train on.
        validation: part to make choices on; it shares no example with the others.
        test: part that is only reported, or None where there is none.
        shape: shape of one example: ``(C, H, W)`` or ``(D,)``.
        levels: number of grey levels of the images, None for vectors. bits/dim of different
            levels are not comparable.
        classes: number of classes, where there are labels.
        categories: names of the classes in the order of their numbers, where they are names
            (subfolders, a table's text column); ``load_examples`` numbers other data the same way.
        toy: toy set, which knows its true log-density, if it is one.
        flip: train on random horizontal flips.
        shift: move half of the training images by up to this number of pixels at random.
        integers: indices of an array's columns that hold integers, to be dequantized.
        schema: columns of a table, whose features ``x`` holds, in float64.
        condition_schema: the same for the columns that the density is conditioned on.
        sample: rows that what is computed from the training rows is computed from instead.
    """

    name: str
    train: Split
    validation: Split
    test: Split | None
    shape: tuple[int, ...]
    levels: int | None = None
    classes: int | None = None
    categories: tuple[str, ...] | None = None
    toy: ToySet | None = None
    flip: bool = False
    shift: int = 0
    integers: tuple[int, ...] = ()
    schema: TableSchema | None = None
    condition_schema: TableSchema | None = None
    sample: Split | None = None

    @property
    def for_statistics(self) -> Split:
        """The examples to compute statistics from."""
        return self.train if self.sample is None else self.sample

    @property
    def training_rows(self) -> TrainingRows:
        """The training rows of vectors, as what fits a model's start takes them."""
        split = self.for_statistics
        return TrainingRows(
            split.x.double().cpu(),
            None if split.condition is None else split.condition.cpu(),
            None if split.weight is None else split.weight.cpu(),
            self.condition_classes, self.features, self.integers,
        )  # fmt: skip

    @property
    def features(self) -> tuple[Feature, ...]:
        """Meaning of each number of a table's row; empty if the data are not a table."""
        return () if self.schema is None else self.schema.features

    @property
    def columns(self) -> tuple[str, ...] | None:
        """Names of the features of a table, in the order of ``x``; None for other data."""
        return None if self.schema is None else tuple(f.name for f in self.schema.features)

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
        """Name and examples of the part on which results are reported.

        It is the test part, on which nothing was chosen, where there is one.
        """
        return ("validation", self.validation) if self.test is None else ("test", self.test)

    @cached_property
    def fingerprint(self) -> dict[Part, str]:
        """Fingerprint of each part, to be saved with a model; empty for a toy set.

        The points of a toy set are drawn, not read: its settings determine them.
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
        found: fingerprints of the present parts; parts that are unknown to the model are not
            compared.
        name: name of the data, for the message.

    >>> check_fingerprint({"train": "ab"}, {"train": "ab"}, "my.csv")
    >>> check_fingerprint({"train": "ab"}, {"train": "cd"}, "my.csv")
    Traceback (most recent call last):
    ValueError: my.csv has changed since the model was trained: its train part is ...
    """
    known = known if isinstance(known, Mapping) else {}  # it may come from an untrusted file
    other = [part for part, value in found.items() if known.get(part, value) != value]
    if other:
        what = "part is different" if len(other) == 1 else "parts are different"
        raise ValueError(
            f"{name} has changed since the model was trained: its {', '.join(other)} {what}, so "
            "that examples which the model has seen may count as held out: restore the data, name "
            "others with --data, or train again"
        )
