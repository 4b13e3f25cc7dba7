"""``realnvp check``."""

from __future__ import annotations

import pytest
import torch

from helpers.command import json_of, run
from realnvp import image_flow
from realnvp.bijections import ActNorm
from realnvp.cli.main import main
from realnvp.config import DataConfig
from realnvp.model_info import ModelInfo


@pytest.mark.parametrize("name", ["digits", "moons"])
def test_a_right_model_passes(runs, name, capsys):
    run(f"check {runs / name} --json -n 8")
    result = json_of(capsys)
    assert result["wrong"] == []
    assert any(layer["log_det_error"] is not None for layer in result["layers"])
    run(f"check {runs / name} -n 8")
    assert "every layer inverts" in capsys.readouterr().out


def test_a_broken_model_is_found(runs, here, monkeypatch, capsys):
    forward = ActNorm.forward
    monkeypatch.setattr(
        ActNorm, "forward", lambda self, x, c=None: (forward(self, x)[0], torch.ones(len(x)).to(x))
    )
    assert main(["check", str(runs / "moons"), "-n", "8"]) == 1
    assert "wrong layers: layers.2" in capsys.readouterr().out


def test_learned_noise_and_mixtures(here, capsys):
    flow = image_flow(
        (1, 8, 8), levels=17, hidden=4, blocks=1, coupling="logistic_mixture",
        dequantization="variational", split_prior=True, norm="act", classes=10,
    )  # fmt: skip
    flow.trained_on = ModelInfo(DataConfig("digits", condition="label"))
    flow.save_pretrained("m")
    run("check m")
    assert "LogisticMixture" in capsys.readouterr().out
