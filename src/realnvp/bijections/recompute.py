r"""Training in less memory: activations are recomputed in the backward pass instead of kept.

Autograd keeps every activation of every conditioner, so memory grows with depth. But a flow's
layers are invertible: the input of each can be computed from its output, so nothing has to be kept
at all (as in RevNets, arXiv 1707.04585). The backward pass walks the layers from last to first;
each computes its input from its output and is run again for its gradients. A coupling's conditioner
reads the passive part, which the coupling leaves unchanged: one evaluation serves both.

- "standard" keeps everything.
- "checkpoint" keeps the input of each layer, which is small compared with a conditioner's
  activations.
- "invertible" keeps the output of the last layer only. Layers whose inverse is a search (mixtures)
  still keep their input.

Gradients are as with "standard", up to rounding. Statistics are updated once per batch, in the
forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from realnvp.bijections import (
    Bijection,
    Chain,
    Coupling,
    FactorOut,
    Inverse,
    RunningBatchNorm,
    Squeeze,
)
from realnvp.bijections.base import Terms, check_log_det
from realnvp.bijections.normalization import recomputing
from realnvp.utils.evaluation_mode import modules

__all__ = ["Memory", "forward_terms"]

Memory = Literal["standard", "checkpoint", "invertible"]


def forward_terms(
    bijection: Bijection, x: Tensor, condition: Tensor | None, memory: Memory
) -> tuple[Tensor, Terms]:
    """Compute :meth:`Bijection.forward_terms`, and keep less for the backward pass.

    Args:
        bijection: bijection of a flow.
        x: data ``(B, ...)``.
        condition: condition ``(B, K)``, or None.
        memory: what to keep: "standard", "checkpoint" or "invertible".

    >>> from realnvp.builders import vector_flow
    >>> flow = vector_flow(4, couplings=2, norm="act")
    >>> z, terms = forward_terms(flow.bijection, torch.randn(3, 4), None, "invertible")
    >>> z.shape, sorted(terms)
    (torch.Size([3, 4]), ['coupling', 'norm', 'preprocessing'])
    """
    if memory == "standard" or not torch.is_grad_enabled():
        return bijection.forward_terms(x, condition)
    walk = _Walk(memory)
    z, *log_dets = _Recomputed.apply(bijection, walk, x, condition, *bijection.parameters())
    return z, dict(zip(walk.terms, log_dets, strict=True))


class _Walk:
    """A pass through the layers of a bijection, inside chains and factoring out, and back.

    Args:
        memory: what to keep.

    Attributes:
        kept: inputs of layers that keep theirs.
        averages: running averages of the normalizations of each layer.
        terms: log-determinants by kind; in the backward pass, their gradients.
        condition: the condition, which in the backward pass is a leaf.
        gradients: gradients of parameters and of the condition.
    """

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.kept: list[Tensor] = []
        self.averages: list[list[tuple[Tensor, Tensor]]] = []
        self.terms: Terms = {}
        self.condition: Tensor | None = None
        self.gradients: dict[Tensor, Tensor] = {}

    def forward(self, layer: Bijection, x: Tensor) -> Tensor:
        """Map data to latents, and keep what the way back needs."""
        if isinstance(layer, Chain):
            for inner in layer:
                x = self.forward(inner, x)
            return x
        if isinstance(layer, FactorOut):
            out, rest = layer.split(x)
            return torch.cat((out, self.forward(layer.inner, rest)), dim=1)
        if self._keeps_input(layer):
            self.kept.append(x)
        z, log_det = layer(x, self.condition)
        check_log_det(log_det, x, layer)
        # They are updated with the next batch.
        self.averages.append(
            [(n.running_mean.clone(), n.running_var.clone()) for n in _norms(layer)]
        )
        name = _term(layer)
        self.terms[name] = self.terms[name] + log_det if name in self.terms else log_det
        return z

    def backward(self, layer: Bijection, z: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Return the input and its gradient, given the output and its gradient."""
        if isinstance(layer, Chain):
            for inner in reversed(list(layer)):
                z, grad = self.backward(inner, z, grad)
            return z, grad
        if isinstance(layer, FactorOut):
            (out, rest), (grad_out, grad_rest) = layer.split(z), layer.split(grad)
            rest, grad_rest = self.backward(layer.inner, rest, grad_rest)
            return torch.cat((out, rest), dim=1), torch.cat((grad_out, grad_rest), dim=1)
        norms, grads = _norms(layer), (grad, self.terms[_term(layer)])
        for norm, averages in zip(norms, self.averages.pop(), strict=True):
            norm.replayed = averages
        if self._keeps_input(layer):
            x, grad = self._backward_from(layer, self.kept.pop(), grads)
        elif isinstance(layer, Coupling):
            x, grad = self._backward_of_coupling(layer, z, grads)
        else:
            with torch.no_grad():
                x, _ = layer.inverse(z, self.condition)
            x, grad = self._backward_from(layer, x, grads)
        for norm in norms:
            norm.replayed = None
        return x, grad

    def _keeps_input(self, layer: Bijection) -> bool:
        inner = layer.inner if isinstance(layer, Inverse) else layer
        if isinstance(inner, Squeeze):
            return False
        return self.memory == "checkpoint" or not inner.has_analytic_inverse

    def _backward_from(
        self, layer: Bijection, x: Tensor, grads: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return the input of a layer, which is known, with its gradient."""
        leaf = x.detach().requires_grad_()
        with torch.enable_grad():
            outputs = layer(leaf, self.condition)
        [grad] = self._gradients(layer, outputs, grads, leaf)
        return x.detach(), grad

    def _backward_of_coupling(
        self, layer: Coupling, z: Tensor, grads: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return the input of a coupling and its gradient, by one evaluation of the conditioner."""
        leaf = z.detach().requires_grad_()
        with torch.enable_grad():
            passive, transformed = layer.mask.split(leaf)
            parameters = layer.compute_parameters(passive, self.condition)
            with torch.no_grad():
                inverted, log_det = layer.inverse_transform(transformed, parameters)
                x, _ = layer.mask.merge(passive, inverted, log_det)
            active = inverted.detach().requires_grad_()
            outputs = layer.mask.merge(passive, *layer.transform(active, parameters))
        # The leaf gets the gradient of the passive part only: the active one has its own.
        grad_leaf, grad_active = self._gradients(layer, outputs, grads, leaf, active)
        grad_passive, _ = layer.mask.split(grad_leaf)
        return x, layer.mask.merge(grad_passive, grad_active, torch.zeros_like(inverted))[0]

    def _gradients(
        self, layer: Bijection, outputs: Sequence[Tensor], grads: Sequence[Tensor], *leaves: Tensor
    ) -> list[Tensor]:
        """Return the gradients of the leaves, and add those of the parameters and the condition."""
        others: list[Tensor] = [p for p in layer.parameters() if p.requires_grad]
        if self.condition is not None and self.condition.requires_grad:
            others.append(self.condition)
        pairs = [(o, g.to(o.dtype)) for o, g in zip(outputs, grads, strict=True) if o.requires_grad]
        differentiable, weights = zip(*pairs, strict=True)
        gradients = torch.autograd.grad(
            differentiable, [*leaves, *others], weights, allow_unused=True
        )
        for tensor, gradient in zip(others, gradients[len(leaves) :], strict=True):
            if gradient is not None:
                before = self.gradients.get(tensor)
                self.gradients[tensor] = gradient if before is None else before + gradient
        return [
            torch.zeros_like(leaf) if gradient is None else gradient
            for leaf, gradient in zip(leaves, gradients, strict=False)
        ]


def _term(layer: Bijection) -> str:
    return layer.inner.term if isinstance(layer, Inverse) else layer.term


def _norms(layer: Bijection) -> list[RunningBatchNorm]:
    """Return the normalizations by running averages in a layer, which may be a layer of layers."""
    inside = () if isinstance(layer, Coupling) else modules(layer)  # networks have none
    return [each for each in inside if isinstance(each, RunningBatchNorm)]


class _Recomputed(torch.autograd.Function):
    """Apply all layers as one function, whose backward pass recomputes what it needs."""

    @staticmethod
    def forward(
        ctx: Any,
        bijection: Bijection,
        walk: _Walk,
        x: Tensor,
        condition: Tensor | None,
        *parameters: Tensor,
    ) -> tuple[Tensor, ...]:
        walk.condition = condition
        z = walk.forward(bijection, x)
        ctx.bijection, ctx.memory, ctx.averages = bijection, walk.memory, walk.averages
        ctx.names = list(walk.terms)
        ctx.save_for_backward(z, condition, *walk.kept)
        return z, *(log_det.clone() for log_det in walk.terms.values())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "recomputing layers have no second derivatives (create_graph=True): "
                'set flow.memory = "standard"'
            )
        walk = _Walk(ctx.memory)
        z, condition, *walk.kept = ctx.saved_tensors
        walk.averages = list(ctx.averages)
        walk.terms = dict(zip(ctx.names, grads[1:], strict=True))
        if condition is not None:
            walk.condition = condition.detach().requires_grad_(ctx.needs_input_grad[3])
        with recomputing():
            _, grad = walk.backward(ctx.bijection, z, grads[0])
        of_condition = None if walk.condition is None else walk.gradients.get(walk.condition)
        of_parameters = (walk.gradients.get(p) for p in ctx.bijection.parameters())
        return None, None, grad, of_condition, *of_parameters
