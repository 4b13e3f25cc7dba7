"""Data: named sets, toy sets, images, arrays and tables, as tensors in memory.

`load_data` turns the settings of a run into a `Dataset` of parts that never overlap;
`load_examples` reads what a trained model is to be evaluated on. A likelihood is only as honest as
its data, so everything that would have to be guessed is an error that says what to do.

>>> from realnvp.config import DataConfig
>>> data = load_data(DataConfig("moons", points=100))
>>> data.kind, data.shape, len(data.train), len(data.validation)
('vector', (2,), 100, 10)
"""

from realnvp.data.dataset import Dataset, Split
from realnvp.data.sources import load_data, load_examples, source_names

__all__ = ["Dataset", "Split", "load_data", "load_examples", "source_names"]
