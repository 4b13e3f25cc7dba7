"""Uploads, fitted to a model."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from realnvp import image_flow, load
from realnvp.data.images import fit_image
from realnvp.outliers.calibration import statistics_by_block
from realnvp.studio.uploads import read_uploads


def test_an_image_is_fitted_and_what_was_done_is_said(tmp_path):
    Image.new("RGB", (30, 20), (255, 255, 255)).save(tmp_path / "a.png")
    x, note = fit_image(tmp_path / "a.png", (1, 8, 8), 17)
    assert x.shape == (1, 1, 8, 8)
    assert (x == 16).all(), "white is the highest level"
    assert note == ("a.png: converted to grey, fitted from 30x20 to 8x8, rounded to 17 grey levels")
    x, note = fit_image(tmp_path / "a.png", (1, 8, 8), 17, invert=True)
    assert (x == 0).all()
    assert "dark and light exchanged" in note


def test_an_image_of_the_right_kind_is_taken_as_it_is(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    x, note = fit_image(tmp_path / "a.png", (3, 4, 4), 256)
    assert (x[0].permute(1, 2, 0).numpy() == pixels).all()
    assert note == "a.png: taken as it is"


def test_more_than_256_levels_do_not_overflow_and_left_out_images_are_named(tmp_path):
    Image.new("L", (4, 4), 255).save(tmp_path / "a.png")
    flow = image_flow((1, 4, 4), levels=1024, hidden=4, blocks=0, scales=1)
    split, names, note = read_uploads([str(tmp_path / "a.png")] * 66, flow)
    assert (split.x == 1023).all()
    assert len(split) == len(names) == 64
    assert note.endswith("the other 2 images are left out, 64 is the most")


def test_tables_are_read_as_the_command_line_does(tmp_path):
    (tmp_path / "t.csv").write_text("x1,x2\n1,2\n3,4\n")
    split, names, note = read_uploads([str(tmp_path / "t.csv")], load("moons"))
    assert split.x.tolist() == [[1, 2], [3, 4]]
    assert (names, note) == (["row 0", "row 1"], "2 examples")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "t.csv",
            "a,b,c\n1,2,3\n4,6,5\n9,1,1\n",
            "holds vectors of 3 columns, but the model is of vectors of 2",
        ),
        ("t.txt", "hello", "cannot tell what t.txt is"),
        ("t.npz", "hello", "t.npz"),
        ("a.png", "hello", "upload a table"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_own_name(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError) as error:
        read_uploads([str(tmp_path / name)], load("moons"))
    assert message in str(error.value)
    assert str(tmp_path) not in str(error.value)


def test_an_image_that_cannot_be_used_is_refused_by_its_own_name(tmp_path):
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match=r"^deep\.png: more than 8 bits per channel"):
        read_uploads([str(tmp_path / "deep.png")], load("digits"))


def test_impossible_rows_are_marked_as_on_the_command_line(library, tmp_path):
    table = pd.read_csv(library.runs / "t.csv").head(4)
    table.loc[1, "color"] = "green"
    table.to_csv(tmp_path / "t.csv", index=False)
    flow = library.get("runs/mixed")
    split, _, note = read_uploads([str(tmp_path / "t.csv")], flow)
    what = "column 'color' of t.csv holds 'green' in row 1 (counting from 0)"
    assert note.startswith(f"4 examples; some have a likelihood of 0: {what}")
    ((_, found),) = statistics_by_block(flow, split, None)
    assert np.isneginf(found["bound"]).tolist() == [False, True, False, False]


def test_nothing_and_too_much_are_refused(tmp_path):
    with pytest.raises(ValueError, match="upload a file first"):
        read_uploads([], load("moons"))
    with pytest.raises(ValueError, match="one table or array"):
        read_uploads(["a.csv", "b.csv"], load("moons"))
    with pytest.raises(ValueError, match="a model of vectors"):
        read_uploads([str(tmp_path / "a.png")], load("moons"))
