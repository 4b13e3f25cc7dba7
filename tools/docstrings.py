"""Docstrings as mkdocstrings reads them: the reStructuredText of the source becomes Markdown."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe

_ROLE = re.compile(r":(math|class|func|meth|mod|attr|data|exc):`(~?)([^`]+)`")
_MATH = re.compile(r"^( *)\.\. math::(.*)\n((?:(?:\1 +.*)?\n)*)", flags=re.M)
_DOCTEST = re.compile(r"^( *)>>> .*\n(?:\1\S.*\n)*", flags=re.M)


def _role(match: re.Match[str]) -> str:
    role, short, target = match.groups()
    if role == "math":
        return f"${target}$"
    shown = target.rpartition(".")[2] if short else target
    if not target.startswith("realnvp."):
        return f"`{shown}`"
    return f'<autoref identifier="{target}" optional><code>{shown}</code></autoref>'


def _math(match: re.Match[str]) -> str:
    indent = match[1]
    formula = "\n".join([match[2], *match[3].splitlines()])
    formula = " ".join(formula.split())
    return f"\n{indent}$${formula}$$\n\n"


def _doctest(match: re.Match[str]) -> str:
    indent, block = match[1], textwrap.dedent(match[0])
    fenced = f"```pycon\n{block}```\n"
    return textwrap.indent(fenced, indent)


def to_markdown(text: str) -> str:
    r"""Return a docstring with Markdown's formulas, code and references.

    >>> to_markdown(":class:`~realnvp.Flow` of :math:`x`, with ``(B,)``")
    '<autoref identifier="realnvp.Flow" optional><code>Flow</code></autoref> of $x$, with `(B,)`'
    """
    text = _ROLE.sub(_role, text)
    text = _MATH.sub(_math, text + "\n")
    text = _DOCTEST.sub(_doctest, text)
    return re.sub(r"(?<!`)``(?!`)", "`", text).rstrip()


class Markdown(griffe.Extension):
    """Convert the docstring of every object."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)
