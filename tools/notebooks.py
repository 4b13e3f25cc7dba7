"""Chapters of the course: Markdown whose Python blocks are the cells of a notebook.

``render`` runs a chapter's cells in a fresh Jupyter kernel and returns the chapter with what they
printed and drew. Results are cached by content, that of the cells and that of the package, so that
a second build takes seconds. As notebooks, chapters are opened by Jupyter with jupytext, or made by
``jupytext --to ipynb docs/course/*.md``.

A cell's tags say how it is shown: ``tags=["fold"]`` folds its code away, ``tags=["answer"]`` folds
it with its output, as the answer of an exercise.
"""

from __future__ import annotations

import functools
import hashlib
import json
import tempfile
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".cache" / "docs"
SECONDS = 600
"""Longest time of one cell."""


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


def _shown(output: Any, source: str) -> str:
    """Return what a cell printed or drew, as Markdown."""
    if output.output_type == "stream":
        return _fenced(output.text, "python" if "getsource(" in source else "text")
    data = output.data
    if "image/png" in data:
        return f'<img alt="" src="data:image/png;base64,{data["image/png"].strip()}">'
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
        shown = [_shown(output, cell.source) for output in cell.outputs]
        if "answer" in tags:
            parts.append(_folded("success", "Answer", "\n\n".join([code, *shown])))
        else:
            fold = "fold" in tags
            parts += [_folded("code", "The code of this picture", code) if fold else code, *shown]
    return "\n\n".join(parts)
