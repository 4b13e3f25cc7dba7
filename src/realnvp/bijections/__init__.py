"""Bijections: invertible maps with a tractable log-determinant, one idea per file."""

from realnvp.bijections.base import Bijection, Chain, Inverse
from realnvp.bijections.coupling import AffineCoupling, ChannelMask, CheckerboardMask, Coupling
from realnvp.bijections.dequantization import Dequantize, DequantizeColumns, VariationalDequantize
from realnvp.bijections.gaussian_mixture import GaussianMixtureCoupling, Rosenblatt
from realnvp.bijections.linear import InvertibleLinear
from realnvp.bijections.logistic_mixture import LogisticMixtureCoupling
from realnvp.bijections.normalization import ActNorm, RunningBatchNorm
from realnvp.bijections.preprocessing import Affine, Logit
from realnvp.bijections.reshape import FactorOut, Squeeze

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
    "GaussianMixtureCoupling",
    "Inverse",
    "InvertibleLinear",
    "LogisticMixtureCoupling",
    "Logit",
    "Rosenblatt",
    "RunningBatchNorm",
    "Squeeze",
    "VariationalDequantize",
]
