"""What happens when a training goes wrong: back to a good state, at half the learning rate.

It goes wrong when a loss or a gradient is not finite, and when the loss rises far above what it was
and stays there (:class:`LossSpikeDetector`). Every :data:`EVERY` steps the training keeps a copy of
its state in memory. When a step fails, the state goes back to that copy, the learning rate halves
for good, and the steps are repeated; one that was not finite is skipped: its batch and noise would
be the same again. The third failure in a row, without a copy made after a later step succeeded,
ends the run. All of this is part of a checkpoint, so that a resumed run does the same.
"""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING, Any

from realnvp.diagnostics import find_non_finite
from realnvp.utils.progress import Bar
from realnvp.utils.serialization import check_like

if TYPE_CHECKING:
    from realnvp.training.trainer import Trainer

__all__ = ["EVERY", "LIMIT", "LossSpikeDetector", "Rollback", "recover", "skip"]

EVERY = 100
"""Steps between the copies of the state."""


LIMIT = 3
"""The failure in a row that ends a run."""


WINDOW = 50
"""Steps whose median is the level of the loss."""


RISE = 4.0, 0.1
"""How far above the lowest level the loss has gone wrong: in deviations of one step, and at least,
in nats per dimension."""


class LossSpikeDetector:
    """How high the loss is, and from where on it has gone wrong.

    Medians, because one example far from all others may cost any number of nats: they rise when
    half of the steps do. The deviation is 1.4826 times the median distance from the median, which
    is that of a Gaussian.

    Attributes:
        losses: the latest, in nats per dimension.
        lowest: the lowest level so far.
        limit: the highest level that is taken for chance.

    >>> level = LossSpikeDetector()
    >>> for step in range(100):
    ...     level.add(1.5 if step < 70 else 2.0)
    >>> level.lowest, level.limit, level.is_high(), level.is_high(10)
    (1.5, 1.6, True, True)
    """

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.lowest = self.limit = math.inf

    def add(self, loss: float) -> None:
        """Count the loss of a step."""
        self.losses = [*self.losses[-WINDOW + 1 :], loss]
        if len(self.losses) == WINDOW and (level := median(self.losses)) < self.lowest:
            std = 1.4826 * median(abs(value - level) for value in self.losses)
            self.lowest, self.limit = level, level + max(RISE[0] * std, RISE[1])

    def is_high(self, steps: int = WINDOW) -> bool:
        """Whether the latest ``steps`` are above the limit; not as long as there are fewer."""
        return len(self.losses) >= steps and median(self.losses[-steps:]) > self.limit


