"""Private vectors: a rounded vector is within its bound, and the sum carries the noise that was promised,
whoever vanishes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from secagg import CKKS, Bounded, Counts, LocalProtocolError, Masking, Plain, Private, Recorded, Weight, run
from secagg.noise import MAX_DEVIATION
from secagg.prg import keystream
from secagg.private import TRIES, Calibration, Reading, _norm_squared, _rounded, encode_private
from secagg.rotation import Rotation
from tests.play import Play, seeded
from tests.secagg.helpers import MASKING, ROUNDS, active, credentials, semi_honest

SECRET = bytes(range(32))
D = 2**14
NOISES = ("skellam", "discrete-gaussian")
ZERO = Private(length=D, clip=1.0)
every_make = pytest.mark.parametrize("make", MASKING.values(), ids=MASKING)


def reading_of(spec: Private, clients: int = 5, honest: int = 3) -> Reading:
    return Reading(Calibration(spec, clients, honest), SECRET)


def without_noise(reading: Reading, x: Any, secret: bytes = SECRET) -> tuple[NDArray[np.int64], float]:
    """The codes as signed integers, and the factor of the norm."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("secagg.private.add_noise", lambda *of: None)
        words, clipping = encode_private(reading, np.asarray(x, np.float64), secret)
    codes, bits = words.astype(np.int64), reading.calibration.spec.bits
    return np.where(codes < 2 ** (bits - 1), codes, codes - 2**bits), clipping.norm_factor


def norm_squared(codes: NDArray[np.int64]) -> int:
    return sum(int(code) ** 2 for code in codes)


# The numbers


@pytest.mark.parametrize(
    ("scheme", "honest"),
    [
        (semi_honest(range(3), ZERO), 3 - 1),
        (semi_honest(range(10), ZERO), 7 - 1),
        (semi_honest(range(10), ZERO, corrupt=0), 7),
        (semi_honest(range(10), ZERO, dropout=1), 9 - 1),
        (semi_honest(range(10), ZERO, m_min=6), 6 - 1),
        (semi_honest(range(10), ZERO, corrupt=3, m_min=8), 8 - 3),
        (semi_honest(range(50), ZERO), 35 - 5),
        (semi_honest(range(100), ZERO), 70 - 10),
        (active(range(10), ZERO), 7 - 1),
        (active(range(50), ZERO), 35 - 5),
        (active(range(10), ZERO, graph="sparse", corrupt=1, dropout=3), 7 - 1),
        (semi_honest(range(12), ZERO, dropout=2, graph="sparse", batch=4), 10 - 1),
        (active(range(12), ZERO, corrupt=2, batch=4), 9 - 2),
    ],
)
def test_the_noise_is_enough_if_only_m_min_survive_and_A_of_them_add_none(
    scheme: Masking, honest: int
) -> None:
    made = scheme.calibration("")
    assert (made.honest, made.clients) == (scheme.m_min - scheme.corrupt, scheme.clients)
    assert made.honest == honest
    assert made.honest * made.variance * made.granularity**2 == pytest.approx(1.0, rel=1e-12)
    assert made.deviation(scheme.clients) * scheme.clients >= 1.0


def test_the_bounds_and_the_grid_are_those_of_the_paper() -> None:
    """n = 100, d = 2^17, 16 bits: gamma 1.266e-4 was computed beside the authors' own code."""
    made = Calibration(Private(length=2**17, clip=1.0), 100, 100)
    assert made.granularity == pytest.approx(1.266e-4, rel=1e-3)
    s, d = 1 / made.granularity, 2**17
    assert made.l2_squared == math.floor(min(s * s + d / 4 + s + math.sqrt(d) / 2, (s + math.sqrt(d)) ** 2))
    assert made.l1 == math.sqrt(d * made.l2_squared)
    assert Calibration(Private(length=2**20, clip=1.0, bits=8), 10, 9).l1 == pytest.approx(2**18, rel=0.01)
    short = Calibration(Private(length=1, clip=1.0, bits=8), 10, 9)
    assert short.l2_squared == math.floor((1 / short.granularity + 0.5) ** 2 + 0.5)


specs = st.builds(
    Private,
    length=st.sampled_from([1, 2, 3, 5, 17, 1000, 2**17, 2**29]),
    clip=st.floats(1e-30, 1e30),
    bits=st.integers(4, 24),
    noise=st.sampled_from(NOISES),
    multiplier=st.floats(1e-6, 1e6),
)


