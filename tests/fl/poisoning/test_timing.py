"""When attackers attack, and how often they are there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl.poisoning.timing import attacks, there, windows


def test_a_window_holds_both_its_ends() -> None:
    assert [round for round in range(1, 100) if attacks("40:42, 7,90:90", round)] == [7, 40, 41, 42, 90]


def test_without_windows_every_round_is_attacked() -> None:
    assert all(attacks("", round) for round in range(1, 100))


@pytest.mark.parametrize(
    "text", ["5:3", "0:3", "x", ",", "1:", "1:2:3", "-1:2", "1.5", "1234567", "1:2,", "\u0663"]
)
def test_what_names_no_rounds_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="names no rounds: say from which to which, such as 40:60"):
        windows(text)


@given(data=st.data(), clients=st.integers(1, 30), availability=st.floats(0, 1), seed=st.integers(0, 999))
def test_so_many_different_clients_are_there_as_there_are_places(
    data: st.DataObject, clients: int, availability: float, seed: int
) -> None:
    attackers = data.draw(st.sets(st.integers(0, clients - 1)))
    places = data.draw(st.integers(1, clients))
    drawn = there(clients, attackers, places, availability, np.random.default_rng(seed))
    assert len(set(drawn)) == places
    assert list(drawn) == sorted(drawn)
    assert set(drawn) <= set(range(clients))
    assert drawn == there(clients, attackers, places, availability, np.random.default_rng(seed))


@pytest.mark.parametrize(("availability", "expected"), [(0.0, 0), (1.0, 4)])
def test_attackers_are_never_there_or_all_of_them(availability: float, expected: int) -> None:
    drawn = there(20, range(4), 10, availability, np.random.default_rng(0))
    assert sum(u < 4 for u in drawn) == expected


def test_each_place_is_an_attackers_with_the_probability_of_its_availability() -> None:
    rng = np.random.default_rng(1)
    counts = [sum(u < 50 for u in there(100, range(50), 5, 0.6, rng)) for _ in range(4000)]
    assert np.mean(counts) == pytest.approx(3.0, abs=0.07)
    assert np.var(counts) == pytest.approx(5 * 0.6 * 0.4, rel=0.1)


def test_where_the_others_are_too_few_attackers_take_their_places() -> None:
    assert there(5, range(4), 5, 0.0, np.random.default_rng(0)) == (0, 1, 2, 3, 4)
