"""Image files, decoded once: a cache of pixels that later runs read.

An entry of the cache is a folder: ``entry.json`` describes its images, and a shard holds the pixels
of some hundreds of consecutive files, as ``NAME.npy``, and what is known about these files, as
``NAME.json``, which is written last. The name is a hash of the files' paths, sizes and times, so
that an existing shard is valid, an unfinished one is made again, and a changed file invalidates
only its own shard. While shards are made, a lock restricts an entry to one process; shards that are
open may be removed meanwhile.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from realnvp.data.stored_images import ArrayFile, StoredImages
from realnvp.utils.distributed import rank
from realnvp.utils.files import remove_temporary
from realnvp.utils.image_files import (
    FileList,
    ImageStack,
    UnusableImage,
    attempt,
    end_with,
    no_bombs,
    write_stack,
)
from realnvp.utils.progress import Bar, warn

VERSION = 1
"""Version of the file format; entries of other versions are not read."""

SHARD = 1 << 24
"""Bytes of a shard, for data of up to ``MOST_SHARDS`` times that size."""

MOST_SHARDS = 256
"""Largest number of shards. Each is an open file, and many systems allow a process 1,024."""

MOST_PROCESSES = 16

SPARE = 1 << 26
"""Bytes of the disk that are left free."""


def default_folder() -> Path:
    """Return the cache folder, which is where PyTorch and Hugging Face have theirs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "realnvp"


def open_cached(
    source: Path,
    files: Sequence[Path],
    read: partial[np.ndarray],
    root: Path,
    on_device: bool,
    part: str = "",
) -> tuple[StoredImages | None, ImageStack]:
    """Return the images of files, decoding those that have not been decoded before.

    Args:
        source: the folder that holds the files.
        files: the image files.
        read: reads one of them, with settings as keywords; it can be passed to other processes.
        root: folder of the cache.
        on_device: see ``StoredImages``.
        part: name of the part of a set that the files belong to, if the folder has files of other
            parts.

    Returns:
        the images, or None if there are none or their sizes differ; and which files they come from,
        as ``stack`` returns it. Its array has the shape of one image, but no images.

    Raises:
        OSError: if the cache cannot be written, or the disk has no room for it.
    """
    settings = {"read": f"{read.func.__module__}.{read.func.__qualname__}", **read.keywords}
    # Another version of the decoder may round differently.
    settings |= {"version": VERSION, "pillow": PIL.__version__, "source": str(source.resolve())}
    settings |= {"part": part} if part else {}
    folder = root / "images" / _digest(settings)
    folder.mkdir(parents=True, exist_ok=True)
    per_shard, sample = _plan(files, read)
    parts = [files[i : i + per_shard] for i in range(0, len(files), per_shard)]
    names = [_digest(_identities(part, source)) for part in parts]
    with _lock(folder):
        missing = [i for i, name in enumerate(names) if not _is_complete(folder, name)]
        if missing:
            remove_temporary(folder)
            _check_room(folder, sum(len(parts[i]) for i in missing) * sample)
            _decode([(parts[i], folder / names[i]) for i in missing], read)
            _remove_stale(folder, names)
        shards, content = _open_shards(folder, names, per_shard)
        images = None
        if shards and not content.odd:
            memory = folder / "fingerprints.json"
            images = StoredImages(shards, _digest(names), memory, on_device)
    return images, content


