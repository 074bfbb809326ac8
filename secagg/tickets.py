"""Suspended clients and relays: a session between two messages as bytes, a *ticket*, for those whose process
does not live from one message to the next. The server's, which nobody has to be kept from answering twice,
is a checkpoint (secagg/checkpoint.py).

A copy of a state that is used twice is as fatal as a second answer in a live session: two U1 under one s_sk,
or two sets of survivors signed, or two unmasking requests, give out both kinds of share of one client. A
ticket can be copied, and rolled back. So what a step was asked, and what came of it, is put on record before
its answer leaves, and the record alone decides: whatever ticket is shown, one step never has two answers.

What a step draws follows from the session's key and the step, so that a step that was answered can be
computed again, to the bit, where answer and new ticket were lost. Keys, b_u, coefficients and nonces of one
step are then the same for another message, too; of all these answers at most one ever leaves, the recorded
one, so that no nonce seals two things and no polynomial shares two secrets in anybody's eyes. A nonce of a
ticket itself is fresh each time, and so is all noise (`_once_only`).

A message that is refused leaves record and ticket as they were: nothing was answered, and whether it is
refused depends on what the server knows, on one's own roster, and on the record of like sums. That is
unlike a live session, which is dead then: anybody's garbage may reach a process that has no connection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Annotated, Final, NoReturn, Protocol, TypeVar

import msgspec

from secagg.alike import Alike
from secagg.alike import Record as SetRecord
from secagg.crypto import (
    AE_OVERHEAD,
    DIGEST_BYTES,
    KEY_BYTES,
    NeverPickled,
    OwnTag,
    Rng,
    digest,
    kdf,
    seal,
    system_rng,
    transcript,
    unseal,
)
from secagg.encoding import Clipping
from secagg.errors import ClientId, LocalProtocolError, RemoteProtocolError
from secagg.identity import Identity
from secagg.prg import generator
from secagg.session import ClientSession, Contribute, Once, Scheme
from secagg.states import MAX_SEALED, Kept, Stateful
from secagg.tagged import Tagged
from secagg.wire import Digest, Raw, joint, relay_of

TICKET_VERSION: Final = 1
NAME_BYTES: Final = 16


class Record(Protocol):
    """What one client or relay must not forget of its open sessions. It has one, whatever process it is in.

    Security: `begin` and `answer` are durable when they return. Of two threads or processes that `answer` one
    step at once, one is first, and both are told what it wrote.

    Every method is told the session's name, 16 bytes. What keeps a record may raise errors of its own.
    """

    def begin(self, name: bytes, key: bytes) -> None:
        """A new session, of this key, 32 secret bytes."""
        ...

    def key(self, name: bytes) -> bytes | None:
        """That of a session that has begun and not ended."""
        ...

    def answered(self, name: bytes, step: int) -> bytes | None:
        """What stands there of this step; None if nothing does."""
        ...

    def answer(self, name: bytes, step: int, digest: bytes) -> bytes | None:
        """Write this of the step, unless something stands there. Returns what then does; None where the
        session is over. digest: 64 bytes. step: from 0 on, which stands for the session.
        """
        ...

    def end(self, name: bytes) -> None:
        """Erase all of this session, its key above all, if there is any."""
        ...


class InMemory(NeverPickled):
    """A record of one process, for experiments and tests: it ends with it, and so do its sessions.

    Security: a process that is forked off has a copy of it, and would answer beside its parent: let each
    begin sessions of its own, or keep them in a record on a disk.
    """

    def __init__(self) -> None:
        self._keys: dict[bytes, bytes] = {}
        self._answers: dict[bytes, dict[int, bytes]] = {}

    def begin(self, name: bytes, key: bytes) -> None:
        """As `Record` has it. Raises: LocalProtocolError where a session of this name is open."""
        if name in self._keys:
            raise LocalProtocolError("a session of this name is open: rng has given the same bytes twice")
        self._answers[name], self._keys[name] = {}, key

    def key(self, name: bytes) -> bytes | None:
        """As `Record` has it."""
        return self._keys.get(name)

    def answered(self, name: bytes, step: int) -> bytes | None:
        """As `Record` has it."""
        return self._answers.get(name, {}).get(step)

    def answer(self, name: bytes, step: int, digest: bytes) -> bytes | None:
        """As `Record` has it."""
        answers = self._answers.get(name)
        return None if answers is None else answers.setdefault(step, digest)

    def end(self, name: bytes) -> None:
        """As `Record` has it."""
        self._keys.pop(name, None)
        self._answers.pop(name, None)


class _Named(msgspec.Struct, frozen=True, array_like=True, tag="secagg-ticket"):
    """What a ticket of any version begins with."""

    version: int
    name: Annotated[bytes, msgspec.Meta(min_length=NAME_BYTES, max_length=NAME_BYTES)]


class _Ticket(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="secagg-ticket"):
    """name: of the session, in the client's record. step: messages that were answered, and one for the start.
    done: there are no more.
    """

    version: int
    name: Annotated[bytes, msgspec.Meta(min_length=NAME_BYTES, max_length=NAME_BYTES)]
    step: Annotated[int, msgspec.Meta(ge=1, le=2**16)]
    done: bool
    sealed: Annotated[bytes, msgspec.Meta(min_length=AE_OVERHEAD)]


class _Inside(Kept, frozen=True):
    """asked: digest of the last message that was answered, of none before the first. reply: what to."""

    suspended: bytes
    asked: Digest
    reply: bytes


_tickets, _insides = msgspec.msgpack.Decoder(_Ticket), msgspec.msgpack.Decoder(_Inside)
_named = msgspec.msgpack.Decoder(_Named)
_encoder = msgspec.msgpack.Encoder()


def begin(
    scheme: Scheme,
    u: ClientId,
    *,
    record: Record,
    rounding_seed: bytes | None = None,
    identity: Identity | None = None,
    rng: Rng = system_rng,
) -> tuple[bytes, bytes]:
    """(ticket, Join) of a new session of client u, or of a relay by the id under which it takes part: what
    `start` is of a live one. rounding_seed, identity, rng: as `Scheme.client` has them; the ticket keeps the
    seed.

    Raises: LocalProtocolError where the scheme's sessions cannot be suspended; what `record` raises.
    """
    name, key = rng(NAME_BYTES), rng(KEY_BYTES)
    draws = drawn(key, name, 0)
    client = _party(scheme, u, _never, rounding_seed=rounding_seed, identity=identity, rng=draws)
    join = client.start()
    record.begin(name, key)
    first = _Ticket(TICKET_VERSION, name, 1, False, b"")
    return _sealed(scheme, u, key, first, _made(client, bytes(DIGEST_BYTES), join), rng), join


def begin_jointly(
    scheme: Scheme,
    request: Raw,
    *,
    u: ClientId,
    record: Record,
    vectors: Contribute | None = None,
    rounding_seed: bytes | None = None,
    identity: Identity | None = None,
    once: Once | None = None,
    alike: Alike | None = None,
    tagged: Tagged | None = None,
    told: Callable[[Mapping[str, Clipping]], None] = lambda clipping: None,
    rng: Rng = system_rng,
) -> tuple[bytes, bytes]:
    """(ticket, Join and answer as one message) of a new session whose first request came with the offer: what
    `start_jointly` is of a live one. To the request again `step` gives the same bytes.

    Raises: as `begin` and `step`; the session is then over, and nothing of it is on record.
    """
    ticket, _ = begin(scheme, u, record=record, rounding_seed=rounding_seed, identity=identity, rng=rng)
    try:
        given = _Given(u, record, vectors, identity, once, alike, tagged, told, rng)
        return _step(scheme, ticket, request, given, lambda answer: joint(scheme.digest(), answer))
    except BaseException:
        end(ticket, record=record)  # nobody has it: a server whose tasks are refused would fill the record
        raise


def step(
    scheme: Scheme,
    ticket: bytes,
    message: Raw,
    *,
    u: ClientId,
    record: Record,
    vectors: Contribute | None = None,
    identity: Identity | None = None,
    once: Once | None = None,
    alike: Alike | None = None,
    tagged: Tagged | None = None,
    told: Callable[[Mapping[str, Clipping]], None] = lambda clipping: None,
    rng: Rng = system_rng,
) -> tuple[bytes, bytes]:
    """(the next ticket, the reply) to a message: what `receive` is of a live session. The next ticket takes
    the place of this one.

    The message that was answered last may come again, with the ticket from before it or from after it, and
    gets the same bytes; but for a task where noise or blanks are drawn, with the ticket from before it: that
    is done once. u, vectors, identity, once, alike: as `Scheme.client` has them, of a relay identity, once
    and tagged as `Scheme.relay`, and given at every step; once is not told again of what was answered. told:
    of what encoding changed, when it does. rng: of names, keys, noise and the tickets' nonces.

    Raises: RemoteProtocolError where the message breaks the protocol, or another was answered in its place;
    LocalProtocolError for no ticket of an open session of this client and scheme; what `record`, `vectors`
    and `once` raise. The ticket that was shown remains good.

    Security: record is this client's one and only. After `end` no ticket of the session opens any more.
    """
    given = _Given(u, record, vectors, identity, once, alike, tagged, told, rng)
    return _step(scheme, ticket, message, given, lambda answer: answer)


@dataclass(frozen=True)
class _Given(NeverPickled):
    """What a party's caller gives at every step."""

    u: ClientId
    record: Record
    vectors: Contribute | None = field(repr=False)
    identity: Identity | None = field(repr=False)
    once: Once | None
    alike: Alike | None = field(repr=False)
    tagged: Tagged | None = field(repr=False)
    told: Callable[[Mapping[str, Clipping]], None]
    rng: Rng


