"""A client or a relay that is one state at a time: what the sessions of all schemes have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Generic, Self, TypeVar

import msgspec
from msgspec.structs import replace

from secagg.aggregate import Aggregate
from secagg.alike import Alike, Class
from secagg.bits import Words
from secagg.crypto import KEY_BYTES, PROTOCOL_VERSION, NeverPickled, Rng, system_rng
from secagg.encoding import Clipping
from secagg.errors import ClientId, LocalProtocolError
from secagg.identity import Identity, Roster
from secagg.inputs import encode_inputs
from secagg.params import Parameters
from secagg.session import Contribute, Once
from secagg.specs import Bounded, Vectors
from secagg.wire import MAX_ID, Join, Raw, Task, context_of, encode, fingerprint, joint

KEPT_REPLY: Final = 2**16
"""Bytes of the last reply that a session keeps, to give it again: a masked input is the program's to keep."""

MAX_SEALED: Final = 2**31 - 1
"""Bytes of a state that is kept: AES-GCM takes no more at once here."""


class AwaitingTask:
    """After Join."""


class Kept(NeverPickled, msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A state as bytes, while its session is suspended (secagg/tickets.py), which alone seals them.

    Security: holds the secrets of that state.
    """

    def __repr__(self) -> str:
        return f"{type(self).__name__}(<hidden>)"


class _Suspended(Kept, frozen=True):
    """rounding_seed: empty once the vectors are encoded. state: the scheme's, empty before the task and in
    the end.
    """

    done: bool
    rounding_seed: bytes
    state: bytes


_suspended = msgspec.msgpack.Decoder(_Suspended)


class KeptLike(Kept, frozen=True):
    """`alike.Class`, without the rule."""

    kind: str
    sketch: bytes
    part: bool
    whatever: bool

    @classmethod
    def of(cls, like: Class | None) -> Self | None:
        return None if like is None else cls(like.kind, like.sketch, like.part, like.whatever)


def like_of(kept: KeptLike | None, alike: Alike | None, session: bytes = b"") -> Class | None:
    """The same class again, under the rule that the caller gives again."""
    if kept is None:
        return None
    if alike is None:
        raise LocalProtocolError("this session was begun with a rule for like sums: give it again (alike)")
    return Class(alike, kept.kind, kept.sketch, kept.part, kept.whatever, session)


P = TypeVar("P", bound=Parameters)


@dataclass(frozen=True, slots=True)
class Terms(Generic[P]):
    """What client u knows before any key is seen: the parameters, the task's context, the server's nonce.

    identity: u's roster and signing key; None where nothing is signed. like: the sessions that this one is
    alike, by the client's own rule; None where it has none.
    """

    u: ClientId
    parameters: P
    context: bytes
    nonce: bytes
    identity: Identity | None = field(repr=False)
    like: Class | None = field(default=None, repr=False)

    @property
    def roster(self) -> Roster | None:
        return None if self.identity is None else self.identity.roster

    def of_keys(self) -> tuple[bytes, bytes, bytes, bytes]:
        """What a signature over a fresh key binds it to: nobody can show the key elsewhere."""
        roster = b"" if self.roster is None else self.roster.digest
        return self.parameters.digest(), roster, self.context, self.nonce

    def sign(self, statement: bytes) -> bytes:
        return b"" if self.identity is None else self.identity.key.sign(statement)


class Stateful(NeverPickled, ABC):
    """A state that each message leaves for the next, behind the interface of clients and relays
    (`session.ClientSession`). `_step` is the scheme's, and where its sessions are suspendable `_kept` and
    `_restored`, of every state after the first.

    once: called with the context before a vector, or a column, leaves; what it raises keeps it here.
    """

    suspendable: ClassVar[bool] = False
    first_state: ClassVar[type] = AwaitingTask

    def __init__(
        self, parameters: Any, u: ClientId, identity: Identity | None, once: Once | None, rng: Rng
    ) -> None:
        self._parameters, self._u, self._identity = parameters, u, identity
        self._once, self._rng, self._noise_rng = once, rng, rng
        self._context = self._nonce = self._rounding_seed = b""
        self._state: Any = None
        self._asked = b""  # which message was answered last
        self._reply: bytes | None = None
        self._started = self.done = False
        self.clipping: dict[str, Clipping] = {}
        self.result: Aggregate | None = None

    def start(self) -> bytes:
        if self._started:
            raise LocalProtocolError("this session has been started before: make a new one")
        self._started = True
        self._state = self.first_state()
        return encode(Join(PROTOCOL_VERSION, self._parameters.digest()))

    def start_jointly(self, request: Raw) -> bytes:
        self.start()
        answer = self.receive(request)
        assert answer is not None, "it has heard nothing before that could come again"  # noqa: S101
        # What is kept is what was said: asked again, in whatever way, the session has one answer.
        return self._keep(joint(self._parameters.digest(), answer))

    def receive(self, message: Raw) -> bytes | None:
        asked = fingerprint(message)
        if asked == self._asked:
            return self._reply
        # Taken out first: whatever is raised below, the session is over and its secrets are gone.
        state, self._state, self._asked, self._reply = self._state, None, b"", None
        if state is None:  # or at another message, whose step goes on with what it has
            raise LocalProtocolError("this session is over, or was never started")
        try:
            reply = self._step(state, message)
        except BaseException:
            self._state = None
            self._forget()
            raise
        self._asked = asked
        return self._keep(reply)

    def _keep(self, reply: bytes) -> bytes:
        self._reply = reply if len(reply) <= KEPT_REPLY else None
        return reply

    def suspend(self) -> bytes:
        """All that the session is between two messages, for `resume` of another object of the same party."""
        first = isinstance(self._state, self.first_state)
        state = b"" if first or self.done else self._kept(self._state)
        seed = self._rounding_seed if first else b""
        return msgspec.msgpack.encode(_Suspended(self.done, seed, state))

    def resume(self, suspended: bytes, noise_rng: Rng) -> None:
        """In the place of `start`. noise_rng: of noise, blanks and tags, whatever else is drawn again."""
        self._started, self._noise_rng = True, noise_rng
        kept = _suspended.decode(suspended)
        self.done, self._rounding_seed = kept.done, kept.rounding_seed
        if not self.done:
            self._state = self._restored(kept.state) if kept.state else self.first_state()

    def _kept(self, state: Any) -> bytes:
        raise NotImplementedError

    def _restored(self, kept: bytes) -> Any:
        """The state again; and in its place in the session what else was kept."""
        raise NotImplementedError

    @abstractmethod
    def _step(self, state: Any, message: Raw) -> bytes:
        """The reply of `state` to the message; the next state is left in `_state`, or `done` is set."""

    def _forget(self) -> None:
        """Whatever is secret beside the state."""
        self._rounding_seed = b""

    def _leaving(self) -> None:
        """Put on record, before a vector leaves, that it does."""
        if self._once is not None:
            self._once(self._context)


class StatefulClient(Stateful):
    """A client's states.

    alike: this client's rule for sums of like vectors. result: the sum, where clients learn it.

    Security: rounding_seed is a secret of this client; two sessions with the same seed and task round alike,
    and share no mask and no key.
    """

    def __init__(
        self,
        parameters: Any,
        u: ClientId,
        vectors: Contribute,
        *,
        rounding_seed: bytes | None = None,
        identity: Identity | None = None,
        once: Once | None = None,
        alike: Alike | None = None,
        rng: Rng = system_rng,
    ) -> None:
        if not 0 <= u <= MAX_ID:
            raise LocalProtocolError(f"client id {u} is not in 0..{MAX_ID}")
        if rounding_seed is not None and len(rounding_seed) < KEY_BYTES:
            raise LocalProtocolError(f"a rounding seed has at least {KEY_BYTES} secret bytes")
        parameters.check_roster(identity.roster if identity else None)
        # What u signs names u: under another's key it would be refused by all, after u had trained.
        if identity is not None and identity.u != u:
            raise LocalProtocolError(f"the identity of client {identity.u} is not that of client {u}")
        super().__init__(parameters, u, identity, once, rng)
        self._vectors, self._alike = vectors, alike
        self._encoding = parameters  # by whose specifications vectors are encoded: the session's own
        self._rounding_seed = rounding_seed if rounding_seed is not None else rng(KEY_BYTES)
        self._encoded: Any = None

    def encode_without_clips(self) -> None:
        """Hold vectors to their range alone, as nobody can see: for who plays a malicious client
        (`record.Unclipped`), before it hears the task. All else stays bound to the session's parameters.
        """
        specs: Vectors = self._parameters.vectors
        unclipped = {
            name: replace(spec, clip=None) if isinstance(spec, Bounded) else spec
            for name, spec in specs.items()
        }
        self._encoding = replace(self._parameters, vectors=unclipped)

    def _forget(self) -> None:
        super()._forget()
        self._encoded = None

    def _take(self, task: Task) -> Terms[Any]:
        """Once, before anything else is made of the task."""
        self._context, self._nonce = context_of(task.task), task.nonce
        like = None if self._alike is None else self._alike.of(task.task, self._parameters.signed)
        return Terms(self._u, self._parameters, self._context, task.nonce, self._identity, like)

    def _encode_inputs(self, task: bytes) -> dict[str, Words]:
        """x_u, by name: asked for and encoded once, and never again under the same mask."""
        inputs = self._vectors(task)
        x_u, self.clipping = encode_inputs(
            self._encoding,
            inputs,
            self._context,
            self._rounding_seed,
            readings=self._parameters.readings(self._context, self._nonce),
            blank=self._parameters.blank,
            rng=self._noise_rng,
        )
        return x_u

    def _take_encoded(self) -> Any:
        """The encoded vectors: once."""
        encoded, self._encoded = self._encoded, None
        return encoded
