"""``realnvp report``."""

from __future__ import annotations

from realnvp.cli.options import Parser, add_out, output_path
from realnvp.cli.shared import tell

EPILOG = """examples:
  realnvp report runs/mnist                               report.html about one run
  realnvp report runs/mnist runs/mnist-paper --out both.html   side by side

Training writes RUN/report.html by itself. The file needs no network and no other file.
"""


def main(argv: list[str]) -> int:
    """Write one HTML file about runs."""
    parser = Parser(
        "report",
        "Write one self-contained HTML file: results with standard errors, curves, samples during\n"
        "training, latents and calibration, the hardest and easiest held-out examples, settings.",
        EPILOG,
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="run directories")
    add_out(parser, "report.html", "the page to write")
    args = parser.parse_args(argv)
    path = output_path(args, ".html")

    from realnvp.reports.report import write_report
    from realnvp.reports.run import Run
    from realnvp.utils.progress import Bar

    runs = [Run.open(folder) for folder in args.runs]
    with Bar("report", visible=not args.json) as bar:
        write_report(runs, path, bar=bar)
    size = path.stat().st_size
    result = {"out": str(path), "runs": [str(run.folder) for run in runs], "bytes": size}
    return tell(args, result, f"{path}  {size / 1e6:.1f} MB, opens in any browser")
