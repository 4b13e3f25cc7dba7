"""Densities known up to a constant: log Z, effective sample size, evaluations and time.

    python benchmarks/energies.py [TARGET ...] [--method ours|normflows|nessai] [--cache FILE]

``log Z - truth`` is the error of the logarithm of the integral, with its standard error by
importance sampling, and ESS the effective sample size of 4,096 samples of the fitted flow, a
fraction. Evaluations are all points at which the log-density was computed, those 4,096 included;
seconds are processor time of one thread. ``missed`` is the fraction of the mass that the fit itself
says it has lost.

Truths are analytic (banana, grid, funnel, mixture), by quadrature (ring, well; Rosenbrock, a chain,
by one-dimensional quadratures in turn), and for phi^4 by annealed importance sampling with
Hamiltonian Monte Carlo, which `python benchmarks/energies.py --truth` repeats.

Of the mixture, a fit has lost modes: log Z shows it, the ESS and ``missed`` do not, since no sample
was ever there.

normflows: its RealNVP of 16 affine couplings with networks of 2 x 64 units and ActNorm, from the
same broad Gaussian, ``reverse_kld`` with Adam at a rate of 1e-3, its ``beta`` raised from 0.01 to 1
in the first half, as in its examples; batches of 256, as many as we evaluated. nessai: its
importance nested sampler or standard sampler with its defaults and a uniform prior on a box that
holds the mass, whose volume is added to log Z; its number is calls of the likelihood.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

import realnvp
from common import Cache, table, write
from realnvp.utils.rng import seed_of

SAMPLES = 4096


def banana(x: Tensor) -> Tensor:
    return -x[:, 0].square() / 8 - 2 * (x[:, 1] - x[:, 0].square() / 2).square()


def ring(x: Tensor) -> Tensor:
    return -(x.norm(dim=1) - 4).square() / (2 * 0.3**2)


def _seeded_normal(seed: int, *sizes: int) -> Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(seed))


def _mixture(x: Tensor, means: Tensor, log_weights: Tensor, scale: float) -> Tensor:
    square = (x[:, None] - means.to(x)).square().sum(-1)
    return torch.logsumexp(log_weights.to(x) - square / (2 * scale**2), 1)


GRID = torch.cartesian_prod(*2 * [torch.arange(5.0) * 3 - 6])
GRID_WEIGHTS = _seeded_normal(0, 25).log_softmax(0)


def grid(x: Tensor) -> Tensor:
    """25 modes whose weights differ by a factor of up to 60, ten standard deviations apart."""
    return _mixture(x, GRID, GRID_WEIGHTS, 0.3)


def funnel(x: Tensor) -> Tensor:
    """Neal's funnel of 10 variables: standard deviations of the others are exp(x1 / 2)."""
    first, rest = x[:, 0], x[:, 1:]
    return -first.square() / 18 - rest.square().sum(1) * torch.exp(-first) / 2 - 4.5 * first


def rosenbrock(x: Tensor) -> Tensor:
    """The Rosenbrock function of 10 variables over 20."""
    before, after = x[:, :-1], x[:, 1:]
    return -(100 * (after - before.square()).square() + (1 - before).square()).sum(1) / 20


def rosenbrock_log_z(dim: int = 10, points: int = 4000) -> float:
    """Integrate over the last variable, then the one before, and so on."""
    x = np.linspace(-6, 30, points)
    step, total = x[1] - x[0], 0.0
    links = np.exp(-5 * (x[None, :] - x[:, None] ** 2) ** 2 - (1 - x[:, None]) ** 2 / 20)
    rest = math.sqrt(math.pi / 5) * np.exp(-((1 - x) ** 2) / 20)
    for _ in range(dim - 2):
        rest = links @ rest * step
        total += math.log(rest.max())
        rest /= rest.max()
    return total + math.log(rest.sum() * step)


CENTERS = 2 * _seeded_normal(1, 8, 32)
CENTER_WEIGHTS = (torch.arange(8.0) + 1).log() - math.log(36)


def mixture(x: Tensor) -> Tensor:
    """8 standard normals in 32 dimensions, with weights of 1 to 8, about 16 from each other."""
    return _mixture(x, CENTERS, CENTER_WEIGHTS, 1.0)


def well(x: Tensor) -> Tensor:
    """The double well of Boltzmann generators (arXiv 1812.01729)."""
    return -(x[:, 0] ** 4 - 6 * x[:, 0].square() - x[:, 0] / 2 + x[:, 1].square() / 2)


