r"""The contract of a bijection, and the two ways to build one from others.

A normalizing flow is an invertible map :math:`f` from data :math:`x` to latents :math:`z` with a
prior :math:`p_Z` whose density is known. The change of variables gives the density of the data,

.. math:: \log p_X(x) = \log p_Z(f(x)) + \log |\det \partial f(x) / \partial x|,

and for a composition :math:`f = f_n \circ \dots \circ f_1` the log-determinants add up. So every
layer is a :class:`Bijection` that returns its value and its own log-determinant, and
:class:`Chain` adds.

The size of a batch is ``x.shape[0]`` here, not ``len(x)``, which would fix it in an exported graph.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, overload

import torch
from torch import Tensor, nn

__all__ = [
    "Bijection",
    "Chain",
    "Inverse",
    "Terms",
    "check_channels",
    "check_exponent",
    "check_log_det",
    "constant",
    "full_precision",
    "spread_log_det",
    "sum_per_example",
    "zero_log_det",
]

LARGEST_EXPONENT = 80
"""Largest magnitude of a log-scale whose exponential and its reciprocal are finite in float32."""

Terms = dict[str, Tensor]
"""Log-determinants by kind ("coupling", "norm", "preprocessing"), each of shape ``(B,)``."""


def sum_per_example(values: Tensor) -> Tensor:
    """Return the sum over all dimensions but the first: ``(B, ...) -> (B,)``.

    >>> sum_per_example(torch.ones(2, 3, 4, 4))
    tensor([48., 48.])
    """
    flat = values.flatten(1) if values.ndim > 2 else values
    return flat.squeeze(1) if flat.shape[1] == 1 else flat.sum(1)


def constant(values: Callable[[], Tensor], *sizes: int, dtype: torch.dtype | None = None) -> Tensor:
    """Return the values that a constructor fills a tensor with, broadcast to its sizes.

    On the meta device, where only sizes are compared, the tensor is empty: computing values would
    import parts of PyTorch's compiler, which take 75 MB and more than a second.

    >>> constant(lambda: torch.arange(3), 2, 3)
    tensor([[0., 1., 2.],
            [0., 1., 2.]])
    """
    empty = torch.empty(sizes, dtype=dtype)
    return empty if empty.is_meta else empty.copy_(values())


def spread_log_det(log_scale: Tensor, x: Tensor) -> Tensor:
    """Return the log-determinants ``(B,)`` of one log-scale per channel: H * W times their sum."""
    return (log_scale.sum() * math.prod(x.shape[2:])).expand(x.shape[0])


def check_log_det(log_det: Tensor, x: Tensor, layer: Bijection, name: str = "") -> None:
    """Raise a ValueError unless a layer's log-determinants are one number per example.

    Any other shape would be broadcast silently. No values are read, so that this does not wait for
    a GPU.

    >>> check_log_det(torch.zeros(()), torch.zeros(3, 2), Chain(), "layers.0")
    Traceback (most recent call last):
    ValueError: layers.0 (Chain) returned log-determinants of shape () for 3 examples, not a ...
    """
    shape = log_det.shape if isinstance(log_det, Tensor) else None  # None: a number, such as 0
    if shape != (x.shape[0],):
        kind = type(layer).__name__
        what = f"of type {type(log_det).__name__}" if shape is None else f"of shape {tuple(shape)}"
        raise ValueError(
            f"{f'{name} ({kind})' if name else kind} returned log-determinants {what} for "
            f"{x.shape[0]} examples, not a tensor of shape ({x.shape[0]},): sum over all "
            "dimensions but the first"
        )


def zero_log_det(x: Tensor) -> Tensor:
    """Return the log-determinants ``(B,)`` of a map that preserves volume: zeros."""
    dtype = x.dtype if x.is_floating_point() else torch.get_default_dtype()
    return torch.zeros(x.shape[0], dtype=dtype, device=x.device)


def check_channels(count: int, x: Tensor) -> None:
    """Raise a ValueError unless an input has the channels of its layer: others would be broadcast.

    >>> check_channels(1, torch.zeros(3, 4))
    Traceback (most recent call last):
    ValueError: the layer has 1 channel, but its input has the shape (3, 4)
    """
    if x.shape[1] != count:
        channels = f"{count} channel{'' if count == 1 else 's'}"
        raise ValueError(f"the layer has {channels}, but its input has the shape {tuple(x.shape)}")


def full_precision(x: Tensor) -> AbstractContextManager[Any]:
    """Return a context without autocast, which is for networks: a density needs the precision."""
    if x.is_meta or not torch.is_autocast_enabled(x.device.type):  # contexts take time
        return nullcontext()
    return torch.autocast(x.device.type, enabled=False)


def check_exponent(name: str, log_scale: Tensor) -> None:
    """Raise a ValueError unless a log-scale and its negative can be exponentiated in float32.

    >>> check_exponent("log_scale", torch.tensor([3.0, -200.0]))
    Traceback (most recent call last):
    ValueError: log_scale must be between -80 and 80, got -200.0
    """
    largest = log_scale.detach().flatten()
    largest = largest[largest.abs().argmax()] if len(largest) else largest.new_zeros(())
    if not largest.abs() <= LARGEST_EXPONENT:
        raise ValueError(
            f"{name} must be between {-LARGEST_EXPONENT} and {LARGEST_EXPONENT}, "
            f"got {largest.item()}"
        )


class Bijection(nn.Module, ABC):
    r"""An invertible map with a tractable log-determinant.

    A subclass implements :meth:`forward` (data to latent) and :meth:`inverse` (latent to data).
    Both return the mapped tensor and :math:`\log |\det J|` of *that* direction, a tensor of shape
    ``(B,)`` on the input's device, float32 or wider, summed (never averaged) over all other
    dimensions. At corresponding points the two log-determinants are each other's negative.
    A new layer is the identity map, so that gradients of a deep flow are well scaled at first.

    ``condition`` is what the density is conditioned on, ``(B, K)``. It is passed to every layer,
    and layers that do not depend on it ignore it.
    """

    term: ClassVar[str] = "coupling"
    """Name of the term of the loss to which the log-determinant belongs; it may be a new one."""

    has_analytic_inverse: ClassVar[bool] = True
    """Whether the inverse has a closed form, so that it costs no more than the forward map."""

    @abstractmethod
    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map data to latent: ``x -> (z, log_det)``."""

    @abstractmethod
    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map latent to data: ``z -> (x, log_det)``."""

    def forward_terms(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Terms]:
        """Map data to latent as :meth:`forward`, with the log-determinant split by :attr:`term`."""
        z, log_det = self(x, condition)
        return z, {self.term: log_det}

    def check_values(self) -> None:
        """Raise ValueError if a value in this layer's tensors makes it not invertible.

        Trained parameters always pass; an untrusted file may not. The caller checks that
        all tensors are finite and have the shapes of the construction, and calls this method of
        nested layers. By default, every finite value is valid.

        Raises:
            ValueError: if a value is out of range; the message names the tensor.
        """

    def permute_index(self, labels: Tensor) -> Tensor:
        """Rearrange labels of the input's entries as :meth:`forward` rearranges the entries.

        The labels, integers of the input's shape, are the scales of the entries: layers that
        reshape move them, and factoring out adds 1 to the labels of entries that are not factored
        out.
        """
        return labels

    def unpermute_index(self, labels: Tensor) -> Tensor:
        """Rearrange labels as :meth:`inverse` does, undoing :meth:`permute_index`."""
        return labels

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the latents of an example, without computing them."""
        labels = torch.empty(1, *shape, dtype=torch.int64, device="meta")
        return tuple(self.permute_index(labels).shape[1:])

    def outline(
        self, shape: tuple[int, ...], name: str
    ) -> Iterator[tuple[str, Bijection, tuple[int, ...]]]:
        """Yield the layers in the order in which data pass through them, including nested ones.

        Args:
            shape: shape of an example.
            name: name of this bijection; inner ones are named as in ``state_dict``.

        Yields:
            name, layer, and shape of its output.
        """
        yield name, self, self.output_shape(shape)


