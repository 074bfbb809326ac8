"""Values of exactly b bits: to the published bytes, back again, and nothing behind them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import RemoteProtocolError
from secagg.bits import add_packed, check_packed, pack, packed_bytes, word_type
from secagg.specs import MAX_RING_BITS


# federated-compute (Google), fcp/secagg/shared/secagg_vector_test.cc: little endian, exactly b bits each.
@pytest.mark.parametrize(
    ("values", "bits", "packed"),
    [([1, 3, 7, 15], 5, "619c07"), ([13, 17, 19], 9, "0d224c00")],
)
def test_values_pack_to_the_published_bytes(values: list[int], bits: int, packed: str) -> None:
    assert pack(np.array(values, np.uint32), bits).hex() == packed


@pytest.mark.parametrize("bits", range(1, MAX_RING_BITS + 1))
def test_what_is_packed_is_added_back(bits: int) -> None:
    """Every b of a ring, at the borders of a group of eight values and of a block of 2^16."""
    rng = np.random.default_rng(bits)
    for length in (1, 7, 8, 9, 2**16 - 1, 2**16, 2**16 + 1):
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
    packed = b"\xff" * 7
    check_packed(packed, 8, 7)
    total = np.zeros(8, np.uint32)
    add_packed(total, packed, 7)
    assert total.tolist() == 8 * [127]


@given(st.integers(1, 62))
def test_a_word_holds_the_ring(bits: int) -> None:
    assert 8 * np.dtype(word_type(bits)).itemsize >= bits
    assert (word_type(bits) is np.uint32) == (bits <= 32)
