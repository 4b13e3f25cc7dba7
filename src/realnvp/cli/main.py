"""The command line: one thin module per command, imported when the command is called."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from realnvp.cli.pipes import piped
from realnvp.utils.errors import Interrupted, RemoteRankError, describe, did_you_mean, is_expected

COMMANDS = {
    "train": "train a model from a recipe, on images, points or a table",
    "eval": "compute bits/dim or nats of a model, with the standard error",
    "sample": "draw samples, as a picture, an array or a table",
    "score": "compute log-likelihoods, outlier scores and p-values of examples",
    "calibrate": "fit a model's outlier scores and p-values to held-out examples",
    "columns": "show the kind of each column of a table, before training",
    "predict": "predict a column of a table from the others, with intervals or probabilities",
    "impute": "fill in the missing values of a table",
    "compress": "compress images without loss, to about their bits/dim",
    "decompress": "restore compressed images",
    "plot": "draw 2D densities: data, samples, heat maps, the bent grid",
    "interpolate": "draw a grid of images that interpolates between four",
    "levels": "draw images with the latents of their finer scales resampled",
    "check": "check a model layer by layer: inverse, log-determinant, latents",
    "report": "write an HTML report about a run, or several side by side",
    "compare": "compare runs: settings, results, curves",
    "compare-rows": "compare synthetic rows of a table with real ones",
    "studio": "open a page in the browser to explore models",
    "export": "export the sampler and the log-density, for ONNX or PyTorch",
    "push": "upload a model to the Hugging Face Hub",
    "models": "list the trained models that come with the package",
    "recipes": "list the recipes, or show one",
}
"""The commands, with what they do; each is the module of its name."""


EXAMPLES = """examples:
  realnvp train digits                     train on scikit-learn's digits, into runs/digits
  realnvp train mnist --minutes 5          train on MNIST for five minutes
  realnvp train moons                      a 2D set whose true density is known
  realnvp train images --data photos       your own folder of images
  realnvp train table --data my.csv        your own table
  realnvp eval runs/digits                 bits/dim on held-out data
  realnvp sample runs/digits               a grid of samples
  realnvp sample mnist                     samples of a model that comes with the package

realnvp COMMAND --help shows the options of a command.
"""


def _parser() -> argparse.ArgumentParser:
    commands = "\n".join(f"  {name:12} {text}" for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="realnvp",
        usage="realnvp COMMAND ... [--import MODULE] [--debug]",
        description=f"Normalizing flows with Real NVP (arXiv 1605.08803).\n\ncommands:\n{commands}",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    parser.add_argument("-h", "--help", action="help", help="show this help and exit")
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    parser.add_argument(
        "--import",
        metavar="MODULE",
        help="first import a module of your own that defines couplings, conditioners,\n"
        "architectures or builders of a recipe or model; may be repeated",
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
    signal (130 Ctrl-C, 143 SIGTERM) a training run that was saved and ended by that signal.
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
        # By default, threads that wait for others spin, and take the cores from those that work:
        # while other processes run, sampling and training then take two to eight times as long.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        command, *rest = _import_own(arguments)
        if command not in COMMANDS:
            hint = did_you_mean(command, COMMANDS)
            raise ValueError(f"unknown command {command!r}: {hint}there are {', '.join(COMMANDS)}")
        with piped(command, rest) as words:
            status = import_module(f"realnvp.cli.{command.replace('-', '_')}").main(words)
        sys.stdout.flush()  # here, where a closed pipe is still handled
        return status
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except RemoteRankError as remote_rank_error:  # the main process reports the reason
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
        from realnvp.cli.options import with_option_names

        return _fail(with_option_names(describe(error)))


def _fail(message: str, status: int = 2) -> int:
    print(f"realnvp: error: {' '.join(message.split())}", file=sys.stderr)
    return status
