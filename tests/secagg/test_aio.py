"""Sessions driven in asyncio: the sum whoever fails, the reason why, and nothing left running."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from secagg import Aggregate, LocalProtocolError, RemoteProtocolError, TooFewClients, aio
from secagg.session import relays_of
from tests.play import TASK, among, identities, learned, rounding_seed, seeded
from tests.secagg.helpers import FIVE, MIXED, SCHEMES, assert_sum_of, mixed_inputs

IDS = range(5)
INPUTS = mixed_inputs(IDS)
every_scheme = pytest.mark.parametrize("name", SCHEMES)
Heard = tuple[int, bytes | Exception]


class Hall:
    """A server and its parties, a queue for each way, all in one loop.

    rules: (round, party, request) -> what becomes of it before it is sent; what it raises, sending raises.
    """

    def __init__(self, scheme: Any, *, rules: Callable[[str, int], Awaitable[None]] | None = None) -> None:
        self.scheme, self.rules = scheme, rules
        roster, keys = identities(IDS)
        self.server = scheme.server(IDS, TASK, roster=roster)
        self.parties: dict[int, Any] = {
            u: scheme.client(
                u,
                lambda task, u=u: among(scheme, INPUTS[u]),
                rounding_seed=rounding_seed(u),
                identity=keys[u],
            )
            for u in IDS
        }
        relays = relays_of(scheme)
        self.parties |= {r: scheme.relay(j, identity=keys[r]) for j, r in enumerate(relays)}
        self.inbox: asyncio.Queue[Heard] = asyncio.Queue()
        self.outboxes: dict[int, asyncio.Queue[bytes]] = {u: asyncio.Queue() for u in self.parties}
        self.closed: list[aio.Closed] = []
        self.asked: list[tuple[str, int]] = []

    async def send(self, u: int, message: bytes) -> None:
        self.asked.append((self.server.round, u))
        if self.rules is not None:
            await self.rules(self.server.round, u)
        self.outboxes[u].put_nowait(message)

    async def drive(self, **more: Any) -> Aggregate:
        return await aio.drive(self.server, self.inbox.get, self.send, watch=self.closed.append, **more)

    async def party(self, u: int, *, joint: bool = False) -> Aggregate | None:
        async def say(message: bytes) -> None:
            self.inbox.put_nowait((u, message))

        return await aio.take_part(self.parties[u], self.outboxes[u].get, say, joint=joint)

    async def session(self, *, without: frozenset[int] = frozenset(), **more: Any) -> Aggregate:
        """The result, while all parties but some take part."""
        parts = [asyncio.create_task(self.party(u)) for u in self.parties if u not in without]
        try:
            return await self.drive(**more)
        finally:
            await aio._ended(parts)

    def lost(self) -> dict[int, str]:
        return {u: why for closed in self.closed for u, why in closed.lost.items()}


def played(test: Coroutine[Any, Any, Any]) -> Any:
    """In a loop of its own, in which nothing is left running, and nothing was said to be wrong."""

    async def alone() -> Any:
        complaints: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, what: complaints.append(what))
        try:
            return await asyncio.wait_for(test, 300)
        finally:
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, left
            assert not complaints, complaints

    return asyncio.run(alone())


def five(**more: Any) -> Hall:
    return Hall(FIVE["active"], **more)


@every_scheme
def test_a_session_is_driven_to_its_sum(name: str) -> None:
    async def test() -> None:
        hall = Hall(SCHEMES[name](IDS, MIXED))
        parts = [asyncio.create_task(hall.party(u)) for u in hall.parties]
        await hall.drive()
        kept = [own for own in await asyncio.gather(*parts) if own is not None]
        assert len(kept) == (5 if name in ("ckks-keep", "decoys") else 0)
        total = learned(hall.server.result, hall.parties.values())
        assert_sum_of(hall.scheme, INPUTS, total, IDS)
        assert [closed.round for closed in hall.closed] == list(hall.scheme.rounds)
        assert hall.closed[0].answered == hall.parties.keys()
        assert hall.lost() == {}

    played(test())


@pytest.mark.parametrize("name", ["plain", "active", "split"])
def test_a_session_that_was_opened_jointly_goes_on_from_where_it_is(name: str) -> None:
    async def test() -> None:
        hall = Hall(SCHEMES[name](IDS, MIXED))
        for u, request in hall.server.open_jointly().items():
            await hall.send(u, request)
        own = [asyncio.create_task(hall.party(u, joint=True)) for u in hall.parties]
        assert_sum_of(hall.scheme, INPUTS, await hall.drive(), IDS)
        await asyncio.gather(*own)
        assert [closed.round for closed in hall.closed] == list(hall.scheme.rounds[1:])

    played(test())


def test_who_does_not_answer_in_time_is_out_and_nobody_else() -> None:
    asked: list[str] = []

    async def test() -> None:
        hall, everybody = five(), asyncio.Event()

        async def time(round: str) -> None:
            asked.append(round)
            if round == "join":
                await everybody.wait()
            else:
                await asyncio.Event().wait()  # has no end, and is not waited for

        parts = [asyncio.create_task(hall.party(u)) for u in (0, 1, 2, 3)]
        driving = asyncio.create_task(hall.drive(deadlines=time))
        while hall.server.waiting_for != {4}:
            await asyncio.sleep(0)
        everybody.set()
        assert_sum_of(hall.scheme, INPUTS, await driving, {0, 1, 2, 3})
        await asyncio.gather(*parts)
        assert hall.closed[0].lost == {4: "it did not answer in time"}
        assert asked == list(hall.scheme.rounds)

    played(test())


@pytest.mark.parametrize("fails", ["sending", "receiving", "sending without a word"])
def test_a_peer_that_fails_is_lost_with_the_reason(fails: str) -> None:
    async def fail(round: str, u: int) -> None:
        if (round, u) == ("share-keys", 3):
            if fails == "receiving":
                hall.inbox.put_nowait((3, ConnectionResetError("it hung up")))
                await asyncio.Event().wait()
            raise ConnectionResetError("it hung up" if fails == "sending" else "")

    hall = five(rules=fail)
    assert_sum_of(hall.scheme, INPUTS, played(hall.session()), {0, 1, 2, 4})
    why = "ConnectionResetError" if "word" in fails else "it hung up"
    assert hall.server.gone == hall.lost() == {3: why}
    assert ("masked-input", 3) not in hall.asked


def test_who_is_refused_is_out_with_the_reason() -> None:
    async def test() -> None:
        hall = five()
        hall.inbox.put_nowait((4, b"garbage"))
        hall.inbox.put_nowait((7, b"who is no client"))
        assert_sum_of(hall.scheme, INPUTS, await hall.session(without=frozenset({4})), {0, 1, 2, 3})
        assert hall.lost().keys() == {4, 7}
        assert hall.lost()[4].startswith("client 4, join: not a join message")

    played(test())


def test_a_slow_reader_holds_up_nobody() -> None:
    """The round is over for it when its time is, and what was being sent to it is given up."""
    cancelled = []

    async def stall(round: str, u: int) -> None:
        if (round, u) == ("share-keys", 0):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(u)
                raise

    async def test() -> None:
        hall = five(rules=stall)

        async def time(round: str) -> None:
            while round != "share-keys" or hall.server.waiting_for != {0}:
                await asyncio.sleep(0)

        assert_sum_of(hall.scheme, INPUTS, await hall.session(deadlines=time), {1, 2, 3, 4})
        assert hall.lost() == {0: "it did not answer in time"}

    played(test())
    assert cancelled == [0]


def test_two_messages_to_one_party_are_sent_one_after_the_other() -> None:
    """Also where an answer was quicker than the end of what it answers."""
    order: list[str] = []

    async def test() -> None:
        hall = five()
        gate = asyncio.Event()

        async def send(u: int, message: bytes) -> None:
            order.append(f"{hall.server.round} begins") if u == 0 else None
            hall.outboxes[u].put_nowait(message)
            if u == 0 and hall.server.round == "advertise-keys":
                await gate.wait()
                order.append("advertise-keys ends")

        def closed(report: aio.Closed) -> None:
            if report.round == "advertise-keys":
                asyncio.get_running_loop().call_soon(gate.set)

        parts = [asyncio.create_task(hall.party(u)) for u in hall.parties]
        await aio.drive(hall.server, hall.inbox.get, send, watch=closed)
        await asyncio.gather(*parts)

    played(test())
    assert order[:3] == ["advertise-keys begins", "advertise-keys ends", "share-keys begins"]


def test_too_few_clients_reach_the_caller() -> None:
    async def test() -> None:
        hall = five()
        for u in (0, 1, 2):
            hall.inbox.put_nowait((u, ConnectionResetError("gone")))
        with pytest.raises(TooFewClients):
            await hall.session(without=frozenset({0, 1, 2}))
        assert (hall.server.round, hall.lost().keys()) == ("done", {0, 1, 2})

    played(test())


@pytest.mark.parametrize("round", ["consistency-check", "unmasking"])
def test_a_finishing_round_waits_on_over_its_time_for_those_who_may_answer(round: str) -> None:
    """Who has signed a set of survivors signs no other: the sum is finished with them or never."""
    late: list[int] = []

    async def hold(now: str, u: int) -> None:
        if now == round and u > 1:
            late.append(u)
            await back.wait()

    async def test() -> None:
        over = asyncio.Event()

        async def time(now: str) -> None:
            if now != round:
                await asyncio.Event().wait()
            while hall.server.waiting_for != {2, 3, 4}:
                await asyncio.sleep(0)
            asyncio.get_running_loop().call_later(0, over.set)

        session = asyncio.create_task(hall.session(deadlines=time))
        await over.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        assert not session.done()
        assert hall.server.round == round
        back.set()
        assert_sum_of(hall.scheme, INPUTS, await session, IDS)

    back, hall = asyncio.Event(), five(rules=hold)
    played(test())
    assert sorted(late) == [2, 3, 4]


def test_a_finishing_round_that_nobody_can_finish_is_the_callers_to_take_up_again() -> None:
    async def test() -> None:
        hall = five()

        async def hang_up(round: str, u: int) -> None:
            if round == "unmasking" and u > 1:
                raise ConnectionResetError("it hung up")

        hall.rules = hang_up
        with pytest.raises(TooFewClients, match="2 clients left in round unmasking"):
            await hall.session()
        assert (hall.server.round, hall.server.waiting_for) == ("unmasking", set())
        assert hall.closed[-1].lost == dict.fromkeys((2, 3, 4), "it hung up")

    played(test())


def test_who_is_cancelled_leaves_nothing_behind_and_may_go_on_later() -> None:
    async def test() -> None:
        hall = five()
        parts = [asyncio.create_task(hall.party(u)) for u in (0, 1, 2, 3)]
        before = asyncio.all_tasks()
        driving = asyncio.create_task(hall.drive(deadlines=lambda round: asyncio.Event().wait()))
        while hall.server.waiting_for != {4}:
            await asyncio.sleep(0)
        driving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await driving
        assert asyncio.all_tasks() == before
        parts.append(asyncio.create_task(hall.party(4)))
        assert_sum_of(hall.scheme, INPUTS, await hall.drive(), IDS)
        await asyncio.gather(*parts)

    played(test())


@pytest.mark.parametrize("what", ["receive", "deadlines", "watch"])
def test_what_the_callers_own_functions_raise_reaches_it(what: str) -> None:
    async def broken(*arguments: Any) -> Any:
        raise OSError(what)

    def told(closed: aio.Closed) -> None:
        raise OSError(what)

    async def test() -> None:
        hall = five()
        parts = [asyncio.create_task(hall.party(u)) for u in IDS]
        given = {"receive": hall.inbox.get, "send": hall.send, "watch": told if what == "watch" else print}
        given |= {what: broken} if what != "watch" else {}
        given["watch"] = given["watch"] if what == "watch" else lambda closed: None
        try:
            with pytest.raises(OSError, match=what):
                await aio.drive(hall.server, **given)
        finally:
            await aio._ended(parts)

    played(test())


def test_a_client_says_again_what_it_was_asked_again() -> None:
    """At least once: a long reply, too, which the session does not keep."""

    async def test() -> None:
        hall = Hall(SCHEMES["semi-honest"](IDS, MIXED))
        said: list[bytes] = []
        heard: asyncio.Queue[bytes] = asyncio.Queue()
        part = asyncio.create_task(aio.take_part(Forgetful(hall.parties[0]), heard.get, collect(said)))
        hall.server.receive(0, await nth(said, 0))
        for u in IDS[1:]:
            hall.server.receive(u, hall.parties[u].start())
        request = hall.server.advance()[0]
        heard.put_nowait(request)
        heard.put_nowait(request)
        assert await nth(said, 1) == await nth(said, 2)
        heard.put_nowait(b"garbage")
        with pytest.raises(RemoteProtocolError):
            await part

    played(test())


class Forgetful:
    """A session whose replies are all too long to keep."""

    done = False

    def __init__(self, session: Any) -> None:
        self._session, self._last = session, b""

    def start(self) -> bytes:
        return self._session.start()

    def receive(self, message: bytes) -> bytes | None:
        last, self._last = self._last, message
        reply = self._session.receive(message)
        return None if message == last else reply


def collect(said: list[bytes]) -> Callable[[bytes], Awaitable[None]]:
    async def send(message: bytes) -> None:
        said.append(message)

    return send


async def nth(said: list[bytes], n: int) -> bytes:
    while len(said) <= n:
        await asyncio.sleep(0)
    return said[n]


def test_a_session_that_is_over_is_not_driven() -> None:
    server = FIVE["active"].server(IDS, TASK, roster=identities(IDS)[0], rng=seeded(0))
    with pytest.raises(TooFewClients):
        server.advance()
    with pytest.raises(LocalProtocolError, match="over"):
        played(aio.drive(server, asyncio.Event().wait, lambda u, message: asyncio.sleep(0)))  # type: ignore[arg-type]
