"""A server that is stopped in the middle of a session: another process goes on, with the same clients."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
from loopback import PATIENCE, SHORT, Cable, Federation, exact_sum, vector

from secagg import Counts, LocalProtocolError, Masking, Plain, Recorded, TooFewClients
from secagg.crypto import OwnTag, SigningKey, seal
from transport import Cohort, RoundReport
from transport.frames import Announce, Frame

N = 5
PATIENCE_HERE = 20.0
EVERYBODY = frozenset(range(N))
SIGNED = ("masked-input", "consistency-check", "unmasking")


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return Federation(tmp_path_factory.mktemp("five"), N)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transport.router.PING_SECONDS", 0.01)
    monkeypatch.setattr("transport.server.TICK_SECONDS", 0.01)


class StoppedError(Exception):
    """What stops a server, and is no error of the protocol."""


class Client:
    """Everything that it says and hears, by number."""

    def __init__(self) -> None:
        self.said: dict[int, set[bytes]] = {}
        self.heard: dict[int, set[bytes]] = {}

    def take_part(self, federation: Federation, u: int, endpoint: str, **how: Any) -> Any:
        with federation.join(u, endpoint, patience=PATIENCE_HERE) as peer:
            send, receive = peer._send, peer._next_frame

            def sending(frame: Frame, payload: Any = None) -> None:
                if isinstance(frame, Announce):
                    self.said.setdefault(frame.number, set()).add(frame.checksum)
                send(frame, payload)

            def receiving(**until: Any) -> Any:
                received = receive(**until)
                if received is not None and isinstance(frame := received[0], Announce):
                    self.heard.setdefault(frame.number, set()).add(frame.checksum)
                return received

            peer._send, peer._next_frame = sending, receiving  # type: ignore[method-assign]
            return peer.contribute(lambda task: vector(u, SHORT), **how)


class Disk:
    """What a server keeps, and how often; it is stopped once that was so often."""

    def __init__(self, stop_at: int = 0) -> None:
        self.kept, self.count, self.stop_at = b"", 0, stop_at

    def __call__(self, session: bytes) -> None:
        self.kept, self.count = session, self.count + 1
        if self.count == self.stop_at:
            raise StoppedError


def scheme_for(cohort: Cohort) -> Masking:
    return Masking.for_cohort(N, Counts(length=SHORT, maximum=2**20), roster=cohort.roster.identities)


class Play:
    """Five clients, at the ends of cables that lead to whichever server there is."""

    def __init__(self, federation: Federation, threads: ThreadPoolExecutor) -> None:
        self.federation, self.threads = federation, threads
        self.clients = [Client() for _ in range(N)]

    def stopped(self, stop_at: int, closing: str = "") -> tuple[bytes, list[Any]]:
        """The first server: what it left, and the clients, who wait. closing: the round behind whose answers
        it is stopped, instead.
        """

        def watch(report: RoundReport) -> None:
            if report.round == closing:
                raise StoppedError

        first = self.federation.serve()
        self.cable = Cable(first.endpoint)
        parts = [
            self.threads.submit(client.take_part, self.federation, u, self.cable.endpoint)
            for u, client in enumerate(self.clients)
        ]
        disk = Disk(stop_at)
        with pytest.raises(StoppedError):
            first.aggregate(scheme_for(first), os.urandom(16), keep=disk, watch=watch)
        self.cable.cut()
        first.close()  # without a word to anybody: it may come back
        return disk.kept, parts

    def finished(self, kept: bytes, **how: Any) -> Any:
        """The second."""
        self.second = self.federation.serve()
        self.cable.lead_to(self.second.endpoint)
        self.cable.mend()
        return self.second.aggregate(scheme_for(self.second), kept=kept, **how)


@pytest.fixture
def play(federation: Federation) -> Iterator[Play]:
    with ThreadPoolExecutor(N) as threads:
        yield Play(federation, threads)


STOPS = {
    "with all vectors": (0, "masked-input", SIGNED),
    "before it asks who survived": (2, "", SIGNED[1:]),
    "with all signatures": (0, "consistency-check", SIGNED[1:]),
    "before it asks for shares": (3, "", SIGNED[2:]),
    "with all shares": (4, "", SIGNED[2:]),
    "with the sum": (0, "unmasking", SIGNED[2:]),
}


@pytest.mark.parametrize(("stop_at", "closing", "rounds"), STOPS.values(), ids=STOPS)
def test_another_process_finishes_the_session_and_nothing_is_said_twice_otherwise(
    play: Play, stop_at: int, closing: str, rounds: tuple[str, ...]
) -> None:
    """By either end: each message has one checksum, however often it is said."""
    kept, parts = play.stopped(stop_at, closing)
    reports: list[RoundReport] = []
    disk = Disk()
    total = play.finished(kept, watch=reports.append, keep=disk)
    assert total.survivors == EVERYBODY
    assert (total.sum[""] == exact_sum(EVERYBODY, SHORT)).all()
    assert [report.round for report in reports] == list(rounds)
    assert [report.lost for report in reports] == [{}] * len(reports)
    play.second.wait_until_heard(PATIENCE)
    assert all(part.result().summed for part in parts)
    play.second.close()
    for client in play.clients:
        for said in (client.said, client.heard):
            assert {len(checksums) for checksums in said.values()} == {1}
        assert client.said.keys() == set(range(6))


def test_one_that_goes_on_and_is_stopped_again_tells_nobody_that_it_closes(play: Play) -> None:
    """As the first one did not: clients wait for the third, which finishes the sum."""
    kept, parts = play.stopped(2)

    def watch(report: RoundReport) -> None:
        raise StoppedError

    disk = Disk()
    with pytest.raises(StoppedError):
        play.finished(kept, watch=watch, keep=disk)
    assert disk.count == 1
    play.second.close()
    play.cable.cut()
    total = play.finished(disk.kept)
    assert total.survivors == EVERYBODY
    play.second.wait_until_heard(PATIENCE)
    assert all(part.result().summed for part in parts)
    play.second.close()


def test_before_any_vector_has_left_clients_give_it_up_and_nothing_is_revealed(play: Play) -> None:
    """The request for it was kept, and reached nobody."""
    kept, parts = play.stopped(1)
    assert [part.result().reason for part in parts] == ["the connection was lost"] * N
    play.cable.lead_to("tcp://127.0.0.1:1")
    with pytest.raises(TooFewClients, match="0 clients left in round masked-input"):
        play.finished(kept, deadlines={"masked-input": 0.1})
    play.second.close()


# What is no such session


@pytest.fixture(scope="module")
def kept(federation: Federation) -> bytes:
    with ThreadPoolExecutor(N) as threads:
        play = Play(federation, threads)
        kept, parts = play.stopped(1)
        assert not any(part.result().summed for part in parts)
        return kept


@pytest.mark.parametrize("part", ["little", "another byte", "another server"])
def test_what_is_no_session_of_this_server_is_refused(federation: Federation, kept: bytes, part: str) -> None:
    changed = {"little": kept[:20], "another byte": kept[:-1] + bytes([kept[-1] ^ 1]), "another server": kept}
    with federation.serve() as cohort:
        if part == "another server":
            cohort._signing = SigningKey(bytes(range(32)))
        with pytest.raises(LocalProtocolError, match="this is no session that this server can go on with"):
            cohort.aggregate(scheme_for(cohort), kept=changed[part])


@pytest.mark.parametrize("inside", [b"\xc1", msgspec.msgpack.encode(["kept-session", 2])])
def test_nor_is_what_another_version_left(federation: Federation, inside: bytes) -> None:
    with federation.serve() as cohort:
        sealed = seal(cohort._signing.derive(OwnTag.KEPT_SESSION), inside, b"")
        with pytest.raises(LocalProtocolError, match="this is no session that this server can go on with"):
            cohort.aggregate(scheme_for(cohort), kept=sealed)


def test_with_other_parameters_it_does_not_open(federation: Federation, kept: bytes) -> None:
    with federation.serve() as cohort:
        other = Masking.for_cohort(
            N, Counts(length=SHORT + 1, maximum=2**20), roster=cohort.roster.identities
        )
        with pytest.raises(LocalProtocolError, match="this checkpoint does not open"):
            cohort.aggregate(other, kept=kept)


def test_what_cannot_be_kept_is_refused_before_anybody_is_asked(federation: Federation) -> None:
    plain = Plain.for_cohort(N, Counts(length=SHORT, maximum=1))
    with federation.serve() as cohort:
        with pytest.raises(LocalProtocolError, match="outlives its server where clients wait to finish it"):
            cohort.aggregate(plain, keep=Disk())
        with pytest.raises(LocalProtocolError, match="this server's session cannot be kept"):
            cohort.aggregate(scheme_for(cohort), keep=Disk(), instrument=Recorded)
