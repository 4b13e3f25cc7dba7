r"""The average of several densities of one column, as a bijection.

Networks that are trained from different weights, or on different rows, make different errors, and
the average of their densities is better than each alone: an ensemble (arXiv 1612.01474). For one
column, an ensemble of flows is a flow, too. Each has the distribution function
:math:`\Phi(f_m(x))`, and so

.. math::
    z = \Phi^{-1}\Big(\frac{1}{M} \sum_m \Phi(f_m(x))\Big), \qquad
    \log \frac{dz}{dx} = \log \frac{1}{M} \sum_m \varphi(f_m(x)) \, f_m'(x) - \log \varphi(z)

is increasing, and its density under a standard normal is the mean of the members' densities. So
quantiles, samples and latents belong to the ensemble. The inverse is a search between the inverses
of the members.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from realnvp.bijections.base import Bijection, check_channels
from realnvp.bijections.gaussian_mixture import gaussianize
from realnvp.bijections.root_finding import find_root

__all__ = ["Average"]


class Average(Bijection):
    """Average the densities of bijections of one column, each increasing.

    Args:
        members: bijections of ``(B, 1)``, with log-determinants of the term "coupling".

    Raises:
        ValueError: if there are none, or they are no bijections.

    >>> from realnvp.bijections import Affine
    >>> layer = Average(*(Affine(torch.tensor([m])) for m in (-3.0, 3.0)))
    >>> z, log_det = layer(torch.tensor([[0.0], [3.0]]))
    >>> p = torch.distributions.Normal(0.0, 1.0).log_prob(z[:, 0]) + log_det
    >>> p.exp().mul(2).round(decimals=4)  # two Gaussians
    tensor([0.0089, 0.3989])
    """

    has_analytic_inverse = False

    def __init__(self, *members: Bijection) -> None:
        super().__init__()
        if not members:
            raise ValueError("an average needs at least one bijection")
        for member in members:
            if not isinstance(member, Bijection):
                kind = type(member).__name__
                raise ValueError(f"an average is made of bijections, got a {kind}")
        self.members = nn.ModuleList(members)

    def _each(self) -> list[Bijection]:
        return [member for member in self.members if isinstance(member, Bijection)]

    def extra_repr(self) -> str:
        return f"{len(self.members)} members"

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        check_channels(1, x)
        pairs = [member(x, condition) for member in self._each()]
        latents = torch.cat([z for z, _ in pairs], dim=1).T  # (M, B)
        log_dets = torch.stack([log_det for _, log_det in pairs])
        equal = torch.full_like(latents, -math.log(len(pairs)))
        # The mean of Phi(z_m) is the CDF of Gaussians around -z_m, at 0.
        zero = torch.zeros_like(latents[0])
        z, _ = gaussianize(zero, equal, -latents, torch.zeros_like(latents))
        terms = equal - 0.5 * latents.square() + log_dets
        return z[:, None], terms.logsumexp(0) + 0.5 * z.square()

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            roots = torch.cat([member.inverse(z, condition)[0] for member in self._each()], dim=1)
            # The bracket is widened, so that rounding in the members' own searches does not exclude
            # the root.
            room = 1e-4 * (1 + roots.abs().amax(1))
            x = find_root(
                self._slope_at, z[:, 0], roots.amin(1) - room, roots.amax(1) + room, roots.mean(1),
                () if condition is None else (condition.T,),
            )[:, None]  # fmt: skip
        # Newton steps from the root change nothing, but have the derivatives of the inverse: a
        # first step the derivatives of first order, a second one those of second and third.
        for _ in range(2 if torch.is_grad_enabled() else 0):
            value, log_det = self(x, condition)
            x = x - (value - z) * torch.exp(-log_det)[:, None]
        return x, -self(x, condition)[1]

    def _slope_at(self, x: Tensor, *condition: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the map, its derivative, and 0 for the unknown curvature."""
        z, log_det = self(x[:, None], condition[0].T if condition else None)
        return z[:, 0], log_det.exp(), torch.zeros_like(log_det)
