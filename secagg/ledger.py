"""What sums over rounds reveal: a record of survivor sets, and what combinations of their sums isolate.

One session reveals one sum. Many reveal many, and whoever has them can combine them: with M the 0/1 matrix of
the sets, a row for each sum and a column for each client, coefficients c with c^T M = e_u give client u's
vector, as far as vectors stayed alike from session to session. See So et al. 2021, "Securing secure
aggregation: mitigating multi-round privacy leakage", and its remedy: where every set is a union of whole
batches of one fixed partition of the clients, no combination isolates less than a batch.

Decided in exact arithmetic: a rank in floating point depends on its tolerance.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from typing import Any, Final

import numpy as np
from flint import fmpz, fmpz_mat, nmod_mat
from numpy.typing import NDArray

from secagg.errors import ClientId, LocalProtocolError, counted

WINDOW: Final = 50
"""How many sums are combined for the updates: over more rounds than these, updates are hardly alike."""

Matrix = NDArray[np.uint8]


@dataclass(frozen=True)
class Exposure:
    """The clients that combinations of sums isolate, if updates stayed alike.

    smallest_norm: of coefficients that isolate one of them, the smallest Euclidean norm; None if nobody is
    isolated. What updates changed between rounds stays in the result, multiplied by about this: the smaller,
    the cleaner. sqrt 2 is a mere difference of two sums; the same two sets once more average it down to 1.
    A rational's root, rounded.
    """

    clients: frozenset[ClientId]
    smallest_norm: float | None


@dataclass(frozen=True)
class Helper:
    """The worst single further colluder: with its help the server isolates these clients too."""

    client: ClientId
    isolates: frozenset[ClientId]


@dataclass(frozen=True)
class LedgerReport:
    """What the recorded sums reveal together to the server and its colluders, beyond each by itself.

    sessions: how many were recorded. window: the last so many are combined for the updates. seen: clients in
    any recorded set, colluders apart. alike, helper, smallest_difference, near: over the window; the fewest
    clients in which two different sets differ, None if all are equal, and the pairs of sums, counted from 1,
    whose sets share somebody and differ by fewer than were asked for. weights: over all sessions, the
    clients whose weight is determined.

    Security: a client's weight is constant over rounds, so that "alike" is exactly true of it. That it is
    hidden is claimed within one session only.
    """

    sessions: int
    window: int
    seen: int
    alike: Exposure
    helper: Helper | None
    smallest_difference: int | None
    near: tuple[tuple[int, int], ...]
    weights: frozenset[ClientId]

    def lines(self, *, weighed: bool = True) -> list[str]:
        """The report for people: updates, one further colluder if there is one that matters, and where the
        sums are weighed the weights.
        """
        if not self.sessions:
            return ["no session is recorded: there is nothing to combine"]
        recent = f"the last {min(self.window, self.sessions)} of {counted(self.sessions, 'sum')}"
        if self.alike.clients:
            updates = (
                f"updates: combinations of {recent} isolate {_some(self.alike.clients)} of {self.seen} "
                f"clients if updates stayed alike; smallest coefficient norm {self.alike.smallest_norm:.3g} "
                "(1: a sum of that one alone, alike or not; 1.41: a difference of two sums; the larger, the "
                "more a client's change between rounds drowns it)"
            )
        else:
            updates = (
                f"updates: no combination of {recent} isolates one of {counted(self.seen, 'client')}, "
                "even if updates "
                "stayed alike"
            )
        if self.smallest_difference is not None:
            updates += f"; smallest difference of two sets: {self.smallest_difference}"
        near = (
            [
                f"too near: the sets of sums {_pairs(self.near)} differ by so few clients that where updates "
                "came out alike, the sums' difference is those few clients' vectors"
            ]
            if self.near
            else []
        )
        helper = (
            [
                f"with the help of client {self.helper.client}: {_some(self.helper.isolates)} more, the most "
                "that one further colluder adds"
            ]
            if self.helper
            else []
        )
        weights = (
            f"weights: constant: from {counted(self.sessions, 'sum')} in all follow those of "
            f"{_some(self.weights)} of {counted(self.seen, 'client')}; that a weight is hidden is "
            "claimed within one "
            "session only"
        )
        return [updates, *near, *helper, *([weights] if weighed else [])]


def _pairs(pairs: Sequence[tuple[int, int]], shown: int = 4) -> str:
    named = ", ".join(f"{a} and {b}" for a, b in pairs[:shown])
    return named if len(pairs) <= shown else f"{named} and of {len(pairs) - shown} more pairs"


def _some(clients: Collection[ClientId], shown: int = 8) -> str:
    if not clients:
        return "none"
    ids = ", ".join(map(str, sorted(clients)[:shown]))
    return f"{len(clients)} ({ids}{', ...' if len(clients) > shown else ''})"


class Ledger:
    """The server's record of the sets whose sums it learned. A client cannot keep it: no client sees the
    sets that it was not in. window: how many of the last sums are combined for the updates. sessions: how
    many sums were recorded.

    A report on 10^4 clients takes less than a second with a window of 50, and several times as long with each
    doubling of it. The weights over 10^3 different sets take seconds; minutes if some clients', but not all,
    are determined, and only by combinations of hundreds of sets.
    """

    def __init__(self, window: int = WINDOW) -> None:
        """Raises: LocalProtocolError for a window that is not a positive integer."""
        if not _is_integer(window) or window < 1:
            raise LocalProtocolError(f"a window of {window!r} sessions is impossible")
        self.window = window
        self.sessions = 0
        self._bit: dict[ClientId, int] = {}  # in the order of first appearance
        # A set is an integer, client u in it if bit _bit[u] is set: n/8 bytes, whatever the ids are.
        self._recent: deque[int] = deque(maxlen=window)
        self._different: dict[int, None] = {}

    def record(self, survivors: Collection[ClientId]) -> None:
        """Add one set of survivors whose sum was opened: U3 of a session, or of each group that has a sum of
        its own.

        A session that failed after masked inputs were asked for is to be recorded too, with the clients that
        were asked: whether its sum was learned is the server's word, and the ledger takes the worse case.

        Raises: LocalProtocolError for an empty set, an id twice, or an id that is no natural number.
        """
        if not survivors:
            raise LocalProtocolError("a session without survivors has no sum to record")
        _check_ids(survivors)
        if len(set(survivors)) != len(survivors):
            raise LocalProtocolError("a client is named twice in one survivor set")
        for u in survivors:
            self._bit.setdefault(u, len(self._bit))
        row = self._row(survivors)
        self.sessions += 1
        self._recent.append(row)
        self._different[row] = None

    def report(self, corrupt: Iterable[ClientId] = (), *, apart: int = 2) -> LedgerReport:
        """What the sums reveal to the server and `corrupt`, whose own vectors and weights are known to it.

        corrupt: any clients, recorded or not. apart: clients by which two sets have to differ not to be too
        near: A + 2, where A others may be corrupt.

        Raises: LocalProtocolError for an id that is no natural number.
        """
        corrupt = set(corrupt)
        _check_ids(corrupt)
        # Known vectors can be taken off every sum: their columns vanish.
        honest = ~self._row(u for u in corrupt if u in self._bit)
        recent = [row & honest for row in self._recent]
        alike, helper = _combine(*self._merged(recent))
        # Weights are exactly alike, so that there is no norm for a repeated sum to make smaller.
        rows, groups = self._merged(list(dict.fromkeys(row & honest for row in self._different)))
        return LedgerReport(
            self.sessions,
            self.window,
            len(self._bit.keys() - corrupt),
            alike,
            helper,
            _smallest_difference(recent),
            _near(recent, self.sessions - len(recent) + 1, apart),
            frozenset(groups[j][0] for j in _isolated(rows) if len(groups[j]) == 1),
        )

    def _row(self, clients: Iterable[ClientId]) -> int:
        row = bytearray((len(self._bit) + 7) // 8)
        for u in clients:
            row[self._bit[u] // 8] |= 1 << self._bit[u] % 8
        return int.from_bytes(row, "little")

    def _merged(self, rows: Sequence[int]) -> tuple[Matrix, list[list[ClientId]]]:
        """(sets, different columns) 0/1, and each column's clients; those in no set have none.

        Clients that were always in the same sets have equal columns: every combination gives them equal
        coefficients, and none isolates one of them.
        """
        size = (len(self._bit) + 7) // 8
        packed = np.frombuffer(b"".join(row.to_bytes(size, "little") for row in rows), np.uint8)
        bits = np.unpackbits(packed.reshape(len(rows), size), axis=1, bitorder="little")
        members: dict[bytes, list[ClientId]] = defaultdict(list)
        for u, column in zip(self._bit, np.packbits(bits, axis=0).T, strict=False):
            members[column.tobytes()].append(u)
        members.pop(bytes((len(rows) + 7) // 8), None)
        columns = np.frombuffer(b"".join(members), np.uint8).reshape(len(members), (len(rows) + 7) // 8)
        return np.unpackbits(columns, axis=1, count=len(rows)).T, list(members.values())


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_ids(clients: Iterable[ClientId]) -> None:
    for u in clients:
        if not _is_integer(u) or u < 0:
            raise LocalProtocolError(f"{u!r} is not the id of a client")


def _smallest_difference(rows: Iterable[int]) -> int | None:
    return min(((a ^ b).bit_count() for a, b in combinations(set(rows), 2)), default=None)


def _near(rows: Sequence[int], first: int, apart: int) -> tuple[tuple[int, int], ...]:
    """Pairs of different rows; the first is called `first`. Of two that share nobody, as groups of one
    session, the difference tells no more of anybody than each by itself.
    """
    numbered = combinations(enumerate(rows, start=first), 2)
    return tuple((i, j) for (i, a), (j, b) in numbered if a & b and 0 < (a ^ b).bit_count() < apart)


def _combine(rows: Matrix, groups: Sequence[Sequence[ClientId]]) -> tuple[Exposure, Helper | None]:
    """Whom combinations of the rows isolate, and whom with the help of one client more. rows: (d, g)."""
    tails = _echelon(rows)
    # e_j is in the row space if, and only if, it is a row of the echelon form.
    alone = [j for j, tail in tails.items() if not tail]
    isolated = [j for j in alone if len(groups[j]) == 1]
    norm = _smallest_norm(rows[:, list(tails)], [i for i, j in enumerate(tails) if j in isolated])
    # The help of any one isolates the others: of two clients in an isolated sum, and of tied columns.
    sets = [groups[j] for j in alone if len(groups[j]) == 2]
    sets += [[groups[j][0] for j in columns if len(groups[j]) == 1] for columns in _tied(tails)]
    return Exposure(frozenset(groups[j][0] for j in isolated), norm), _worst(sets)


def _echelon(rows: Matrix) -> dict[int, list[tuple[int, int]]]:
    """The reduced echelon form over the rationals: pivot -> (column, value) of its row's other entries."""
    echelon, _, rank = fmpz_mat(rows.tolist()).rref()
    pivots = _pivots(echelon, rank)
    free = sorted(set(range(rows.shape[1])) - set(pivots))
    return {j: [(k, int(x)) for k in free if (x := echelon[i, k])] for i, j in enumerate(pivots)}


