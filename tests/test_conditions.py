"""Conditions as users type them; those that layers take are tested with the flow."""

from __future__ import annotations

import pytest
import torch

from realnvp import vector_flow
from realnvp.conditions import as_condition, condition_of_text
from realnvp.config import DataConfig
from realnvp.model_info import ModelInfo


def test_labels_are_names_or_numbers():
    flow = vector_flow(2, classes=3)
    assert condition_of_text(flow, None, 6).tolist() == [0, 0, 1, 1, 2, 2]
    assert condition_of_text(flow, "2", 2).tolist() == [2, 2]
    flow.trained_on = ModelInfo(DataConfig(), categories=["cat", "cow", "dog"])
    assert condition_of_text(flow, "dog", 2).tolist() == [2, 2]
    with pytest.raises(ValueError, match="unknown label 'ant': there are cat, cow, dog"):
        condition_of_text(flow, "ant", 2)


def test_a_name_that_is_a_number_is_no_index():
    flow = vector_flow(2, classes=3)
    flow.trained_on = ModelInfo(DataConfig(), categories=["1", "2", "3"])
    assert condition_of_text(flow, "1", 2).tolist() == [0, 0]
    with pytest.raises(ValueError, match="unknown label '0': there are 1, 2, 3"):
        condition_of_text(flow, "0", 2)


def test_a_condition_that_is_no_tensor():
    with pytest.raises(ValueError, match="must be a tensor with a row for each example, got 3"):
        vector_flow(2, classes=3).sample(4, condition=3)


@pytest.mark.parametrize("text", [None, "1", "1,2,3", "1,nan", "1,inf", "1;2"])
def test_numbers_are_as_many_as_the_model_takes(text):
    with pytest.raises(ValueError, match="must be numbers, 2 with commas"):
        condition_of_text(vector_flow(2, condition_dim=2), text, 1)


def test_a_model_without_condition_takes_none():
    assert condition_of_text(vector_flow(2), None, 3) is None
    with pytest.raises(ValueError, match="not conditional"):
        condition_of_text(vector_flow(2), "3", 3)


def test_labels_on_request_are_not_read():
    labels = torch.tensor([5, 0])
    assert as_condition(labels, 2, 3, 3, torch.float32, check=False).sum() == 1
    with pytest.raises(ValueError, match="below 3"):
        as_condition(labels, 2, 3, 3, torch.float32)
