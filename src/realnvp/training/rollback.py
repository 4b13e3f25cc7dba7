"""Recovery when training goes wrong: return to a good state, at half the learning rate.

Training goes wrong when a loss or a gradient is not finite, and when the loss rises far above its
lowest level and stays there (:class:`LossSpikeDetector`). Every :data:`EVERY` steps, a copy of the
state is kept in memory. When a step fails, the state goes back to that copy, the learning rate is
halved for the rest of the run, and the steps are repeated. A step that was not finite is skipped:
its batch and noise would be the same again. The third failure in a row, without a copy made after a
later step succeeded, ends the run.

A gradient may also be finite and useless: a single image that the model all but rules out, such as
a digit moved to where its class never has ink, has latents in the thousands, and a gradient of many
millions, so that after clipping only that image's direction remains. A step whose gradient is far
longer than those before it (:class:`GradientSpikeDetector`) is skipped as well, but nothing needs
to be undone.

All of this is part of a checkpoint, so that a resumed run does the same.
"""

from __future__ import annotations

import math
from statistics import median
from typing import Any

from realnvp.utils.serialization import check_like

EVERY = 100
"""Steps between the copies of the state."""


LIMIT = 3
"""Number of consecutive failures that ends a run."""


WINDOW = 50
"""Number of steps over which the median of the loss, and of the gradient's norm, is taken."""


class GradientSpikeDetector:
    """Detect a gradient that is far longer than those before it.

    The usual norm is a median over all gradients, so that a run whose gradients have grown
    continues after half a window.

    Args:
        clip: norm to which gradients are clipped; one that is usual for clipping is no spike.
        spike: multiple of the usual norm that is not attributed to chance. In 40,000 steps of MNIST
            and Fashion-MNIST, norms were up to 10 times the usual one, or far above 100 times.

    Attributes:
        norms: latest norms.

    >>> gradients = GradientSpikeDetector(clip=1.0)
    >>> [gradients.add(norm) for norm in [*[5.0] * 50, 400.0, 600.0, 5.0]][-3:]
    [None, 5.0, None]
    """

    def __init__(self, clip: float, spike: float = 100.0) -> None:
        self.clip, self.spike = clip, spike
        self.norms: list[float] = []

    def add(self, norm: float) -> float | None:
        """Add the norm of a step's gradient; return the usual norm if this one is a spike."""
        usual = median(self.norms) if len(self.norms) == WINDOW else math.inf
        self.norms = [*self.norms[-WINDOW + 1 :], norm]
        return usual if norm > self.spike * max(usual, self.clip) else None


class LossSpikeDetector:
    """Detect that the loss has risen and stays high.

    The level of the loss is a median, since a single outlier may cost any number of nats. The
    standard deviation is estimated as 1.4826 times the median distance from the median, as for a
    Gaussian.

    Args:
        deviations: rise above the lowest level that counts as a failure, in standard deviations of
            a step.
        least: smallest such rise, in nats per dimension. At high learning rates, rises by 0.2 were
            seen to be temporary.

    Attributes:
        losses: latest losses, in nats per dimension.
        lowest: lowest level so far.
        limit: highest level that is attributed to chance.

    >>> level = LossSpikeDetector()
    >>> for step in range(100):
    ...     level.add(1.5 if step < 70 else 2.0)
    >>> level.lowest, level.limit, level.is_high(), level.is_high(10)
    (1.5, 1.8, True, True)
    """

    def __init__(self, deviations: float = 4.0, least: float = 0.3) -> None:
        self.deviations, self.least = deviations, least
        self.losses: list[float] = []
        self.lowest = self.limit = math.inf

    def add(self, loss: float) -> None:
        """Add the loss of a step."""
        self.losses = [*self.losses[-WINDOW + 1 :], loss]
        if len(self.losses) == WINDOW and (level := median(self.losses)) < self.lowest:
            std = 1.4826 * median(abs(value - level) for value in self.losses)
            self.lowest, self.limit = level, level + max(self.deviations * std, self.least)

    def is_high(self, steps: int = WINDOW, share: float = 1.0) -> bool:
        """Return whether the latest ``steps`` are above a share of the rise to the limit.

        False if there are fewer.
        """
        if len(self.losses) < steps or math.isinf(self.lowest):
            return False
        return median(self.losses[-steps:]) > self.lowest + share * (self.limit - self.lowest)


