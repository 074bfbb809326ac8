"""What the parties of a split session derive from keys and from what was said: the session id, the key of
each use, and what is signed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from secagg.crypto import Tag, digest, kdf, transcript
from secagg.errors import ClientId
from secagg.split.messages import RelayKeys
from secagg.wire import Raw


def session_id(nonce: bytes, parameters: bytes, context: bytes, keys: RelayKeys) -> bytes:
    """Fresh for every relay, whose own fresh key is in it, whatever the server sends."""
    listed = b"".join(j.to_bytes(1, "big") + pk for j, (pk, _) in sorted(keys.items()))
    return digest(Tag.SPLIT_SESSION, nonce, parameters, context, listed)


def seal_key(secret: bytes, sid: bytes, u: ClientId, j: int, c_pk: bytes) -> bytes:
    """KA.agree(c_u^SK, the relay's key) as the AE key of u's share for relay j."""
    return kdf(Tag.SPLIT_SEAL_KEY, secret, sid, u, j, c_pk)


def seal_data(sid: bytes, u: ClientId, j: int) -> bytes:
    return digest(Tag.SPLIT_SEAL_DATA, sid, u, j)


def dummy_key(seed: bytes, sid: bytes, u: ClientId, j: int, name: str) -> bytes:
    """PRG key of the dummy of one vector."""
    return kdf(Tag.SPLIT_DUMMY, seed, sid, u, j, name)


def share_digest(sealed: Raw) -> bytes:
    return digest(Tag.SPLIT_SHARE, bytes(sealed))


def relay_key_statement(
    parameters: bytes, roster: bytes, context: bytes, nonce: bytes, j: int, pk: bytes
) -> bytes:
    """What relay j signs when it shows the key of a session."""
    return transcript(Tag.SIGN_RELAY_KEY, parameters, roster, context, nonce, j, pk)


def shares_statement(
    sid: bytes, parameters: bytes, context: bytes, u: ClientId, c_pk: bytes, digests: Sequence[bytes]
) -> bytes:
    """What u signs when it sends its shares: all of them, so that no relay gets another's."""
    return transcript(Tag.SIGN_SPLIT_SHARES, sid, parameters, context, u, c_pk, *digests)


def column_statement(
    sid: bytes, j: int, added: Mapping[ClientId, Sequence[bytes]], packed: Sequence[Raw]
) -> bytes:
    """What relay j signs with its column: whose shares, by the digests of all that these clients sent, are
    added in it, and the column.
    """
    listed = b"".join(u.to_bytes(4, "big") + b"".join(digests) for u, digests in sorted(added.items()))
    column = digest(Tag.SPLIT_COLUMN, *map(bytes, packed))
    return transcript(Tag.SIGN_COLUMN, sid, j, digest(Tag.SPLIT_MEMBERS, listed), column)
