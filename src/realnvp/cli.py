"""The command line: one thin function per verb, each importing what it needs when it is called."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

__all__ = ["main"]

VERBS = {
    "train": "train a recipe's model on images, points or a table",
    "eval": "bits/dim or nats of a model, with its standard error",
    "sample": "draw samples: a picture, an array or a table",
    "interpolate": "a square of images between four",
    "levels": "what each scale of an image model holds",
    "check": "layer by layer: round trip, log-determinant, latents",
    "recipes": "list the recipes, or show one",
}

EXAMPLES = """examples:
  realnvp train digits                     train on the embedded digits, leave runs/digits
  realnvp train mnist --minutes 5          the same for MNIST, in five minutes
  realnvp train moons                      a 2D set whose true density is known
  realnvp train image-small --data photos  your own folder of images
  realnvp train table --data my.csv        your own table
  realnvp eval runs/digits                 bits/dim on held-out data
  realnvp sample runs/digits               a grid of samples

realnvp VERB --help tells more of each.
"""


def _parser() -> argparse.ArgumentParser:
    verbs = "\n".join(f"  {verb:12} {text}" for verb, text in VERBS.items())
    parser = argparse.ArgumentParser(
        prog="realnvp",
        usage="realnvp VERB ... [--debug]",
        description=f"Normalizing flows with Real NVP (arXiv 1605.08803).\n\nverbs:\n{verbs}",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    parser.add_argument("-h", "--help", action="help", help="show this help and exit")
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 2 for bad input, 130 when interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [token for token in arguments if token != "--debug"]
    if not arguments or arguments[0] in ("-h", "--help"):
        _parser().print_help()
        return 0
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(f"realnvp {version('realnvp')}")
        return 0
    verb, *rest = arguments
    try:
        if verb not in VERBS:
            raise ValueError(f"unknown verb {verb!r}: there are {', '.join(VERBS)}")
        return import_module(f"realnvp.commands.{verb}").main(rest)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except Exception as error:
        if debug:
            raise
        return _report(error)


def _report(error: Exception) -> int:
    """One line that helps, for what a user can do something about; a bug keeps its traceback."""
    if type(error).__name__ == "Interrupted":
        return _fail(str(error), 130)
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return _fail(f"{error.strerror}{where}")
    if isinstance(error, ValueError | OSError | FloatingPointError | argparse.ArgumentError):
        return _fail(str(error))
    if isinstance(error, RuntimeError) and "out of memory" in str(error):
        return _fail("out of memory: lower --training.batch_size or the model's size")
    raise error


def _fail(message: str, status: int = 2) -> int:
    print(f"realnvp: error: {' '.join(message.split())}", file=sys.stderr)
    return status