def _step(
    scheme: Scheme, ticket: bytes, message: Raw, given: _Given, said: Callable[[bytes], bytes]
) -> tuple[bytes, bytes]:
    """said: of an answer, as what it leaves."""
    u, record, rng, alike, tagged = given.u, given.record, given.rng, given.alike, given.tagged
    shown = _shown(ticket)
    if (key := record.key(shown.name)) is None:
        _over()
    inside = _opened(scheme, u, key, shown)
    asked = digest(OwnTag.TICKET_MESSAGE, key, bytes(message))
    if asked == inside.asked:
        return ticket, inside.reply
    if shown.done:
        raise LocalProtocolError("this session has said all it has to say")
    before = record.answered(shown.name, shown.step)
    again = before is not None
    if before is not None and before[:DIGEST_BYTES] != asked:
        _refuse()
    client = _party(
        scheme,
        u,
        given.vectors or _never,
        rounding_seed=bytes(KEY_BYTES),  # it is in the ticket
        identity=given.identity,
        # What they would put on record stands there: it was written before the answer was.
        once=None if again else given.once,
        alike=_looked_at(alike) if again else _new_once(alike, record, shown, rng),
        tagged=replace(tagged, record=_looking(tagged.record)) if again and tagged else tagged,
        rng=drawn(key, shown.name, shown.step),
    )
    client.resume(inside.suspended, _once_only if again else rng)
    answer = client.receive(message)
    assert answer is not None, "it has heard nothing before that could come again"  # noqa: S101
    reply = said(answer)
    # All checks are done; nothing has left. What came of the step is part of what is recorded: vectors that
    # come out otherwise at the second time would leave under the masks of the first.
    made = _made(client, asked, reply)
    outcome = asked + digest(OwnTag.TICKET_ANSWER, key, made)
    written = record.answer(shown.name, shown.step, outcome)
    if written is None:
        _over()
    if written != outcome:
        _refuse()
    if client.clipping:
        given.told(client.clipping)
    following = _Ticket(TICKET_VERSION, shown.name, shown.step + 1, client.done, b"")
    return _sealed(scheme, u, key, following, made, rng), reply


