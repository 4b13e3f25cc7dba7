"""An estimate counts the time of validations, writes nothing, and works without Unix."""

from __future__ import annotations

import builtins
from dataclasses import replace
from typing import Any

import pytest

from realnvp.config import DataConfig, ImageModel, ImageRecipe, TrainingConfig
from realnvp.training import dry_run
from realnvp.training.dry_run import estimate

TINY = ImageRecipe(
    ImageModel(hidden=4, blocks=1),
    DataConfig(source="digits"),
    TrainingConfig(steps=1000, batch_size=32),
)


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    measure = dry_run._measure_steps
    monkeypatch.setattr(dry_run, "_measure_steps", lambda *given: measure(*given, most=3))


def test_steps_take_their_time_and_validations_their_share(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = estimate(TINY, quiet=True)
    assert found.steps == 1000
    assert found.minutes == pytest.approx(found.steps * found.seconds_per_step / 60 / 0.9)
    assert found.parameters > 0
    assert found.flops_per_example > 0
    assert list(tmp_path.iterdir()) == []


def test_a_budget_of_minutes_is_that_of_all():
    minutes = replace(TINY, training=TrainingConfig(minutes=2.0, batch_size=32))
    found = estimate(minutes, quiet=True)
    assert found.minutes == pytest.approx(2, rel=0.02)
    assert found.steps == pytest.approx(60 * 0.9 * 2 / found.seconds_per_step, abs=1)


def test_where_the_system_does_not_say_the_memory_is_unknown(monkeypatch):
    import_module = builtins.__import__

    def windows(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "resource":
            raise ImportError(name)
        return import_module(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", windows)
    assert dry_run._peak_of_process() == 0


def test_several_processes_are_refused(monkeypatch):
    two = replace(TINY, training=TrainingConfig(steps=300, batch_size=32, devices=2))
    with pytest.raises(ValueError, match="leave torchrun, --devices"):
        estimate(two, quiet=True)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    with pytest.raises(ValueError, match="leave torchrun, --devices"):
        estimate(TINY, quiet=True)
