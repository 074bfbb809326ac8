"""Rounds in Flower's runtimes, in turns: in the clear, under SecureGrid, and by Flower's own SecAgg+."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib.util import find_spec

from benchmarks import turns
from benchmarks.harness import Case, Control, Row, Table
from benchmarks.training.steps import Workload, simulated
from benchmarks.turns import DEPLOYMENT, PLAIN, SIMULATION, Taken, deployed

CLAIM = (
    "Ten clients, McMahan's CNN, a local epoch of 600 examples, in Flower's simulation: a secure round takes "
    "at most 1.3 times the processor time of a plain one and 0.76 of its bytes up, where Flower's own "
    "SecAgg+ (its legacy workflow, in 1.42) takes as much time and 2.0 times the bytes. Over a SuperLink and "
    "SuperNodes, where every message starts a program, either takes less than three times as long as a plain "
    "round. All means are within their bounds. The machine was busy with other work: processor time tells "
    "more than the clock."
)
CONTROL = Control(
    "Flower's own averaging of the same training", lambda row: row["who"] == PLAIN, by=("runtime",)
)
ALONE = True
_WORK = Workload(
    "mcmahan-cnn", (1, 28, 28), 10, clients=10, examples=600, steps=60, batch_size=10, lr=0.05, rounds=5
)
_QUICK = replace(_WORK, steps=10, examples=100, rounds=1)
WORK = {
    "quick": {SIMULATION: _QUICK, DEPLOYMENT: replace(_QUICK, clients=3)},
    "full": {SIMULATION: _WORK, DEPLOYMENT: replace(_WORK, rounds=2)},
}
"""A round: ten clients, McMahan's CNN (1,663,370 numbers), one local epoch of batch 10 over 600 examples."""
RATIOS = {"ratio": "seconds", "processor_ratio": "processor", "up_ratio": "up"}
NEEDED = {SIMULATION: ("flwr", "ray"), DEPLOYMENT: ("flwr",)}


def cases(size: str, seed: int) -> list[Case]:
    return [Case(runtime, partial(run_case, runtime, work, seed)) for runtime, work in WORK[size].items()]


def run_case(runtime: str, work: Workload, seed: int) -> Iterator[Row | str]:
    """A row for each way to average; ratio, processor_ratio, up_ratio: of its seconds, its processor time and
    its bytes up to Flower's own, all medians of the rounds.

    Raises: AssertionError where a mean is beyond its bound; as `taken_by`.
    """
    if why := missing(runtime):
        yield {"runtime": runtime, "who": PLAIN, "skipped": why}
        return
    yield f"Flower's {runtime}"
    taken = taken_by(runtime, work, seed)
    plain = taken[PLAIN]
    for who, each in taken.items():
        if each.off > each.bound:
            raise AssertionError(f"the mean of {who} is {each.off} off, where {each.bound} is its bound")
        row = {"runtime": runtime, "who": who, **asdict(work), **asdict(each)}
        for ratio, what in RATIOS.items():
            row[ratio] = statistics.median(getattr(each, what)) / statistics.median(getattr(plain, what))
        yield row


def missing(runtime: str) -> str:
    """What keeps it from being measured here, if anything."""
    if absent := [package for package in NEEDED[runtime] if find_spec(package) is None]:
        return f"not installed: {', '.join(absent)}; pip install 'secagg[flower,ray]'"
    if not turns.PROC.is_dir():
        return f"processor time is read in {turns.PROC}, which this system has not: measure on Linux"
    return ""


def taken_by(runtime: str, work: Workload, seed: int) -> dict[str, Taken]:
    """By who averages. Raises: RuntimeError where Flower's run fails."""
    running = simulated(turns.__name__, work, seed) if runtime == SIMULATION else deployed(work, seed)
    with running as folder:
        taken = json.loads((folder / "taken.json").read_text(encoding="utf-8"))
    return {who: Taken(**each) for who, each in taken.items()}


def table(rows: Sequence[Row]) -> Table:
    """Seconds of a round by the clock, processor time of all parties in it and bytes of one client, medians;
    messages to one client; off: the largest difference of a secure mean from the plain one, beside its bound.
    """
    header = (
        "runtime",
        "who",
        "clients",
        "steps",
        "a round",
        "times",
        "processor",
        "times",
        "up",
        "times",
        "down",
        "messages",
        "off",
        "bound",
    )
    return Table.of(header, [(row["runtime"], row["who"], *_numbers(row)) for row in rows])


def _numbers(row: Row) -> tuple[str, ...]:
    """times: Flower's own."""
    if "skipped" in row:
        return (row["skipped"], *[""] * 11)
    per_client = [f"{statistics.median(row[way]) / row['clients'] / 1e6:.2f} MB" for way in ("up", "down")]
    error = ("", "") if row["who"] == PLAIN else (f"{row['off']:.1e}", f"{row['bound']:.1e}")
    return (
        str(row["clients"]),
        str(row["steps"]),
        f"{statistics.median(row['seconds']):.1f} s",
        f"x {row['ratio']:.2f}",
        f"{statistics.median(row['processor']):.1f} s",
        f"x {row['processor_ratio']:.2f}",
        per_client[0],
        f"x {row['up_ratio']:.2f}",
        per_client[1],
        str(row["messages"]),
        *error,
    )
