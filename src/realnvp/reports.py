"""What a training tells while it goes on: the mean loss now and then, and the validations."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from realnvp.diagnosis import find_non_finite
from realnvp.evaluate import DRAWS, batches, evaluate, noise_of
from realnvp.launch import Team
from realnvp.progress import Bar, duration
from realnvp.setup import uncompiled
from realnvp.state import whole

if TYPE_CHECKING:
    from realnvp.trainer import Trainer

__all__ = ["Mean", "log", "validate"]

SAMPLES = 100, 2000
"""How many images, or points, a picture shows."""


class Mean:
    """The mean of terms over steps, summed on the device: reading a number would wait for it."""

    def __init__(self) -> None:
        self.count = 0
        self._sums: dict[str, Tensor] = {}

    def add(self, terms: dict[str, Tensor]) -> None:
        self.count += 1
        for name, term in terms.items():
            self._sums[name] = self._sums[name] + term if name in self._sums else term

    def take(self, team: Team) -> dict[str, float]:
        """The means, over the processes too, and begin anew."""
        values = team.mean(torch.stack(list(self._sums.values())) / self.count).tolist()
        means = dict(zip(self._sums, values, strict=True))
        self.count, self._sums = 0, {}
        return means


def log(trainer: Trainer, bar: Bar, means: Mean, lr: float, rate: float) -> None:
    """Show and write the mean loss since the last record, with its terms."""
    terms = means.take(trainer.team)
    gradient = terms.pop("gradient")
    values = {name: value * trainer.unit for name, value in terms.items()}
    loss = sum(values.values())
    record = {"loss": loss, **values, "gradient": gradient, "lr": lr, "examples_per_s": rate}
    short = " ".join(f"{name} {value:.2f}" for name, value in values.items() if value)
    best = f" best {trainer.best:.3f}" if math.isfinite(trainer.best) else ""
    if trainer.rescue.skipped:
        record["skipped"] = len(trainer.rescue.skipped)
        best += f" skipped {len(trainer.rescue.skipped)}"
    trainer.keeper.log("train", trainer.step, trainer.seconds, record)
    bar.update(
        trainer.progress(),
        f"{loss:.3f} {trainer.unit_name}{best} ({short}) {rate:.0f} examples/s",
    )


def validate(trainer: Trainer, bar: Bar) -> None:
    """Evaluate the averaged weights, and keep them if they are the best."""
    with trainer.ema.applied(), uncompiled(trainer.config):
        result = evaluate(
            trainer.flow,
            trainer.validation,
            batch_size=trainer.evaluation_batch,
            seed=trainer.recipe.seed,
            shared=True,
        )
        trainer.worse += 1
        if result.loss < trainer.best:
            trainer.best, trainer.best_step, trainer.worse = result.loss, trainer.step, 0
            tensors = trainer.flow.state_dict().items()
            trainer.best_weights = {name: whole(t).detach().clone() for name, t in tensors}
        record = {"validation": result.loss, "standard_error": result.standard_error}
        trainer.keeper.log("validation", trainer.step, trainer.seconds, record)
        if trainer.keeper.draws or trainer.team.sharded:  # to gather shards, all must take part
            trainer.keeper.picture(trainer, _samples(trainer))
        if not math.isfinite(result.loss) and not trainer.team.sharded:
            bar.warn(f"step {trainer.step}: the validation is not finite: {_name_layer(trainer)}")
    bar.say(
        f"step {trainer.step:,} after {duration(trainer.seconds)}: validation {result.loss:.4f} "
        f"± {result.standard_error:.4f} {trainer.unit_name}"
    )


def _samples(trainer: Trainer) -> Tensor:
    """Samples from latents that are the same every time."""
    flow, condition = trainer.flow, trainer.validation.condition
    n = SAMPLES[0] if flow.levels is not None else SAMPLES[1]
    if condition is not None:
        rows = torch.arange(n, device=condition.device)
        if flow.classes is not None:  # one class after the other
            condition = rows * flow.classes // n
        else:
            condition = condition[rows % len(condition)]
    generator = torch.Generator(flow.device).manual_seed(trainer.recipe.seed)
    at_once = trainer.evaluation_batch if flow.levels is not None else None
    return flow.sample(n, condition=condition, generator=generator, batch_size=at_once)


def _name_layer(trainer: Trainer) -> str:
    """Where the validation, which is computed once more, stops being finite."""
    flow, size = trainer.flow, trainer.evaluation_batch
    with flow.evaluating():
        for start, x, condition, _ in batches(trainer.validation, size, flow.device):
            noise = noise_of(flow, (trainer.recipe.seed, DRAWS, 0), start, len(x))
            finding = find_non_finite(flow, x, condition, noise, gradients=False)
            if finding.found:
                return finding.where
    return "nothing when it is repeated"
