"""What three clients release: the sum, flooded as is said, by each with the same noise; a liar is named."""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from secagg import CKKS, Bounded, Counts, RemoteProtocolError, TooFewClients
from secagg.ckks.flooding import (
    as_bytes,
    flood,
    from_grid,
    gaussian,
    majority,
    of_bytes,
    slot_flooding,
)
from secagg.ckks.messages import Decrypted, DecryptRequest
from secagg.ckks.packing import GRID, pack_residues
from secagg.ckks.ring import flooding_noise, fresh_noise
from secagg.wire import decode, encode
from tests.play import Play, changed
from tests.secagg.helpers import releasing
from tests.secagg.helpers_ckks import keys_of, residues_of

SEED = bytes(range(32))
SMALLEST, LARGEST = -(2**63), 2**63 - 1
released = st.lists(st.integers(SMALLEST, LARGEST), min_size=3, max_size=3)


# The noise


def test_the_noise_follows_its_seed() -> None:
    first, again, other = gaussian(SEED, 101), gaussian(SEED, 101), gaussian(bytes(32), 101)
    np.testing.assert_array_equal(first, again)
    assert np.count_nonzero(first == other) == 0
    assert len(first) == 101
    assert gaussian(SEED, 1).shape == (1,)


def test_the_noise_is_box_and_mullers_transform_of_aes_in_counter_mode() -> None:
    """All who release the same sum must draw the same: computed here without numpy and without the code."""
    stream = Cipher(algorithms.AES(SEED[:16]), modes.CTR(bytes(16))).encryptor().update(bytes(48))
    u = [((word >> 11) + 1) / 2**53 for word in struct.unpack("<6Q", stream)]
    radius, angle = [math.sqrt(-2 * math.log(x)) for x in u[:3]], [2 * math.pi * x for x in u[3:]]
    both = [r * f(a) for f in (math.cos, math.sin) for r, a in zip(radius, angle, strict=True)]
    assert gaussian(SEED, 6).tolist() == pytest.approx(both, rel=1e-12)
    assert gaussian(SEED, 5).tolist() == pytest.approx(both[:5], rel=1e-12)
    assert both[0] == pytest.approx(1.1257325748952163)


@pytest.mark.parametrize("count", [200_000, 200_001])
def test_the_noise_is_a_standard_normal_one(count: int) -> None:
    """Within five standard errors; over more than one block of the keystream."""
    x = gaussian(SEED, count)
    assert abs(x.mean()) < 5 / math.sqrt(count)
    assert abs(x.std() - 1) < 5 / math.sqrt(2 * count)
    assert abs((x**3).mean()) < 5 * math.sqrt(15 / count)
    assert abs((x**4).mean() - 3) < 5 * math.sqrt(96 / count)
    for z in (0.5, 1.0, 2.0, 3.0, 4.0):
        p = math.erfc(z / math.sqrt(2))
        assert abs(np.mean(np.abs(x) > z) - p) < 5 * math.sqrt(p * (1 - p) / count)


def test_no_two_numbers_of_the_noise_hang_together() -> None:
    """Not neighbours, and not the two that come from the same two words."""
    x = gaussian(SEED, 200_000)
    for lag in (1, 2, 100_000):
        for f in (np.asarray, np.square):
            a, b = f(x[:-lag]), f(x[lag:])
            assert abs(np.corrcoef(a, b)[0, 1]) < 5 / math.sqrt(len(a))


