"""Our robust rules beside ByzFL's code, with its parameters, on the same inputs in one process and one run.

ByzFL's package does not import beside what is installed here: out of a checkout of it (`SECAGG_BYZFL`) its
modules of rules are imported alone. Of their code nothing is copied and nothing edited.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.harness import Case, Control, Row, Table
from fl.robust.coordinates import buckets, middle, mixed
from fl.robust.distances import central, clipped_about, factors, lengths, neighbours_mixed, weiszfeld

Rows = NDArray[np.float64]

REPOSITORY: Final = "https://github.com/LPD-EPFL/byzfl"
CHECKOUT: Final = "SECAGG_BYZFL"
"""The variable of the environment that says where a checkout is."""

CLAIM = (
    "Rules of 20 and 50 clients' updates of length 10^5 give what ByzFL's code gives for the same "
    "parameters, to a relative 1e-15, and take at most its time, of one thread; only the mean takes as long, "
    "give or take a tenth, which is what it takes to read the updates once. What goes by distances takes a "
    "fifth to a half, since these come of one product of matrices; mixing nearest neighbours, which ByzFL "
    "copies, less still. Our Krum goes by one neighbour less than here, as published, and our geometric "
    "median to its end."
)
CONTROL = Control("ByzFL's code, in turns with ours", lambda row: "theirs_ms" in row, by=("rule", "clients"))
ALONE = True
REPETITIONS = 9
LENGTHS = {"quick": 10_000, "full": 100_000}
CLIENTS = (20, 50)
ASSUMED = 0.2
TOLERANCE = 1e-6  # relative to the largest number of a result

SMOOTHING, STEPS = 0.1, 3  # ByzFL's defaults, of its geometric median
RADIUS, BOUND, BUCKET, DEALT = 2.0, 2.0, 2, 1  # of clipping, centred and not; of buckets, and their seed


@dataclass(frozen=True)
class Pair:
    """One rule twice, for f attackers. theirs: from the modules of rules and of pre-aggregation. ours: what
    the rule of `fl.robust` is made of.
    """

    theirs: Callable[[Any, Any, int], Callable[[Rows], Rows]]
    ours: Callable[[Rows, int], Rows]


def _dealt(x: Rows) -> NDArray[np.int64]:
    """The order that ByzFL takes from the one generator that it has, seeded as in `_their_buckets`."""
    return np.random.RandomState(DEALT).permutation(len(x))


def _their_buckets(rules: Any, before: Any, f: int) -> Callable[[Rows], Rows]:
    def mixing(x: Rows) -> Rows:
        np.random.seed(DEALT)
        mixed: Rows = before.Bucketing(BUCKET)(x)
        return mixed

    return mixing


PAIRS: Mapping[str, Pair] = {
    "Average": Pair(
        lambda rules, before, f: rules.Average(), lambda x, f: mixed(np.full(len(x), 1 / len(x)), x)
    ),
    "Median": Pair(lambda rules, before, f: rules.Median(), lambda x, f: middle(x, (len(x) - 1) // 2)),
    "TrMean": Pair(lambda rules, before, f: rules.TrMean(f), middle),
    "GeometricMedian": Pair(
        lambda rules, before, f: rules.GeometricMedian(SMOOTHING, STEPS),
        lambda x, f: weiszfeld(x, smoothing=SMOOTHING, iterations=STEPS, start=np.zeros(x.shape[1])),
    ),
    # It counts one neighbour more than Blanchard et al. do, and than our rules.
    "Krum": Pair(lambda rules, before, f: rules.Krum(f), lambda x, f: x[central(x, len(x) - f - 1, 1)[0]]),
    "MultiKrum": Pair(
        lambda rules, before, f: rules.MultiKrum(f),
        lambda x, f: x[central(x, len(x) - f - 1, len(x) - f)].mean(axis=0),
    ),
    "CenteredClipping": Pair(
        lambda rules, before, f: rules.CenteredClipping(L=STEPS, tau=RADIUS),
        lambda x, f: clipped_about(x, np.zeros(x.shape[1]), RADIUS, iterations=STEPS),
    ),
    "NNM": Pair(lambda rules, before, f: before.NNM(f), neighbours_mixed),
    "Bucketing": Pair(_their_buckets, lambda x, f: buckets(x, _dealt(x), BUCKET)),
    "Clipping, Average": Pair(
        lambda rules, before, f: lambda x: rules.Average()(before.Clipping(BOUND)(x)),
        lambda x, f: mixed(factors(lengths(x), BOUND) / len(x), x),
    ),
}
"""By ByzFL's names; the last is what it makes of two, one after the other."""


