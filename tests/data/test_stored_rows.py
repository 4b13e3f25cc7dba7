"""Tables in row groups: what a pass over them finds, and training rows that stay in files."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch

from realnvp.columns.schema import TableSchema
from realnvp.config import DataConfig, TrainingConfig, VectorModel, VectorRecipe
from realnvp.data import Dataset, load_data, load_examples, load_part, stored_rows
from realnvp.data.batches import Batches, to_device_unless_stored
from realnvp.data.stored_rows import StoredRows
from realnvp.data.tables import KnownColumns
from realnvp.training.train import train

pytest.importorskip("pyarrow")

ROWS = 1_200
COLUMNS = ["a", "b", "town", "when"]


def frame() -> pd.DataFrame:
    """Return a table of four kinds of columns, whose rarest values are in one row each."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=ROWS)
    table = pd.DataFrame({
        "a": a,
        "b": (a + rng.normal(size=ROWS)).round(1),
        "town": rng.choice(["Rome", "Oslo"], ROWS),
        "when": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 99, ROWS), "D"),
        "label": rng.integers(0, 3, ROWS),
    })  # fmt: skip
    table.loc[777, "a"] = np.nan
    table.loc[3, "b"] = 2.125
    table.loc[999, "b"] = -40.0
    table.loc[501, "town"] = "Lima"
    table.loc[640, "when"] += pd.Timedelta(3, "h")
    table.loc[888, "label"] = 3
    return table


