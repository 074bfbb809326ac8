"""KA, AE, KDF and hashing as the paper names them (Bonawitz et al., CCS 2017, section 3), and the one
table of tags that keeps every use of every key apart.

Only this file and prg.py import `cryptography`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from enum import Enum
from functools import lru_cache
from typing import Final, NoReturn

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from secagg.errors import RemoteProtocolError

PROTOCOL_VERSION: Final = 1

Rng = Callable[[int], bytes]
"""n -> n secret bytes. Everything secret comes from `os.urandom` unless a test injects another."""

system_rng: Rng = os.urandom

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
AE_OVERHEAD: Final = NONCE_BYTES + 16
DIGEST_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64


class Tag(Enum):
    """Every purpose a key or a hash serves. A tag is used for one thing, in one place."""

    PARAMETERS = b"parameters"  # digest of a session's numbers
    CONTEXT = b"context"  # digest of the task
    SESSION = b"session"  # session id
    GRAPH = b"graph"  # seed of the sparse graph's shuffle
    GROUPS = b"groups"  # seed of the shuffle by which a cohort is cut into groups
    SHARE_KEY = b"share-key"  # KDF: AE key of the shares from one dealer to one holder
    SHARE_DATA = b"share-data"  # AE: associated data of those shares
    SELF_MASK = b"self-mask"  # KDF: PRG key from b_u
    PAIR_MASK = b"pair-mask"  # KDF: PRG key from s_uv
    ROUNDING = b"rounding"  # KDF: PRG key of the stochastic rounding
    TRAINING = b"training"  # KDF: what fl draws from a secret of its own; its first part says what for
    ROSTER = b"roster"  # digest of a roster made in this process
    ROTATION = b"rotation"  # seed of the rotation of a private vector
    MEMBERS = b"members"  # digest of U1, U2 or U3
    COMMIT_MASK = b"commit-mask"  # commitment of b_u
    COMMIT_KEY_SHARE = b"commit-key-share"  # commitment of one holder's share of s_u^SK
    COMMIT_MASK_SHARE = b"commit-mask-share"  # commitment of one holder's share of b_u
    SIGN_KEYS = b"sign-keys"  # SIG: AdvertiseKeys
    SIGN_SHARES = b"sign-shares"  # SIG: ShareKeys
    SIGN_MEMBERS = b"sign-members"  # SIG: ConsistencyCheck
    CKKS_SESSION = b"ckks-session"  # session id of CKKS
    CKKS_SEAL_KEY = b"ckks-seal-key"  # KDF: AE key of K from its maker to one client
    CKKS_SEAL_DATA = b"ckks-seal-data"  # AE: associated data of that
    CKKS_SECRET_KEY = b"ckks-secret-key"  # KDF: AE key of the CKKS secret key, from K
    CKKS_UPLOAD = b"ckks-upload"  # digest of one client's ciphertexts
    CKKS_SUM = b"ckks-sum"  # digest of the ciphertexts that are decrypted
    CKKS_FLOODING = b"ckks-flooding"  # KDF: PRG key of the flooding of these, from K
    SIGN_CKKS_KEY = b"sign-ckks-key"  # SIG: AdvertiseCkksKey
    SIGN_CKKS_SECRET = b"sign-ckks-secret"  # SIG: ShareCkksKey
    SIGN_CKKS_UPLOAD = b"sign-ckks-upload"  # SIG: Ciphertexts
    SPLIT_SESSION = b"split-session"  # session id of split
    SPLIT_SEAL_KEY = b"split-seal-key"  # KDF: AE key of one client's share for one relay
    SPLIT_SEAL_DATA = b"split-seal-data"  # AE: associated data of that
    SPLIT_DUMMY = b"split-dummy"  # KDF: PRG key of one dummy
    SPLIT_SHARE = b"split-share"  # digest of one sealed share
    SPLIT_MEMBERS = b"split-members"  # digest of whose shares are added, and of these
    SPLIT_COLUMN = b"split-column"  # digest of a column
    SIGN_RELAY_KEY = b"sign-relay-key"  # SIG: RelayKey
    SIGN_SPLIT_SHARES = b"sign-split-shares"  # SIG: Shares
    SIGN_COLUMN = b"sign-column"  # SIG: Column
    DECOYS_UPLOAD = b"decoys-upload"  # digest of one client's candidates and selectors
    SIGN_DECOYS_UPLOAD = b"sign-decoys-upload"  # SIG: Candidates


class OwnTag(Enum):
    """Purposes that stay with one party, on its own machine: no other program has to know them."""

    RECORD = b"record"  # KDF: AE key of the record of the sets that this party has signed
    RECORD_MEMBER = b"record-member"  # digest of one client in that record, and of a partition into batches
    SKETCH = b"sketch"  # KDF: PRG key of its sketches of models
    NOISE = b"noise"  # KDF: PRG keys of its noise; which block, and which word of every draw that is open
    PRIVATE_ROUNDING = b"private-rounding"  # KDF: PRG key of one try at rounding it
    TICKET = b"ticket"  # KDF: AE key of the tickets of one session, from its key
    TICKET_DATA = b"ticket-data"  # AE: associated data of one of them
    TICKET_DRAWS = b"ticket-draws"  # KDF: PRG key of what one step draws
    TICKET_MESSAGE = b"ticket-message"  # digest of what a step was asked
    TICKET_ANSWER = b"ticket-answer"  # digest of what came of it
    CHECKPOINT = b"checkpoint"  # KDF: AE key of one checkpoint of a server, from its operator's key
    CHECKPOINT_DATA = b"checkpoint-data"  # AE: associated data of it
    KEPT_SESSION = b"kept-session"  # KDF: AE key of a server for the session that it keeps
    KEPT_CHECKPOINT = b"kept-checkpoint"  # KDF: and of the checkpoint in it, as an operator's


def transcript(tag: Tag | OwnTag, *parts: bytes | int | str) -> bytes:
    """The tag, the protocol version and the parts, each with its kind and length: no two lists give the same
    bytes. Integers are below 2^64.
    """
    encoded = [_prefix(tag._value_, PROTOCOL_VERSION)]
    for part in parts:
        if isinstance(part, int):
            encoded += (_INTEGER, part.to_bytes(8, "big"))
        else:
            kind, raw = (b"s", part.encode()) if isinstance(part, str) else (b"b", part)
            encoded += ((len(raw) + 1).to_bytes(8, "big"), kind, raw)
    return b"".join(encoded)


_INTEGER: Final = (9).to_bytes(8, "big") + b"i"


@lru_cache(maxsize=64)
def _prefix(tag: bytes, version: int) -> bytes:
    name = f"secagg/{version}/".encode() + tag
    return len(name).to_bytes(8, "big") + name


def digest(tag: Tag | OwnTag, *parts: bytes | int | str) -> bytes:
    """SHA-256 of a transcript. Returns 32 bytes."""
    return hashlib.sha256(transcript(tag, *parts)).digest()


_SHA256: Final = hashes.SHA256()


def kdf(tag: Tag | OwnTag, secret: bytes, salt: bytes, *info: bytes | int | str) -> bytes:
    """HKDF-SHA256 (RFC 5869) with a transcript as its info: one key for one tag, salt and list of names.

    Returns 32 bytes.
    """
    return HKDF(_SHA256, KEY_BYTES, salt, transcript(tag, *info)).derive(secret)


class NeverPickled:
    """What holds secrets: it is neither pickled nor copied."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds secrets and is never pickled")


