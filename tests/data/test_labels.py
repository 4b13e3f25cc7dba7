"""Labels of files as classes: names, integers, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.data_files import (
    GREY,
    LABELS,
    npz,
    refused,
)
from realnvp.data.labels import parse_labels


@pytest.mark.parametrize("labels", [LABELS - 1, LABELS + 0.5, LABELS.reshape(12, 1) * [1, 2]])
def test_labels_that_are_no_classes(tmp_path, labels):
    refused(npz(tmp_path, x=GREY, y=labels), "labels", condition="label")


def test_labels_of_other_types():
    with pytest.raises(ValueError, match="integers or names"):
        parse_labels(np.array([1j, 2j]), "labels")
    assert parse_labels(np.array([[2.0], [0.0]]), "labels")[0].tolist() == [2, 0]


def test_numbers_with_fractions_are_classes_only_if_they_are_few():
    values = np.array([f"{i % 21 / 8}" for i in range(40)], dtype=object)
    with pytest.raises(ValueError, match=r"21 different numbers, such as 0\.0: images"):
        parse_labels(values, "'ink'")
    assert len(parse_labels(values[:20], "'dose'")[1]) == 20
