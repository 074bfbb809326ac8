"""Data sets by name. Each is a function from the folder of data sets to a Dataset, and downloads nothing.

`load` reads one, downloading it first where it has to; `found` tells which are there. Neither DATASETS nor
`found` imports torch.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Literal

from fl.data.docstrings import absent, standard_library, text
from fl.data.download import fetch
from fl.data.examples import DataError, Dataset
from fl.data.faces import lfw
from fl.data.holdout import hold_out, keep_back
from fl.data.places import FILES, folder_of, lfw_folder, missing, search_path
from fl.data.sources import cifar_10, digits, fashion_mnist, mnist
from fl.mistyped import nearest

__all__ = [
    "DATASETS",
    "DataError",
    "Dataset",
    "fetch",
    "found",
    "hold_out",
    "keep_back",
    "known",
    "load",
    "search_path",
]

DATASETS: dict[str, Callable[[Path], Dataset]] = {
    "digits": digits,
    "mnist": mnist,
    "fashion-mnist": fashion_mnist,
    "cifar-10": cifar_10,
    "lfw": lfw,
    "text": text,
}


def known(name: str) -> None:
    """Refuse a name that no data set has.

    Raises: DataError.
    """
    if name not in DATASETS:
        raise DataError(f"no data set {name!r}: there are {', '.join(DATASETS)}{nearest(name, DATASETS)}")


def load(name: str, data_dir: str | PathLike[str] | None = None, download: bool = True) -> Dataset:
    """Read the data set `name` from `search_path(data_dir)`.

    download: fetch mnist, fashion-mnist or cifar-10 into that folder first where files of it are missing.
    Raises: DataError for an unknown name, for files that are missing and cannot be had, and for damaged ones.
    """
    known(name)
    root = search_path(data_dir)
    if download and name in FILES and missing(name, root):
        fetch(name, root)
    return DATASETS[name](root)


def found(data_dir: str | PathLike[str] | None = None) -> dict[str, Path | Literal["bundled"] | None]:
    """Where each data set is: the folder of its files, "bundled" with an installed package or with Python, or
    None. Looks, and downloads nothing."""
    root = search_path(data_dir)
    at: dict[str, Path | Literal["bundled"] | None] = {
        name: None if missing(name, root) else folder_of(name, root) for name in FILES
    }
    at["lfw"] = lfw_folder(root)
    at["digits"] = "bundled" if find_spec("sklearn") else None
    at["text"] = None if absent(standard_library()) else "bundled"
    return {name: at[name] for name in DATASETS}
