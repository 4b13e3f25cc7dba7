r"""Densities that are known up to a constant: a flow is fitted to them without any data.

Given :math:`\log \tilde p(x) = \log p(x) + \log Z`, such as prior times likelihood or a Boltzmann
factor, :func:`fit_energy` returns a flow :math:`q \approx p`, and estimates :math:`Z`, which is the
evidence or the partition function, by importance sampling:

.. math:: Z = \mathbb E_{x \sim q}[w(x)], \qquad w(x) = \tilde p(x) / q(x), \qquad
    \text{ESS} = \frac{(\sum w)^2}{n \sum w^2}

**Two divergences.** :math:`\mathrm{KL}(q \| p)` needs samples of the flow only, but forgets modes
that the flow has left. :math:`\mathrm{KL}(p \| q)` covers all modes, and needs samples of
:math:`p`: earlier samples of the flow, which are kept and resampled by their weights. Where few of
them would have all the weight, as in the beginning and in many dimensions, weights are raised to a
power :math:`\kappa < 1`: then the points are between samples of the flow and of the target, and the
method is between the two divergences.

**Path gradients.** With :math:`z = f_\theta(x)` and :math:`h = \log \tilde p - \log q`, the
gradients of both are averages of the same function of a point,

.. math:: \nabla_\theta = \mathbb E_x\Big[\nabla_x h(x)^\top \, J_f(x)^{-1} \,
    \frac{\partial f_\theta(x)}{\partial \theta}\Big],

over :math:`x \sim q` and over :math:`x \sim p` (arXiv 1703.09194, arXiv 2207.08219 and
arXiv 2403.15881). It vanishes at every single point once :math:`q = p`, so that the noise of the
gradient does, too, and points may be used again after the flow has changed. What it hardly shows is
how much each of two far modes weighs. The likelihood of the same points does, so it is added: over
:math:`x \sim p` it is :math:`\mathrm{KL}(p \| q)` once more, and over :math:`x \sim q` its gradient
is zero on average.

**Annealing.** The target moves from the flow's first density :math:`q_0`, which should be broader
than the target, along :math:`\tilde p^\beta q_0^{1 - \beta}`, as fast as the weights allow.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from realnvp.bijections import ActNorm, RunningBatchNorm
from realnvp.flow import Flow
from realnvp.utils.progress import Bar
from realnvp.utils.weights import draw_weighted, effective_fraction

__all__ = ["EnergyFit", "fit_energy"]

LogDensity = Callable[[Tensor], Tensor]

ANNEALING_ESS = 0.7
"""Effective sample size, as a fraction, of the weights from one annealed density to the next."""

RESAMPLING_ESS = 0.2
"""Least effective sample size at which kept points are resampled: weights are tempered to it."""

WINDOW = 16
"""Number of batches, the last ones, from which the effective sample size is estimated."""

KEPT = 64
"""Number of batches that are kept to be resampled."""


def _largest(ess_at: Callable[[float], float], low: float, goal: float) -> float:
    """Return the largest number from ``low`` to 1 at which an ESS is at least a goal."""
    high = 1.0
    if ess_at(high) >= goal:
        return high
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if ess_at(middle) >= goal else (low, middle)
    return low


class _Target:
    """The user's log-density: checked, counted, and with its gradients."""

    def __init__(self, log_density: LogDensity) -> None:
        self.log_density = log_density
        self.evaluations = 0

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return log-densities ``(B,)`` and their gradients, None if there are none."""
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            values = self.log_density(x)
        self.evaluations += len(x)
        if not isinstance(values, Tensor):
            raise ValueError(f"log_density must return a tensor, got {type(values).__name__}")
        if values.shape != x.shape[:1]:
            raise ValueError(
                f"log_density must return one number per point, of shape ({len(x)},), got "
                f"{tuple(values.shape)}"
            )
        self._check(values.isnan(), "NaN", x)
        self._check(values == math.inf, "infinity", x)
        if not values.requires_grad:
            return values.double(), None
        (score,) = torch.autograd.grad(values.sum(), x)
        wrong = score.isnan().flatten(1).any(1) & values.isfinite()
        self._check(wrong, "a value whose gradient is NaN", x)
        return values.detach().double(), score

    def _check(self, wrong: Tensor, what: str, x: Tensor) -> None:
        if wrong.any():
            point = x[wrong][0].flatten()[:8].tolist()
            raise ValueError(
                f"log_density returned {what} for {int(wrong.sum())} of {len(x)} points, the first "
                f"at x = {[round(value, 4) for value in point]}"
            )


@dataclass
class EnergyFit:
    r"""A flow that approximates an unnormalized density, and samples weighted to be exact.

    Attributes:
        flow: the flow :math:`q`, in evaluation mode.
        samples: samples of the flow, ``(n, *shape)``; see :meth:`draw`.
        log_weights: :math:`\log \tilde p(x) - \log q(x)` of each, ``(n,)``, float64.
        steps: number of optimizer steps.
        stopped_early: whether the effective sample size was reached before all steps were made.
        records: "step", "annealing" (:math:`\beta`) and, once that is 1, "ess" and "log_z" of the
            last batches, all along the training.
        missed: estimated fraction of the target's mass where the flow has almost none, from all
            points that were kept in training. If it is not small, the flow has lost a mode, which
            its own samples cannot show: anneal for longer, or start from a broader density.
    """

    flow: Flow
    samples: Tensor = field(repr=False)
    log_weights: Tensor = field(repr=False)
    steps: int
    stopped_early: bool
    records: list[dict[str, float]] = field(repr=False)
    missed: float
    _target: _Target = field(repr=False)

    @property
    def evaluations(self) -> int:
        """Number of points at which ``log_density`` was computed, in training and since."""
        return self._target.evaluations

    @property
    def log_z(self) -> float:
        r"""Estimate of :math:`\log Z = \log \int \tilde p(x) \, dx`, by importance sampling."""
        return float(self.log_weights.logsumexp(0)) - math.log(len(self.log_weights))

    @property
    def log_z_error(self) -> float:
        """Standard error of :attr:`log_z`: relative standard error of the mean weight."""
        ess = self.ess
        return math.sqrt((1 / ess - 1) / len(self.log_weights)) if ess else math.inf

    @property
    def ess(self) -> float:
        """Effective sample size of the weighted samples, as a fraction of their number."""
        return effective_fraction(self.log_weights)

    def draw(self, n: int, generator: torch.Generator | None = None) -> EnergyFit:
        """Draw further samples of the flow, weight them, and return the fit, for a smaller error.

        Args:
            n: number of samples, and of evaluations of ``log_density``.
            generator: source of the samples.
        """
        x, log_q = self.flow.sample_and_log_prob(n, generator=generator)
        log_p, _ = self._target(x)
        self.samples = torch.cat((self.samples, x))
        self.log_weights = torch.cat((self.log_weights, log_p - log_q))
        return self

    def importance_weights(self) -> Tensor:
        """Return the weights of :attr:`samples`, ``(n,)``, whose sum is 1.

        Averages with them are those of the target: ``(fit.importance_weights() @ f(fit.samples))``.
        """
        return self.log_weights.softmax(0)

    def resample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw ``n`` of the :attr:`samples` in proportion to their weights: ``(n, *shape)``.

        The number of copies of a sample is its expectation, rounded up or down (systematic
        resampling); the order is random.
        """
        index = draw_weighted(self.importance_weights(), generator, n)
        order = torch.randperm(n, generator=generator, device=index.device)
        return self.samples[index[order]]

    def metropolis(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, float]:
        """Run an independence Metropolis chain whose proposals are fresh samples of the flow.

        A proposal with weight w' replaces a state with weight w with probability min(1, w' / w).
        The chain starts from one of :attr:`samples`, drawn by its weight.

        Args:
            n: length of the chain, and number of evaluations of ``log_density``.
            generator: source of proposals and decisions.

        Returns:
            states ``(n, *shape)``, and the fraction of proposals that were accepted.
        """
        start = int(torch.multinomial(self.importance_weights(), 1, generator=generator))
        x, log_q = self.flow.sample_and_log_prob(n, generator=generator)
        log_p, _ = self._target(x)
        x = torch.cat((self.samples[start : start + 1], x))
        weights = torch.cat((self.log_weights[start : start + 1], log_p - log_q)).tolist()
        uniform = torch.rand(n, generator=generator, device=x.device).log().tolist()
        states, current = [], 0
        for i, threshold in enumerate(uniform, 1):
            if weights[i] - weights[current] > threshold:
                current = i
            states.append(current)
        return x[states], len(set(states) - {0}) / n


