"""Backdoors under every rule: what the tables of none, of plain and of boosted ones share."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.aimed import mean, percents, run
from benchmarks.harness import Case, Row, Table
from benchmarks.poisoned import out
from benchmarks.spread import paired, seeds
from fl.config.run import RunConfig
from fl.robust import RULES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LAST = 3  # rounds whose mean is a score: few are trained, and the backdoor still grows in them
ELSEWHERE = {
    "draco": "needs clients who take the same examples in the same order, so one step a round",
    "mmse": "needs noise of the clients' own, and is the mean where all declare the same",
}
"""Rules of which there is no row here, and why."""
NAMES = tuple(name for name in RULES if name not in ELSEWHERE)
MEAN = "mean"
TARGET, OTHER = 7, 0
"""The class that the trigger is to bring about; and one that an attack has to name and a backdoor does not
use.
"""


@dataclass(frozen=True)
class Setting:
    """examples: of each client. held_out: examples of the `training` ones that leave them before they are
    dealt, for the server's tests; root: so many more, for it to train on. bad: of the clients, attack.
    """

    dataset: str
    clients: int
    bad: int
    examples: int
    held_out: int
    root: int
    training: int
    rounds: int
    rules: tuple[str, ...]
    seeds: int

    def configuration(self, boost: float, rule: str, seed: int) -> RunConfig:
        """boost: how many times what poisoned data gave is sent; 0 where nobody attacks."""
        return RunConfig.of(
            dataset=self.dataset,
            clients=self.clients,
            partition="iid",
            examples_per_client=self.examples,
            validation=self.held_out / self.training,
            root=self.root,
            robust=rule,
            model="cnn",
            rounds=self.rounds,
            local_epochs=2,
            batch_size=25,
            lr=0.1,
            momentum=0.8,
            scheme="plain",
            execution="sequential",
            metrics=False,
            attack="backdoor" if boost else None,
            attackers=self.bad / self.clients,
            attack_boost=boost or 1.0,
            attack_victim=OTHER,
            attack_target=TARGET,
            seed=seed,
        )


SETTINGS = {
    "quick": Setting("digits", 20, 2, 50, 135, 100, 1347, 8, ("mean", "median", "norm-bound"), 1),
    "full": Setting("fashion-mnist", 40, 4, 250, 500, 100, 60_000, 22, NAMES, 3),
}


def cases(size: str, seed: int, boost: float) -> list[Case]:
    """Every rule, seed by seed: what a stop leaves is whole seeds."""
    setting = SETTINGS[size]
    return [
        Case(f"{rule}, seed {each}", partial(run_case, setting, boost, rule, each))
        for each in seeds(seed, setting.seeds)
        for rule in setting.rules
    ]


def run_case(setting: Setting, boost: float, rule: str, seed: int) -> Row:
    """boost: 0 where nobody attacks. Raises: as `aimed.run`."""
    config = setting.configuration(boost, rule, seed)
    crowd = {"dataset": setting.dataset, "clients": setting.clients, "bad": setting.bad if boost else 0}
    return {**crowd, "boost": boost, "rule": rule, "seed": seed, **run(config, LAST)}


def groups(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The seeds of each rule."""
    by: dict[str, list[Row]] = {}
    for row in rows:
        by.setdefault(row["rule"], []).append(row)
    return by


def table(rows: Sequence[Row]) -> Table:
    """accuracy: in percent on the test set; success: of its images that bear the trigger and are not of the
    target, how many percent are taken for it: both means of the last three rounds, ± over seeds. off: beside
    the mean of all in the same runs, by pairs of seeds, ± its standard error. bad out, good out: how many
    percent of them had no weight.
    """
    by = groups(rows)
    lines = [
        (
            rule,
            mean(some, "accuracy"),
            "" if rule == MEAN else off(some, by[MEAN], "accuracy"),
            mean(some, "success"),
            "" if rule == MEAN else off(some, by[MEAN], "success"),
            out(some, "attackers"),
            out(some, "honest"),
        )
        for rule, some in by.items()
    ]
    return Table.of(("rule", "accuracy", "off", "success", "off", "bad out", "good out"), lines)


def off(some: Sequence[Row], unprotected: Sequence[Row], score: str) -> str:
    """In points beside the unprotected, by pairs of seeds, ± its standard error."""
    return paired(percents(some, score), percents(unprotected, score), "+.1f")


def plot(rows: Sequence[Row]) -> Figure:
    """Accuracy and success, rule by rule."""
    from benchmarks.plots import bars

    by = groups(rows)
    panels = {
        f"{score}, %": [{score: statistics.fmean(percents(some, score).values())} for some in by.values()]
        for score in ("accuracy", "success")
    }
    return bars(list(by), panels)
