"""Blanks: a client contributes nothing with the probability that all agreed on, the sum of the others is
exact, and nothing that leaves it, or stays with it, tells how its coin fell.
"""

from __future__ import annotations

import itertools
import logging
import math
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import secagg
from secagg import (
    Bounded,
    Counts,
    LocalProtocolError,
    Masking,
    Policy,
    Private,
    RemoteProtocolError,
    Weight,
    run,
)
from secagg.alike import OWN_INPUT, Alike, in_memory
from secagg.blank import COIN_BYTES, FEW, SUMMED, chance_of_few, toss
from secagg.crypto import KEY_BYTES, Rng, SigningKey
from secagg.inputs import encode_inputs
from secagg.schemes import accept
from tests.play import Play, seeded
from tests.secagg.helpers import MASKING, ROUNDS, active, codes_of, credentials, semi_honest

D = 2**14
NOISED = Private(length=D, clip=4.0, bits=20)
RARE = 2.0**-22
"""With three honest clients to count on, so many blanks are allowed without noise, and four times as many not."""
every_make = pytest.mark.parametrize("make", MASKING.values(), ids=MASKING)


def with_coin(rng: Rng, summed: bool) -> Rng:
    """The same bytes, but for the coin's."""
    return lambda n: (b"\xff" if summed else b"\0") * n if n == COIN_BYTES else rng(n)


def bits(word: int) -> Rng:
    return lambda n: word.to_bytes(n, "little")


# The coin


@pytest.mark.parametrize("P", [0.5, 0.9, 1 - 2**-53, 2**-11, 0.3, 2.0**-64, 2.0**-70, 5e-324])
def test_a_coin_is_blank_for_just_as_many_words_as_the_probability_says(P: float) -> None:
    blanks = math.ceil(Fraction(P) * 2**64)
    assert toss(P, bits(blanks - 1)) == 0
    assert toss(P, bits(blanks)) == SUMMED == -1
    if P >= 2**-11:
        assert blanks == Fraction(P) * 2**64


def test_without_blanks_no_coin_is_tossed_and_with_them_one_for_all_vectors_after_they_were_given() -> None:
    drawn: list[int | str] = []

    def rng(n: int) -> bytes:
        drawn.append(n)
        return b"\xff" * n

    def given(task: bytes) -> Any:
        drawn.append("vectors")
        return {"a": np.zeros(3), "b": np.zeros(3)}

    specs = {name: Private(length=3, clip=1.0) for name in "ab"}
    for blank, coins in ((0.0, []), (0.5, [COIN_BYTES])):
        drawn.clear()
        play = Play(semi_honest(range(3), specs, blank=blank), dict.fromkeys(range(3), {}), rng=lambda u: rng)
        play.clients[0]._vectors = given
        play.to("advertise-keys").clients[0].receive(play.requests[0])
        assert drawn[:4] == ["vectors", *coins, KEY_BYTES, KEY_BYTES, KEY_BYTES][:4]


# The sum


def bounded_inputs(n: int) -> dict[int, dict[str, NDArray[np.float64]]]:
    return {u: {"": np.sin(u + np.arange(5.0))} for u in range(n)}


COINS = list(itertools.product((False, True), repeat=4))


@every_make
@pytest.mark.parametrize("lost", [None, *ROUNDS["active"]])
def test_the_sum_is_to_the_bit_that_of_the_survivors_who_take_part(make: Any, lost: str | None) -> None:
    """Whoever does, whoever is lost when; without noise, so that codes can be compared."""
    inputs = bounded_inputs(4)
    scheme = make(range(4), Bounded(length=5, bound=1.0), corrupt=0, dropout=1, blank=RARE)
    if lost is not None and lost not in scheme.rounds:
        return
    for summed in COINS:
        play = Play(
            scheme,
            inputs,
            drop={lost: [3]} if lost else {},
            rng=lambda u, summed=summed: with_coin(seeded(u), summed[u]),
        )
        total = play.finish()
        there = [u for u in total.survivors if summed[u]]
        assert total.codes[""].tolist() == codes_of(scheme, inputs, there)[""].tolist()
        assert len(total.survivors) in (3, 4)  # of those who count, some contribute nothing
        level = 1 / scheme.vectors[""].levels  # type: ignore[union-attr]
        due = sum((inputs[u][""] for u in there), np.zeros(5)) / ((1 - RARE) * len(total.survivors))
        assert np.abs(total.mean[""] - due).max() <= total.error_bound[""] == pytest.approx(level, rel=1e-4)


