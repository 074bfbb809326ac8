"""The numbers of a masking session, as they follow from how many clients may be corrupt and how many lost."""

from __future__ import annotations

from typing import Final

from secagg.errors import LocalProtocolError
from secagg.graph import Choice, excess, sparsest
from secagg.params import DROPOUT, absolute, share_of
from secagg.policy import Adversary, GraphChoice

SMALLEST_SPARSE: Final = 50


def least_quorum(clients: int, adversary: Adversary, corrupt: int) -> int:
    """The smallest m_min, and on the complete graph the smallest t, that holds: above n / 2 (semi-honest) or
    (n + A) / 2 (active), so that no two disjoint groups of honest clients can each unmask; and A + 2, so that
    two honest inputs are in every sum; of one client, an experiment, that is one.
    """
    if adversary == "semi-honest":
        return max(clients // 2 + 1, corrupt + 2 if corrupt else 0)
    return max((clients + corrupt) // 2 + 1, corrupt + 2 if clients > 1 else 1)


def default_threshold(clients: int, adversary: Adversary, corrupt: int, dropout: int) -> int:
    """t of the complete graph: the least, but against an active server floor(2n / 3) + 1 where that is higher
    and feasible (Bonawitz et al., section 6.2): more than a third of the cohort may then be the server's.
    """
    least = least_quorum(clients, adversary, corrupt)
    of_the_paper = 2 * clients // 3 + 1
    return max(least, of_the_paper) if adversary == "active" and of_the_paper <= clients - dropout else least


def neighbourhood(clients: int, corrupt: int, dropout: int, adversary: Adversary) -> Choice | None:
    """k and t of the sparse graph, or None where only the complete one will do. One client at least is taken
    to be corrupt: with none the procedure's t can be more than the losses leave.
    """
    return sparsest(clients, max(corrupt, 1), dropout, adversary)


def worthwhile(clients: int, degree: int) -> bool:
    """Whether the sparse graph is worth it: the complete one withstands half of the cohort on the server's
    side, the sparse one A, and that is given up only where it saves half of the work, and there is some.
    """
    return clients >= SMALLEST_SPARSE and 2 * degree < clients


def graph_numbers(
    n: int, A: int, d: int, adversary: Adversary, graph: GraphChoice, threshold: int | None
) -> Choice:
    """k and t. threshold: t of the complete graph, if it is given; then "auto" is complete.

    Raises: LocalProtocolError if a sparse graph is asked for, and there is none.
    """
    sparse = neighbourhood(n, A, d, adversary) if graph != "complete" and threshold is None else None
    if sparse is not None and (graph == "sparse" or worthwhile(n, sparse.degree)):
        return sparse
    if graph != "sparse":
        return Choice(n - 1, default_threshold(n, adversary, A, d) if threshold is None else threshold)
    if (why := excess(n, A, d, adversary)) is not None:
        raise LocalProtocolError(why)
    raise LocalProtocolError(
        f"no sparse graph is good enough for {n} clients, {A} of them corrupt and {d} dropping out, and "
        "none has a threshold of one's own: use the complete one"
    )


def dropouts(n: int, A: int, dropout: int | float | None, adversary: Adversary, left: int) -> int:
    """d, absolute. left: clients that have to be left; where no d is given, as many at most as leave them,
    and as the sparse graph is made for.
    """
    if dropout is not None:
        return absolute("dropout", dropout, n, n)
    d = max(0, min(share_of(DROPOUT, n), n - left))
    while d and excess(n, A, d, adversary) is not None:
        d -= 1
    return d
