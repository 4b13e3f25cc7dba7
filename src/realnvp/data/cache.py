"""Image files, decoded once: later runs read the pixels that the first one saved.

An entry belongs to a source, the settings that change pixels, and the decoder's version. It holds
one array, and is made again when a file is added, removed, or changes its size or its time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from realnvp.utils.distributed import rank
from realnvp.utils.errors import describe
from realnvp.utils.files import replacing, write_atomically
from realnvp.utils.image_files import ImageStack
from realnvp.utils.progress import warn

__all__ = ["cached", "default_folder"]


def default_folder() -> Path:
    """Return the user's cache folder, following the conventions of the platform."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "realnvp"


def cached(
    decode: Callable[[], ImageStack],
    source: Path,
    files: Sequence[Path],
    read: partial[np.ndarray],
    root: Path | None = None,
    part: str = "",
) -> ImageStack:
    """Return the images of files, from the cache if they have been decoded before.

    Args:
        decode: reads the files.
        source: folder that holds them.
        files: the files.
        read: reads one of them; its name and its settings are part of the entry's name.
        root: folder of the cache; None is the user's, where a cache that cannot be written is only
            a warning.
        part: name of the part of a set that the files belong to.
    """
    from PIL import __version__ as pillow  # another version may round differently

    name = f"{read.func.__module__}.{read.func.__qualname__}"
    settings = [name, read.keywords, pillow, str(source.resolve()), part]
    folder = (default_folder() if root is None else root) / "images" / _digest(settings)
    states = [(str(path), path.stat()) for path in files]
    path = folder / f"{_digest([(n, s.st_size, s.st_mtime_ns) for n, s in states])}.json"
    with contextlib.suppress(OSError, ValueError):  # not there, or damaged
        about = json.loads(path.read_text())
        bad, odd = ({int(i): tuple(v) for i, v in about[key].items()} for key in ("bad", "odd"))
        return ImageStack(np.load(path.with_suffix(".npy")), about["kept"], bad, odd)
    found = decode()
    try:
        for old in folder.glob("*"):
            old.unlink()
        with replacing(path.with_suffix(".npy")) as temporary:
            np.save(temporary, found.images)
        about = {"kept": found.kept, "bad": found.bad, "odd": found.odd}
        write_atomically(path, json.dumps(about).encode())
    except OSError as error:
        if root is not None:
            raise
        if rank() == 0:
            warn(f"no cache, so the images are decoded at every start: {describe(error)}")
    return found


def _digest(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()
