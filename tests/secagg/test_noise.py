"""Every draw of discrete noise has its exact probability, by words of any width."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np
import pytest
from flint import arb, ctx
from numpy.typing import NDArray

from secagg import LocalProtocolError, noise
from secagg.noise import MAX_DEVIATION, _add, _certain, _table, _thresholds, add_noise
from secagg.prg import BLOCK_BYTES
from secagg.specs import BLOCK, Noise

SEED = bytes(range(32))
BYTES = np.dtype("<u1")
VARIANCES = [0.25, 1.69, 400.0, 123456.789]

every_noise = pytest.mark.parametrize("kind", ["skellam", "discrete-gaussian"])
every_variance = pytest.mark.parametrize("variance", VARIANCES)


# The oracle: python-flint's balls, which know how wrong they are


@pytest.fixture(autouse=True)
def _a_thousand_bits() -> Iterator[None]:
    with ctx.workprec(1000):
        yield


def probabilities(kind: Noise, variance: float) -> Iterator[arb]:
    """p(0), p(1), ... by other formulas than the code's: I_k upwards from I_0 and I_1, whose balls grow by
    what that loses; one power for each k, and their sum by Poisson's summation.
    """
    v = arb(variance)
    if kind == "skellam":
        p, above = v.bessel_i(0, scaled=True), v.bessel_i(1, scaled=True)
        for k in itertools.count(1):
            yield p
            p, above = above, p - above * 2 * k / v
    dual = [(-2 * (arb.pi() * k) ** 2 * v).exp() for k in range(1, 30 + int(30 / math.sqrt(variance)))]
    total = (2 * arb.pi() * v).sqrt() * (1 + 2 * sum(dual, arb(0)))
    for k in itertools.count():
        yield (-(k**2) / (2 * v)).exp() / total


def cumulative(kind: Noise, variance: float) -> Iterator[arb]:
    """P(|k| <= 0), P(|k| <= 1), ..."""
    p = probabilities(kind, variance)
    return itertools.accumulate((2 * each for each in p), initial=next(p))


def floats(kind: Noise, variance: float) -> list[float]:
    """p(0), p(1), ... down to 10^-40."""
    return [float(p) for p in itertools.takewhile(lambda p: p > 1e-40, probabilities(kind, variance))]


def whole(x: arb) -> int:
    """floor(x), of which the ball leaves no doubt."""
    floor = x.floor().unique_fmpz()
    assert floor is not None
    return int(floor)


# The tables


@every_noise
@every_variance
@pytest.mark.parametrize("bits", [7, 15, 63, 127])
def test_a_table_has_the_leading_bits_of_every_probability(kind: Noise, variance: float, bits: int) -> None:
    expected = []
    for probability in cumulative(kind, variance):
        expected.append(whole(probability * 2**bits))
        if expected[-1] == 2**bits - 1:
            break
    assert _thresholds(kind, variance, bits) == expected


@every_noise
@every_variance
@pytest.mark.parametrize("bits", [10, 100])
def test_a_probability_of_the_weights_is_as_near_as_is_said(kind: Noise, variance: float, bits: int) -> None:
    first, *others = noise._WEIGHTS[kind](Fraction(variance), bits)
    heads = itertools.accumulate((2 * weight for weight in others), initial=first)
    total = first + 2 * sum(others)
    for head, probability in zip(heads, itertools.islice(cumulative(kind, variance), 4000), strict=False):
        assert abs(arb(head) / total - probability) < arb(2) ** -bits


@pytest.mark.parametrize(
    ("mu", "k", "value"),
    [
        (2.0, 0, 0.30850832255367103953),
        (2.0, 1, 0.21526928924893765916),
        (2.0, 5, 0.0013297610941881578142),
        (100.0, 0, 0.03994437929909668265),
        (100.0, 100, 1.7266862628167695785e-22),
        (65536.0, 0, 0.0015583712551952223537),
        (65536.0, 1, 0.0015583593657207350452),
    ],
)
def test_skellam_has_the_published_bessel_functions(mu: float, k: int, value: float) -> None:
    """e^-x I_k(x) as the GNU Scientific Library has them, specfunc/test_bessel.c."""
    thresholds = _thresholds("skellam", mu, 127)
    p = (thresholds[k] - thresholds[k - 1]) / 2**128 if k else thresholds[0] / 2**127
    assert p == pytest.approx(value, rel=1e-15)


@every_noise
def test_the_largest_table_is_made(kind: Noise) -> None:
    thresholds = _thresholds(kind, float(MAX_DEVIATION**2), 63)
    p = probabilities(kind, float(MAX_DEVIATION**2))
    head = next(p) + 2 * sum(itertools.islice(p, 999), arb(0))
    assert thresholds[999] == whole(head * 2**63)
    assert thresholds == sorted(thresholds)
    assert thresholds[-2:] == [2**63 - 2, 2**63 - 1]


@every_noise
@pytest.mark.parametrize("variance", [5e-324, 1e-20])
def test_the_smallest_noise_is_a_zero_in_nearly_every_draw(kind: Noise, variance: float) -> None:
    assert _thresholds(kind, variance, 63) == [2**63 - 1]
    assert not draws(1000, kind, variance).any()


def test_a_probability_too_near_to_a_multiple_leaves_a_table_uncertain() -> None:
    """P(0) = 1/2, and 2^-41 or 2^-40 beside it, of which the first bit is asked for and 41 are known."""
    assert _certain([2**41, 2**40], 1, 40) is None
    assert _certain([2**41 - 2, 2**40 + 1], 1, 40) is None
    assert _certain([2**41 + 2, 2**40 - 1], 1, 40) is None
    assert _certain([2**41 + 4, 2**40 - 2], 1, 40) == [1]


def test_what_is_uncertain_is_computed_with_a_larger_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def weights(variance: Fraction, bits: int) -> list[int]:
        asked.append(bits)
        return [2, 1] if len(asked) == 1 else [3 << bits, 1 << bits]

    monkeypatch.setitem(noise._WEIGHTS, "skellam", weights)
    assert _thresholds("skellam", 1.0, 7) == [76, 127]
    assert asked == [7 + 64, 7 + 128]


# One word


@every_noise
@every_variance
@pytest.mark.parametrize("bits", [7, 15])
def test_all_words_of_a_width_are_decided_as_far_as_they_can_be(
    kind: Noise, variance: float, bits: int
) -> None:
    """A number u stands for all of [u, u + 1) 2^-bits: its draw is k if that lies between two probabilities,
    and is left open if one is inside. The share of each draw is then its probability, to the last word.
    """
    numbers = np.arange(2**bits, dtype=f"<u{(bits + 1) // 8}")
    found, ties = _table(kind, variance, bits).look_up(numbers)
    ends = (whole(probability * 2**bits) for probability in cumulative(kind, variance))
    k, end, expected = 0, next(ends), []
    for u in range(2**bits):
        first = k
        while end == u and u < 2**bits - 1:
            k, end = k + 1, next(ends)
        expected.append(None if k > first or u == 2**bits - 1 else k)
    decided: list[int | None] = found.tolist()
    for u in ties:
        decided[u] = None
    assert decided == expected


# Many draws


def draws(count: int, kind: Noise, variance: float, seed: bytes = SEED) -> NDArray[np.int64]:
    codes = np.zeros(count, np.int64)
    add_noise(codes, kind, variance, seed)
    return codes


def draws_by_bytes(count: int, kind: Noise, variance: float, seed: bytes = SEED) -> NDArray[np.int64]:
    """Of words of 8 bits, of which most tables leave many open."""
    codes = np.zeros(count, np.int64)
    _add(codes, kind, variance, seed, BYTES)
    return codes


def chi_square(sample: NDArray[np.int64], kind: Noise, variance: float) -> float:
    """Of the draws against p(k), both signs apart, in standard deviations: about normal. Cells have 20
    expected draws at least: what is rarer is one cell at either end.
    """
    p = [len(sample) * each for each in floats(kind, variance)]
    last = max(k for k, expected in enumerate(p) if expected >= 20)
    clipped = np.clip(sample, -last, last)
    observed = np.bincount(clipped + last, minlength=2 * last + 1)
    side = [*p[:last], len(sample) / 2 - p[0] / 2 - sum(p[1:last])]
    expected = np.array(side[:0:-1] + side)
    freedom = 2 * last
    return float((((observed - expected) ** 2 / expected).sum() - freedom) / math.sqrt(2 * freedom))


@every_noise
@pytest.mark.parametrize("variance", [0.25, 1.69, 400.0, 1e6])
def test_the_draws_have_their_probabilities(kind: Noise, variance: float) -> None:
    assert abs(chi_square(draws(10**6, kind, variance), kind, variance)) < 4


@every_noise
@pytest.mark.parametrize("variance", [0.25, 1.69, 400.0, 4e4])
def test_the_draws_that_take_many_words_have_their_probabilities(kind: Noise, variance: float) -> None:
    """At variance 4e4 no word of 8 bits decides a draw."""
    sample = draws_by_bytes(200_000, kind, variance)
    assert abs(chi_square(sample, kind, variance)) < 4
    assert np.abs(sample).max() >= len(_thresholds(kind, variance, 7))  # beyond the table too


@every_noise
@pytest.mark.parametrize("make", [draws, draws_by_bytes])
@pytest.mark.parametrize("variance", [0.25, 400.0])
def test_the_moments_are_those_of_the_noise(
    kind: Noise, make: Callable[..., NDArray[np.int64]], variance: float
) -> None:
    """The first four, each within four of its standard errors sqrt((E k^2r - (E k^r)^2) / draws)."""
    sample = make(400_000, kind, variance)
    p = floats(kind, variance)

    def moment(r: int) -> float:
        return 0.0 if r % 2 else 2 * math.fsum(each * k**r for k, each in enumerate(p))

    assert kind != "skellam" or (moment(2), moment(4)) == pytest.approx(
        (variance, 3 * variance**2 + variance)
    )
    for r in (1, 2, 3, 4):
        error = math.sqrt((moment(2 * r) - moment(r) ** 2) / len(sample))
        assert abs(float(np.mean(sample.astype(float) ** r)) - moment(r)) < 4 * error


def test_the_sum_of_two_skellams_is_a_skellam() -> None:
    both = draws(10**6, "skellam", 0.75)
    add_noise(both, "skellam", 1.5, bytes(32))
    assert abs(chi_square(both, "skellam", 2.25)) < 4


@pytest.mark.parametrize("make", [draws, draws_by_bytes])
def test_the_draws_of_two_coordinates_are_independent(make: Callable[..., NDArray[np.int64]]) -> None:
    """Neighbours, and those a block apart: no correlation, nor of the sizes, beyond four standard errors."""
    sample = make(2 * BLOCK_BYTES + 5, "skellam", 400.0).astype(float)
    for x in (sample, np.abs(sample)):
        x = (x - x.mean()) / x.std()
        for apart in (1, BLOCK, BLOCK_BYTES):
            assert abs(float(np.mean(x[apart:] * x[:-apart]))) < 4 / math.sqrt(len(x) - apart)


# Keys


@pytest.mark.parametrize("make", [draws, draws_by_bytes])
def test_a_seed_decides_every_draw(make: Callable[..., NDArray[np.int64]]) -> None:
    same, again, other = (make(1000, "skellam", 400.0, seed) for seed in (SEED, SEED, SEED[:31] + b"\xff"))
    assert same.tolist() == again.tolist()
    assert np.count_nonzero(same == other) < 100


def test_no_stream_is_read_in_two_places(monkeypatch: pytest.MonkeyPatch) -> None:
    keys, keystream = [], noise.keystream

    def recording(seed: bytes, *rest: object) -> object:
        keys.append(seed)
        return keystream(seed, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(noise, "keystream", recording)
    draws_by_bytes(2 * BLOCK_BYTES, "skellam", 400.0)
    assert len(keys) >= 1 + 2 * 2  # of the draws, and two blocks with two rounds at least
    assert len(set(keys)) == len(keys)
    assert not {key[:16] for key in keys} & {SEED[:16], SEED[16:]}


# The codes and the variance


@pytest.mark.parametrize("length", [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK + 5])
def test_noise_is_added_to_every_code_in_place(length: int) -> None:
    codes = np.arange(length, dtype=np.int64)
    add_noise(codes, "discrete-gaussian", 1e8, SEED)
    changed = codes - np.arange(length)
    np.testing.assert_array_equal(changed, draws(length, "discrete-gaussian", 1e8))
    assert np.count_nonzero(changed) >= 0.99 * length


@pytest.mark.parametrize(
    "variance", [0.0, -1.0, math.nan, math.inf, -math.inf, math.nextafter(MAX_DEVIATION**2, math.inf)]
)
def test_a_variance_without_a_table_is_refused(variance: float) -> None:
    codes = np.zeros(5, np.int64)
    with pytest.raises(LocalProtocolError, match=r"noise of variance .*: give a number above 0"):
        add_noise(codes, "skellam", variance, SEED)
    assert not codes.any()
