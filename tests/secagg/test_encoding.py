"""From numbers to the ring and back: exact where it must be, unbiased elsewhere."""

from __future__ import annotations

import math
import sys
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from secagg import Bounded, Clipping, Counts, Weight
from secagg.bits import word_type
from secagg.encoding import centred, decode_mean, decode_sum, encode_vector, error_bound
from secagg.specs import Spec, check_vectors

KEY = bytes(range(16))
BITS = st.integers(2, 32)


def encoded(spec: Spec, x: Any, clients: int = 3, key: bytes = KEY, weight: tuple[int, int] = (1, 1)) -> Any:
    """(signed codes of one client, what was clipped)."""
    checked = check_vectors({"x": spec}, {"x": x})["x"]
    words, clipping = encode_vector(spec, checked, clients=clients, rounding_key=key, weight=weight)
    return centred(spec, words, clients), clipping


@given(BITS, st.integers(1, 10**6), st.data())
def test_a_code_is_one_of_the_two_integers_beside_the_exact_value(
    bits: int, w_max: int, data: st.DataObject
) -> None:
    bound = data.draw(st.floats(1e-6, 1e6))
    w = data.draw(st.integers(1, w_max))
    x = data.draw(st.floats(-bound, bound))
    spec = Bounded(length=1, bound=bound, bits=bits)
    key = data.draw(st.binary(min_size=16, max_size=16))
    codes, clipping = encoded(spec, [x], key=key, weight=(w, w_max))
    exact = Fraction(w, w_max) * Fraction(x) * spec.levels / Fraction(bound)
    # A last place of float64 beside the exact value: at 32 bits that is 2^-21 of a level.
    assert abs(int(codes[0]) - exact) < 1 + Fraction(1, 2**20)
    assert abs(int(codes[0])) <= spec.levels
    assert clipping == Clipping(0, 1.0)


@given(BITS, st.data())
def test_a_value_on_a_level_is_exact_whatever_the_rounding(bits: int, data: st.DataObject) -> None:
    levels = 2 ** (bits - 1) - 1
    spec = Bounded(length=1, bound=float(levels), bits=bits)
    z = data.draw(st.integers(-levels, levels))
    codes, _ = encoded(spec, [float(z)], key=data.draw(st.binary(min_size=16, max_size=16)))
    assert codes.tolist() == [z]


def test_the_unluckiest_rounding_at_the_bound_stays_in_range(monkeypatch: pytest.MonkeyPatch) -> None:
    """The float product may lie a last place above L; a draw of zero then rounds it up."""
    monkeypatch.setattr("secagg.encoding.keystream", lambda key, count, dtype: [np.zeros(count, dtype)])
    levels, above = 2**31 - 1, 0
    for bound in np.random.default_rng(0).uniform(0.1, 1, 200).tolist():
        codes, _ = encoded(Bounded(length=1, bound=bound, bits=32), [bound])
        assert codes.tolist() == [levels]
        above += bound * (levels / bound) > levels
    assert above > 0
    assert encoded(Bounded(length=2, bound=127.0, bits=8), [0.0, 5.0])[0].tolist() == [0, 5]


@pytest.mark.parametrize("bits", range(2, 33))
def test_codes_are_symmetric_and_zero_is_zero(bits: int) -> None:
    levels = 2 ** (bits - 1) - 1
    codes, _ = encoded(Bounded(length=4, bound=0.3, bits=bits), [0.3, -0.3, 0.0, -0.0])
    assert codes.tolist() == [levels, -levels, 0, 0]


def test_rounding_is_unbiased() -> None:
    """Fixed keys: 2^17 roundings of each fraction lie within five standard errors of it."""
    length = 2**17
    spec = Bounded(length=length, bound=127.0, bits=8)
    for i, fraction in enumerate([0.001, 0.25, 0.5, 0.8]):
        for sign in (1, -1):
            codes, _ = encoded(spec, np.full(length, sign * (3 + fraction)), key=bytes([i + 1] * 16))
            assert set(np.unique(codes)) == {sign * 3, sign * 4}
            error = math.sqrt(fraction * (1 - fraction) / length)
            assert abs(codes.mean() - sign * (3 + fraction)) < 5 * error


def test_rounding_follows_its_key() -> None:
    spec = Bounded(length=100, bound=1.0, bits=8)
    x = np.linspace(-0.9, 0.9, 100)
    first, again, other = (encoded(spec, x, key=key)[0].tolist() for key in (KEY, KEY, bytes(16)))
    assert first == again != other


def test_a_long_vector_is_encoded_block_by_block_as_if_whole() -> None:
    length = 70_000
    spec = Bounded(length=length, bound=float(2**15 - 1), bits=16)
    x = (np.arange(length) % 65_535 - 32_767).astype(np.float64)
    assert (encoded(spec, x)[0] == x).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.uint64])
def test_every_real_dtype_is_encoded_alike(dtype: type) -> None:
    spec = Bounded(length=3, bound=127.0, bits=8)
    assert encoded(spec, np.array([0, 1, 100], dtype))[0].tolist() == [0, 1, 100]


