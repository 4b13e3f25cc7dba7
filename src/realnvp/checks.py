"""Checks of settings, which may come from anybody's command line, YAML or JSON."""

from __future__ import annotations

import dataclasses
import math
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

__all__ = ["check_types", "positive", "require"]


def require(condition: bool, message: str) -> None:
    """Raise ValueError with the message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def positive(config: object, *names: str) -> None:
    """The fields of these names are finite numbers above 0, or None."""
    for name in names:
        value = getattr(config, name)
        require(
            value is None or 0 < value < math.inf, f"{name} must be a positive number, got {value}"
        )


def _is(value: Any, hint: Any) -> bool:
    """Whether a value, which may come from anybody's JSON, is of a field's type."""
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        return any(_is(value, part) for part in get_args(hint))
    if get_origin(hint) is tuple:
        parts = get_args(hint)
        return (
            isinstance(value, list | tuple)
            and len(value) == len(parts)
            and all(_is(item, part) for item, part in zip(value, parts, strict=True))
        )
    if hint in (int, float):  # True is an int to Python, but not to people
        kind = Integral if hint is int else Real
        return isinstance(value, kind) and not isinstance(value, bool)
    return isinstance(value, NoneType if hint is None else hint)


def check_types(config: Any, **most: int) -> None:
    """Every field has the type that it is declared with.

    Args:
        config: a dataclass.
        most: the largest number that a field may be, by name.

    Raises:
        ValueError: naming the field.
    """
    hints = get_type_hints(type(config))
    for item in dataclasses.fields(config):
        value, hint = getattr(config, item.name), hints[item.name]
        if not _is(value, hint):
            choices = " or ".join(f'"{choice}"' for choice in get_args(hint))
            wanted = choices if get_origin(hint) is Literal else str(item.type)
            raise ValueError(f"{item.name} must be {wanted}, got {str(value)[:50]!r}")
        limit = most.get(item.name, 2**53)  # beyond it, float arithmetic would lose count
        if isinstance(value, Integral):
            # its digits could be thousands
            require(value <= limit, f"{item.name} is at most {limit}, got a larger number")
