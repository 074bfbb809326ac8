"""A client that misbehaves, a way a round, before a real server: none ends a `secagg serve` that trains."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Semaphore
from typing import Any

import pytest
from commands import PATIENCE, Command, Ran

import transport
from fl.config.run import RunConfig
from fl.data import load
from fl.data.shard import Shard
from fl.federation.client import LocalTrainer
from secagg import ClientSession, Policy, RemoteProtocolError
from secagg.record import AroundClient
from secagg.wire import Raw
from tests.enemies.dealer import Dealer, Half
from transport import Peer, TransportError
from transport.frames import Announce, Frame

CLIENTS, LIAR = 5, 1
Deed = Callable[[Peer], Callable[[ClientSession], ClientSession]]
"""What a client does in a round: with its connection, and in the place of its session."""


def honest(session: ClientSession) -> ClientSession:
    return session


class Saying(AroundClient):
    """Another message in the place of its answer of this number: 0 is to the task."""

    def __init__(self, session: ClientSession, number: int, change: Callable[[bytes], bytes]) -> None:
        super().__init__(session)
        self._left, self._change = number, change

    def receive(self, message: Raw) -> bytes | None:
        reply, self._left = super().receive(message), self._left - 1
        return self._change(reply) if self._left == -1 and reply is not None else reply


def flipped(message: bytes) -> bytes:
    """The last byte another: of a signature, of a packed vector or of a share."""
    return message[:-1] + bytes([message[-1] ^ 1])


def lies(number: int, change: Callable[[bytes], bytes] = flipped) -> Deed:
    return lambda peer: lambda session: Saying(session, number, change)


def in_place_of(number: int, say: Callable[[Peer, Announce], None]) -> Deed:
    """Instead of announcing its message of this number."""

    def deed(peer: Peer) -> Callable[[ClientSession], ClientSession]:
        send = peer._send

        def spoiled(frame: Frame, payload: Raw | None = None) -> None:
            if isinstance(frame, Announce) and frame.number == number:
                return say(peer, frame)
            return send(frame, payload)

        peer._send = spoiled  # type: ignore[method-assign]
        return honest

    return deed


def garbage(peer: Peer, announce: Announce) -> None:
    peer._socket.send_multipart([b"\xc1" * 40, b"\x00" * 40, b""])


def without_its_payload(peer: Peer, announce: Announce) -> None:
    Peer._send(peer, announce)


def pulls_the_plug(peer: Peer, announce: Announce) -> None:
    raise TransportError("the plug was pulled")


DEEDS: dict[str, Deed] = {
    "advertise-keys: advertised keys without its signature": lies(0),
    "not a client's frame": in_place_of(1, garbage),
    "share-keys: shared secrets without its signature": lies(1),
    "restarted|vanished": in_place_of(2, pulls_the_plug),  # it is back for the next round, and may be at once
    "masked-input: not a masked-input message": lies(2, lambda message: message[:-1]),
    "a short message comes with its announcement": in_place_of(3, without_its_payload),
    "consistency-check: did not sign the survivors": lies(3),
    "not a client's frame: MessagePack": in_place_of(4, garbage),
    "unmasking: returned another share": lies(4),
    "unmasking: not a unmasking message": lies(4, lambda message: b"\xc1"),
}
"""By why it is lost, in the order of the rounds."""


class Federation:
    """Honest clients, each of whom begins a round once the dishonest one has begun it."""

    def __init__(self, keys: Path, endpoint: str) -> None:
        self._keys, self._endpoint = keys, endpoint
        self._begun = {u: Semaphore(0) for u in range(CLIENTS) if u != LIAR}

    def join(self, u: int) -> Peer:
        own, server, roster = (self._keys / name for name in (f"client{u}.key", "server.pub", "roster"))
        return transport.join(self._endpoint, own, server, roster, policy=Policy(), patience=PATIENCE)

    def trainer(self, u: int) -> LocalTrainer:
        data = load("digits")
        return LocalTrainer(
            u, Shard(data.train_x[u::20], data.train_y[u::20], data.classes, data.name), "cpu"
        )

    def honest(self, u: int) -> list[bool]:
        """Until the server closes; whether it was in each sum."""
        summed, trainer = [], self.trainer(u)

        def begins(scheme: object) -> None:
            assert self._begun[u].acquire(timeout=PATIENCE)

        with self.join(u) as peer:
            while (contribution := peer.contribute(trainer, accepted=begins)) is not None:
                summed.append(contribution.summed)
        return summed

    def misbehave(self, deed: Deed, accepted: Callable[[], None] = lambda: None) -> None:
        """Over a connection of its own. accepted: called in a session, before its join."""
        with self.join(LIAR) as peer, suppress(RemoteProtocolError, TransportError):
            peer.contribute(self.trainer(LIAR), instrument=deed(peer), accepted=lambda scheme: accepted())

    def let_begin(self) -> None:
        for begun in self._begun.values():
            begun.release()


def served(
    tmp_path: Path, here: Callable[..., Ran], deeds: list[Deed], more: int, **changes: Any
) -> tuple[Ran, list[list[bool]], list[dict[str, Any]]]:
    """A training with a round for each deed, and so many after them without that client."""
    keys, out = tmp_path / "keys", tmp_path / "run"
    assert here("keys", "cohort", str(CLIENTS), "--out", str(keys)).code == 0
    config = RunConfig.of(clients=CLIENTS, rounds=len(deeds) + more, model="logistic", **changes)
    config.write(tmp_path / "run.json")
    server = Command(
        *("serve", "--key", str(keys / "server.key"), "--roster", str(keys / "roster"), "--json"),
        *("--bind", "tcp://127.0.0.1:*", "--config", str(tmp_path / "run.json"), "--out", str(out)),
    )
    federation = Federation(keys, json.loads(server.line_with("listening"))["listening"])
    with ThreadPoolExecutor(CLIENTS) as threads:
        others = [threads.submit(federation.honest, u) for u in range(CLIENTS) if u != LIAR]
        federation.misbehave(
            in_place_of(0, garbage)
        )  # and may join once more, as long as the others have not
        for deed in deeds:
            federation.misbehave(deed, federation.let_begin)
        for _ in range(more):
            federation.let_begin()
        ran = server.end()
        summed = [other.result() for other in others]
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return ran, summed, [json.loads(line) for line in lines]


@pytest.mark.slow
def test_no_misbehaviour_of_one_client_ends_a_training(tmp_path: Path, here: Callable[..., Ran]) -> None:
    """It is lost, and asked again in the next round; the others' rounds are whole."""
    ran, summed, metrics = served(tmp_path, here, list(DEEDS.values()), 1)
    rounds = len(DEEDS) + 1
    assert (ran.code, [line["abandoned"] for line in metrics]) == (0, [""] * rounds)
    assert [line["excluded"] for line in metrics] == [[]] * rounds
    assert summed == [[True] * rounds] * (CLIENTS - 1)
    lost = [record["lost"] for record in ran.records if record.get("lost")]
    for words, each in zip([*DEEDS, "vanished"], lost, strict=True):
        assert each.keys() == {str(LIAR)}
        assert re.search(words, each[str(LIAR)])


