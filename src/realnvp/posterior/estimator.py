r"""Posteriors of simulators, learned from simulations (neural posterior estimation).

Parameters :math:`\theta` are drawn from a prior, and a simulator turns each into data :math:`x`. A
conditional flow that maximizes :math:`\sum_i \log q(\theta_i \mid x_i)` becomes the posterior
:math:`p(\theta \mid x) \propto p(\theta)\, p(x \mid \theta)` for every :math:`x` (arXiv
1605.06376). The prior's support is the domain of the flow, so that no sample is outside of it.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from realnvp.bijections import Chain, EmbeddedCondition
from realnvp.bijections.domains import DomainMap, as_domain
from realnvp.config import TrainingConfig, VectorModel, VectorRecipe
from realnvp.estimator import RealNVPDensity
from realnvp.flow import CONDITION_UNITS, Flow
from realnvp.posterior.priors import Prior, as_prior, prior_from_json, prior_to_json
from realnvp.pretrained import load
from realnvp.training.train import fit
from realnvp.utils.errors import some_of
from realnvp.utils.files import write_atomically
from realnvp.utils.rng import seeded
from realnvp.utils.serialization import parse_json, seal, unseal

__all__ = ["PosteriorEstimator"]

NOTES = "posterior.json"
"""File beside a saved flow with the shape of the data, and the prior."""

TRUNCATED = 1e-4
"""Mass of a posterior that is outside of the region which the next round's prior is cut to."""

REGION_DRAWS = 10_000
"""Samples of a posterior from which that region is computed."""

MOST_DRAWS = 1_000
"""Largest number of draws of the prior for each one that is inside the region."""

EMBEDDING = "embedding.safetensors"
"""File beside a saved flow with the weights of the network that embeds data."""

EMBEDDED = {
    "hidden": 64, "steps": 6_000, "batch_size": 256, "optimizer": "adamw", "lr": 2e-3,
    "weight_decay": 0.01, "ema": 0.99, "num_validations": 60, "patience": 10,
    "validation_share": 1.0, "accelerator": "cpu",
}  # fmt: skip
"""Settings of a flow that is trained together with an embedding."""


