"""Messages in frames: by this package's two ends, and by what is written from the page alone."""

from __future__ import annotations

from typing import Any

import pytest

from secagg import RemoteProtocolError
from tests.vectors import independent as i
from tests.vectors.independent_transport import checksum, content, exchange, shown
from tests.vectors.replay import load
from transport.frames import (
    Announce,
    Incoming,
    Outgoing,
    Pull,
    decode_from_client,
    decode_from_server,
    encode,
)

Json = dict[str, Any]
VECTORS = load("transport")
SESSION = bytes.fromhex(VECTORS["session"])
DECODE = {"client": decode_from_client, "server": decode_from_server}


def test_headers_and_checksums_are_those_of_the_page() -> None:
    for case in VECTORS["headers"]:
        header = bytes.fromhex(case["header"])
        values = [value.hex() if isinstance(value, bytes) else value for value in i.unpack(header)]
        assert values == case["fields"]
    for case in VECTORS["checksums"]:
        assert checksum(content(case["size"])).hex() == case["checksum"]


@pytest.mark.parametrize("case", VECTORS["exchanges"], ids=lambda case: case["what"])
def test_an_exchange_is_that_of_the_page(case: Json) -> None:
    assert shown(exchange(SESSION, case["number"], content(case["size"]))) == case["frames"]


class Ends:
    """This package's two ends of a recorded exchange, each frame handled when it comes."""

    def __init__(self, recorded: Json) -> None:
        self.message = content(recorded["size"])
        self.sender = Outgoing(SESSION, recorded["number"], self.message)
        self.receiver: Any = None
        self.asked: list[Pull] = []

    def follow(self, frame: Json) -> None:
        """A recorded frame: the one of the two that says it says just this, and the other one takes it."""
        if frame["from"] == "receiver":
            self.asked = self.asked or list(self.receiver.pulls())
            assert encode(self.asked.pop(0)).hex() == frame["header"]
            self.sender.chunk(self.taken(frame)[0])
        else:
            self.receive(frame)

    def taken(self, frame: Json) -> tuple[Any, Any]:
        payload = frame.get("payload")
        if isinstance(payload, list):
            payload = self.message[payload[0] : sum(payload)]
        parts = [bytes.fromhex(frame["header"])]
        if payload is not None:
            parts.append(bytes.fromhex(payload) if isinstance(payload, str) else payload)
        return decode_from_client(parts)

    def receive(self, frame: Json) -> None:
        said, payload = self.taken(frame)
        if isinstance(said, Announce):
            self.sender.announce()
            self.receiver = Incoming.of(said, payload, VECTORS["limit"])
        else:
            self.receiver.add(said, payload)
        if self.receiver.complete:
            self.receiver.message()


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: case["what"])
def test_a_frame_is_refused_where_it_stands(case: Json) -> None:
    if "by" in case:
        with pytest.raises(RemoteProtocolError, match=case["words"]):
            DECODE[case["by"]]([bytes.fromhex(part) for part in case["parts"]])
        return
    recorded = VECTORS["exchanges"][case["exchange"]]
    ends = Ends(recorded)
    for frame in recorded["frames"][: case["after"]]:
        ends.follow(frame)
    with pytest.raises(RemoteProtocolError, match=case["words"]):
        ends.receive(case) if case["at"] == "receiver" else ends.sender.chunk(ends.taken(case)[0])
