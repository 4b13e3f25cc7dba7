"""State that is read out of a model and put back, or refused before anything is changed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from realnvp.config import TrainingConfig
from realnvp.flow import Flow
from realnvp.recipes import load_recipe
from realnvp.training.checkpoint import capture, restore, snapshot
from realnvp.training.optim import EMA, make_optimizer
from realnvp.training.train import train
from realnvp.utils import serialization


def parts(seed: int = 0) -> tuple[Flow, torch.optim.Optimizer, EMA]:
    torch.manual_seed(seed)
    flow = load_recipe("moons", model={"hidden": 4, "couplings": 2}).build(2)
    optimizer = make_optimizer(flow, TrainingConfig(steps=1))
    ema = EMA(flow, 0.9)
    sum(flow.loss_terms(torch.randn(8, 2)).values()).backward()  # type: ignore[union-attr]
    optimizer.step()
    ema.update()
    return flow, optimizer, ema


def test_what_was_captured_is_restored():
    first, second = parts(0), parts(1)
    state = snapshot(capture(*first))
    restore(state, *second)
    again = capture(*second)
    serialization.check_like(again, state, "state")
    assert serialization.to_bytes(again) == serialization.to_bytes(state)


def test_a_snapshot_does_not_change_with_the_training():
    flow, optimizer, ema = parts()
    state = snapshot(capture(flow, optimizer, ema))
    before = serialization.to_bytes(state)
    optimizer.step()
    ema.update()
    assert serialization.to_bytes(state) == before
    assert serialization.to_bytes(capture(flow, optimizer, ema)) != before


def test_another_models_state_changes_nothing():
    flow, optimizer, ema = parts()
    state = snapshot(capture(flow, optimizer, ema))
    state["average"].popitem()
    before = serialization.to_bytes(capture(flow, optimizer, ema))
    with pytest.raises(ValueError, match="average"):
        restore(state, flow, optimizer, ema)
    assert serialization.to_bytes(capture(flow, optimizer, ema)) == before


def test_a_run_of_an_earlier_format_is_refused_in_one_line_and_left_alone(tmp_path, monkeypatch):
    recipe = load_recipe("moons", training={"steps": 2})
    with monkeypatch.context() as old:
        old.setattr(serialization, "FORMAT", 1)
        train(recipe, tmp_path / "run", quiet=True)
    files = [p for p in (tmp_path / "run").rglob("*.*") if p.name != "holder.txt" and p.is_file()]
    before: dict[Path, bytes] = {path: path.read_bytes() for path in files}
    longer = load_recipe("moons", training={"steps": 4})
    with pytest.raises(ValueError, match="version of realnvp that began it") as caught:
        train(longer, tmp_path / "run", resume=True, quiet=True)
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in files} == before
