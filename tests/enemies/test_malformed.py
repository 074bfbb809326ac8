"""Every field of every message in turn too short, too long, out of range or of another type, to either side:
the receiver says RemoteProtocolError and nothing else, and the others' session goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import LocalProtocolError, RemoteProtocolError, TooFewClients
from tests.enemies.cast import VECTORS, assert_exact, vectors_of
from tests.play import Course, Play
from tests.secagg.helpers import ENDINGS, MASKING, culprits_named, with_another_byte

Path = tuple[Any, ...]


def fields(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """(where, what) of every field; of many alike the first."""
    yield path, value
    if isinstance(value, list):
        ids = bool(value) and all(isinstance(entry, int) for entry in value)
        for i, entry in enumerate(value[:1] if ids else value):
            yield from fields(entry, (*path, i))
    if isinstance(value, dict):
        for key in list(value)[:1]:
            yield from fields(value[key], (*path, key))


def spoiled(value: Any) -> Iterator[tuple[str, Any]]:
    yield "of another type", {"nothing": None}
    if value is not None:
        yield "missing", None
    match value:
        case bytes():
            yield "too long", value + b"\0"
            if value:
                yield "too short", value[:-1]
                yield "empty", b""
        case str():
            yield "another", value + "s"
        case int():
            yield from (("below", -1), ("above", 2**31 - 1), ("far above", 2**64 - 1))
        case list():
            yield from (("one more", [*value, 0]), ("one less", value[:-1]))
        case dict():
            entry = next(iter(value.values()), b"")
            for what, key in (("below", -1), ("above", 2**31 - 1), ("far above", 2**40), ("a name", "0")):
                yield f"a key {what}", {**value, key: entry}


def put(value: Any, path: Path, new: Any) -> Any:
    if not path:
        return new
    first, *rest = path
    entries = list(value) if isinstance(value, list) else dict(value)
    entries[first] = put(entries[first], tuple(rest), new)
    return entries


def every_spoiling(message: bytes) -> Iterator[tuple[str, bytes]]:
    content = msgspec.msgpack.decode(message)
    for path, value in fields(content):
        for what, new in spoiled(value):
            yield f"{path} {what}", msgspec.msgpack.encode(put(content, path, new))
    yield "nothing", b""
    yield "a byte more", message + b"\0"
    yield "a byte less", message[:-1]
    yield "twice", message * 2
    yield "nested too deep", b"\x91" * 5000
    yield "a long list announced", message[:1] + b"\xdd\xff\xff\xff\xff"
    yield "a long map announced", message[:1] + b"\xdf\xff\xff\xff\xff"


# What a client takes, and why that is right: any task; one survivor or dropout fewer, of which it cannot know
# that it is a lie (see test_equivocation.py); and one signature fewer, where three of four are enough.
ANY_TASK = ["(2,) too long", "(2,) too short", "(2,) empty"]
GROUPED = "active, groups"
ONE_LESS = ["(1,) one less"]  # which is the last, client 3
TAKEN_BY_CLIENT = {
    ("active", "consistency-check"): ONE_LESS,
    ("semi-honest", "unmasking"): ONE_LESS,
    ("active", "unmasking"): ["(1, 0) too short", "(1, 0) empty"],
    (GROUPED, "consistency-check"): ONE_LESS,
    (GROUPED, "unmasking"): ["(1, 0) too short", "(1, 0) empty"],
    ("ckks-keep", "decrypt"): ONE_LESS,
    ("ckks-release", "decrypt"): ONE_LESS,
}


LOST = {"masked-input": {2}}  # so that there are shares of both kinds


@cache
def schemes() -> dict[str, Any]:
    """Five clients with masks and four with CKKS, of whom three are enough."""
    five = {name: make(range(5), VECTORS, corrupt=0, threshold=3) for name, make in MASKING.items()}
    # {1, 2}, of whom 2 is lost, and {0, 3, 4}, of whom two are enough.
    cut = {"groups": 2, "public_weights": True, "cohort": range(5), "cut": b"\6" * 32}
    five[GROUPED] = MASKING["active"](range(5), VECTORS, corrupt=0, threshold=3, **cut)
    return five | {name: make(range(4), VECTORS) for name, make in ENDINGS.items()}


ROUNDS = [
    pytest.param(name, u, round, id=f"{name}, client {u}, {round}")
    for name, scheme in schemes().items()
    for u in ((0, 3) if name in ENDINGS else (0,))  # of CKKS, one that makes keys, and one that does not
    for round in scheme.rounds
]


@cache
def course(name: str) -> Course:
    scheme = schemes()[name]
    return Course(Play(scheme, {u: vectors_of(u) for u in range(scheme.clients)}, drop=LOST))


@pytest.mark.parametrize(("name", "u", "round"), ROUNDS)
def test_a_server_refuses_a_field_that_is_not_what_it_should_be(name: str, u: int, round: str) -> None:
    play = course(name).at(round, answered=True)
    truth = play.answers.pop(u)
    for what, message in every_spoiling(truth):
        spoilt = play.forked()
        assert culprits_named(lambda m, it=spoilt: it.server.receive(u, m), message) == {u}, what
    late = round in ("consistency-check", "unmasking", "decrypt")
    total = spoilt.finish()
    there = frozenset(play.clients.keys() - spoilt.lost - (set() if late else {u}))
    if name == GROUPED:
        there &= frozenset().union(*play.scheme.sums.opened(spoilt.server._cut, there))
    assert_exact(total, there)


@pytest.mark.parametrize(("name", "u", "round"), [each for each in ROUNDS if each.values[2] != "join"])
def test_a_client_refuses_a_field_that_is_not_what_it_should_be(name: str, u: int, round: str) -> None:
    play, taken = course(name).at(round), []
    for what, message in every_spoiling(play.requests[u]):
        culprits = culprits_named(play.forked().clients[u].receive, message)
        if culprits is None:
            taken.append(what)
        assert not culprits, f"{what}: {culprits} named for what the server sent"
    due = ANY_TASK if round == "advertise-keys" else TAKEN_BY_CLIENT.get((name, round), [])
    assert taken == (due if due is ANY_TASK or u != 3 else [])


# Any byte of any message, where what is sound in its form may still be a lie


OF_MASKING = [(name, round) for name in MASKING for round in schemes()[name].rounds]


def goes_on(play: Play) -> None:
    """To a sum, or to an end that is one of the two; masking gives no integrity, but never another error."""
    play.forgiven = play.clients.keys()
    try:
        play.to("done")
    except (RemoteProtocolError, TooFewClients):
        assert play.server.result is None


@settings(max_examples=25)
@pytest.mark.parametrize(
    ("name", "round"), [each.values[::2] for each in ROUNDS if each.values[0] in MASKING]
)
@given(st.data())
def test_whatever_byte_of_an_answer_changes_a_server_takes_or_refuses_it(
    name: str, round: str, data: st.DataObject
) -> None:
    play = course(name).at(round, answered=True)
    message = with_another_byte(play.answers.pop(0), data)
    assert culprits_named(lambda m: play.server.receive(0, m), message) in (None, {0})
    goes_on(play)


@settings(max_examples=25)
@pytest.mark.parametrize(("name", "round"), [each for each in OF_MASKING if each[1] != "join"])
@given(st.data())
def test_whatever_byte_of_a_request_changes_a_client_answers_or_dies(
    name: str, round: str, data: st.DataObject
) -> None:
    play = course(name).at(round)
    message = with_another_byte(play.requests[0], data)
    culprits = culprits_named(play.clients[0].receive, message)
    assert culprits in (None, frozenset())
    if culprits is not None:
        with pytest.raises(LocalProtocolError, match="over"):
            play.clients[0].receive(message)
