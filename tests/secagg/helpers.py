"""What the tests of the protocol share: small sessions played a round at a time, and ways to spoil them."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.typing import NDArray

from secagg import (
    CKKS,
    Bounded,
    Counts,
    Decoys,
    LocalProtocolError,
    Masking,
    Plain,
    RemoteProtocolError,
    Roster,
    Split,
    Weight,
)
from secagg.aggregate import Aggregate
from secagg.ckks import messages as of_ckks
from secagg.crypto import Tag, digest, kdf
from secagg.decoys.messages import Candidates
from secagg.encoding import centred, encode_vector
from secagg.masking.messages import (
    AdvertiseKeys,
    ConsistencyCheck,
    ConsistencyCheckRequest,
    MaskedInput,
    MaskedInputRequest,
    ShareKeys,
    ShareKeysRequest,
    SignedUnmaskingRequest,
    Unmasking,
    UnmaskingRequest,
)
from secagg.params import Parameters
from secagg.plain import Input
from secagg.session import Scheme
from secagg.specs import Spec, Vectors, check_vectors, weight_of
from secagg.split import messages as of_split
from secagg.wire import Join, Message, Task, relay_party
from tests.play import TASK, Play, assert_same_codes, changed, identities, rounding_seed

_CKKS: dict[str, type[Message]] = {
    "advertise-keys": Task,
    "share-keys": of_ckks.ShareCkksKeyRequest,
    "input": of_ckks.CiphertextsRequest,
    "decrypt": of_ckks.DecryptRequest,
}
_UP_TO_MASKED_INPUT: dict[str, type[Message]] = {
    "advertise-keys": Task,
    "share-keys": ShareKeysRequest,
    "masked-input": MaskedInputRequest,
}
_SPLIT: dict[str, type[Message]] = {
    "relay-keys": of_split.RelayKeyRequest,
    "shares": of_split.SplitTask,
    "deliver": of_split.DeliverRequest,
    "columns": of_split.ColumnRequest,
}
REQUEST: dict[str, dict[str, type[Message]]] = {
    "plain": {"input": Task},
    "semi-honest": {**_UP_TO_MASKED_INPUT, "unmasking": UnmaskingRequest},
    "active": {
        **_UP_TO_MASKED_INPUT,
        "consistency-check": ConsistencyCheckRequest,
        "unmasking": SignedUnmaskingRequest,
    },
    "ckks-keep": _CKKS,
    "ckks-release": _CKKS,
    "decoys": _CKKS,
    "split": _SPLIT,
    "split-semi-honest": _SPLIT,
}
ANSWER: dict[str, type[Message]] = {
    "join": Join,
    "input": Input,
    "advertise-keys": AdvertiseKeys,
    "share-keys": ShareKeys,
    "masked-input": MaskedInput,
    "consistency-check": ConsistencyCheck,
    "unmasking": Unmasking,
}
CKKS_ANSWER: dict[str, type[Message]] = {
    "join": Join,
    "advertise-keys": of_ckks.AdvertiseCkksKey,
    "share-keys": of_ckks.ShareCkksKey,
    "input": of_ckks.Ciphertexts,
    "decrypt": of_ckks.Decrypted,
}
DECOYS_ANSWER = CKKS_ANSWER | {"input": Candidates}
SPLIT_ANSWER: dict[str, type[Message]] = {
    "join": Join,
    "relay-keys": of_split.RelayKey,
    "shares": of_split.Shares,
    "deliver": of_split.Received,
    "columns": of_split.Column,
}
ROUNDS = {name: ("join", *requests) for name, requests in REQUEST.items()}
"""Scheme -> its rounds, in order."""
RELAYS_ASKED = ("relay-keys", "deliver", "columns")

MIXED = {
    "counts": Counts(length=3, maximum=9),
    "update": Bounded(length=5, bound=1.0, bits=8),
    "weight": Weight(maximum=4),
}

_P = 2**255 - 19
_ORDER_8 = (
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
)
# Every point of order 1, 2, 4 or 8 of the curve and its twist (https://cr.yp.to/ecdh.html#validate) in each
# of its encodings in 32 bytes: unreduced, and with the top bit that X25519 ignores.
SMALL_ORDER = [
    (x + top).to_bytes(32, "little") for x in (0, 1, *_ORDER_8, _P - 1, _P, _P + 1) for top in (0, 1 << 255)
]


def plain(ids: Collection[int], vectors: Vectors | Spec, **more: Any) -> Plain:
    return Plain.for_cohort(len(ids), vectors, **more)


def semi_honest(ids: Collection[int], vectors: Vectors | Spec, **more: Any) -> Masking:
    return Masking.for_cohort(len(ids), vectors, adversary="semi-honest", **more)


def active(ids: Collection[int], vectors: Vectors | Spec, **more: Any) -> Masking:
    return Masking.for_cohort(len(ids), vectors, adversary="active", roster=identities(ids)[0], **more)


def keeping(ids: Collection[int], vectors: Vectors | Spec, **more: Any) -> CKKS:
    return CKKS.for_cohort(len(ids), vectors, **{"roster": identities(ids)[0], **more})


def releasing(ids: Collection[int], vectors: Vectors | Spec, **more: Any) -> CKKS:
    return keeping(ids, vectors, ending="release", **more)


def with_decoys(ids: Collection[int], vectors: Vectors | Spec, **more: Any) -> Decoys:
    return Decoys.for_cohort(len(ids), vectors, **{"roster": identities(ids)[0], "candidates": 3, **more})


def split(ids: Collection[int], vectors: Vectors | Spec, **more: Any) -> Split:
    return Split.for_cohort(len(ids), vectors, **{"roster": identities(ids)[0], **more})


def split_semi_honest(ids: Collection[int], vectors: Vectors | Spec, **more: Any) -> Split:
    return split(ids, vectors, roster=None, **more)


SCHEMES: dict[str, Callable[..., Any]] = {
    "plain": plain,
    "semi-honest": semi_honest,
    "active": active,
    "ckks-keep": keeping,
    "ckks-release": releasing,
    "decoys": with_decoys,
    "split": split,
    "split-semi-honest": split_semi_honest,
}
"""name -> (ids, vectors, **numbers) -> the scheme of that cohort; its identities are `identities(ids)`."""
MASKING = {name: SCHEMES[name] for name in ("semi-honest", "active")}
ENDINGS = {name: SCHEMES[name] for name in ("ckks-keep", "ckks-release")}
"""Of CKKS, with signed keys: `roster=None` makes one in which nothing is signed."""
SPLIT = {name: SCHEMES[name] for name in ("split", "split-semi-honest")}
FIVE: dict[str, Masking] = {
    "semi-honest": semi_honest(range(5), MIXED),
    "active": active(range(5), MIXED, corrupt=0, threshold=3),
}
"""Threshold, m_min and quorum are three in both, so that one script plays against either server."""
_IN_GROUPS: dict[str, Any] = {
    "corrupt": 0,
    "threshold": 3,
    "groups": 2,
    "cohort": range(5),
    "cut": bytes(31) + b"\x05",
    "public_weights": True,
}
FIVE_IN_GROUPS: dict[str, Masking] = {
    "semi-honest, groups": semi_honest(range(5), MIXED, **_IN_GROUPS),
    "active, groups": active(range(5), MIXED, **_IN_GROUPS),
}
"""Clients 0, 3 and 4 are summed apart from 1 and 2, each with two: any one of the three may be left out."""

each_round = pytest.mark.parametrize(
    ("adversary", "round"), [(adversary, round) for adversary in FIVE for round in ROUNDS[adversary]]
)
each_request = pytest.mark.parametrize(
    ("adversary", "round"), [(adversary, round) for adversary in FIVE for round in REQUEST[adversary]]
)


def kind_of(scheme: Scheme) -> str:
    """Its name in SCHEMES."""
    if isinstance(scheme, CKKS):
        return f"ckks-{scheme.ending}"
    if isinstance(scheme, Decoys):
        return "decoys"
    if isinstance(scheme, Split):
        return "split" if scheme.adversary == "active" else "split-semi-honest"
    return scheme.adversary if isinstance(scheme, Masking) else "plain"


def answer_kind(scheme: Scheme, round: str) -> type[Message]:
    """Of what a client says in this round."""
    of_others = {CKKS: CKKS_ANSWER, Decoys: DECOYS_ANSWER, Split: SPLIT_ANSWER}
    return of_others.get(type(scheme), ANSWER)[round]


def one_asked(scheme: Scheme, round: str) -> int:
    """Client 0, or in a round in which relays are asked relay 0."""
    return relay_party(0) if isinstance(scheme, Split) and round in RELAYS_ASKED else 0


def first_round(scheme: Scheme) -> str:
    """In which clients are first asked for anything."""
    return next(round for round in scheme.rounds[1:] if not one_asked(scheme, round))


def roster_of(scheme: Scheme, ids: Collection[int]) -> Roster | None:
    """That of exactly these clients, where this scheme has one."""
    return identities(ids)[0] if getattr(scheme, "roster", b"") else None


def credentials(scheme: Scheme, ids: Collection[int]) -> dict[str, Any]:
    """What `run` needs besides for this scheme of exactly these clients."""
    return {"identities": identities(ids)[1]} if roster_of(scheme, ids) else {}


def holds_a_vector(client: Any) -> bool:
    """Itself, not in its state; an empty array is none."""
    return "array" in repr(vars(client)).replace("array([], ", "")


def mixed_inputs(ids: Collection[int]) -> dict[int, dict[str, Any]]:
    return {
        u: {
            "counts": [u % 10, 9, 0],
            "update": np.sin(u + np.arange(5.0)),
            "weight": 1 + u % 4,
        }
        for u in ids
    }


def codes_of(
    parameters: Parameters, inputs: Mapping[int, Any], survivors: Collection[int], task: bytes = TASK
) -> dict[str, NDArray[np.int64]]:
    """The survivors' codes, each encoded alone under its `rounding_seed`, and summed without any mask."""
    specs, n = parameters.vectors, parameters.clients
    sums = {name: np.zeros(spec.length, np.int64) for name, spec in specs.items()}
    for u in survivors:
        values = check_vectors(specs, inputs[u])
        for name, x in values.items():
            key = kdf(Tag.ROUNDING, rounding_seed(u), digest(Tag.CONTEXT, task), name)
            weight = weight_of(specs, values)
            codes, _ = encode_vector(specs[name], x, clients=n, rounding_key=key, weight=weight)
            sums[name] += centred(specs[name], codes, n)
    return sums


