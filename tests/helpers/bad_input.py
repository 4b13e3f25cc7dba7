"""The table of inputs that are refused: the command, what the line says, and how to make each."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from helpers.bad_files import (
    array,
    changed_table,
    damaged_model,
    flip,
    folder_loop,
    foreign_checkpoint,
    full_disk,
    in_use,
    integer_table,
    loop,
    model,
    no_array,
    picture,
    pictures,
    run,
    text,
    torn_run,
)
from helpers.data_files import idx_bytes, png16
from realnvp.cli.main import main
from realnvp.config import DataConfig
from realnvp.model_info import ModelInfo


@dataclass(frozen=True)
class Bad:
    """One bad input.

    Args:
        command: the arguments, split at blanks.
        says: text that must be in the line.
        make: function that makes the files, in the current folder.
        during: context in which the command runs.
    """

    command: str
    says: str
    make: Callable[[], Any] | None = None
    during: Callable[[], AbstractContextManager[Any]] = nullcontext


TABLE = "train moons --steps 2 --data "
IMAGES = "train images --steps 2 --data "
EVAL = "eval m --data "
GOOD_CSV = "a,b\n1,2\n3,5\n5,6\n7,9\n8,3\n"

BAD: dict[str, Bad] = {
    # what is asked for
    "unknown command": Bad("frobnicate", "unknown command"),
    "misspelled command": Bad("tran digits", "did you mean 'train'"),
    "no recipe": Bad("train", "the recipe is missing"),
    "options without a recipe": Bad("train --steps 5 --model.hidden 8", "the recipe is missing"),
    "misspelled run to resume": Bad("train r/none --resume", "no run to resume in r/none:"),
    "unknown recipe to resume": Bad("train mnits --resume", "did you mean 'mnist'"),
    "recipe of no file": Bad("train none.yaml", "there is no file"),
    "misspelled model": Bad("sample mnst", "did you mean 'mnist'?"),
    "unknown recipe": Bad("train mnits", "did you mean 'mnist'"),
    "unknown key": Bad("train digits --model.hiden 3", "did you mean --model.hidden?"),
    "key without its section": Bad("train digits --lr 3", "did you mean --training.lr?"),
    "unknown flag": Bad("eval m --verbose", "--verbose", model()),
    "flag cut short": Bad("train digits --resum", "--resum", run),
    "value missing": Bad("train digits --steps", "steps"),
    "wrong type": Bad("train digits --model.hidden many", "model.hidden"),
    "fraction for a count": Bad("train digits --model.hidden 2.5", "model.hidden"),
    "wrong choice": Bad("train digits --model.norm layer", '"batch" or "act" or "none"'),
    "unknown memory": Bad("train digits --memory none", "memory"),
    "smoothing of images": Bad("train digits --steps 1 --training.smoothing 0.5", "smoothing"),
    "negative smoothing": Bad("train moons --training.smoothing -1", "smoothing"),
    "more Gaussians than rows": Bad(
        TABLE + "t.csv --model.mixture_init 50", "as many rows", text("t.csv", GOOD_CSV)
    ),
    "no budget": Bad("train r.yaml", "no budget", text("r.yaml", "kind: vector\n")),
    # numbers
    "zero": Bad("train digits --model.hidden 0", "hidden"),
    "zero steps": Bad("train digits --steps 0", "steps"),
    "negative minutes": Bad("train digits --minutes -1", " --minutes must be a positive number"),
    "nan": Bad("train digits --training.lr nan", " --training.lr must be"),
    "negative rate": Bad(
        "train moons --training.lr -1", " --training.lr must be a positive number"
    ),
    "infinity": Bad("train digits --minutes inf", " --minutes must be"),
    "settings that exclude each other": Bad(
        "train digits --model.label_weight 1", " --model.label_weight needs labels"
    ),
    "huge model": Bad(IMAGES + "digits --model.hidden 10000000", "model.hidden"),
    "larger than bytes": Bad(IMAGES + "digits --model.hidden 4000000000000", "model.hidden"),
    "huge scales": Bad("train digits --model.scales 1000000000", "scales"),
    "digits without end": Bad("train digits --model.hidden " + "9" * 5000, "hidden"),
    "negative seed": Bad("train moons --steps 1 --seed -1", "seed"),
    "seed of letters": Bad(
        "train r.yaml --steps 1", "seed must be int", text("r.yaml", "kind: vector\nseed: lots\n")
    ),
    "negative seed of the data": Bad("train moons --steps 1 --data.seed -1", "seed"),
    "no devices": Bad("train moons --steps 1 --devices 0", "devices"),
    "absent accelerator": Bad("train moons --steps 1 --training.accelerator mps", "mps"),
    "no such device": Bad("train moons --steps 1 --device mps", "a device of kind 'mps'"),
    "unknown accelerator": Bad("train moons --steps 1 --training.accelerator abacus", "abacus"),
    "too many points": Bad("train moons --steps 1 --data.points 99999999999999", "memory"),
    "all held out": Bad(TABLE + "t.csv --data.validation 5", "validation", text("t.csv", GOOD_CSV)),
    # recipes
    "broken yaml": Bad("train r.yaml", "not valid YAML", text("r.yaml", "kind: [image")),
    "yaml without kind": Bad("train r.yaml", "kind: image", text("r.yaml", "model: {}")),
    "a list for a recipe": Bad("train r.yaml", "mapping", text("r.yaml", "- 1\n- 2\n")),
    "unknown key in yaml": Bad(
        "train r.yaml", "did you mean 'model.hidden'",
        text("r.yaml", "kind: image\nmodel: {hiden: 3}"),
    ),
    "section without keys": Bad("train r.yaml", "section", text("r.yaml", "kind: image\nmodel: 3")),
    "wrong value in yaml": Bad(
        "train r.yaml --steps 1", "hidden", text("r.yaml", "kind: image\nmodel: {hidden: lots}")
    ),
    "binary yaml": Bad("train r.yaml", "UTF-8", text("r.yaml", b"kind: \xff\xfe\x00")),
    "yaml that builds objects": Bad(
        "train r.yaml", "not valid YAML",
        text("r.yaml", "kind: !!python/object/apply:os.system ['touch owned']"),
    ),
    "folder for a recipe": Bad("train r.yaml", "r.yaml", lambda: Path("r.yaml").mkdir()),
    # tables
    "missing file": Bad(TABLE + "nowhere.csv", "nowhere.csv"),
    "missing set": Bad(TABLE + "mooons", "did you mean 'moons'"),
    "zero bytes": Bad(TABLE + "t.csv", "empty", text("t.csv", "")),
    "header only": Bad(TABLE + "t.csv", "no rows", text("t.csv", "a,b\n")),
    "two rows": Bad(TABLE + "t.csv", "2 examples are too few", text("t.csv", "a,b\n1,2\n3,5\n")),
    "only gaps": Bad(TABLE + "t.csv", "no column", text("t.csv", "a,b\n1,\n1,\n1,\n1,")),
    "mixed types": Bad(
        TABLE + "t.csv", "'b' of t.csv mixes numbers and text: row 2",
        text("t.csv", "a,b\n1,2\n3,2.5\n5,x\n7,2\n9,1"),
    ),
    "dates in two formats": Bad(
        TABLE + "t.csv", "dates in more than one format: row 2",
        text("t.csv", "a,b\n1,2020-01-31\n3,2020-02-01\n5,13.02.2020\n7,2020-03-01"),
    ),
    "identifiers": Bad(
        TABLE + "t.csv", "no column that varies",
        text("t.csv", "a,b\n" + "".join(f"m{i},n{i}\n" for i in range(10_000))),
    ),
    "another encoding": Bad(
        TABLE + "t.csv", "is not text", text("t.csv", b"a,b\n1,\0\n" * 5)
    ),
    "unknown kind": Bad(
        TABLE + "t.csv --data.columns.b decimals", "did you mean 'decimal'", text("t.csv", GOOD_CSV)
    ),
    "unknown column to declare": Bad(
        TABLE + "t.csv --data.columns.z drop", "no column 'z'", text("t.csv", GOOD_CSV)
    ),
    "infinity in a table": Bad(TABLE + "t.csv", "inf", text("t.csv", "a,b\n1,2\n3,inf\n5,6\n7,9")),
    "ragged table": Bad(TABLE + "t.csv", "t.csv", text("t.csv", "a,b\n1,2\n3,4,5\n6,7\n")),
    "two columns of one name": Bad(TABLE + "t.csv", "'a'", text("t.csv", "a,a\n1,2\n3,4\n5,7\n")),
    "binary table": Bad(TABLE + "t.csv", "t.csv", text("t.csv", bytes(range(256)) * 4)),
    "gzip cut off": Bad(
        TABLE + "t.csv.gz", "t.csv.gz",
        text("t.csv.gz", gzip.compress(GOOD_CSV.encode() * 99)[:-9]),
    ),
    "damaged parquet": Bad(TABLE + "t.parquet", "t.parquet", text("t.parquet", b"PAR1 no PAR1")),
    "link to itself": Bad(TABLE + "loop.csv", "loop.csv", loop),
    "folder for a table": Bad(TABLE + "t.csv", "t.csv", lambda: Path("t.csv").mkdir()),
    "pipe for a table": Bad(TABLE + "t.csv", "t.csv", lambda: os.mkfifo("t.csv")),
    "below a file": Bad(TABLE + "t.csv/x.csv", "x.csv", text("t.csv", GOOD_CSV)),
    "unknown condition": Bad(
        TABLE + "t.csv --condition c", "no column 'c'", text("t.csv", GOOD_CSV)
    ),
    "images' settings for a table": Bad(TABLE + "moons --data.flip true", "flip"),
    "moved out of sight": Bad(IMAGES + "digits --data.shift 8", "8x8"),
    # arrays
    "floats for images": Bad(
        IMAGES + "o.npy", "uint8", array("o.npy", np.zeros((9, 8, 8), np.float32))
    ),
    "beyond 8 bits": Bad(IMAGES + "o.npy", "255", array("o.npy", np.full((9, 8, 8), 300))),
    "odd sizes": Bad(
        "train digits --data o.npy", "1 scale", array("o.npy", np.full((9, 7, 7), 255, np.uint8))
    ),
    "odd sizes in patches": Bad(
        IMAGES + "o.npy", "lower --model.patch", array("o.npy", np.full((9, 7, 7), 255, np.uint8))
    ),
    "nothing for data": Bad("eval m --data=", "--data is empty", model()),
    "nothing for a run": Bad("train moons --steps 1 --out=", "--out is empty"),
    "label that is not a number": Bad("sample m --label nan", "must be numbers", model("numbers")),
    "label without end": Bad("sample m --label inf", "must be numbers", model("numbers")),
    "negative seed of samples": Bad("sample m --seed -1", "--seed", model()),
    "seed beyond 64 bits": Bad("sample m --seed 99999999999999999999", "--seed", model()),
    "temperature beyond numbers": Bad(
        "sample m --temperature 1e300 --out s.csv", "not finite", model()
    ),
    "infinite temperature": Bad("sample m --temperature inf", "temperature", model()),
    "a stranger's data": Bad(
        "eval m", "give --data mnist", model(trained_on=ModelInfo(DataConfig("mnist")))
    ),
    "a single image": Bad(IMAGES + "o.npy", "axis", array("o.npy", np.zeros((8, 8, 3), np.uint8))),
    "no images": Bad(IMAGES + "o.npy", "empty", array("o.npy", np.zeros((0, 8, 8), np.uint8))),
    "nan in an array": Bad(TABLE + "o.npy", "NaN", array("o.npy", np.full((9, 2), np.nan))),
    "array cut off": Bad(
        TABLE + "o.npy", "o.npy",
        lambda: (np.save("o.npy", np.ones((99, 2))), os.truncate("o.npy", 300)),
    ),
    "array of objects": Bad(
        TABLE + "o.npy", "objects",
        lambda: np.save("o.npy", np.array([{}, 2], dtype=object), allow_pickle=True),
    ),
    "archive cut off": Bad(TABLE + "o.npz", "o.npz", text("o.npz", b"PK\3\4 and nothing")),
    "idx cut off": Bad(
        IMAGES + "a-idx3-ubyte", "announces",
        text("a-idx3-ubyte", idx_bytes(np.zeros((9, 8, 8), np.uint8))[:-1]),
    ),
    "idx of terabytes": Bad(
        IMAGES + "a-idx3-ubyte", "announces", text("a-idx3-ubyte", b"\0\0\x08\x03" + b"\x7f" * 12)
    ),
    "member that is no array": Bad(IMAGES + "o.npz", "'x' is not an array", no_array),
    "idx that inflates": Bad(
        IMAGES + "a.idx.gz", "more",
        text("a.idx.gz", gzip.compress(idx_bytes(np.zeros((9, 8, 8), np.uint8)) + bytes(2**20))),
    ),
    "wrong kind": Bad("train digits --steps 2 --data moons", "models images"),
    # images
    "empty folder": Bad(IMAGES + "empty", "empty", lambda: Path("empty").mkdir()),
    "resized to nothing": Bad(
        "eval m --data f --data-size 0", "--data-size", lambda: (model("images")(), pictures()())
    ),
    "mixed sizes": Bad(
        IMAGES + "f", "--data-size", pictures(lambda: picture("f/x.png", (8, 6)))
    ),
    "image cut off": Bad(IMAGES + "f", "x.png", pictures(text("f/x.png", b"\x89PNG"))),
    "image of zero bytes": Bad(IMAGES + "f", "x.jpg: it is empty", pictures(text("f/x.jpg", ""))),
    "image of text": Bad(IMAGES + "f", "x.png", pictures(text("f/x.png", "no image"))),
    "animated": Bad(
        IMAGES + "f", "animated",
        pictures(lambda: picture(
            "f/x.gif", save_all=True, append_images=[Image.new("L", (8, 8), 9)]
        )),
    ),
    "16 bits": Bad(IMAGES + "f", "8 bits", pictures(lambda: png16(Path("f/x.png")))),
    "transparent": Bad(
        IMAGES + "f", "transparent", pictures(lambda: picture("f/x.png", mode="RGBA"))
    ),
    "several unusable": Bad(
        IMAGES + "f", "2 of 6 images",
        pictures(text("f/x.png", "no image"), lambda: picture("f/y.png", mode="RGBA")),
    ),
    "unknown background": Bad(IMAGES + "f --data-background greyish", "a color", pictures()),
    "two channels": Bad(IMAGES + "f --data-channels 2", "1 (grey) or 3", pictures()),
    "color for a grey model": Bad(
        EVAL + "f --data-size 8", "--data-channels 1",
        lambda: (model("images")(), picture("f/x.png", mode="RGB")),
    ),
    "strange colors": Bad(
        IMAGES + "f", "color mode",
        pictures(lambda: picture("f/x.png", mode="LAB", format="TIFF")),
    ),
    "CMYK of another size": Bad(
        IMAGES + "f", "differ in size", pictures(lambda: picture("f/x.jpg", (6, 6), "CMYK"))
    ),
    "image that is a bomb": Bad(
        IMAGES + "f", "x.png", pictures(lambda: picture("f/x.png", (20_000, 20_000), "1"))
    ),
    "links in circles": Bad(IMAGES + "g", "the links form a cycle", folder_loop),
    "single image file": Bad(IMAGES + "x.png", "folder", lambda: picture("x.png")),
    # runs
    "existing run": Bad("train moons", "add --resume", run),
    "folder with other files": Bad(
        "train digits", "is not a run", lambda: picture("runs/digits/x.png")
    ),
    "other files to overwrite": Bad(
        "train digits --overwrite", "is not a run", lambda: picture("runs/digits/x.png")
    ),
    "resumed and overwritten": Bad(
        "train moons --steps 4 --resume --overwrite", "one of the two", run
    ),
    "file for a run": Bad("train digits --out r", "r exists", text("r", "mine")),
    "run below a file": Bad("train moons --steps 1 --out r/run", "file", text("r", "mine")),
    "nothing to resume": Bad("train digits --resume", "no run to resume"),
    "resume another model": Bad(
        "train moons --resume --steps 4 --model.hidden 8", "keeps its data, model and seed", run
    ),
    "resume with another recipe": Bad(
        "train digits --out runs/moons --resume --steps 4", "of a model of vectors", run
    ),
    "resume with no recipe": Bad(
        "train digts --out runs/moons --resume --steps 4", "did you mean 'digits'", run
    ),
    "resume with data that changed": Bad(
        "train table --resume --steps 4", "t.csv has changed", changed_table
    ),
    "resume with another split": Bad(
        "train moons --resume --steps 4 --data.validation 20", "data.validation", run
    ),
    "resume torn checkpoints": Bad("train moons --resume --steps 4", "no checkpoint", torn_run),
    "resume a pickle": Bad("train moons --resume --steps 4", "no checkpoint", foreign_checkpoint),
    "run in use": Bad("train moons --resume --steps 4", "being trained by", run, in_use),
    "full disk": Bad("train moons --steps 2", "make room", None, full_disk),
    # models
    "no such model": Bad("eval nowhere", "no model"),
    "folder without a model": Bad("eval d", "config.json", lambda: Path("d").mkdir()),
    "file for a model": Bad("eval d", "config.json", text("d", "x")),
    "flipped weights": Bad("sample m", "checksum", damaged_model(flip)),
    "weights cut off": Bad("sample m", "model.safetensors", damaged_model(lambda c: c[:-9])),
    "weights are a pickle": Bad(
        "sample m", "model.safetensors", damaged_model(lambda c: b"\x80\x04\x95\x00\x00.")
    ),
    "settings changed": Bad(
        "sample m", "checksum", damaged_model(lambda c: c.replace(b"4", b"8"), "config.json")
    ),
    "settings are no JSON": Bad("sample m", "JSON", damaged_model(lambda c: c[:-9], "config.json")),
    "settings nested without end": Bad(
        "sample m", "nested", damaged_model(lambda c: b"[" * 99_999, "config.json")
    ),
    "unknown device": Bad("sample m --device tpu9", "device", model()),
    "absent device": Bad("sample m --device cuda:77", "device", model()),
    # what a model is asked
    "plot of images": Bad("plot m", "two columns", model("images")),
    "plot as jpg": Bad("plot m --out a.jpg", ".png", model()),
    "scores as png": Bad("score m --data moons --out a.png", ".csv", model()),
    "scores over a file": Bad(
        "score m --data moons", "--overwrite", lambda: (model()(), text("scores.csv", "mine")())
    ),
    "unknown shipped model": Bad("models mnits", "there are"),
    "fractions for integers": Bad(
        "check runs/table --data new.csv", "column 'n'", integer_table
    ),
    "its data changed": Bad("eval runs/table", "t.csv has changed", changed_table),
    "data of a split changed": Bad(
        "score runs/table --split train", "t.csv has changed", changed_table
    ),
    "its data, named, changed": Bad(
        "eval runs/table --data t.csv --split validation", "t.csv has changed", changed_table
    ),
    "model without data": Bad("eval m", "give --data", model()),
    "its data are gone": Bad(
        "eval m", "gone.csv", model(trained_on=ModelInfo(DataConfig("./gone.csv")))
    ),
    "no data": Bad("eval m --data=", "empty", model()),
    "no data to train on": Bad("train moons --steps 1 --data=", "empty"),
    "data of another shape": Bad(
        EVAL + "t.csv", "columns", lambda: (model()(), text("t.csv", "a,b,c\n1,2,3\n4,5,7\n")())
    ),
    "data of another kind": Bad(EVAL + "moons", "vectors", model("images")),
    "data of other levels": Bad(
        EVAL + "o.npy", "17", lambda: (model("images")(), array("o.npy", np.full((3, 8, 8), 20))())
    ),
    "split of other data": Bad(EVAL + "moons --split test", "--split", model()),
    "zero draws": Bad(EVAL + "moons --samples 0", "--samples", model()),
    "zero at once": Bad(EVAL + "moons --batch-size 0", "--batch-size", model()),
    "negative noise seed": Bad(EVAL + "digits --seed -3", "seed", model("images")),
    "zero processes": Bad(EVAL + "moons --devices 0", "--devices", model()),
    "negative samples": Bad("sample m -n -3", "1 or more", model()),
    "negative samples by class": Bad("sample m -n -3", "1 or more", model("labels")),
    "huge samples": Bad("sample m -n 9000000000000000", "memory", model()),
    "nan temperature": Bad("sample m --temperature nan", "temperature", model()),
    "negative temperature": Bad("sample m --temperature -1", "temperature", model()),
    "label of an unconditional model": Bad("sample m --label 3", "conditional", model()),
    "unknown label": Bad("sample m --label dog", "unknown label", model("labels")),
    "label without numbers": Bad("sample m", "label", model("numbers")),
    "label of words": Bad("sample m --label a,b", "numbers", model("numbers")),
    "label too short": Bad("sample m --label 1", "2 with commas", model("numbers")),
    "levels of points": Bad("levels m", "model of vectors", model()),
    "too many images": Bad("levels m --data digits -n 5000", "there are 257", model("images")),
    "picture of none": Bad("levels m --data digits -n 0", "1 or more", model("images")),
    "too few images": Bad(
        "interpolate m --data o.npy",
        "needs 4 images, but there are 3",
        lambda: (model("images")(), array("o.npy", np.full((3, 8, 8), 7))()),
    ),
    "one step": Bad("interpolate m --data digits --steps 1", "2 steps", model("images")),
    "check of one": Bad("check m --data moons -n 1", "-n", model()),
    # where results go
    "bad output": Bad("sample m --out a.gif", "must end", model()),
    "table of images": Bad("sample m --out a.csv", "images", model("images")),
    "existing output": Bad(
        "sample m", "--overwrite", lambda: (model()(), text("samples.png", "mine")())
    ),
    "output below a file": Bad(
        "sample m --out r/a.npz", "file", lambda: (model()(), text("r", "mine")())
    ),
    "output is a folder": Bad(
        "sample m --out a.npz --overwrite", "folder", lambda: (model()(), Path("a.npz").mkdir())
    ),
    "name too long": Bad("sample m --out " + "a" * 300 + ".npz", "too long", model()),
    "full disk for an array": Bad("sample m --out d/a.npy", "make room", model(), full_disk),
    "full disk for a picture": Bad("sample m --out d/a.png", "make room", model(), full_disk),
    "full disk for levels": Bad(
        "levels m --data digits --out d/a.png", "make room", model("images"), full_disk
    ),
}  # fmt: skip


def everything(folder: Path) -> dict[str, bytes | None]:
    """Return the content of a folder, but for lock files, whose content changes."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if path.name != "lock"
    }


def refuse(name: str, folder: Path) -> str:
    """Have one bad input refused in an empty folder, the current one, and return the message.

    Raises:
        AssertionError: if it was not refused, or not in one line, or something changed.
    """
    bad = BAD[name]
    if bad.make is not None:
        bad.make()
    before = everything(folder)
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors), bad.during():
        status = main(bad.command.split())
    printed = errors.getvalue()
    assert status == 2, f"exit status {status}: {printed}"
    assert out.getvalue() == ""
    lines = printed.splitlines()
    assert len(lines) == 1, printed
    assert lines[0].startswith("realnvp: error: "), printed
    assert bad.says in lines[0], printed
    assert len(lines[0]) < 600, printed
    assert everything(folder) == before, set(everything(folder)) ^ set(before)
    return printed
