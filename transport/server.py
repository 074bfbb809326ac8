"""The server's end of sessions of any scheme.

The clock is here: a round closes when everybody it waits for has answered, has vanished, or is late.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from secagg import (
    Aggregate,
    LocalProtocolError,
    Masking,
    RemoteProtocolError,
    Scheme,
    SecAggError,
    ServerSession,
    TooFewClients,
)
from secagg.alike import Alike, Likeness, Record
from secagg.crypto import SigningKey
from secagg.errors import ClientId, counted
from secagg.identity import party
from secagg.parallel import Executor
from secagg.session import relays_of
from secagg.specs import Vectors
from secagg.wire import relay_of
from transport.errors import Refused, Unfinished, clients
from transport.exchange import Exchange, RoundReport, Standing
from transport.frames import (
    MAX_MESSAGE_BYTES,
    TRANSPORT_VERSION,
    Close,
    End,
    Hello,
    Refuse,
    decode_from_client,
    reason,
)
from transport.journal import SignedSets
from transport.kept import kept as kept_session
from transport.kept import taken_up
from transport.keys import Readers, read_private, read_public
from transport.records import base_of
from transport.roster import Roster
from transport.roster import read as read_roster
from transport.router import Router

TICK_SECONDS = 0.25

JOIN_SECONDS = 60.0
SLOW_SECONDS = 600.0  # of a round in which clients compute for long: they train
ROUND_SECONDS = 120.0  # of any other
FINISH_SECONDS = 600.0  # beyond the deadline, for those without whom a sum whose vectors have left is lost

REASONS = 3  # that are told of clients which refuse

Watch = Callable[[RoundReport], None]
Keep = Callable[[bytes], None]
Lives = Callable[[], Collection[ClientId]]
Tell = Callable[[str], None]
"""Told in a sentence what the operator can do something about."""


def serve(
    bind: str,
    key: str | Path,
    roster: str | Path,
    roster_key: str | Path | None = None,
    *,
    state: str | Path | None = None,
    readers: Readers = "owner",
    lives: Lives | None = None,
    finish: float = FINISH_SECONDS,
    tell: Tell = lambda text: None,
) -> Cohort:
    """Listen for the clients of a roster, and its relays.

    bind: a ZeroMQ address, "tcp://*:5555"; "tcp://127.0.0.1:*" takes a free port; * is all of IPv4, and
    [::] all of IPv6 too. key: the server's private key file. roster: the signed roster. roster_key: the
    public key it must be signed with, `<roster>.pub` unless given. Sets of clients that were summed of like
    vectors are kept in `<key>.signed`, or in the folder `state`. readers: who may read the key's file,
    "owner", "group" or "all". lives: of clients and relays on this machine, whose process does; then no
    round has a deadline that is not given, and nobody is waited for whose process has ended. finish: seconds
    beyond its deadline that a round after the vectors have left waits, if need be, for clients to come back.
    tell: told in a sentence what the operator can do something about.

    Raises: TransportError if a file is not right or the address cannot be had, with what to do;
        LocalProtocolError if it is no address.
    """
    listed = roster_of(roster, roster_key)
    own = read_private(key, "server", readers=readers)
    # Without a folder, no other names of the key are looked for as `join` does: clients are guarded by their
    # own records, and this one spares the server sessions that they would refuse.
    base = key if state is None else base_of(key, own.public, state)
    signing = SigningKey(own.signing.private_bytes_raw())
    signed = SignedSets(f"{base}.signed")
    return Cohort(Router(bind, own, listed), listed, signed, signing, lives, finish, tell)


def roster_of(roster: str | Path, roster_key: str | Path | None) -> Roster:
    """The roster in a file. roster, roster_key: as of `serve`.

    Raises: TransportError if it is not signed with this key, or either is not readable.
    """
    return read_roster(roster, read_public(roster_key or f"{roster}.pub", "roster"))


def usual_deadlines(scheme: Scheme) -> dict[str, float]:
    """Round of the scheme -> seconds that it may take, unless the caller has others: 60 to join, 600 where
    clients compute for long, 120 in any other.
    """
    join, *others = scheme.rounds
    seconds = {join: JOIN_SECONDS, **dict.fromkeys(others, ROUND_SECONDS)}
    return seconds | dict.fromkeys(scheme.slow_rounds, SLOW_SECONDS)


class Cohort:
    """The clients and relays of a roster, as this server reaches them. A context that closes the socket.

    roster: who they are, as signed.
    """

    def __init__(
        self,
        router: Router,
        roster: Roster,
        signed: Record,
        signing: SigningKey,
        lives: Lives | None = None,
        finish: float = FINISH_SECONDS,
        tell: Tell = lambda text: None,
    ) -> None:
        self._router, self.roster, self._lives = router, roster, lives
        self._signed, self._signing = signed, signing
        self._finish, self._tell = finish, tell
        self._running: Exchange | None = None
        self._keep: Keep | None = None
        self._stays = False  # the session that runs, if this process ends
        self._ended: dict[ClientId, End] = {}  # of the last session, for who comes back
        self._twice: set[ClientId] = set()  # who had two connections at once, as the operator was told

    @property
    def endpoint(self) -> str:
        """Where clients connect, the port filled in."""
        return self._router.endpoint

    @property
    def connected(self) -> frozenset[ClientId]:
        """Clients, and relays by the ids under which they take part."""
        return self._router.connected

    def in_round(self) -> tuple[str, int, int] | None:
        """How far the session that runs is: the open round, how many have answered, and of how many; None
        without a session. Any thread may ask.
        """
        if (running := self._running) is None:  # read once: it may be over a moment later
            return None
        joining = running.session.round == "join"
        return running.session.round, len(running.up), len(running.cohort) if joining else len(running.down)

    def standing(self) -> Standing | None:
        """Who is where in the session that runs; None without one. Any thread may ask."""
        running = self._running
        return None if running is None else running.standing

    def aggregate(
        self,
        scheme: Scheme | Vectors,
        task: bytes = b"",
        *,
        clients: Collection[ClientId] | None = None,
        deadlines: Mapping[str, float] | None = None,
        watch: Watch | None = None,
        executor: Executor | None = None,
        alike: Likeness | None = None,
        new: bool = False,
        parts: bool = False,
        instrument: Callable[[ServerSession], ServerSession] = lambda session: session,
        excluded: Mapping[ClientId, str] = MappingProxyType({}),
        keep: Keep | None = None,
        kept: bytes = b"",
    ) -> Aggregate:
        """One session with the whole roster; whoever is not there is dropped from it.

        scheme: or the vectors alone: masking with this roster, against an active server. task: opaque bytes,
        of which each client computes what it contributes. clients: with these
        of the roster alone; the others wait for the next. Where the scheme has relays, all of the roster's
        take part. deadlines: round -> seconds, instead of `usual_deadlines`, or of none where the clients'
        processes are seen. watch: called after each round; a SecAggError that it raises ends the session
        before its next round opens. executor: of processes or threads, in which to unmask; None: here, one
        thing after the other. alike: what the clients' vectors are computed from, where they come out alike
        whenever that is near: uploads are left out until clients that keep to the rule of secagg/alike.py may
        sign. new: they are unlike all that were summed before. parts: as in `secagg.Scheme.server`.
        instrument: wraps the session (see secagg/record.py). excluded: clients that are not asked, and why,
        which those hear that are connected; they count as dropped before anything is said. keep: given the
        session, sealed under this server's key, whenever another process could not do without what it now
        is: what it returns from is there, durably, and replaces what it was given before. kept: the newest
        of these, of a session with which this process goes on; all other arguments are as they were, but for
        the task. Of masking, without an instrument (transport/kept.py).

        Raises: TooFewClients, RelayLost among them, or Unfinished where the vectors had left;
        RemoteProtocolError where returned shares contradict each other; LocalProtocolError if the scheme is
        for another number of clients or relays, or no such round exists.
        """
        cohort = self.roster.clients.keys() if clients is None else set(clients)
        if strangers := cohort - self.roster.clients.keys():
            raise LocalProtocolError(f"client {min(strangers)} is not in the roster")
        if isinstance(scheme, Mapping):
            scheme = Masking.for_cohort(len(cohort), scheme, roster=self.roster.identities)
        self._check_relays(scheme)
        limits = self._limits(scheme, deadlines or {})
        identities = self.roster.identities
        rule = None
        if alike is not None:
            rule = Alike(lambda task: alike, self._signed, self._signing, identities, new=new)
        if kept:
            running = taken_up(
                kept,
                self._signing,
                scheme,
                self._router,
                self._lives,
                roster=identities,
                executor=executor,
                alike=rule,
            )
            session = running.session
        else:
            session = instrument(
                scheme.server(cohort, task, roster=identities, executor=executor, alike=rule, parts=parts)
            )
            running = Exchange(
                *(self._router, scheme, session, frozenset([*cohort, *relays_of(scheme)]), self._lives),
                wire=self._router.traffic,
            )
        if keep is not None:
            kept_session(running, self._signing)  # what cannot be kept is refused before anybody is asked
        self._running, self._keep = running, keep
        for u, why in excluded.items():
            session.lose(u, why)  # or it would be invited once it connects
            running.lose(u, why)
        if not kept:
            for u in self.connected & running.cohort - running.lost.keys():
                self._router.send(u, running.offer)
        try:
            if kept:  # not from the next round on alone: stopped again in this one, it is gone on with, too
                self._keep_it(running, answered=running.answered)
            while session.result is None:
                self._round(running, limits[session.round], watch)
        except SecAggError as error:
            self._stays = False
            self._end(running, str(error))  # not what others of them gave as their reasons
            if type(error) is TooFewClients:  # others of its kind have another cause
                _tell_refusals(error, running)
            raise
        finally:
            self._running = None
        self._stays = False
        self._end(running, "")
        return session.result

    def _check_relays(self, scheme: Scheme) -> None:
        listed = len(self.roster.relays)
        if scheme.relays not in (0, listed):
            raise LocalProtocolError(
                f"{counted(scheme.relays, 'relay')}, and the roster lists {listed}: all of its relays take "
                "part in every session"
            )
        if scheme.relays and scheme.largest_request > MAX_MESSAGE_BYTES:
            raise LocalProtocolError(
                f"a relay could be sent {scheme.largest_request} bytes in one message, and "
                f"{MAX_MESSAGE_BYTES} is the most: sum fewer clients at a time, or shorter vectors"
            )

    def _limits(self, scheme: Scheme, deadlines: Mapping[str, float]) -> dict[str, float]:
        """Round -> seconds. Raises: LocalProtocolError for no such round, or no time at all."""
        usual = usual_deadlines(scheme)
        limits = usual if self._lives is None else dict.fromkeys(usual, math.inf)
        if unknown := deadlines.keys() - limits.keys():
            raise LocalProtocolError(f"no round {min(unknown)!r}; the rounds are {', '.join(scheme.rounds)}")
        for name, seconds in deadlines.items():
            if not 0 < seconds <= math.inf:
                raise LocalProtocolError(f"a deadline of {seconds} seconds for {name}: give more than 0")
        return limits | dict(deadlines)

    def _end(self, running: Exchange, why: str) -> None:
        """Tell how it ended: at once, or when they come back."""
        running.end(running.joined - running.lost.keys(), why)
        result = running.session.result
        summed = frozenset() if result is None else result.survivors
        # Of all, for a connection may be gone without anybody having noticed yet.
        whys = {u: "" if u in summed else running.lost.get(u, why) for u in running.joined}
        self._ended = {u: End(running.id, reason(why)) for u, why in whys.items()}

    def _round(self, running: Exchange, limit: float, watch: Watch | None) -> None:
        """Wait for the answers, close the round, and send what opens the next."""
        session, closing, end = running.session, running.session.round, time.monotonic() + limit
        try:
            while (left := end - time.monotonic()) > 0 and running.is_open:
                self._listen(min(left, TICK_SECONDS))
                running.stage_uploads(left)
            requests = self._close(running)
            for u, why in session.caught.items():
                running.lose(u, why)
        finally:  # of a round that fails, too: its report says who was missing
            if watch is not None:
                watch(running.report(closing))
        running.open_round(requests)  # after the report, whose counts it clears
        if session.round in (running.scheme.upload_round, *running.scheme.finishing_rounds):
            self._keep_it(running)
        running.ask_all()
        if requests:  # else the session is over
            for u in running.joined - running.lost.keys() - session.members:
                running.lose(
                    u,
                    "not summed: too few are left of its group, or not all of its batch, or the sum would be "
                    "too near to an earlier one",
                )

    def _close(self, running: Exchange) -> dict[ClientId, bytes]:
        """The messages that open the next round. One in which vectors have left is not closed without enough
        answers: the session is finished with the same clients, never repeated with others.
        """
        session, closing = running.session, running.session.round
        if closing not in running.scheme.finishing_rounds:
            running.lose_relays()  # that were not awaited, or without whom it closes before others are late
            running.lose_all(running.absent)
            running.lose_relays()
            return session.advance()
        end = time.monotonic() + self._finish
        while True:
            absent = running.absent  # before the session goes on, and awaits others
            if closing == running.scheme.rounds[-1]:
                self._keep_it(running, answered=True)  # for who hears of the sum says no more
            try:
                requests = session.advance()
            except TooFewClients as few:
                if session.round != closing:  # it has ended: more answers would change nothing
                    raise
                self._wait_for_more(running, few, end)
            else:
                running.lose_all(absent)
                return requests

    def _keep_it(self, running: Exchange, *, answered: bool = False) -> None:
        if self._keep is not None:
            self._keep(kept_session(running, self._signing, answered=answered))
            self._stays = True

    def _wait_for_more(self, running: Exchange, few: TooFewClients, end: float) -> None:
        """Listen until one more of those that are missing has answered, or is lost.

        Raises: Unfinished when nobody can come any more, or the time is up.
        """
        for u in running.absent - running.may_return(running.absent):
            running.lose(u, "vanished")
        missing = running.absent
        left, names = end - time.monotonic(), clients(missing)
        why = (
            f"{few}, though the vectors had left; waited for: {names}. Sum them again with just the same "
            "clients or not at all: two sums that differ by one client tell of that client"
        )
        if left <= 0 or not missing:
            raise Unfinished(why, few, missing) from None
        away = missing & self._router.gone
        self._tell(
            f"{few.alive} answers in round {few.round}, {few.needed} needed: waiting {left:.0f} s for {names}"
            f"{f' ({clients(away)} not connected)' if away else ''}. Keep this server running: who can reach "
            "it again goes on by itself, and without them the sum is lost"
        )
        try:
            while running.absent == missing == running.may_return(missing) and left > 0:
                self._listen(min(left, TICK_SECONDS))
                left = end - time.monotonic()
                running.stage_uploads(left)
        except KeyboardInterrupt:
            self._tell(why)
            raise

    def _listen(self, seconds: float) -> None:
        running = self._running
        for u, route, parts in self._router.receive(seconds):
            try:
                # Before it is asked over which of its connections this came: both have the client's key, and
                # garbage under that key costs its place.
                frame, payload = decode_from_client(parts)
                if isinstance(frame, Hello):
                    self._greet(u, route, frame)
                elif running is not None and self._router.speaks_for(u, route):
                    running.take(u, frame, payload)
            except RemoteProtocolError as error:
                if running is not None and u in running.cohort:
                    running.lose(u, str(error))
        for u in self._router.probe():
            if running is not None:
                running.vanish(u)
                if u in running.cohort and relay_of(u) is not None:
                    self._tell(
                        f"{party(u)} has lost its connection in round {running.session.round}: waiting for "
                        "it until that round's deadline, for there is no sum without it"
                    )

    def _greet(self, u: ClientId, route: bytes, hello: Hello) -> None:
        if hello.version != TRANSPORT_VERSION:
            self._router.turn_away(route, Refuse(TRANSPORT_VERSION))
            raise RemoteProtocolError(
                f"{party(u)} speaks version {hello.version} of the transport, this is {TRANSPORT_VERSION}"
            )
        if self._router.greet(u, route) and u not in self._twice:
            self._twice.add(u)  # once: it could do so a thousand times a second
            self._tell(
                f"{party(u)} has connected while its earlier connection still stood; the newer one counts. "
                "If its network has not just changed, two processes run with its key: one must stop"
            )
        # Before the next is offered: an offer alone tells a client that nobody knows of its session any more.
        if ended := self._ended.pop(u, None):
            self._router.send(u, ended)
        if self._running is not None:
            self._running.invite(u)

    def wait_for_clients(self, count: int, seconds: float, *, relays: int = 0) -> frozenset[ClientId]:
        """Who is connected once `count` clients are, and so many relays; or when so many seconds are up."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            there = sum(relay_of(u) is not None for u in self.connected)
            if len(self.connected) - there >= count and there >= relays:
                break
            self._listen(min(left, TICK_SECONDS))
        return self.connected

    def wait_until_heard(self, seconds: float) -> None:
        """Until all clients of the last sum have heard that they are in it; or so many seconds are up."""
        end, summed = time.monotonic() + seconds, {u for u, end in self._ended.items() if not end.reason}
        while summed - self.connected - self._router.gone and (left := end - time.monotonic()) > 0:
            self._listen(min(left, TICK_SECONDS))

    def close(self) -> None:
        """Tell clients and relays that there will be no more sessions, and close the socket. Where another
        process may go on with the session that runs they are told nothing, and wait for it.
        """
        for u in () if self._stays else self.connected:
            self._router.send(u, Close())
        self._router.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _tell_refusals(few: TooFewClients, running: Exchange) -> None:
    """Raises: Refused, where some left: how many, and with what reasons; of many, the three most frequent."""
    if not (refused := running.refused):
        return
    said = Counter(reason(why) or "no reason given" for why in refused.values()).most_common(REASONS)
    whys = "; ".join(f"{why} ({count} x)" if count > 1 else why for why, count in said)
    raise Refused(
        f"{few}. {len(refused)} of {counted(len(running.cohort), 'client')} refused: {whys}", few, refused
    ) from None
