"""What every mechanism of noise tells at least, beside the epsilon that is claimed for it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from benchmarks.audited import AT_ONCE, WITH_EPSILON, WITHOUT_EPSILON
from benchmarks.harness import Case, Control, Row, Table
from fl.privacy.accounting import epsilon
from fl.privacy.audit import LowerBound, audit, audit_at_once

CLAIM = (
    "Every mechanism that has an epsilon is played as a run plays it, with its worst canary in and out: the "
    "lower bound of its epsilon, at a confidence of 99 % each, does not pass the one that the run is "
    "charged with. By the likelihood ratio of what the adversary sees, over many runs, or of many canaries "
    "in one. Of distributed noise the adversary has the sum of the fewest survivors less what the corrupt "
    "sent. Noise that follows the data (l2-max, noise on the largest coordinates) tells more than its "
    "multiplier would cost else, and has no epsilon. In a step of l2-max the canary makes the largest norm "
    "longer by a ninth."
)
CONTROL = Control(
    "what has to be caught: half the noise, a fifth of it in a single run, and noise that follows the data",
    lambda row: row["noise"] != "all",
)
ALONE = False
RUNS = {"quick": (2_000, 0.1), "full": (10_000, 0.01)}
"""With the canary, and as many without; and delta: more runs tell as much at a smaller one."""
CANARIES = {"quick": 200, "full": 500}
RUNS_BY_THE_DATA = 200
DELTA = 1e-5  # where all or nothing is seen
LESS, LESS_AT_ONCE = 2, 5


def cases(size: str, seed: int) -> list[Case]:
    """Each mechanism with all its noise and with less; then those whose noise follows the data."""
    runs, delta = RUNS[size]
    many = [
        Case(f"{name}, 1/{less} of the noise", partial(run_case, name, less, runs, delta, seed))
        for name in WITH_EPSILON
        for less in (1, LESS)
    ]
    once = [
        Case(f"{name}, 1/{less} of the noise", partial(run_at_once, name, less, CANARIES[size], seed))
        for name in AT_ONCE
        for less in (1, LESS_AT_ONCE)
    ]
    return many + once + [Case(name, partial(run_by_the_data, name, seed)) for name in WITHOUT_EPSILON]


def run_case(name: str, less: int, runs: int, delta: float, seed: int) -> Row:
    mechanism = WITH_EPSILON[name]
    z, rng = mechanism.multiplier, np.random.default_rng(seed)
    found = audit(mechanism.play(z / less, rng.bytes), runs=runs, delta=delta)
    noise = "all" if less == 1 else f"1/{less}"
    return row(name, noise, z, f"{runs:,} runs", epsilon(mechanism.releases(), delta), found)


def run_at_once(name: str, less: int, canaries: int, seed: int) -> Row:
    """A row of one run with many canaries. less: what the noise is divided by, though not in the claim."""
    mechanism = AT_ONCE[name]
    z, rng = mechanism.multiplier, np.random.default_rng(seed)
    included, scores = mechanism.play(z / less, canaries, rng.bytes)
    found = audit_at_once(included, scores, guesses=canaries // 2, delta=DELTA)
    noise = "all" if less == 1 else f"1/{less}"
    claim = epsilon(mechanism.releases(canaries), DELTA)
    return row(name, noise, z, f"{canaries} canaries", claim, found)


def run_by_the_data(name: str, seed: int) -> Row:
    """A row of a mechanism whose noise goes by the data, beside the epsilon of as much that does not."""
    mechanism = WITHOUT_EPSILON[name]
    z, rng = mechanism.multiplier, np.random.default_rng(seed)
    found = audit(mechanism.play(z, rng.bytes), runs=RUNS_BY_THE_DATA, delta=DELTA)
    claim = epsilon(mechanism.releases(), DELTA)
    return row(name, "by the data", z, f"{RUNS_BY_THE_DATA} runs", claim, found)


def row(name: str, noise: str, multiplier: float, played: str, claim: float, found: LowerBound) -> Row:
    """noise: how much of what is claimed is added. claim: epsilon of all of it."""
    return {
        "mechanism": name,
        "noise": noise,
        "multiplier": multiplier,
        "played": played,
        "delta": found.delta,
        "confidence": found.confidence,
        "claim": claim,
        "at_least": found.epsilon,
    }


def table(rows: Sequence[Row]) -> Table:
    """claimed: epsilon at this delta; at least: the lower bound of it."""
    cells = [
        (
            each["mechanism"],
            each["noise"],
            f"{each['multiplier']:g}",
            each["played"],
            f"{each['delta']:g}",
            f"{each['claim']:.2f}",
            f"{each['at_least']:.2f}",
            "caught" if each["at_least"] > each["claim"] else "",
        )
        for each in rows
    ]
    return Table.of(("mechanism", "noise", "z", "played", "delta", "claimed", "at least", ""), cells)
