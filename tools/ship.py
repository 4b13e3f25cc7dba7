"""Put trained models into the package: python tools/ship.py FILE NAME=RUN [NAME=RUN ...]

Every run's model is rounded to half precision as in the file, evaluated on its held-out data, and
written with its card into src/realnvp/weights/FILE.safetensors.
"""

from __future__ import annotations

import argparse
import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

import realnvp
from realnvp import pretrained
from realnvp.conditioners import WeightNormConv2d
from realnvp.config import DataConfig
from realnvp.data import load_data
from realnvp.evaluation import Likelihood, evaluate
from realnvp.flow import Flow
from realnvp.utils.files import write_atomically
from realnvp.utils.progress import duration
from realnvp.utils.rounding import LARGEST, LOW, MOST, PLACES, POWER
from realnvp.utils.serialization import seal

FOLDER = Path(pretrained.__file__).parent / "weights"


LIMIT = 6_000_000
"""Largest size of a file that comes with the package, in bytes."""


def pack(models: dict[str, tuple[Flow, dict[str, Any]]]) -> bytes:
    """Return the content of a file of models, in half precision.

    The kernels of a model that would be larger than 6 MB have nine bits a weight
    (:mod:`realnvp.utils.rounding`).

    Args:
        models: models by name, each with its card.
    """
    tensors: dict[str, Tensor] = {}
    data: dict[str, Any] = {}
    for name, (flow, card) in models.items():
        large = 2 * sum(p.numel() for p in flow.parameters()) > LIMIT
        layers = flow.named_modules() if large else ()
        kernels = {f"{key}.direction" for key, m in layers if isinstance(m, WeightNormConv2d)}
        for key, tensor in flow.state_dict().items():
            if key in kernels:
                tensors |= to_nine_bits(f"{name}/{key}", tensor)
                continue
            narrow = tensor.ndim > 1 and tensor.dtype == torch.float32
            tensors[f"{name}/{key}"] = (tensor.half() if narrow else tensor).contiguous()
        for key, tensor in (flow.calibration or {}).items():
            tensors[f"{name}{pretrained.CALIBRATION}{key}"] = tensor.contiguous()
        data[name] = {"settings": flow.settings(), "card": card}
    return seal(tensors, {"models": data})