@pytest.fixture
def parquet(tmp_path):
    """Return a folder of three files, each of four row groups of a hundred rows."""
    for i in range(3):
        part = frame().iloc[400 * i : 400 * i + 400]
        (tmp_path / "table").mkdir(exist_ok=True)
        part.to_parquet(tmp_path / f"table/{i}.parquet", row_group_size=100, index=False)
    return tmp_path / "table"


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Look at few rows, and shuffle and keep few at once."""
    monkeypatch.setattr(stored_rows, "SAMPLE", 60)
    monkeypatch.setattr(stored_rows, "WINDOW", 300 * 8 * 8)


def load(source, **settings) -> Dataset:
    return load_data(DataConfig(str(source), **settings))


def test_one_pass_finds_what_columns_hold(parquet):
    data = load(parquet)
    whole = TableSchema.of(frame())
    assert data.schema == whole
    assert {c.name: c.kind for c in whole.columns}["b"] == "decimal"
    assert isinstance(data.train.x, StoredRows)
    sizes = [len(part) for part in (data.train, data.validation, data.test)]
    assert sum(sizes) == ROWS
    assert all(80 < size < 160 for size in sizes[1:])
    assert 40 < len(data.train_in_memory) < 60
    parts = [data.train.x[:], data.validation.x, data.test.x]
    found = torch.cat(parts).nan_to_num(nan=-1e9)
    known = torch.from_numpy(whole.rows(frame())).nan_to_num(nan=-1e9)
    order = [np.lexsort(rows.T.numpy()) for rows in (found, known)]
    assert torch.equal(found[order[0]], known[order[1]])
    (known_rows,) = (set(map(tuple, rows.nan_to_num().tolist())) for rows in parts[:1])
    assert set(map(tuple, data.train_in_memory.x.nan_to_num().tolist())) <= known_rows
    index = torch.tensor([900, 3, 3, 411])
    torch.testing.assert_close(data.train.x[index], parts[0][index], equal_nan=True)
    assert data.train.x[torch.arange(0)].shape == (0, data.shape[0])


def test_an_epoch_has_each_row_once_wherever_the_rows_are(parquet):
    found = {}
    for storage in ("disk", "memory"):
        data = load(parquet, storage=storage, condition="label")
        split = to_device_unless_stored(data.train, torch.device("cpu"))
        batches = Batches(split, 50, seed=1)
        assert storage in str(batches.stored) or "stay in memory" in str(batches.stored)
        rows, n = torch.cat([batches.indices(step) for step in range(40)]), len(data.train)
        for epoch in range(2):
            assert len(rows[n * epoch : n * epoch + n].unique()) == n
        # rows of a window are mixed, of several groups
        first = torch.bucketize(rows[:200], torch.tensor(data.train.x.reader._starts), right=True)
        assert len(first.unique()) == data.train.x.reader._per_window > 1
        assert not torch.equal(rows[:200].sort().values, rows[:200])
        found[storage] = [batches.get(step) for step in (0, 1, 2, 30, 19, 20)]
        shares = [batches.get(7, rank, 3)[0] for rank in range(3)]
        torch.testing.assert_close(torch.cat(shares), batches.get(7)[0], equal_nan=True)
        known = torch.from_numpy(data.schema.rows(frame())).nan_to_num()
        x, condition = batches.get(3)
        (match,) = (known == x[5].nan_to_num()).all(1).nonzero().flatten().tolist()
        assert condition[5] == frame()["label"][match]
    for one, two in zip(found["disk"], found["memory"], strict=True):
        assert torch.equal(one[0].nan_to_num(), two[0].nan_to_num())
        assert torch.equal(one[1], two[1])


def test_rows_are_equally_likely_at_every_place_of_an_epoch(parquet):
    reader = load(parquet).train.x.reader
    places = np.stack(
        [reader.order(seed, 0, 0, len(reader)).argsort().numpy() for seed in range(300)]
    )
    means = places.mean(0) / (len(reader) - 1)
    assert abs(means - 0.5).max() < 5 * math.sqrt(1 / 12 / 300)
    batch = np.searchsorted(reader._starts, reader.order(0, 0, 0, 200).numpy(), side="right")
    counts = np.bincount(batch)[np.unique(batch)]
    assert len(counts) == reader._per_window
    assert (abs(counts - 200 / len(counts)) < 30).all()


def test_few_rows_are_kept(parquet):
    data = load(parquet, storage="disk")
    for start in range(0, 900, 40):
        data.train.x[start : start + 40]
    known = data.train.x.reader._group.cache_info()
    assert known.misses == 12
    assert known.currsize == known.maxsize == 2 * data.train.x.reader._per_window < 12


def test_a_run_from_disk_is_a_run_from_memory_and_can_be_resumed(parquet, tmp_path):
    def run(name: str, steps: int, storage: str, resume: bool = False):
        recipe = VectorRecipe(
            VectorModel(couplings=2, hidden=8, components=2, mixture_init="auto"),
            DataConfig(str(parquet), storage=storage, condition="label"),
            TrainingConfig(
                steps=steps, batch_size=64, warmup=2, num_validations=2, lr="auto", ema="auto",
                calibration=50,
            ),
        )  # fmt: skip
        result = train(recipe, tmp_path / name, quiet=True, resume=resume)
        assert math.isfinite(result.likelihood.loss)
        return result.flow.state_dict()

    def equal(one, two) -> bool:
        return all(torch.equal(value, two[name]) for name, value in one.items())

    run("one", 12, "disk")
    run("two", 12, "memory")
    known = run("one", 20, "disk", resume=True)
    assert equal(known, run("two", 20, "disk", resume=True))


def test_a_part_is_found_again_and_a_changed_file_noticed(parquet):
    config = DataConfig(str(parquet))
    data = load_data(config)
    known = KnownColumns(schema=data.schema)
    part, split = load_part(config, None, data.fingerprint, known)
    assert part == "test"
    assert torch.equal(split.x.nan_to_num(), data.test.x.nan_to_num())
    _, learned = load_part(config, "train", data.fingerprint, known)
    assert len(learned) == len(data.train)
    assert len(load_examples(config, known).x) == ROWS
    table = pd.read_parquet(parquet / "1.parquet")
    table.loc[0, "a"] += 1
    table.to_parquet(parquet / "1.parquet", row_group_size=100, index=False)
    with pytest.raises(ValueError, match="has changed since the model was trained"):
        load_part(config, "train", data.fingerprint, known)


def test_one_file_is_read_by_row_groups_if_it_is_large_or_so_wished(parquet, monkeypatch):
    one = parquet / "0.parquet"
    assert isinstance(load(one).train.x, torch.Tensor)
    assert isinstance(load(one, storage="disk").train.x, StoredRows)
    monkeypatch.setattr(stored_rows, "LARGE", 1000)
    assert isinstance(load(one).train.x, StoredRows)
    assert isinstance(load("moons").train.x, torch.Tensor)


def test_held_out_fractions_of_many_rows_are_few(parquet, monkeypatch):
    monkeypatch.setattr(stored_rows, "MOST_HELD_OUT", 70)
    data = load(parquet, test=0.5, validation=100)
    assert 70 < len(data.validation) < 130
    assert 45 < len(data.test) < 100


@pytest.mark.parametrize("holdout", ["random", "last"])
def test_equal_rows_are_in_one_part_whatever_file_they_are_in(tmp_path, holdout):
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({
        "number": rng.normal(size=300),
        "town": rng.choice(["Rome", "Oslo", None], 300),
        "sunny": rng.choice([True, False], 300).astype(object),
        "whole": rng.integers(0, 50, 300),
    })  # fmt: skip
    rows.loc[:9, "sunny"] = None
    table = rows.iloc[rng.permutation(np.repeat(np.arange(300), 5))].reset_index(drop=True)
    table["id"] = [f"row {i}" for i in range(len(table))]  # not modeled, so it does not count
    table.loc[::7, "number"] *= -1
    table.loc[::7, "number"] *= -1
    (tmp_path / "t").mkdir()
    for i in range(3):
        part = table.iloc[500 * i : 500 * i + 500]
        part = part[part["sunny"].notna()] if i == 1 else part  # a file whose type is boolean
        part = part.astype({"whole": "int32" if i else "int64"})
        part.to_parquet(tmp_path / f"t/{i}.parquet", row_group_size=100, index=False)
    data = load(tmp_path / "t", holdout=holdout, validation=200, test=200)
    parts = [
        set(map(tuple, split.x[:].nan_to_num(nan=-1.0).tolist()))
        for split in (data.train, data.validation, data.test)
    ]
    assert min(map(len, parts)) > 10
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert sum(map(len, parts)) > 250


def test_copies_of_discrete_rows_are_to_be_expected(tmp_path):
    rows = np.random.default_rng(0).integers(3, size=(1200, 2))
    pd.DataFrame(rows, columns=["a", "b"]).to_parquet(tmp_path / "t.parquet", row_group_size=100)
    data = load(tmp_path / "t.parquet", storage="disk")
    for part in (data.train.x[:], data.validation.x, data.test.x):
        assert len(set(map(tuple, part.tolist()))) == 9


def test_what_is_refused(parquet):
    def refused(message: str, **settings) -> None:
        with pytest.raises(ValueError, match=message) as caught:
            load(parquet, **settings)
        assert "\n" not in str(caught.value)

    refused("hold out 1,190 of 1,200 rows, which leaves 10|at least 2", validation=1199, test=0)
    refused("data.size resizes the images of a folder", size=8)
    refused("no column 'colour'", condition="colour")
    frame().rename(columns={"a": "z"}).to_parquet(parquet / "9.parquet")
    refused("differ in their columns")
    frame().assign(a="text").to_parquet(parquet / "9.parquet")
    refused("differ in their types")
    (parquet / "9.parquet").write_bytes(b"PAR1 no")
    refused("cannot read")


def test_a_row_that_does_not_fit_is_said_when_it_is_read(parquet, monkeypatch):
    look = stored_rows._Witnesses.look
    monkeypatch.setattr(
        stored_rows._Witnesses,
        "look",
        lambda self, frame, where: look(self, frame[frame["town"] != "Lima"], where),
    )
    data = load(parquet, seed=1)  # no sampled row has Lima
    with pytest.raises(ValueError, match=r"row group 1 of .*1.parquet holds 'Lima' in row 1"):
        data.train.x[:]
