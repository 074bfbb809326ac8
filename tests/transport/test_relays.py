"""Sessions of split over real sockets: relays that listen to the server as clients do, and what becomes of a
session when they, or clients, are lost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from loopback import PATIENCE, Cable, Clock, Federation, Instrumented, Telling, exact_sum, vanish, vector

import transport
from secagg import Counts, LocalProtocolError, Masking, Plain, Policy, RemoteProtocolError, ServerSession
from secagg.errors import RelayLost
from secagg.split import Split
from secagg.split.messages import traffic_of_client, traffic_of_relay
from secagg.wire import relay_party
from transport import Cohort, Contribution, RoundReport, Served, TransportError
from transport.exchange import Exchange
from transport.frames import CHUNK_BYTES, Hello, Offer

N, M, LENGTH = 5, 2, 5
LONG = 200_000  # what a relay is sent has more than one chunk, and its column
EVERYBODY = frozenset(range(N))
RELAYS = frozenset(map(relay_party, range(M)))
SPLIT = Policy(schemes=frozenset({"split"}))
RELAY_ROUNDS = ["join", "relay-keys", "deliver", "columns"]


@pytest.fixture(scope="session")
def relayed(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return Federation(tmp_path_factory.mktemp("relayed"), N, M)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost connection is noticed at the next ping."""
    monkeypatch.setattr("transport.router.PING_SECONDS", 0.01)
    monkeypatch.setattr("transport.server.TICK_SECONDS", 0.01)


def scheme_of(cohort: Cohort, length: int = LENGTH, **numbers: int) -> Split:
    vectors = Counts(length=length, maximum=2**20)
    return Split.for_cohort(N, vectors, relays=M, roster=cohort.roster.identities, **numbers)


class Parties:
    """Clients and relays in threads, and what the server saw of their session."""

    def __init__(self, federation: Federation, cohort: Cohort, threads: ThreadPoolExecutor) -> None:
        self.federation, self.cohort, self.threads = federation, cohort, threads
        self.reports: dict[str, RoundReport] = {}
        self.clients: dict[int, Future[Contribution | None]] = {}
        self.relays: dict[int, Future[list[Served]]] = {}

    def start_client(self, u: int, length: int = LENGTH, endpoint: str | None = None, **how: Any) -> None:
        at = endpoint or self.cohort.endpoint
        body = self.federation.contribute
        self.clients[u] = self.threads.submit(body, u, at, length, policy=SPLIT, **how)

    def start_relay(
        self, j: int, endpoint: str | None = None, policy: Policy | None = None, **how: Any
    ) -> None:
        at = endpoint or self.cohort.endpoint
        self.relays[j] = self.threads.submit(self.federation.relay, j, at, policy, **how)

    def start(self, *, but: frozenset[int] = frozenset(), length: int = LENGTH) -> None:
        """All of them, but these."""
        for u in EVERYBODY - but:
            self.start_client(u, length)
        for j in range(M):
            if relay_party(j) not in but:
                self.start_relay(j)

    def aggregate(self, *, length: int = LENGTH, scheme: Any = None, **how: Any) -> frozenset[int]:
        """The survivors, whose sum is exact."""
        total = self.cohort.aggregate(
            scheme or scheme_of(self.cohort, length),
            os.urandom(16),
            watch=lambda report: self.reports.update({report.round: report}),
            **how,
        )
        np.testing.assert_array_equal(total.sum[""], exact_sum(total.survivors, length))
        return total.survivors

    def lost(self) -> dict[int, str]:
        return {u: why for report in self.reports.values() for u, why in report.lost.items()}


@pytest.fixture
def parties(relayed: Federation, threads: ThreadPoolExecutor) -> Iterator[Parties]:
    with relayed.serve() as cohort:
        yield Parties(relayed, cohort, threads)


# Whole sessions


def test_a_session_gives_the_exact_sum_and_says_what_its_bytes_are(parties: Parties) -> None:
    parties.start()
    assert parties.aggregate() == EVERYBODY
    parties.cohort.close()
    assert [client.result().summed for client in parties.clients.values()] == [True] * N
    assert [[one.summed for one in relay.result()] for relay in parties.relays.values()] == [[True]] * M
    reports, scheme = parties.reports, scheme_of(parties.cohort)
    assert list(reports) == list(scheme.rounds)
    alive = {name: report.alive for name, report in reports.items()}
    assert alive == {
        "join": EVERYBODY | RELAYS,
        "relay-keys": RELAYS,
        "shares": EVERYBODY,
        "deliver": RELAYS,
        "columns": RELAYS,
    }
    expected = {u: traffic_of_client(scheme, M, 16, u, signed=True) for u in EVERYBODY}
    expected |= {
        relay_party(j): traffic_of_relay(scheme, M, j, EVERYBODY, EVERYBODY, signed=True) for j in range(M)
    }
    for u, rounds in expected.items():
        for name, formula in rounds.items():
            assert (reports[name].up[u], reports[name].down.get(u, 0)) == formula


