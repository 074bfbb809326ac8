"""Parties that are thrown away after every message: between two of them there is a ticket and a record, or of
the server a checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secagg import checkpoint, tickets
from secagg.crypto import Rng, system_rng
from secagg.encoding import Clipping
from secagg.record import Around
from secagg.rounds import DONE
from secagg.session import Scheme


class Suspended:
    """A `session.ClientSession` of tickets alone: a client's, or by its id a relay's.

    shown: every ticket, the newest last. asked: every message that was answered, in order.
    """

    result = None

    def __init__(
        self,
        scheme: Scheme,
        u: int,
        vectors: Any = None,
        *,
        record: tickets.Record | None = None,
        rounding_seed: bytes | None = None,
        rng: Rng = system_rng,
        **more: Any,
    ) -> None:
        self.scheme, self.u, self.vectors, self.more, self.rng = scheme, u, vectors, more, rng
        self.record, self.rounding_seed = record or tickets.InMemory(), rounding_seed
        self.shown: list[bytes] = []
        self.asked: list[bytes] = []
        self.clipping: Mapping[str, Clipping] = {}

    def start(self) -> bytes:
        ticket, join = tickets.begin(
            self.scheme,
            self.u,
            record=self.record,
            rounding_seed=self.rounding_seed,
            identity=self.more.get("identity"),
            rng=self.rng,
        )
        self.shown.append(ticket)
        return join

    def start_jointly(self, request: bytes) -> bytes:
        ticket, joint = tickets.begin_jointly(
            self.scheme,
            request,
            u=self.u,
            vectors=self.vectors,
            record=self.record,
            rounding_seed=self.rounding_seed,
            told=self._told,
            rng=self.rng,
            **self.more,
        )
        self.shown.append(ticket)
        self.asked.append(request)
        return joint

    def receive(self, message: bytes) -> bytes:
        ticket, reply = self.step(self.shown[-1], message)
        self.shown.append(ticket)
        self.asked.append(message)
        return reply

    def step(self, ticket: bytes, message: bytes, **other: Any) -> tuple[bytes, bytes]:
        """Of any ticket; nothing of it is kept here."""
        given = {"vectors": self.vectors, "record": self.record, "told": self._told, "rng": self.rng}
        return tickets.step(self.scheme, ticket, message, **{"u": self.u} | given | self.more | other)

    def _told(self, clipping: Mapping[str, Clipping]) -> None:
        self.clipping = clipping

    @property
    def done(self) -> bool:
        return tickets.done(self.shown[-1])


class SuspendedServer(Around):
    """A `session.ServerSession` of checkpoints alone. kept: all of them, the newest last."""

    KEY = bytes(range(32))

    def __init__(self, server: Any, **again: Any) -> None:
        self._scheme, self._again, self._over = server.scheme, again, None
        self.kept = [checkpoint.save(server, self.KEY)]

    def restored(self, which: int = -1) -> Any:
        return checkpoint.restore(self._scheme, self.kept[which], self.KEY, **self._again)

    @property
    def _session(self) -> Any:
        return self.restored() if self._over is None else self._over

    def _call(self, name: str, *given: Any) -> Any:
        server = self._session
        try:
            return getattr(server, name)(*given)
        finally:
            if server.round == DONE:
                self._over = server
            else:
                self.kept.append(checkpoint.save(server, self.KEY))

    def receive(self, sender: int, message: Any) -> None:
        self._call("receive", sender, message)

    def open_jointly(self) -> dict[int, bytes]:
        return self._call("open_jointly")

    def lose(self, u: int, why: str) -> None:
        self._call("lose", u, why)

    def advance(self) -> dict[int, bytes]:
        return self._call("advance")
