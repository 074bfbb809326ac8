"""From numbers to the ring and back: exact where it must be, unbiased elsewhere, refused where impossible."""

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

from secagg import Bounded, Clipping, Counts, LocalProtocolError, RemoteProtocolError, Weight
from secagg.encoding import (
    MAX_LENGTH,
    MAX_RING_BITS,
    Spec,
    add_packed,
    centred,
    check_packed,
    check_vectors,
    decode_mean,
    decode_sum,
    encode,
    error_bound,
    pack,
    packed_bytes,
    weight_of,
    word_type,
)

KEY = bytes(range(16))
BITS = st.integers(2, 32)


def encoded(spec: Spec, x: Any, clients: int = 3, key: bytes = KEY, weight: tuple[int, int] = (1, 1)) -> Any:
    """(signed codes of one client, what was clipped)."""
    checked = check_vectors({"x": spec}, {"x": x})["x"]
    words, clipping = encode(spec, checked, clients=clients, rounding_key=key, weight=weight)
    return centred(spec, words, clients), clipping


def refuses(spec: Spec, x: Any, words: str) -> None:
    with pytest.raises(LocalProtocolError, match=words):
        check_vectors({"x": spec}, {"x": x})


# Packing


# federated-compute (Google), fcp/secagg/shared/secagg_vector_test.cc: little endian, exactly b bits each.
@pytest.mark.parametrize(
    ("values", "bits", "packed"),
    [([1, 3, 7, 15], 5, "619c07"), ([13, 17, 19], 9, "0d224c00")],
)
def test_values_pack_to_the_published_bytes(values: list[int], bits: int, packed: str) -> None:
    assert pack(np.array(values, np.uint32), bits).hex() == packed


@pytest.mark.parametrize("bits", range(1, MAX_RING_BITS + 1))
def test_what_is_packed_is_added_back(bits: int) -> None:
    """Every b of a ring, at the borders of a group of 64 values and of a block of 16384."""
    rng = np.random.default_rng(bits)
    for length in (1, 63, 64, 65, 16383, 16384, 16385):
        dtype = word_type(bits)
        codes = rng.integers(0, 2**bits, length, dtype=np.uint64).astype(dtype)
        codes[0] = codes[-1] = 2**bits - 1
        packed = pack(codes, bits)
        assert len(packed) == packed_bytes(length, bits) == math.ceil(length * bits / 8)
        check_packed(packed, length, bits)
        total = np.arange(length, dtype=dtype)
        add_packed(total, packed, bits)
        np.testing.assert_array_equal(total, np.arange(length, dtype=dtype) + codes)


@given(st.integers(1, MAX_RING_BITS), st.data())
def test_packing_is_one_long_number_in_base_two_to_the_b(bits: int, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.integers(0, 2**bits - 1), min_size=1, max_size=130))
    number = sum(value << bits * i for i, value in enumerate(values))
    expected = number.to_bytes(math.ceil(len(values) * bits / 8), "little")
    assert pack(np.array(values, word_type(bits)), bits) == expected


@pytest.mark.parametrize("bits", [1, 5, 31, 32, 33, 62])
def test_bits_above_the_ring_are_not_packed(bits: int) -> None:
    codes = np.full(70, 3, word_type(bits))
    high = codes | np.array(~(2**bits - 1) & (2 ** (8 * codes.itemsize) - 1), codes.dtype)
    assert pack(high, bits) == pack(codes & np.array(2**bits - 1, codes.dtype), bits)


def test_a_packed_vector_of_another_size_is_refused() -> None:
    packed = pack(np.arange(5, dtype=np.uint32), 7)
    for other in (packed[:-1], packed + b"\0", b""):
        with pytest.raises(RemoteProtocolError, match=f"a vector of {len(other)} bytes, not 5"):
            check_packed(other, 5, 7)


@pytest.mark.parametrize("bit", range(3, 8))
def test_a_bit_behind_the_last_coordinate_is_refused(bit: int) -> None:
    packed = pack(np.full(5, 127, np.uint32), 7)  # 35 bits: five of the last byte are unused
    check_packed(packed, 5, 7)
    packed[-1] |= 1 << bit
    with pytest.raises(RemoteProtocolError, match="behind the last"):
        check_packed(packed, 5, 7)