def done(ticket: bytes) -> bool:
    """Whether the session has said all it has to say. Raises: LocalProtocolError for what is no ticket."""
    return _shown(ticket).done


def end(ticket: bytes, *, record: Record) -> None:
    """Erase the session's key in the client's record: no ticket of it opens any more. To be called when the
    last reply is known to have arrived, and when a session is given up. The ticket may be of another version:
    whoever replaces the program ends the sessions that are open. Raises: LocalProtocolError for what is no
    ticket.
    """
    record.end(_read(_named, ticket).name)


def _party(
    scheme: Scheme,
    u: ClientId,
    vectors: Contribute,
    *,
    rounding_seed: bytes | None,
    identity: Identity | None,
    rng: Rng,
    once: Once | None = None,
    alike: Alike | None = None,
    tagged: Tagged | None = None,
) -> Stateful:
    party: ClientSession
    if (j := relay_of(u)) is not None:
        party = scheme.relay(j, identity=identity, once=once, tagged=tagged, rng=rng)
    else:
        party = scheme.client(
            u, vectors, rounding_seed=rounding_seed, identity=identity, once=once, alike=alike, rng=rng
        )
    if not isinstance(party, Stateful) or not party.suspendable:
        raise LocalProtocolError(
            "a client's session of this scheme cannot be suspended: of masking, split and plain one can; "
            "keep the process that began it"
        )
    return party