@settings(max_examples=300)
@given(specs, st.integers(1, 10**6), st.data())
def test_the_ring_holds_four_deviations_of_the_sum_and_no_norm_leaves_63_bits(
    spec: Private, clients: int, data: st.DataObject
) -> None:
    honest = data.draw(st.integers(1, clients))
    try:
        made = Calibration(spec, clients, honest)
    except LocalProtocolError:
        return
    n, d, gamma = clients, spec.length, made.granularity
    s = spec.clip / gamma
    assert math.sqrt(made.variance) * (1 + 1e-12) >= 0.001
    assert 0 < made.variance <= MAX_DEVIATION**2
    assert (math.ceil(s) + math.isqrt(d) + 1) ** 2 < 2**63
    spread = n * n * s * s / 2 ** (d.bit_length() - 1) + n / 4 + n * made.variance
    assert 4 * math.sqrt(spread) * (1 - 1e-9) <= 2 ** (spec.bits - 1) <= 4 * math.sqrt(spread) * (1 + 2**-14)
    assert Fraction(gamma).numerator.bit_length() <= 16 or gamma >= 2**16


@pytest.mark.parametrize(
    ("spec", "clients", "honest", "words"),
    [
        (ZERO, 5, 0, "m_min - A is 0: no honest client is sure to be left, who adds"),
        (Private(length=1, clip=1.0, bits=4), 4, 3, "a ring of 4 bits holds no noised sum of 4 clients"),
        (
            Private(length=1, clip=1.0, bits=4, multiplier=1e-4),
            3,
            2,
            "which is not in 0.001..131072: use oth",
        ),
        (
            Private(length=1, clip=1.0, bits=24, multiplier=9.0),
            3,
            2,
            "which is not in 0.001..131072: use oth",
        ),
        (Private(length=2**29, clip=1.0, bits=24, multiplier=1e-5), 3, 2, r"makes a grid of which a .*2\^31"),
    ],
)
def test_a_session_without_noise_or_room_is_refused(
    spec: Private, clients: int, honest: int, words: str
) -> None:
    with pytest.raises(LocalProtocolError, match=words):
        Calibration(spec, clients, honest)


def rdp(made: Calibration, order: int) -> float:
    """Of the noised sum, from the papers: the Skellam mechanism's, or that of discrete Gaussian shares."""
    l2, l1, h = made.l2_squared, made.l1, made.honest
    mu = h * made.variance
    if made.spec.noise == "skellam":
        rest = ((2 * order - 1) * l2 + 6 * l1) / (4 * mu * mu)
        return order * l2 / (2 * mu) + min(rest, 3 * l1 / (2 * mu))
    tau = 10 * sum(math.exp(-2 * math.pi**2 * made.variance * k / (k + 1)) for k in range(1, h))
    return order / 2 * (math.sqrt(l2 / mu) + math.sqrt(made.spec.length) * tau) ** 2


@settings(max_examples=300)
@given(specs, st.integers(1, 2000), st.integers(1, 100), st.integers(2, 256))
def test_normal_noise_of_the_multiplier_in_effect_tells_no_less(
    spec: Private, clients: int, honest: int, order: int
) -> None:
    try:
        made = Calibration(spec, clients, min(honest, clients))
    except LocalProtocolError:
        return
    assert rdp(made, order) <= order / (2 * made.multiplier_in_effect**2) * (1 + 1e-9)


def test_many_bits_leave_the_whole_multiplier_in_effect_and_few_none_of_it() -> None:
    def left(bits: int, noise: Any) -> float:
        spec = Private(length=2**20, clip=1.0, bits=bits, noise=noise)
        return Calibration(spec, 100, 60).multiplier_in_effect

    for noise in NOISES:
        assert 0.9999 < left(20, noise) < 1
        assert 0.99 < left(16, noise) < 0.999
        assert left(8, noise) < 0.1


# Rounding


def grids(draw: Any) -> Iterator[float]:
    """Numbers on the half steps, just beside them, huge and tiny ones."""
    return draw(st.sampled_from([0.0, 0.5, -0.5, 0.499999, -1.5, 1e-300, 1e300, -1e300, 3.0, -7.25, 1e9]))


