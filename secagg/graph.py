"""Who deals shares to whom: all to all, or each to k neighbours (Bell et al., CCS 2020); and how k and t are
chosen for a cohort.

The sparse graph is a ring of n places, shuffled by public chance, each joined to the k / 2 nearest on either
side: a Harary graph. Whoever did not advertise keys leaves its place empty, so that what is computed for n
places, A corrupt clients and d dropouts holds whenever a client is lost.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from secagg.crypto import Tag, digest
from secagg.errors import ClientId
from secagg.prg import keystream

SIGMA: Final = {"semi-honest": 40, "active": 128}
"""Security in bits of conditions (1) and (2). The graph's seed is a hash of keys: an active server and its
clients can try keys offline until the graph suits them, and 2^40 tries are not out of reach."""
ETA: Final = 20  # correctness in bits, condition (3)
_LARGEST_SHARE: Final = 0.9  # of the cohort, that corrupt clients and dropouts may make up
_NEGLIGIBLE: Final = 1e-18  # a term of a sum, relative to it


class Choice(NamedTuple):
    """degree: k, neighbours of each client. threshold: t, shares of its neighbours that give its secrets."""

    degree: int
    threshold: int


def excess(clients: int, corrupt: int, dropout: int, adversary: str) -> str | None:
    """What the procedure is not made for: gamma + delta, or against an active server gamma + 2 delta, above
    0.9; None otherwise.
    """
    weight = 2 if adversary == "active" else 1
    if corrupt + weight * dropout <= _LARGEST_SHARE * clients + 1e-9:
        return None
    share = (corrupt + weight * dropout) / clients
    return (
        f"{corrupt} corrupt and {'twice ' if weight == 2 else ''}{dropout} dropped of {clients} clients make "
        f"{share:.2f} of the cohort, and at most {_LARGEST_SHARE} is possible"
    )


@lru_cache(maxsize=64)
def sparsest(
    clients: int,
    corrupt: int,
    dropout: int,
    adversary: str,
    *,
    sigma: float | None = None,
    eta: float = ETA,
) -> Choice | None:
    """The smallest k, with its t, such that with n clients, A of them corrupt and d of them lost

    (1) the honest that are left stay connected, but for a chance of 2^-sigma: no part of them is summed
    apart; (2) no client has t corrupt neighbours, likewise; against an active server so few that 2t - k is
    above them, and t shares of both secrets of a client cannot be had; (3) every client keeps t neighbours
    that answer, but for a chance of 2^-eta.

    None if only the complete graph will do. The procedure is that of Google's production code
    (google/federated-compute, fcp/secagg/server/graph_parameter_finder.cc), whose table it reproduces.
    """
    if excess(clients, corrupt, dropout, adversary) is not None:
        return None
    bits = (SIGMA[adversary] if sigma is None else sigma) + 1
    n = clients
    rarely = -bits * math.log(2)
    most = at_least = 0  # both grow with k
    for k in range(2, n - 1, 2):
        while ln_above(n, corrupt, k, most) > rarely - math.log(n):
            most += 1
        while at_least < k and ln_above(n, dropout, k, k - at_least - 1) < -eta * math.log(2) - math.log(n):
            at_least += 1
        against = most if adversary != "active" else math.ceil((most + k - 1.25) / 2)
        if against < at_least and _disconnected(n, corrupt + dropout, k) < rarely:
            return Choice(k, max(against + 1, 2))
    return None


def _disconnected(n: int, bad: int, k: int) -> float:
    """ln of a bound on the chance that k of the `bad` clients stand so that they cut the ring in two."""
    if k > bad:
        return -math.inf
    places = math.log(n) + math.log(n - k - 1) - math.log(2)
    return places + _ln_factorial(bad) + _ln_factorial(n - k) - _ln_factorial(n) - _ln_factorial(bad - k)


def ln_above(n: int, marked: int, drawn: int, t: int) -> float:
    """ln Pr[H > t], H the number of marked among `drawn` of n without replacement (hypergeometric); 0, the
    bound that always holds, below the mode.
    """
    j, last = t + 1, min(marked, drawn)
    if j > last:
        return -math.inf
    if j <= (drawn + 1) * (marked + 1) // (n + 2):
        return 0.0
    first = _ln_choose(marked, j) + _ln_choose(n - marked, drawn - j) - _ln_choose(n, drawn)
    total = term = 1.0
    while j < last and term > _NEGLIGIBLE * total:
        term *= (marked - j) * (drawn - j) / ((j + 1) * (n - marked - drawn + j + 1))
        total += term
        j += 1
    return first + math.log(total)


def _ln_factorial(x: int) -> float:
    return math.lgamma(x + 1)


def _ln_choose(n: int, k: int) -> float:
    return _ln_factorial(n) - _ln_factorial(k) - _ln_factorial(n - k)


class Graph:
    """The graph of one session: the members of U1 on the ring.

    members: ids. places: n, at least as many. degree: k; from n - 1 on the graph is complete. seed: 32 bytes
    that follow from the session id, which is a hash of all keys: the same for all who agree on U1.
    """

    def __init__(self, members: Collection[ClientId], places: int, degree: int, seed: bytes) -> None:
        self.members = tuple(sorted(members))
        self.everyone = frozenset(self.members)
        self._ring: list[ClientId | None] = []
        self._reach = degree // 2
        if degree < places - 1:
            self._ring = shuffled(self.members, places, seed)
            self._place = {u: p for p, u in enumerate(self._ring) if u is not None}

    @property
    def complete(self) -> bool:
        return not self._ring

    def neighbours(self, u: ClientId) -> frozenset[ClientId]:
        """Whose masks cancel with u's."""
        if self.complete:
            return self.everyone - {u}
        p, n = self._place[u], len(self._ring)
        steps = range(1, self._reach + 1)
        beside = {self._ring[(p + step) % n] for step in steps} | {self._ring[p - step] for step in steps}
        return frozenset(v for v in beside if v is not None)

    def holders(self, u: ClientId) -> frozenset[ClientId]:
        """Who holds shares of u's secrets, and whose shares u holds: the relation is symmetric.

        On the complete graph all of U1, as in Bonawitz et al., u too; on the sparse one the neighbours alone,
        as in Bell et al., so that t shares mean t others.
        """
        return self.everyone if self.complete else self.neighbours(u)


def shuffled(members: Sequence[ClientId], places: int, seed: bytes) -> list[ClientId | None]:
    """The members, in order, on the first of n places, and the places in the order that the seed gives."""
    words = np.concatenate([block.copy() for block in keystream(seed, places, np.uint64)])
    order = np.argsort(words, kind="stable").tolist()  # equal words in one order on every machine
    return [members[i] if i < len(members) else None for i in order]


@lru_cache(maxsize=8)
def graph_of(members: tuple[ClientId, ...], places: int, degree: int, sid: bytes) -> Graph:
    """The graph of a session. Cached: of one session it is the same for all, and it is public."""
    return Graph(members, places, degree, digest(Tag.GRAPH, sid))
