"""A session in asyncio, over whatever brings whole messages: a server's rounds, and a party's part in them.

What is awaited is what the caller hands in: no sockets are here, and no clock. asyncio is, for a server has
to hear its clients while one of them is slow to read, and to stop hearing when a round's time is up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from secagg.aggregate import Aggregate
from secagg.errors import ClientId, RemoteProtocolError, TooFewClients
from secagg.session import ClientSession, ServerSession
from secagg.wire import Raw

Receive = Callable[[], Awaitable[tuple[ClientId, Raw | Exception]]]
"""The next whole message of any party, by the id that its channel says it has; in the place of a message the
exception with which its channel ended, after which it is lost."""

Send = Callable[[ClientId, bytes], Awaitable[None]]
"""One whole message to one party. What it raises loses that party."""


@dataclass(frozen=True)
class Closed:
    """A round that is over. answered: who did. lost: who has lost its place since the round before, perhaps
    after its answer, and why.
    """

    round: str
    answered: frozenset[ClientId]
    lost: Mapping[ClientId, str]


async def drive(
    session: ServerSession,
    receive: Receive,
    send: Send,
    *,
    deadlines: Callable[[str], Awaitable[object]] | None = None,
    watch: Callable[[Closed], None] = lambda closed: None,
) -> Aggregate:
    """The rounds of a session, from the one that is open to the result.

    The offers are the caller's to send before, and so are the requests of `open_jointly`. receive: awaited
    again and again, one at a time. send: awaited for all of a round at once, of one party one after the
    other. deadlines: round -> what ends when its time is up, such as `asyncio.sleep(60)`; who has not
    answered then is out. None: each waits for all who are not lost. watch: told of each round as it ends.

    A round after the survivors were shown (`Scheme.finishing_rounds`) goes on over its time for as long as
    too few have answered and more may. Whatever ends this, nothing that it began runs on.

    Raises: TooFewClients; where `session.round` is not "done" then, the sum is to be had by this session or
    not at all, and by another call of this if somebody it waits for is heard again. RemoteProtocolError where
    what clients have said does not open the sum. What `receive`, `deadlines` and `watch` raise.

    Security: a round is computed in the loop's thread, unmasking too; who answers meanwhile waits in its
    channel.
    """
    driven = _Driven(session, receive, send)
    try:
        while session.result is None:
            closing = session.round
            try:
                requests = await driven.over(deadlines)
            except TooFewClients:
                watch(driven.closed(closing))
                raise
            watch(driven.closed(closing))
            driven.ask(requests)
        return session.result
    finally:
        await driven.stop()


async def take_part(
    session: ClientSession,
    receive: Callable[[], Awaitable[Raw]],
    send: Callable[[bytes], Awaitable[None]],
    *,
    joint: bool = False,
) -> Aggregate | None:
    """A client's part, or a relay's, until it has said all it has to say; the sum, where clients keep it.

    receive, send: the server's next whole message, and one to it. joint: the first comes with the offer
    (`ServerSession.open_jointly`). A policy's `answer_after` is the caller's to keep, in `send`.

    Raises: RemoteProtocolError; what `receive`, `send` and the session's vectors raise.
    """
    said = session.start_jointly(await receive()) if joint else session.start()
    await send(said)
    while not session.done:
        reply = session.receive(await receive())
        said = said if reply is None else reply  # None: what it was asked last has come again
        await send(said)
    return session.result


class _Driven:
    """A session with what is awaited for it: one `receive`, and a `send` to each who has not taken it yet."""

    def __init__(self, session: ServerSession, receive: Receive, send: Send) -> None:
        self._session, self._receive, self._send = session, receive, send
        self._receiving: asyncio.Future[tuple[ClientId, Raw | Exception]] | None = None
        self._sending: dict[ClientId, asyncio.Task[None]] = {}
        self._answered: set[ClientId] = set()
        self._lost: dict[ClientId, str] = {}

    async def over(self, deadlines: Callable[[str], Awaitable[object]] | None) -> dict[ClientId, bytes]:
        """The requests that follow the open round, once it is over. Raises: TooFewClients."""
        session = self._session
        closing = session.round
        deadline = None if deadlines is None else asyncio.ensure_future(deadlines(closing))
        try:
            while session.waiting_for and not (deadline is not None and deadline.done()):
                await self._next(deadline)
            if deadline is not None and deadline.done():
                deadline.result()  # it may have failed
        finally:
            await _ended([deadline] if deadline is not None else [])
        while True:
            late = session.waiting_for
            try:
                requests = session.advance()
            except TooFewClients:
                if session.round != closing or not late:
                    raise
            else:
                self._lost |= dict.fromkeys(late, "it did not answer in time")
                return requests
            while session.waiting_for == late:  # nobody else can give this sum
                await self._next(None)

    def ask(self, requests: Mapping[ClientId, bytes]) -> None:
        for u, message in requests.items():
            self._sending[u] = asyncio.create_task(self._say(u, message, self._sending.get(u)))

    def closed(self, round: str) -> Closed:
        report = Closed(round, frozenset(self._answered), self._lost)
        self._answered, self._lost = set(), {}
        return report

    async def stop(self) -> None:
        await _ended([*self._sending.values(), *([self._receiving] if self._receiving else [])])

    async def _say(self, u: ClientId, message: bytes, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await before  # if this is cancelled, that is; what it raises, this does
        await self._send(u, message)

    async def _next(self, deadline: asyncio.Future[object] | None) -> None:
        """Until something was heard, or somebody is lost, or time is up."""
        if self._receiving is None:
            self._receiving = asyncio.ensure_future(self._receive())
        ends: set[asyncio.Future[Any]] = {self._receiving, *self._sending.values()}
        ends |= {deadline} if deadline is not None else set()
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for u, sent in [(u, task) for u, task in self._sending.items() if task.done()]:
            del self._sending[u]
            if sent.cancelled():
                self._lose(u, "what was sent to it was cancelled")
            elif (error := sent.exception()) is not None:
                self._lose(u, _why(error))
        if self._receiving.done():
            heard, self._receiving = self._receiving.result(), None
            self._hear(*heard)

    def _hear(self, u: ClientId, message: Raw | Exception) -> None:
        if isinstance(message, Exception):
            self._lose(u, _why(message))
            return
        awaited = self._session.waiting_for
        try:
            self._session.receive(u, message)
        except RemoteProtocolError as error:
            self._lost[u] = str(error)
        else:
            self._answered |= awaited - self._session.waiting_for

    def _lose(self, u: ClientId, why: str) -> None:
        if u in self._session.members:
            self._lost[u] = why
            self._session.lose(u, why)


def _why(error: BaseException) -> str:
    return str(error) or type(error).__name__


async def _ended(tasks: list[asyncio.Future[Any]]) -> None:
    """Nothing is left behind."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
