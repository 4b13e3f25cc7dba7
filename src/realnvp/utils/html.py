"""Small pieces of HTML: tables of escaped text, for notebooks and reports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def table(
    header: Sequence[str], rows: Iterable[Sequence[object]], *, caption: str = "", head: bool = True
) -> str:
    """Return an HTML table; numbers below a header are right-aligned.

    Args:
        header: names of the columns.
        rows: the cells, which are escaped.
        caption: text above the table.
        head: show the names of the columns.

    >>> table(["a"], [["<b>"]])
    '<table><thead><tr><th>a</th></tr></thead><tbody><tr><td>&lt;b&gt;</td></tr></tbody></table>'
    """
    top = f"<caption>{escape(caption)}</caption>" if caption else ""
    names = "".join(f"<th>{escape(name)}</th>" for name in header)
    thead = f"<thead><tr>{names}</tr></thead>" if head else ""
    body = "".join(f"<tr>{''.join(_cell(value, head) for value in row)}</tr>" for row in rows)
    return f"<table>{top}{thead}<tbody>{body}</tbody></table>"


def _cell(value: object, align: bool) -> str:
    text = str(value)
    digits = text.replace(",", "").replace("±", "").replace("-", "").replace(".", "")
    number = bool(digits.strip()) and digits.replace(" ", "").replace("e", "").isdigit()
    style = ' style="text-align:right"' if number and align else ""
    return f"<td{style}>{escape(text)}</td>"


def picture(source: str, alt: str, *, pixels: bool = False) -> str:
    """Return an HTML image.

    Args:
        source: address, such as a ``data:`` URI.
        alt: alternative text for those who cannot see it.
        pixels: magnify without smoothing.
    """
    kind = ' class="pixels"' if pixels else ""
    return f'<img{kind} alt="{escape(alt, quote=True)}" src="{escape(source, quote=True)}">'


def details(summary: str, content: str) -> str:
    """Return a collapsible part of a page.

    >>> details("more", "<p>text</p>")
    '<details><summary>more</summary><p>text</p></details>'
    """
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"