def _plan(files: Sequence[Path], read: partial[np.ndarray]) -> tuple[int, int]:
    """Return the number of files of a shard, and the bytes of an image, those of the first one."""
    with no_bombs():
        for path in files:
            image = attempt(read, path)
            if not isinstance(image, UnusableImage):
                least = -(-len(files) // MOST_SHARDS)
                return max(1, least, SHARD // image.nbytes), image.nbytes
    return len(files), 0


def _identities(files: Sequence[Path], source: Path) -> list[tuple[str | int, ...]]:
    """Return a key of files that changes when they are replaced or modified."""
    if isinstance(files, FileList):
        names, paths = files.names, [f"{files.folder}{os.sep}{name}" for name in files.names]
    else:
        paths = [str(path) for path in files]
        names = [path.removeprefix(str(source)) for path in paths]  # fast, unlike relpath
    states = map(os.stat, paths)
    return [(n, s.st_size, s.st_mtime_ns) for n, s in zip(names, states, strict=True)]


def _digest(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()


def _check_room(folder: Path, nbytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < nbytes + SPARE:
        raise OSError(
            f"the decoded images take {nbytes / 2**20:,.0f} MiB, and the disk of {folder} has "
            f"{free / 2**20:,.0f} free: choose another one with --data-cache, or make room"
        )


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Lock an entry until the end of the context, or of the process, however it ends."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / "lock")
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if rank() == 0:
                warn("another process is decoding the same images: waiting for it")
            lock.acquire()
    except (OSError, NotImplementedError):  # a network file system without locks
        pass
    try:
        yield
    finally:
        lock.release()


# ---------------------------------------------------------------------- shards


def _decode(work: Sequence[tuple[Sequence[Path], Path]], read: partial[np.ndarray]) -> None:
    """Make shards, in as many processes as there are cores."""
    from concurrent.futures import as_completed
    from concurrent.futures.process import BrokenProcessPool

    from joblib import cpu_count
    from joblib.externals.loky import ProcessPoolExecutor  # scripts need no __main__ guard

    count, done = sum(len(files) for files, _ in work), 0
    jobs = min(MOST_PROCESSES, cpu_count(), len(work))
    with Bar("decoding images", main=rank() == 0) as bar:
        if jobs == 1:
            for files, path in work:
                done += write_stack(files, path, read)
                bar.update(done / count, f"{done:,} of {count:,}")
            return
        pool = ProcessPoolExecutor(jobs, initializer=end_with, initargs=(os.getpid(),))
        try:
            tasks = [pool.submit(write_stack, files, path, read) for files, path in work]
            for task in as_completed(tasks):
                done += task.result()
                bar.update(done / count, f"{done:,} of {count:,}")
        except BrokenProcessPool as error:
            raise ChildProcessError(
                "a process that decodes images was killed from outside, perhaps out of memory: "
                "the same command continues where it stopped"
            ) from error
        finally:
            pool.shutdown(kill_workers=done < count)


def _is_complete(folder: Path, name: str) -> bool:
    """Return whether a shard exists and is complete."""
    if not (folder / f"{name}.json").is_file():
        return False
    try:
        ArrayFile(folder / f"{name}.npy")
        return True
    except (OSError, ValueError):
        pass
    return not json.loads((folder / f"{name}.json").read_text())["kept"]


def _open_shards(
    folder: Path, names: Sequence[str], per_shard: int
) -> tuple[list[ArrayFile], ImageStack]:
    """Return the shards of an entry that hold images, and what all of its files hold."""
    shards: list[ArrayFile] = []
    content = ImageStack(np.empty((0, 1, 0, 0), np.uint8))
    for i, name in enumerate(names):
        about, first = json.loads((folder / f"{name}.json").read_text()), i * per_shard
        content.bad |= {first + int(k): (why, remedy) for k, (why, remedy) in about["bad"].items()}
        sizes = {first + int(k): (wide, high) for k, (wide, high) in about["odd"].items()}
        kept = [first + k for k in about["kept"]]
        if kept:
            shard = ArrayFile(folder / f"{name}.npy")
            if not shards:
                content.images = np.empty((0, *shard.shape[1:]), np.uint8)
            if shard.shape[2:] != content.images.shape[2:]:
                sizes |= dict.fromkeys(kept, (shard.shape[3], shard.shape[2]))
            shards.append(shard)
        size = (content.images.shape[3], content.images.shape[2])
        content.odd |= {k: other for k, other in sizes.items() if other != size}
        content.kept += [k for k in kept if k not in content.odd]
    return shards, content


def _remove_stale(folder: Path, names: Sequence[str]) -> None:
    """Remove shards of earlier versions of the files."""
    kept = {f"{name}{suffix}" for name in names for suffix in (".npy", ".json")}
    for path in folder.iterdir():
        if path.suffix in (".npy", ".json") and path.name not in (kept | {"fingerprints.json"}):
            with contextlib.suppress(OSError):  # open in another process on Windows
                path.unlink()