SITES = torch.arange(64)
EVEN_FIRST = torch.argsort((SITES // 8 + SITES % 8) % 2, stable=True)
PLACE = torch.argsort(EVEN_FIRST)


def phi4(x: Tensor) -> Tensor:
    """Lattice field theory, 8 x 8 with periodic boundary, m^2 = -4, lambda = 8 (arXiv 2101.08176).

    The variables are those of even sites, then of odd sites, which are independent given the even.
    """
    field_ = x[:, PLACE].view(-1, 8, 8)
    square = field_.square()
    neighbors = field_.roll(1, 1) + field_.roll(1, 2)
    action = -4 * square + 8 * square.square() + 4 * square - 2 * field_ * neighbors
    return -action.sum((1, 2))


def annealed(
    log_density: Callable[[Tensor], Tensor], dim: int, scale: float, chains: int, steps: int
) -> tuple[float, float]:
    """Return log Z and its standard error by annealed importance sampling (Neal, 2001)."""
    generator = torch.Generator().manual_seed(0)

    def normal() -> Tensor:
        return torch.randn(chains, dim, generator=generator, dtype=torch.float64)

    def at(x: Tensor, beta: float) -> tuple[Tensor, Tensor, Tensor]:
        x = x.detach().requires_grad_()
        start = -(x / scale).square().sum(1) / 2 - dim * math.log(scale * math.sqrt(2 * math.pi))
        change = log_density(x) - start
        value = start + beta * change
        return value.detach(), torch.autograd.grad(value.sum(), x)[0], change.detach()

    x = scale * normal()
    log_weights = torch.zeros(chains, dtype=torch.float64)
    betas = (torch.arange(steps + 1) / steps).square().tolist()
    for before, beta in itertools.pairwise(betas):
        log_weights += (beta - before) * at(x, before)[2]
        value, slope, _ = at(x, beta)
        start = momentum = normal()
        y, y_value, y_slope = x, value, slope
        for _ in range(8):
            momentum = momentum + 0.06 * y_slope
            y = y + 0.12 * momentum
            y_value, y_slope, _ = at(y, beta)
            momentum = momentum + 0.06 * y_slope
        energy = y_value - value + (start.square() - momentum.square()).sum(1) / 2
        uniform = torch.rand(chains, generator=generator, dtype=torch.float64)
        x = torch.where((energy > uniform.log())[:, None], y, x)
    ratio = float((2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)).exp()) / chains
    error = math.sqrt((1 / ratio - 1) / chains)
    return float(log_weights.logsumexp(0)) - math.log(chains), error


def _quadrature(function: Callable[[Tensor], Tensor], low: float, high: float) -> float:
    x = torch.linspace(low, high, 20_001, dtype=torch.float64)
    return math.log(torch.trapezoid(function(x), x))


@dataclass(frozen=True)
class Target:
    """A density, log of its integral, and how our flow starts: its std, and options of it."""

    log_density: Callable[[Tensor], Tensor]
    dim: int
    log_z: Callable[[], float]
    std: float
    model: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)
    box: tuple[float, float] = (-10.0, 10.0)


MIXTURES = {"couplings": 4, "hidden": 64}
AFFINE = {"coupling": "affine", "couplings": 12, "hidden": 64}
LOG_2PI = math.log(2 * math.pi)

TARGETS = {
    "banana": Target(banana, 2, lambda: LOG_2PI, 3, MIXTURES, box=(-15, 45)),
    "ring": Target(
        ring,
        2,
        lambda: LOG_2PI + _quadrature(lambda r: r * torch.exp(-((r - 4) ** 2) / 0.18), 0, 12),
        4,
        MIXTURES,
    ),
    "grid": Target(grid, 2, lambda: LOG_2PI + 2 * math.log(0.3), 5, MIXTURES, {"steps": 1000}),
    "well": Target(
        well,
        2,
        lambda: LOG_2PI / 2 + _quadrature(lambda x: torch.exp(-(x**4) + 6 * x**2 + x / 2), -5, 5),
        3,
        MIXTURES,
        box=(-6, 6),
    ),
    "funnel": Target(funnel, 10, lambda: 5 * LOG_2PI + math.log(3), 3, AFFINE),
    "rosenbrock": Target(rosenbrock, 10, rosenbrock_log_z, 2, AFFINE, {"steps": 1600}),
    "mixture": Target(mixture, 32, lambda: 16 * LOG_2PI, 2.5, MIXTURES),
    "phi4": Target(phi4, 64, lambda: 9.25, 0.4, MIXTURES | {"components": 4}, {"steps": 600}),
}


def ours(target: Target, seed: int) -> dict[str, float]:
    torch.manual_seed(seed)
    flow = realnvp.vector_flow(
        target.dim, std=torch.full((target.dim,), float(target.std)), **target.model
    )
    fit = realnvp.fit_energy(
        flow, target.log_density, samples=SAMPLES, seed=seed, quiet=True, **target.settings
    )
    return {
        "log_z": fit.log_z,
        "error": fit.log_z_error,
        "ess": fit.ess,
        "evaluations": fit.evaluations,
        "missed": fit.missed,
    }