@every_make
def test_a_mean_is_over_as_many_as_take_part_on_average_and_its_noise_is_said(make: Any) -> None:
    """And all blank is a result: noise, of everybody."""
    scheme, q = make(range(5), NOISED, blank=0.75), 0.25
    made = scheme.calibration("")
    for summed in ([True] * 5, [True, False, False, True, False], [False] * 5):
        play = Play(
            scheme,
            {u: np.full(D, 2.0**-5) for u in range(5)},
            rng=lambda u, summed=summed: with_coin(seeded(u), summed[u]),
        )
        total = play.finish()
        due = sum(summed) * 2.0**-5
        assert total.noise == {"": pytest.approx(made.deviation(5) / q)}
        np.testing.assert_allclose(total.mean[""], total.sum[""] / (5 * q), rtol=1e-12)
        noise = total.mean[""] - due / (5 * q)
        assert float(np.sqrt(np.mean(noise * noise))) == pytest.approx(total.noise[""], rel=0.04)
        assert abs(float(noise.mean())) < 6 * total.noise[""] / math.sqrt(D)


def test_about_so_many_take_part_as_is_said() -> None:
    rng = seeded(0)
    assert sum(-toss(0.75, rng) for _ in range(4000)) == pytest.approx(1000, abs=6 * 27.4)


# What a session may not have


ONE, SURE = Bounded(length=1, bound=1.0), {"corrupt": 0, "dropout": 0, "m_min": 3, "threshold": 3}


@pytest.mark.parametrize(
    ("vectors", "blank", "words"),
    [
        ({"": NOISED}, 1.0, "blank 1.0: the probability .* at least 0 and below 1"),
        ({"": NOISED}, -0.5, "blank -0.5: the probability .* at least 0 and below 1"),
        ({"": NOISED}, math.nan, "blank nan: the probability .* at least 0 and below 1"),
        ({"a": ONE, "w": Weight(maximum=9)}, RARE, "beside the vector 'w': .* leave weights and counts out"),
        ({"a": ONE, "c": Counts(length=1, maximum=9)}, RARE, "beside the vector 'c': .* leave weights"),
        ({"": ONE}, 4 * RARE, r"with 3 honest clients to count on, .* with a chance of 2.73e-12, more"),
        ({"": ONE}, 0.9, r"with 3 honest clients .* with a chance of 0.972, more than 2\^-40"),
    ],
)
def test_sessions_that_would_tell_who_took_part_or_sum_too_few_are_refused(
    vectors: Any, blank: float, words: str
) -> None:
    with pytest.raises(LocalProtocolError, match=words):
        semi_honest(range(3), vectors, blank=blank, **SURE)


def test_what_just_keeps_the_rule_is_taken() -> None:
    semi_honest(range(3), ONE, blank=RARE, **SURE)
    semi_honest(range(3), NOISED, blank=0.99, **SURE)
    with pytest.raises(LocalProtocolError, match="with 2 honest clients to count on"):
        semi_honest(range(3), ONE, blank=RARE, **SURE | {"corrupt": 1})


@settings(max_examples=200)
@given(st.floats(1e-9, 1 - 1e-9), st.integers(1, 60))
def test_the_chance_of_a_sum_of_few_is_that_of_the_binomial(P: float, honest: int) -> None:
    p = Fraction(P)
    exact = p**honest + honest * (1 - p) * p ** (honest - 1)
    assert abs(Fraction(chance_of_few(P, honest)) / exact - 1) < Fraction(1, 10**50)


def test_of_ten_clients_at_nine_tenths_two_sums_in_five_are_one_clients() -> None:
    assert float(chance_of_few(0.9, 10)) == pytest.approx(0.387 + 0.349, abs=1e-3)
    assert chance_of_few(0.5, 45) > FEW >= chance_of_few(0.5, 46)
    assert chance_of_few(1 - 2.0**-53, 10**6) > FEW  # and it takes no time


