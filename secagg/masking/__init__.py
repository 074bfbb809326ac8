"""The masking scheme: secure aggregation by Bonawitz et al. (CCS 2017) on the complete graph, by Bell et al.
(CCS 2020) on a sparse one; against a semi-honest or an active server.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from secagg.alike import Alike
from secagg.crypto import Rng, system_rng
from secagg.errors import ClientId, LocalProtocolError, RemoteProtocolError, counted
from secagg.graph import Graph, graph_of
from secagg.identity import Identity, Roster
from secagg.masking.choice import dropouts, graph_numbers, least_quorum, neighbourhood
from secagg.masking.groups import Groups, default_of_group
from secagg.masking.messages import (
    ADVERTISE_KEYS,
    CONSISTENCY_CHECK,
    MASKED_INPUT,
    SHARE_KEYS,
    UNMASKING,
)
from secagg.masking.server import MaskingServer
from secagg.masking.session import MaskingClient
from secagg.masking.sums import GroupSums, OneSum
from secagg.masking.words import AGAINST, OF_GROUPS, UNSAFE_GROUPS, in_words
from secagg.parallel import Executor
from secagg.params import NoisedParameters, check_clients, corrupt_clients, named
from secagg.policy import Adversary, GraphChoice
from secagg.prg import Prg
from secagg.session import Contribute, Once
from secagg.specs import Private, Spec, Vectors, Weight, integer, set_exactly
from secagg.wire import context_of

if TYPE_CHECKING:
    from secagg.policy import Policy


class Masking(NoisedParameters, frozen=True, kw_only=True, tag="masking"):
    """Sums under pairwise masks that cancel: exact, whoever drops out; also against an active server.

    adversary: what the server may do. corrupt: A, how many clients may be on its side. dropout: d, how many
    the session can lose by the choice of its numbers. degree: k, neighbours of a client; n - 1 is the
    complete graph. threshold: t, shares that rebuild a secret. m_min: the smallest U3 a client unmasks.
    batch: clients are summed by whole batches of a fixed partition, of so many each; 0 for none. prg: of the
    masks. blank: P, with what probability a client contributes nothing. roster: digest of the roster, active
    only. groups: into which the cohort is cut, each summed apart; unset for one sum of all. `for_cohort`
    finds the numbers.

    Security: semi-honest, against a server that follows the protocol and, on the complete graph, fewer than t
    clients with it, on a sparse one A; active, against a server that does not, and A clients. The sum is
    right only if all clients are honest.

    Source: Bonawitz et al., CCS 2017; the sparse graph: Bell et al., CCS 2020.
    """

    every_round = ("join", ADVERTISE_KEYS, SHARE_KEYS, MASKED_INPUT, CONSISTENCY_CHECK, UNMASKING)
    training_round = ADVERTISE_KEYS
    upload_round = MASKED_INPUT
    opening_round = MASKED_INPUT  # from here on clients upload to a U2 that an unmasking may follow
    slow_rounds = (ADVERTISE_KEYS,)

    threshold: int
    degree: int
    dropout: int = 0
    batch: int = 0
    groups: Groups | msgspec.UnsetType = msgspec.UNSET  # unset it is not sent: an offer without is as ever

    def __post_init__(self) -> None:
        super().__post_init__()
        for number in ("threshold", "degree", "dropout", "batch"):
            set_exactly(self, number, int)
        n, A, d = self.clients, self.corrupt, self.dropout
        self._check(
            0 <= d < n, f"{counted(d, 'dropout')} of {counted(n, 'client')} are impossible: from 0 to {n - 1}"
        )
        least = least_quorum(n, self.adversary, A)
        self._check(
            least <= n - d,
            f"{n} clients of whom {A} are corrupt and {d} drop out: {least} would have to be left",
        )
        if self.complete:
            self._check_complete(least)
        else:
            self._check_sparse(max(least, n - d))
        # A + 2, so that with the server's A clients taken away two are left whose sum it is.
        self._check(
            self.batch == 0 or A + 2 <= self.batch <= n,
            f"a batch of {self.batch} is impossible: with {A} of {n} clients corrupt it has {A + 2} to {n}",
        )
        if self.groups is not msgspec.UNSET:
            self._check_groups(self.groups)
        self.check_contributions()

    def _check_groups(self, groups: Groups) -> None:
        groups.check(self.clients, self.corrupt, self.adversary)
        self._check(not self.batch, "by groups or by batches: whole batches are for one sum of all")
        self._check(not self.blank, "blanks are for one sum of all: in a group a coin would hide too few")
        self._check(
            groups.public_weights or not any(isinstance(spec, Weight) for spec in self.vectors.values()),
            "of each group the sum of weights would be known: leave the weight out, so that each client "
            "counts 1, or say that weights are public (public_weights=True)",
        )

    def _check_complete(self, least: int) -> None:
        n, t, d = self.clients, self.threshold, self.dropout
        self._check(
            least <= t <= n - d,
            f"threshold {t} is impossible: with {counted(n, 'client')}, {self.corrupt} of them corrupt "
            f"and {d} dropping "
            f"out, and the server {self.adversary}, it is in {least}..{n - d} (below, two groups could each "
            "unmask)",
        )
        self._check(t <= self.m_min <= n, f"m_min {self.m_min} is impossible: from t = {t} to n = {n}")

    def _check_sparse(self, least: int) -> None:
        n, k, t = self.clients, self.degree, self.threshold
        due = neighbourhood(n, self.corrupt, self.dropout, self.adversary)
        if due is None:
            raise LocalProtocolError(
                f"degree {k} is impossible: with {n} clients, {self.corrupt} of them corrupt and "
                f"{self.dropout} dropping out, and the server {self.adversary}, only the complete graph will "
                f"do, with {n - 1} neighbours"
            )
        self._check(
            due == (k, t),
            f"degree {k} with threshold {t} is impossible: with {n} clients, {self.corrupt} of them corrupt "
            f"and {self.dropout} dropping out, and the server {self.adversary}, it takes {due.degree} "
            f"neighbours and a threshold of {due.threshold}",
        )
        self._check(
            least <= self.m_min <= n,
            f"m_min {self.m_min} is impossible: on this sparse graph from {least} to {n}",
        )

    @classmethod
    def for_cohort(
        cls,
        clients: int,
        vectors: Vectors | Spec,
        *,
        adversary: Adversary | None = None,
        roster: Roster | None = None,
        corrupt: int | float | None = None,
        dropout: int | float | None = None,
        graph: GraphChoice = "auto",
        threshold: int | None = None,
        m_min: int | None = None,
        batch: int = 0,
        prg: Prg = "aes-128-ctr",
        blank: float = 0.0,
        small_cohort: bool = False,
        groups: int = 0,
        m_g: int | None = None,
        cohort: Collection[ClientId] = (),
        cut: bytes = b"",
        public_weights: bool = False,
        unsafe_groups: bool = False,
    ) -> Masking:
        """The scheme for n clients; graph, ring, threshold and m_min follow from the rest unless given.

        adversary: None is active where there is a roster, else semi-honest, as a client's policy has it.
        corrupt: A, a number, or a fraction: of the roster if there is one, for the server chooses who of it
        is asked; one client at least. dropout: d, a number or a fraction of the cohort; where it is not given
        and more than can be, fewer. graph: "auto" is sparse where that is worthwhile.
        threshold: t of the complete graph; with it, "auto" means complete. m_min: if it is not given t; on a
        sparse graph, and with private vectors, whose noise it shares out, n - d. groups: G, into how many the
        cohort is cut, each summed apart; 0 for one sum of all. m_g: of a group, the fewest survivors who are
        summed; if it is not given the least that holds. cohort: who is cut, if that is known. cut: that of an
        earlier session of the same cohort (`Aggregate.cut`), which is then this one's. public_weights: the
        sums of weights of each group may be known. unsafe_groups: for experiments, also where more corrupt
        clients may be in a group than it withstands.

        Raises: LocalProtocolError where no such session is possible, with the number that fails.
        """
        n = integer("clients", clients)
        check_clients(n)
        cls._check(
            graph in get_args(GraphChoice),
            f"no graph is called {graph!r}: there are {', '.join(get_args(GraphChoice))}",
        )
        if adversary is None:
            adversary = "semi-honest" if roster is None else "active"
        cls._check_adversary(adversary)
        used = roster if adversary == "active" else None
        A = corrupt_clients(n, corrupt, used)
        least = least_quorum(n, adversary, A) if threshold is None else integer("threshold", threshold)
        d = dropouts(n, A, dropout, adversary, least)
        k, t = graph_numbers(n, A, d, adversary, graph, threshold)
        specified = named(vectors)
        if m_min is None:
            # Where noise is shared out, to as many as are left of whom none need be lost: each adds less.
            noised = any(isinstance(spec, Private) for spec in specified.values())
            m_min = t if k == n - 1 and not noised else max(least, n - d)
        cut_as: Groups | msgspec.UnsetType = msgspec.UNSET
        if groups:
            number = integer("groups", groups)
            if m_g is None:
                m_g = default_of_group(n, A, number, adversary, unsafe=unsafe_groups)
            cut_as = Groups(
                number=number,
                m_g=m_g,
                cohort=tuple(sorted(cohort)),
                seed=cut,
                public_weights=public_weights,
                unsafe=unsafe_groups,
            )
        return cls(
            clients=n,
            vectors=specified,
            small_cohort=small_cohort,
            threshold=t,
            m_min=m_min,
            degree=k,
            adversary=adversary,
            corrupt=A,
            dropout=d,
            batch=batch,
            prg=prg,
            blank=blank,
            roster=used.digest if used is not None else b"",
            groups=cut_as,
        )

    @property
    def complete(self) -> bool:
        """Whether every client shares keys with every other."""
        return self.degree == self.clients - 1

    @property
    def rounds(self) -> tuple[str, ...]:
        return ("join", ADVERTISE_KEYS, SHARE_KEYS, MASKED_INPUT, *self.finishing_rounds)

    @property
    def finishing_rounds(self) -> tuple[str, ...]:
        return (CONSISTENCY_CHECK, UNMASKING) if self.adversary == "active" else (UNMASKING,)

    def graph(self, sid: bytes, U1: Collection[ClientId]) -> Graph:
        """The graph of the session `sid` with these clients: who holds whose shares, and where there is one
        sum, whose masks cancel.
        """
        return graph_of(tuple(sorted(U1)), self.clients, self.degree, sid)

    @property
    def sums(self) -> OneSum:
        """What is summed together."""
        return OneSum(self) if self.groups is msgspec.UNSET else GroupSums(self, self.groups)

    @property
    def summed(self) -> int:
        """How many clients one sum has at most: those of the largest group, or all."""
        return self.sums.most

    @property
    def honest(self) -> int:
        """How many honest clients are in a sum at least: m_g less A_g of a group, m_min less A of one sum."""
        return self.sums.honest

    def batches(self, roster: Roster | None) -> list[frozenset[ClientId]]:
        """The fixed partition: in the order of ids, `batch` clients each, the last with what is left over;
        of the roster, or where there is none of 0..n-1. Empty without batches.
        """
        if not self.batch:
            return []
        everybody = sorted(roster.keys) if roster is not None else range(self.clients)
        count = max(1, len(everybody) // self.batch)
        starts = [i * self.batch for i in range(count)]
        return [
            frozenset(everybody[start : start + self.batch if start != starts[-1] else None])
            for start in starts
        ]

    def check_roster(self, roster: Roster | None) -> None:
        """As for all such schemes; and by batches the roster lists n clients and no more: else two sessions
        at once could each sum a part of a batch.
        """
        roster = self._bound(roster)
        if self.batch and roster is not None and len(roster.keys) != self.clients:
            raise LocalProtocolError(
                f"by batches the cohort is the whole roster, {len(roster.keys)} clients, not {self.clients}"
            )

    def check_policy(self, policy: Policy, roster: Roster | None) -> None:
        """The policy's own numbers lead to those of this session, or it is refused."""
        self._check_against(policy, roster)
        if policy.batch is not None and self.batch != policy.batch:
            raise RemoteProtocolError(
                f"the server sums by batches of {self.batch}; this client insists on {policy.batch} "
                "(batch, in its policy)"
            )
        self._check_prg(policy)
        if self.groups is msgspec.UNSET:
            policy.check_one_sum(self.clients, None if roster is None else len(roster.keys))
        else:
            policy.check_groups(
                self.clients // self.groups.number,
                public_weights=self.groups.public_weights,
                unsafe=self.groups.unsafe,
                stay=bool(self.groups.cohort),
            )
        expected = self._by_policy(policy, roster)
        # d decides the sparse graph. Of the complete one it decides no more than the default of t, and t is
        # compared: a client of another d with the same t is protected alike.
        numbers = ("corrupt", "degree", "threshold", "m_min", *(() if self.complete else ("dropout",)))
        for number in numbers:
            policy.check_number(number, getattr(self, number), getattr(expected, number))
        # A higher m_g is as good: of each group one client more has to be left.
        if self.sums.least < (due := expected.sums.least):
            raise RemoteProtocolError(
                f"the server opens groups of {self.sums.least}; by this client's policy it takes {due}, "
                f"which the server has to ask for (m_g={due})"
            )

    def _check_listed(self, roster: Roster | None) -> Roster:
        roster = super()._check_listed(roster)
        # Else two sessions at once could each sum a part of one batch.
        if self.batch and self.clients != len(roster.keys):
            raise RemoteProtocolError(
                f"the server sums by batches a cohort of {self.clients} from a roster of "
                f"{len(roster.keys)} clients: by batches it is the whole roster"
            )
        return roster

    def _by_policy(self, policy: Policy, roster: Roster | None) -> Masking:
        """This session as its client would have it."""
        try:
            return Masking.for_cohort(
                self.clients,
                self.vectors,
                adversary=self.adversary,
                roster=roster,
                corrupt=policy.corrupt,
                dropout=None if self.complete and policy.threshold is not None else policy.dropout,
                graph="complete" if self.complete else policy.graph,
                threshold=policy.threshold,
                m_min=policy.m_min,
                blank=self.blank,
                small_cohort=self.small_cohort,  # no number follows from it; n was looked at before
                **self._cut_again(),
            )
        except LocalProtocolError as error:
            raise RemoteProtocolError(
                f"by this client's policy no such session is possible: {error}"
            ) from None

    def _cut_again(self) -> dict[str, Any]:
        """What `for_cohort` is told of the groups, but for m_g, which follows."""
        if self.groups is msgspec.UNSET:
            return {}
        return {
            "groups": self.groups.number,
            "public_weights": self.groups.public_weights,
            "unsafe_groups": self.groups.unsafe,
        }

    def client(
        self,
        u: ClientId,
        vectors: Contribute,
        *,
        rounding_seed: bytes | None = None,
        identity: Identity | None = None,
        once: Once | None = None,
        alike: Alike | None = None,
        rng: Rng = system_rng,
    ) -> MaskingClient:
        used = identity if self.adversary == "active" else None
        return MaskingClient(
            self,
            u,
            vectors,
            rounding_seed=rounding_seed,
            identity=used,
            once=once,
            alike=alike,
            rng=rng,
        )

    def server(
        self,
        cohort: Collection[ClientId],
        task: bytes = b"",
        *,
        roster: Roster | None = None,
        executor: Executor | None = None,
        alike: Alike | None = None,
        parts: bool = False,
        rng: Rng = system_rng,
    ) -> MaskingServer:
        used = roster if self.adversary == "active" else None
        context = context_of(task)
        like = alike.of(task, self.signed) if alike is not None else None
        return MaskingServer(self, cohort, task, context, roster=used, executor=executor, like=like, rng=rng)

    @property
    def signed(self) -> tuple[int, int, int | None] | None:
        return self.sums.signed if self.adversary == "active" else None

    @property
    def against(self) -> str:
        if self.groups is msgspec.UNSET:
            return AGAINST[self.adversary]
        return UNSAFE_GROUPS if self.groups.unsafe else OF_GROUPS[self.adversary]

    def explain(self) -> str:
        """Say in words what is sent, and what the choice guarantees and what not."""
        return "\n".join(in_words(self))
