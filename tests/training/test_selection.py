"""Which validation is the best, when to warn, and when to end."""

from __future__ import annotations

import math

import pytest
import torch

from realnvp.evaluation import Likelihood
from realnvp.training.selection import WORSE, Selection


def result(loss: float, standard_error: float = 0.1) -> Likelihood:
    return Likelihood(100, standard_error, 1, bits_per_dim=loss)


def after(*losses: float, patience: int | None = None) -> Selection:
    selection = Selection(patience)
    for step, loss in enumerate(losses, start=1):
        selection.add(result(loss), step, lambda step=step: {"w": torch.tensor(step)})
    return selection


def test_the_weights_are_those_of_the_smallest_loss():
    selection = after(3.0, 2.0, 2.5, 2.0)
    assert (selection.loss, selection.step, selection.worse) == (2.0, 2, 2)
    assert selection.weights == {"w": torch.tensor(2)}
    assert selection.result == result(2.0)


def test_a_validation_that_is_not_finite_is_never_the_best():
    selection = after(math.nan, math.inf)
    assert (selection.weights, selection.result, selection.worse) == (None, None, 2)
    assert selection.message(result(math.nan), "nats", 1.0) is None


@pytest.mark.parametrize("patience", [None, 1, 2, 3])
def test_patience_ends_training(patience):
    selection = after(2.0, 2.5, 2.5, patience=patience)
    assert selection.is_out_of_patience == (patience in (1, 2))


def test_a_warning_is_given_once_and_not_for_chance():
    selection = after(2.0, *[2.1] * WORSE)
    assert selection.message(result(2.1, 0.1), "bits/dim", 1.0) is None  # one standard error
    message = selection.message(result(2.1, 0.01), "bits/dim", 1.0)
    assert message is not None
    assert message.startswith("the last 5 validations are worse than that of step 1 (2.0000 bits")
    assert "--training.patience ends it earlier" in message
    assert selection.message(result(2.1, 0.01), "bits/dim", 1.0) is None
    selection.add(result(1.0), 10, dict)
    for step in range(WORSE):
        selection.add(result(1.5), 11 + step, dict)
    assert selection.message(result(1.5, 0.01), "bits/dim", 1.0) is not None  # a new best one


def test_with_patience_the_end_is_announced_and_nothing_before():
    selection = after(-2.0, *[-1.0] * WORSE, patience=WORSE + 1)
    assert selection.message(result(-1.0, 0.01), "nats", -1.0) is None
    selection.add(result(-1.0), 9, dict)
    message = selection.message(result(-1.0, 0.01), "nats", -1.0)
    assert message is not None
    assert "(2.0000 nats)" in message
    assert "training ends here" in message


def test_a_resumed_selection_goes_on():
    first = after(2.0, 2.5)
    second = Selection(3)
    second.load_state_dict({**first.state_dict(), "best_weights": first.weights})
    second.add(result(2.2), 3, dict)
    assert (second.loss, second.step, second.worse) == (2.0, 1, 2)
    assert second.weights == first.weights
    assert second.result is None  # not evaluated in this session
