r"""Gaussians and Gaussian mixtures that models of vectors start as, chosen by held-out rows.

The first layer of a model of vectors is a Gaussian or a mixture of Gaussians
(:class:`~realnvp.bijections.Rosenblatt`), fitted here, and everything about it is chosen by
held-out rows: how far the covariance of few rows is shrunk, how many Gaussians there are, and
whether they depend on the condition. Nothing depends on the unit of a column, of the condition or
of the weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from realnvp.columns.fitting.rows import moments, weight_fractions
from realnvp.utils.weights import draw_weighted

__all__ = [
    "Mixture",
    "choose_mixture",
    "fit_gaussian",
    "fit_mixture",
    "log_density",
]

SHRINKAGES = (1e-6, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0)
"""Candidate shrinkages. The smallest keeps dependent columns invertible in float32."""

STRENGTHS = (0.0, 2.0, 5.0, 10.0, 20.0, 50.0, 200.0, math.inf)
"""Candidate numbers of rows of the pooled covariance that are added to each class's own."""

POOLED = (0.0, 0.5, 2.0, 8.0)
"""Candidate numbers of rows per column of the mean covariance that are added to each of a
mixture's."""

FOLDS = 5
"""Number of folds of cross-validation; one of the five is enough with :data:`MANY_ROWS`."""

FEW_ROWS = 100
"""With fewer rows, more Gaussians must be better beyond chance."""

MANY_ROWS = 2_000

COMPONENTS = 2, 3, 4, 6, 8, 12, 16
"""Numbers of Gaussians that are tried after 1, until two in a row bring no improvement."""

RISE = 0.01
"""Gain in nats per column of twice as many Gaussians, from which on the data are not a mixture."""

LABEL_STD = 0.03
"""Standard deviation of Gaussians along columns that are constant in each group."""

MOST_ROWS = 10_000
"""Largest number of rows that mixtures are fitted to; a random choice if there are more."""

ENOUGH_ROWS = 5_000
"""Number of rows that suffice to choose the number of Gaussians."""

Mixture = tuple[Tensor, Tensor, Tensor]
"""Means ``(K, D)``, Cholesky factors ``(K, D, D)`` and weights ``(K,)`` of Gaussians, in float64;
for classes with a leading axis, see :class:`~realnvp.bijections.Rosenblatt`."""


# ---------------------------------------------------------------------- Gaussians


def fit_gaussian(x: Tensor, weight: Tensor | None = None) -> Mixture:
    r"""Return a Gaussian whose covariance is shrunk by the amount that suits held-out rows best.

    .. math:: \hat\Sigma = c\,S\,\big((1 - \alpha) R + \alpha I\big)\,S

    with the standard deviations :math:`S` and the correlations :math:`R` of the data. Shrinkage
    :math:`\alpha` (one of :data:`SHRINKAGES`) and inflation :math:`c` maximize the mean
    log-likelihood of held-out rows, and c is at least :math:`(N + 1) / (N - 3)`, which is best for
    columns with unknown mean and standard deviation. With many rows, neither makes a difference.

    Args:
        x: ``(N, D)`` rows, N at least 2, each column with some variation.
        weight: ``(N,)`` positive weights of the rows; equal by default.

    Returns:
        a mixture of one Gaussian.

    >>> x = torch.randn(10_000, 2, generator=torch.Generator().manual_seed(0))
    >>> mean, factor, weight = fit_gaussian(x + 5.0)
    >>> mean.round(decimals=1), (factor @ factor.mT).round(decimals=1).abs()
    (tensor([[5., 5.]], dtype=torch.float64), tensor([[[1., 0.],
             [0., 1.]]], dtype=torch.float64))
    """
    rows = x.double()
    w = weight_fractions(rows, weight)
    mean, std = moments(rows, w)
    factor, _ = _shrunk((rows - mean) / std, w)
    return mean[None], (std[:, None] * factor)[None], torch.ones(1, dtype=torch.float64)


