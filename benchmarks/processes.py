"""Two processes of one thread beside one process of two threads, and what processes send.

The first table needs two quiet cores. The second counts the bytes that cross the loopback device,
so it needs a Linux machine on which nothing else talks to itself; `unshare --net` makes one.

    python benchmarks/processes.py --speed
    unshare --net sh -c 'ip link set lo up && python benchmarks/processes.py --traffic'
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import table, write

MODELS = 16, 48
"""Feature maps of two models: what grows with the parameters is the difference."""


def speed(recipe: str, steps: int, data: str | None) -> list[str]:
    """Return the images per second of a recipe by 2 x 1 and by 1 x 2 processes and threads."""
    rates = []
    for devices, threads in ((2, 1), (1, 2)):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "realnvp", "train", recipe, "--steps", str(steps)]
            command += ["--devices", str(devices), "--out", f"{folder}/run", "--no-report"]
            command += ["--quiet", "--training.num_validations", "1", "--training.calibration", "0"]
            command += ["--data", data] if data else []
            environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
            subprocess.run(command, check=True, env=environment)
            lines = Path(folder, "run/metrics.jsonl").read_text().splitlines()
        records = [r for r in map(json.loads, lines) if r["kind"] == "train"]
        found = sorted(record["examples_per_s"] for record in records[1:])
        rates.append(found[len(found) // 2])
    return [recipe, *(f"{rate:.0f}" for rate in rates), f"{rates[0] / rates[1]:.2f}"]


def loopback() -> int:
    """Return the bytes that this network namespace has sent to itself."""
    (line,) = [x for x in Path("/proc/net/dev").read_text().splitlines() if "lo:" in x]
    return int(line.split("lo:")[1].split()[0])


def child(steps: int) -> None:
    """Train every model as one of several processes, and print what that sent."""
    import torch

    from realnvp.config import DataConfig, ImageModel, ImageRecipe, TrainingConfig
    from realnvp.data import load_data
    from realnvp.training.trainer import Trainer

    torch.set_num_threads(1)
    found = []
    for hidden in MODELS:
        recipe = ImageRecipe(
            ImageModel(scales=1, hidden=hidden, blocks=2, norm="act", conditioner_norm="none"),
            DataConfig("digits"),
            TrainingConfig(steps=10**6, batch_size=16, precision="float32"),
        )
        trainer = Trainer.from_recipe(recipe, load_data(recipe.data))
        count = sum(p.numel() for p in trainer.flow.parameters())
        for _ in range(2):
            trainer.train_step(1e-4)
        torch.distributed.barrier()
        before = loopback()
        for _ in range(steps):
            trainer.train_step(1e-4)
        torch.distributed.barrier()
        found.append([count, (loopback() - before) / steps])
    if trainer.processes.main:
        print("RESULT", json.dumps(found), flush=True)


def processes(count: int, steps: int) -> list[list]:
    """Run children that belong together, and return what the first one prints."""
    workers = []
    for rank in range(count):
        environment = {
            **os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count),
            "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511",
            "TORCHELASTIC_RUN_ID": "benchmark", "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        command = [sys.executable, __file__, "--child", str(steps)]
        workers.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        )
    outputs = [worker.communicate()[0] for worker in workers]
    line = next(x for x in outputs[0].splitlines() if x.startswith("RESULT "))
    return json.loads(line.removeprefix("RESULT "))


def traffic(counts: list[int], steps: int) -> str:
    """Return the bytes that all processes send, per parameter and step, beside the formula.

    The formula is that of an all-reduce in a ring, of 4 bytes each: 8 (N - 1) for N processes.
    """
    lines = []
    for count in counts:
        (few, small), (many, large) = processes(count, steps)
        each = (large - small) / (many - few)
        beside = f"{(small - each * few) / 1e3:.0f}"
        lines.append([count, 8 * (count - 1), f"{each:.2f}", beside])
        print(lines[-1], file=sys.stderr, flush=True)
    columns = ["processes", "bytes per parameter: formula", "measured", "KB beside"]
    return table(columns, lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--child", type=int)
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--traffic", action="store_true")
    parser.add_argument("--recipe", default="mnist")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--data", help="file of the recipe's data; default: where that set is")
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 3, 4])
    args = parser.parse_args()
    if args.child:
        child(args.child)
        return
    start = time.monotonic()
    parts = []
    if args.speed:
        row = speed(args.recipe, args.steps, args.data)
        columns = ["recipe", "images/s, 2 processes x 1 thread", "1 process x 2 threads", "ratio"]
        parts.append(table(columns, [row]))
    if args.traffic:
        parts.append(traffic(args.processes, 5))
    write("processes", "Several processes", (__doc__ or "").split("\n\n", 1)[0], *parts)
    print(f"{time.monotonic() - start:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
