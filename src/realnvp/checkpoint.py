"""The state of a training as one verified file: a tree of tensors, numbers and text.

The tree is JSON in which a tensor is a reference to one of the file's tensors, see
:mod:`realnvp.sealed`. Nothing is ever unpickled, and :func:`check_like` compares what was read with
what it is to replace before a single number is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from realnvp.sealed import seal, unseal

__all__ = ["check_like", "from_bytes", "to_bytes"]

FORMAT = 1
_TENSOR, _ITEMS, _TUPLE = "$tensor", "$items", "$tuple"


def to_bytes(state: Mapping[str, Any]) -> bytes:
    """The content of a checkpoint's file.

    Strides are kept, because optimizers work on memory as it lies; a tensor that occurs twice is
    stored once.

    >>> import torch
    >>> from_bytes(to_bytes({"step": 3, "x": {0: torch.ones(2)}, "betas": (0.9, 0.5)}))
    {'step': 3, 'x': {0: tensor([1., 1.])}, 'betas': (0.9, 0.5)}
    """
    tensors: dict[str, Tensor] = {}
    names: dict[int, str] = {}

    def encode(value: Any) -> Any:
        if isinstance(value, Tensor):
            strides = value.stride()
            order = sorted(range(value.ndim), key=lambda axis: -strides[axis])
            if id(value) not in names:
                names[id(value)] = name = f"t{len(tensors)}"
                # a copy: safetensors refuses tensors that share memory
                tensors[name] = value.detach().permute(order).cpu().contiguous().clone()
            return {_TENSOR: names[id(value)], "order": order}
        if isinstance(value, Mapping):
            if all(isinstance(key, str) and not key.startswith("$") for key in value):
                return {key: encode(item) for key, item in value.items()}
            return {_ITEMS: [[key, encode(item)] for key, item in value.items()]}
        if isinstance(value, tuple):
            return {_TUPLE: [encode(item) for item in value]}
        if isinstance(value, list):
            return [encode(item) for item in value]
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise TypeError(f"a checkpoint holds tensors, numbers and text, no {type(value).__name__}")

    tree = encode(state)
    return seal(tensors, {"format": FORMAT, "state": tree})


def from_bytes(content: bytes) -> dict[str, Any]:
    """The inverse of :func:`to_bytes`.

    Raises:
        ValueError: if the content is damaged, or of another format.
    """
    tensors, data = unseal(content)
    if data.get("format") != FORMAT:
        raise ValueError(f"it is no checkpoint of format {FORMAT}, which this version reads")

    def decode(value: Any) -> Any:
        if isinstance(value, list):
            return [decode(item) for item in value]
        if not isinstance(value, dict):
            return value
        if _TENSOR in value:
            order = value["order"]
            back = [order.index(axis) for axis in range(len(order))]
            return tensors[value[_TENSOR]].permute(back)
        if _ITEMS in value:
            return {key: decode(item) for key, item in value[_ITEMS]}
        if _TUPLE in value:
            return tuple(decode(item) for item in value[_TUPLE])
        return {key: decode(item) for key, item in value.items()}

    try:
        state = decode(data["state"])
    except (KeyError, TypeError, ValueError, RuntimeError, RecursionError) as error:
        raise ValueError(f"it is not a checkpoint of realnvp ({error})") from error
    if not isinstance(state, dict):
        raise ValueError("it is not a checkpoint of realnvp")
    return state


def check_like(found: Any, expected: Any, where: str = "") -> None:
    """Raise unless a part of a state has the structure of another one.

    Args:
        found: as it was read.
        expected: what it is to replace: the same keys and lengths, tensors of the same shape and
            type, numbers where numbers are.
        where: name of the part, for the message.

    Raises:
        ValueError: naming the first difference.

    >>> import torch
    >>> check_like({"x": torch.ones(2)}, {"x": torch.ones(3)}, "model")
    Traceback (most recent call last):
    ValueError: model.x has shape (2,), not (3,)
    """
    if isinstance(expected, Tensor):
        if not isinstance(found, Tensor):
            raise ValueError(f"{where} is no tensor")
        for what in ("shape", "dtype"):
            got, wanted = getattr(found, what), getattr(expected, what)
            if got != wanted:
                got, wanted = (tuple(v) if what == "shape" else v for v in (got, wanted))
                raise ValueError(f"{where} has {what} {got}, not {wanted}")
    elif isinstance(expected, Mapping):
        if not isinstance(found, Mapping):
            raise ValueError(f"{where} is no mapping")
        for key in [*expected, *found]:
            if key not in found or key not in expected:
                raise ValueError(f"{where}.{key} is {'missing' if key in expected else 'unknown'}")
        for key, item in expected.items():
            check_like(found[key], item, f"{where}.{key}" if where else str(key))
    elif isinstance(expected, list | tuple):
        if not isinstance(found, list | tuple) or len(found) != len(expected):
            raise ValueError(f"{where} has not {len(expected)} parts")
        for index, (got, wanted) in enumerate(zip(found, expected, strict=True)):
            check_like(got, wanted, f"{where}.{index}")
    elif isinstance(expected, int | float) and not isinstance(expected, bool):
        if not isinstance(found, int | float) or isinstance(found, bool):
            raise ValueError(f"{where} is no number")
    elif type(found) is not type(expected):  # text, truth values and None
        raise ValueError(f"{where} is {found!r}")
