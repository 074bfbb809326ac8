"""The benchmarks of split aggregation and blanks run, made small; what is committed says what is claimed."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from benchmarks import blanked, harness
from benchmarks.blanked import Seen, Setting
from benchmarks.privacy import dummy_blank, dummy_cost, dummy_epsilon, dummy_split
from benchmarks.spread import interval
from fl.privacy.releases import Skellam
from fl.privacy.spending import discrete_release
from secagg import Private
from secagg.blank import SUMMED, Coin
from secagg.private import Calibration
from tests.benchmarks.cases import few_examples, no_data, rows_of, shown


def committed(name: str) -> Sequence[Any]:
    return list(harness.read("privacy", name)["rows"])


def test_an_interval_holds_the_rate_of_a_fair_coin_and_the_ends_are_exact() -> None:
    assert interval(50, 100) == pytest.approx((0.3983, 0.6017), abs=1e-4)
    assert interval(0, 10) == pytest.approx((0.0, 1 - 0.025**0.1))
    assert interval(10, 10) == pytest.approx((0.025**0.1, 1.0))


# Cost


def test_a_client_of_split_says_one_message_and_one_of_masking_five(monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (dummy_cost.CLIENTS, dummy_cost.MANY):
        monkeypatch.setitem(size, "quick", 6)
    monkeypatch.setitem(dummy_cost.LENGTH, "quick", 3000)
    rows = rows_of(dummy_cost)
    assert len(rows) == len(dummy_cost.WAYS) + len(dummy_cost.OF_MANY)
    for row in rows:
        split = row["scheme"] == "split"
        assert row["rounds"] == (1 if split else 4 + (row["adversary"] == "active"))
        assert len(row["relay_s"]) == len(row["relay_up"]) == (row["of"] if split else 0)
        assert row["bits"] == (16 if row["noise"] else 19)
    one, other = (row["up"] for row in rows if row["noise"] and row["scheme"] == "split")
    assert one == other  # a blank's bytes are those of any other
    shown(dummy_cost, rows)


def test_the_aims_of_split_are_met() -> None:
    (row,) = [row for row in committed("dummy_cost") if (row["clients"], row["of"]) == (1000, 2)]
    assert row["client_ms"] < 10
    assert max(row["relay_s"]) < 1.2
    for row in committed("dummy_cost"):
        assert row["scheme"] != "split" or row["up"] < 1.01 * row["packed"]


# Split


def test_relays_see_nothing_unless_all_are_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dummy_split, "RELAYS", (2, 3))
    monkeypatch.setitem(dummy_split.SESSIONS, "quick", 4)
    rows = rows_of(dummy_split)
    for row in rows:
        together = row["together"] == row["relays"]
        if row["what"] == "counted":
            assert (row["uniform"], row["between"]) == ((0.875, 1.0) if together else (0.0, 0.0))
        elif together:
            assert row["right"] == row["of"] == 4
    shown(dummy_split, rows)


def test_the_distance_of_two_distributions() -> None:
    one, other = Counter({(0,): 3, (1,): 1}), Counter({(1,): 2, (2,): 2})
    assert dummy_split.variation(one, other) == 0.75
    assert dummy_split.variation(one, one) == 0.0


def test_what_is_committed_of_relays_is_a_coins_rate_and_that_of_all_of_them_is_not() -> None:
    for row in committed("dummy_split"):
        if row["what"] == "guessed":
            low, high = interval(row["right"], row["of"], 0.05 / 9)  # nine tries
            assert (low <= 0.5 <= high) == (row["together"] < row["relays"])


# Blanks


@pytest.mark.parametrize("scheme", ["masking", "split"])
def test_over_processes_every_coin_and_all_that_is_seen_is_noted(scheme: str) -> None:
    *_, seen = blanked.sessions(Setting(scheme, 3, 500, idle=scheme == "masking"), 2)
    assert len(seen) == 2
    for each in seen:
        assert isinstance(each, Seen)
        assert sorted(each.summed) == sorted(each.bytes) == [0, 1, 2]
        assert all(sorted(of_round) == [0, 1, 2] for of_round in each.seconds.values())
    assert blanked.by_length(seen).shape == (2, 3, 1)
    assert blanked.by_arrival(seen).shape == (2, 3, 2 * (len(seen[0].seconds) - 1))


def test_who_shows_the_coin_by_a_length_or_a_time_is_found() -> None:
    rng = np.random.default_rng(0)

    def one(tell: float) -> Seen:
        summed = {u: bool(rng.integers(2)) for u in range(4)}
        seconds = {u: float(rng.normal(tell * summed[u], 1)) for u in range(4)}
        sizes = {u: 1000 + (10 if tell and summed[u] else 0) for u in range(4)}
        return Seen(sizes, {"join": dict.fromkeys(range(4), 0.0), "shares": seconds}, summed)

    for tell in (0.0, 5.0):
        seen = [one(tell) for _ in range(100)]
        for features in (blanked.by_length(seen), blanked.by_arrival(seen)):
            right, of = blanked.guessed(features, seen)
            assert of == 200
            assert right > 180 if tell else 70 < right < 130


def test_sums_and_weights_tell_what_they_must(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dummy_blank, "COORDINATES", 256)
    rows = [row for z in (1.0, dummy_blank.LITTLE) for row in dummy_blank.run_sums(z, 10, 0)]
    assert rows[0]["most"] == pytest.approx(0.6915, abs=1e-4)
    for row in rows:
        assert not row["control"] or row["right"] > 0.8 * row["of"]
    weights = dummy_blank.run_weights(0)
    assert (weights["right"], weights["of"]) == (49, 50)
    shown(dummy_blank, [*rows, weights])


def test_what_is_committed_of_blanks_is_what_the_page_of_threats_says() -> None:
    """Lengths and times tell nothing; of sums whoever knows all vectors has no more than the noise lets."""
    rows = committed("dummy_blank")
    for row in rows:
        low, high = interval(row["right"], row["of"], 0.05 / len(rows))
        chance = low <= row["chance"] <= high
        if row["control"]:
            assert low > row["chance"]
        elif row["what"] in ("length", "arrival") or "nothing" in row["how"]:
            assert chance
        elif row["most"] is not None:
            assert low <= row["most"]


# Epsilon and bytes


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in {"PART": 3, "BLANKS": (0.0, 0.5, 0.75), "LENGTH": 4810}.items():
        monkeypatch.setattr(dummy_epsilon, name, value)
    for each in (dummy_epsilon.ROUNDS, dummy_epsilon.SESSION_ROUNDS):
        monkeypatch.setitem(each, "quick", 2)
    monkeypatch.setitem(dummy_epsilon.THROUGH, "quick", (0.0, 0.75))
    coins = itertools.cycle([SUMMED, Coin(0)])
    monkeypatch.setattr(dummy_epsilon, "toss", lambda blank, rng: next(coins))
    for _ in few_examples(monkeypatch, dummy_epsilon):
        few = dummy_epsilon.configuration

        def smaller(way: Any, *given: Any, few: Any = few) -> Any:
            return few(way, *given).with_(sample=way.per_round)

        monkeypatch.setattr(dummy_epsilon, "configuration", smaller)
        yield


@pytest.mark.usefixtures("_small")
def test_every_blank_is_trained_and_sessions_give_the_rings_sums() -> None:
    rows = rows_of(dummy_epsilon)
    assert [(row["blank"], row["per_round"], row["sums"]) for row in rows] == [
        *((0.0, 3, 0), (0.5, 6, 0), (0.75, 12, 0)),
        *((0.0, 3, 2), (0.75, 12, 2)),
    ]
    costs = [row["epsilon"] for row in rows[:3]]
    assert costs == sorted(costs, reverse=True)
    shown(dummy_epsilon, rows)


def test_the_mean_is_over_as_many_as_take_part_on_average_and_has_all_the_noise() -> None:
    way = dummy_epsilon.Way(0.8)
    x = np.zeros(dummy_epsilon.LENGTH)
    x[0] = 0.5
    mean = dummy_epsilon.in_ring(way, dict.fromkeys(range(100), x))
    assert mean[0] == pytest.approx(0.5, abs=0.06)
    deviation = dummy_epsilon.Z * dummy_epsilon.CLIP / dummy_epsilon.PART
    assert math.sqrt(np.mean(mean[1:] ** 2)) == pytest.approx(deviation, rel=0.03)


def test_the_bound_for_any_noise_is_the_one_given_beforehand() -> None:
    made = discrete_release(Calibration(Private(length=2**17, clip=1.0, bits=16), 100, 100))
    assert isinstance(made, Skellam)
    assert dummy_epsilon.general(made, 0.1, 100) == pytest.approx(9.83, abs=0.005)


def test_where_data_are_absent_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    no_data(monkeypatch, lambda: dummy_epsilon.run_case(dummy_epsilon.Way(0.0), 0, 1, 1))
