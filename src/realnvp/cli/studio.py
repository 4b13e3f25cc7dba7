"""``realnvp studio``."""

from __future__ import annotations

from pathlib import Path

from realnvp.cli.options import Parser

EPILOG = """examples:
  realnvp studio                         starts with the MNIST model; others can be chosen
  realnvp studio runs/digits             starts with a model of your own
  realnvp studio --port 8000 --no-browser

It needs Gradio: pip install '.[studio]'. Ctrl-C ends it.
"""


def main(argv: list[str]) -> int:
    """Serve the studio until Ctrl-C."""
    parser = Parser(
        "studio",
        "Open a page in the browser: samples, paths between images, scales, scores of your own\n"
        "files, 2D densities, tables, and the curves of runs.",
        EPILOG,
    )
    parser.add_argument(
        "model", metavar="MODEL", nargs="?", default="mnist", help="the first model"
    )
    parser.add_argument("--runs", default="runs", metavar="FOLDER", help="folder of runs to offer")
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on"
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="name or address of this machine by which the page may be opened, in addition to "
        "localhost, its host name and --host; repeatable",
    )
    parser.add_argument(
        "--port", type=int, metavar="N", help="port (default: a free one from 7860)"
    )
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    args = parser.parse_args(argv)

    import signal
    import threading

    from realnvp.studio.models import Library
    from realnvp.studio.server import serving

    library = Library(Path(args.runs), args.model)
    usual = signal.signal(signal.SIGTERM, _exit)  # so that the temporary folder is removed
    try:
        with serving(
            library, args.host, args.port, not args.no_browser, args.allow_host
        ) as address:
            print(f"{address}  the studio; Ctrl-C ends it", flush=True)
            threading.Event().wait()
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, usual)
    return 0


def _exit(number: int, frame: object) -> None:
    raise SystemExit(128 + number)
