"""``realnvp cache``."""

from __future__ import annotations

import time
from pathlib import Path

from realnvp.cli.options import Parser
from realnvp.cli.shared import table, tell

__all__ = []

EPILOG = """examples:
  realnvp cache                            list its folders
  realnvp cache --clear                    remove everything; images are decoded again when needed
"""


def main(argv: list[str]) -> int:
    """List the decoded images of large folders, or remove them."""
    parser = Parser("cache", "List the decoded images of large folders, or remove them.", EPILOG)
    parser.add_argument(
        "--data-cache", metavar="FOLDER", help="the cache (default: in the user's cache folder)"
    )
    parser.add_argument("--clear", action="store_true", help="remove everything in it")
    args = parser.parse_args(argv)
    from realnvp.data.cache import clear, default_folder, entries
    from realnvp.utils.progress import warn

    root = default_folder() if args.data_cache is None else Path(args.data_cache).expanduser()
    if args.clear:
        removed, busy = clear(root)
        for folder in busy:
            warn(f"{folder} is in use by another process, so it was not removed")
        result = {"cache": str(root), "removed_bytes": removed}
        return tell(args, result, f"{root}  {removed / 2**20:,.1f} MiB removed")
    listed, rows = [], []
    for entry in entries(root):
        facts = {name: getattr(entry, name) for name in ("source", "images", "shape", "used")}
        listed.append({**facts, "bytes": entry.nbytes, "folder": str(entry.folder)})
        shape, mib = "x".join(map(str, entry.shape)), f"{entry.nbytes / 2**20:,.1f}"
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        rows.append((entry.source, f"{entry.images:,}", shape, mib, used))
    shown = table(f"cache in {root}", ["folder", "images", "shape", "MiB", "used"], rows)
    return tell(args, {"cache": str(root), "entries": listed}, shown)