class Chain(Bijection):
    r"""The composition of bijections in reading order: the first is applied to the data first.

    .. math:: f = f_n \circ \dots \circ f_1, \qquad
        \log |\det J_f(x)| = \sum_i \log |\det J_{f_i}(x_{i-1})|

    >>> from realnvp.bijections import Affine
    >>> chain = Chain(Affine(torch.zeros(2), torch.full((2,), 2.0)), Affine(torch.ones(2)))
    >>> z, log_det = chain(torch.tensor([[4.0, 6.0]]))
    >>> z
    tensor([[1., 2.]])
    >>> log_det  # -2 log 2
    tensor([-1.3863])
    """

    def __init__(self, *layers: Bijection) -> None:
        super().__init__()
        for layer in layers:
            if not isinstance(layer, Bijection):
                raise ValueError(f"a Chain is made of bijections, got a {type(layer).__name__}")
        self.layers = nn.ModuleList(layers)
        self._start = 0  # index of a slice's first layer in the original chain, for messages

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        total = zero_log_det(x)
        for index, layer in enumerate(self, self._start):
            x, log_det = layer(x, condition)
            check_log_det(log_det, x, layer, f"layers.{index}")
            total = total + log_det
        return x, total

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        total = zero_log_det(z)
        for index, layer in reversed(list(enumerate(self, self._start))):
            z, log_det = layer.inverse(z, condition)
            check_log_det(log_det, z, layer, f"the inverse of layers.{index}")
            total = total + log_det
        return z, total

    def forward_terms(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Terms]:
        total: Terms = {}
        for index, layer in enumerate(self, self._start):
            x, terms = layer.forward_terms(x, condition)
            for name, log_det in terms.items():
                check_log_det(log_det, x, layer, f"layers.{index}")
                total[name] = total[name] + log_det if name in total else log_det
        return x, total

    def permute_index(self, labels: Tensor) -> Tensor:
        for layer in self:
            labels = layer.permute_index(labels)
        return labels

    def unpermute_index(self, labels: Tensor) -> Tensor:
        for layer in reversed(list(self)):
            labels = layer.unpermute_index(labels)
        return labels

    def outline(
        self, shape: tuple[int, ...], name: str
    ) -> Iterator[tuple[str, Bijection, tuple[int, ...]]]:
        for index, layer in enumerate(self):
            yield from layer.outline(shape, f"{name}.layers.{index}")
            shape = layer.output_shape(shape)

    def __iter__(self) -> Iterator[Bijection]:
        return iter(self.layers)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.layers)

    @overload
    def __getitem__(self, index: int) -> Bijection: ...

    @overload
    def __getitem__(self, index: slice) -> Chain: ...

    def __getitem__(self, index: int | slice) -> Bijection:
        if isinstance(index, slice):
            part = Chain(*list(self)[index])
            part._start = self._start + index.indices(len(self))[0]
            return part
        return self.layers[index]  # type: ignore[return-value]


class Inverse(Bijection):
    """The inverse of a bijection, as a bijection: its forward map is the inner one's inverse.

    Args:
        inner: the bijection to invert.

    >>> from realnvp.bijections import Affine
    >>> halve = Inverse(Affine(torch.zeros(2), torch.full((2,), 0.5)))
    >>> halve(torch.tensor([[4.0, 6.0]]))[0]
    tensor([[2., 3.]])
    """

    def __init__(self, inner: Bijection) -> None:
        super().__init__()
        self.inner = inner

    def extra_repr(self) -> str:
        return type(self.inner).__name__

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.inner.inverse(x, condition)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.inner(z, condition)

    def forward_terms(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Terms]:
        z, log_det = self(x, condition)
        return z, {self.inner.term: log_det}

    def permute_index(self, labels: Tensor) -> Tensor:
        return self.inner.unpermute_index(labels)

    def unpermute_index(self, labels: Tensor) -> Tensor:
        return self.inner.permute_index(labels)
