"""Chapters of the course: Markdown whose Python blocks are the cells of a notebook.

``python tools/notebooks.py FOLDER`` writes them as notebooks, which Jupyter runs.

``render`` runs a chapter's cells in a fresh Jupyter kernel and returns the chapter with what they
printed and drew. Results are cached by content, that of the cells and that of the package, so that
a second build takes seconds. Each page of the site links its notebook.

A cell's tags say how it is shown: ``tags=["fold"]`` folds its code away, ``tags=["answer"]`` folds
it with its output, as the answer of an exercise. ``alt="..."`` describes its figure in words.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import sys
import tempfile
import textwrap
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".cache" / "docs"
SECONDS = 600
"""Longest time of one cell."""
REPOSITORY = "https://github.com/realnvp/realnvp"
_ANSWER = re.compile(r'^\?\?\? \w+ "(.*)"\n((?:\n|    .*(?:\n|\Z))+)', flags=re.M)


@functools.cache
def _package() -> str:
    """Return a digest of the package: its code, recipes and weights."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "src" / "realnvp").rglob("*")):
        if path.suffix in (".py", ".yaml", ".safetensors"):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def read(path: Path) -> Any:
    """Return a chapter as a notebook."""
    import jupytext

    return jupytext.read(path, fmt="md")


def _link(match: re.Match[str]) -> str:
    """Return a link of a chapter as one of its notebook, which is alone in its folder."""
    name, anchor = match[1], match[2] or ""
    if re.match(r"\d\d-", name):
        return f"]({name.replace('.md', '.ipynb')}{anchor})"
    kind = "raw" if name.endswith(".png") else "blob"
    target = os.path.normpath(f"docs/course/{name}").replace(os.sep, "/")
    return f"]({REPOSITORY}/{kind}/main/{target}{anchor})"


def notebook(path: Path) -> str:
    """Return a chapter as the text of a notebook that is not yet run, its answers folded."""
    import nbformat

    chapter = read(path)
    chapter.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    for number, cell in enumerate(chapter.cells):
        cell["id"] = f"cell-{number}"  # not a random one, so that equal chapters are equal files
        if cell.cell_type == "code":
            folded = bool({"fold", "answer"} & set(cell.metadata.get("tags", ())))
            cell.metadata = {"jupyter": {"source_hidden": True}} if folded else {}
            continue
        text = _ANSWER.sub(
            lambda match: (
                f"<details><summary>{match[1]}</summary>\n\n"
                f"{textwrap.dedent(match[2]).strip()}\n\n</details>\n\n"
            ),
            cell.source,
        )
        cell.source = re.sub(r"\]\((?!https:)([^)#\s]+)(#[^)\s]*)?\)", _link, text).strip()
    return nbformat.writes(chapter)


def execute(path: Path) -> Any:
    """Return a chapter as an executed notebook, from the cache if nothing has changed.

    Raises:
        RuntimeError: if a cell fails, or writes to the standard error, as warnings do.
    """
    import nbformat
    from nbclient import NotebookClient
    from traitlets.config import Config

    notebook = read(path)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    sources = [cell.source for cell in cells]
    key = hashlib.sha256(json.dumps([_package(), sources]).encode()).hexdigest()[:16]
    cached = CACHE / f"{path.stem}-{key}.ipynb"
    if cached.is_file():
        known = nbformat.read(cached, as_version=4)
        outputs = [cell.outputs for cell in known.cells if cell.cell_type == "code"]
        for cell, found in zip(cells, outputs, strict=True):  # the text may be another by now
            cell.outputs = found
        return notebook
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    resources = {"metadata": {"path": str(path.parent)}}
    with tempfile.TemporaryDirectory() as folder:  # sockets in a folder, not ports of the machine
        sockets = Config({"KernelManager": {"transport": "ipc", "ip": f"{folder}/kernel"}})
        options = {"timeout": SECONDS, "resources": resources, "config": sockets}
        options["coalesce_streams"] = True
        NotebookClient(notebook, kernel_name="python3", **options).execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output.get("name") == "stderr":
                raise RuntimeError(f"{path.name}: a cell wrote to stderr: {output['text']}")
    CACHE.mkdir(parents=True, exist_ok=True)
    for old in CACHE.glob(f"{path.stem}-*.ipynb"):
        old.unlink()
    nbformat.write(notebook, cached)
    return notebook


def _fenced(text: str, language: str) -> str:
    body = textwrap.dedent(text).strip("\n")
    return f"```{language}\n{body}\n```"


def _shown(output: Any, cell: Any) -> str:
    """Return what a cell printed or drew, as Markdown."""
    if output.output_type == "stream":
        return _fenced(output.text, "python" if "getsource(" in cell.source else "text")
    data = output.data
    if "image/png" in data:
        alt = escape(cell.metadata["alt"])
        return f'<img alt="{alt}" src="data:image/png;base64,{data["image/png"].strip()}">'
    if "text/html" in data:
        return f'<div class="output">{data["text/html"]}</div>'
    return _fenced(data["text/plain"], "text")


def _folded(kind: str, title: str, body: str) -> str:
    return f'??? {kind} "{title}"\n\n{textwrap.indent(body, "    ")}'


def render(path: Path) -> str:
    """Return a chapter as Markdown, with the output of its cells."""
    parts = []
    for cell in execute(path).cells:
        if cell.cell_type != "code":
            parts.append(cell.source)
            continue
        tags = cell.metadata.get("tags", [])
        code = _fenced(cell.source, "python")
        shown = [_shown(output, cell) for output in cell.outputs]
        if "answer" in tags:
            parts.append(_folded("success", "Answer", "\n\n".join([code, *shown])))
        else:
            fold = "fold" in tags
            parts += [_folded("code", "The code of this figure", code) if fold else code, *shown]
    own = f"*This chapter is a [notebook]({path.stem}.ipynb) that you can run.*"
    return "\n\n".join(parts).replace("\n", f"\n\n{own}\n", 1)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted((ROOT / "docs" / "course").glob("[0-9]*.md")):
        (folder / f"{path.stem}.ipynb").write_text(notebook(path), encoding="utf-8")