class Rollback:
    """The last good state, and what went wrong so far.

    Args:
        lr: the learning rate of the settings; a resumed run with another one starts from it.

    Attributes:
        good: the last good state, None before the first.
        skipped: the steps whose batches are skipped, each with the layer and the examples.
        factor: of the learning rate.
        failures: in a row.
        level: of the loss.
    """

    def __init__(self, lr: float) -> None:
        self.lr = lr
        self.good: dict[str, Any] | None = None
        self.skipped: dict[int, dict[str, Any]] = {}
        self.factor = 1.0
        self.failures = 0
        self.level = LossSpikeDetector()
        self._failed_at = -1  # the latest of the failures
        self._passed = True  # a later step has succeeded

    def is_due(self, step: int) -> bool:
        """Whether to keep a copy of the state at this step; not of one that may be going wrong."""
        if self.good is None:
            return True
        return (
            step % EVERY == 0 and step != self.good["step"] and not self.level.is_high(WINDOW // 5)
        )

    def keep(self, state: dict[str, Any]) -> None:
        """Take a copy of the state as the last good one."""
        self.good = state
        if self._passed:
            self.failures = 0

    def succeed(self, step: int, loss: float) -> None:
        """Count a step whose loss and gradient were finite.

        The loss is in nats per dimension; of several processes, the largest that any has.
        """
        self.level.add(loss)
        self._passed = self._passed or step > self._failed_at

    def fail(self, step: int, what: str) -> str:
        """Count a failure; returns what to tell about it."""
        assert self.good is not None  # fit() keeps one before its first step
        self.failures += 1
        self.factor /= 2
        self.level.losses = []  # those that come are of the good state
        self._failed_at, self._passed = max(step, self._failed_at), False
        return f"step {step}: {what}; back to step {self.good['step']}, with half the learning rate"

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint, without the good state."""
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
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            ValueError: if the state is damaged.
        """
        losses = [0.0] * len(state.get("losses") or ())
        expected = {**self.state_dict(), "skipped": state.get("skipped"), "losses": losses}
        check_like(state, expected, "rollback")
        level = self.level
        level.losses, level.lowest, level.limit = state["losses"], state["lowest"], state["limit"]
        try:
            self.skipped = {int(step): dict(what) for step, what in state["skipped"].items()}
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError("the skipped steps are damaged") from error
        if state["lr"] == self.lr:
            self.factor = float(state["factor"])
            self.failures, self._failed_at = state["failures"], state["failed_at"]
            self._passed = state["passed"]


def recover(trainer: Trainer, bar: Bar) -> None:
    """Tell what went wrong, and go back to the last good state.

    Raises:
        FloatingPointError: if it is the last time; the good state is saved.
    """
    step, team, level = trainer.step, trainer.team, trainer.rollback.level
    if level.is_high():
        per_nat = trainer.flow.dim * trainer.unit
        now, before = per_nat * median(level.losses), per_nat * level.lowest
        what = f"the loss rose from {before:.3f} to {now:.3f} {trainer.unit_name}"
        record = {"before": before, "now": now}
    else:
        layer, examples = _locate(trainer)
        shown = ", ".join(map(str, examples[:8])) + (", ..." if len(examples) > 8 else "")
        what = f"not finite: {layer}; training examples {shown}; their batch is skipped"
        record = {}
        trainer.rollback.skipped[step] = {"layer": layer, "examples": examples}
    told = trainer.rollback.fail(step, what)
    assert trainer.rollback.good is not None  # fit() keeps one before its first step
    seconds = trainer.seconds
    trainer.set_state(trainer.rollback.good)
    trainer.seconds = seconds
    trainer.callback.rewind(trainer.step)
    if record:
        trainer.callback.log("rise", trainer.step, trainer.seconds, {"at": step, **record})
    if trainer.rollback.failures < LIMIT:
        bar.warn(told)
        return
    trainer.rollback.failures = 0  # a resumed run has as many attempts
    state = trainer.state_dict()
    with team.sync_errors():
        trainer.callback.save(trainer, state, final=True)
    if not team.main:
        raise team.remote_rank_error()
    raise FloatingPointError(
        f"{told}; this is the {LIMIT}rd time in a row, each time with half the learning rate, "
        f"so training ends here; the state of step {trainer.step} is saved: resume it with a "
        f"lower --training.lr" + (", or look at these examples" if not record else "")
    )


def _locate(trainer: Trainer) -> tuple[str, list[int]]:
    """The layer in which a number was not finite, and the training examples."""
    team = trainer.team
    finding = find_non_finite(
        trainer.flow,
        *trainer.batch(trainer.step),
        gradients=not team.sharded,
        anywhere=lambda flag: bool(team.all_reduce_max(flag)[0]),
    )
    findings = team.gather(finding)
    first = min(findings, key=lambda finding: finding.order)
    rows = [
        trainer.batches.share(rank, team.world_size)[row]
        for rank, its in enumerate(findings)
        if its.order == first.order
        for row in its.rows
    ]
    batch = trainer.batches.indices(trainer.step)
    return first.where, (batch[rows] if rows else batch).tolist()


def skip(trainer: Trainer) -> None:
    """Pass over a step that failed before."""
    record = {"batch": trainer.step, **trainer.rollback.skipped[trainer.step]}
    trainer.step += 1
    trainer.all_reduce_max()
    trainer.callback.log("skipped", trainer.step, trainer.seconds, record)
