"""Settings as dataclasses: checks of their types and ranges, for values from files and users.

A wrong value is refused when the dataclass is made, before any data are read or any folder is made.
This module imports nothing heavy, so that the command line can show help immediately.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def require(condition: bool, message: str) -> None:
    """Raise ValueError with the message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def positive(config: object, *names: str) -> None:
    """Raise ValueError unless fields are None, "auto" or finite numbers above 0."""
    _check_numbers(config, names, lambda value: 0 < value < math.inf, "must be a positive number")


def not_negative(config: object, *names: str) -> None:
    """Raise ValueError unless fields are None, "auto" or finite numbers from 0."""
    _check_numbers(config, names, lambda value: 0 <= value < math.inf, "is 0 or more")


def _check_numbers(
    config: object, names: Sequence[str], fits: Callable[[float], bool], wanted: str
) -> None:
    for name in names:
        for value in as_list(getattr(config, name)):
            fine = value in (None, "auto") or fits(value)
            require(fine, f"{name} {wanted}, got {value}")


def as_list(setting: T | list[T]) -> list[T]:
    """Return the values of a setting that is one value, or a list with one for each scale.

    >>> as_list(8), as_list([4, 12])
    ([8], [4, 12])
    """
    return setting if isinstance(setting, list) else [setting]


def of_scale(setting: T | list[T], scale: int) -> T:
    """Return a setting that is one value for all scales, or a list with one for each.

    >>> of_scale(8, 1), of_scale([4, 12], 1)
    (8, 12)
    """
    return setting[scale] if isinstance(setting, list) else setting


def resolved(value: float | Literal["auto"]) -> float:
    """Return a setting for which "auto" has been replaced by a number.

    Raises:
        ValueError: if it is still "auto".
    """
    if isinstance(value, str):
        raise ValueError(f'"{value}" is resolved from the training data: give a number')
    return value


def _has_type(value: Any, hint: Any) -> bool:
    """Return whether a value, which may come from an untrusted file, is of a field's type."""
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        return any(_has_type(value, option) for option in get_args(hint))
    if get_origin(hint) is tuple:
        parts = get_args(hint)
        return (
            isinstance(value, list | tuple)
            and len(value) == len(parts)
            and all(_has_type(item, option) for item, option in zip(value, parts, strict=True))
        )
    if get_origin(hint) is dict:  # options, by name
        return isinstance(value, dict) and all(
            isinstance(key, str) and isinstance(item, bool | int | float | str)
            for key, item in value.items()
        )
    if get_origin(hint) is list:
        return isinstance(value, list) and all(_has_type(item, *get_args(hint)) for item in value)
    if hint in (int, float):  # bool is a subclass of int
        kind = Integral if hint is int else Real
        return isinstance(value, kind) and not isinstance(value, bool)
    return isinstance(value, NoneType if hint is None else hint)


def check_types(config: Any, **limits: int) -> None:
    """Raise ValueError unless every field has the type that it is declared with.

    Args:
        config: a dataclass.
        limits: largest values of integer fields, by name.

    Raises:
        ValueError: naming the field.
    """
    hints = get_type_hints(type(config))
    for item in dataclasses.fields(config):
        value, hint = getattr(config, item.name), hints[item.name]
        if not _has_type(value, hint):
            choices = " or ".join(f'"{choice}"' for choice in get_args(hint))
            wanted = choices if get_origin(hint) is Literal else str(item.type)
            raise ValueError(f"{item.name} must be {wanted}, got {str(value)[:50]!r}")
        limit = limits.get(item.name, 2**53)  # larger integers are not exact as floats
        for number in as_list(value):
            if isinstance(number, Integral):
                # not printed: it could have thousands of digits
                require(number <= limit, f"{item.name} is at most {limit}, got a larger number")


def to_dict(config: object) -> dict:
    """Return the settings as plain nested dicts, for YAML and JSON."""
    return dataclasses.asdict(config)  # type: ignore[call-overload]
