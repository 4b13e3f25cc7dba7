"""``realnvp compress``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("constriction")

from helpers.command import json_of, refused, run
from realnvp.cli.compress import _count_changed


def test_an_array_is_compressed(runs, here, capsys):
    digits = runs / "digits"
    np.savez("x.npz", x=np.random.default_rng(0).integers(4, 9, (12, 8, 8)))
    run(f"compress {digits} --data x.npz --out d.nvp --json")
    result = json_of(capsys)
    assert result["bytes"] == Path("d.nvp").stat().st_size
    assert result["bits_per_dim"] == pytest.approx(8 * result["bytes"] / result["images"] / 64)
    assert result["images"] == 12
    assert 0.5 < result["bits_per_dim"] / result["model_bits_per_dim"] < 2
    assert "--overwrite" in refused(capsys, f"compress {digits} --data x.npz --out d.nvp")
    assert ".nvp" in refused(capsys, f"compress {digits} --out d.zip")
    assert "vectors" in refused(capsys, f"compress {runs / 'moons'}")


def test_images_of_a_folder_come_back_by_name(runs, here, capsys):
    rng = np.random.default_rng(0)
    images = {f"sub/{i}.png": rng.integers(0, 17, (8, 8), dtype=np.uint8) for i in range(5)}
    Path("photos/sub").mkdir(parents=True)
    for name, image in images.items():
        Image.fromarray(image).save(f"photos/{name}")
    run(f"compress {runs / 'digits'} --data photos --out p.nvp --no-verify")
    assert "originals" not in capsys.readouterr().err
    run(f"decompress p.nvp --model {runs / 'digits'} --out back")
    for name, image in images.items():
        with Image.open(f"back/{name}") as found:
            assert np.array_equal(np.array(found), image)


def test_a_rotated_image_counts_as_it_is_displayed(tmp_path):
    rotated = Image.Exif()
    rotated[0x0112] = 6
    for name in ("a.tif", "a.png"):
        Image.new("L", (4, 8)).save(tmp_path / name, exif=rotated)
        assert _count_changed(tmp_path, [name], (1, 4, 8)) == 0
        assert _count_changed(tmp_path, [name], (1, 8, 4)) == 1


def test_images_that_are_not_the_models_are_not_called_unchanged(runs, here, capsys):
    rng = np.random.default_rng(0)
    Path("photos").mkdir()
    for name, size in (("a.png", 8), ("b.png", 9), ("a.bmp", 12)):
        Image.fromarray(rng.integers(0, 17, (size, size), dtype=np.uint8)).save(f"photos/{name}")
    run(f"compress {runs / 'digits'} --data photos --data-size 8 --out p.nvp --no-verify")
    assert "2 of 3 images were cropped, resized or converted" in capsys.readouterr().err
    run(f"decompress p.nvp --model {runs / 'digits'} --out back")
    assert sorted(path.name for path in Path("back").iterdir()) == ["a.bmp.png", "a.png", "b.png"]
