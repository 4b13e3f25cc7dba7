"""Bijections: invertible maps with a tractable log-determinant, one idea per file."""

from realnvp.bijections.base import Bijection, Chain, Inverse
from realnvp.bijections.coupling import AffineCoupling, ChannelMask, CheckerboardMask, Coupling
from realnvp.bijections.dequantize import VariationalDequantize
from realnvp.bijections.gaussian import MixtureCoupling
from realnvp.bijections.linear import InvertibleLinear
from realnvp.bijections.mixture import MixtureLogisticCoupling
from realnvp.bijections.norm import ActNorm, RunningBatchNorm
from realnvp.bijections.preprocess import Affine, Dequantize, DequantizeColumns, Logit
from realnvp.bijections.reshape import FactorOut, Squeeze
from realnvp.bijections.rosenblatt import Rosenblatt

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
    "Inverse",
    "InvertibleLinear",
    "Logit",
    "MixtureCoupling",
    "MixtureLogisticCoupling",
    "Rosenblatt",
    "RunningBatchNorm",
    "Squeeze",
    "VariationalDequantize",
]
