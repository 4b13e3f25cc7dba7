"""Lightning's loggers, and callbacks from outside of the package."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from PIL import Image

from realnvp import recipe, train
from realnvp.training.tracking import lightning_logger


class Recorder:
    """A logger with the methods of Lightning's for Weights & Biases."""

    def __init__(self) -> None:
        self.settings, self.metrics, self.images, self.ended = {}, [], [], []

    def log_hyperparams(self, settings):
        self.settings = settings

    def log_metrics(self, metrics, step):
        self.metrics.append((step, metrics))

    def log_image(self, key, images, step):
        self.images += images

    def finalize(self, status):
        self.ended.append(status)


def small():
    return recipe(
        "moons", model={"hidden": 4, "couplings": 2}, data={"points": 200},
        training={"steps": 2, "num_validations": 1},
    )  # fmt: skip


def test_a_logger_gets_settings_numbers_and_pictures():
    logger = Recorder()
    result = train(small(), quiet=True, logger=logger)
    assert logger.settings["training.steps"] == 2
    numbers = {name: value for _, metrics in logger.metrics for name, value in metrics.items()}
    assert numbers["final/loss"] == result.likelihood.loss
    assert all(isinstance(image, Image.Image) for image in logger.images)
    assert logger.images
    assert logger.ended == ["success"]


def test_a_service_that_is_down_is_warned_of_once(capsys):
    logger = Recorder()

    def fail(*args, **kwargs):
        raise ConnectionError("no route")

    logger.log_metrics = logger.log_image = fail
    assert train(small(), quiet=True, logger=logger).steps == 2
    assert capsys.readouterr().err.count("Recorder failed (no route)") == 1


def test_what_is_not_installed_is_named(monkeypatch, tmp_path):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr("realnvp.training.tracking.import_module", missing)
    with pytest.raises(ValueError, match="pip install pytorch-lightning wandb"):
        lightning_logger("wandb", tmp_path)


def test_the_run_has_the_name_of_its_folder(monkeypatch, tmp_path):
    found = {}
    loggers = SimpleNamespace(
        WandbLogger=lambda **k: found.update(wandb=k),
        MLFlowLogger=lambda **k: found.update(ml=k),
        get_tracking_uri=lambda: "sqlite:///mlflow.db",
    )
    monkeypatch.setattr("realnvp.training.tracking.import_module", lambda name: loggers)
    for name in ("wandb", "mlflow"):
        lightning_logger(name, tmp_path / "mine")
    assert found["wandb"]["name"] == found["ml"]["run_name"] == "mine"
    assert found["ml"]["tracking_uri"] == "sqlite:///mlflow.db"


def test_a_service_that_cannot_begin_is_one_line_and_leaves_no_run(monkeypatch, tmp_path):
    def fail(**options):
        raise RuntimeError("no such\nserver")

    loggers = SimpleNamespace(WandbLogger=fail)
    monkeypatch.setattr("realnvp.training.tracking.import_module", lambda name: loggers)
    with pytest.raises(ValueError, match="--logger wandb: no such server"):
        train(small(), tmp_path / "run", quiet=True, logger="wandb")
    assert not (tmp_path / "run" / "config.yaml").exists()
