"""Tensors and JSON in one file that is verified before it is used, and that runs no code.

The file is plain safetensors, which any tool reads. Its metadata has one more entry, "realnvp":
JSON that belongs to the tensors, with the SHA-256 of the whole file, computed with zeros in place
of the checksum itself. A truncated, damaged or edited file is refused; a valid one contains numbers
and text only. The checksum protects against accidents: it does not authenticate the author of a
file, and nothing here relies on that.

:func:`seal` and :func:`unseal` are the format; :func:`to_bytes` and :func:`from_bytes` put nested
states into it, as optimizers have, for checkpoints.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as tensors_from_bytes
from torch import Tensor

_BLANK = "0" * 64


_CHECKSUM = re.compile(rb'\\"sha256\\": ?\\"([0-9a-f]{64})\\"')


def _digest(content: bytes, start: int) -> str:
    view = memoryview(content)
    digest = hashlib.sha256(view[:start])
    digest.update(_BLANK.encode())
    digest.update(view[start + 64 :])
    return digest.hexdigest()


def parse_json(text: bytes | str) -> Any:
    """Parse JSON from an untrusted source.

    Raises:
        ValueError: if it is not JSON, or is nested too deeply.

    >>> parse_json('{"a": [1, 2.5]}')
    {'a': [1, 2.5]}
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError and overlong integers
        raise ValueError(f"it is not valid JSON ({str(error).splitlines()[0]})") from error


def seal(tensors: dict[str, Tensor], data: dict[str, Any]) -> bytes:
    """Return the content of a file with tensors and data.

    Args:
        tensors: contiguous tensors by name, on any device.
        data: JSON; the key "sha256" is reserved.

    >>> import torch
    >>> tensors, data = unseal(seal({"x": torch.ones(2)}, {"step": 3}))
    >>> tensors["x"], data
    (tensor([1., 1.]), {'step': 3})
    """
    return b"".join(_parts(tensors, data))


def _parts(tensors: dict[str, Tensor], data: dict[str, Any]) -> Iterator[bytes | memoryview]:
    """Yield the content of a sealed file: the header, and each tensor's bytes, without a copy."""
    # Wide types first, as the format's own library does, so that every tensor is aligned.
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, Any] = {"__metadata__": {"realnvp": json.dumps({"sha256": _BLANK, **data})}}
    end = 0
    for name in names:
        tensor = tensors[name]
        begin, end = end, end + tensor.numel() * tensor.dtype.itemsize
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    blank = len(text).to_bytes(8, "little") + text
    digest = hashlib.sha256(blank)
    for name in names:
        digest.update(_bytes(tensors[name]))
    yield blank.replace(_BLANK.encode(), digest.hexdigest().encode(), 1)
    for name in names:
        yield _bytes(tensors[name])


def _bytes(tensor: Tensor) -> memoryview:
    """Return the bytes of a contiguous tensor, which share its memory on the CPU."""
    return tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data


