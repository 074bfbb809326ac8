"""Whether more users make the same attackers harmless: a fixed number of bad ones in a growing crowd."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.poisoned import run
from benchmarks.poisoning.ma import ATTACKS, MEAN, SETTINGS, STEPS, Setting, accuracies, failed
from benchmarks.spread import paired, seeds, spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "Three clients of 6, 12, 30 and 60 upload the opposite of their parameters, or parameters at "
    "random, in the setting of `ma`: MNIST, 200 examples of two classes each. More users do make them "
    "harmless, though not quickly: of half of all the mean has failed, at 10 % under both, where the "
    "best constant answer has 11; of a quarter 28 and 17 % are left, of a tenth 66 and 71, of a "
    "twentieth 88 and 90, of the 95 that 60 users have without them. Half that send random parameters "
    "led the model so far out in two runs of three that nobody could train it any more."
)
CONTROL = Control("as many users without attackers", lambda row: row["attack"] == "none", by=("clients",))
ALONE = False
BAD = 3
USERS = {"quick": (6, 30), "full": (6, 12, 30, 60)}


@dataclass(frozen=True)
class Cell:
    attack: str
    clients: int


def cells(size: str) -> list[Cell]:
    """Every attack, and none, for every number of clients."""
    return [Cell(attack, clients) for clients in USERS[size] for attack in ("none", *ATTACKS)]


def cases(size: str, seed: int) -> list[Case]:
    setting = SETTINGS[size]
    return [
        Case(f"{cell.attack}, {cell.clients} users, seed {each}", partial(run_case, setting, cell, each))
        for each in seeds(seed, setting.seeds)
        for cell in cells(size)
    ]


def run_case(setting: Setting, cell: Cell, seed: int) -> Row:
    """Each user brings examples of its own. Raises: as `run`."""
    bad = BAD if cell.attack != "none" else 0
    crowd = replace(setting, clients=cell.clients)
    config = crowd.configuration(cell.attack, bad, STEPS, MEAN, seed)
    return {"dataset": setting.dataset, "bad": bad, **asdict(cell), "seed": seed, **run(config)}


def groups(rows: Sequence[Row]) -> dict[Cell, list[Row]]:
    """The seeds of each cell."""
    by: dict[Cell, list[Row]] = {}
    for row in rows:
        by.setdefault(Cell(row["attack"], row["clients"]), []).append(row)
    return by


def table(rows: Sequence[Row]) -> Table:
    """accuracy: in percent on the test set, the mean of the last ten rounds, ± over seeds; takes: beside as
    many users without attackers, by pairs of seeds, ± its standard error; constant: of the best constant
    answer; broken: in how many of the runs the honest could train the model no more, before the end.
    """
    by, lines = groups(rows), list[tuple[str, ...]]()
    for cell, some in by.items():
        honest = by[Cell("none", cell.clients)]
        takes = cell.attack != "none"
        lines.append(
            (
                str(cell.clients),
                cell.attack,
                f"{100 * some[0]['bad'] / cell.clients:.0f} %",
                spread(list(accuracies(some).values()), ".1f"),
                "failed" if failed(some) else "",
                paired(accuracies(some), accuracies(honest), "+.1f") if takes else "",
                f"{100 * some[0]['constant']:.1f}",
                f"{sum(row['until'] is not None for row in some)} of {len(some)}",
            )
        )
    return Table.of(("users", "attack", "bad", "accuracy", "", "takes", "constant", "broken"), lines)


def plot(rows: Sequence[Row]) -> Figure:
    from benchmarks.plots import lines

    curves = {
        attack: [
            (cell.clients, statistics.fmean(accuracies(some).values()))
            for cell, some in groups(rows).items()
            if cell.attack == attack
        ]
        for attack in ("none", *ATTACKS)
    }
    return lines({f"{BAD} attackers, the mean of all": ("users", "accuracy, %", curves)}, log=False)
