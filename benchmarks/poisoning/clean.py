"""Poison that nobody who looks at an example would find: images of one class laid thinly over another, or all
of one class left out; and opposite updates where the data of the honest are damaged, by accident.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.aimed import mean, percents, run
from benchmarks.harness import Case, Control, Row, Table
from benchmarks.poisoned import LAST, out
from benchmarks.spread import paired, seeds
from fl.config.run import RunConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "Fashion-MNIST, 20 clients, the coat as victim and the shirt as target. Images of the victim laid at "
    ".49 over those of the target by 8 clients, whose labels are all right, do nothing: no rule's F1 of the "
    "victim or accuracy moves by more than a point. To leave one's own coats out is what works: 8 clients "
    "who do take 24 of 73 points of the victim's F1 and 2 of accuracy, and a fifth of the coats are then "
    "taken for shirts; no rule stops it, none leaves out more of them than of the others, and the median, "
    "which takes the majority for the truth, makes it worse: 37 points. Opposite parameters from 4 clients "
    "take 17 points of accuracy from the mean and 35 of the victim's F1, with whole data as beside noise, "
    "dead pixels or wrong labels in 40 % of the clients (18, 18 and 22): test weighting and multi-Krum "
    "leave out 94 to 100 % of them, never an honest client for being damaged, and lose 1.3 points at most, "
    "the median 2 to 3. Damage alone costs the mean 2 to 3 points."
)
NONE = "none"
CONTROL = Control(
    "the same rule on the same data without attackers",
    lambda row: row["attack"] == NONE,
    by=("damage", "rule"),
)
ALONE = False
RULES = ("mean", "median", "multi-krum", "test-weighting")
"""By coordinate, by distance, by data of the server's; the others of a kind do alike."""
LEVEL = 0.5  # of damage: the deviation of pixels in [0, 1], the share of dead pixels, that of wrong labels
SHARES = {NONE: 0.2, "clean-label": 0.4, "subset": 0.4, "opposite": 0.2}
"""Of the clients, attackers: as many as it takes to see what whoever keeps labels does, and the usual."""
BETA = 0.49  # of clean-label, just below the half of which nobody could say what it shows


@dataclass(frozen=True)
class Setting:
    """victim, target: classes that look alike. Of the other numbers as `backdoored.Setting`; damaged: of the
    clients, whose data are, drawn whoever attacks.
    """

    dataset: str
    victim: int
    target: int
    clients: int
    damaged: float
    examples: int
    held_out: int
    root: int
    training: int
    rounds: int
    rules: tuple[str, ...]
    damages: tuple[str, ...]
    seeds: int

    def configuration(self, cell: Cell, seed: int) -> RunConfig:
        attack, damage = (None if name == NONE else name for name in (cell.attack, cell.damage))
        return RunConfig.of(
            dataset=self.dataset,
            clients=self.clients,
            partition="iid",
            examples_per_client=self.examples,
            validation=self.held_out / self.training,
            root=self.root,
            robust=cell.rule,
            damage=damage,
            damaged=self.damaged,
            damage_level=LEVEL,
            model="cnn",
            rounds=self.rounds,
            local_epochs=1,
            batch_size=25,
            lr=0.1,
            momentum=0.8,
            scheme="plain",
            execution="sequential",
            metrics=False,
            attack=attack,
            attackers=SHARES[cell.attack],
            attack_level=BETA if attack == "clean-label" else None,
            attack_victim=self.victim,
            attack_target=self.target,
            seed=seed,
        )


SETTINGS = {
    "quick": Setting("digits", 4, 9, 10, 0.4, 80, 135, 100, 1347, 12, ("mean", "median"), ("missing",), 1),
    "full": Setting(
        "fashion-mnist", 4, 6, 20, 0.4, 250, 500, 100, 60_000, 18, RULES, ("noise", "missing", "labels"), 3
    ),
}


@dataclass(frozen=True)
class Cell:
    attack: str
    damage: str
    rule: str