@settings(max_examples=150)
@given(
    st.sampled_from([1, 2, 3, 5, 64, 257]),
    st.sampled_from([4, 6, 8, 12, 16]),
    st.floats(0.01, 100.0),
    st.binary(min_size=32, max_size=32),
    st.data(),
)
def test_no_rounded_vector_is_longer_than_its_bound(
    length: int, bits: int, multiplier: float, secret: bytes, data: st.DataObject
) -> None:
    reading = reading_of(Private(length=length, clip=1.0, bits=bits, multiplier=multiplier), 3, 2)
    steps = np.array([grids(data.draw) for _ in range(min(length, 6))] * length)[:length]
    with np.errstate(over="ignore"):
        x = steps * reading.calibration.granularity
        if np.abs(x).max() < 1e200:  # so that it is on the half steps once it is rotated
            Rotation(reading.rotation, length).back(x)
    codes, _ = without_noise(reading, x, secret)
    assert norm_squared(codes) <= reading.calibration.l2_squared


def test_a_try_that_is_too_long_is_made_again_and_the_hundredth_is_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With words of zero every coordinate is rounded up, by a step, a thousand times."""
    seeds: list[bytes] = []

    def zeros(seed: bytes, count: int, dtype: Any) -> Any:
        seeds.append(seed)
        yield np.zeros(count, dtype)

    reading = reading_of(Private(length=1000, clip=1.0, bits=8))
    x = np.full(1000, 0.01 * reading.calibration.granularity)
    Rotation(reading.rotation, 1000).back(x)
    monkeypatch.setattr("secagg.private.keystream", zeros)
    codes, _ = without_noise(reading, x)
    assert not codes.any()  # towards zero
    assert len(set(seeds)) == len(seeds) == TRIES == 100


def test_towards_zero_is_so_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    z = np.array([1.5, -1.5, 2.0, -2.0, 0.25, -0.25, 0.0])
    assert _rounded(z.copy(), -1, SECRET).tolist() == [1, -1, 2, -2, 0, 0, 0]


def test_the_expectation_is_the_vector_given_that_the_norm_is_within_its_bound() -> None:
    """Against every outcome there is, with its probability."""
    z, draws = np.array([0.3, -0.6, 1.25, 2.0]), 2500
    for l2_squared in (5, 7, 10**6):
        outcomes = [
            (np.floor(z) + up, np.prod(np.where(up, z - np.floor(z), 1 - z + np.floor(z))))
            for up in map(np.array, itertools.product((0, 1), repeat=4))
        ]
        within = [(codes, p) for codes, p in outcomes if codes @ codes <= l2_squared]
        due = sum(codes * p for codes, p in within) / sum(p for _, p in within)
        seed = seeded(l2_squared)
        mean = np.mean([_rounded(z.copy(), l2_squared, seed(32)) for _ in range(draws)], axis=0)
        np.testing.assert_allclose(mean, due, atol=5 * 0.5 / math.sqrt(draws))
        if l2_squared == 10**6:
            np.testing.assert_allclose(due, z, atol=1e-12)


def test_the_norm_is_exact_where_a_float_would_round_it() -> None:
    codes = np.array([2**30, 3, -(2**30), 1])
    assert _norm_squared(codes) == 2**61 + 10


@settings(max_examples=50)
@given(st.sampled_from([1, 3, 64, 100]), st.integers(0, 2**32), st.floats(0.01, 4.0))
def test_without_noise_a_vector_comes_back_within_a_step_for_each_coordinate(
    length: int, drawn: int, norm: float
) -> None:
    reading = reading_of(Private(length=length, clip=2.0))
    x = np.random.default_rng(drawn).normal(size=length)
    x *= norm / np.linalg.norm(x)
    codes, factor = without_noise(reading, x)
    assert factor == pytest.approx(min(1.0, 2 / norm))
    off = np.linalg.norm(reading.total(codes) - x * factor)
    assert off <= reading.calibration.granularity * math.sqrt(length) * (1 + 1e-9)
    np.testing.assert_allclose(reading.mean(codes, 4), reading.total(codes) / 4)


# Noise in the sum


def measured(codes: NDArray[np.int64]) -> float:
    return float(np.mean(np.square(codes, dtype=np.float64)))


NEAR = 6 * math.sqrt(2 / D)  # six standard deviations of the variance of D draws: 7 %


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize(("adversary", "lost"), [(a, round) for a in MASKING for round in (None, *ROUNDS[a])])
def test_each_survivor_adds_its_share_whoever_vanishes(noise: Any, adversary: str, lost: str | None) -> None:
    """Of vectors of zeros the sum is nothing but noise."""
    spec = Private(length=D, clip=2.0, bits=18, noise=noise, multiplier=1.5)
    ids = range(5)
    numbers = {"corrupt": 0, "threshold": 3} if adversary == "active" else {"corrupt": 0}
    scheme = MASKING[adversary](ids, spec, **numbers)
    drop = {lost: [4]} if lost is not None else {}
    inputs = {u: np.zeros(D) for u in ids}
    total = run(scheme, inputs, drop=drop, rng=seeded(1), **credentials(scheme, ids))
    survivors = 5 if lost in (None, "consistency-check", "unmasking") else 4
    made = scheme.calibration("")
    assert len(total.survivors) == survivors
    assert measured(total.codes[""]) == pytest.approx(survivors * made.variance, rel=NEAR)
    assert measured(total.sum[""]) == pytest.approx((1.5 * 2.0) ** 2 * survivors / 4, rel=NEAR)
    assert math.sqrt(measured(total.mean[""])) == pytest.approx(total.noise[""], rel=NEAR)
    assert total.noise == {"": made.deviation(survivors)}
    assert total.error_bound == {}


def test_the_mean_is_that_of_the_vectors_and_the_noise_as_large_as_is_said() -> None:
    spec = Private(length=D, clip=1.0, multiplier=0.01)
    inputs = {u: np.random.default_rng(u).normal(size=D) / 256 for u in range(5)}
    total = run(semi_honest(range(5), spec), inputs)
    off = total.mean[""] - np.mean([inputs[u] for u in inputs], axis=0)
    assert math.sqrt(measured(off)) == pytest.approx(total.noise[""], rel=2 * NEAR)
    assert abs(float(off.mean())) < 6 * total.noise[""] / math.sqrt(D)


def test_noise_is_never_drawn_from_what_is_kept() -> None:
    """The same vectors, task and rounding seeds, and the operating system's randomness."""
    scheme, inputs = semi_honest(range(3), ZERO), {u: np.zeros(D) for u in range(3)}
    seeds = {u: bytes([u]) * 32 for u in inputs}
    codes = [run(scheme, inputs, task=b"t", rounding_seeds=seeds).codes[""] for _ in range(2)]
    made = scheme.calibration("")
    assert measured(codes[0] - codes[1]) == pytest.approx(2 * 3 * made.variance, rel=NEAR)


