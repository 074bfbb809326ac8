"""A server's part of the rule for sums of like vectors (alike.py): whose vectors it adds of those that are
there, so that who keeps to the rule, clients or relays, helps to the sum. It leaves out as few as it can.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

from secagg.alike import Class, differ, may_be_signed
from secagg.errors import ClientId, TooFewClients

Members = frozenset[ClientId]
T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """The sums of a session, beside those of sessions that it is alike.

    like: these sessions; None without the rule: then all are summed. parts: whose vectors are summed apart.
    earlier: of each part the sets that were signed (`Class.earlier`). least: of how many a part is opened; of
    one that is not, nothing is signed. corrupt: A of a part. batches, alone: as in `Class.sign`.
    """

    like: Class | None
    parts: Sequence[Members]
    earlier: Sequence[Sequence[frozenset[bytes]]]
    least: int
    corrupt: int
    batches: Sequence[Members] = ()
    alone: bool = False

    def summed(self, there: Sequence[ClientId], needed: int, round: str) -> Members | None:
        """As many of those who are there as there may be sums of: of each part the largest set that may be
        signed, or where that is too small to be opened as many as leave the part closed, for they still help
        to open the others. None where no part may be opened, whoever is left out.

        there: in the order in which they came; who came first is left out by itself (`spare`). needed: of all
        parts together. Too few, or too few of each part, are returned as they are.

        Raises: TooFewClients where the rule leaves fewer.
        """
        came = [[u for u in there if u in part] for part in self.parts]
        too_few = len(there) < needed or all(len(some) < self.least for some in came)
        if self.like is None or too_few:
            return frozenset(there)
        beside = [
            (some, self._signed(self.like, some, earlier))
            for some, earlier in zip(came, self.earlier, strict=True)
        ]
        most, of = max((len(signed), len(some)) for some, signed in beside)
        if not most:
            return None
        if most < self.least:
            raise TooFewClients(most, self.least, round, too_near=of - most)
        chosen = frozenset[ClientId]().union(
            *(signed if len(signed) >= self.least else some[: self.least - 1] for some, signed in beside)
        )
        if len(chosen) < needed:
            raise TooFewClients(len(chosen), needed, round, too_near=len(there) - len(chosen))
        return chosen

    def _signed(self, like: Class, came: Sequence[ClientId], earlier: Sequence[frozenset[bytes]]) -> Members:
        """Of one part; empty where none may be signed, or too few came for it."""
        if len(came) < self.least or (earlier and self.alone) or frozenset() in earlier:
            return frozenset()
        ids = {like.name(u): u for u in came}
        whole = [frozenset(map(like.name, batch)) for batch in self.batches]
        apart, most = like.apart(self.corrupt), like.most
        chosen = largest(list(ids), earlier, apart, differ, whole=whole, most=most)
        return frozenset(ids[name] for name in chosen)

    def earlier_among(self, some: Collection[ClientId]) -> list[list[Members]]:
        """Of each part the earlier sets, by ids: whoever of these was in the same of them is left out, or
        not, with all others who were; but for `spare`.
        """
        if self.like is None:
            return [[] for _ in self.parts]
        names = {u: self.like.name(u) for u in some}
        return [
            [frozenset(u for u, name in names.items() if name in members) for members in earlier]
            for earlier in self.earlier
        ]

    @property
    def spare(self) -> int:
        """How many of those who came first, of a part's only earlier set, are left out one by one."""
        return 0 if self.like is None or self.batches else self.like.apart(self.corrupt)


def in_whole(batches: Collection[Members], there: Members) -> Members:
    """Who can be in a sum by whole batches; the others count as dropped."""
    return there.difference(*(batch for batch in batches if not batch <= there))


def largest(
    arrived: Sequence[T],
    signed: Sequence[frozenset[T]],
    difference: int,
    differ: Callable[[frozenset[T], frozenset[T]], int],
    *,
    whole: Sequence[frozenset[T]] = (),
    most: int = 2,
) -> frozenset[T]:
    """The largest subset of the arrived that may be signed, of: all; an earlier set; and all but some of the
    first `difference` of those that were in the one earlier set. Empty if there is none.

    whole: batches; then each is in it whole or not at all, and one of them is left out, if need be.
    """
    everybody = frozenset(arrived)
    candidates = [everybody, *(earlier for earlier in signed if earlier <= everybody)]
    if len(signed) == 1 and whole:
        candidates += [everybody - batch for batch in whole if batch <= everybody]
    elif len(signed) == 1:
        missing = max(0, difference - differ(everybody, signed[0]))
        out = [u for u in arrived if u in signed[0]][:missing]
        candidates.append(everybody - set(out))
    allowed = [
        some
        for some in candidates
        if all(batch <= some or not batch & some for batch in whole)
        and may_be_signed(signed, some, difference, differ, most=most)
    ]
    return max(allowed, key=len, default=frozenset())
