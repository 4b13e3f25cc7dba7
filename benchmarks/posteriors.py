"""Posteriors of sbibm's tasks beside their reference posteriors.

The classifier two-sample test (C2ST, sbibm's own) between 2,000 samples of the posterior and of the
reference: 0.5 cannot be told apart, 1 is entirely different. Mean over sbibm's first observations;
seconds are of the processor, for training on one thread. ``PosteriorEstimator`` has its defaults.

It needs ``sbibm``, which asks for an old sbi: in an environment of its own, ``pip install --no-deps
sbibm`` and ``pip install pyro-ppl future``.

    python benchmarks/posteriors.py --simulations 10000 --observations 3 --cache posteriors.jsonl
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings

import numpy as np
import sbibm
import torch
from sbibm.metrics import c2st

from common import Cache, table, write
from realnvp import PosteriorEstimator

TASKS = (
    "two_moons", "gaussian_mixture", "gaussian_linear", "gaussian_linear_uniform", "bernoulli_glm",
    "slcp",
)  # fmt: skip


def measure(name: str, simulations: int, observations: int, seed: int) -> dict[str, object]:
    """Return the C2ST of each observation, the fraction outside of the prior, and seconds."""
    task = sbibm.get_task(name)
    prior = task.get_prior_dist()
    torch.manual_seed(seed)
    theta = prior.sample((simulations,))
    x = task.get_simulator()(theta)
    start = time.process_time()
    posterior = PosteriorEstimator(prior, seed=seed).fit(theta, x)
    seconds = time.process_time() - start
    scores, outside = [], []
    for i in range(1, observations + 1):
        generator = torch.Generator().manual_seed(1000 * seed + i)
        draws = posterior.sample(2_000, task.get_observation(i)[0], generator)
        outside.append(float((~prior.support.check(draws)).double().mean()))
        reference = task.get_reference_posterior_samples(i)[:2_000]
        scores.append(float(c2st(reference, draws.float())))
    return {"scores": scores, "outside": float(np.mean(outside)), "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", nargs="*", default=TASKS, help="names of sbibm's tasks")
    parser.add_argument("--simulations", type=int, nargs="*", default=[10_000], help="budgets")
    parser.add_argument("--observations", type=int, default=3, help="number of observations")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds")
    parser.add_argument("--cache", default="posteriors.jsonl", help="file of finished runs")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    rows, cache = [], Cache(args.cache)
    for simulations in args.simulations:
        means = []
        for name in args.tasks:
            runs = []
            for seed in range(args.seeds):
                key = (name, simulations, args.observations, seed)
                if key not in cache:
                    cache.add(key, measure(*key))
                    print(*key, cache[key], file=sys.stderr, flush=True)
                runs.append(cache[key])
            scores = np.array([run["scores"] for run in runs])
            means.append(scores.mean())
            each = ", ".join(f"{score:.3f}" for score in scores.mean(0))
            outside = np.mean([run["outside"] for run in runs])
            seconds = np.mean([run["seconds"] for run in runs])
            row = [name, f"{simulations:,}", f"{means[-1]:.3f}", each, f"{outside:.1%}"]
            rows.append([*row, f"{seconds:.0f} s"])
        rows.append(["mean of tasks", f"{simulations:,}", f"{np.mean(means):.3f}", "", "", ""])
    about = (__doc__ or "").split("\n\n", 1)[1].strip()
    columns = ["task", "simulations", "C2ST", "of each observation", "outside of the prior", "CPU"]
    write("posteriors", "Posteriors of simulators", about, table(columns, rows))


if __name__ == "__main__":
    main()