def assert_sum_of(
    scheme: Any, inputs: Mapping[int, Any], total: Aggregate, survivors: Collection[int]
) -> None:
    """Where codes are summed it is their sum; else integers are exact, and means as near as is promised."""
    assert total.survivors == set(survivors)
    if total.codes:
        assert_same_codes(total.codes, codes_of(scheme, inputs, survivors))
        return
    weight = next((name for name, spec in scheme.vectors.items() if isinstance(spec, Weight)), None)
    w = [1 if weight is None else int(np.reshape(inputs[u][weight], ())) for u in survivors]
    for name, spec in scheme.vectors.items():
        x = np.array([np.reshape(inputs[u][name], -1) for u in survivors])
        if isinstance(spec, Bounded):
            mean = np.average(np.clip(x, -spec.bound, spec.bound), axis=0, weights=w)
            assert np.abs(total.mean[name] - mean).max() <= total.error_bound[name]
            np.testing.assert_allclose(total.sum[name], total.mean[name] * sum(w), rtol=1e-12)
        else:
            assert total.sum[name].tolist() == x.sum(axis=0).tolist()
            np.testing.assert_allclose(total.mean[name], x.mean(axis=0))
            assert total.error_bound[name] == 0


def client_refuses(
    play: Play, round: str, change: Callable[[Any], Message | bytes], words: str, *, u: int = 0
) -> None:
    """Client u gets a changed request: it raises, says why, and is dead from then on."""
    request = play.to(round).requests[u]
    with pytest.raises(RemoteProtocolError, match=words) as caught:
        play.clients[u].receive(changed(REQUEST[kind_of(play.scheme)][round], request, change))
    assert caught.value.culprits == frozenset()
    with pytest.raises(LocalProtocolError, match="over"):
        play.clients[u].receive(request)
    assert not play.clients[u].done


