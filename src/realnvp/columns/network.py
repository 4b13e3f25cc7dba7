r"""Categories first: exact probability tables, and all other columns given the categories.

A Gaussian, or any smooth map, blurs the borders between the intervals that categories have among
normal scores (see :mod:`realnvp.columns.layer`): a species that lives on one island gets some
animals on others. The discrete part can be modeled exactly, since the density of a row factorizes,

.. math:: p(c, x) = \prod_j p(c_j \mid c_{\pi(j)}) \; p(x \mid c),

with few other categories, or none, as the parents :math:`\pi(j)` of each: a Bayesian network, of
which the tree of Chow and Liu (IEEE Transactions on Information Theory 14, 1968) is the simplest.
A column of numbers may be among the categories, such as the day that determines the month; then
each of its values is a category, and so are the gaps between them. In the j-th score, the interval
:math:`[a, a + f)` that a category has by its frequency is stretched to the one that it has given
its parents, :math:`[b, b + g)`,

.. math:: z_j = \Phi^{-1}\Big(b + g \, \frac{\Phi(v_j) - a}{f}\Big), \qquad
    \log \frac{dz_j}{dv_j} = \log \frac{g}{f} + \log \frac{\varphi(v_j)}{\varphi(z_j)},

so that :math:`z_j` is standard normal, and independent of the other categories. The other columns
pass through a flow that is conditioned on features of the categories.

Given a condition :math:`y`, the tables are tilted by logits, those of a multinomial logistic
regression and of a network:

.. math:: p(c_j \mid c_{\pi(j)}, y) \propto
    T_j[c_{\pi(j)}, c_j] \, \exp\big(W_j^\top y + h_j(y)\big)_{c_j}
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from realnvp.bijections.base import Bijection, Terms, check_log_det, constant
from realnvp.bijections.columns_first import ColumnsFirst
from realnvp.bijections.fitted import Fitted
from realnvp.bijections.gaussian_mixture import normal_quantile
from realnvp.columns.bin_map import MOST, even_edges
from realnvp.columns.smooth_map import TINY

__all__ = ["CategoriesFirst"]

FAR = 5.0
"""Absolute score beyond which the outermost intervals are stretched by logarithms of
probabilities."""

FLOOR = 1e-4
"""Weight of the table in the probabilities given a condition, so that none vanishes."""


class CategoriesFirst(ColumnsFirst, Fitted):
    """Make normal scores of categories independent, and transform the other columns given them.

    Args:
        links: a mapping for each category column, parents before their children: "column", its
            index; "size", its number of categories; "parents", the indices of earlier links, none
            by default.
        dim: number D of all columns.
        features: number M of features that encode the categories.
        inner: bijection of the columns that are not categories, in order, conditioned on the
            features ``(B, M)``, to which the condition is appended if there is one.
        condition_dim: size K of the condition; 0 for none.
        conditioner: network of the condition, ``(B, 0), (B, K) -> (B, sum of sizes)``; None for
            the logistic regression alone.

    The tensors, set by :meth:`fill`, are such that
    :func:`realnvp.columns.fitting.categories.fit_categories` computes from data:

    * ``edges`` ``(C, S + 1)``, edges of the intervals of each column by frequency. Columns of fewer
      categories repeat their last edge.
    * ``tables``, the same given the categories of the parents: row by row, where the category of
      the last parent changes fastest, and column by column.
    * ``embedding`` ``(sum of sizes, M)``, whose rows of a row's categories add up to its features,
    * ``slopes`` ``(K, sum of sizes)``, those of the logistic regressions, with a condition only.

    Where a condition is given, no gradient flows into the latents of categories from the tilted
    tables: in the log-density, that part cancels with the log-determinant's.

    Raises:
        ValueError: for invalid links.

    >>> from realnvp.bijections import Chain
    >>> layer = CategoriesFirst(
    ...     [{"column": 0, "size": 2}, {"column": 1, "size": 2, "parents": [0]}], 3, 1, Chain()
    ... )
    >>> layer.fill({"tables": torch.tensor([0, 0.5, 1, 0, 0.9, 1, 0, 0.1, 1])})
    >>> z, log_det = layer(torch.tensor([[-1.0, -1.0, 3.0]]))
    >>> round(log_det.item() - 0.5 * (z[0, 1] ** 2 - 1).item(), 4)  # log 0.9 / 0.5
    0.5878
    """

    term = "preprocessing"
    has_analytic_inverse = False  # that of the inner layers may be a search
    exact = ("edges", "tables")

    edges: Tensor
    tables: Tensor
    embedding: Tensor
    slopes: Tensor

    def __init__(
        self,
        links: Sequence[Mapping[str, Any]],
        dim: int,
        features: int,
        inner: Bijection,
        *,
        condition_dim: int = 0,
        conditioner: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.links = [_checked(link, i, dim) for i, link in enumerate(links)]
        self.columns = [link["column"] for link in self.links]
        least = 0 if condition_dim else 1
        if len(set(self.columns)) < len(self.columns) or dim - len(self.columns) < least:
            raise ValueError(
                "links must have different columns, and leave at least one other column"
            )
        self.condition_dim, self.conditioner = condition_dim, conditioner
        self.others = [i for i in range(dim) if i not in self.columns]
        self.inner = inner
        sizes = [link["size"] for link in self.links]
        self._sizes, self._parents = sizes, [link["parents"] for link in self.links]
        rows = [math.prod(sizes[p] for p in own) for own in self._parents]
        cells = [count * (size + 1) for count, size in zip(rows, sizes, strict=True)]
        if max(sum(cells), len(sizes) * (max(sizes) + 1), sum(sizes) * features) > MOST:
            raise ValueError(f"links have tables of more than {MOST:,} cells")
        self._starts = [sum(cells[:i]) for i in range(len(cells) + 1)]
        self._offset = [sum(sizes[:i]) for i in range(len(sizes))]
        width, exact = max(sizes) + 1, torch.float64

        def edges() -> Tensor:
            return even_edges(torch.tensor(sizes), width)

        def tables() -> Tensor:
            own = [row[: size + 1] for row, size in zip(edges(), sizes, strict=True)]
            return torch.cat([row.repeat(count) for row, count in zip(own, rows, strict=True)])

        self.register_buffer("edges", constant(edges, len(sizes), width, dtype=exact))
        self.register_buffer("tables", constant(tables, sum(cells), dtype=exact))
        self.register_buffer("embedding", torch.zeros(sum(sizes), features))
        if condition_dim:
            self.register_buffer("slopes", torch.zeros(condition_dim, sum(sizes)))

    def extra_repr(self) -> str:
        return f"{len(self.columns)} of {len(self.columns) + len(self.others)} columns"

    def check_values(self) -> None:
        edges = [row[None, : n + 1] for row, n in zip(self.edges, self._sizes, strict=True)]
        tables = [self._table(i) for i in range(len(self._sizes))]
        for name, grids in (("edges", edges), ("tables", tables)):
            if not all((grid.diff(dim=1) > 0).all() and (grid[:, 0] == 0).all() for grid in grids):
                raise ValueError(f"the {name} of categories must ascend from 0")
            if not all((grid[:, -1] == 1).all() for grid in grids):
                raise ValueError(f"the {name} of categories must ascend to 1")

    def features(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        return self._given(self._codes(x[:, self.columns].double()), condition, x.dtype)

    def _given(self, codes: Tensor, condition: Tensor | None, dtype: torch.dtype) -> Tensor:
        """Return the condition of the inner layers."""
        features = self._features(codes).to(dtype)
        if not self.condition_dim or condition is None:
            return features
        return torch.cat((features, condition.to(dtype)), dim=1)

    def _features(self, codes: Tensor) -> Tensor:
        offset = torch.tensor(self._offset, device=codes.device)
        return self.embedding[codes + offset].sum(1)

    def _tilts(self, condition: Tensor | None) -> list[Tensor] | None:
        """Return the logits of each column given the condition, ``(B, size)``; None without one."""
        if not self.condition_dim:
            return None
        if condition is None:
            raise ValueError("the categories have a condition, but none is given")
        logits = condition @ self.slopes
        if self.conditioner is not None:
            logits = logits + self.conditioner(condition[:, :0], condition)
        return list(logits.double().split(self._sizes, dim=1))

    def _tilted(self, i: int, codes: Tensor, tilt: Tensor) -> Tensor:
        """Return the probabilities of the i-th column given its parent's, ``(B, size)``."""
        own = self._table(i)[self._row(i, codes)].diff(dim=1)
        return (1 - FLOOR) * torch.softmax(own.log() + tilt, dim=1) + FLOOR * own

    def _cells(self, codes: Tensor, tilts: list[Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return the ends of the intervals given the parents, and their log-widths."""
        if tilts is None:
            places = [
                self._starts[i] + (size + 1) * self._row(i, codes) + codes[:, i]
                for i, size in enumerate(self._sizes)
            ]
            place = torch.stack(places, dim=1)
            start, stop = self.tables[place], self.tables[place + 1]
            return start, stop, (stop - start).log()
        cells = []
        for i, tilt in enumerate(tilts):
            p, own = self._tilted(i, codes, tilt), codes[:, i : i + 1]
            edges = _edges_of(p.detach())
            cells.append((edges.gather(1, own), edges.gather(1, own + 1), p.gather(1, own).log()))
        start, stop, log_width = (torch.cat(parts, dim=1) for parts in zip(*cells, strict=True))
        return start, stop, log_width

    def _table(self, i: int) -> Tensor:
        """Return the table of the i-th column, ``(R, size + 1)``."""
        return self.tables[self._starts[i] : self._starts[i + 1]].view(-1, self._sizes[i] + 1)

    def _row(self, i: int, codes: Tensor) -> Tensor:
        """Return the row of the i-th column's table for the parents' categories, ``(B,)``."""
        row = torch.zeros_like(codes[:, 0])
        for parent in self._parents[i]:
            row = row * self._sizes[parent] + codes[:, parent]
        return row

    def _stretched(
        self, codes: Tensor, scores: Tensor, tilts: list[Tensor] | None, back: bool
    ) -> tuple[Tensor, Tensor]:
        """Return scores by frequency given the parents, or back, and the log-determinant."""
        index = torch.arange(len(self.columns), device=codes.device).expand_as(codes)
        low, high = self.edges[index, codes], self.edges[index, codes + 1]
        before, after = (low, high, (high - low).log()), self._cells(codes, tilts)
        (low, high, width), (start, stop, new) = (after, before) if back else (before, after)
        place = ((torch.special.ndtr(scores) - low) / (high - low)).clamp(0, 1)
        share = start + place * (stop - start)
        found = torch.special.ndtri(share.clamp(TINY, 1 - TINY))
        # Far out, beyond the range of the data, probabilities are indistinguishable from 0 or 1.
        outer = ((low == 0) & (scores < -FAR)) | ((high == 1) & (scores > FAR))
        with torch.no_grad():
            log_share = torch.special.log_ndtr(-scores.abs()) + new - width
            far = normal_quantile(log_share) * -scores.sign()
        found = torch.where(outer, far, found)
        slope = new - width + 0.5 * (found.square() - scores.square())
        return found, slope.sum(1)

    def _codes(self, scores: Tensor) -> Tensor:
        share = torch.special.ndtr(scores)
        codes = torch.searchsorted(self.edges, share.T.contiguous(), right=True).T - 1
        sizes = torch.tensor(self._sizes, device=codes.device)
        return torch.minimum(codes.clamp(min=0), sizes - 1)

    def _codes_of_latents(self, scores: Tensor, tilts: list[Tensor] | None) -> Tensor:
        share, codes = torch.special.ndtr(scores), torch.zeros_like(scores, dtype=torch.int64)
        for i, size in enumerate(self._sizes):  # each needs its parents
            if tilts is None:
                grid = self._table(i)[self._row(i, codes)]
            else:
                grid = _edges_of(self._tilted(i, codes, tilts[i]).detach())
            found = torch.searchsorted(grid, share[:, i : i + 1].contiguous(), right=True)[:, 0] - 1
            codes[:, i] = found.clamp(0, size - 1)
        return codes

    def forward_terms(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Terms]:
        scores = x[:, self.columns].double()
        codes = self._codes(scores)
        own, log_det = self._stretched(codes, scores, self._tilts(condition), back=False)
        features = self._given(codes, condition, x.dtype)
        rest, terms = self.inner.forward_terms(x[:, self.others], features)
        log_det = log_det.to(x.dtype)
        found = {**terms, self.term: log_det + terms[self.term] if self.term in terms else log_det}
        return self._joined(own, rest), found

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        latents = z[:, self.columns].double()
        tilts = self._tilts(condition)
        codes = self._codes_of_latents(latents, tilts)
        scores, own = self._stretched(codes, latents, tilts, back=True)
        features = self._given(codes, condition, z.dtype)
        rest, log_det = self.inner.inverse(z[:, self.others], features)
        check_log_det(log_det, rest, self.inner, "inner")
        return self._joined(scores, rest), log_det + own.to(log_det.dtype)

    def outline(
        self, shape: tuple[int, ...], name: str
    ) -> Iterator[tuple[str, Bijection, tuple[int, ...]]]:
        yield name, self, shape
        yield from self.inner.outline((len(self.others),), f"{name}.inner")


def _edges_of(p: Tensor) -> Tensor:
    """Return the edges of intervals of these probabilities, ``(B, S) -> (B, S + 1)``."""
    edges = torch.cat((torch.zeros_like(p[:, :1]), p.cumsum(1)), dim=1)
    return edges / edges[:, -1:]


def _checked(link: Mapping[str, Any], index: int, dim: int) -> dict[str, Any]:
    """Return the validated settings of a link, which may come from an untrusted file."""
    if not isinstance(link, Mapping):
        raise ValueError(f"link {index} must be a mapping, got a {type(link).__name__}")
    parents = link.get("parents") or []
    if not isinstance(parents, list | tuple) or len(set(map(repr, parents))) < len(parents):
        raise ValueError(f"parents of link {index} must be different links, got {parents!r}")
    values = [("column", link.get("column"), dim - 1), ("size", link.get("size"), MOST)]
    for name, value, high in values + [("parent", value, index - 1) for value in parents]:
        low = int(name == "size")
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"{name} of link {index} must be {low} to {high}, got {value!r}")
    return {"column": link["column"], "size": link["size"], "parents": list(parents)}
