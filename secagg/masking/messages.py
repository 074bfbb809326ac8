"""What the parties of a masking session say (Bonawitz et al., figure 4), and how many bytes it takes.

Every request opens the round it is named after; every answer closes it. Against a semi-honest server
nothing is signed or committed to: signatures are empty, commitments are left out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, NamedTuple

import msgspec

from secagg.bits import packed_bytes
from secagg.crypto import AE_OVERHEAD, DIGEST_BYTES, KEY_BYTES, SIGNATURE_BYTES
from secagg.params import MAX_VECTORS, Parameters
from secagg.shamir import SHARE_BYTES
from secagg.wire import (
    Digest,
    Id,
    Join,
    Key,
    Message,
    Signature,
    Task,
    decodes,
    size_of_bytes,
    size_of_header,
    size_of_int,
    size_of_tag,
)

ADVERTISE_KEYS = "advertise-keys"
SHARE_KEYS = "share-keys"
MASKED_INPUT = "masked-input"
CONSISTENCY_CHECK = "consistency-check"
UNMASKING = "unmasking"

SEALED_BYTES = 2 * SHARE_BYTES + AE_OVERHEAD

Share = Annotated[bytes, msgspec.Meta(min_length=SHARE_BYTES, max_length=SHARE_BYTES)]
Sealed = Annotated[bytes, msgspec.Meta(min_length=SEALED_BYTES, max_length=SEALED_BYTES)]


class AdvertiseKeys(Message, frozen=True, tag=ADVERTISE_KEYS):
    """u -> server: c_u^PK for the shares' encryption, s_u^PK for the masks, sigma_u."""

    c_pk: Key
    s_pk: Key
    signature: Signature


class ShareKeysRequest(Message, frozen=True, tag="share-keys-request"):
    """server -> all: {(v, c_v^PK, s_v^PK, sigma_v)} of U1."""

    keys: dict[Id, tuple[Key, Key, Signature]]


