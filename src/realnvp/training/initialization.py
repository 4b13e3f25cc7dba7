r"""Fits the Gaussian, or the mixture of Gaussians, that a model of few rows starts as.

The covariance of few rows is itself uncertain. That of a single Gaussian is shrunk towards the
independent one, by as much as held-out rows like best; and so is the number of Gaussians chosen.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from realnvp.architectures import image_flow, vector_flow
from realnvp.bijections import Affine, Rosenblatt
from realnvp.config import ImageRecipe, Recipe, VectorRecipe, to_dict
from realnvp.data import Dataset
from realnvp.data.batches import drawn
from realnvp.data.dataset import dequantized
from realnvp.flow import Flow
from realnvp.training.runtime import check_memory
from realnvp.utils.rng import seeded

__all__ = ["build", "choose_components", "fit_gaussian", "fit_mixture", "smoothing_of"]

SHRINKAGES = (1e-6, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0)
"""What is tried. The least one keeps the covariance of dependent columns invertible in float32."""


FOLDS = 5
"""Of the cross-validations that choose."""


COMPONENTS = 2, 3, 4, 6, 8, 12
"""Numbers of Gaussians that are tried after 1, until the second one that is no better."""


MOST_ROWS = 5_000
"""Rows that a mixture is fitted to: of more, some."""


Mixture = tuple[Tensor, Tensor, Tensor]
"""Means ``(K, D)``, Cholesky factors ``(K, D, D)`` and weights ``(K,)``."""


def fit_gaussian(x: Tensor, weight: Tensor | None = None) -> Mixture:
    r"""The mean and the Cholesky factor of a shrunk covariance.

    .. math:: \hat\Sigma = S\,\big((1 - \alpha) R + \alpha I\big)\,S

    with the deviations :math:`S` and the correlations :math:`R` of the data, and that
    :math:`\alpha` of :data:`SHRINKAGES` whose Gaussian gives held-out rows the largest mean
    log-likelihood.

    Args:
        x: ``(N, D)`` rows, N at least 2, each column with some variation.
        weight: ``(N,)`` of the rows, positive; equal if left out.

    Returns:
        a mixture of one, in the type of ``x``.

    >>> x = torch.tensor([[0.0, 0.0], [2.0, 6.0], [0.0, 0.0], [2.0, 6.0]])
    >>> mean, factor, _ = fit_gaussian(x)
    >>> mean, factor @ factor.mT
    (tensor([[1., 3.]]), tensor([[[1.0000, 3.0000],
             [3.0000, 9.0000]]]))
    """
    rows = x.double()
    w = torch.ones_like(rows[:, 0]) if weight is None else weight.double()
    w = w / w.sum()
    mean = w @ rows
    std = (w @ (rows - mean).square()).sqrt().clamp(min=1e-12)
    rows = (rows - mean) / std
    alphas = rows.new_tensor(SHRINKAGES)[:, None]
    score = torch.zeros(len(SHRINKAGES), dtype=rows.dtype)
    for kept, held in _folds(len(rows)):
        center, correlation = _moments(rows[kept], w[kept])
        values, vectors = torch.linalg.eigh(correlation)
        # (1 - alpha) R + alpha I has the eigenvectors of R, whatever alpha is.
        variances = (1 - alphas) * values.clamp(min=0) + alphas
        square = w[held] @ ((rows[held] - center) @ vectors).square()
        score -= 0.5 * (square / variances + w[held].sum() * variances.log()).sum(1)
    alpha = alphas[int(score.argmax())]
    _, correlation = _moments(rows, w)
    shrunk = (1 - alpha) * correlation + alpha * torch.eye(x.shape[1], dtype=rows.dtype)
    factor = std[:, None] * torch.linalg.cholesky(shrunk)
    return mean.to(x)[None], factor.to(x)[None], torch.ones(1).to(x)


def fit_mixture(x: Tensor, components: int, weight: Tensor | None = None, seed: int = 0) -> Mixture:
    """A mixture of Gaussians by expectation maximization; a single one is :func:`fit_gaussian`'s.

    Args:
        x: ``(N, D)`` rows, each column with some variation.
        components: number of Gaussians.
        weight: ``(N,)`` of the rows, positive; equal if left out.
        seed: of the first guess.
    """
    if components == 1:
        return fit_gaussian(x, weight)
    if components > len(x):
        raise ValueError(f"a mixture of {components} Gaussians needs as many rows, got {len(x)}")
    from sklearn.mixture import GaussianMixture

    rows = _sampled(x, weight, seed)
    mean, std = rows.mean(0), rows.std(0).clamp(min=1e-12)
    model = GaussianMixture(components, random_state=seed)
    model.fit(((rows - mean) / std).numpy())
    means, covariances, weights = (
        torch.as_tensor(a) for a in (model.means_, model.covariances_, model.weights_)
    )
    factors = std[:, None] * torch.linalg.cholesky(covariances)
    return (means * std + mean).to(x), factors.to(x), weights.clamp(min=1e-9).to(x)


def choose_components(x: Tensor, weight: Tensor | None = None, seed: int = 0) -> int:
    """The number of Gaussians whose mixture gives held-out rows the largest log-likelihood."""
    from realnvp.bijections import Rosenblatt

    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:MOST_ROWS]
    rows = x.double().cpu()[order]
    w = torch.ones_like(rows[:, 0]) if weight is None else weight.double().cpu()[order]
    if len(rows) < 4 * FOLDS:
        return 1

    def score(components: int) -> float:
        total = 0.0
        for kept, held in _folds(len(rows)):
            weights = None if weight is None else w[kept]
            start = Rosenblatt(*fit_mixture(rows[kept], components, weights, seed))
            z, log_det = start(rows[held])
            total += (w[held] @ (log_det - 0.5 * z.square().sum(1))).item()
        return total

    best, best_score, worse = 1, score(1), 0
    for components in COMPONENTS:
        if components * 2 * x.shape[1] > len(rows) or worse == 2:
            break
        found = score(components)
        worse = 0 if found > best_score else worse + 1
        if found > best_score:
            best, best_score = components, found
    return best


def _sampled(x: Tensor, weight: Tensor | None, seed: int) -> Tensor:
    """At most so many rows, in proportion to their weights, in float64."""
    generator = torch.Generator().manual_seed(seed)
    rows = x.double().cpu()
    if weight is not None:
        rows = rows[drawn(weight, generator)]
    return rows[torch.randperm(len(rows), generator=generator)[:MOST_ROWS]]


def _folds(n: int) -> list[tuple[Tensor, Tensor]]:
    """Indices that are kept, and held out."""
    folds = min(FOLDS, n)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    return [
        (torch.cat([order[j::folds] for j in range(folds) if j != i]), order[i::folds])
        for i in range(folds)
    ]


def _moments(rows: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean and covariance."""
    weight = weight / weight.sum()
    mean = weight @ rows
    centered = rows - mean
    return mean, centered.T @ (weight[:, None] * centered)


