r"""Muon: steps for matrices that are large in every direction, not only along the steepest ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

__all__ = ["Muon", "orthogonalize"]

RATIO = 4.0
"""A matrix's step over the learning rate. Adam's step moves each weight by about the rate; Muon's
has the rate as its singular values, so that each of n weights in a row moves by 1 / sqrt(n) of it.
With this ratio both like the same rates (MNIST; the best rate is flat for the matrices)."""

MOMENTUM = 0.95

COEFFICIENTS = 3.4445, -4.7750, 2.0315
"""Of a polynomial that takes singular values between 0.01 and 1 to about 1 in five iterations."""


def orthogonalize(matrices: Tensor, iterations: int = 5) -> Tensor:
    r"""The nearest (semi-)orthogonal matrices, roughly: :math:`U \Sigma V^T \to U V^T`.

    Newton-Schulz iterations :math:`X \leftarrow a X + (b A + c A^2) X,\; A = X X^T` (Keller Jordan
    et al., "Muon: an optimizer for hidden layers in neural networks", 2024). The coefficients are
    chosen for speed: the singular values come out between 0.7 and 1.2, which a step can bear.

    Args:
        matrices: ``(N, rows, columns)``, in the type in which to compute.
        iterations: how many.

    >>> s = torch.linalg.svdvals(orthogonalize(torch.randn(2, 8, 24)))
    >>> bool((s > 0.5).all() and (s < 1.5).all())
    True
    """
    a, b, c = COEFFICIENTS
    x = matrices / (torch.linalg.matrix_norm(matrices)[:, None, None] + 1e-7)
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Adam):
    r"""Muon for the matrices inside networks, and Adam for everything else.

    .. math::
        m \leftarrow 0.95\, m + 0.05\, g, \qquad
        w \leftarrow w - 4\, \mathrm{lr} \sqrt{\max(1, \mathrm{rows} / \mathrm{columns})}\;
        \mathrm{orthogonalize}(0.05\, g + 0.95\, m)

    The gradient of a layer is dominated by few directions. Adam rescales each weight by itself and
    keeps that; with all singular values made equal, the others are learned as fast. A kernel
    ``(out, in, h, w)`` is the matrix of ``out`` rows. Those of one shape are orthogonalized at
    once.

    Args:
        matrices: parameters of two or more dimensions, for Muon.
        others: all other parameters, for Adam.
        lr: learning rate, of both: the matrices' own is four times as large.
        betas: Adam's moment decays.
        dtype: in which to orthogonalize; bfloat16 is exact enough, and faster where it is native.

    >>> weight, bias = torch.nn.Parameter(torch.zeros(2, 3)), torch.nn.Parameter(torch.zeros(2))
    >>> optimizer = Muon([weight], [bias], lr=0.5)
    >>> (weight.sum() + bias.sum()).backward()
    >>> optimizer.step()
    >>> bool(1 < torch.linalg.matrix_norm(weight, 2) < 3), bias
    (True, Parameter containing:
    tensor([-0.5000, -0.5000], requires_grad=True))
    """

    def __init__(
        self,
        matrices: Iterable[Tensor],
        others: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        dtype: torch.dtype = torch.float32,
    ) -> None:
        groups: list[dict[str, Any]] = [
            {"params": list(others), "orthogonal": False},
            {"params": list(matrices), "orthogonal": True},
        ]
        super().__init__([group for group in groups if group["params"]], lr, betas, fused=True)
        self.orthogonal_dtype = dtype

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step of both; a closure goes to Adam."""
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group["orthogonal"]]
        try:
            loss = super().step(closure)
        finally:
            self.param_groups = groups
        for group in groups:
            if group["orthogonal"]:
                self._step_matrices(group)
        return loss

    def _step_matrices(self, group: dict[str, Any]) -> None:
        updates: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for weight in group["params"]:
            if weight.grad is None:
                continue
            state = self.state[weight]
            if not state:
                state["exp_avg"] = torch.zeros_like(weight)
            state["exp_avg"].lerp_(weight.grad, 1 - MOMENTUM)
            update = weight.grad.lerp(state["exp_avg"], MOMENTUM).flatten(1)
            updates[update.shape[0], update.shape[1]].append((weight, update))
        for (rows, columns), pairs in updates.items():
            stack = torch.stack([update for _, update in pairs]).to(self.orthogonal_dtype)
            size = RATIO * group["lr"] * max(1.0, rows / columns) ** 0.5
            for (weight, _), step in zip(pairs, orthogonalize(stack), strict=True):
                weight.sub_(step.to(weight.dtype).view_as(weight), alpha=size)
