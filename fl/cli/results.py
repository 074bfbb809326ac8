"""Where a command's results go: tried before there are any, and kept elsewhere if that fails at the end."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fl.config.section import ConfigError
from fl.data.files import write_atomically


class ResultError(Exception):
    """A result does not stand where it was asked for; the text says where it does."""


@dataclass(frozen=True)
class Kept:
    """Where a result stands, and why it is not where it was asked for; no reason where it is."""

    path: Path
    reason: str = ""

    def check(self) -> None:
        """Say it when everything else is said. Raises: ResultError if it stands elsewhere."""
        if self.reason:
            raise ResultError(f"{self.reason}: the result is kept in {self.path}")


def check_file(path: Path, *, force: bool) -> None:
    """Raises: ConfigError if a result cannot be written there."""
    if path.is_dir():
        raise ConfigError(f"{path} is a folder: name a file in it with --out")
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path} is no ordinary file: choose another --out")
    if path.exists() and not force:
        raise ConfigError(f"{path} exists: choose another --out, or replace it with --force")
    folder = Path(os.path.realpath(path)).parent  # a link stays one: the file that it names is written
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {path.parent}: make it, or choose another --out")
    try_folder(folder)


def check_folder(folder: Path, *, force: bool, filled: bool = False) -> None:
    """Refuse a folder that cannot take a run; one that is missing can be made. filled: of a run that goes on,
    so that it holds something.

    Raises: ConfigError if it is a file, if it holds anything without `force`, or if nothing can be written.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file: choose a folder with --out")
    if not (force or filled) and folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty: choose another --out, or replace its run with --force")
    there = next(each for each in (folder, *folder.absolute().parents) if os.path.lexists(each))
    if not there.is_dir():
        raise ConfigError(f"{there} is a file, so {folder} cannot be made in it: choose another --out")
    try_folder(there)


def try_folder(folder: Path) -> None:
    """Raises: ConfigError if no file can be made in it: only trying tells, on whatever disk it is."""
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".secagg-"):
            pass
    except OSError as error:
        raise ConfigError(
            f"nothing can be written to the folder {folder}: {error.strerror}; choose another"
        ) from None


def npy(vector: np.ndarray[Any, Any]) -> bytes:
    """The array as a file of numpy."""
    content = io.BytesIO()
    np.save(content, vector)
    return content.getvalue()


def write_result(path: Path, content: bytes) -> Kept:
    """Write it there, or if that fails now, in the first other place that takes it.

    Raises: ResultError if there is none.
    """
    try:
        write_atomically(Path(os.path.realpath(path)), content)
        return Kept(path)
    except OSError as error:
        reason = f"{path} could not be written ({error.strerror})"
    for folder in elsewhere():
        try:
            write_atomically(folder / path.name, content)
            return Kept(folder / path.name, reason)
        except OSError:
            continue
    raise ResultError(f"{reason}, nor anything in another folder: the result is lost")


def elsewhere() -> Iterator[Path]:
    """New folders, for a result that cannot be where it was asked for."""
    for place in (None, os.path.expanduser("~"), ".", "/dev/shm"):  # noqa: S108 - one of our own is made in it
        try:
            yield Path(tempfile.mkdtemp(prefix="secagg-kept-", dir=place))
        except OSError:
            continue
