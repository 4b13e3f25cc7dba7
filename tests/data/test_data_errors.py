"""Which data are refused, with which sentence."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from PIL import Image

from helpers.data_files import (
    GREY,
    LABELS,
    RGB,
    TABLE,
    csv_file,
    idx_bytes,
    load,
    npy,
    npz,
    png16,
    save,
    write,
)
from realnvp.config import DataConfig
from realnvp.data import load_data, load_examples

HEADER = "a,b\n"
BAD = {
    "unknown name": (lambda p: "mnst", "did you mean 'mnist'"),
    "missing file": (lambda p: p / "no.csv", "no file or folder"),
    "unknown kind": (lambda p: write(p / "a.bin", b"abcdefgh"), "cannot tell"),
    "single image": (lambda p: save(GREY[0], p / "a.png"), "folder that holds"),
    "empty folder": (lambda p: p, "found nothing"),
    "folder without images": (lambda p: write(p / "x.txt", "a").parent, "x.txt"),
    "parts mixed": (
        lambda p: save(GREY[0], save(GREY[0], p / "test/a.png").parents[1] / "train/a.png").parents[
            1
        ],
        "folder for each part",
    ),
    "mixed sizes": (
        lambda p: save(GREY[0], save(GREY[0].T, p / "b.png").parent / "a.png").parent,
        "data-size",
    ),
    "zero bytes": (lambda p: write(p / "z.png", b"").parent, "z.png: it is empty"),
    "not an image": (lambda p: write(p / "t.jpg", b"hello").parent, "t.jpg"),
    "cut off": (
        lambda p: write(p / "c.png", save(RGB[0], p / "c.png").read_bytes()[:120]).parent,
        "c.png",
    ),
    "16 bits": (lambda p: save(GREY[0].astype(np.uint16), p / "a.png").parent, "8 bits"),
    "16 bits of colour": (lambda p: png16(p / "a.png").parent, "8 bits"),
    "transparent": (
        lambda p: save(np.zeros((4, 4, 4), np.uint8), p / "a.png").parent,
        "transparent",
    ),
    "animated": (
        lambda p: (
            save(
                GREY[0], p / "a.gif", save_all=True, append_images=[Image.fromarray(GREY[1])]
            ).parent
        ),
        "animated",
    ),
    "float images": (lambda p: npy(p, GREY / 255), "x \\* 255"),
    "beyond 8 bits": (lambda p: npy(p, GREY.astype(int) * 2), "from 0 to"),
    "truth values": (lambda p: npy(p, GREY > 100), "bool"),
    "four channels": (lambda p: npy(p, np.zeros((5, 8, 8, 4), np.uint8)), "RGBA"),
    "one image": (lambda p: npy(p, RGB[0]), "first axis"),
    "flat images": (lambda p: npy(p, GREY.reshape(12, -1)), "uint8 array"),
    "one axis": (lambda p: npy(p, np.zeros(9)), "two columns"),
    "one column": (lambda p: npy(p, TABLE[:, :1]), "at least two"),
    "no images": (lambda p: npy(p, GREY[:0]), "empty"),
    "no rows": (lambda p: npy(p, TABLE[:0]), "no rows"),
    "NaN": (lambda p: npy(p, np.where(TABLE[4, 1] == TABLE, np.nan, TABLE)), "column 1 .* row 5"),
    "too large": (lambda p: npy(p, TABLE * 1e40), "float32"),
    "too fine": (lambda p: npy(p, TABLE + 1e9), "subtract its mean"),
    "constant": (lambda p: npy(p, TABLE * [1, 0, 1]), "column 1 .* the same"),
    "too few": (lambda p: npy(p, TABLE[:2]), "at least 2"),
    "text array": (lambda p: npy(p, np.array([["a", "b"]])), "<U1"),
    "damaged npz": (lambda p: write(p / "a.npz", b"PK\3\4 and then nothing"), "cannot read"),
    "not an array": (lambda p: write(p / "a.npy", b"hello"), "no array file"),
    "keys": (lambda p: npz(p, foo=GREY, bar=GREY), "bar, foo"),
    "several keys": (lambda p: npz(p, x=GREY, data=GREY), "x, data: keep one"),
    "labels differ": (lambda p: npz(p, x=GREY, y=LABELS[1:]), "12 examples"),
    "test differs": (lambda p: npz(p, x=GREY, x_test=RGB), "differ"),
    "idx cut off": (lambda p: write(p / "a.idx", idx_bytes(GREY)[:-1]), "announces"),
    "idx gz cut off": (lambda p: write(p / "a.gz", gzip.compress(b"\0\0" * 99)[:-9]), "cut off"),
    "not idx": (lambda p: write(p / "a-idx3-ubyte", b"hello"), "not an IDX"),
    "empty csv": (lambda p: csv_file(p, ""), "empty"),
    "header only": (lambda p: csv_file(p, HEADER), "no rows"),
    "csv of one column": (lambda p: csv_file(p, "a\n1\n2\n"), "'a'.*at least two"),
    "text in csv": (lambda p: csv_file(p, HEADER + "1,2\n3,oops\n"), "'b'.*row 2.*'oops'"),
    "gap in csv": (lambda p: csv_file(p, HEADER + "1,2\n3,\n"), "'b'.*missing.*row 2"),
    "infinity in csv": (lambda p: csv_file(p, HEADER + "1,2\ninf,3\n"), "'a'.*inf.*row 2"),
    "same names": (lambda p: csv_file(p, "a,a\n1,2\n3,4\n"), "two columns called 'a'"),
    "long row": (lambda p: csv_file(p, HEADER + "1,2\n3,4,5\n"), "cannot read"),
    "all rows long": (lambda p: csv_file(p, HEADER + "1,2,3\n3,4,5\n"), "cannot read"),
    "row numbers": (lambda p: csv_file(p, ",a,b\n0,1,2\n1,4,5\n"), "index=False"),
    "binary csv": (lambda p: write(p / "a.csv", b"a,b\n1,\xff\0"), "a.csv"),
    "damaged parquet": (lambda p: write(p / "a.parquet", b"PAR1 no"), "cannot read"),
}


@pytest.mark.parametrize("case", BAD)
def test_refused(tmp_path, case):
    make, message = BAD[case]
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        load(make(tmp_path))
    assert "\n" not in str(caught.value)


def test_objects_are_not_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}, 2], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="Python objects"):
        load(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "moons", "condition": "label"}, "no labels"),
        ({"source": "moons", "flip": True}, "flip"),
        ({"source": "moons", "shift": 1}, "shift"),
        ({"source": "digits", "shift": 8}, "8x8"),
        ({"source": "digits", "shift": -1}, "shift"),
        ({"source": "moons", "size": 8}, "size"),
        ({"source": "digits", "size": 8}, "size"),
        ({"source": "digits", "condition": "age"}, "'age'"),
        ({"source": "digits", "seed": -1}, "seed"),
        ({"source": "moons", "points": 1}, "at least 2"),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    with pytest.raises(ValueError, match=message):
        load_data(DataConfig(**settings))


@pytest.mark.parametrize("labels", [LABELS - 1, LABELS + 0.5, LABELS.reshape(12, 1) * [1, 2]])
def test_labels_that_are_no_classes(tmp_path, labels):
    with pytest.raises(ValueError, match="labels"):
        load(npz(tmp_path, x=GREY, y=labels), condition="label")


def test_unknown_column(tmp_path):
    with pytest.raises(ValueError, match="no column 'c'; its columns are a, b"):
        load(csv_file(tmp_path, "a,b\n1,2\n3,4\n"), condition="c")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"shape": (3, 8, 6)}, "1x8x6 images, but the model is of 3x8x6"),
        ({"shape": (2,)}, "vectors of 2 columns"),
        ({"levels": 17}, "17 levels"),
        ({"condition": "label"}, "no labels"),
    ],
)
def test_examples_must_fit_the_model(tmp_path, model, message):
    with pytest.raises(ValueError, match=message):
        load_examples(str(npy(tmp_path, GREY)), **model)


@pytest.mark.parametrize(
    ("condition", "settings", "message"),
    [
        ("label", {"classes": 3}, "labels up to 3, but the model knows 3"),
        ("b", {"classes": 3}, "column of numbers"),
        ("town", {"classes": 2, "categories": ("Rome", "Oslo")}, "'Bonn'.*none of"),
    ],
)
def test_classes_must_be_known(tmp_path, condition, settings, message):
    path = csv_file(tmp_path, "a,b,label,town\n1,2,0,Rome\n3,4,3,Bonn\n")
    with pytest.raises(ValueError, match=message):
        load_examples(str(path), condition=condition, columns=("a", "b"), **settings)


def test_levels_of_a_named_set_must_be_the_models():
    with pytest.raises(ValueError, match="not comparable"):
        load_examples("digits", levels=256)
