"""Whether a data set that is there is whole, and the published one."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fl.data.examples import DataError, Dataset, Shape, check
from fl.data.places import FILES, folder_of, missing

SIZES: dict[str, tuple[int, int, Shape]] = {
    "digits": (1343, 454, (1, 8, 8)),
    "mnist": (60_000, 10_000, (1, 28, 28)),
    "fashion-mnist": (60_000, 10_000, (1, 28, 28)),
    "cifar-10": (50_000, 10_000, (3, 32, 32)),
    "lfw": (2267, 756, (3, 32, 32)),
}
"""(training examples, test examples, shape of one). The text's follow from the version of Python."""


def damaged_files(name: str, root: Path) -> list[str]:
    """Which files of `name` that are there are not the published ones, by their md5. Of sets whose files are
    not published with one (digits, lfw, text) none.
    """
    if name not in FILES:
        return []
    present = FILES[name].md5.keys() - set(missing(name, root))
    return sorted(file for file in present if _md5(folder_of(name, root) / file) != FILES[name].md5[file])


def require_published(name: str, root: Path) -> None:
    """Check before anything is made of its files, which may be pickles, or noise of the right size.

    Raises: DataError where one is not the published one.
    """
    if damaged := damaged_files(name, root):
        raise DataError(
            f"{name}: {', '.join(damaged)} in {folder_of(name, root)} not as published: remove them and run "
            f"`secagg data fetch {name}`"
        )


def check_dataset(dataset: Dataset) -> None:
    """Refuse a data set with an example that `check` refuses, or of other numbers than its publisher's.

    Raises: DataError.
    """
    name = dataset.name
    check(dataset.train_x, dataset.train_y, dataset.classes, f"{name}, training set")
    check(dataset.test_x, dataset.test_y, dataset.classes, f"{name}, test set")
    sizes = len(dataset.train_y), len(dataset.test_y), dataset.shape
    if sizes != SIZES.get(name, sizes):
        raise DataError(f"{name} is not the published set: it holds {sizes}, where that has {SIZES[name]}")


def _md5(path: Path) -> str:
    # What publishers give. It still holds against a forged pickle: nobody finds a second file of a given md5.
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
