"""``realnvp eval``."""

from __future__ import annotations

import math
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from realnvp.cli.options import Parser, add_data, add_draws, add_model, add_processes
from realnvp.cli.shared import (
    Table,
    examples,
    likelihood_rows,
    read_model,
    start,
    tell,
    true_log_density,
    warning_once,
)
from realnvp.config import given_text

if TYPE_CHECKING:
    from realnvp.data import Split
    from realnvp.evaluation import RoundTrip
    from realnvp.flow import Flow
    from realnvp.training.launch import Processes

EPILOG = """examples:
  realnvp eval runs/digits
  realnvp eval runs/digits --samples 64      a tighter bound, by 64 draws of the noise
  realnvp eval runs/mnist --data mnist       the test set of MNIST
  realnvp eval runs/moons --json
  realnvp eval runs/cifar10 --devices 8      the same numbers, shared by eight
"""


def main(argv: list[str]) -> int:
    """Evaluate a model on held-out data."""
    parser = Parser(
        "eval", "Compute bits/dim of images, or nats of vectors, with the standard error.", EPILOG
    )
    add_model(parser)
    add_data(parser)
    add_processes(parser)
    add_draws(parser)
    args = parser.parse_args(argv)
    with start(args) as processes:
        with processes.sync_errors():
            flow = read_model(args, processes.device)
        measured = _evaluate(args, flow, processes)
        if processes.main:
            _report(args, *measured)
    return 0


def _evaluate(
    args: Any, flow: Flow, processes: Processes
) -> tuple[dict[str, Any], RoundTrip, str, str]:
    """Return the likelihood, the round trip, and what is measured: the data, and what is given."""
    import torch

    from realnvp.evaluation import class_log_likelihoods, evaluate, round_trip
    from realnvp.utils.progress import Bar

    split, name = processes.rank_zero_first(partial(examples, flow, args, warning_once()))
    impossible = 0
    if flow.columns is not None:
        possible = ~flow.columns.marks(split.x).any(1)
        impossible = int((~possible).sum())
        if impossible == len(split):
            raise ValueError(f"all {impossible:,} rows of {name} have a likelihood of 0")
        split = split.select(possible.nonzero()[:, 0]) if impossible else split
    visible = not args.json and processes.main
    shared: dict[str, Any] = {"batch_size": args.batch_size, "seed": args.seed, "shared": True}
    joint, log_p = None, None
    if flow.classes is not None and split.labels is not None:
        with Bar("evaluating every class", visible=visible) as bar:
            joint = class_log_likelihoods(flow, split, progress=bar.count, **shared)
        marginal = joint.logsumexp(1) - math.log(flow.classes)
        if args.samples == 1:  # as many draws of the noise as there
            classes = split.condition
            log_p = marginal if classes is None else joint.gather(1, classes.cpu()[:, None])[:, 0]
    with Bar("evaluating", visible=visible and log_p is None) as bar:
        likelihood = evaluate(
            flow,
            split,
            samples=args.samples,
            true_log_density=true_log_density(flow, args),
            progress=bar.count,
            log_p=log_p,
            **shared,
        )
    few = split.select(torch.arange(min(1000, len(split))))
    back = round_trip(flow, few, **shared)
    result = likelihood.as_dict()
    if impossible:
        result["impossible"] = impossible
    if flow.made_with:
        result["made_with"] = flow.made_with
    if joint is not None and split.labels is not None:
        result["accuracy"] = (joint.argmax(1) == split.labels.cpu()).double().mean().item()
        if log_p is not None:
            name_of = "nats" if flow.levels is None else "bits_per_dim"
            result[f"{name_of}_without_labels"] = -marginal.mean().item() * flow.unit[0]
    return result, back, name, _given(flow, split)


def _given(flow: Flow, split: Split) -> str:
    """Return what the density of a split is given, in words."""
    from realnvp.pretrained import data_settings

    if split.condition is None:
        return "" if flow.classes is None else " without labels"
    config = data_settings(flow)
    return given_text(None if config is None else config.condition) or " given the condition"


def _report(args: Any, result: dict[str, Any], back: RoundTrip, name: str, given: str) -> None:
    rows = likelihood_rows(result, given)
    if "impossible" in result:
        rows.append(("left out, with a likelihood of 0", f"{result['impossible']:,}"))
    exact = f"{back.values - back.wrong_values:,} of {back.values:,} values exact"
    rows.append(("round trip", f"{exact}, float error {back.float_error:.1e}"))
    for key, unit in (("bits_per_dim", "bits/dim"), ("nats", "log-density in nats")):
        if f"{key}_without_labels" in result:
            rows.append((f"{unit} without labels", f"{result[f'{key}_without_labels']:.4f}"))
    if "accuracy" in result:
        rows.append(("accuracy, by Bayes' rule", f"{result['accuracy']:.2%}"))
    if made := result.get("made_with"):
        facts = [f"{key} {made[key]}" for key in ("realnvp", "torch") if made.get(key)]
        facts += [made[key] for key in ("machine", "date") if made.get(key)]
        rows.append(("made with", ", ".join(facts)))
    result = {**result, "data": name, "round_trip": asdict(back)}
    tell(args, result, Table(f"{args.model} on {name}", ["", "value"], rows))
