"""What both ends of a CKKS session derive from keys and from what was said: the session id, the key of each
use, what is signed, and who makes the session's key and who releases its sum.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from secagg.crypto import Tag, digest, kdf, transcript
from secagg.errors import ClientId
from secagg.wire import Raw

MAKERS = 3
"""The first clients of U1 each make a key, and the first whose answer came is passed on: two may vanish."""

RELEASERS = 3
"""The first clients of U3 release the sum: of three, a majority names one that lies."""

AdvertisedKeys = Mapping[ClientId, tuple[bytes, bytes]]  # v -> (c_v^PK, signature)


def session_id(nonce: bytes, parameters: bytes, context: bytes, keys: AdvertisedKeys) -> bytes:
    """Fresh for every client whose own fresh key is in it, whatever the server sends."""
    listed = b"".join(v.to_bytes(4, "big") + c_pk for v, (c_pk, _) in sorted(keys.items()))
    return digest(Tag.CKKS_SESSION, nonce, parameters, context, listed)


def makers_of(U1: Collection[ClientId]) -> list[ClientId]:
    return sorted(U1)[:MAKERS]


def releasers_of(U3: Collection[ClientId]) -> list[ClientId]:
    return sorted(U3)[:RELEASERS]


def seal_key(agreed: bytes, sid: bytes, maker: ClientId, holder: ClientId) -> bytes:
    """KA.agree(c_maker^SK, c_holder^PK) as the AE key of K."""
    return kdf(Tag.CKKS_SEAL_KEY, agreed, sid, maker, holder)


def seal_data(sid: bytes, maker: ClientId, holder: ClientId, secret: bytes) -> bytes:
    """What K is sealed with: it opens this secret, and no other."""
    return digest(Tag.CKKS_SEAL_DATA, sid, maker, holder, secret)


def secret_key(K: bytes, sid: bytes, maker: ClientId) -> bytes:
    """K as the AE key of the CKKS secret key that `maker` made."""
    return kdf(Tag.CKKS_SECRET_KEY, K, sid, maker)


def flooding_key(K: bytes, sid: bytes, residues: Raw) -> bytes:
    """K as the PRG key of the flooding of this encrypted sum: who releases the same sum floods it alike."""
    return kdf(Tag.CKKS_FLOODING, K, sid, digest(Tag.CKKS_SUM, sid, bytes(residues)))


def upload_digest(sid: bytes, u: ClientId, residues: Raw) -> bytes:
    return digest(Tag.CKKS_UPLOAD, sid, u, bytes(residues))


def key_statement(
    parameters: bytes, roster: bytes, context: bytes, nonce: bytes, u: ClientId, c_pk: bytes
) -> bytes:
    """What u signs when it advertises its key."""
    return transcript(Tag.SIGN_CKKS_KEY, parameters, roster, context, nonce, u, c_pk)


def secret_statement(sid: bytes, maker: ClientId, secret: bytes) -> bytes:
    """What a maker signs: the sealed CKKS secret key."""
    return transcript(Tag.SIGN_CKKS_SECRET, sid, maker, secret)


def upload_statement(sid: bytes, u: ClientId, upload: bytes) -> bytes:
    """What u signs when it uploads. upload: digest of its ciphertexts."""
    return transcript(Tag.SIGN_CKKS_UPLOAD, sid, u, upload)
