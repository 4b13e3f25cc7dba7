r"""Domains: densities on intervals, half-lines, circles and the simplex.

A density on :math:`(-\infty, \infty)` leaks: whatever it learns, some mass lies beyond the ends of
a bounded domain. So the first layer of a flow maps the domain to all real numbers, and every
density behind it is one on the domain, with nothing outside. The uniform density on an interval or
the simplex becomes the standard normal one, which is what a new flow is.

The ends of a circle are the same point, and a density has to be continuous there. So angles are
modeled first, by splines on the circle (arXiv 2002.02428, section 2.3), whose latents are uniform
on it; and all other columns given their cosines and sines:

.. math:: p(\varphi, x) = p(\varphi)\, p(x \mid \cos \varphi, \sin \varphi).

A domain of your own is a subclass of :class:`Domain` with :func:`realnvp.register_domain`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import constraints

from realnvp.bijections.base import Bijection, Terms, sum_per_example, zero_log_det
from realnvp.bijections.columns_first import ColumnsFirst
from realnvp.bijections.dequantization import Dequantization, Noise
from realnvp.bijections.gaussian_mixture import log_normal
from realnvp.bijections.spline import wrapped
from realnvp.utils.registry import DOMAINS

__all__ = [
    "Circle", "CirclesFirst", "Domain", "DomainLike", "DomainMap", "HalfLine", "Interval",
    "Simplex", "as_domain",
]  # fmt: skip

Entry = Sequence[Any]
"""Name of a domain, and its numbers, such as ``("interval", 0, 1)``."""

DomainLike = Sequence[Entry | None] | constraints.Constraint | None
"""An entry for each column, or the support of a distribution; None is all real numbers."""


class Domain(nn.Module):
    """The columns of one kind of domain, and their map to real numbers.

    A subclass implements :meth:`contains`, :meth:`forward` and :meth:`inverse`, both of which
    return values and the logarithms of their derivatives, each ``(B, C)``. Whatever numbers they
    get, :meth:`forward` returns finite ones, and :meth:`inverse` values in the domain.

    Args:
        numbers: what follows the name in the entry of each of the C columns.
    """

    def __init__(self, numbers: Sequence[Sequence[float]]) -> None:
        super().__init__()
        if len({len(entry) for entry in numbers}) > 1:
            raise ValueError(f"{type(self).__name__} has entries of different lengths: {numbers}")
        self._columns = list(zip(*numbers, strict=True))  # the values of each number in all columns

    def numbers(self, x: Tensor) -> list[Tensor]:
        """Return each number of the entries, of all columns ``(C,)``, in the type of ``x``."""
        return [torch.tensor(n, dtype=x.dtype, device=x.device) for n in self._columns]

    @abstractmethod
    def contains(self, x: Tensor) -> Tensor:
        """Return which values are in the domain, ``(B, C)``."""

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map the domain to real numbers."""

    @abstractmethod
    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Map real numbers to the domain."""


class Interval(Domain):
    r"""Numbers from :math:`a` to :math:`b`: ``("interval", a, b)``.

    .. math:: z = \Phi^{-1}\Big(\frac{x - a}{b - a}\Big)

    >>> Interval([(0.0, 4.0)]).inverse(torch.tensor([[0.0]]))[0]
    tensor([[2.]])
    """

    def __init__(self, numbers: Sequence[Sequence[float]]) -> None:
        super().__init__(numbers)
        if not _are_intervals(numbers):
            raise ValueError(f"an interval has finite ends, the lower one first, got {numbers}")

    def contains(self, x: Tensor) -> Tensor:
        low, high = self.numbers(x)
        return (x >= low) & (x <= high)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        low, high = self.numbers(x)
        width = high - low
        z = _normal_score((x - low) / width, (high - x) / width)
        return z, -log_normal(z) - width.log()

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        low, high = self.numbers(z)
        width = high - low
        tail = torch.special.ndtr(-z.abs()) * width  # of the nearer end: no cancellation
        x = torch.where(z < 0, low + tail, high - tail)
        return torch.minimum(torch.maximum(x, low), high), log_normal(z) + width.log()


class HalfLine(Domain):
    r"""Numbers above :math:`a`: ``("halfline", a)``, with :math:`z = \log(x - a)`.

    >>> HalfLine([(1.0,)])(torch.tensor([[2.0]]))[0]
    tensor([[0.]])
    """

    def __init__(self, numbers: Sequence[Sequence[float]]) -> None:
        super().__init__(numbers)
        if not all(len(entry) == 1 and math.isfinite(entry[0]) for entry in numbers):
            raise ValueError(f"a half-line has one finite end, got {numbers}")

    def contains(self, x: Tensor) -> Tensor:
        return x > self.numbers(x)[0]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = (x - self.numbers(x)[0]).clamp(min=torch.finfo(x.dtype).tiny).log()
        return z, -z

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        low = self.numbers(z)[0]
        least = torch.nextafter(low, torch.full_like(low, math.inf))
        x = torch.maximum(low + z.exp(), least).clamp(max=torch.finfo(z.dtype).max)
        return x, z


class Circle(Domain):
    r"""Angles, modulo their period: ``("circle",)`` from :math:`-\pi` to :math:`\pi`.

    Other units are ``("circle", a, b)``, such as ``("circle", 0, 360)``. Any number is an angle;
    samples are in :math:`[a, b)`. Real numbers are here :math:`-1` to 1, for
    :class:`CirclesFirst`.

    >>> Circle([(0.0, 360.0)])(torch.tensor([[90.0 + 360.0]]))[0]
    tensor([[-0.5000]])
    """

    def __init__(self, numbers: Sequence[Sequence[float]]) -> None:
        numbers = [entry or (-math.pi, math.pi) for entry in numbers]
        super().__init__(numbers)
        if not _are_intervals(numbers):
            raise ValueError(f"a circle has no numbers, or both ends of a period, got {numbers}")

    def contains(self, x: Tensor) -> Tensor:
        return x.isfinite()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        low, high = self.numbers(x)
        half = 0.5 * (high - low)
        return wrapped((x - low) / half - 1), -half.log().expand_as(x)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        low, high = self.numbers(z)
        half = 0.5 * (high - low)
        x = low + half * (wrapped(z) + 1)
        return torch.where(x < high, x, low), half.log().expand_as(x)


class Simplex(Domain):
    r"""Numbers of at least 0 whose sum is at most 1: ``("simplex",)`` for each of K columns.

    They are all fractions of a whole but the last one, which is 1 minus their sum. With
    :math:`r_i = 1 - \sum_{j < i} x_j` and :math:`n_i = K + 1 - i`

    .. math:: z_i = \Phi^{-1}\Big(1 - \big(r_{i + 1} / r_i\big)^{n_i}\Big),

    so that the uniform density, :math:`K!`, becomes the standard normal one.

    >>> Simplex([(), ()])(torch.tensor([[0.25, 0.5]]))[1].sum() > 0
    tensor(True)
    """

    def __init__(self, numbers: Sequence[Sequence[float]]) -> None:
        super().__init__(numbers)
        if any(numbers):
            raise ValueError(f"a simplex has no numbers, got {numbers}")
        self.size = len(numbers)

    def _counts(self, x: Tensor) -> Tensor:
        return torch.arange(self.size, 0, -1, dtype=x.dtype, device=x.device)

    def contains(self, x: Tensor) -> Tensor:
        rounding = 4 * self.size * torch.finfo(x.dtype).eps
        return (x >= 0) & (x.sum(1, keepdim=True) <= 1 + rounding)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        tiny, counts = torch.finfo(x.dtype).tiny, self._counts(x)
        after = (1 - x.cumsum(1)).clamp(min=tiny)
        before = torch.cat((torch.ones_like(x[:, :1]), after[:, :-1]), dim=1)
        log_rest = counts * torch.log1p(-(x / before).clamp(0, 1 - torch.finfo(x.dtype).eps))
        z = _normal_score(-torch.expm1(log_rest), log_rest.exp())
        return z, self._log_factorial(z) - log_normal(z)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        log_ratio = torch.special.log_ndtr(-z) / self._counts(z)
        before = torch.cat((torch.zeros_like(z[:, :1]), log_ratio.cumsum(1)[:, :-1]), dim=1)
        inside = 1 - self.size * torch.finfo(z.dtype).eps  # the sum rounds to 1 at most
        x = -torch.expm1(log_ratio) * before.exp() * inside
        return x, log_normal(z) - self._log_factorial(z)

    def _log_factorial(self, z: Tensor) -> Tensor:
        """Return log K!, the same part of it for every column."""
        return torch.full_like(z, math.lgamma(self.size + 1) / self.size)


class DomainMap(Dequantization):
    """Map the domains of columns to real numbers, as the first layer of a flow.

    Args:
        entries: for each of D columns None, for all real numbers, or the name of a domain and its
            numbers.

    Raises:
        ValueError: if there is no such domain, or its numbers do not fit.

    >>> layer = DomainMap([("interval", 0, 1), None])
    >>> layer(torch.tensor([[0.5, 3.0], [1.5, 3.0]]))[1]
    tensor([0.9189,   -inf])
    """

    noisy = False

    def __init__(self, entries: Sequence[Entry | None]) -> None:
        super().__init__()
        self.entries = entries
        names = [None if entry is None else entry[0] for entry in entries]
        self.columns = {
            name: [i for i, other in enumerate(names) if other == name]
            for name in dict.fromkeys(names)
            if name is not None
        }
        self.domains = nn.ModuleDict({
            name: DOMAINS[name]([entries[i][1:] for i in columns])  # type: ignore[index]
            for name, columns in self.columns.items()
        })  # fmt: skip

    def extra_repr(self) -> str:
        return ", ".join(f"{len(columns)} {name}" for name, columns in self.columns.items())

    def draw(self, x: Tensor, condition: Tensor | None, noise: Noise) -> tuple[Tensor, None]:
        return x, None  # nothing is discrete

    def possible(self, x: Tensor) -> Tensor:
        """Return which values are in their domain, ``(B, D)``."""
        inside = x.isfinite()
        for name, columns in self.columns.items():
            inside[:, columns] &= self.domains[name].contains(x[:, columns])  # type: ignore[operator]
        return inside

    def mark(self, x: Tensor) -> Tensor:
        """Return rows with NaN in place of values outside of their domain."""
        return x.masked_fill(~self.possible(x), math.nan)

    def rule(self, column: int, value: float) -> str:
        """Return why a value has no density, for messages."""
        return f"is not in the domain {tuple(self.entries[column] or ('real',))}"

    def check(self, x: Tensor) -> None:
        """Raise a ValueError that names the first value outside of its domain."""
        outside = (~self.possible(x)).nonzero()
        if len(outside):
            row, column = outside[0].tolist()
            value = x[row, column].item()
            raise ValueError(
                f"column {column}, row {row} (counting from 0): {value:.10g} "
                f"{self.rule(column, value)}"
            )

    def place(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        x = x.to(self._one)
        log_det = torch.where(self.possible(x).all(1), zero_log_det(x), -math.inf)
        return self._mapped(x, log_det, inverse=False)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._mapped(z, zero_log_det(z), inverse=True)

    def _mapped(self, x: Tensor, log_det: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
        y = x.clone()
        for name, columns in self.columns.items():
            domain: Any = self.domains[name]
            y[:, columns], slopes = (domain.inverse if inverse else domain)(x[:, columns])
            log_det = log_det + sum_per_example(slopes)
        return y, log_det


class CirclesFirst(ColumnsFirst):
    """Model angles by one bijection, and the other columns by another one, given the angles.

    Args:
        columns: indices of the angles, which are -1 to 1.
        dim: number of all columns.
        circles: bijection of the angles, which keeps -1 to 1.
        inner: bijection of the other columns, whose condition are the cosines and sines of the
            angles, and the condition of all.

    >>> from realnvp.bijections import Chain
    >>> layer = CirclesFirst([0], 2, Chain(), Chain())
    >>> layer.inverse(torch.tensor([[0.0, 2.0]]))[0]
    tensor([[0., 2.]])
    """

    def __init__(
        self, columns: Sequence[int], dim: int, circles: Bijection, inner: Bijection
    ) -> None:
        super().__init__()
        self.columns = list(columns)
        self.others = [i for i in range(dim) if i not in self.columns]
        self.circles, self.inner = circles, inner

    def features(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        angles = math.pi * x[:, self.columns]
        parts = angles.cos(), angles.sin()
        return torch.cat(parts if condition is None else (*parts, condition.to(x)), dim=1)

    def forward_terms(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Terms]:
        turns, log_det = self.circles(x[:, self.columns], condition)
        z = _normal_score(0.5 * (1 + turns), 0.5 * (1 - turns))
        slopes = -log_normal(z) - math.log(2)
        rest, terms = self.inner.forward_terms(x[:, self.others], self.features(x, condition))
        terms[self.term] = terms.get(self.term, 0.0) + log_det + sum_per_example(slopes)
        return self._joined(z, rest), terms

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        scores = z[:, self.columns]
        turns = torch.special.ndtr(scores) * 2 - 1
        slopes = log_normal(scores) + math.log(2)
        angles, log_det = self.circles.inverse(turns, condition)
        x = self._joined(angles, z[:, self.others])
        rest, others = self.inner.inverse(z[:, self.others], self.features(x, condition))
        return self._joined(angles, rest), log_det + sum_per_example(slopes) + others

    def outline(
        self, shape: tuple[int, ...], name: str
    ) -> Iterator[tuple[str, Bijection, tuple[int, ...]]]:
        yield name, self, shape
        yield from self.circles.outline((len(self.columns),), f"{name}.circles")
        yield from self.inner.outline((len(self.others),), f"{name}.inner")


def as_domain(domain: DomainLike, dim: int) -> list[list[Any] | None] | None:
    """Return a domain as JSON: for each column None, or the name of its domain and its numbers.

    Args:
        domain: a sequence with one entry for each column, or the support of a distribution of
            PyTorch; None is all real numbers.
        dim: number of columns.

    Raises:
        ValueError: if it has another number of columns, or this support is not known here.

    >>> as_domain(torch.distributions.Uniform(torch.zeros(2), torch.ones(2)).support, 2)
    [['interval', 0.0, 1.0], ['interval', 0.0, 1.0]]
    """
    if isinstance(domain, constraints.Constraint):
        domain = _of_support(domain, dim)
    if domain is None:
        return None
    if isinstance(domain, str) or not isinstance(domain, Iterable):
        raise ValueError(f"a domain has an entry for each column, got {str(domain)[:50]!r}")
    entries = [None if entry is None else _entry(entry) for entry in domain]
    if len(entries) != dim:
        raise ValueError(f"a domain has an entry for each column, {dim}, got {len(entries)}")
    return entries if any(entries) else None


def _entry(entry: Any) -> list[Any]:
    """Return the validated entry of a column, which may come from an untrusted file."""
    parts = list(entry) if isinstance(entry, list | tuple) else []
    numbers = [isinstance(n, Real) and not isinstance(n, bool) for n in parts[1:]]
    if not parts or not isinstance(parts[0], str) or not all(numbers):
        raise ValueError(
            f"the domain of a column is a name and numbers, such as ('interval', 0, 1), "
            f"got {entry!r:.50}"
        )
    return parts


def _are_intervals(numbers: Sequence[Sequence[float]]) -> bool:
    return all(
        len(ends) == 2 and all(map(math.isfinite, ends)) and ends[0] < ends[1] for ends in numbers
    )


def _of_support(support: Any, dim: int) -> list[list[Any] | None] | None:
    """Return the domain of a support of :mod:`torch.distributions.constraints`."""
    if isinstance(support, constraints.independent):
        return _of_support(support.base_constraint, dim)
    if isinstance(support, constraints.cat):
        parts = zip(support.cseq, support.lengths, strict=True)
        return [entry for part, n in parts for entry in _of_support(part, n) or [None] * n]
    if support in (constraints.real, constraints.real_vector):
        return None
    name = next((n for n, ends in _ENDS.items() if all(hasattr(support, e) for e in ends)), None)
    if name is None or support.is_discrete:
        raise ValueError(
            f"the support {support} is not a domain of a flow: for a simplex, model all "
            'fractions but the last, with the entry ("simplex",) for each'
        )
    ends = [
        torch.as_tensor(getattr(support, end), dtype=torch.float64).expand(dim).tolist()
        for end in _ENDS[name]
    ]
    return [[name, *numbers] for numbers in zip(*ends, strict=True)]


_ENDS = {"interval": ("lower_bound", "upper_bound"), "halfline": ("lower_bound",)}
"""Attributes of supports that are the numbers of a domain."""


def _normal_score(below: Tensor, above: Tensor) -> Tensor:
    """Return normal quantiles of probabilities, from those on both sides, whose sum is 1."""
    eps = torch.finfo(below.dtype).eps
    z = torch.special.ndtri(torch.minimum(below, above).clamp(eps, 0.5))
    return torch.where(below < above, z, -z)
