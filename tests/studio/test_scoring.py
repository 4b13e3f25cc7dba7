"""The tab of scores, driven in a browser; and the terms that it draws."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import realnvp
from realnvp.cli.main import main
from realnvp.data import Split
from realnvp.outliers.calibration import statistics_by_block


def test_terms_add_up_to_the_scores():
    from realnvp.studio.scoring import _log_prob_terms

    flow = realnvp.load("digits")
    x = flow.sample(5, generator=torch.Generator().manual_seed(0))
    split = Split(x, flow.classify(x) if flow.classes else None)
    _, terms = _log_prob_terms(flow, split)
    ((_, found),) = statistics_by_block(flow, split)
    np.testing.assert_allclose(sum(terms.values()).numpy(), found["bound"], rtol=1e-6)


def test_an_image_is_scored_among_the_others(page, tmp_path):
    page.choose_model("digits")
    Image.effect_noise((8, 8), 120).save(tmp_path / "noise.png")
    page.tab("Score")
    page.upload("#score-files", tmp_path / "noise.png")
    page.click("#score-go")
    for part in ("seen", "histogram", "heat"):
        page.picture(f"#score-{part}")
    page.text("#score-table", "noise.png", "bits/dim")
    page.text("#score-note", "Compared with 257 held-out examples of digits")


def test_there_is_something_to_try_without_a_file(page):
    page.choose_model("digits")
    page.tab("Score")
    page.draw("#score-strange", "#score-heat")
    page.text("#score-note", "12 images of noise", "realnvp score digits")
    page.choose_model("moons")
    page.tab("Score")
    page.click("#score-strange")
    page.text("#score-note", "12 examples with shuffled columns")
    page.text("#score-why", "x1", "x2")
    page.draw("#score-samples", "#score-histogram")
    page.text("#score-note", "12 samples of seed 0")


@pytest.mark.parametrize("model", ["moons", "digits"])
def test_scores_are_those_of_the_command_line(page, tmp_path, model):
    if model == "moons":
        file, column = tmp_path / "t.csv", "log_likelihood"
        file.write_text("x1,x2\n0.5,0.2\n3,4\n")
    else:
        file, column = tmp_path / "t.npz", "bits_per_dim"
        np.savez(file, images=np.random.default_rng(0).integers(0, 17, (2, 8, 8), np.uint8))
    page.open()  # without an earlier test's files
    page.choose_model(model)
    page.tab("Score")
    page.upload("#score-files", file)
    page.click("#score-go")
    page.text("#score-note", "2 examples. Compared with")
    out = tmp_path / "s.csv"
    assert main(["score", model, "--data", str(file), "--out", str(out)]) == 0
    table = pd.read_csv(out)
    for row in table.to_dict("records"):
        log_p, score, p = row[column], row["outlier_score"], row["p_value"]
        page.text("#score-table", f"{log_p:.4f}", f"{score:.4g}", f"{p:.4f}")


@pytest.mark.parametrize(
    ("content", "message"),
    [("a,b,c\n1,2,3\n4,6,5\n9,1,1\n", "holds vectors of 3 columns"), ("", "t.csv")],
)
def test_a_table_that_does_not_fit_gets_the_line_of_the_command_line(
    page, tmp_path, content, message
):
    (tmp_path / "t.csv").write_text(content)
    page.open()  # without an earlier test's files
    page.choose_model("moons")
    page.tab("Score")
    page.upload("#score-files", tmp_path / "t.csv")
    page.click("#score-go")
    error = page.error()
    assert message in error
    assert "Traceback" not in error
