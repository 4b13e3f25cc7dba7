"""Pieces of HTML."""

from __future__ import annotations

from realnvp.utils.html import details, picture, table


def test_everything_is_escaped():
    bad = '<script>"&'
    for html in (
        table([bad], [[bad]], caption=bad),
        picture(bad, bad),
        details(bad, ""),
    ):
        assert "<script>" not in html
        assert '"&' not in html or "&amp;" in html


def test_numbers_are_at_the_right():
    html = table(["a"], [["1,234"], ["1.02 ± 0.01"], ["2.13.0+cpu"], ["-3e5"], ["-"]])
    assert [">" + part[:3] for part in html.split("text-align:right")[1:]] == [
        '>">1',
        '>">1',
        '>">-',
    ]
