"""Downloading data sets, through torchvision: so that only whole files appear."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory

from fl.data.examples import DataError
from fl.data.places import FILES, folder_of, missing, require_lfw

PATIENCE = 10.0  # seconds for a server to say something


def fetch(name: str, root: Path, progress: bool | None = None, patience: float = PATIENCE) -> Path:
    """Download the missing files of data set `name` into the search path `root`; returns their folder.

    Files that are there stay as they are. torchvision compares the md5 of what it has downloaded.

    progress: show it on stderr; None: if that is a terminal.  patience: seconds that the network may be
    silent; while the download lasts, this is the default for every socket made in this process.
    Raises: DataError for a set that nobody downloads, for a folder that cannot be written, and where the
    network does not bring the files.
    """
    if name == "lfw":
        return require_lfw(root)
    if name not in FILES:
        raise DataError(f"{name} is not downloaded: of the data sets only {', '.join(FILES)} are")
    folder = folder_of(name, root)
    if absent := missing(name, root):
        with _scratch(name, root) as scratch:
            with _default_timeout(patience), _progress(f"downloading {name} to {folder}", progress):
                _download(name, folder, scratch, absent)
            with _writing(name, root):
                folder.mkdir(parents=True, exist_ok=True)
                for file in absent:
                    shutil.move(folder_of(name, scratch) / file, folder / file)
    return folder


def _download(name: str, folder: Path, scratch: Path, absent: Sequence[str]) -> None:
    from fl.data.vision import DOWNLOADED

    try:
        DOWNLOADED[name](scratch, download=True)
    except (OSError, RuntimeError, HTTPException) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{name} is not in {folder} (missing {', '.join(absent)}), and downloading it failed: {reason}. "
            f"Unpack the files there, or name the folder that holds {FILES[name].folder} with --data-dir "
            "(data_dir) or SECAGG_DATA"
        ) from error


@contextmanager
def _scratch(name: str, root: Path) -> Iterator[Path]:
    """A folder for a while, in the search path or in the first folder above it that there is: what fails
    leaves nothing behind.
    """
    # Not in /tmp, which may be another disk: there a move is a copy, and half of a file would be seen.
    there = next(path for path in (root, *root.absolute().parents) if path.exists())
    with _writing(name, root):
        made = TemporaryDirectory(prefix=f".{name}.", dir=there)
    with made as folder:
        yield Path(folder)


@contextmanager
def _writing(name: str, root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{name} has to be downloaded, and {root} cannot be written: {error.strerror}. Choose another "
            f"folder, or the one that holds {FILES[name].folder}, with --data-dir (data_dir) or SECAGG_DATA"
        ) from error


@contextmanager
def _default_timeout(seconds: float) -> Iterator[None]:
    """torchvision sets none, and would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextmanager
def _progress(what: str, shown: bool | None) -> Iterator[None]:
    """torchvision writes its bar to stderr, whoever reads it."""
    if sys.stderr.isatty() if shown is None else shown:
        print(what, file=sys.stderr, flush=True)
        yield
        return
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stderr(nowhere):
        yield
