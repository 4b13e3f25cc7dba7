"""The detector with the interface of PyOD, where ``pyod`` is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from realnvp.estimator.density import RandomState, RealNVPDensity
from realnvp.estimator.outliers import RealNVPOutlierDetector

try:
    from pyod.models.base import BaseDetector
except ImportError as error:
    raise ImportError("PyODRealNVP needs pyod: pip install pyod") from error

__all__ = ["PyODRealNVP"]


class PyODRealNVP(BaseDetector):
    """:class:`RealNVPOutlierDetector` as a PyOD detector: larger scores are more unusual.

    Args:
        contamination: fraction of outliers among the training rows, which determines PyOD's
            threshold.
        density: density whose copies are fitted.
        random_state: seed, generator or None.

    Attributes:
        detector_: the fitted :class:`RealNVPOutlierDetector`.
        decision_scores_: ``(N,)`` scores of the training rows.
        threshold_: score above which a row is an outlier.
        labels_: ``(N,)``, 1 for outliers among the training rows and 0 for others.
    """

    def __init__(
        self,
        contamination: float = 0.1,
        density: RealNVPDensity | None = None,
        random_state: RandomState = None,
    ) -> None:
        super().__init__(contamination=contamination)
        self.density = density
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: Any = None) -> PyODRealNVP:
        """Fit the detector.

        Args:
            X: ``(N, D)`` numbers.
            y: ignored.
        """
        self._set_n_classes(None)
        self.detector_ = RealNVPOutlierDetector(
            self.density, contamination=self.contamination, random_state=self.random_state
        ).fit(X)
        self.decision_scores_ = self.decision_function(X)
        self._process_decision_scores()
        return self

    def decision_function(self, X: ArrayLike) -> NDArray:
        """Return the outlier score of each row, ``(N,)``, larger for more unusual ones."""
        return -np.asarray(self.detector_.score_samples(X))
