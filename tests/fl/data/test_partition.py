"""The deal of a training set to clients, of every kind; and its picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fl.data import DataError
from fl.data.partition import MINIMUM, PARTITIONS, Partition, dirichlet
from fl.data.picture import MOST_ROWS, _rows, draw_partition

TEN = np.repeat(np.arange(10), 60)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# Dirichlet, everything dealt out


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
            dirichlet(y, clients, alpha, rng(seed), minimum)
        return
    parts = dirichlet(y, clients, alpha, rng(seed), minimum)
    assert len(parts) == clients
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(y)))
    assert min(len(part) for part in parts) >= minimum
    again = dirichlet(y, clients, alpha, rng(seed), minimum)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))


def _largest_label_share(alpha: float) -> float:
    """The mean over clients of the share of a client's most frequent label."""
    y = np.repeat(np.arange(10), 200)
    parts = dirichlet(y, 8, alpha, rng(1))
    return float(np.mean([np.bincount(y[part]).max() / len(part) for part in parts]))


def test_a_small_alpha_skews_labels_and_a_large_one_does_not() -> None:
    even, default, skewed = (_largest_label_share(alpha) for alpha in (1e6, 0.5, 0.01))
    assert even < 0.12
    assert 0.2 < default < 0.6
    assert skewed > 0.6


def test_another_seed_deals_otherwise() -> None:
    y = np.repeat(np.arange(10), 20)
    one, other = (dirichlet(y, 4, 0.5, rng(seed)) for seed in (0, 1))
    assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_deal_of_a_seed_stays_what_it_was() -> None:
    y = np.arange(100) % 10
    first = [14, 18, 21, 38, 40, 42, 47, 48, 58, 61, 62, 68, 72, 78, 84, 88, 92, 98]  # when it was written
    for parts in (dirichlet(y, 5, 0.5, rng()), Partition().deal(y, 5, rng())):
        assert parts[0].tolist() == first
        assert [len(part) for part in parts] == [18, 20, 9, 28, 25]


# Every kind

labels_of_ten = st.lists(st.integers(0, 9), min_size=1, max_size=300).map(
    lambda y: np.array(y, dtype=np.int64)
)
partitions = st.builds(
    Partition,
    kind=st.sampled_from(sorted(PARTITIONS)),
    alpha=st.floats(1e-3, 1e3),
    classes_per_client=st.integers(1, 4),
    examples_per_client=st.none() | st.integers(1, 60),
)


@settings(max_examples=200)
@given(y=labels_of_ten, clients=st.integers(1, 20), how=partitions, seed=st.integers(0, 2**32))
def test_what_is_promised_of_every_deal(y: np.ndarray, clients: int, how: Partition, seed: int) -> None:
    """Ascending indices, none twice at a client; of the size asked for, or all dealt out; disjoint where
    there is enough; the same from the same seed. Or it is refused.
    """
    try:
        parts = how.deal(y, clients, rng(seed))
    except DataError:
        return
    assert len(parts) == clients
    for part in parts:
        assert part.dtype == np.int64
        assert len(part) > 0
        assert (np.diff(part) > 0).all()
    dealt = np.concatenate(parts)
    assert set(dealt) <= set(range(len(y)))
    n = how.examples_per_client
    if n is not None:
        assert {len(part) for part in parts} == {n}
    if n is None or clients * n <= len(y):
        assert len(np.unique(dealt)) == len(dealt)
    if n is None:
        with_somebody = np.unique(y[dealt]) if how.kind == "shards" else np.unique(y)
        assert np.array_equal(np.sort(dealt), np.flatnonzero(np.isin(y, with_somebody)))
    again = how.deal(y, clients, rng(seed))
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))


@settings(max_examples=100)
@given(
    kind=st.sampled_from(["dirichlet", "iid", "shards"]),
    clients=st.integers(1, 30),
    n=st.integers(2, 60),
    seed=st.integers(0, 2**32),
)
def test_a_size_that_the_set_has_room_for_is_dealt(kind: str, clients: int, n: int, seed: int) -> None:
    assume(kind != "shards" or -(-clients * 2 // 10) * -(-n // 2) <= 60)
    parts = Partition(kind, examples_per_client=n).deal(TEN, clients, rng(seed))
    assert {len(part) for part in parts} == {n}


@pytest.mark.parametrize("kind", ["dirichlet", "iid", "shards"])
def test_more_than_there_is_overlaps_between_clients_and_never_within_one(kind: str) -> None:
    parts = Partition(kind, alpha=5, examples_per_client=100).deal(TEN, 30, rng())
    dealt = np.concatenate(parts)
    assert len(dealt) == 30 * 100
    assert 400 < len(np.unique(dealt)) <= 600
    assert all(len(np.unique(part)) == 100 for part in parts)


@pytest.mark.parametrize("kind", sorted(PARTITIONS))
def test_another_seed_deals_another_way(kind: str) -> None:
    one, other = (Partition(kind).deal(TEN, 6, rng(seed)) for seed in (0, 1))
    assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))


# What is particular to each


def test_iid_clients_differ_in_size_by_one_at_most_and_have_every_class() -> None:
    parts = Partition("iid").deal(TEN, 7, rng())
    assert sorted(len(part) for part in parts) == [85, 85, 86, 86, 86, 86, 86]
    assert all(len(np.unique(TEN[part])) == 10 for part in parts)