def build(recipe: Recipe, dataset: Dataset) -> Flow:
    """The recipe's untrained model for a data set.

    Raises:
        ValueError: if the recipe is for the other kind of data.
    """
    condition: dict[str, Any] = {
        "condition_dim": dataset.condition_dim,
        "classes": dataset.condition_classes or None,
    }
    options = to_dict(recipe.model)
    if isinstance(recipe, ImageRecipe) and dataset.kind == "image":
        assert dataset.levels is not None  # images always have levels
        channels, height, width = dataset.shape
        arguments = {"levels": dataset.levels, **condition, **options}
        check_memory(lambda: image_flow((channels, height, width), **arguments))
        with seeded(recipe.seed):
            return image_flow((channels, height, width), **arguments)
    if isinstance(recipe, VectorRecipe) and dataset.kind == "vector":
        arguments = {"integers": dataset.integers, **condition, **options}
        check_memory(lambda: vector_flow(dataset.shape[0], **arguments))
        first = _first_layer(dataset, recipe)
        with seeded(recipe.seed):
            return vector_flow(dataset.shape[0], **first, **arguments)
    raise ValueError(
        f"the recipe models {'images' if isinstance(recipe, ImageRecipe) else 'vectors'}, but "
        f"{dataset.name} holds {dataset.kind}s: choose another recipe (realnvp recipes lists them)"
    )


def _first_layer(dataset: Dataset, recipe: VectorRecipe) -> dict[str, Any]:
    """What the first layer standardizes with, or starts as; of columns that are dequantized."""
    x, weight = dequantized(dataset.train.x, dataset.integers, recipe.seed), dataset.train.weight
    if recipe.model.mixture_init:
        return {"mixture": fit_mixture(x, recipe.model.mixture_init, weight, recipe.seed)}
    share = torch.full_like(x[:, 0], 1 / len(x)) if weight is None else weight / weight.sum()
    mean = share @ x
    std = (share @ (x - mean).square()).sqrt()
    return {"mean": mean, "std": std.clamp(min=1e-6)}


def smoothing_of(
    flow: Flow, dataset: Dataset, amount: float, device: torch.device
) -> torch.Tensor | None:
    """What takes normal noise to that which training adds to vectors, not to their whole numbers.

    Returns:
        ``(D, D)``: ``amount`` deviations of the columns, or of the Gaussians that the flow starts
        as. None if nothing is to be added.

    Raises:
        ValueError: if the data are images, whose noise is that of dequantization.
    """
    if not amount:
        return None
    if dataset.kind != "vector":
        raise ValueError(
            f"training.smoothing adds noise to vectors, but {dataset.name} holds images: "
            "leave it out"
        )
    first = next((m for m in flow.modules() if isinstance(m, Affine | Rosenblatt)), None)
    if first is None:  # a flow of one's own
        factor = torch.diag(dataset.train.x.std(0))
    elif isinstance(first, Rosenblatt):
        factor = torch.linalg.cholesky(first.covariance().double()).T
    else:
        factor = torch.diag(first.scale)
    factor = amount * factor.to(device, flow.dtype)
    factor[:, list(dataset.integers)] = 0.0
    return factor
