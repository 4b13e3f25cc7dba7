"""A scikit-learn density estimator for tables."""

from realnvp.estimator.density import RealNVPDensity

__all__ = ["RealNVPDensity"]
