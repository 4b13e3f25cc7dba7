"""Print the lowest versions that pyproject.toml declares, as constraints of pip."""

from __future__ import annotations

import re
from pathlib import Path

LOWEST = re.compile(r'"([A-Za-z0-9-]+)(?:\[[a-z,]+\])?>=([0-9.]+)')

TABLES = ("dependencies", "parquet", "codec")
"""Entries whose lowest versions are tested; the tools that test are the newest."""


def main() -> None:
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8")
    for table in TABLES:
        entry = re.search(rf"^{table} = \[(.*?)\]", text, re.MULTILINE | re.DOTALL)
        assert entry is not None  # it is in the file
        for name, version in LOWEST.findall(entry[1]):
            print(f"{name}=={version}")


if __name__ == "__main__":
    main()