def test_a_full_last_byte_has_nothing_behind_it() -> None:
    check_packed(b"\xff" * 7, 8, 7)


# Encoding


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


@given(st.integers(1, 10**6), BITS)
def test_the_ring_is_the_smallest_that_the_sum_cannot_leave(clients: int, bits: int) -> None:
    spec = Bounded(length=1, bound=1.0, bits=bits)
    b = spec.ring_bits(clients)
    # b = ceil(log2(n (2^q - 1) + 1)), in integers.
    assert 2 ** (b - 1) < clients * (2**bits - 1) + 1 <= 2**b


@given(st.integers(1, 10**6), BITS, st.sampled_from([-1, 1]))
def test_the_sum_of_all_clients_at_the_same_bound_is_exact(clients: int, bits: int, sign: int) -> None:
    spec = Bounded(length=1, bound=0.7, bits=bits)
    one, _ = encode(spec, np.array([sign * 0.7]), clients=clients, rounding_key=KEY)
    assert one.dtype == word_type(spec.ring_bits(clients))
    total = np.multiply(one, clients, dtype=one.dtype)  # n equal summands, modulo the word
    assert centred(spec, total, clients).tolist() == [sign * clients * spec.levels]


@given(st.integers(1, 512), st.sampled_from([Counts(length=1, maximum=2**53 - 1), Weight(maximum=2**31 - 1)]))
def test_the_sum_of_the_largest_integers_is_exact(clients: int, spec: Spec) -> None:
    one, _ = encode(spec, np.array([spec.largest_code]), clients=clients, rounding_key=KEY)
    total = np.multiply(one, clients, dtype=one.dtype)
    assert centred(spec, total, clients).tolist() == [clients * spec.largest_code]


def test_a_ring_of_more_than_62_bits_is_refused() -> None:
    spec = Counts(length=1, maximum=2**53 - 1)
    assert spec.ring_bits(2**9) == 62
    with pytest.raises(LocalProtocolError, match="need a ring of 63 bits; at most 62"):
        spec.ring_bits(2**9 + 1)


@pytest.mark.parametrize("bits", [2, 16, 31, 32])
def test_a_sum_is_read_as_a_signed_number_of_b_bits(bits: int) -> None:
    spec = Bounded(length=5, bound=1.0, bits=bits)
    b = spec.ring_bits(3)
    half, behind = 2 ** (b - 1), 2**b  # what lies above the ring in the word is not looked at
    words = np.array([0, half - 1, half, 2 * half - 1, behind % 2**32 + 1], word_type(b))
    assert centred(spec, words, 3).tolist() == [0, half - 1, -half, -1, 1]


@given(st.integers(1, 62))
def test_a_word_holds_the_ring(bits: int) -> None:
    assert 8 * np.dtype(word_type(bits)).itemsize >= bits
    assert (word_type(bits) is np.uint32) == (bits <= 32)


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


# What is refused


