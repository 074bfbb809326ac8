"""Each protection as one point, of the three tables of benchmarks/matrix: what it costs, what still leaks,
what is left of it under attack, how good the model is, and what is promised.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks import harness
from benchmarks.adversaries import CLIENT, SERVER
from benchmarks.harness import Row
from benchmarks.inverted import cells_of
from benchmarks.matrix.cost import client_ms
from benchmarks.matrix.resilience import NOTHING, Line, lines_of, percents
from benchmarks.protected import SIZES, Size, by_protection
from benchmarks.protections import CLIENTS, PLAIN, PROTECTIONS, Protection
from benchmarks.spread import by_seed
from benchmarks.tables import Table, markdown
from fl.page.published import Point

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER: Final = "matrix"
TABLES: Final = ("cost", "leakage", "resilience")
CROWD, ROUND = 10, 1
"""Clients in the session of which a point's leakage is, and the training round whose model they have."""
PAIR: Final = 2
"""Clients in the smallest session, of which the README shows it, too."""
UNMEASURED: Final = "not measured"
HEADS: Final = {
    "client_ms": "client, + ms",
    "bytes_up": "up, times",
    "server_ms": "server, ms",
    "rounds": "rounds",
    "leakage": "leaks to server, %",
    "leakage_clients": "to clients, %",
    "resilience": "under attack",
    "success": "trigger, %",
    "accuracy": "accuracy, %",
    "epsilon": "epsilon",
}
"""Axis -> how a table calls it."""


@dataclass(frozen=True)
class Told:
    """A number by seed; of none, why. beside: what there is to say of it all the same."""

    by_seed: Mapping[int, float]
    why: str = UNMEASURED
    beside: str = ""


def sizes(size: str) -> dict[str, str]:
    """The tables that there are of this size, each with that which it is of: what leaks does not depend on
    what computes it, so that a GPU has no table of its own.
    """
    of = {name: "full" if (size, name) == (harness.GPU, "leakage") else size for name in TABLES}
    return {name: its for name, its in of.items() if harness.file(FOLDER, name, its).exists()}


def measured(size: str = "full") -> dict[str, list[Row]]:
    """These tables' rows."""
    return {name: list(harness.read(FOLDER, name, its)["rows"]) for name, its in sizes(size).items()}


def points(tables: Mapping[str, Sequence[Row]], size: str = "full") -> tuple[Point, ...]:
    """One for each protection of which the cost was measured; what was not is said to be so. tables: name ->
    rows, of this size.
    """
    costs = by_protection(tables.get("cost", ()))
    leaks = cells_of(tables.get("leakage", ()), "protection", "adversary", "clients", "round")
    # Under the best rule where there is one: its line comes after that of the mean.
    lines = {line.protection: line for line in lines_of(tables.get("resilience", ()))}
    return tuple(
        point(
            protection,
            command(protection, SIZES[size]),
            {
                **of_cost(costs[protection.name], costs[PLAIN.name]),
                "leakage": of_leakage(leaks.get((protection.name, SERVER, CROWD, ROUND), ())),
                "leakage_clients": of_leakage(leaks.get((protection.name, CLIENT, CROWD, ROUND), ())),
                **of_attacks(lines.get(protection.name)),
            },
        )
        for protection in PROTECTIONS
        if protection.name in costs
    )


def point(protection: Protection, command: str, told: Mapping[str, Told]) -> Point:
    """told: by axis."""
    numbers = {axis: list(told[axis].by_seed.values()) for axis in HEADS}
    return Point(
        protection.name,
        protection.scheme,
        protection.mechanism,
        command,
        {axis: statistics.fmean(some) if some else None for axis, some in numbers.items()},
        {
            axis: said
            for axis, some in numbers.items()
            if (said := told[axis].beside if some else told[axis].why)
        },
        {axis: statistics.stdev(some) for axis, some in numbers.items() if len(some) > 1},
    )


def command(protection: Protection, how: Size) -> str:
    """What is typed for the training that cost and accuracy are of."""
    task = f"--clients {CLIENTS} --model {how.model} --rounds {how.rounds} --no-metrics"
    if how.device != SIZES["full"].device:
        task = f"--dataset {how.dataset} --device {how.device} {task}"
    return f"secagg train --execution sequential {task} {protection.flags}"


