"""Figures that show themselves, and files of them."""

from __future__ import annotations

import base64
import io

from PIL import Image

from realnvp.plots import Picture, as_png, data_uri


def test_a_figure_shows_itself_in_a_notebook():
    figure = Picture(figsize=(2, 1))
    with Image.open(io.BytesIO(figure._repr_png_())) as image:
        assert image.size == (240, 120)


def test_a_data_uri_holds_the_picture():
    picture = Image.new("L", (3, 2), 7)
    kind, _, content = data_uri(picture).partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(content) == as_png(picture)