@pytest.mark.parametrize("word", [0, 2**11 - 1, 2**63, 2**64 - 1])
def test_the_extreme_words_give_finite_numbers(word: int, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = [np.full(8, word, np.uint64)]
    monkeypatch.setattr("secagg.ckks.flooding.keystream", lambda seed, count, dtype: stream)
    x = gaussian(SEED, 8)
    assert np.isfinite(x).all()
    assert np.abs(x).max() <= math.sqrt(2 * 53 * math.log(2)) < 8.58


def test_the_deviation_of_a_slot_by_hand() -> None:
    """sigma_fl sqrt(N / 2) / Delta, sigma_fl = sqrt(12 tau) 2^20 e_ct."""
    plan = CKKS.for_cohort(3, Bounded(length=9000, bound=1.0, bits=8), ending="release").plan
    assert (plan.ring.degree, plan.ciphertexts) == (4096, 3)
    e_ct = math.sqrt(2 * (3 * 10.5 + 9 / 12))
    sigma_fl = math.sqrt(12 * 3) * 2**20 * e_ct
    assert slot_flooding(plan, 3, 40) == pytest.approx(sigma_fl * math.sqrt(2048) / plan.scale)


# The grid


def test_a_flooded_slot_is_a_whole_number_of_steps() -> None:
    slots = np.array([0.0, 1.0, -2.5, 1e6])
    steps = flood(slots, 0.0, SEED)
    assert steps.dtype == np.int64
    assert steps.tolist() == [round(x / GRID) for x in slots.tolist()]
    np.testing.assert_array_equal(from_grid(steps), slots)


@given(st.lists(st.floats(-(2.0**45), 2.0**45), min_size=1, max_size=20))
def test_rounding_to_the_grid_moves_nothing_by_more_than_half_a_step(slots: list[float]) -> None:
    x = np.array(slots)
    assert np.abs(from_grid(flood(x, 0.0, SEED)) - x).max() <= GRID / 2


def test_flooding_adds_the_noise_times_its_deviation() -> None:
    noise = from_grid(flood(np.zeros(50_000), 3.0, SEED))
    assert np.abs(noise - 3.0 * gaussian(SEED, 50_000)).max() <= GRID / 2


def test_the_grid_is_finer_than_the_flooding() -> None:
    for clients in (3, 100):
        plan = CKKS.for_cohort(clients, Bounded(length=10**6, bound=1.0, bits=16), ending="release").plan
        assert slot_flooding(plan, clients, 40) > 4 * GRID


# Through the clients


LENGTH = 2**16


@pytest.fixture(scope="module")
def session() -> tuple[Play, Any]:
    """A whole release of 2^16 real numbers, and its result."""
    rng = np.random.default_rng(5)
    inputs = {u: {"x": rng.uniform(-2, 2, LENGTH), "n": [u]} for u in range(4)}
    vectors = {"x": Bounded(length=LENGTH, bound=2.0, bits=10), "n": Counts(length=1, maximum=9)}
    play = Play(releasing(inputs, vectors), inputs)
    return play, play.finish()


def test_the_released_noise_is_what_the_formula_says(session: tuple[Play, Any]) -> None:
    """2^16 slots: two percent are seven standard errors. What fresh ciphertexts add is 2^-40 of it."""
    play, total = session
    plan = play.scheme.plan
    exact = np.sum([play.inputs[u]["x"] for u in range(4)], axis=0)
    errors = (total.sum["x"] - exact) / 2.0 * plan.layouts["x"].real  # in slots
    sigma_fl = flooding_noise(fresh_noise(plan.ring, 4), plan.ciphertexts, 40)
    expected = sigma_fl * math.sqrt(plan.ring.degree / 2) / plan.scale
    assert expected == pytest.approx(slot_flooding(plan, 4, 40))
    grid = GRID / math.sqrt(12)
    assert np.std(errors) == pytest.approx(math.hypot(expected, grid), rel=0.02)
    assert np.std(errors) == pytest.approx(expected, rel=0.02)
    assert abs(np.mean(errors)) < 6 * expected / math.sqrt(LENGTH)
    assert np.mean((errors / np.std(errors)) ** 4) == pytest.approx(3, abs=0.25)


def test_the_released_mean_is_within_what_is_said_and_integers_are_exact(session: tuple[Play, Any]) -> None:
    play, total = session
    exact = np.mean([play.inputs[u]["x"] for u in range(4)], axis=0)
    assert np.abs(total.mean["x"] - exact).max() <= total.error_bound["x"] <= 2.0 / (2**9 - 1)
    assert total.sum["n"].tolist() == [6]


# Who releases


def small(length: int = 40) -> Play:
    inputs = {u: np.sin(u + np.arange(float(length))) for u in range(5)}
    return Play(releasing(inputs, Bounded(length=length, bound=1.0, bits=8)), inputs)


def answers_of(play: Play) -> dict[int, Any]:
    return {u: bytes(decode(Decrypted, message).released) for u, message in play.answers.items()}


def test_three_clients_release_the_same_numbers_and_the_others_nothing() -> None:
    answers = answers_of(small().to("decrypt").answer())
    assert len(answers[0]) == 8 * 40
    assert answers[0] == answers[1] == answers[2]
    assert answers[3] == answers[4] == b""


def test_another_sum_is_flooded_with_other_noise() -> None:
    """Else the difference of two released sums would have none. Constants: their slots are known."""
    play = small(1000).to("decrypt")
    plan, request = play.scheme.plan, decode(DecryptRequest, play.requests[0])
    state, noise = play.clients[0]._state, []
    for value in (0, 1):
        constant = np.zeros((1, 2, 1, plan.ring.degree), np.uint64)
        polynomial = np.zeros(plan.ring.degree, object)
        polynomial[0] = value * plan.scale
        constant[0, 0, 0] = residues_of(plan.ring, polynomial)
        _, answer = state.decrypt(
            DecryptRequest(request.survivors, memoryview(pack_residues(plan.ring, constant)))
        )
        noise.append(from_grid(of_bytes(answer.released, 1000)) - value)
    assert all(0.03 < np.std(each) < 0.07 for each in noise)
    assert abs(np.corrcoef(*noise)[0, 1]) < 0.25
    assert np.count_nonzero(noise[0] == noise[1]) < 200


def test_another_session_is_flooded_with_other_noise() -> None:
    first, second = (small().to("decrypt") for _ in range(2))
    assert keys_of(first.clients[0]).secret().tobytes() != keys_of(second.clients[0]).secret().tobytes()
    a, b = (np.frombuffer(answers_of(play.answer())[0], "<i8") for play in (first, second))
    assert np.count_nonzero(a == b) < 20


# Majority


def told(*values: Any) -> dict[int, Any]:
    return {u: np.array(value, np.int64) for u, value in enumerate(values)}


@pytest.mark.parametrize("order", [*itertools.permutations([[5, 6, 7], [5, 6, 7], [5, 6, 9]])])
def test_one_liar_of_three_is_outvoted_and_named_wherever_it_stands(order: Any) -> None:
    agreed = majority(told(*order), 2)
    assert agreed is not None
    values, liars = agreed
    assert values.tolist() == [5, 6, 7]
    assert set(liars) == {order.index([5, 6, 9])}


def test_three_that_agree_name_nobody() -> None:
    agreed = majority(told([1, 2], [1, 2], [1, 2]), 2)
    assert agreed is not None
    assert not agreed[1]


def test_two_that_agree_are_enough_and_two_that_do_not_are_none() -> None:
    agreed = majority(told([1, 2], [1, 2]), 2)
    assert agreed is not None
    assert agreed[0].tolist() == [1, 2]
    assert not agreed[1]
    assert majority(told([1, 2], [1, 4]), 2) is None


@pytest.mark.parametrize("order", list(itertools.permutations(([0, 0], [1, 0], [-1, -1]))))
def test_of_two_honest_ones_that_round_differently_none_is_named_for_a_third(order: Any) -> None:
    """[0, 0] and [1, 0] are honest. A liar one step on the far side of the first agrees with it alone: it is
    outvoted by what all three agree with."""
    value, liars = majority(told(*order), 2) or pytest.fail("no majority")
    assert value.tolist() == [0, 0]
    assert not liars


def test_three_that_all_differ_are_no_majority() -> None:
    assert majority(told([1], [3], [5]), 2) is None
    assert majority({}, 1) is None


def test_one_that_was_asked_alone_is_believed() -> None:
    agreed = majority(told([1]), 1)
    assert agreed is not None
    assert agreed[0].tolist() == [1]


@pytest.mark.parametrize(("apart", "agree"), [(0, True), (1, True), (-1, True), (2, False), (-2, False)])
def test_one_step_apart_is_the_same(apart: int, agree: bool) -> None:
    assert (majority(told([7, 7], [7, 7 + apart]), 2) is not None) == agree


@pytest.mark.parametrize("extreme", [SMALLEST, LARGEST, SMALLEST + 1, LARGEST - 1])
@pytest.mark.parametrize("true", [0, -1, 1, SMALLEST, LARGEST])
def test_extreme_numbers_do_not_overflow_into_agreement(extreme: int, true: int) -> None:
    """In 64 bits the smallest less the largest is one."""
    agreed = majority(told([true], [extreme], [true]), 2)
    assert agreed is not None
    assert agreed[0].tolist() in ([true], [extreme])
    assert set(agreed[1]) == (set() if abs(true - extreme) <= 1 else {1})


@given(released, released, st.permutations([0, 1, 2]))
def test_the_majority_is_two_and_the_third_is_named_if_it_is_apart(
    true: list[int], lie: list[int], order: list[int]
) -> None:
    values = [true, true, lie]
    agreed = majority(told(*(values[i] for i in order)), 2)
    assert agreed is not None
    near = all(abs(float(a) - float(b)) <= 1 for a, b in zip(true, lie, strict=True))
    assert set(agreed[1]) == (set() if near else {order.index(2)})
    assert near or agreed[0].tolist() == true


# On the wire


@given(st.lists(st.integers(SMALLEST, LARGEST), max_size=20))
def test_what_is_released_is_eight_bytes_a_slot(values: list[int]) -> None:
    data = as_bytes(np.array(values, np.int64))
    assert data == b"".join(value.to_bytes(8, "little", signed=True) for value in values)
    read = of_bytes(memoryview(data), len(values))
    assert read is not None
    assert read.tolist() == values


@pytest.mark.parametrize("size", [0, 1, 7, 8, 15, 17, 24])
def test_another_number_of_bytes_is_none(size: int) -> None:
    assert of_bytes(bytes(size), 2) is None
    assert of_bytes(bytes(16), 2) is not None


# A releaser that lies


def lie(answer: Any) -> Decrypted:
    values = np.frombuffer(answer.released, "<i8").copy()
    values[3] += 2
    return Decrypted(memoryview(values.tobytes()))


@pytest.mark.parametrize("liar", [0, 1, 2])
def test_a_releaser_that_lies_is_caught_and_the_sum_is_right(liar: int) -> None:
    play = small().to("decrypt").answer()
    play.answers[liar] = changed(Decrypted, play.answers[liar], lie)
    total = play.finish()
    assert play.server.caught == {liar: "released another sum than the others"}
    assert total.survivors == set(range(5))
    exact = np.mean(list(play.inputs.values()), axis=0)
    assert np.abs(total.mean[""] - exact).max() <= total.error_bound[""]


def test_where_one_releaser_is_gone_the_other_two_must_agree() -> None:
    play = small().to("decrypt").answer()
    del play.answers[0]
    play.finish()
    assert not play.server.caught
    play = small().to("decrypt").answer()
    del play.answers[0]
    play.answers[1] = changed(Decrypted, play.answers[1], lie)
    with pytest.raises(RemoteProtocolError, match="no majority of the clients that released the sum") as no:
        play.finish()
    assert not no.value.culprits  # of two, either may lie


def test_three_releasers_that_differ_give_no_sum() -> None:
    play = small().to("decrypt").answer()
    for u in (0, 1):
        for _ in range(u + 1):
            play.answers[u] = changed(Decrypted, play.answers[u], lie)
    with pytest.raises(RemoteProtocolError, match="no majority"):
        play.finish()
    assert play.server.result is None


def test_one_releaser_alone_is_not_believed() -> None:
    play = small().to("decrypt").answer()
    play.answers = {u: answer for u, answer in play.answers.items() if u in (0, 3, 4)}
    with pytest.raises(TooFewClients, match="1 client left in round decrypt, 2 needed"):
        play.finish()


def test_a_release_of_another_length_or_from_another_client_is_refused() -> None:
    play = small().to("decrypt").answer()
    for u, message, words in (
        (0, Decrypted(memoryview(bytes(8 * 41))), "released 328 bytes, not 320"),
        (1, Decrypted(memoryview(b"")), "released 0 bytes, not 320"),
        (4, Decrypted(memoryview(bytes(8 * 40))), "released a sum, and was not to release it"),
    ):
        with pytest.raises(RemoteProtocolError, match=words) as refused:
            play.server.receive(u, encode(message))
        assert refused.value.culprits == {u}


def test_the_answers_of_those_who_are_not_asked_are_not_waited_for() -> None:
    """The sum is there as soon as the three have answered, whoever else is gone."""
    play = small().to("decrypt").answer()
    answers: Mapping[int, bytes] = {u: play.answers[u] for u in range(3)}
    play.answers = dict(answers)
    assert play.finish().survivors == set(range(5))