def test_messages_of_many_chunks_go_to_relays_and_come_back(parties: Parties) -> None:
    parties.start(length=LONG)
    assert parties.aggregate(length=LONG) == EVERYBODY
    of_relay = parties.reports["deliver"].down[relay_party(0)], parties.reports["columns"].up[relay_party(0)]
    assert min(of_relay) > 2 * CHUNK_BYTES


def test_relays_serve_one_session_after_the_other_and_none_of_another_scheme(
    relayed: Federation, threads: ThreadPoolExecutor
) -> None:
    anything = Policy(schemes=frozenset({"split", "masking"}))
    with relayed.serve() as cohort:
        relays = [threads.submit(relayed.relay, j, cohort.endpoint) for j in range(M)]
        clients = [threads.submit(often, relayed, u, cohort.endpoint, anything) for u in range(N)]
        cohort.wait_for_clients(N, PATIENCE, relays=M)
        for scheme in (scheme_of(cohort), masking_of(cohort), scheme_of(cohort)):
            total = cohort.aggregate(scheme, os.urandom(16))
            np.testing.assert_array_equal(total.sum[""], exact_sum(EVERYBODY, LENGTH))
    assert [len(client.result()) for client in clients] == [3] * N
    assert [[one.summed for one in relay.result()] for relay in relays] == [[True, True]] * M


def masking_of(cohort: Cohort) -> Masking:
    return Masking.for_cohort(N, Counts(length=LENGTH, maximum=2**20), roster=cohort.roster.identities)


def often(federation: Federation, u: int, endpoint: str, policy: Policy) -> list[Contribution]:
    contributions = []
    with federation.join(u, endpoint, policy) as peer:
        while (one := peer.contribute(lambda task: vector(u, LENGTH))) is not None:
            contributions.append(one)
    return contributions


def test_with_some_of_the_clients_all_relays_take_part(parties: Parties) -> None:
    some = frozenset({0, 2, 3})
    parties.start(but=EVERYBODY - some)
    vectors, roster = Counts(length=LENGTH, maximum=2**20), parties.cohort.roster.identities
    scheme = Split.for_cohort(3, vectors, relays=M, roster=roster)
    assert parties.aggregate(scheme=scheme, clients=some) == some


def test_who_has_no_roster_takes_part_on_the_servers_word(
    relayed: Federation, threads: ThreadPoolExecutor
) -> None:
    trusting = Policy(schemes=frozenset({"split"}), adversary="semi-honest")

    def contribute(own: Path, u: int, endpoint: str) -> Contribution | None:
        files = own / "client.key", own / "server.pub"
        with transport.join(endpoint, *files, policy=trusting) as client:
            return client.contribute(lambda task: vector(u, LENGTH))

    def serve(own: Path, endpoint: str) -> Served | None:
        with transport.join_as_relay(endpoint, own / "relay.key", own / "server.pub") as relay:
            return relay.serve()

    with relayed.serve() as cohort:
        parties = Parties(relayed, cohort, threads)
        for u, own in enumerate(relayed.clients):
            threads.submit(contribute, own, u, cohort.endpoint)
        relays = [threads.submit(serve, own, cohort.endpoint) for own in relayed.relays]
        scheme = Split.for_cohort(N, Counts(length=LENGTH, maximum=2**20), relays=M)
        assert parties.aggregate(scheme=scheme) == EVERYBODY
        assert [relay.result() for relay in relays] == [Served(True, "", scheme)] * M


# Clients that are lost


@pytest.mark.parametrize(("round", "fraction"), [("join", 0.0), ("shares", 0.0), ("shares", 0.5)])
def test_a_client_lost_before_its_shares_are_whole_is_not_summed(
    round: str, fraction: float, parties: Parties
) -> None:
    parties.start(but=frozenset({4}), length=LONG)
    parties.start_client(4, LONG, progress=vanish(round, fraction))
    assert parties.aggregate(length=LONG) == frozenset(range(4))
    assert parties.lost() == {4: "vanished"}


