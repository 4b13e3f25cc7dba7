"""The rooms of the source tree and the imports between them: python tools/rooms.py [OUT.png]

Reads every import of ``src/realnvp``, those inside functions included, and what modules look up by
name instead, and knows the order in which rooms may import each other. ``tests/test_layout.py``
fails on what this finds wrong; run as a program it prints files and lines of code by room, and
draws the picture of docs/architecture.md.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections import defaultdict
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "realnvp"

ORDER = (
    ("utils",),
    ("config",),
    ("recipes", "model_info"),
    ("bijections",),
    ("columns",),
    ("data",),
    ("conditioners", "conditions", "inputs", "round_trip"),
    ("flow",),
    ("architectures", "evaluation", "interop", "latents", "plots"),
    ("builders",),
    ("outliers", "pretrained", "diagnostics"),
    ("reports",),
    ("training", "energy"),
    ("tables", "codec"),
    ("estimator",),
    ("posterior",),
    ("studio",),
    ("cli",),
)
"""Rooms from the lowest to the highest: a room imports from itself and from lower rows only."""

RANK = {room: rank for rank, row in enumerate(ORDER) for room in row}


_NO_CODE = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
    tokenize.ENDMARKER,
}  # fmt: skip


def modules() -> dict[str, Path]:
    """Return the files of the package by dotted name without ``realnvp``; the root is empty."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports_of(path: Path, known: dict[str, Path]) -> set[str]:
    """Return the modules of the package that a file imports when it runs."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text("utf-8"))]
    while waiting:
        node = waiting.pop()
        if _is_type_checking(node):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full.removeprefix("realnvp.") in known else node.module)
        waiting.extend(ast.iter_child_nodes(node))
    own = {name for name in found if name.split(".")[0] == "realnvp"}
    return {name.partition(".")[2] for name in own}


def graph() -> dict[str, set[str]]:
    """Return which modules each module imports, by dotted name."""
    known = modules()
    return {name: imports_of(path, known) - {name} for name, path in known.items()}


def lookups() -> dict[str, list[str]]:
    """Return what each module looks up by name, ``realnvp.module:attribute``, with no import."""
    found: dict[str, list[str]] = {}
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            text = node.value if isinstance(node, ast.Constant) else None
            if isinstance(text, str) and re.fullmatch(r"realnvp(\.\w+)+:\w*", text):
                found.setdefault(name, []).append(text)
    return found


def room_of(module: str) -> str:
    """Return the room of a module: its first part.

    >>> room_of("bijections.base"), room_of("flow")
    ('bijections', 'flow')
    """
    return module.split(".")[0]


def upward_imports() -> list[str]:
    """Return the imports from a lower to a higher room, or between rooms of one row."""
    wrong = []
    for name, imported in graph().items():
        if name in ("", "__main__"):  # the root offers the public names, __main__ is the program
            continue
        for other in sorted(imported):
            here, there = room_of(name), room_of(other)
            if not there or (here != there and RANK[here] <= RANK[there]):
                wrong.append(f"{name} imports {other or 'the package itself'}")
    return wrong


def circles() -> list[list[str]]:
    """Return the groups of modules that import each other (strongly connected components)."""
    edges = graph()
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in edges[name]:
            if other not in edges:
                continue
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group = [stack.pop()]
            while group[-1] != name:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    for name in edges:
        if name and name not in index:
            visit(name)
    return found


def code_lines(text: str) -> int:
    r"""Return the number of lines with code: without blanks, comments and docstrings.

    A string that is a statement is a docstring, also below a constant.

    >>> code_lines("'A module.'\n\nx = (  # one\n    1\n)\n'A number.'\n")
    3
    """
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        value = node.value if isinstance(node, ast.Expr) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            lines.difference_update(range(value.lineno, (value.end_lineno or value.lineno) + 1))
    return len(lines)


def sizes() -> dict[str, tuple[int, int]]:
    """Return the numbers of files and of lines of code of each room; the root's name is empty."""
    rooms: dict[str, list[int]] = defaultdict(list)
    for name, path in modules().items():
        rooms[room_of(name)].append(code_lines(path.read_text("utf-8")))
    return {room: (len(counts), sum(counts)) for room, counts in sorted(rooms.items())}


def draw(out: Path) -> None:
    """Draw the rooms, higher ones above, with an arrow for each import between two of them."""
    from matplotlib.figure import Figure

    lines: dict[str, int] = defaultdict(int)
    for name, path in modules().items():
        lines[room_of(name)] += len(path.read_text("utf-8").splitlines())
    edges = {
        (room_of(name), room_of(other))
        for name, imported in graph().items()
        for other in imported
        if name not in ("", "__main__") and room_of(name) != room_of(other)
    }
    place = {}
    for rank, row in enumerate(ORDER):
        held = [room for room in row if room in lines]
        for i, room in enumerate(held):
            place[room] = ((i + 0.5) / len(held) * 10, rank * 1.0)
    figure = Figure(figsize=(9, 8), layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_xlim(-0.3, 10.3)
    axes.set_ylim(-0.6, len(ORDER) - 0.4)
    for here, there in sorted(edges):
        if here in place and there in place:
            axes.annotate(
                "", xy=place[there], xytext=place[here],
                arrowprops={
                    "arrowstyle": "-|>", "color": "#8aa0b8", "alpha": 0.6, "linewidth": 0.9,
                    "connectionstyle": "arc3,rad=0.12", "shrinkA": 16, "shrinkB": 18,
                },
            )  # fmt: skip
    for room, (x, y) in place.items():
        axes.text(
            x, y, f"{room}\n{lines[room]:,} lines", ha="center", va="center", fontsize=9,
            bbox={"boxstyle": "round,pad=0.45", "facecolor": "white", "edgecolor": "#33475b"},
        )  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=120)


def main() -> None:
    rooms = sizes()
    for room, (files, lines) in sorted(rooms.items(), key=lambda item: -item[1][1]):
        print(f"{room or 'the root':16}{files:4} files{lines:8,} lines of code")
    files, lines = map(sum, zip(*rooms.values(), strict=True))
    print(f"{'all':16}{files:4} files{lines:8,} lines of code")
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/pictures/rooms.png")
    draw(out)
    print(f"{out}  {len(upward_imports())} upward imports, {len(circles())} circles")
    for line in [*upward_imports(), *(" <-> ".join(group) for group in circles())]:
        print(line)


if __name__ == "__main__":
    main()