def test_no_two_clients_or_vectors_share_their_noise() -> None:
    scheme = semi_honest(range(3), {"a": ZERO, "b": ZERO})
    play = Play(scheme, {u: {"a": np.zeros(D), "b": np.zeros(D)} for u in range(3)}).to("share-keys")
    drawn = [client._encoded[name] for client in play.clients.values() for name in "ab"]
    signed = [np.where(x < 2**15, x.astype(np.int64), x.astype(np.int64) - 2**16) for x in drawn]
    variance = scheme.calibration("a").variance
    for x, y in itertools.combinations(signed, 2):
        assert abs(float(np.mean(x * y))) < 6 * variance / math.sqrt(D)


def holds(thing: Any, secret: bytes, depth: int = 8) -> bool:
    """Whether these bytes are anywhere in it, its attributes or its entries."""
    if isinstance(thing, bytes | bytearray | memoryview):
        return secret in bytes(thing)
    if depth == 0:
        return False
    inside = list(
        thing.items() if isinstance(thing, dict) else thing if isinstance(thing, list | tuple) else ()
    )
    inside += vars(thing).values() if hasattr(thing, "__dict__") else ()
    inside += [getattr(thing, name, None) for name in getattr(type(thing), "__slots__", ())]
    return any(holds(part, secret, depth - 1) for part in inside)


def test_the_secret_of_the_noise_is_kept_nowhere() -> None:
    drawn: list[bytes] = []

    def rng(n: int) -> bytes:
        drawn.append(seeded(len(drawn))(n))
        return drawn[-1]

    play = Play(semi_honest(range(3), ZERO), {u: np.zeros(D) for u in range(3)}, rng=lambda u: rng)
    play.to("share-keys")
    of_noise, c_sk = drawn[0], drawn[1]
    client = play.clients[0]
    assert client._encoded[""].any()
    assert not holds(client, of_noise)
    assert holds([{"a": client, "b": (c_sk,)}], c_sk)
    assert of_noise.hex() not in repr(vars(client))
    assert repr(of_noise) not in repr(vars(client))


