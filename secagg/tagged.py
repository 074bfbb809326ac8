"""A relay's part of the rule for sums of like vectors (alike.py): it sees the sets that clients do not."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from secagg.alike import LikeTag, Name, Record, differ, may_be_signed, name_of, opened, refuse_as_too_near
from secagg.crypto import NeverPickled, OwnTag, SigningKey, seal
from secagg.errors import ClientId
from secagg.identity import Roster


class _Summed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A set that a relay has summed; empty where no other sum stands beside it, whatever the set. tags: what
    members said their sessions are alike.
    """

    members: frozenset[Name]
    tags: frozenset[LikeTag]


_summed = msgspec.msgpack.Decoder(_Summed)


@dataclass(frozen=True)
class Tagged(NeverPickled):
    """A relay's rule: what a client would see to itself, if it saw the sets. Of the sessions that clients say
    are alike, by tags that are their own, the relay helps to two different sets at most, and two that differ
    by enough.

    record, identity, roster, difference: as `Alike` has them.
    """

    record: Record = field(repr=False)
    identity: SigningKey = field(repr=False)
    roster: Roster | None = None
    difference: int | None = None

    def sum(
        self, U3: Collection[ClientId], tags: Collection[bytes], corrupt: int, *, alone: bool = False
    ) -> None:
        """Record that this relay adds the shares of U3, of whom some have these tags; before it does. alone:
        as in `Class.sign`.

        Raises: RemoteProtocolError if U3 may not be summed beside what was.
        """
        if not tags:
            return
        new = self._summed(U3, tags, alone)

        def decide(before: Sequence[_Summed]) -> _Summed | None:
            if new.members and new in before:
                return None
            if not _may_be_summed(new, before, self._apart(corrupt)):
                refuse_as_too_near()
            return new

        self._keep(decide)

    def against(
        self,
        U3: Collection[ClientId],
        tags: Mapping[ClientId, Collection[bytes]],
        corrupt: int,
        *,
        alone: bool,
    ) -> frozenset[ClientId]:
        """By whose tags U3 may not be summed beside what was, where they are A at most: so many may say what
        is not so, and end every session. The sum goes on without them, and tells nothing of theirs. None
        where they are more, for one of them at least is honest. tags: of each of U3.
        """
        found: list[ClientId] = []

        def look(before: Sequence[_Summed]) -> None:
            apart, everybody = self._apart(corrupt), frozenset[bytes]().union(*tags.values())
            if _may_be_summed(self._summed(U3, everybody, alone), before, apart):
                return
            for u, own in tags.items():
                if not _may_be_summed(self._summed(U3, own, alone), before, apart):
                    found.append(u)

        self._keep(look)
        return frozenset(found if len(found) <= corrupt else ())

    def _summed(self, U3: Collection[ClientId], tags: Collection[bytes], alone: bool) -> _Summed:
        members = frozenset[bytes]() if alone else frozenset(name_of(u, self.roster) for u in U3)
        return _Summed(members, frozenset(tags))

    def _apart(self, corrupt: int) -> int:
        return max(corrupt + 2, self.difference or 0)

    def _keep(self, decide: Callable[[Sequence[_Summed]], _Summed | None]) -> None:
        key = self.identity.derive(OwnTag.RECORD)

        def decided(kept: Sequence[bytes]) -> bytes | None:
            new = decide([_summed.decode(opened(key, sealed)) for sealed in kept])
            return None if new is None else seal(key, msgspec.msgpack.encode(new), b"")

        self.record(decided)


def _may_be_summed(new: _Summed, before: Sequence[_Summed], apart: int) -> bool:
    """Beside all sets that are alike it, or alike one that is, and so on. Where no client is in more than two
    of three sums, S1 - S2 + S3 still isolates the one that is in S1 alone, if S2 has the rest of S1 and S3.
    """
    tags, earlier, others = new.tags, set[frozenset[bytes]](), before
    while near := [one for one in others if not tags.isdisjoint(one.tags)]:
        others = [one for one in others if tags.isdisjoint(one.tags)]
        tags = tags.union(*(one.tags for one in near))
        earlier.update(one.members for one in near)
    if earlier and not (new.members and all(earlier)):
        return False  # one that is alone
    return may_be_signed(earlier, new.members, apart, differ)
