"""Trainings of tests."""

from __future__ import annotations

from functools import partial

from realnvp.training.train import train as train_and_report

__all__ = ["train"]

train = partial(train_and_report, report=False)
"""``realnvp.train`` without its report, which takes longer than a small training."""