@dataclass(frozen=True)
class Theirs:
    """The modules of a checkout, and its commit."""

    rules: Any
    before: Any
    commit: str

    @classmethod
    def found(cls) -> Theirs:
        """Raises: NotImplementedError where there is no checkout."""
        name = os.environ.get(CHECKOUT, "")
        if not name or not (Path(name) / "byzfl" / "aggregators" / "aggregators.py").is_file():
            raise NotImplementedError(f"no checkout of {REPOSITORY}: say where one is by {CHECKOUT}=FOLDER")
        for module in [name for name in sys.modules if name.partition(".")[0] == "byzfl"]:
            del sys.modules[module]  # of another checkout, or of the whole package
        for package in ("byzfl", "byzfl.aggregators", "byzfl.utils"):
            # Without their __init__, which import data sets and torchvision.
            sys.modules[package] = ModuleType(package)
            sys.modules[package].__path__ = [str(Path(name).joinpath(*package.split(".")))]
        said = subprocess.run(  # noqa: S603
            ["git", "-C", name, "rev-parse", "HEAD"],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
        )
        rules = import_module("byzfl.aggregators.aggregators")
        before = import_module("byzfl.aggregators.preaggregators")
        return cls(rules, before, said.stdout.strip() or "of no commit")

    def __call__(self, rule: str, f: int) -> Callable[[Rows], Rows]:
        return PAIRS[rule].theirs(self.rules, self.before, f)


def cases(size: str, seed: int) -> list[Case]:
    return [
        Case(f"{rule}, {n} clients", partial(run_case, rule, n, LENGTHS[size], seed))
        for n in CLIENTS
        for rule in PAIRS
    ]


def run_case(rule: str, n: int, d: int, seed: int) -> Iterator[Row]:
    """In turns: each once, then each again. Raises: NotImplementedError without a checkout."""
    theirs, f = Theirs.found(), int(ASSUMED * n)
    x = np.random.default_rng([seed, n]).standard_normal((n, d))
    times: dict[str, list[float]] = {"theirs_ms": [], "ours_ms": []}
    with threadpool_limits(1):  # threads that wait for work take processor time, too
        for _ in range(REPETITIONS):
            right, took = timed(theirs(rule, f), x.copy())  # some of theirs write into what they are given
            times["theirs_ms"].append(took)
            found, took = timed(lambda rows: PAIRS[rule].ours(rows, f), x)
            times["ours_ms"].append(took)
    off = float(np.abs(found - right).max() / np.abs(right).max())
    if off > TOLERANCE:
        raise AssertionError(f"{rule} is not ByzFL's: off by {off:.1e}")
    ratio = statistics.median(times["ours_ms"]) / statistics.median(times["theirs_ms"])
    yield {
        "rule": rule,
        "clients": n,
        "length": d,
        "attackers": f,
        "byzfl": theirs.commit,
        **times,
        "ratio": ratio,
        "off": off,
    }


def timed(rule: Callable[[Rows], Rows], x: Rows) -> tuple[Rows, float]:
    """What it gives, and the milliseconds of processor time that it took."""
    since = time.process_time()
    found = rule(x)
    return found, 1000 * (time.process_time() - since)


def table(rows: Sequence[Row]) -> Table:
    header = ("rule", "clients", "length", "of them bad", "ByzFL", "ours", "ours / ByzFL", "off by")
    cells = [
        (
            row["rule"],
            str(row["clients"]),
            f"{row['length']:,}",
            str(row["attackers"]),
            f"{statistics.median(row['theirs_ms']):.1f} ms",
            f"{statistics.median(row['ours_ms']):.1f} ms",
            f"{row['ratio']:.2f}",
            f"{row['off']:.0e}",
        )
        for row in rows
    ]
    return Table.of(header, cells)
