"""Eight toy sets in the plane that know their true log-density.

A model of a toy set can be judged exactly: the mean of ``log p_true(x) - log p_model(x)`` over
samples estimates the Kullback-Leibler divergence in nats, and nothing but sampling error stands
between that number and the truth. This needs the density of *what the sampler draws*, noise
included, and there are four ways to it:

- **constant on a region** (``uniform``, ``checkerboard``): minus the log of its area.
- **Gaussian mixture** (``blobs``, ``eight-gaussians``): ``log sum_k w_k N(x; m_k, s^2 I)``.
- **noisy curve**: a point ``c(t)``, ``t ~ q``, plus Gaussian noise has the density
  ``int q(t) N(x; c(t), s^2 I) dt``. For the full circles of ``circles`` the integral is a Bessel
  function. For the arcs of ``moons`` and ``spirals``, Gauss-Legendre quadrature with nodes
  ``t_i`` and weights ``v_i`` turns it into a Gaussian mixture with means ``c(t_i)`` and weights
  ``v_i q(t_i)``; once the nodes are closer than the noise is wide, it is exact to rounding.
- **change of variables** (``pinwheel``): a twist that preserves area, after a mixture.

>>> from realnvp.data.toy import TOY
>>> list(TOY)
['moons', 'circles', 'blobs', 'uniform', 'spirals', 'pinwheel', 'checkerboard', 'eight-gaussians']
>>> x = TOY["moons"].sample(1000, seed=0)
>>> entropy = -TOY["moons"].log_density(x).mean()  # nats; the exact value is 0.289
>>> round(float(entropy), 1)
0.3
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from operator import index

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


# Beyond this a squared distance overflows float64, and inf - inf would become a silent NaN.
_LARGEST = 1e150


_BLOCK = 1 << 17  # elements of one block of (points x components): 1 MB stays in the cache


@dataclass(frozen=True)
class ToySet:
    """A distribution in the plane that can be sampled and whose log-density is known.

    Attributes:
        name: the key in ``TOY``.
        bounds: ``(xmin, xmax, ymin, ymax)``, a rectangle that holds all but less than 1e-6 of
            the mass, for pictures and for integration. Bounded supports get a margin, so that
            a picture shows their edge; with a multiple of ten cells per side, cell borders lie
            on the jumps of the density.

    >>> TOY["uniform"].bounds
    (-1.25, 1.25, -1.25, 1.25)
    >>> TOY["uniform"].log_density([[0.0, 0.5], [0.0, 1.5]])  # -log 4 on the square [-1, 1]^2
    array([-1.38629436,        -inf])
    """

    name: str
    bounds: tuple[float, float, float, float]
    _draw: Callable[[np.random.Generator, int], Array] = field(repr=False)
    _log_density: Callable[[Array], Array] = field(repr=False)

    def sample(self, n: int, seed: int) -> npt.NDArray[np.float32]:
        """Draw ``n`` independent points; the same seed gives the same points.

        Args:
            n: number of points, at least 1.
            seed: seed of a fresh ``numpy.random.Generator``, at least 0.

        Returns:
            float32 array of shape ``(n, 2)``: draws from the density, then rounded.

        >>> TOY["pinwheel"].sample(3, seed=0).shape
        (3, 2)
        """
        if index(n) < 1:
            raise ValueError(f"the number of points must be at least 1, got {n}")
        return self._draw(np.random.default_rng(index(seed)), n).astype(np.float32)

    def log_density(self, x: npt.ArrayLike) -> Array:
        """Natural logarithm of the density that ``sample`` draws from, in nats.

        Accurate to 1e-12 nats inside ``bounds``. Far outside it is ``-inf`` for a bounded support
        and finite for the others; there the quadrature of ``moons`` and ``spirals`` gets coarse
        for the ever narrower integrand, and the value is good to 1e-5 of itself.

        Args:
            x: numbers of shape ``(n, 2)``.

        Returns:
            float64 array of shape ``(n,)``.

        >>> TOY["checkerboard"].log_density([[0.5, 0.5], [0.5, 1.5]])  # -log 8 on 8 unit cells
        array([-2.07944154,        -inf])
        """
        points = np.asarray(x, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 2:
            raise ValueError(f"points must have the shape (n, 2), got {points.shape}")
        if not np.all(np.abs(points) <= _LARGEST):
            raise ValueError(f"points must be finite and at most {_LARGEST:g}; check for NaN")
        return self._log_density(points)


def _mixture(x: Array, means: Array, log_weights: Array, std: float) -> Array:
    """``log sum_k w_k N(x; m_k, std^2 I)``: points ``(n, 2)``, means ``(k, 2)`` -> ``(n,)``."""
    precision = std**-2
    grads = np.ascontiguousarray(precision * means.T)
    offsets = log_weights - 0.5 * precision * (means**2).sum(1)
    out = np.empty(len(x))
    rows = max(1, _BLOCK // len(means))
    for start in range(0, len(x), rows):
        block = x[start : start + rows]
        # |x|^2 is common to all components, so it is left out of the (n, k) array. Two columns
        # are too few for the threads of a matrix product: on busy cores einsum is far faster.
        terms = np.einsum("nd,dk->nk", block, grads)
        terms += offsets
        top = terms.max(axis=1)
        terms -= top[:, None]
        # exp is slow where its result is subnormal, and next to exp(0) that counts for nothing.
        np.maximum(terms, -700.0, out=terms)
        top += np.log(np.exp(terms, out=terms).sum(axis=1))
        out[start : start + rows] = top - 0.5 * precision * (block**2).sum(1)
    return out - np.log(2 * np.pi * std**2)


def _on_circle(angles: Array) -> Array:
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


@dataclass(frozen=True)
class _Gaussians:
    """Equal isotropic Gaussians, ``count`` of them evenly spaced on a circle round the origin."""

    count: int
    radius: float
    std: float
    first_angle: float

    def means(self) -> Array:
        angles = self.first_angle + 2 * np.pi * np.arange(self.count) / self.count
        return self.radius * _on_circle(angles)

    def draw(self, rng: np.random.Generator, n: int) -> Array:
        means = self.means()[rng.integers(self.count, size=n)]
        return means + self.std * rng.standard_normal((n, 2))

    def log_density(self, x: Array) -> Array:
        return _mixture(x, self.means(), np.full(self.count, -np.log(self.count)), self.std)


@cache
def _quadrature(panels: int) -> tuple[Array, Array]:
    """Nodes and weights on [0, 1]; cached, so that importing costs nothing.

    Panels of 64 Gauss-Legendre nodes: the weights of one rule of several hundred nodes come out
    wrong by 1e-10, and so would the density.
    """
    from scipy.special import roots_legendre

    nodes, weights = roots_legendre(64)
    starts = np.arange(panels)[:, None]
    return ((starts + (nodes + 1) / 2) / panels).ravel(), np.tile(weights / (2 * panels), panels)


@dataclass(frozen=True)
class _TwinCurves:
    """A noisy curve ``c(t)`` and its point reflection ``shift - c(t)``, equally likely.

    ``t`` in [0, 1] has the density ``power * t^(power - 1)``: 1 is uniform, 2 grows linearly.
    With more quadrature ``panels`` per curve the log-density in the bounds moves below 1e-12.
    """

    curve: Callable[[Array], Array]
    shift: tuple[float, float]
    power: int
    std: float
    panels: int

    def draw(self, rng: np.random.Generator, n: int) -> Array:
        points = self.curve(rng.random(n) ** (1 / self.power))
        points = np.where(rng.integers(2, size=(n, 1)) == 0, points, self.shift - points)
        return points + self.std * rng.standard_normal((n, 2))

    def log_density(self, x: Array) -> Array:
        t, weights = _quadrature(self.panels)
        points = self.curve(t)
        log_weights = np.log(0.5 * weights * self.power * t ** (self.power - 1))
        means = np.concatenate([points, self.shift - points])
        return _mixture(x, means, np.tile(log_weights, 2), self.std)


def _moon(t: Array) -> Array:
    """Trace the upper unit half-circle; with shift (1, 0.5), scikit-learn's ``make_moons``."""
    return _on_circle(np.pi * t)


