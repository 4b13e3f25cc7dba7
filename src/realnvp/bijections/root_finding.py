r"""Root finding: inverses of increasing elementwise maps that have none in closed form.

:func:`find_root` solves :math:`g(x_i; \theta_i) = y_i` for many elements in parallel. The bracket
of each is exact, and shrinks with every evaluation. Within it, a step is Halley's (Newton's, with
the curvature of the map), which triples the number of correct digits near the root; where it leaves
the bracket, or is more than half as long as the previous step, the bracket is bisected instead, so
that the number of evaluations is bounded for any map. Elements that are done are removed from the
batch: only the unfinished ones cost time.

:func:`implicit_inverse` makes the root differentiable, to any order, by the implicit function
theorem: from :math:`g(x; \theta) = y`,

.. math::
    \frac{\partial x}{\partial y} = \frac{1}{g'(x; \theta)}, \qquad
    \frac{\partial x}{\partial \theta} =
    -\frac{1}{g'(x; \theta)} \frac{\partial g(x; \theta)}{\partial \theta}.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from realnvp.utils.tracing import is_transformed

__all__ = ["MAX_ITERATIONS", "find_root", "implicit_inverse"]

MAX_ITERATIONS = 200
"""Bound on the number of evaluations; it is never reached, since the bracket is a single number
earlier."""

COMPACT = 0.7
"""Fraction of unfinished elements below which the finished ones are removed from the batch."""

Evaluate = Callable[..., tuple[Tensor, Tensor, Tensor]]
"""``x, *parameters`` -> the map, its derivative, and the derivative's logarithmic derivative."""


@torch.no_grad()
def find_root(
    function: Evaluate,
    target: Tensor,
    low: Tensor,
    high: Tensor,
    start: Tensor,
    parameters: Sequence[Tensor] = (),
    *,
    far: Evaluate | None = None,
    far_parameters: Sequence[Tensor] = (),
    limit: float = math.inf,
) -> Tensor:
    r"""Solve ``function(x, *parameters) == target`` for every element.

    Args:
        function: an increasing map :math:`g` of ``x (N,)`` and the parameters; returns
            :math:`g`, :math:`g'` and :math:`g'' / g'`, each ``(N,)``. Values that are not finite
            are bisected.
        target: ``(N,)``.
        low: lower end of the bracket, ``(N,)``.
        high: upper end of the bracket, ``(N,)``.
        start: first guess, ``(N,)``; clamped to the bracket.
        parameters: tensors ``(..., N)`` whose last axis is over the elements.
        far: the same map, exact but slow, for targets whose magnitude is above ``limit``.
        far_parameters: its parameters, tensors ``(..., N)``.
        limit: largest magnitude of the targets of ``function``.

    Returns:
        ``(N,)``: the roots, to the precision of the type. An element whose bracket is empty or not
        finite gets its lower end.

    >>> cube = lambda x: (x**3, 3 * x**2, 2 / x)
    >>> y = torch.tensor([8.0, 27.0])
    >>> find_root(cube, y, torch.zeros(2), y, start=y)
    tensor([2., 3.])
    """
    beyond = target.abs() > limit
    if far is not None and not torch.compiler.is_compiling() and beyond.any():
        roots = torch.empty_like(target)
        for where, form, values in (
            (~beyond, function, parameters),
            (beyond, far, far_parameters),
        ):
            problem = target[where], low[where], high[where], start[where]
            roots[where] = find_root(form, *problem, [p[..., where] for p in values])
        return roots
    root = torch.where(high > low, torch.minimum(torch.maximum(start, low), high), low)
    if torch.compiler.is_compiling():
        if far is not None:
            function, parameters = far, far_parameters
        return _find_root_in_graph(function, target, low, high, root, parameters)
    index = (high > low).nonzero()[:, 0]  # the elements of the batch
    x, target, low, high, *parameters = _take(index, root, target, low, high, *parameters)
    last = torch.full_like(x, torch.inf)  # length of the last step
    done = torch.zeros_like(x, dtype=torch.bool)
    for _ in range(MAX_ITERATIONS):
        if not len(index):
            break
        x, low, high, last, done = _step(function, target, parameters, x, low, high, last, done)
        remaining = int((~done).count_nonzero())
        if remaining < COMPACT * len(x):
            root[index] = x
            keep = (~done).nonzero()[:, 0]
            index, x, target, low, high, last, done, *parameters = _take(
                keep, index, x, target, low, high, last, done, *parameters
            )
    root[index] = x
    return root


