"""Downloads, from a server of the test's own: what comes is whole, what fails leaves nothing behind."""

from __future__ import annotations

import gzip
import hashlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from fl import data
from fl.data import DataError, fetch
from fl.data.places import FILES

IDX_FILES = tuple(FILES["mnist"].md5)


def _idx(file: str) -> bytes:
    shape = (4, 28, 28) if "images" in file else (4,)
    return bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes() + bytes(int(np.prod(shape)))


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that torchvision's only mirror of MNIST serves: four small files."""
    from fl.data.vision import datasets

    folder = tmp_path / "mirror"
    folder.mkdir()
    resources = []
    for file in IDX_FILES:
        packed = gzip.compress(_idx(file))
        (folder / f"{file}.gz").write_bytes(packed)
        resources.append((f"{file}.gz", hashlib.md5(packed).hexdigest()))  # noqa: S324
    monkeypatch.setattr(datasets.MNIST, "resources", resources)
    unpacked = {file: hashlib.md5(_idx(file)).hexdigest() for file in IDX_FILES}  # noqa: S324
    monkeypatch.setitem(FILES, "mnist", replace(FILES["mnist"], md5=unpacked))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))
    monkeypatch.setattr(datasets.MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_is_missing_is_downloaded_and_read(mirror: Path, tmp_path: Path) -> None:
    root = tmp_path / "new" / "cache"
    read = data.load("mnist", root)
    assert (read.shape, len(read.train_x)) == ((1, 28, 28), 4)
    assert sorted(path.name for path in root.rglob("*") if path.is_file()) == sorted(IDX_FILES)
    assert list(root.iterdir()) == [root / "MNIST"]


def test_looking_and_reading_without_leave_download_nothing(mirror: Path, tmp_path: Path) -> None:
    root = tmp_path / "cache"
    assert data.found(root)["mnist"] is None
    with pytest.raises(DataError, match="secagg data fetch mnist"):
        data.load("mnist", root, download=False)
    assert not root.exists()


def test_files_that_are_there_stay_as_they_are(mirror: Path, tmp_path: Path) -> None:
    raw = tmp_path / "cache" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / IDX_FILES[0]).write_bytes(b"mine")
    assert fetch("mnist", tmp_path / "cache") == raw
    assert (raw / IDX_FILES[0]).read_bytes() == b"mine"
    for file in IDX_FILES:
        (mirror / f"{file}.gz").unlink()
    assert fetch("mnist", tmp_path / "cache") == raw  # nothing to download, nobody is asked


def test_a_download_that_is_not_the_published_file_is_refused_and_leaves_nothing(
    mirror: Path, tmp_path: Path
) -> None:
    (mirror / f"{IDX_FILES[2]}.gz").write_bytes(b"something else")
    root = tmp_path / "cache"
    with pytest.raises(DataError, match="and downloading it failed: ") as caught:
        fetch("mnist", root)
    assert "Unpack the files there, or name the folder that holds MNIST/raw" in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mirror"]


@pytest.mark.parametrize("silent", [True, False])
def test_without_a_network_the_download_fails(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    """silent: something takes the connection and never says a word."""
    from fl.data.vision import datasets

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if silent:
            listener.listen()
        monkeypatch.setattr(datasets.MNIST, "mirrors", [f"http://127.0.0.1:{listener.getsockname()[1]}/"])
        with pytest.raises(DataError, match="timed out" if silent else "refused"):
            fetch("mnist", tmp_path / "cache", patience=0.2)
    assert socket.getdefaulttimeout() is None


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("no folder")
    with pytest.raises(
        DataError, match=r"mnist has to be downloaded, and .*file cannot be written: Not a directory"
    ):
        data.load("mnist", occupied)


def test_a_read_only_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)  # the superuser may write anywhere
    with pytest.raises(DataError, match=r"cannot be written: Permission denied\. Choose another folder"):
        fetch("cifar-10", tmp_path)


@pytest.mark.parametrize("name", ["digits", "text"])
def test_what_comes_with_python_is_not_downloaded(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        DataError, match=f"{name} is not downloaded: of the data sets only mnist, fashion-mnist, "
    ):
        fetch(name, tmp_path)


def test_progress_is_shown_when_asked_for_and_not_to_programs(
    mirror: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fetch("mnist", tmp_path / "quiet")
    assert capfd.readouterr() == ("", "")
    fetch("mnist", tmp_path / "shown", progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(f"downloading mnist to {tmp_path / 'shown' / 'MNIST' / 'raw'}\n")
    assert "100" in err