def test_totals_of_known_weights_name_who_took_part() -> None:
    """Which is why they stay out: with eight clients and the numbers of examples that each is known to hold,
    49 of 50 totals are of one set of clients alone.
    """
    drawn = np.random.default_rng(0)
    named = 0
    sets = np.array(list(itertools.product((0, 1), repeat=8)))
    for _ in range(50):
        weights, taking_part = drawn.integers(100, 1000, 8), drawn.integers(0, 2, 8)
        named += np.count_nonzero(sets @ weights == taking_part @ weights) == 1
    assert named == 49
    specs = {"": Bounded(length=1, bound=1.0), "weight": Weight(maximum=1000)}
    with pytest.raises(LocalProtocolError, match="reads off its exact total who took part"):
        semi_honest(range(8), specs, blank=0.5)


# What is seen of the coin


def told_by(scheme: Masking, summed: bool, note: Callable[[str], None]) -> dict[str, Any]:
    """All that client 0 says, keeps and is told, its coin having fallen so; all else is the same."""
    left: list[bytes] = []
    play = Play(
        scheme,
        {u: np.linspace(-2, 2, D) for u in range(4)},
        rng=lambda u: with_coin(seeded(u), summed) if u == 0 else with_coin(seeded(u), True),
        server_rng=seeded(9),
    )
    client = play.clients[0]
    client._once = lambda context: left.append(context)
    said: dict[str, bytes] = {}
    while play.server.round != "done":
        note(play.server.round)
        play.answer()
        if 0 in play.answers:
            said[play.server.round] = play.answers[0]
        play.close()
    kept = {name: value for name, value in vars(client).items() if name not in ("_rng", "_vectors", "_once")}
    return {"said": said, "left": left, "clipping": client.clipping, "kept": repr(kept), "done": client.done}


@every_make
@pytest.mark.parametrize(
    ("spec", "P"),
    [(NOISED, 0.5), (Private(length=D, clip=4.0, noise="discrete-gaussian"), 0.5), ("bounded", RARE)],
)
def test_all_that_a_client_says_keeps_and_tells_is_the_same_however_its_coin_falls(
    make: Any, spec: Any, P: float, caplog: pytest.LogCaptureFixture
) -> None:
    """But for the masked vector, which a mask hides; also to the number of its bytes."""
    caplog.set_level(logging.DEBUG)
    spec = Bounded(length=D, bound=1.0) if spec == "bounded" else spec
    scheme = make(range(4), spec, corrupt=0, dropout=1, blank=P)
    one, other = (told_by(scheme, summed, lambda round: None) for summed in (True, False))
    masked = [told["said"].pop("masked-input") for told in (one, other)]
    assert one == other
    assert len(masked[0]) == len(masked[1])
    assert masked[0] != masked[1]
    assert not caplog.records
    assert one["clipping"][""].norm_factor < 1 or one["clipping"][""].coordinates > 0


@pytest.mark.parametrize(("spec", "P"), [(NOISED, 0.5), (Bounded(length=D, bound=1.0), RARE)])
def test_a_client_goes_through_the_same_lines_in_the_same_order_however_its_coin_falls(
    spec: Any, P: float
) -> None:
    """So that no time is taken for one that is not taken for the other: of the whole session."""
    package = str(Path(secagg.__file__).parent)
    scheme = semi_honest(range(4), spec, corrupt=0, dropout=1, blank=P)
    told_by(scheme, True, lambda round: None)  # caches are filled
    traces: list[list[tuple[str, int]]] = []
    for summed in (True, False):
        lines: list[tuple[str, int]] = []

        def trace(
            frame: FrameType, event: str, arg: Any, lines: list[tuple[str, int]] = lines
        ) -> Callable[..., Any] | None:
            if not frame.f_code.co_filename.startswith(package):
                return None
            lines.append((frame.f_code.co_filename, frame.f_lineno))
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            told_by(scheme, summed, lambda round: None)
        finally:
            sys.settrace(before)
        traces.append(lines)
    assert len(traces[0]) > 1000
    assert traces[0] == traces[1]


def test_noise_of_one_deviation_is_in_a_blank_as_in_a_vector() -> None:
    """Of a client's codes; so that calibration is as without blanks."""
    scheme = semi_honest(range(5), NOISED, blank=0.5)
    readings = scheme.readings(b"context", b"nonce")
    (x_u, _), (zeros, _) = (
        encode_inputs(
            scheme,
            np.zeros(D),
            b"context",
            bytes(32),
            readings=readings,
            blank=0.5,
            rng=with_coin(seeded(3), summed),
        )
        for summed in (True, False)
    )
    assert x_u[""].tolist() == zeros[""].tolist()
    signed = scheme.centred({"": zeros[""]})[""]
    assert np.mean(np.square(signed, dtype=float)) == pytest.approx(scheme.calibration("").variance, rel=0.07)


