"""Our flows as density estimators of sbi, for its ``NPE`` and ``NLE``, where ``sbi`` is installed.

from sbi.inference import NPE
from realnvp.interop.sbi import posterior_flow

inference = NPE(prior, density_estimator=posterior_flow(domain=prior.support))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from realnvp.bijections.domains import DomainLike, DomainMap, as_domain
from realnvp.config import VectorModel, VectorRecipe
from realnvp.flow import Flow

try:
    from sbi.neural_nets.estimators.base import ConditionalDensityEstimator
except ImportError as error:
    raise ImportError("realnvp.interop.sbi needs sbi: pip install sbi") from error

__all__ = ["FlowEstimator", "likelihood_flow", "posterior_flow"]

Builder = Callable[[Tensor, Tensor], "FlowEstimator"]


class FlowEstimator(ConditionalDensityEstimator):
    """A flow as sbi's conditional density estimator.

    Args:
        flow: flow of the input, given embedded conditions.
        embedding: network that embeds conditions.
        condition_shape: shape of one condition.
    """

    def __init__(self, flow: Flow, embedding: nn.Module, condition_shape: torch.Size) -> None:
        super().__init__(flow, torch.Size(flow.shape), condition_shape)
        self._embedding = embedding

    @property
    def embedding_net(self) -> nn.Module:
        """The network that embeds conditions."""
        return self._embedding

    def log_prob(self, input: Tensor, condition: Tensor, **kwargs: Any) -> Tensor:
        """Return log-densities ``(S, B)`` of ``(S, B, D)`` or ``(B, D)``."""
        values, given, batch = self._broadcast_and_align(input, condition)
        flat = given.reshape(-1, *self.condition_shape)
        log_prob = self.net.log_prob(values.reshape(-1, values.shape[-1]), self._embedding(flat))
        return log_prob.reshape(-1, batch)

    def loss(self, input: Tensor, condition: Tensor, **kwargs: Any) -> Tensor:
        """Return minus the log-density of each row, ``(B,)``."""
        return -self.log_prob(input[None], condition)[0]

    def sample(self, sample_shape: torch.Size, condition: Tensor, **kwargs: Any) -> Tensor:
        """Draw samples ``(*sample_shape, B, D)``."""
        return self.sample_and_log_prob(sample_shape, condition)[0]

    def sample_and_log_prob(
        self, sample_shape: torch.Size, condition: Tensor, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Draw samples, and return them with their log-densities ``(*sample_shape, B)``."""
        self._check_condition_shape(condition)
        embedded = self._embedding(condition.reshape(-1, *self.condition_shape))
        shape = (*sample_shape, len(embedded))
        given = embedded.expand(*shape, -1).reshape(-1, embedded.shape[-1])
        samples, log_prob = self.net.sample_and_log_prob(len(given), given)
        return samples.reshape(*shape, -1), log_prob.reshape(shape)


def posterior_flow(
    domain: DomainLike = None,
    embedding_net: nn.Module | None = None,
    model: VectorModel | None = None,
) -> Builder:
    """Return what ``NPE`` takes as its ``density_estimator``.

    Args:
        domain: domains of the parameters, such as ``prior.support``: nothing leaks out of it.
        embedding_net: network that embeds data.
        model: settings of the flow.
    """
    return lambda theta, x: _built(theta, x, domain, embedding_net, model)


def likelihood_flow(
    domain: DomainLike = None,
    embedding_net: nn.Module | None = None,
    model: VectorModel | None = None,
) -> Builder:
    """Return what ``NLE`` takes as its ``density_estimator``.

    Args:
        domain: domains of the data.
        embedding_net: network that embeds parameters.
        model: settings of the flow.
    """
    return lambda theta, x: _built(x, theta, domain, embedding_net, model)


def _built(
    values: Tensor,
    condition: Tensor,
    domain: DomainLike,
    embedding: nn.Module | None,
    model: VectorModel | None,
) -> FlowEstimator:
    """Return the flow of values ``(N, D)`` given conditions, standardized by these rows."""
    dim = values.shape[1]
    entries = as_domain(domain, dim)
    rows = values if entries is None else DomainMap(entries)(values)[0]
    net = nn.Flatten() if embedding is None else embedding
    with torch.no_grad():
        features = net(condition)
    settings = replace(VectorModel(hidden=64) if model is None else model, domain=entries)
    recipe = VectorRecipe(model=settings)
    flow = recipe.build(dim, condition_dim=features.shape[1], mean=rows.mean(0), std=rows.std(0))
    if embedding is None:  # the features of a network change while it is trained
        std = features.std(0).double()
        flow.condition_shift.copy_(features.mean(0))
        flow.condition_scale.copy_(torch.where(std > 0, std, 1.0))
    return FlowEstimator(flow, net, condition.shape[1:])
