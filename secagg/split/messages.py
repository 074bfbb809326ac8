"""What the parties of a split session say, and how many bytes it takes.

Relays are named by their number, from 0 on. Against a semi-honest server nothing is signed: signatures are
empty.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated

import msgspec

from secagg.alike import MAX_TAGS, TAG_BYTES, LikeTag
from secagg.bits import packed_bytes
from secagg.crypto import AE_OVERHEAD, DIGEST_BYTES, KEY_BYTES, SIGNATURE_BYTES
from secagg.params import MAX_VECTORS, Parameters
from secagg.wire import (
    MAX_RELAYS,
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

RELAY_KEYS = "relay-keys"
SHARES = "shares"
DELIVER = "deliver"
COLUMNS = "columns"

SEED_BYTES = 16
"""Of a dummy, as it travels."""

Relay = Annotated[int, msgspec.Meta(ge=0, lt=MAX_RELAYS)]
RelayKeys = dict[Relay, tuple[Key, Signature]]
Tags = Annotated[list[LikeTag], msgspec.Meta(max_length=MAX_TAGS)]
Packed = Annotated[list[memoryview], msgspec.Meta(max_length=MAX_VECTORS)]
Sealed = Annotated[memoryview, msgspec.Meta(min_length=AE_OVERHEAD)]


class RelayKeyRequest(Message, frozen=True, tag="relay-key-request"):
    """server -> relay: what the session is for, of the task its digest alone."""

    nonce: Key
    context: Digest


class RelayKey(Message, frozen=True, tag="relay-key"):
    """relay -> server: the public key to which shares of this session are sealed."""

    pk: Key
    signature: Signature


class SplitTask(Task, frozen=True, tag="split-task"):
    """server -> client: the task, and the key of every relay."""

    keys: RelayKeys


class Shares(Message, frozen=True, tag=SHARES):
    """u -> server: its share for each relay, in their order, sealed with c_u and the relay's key."""

    c_pk: Key
    sealed: Annotated[list[Sealed], msgspec.Meta(max_length=MAX_RELAYS)]
    signature: Signature


class SeedShare(Message, frozen=True, tag="seed"):
    """In a seal: a dummy of every vector, as the seed it is expanded from."""

    like: Tags
    seed: Annotated[bytes, msgspec.Meta(min_length=SEED_BYTES, max_length=SEED_BYTES)]

    def __repr__(self) -> str:
        return "SeedShare(<hidden>)"


class VectorShare(Message, frozen=True, tag="vector"):
    """In a seal: the vectors less all dummies, packed, in the order of their names."""

    like: Tags
    packed: Packed

    def __repr__(self) -> str:
        return "VectorShare(<hidden>)"


class Delivery(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One client's share for one relay, with what shows that it is the client's: its key, the digests of all
    its shares, and its signature over these.
    """

    c_pk: Key
    digests: Annotated[list[Digest], msgspec.Meta(max_length=MAX_RELAYS)]
    sealed: Sealed
    signature: Signature


class DeliverRequest(Message, frozen=True, tag="deliver-request"):
    """server -> relay: what clients have sealed to it."""

    keys: RelayKeys
    shares: dict[Id, Delivery]


class Received(Message, frozen=True, tag="received"):
    """relay -> server: whose shares it cannot use."""

    unusable: list[Id]


class ColumnRequest(Message, frozen=True, tag="column-request"):
    """server -> relay: whose shares are to be added."""

    members: list[Id]


class Column(Message, frozen=True, tag="column"):
    """relay -> server: the sum of just these shares, packed, in the order of the vectors' names."""

    packed: Packed
    signature: Signature


decodes(
    *(RelayKeyRequest, RelayKey, SplitTask, Shares, SeedShare, VectorShare),
    *(DeliverRequest, Received, ColumnRequest, Column),
)


def holder_of(u: int, relays: int) -> int:
    """Which relay gets a client's vector; the others get dummies."""
    return u % relays


def sealed_bytes(parameters: Parameters, tags: int, *, vector: bool) -> int:
    """Bytes of one sealed share. vector: of the one that is no dummy."""
    like = size_of_header(tags) + tags * size_of_bytes(TAG_BYTES)
    if not vector:
        return size_of_tag(SeedShare) + like + size_of_bytes(SEED_BYTES) + AE_OVERHEAD
    return size_of_tag(VectorShare) + like + _packed(parameters) + AE_OVERHEAD


def sizes_of_shares(parameters: Parameters, relays: int, u: int) -> list[set[int]]:
    """Relay -> how many bytes u's sealed share for it can have, by how many tags it carries."""
    return [
        {sealed_bytes(parameters, tags, vector=j == holder_of(u, relays)) for tags in range(MAX_TAGS + 1)}
        for j in range(relays)
    ]


def traffic_of_client(
    parameters: Parameters, relays: int, task_bytes: int, u: int, *, signed: bool, tags: int = 0
) -> Mapping[str, tuple[int, int]]:
    """Round -> (bytes u sends, bytes u receives to open it), exactly."""
    signature = size_of_bytes(SIGNATURE_BYTES if signed else 0)
    shares = [sealed_bytes(parameters, tags, vector=j == holder_of(u, relays)) for j in range(relays)]
    return {
        "join": (size_of_tag(Join) + 1 + size_of_bytes(DIGEST_BYTES), 0),
        SHARES: (
            size_of_tag(Shares) + _KEY + size_of_header(relays) + sum(map(size_of_bytes, shares)) + signature,
            size_of_tag(SplitTask) + _KEY + size_of_bytes(task_bytes) + _keys(relays, signature),
        ),
    }


def traffic_of_relay(
    parameters: Parameters,
    relays: int,
    j: int,
    arrived: Collection[int],
    members: Collection[int],
    *,
    signed: bool,
    tags: Mapping[int, int] | None = None,
) -> Mapping[str, tuple[int, int]]:
    """Round -> (bytes relay j sends, bytes it receives to open it), exactly, where all shares can be used.

    tags: client -> how many it has; None for none.
    """
    signature = size_of_bytes(SIGNATURE_BYTES if signed else 0)
    digest = size_of_bytes(DIGEST_BYTES)
    one = 1 + _KEY + size_of_header(relays) + relays * digest + signature
    deliveries = sum(
        size_of_int(u)
        + one
        + size_of_bytes(sealed_bytes(parameters, (tags or {}).get(u, 0), vector=j == holder_of(u, relays)))
        for u in arrived
    )
    return {
        "join": (size_of_tag(Join) + 1 + digest, 0),
        RELAY_KEYS: (size_of_tag(RelayKey) + _KEY + signature, size_of_tag(RelayKeyRequest) + _KEY + digest),
        DELIVER: (
            size_of_tag(Received) + size_of_header(0),
            size_of_tag(DeliverRequest)
            + _keys(relays, signature)
            + size_of_header(len(arrived))
            + deliveries,
        ),
        COLUMNS: (
            size_of_tag(Column) + _packed(parameters) + signature,
            size_of_tag(ColumnRequest) + size_of_header(len(members)) + sum(map(size_of_int, members)),
        ),
    }


_KEY = size_of_bytes(KEY_BYTES)


def _keys(relays: int, signature: int) -> int:
    return size_of_header(relays) + relays * (1 + 1 + _KEY + signature)


def _packed(parameters: Parameters) -> int:
    specs, n = parameters.vectors.values(), parameters.clients
    vectors = sum(size_of_bytes(packed_bytes(spec.length, spec.ring_bits(n))) for spec in specs)
    return size_of_header(len(specs)) + vectors