def normflows(target: Target, seed: int, evaluations: int) -> dict[str, float]:
    import normflows as nf

    torch.manual_seed(seed)
    dim, half = target.dim, target.dim // 2
    layers: list[torch.nn.Module] = []
    for _ in range(16):
        net = nf.nets.MLP([half, 64, 64, 2 * (dim - half)], init_zeros=True)
        layers += [nf.flows.AffineCouplingBlock(net), nf.flows.Permute(dim, mode="swap")]
        layers += [nf.flows.ActNorm(dim)]
    base = nf.distributions.base.DiagGaussian(dim, trainable=False)
    base.log_scale.data.fill_(math.log(target.std))

    class Given(torch.nn.Module):
        def log_prob(self, x: Tensor) -> Tensor:
            return target.log_density(x)

    flow = nf.NormalizingFlow(base, layers, Given())
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-3)
    steps = max(1, (evaluations - SAMPLES) // 256)
    for step in range(steps):
        optimizer.zero_grad()
        loss = flow.reverse_kld(256, beta=min(1.0, 0.01 + 2 * step / steps))
        if loss.isfinite():
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        x, log_q = flow.sample(SAMPLES)
        log_weights = (target.log_density(x) - log_q).double().nan_to_num(-math.inf, -math.inf)
    log_mean = float(log_weights.logsumexp(0)) - math.log(SAMPLES)
    square = float((2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)).exp())
    ess = square / SAMPLES
    return {
        "log_z": log_mean,
        "error": math.sqrt((1 / ess - 1) / SAMPLES),
        "ess": ess,
        "evaluations": 256 * steps + SAMPLES,
    }


def nessai(target: Target, seed: int) -> dict[str, float]:
    from nessai.flowsampler import FlowSampler
    from nessai.model import Model

    low, high = target.box
    names = [f"x{i}" for i in range(target.dim)]

    class Box(Model):
        def __init__(self) -> None:
            self.names, self.bounds = names, {name: [low, high] for name in names}

        def log_prior(self, x: Any) -> Any:
            return np.log(self.in_bounds(x), dtype=float) - target.dim * math.log(high - low)

        def log_likelihood(self, x: Any) -> Any:
            points = torch.from_numpy(self.unstructured_view(x).astype(np.float64))
            return target.log_density(points).numpy()

    model = Box()
    with tempfile.TemporaryDirectory() as folder:
        sampler = FlowSampler(
            model, output=folder, seed=seed % 2**31, resume=False, plot=False, logging=False
        )
        sampler.run(plot=False, save=False)
    return {
        "log_z": float(sampler.log_evidence) + target.dim * math.log(high - low),
        "error": float(sampler.log_evidence_error),
        "evaluations": int(model.likelihood_evaluations),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", default=list(TARGETS))
    parser.add_argument("--method", nargs="*", default=["ours"])
    parser.add_argument("--cache", default="energies.jsonl")
    parser.add_argument("--truth", action="store_true", help="print log Z of phi4, by annealing")
    parser.add_argument("--write", action="store_true", help="write all results of the cache")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.truth:
        print(annealed(phi4, 64, 0.4, 2000, 1000))
        return
    cache = Cache(arguments.cache)
    for method in arguments.method:
        for name in arguments.targets:
            if (method, name) in cache or arguments.write:
                continue
            target, start = TARGETS[name], time.process_time()
            seed = seed_of(0)
            if method == "ours":
                result = ours(target, seed)
            elif method == "normflows":
                result = normflows(target, seed, int(cache["ours", name]["evaluations"]))
            else:
                result = nessai(target, seed)
            cache.add((method, name), result | {"seconds": time.process_time() - start})
            print(method, name, cache[method, name], file=sys.stderr, flush=True)
    if arguments.write:
        _write(cache)


def _write(cache: Cache) -> None:
    rows = []
    for name, target in TARGETS.items():
        for method in ("ours", "normflows", "nessai"):
            if (method, name) not in cache:
                continue
            result = cache[method, name]
            off = result["log_z"] - target.log_z()
            row = [name if method == "ours" else "", target.dim if method == "ours" else "", method]
            row += [f"{off:+.3f} ± {result['error']:.3f}"]
            row += [f"{result['ess']:.2f}" if "ess" in result else ""]
            row += [f"{result['evaluations']:,}", f"{result['seconds']:.0f}"]
            row += [f"{result['missed']:.3f}" if "missed" in result else ""]
            rows.append(row)
    columns = ["target", "D", "method", "log Z - truth", "ESS", "evaluations", "seconds", "missed"]
    note = (__doc__ or "").split("\n\n", 1)[1].replace("    python", "`python", 1)
    note = note.replace("[--cache FILE]", "[--cache FILE]`", 1)
    write("energies", "Densities known up to a constant", note.strip(), table(columns, rows))


if __name__ == "__main__":
    main()
