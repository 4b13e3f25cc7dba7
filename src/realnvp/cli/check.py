"""``realnvp check``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from realnvp.cli.options import Parser, add_count, add_data, add_model
from realnvp.cli.shared import Table, examples, read_model, tell

EPILOG = """examples:
  realnvp check runs/digits
  realnvp check runs/digits --overfit       can the architecture memorize eight examples?
"""


def main(argv: list[str]) -> int:
    """Print the errors of every layer; the exit status is 1 if a layer is wrong."""
    parser = Parser(
        "check", "Check a model layer by layer: round trip, log-determinant, latents.", EPILOG
    )
    add_model(parser)
    add_data(parser)
    add_count(parser, "--n", 64, "examples, 2 or more")
    parser.add_argument(
        "--overfit",
        action="store_true",
        help="also train new weights to memorize eight examples, for at most a minute",
    )
    args = parser.parse_args(argv)
    if args.n < 2:
        raise ValueError(f"-n must be 2 or more, got {args.n}")

    import torch

    from realnvp.diagnostics import check_latents, check_layers, overfit
    from realnvp.utils.progress import Bar

    flow = read_model(args)
    split, name = examples(flow, args)
    few = split.select(torch.arange(min(args.n, len(split))))
    x = few.x.to(flow.device)
    condition = None if few.condition is None else few.condition.to(flow.device)
    if condition is None and flow.classes is not None:
        condition = flow.classify(x)
    layers = check_layers(flow, x, condition)
    latents = check_latents(flow, x, condition)
    wrong = [layer.name for layer in layers if layer.wrong]
    rows = [
        (
            layer.name,
            layer.kind,
            f"{layer.mean:.3f}",
            f"{layer.std:.3f}",
            f"{layer.round_trip_error:.1e}",
            f"{layer.antisymmetry_error:.1e}",
            "" if layer.log_det_error is None else f"{layer.log_det_error:.1e}",
        )
        for layer in layers
    ]
    columns = ["layer", "kind", "mean", "std", "round trip", "log_det + inverse's"]
    texts: list[Any] = [
        Table(f"{args.model} on {len(few)} examples of {name}", [*columns, "vs autograd"], rows),
        Table(
            "latents: 0 and 1 if the model fits",
            ["", "mean", "std"],
            [(label, f"{mean:.3f}", f"{std:.3f}") for label, mean, std in latents],
        ),
    ]
    learned = None
    if args.overfit:
        with Bar("overfitting", visible=not args.json) as bar:
            before, after = overfit(
                flow,
                x[:8],
                None if condition is None else condition[:8],
                progress=lambda step, steps, loss: bar.update(step / steps, f"{loss:.3f}"),
            )
        learned = {"before": before, "after": after}
        count = min(8, len(few))
        texts.append(f"overfit: {count} examples from {before:.3f} to {after:.3f} {flow.unit[1]}")
    verdict = "every layer inverts, with the correct log-determinant"
    texts.append(f"wrong layers: {', '.join(wrong)}" if wrong else verdict)
    result = {
        "data": name,
        "layers": [asdict(layer) for layer in layers],
        "latents": [{"name": n, "mean": m, "std": s} for n, m, s in latents],
        "overfit": learned,
        "wrong": wrong,
    }
    return tell(args, result, *texts, status=1 if wrong else 0)
