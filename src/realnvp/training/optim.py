r"""Optimizers, the moving average of the weights, and the schedule of the learning rate.

Muon is written here because ``torch.optim.Muon`` does not support convolution kernels, and
orthogonalizes its matrices one by one, in bfloat16.
"""

from __future__ import annotations

import inspect
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from realnvp.conditioners import Conditioner
from realnvp.config import TrainingConfig
from realnvp.flow import Flow
from realnvp.utils.settings import resolved
from realnvp.utils.uncompiled import Uncompiled

RATIO = 4.0
"""Step of a matrix relative to the learning rate. Adam moves each weight by about the rate; an
orthogonal matrix of n columns has entries of 1 / sqrt(n), so wide layers move little."""


MOMENTUM = 0.95


def orthogonalize(matrices: Tensor, iterations: int = 5) -> Tensor:
    r"""Return roughly the nearest (semi-)orthogonal matrices: :math:`U \Sigma V^T \to U V^T`.

    Newton-Schulz iterations :math:`X \leftarrow a X + (b A + c A^2) X,\; A = X X^T` (Keller Jordan
    et al., "Muon: an optimizer for hidden layers in neural networks", 2024). The coefficients are
    chosen for speed: after five, singular values above 0.002 of the matrix's Frobenius norm are
    between 0.68 and 1.21, which is as good for a step; smaller ones have not converged.

    Args:
        matrices: ``(N, rows, columns)``, in the type in which to compute.
        iterations: number of iterations.

    >>> s = torch.linalg.svdvals(orthogonalize(torch.randn(2, 8, 24)))
    >>> bool((s > 0.5).all() and (s < 1.5).all())
    True
    """
    a, b, c = 3.4445, -4.7750, 2.0315  # take singular values of 0.01 to 1 to about 1 in five steps
    x = matrices / (torch.linalg.matrix_norm(matrices)[:, None, None] + 1e-7)
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Adam(Uncompiled, torch.optim.Adam):
    """PyTorch's Adam, uncompiled."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))


class AdamW(Uncompiled, torch.optim.AdamW):
    """PyTorch's AdamW, uncompiled."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


class Muon(Uncompiled):
    r"""Muon for the matrices inside networks, and Adam for everything else.

    .. math::
        m \leftarrow 0.95\, m + 0.05\, g, \qquad
        w \leftarrow w - 4\, \mathrm{lr} \sqrt{\max(1, \mathrm{rows} / \mathrm{columns})}\;
        \mathrm{orthogonalize}(0.05\, g + 0.95\, m)

    The gradient of a layer is dominated by few directions, and remains so under Adam, which
    rescales each weight separately. With nearly equal singular values, all directions are learned
    equally fast. A kernel ``(out, in, h, w)`` is a matrix of ``out`` rows. Matrices of one shape
    are orthogonalized together.

    Args:
        matrices: parameters of two or more dimensions, for Muon.
        others: all other parameters, for Adam.
        lr: learning rate of both; that of the matrices is four times as large.
        betas: Adam's moment decays.
        dtype: type in which to orthogonalize; None is that of the matrices. bfloat16 is precise
            enough, and faster where it is native.

    >>> weight, bias = torch.nn.Parameter(torch.zeros(2, 3)), torch.nn.Parameter(torch.zeros(2))
    >>> optimizer = Muon([weight], [bias], lr=0.5)
    >>> (weight.sum() + bias.sum()).backward()
    >>> optimizer.step()
    >>> bool(1 < torch.linalg.matrix_norm(weight, 2) < 3), bias
    (True, Parameter containing:
    tensor([-0.5000, -0.5000], requires_grad=True))
    """

    def __init__(
        self,
        matrices: Iterable[Tensor],
        others: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        dtype: torch.dtype | None = None,
    ) -> None:
        groups: list[dict[str, Any]] = [
            {"params": list(others), "orthogonal": False},
            {"params": list(matrices), "orthogonal": True},
        ]
        groups = [group for group in groups if group["params"]]
        self._adam = Adam([p for g in groups for p in g["params"]], lr, betas, fused=True)
        super().__init__(groups, self._adam.defaults)
        self.orthogonal_dtype = dtype

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take one step of both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._adam.state = self.state
        self._adam.param_groups = [group for group in self.param_groups if not group["orthogonal"]]
        self._adam.step()
        for group in self.param_groups:
            if group["orthogonal"]:
                self._step_matrices(group)
        return loss

    def _step_matrices(self, group: dict[str, Any]) -> None:
        updates: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for weight in group["params"]:
            if weight.grad is None:
                continue
            state = self.state[weight]
            if not state:
                state["exp_avg"] = torch.zeros_like(weight)
            state["exp_avg"].lerp_(weight.grad, 1 - MOMENTUM)
            update = weight.grad.lerp(state["exp_avg"], MOMENTUM).flatten(1)
            updates[update.shape[0], update.shape[1]].append((weight, update))
        for (rows, columns), pairs in updates.items():
            stack = torch.stack([update for _, update in pairs])
            stack = stack.to(self.orthogonal_dtype or stack.dtype)
            size = RATIO * group["lr"] * max(1.0, rows / columns) ** 0.5
            for (weight, _), step in zip(pairs, orthogonalize(stack), strict=True):
                weight.sub_(step.to(weight.dtype).view_as(weight), alpha=size)


