"""The image sets that are known by name, in torchvision's folder layouts.

Each is one entry of ``IMAGE_SETS``. All have their own test part; digits and celeba have a
validation part of their own, too; for the others it is held out of the training part. torchvision
downloads what is missing. Another set is one more entry:

>>> import torch
>>> from realnvp.data.image_sets import IMAGE_SETS, ImageSet, register_image_set
>>> def read(root, part, size):
...     return Split(torch.zeros(20, 1, 4, 4, dtype=torch.uint8))
>>> register_image_set(ImageSet("blank", levels=256, read=read, parts=("train",)))
>>> from realnvp.config import DataConfig
>>> from realnvp.data import load_data
>>> len(load_data(DataConfig("blank")).train)
18
>>> del IMAGE_SETS["blank"]
"""

from __future__ import annotations

import contextlib
import socket
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
import torch

from realnvp.data.arrays import array_split, class_labels, find_idx, read_idx
from realnvp.data.dataset import Part, Split
from realnvp.data.images import ImageFiles
from realnvp.utils.files import readable
from realnvp.utils.image_files import UnusableImage, open_image

if TYPE_CHECKING:
    from realnvp.config import DataConfig


@dataclass(frozen=True)
class ImageSet:
    """An image set that is known by name.

    Args:
        name: name, as in ``DataConfig.source``.
        levels: number of grey levels.
        read: ``(root, part, size) -> Split | ImageFiles``: reads one part from a folder of sets, or
            returns its image files and how one is read: large numbers of them are then decoded
            once, into the cache. A returned split must not be shared, as it may be rearranged.
            ``size`` is None unless the set is resizable. It raises ValueError for damaged files,
            and FileNotFoundError for missing ones.
        resizable: whether images can be resized to other sizes (``DataConfig.size``).
        parts: parts that the set defines itself; others are held out of the training part.
    """

    name: str
    levels: int
    read: Callable[[Path, Part, int | None], Split | ImageFiles]
    resizable: bool = False
    parts: Sequence[Part] = ("train", "test")

    def split(self, config: DataConfig, part: Part) -> Split:
        """Return a part, according to the settings of the data."""
        content = self.read(Path(config.root).expanduser(), part, config.size)
        return content.split(config) if isinstance(content, ImageFiles) else content


IMAGE_SETS: dict[str, ImageSet] = {}
"""The image sets by name, in the order of all lists."""


def register_image_set(image_set: ImageSet) -> None:
    """Register an image set under its name.

    Raises:
        ValueError: if the name is taken.
    """
    if image_set.name in IMAGE_SETS:
        raise ValueError(f"there is an image set {image_set.name!r} already: choose another name")
    IMAGE_SETS[image_set.name] = image_set


_DIGITS_HELD_OUT = 257  # of 1797: one seventh to validate, one seventh to test


_CELEBA_CROP = 148  # the paper's crop; it then resizes to 64 (arXiv 1605.08803, section 4.1)


_BY_FIRST_LABELS = {
    "5041921314": "mnist",
    "7210414959": "mnist",
    "9003027255": "fashion-mnist",
    "9211614657": "fashion-mnist",
}
"""Sets by the first ten labels of their parts: the files of both have the same names."""


def _read_digits(root: Path, part: Part, size: int | None) -> Split:
    from sklearn.datasets import load_digits

    digits = load_digits()
    # One fixed shuffle, whatever the seed of a run, so that results on these parts compare: the
    # file's order follows its writers, which would make the last part a different distribution.
    order = torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(0))
    test, validation = order[:_DIGITS_HELD_OUT], order[_DIGITS_HELD_OUT : 2 * _DIGITS_HELD_OUT]
    index = {"test": test, "validation": validation, "train": order[2 * _DIGITS_HELD_OUT :]}
    x = torch.from_numpy(digits.images.astype(np.uint8)[:, None])
    labels = torch.from_numpy(digits.target.astype(np.int64))
    return Split(x, labels=labels).select(index[part].sort().values)


@contextlib.contextmanager
def _download(name: str, folder: Path, expected: str) -> Iterator[None]:
    """Turn any error of a download into one sentence, without a traceback."""
    before = socket.getdefaulttimeout()
    absent = [path for path in (folder, *folder.parents) if not path.exists()]
    socket.setdefaulttimeout(30.0)  # torchvision sets none: a silent network would block forever
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the old pickles of CIFAR-10 make numpy warn
            yield
    except Exception as error:  # sockets, HTTP, checksums, archives, gdown: all mean "no data"
        for path in absent:
            with contextlib.suppress(OSError):  # not empty: keep what has arrived
                path.rmdir()
        reason = textwrap.shorten(str(error) or type(error).__name__, 160, placeholder=" ...")
        raise FileNotFoundError(
            f"{name} is not complete in {folder} and could not be downloaded "
            f"({reason}): put {expected} there, or set data.root"
        ) from error
    finally:
        socket.setdefaulttimeout(before)


