r"""Evaluate a flow: bits/dim or nats, the round trip, and classification by Bayes' rule.

:func:`evaluate` and :func:`accuracy` pass the batches of a split, with noise that belongs to the
example, and can share them between processes.

The bound of :mod:`realnvp.bijections.dequantization` is tightened by importance weights over K
draws of the noise (arXiv 1509.00519; for uniform noise the proposal is the prior of the noise):

.. math:: \log P(x) \ge E\Big[\log \tfrac{1}{K} \sum_k p(x + u_k)\Big],

which for K = 1 is the bound that is trained and usually reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from realnvp.bijections.dequantization import Noise
from realnvp.data import Split, as_split
from realnvp.flow import Flow
from realnvp.round_trip import exact_latents
from realnvp.utils.distributed import all_reduce, rank, world_size
from realnvp.utils.rng import Stream

__all__ = [
    "Likelihood",
    "RoundTrip",
    "class_log_likelihoods",
    "column_density",
    "evaluate",
    "grid_log_probs",
    "log_likelihood",
    "log_likelihoods",
    "round_trip",
    "sure_samples",
]

MOST_DRAWS = 50
"""Largest number of draws for each sample that :func:`sure_samples` keeps."""

READ = 64
"""Number of samples that are classified at once, which takes as many times the classes' memory."""

Progress = Callable[[int, int], None]
"""Called with the number of examples done, and the total."""


