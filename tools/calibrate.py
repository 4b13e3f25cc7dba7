"""Calibrate shipped models: python tools/calibrate.py NAME[=SOURCE] [...]

Computes the statistics of held-out examples of each model's own data, which outlier scores and
p-values need, and writes them into src/realnvp/weights beside the weights, which stay as they are.
SOURCE is a file or a folder of the data, if they cannot be read by name.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import realnvp
from realnvp import pretrained
from realnvp.data import load_part
from realnvp.outliers import calibrate
from realnvp.outliers.calibration import chosen
from realnvp.utils.progress import Bar
from ship import FOLDER, put


def calibrated(name: str, source: str | None, most: int) -> realnvp.Flow:
    """Return a shipped model with a calibration by the held-out part of its data."""
    flow = realnvp.load(name)
    config = flow.trained_on.data
    if source:
        config = replace(config, source=source)
    _, held_out = load_part(config, "validation")
    learned = None if flow.levels is not None else load_part(config, "train")[1]
    if learned is not None:
        learned = learned.select(chosen(len(learned), most, 0))
    with Bar(f"calibrating {name}") as bar:
        found = calibrate(
            flow, held_out, learned, most=most, progress=lambda done, all_: bar.update(done / all_)
        )
    flow.calibration = found.as_tensors()
    return flow


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", metavar="NAME[=SOURCE]")
    parser.add_argument("--examples", type=int, default=1_000, help="held-out examples, at most")
    args = parser.parse_args()
    sources = dict(pair.partition("=")[::2] for pair in args.models)
    for path in sorted(FOLDER.glob("*.safetensors")):
        models = {}
        for name, (entry, _) in pretrained.unpack(path.read_bytes()).items():
            if name in sources:
                flow = calibrated(name, sources[name] or None, args.examples)
                print(f"{name}: {len(next(iter(flow.calibration.values())))} examples")
                models[name] = (flow, entry["card"])
        if models:
            put(path, models)


if __name__ == "__main__":
    main()
