"""Animations as a GIF or a WebP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

__all__ = ["save_animation"]


def save_animation(
    frames: Sequence[Image.Image],
    path: Path,
    *,
    milliseconds: int = 80,
    there_and_back: bool = True,
) -> None:
    """Write frames as an endless animation.

    Args:
        frames: pictures of one size.
        path: file to write, ``.gif`` or ``.webp``.
        milliseconds: duration of a frame; the first and the last one are shown six times as long.
        there_and_back: play the frames backwards after the last one.

    Raises:
        ValueError: if there are no frames, or the file's name has another ending.
    """
    if path.suffix not in (".gif", ".webp"):
        raise ValueError(f"animations are .gif or .webp, got {path.name!r}")
    if not frames:
        raise ValueError("an animation needs frames")
    times = [milliseconds] * len(frames)
    times[0] = times[-1] = 6 * milliseconds
    shown = list(frames)
    if there_and_back:
        shown += shown[-2:0:-1]
        times += times[-2:0:-1]
    path.parent.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"lossless": True} if path.suffix == ".webp" else {"optimize": True}
    first, *rest = shown
    first.save(path, save_all=True, append_images=rest, duration=times, loop=0, **options)
