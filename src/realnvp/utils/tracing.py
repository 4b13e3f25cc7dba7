"""Whether a computation is traced or transformed, so that its tensors' values cannot be read."""

from __future__ import annotations

import torch


def is_transformed() -> bool:
    """Return whether a transform of ``torch.func`` is active, such as ``vmap`` or ``jacrev``.

    >>> torch.func.vmap(lambda x: x + is_transformed())(torch.zeros(2)), is_transformed()
    (tensor([1., 1.]), False)
    """
    if torch.compiler.is_compiling():
        return False
    return torch._C._functorch.peek_interpreter_stack() is not None


def is_traced() -> bool:
    """Return whether values cannot be read: in a transform, ``torch.compile`` or ``torch.export``.

    >>> is_traced()
    False
    """
    return torch.compiler.is_compiling() or is_transformed()
