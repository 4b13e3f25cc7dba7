"""realnvp: normalizing flows with Real NVP (Dinh et al., arXiv 1605.08803) and what grew from it.

>>> import torch, realnvp
>>> flow = realnvp.image_flow((1, 8, 8), levels=17, hidden=8, blocks=1)
>>> images = torch.randint(0, 17, (4, 1, 8, 8), dtype=torch.uint8)
>>> flow.bits_per_dim(images).shape
torch.Size([4])
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from realnvp.architectures import image_flow, vector_flow
    from realnvp.bijections import (
        ActNorm,
        Affine,
        AffineCoupling,
        Bijection,
        Chain,
        ChannelMask,
        CheckerboardMask,
        Coupling,
        Dequantize,
        DequantizeColumns,
        FactorOut,
        Inverse,
        InvertibleLinear,
        Logit,
        MixtureCoupling,
        MixtureLogisticCoupling,
        Rosenblatt,
        RunningBatchNorm,
        Squeeze,
        VariationalDequantize,
    )
    from realnvp.flow import Flow
    from realnvp.pretrained import load

__version__ = "0.1.0"

__all__ = [
    "ActNorm",
    "Affine",
    "AffineCoupling",
    "Bijection",
    "Chain",
    "ChannelMask",
    "CheckerboardMask",
    "Coupling",
    "Dequantize",
    "DequantizeColumns",
    "FactorOut",
    "Flow",
    "Inverse",
    "InvertibleLinear",
    "Logit",
    "MixtureCoupling",
    "MixtureLogisticCoupling",
    "Rosenblatt",
    "RunningBatchNorm",
    "Squeeze",
    "VariationalDequantize",
    "image_flow",
    "load",
    "vector_flow",
]

_HOMES = {
    "Flow": "realnvp.flow",
    "image_flow": "realnvp.architectures",
    "load": "realnvp.pretrained",
    "vector_flow": "realnvp.architectures",
}


def __getattr__(name: str) -> Any:
    # PyTorch takes a second to import: the command line's help must not wait for it.
    if name in __all__:
        return getattr(import_module(_HOMES.get(name, "realnvp.bijections")), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
