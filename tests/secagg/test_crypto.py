"""The primitives through our wrappers: published answers, and what must be refused."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import RemoteProtocolError
from secagg.crypto import SecretKey, Tag, digest, kdf, seal, transcript, unseal
from tests.secagg.helpers import SMALL_ORDER, flips, hkdf_sha256

unhex = bytes.fromhex

# RFC 7748, section 6.1: Alice's and Bob's keys and the secret they share.
ALICE = unhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
ALICE_PUBLIC = unhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
BOB = unhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
BOB_PUBLIC = unhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
SHARED = unhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")

# McGrew and Viega, "The Galois/Counter Mode of Operation (GCM)", the submission to NIST, appendix B,
# test case 16: AES-256, a nonce of 96 bits, associated data.
GCM_KEY = unhex("feffe9928665731c6d6a8f9467308308" * 2)
GCM_IV = unhex("cafebabefacedbaddecaf888")
GCM_PLAINTEXT = unhex(
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
    "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
)
GCM_ASSOCIATED = unhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
GCM_CIPHERTEXT = unhex(
    "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
    "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
)
GCM_TAG = unhex("76fc6ece0f4e1768cddf8853bb2d551b")

KEY = bytes(range(32))


def test_x25519_gives_the_answers_of_rfc_7748() -> None:
    alice, bob = SecretKey(ALICE), SecretKey(BOB)
    assert (alice.public, bob.public) == (ALICE_PUBLIC, BOB_PUBLIC)
    assert alice.agree(bob.public) == bob.agree(alice.public) == SHARED


def test_a_generated_key_is_the_bytes_of_the_generator() -> None:
    key = SecretKey.generate(lambda n: ALICE[:n])
    assert key.public == ALICE_PUBLIC
    assert key.expose() == ALICE


def test_two_generated_keys_differ() -> None:
    assert SecretKey.generate().public != SecretKey.generate().public


@pytest.mark.parametrize("point", SMALL_ORDER, ids=bytes.hex)
def test_every_point_of_small_order_is_refused(point: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="a public key of small order"):
        SecretKey(ALICE).agree(point)


def test_a_secret_key_is_neither_shown_nor_pickled_nor_copied() -> None:
    key = SecretKey(ALICE)
    assert repr(key) == str(key) == "SecretKey(<hidden>)"
    for copier in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="never pickled"):
            copier(key)


def test_the_oracle_of_hkdf_gives_the_answer_of_rfc_5869() -> None:
    # RFC 5869, appendix A.1.
    okm = hkdf_sha256(b"\x0b" * 22, bytes(range(13)), bytes(range(0xF0, 0xFA)), 42)
    assert okm == unhex(
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )


@given(st.sampled_from(Tag), st.binary(), st.binary(min_size=1), st.lists(st.binary()))
def test_kdf_is_hkdf_sha256_with_the_transcript_as_info(
    tag: Tag, secret: bytes, salt: bytes, info: list[bytes]
) -> None:
    expected = hkdf_sha256(secret, salt, transcript(tag, *info), 32)
    assert kdf(tag, secret, salt, *info) == expected


def test_aes_gcm_opens_the_published_ciphertext() -> None:
    sealed = GCM_IV + GCM_CIPHERTEXT + GCM_TAG
    assert unseal(GCM_KEY, sealed, GCM_ASSOCIATED) == GCM_PLAINTEXT


def test_aes_gcm_seals_to_the_published_ciphertext_under_the_published_nonce() -> None:
    sealed = seal(GCM_KEY, GCM_PLAINTEXT, GCM_ASSOCIATED, rng=lambda n: GCM_IV[:n])
    assert sealed == GCM_IV + GCM_CIPHERTEXT + GCM_TAG


def test_what_is_sealed_twice_has_two_nonces() -> None:
    assert seal(KEY, b"share", b"")[:12] != seal(KEY, b"share", b"")[:12]


def test_nothing_opens_under_another_key_or_other_associated_data() -> None:
    sealed = seal(KEY, b"share", b"from 1 to 2")
    assert unseal(KEY, sealed, b"from 1 to 2") == b"share"
    assert unseal(bytes(32), sealed, b"from 1 to 2") is None
    assert unseal(KEY, sealed, b"from 2 to 1") is None


def test_nothing_opens_with_any_bit_flipped_or_any_byte_missing() -> None:
    sealed = seal(KEY, b"share", b"")
    assert [unseal(KEY, other, b"") for other in flips(sealed)] == [None] * (8 * len(sealed))
    assert unseal(KEY, sealed[:-1], b"") is None


@given(st.lists(st.binary(max_size=9), max_size=4), st.lists(st.binary(max_size=9), max_size=4))
def test_two_lists_give_two_transcripts(a: list[bytes], b: list[bytes]) -> None:
    assert (transcript(Tag.CONTEXT, *a) == transcript(Tag.CONTEXT, *b)) == (a == b)


@given(st.lists(st.binary(max_size=3), min_size=1, max_size=4), st.data())
def test_moving_a_border_between_parts_changes_the_transcript(
    parts: list[bytes], data: st.DataObject
) -> None:
    # The hard case, which independent lists hardly ever meet: the same bytes, cut elsewhere.
    joined = b"".join(parts)
    cut = data.draw(st.integers(0, len(joined)))
    other = [joined[:cut], joined[cut:]]
    assert (transcript(Tag.CONTEXT, *parts) == transcript(Tag.CONTEXT, *other)) == (parts == other)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_two_numbers_give_two_transcripts(a: int, b: int) -> None:
    assert (transcript(Tag.CONTEXT, a) == transcript(Tag.CONTEXT, b)) == (a == b)


@given(st.text(), st.text())
def test_two_names_give_two_transcripts(a: str, b: str) -> None:
    assert (transcript(Tag.CONTEXT, a) == transcript(Tag.CONTEXT, b)) == (a == b)


def test_a_number_a_name_and_bytes_that_look_alike_give_three_transcripts() -> None:
    number = int.from_bytes(b"abcdefgh", "big")
    assert len({transcript(Tag.CONTEXT, part) for part in (number, "abcdefgh", b"abcdefgh")}) == 3


def test_every_tag_gives_another_digest_and_another_key() -> None:
    assert len({tag.value for tag in Tag}) == len(Tag.__members__)  # an Enum would alias equal values
    assert len({digest(tag, b"part") for tag in Tag}) == len(Tag.__members__)
    assert len({kdf(tag, KEY, b"salt") for tag in Tag}) == len(Tag.__members__)


def test_a_digest_is_bound_to_the_protocol_version(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest(Tag.CONTEXT, b"part")
    monkeypatch.setattr("secagg.crypto.PROTOCOL_VERSION", 2)
    assert digest(Tag.CONTEXT, b"part") != before
