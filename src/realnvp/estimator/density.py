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

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.stats import qmc
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    DensityMixin,
    TransformerMixin,
)
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from realnvp.config import DataConfig, TrainingConfig, VectorModel, VectorRecipe
from realnvp.data.dataset import Dataset, Split, dequantized, hold_out
from realnvp.estimator.columns import Columns, Condition, row_weights
from realnvp.evaluation import log_likelihood
from realnvp.flow import Flow
from realnvp.training.initialization import build, choose_components
from realnvp.training.launch import launch
from realnvp.training.runtime import limited_threads
from realnvp.training.trainer import Trainer
from realnvp.utils.progress import Bar

__all__ = ["RealNVPDensity", "fit_rows"]

MANY_ROWS = 2000
"""Of more, the start is a single Gaussian."""


FEW_ROWS = 20
"""Fewer are all learned from: held-out ones would say nothing."""


def fit_rows(
    split: Split,
    settings: RealNVPDensity,
    integers: Sequence[int],
    classes: int | None,
    seed: int,
) -> tuple[Flow, int]:
    """Train on most rows to learn for how long, then on all.

    Args:
        split: the rows, with their conditions and weights.
        settings: the estimator, which is only read.
        integers: numbers of the columns of whole numbers.
        classes: how many, if the condition is one of them.
        seed: of everything random.

    Returns:
        the flow, and the steps it was trained for.
    """

    def dataset(learn: Split, check: Split) -> Dataset:
        shape = tuple(split.x.shape[1:])
        return Dataset(
            "table", learn, check, None, shape, classes=classes, integers=tuple(integers)
        )

    def train(data: Dataset, recipe: VectorRecipe) -> Trainer:
        with launch("cpu", local=True) as team:
            trainer = Trainer.from_recipe(recipe, data, team)
            bar = Bar("fitting", visible=bool(settings.verbose))
            with limited_threads(trainer.flow, settings.batch_size), bar:
                trainer.fit(bar)
        return trainer

    mixture_init = settings.mixture_init
    if mixture_init is None and len(split) > MANY_ROWS:
        mixture_init = 1
    elif mixture_init is None:
        mixture_init = choose_components(dequantized(split.x, integers, seed), split.weight, seed)
    steps = settings.max_steps
    if len(split) >= FEW_ROWS and settings.validation_fraction:
        learn, check = hold_out(len(split), settings.validation_fraction, seed=seed)
        recipe = _recipe(settings, len(split), mixture_init, steps, True, seed)
        trial = train(dataset(split.select(learn), split.select(check)), recipe)
        trial.best_flow()  # raises if no validation was finite
        steps = trial.best_step
    everything = dataset(split, split)
    recipe = _recipe(settings, len(split), mixture_init, max(steps, 1), False, seed)
    if steps == 0:  # the start is the best there is
        return build(recipe, everything), 0
    return train(everything, recipe).best_flow(), steps


def _recipe(
    settings: RealNVPDensity, rows: int, mixture_init: int, steps: int, validate: bool, seed: int
) -> VectorRecipe:
    # 0 for up to a thousand rows, 1 for ten thousand and more.
    many = min(1.0, max(0.0, math.log10(rows / 1000)))
    model = VectorModel(
        coupling=settings.coupling,
        couplings=settings.couplings,
        components=settings.components,
        hidden=settings.hidden,
        blocks=settings.blocks,
        norm="none",
        mixture_init=mixture_init,
    )
    decay, smoothing = settings.weight_decay, settings.smoothing
    training = TrainingConfig(
        steps=steps,
        batch_size=settings.batch_size,
        optimizer="adamw",
        lr=0.002 * 5**many if settings.lr is None else settings.lr,
        decay="constant",  # so that the first steps of a longer training are the same
        weight_decay=0.03**many if decay is None else decay,
        smoothing=0.1 ** (1 + 2 * many) if smoothing is None else smoothing,
        warmup=20,
        ema=1 - 0.02 * 0.15**many,
        validation_share=1.0,
        num_validations=round(100 - 50 * many) if validate else 1,
        patience=settings.patience if validate else None,
        accelerator="cpu",
    )
    return VectorRecipe(model, DataConfig(source="table"), training, seed=seed)


DRAWS = 16
"""Noise draws of a log-density with whole numbers."""


NUMBERS = 2**17
"""Of a table, so many are computed at once."""