class SecretKey(NeverPickled):
    """KA.gen: an X25519 key pair (RFC 7748).

    Security: neither printed nor pickled; `expose` exists because the protocol shares s_sk among the cohort.
    """

    __slots__ = ("_private", "public")

    def __init__(self, secret: bytes) -> None:
        self._private = X25519PrivateKey.from_private_bytes(secret)
        self.public: bytes = self._private.public_key().public_bytes_raw()

    @classmethod
    def generate(cls, rng: Rng = system_rng) -> SecretKey:
        return cls(rng(KEY_BYTES))

    def agree(self, public: bytes) -> bytes:
        """KA.agree: 32 bytes that both ends derive.

        Raises: RemoteProtocolError if the result is all zero, i.e. `public` is a point of small order.
        """
        try:
            return self._private.exchange(_public_key(public))
        except ValueError:
            raise RemoteProtocolError("a public key of small order: the key agreement gives zero") from None

    def expose(self) -> bytes:
        return self._private.private_bytes_raw()

    def __repr__(self) -> str:
        return "SecretKey(<hidden>)"


@lru_cache(maxsize=4096)
def _public_key(public: bytes) -> X25519PublicKey:
    """Cached: in unmasking each survivor's meets every dropped client's secret key."""
    return X25519PublicKey.from_public_bytes(public)


class SigningKey(NeverPickled):
    """SIG.gen: an Ed25519 key pair (RFC 8032).

    Security: one key signs for many sessions; what it signs is a transcript with a tag of its own.
    """

    __slots__ = ("_private", "public")

    def __init__(self, secret: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(secret)
        self.public: bytes = self._private.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """SIG.sign: 64 bytes."""
        return self._private.sign(message)

    def derive(self, tag: OwnTag) -> bytes:
        """32 secret bytes of this key's owner, for one use on its own machine."""
        return kdf(tag, self._private.private_bytes_raw(), b"")

    def __repr__(self) -> str:
        return "SigningKey(<hidden>)"


def is_signature(public: bytes, message: bytes, signature: bytes) -> bool:
    """SIG.ver."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


_P: Final = 2**255 - 19
_Y8: Final = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_SMALL_ORDER_Y: Final = frozenset({0, 1, _P - 1, _Y8, _P - _Y8})  # of the 8 points whose order divides 8


def verifies_anything(public: bytes) -> bool:
    """Whether this Ed25519 key is a point of small order, under which anybody can sign."""
    return int.from_bytes(public, "little") % 2**255 % _P in _SMALL_ORDER_Y


def check_public_key(public: bytes) -> None:
    """Raises: RemoteProtocolError for a point of small order: any agreement with it gives zero."""
    _ANY_KEY.agree(public)


_ANY_KEY: Final = SecretKey(bytes(KEY_BYTES))


def seal(key: bytes, plaintext: bytes, associated: bytes, rng: Rng = system_rng) -> bytes:
    """AE.enc: AES-256-GCM under a fresh nonce, which goes in front. len(plaintext) + 28 bytes."""
    nonce = rng(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plaintext, associated)


def unseal(key: bytes, ciphertext: bytes, associated: bytes) -> bytes | None:
    """AE.dec, or None where the ciphertext does not open: the caller knows whom to report."""
    try:
        return AESGCM(key).decrypt(ciphertext[:NONCE_BYTES], ciphertext[NONCE_BYTES:], associated)
    except InvalidTag:
        return None
