"""Messages and their bytes, as this package has them."""

from __future__ import annotations

from typing import Any

import msgspec

from secagg.ckks.messages import (
    AdvertiseCkksKey,
    Ciphertexts,
    CiphertextsRequest,
    Decrypted,
    DecryptRequest,
    ShareCkksKey,
    ShareCkksKeyRequest,
)
from secagg.decoys.messages import Candidates
from secagg.masking.messages import (
    AdvertiseKeys,
    Commitments,
    ConsistencyCheck,
    ConsistencyCheckRequest,
    Delivery,
    MaskedInput,
    MaskedInputRequest,
    PairKeyShare,
    SelfMaskShare,
    ShareKeys,
    ShareKeysRequest,
    SignedUnmaskingRequest,
    Unmasking,
    UnmaskingRequest,
)
from secagg.plain import Input
from secagg.split import messages as split
from secagg.wire import MAX_ID, Join, Joint, Message, Task
from secagg.wire import encode as to_bytes
from tests.vectors.makers.chance import Counter
from tests.vectors.makers.plans import Json

FORMS = (0, 127, 128, 255, 256, 65535, 65536, MAX_ID)


def messages() -> Json:
    rng = Counter("messages")

    def signed(u: int) -> bytes:
        return rng(64)

    def both() -> Commitments:
        return Commitments(rng(32), rng(32))

    listed: list[Message] = [
        Join(1, rng(32)),
        Join(2**64 - 1, bytes(32)),
        *(Joint(1, bytes(32), memoryview(bytes(size))) for size in (0, 255, 256, 65536)),
        Task(rng(32), b""),
        Task(rng(32), rng(255)),
        Task(rng(32), rng(256)),
        AdvertiseKeys(rng(32), rng(32), b""),
        AdvertiseKeys(rng(32), rng(32), signed(0)),
        ShareKeysRequest({}),
        ShareKeysRequest({u: (rng(32), rng(32), b"") for u in FORMS}),
        ShareKeysRequest({u: (rng(32), rng(32), signed(u)) for u in (0, MAX_ID)}),
        ShareKeys({u: rng(94) for u in (1, 300)}, b"", {}, b""),
        ShareKeys({u: rng(94) for u in (1, 300)}, rng(32), {u: both() for u in (0, 1, 300)}, signed(0)),
        MaskedInputRequest([0, 1, 300], {u: Delivery(rng(94), None) for u in (1, 300)}),
        MaskedInputRequest([0, 1], {1: Delivery(rng(94), both())}),
        MaskedInput([]),
        MaskedInput([memoryview(rng(size)) for size in (1, 255, 256)]),
        ConsistencyCheckRequest(list(FORMS)),
        ConsistencyCheckRequest(list(range(15))),
        ConsistencyCheckRequest(list(range(16))),
        ConsistencyCheck(signed(0)),
        UnmaskingRequest([]),
        UnmaskingRequest(list(FORMS)),
        SignedUnmaskingRequest({u: signed(u) for u in (0, 300)}),
        SignedUnmaskingRequest(dict.fromkeys(range(16), b"")),
        Unmasking({}),
        Unmasking({0: SelfMaskShare(rng(33)), 5: PairKeyShare(rng(33)), MAX_ID: SelfMaskShare(rng(33))}),
        Input([memoryview(rng(4)), memoryview(rng(8))]),
        *_of_ckks(Counter("messages/ckks")),
        *_of_decoys(Counter("messages/decoys")),
        *_of_split(Counter("messages/split")),
    ]
    return {
        "what": "Messages and their bytes (section 2.2): the fields in order, ids as keys of maps as "
        "strings, bytes in "
        "hex. They keep the types and limits of that section; most could stand in no session.",
        "cases": [
            {
                "message": str(message.__struct_config__.tag),
                "fields": shown(msgspec.msgpack.decode(to_bytes(message), strict=False))[1:],
                "bytes": to_bytes(message).hex(),
            }
            for message in listed
        ],
    }


def _of_ckks(rng: Counter) -> list[Message]:
    return [
        AdvertiseCkksKey(rng(32), b""),
        AdvertiseCkksKey(rng(32), rng(64)),
        ShareCkksKeyRequest({}),
        ShareCkksKeyRequest({u: (rng(32), b"") for u in FORMS}),
        ShareCkksKeyRequest({u: (rng(32), rng(64)) for u in (0, MAX_ID)}),
        ShareCkksKey(b"", {}, b""),
        ShareCkksKey(rng(256), {u: rng(60) for u in (1, 300)}, rng(64)),
        CiphertextsRequest(0, rng(255), {}, b""),
        CiphertextsRequest(300, rng(28), {u: rng(60) for u in (1, MAX_ID)}, rng(64)),
        Ciphertexts(memoryview(rng(11)), rng(32), b""),
        Ciphertexts(memoryview(rng(256)), rng(32), rng(64)),
        DecryptRequest(list(FORMS), memoryview(b"")),
        DecryptRequest([0, 5], memoryview(rng(11))),
        Decrypted(memoryview(b"")),
        Decrypted(memoryview(rng(16))),
    ]


def _of_decoys(rng: Counter) -> list[Message]:
    return [
        Candidates(memoryview(rng(3)), memoryview(rng(11)), rng(32), b""),
        Candidates(memoryview(rng(256)), memoryview(rng(300)), rng(32), rng(64)),
    ]


def _of_split(rng: Counter) -> list[Message]:
    def keys(relays: int, signature: int) -> split.RelayKeys:
        return {j: (rng(32), rng(signature)) for j in range(relays)}

    def delivery(relays: int, size: int, signature: int) -> split.Delivery:
        digests = [rng(32) for _ in range(relays)]
        return split.Delivery(rng(32), digests, memoryview(rng(size)), rng(signature))

    return [
        split.RelayKeyRequest(rng(32), rng(32)),
        split.RelayKey(rng(32), b""),
        split.RelayKey(rng(32), rng(64)),
        split.SplitTask(rng(32), b"", keys(2, 0)),
        split.SplitTask(rng(32), rng(300), keys(16, 64)),
        split.Shares(rng(32), [memoryview(rng(size)) for size in (28, 255)], b""),
        split.Shares(rng(32), [memoryview(rng(size)) for size in (54, 256, 54)], rng(64)),
        split.SeedShare([], rng(16)),
        split.SeedShare([rng(16) for _ in range(4)], rng(16)),
        split.VectorShare([], [memoryview(rng(3))]),
        split.VectorShare([rng(16)], [memoryview(rng(size)) for size in (1, 255, 256)]),
        split.DeliverRequest(keys(2, 0), {}),
        split.DeliverRequest(keys(2, 0), {u: delivery(2, 54, 0) for u in FORMS}),
        split.DeliverRequest(keys(3, 64), {u: delivery(3, 300, 64) for u in (0, MAX_ID)}),
        split.Received([]),
        split.Received(list(FORMS)),
        split.ColumnRequest(list(FORMS)),
        split.ColumnRequest(list(range(16))),
        split.Column([memoryview(rng(3))], b""),
        split.Column([memoryview(rng(size)) for size in (1, 256)], rng(64)),
    ]


def shown(value: Any) -> Any:
    """As JSON has it."""
    match value:
        case bytes():
            return value.hex()
        case list():
            return [shown(entry) for entry in value]
        case dict():
            return {str(k): shown(v) for k, v in value.items()}
    return value