def _encode(flow: Flow, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return latents and log-densities of points, with gradients."""
    with flow.evaluating():
        z, log_det = flow.latents_and_log_det(x)
    return z, flow.log_prior(z) + log_det


@dataclass
class _Points:
    """Samples of the flow at some step, with all that is known about them."""

    x: Tensor
    log_q: Tensor
    log_p: Tensor
    log_start: Tensor
    score: Tensor
    score_start: Tensor

    def __getitem__(self, index: Tensor) -> _Points:
        return _Points(*(value[index] for value in vars(self).values()))

    @staticmethod
    def cat(parts: list[_Points]) -> _Points:
        columns = zip(*(vars(part).values() for part in parts), strict=True)
        return _Points(*(torch.cat(column) for column in columns))

    def log_target(self, beta: float) -> Tensor:
        """Return the annealed log-density."""
        return self.log_start.lerp(self.log_p, beta) if beta else self.log_start

    def log_weights(self, beta: float) -> Tensor:
        """Return the logarithms of weights with which the points are samples of the target."""
        return self.log_target(beta) - self.log_q


def fit_energy(
    flow: Flow,
    log_density: LogDensity,
    *,
    steps: int = 2000,
    batch: int = 256,
    reuse: int = 2,
    annealing: float = 0.5,
    lr: float = 2e-3,
    clip: float = 1.0,
    ess: float = 0.9,
    samples: int = 4096,
    seed: int = 0,
    quiet: bool = False,
    callback: Callable[[dict[str, float]], None] | None = None,
) -> EnergyFit:
    r"""Fit a flow to a density that is known up to a constant, without data.

    See :mod:`realnvp.energy` for the method. The flow is trained in place. It should start broader
    than the target, so that annealing finds all modes: ``std`` of :func:`realnvp.vector_flow`.

    Args:
        flow: a flow of continuous values without a condition, such as ``vector_flow(dim)``.
        log_density: function of points ``(B, *shape)`` that returns :math:`\log \tilde p` as
            ``(B,)``. It may return minus infinity, outside of the support. If what it returns has
            no gradients (a NumPy function), the flow is fitted to resampled points alone, which
            takes more evaluations.
        steps: most optimizer steps.
        batch: number of points that are evaluated at a time, and number of points of a step.
        reuse: number of steps for which a batch serves before another one is drawn.
        annealing: largest fraction of the steps in which the target is annealed, 0 for none.
        lr: learning rate, constant during annealing, then along a cosine to 0.
        clip: largest norm of the gradient.
        ess: effective sample size, as a fraction, at which training ends early.
        samples: number of samples of the result.
        seed: seed of all random numbers but the flow's first weights.
        quiet: do not show progress.
        callback: called with each of :attr:`EnergyFit.records`.

    Raises:
        ValueError: if the flow dequantizes or is conditional; or if ``log_density`` returns NaN,
            plus infinity or the wrong shape, or minus infinity everywhere.

    >>> from realnvp import vector_flow
    >>> flow = vector_flow(2, std=torch.full((2,), 2.0), coupling="affine", hidden=8)
    >>> fit = fit_energy(flow, lambda x: -((x - 1) ** 2).sum(1), steps=50, quiet=True)
    >>> abs(fit.log_z - math.log(math.pi)) < 0.1, fit.resample(5).shape
    (True, torch.Size([5, 2]))
    """
    _check(flow, steps, batch, reuse, annealing)
    target, started = _Target(log_density), copy.deepcopy(flow).requires_grad_(False)
    generator = torch.Generator(flow.device).manual_seed(seed)
    flow.eval()
    optimizer = torch.optim.Adam(flow.parameters(), lr=lr, betas=(0.9, 0.99))
    kept: list[_Points] = []
    records: list[dict[str, float]] = []
    best, best_weights = 0.0, None
    beta, anneal_steps, done = float(annealing == 0), annealing * steps, 0
    since = 0  # batches since the annealing ended
    with Bar("energy", visible=not quiet) as bar:
        for step in range(steps):
            if step % reuse == 0:
                kept.append(_evaluate(flow, started, target, batch, generator))
                if len(kept) > KEPT:
                    oldest = torch.randint(KEPT // 2, (1,), generator=generator, device=flow.device)
                    del kept[int(oldest)]
                recent = _Points.cat(kept[-WINDOW:])
                record = {"step": step, "annealing": beta}
                if beta < 1:
                    floor = (step / anneal_steps) ** 3
                    beta = max(min(_next_beta(recent, beta), 1.1 * beta + 1e-3), floor)
                    beta = min(beta, 1.0)
                elif (since := since + 1) >= WINDOW:
                    log_weights = recent.log_weights(1.0)
                    record["ess"] = effective_fraction(log_weights)
                    record["log_z"] = float(log_weights.logsumexp(0)) - math.log(len(log_weights))
                    if record["ess"] > best and since % WINDOW == 0:
                        best, best_weights = record["ess"], copy.deepcopy(flow.state_dict())
                records.append(record)
                if callback is not None:
                    callback(record)
                bar.update(step / steps, *(f"{k} {v:.3g}" for k, v in list(record.items())[1:]))
                if record.get("ess", 0) >= ess:
                    break
                pool = _Points.cat(kept)
                weights = _tempered(pool.log_weights(beta))
            index = torch.multinomial(weights, batch, replacement=True, generator=generator)
            loss = _loss(flow, pool[index], beta)
            optimizer.zero_grad()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(flow.parameters(), clip)
            for group in optimizer.param_groups:
                group["lr"] = lr * _rate(step, steps, anneal_steps)
            if norm.isfinite():
                optimizer.step()
            done = step + 1
    if done == steps and best_weights is not None:
        flow.load_state_dict(best_weights)
    flow.zero_grad(set_to_none=True)
    x, log_q = flow.sample_and_log_prob(samples, generator=generator)
    log_p, _ = target(x)
    result = EnergyFit(flow, x, log_p - log_q, done, done < steps, records, 0.0, target)
    result.missed = _missed(flow, _Points.cat(kept), result.log_z)
    return result


def _check(flow: Flow, steps: int, batch: int, reuse: int, annealing: float) -> None:
    if flow.noisy or flow.condition_dim:
        raise ValueError("the flow must be of continuous values, without a condition or labels")
    norms = (m for m in flow.modules() if isinstance(m, ActNorm | RunningBatchNorm))
    if any(not norm.initialized for norm in norms):
        raise ValueError(
            "normalization layers learn their statistics from data, of which there are none here: "
            'use norm="none"'
        )
    for name, count in (("steps", steps), ("batch", batch), ("reuse", reuse)):
        if not isinstance(count, int) or count < 1:
            raise ValueError(f"{name} must be an integer, 1 or more, got {count}")
    if not 0 <= annealing <= 1:
        raise ValueError(f"annealing is a fraction of the steps, from 0 to 1, got {annealing}")


def _rate(step: int, steps: int, anneal_steps: float) -> float:
    """Return the learning rate's factor: a warm-up, constant while annealing, then a cosine."""
    after = max(0.0, step - anneal_steps) / max(1.0, steps - anneal_steps)
    return min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * after))


