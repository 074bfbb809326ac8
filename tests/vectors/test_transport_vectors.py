"""Messages in frames: by this package's two ends, and by what is written from the page alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import transport
from secagg import Counts, Masking, RemoteProtocolError
from tests.vectors import independent as i
from tests.vectors.independent_joining import NetworkClient
from tests.vectors.independent_network import NetworkServer
from tests.vectors.independent_transport import checksum, content, exchange, shown
from tests.vectors.replay import load
from transport import Contribution
from transport.frames import (
    Announce,
    Incoming,
    Outgoing,
    Pull,
    decode_from_client,
    decode_from_server,
    encode,
)
from transport.keys import read_public
from transport.processes import lay_out_keys
from transport.roster import read as read_roster

Json = dict[str, Any]
VECTORS = load("transport")
SESSION = bytes.fromhex(VECTORS["session"])
SPECS = {f"{j:02}": Counts(length=640, maximum=2**53 - 1) for j in range(64)}
"""In 64 vectors, so that what is written without numpy is fast enough: more than a chunk of 64-bit words."""
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


def test_clients_of_this_package_are_summed_by_a_server_of_the_page(tmp_path: Path) -> None:
    """Over a socket, against an active adversary; task and uploads take several chunks."""
    server_folder, clients = lay_out_keys(tmp_path, 3)
    roster = read_roster(server_folder / "roster", read_public(server_folder / "roster.pub", "roster"))
    scheme = Masking.for_cohort(3, SPECS, roster=roster.identities)
    record = {"offer": scheme.offer().hex(), "task": content(600_000).hex(), "nonce": "07" * 32}

    def contribute(u: int) -> Contribution | None:
        own = clients[u]
        files = own / "client.key", own / "server.pub", own / "roster"
        with transport.join(f"tcp://127.0.0.1:{server.port}", *files, patience=600) as peer:  # no pings
            return peer.contribute(lambda task: {name: np.full(640, u + len(task)) for name in SPECS})

    with (
        NetworkServer(server_folder, {**record, "cohort": [0, 1, 2]}) as server,
        ThreadPoolExecutor(3) as threads,
    ):
        joined = [threads.submit(contribute, u) for u in range(3)]
        sums = server.run()
        assert all(client.result().summed for client in joined)
    assert sums == {name: [3 * 600_000 + 3] * 640 for name in SPECS}


FINISHING = ("consistency-check-request", "signed-unmasking-request")


def test_clients_of_the_page_are_summed_by_a_server_of_this_package(tmp_path: Path) -> None:
    """Two of three lose their connections when U3 is known, come back, and say then what they had to say."""
    server_folder, clients = lay_out_keys(tmp_path, 3)
    inputs = [{name: [u + j for j in range(640)] for name in SPECS} for u in range(3)]
    files = server_folder / "server.key", server_folder / "roster"
    with transport.serve("tcp://127.0.0.1:*", *files) as cohort, ThreadPoolExecutor(3) as threads:
        port = int(cohort.endpoint.rpartition(":")[2])
        breaking = [(), FINISHING, FINISHING]
        joined = [
            threads.submit(NetworkClient(clients[u], port, inputs[u], breaking[u]).run) for u in range(3)
        ]
        scheme = Masking.for_cohort(3, SPECS, roster=cohort.roster.identities)
        result = cohort.aggregate(scheme, content(600_000))
        assert [client.result() for client in joined] == [""] * 3
    assert all(codes.tolist() == [3 * j + 3 for j in range(640)] for codes in result.sum.values())