# What a client insists on


@pytest.mark.parametrize(
    ("vector", "offered", "policy", "due"),
    [
        (NOISED, 0.5, {"noise": 1.0}, None),
        (NOISED, 0.5, {"blank": 0.5}, None),
        (NOISED, 0.0, {"noise": 1.0}, None),
        (NOISED, 0.5, {}, "0"),  # next to no noise is noise, too
        (NOISED, 0.0, {"noise": 1.0, "blank": 0.5}, "0.5"),
        (NOISED, 0.9, {"blank": 0.5}, "0.5"),
        (NOISED, 0.5, {"noise": 1.0, "blank": 0.0}, "0"),
        (ONE, RARE, {}, "0"),
        (ONE, RARE, {"blank": RARE}, None),
        (ONE, 0.0, {"blank": RARE}, "2.38419e-07"),
    ],
)
def test_a_client_takes_the_blanks_it_insists_on_or_any_under_the_noise_it_insists_on(
    vector: Any, offered: float, policy: dict[str, Any], due: str | None
) -> None:
    scheme = semi_honest(range(5), vector, blank=offered, corrupt=0)
    mine = Policy(adversary="semi-honest", corrupt=0, **policy)
    if due is None:
        assert accept(mine, scheme.offer()) == scheme
        return
    with pytest.raises(RemoteProtocolError, match=f"this client takes {due} \\(blank"):
        accept(mine, scheme.offer())


def test_whoever_insists_on_blanks_takes_part_in_no_scheme_without() -> None:
    scheme = secagg.Plain.for_cohort(5, ONE)
    policy = Policy(schemes=frozenset({"plain"}), blank=0.5)
    with pytest.raises(RemoteProtocolError, match="a probability of 0; this client takes 0.5"):
        accept(policy, scheme.offer())


def test_the_probability_is_in_what_is_offered_and_said() -> None:
    scheme = semi_honest(range(5), NOISED, blank=0.9)
    assert scheme.digest() != semi_honest(range(5), NOISED, blank=0.5).digest()
    assert "means are sums over 0.1 x the survivors" in scheme.explain()
    assert "who took part is hidden from the server" in scheme.explain()
    alone = semi_honest(range(5), ONE, blank=RARE, corrupt=0)
    assert "it may tell how many took part" in alone.explain()


# Sums of like vectors


@pytest.mark.parametrize("first", [0.0, RARE])
@pytest.mark.parametrize("second", [0.0, RARE])
@pytest.mark.parametrize("plans", [True, False])
def test_without_noise_there_is_one_sum_of_like_vectors_where_either_has_blanks(
    first: float, second: float, plans: bool
) -> None:
    """Not even of the same clients: what they differ in is one client's vector, if one coin fell otherwise."""
    rules = {
        u: Alike(lambda task: OWN_INPUT, in_memory(), SigningKey(bytes([u]) * 32))
        for u in (0, 1, 2, 3, *([99] if plans else []))
    }
    alike = {None if u == 99 else u: rule for u, rule in rules.items()}
    specs = {"": Bounded(length=5, bound=1.0)}

    def session(blank: float) -> None:
        scheme = active(range(4), specs, corrupt=0, dropout=1, blank=blank)
        run(scheme, bounded_inputs(4), alike=alike, **credentials(scheme, range(4)))

    session(first)
    if not (first or second):
        session(second)  # the same sum again tells nothing
        return
    with pytest.raises((LocalProtocolError, RemoteProtocolError), match="sums? .*of like vectors"):
        session(second)


def test_under_noise_the_rule_of_like_sums_is_as_without_blanks() -> None:
    alike = {u: Alike(lambda task: OWN_INPUT, in_memory(), SigningKey(bytes([u]) * 32)) for u in range(4)}
    scheme = active(range(4), Private(length=5, clip=1.0), corrupt=0, dropout=1, blank=0.5)
    for _ in range(2):
        run(scheme, bounded_inputs(4), alike=dict(alike), **credentials(scheme, range(4)))
