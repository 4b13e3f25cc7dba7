r"""Copy the tables of docs/results.md from benchmarks/results: python tools/results_page.py

A comment above each table names its page; the number of the table there, if it is not the first;
the columns, with other names where these are given; and a condition that its rows satisfy:

    <!-- table mnist 1: model as recipe, bits/dim, JPEG XL\, tiled; time = 5 minutes -->

A test compares the page with what this tool would write.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "results.md"

_TABLE = re.compile(
    r"<!-- table (?P<page>[\w-]+)(?: (?P<number>\d+))?(?:: (?P<columns>[^;]+?))?"
    r"(?:; (?P<column>.+?) (?P<sign>!?=) (?P<value>.+?))? -->\n\n(?:\|.*\n)+"
)


def tables(page: str) -> list[list[list[str]]]:
    """Return the tables of a page of measurements: rows of cells, the first the heading."""
    text = (RESULTS / f"{page}.md").read_text("utf-8")
    return [
        [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in block.splitlines()
            if not re.fullmatch(r"[|\-: ]+", line)
        ]
        for block in re.findall(r"^(?:\|.*\n)+", text, flags=re.M)
    ]


def _copied(match: re.Match[str]) -> str:
    heading, *rows = tables(match["page"])[int(match["number"] or 1) - 1]
    if match["column"]:
        place = heading.index(match["column"])
        equal = match["sign"] == "="
        rows = [row for row in rows if (row[place] == match["value"]) == equal]
    names, places = heading, list(range(len(heading)))
    if match["columns"]:
        columns = re.split(r"(?<!\\), ", match["columns"])
        pairs = [column.replace("\\", "").partition(" as ") for column in columns]
        names = [shown or column for column, _, shown in pairs]
        places = [heading.index(column) for column, _, _ in pairs]
    lines = [names, *([row[place] for place in places] for row in rows)]
    head, *body = ["| " + " | ".join(line) + " |" for line in lines]
    comment = match[0].partition("\n")[0]
    return "\n".join([comment, "", head, "|" + "---|" * len(names), *body]) + "\n"


def page(text: str) -> str:
    """Return the page with the tables of today."""
    return _TABLE.sub(_copied, text)


def main() -> None:
    """Rewrite the page."""
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
