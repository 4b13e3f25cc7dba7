"""Hooks of mkdocs.yml: what the site's pages are made of beside their text.

- chapters of the course are run, and linked as notebooks (:mod:`notebooks`);
- formulas become MathML (:mod:`mathml`);
- the pages of the command line and of the recipes are generated from the package;
- the playground's modules become one script (:mod:`playground`);
- measurements of benchmarks/results become pages, so that they can be linked;
- a page that would fetch anything from another host when it is read ends the build.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(Path(__file__).parent))

import mathml  # noqa: E402
import notebooks  # noqa: E402
import playground  # noqa: E402
import recipes_page  # noqa: E402

_FETCHED = re.compile(
    r'<(?:script|img|link|iframe|source)\b[^>]*?\b(?:src|href)="(?:https?:)?//[^"]*"'
)


def _help(*arguments: str) -> str:
    environment = {**os.environ, "COLUMNS": "100"}
    command = [sys.executable, "-m", "realnvp", *arguments, "--help"]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment, timeout=120
    ).stdout


def command_line() -> str:
    """Return the page of the command line, generated from its parsers."""
    from realnvp.cli.main import COMMANDS

    parts = [
        "# The command line\n\n*Generated from the parsers: what `--help` prints.*\n",
        f"```text\n{_help()}```\n",
    ]
    for command, summary in COMMANDS.items():
        arguments = (command, "mnist") if command == "train" else (command,)
        note = (
            "The options and defaults of `realnvp train mnist`:\n\n" if command == "train" else ""
        )
        text = f"## realnvp {command}\n\n{summary[0].upper()}{summary[1:]}.\n\n{note}"
        parts.append(f"{text}```text\n{_help(*arguments)}```\n")
    return "\n".join(parts)


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages, and the measurements."""
    for path in sorted((ROOT / "benchmarks" / "results").iterdir()):
        if path.suffix in (".md", ".png"):
            uri = f"benchmarks/{path.name}"
            files.append(File.generated(config, uri, abs_src_path=str(path)))
    for name, content in (("cli", command_line()), ("recipes", recipes_page.page())):
        files.append(File.generated(config, f"reference/{name}.md", content=content))
    for path in sorted((ROOT / "docs" / "course").glob("[0-9]*.md")):
        content = notebooks.notebook(path)
        files.append(File.generated(config, f"course/{path.stem}.ipynb", content=content))
    script = File.generated(config, "playground/playground.js", content=playground.script())
    files.append(script)
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Run the cells of a chapter, and turn links of a clone into links of the site."""
    uri = page.file.src_uri
    if uri.startswith("course/") and page.file.name != "index":
        markdown = notebooks.render(Path(page.file.abs_src_path))
    if uri.startswith("benchmarks/"):
        return markdown.replace("](../../docs/", "](../")
    return re.sub(r"\]\((\.\./)?\.\./benchmarks/results/", r"](\1benchmarks/", markdown)


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Draw the formulas."""
    return mathml.render(html)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Refuse what would be fetched from another host while the page is read."""
    own = re.compile(r'rel="canonical"')
    for found in _FETCHED.findall(output):
        if not own.search(found):
            raise PluginError(f"{page.file.src_uri} fetches from another host: {found}")
    return output
