"""Data sets, the deal to clients, and a client's shard."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl import data
from fl.data import DataError
from fl.data.examples import Images, Labels, check
from fl.data.partition import dirichlet
from fl.data.shard import FILE, read_shard, write_shard
from fl.data.sources import IDX_FILES

REAL = os.environ.get("SECAGG_DATA")


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


def test_an_unknown_data_set_lists_those_there_are() -> None:
    with pytest.raises(DataError, match="digits, mnist, fashion-mnist"):
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


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_missing_files_are_named_with_their_folder(tmp_path: Path, name: str, folder: str) -> None:
    raw = tmp_path / folder / "raw"
    raw.mkdir(parents=True)
    (raw / IDX_FILES[0]).touch()
    with pytest.raises(DataError) as caught:
        data.load(name, tmp_path)
    assert str(raw) in str(caught.value)
    assert [file in str(caught.value) for file in IDX_FILES] == [False, True, True, True]
    assert data.found(tmp_path)[name] is None


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


def test_idx_files_are_found_and_read_through_torchvision(tmp_path: Path) -> None:
    raw = _write_idx(tmp_path)
    assert data.found(tmp_path) == {"digits": "bundled", "mnist": raw, "fashion-mnist": None}
    read = data.load("mnist", tmp_path)
    assert (read.shape, len(read.train_x), len(read.test_x)) == ((1, 28, 28), 4, 4)
    assert (read.train_x == 1).all()
    assert (read.test_y == 7).all()


def test_damaged_idx_files_are_refused(tmp_path: Path) -> None:
    raw = _write_idx(tmp_path)
    (raw / IDX_FILES[0]).write_bytes((raw / IDX_FILES[0]).read_bytes()[:-1])
    with pytest.raises(DataError, match="not readable as idx files"):
        data.load("mnist", tmp_path)


def test_idx_files_with_a_label_too_few_are_refused(tmp_path: Path) -> None:
    _write_idx(tmp_path, labels=3)
    with pytest.raises(DataError, match=r"y must be int64 \(4,\)"):
        data.load("mnist", tmp_path)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_the_real_files(name: str) -> None:
    if not REAL or data.found(REAL)[name] is None:
        pytest.skip(f"no {name}: set SECAGG_DATA to the folder of data sets")
    read = data.load(name, REAL)
    assert (read.train_x.shape, read.test_x.shape) == ((60_000, 1, 28, 28), (10_000, 1, 28, 28))
    assert read.train_x.max() == 1
    assert np.array_equal(np.unique(read.test_y), np.arange(10))


# Partition


@settings(max_examples=60)
@given(
    labels=st.lists(st.integers(0, 9), min_size=1, max_size=200),
    clients=st.integers(1, 20),
    alpha=st.floats(1e-3, 1e6),
    minimum=st.integers(0, 8),
    seed=st.integers(0, 2**32),
)
def test_every_example_goes_to_one_client_and_everyone_gets_the_minimum(
    labels: list[int], clients: int, alpha: float, minimum: int, seed: int
) -> None:
    y = np.array(labels, dtype=np.int64)
    if clients * minimum > len(y):
        with pytest.raises(DataError, match="take at most"):
            dirichlet(y, clients, alpha, np.random.default_rng(seed), minimum)
        return
    parts = dirichlet(y, clients, alpha, np.random.default_rng(seed), minimum)
    assert len(parts) == clients
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(y)))
    assert min(len(part) for part in parts) >= minimum
    again = dirichlet(y, clients, alpha, np.random.default_rng(seed), minimum)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))


def _largest_label_share(alpha: float) -> float:
    """The mean over clients of the share of a client's most frequent label."""
    y = np.repeat(np.arange(10), 200)
    parts = dirichlet(y, 8, alpha, np.random.default_rng(1))
    return float(np.mean([np.bincount(y[part]).max() / len(part) for part in parts]))


def test_a_small_alpha_skews_labels_and_a_large_one_does_not() -> None:
    even, default, skewed = (_largest_label_share(alpha) for alpha in (1e6, 0.5, 0.01))
    assert even < 0.12
    assert 0.2 < default < 0.6
    assert skewed > 0.6


def test_another_seed_deals_otherwise() -> None:
    y = np.repeat(np.arange(10), 20)
    one, other = (dirichlet(y, 4, 0.5, np.random.default_rng(seed)) for seed in (0, 1))
    assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))


# Shards


def test_a_shard_comes_back_as_it_was_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    x, y = examples()
    path = write_shard(tmp_path / "client", x, y, 3, "digits")
    shard = read_shard(tmp_path / "client")
    assert np.array_equal(shard.x, x)
    assert np.array_equal(shard.y, y)
    assert (shard.classes, shard.dataset, shard.shape) == (3, "digits", (1, 8, 8))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


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
