"""Mutated files of every format that is read, and what their readers make of them.

    python tests/system/fuzz.py [--count N] [--only KIND ...] [--seed N]

A reader may accept a mutated file, or refuse it with an error that the command line reports in one
line. It may not raise anything else, hang, or take more memory than a small file is worth. Files
are read in processes of their own, with a limit on memory and on processor time, and each is a
function of its kind and seed: ``--only KIND --seed N --count 1`` repeats a failure.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers.data_files import GREY, LABELS, RGB, TABLE, idx_bytes
from realnvp.builders import vector_flow
from realnvp.config import DataConfig
from realnvp.data import load_data
from realnvp.estimator import RealNVPDensity
from realnvp.model_info import ModelInfo
from realnvp.pretrained import load
from realnvp.recipes import load_recipe
from realnvp.utils import serialization
from realnvp.utils.errors import describe, is_expected
from realnvp.utils.settings import to_dict

SECONDS = 10
"""Processor time that a file may take."""


GROWTH = 400 * 2**20
"""Bytes by which a file may raise the peak memory."""


LONGEST = 4_000
"""Characters of an error's line: names of up to ten files, and what is wrong with each."""


@dataclass(frozen=True)
class Kind:
    """A format of files.

    Args:
        make: writes valid files into a folder, and returns those that are mutated in turn.
        read: reads what is in the folder, given the mutated file.
        words: pieces that mutations insert, beside random bytes.
        finish: mends a mutated content, such as its checksum, so that readers look further.
        tree: the functions that read and write a tree of values, for formats that hold one.
    """

    make: Callable[[Path], list[Path]]
    read: Callable[[Path], Any]
    words: tuple[bytes, ...] = ()
    finish: Callable[[Path, bytes], bytes] | None = None
    tree: tuple[Callable[[bytes], Any], Callable[[Any], str]] | None = None


NUMBERS = tuple(
    (2**bits + more).to_bytes(size, order, signed=False)
    for size in (2, 4, 8)
    for bits in range(7, 8 * size, 8)
    for more in (-1, 0)
    for order in ("little", "big")
)
TEXT = (
    b"nan", b"1e999", b"-1", b"0", b"9" * 30, b"9" * 5000, b"\xff\xfe", b"\0", b"\n", b",", b'"',
    b"'", b"[", b"]", b"{", b"}", b"null", b"true", b": ", b"- ", b"&a ", b"*a", b"<<: ", b"#",
    b"!!python/x ", b"? ", b"2020-01-01", b"0x7f", b"\t", b"[" * 2000, b"{a: " * 500, b"inf",
    b"1.5", b"\xc3\xa9", b"()",
)  # fmt: skip
VALUES = (
    None, True, False, -1, 0, 1, 3, 2**31, 2**70, -0.5, 1e308, float("nan"), "", "ab", "../..",
    "x" * 5000, [], [1, 2], ["a"], [[]], {}, {"a": 1}, ["a", 1, None],
)  # fmt: skip


