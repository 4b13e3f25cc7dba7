r"""Special functions from operations that ONNX has: exponentials, logarithms, and arithmetic.

ONNX has the error function, but not its complement :math:`\mathrm{erfc} = 1 - \mathrm{erf}` without
cancellation, the logarithm of the normal distribution function, or its inverse. Here they are
computed by rational approximations with errors like float32 rounding, about :math:`10^{-7}`; an
exported graph of a flow in float64 is not more precise than that.

Sources: erfc by the Chebyshev fit of Press et al., *Numerical Recipes*, section 6.2; the normal
quantile by Wichura's PPND7, *Applied Statistics* 37, 1988, algorithm AS 241.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "DECOMPOSITIONS",
    "asinh",
    "erf",
    "erfc",
    "hypot",
    "log_ndtr",
    "log_sigmoid",
    "ndtr",
    "ndtri",
    "searchsorted",
    "sinh",
    "solve_triangular",
]

_ERFC = (
    0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807, -0.18628806, 0.09678418,
    0.37409196, 1.00002368, -1.26551223,
)  # fmt: skip

_CENTER = (
    (59.109374720, 159.29113202, 50.434271938, 3.3871327179),
    (67.187563600, 78.757757664, 17.895169469, 1.0),
)
_TAIL = (
    (0.17023821103, 1.3067284816, 2.7568153900, 1.4234372777),
    (0.12021132975, 0.73700164250, 1.0),
)
_FAR = (
    (0.017337203997, 0.42868294337, 3.0812263860, 6.6579051150),
    (0.012258202635, 0.24197894225, 1.0),
)


def _polynomial(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    """Return a polynomial by Horner's rule, from the highest power to the constant."""
    total = torch.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total = total * x + coefficient
    return total


def _log_erfc(x: Tensor) -> Tensor:
    """Return log erfc of ``x``, 0 or more."""
    t = 1 / (1 + 0.5 * x)
    return t.log() - x * x + _polynomial(t, _ERFC)


def erfc(x: Tensor) -> Tensor:
    """Return the complement of the error function.

    >>> erfc(torch.tensor([-1.0, 0.0, 1.0]))
    tensor([1.8427, 1.0000, 0.1573])
    """
    tail = _log_erfc(x.abs()).exp()
    return torch.where(x < 0, 2 - tail, tail)


def erf(x: Tensor) -> Tensor:
    """Return the error function; computed in float32, which ONNX Runtime has."""
    return torch.erf(x.float()).to(x.dtype) if x.dtype == torch.float64 else NotImplemented


def asinh(x: Tensor) -> Tensor:
    """Return the inverse hyperbolic sine, which ONNX Runtime lacks in float64.

    >>> asinh(torch.tensor([-1e9, 0.0, 1.0]))
    tensor([-21.4164,   0.0000,   0.8814])
    """
    size = x.abs()
    return torch.sign(x) * torch.log1p(size + size * (size / (1 + torch.sqrt(1 + size * size))))


def sinh(x: Tensor) -> Tensor:
    """Return the hyperbolic sine, which ONNX Runtime lacks in float64.

    >>> sinh(torch.tensor([-1.0, 0.0, 2.0]))
    tensor([-1.1752,  0.0000,  3.6269])
    """
    return 0.5 * (x.exp() - (-x).exp())


def hypot(x: Tensor, y: Tensor) -> Tensor:
    r"""Return :math:`\sqrt{x^2 + y^2}`, whose squares do not overflow.

    >>> hypot(torch.tensor([3.0, 1e30]), torch.tensor([4.0, 1.0]))
    tensor([5.0000e+00, 1.0000e+30])
    """
    size = torch.maximum(x.abs(), y.abs()).clamp(min=torch.finfo(x.dtype).tiny)
    return size * ((x / size).square() + (y / size).square()).sqrt()


def log_ndtr(x: Tensor) -> Tensor:
    """Return the logarithm of the standard normal distribution function.

    >>> log_ndtr(torch.tensor([-20.0, 0.0, 2.0]))
    tensor([-2.0392e+02, -6.9315e-01, -2.3013e-02])
    """
    log_tail = _log_erfc(x.abs() * math.sqrt(0.5)) - math.log(2)
    return torch.where(x < 0, log_tail, torch.log1p(-log_tail.exp()))


