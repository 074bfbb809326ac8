"""Messages in another form than their one: another type, out of a limit, not canonical, ids out of order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.vectors import independent as i
from tests.vectors.makers.plans import Json
from tests.vectors.makers.scene import Scene

NOT_ONE, NOT_CANONICAL, NOT_ASCENDING = "not a {} message", "not canonical", "ids that do not ascend"
Spoilt = Iterator[tuple[str, Any, str]]


class Raw(bytes):
    """Bytes that stand in the place of a value as they are."""


class Pairs(list[tuple[Any, Any]]):
    """A map whose keys may stand in any order, and twice."""


def written(value: Any) -> bytes:
    match value:
        case Raw():
            return bytes(value)
        case Pairs():
            return i.header("map", len(value), 2) + b"".join(written(x) for pair in value for x in pair)
        case dict():
            return written(Pairs(value.items()))
        case list():
            return i.header("array", len(value), 2) + b"".join(map(written, value))
    return i.packed(value)


def wider(x: int) -> Raw:
    """The next longer form of an integer than its own."""
    width = next(width for width in (1, 2, 4, 8) if len(i.packed(x)) <= width)
    return Raw(bytes([{1: 0xCC, 2: 0xCD, 4: 0xCE, 8: 0xCF}[width]]) + x.to_bytes(width, "big"))


def spoilt_message(data: bytes) -> Spoilt:
    """(what, bytes, words)"""
    name, *fields = i.unpack(data)
    yield "a byte behind its end", data + b"\0", NOT_ONE
    yield "without its last byte", data[:-1], NOT_ONE
    yield "no bytes", b"", NOT_ONE
    yield "another name", written(["hello", *fields]), NOT_ONE
    yield "a field too many", written([name, *fields, None]), NOT_ONE
    yield "a field too few", written([name, *fields[:-1]]), NOT_ONE
    yield "a map in the place of the array", b"\x80", NOT_ONE
    count = len(fields) + 1
    yield "the array's length in two bytes", b"\xdc" + count.to_bytes(2, "big") + data[1:], NOT_CANONICAL
    longer = Raw(b"\xd9" + bytes([len(name)]) + name.encode())
    yield "the length of its name in a byte of its own", written([longer, *fields]), NOT_CANONICAL
    for number, field in enumerate(fields):
        for what, value, words in spoilt_value(field):
            changed = [*fields[:number], value, *fields[number + 1 :]]
            yield f"field {number + 1}: {what}", written([name, *changed]), words


def spoilt_value(value: Any) -> Spoilt:
    match value:
        case bytes():
            yield from _spoilt_bytes(value)
        case int():
            yield "a float", float(value), NOT_ONE
            yield "text", str(value), NOT_ONE
            yield "in a longer form", wider(value), NOT_CANONICAL
        case dict():
            yield from _spoilt_map(value)
        case [int(), *_]:
            yield from _spoilt_ids(value)
        case list():
            yield "nil", None, NOT_ONE
            for number, entry in enumerate(value[:1]):
                for what, other, words in spoilt_value(entry):
                    yield f"entry {number + 1}: {what}", [other, *value[1:]], words


def _spoilt_bytes(value: bytes) -> Spoilt:
    yield "a byte too many", value + b"\0", NOT_ONE
    yield "a byte too few", value[:-1], NOT_ONE
    yield "text", "x" * len(value), NOT_ONE
    size = len(value).to_bytes(2, "big")
    yield "its length in two bytes", Raw(b"\xc5" + size + value), NOT_CANONICAL


def _bad_ids(u: int) -> Spoilt:
    yield "an id in a longer form", wider(u), NOT_CANONICAL
    yield "the id -1", Raw(b"\xff"), NOT_ONE
    yield "the id 2^31 - 1", 2**31 - 1, NOT_ONE
    yield "a float for an id", float(u), NOT_ONE


def _spoilt_map(value: Json) -> Spoilt:
    yield "nil", None, NOT_ONE
    if not value:
        return
    pairs = list(value.items())
    (u, first), rest = pairs[0], pairs[1:]
    for what, other, words in _bad_ids(u):
        # Behind the others, where it is out of order only if it is an id.
        yield what, Pairs([(other, first), *rest] if words != NOT_ONE else [*rest, (other, first)]), words
    if rest:
        yield "ids that descend", Pairs(pairs[::-1]), NOT_ASCENDING
    yield "an id that stands twice", Pairs([pairs[0], *pairs]), NOT_CANONICAL
    for what, other, words in spoilt_value(first):
        yield f"of id {u}: {what}", Pairs([(u, other), *rest]), words


def _spoilt_ids(value: list[int]) -> Spoilt:
    yield "nil", None, NOT_ONE
    for what, other, words in _bad_ids(value[0]):
        yield what, [other, *value[1:]] if words != NOT_ONE else [*value[1:], other], words
    if len(value) > 1:
        yield "ids that descend", value[::-1], NOT_ASCENDING
    yield "an id that stands twice", [value[0], *value], NOT_ASCENDING


def malformed(semi_honest: Scene, active: Scene, joint: Scene, u: int) -> Iterator[Json]:
    """Every message of a session, to or from client u, spoilt in every way that is not a message any more."""
    for scene, asked, answered in (
        (
            semi_honest,
            ("advertise-keys", "share-keys", "masked-input", "unmasking"),
            ("join", "advertise-keys", "share-keys", "masked-input", "unmasking"),
        ),
        (active, ("consistency-check", "unmasking"), ("consistency-check",)),
    ):
        for round in asked:
            name, number = scene.request(round), scene.asked(round, u)
            yield place(scene, name, number, u, "server", refused(name, scene.data(number)))
        for round in answered:
            number = scene.answered(round, u)
            yield place(scene, round, number, "server", u, refused(round, scene.data(number)))
    number = joint.answered("advertise-keys", u)
    yield place(joint, "joint", number, "server", u, refused("joint", joint.data(number)))
    number = active.answered("share-keys", u)
    yield place(active, "share-keys", number, "server", u, _of_commitments(active.data(number)))


def place(scene: Scene, name: str, step: int, to: int | str, sender: int | str, spoilt: Spoilt) -> Json:
    """Many ways to spoil one message."""
    bad = [[f"{name}: {what}", data.hex(), words.format(name)] for what, data, words in spoilt]
    culprits = [sender] if to == "server" else []
    place = {"session": scene.name, "step": step, "to": to, "from": sender}
    return {**place, "error": {"class": "RemoteProtocolError", "culprits": culprits}, "bad": bad}


def _of_commitments(good: bytes) -> Spoilt:
    """What only active messages have, in one that semi-honest sessions have too."""
    name, sealed, commitment, commitments, signature = i.unpack(good)
    for what, other, words in spoilt_value(commitments):
        yield f"field 3: {what}", written([name, sealed, commitment, other, signature]), words
    other = commitment + b"\0"
    yield "field 2: a byte too many", written([name, sealed, other, commitments, signature]), NOT_ONE


def refused(name: str, good: bytes) -> Spoilt:
    """What is no message of that name any more."""
    for what, data, words in spoilt_message(good):
        try:
            i.message(name, data)
        except i.MalformedError:
            yield what, data, words