def mutate(content: bytes, chance: random.Random, words: tuple[bytes, ...]) -> bytes:
    """Return the content with one to six changes, half of them near its start."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        end = len(data) if chance.random() < 0.5 else min(len(data), 128)
        at = chance.randrange(end + 1)
        kind = chance.randrange(8)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            data[at : at + 1] = bytes([chance.choice((0, 1, 127, 128, 255, chance.randrange(256)))])
        elif kind == 2 and chance.random() < 0.3:
            del data[at:]
        elif kind == 3:
            del data[at : at + chance.choice((1, 2, 4, 16, 256))]
        elif kind == 4:
            data[at:at] = data[at : at + chance.choice((1, 4, 64, 1024))]
        elif kind == 5:
            data[at:at] = chance.randbytes(chance.choice((1, 2, 4, 100)))
        else:
            word = chance.choice(words)
            data[at : at + (len(word) if kind == 6 else 0)] = word
    return bytes(data)


def mutate_tree(tree: Any, chance: random.Random) -> Any:
    """Return JSON with one node replaced, removed, or under another name."""
    nodes: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        for key in value if isinstance(value, dict) else range(len(value)):
            nodes.append((value, key))
            if isinstance(value[key], dict | list):
                walk(value[key])

    walk(tree)
    parent, key = chance.choice(nodes)
    kind = chance.randrange(8)
    if kind == 0:
        del parent[key]
    elif kind == 1 and isinstance(parent, dict):
        parent[chance.choice(("", "x", "source", "kind", "seed"))] = parent.pop(key)
    elif kind == 2:
        other, name = chance.choice(nodes)
        parent[key] = json.loads(json.dumps(other.get(name) if isinstance(other, dict) else 3))
    else:
        parent[key] = chance.choice(VALUES)
    return tree


# ---------------------------------------------------------------------- data


def _load(path: Path) -> None:
    load_data(DataConfig(str(path), validation=0.2)).fingerprint  # noqa: B018 -- it reads all


def _load_labelled(path: Path) -> None:
    load_data(DataConfig(str(path), validation=0.2, condition="label"))


def _npz(folder: Path) -> list[Path]:
    arrays = {"x": GREY, "y": LABELS, "x_test": RGB[..., 0], "y_test": LABELS}
    np.savez(folder / "a.npz", **arrays)
    np.savez_compressed(folder / "b.npz", **arrays)
    np.savez(folder / "c.npz", data=TABLE, names=np.array(["a", "b"]))
    return sorted(folder.iterdir())


def _npy(folder: Path) -> list[Path]:
    for name, array in (("a", GREY), ("b", RGB), ("c", TABLE), ("d", np.asfortranarray(TABLE))):
        np.save(folder / f"{name}.npy", array)
    return sorted(folder.iterdir())


def _idx(folder: Path) -> list[Path]:
    images, labels = idx_bytes(GREY), idx_bytes(LABELS.astype("u1"))
    for name, content in (("images-idx3", images), ("labels-idx1", labels)):
        (folder / f"train-{name}-ubyte").write_bytes(content)
        (folder / f"t10k-{name}-ubyte.gz").write_bytes(gzip.compress(content))
    return sorted(folder.iterdir())


def _csv(folder: Path) -> list[Path]:
    rows = [f"{a:.3f},{b:.5g},{i % 5},{'xy'[i % 2]}" for i, (a, b, _) in enumerate(TABLE)]
    text = "\n".join(["a,b,n,label", *rows]).encode()
    (folder / "a.csv").write_bytes(text)
    (folder / "b.csv.gz").write_bytes(gzip.compress(text))
    (folder / "c.tsv").write_bytes(text.replace(b",", b"\t"))
    return sorted(folder.iterdir())


def _parquet(folder: Path) -> list[Path]:
    import pandas as pd

    frame = pd.DataFrame(TABLE, columns=["a", "b", "c"])
    frame.to_parquet(folder / "a.parquet")
    frame.assign(label=list("xyz") * 4, n=range(12)).to_parquet(folder / "b.parquet")
    return sorted(folder.iterdir())


def _images(folder: Path) -> list[Path]:
    from PIL import Image

    for suffix in ("png", "jpg", "bmp", "webp", "gif"):
        Image.fromarray(RGB[0]).save(folder / f"c.{suffix}")
    Image.fromarray(GREY[0]).save(folder / "a.png")
    Image.fromarray(RGB[1]).convert("P").save(folder / "p.png", transparency=3)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB[2].transpose(1, 0, 2)).save(folder / "e.jpg", exif=exif)
    return sorted(folder.iterdir())


def _read_images(path: Path) -> None:
    _load(path.parent)


# ---------------------------------------------------------------------- recipes and models


def _read_recipe(path: Path) -> None:
    with torch.device("meta"):
        recipe = load_recipe(str(path))
        shape: Any = (1, 8, 8) if recipe.kind == "image" else 2
        recipe.build(shape)


def _yaml(folder: Path) -> list[Path]:
    for kind in ("digits", "moons"):
        recipe = to_dict(load_recipe(kind))
        (folder / f"{kind}.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    return sorted(folder.iterdir())


def _model(folder: Path) -> list[Path]:
    flow = vector_flow(2, couplings=2, hidden=4, classes=3)
    flow.trained_on = ModelInfo(
        DataConfig("./my.csv"), columns=["a", "b"], categories=["x", "y", "z"],
        fingerprint={"train": "ab"},
    )  # fmt: skip
    flow.save_pretrained(folder)
    return [folder / "config.json"]


def _weights(folder: Path) -> list[Path]:
    _model(folder)
    return [folder / "model.safetensors"]


def _density(folder: Path) -> list[Path]:
    table = np.column_stack([TABLE, LABELS, np.ones(12)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of constant and integer columns
        density = RealNVPDensity(couplings=1, hidden=4, blocks=0, max_steps=1, random_state=0)
        density.fit(table, condition=np.array(["a", "b"] * 6)).save(folder)
    return [folder / "config.json"]


def _read_density(path: Path) -> None:
    density = RealNVPDensity.load(path.parent)
    table = np.column_stack([TABLE, LABELS, np.ones(12)])
    density.score_samples(table, condition=np.array(["a", "b"] * 6))
    density.sample(2, condition=["a", "b"], random_state=0)


def _read_model(path: Path) -> None:
    flow = load(path.parent)
    flow.sample(2, condition=torch.tensor([0, 1]))
    json.dumps(flow.settings())


def _belongs(path: Path, config: bytes) -> bytes:
    """Let the weights say that they belong to a mutated config.json."""
    weights = path.parent / "model.safetensors"
    tensors, _ = serialization.unseal(weights.read_bytes())
    sha256 = hashlib.sha256(config).hexdigest()
    weights.write_bytes(serialization.seal(tensors, {"config_sha256": sha256}))
    return config


def _sealed(path: Path, content: bytes) -> bytes:
    """Make the checksum right."""
    found = serialization._CHECKSUM.search(content)
    if found is None:
        return content
    digest = serialization._digest(content, found.start(1)).encode()
    return content[: found.start(1)] + digest + content[found.end(1) :]


def _checkpoint(folder: Path) -> list[Path]:
    state = {"now": {"x": torch.randn(3, 4), "step": 3, "betas": (0.9, 0.999)}, "good": None}
    (folder / "c.safetensors").write_bytes(serialization.to_bytes(state))
    return [folder / "c.safetensors"]


def _read_checkpoint(path: Path) -> None:
    serialization.from_bytes(path.read_bytes())


BINARY, BOTH = NUMBERS, NUMBERS + TEXT
KINDS = {
    "npz": Kind(_npz, _load, BOTH),
    "npy": Kind(_npy, _load, BOTH),
    "idx": Kind(_idx, _load, BINARY),
    "idx folder": Kind(_idx, lambda path: _load_labelled(path.parent), BINARY),
    "csv": Kind(_csv, _load_labelled, TEXT),
    "parquet": Kind(_parquet, _load, BINARY),
    "images": Kind(_images, _read_images, BINARY),
    "yaml": Kind(_yaml, _read_recipe, TEXT, tree=(yaml.safe_load, yaml.safe_dump)),
    "config.json": Kind(_model, _read_model, TEXT, _belongs, (json.loads, json.dumps)),
    "density": Kind(_density, _read_density, TEXT, _belongs, (json.loads, json.dumps)),
    "safetensors": Kind(_weights, _read_model, BOTH, _sealed),
    "checkpoints": Kind(_checkpoint, _read_checkpoint, BOTH, _sealed),
}


# ---------------------------------------------------------------------- trying them


def attempt(kind: Kind, files: list[Path], seed: int) -> str | None:
    """Read one mutated file; returns what is wrong with how that went, None if nothing is."""
    chance = random.Random(seed)
    path = files[seed % len(files)]
    whole = {file: file.read_bytes() for file in path.parent.iterdir()}
    if kind.tree is not None and chance.random() < 0.5:
        read, write = kind.tree
        content = write(mutate_tree(read(whole[path]), chance)).encode()
    else:
        content = mutate(whole[path], chance, kind.words)
    if kind.finish is not None and chance.random() < 0.9:
        content = kind.finish(path, content)
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        kind.read(path)
    except Exception as error:
        line = describe(error)
        if not is_expected(error):
            where = traceback.extract_tb(error.__traceback__)[-1]
            return (
                f"{type(error).__name__}: {line[:200]} ({Path(where.filename).name}:{where.lineno})"
            )
        if "\n" in line or not line.strip() or len(line) > LONGEST:
            return f"no line that helps: {line[:200]!r}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        for file, content in whole.items():
            file.write_bytes(content)
    unit = 1 if sys.platform == "darwin" else 2**10
    grown = unit * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    return f"it took {grown / 2**20:.0f} MiB" if grown > GROWTH else None


def _work(kind: Kind, seeds: range, out: int) -> None:
    """Read files, and write a line for each: first its seed, then what is wrong."""
    held = 0
    if Path("/proc/self/statm").exists():
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limit = held + 4 * GROWTH
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libraries' warnings
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "here"
        folder.mkdir()
        files = kind.make(folder)
        for seed in seeds:
            os.write(out, f"{seed}\t".encode())
            os.write(out, f"{attempt(kind, files, seed) or ''}\n".encode())


def fuzz(name: str, count: int, first: int = 0) -> list[str]:
    """Read mutated files of a kind, and return what went wrong, one line each."""
    wrong: list[str] = []
    start, end = first, first + count
    while start < end:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.close(reading)
                _work(KINDS[name], range(start, end), writing)
                status = 0
            finally:
                os._exit(status)
        os.close(writing)
        with os.fdopen(reading, errors="replace") as pipe:
            lines = pipe.read().splitlines()
        _, status = os.waitpid(child, 0)
        for line in lines:
            seed, _, what = line.partition("\t")
            start = int(seed) + 1
            if what:
                wrong.append(f"{name} {seed}: {what}")
        if status:  # the last file, whose line was not ended, killed the process
            by = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else "an error"
            hung = f", after {SECONDS} s" if by == "SIGPROF" else ""
            wrong.append(f"{name} {start - 1}: the process was ended by {by}{hung}")
            if not lines:
                break
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000, help="mutated files of each kind")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seed", type=int, default=0, help="seed of the first file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    failed = 0
    for name in arguments.only:
        begin = time.monotonic()
        wrong = fuzz(name, arguments.count, arguments.seed)
        failed += len(wrong)
        print(*wrong, sep="\n", end="\n" if wrong else "", file=sys.stderr)
        good, seconds = arguments.count - len(wrong), time.monotonic() - begin
        print(
            f"{good:>6,} of {arguments.count:<6,} mutated files of {name}, {seconds:.0f} s",
            flush=True,
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