def _read_mnist(name: str, root: Path, part: Part, size: int | None) -> Split:
    # Read here rather than by torchvision, whose reader takes only extracted files and answers
    # damaged ones with a bare assert; compressed files straight in the root are how Debian's
    # dataset-fashion-mnist lays them out.
    cls = "MNIST" if name == "mnist" else "FashionMNIST"
    raw = root / cls / "raw"
    prefix = "train" if part == "train" else "t10k"
    wanted = (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte")

    def find() -> list[Path]:
        paths = (find_idx(raw, file) or find_idx(root, file) for file in wanted)
        return [path for path in paths if path is not None]

    files = find()
    if len(files) < 2:
        expected = (
            f"{raw}/train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, "
            "t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz"
        )
        with _download(name, raw, expected):
            from torchvision import datasets

            getattr(datasets, cls)(root, download=True)
            files = find()
    images, labels = files
    classes, _ = class_labels(read_idx(labels), f"{labels}", "label")
    assert classes is not None  # they have just been read
    actual = _BY_FIRST_LABELS.get("".join(map(str, classes[:10].tolist())), name)
    if actual != name:
        raise ValueError(f"{labels} is a file of {actual}, not of {name}: set data.root")
    return array_split(read_idx(images), f"{images}", classes, reuse=True)


def _read_cifar10(root: Path, part: Part, size: int | None) -> Split:
    expected = f"{root / 'cifar-10-python.tar.gz'}, or {root / 'cifar-10-batches-py'}/data_batch_1"
    with _download("cifar10", root, f"{expected} and its siblings,"):
        from torchvision.datasets import CIFAR10

        # torchvision unpickles the batches, but only those of the known checksums.
        batches = CIFAR10(root, train=part == "train", download=True)
    classes, _ = class_labels(np.asarray(batches.targets), "cifar10", "label")
    return array_split(batches.data, "cifar10", classes)


def _read_celeba(root: Path, part: Part, size: int | None) -> ImageFiles:
    # Read here, because torchvision requires the checksums of lists of landmarks, boxes and
    # identities, which are not needed here.
    listed = root / "celeba" / "list_eval_partition.txt"
    folder = root / "celeba" / "img_align_celeba"
    if not (listed.is_file() and folder.is_dir()):
        with _download("celeba", listed.parent, f"{folder}/000001.jpg, ... and {listed}"):
            from torchvision.datasets import CelebA

            CelebA(root, download=True)
    files = [folder / file for file in celeba_files(listed, part)]
    missing = next((path for path in files if not path.is_file()), None)
    if missing is not None:
        raise FileNotFoundError(f"{listed} lists {missing}, which is not there")
    if not files:
        raise ValueError(f"{listed} lists no images of the {part} part")
    return ImageFiles(folder, files, partial(read_celeba, size=size or 64), part=part)


def celeba_files(listed: Path, part: Part) -> list[str]:
    """Return the file names of one part, by CelebA's official partition (list_eval_partition.txt).

    Raises:
        ValueError: if a line is not a file name and a 0, 1 or 2.
    """
    code = {"train": "0", "validation": "1", "test": "2"}[part]
    with readable(listed):
        files, codes = np.loadtxt(listed, str, comments=None, ndmin=2).T
        if not np.isin(codes, ["0", "1", "2"]).all():
            raise ValueError("each line has a file name and 0, 1 or 2")
    return files[codes == code].tolist()


def read_celeba(path: Path, size: int) -> np.ndarray:
    """Read an aligned CelebA image: the central 148x148 pixels, resized (bilinear, antialiased).

    Returns:
        uint8 ``(size, size, 3)``.
    """
    from PIL.Image import Resampling

    image = open_image(path).convert("RGB")
    if min(image.size) < _CELEBA_CROP:
        raise UnusableImage(
            path, f"{image.width}x{image.height} pixels, but CelebA's aligned images are 178x218"
        )
    left = round((image.width - _CELEBA_CROP) / 2)
    top = round((image.height - _CELEBA_CROP) / 2)
    image = image.crop((left, top, left + _CELEBA_CROP, top + _CELEBA_CROP))
    return np.asarray(image.resize((size, size), Resampling.BILINEAR))


for _image_set in (
    ImageSet("digits", 17, _read_digits, parts=get_args(Part)),
    ImageSet("mnist", 256, partial(_read_mnist, "mnist")),
    ImageSet("fashion-mnist", 256, partial(_read_mnist, "fashion-mnist")),
    ImageSet("cifar10", 256, _read_cifar10),
    ImageSet("celeba", 256, _read_celeba, resizable=True, parts=get_args(Part)),
):
    register_image_set(_image_set)