class Rollback:
    """Keep the last good state, and count failures.

    Args:
        lr: learning rate of the settings; a run that is resumed with a different one starts from
            it.
        clip: norm to which gradients are clipped.

    Attributes:
        good: last good state, None before the first.
        skipped: steps whose batches are skipped, each with the layer and the examples that were
            not finite, or with the norm of the gradient and the usual one.
        factor: factor of the learning rate.
        failures: number of failures in a row.
        level: level of the loss.
        gradients: usual norm of the gradient.
    """

    def __init__(self, lr: float, clip: float = 1.0) -> None:
        self.lr = lr
        self.good: dict[str, Any] | None = None
        self.skipped: dict[int, dict[str, Any]] = {}
        self.factor = 1.0
        self.failures = 0
        self.level = LossSpikeDetector()
        self.gradients = GradientSpikeDetector(clip)
        self._failed_at = -1  # the latest of the failures
        self._passed = True  # a later step has succeeded

    def is_due(self, step: int, elevated_from: float = 0.25) -> bool:
        """Return True if the state of this step is to be kept, unless it may be going wrong.

        Args:
            step: index of the step.
            elevated_from: fraction of the rise that counts as a failure from which on a state is
                not good enough to return to. In runs that went wrong, the loss was elevated 50
                steps before.
        """
        if self.good is None:
            return True
        elevated = self.level.is_high(WINDOW // 5, elevated_from)
        return step % EVERY == 0 and step != self.good["step"] and not elevated

    def keep(self, state: dict[str, Any]) -> None:
        """Set a copy of the state as the last good one."""
        self.good = state
        if self._passed:
            self.failures = 0

    def succeed(self, step: int, loss: float) -> None:
        """Count a step whose loss and gradient were finite.

        Args:
            step: index of the step.
            loss: its loss in nats per dimension, the maximum over the processes.
        """
        self.level.add(loss)
        self._passed = self._passed or step > self._failed_at

    def fail(self, step: int, what: str) -> str:
        """Count a failure, and return a message that describes it."""
        assert self.good is not None  # fit() keeps one before its first step
        self.failures += 1
        self.factor /= 2
        # Losses at different rates are not comparable: with batch norm by running averages, the
        # loss of changing weights was seen to be 0.2 bits/dim below that of the same weights at
        # rest.
        self.level, self.gradients.norms = LossSpikeDetector(), []
        self._failed_at, self._passed = max(step, self._failed_at), False
        return f"step {step}: {what}; back to step {self.good['step']}, with half the learning rate"

    def state_dict(self) -> dict[str, Any]:
        """Return the content of a checkpoint, except for the good state."""
        return {
            "lr": self.lr,
            "skipped": {str(step): what for step, what in self.skipped.items()},
            "factor": self.factor,
            "failures": self.failures,
            "failed_at": self._failed_at,
            "passed": self._passed,
            "losses": self.level.losses,
            "lowest": self.level.lowest,
            "limit": self.level.limit,
            "norms": self.gradients.norms,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint.

        Raises:
            ValueError: if the state is damaged.
        """
        expected = {**self.state_dict(), "skipped": state.get("skipped")}
        for name in ("losses", "norms"):
            expected[name] = [0.0] * len(state.get(name) or ())
        check_like(state, expected, "rollback")
        level, self.gradients.norms = self.level, state["norms"]
        level.losses, level.lowest, level.limit = state["losses"], state["lowest"], state["limit"]
        try:
            self.skipped = {int(step): dict(what) for step, what in state["skipped"].items()}
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError("the skipped steps are damaged") from error
        if state["lr"] == self.lr:
            self.factor = float(state["factor"])
            self.failures, self._failed_at = state["failures"], state["failed_at"]
            self._passed = state["passed"]
