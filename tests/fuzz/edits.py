"""How true bytes are spoiled: a script of edits, itself any bytes, so that a fuzzer need know no format.

The edits act on the fields of a message, on the lines of a text, or on bytes. A longer script does more of
them; a script is as good after the format has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec

Path = tuple[int, ...]  # from the root: which entry, of a map in the order of its keys
PALETTE: list[Any] = [
    *(None, True, -1, 0, 1, 2, 127, 128, 2**16, 2**31 - 2, 2**31 - 1, 2**32, 2**63, 2**64 - 1, -(2**63)),
    *(0.0, -1.5, 1e300, float("nan"), float("inf")),
    *("", "0", "\x1b[2J", b"", bytes(32), bytes(64), b"\xff" * 32),
    *([], {}, [[]], {0: 0}, {"": None}),
]
HOSTILE = [
    *(b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"),
    *(b"\xc9\xff\xff\xff\xff\x00", b"\xdc\xff\xff", b"\xdf\x00\x0f\xff\xff\x00", b"\xdd\x00\xff\xff\xff" * 9),
    *(b"\x91" * 3000, b"\x81" * 3000, b"\x81\x91" * 1500, b"\xc1", b"\xa2\xff\xfe", b"\xa3\xed\xa0\x80"),
    *(
        b"\xd6\xff\xff\xff\xff\xff",
        b"\xd4\x05\x00",
        b"\x82\x00\x00\x00\x00",
        b"\x81\x80\x00",
        b"\x81\x90\x00",
    ),
]
"""Headers that claim more than follows, depths, text that is no UTF-8, extensions, keys that cannot be."""


class Steps:
    """A script as it is read; behind its end stand zeros."""

    def __init__(self, script: bytes) -> None:
        self._left = iter(script)

    def each(self) -> Iterator[int]:
        return self._left

    def byte(self) -> int:
        return next(self._left, 0)

    def below(self, n: int) -> int:
        """0..n-1."""
        return (self.byte() if n <= 256 else self.byte() << 8 | self.byte()) % max(n, 1)

    def of(self, choices: Sequence[Any]) -> Any:
        return choices[self.below(len(choices))]

    def some(self) -> bytes:
        return bytes(islice(self._left, self.byte() % 64))


def edited(message: bytes, script: bytes, others: Sequence[bytes] = ()) -> bytes:
    """The message after every edit of the script. others: true messages that it may take parts of."""
    steps = Steps(script)
    for step in steps.each():
        message = EDITS[step % len(EDITS)](message, steps, others or [message])
    return message


# Trees: what a message holds, or the lines of a text


def parsed(message: bytes) -> tuple[Any, Callable[[Any], bytes]]:
    """A tree and how it becomes bytes again."""
    try:
        return msgspec.msgpack.decode(message), msgspec.msgpack.encode
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError):
        return message.split(b"\n"), _joined


def _joined(tree: Any) -> bytes:
    lines = tree if isinstance(tree, list) else [tree]
    return b"\n".join(
        bytes(line) if isinstance(line, bytes | msgspec.Raw) else str(line).encode() for line in lines
    )


def entries(tree: Any) -> list[tuple[Any, Any]]:
    """(key, value) of a map; (place, value) of a list; of anything else none."""
    return list(tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ())


def nodes(tree: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    yield path, tree
    for i, (_, value) in enumerate(entries(tree)):
        yield from nodes(value, (*path, i))


def changed(tree: Any, path: Path, change: Callable[[Any], Any]) -> Any:
    if not path:
        return change(tree)
    pairs = entries(tree)
    key, value = pairs[path[0]]
    pairs[path[0]] = key, changed(value, path[1:], change)
    return built(tree, pairs)


def built(like: Any, pairs: list[tuple[Any, Any]]) -> Any:
    """A list or a map of these entries; a map may hold a key twice."""
    if isinstance(like, list):
        return [value for _, value in pairs]
    size = len(pairs)
    head = bytes([0x80 | size]) if size < 16 else b"\xde" + size.to_bytes(2, "big")
    return msgspec.Raw(head + b"".join(msgspec.msgpack.encode(part) for pair in pairs for part in pair))


# Of one node


def another(value: Any, steps: Steps, others: Sequence[bytes]) -> Any:
    return steps.of(PALETTE)


def hostile(value: Any, steps: Steps, others: Sequence[bytes]) -> Any:
    return msgspec.Raw(steps.of(HOSTILE))


def foreign(value: Any, steps: Steps, others: Sequence[bytes]) -> Any:
    """What stands somewhere in a true message."""
    return steps.of([node for _, node in nodes(parsed(steps.of(others))[0])])


def tweaked(value: Any, steps: Steps, others: Sequence[bytes]) -> Any:
    match value:
        case bool() | None:
            return not value
        case int():
            return (value + steps.byte() - 128) % 2**64
        case float():
            return value * (steps.byte() - 128)
        case str():
            return value[: steps.below(len(value) + 1)] + steps.some().decode("latin1")
        case bytes():
            return patched(value, steps, others)
    return value


def widened(value: Any, steps: Steps, others: Sequence[bytes]) -> Any:
    """The same in the longest form that msgpack has."""
    match value:
        case bool():
            return value
        case int() if value >= 0:
            return msgspec.Raw(b"\xcf" + value.to_bytes(8, "big"))
        case bytes() | str():
            raw = value.encode() if isinstance(value, str) else value
            head = b"\xdb" if isinstance(value, str) else b"\xc6"
            return msgspec.Raw(head + len(raw).to_bytes(4, "big") + raw)
        case list():
            encoded = b"".join(map(msgspec.msgpack.encode, value))
            return msgspec.Raw(b"\xdd" + len(value).to_bytes(4, "big") + encoded)
    return value


def rearranged(value: Any, steps: Steps, others: Sequence[bytes]) -> Any:
    """An entry left out, given twice, moved, added or, in a map, under another key."""
    pairs = entries(value)
    if not pairs:
        return value
    at, what = steps.below(len(pairs)), steps.byte() % 5
    key, entry = pairs[at]
    match what:
        case 0:
            del pairs[at]
        case 1:
            pairs.insert(at, pairs[at])
        case 2:
            pairs.insert(steps.below(len(pairs)), pairs.pop(at))
        case 3:
            pairs.append((steps.of(PALETTE), entry))
        case _:
            pairs[at] = tweaked(key, steps, others), entry
    return built(value, pairs)


NODE_EDITS = [another, hostile, foreign, tweaked, widened, rearranged]


# Of a message


def of_a_node(message: bytes, steps: Steps, others: Sequence[bytes]) -> bytes:
    tree, encode = parsed(message)
    change = steps.of(NODE_EDITS)
    try:
        path, _ = steps.of(list(nodes(tree)))
        return encode(changed(tree, path, lambda value: change(value, steps, others)))
    except RecursionError:  # as deep as msgpack itself is read, and deeper than that is walked
        return message


def patched(message: bytes, steps: Steps, others: Sequence[bytes]) -> bytes:
    """Some bytes at a place left out, and others in their stead."""
    at = steps.below(len(message) + 1)
    return message[:at] + steps.some() + message[at + steps.byte() % 64 :]


def flipped(message: bytes, steps: Steps, others: Sequence[bytes]) -> bytes:
    if not message:
        return message
    at = steps.below(len(message))
    return message[:at] + bytes([message[at] ^ 1 << steps.byte() % 8]) + message[at + 1 :]


def cut(message: bytes, steps: Steps, others: Sequence[bytes]) -> bytes:
    return message[: steps.below(len(message) + 1)]


def replaced(message: bytes, steps: Steps, others: Sequence[bytes]) -> bytes:
    return steps.of(others)


def doubled(message: bytes, steps: Steps, others: Sequence[bytes]) -> bytes:
    return (message * 2)[: 2**16]


EDITS = [of_a_node, of_a_node, patched, flipped, cut, replaced, doubled]