def _spiral(t: Array) -> Array:
    """Trace an arm of "2spirals" of FFJORD (1810.01367): radius ``a / 3`` at ``a = 3 pi t``."""
    angle = 3 * np.pi * t
    return _on_circle(np.pi - angle) * (angle / 3)[:, None]


_RADII = np.array([1.0, 0.5])


_RING_STD = 0.05


def _draw_circles(rng: np.random.Generator, n: int) -> Array:
    """Noisy circles with equal weights, as scikit-learn's ``make_circles`` with factor 0.5."""
    radius = _RADII[rng.integers(2, size=(n, 1))]
    noise = _RING_STD * rng.standard_normal((n, 2))
    return radius * _on_circle(2 * np.pi * rng.random(n)) + noise


def _circles_log_density(x: Array) -> Array:
    """``log sum_R 1/2 exp(-(r - R)^2 / 2 s^2) I0e(r R / s^2) / (2 pi s^2)`` with ``r = |x|``."""
    from scipy.special import i0e

    r = np.hypot(x[:, :1], x[:, 1:])
    variance = _RING_STD**2
    # I0e(v) = exp(-v) I0(v) never overflows.
    terms = np.log(i0e(r * _RADII / variance)) - (r - _RADII) ** 2 / (2 * variance)
    return np.logaddexp(terms[:, 0], terms[:, 1]) - np.log(4 * np.pi * variance)


_ARMS = 2 * np.pi * np.arange(5) / 5


