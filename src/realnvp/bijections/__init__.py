"""Bijections: invertible maps with a tractable log-determinant, one idea per file."""

from realnvp.bijections.autoregressive import Autoregressive
from realnvp.bijections.average import Average
from realnvp.bijections.base import Bijection, Chain, Inverse
from realnvp.bijections.class_means import ClassMeans
from realnvp.bijections.coupling import (
    AffineCoupling,
    BlockMask,
    ChannelMask,
    CheckerboardMask,
    Coupling,
)
from realnvp.bijections.dequantization import Dequantize, VariationalDequantize
from realnvp.bijections.domains import (
    Circle,
    CirclesFirst,
    Domain,
    DomainMap,
    HalfLine,
    Interval,
    Simplex,
)
from realnvp.bijections.encoded_condition import EmbeddedCondition, EncodedCondition
from realnvp.bijections.gaussian_mixture import GaussianMixtureCoupling
from realnvp.bijections.linear import InvertibleLinear
from realnvp.bijections.logistic_mixture import LogisticMixtureCoupling
from realnvp.bijections.normalization import ActNorm, RunningBatchNorm
from realnvp.bijections.piecewise_linear import PiecewiseLinearCoupling
from realnvp.bijections.preprocessing import Affine, Logit
from realnvp.bijections.reshape import FactorOut, Flatten, Refine, Squeeze
from realnvp.bijections.rosenblatt import Rosenblatt
from realnvp.bijections.spline import CircularCoupling, SplineCoupling

__all__ = [
    "ActNorm",
    "Affine",
    "AffineCoupling",
    "Autoregressive",
    "Average",
    "Bijection",
    "BlockMask",
    "Chain",
    "ChannelMask",
    "CheckerboardMask",
    "Circle",
    "CirclesFirst",
    "CircularCoupling",
    "ClassMeans",
    "Coupling",
    "Dequantize",
    "Domain",
    "DomainMap",
    "EmbeddedCondition",
    "EncodedCondition",
    "FactorOut",
    "Flatten",
    "GaussianMixtureCoupling",
    "HalfLine",
    "Interval",
    "Inverse",
    "InvertibleLinear",
    "LogisticMixtureCoupling",
    "Logit",
    "PiecewiseLinearCoupling",
    "Refine",
    "Rosenblatt",
    "RunningBatchNorm",
    "Simplex",
    "SplineCoupling",
    "Squeeze",
    "VariationalDequantize",
]