@dataclass(frozen=True)
class Likelihood:
    """Likelihood of data: bits/dim of images, or nats of vectors.

    ``noise_draws`` is 0 for continuous data, to which no noise is added. ``true_nats`` and ``kl``
    (the mean difference of the log-densities, an estimate of KL(true || model) in nats) are set
    where the density of the data is known.
    """

    examples: int
    standard_error: float
    noise_draws: int
    bits_per_dim: float | None = None
    levels: int | None = None
    nats: float | None = None
    true_nats: float | None = None
    kl: float | None = None
    kl_standard_error: float | None = None

    @property
    def loss(self) -> float:
        """The value to minimize: bits/dim, or minus the nats."""
        if self.bits_per_dim is not None:
            return self.bits_per_dim
        assert self.nats is not None  # it is one of the two
        return -self.nats

    def as_dict(self) -> dict[str, Any]:
        """Return the fields that are set, for JSON."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class RoundTrip:
    """Result of encoding and decoding data.

    ``wrong_values`` counts pixels that changed, which must be 0 (for vectors: values off by more
    than 1e-3 of their size or of 1); ``float_error`` is the largest error before rounding to
    pixels, in units of the preprocessed data (the unit interval for images).
    """

    examples: int
    values: int
    wrong_values: int
    float_error: float


def batches(
    split: Split, batch_size: int, device: torch.device, shared: bool = False
) -> Iterator[tuple[int, Tensor, Tensor | None, bool]]:
    """Yield the batches of a split in order.

    With ``shared``, each process gets some of the batches, which are the same for any number of
    processes. All get equally many, so that all know the names of the results: a process without a
    last batch repeats the first one, and those results are dropped.

    Yields:
        index of the first example, ``x``, ``condition``, and whether the results count.
    """
    starts = range(0, len(split), batch_size)
    number, count = (rank(), world_size()) if shared else (0, 1)
    for turn in range(0, len(starts), count):
        counts = turn + number < len(starts)
        start = starts[turn + number] if counts else 0
        x = split.x[start : start + batch_size].to(device)
        condition = split.condition
        if condition is not None:
            condition = condition[start : start + batch_size].to(device)
        yield start, x, condition, counts


def log_likelihood(
    flow: Flow,
    x: Tensor,
    condition: Tensor | None = None,
    *,
    samples: int = 1,
    generator: Noise | Callable[[int], Noise] = None,
) -> Tensor:
    """Return the log-likelihood of each example in nats; a bound if there is noise.

    Args:
        flow: flow to evaluate.
        x: examples ``(B, *shape)``.
        condition: labels or vectors, if the flow is conditional.
        samples: number K of noise draws; continuous data have no noise, and K changes nothing.
        generator: source of the noise, or a function that returns that of each draw.

    Returns:
        ``(B,)``.
    """
    if samples < 1:
        raise ValueError(f"the number of noise draws must be 1 or more, got {samples}")
    draws = samples if flow.noisy else 1
    sources = [generator(draw) if callable(generator) else generator for draw in range(draws)]
    log_probs = [flow.log_prob(x, condition, source) for source in sources]
    return torch.logsumexp(torch.stack(log_probs), dim=0) - math.log(draws)


@torch.no_grad()
def log_likelihoods(
    flow: Flow,
    split: Split,
    *,
    samples: int = 1,
    batch_size: int = 256,
    seed: int = 0,
    shared: bool = False,
    progress: Progress | None = None,
) -> Tensor:
    """Return the log-likelihood of every example of a split, in nats.

    The noise is a function of the seed and the index of the example, so the result depends neither
    on the batch size (but for rounding) nor on the number of processes.

    Args:
        flow: flow to evaluate; its mode is left as it was.
        split: examples to evaluate.
        samples: number of noise draws per example, for images and integer columns.
        batch_size: number of examples per batch.
        seed: seed of the noise.
        shared: share the work with the other processes of the process group. All must call this,
            and each returns all log-likelihoods.
        progress: called after every batch.

    Returns:
        ``(N,)``, float64, on the CPU.
    """
    if len(split) == 0:
        raise ValueError("there are no examples to evaluate")
    log_p = torch.zeros(len(split), dtype=torch.float64)
    with flow.evaluating():
        for start, x, condition, counts in batches(split, batch_size, flow.device, shared):

            def noise(draw: int, start: int = start, x: Tensor = x) -> Noise:
                return flow.example_noise((seed, Stream.DRAWS, draw), start, len(x))

            part = log_likelihood(flow, x, condition, samples=samples, generator=noise)
            if counts:
                log_p[start : start + len(x)] = part.cpu().double()
            if progress is not None:
                progress(start + len(x), len(split))
    return all_reduce(log_p.to(flow.device)).cpu() if shared and world_size() > 1 else log_p


@torch.no_grad()
def evaluate(
    flow: Flow,
    data: Split | ArrayLike | Tensor,
    condition: ArrayLike | Tensor | None = None,
    *,
    samples: int = 1,
    batch_size: int = 256,
    seed: int = 0,
    true_log_density: Callable[[Any], Any] | None = None,
    shared: bool = False,
    progress: Progress | None = None,
    log_p: Tensor | None = None,
) -> Likelihood:
    """Return the likelihood of examples, with reproducible noise.

    Args:
        flow: flow to evaluate; its mode is left as it was.
        data: examples to evaluate: an array of images or vectors, or a split of a data set.
        condition: their labels ``(N,)``, or vectors ``(N, K)``, if the flow is conditional.
        samples: number of noise draws per example, for images and integer columns.
        batch_size: number of examples per batch.
        seed: seed of the noise.
        true_log_density: true log-density, from an array ``(N, D)`` to ``(N,)`` in nats.
        shared: share the work with the other processes; see :func:`log_likelihoods`.
        progress: called after every batch.
        log_p: result of :func:`log_likelihoods`, if it has been computed already.

    Returns:
        bits/dim of images, or nats of vectors, with the standard error of the mean.

    Raises:
        ValueError: if there are no examples, or they are not what the flow models.
    """
    split = as_split(data, condition, least=1)
    if log_p is None:
        log_p = log_likelihoods(
            flow,
            split,
            samples=samples,
            batch_size=batch_size,
            seed=seed,
            shared=shared,
            progress=progress,
        )
    n = len(log_p)
    weight = torch.ones(n) if split.weight is None else split.weight.cpu()
    share = weight.double() / weight.double().sum()

    def mean(values: Tensor) -> float:
        return (share @ values).item()

    def error(values: Tensor) -> float:
        if n == 1:
            return math.nan
        variance = share @ (values - mean(values)).square() * n / (n - 1)
        return (variance.sqrt() * share.norm()).item()

    if flow.levels is not None:
        bits = -log_p / (flow.dim * math.log(2))
        return Likelihood(n, error(bits), samples, bits_per_dim=mean(bits), levels=flow.levels)
    if true_log_density is None:
        return Likelihood(n, error(log_p), samples if flow.noisy else 0, nats=mean(log_p))
    true = torch.as_tensor(true_log_density(split.x.cpu().numpy()))
    return Likelihood(
        n,
        error(log_p),
        0,
        nats=mean(log_p),
        true_nats=mean(true),
        kl=mean(true - log_p),
        kl_standard_error=error(true - log_p),
    )


@torch.no_grad()
def round_trip(
    flow: Flow, split: Split, *, batch_size: int = 256, seed: int = 0, shared: bool = False
) -> RoundTrip:
    """Encode and decode the examples of a split, and count the values that change.

    Args:
        flow: flow to evaluate.
        split: examples to encode.
        batch_size: number of examples per batch.
        seed: seed of the noise.
        shared: share the work with the other processes; see :func:`log_likelihoods`.
    """
    wrong, worst = 0, 0.0
    with flow.evaluating():
        for start, x, condition, counts in batches(split, batch_size, flow.device, shared):
            if condition is None and flow.classes is not None:  # the round trip works for any class
                condition = torch.zeros(len(x), dtype=torch.int64, device=x.device)
            condition = flow.as_condition(condition, len(x))
            noise = flow.example_noise((seed, Stream.ROUND_TRIP), start, len(x))
            _, v, back, _ = exact_latents(flow, x, condition, noise)
            error = (back - v).abs().max().item()
            worst = max(worst, math.inf if math.isnan(error) else error)
            if flow.levels is None:
                bad = ~((back - v).abs() <= 1e-3 * v.abs().clamp(min=1))  # NaN is bad
            else:
                assert flow.dequantization is not None  # there are levels
                bad = flow.dequantization.differs(x, back)
            wrong += int(bad.sum()) if counts else 0
    if shared and world_size() > 1:
        wrong = int(all_reduce(torch.tensor(wrong, device=flow.device)))
        worst = all_reduce(_one_hot(worst, flow.device)).max().item()
    return RoundTrip(len(split), split.x.numel(), wrong, worst)


def _one_hot(value: float, device: torch.device) -> Tensor:
    """Return the value at the index of this process, among zeros for the others."""
    values = torch.zeros(world_size(), dtype=torch.float64, device=device)
    values[rank()] = value
    return values


@torch.no_grad()
def column_density(
    flow: Flow, row: Tensor, column: int, at: Tensor, condition: Tensor | None = None
) -> Tensor:
    r"""Return the density of one column given the others, :math:`p(x_j \mid x_{-j})`.

    It is the joint density along the column, divided by its integral over the range of ``at`` (the
    trapezoidal rule), which therefore has to hold nearly all of the probability. An integer column
    has the density at the middle of its cells.

    Args:
        flow: a flow of vectors.
        row: ``(D,)``, the values of the other columns.
        column: index j of the column.
        at: ``(M,)``, increasing values of the column.
        condition: ``(1,)`` or ``(1, K)``, if the flow is conditional.

    Returns:
        ``(M,)``, on the CPU.

    >>> from realnvp import vector_flow
    >>> at = torch.linspace(-6, 6, 99)
    >>> density = column_density(vector_flow(3).eval(), torch.zeros(3), 0, at)
    >>> round(density.max().item(), 3)  # of a standard normal
    0.399
    """
    if flow.levels is not None or not 0 <= column < flow.dim:
        raise ValueError(f"there is no column {column} in a model of shape {flow.shape}")
    at = at.to(flow.device, flow.dtype)
    rows = row.to(flow.device, flow.dtype).expand(len(at), flow.dim).clone()
    rows[:, column] = at
    if flow.noisy:
        assert flow.columns is not None  # it is what has noise, if there are no levels
        rows = flow.columns.snap(rows).to(flow.dtype)
    given = None if condition is None else condition.to(flow.device)
    log_p = grid_log_probs(flow, rows[None], given)[0]
    density = (log_p - log_p.max()).exp()
    return (density / torch.trapezoid(density, at.double())).cpu()


def grid_log_probs(flow: Flow, x: Tensor, condition: Tensor | None = None) -> Tensor:
    """Return the log-densities of vectors ``(R, M, D)``, as ``(R, M)`` in float64.

    Those of an integer column are at the middle of its cells.

    Args:
        flow: a flow of vectors.
        x: vectors; ``M`` of them share a condition.
        condition: ``(R,)`` or ``(R, K)``, if the flow is conditional.
    """
    rows = x.flatten(0, 1)
    given = None if condition is None else condition.repeat_interleave(x.shape[1], 0)
    noise = torch.full_like(rows, 0.5, dtype=flow.dtype) if flow.noisy else None
    return flow.log_prob(rows, given, noise).double().view(x.shape[:2])


@torch.no_grad()
def class_log_likelihoods(
    flow: Flow,
    split: Split,
    *,
    batch_size: int = 256,
    seed: int = 0,
    shared: bool = False,
    progress: Progress | None = None,
) -> Tensor:
    r"""Return the log-likelihood of every example given each class, in nats.

    With equal priors, its logsumexp over the classes, less :math:`\log K`, is the log-likelihood
    without labels, and its argmax the class by Bayes' rule.

    Args:
        flow: a class-conditional flow.
        split: examples; their labels are ignored.
        batch_size: number of examples per batch.
        seed: seed of the dequantization noise, of which there is one draw, as in :func:`evaluate`.
        shared: share the work with the other processes; see :func:`log_likelihoods`.
        progress: called after every batch.

    Returns:
        ``(N, K)`` for K classes, float64, on the CPU.

    Raises:
        ValueError: if the flow is not conditioned on classes.
    """
    if flow.classes is None:
        raise ValueError("only a class-conditional flow can classify")
    joint = torch.zeros(len(split), flow.classes, dtype=torch.float64)
    for start, x, _, counts in batches(split, batch_size, flow.device, shared):
        noise = flow.example_noise((seed, Stream.DRAWS, 0), start, len(x))
        found = flow.class_log_probs(x, noise).cpu().double()
        if counts:
            joint[start : start + len(x)] = found
        if progress is not None:
            progress(start + len(x), len(split))
    return all_reduce(joint.to(flow.device)).cpu() if shared and world_size() > 1 else joint


@torch.no_grad()
def sure_samples(
    flow: Flow,
    labels: Tensor,
    probability: float,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
    progress: Progress | None = None,
) -> tuple[Tensor, int]:
    r"""Draw a sample of each label that the flow itself reads as that label.

    A sample :math:`x` of class :math:`c` is kept if its posterior for equally likely classes,
    :math:`p(c \mid x) = p(x \mid c) / \sum_k p(x \mid k)`, is at least ``probability``, and drawn
    again if not. What is kept is a draw from :math:`p(x \mid c)` restricted to these :math:`x`.

    Args:
        flow: a class-conditional flow.
        labels: classes ``(N,)``.
        probability: the least posterior of a sample that is kept.
        temperature: standard deviation of the latents.
        generator: source of latents and noise.
        progress: called with the number of samples that are kept, and the total.

    Returns:
        samples ``(N, *shape)`` in the order of the labels, and the number of draws.

    Raises:
        ValueError: if the flow is not conditioned on classes, or :data:`MOST_DRAWS` draws for each
            missing sample were not enough.

    >>> from realnvp import vector_flow
    >>> flow = vector_flow(2, classes=2).eval()
    >>> samples, drawn = sure_samples(flow, torch.tensor([0, 1, 1]), 0.4)
    >>> samples.shape, drawn
    (torch.Size([3, 2]), 3)
    """
    if flow.classes is None:
        raise ValueError("only a class-conditional flow can classify")
    labels = labels.to(flow.device)
    missing = torch.arange(len(labels), device=flow.device)
    samples, drawn = None, 0
    for _ in range(MOST_DRAWS):
        x = flow.sample(len(missing), temperature, labels[missing], generator)
        drawn += len(x)
        posterior = torch.cat(
            [flow.class_log_probs(part, generator).softmax(1) for part in x.split(READ)]
        )
        is_sure = posterior.gather(1, labels[missing, None])[:, 0] >= probability
        samples = x.new_empty(len(labels), *x.shape[1:]) if samples is None else samples
        samples[missing[is_sure]] = x[is_sure]
        missing = missing[~is_sure]
        if progress is not None:
            progress(len(labels) - len(missing), len(labels))
        if not len(missing):
            return samples, drawn
    raise ValueError(
        f"the flow is {probability:.0%} sure of only {len(labels) - len(missing):,} of "
        f"{len(labels):,} samples after {MOST_DRAWS} draws of each: ask for a lower probability"
    )
