"""Layers whose buffers are computed from data rather than trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from torch import Tensor

from realnvp.bijections.base import Bijection

__all__ = ["Fitted"]


class Fitted(Bijection):
    """A bijection whose buffers are computed from data; some stay float64 in a flow of any type."""

    exact: ClassVar[tuple[str, ...]] = ()
    """Names of the buffers that stay float64."""

    def fill(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy tensors into the buffers of these names.

        Raises:
            ValueError: if they are not valid, such as knots that do not ascend.
        """
        for name, tensor in tensors.items():
            own = getattr(self, name)
            if not own.is_meta:
                own.copy_(tensor)
        if not any(buffer.is_meta for buffer in self.buffers(recurse=False)):
            self.check_values()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Fitted:
        kept = {name: self._buffers[name] for name in self.exact if name in self._buffers}
        super()._apply(fn, recurse)
        for name, buffer in kept.items():
            moved = self._buffers[name]
            if buffer is not None and moved is not None and not buffer.is_meta:
                self._buffers[name] = buffer.to(moved.device)
        return self