class Simulations:
    """What estimators of posteriors and of likelihoods share: the prior and the checks of input.

    Args:
        prior: distribution of the parameters, or ``(low, high)``.
        missing: "raise" or "drop".
        settings: settings of :class:`~realnvp.estimator.RealNVPDensity`.
        seed: seed of training.
        progress: whether progress is shown.
    """

    x_shape_: tuple[int, ...]

    def __init__(
        self,
        prior: Prior | None = None,
        *,
        missing: str = "raise",
        settings: Mapping[str, Any] | None = None,
        seed: int = 0,
        progress: bool = False,
    ) -> None:
        if missing not in ("raise", "drop"):
            raise ValueError(f'missing is "raise" or "drop", got {missing!r}')
        self.prior = None if prior is None else as_prior(prior)
        self.missing, self.settings = missing, dict(settings or {})
        self.seed, self.progress = seed, progress

    def _checked(self, theta: ArrayLike, x: ArrayLike) -> tuple[Tensor, Tensor, Any]:
        """Return parameters and data of valid simulations, and the prior's domain."""
        parameters, data = rows_of(theta), rows_of(x)
        if len(parameters) != len(data):
            raise ValueError(
                f"theta has {len(parameters):,} rows and x has {len(data):,}: pass one simulation "
                "for each"
            )
        if parameters.ndim != 2:
            raise ValueError(f"theta has the shape (N, D), got {tuple(parameters.shape)}")
        wrong = (~parameters.isfinite().all(1)).nonzero()[:, 0].tolist()
        if wrong:
            raise ValueError(
                f"theta has NaN or infinite values in {len(wrong):,} of {len(parameters):,} rows, "
                f"at the indices {some_of(list(map(str, wrong)))}"
            )
        kept = self._finite(data)
        parameters, data = parameters[kept], data[kept]
        if self.prior is not None and self.prior.event_shape != parameters.shape[1:]:
            raise ValueError(
                f"theta has {parameters.shape[1]} parameters, but the prior has "
                f"{self.prior.event_shape.numel()}"
            )
        support = None if self.prior is None else self.prior.support
        domain = as_domain(support, parameters.shape[1])
        if domain is not None:
            _check_support(parameters, domain)
        self.x_shape_ = tuple(data.shape[1:])
        return parameters, data, domain

    def _finite(self, data: Tensor) -> Tensor:
        """Return the indices of simulations whose data are finite."""
        finite = data.flatten(1).isfinite().all(1)
        failed = (~finite).nonzero()[:, 0].tolist()
        if failed and (self.missing == "raise" or len(failed) == len(data)):
            raise ValueError(
                f"x has NaN or infinite values in {len(failed):,} of {len(data):,} simulations "
                f"({len(failed) / len(data):.1%}), at the indices {some_of(list(map(str, failed)))}"
                ': mend the simulator, or leave them out with missing="drop"'
            )
        return finite.nonzero()[:, 0]

    def _observations(self, x: ArrayLike) -> tuple[Tensor, tuple[int, ...]]:
        """Return flat observations ``(B, K)``, and ``(B,)``, or ``()`` if there is one."""
        if not hasattr(self, "x_shape_"):
            raise ValueError("nothing has been learned yet: call fit first")
        data = torch.as_tensor(x, dtype=torch.float64)
        shape = self.x_shape_
        if data.ndim == 0 or (data.ndim == 1 and shape == (1,)):
            data = data[..., None] if data.numel() > 1 or data.ndim == 0 else data
        batch = tuple(data.shape[: data.ndim - len(shape)])
        if tuple(data.shape[len(batch) :]) != shape or len(batch) > 1:
            raise ValueError(f"x has the shape {shape} or (B, *{shape}), got {tuple(data.shape)}")
        return data.reshape(-1, torch.Size(shape).numel()), batch

    def _write_notes(self, folder: str | Path) -> None:
        """Write what is saved beside a flow; warn if the prior is not."""
        prior = None if self.prior is None else prior_to_json(self.prior)
        if self.prior is not None and prior is None:
            warnings.warn(
                f"the prior, {type(self.prior).__name__}, is no distribution that can be saved: "
                "pass it again to load",
                stacklevel=3,
            )
        notes = json.dumps({"x_shape": list(self.x_shape_), "prior": prior}).encode()
        write_atomically(Path(folder) / NOTES, notes)

    def _read_notes(self, folder: str | Path) -> None:
        """Set the shape of the data, and the prior unless there is one."""
        path = Path(folder) / NOTES
        try:
            notes = parse_json(path.read_bytes())
            self.x_shape_ = tuple(map(int, notes["x_shape"]))
            if self.prior is None and notes.get("prior") is not None:
                self.prior = prior_from_json(notes["prior"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is corrupt: {error}") from error


class PosteriorEstimator(Simulations):
    r"""The posterior of a simulator's parameters given its data.

    Args:
        prior: distribution of the parameters, or their lower and upper bounds, ``(low, high)``, for
            a uniform one. Its support is the domain of the posterior. None is all real numbers;
            then there are no rounds.
        embedding: network from data ``(B, ...)`` to features ``(B, K)``, trained with the flow.
        missing: "raise" refuses simulations with NaN or infinite data, "drop" leaves them out. What
            is then learned is the posterior given that the simulation did not fail.
        settings: settings of :class:`~realnvp.estimator.RealNVPDensity`, such as ``max_steps``;
            with an embedding, fields of :class:`~realnvp.config.VectorModel` and
            :class:`~realnvp.config.TrainingConfig`.
        seed: seed of training, and of the simulations of :meth:`fit_rounds`.
        progress: whether progress is shown while training.

    Attributes:
        flow_: density of the parameters given flat data, a :class:`realnvp.Flow` in float64.
        x_shape_: shape of the data of one simulation.

    >>> prior = torch.distributions.Uniform(torch.zeros(2), torch.ones(2))
    >>> theta = prior.sample((300,))
    >>> x = theta + 0.1 * torch.randn(300, 2)
    >>> posterior = PosteriorEstimator(prior, settings={"max_steps": 50}).fit(theta, x)
    >>> posterior.sample(5, x[0]).shape, posterior.log_prob(theta[:5], x[0]).shape
    (torch.Size([5, 2]), torch.Size([5]))
    """

    flow_: Flow

    def __init__(
        self,
        prior: Prior | None = None,
        *,
        embedding: nn.Module | None = None,
        missing: str = "raise",
        settings: Mapping[str, Any] | None = None,
        seed: int = 0,
        progress: bool = False,
    ) -> None:
        super().__init__(prior, missing=missing, settings=settings, seed=seed, progress=progress)
        self.embedding = embedding

    def fit(self, theta: ArrayLike, x: ArrayLike) -> PosteriorEstimator:
        """Learn the posterior from simulations.

        Args:
            theta: ``(N, D)`` parameters, drawn from the prior; ``(N,)`` if there is only one.
            x: ``(N, ...)`` data of their simulations, of any shape.

        Raises:
            ValueError: if they do not fit each other or the prior, or data are not finite.
        """
        parameters, data, domain = self._checked(theta, x)
        if self.embedding is not None:
            self.flow_ = self._fit_embedded(
                copy.deepcopy(self.embedding).float(), parameters, data, domain
            )
            return self
        density = RealNVPDensity(
            **{"columns": "continuous", "random_state": self.seed, **self.settings},
            verbose=self.progress,
        ).fit(parameters.numpy(), condition=data.flatten(1).numpy(), domain=domain)
        if density.flow_.dim != parameters.shape[1]:
            raise ValueError(
                "a parameter is constant, or a function of others, so it has no density: leave it "
                "out of theta"
            )
        self.flow_ = density.flow_.requires_grad_(False)
        return self

    def _fit_embedded(self, network: nn.Module, theta: Tensor, data: Tensor, domain: Any) -> Flow:
        """Train a flow together with the network that embeds its condition."""
        rows = theta if domain is None else DomainMap(domain)(theta)[0]
        with seeded(self.seed), torch.no_grad():
            features = network(data[:2].float())  # also gives lazy layers their sizes
        chosen = {**EMBEDDED, **self.settings}
        names = {field.name for field in fields(VectorModel)}
        model = VectorModel(**{name: chosen.pop(name) for name in names & set(chosen)})
        model.domain = domain
        with seeded(self.seed):
            flow = VectorRecipe(model=model).build(
                theta.shape[1], condition_dim=features.shape[1], mean=rows.mean(0), std=rows.std(0)
            )
        self._config = flow.config
        whole = _embedded(flow, network, self.x_shape_)
        result = fit(
            whole, theta.float(), condition=data.flatten(1).float(), validation=0.15,
            training=TrainingConfig(**chosen), seed=self.seed, quiet=not self.progress,
        )  # fmt: skip
        return result.flow.double().requires_grad_(False)

    def fit_rounds(
        self,
        simulator: Callable[[Tensor], ArrayLike],
        x_observed: ArrayLike,
        rounds: int = 5,
        simulations: int = 1_000,
    ) -> PosteriorEstimator:
        """Learn the posterior of one observation in rounds (TSNPE, arXiv 2210.04815).

        Each round simulates parameters that are drawn from the prior, cut to the region where the
        posterior of the round before has all but 1e-4 of its mass. No weights are needed: within
        that region, all rounds together are proportional to the prior. The result is the posterior
        of this observation only.

        Args:
            simulator: maps parameters ``(N, D)`` to data ``(N, ...)``.
            x_observed: the observation.
            rounds: number of rounds.
            simulations: number of simulations of each round.

        Raises:
            ValueError: if there is no prior.
        """
        if self.prior is None:
            raise ValueError("rounds draw parameters from the prior: pass one")
        thetas, xs = [], []
        for number in range(rounds):
            with seeded(self.seed + number):
                theta = self._truncated(simulations, x_observed if number else None)
                thetas.append(theta)
                xs.append(rows_of(simulator(theta.float())))
            self.fit(torch.cat(thetas), torch.cat(xs))
        return self

    def _truncated(self, n: int, x_observed: ArrayLike | None) -> Tensor:
        """Draw parameters from the prior within the region of the posterior."""
        assert self.prior is not None
        if x_observed is None:
            return rows_of(self.prior.sample((n,)))
        _, inside = self.sample_and_log_prob(REGION_DRAWS, x_observed)
        least = inside.quantile(TRUNCATED)
        kept: list[Tensor] = []
        for _ in range(MOST_DRAWS):
            draws = rows_of(self.prior.sample((max(n, REGION_DRAWS),)))
            kept.append(draws[self.log_prob(draws, x_observed) >= least])
            if sum(map(len, kept)) >= n:
                return torch.cat(kept)[:n]
        raise ValueError(
            "the posterior is so narrow that draws of the prior do not reach it: simulate fewer "
            "rounds, or choose a narrower prior"
        )

    # ------------------------------------------------------------------ the posterior

    def sample(self, n: int, x: ArrayLike, generator: torch.Generator | None = None) -> Tensor:
        """Draw parameters from the posterior.

        Args:
            n: number of samples for each observation.
            x: one observation, of the shape of one simulation's data, or ``(B, ...)`` of them.
            generator: source of the samples; PyTorch's global one by default.

        Returns:
            ``(n, D)``, or ``(B, n, D)``, float64.
        """
        return self.sample_and_log_prob(n, x, generator)[0]

    @torch.no_grad()
    def sample_and_log_prob(
        self, n: int, x: ArrayLike, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw parameters, and return them with their log-densities ``(n,)`` or ``(B, n)``."""
        data, shape = self._observations(x)
        condition = data.repeat_interleave(n, 0)
        theta, log_prob = self.flow_.sample_and_log_prob(
            len(condition), condition, generator=generator
        )
        return theta.reshape(*shape, n, -1), log_prob.reshape(*shape, n)

    def log_prob(self, theta: ArrayLike, x: ArrayLike) -> Tensor:
        """Return the log-density of parameters, minus infinity outside of the prior's support.

        Args:
            theta: ``(N, D)``.
            x: one observation for all, or ``(N, ...)``, one for each.

        Returns:
            ``(N,)`` in nats, with gradients with respect to ``theta``.
        """
        parameters = rows_of(theta)
        data, shape = self._observations(x)
        if shape and len(data) != len(parameters):
            raise ValueError(f"theta has {len(parameters)} rows, and x has {len(data)}")
        return self.flow_.log_prob(parameters, data.expand(len(parameters), -1))

    def map(self, x: ArrayLike, draws: int = 1_000, steps: int = 200) -> Tensor:
        """Return the parameters of highest density, ``(D,)``: the largest one that is reached.

        The likeliest of ``draws`` samples are improved by gradient ascent on their latents.

        Args:
            x: one observation.
            draws: number of samples.
            steps: number of steps.
        """
        data, _ = self._observations(x)
        start, log_prob = self.sample_and_log_prob(draws, x, torch.Generator().manual_seed(0))
        best = log_prob.reshape(-1).topk(min(10, draws)).indices
        condition = data.expand(len(best), -1)
        z = self.flow_.encode(start.reshape(draws, -1)[best], condition).detach().requires_grad_()
        optimizer = torch.optim.Adam([z], lr=0.02)
        largest, mode = -torch.inf, start.reshape(draws, -1)[best[0]]
        for _ in range(steps):
            theta, log_prob = self.flow_.push_forward(z, condition)
            if log_prob.max() > largest:
                largest, mode = log_prob.max().item(), theta[log_prob.argmax()].detach()
            optimizer.zero_grad()
            (-log_prob.sum()).backward()
            optimizer.step()
        return mode

    # ------------------------------------------------------------------ saving

    def save(self, folder: str | Path) -> None:
        """Write the posterior into a folder: safetensors and JSON.

        The prior is saved if it is a pair of bounds, or one of PyTorch's common distributions.
        """
        if not hasattr(self, "flow_"):
            raise ValueError("nothing has been learned yet: call fit first")
        flow = self.flow_
        if self.embedding is not None:
            flow, layer = _without_embedding(flow, self._config)
            tensors = {k: t.contiguous() for k, t in layer.network.state_dict().items()}
            units = {name: getattr(self.flow_, name) for name in CONDITION_UNITS}
            content = seal({**tensors, **units}, {})
            write_atomically(Path(folder) / EMBEDDING, content)
        flow.save_pretrained(folder)
        self._write_notes(folder)

    @classmethod
    def load(
        cls, folder: str | Path, prior: Prior | None = None, embedding: nn.Module | None = None
    ) -> PosteriorEstimator:
        """Return the posterior that was saved in a folder.

        Args:
            folder: the folder.
            prior: the prior, if it could not be saved; only more rounds need it.
            embedding: a network like the one that it was fitted with, which gets its weights.

        Raises:
            FileNotFoundError: if there is no saved posterior.
            ValueError: if its files are corrupt.
        """
        posterior = cls(prior, embedding=embedding)
        flow = load(folder)
        posterior._read_notes(folder)
        if (Path(folder) / EMBEDDING).exists() != (embedding is not None):
            raise ValueError("pass embedding, exactly if the posterior was fitted with one")
        if embedding is not None:
            posterior._config = flow.config
            tensors, _ = unseal((Path(folder) / EMBEDDING).read_bytes())
            units = {name: tensors.pop(name) for name in CONDITION_UNITS}
            embedding.load_state_dict(tensors)
            flow = _embedded(flow, embedding, posterior.x_shape_).eval().double()
            for name, unit in units.items():
                getattr(flow, name).copy_(unit)
        posterior.flow_ = flow.requires_grad_(False)
        if torch.Size(posterior.x_shape_).numel() != posterior.flow_.condition_dim:
            raise ValueError(f"{Path(folder) / NOTES} is corrupt: it is that of another model")
        return posterior


def _embedded(flow: Flow, network: nn.Module, shape: tuple[int, ...]) -> Flow:
    """Return a flow whose condition is embedded by a network, with the same layers."""
    layers = list(flow.bijection)  # type: ignore[call-overload]
    first = 1 if isinstance(layers[0], DomainMap) else 0
    inner = EmbeddedCondition(network, shape, Chain(*layers[first:]))
    size = torch.Size(shape).numel()
    return Flow(Chain(*layers[:first], inner), flow.shape, condition_dim=size)


def _without_embedding(flow: Flow, config: Any) -> tuple[Flow, EmbeddedCondition]:
    """Return the inverse of :func:`_embedded`: the flow that its builder made, and the layer."""
    *first, layer = list(flow.bijection)  # type: ignore[call-overload]
    size = config["arguments"]["condition_dim"]
    return Flow(Chain(*first, *layer.inner), flow.shape, condition_dim=size, config=config), layer


def rows_of(values: ArrayLike) -> Tensor:
    """Return rows in float64; numbers ``(N,)`` as ``(N, 1)``."""
    rows = torch.as_tensor(values, dtype=torch.float64)
    return rows[:, None] if rows.ndim == 1 else rows


def _check_support(theta: Tensor, domain: list[Any]) -> None:
    """Raise ValueError unless parameters are in the prior's support."""
    outside = (~DomainMap(domain).possible(theta)).nonzero()
    if len(outside):
        row, column = outside[0].tolist()
        count = len(outside[:, 0].unique())
        raise ValueError(
            f"theta has {count:,} of {len(theta):,} rows outside of the prior's support, the first "
            f"at index {row}: parameter {column} is {theta[row, column].item():.6g}, and its "
            f"support is {tuple(domain[column] or ('real',))}"
        )
