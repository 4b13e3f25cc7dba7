r"""A scikit-learn density estimator: exact log-densities, samples and latents of a table's rows.

>>> import numpy as np
>>> from realnvp.estimator import RealNVPDensity
>>> X = np.random.default_rng(0).normal(size=(300, 2))
>>> density = RealNVPDensity(max_steps=50, random_state=0).fit(X)
>>> density.score_samples(X[:3]).shape, density.sample(5, random_state=0).shape
((3,), (5, 2))
>>> bool(np.abs(density.inverse_transform(density.transform(X)) - X).max() < 1e-6)
True
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    DensityMixin,
    TransformerMixin,
)
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from realnvp.bijections import DomainMap
from realnvp.bijections.domains import DomainLike, as_domain
from realnvp.columns.impossible import (
    Impossible,
    impossible_text,
    missing_instead,
    possible_rows,
)
from realnvp.columns.layer import TableColumns
from realnvp.columns.schema import TableSchema
from realnvp.config import DataConfig, VectorRecipe
from realnvp.data.dataset import Split
from realnvp.estimator.checks import (
    check_no_gaps,
    checked_frame,
    row_weights,
    schema_of,
)
from realnvp.evaluation import log_likelihood
from realnvp.flow import Flow
from realnvp.model_info import ModelInfo
from realnvp.outliers import OutlierScorer, calibrate
from realnvp.pretrained import load
from realnvp.recipes import load_recipe
from realnvp.tables.comparison import RowComparison, compare_rows
from realnvp.tables.condition import Condition
from realnvp.tables.conditionals import even_noise
from realnvp.tables.defaults import Defaults
from realnvp.tables.fit import fit_rows
from realnvp.tables.frames import as_pandas, as_table
from realnvp.tables.inference import (
    category_proba,
    filled_table,
    impute,
    known_rows,
    quantiles,
)
from realnvp.tables.sampling import sample_table
from realnvp.tables.scores import explained, marked, scores
from realnvp.training.warm_start import check_kept, copy_of_table, keeping_columns, model_of
from realnvp.utils.errors import some_of

__all__ = ["RealNVPDensity"]

DRAWS = 16
"""Draws of the noise that a log-density with integer columns is averaged over."""


NUMBERS = 2**17
"""Largest number of table entries in a batch."""


RandomState = int | np.random.RandomState | np.random.Generator | None


class RealNVPDensity(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, DensityMixin, BaseEstimator
):
    r"""Density of a table's rows by a normalizing flow, after arXiv 1605.08803.

    .. math:: \log p(x) = \log \mathcal N(f(x); 0, I) + \log |\det J_f(x)|

    The flow starts as the Gaussian, or the mixture of Gaussians, that fits the data, and couplings
    learn the rest. From 2,000 rows on, 3 to 30 columns of numbers, unless the condition is a class,
    are modeled one after the other instead, each as a Gaussian mixture given those before it
    (:class:`~realnvp.bijections.Autoregressive`), with dropout or without, unless held-out rows
    like couplings better. The flow is trained until the likelihood of held-out rows no longer
    improves, and with few rows then again on all of them for the same number of steps. If training
    does not improve on the initial model beyond chance, the initial model is kept. Like
    :class:`~sklearn.mixture.GaussianMixture` it is a density to fit, score and sample; and it is a
    transformer, whose latents are independent standard normals.

    Integer columns are dequantized: their density is then a probability, which cannot grow without
    bound. Constant columns, and columns that are a linear function of others, have no density of
    their own: they are left out with a warning, and restored in samples; a row that deviates from
    them has the log-density minus infinity. Rescaling a column only changes the log-density by the
    logarithm of the scale; rescaling a numeric condition or the weights changes nothing.

    Fitting uses random generators of its own, so several threads may fit at the same time, each
    reproducibly given its ``random_state``. It always runs in one process, also under ``torchrun``
    or Slurm.

    Args:
        coupling: kind of couplings of halves of the columns, also where columns would be modeled
            one after the other by default. "gaussian_mixture" models one half as a Gaussian mixture
            given the other; "affine" is the paper's; "piecewise_linear" learns the masses of
            intervals. The default is "gaussian_mixture", except for one column of few integers or
            categories given numbers: there the intervals of "piecewise_linear" are the values,
            which makes it a softmax classifier.
        couplings: number of coupling layers of halves, as above; 4 by default. For one column given
            numbers it is 2, which was measured to be better with wider networks, or 1 if the column
            has few values.
        components: number of Gaussians of a mixture coupling; 8 by default, and 16 for columns one
            after the other.
        hidden: number of units of the conditioners' layers; 32 by default, and 64 for one column
            given numbers, for more than 10,000 rows, or for columns one after the other; 128, with
            dropout, for two columns or more than 30 given numbers from 2,000 rows on.
        blocks: number of residual blocks of each conditioner.
        mixture_init: number of Gaussians of the mixture that the flow starts as; by default chosen
            by cross-validation, or 1, a linear regression, for one column given numbers. (A
            classifier starts as the frequencies, and must be better than the regression.)
        members: number of flows whose densities are averaged, for one column: each holds out a
            different share of the rows to stop early, and to choose whether the condition is also
            encoded in intervals between its quantiles. For columns one after the other, number of
            networks of each column whose densities are averaged. By default 8 for one column given
            numbers with at most 20,000 rows, where it was measured to be better in eight times the
            time, else 1.
        max_steps: largest number of optimizer steps; training may stop early. By default 2,000, or
            6,000 for several columns of more than 10,000 rows, or for two columns or more than 30
            given numbers from 2,000 rows on. The learning rate falls in the last half of these
            6,000, and of the 3,000 for columns one after the other.
        batch_size: number of rows per step.
        lr: learning rate of AdamW. By default this and the next two are chosen by the number of
            rows: the fewer, the more regularization.
        weight_decay: weight decay of the conditioners' weights; 0.1 where there is dropout by
            default in couplings of halves.
        smoothing: standard deviation of the noise that is added to every batch, relative to the
            Gaussians that the flow starts as. It keeps the flow from memorizing few rows.
        validation_fraction: fraction of the rows that is held out for early stopping; with 0,
            training takes all steps.
        patience: number of validations without improvement after which training ends; there are 100
            over all steps. By default 5, 15 for columns one after the other, and 20 for two columns
            or more than 30 given numbers from 2,000 rows on; for one column given numbers 15, or 8
            for each of several members, or 3 if the column has few values.
        integers: integer columns: "auto" detects them (with a warning for an array), "none", or
            their indices or names.
        columns: kinds of columns by name or index, or one kind for all, instead of the detected
            ones: "continuous", "decimal", "integer", "categorical", "datetime" or "drop".
        keep_range: whether samples stay within the range of every numeric column of a DataFrame.
            Columns without negative numbers always stay nonnegative.
        n_jobs: number of processes that train ``members`` at the same time; None is 1, and -1 as
            many as there are cores.
        random_state: seed, generator or None.
        verbose: whether to print a few lines about training, in the units of :meth:`score`.

    Attributes:
        flow_: the :class:`realnvp.Flow` of the columns that vary freely, in their own units and
            float64. ``flow_.save_pretrained(folder)`` is the same as :meth:`save`.
        n_iter_: number of optimizer steps of the kept model; 0 if the initial model was kept.
        n_features_in_, feature_names_in_: as in scikit-learn.
    """

    def __init__(
        self,
        *,
        coupling: str | None = None,
        couplings: int | None = None,
        components: int | None = None,
        hidden: int | None = None,
        blocks: int = 1,
        mixture_init: int | None = None,
        members: int | None = None,
        max_steps: int | None = None,
        batch_size: int = 256,
        lr: float | None = None,
        weight_decay: float | None = None,
        smoothing: float | None = None,
        validation_fraction: float = 0.15,
        patience: int | None = None,
        integers: str | Sequence[int] | Sequence[str] = "auto",
        columns: str | Mapping[Any, str] | None = None,
        keep_range: bool = False,
        n_jobs: int | None = None,
        random_state: RandomState = None,
        verbose: bool = False,
    ) -> None:
        self.coupling = coupling
        self.couplings = couplings
        self.components = components
        self.hidden = hidden
        self.blocks = blocks
        self.mixture_init = mixture_init
        self.members = members
        self.max_steps = max_steps
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.smoothing = smoothing
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.integers = integers
        self.columns = columns
        self.keep_range = keep_range
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    # ------------------------------------------------------------------ fitting

    def fit(
        self,
        X: ArrayLike,
        y: Any = None,
        condition: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        domain: DomainLike = None,
        init: Any = None,
    ) -> RealNVPDensity:
        """Fit the density of the rows, given the condition if there is one.

        Args:
            X: ``(N, D)`` numbers, at least two rows and a column that varies. For a single column
                given a condition, ``p(y | x)``, pass ``fit(y, condition=x)`` with ``y`` of shape
                ``(N,)``, here and in the other methods.
            y: ignored.
            condition: ``(N,)`` classes, or ``(N,)`` or ``(N, K)`` numbers, that the density is
                conditioned on. Names are classes, and so are integers, unless there are more than
                50 different ones, or more than 10 and fewer than 4 rows per integer.
            sample_weight: ``(N,)`` weights of the rows; rows of weight 0 are ignored.
            domain: domains of columns of numbers, outside of which the density is 0, as in
                :func:`realnvp.vector_flow`: for each column None, ``("interval", a, b)``,
                ``("halfline", a)``, ``("circle",)`` or ``("simplex",)``; or the support of a
                distribution of PyTorch.
            init: model of a table to start from: a fitted estimator, or what :meth:`load` takes.
                The new density keeps its columns and layers, in place of the settings of layers,
                and is the model itself unless training improves on it beyond chance.

        Raises:
            ValueError: if no density can be fitted, or a row is outside of the domain, or
                impossible under the model to start from.
        """
        if not 0 <= self.validation_fraction < 1:
            raise ValueError(f"validation_fraction is in [0, 1), got {self.validation_fraction}")
        start = None
        if init is not None:
            start, domain = self._begin(init, domain)
        with contextlib.nullcontext() if start is None else keeping_columns():
            rows, codes, weight = self._encoded(X, condition, sample_weight, domain, start is None)
            if start is not None:
                start = copy_of_table(start, Split(rows), where="X")
        kind = self._condition
        halves = self.coupling is not None or self.couplings is not None
        defaults = Defaults.of(rows, self._schema, kind.dim, kind.classes, halves)
        members = self._count(defaults)
        domain = as_domain(domain, self._schema.dim)
        if domain is not None:
            DomainMap(domain).check(rows)
            if any(entry and entry[0] == "circle" for entry in domain):
                members = 1
        recipe = self._recipe(_seed(self.random_state), members, defaults)
        recipe = replace(recipe, model=replace(recipe.model, domain=domain))
        self.flow_, self.n_iter_ = fit_rows(
            rows,
            codes,
            weight,
            recipe,
            schema=self._schema,
            classes=kind.classes,
            validation_fraction=self.validation_fraction,
            members=1 if defaults.is_autoregressive else members,
            n_jobs=self.n_jobs,
            verbose=bool(self.verbose),
            init=start,
        )
        self._describe()
        return self

    def _begin(self, init: Any, domain: DomainLike) -> tuple[Flow, DomainLike]:
        """Take the columns of a model to start from; return its flow and its domain.

        Raises:
            ValueError: if it is not a model of a table, or other columns are asked for.
        """
        flow = model_of(init)
        assert flow is not None
        old = RealNVPDensity._of_flow(flow)
        mine, before, default = self._plain(), old._plain(), RealNVPDensity()._plain()
        for name in ("integers", "columns", "keep_range"):
            check_kept(name, mine[name], default[name], before[name])
        layer = flow.dequantization
        own = layer.entries if isinstance(layer, DomainMap) else None
        check_kept("domain", as_domain(domain, flow.dim), None, own)
        self.__dict__.update({k: v for k, v in vars(old).items() if k not in mine})
        return flow, own

    def _encoded(
        self, X: Any, condition: Any, sample_weight: Any, domain: DomainLike, new: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Return features, condition and weights of rows to fit; find the columns if they are new.

        Rows of weight 0 are left out.
        """
        X, condition = as_pandas(X), as_pandas(condition)
        if not new:
            X, condition = self._with_condition(X, condition)
        table = self._frame(_as_columns(X, condition), reset=new)
        weight = row_weights(sample_weight, table)
        kept = np.ones(len(table), dtype=bool) if weight is None else weight > 0
        given, count = condition, int(kept.sum())
        if condition is not None and np.ndim(condition) and len(np.asarray(condition)) == len(kept):
            frame = isinstance(condition, pd.DataFrame | pd.Series)
            given = condition[kept] if frame else np.asarray(condition)[kept]
        if new:
            self._schema = schema_of(
                table[kept], self.integers, self.columns if domain is None else "continuous",
                numbers=not self._is_frame, keep_range=self.keep_range,
            )  # fmt: skip
            self._condition = Condition.of(given, count, _name_of(condition))
        return (
            torch.as_tensor(self._schema.rows(table[kept], where="X")),
            self._condition.codes(given, count),
            None if weight is None else torch.as_tensor(weight[kept]),
        )

    def _count(self, defaults: Defaults) -> int:
        """Return the number of flows to average."""
        if self.members is None:
            return defaults.members
        several = self._schema.dim == 1 or defaults.is_autoregressive
        if self.members < 1 or (self.members > 1 and not several):
            raise ValueError(
                "members is 1, or more for one column, or for columns one after the other, got "
                f"{self.members}"
            )
        return int(self.members)

    def _recipe(self, seed: int, members: int, defaults: Defaults) -> VectorRecipe:
        """Return the recipe ``table`` with the estimator's settings."""
        found = defaults.settings(self.coupling, members)
        own = {name: getattr(self, name, None) for name in found if name != "coupling"}
        found |= {name: value for name, value in own.items() if value is not None}
        recipe = load_recipe(
            "table",
            model={
                "architecture": found["architecture"],
                "coupling": found["coupling"],
                "condition_bins": found["condition_bins"],
                "couplings": found["couplings"],
                "components": found["components"],
                "hidden": found["hidden"],
                "blocks": self.blocks,
                "dropout": found["dropout"],
                "networks": found["networks"],
                "mixture_init": found["mixture_init"],
            },
            data={"source": "table"},
            training={
                "steps": found["max_steps"],
                "batch_size": self.batch_size,
                "decay": found["decay"],
                "decay_fraction": 0.5,
                "lr": found["lr"],
                "weight_decay": found["weight_decay"],
                "smoothing": found["smoothing"],
                "patience": found["patience"],
                "accelerator": "cpu",
            },
            seed=seed,
        )
        assert isinstance(recipe, VectorRecipe)
        return recipe

    def fit_transform(
        self,
        X: ArrayLike,
        y: Any = None,
        condition: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> NDArray:
        """Fit, and return the latents of the rows; see :meth:`fit` and :meth:`transform`."""
        return self.fit(X, y, condition, sample_weight).transform(X, condition)

    # ------------------------------------------------------------------ densities

    def score_samples(self, X: ArrayLike, condition: ArrayLike | None = None) -> NDArray:
        """Return the log-density of each row, in nats.

        Args:
            X: ``(N, D)``.
            condition: condition of each row, as in :meth:`fit`.

        Returns:
            ``(N,)``; minus infinity, with a warning that names column, rows and value, where an
            integer column has a fraction, a constant or dependent column deviates from training, a
            category is unknown, or a value is missing in a column that had no gaps.
        """
        x, codes, impossible = self._rows(X, condition)
        if impossible:
            warnings.warn(
                f"some rows have a log-density of minus infinity: {impossible_text(impossible)}",
                stacklevel=2,
            )
        possible = possible_rows(impossible, len(x))
        log_p = np.full(len(x), -np.inf)
        if possible.any():
            with torch.no_grad():
                given = None if codes is None else codes[torch.as_tensor(possible)]
                log_p[possible] = _in_parts(self._log_prob, x[possible], given).numpy()
        return log_p

    def _log_prob(self, x: torch.Tensor, codes: torch.Tensor | None) -> torch.Tensor:
        # The same noise for all rows, spread evenly: a row's score does not depend on the others.
        draws = even_noise(x.shape[1], DRAWS)
        return log_likelihood(
            self.flow_, x, codes, samples=DRAWS, generator=lambda draw: draws[draw].expand_as(x)
        )

    def score(self, X: ArrayLike, y: Any = None, condition: ArrayLike | None = None) -> float:
        """Return the mean log-density of the rows, in nats; larger is better."""
        return float(self.score_samples(X, condition).mean())

    def sample(
        self,
        n_samples: int = 1,
        random_state: RandomState = None,
        condition: ArrayLike | None = None,
        *,
        given: Mapping[str, Any] | None = None,
        where: str | Sequence[str] = (),
        temperature: float = 1.0,
    ) -> NDArray:
        """Draw rows.

        Args:
            n_samples: number of rows.
            random_state: seed or generator; that of the estimator by default.
            condition: for a conditional density, one for each row, or one for all.
            given: values of columns by name, which all rows have. The others are drawn from their
                distribution given these, exactly where the values are frequent, and else by
                sampling importance resampling, see :mod:`realnvp.tables.inference`.
            where: rules that all rows satisfy, each an expression of ``pandas.DataFrame.query``,
                such as ``"age > 60 and sex == 'female'"``; other rows are drawn again.
            temperature: standard deviation of the latents; below 1, rows are likelier and less
                varied, and not draws from the density.

        Returns:
            ``(n_samples, D)``.

        Raises:
            ValueError: if almost no row satisfies the rules, or no row can have the values.
        """
        check_is_fitted(self, "flow_")
        seed = _seed(self.random_state if random_state is None else random_state)
        codes = self._condition.codes(condition, n_samples, repeat=True)
        given = {self._name(name): value for name, value in (given or {}).items()}

        def conditions(count: int) -> torch.Tensor | None:
            return None if codes is None else codes[torch.arange(count) % n_samples]

        rows = sample_table(
            self.flow_, self._schema, n_samples,
            condition=None if codes is None else conditions,
            given=given, where=[where] if isinstance(where, str) else where,
            temperature=temperature, generator=torch.Generator().manual_seed(seed),
        )[list(self._schema.names)]  # fmt: skip
        return rows if self._is_frame else rows.to_numpy(dtype=np.float64)

    def compare(
        self, real: Any, kept_aside: Any = None, random_state: RandomState = None
    ) -> RowComparison:
        """Compare as many samples as there are real rows with them.

        See :func:`realnvp.tables.comparison.compare_rows`.

        Args:
            real: DataFrame that the density was fitted to.
            kept_aside: real rows that it has not seen.
            random_state: seed or generator; that of the estimator by default.
        """
        seed = _seed(self.random_state if random_state is None else random_state)
        rows, condition = self._with_condition(real, None)
        drawn = pd.DataFrame(self.sample(len(rows), seed, condition))
        names = [str(name) for name in rows.columns if str(name) in drawn]
        others = None if kept_aside is None else as_table(as_pandas(kept_aside))[names]
        return compare_rows(as_table(rows)[names], drawn, others, seed=seed)

    # ------------------------------------------------------------------ outliers

    def calibrate(
        self, X: ArrayLike, condition: ArrayLike | None = None, learned: ArrayLike | None = None
    ) -> RealNVPDensity:
        """Fit outlier scores and p-values to rows that the density was not fitted to.

        They are saved with the model. ``realnvp train`` calibrates its models itself.

        Args:
            X: held-out rows; a random choice of 2,000 is used.
            condition: condition of each row, as in :meth:`fit`.
            learned: rows that the density was fitted to, without a condition, to which distances
                are measured, too. With them, scores find outliers that the density alone does not.

        Raises:
            ValueError: if no row is possible.
        """
        x, codes, impossible = self._rows(X, condition)
        kept = torch.as_tensor(possible_rows(impossible, len(x)))
        held_out = Split(x[kept], None if codes is None else codes[kept])
        near = None
        if learned is not None:
            rows, _, impossible = self._rows(learned, None)
            near = Split(rows[torch.as_tensor(possible_rows(impossible, len(rows)))])
        self.flow_.calibration = calibrate(self.flow_, held_out, near).as_tensors()
        return self

    def _scores(self, X: ArrayLike, condition: ArrayLike | None) -> dict[str, NDArray]:
        x, codes, impossible = self._rows(X, condition, of_table=True)
        flow, calibration = self.flow_, self.flow_.calibration
        kept = getattr(self, "_scorer", None)
        if kept is None or kept[0] is not flow or kept[1] is not calibration:
            # Its search of neighbors, and their latents, serve all calls.
            kept = self._scorer = flow, calibration, OutlierScorer(flow)
        return scores(kept[2], marked(x, impossible), codes)

    def outlier_score(self, X: ArrayLike, condition: ArrayLike | None = None) -> NDArray:
        """Return how unusual each row is, ``(N,)``, as ``realnvp score`` does.

        Without a calibration (:meth:`calibrate`), it is minus the log-likelihood.
        """
        return self._scores(X, condition)["outlier_score"]

    def p_values(self, X: ArrayLike, condition: ArrayLike | None = None) -> NDArray:
        """Return the conformal p-value of each row, ``(N,)``, small for outliers.

        It is the fraction of held-out rows, including the row itself, that are at least as unusual.

        Raises:
            ValueError: if the density has no calibration.
        """
        found = self._scores(X, condition)
        if "p_value" not in found:
            raise ValueError(
                "p-values need held-out rows: pass some that the density was not fitted to to "
                "calibrate, or use RealNVPOutlierDetector, which keeps its own"
            )
        return found["p_value"]

    def explain(self, X: ArrayLike, condition: ArrayLike | None = None) -> pd.DataFrame:
        """Return the contribution of each column to how unusual rows are, in nats.

        See :func:`realnvp.tables.scores.explained`: about 0 for an ordinary value, and infinite for
        an impossible one. It takes 130 densities per column and row.
        """
        x, codes, impossible = self._rows(X, condition, of_table=True)
        table = explained(self.flow_, x, codes, impossible)
        return table.set_axis(X.index) if isinstance(X, pd.DataFrame) else table

    # ------------------------------------------------------------------ one column, and gaps

    def category_proba(
        self,
        X: ArrayLike,
        column: str | int,
        condition: ArrayLike | None = None,
        *,
        candidates: int = 500,
        random_state: RandomState = None,
    ) -> pd.DataFrame:
        """Return the probabilities of a categorical column's values, given the other columns.

        They follow from Bayes' rule over the values, exactly except for the noise of gaps and of
        other discrete columns, averaged over 8 draws (:mod:`realnvp.tables.inference`). A value
        of another column that the model cannot have, such as an unknown category, counts as
        missing, with a warning, here and in :meth:`quantiles` and :meth:`impute`.

        Args:
            X: table; its values in the column itself are ignored.
            column: name or index of the column.
            condition: condition of each row, as in :meth:`fit`.
            candidates: number of candidates for the unknown values of a row.
            random_state: seed or generator of these; that of the estimator by default.

        Returns:
            a row for each of ``X``, with a column for each category, and one called None for a gap
            if the training rows had any.
        """
        check_is_fitted(self, "flow_")
        column = self._name(column)
        X, condition = self._with_condition(X, condition)
        frame = self._with_column(X, column)
        codes = self._condition.codes(condition, len(frame))
        seed = _seed(self.random_state if random_state is None else random_state)
        return category_proba(
            self.flow_, self._schema, frame, column, codes, candidates=candidates, seed=seed,
            where="X", tolerate=_warn,
        )  # fmt: skip

    def predict_column(
        self,
        X: ArrayLike,
        column: str | int,
        condition: ArrayLike | None = None,
        *,
        candidates: int = 500,
        random_state: RandomState = None,
    ) -> pd.Series:
        """Return a prediction of a column from the others: the likeliest category, or the median.

        Args:
            X: table; its values in the column itself are ignored.
            column: name or index of the column.
            condition: condition of each row, as in :meth:`fit`.
            candidates: as in :meth:`quantiles`.
            random_state: as in :meth:`quantiles`.
        """
        check_is_fitted(self, "flow_")
        name = self._name(column)
        options: dict[str, Any] = {"candidates": candidates, "random_state": random_state}
        if self._schema.column(name).kind != "categorical":
            return self.quantiles(X, (0.5,), name, condition, **options)[0.5].rename(name)
        proba = self.category_proba(X, name, condition, **options)
        best = proba.columns.to_numpy()[proba.to_numpy().argmax(1)]
        return pd.Series(best, index=proba.index, name=name)

    def quantiles(
        self,
        X: ArrayLike | None = None,
        q: Sequence[float] = (0.05, 0.5, 0.95),
        column: str | int | None = None,
        condition: ArrayLike | None = None,
        *,
        candidates: int = 500,
        random_state: RandomState = None,
    ) -> pd.DataFrame:
        """Return quantiles of a column of numbers or dates, given the rest of the row.

        They are computed on a grid, or from weighted candidates where other values of the row are
        unknown; see :mod:`realnvp.tables.inference`. Two of them bound a prediction interval: 0.05
        and 0.95 give one of 90 %.

        Args:
            X: table; its values in the column itself are ignored. Omit it for a density of one
                column given a condition.
            q: probabilities, in (0, 1).
            column: name or index of the column; the only one if omitted.
            condition: condition of each row, as in :meth:`fit`.
            candidates: number of candidates for each row that needs them.
            random_state: seed or generator; that of the estimator by default.

        Returns:
            a row for each of ``X``, or of ``condition``, and a column for each of ``q``.

        >>> x = np.random.default_rng(0).normal(size=(500, 1))
        >>> y = x[:, 0] + 0.1 * np.random.default_rng(1).normal(size=500)
        >>> density = RealNVPDensity(random_state=0, max_steps=200).fit(y, condition=x)
        >>> found = density.quantiles(condition=[[0.0], [1.0]])
        >>> found.shape, bool((found[0.05] < found[0.95]).all())
        ((2, 3), True)
        """
        check_is_fitted(self, "flow_")
        names = list(self._schema.names)
        if column is None:
            if len(names) != 1:
                raise ValueError(f"name the column: there are {some_of(names)}")
            column = names[0]
        column = self._name(column)
        X, condition = self._with_condition(X, condition)
        if X is None:
            if len(names) != 1 or condition is None:
                raise ValueError("X is required, except for one column given a condition")
            frame = pd.DataFrame(index=pd.RangeIndex(len(np.asarray(condition))))
        else:
            frame = self._with_column(_as_columns(X, condition), column)
        seed = _seed(self.random_state if random_state is None else random_state)
        codes = self._condition.codes(condition, len(frame))
        return quantiles(
            self.flow_, self._schema, frame, column, q, codes, candidates=candidates, seed=seed,
            where="X", tolerate=_warn,
        ).table  # fmt: skip

    def _name(self, column: str | int) -> str:
        """Return the name of a column, which may itself be a number."""
        names = [each.name for each in self._schema.columns]  # also those without a density
        if isinstance(column, str) or str(column) in names:
            return str(column)
        if not -len(names) <= column < len(names):
            raise ValueError(f"there are {len(names)} columns, got column={column}")
        return names[column]

    def _with_column(self, X: Any, column: str) -> pd.DataFrame:
        """Return a table as a DataFrame, which need not have the column in question."""
        names = self._schema.names
        if isinstance(X, pd.DataFrame) and self._is_frame:
            X = as_table(X)
            if column in names and column not in X.columns:
                X = X.assign(**{column: None})
            order = [c for c in getattr(self, "feature_names_in_", names) if c in X.columns]
            return self._frame(X[order])
        return self._frame(X).set_axis([each.name for each in self._schema.columns], axis=1)

    def impute(
        self,
        X: ArrayLike,
        condition: ArrayLike | None = None,
        *,
        candidates: int = 500,
        random_state: RandomState = None,
    ) -> tuple[pd.DataFrame, NDArray]:
        """Fill in the gaps of rows, each by a draw from its distribution given the rest of the row.

        This is sampling importance resampling, see :mod:`realnvp.tables.inference`. Several
        calls with other seeds are multiple imputation.

        Args:
            X: table with gaps, fitted as a DataFrame.
            condition: condition of each row, as in :meth:`fit`.
            candidates: number of candidates for each row.
            random_state: seed or generator; that of the estimator by default.

        Returns:
            the table with all gaps filled in, and the effective number of candidates of each row
            ``(N,)``, infinite where nothing is unknown: below about 10, the draw is unreliable. If
            it is 0, all candidates were impossible, and the row stays as it is.
        """
        check_is_fitted(self, "flow_")
        X = as_pandas(X)
        if not isinstance(X, pd.DataFrame) or not self._is_frame:
            raise ValueError("gaps are filled in DataFrames, by a density that was fitted to one")
        rows, condition = self._with_condition(X, condition)
        x = known_rows(
            self.flow_, self._schema, self._frame(rows), where="X", unknown=True, tolerate=_warn
        )
        seed = _seed(self.random_state if random_state is None else random_state)
        filled, effective = impute(
            self.flow_, self._schema, x, self._condition.codes(condition, len(x)),
            candidates=candidates, seed=seed,
        )  # fmt: skip
        own = as_table(X).set_axis(X.columns, axis=1)
        return filled_table(self._schema, own, filled), effective.numpy()

    # ------------------------------------------------------------------ latents

    def transform(self, X: ArrayLike, condition: ArrayLike | None = None) -> NDArray:
        """Return latents of the rows: ``(N, D')`` for the D' free columns, standard normal.

        Integers are taken at the middle of their cell.
        """
        x, codes, impossible = self._rows(X, condition)
        if impossible:
            raise ValueError(f"some rows have no latents: {impossible_text(impossible)}")
        with torch.no_grad():
            return _in_parts(self._encode, x, codes).numpy()

    def _encode(self, x: torch.Tensor, codes: torch.Tensor | None) -> torch.Tensor:
        return self.flow_.encode(x, codes, torch.full_like(x, 0.5) if self.flow_.noisy else None)

    def inverse_transform(self, Z: ArrayLike, condition: ArrayLike | None = None) -> NDArray:
        """Return rows from latents, the inverse of :meth:`transform`, with all columns."""
        check_is_fitted(self, "flow_")
        z = torch.as_tensor(check_array(Z, dtype=np.float64, input_name="Z"))
        if z.shape[1] != self.flow_.dim:
            raise ValueError(f"Z has {z.shape[1]} columns, but the latents have {self.flow_.dim}")
        codes = self._condition.codes(condition, len(z))
        with torch.no_grad():
            return self._table(_in_parts(self.flow_.decode, z, codes))

    @property
    def _n_features_out(self) -> int:
        return self.flow_.dim

    def _rows(
        self, X: Any, condition: ArrayLike | None, of_table: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None, list[Impossible]]:
        """Return the rows' features, the condition's codes, and the impossible values."""
        check_is_fitted(self, "flow_")
        if of_table and self.flow_.columns is None:
            raise ValueError("outliers need the density of a table, and this one is on a domain")
        X, condition = self._with_condition(X, condition)
        table, impossible = self._frame(_as_columns(X, condition)), list[Impossible]()
        x = known_rows(self.flow_, self._schema, table, where="X", tolerate=impossible.extend)
        return x, self._condition.codes(condition, len(table)), impossible

    def _with_condition(self, X: Any, condition: Any) -> tuple[Any, Any]:
        """Return a table and its condition, which may be columns of the table."""
        X, condition = as_pandas(X), as_pandas(condition)
        names = self._condition.names
        if condition is not None or not names or not isinstance(X, pd.DataFrame):
            return X, condition
        if not set(names) <= set(map(str, X.columns)):
            return X, None
        X = as_table(X)
        return X.drop(columns=names), self._condition.of_table(X, "X")

    def _frame(self, X: Any, reset: bool = False) -> pd.DataFrame:
        """Return a table as a DataFrame, checked as scikit-learn does; see ``validate_data``.

        A DataFrame may have columns of any kind. An array has numbers.
        """
        if reset:
            self._is_frame = isinstance(X, pd.DataFrame)
        if isinstance(X, pd.DataFrame) and self._is_frame:
            X = as_table(X)
            return checked_frame(self, X if reset else self._with_dropped(X), reset)
        check_no_gaps(X)
        table = validate_data(
            self, X, dtype=np.float64, reset=reset, ensure_min_samples=2 if reset else 1
        )
        names = getattr(self, "feature_names_in_", None)
        return pd.DataFrame(table, columns=names)

    def _with_dropped(self, X: pd.DataFrame) -> pd.DataFrame:
        """Return a table with gaps in place of columns that are not modeled.

        Samples do not have such columns, but can be scored.
        """
        names = list(getattr(self, "feature_names_in_", ()))
        kept = self._schema.names
        absent = [name for name in names if name not in kept and name not in X.columns]
        return X.assign(**dict.fromkeys(absent))[names] if absent and set(kept) <= set(X) else X

    def _table(self, x: torch.Tensor) -> Any:
        """Return rows in the form of the fitted ones: a DataFrame, or an array."""
        table = self._schema.decode(x.numpy())
        return table if self._is_frame else table.to_numpy(dtype=np.float64)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # everything is computed in float64
        return tags

    # ------------------------------------------------------------------ saving

    def save(self, folder: str | Path) -> None:
        """Write the model into a folder, from which :meth:`load` and the command line read it.

        ``realnvp eval FOLDER --data rows.csv`` then gives the value of :meth:`score`, for a file
        with the names of the fitted columns; for a conditional density, also with a column of the
        condition's name ("label" for classes and "condition" for numbers that have none).
        """
        check_is_fitted(self, "flow_")
        self.flow_.save_pretrained(folder)

    @classmethod
    def load(cls, folder: str | Path) -> RealNVPDensity:
        """Return the model of a table in a folder, saved by :meth:`save` or ``realnvp train``.

        Args:
            folder: what :func:`realnvp.load` takes: a folder, a run directory or an address.

        Raises:
            FileNotFoundError: if there is no saved model.
            ValueError: if it is corrupt, or not a model of a table.
        """
        return cls._of_flow(load(folder))

    @classmethod
    def _of_flow(cls, flow: Flow) -> RealNVPDensity:
        info, what = flow.trained_on, f"the model in {flow.source}" if flow.source else "the model"
        if info is None or info.table is None:
            raise ValueError(f"{what} is not one of a table: use realnvp.load")
        try:
            saved = info.estimator
            density = cls(**({} if saved is None else saved["parameters"]))
            density._schema = TableSchema.from_dict(info.table)
            density._condition, density._is_frame = Condition.of_flow(flow), True
            if saved is not None:
                density._is_frame, density.n_iter_ = saved["frame"] is True, int(saved["n_iter"])
            density.flow_ = flow
            fits = (
                density._schema.dim == flow.dim
                and isinstance(flow.dequantization, TableColumns | DomainMap)
                and density._condition.classes == flow.classes
                and (flow.classes is not None or density._condition.dim == flow.condition_dim)
            )
            if not fits:
                raise ValueError("its columns are not those of the model")
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ValueError(f"{what} is damaged: {error}") from error
        names = [column.name for column in density._schema.columns]
        density.n_features_in_ = len(names)
        if density._schema.named:
            density.feature_names_in_ = np.asarray(names, dtype=object)
        return density

    def _describe(self) -> None:
        """Write into the flow what the command line and :meth:`load` need to know."""
        condition = self._condition
        if not hasattr(self, "feature_names_in_"):
            self._schema = self._schema.without_names()
        categories = condition.categories
        self.flow_.trained_on = ModelInfo(
            DataConfig(source="table", condition=condition.name),
            columns=[feature.name for feature in self._schema.features],
            categories=None if categories is None else [str(value) for value in categories],
            table=self._schema.as_dict(),
            condition_table=None if (s := condition.schema) is None else s.as_dict(),
            estimator={
                "parameters": self._plain(),
                "frame": self._is_frame,
                "condition": condition.as_dict(),
                "n_iter": self.n_iter_,
            },
        )

    def _plain(self) -> dict[str, Any]:
        """Return the parameters as JSON."""
        parameters = self.get_params(deep=False)
        if not isinstance(self.random_state, Integral):
            parameters["random_state"] = None
        if self.columns is not None and not isinstance(self.columns, str):
            parameters["columns"] = {str(name): kind for name, kind in self.columns.items()}
        if not isinstance(self.integers, str):
            parameters["integers"] = list(self.integers)
        return parameters


def _warn(found: list[Impossible]) -> None:
    warnings.warn(missing_instead(found), stacklevel=4)


def _seed(random_state: RandomState) -> int:
    """Return a seed drawn from a random state."""
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31 - 1))
    return int(check_random_state(random_state).randint(2**31 - 1))


def _as_columns(X: Any, condition: ArrayLike | None) -> Any:
    """Return a single column of a conditional density as a table; anything else as it is."""
    if condition is None or np.ndim(X) != 1:
        return X
    return X.to_frame() if hasattr(X, "to_frame") else np.asarray(X)[:, None]


def _name_of(condition: Any) -> str | None:
    """Return the name of a pandas column, or of the single column of a frame."""
    names = list(getattr(condition, "columns", [getattr(condition, "name", None)]))
    return str(names[0]) if len(names) == 1 and names[0] is not None else None


def _in_parts(
    compute: Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor],
    x: torch.Tensor,
    codes: torch.Tensor | None,
) -> torch.Tensor:
    """Compute a function of rows in parts, so that memory does not grow with the table."""
    at_once = max(1, NUMBERS // x.shape[1])
    parts = x.split(at_once)
    conditions = [None] * len(parts) if codes is None else codes.split(at_once)
    return torch.cat([compute(*part) for part in zip(parts, conditions, strict=True)])