def _step(
    function: Evaluate,
    target: Tensor,
    parameters: Sequence[Tensor],
    x: Tensor,
    low: Tensor,
    high: Tensor,
    last: Tensor,
    done: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the next ``x``, its bracket, the length of the step, and which elements are done."""
    eps = torch.finfo(target.dtype).eps
    size = 1 + target.abs()
    value, slope, curvature = function(x, *parameters)
    error = value - target
    low, high = torch.where(error < 0, x, low), torch.where(error > 0, x, high)
    newton = error / slope
    bend = newton * curvature
    halley = x - newton / (1 - 0.5 * bend).clamp(0.5, 2.0)
    middle = low + 0.5 * (high - low)
    # The remaining error is about the error times bend^2, and the third power of the error.
    left = error.abs() * bend.square().clamp(max=1.0)
    near = (error.abs() <= eps**0.5 * size) & (left <= eps * size)
    length = (halley - x).abs()
    inside = (low < halley) & (halley < high) & (2 * length <= last)
    within = torch.minimum(torch.maximum(halley, low), high)
    new = torch.where(inside, halley, torch.where(near, within, middle))
    last = torch.where(inside, length, 0.5 * (high - low))
    done = done | near | ~(new != x) | ~((low < middle) & (middle < high))
    return new, low, high, last, done


def _find_root_in_graph(
    function: Evaluate,
    target: Tensor,
    low: Tensor,
    high: Tensor,
    root: Tensor,
    parameters: Sequence[Tensor],
) -> Tensor:
    """Search as a loop of an exported graph, which cannot drop the elements that are done."""
    from torch._higher_order_ops import while_loop  # takes seconds to import

    def is_open(x: Tensor, low: Tensor, high: Tensor, last: Tensor, done: Tensor) -> Tensor:
        return ~done.all()

    def step(
        x: Tensor, low: Tensor, high: Tensor, last: Tensor, done: Tensor
    ) -> tuple[Tensor, ...]:
        new, *state = _step(function, target, parameters, x, low, high, last, done)
        return torch.where(done, x, new), *state

    start = (root, low, high, torch.full_like(root, torch.inf), ~(high > low))
    return while_loop(is_open, step, start)[0]


def _take(index: Tensor, *tensors: Tensor) -> list[Tensor]:
    """Return some elements of tensors ``(..., N)``."""
    return [tensor.index_select(-1, index) for tensor in tensors]


def implicit_inverse(
    forward: Callable[..., tuple[Tensor, Tensor]],
    solve: Callable[..., Tensor],
    y: Tensor,
    parameters: tuple[Tensor, ...],
) -> Tensor:
    """Return ``solve(y, *parameters)`` with the gradients of an inverse, of any order.

    In a transform of ``torch.func``, derivatives are exact up to the third.

    Args:
        forward: the map, differentiable: ``x, *parameters`` -> its value and the logarithm of its
            derivative, elementwise.
        solve: the search for ``x``, whose operations need no gradients.
        y: value of the map.
        parameters: parameters of the map.

    >>> cube = lambda x, a: (a * x**3, (3 * a * x**2).log())
    >>> y, a = torch.tensor([16.0], requires_grad=True), torch.tensor([2.0], requires_grad=True)
    >>> x = implicit_inverse(cube, lambda y, a: (y / a) ** (1 / 3), y, (a,))
    >>> torch.autograd.grad(x, (y, a))  # 1 / (3 a x^2), and -x / (3 a)
    (tensor([0.0417]), tensor([-0.3333]))
    """
    if not is_transformed():
        return _Implicit.apply(forward, solve, y, *parameters)
    x = _Search.apply(solve, y.detach(), *(p.detach() for p in parameters))
    # From a root without derivatives, steps of Newton's method give the first, then two more.
    for _ in range(2):
        value, log_slope = forward(x, *parameters)
        x = x + (y - value) * torch.exp(-log_slope)
    return x


class _Search(torch.autograd.Function):
    """A search as a function that ``vmap`` takes: its batch is one more axis of the elements."""

    @staticmethod
    def forward(solve: Callable[..., Tensor], y: Tensor, *parameters: Tensor) -> Tensor:
        return solve(y, *parameters)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], solve: Callable[..., Tensor], *tensors: Tensor
    ) -> tuple[Tensor, int]:
        moved = [
            t.unsqueeze(-1).expand(*t.shape, info.batch_size) if dim is None else t.movedim(dim, -1)
            for t, dim in zip(tensors, in_dims[1:], strict=True)
        ]
        return _Search.apply(solve, *moved), -1


class _Implicit(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        forward: Callable[..., tuple[Tensor, Tensor]],
        solve: Callable[..., Tensor],
        y: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        x = solve(y, *parameters)
        ctx.map = forward
        ctx.save_for_backward(x, *parameters)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *parameters = ctx.saved_tensors
        second = torch.is_grad_enabled()  # these gradients will be differentiated themselves
        with torch.enable_grad():
            # Partial derivatives: x depends on the parameters as well, but not on these aliases.
            aliases = [p.view_as(p) for p in parameters]
            value, log_slope = ctx.map(x if second else x.detach(), *aliases)
        grad_y = grad * torch.exp(-log_slope)
        wanted = [a for a, need in zip(aliases, ctx.needs_input_grad[3:], strict=True) if need]
        gradients: Iterator[Tensor] = iter(
            torch.autograd.grad(value, wanted, -grad_y, create_graph=second) if wanted else ()
        )
        rest = (next(gradients) if need else None for need in ctx.needs_input_grad[3:])
        return None, None, grad_y, *rest
