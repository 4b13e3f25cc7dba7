"""``realnvp export``."""

from __future__ import annotations

from pathlib import Path

from realnvp.cli.options import Parser, add_model, free_path
from realnvp.cli.shared import Table, read_model, tell

EPILOG = """examples:
  realnvp export mnist                         sampler.onnx and log_prob.onnx in ./exported
  realnvp export runs/table --part log_prob    only the log-density
  realnvp export moons --format torch          .pt2 files, for torch.export.load

Each graph is compared with the model before it is written. See docs/export.md.
"""


def main(argv: list[str]) -> int:
    """Write graphs of a model that run without realnvp."""
    parser = Parser(
        "export",
        "Export a model's sampler and log-density as graphs that run without realnvp.",
        EPILOG,
    )
    add_model(parser)
    parser.add_argument(
        "--format", choices=["onnx", "torch"], default="onnx", help="format of the graphs"
    )
    parser.add_argument("--part", choices=["sampler", "log_prob"], help="export only this one")
    parser.add_argument("--out", default="exported", metavar="FOLDER", help="folder of the graphs")
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    args = parser.parse_args(argv)

    import torch

    from realnvp.interop.export import PARTS, SUFFIX, export
    from realnvp.utils.progress import Bar

    parts = list(PARTS) if args.part is None else [args.part]
    for part in parts:
        free_path(args, Path(args.out) / f"{part}{SUFFIX[args.format]}")
    flow = read_model(args, torch.device("cpu"))
    with Bar("exporting", visible=not args.json) as bar:
        graphs = export(flow, args.out, args.format, parts, bar.count)
    found = [
        {"part": g.part, "out": str(g.path), "inputs": g.inputs, "difference": g.difference}
        for g in graphs
    ]
    rows = [
        (str(g.path), ", ".join(g.inputs), f"{g.path.stat().st_size:,}", f"{g.difference:.1e}")
        for g in graphs
    ]
    shown = Table(f"graphs of {args.model}", ["file", "inputs", "bytes", "difference"], rows)
    return tell(args, {"format": args.format, "graphs": found}, shown)
