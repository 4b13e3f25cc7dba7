r"""Atoms: values of a column that are repeated often, among values that are not.

People round: a wage is 10.00 far more often than 10.01, and no smooth map has such a peak. So a
column is a mixture of a smooth distribution, whose CDF is :math:`\Phi(s)`, and of **atoms**
:math:`a_k` of probability :math:`p_k`. With :math:`R = 1 - \sum_k p_k`, the normal score of a value
between atoms is

.. math:: v = \Phi^{-1}\Big(R\,\Phi(s) + \sum_{a_k < x} p_k\Big), \qquad
    \frac{dv}{ds} = \frac{R\,\varphi(s)}{\varphi(v)},

and that of an atom is spread evenly over the interval that is left between the scores of its
neighbors. Scores keep the order of the values. Probabilities near 0 and 1 are computed by their
logarithms, so that the tails are those of the smooth distribution.
"""

from __future__ import annotations

import torch
from torch import Tensor

from realnvp.bijections.gaussian_mixture import log_normal, normal_quantile

__all__ = ["between_atoms", "with_atoms"]


def with_atoms(
    low: Tensor, high: Tensor, below: Tensor, mass_here: Tensor, above: Tensor, u: Tensor
) -> tuple[Tensor, Tensor]:
    r"""Return scores of a mixture with atoms, and the logarithms of their derivatives.

    Args:
        low: smooth scores of the values; of an atom, that of the lower end of its step.
        high: of an atom, the smooth score of the upper end of its step; of others, ``low``.
        below: probability of the atoms below.
        mass_here: probability of the value itself if it is an atom, else 0.
        above: probability of the atoms above.
        u: noise in [0, 1), which spreads an atom over its interval.

    Returns:
        scores, and :math:`\log dv/ds` of values between atoms; of atoms :math:`\log dv/du`.

    >>> zero = torch.zeros(1).double()
    >>> with_atoms(zero, zero, zero, zero, zero, zero + 0.5)  # no atoms
    (tensor([0.], dtype=torch.float64), tensor([0.], dtype=torch.float64))
    """
    rest = torch.log1p(-(below + mass_here + above))
    mass = mass_here + rest.exp() * (torch.special.ndtr(high) - torch.special.ndtr(low))
    at = mass_here > 0
    lower = torch.logaddexp(
        rest + torch.special.log_ndtr(low), (below + torch.where(at, u * mass, 0.0)).log()
    )
    upper = torch.logaddexp(
        rest + torch.special.log_ndtr(-high), (above + torch.where(at, (1 - u) * mass, 0.0)).log()
    )
    v = torch.where(
        lower <= upper, normal_quantile(lower.clamp(max=0)), -normal_quantile(upper.clamp(max=0))
    )
    slope = torch.where(at, mass.clamp(min=1e-300).log(), rest + log_normal(low))
    return v, slope - log_normal(v)


def between_atoms(v: Tensor, below: Tensor, above: Tensor) -> Tensor:
    """Return the smooth scores of scores between atoms: the inverse of :func:`with_atoms`.

    Args:
        v: scores.
        below: probability of the atoms below.
        above: probability of the atoms above.

    >>> zero = torch.zeros(1).double()
    >>> v, _ = with_atoms(zero + 2, zero + 2, zero + 0.25, zero, zero + 0.5, zero)
    >>> round(between_atoms(v, zero + 0.25, zero + 0.5).item(), 6)
    2.0
    """
    rest = torch.log1p(-(below + above))

    def tail(score: Tensor, beyond: Tensor) -> Tensor:
        """Return the logarithm of the smooth distribution's probability in a tail."""
        inside = (torch.special.ndtr(score) - beyond).clamp(min=1e-300).log()
        return torch.where(beyond > 0, inside, torch.special.log_ndtr(score)) - rest

    low, high = tail(v, below).clamp(max=0), tail(-v, above).clamp(max=0)
    return torch.where(low <= high, normal_quantile(low), -normal_quantile(high))
