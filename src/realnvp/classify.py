r"""A class-conditional flow is a classifier, by Bayes' rule:

.. math:: p(y | x) = \frac{p(x | y) p(y)}{\sum_{y'} p(x | y') p(y')}.
"""

from __future__ import annotations

import torch
from torch import Tensor

from realnvp.data import Split
from realnvp.evaluate import DRAWS, Progress, batches, noise_of
from realnvp.models import Flow
from realnvp.ranks import total

__all__ = ["accuracy", "class_log_probs"]


@torch.no_grad()
def class_log_probs(flow: Flow, x: Tensor, noise: Tensor | None = None) -> Tensor:
    """``log p(x | y)`` of every class, in nats, with the same noise for all of them.

    Args:
        flow: a class-conditional flow.
        x: ``(B, *shape)``.
        noise: of the dequantization, uniform numbers of the shape of ``x``; drawn if left out.

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
    if noise is None and flow.noisy:
        noise = torch.rand(x.shape, dtype=flow.dtype, device=x.device)
    labels = [torch.full((len(x),), label, device=x.device) for label in range(flow.classes)]
    with flow.evaluating():
        return torch.stack([flow.log_prob(x, label, noise) for label in labels], dim=1)


def accuracy(
    flow: Flow,
    split: Split,
    *,
    batch_size: int = 250,
    seed: int = 0,
    shared: bool = False,
    progress: Progress | None = None,
) -> float:
    """The share of examples whose likeliest class, with equal priors, is theirs.

    Args:
        flow: a class-conditional flow.
        split: examples with labels.
        batch_size: examples computed at once.
        seed: of the dequantization noise, which is that of :func:`realnvp.evaluate.evaluate`.
        shared: share the work with the other processes; see
            :func:`realnvp.evaluate.log_likelihoods`.
        progress: called after every batch.

    Raises:
        ValueError: if there are no labels, or the flow is not conditioned on classes.
    """
    if split.labels is None:
        raise ValueError("the data have no labels to compare with")
    right = 0
    for start, x, _, counts in batches(split, batch_size, flow.device, shared):
        noise = noise_of(flow, (seed, DRAWS, 0), start, len(x))
        found = class_log_probs(flow, x, noise).argmax(1).cpu()
        if counts:
            right += int((found == split.labels[start : start + len(x)].cpu()).sum())
        if progress is not None:
            progress(start + len(x), len(split))
    if shared:
        right = int(total(torch.tensor(right, device=flow.device)))
    return right / len(split)