@settings(max_examples=100)
@given(
    clients=st.integers(1, 40),
    k=st.integers(1, 10),
    n=st.none() | st.integers(10, 15),
    seed=st.integers(0, 2**32),
)
def test_shards_give_each_client_so_many_classes_and_no_class_to_many_more_than_another(
    clients: int, k: int, n: int | None, seed: int
) -> None:
    assume(n is None or clients * n > 600 or -(-clients * k // 10) * -(-n // k) <= 60)
    parts = Partition("shards", classes_per_client=k, examples_per_client=n).deal(TEN, clients, rng(seed))
    held = np.array([np.bincount(TEN[part], minlength=10) for part in parts])
    assert ((held > 0).sum(axis=1) == k).all()
    holders = (held > 0).sum(axis=0)
    assert holders.max() - holders.min() <= 1
    if n is not None:
        assert np.where(held > 0, held, n // k).min() >= n // k
        assert held.max() <= -(-n // k)


def test_quantity_gives_everybody_the_minimum_and_some_much_more() -> None:
    sizes = [len(part) for part in Partition("quantity", alpha=0.3).deal(TEN, 12, rng())]
    assert min(sizes) >= MINIMUM
    assert max(sizes) > 2 * 600 / 12
    even = [len(part) for part in Partition("quantity", alpha=1e6).deal(TEN, 12, rng())]
    assert max(even) - min(even) <= 3


def test_a_small_alpha_skews_labels_of_clients_of_one_size_too() -> None:
    even, skewed = (
        np.mean([np.bincount(TEN[own]).max() / 30 for own in how.deal(TEN, 20, rng())])
        for how in (
            Partition(alpha=1e6, examples_per_client=30),
            Partition(alpha=0.05, examples_per_client=30),
        )
    )
    assert even < 0.3
    assert skewed > 0.6


# What cannot be


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"kind": "dirichle"}, "no partition 'dirichle': there are dirichlet, iid, shards, quantity"),
        ({"alpha": 1e-4}, "a partition's alpha of 0.0001: give 0.001 to 1000000"),
        ({"alpha": float("nan")}, "a partition's alpha of nan"),
        ({"alpha": 1.7e308}, "a partition's alpha of 1.7e+308"),
        ({"classes_per_client": 0}, "0 classes a client: give 1 to 65536"),
        ({"classes_per_client": 2**16 + 1}, "65537 classes a client: give 1 to 65536"),
        ({"examples_per_client": 0}, "0 examples a client: give 1 to 2^31-1, or none"),
        ({"examples_per_client": 2**31}, "2147483648 examples a client: give 1 to 2^31-1, or none"),
    ],
)
def test_a_partition_that_cannot_be(fields: dict[str, object], says: str) -> None:
    with pytest.raises(DataError) as caught:
        Partition(**fields)  # type: ignore[arg-type]
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("how", "clients", "says"),
    [
        (Partition(), 0, "0 clients: a training set is dealt out to 1 to 1000000"),
        (Partition(), 76, "600 examples cannot give 76 clients 8 each: take at most 75 clients"),
        (Partition("quantity"), 76, "600 examples cannot give 76 clients 8 each"),
        (Partition("iid"), 601, "600 examples cannot give 601 clients 1 each"),
        (Partition("iid", examples_per_client=601), 1, "601 examples a client of 600 there are: take fewer"),
        (
            Partition("quantity", examples_per_client=5),
            2,
            "draws the clients' sizes: leave examples_per_client",
        ),
        (Partition("shards", classes_per_client=11), 2, "11 classes a client of 10 there are: take fewer"),
        (
            Partition("shards", examples_per_client=1),
            2,
            "1 example a client cannot be of 2 classes: take more",
        ),
        (
            Partition("shards", examples_per_client=122),
            4,
            "label 0 has 60 examples, too few for those who get",
        ),
        (
            Partition("shards", examples_per_client=122),
            40,
            "40 clients: take fewer clients, fewer examples a",
        ),
        (Partition("shards", classes_per_client=10), 61, "61 of 61 clients: take fewer clients"),
    ],
)
def test_a_deal_that_cannot_be(how: Partition, clients: int, says: str) -> None:
    with pytest.raises(DataError) as caught:
        how.deal(TEN, clients, rng())
    assert says in str(caught.value)


# Picture


@pytest.mark.parametrize(("clients", "classes", "suffix"), [(200, 62, "png"), (20, 1000, "svg")])
def test_a_deal_is_drawn_and_pyplot_left_alone(
    tmp_path: Path, clients: int, classes: int, suffix: str
) -> None:
    from matplotlib import pyplot

    open_figures = pyplot.get_fignums()
    y = np.arange(20 * clients + 2 * classes) % classes
    path = tmp_path / f"deal.{suffix}"
    draw_partition(path, y, Partition().deal(y, clients, rng()), classes, "who holds what")
    assert path.read_bytes().startswith(b"\x89PNG" if suffix == "png" else b"<?xml")
    assert path.stat().st_size > 5_000
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert pyplot.get_fignums() == open_figures


def test_of_very_many_classes_the_rarest_are_drawn_together() -> None:
    counts = rng().integers(0, 9, (3, 100))
    counts[:, 7] = 100
    rows, names = _rows(counts)
    assert rows.shape == (3, MOST_ROWS)
    assert names[-1] == f"{100 - MOST_ROWS + 1} others"
    assert "7" in names
    assert np.array_equal(rows.sum(axis=1), counts.sum(axis=1))


def test_a_picture_of_no_known_format_is_not_drawn(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a picture's name ends in \.png, \.pdf, \.svg"):
        draw_partition(tmp_path / "deal.txt", TEN, [np.arange(3)], 10, "")
    assert list(tmp_path.iterdir()) == []
