"""Priors of parameters, and how they are kept beside a saved posterior: by name, without pickle."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import distributions
from torch.distributions import Distribution, Independent, Uniform

__all__ = ["Prior", "as_prior", "prior_from_json", "prior_to_json"]

Prior = Distribution | tuple[ArrayLike, ArrayLike]

SAVED = {
    "Beta": ("concentration1", "concentration0"),
    "Cauchy": ("loc", "scale"),
    "Exponential": ("rate",),
    "Gamma": ("concentration", "rate"),
    "HalfCauchy": ("scale",),
    "HalfNormal": ("scale",),
    "Laplace": ("loc", "scale"),
    "LogNormal": ("loc", "scale"),
    "MultivariateNormal": ("loc", "scale_tril"),
    "Normal": ("loc", "scale"),
    "StudentT": ("df", "loc", "scale"),
    "Uniform": ("low", "high"),
}
"""Distributions of PyTorch that are saved, and the tensors that determine them."""


def as_prior(prior: Any) -> Distribution:
    """Return a prior of vectors: a distribution, or bounds of a uniform one.

    >>> as_prior(([0.0, 0.0], [1.0, 2.0])).event_shape
    torch.Size([2])
    """
    if isinstance(prior, tuple) and len(prior) == 2:
        low, high = (torch.atleast_1d(torch.as_tensor(end, dtype=torch.float32)) for end in prior)
        if not (low.isfinite() & high.isfinite() & (low < high)).all():
            raise ValueError(f"bounds of a prior are finite, low before high, got {prior}")
        prior = Uniform(low, high)
    if not isinstance(prior, Distribution):
        raise ValueError(
            f"a prior is a torch.distributions object, or (low, high), got {str(prior)[:50]!r}"
        )
    if not prior.event_shape and not prior.batch_shape:
        prior = prior.expand((1,))
    return prior if prior.event_shape else Independent(prior, 1)


def prior_to_json(prior: Distribution) -> dict[str, Any] | None:
    """Return a prior as JSON, or None if it is not one of :data:`SAVED`.

    >>> prior_to_json(as_prior(([0.0], [1.0])))["name"]
    'Uniform'
    """
    base = prior.base_dist if isinstance(prior, Independent) else prior
    name = type(base).__name__
    if type(base) is not getattr(distributions, name, None) or name not in SAVED:
        return None
    tensors = {key: getattr(base, key) for key in SAVED[name]}
    numbers = {key: [str(t.dtype), t.tolist()] for key, t in tensors.items()}
    return {"name": name, **numbers}


def prior_from_json(entry: dict[str, Any]) -> Distribution:
    """Return the prior of :func:`prior_to_json`, whose entry may come from an untrusted file.

    Raises:
        ValueError, KeyError or TypeError: if it is not such an entry.
    """
    name = entry["name"]
    types = {"torch.float32": torch.float32, "torch.float64": torch.float64}
    tensors = {}
    for key in SAVED[name]:
        dtype, numbers = entry[key]
        tensors[key] = torch.tensor(numbers, dtype=types[dtype])
    return as_prior(getattr(distributions, name)(**tensors, validate_args=True))
