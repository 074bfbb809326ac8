"""Blanks: a client contributes nothing with the probability that all agreed on, the sum of the others is
exact, and nothing that leaves it, or stays with it, tells how its coin fell.
"""

from __future__ import annotations

import itertools
import logging
import math
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from fractions import Fraction
from itertools import count
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
    Policy,
    Private,
    RemoteProtocolError,
    Split,
    Weight,
    run,
    throwaway_identities,
)
from secagg.aggregate import Aggregate
from secagg.alike import OWN_INPUT, Alike, in_memory
from secagg.blank import COIN_BYTES, FEW, SUMMED, chance_of_few, toss
from secagg.crypto import KEY_BYTES, Rng, SigningKey
from secagg.inputs import encode_inputs
from secagg.record import RecordedClient
from secagg.schemes import accept
from secagg.session import ClientSession
from secagg.tagged import Tagged
from tests.play import TASK, Play, rounding_seed, seeded
from tests.secagg.helpers import MASKING, ROUNDS, active, codes_of, credentials, semi_honest

D = 2**14
NOISED = Private(length=D, clip=4.0, bits=20)
RARE = 2.0**-22
"""With three honest clients to count on so many are allowed without noise, four times as many not."""


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
        play = Play(semi_honest(range(3), specs, blank=blank), {u: {} for u in range(3)}, rng=lambda u: rng)
        play.clients[0]._vectors = given
        play.to("advertise-keys").clients[0].receive(play.requests[0])
        assert drawn[:4] == ["vectors", *coins, KEY_BYTES, KEY_BYTES, KEY_BYTES][:4]


# The sum


def split(ids: Collection[int], vectors: Any, **more: Any) -> Split:
    return Split.for_cohort(len(ids), vectors, **more)


def split_active(ids: Collection[int], vectors: Any, **more: Any) -> Split:
    return Split.for_cohort(len(ids), vectors, roster=RELAYED[0], **more)


RELAYED = throwaway_identities(range(4), seeded(0), relays=2)
MAKES: dict[str, Callable[..., Any]] = {**MASKING, "split": split, "split, active": split_active}
every_make = pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)


def played(
    scheme: Any, inputs: Mapping[int, Any], summed: Sequence[bool], *, seed: int = 7, **more: Any
) -> Aggregate:
    """A session in which the coins of its clients, in the order of ids, fall so. seed: of all else."""
    coins, rng = iter(summed), seeded(seed)

    def drawn(n: int) -> bytes:
        return with_coin(rng, next(coins))(n) if n == COIN_BYTES else rng(n)

    keys = {"identities": RELAYED[1]} if scheme.relays else credentials(scheme, inputs.keys())
    seeds = {u: rounding_seed(u) for u in inputs}
    return run(scheme, inputs, task=TASK, rounding_seeds=seeds, rng=drawn, **keys, **more)


def bounded_inputs(n: int) -> dict[int, dict[str, NDArray[np.float64]]]:
    return {u: {"": np.sin(u + np.arange(5.0))} for u in range(n)}


@every_make
@pytest.mark.parametrize("lost", [None, *ROUNDS["active"], "shares"])
def test_the_sum_is_to_the_bit_that_of_the_survivors_who_take_part(make: Any, lost: str | None) -> None:
    """Whoever does, whoever is lost when; without noise, so that codes can be compared."""
    inputs = bounded_inputs(4)
    scheme = make(range(4), Bounded(length=5, bound=1.0), corrupt=0, dropout=1, blank=RARE)
    if lost is not None and lost not in scheme.rounds:
        return
    for summed in itertools.product((False, True), repeat=4):
        total = played(scheme, inputs, summed, drop={lost: [3]} if lost else {})
        there = [u for u in total.survivors if summed[u]]
        assert total.codes[""].tolist() == codes_of(scheme, inputs, there)[""].tolist()
        assert len(total.survivors) in (3, 4)  # all of whom count, though some contribute nothing
        level = 1 / scheme.vectors[""].levels
        due = sum((inputs[u][""] for u in there), np.zeros(5)) / ((1 - RARE) * len(total.survivors))
        assert np.abs(total.mean[""] - due).max() <= total.error_bound[""] == pytest.approx(level, rel=1e-4)


@every_make
def test_a_mean_is_over_as_many_as_take_part_on_average_and_its_noise_is_said(make: Any) -> None:
    """And all blank is a result: noise, of everybody."""
    scheme, q = make(range(4), NOISED, corrupt=0, dropout=1, blank=0.75), 0.25
    made = scheme.calibration("")
    for summed in ([True] * 4, [True, False, False, True], [False] * 4):
        total = played(scheme, {u: np.full(D, 2.0**-5) for u in range(4)}, summed)
        assert total.noise == {"": pytest.approx(made.deviation(4) / q)}
        np.testing.assert_allclose(total.mean[""], total.sum[""] / (4 * q), rtol=1e-12)
        noise = total.mean[""] - sum(summed) * 2.0**-5 / (4 * q)
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
        ({"": NOISED}, -0.0, "blank -0.0: the probability .* at least 0 and below 1"),
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


UNTOLD = {"_rng", "_noise_rng", "_vectors", "_once", "_reply"}
"""What a client has from outside, and what it said last, which is among what it says."""


