"""What happens when a loss or a gradient is not finite: back to a good state, at half the rate.

Every :data:`EVERY` steps the training keeps a copy of its state in memory. When a step fails, the
state goes back to that copy, the learning rate halves for good, and the steps are repeated up to
the one that failed, which is skipped: its batch and noise would be the same again. The third
failure in a row, without a copy that was made after a later step succeeded, ends the run. All of
this is part of a checkpoint, so that a resumed run does the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from realnvp.checkpoint import check_like
from realnvp.diagnosis import Finding, find_non_finite
from realnvp.progress import Bar

if TYPE_CHECKING:
    from realnvp.trainer import Trainer

__all__ = ["EVERY", "LIMIT", "Rescue", "recover", "skip"]

EVERY = 100
"""Steps between the copies of the state."""

LIMIT = 3
"""The failure in a row that ends a run."""


class Rescue:
    """The last good state, and what went wrong so far.

    Args:
        lr: the learning rate of the settings; a resumed run with another one starts from it.

    Attributes:
        good: the last good state, None before the first.
        skipped: the steps whose batches are skipped, each with the layer and the examples.
        factor: of the learning rate.
        failures: in a row.
    """

    def __init__(self, lr: float) -> None:
        self.lr = lr
        self.good: dict[str, Any] | None = None
        self.skipped: dict[int, dict[str, Any]] = {}
        self.factor = 1.0
        self.failures = 0
        self._failed_at = -1  # the latest of the failures
        self._passed = True  # a later step has succeeded

    def is_due(self, step: int) -> bool:
        """Whether to keep a copy of the state at this step."""
        return self.good is None or (step % EVERY == 0 and step != self.good["step"])

    def keep(self, state: dict[str, Any]) -> None:
        """Take a copy of the state as the last good one."""
        self.good = state
        if self._passed:
            self.failures = 0

    def succeed(self, step: int) -> None:
        """Count a step whose loss and gradient were finite."""
        self._passed = self._passed or step > self._failed_at

    def fail(self, step: int, finding: Finding, examples: list[int]) -> str:
        """Count a failure; returns what to tell about it."""
        assert self.good is not None  # fit() keeps one before its first step
        self.failures += 1
        self.factor /= 2
        self._failed_at, self._passed = max(step, self._failed_at), False
        self.skipped[step] = {"layer": finding.where, "examples": examples}
        shown = ", ".join(map(str, examples[:8])) + (", ..." if len(examples) > 8 else "")
        return (
            f"step {step}: not finite: {finding.where}; training examples {shown}; back to step "
            f"{self.good['step']}, with half the learning rate and without this batch"
        )

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint, without the good state."""
        return {
            "lr": self.lr,
            "skipped": {str(step): what for step, what in self.skipped.items()},
            "factor": self.factor,
            "failures": self.failures,
            "failed_at": self._failed_at,
            "passed": self._passed,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            ValueError: if the state is damaged.
        """
        check_like(state, {**self.state_dict(), "skipped": state.get("skipped")}, "rescue")
        try:
            self.skipped = {int(step): dict(what) for step, what in state["skipped"].items()}
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError("the skipped steps are damaged") from error
        if state["lr"] == self.lr:
            self.factor = float(state["factor"])
            self.failures, self._failed_at = state["failures"], state["failed_at"]
            self._passed = state["passed"]


def recover(trainer: Trainer, bar: Bar) -> None:
    """Name what was not finite, and go back to the last good state.

    Raises:
        FloatingPointError: if it is the last time; the good state is saved.
    """
    step, team = trainer.step, trainer.team
    finding = find_non_finite(
        trainer.flow,
        *trainer.batch(step),
        gradients=not team.sharded,
        anywhere=lambda flag: bool(team.agree(flag)[0]),
    )
    findings = team.gather(finding)
    first = min(findings, key=lambda finding: finding.order)
    rows = [
        trainer.batches.share(rank, team.ranks)[row]
        for rank, its in enumerate(findings)
        if its.order == first.order
        for row in its.rows
    ]
    batch = trainer.batches.indices(step)
    told = trainer.rescue.fail(step, first, (batch[rows] if rows else batch).tolist())
    assert trainer.rescue.good is not None  # fit() keeps one before its first step
    seconds = trainer.seconds
    trainer.set_state(trainer.rescue.good)
    trainer.seconds = seconds
    trainer.keeper.rewind(trainer.step)
    if trainer.rescue.failures < LIMIT:
        bar.warn(told)
        return
    trainer.rescue.failures = 0  # a resumed run has as many attempts
    state = trainer.state_dict()
    with team.together():
        trainer.keeper.save(trainer, state, final=True)
    if not team.main:
        raise team.elsewhere()
    raise FloatingPointError(
        f"{told}; this is the {LIMIT}rd time in a row, each time with half the learning rate, "
        f"so training ends here; the state of step {trainer.step} is saved: resume it with a "
        f"lower --training.lr, or look at these examples"
    )


def skip(trainer: Trainer) -> None:
    """Pass over a step that failed before."""
    record = {"batch": trainer.step, **trainer.rescue.skipped[trainer.step]}
    trainer.step += 1
    trainer.agree()
    trainer.keeper.log("skipped", trainer.step, trainer.seconds, record)
