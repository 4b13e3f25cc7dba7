"""``realnvp check``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from realnvp.cli.options import Parser, add_count, add_data, add_json, add_model
from realnvp.cli.shared import examples, print_json, print_table, read_model

if TYPE_CHECKING:
    import torch

    from realnvp.diagnostics import LayerReport
    from realnvp.flow import Flow

__all__ = []

EPILOG = """examples:
  realnvp check runs/digits
  realnvp check runs/digits --overfit       can the architecture memorize eight examples?
"""


def main(argv: list[str]) -> int:
    """Print the errors of every layer; the exit status is 1 if a layer is wrong."""
    args = _parser().parse_args(argv)
    if args.n < 2:
        raise ValueError(f"-n must be 2 or more, got {args.n}")

    import torch

    from realnvp.diagnostics import check_latents, check_layers

    flow = read_model(args)
    split, name = examples(flow, args)
    few = split.select(torch.arange(min(args.n, len(split))))
    x = few.x.to(flow.device)
    condition = None if few.condition is None else few.condition.to(flow.device)
    if condition is None and flow.classes is not None:
        condition = flow.classify(x)
    layers = check_layers(flow, x, condition)
    latents = check_latents(flow, x, condition)
    learned = None
    if args.overfit:
        learned = _overfit(flow, x[:8], None if condition is None else condition[:8], args.json)
    wrong = [layer.name for layer in layers if layer.wrong]
    if args.json:
        print_json(
            {
                "data": name,
                "layers": [asdict(layer) for layer in layers],
                "latents": [{"name": n, "mean": m, "std": s} for n, m, s in latents],
                "overfit": None if learned is None else {"before": learned[0], "after": learned[1]},
                "wrong": wrong,
            }
        )
        return 1 if wrong else 0
    _print_layers(f"{args.model} on {len(few)} examples of {name}", layers)
    print_table(
        "latents: 0 and 1 if the model fits",
        ["", "mean", "std"],
        ((label, f"{mean:.3f}", f"{std:.3f}") for label, mean, std in latents),
    )
    if learned is not None:
        print(
            f"overfit: {min(8, len(few))} examples from {learned[0]:.3f} to {learned[1]:.3f} "
            f"{flow.unit[1]}"
        )
    print(
        f"wrong layers: {', '.join(wrong)}"
        if wrong
        else "every layer inverts, with the correct log-determinant"
    )
    return 1 if wrong else 0


def _parser() -> Parser:
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
    add_json(parser)
    return parser


def _print_layers(title: str, layers: list[LayerReport]) -> None:
    columns = ["layer", "kind", "mean", "std"]
    columns += ["round trip", "log_det + inverse's", "log_det vs autograd"]
    rows = (
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
    )
    print_table(title, columns, rows)


def _overfit(
    flow: Flow, x: torch.Tensor, condition: torch.Tensor | None, quiet: bool
) -> tuple[float, float]:
    from realnvp.diagnostics import overfit
    from realnvp.utils.progress import Bar

    with Bar("overfitting", visible=not quiet) as bar:
        return overfit(
            flow,
            x,
            condition,
            progress=lambda step, steps, loss: bar.update(step / steps, f"{loss:.3f}"),
        )
