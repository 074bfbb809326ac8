"""What a vector may hold: impossible limits are refused, and so is a vector that is not within its limits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import Bounded, Counts, LocalProtocolError, Private, Weight
from secagg.specs import MAX_LENGTH, Spec, check_vectors, weight_of

BOUNDED = Bounded(length=2, bound=1.0)
COUNTS = Counts(length=2, maximum=9)
WEIGHT = Weight(maximum=9)


# Specifications


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
        (lambda: Private(length=0, clip=1.0), r"length 0 is not in 1\.\.2\^29"),
        (lambda: Private(length=MAX_LENGTH + 1, clip=1.0), f"length {MAX_LENGTH + 1} is not in"),
        (lambda: Private(length=1.0, clip=1.0), "length 1.0 is not an integer"),
        (lambda: Private(length=1, clip=0.0), "clip 0.0 is not a number in 1e-30..1e30"),
        (lambda: Private(length=1, clip=math.inf), "clip inf is not a number in 1e-30..1e30"),
        (lambda: Private(length=1, clip=math.nan), "clip nan is not a number in 1e-30..1e30"),
        (lambda: Private(length=1, clip=None), "clip None is not a number"),
        (lambda: Private(length=1, clip=1.0, bits=3), "bits 3 of a private vector is not in 4..24"),
        (lambda: Private(length=1, clip=1.0, bits=25), "bits 25 of a private vector is not in 4..24"),
        (lambda: Private(length=1, clip=1.0, bits=8.0), "bits 8.0 is not an integer"),
        (
            lambda: Private(length=1, clip=1.0, noise="gaussian"),
            "no noise is called 'gaussian': there are skellam and discrete-gaussian",
        ),
        (lambda: Private(length=1, clip=1.0, multiplier=0.0), "noise multiplier 0.0 is not a number in 1e-6"),
        (lambda: Private(length=1, clip=1.0, multiplier=2e6), "noise multiplier 2000000.0 is not a number"),
        (lambda: Private(length=1, clip=1.0, multiplier=math.nan), "noise multiplier nan is not a number"),
        (lambda: Private(length=1, clip=1.0, multiplier="z"), "multiplier 'z' is not a number"),
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
        (
            Private(length=np.int64(2), clip=np.float32(2), bits=np.uint8(8), multiplier=1),
            Private(length=2, clip=2.0, bits=8, multiplier=1.0),
        ),
    ],
)
def test_numbers_of_any_type_are_kept_as_pythons_own(spec: Spec, exact: Spec) -> None:
    """As which they are sent and digested: the other end makes the same bytes of them."""
    assert spec == exact
    for name in spec.__struct_fields__:
        assert type(getattr(spec, name)) is type(getattr(exact, name))


@given(st.integers(1, 10**6), st.integers(2, 32))
def test_the_ring_is_the_smallest_that_the_sum_cannot_leave(clients: int, bits: int) -> None:
    spec = Bounded(length=1, bound=1.0, bits=bits)
    b = spec.ring_bits(clients)
    # b = ceil(log2(n (2^q - 1) + 1)), in integers.
    assert 2 ** (b - 1) < clients * (2**bits - 1) + 1 <= 2**b


def test_a_ring_of_more_than_62_bits_is_refused() -> None:
    spec = Counts(length=1, maximum=2**53 - 1)
    assert spec.ring_bits(2**9) == 62
    with pytest.raises(LocalProtocolError, match="need a ring of 63 bits; at most 62"):
        spec.ring_bits(2**9 + 1)


# Vectors


def refuses(spec: Spec, x: Any, words: str) -> None:
    with pytest.raises(LocalProtocolError, match=words):
        check_vectors({"x": spec}, {"x": x})


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
        (WEIGHT, 10, r"holds 10, not in 0..9"),
        (WEIGHT, -1, r"holds -1, not in 0..9"),
        (WEIGHT, -2.0, r"holds -2, not in 0..9"),
        (WEIGHT, 2.5, "'x' holds 2.5, not a whole number"),
        (WEIGHT, math.nan, "holds nan, not a whole number"),
        (WEIGHT, math.inf, "holds inf, not a whole number"),
        (WEIGHT, 1e300, "holds 1e.300, not a whole number"),
        (WEIGHT, True, "holds bool, not integers"),
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


@pytest.mark.parametrize("value", [4, [4], np.int64(4), np.array([4], np.uint8), 4.0, np.float32(4)])
def test_a_weight_may_be_a_number_or_an_array_of_one(value: Any) -> None:
    specs = {"n": COUNTS, "w": WEIGHT}
    assert weight_of(specs, check_vectors(specs, {"n": [1, 2], "w": value})) == (4, 9)


def test_without_a_weight_everyone_weighs_one() -> None:
    assert weight_of({"n": COUNTS}, check_vectors({"n": COUNTS}, {"n": [1, 2]})) == (1, 1)