def _shrunk(rows: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Return the factor of standardized rows' shrunk covariance, and each row's held-out score."""
    alphas = rows.new_tensor(SHRINKAGES)[:, None]
    squares = torch.zeros(len(SHRINKAGES), len(rows), dtype=rows.dtype)
    log_dets = torch.zeros_like(squares)
    held_out = torch.zeros(len(rows), dtype=torch.bool)
    for kept, held in _folds(len(rows)):
        center, correlation = _covariance(rows[kept], w[kept])
        values, vectors = torch.linalg.eigh(correlation)
        # (1 - alpha) R + alpha I has the eigenvectors of R, whatever alpha is.
        variances = (1 - alphas) * values.clamp(min=0) + alphas
        projected = ((rows[held] - center) @ vectors).square()
        squares[:, held] = (projected[None] / variances[:, None]).sum(-1)
        log_dets[:, held] = variances.log().sum(1, keepdim=True)
        held_out[held] = True
    d = rows.shape[1]
    w_held = w * held_out / (w * held_out).sum()
    # Number of rows, or the effective number if weights are unequal.
    n = max(1 / w.square().sum().item(), 3.5)
    inflation = (squares @ w_held / d).clamp(min=(n + 1) / (n - 3))[:, None]
    scores = -0.5 * (squares / inflation + log_dets + d * (inflation * 2 * math.pi).log())
    best = int((scores @ w_held).argmax())
    alpha = SHRINKAGES[best]
    _, correlation = _covariance(rows, w)
    shrunk = (1 - alpha) * correlation + alpha * torch.eye(d, dtype=rows.dtype)
    factor = inflation[best].sqrt() * torch.linalg.cholesky(shrunk)
    return factor, scores[best]


def _covariance(rows: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return weighted mean and covariance."""
    weight = weight / weight.sum()
    mean = weight @ rows
    centered = rows - mean
    return mean, centered.T @ (weight[:, None] * centered)


def _folds(n: int) -> list[tuple[Tensor, Tensor]]:
    """Return pairs of the indices that are kept and the indices that are held out."""
    folds = min(FOLDS, n) if n >= 4 * FOLDS else n
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    return [
        (
            torch.cat([order[j::folds] for j in range(folds) if j != i]).sort().values,
            order[i::folds],
        )
        for i in range(1 if n >= MANY_ROWS else folds)
    ]


# ---------------------------------------------------------------------- mixtures


def fit_mixture(x: Tensor, components: int, weight: Tensor | None = None, seed: int = 0) -> Mixture:
    """Fit Gaussians by expectation maximization; a single one by :func:`fit_gaussian`.

    Args:
        x: ``(N, D)`` rows, each column with some variation.
        components: number of Gaussians.
        weight: ``(N,)`` positive weights of the rows; equal by default.
        seed: seed of the first guess.

    Raises:
        ValueError: if there are more Gaussians than rows.
    """
    if components == 1:
        return fit_gaussian(x, weight)
    if components > len(x):
        raise ValueError(f"a mixture of {components} Gaussians needs as many rows, got {len(x)}")
    from sklearn.mixture import GaussianMixture

    rows = x.double()
    mean, std = moments(rows, weight)
    rows = (rows - mean) / std
    if weight is not None:  # scikit-learn's mixture does not support weights
        generator = torch.Generator().manual_seed(seed)
        rows = rows[draw_weighted(weight_fractions(rows, weight), generator)]
    model = GaussianMixture(components, random_state=seed % 2**32, tol=1e-3).fit(rows.numpy())
    means, covariances, weights = (
        torch.as_tensor(a) for a in (model.means_, model.covariances_, model.weights_)
    )
    weights = weights.clamp(min=1e-9)
    factors = std[:, None] * torch.linalg.cholesky(covariances)
    return means * std + mean, factors, weights / weights.sum()


def log_density(x: Tensor, mixture: Mixture) -> Tensor:
    """Return the log-density of rows ``(N, D)`` under a mixture, ``(N,)``."""
    means, factors, weights = mixture
    terms = []
    for mean, factor, weight in zip(means, factors, weights, strict=True):
        u = torch.linalg.solve_triangular(factor, (x - mean).T, upper=False)
        log_det = factor.diagonal().log().sum() + 0.5 * len(mean) * math.log(2 * math.pi)
        terms.append(weight.log() - 0.5 * u.square().sum(0) - log_det)
    return torch.stack(terms).logsumexp(0)


def _given(rows: Tensor, mixture: Mixture, m: int) -> Tensor:
    """Return the log-density of rows given their first ``m`` columns, ``(N,)``."""
    joint = log_density(rows, mixture)
    if m == 0:
        return joint
    means, factors, weights = mixture
    return joint - log_density(rows[:, :m], (means[:, :m], factors[:, :m, :m], weights))


def choose_mixture(
    rows: Tensor,
    weight: Tensor,
    condition: Tensor | None = None,
    labels: Tensor | None = None,
    classes: int = 0,
    *,
    components: int | None = None,
    groups: Tensor | None = None,
    seed: int = 0,
) -> Mixture:
    """Fit the mixture of Gaussians that a model starts as.

    The mixture depends on the condition where that gives held-out rows a higher likelihood: a
    mixture for every class, whose covariance is shrunk towards the classes' common one, or a joint
    mixture of a numeric condition and the rows.

    Args:
        rows: ``(N, D)`` rows as couplings receive them, float64.
        weight: ``(N,)`` weights, which add up to 1.
        condition: ``(N, K)`` condition as layers take it.
        labels: ``(N,)`` classes, if the condition is a class.
        classes: number of classes.
        components: number of Gaussians, of each class if there are classes; chosen by
            cross-validation by default.
        groups: ``(N,)`` groups of the rows that features of a numeric condition tell apart, -1 for
            none. A Gaussian of each is compared with the other mixtures.
        seed: seed of the first guess.

    Returns:
        the tensors that :class:`~realnvp.bijections.Rosenblatt` takes.
    """
    mean, std = moments(rows, weight)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:MOST_ROWS]
    x, w = ((rows - mean) / std)[order], weight[order]
    choose = _Choice(bool((weight != weight[0]).any()), components, seed)
    if labels is not None:
        mixture = choose.classes(x, w, labels[order], classes)
    elif condition is not None:
        mixture = choose.joint(condition[order], x, w, None if groups is None else groups[order])
    else:
        mixture, _ = choose.mixture(x, w)
    means, factors, weights = mixture
    before = torch.zeros(means.shape[-1] - len(mean), dtype=mean.dtype)
    mean, std = torch.cat((before, mean)), torch.cat((before + 1, std))
    return means * std + mean, factors * std[:, None], weights


