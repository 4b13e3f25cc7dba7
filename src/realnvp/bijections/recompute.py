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
from torch import Tensor, nn

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


Step = Bijection | tuple[Literal["split", "join"], FactorOut]
"""A layer, or one of the two ends of a factoring out."""


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
    steps = _flatten(bijection)
    terms: Terms = {}
    names = list(dict.fromkeys(_term(step) for step in steps if isinstance(step, Bijection)))
    parameters = _parameters(steps)
    z, *log_dets = _Recomputed.apply(steps, names, memory, x, condition, *parameters)
    for name, log_det in zip(names, log_dets, strict=True):
        terms[name] = terms[name] + log_det if name in terms else log_det
    return z, terms


def _parameters(steps: list[Step]) -> list[nn.Parameter]:
    """Return the parameters of all steps, each once."""
    parameters = [p for step in steps if isinstance(step, nn.Module) for p in step.parameters()]
    return list(dict.fromkeys(parameters))


def _flatten(bijection: Bijection) -> list[Step]:
    """Return the layers in the order of application, with no chain inside another."""
    if isinstance(bijection, Chain):
        return [step for layer in bijection for step in _flatten(layer)]
    if isinstance(bijection, FactorOut):
        return [("split", bijection), *_flatten(bijection.inner), ("join", bijection)]
    return [bijection]


def _term(step: Bijection) -> str:
    return step.inner.term if isinstance(step, Inverse) else step.term


def _norms(step: Bijection) -> list[RunningBatchNorm]:
    """Return the normalizations by running averages in a layer, which may be a layer of layers."""
    inside = () if isinstance(step, Coupling) else modules(step)  # networks have none
    return [each for each in inside if isinstance(each, RunningBatchNorm)]


def _keeps_input(step: Step, memory: Memory) -> bool:
    if not isinstance(step, Bijection):
        return False
    inner = step.inner if isinstance(step, Inverse) else step
    if isinstance(inner, Squeeze):
        return False
    return memory == "checkpoint" or not inner.has_analytic_inverse


class _Recomputed(torch.autograd.Function):
    """Apply all steps as one function, whose backward pass recomputes what it needs."""

    @staticmethod
    def forward(
        ctx: Any,
        steps: list[Step],
        names: list[str],
        memory: Memory,
        x: Tensor,
        condition: Tensor | None,
        *parameters: Tensor,
    ) -> tuple[Tensor, ...]:
        kept: list[Tensor] = []
        averages: list[list[tuple[Tensor, Tensor]]] = []
        aside: list[Tensor] = []
        log_dets: Terms = {}
        for step in steps:
            if not isinstance(step, Bijection):
                end, layer = step
                if end == "split":
                    out, x = layer.split(x)
                    aside.append(out)
                else:
                    x = torch.cat((aside.pop(), x), dim=1)
            else:
                if _keeps_input(step, memory):
                    kept.append(x)
                x, log_det = step(x, condition)
                check_log_det(log_det, x, step)
                # They are updated with the next batch.
                replays = [(n.running_mean.clone(), n.running_var.clone()) for n in _norms(step)]
                averages.append(replays)
                name = _term(step)
                log_dets[name] = log_dets[name] + log_det if name in log_dets else log_det
        ctx.steps, ctx.names, ctx.memory, ctx.averages = steps, names, memory, averages
        ctx.save_for_backward(x, condition, *kept)
        return x, *(log_dets[name].clone() for name in names)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "recomputing layers have no second derivatives (create_graph=True): "
                'set flow.memory = "standard"'
            )
        z, condition, *kept = ctx.saved_tensors
        grad, of_terms = grads[0], dict(zip(ctx.names, grads[1:], strict=True))
        grads_of_parameters: dict[nn.Parameter, Tensor] = {}
        of_condition: Tensor | None = None
        aside: list[tuple[Tensor, Tensor]] = []
        averages = list(ctx.averages)
        with recomputing():
            for step in reversed(ctx.steps):
                if not isinstance(step, Bijection):
                    end, layer = step
                    if end == "join":
                        (out, z), (grad_out, grad) = layer.split(z), layer.split(grad)
                        aside.append((out, grad_out))
                    else:
                        out, grad_out = aside.pop()
                        z, grad = torch.cat((out, z), dim=1), torch.cat((grad_out, grad), dim=1)
                    continue
                x = kept.pop() if _keeps_input(step, ctx.memory) else None
                context = None if condition is None else condition.detach()
                if context is not None and ctx.needs_input_grad[4]:
                    context.requires_grad_()
                norms = _norms(step)
                for norm, replayed in zip(norms, averages.pop(), strict=True):
                    norm.replayed = replayed
                z, grad, of_step = _backward_of(step, z, x, context, grad, of_terms[_term(step)])
                for norm in norms:
                    norm.replayed = None
                for parameter, value in of_step.items():
                    so_far = grads_of_parameters.get(parameter)
                    grads_of_parameters[parameter] = value if so_far is None else so_far + value
                if context is not None and (part := context.grad) is not None:
                    of_condition = part if of_condition is None else of_condition + part
        return (
            None,
            None,
            None,
            grad,
            of_condition,
            *(grads_of_parameters.get(p) for p in _parameters(ctx.steps)),
        )