def cells(setting: Setting) -> list[Cell]:
    """Attacks on data, and opposite updates beside each kind of damage; each beside no attack."""
    whole = [(attack, NONE) for attack in (NONE, "clean-label", "subset", "opposite")]
    worse = [(attack, damage) for damage in setting.damages for attack in (NONE, "opposite")]
    return [Cell(attack, damage, rule) for attack, damage in whole + worse for rule in setting.rules]


def cases(size: str, seed: int) -> list[Case]:
    """Seed by seed: what a stop leaves is whole seeds."""
    setting = SETTINGS[size]
    return [
        Case(
            f"{cell.attack}, damage {cell.damage}, {cell.rule}, seed {each}",
            partial(run_case, setting, cell, each),
        )
        for each in seeds(seed, setting.seeds)
        for cell in cells(setting)
    ]


def run_case(setting: Setting, cell: Cell, seed: int) -> Row:
    """Raises: as `aimed.run`."""
    config = setting.configuration(cell, seed)
    return {
        "dataset": setting.dataset,
        "clients": setting.clients,
        "bad": config.attack.number_of(setting.clients),
        **asdict(cell),
        "seed": seed,
        **run(config, LAST),
    }


def groups(rows: Sequence[Row]) -> dict[Cell, list[Row]]:
    """The seeds of each cell."""
    by: dict[Cell, list[Row]] = {}
    for row in rows:
        by.setdefault(Cell(row["attack"], row["damage"], row["rule"]), []).append(row)
    return by


def table(rows: Sequence[Row]) -> Table:
    """In percent on the test set, means of the last ten rounds, ± over seeds: victim, the F1 of the class
    that is attacked; rest, the micro-F1 of the others; accuracy; taken, the share of the victim's images that
    are taken for the target. takes: of the victim's F1, beside the same rule on the same data without
    attackers, by pairs of seeds, ± its standard error; so of accuracy. bad out, good out: how many percent of
    them had no weight.
    """
    by, lines = groups(rows), list[tuple[str, ...]]()
    for cell, some in by.items():
        honest = by[Cell(NONE, cell.damage, cell.rule)]
        takes = {
            name: paired(percents(some, name), percents(honest, name), "+.1f") if some[0]["bad"] else ""
            for name in ("victim", "accuracy")
        }
        lines.append(
            (
                cell.attack,
                str(some[0]["bad"]),
                cell.damage,
                cell.rule,
                mean(some, "victim"),
                takes["victim"],
                mean(some, "rest"),
                mean(some, "accuracy"),
                takes["accuracy"],
                mean(some, "taken"),
                out(some, "attackers"),
                out(some, "honest"),
            )
        )
    scores = ("victim F1", "takes", "rest F1", "accuracy", "takes", "taken")
    return Table.of(("attack", "bad", "damage", "rule", *scores, "bad out", "good out"), lines)


def plot(rows: Sequence[Row]) -> Figure:
    """What an attack takes of the victim's F1 and of accuracy, rule by rule."""
    from benchmarks.plots import grids

    by = groups(rows)
    rules = list(dict.fromkeys(cell.rule for cell in by))
    attacked = [pair for pair in dict.fromkeys((c.attack, c.damage) for c in by) if pair[0] != NONE]

    def taken(attack: str, damage: str, rule: str, name: str) -> float:
        with_it, without = by[Cell(attack, damage, rule)], by[Cell(NONE, damage, rule)]
        return statistics.fmean(
            a - b
            for a, b in zip(percents(with_it, name).values(), percents(without, name).values(), strict=True)
        )

    names = [attack if damage == NONE else f"{attack}, {damage}" for attack, damage in attacked]
    panels = {
        title: (names, rules, [[taken(*pair, rule, name) for rule in rules] for pair in attacked])
        for title, name in (("victim's F1", "victim"), ("accuracy", "accuracy"))
    }
    return grids(panels, "rule", "points beside no attack")
