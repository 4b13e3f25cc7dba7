r"""A scikit-learn outlier detector: scores, p-values and explanations of a table's rows.

>>> import numpy as np
>>> from realnvp.estimator import RealNVPDensity, RealNVPOutlierDetector
>>> X = np.random.default_rng(0).normal(size=(200, 2))
>>> detector = RealNVPOutlierDetector(RealNVPDensity(max_steps=20), random_state=0).fit(X)
>>> detector.predict([[0.1, 0.2], [9.0, -9.0]])
array([ 1, -1])
>>> bool(detector.p_values([[9.0, -9.0]])[0] < 0.03)
True
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.decomposition import PCA
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from realnvp.columns.impossible import possible_rows
from realnvp.columns.schema import TableSchema
from realnvp.estimator.checks import (
    check_no_gaps,
    checked_frame,
    schema_of,
)
from realnvp.estimator.density import RandomState, RealNVPDensity
from realnvp.outliers.neighbors import FARTHEST, NEIGHBORS, Neighbors, RowNeighbors, clamped
from realnvp.outliers.score import CrossFitted, TailScore
from realnvp.outliers.significance import (
    benjamini_hochberg,
    nothing_can_be_found,
    shift_p_value,
)
from realnvp.outliers.statistics import statistics
from realnvp.tables.frames import as_table
from realnvp.utils.files import write_atomically
from realnvp.utils.model_folder import DETECTOR
from realnvp.utils.serialization import seal, unseal

__all__ = ["RealNVPOutlierDetector"]

FOLDS = 5
"""Number of parts of the rows; with few rows, each is held out once, with many, only one."""

FEW_ROWS = 300
"""With fewer rows, every row is held out once, by as many flows as there are folds."""

MOST_HELD_OUT = 2_000

FOR_A_FLOW = 10
"""With fewer training rows, there is no flow, only distances."""

ALPHA = 0.05
"""P-value up to which a row is an outlier, if no contamination is given."""

IMPOSSIBLE = 1e30
"""Negative log-density of an impossible row, and of one whose density underflows."""

PART = 4_096
"""Rows per batch of scores."""

COUPLINGS = 4
"""Couplings of the halves of the columns: the statistics were chosen for their densities."""

Table = NDArray | pd.DataFrame
"""Rows of numbers, or of columns of any kind."""


class RealNVPOutlierDetector(OutlierMixin, BaseEstimator):
    r"""Outliers of a table by a normalizing flow, with conformal p-values.

    The score adds up the evidence of six statistics of a row: its negative log-density; its
    distances to the first and the fifth nearest row, and to the nearest one by squashed columns
    (:mod:`realnvp.outliers.neighbors`); and the distances of its latents to the first and the fifth
    nearest latents,

    .. math:: s(x) = -\sum_j \log \hat P(T_j \ge t_j(x)),

    with tails estimated from held-out rows. The statistics were chosen once, on other tables
    (docs/outliers.md); nothing is chosen with labels. The rank of a score among those of held-out
    rows is a p-value: under exchangeability, :math:`P(p(x) \le \alpha) \le \alpha` for a row like
    the ones that were fitted.

    With 300 rows or more, a fifth is held out, at most 2,000. With fewer, five flows hold out a
    fifth each (cross-conformal prediction, Vovk 2015), and their scores are averaged.

    A DataFrame with text, dates or gaps is fitted as by :class:`RealNVPDensity`, whose setting
    ``columns`` declares kinds of columns. In a distance, a category counts by how rare it is, and a
    gap is one more category. A category that was never seen, or a gap where there was none, makes a
    row an outlier, unless held-out rows have as many.

    Args:
        density: :class:`RealNVPDensity` whose copies are fitted; one of four couplings if left out.
        contamination: "auto" for training rows that are ordinary; rows with a p-value of 0.05 or
            less are then outliers. Or the fraction of outliers among the training rows: that
            fraction, the rows farthest from their neighbors, is left out of the fit, and that
            fraction of the training rows are then outliers. Squashed columns and the fifth nearest
            latents do not count then.
        max_features: largest number of numeric columns that a flow models; of more columns, it
            models that many principal components, while distances use all columns.
        random_state: seed, generator or None.

    Attributes:
        offset_: scores from :meth:`score_samples` below it are outliers.
        calibration_scores_: scores of the held-out rows, larger for more unusual ones.
        n_features_in_, feature_names_in_: as in scikit-learn.
    """

    def __init__(
        self,
        density: RealNVPDensity | None = None,
        *,
        contamination: float | str = "auto",
        max_features: int = 100,
        random_state: RandomState = None,
    ) -> None:
        self.density = density
        self.contamination = contamination
        self.max_features = max_features
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: Any = None) -> RealNVPOutlierDetector:
        """Fit the flow, and calibrate it with rows that are held out.

        Args:
            X: ``(N, D)`` numbers, or a DataFrame of columns of any kind.
            y: ignored.

        Raises:
            ValueError: if contamination is not a fraction up to a half, or a column of a DataFrame
                cannot be modeled.
        """
        table = self._table(X, reset=True)
        share = self.contamination
        if share != "auto" and not (isinstance(share, int | float) and 0 < share <= 0.5):
            raise ValueError(f'contamination is "auto" or in (0, 0.5], got {share!r}')
        random = (
            self.random_state
            if isinstance(self.random_state, np.random.Generator)
            else np.random.default_rng(check_random_state(self.random_state).randint(2**31 - 1))
        )
        schema = self._schema_of(table) if isinstance(table, pd.DataFrame) else None
        order = random.permutation(len(table))
        folds = min(FOLDS, len(table))
        held_out = [order[k::folds] for k in range(folds)]
        if len(table) >= FEW_ROWS:
            held_out = [order[: min(len(table) // FOLDS, MOST_HELD_OUT)]]
        self._members: list[_Member] = []
        for held in held_out:
            learned = _rows(table, np.setdiff1d(order, held))
            member = _Member(schema, clean=share == "auto")
            # Distances are to learning rows only: a held-out row must be treated like a new one,
            # which is not among the rows that it is measured to, although it may equal one.
            rows = member.features(learned)
            member.measure_to(rows)
            if share != "auto":
                kept = _usual(member.near, rows, float(share))
                learned = _rows(learned, kept)
                member.measure_to(rows[kept])
            self._fit_flow(member, learned, int(random.integers(2**31 - 1)))
            member.calibrate(member.statistics(_rows(table, held)))
            self._members.append(member)
        self.calibration_scores_ = np.concatenate([m.score.held_out for m in self._members])
        if share == "auto":
            # A score with a p-value of at most ALPHA is beyond all but so many held-out ones.
            n = len(self.calibration_scores_)
            beyond = int(np.floor(ALPHA * (n + 1)))
            ordered = np.sort(self.calibration_scores_)[::-1]
            self.offset_ = -float(ordered[beyond - 1]) if beyond else -np.inf
            if not beyond:
                warnings.warn(
                    f"with {n} rows no p-value can be {ALPHA:g} or less, so no row is an outlier: "
                    "fit at least 19, or use score_samples",
                    stacklevel=2,
                )
        else:
            self.offset_ = float(np.percentile(self.score_samples(X), 100 * float(share)))
        return self

    def _table(self, X: Any, reset: bool = False) -> Table:
        """Return a checked table: a DataFrame if the fitted one has not only numbers."""
        if reset:
            self._is_frame = isinstance(X, pd.DataFrame) and self._is_mixed(X)
        if self._is_frame and isinstance(X, pd.DataFrame):
            return checked_frame(self, as_table(X), reset)
        check_no_gaps(X)
        least = 2 if reset else 1
        table = validate_data(self, X, dtype=np.float64, reset=reset, ensure_min_samples=least)
        names = getattr(self, "feature_names_in_", None)
        return pd.DataFrame(table, columns=names) if self._is_frame else table

    def _is_mixed(self, X: pd.DataFrame) -> bool:
        """Return whether a table has more than numbers without gaps, or kinds are declared."""
        own = self.density or RealNVPDensity()
        declared = own.columns is not None or not isinstance(own.integers, str)
        numbers = all(map(pd.api.types.is_numeric_dtype, X.dtypes))
        return declared or not numbers or bool(X.isna().any(axis=None))

    def _schema_of(self, table: pd.DataFrame) -> TableSchema:
        own = self.density or RealNVPDensity()
        return schema_of(table, own.integers, own.columns, numbers=False)

    def _fit_flow(self, member: _Member, learned: Table, seed: int) -> None:
        """Fit the flow of a member to some rows, if they suffice for one."""
        if isinstance(learned, np.ndarray):
            member.find_components(learned, self.max_features, seed)
        rows = member.modeled(learned)
        density = clone(self.density or RealNVPDensity(couplings=COUPLINGS))
        density.set_params(random_state=seed)
        if member.schema is not None:  # a part of the rows might not show what a column holds
            kinds = {c.name: c.kind for c in member.schema.columns if c.declarable}
            density.set_params(columns=kinds, integers="auto")
        if len(learned) >= FOR_A_FLOW and rows.shape[1] > 1:
            try:
                with warnings.catch_warnings():  # about columns that are left out, or are integers
                    warnings.simplefilter("ignore")
                    member.density = density.fit(rows)
                member.latents = Neighbors(member.likelihood_and_latents(rows)[1])
            except ValueError:  # fewer than two columns vary freely
                member.density = None

    # ------------------------------------------------------------------ scores

    def _sum(self, X: ArrayLike, of: Callable[[_Member, NDArray], NDArray]) -> NDArray:
        """Return the sum over the flows of a function of a table's rows."""
        check_is_fitted(self, "calibration_scores_")
        table = self._table(X)
        result = np.zeros(len(table))
        for i in range(0, len(table), PART):
            part = _rows(table, slice(i, i + PART))
            for member in self._members:
                result[i : i + PART] += of(member, member.statistics(part))
        return result

    def score_samples(self, X: ArrayLike) -> NDArray:
        """Return how ordinary each row is, ``(N,)``: minus its outlier score."""
        total = self._sum(X, lambda member, values: member.score(values))
        return -total / len(self._members)

    def decision_function(self, X: ArrayLike) -> NDArray:
        """Return :meth:`score_samples` minus :attr:`offset_`, below 0 for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(
        self, X: ArrayLike, *, alpha: float | None = None, fdr: float | None = None
    ) -> NDArray:
        """Return 1 for ordinary rows and -1 for outliers, ``(N,)``.

        Args:
            X: ``(N, D)``.
            alpha: outliers are the rows with a p-value of at most this. By default, those beyond
                :attr:`offset_`.
            fdr: largest expected fraction of false alarms among the outliers, by the procedure of
                Benjamini and Hochberg over all rows of ``X``
                (:func:`~realnvp.outliers.benjamini_hochberg`), in place of ``alpha``.

        Raises:
            ValueError: if both are given, or one is not in (0, 1).
        """
        if alpha is None and fdr is None:
            return np.where(self.decision_function(X) < 0, -1, 1)
        level = fdr if alpha is None else alpha
        if (alpha is not None and fdr is not None) or level is None or not 0 < level < 1:
            raise ValueError(f"give alpha or fdr, in (0, 1): got alpha={alpha}, fdr={fdr}")
        p = self.p_values(X)
        marked = p <= level if alpha is not None else benjamini_hochberg(p, level)
        advice = "fit the detector to more rows, or choose a larger alpha or fdr"
        held_out = len(self.calibration_scores_)
        if warning := nothing_can_be_found(p, marked, held_out, advice):
            warnings.warn(warning, stacklevel=2)
        return np.where(marked, -1, 1)

    def drift(self, X: ArrayLike) -> float:
        """Return the p-value of the hypothesis that rows are distributed as the fitted ones.

        It is the test of Kolmogorov and Smirnov on all scores: a small shift of all rows, none of
        which is an outlier, is detected, too.
        """
        return shift_p_value(self.like_held_out(X), self.calibration_scores_)

    def like_held_out(self, X: ArrayLike) -> NDArray:
        """Return scores that are distributed as :attr:`calibration_scores_` if the rows are.

        They are in another order than the rows, each by one of the fits without some held-out rows.
        """
        check_is_fitted(self, "calibration_scores_")
        table = self._table(X)
        turns = [np.arange(k, len(table), len(self._members)) for k in range(len(self._members))]
        scores = [
            member.score.like_held_out(member.statistics(_rows(table, turn)), np.arange(len(turn)))
            for member, turn in zip(self._members, turns, strict=True)
            if len(turn)
        ]
        return np.concatenate(scores)

    def p_values(self, X: ArrayLike) -> NDArray:
        """Return the conformal p-value of each row, ``(N,)``, small for outliers.

        It is the share of held-out rows, including the row itself, that are at least as unusual.
        With few rows it cannot be small: with 19, it is at least 0.05.
        """
        count = self._sum(X, lambda member, values: member.score.count_as_unusual(values))
        result: NDArray = (1 + count) / (1 + len(self.calibration_scores_))
        return result

    def explain(self, X: ArrayLike) -> NDArray:
        r"""Return the contribution of each column to how unusual a row is, ``(N, D)`` in nats.

        It is the expected increase of the log-density if the column is drawn again, given the row's
        other columns,

        .. math:: E_{x_j' \sim p(x_j | x_{-j})}[\log p(x_j', x_{-j})] - \log p(x),

        which is about 0 for an ordinary value and does not depend on the unit. It takes 130
        densities per column and row. Infinite for a category that was never seen, a gap where there
        was none, or another value of a column that was constant or followed from others. NaN where
        the column is not modeled by itself: it is constant, follows from others, or there are more
        than ``max_features``; and in all other columns of a row with an impossible value.

        Args:
            X: ``(N, D)``.
        """
        check_is_fitted(self, "calibration_scores_")
        table = self._table(X)
        total, count = np.zeros(table.shape), np.zeros(table.shape)
        for member in self._members:
            if member.density is None or member.components is not None:
                continue
            reasons = member.density.explain(table).to_numpy()
            total += np.where(np.isnan(reasons), 0.0, reasons)
            count += ~np.isnan(reasons)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    # ------------------------------------------------------------------ saving

    def save(self, folder: str | Path) -> None:
        """Write the detector into a folder, without a pickle.

        :meth:`load` and ``realnvp score FOLDER --data rows.csv`` read it.

        The folder holds the rows that it was fitted to: distances are measured to them.
        """
        check_is_fitted(self, "calibration_scores_")
        folder = Path(folder)
        tensors: dict[str, torch.Tensor] = {}
        for k, member in enumerate(self._members):
            arrays = member.as_arrays()
            tensors |= {f"{k}/{name}": torch.as_tensor(array) for name, array in arrays.items()}
            if member.density is not None:
                member.density.save(folder / f"flow-{k}")
        own = self._members[0].schema
        names = getattr(self, "feature_names_in_", None)
        notes = {
            "contamination": self.contamination, "max_features": self.max_features,
            "frame": self._is_frame, "offset": self.offset_, "columns": self.n_features_in_,
            "names": None if names is None else list(names), "members": len(self._members),
            "table": None if own is None else own.as_dict(),
        }  # fmt: skip
        write_atomically(folder / DETECTOR, seal(tensors, notes))

    @classmethod
    def load(cls, folder: str | Path) -> RealNVPOutlierDetector:
        """Return the detector that was saved in a folder.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it is damaged.
        """
        path = Path(folder) / DETECTOR
        if not path.is_file():
            raise FileNotFoundError(f"there is no saved detector in {Path(folder).absolute()}")
        try:
            tensors, notes = unseal(path.read_bytes())
            detector = cls(
                contamination=notes["contamination"], max_features=int(notes["max_features"])
            )
            detector._is_frame, detector.offset_ = notes["frame"] is True, float(notes["offset"])
            detector.n_features_in_ = int(notes["columns"])
            if notes["names"] is not None:
                detector.feature_names_in_ = np.asarray(notes["names"], dtype=object)
            schema = None if notes["table"] is None else TableSchema.from_dict(notes["table"])
            detector._members = []
            for k in range(int(notes["members"])):
                prefix = f"{k}/"
                arrays = {
                    name.removeprefix(prefix): tensor.numpy()
                    for name, tensor in tensors.items()
                    if name.startswith(prefix)
                }
                flow = Path(folder) / f"flow-{k}"
                density = RealNVPDensity.load(flow) if "latents" in arrays else None
                clean = notes["contamination"] == "auto"
                detector._members.append(_Member.of_arrays(schema, clean, arrays, density))
            scores = [member.score.held_out for member in detector._members]
            detector.calibration_scores_ = np.concatenate(scores)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"the detector in {folder} is damaged: {error}") from error
        return detector


def _rows(table: Table, index: Any) -> Table:
    return table.iloc[index] if isinstance(table, pd.DataFrame) else table[index]


class _Member:
    """A flow, the rows that it was fitted to, and the scores of the held-out ones.

    Args:
        schema: columns of the table, if it has more than numbers.
        clean: whether the rows that distances are measured to have no outliers.

    Attributes:
        near: the rows that distances are measured to.
        components: ``(D, K)`` principal components that the flow models, if there are many columns.
        density: the flow, if there is one.
        latents: latents that distances are measured to.
        score: the score, fitted to the held-out rows.
        held_out: statistics of the held-out rows.
    """

    near: RowNeighbors
    score: CrossFitted
    held_out: NDArray

    def __init__(self, schema: TableSchema | None, clean: bool) -> None:
        self.schema, self.clean = schema, clean
        self.components: NDArray | None = None
        self.density: RealNVPDensity | None = None
        self.latents: Neighbors | None = None

    def features(self, table: Table) -> NDArray:
        """Return a table as numbers, with NaN for missing values and unknown categories."""
        if isinstance(table, np.ndarray) or self.schema is None:
            return np.asarray(table)
        return self.schema.encode(table)[0]

    def measure_to(self, rows: NDArray) -> None:
        """Set the features of the rows that distances are measured to."""
        known = () if self.schema is None else self.schema.features
        self._reference = rows
        self.near = RowNeighbors(rows, [each.kind == "category" for each in known])

    def calibrate(self, held_out: NDArray) -> None:
        """Fit the score to the statistics of held-out rows."""
        self.held_out, self.score = held_out, CrossFitted(TailScore, held_out)

    def as_arrays(self) -> dict[str, NDArray]:
        """Return all but the flow, to be saved."""
        arrays = {"rows": self._reference, "held_out": self.held_out}
        if self.latents is not None:
            arrays["latents"] = self.latents.rows
        if self.components is not None:
            arrays |= {"components": self.components, "mean": self._mean, "std": self._std}
        return {name: np.ascontiguousarray(array) for name, array in arrays.items()}

    @staticmethod
    def of_arrays(
        schema: TableSchema | None,
        clean: bool,
        arrays: dict[str, NDArray],
        density: RealNVPDensity | None,
    ) -> _Member:
        """Return the inverse of :meth:`as_arrays`."""
        member = _Member(schema, clean)
        member.measure_to(arrays["rows"])
        if density is not None:
            member.density, member.latents = density, Neighbors(arrays["latents"])
        if "components" in arrays:
            member.components = arrays["components"]
            member._mean, member._std = arrays["mean"], arrays["std"]
        member.calibrate(arrays["held_out"])
        return member

    def find_components(self, rows: NDArray, most: int, seed: int) -> None:
        """Choose the principal components that the flow models, for rows with many columns."""
        if min(rows.shape) > most:
            mean, std = rows.mean(axis=0), rows.std(axis=0)
            self._mean, self._std = mean, np.where(std > 1e-12 * (1 + np.abs(mean)), std, 1.0)
            found = PCA(most, random_state=seed).fit((rows - self._mean) / self._std)
            # The mean of standardized rows is 0 up to rounding.
            self.components = found.components_.T

    def modeled(self, table: Table) -> Table:
        """Return what the flow models: the columns, or their principal components."""
        if self.components is None:
            return table
        result: NDArray = (table - self._mean) / self._std @ self.components
        return result

    def likelihood_and_latents(self, rows: Table) -> tuple[NDArray, NDArray]:
        """Return minus the log-densities, and clamped latents."""
        density = self.density
        assert density is not None
        x, _, impossible = density._rows(rows, None)
        possible = possible_rows(impossible, len(x))
        surprise = np.full(len(rows), IMPOSSIBLE)
        z = np.full(tuple(x.shape), FARTHEST)
        if possible.any():
            x = x[torch.as_tensor(possible)]
            # Integers are at the middle of their cells, so that a score has no noise.
            noise = torch.full_like(x, 0.5) if density.flow_.noisy else None
            found, latents = statistics(density.flow_, x, None, noise)
            surprise[possible] = np.nan_to_num(
                -found["log_likelihood"].numpy(), nan=IMPOSSIBLE, posinf=IMPOSSIBLE
            )
            z[possible] = clamped(latents).double().numpy()
        return surprise, z

    def statistics(self, table: Table) -> NDArray:
        """Return the statistics of rows, ``(N, S)``, all of them larger for more unusual rows."""
        rows = self.features(table)
        distances = self.near.distances(rows, NEIGHBORS)
        if self.clean:
            distances = np.hstack([distances, self.near.squashed(rows, (1,))])
        if self.density is None or self.latents is None:
            return distances
        surprise, z = self.likelihood_and_latents(self.modeled(table))
        latents = self.latents.distances(z, NEIGHBORS if self.clean else (1,))
        return np.column_stack([surprise, distances, latents])


def _usual(near: RowNeighbors, rows: NDArray, share: float) -> NDArray:
    """Return the indices of rows, without the share that is farthest from its neighbors."""
    # Outliers occur in groups: a distance to many neighbors is not misled by a small group.
    many = min(max(NEIGHBORS[-1], int(2 * share * len(rows))), len(rows) - 1, 500)
    far = near.distances(rows, (many,))[:, 0]
    kept = np.argsort(far, kind="stable")[: max(2, round((1 - share) * len(rows)))]
    result: NDArray = np.sort(kept)
    return result
