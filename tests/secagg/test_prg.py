"""The keystream is AES-128-CTR from counter 0, and what it masks it unmasks."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from secagg.prg import BLOCK_BYTES, add_mask, keystream, subtract_mask

WORDS = [np.uint32, np.uint64]
BLOCK = BLOCK_BYTES // 4
LENGTHS = [0, 1, 3, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 5]


def stream(key: bytes, count: int, dtype: type) -> np.ndarray:
    blocks = [block.copy() for block in keystream(key, count, dtype)]  # each is a view of one buffer
    return np.concatenate(blocks) if blocks else np.empty(0, dtype)


def aes(key: bytes, plaintext: bytes) -> bytes:
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(plaintext)  # noqa: S305 - the oracle


def test_the_oracle_is_aes_128() -> None:
    # FIPS 197, appendix C.1.
    key, plaintext = bytes(range(16)), bytes.fromhex("00112233445566778899aabbccddeeff")
    assert aes(key, plaintext).hex() == "69c4e0d86a7b0430d8cdb78070b4c55a"


def test_the_first_block_is_the_published_encryption_of_zero() -> None:
    # NIST, AES Algorithm Validation Suite, KeySbox known-answer test, 128 bits, first entry: plaintext zero.
    key = bytes.fromhex("10a58869d74be5a374cf867cfb473859")
    assert stream(key, 4, np.uint32).tobytes().hex() == "6d251e6944b051e04eaa6fb4dbf78465"


@pytest.mark.parametrize("dtype", WORDS)
@pytest.mark.parametrize("count", LENGTHS)
def test_the_stream_is_aes_of_a_counter_from_zero(count: int, dtype: type) -> None:
    key = bytes(range(16))
    size = count * np.dtype(dtype).itemsize
    counters = b"".join(i.to_bytes(16, "big") for i in range(-(-size // 16)))
    assert (
        stream(key, count, dtype).astype(np.dtype(dtype).newbyteorder("<")).tobytes()
        == aes(key, counters)[:size]
    )


@pytest.mark.parametrize("dtype", WORDS)
@pytest.mark.parametrize("count", LENGTHS)
def test_adding_a_mask_adds_the_stream_modulo_the_word(count: int, dtype: type) -> None:
    key, y = bytes(16), np.arange(count, dtype=dtype)
    expected = y + stream(key, count, dtype)
    add_mask(y, key)
    np.testing.assert_array_equal(y, expected)


@given(st.binary(min_size=16, max_size=16), st.integers(0, 70_000), st.sampled_from(WORDS))
def test_subtracting_a_mask_undoes_adding_it(key: bytes, count: int, dtype: type) -> None:
    y = np.arange(count, dtype=dtype)
    add_mask(y, key)
    subtract_mask(y, key)
    np.testing.assert_array_equal(y, np.arange(count, dtype=dtype))


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16))
def test_two_keys_give_two_streams(a: bytes, b: bytes) -> None:
    assert (stream(a, 8, np.uint32).tobytes() == stream(b, 8, np.uint32).tobytes()) == (a == b)
