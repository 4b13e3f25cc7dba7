"""Tables and vectors: CSV, TSV, Parquet and arrays."""

from __future__ import annotations

import decimal

import numpy as np
import pandas as pd
import pytest
import torch

from helpers.data_files import (
    GREY,
    LABELS,
    TABLE,
    check_split,
    csv_file,
    examples,
    load,
    npy,
    refused,
    write,
)
from realnvp.config import DataConfig
from realnvp.data import load_part, parquet, sources, tables
from realnvp.data.tables import KnownColumns

HEADER = "a,b\n"
BAD = {
    "empty csv": (lambda p: csv_file(p, ""), "empty"),
    "header only": (lambda p: csv_file(p, HEADER), "no rows"),
    "constants": (lambda p: csv_file(p, HEADER + "1,\n1,\n1,\n"), "no column that varies"),
    "text in csv": (lambda p: csv_file(p, HEADER + "1,2\n3,oops\n"), "'b'.*row 1.*'oops'"),
    "infinity in csv": (lambda p: csv_file(p, HEADER + "1,2\ninf,3\n"), "'a'.*inf.*row 1"),
    "same names": (lambda p: csv_file(p, "a,a\n1,2\n3,4\n"), "two columns called 'a'"),
    "long row": (lambda p: csv_file(p, HEADER + "1,2\n3,4,5\n"), "cannot read"),
    "all rows long": (lambda p: csv_file(p, HEADER + "1,2,3\n3,4,5\n"), "cannot read"),
    "binary csv": (lambda p: write(p / "a.csv", b"a,b\n1,\xff\0"), "a.csv"),
    "damaged parquet": (lambda p: write(p / "a.parquet", b"PAR1 no"), "cannot read"),
    "one column": (lambda p: npy(p, TABLE[:, :1]), "at least two"),
    "no rows": (lambda p: npy(p, TABLE[:0]), "no rows"),
    "NaN": (lambda p: npy(p, np.where(TABLE[4, 1] == TABLE, np.nan, TABLE)), "column 1 .* row 4"),
    "too large": (lambda p: npy(p, TABLE * 1e40), "float32"),
    "too fine": (lambda p: npy(p, TABLE + 1e9), "subtract its mean"),
    "text array": (lambda p: npy(p, np.array([["a", "b"]])), "<U1"),
    "flat images": (lambda p: npy(p, GREY.reshape(12, -1)), "uint8 array"),
}


@pytest.mark.parametrize("case", BAD)
def test_refused(tmp_path, case):
    make, message = BAD[case]
    refused(make(tmp_path), message)


def test_a_single_column(tmp_path):
    path = csv_file(tmp_path, "a,b\n" + "".join(f"{i * i % 17 / 4},{i % 7}\n" for i in range(40)))
    assert load(path, condition="b").columns == ("a",)
    assert load(path, columns={"b": "drop"}).columns == ("a",)


def test_what_is_left_out_is_said(tmp_path, capsys):
    path = csv_file(tmp_path, "id,a\n" + "".join(f"n{i},{i * i % 17}\n" for i in range(40)))
    assert load(path).columns == ("a",)
    said = capsys.readouterr().err
    assert "left out of" in said
    assert "'id' (40 different texts in 40 rows" in said


def test_unknown_column(tmp_path):
    path = csv_file(tmp_path, "a,b\n1,2\n3,4\n")
    refused(path, "no column 'c'; its columns are a, b", condition="c")


@pytest.mark.parametrize("kind", ["csv", "tsv", "semicolon", "gz", "parquet", "bare"])
def test_kinds_of_tables(tmp_path, kind):
    frame = pd.DataFrame(TABLE.astype(np.float64), columns=["a", "b", "c d"])
    suffix = {"semicolon": "csv", "gz": "csv.gz", "bare": "csv"}.get(kind, kind)
    path = tmp_path / f"t.{suffix}"
    separator = {"tsv": "\t", "semicolon": ";"}.get(kind, ",")
    if kind == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, sep=separator, index=False, header=kind != "bare")
    data = load(path)
    assert data.columns == (("x0", "x1", "x2") if kind == "bare" else ("a", "b", "c d"))
    check_split(data, torch.from_numpy(TABLE.astype(np.float64)))


def test_conditioning_on_a_column(tmp_path):
    frame = pd.DataFrame({"a": TABLE[:, 0], "age": range(12), "b": TABLE[:, 1], "label": LABELS})
    frame["town"] = ["Rome", "Oslo"] * 6
    frame.to_csv(path := tmp_path / "t.csv", index=False)
    assert load(path, condition="age").columns == ("a", "b", "label", "town")
    data = load(path, condition="age,town")
    assert (data.columns, data.condition_dim) == (("a", "b", "label"), 3)
    data = load(path, condition="town", validation=2, holdout="last")
    assert data.columns == ("a", "age", "b", "label")
    assert (data.categories, data.condition_classes) == (("Oslo", "Rome"), 2)
    assert data.train.condition.tolist() == [1, 0] * 5
    frame.drop(columns="town").to_csv(path, index=False)
    data = load(path, condition="age", validation=2, holdout="last")
    assert (data.condition_dim, data.condition_classes, data.shape) == (1, 0, (3,))
    assert torch.equal(data.train.condition, torch.arange(10.0, dtype=torch.float64)[:, None])
    frame.assign(age=1.7e9 + np.arange(12) / 8).to_csv(times := tmp_path / "times.csv", index=False)
    data = load(times, condition="age", validation=2, holdout="last")
    assert torch.equal(8 * (data.train.condition[:, 0] - 1.7e9), torch.arange(10.0).double())
    data = load(path, condition="label")
    assert (data.condition_dim, data.condition_classes, data.shape) == (0, 3, (3,))


