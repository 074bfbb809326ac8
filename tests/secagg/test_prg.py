"""The keystream is AES-128-CTR or ChaCha20 from block 0, and what it masks it unmasks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from secagg.prg import _OPEN_STREAMS, BLOCK_BYTES, SEED_BYTES, Prg, add_masks, gcm_is_faster, keystream

WORDS = [np.uint32, np.uint64]
PRGS: list[Prg] = ["aes-128-ctr", "chacha20"]
BLOCK = BLOCK_BYTES // 4
LENGTHS = [0, 1, 3, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 5]
SEED = bytes(range(32))

every_prg = pytest.mark.parametrize("prg", PRGS)
seeds = st.binary(min_size=SEED_BYTES, max_size=SEED_BYTES)


def stream(seed: bytes, count: int, dtype: type, prg: Prg = "aes-128-ctr") -> np.ndarray:
    blocks = [block.copy() for block in keystream(seed, count, dtype, prg)]  # each is a view of one buffer
    return np.concatenate(blocks) if blocks else np.empty(0, dtype)


def stream_bytes(seed: bytes, count: int, dtype: type, prg: Prg) -> bytes:
    return stream(seed, count, dtype, prg).astype(np.dtype(dtype).newbyteorder("<")).tobytes()


# The oracles: one block of either cipher, from the standards


def aes(key: bytes, plaintext: bytes) -> bytes:
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(plaintext)  # noqa: S305 - the oracle


def chacha20(key: bytes, blocks: int) -> bytes:
    """RFC 8439, section 2.3: the blocks from counter 0 on, under a nonce of zeros."""
    counters = np.arange(blocks, dtype=np.uint32)
    first = np.frombuffer(b"expand 32-byte k" + key, "<u4")
    words = [np.full(blocks, word, np.uint32) for word in first] + [counters, *[counters * 0] * 3]
    state = [word.copy() for word in words]
    columns = [(i, 4 + i, 8 + i, 12 + i) for i in range(4)]
    diagonals = [(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4) for i in range(4)]
    for a, b, c, d in (columns + diagonals) * 10:
        for x, y, z, bits in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            state[x] += state[y]
            mixed = state[z] ^ state[x]
            state[z] = mixed << bits | mixed >> 32 - bits
    added = [x + y for x, y in zip(state, words, strict=True)]
    return np.stack(added, axis=1).astype("<u4").tobytes()


def oracle(seed: bytes, size: int, prg: Prg) -> bytes:
    if prg == "chacha20":
        return chacha20(seed, -(-size // 64))[:size]
    return aes(seed[:16], b"".join(i.to_bytes(16, "big") for i in range(-(-size // 16))))[:size]


def test_the_oracle_is_aes_128() -> None:
    # FIPS 197, appendix C.1.
    key, plaintext = bytes(range(16)), bytes.fromhex("00112233445566778899aabbccddeeff")
    assert aes(key, plaintext).hex() == "69c4e0d86a7b0430d8cdb78070b4c55a"


def test_the_oracle_is_chacha20() -> None:
    # RFC 8439, appendix A.1, test vectors 1, 2 and 3: a key of zeros, blocks 0 and 1; the key 1, block 1.
    of_zeros = chacha20(bytes(32), 2)
    assert of_zeros[:32].hex() == "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
    assert of_zeros[64:96].hex() == "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
    of_one = chacha20(bytes(31) + b"\x01", 2)
    assert of_one[64:96].hex() == "3aeb5224ecf849929b9d828db1ced4dd832025e8018b8160b82284f3c949aa5a"


# The streams


def test_the_first_block_is_the_published_encryption_of_zero() -> None:
    # NIST, AES Algorithm Validation Suite, KeySbox known-answer test, 128 bits, first entry: plaintext zero.
    key = bytes.fromhex("10a58869d74be5a374cf867cfb473859")
    assert stream(key + bytes(16), 4, np.uint32).tobytes().hex() == "6d251e6944b051e04eaa6fb4dbf78465"


def test_the_first_block_is_the_published_one_of_chacha20() -> None:
    # RFC 8439, appendix A.1, test vector 1.
    expected = (
        "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
        "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586"
    )
    assert stream_bytes(bytes(32), 16, np.uint32, "chacha20").hex() == expected


@every_prg
@pytest.mark.parametrize("dtype", WORDS)
@pytest.mark.parametrize("count", LENGTHS)
def test_the_stream_is_the_cipher_of_a_counter_from_zero(count: int, dtype: type, prg: Prg) -> None:
    size = count * np.dtype(dtype).itemsize
    assert stream_bytes(SEED, count, dtype, prg) == oracle(SEED, size, prg)


def test_the_stream_is_that_of_aes_unless_another_is_named() -> None:
    named = stream(SEED, 8, np.uint32, "aes-128-ctr")
    np.testing.assert_array_equal(stream(SEED, 8, np.uint32), named)
    masked, unmasked = np.zeros(8, np.uint32), np.zeros(8, np.uint32)
    add_masks(masked, [SEED])
    add_masks(unmasked, minus=[SEED])
    np.testing.assert_array_equal(masked, named)
    np.testing.assert_array_equal(unmasked, -named)


@every_prg
@pytest.mark.parametrize("dtype", WORDS)
@pytest.mark.parametrize("count", LENGTHS)
def test_adding_a_mask_adds_the_stream_modulo_the_word(count: int, dtype: type, prg: Prg) -> None:
    y = np.arange(count, dtype=dtype)
    expected = y + stream(SEED, count, dtype, prg)
    add_masks(y, [SEED], prg=prg)
    np.testing.assert_array_equal(y, expected)


@given(seeds, st.integers(0, 70_000), st.sampled_from(WORDS), st.sampled_from(PRGS))
def test_subtracting_a_mask_undoes_adding_it(seed: bytes, count: int, dtype: type, prg: Prg) -> None:
    y = np.arange(count, dtype=dtype)
    add_masks(y, [seed], prg=prg)
    add_masks(y, minus=[seed], prg=prg)
    np.testing.assert_array_equal(y, np.arange(count, dtype=dtype))


@given(seeds, seeds)
def test_two_seeds_give_two_streams(a: bytes, b: bytes) -> None:
    """AES-128 takes the first half of a seed, ChaCha20 the whole."""
    for prg, used in (("aes-128-ctr", 16), ("chacha20", 32)):
        same = stream_bytes(a, 8, np.uint32, prg) == stream_bytes(b, 8, np.uint32, prg)
        assert same == (a[:used] == b[:used])


def test_a_byte_of_the_second_half_counts_for_chacha20_alone() -> None:
    other = SEED[:31] + b"\xff"
    assert stream_bytes(other, 8, np.uint32, "chacha20") != stream_bytes(SEED, 8, np.uint32, "chacha20")
    assert stream_bytes(other, 8, np.uint32, "aes-128-ctr") == stream_bytes(SEED, 8, np.uint32, "aes-128-ctr")


# Many streams at once, ranges of them, and the two codes for AES

every_word = pytest.mark.parametrize("dtype", WORDS)


@every_word
@every_prg
def test_many_masks_are_added_and_subtracted_as_one_by_one(dtype: type, prg: Prg) -> None:
    """More than are expanded side by side, over more than one block."""
    count = BLOCK_BYTES // np.dtype(dtype).itemsize + 5
    seeds = [bytes([i]) * SEED_BYTES for i in range(_OPEN_STREAMS + 3)]
    y = np.arange(count, dtype=dtype)
    add_masks(y, seeds[1:], seeds[:1], prg)
    expected = np.arange(count, dtype=dtype) - stream(seeds[0], count, dtype, prg)
    for seed in seeds[1:]:
        expected += stream(seed, count, dtype, prg)
    np.testing.assert_array_equal(y, expected)


@every_word
@every_prg
@pytest.mark.parametrize("start", [0, 1, 3, 4, 15, 16, 17, 40_000])
def test_a_range_of_a_stream_is_that_of_the_stream(start: int, dtype: type, prg: Prg) -> None:
    y = np.zeros(1000, dtype)
    add_masks(y, [SEED], prg=prg, start=start)
    np.testing.assert_array_equal(y, stream(SEED, start + 1000, dtype, prg)[start:])


@every_word
def test_the_code_of_gcm_gives_the_same_stream(dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    count, streams = 100_003, []
    for faster in (True, False):
        monkeypatch.setattr("secagg.prg.gcm_is_faster", lambda faster=faster: faster)
        streams.append(stream(SEED, count, dtype, "aes-128-ctr"))
    np.testing.assert_array_equal(*streams)
    np.testing.assert_array_equal(streams[0], whole_by_ctr(count, dtype))


def whole_by_ctr(count: int, dtype: type) -> Any:
    size = count * np.dtype(dtype).itemsize
    stream = Cipher(algorithms.AES(SEED[:16]), modes.CTR(bytes(16))).encryptor().update(bytes(size))
    return np.frombuffer(stream, np.dtype(dtype).newbyteorder("<"))


def test_which_code_is_faster_is_tried_once() -> None:
    assert isinstance(gcm_is_faster(), bool)
    assert gcm_is_faster.cache_info().currsize == 1
