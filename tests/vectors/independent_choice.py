"""The numbers of a session (docs/protocol.md, section 5.2) without secagg, in exact fractions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

SIGMA = {"semi-honest": 40, "active": 128}


def above(n: int, marked: int, drawn: int, x: int) -> Fraction:
    """Pr[H > x], H the marked ones among `drawn` of n."""
    ways = sum(
        math.comb(marked, j) * math.comb(n - marked, drawn - j) for j in range(x + 1, min(marked, drawn) + 1)
    )
    return Fraction(ways, math.comb(n, drawn))


def threshold(n: int, corrupt: int, dropout: int, k: int, active: bool, sigma: int) -> int | None:
    """t of the sparse graph with k neighbours, or None where k is too small."""
    rarely, seldom = Fraction(1, n * 2 ** (sigma + 1)), Fraction(1, n * 2**20)
    most = next(x for x in range(k + 1) if above(n, corrupt, k, x) <= rarely)
    least = next((x for x in range(k, 0, -1) if above(n, dropout, k, k - x) < seldom), 0)
    against = math.ceil(Fraction(most + k) / 2 - Fraction(5, 8)) if active else most
    if against >= least or _cut(n, corrupt + dropout, k) >= Fraction(1, 2 ** (sigma + 1)):
        return None
    return max(against + 1, 2)


def _cut(n: int, bad: int, k: int) -> Fraction:
    if k > bad:
        return Fraction(0)
    return Fraction(n * (n - k - 1), 2) * Fraction(math.comb(bad, k), math.comb(n, k))


def sparsest(n: int, corrupt: int, dropout: int, active: bool, sigma: int) -> tuple[int, int] | None:
    if corrupt + (2 if active else 1) * dropout > Fraction(9 * n, 10):
        return None
    found: Iterator[tuple[int, int]] = (
        (k, t)
        for k in range(2, n - 1, 2)
        if (t := threshold(n, corrupt, dropout, k, active, sigma)) is not None
    )
    return next(found, None)


def floor_of(fraction: float, n: int) -> int:
    """Of the decimal fraction that was written, not of the binary one nearest to it."""
    return math.floor(Fraction(str(fraction)) * n)


def numbers(arguments: dict[str, Any], noised: bool = False) -> dict[str, int]:
    """A, d, k, t and m_min. arguments: those that are given; roster: how many clients it lists. noised: the
    vectors are private.
    """
    n, adversary = arguments["clients"], arguments.get("adversary", "semi-honest")
    active, given = adversary == "active", arguments.get("threshold")
    A = arguments.get("corrupt", 0.1 if n > 2 else 0)
    if isinstance(A, float):
        A = max(1, floor_of(A, max(n, arguments.get("roster", 0)) if active else n))
    Q = max((n + A) // 2 + 1, A + 2) if active else max(n // 2 + 1, A + 2 if A else 0)
    d = dropouts(n, A, arguments.get("dropout"), active, Q if given is None else given)
    graph = arguments.get("graph", "auto")
    choice = sparsest(n, A, d, active, SIGMA[adversary]) if graph != "complete" and given is None else None
    if graph == "auto" and choice is not None and (n < 50 or 2 * choice[0] >= n):
        choice = None
    if choice is not None:
        k, t = choice
        quorum = max(Q, n - d)
    else:
        often = 2 * n // 3 + 1 if active and 2 * n // 3 + 1 <= n - d else 0
        k, t = n - 1, given if given is not None else max(Q, often)
        quorum = n - d if noised else t
    m_min = arguments.get("m_min", quorum)
    return {"corrupt": A, "dropout": d, "degree": k, "threshold": t, "m_min": m_min}


def dropouts(n: int, A: int, given: float | None, active: bool, left: int) -> int:
    if given is not None:
        return floor_of(given, n) if isinstance(given, float) else given
    d = max(0, min(floor_of(0.3, n), n - left))
    while d and A + (2 if active else 1) * d > Fraction(9 * n, 10):
        d -= 1
    return d


def groups(n: int, A: int, number: int, active: bool) -> tuple[int, int]:
    """A_g and the least m_g."""
    g = -(-n // number)
    rarely = Fraction(1, 2**128 * number)
    A_g = next(x for x in range(min(A, g) + 1) if above(n, A, g, x) <= rarely)
    return A_g, max(A_g + 2, (g + A_g) // 2 + 1 if active else 0)
