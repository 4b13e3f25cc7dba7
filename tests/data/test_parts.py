"""Parts that share no example, the memory that they take, and what makes a density infinite."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from helpers.data_files import (
    GREY,
    LABELS,
    RGB,
    TABLE,
    check_split,
    csv_file,
    load,
    npy,
    npz,
    refused,
)
from helpers.loading import peaks
from realnvp.config import DataConfig
from realnvp.data import Split, as_dataset, load_data, load_part
from realnvp.data.images import image_tensor
from realnvp.data.parts import Parts, hold_out
from realnvp.data.tables import KnownColumns

LONG = np.random.default_rng(1).normal(size=(2000, 3))


@pytest.mark.parametrize(("top", "warned"), [(1, True), (31, True), (32, False)])
def test_images_that_are_nearly_black(tmp_path, capsys, top, warned):
    images = np.minimum(GREY, top)
    load(npy(tmp_path, images))
    assert (f"go up to {top}, of 255" in capsys.readouterr().err) == warned
    as_dataset(images, DataConfig("images"), levels=top + 1)
    assert not capsys.readouterr().err


@pytest.mark.parametrize("holdout", ["last", "random"])
@pytest.mark.parametrize(("validation", "count"), [(0.1, 10), (7, 7), (0.001, 1), (98, 98)])
def test_hold_out_is_a_partition(holdout, validation, count):
    train, check = hold_out(100, validation, holdout, seed=3)
    assert len(check) == count
    assert torch.equal(torch.cat([train, check]).sort().values, torch.arange(100))
    assert torch.equal(check, hold_out(100, validation, holdout, seed=3)[1])
    if holdout == "last":
        assert int(train.max()) < int(check.min())
    elif count == 10:
        assert not torch.equal(check, hold_out(100, validation, holdout, seed=4)[1])


@pytest.mark.parametrize("validation", [99, 100, 5000, 0.99])
def test_hold_out_leaves_two_to_train_on(validation):
    with pytest.raises(ValueError, match="at least 2"):
        hold_out(100, validation)


@pytest.mark.parametrize("holdout", ["last", "random"])
@pytest.mark.parametrize("test", [0, 0.25, 3])
def test_what_is_held_out_in_place_is_what_the_indices_say(tmp_path, holdout, test):
    path = npz(tmp_path, x=RGB, y=LABELS)
    data = load(path, validation=2, test=test, holdout=holdout, condition="label", seed=5)
    everything = image_tensor(RGB, "array")
    learn = torch.arange(12)
    if test:
        learn, held = hold_out(12, test, holdout, 5)
        assert torch.equal(data.test.x, everything[held])
        assert data.test.condition.tolist() == LABELS[held].tolist()
    else:
        assert data.test is None
    keep, held = hold_out(len(learn), 2, holdout, 5)
    assert torch.equal(data.validation.x, everything[learn[held]])
    assert torch.equal(data.train.x, everything[learn[keep]])
    assert data.train.labels.tolist() == LABELS[learn[keep]].tolist()
    assert data.train.condition.tolist() == data.train.labels.tolist()
    check_split(data, everything)
    for part in ("train", "validation", "test"):
        if (split := getattr(data, part)) is not None:
            config = DataConfig(
                str(path), validation=2, test=test, holdout=holdout, condition="label", seed=5
            )
            found, one = load_part(config, part)
            assert found == part
            assert torch.equal(one.x, split.x)
            assert torch.equal(one.condition, split.condition)


def test_a_long_table_is_held_out_to_test(tmp_path):
    data = load(npy(tmp_path, LONG))
    assert [len(s) for s in (data.train, data.validation, data.test)] == [1600, 200, 200]
    check_split(data, torch.from_numpy(LONG.astype(np.float32)))
    assert data.reporting == ("test", data.test)
    assert load(npy(tmp_path, LONG[:999])).test is None
    assert load(npy(tmp_path, LONG), test=0).test is None
    last = load(npy(tmp_path, LONG), holdout="last", test=100, validation=300)
    assert torch.equal(last.test.x, torch.from_numpy(LONG[1900:].astype(np.float32)))
    assert torch.equal(last.validation.x, torch.from_numpy(LONG[1600:1900].astype(np.float32)))


def test_images_are_held_out_to_test_on_request(tmp_path):
    data = load(npy(tmp_path, GREY))
    assert data.test is None
    assert data.reporting == ("validation", data.validation)
    data = load(npy(tmp_path, GREY), test=0.25, validation=2)
    assert [len(s) for s in (data.train, data.validation, data.test)] == [7, 2, 3]


def test_a_test_part_of_its_own_is_not_joined_by_another():
    refused("digits", "test part of its own: leave data.test out", test=0.1)
    refused("moons", "test part of its own", test=10)
    assert len(load("digits", test=0).test) == 257


@pytest.mark.parametrize("test", [-0.1, 1.5, float("nan"), float("inf")])
def test_shares_that_are_none(test):
    with pytest.raises(ValueError, match="fraction below 1"):
        DataConfig(test=test)


def test_test_leaves_two_to_train_on(tmp_path):
    refused(npy(tmp_path, GREY), "test=11 .*--data.test", test=11)


def test_part_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="no test part"):
        load_part(DataConfig(str(npy(tmp_path, GREY))), "test")


# --- memory ------------------------------------------------------------------------------------


def test_loading_takes_little_more_than_the_data(tmp_path):
    megabytes = 64
    images = np.zeros((megabytes * 256, 64, 64), np.uint8)
    images += np.arange(64, dtype=np.uint8)
    images[:, 0, :2] = np.arange(len(images), dtype=np.uint16).view(np.uint8).reshape(-1, 2)
    color = images.reshape(-1, 32, 32, 4)[..., :3].copy()  # channels last: they are moved
    np.save(tmp_path / "a.npy", images)
    np.savez(tmp_path / "b.npz", x=color, x_test=color)
    grey, rgb = {"source": str(tmp_path / "a.npy")}, {"source": str(tmp_path / "b.npz")}
    cases = {
        "array": (grey, megabytes),
        "last": ({**grey, "holdout": "last", "test": 0.2}, megabytes),
        "validation": ({**grey, "part": "validation"}, megabytes),
        "channels last": (rgb, 2 * 0.75 * megabytes),
        "test": ({**rgb, "part": "test"}, 0.75 * megabytes),
    }
    found = dict(zip(cases, peaks(*(case for case, _ in cases.values())), strict=True))
    for name, (_, size) in cases.items():
        assert found[name] < 1.2 * size + 1, found


# --- checks ------------------------------------------------------------------------------------

BAD = {
    "constant": (lambda p: npy(p, TABLE * [1, 0, 1]), "column 1 .* the same"),
    "too few": (lambda p: npy(p, TABLE[:2]), "at least 3"),
    "test differs": (lambda p: npz(p, x=GREY, x_test=RGB), "differ"),
}


@pytest.mark.parametrize("case", BAD)
def test_refused(tmp_path, case):
    make, message = BAD[case]
    refused(make(tmp_path), message)


def test_equal_columns(tmp_path):
    path = csv_file(tmp_path, "a,b,c\n1,2,1\n3,5,3\n-0,7,0\n8,9,8\n")
    data = load(path, validation=1)  # the copy says nothing new, and is given back with samples
    assert data.columns == ("a", "b")
    assert data.schema.columns[2].kind == "copy"
    refused(npy(tmp_path, TABLE[:, [0, 1, 2, 1]]), "columns 1 and 3 ")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "moons", "condition": "label"}, "no labels"),
        ({"source": "moons", "flip": True}, "flip"),
        ({"source": "moons", "shift": 1}, "shift"),
        ({"source": "digits", "shift": 8}, "8x8"),
        ({"source": "digits", "shift": -1}, "shift"),
        ({"source": "digits", "seed": -1}, "seed"),
        ({"source": ""}, "empty: name a data set"),
        ({"source": "moons", "points": 1}, "at least 2"),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    with pytest.raises(ValueError, match=message):
        load_data(DataConfig(**settings))


def test_a_part_of_its_own_is_read_alone():
    read = []

    def part(name: str, n: int) -> Split:
        read.append(name)
        return Split(torch.arange(4.0 * n).view(n, 4))

    def parts() -> Parts:
        return Parts(lambda: part("train", 6), test=lambda: part("test", 3))

    from realnvp.data.parts import read_part

    config = DataConfig("x")
    assert read_part(parts(), config)[0] == "test"
    assert read == ["test"]
    assert len(read_part(parts(), config, "validation")[1]) == 1
    assert read == ["test", "train", "test"]


@pytest.mark.parametrize("times", [2, 5])
@pytest.mark.parametrize("holdout", ["random", "last"])
def test_copies_of_a_row_are_in_one_part(tmp_path, times, holdout):
    rows = np.random.default_rng(0).normal(size=(300, 3))
    frame = pd.DataFrame(
        np.repeat(rows, times, 0)[np.random.default_rng(1).permutation(300 * times)]
    )
    frame.columns = list("abc")
    frame.to_csv(tmp_path / "t.csv", index=False)
    data = load_data(DataConfig(str(tmp_path / "t.csv"), test=0.1, holdout=holdout))
    parts = [data.train.x, data.validation.x, data.test.x]
    assert len(data.train) + (len(data.validation) + len(data.test)) // times == 300
    assert data.train.weight is None  # all have as many copies
    config = DataConfig(str(tmp_path / "t.csv"), test=0.1, holdout=holdout)
    _, split = load_part(config, "train", data.fingerprint, KnownColumns(schema=data.schema))
    assert torch.equal(split.x, data.train.x)
    assert 0.05 < len(data.test) / len(frame) < 0.15
    distinct = [set(map(tuple, part.tolist())) for part in parts]
    assert sum(map(len, distinct)) == 300


def test_copies_of_discrete_rows_are_to_be_expected(tmp_path):
    rows = np.random.default_rng(0).integers(3, size=(600, 2))
    pd.DataFrame(rows, columns=["a", "b"]).to_csv(tmp_path / "t.csv", index=False)
    data = load_data(DataConfig(str(tmp_path / "t.csv")))
    assert len(set(map(tuple, data.train.x.tolist()))) == 9
