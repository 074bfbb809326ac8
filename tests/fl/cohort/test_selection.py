"""Selection and clusters: who is chosen how often, what a lie gains, and that everybody has one cluster."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl.cohort.links import MODES, place
from fl.cohort.selection import CLUSTERS, SELECTIONS, Declared, choose, clusters

BY = st.sampled_from(list(SELECTIONS))
IDS = st.sets(st.integers(0, 2**32 - 1), min_size=1, max_size=30)
SEEDS = st.integers(0, 2**32)
SECRET = bytes(32)
SECRETS = st.binary(min_size=32, max_size=32)


def cohort(ids: set[int], seed: int = 0) -> dict[int, Declared]:
    rng = np.random.default_rng(seed)
    links = place(len(ids), "mixed", rng)
    return {u: Declared(rng.random(), link, int(rng.integers(4))) for u, link in zip(ids, links, strict=True)}


def ranked(n: int) -> dict[int, Declared]:
    """Client u has the u-th worst data."""
    return {u: Declared(u / n) for u in range(n)}


def times_chosen(by: str, candidates: dict[int, Declared], k: int, rounds: int = 3000) -> Counter[int]:
    return Counter(u for round in range(rounds) for u in choose(by, candidates, k, SECRET, round))


# Selection


@given(BY, IDS, st.integers(1, 40), SEEDS, SECRETS, st.integers(0, 100))
def test_a_choice_is_k_candidates_in_order_and_the_same_again(
    by: str, ids: set[int], k: int, seed: int, secret: bytes, round: int
) -> None:
    candidates = cohort(ids, seed)
    chosen = choose(by, candidates, k, secret, round)
    assert chosen == choose(by, dict(reversed(candidates.items())), k, secret, round)
    assert list(chosen) == sorted(set(chosen))
    assert set(chosen) <= ids
    assert len(chosen) == min(k, len(ids))


@given(BY, SECRETS)
def test_rounds_and_secrets_choose_apart(by: str, secret: bytes) -> None:
    candidates = cohort(set(range(60)))
    choices = {choose(by, candidates, 10, s, r) for s in (secret, secret[::-1] + b"x") for r in range(10)}
    assert len(choices) > 10


@pytest.mark.parametrize("by", SELECTIONS)
@pytest.mark.parametrize("k", [1, 4])
def test_among_equals_everyone_is_chosen_alike(by: str, k: int) -> None:
    (link,) = place(1, "lte", np.random.default_rng(0))
    times = times_chosen(by, {u: Declared(0.5, link) for u in range(10)}, k)
    deviation = math.sqrt(3000 * k / 10 * (1 - k / 10))
    assert all(abs(times[u] - 3000 * k / 10) < 5 * deviation for u in range(10))


def test_quality_and_channel_take_the_best_of_those_on_offer() -> None:
    assert choose("quality", ranked(8), 4, SECRET, 0) == (4, 5, 6, 7)
    candidates = cohort(set(range(8)))
    by_rate = sorted(candidates, key=lambda u: candidates[u].link.up)  # type: ignore[union-attr]
    assert choose("channel", candidates, 4, SECRET, 0) == tuple(sorted(by_rate[4:]))


def test_the_best_take_twice_their_share_of_the_rounds_and_the_last_k_none() -> None:
    n, k, rounds = 20, 4, 3000
    times = times_chosen("quality", ranked(n), k, rounds)
    often = 2 * k / n
    assert times[n - 1] / rounds == pytest.approx(often, abs=5 * math.sqrt(often * (1 - often) / rounds))
    assert [times[u] for u in range(k)] == [0] * k
    assert times[k] > 0


def test_one_that_overstates_takes_part_at_most_twice_as_often() -> None:
    n, k, rounds = 20, 4, 3000
    honest = ranked(n)
    lied = times_chosen("quality", honest | {0: Declared(1.0)}, k, rounds)[0] / rounds
    assert times_chosen("quality", honest, k, rounds)[0] == 0
    assert lied < 2 * k / n + 5 * math.sqrt(0.25 / rounds)


@pytest.mark.parametrize("k", [0, -1])
@pytest.mark.parametrize("by", SELECTIONS)
def test_nobody_cannot_be_chosen(by: str, k: int) -> None:
    with pytest.raises(ValueError, match="ask for 1 client or more"):
        choose(by, cohort({1, 2, 3}), k, SECRET, 0)


def test_an_unknown_selection_lists_those_there_are() -> None:
    with pytest.raises(ValueError, match="no selection by 'best': take one of chance, quality, channel"):
        choose("best", ranked(3), 1, SECRET, 0)


@pytest.mark.parametrize("k", [1, 9])
def test_the_channel_of_one_that_has_not_declared_it_is_not_guessed(k: int) -> None:
    candidates = cohort({1, 2, 3}) | {4: Declared(1.0), 7: Declared(1.0)}
    with pytest.raises(ValueError, match=r"'channel' needs every client's link: have \[4, 7\] declare one"):
        choose("channel", candidates, k, SECRET, 0)
    assert len(choose("quality", candidates, k, SECRET, 0)) == min(k, 5)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"quality": 1.01}, "a quality of 1.01: declare one from 0 to 1"),
        ({"quality": -0.1}, "declare one from 0 to 1"),
        ({"quality": math.nan}, "a quality of nan"),
        ({"quality": 1.0, "label": -1}, "a label of -1: declare one from 0 on, or None"),
    ],
    ids=str,
)
def test_what_cannot_be_declared_is_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Declared(**wrong)


# Clusters


@given(st.sampled_from(list(CLUSTERS)), IDS, SEEDS, st.integers(1, 6))
def test_everybody_is_in_one_cluster_and_none_is_too_small(
    by: str, ids: set[int], seed: int, smallest: int
) -> None:
    declared = cohort(ids | {1, 2, 3, 4, 5, 6}, seed)
    members = set(declared)
    found = clusters(by, members, declared, smallest)
    assert sorted(u for cluster in found for u in cluster) == sorted(members)
    assert all(len(cluster) >= smallest for cluster in found)
    assert all(list(cluster) == sorted(cluster) for cluster in found)
    assert list(found) == sorted(found)
    assert found == clusters(by, sorted(members, reverse=True), declared, smallest)


@given(st.sampled_from(list(CLUSTERS)), IDS, SEEDS)
def test_where_no_group_is_too_small_a_cluster_is_an_attribute(by: str, ids: set[int], seed: int) -> None:
    declared = cohort(ids, seed)
    found = clusters(by, ids, declared, smallest=1)
    attributes = [{CLUSTERS[by](declared[u]) for u in cluster} for cluster in found]
    assert all(len(of) == 1 for of in attributes)
    assert len(set.union(*attributes)) == len(found)


def labelled(*labels: int) -> dict[int, Declared]:
    return {u: Declared(1.0, label=label) for u, label in enumerate(labels)}


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ((5, 5, 5, 0, 0, 0), ((0, 1, 2), (3, 4, 5))),
        ((5, 5, 5, 0, 0, 1), ((0, 1, 2), (3, 4, 5))),  # two small groups make one
        ((5, 5, 5, 5, 0, 0, 0, 1), ((0, 1, 2, 3), (4, 5, 6, 7))),  # the rest joins the smallest
        ((5, 5, 5, 0, 0, 0, 1, 2), ((0, 1, 2, 6, 7), (3, 4, 5))),  # of several, that of the lowest id
        ((5, 6, 7), ((0, 1, 2),)),
        ((5, 5, 5, 5, 0), ((0, 1, 2, 3, 4),)),
    ],
)
def test_groups_that_are_too_small_are_merged(
    labels: tuple[int, ...], found: tuple[tuple[int, ...], ...]
) -> None:
    declared = labelled(*labels)
    assert clusters("label", declared, declared) == found


def test_places_are_quadrants_and_modes_are_modes() -> None:
    declared = cohort(set(range(200)))
    assert len(clusters("place", declared, declared)) == 4
    assert len(clusters("mode", declared, declared)) == len(MODES)


def test_only_those_asked_for_are_clustered() -> None:
    declared = labelled(0, 0, 0, 1, 1, 1) | {6: Declared(1.0)}
    assert clusters("label", {0, 1, 2}, declared) == ((0, 1, 2),)


@pytest.mark.parametrize(
    ("by", "ids", "words"),
    [
        ("colour", {0, 1, 2}, "no clusters by 'colour': take one of label, place, mode"),
        ("label", {0, 1}, "2 clients cannot make a cluster of 3: wait for more"),
        ("label", [0, 1, 1], "2 clients cannot make a cluster of 3"),
        ("label", {0, 1, 3}, r"'label' needs every client's label: have \[3\] declare one"),
        ("label", {0, 1, 2, 99}, r"have \[99\] declare one"),
        ("mode", {0, 1, 2}, r"'mode' needs every client's link: have \[0, 1, 2\] declare one"),
        ("place", {0, 1, 2}, r"'place' needs every client's link"),
    ],
    ids=str,
)
def test_what_cannot_be_clustered_is_refused(by: str, ids: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        clusters(by, ids, labelled(0, 0, 0) | {3: Declared(1.0)})