BOUNDED = Bounded(length=2, bound=1.0)
COUNTS = Counts(length=2, maximum=9)
WEIGHT = Weight(maximum=9)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Bounded(length=0, bound=1.0), r"length 0 is not in 1\.\.2\^29"),
        (lambda: Bounded(length=MAX_LENGTH + 1, bound=1.0), f"length {MAX_LENGTH + 1} is not in"),
        (lambda: Bounded(length=1, bound=0.0), "bound 0.0 is not a number in 1e-30..1e30"),
        (lambda: Bounded(length=1, bound=-1.0), "bound -1.0 is not a number in 1e-30..1e30"),
        (lambda: Bounded(length=1, bound=math.inf), "bound inf is not a number in 1e-30..1e30"),
        (lambda: Bounded(length=1, bound=math.nan), "bound nan is not a number in 1e-30..1e30"),
        (lambda: Bounded(length=1, bound=0.99e-30), "bound 9.9e-31 is not a number in 1e-30..1e30"),
        (lambda: Bounded(length=1, bound=1.01e30), "bound 1.01e\\+30 is not a number in 1e-30..1e30"),
        (lambda: Bounded(length=1, bound=None), "bound None is not a number"),
        (lambda: Bounded(length=1, bound="wide"), "bound 'wide' is not a number"),
        (lambda: Bounded(length=1, bound=10**400), "bound 1000+ is not a number"),
        (lambda: Bounded(length=1.0, bound=1.0), "length 1.0 is not an integer"),
        (lambda: Bounded(length="1", bound=1.0), "length '1' is not an integer"),
        (lambda: Bounded(length=1, bound=1.0, bits=8.0), "bits 8.0 is not an integer"),
        (lambda: Bounded(length=1, bound=1.0, bits=1), "bits 1 is not in 2..32"),
        (lambda: Bounded(length=1, bound=1.0, bits=33), "bits 33 is not in 2..32"),
        (lambda: Bounded(length=1, bound=1.0, clip=0.0), "clip 0.0 is not a number in 1e-30..1e30"),
        (lambda: Bounded(length=1, bound=1.0, clip=math.nan), "clip nan is not a number in 1e-30..1e30"),
        (lambda: Bounded(length=1, bound=1.0, clip=math.inf), "clip inf is not a number in 1e-30..1e30"),
        (lambda: Bounded(length=1, bound=1.0, clip=0.99e-30), "clip 9.9e-31 is not a number in 1e-30..1e30"),
        (
            lambda: Bounded(length=1, bound=1.0, clip=1.01e30),
            "clip 1.01e\\+30 is not a number in 1e-30..1e30",
        ),
        (lambda: Bounded(length=1, bound=1.0, clip=1j), "clip 1j is not a number"),
        (lambda: Counts(length=1.5, maximum=1), "length 1.5 is not an integer"),
        (lambda: Counts(length=1, maximum=1.5), "maximum 1.5 is not an integer"),
        (lambda: Weight(maximum=9.0), "maximum 9.0 is not an integer"),
        (lambda: Counts(length=0, maximum=1), "length 0 is not in"),
        (lambda: Counts(length=MAX_LENGTH + 1, maximum=1), f"length {MAX_LENGTH + 1} is not in"),
        (lambda: Counts(length=1, maximum=0), r"maximum 0 is not in 1\.\.2\^53-1"),
        (lambda: Counts(length=1, maximum=2**53), f"maximum {2**53} is not in"),
        (lambda: Weight(maximum=0), "maximum weight 0 is not in"),
        (lambda: Weight(maximum=2**31), f"maximum weight {2**31} is not in"),
    ],
)
def test_an_impossible_specification_is_refused(make: Any, words: str) -> None:
    with pytest.raises(LocalProtocolError, match=words):
        make()


@pytest.mark.parametrize("bound", [1e-30, 1e30])
def test_the_ends_of_the_range_of_a_bound_encode(bound: float) -> None:
    spec = Bounded(length=3, bound=bound, bits=32, clip=bound)
    codes, clipping = encoded(spec, [bound, 0.0, 0.0])
    assert codes.tolist() == [2**31 - 1, 0, 0]
    assert clipping == Clipping(0, 1.0)


@pytest.mark.parametrize(
    ("spec", "exact"),
    [
        (
            Bounded(length=np.int64(2), bound=1, bits=np.uint8(8), clip=np.float32(2)),
            Bounded(length=2, bound=1.0, bits=8, clip=2.0),
        ),
        (Bounded(length=True, bound=np.int8(1)), Bounded(length=1, bound=1.0)),
        (Counts(length=np.int32(2), maximum=True), Counts(length=2, maximum=1)),
        (Weight(maximum=np.uint16(9)), Weight(maximum=9)),
    ],
)
def test_numbers_of_any_type_are_kept_as_pythons_own(spec: Spec, exact: Spec) -> None:
    """As which they are sent and digested: the other end makes the same bytes of them."""
    assert spec == exact
    for name in spec.__struct_fields__:
        assert type(getattr(spec, name)) is type(getattr(exact, name))