FINITE = st.floats(allow_nan=False, allow_infinity=False)
LIMIT = st.floats(1e-30, 1e30)


@given(BITS, LIMIT, LIMIT, st.lists(FINITE, min_size=1, max_size=4))
@example(32, 1e-30, 1e-30, [1.7e308, 0.0, 1.7e308])  # C / norm is below the smallest float64
@example(32, 1e-30, 1e-30, [sys.float_info.max] * 4)
@example(16, 1.0, 1.0, [5e-324, 0.0])
@example(16, 1e30, 1e30, [0.0, 0.0])
def test_the_error_is_within_its_bound_of_the_clipped_vector_whatever_the_floats(
    bits: int, bound: float, clip: float, x: list[float]
) -> None:
    spec = Bounded(length=len(x), bound=bound, bits=bits, clip=clip)
    codes, clipping = encoded(spec, x)
    number = {"survivors": 1, "total_weight": 1, "max_weight": 1}
    mean = decode_mean(spec, codes, **number)
    error = error_bound(spec, **number)
    with localcontext(prec=50):  # of any exponent
        norm = sum(Decimal(value) ** 2 for value in x).sqrt()
        factor = min(Decimal(1), Decimal(clip) / norm) if norm else Decimal(1)
        exact = [Decimal(value) * factor for value in x]
        within = [max(-Decimal(bound), min(Decimal(bound), value)) for value in exact]
        assert all(abs(Decimal(m) - w) <= Decimal(error) for m, w in zip(mean, within, strict=True))
        assert abs(Decimal(clipping.norm_factor) - factor) <= factor / 2**48 + Decimal("5e-324")


def test_coordinates_out_of_range_are_clipped_and_counted() -> None:
    spec = Bounded(length=5, bound=7.0, bits=4)
    codes, clipping = encoded(spec, [8.0, -100.0, 7.0, -7.0, 1e300])
    assert codes.tolist() == [7, -7, 7, -7, 7]
    assert clipping == Clipping(3, 1.0)


def test_a_vector_outside_the_ball_is_brought_onto_it() -> None:
    spec = Bounded(length=2, bound=127.0, bits=8, clip=5.0)
    codes, clipping = encoded(spec, [30.0, 40.0])
    assert codes.tolist() == [3, 4]
    assert clipping == Clipping(0, 0.1)


@pytest.mark.parametrize("x", [[3.0, 4.0], [0.0, 0.0]])
def test_a_vector_in_the_ball_is_left_alone(x: list[float]) -> None:
    spec = Bounded(length=2, bound=127.0, bits=8, clip=5.0)
    assert encoded(spec, x)[0].tolist() == x
    assert encoded(spec, x)[1] == Clipping(0, 1.0)


def test_the_norm_of_a_long_vector_is_the_norm_of_all_its_blocks() -> None:
    length = 3 * 2**14 + 1
    spec = Bounded(length=length, bound=1.0, clip=1.0)
    assert encoded(spec, np.ones(length))[1].norm_factor == pytest.approx(1 / math.sqrt(length))


@pytest.mark.parametrize("unit", [1e200, 1.7e308 / 4, 1e-200, 5e-324])
def test_a_vector_of_huge_or_tiny_numbers_is_brought_onto_the_ball_or_left_alone(unit: float) -> None:
    """No square of a coordinate is a float64."""
    spec = Bounded(length=2, bound=127.0, bits=8, clip=5.0)
    codes, clipping = encoded(spec, [3 * unit, 4 * unit])
    assert codes.tolist() == ([3, 4] if unit > 1 else [0, 0])
    assert clipping.coordinates == 0
    assert clipping.norm_factor == (pytest.approx(1 / unit) if unit > 1 else 1.0)


def test_the_ball_comes_before_the_range() -> None:
    spec = Bounded(length=2, bound=3.5, bits=4, clip=5.0)  # (30, 40) -> (3, 4) -> (3, 3.5) -> levels 6, 7
    codes, clipping = encoded(spec, [30.0, 40.0])
    assert codes.tolist() == [6, 7]
    assert clipping == Clipping(1, 0.1)


@pytest.mark.parametrize("bound", [1e-30, 1e30])
def test_the_ends_of_the_range_of_a_bound_encode(bound: float) -> None:
    spec = Bounded(length=3, bound=bound, bits=32, clip=bound)
    codes, clipping = encoded(spec, [bound, 0.0, 0.0])
    assert codes.tolist() == [2**31 - 1, 0, 0]
    assert clipping == Clipping(0, 1.0)


def test_a_long_double_is_clipped_as_the_float64_that_it_is() -> None:
    spec = Bounded(length=2, bound=127.0, bits=8, clip=5.0)
    codes, clipping = encoded(spec, np.array([30, 40], np.longdouble))
    assert (codes.tolist(), clipping) == ([3, 4], Clipping(0, 0.1))
    assert check_vectors({"x": spec}, {"x": np.zeros(2, np.longdouble)})["x"].dtype == np.float64


