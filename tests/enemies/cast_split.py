"""Sessions of split, recorded round by round, for those who lie in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from secagg import Counts, LocalProtocolError, RemoteProtocolError
from secagg.crypto import SecretKey, SigningKey
from secagg.split.derived import (
    relay_key_statement,
)
from secagg.wire import Message, context_of, relay_party
from tests.play import TASK, Course, Play, changed, identities
from tests.secagg.helpers import (
    SMALL_ORDER,
    SPLIT,
    assert_sum_of,
)

IDS = range(6)
VECTORS = {"counts": Counts(length=3, maximum=9), "large": Counts(length=2, maximum=2**40)}
INPUTS = {u: {"counts": [u, 9, 0], "large": [10**11 + 7**u, 3**u]} for u in IDS}
SCHEMES = {name: make(IDS, VECTORS, corrupt=1, m_min=4) for name, make in SPLIT.items()}
FIRST, SECOND = relay_party(0), relay_party(1)
SMALL = SMALL_ORDER[0]
_COURSES = {name: Course(Play(scheme, INPUTS)) for name, scheme in SCHEMES.items()}
either = pytest.mark.parametrize("name", SCHEMES)


def at(name: str, round: str, *, answered: bool = False) -> Play:
    return _COURSES[name].at(round, answered=answered)


def key_of(u: int) -> SigningKey:
    return identities(IDS)[1][u].key


def sid_of(play: Play) -> bytes:
    return bytes(play.server._sid)


def exact(play: Play, survivors: Any) -> None:
    assert_sum_of(play.scheme, INPUTS, play.finish(), survivors)


Change = Callable[[Any], Message | bytes]


def refuses(party: Any, request: bytes, kind: type[Message], change: Change, words: str) -> None:
    """It says why, names nobody, and is over: the true request comes too late."""
    with pytest.raises(RemoteProtocolError, match=words) as caught:
        party.receive(changed(kind, request, change))
    assert caught.value.culprits == frozenset()
    with pytest.raises(LocalProtocolError, match="this session is over"):
        party.receive(request)


PLANTED = SecretKey(bytes([9] * 32))
PLANTED_ELSEWHERE = SecretKey(bytes([8] * 32))


def with_key(message: Any, j: int, pk: bytes, signature: bytes | None = None) -> Any:
    kept = message.keys[j][1]
    return replace(message, keys={**message.keys, j: (pk, kept if signature is None else signature)})


def of_other_terms(play: Play, signer: int, **other: Any) -> bytes:
    """A signature that relay 1, or another, made of PLANTED for something else."""
    said = {
        "parameters": play.scheme.digest(),
        "roster": play.scheme.roster,
        "context": context_of(TASK),
        "nonce": play.server._nonce,
        "j": 1,
        "pk": PLANTED.public,
    }
    return key_of(signer).sign(relay_key_statement(**{**said, **other}))
