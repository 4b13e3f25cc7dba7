"""The playground's script: its modules, joined into one that browsers run from a folder, too.

Browsers load no modules (``docs/playground/*.mjs``) from files, only from servers. So the site has
one script: all modules, each after those that it imports, without imports and exports. Their
top-level names therefore have to differ, which :func:`script` checks.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "docs" / "playground"

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+)\.mjs";\n', flags=re.M)
_NAME = re.compile(r"^(?:async )?(?:function\*?|class|const|let) (\w+)", flags=re.M)


def modules(start: str = "page") -> list[str]:
    """Return the names of the modules that one needs, each after those that it imports."""
    order: list[str] = []

    def visit(name: str) -> None:
        for other in _IMPORT.findall((FOLDER / f"{name}.mjs").read_text("utf-8")):
            visit(other)
        if name not in order:
            order.append(name)

    visit(start)
    return order


def script() -> str:
    """Return one script with all modules.

    Raises:
        ValueError: if two modules define the same name.
    """
    parts = []
    for name in modules():
        text = _IMPORT.sub("", (FOLDER / f"{name}.mjs").read_text("utf-8"))
        parts.append(f"// {name}.mjs\n{re.sub(r'^export ', '', text, flags=re.M).strip()}\n")
    joined = "\n".join(parts)
    twice = [name for name, count in Counter(_NAME.findall(joined)).items() if count > 1]
    if twice:
        raise ValueError(f"modules of the playground share names: {', '.join(twice)}")
    return f'(() => {{\n"use strict";\n{joined}}})();\n'
