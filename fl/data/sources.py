"""Where data sets are looked for, and how each is read. torch and scikit-learn are imported on reading."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from fl.data.examples import DataError, Dataset, Images, Labels, check

IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
FOLDERS = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}  # named as torchvision names them


def search_path(data_dir: str | os.PathLike[str] | None = None) -> Path:
    """The folder of data sets: `data_dir`, else $SECAGG_DATA, else secagg/ in the user's cache folder."""
    chosen = data_dir or os.environ.get("SECAGG_DATA")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "secagg"


def idx_folder(name: str, root: Path) -> Path:
    """The folder of the four idx files of `name`, under the search path."""
    return root / FOLDERS[name] / "raw"


def missing(name: str, root: Path) -> list[str]:
    """Which of the four idx files of `name` are not there."""
    return [file for file in IDX_FILES if not (idx_folder(name, root) / file).is_file()]


def digits(_root: Path) -> Dataset:
    """scikit-learn's bundled handwritten digits: 1,797 images of 1 x 8 x 8, ten classes.

    Every fourth image of each class is in the test set (454), whatever the seed. Those who wrote for one
    set wrote for the other too: this measures learning of digits, not of strangers' handwriting.
    """
    from sklearn.datasets import load_digits

    bundled = load_digits()
    x = (bundled.images / 16).astype(np.float32)[:, None]
    y = bundled.target.astype(np.int64)
    held_out = np.zeros(len(y), dtype=bool)
    for label in range(10):
        held_out[np.flatnonzero(y == label)[::4]] = True
    return Dataset("digits", x[~held_out], y[~held_out], x[held_out], y[held_out], classes=10)


def mnist(root: Path) -> Dataset:
    """MNIST: 60,000 + 10,000 handwritten digits of 1 x 28 x 28, ten classes."""
    return _torchvision("mnist", root)


def fashion_mnist(root: Path) -> Dataset:
    """Fashion-MNIST: 60,000 + 10,000 pieces of clothing of 1 x 28 x 28, ten classes."""
    return _torchvision("fashion-mnist", root)


def _torchvision(name: str, root: Path) -> Dataset:
    folder = idx_folder(name, root)
    if absent := missing(name, root):
        raise DataError(
            f"{name} is not in {folder}: missing {', '.join(absent)}. Unpack the idx files there, or name "
            f"the folder that holds {FOLDERS[name]}/raw with data_dir or SECAGG_DATA; nothing is downloaded."
        )
    train_x, train_y = _part(name, root, train=True)
    test_x, test_y = _part(name, root, train=False)
    return Dataset(name, train_x, train_y, test_x, test_y, classes=10)


def _part(name: str, root: Path, train: bool) -> tuple[Images, Labels]:
    from fl.vision import datasets

    read = {"mnist": datasets.MNIST, "fashion-mnist": datasets.FashionMNIST}[name]
    try:
        part = read(root, train=train, download=False)
    except (AssertionError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise DataError(f"{idx_folder(name, root)}: not readable as idx files: {error}") from error
    x = part.data.numpy().astype(np.float32)[:, None]
    x /= 255
    y = part.targets.numpy()
    check(x, y, 10, f"{name} in {idx_folder(name, root)}")
    return x, y