def to_nine_bits(name: str, kernel: Tensor) -> dict[str, Tensor]:
    r"""Return tensors of bytes that hold each weight :math:`v` as an integer.

    It is :math:`\operatorname{sign}(v) \operatorname{round}(255 \, (|v| / \max |v|)^{2/3})`.

    Args:
        name: name of the kernel.
        kernel: weights ``(C, ...)``; the maximum is that of each of the C output channels.

    Returns:
        The high 8 bits of each integer by ``name``, of the kernel's shape; the lowest bits, eight
        per byte; and the maxima.

    >>> kernel = torch.tensor([[0.25, -0.1], [1.0, 3.0]])
    >>> tensors = to_nine_bits("k", kernel)
    >>> {name: tensor.dtype for name, tensor in tensors.items()}
    {'k': torch.uint8, 'k#low': torch.uint8, 'k#largest': torch.float32}
    >>> from realnvp.utils.rounding import from_nine_bits
    >>> from_nine_bits(tensors)["k"]
    tensor([[ 0.2500, -0.0995],
            [ 1.0050,  3.0000]])
    """
    largest = kernel.abs().amax(dim=tuple(range(1, kernel.ndim)), keepdim=True)
    indices = MOST * (kernel.abs() / largest.clamp(min=1e-30)) ** (1 / POWER)
    integers = (kernel.sign() * indices).round().to(torch.int16) + MOST
    bits = torch.zeros(-(-integers.numel() // 8), 8, dtype=torch.uint8)
    bits.view(-1)[: integers.numel()] = (integers & 1).flatten()
    return {
        name: (integers >> 1).to(torch.uint8),
        f"{name}{LOW}": (bits << PLACES).sum(1).to(torch.uint8),
        f"{name}{LARGEST}": largest,
    }


def card_of(name: str, run: Path, flow: Flow, command: str | None) -> dict[str, Any]:
    """Return the card of a model: how it was made, how good it is, and its curve."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    dataset = load_data(DataConfig(**config["data"]))
    split = dataset.reporting[1]
    truth = dataset.toy.log_density if dataset.toy is not None else None
    found = evaluate(flow, split, seed=0, true_log_density=truth)
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    curve = [(r["seconds"] / 60, r["loss"]) for r in records if r["kind"] == "validation"]
    keep = range(0, len(curve), max(1, len(curve) // 20))
    last = records[-1]
    command = command or f"realnvp train {name}"
    card: dict[str, Any] = {
        "recipe": shlex.split(command)[2],
        "data": Path(config["data"]["source"]).stem,
        "unit": "nats" if flow.levels is None else "bits/dim",
        "value": found.loss if flow.levels is not None else found.nats,
        "standard_error": found.standard_error,
        "examples": found.examples,
        "training": f"{last['step']:,} steps of {config['training']['batch_size']}, "
        f"{duration(last['seconds'])}",
        "parameters": sum(p.numel() for p in flow.parameters()),
        "curve": [curve[i] for i in sorted({*keep, len(curve) - 1})],
        "command": command,
    }
    if found.kl is not None:
        card |= {"kl": found.kl, "kl_standard_error": found.kl_standard_error}
    return card


def put(path: Path, models: dict[str, tuple[Flow, dict[str, Any]]]) -> None:
    """Write models into a file, whose other models stay as they are."""
    stored = pretrained.unpack(path.read_bytes()) if path.exists() else {}
    others = {
        name: (realnvp.load(name), entry["card"])
        for name, (entry, _) in stored.items()
        if name not in models
    }
    order = dict.fromkeys((*stored, *models))
    write_atomically(path, pack({name: (others | models)[name] for name in order}))
    print(f"{shlex.quote(str(path))}: {path.stat().st_size / 2**20:.2f} MiB")


def ship_again(name: str, flow: Flow, found: Likelihood, command: str, training: str = "") -> None:
    """Write a model that went on from the shipped one of its name, in a file of its own.

    Args:
        name: the model.
        flow: the flow as it is now.
        found: its likelihood.
        command: what was done, which the card's command ends with.
        training: likewise, in words.
    """
    path = FOLDER / f"{name}.safetensors"
    entry, _ = pretrained.unpack(path.read_bytes())[name]
    card = entry["card"] | {"value": found.loss, "standard_error": found.standard_error}
    card["command"] += f"; {command}"
    card["training"] += training
    write_atomically(path, pack({name: (flow, card)}))
    print(found, card["command"], card["training"], sep="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("models", nargs="+", metavar="NAME=RUN")
    parser.add_argument("--data", help="name of the data, if they were given as a path")
    parser.add_argument(
        "--command", help="command that reproduces the model, if not the recipe of its name"
    )
    args = parser.parse_args()
    packed = {}
    for pair in args.models:
        name, _, run = pair.partition("=")
        flow = realnvp.load(run)
        if flow.trained_on is not None and args.data:  # pack no path of this machine
            data = replace(flow.trained_on.data, source=args.data, root=DataConfig.root)
            flow.trained_on = replace(flow.trained_on, data=data)
        entry, tensors = pretrained.unpack(pack({name: (flow, {})}))[name]
        rounded = pretrained.rebuild(entry["settings"], tensors, name)
        card = card_of(name, Path(run), rounded, args.command)
        card["data"] = args.data or card["data"]
        print(name, json.dumps(card, indent=1))
        packed[name] = (flow, card)
    put(FOLDER / f"{args.file}.safetensors", packed)


if __name__ == "__main__":
    main()