@dataclass(frozen=True)
class _Choice:
    """Choice of mixtures of standardized rows, by the likelihood of held-out rows.

    Args:
        weighted: whether the rows differ in their weights.
        components: number of Gaussians, None if it is to be chosen.
        seed: seed of the first guess.
    """

    weighted: bool
    components: int | None
    seed: int

    def mixture(self, x: Tensor, w: Tensor, m: int = 0) -> tuple[Mixture, Tensor]:
        """Return a mixture, and the held-out log-density of rows given their first columns.

        Data that twice as many Gaussians always fit much better are not a mixture but curved:
        couplings learn that better from a single Gaussian.

        Args:
            x: ``(N, D)`` rows.
            w: ``(N,)`` weights.
            m: number of leading columns that are conditioned on.

        Returns:
            the mixture, and ``(N,)`` log-densities, NaN in rows that no fold held out.
        """
        if self.components is not None or len(x) < 4 * FOLDS:
            return self.fit(x, w, self.components or 1), torch.full_like(w, math.nan)
        everything, weight, n = x, w, len(x)
        x, w = x[:ENOUGH_ROWS], w[:ENOUGH_ROWS]  # the rows are in random order
        scores: dict[int, Tensor] = {}
        strengths: dict[int, float] = {}
        best = 1
        for k in (1, *COMPONENTS):
            if k > 1 and k * 2 * x.shape[1] > len(x):
                break
            if len(scores) > 2 and best not in [*scores][-2:]:
                break
            found = self._held_out(x, w, k, m)
            means = [_mean(row, w) for row in found]
            i = means.index(max(means))
            scores[k], strengths[k] = found[i], POOLED[i] * x.shape[1]
            if _is_better(scores[k], scores[best], w):
                best = k
        top = max(scores)
        if len(x) >= MANY_ROWS and top == COMPONENTS[-1]:
            rise = _mean(scores[top], w) - _mean(scores[top // 2], w)
            best = 1 if rise > RISE * (x.shape[1] - m) else best
        held_out = torch.full((n,), math.nan, dtype=x.dtype)
        held_out[: len(x)] = scores[best]
        return _pooled(self.fit(everything, weight, best), n, strengths[best]), held_out

    def fit(self, x: Tensor, w: Tensor, k: int) -> Mixture:
        """Return a mixture of ``k`` Gaussians."""
        return fit_mixture(x, k, w if self.weighted else None, self.seed)

    def _held_out(self, x: Tensor, w: Tensor, k: int, m: int) -> Tensor:
        """Return the log-density of held-out rows, for each of :data:`POOLED`."""
        scores = torch.full((len(POOLED), len(x)), math.nan, dtype=x.dtype)
        for kept, held in _folds(len(x)):
            mixture = self.fit(x[kept], w[kept], k)
            for i in range(len(POOLED) if k > 1 else 1):
                shrunk = _pooled(mixture, len(kept), POOLED[i] * x.shape[1])
                scores[i, held] = _given(x[held], shrunk, m)
        return scores[:1] if k == 1 else scores

    def joint(self, given: Tensor, x: Tensor, w: Tensor, groups: Tensor | None) -> Mixture:
        """Return a joint mixture of a numeric condition ``(N, M)`` and the rows."""
        m, d = given.shape[1], x.shape[1]
        rows = torch.cat((given, x), dim=1)
        dependent, scores = self.mixture(rows, w, m)
        if groups is not None:
            if self.components is not None:
                scores = self._held_out(rows, w, self.components, m).amax(0)
            grouped, its = _grouped(rows, w, groups, m)
            if _is_better(its, scores, w):
                return grouped
        if self.components is not None:
            return dependent
        (means, factors, weights), without = self.mixture(x, w)
        if _mean(scores, w) >= _mean(without, w):
            return dependent
        k = len(weights)  # the condition carries no information
        wide = torch.eye(m + d, dtype=x.dtype).repeat(k, 1, 1)
        wide[:, m:, m:] = factors
        return torch.cat((means.new_zeros(k, m), means), dim=1), wide, weights

    def classes(self, x: Tensor, w: Tensor, labels: Tensor, classes: int) -> Mixture:
        """Return a mixture for every class: its own, a shrunk Gaussian, or that of all rows."""
        gaussians, scores = _class_gaussians(x, w, labels, classes)
        chosen: list[Mixture] = list(zip(*gaussians, strict=True))
        for c in range(classes):
            own = labels == c
            rows, least = int(own.sum()), 2 * x.shape[1] * (self.components or 2)
            if self.components == 1 or rows < max(least, 4 * FOLDS):
                continue
            mixture, its = self.mixture(x[own], w[own])
            if self.components is not None:
                chosen[c] = mixture
            elif _mean(its, w[own]) > _mean(scores[own], w[own]):
                chosen[c], scores[own] = mixture, its
        if self.components is None:
            pooled, without = self.mixture(x, w)
            if _mean(without, w) > _mean(scores, w):
                chosen = [pooled] * classes
        k = max(len(weights) for _, _, weights in chosen)
        padded = [_split(mixture, k) for mixture in chosen]
        means, factors, weights = (torch.stack(tensors) for tensors in zip(*padded, strict=True))
        return means, factors, weights


def _mean(scores: Tensor, w: Tensor) -> float:
    known = ~scores.isnan()
    return float(w[known] @ scores[known] / w[known].sum())


def _is_better(scores: Tensor, than: Tensor, w: Tensor) -> bool:
    """Return whether held-out scores are better than those of a simpler mixture.

    With few rows, by at least a standard error of the difference (Breiman et al. 1984, section
    3.4.3).
    """
    gain = _mean(scores - than, w)
    if len(w) >= FEW_ROWS:
        return gain > 0
    known = ~scores.isnan()
    share = w[known] / w[known].sum()
    error = (share.square() @ ((scores - than)[known] - gain).square()).sqrt()
    return gain > float(error)


def _pooled(mixture: Mixture, rows: int, strength: float) -> Mixture:
    """Shrink the covariances of a mixture towards their mean, most strongly for those of few rows.

    Args:
        mixture: mixture.
        rows: number of rows that it was fitted to.
        strength: number of rows that the mean covariance counts for.
    """
    if strength == 0 or len(mixture[2]) == 1:
        return mixture
    means, factors, weights = mixture
    own, n = factors @ factors.mT, rows * weights[:, None, None]
    mean = (weights[:, None, None] * own).sum(0)
    shrunk = (n * own + strength * mean) / (n + strength) * (1 + 1 / n)
    return means, torch.linalg.cholesky(shrunk), weights


def _split(mixture: Mixture, k: int) -> Mixture:
    """Return the same mixture with ``k`` Gaussians, some of which are repeated."""
    means, factors, weights = mixture
    index = torch.arange(k) % len(weights)
    return means[index], factors[index], weights[index] / index.bincount()[index]


def _grouped(rows: Tensor, w: Tensor, groups: Tensor, m: int) -> tuple[Mixture, Tensor]:
    """Return a Gaussian of each group, and held-out log-densities given the first ``m`` columns.

    Columns that are constant in each group only tell which one it is.
    """
    count = int(groups.max()) + 1

    def fit(index: Tensor) -> Mixture:
        index = index[groups[index] >= 0]
        own, its, weight = groups[index], rows[index], w[index]
        ends = torch.stack([its[own == g][[0, -1]] for g in range(count)])
        varies = (its != ends[own, 0]).any(0)
        (means, factors, _), _ = _class_gaussians(its[:, varies], weight, own, count)
        center, factor = ends[:, 0].clone(), LABEL_STD * torch.eye(len(varies)).to(its)
        factor = factor.repeat(count, 1, 1)
        center[:, varies] = means[:, 0]
        factor[:, varies.nonzero(), varies.nonzero().T] = factors[:, 0]
        size = torch.bincount(own, weight, minlength=count)
        return center, factor, size / size.sum()

    scores = torch.full_like(w, math.nan)
    for kept, held in _folds(len(rows)):
        scores[held] = _given(rows[held], fit(kept), m)
    return fit(torch.arange(len(rows))), scores


def _class_gaussians(x: Tensor, w: Tensor, labels: Tensor, classes: int) -> tuple[Mixture, Tensor]:
    r"""Return a Gaussian per class, and the held-out log-density of the rows.

    .. math:: \hat\Sigma_c = \tfrac{n_c + 1}{n_c} \, \frac{n_c S_c + n_0 S}{n_c + n_0}

    with the class's own covariance :math:`S_c` of :math:`n_c` rows, the classes' common one
    :math:`S`, and the :math:`n_0` of :data:`STRENGTHS` that suits held-out rows best (regularized
    discriminant analysis, Friedman 1989). The first factor is for the error of the mean.
    """

    def fit(rows: Tensor, weight: Tensor, of: Tensor) -> Callable[[float], Mixture]:
        d = rows.shape[1]
        overall, covariance = _covariance(rows, weight)
        counts = torch.bincount(of, minlength=classes)
        means = overall.repeat(classes, 1)
        own = torch.zeros(classes, d, d, dtype=rows.dtype)
        for c in range(classes):
            if counts[c]:
                means[c], own[c] = _covariance(rows[of == c], weight[of == c])
        residual = rows - means[of]
        # Means of few rows are close to these rows: the residuals are too small.
        freedom = len(rows) / max(1, len(rows) - int((counts > 0).sum()))
        mean, std = moments(residual, weight)
        factor, _ = _shrunk((residual - mean) / std, weight / weight.sum())
        pooled = (std[:, None] * factor) @ (std[:, None] * factor).T * freedom
        n = counts.to(rows.dtype)[:, None, None]

        def shrink(strength: float) -> Mixture:
            share = torch.where(n > d, strength / (n + strength), 1.0) if strength < math.inf else 1
            if strength == 0:
                share = torch.where(n > 2 * d, 1e-3, 1.0)
            sigma = (1 - share) * own + share * pooled
            sigma = torch.where(n > 0, sigma * (1 + 1 / n.clamp(min=1)), covariance + pooled)
            factors = torch.linalg.cholesky(sigma)
            ones = torch.ones(classes, 1, dtype=rows.dtype)
            return means[:, None], factors[:, None], ones

        return shrink

    scores = torch.full((len(STRENGTHS), len(x)), math.nan, dtype=x.dtype)
    for kept, held in _folds(len(x)):
        shrink = fit(x[kept], w[kept], labels[kept])
        for i, strength in enumerate(STRENGTHS):
            means, factors, weights = shrink(strength)
            for c in labels[held].unique():
                its = held[labels[held] == c]
                scores[i, its] = log_density(x[its], (means[c], factors[c], weights[c]))
    best = max(range(len(STRENGTHS)), key=lambda i: _mean(scores[i], w))
    return fit(x, w, labels)(STRENGTHS[best]), scores[best]
