"""Clients that upload false parameters, and a server that tests what it gets (Ma et al., figures 4 and 6)."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.poisoned import out, run
from benchmarks.spread import by_seed, paired, seeds, spread
from fl.config.run import RunConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "MNIST, 30 clients of 200 examples of two classes each, a small net, 30 rounds of 20 steps: with 3, 6 "
    "and 9 clients that upload the opposite of their parameters the mean of all falls from 94 to 66, 40 "
    "and 23 %, and with 12 it has failed: 10 %, where the best constant answer has 11. With parameters at "
    "random it falls to 71, 40, 20 and 14 %, which is near to that and not within two points of it. A "
    "server that weighs each upload by its accuracy on 500 examples that nobody trains on, less that of "
    "guessing, has 90 % of 12 opposite and 85 % of 12 random uploads: it gives back 80 and 71 points. It "
    "leaves out nearly all of the opposite ones and, in all runs together, one of the honest; of the "
    "random ones only half, since some are better than chance on 500 examples. Three times as many local "
    "steps add 1 to 3 points under 12 attackers. Without any the weights cost half a point."
)
CONTROL = Control("the mean of all without attackers", lambda row: row["rule"] == "mean" and not row["bad"])
ALONE = False
NEAR = 0.02  # of the best constant answer: a model that is no better has failed
STEPS, MORE = 20, 60  # of a client in a round
RATE, BATCH = 0.1, 20


@dataclass(frozen=True)
class Setting:
    """examples: of each client, of two classes. held_out: examples that leave the training set before it is
    dealt, for the server's tests. bad: how many of the clients attack; of the largest, some run with more
    local steps too.
    """

    dataset: str
    clients: int
    examples: int
    held_out: int
    training: int
    rounds: int
    bad: tuple[int, ...]
    seeds: int

    def configuration(self, attack: str, bad: int, steps: int, rule: str, seed: int) -> RunConfig:
        """attack: "none" where nobody is bad."""
        attacked = {"attack": attack, "attackers": bad / self.clients} if bad else {}
        return RunConfig.of(
            **attacked,
            robust=rule,
            dataset=self.dataset,
            clients=self.clients,
            partition="shards",
            classes_per_client=2,
            examples_per_client=self.examples,
            validation=self.held_out / self.training,
            model="cnn",
            rounds=self.rounds,
            local_steps=steps,
            batch_size=BATCH,
            lr=RATE,
            momentum=0.0,
            scheme="plain",
            execution="sequential",
            metrics=False,
            seed=seed,
        )


SETTINGS = {
    "quick": Setting("digits", 30, 36, 135, 1347, 15, (0, 12), 1),
    "full": Setting("mnist", 30, 200, 500, 60_000, 30, (0, 3, 6, 9, 12), 3),
}
ATTACKS = ("opposite", "uniform")
MEAN, TESTED = "mean", "test-weighting"


@dataclass(frozen=True)
class Cell:
    """attack: "none" where nobody is bad."""

    attack: str
    bad: int
    steps: int
    rule: str


def cells(setting: Setting) -> list[Cell]:
    """Every attack, share of attackers and rule, and at the largest share more steps; each once."""
    attacked = [
        Cell(attack if bad else "none", bad, STEPS, rule)
        for attack in ATTACKS
        for bad in setting.bad
        for rule in (MEAN, TESTED)
    ]
    more = [Cell(attack, max(setting.bad), MORE, TESTED) for attack in ATTACKS]
    return list(dict.fromkeys(attacked + more))


def cases(size: str, seed: int) -> list[Case]:
    """Seed by seed: what a stop leaves is whole seeds."""
    setting = SETTINGS[size]
    return [
        Case(
            f"{cell.attack}, {cell.bad} bad, {cell.steps} steps, {cell.rule}, seed {each}",
            partial(run_case, setting, cell, each),
        )
        for each in seeds(seed, setting.seeds)
        for cell in cells(setting)
    ]


def run_case(setting: Setting, cell: Cell, seed: int) -> Row:
    """Raises: as `run`."""
    config = setting.configuration(cell.attack, cell.bad, cell.steps, cell.rule, seed)
    return {
        "dataset": setting.dataset,
        "clients": setting.clients,
        **asdict(cell),
        "seed": seed,
        **run(config),
    }


def groups(rows: Sequence[Row]) -> dict[Cell, list[Row]]:
    """The seeds of each cell."""
    by: dict[Cell, list[Row]] = {}
    for row in rows:
        by.setdefault(Cell(row["attack"], row["bad"], row["steps"], row["rule"]), []).append(row)
    return by


def accuracies(some: Sequence[Row]) -> dict[int, float]:
    """In percent, by seed."""
    return by_seed(some, lambda row: 100 * row["accuracy"])


def failed(some: Sequence[Row]) -> bool:
    """Whether the model is no better than a constant answer, or as good as none."""
    return statistics.fmean(row["accuracy"] for row in some) <= float(some[0]["constant"]) + NEAR


def table(rows: Sequence[Row]) -> Table:
    """accuracy: in percent on the test set, the mean of the last ten rounds, ± over seeds; constant: of the
    best constant answer. gives back: beside the mean of all under the same attack, by pairs of seeds, ± its
    standard error. bad out, honest: how many percent of them had no weight.
    """
    by, lines = groups(rows), list[tuple[str, ...]]()
    for cell, some in by.items():
        unprotected = by.get(Cell(cell.attack, cell.bad, STEPS, MEAN))
        back = cell.rule != MEAN and unprotected is not None
        lines.append(
            (
                cell.attack,
                str(cell.bad),
                str(cell.steps),
                cell.rule,
                spread(list(accuracies(some).values()), ".1f"),
                "failed" if failed(some) else "",
                paired(accuracies(some), accuracies(unprotected), "+.1f") if back and unprotected else "",
                f"{100 * some[0]['constant']:.1f}",
                out(some, "attackers"),
                out(some, "honest"),
            )
        )
    header = (
        "attack",
        "bad",
        "steps",
        "rule",
        "accuracy",
        "",
        "gives back",
        "constant",
        "bad out",
        "good out",
    )
    return Table.of(header, lines)


def plot(rows: Sequence[Row]) -> Figure:
    from benchmarks.plots import lines

    by = groups(rows)
    panels = {}
    for attack in ATTACKS:
        curves = {
            rule: [
                (cell.bad, statistics.fmean(accuracies(some).values()))
                for cell, some in by.items()
                if (cell.rule, cell.steps) == (rule, STEPS) and cell.attack in (attack, "none")
            ]
            for rule in (MEAN, TESTED)
        }
        most = max(bad for line in curves.values() for bad, _ in line)
        curves["~best constant answer"] = [(bad, 100 * rows[0]["constant"]) for bad in (0, most)]
        panels[attack] = (f"attackers of {rows[0]['clients']}", "accuracy, %", curves)
    return lines(panels, log=False)
