"""Optimizers without PyTorch's compiler."""

from __future__ import annotations

import inspect

import torch


class Uncompiled(torch.optim.Optimizer):
    """An optimizer whose methods do not import PyTorch's compiler, which is not used here.

    PyTorch decorates these methods to exclude them from compilation, and the decorator imports
    ``torch._dynamo``, which takes 1.2 s and 75 MB.
    """

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)


class LBFGS(Uncompiled, torch.optim.LBFGS):
    """PyTorch's L-BFGS, uncompiled."""
