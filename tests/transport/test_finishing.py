"""A session whose vectors have left is finished by the same clients, however often they are cut off."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from threading import Event
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from loopback import (
    PATIENCE,
    SHORT,
    Cable,
    Clock,
    Federation,
    Instrumented,
    Telling,
    exact_sum,
    scheme_of,
    vector,
)

import transport.server
from secagg import Counts, Masking, TooFewClients
from transport import Cohort, Contribution, RoundReport, TransportError
from transport.errors import Unfinished
from transport.exchange import Exchange
from transport.frames import Outgoing
from transport.processes import LocalProcesses
from transport.talk import Talk

N = 6
EVERYBODY = frozenset(range(N))
AWAY = frozenset(range(4))  # the two others are fewer than the threshold of 4


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return Federation(tmp_path_factory.mktemp("six"), N)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost connection is noticed at the next ping."""
    monkeypatch.setattr("transport.router.PING_SECONDS", 0.01)
    monkeypatch.setattr("transport.server.TICK_SECONDS", 0.01)


class Operator:
    """Hears what the server tells, and does something about what needs it."""

    def __init__(self, deed: Callable[[], object]) -> None:
        self.deed, self.told = deed, list[str]()

    def tell(self, text: str) -> None:
        self.told.append(text)
        if "Keep this server running" in text:
            self.deed()


def serve(federation: Federation, operator: Operator) -> Cohort:
    return federation.serve(tell=operator.tell)


def aggregate(cohort: Cohort, reports: list[RoundReport], **how: object) -> None:
    """Everybody's sum, exactly."""
    scheme = how.pop("scheme", scheme_of("masking", N, SHORT))
    total = cohort.aggregate(scheme, os.urandom(16), watch=reports.append, **how)  # type: ignore[arg-type]
    assert total.survivors == EVERYBODY
    np.testing.assert_array_equal(total.sum[""], exact_sum(EVERYBODY, SHORT))


def once_before_unmasking(deed: Callable[[], object]) -> Callable[[str, int, int], None]:
    """A client's `progress`."""
    to_do = [deed]

    def progress(round: str, sent: int, size: int) -> None:
        if round == "unmasking" and to_do:
            to_do.pop()()

    return progress


def client_process(federation: Federation, u: int, endpoint: str, pipe: Connection) -> None:
    def wait_until_cut_off() -> None:
        pipe.send("unmasking")
        pipe.recv()

    progress = once_before_unmasking(wait_until_cut_off) if u in AWAY else None
    with federation.join(u, endpoint) as peer:
        contribution = peer.contribute(lambda task: vector(u, SHORT), progress=progress)
    pipe.send(contribution is not None and contribution.summed)


def test_clients_that_lose_their_connection_in_unmasking_come_back_and_the_sum_is_exact(
    six: Federation,
) -> None:
    """A process each. Four of six are cut off before their shares have left; two are too few."""
    reports = list[RoundReport]()
    with ExitStack() as stack:
        cables = dict[int, Cable]()
        operator = Operator(lambda: [cable.mend() for cable in cables.values()])
        cohort = stack.enter_context(serve(six, operator))
        processes = stack.enter_context(LocalProcesses())
        threads = stack.enter_context(ThreadPoolExecutor(N))
        ends = {}
        for u in EVERYBODY:
            cables[u] = stack.enter_context(Cable(cohort.endpoint))
            ends[u], theirs = Pipe()
            processes.start(f"client{u}", client_process, six, u, cables[u].endpoint, theirs)
            theirs.close()

        def cut(u: int) -> None:
            assert ends[u].recv() == "unmasking"
            cables[u].cut()
            ends[u].send("go on")

        for u in AWAY:
            threads.submit(cut, u)
        aggregate(cohort, reports)
        while not all(end.poll() for end in ends.values()):
            cohort.wait_for_clients(N + 1, 0.01)
        assert [ends[u].recv() for u in EVERYBODY] == [True] * N
    assert operator.told[0].startswith("2 answers in round unmasking, 4 needed: waiting ")
    assert "for clients 0, 1, 2, 3 (clients 0, 1, 2, 3 not connected)" in operator.told[0]
    assert [report.lost for report in reports[:4]] == [{}] * 4


class Here:
    """The clients are threads, each at the end of a cable of its own."""

    def __init__(self, federation: Federation, cohort: Cohort, threads: ThreadPoolExecutor) -> None:
        self.federation, self.cohort, self.threads = federation, cohort, threads
        self.cables = {u: Cable(cohort.endpoint) for u in EVERYBODY}
        self.told: dict[int, list[str]] = {u: [] for u in EVERYBODY}
        self.left = dict.fromkeys(EVERYBODY, 0)
        self.clients: dict[int, Future[Contribution | None]] = {}
        self.next: dict[int, Contribution | None] = {}

    def start(
        self, u: int, before_unmasking: Callable[[], object] = lambda: None, *, again: bool = False
    ) -> None:
        """again: it takes part in two sessions, if there are two."""

        def play() -> Contribution | None:
            with self.federation.join(u, self.cables[u].endpoint) as peer:
                contribution = peer.contribute(
                    lambda task: vector(u, SHORT),
                    progress=once_before_unmasking(before_unmasking),
                    left=lambda: self.left.update({u: self.left[u] + 1}),
                    tell=self.told[u].append,
                )
                self.next[u] = peer.contribute(vector(u, SHORT)) if again else None
                return contribution

        self.clients[u] = self.threads.submit(play)

    def mend(self) -> None:
        for cable in self.cables.values():
            cable.mend()

    def contribution(self, u: int) -> Contribution:
        contribution = self.clients[u].result()
        assert contribution is not None
        return contribution


