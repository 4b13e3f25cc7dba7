"""Evaluation mode: nested, from several threads, after an error, and in copies."""

from __future__ import annotations

import copy
import threading

import pytest
from torch import nn

from realnvp.utils.evaluation_mode import EvaluationMode, modules


def test_the_modes_before_are_restored_after_nesting_and_errors():
    module, mode = nn.Sequential(nn.Dropout(), nn.Dropout().eval()), EvaluationMode()
    with mode.of(module), mode.of(module):
        assert not any(m.training for m in module.modules())
    assert [m.training for m in module.modules()] == [True, True, False]
    with pytest.raises(KeyError), mode.of(module):
        raise KeyError
    assert [m.training for m in module.modules()] == [True, True, False]


def test_the_last_thread_that_leaves_restores():
    module, mode = nn.Dropout(), EvaluationMode()
    inside, leave = threading.Event(), threading.Event()

    def wait() -> None:
        with mode.of(module):
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=wait)
    thread.start()
    assert inside.wait(10)
    with mode.of(module):
        assert not module.training
    assert not module.training  # the other thread still needs it
    leave.set()
    thread.join()
    assert module.training


def test_modules_are_those_of_pytorch():
    shared = nn.Linear(2, 2)
    module = nn.Sequential(shared, nn.Sequential(nn.Dropout(), shared), nn.ModuleList())
    module.register_module("none", None)
    assert set(modules(module)) == set(module.modules())


def test_a_copy_is_independent():
    module, mode = nn.Dropout(), copy.deepcopy(EvaluationMode())
    with mode.of(module):
        assert not module.training
    assert module.training