def unseal(content: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Invert :func:`seal`, after the whole content is verified.

    Raises:
        ValueError: if the content is not exactly what :func:`seal` returned.
    """
    length = int.from_bytes(content[:8], "little")
    if not 0 < length <= len(content) - 8:
        raise ValueError("it is cut off, or not a safetensors file")
    checksum = _CHECKSUM.search(content, 8, 8 + length)
    if checksum is None:
        raise ValueError("it has no checksum: it is damaged, or was not written by realnvp")
    if _digest(content, checksum.start(1)) != checksum[1].decode():
        raise ValueError("it does not match its checksum: it is damaged, or was changed")
    data = _data(parse_json(content[8 : 8 + length]))
    try:
        return tensors_from_bytes(content), data
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"it is not a file of realnvp ({error})") from error


_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}


_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def peek(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a sealed file without their values, on the meta device, and its data.

    Only the header is read, so a huge file costs nothing; its checksum is not compared. The size of
    the file is compared with the sizes of its header and tensors.

    Args:
        path: a file whose content :func:`seal` returned.

    Raises:
        ValueError: if the header is damaged, or does not fit the size of the file.
    """
    sizes = {}
    try:
        with safe_open(path, "pt") as file:
            data = _data({"__metadata__": file.metadata()})
            for name in file.keys():  # noqa: SIM118 -- a file cannot be iterated over
                part = file.get_slice(name)
                dtype = _DTYPES[part.get_dtype()]
                sizes[name] = torch.empty(part.get_shape(), dtype=dtype, device="meta")
    except (SafetensorError, KeyError, RuntimeError) as error:
        raise ValueError(f"it is cut off, damaged, or not a safetensors file ({error})") from error
    return sizes, data


def _data(header: Any) -> dict[str, Any]:
    """Return the JSON in the header of a sealed file."""
    try:
        data = parse_json(header["__metadata__"]["realnvp"])
    except (KeyError, TypeError) as error:
        raise ValueError(
            "it has no checksum: it is damaged, or was not written by realnvp"
        ) from error
    if not isinstance(data, dict):
        raise ValueError("it is not a file of realnvp")
    data.pop("sha256", None)
    return data


FORMAT = 2


_TENSOR, _ITEMS, _TUPLE = "$tensor", "$items", "$tuple"


def to_bytes(state: Mapping[str, Any]) -> bytes:
    """Return the content of a checkpoint's file.

    Strides are kept, on which the results of optimizers depend; a tensor that occurs twice is
    stored once.

    Args:
        state: nested dictionaries, lists and tuples of tensors, numbers, text and None.

    Raises:
        TypeError: if it contains something else.

    >>> import torch
    >>> from_bytes(to_bytes({"step": 3, "x": {0: torch.ones(2)}, "betas": (0.9, 0.5)}))
    {'step': 3, 'x': {0: tensor([1., 1.])}, 'betas': (0.9, 0.5)}
    """
    return seal(*_flat(state))


def write_state(state: Mapping[str, Any], path: Path) -> None:
    """Write the content of a checkpoint's file, :func:`to_bytes`, without another copy in memory.

    Args:
        state: as in :func:`to_bytes`.
        path: file to write.

    Raises:
        TypeError: if it contains something else.
        OSError: if the file cannot be written.
    """
    with path.open("wb") as file:
        for part in _parts(*_flat(state)):
            file.write(part)


def _flat(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a nested state, and JSON that describes their places in it."""
    tensors: dict[str, Tensor] = {}
    names: dict[int, str] = {}

    def encode(value: Any) -> Any:
        if isinstance(value, Tensor):
            strides = value.stride()
            order = sorted(range(value.ndim), key=lambda axis: -strides[axis])
            if id(value) not in names:
                names[id(value)] = name = f"t{len(tensors)}"
                tensors[name] = value.detach().permute(order).contiguous()
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
        raise TypeError(f"a checkpoint holds tensors, numbers and text, not {type(value).__name__}")

    tree = encode(state)
    return tensors, {"format": FORMAT, "state": tree}


def from_bytes(content: bytes) -> dict[str, Any]:
    """Invert :func:`to_bytes`.

    Raises:
        ValueError: if the content is damaged, or of another format.
    """
    tensors, data = unseal(content)
    if data.get("format") != FORMAT:
        raise ValueError(
            f"its format is {data.get('format')}, and this version reads format {FORMAT}: continue "
            f"the run with the version of realnvp that began it, or begin another run"
        )

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


def check_like(state: Any, expected: Any, where: str = "") -> None:
    """Raise ValueError unless a state has the structure of another one.

    Args:
        state: the part as it was read.
        expected: the part that it will replace: both must have the same keys and lengths, tensors
            of the same shape and type, and numbers at the same places.
        where: name of the part, for the message.

    Raises:
        ValueError: naming the first difference.

    >>> import torch
    >>> check_like({"x": torch.ones(2)}, {"x": torch.ones(3)}, "model")
    Traceback (most recent call last):
    ValueError: model.x has shape (2,), not (3,)
    """
    if isinstance(expected, Tensor):
        if not isinstance(state, Tensor):
            raise ValueError(f"{where} is not a tensor")
        for what in ("shape", "dtype"):
            got, wanted = getattr(state, what), getattr(expected, what)
            if got != wanted:
                got, wanted = (tuple(v) if what == "shape" else v for v in (got, wanted))
                raise ValueError(f"{where} has {what} {got}, not {wanted}")
    elif isinstance(expected, Mapping):
        if not isinstance(state, Mapping):
            raise ValueError(f"{where} is not a mapping")
        names = {key: f"{where}.{key}" if where else str(key) for key in [*expected, *state]}
        for key, name in names.items():
            if key not in state or key not in expected:
                raise ValueError(f"{name} is {'missing' if key in expected else 'unknown'}")
        for key, item in expected.items():
            check_like(state[key], item, names[key])
    elif isinstance(expected, list | tuple):
        if not isinstance(state, list | tuple) or len(state) != len(expected):
            raise ValueError(f"{where} does not have {len(expected)} parts")
        for index, (got, wanted) in enumerate(zip(state, expected, strict=True)):
            check_like(got, wanted, f"{where}.{index}")
    elif isinstance(expected, int | float) and not isinstance(expected, bool):
        if not isinstance(state, int | float) or isinstance(state, bool):
            raise ValueError(f"{where} is not a number")
    elif type(state) is not type(expected):  # text, booleans and None
        raise ValueError(f"{where} is {state!r}")
