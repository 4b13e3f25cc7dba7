"""The layers of a bijection as a table: names, kinds, shapes and numbers of parameters."""

from __future__ import annotations

from collections.abc import Sequence

from realnvp.bijections.base import Bijection
from realnvp.bijections.reshape import FactorOut

__all__ = ["as_text", "layer_rows"]

Row = tuple[str, str, str, str]


def layer_rows(bijection: Bijection, shape: tuple[int, ...], name: str = "bijection") -> list[Row]:
    """Return the rows of a table of layers: a header, the layers, and the total.

    Args:
        bijection: bijection whose layers are listed, in the order in which data pass through them.
        shape: shape of one example.
        name: name of the bijection; its layers are named as in ``state_dict``.

    >>> from realnvp.bijections import ActNorm, Chain
    >>> layer_rows(Chain(ActNorm(2)), (2,))[1:]
    [('bijection.layers.0', 'ActNorm', '(2,)', '4'), ('total', '', '', '4')]
    """
    rows: list[Row] = [("layer", "kind", "output", "parameters")]
    for path, layer, output in bijection.outline(shape, name):
        # The inner layers of a factoring out have rows of their own.
        nested = isinstance(layer, FactorOut)
        count = sum(p.numel() for p in layer.parameters(recurse=not nested))
        details = layer.extra_repr()
        kind = type(layer).__name__ + (f"({details})" if details else "")
        rows.append((path, kind, str(output), f"{count:,}"))
    total = sum(p.numel() for p in bijection.parameters())
    return [*rows, ("total", "", "", f"{total:,}")]


def as_text(rows: Sequence[Row]) -> str:
    """Return the rows as lines of text with aligned columns.

    >>> print(as_text([("layer", "kind", "output", "parameters"), ("a", "b", "(2,)", "4")]))
    layer  kind  output  parameters
    a      b     (2,)             4
    """
    a, b, c, d = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = (f"{n:<{a}}  {k:<{b}}  {s:<{c}}  {p:>{d}}" for n, k, s, p in rows)
    return "\n".join(lines)
