r"""Categories first: a chain of exact tables, and all other columns given what the categories are.

A Gaussian, or any smooth map, blurs the borders between the intervals that categories have among
normal scores (see :mod:`realnvp.bijections.columns`): a species that lives on one island gets some
animals on others. What is discrete can be had exactly, since the density of a row factorizes,

.. math:: p(c, x) = \prod_j p(c_j \mid c_{\pi(j)}) \; p(x \mid c),

with one other category, or none, as the parent :math:`\pi(j)` of each: the tree of
Chow and Liu (IEEE Transactions on Information Theory 14, 1968), here directed. In the j-th score,
the interval :math:`[a, a + f)` that a category has by its frequency is stretched to that which it
has given its parent, :math:`[b, b + g)`,

.. math:: z_j = \Phi^{-1}\Big(b + g \, \frac{\Phi(v_j) - a}{f}\Big), \qquad
    \log \frac{dz_j}{dv_j} = \log \frac{g}{f} + \log \frac{\varphi(v_j)}{\varphi(z_j)},

so that :math:`z_j` is standard normal, and independent of the other categories. The other columns
pass through a flow that is conditioned on features of the categories.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from realnvp.bijections.base import Bijection, Terms, check_log_det
from realnvp.bijections.columns import MOST, TINY, Exact

__all__ = ["CategoriesFirst"]


class CategoriesFirst(Exact):
    """Make normal scores of categories independent, and transform the other columns given them.

    Args:
        links: a mapping for each category column, parents before their children: "column", its
            index; "size", its number of categories; "parent", the index of an earlier link, or
            None.
        dim: number D of all columns.
        features: number M of numbers that say what the categories are.
        inner: bijection of the columns that are no categories, in order, conditioned on the
            features ``(B, M)``.

    The tensors, set by :meth:`fill`, are such that
    :func:`realnvp.training.categories.fit_categories` computes from data:

    * ``edges`` ``(C, S + 1)``, edges of the intervals of each column by frequency,
    * ``tables`` ``(R, S + 1)``, likewise given each category of the parent; a single row where
      there is none. Columns of fewer categories repeat their last edge.
    * ``embedding`` ``(sum of sizes, M)``, whose rows of a row's categories add up to its features.

    Raises:
        ValueError: for links that cannot be.

    >>> from realnvp.bijections import Chain
    >>> layer = CategoriesFirst(
    ...     [{"column": 0, "size": 2}, {"column": 1, "size": 2, "parent": 0}], 3, 1, Chain()
    ... )
    >>> layer.fill({"tables": torch.tensor([[0, 0.5, 1], [0, 0.9, 1], [0, 0.1, 1]])})
    >>> z, log_det = layer(torch.tensor([[-1.0, -1.0, 3.0]]))
    >>> round(log_det.item() - 0.5 * (z[0, 1] ** 2 - 1).item(), 4)  # log 0.9 / 0.5
    0.5878
    """

    term = "preprocessing"
    has_analytic_inverse = False  # the inner layers' may be a search
    exact = ("edges", "tables")

    edges: Tensor
    tables: Tensor
    embedding: Tensor

    def __init__(
        self, links: Sequence[Mapping[str, Any]], dim: int, features: int, inner: Bijection
    ) -> None:
        super().__init__()
        self.links = [_checked(link, i, dim) for i, link in enumerate(links)]
        self.columns = [link["column"] for link in self.links]
        if len(set(self.columns)) < len(self.columns) or len(self.columns) >= dim:
            raise ValueError(
                "links must have different columns, and leave at least one other column"
            )
        self.others = [i for i in range(dim) if i not in self.columns]
        self.inner = inner
        sizes = [link["size"] for link in self.links]
        parents = [link["parent"] for link in self.links]
        rows = [1 if p is None else sizes[p] for p in parents]
        if max(sum(rows), sum(sizes)) * (max(sizes) + 1) > MOST:
            raise ValueError(f"links have tables of more than {MOST:,} cells")
        self._parents, self._first = parents, [sum(rows[:i]) for i in range(len(rows))]
        self._offset = [sum(sizes[:i]) for i in range(len(sizes))]
        self._sizes = sizes
        width = torch.arange(max(sizes) + 1, dtype=torch.float64)
        edges = torch.stack([(width / size).clamp(max=1.0) for size in sizes])
        self.register_buffer("edges", edges)
        tables = [row.expand(count, -1) for row, count in zip(edges, rows, strict=True)]
        self.register_buffer("tables", torch.cat(tables))
        self.register_buffer("embedding", torch.zeros(sum(sizes), features))

    def extra_repr(self) -> str:
        return f"{len(self.columns)} of {len(self.columns) + len(self.others)} columns"

    def check_values(self) -> None:
        inside = torch.arange(self.edges.shape[1] - 1)
        rows = torch.tensor([1 if p is None else self._sizes[p] for p in self._parents])
        sizes = torch.tensor(self._sizes)
        for name, own in (("edges", sizes), ("tables", sizes.repeat_interleave(rows))):
            grid = getattr(self, name).cpu()
            known = inside < own[:, None]
            if not ((grid.diff(dim=1) > 0) | ~known).all() or (grid[:, 0] != 0).any():
                raise ValueError(f"the {name} of categories must ascend from 0")
            if (grid.gather(1, own[:, None]) != 1).any() or (grid > 1).any():
                raise ValueError(f"the {name} of categories must ascend to 1")

    def features(self, x: Tensor) -> Tensor:
        """Return what the inner layers are given of rows ``(B, D)`` of normal scores."""
        return self._features(self._codes(x[:, self.columns].double())).to(x.dtype)

    def _features(self, codes: Tensor) -> Tensor:
        offset = torch.tensor(self._offset, device=codes.device)
        return self.embedding[codes + offset].sum(1)

    def _rows(self, codes: Tensor) -> Tensor:
        """Return the rows of the tables, ``(B, C)``, given the codes of all categories."""
        rows = [
            torch.full_like(codes[:, 0], first) if parent is None else first + codes[:, parent]
            for first, parent in zip(self._first, self._parents, strict=True)
        ]
        return torch.stack(rows, dim=1)

    def _stretched(self, codes: Tensor, scores: Tensor, back: bool) -> tuple[Tensor, Tensor]:
        """Return scores by frequency given the parents, or back, and the log-determinant."""
        index = torch.arange(len(self.columns), device=codes.device).expand_as(codes)
        rows = self._rows(codes)
        cells = [
            (grid[row, codes], grid[row, codes + 1])
            for grid, row in ((self.edges, index), (self.tables, rows))
        ]
        (low, high), (start, stop) = reversed(cells) if back else cells
        place = ((torch.special.ndtr(scores) - low) / (high - low)).clamp(0, 1)
        share = start + place * (stop - start)
        found = torch.special.ndtri(share.clamp(TINY, 1 - TINY))
        slope = ((stop - start) / (high - low)).log() + 0.5 * (found.square() - scores.square())
        return found, slope.sum(1)

    def _codes(self, scores: Tensor) -> Tensor:
        share = torch.special.ndtr(scores)
        codes = torch.searchsorted(self.edges, share.T.contiguous(), right=True).T - 1
        sizes = torch.tensor(self._sizes, device=codes.device)
        return torch.minimum(codes.clamp(min=0), sizes - 1)

    def _codes_of_latents(self, scores: Tensor) -> Tensor:
        share, codes = torch.special.ndtr(scores), torch.zeros_like(scores, dtype=torch.int64)
        for i, size in enumerate(self._sizes):  # each needs its parent
            grid = self.tables[self._rows(codes)[:, i]]
            found = torch.searchsorted(grid, share[:, i : i + 1].contiguous(), right=True)[:, 0] - 1
            codes[:, i] = found.clamp(0, size - 1)
        return codes

    def _joined(self, own: Tensor, rest: Tensor) -> Tensor:
        order = torch.tensor([*self.columns, *self.others], device=rest.device).argsort()
        return torch.cat((own.to(rest.dtype), rest), dim=1)[:, order]

    def forward_terms(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Terms]:
        scores = x[:, self.columns].double()
        codes = self._codes(scores)
        own, log_det = self._stretched(codes, scores, back=False)
        features = self._features(codes).to(x.dtype)
        rest, terms = self.inner.forward_terms(x[:, self.others], features)
        log_det = log_det.to(x.dtype)
        found = {**terms, self.term: log_det + terms[self.term] if self.term in terms else log_det}
        return self._joined(own, rest), found

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z, terms = self.forward_terms(x, condition)
        return z, torch.stack(list(terms.values())).sum(0)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        latents = z[:, self.columns].double()
        codes = self._codes_of_latents(latents)
        scores, own = self._stretched(codes, latents, back=True)
        features = self._features(codes).to(z.dtype)
        rest, log_det = self.inner.inverse(z[:, self.others], features)
        check_log_det(log_det, rest, self.inner, "inner")
        return self._joined(scores, rest), log_det + own.to(log_det.dtype)

    def outline(
        self, shape: tuple[int, ...], name: str
    ) -> Iterator[tuple[str, Bijection, tuple[int, ...]]]:
        yield name, self, shape
        yield from self.inner.outline((len(self.others),), f"{name}.inner")


def _checked(link: Mapping[str, Any], index: int, dim: int) -> dict[str, Any]:
    """Return the validated settings of a link, which may come from an untrusted file."""
    if not isinstance(link, Mapping):
        raise ValueError(f"link {index} must be a mapping, got a {type(link).__name__}")
    found = {name: link.get(name) for name in ("column", "size", "parent")}
    for name, low, high in (("column", 0, dim - 1), ("size", 1, MOST), ("parent", 0, index - 1)):
        value = found[name]
        if value is None and name == "parent":
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"{name} of link {index} must be {low} to {high}, got {value!r}")
    return found
