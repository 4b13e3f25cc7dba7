"""Images that stay in files: rows are read on demand.

The operating system keeps what is read often in free memory, shared by all processes of a machine,
and reclaims it when it is needed. So models can be trained on data of any size, and data that fit
in memory lose nothing. The files are read, not mapped into memory: pages of a map count as memory
of the process, and a process that maps a file into memory is killed if the file is truncated.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from realnvp.utils.files import write_atomically
from realnvp.utils.hashing import row_hashes


class ArrayFile:
    """An array in an ``.npy`` file, from which slices of rows are read. Threads may share it.

    Args:
        path: the file, which may be removed while it is open.

    Raises:
        ValueError: if it is not such a file.
        OSError: if it cannot be read; also when reading slices, if it has been truncated.

    Attributes:
        shape: shape of the array.
    """

    def __init__(self, path: Path) -> None:
        array = np.load(path, mmap_mode="r")
        if not isinstance(array, np.memmap) or array.dtype != np.uint8:
            raise ValueError(f"{path} is not an array of bytes")
        self.shape, self._start = array.shape, array.offset
        self._row = int(np.prod(self.shape[1:]))
        self._path, self._lock = path, threading.Lock()
        self._file = path.open("rb", buffering=0)
        weakref.finalize(self, self._file.close)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(len(self))
        images = np.empty((stop - start, *self.shape[1:]), np.uint8)
        left = images.reshape(-1).data
        with self._lock:
            self._file.seek(self._start + start * self._row)
            while left:
                count = self._file.readinto(left)
                if not count:
                    raise OSError(f"{self._path} was truncated after it was opened: start again")
                left = left[count:]
        return images


class StoredImages:
    """Rows of uint8 images in files, with the part of a tensor's interface that a split needs.

    Indexing reads: ``images[index]`` is a tensor of those rows. :meth:`take` selects rows without
    reading any.

    Args:
        shards: uint8 ``(M, C, H, W)`` arrays, or files of such, which together are all images in
            order. If some have three channels, the grey channel of the others is repeated.
        key: name of the content of all shards, by which fingerprints are remembered.
        memory: file that remembers fingerprints; None for none.
        on_device: whether an accelerator may hold the images in its memory.
        index: rows that are these images, int64 ``(N,)``; all of them by default.

    Attributes:
        shape: shape ``(N, C, H, W)``.

    >>> shards = [np.zeros((2, 1, 4, 4), np.uint8), np.ones((1, 1, 4, 4), np.uint8)]
    >>> images = StoredImages(shards, "key")
    >>> images.shape, images[torch.tensor([2, 0])].flatten(1).sum(1)
    (torch.Size([3, 1, 4, 4]), tensor([16,  0]))
    >>> images.take(torch.tensor([2, 0]))[:1].max()
    tensor(1, dtype=torch.uint8)
    """

    dtype, device, ndim = torch.uint8, torch.device("cpu"), 4

    def __init__(
        self,
        shards: Sequence[np.ndarray | ArrayFile],
        key: str,
        memory: Path | None = None,
        on_device: bool = True,
        index: Tensor | None = None,
    ) -> None:
        self._shards, self._key, self._memory = list(shards), key, memory
        self.on_device = on_device
        self._starts = np.cumsum([0, *(len(shard) for shard in shards)])
        self._index = torch.arange(int(self._starts[-1])) if index is None else index
        channels = max(shard.shape[1] for shard in shards)
        self.shape = torch.Size((len(self._index), channels, *shards[0].shape[2:]))

    def __len__(self) -> int:
        return len(self._index)

    @property
    def where(self) -> str:
        """Description of where the images are."""
        return (
            f"{len(self):,} training images ({self.numel() / 2**20:,.0f} MiB) are read from the "
            "cache as they are needed: --data-storage memory reads all of them at the start"
        )

    def numel(self) -> int:
        """Return the number of values, pixels times channels; each is a byte."""
        return self.shape.numel()

    def __getitem__(self, index: Tensor | slice | int) -> Tensor:
        rows = self._index[index].numpy()
        if rows.ndim == 0:
            return self[torch.tensor([index])][0]
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)
        shard = np.searchsorted(self._starts, rows, side="right") - 1
        # Consecutive rows are read together.
        apart = (np.diff(rows) != 1) | (np.diff(shard) != 0)
        ends = [0, *(np.flatnonzero(apart) + 1).tolist(), len(rows)]
        for start, stop in pairwise(ends if len(rows) else []):
            first = rows[start] - self._starts[shard[start]]
            images[start:stop] = self._shards[shard[start]][first : first + stop - start]
        return torch.from_numpy(images)

    def take(self, index: Tensor) -> StoredImages:
        """Return the images at ``index``, int64 ``(M,)``, without reading them."""
        return StoredImages(
            self._shards, self._key, self._memory, self.on_device, self._index[index]
        )

    def split(self, size: int) -> Iterator[Tensor]:
        """Yield the images in order, in blocks."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def max(self) -> Tensor:
        """Return the largest value."""
        return torch.stack([block.max() for block in self.split(1024)]).max()

    def to(self, device: torch.device) -> Tensor:
        """Read all images into the memory of a device."""
        images = torch.empty(self.shape, dtype=torch.uint8, device=device)
        start = 0
        for block in self.split(1024):
            images[start : start + len(block)] = block
            start += len(block)
        return images

    def cpu(self) -> Tensor:
        """Read all images into memory."""
        return self.to(torch.device("cpu"))

    def copies(self) -> NDArray[np.int64]:
        """Return the index of the first image that equals each, int64 ``(N,)``; found once."""

        def later() -> dict[str, int]:
            blocks = [row_hashes(block.flatten(1).numpy()) for block in self.split(1024)]
            _, start, group = np.unique(
                np.concatenate(blocks), return_index=True, return_inverse=True
            )
            first = start[group]
            return {str(i): int(first[i]) for i in np.flatnonzero(first != np.arange(len(first)))}

        copies = self.remembered("copies", (), later)
        first = np.arange(len(self))
        first[list(map(int, copies))] = list(copies.values())
        return first

    def remembered(self, what: str, others: Sequence[Tensor], compute: Callable[[], Any]) -> Any:
        """Return what is computed of these images and other tensors, as a file remembers it.

        Args:
            what: name of what is computed; empty for the fingerprint.
            others: the other tensors.
            compute: computes it, as JSON.
        """
        if self._memory is None:
            return compute()
        digest = hashlib.blake2b(f"{self._key}{what}".encode(), digest_size=16)
        for values in (self._index, *others):
            digest.update(f"{values.dtype} {tuple(values.shape)};".encode())
            digest.update(values.cpu().numpy().tobytes())
        key = digest.hexdigest()
        memory: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):  # there is none yet, or it is damaged
            memory = dict(json.loads(self._memory.read_text()))
        if key not in memory:
            memory[key] = compute()
            write_atomically(self._memory, json.dumps(memory).encode())
        return memory[key]
