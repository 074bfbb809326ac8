"""Who holds what: damaged data, data held out, what is declared, and that one seed draws them all apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl.cohort.layout import DECLARED, VALIDATION, Layout, altered, lay_out, read_serving, write_serving
from fl.config.run import CHOICES, RunConfig
from fl.data import DataError, load


def layout_of(**changes: Any) -> Layout:
    return lay_out(RunConfig.of(**{"clients": 10} | changes))


def rows(x: np.ndarray) -> set[bytes]:
    return {row.tobytes() for row in x}


def test_without_more_everybody_has_its_own_part_of_the_training_set() -> None:
    layout, digits = layout_of(), load("digits")
    assert np.array_equal(layout.x, digits.train_x)
    assert np.array_equal(layout.y, digits.train_y)
    everything = np.sort(np.concatenate(list(layout.shares.values())))
    assert np.array_equal(everything, np.arange(len(digits.train_y)))
    x, y = layout.examples(3)
    assert np.array_equal(x, digits.train_x[layout.shares[3]])
    assert np.array_equal(y, digits.train_y[layout.shares[3]])
    assert layout.damaged == frozenset()
    assert layout.serving.validation is None
    assert {declared.quality for declared in layout.serving.declared.values()} == {1.0}
    assert {declared.link for declared in layout.serving.declared.values()} == {None}


# Damage


@pytest.mark.parametrize("damage", CHOICES["damage"])
@pytest.mark.parametrize("more", [{}, {"examples_per_client": 900}], ids=["apart", "overlapping"])
def test_damaged_clients_have_worse_copies_and_the_others_what_they_had(
    damage: str, more: dict[str, Any]
) -> None:
    """Where shares overlap too: a copy belongs to one client alone."""
    good, bad = layout_of(**more), layout_of(damage=damage, damaged=0.4, damage_level=0.6, **more)
    assert len(bad.damaged) == 4
    whole = len(good.y)
    assert np.array_equal(bad.x[:whole], good.x)
    assert np.array_equal(bad.y[:whole], good.y)
    owned = [u for u in bad.damaged for _ in bad.shares[u]]
    assert len(owned) == len(bad.y) - whole
    assert len({int(i) for u in bad.damaged for i in bad.shares[u]}) == len(owned)
    for u in range(10):
        (x, y), (worse_x, worse_y) = good.examples(u), bad.examples(u)
        if u not in bad.damaged:
            assert np.array_equal(bad.shares[u], good.shares[u])
        elif damage == "labels":
            assert np.array_equal(x, worse_x)
            assert np.sum(y != worse_y) == round(0.6 * len(y))
        else:
            assert np.array_equal(y, worse_y)
            assert np.mean(x != worse_x) > 0.2
        assert bad.serving.examples[u] == len(worse_y) == len(y)


def test_whatever_is_done_to_the_data_of_some_is_done_to_copies() -> None:
    """Of examples that others hold too, by functions that keep, drop or add some, one after another."""
    x, y = np.arange(6.0, dtype=np.float32).reshape(6, 1, 1, 1), np.arange(6)
    parts = x, y, {0: np.array([0, 1, 2]), 1: np.array([1, 2, 3]), 2: np.array([5, 4])}
    rng, told = np.random.default_rng(0), []

    def negated(x: np.ndarray, y: np.ndarray, *rest: Any) -> tuple[np.ndarray, np.ndarray]:
        told.append(rest)
        return -x, y

    def doubled(x: np.ndarray, y: np.ndarray, *_: Any) -> tuple[np.ndarray, np.ndarray]:
        return np.concatenate([x, x]), np.concatenate([y, y])

    def first(x: np.ndarray, y: np.ndarray, *_: Any) -> tuple[np.ndarray, np.ndarray]:
        return x[:1], y[:1]

    for poison, clients in ((negated, [1, 2]), (doubled, [2]), (first, [0])):
        parts = altered(parts, clients, poison, 0.5, 7, rng)
    held = {u: (parts[0][own].ravel().tolist(), parts[1][own].tolist()) for u, own in parts[2].items()}
    assert held == {
        0: ([0], [0]),
        1: ([-1, -2, -3], [1, 2, 3]),
        2: ([-5, -4, -5, -4], [5, 4, 5, 4]),
    }
    assert told == [(7, 0.5, rng)] * 2
    assert np.array_equal(parts[0][:6], x)
    assert np.array_equal(parts[1][:6], y)


def test_a_damaged_client_declares_it() -> None:
    layout = layout_of(damage="noise", damaged=0.3, damage_level=0.25)
    qualities = {u: declared.quality for u, declared in layout.serving.declared.items()}
    assert qualities == {u: 0.75 if u in layout.damaged else 1.0 for u in range(10)}
    assert len(layout.damaged) == 3


@pytest.mark.parametrize(("share", "clients"), [(0.0, 0), (0.04, 0), (0.5, 5), (1.0, 10)])
def test_so_many_clients_are_damaged(share: float, clients: int) -> None:
    assert len(layout_of(damage="missing", damaged=share).damaged) == clients


def test_the_test_set_is_never_damaged() -> None:
    digits = load("digits")
    for damage in CHOICES["damage"]:
        dataset = layout_of(damage=damage, damaged=1.0, damage_level=1.0).serving.dataset
        assert np.array_equal(dataset.test_x, digits.test_x)
        assert np.array_equal(dataset.test_y, digits.test_y)
        assert np.array_equal(dataset.train_x, digits.train_x)


# Validation data


@settings(max_examples=20)
@given(share=st.floats(0.05, 0.5), seed=st.integers(0, 1000))
def test_validation_data_are_in_nobodys_share_and_not_in_the_test_set(share: float, seed: int) -> None:
    layout, digits = layout_of(validation=share, seed=seed), load("digits")
    x, y = layout.serving.validation
    held = np.concatenate([layout.x[own] for own in layout.shares.values()])
    assert len(x) == len(y) == round(share * len(digits.train_y))
    assert len(held) + len(x) == len(digits.train_y)
    # Pictures alike there are: so many of each as before, split between the two.
    each = sorted(row.tobytes() for row in np.concatenate([held, x]))
    assert each == sorted(row.tobytes() for row in digits.train_x)
    assert not rows(x) & rows(digits.test_x)
    assert np.array_equal(layout.serving.dataset.test_x, digits.test_x)


def test_what_the_server_keeps_is_in_nobodys_share_and_not_of_the_test_set() -> None:
    layout, digits = layout_of(validation=0.1, root=100), load("digits")
    kept = [layout.serving.validation[0], layout.serving.root[0]]
    held = np.concatenate([layout.x[own] for own in layout.shares.values()])
    each = sorted(row.tobytes() for row in np.concatenate([held, *kept]))
    assert len(kept[1]) == 100
    assert each == sorted(row.tobytes() for row in digits.train_x)
    assert not rows(np.concatenate(kept)) & rows(digits.test_x)
    assert np.array_equal(layout.serving.dataset.test_x, digits.test_x)


def test_clients_of_a_group_hold_the_same_examples_and_others_hold_others() -> None:
    layout = layout_of(redundancy=5)
    first, *copies = (layout.shares[u].tolist() for u in range(5))
    assert copies == [first] * 4
    assert not set(first) & set(layout.shares[5].tolist())
    assert len(first) + len(layout.shares[5]) == len(load("digits").train_y)


def test_validation_data_are_held_out_where_something_is_decided_by_them() -> None:
    assert layout_of().serving.validation is None
    assert len(layout_of(until_accuracy=0.9).serving.validation[1]) == round(
        0.1 * len(load("digits").train_y)
    )
    assert layout_of(validation=0.0).serving.validation is None


def test_validation_data_are_as_they_came_whatever_clients_hold() -> None:
    changes = {"validation": 0.2, "damaged": 1.0, "damage_level": 1.0}
    good, bad = layout_of(**changes), layout_of(**changes, damage="missing")
    for one, other in zip(good.serving.validation, bad.serving.validation, strict=True):
        assert np.array_equal(one, other)
    assert not bad.examples(0)[0].any()


# What is declared, and the seed


def test_every_client_declares_its_most_common_label() -> None:
    layout = layout_of(partition="shards", classes_per_client=1)
    for u, declared in layout.serving.declared.items():
        assert set(layout.examples(u)[1]) == {declared.label}
    assert layout.serving.examples == {u: len(own) for u, own in layout.shares.items()}


@pytest.mark.parametrize("links", CHOICES["links"])
def test_every_client_has_a_link_of_the_model(links: str) -> None:
    modes = {declared.link.mode for declared in layout_of(links=links, clients=30).serving.declared.values()}
    assert modes == ({"lte", "wifi", "5g"} if links == "mixed" else {links})


def drawn(layout: Layout) -> dict[str, Any]:
    """What a seed decides, part by part."""
    serving = layout.serving
    return {
        "shares": [own.tolist() for own in layout.shares.values()],
        "damaged": sorted(layout.damaged),
        "links": [declared.link for declared in serving.declared.values()],
        "speeds": list(serving.speeds.values()),
        "validation": serving.validation and serving.validation[1].tolist(),
    }


ALL: dict[str, Any] = {"links": "mixed", "damage": "noise", "validation": 0.2}


def test_one_seed_draws_alike_and_another_does_not() -> None:
    one, same, other = (drawn(layout_of(seed=seed, **ALL)) for seed in (1, 1, 2))
    assert one == same
    for part, value in one.items():
        assert value != other[part]


@pytest.mark.parametrize(
    ("without", "unchanged"),
    [
        ({"links": None}, {"shares", "damaged", "speeds", "validation"}),
        ({"damage": None}, {"links", "speeds", "validation"}),
        ({"validation": 0.0}, {"damaged", "links", "speeds"}),
    ],
    ids=("links", "damage", "validation"),
)
def test_what_is_not_asked_for_moves_no_other_draw(without: dict[str, Any], unchanged: set[str]) -> None:
    whole, less = drawn(layout_of(**ALL)), drawn(layout_of(**ALL | without))
    assert {part for part in whole if whole[part] == less[part]} >= unchanged


def test_too_many_clients_for_the_data_are_refused() -> None:
    with pytest.raises(DataError):
        layout_of(clients=1000)


# The server's folder


@pytest.mark.parametrize("changes", [{}, ALL, {"links": "lte", "until_accuracy": 0.5}], ids=str)
def test_what_the_server_is_told_is_read_back(tmp_path: Path, changes: dict[str, Any]) -> None:
    told = layout_of(**changes).serving
    write_serving(tmp_path, told)
    read = read_serving(tmp_path, told.dataset)
    assert (read.declared, read.examples, read.speeds) == (told.declared, told.examples, told.speeds)
    assert (read.validation is None) is (told.validation is None)
    for one, other in zip(read.validation or (), told.validation or (), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"declared": {}}',
        b'{"declared": {"0": {"quality": 2}}, "examples": {}, "speeds": {}}',
    ],
)
def test_a_damaged_file_of_the_server_is_refused(tmp_path: Path, content: bytes) -> None:
    told = layout_of(**ALL).serving
    write_serving(tmp_path, told)
    (tmp_path / DECLARED).write_bytes(content)
    with pytest.raises(DataError, match=r"declared\.json is not readable"):
        read_serving(tmp_path, told.dataset)


def test_a_damaged_file_of_validation_data_is_refused(tmp_path: Path) -> None:
    told = layout_of(**ALL).serving
    write_serving(tmp_path, told)
    for path in (tmp_path / VALIDATION).iterdir():
        path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError):
        read_serving(tmp_path, told.dataset)


def test_a_folder_that_was_not_laid_out_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"declared\.json is not readable"):
        read_serving(tmp_path, load("digits"))


# Attackers


def test_attackers_are_so_many_and_nothing_else_is_drawn_otherwise_for_them() -> None:
    """Who holds what, whose data are damaged and who attacks know nothing of one another."""
    settings = {"damage": "labels", "damaged": 0.4, "links": "mixed"}
    honest, attacked = layout_of(**settings), layout_of(attack="flip", attackers=0.4, **settings)
    assert honest.attackers == frozenset()
    assert len(attacked.attackers) == 4
    assert attacked.damaged == honest.damaged != attacked.attackers
    for u in range(10):
        for mine, theirs in zip(attacked.examples(u), honest.examples(u), strict=True):
            assert np.array_equal(mine, theirs)
    assert attacked.serving.declared == honest.serving.declared
    assert attacked.serving.examples == honest.serving.examples


def test_fewer_attackers_are_some_of_the_more() -> None:
    few, many = (layout_of(attack="scale", attackers=share).attackers for share in (0.2, 0.5))
    assert few < many


def test_each_attacker_has_a_poisoned_copy_of_what_it_holds() -> None:
    layout = layout_of(attack="labels", attackers=0.3)
    assert layout.poisoned.keys() == layout.attackers
    for u in layout.attackers:
        (x, y), (worse_x, worse_y) = layout.examples(u), layout.poisoned_examples(u)
        assert np.array_equal(x, worse_x)
        assert np.array_equal(worse_y, 9 - y)


def test_the_level_is_that_of_the_attack_or_the_one_that_is_given() -> None:
    def flipped(**more: Any) -> int:
        layout = layout_of(attack="labels", attackers=1.0, **more)
        return sum(int((layout.poisoned_examples(u)[1] != layout.examples(u)[1]).sum()) for u in range(10))

    everybody = len(load("digits").train_y)
    assert flipped() == everybody
    assert flipped(attack_level=0.5) == pytest.approx(everybody / 2, abs=10)


@pytest.mark.parametrize("attack", ["sign-flip", None])
def test_an_attack_on_updates_or_none_leaves_the_data_as_they_are(attack: str | None) -> None:
    layout = layout_of(attack=attack)
    assert layout.poisoned == {}
    assert len(layout.x) == len(load("digits").train_y)


def test_who_is_there_is_drawn_for_the_rounds_of_the_attack_and_reaches_the_server(tmp_path: Path) -> None:
    settings = {"attack": "flip", "attackers": 0.5, "availability": 1.0, "sample": 5, "rounds": 9}
    layout = layout_of(attack_rounds="3:4,8", **settings)
    assert layout.serving.there == dict.fromkeys((3, 4, 8), tuple(sorted(layout.attackers)))
    write_serving(tmp_path, layout.serving)
    assert read_serving(tmp_path, layout.serving.dataset).there == layout.serving.there
    assert layout_of(**settings | {"availability": None}).serving.there == {}
