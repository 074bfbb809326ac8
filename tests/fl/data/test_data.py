"""Data sets that are files, what an example may be, and a client's shard."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import re
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from fl import data
from fl.data import DataError
from fl.data.examples import Images, Labels, check
from fl.data.places import FILES
from fl.data.shard import FILE, read_shard, write_shard
from fl.data.verify import SIZES, check_dataset, damaged_files

REAL = os.environ.get("SECAGG_DATA")
IDX_FILES = tuple(FILES["mnist"].md5)


def examples(n: int = 6) -> tuple[Images, Labels]:
    x = np.random.default_rng(0).random((n, 1, 8, 8), dtype=np.float32)
    return x, np.arange(n, dtype=np.int64) % 3


# Data sets


def test_digits_are_whole_scaled_and_split_by_class() -> None:
    digits = data.load("digits")
    assert (digits.name, digits.shape, digits.classes) == ("digits", (1, 8, 8), 10)
    assert len(digits.train_y) + len(digits.test_y) == 1797
    for x, y in ((digits.train_x, digits.train_y), (digits.test_x, digits.test_y)):
        check(x, y, 10, "digits")
        assert (x.min(), x.max()) == (0.0, 1.0)
    held_out = np.bincount(digits.test_y)
    everything = held_out + np.bincount(digits.train_y)
    assert np.array_equal(held_out, -(-everything // 4))
    assert np.array_equal(data.load("digits").test_x, digits.test_x)


def test_digits_are_those_that_scikit_learn_loads() -> None:
    digits, bundled = data.load("digits"), load_digits()
    images = np.concatenate([digits.train_x, digits.test_x])[:, 0] * 16
    labels = np.concatenate([digits.train_y, digits.test_y])
    assert sorted(zip(labels, map(bytes, images.astype("u1")), strict=True)) == sorted(
        zip(bundled.target, map(bytes, bundled.images.astype("u1")), strict=True)
    )


def test_without_scikit_learn_there_are_no_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fl.data.sources.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"the digits come with scikit-learn: pip install 'secagg\[fl\]'"):
        data.load("digits")


def test_an_unknown_data_set_lists_those_there_are() -> None:
    with pytest.raises(
        DataError, match="no data set 'mnst': there are digits, mnist, fashion-mnist, cifar-10, lfw, text"
    ):
        data.load("mnst")


def test_the_search_path_prefers_argument_then_environment_then_cache(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SECAGG_DATA", "/environment")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert data.search_path("/argument") == Path("/argument")
    assert data.search_path() == Path("/environment")
    monkeypatch.delenv("SECAGG_DATA")
    assert data.search_path() == Path("/cache/secagg")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert data.search_path() == Path.home() / ".cache" / "secagg"


def test_a_user_without_a_home_has_data_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(uid: int) -> None:
        raise KeyError(uid)

    for name in ("SECAGG_DATA", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert data.search_path() == Path(".cache/secagg")
    assert data.found()["digits"] == "bundled"


@pytest.mark.parametrize("name", FILES)
def test_missing_files_are_named_with_their_folder(tmp_path: Path, name: str) -> None:
    files = FILES[name]
    folder = tmp_path / files.folder
    folder.mkdir(parents=True)
    first, *others = files.md5
    (folder / first).touch()
    with pytest.raises(DataError, match="Run `secagg data fetch") as caught:
        data.load(name, tmp_path, download=False)
    assert f"{name} is not in {folder}: missing {', '.join(others)}." in str(caught.value)
    assert f"the folder that holds {files.folder} with --data-dir" in str(caught.value)
    assert data.found(tmp_path)[name] is None


def test_the_documentation_of_every_data_set_begins_with_what_it_is_and_where_it_comes_from() -> None:
    for read in data.DATASETS.values():
        first, _, third, *_ = (line.strip() for line in (read.__doc__ or "").splitlines())
        assert first.endswith(".")
        assert any(character.isdigit() for character in first)
        assert third.startswith("Source: ")


def _idx(values: np.ndarray) -> bytes:
    """An idx file of unsigned bytes: magic number, sizes, values, all big-endian."""
    return bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes() + values.tobytes()


def _write_idx(root: Path, labels: int = 4) -> Path:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in IDX_FILES:
        shape = (4, 28, 28) if "images" in file else (labels,)
        (raw / file).write_bytes(_idx(np.full(shape, 255 if "images" in file else 7, dtype=np.uint8)))
    return raw


def published(monkeypatch: pytest.MonkeyPatch, name: str, root: Path) -> None:
    """Take the files that are there for the published ones."""
    sums = {
        path.name: hashlib.md5(path.read_bytes()).hexdigest()  # noqa: S324
        for path in (root / FILES[name].folder).iterdir()
    }
    monkeypatch.setitem(FILES, name, replace(FILES[name], md5=sums))


def test_idx_files_are_found_and_read_through_torchvision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = _write_idx(tmp_path)
    published(monkeypatch, "mnist", tmp_path)
    nowhere = {"fashion-mnist": None, "cifar-10": None, "lfw": None}
    assert data.found(tmp_path) == {"digits": "bundled", "mnist": raw, "text": "bundled", **nowhere}
    read = data.load("mnist", tmp_path)
    assert (read.shape, len(read.train_x), len(read.test_x)) == ((1, 28, 28), 4, 4)
    assert (read.train_x == 1).all()
    assert (read.test_y == 7).all()


@pytest.mark.parametrize("damage", [lambda whole: whole[:-1], lambda whole: os.urandom(len(whole))])
def test_damaged_idx_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], bytes]
) -> None:
    """Cut short, and random bytes of the right size."""
    damaged = _write_idx(tmp_path) / IDX_FILES[0]
    published(monkeypatch, "mnist", tmp_path)
    damaged.write_bytes(damage(damaged.read_bytes()))
    with pytest.raises(
        DataError,
        match=f"mnist: {damaged.name} in .*raw not as published: remove them and run `secagg data",
    ):
        data.load("mnist", tmp_path)


def test_idx_files_with_a_label_too_few_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write_idx(tmp_path, labels=3)
    published(monkeypatch, "mnist", tmp_path)
    with pytest.raises(DataError, match=r"y must be int64 \(4,\)"):
        data.load("mnist", tmp_path)


def _write_cifar(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two examples a file, red throughout and blue throughout, that pass for the published files."""
    from fl.data.vision import datasets

    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    pixels = np.zeros((2, 3, 1024), dtype=np.uint8)
    pixels[0, 0], pixels[1, 2] = 255, 255
    for file in FILES["cifar-10"].md5:
        batch = {"data": pixels.reshape(2, -1), "labels": [3, 9], "label_names": [str(i) for i in range(10)]}
        (folder / file).write_bytes(pickle.dumps(batch))
    sums = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir()}  # noqa: S324
    for listed in ("train_list", "test_list"):
        files = [[file, sums[file]] for file, _ in getattr(datasets.CIFAR10, listed)]
        monkeypatch.setattr(datasets.CIFAR10, listed, files)
    meta = {**datasets.CIFAR10.meta, "md5": sums["batches.meta"]}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)
    published(monkeypatch, "cifar-10", root)
    return folder


