"""Tensors and JSON in one file that is verified before it is used, and that never runs code.

The file is plain safetensors, which any tool reads. Its metadata has one more entry, "realnvp":
JSON with whatever belongs to the tensors, and the SHA-256 of the whole file (computed with zeros
where the checksum itself stands). A torn, damaged or edited file is refused; what passes holds
numbers and text, nothing else. The checksum is against accidents: it does not tell who wrote a
file, which nothing here needs to trust.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

__all__ = ["parse_json", "seal", "unseal"]

_BLANK = "0" * 64
_CHECKSUM = re.compile(rb'\\"sha256\\": ?\\"([0-9a-f]{64})\\"')
_HEADER_LIMIT = 100_000_000  # bytes, the limit of the safetensors format itself


def _digest(content: bytes, start: int) -> str:
    view = memoryview(content)
    digest = hashlib.sha256(view[:start])
    digest.update(_BLANK.encode())
    digest.update(view[start + 64 :])
    return digest.hexdigest()


def parse_json(text: bytes | str) -> Any:
    """JSON from a file that may hold anything.

    Raises:
        ValueError: if it is no JSON, or so deep or long a one that reading it is an attack.

    >>> parse_json('{"a": [1, 2.5]}')
    {'a': [1, 2.5]}
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError and too long integers
        raise ValueError(f"it is not valid JSON ({str(error).splitlines()[0]})") from error


def seal(tensors: dict[str, Tensor], data: dict[str, Any]) -> bytes:
    """The content of a file with tensors and data.

    Args:
        tensors: contiguous, on any device.
        data: JSON; the key "sha256" is taken.

    >>> import torch
    >>> tensors, data = unseal(seal({"x": torch.ones(2)}, {"step": 3}))
    >>> tensors["x"], data
    (tensor([1., 1.]), {'step': 3})
    """
    text = json.dumps({"sha256": _BLANK, **data})
    content = tensors_to_bytes(tensors, {"realnvp": text})
    found = _CHECKSUM.search(content)
    assert found is not None  # it was put there two lines above
    start = found.start(1)
    view = memoryview(content)
    return b"".join((view[:start], _digest(content, start).encode(), view[start + 64 :]))


def unseal(content: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The inverse of :func:`seal`, after the whole content is verified.

    Raises:
        ValueError: if the content is not exactly what :func:`seal` returned.
    """
    length = int.from_bytes(content[:8], "little") if len(content) >= 8 else -1
    if not 0 < length <= min(_HEADER_LIMIT, len(content) - 8):
        raise ValueError("it is cut off, or no safetensors file")
    found = _CHECKSUM.search(content, 8, 8 + length)
    if found is None:
        raise ValueError("it has no checksum: it is damaged, or was not written by realnvp")
    if _digest(content, found.start(1)) != found[1].decode():
        raise ValueError("it does not match its checksum: it is damaged, or was changed")
    header = parse_json(content[8 : 8 + length])
    try:
        data = parse_json(header["__metadata__"]["realnvp"])
        tensors = tensors_from_bytes(content)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"it is not a file of realnvp ({error})") from error
    if not isinstance(data, dict):
        raise ValueError("it is not a file of realnvp")
    data.pop("sha256", None)
    return tensors, data
