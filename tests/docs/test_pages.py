"""The Python of the how-to pages, and the names of the library that the course prints."""

from __future__ import annotations

import ast
import functools
import inspect
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import realnvp
from realnvp import recipe, train
from realnvp.cli.main import main
from realnvp.data.image_sets import IMAGE_SETS
from realnvp.estimator import RealNVPOutlierDetector

PAGES = Path(__file__).parents[2] / "docs" / "how-to"
CHAPTERS = sorted((PAGES.parent / "course").glob("*-*.md"))


def blocks(page: str, language: str = "python") -> list[str]:
    text = (PAGES / f"{page}.md").read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.M | re.S)


def run(code: str, names: dict) -> dict:
    code = re.sub(r"RealNVPDensity\((?=[)r])", "RealNVPDensity(max_steps=20, ", code)
    exec(compile(code, "page", "exec"), names)
    return names


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_what_a_chapter_imports_and_prints_exists(chapter):
    cells = re.findall(r"^```python.*?\n(.*?)^```$", chapter.read_text("utf-8"), flags=re.M | re.S)
    names: dict = {}
    for node in ast.walk(ast.parse("\n".join(cells))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            exec(ast.unparse(node), names)
    for node in ast.walk(ast.parse("\n".join(cells))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "getsource":
            assert inspect.getsource(eval(ast.unparse(node.args[0]), names))


def test_own_loop(capsys):
    names = {"points": torch.randn(100, 2)}
    for code in blocks("loop"):
        run(code.replace("500", "5"), names)
    assert re.match(r"tensor\(-\d", capsys.readouterr().out)
    assert torch.isfinite(names["loss"](names["points"]))


def test_energies(capsys):
    names: dict = {}
    *code, nessai = blocks("energies")
    for cell in code:
        run(cell.replace("steps=1000", "steps=4, quiet=True"), names)
    assert "outliers: log Z = " in capsys.readouterr().out
    compile(nessai, "page", "exec")


def test_notebooks(monkeypatch, capsys):
    settings = {"steps": 2, "num_validations": 2, "validation_share": 1.0}
    short = functools.partial(train, recipe("moons", training=settings), quiet=True)
    monkeypatch.setattr(realnvp, "train", lambda name, **options: short(**options), raising=False)
    first, result, callback = blocks("notebooks")
    names = run(result, run(first, {}))
    shown = names["result"]._repr_html_()
    assert "KL(true || model)" in shown
    assert '<img alt="learning curves" src="data:image/png' in shown
    run(callback, names)
    assert re.search(r"^2 torch.Size\(\[\d+, 2\]\)$", capsys.readouterr().out, flags=re.M)


def test_own_data_set(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fit, stripes, *_ = blocks("data-set")
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 16, 16), dtype=np.uint8)
    run(fit.replace("steps=1000", "steps=1, quiet=True"), {"images": images})
    Path("stripes.py").write_text(stripes)
    (command,) = blocks("data-set", "sh")
    monkeypatch.setattr(sys, "path", [*sys.path])
    try:
        words = command.replace("--steps 20", "--steps 2 --quiet").split()
        assert main(words[1:]) == 0
    finally:
        IMAGE_SETS.pop("stripes", None)
        sys.modules.pop("stripes", None)


def test_conditional_models():
    labels, numbers, bounded = blocks("conditional")
    names = run(labels.replace("10,", "2,"), {})
    assert names["threes"].shape == (2, 1, 28, 28)
    x = np.random.default_rng(0).normal(size=(60, 1))
    names = run(numbers, {"y": x + 0.1 * np.random.default_rng(1).normal(size=(60, 1)), "x": x})
    assert names["density"].sample(3, condition=[[0.5]]).shape == (3, 1)
    samples = run(bounded, {})["flow"].sample(100, condition=torch.zeros(100, 3))
    assert samples[:, 1].max() < 360


@pytest.mark.filterwarnings("ignore:.*dequantized:UserWarning")
def test_own_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    bad = rng.random(60) < 0.5
    columns = {"size": rng.normal(size=60) + 3 * bad, "diagnosis": np.where(bad, "bad", "good")}
    table, gaps = pd.DataFrame(columns), pd.DataFrame(columns)
    gaps.loc[::20, "size"] = np.nan
    code, given, monthly = blocks("tables")
    names = run(code, {"table": table, "table_with_gaps": gaps})
    assert not names["filled"].isna().any(axis=None)
    assert names["effective"].shape == (60,)
    assert (tmp_path / "model" / "model.safetensors").is_file()
    x = rng.normal(size=(80, 2))
    y = x[:, 0] + 0.1 * rng.normal(size=80)
    found = run(given, {**names, "X": x, "y": y, "x": x[0]})
    assert found["density"].score(y, condition=x) > 0
    june = table.assign(size=table["size"] + 1)
    own = {"june": june, "held_out": june, "detector": RealNVPOutlierDetector().fit(table)}
    monthly = monthly.replace("runs/may", "model").replace("0.001", "1.1")
    assert "new" in run(monthly, {**names, **own})


@pytest.mark.filterwarnings("ignore")  # of the web framework's own test client
def test_serving(tmp_path, monkeypatch):
    testclient = pytest.importorskip("fastapi.testclient")
    from sklearn.datasets import load_wine

    monkeypatch.chdir(tmp_path)
    fit, app = blocks("serving")
    table = load_wine(as_frame=True).data.iloc[:, :3]
    table.to_csv("wine.csv", index=False)
    run(fit, {})
    threads = torch.get_num_threads()
    client = testclient.TestClient(run(app, {"__name__": "app"})["app"])
    torch.set_num_threads(threads)
    rows = table[:4].to_dict("records")
    answer = client.post("/score", json=rows)
    assert answer.status_code == 200
    assert len(answer.json()) == 4
    assert client.post("/score", json=rows[:1]).json() == answer.json()[:1]
    wrong = client.post("/score", json=[{"alcohol": 13.0}])
    assert wrong.status_code == 422
    assert "malic_acid" in wrong.json()["detail"]


def test_engines(tmp_path, monkeypatch, capsys):
    pytest.importorskip("dask.dataframe")
    monkeypatch.chdir(tmp_path)
    one, dask, _, _, alarms = blocks("engines")
    random = np.random.default_rng(0)
    table = pd.DataFrame({"x": random.normal(size=900), "k": random.integers(0, 5, 900)})
    density = realnvp.RealNVPDensity(max_steps=5, mixture_init=1, random_state=0).fit(table[:200])
    density.calibrate(table[200:300], learned=table[:200]).save("model")
    table.loc[:99, "x"] = 60.0
    table.to_csv("rows.csv", index=False)
    scorer = run(one, {})["scorer"]
    (tmp_path / "on_dask.py").write_text(dask.replace('"processes"', '"synchronous"'))
    run((tmp_path / "on_dask.py").read_text(), {"__name__": "__main__"})
    capsys.readouterr()
    found = run(alarms, {})["scored"]
    pd.testing.assert_frame_equal(found, scorer(table), check_exact=False, rtol=1e-12)
    assert "60.0" in capsys.readouterr().out