def vanishing() -> None:
    raise TransportError("the plug was pulled")


@pytest.mark.slow
@pytest.mark.parametrize("half", ["key", "mask"])
def test_a_dealer_of_useless_shares_is_asked_no_more(
    tmp_path: Path, here: Callable[..., Ran], half: Half
) -> None:
    """The round is lost, for its vectors may not be asked for again, and the run goes on."""
    ran, summed, (first, *others) = served(
        tmp_path, here, [lambda peer: lambda session: Dealer(session, half, vanishing)], 2
    )
    words = f"client {LIAR} dealt shares of another {half}"
    assert ran.code == 0
    assert f"client {LIAR} is asked no more in this run: {words} (round 1)" in ran.err
    assert (first["abandoned"], first["excluded"]) == (words, [LIAR])
    assert [(line["abandoned"], line["alive"], line["excluded"]) for line in others] == [("", 4, [LIAR])] * 2
    assert summed == [[False, True, True]] * (CLIENTS - 1)
    joined = [record["lost"] for record in ran.records if record.get("round") == "join"]
    assert joined == [{}, *[{str(LIAR): f"excluded: {words} (round 1)"}] * 2]
    (ledger,) = [record["ledger"] for record in ran.records if "ledger" in record]
    assert ledger["sessions"] == 3
