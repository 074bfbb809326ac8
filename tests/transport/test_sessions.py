"""Whole sessions over loopback: real sockets, real keys, a thread for each client."""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event
from typing import Any, ClassVar

import msgspec
import numpy as np
import pytest
from loopback import (
    LONG,
    MAXIMUM,
    PATIENCE,
    SHORT,
    Clock,
    Deed,
    Federation,
    Instrumented,
    Telling,
    exact_sum,
    is_answer,
    scheme_of,
    spoil,
    vanish,
    vector,
)

import transport.exchange
from secagg import (
    Among,
    Counts,
    LocalProtocolError,
    Masking,
    Policy,
    Private,
    Recorded,
    RemoteProtocolError,
    TooFewClients,
    run,
)
from secagg.masking.messages import AdvertiseKeys, MaskedInput, traffic
from secagg.session import Scheme
from secagg.wire import Raw, decode
from tests.secagg.test_new_scheme import Clear
from transport import Cohort, Contribution, Refused, RoundReport, TransportError, join, serve
from transport.frames import (
    CHUNK_BYTES,
    MAX_FRAME_BYTES,
    Announce,
    Chunk,
    Close,
    Frame,
    Hello,
    Leave,
    Offer,
    Pull,
    checksum,
    encode,
    wire_bytes,
)
from transport.keys import generate, read_private, write_public
from transport.roster import sign

N = 5
EVERYBODY = frozenset(range(N))
OTHERS = EVERYBODY - {0}
ROUNDS = ("join", "advertise-keys", "share-keys", "masked-input", "unmasking")
every_scheme = pytest.mark.parametrize("name", ["masking", "plain"])


class Session:
    """One session of a cohort, each client in a thread."""

    def __init__(self, federation: Federation, cohort: Cohort, threads: ThreadPoolExecutor) -> None:
        self.federation, self.cohort, self.threads = federation, cohort, threads
        self.clients: dict[int, Future[Contribution | None]] = {}
        self.reports: dict[str, RoundReport] = {}
        self.closed = {round: Event() for round in (*ROUNDS, "input")}

    def start(self, *clients: int, length: int = SHORT, **how: Any) -> None:
        for u in clients:
            self.clients[u] = self.threads.submit(
                self.federation.contribute, u, self.cohort.endpoint, length, **how
            )

    def start_often(self, *clients: int, **how: Any) -> list[Future[list[Contribution]]]:
        """Clients that take part until the server closes."""
        often, endpoint = self.federation.contribute_often, self.cohort.endpoint
        return [self.threads.submit(often, u, endpoint, SHORT, **how) for u in clients]

    def spoil(self, u: int, deed: Deed, round: str, length: int = SHORT) -> None:
        """A client that does a deed and stays connected until that round is closed."""

        def play() -> Contribution | None:
            with self.federation.join(u, self.cohort.endpoint) as peer:
                spoil(peer, deed, self.closed[round])
                return peer.contribute(lambda task: vector(u, length))

        self.clients[u] = self.threads.submit(play)

    def watch(self, report: RoundReport) -> None:
        self.reports[report.round] = report
        self.closed[report.round].set()

    def run(self, scheme: Scheme, task: bytes | None = None, **how: Any) -> frozenset[int]:
        """Check that the sum is exact, and give the survivors. A task serves once: each has its own."""
        task = os.urandom(16) if task is None else task
        total = self.cohort.aggregate(scheme, task, **{"watch": self.watch, **how})
        expected = exact_sum(total.survivors, scheme.vectors[""].length)
        np.testing.assert_array_equal(total.sum[""], expected)
        return total.survivors

    @property
    def lost(self) -> dict[int, str]:
        return {u: why for report in self.reports.values() for u, why in report.lost.items()}

    def contribution(self, u: int) -> Contribution:
        contribution = self.clients[u].result()
        assert contribution is not None
        return contribution


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


class Kept(transport.exchange.Exchange):
    """A running session that a test can look into."""

    all: ClassVar[list[Kept]] = []
    most: int = 0  # uploads staged, or with room in memory, at once

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        Kept.all.append(self)

    def stage_uploads(self, left: float) -> None:
        super().stage_uploads(left)
        begun = sum(len(incoming.pieces) > 0 for incoming in self.incoming.values())
        self.most = max(self.most, len(self.staged), begun)

    @property
    def empty(self) -> bool:
        return not (self.incoming or self.staged or self.queue or self.outgoing)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost connection is noticed at the next ping."""
    monkeypatch.setattr("transport.router.PING_SECONDS", 0.01)
    monkeypatch.setattr("transport.server.TICK_SECONDS", 0.01)


@pytest.fixture
def cohort(federation: Federation, threads: ThreadPoolExecutor) -> Iterator[Cohort]:
    """Closed before the threads are waited for."""
    with federation.serve() as cohort:
        yield cohort


@pytest.fixture
def session(federation: Federation, cohort: Cohort, threads: ThreadPoolExecutor) -> Iterator[Session]:
    session = Session(federation, cohort, threads)
    yield session
    for event in session.closed.values():
        event.set()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The server's."""
    clock = Clock()
    monkeypatch.setattr("transport.server.time", clock)
    monkeypatch.setattr("transport.exchange.time", clock)
    return clock


@pytest.fixture
def clients_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("transport.line.time", clock)
    return clock


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[Kept]:
    monkeypatch.setattr(Kept, "all", [])
    monkeypatch.setattr("transport.server.Exchange", Kept)
    return Kept.all


def on_answer(parts: Callable[[Any, Any], list[list[Raw]]]) -> Deed:
    """In the place of the masked input."""
    return lambda frame, payload: parts(frame, payload) if is_answer(frame, 3) else None


# Sessions that go well


