"""What of a session is summed together: all of U1, or each of the groups that the cohort is cut into."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from secagg.aggregate import Aggregate
from secagg.alike import Class
from secagg.errors import ClientId
from secagg.graph import Graph
from secagg.masking.groups import Groups, corrupt_in_group, cut, largest_group, of
from secagg.planning import Plan
from secagg.private import Reading

if TYPE_CHECKING:
    from secagg.masking import Masking

Members = frozenset[ClientId]
Cut = Sequence[Members]


@dataclass(frozen=True)
class OneSum:
    """Of all of U1, which is the one part of its cut."""

    parameters: Masking

    @property
    def most(self) -> int:
        """How many clients one sum has at most."""
        return self.parameters.clients

    @property
    def least(self) -> int:
        """Of how many survivors a sum is opened; against an active server, of how many who signed."""
        return self.parameters.m_min

    @property
    def corrupt(self) -> int:
        """How many corrupt clients one sum has at most."""
        return self.parameters.corrupt

    @property
    def honest(self) -> int:
        """How many honest clients are in a sum at least."""
        return self.least - self.corrupt

    @property
    def signed(self) -> tuple[int, int, int | None]:
        """What decides whether of like vectors there may be two sums (`Alike.of`)."""
        return self.least, self.corrupt, None

    def takes(self, U1: Collection[ClientId]) -> bool:
        """Whether these are of the cohort that is cut."""
        return True

    def seed(self, sid: bytes) -> bytes:
        """By which session `sid` is cut, and a later one can be; empty where nothing is."""
        return b""

    def cut(self, sid: bytes, U1: Collection[ClientId]) -> Cut:
        """The parts that are summed apart, of whoever is cut, also who is not in U1."""
        return [frozenset(U1)]

    @property
    def announced(self) -> Cut | None:
        """The groups, as far as the offer says how they are cut; None where they are yet to be drawn."""
        return ()

    def groups(self, cut: Cut) -> Cut:
        """Those that a client knows as groups: none where all are summed."""
        return ()

    def masks(self, graph: Graph, cut: Cut, u: ClientId) -> Members:
        """Whose masks cancel with u's."""
        return graph.neighbours(u)

    def opened(self, cut: Cut, there: Members) -> list[Members]:
        """The parts of which enough are there for their sum to be opened: of no other any share is given."""
        return [part for part in cut if len(part & there) >= self.least]

    def worthwhile(self, cut: Cut, alive: Members) -> Members:
        """Who may be asked to upload: all, for of too few of all there is no session."""
        return alive

    def plan(
        self,
        like: Class | None,
        batches: Sequence[Members],
        cut: Cut,
        earlier: Sequence[Sequence[frozenset[bytes]]] | None = None,
    ) -> Plan:
        """Of whom a server may add the vectors. earlier: as it has it, where it was looked up before."""
        alone = self.parameters.blanks_alone
        if earlier is None:
            of, groups = () if alone else batches, self.groups(cut)
            earlier = [] if like is None else [like.earlier(of, part, groups) for part in cut]
        return Plan(like, cut, earlier, self.least, self.corrupt, batches, alone)

    def leave_alike(self, like: Class, cut: Cut) -> None:
        """Put on record that this party's vector leaves, whatever becomes of the sum. Raises:
        RemoteProtocolError (`Class.leave`).
        """
        like.leave(self.groups(cut))

    def sign_alike(
        self, like: Class, summed: Collection[ClientId], batches: Sequence[Members], cut: Cut
    ) -> None:
        """Put on record that this party helps to this sum. Raises: RemoteProtocolError (`Class.sign`)."""
        alone = self.parameters.blanks_alone
        like.sign(summed, self.corrupt, batches, alone=alone, cut=self.groups(cut))

    def together(self, parts: Sequence[Aggregate], readings: Mapping[str, Reading], sid: bytes) -> Aggregate:
        """What the server of session `sid` learns of these sums."""
        (total,) = parts
        return total


@dataclass(frozen=True)
class GroupSums(OneSum):
    """Of each group. Its masks are shared by all of it and by nobody else."""

    cut_as: Groups

    @property
    def most(self) -> int:
        return largest_group(self.parameters.clients, self.cut_as.number)

    @property
    def least(self) -> int:
        return self.cut_as.m_g

    @property
    def corrupt(self) -> int:
        return corrupt_in_group(self.parameters.clients, self.parameters.corrupt, self.cut_as.number)

    @property
    def honest(self) -> int:
        # Of unsafe groups no noise is sure to be there: results of theirs have no epsilon.
        sure = self.least - self.corrupt
        return max(sure, 1) if self.cut_as.unsafe else sure

    @property
    def signed(self) -> tuple[int, int, int | None]:
        # Beside the groups of a cut no others are summed, whoever else the roster lists.
        return self.least, self.corrupt, self.most

    def takes(self, U1: Collection[ClientId]) -> bool:
        return not self.cut_as.cohort or set(U1) <= set(self.cut_as.cohort)

    def seed(self, sid: bytes) -> bytes:
        return self.cut_as.seed or sid

    def cut(self, sid: bytes, U1: Collection[ClientId]) -> Cut:
        members = self.cut_as.cohort or tuple(sorted(U1))
        return cut(members, self.parameters.clients, self.cut_as.number, self.seed(sid))

    @property
    def announced(self) -> Cut | None:
        return self.cut(b"", ()) if self.cut_as.seed else None

    def groups(self, cut: Cut) -> Cut:
        return cut

    def masks(self, graph: Graph, cut: Cut, u: ClientId) -> Members:
        return of(u, cut) & graph.everyone - {u}

    def worthwhile(self, cut: Cut, alive: Members) -> Members:
        """Those of groups that can still be opened: in any other a client would not upload."""
        return frozenset[ClientId]().union(*(part & alive for part in self.opened(cut, alive)))

    def together(self, parts: Sequence[Aggregate], readings: Mapping[str, Reading], sid: bytes) -> Aggregate:
        return Aggregate.of_parts(self.parameters.vectors, parts, readings, self.seed(sid))