class RealNVPDensity(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, DensityMixin, BaseEstimator
):
    r"""Density of a table's rows by a normalizing flow, after arXiv 1605.08803.

    .. math:: \log p(x) = \log \mathcal N(f(x); 0, I) + \log |\det J_f(x)|

    The flow starts as the mixture of Gaussians that fits the data, and couplings learn what is
    left; it is trained until the likelihood of held-out rows no longer improves, and then anew on
    all rows for as long. Like :class:`~sklearn.mixture.GaussianMixture` it is a density to fit,
    score and sample; and it is a transformer, whose latents are independent standard normals.

    Columns of whole numbers are dequantized: their density is then a probability, which cannot grow
    without bound. Constant columns have no density: they are left out, and given back exactly; a
    row that differs in one has the log-density minus infinity.

    Args:
        coupling: "gaussian_mixture" models one half of the columns as a Gaussian mixture given the
            other; "affine" is the paper's.
        couplings: number of coupling layers.
        components: Gaussians of a mixture.
        hidden: units of the conditioners' layers.
        blocks: residual blocks of each conditioner.
        mixture_init: number of Gaussians that the flow starts as the mixture of. None chooses it by
            cross-validation, of up to 2,000 rows; with more, couplings learn all that is not one.
        max_steps: optimizer steps; fewer where early stopping ends the training.
        batch_size: rows per step.
        lr: learning rate of AdamW. None, here and below: chosen by the number of rows, since few
            need more restraint than many.
        weight_decay: of the conditioners' weights.
        smoothing: deviation of the noise that is added to every batch, in deviations of the
            Gaussians that it starts as, against learning few rows by heart.
        validation_fraction: of the rows, held out for early stopping; the best model is kept.
        patience: end after so many validations without a better one; there are 100 over all
            steps, and 50 with many rows.
        integers: columns of whole numbers: "auto" finds them and warns, "none", or their numbers or
            names.
        random_state: seed, generator or None.
        verbose: whether progress is shown.

    Attributes:
        flow_: the :class:`realnvp.Flow` of the columns that vary, standardized, in float64.
        n_iter_: optimizer steps of the kept model's training.
        n_features_in_, feature_names_in_: as in scikit-learn.
    """

    def __init__(
        self,
        *,
        coupling: str = "gaussian_mixture",
        couplings: int = 4,
        components: int = 8,
        hidden: int = 32,
        blocks: int = 1,
        mixture_init: int | None = None,
        max_steps: int = 2000,
        batch_size: int = 256,
        lr: float | None = None,
        weight_decay: float | None = None,
        smoothing: float | None = None,
        validation_fraction: float = 0.15,
        patience: int = 10,
        integers: str | Sequence[int] | Sequence[str] = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
    ) -> None:
        self.coupling = coupling
        self.couplings = couplings
        self.components = components
        self.hidden = hidden
        self.blocks = blocks
        self.mixture_init = mixture_init
        self.max_steps = max_steps
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.smoothing = smoothing
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.integers = integers
        self.random_state = random_state
        self.verbose = verbose

    # ------------------------------------------------------------------ fitting

    def fit(
        self,
        X: ArrayLike,
        y: Any = None,
        condition: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> RealNVPDensity:
        """Fit the density of the rows, given the condition if there is one.

        Args:
            X: ``(N, D)`` numbers, at least two rows and two columns that vary.
            y: ignored.
            condition: what the density is conditioned on: ``(N,)`` classes (names or whole
                numbers), or ``(N,)`` or ``(N, K)`` real numbers.
            sample_weight: ``(N,)``, how much each row counts; 0 leaves it out.

        Raises:
            ValueError: for what no density can be fitted to.
        """
        table: NDArray = validate_data(
            self, X, dtype=np.float64, ensure_min_samples=2, ensure_min_features=2
        )
        if not 0 <= self.validation_fraction < 1:
            raise ValueError(f"validation_fraction is in [0, 1), got {self.validation_fraction}")
        weight = row_weights(sample_weight, table)
        kept = np.ones(len(table), dtype=bool) if weight is None else weight > 0
        names = getattr(self, "feature_names_in_", None)
        self._columns = Columns.of(table[kept], self.integers, names)
        given = None if condition is None else np.asarray(condition)
        if given is not None and len(given) == len(kept):
            given = given[kept]
        self._condition = Condition.of(given, int(kept.sum()))
        rows = self._columns.rows(table[kept]).float()
        codes = self._condition.codes(given, len(rows))
        split = Split(
            rows,
            codes.float() if codes is not None and codes.ndim == 2 else codes,
            weight=None if weight is None else torch.as_tensor(weight[kept]).float(),
        )
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        columns, classes = self._columns.integers, self._condition.classes
        with _own_torch():
            flow, self.n_iter_ = fit_rows(split, self, columns, classes, seed)
            self.flow_: Flow = flow.double().eval()
        return self

    # ------------------------------------------------------------------ densities

    def score_samples(self, X: ArrayLike, condition: ArrayLike | None = None) -> NDArray:
        """Log-density of each row, in nats.

        Args:
            X: ``(N, D)``.
            condition: as in :meth:`fit`.

        Returns:
            ``(N,)``; minus infinity where a constant column has another value, or a column of
            whole numbers a fraction.
        """
        table, codes = self._check(X, condition)
        possible = self._columns.possible(table)
        log_p = np.full(len(table), -np.inf)
        if possible.any():
            x = self._columns.rows(table[possible])
            with torch.no_grad(), _own_torch():
                given = None if codes is None else codes[possible]
                found = _in_parts(self._log_prob, x, given)
                log_p[possible] = found.numpy() + self._columns.log_det
        return log_p

    def _log_prob(self, x: torch.Tensor, codes: torch.Tensor | None) -> torch.Tensor:
        # The same noise for all rows, spread evenly: a row's score does not depend on the others.
        draws = torch.as_tensor(qmc.Sobol(x.shape[1], seed=0).random(DRAWS))
        return log_likelihood(
            self.flow_, x, codes, samples=DRAWS, generator=lambda draw: draws[draw].expand_as(x)
        )

    def score(self, X: ArrayLike, y: Any = None, condition: ArrayLike | None = None) -> float:
        """Mean log-density of the rows, in nats; of :class:`GridSearchCV`, larger is better."""
        return float(self.score_samples(X, condition).mean())

    def sample(
        self,
        n_samples: int = 1,
        random_state: int | np.random.RandomState | None = None,
        condition: ArrayLike | None = None,
    ) -> NDArray:
        """Draw rows.

        Args:
            n_samples: how many.
            random_state: seed or generator; that of the estimator if left out.
            condition: of a conditional density, one for each row, or one for all.

        Returns:
            ``(n_samples, D)``.
        """
        check_is_fitted(self, "flow_")
        state = check_random_state(self.random_state if random_state is None else random_state)
        codes = self._condition.codes(condition, n_samples, repeat=True)
        generator = torch.Generator().manual_seed(int(state.randint(2**31 - 1)))
        with _own_torch():
            x = self.flow_.sample(n_samples, condition=codes, generator=generator)
        return self._columns.table(x)

    # ------------------------------------------------------------------ latents

    def transform(self, X: ArrayLike, condition: ArrayLike | None = None) -> NDArray:
        """Latents of the rows: ``(N, D')`` for the D' columns that vary, standard normal.

        Whole numbers are taken at the middle of their cell.
        """
        table, codes = self._check(X, condition)
        if not self._columns.possible(table).all():
            row = int(np.argmin(self._columns.possible(table)))
            raise ValueError(
                f"row {row} has no latent: a constant column has another value, or a column of "
                f"whole numbers a fraction"
            )
        x = self._columns.rows(table)
        with torch.no_grad(), _own_torch():
            return _in_parts(self._encode, x, codes).numpy()

    def _encode(self, x: torch.Tensor, codes: torch.Tensor | None) -> torch.Tensor:
        return self.flow_.encode(x, codes, torch.full_like(x, 0.5) if self.flow_.noisy else None)

    def inverse_transform(self, Z: ArrayLike, condition: ArrayLike | None = None) -> NDArray:
        """Rows from latents, the inverse of :meth:`transform`, constant columns included."""
        check_is_fitted(self, "flow_")
        z = torch.as_tensor(np.asarray(Z, dtype=np.float64))
        codes = self._condition.codes(condition, len(z))
        with torch.no_grad(), _own_torch():
            return self._columns.table(_in_parts(self.flow_.decode, z, codes))

    @property
    def _n_features_out(self) -> int:
        return self.flow_.dim

    def _check(
        self, X: ArrayLike, condition: ArrayLike | None
    ) -> tuple[NDArray, torch.Tensor | None]:
        check_is_fitted(self, "flow_")
        table: NDArray = validate_data(self, X, dtype=np.float64, reset=False)
        return table, self._condition.codes(condition, len(table))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # everything is computed in float64
        return tags


def _in_parts(
    compute: Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor],
    x: torch.Tensor,
    codes: torch.Tensor | None,
) -> torch.Tensor:
    """Compute so many rows at once that memory does not grow with the table."""
    at_once = max(1, NUMBERS // x.shape[1])
    parts = x.split(at_once)
    conditions = [None] * len(parts) if codes is None else codes.split(at_once)
    return torch.cat([compute(*part) for part in zip(parts, conditions, strict=True)])


@contextmanager
def _own_torch() -> Iterator[None]:
    """Leave PyTorch's random numbers and threads as they were."""
    threads = torch.get_num_threads()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            torch.set_num_threads(threads)
