"""What both ends of a masking session derive from keys and from what was said: the session id, the key of
each use, what is signed, and what is committed to.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from secagg.crypto import Tag, digest, kdf, transcript
from secagg.errors import ClientId
from secagg.masking.messages import Commitments, ShareKeys
from secagg.shamir import SHARE_BYTES
from secagg.wire import encode

AdvertisedKeys = Mapping[ClientId, tuple[bytes, bytes, bytes]]  # v -> (c_v^PK, s_v^PK, sigma_v)


def session_id(nonce: bytes, parameters: bytes, context: bytes, keys: AdvertisedKeys) -> bytes:
    """Fresh for every client whose own fresh keys are in it, whatever the server sends."""
    listed = b"".join(v.to_bytes(4, "big") + c_pk + s_pk for v, (c_pk, s_pk, _) in sorted(keys.items()))
    return digest(Tag.SESSION, nonce, parameters, context, listed)


def share_key(secret: bytes, sid: bytes, dealer: ClientId, holder: ClientId) -> bytes:
    """KA.agree(c_dealer^SK, c_holder^PK) as the AE key of one direction."""
    return kdf(Tag.SHARE_KEY, secret, sid, dealer, holder)


def share_data(sid: bytes, dealer: ClientId, holder: ClientId) -> bytes:
    return digest(Tag.SHARE_DATA, sid, dealer, holder)


def self_mask_key(b_u: bytes, sid: bytes, u: ClientId, name: str) -> bytes:
    return kdf(Tag.SELF_MASK, b_u, sid, u, name)


def pair_mask_key(s_uv: bytes, sid: bytes, u: ClientId, v: ClientId, name: str) -> bytes:
    """One key a pair and vector, the same at both ends."""
    return kdf(Tag.PAIR_MASK, s_uv, sid, min(u, v), max(u, v), name)


def keys_statement(
    parameters: bytes, roster: bytes, context: bytes, nonce: bytes, u: ClientId, c_pk: bytes, s_pk: bytes
) -> bytes:
    """What u signs when it advertises keys."""
    return transcript(Tag.SIGN_KEYS, parameters, roster, context, nonce, u, c_pk, s_pk)


def shares_statement(sid: bytes, u: ClientId, message: ShareKeys) -> bytes:
    """What u signs when it shares: everything in the message."""
    unsigned = ShareKeys(message.sealed, message.commitment, message.commitments, b"")
    return transcript(Tag.SIGN_SHARES, sid, u, encode(unsigned))


def members_statement(
    sid: bytes,
    parameters: bytes,
    context: bytes,
    U1: Collection[ClientId],
    U2: Collection[ClientId],
    U3: Collection[ClientId],
) -> bytes:
    """What each survivor signs in ConsistencyCheck: this session, and the whole of U1, U2 and U3."""
    sets = [digest(Tag.MEMBERS, b"".join(v.to_bytes(4, "big") for v in sorted(U))) for U in (U1, U2, U3)]
    return transcript(Tag.SIGN_MEMBERS, sid, parameters, context, *sets)


def commit_mask(sid: bytes, u: ClientId, b_u: bytes) -> bytes:
    return digest(Tag.COMMIT_MASK, sid, u, b_u)


def commit_shares(sid: bytes, dealer: ClientId, holder: ClientId, both: bytes) -> Commitments:
    """Commit to the two shares of one holder, as `both` joins them. Hiding: a share is uniform in a large
    field.
    """
    return Commitments(
        digest(Tag.COMMIT_KEY_SHARE, sid, dealer, holder, both[:SHARE_BYTES]),
        digest(Tag.COMMIT_MASK_SHARE, sid, dealer, holder, both[SHARE_BYTES:]),
    )
