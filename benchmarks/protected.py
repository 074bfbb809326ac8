"""One training under each protection: what the tables of costs and of attackers share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.harness import Row
from benchmarks.protections import CLIENTS, PROTECTIONS, QUICK, Protection
from fl.config.run import RunConfig

TASK: Final[Mapping[str, Any]] = {"clients": CLIENTS, "model": "mlp", "metrics": False}
"""What all train, beside the defaults: digits. Sums of the clients' own loss and accuracy are left out, since
a session of private vectors has no others.
"""
LAST: Final = 3
"""Rounds whose mean is an accuracy: few are trained, and under noise one is far from the next."""


@dataclass(frozen=True)
class Size:
    protections: tuple[Protection, ...]
    rounds: int
    seeds: int


SIZES: Final = {"quick": Size(QUICK, 5, 1), "full": Size(PROTECTIONS, 15, 3)}


def configuration(protection: Protection, rounds: int, seed: int, **more: Any) -> RunConfig:
    """more: settings, also in the place of the protection's."""
    return RunConfig.of(**TASK, rounds=rounds, seed=seed, **protection.all_settings | more)


def named(protection: Protection) -> Row:
    """What every row of the matrix has of its protection."""
    return {
        "protection": protection.name,
        "scheme": protection.scheme,
        "mechanism": protection.mechanism,
    }


def value(name: str, number: Any, why: str) -> Row:
    """A number under its name, or None and beside it why there is none: what does not apply is not 0."""
    return {name: number} if number is not None else {name: None, f"{name}_why": why}


def by_protection(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each, in the order in which they come."""
    by: dict[str, list[Row]] = {}
    for row in rows:
        by.setdefault(row["protection"], []).append(row)
    return by