def _shown(ticket: bytes) -> _Ticket:
    if (version := _read(_named, ticket).version) != TICKET_VERSION:
        raise LocalProtocolError(
            f"a ticket of version {version}, this is version {TICKET_VERSION}: what one version has "
            "begun no other finishes; end it (tickets.end), and begin a new session"
        )
    return _read(_tickets, ticket)


T = TypeVar("T")


def _read(decoder: msgspec.msgpack.Decoder[T], ticket: bytes) -> T:
    try:
        return decoder.decode(ticket)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise LocalProtocolError("this is no ticket of a suspended session") from None


def _made(client: Stateful, asked: bytes, reply: bytes) -> bytes:
    made = _encoder.encode(_Inside(client.suspend(), asked, reply))
    if len(made) > MAX_SEALED:
        raise LocalProtocolError(
            f"a session that takes {len(made)} bytes cannot be suspended: it is {MAX_SEALED} at most; sum "
            "shorter vectors, or keep the process that began it"
        )
    return made


def _sealed(scheme: Scheme, u: ClientId, key: bytes, ticket: _Ticket, inside: bytes, rng: Rng) -> bytes:
    sealed = seal(kdf(OwnTag.TICKET, key, ticket.name), inside, _data(scheme, u, ticket), rng)
    return _encoder.encode(msgspec.structs.replace(ticket, sealed=sealed))


def _opened(scheme: Scheme, u: ClientId, key: bytes, ticket: _Ticket) -> _Inside:
    inside = unseal(kdf(OwnTag.TICKET, key, ticket.name), ticket.sealed, _data(scheme, u, ticket))
    if inside is None:
        raise LocalProtocolError(
            "this ticket does not open: it was altered, or is of another client or of other parameters"
        )
    return _insides.decode(inside)


def _data(scheme: Scheme, u: ClientId, ticket: _Ticket) -> bytes:
    done = int(ticket.done)
    return transcript(OwnTag.TICKET_DATA, ticket.version, scheme.digest(), u, ticket.name, ticket.step, done)


def drawn(key: bytes, name: bytes, step: int) -> Rng:
    """What a step of a session draws from, whenever it is taken."""
    return generator(kdf(OwnTag.TICKET_DRAWS, key, name, step))


def _new_once(alike: Alike | None, record: Record, shown: _Ticket, rng: Rng) -> Alike | None:
    """The same rule, by which all is new once in a session. A task that is refused may come again, when other
    sets were signed that it would have forgotten.
    """
    if alike is None or not alike.new or shown.step != 1:
        return alike
    mine = rng(2 * DIGEST_BYTES)
    return replace(alike, new=record.answer(shown.name, 0, mine) == mine)


def _looked_at(alike: Alike | None) -> Alike | None:
    """The same rule, which records nothing, and refuses nothing for what it has recorded: what it would add
    stands there.
    """
    return None if alike is None else replace(alike, record=_looking(alike.record), new=False)


def _looking(record: SetRecord) -> SetRecord:
    def look(decide: Callable[[Sequence[bytes]], bytes | None], /) -> None:
        def add_nothing(kept: Sequence[bytes]) -> None:
            with suppress(RemoteProtocolError):
                decide(kept)

        record(add_nothing)

    return look


def _never(task: bytes) -> NoReturn:
    raise LocalProtocolError("a client's vectors are asked for when it has its task: give them (vectors)")


def _once_only(n: int) -> NoReturn:
    # Whatever comes of it: whether two noises, or two coins, are alike is nobody's to know. And noise of a
    # seed that is kept is none to whoever finds it.
    raise RemoteProtocolError(
        "the server asks again what this client has answered with noise of its own: that is drawn once, and "
        "the ticket that has it was lost"
    )


def _over() -> NoReturn:
    raise LocalProtocolError("the session of this ticket is over, or is another client's: begin a new one")


def _refuse() -> NoReturn:
    raise RemoteProtocolError(
        "this step of the session has been answered, to another message or with other vectors: a second "
        "answer would give away what the first one hides"
    )