def told_by(scheme: Any, summed: bool) -> dict[str, Any]:
    """All that client 0 says, keeps and is told, its coin having fallen so; all else is the same."""
    left: list[bytes] = []
    sessions: list[tuple[Any, RecordedClient]] = []

    def listened(u: int, client: Any) -> ClientSession:
        if u == 0:
            client._once = left.append
            sessions.append((client, RecordedClient(client)))
            return sessions[0][1]
        return client  # type: ignore[no-any-return]

    inputs = {u: np.linspace(-2, 2, D) for u in range(4)}
    played(scheme, inputs, [summed, True, True, True], listen=listened)
    [(client, recorded)] = sessions
    kept = {name: x for name, x in vars(client).items() if name not in UNTOLD}
    said = recorded.view.sent
    sizes = [len(message) for message in said]
    return {"said": said, "sizes": sizes, "left": left, "clipping": client.clipping, "kept": repr(kept)}


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
    one, other = told_by(scheme, True), told_by(scheme, False)
    carries = scheme.rounds.index(scheme.upload_round) if scheme.upload_round != "shares" else 1
    uploads = [told["said"].pop(carries) for told in (one, other)]
    assert one == other
    assert uploads[0] != uploads[1]
    assert not caplog.records
    assert one["clipping"][""].norm_factor < 1 or one["clipping"][""].coordinates > 0


@pytest.mark.parametrize("make", [semi_honest, split])
@pytest.mark.parametrize(("spec", "P"), [(NOISED, 0.5), (Bounded(length=D, bound=1.0), RARE)])
def test_a_client_goes_through_the_same_lines_in_the_same_order_however_its_coin_falls(
    make: Any, spec: Any, P: float
) -> None:
    """So that no time is taken for one that is not taken for the other: of the whole session."""
    package = str(Path(secagg.__file__).parent)
    scheme = make(range(4), spec, corrupt=0, dropout=1, blank=P)
    told_by(scheme, True)  # caches are filled
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
            told_by(scheme, summed)
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
        (NOISED, 0.5, {"blank": 0.5, "noise": 1.0}, None),
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


def test_under_noise_of_which_a_client_insists_on_none_it_takes_part_in_no_blanks() -> None:
    """A millionth of the clip is noise, too; of ten clients two sums in five are one client's at P = 0.9."""
    next_to_none = Private(length=4, clip=1.0, multiplier=1e-6, bits=24)
    for make in (semi_honest, split):
        scheme = make(range(10), next_to_none, blank=0.9)
        policy = Policy(schemes=frozenset({"masking", "split"}), adversary="semi-honest", blank=0.9)
        with pytest.raises(RemoteProtocolError, match="noise of its choosing; this client insists on none"):
            accept(policy, scheme.offer())


def test_whoever_insists_on_blanks_takes_part_in_no_scheme_without() -> None:
    scheme = secagg.Plain.for_cohort(5, ONE)
    policy = Policy(schemes=frozenset({"plain"}), blank=0.5)
    with pytest.raises(RemoteProtocolError, match=r"a probability of 0; this client takes 0\.5"):
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
@pytest.mark.parametrize("make", [active, split_active])
def test_without_noise_there_is_one_sum_of_like_vectors_where_either_has_blanks(
    first: float, second: float, plans: bool, make: Any
) -> None:
    """Not even of the same clients: where one coin fell otherwise they differ by just one client's vector."""
    rules, seeds = {u: like_input(u) for u in (0, 1, 2, 3, *([99] if plans else []))}, count()
    alike = {None if u == 99 else u: rule for u, rule in rules.items()}
    tagged = {j: Tagged(in_memory(), SigningKey(bytes([50 + j]) * 32)) for j in range(2)}

    def session(blank: float) -> None:
        scheme = make(range(4), Bounded(length=5, bound=1.0), corrupt=0, dropout=1, blank=blank)
        relays = {"tagged": tagged} if scheme.relays else {}
        played(scheme, bounded_inputs(4), [True] * 4, seed=next(seeds), alike=alike, **relays)

    session(first)
    if not (first or second):
        session(second)  # the same sum again tells nothing
        return
    # A server that plans does not begin it; to one that does not, clients or relays say no.
    words = "have (signed|added) other sums of like vectors" if plans else "too near to earlier ones of like"
    with pytest.raises(LocalProtocolError if plans else RemoteProtocolError, match=words):
        session(second)


def test_by_whole_batches_there_is_one_sum_with_blanks_too() -> None:
    """Whose sums may be as many as one likes, without blanks; a server that plans does not begin another."""
    alike: dict[int | None, Alike] = {None if u == 8 else u: like_input(u) for u in range(9)}
    seeds = count()

    def session(blank: float) -> None:
        scheme = active(range(8), Bounded(length=5, bound=1.0), corrupt=0, dropout=0, batch=4, blank=blank)
        played(scheme, bounded_inputs(8), [True] * 8, seed=next(seeds), alike=alike)

    session(0.0)
    session(0.0)
    with pytest.raises(LocalProtocolError, match="clients have signed other sums of like vectors"):
        session(RARE)


@pytest.mark.parametrize("make", [active, split_active])
def test_under_noise_the_rule_of_like_sums_is_as_without_blanks(make: Any) -> None:
    alike = {u: like_input(u) for u in range(4)}
    scheme = make(range(4), Private(length=5, clip=1.0), corrupt=0, dropout=1, blank=0.5)
    tagged = {j: Tagged(in_memory(), SigningKey(bytes([50 + j]) * 32)) for j in range(2)}
    relays = {"tagged": tagged} if scheme.relays else {}
    for _ in range(2):
        played(scheme, bounded_inputs(4), [True] * 4, alike=alike, **relays)


def like_input(u: int) -> Alike:
    return Alike(lambda task: OWN_INPUT, in_memory(), SigningKey(bytes([u]) * 32))
