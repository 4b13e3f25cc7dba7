"""Number and size of validations, so that most of the time is spent on training.

A validation evaluates held-out examples with the averaged weights; at some of them, samples are
drawn for a picture. All of this may take the fraction ``validation_share`` of a run, a tenth by
default: half of it for evaluations and half for pictures. If that is not enough, validations first
use fewer examples, and then there are fewer of them.

With a budget of steps or epochs, the plan is a function of the settings alone, with the estimates
:data:`EVALUATED` and :data:`SAMPLED`. It must not depend on the clock, since a resumed run has to
equal an uninterrupted one bit for bit. With a budget of minutes everything is measured, and half of
the share is kept for the final evaluation.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from realnvp.utils.serialization import check_like

EVALUATED = 0.4
"""Cost of evaluating an example relative to training on it: a forward pass without gradients."""


SAMPLED = 1.0
"""Cost of drawing a sample relative to training on an example."""


FEWEST = 200, 50, 10
"""Number of examples below which validations become fewer instead of smaller; examples of a single
validation; and samples of a single picture."""


class Plan(NamedTuple):
    """Number of validations, examples of each, number of pictures, and samples of each."""

    times: int
    examples: int
    pictures: int
    samples: int


def plan(most: Plan, trained: float, share: float) -> Plan:
    """Choose as many validations and pictures as a fraction of the time allows.

    Args:
        most: largest numbers.
        trained: number of examples of all training steps together.
        share: largest fraction of the time; 1 does not limit it.

    Returns:
        the numbers, each at least 1.

    >>> most = Plan(times=20, examples=2000, pictures=20, samples=100)
    >>> plan(most, trained=640_000, share=0.1)
    Plan(times=20, examples=2000, pictures=20, samples=100)
    >>> plan(most, trained=60_000, share=0.1)
    Plan(times=20, examples=416, pictures=20, samples=100)
    >>> plan(most, trained=6_000, share=0.1)
    Plan(times=4, examples=200, pictures=3, samples=100)
    >>> plan(most, trained=600, share=0.1)
    Plan(times=1, examples=83, pictures=1, samples=30)
    """
    if share >= 1 or math.isinf(trained):
        return most
    half = trained * share / (1 - share) / 2
    examples = min(most.examples, max(int(half / most.times / EVALUATED), FEWEST[0]))
    times = min(most.times, int(half / (EVALUATED * examples)))
    if times == 0:
        times, examples = 1, min(most.examples, max(int(half / EVALUATED), FEWEST[1]))
    samples, pictures = most.samples, min(times, most.pictures, int(half / SAMPLED / most.samples))
    if pictures == 0:
        rows = int(half / SAMPLED) // FEWEST[2]  # of a picture: all of them full
        samples, pictures = min(samples, max(rows, 1) * FEWEST[2]), 1
    return Plan(times, examples, pictures, samples)


class ValidationPlan:
    """The validations of one run.

    Args:
        most: largest numbers of validations, examples, pictures and samples.
        share: largest fraction of the time that validations may take; 1 does not limit it.
        minutes: budget of the run in minutes; None if only steps or epochs limit it.

    Attributes:
        now: the present plan; validations are spread evenly over the budget, and pictures over
            them.
        is_chosen: True once the numbers are final.
        per_example: seconds to evaluate an example, 0 before it is known.
    """

    def __init__(self, most: Plan, share: float, minutes: float | None) -> None:
        self.now = most
        self.is_chosen = False
        self.per_example = 0.0
        self._share = share
        self._total = None if minutes is None else 60 * minutes
        self._has_examples = False
        self._evaluation = self._picture = 0.0  # seconds that the latest one took
        self._evaluations = self._pictures = 0.0  # seconds that all of them took

    def choose(self, trained: float, seconds: float = 0.0) -> None:
        """Make the plan.

        The number of examples is fixed once a validation has used it, also in a resumed run with
        another budget: means over different examples could not be compared.

        Args:
            trained: number of examples of all training steps together.
            seconds: seconds of training for each of them, from which the first costs are guessed.
        """
        share = self._share if self._total is None or self._share >= 1 else self._share / 2
        chosen = plan(self.now, trained, share)
        self.now = chosen._replace(examples=self.now.examples) if self._has_examples else chosen
        if not self._evaluation:
            self.per_example = EVALUATED * seconds
            self._evaluation = self.per_example * self.now.examples
        self._picture = self._picture or SAMPLED * seconds * self.now.samples
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
        first, last = (
            math.floor(x * self.now.times) * self.now.pictures for x in (before, progress)
        )
        is_due = last // self.now.times > first // self.now.times
        return is_due and self._affords(self._pictures + self._picture, progress)

    def is_due(self, before: float, progress: float) -> bool:
        """Return True if a validation lies between these two fractions of the budget."""
        return math.floor(progress * self.now.times) > math.floor(before * self.now.times)

    def _affords(self, seconds: float, progress: float) -> bool:
        if self._total is None or self._share >= 1 or progress >= 1:
            return True  # the last one always
        return seconds <= self._share / 4 * self._total * progress

    def add(self, evaluation: float, picture: float) -> None:
        """Count the seconds of a validation's evaluation and of its picture, 0 if it had none."""
        self._has_examples = True
        self._evaluation, self.per_example = evaluation, evaluation / self.now.examples
        self._picture = picture or self._picture
        self._evaluations, self._pictures = self._evaluations + evaluation, self._pictures + picture

    def reserve(self, held_out: int, factor: float) -> float:
        """Return the seconds to keep for the last validation and the final evaluation.

        The latter is of all held-out examples, if one half of the share is enough for both.

        Args:
            held_out: number of all held-out examples.
            factor: time of the final evaluation of an example relative to that of a validation.
        """
        if self._total is None:
            return 0.0
        last, each = self._evaluation + self._picture, factor * self.per_example
        final = min(each * held_out, self._share / 2 * self._total - last)
        return last + max(final, each * min(held_out, self.now.examples))

    def affordable(self, seconds: float, held_out: int, factor: float) -> int:
        """Return how many held-out examples can be evaluated in what is left of the budget.

        Args:
            seconds: seconds of training so far.
            held_out: number of all held-out examples.
            factor: time of the final evaluation of an example relative to that of a validation.
        """
        if self._total is None or not self.per_example or self._share >= 1:
            return held_out
        left = max(self._total - seconds, 0.0) / (factor * self.per_example)
        return int(min(held_out, max(left, self.now.examples)))

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs."""
        return {
            "examples": self.now.examples if self._has_examples else 0,
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
            self.now = self.now._replace(examples=min(self.now.examples, state["examples"]))
            self._has_examples = True
        self.per_example = state["per_example_seconds"]
        self._evaluation, self._picture = state["evaluation_seconds"], state["picture_seconds"]
        self._evaluations = state["evaluations_seconds"]
        self._pictures = state["pictures_seconds"]
