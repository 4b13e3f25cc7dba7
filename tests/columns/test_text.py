"""Tables in text, as people have them."""

from __future__ import annotations

import gzip

import pandas as pd
import pytest

from helpers.data_files import csv_file, examples, refused, write
from realnvp.columns import text as table_text
from realnvp.columns.schema import TableSchema
from realnvp.columns.text import read_text


@pytest.mark.parametrize("line", ["1,2\n", "0"])
def test_a_text_does_not_inflate_without_bound(tmp_path, monkeypatch, line):
    monkeypatch.setattr(table_text, "ALWAYS", 1 << 20)
    content = b"a,b\n" + line.encode() * (2**23 // len(line))
    refused(write(tmp_path / "a.csv.gz", gzip.compress(content, 9)), "inflates to more than 200")
    assert len(examples(write(tmp_path / "b.csv.gz", gzip.compress(b"a,b\n1,2\n3,4\n")))) == 2


def test_question_marks_are_gaps(tmp_path):
    frame = read_text(csv_file(tmp_path, "age,level\n?,low\n38.5,?\n40,high\n"))
    assert frame["age"].dtype == float
    assert frame.isna().to_numpy().tolist() == [[True, False], [False, True], [False, False]]


@pytest.mark.parametrize("gap", ["-", "n.a.", "Missing", ".", "N/A"])
def test_words_for_gaps_among_numbers_and_dates(tmp_path, gap):
    text = f"a,price,day,mark\n1.5,$3,2020-01-31,-\n{gap},{gap},{gap},x\n2,$5,2020-02-03,-\n"
    frame = read_text(csv_file(tmp_path, text))
    assert frame["a"].tolist()[::2] == [1.5, 2.0]
    assert frame[["a", "price", "day"]].isna().to_numpy().tolist() == [
        [i == 1] * 3 for i in (0, 1, 2)
    ]
    assert frame["mark"].tolist() == ["-", "x", "-"], "among categories, it is one of them"
    whole = read_text(csv_file(tmp_path, f"a,b\n1,2\n{gap},2\n0,3\n"))["a"]
    assert (str(whole.dtype), whole.isna().tolist()) == ("Int64", [False, True, False])


@pytest.mark.parametrize(
    "days",
    [
        ("Jan 2, 2010", "Feb 13, 2011"),
        ("2-Jan-2010", "13-Feb-2011"),
        ("2010-01", "2011-02"),
        ("Mon, 3 May 2021 10:00", "Tue, 4 May 2021 11:30"),
    ],
)
def test_gaps_among_dates_of_every_format(tmp_path, days):
    rows = [f'"{day}",{i}' for i, day in enumerate((*days, "-", *days))]
    frame = read_text(csv_file(tmp_path, "\n".join(["day,n", *rows, ""])))
    assert frame["day"].isna().tolist() == [False, False, True, False, False]
    column = TableSchema.of(frame, {"day": "datetime"}).columns[0]
    assert (column.kind, column.missing) == ("datetime", True)


def test_row_numbers_without_a_name_are_left_out(tmp_path):
    pd.DataFrame({"a": [1, 4, 6], "b": [2.5, 3, 1]}).to_csv(tmp_path / "a.csv")
    assert list(read_text(tmp_path / "a.csv").columns) == ["a", "b"]
    text = ",mpg,\nMazda,21,\nFiat,32.4,\n"  # R's names of rows, and a comma after every row
    assert read_text(csv_file(tmp_path, text)).to_dict("list") == {"mpg": [21.0, 32.4]}
    text = ",a,\nx,1,3\nx,2,4\n"
    assert list(read_text(csv_file(tmp_path, text)).columns) == ["Unnamed: 0", "a", "Unnamed: 2"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_encodings(tmp_path, capsys, encoding):
    path = write(tmp_path / "a.csv", "Größe;Preis\n1,5;3 €\n2,5;4 €\n".encode(encoding))
    frame = read_text(path)
    assert frame.to_dict("list") == {"Größe": ["1,5", "2,5"], "Preis": ["3 €", "4 €"]}
    assert ("read as Windows-1252" in capsys.readouterr().err) == (encoding == "cp1252")


def test_bytes_are_no_text(tmp_path):
    refused(write(tmp_path / "a.csv", b"a,b\n1,\xff\0"), "is not text")


def test_codes_keep_their_leading_zeros(tmp_path):
    text = "zip,n,share,old\n00501,1,0.5,1.0\n10115,20,0,\n,,1,2.0\n"
    frame = read_text(csv_file(tmp_path, text))
    assert frame["zip"].tolist()[:2] == ["00501", "10115"]
    assert frame["n"].tolist()[:2] == [1, 20]
    assert list(map(str, frame.dtypes))[1:] == ["Int64", "float64", "float64"]
    assert frame.isna().sum().tolist() == [1, 1, 0, 1]


@pytest.mark.parametrize(
    "names", ["a (x, y, z);b, in kg;c", "a (x,y,z);b;c", "a|b;c|d;e"], ids=["text", "tie", "bars"]
)
def test_marks_in_names_are_no_separators(tmp_path, names):
    frame = read_text(csv_file(tmp_path, f"{names}\n1,5;2;x\n2;3;y, z\n2,5;4;x\n"))
    assert frame.columns.tolist() == names.split(";")
    assert frame.iloc[:, 1].tolist() == [2, 3, 4]


@pytest.mark.parametrize("line", ["sep=;", '"SEP=;"', "sep=;\r"])
def test_the_line_that_tells_excel_the_separator(tmp_path, line):
    frame = read_text(csv_file(tmp_path, f"{line}\na;b\n1;x, y, z\n2;y, z, x\n"))
    assert frame.to_dict("list") == {"a": [1, 2], "b": ["x, y, z", "y, z, x"]}


def test_empty_rows_of_a_spreadsheet_are_left_out_at_its_end_only(tmp_path, capsys):
    text = "a,b,c\n1,x,0.5\n2,,0.25\n" + ",,\n" * 1_500
    frame = read_text(csv_file(tmp_path, text))
    assert frame["a"].tolist() == [1, 2]
    assert frame["a"].dtype == int
    assert "its last 1,500 rows are empty, and left out" in capsys.readouterr().err
    assert len(read_text(csv_file(tmp_path, "a,b\n1,x\n,\n2,y\n,\n"))) == 4, "rows of gaps occur"
    assert len(read_text(csv_file(tmp_path, 'a\n1\n""\n'))) == 2
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "# made in 2020\n# by hand\na,b\n1,2\n",
            r"line 3 has 2 cells, .*names of columns \(# made in 2020\)",
        ),
        ("Sales\n\na,b\n1,2\n", r"line 3 has 2 cells, .*\(Sales\): delete lines above the names"),
        (
            "a,b\n1,2\n3,x, y\n",
            r"line 3 has 3 cells, more than there are names of columns \(a, b\)",
        ),
    ],
)
def test_surplus_cells_are_located(tmp_path, text, message):
    refused(csv_file(tmp_path, text), message)


def test_errors_of_excel_are_gaps(tmp_path):
    frame = read_text(csv_file(tmp_path, "a,b\n0.5,x\n#DIV/0!,#DIV/0!\n#VALUE!,x\n1.5,y\n"))
    assert frame["a"].isna().tolist() == [False, True, True, False]
    assert frame["a"].dtype == float