@pytest.fixture
def here(six: Federation, threads: ThreadPoolExecutor) -> Iterator[Callable[[Cohort], Here]]:
    made = list[Here]()

    def make(cohort: Cohort) -> Here:
        made.append(Here(six, cohort, threads))
        return made[-1]

    yield make
    for of in made:
        wait(of.clients.values())  # the server's last word is still on its way to who was late
        for cable in of.cables.values():
            cable.__exit__()


def test_who_is_away_when_the_session_ends_hears_how_when_it_comes_back(
    six: Federation, here: Callable[[Cohort], Here]
) -> None:
    """Its share was not needed. It is told at once that its connection is lost, and what that means."""
    reports = list[RoundReport]()
    with serve(six, Operator(lambda: None)) as cohort:
        clients = here(cohort)
        for u in EVERYBODY:
            clients.start(u, clients.cables[u].cut if u == 0 else lambda: None)
        aggregate(cohort, reports)
        assert [report.lost for report in reports] == [{}] * 4 + [{0: "vanished"}]
        clients.mend()
        while not clients.clients[0].done():
            cohort.wait_for_clients(N + 1, 0.01)
        assert clients.contribution(0).summed
    (told,) = clients.told[0]
    assert re.match("the connection was lost, and the vector had left: trying for 600 seconds to go on", told)
    assert clients.left == dict.fromkeys(EVERYBODY, 1)


def test_a_client_gives_its_session_up_when_a_server_that_does_not_know_it_offers_another(
    six: Federation, here: Callable[[Cohort], Here]
) -> None:
    """And takes part in that one, though it heard of it in the middle of the other."""
    with serve(six, Operator(lambda: None)) as cohort:
        clients = here(cohort)
        for u in EVERYBODY:
            clients.start(u, clients.cables[u].cut if u == 0 else lambda: None, again=u == 0)
        aggregate(cohort, [])
    with serve(six, Operator(lambda: None)) as other:
        clients.cables[0].lead_to(other.endpoint)
        clients.mend()
        assert other.wait_for_clients(1, PATIENCE) == {0}
        with pytest.raises(TooFewClients):
            aggregate(other, [], deadlines={"join": 0.001})
    assert clients.contribution(0).reason == "the connection was lost, and the session is over"
    assert clients.next[0] is not None


