"""The shares of a client's two secrets, s_u^SK and b_u: dealt for its holders, and opened by them.

A holder's two travel joined, the share of s_u^SK first. It will give back one of them and never the other.
"""

from __future__ import annotations

from collections.abc import Collection

from secagg.crypto import Rng, SecretKey, unseal
from secagg.errors import ClientId
from secagg.masking.derived import commit_shares, share_data
from secagg.masking.messages import Delivery
from secagg.shamir import SHARE_BYTES, is_share, share


def deal(
    s_sk: SecretKey, b_u: bytes, t: int, holders: Collection[ClientId], rng: Rng
) -> dict[ClientId, bytes]:
    """ "generate t-out-of-|U1| shares of s_u^SK ... and of b_u": each holder's two, joined."""
    points = [v + 1 for v in holders]
    of_key = share(int.from_bytes(s_sk.expose(), "big"), t, points, rng)
    of_mask = share(int.from_bytes(b_u, "big"), t, points, rng)
    return {
        v: of_key[v + 1].to_bytes(SHARE_BYTES, "big") + of_mask[v + 1].to_bytes(SHARE_BYTES, "big")
        for v in holders
    }


def halves(both: bytes) -> tuple[bytes, bytes]:
    """(the share of s_v^SK, the share of b_v)."""
    return both[:SHARE_BYTES], both[SHARE_BYTES:]


def open_dealt(
    dealt: Delivery, key: bytes, sid: bytes, v: ClientId, u: ClientId, *, signed: bool
) -> bytes | None:
    """What v dealt to u, joined; None where it does not open, is no element of the field, or is not what v
    committed to. signed: in a session in which v had to commit.
    """
    both = unseal(key, dealt.sealed, share_data(sid, v, u))
    # Left out here: the server takes a share outside the field for its holder's own lie.
    if both is None or not all(is_share(half) for half in halves(both)):
        return None
    if not signed:
        return both
    return both if commit_shares(sid, v, u, both) == dealt.commitments else None
