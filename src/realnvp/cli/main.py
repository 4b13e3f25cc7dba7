"""The command line: one thin module per verb, imported when the verb is called."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from realnvp.utils.errors import Interrupted, RemoteRankError, describe, did_you_mean, is_expected

__all__ = ["main"]

VERBS = {
    "columns": "what the columns of a table are, before training",
    "train": "train a recipe's model on images, points or a table",
    "eval": "bits/dim or nats of a model, with its standard error",
    "score": "how likely and how strange every example is, with a p-value",
    "calibrate": "save with a model what outlier scores and p-values are made of",
    "sample": "draw samples: a picture, an array or a table",
    "impute": "fill in the gaps of a table, each by a draw given the rest of its row",
    "predict": "a column of a table given the others: probabilities or quantiles",
    "compress": "images to a file about as small as their bits/dim, lossless",
    "decompress": "the images of such a file",
    "plot": "a 2D density: data, samples, heat maps, the bent grid",
    "interpolate": "a square of images between four",
    "levels": "what each scale of an image model holds",
    "export": "graphs of the sampler and of log_prob: ONNX, or of PyTorch",
    "push": "a model to the Hugging Face Hub, with a card of its numbers and curve",
    "report": "one HTML file about a run, or several side by side",
    "compare": "runs against each other: settings, results, curves",
    "studio": "a page in the browser to play with a model",
    "check": "layer by layer: round trip, log-determinant, latents",
    "models": "list the trained models that come with the package",
    "recipes": "list the recipes, or show one",
    "cache": "list the decoded images of large folders, or remove them",
}


EXAMPLES = """examples:
  realnvp train digits                     train on the embedded digits, leave runs/digits
  realnvp train mnist --minutes 5          the same for MNIST, in five minutes
  realnvp train moons                      a 2D set whose true density is known
  realnvp train images --data photos       your own folder of images
  realnvp train table --data my.csv        your own table
  realnvp eval runs/digits                 bits/dim on held-out data
  realnvp sample runs/digits               a grid of samples
  realnvp sample mnist                     of a model that comes with the package

realnvp VERB --help shows the options of a verb.
"""


def _parser() -> argparse.ArgumentParser:
    verbs = "\n".join(f"  {verb:12} {text}" for verb, text in VERBS.items())
    parser = argparse.ArgumentParser(
        prog="realnvp",
        usage="realnvp VERB ... [--import MODULE] [--debug]",
        description=f"Normalizing flows with Real NVP (arXiv 1605.08803).\n\nverbs:\n{verbs}",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    parser.add_argument("-h", "--help", action="help", help="show this help and exit")
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    parser.add_argument(
        "--import",
        metavar="MODULE",
        help="import a module of your own first, which defines couplings, conditioners,\n"
        "architectures or builders that a recipe or a model refers to; once for each",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _import_own(arguments: Sequence[str]) -> list[str]:
    """Import the modules of ``--import``, also from the current folder; return the other arguments.

    A recipe or a saved model never imports anything: see :mod:`realnvp.utils.registry`.
    """
    rest, tokens = [], iter(arguments)
    for token in tokens:
        option, equals, name = token.partition("=")
        if option != "--import":
            rest.append(token)
            continue
        name = name if equals else next(tokens, "")
        if not name:
            raise ValueError("--import needs the name of a module")
        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        try:
            import_module(name)
        except ImportError as error:
            raise ValueError(f"--import {name}: {error}") from error
    return rest


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, and return its exit status.

    0 is success, 1 a failed check, 2 an error that the user can fix, and 128 plus the number of a
    signal (130 Ctrl-C, 143 SIGTERM) a training that the signal ended, saved.
    """
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
    if "torch" not in sys.modules:
        # Threads that wait for others spin, by default, and take the cores from those that work:
        # beside other processes, sampling and training then take two to eight times as long.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        verb, *rest = _import_own(arguments)
        if verb not in VERBS:
            hint = did_you_mean(verb, VERBS)
            raise ValueError(f"unknown verb {verb!r}: {hint}there are {', '.join(VERBS)}")
        status = import_module(f"realnvp.cli.{verb}").main(rest)
        sys.stdout.flush()  # here, where a closed pipe is still handled
        return status
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except RemoteRankError as remote_rank_error:  # the main process of several says why
        return remote_rank_error.status
    except Interrupted as interrupted:
        return _fail(str(interrupted), interrupted.status)
    except BrokenPipeError:  # the reader has seen enough, as `head` does
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 -- for what is flushed at exit
        return 0
    except Exception as error:
        # One line that helps, for what a user can do something about; a bug keeps its traceback.
        if debug or not (is_expected(error) or isinstance(error, argparse.ArgumentError)):
            raise
        if isinstance(error, ModuleNotFoundError):  # maybe of what reads the options
            return _fail(describe(error))
        from realnvp.cli.options import with_option_names

        return _fail(with_option_names(describe(error)))


def _fail(message: str, status: int = 2) -> int:
    print(f"realnvp: error: {' '.join(message.split())}", file=sys.stderr)
    return status
