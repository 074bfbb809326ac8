"""A server session whose bytes are counted by client, and not kept."""

from __future__ import annotations

from collections import Counter

from secagg.errors import ClientId
from secagg.record import Around
from secagg.session import ServerSession
from secagg.wire import Raw


class Counted(Around):
    """up, down: client -> bytes of its messages, of the server's to it."""

    def __init__(self, session: ServerSession) -> None:
        super().__init__(session)
        self.up: Counter[ClientId] = Counter()
        self.down: Counter[ClientId] = Counter()

    def receive(self, sender: ClientId, message: Raw) -> None:
        self.up[sender] += len(message)
        super().receive(sender, message)

    def advance(self) -> dict[ClientId, bytes]:
        requests = self._session.advance()
        self.down.update({u: len(request) for u, request in requests.items()})
        return requests
