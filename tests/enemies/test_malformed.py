"""Every field of every message in turn too short, too long, out of range or of another type, to either side:
the receiver says RemoteProtocolError and nothing else, and the others' session goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests.enemies.cast import BOTH, VECTORS, Company, Scene, assert_exact, vectors_of
from tests.play import Play
from tests.secagg.helpers import ENDINGS, culprits_named

Path = tuple[Any, ...]
ONE = 0  # the client whose messages are spoiled


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


# What is taken, and why that is right. A client takes any task, and cannot know of one survivor or dropout
# fewer that it is a lie: see test_equivocation.py.
ANY_TASK = ["(2,) too long", "(2,) too short", "(2,) empty"]
TAKEN_BY_CLIENT = {
    ("active", "advertise-keys"): ANY_TASK,
    ("active", "consistency-check"): ["(1,) one less"],
    ("semi-honest", "advertise-keys"): ANY_TASK,
    ("semi-honest", "unmasking"): ["(1,) one less"],
}
ROUNDS = [
    pytest.param(company, round, id=f"{adversary}, {round}")
    for adversary, company in BOTH.items()
    for round in company.scheme.rounds
]
ASKED = [each for each in ROUNDS if each.values[1] != "join"]


@pytest.mark.parametrize(("company", "round"), ROUNDS)
def test_a_server_refuses_a_field_that_is_not_what_it_should_be(company: Company, round: str) -> None:
    answer = Scene(company, drop={"masked-input": {4}}).to(round).answer().answers[ONE]
    taken = []
    for what, message in every_spoiling(answer):
        scene = Scene(company, drop={"masked-input": {4}}).to(round).answer()
        scene.answers[ONE] = message
        scene.play()
        if ONE not in scene.refused:
            taken.append(what)
            continue
        assert scene.refused[ONE].culprits == {ONE}, what
        lost = {4} if round in ("consistency-check", "unmasking") else {ONE, 4}
        assert_exact(scene.total, set(range(6)) - lost)
    assert taken == []


@pytest.mark.parametrize(("company", "round"), ASKED)
def test_a_client_refuses_a_field_that_is_not_what_it_should_be(company: Company, round: str) -> None:
    request = Scene(company, drop={"masked-input": {4}}).to(round).requests[ONE]
    taken = []
    for what, message in every_spoiling(request):
        scene = Scene(company, drop={"masked-input": {4}}).to(round)
        scene.requests = {ONE: message}
        scene.answer()
        if ONE not in scene.died:
            taken.append(what)
        elif culprits := scene.died[ONE].culprits:
            pytest.fail(f"{what}: {culprits} named for what the server sent")
    assert taken == TAKEN_BY_CLIENT.get((company.scheme.adversary, round), [])


# CKKS, of which a session is played once, and gone on with from every round


CKKS_ROUNDS = [
    pytest.param(name, u, round, id=f"{name}, client {u}, {round}")
    for name in ENDINGS
    for u in (0, 3)  # one that makes keys and decrypts what is released, and one that does neither
    for round in ("join", "advertise-keys", "share-keys", "input", "decrypt")
]
_played: dict[str, dict[str, Play]] = {}


def of_ckks(name: str, round: str) -> Play:
    """Where this round has been opened, and nobody has read the requests."""
    if name not in _played:
        play = Play(ENDINGS[name](range(4), VECTORS), {u: vectors_of(u) for u in range(4)})
        _played[name] = {at: play.to(at).forked() for at in play.scheme.rounds}
    return _played[name][round].forked()


@pytest.mark.parametrize(("name", "u", "round"), CKKS_ROUNDS)
def test_a_ckks_server_refuses_a_field_that_is_not_what_it_should_be(name: str, u: int, round: str) -> None:
    play = of_ckks(name, round).answer()
    truth = play.answers.pop(u)
    for what, message in every_spoiling(truth):
        spoilt = play.forked()
        assert culprits_named(lambda m, it=spoilt: it.server.receive(u, m), message) == {u}, what
    assert_exact(spoilt.finish(), set(range(4)) - (set() if round == "decrypt" else {u}))


@pytest.mark.parametrize(("name", "u", "round"), [each for each in CKKS_ROUNDS if each.values[2] != "join"])
def test_a_ckks_client_refuses_a_field_that_is_not_what_it_should_be(name: str, u: int, round: str) -> None:
    play = of_ckks(name, round)
    taken = []
    for what, message in every_spoiling(play.requests[u]):
        culprits = culprits_named(play.forked().clients[u].receive, message)
        if culprits is None:
            taken.append(what)
        assert not culprits, f"{what}: {culprits} named for what the server sent"
    one_less = [] if u == 3 else ["(1,) one less"]  # which is the last, client 3
    assert taken == {"advertise-keys": ANY_TASK, "decrypt": one_less}.get(round, [])
