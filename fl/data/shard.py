"""A client's own examples as one file in its own folder: all that a client process reads of the data."""

from __future__ import annotations

import io
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from fl.data.examples import OWN, DataError, Inputs, Labels, Shape, check, check_own, shape_of
from fl.data.files import write_atomically

FILE = "shard.npz"
FIELDS = {"x", "y", "classes", "dataset"}


@dataclass(frozen=True)
class Shard:
    """What one client trains on. x: (N, C, H, W) float32, finite, or (N, T) int64 in 0..classes-1;  y: (N,)
    int64 in 0..classes-1;  N >= 1. dataset: its name; of a task of one's own that of the task, and x is then
    whatever that takes.
    """

    x: Inputs
    y: Labels
    classes: int
    dataset: str

    @property
    def shape(self) -> Shape:
        return shape_of(self.x)


def write_shard(folder: str | PathLike[str], x: Inputs, y: Labels, classes: int, dataset: str) -> Path:
    """Write a shard that `read_shard` accepts; only the owner may read it. Returns the file's path.

    Raises: DataError for examples that are not as in `Shard`.
    """
    path = Path(folder) / FILE
    _check(x, y, classes, dataset, str(path))
    content = io.BytesIO()
    np.savez(content, x=x, y=y, classes=np.int64(classes), dataset=np.str_(dataset))
    write_atomically(path, content.getvalue(), mode=0o600)
    return path


def read_shard(folder: str | PathLike[str]) -> Shard:
    """Read what `write_shard` wrote.

    Raises: DataError where the file is missing, damaged, or holds anything but a shard.
    """
    path = Path(folder) / FILE
    try:
        # Opened here: np.load leaves a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            fields = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise DataError(f"{path} is not there: name the folder that holds the client's {FILE}") from None
    except OSError as error:
        raise DataError(f"{path} is not readable: {error.strerror}") from error
    except Exception as error:  # whatever the parsers of zip and numpy raise, who advise to unpickle it
        raise DataError(
            f"{path} is not a readable shard: it was cut short or damaged, or holds Python objects"
        ) from error
    if fields.keys() != FIELDS or not all(isinstance(field, np.ndarray) for field in fields.values()):
        raise DataError(f"{path}: a shard holds the arrays {sorted(FIELDS)}, this holds {sorted(fields)}")
    classes, dataset = fields["classes"], fields["dataset"]
    if classes.shape != () or classes.dtype.kind != "i" or dataset.shape != () or dataset.dtype.kind != "U":
        raise DataError(f"{path}: classes must be one integer and dataset one word")
    _check(fields["x"], fields["y"], int(classes), str(dataset), str(path))
    return Shard(fields["x"], fields["y"], int(classes), str(dataset))


def _check(x: Inputs, y: Labels, classes: int, dataset: str, where: str) -> None:
    if dataset.startswith(OWN):
        check_own(x, y, where)
    else:
        check(x, y, classes, where)
