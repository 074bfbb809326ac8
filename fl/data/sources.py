"""The images of scikit-learn and torchvision."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from fl.data.examples import DataError, Dataset, Images, Labels, check
from fl.data.places import require
from fl.data.verify import require_published


def digits(_root: Path) -> Dataset:
    """Handwritten digits bundled with scikit-learn: 1,343 + 454 images of 1 x 8 x 8, ten classes.

    Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI 1998, test set; CC BY 4.0.

    Every fourth image of each class is in the test set, whatever the seed. Those who wrote for one set wrote
    for the other too: this measures learning of digits, not of strangers' handwriting.
    """
    # The file that sklearn.datasets.load_digits reads: importing that takes a second, in every process.
    found = find_spec("sklearn")
    if found is None or found.origin is None:
        raise DataError("the digits come with scikit-learn: pip install 'secagg[fl]'")
    rows = np.loadtxt(Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    x = (rows[:, :-1] / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    y = rows[:, -1].astype(np.int64)
    held_out = np.zeros(len(y), dtype=bool)
    for label in range(10):
        held_out[np.flatnonzero(y == label)[::4]] = True
    return Dataset("digits", x[~held_out], y[~held_out], x[held_out], y[held_out], classes=10)


def mnist(root: Path) -> Dataset:
    """MNIST: 60,000 + 10,000 handwritten digits of 1 x 28 x 28, ten classes.

    Source: LeCun, Bottou, Bengio and Haffner, Proceedings of the IEEE 86(11), 1998; CC BY-SA 3.0.

    55 MB of idx files, 220 MB in memory.
    """
    return _read("mnist", root)


def fashion_mnist(root: Path) -> Dataset:
    """Fashion-MNIST: 60,000 + 10,000 pieces of clothing of 1 x 28 x 28, ten classes.

    Source: Xiao, Rasul and Vollgraf, arXiv:1708.07747, 2017 (Zalando); MIT licence.

    55 MB of idx files, 220 MB in memory.
    """
    return _read("fashion-mnist", root)


def cifar_10(root: Path) -> Dataset:
    """CIFAR-10: 50,000 + 10,000 photographs of 3 x 32 x 32, ten classes of animals and vehicles.

    Source: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009 (University of Toronto).

    186 MB of files, 740 MB in memory. The files are pickles: none is opened that is not, by its md5, the
    published one.
    """
    return _read("cifar-10", root)


def _read(name: str, root: Path) -> Dataset:
    folder = require(name, root)
    require_published(name, root)
    (train_x, train_y), (test_x, test_y) = (_part(name, root, folder, train) for train in (True, False))
    return Dataset(name, train_x, train_y, test_x, test_y, classes=10)


def _part(name: str, root: Path, folder: Path, train: bool) -> tuple[Images, Labels]:
    from fl.data.vision import DOWNLOADED

    with warnings.catch_warnings():
        # CIFAR-10's pickles say align=0 where numpy 2.4 wants a boolean.
        warnings.filterwarnings("ignore", message=r"dtype\(\): align should be passed")
        part = DOWNLOADED[name](root, train=train, download=False)
    pixels = _channels_first(part.data)
    x = pixels.astype(np.float32)
    x /= 255
    y = np.asarray(part.targets, dtype=np.int64)
    check(x, y, 10, f"{name} in {folder}")
    return x, y


def _channels_first(pixels: Any) -> np.ndarray:
    """(N, C, H, W) of torchvision's (N, H, W), or of its (N, H, W, C)."""
    pixels = np.asarray(pixels)
    return pixels[:, None] if pixels.ndim == 3 else np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