def of_cost(some: Sequence[Row], plain: Sequence[Row]) -> dict[str, Told]:
    """A client's time: of it and the unprotected one of the same seed the difference; bytes: the ratio."""
    time, unprotected = by_seed(some, client_ms), by_seed(plain, client_ms)
    up, bare = by_seed(some, lambda row: row["bytes_up"]), by_seed(plain, lambda row: row["bytes_up"])
    return {
        "client_ms": Told(
            {seed: time[seed] - unprotected[seed] for seed in time.keys() & unprotected.keys()}
        ),
        "bytes_up": Told({seed: up[seed] / bare[seed] for seed in up.keys() & bare.keys()}),
        "server_ms": Told(by_seed(some, lambda row: row["server_ms"])),
        "rounds": Told(by_seed(some, lambda row: row["rounds"])),
        "accuracy": Told(by_seed(some, lambda row: 100 * row["accuracy"])),
        "epsilon": Told(
            by_seed([row for row in some if row["epsilon"] is not None], lambda row: row["epsilon"]),
            some[0].get("epsilon_why", ""),
            f"against {some[0]['against']}",
        ),
    }


def of_leakage(some: Sequence[Row]) -> Told:
    """In percent of the examples. some: of one adversary."""
    there = [row for row in some if row["share"] is not None]
    why = next((row["share_why"] for row in some if row["share"] is None), UNMEASURED)
    return Told(by_seed(there, lambda row: 100 * row["share"]), why)


def of_attacks(line: Line | None) -> dict[str, Told]:
    """In points: what the worst attack leaves, less what there is without attackers and under the mean, with
    the same seeds: so what a rule itself costs counts.
    """
    if line is None:
        return {"resilience": Told({}), "success": Told({})}
    clean, worst = percents(line.clean, "accuracy"), line.percents(line.worst)
    under = f"under {line.worst}, with {line.rule}"
    untouched = statistics.fmean(line.percents(NOTHING, "success").values())
    return {
        "resilience": Told(
            {seed: worst[seed] - clean[seed] for seed in worst.keys() & clean.keys()}, beside=under
        ),
        "success": Told(
            line.percents("backdoor", "success"), beside=f"{untouched:.0f} % without attackers, {line.rule}"
        ),
    }


def table(some: Sequence[Point]) -> Table:
    """A line a point, "-" for what does not apply."""
    forms: dict[str, Callable[[float], str]] = {
        "client_ms": "{:+.1f}".format,
        "bytes_up": "{:.2f}".format,
        "server_ms": "{:.1f}".format,
        "resilience": "{:+.0f}".format,
        "epsilon": "{:.3g}".format,
    }
    cells = [
        (
            each.name,
            *(
                "-" if (number := each.values[axis]) is None else forms.get(axis, "{:.0f}".format)(number)
                for axis in HEADS
            ),
        )
        for each in some
    ]
    return Table.of(("protection", *HEADS.values()), cells)


def plot(tables: Mapping[str, Sequence[Row]]) -> Figure:
    """What the README shows of all of it, in five numbers a protection."""
    from benchmarks.plots import beside

    some = points(tables)
    leaks = cells_of(tables["leakage"], "protection", "adversary", "clients", "round")
    pair = {each.name: of_leakage(leaks[each.name, SERVER, PAIR, ROUND]).by_seed.values() for each in some}
    under = [each.values["resilience"] for each in some]
    panels = {
        "a client's extra time,\nms a round": [each.values["client_ms"] for each in some],
        f"images the server reads,\n% of {PAIR} clients'": [
            statistics.fmean(shares) if (shares := pair[each.name]) else None for each in some
        ],
        f"\n% of {CROWD} clients'": [each.values["leakage"] for each in some],
        "accuracy,\n%": [each.values["accuracy"] for each in some],
        "accuracy lost to a fifth\nof attackers, points": [None if lost is None else -lost for lost in under],
    }
    return beside([each.name for each in some], panels)


def overview() -> list[str]:
    """What the folder's page begins with, as paragraphs; nothing while no cost is measured at full size."""
    if not (some := points(measured())):
        return []
    told = [
        "## All together",
        "A client's processor time in a round, training and session, beside no protection with the same "
        "seeds, and its bytes, in those of no protection; the server's time; rounds of the protocol; of the "
        f"images in a session of {CROWD} clients in round {ROUND} those above 20 dB, for the server and for "
        "a client; points of accuracy that the worst of four attacks leaves, less those without attackers, "
        "under the best rule that the server's view permits; how often a trigger works under that rule; "
        "accuracy without attackers; epsilon of the whole run.",
        "\n".join(markdown(table(some))),
    ]
    return [*told, "\n".join(f"- {each}." for each in reasons(some))]


def reasons(some: Sequence[Point]) -> list[str]:
    """Why a table has "-": a sentence for each reason, with those that it is one of."""
    of: dict[tuple[str, str], list[str]] = {}
    for each in some:
        for axis, number in each.values.items():
            if number is None:
                of.setdefault((HEADS[axis], each.why[axis]), []).append(each.name)
    return [f"{head}: {why} ({'; '.join(names)})" for (head, why), names in of.items()]