def _pivots(echelon: fmpz_mat | nmod_mat, rank: int) -> list[int]:
    pivots, j = list[int](), 0
    for i in range(rank):
        while not echelon[i, j]:
            j += 1
        pivots.append(j)
        j += 1
    return pivots


def _tied(tails: Mapping[int, Sequence[tuple[int, int]]]) -> Iterable[set[int]]:
    """Sets of columns any two of which support a vector of the row space: less one, the other is isolated.

    Such a vector combines the rows of the pivots in it. Either both columns are pivots and their tails are
    parallel, or one is a pivot and the other all its tail.
    """
    tied: dict[tuple[tuple[int, int], ...], set[int]] = defaultdict(set)
    for j, tail in tails.items():
        if tail:
            factor = math.gcd(*(x for _, x in tail)) * (1 if tail[0][1] > 0 else -1)
            tied[tuple((k, x // factor) for k, x in tail)].add(j)
    for direction, columns in tied.items():
        if len(direction) == 1:
            columns.add(direction[0][0])
    return tied.values()


def _worst(sets: Iterable[Sequence[ClientId]]) -> Helper | None:
    """The largest of disjoint sets, if it has two members; the one with the smallest id in it, of equals."""
    ordered = (sorted(clients) for clients in sets if len(clients) > 1)
    if not (largest := min(ordered, key=lambda clients: (-len(clients), clients), default=None)):
        return None
    return Helper(largest[0], frozenset(largest[1:]))


def _smallest_norm(basis: Matrix, places: Collection[int]) -> float | None:
    """The smallest norm of c with c^T M = e_j, for columns j, given as places in a basis of the columns of M.

    With r the part of column j orthogonal to all others, the shortest such c is r / |r|^2. Its square,
    1 / |r|^2, is on the diagonal of the inverse Gram matrix of the basis. basis: (d, rank).
    """
    if not places:
        return None
    inverse: Any = fmpz_mat((basis.T.astype(np.int64) @ basis).tolist()).inv()
    square = min(inverse[i, i] for i in places)
    return math.sqrt(Fraction(int(square.p), int(square.q)))


def _primes() -> Iterator[int]:
    """The largest primes below 2^63, for which FLINT is fastest."""
    return (p for p in range(2**63 - 1, 2**62, -2) if fmpz(p).is_prime())


def _isolated(rows: Matrix, primes: Callable[[], Iterator[int]] = _primes) -> set[int]:
    """The columns j with e_j in the row space of a 0/1 matrix over the rationals. rows: (d, g).

    An echelon form of 10^3 rows and 10^4 columns is too large over the rationals. Here it is taken modulo
    primes, until their product exceeds every minor of the matrix: one that is not 0 is then not 0 modulo some
    prime. So the rank r is the highest of the ranks modulo primes. Where it is r, e_j is in the row space if
    it is over the rationals. If it is not, a minor of size r without column j is not 0; modulo a prime that
    does not divide it the rank is r too, and e_j not in the row space. Isolated are those that are so at
    all primes of rank r.
    """
    d, g = rows.shape
    k = min(d, g)
    integers = fmpz_mat(rows.tolist())
    isolated, highest, product = set[int](), -1, 1
    for p in primes():
        echelon, rank = nmod_mat(integers, p).rref()
        if rank >= highest:
            pivots = _pivots(echelon, rank)
            free = sorted(set(range(g)) - set(pivots))
            alone = {j for i, j in enumerate(pivots) if not any(echelon[i, f] for f in free)}
            isolated = isolated & alone if rank == highest else alone
            highest = rank
        product *= p
        # Full rank modulo p is full rank: p is one of those primes, and whom it denies is not isolated.
        if rank == g or (rank == d and not isolated):
            break
        # Hadamard's bound for 0/1 matrices: a minor of size k is at most sqrt((k + 1)^(k + 1)) / 2^k.
        if product**2 * 4**k > (k + 1) ** (k + 1):
            break
        # Mostly few sets isolate the few that are isolated; few rows need few primes.
        used = _rows_used(rows[:, pivots], [pivots.index(j) for j in isolated], p) if rank == d else range(d)
        if len(used) < d and _isolated(rows[used], primes) >= isolated:
            break
    return isolated


def _rows_used(basis: Matrix, places: Sequence[int], p: int) -> Sequence[int]:
    """The rows that c with c^T B = e_j modulo p needs, for any j in places. basis: (d, d), of full rank."""
    inverse = nmod_mat(fmpz_mat(basis.tolist()), p).inv()
    return [i for i in range(len(basis)) if any(inverse[j, i] for j in places)]
