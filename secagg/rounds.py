"""A server that is in one round at a time: what the servers of all schemes have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import ClassVar

import msgspec

from secagg.aggregate import Aggregate
from secagg.alike import Alike
from secagg.crypto import NeverPickled
from secagg.errors import ClientId, LocalProtocolError, RemoteProtocolError, TooFewClients
from secagg.identity import party
from secagg.params import check_cohort
from secagg.session import Scheme
from secagg.states import Kept
from secagg.wire import Digest, Key, Raw, Task, answer_in, check_join, encode, fingerprint

JOIN = "join"
DONE = "done"


class KeptRounds(Kept, frozen=True):
    """A server between two calls (secagg/checkpoint.py). task: empty once all have it. state: the scheme's
    own.
    """

    cohort: list[int]
    task: bytes
    nonce: Key
    round: str
    waiting_for: list[int]
    joining: list[int]
    members: list[int]
    answered: list[int]
    lost: list[int]
    heard: dict[int, Digest]
    unopened: list[tuple[int, int]]
    gone: dict[int, str]
    state: bytes


class RoundServer(NeverPickled, ABC):
    """Rounds behind the interface every scheme shares (`session.ServerSession`): it collects a round's
    answers, and whoever has answered when the caller closes the round goes on to the next. What an answer
    is, and what the next round's request, is the scheme's: `_take` and `_open`; and where its sessions are
    suspendable `_kept` and `_restore`, of every round.

    nonce: goes to every client with the task. unopened, caught, gone: as the interface has them.

    Security: after `receive` raised, its sender has lost its place and the session goes on without it. What
    it had answered in this round before stands only where it cannot be undone, a vector in the sum: it is
    then a client lost in the next round.
    """

    suspendable: ClassVar[bool] = False

    def __init__(self, parameters: Scheme, cohort: Collection[ClientId], task: bytes, nonce: bytes) -> None:
        check_cohort(cohort, parameters.clients)
        self._cohort = sorted(cohort)
        self._parameters, self._digest = parameters, parameters.digest()
        self._task, self._nonce = task, nonce
        self.round = JOIN
        self.waiting_for = self.members = frozenset(cohort)
        self.result: Aggregate | None = None
        self.unopened: frozenset[tuple[ClientId, ClientId]] = frozenset()
        self.caught: dict[ClientId, str] = {}
        self.gone: dict[ClientId, str] = {}
        self._heard: dict[ClientId, bytes] = {}  # the last answer of each that was taken: its fingerprint
        self._joining: frozenset[ClientId] = frozenset()  # whose next answer brings its Join with it
        self._answered: set[ClientId] = set()
        self._lost: set[ClientId] = set()  # answered, then said something it should not have

    @property
    def scheme(self) -> Scheme:
        return self._parameters

    def receive(self, sender: ClientId, message: Raw) -> None:
        heard = fingerprint(message)
        if self._heard.get(sender) == heard:
            return  # it came twice: in this round or, late, in the next
        if sender not in self.waiting_for:
            self._lost.add(sender)
            raise RemoteProtocolError(f"{party(sender)} is not expected in round {self.round}", {sender})
        self.waiting_for -= {sender}
        joining, self._joining = sender in self._joining, self._joining - {sender}
        try:
            if self.round == JOIN:
                check_join(message, self._digest)
            else:
                self._take(sender, answer_in(message, self._digest) if joining else message)
        except RemoteProtocolError as error:
            raise RemoteProtocolError(f"{party(sender)}, {self.round}: {error}", {sender}) from None
        self._answered.add(sender)
        self._heard[sender] = heard

    def lose(self, u: ClientId, why: str) -> None:
        if u in self.members:
            self.gone[u] = why
            self.members -= {u}
            self.waiting_for -= {u}

    def open_jointly(self) -> dict[ClientId, bytes]:
        if self.round != JOIN or self.waiting_for != self.members:
            raise LocalProtocolError(
                "this session has begun: it is opened jointly before the first Join is taken, or not at all"
            )
        cohort = self._joining = self.members
        return self._ask(JOIN, cohort, self._tasks(cohort))

    def advance(self) -> dict[ClientId, bytes]:
        if self.round == DONE:
            raise LocalProtocolError("this session is over: make a new one")
        closing = self.round
        # What was added cannot be taken back: its sender stays in the sum, as one lost in the next round.
        kept = set() if closing == self._parameters.upload_round else self._lost
        try:
            alive = self._going_on(closing, frozenset(self._answered - kept))
            requests = self._tasks(alive) if closing == JOIN else self._open(closing, alive)
        except TooFewClients:
            # Who has signed or may have signed a set of survivors signs no other: that sum is finished, by
            # whoever of it answers later, or never had.
            if closing not in self._parameters.finishing_rounds:
                self._close()
            raise
        except BaseException:
            self._close()
            raise
        self._close()
        return {} if self.result is not None else self._ask(closing, alive, requests)

    def _ask(
        self, closing: str, alive: frozenset[ClientId], requests: dict[ClientId, bytes]
    ) -> dict[ClientId, bytes]:
        """The requests of the round after `closing`, which is now open, to whoever has a place in it."""
        rounds = self._parameters.rounds
        self.round = rounds[rounds.index(closing) + 1]
        self.members = alive - self._lost - frozenset(self.gone)
        self.waiting_for = self._asked() & self.members
        return {u: request for u, request in requests.items() if u in self.waiting_for}

    def suspend(self) -> bytes:
        """All that the session is between two calls, for `resume` of another object of the same scheme."""
        rounds, training = self._parameters.rounds, self._parameters.training_round
        return msgspec.msgpack.encode(
            KeptRounds(
                self._cohort,
                self._task if rounds.index(self.round) < rounds.index(training) else b"",
                self._nonce,
                self.round,
                sorted(self.waiting_for),
                sorted(self._joining),
                sorted(self.members),
                sorted(self._answered),
                sorted(self._lost),
                self._heard,
                sorted(self.unopened),
                self.gone,
                self._kept(),
            )
        )

    def resume(self, kept: KeptRounds, alike: Alike | None) -> None:
        """Go on from there; before anything was said to this object. alike: this server's rule, again."""
        self._task, self._nonce, self.round = kept.task, kept.nonce, kept.round
        self.waiting_for, self.members = frozenset(kept.waiting_for), frozenset(kept.members)
        self._joining = frozenset(kept.joining)
        self._answered, self._lost, self._heard = set(kept.answered), set(kept.lost), dict(kept.heard)
        self.unopened, self.gone = frozenset(kept.unopened), dict(kept.gone)
        self._restore(kept.state, alike)

    def _kept(self) -> bytes:
        raise NotImplementedError

    def _restore(self, kept: bytes, alike: Alike | None) -> None:
        raise NotImplementedError

    def _close(self) -> None:
        self.round, self.waiting_for, self.members, self._answered = DONE, frozenset(), frozenset(), set()

    def _tasks(self, joined: frozenset[ClientId]) -> dict[ClientId, bytes]:
        return dict.fromkeys(sorted(joined), encode(Task(self._nonce, self._task)))

    @abstractmethod
    def _take(self, u: ClientId, message: Raw) -> None:
        """u's answer in the open round, which is not the join. Raises: RemoteProtocolError, without u's name:
        that is added here.
        """

    def _going_on(self, closing: str, alive: frozenset[ClientId]) -> frozenset[ClientId]:
        """Who of those who have answered goes on. Raises: TooFewClients."""
        if not alive:
            raise TooFewClients(0, 1, closing)
        return alive

    def _asked(self) -> frozenset[ClientId]:
        """Of whose members the round that has just been opened awaits an answer."""
        return self.members

    @abstractmethod
    def _open(self, closing: str, alive: frozenset[ClientId]) -> dict[ClientId, bytes]:
        """The requests of the round after `closing`, which is not the join; or where that was the last one
        none, and `result` is set. Raises: TooFewClients, or what else ends the session.
        """
