"""Data sets by name. Each is a function from the folder of data sets to a Dataset.

`load` reads one; `found` tells which are there, without importing torch.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Literal

from fl.data.examples import DataError, Dataset
from fl.data.sources import FOLDERS, digits, fashion_mnist, idx_folder, missing, mnist, search_path

__all__ = ["DATASETS", "DataError", "Dataset", "found", "load", "search_path"]

DATASETS: dict[str, Callable[[Path], Dataset]] = {
    "digits": digits,
    "mnist": mnist,
    "fashion-mnist": fashion_mnist,
}


def load(name: str, data_dir: str | PathLike[str] | None = None) -> Dataset:
    """Read the data set `name` from `search_path(data_dir)`.

    Raises: DataError for an unknown name, and for files that are missing or not readable.
    """
    if name not in DATASETS:
        raise DataError(f"no data set {name!r}: there are {', '.join(DATASETS)}")
    return DATASETS[name](search_path(data_dir))


def found(data_dir: str | PathLike[str] | None = None) -> dict[str, Path | Literal["bundled"] | None]:
    """Where each data set is: the folder of its files, "bundled" with an installed package, or None."""
    root = search_path(data_dir)
    bundled: Literal["bundled"] | None = "bundled" if find_spec("sklearn") else None
    files = {name: None if missing(name, root) else idx_folder(name, root) for name in FOLDERS}
    return {"digits": bundled, **files}