def test_header_of_counted_columns(tmp_path):
    assert len(examples(csv_file(tmp_path, "0,1\n0.5,2\n1.5,3\n"))) == 2
    assert len(examples(csv_file(tmp_path, "0,1\n5,2\n1,3\n"))) == 3


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
        examples(path, settings={"condition": condition}, **settings)


# --- files that are larger than they look ------------------------------------------------------


def test_types_of_parquet_of_its_own(tmp_path):
    pa = pytest.importorskip("pyarrow")
    days = pd.date_range("2024-01-01", periods=60).date
    cents = [decimal.Decimal(100 + 7 * i % 90) / 100 for i in range(60)]
    table = pa.table({"day": pa.array(days, pa.date32()), "price": pa.array(cents)})
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    data = load(str(tmp_path / "a.parquet"))
    assert [column.kind for column in data.schema.columns] == ["datetime", "decimal"]


def test_a_large_table_is_sampled_and_the_sample_found_again(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    folder = tmp_path / "t"
    folder.mkdir()
    table = pd.DataFrame({"i": 1.37 * np.arange(1200), "x": rng.normal(size=1200)})
    for i in range(3):
        part = table.iloc[400 * i : 400 * i + 400]
        part.to_parquet(folder / f"{i}.parquet", row_group_size=150, index=False)
    assert len(load(str(folder), test=0).train) == 1080
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sources, "_LARGE", 8 * 2 * 600)
    data = load(str(folder))
    assert "a random sample of 600 of 1,200 rows" in capsys.readouterr().err
    rows = (torch.cat([data.train.x, data.validation.x])[:, 0] / 1.37).round().long()
    assert len(rows.unique()) == 600
    assert all(180 < int((rows // 400 == file).sum()) < 220 for file in range(3))
    known = KnownColumns(schema=data.schema)
    part, split = load_part(DataConfig(str(folder)), None, data.fingerprint, known)
    assert (part, len(split)) == ("validation", 60)
    assert len(load(str(folder), storage="memory", test=0).train) == 1080
    with pytest.raises(ValueError, match=r"data\.size resizes the images"):
        load(str(folder), size=8)


def test_parquet_files_of_one_table_are_alike(tmp_path):
    table = pd.DataFrame({"a": np.arange(9.0), "b": np.arange(9.0) ** 2})
    table.to_parquet(tmp_path / "1.parquet")
    table.rename(columns={"a": "z"}).to_parquet(tmp_path / "2.parquet")
    refused(tmp_path, "differ in their columns")
    table.assign(a="text").to_parquet(tmp_path / "2.parquet")
    refused(tmp_path, "differ in their types")


def test_parquet_of_more_rows_than_it_can_hold(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "ALWAYS", 1 << 20)
    path = tmp_path / "a.parquet"
    pd.DataFrame({"a": np.ones(2**21), "b": np.ones(2**21)}).to_parquet(path)
    assert path.stat().st_size < 20_000
    refused(path, "announce 2,097,152 rows of 2 columns")


@pytest.mark.parametrize(
    ("name", "what"), [("a.xls", "spreadsheet"), ("a.orc", "ORC file"), ("a.npz", "file of arrays")]
)
def test_formats_that_are_not_read_are_named(tmp_path, name, what):
    (tmp_path / name).write_text('{"x": 1}\n{"x": 2}\n')
    with pytest.raises(ValueError, match=f"{what}.*, which is not read: save it as CSV"):
        tables.read_frame(tmp_path / name)


MIXED = pd.DataFrame({"town": ["Köln", None, "東京"], "n": [1, 2, 3], "x": [0.5, np.nan, 1e-3]})


def _json_lines(path):
    MIXED.to_json(path, orient="records", lines=True, force_ascii=False)


WRITERS = {
    "a.json": lambda path: MIXED.to_json(path, orient="records"),
    "a.jsonl": _json_lines,
    "a.ndjson.gz": _json_lines,
    "a.feather": lambda path: MIXED.to_feather(path),
    "a.arrow": lambda path: MIXED.to_feather(path),
    "a.xlsx": lambda path: MIXED.to_excel(path, index=False),
}


@pytest.mark.parametrize("name", WRITERS)
def test_tables_of_other_programs(tmp_path, name):
    WRITERS[name](tmp_path / name)
    frame = tables.read_frame(tmp_path / name)
    assert frame["town"].fillna("").tolist() == ["Köln", "", "東京"]
    assert frame["n"].dtype == np.int64
    np.testing.assert_array_equal(frame["x"], MIXED["x"])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "[1, 2]", "not a list of records: item 0 is 1"),
        ("a.jsonl", '{"x": 1}\n{"x": ', "a.jsonl is not JSON"),
        ("a.jsonl", '{"x": 1}\n{"x": {"y": 2}}', "column 'x' of .*, first in row 1"),
        ("a.feather", "no", "cannot read .*a.feather"),
        ("a.xlsx", "no", "cannot read .*a.xlsx"),
        ("a.json", "[]", "no rows"),
    ],
)
def test_damaged_tables_of_other_programs_are_named(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        tables.read_frame(tmp_path / name)
