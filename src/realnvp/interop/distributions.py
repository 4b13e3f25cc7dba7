r"""Flows as distributions and transforms of :mod:`torch.distributions`, for Pyro, zuko and others.

>>> import realnvp
>>> moons = realnvp.interop.FlowDistribution(realnvp.load("moons"))
>>> x = moons.rsample((3,))  # with gradients
>>> x.shape, moons.log_prob(x).shape
(torch.Size([3, 2]), torch.Size([3]))
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Transform, constraints
from torch.distributions.transforms import _InverseTransform

from realnvp.bijections import DomainMap
from realnvp.columns.layer import TableColumns
from realnvp.flow import Flow

__all__ = ["FlowDistribution", "FlowTransform"]


def _batch_shape(flow: Flow, condition: Tensor | None) -> torch.Size:
    """Return the shape of the batch of a condition: labels ``(...)``, or vectors ``(..., K)``."""
    if condition is not None and not isinstance(condition, Tensor):
        raise ValueError(f"a condition is a tensor, got {type(condition).__name__}")
    if condition is None:
        if flow.condition_dim and flow.classes is None:
            raise ValueError(f"this flow is conditional: pass vectors (..., {flow.condition_dim})")
        return torch.Size()
    labels = flow.classes is not None and not condition.is_floating_point()
    if flow.condition_dim and not labels and condition.shape[-1:] != (flow.condition_dim,):
        raise ValueError(
            f"conditions have the shape (..., {flow.condition_dim}), got {tuple(condition.shape)}"
        )
    shape = condition.shape if labels else condition.shape[:-1]
    flow.as_condition(_flat(condition, shape), shape.numel())  # checks it
    return shape


def _flat(condition: Tensor, batch: torch.Size) -> Tensor:
    return condition.reshape(batch.numel(), *condition.shape[len(batch) :])


def _spread(condition: Tensor | None, batch: torch.Size, leading: torch.Size) -> Tensor | None:
    """Return conditions of the shape ``batch`` for a flat batch of a larger shape."""
    if condition is None:
        return None
    return _flat(condition.expand(*leading, *condition.shape[len(batch) :]), leading)


class _PossibleRows(constraints.Constraint):
    """Rows that have a density: of a table, categories by index and NaN for missing values.

    Args:
        layer: first layer of the flow.
    """

    event_dim = 1

    def __init__(self, layer: TableColumns | DomainMap) -> None:
        self.layer, self.is_discrete = layer, layer.noisy
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        flat = value.reshape(-1, value.shape[-1])
        return self.layer.possible(flat).all(1).reshape(value.shape[:-1])


def _support(flow: Flow) -> constraints.Constraint:
    """Return which values a flow models."""
    layer = flow.dequantization
    if isinstance(layer, TableColumns | DomainMap):
        return _PossibleRows(layer)
    one: Any = constraints.real
    if flow.levels is not None:
        one = constraints.integer_interval(0, flow.levels - 1)
    return constraints.independent(one, len(flow.shape))


def _check_event(value: Tensor, event: tuple[int, ...]) -> None:
    """Raise ValueError unless values have the event shape at the end of theirs."""
    if tuple(value.shape[max(0, value.ndim - len(event)) :]) != tuple(event):
        sizes = ", ".join(map(str, event))
        raise ValueError(f"values have the shape (..., {sizes}), got {tuple(value.shape)}")


class FlowDistribution(Distribution):
    r"""The density of a flow as a distribution of PyTorch.

    Gradients reach the flow's parameters, the condition and the samples; as everywhere but in
    ``loss_terms``, the flow computes in evaluation mode. Images are integers: they have no
    :meth:`rsample`, and their log-probability is one draw of the dequantization bound.

    Args:
        flow: the flow; ``event_shape`` is its shape.
        condition: labels ``(...)`` of a class-conditional flow, which are marginalized if left out,
            or vectors ``(..., K)``; ``batch_shape`` is the shape without K.
        validate_args: whether values outside of :attr:`support` are refused; else an impossible
            row has minus infinity. By default, as for all of PyTorch's distributions.

    Raises:
        ValueError: if the condition is not what the flow takes.

    >>> from realnvp import vector_flow
    >>> p = FlowDistribution(vector_flow(2, condition_dim=1), torch.zeros(4, 1))
    >>> p.batch_shape, p.event_shape, p.sample((3,)).shape
    (torch.Size([4]), torch.Size([2]), torch.Size([3, 4, 2]))
    >>> p.log_prob(torch.zeros(2)).shape
    torch.Size([4])
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012 -- as in the base class

    def __init__(
        self, flow: Flow, condition: Tensor | None = None, validate_args: bool | None = None
    ) -> None:
        self.flow, self.condition = flow, condition
        self.has_rsample = not flow.noisy
        batch = _batch_shape(flow, condition)
        super().__init__(batch, torch.Size(flow.shape), validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """Integers below the grey levels, possible rows, or all real numbers."""
        return _support(self.flow)

    def expand(self, batch_shape: Any, _instance: Any = None) -> FlowDistribution:
        """Return the distribution with a larger batch shape, without copying."""
        batch = torch.Size(batch_shape)
        condition = self.condition
        if condition is not None:
            condition = condition.expand(*batch, *condition.shape[len(self.batch_shape) :])
        new = self._get_checked_instance(FlowDistribution, _instance)
        new.flow, new.condition, new.has_rsample = self.flow, condition, self.has_rsample
        Distribution.__init__(new, batch, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draw samples ``(*sample_shape, *batch_shape, *event_shape)``, differentiable.

        Raises:
            NotImplementedError: if the flow models integers: use :meth:`sample`.
        """
        if not self.has_rsample:
            raise NotImplementedError("samples of integers have no gradients: use sample()")
        return self._draw(sample_shape)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw samples ``(*sample_shape, *batch_shape, *event_shape)``."""
        with torch.no_grad():
            return self._draw(sample_shape)

    def sample_and_log_prob(self, sample_shape: Any = ()) -> tuple[Tensor, Tensor]:
        """Draw samples with their log-densities; see :meth:`realnvp.Flow.sample_and_log_prob`."""
        with torch.no_grad():
            return self.rsample_and_log_prob(sample_shape)

    def rsample_and_log_prob(self, sample_shape: Any = ()) -> tuple[Tensor, Tensor]:
        """Draw samples with their log-densities in one inverse pass, differentiable.

        Returns:
            ``(*sample_shape, *batch_shape, *event_shape)``, and log-densities without the event.

        Raises:
            ValueError: if the flow models discrete values, or labels were left out.
        """
        shape, leading, z = self._latents(sample_shape)
        x, log_prob = self.flow.push_forward(z, self._condition(leading))
        return x.reshape(shape), log_prob.reshape(leading)

    @property
    def transform(self) -> Transform:
        """The map from data to latents, with ``call_and_ladj`` and ``inv``, as in zuko."""
        return FlowTransform(self.flow, self.condition).inv

    def _latents(self, sample_shape: Any) -> tuple[torch.Size, torch.Size, Tensor]:
        """Return the shape of samples, without the event too, and a flat batch of latents."""
        flow, shape = self.flow, self._extended_shape(torch.Size(sample_shape))
        leading = shape[: len(shape) - len(flow.shape)]
        z = torch.randn(leading.numel(), *flow.shape, dtype=flow.dtype, device=flow.device)
        return shape, leading, z

    def _draw(self, sample_shape: Any) -> Tensor:
        flow = self.flow
        shape, leading, z = self._latents(sample_shape)
        if self.condition is None and flow.classes is not None:
            condition: Tensor | None = torch.randint(flow.classes, (len(z),), device=flow.device)
        else:
            condition = self._condition(leading)
        return flow.decode(z, condition).reshape(shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log-densities in nats: ``(..., *event_shape) -> (...)``, broadcast to the batch.

        Raises:
            ValueError: if the values are not what the flow models.
        """
        if self._validate_args:
            self._validate_sample(value)
        at = value.ndim - len(self.event_shape)
        _check_event(value, self.event_shape)  # expand() would broadcast it
        leading = torch.broadcast_shapes(value.shape[:at], self.batch_shape)
        x = value.expand(*leading, *self.event_shape).reshape(-1, *self.event_shape)
        return self.flow.log_prob(x, self._condition(leading)).reshape(leading)

    def _condition(self, leading: torch.Size) -> Tensor | None:
        """Return the condition of a flat batch."""
        return _spread(self.condition, self.batch_shape, leading)


class _FromData(_InverseTransform):
    """The map from data to latents, the inverse of a :class:`FlowTransform`."""

    def __init__(self, transform: FlowTransform) -> None:
        super().__init__(transform)
        self._encoded = transform._encoded

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return latents and the log-determinants of the map to them, in one pass."""
        return self._encoded(x)


class FlowTransform(Transform):
    r"""The map from latents to data as a transform of PyTorch, for a base distribution of any kind.

    ``inv`` is the map from data to latents. Both have ``call_and_ladj``, as in zuko, which
    returns the value and the log-determinant of one pass.

    Args:
        flow: a flow of continuous data.
        condition: labels ``(...)`` or vectors ``(..., K)`` if the flow is conditional; values
            ``(..., *shape)`` are broadcast with them.
        cache_size: 1 remembers the last input with its output, whose inverse is then exact.

    Raises:
        ValueError: if the flow dequantizes, or the condition is not what it takes.

    >>> from realnvp import vector_flow
    >>> from torch.distributions import Independent, Laplace, TransformedDistribution
    >>> base = Independent(Laplace(torch.zeros(2), torch.ones(2)), 1)
    >>> heavy = TransformedDistribution(base, [FlowTransform(vector_flow(2), cache_size=1)])
    >>> heavy.log_prob(heavy.rsample((7,))).shape
    torch.Size([7])
    """

    bijective = True
    sign = +1

    def __init__(self, flow: Flow, condition: Tensor | None = None, cache_size: int = 0) -> None:
        super().__init__(cache_size=cache_size)
        if flow.noisy:
            raise ValueError("a flow of integers is not a bijection of real numbers: it adds noise")
        if condition is None and flow.condition_dim:
            raise ValueError("this flow is conditional: pass a condition")
        self.flow, self.condition = flow, condition
        self._batch = _batch_shape(flow, condition)
        self.domain = constraints.independent(constraints.real, len(flow.shape))
        self.codomain = _support(flow)

    @property
    def inv(self) -> Transform:
        """The map from data to latents."""
        return _FromData(self)

    def with_cache(self, cache_size: int = 1) -> FlowTransform:
        return FlowTransform(self.flow, self.condition, cache_size)

    def forward_shape(self, shape: torch.Size) -> torch.Size:
        leading = torch.Size(shape)[: len(shape) - len(self.flow.shape)]
        return torch.broadcast_shapes(leading, self._batch) + torch.Size(self.flow.shape)

    inverse_shape = forward_shape

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return data and the log-determinants of the map to them, in one pass."""
        return self._apply(self.flow.decode_and_log_det, x)

    def _call(self, x: Tensor) -> Tensor:
        return self.call_and_ladj(x)[0]

    def _inverse(self, y: Tensor) -> Tensor:
        return self._encoded(y)[0]

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the log-determinant of the map from latents to data, ``(...)``."""
        return -self._encoded(y)[1]

    def _encoded(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return latents and log-determinants of data."""

        def encode(x: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
            with self.flow.evaluating():
                context = self.flow.as_condition(condition, len(x))
                return self.flow.latents_and_log_det(x, context)

        return self._apply(encode, y)

    def _apply(self, function: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        """Apply a map of a flat batch and its conditions to values ``(..., *shape)``."""
        _check_event(x, self.flow.shape)
        shape = self.forward_shape(x.shape)
        leading = shape[: len(shape) - len(self.flow.shape)]
        flat = x.expand(shape).reshape(-1, *self.flow.shape)
        y, log_det = function(flat, _spread(self.condition, self._batch, leading))
        return y.reshape(shape), log_det.reshape(leading)
