"""Flows inside nessai's nested samplers (https://nessai.readthedocs.io), in place of its own.

>>> sampler = FlowSampler(model, flow_config={"flow": NessaiFlow})  # doctest: +SKIP
"""

from __future__ import annotations

from typing import Any

import torch
from nessai.flows.base import BaseFlow
from torch import Tensor

from realnvp.config import VectorModel, VectorRecipe

__all__ = ["NessaiFlow"]


class NessaiFlow(BaseFlow):
    """A flow of :func:`realnvp.vector_flow` as nessai's samplers build, train and sample it.

    Args:
        n_inputs: number of parameters.
        n_neurons: hidden units of the networks; None is 32.
        n_blocks: number of couplings.
        n_layers: residual blocks of each network.
        context_features: size of the context, None for a flow without one.
        options: further options of :func:`realnvp.vector_flow`, such as ``coupling="affine"``.

    Raises:
        ValueError: if nessai's configuration asks for another latent distribution.
    """

    def __init__(
        self,
        n_inputs: int,
        n_neurons: int | None = None,
        n_blocks: int = 4,
        n_layers: int = 1,
        context_features: int | None = None,
        distribution: Any = None,
        **options: Any,
    ) -> None:
        super().__init__()
        if distribution is not None:
            raise ValueError("the latents of this flow are standard normal: leave distribution out")
        sizes = {"hidden": n_neurons or 32, "couplings": n_blocks, "blocks": n_layers}
        recipe = VectorRecipe(VectorModel(**(sizes | options)))
        self._make = lambda: recipe.build(n_inputs, condition_dim=context_features or 0)
        self.flow = self._make()

    def reset_parameters(self) -> None:
        """Start anew, as nessai asks for between trainings."""
        self.flow.load_state_dict(self._make().state_dict())

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.flow.latents_and_log_det(x, context)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.flow.decode_and_log_det(z, context)

    def sample(self, n: int, context: Tensor | None = None) -> Tensor:
        return self.flow.sample(n, condition=context)

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.forward_and_log_prob(x, context)[1]

    def sample_latent_distribution(self, n: int, context: Tensor | None = None) -> Tensor:
        return torch.randn(n, self.flow.dim, dtype=self.flow.dtype, device=self.flow.device)

    def base_distribution_log_prob(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return self.flow.log_prior(z)

    def forward_and_log_prob(
        self, x: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        z, log_det = self.forward(x, context)
        return z, self.flow.log_prior(z) + log_det

    def sample_and_log_prob(self, n: int, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.flow.sample_and_log_prob(n, context)

    def freeze_transform(self) -> None:
        self.flow.requires_grad_(False)

    def unfreeze_transform(self) -> None:
        self.flow.requires_grad_(True)