def test_the_range_comes_before_the_weight() -> None:
    spec = Bounded(length=2, bound=6.0, bits=8)
    codes, clipping = encoded(spec, [12.0, -6.0], weight=(1, 3))
    assert abs(codes - np.array([127, -127]) / 3).max() < 1
    assert clipping == Clipping(1, 1.0)


def test_the_weight_scales_a_bounded_vector() -> None:
    spec = Bounded(length=2, bound=120.0, bits=8)
    codes, _ = encoded(spec, [120.0, -40.0], weight=(3, 4))
    assert abs(codes - np.array([127 * 0.75, -127 / 3 * 0.75])).max() < 1


@pytest.mark.parametrize("spec", [Counts(length=1, maximum=2**53 - 1), Weight(maximum=2**31 - 1)])
def test_integers_are_themselves_and_no_weight_multiplies_them(spec: Spec) -> None:
    codes, clipping = encoded(spec, [spec.largest_code], weight=(1, 7))
    assert codes.tolist() == [spec.largest_code]
    assert clipping == Clipping(0, 1.0)


# The ring


@given(st.integers(1, 10**6), BITS, st.sampled_from([-1, 1]))
def test_the_sum_of_all_clients_at_the_same_bound_is_exact(clients: int, bits: int, sign: int) -> None:
    spec = Bounded(length=1, bound=0.7, bits=bits)
    one, _ = encode_vector(spec, np.array([sign * 0.7]), clients=clients, rounding_key=KEY)
    assert one.dtype == word_type(spec.ring_bits(clients))
    total = np.multiply(one, clients, dtype=one.dtype)  # n equal summands, modulo the word
    assert centred(spec, total, clients).tolist() == [sign * clients * spec.levels]


@given(st.integers(1, 512), st.sampled_from([Counts(length=1, maximum=2**53 - 1), Weight(maximum=2**31 - 1)]))
def test_the_sum_of_the_largest_integers_is_exact(clients: int, spec: Spec) -> None:
    one, _ = encode_vector(spec, np.array([spec.largest_code]), clients=clients, rounding_key=KEY)
    total = np.multiply(one, clients, dtype=one.dtype)
    assert centred(spec, total, clients).tolist() == [clients * spec.largest_code]


@pytest.mark.parametrize("bits", [2, 16, 31, 32])
def test_a_sum_is_read_as_a_signed_number_of_b_bits(bits: int) -> None:
    spec = Bounded(length=5, bound=1.0, bits=bits)
    b = spec.ring_bits(3)
    half, behind = 2 ** (b - 1), 2**b  # what lies above the ring in the word is not looked at
    words = np.array([0, half - 1, half, 2 * half - 1, behind % 2**32 + 1], word_type(b))
    assert centred(spec, words, 3).tolist() == [0, half - 1, -half, -1, 1]


# Decoding


@given(BITS, st.data())
def test_a_mean_is_within_the_stated_bound(bits: int, data: st.DataObject) -> None:
    bound = data.draw(st.floats(1e-3, 1e3))
    spec = Bounded(length=4, bound=bound, bits=bits)
    w_max = data.draw(st.integers(1, 1000))
    n = data.draw(st.integers(1, 5))
    vectors = st.lists(st.floats(-bound, bound), min_size=4, max_size=4)
    clients = [(data.draw(vectors), data.draw(st.integers(1, w_max))) for _ in range(n)]
    codes = np.zeros(4, np.int64)
    for i, (x, w) in enumerate(clients):
        codes += encoded(spec, x, clients=n, key=bytes([i] * 16), weight=(w, w_max))[0]
    total = sum(w for _, w in clients)
    sums = decode_sum(spec, codes, max_weight=w_max)
    mean = decode_mean(spec, codes, survivors=n, total_weight=total, max_weight=w_max)
    error = error_bound(spec, survivors=n, total_weight=total, max_weight=w_max)
    true = np.array([math.fsum(w * x[j] for x, w in clients) for j in range(4)])
    assert (abs(mean - true / total) <= error).all()
    np.testing.assert_allclose(sums, mean * total, rtol=1e-12)


def test_the_stated_bound_is_one_level_a_client_over_the_sum_of_weights() -> None:
    spec = Bounded(length=1, bound=2.0, bits=8)  # 127 levels
    error = error_bound(spec, survivors=5, total_weight=8, max_weight=10)
    assert error == pytest.approx(5 * (2.0 / 127) * 10 / 8)
    assert error > 5 * (2.0 / 127) * 10 / 8  # room for the float arithmetic


def test_integers_decode_to_themselves_and_their_plain_mean() -> None:
    spec, codes = Counts(length=2, maximum=9), np.array([7, 8])
    assert decode_sum(spec, codes, max_weight=9).tolist() == [7, 8]
    assert decode_mean(spec, codes, survivors=2, total_weight=5, max_weight=9).tolist() == [3.5, 4.0]
    assert error_bound(spec, survivors=2, total_weight=5, max_weight=9) == 0.0
