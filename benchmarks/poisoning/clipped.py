"""What a clip on every update is worth where attackers skip it, and the server leaves out sums of groups that
are longer than their members could make them: accuracy, and which groups are left out.

Every training is of masked sums. There is no clip, one that the attackers keep to, or one that they skip; in
one sum of all, which nothing checks, and in groups. Groups that are too small for what they promise are run
as experiments, and say so.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final

from benchmarks.by_size import MEAN, MEDIAN, NOTHING, OPPOSITE
from benchmarks.harness import Case, Control, Row, Table
from benchmarks.in_groups import Cut
from benchmarks.inverted import cells_of
from benchmarks.poisoned import constant, laid_out, looking, played
from benchmarks.poisoning.groups import Setting
from benchmarks.spread import seeds
from fl.config.run import RunConfig
from fl.federation.records import Trained
from secagg.errors import ClientId

CLAIM = (
    "Digits, 40 clients, 4 of them malicious, real masked sums, 3 draws, a clip of 1. Ten times the "
    "opposite model leaves one sum 10 of 91 % without a clip, 89 where attackers keep to it, and 10 where "
    "they skip it: nothing checks one sum. Of groups every sum that such an attacker is in is left out as "
    "too long, and no other: 88 to 90 are left in groups of 10, 5 and 2, by the mean of the others as by "
    "their median. Random parameters leave one sum 84 without a clip, 90 where it is kept to and 84 where "
    "it is skipped, and groups 89 to 91, as all their sums are found, too. What the check does not see is "
    "length that the others of a group leave: changes sent backwards ten times over leave one sum 12 "
    "without a clip, 87 where it is kept to and 10 where it is skipped; in groups of 10 a third of the "
    "sums with an attacker is found, too late, and 35 to 37 are left; in groups of 5 83 to 90 % are found "
    "and 87 to 89 are left, in groups of 2 all are, and 90. No sum without an attacker was left out, but "
    "with each went the honest of its group: in groups of 10 half to three quarters of all clients."
)
CONTROL = Control(
    "one masked sum of all, and its mean, which nothing checks, under the same attack and clip",
    lambda row: row["size"] == row["clients"],
    by=("attack", "clip", "seed"),
)
ALONE = False
NONE, KEPT, SKIPPED = "none", "kept", "skipped"
"""The clip: there is none; attackers keep to it; they skip it."""
UNIFORM, BACKWARDS = "uniform", "sign-flip"
LEVELS: Final = {OPPOSITE: 10.0, UNIFORM: 1.0, BACKWARDS: 10.0}
"""Attack -> how many times over. Ten times the opposite model has the norm 55 at first, random parameters 40:
more than ten clips. A change that is sent backwards ten times over has 7, until the model runs away."""
CLIP: Final = 1.0
"""No honest update is as long where nobody attacks, in any draw: it costs them nothing."""


@dataclass(frozen=True)
class Size:
    """setting: what is trained. sizes: of groups, all clients last. bad: of the clients, attackers."""

    setting: Setting
    sizes: tuple[int, ...]
    attacks: tuple[str, ...]
    bad: int
    seeds: int


SIZES = {
    "quick": Size(Setting("digits", 20, 60, 8, 3), (2, 10, 20), (OPPOSITE,), 2, 1),
    "full": Size(Setting("digits", 40, 30, 10, 4), (2, 5, 10, 40), (OPPOSITE, UNIFORM, BACKWARDS), 4, 3),
}


@dataclass(frozen=True)
class Cell:
    """size: of a group."""

    attack: str
    clip: str
    size: int
    rule: str


def cells(size: Size) -> list[Cell]:
    """One sum first, under each attack and clip. Where nobody attacks nobody skips one, and it costs nothing:
    it is the same with one and without.
    """
    return [
        Cell(attack, clip, each, rule)
        for attack in (NOTHING, *size.attacks)
        for clip in ((KEPT,) if attack == NOTHING else (NONE, KEPT, SKIPPED))
        for each in reversed(size.sizes)
        for rule in ((MEAN,) if each == size.setting.clients else (MEAN, MEDIAN))
    ]


def configuration(size: Size, cell: Cell, seed: int) -> RunConfig:
    """The server follows the protocol: whoever asks it for a rule against clients trusts it so far."""
    clients = size.setting.clients
    settings: dict[str, Any] = {**Cut(clients, cell.size).settings, "adversary": "semi-honest"}
    if cell.rule != MEAN:
        settings |= {"robust": cell.rule, "assumed": size.bad / clients}
    if cell.clip != NONE:
        settings["clip"] = CLIP
    if cell.attack != NOTHING:
        settings |= {"attack": cell.attack, "attackers": size.bad / clients}
        settings |= {"attack_level": LEVELS[cell.attack], "skip_clip": cell.clip == SKIPPED}
    return size.setting.configuration(seed, **settings)


def cases(size: str, seed: int) -> list[Case]:
    """Seed by seed: what a stop leaves is whole seeds."""
    how = SIZES[size]
    return [
        Case(
            f"{cell.attack}, clip {cell.clip}, groups of {cell.size}, {cell.rule}, seed {each}",
            partial(run_cell, how, cell, each),
        )
        for each in seeds(seed, how.seeds)
        for cell in cells(how)
    ]


def run_cell(size: Size, cell: Cell, seed: int) -> Row:
    """accuracy: on the test set, in [0, 1], the mean of the last rounds; constant: that of the best constant
    answer; and what `left_out` counts. Raises: as `poisoned.laid_out` and `poisoned.played`.
    """
    setting, cut = size.setting, Cut(size.setting.clients, cell.size)
    config = configuration(size, cell, seed)
    layout, server = laid_out(config)
    look, scores, every = looking(config, layout), list[float](), list[Trained]()
    for trained in played(server, setting.rounds):
        every.append(trained)
        if trained.record.round > setting.rounds - setting.last:
            scores.append(look(trained))
    return {
        **asdict(cell),
        **cut.named,
        "bad": config.attack.number_of(cut.clients),
        "seed": seed,
        "accuracy": round(statistics.fmean(scores), 5),
        "constant": round(constant(layout), 5),
        **left_out(every, layout.attackers),
    }


def left_out(rounds: Sequence[Trained], attackers: frozenset[ClientId]) -> Row:
    """Over all rounds in which there was a sum. sums: opened; dirty: those with an attacker; out: those that
    were too long; caught: those that were both. abandoned: rounds in which all were too long.
    """
    there = [trained for trained in rounds if trained.survivors]
    sums = [members for trained in there for members in trained.survivors]
    out = [frozenset(members) for trained in there for members in trained.record.too_long or ()]
    return {
        "sums": len(sums),
        "dirty": sum(not attackers.isdisjoint(members) for members in sums),
        "out": len(out),
        "caught": sum(not attackers.isdisjoint(members) for members in out),
        "rounds": len(rounds),
        "abandoned": sum(bool(trained.record.abandoned) for trained in there),
    }


def percent(some: Sequence[Row], name: str = "accuracy") -> float:
    return 100 * statistics.fmean(row[name] for row in some)


def share(some: Sequence[Row], name: str, of: str) -> float | None:
    """In percent, of all seeds together; None of nothing."""
    number = sum(row[of] for row in some)
    return 100 * sum(row[name] for row in some) / number if number else None


Line = tuple[str, int, str]
"""(clip, size, rule)."""


def lines_of(rows: Sequence[Row]) -> dict[Line, dict[str, list[Row]]]:
    """Line -> attack -> its seeds."""
    by: dict[Line, dict[str, list[Row]]] = {}
    for (clip, size, rule, attack), some in cells_of(rows, "clip", "size", "rule", "attack").items():
        by.setdefault((clip, size, rule), {})[attack] = some
    return dict(sorted(by.items(), key=lambda each: ((NONE, KEPT, SKIPPED).index(each[0][0]), -each[0][1])))


def table(rows: Sequence[Row]) -> Table:
    """Accuracy in percent on the test set, the mean of the last rounds and of the seeds: without attackers,
    clipped, which costs nothing here, and under each attack, so many times over. found: of the groups with an
    attacker, how many percent were left out since their sum was longer than a group's may be; right: of the
    groups that were left out, how many percent had an attacker; stood: in how many percent of the rounds all
    were left out, and the model stayed as it was. unsafe: such a session is refused but as an experiment.
    """
    by = lines_of(rows)
    attacks = [attack for attack in dict.fromkeys(row["attack"] for row in rows) if attack != NOTHING]
    told: list[tuple[str, ...]] = []
    for (clip, size, rule), of in by.items():
        honest = by[KEPT, size, rule][NOTHING]
        whole = size == honest[0]["clients"]
        cells = [f"{percent(honest):.0f}"]
        for attack in attacks:
            some = of[attack]
            cells.append(f"{percent(some):.0f}")
            shares = share(some, "caught", "dirty"), share(some, "caught", "out")
            cells += [
                "" if whole else _number(each) for each in (*shares, share(some, "abandoned", "rounds"))
            ]
        unsafe = ", unsafe" if honest[0]["unsafe"] else ""
        told.append((clip, "one sum" if whole else f"{size}{unsafe}", rule, *cells))
    header = ["clip", "groups of", "rule", NOTHING]
    for attack in attacks:
        header += [f"{attack} x {LEVELS[attack]:g}", "found", "right", "stood"]
    return Table.of(tuple(header), told)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"
