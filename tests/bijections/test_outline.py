"""Tables of layers: every layer once, nested ones in order, and the total."""

from __future__ import annotations

import realnvp
from realnvp.bijections.outline import as_text, layer_rows


def test_every_parameter_is_counted_once():
    flow = realnvp.image_flow((1, 8, 8), hidden=4, blocks=1, scales=2)
    header, *rows, total = layer_rows(flow.bijection, flow.shape)
    counts = [int(count.replace(",", "")) for *_, count in rows]
    assert header == ("layer", "kind", "output", "parameters")
    assert sum(counts) == int(total[-1].replace(",", ""))
    assert sum(counts) == sum(p.numel() for p in flow.parameters())


def test_names_are_those_of_the_state():
    flow = realnvp.image_flow((1, 8, 8), hidden=4, blocks=1, scales=2)
    names = [name for name, *_ in layer_rows(flow.bijection, flow.shape)[1:-1]]
    assert len(set(names)) == len(names)
    assert any(".inner." in name for name in names)
    modules = dict(flow.named_modules())
    assert all(name in modules for name in names)


def test_columns_are_aligned():
    text = as_text([("a", "bb", "c", "d"), ("aaa", "b", "c", "1,000")])
    assert text.splitlines() == ["a    bb  c      d", "aaa  b   c  1,000"]