def test_the_public_rotation_is_another_in_each_session_and_of_each_vector() -> None:
    scheme = semi_honest(range(3), {"a": ZERO, "b": ZERO})
    other = semi_honest(range(3), {"a": ZERO, "b": ZERO}, m_min=3)
    shown = [scheme.readings(context, nonce) for context in (b"c", b"d") for nonce in (b"n", b"m")]
    shown.append(other.readings(b"c", b"n")) if other != scheme else None
    seeds = {reading.rotation for readings in shown for reading in readings.values()}
    assert len(seeds) == 2 * len(shown)


# Wraps


def test_what_leaves_the_ring_is_counted_at_its_client_and_estimated_for_the_sum(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of two deviations to either side instead of four; with one client both are the same coordinates."""
    few = run(semi_honest(range(3), ZERO), {u: np.zeros(D) for u in range(3)}).wraps[""]
    assert 0.1 < few < 5  # about one coordinate in 16,000
    monkeypatch.setattr("secagg.private.WRAP_DEVIATIONS", 2)
    scheme = Masking.for_cohort(1, ZERO, small_cohort=True)
    told = []
    total = run(scheme, {0: np.zeros(D)}, told=lambda u, clipping: told.append(clipping[""]), rng=seeded(3))
    due = D * math.erfc(2 / math.sqrt(2))
    assert told[0].wrapped == pytest.approx(due, rel=0.2)
    assert total.wraps[""] == pytest.approx(told[0].wrapped, rel=0.2)
    assert (told[0].coordinates, told[0].norm_factor) == (0, 1.0)


def test_the_estimate_of_wraps_knows_nothing_and_everything() -> None:
    assert reading_of(ZERO).wraps(np.zeros(D, np.int64)) == 0.0
    assert reading_of(ZERO).wraps(np.full(D, -(2**15))) == D


# Sessions


@every_make
def test_an_upload_takes_the_bytes_of_a_bounded_vector_of_the_same_ring(make: Any) -> None:
    """Codes are of exactly `bits` bits, not of those that a sum could not leave."""
    sizes = []
    for spec in (ZERO, Bounded(length=D, bound=1.0, bits=13)):
        scheme = make(range(5), spec)
        assert scheme.ring_bits() == {"": 16}
        views: list[Any] = []

        def record(server: Any, views: list[Any] = views) -> Any:
            views.append(Recorded(server))
            return views[0]

        run(scheme, {u: np.zeros(D) for u in range(5)}, instrument=record, **credentials(scheme, range(5)))
        sizes.append([len(m) for round, _, m in views[0].view.received if round == "masked-input"])
        assert scheme.upload_bytes == 2 * D
    assert sizes[0] == sizes[1]
    assert max(sizes[0]) < 1.05 * 2 * D


@pytest.mark.parametrize(
    "other", [Bounded(length=1, bound=1.0), Counts(length=1, maximum=1), Weight(maximum=2)]
)
def test_beside_a_private_vector_nothing_is_summed_without_noise(other: Any) -> None:
    with pytest.raises(LocalProtocolError, match="beside a private vector a session has only private ones"):
        Masking.for_cohort(5, {"": ZERO, "other": other})


@pytest.mark.parametrize("scheme", [Plain, CKKS])
def test_a_private_vector_is_for_masking(scheme: Any) -> None:
    with pytest.raises(LocalProtocolError, match="a private vector is for masking or split, in whose ring"):
        scheme.for_cohort(5, ZERO)


def test_only_a_private_vector_has_a_calibration() -> None:
    scheme = semi_honest(range(5), Counts(length=1, maximum=1))
    assert scheme.calibrations() == scheme.readings(b"", b"") == {}
    with pytest.raises(LocalProtocolError, match="the vector '' is not private: it is summed without noise"):
        scheme.calibration("")


def test_the_stream_of_a_try_is_read_over_its_blocks() -> None:
    """Each coordinate by its own word of 32 bits."""
    z = np.full(2**16 + 3, 0.5)
    from secagg.crypto import OwnTag, kdf

    words = np.concatenate(
        [w.copy() for w in keystream(kdf(OwnTag.PRIVATE_ROUNDING, SECRET, b"", 0), len(z), np.uint32)]
    )
    assert _rounded(z, len(z), SECRET).tolist() == (words < 2**31).astype(int).tolist()