def _evaluate(
    flow: Flow, started: Flow, target: _Target, n: int, generator: torch.Generator
) -> _Points:
    """Draw samples of the flow, and return them with all log-densities and their gradients."""
    x, log_q = flow.sample_and_log_prob(n, generator=generator)
    log_p, score = target(x)
    if not log_p.isfinite().any():
        raise ValueError(
            f"log_density is minus infinity at all {n} samples of the flow: let it start where the "
            "density is, by mean and std of vector_flow"
        )
    x.requires_grad_()
    log_start = _encode(started, x)[1]
    (score_start,) = torch.autograd.grad(log_start.sum(), x)
    if score is None:
        score = torch.full_like(x, math.nan)
    log_start = log_start.detach().double()
    return _Points(x.detach(), log_q.double(), log_p, log_start, score, score_start)


def _next_beta(points: _Points, beta: float) -> float:
    """Return the largest annealing to which samples can be weighted."""
    return _largest(lambda b: effective_fraction(points.log_weights(b)), beta, ANNEALING_ESS)


def _tempered(log_weights: Tensor) -> Tensor:
    """Return weights to the largest power up to 1 at which enough points have weight."""
    inside = log_weights[log_weights > -math.inf]
    power = _largest(lambda k: effective_fraction(k * inside), 0.0, RESAMPLING_ESS)
    return torch.where(log_weights > -math.inf, power * log_weights, -math.inf).softmax(0)


def _loss(flow: Flow, points: _Points, beta: float) -> Tensor:
    """Return a number whose gradient is that of the divergences."""
    x = points.x.detach().requires_grad_()
    z, log_q = _encode(flow, x)
    score = points.score_start.lerp(points.score, beta)
    (slope,) = torch.autograd.grad(log_q.sum(), x, retain_graph=True)
    pull = (score - slope).flatten(1)
    pull = torch.where(pull.isfinite().all(1, keepdim=True), pull, 0.0)
    latents = z.detach().requires_grad_()
    again, _ = flow.push_forward(latents)
    (path,) = torch.autograd.grad((again.flatten(1) * pull).sum(), latents)
    return (path * z).sum() / len(x) - log_q.mean()


@torch.no_grad()
def _missed(flow: Flow, points: _Points, log_z: float) -> float:
    """Return the fraction of the mass at points where the flow has less than a hundredth of it."""
    log_q = _encode(flow, points.x)[1]
    ratio = points.log_p - log_z - log_q
    return float(points.log_weights(1.0).softmax(0)[ratio > math.log(100)].sum())