def _backward_of(
    step: Bijection,
    z: Tensor,
    x: Tensor | None,
    condition: Tensor | None,
    grad_z: Tensor,
    grad_log_det: Tensor,
) -> tuple[Tensor, Tensor, dict[nn.Parameter, Tensor]]:
    """Return a layer's input, and the gradients of its input and parameters.

    The gradient of the condition, if it requires one, is left in ``condition.grad``.
    """
    parameters = [p for p in step.parameters() if p.requires_grad]
    if x is None and isinstance(step, Coupling):
        return _backward_of_coupling(step, z, condition, grad_z, grad_log_det, parameters)
    if x is None:
        with torch.no_grad():
            x, _ = step.inverse(z, condition)
    leaf = x.detach().requires_grad_()
    with torch.enable_grad():
        outputs = step(leaf, condition)
    grad_x, of_parameters = _gradients(outputs, (grad_z, grad_log_det), leaf, condition, parameters)
    return x.detach(), grad_x, of_parameters


def _backward_of_coupling(
    step: Coupling,
    z: Tensor,
    condition: Tensor | None,
    grad_z: Tensor,
    grad_log_det: Tensor,
    parameters: list[nn.Parameter],
) -> tuple[Tensor, Tensor, dict[nn.Parameter, Tensor]]:
    """Return the same for a coupling, with one evaluation of its conditioner for both."""
    leaf = z.detach().requires_grad_()
    with torch.enable_grad():
        passive, transformed = step.mask.split(leaf)
        raw = step.mask.take(step.conditioner(passive, condition))
        with torch.no_grad():
            inverted, log_det = step.inverse_transform(transformed, raw)
            x, _ = step.mask.merge(passive, inverted, log_det)
        active = inverted.detach().requires_grad_()
        outputs = step.mask.merge(passive, *step.transform(active, raw))
    # The leaf gets the gradient of the passive part only: the active one has its own.
    grad_leaf, of_parameters = _gradients(
        outputs, (grad_z, grad_log_det), leaf, condition, [*parameters, active]
    )
    grad_active = of_parameters.pop(active)
    grad_passive, _ = step.mask.split(grad_leaf)
    grad_x, _ = step.mask.merge(grad_passive, grad_active, torch.zeros_like(inverted))
    return x, grad_x, of_parameters


def _gradients(
    outputs: tuple[Tensor, Tensor],
    grads: tuple[Tensor, Tensor],
    leaf: Tensor,
    condition: Tensor | None,
    parameters: Sequence[Tensor],
) -> tuple[Tensor, dict[Any, Tensor]]:
    wanted = [leaf, *parameters]
    if condition is not None and condition.requires_grad:
        wanted.append(condition)
    pairs = [(o, g) for o, g in zip(outputs, grads, strict=True) if o.requires_grad]
    got = torch.autograd.grad(
        [o for o, _ in pairs], wanted, [g.to(o.dtype) for o, g in pairs], allow_unused=True
    )
    if condition is not None and condition.requires_grad:
        condition.grad, got = got[-1], got[:-1]
    grad_leaf = torch.zeros_like(leaf) if got[0] is None else got[0]
    return grad_leaf, {p: g for p, g in zip(parameters, got[1:], strict=True) if g is not None}
