"""Layers whose buffers are computed from data rather than trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from torch import Tensor, nn

from realnvp.bijections.base import Bijection

__all__ = ["ExactBuffers", "Fitted"]


class ExactBuffers(nn.Module):
    """A module some of whose buffers stay float64 in a flow of any type.

    In float32, seconds since 1970 would be two minutes apart.
    """

    exact: ClassVar[tuple[str, ...]] = ()
    """Names of the buffers that stay float64, where a device has that type."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ExactBuffers:
        buffers = {name: b for name in self.exact if (b := self._buffers.get(name)) is not None}
        self._buffers.update({name: buffer.float() for name, buffer in buffers.items()})
        super()._apply(fn, recurse)
        for name, buffer in buffers.items():
            moved = self._buffers[name]
            assert moved is not None  # as before
            if moved.device.type != "mps":
                values = moved if buffer.is_meta else buffer.to(moved.device)
                self._buffers[name] = values.double()
        return self


class Fitted(ExactBuffers, Bijection):
    """A bijection whose buffers are computed from data."""

    def fill(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy tensors into the buffers of these names.

        Raises:
            ValueError: if they are not valid, such as knots that do not ascend.
        """
        for name, tensor in tensors.items():
            buffer = getattr(self, name)
            if not buffer.is_meta:
                buffer.copy_(tensor)
        if not any(buffer.is_meta for buffer in self.buffers(recurse=False)):
            self.check_values()
