"""Model selection by validation: the best weights so far, and early stopping.

The weights that a run returns are those of its best validation. Later ones that are worse may be
so by chance, or because the model memorizes its training examples. With a ``patience``, training
ends after that many in a row; without, the user is warned once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from realnvp.evaluation import Likelihood

WORSE = 5
"""Number of consecutive validations worse than the best one after which a message is shown."""


class Selection:
    """The best validation of a run, and how many have been worse since.

    Args:
        patience: number of consecutive validations that are no better than the best one after which
            training ends; None never ends it.

    Attributes:
        loss: smallest validation loss so far, in nats per example or bits/dim.
        step: step of that validation.
        worse: number of validations since.
        weights: weights that it evaluated, None before the first finite one.
        result: its result, if it was in this session.

    >>> selection = Selection(patience=2)
    >>> for step, loss in enumerate([3.0, 2.0, 2.5, 2.5]):
    ...     selection.add(Likelihood(100, 0.1, 1, bits_per_dim=loss), step, dict)
    >>> selection.loss, selection.step, selection.worse, selection.is_out_of_patience
    (2.0, 1, 2, True)
    """

    def __init__(self, patience: int | None = None) -> None:
        self.patience = patience
        self.loss, self.step, self.worse = math.inf, 0, 0
        self.weights: dict[str, Tensor] | None = None
        self.result: Likelihood | None = None
        self._warned_of = -1  # step of the best validation in the latest warning

    def add(self, result: Likelihood, step: int, weights: Callable[[], dict[str, Tensor]]) -> None:
        """Count a validation, and keep its weights if it is the best.

        Args:
            result: its result.
            step: number of training steps before it.
            weights: returns copies of the weights that it evaluated.
        """
        self.worse += 1
        if result.loss < self.loss:
            self.loss, self.step, self.worse = result.loss, step, 0
            self.weights, self.result = weights(), result

    @property
    def is_out_of_patience(self) -> bool:
        """Whether the last ``patience`` validations did not improve on the best one."""
        return self.patience is not None and self.worse >= self.patience

    def message(self, latest: Likelihood, unit: str, sign: float) -> str | None:
        """Return a message if validations are getting worse; None if there is nothing new to say.

        Args:
            latest: result of the latest validation.
            unit: unit of the losses.
            sign: 1, or -1 to show log-densities rather than losses.
        """
        error = latest.standard_error  # not finite for one example
        by_chance = math.isfinite(error) and latest.loss - self.loss < 2 * error
        silent = self.worse < WORSE or by_chance or self._warned_of == self.step
        silent |= self.patience is not None  # the user has set how long to wait
        if math.isinf(self.loss) or (silent and not self.is_out_of_patience):
            return None
        self._warned_of = self.step
        kept = (
            f"the last {self.worse} validations are worse than that of step {self.step:,} "
            f"({sign * self.loss:.4f} {unit}), whose weights are kept: "
        )
        if self.is_out_of_patience:
            return kept + "training ends here (--training.patience null continues)"
        return kept + (
            "training continues, but may only memorize the training examples "
            "(--training.patience ends it earlier)"
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs, except for the weights."""
        return {"best": self.loss, "best_step": self.step, "worse": self.worse}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint, which also holds the weights, as "best_weights"."""
        self.loss, self.step, self.worse = state["best"], state["best_step"], state["worse"]
        self.weights = state["best_weights"]
