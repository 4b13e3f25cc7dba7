r"""A class-conditional flow is a classifier, by Bayes' rule:

.. math:: p(y | x) = \frac{p(x | y) p(y)}{\sum_{y'} p(x | y') p(y')}.
"""

from __future__ import annotations

import torch
from torch import Tensor

from realnvp.data import Split
from realnvp.models import Flow

__all__ = ["accuracy", "class_log_probs"]


@torch.no_grad()
def class_log_probs(flow: Flow, x: Tensor, seed: int = 0) -> Tensor:
    """``log p(x | y)`` of every class, in nats, with the same noise for all of them.

    Args:
        flow: a class-conditional flow.
        x: ``(B, *shape)``.
        seed: of the dequantization noise.

    Returns:
        ``(B, classes)``; with equal priors, its softmax over the classes is ``p(y | x)``.

    Raises:
        ValueError: if the flow is not conditioned on classes.

    >>> from realnvp import vector_flow
    >>> class_log_probs(vector_flow(2, classes=3), torch.zeros(4, 2)).shape
    torch.Size([4, 3])
    """
    if flow.classes is None:
        raise ValueError("only a class-conditional flow can classify")
    with flow.evaluating():
        return torch.stack(
            [
                flow.log_prob(
                    x,
                    torch.full((len(x),), label, device=x.device),
                    torch.Generator(x.device).manual_seed(seed),
                )
                for label in range(flow.classes)
            ],
            dim=1,
        )


def accuracy(flow: Flow, split: Split, *, batch_size: int = 250, seed: int = 0) -> float:
    """The share of examples whose likeliest class, with equal priors, is theirs.

    Args:
        flow: a class-conditional flow.
        split: examples with labels.
        batch_size: examples computed at once.
        seed: of the dequantization noise.

    Raises:
        ValueError: if there are no labels, or the flow is not conditioned on classes.
    """
    if split.labels is None:
        raise ValueError("the data have no labels to compare with")
    right = 0
    for start in range(0, len(split), batch_size):
        x = split.x[start : start + batch_size].to(flow.device)
        found = class_log_probs(flow, x, seed).argmax(1).cpu()
        right += int((found == split.labels[start : start + batch_size].cpu()).sum())
    return right / len(split)
