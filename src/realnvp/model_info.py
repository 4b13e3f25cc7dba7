"""What a saved model knows about its training: data, names of columns and classes, versions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from realnvp.config import DataConfig
from realnvp.utils.settings import to_dict

__all__ = ["ModelInfo", "check_made_with"]


@dataclass(frozen=True)
class ModelInfo:
    """What a model remembers of the data that it was trained on; saved as JSON with the weights.

    Args:
        data: settings of the data.
        columns: names of the features of vectors, None for images.
        categories: names of the classes that the model is conditioned on.
        table: the columns of a table, as ``TableSchema.as_dict`` writes them.
        condition_table: likewise, the columns that a model of a table is conditioned on.
        fingerprint: hash of each part of the data, None for data in memory.
        estimator: parameters and state of a :class:`realnvp.estimator.RealNVPDensity`.

    >>> info = ModelInfo(DataConfig("moons"), columns=["x", "y"])
    >>> ModelInfo.from_dict(info.as_dict()) == info
    True
    """

    data: DataConfig
    columns: list[str] | None = None
    categories: list[str] | None = None
    table: dict[str, Any] | None = None
    condition_table: dict[str, Any] | None = None
    fingerprint: dict[str, str] | None = None
    estimator: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return this as JSON."""
        return {**vars(self), "data": to_dict(self.data)}

    @classmethod
    def from_dict(cls, saved: Any) -> ModelInfo:
        """Return what :meth:`as_dict` wrote; nothing in it is trusted.

        Raises:
            ValueError: if it does not have this form.
        """
        if not isinstance(saved, dict):
            raise ValueError(f"trained_on must be a mapping, got a {type(saved).__name__}")
        if not isinstance(saved.get("data"), dict):
            raise ValueError("trained_on must have the settings of the data")
        try:
            info = cls(**{**saved, "data": DataConfig(**saved["data"])})
        except TypeError as error:
            raise ValueError(str(error)) from error
        for name in ("columns", "categories"):
            names = getattr(info, name)
            if names is not None and not (isinstance(names, list) and _are_text(names)):
                raise ValueError(f"the {name} of trained_on must be a list of text")
        for name in ("table", "condition_table", "fingerprint", "estimator"):
            if not isinstance(getattr(info, name), dict | None):
                raise ValueError(f"the {name} of trained_on must be a mapping")
        if not _are_text((info.fingerprint or {}).values()):
            raise ValueError("the fingerprint of trained_on must be text by part of the data")
        return info


def check_made_with(notes: Any) -> None:
    """Raise a ValueError unless a saved model's note on its making has the form of ours."""
    if not isinstance(notes, dict | None):
        raise ValueError(f"made_with must be a mapping, got a {type(notes).__name__}")
    for value in (notes or {}).values():
        if value is not None and not (isinstance(value, str) and len(value) <= 200):
            raise ValueError("the notes of made_with must be short text")


def _are_text(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) for value in values)
