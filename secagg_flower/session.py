"""One secure session, carried by Flower's messages: one to each client, and its reply, for every round."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from flwr.app import Message, RecordDict

from secagg import Aggregate, Masking, RemoteProtocolError, Roster, TooFewClients
from secagg.errors import ClientId
from secagg.masking.server import MaskingServer
from secagg_flower.records import Layout, Said, most_common, printable, said_in, with_said

SHORTEST, LONGEST, SHARE = 0.05, 1.0, 0.05
"""Seconds between two looks for replies: this share of the time waited so far, within these limits. Flower's
own grid looks every three seconds, which is once a training, but five times a session."""


@dataclass
class Line:
    """Messages of one run to its nodes, by the ids of clients in a session. nodes: id -> node. deadline: when
    the strategy gives up, on the monotonic clock; None: never.
    """

    grid: Any
    nodes: Mapping[ClientId, int]
    message_type: str
    group_id: str
    deadline: float | None

    def ask(self, contents: Mapping[ClientId, RecordDict]) -> Iterator[tuple[ClientId, Message] | None]:
        """Each client's reply, as it comes, and None as often as there was none; ends when all have replied,
        or at the deadline.
        """
        ttl = None if self.deadline is None else max(1.0, self.deadline - time.monotonic())
        messages = {
            u: Message(content, self.nodes[u], self.message_type, ttl=ttl, group_id=self.group_id)
            for u, content in contents.items()
        }
        pushed = set(self.grid.push_messages(list(messages.values())))
        waiting = {m.metadata.message_id: u for u, m in messages.items() if m.metadata.message_id in pushed}
        began = now = time.monotonic()
        while waiting and (self.deadline is None or now < self.deadline):
            for reply in self.grid.pull_messages(list(waiting)):
                # By what it replies to: an error may be the SuperLink's own, which is then its sender.
                u = waiting.pop(reply.metadata.reply_to_message_id, None)
                if u is not None:
                    yield u, reply
            if waiting:
                yield None
                time.sleep(min(LONGEST, max(SHORTEST, SHARE * (now - began))))
            now = time.monotonic()


@dataclass
class Session:
    """contents: what the strategy sent each client. patience: seconds for an answer in a round without
    training. layouts: of each client's metrics. lost: who is not in the sum any more, and why.
    """

    line: Line
    scheme: Masking
    contents: Mapping[ClientId, RecordDict]
    weighted: str
    patience: float
    lost: dict[ClientId, str] = field(default_factory=dict)
    layouts: dict[ClientId, bytes] = field(default_factory=dict)

    def run(self, task: bytes, roster: Roster | None) -> Aggregate:
        """To the end. Raises: TooFewClients; RemoteProtocolError where shares do not open the sum."""
        server = self.scheme.server(self.contents.keys(), task, roster=roster)
        offer = self.scheme.offer()
        requests = {
            u: with_said(
                self.contents[u],
                Said(round=server.round, offer=offer, client=u, weighted=self.weighted),
                message,
            )
            for u, message in server.open_jointly().items()
        }
        while server.result is None:
            requests = self._round(server, self.line.ask(requests))
        return server.result

    @property
    def layout(self) -> Layout:
        """That of the survivors' metrics."""
        return Layout.decode(most_common(self.layouts.values()))

    def _round(
        self, server: MaskingServer, replies: Iterator[tuple[ClientId, Message] | None]
    ) -> dict[ClientId, RecordDict]:
        """Hear one round's answers, and close it. Returns what opens the next."""
        closing = server.round
        while True:
            more = self._hear(server, replies)
            for u in server.waiting_for:
                self.lost.setdefault(u, f"no answer in round {closing}")
            try:
                messages = server.advance()
            except TooFewClients:
                # A set of survivors that was shown is finished or never: that is worth waiting longer.
                if server.round != closing or not more:
                    raise
            else:
                said = Said(round=server.round)
                return {u: with_said({}, said, message) for u, message in messages.items()}

    def _hear(self, server: MaskingServer, replies: Iterator[tuple[ClientId, Message] | None]) -> bool:
        """Answers, until all are there or patience ends. Returns whether more may come."""
        training, began = server.round == self.scheme.training_round, time.monotonic()
        for heard in replies:
            if heard is not None:
                self._take(server, *heard)
            elif not training and time.monotonic() - began > self.patience:
                return True
        if training:
            self._lose_others(server)
        return False

    def _take(self, server: MaskingServer, u: ClientId, reply: Message) -> None:
        if reply.has_error():
            self._lose(server, u, printable(reply.error.reason or f"error {reply.error.code}"))
            return
        try:
            said, payload = said_in(reply.content)
            training = server.round == self.scheme.training_round
            if training:
                Layout.decode(said.layout)
            server.receive(u, payload)
            if training:  # by now: who is refused has no say in what metrics are called
                self.layouts[u] = said.layout
        except RemoteProtocolError as error:
            self._lose(server, u, str(error))

    def _lose_others(self, server: MaskingServer) -> None:
        """Whose metrics are not called as most clients' are: their numbers would be added to others'."""
        if not self.layouts:
            return
        common = most_common(self.layouts.values())
        for u, layout in list(self.layouts.items()):
            if layout != common:
                del self.layouts[u]
                self._lose(server, u, "its reply has other metrics, or other records, than most")

    def _lose(self, server: MaskingServer, u: ClientId, why: str) -> None:
        self.lost.setdefault(u, why)
        server.lose(u, why)
