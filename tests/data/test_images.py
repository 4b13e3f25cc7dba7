"""Folders of image files: what is read, converted on request, and refused all at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.data_files import (
    GREY,
    RGB,
    examples,
    load,
    npy,
    npz,
    png16,
    refused,
    save,
    tiff16,
    write,
)
from realnvp.data.images import image_tensor
from realnvp.utils.image_files import background_color

BAD = {
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
    "16 bits of color": (lambda p: png16(p / "a.png").parent, "8 bits"),
    "16 bits of color, TIFF": (lambda p: tiff16(p / "a.tif").parent, "8 bits"),
    "16 bits of color, PPM": (
        lambda p: write(p / "a.ppm", b"P6\n1 1\n65535\n" + bytes(range(6))).parent,
        "8 bits",
    ),
    "10 bits of color, plain PPM": (
        lambda p: write(p / "a.ppm", b"P3\n1 1\n1023\n500 600 700\n").parent,
        "8 bits",
    ),
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
    "float images": (lambda p: npy(p, GREY / 255), "float64 .*\\(255 \\* x\\).round"),
    "beyond 8 bits": (lambda p: npy(p, GREY.astype(int) * 2), "from 0 to"),
    "truth values": (lambda p: npy(p, GREY > 100), "bool.*255 \\* x"),
    "four channels": (lambda p: npy(p, np.zeros((5, 8, 8, 4), np.uint8)), "RGBA"),
    "one image": (lambda p: npy(p, RGB[0]), "first axis"),
    "no images": (lambda p: npy(p, GREY[:0]), "empty"),
}


@pytest.mark.parametrize("case", BAD)
def test_refused(tmp_path, case):
    make, message = BAD[case]
    refused(make(tmp_path), message)


def test_folder_of_grey_and_of_color(tmp_path):
    for i in range(4):
        save(GREY[i], tmp_path / f"{i}.png")
    write(tmp_path / "notes.txt", "ignored")
    write(tmp_path / ".hidden.png", "ignored")
    assert torch.equal(examples(tmp_path).x, torch.from_numpy(GREY[:4, None].copy()))
    save(RGB[0], tmp_path / "2a.png")  # one color image makes all of them three channels
    x = examples(tmp_path).x
    assert torch.equal(x[3], torch.from_numpy(RGB[0].transpose(2, 0, 1).copy()))
    assert torch.equal(x[4], torch.from_numpy(np.stack([GREY[3]] * 3)))
    assert torch.equal(x[1], torch.from_numpy(np.stack([GREY[1]] * 3)))


def test_subfolders_are_labels(tmp_path):
    for i in range(6):
        save(GREY[i], tmp_path / ("dog" if i % 2 else "cat") / f"{i}.png")
    data = load(tmp_path, condition="label", validation=2, holdout="last")
    assert (data.categories, data.classes) == (("cat", "dog"), 2)
    assert data.train.labels.tolist() == [0, 0, 0, 1]
    label = {"condition": "label"}
    other = examples(tmp_path, settings=label, categories=("dog", "cow", "cat"))
    assert other.condition.tolist() == [2, 2, 2, 0, 0, 0]
    write(tmp_path / "cat/0.png", "damaged")
    other = examples(tmp_path, settings={**label, "skip_unreadable": True})
    assert other.condition.tolist() == [0, 0, 1, 1, 1]


def test_first_folders_are_labels_however_deep_the_images_are(tmp_path):
    for i, name in enumerate(("cats/0.png", "dogs/1.tif", "dogs/small/2.jpg", "cats/3.png")):
        save(GREY[i], tmp_path / name)
    assert load(tmp_path, condition="label").categories == ("cats", "dogs")
    assert examples(tmp_path, settings={"condition": "label"}).labels.tolist() == [0, 0, 1, 1]
    assert load(tmp_path).categories is None
    save(GREY[4], tmp_path / "4.png")
    refused(tmp_path, "no labels to condition on.*folder of their own", condition="label")


def test_labels_of_a_column(tmp_path):
    for i in range(6):
        save(GREY[i], tmp_path / f"{i}.png")
    rows = [f"{i}.png,{'yes' if i % 3 else 'no'},{-1 if i % 2 else 1}" for i in (5, 3, 1, 0, 2, 4)]
    write(tmp_path / "attributes.csv", "\n".join(["image,Smiling,Young", *rows]))
    data = load(tmp_path, condition="Smiling", validation=2, holdout="last")
    assert (data.categories, data.classes) == (("no", "yes"), 2)
    assert data.train.condition.tolist() == [0, 1, 1, 0]
    young = {"condition": "Young"}
    assert (
        examples(tmp_path, settings=young, categories=("1", "-1")).condition.tolist() == [0, 1] * 3
    )
    for column, message in (("Old", "no column 'Old': Smiling, Young"), ("image", "no column")):
        with pytest.raises(ValueError, match=message):
            load(tmp_path, condition=column)
    write(tmp_path / "attributes.csv", "\n".join(["image,Smiling", "0.png,yes", "0.png,no"]))
    with pytest.raises(ValueError, match=r"rows for '0\.png' that differ in 'Smiling'"):
        load(tmp_path, condition="Smiling")
    write(tmp_path / "attributes.csv", "\n".join(["image,Smiling,Young", *rows, rows[0]]))
    save(GREY[0], tmp_path / "6.png")
    with pytest.raises(ValueError, match=r"no value of 'Smiling' for 1 of 7 images: 6\.png"):
        load(tmp_path, condition="Smiling")
    (tmp_path / "attributes.csv").unlink()
    with pytest.raises(ValueError, match="must hold one CSV file"):
        load(tmp_path, condition="Smiling")


def test_labels_for_files_of_the_same_name(tmp_path):
    for i in range(6):
        save(GREY[i], tmp_path / "ab"[i % 2] / f"{i // 2}.png")
    rows = "".join(f"{i}.png,{'no' if i else 'yes'}\n" for i in range(3))
    write(tmp_path / "labels.csv", f"image,Smiling\n{rows}")
    refused(tmp_path, r"one row, '0\.png', for a/0\.png and b/0\.png", condition="Smiling")
    rows = "".join(f"{'ab'[i % 2]}/{i // 2}.png,{'no' if i % 2 else 'yes'}\n" for i in range(6))
    write(tmp_path / "labels.csv", f"image,Smiling\n{rows}")
    found = examples(tmp_path, settings={"condition": "Smiling"}, categories=("yes", "no"))
    assert found.condition.tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("image;Smiling", "cats/{}.png;{}"),
        ("image\tSmiling", "cats/{}.png\t{}"),
        ("image, Smiling", "{}.png, {}"),
        ("image,Smiling", "{},{}"),
        ("image,Smiling", "cats/{},{}"),
        ("image,Smiling", "./cats/{}.png,{}"),
        ("image,Smiling", "cats\\{}.png,{}"),
    ],
)
def test_notations_of_the_file_with_labels(tmp_path, header, row):
    for i in range(4):
        save(GREY[i], tmp_path / f"cats/{i:02}.png")
    lines = [row.format(f"{i:02}", -1 if i % 2 else 1) for i in range(4)]
    write(tmp_path / "labels.csv", "\n".join([header, *lines]))
    found = examples(tmp_path, settings={"condition": "Smiling"}, categories=("-1", "1"))
    assert found.condition.tolist() == [1, 0, 1, 0]


def test_images_without_a_value_in_the_file_with_labels(tmp_path):
    for i in range(4):
        save(GREY[i], tmp_path / f"{i}.png")
    write(tmp_path / "labels.csv", "image,Smiling\n0.png,yes\n1.png,\n2.png,no\n3.png,no\n")
    refused(tmp_path, r"no value of 'Smiling' for 1 of 4 images: 1\.png", condition="Smiling")


def test_a_model_of_classes_takes_a_folder_without_labels(tmp_path):
    for i in range(4):
        save(GREY[i], tmp_path / f"{i}.png")
    settings = {"condition": "Smiling"}
    known = {"settings": settings, "categories": ("no", "yes"), "classes": 2}
    found = examples(tmp_path, **known)
    assert found.labels is None
    assert found.condition is None
    write(tmp_path / "scores.csv", "image,outlier_score\n0.png,1\n")
    assert examples(tmp_path, **known).condition is None
    refused(tmp_path, r"scores.csv has no column 'Smiling': outlier_score", **settings)
    write(tmp_path / "labels.csv", "image,Smiling\n" + "".join(f"{i}.png,no\n" for i in range(4)))
    assert examples(tmp_path, **known).condition.tolist() == [0] * 4


def test_a_model_of_a_column_takes_arrays(tmp_path):
    settings = {"condition": "Smiling"}
    known = {"settings": settings, "categories": ("-1", "1"), "classes": 2}
    assert examples(npy(tmp_path, GREY), **known).condition is None
    for labels in (np.array(["1", "-1"] * 6), np.array([1, -1] * 6)):
        found = examples(npz(tmp_path, images=GREY, labels=labels), **known)
        assert found.condition.tolist() == [1, 0] * 6
    refused(tmp_path / "a.npz", "no columns", **settings)


def test_images_of_formats_that_are_not_read_are_named(tmp_path, capsys):
    for i in range(4):
        save(GREY[i], tmp_path / f"{i}.png")
    write(tmp_path / "b/IMG_1.HEIC", "photo")
    write(tmp_path / "notes.txt", "text")
    assert len(examples(tmp_path)) == 4
    warning = capsys.readouterr().err
    assert "1 of 5 images in" in warning
    assert "b/IMG_1.HEIC" in warning


def test_the_middle_is_cut(tmp_path):
    image = np.zeros((10, 8), np.uint8)
    image[3:7, 2:6] = 200
    save(image, tmp_path / "a.png")
    assert examples(tmp_path, settings={"crop": 4}).x.unique().tolist() == [200]
    assert examples(tmp_path, settings={"crop": 6, "size": 3}).x.shape == (1, 1, 3, 3)
    with pytest.raises(ValueError, match="8x10 pixels are less than the crop"):
        examples(tmp_path, settings={"crop": 9})


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_modes_of_image_files(tmp_path, mode):
    tone = Image.fromarray(np.where(GREY[0] > 127, 255, 0).astype(np.uint8)).convert(mode)
    suffix = "tif" if mode in ("CMYK", "YCbCr") else "png"
    # Pillow 12.3 cannot read back an uncompressed TIFF of YCbCr that it wrote.
    options = {"compression": "tiff_lzw"} if suffix == "tif" else {}
    tone.save(tmp_path / f"a.{suffix}", **options)
    (tmp_path / f"a.{suffix}").rename(tmp_path / "a.png")  # Pillow goes by content
    x = examples(tmp_path).x
    assert x.shape[1] == (1 if mode in ("1", "L", "LA") else 3)
    assert ((x[0, 0] > 127).numpy() == (GREY[0] > 127)).all()


def test_resized_and_rotated(tmp_path):
    save(np.full((20, 10, 3), 9, np.uint8), tmp_path / "a.png")
    save(np.full((12, 30, 3), 9, np.uint8), tmp_path / "b.jpg")
    assert examples(tmp_path, settings={"size": 8}).x.unique().tolist() == [9]
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    image = Image.fromarray(np.zeros((10, 20), np.uint8))
    image.save(tmp_path / "b.jpg", exif=exif)
    assert examples(tmp_path).x.shape == (2, 3, 20, 10)


# --- on request --------------------------------------------------------------------------------


def test_all_unusable_files_are_named_at_once(tmp_path, capsys):
    for i in range(20):
        save(GREY[i % 12], tmp_path / f"{i:02}.png")
    for i in range(12):
        write(tmp_path / f"{i:02}.png", (tmp_path / f"{i:02}.png").read_bytes()[: 20 + 5 * i])
    save(np.zeros((8, 6, 4), np.uint8), tmp_path / "12.png")
    told = refused(
        tmp_path,
        "13 of 20 images cannot be used: .*00.png: .*12.png: transparent pixels.*13 in all",
    )
    assert "10.png" not in told  # the first ten are named
    assert "--data-skip-unreadable true leaves such files out" in told
    assert "--data-background white" in told
    data = load(tmp_path, skip_unreadable=True)
    assert len(data.train) + len(data.validation) == 7
    assert "warning: 13 of 20 images cannot be used" in capsys.readouterr().err
    for path in tmp_path.glob("*.png"):
        write(path, b"all of them")
    refused(tmp_path, "20 of 20", skip_unreadable=True)


def test_all_odd_sizes_are_named_at_once(tmp_path):
    for i in range(4):
        save(GREY[i] if i % 2 == 0 else GREY[i].T, tmp_path / f"{i}.png")
    refused(tmp_path, r"0.png is 6x8 pixels, but 2 of 4 are not: .*1.png is 8x6, .*3.png is 8x6")


@pytest.mark.parametrize(
    ("background", "expected"),
    [("white", (205, 215, 225)), ("#000000", (50, 60, 70)), ("red", (205, 60, 70))],
)
def test_transparent_pixels_in_front_of_a_background(tmp_path, background, expected):
    pixels = np.zeros((8, 6, 4), np.uint8)
    pixels[:] = (128, 154, 179, 100)  # of 255: 0.39 of the pixel, 0.61 of what is behind
    save(pixels, tmp_path / "a.png")
    refused(tmp_path, "transparent pixels; --data-background white puts a color behind them")
    x = examples(tmp_path, settings={"background": background}).x
    assert x.shape == (1, 3, 8, 6)
    assert np.abs(x[0, :, 3, 3].numpy().astype(int) - expected).max() <= 1


def test_grey_transparency_stays_grey(tmp_path):
    save(np.full((8, 6, 2), 100, np.uint8), tmp_path / "a.png")
    assert examples(tmp_path, settings={"background": "white"}).x.shape == (1, 1, 8, 6)
    assert examples(tmp_path, settings={"background": "red"}).x.shape == (1, 3, 8, 6)


def test_unknown_background(tmp_path):
    save(GREY[0], tmp_path / "a.png")
    refused(tmp_path, "data.background is a color", background="greyish")
    assert background_color("#102030") == (16, 32, 48, 255)


def test_channels_are_converted(tmp_path):
    save(RGB[0], tmp_path / "a.png")
    save(GREY[1], tmp_path / "b.png")
    x = examples(tmp_path, settings={"channels": 1}).x
    assert x.shape == (2, 1, 8, 6)
    luma = RGB[0] @ [0.299, 0.587, 0.114]
    assert np.abs(x[0, 0].numpy() - luma).max() <= 1
    (tmp_path / "a.png").unlink()
    assert examples(tmp_path, settings={"channels": 3}).x.shape == (1, 3, 8, 6)
    with pytest.raises(ValueError, match=r"1 .grey. or 3"):
        load(tmp_path, channels=2)


def test_a_mismatch_names_channels_and_what_converts_them(tmp_path):
    save(RGB[0], tmp_path / "a.png")
    with pytest.raises(
        ValueError, match=r"3x8x6 images .color., but .* 1x8x6 images .grey."
    ) as one:
        examples(tmp_path, shape=(1, 8, 6))
    assert "--data-channels 1 converts the images" in str(one.value)
    assert "--data-size" not in str(one.value)
    with pytest.raises(ValueError, match=r"--data-channels 1 .*; --data-size 28 ") as both:
        examples(tmp_path, shape=(1, 28, 28))
    assert "\n" not in str(both.value)


@pytest.mark.parametrize(
    "settings", [{"size": 8}, {"channels": 1}, {"background": "white"}, {"skip_unreadable": True}]
)
@pytest.mark.parametrize("source", ["moons", "digits", "a.npy"])
def test_what_is_for_folders_only(tmp_path, monkeypatch, source, settings):
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", GREY)
    refused(source, f"data.{next(iter(settings))} .* folder, which {source} is not", **settings)


def test_huge_images_are_refused(tmp_path):
    Image.new("1", (10_000, 10_000)).save(tmp_path / "a.png")  # Pillow only warns
    refused(tmp_path, "a.png: Image size .* decompression bomb")


def test_an_array_is_only_rearranged_if_it_may_be():
    array = RGB.copy()
    x = image_tensor(array, "array")
    assert (array == RGB).all()
    assert torch.equal(image_tensor(array, "array", reuse=True), x)
    assert torch.equal(torch.from_numpy(array).view_as(x), x)  # in the same memory
