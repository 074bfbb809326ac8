"""What two sums of like vectors give away, and the rule of a client, and of a server that plans, against it.

A sum over everybody less a sum over all but one is that one's vector, if what everybody sends comes out alike
in both sessions. A client sees neither the other sets nor the difference; what it can see to is that of one
class of like sessions it signs at most two different sets of survivors, and two that differ by enough.

Two sets, for then nothing but their difference can be isolated: coefficients a and b give a on the one side
of the difference, b on the other and a + b on what the two share. With four sets that differ pairwise by as
much, sums of three or more isolate a client.

What it signs is not all that its vector is in: a set may be signed by others, once it has uploaded. So of one
class of like sessions it uploads in those of one frame alone: one cut into groups, or none, and of so many
clients that there may be two sets, or of so few that there is one. Else those of whom a set and a larger one
differ could sign a sum of their own, of another cut or of a smaller cohort, and all but one of the difference
be taken off again.

Alike is decided from what the server knows, the task, and never from a client's vectors: a refusal that
depended on them would tell about them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Annotated, Final, NoReturn, Protocol, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from secagg.crypto import NeverPickled, OwnTag, Rng, SigningKey, digest, seal, system_rng, unseal
from secagg.errors import ClientId, LocalProtocolError, RemoteProtocolError
from secagg.identity import Roster
from secagg.sketch import is_near, sketch

NAME_BYTES: Final = 20
TAG_BYTES: Final = 16
MAX_TAGS: Final = 4
"""Classes of like sessions that one may be near to at once, where models have moved from one to the other."""
_YET_TO_BE_DRAWN: Final = b"?"  # which names no cut
_ID, _KEY = slice(4), slice(4, NAME_BYTES)


@dataclass(frozen=True)
class Likeness:
    """What the vectors of a session are computed from, as far as the server knows it.

    kind: sessions of two kinds are never alike. model: (d,) real, where training starts; sessions of one kind
    are alike if their models are near, or if there is none. whatever: it is alike all of its kind, whatever
    their models: for who asks, near is what it makes so.
    """

    kind: str
    model: NDArray[np.floating] | None = field(default=None, repr=False)
    whatever: bool = False


OWN_INPUT: Final = Likeness("input")
"""Of a vector that is given, not computed from the task."""
ONE_CUT: Final = "one cut: "
"""Begins the kind under which a party's cut stands on record, before the name that the party gave."""


class Record(Protocol):
    """What must not be forgotten, in order, opaque."""

    def __call__(self, decide: Callable[[Sequence[bytes]], bytes | None], /) -> None:
        """Under one lock: `decide` is given all that is kept; what it returns is kept, durably, before this
        returns. What it raises is raised, and nothing kept.
        """
        ...


def in_memory() -> Record:
    """A record of one process, for experiments: with it the rule is forgotten."""
    kept: list[bytes] = []

    def record(decide: Callable[[Sequence[bytes]], bytes | None], /) -> None:
        if (new := decide(kept)) is not None:
            kept.append(new)

    return record


Name = Annotated[bytes, msgspec.Meta(min_length=NAME_BYTES, max_length=NAME_BYTES)]


LikeTag = Annotated[bytes, msgspec.Meta(min_length=TAG_BYTES, max_length=TAG_BYTES)]