def test_a_client_that_has_shared_may_lose_its_connection_and_hears_how_it_ended(
    relayed: Federation, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No relay answers before it is back."""
    told, cuts, back, invite = list[str](), list[int](), Event(), Exchange.invite
    with ExitStack() as stack:
        cohort = stack.enter_context(relayed.serve())
        cable = stack.enter_context(Cable(cohort.endpoint))
        parties = Parties(relayed, cohort, threads)

        def wait_for_it(round: str, sent: int, size: int) -> None:
            if round == "deliver":
                back.wait(PATIENCE)

        def cut(session: ServerSession) -> None:
            if session.round == "shares" and 4 not in session.waiting_for and not cuts:
                cuts.append(4)
                cable.cut()
                cable.mend()

        def invited(exchange: Exchange, u: int) -> None:
            invite(exchange, u)
            if told:
                back.set()

        monkeypatch.setattr(Exchange, "invite", invited)
        for u in EVERYBODY - {4}:
            parties.start_client(u)
        parties.start_client(4, endpoint=cable.endpoint, tell=told.append)
        for j in range(M):
            parties.start_relay(j, progress=wait_for_it)
        scheme = Instrumented(scheme_of(cohort), lambda server: Telling(server, cut))
        assert parties.aggregate(scheme=scheme) == EVERYBODY
        contribution = parties.clients[4].result()
        assert parties.lost() == {}
    assert contribution is not None
    assert contribution.summed
    assert told == [
        "the connection was lost, and the vector had left: trying for 600 seconds to hear how it ended"
    ]


# Relays that are lost


@pytest.mark.parametrize("round", RELAY_ROUNDS)
def test_a_relay_whose_process_is_seen_to_end_ends_the_session(
    round: str, relayed: Federation, threads: ThreadPoolExecutor
) -> None:
    living = {*EVERYBODY, *RELAYS}

    def end(name: str, sent: int, size: int) -> None:
        if name == round:
            living.remove(relay_party(1))
            raise TransportError("the plug was pulled")

    with relayed.serve(lives=lambda: frozenset(living)) as cohort:
        parties = Parties(relayed, cohort, threads)
        parties.start(but=frozenset({relay_party(1)}))
        parties.start_relay(1, progress=end)
        cohort.wait_for_clients(N, PATIENCE, relays=M)
        words = f"^relay 1 is gone in round {round}, and a sum takes all 2: no sum, nothing revealed"
        with pytest.raises(RelayLost, match=words) as caught:
            parties.aggregate()
        assert caught.value.relays == {1}
        assert parties.reports[round].lost == {relay_party(1): "vanished"}
        cohort.close()  # who had not joined yet hears that alone
        for client in parties.clients.values():
            contribution = client.result()
            assert contribution is not None
            assert contribution.reason.startswith("relay 1 is gone") or round == "join"


def test_a_relay_that_ends_while_clients_compute_ends_the_session_before_a_vector_leaves(
    relayed: Federation, threads: ThreadPoolExecutor
) -> None:
    living, over = {*EVERYBODY, *RELAYS}, Event()
    with ExitStack() as stack:
        cohort = stack.enter_context(relayed.serve(lives=lambda: frozenset(living)))
        cable = stack.enter_context(Cable(cohort.endpoint))

        def compute(task: bytes) -> Any:
            living.discard(relay_party(1))
            cable.cut()
            over.wait(PATIENCE)
            return vector(0, LENGTH)

        def contribute() -> Contribution | None:
            with relayed.join(0, cohort.endpoint, SPLIT) as peer:
                return peer.contribute(compute)

        parties = Parties(relayed, cohort, threads)
        parties.start(but=frozenset({0, relay_party(1)}))
        parties.start_relay(1, cable.endpoint)
        slow = threads.submit(contribute)
        with pytest.raises(RelayLost, match="relay 1 is gone in round shares"):
            parties.aggregate()
        over.set()
        assert slow.result() is not None
        cable.mend()
        cohort.wait_for_clients(0, PATIENCE, relays=M)
        cohort.close()
        assert [one.summed for one in parties.relays[1].result()] == [False]


def test_a_relay_may_come_back_until_the_deadline(
    relayed: Federation, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection is lost when all others have answered."""
    clock, others, told = Clock(), Event(), list[str]()
    monkeypatch.setattr("transport.server.time", clock)

    def pass_the_time(text: str) -> None:
        told.append(text)
        clock.ahead += transport.server.SLOW_SECONDS

    def wait_for_others(name: str, sent: int, size: int) -> None:
        if name == "deliver":
            others.wait(PATIENCE)
            raise TransportError("the plug was pulled")

    def answered(session: ServerSession) -> None:
        if session.round == "deliver" and session.waiting_for == {relay_party(1)}:
            others.set()

    with relayed.serve(tell=pass_the_time) as cohort:
        parties = Parties(relayed, cohort, threads)
        parties.start(but=frozenset({relay_party(1)}))
        parties.start_relay(1, progress=wait_for_others)
        scheme = Instrumented(scheme_of(cohort), lambda server: Telling(server, answered))
        with pytest.raises(RelayLost, match="relay 1 is gone in round deliver"):
            parties.aggregate(scheme=scheme)
        assert parties.reports["deliver"].lost == {relay_party(1): "vanished"}
    assert told == [
        "relay 1 has lost its connection in round deliver: waiting for it until that round's deadline, for "
        "there is no sum without it"
    ]


@pytest.mark.parametrize("round", RELAY_ROUNDS[1:])
def test_a_relay_that_loses_its_connection_goes_on_where_it_was(
    round: str, relayed: Federation, threads: ThreadPoolExecutor
) -> None:
    """The answer was on its way, or a piece of it."""
    told, cuts = list[str](), list[int]()
    with ExitStack() as stack:
        cohort = stack.enter_context(relayed.serve())
        cable = stack.enter_context(Cable(cohort.endpoint))
        parties = Parties(relayed, cohort, threads)

        def cut(name: str, sent: int, size: int) -> None:
            if name == round and len(cuts) < 2 and sent >= len(cuts) * min(size, CHUNK_BYTES):
                cuts.append(sent)
                cable.cut()
                cable.mend()

        parties.start(but=frozenset({relay_party(1)}), length=LONG)
        parties.start_relay(1, cable.endpoint, progress=cut, tell=told.append)
        assert parties.aggregate(length=LONG) == EVERYBODY
        assert parties.lost() == {}
        cohort.close()
        assert parties.relays[1].result()[0].summed  # before the cable is taken away
    assert told
    assert set(told) == {
        "the connection was lost: trying for 600 seconds to go on where it was; there is no sum without it"
    }


@pytest.mark.parametrize("round", RELAY_ROUNDS[1:])
def test_a_relay_that_was_restarted_says_so_and_serves_the_next_session(round: str, parties: Parties) -> None:
    def restarted(j: int, endpoint: str) -> list[Served]:
        with suppress(TransportError):
            federation.relay(j, endpoint, progress=vanish(round))
        return federation.relay(j, endpoint)

    federation, threads, endpoint = parties.federation, parties.threads, parties.cohort.endpoint
    clients = [threads.submit(often, federation, u, endpoint, SPLIT) for u in EVERYBODY]
    parties.start_relay(0)
    parties.relays[1] = threads.submit(restarted, 1, endpoint)
    with pytest.raises(RelayLost, match=f"relay 1 is gone in round {round}"):
        parties.aggregate()
    lost = parties.reports[round].lost
    assert lost == {relay_party(1): "left: it was restarted and cannot go on where it was"}
    assert parties.aggregate() == EVERYBODY
    parties.cohort.close()
    assert [[one.summed for one in client.result()] for client in clients] == [[False, True]] * N


def test_a_relay_takes_part_by_a_policy_of_its_own(parties: Parties) -> None:
    parties.start(but=frozenset({relay_party(1)}))
    parties.start_relay(1, policy=Policy())
    parties.cohort.wait_for_clients(N, PATIENCE, relays=M)
    with pytest.raises(RelayLost, match="relay 1 is gone in round join"):
        parties.aggregate()
    says = "the server offers the scheme split; this client accepts only masking"
    assert parties.reports["join"].lost[relay_party(1)].startswith(f"left: {says}")
    with pytest.raises(RemoteProtocolError, match=says):
        parties.relays[1].result()


class Padding:
    """A server session whose requests are 5000 bytes longer."""

    def __init__(self, session: ServerSession) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def advance(self) -> dict[int, bytes]:
        return {u: request + bytes(5000) for u, request in self._session.advance().items()}


def test_a_relay_makes_no_room_for_a_task_which_it_never_sees(parties: Parties) -> None:
    parties.start()
    with pytest.raises(RelayLost, match="in round relay-keys"):
        parties.aggregate(scheme=Instrumented(scheme_of(parties.cohort), Padding))
    with pytest.raises(RemoteProtocolError, match=r"announced 50\d\d bytes; at most 4096 can be due"):
        parties.relays[0].result()


# What a relay remembers


def test_a_relay_adds_for_a_task_once_whatever_the_session(
    tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    """The clients have forgotten it."""
    federation, task = Federation(tmp_path, N, M), os.urandom(16)
    for again in (False, True):
        with federation.serve() as cohort:
            parties = Parties(federation, cohort, threads)
            parties.start()
            if not again:
                cohort.aggregate(scheme_of(cohort), task)
                for folder in federation.clients:
                    (folder / "client.key.journal").unlink()
                continue
            with pytest.raises(RelayLost, match="in round columns"):
                cohort.aggregate(scheme_of(cohort), task)
    words = (
        "a second sum of a task for which this relay has added: of two sets of clients the sums would tell"
    )
    assert any(words in str(relay.exception()) for relay in parties.relays.values())


def test_a_relay_remembers_what_like_vectors_were_summed_with(
    tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    """Over all runs of its program, as its key's file is there: of clients that give their own vectors."""
    federation = Federation(tmp_path, N, M)

    def contribute(u: int, endpoint: str, lost: bool) -> Contribution | None:
        with federation.join(u, endpoint, SPLIT) as peer:
            return peer.contribute(vector(u, LENGTH), progress=vanish("shares") if lost else None)

    for lost in (None, 3):
        with federation.serve() as cohort:
            parties = Parties(federation, cohort, threads)
            for u in EVERYBODY:
                threads.submit(contribute, u, cohort.endpoint, u == lost)
            for j in range(M):
                parties.start_relay(j)
            if lost is None:
                assert parties.aggregate() == EVERYBODY
                continue
            with pytest.raises(RelayLost, match="in round columns"):
                parties.aggregate()
    refusals = {str(relay.exception()) for relay in parties.relays.values() if relay.exception()}
    assert all("a sum too near to earlier ones of like vectors" in refusal for refusal in refusals)
    assert refusals


# What is refused before it begins


def test_a_session_takes_all_relays_of_the_roster(parties: Parties) -> None:
    scheme = Split.for_cohort(N, Counts(length=LENGTH, maximum=2**20), relays=3)
    says = "3 relays, and the roster lists 2: all of its relays take part in every session"
    with pytest.raises(LocalProtocolError, match=f"^{says}$"):
        parties.aggregate(scheme=scheme)


def test_what_would_be_too_long_for_one_message_is_not_begun(parties: Parties) -> None:
    says = r"a relay could be sent \d+ bytes in one message, and 4294967295 is the most: sum fewer clients"
    with pytest.raises(LocalProtocolError, match=says):
        parties.aggregate(scheme=scheme_of(parties.cohort, 2**29))


def test_a_relay_takes_part_in_no_session_without_its_number(relayed: Federation) -> None:
    """Whatever its policy allows, and whatever a server offers."""
    anything = Policy(schemes=frozenset({"split", "plain"}), adversary="semi-honest")
    plain = Plain.for_cohort(N, Counts(length=LENGTH, maximum=2**20))
    with relayed.join_as_relay(0, "tcp://127.0.0.1:9", anything) as relay:
        relay._offer = Offer(bytes(8), plain.offer())
        says = "the server offers a session of 0 relays, and this is relay 0, counted from 0"
        with pytest.raises(RemoteProtocolError, match=f"^{says}$"):
            relay.serve()


def test_a_scheme_without_relays_makes_none(parties: Parties) -> None:
    with pytest.raises(LocalProtocolError, match=r"^no relay takes part in a session of masking$"):
        masking_of(parties.cohort).relay(0)


def test_a_relay_of_another_version_is_named_as_one(parties: Parties) -> None:
    with pytest.raises(RemoteProtocolError, match=r"^relay 1 speaks version 3 of the transport, this is 2$"):
        parties.cohort._greet(relay_party(1), b"", Hello(3))


def test_a_client_is_no_relay_and_a_relay_no_client(relayed: Federation) -> None:
    client, relay = relayed.clients[0], relayed.relays[0]
    with pytest.raises(TransportError, match=r"relay\.key holds a relay key, a client key is needed"):
        transport.join("tcp://127.0.0.1:9", relay / "relay.key", relay / "server.pub")
    with pytest.raises(TransportError, match=r"client\.key holds a client key, a relay key is needed"):
        transport.join_as_relay("tcp://127.0.0.1:9", client / "client.key", client / "server.pub")