def test_at_the_deadline_of_unmasking_nobody_is_given_up_without_whom_there_is_no_sum(
    six: Federation, here: Callable[[Cohort], Here], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock jumps to it while four of six are connected; they answer when the operator has heard."""
    reports, clock, go_on = list[RoundReport](), Clock(), Event()
    monkeypatch.setattr("transport.server.time", clock)

    def late(server: Any) -> None:
        if server.round == "unmasking" and server.waiting_for == AWAY:
            clock.ahead += transport.server.ROUND_SECONDS

    scheme = Instrumented(scheme_of("masking", N, SHORT), lambda server: Telling(server, late))
    operator = Operator(go_on.set)
    with serve(six, operator) as cohort:
        clients = here(cohort)
        for u in EVERYBODY:
            clients.start(u, lambda u=u: u not in AWAY or go_on.wait(PATIENCE))
        aggregate(cohort, reports, scheme=scheme)
    assert operator.told[0].startswith("2 answers in round unmasking, 4 needed")
    assert "not connected" not in operator.told[0]
    assert reports[-1].lost.keys() < AWAY  # they were late, if the first answers were enough


def test_who_is_late_for_the_last_round_hears_once_that_its_vector_is_in_the_sum() -> None:
    heard: list[tuple[int, str]] = []
    router = SimpleNamespace(
        gone=frozenset({2}), send=lambda u, frame, *payload: heard.append((u, frame.reason))
    )
    session = SimpleNamespace(result=SimpleNamespace(survivors=frozenset({0, 1})))
    exchange = Exchange(router, scheme_of("masking", 4, SHORT), session, frozenset(range(4)))  # type: ignore[arg-type]
    exchange.lose_all(frozenset({1, 2, 3}))
    assert sorted(heard) == [(1, ""), (2, "vanished"), (3, "late")]
    assert exchange.lost == {1: "late", 2: "vanished", 3: "late"}


def test_a_process_that_was_restarted_says_so_and_the_sum_is_given_up_when_nobody_else_can_come(
    six: Federation, here: Callable[[Cohort], Here]
) -> None:
    restarted = set[int]()
    with serve(six, Operator(lambda: restart())) as cohort:
        clients = here(cohort)

        def restart() -> None:
            for u in AWAY - restarted:
                clients.start(u)
            restarted.update(AWAY)

        for u in EVERYBODY:
            clients.start(u, unplugged if u in AWAY else lambda: None)
        with pytest.raises(Unfinished, match="though the vectors had left; waited for: nobody") as caught:
            aggregate(cohort, reports := [])
    left = "left: it was restarted and cannot go on where it was"
    assert reports[-1].lost == dict.fromkeys(AWAY, left)
    assert (caught.value.alive, caught.value.needed, caught.value.missing) == (2, 4, frozenset())


def unplugged() -> None:
    raise TransportError("the plug was pulled")


def test_a_sum_is_given_up_when_the_time_to_finish_is_over(
    six: Federation, here: Callable[[Cohort], Here], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr("transport.server.time", clock)

    def pass_the_time() -> None:
        clock.ahead += transport.server.FINISH_SECONDS

    with serve(six, Operator(pass_the_time)) as cohort:
        clients = here(cohort)
        for u in EVERYBODY:
            clients.start(u, unplugged if u in AWAY else lambda: None)
        with pytest.raises(Unfinished, match=r"waited for: clients 0, 1, 2, 3\. Sum them again"):
            aggregate(cohort, [])
        assert clients.contribution(4).reason.startswith("2 clients left in round unmasking, 4 needed")


def test_interrupted_in_that_time_a_server_says_what_not_to_do(
    six: Federation, here: Callable[[Cohort], Here]
) -> None:
    def interrupt() -> None:
        monkeypatch.setattr(Cohort, "_listen", raise_interrupt)

    operator = Operator(interrupt)
    with pytest.MonkeyPatch.context() as monkeypatch, serve(six, operator) as cohort:
        clients = here(cohort)
        for u in EVERYBODY:
            clients.start(u, unplugged if u in AWAY else lambda: None)
        with pytest.raises(KeyboardInterrupt):
            aggregate(cohort, [])
    assert "Sum them again with just the same clients or not at all" in operator.told[-1]


def raise_interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_client_that_is_interrupted_after_its_vector_has_left_hears_what_that_means(
    six: Federation, here: Callable[[Cohort], Here]
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with serve(six, Operator(lambda: None)) as cohort:
        clients = here(cohort)
        for u in EVERYBODY:
            clients.start(u, interrupt if u == 0 else lambda: None)
        aggregate(cohort, [])
        with pytest.raises(KeyboardInterrupt):
            clients.contribution(0)
    assert re.match("stopped after the vector had left: it may be in the sum", clients.told[0][-1])


class Answering:
    """A client session that answers whatever it is asked."""

    done = False

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def start(self) -> bytes:
        return b"join"

    def receive(self, message: Any) -> bytes:
        self.asked.append(bytes(message))
        return b"answer %d to " % len(self.asked) + bytes(message)


@pytest.mark.parametrize(("name", "kept"), [("masking", True), ("plain", False)])
def test_who_is_cut_off_after_its_upload_is_needed_only_where_a_sum_has_to_be_finished(
    name: str, kept: bool
) -> None:
    """Both ends say so."""
    scheme = scheme_of(name, 4, SHORT)
    talk = Talk(lambda frame, payload: None, bytes(8), scheme, Answering())  # type: ignore[arg-type]
    talk.begin()
    for number in range(scheme.rounds.index(scheme.upload_round)):
        talk.step(Outgoing(bytes(8), number, b"request %d" % number).announce())
    assert talk.staying == kept

    router = SimpleNamespace(send=lambda u, frame, *payload: None)
    session = SimpleNamespace(round=scheme.upload_round, waiting_for=frozenset({0, 2, 3}))
    exchange = Exchange(router, scheme, session, frozenset(range(4)), joined={1})  # type: ignore[arg-type]
    exchange.vanish(1)
    assert exchange.lost == ({} if kept else {1: "vanished"})


def test_whatever_a_server_asks_again_the_answer_is_the_first_byte_for_byte() -> None:
    """Another U3 under the number of the one that was answered: nobody looks at it."""
    sent: list[tuple[Any, Any]] = []

    def send(frame: Any, payload: Any = None) -> None:
        sent.append((frame, payload))

    session, scheme = Answering(), Masking.for_cohort(6, Counts(length=1, maximum=1))
    talk = Talk(send, bytes(8), scheme, session)  # type: ignore[arg-type]
    talk.begin()
    for number, message in enumerate([b"task", b"U1", b"U2", b"U3"]):
        talk.step(Outgoing(bytes(8), number, message).announce())
    for again in (b"another U3", b"U3"):
        talk.step(Outgoing(bytes(8), 3, again).announce())
    assert [payload for _, payload in sent[-3:]] == [b"answer 4 to U3"] * 3
    assert session.asked == [b"task", b"U1", b"U2", b"U3"]
