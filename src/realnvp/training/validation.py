"""How often a training validates, and on how many examples, so that training gets most of the time.

A validation evaluates held-out examples with the averaged weights; at some of them, samples are
drawn for a picture. All of this may take the fraction ``validation_share`` of a training, a tenth
by default: half of it for evaluations and half for pictures. When it does not suffice, validations
first use fewer examples, and then there are fewer of them.

With a budget of steps or epochs, the plan is a function of the settings alone, by the guesses
:data:`EVALUATED` and :data:`SAMPLED`. It must not depend on the clock, since a resumed run has to
equal an uninterrupted one bit for bit. With a budget of minutes everything is measured, and half
of the share is kept for the final evaluation.
"""

from __future__ import annotations

import math
from typing import Any

from realnvp.utils.serialization import check_like

__all__ = ["EVALUATED", "FEWEST", "SAMPLED", "ValidationPlan", "plan"]

EVALUATED = 0.4
"""Cost of evaluating an example relative to training on it: a forward pass without gradients."""


SAMPLED = 1.0
"""Cost of drawing a sample relative to training on an example."""


FEWEST = 200
"""Examples below which validations become fewer instead of smaller."""


def plan(
    trained: float, times: int, examples: int, samples: int, share: float
) -> tuple[int, int, int]:
    """Choose how many validations there are, of how many examples, and how many pictures.

    Args:
        trained: number of examples of all training steps together.
        times: largest number of validations.
        examples: largest number of examples of a validation.
        samples: number of samples of a picture.
        share: largest fraction of the time that all of this may take; 1 does not limit it.

    Returns:
        number of validations, at least 1; examples of each; and number of pictures, at least 1.

    >>> plan(640_000, times=20, examples=2000, samples=100, share=0.1)
    (20, 2000, 20)
    >>> plan(60_000, times=20, examples=2000, samples=100, share=0.1)
    (20, 416, 20)
    >>> plan(6_000, times=20, examples=2000, samples=100, share=0.1)
    (4, 200, 3)
    """
    if share >= 1 or math.isinf(trained):
        return times, examples, times
    half = trained * share / (1 - share) / 2
    used = int(min(examples, max(half / times / EVALUATED, FEWEST)))
    times = max(1, min(times, int(half / (EVALUATED * used))))
    return times, used, max(1, min(times, int(half / (SAMPLED * samples))))


class ValidationPlan:
    """The validations of one training.

    Args:
        times: largest number of validations.
        examples: largest number of examples of a validation.
        samples: number of samples of a picture.
        share: largest fraction of the time that validations may take; 1 does not limit it.
        minutes: budget of the training in minutes; None if only steps or epochs limit it.

    Attributes:
        times: number of validations, spread evenly over the budget.
        examples: number of examples of each.
        pictures: number of pictures, spread evenly over the validations.
        is_chosen: True once the plan is final.
        per_example: seconds to evaluate one example, 0 before it is known.
    """

    def __init__(
        self, times: int, examples: int, samples: int, share: float, minutes: float | None
    ) -> None:
        self.times, self.examples, self.pictures = times, examples, times
        self.is_chosen = False
        self.per_example = 0.0
        self._samples, self._share = samples, share
        self._total = None if minutes is None else 60 * minutes
        self._has_examples = False
        self._evaluation = self._picture = 0.0  # seconds that the latest one took
        self._evaluations = self._pictures = 0.0  # seconds that all of them took

    def choose(self, trained: float) -> None:
        """Make the plan.

        The number of examples is kept once a validation has used it, also by a resumed run with
        another budget: means over different examples could not be compared.

        Args:
            trained: number of examples of all training steps together.
        """
        share = self._share if self._total is None or self._share >= 1 else self._share / 2
        times, examples, self.pictures = plan(
            trained, self.times, self.examples, self._samples, share
        )
        self.times = times
        self.examples = self.examples if self._has_examples else examples
        self.is_chosen = True

    def affords_validation(self, progress: float) -> bool:
        """Return True if there is time for another validation at this fraction of the budget."""
        return self._affords(self._evaluations + self._evaluation, progress)

    def affords_picture(self, before: float, progress: float) -> bool:
        """Return True if a picture is due at this validation, and there is time for it.

        Args:
            before: fraction of the budget that was used before the latest step.
            progress: fraction of the budget that is used now.
        """
        first, last = (math.floor(x * self.times) * self.pictures for x in (before, progress))
        is_due = last // self.times > first // self.times
        return is_due and self._affords(self._pictures + self._picture, progress)

    def is_due(self, before: float, progress: float) -> bool:
        """Return True if a validation lies between these two fractions of the budget."""
        return math.floor(progress * self.times) > math.floor(before * self.times)

    def _affords(self, seconds: float, progress: float) -> bool:
        if self._total is None or self._share >= 1 or progress >= 1:
            return True
        return seconds <= self._share / 4 * self._total * progress

    def add(self, evaluation: float, picture: float) -> None:
        """Count the seconds of a validation's evaluation and of its picture, 0 if it had none."""
        self._has_examples = True
        self._evaluation, self.per_example = evaluation, evaluation / self.examples
        self._picture = picture or self._picture
        self._evaluations, self._pictures = self._evaluations + evaluation, self._pictures + picture

    def reserve(self, held_out: int, factor: float) -> float:
        """Return the seconds to keep for the last validation and the final evaluation.

        Args:
            held_out: number of all held-out examples.
            factor: time of the final evaluation of an example relative to that of a validation.
        """
        if self._total is None:
            return 0.0
        last = self._evaluation + self._picture
        return min(factor * self.per_example * held_out + last, self._share / 2 * self._total)

    def affordable(self, seconds: float, held_out: int, factor: float) -> int:
        """Return how many held-out examples can be evaluated in what is left of the budget.

        Args:
            seconds: seconds that the training has taken.
            held_out: number of all held-out examples.
            factor: time of the final evaluation of an example relative to that of a validation.
        """
        if self._total is None or not self.per_example or self._share >= 1:
            return held_out
        left = max(self._total - seconds, 0.0) / (factor * self.per_example)
        return int(min(held_out, max(left, self.examples)))

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs."""
        return {
            "examples": self.examples if self._has_examples else 0,
            "per_example_seconds": self.per_example,
            "evaluation_seconds": self._evaluation,
            "picture_seconds": self._picture,
            "evaluations_seconds": self._evaluations,
            "pictures_seconds": self._pictures,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint.

        Raises:
            ValueError: if the state is damaged.
        """
        check_like(state, self.state_dict(), "validation")
        if state["examples"]:
            self.examples, self._has_examples = min(self.examples, state["examples"]), True
        self.per_example = state["per_example_seconds"]
        self._evaluation, self._picture = state["evaluation_seconds"], state["picture_seconds"]
        self._evaluations = state["evaluations_seconds"]
        self._pictures = state["pictures_seconds"]