def ndtr(x: Tensor) -> Tensor:
    """Return the standard normal distribution function.

    >>> ndtr(torch.tensor([-1.0, 0.0, 1.0]))
    tensor([0.1587, 0.5000, 0.8413])
    """
    return 0.5 * erfc(-math.sqrt(0.5) * x)


def ndtri(p: Tensor) -> Tensor:
    """Return the quantile of the standard normal distribution.

    >>> ndtri(torch.tensor([0.0, 1e-20, 0.025, 0.5, 1.0]))
    tensor([   -inf, -9.2623, -1.9600,  0.0000,     inf])
    """
    q = p - 0.5
    r = 0.180625 - q * q
    center = q * _polynomial(r, _CENTER[0]) / _polynomial(r, _CENTER[1])
    r = torch.minimum(p, 1 - p).log().neg().sqrt()
    tail, far = (
        _polynomial(r - shift, above) / _polynomial(r - shift, below)
        for shift, (above, below) in ((1.6, _TAIL), (5.0, _FAR))
    )
    outer = torch.where(r <= 5, tail, torch.where(torch.isinf(r), r, far))
    return torch.where(q.abs() <= 0.425, center, torch.sign(q) * outer)


def log_sigmoid(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logarithm of the sigmoid, and a buffer that nothing uses, as PyTorch's does.

    ONNX would take the logarithm of a sigmoid that underflows.

    >>> log_sigmoid(torch.tensor([-200.0, 0.0]))[0]
    tensor([-200.0000,   -0.6931])
    """
    return x.clamp(max=0.0) - torch.log1p(torch.exp(-x.abs())), x.new_empty(0)


def solve_triangular(
    a: Tensor, b: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Tensor:
    r"""Solve ``a x = b`` for a triangular ``a (..., D, D)``.

    With ones on its diagonal, which a division of the rows makes, :math:`a = I - N`, and as
    :math:`N^D = 0`

    .. math:: a^{-1} = (I + N) (I + N^2) (I + N^4) \cdots

    Substitution, row by row, would take D rather than :math:`\log_2 D` steps of the graph.

    >>> a = torch.tensor([[2.0, 0.0], [1.0, 1.0]])
    >>> solve_triangular(a, torch.tensor([[2.0], [3.0]]), upper=False)
    tensor([[1.],
            [2.]])
    """
    if not left:
        raise NotImplementedError("only triangular systems from the left")
    size = a.shape[-1]
    eye = torch.eye(size, dtype=a.dtype, device=a.device)
    x = b
    if not unitriangular:
        diagonal = (a * eye).sum(-1, keepdim=True)
        a, x = a / diagonal, x / diagonal
    power = a * eye - a  # where only ones are meant, other diagonals do not count
    for i in range((size - 1).bit_length()):
        x = x + power @ x
        if 2 << i < size:
            power = power @ power
    return x


def searchsorted(
    boundaries: Tensor,
    values: Tensor,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    """Return how many of the ascending boundaries ``(..., K)`` are below values ``(..., N)``.

    All are compared, which takes K times the memory of the values.

    >>> searchsorted(torch.tensor([0.0, 1.0, 2.0]), torch.tensor([-1.0, 1.0, 5.0]), right=True)
    tensor([0, 2, 3])
    """
    if sorter is not None:
        raise NotImplementedError("boundaries that are not sorted")
    grid, values = boundaries.unsqueeze(-2), values.unsqueeze(-1)
    below = grid <= values if right or side == "right" else grid < values
    return below.sum(-1, dtype=torch.int32 if out_int32 else torch.int64)


_aten = torch.ops.aten

DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    _aten.asinh.default: asinh,
    _aten.erf.default: erf,
    _aten.erfc.default: erfc,
    _aten.special_erfc.default: erfc,
    _aten.hypot.default: hypot,
    _aten.log_sigmoid_forward.default: log_sigmoid,
    _aten.special_log_ndtr.default: log_ndtr,
    _aten.searchsorted.Tensor: searchsorted,
    _aten.sinh.default: sinh,
    _aten.special_ndtr.default: ndtr,
    _aten.special_ndtri.default: ndtri,
    _aten.linalg_solve_triangular.default: solve_triangular,
}
"""Functions that an exported graph uses instead of PyTorch's operators."""