class EMA:
    r"""Exponential moving average (EMA) of the weights and of the running statistics.

    .. math:: \bar\theta \leftarrow d\,\bar\theta + (1 - d)\,\theta, \qquad
        d = \min(\mathrm{decay}, (1 + t) / (10 + t))

    with a shorter memory in the first steps :math:`t`, whose weights are soon outdated. Running
    statistics are averaged too: those of the newest weights would not fit the averaged weights.

    Args:
        model: model whose tensors are averaged, and swapped by :meth:`applied`.
        decay: decay per step; with 0, the average equals the model's weights.

    Attributes:
        average: averages by name.
        updates: number of updates.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        tensors = {n: t for n, t in model.state_dict().items() if t.is_floating_point()}
        self._model = tensors
        self.average = {name: tensor.clone() for name, tensor in tensors.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Add the model's current weights to the average."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.updates else 0.0
        averages, tensors = list(self.average.values()), list(self._model.values())
        torch._foreach_lerp_(averages, tensors, 1 - decay)
        self.updates += 1

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the model the averaged weights inside this context."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, mine in self.average.items():
            tensor = self._model[name]
            before = tensor.clone()
            tensor.copy_(mine)
            mine.copy_(before)


def make_optimizer(flow: Flow, config: TrainingConfig) -> torch.optim.Optimizer:
    """Return Muon, Adam or AdamW. Weight decay acts on matrices and kernels only.

    Muon orthogonalizes in the type in which the conditioners compute.
    """
    if config.optimizer == "muon":
        conditioners = [m for m in flow.modules() if isinstance(m, Conditioner)]
        matrices = [weight for conditioner in conditioners for weight in conditioner.matrices()]
        orthogonal = {id(weight) for weight in matrices}
        others = [p for p in flow.parameters() if id(p) not in orthogonal]
        dtype = next((m.compute_dtype for m in conditioners), None)
        return Muon(matrices, others, resolved(config.lr), config.betas, dtype)
    weights = [p for p in flow.parameters() if p.ndim > 1]
    others = [p for p in flow.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": weights, "weight_decay": resolved(config.weight_decay)},
        {"params": others, "weight_decay": 0.0},
    ]
    kind = AdamW if config.optimizer == "adamw" else Adam
    return kind(groups, lr=resolved(config.lr), betas=config.betas, fused=True)


def learning_rate(config: TrainingConfig, step: int, progress: float) -> float:
    """Return the learning rate: warm-up by steps, then decay over the end of the budget.

    Args:
        config: training settings.
        step: index of the step.
        progress: fraction of the budget that is used, in [0, 1].
    """
    rise = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    done = max(0.0, (progress - (1 - config.decay_fraction)) / config.decay_fraction)
    fall = {
        "constant": 1.0,
        "linear": 1 - done,
        "cosine": 0.5 * (1 + math.cos(math.pi * min(done, 1.0))),
    }[config.decay]
    return resolved(config.lr) * rise * fall