def test_cifar_10_is_read_by_colours_then_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _write_cifar(tmp_path, monkeypatch)
    assert data.found(tmp_path)["cifar-10"] == folder
    read = data.load("cifar-10", tmp_path)
    assert (read.shape, len(read.train_x), len(read.test_x)) == ((3, 32, 32), 10, 2)
    assert read.test_x.mean(axis=(2, 3)).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert read.test_y.tolist() == [3, 9]


def test_a_cifar_10_that_is_not_the_published_one_is_not_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _write_cifar(tmp_path, monkeypatch)
    (folder / "test_batch").write_bytes(pickle.dumps({}))
    with pytest.raises(DataError, match=r"cifar-10: test_batch in .* not as published"):
        data.load("cifar-10", tmp_path)


def test_a_file_that_is_not_the_published_one_is_named(tmp_path: Path) -> None:
    raw = _write_idx(tmp_path)
    (raw / IDX_FILES[3]).unlink()
    assert damaged_files("mnist", tmp_path) == sorted(IDX_FILES[:3])
    assert damaged_files("lfw", tmp_path) == []


def test_a_data_set_of_other_numbers_than_the_published_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_idx(tmp_path)
    published(monkeypatch, "mnist", tmp_path)
    read = data.load("mnist", tmp_path)
    with pytest.raises(DataError, match=r"mnist is not the published set: it holds \(4, 4, \(1, 28, 28\)\)"):
        check_dataset(read)
    with pytest.raises(DataError, match="mnist, test set: labels run from 10 to 10"):
        check_dataset(replace(read, test_y=read.test_y + 3))


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar-10", "lfw"])
def test_the_real_files(name: str) -> None:
    if not REAL or data.found(REAL)[name] is None:
        pytest.skip(f"no {name}: set SECAGG_DATA to the folder of data sets")
    read = data.load(name, REAL)
    check_dataset(read)
    assert (len(read.train_x), len(read.test_x), read.shape) == SIZES[name]
    assert (read.train_x.min(), read.train_x.max()) == (0, 1)
    for y in (read.train_y, read.test_y):
        assert np.array_equal(np.unique(y), np.arange(read.classes))
    assert damaged_files(name, Path(REAL)) == []


# Shards


