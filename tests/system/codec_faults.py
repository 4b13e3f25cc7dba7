"""What goes wrong with compressed files, done on purpose and counted.

    python tests/system/codec_faults.py [--fast] [--only NAME ...] [--data FILE.npz]

Prints a line for each kind: how many were tried, and how many ended as they must. The exit status
is 1 if one did not. Images come back exactly, or an error says that they do not: nothing wrong is
ever returned. ``--data`` takes the images of a file, ``(N, H, W)``, ``(N, H, W, C)`` or
``(N, C, H, W)``, its last ``--count`` ones.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import realnvp
from realnvp.codec import compress, decompress
from realnvp.data import load_data
from realnvp.flow import Flow

Result = tuple[int, int, str]
"""How many ended as they must, of how many, and what to say about it."""

OTHER_PROCESS = """
import sys, numpy, torch, realnvp
from realnvp.codec import compress, decompress
folder, model, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
flow, images = realnvp.load(model), torch.from_numpy(numpy.load(folder + "/x.npy"))
data = open(folder + "/x.nvp", "rb").read()
assert torch.equal(decompress(flow, data), images)
open(folder + "/y.nvp", "wb").write(compress(flow, images, verify=False))
"""


def came_back(flow: Flow, images: torch.Tensor, **options: int | bool) -> int:
    """Return how many images come back from a file."""
    back = decompress(flow, compress(flow, images, **options))
    return int((back == images).flatten(1).all(1).sum())


def adversarial(flow: Flow, images: torch.Tensor, fast: bool) -> Result:
    """Images that no model expects."""
    count, top = (4 if fast else 200), flow.levels - 1
    own = images[:count]
    noise = torch.randint(0, top + 1, own.shape, generator=torch.Generator().manual_seed(0))
    kinds = [own * 0, own * 0 + top, noise.to(own.dtype), top - own, own.roll((3, 2), (2, 3))]
    mixed = torch.cat(kinds)[torch.randperm(5 * len(own), generator=torch.manual_seed(1))]
    return came_back(flow, mixed), len(mixed), "all 0, all at the top, noise, inverted, shifted"


def ends(flow: Flow, images: torch.Tensor, fast: bool) -> Result:
    """Files and blocks that end with one image, or with a whole batch."""
    cases = [(1, 8, 8), (2, 8, 8), (9, 8, 8), (17, 4, 16), (20, 1, 20)]
    cases += [] if fast else [(65, 64, 64), (128, 64, 64), (129, 64, 128), (192, 64, 192)]
    good = 0
    for count, batch, block in cases:
        own = images[:count]
        good += came_back(flow, own, batch=batch, block=block) == len(own)
    return good, len(cases), "files that end with one image, or with a whole batch or block"


def processes(flow: Flow, images: torch.Tensor, fast: bool, model: str) -> Result:
    """Files of one process read in another, with other threads."""
    own = images[: 16 if fast else 257]
    good, cases = 0, [(1, 2), (2, 1)]
    before = torch.get_num_threads()
    for here, there in cases:
        with tempfile.TemporaryDirectory() as folder:
            torch.set_num_threads(here)
            data = compress(flow, own)
            (Path(folder) / "x.nvp").write_bytes(data)
            np.save(Path(folder) / "x.npy", own.numpy())
            command = [sys.executable, "-c", OTHER_PROCESS, folder, model, str(there)]
            done = subprocess.run(command, check=False)
            same = not done.returncode and (Path(folder) / "y.nvp").read_bytes() == data
            good += same and torch.equal(decompress(flow, data), own)
    torch.set_num_threads(before)
    return good, len(cases), "files of 1 thread read by 2 in another process, and the reverse"


def damage(flow: Flow, images: torch.Tensor, fast: bool) -> Result:
    """Flipped bits and cuts."""
    own = images[:16]
    data = compress(flow, own, block=8)
    rng = np.random.default_rng(0)
    count, found = (10 if fast else 200), 0
    for i in range(count):
        content = bytearray(data)
        if i % 4 == 3:
            del content[rng.integers(len(data)) :]
        for _ in range(1 + i % 3) if i % 4 != 3 else ():
            content[rng.integers(len(data))] ^= rng.integers(1, 256)
        try:
            decompress(flow, bytes(content))
        except ValueError:
            found += 1
    return found, count, "files with flipped bytes or cut off"


def many(flow: Flow, images: torch.Tensor) -> Result:
    """All images of a file."""
    started = time.monotonic()
    good = came_back(flow, images, verify=False)
    return good, len(images), f"images came back, in {time.monotonic() - started:.0f} s"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="few of each")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some of the kinds")
    parser.add_argument("--model", default="digits")
    parser.add_argument("--data", help="more images, a .npz file")
    parser.add_argument("--count", type=int, default=1000, help="how many of them")
    args = parser.parse_args()
    flow = realnvp.load(args.model)
    if args.data:
        with np.load(args.data) as arrays:
            largest = max(arrays.files, key=lambda name: arrays[name].ndim)
            images = torch.from_numpy(arrays[largest][-args.count :])
        if images.ndim == 4 and images.shape[1:] != flow.shape:
            images = images.movedim(-1, 1)
        images = images.reshape(-1, *flow.shape).contiguous()
    else:
        images = load_data(realnvp.config.DataConfig("digits")).test.x
    failed = False
    cases = {
        "adversarial": lambda: adversarial(flow, images, args.fast),
        "ends": lambda: ends(flow, images, args.fast),
        "processes": lambda: processes(flow, images, args.fast, args.model),
        "damage": lambda: damage(flow, images, args.fast),
        "all": lambda: many(flow, images),
    }
    for name in args.only or cases:
        good, count, say = cases[name]()
        failed |= good != count
        print(f"{good:,} of {count:,} {say}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
