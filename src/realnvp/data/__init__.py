"""Data: named sets, toy sets, images, arrays and tables, as tensors in memory.

``load_data`` turns the settings of a run into a ``Dataset`` of parts that share no example;
``load_part`` loads one of them, and refuses it if it has changed; ``load_examples`` reads other
data that a trained model is to be evaluated on. A likelihood is only as honest as its data, so
nothing is guessed: whatever is ambiguous is an error with a remedy.

>>> from realnvp.config import DataConfig
>>> data = load_data(DataConfig("moons", points=100))
>>> data.kind, data.shape, len(data.train), len(data.validation)
('vector', (2,), 100, 10)
"""

from realnvp.data.dataset import Dataset, Split
from realnvp.data.sources import (
    as_dataset,
    as_split,
    load_data,
    load_examples,
    load_part,
    source_names,
)

__all__ = [
    "Dataset",
    "Split",
    "as_dataset",
    "as_split",
    "load_data",
    "load_examples",
    "load_part",
    "source_names",
]