_ARM_STD = np.array([0.3, 0.1])  # along the arm, across it


def _draw_pinwheel(rng: np.random.Generator, n: int) -> Array:
    """Five Gaussian arms, twisted (after Johnson et al., arXiv 1603.06277).

    An arm is ``f = (1 + 0.3 e1, 0.1 e2)``, turned by a random multiple of 72 degrees and then by
    ``0.25 exp(|f|)``. The usual code turns by ``0.25 exp(f[0])``, but ``f[0]`` is not a function of
    the final point, and that density has no closed form. A turn by a function of the radius keeps
    the radius, so it can be undone, and it shears polar coordinates, so it preserves area.
    """
    arm = rng.standard_normal((n, 2)) * _ARM_STD + (1.0, 0.0)
    return _twist(_turn(arm, _ARMS[rng.integers(5, size=n)]), 1.0)


def _pinwheel_log_density(x: Array) -> Array:
    """Evaluate the arms at untwisted points ``u``: ``log 1/5 sum_k N(R(-72 k) u; (1, 0), S^2)``."""
    u = _twist(x, -1.0)
    scaled = [(_turn(u, np.full(len(u), -a)) - (1.0, 0.0)) / _ARM_STD for a in _ARMS]
    total: Array = np.logaddexp.reduce(-0.5 * (np.stack(scaled) ** 2).sum(axis=2), axis=0)
    return total - np.log(5 * 2 * np.pi * _ARM_STD.prod())


def _twist(x: Array, direction: float) -> Array:
    # The cap, 13 standard deviations out, keeps exp from overflowing far away.
    return _turn(x, direction * 0.25 * np.exp(np.minimum(np.hypot(x[:, 0], x[:, 1]), 5.0)))


def _turn(x: Array, angle: Array) -> Array:
    """Rotate each point of ``(n, 2)`` counterclockwise by its own angle of ``(n,)``."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([cos * x[:, 0] - sin * x[:, 1], sin * x[:, 0] + cos * x[:, 1]], axis=1)


def _draw_uniform(rng: np.random.Generator, n: int) -> Array:
    return rng.uniform(-1.0, 1.0, (n, 2))


def _uniform_log_density(x: Array) -> Array:
    """``-log 4`` on the closed square [-1, 1]^2 (float32 rounding can reach its edge)."""
    return np.where(np.abs(x).max(axis=1) <= 1, -np.log(4.0), -np.inf)


def _draw_checkerboard(rng: np.random.Generator, n: int) -> Array:
    """Column uniform, then one of the two rows that have the column's parity."""
    column = rng.integers(-2, 2, n)
    row = 2 * rng.integers(-1, 1, n) + column % 2
    return np.stack([column, row], axis=1) + rng.random((n, 2))


def _checkerboard_log_density(x: Array) -> Array:
    """``-log 8`` on the unit cells of [-2, 2]^2 whose ``floor(x) + floor(y)`` is even."""
    cell = np.floor(x)
    # Edges count as inside: rounding to float32 can carry a drawn point onto one.
    on_edge = (x == cell).any(axis=1)
    inside = (np.abs(x).max(axis=1) <= 2) & (on_edge | (cell.sum(axis=1) % 2 == 0))
    return np.where(inside, -np.log(8.0), -np.inf)


_moons = _TwinCurves(_moon, shift=(1.0, 0.5), power=1, std=0.05, panels=4)


_blobs = _Gaussians(count=3, radius=1.8, std=0.5, first_angle=np.pi / 2)


_spirals = _TwinCurves(_spiral, shift=(0.0, 0.0), power=2, std=0.1, panels=12)


_eight = _Gaussians(count=8, radius=2.0, std=0.2, first_angle=0.0)


_sets = (
    ToySet("moons", (-1.3, 2.3, -0.8, 1.3), _moons.draw, _moons.log_density),
    ToySet("circles", (-1.3, 1.3, -1.3, 1.3), _draw_circles, _circles_log_density),
    ToySet("blobs", (-4.8, 4.8, -4.8, 4.8), _blobs.draw, _blobs.log_density),
    ToySet("uniform", (-1.25, 1.25, -1.25, 1.25), _draw_uniform, _uniform_log_density),
    ToySet("spirals", (-3.8, 3.8, -3.8, 3.8), _spirals.draw, _spirals.log_density),
    ToySet("pinwheel", (-2.8, 2.8, -2.8, 2.8), _draw_pinwheel, _pinwheel_log_density),
    ToySet("checkerboard", (-2.5, 2.5, -2.5, 2.5), _draw_checkerboard, _checkerboard_log_density),
    ToySet("eight-gaussians", (-3.2, 3.2, -3.2, 3.2), _eight.draw, _eight.log_density),
)


#: The toy sets by name, in the order of all lists.
TOY: dict[str, ToySet] = {toy.name: toy for toy in _sets}
