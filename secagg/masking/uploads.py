"""Where the server adds what is uploaded: as it arrives, and apart as far as some may have to be left out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from secagg.bits import Words, add_each, add_packed, pack_each
from secagg.errors import ClientId
from secagg.states import Kept
from secagg.wire import Id, Raw

Members = frozenset[ClientId]


class KeptUploads(Kept, frozen=True):
    """Vectors are packed, in the order of their names. parts: members and their sum, of the one part that is
    the total itself without it. apart: uploads that are kept by themselves, in the order in which they came.
    """

    earlier: list[list[Id]]
    spare: int
    parts: list[tuple[list[Id], list[bytes]]]
    apart: dict[Id, list[bytes]]
    total: list[bytes]
    summed: list[Id]


@dataclass
class Uploads:
    """The sum of a session's uploads, in parts of which each is in it whole or not at all.

    zeros: a new accumulator, by vector. bits: of each vector's ring. batches: of the session's partition.
    earlier: sets that were summed of like vectors; of the first `spare` uploads by members of the only one,
    each is kept by itself.

    Memory: an accumulator, and one more for each batch that is not whole yet (where there are earlier sets,
    for each batch), or each region that up to two earlier sets cut the cohort into; and `spare` packed
    uploads.
    """

    zeros: Callable[[], dict[str, Words]]
    bits: Mapping[str, int]
    batches: Collection[Members] = ()
    earlier: Sequence[Members] = ()
    spare: int = 0
    _batch_of: dict[ClientId, Members] = field(init=False)
    _parts: dict[Hashable, tuple[set[ClientId], dict[str, Words]]] = field(default_factory=dict, repr=False)
    _kept: dict[ClientId, dict[str, bytes]] = field(default_factory=dict, repr=False)
    _total: dict[str, Words] = field(init=False, repr=False)
    _summed: set[ClientId] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._batch_of = {u: batch for batch in self.batches for u in batch}
        self._total = self.zeros()

    def add(self, u: ClientId, packed: Mapping[str, Raw]) -> None:
        """Add vectors that have been checked: half an upload could never be taken out of a sum again."""
        if len(self.earlier) == 1 and u in self.earlier[0] and len(self._kept) < self.spare:
            self._kept[u] = {name: bytes(raw) for name, raw in packed.items()}
            return
        key = self._part_of(u)
        if key not in self._parts:
            # The first part without a condition is the sum itself.
            self._parts[key] = set(), self.zeros() if key else self._total
        members, sums = self._parts[key]
        members.add(u)
        self._add(sums, packed)
        if u in self._batch_of and members == self._batch_of[u] and not self.earlier:
            self._merge(key)

    def _part_of(self, u: ClientId) -> Hashable:
        if u in self._batch_of:
            return self._batch_of[u]
        return tuple(u in some for some in self.earlier)

    def _add(self, sums: Mapping[str, Words], packed: Mapping[str, Raw]) -> None:
        for name, raw in packed.items():
            add_packed(sums[name], raw, self.bits[name])

    def _merge(self, key: Hashable) -> None:
        members, sums = self._parts.pop(key)
        self._summed |= members
        for name, total in self._total.items():
            if sums[name] is not total:
                total += sums[name]

    def close(self, U3: Members) -> dict[str, Words]:
        """The sum of just these uploads; all others are gone. To be called once.

        U3: of each part all members or none.
        """
        for key, (members, _) in list(self._parts.items()):
            if members <= U3:
                self._merge(key)
        for u, packed in self._kept.items():
            if u in U3:
                self._summed.add(u)
                self._add(self._total, packed)
        self._parts, self._kept = {}, {}
        assert self._summed == U3, "uploads were summed that are not in U3, or the other way round"  # noqa: S101
        return self._total

    def keep(self) -> KeptUploads:
        return KeptUploads(
            [sorted(some) for some in self.earlier],
            self.spare,
            [
                (sorted(members), pack_each(sums, self.bits) if key else [])
                for key, (members, sums) in self._parts.items()
            ],
            {u: [raw for _, raw in sorted(packed.items())] for u, packed in self._kept.items()},
            pack_each(self._total, self.bits),
            sorted(self._summed),
        )

    @classmethod
    def of(
        cls,
        kept: KeptUploads,
        zeros: Callable[[], dict[str, Words]],
        bits: Mapping[str, int],
        batches: Collection[Members],
    ) -> Uploads:
        """The same again."""
        uploads = cls(zeros, bits, batches, [frozenset(some) for some in kept.earlier], kept.spare)
        add_each(uploads._total, kept.total, bits)
        for members, packed in kept.parts:
            key = uploads._part_of(members[0])
            uploads._parts[key] = set(members), zeros() if key else uploads._total
            if key:
                add_each(uploads._parts[key][1], packed, bits)
        uploads._kept = {u: dict(zip(sorted(bits), packed, strict=True)) for u, packed in kept.apart.items()}
        uploads._summed = set(kept.summed)
        return uploads

    @property
    def arrived(self) -> list[ClientId]:
        """Those that are kept by themselves first, in the order in which they came."""
        return [*self._kept, *(u for members, _ in self._parts.values() for u in members), *self._summed]
