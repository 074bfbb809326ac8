"""Rounds made up for tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fl.robust import RULES, Bench, Memory, Points, Verdict

Rows = NDArray[np.float64]


def points(updates: ArrayLike, weights: ArrayLike | None = None) -> Points:
    """A client for each row, by its number; of equal weights if none are given."""
    x = np.array(updates, np.float64)
    w = np.ones(len(x)) if weights is None else np.array(weights, np.float64)
    return Points(tuple(frozenset({u}) for u in range(len(x))), x, w)


def ruled(rule: str, of: Points | ArrayLike, memory: Memory | None = None, **bench: Any) -> Verdict:
    """bench: what differs from that of the first round, from a model of zeros."""
    of = of if isinstance(of, Points) else points(of)
    settings = {"round": 1, "model": np.zeros(of.updates.shape[1]), **bench}
    return RULES[rule](of, Bench(**settings), memory or {})


def honest(seed: int, n: int = 20, d: int = 7) -> Rows:
    """(n, d) of them, about a mean of their own."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=d) + rng.normal(size=(n, d))


def spoilt(seed: int, n: int = 20, d: int = 7) -> tuple[Rows, list[int]]:
    """A fifth of the rows are those of attackers: far away, together or each by itself. And which."""
    rng, x = np.random.default_rng(seed), honest(seed, n, d)
    bad = rng.permutation(n)[: n // 5]
    together = rng.random() < 0.5
    x[bad] = rng.normal(size=(1 if together else len(bad), d)) * 10 ** rng.uniform(1, 9)
    return x, sorted(bad.tolist())
