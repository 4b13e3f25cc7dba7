"""The report: one file, whole, about one run or several."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from realnvp import Chain, Flow, recipe, train
from realnvp.bijections import Affine
from realnvp.config import DataConfig
from realnvp.data import Split, as_dataset, load_data
from realnvp.model_info import ModelInfo
from realnvp.reports.findings import measure
from realnvp.reports.headline import gaussian_nats, webp_bits_per_dim
from realnvp.reports.report import write_report
from realnvp.reports.run import Run
from realnvp.training.callbacks import ReportWriter

SMALL = {"hidden": 4, "blocks": 0, "couplings": 2, "mixture_init": 1}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for name, steps in (("a", 4), ("b", 6)):
        chosen = recipe("moons", training={"steps": steps}, model=SMALL, data={"points": 500})
        train(chosen, folder / name, quiet=True)
    return folder


def sections(html: str) -> list[str]:
    return re.findall(r"<h2 id[^>]*>(.*?)</h2>", html)


def test_a_report_of_one_run_holds_all_that_it_shows(runs, tmp_path):
    html = write_report([Run.open(runs / "a")], tmp_path / "r.html").read_text()
    assert sections(html) == [
        "Summary", "Numbers", "Curves", "Samples", "Real and synthetic", "Latents", "Calibration",
        "Hardest and easiest held-out examples", "Settings", "Layers",
    ]  # fmt: skip
    assert re.search(
        r"nats from the true density, by KL\(true \|\| model\) on [\d,]+ test rows\.", html
    )
    assert "The data are moons: 2 columns, x1, x2." in html
    assert f"realnvp train {runs}/a/config.yaml --out {runs}/a-again" in html
    assert "training.lr" in html
    # Nothing is asked for from elsewhere.
    assert not re.findall(r"""(?:src|href)=["'](?!data:image/png;base64,|#)""", html)
    assert "@import" not in html
    assert "url(" not in html
    assert "<script" not in html


def test_several_runs_are_side_by_side(runs, tmp_path):
    both = [Run.open(runs / "a"), Run.open(runs / "b")]
    html = write_report(both, tmp_path / "r.html").read_text()
    assert sections(html)[:3] == ["Summary", "Numbers", "Comparison"]
    assert html.count("<h3>a</h3>") == html.count("<h3>b</h3>") > 5
    assert "<td>training.steps</td>" in html


def test_images_are_in_the_report_of_an_image_model(tmp_path):
    chosen = recipe("digits", model={"hidden": 4, "blocks": 1}, training={"steps": 4})
    final = {"kind": "final", "step": 4, "seconds": 1, "loss": 2.0, "part": "test", "examples": 257}
    run = Run(tmp_path / "<run>", {"kind": "image"}, [final], "<run>")
    run.flow = chosen.build((1, 8, 8), 17).eval()
    run.flow.trained_on = ModelInfo(DataConfig("digits"))
    html = write_report([run], tmp_path / "r.html").read_text()
    for title in ("Samples", "Scales", "Interpolation", "Hardest and easiest held-out examples"):
        assert title in sections(html)
    assert "2.00 bits/dim on 257 test images: 51 % below a uniform model (4.09), " in html
    assert "above lossless WebP on 200 of them" in html
    assert "temperature 0.7" in html
    assert "<run>" not in html, "names are escaped"
    assert len(html) < 1_000_000


def test_one_held_out_image_is_neither_hard_nor_easy(tmp_path):
    chosen = recipe("digits", model={"hidden": 4, "blocks": 1})
    run = Run(tmp_path / "run", {"kind": "image"}, [], "run")
    run.flow = chosen.build((1, 8, 8), 17).eval()
    one = load_data(chosen.data).test.select(torch.tensor([0]))
    html = write_report([run], tmp_path / "r.html", held_out=("test", one)).read_text()
    assert "Calibration" in sections(html)
    assert "Hardest and easiest held-out examples" not in sections(html)


def test_without_the_data_the_rest_is_reported(runs, tmp_path):
    run = Run.open(runs / "a")
    assert run.flow is not None
    run.flow.trained_on = None
    html = write_report([run], tmp_path / "r.html").read_text()
    assert "no examples are looked at, since its data were in memory only" in html
    assert sections(html) == ["Summary", "Numbers", "Curves", "Settings", "Layers"]


def test_the_training_writes_a_report_with_data_that_are_in_memory(tmp_path):
    import torch

    chosen = recipe("table", data={"source": "-"}, model=SMALL, training={"steps": 2})
    data = as_dataset(torch.randn(300, 3), chosen.data)
    train(chosen, tmp_path / "run", data=data, quiet=True, callbacks=[ReportWriter(quiet=True)])
    html = (tmp_path / "run" / "report.html").read_text()
    assert "Real and synthetic" in sections(html)
    assert "The data were in memory: 3 columns, x1, x2, x3." in html
    assert "-again" not in html


def test_numbers_are_compared_with_their_best_gaussian():
    flow = Flow(Chain(Affine(torch.zeros(2), torch.ones(2))), (2,))
    x = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
    found = measure(flow, "test", Split(x))
    nats = multivariate_normal(x.mean(0), np.cov(x.T, bias=True)).logpdf(x).mean()
    assert gaussian_nats(found) == pytest.approx(nats, abs=1e-6)
    assert gaussian_nats(measure(flow, "test", Split(x[:, [0, 0]]))) is None


def test_lossless_webp_is_compared_where_it_has_such_images():
    noise = torch.randint(256, (10, 3, 8, 8))
    assert webp_bits_per_dim(torch.zeros_like(noise), 256) < 1 < 7.9 < webp_bits_per_dim(noise, 256)
    assert webp_bits_per_dim(noise, 512) is None
    assert webp_bits_per_dim(noise[:, :2], 256) is None


def test_a_report_that_fails_costs_no_training(tmp_path, monkeypatch, capsys):
    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device", "report.html")

    monkeypatch.setattr("realnvp.training.callbacks.write_report", fail)
    chosen = recipe("moons", model=SMALL, training={"steps": 2}, data={"points": 500})
    done = train(chosen, tmp_path / "run", quiet=True, callbacks=[ReportWriter(quiet=True)])
    assert done.steps == 2
    assert "warning: no report was written: No space left" in capsys.readouterr().err
