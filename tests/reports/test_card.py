"""The card of a model, and the files beside it: what is said of a model is true of its weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

import realnvp
from realnvp import recipe, train
from realnvp.config import DataConfig
from realnvp.model_info import ModelInfo
from realnvp.outliers import calibrate
from realnvp.reports.card import facts_of, write_repository
from realnvp.reports.run import Run


@pytest.fixture(scope="module")
def moons(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "moons"
    settings = {"steps": 4, "num_validations": 2}
    train(recipe("moons", training=settings), folder, quiet=True)
    return folder


def card_of(folder: Path) -> tuple[dict, str]:
    _, head, text = (folder / "README.md").read_text("utf-8").split("---\n", 2)
    return yaml.safe_load(head), text


def test_a_run_brings_its_numbers_recipe_and_curve(moons, tmp_path):
    write_repository(realnvp.load(moons), tmp_path, "me/moons", license="mit")
    run = Run.open(moons)
    head, text = card_of(tmp_path)
    [model] = head["model-index"]
    [result] = model["results"]
    assert (model["name"], head["license"], result["dataset"]["name"]) == ("moons", "mit", "moons")
    assert result["metrics"][0]["value"] == pytest.approx(run.final["nats"], abs=1e-6)
    assert f"{run.final['nats']:.4f} ± " in text
    assert r"KL(true \|\| model), nats" in text
    assert "10,000 examples (test)" in text
    assert 'realnvp.load("hf://me/moons")' in text
    shown = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])
    assert shown == yaml.safe_load((moons / "config.yaml").read_text())
    assert (tmp_path / "curves.png").read_bytes() == (moons / "curves.png").read_bytes()
    with Image.open(tmp_path / "samples.png") as image:
        assert min(image.size) > 200


def test_other_weights_than_the_run_s_get_no_numbers(moons, tmp_path):
    flow = realnvp.load(moons)
    assert facts_of(flow) is not None
    with torch.no_grad():
        next(flow.parameters()).add_(1e-3)
    assert facts_of(flow) is None
    write_repository(flow, tmp_path, "me/moons")
    head, text = card_of(tmp_path)
    assert "model-index" not in head
    assert "nats (log-density)" not in text
    assert not (tmp_path / "curves.png").exists()


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_a_shipped_model_brings_its_card(name, tmp_path):
    write_repository(realnvp.load(name), tmp_path, f"me/{name}")
    head, text = card_of(tmp_path)
    [result] = head["model-index"][0]["results"]
    value = realnvp.pretrained.cards()[name]["value"]
    assert result["metrics"][0]["value"] == pytest.approx(value, abs=1e-6)
    assert head["pipeline_tag"] == "unconditional-image-generation"
    assert "```sh\nrealnvp train " in text
    code = text.partition("```python\n")[2].partition("```")[0]
    names: dict = {}
    exec(code.replace(f"hf://me/{name}", str(tmp_path)), names)
    assert names["x"].shape[0] == 4


def test_a_table_keeps_its_training_rows_at_home(tmp_path):
    flow = realnvp.vector_flow(2, couplings=2, hidden=4).eval()
    flow.trained_on = ModelInfo(DataConfig("/home/me/a.csv"), columns=["age", "a|b"])
    from realnvp.data import Split

    rows = Split(torch.randn(60, 2))
    flow.calibration = calibrate(flow, rows, rows).as_tensors()
    assert "rows" in flow.calibration
    for included in (False, True):
        folder = tmp_path / str(included)
        write_repository(flow, folder, "me/table", training_rows=included)
        assert (folder / "calibration.safetensors").is_file() is included
        back = realnvp.load(folder)
        assert back.trained_on.data.source == "a.csv"
        assert (back.calibration is not None) is included
