"""Scikit-learn estimators for tables: a density, and a detector of outliers."""

from typing import Any

from realnvp.estimator.density import RealNVPDensity
from realnvp.estimator.outliers import RealNVPOutlierDetector

__all__ = ["PyODRealNVP", "RealNVPDensity", "RealNVPOutlierDetector"]


def __getattr__(name: str) -> Any:
    if name == "PyODRealNVP":  # pyod takes seconds to import, and need not be installed
        from realnvp.estimator.pyod_adapter import PyODRealNVP

        return PyODRealNVP
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