@pytest.mark.parametrize(
    ("spec", "x", "words"),
    [
        (BOUNDED, [0.0, math.nan], "'x' holds nan at coordinate 1"),
        (BOUNDED, [math.inf, 0.0], "'x' holds inf at coordinate 0"),
        (BOUNDED, [0.0, -math.inf], "'x' holds -inf at coordinate 1"),
        (BOUNDED, [1.0], r"shape \(1,\), the session's is \(2,\)"),
        (BOUNDED, [1.0, 1.0, 1.0], r"shape \(3,\)"),
        (BOUNDED, [[1.0, 1.0]], r"shape \(1, 2\)"),
        (BOUNDED, 1.0, r"shape \(\)"),
        (BOUNDED, [[1.0], [1.0, 2.0]], "not an array of numbers"),
        (BOUNDED, [1j, 0], "holds complex128, not real numbers"),
        (BOUNDED, [True, False], "holds bool, not real numbers"),
        (BOUNDED, ["1", "2"], "holds <U1, not real numbers"),
        (BOUNDED, [None, 1.0], "holds object, not real numbers"),
        (BOUNDED, np.ma.array([1.0, 1e9], mask=[False, True]), "'x' is a masked array: say what stands for"),
        (BOUNDED, np.array(["0", "-1e4000"], np.longdouble), r"'x' holds -(1e\+4000|inf) at coordinate 1"),
        (COUNTS, [1.0, 2.0], "holds float64, not integers"),
        (COUNTS, [True, False], "holds bool, not integers"),
        (COUNTS, [-1, 3], r"holds -1, not in 0..9"),
        (COUNTS, [3, 10], r"holds 10, not in 0..9"),
        (COUNTS, [1], r"shape \(1,\)"),
        (WEIGHT, 0, r"holds 0, not in 1..9"),
        (WEIGHT, 10, r"holds 10, not in 1..9"),
        (WEIGHT, -1, r"holds -1, not in 1..9"),
        (WEIGHT, 2.0, "holds float64, not integers"),
        (WEIGHT, [1, 2], r"shape \(2,\)"),
        (WEIGHT, [], r"shape \(0,\)"),
    ],
)
def test_a_vector_against_its_specification_is_refused(spec: Spec, x: Any, words: str) -> None:
    refuses(spec, x, words)


def test_a_bad_number_is_found_behind_the_first_block() -> None:
    x = np.zeros(20_000, np.float32)
    x[17_000] = np.nan
    refuses(Bounded(length=20_000, bound=1.0), x, "nan at coordinate 17000")


def test_an_array_that_cannot_be_read_is_refused() -> None:
    class OnAnotherDevice:
        def __array__(self, dtype: Any = None, copy: Any = None) -> None:
            raise RuntimeError("can't convert a cuda tensor")

    refuses(BOUNDED, OnAnotherDevice(), "can't convert a cuda tensor")


def test_a_long_double_is_clipped_as_the_float64_that_it_is() -> None:
    spec = Bounded(length=2, bound=127.0, bits=8, clip=5.0)
    codes, clipping = encoded(spec, np.array([30, 40], np.longdouble))
    assert (codes.tolist(), clipping) == ([3, 4], Clipping(0, 0.1))
    assert check_vectors({"x": spec}, {"x": np.zeros(2, np.longdouble)})["x"].dtype == np.float64


def test_a_missing_vector_is_named() -> None:
    with pytest.raises(LocalProtocolError, match="'b' of the session is missing"):
        check_vectors({"a": COUNTS, "b": COUNTS}, {"a": [1, 2]})


def test_an_unknown_vector_is_named() -> None:
    with pytest.raises(LocalProtocolError, match=r"'c' is not one of the session's \['a'\]"):
        check_vectors({"a": COUNTS}, {"a": [1, 2], "c": [1, 2]})


@pytest.mark.parametrize("name", [0, None, b"a"])
def test_a_name_that_is_no_string_is_refused(name: Any) -> None:
    with pytest.raises(LocalProtocolError, match=f"a vector's name is a string, not {name!r}"):
        check_vectors({"a": COUNTS}, {"a": [1, 2], name: [1, 2]})


def test_the_unnamed_vector_is_spoken_of_without_a_name() -> None:
    with pytest.raises(LocalProtocolError, match="the vector holds nan"):
        check_vectors({"": BOUNDED}, {"": [math.nan, 0.0]})


@pytest.mark.parametrize("value", [4, [4], np.int64(4), np.array([4], np.uint8)])
def test_a_weight_may_be_a_number_or_an_array_of_one(value: Any) -> None:
    specs = {"n": COUNTS, "w": WEIGHT}
    assert weight_of(specs, check_vectors(specs, {"n": [1, 2], "w": value})) == (4, 9)


def test_without_a_weight_everyone_weighs_one() -> None:
    assert weight_of({"n": COUNTS}, check_vectors({"n": COUNTS}, {"n": [1, 2]})) == (1, 1)
