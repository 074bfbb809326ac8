"""What the parties of a masking session say (Bonawitz et al., figure 4), and how many bytes it takes.

Every request opens the round it is named after; every answer closes it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated

import msgspec

from secagg.crypto import AE_OVERHEAD, KEY_BYTES
from secagg.encoding import packed_bytes
from secagg.params import MAX_VECTORS, Parameters
from secagg.shamir import SHARE_BYTES
from secagg.wire import (
    Id,
    Join,
    Key,
    Message,
    Task,
    size_of_bytes,
    size_of_header,
    size_of_int,
    size_of_tag,
)

ADVERTISE_KEYS = "advertise-keys"
SHARE_KEYS = "share-keys"
MASKED_INPUT = "masked-input"
UNMASKING = "unmasking"

SEALED_BYTES = 2 * SHARE_BYTES + AE_OVERHEAD

Share = Annotated[bytes, msgspec.Meta(min_length=SHARE_BYTES, max_length=SHARE_BYTES)]
Sealed = Annotated[bytes, msgspec.Meta(min_length=SEALED_BYTES, max_length=SEALED_BYTES)]


class AdvertiseKeys(Message, frozen=True, tag=ADVERTISE_KEYS):
    """u -> server: c_u^PK for the shares' encryption, s_u^PK for the masks."""

    c_pk: Key
    s_pk: Key


class ShareKeysRequest(Message, frozen=True, tag="share-keys-request"):
    """server -> all: {(v, c_v^PK, s_v^PK)} of U1."""

    keys: dict[Id, tuple[Key, Key]]


class ShareKeys(Message, frozen=True, tag=SHARE_KEYS):
    """u -> server: e_uv, the sealed shares of s_u^SK and b_u, for each v of U1 but u."""

    sealed: dict[Id, Sealed]


class MaskedInputRequest(Message, frozen=True, tag="masked-input-request"):
    """server -> u: e_vu from each v of U2 but u. The senders and u are U2."""

    sealed: dict[Id, Sealed]


class MaskedInput(Message, frozen=True, tag=MASKED_INPUT):
    """u -> server: y_u, packed, one entry per vector in the order of their names."""

    packed: Annotated[list[memoryview], msgspec.Meta(max_length=MAX_VECTORS)]


class UnmaskingRequest(Message, frozen=True, tag="unmasking-request"):
    """server -> u: U2 minus U3. Who is not named here is alive: one client cannot be both."""

    dropped: list[Id]


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
    """u -> server: of every v in U2 one share, of one of two kinds. Both of one v cannot be said."""

    shares: dict[Id, SelfMaskShare | PairKeyShare]


def traffic(
    parameters: Parameters,
    task_bytes: int,
    u: int,
    U1: Collection[int],
    U2: Collection[int],
    U3: Collection[int],
) -> Mapping[str, tuple[int, int]]:
    """Round -> (bytes u sends, bytes u receives to open it), exactly, for a client that stays to the end.

    Linear in the cohort: 68 bytes a key pair, 98 a sealed share in each direction, 38 a returned share.
    """
    ids = {v: size_of_int(v) for v in U1}
    key, sealed = size_of_bytes(KEY_BYTES), size_of_bytes(SEALED_BYTES)
    returned = 1 + 2 + size_of_bytes(SHARE_BYTES)
    others1 = [v for v in U1 if v != u]
    others2 = [v for v in U2 if v != u]
    dropped = [v for v in U2 if v not in set(U3)]
    packed = [
        packed_bytes(spec.length, spec.ring_bits(parameters.clients)) for spec in parameters.vectors.values()
    ]

    def entries(kind: type[Message], members: Collection[int], each: int) -> int:
        return size_of_tag(kind) + size_of_header(len(members)) + sum(ids[v] + each for v in members)

    return {
        "join": (size_of_tag(Join) + 1 + key, 0),
        ADVERTISE_KEYS: (
            size_of_tag(AdvertiseKeys) + 2 * key,
            size_of_tag(Task) + key + size_of_bytes(task_bytes),
        ),
        SHARE_KEYS: (entries(ShareKeys, others1, sealed), entries(ShareKeysRequest, U1, 1 + 2 * key)),
        MASKED_INPUT: (
            size_of_tag(MaskedInput) + size_of_header(len(packed)) + sum(map(size_of_bytes, packed)),
            entries(MaskedInputRequest, others2, sealed),
        ),
        UNMASKING: (entries(Unmasking, U2, returned), entries(UnmaskingRequest, dropped, 0)),
    }
