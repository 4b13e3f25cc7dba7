"""Layers that model some columns first, and the others given them."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from realnvp.bijections.base import Bijection, Terms

__all__ = ["ColumnsFirst"]


class ColumnsFirst(Bijection):
    """Model some columns, and transform the others by an inner bijection, conditioned on them.

    Attributes:
        columns: indices of the columns that are modeled first.
        others: indices of the other columns, in order.
        inner: bijection of the other columns.
    """

    columns: list[int]
    others: list[int]
    inner: Bijection

    @abstractmethod
    def features(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the condition of the inner layers, for columns ``(B, D)``."""

    @abstractmethod
    def forward_terms(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Terms]:
        """Map data to latent, with the terms of the log-determinant."""

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z, terms = self.forward_terms(x, condition)
        return z, torch.stack(list(terms.values())).sum(0)

    def _joined(self, first: Tensor, rest: Tensor) -> Tensor:
        """Return all columns in their order, from those modeled first and the others."""
        order = torch.tensor([*self.columns, *self.others], device=rest.device).argsort()
        return torch.cat((first.to(rest.dtype), rest), dim=1)[:, order]