def test_a_shard_comes_back_as_it_was_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    x, y = examples()
    path = write_shard(tmp_path / "client", x, y, 3, "digits")
    shard = read_shard(tmp_path / "client")
    assert np.array_equal(shard.x, x)
    assert np.array_equal(shard.y, y)
    assert (shard.classes, shard.dataset, shard.shape) == (3, "digits", (1, 8, 8))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_shard_of_text_comes_back_as_it_was(tmp_path: Path) -> None:
    x, y = np.array([[0, 4], [1, 2], [3, 3]]), np.array([4, 0, 2])
    write_shard(tmp_path, x, y, 5, "text")
    shard = read_shard(tmp_path)
    assert (shard.x.tolist(), shard.y.tolist(), shard.shape) == (x.tolist(), y.tolist(), (2,))


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (np.array([[0, 5], [1, 2]]), "tokens run from 0 to 5, not within 0..4"),
        (np.array([[0, -1], [1, 2]]), "tokens run from -1 to 2"),
        (np.array([[0, 1], [1, 2]], dtype=np.int32), "or int64 (N, T) and not empty, not int32 (2, 2)"),
        (np.array([[0.0, 1.0], [1.0, 2.0]], dtype=np.float32), "not float32 (2, 2)"),
        (np.array([0, 1]), "not int64 (2,)"),
        (np.zeros((2, 1, 2, 2), dtype=np.int64), "not int64 (2, 1, 2, 2)"),
        (np.zeros((2, 0), dtype=np.int64), "not int64 (2, 0)"),
    ],
)
def test_text_that_is_none_is_neither_written_nor_read(tmp_path: Path, x: np.ndarray, says: str) -> None:
    y = np.array([4, 0])
    with pytest.raises(DataError, match=re.escape(says)):
        write_shard(tmp_path, x, y, 5, "text")
    np.savez(tmp_path / FILE, x=x, y=y, classes=np.int64(5), dataset=np.str_("text"))
    with pytest.raises(DataError, match=re.escape(says)):
        read_shard(tmp_path)


def _spoil(kind: str) -> dict[str, object]:
    x, y = examples()
    fields: dict[str, object] = {"x": x, "y": y, "classes": np.int64(3), "dataset": np.str_("digits")}
    nan = x.copy()
    nan[0, 0, 0, 0] = np.nan
    infinite = x.copy()
    infinite[0, 0, 0, 0] = np.inf
    spoiled: dict[str, dict[str, object]] = {
        "float64 images": {"x": x.astype(np.float64)},
        "flat images": {"x": x.reshape(len(x), -1)},
        "images of whole numbers": {"x": x.astype(np.int64)},
        "no examples": {"x": x[:0], "y": y[:0]},
        "NaN": {"x": nan},
        "infinity": {"x": infinite},
        "int32 labels": {"y": y.astype(np.int32)},
        "a label too few": {"y": y[:-1]},
        "a negative label": {"y": y - 1},
        "a label too high": {"y": y + 1},
        "classes in a list": {"classes": np.array([3])},
        "classes in words": {"classes": np.str_("three")},
        "data set as a number": {"dataset": np.int64(1)},
        "something more": {"weights": x},
        "a pickled object": {"y": np.array([{}] * len(y), dtype=object)},
    }
    return fields | spoiled[kind]


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("float64 images", "x must be float32"),
        ("flat images", "x must be float32"),
        ("images of whole numbers", "x must be float32"),
        ("no examples", "not empty"),
        ("NaN", "x holds NaN or infinity"),
        ("infinity", "x holds NaN or infinity"),
        ("int32 labels", "y must be int64"),
        ("a label too few", "y must be int64"),
        ("a negative label", "labels run from -1"),
        ("a label too high", "labels run from 1 to 3"),
        ("classes in a list", "one integer"),
        ("classes in words", "one integer"),
        ("data set as a number", "one word"),
        ("something more", "a shard holds the arrays"),
        ("a pickled object", "not a readable shard"),
    ],
)
def test_a_spoiled_shard_is_refused(tmp_path: Path, kind: str, says: str) -> None:
    np.savez(tmp_path / FILE, **_spoil(kind))  # type: ignore[arg-type]
    with pytest.raises(DataError) as caught:
        read_shard(tmp_path)
    assert says in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_shard_with_a_field_missing_is_refused(tmp_path: Path) -> None:
    x, y = examples()
    np.savez(tmp_path / FILE, x=x, y=y)
    with pytest.raises(DataError, match="a shard holds the arrays"):
        read_shard(tmp_path)


def test_a_missing_shard_says_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not there: name the folder that holds the client's shard\.npz"):
        read_shard(tmp_path)


def test_a_lone_array_is_no_shard(tmp_path: Path) -> None:
    content = io.BytesIO()
    np.save(content, examples()[0])
    (tmp_path / FILE).write_bytes(content.getvalue())
    with pytest.raises(DataError, match="not a readable shard"):
        read_shard(tmp_path)


def test_a_spoiled_shard_is_not_written(tmp_path: Path) -> None:
    x, y = examples()
    with pytest.raises(DataError, match="labels run from"):
        write_shard(tmp_path, x, y, 2, "digits")
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=60)
@given(position=st.integers(0, 10**6), byte=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_file_gives_a_shard_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, position: int, byte: int, cut: bool
) -> None:
    folder = tmp_path_factory.mktemp("shard")
    path = write_shard(folder, *examples(2), 3, "digits")
    content = bytearray(path.read_bytes())
    position %= len(content)
    content[position] = byte
    path.write_bytes(content[:position] if cut else content)
    try:
        shard = read_shard(folder)
    except DataError:
        return
    assert not cut
    check(shard.x, shard.y, shard.classes, "what was read")