class Commitments(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Commitments to one holder's two shares, so that whoever returns or deals a wrong one can be named."""

    of_key: Digest
    of_mask: Digest


class ShareKeys(Message, frozen=True, tag=SHARE_KEYS):
    """u -> server: e_uv, the sealed shares of s_u^SK and b_u, for each v that holds them, but u.

    Against an active server also commitments of b_u and of the shares of every holder, all signed.
    """

    sealed: dict[Id, Sealed]
    commitment: Annotated[bytes, msgspec.Meta(max_length=DIGEST_BYTES)]
    commitments: dict[Id, Commitments]
    signature: Signature


class Delivery(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One dealer's e_vu, and what it committed to for this holder."""

    sealed: Sealed
    commitments: Commitments | None


class MaskedInputRequest(Message, frozen=True, tag="masked-input-request"):
    """server -> u: U2, and what each dealer among them but u dealt to u."""

    shared: list[Id]
    dealt: dict[Id, Delivery]


class MaskedInput(Message, frozen=True, tag=MASKED_INPUT):
    """u -> server: y_u, packed, one entry per vector in the order of their names."""

    packed: Annotated[list[memoryview], msgspec.Meta(max_length=MAX_VECTORS)]


class ConsistencyCheckRequest(Message, frozen=True, tag="consistency-check-request"):
    """server -> all, active: U3."""

    survivors: list[Id]


class ConsistencyCheck(Message, frozen=True, tag=CONSISTENCY_CHECK):
    """u -> server, active: sigma'_u over the session, U1, U2 and U3."""

    signature: Signature


class UnmaskingRequest(Message, frozen=True, tag="unmasking-request"):
    """server -> u, semi-honest: U2 minus U3. Who is not named here is alive: one client cannot be both."""

    dropped: list[Id]


class SignedUnmaskingRequest(Message, frozen=True, tag="signed-unmasking-request"):
    """server -> u, active: sigma'_v of each v that checked. It names no set: u holds the one it signed."""

    signatures: dict[Id, Signature]


class SelfMaskShare(msgspec.Struct, frozen=True, array_like=True, tag="b", forbid_unknown_fields=True):
    """A share of b_v, of a survivor v."""

    share: Share

    def __repr__(self) -> str:
        return "SelfMaskShare(<hidden>)"


class PairKeyShare(msgspec.Struct, frozen=True, array_like=True, tag="s", forbid_unknown_fields=True):
    """A share of s_v^SK, of a dropped v."""

    share: Share

    def __repr__(self) -> str:
        return "PairKeyShare(<hidden>)"


class Unmasking(Message, frozen=True, tag=UNMASKING):
    """u -> server: of every dealer in U2 one share, of one of two kinds. Both of one cannot be said."""

    shares: dict[Id, SelfMaskShare | PairKeyShare]


decodes(
    *(AdvertiseKeys, ShareKeysRequest, ShareKeys, MaskedInputRequest, MaskedInput),
    *(ConsistencyCheckRequest, ConsistencyCheck, UnmaskingRequest, SignedUnmaskingRequest, Unmasking),
)


class _Sizes(NamedTuple):
    """The bytes of what the messages of one session are made of."""

    ids: Mapping[int, int]
    signature: int
    commitment: int
    commitments: int

    def entries(self, members: Collection[int], each: int = 0) -> int:
        """The bytes of a list of ids, or of a map to what has so many bytes."""
        return size_of_header(len(members)) + sum(self.ids[v] + each for v in members)


_KEY, _SEALED = size_of_bytes(KEY_BYTES), size_of_bytes(SEALED_BYTES)
_RETURNED = 1 + 2 + size_of_bytes(SHARE_BYTES)


def traffic(
    parameters: Parameters,
    task_bytes: int,
    u: int,
    U1: Collection[int],
    U2: Collection[int],
    U3: Collection[int],
    U4: Collection[int] | None = None,
    holders: Collection[int] | None = None,
    opened: Collection[int] | None = None,
) -> Mapping[str, tuple[int, int]]:
    """Round -> (bytes u sends, bytes u receives to open it), exactly, for a client that stays to the end.

    U4: who signed the survivors, for an active adversary; None for a semi-honest one. holders: of u's
    shares, in U1; None on the complete graph, where they are U1. opened: the members of U2 in groups whose
    sums are opened; None for U2.
    """
    size = _sizes(U1, active=U4 is not None)
    holders1 = U1 if holders is None else holders
    held = set(holders1)
    holders2 = [v for v in U2 if v in held]
    rounds = {
        "join": (size_of_tag(Join) + 1 + _KEY, 0),
        ADVERTISE_KEYS: (
            size_of_tag(AdvertiseKeys) + 2 * _KEY + size.signature,
            size_of_tag(Task) + _KEY + size_of_bytes(task_bytes),
        ),
        SHARE_KEYS: _share_keys(size, u, U1, holders1, active=U4 is not None),
        MASKED_INPUT: _masked_input(size, parameters, u, U2, holders2),
    }
    if U4 is not None:
        rounds[CONSISTENCY_CHECK] = (
            size_of_tag(ConsistencyCheck) + size.signature,
            size_of_tag(ConsistencyCheckRequest) + size.entries(U3),
        )
    dealers = holders2 if opened is None else [v for v in holders2 if v in set(opened)]
    rounds[UNMASKING] = _unmasking(size, U2, U3, U4, dealers)
    return rounds


def _sizes(U1: Collection[int], *, active: bool) -> _Sizes:
    return _Sizes(
        ids={v: size_of_int(v) for v in U1},
        signature=size_of_bytes(SIGNATURE_BYTES if active else 0),
        commitment=size_of_bytes(DIGEST_BYTES if active else 0),
        commitments=1 + 2 * size_of_bytes(DIGEST_BYTES) if active else 0,
    )


def _share_keys(
    size: _Sizes, u: int, U1: Collection[int], holders: Collection[int], *, active: bool
) -> tuple[int, int]:
    sealed = size.entries([v for v in holders if v != u], _SEALED)
    commitments = size.entries(holders if active else (), size.commitments)
    return (
        size_of_tag(ShareKeys) + sealed + size.commitment + commitments + size.signature,
        size_of_tag(ShareKeysRequest) + size.entries(U1, 1 + 2 * _KEY + size.signature),
    )


def _masked_input(
    size: _Sizes, parameters: Parameters, u: int, U2: Collection[int], holders: Collection[int]
) -> tuple[int, int]:
    specs, n = parameters.vectors.values(), parameters.summed
    packed = sum(size_of_bytes(packed_bytes(spec.length, spec.ring_bits(n))) for spec in specs)
    dealt = size.entries([v for v in holders if v != u], 1 + _SEALED + (size.commitments or 1))
    return (
        size_of_tag(MaskedInput) + size_of_header(len(specs)) + packed,
        size_of_tag(MaskedInputRequest) + size.entries(U2) + dealt,
    )


def _unmasking(
    size: _Sizes,
    U2: Collection[int],
    U3: Collection[int],
    U4: Collection[int] | None,
    dealers: Collection[int],
) -> tuple[int, int]:
    up = size_of_tag(Unmasking) + size.entries(dealers, _RETURNED)
    if U4 is not None:
        return up, size_of_tag(SignedUnmaskingRequest) + size.entries(U4, size.signature)
    survived = set(U3)
    return up, size_of_tag(UnmaskingRequest) + size.entries([v for v in U2 if v not in survived])
