"""The detector with the interface of PyOD."""

from __future__ import annotations

import numpy as np
import pytest

from realnvp.estimator import RealNVPDensity


@pytest.mark.filterwarnings("ignore")
def test_scores_threshold_and_labels_are_pyods():
    pytest.importorskip("pyod")
    from realnvp.estimator import PyODRealNVP

    x = np.random.default_rng(0).normal(size=(400, 2))
    x[:20] += 9
    density = RealNVPDensity(
        max_steps=1, couplings=1, hidden=4, mixture_init=1, validation_fraction=0
    )
    detector = PyODRealNVP(contamination=0.05, density=density, random_state=0).fit(x)
    assert detector.decision_scores_.shape == (400,)
    assert detector.labels_.sum() == 20
    assert detector.labels_[:20].mean() > 0.9
    assert (detector.decision_scores_ > detector.threshold_).sum() == 20
    assert detector.predict(np.array([[0.0, 0.0], [9.0, 9.0]])).tolist() == [0, 1]
    assert detector.predict_proba(x).shape == (400, 2)


def test_without_pyod_the_error_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pyod.models.base", None)
    monkeypatch.delitem(sys.modules, "realnvp.estimator.pyod_adapter", raising=False)
    with pytest.raises(ImportError, match="pip install pyod"):
        __import__("realnvp.estimator.pyod_adapter")
