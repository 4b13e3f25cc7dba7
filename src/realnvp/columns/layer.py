r"""The first layer of a table's flow: numbers, decimals, categories and gaps become normal scores.

Each column of a table has its own monotone map to the real line, with noise added where it is
discrete, and an exact term of the log-likelihood. With :math:`u` uniform on :math:`[0, 1)` and
:math:`\varphi, \Phi` the normal density and CDF:

* A **smooth** column of numbers: :math:`v = S(w(x))`, a shape of the tails and a spline
  (:mod:`realnvp.columns.smooth_map`).
  :math:`\log|\det J| = \log v'(x)`. Of numbers with a step, :math:`x + \mathrm{step} \cdot u`
  takes the place of :math:`x`. Some numbers may be atoms (:mod:`realnvp.columns.atoms`): their
  term is the logarithm of a probability, divided by the step if there is one.
* A column of **cells**, such as categories: :math:`v = \Phi^{-1}(c_k + f_k u)` for the k-th, of
  frequency :math:`f_k` (:mod:`realnvp.columns.bin_map`), so that marginals fit exactly
  before anything is trained. :math:`\log|\det J| = \log f_k - \log \varphi(v)`; of numbers, minus
  the logarithm of their step.
* A **gap**, a value that another column, its status, declares missing:
  :math:`v = \Phi^{-1}(u)` is noise whose density is subtracted,
  :math:`\log|\det J| = -\log \varphi(v)`.

So :math:`\log p(v) + \log|\det J|` is one draw of a bound of the log-likelihood of the row, as in
:mod:`realnvp.bijections.dequantization`: of a category its probability; of a decimal number the
mean density over its step, which for integers is their probability; of a gap, that it is one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from realnvp.bijections.base import constant
from realnvp.bijections.dequantization import Dequantization, Noise
from realnvp.bijections.fitted import Fitted
from realnvp.bijections.gaussian_mixture import log_normal
from realnvp.columns.atoms import between_atoms, with_atoms
from realnvp.columns.bin_map import MOST, ON_GRID, BinMap, even_edges, score_of
from realnvp.columns.smooth_map import SHAPES, TINY, SmoothMap

__all__ = ["TableColumns"]


class TableColumns(Fitted, Dequantization):
    r"""Map the columns of a table to normal scores, each by its own map; see the module.

    The parameters of the maps are float64 buffers, whatever the type of the flow, so that dates in
    seconds stay exact; the result has the flow's type.
    :func:`~realnvp.columns.fitting.marginals.fit_columns` computes them from data, and
    :meth:`fill` sets them.

    Args:
        columns: a mapping for each column. "kind" is "plain" (the identity), "smooth" or "cells".
            "step": whether a plain column holds integers, or a smooth one multiples of a step.
            "shape" of a smooth column is "linear", "asinh", "log" or "logit", and "knots" the
            number of its knots, 2 or more, and "atoms" that of its atoms, 0 by default. "size" is
            the number of cells, and "ordered" whether they are numbers, so that new values may lie
            beyond the first and the last, where scores grow like logarithms. "status" is the index
            of a column of cells that is 0 where this one has a value, and not 0 where it has a gap
            (NaN).

    Raises:
        ValueError: for invalid settings.

    >>> layer = TableColumns([{"kind": "plain"}, {"kind": "plain", "step": True}])
    >>> v, log_det = layer(torch.tensor([[0.5, 3.0]]))
    >>> v[0, 0].item(), 3 <= v[0, 1].item() <= 4, log_det.item()
    (0.5, True, 0.0)
    >>> layer = TableColumns([{"kind": "cells", "size": 2}, {"kind": "plain"}])
    >>> v, log_det = layer(torch.tensor([[1.0, 0.0]]))
    >>> bool(v[0, 0] >= 0), layer.inverse(v)[0]
    (True, tensor([[1., 0.]], dtype=torch.float64))
    """

    # In float32, seconds since 1970 would be two minutes apart.
    exact = (
        "center", "scale", "origin", "step", "knots", "values", "slopes",
        "atoms", "atom_edges", "cell_origin", "cell_step", "edges", "tails",
    )  # fmt: skip

    noisy_columns: Tensor
    center: Tensor
    scale: Tensor
    origin: Tensor
    step: Tensor
    knots: Tensor
    values: Tensor
    slopes: Tensor
    atoms: Tensor
    atom_edges: Tensor
    cell_origin: Tensor
    cell_step: Tensor
    edges: Tensor
    tails: Tensor

    def __init__(self, columns: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        self.columns = [_checked(column, i, columns) for i, column in enumerate(columns)]
        kinds = [column["kind"] for column in self.columns]
        self._plain_integers = _where(self.columns, lambda c: c["kind"] == "plain" and c["step"])
        self._smooth = [i for i, kind in enumerate(kinds) if kind == "smooth"]
        self._cells = [i for i, kind in enumerate(kinds) if kind == "cells"]
        self._gaps = [i for i, column in enumerate(self.columns) if column["status"] is not None]
        self._status = [self.columns[i]["status"] for i in self._gaps]
        noisy = [
            c["kind"] == "cells" or c["step"] or c["atoms"] > 0 or c["status"] is not None
            for c in self.columns
        ]
        self.register_buffer("noisy_columns", torch.tensor(noisy), persistent=False)
        self.noisy = any(noisy)

        def exact(*sizes: int, value: float = 0.0) -> Tensor:
            return torch.full(sizes, value, dtype=torch.float64)

        if n := len(self._smooth):
            most = max(self.columns[i]["knots"] for i in self._smooth)
            line = constant(lambda: torch.arange(most), n, most, dtype=torch.float64)
            self.register_buffer("center", exact(n))
            self.register_buffer("scale", exact(n, value=1.0))
            self.register_buffer("origin", exact(n))
            self.register_buffer("step", exact(n, value=1.0))
            self.register_buffer("knots", line)
            self.register_buffer("values", line.clone())
            self.register_buffer("slopes", exact(n, most, value=1.0))
            if most := max(self.columns[i]["atoms"] for i in self._smooth):
                line = constant(lambda: torch.arange(most), n, most, dtype=torch.float64)
                self.register_buffer("atoms", line)
                self.register_buffer("atom_edges", exact(n, most + 1))
        if n := len(self._cells):
            sizes = [self.columns[i]["size"] for i in self._cells]
            width = 1 + max(sizes)
            edges = constant(
                lambda: even_edges(torch.tensor(sizes), width), n, width, dtype=torch.float64
            )
            self.register_buffer("cell_origin", exact(n))
            self.register_buffer("cell_step", exact(n, value=1.0))
            self.register_buffer("edges", edges)
            self.register_buffer("tails", exact(n, 2, value=1.0))

    def extra_repr(self) -> str:
        counts = {"smooth": len(self._smooth), "cells": len(self._cells), "gaps": len(self._gaps)}
        counts["plain"] = len(self.columns) - counts["smooth"] - counts["cells"]
        return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)

    def check_values(self) -> None:
        if self._smooth:
            for name in ("scale", "step", "slopes"):
                if not (getattr(self, name) > 0).all():
                    raise ValueError(f"{name} must be positive")
            for name in ("knots", "values"):
                if not (getattr(self, name).diff(dim=1) > 0).all():
                    raise ValueError(f"{name} must ascend")
        if self._has_atoms:
            pairs = torch.arange(self.atoms.shape[1]) + 1 < self._counts("cpu")[:, None]
            if not ((self.atoms.diff(dim=1).cpu() > 0) | ~pairs[:, :-1]).all():
                raise ValueError("atoms must ascend")
            widths = self.atom_edges.diff(dim=1)
            if (self.atom_edges[:, 0] != 0).any() or (widths < 0).any():
                raise ValueError("the edges of atoms must ascend from 0")
            if (self.atom_edges[:, -1] >= 1).any():
                raise ValueError("the edges of atoms must ascend to less than 1")
        if self._cells:
            self._bin_map.check()

    @property
    def _has_atoms(self) -> bool:
        return "atoms" in self._buffers

    def _counts(self, device: torch.device | str) -> Tensor:
        """Return the number of atoms of each smooth column."""
        return torch.tensor([self.columns[i]["atoms"] for i in self._smooth], device=device)

    # ------------------------------------------------------------------ what can be

    def possible(self, x: Tensor) -> Tensor:
        """Return which values have a density: ``(B, D) -> (B, D)``, boolean.

        Values of a column with a step must be multiples of it, those of a column of cells one of
        the cells, numbers within their bounds, and gaps where the status marks them.
        """
        x = x.double()
        good = torch.isfinite(x)
        if self._gaps:
            gap = torch.isnan(x[:, self._gaps])
            status = x[:, self._status]
            good[:, self._gaps] = torch.where(gap, status != 0, good[:, self._gaps] & (status == 0))
        filled = self._filled(x)
        whole = self._plain_integers
        good[:, whole] &= filled[:, whole] == filled[:, whole].floor()
        if self._smooth:
            t, position = self._standardized(filled[:, self._smooth])
            on_grid = self._is_stepped() & ((position - position.round()).abs() > ON_GRID)
            log, logit = self._smooth_map.has("log", "logit"), self._smooth_map.has("logit")
            low = t < torch.where(self._is_stepped(), -TINY, TINY)  # a step has noise above it
            good[:, self._smooth] &= ~on_grid & ~(log & low) & ~(logit & (t >= 1))
        if self._cells:
            good[:, self._cells] &= self._bin_map.possible(filled[:, self._cells])
        if self._gaps:
            good[:, self._gaps] |= gap & (status != 0)
        return good

    def check(self, x: Tensor) -> None:
        """Raise a ValueError that names the first value without a density."""
        good = self.possible(x)
        if good.all():
            return
        row, column = (~good).nonzero()[0].tolist()
        value = x[row, column].item()
        raise ValueError(
            f"column {column}, row {row} (counting from 0): {value:.10g} {self.rule(column, value)}"
        )

    def rule(self, column: int, value: float) -> str:
        """Return why a value has no density, for messages."""
        kind = self.columns[column]
        if math.isnan(value):
            return "is missing, and there were no missing values in training"
        if math.isinf(value):
            return "is not finite"
        if kind["kind"] == "cells" and not kind["ordered"]:
            return f"is not one of the {kind['size']} categories"
        if kind["kind"] == "plain":
            return "is not an integer, as all values of this column are"
        return "is not on the column's grid, or not within its bounds"

    def mark(self, x: Tensor) -> Tensor:
        """Return rows with NaN for values without a density, and for their status, if any."""
        good = self.possible(x)
        x = x.masked_fill(~good, math.nan)
        x[:, self._status] = x[:, self._status].masked_fill(~good[:, self._gaps], math.nan)
        return x

    def marks(self, x: Tensor) -> Tensor:
        """Return where a NaN is not a gap, but the mark of an impossible row: ``(B, D)``."""
        marked = x.isnan()
        marked[:, self._gaps] = False
        return marked

    def snap(self, x: Tensor) -> Tensor:
        """Return ``x`` rounded down to the steps and cells of its columns."""
        x = x.double()
        out = x.clone()
        whole = self._plain_integers
        out[:, whole] = x[:, whole].floor()
        if self._smooth:
            part = x[:, self._smooth]
            index = ((part - self.origin) / self.step + ON_GRID).floor()
            stepped = self.origin + self.step * index
            out[:, self._smooth] = torch.where(self._is_stepped(), stepped, part)
        if self._cells:
            out[:, self._cells] = self._bin_map.snap(x[:, self._cells])
        return out

    # ------------------------------------------------------------------ the maps

    def draw(
        self, x: Tensor, condition: Tensor | None, noise: Noise
    ) -> tuple[Tensor, Tensor | None]:
        if not self.noisy:
            return torch.zeros((), dtype=self._one.dtype, device=x.device).expand(x.shape), None
        return self._uniform(x, noise), None

    def place(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        v, slopes = self.scores(x, u)
        return v, slopes.sum(1).to(v.dtype)

    def scores(self, x: Tensor, u: Tensor, unknown: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return normal scores of values, and the logarithm of the derivative of each.

        Args:
            x: ``(B, D)`` values.
            u: ``(B, D)`` noise.
            unknown: ``(D,)``, True for columns whose values are unknown and may be NaN; their
                results are arbitrary.

        Returns:
            ``(B, D)`` scores, and log-derivatives in float64.
        """
        x, u = x.double(), u.double()
        if unknown is not None:
            x = torch.where(unknown, self.some_values(), x)
        filled = self._filled(x)
        v, slopes = filled.clone(), torch.zeros_like(x)
        whole = self._plain_integers
        v[:, whole] += u[:, whole]
        if self._smooth:
            v[:, self._smooth], slopes[:, self._smooth] = self._smooth_forward(
                filled[:, self._smooth], u[:, self._smooth]
            )
        if self._cells:
            v[:, self._cells], slopes[:, self._cells] = self._bin_map(
                filled[:, self._cells], u[:, self._cells]
            )
        if self._gaps:
            gap = torch.isnan(x[:, self._gaps])
            score = score_of(u[:, self._gaps])
            v[:, self._gaps] = torch.where(gap, score, v[:, self._gaps])
            slopes[:, self._gaps] = torch.where(gap, -log_normal(score), slopes[:, self._gaps])
        return v.to(self._one.dtype), slopes

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z = z.double()
        x = z.clone()
        whole = self._plain_integers
        x[:, whole] = z[:, whole].floor()
        slopes = torch.zeros_like(z)
        if self._smooth:
            x[:, self._smooth], slopes[:, self._smooth] = self._smooth_inverse(z[:, self._smooth])
        if self._cells:
            x[:, self._cells], slopes[:, self._cells] = self._bin_map.inverse(z[:, self._cells])
        if self._gaps:
            gap = x[:, self._status] != 0
            x[:, self._gaps] = torch.where(gap, math.nan, x[:, self._gaps])
            log_density = -log_normal(z[:, self._gaps])
            slopes[:, self._gaps] = torch.where(gap, log_density, slopes[:, self._gaps])
        return x, -slopes.sum(1).to(self._one.dtype)

    def differs(self, x: Tensor, v: Tensor) -> Tensor:
        back, x = self.inverse(v)[0], x.double()
        same = torch.isclose(back, x, rtol=1e-12, atol=0, equal_nan=True)
        step = torch.ones_like(x[:1])
        if self._smooth:
            step[:, self._smooth] = self.step
        if self._cells:
            step[:, self._cells] = self.cell_step
        same |= (back - x).abs() <= ON_GRID * step
        same |= torch.isnan(back) & torch.isnan(x)
        return (~same | ~torch.isfinite(v)) & self.has_probability(x)

    def has_probability(self, x: Tensor) -> Tensor:
        """Return which values have a probability, rather than a density: ``(B, D)``, boolean.

        These are cells, numbers with a step, gaps, and atoms.
        """
        discrete = [column["kind"] == "cells" or column["step"] for column in self.columns]
        mask = torch.tensor(discrete, device=x.device).expand(x.shape).clone()
        mask[:, self._gaps] |= torch.isnan(x[:, self._gaps])
        if self._has_atoms:
            mask[:, self._smooth] |= self._find(x[:, self._smooth].double())[1]
        return mask

    def atom_widths(self, x: Tensor) -> Tensor:
        """Return the factor from the density of atoms to their probability.

        ``(B, D) -> (B, D)``: the step for columns with one, and 1 for others; NaN where there is no
        atom.
        """
        widths = torch.full(x.shape, math.nan, dtype=torch.float64, device=x.device)
        if self._has_atoms:
            at = self._find(x[:, self._smooth].double())[1]
            widths[:, self._smooth] = torch.where(at, self._log_step().exp(), math.nan)
        return widths

    # ------------------------------------------------------------------ details

    def _filled(self, x: Tensor) -> Tensor:
        """Return the values, with valid ones in place of gaps."""
        if not self._gaps:
            return x
        x, some = x.clone(), self.some_values()
        gaps = x[:, self._gaps]
        x[:, self._gaps] = torch.where(torch.isnan(gaps), some[self._gaps], gaps)
        return x

    def some_values(self) -> Tensor:
        """Return a valid value of each column, ``(D,)`` in float64."""
        some = torch.zeros(len(self.columns), dtype=torch.float64, device=self._one.device)
        if self._smooth:  # in the middle, where every shape is defined
            some[self._smooth] = (
                self.origin
                + self.step * ((self.center + 0.5 * self.scale - self.origin) / self.step).round()
            )
        if self._cells:
            some[self._cells] = self.cell_origin
        return some

    @property
    def _smooth_map(self) -> SmoothMap:
        shapes = tuple(self.columns[i]["shape"] for i in self._smooth)
        return SmoothMap(shapes, self.center, self.scale, self.knots, self.values, self.slopes)

    @property
    def _bin_map(self) -> BinMap:
        binned = [self.columns[i] for i in self._cells]
        sizes, ordered = (tuple(column[name] for column in binned) for name in ("size", "ordered"))
        return BinMap(sizes, ordered, self.cell_origin, self.cell_step, self.edges, self.tails)

    def _is_stepped(self) -> Tensor:
        flags = [self.columns[i]["step"] for i in self._smooth]
        return torch.tensor(flags, device=self._one.device)

    def _standardized(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return numbers in their own scale, and their positions on the grid of steps."""
        return (x - self.center) / self.scale, (x - self.origin) / self.step

    def _smooth_forward(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        stepped = self._is_stepped()
        low = torch.where(stepped, x + self.step * u, x)
        if not self._has_atoms:
            return self._smooth_map(low)
        k, at = self._find(x)
        # For an atom, both ends of its step.
        ends = self._atom(k), self._atom(k) + torch.where(stepped, self.step, 0.0)
        low, high = (torch.where(at, end, low) for end in ends)
        both, derivative = self._smooth_map(torch.cat((low, high)))
        n = x.shape[0]
        low, high, smooth = both[:n], both[n:], derivative[:n]
        parts = self._atom_parts(k, at)
        v, slope = with_atoms(low, high, *parts, u)
        slope = torch.where(at, slope - self._log_step(), slope + smooth)
        mixed = self._counts(x.device) > 0
        return torch.where(mixed, v, low), torch.where(mixed, slope, smooth)

    def _smooth_inverse(self, v: Tensor) -> tuple[Tensor, Tensor]:
        if not self._has_atoms:
            y, slope = self._smooth_map.inverse(v)
            return self._floored(y), slope
        count = self._counts(v.device)
        starts, stops, masses = self.atom_intervals()
        position = torch.searchsorted(starts.T.contiguous(), v.T.contiguous(), right=True).T
        j = (position - 1).clamp(min=0)
        at = (position > 0) & (v < stops.gather(0, j))
        below, _, above = self._atom_parts(position, torch.zeros_like(at))
        mixed = count > 0
        s = torch.where(mixed, between_atoms(v, below, above), v)
        y, smooth = self._smooth_map.inverse(s)
        rest = torch.log1p(-self.atom_edges[:, -1])
        between = torch.where(mixed, rest + log_normal(s) - log_normal(v), 0.0) + smooth
        at_atom = masses.gather(0, j) - log_normal(v) - self._log_step()
        x = torch.where(at, self._atom(j), self._floored(y))
        return x, torch.where(at, at_atom, between)

    def atom_intervals(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the scores where each atom begins and ends, and the logarithm of its probability.

        Each is ``(M, S)``, for S smooth columns of at most M atoms; where a column has fewer,
        scores are infinite.
        """
        width = torch.where(self._is_stepped(), self.step, 0.0)
        ends = torch.cat((self.atoms.T, self.atoms.T + width))
        low, high = self._smooth_map(ends)[0].chunk(2)
        k = torch.arange(len(low), device=low.device)[:, None].expand_as(low)
        real = k < self._counts(low.device)
        parts = self._atom_parts(k, real)
        starts, _ = with_atoms(low, high, *parts, torch.zeros_like(low))
        stops, slope = with_atoms(low, high, *parts, torch.ones_like(low))
        log_mass = slope + log_normal(stops)
        starts, stops = (part.masked_fill(~real, math.inf) for part in (starts, stops))
        return starts, stops, log_mass

    def _atom_parts(self, k: Tensor, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the probabilities of atoms below the k-th, of the k-th if ``at``, and above."""
        edges = self.atom_edges.T
        below, last = edges.gather(0, k), edges[-1:]
        beyond = torch.where(at, edges.gather(0, (k + 1).clamp(max=len(edges) - 1)), below)
        return below, beyond - below, last - beyond

    def _find(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return how many atoms are below numbers ``(B, S)``, and whether they equal the next."""
        stepped, count = self._is_stepped(), self._counts(x.device)
        reach = torch.where(stepped, ON_GRID * self.step, 0.0)
        k = torch.searchsorted(self._ascending_atoms(), (x - reach).T.contiguous()).T
        return k, (k < count) & ((x - self._atom(k)).abs() <= reach)

    def _atom(self, k: Tensor) -> Tensor:
        return self.atoms.T.gather(0, k.clamp(max=self.atoms.shape[1] - 1))

    def _log_step(self) -> Tensor:
        return torch.where(self._is_stepped(), self.step, 1.0).log()

    def _ascending_atoms(self) -> Tensor:
        """Return the atoms of each smooth column, ``(S, M)``; after the last, infinity."""
        index = torch.arange(self.atoms.shape[1], device=self.atoms.device)
        real = index < self._counts(self.atoms.device)[:, None]
        return self.atoms.masked_fill(~real, math.inf)

    def _floored(self, x: Tensor) -> Tensor:
        """Return numbers rounded down to their steps, in columns that have one."""
        stepped = self.origin + self.step * ((x - self.origin) / self.step).floor()
        if self._smooth_map.is_bounded:  # of a cell with the bound, only the inside exists
            low = ((self.center - self.origin) / self.step).ceil()
            inside = torch.maximum(stepped, self.origin + self.step * low)
            stepped = torch.where(self._smooth_map.has("log", "logit"), inside, stepped)
        return torch.where(self._is_stepped(), stepped, x)


def _where(
    columns: Sequence[Mapping[str, Any]], test: Callable[[Mapping[str, Any]], bool]
) -> list[int]:
    return [i for i, column in enumerate(columns) if test(column)]


def _checked(
    column: Mapping[str, Any], index: int, columns: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the validated settings of a column, possibly from an untrusted file, with defaults."""
    if not isinstance(column, Mapping):
        raise ValueError(f"column {index} must be a mapping, got a {type(column).__name__}")
    settings = {
        "kind": "plain", "step": False, "shape": "linear", "knots": 2, "size": 1, "ordered": False,
        "status": None, "atoms": 0,
    } | dict(column)  # fmt: skip
    where = f"of column {index} of a table"
    if settings["kind"] not in ("plain", "smooth", "cells"):
        raise ValueError(f"the kind {where} is plain, smooth or cells, got {settings['kind']!r}")
    if settings["shape"] not in SHAPES:
        raise ValueError(
            f"the shape {where} is one of {', '.join(SHAPES)}, got {settings['shape']!r}"
        )
    for name, least in (("knots", 2), ("size", 1), ("atoms", 0)):
        value = settings[name]
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= MOST:
            raise ValueError(f"{name} {where} must be {least} to {MOST}, got {value!r}")
    for name in ("step", "ordered"):
        if not isinstance(settings[name], bool):
            raise ValueError(f"{name} {where} must be true or false, got {settings[name]!r}")
    status = settings["status"]
    if status is not None:
        if (
            not isinstance(status, int)
            or isinstance(status, bool)
            or not 0 <= status < len(columns)
        ):
            raise ValueError(f"the status {where} must be a column, got {status!r}")
        other = columns[status]
        if (
            not isinstance(other, Mapping)
            or other.get("kind") != "cells"
            or other.get("status") is not None
        ):
            raise ValueError(f"the status {where} must be a column of cells without gaps")
    return settings
