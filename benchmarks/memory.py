"""Peak memory and time of a training step against depth, for the three ways to keep memory.

A model of 64x64x3 images (Glow's couplings, 32 maps, 2 blocks), a process for each number: the
growth of its resident memory over the model and its data, and the time of a step.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import torch

from common import table, write

MODES = "standard", "checkpoint", "invertible"


def child(memory: str, couplings: int, batch: int) -> None:
    """Take two steps, and print the peak in bytes and the seconds of the second."""
    from realnvp import image_flow
    from realnvp.config import TrainingConfig
    from realnvp.training.optim import make_optimizer
    from realnvp.training.runtime import compute_dtype

    torch.manual_seed(0)
    flow = image_flow(
        (3, 64, 64), architecture="glow", scales=1, steps=couplings, hidden=32, blocks=2, norm="act"
    )
    flow.memory = memory  # type: ignore[assignment]
    flow.set_compute_dtype(compute_dtype(TrainingConfig(), flow, flow.device))
    optimizer = make_optimizer(flow, TrainingConfig())
    x = torch.randint(0, 256, (batch, 3, 64, 64)).byte()
    seconds = 0.0
    before = 0
    for step in range(2):
        start = time.perf_counter()
        optimizer.zero_grad()
        terms = flow.loss_terms(x[: 2 if step == 0 else batch])
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
        seconds = time.perf_counter() - start
        if step == 0:  # gradients and moments are there now, activations of two images only
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps([1024 * (peak - before), seconds]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--child", nargs=3)
    parser.add_argument("--batch", type=int, default=64)
    args = parser.parse_args()
    if args.child:
        child(args.child[0], int(args.child[1]), int(args.child[2]))
        return
    rows = []
    for memory in MODES:
        cells = []
        for couplings in (20, 40, 80):
            if memory == "standard" and couplings == 80:
                cells.append("")
                continue
            command = [sys.executable, __file__, "--child", memory, str(couplings), str(args.batch)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                cells.append("out of memory" if done.returncode < 0 else done.stderr[-50:])
            else:
                peak, seconds = json.loads(done.stdout)
                cells.append(f"{peak / 2**20:,.0f} MiB, {seconds:.1f} s")
            print(memory, couplings, cells[-1], file=sys.stderr, flush=True)
        rows.append([memory, *cells])
    write(
        "memory",
        f"Memory of a training step, batch {args.batch}",
        (__doc__ or "").split("\n\n", 1)[1].strip(),
        table(["memory", "20 couplings", "40 couplings", "80 couplings"], rows),
    )


if __name__ == "__main__":
    main()