def test_a_scheme_of_ones_own_travels_as_any_other(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once its name is in `secagg.schemes.Offered`."""
    monkeypatch.setattr("secagg.schemes._offers", msgspec.msgpack.Decoder(Clear))
    session.start(*EVERYBODY, length=LONG, policy=Policy(schemes=frozenset({"clear"})))
    scheme = Clear(clients=N, vectors={"": Counts(length=LONG, maximum=MAXIMUM)})
    assert session.run(scheme, watch=lambda report: None) == EVERYBODY
    assert session.contribution(0).summed


@every_scheme
@pytest.mark.parametrize("length", [SHORT, LONG], ids=["short", "long"])
def test_the_sum_is_exact(session: Session, name: str, length: int) -> None:
    session.start(*EVERYBODY, length=length)
    assert session.run(scheme_of(name, N, length)) == EVERYBODY
    assert session.lost == {}
    for u in EVERYBODY:
        assert (session.contribution(u).summed, session.contribution(u).reason) == (True, "")


def test_the_network_changes_no_code(session: Session) -> None:
    seeds = {u: bytes([u]) * 32 for u in EVERYBODY}
    scheme = scheme_of("masking", N, SHORT)
    for u in EVERYBODY:
        session.start(u, rounding_seed=seeds[u])
    there = session.cohort.aggregate(scheme, os.urandom(16))
    here = run(scheme, {u: vector(u, SHORT) for u in EVERYBODY}, task=b"task", rounding_seeds=seeds)
    np.testing.assert_array_equal(there.codes[""], here.codes[""])


def test_the_sum_is_unmasked_on_the_executor_that_is_given(session: Session, federation: Federation) -> None:
    class Counting(ThreadPoolExecutor):
        tasks = 0

        def submit(self, *args: Any, **named: Any) -> Any:
            self.tasks += 1
            return super().submit(*args, **named)

    session.start(*EVERYBODY)
    with Counting(2) as executor:
        assert session.run(scheme_of("masking", N, SHORT), executor=executor) == EVERYBODY
    assert executor.tasks > 0


@every_scheme
def test_sessions_follow_each_other_and_nobody_waits_for_one_who_is_gone(session: Session, name: str) -> None:
    scheme = scheme_of(name, N, SHORT)
    stays = session.start_often(*OTHERS)
    session.start(0)
    assert session.run(scheme) == EVERYBODY
    assert session.contribution(0).summed
    for _ in range(2):
        assert session.run(scheme) == OTHERS  # with the usual minutes
    session.cohort.close()
    for client in stays:
        assert [contribution.summed for contribution in client.result()] == [True] * 3


def test_a_private_vector_is_summed_under_the_noise_its_clients_insist_on(session: Session) -> None:
    spec = Private(length=LONG, clip=2.0, bits=14, multiplier=0.1)
    policy = Policy(adversary="semi-honest", noise=0.1, clips={"": (1.0, 2.0)})

    def client(u: int) -> Contribution | None:
        with session.federation.join(u, session.cohort.endpoint, policy) as peer:
            return peer.contribute(np.full(LONG, u / 1000))

    clients = {u: session.threads.submit(client, u) for u in EVERYBODY}
    scheme = Masking.for_cohort(N, spec)
    total = session.cohort.aggregate(scheme, os.urandom(16))
    assert total.survivors == EVERYBODY
    assert total.noise[""] == scheme.calibration("").deviation(N)
    assert float(np.std(total.mean[""])) == pytest.approx(total.noise[""], rel=0.05)
    assert float(np.mean(total.mean[""])) == pytest.approx(0.002, abs=6 * total.noise[""] / LONG**0.5)
    told = {u: clients[u].result() for u in EVERYBODY}
    assert all(contribution is not None and contribution.summed for contribution in told.values())
    assert all(told[u].clipping[""].norm_factor == 1.0 for u in EVERYBODY)


def test_a_long_task_reaches_every_client(session: Session) -> None:
    task, seen = bytes(range(256)) * 2500, []

    def client(u: int) -> None:
        with session.federation.join(u, session.cohort.endpoint) as peer:
            peer.contribute(lambda task: seen.append(task) or vector(u, SHORT))

    for u in EVERYBODY:
        session.threads.submit(client, u)
    assert session.run(scheme_of("masking", N, SHORT), task) == EVERYBODY
    assert len(task) > 2 * CHUNK_BYTES
    assert seen == [task] * N


# Clients that are lost


@pytest.mark.parametrize("round", ROUNDS)
def test_a_client_lost_in_any_round_leaves_the_exact_sum_of_the_others(session: Session, round: str) -> None:
    session.start(*OTHERS)
    session.start(0, progress=vanish(round))
    survivors = session.run(scheme_of("masking", N, SHORT))
    assert survivors == (EVERYBODY if round == "unmasking" else OTHERS)
    for report in session.reports.values():
        before = ROUNDS.index(report.round) < ROUNDS.index(round)
        assert report.alive == (EVERYBODY if before else OTHERS)
        assert report.lost == ({0: "vanished"} if report.round == round else {})


@every_scheme
def test_half_an_upload_leaves_nothing_behind(
    session: Session, kept: list[Kept], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Its sender is lost once the server has that half."""
    upload, half_is_here, arrived = {"masking": 3, "plain": 1}[name], Event(), Kept._arrived

    def tell(running: Kept, u: int, *chunk: Any) -> None:
        arrived(running, u, *chunk)
        if u == 0 and 2 * running.incoming[0].received >= running.incoming[0].announce.size:
            half_is_here.set()

    def progress(round: str, sent: int, size: int) -> None:
        if 2 * sent >= size > CHUNK_BYTES:
            assert half_is_here.wait(PATIENCE)
            raise TransportError("the plug was pulled")

    monkeypatch.setattr(Kept, "_arrived", tell)
    session.start(*OTHERS, length=LONG)
    session.start(0, length=LONG, progress=progress)
    scheme = scheme_of(name, N, LONG)
    assert session.run(scheme) == OTHERS
    report = session.reports[scheme.rounds[upload]]
    assert report.lost == {0: "vanished"}
    assert report.wire_up > sum(report.up.values()) + CHUNK_BYTES
    assert kept[0].empty


def test_a_client_may_be_lost_in_each_round(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    n, fates = 9, {0: "advertise-keys", 1: "share-keys", 2: "masked-input", 3: "unmasking"}
    federation = Federation(tmp_path, n)
    with federation.serve() as cohort:
        session = Session(federation, cohort, threads)
        for u in range(n):
            fate = vanish(fates[u], 0.5 if u == 2 else 0) if u in fates else None
            session.start(u, length=LONG, progress=fate)
        assert session.run(scheme_of("masking", n, LONG)) == set(range(3, n))
    assert session.lost == dict.fromkeys(fates, "vanished")


def test_one_lost_after_its_vector_arrived_is_in_the_sum(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, vanish = Event(), transport.exchange.Exchange.vanish

    def tell(running: Any, u: int) -> None:
        vanish(running, u)
        gone.set()

    def progress(round: str, sent: int, size: int) -> None:
        """The others upload once it has gone, so that it goes in this round."""
        assert round != "masked-input" or gone.wait(PATIENCE)

    monkeypatch.setattr(transport.exchange.Exchange, "vanish", tell)
    answers = on_answer(lambda a, p: [[encode(a), p]])
    session.closed["advertise-keys"].set()
    session.spoil(0, answers, "advertise-keys")  # then it goes at once
    session.start(*OTHERS, progress=progress)
    assert session.run(scheme_of("masking", N, SHORT)) == EVERYBODY
    masked_input, unmasking = session.reports["masked-input"], session.reports["unmasking"]
    assert (masked_input.alive, masked_input.lost) == (EVERYBODY, {})
    assert (unmasking.alive, unmasking.lost, unmasking.down.keys()) == (OTHERS, {0: "vanished"}, OTHERS)


def test_with_too_few_left_there_is_no_sum_and_the_clients_hear_why(session: Session) -> None:
    session.start(0, 1, 2, progress=vanish("share-keys"))
    session.start(3, 4)
    with pytest.raises(TooFewClients) as caught:
        session.run(scheme_of("masking", N, SHORT))
    assert (caught.value.alive, caught.value.needed, caught.value.round) == (2, 3, "share-keys")
    for u in (3, 4):
        assert (session.contribution(u).summed, session.contribution(u).reason) == (False, str(caught.value))


def test_of_an_offer_that_is_refused_the_server_says_how_many_did_and_why(session: Session) -> None:
    session.start(0, 1, policy=Policy(adversary="semi-honest", smallest_cohort=N + 1))
    session.start(2, 3, policy=Policy(adversary="semi-honest"))

    def unable(scheme: Scheme) -> None:
        raise OSError("/home/alice: no such file")

    session.start(4, accepted=unable)
    with pytest.raises(Refused, match="0 clients left in round join, 1 needed") as caught:
        session.run(scheme_of("plain", N, SHORT))
    said = str(caught.value)
    assert "nothing revealed. 5 of 5 clients refused: the server offers the scheme plain" in said
    assert said.endswith('{"plain"})) (4 x); it could not take part')
    assert caught.value.refused.keys() == EVERYBODY


def test_who_stayed_does_not_hear_why_others_refused(session: Session) -> None:
    session.start(0, 1, 2, policy=Policy(adversary="semi-honest", smallest_cohort=N + 1))
    session.start(3, 4)
    with pytest.raises(Refused, match="takes part from 6 on"):
        session.run(scheme_of("masking", N, SHORT))
    assert "refused" not in session.contribution(3).reason


def jump(clock: Clock, round: str, seconds: float) -> Callable[[Any], Any]:
    """The clock jumps once client 0 is the only one this round waits for."""

    def tell(server: Any) -> None:
        if server.round == round and server.waiting_for == {0}:
            clock.ahead += seconds

    return lambda server: Telling(server, tell)


def test_a_late_client_is_dropped_and_the_session_goes_on(session: Session, clock: Clock) -> None:
    """It trains until the round is closed; what it answers then is of no round."""

    def train(task: bytes) -> Any:
        assert session.closed["advertise-keys"].wait(PATIENCE)
        return vector(0, SHORT)

    def client() -> Contribution | None:
        with session.federation.join(0, session.cohort.endpoint) as peer:
            return peer.contribute(train)

    session.start(*OTHERS)
    session.clients[0] = session.threads.submit(client)
    hours = transport.server.SLOW_SECONDS
    scheme = Instrumented(scheme_of("masking", N, SHORT), jump(clock, "advertise-keys", hours))
    assert session.run(scheme) == OTHERS
    assert session.reports["advertise-keys"].lost == {0: "late"}
    assert (session.contribution(0).summed, session.contribution(0).reason) == (False, "late")


def test_deadlines_are_the_callers(session: Session, clock: Clock) -> None:
    """A client that joins when the usual minute has long passed."""

    def tell(server: Any) -> None:
        if server.round == "join" and server.waiting_for == {0}:
            clock.ahead += 10 * transport.server.JOIN_SECONDS
            session.start(0)

    session.start(*OTHERS)
    scheme = Instrumented(scheme_of("masking", N, SHORT), lambda server: Telling(server, tell))
    assert session.run(scheme, deadlines={"join": 1000}) == EVERYBODY
    with pytest.raises(LocalProtocolError, match="no round 'training'; the rounds are join, advertise-keys"):
        session.run(scheme, deadlines={"training": 1})


def test_who_lives_is_waited_for_and_who_has_ended_is_not(
    federation: Federation, threads: ThreadPoolExecutor, clock: Clock
) -> None:
    """On one machine there is no other deadline than the caller's. Client 0 joins when days have passed and
    the other's process has ended."""
    living = set(EVERYBODY)

    def days_pass(server: Any) -> None:
        if server.round == "join" and server.waiting_for == {0, 1}:
            clock.ahead += 100_000
            living.discard(1)
            session.start(0)

    with federation.serve(lives=lambda: living) as cohort:
        session = Session(federation, cohort, threads)
        session.start(2, 3, 4)
        scheme = Instrumented(scheme_of("masking", N, SHORT), lambda server: Telling(server, days_pass))
        assert session.run(scheme) == EVERYBODY - {1}
    assert session.lost == {1: "vanished"}


def test_a_client_that_never_comes_is_late_for_the_join(session: Session, clock: Clock) -> None:
    session.start(*OTHERS)
    scheme = Instrumented(scheme_of("masking", N, SHORT), jump(clock, "join", transport.server.JOIN_SECONDS))
    assert session.run(scheme) == OTHERS
    assert session.reports["join"].lost == {0: "late"}


def test_an_upload_that_stands_still_is_given_up(
    session: Session, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sender is connected and silent; nobody waits for the round's deadline."""
    given_up, lose = Event(), transport.exchange.Exchange.lose

    def tell(running: Any, u: int, why: str) -> None:
        lose(running, u, why)
        given_up.set()

    def deed(frame: Frame, payload: Raw | None) -> list[list[Raw]] | None:
        if not isinstance(frame, Chunk):
            return None
        clock.ahead += transport.exchange.STALL_SECONDS + 1
        return []

    def progress(round: str, sent: int, size: int) -> None:
        """Nobody else uploads while the clock jumps."""
        assert round != "masked-input" or given_up.wait(PATIENCE)

    monkeypatch.setattr(transport.exchange.Exchange, "lose", tell)
    session.spoil(0, deed, "masked-input", LONG)
    session.start(*OTHERS, length=LONG, progress=progress)
    assert session.run(scheme_of("masking", N, LONG)) == OTHERS
    assert session.lost == {0: "its upload stood still for 20 s"}


def test_a_slow_upload_does_not_keep_the_others_waiting(
    session: Session, kept: list[Kept], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is one place. Client 0 has it, and sends less than it should, though it does not stand still."""
    has_the_place, others_wait, announced = Event(), Event(), Kept._announced

    def tell(running: Kept, *announcement: Any) -> None:
        announced(running, *announcement)
        if len(running.queue) == len(OTHERS):
            others_wait.set()

    def deed(frame: Frame, payload: Raw | None) -> list[list[Raw]] | None:
        if not isinstance(frame, Chunk):
            return None
        has_the_place.set()
        assert others_wait.wait(PATIENCE)
        clock.ahead += 7.0  # of 30 seconds, and one place for five, each has six
        return []

    monkeypatch.setattr(Kept, "_announced", tell)
    monkeypatch.setattr("transport.exchange.MAX_STAGED", 1)
    session.spoil(0, deed, "masked-input", LONG)

    def progress(round: str, sent: int, size: int) -> None:
        assert round != "masked-input" or has_the_place.wait(PATIENCE)

    session.start(*OTHERS, length=LONG, progress=progress)
    assert session.run(scheme_of("masking", N, LONG), deadlines={"masked-input": 30.0}) == OTHERS
    assert session.lost == {0: "its upload took more than its share of the round, and others waited"}
    assert kept[0].empty


def test_a_client_announces_no_long_first_message(session: Session) -> None:
    def deed(frame: Frame, payload: Raw | None) -> list[list[Raw]] | None:
        return [[changed(frame, size=transport.exchange.JOIN_BYTES + 1)]] if is_answer(frame, 0) else None

    session.spoil(0, deed, "join")
    session.start(*OTHERS)
    assert session.run(scheme_of("masking", N, SHORT)) == OTHERS
    assert re.search("announced 1025 bytes; at most 1024", session.lost[0])


def test_a_few_uploads_are_staged_at_once_and_nothing_is_left_of_them(
    session: Session, kept: list[Kept], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody sends a chunk before all have announced an upload. One is lost half way."""
    all_announced, announced, pieces = Event(), Kept._announced, dict.fromkeys(EVERYBODY, 0)

    def tell(running: Kept, *announcement: Any) -> None:
        announced(running, *announcement)
        if running.incoming.keys() == EVERYBODY:
            all_announced.set()

    def progress_of(u: int) -> Callable[[str, int, int], None]:
        half = vanish("masked-input" if u == 0 else "", 0.5)

        def progress(round: str, sent: int, size: int) -> None:
            pieces[u] += round == "masked-input"
            assert pieces[u] < 2 or all_announced.wait(PATIENCE)
            half(round, sent, size)

        return progress

    monkeypatch.setattr(Kept, "_announced", tell)
    for u in EVERYBODY:
        session.start(u, length=LONG, progress=progress_of(u))
    assert session.run(scheme_of("masking", N, LONG)) == OTHERS
    assert kept[0].most == transport.exchange.MAX_STAGED < N
    assert kept[0].empty


def test_a_client_that_comes_back_is_a_dropout_of_the_session_and_takes_part_in_the_next(
    session: Session,
) -> None:
    """Nobody listens any more to the connection it had before: its user and the operator are told why."""

    def progress(round: str, sent: int, size: int) -> None:
        if round == "masked-input":
            session.start(0)  # the same key again
            assert session.closed[round].wait(PATIENCE)

    told = list[str]()
    session.cohort._tell = told.append
    scheme = scheme_of("masking", N, SHORT)
    session.start(0, progress=progress)
    before = session.clients[0]
    session.start_often(*OTHERS)
    assert session.run(scheme) == OTHERS
    assert session.lost == {0: "restarted"}
    assert session.run(scheme) == EVERYBODY
    assert session.contribution(0).summed
    with pytest.raises(TransportError, match="another process has connected with this client's key and has"):
        before.result()
    (text,) = told
    assert text.startswith("client 0 has connected while its earlier connection still stood; the newer one")


def test_who_comes_in_the_place_of_one_that_had_joined_hears_why_there_is_nothing_for_it(
    session: Session,
) -> None:
    def second() -> tuple[Contribution | None, str]:
        with session.federation.join(0, session.cohort.endpoint) as peer:
            return peer.contribute(lambda task: vector(0, SHORT)), peer.turned_away

    seconds = list[Future[tuple[Contribution | None, str]]]()

    def progress(round: str, sent: int, size: int) -> None:
        if round == "masked-input":
            seconds.append(session.threads.submit(second))
            assert session.closed[round].wait(PATIENCE)

    session.start(0, progress=progress)
    session.start(*OTHERS)
    assert session.run(scheme_of("masking", N, SHORT)) == OTHERS
    session.cohort.close()
    assert seconds[0].result() == (None, "restarted")


@pytest.mark.parametrize("early", [True, False])
def test_who_is_excluded_is_not_asked_and_hears_why_if_it_is_there(session: Session, early: bool) -> None:
    """Nor if it connects while the others join; the next session may ask it again."""

    def waits() -> tuple[bool, str]:
        with session.federation.join(0, session.cohort.endpoint) as peer:
            contribution = peer.contribute(lambda task: vector(0, SHORT))
            return contribution is not None and contribution.summed, peer.turned_away

    def progress(round: str, sent: int, size: int) -> None:
        if round == "join" and not early and not waiting:
            waiting.append(session.threads.submit(waits))
            until(lambda: 0 in session.cohort.connected)

    waiting = [session.threads.submit(waits)] if early else []
    if early:
        assert session.cohort.wait_for_clients(1, PATIENCE) == {0}
    session.start_often(1, progress=progress)
    session.start_often(*OTHERS - {1})
    scheme = scheme_of("masking", N, SHORT)
    assert session.run(scheme, excluded={0: "it lied"}) == OTHERS
    assert session.lost == {0: "it lied"}
    assert session.cohort.wait_for_clients(N, PATIENCE) == EVERYBODY
    assert session.run(scheme) == EVERYBODY
    assert waiting[0].result() == (True, "it lied" if early else "")


def test_of_two_connections_with_one_key_the_newer_is_heard(session: Session) -> None:
    """Both were offered the session, and both join it."""
    said = Event()

    def deed(frame: Frame, payload: Raw | None) -> list[list[Raw]] | None:
        if not is_answer(frame, 0):
            return None
        session.start(0)
        assert session.closed["join"].wait(PATIENCE)
        said.set()
        return [[encode(frame), payload or b""]]

    def progress(round: str, sent: int, size: int) -> None:
        assert round == "join" or said.wait(PATIENCE)

    session.spoil(0, deed, "unmasking")
    session.start(*OTHERS, progress=progress)
    assert session.run(scheme_of("masking", N, SHORT)) == EVERYBODY
    assert session.lost == {}


def test_nothing_is_dropped_when_a_client_does_not_keep_up(session: Session) -> None:
    """More frames than ZeroMQ queues at both ends, to a client that does not read yet."""
    count, reads = 4000, Event()

    def client() -> list[int]:
        with session.federation.join(0, session.cohort.endpoint) as peer:
            send = peer._send
            peer._send = lambda hello: (send(hello), reads.wait(PATIENCE))  # type: ignore[assignment]
            chunks = (peer._next_frame()[0] for _ in range(count))
            return [chunk.offset for chunk in chunks if isinstance(chunk, Chunk)]

    reading = session.threads.submit(client)
    router = session.cohort._router
    assert session.cohort.wait_for_clients(1, PATIENCE) == {0}
    for offset in range(count):
        router.send(0, Chunk(bytes(8), 0, offset), bytes(2**14))
    assert len(router._backlog[0]) > 0
    reads.set()
    while not reading.done():
        session.cohort.wait_for_clients(2, 0.01)
    assert reading.result() == list(range(count))


# Clients that do not do what they should: a normal run with one frame changed


def on_chunk(parts: Callable[[Any, Any], list[list[Raw]]]) -> Deed:
    return lambda frame, payload: parts(frame, payload) if isinstance(frame, Chunk) else None


def changed(frame: Frame, **fields: Any) -> bytes:
    return encode(msgspec.structs.replace(frame, **fields))


def announced(frame: Announce, message: bytes) -> list[Raw]:
    return [changed(frame, size=len(message), checksum=checksum(message)), message]


DEEDS = {
    "garbage": (on_answer(lambda a, p: [[os.urandom(20)]]), "not a client's frame"),
    "nothing": (on_answer(lambda a, p: [[b""]]), "not a client's frame"),
    "what a server says": (on_answer(lambda a, p: [[encode(Close())]]), "not a client's frame"),
    "a part too many": (on_answer(lambda a, p: [[encode(a), p, b""]]), "3 parts in a message frame"),
    "another version": (
        on_answer(lambda a, p: [[encode(Hello(3))]]),
        "client 0 speaks version 3 of the transport, this is 2",
    ),
    "too early": (on_answer(lambda a, p: [[changed(a, number=4), p]]), "a message out of turn"),
    "too late": (on_answer(lambda a, p: [[changed(a, number=2), p]]), "a message out of turn"),
    "another message": (on_answer(lambda a, p: [announced(a, b"x" * 9)]), "not a masked-input message"),
    "another checksum": (on_answer(lambda a, p: [[changed(a, checksum=bytes(16)), p]]), "another checksum"),
    "too large": (on_answer(lambda a, p: [[changed(a, size=10**6)]]), "announced 1000000 bytes; at most"),
    "as large as can be": (on_answer(lambda a, p: [[changed(a, size=2**32 - 1)]]), "at most .* can be due"),
    "larger than it is": (on_answer(lambda a, p: [[changed(a, size=len(p) + 1), p]]), "were announced"),
    "a chunk": (
        on_answer(lambda a, p: [[encode(Chunk(a.session, 3, 0)), b"x"]]),
        "^a chunk that nobody asked for",
    ),
    "a pull": (on_answer(lambda a, p: [[encode(Pull(a.session, 2, 0))]]), "that was not sent"),
    "a leave without a word": (on_answer(lambda a, p: [[encode(Leave(a.session, ""))]]), "^left$"),
    "an oversized frame": (on_answer(lambda a, p: [[bytes(MAX_FRAME_BYTES + 1)]]), "vanished"),
}
LONG_DEEDS = {
    "a chunk twice": (on_chunk(lambda c, p: [[encode(c), p]] * 2), "not the next one asked for"),
    "a short chunk": (on_chunk(lambda c, p: [[encode(c), p[:-1]]]), "a chunk of 262143 bytes"),
    "the wrong chunk": (on_chunk(lambda c, p: [[changed(c, offset=CHUNK_BYTES), p]]), "not the next one"),
    "a second announcement": (
        on_chunk(lambda c, p: [[encode(Announce(c.session, 3, 0, bytes(16))), b""]]),
        "a message out of turn",
    ),
}


@pytest.mark.parametrize("deed", DEEDS)
def test_a_client_that_misbehaves_loses_its_place_and_the_sum_is_exact(session: Session, deed: str) -> None:
    play, why = DEEDS[deed]
    session.spoil(0, play, "masked-input")
    session.start(*OTHERS)
    assert session.run(scheme_of("masking", N, SHORT)) == OTHERS
    assert session.lost.keys() == {0}
    assert session.reports["masked-input"].lost[0] == session.lost[0]
    assert re.search(why, session.lost[0])
    with pytest.raises(TransportError, match="the deed is done"):
        session.clients[0].result()


def test_a_task_beyond_what_a_client_takes_is_refused_before_it_is_sent(session: Session) -> None:
    task = bytes(300_000)
    session.start(0, largest_task=len(task) - 10_000, stay=session.closed["advertise-keys"])
    session.start(*OTHERS, largest_task=len(task))
    assert session.run(scheme_of("masking", N, SHORT), task) == OTHERS
    assert "at most 294096 can be due" in session.lost[0]


@pytest.mark.parametrize("deed", LONG_DEEDS)
def test_an_upload_that_misbehaves_is_forgotten_and_the_sum_is_exact(
    session: Session, kept: list[Kept], deed: str
) -> None:
    play, why = LONG_DEEDS[deed]
    session.spoil(0, play, "masked-input", LONG)
    session.start(*OTHERS, length=LONG)
    assert session.run(scheme_of("masking", N, LONG)) == OTHERS
    assert why in session.reports["masked-input"].lost[0]
    assert kept[0].empty


def test_who_answers_twice_is_lost_but_its_vector_is_in_the_sum(session: Session) -> None:
    twice = on_answer(lambda a, p: [[encode(a), p], [changed(a, number=4), p]])
    session.spoil(0, twice, "unmasking")
    session.start(*OTHERS)
    assert session.run(scheme_of("masking", N, SHORT)) == EVERYBODY
    assert session.lost == {0: "a message out of turn"}  # though it is the same answer
    assert 0 not in session.reports["unmasking"].alive


def test_nobody_holds_a_place_for_an_upload_before_its_round(session: Session, kept: list[Kept]) -> None:
    """One client announces its masked input as soon as it has shared keys, while the others have not: they
    wait until it is lost for that.
    """

    def deed(frame: Frame, payload: Raw | None) -> list[list[Raw]] | None:
        if not is_answer(frame, 2):
            return None
        return [[encode(frame), payload or b""], [changed(frame, number=3, size=2 * CHUNK_BYTES)]]

    def progress(round: str, sent: int, size: int) -> None:
        while round == "share-keys" and not kept[0].lost:
            Event().wait(0.01)

    session.spoil(0, deed, "masked-input", LONG)
    session.start(*OTHERS, length=LONG, progress=progress)
    assert session.run(scheme_of("masking", N, LONG)) == OTHERS
    assert session.reports["share-keys"].lost == {0: "client 0 is not expected in round share-keys"}
    assert kept[0].empty


def test_whoever_is_not_in_the_cohort_is_not_reported_lost(session: Session) -> None:
    """It is in the roster, is offered nothing, and sends garbage."""
    spoke = Event()

    def client() -> None:
        with session.federation.join(0, session.cohort.endpoint) as peer:
            peer._send(Hello(transport.frames.TRANSPORT_VERSION))
            peer._socket.send_multipart([b"garbage"])
            spoke.set()
            assert session.closed["unmasking"].wait(PATIENCE)

    def progress(round: str, sent: int, size: int) -> None:
        assert round == "join" or spoke.wait(PATIENCE)

    left_out = session.threads.submit(client)
    session.start(*OTHERS, progress=progress)
    scheme = scheme_of("masking", N - 1, SHORT)
    assert session.run(scheme, clients=OTHERS) == OTHERS
    assert session.lost == {}
    left_out.result()


def test_a_vector_the_client_cannot_give_is_told_to_it_alone(session: Session) -> None:
    session.start(*OTHERS)
    session.start(0, length=SHORT + 1, stay=session.closed["advertise-keys"])
    assert session.run(scheme_of("masking", N, SHORT)) == OTHERS
    with pytest.raises(LocalProtocolError, match=r"has shape \(6,\), the session's is \(5,\)"):
        session.clients[0].result()
    assert session.lost == {0: "left: it could not take part"}


@every_scheme
def test_before_a_vector_leaves_who_keeps_to_a_budget_is_asked(session: Session, name: str) -> None:
    """Of a scheme without masks as well: what it may tell has been counted, or it stays here."""

    def spent() -> None:
        raise LocalProtocolError("the budget is spent")

    session.start(*OTHERS)
    session.start(0, leaving=spent)
    assert session.run(scheme_of(name, N, SHORT)) == OTHERS
    with pytest.raises(LocalProtocolError, match="the budget is spent"):
        session.clients[0].result()


def test_a_vector_known_beforehand_is_held_against_the_offer_before_it_is_answered(session: Session) -> None:
    def contribute(length: int) -> None:
        with session.federation.join(0, session.cohort.endpoint) as peer:
            peer.contribute(vector(0, length))

    session.start(*OTHERS)
    refused = session.threads.submit(contribute, SHORT + 1)
    assert session.run(scheme_of("masking", N, SHORT)) == OTHERS
    assert session.reports["join"].lost.keys() == {0}
    with pytest.raises(LocalProtocolError, match=r"has shape \(6,\), the session's is \(5,\)"):
        refused.result()


# A server that does not do what it should


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        (lambda id: [b"garbage"], "not a server's frame"),
        (lambda id: [encode(Hello(1))], "not a server's frame"),
        (lambda id: [encode(Announce(id, 7, 0, bytes(16))), b""], "the server sent a message out of turn"),
        (lambda id: [encode(Announce(id, 0, 2**32 - 1, bytes(16)))], "announced 4294967295 bytes"),
        (lambda id: [encode(Chunk(id, 0, 0)), b""], "the server sent a chunk that nobody asked for"),
        (lambda id: [encode(Pull(id, 9, 0))], "asked for a chunk that is not the next one"),
    ],
)
def test_a_client_leaves_a_server_that_misbehaves(
    session: Session, kept: list[Kept], parts: Callable[[bytes], list[Raw]], why: str
) -> None:
    """One client gets a frame too many with the join; the others' session goes on."""

    def tell(server: Any) -> None:
        if server.round == "join" and not server.waiting_for:
            router = session.cohort._router
            router._socket.send_multipart([router._routes[0], *parts(kept[0].id)])

    session.start(*OTHERS)
    session.start(0, stay=session.closed["unmasking"])
    scheme = Instrumented(scheme_of("masking", N, SHORT), lambda server: Telling(server, tell))
    assert session.run(scheme) == OTHERS
    with pytest.raises(RemoteProtocolError, match=why):
        session.clients[0].result()
    assert session.lost[0].startswith("left: ")


# Who may connect, and to whom


def test_a_strangers_key_is_refused_and_it_is_told(
    federation: Federation, strangers: Federation, cohort: Cohort, capfd: pytest.CaptureFixture[str]
) -> None:
    key, server = strangers.clients[0] / "client.key", federation.clients[0] / "server.pub"
    with (
        join(cohort.endpoint, key, server) as peer,
        pytest.raises(TransportError, match="does not know this client's key: its roster must list it"),
    ):
        peer.contribute(lambda task: [])
    assert cohort.wait_for_clients(1, 0) == frozenset()
    assert capfd.readouterr() == ("", "")


def test_a_client_of_another_version_is_told_so(
    federation: Federation,
    cohort: Cohort,
    threads: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("transport.line.TRANSPORT_VERSION", 9)
    client = threads.submit(federation.contribute, 0, cohort.endpoint, SHORT)
    while not client.done():
        assert cohort.wait_for_clients(1, 0.05) == frozenset()
    with pytest.raises(
        TransportError, match=r"speaks version 2 of the transport, this client 9: .*install the same release"
    ):
        client.result()


def test_a_server_with_another_key_is_not_talked_to(
    federation: Federation, strangers: Federation, cohort: Cohort
) -> None:
    with (
        federation.join(0, cohort.endpoint, server=strangers.clients[0] / "server.pub") as peer,
        pytest.raises(TransportError, match="not the server this client holds the key of"),
    ):
        peer.contribute(lambda task: [])
    assert cohort.wait_for_clients(1, 0) == frozenset()


def test_plain_is_refused_unless_the_client_allows_it(session: Session) -> None:
    session.start(*OTHERS)
    session.start(0, policy=Policy(adversary="semi-honest"), stay=session.closed["join"])
    assert session.run(scheme_of("plain", N, SHORT)) == OTHERS
    with pytest.raises(RemoteProtocolError, match=r'offers the scheme plain.*\{"plain"\}'):
        session.clients[0].result()
    assert session.reports["join"].lost[0].startswith("left: the server offers the scheme plain")


def test_a_cohort_smaller_than_the_client_wants_is_refused(session: Session) -> None:
    session.start(*OTHERS)
    session.start(
        0, policy=Policy(adversary="semi-honest", smallest_cohort=N + 1), stay=session.closed["join"]
    )
    assert session.run(scheme_of("masking", N, SHORT)) == OTHERS
    with pytest.raises(RemoteProtocolError, match="a cohort of 5; this client takes part from 6"):
        session.clients[0].result()


def test_an_older_roster_is_refused(federation: Federation, tmp_path: Path) -> None:
    shutil.copy(federation.clients[0] / "client.key", tmp_path)
    own, keeper = read_private(tmp_path / "client.key"), generate("roster")
    write_public(tmp_path / "roster.pub", keeper.public)
    files = {"key": tmp_path / "client.key", "roster": tmp_path / "roster"}
    for version in (1, 2):
        files["roster"].write_bytes(sign([own.public], version, keeper))
        federation.join(0, "tcp://127.0.0.1:9", **files).close()
    files["roster"].write_bytes(sign([own.public], 1, keeper))
    with pytest.raises(TransportError, match="version 1, but version 2 was seen before"):
        federation.join(0, "tcp://127.0.0.1:9", **files)


def test_a_roster_without_the_clients_own_key_is_refused(
    federation: Federation, strangers: Federation
) -> None:
    with pytest.raises(TransportError, match=r"does not list the key in .*client\.key"):
        federation.join(0, "tcp://127.0.0.1:9", key=strangers.clients[0] / "client.key")


def test_a_roster_that_is_not_signed_serves_and_joins_nobody(federation: Federation, tmp_path: Path) -> None:
    text = (federation.server / "roster").read_bytes()
    (tmp_path / "roster").write_bytes(text[: text.index(b"signature")])
    shutil.copy(federation.server / "roster.pub", tmp_path)
    with pytest.raises(TransportError, match="not signed"):
        federation.join(0, "tcp://127.0.0.1:9", roster=tmp_path / "roster")
    with pytest.raises(TransportError, match="not signed"):
        serve("tcp://127.0.0.1:*", federation.server / "server.key", tmp_path / "roster")


# Servers that are not there


def gives_up(client: Future[Any], clock: Clock) -> None:
    """Its patience comes to an end, however late it heard the last word."""
    while not client.done():
        clock.ahead += PATIENCE + 1
        wait([client], timeout=0.1)
    with pytest.raises(
        TransportError,
        match=r"is gone.*(then join again|Ask the server's operator before contributing it again)",
    ):
        client.result()


def test_a_port_in_use_is_an_error_that_leaves_nothing_open(federation: Federation, cohort: Cohort) -> None:
    before = threading.active_count()
    with pytest.raises(TransportError, match=r"is in use: stop what listens there, or choose another port"):
        federation.serve(cohort.endpoint)
    assert threading.active_count() == before


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_no_time_is_no_deadline_and_no_patience(session: Session, seconds: float) -> None:
    with pytest.raises(LocalProtocolError, match=r"a deadline of .* seconds for join: give more than 0"):
        session.run(scheme_of("masking", N, SHORT), deadlines={"join": seconds})
    with pytest.raises(LocalProtocolError, match=r"a patience of .* seconds: give more than 0"):
        session.federation.join(0, session.cohort.endpoint, patience=seconds)


def test_an_address_that_is_none_is_an_error(federation: Federation) -> None:
    with pytest.raises(LocalProtocolError, match=r"should look like tcp://\*:5555"):
        federation.serve("127.0.0.1")
    with pytest.raises(LocalProtocolError, match="should look like tcp://host:5555"):
        federation.join(0, "127.0.0.1")


def test_a_client_gives_up_on_a_server_that_was_never_there(
    federation: Federation, threads: ThreadPoolExecutor, clients_clock: Clock
) -> None:
    with federation.serve() as cohort:
        nowhere = cohort.endpoint
    gives_up(threads.submit(federation.contribute, 0, nowhere, SHORT), clients_clock)


def test_of_a_server_whose_process_lives_it_has_no_end(
    federation: Federation, threads: ThreadPoolExecutor, clients_clock: Clock
) -> None:
    with federation.serve() as cohort:
        nowhere = cohort.endpoint
    asked, lives = Event(), [True]

    def is_alive() -> bool:
        """A year passes each time."""
        clients_clock.ahead += 3e7
        if lives[0] and clients_clock.ahead > 1e8:
            asked.set()
        return lives[0]

    def wait_for_it() -> None:
        with federation.join(0, nowhere, lives=is_alive) as peer:
            peer.contribute(lambda task: vector(0, SHORT))

    client = threads.submit(wait_for_it)
    assert asked.wait(PATIENCE)
    assert not client.done()
    lives[0] = False
    gives_up(client, clients_clock)


def test_a_client_gives_up_on_a_server_that_falls_silent(session: Session, clients_clock: Clock) -> None:
    session.start(0)
    assert session.cohort.wait_for_clients(1, PATIENCE) == {0}
    gives_up(session.clients[0], clients_clock)  # while this server does nothing


def test_a_client_gives_up_on_a_server_that_is_killed(session: Session, clients_clock: Clock) -> None:
    def client() -> None:
        with session.federation.join(0, session.cohort.endpoint) as peer:
            contribution = peer.contribute(lambda task: vector(0, SHORT))
            assert contribution is not None
            assert (contribution.summed, contribution.reason) == (False, "the connection was lost")
            peer.contribute(lambda task: vector(0, SHORT))

    def killed(report: RoundReport) -> None:
        session.cohort._router.close()
        raise SystemError

    session.start(*OTHERS)
    last = session.threads.submit(client)
    with pytest.raises(SystemError):
        session.run(scheme_of("masking", N, SHORT), watch=killed)
    gives_up(last, clients_clock)


def test_a_server_that_closes_says_so(session: Session) -> None:
    """Be it in the middle of a session: its clients do not wait for another."""

    def interrupted(report: RoundReport) -> None:
        raise KeyboardInterrupt

    clients = session.start_often(*EVERYBODY)
    with pytest.raises(KeyboardInterrupt):
        session.run(scheme_of("masking", N, SHORT), watch=interrupted)
    session.cohort.close()
    for client in clients:
        assert [(c.summed, c.reason) for c in client.result()] == [(False, "the server has closed")]


def test_what_a_server_said_before_it_closed_is_heard(session: Session) -> None:
    """A client looks up only after the server has gone, and finds that its vector is in the sum."""
    closed = Event()

    def client() -> Contribution | None:
        with session.federation.join(0, session.cohort.endpoint) as peer:
            send = peer._send

            def slowly(frame: Frame, payload: Raw | None = None) -> None:
                send(frame, payload)
                assert not is_answer(frame, 4) or closed.wait(PATIENCE)

            peer._send = slowly  # type: ignore[method-assign]
            return peer.contribute(lambda task: vector(0, SHORT))

    session.clients[0] = session.threads.submit(client)
    session.start(*OTHERS)
    assert session.run(scheme_of("masking", N, SHORT)) == EVERYBODY
    session.cohort.close()
    closed.set()
    assert session.contribution(0).summed


# What it costs, and what is fresh


def test_every_client_sends_and_receives_what_the_formula_says(session: Session) -> None:
    task = bytes(1000)
    scheme = scheme_of("masking", N, LONG)
    session.start(2, 3, 4, length=LONG)
    session.start(0, length=LONG, progress=vanish("share-keys"))
    session.start(1, length=LONG, progress=vanish("masked-input", 0.5))
    survivors = session.run(scheme, task)
    U1, U2, U3 = (session.reports[round].alive for round in ROUNDS[1:4])
    assert (EVERYBODY, OTHERS, survivors) == (U1, U2, U3)
    for u in survivors:
        formula = traffic(scheme, len(task), u, U1, U2, U3)  # type: ignore[arg-type]
        measured = {round: (report.up[u], report.down.get(u, 0)) for round, report in session.reports.items()}
        assert measured == formula


@every_scheme
@pytest.mark.parametrize("length", [SHORT, LONG], ids=["short", "long"])
def test_the_bytes_of_all_frames_are_what_the_formula_says(session: Session, name: str, length: int) -> None:
    scheme = scheme_of(name, N, length)
    session.start(*EVERYBODY, length=length)
    session.cohort.wait_for_clients(N, PATIENCE)
    session.run(scheme, os.urandom(2 * CHUNK_BYTES))
    for number, round in enumerate(scheme.rounds):
        report = session.reports[round]
        answers = [wire_bytes(size, number) for size in report.up.values()]
        requests = [wire_bytes(size, number - 1) for size in report.down.values()]
        offers = N * len(encode(Offer(bytes(8), scheme.offer()))) if round == "join" else 0
        assert report.wire_up == sum(up for up, _ in answers) + sum(back for _, back in requests)
        assert report.wire_down == sum(down for down, _ in requests) + sum(b for _, b in answers) + offers


def test_two_sessions_alike_share_no_key_and_no_masked_word(session: Session) -> None:
    """The same vectors and rounding seeds; a task cannot be the same."""
    keys, words, views = [], [], []

    def record(server: Any) -> Recorded:
        views.append(Recorded(server))
        return views[-1]

    session.start_often(*EVERYBODY, rounding_seed=bytes(32))
    for _ in range(2):
        session.run(Instrumented(scheme_of("masking", N, SHORT), record))
    for recorded in views:
        said = {(round, u): message for round, u, message in recorded.view.received}
        advertised = [decode(AdvertiseKeys, said["advertise-keys", u]) for u in EVERYBODY]
        keys.append({key for message in advertised for key in (message.c_pk, message.s_pk)})
        packed = [decode(MaskedInput, said["masked-input", u]).packed[0] for u in EVERYBODY]
        words.append([bits_of(bytes(vector)) for vector in packed])
    assert len(keys[0] | keys[1]) == 4 * N
    assert (np.array(words[0]) != np.array(words[1])).all()


def bits_of(packed: bytes) -> list[int]:
    """The words of a SHORT vector of N clients."""
    width = scheme_of("masking", N, SHORT).vectors[""].ring_bits(N)
    number = int.from_bytes(packed, "little")
    return [number >> i * width & (1 << width) - 1 for i in range(SHORT)]


def test_what_a_client_inspects_and_refuses_stays_with_it_and_nothing_is_on_its_record(
    federation: Federation, threads: ThreadPoolExecutor
) -> None:
    task, seen = os.urandom(16), list[tuple[bytes, Mapping[str, Any]]]()
    journal = federation.clients[0] / "client.key.journal"
    before = journal.read_bytes() if journal.exists() else b""

    def inspect(task: bytes, vectors: Mapping[str, Any]) -> None:
        seen.append((task, vectors))
        raise ValueError("not this one")

    def refusing(endpoint: str) -> None:
        with federation.join(0, endpoint, inspect=inspect) as peer:
            with pytest.raises(ValueError, match="not this one"):
                peer.contribute(lambda task: vector(0, SHORT))
            session.closed["masked-input"].wait(PATIENCE)

    with federation.serve() as cohort:
        session = Session(federation, cohort, threads)
        session.start(*OTHERS)
        refused = threads.submit(refusing, cohort.endpoint)
        assert session.run(scheme_of("masking", N, SHORT), task) == OTHERS
        refused.result()
    assert session.lost == {0: "left: it could not take part"}  # not why: that may tell of its data
    assert seen[0][0] == task
    np.testing.assert_array_equal(seen[0][1][""], vector(0, SHORT))
    assert (journal.read_bytes() if journal.exists() else b"") == before


def test_decoys_are_inspected_each_by_itself(federation: Federation) -> None:
    seen = list[float]()
    with federation.join(
        0, "tcp://127.0.0.1:1", inspect=lambda task, vectors: seen.append(vectors["x"][0])
    ) as peer:
        true, decoy = ({"x": np.array([value])} for value in (1.0, 2.0))
        among = Among(true, [decoy])
        assert peer._inspected(lambda task: among)(b"") is among
    assert seen == [1.0, 2.0]
