"""Servers of masking: this package's, and one written from the page alone, on the recorded sessions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest

from secagg import TooFewClients
from tests.vectors import independent as i
from tests.vectors.independent_server import RefusedError, Server, TooFewError
from tests.vectors.replay import FOLDER, each_bad, load, session

Json = dict[str, Any]
NAMES = sorted(path.stem for path in (FOLDER / "sessions").glob("*.json"))
TOLD: list[Json] = load("server")["sessions"]
told = pytest.mark.parametrize("steps", TOLD, ids=lambda steps: steps["session"])
unhex = bytes.fromhex


def as_recorded(message: Json, data: bytes) -> bool:
    if "sha256" in message:
        return hashlib.sha256(data).hexdigest() == message["sha256"]
    return data.hex() == message["bytes"]


def played(name: str) -> tuple[Server, Iterator[tuple[Json, bytes]]]:
    """The server of the page, and each recorded request with what it sends to one of its addressees."""
    record = load(f"sessions/{name}")
    server = Server(record)

    def requests() -> Iterator[tuple[Json, bytes]]:
        sent = server.tasks(record["cohort"]) if server.joint else {}
        for message in record["messages"]:
            if message["round"] != server.round:
                sent = server.close()
            if message["to"] == "server":
                server.receive(message["from"], unhex(message["bytes"]))
                continue
            for u in message["to"]:
                yield message, sent.pop(u)
        assert not sent
        assert server.close() == {}

    return server, requests()


@pytest.mark.parametrize("name", NAMES)
def test_the_server_of_the_page_sends_the_recorded_requests_and_has_the_sum(name: str) -> None:
    server, requests = played(name)
    assert all(as_recorded(message, data) for message, data in requests)
    record = load(f"sessions/{name}")
    assert (server.U3, server.sums) == (record["U3"], record["result"]["codes"])


@told
def test_what_a_server_verifies_rebuilds_and_takes_off_is_what_the_page_says(steps: Json) -> None:
    server, requests = played(steps["session"])
    assert all(as_recorded(message, data) for message, data in requests)
    shown = [(each["round"], each["from"], unhex(each["statement"])) for each in steps["verified"]]
    assert shown == server.verified
    for each in steps["verified"]:
        assert i.verifies(*(unhex(each[part]) for part in ("public", "statement", "signature")))
    assert {name: [int(word, 16) for word in words] for name, words in steps["total"].items()} == server.total
    for kind, clients in steps["rebuilt"].items():
        assert {int(v): unhex(each["secret"]) for v, each in clients.items()} == server.rebuilt[kind]
    for name, masks in steps["taken_off"].items():
        signs = [
            (m["mask"], m["of"], m.get("with", m["of"]), unhex(m["seed"]), -1 if m["sign"] == "-" else 1)
            for m in masks
        ]
        assert signs == server.taken_off[name]


@told
def test_this_packages_server_sends_what_is_recorded_after_what_it_hears(steps: Json) -> None:
    recorded = session(steps["session"])
    server = recorded.new_server()
    for round in steps["rounds"]:
        assert server.round == round["round"]
        for number in round["hears"]:
            server.receive(recorded.messages[number]["from"], unhex(recorded.messages[number]["bytes"]))
        sent = server.advance()
        due = {u: m for n in round["sends"] for m in [recorded.messages[n]] for u in m["to"]}
        assert {u: data.hex() for u, data in sent.items()} == {u: m["bytes"] for u, m in due.items()}
    codes = {name: codes.tolist() for name, codes in server.result.codes.items()}
    assert codes == steps["codes"]


@pytest.mark.parametrize(
    "case", load("server")["late"], ids=lambda case: f"{case['session']}-{case['round']}"
)
def test_too_few_of_u3_are_waited_for(case: Json) -> None:
    """Both servers then go on as if nobody had been late."""
    used = session(case["session"])
    answers = [k for k, m in enumerate(used.messages) if (m["round"], m["to"]) == (case["round"], "server")]
    ours, theirs = used.server_at(answers[0]), server_at(case["session"], answers[0])

    def hear(numbers: list[int]) -> None:
        for k in numbers:
            for server in (ours, theirs):
                server.receive(used.messages[k]["from"], unhex(used.messages[k]["bytes"]))

    hear([k for k in answers if k not in case["silent"]])
    with pytest.raises(TooFewClients):
        ours.advance()
    with pytest.raises(TooFewError):
        theirs.close()
    hear(case["silent"])
    sent = theirs.close()
    assert ours.advance() == sent
    if case["round"] == "unmasking":
        assert theirs.sums == used.record["result"]["codes"]
    else:
        following = next(m for m in used.messages if (m["round"], m["from"]) == ("unmasking", "server"))
        assert set(sent.values()) == {unhex(following["bytes"])}


BAD = load("bad")
AT_SERVER = [
    case
    for case in [
        *(c for name in ("malformed", "wrong") for p in BAD[name] for c in each_bad(p)),
        *BAD["scripts"],
    ]
    if case["to"] == "server"
]


def server_at(name: str, step: int) -> Server:
    """The one of the page, that has heard and said what stands before the message with this number."""
    record = load(f"sessions/{name}")
    server, messages = Server(record), record["messages"]
    for message in messages[: step + 1]:
        if message["round"] != server.round:
            server.close()
        if message is not messages[step] and message["to"] == "server":
            server.receive(message["from"], unhex(message["bytes"]))
    return server


def carried_out(case: Json) -> None:
    """On the server of the page. Raises: what the last action makes it raise."""
    server, messages = (
        server_at(case["session"], case["step"]),
        load(f"sessions/{case['session']}")["messages"],
    )
    for action in case["script"]:
        if "close" in action:
            assert server.round == action["close"]
            server.close()
        else:
            said = messages[action["message"]] if "message" in action else action
            server.receive(said["from"], unhex(said["bytes"]))


@pytest.mark.parametrize("case", AT_SERVER, ids=lambda case: f"{case['session']}: {case['what']}")
def test_the_server_of_the_page_refuses_what_this_package_refuses(case: Json) -> None:
    """And names the same."""
    kind = {"RemoteProtocolError": RefusedError, "TooFewClients": TooFewError}[case["error"]["class"]]
    with pytest.raises(kind) as caught:
        carried_out(case)
    assert getattr(caught.value, "culprits", set()) == set(case["error"]["culprits"])
