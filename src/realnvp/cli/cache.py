"""``realnvp cache``."""

from __future__ import annotations

import time
from pathlib import Path

from realnvp.cli.options import Parser, add_json
from realnvp.cli.shared import print_json, print_table

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
    add_json(parser)
    args = parser.parse_args(argv)
    from realnvp.data.cache import clear, default_folder, entries
    from realnvp.utils.progress import warn

    root = default_folder() if args.data_cache is None else Path(args.data_cache).expanduser()
    if args.clear:
        removed, busy = clear(root)
        for folder in busy:
            warn(f"{folder} is in use by another process, so it was not removed")
        if args.json:
            print_json({"cache": str(root), "removed_bytes": removed})
        else:
            print(f"{root}  {removed / 2**20:,.1f} MiB removed")
        return 0
    found = entries(root)
    if args.json:
        listed = [
            {
                "source": entry.source,
                "images": entry.images,
                "shape": entry.shape,
                "bytes": entry.nbytes,
                "used": entry.used,
                "folder": str(entry.folder),
            }
            for entry in found
        ]
        print_json({"cache": str(root), "entries": listed})
        return 0
    rows = [
        (
            entry.source,
            f"{entry.images:,}",
            "x".join(map(str, entry.shape)),
            f"{entry.nbytes / 2**20:,.1f}",
            time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used)),
        )
        for entry in found
    ]
    print_table(f"cache in {root}", ["folder", "images", "shape", "MiB", "used"], rows)
    return 0
