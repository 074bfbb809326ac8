"""A relay's end: its part in the sessions of schemes that sum by relays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from secagg import ClientSession, Policy, RemoteProtocolError, Scheme
from secagg.errors import counted
from secagg.policy import Adversary
from secagg.schemes import accept
from secagg.tagged import Tagged
from secagg.wire import relay_party
from transport.keys import Readers, read_public
from transport.line import PATIENCE_SECONDS, Line, known
from transport.talk import Progress, Talk, Tell


@dataclass(frozen=True)
class Served:
    """How one session ended for this relay.

    summed: there is a sum, and its column is in it. reason: why not, in the server's words. scheme: what it
    had accepted.
    """

    summed: bool
    reason: str
    scheme: Scheme


def join_as_relay(
    connect: str,
    key: str | Path,
    server: str | Path,
    roster: str | Path | None = None,
    roster_key: str | Path | None = None,
    *,
    policy: Policy | None = None,
    patience: float = PATIENCE_SECONDS,
    state: str | Path | None = None,
    readers: Readers = "owner",
    lives: Callable[[], bool] = lambda: False,
) -> Relay:
    """Connect to a server as a relay of its roster.

    key: this relay's private key file. In `<key>.journal` is kept under which tasks it has added, and in
    `<key>.signed` what sums of like vectors. policy: what it takes part in; by default split, active where it
    has a roster. All else is as of a client (`transport.join`).

    Raises: TransportError if a file is not right, with what to do; LocalProtocolError if `connect` is no
        address.
    """
    own, identity, memory = known("relay", key, roster, roster_key, state, readers)
    if policy is None:
        adversary: Adversary = "active" if identity else "semi-honest"
        policy = Policy(schemes=frozenset({"split"}), adversary=adversary)
    return Relay(connect, own, read_public(server, "server"), policy, patience, identity, memory, lives)


class Relay(Line):
    """This relay, connected. A context that closes the socket."""

    def serve(
        self,
        *,
        progress: Progress | None = None,
        tell: Tell = lambda text: None,
        accepted: Callable[[Scheme], None] = lambda scheme: None,
        instrument: Callable[[ClientSession], ClientSession] = lambda session: session,
    ) -> Served | None:
        """Take part in the next session. None once the server says that there are no more.

        progress: told of every piece before it leaves. tell: told when its connection is lost. accepted: told
        the session's parameters once the policy has accepted them. instrument: wraps the session (see
        secagg/record.py).

        Raises: RemoteProtocolError if the server broke the protocol or offers what the policy refuses;
        TransportError if the server is gone. After the former this relay can serve the next.
        """
        offer = self._next_offer()
        if offer is None:
            return None
        with self._or_leave(offer):
            scheme = accept(self.policy, offer.parameters, self._roster)
            if self.id >= scheme.relays:
                raise RemoteProtocolError(
                    f"the server offers a session of {counted(scheme.relays, 'relay')}, and this is relay "
                    f"{self.id}, counted from 0"
                )
            accepted(scheme)
            session = instrument(
                scheme.relay(self.id, identity=self._identity, once=self._once, tagged=self._tagged)
            )
            # It never sees the task: its first message is as short as any.
            talk = Talk(
                *(self._send, offer.session, scheme, session, progress),
                largest_task=0,
                u=relay_party(self.id),
            )
            trying = (
                f": trying for {self._patience:.0f} seconds to go on where it was; there is no sum without it"
            )
            why = self._converse(talk, tell, trying)
            return Served(not why, why, scheme)

    def _once(self, context: bytes) -> None:
        try:
            self._memory.journal.once(context)
        except RemoteProtocolError:
            raise RemoteProtocolError(
                "the server asks for a second sum of a task for which this relay has added: of two sets of "
                "clients the sums would tell the difference"
            ) from None

    @property
    def _tagged(self) -> Tagged | None:
        if self.policy.alike == "never":
            return None
        memory = self._memory
        return Tagged(memory.signed, memory.signing, self._roster, self.policy.difference)