class _Entry(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A set that was signed. sketch: SKETCH little-endian float32, or empty. members: empty where the client
    decrypts alone, or contributes by a coin, whatever the set, and where relays see to the sets. partition:
    of sums by whole batches, which; where relays see to the sets, a digest of their keys; where a server sums
    by coins, its session. anew: what was recorded of this kind before is unlike what comes. tags: what relays
    were told, by which they know what is alike. part: of sums of so few of the roster that there is one. cut:
    of groups that are summed apart, which. left: no set was signed, a vector has left for one.
    """

    kind: str
    sketch: bytes
    members: frozenset[Name]
    partition: bytes
    anew: bool = False
    tags: tuple[LikeTag, ...] = ()
    part: bool = False
    cut: bytes = b""
    left: bool = False

    @property
    def frame(self) -> tuple[bytes, bool]:
        return self.cut, self.part

    @property
    def once(self) -> bool:
        return not (self.members or self.left or self.tags)


_entries = msgspec.msgpack.Decoder(_Entry)


@dataclass(frozen=True)
class Alike(NeverPickled):
    """One party's rule: what is alike, and what it has signed of that.

    likeness: task -> what its vectors are computed from, None for vectors that come out unlike whatever was
    before. difference: clients by which two sets must differ, if more than A + 2: with so many two honest
    ones do. roster: of the identity keys by which clients are told apart; None for their ids. new: what was
    signed of the same kind so far is of other vectors. one_cut: a name under which all of this party's
    vectors, alike or not, are summed by one cut; None: by any that the rest allows.

    Security: the record is sealed under a key of the identity, and of no other party's use.
    """

    likeness: Callable[[bytes], Likeness | None]
    record: Record = field(repr=False)
    identity: SigningKey = field(repr=False)
    roster: Roster | None = None
    difference: int | None = None
    new: bool = False
    one_cut: str | None = None

    def of(self, task: bytes, signed: tuple[int, int, int | None] | None = None) -> Class | None:
        """The class of the session with this task; None if nothing is alike. signed: (m_min, A, R), where
        each client sees to its own sets alone; of no R it is that of the roster's clients. Of groups m_g, A_g
        and g.

        If 2 m_min > R + A + 1, no sums isolate one: there are three different sets at most, for each client
        is in two, and any two have two honest clients in common. Else S2 may be all of S1 but one client, and
        all of S3, and S1 - S2 + S3 is that one's.
        """
        likeness = self.likeness(task)
        if likeness is None:
            return None
        model = likeness.model
        made = b"" if model is None else sketch(model, self.identity.derive(OwnTag.SKETCH)).tobytes()
        part = False
        if self.roster is not None and signed is not None:
            m_min, A, R = signed
            part = 2 * m_min <= (len(self.roster.keys) if R is None else R) + A + 1
        begun = Class(self, likeness.kind, made, part, likeness.whatever)
        if self.new:
            begun.begin()
        return begun

    def keep_to(self, cut: Sequence[frozenset[ClientId]] | None, *, leaving: bool) -> None:
        """Hold the groups that a session sums apart, () if it sums all, against `one_cut`. cut: None where
        they are yet to be drawn. leaving: record them; to be called before this party's vector leaves.

        Raises: RemoteProtocolError if a vector has left in a session that was cut otherwise.
        """
        if self.one_cut is None:
            return
        kept = Class(self, ONE_CUT + self.one_cut, b"", whatever=True)
        named = _YET_TO_BE_DRAWN if cut is None else kept.named(cut)

        def decide(near: Sequence[_Entry]) -> _Entry | None:
            if any(entry.cut != named for entry in near):
                refuse_as_cut_anew()
            if near or not leaving:
                return None
            return _Entry(kept.kind, b"", frozenset(), b"", cut=named, left=True)

        kept.keep(decide)


@dataclass(frozen=True)
class Class(NeverPickled):
    """Sessions that are alike this one. part: of so few that three sums may isolate one client, so that there
    is one. whatever: as of `Likeness`. session: at a server, which this is, that what stands on record of
    itself is no reason against it when it is taken up again.
    """

    rule: Alike = field(repr=False)
    kind: str
    sketch: bytes = field(repr=False)
    part: bool = False
    whatever: bool = False
    session: bytes = b""

    def begin(self) -> None:
        """Whatever was signed of this kind before, was of other vectors."""
        self.keep(lambda near: _Entry(self.kind, b"", frozenset(), b"", anew=True))

    def leave(self, cut: Sequence[frozenset[ClientId]] = ()) -> None:
        """Record that this party's vector leaves, whatever set it will be in; to be called before it does.
        cut: as in `sign`.

        Raises: RemoteProtocolError if one has left in a session that is alike, of another frame, or in one
        beside which there is none (`once`).
        """
        new = _Entry(self.kind, self.sketch, frozenset(), b"", part=self.part, cut=self.named(cut), left=True)

        def decide(near: Sequence[_Entry]) -> _Entry | None:
            # A sum by coins may be of this very session, if its step is taken again: then one has left.
            again = new in near
            beside = [entry for entry in near if not (again and entry.once)]
            if any(entry.once or entry.tags or entry.frame != new.frame for entry in beside):
                refuse_as_too_near()
            return None if again else new

        self.keep(decide)

    def sign(
        self,
        U3: Collection[ClientId],
        corrupt: int,
        batches: Sequence[frozenset[ClientId]],
        *,
        alone: bool = False,
        cut: Sequence[frozenset[ClientId]] = (),
    ) -> None:
        """Record that this party signs U3; to be called before it does.

        corrupt: A. batches: of the session's partition, empty if there is none. alone: no other sum may stand
        beside this one, not even of the same set. cut: the groups that are summed apart; U3 is then of one of
        them, and beside sums of like vectors that were cut otherwise there is none: two cuts tell more than
        either.
        Raises: RemoteProtocolError if U3 may not be summed beside what was signed.
        """
        if alone:
            self.once(left=True)
            return
        members, apart = frozenset(map(self.name, U3)), self.apart(corrupt)
        # How large batches are is the server's to choose; by how much sets differ, this party's.
        partition = self.named(batches) if all(len(batch) >= apart for batch in batches) else b""
        new = _Entry(self.kind, self.sketch, members, partition, part=self.part, cut=self.named(cut))
        group = self._group(U3, cut)
        self.keep(lambda near: _checked(new, _of_group(near, new.cut, group), apart))

    def once(self, *, left: bool = False) -> None:
        """Record a session beside which there is none: in which this client decides alone what it decrypts,
        or of which nobody knows whose vectors are in the sum. left: this party's vector stands on record as
        having left (`leave`), in this session or in another.

        Raises: RemoteProtocolError if there was any like it.
        """
        new = _Entry(self.kind, self.sketch, frozenset(), self.session)

        def decide(near: Sequence[_Entry]) -> _Entry | None:
            # Others may have signed a sum that it is in, and sign what is left of that but for one of them.
            if not left and any(entry.left for entry in near):
                refuse_as_too_near()
            return _checked(new, near, 0)

        self.keep(decide)

    def tags(self, rng: Rng = system_rng) -> tuple[bytes, ...]:
        """What tells relays which sessions this one is alike, and nothing else: random when the first of them
        comes. Recorded; to be called before they are told.

        Raises: RemoteProtocolError if this client has seen to the set, or decrypted, in a session alike, or
        if others were the relays then: the one of those that is honest may be gone, and its record with it;
        and in a second session alike at all, if it insists on a difference.
        """
        found: list[bytes] = []
        roster = self.rule.roster
        listed = [] if roster is None else [key for _, key in sorted(roster.relays.items())]
        relays = digest(OwnTag.RECORD_MEMBER, *listed)

        def decide(near: Sequence[_Entry]) -> _Entry | None:
            found.extend(dict.fromkeys(tag for entry in near for tag in entry.tags))
            unseen = bool(near) and self.rule.difference is not None  # by how much sets differ, relays say
            if unseen or any(entry.partition != relays for entry in near) or len(found) > MAX_TAGS:
                refuse_as_too_near()
            if not found:
                found.append(rng(TAG_BYTES))
            new = _Entry(self.kind, self.sketch, frozenset(), relays, tags=tuple(found))
            return None if new in near else new

        self.keep(decide)
        return tuple(found)

    def earlier(
        self,
        batches: Sequence[frozenset[ClientId]],
        some: Collection[ClientId] = (),
        cut: Sequence[frozenset[ClientId]] = (),
    ) -> list[frozenset[bytes]]:
        """The different sets that were signed, as names; none where all are of this same partition. some: of
        the group whose sets are asked for, where there are groups; if they are of another frame, the empty
        set, beside which there is no other.
        """
        found: list[frozenset[bytes]] = []
        partition, cut_as, group = self.named(batches), self.named(cut), self._group(some, cut)

        def look(near: Sequence[_Entry]) -> None:
            near = [entry for entry in near if not self.session or entry.partition != self.session]
            if any(entry.frame != (cut_as, self.part) for entry in near if not entry.once):
                found.append(frozenset())
                return
            near = [entry for entry in _of_group(near, cut_as, group) if not entry.left]
            if not (partition and all(entry.partition == partition for entry in near)):
                found.extend(dict.fromkeys(entry.members for entry in near))

        self.keep(look)
        return found

    def name(self, u: ClientId) -> bytes:
        return name_of(u, self.rule.roster)

    def apart(self, corrupt: int) -> int:
        """Clients by which two different sets have to differ."""
        return max(corrupt + 2, self.rule.difference or 0)

    @property
    def most(self) -> int:
        """Different sets that are signed of this class."""
        return _most(self.part)

    def _group(self, some: Collection[ClientId], cut: Sequence[frozenset[ClientId]]) -> frozenset[bytes]:
        """The names of the group whose members some are; of no cut empty."""
        return frozenset(self.name(u) for group in cut if not group.isdisjoint(some) for u in group)

    def named(self, batches: Sequence[frozenset[ClientId]]) -> bytes:
        """What tells a partition, or a cut, from every other; empty of none."""
        named = sorted(b"".join(sorted(map(self.name, batch))) for batch in batches)
        return digest(OwnTag.RECORD_MEMBER, *named) if named else b""

    def keep(self, decide: Callable[[Sequence[_Entry]], _Entry | None]) -> None:
        """Keep what `decide` gives, if anything, of what stands on record of sessions that are alike."""
        key = self.rule.identity.derive(OwnTag.RECORD)

        def decided(kept: Sequence[bytes]) -> bytes | None:
            entries = [_entries.decode(opened(key, sealed)) for sealed in kept]
            of_kind = [entry for entry in entries if entry.kind == self.kind]
            last = max((i for i, entry in enumerate(of_kind) if entry.anew), default=-1)
            since = of_kind[last + 1 :]
            near = [entry for entry in since if self.whatever or is_near(entry.sketch, self.sketch)]
            new = decide(near)
            return None if new is None else seal(key, msgspec.msgpack.encode(new), b"")

        self.rule.record(decided)


def name_of(u: ClientId, roster: Roster | None) -> bytes:
    """A client's id, and its identity key where there is a roster: either may be another's one day."""
    listed = roster.keys.get(u) if roster is not None else None
    key = digest(OwnTag.RECORD_MEMBER, u if listed is None else listed)
    return (u.to_bytes(4, "big") + key)[:NAME_BYTES]


def opened(key: bytes, sealed: bytes) -> bytes:
    """Raises: LocalProtocolError for what was not sealed under this key."""
    raw = unseal(key, sealed, b"")
    if raw is None:
        raise LocalProtocolError(
            "the record of what this key has signed is damaged, or another key's: what may still be "
            "signed is not known; make a new key and have the roster changed"
        )
    return raw


def refuse_as_too_near() -> NoReturn:
    # A constant: it tells nothing about the vectors, nor about what was signed.
    raise RemoteProtocolError(
        "the server asks for a sum too near to earlier ones of like vectors, of which a client signs two "
        "different sets at most. If this input is new, say new=True; a training has to take more steps, of "
        "fewer examples each (local_steps=), or whole batches (batch=)"
    )


def refuse_as_cut_anew() -> NoReturn:
    raise RemoteProtocolError(
        "the server cuts the cohort otherwise than before, and this client insists on one cut: have it go on "
        "with the groups it had. If this is another run, give it another name (one_cut, in its policy)"
    )


def _of_group(near: Sequence[_Entry], cut: bytes, group: frozenset[bytes]) -> list[_Entry]:
    """Those that say something of this group: not what the same cut gave of another."""
    return [entry for entry in near if not cut or entry.cut != cut or not group.isdisjoint(entry.members)]


def _checked(new: _Entry, near: Sequence[_Entry], difference: int) -> _Entry | None:
    """`new`, where it may be signed beside what is near it; None where just that was. Raises:
    RemoteProtocolError.
    """
    if (new.members or new.partition) and new in near:
        return None  # or a server could have a record grow without end
    if any(entry.cut != new.cut for entry in near):
        refuse_as_too_near()
    near = [entry for entry in near if not entry.left]
    if new.partition and all(entry.partition == new.partition for entry in near):
        return new  # So et al. (2021): of whole batches of one partition no combination isolates less
    together = (*near, new)
    alone = [entry for entry in together if not entry.members]
    most = _most(any(entry.part for entry in together))
    if (near and alone) or not may_be_signed(
        {entry.members for entry in near}, new.members, difference, differ, most=most
    ):
        refuse_as_too_near()
    return new


def _most(part: bool) -> int:
    """Different sets that a client signs (`Alike.of`)."""
    return 1 if part else 2


T = TypeVar("T")


def _differ(a: frozenset[T], b: frozenset[T]) -> int:
    return len(a ^ b)


def differ(a: frozenset[bytes], b: frozenset[bytes]) -> int:
    """Clients by which two sets of names differ, by ids or by keys, whichever are fewer. Who has a new key
    may give the vector it gave before: as two clients it would stand for two of the difference.
    """
    return min(_differ(frozenset(x[part] for x in a), frozenset(x[part] for x in b)) for part in (_ID, _KEY))


def may_be_signed(
    signed: Collection[frozenset[T]],
    new: frozenset[T],
    difference: int,
    differ: Callable[[frozenset[T], frozenset[T]], int] = _differ,
    *,
    most: int = 2,
) -> bool:
    """Whether a set may be signed beside those that were: at most two are different, and by so many."""
    different = {*signed, new}
    return len(different) <= most and all(differ(a, b) >= difference for a, b in combinations(different, 2))
