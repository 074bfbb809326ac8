"""A client's end: its part in the sessions it is offered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from secagg import Aggregate, Among, ClientSession, Clipping, Plain, Policy, Scheme
from secagg.alike import OWN_INPUT, Alike, Likeness
from secagg.inputs import checked, named_values
from secagg.schemes import accept
from secagg.session import Contribute
from secagg.specs import Vector
from transport.journal import Spent
from transport.keys import Readers, read_public
from transport.line import PATIENCE_SECONDS, Line, known
from transport.talk import Progress, Talk, Tell

Inspect = Callable[[bytes, Mapping[str, Any]], None]
"""(the task, this client's vectors by name, before they are clipped, encoded or noised): what it raises keeps
them here."""


@dataclass(frozen=True)
class Contribution:
    """How one session ended for this client.

    summed: its vectors are in a sum. reason: why not, or why this client was lost after it had seen the sum,
    in the server's words. scheme: what it had accepted. clipping: what encoding changed, per vector. result:
    the sum, where clients keep it and this one has decrypted it.
    """

    summed: bool
    reason: str
    scheme: Scheme
    clipping: Mapping[str, Clipping]
    result: Aggregate | None = None


def join(
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
    inspect: Inspect | None = None,
) -> Peer:
    """Connect to a server whose public key this client holds.

    key: this client's private key file. server: the server's public key file. roster: the client's own copy
    of the signed roster; roster_key: the public key it must be signed with, `<roster>.pub` unless given.
    The newest version seen is kept in `<key>.seen`, and an older roster refused; without a roster sessions
    are semi-honest. What the client has contributed to is kept in `<key>.journal`, which sums of like vectors
    it has helped to, and the cut that it insists on, in `<key>.signed`, and what these cost where it keeps to
    a budget in `<key>.spent`.
    policy: what the client takes part in; by default masking, active where it has a roster. patience: seconds
    without a sign of the server before giving up.

    These records belong to the key and lie beside it, links followed. state: another folder for them, where
    they are named after the key's fingerprint: for a key on a read-only mount, and for one under several
    names; always the same folder. readers: who may read the key's file, "owner", "group" or "all".

    lives: of a server on this machine, whether its process does: as long as it does, patience has no end.
    inspect: looks at what would leave in each session, decoys too, each by itself; what it raises is raised
    by `contribute`, and the server hears that this client takes no part, not why.

    Raises: TransportError if a file is not right, with what to do; LocalProtocolError if `connect` is no
        address.
    """
    own, identity, memory = known("client", key, roster, roster_key, state, readers)
    if policy is None:
        policy = Policy(adversary="active" if identity else "semi-honest")
    peer = Peer(connect, own, read_public(server, "server"), policy, patience, identity, memory, lives)
    peer.inspect = inspect
    return peer


class Peer(Line):
    """This client, connected. A context that closes the socket. inspect: as of `join`."""

    inspect: Inspect | None = None

    def contribute(
        self,
        vectors: Contribute | Mapping[str, Vector] | Vector,
        *,
        alike: Callable[[bytes], Likeness | None] | None = None,
        new: bool = False,
        rounding_seed: bytes | None = None,
        progress: Progress | None = None,
        left: Callable[[], None] = lambda: None,
        tell: Tell = lambda text: None,
        largest_task: int | None = None,
        accepted: Callable[[Scheme], None] = lambda scheme: None,
        leaving: Callable[[], None] = lambda: None,
        instrument: Callable[[ClientSession], ClientSession] = lambda session: session,
    ) -> Contribution | None:
        """Take part in the next session. None once the server says that there are no more.

        vectors: task -> this client's vectors, called once; or the vectors themselves, held against the offer
        before anything is answered. alike: task -> what the vectors are computed from, as far as the server
        knows it, None for what comes out unlike whatever was: of like sessions this client helps to two
        different sums at most (secagg/alike.py). Vectors that are given are all alike, unless they are `new`;
        of a function without `alike` nothing is taken to be. By a policy's "any" all of a kind is, and all of
        which `alike` says None, or which has none, is of one kind. rounding_seed: 32 secret bytes that make
        the rounding, and nothing else, repeatable. progress: told of every piece before it leaves. left:
        called when the masked vectors have left: from then on the sum may need this client to stay. tell:
        told when its connection is lost or it is interrupted after that. largest_task: bytes of a task, 2^31
        if not given; a larger one is refused before it is sent. accepted: told the session's parameters once
        the policy has accepted them, before the task. leaving: called before the vectors leave, masked or
        not, when all else is settled; what it raises keeps them here. instrument: wraps the session (see
        secagg/record.py).

        Raises: RemoteProtocolError if the server broke the protocol or offers what the policy refuses;
        TransportError if the server is gone; LocalProtocolError, or whatever `vectors` raises.
        """
        offer = self._next_offer()
        if offer is None:
            return None
        with self._or_leave(offer):
            scheme = accept(self.policy, offer.parameters, self._roster)
            accepted(scheme)

            def once(context: bytes) -> None:
                # First what refuses to do a thing twice: a server that asks again must cost nothing. Of plain
                # vectors there is no mask that a second sum would take off.
                if not isinstance(scheme, Plain):
                    self._memory.journal.once(context)
                leaving()

            session = instrument(
                scheme.client(
                    self.id,
                    self._inspected(vectors if callable(vectors) else _constant(checked(scheme, vectors))),
                    rounding_seed=rounding_seed,
                    identity=self._identity,
                    once=once,
                    alike=self._alike(vectors, alike, new),
                )
            )
            after = self.policy.answer_after
            talk = Talk(self._send, offer.session, scheme, session, progress, left, tell, after, largest_task)
            why = self._converse(talk, tell, self._when_lost(scheme))
            summed = not why or session.result is not None
            return Contribution(summed, why, scheme, dict(session.clipping), session.result)

    @property
    def spent(self) -> Spent:
        """What this client's key has told of its vectors so far, for whoever keeps to a budget."""
        return self._memory.spent

    def _inspected(self, vectors: Contribute) -> Contribute:
        if (inspect := self.inspect) is None:
            return vectors

        def looked_at(task: bytes) -> Mapping[str, Vector] | Vector:
            values = vectors(task)
            for each in (values, *(values.decoys if isinstance(values, Among) else ())):
                inspect(task, named_values(each))
            return values

        return looked_at

    def _alike(
        self, vectors: Any, alike: Callable[[bytes], Likeness | None] | None, new: bool
    ) -> Alike | None:
        likeness = alike if callable(vectors) else lambda task: OWN_INPUT
        if self.policy.alike == "any":
            likeness = _whatever(likeness)
        policy, memory = self.policy, self._memory
        if likeness is None or policy.alike == "never":
            if policy.one_cut is None:
                return None
            likeness = _unlike
        kept = memory.signed, memory.signing, self._roster
        return Alike(likeness, *kept, policy.difference, new, policy.one_cut)

    def _when_lost(self, scheme: Scheme) -> str:
        """What is told of a connection that was lost after the vector had left."""
        trying = f", and the vector had left: trying for {self._patience:.0f} seconds to "
        if scheme.finishing_rounds:
            return f"{trying}go on where it was; keep this running, the sum may need it"
        return f"{trying}hear how it ended"


def _unlike(task: bytes) -> None:
    """Of what is like nothing, whatever the task."""


def _whatever(alike: Callable[[bytes], Likeness | None] | None) -> Callable[[bytes], Likeness | None]:
    """By a policy's "any" all of a kind is alike, whatever its model: a server can disguise one. What is said
    to be like nothing, or of what nothing is said, is one kind: what a function finds in a task is the
    server's to choose.
    """
    return lambda task: replace((alike and alike(task)) or OWN_INPUT, whatever=True)


def _constant(values: Mapping[str, Vector]) -> Contribute:
    return lambda task: values