def server_refuses(
    play: Play, round: str, change: Callable[[Any], Message | bytes], words: str, *, u: int = 0
) -> None:
    """Client u's answer is changed: it is named and out, and the others' sum is exact all the same."""
    answer = play.to(round).answer().answers.pop(u)
    with pytest.raises(RemoteProtocolError, match=f"client {u}, {round}: .*{words}") as caught:
        play.server.receive(u, changed(answer_kind(play.scheme, round), answer, change))
    assert caught.value.culprits == {u}
    with pytest.raises(RemoteProtocolError, match=f"client {u} is not expected"):
        play.server.receive(u, answer)
    total = play.finish()
    inputs = play.inputs.keys() - play.lost
    late = round in ("consistency-check", "unmasking", "decrypt")
    assert_sum_of(play.scheme, play.inputs, total, inputs if late else inputs - {u})


def culprits_named(receive: Callable[[bytes], Any], message: bytes) -> frozenset[int] | None:
    """Whom a refusal names; None if the message was taken. Nothing else may be raised."""
    try:
        receive(message)
    except RemoteProtocolError as refusal:
        return refusal.culprits
    return None


def with_another_byte(message: bytes, data: st.DataObject) -> bytes:
    i = data.draw(st.integers(0, len(message) - 1), label="index")
    return message[:i] + bytes([data.draw(st.integers(0, 255), label="byte")]) + message[i + 1 :]


def hkdf_sha256(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869, section 2, from HMAC alone: independent of the library under test."""
    prk = hmac.digest(salt, secret, "sha256")
    okm = block = b""
    for i in range(1, -(-length // 32) + 1):
        block = hmac.digest(prk, block + info + bytes([i]), "sha256")
        okm += block
    return okm[:length]


def flips(data: bytes) -> Iterator[bytes]:
    """The data with each of its bits flipped."""
    for i in range(len(data)):
        for bit in range(8):
            yield data[:i] + bytes([data[i] ^ 1 << bit]) + data[i + 1 :]
