"""A client that is thrown away after every message: between two of them there is a ticket and a record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secagg import tickets
from secagg.crypto import Rng, system_rng
from secagg.encoding import Clipping
from secagg.session import Scheme


class Suspended:
    """A `session.ClientSession` of tickets alone.

    shown: every ticket, the newest last. asked: every message that was answered, in order.
    """

    result = None

    def __init__(
        self,
        scheme: Scheme,
        u: int,
        vectors: Any,
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
