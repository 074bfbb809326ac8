"""What the parties of a CKKS session say. Every request opens the round it is named after; every answer
closes it. Without a roster nothing is signed, and signatures are empty.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from secagg.crypto import AE_OVERHEAD, KEY_BYTES
from secagg.wire import Digest, Id, Key, Message, Signature, decodes

ADVERTISE_KEYS = "advertise-keys"
SHARE_KEYS = "share-keys"
INPUT = "input"
DECRYPT = "decrypt"

SEALED_K_BYTES = KEY_BYTES + AE_OVERHEAD
MAX_SECRET_BYTES = 1 << 20  # of degree 16384, five primes

SealedK = Annotated[bytes, msgspec.Meta(min_length=SEALED_K_BYTES, max_length=SEALED_K_BYTES)]
Secret = Annotated[bytes, msgspec.Meta(max_length=MAX_SECRET_BYTES)]


class AdvertiseCkksKey(Message, frozen=True, tag="advertise-ckks-key"):
    """u -> server: c_u^PK, under which secrets are sealed for u."""

    c_pk: Key
    signature: Signature


class ShareCkksKeyRequest(Message, frozen=True, tag="share-ckks-key-request"):
    """server -> all: {(v, c_v^PK, signature)} of U1. Its first clients make keys."""

    keys: dict[Id, tuple[Key, Signature]]


class ShareCkksKey(Message, frozen=True, tag="share-ckks-key"):
    """u -> server: where u makes keys, the CKKS secret key under a key K, and K sealed for each other client
    of U1. Else nothing: u is still there.
    """

    secret: Secret
    sealed: dict[Id, SealedK]
    signature: Signature


class CiphertextsRequest(Message, frozen=True, tag="ciphertexts-request"):
    """server -> all: what the first maker that is there sent. One message for all: the server keeps it once,
    however many clients there are.
    """

    maker: Id
    secret: Secret
    sealed: dict[Id, SealedK]
    signature: Signature


class Ciphertexts(Message, frozen=True, tag="ciphertexts"):
    """u -> server: its vectors, encrypted: residues of each prime in turn, packed; and u's digest of them."""

    residues: memoryview
    digest: Digest
    signature: Signature


class DecryptRequest(Message, frozen=True, tag="decrypt-request"):
    """server -> u: who is in the sum, and the encrypted sum; empty to a client that is not to decrypt it."""

    survivors: list[Id]
    residues: memoryview


class Decrypted(Message, frozen=True, tag="decrypted"):
    """u -> server: the flooded sum in steps of the grid; where u keeps it, or was not sent it, empty."""

    released: memoryview


decodes(
    *(AdvertiseCkksKey, ShareCkksKeyRequest, ShareCkksKey, CiphertextsRequest, Ciphertexts),
    *(DecryptRequest, Decrypted),
)
