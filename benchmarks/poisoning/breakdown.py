"""How large a share of attackers each rule bears: the accuracy of a run from none of them to six of ten."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.poisoned import run
from benchmarks.spread import seeds
from fl.config.run import RunConfig
from fl.robust import RULES, Unfit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "Digits, 30 clients: what is left of the accuracy by the share of attackers, where rules are told a "
    "fifth. Clients that upload the opposite of their parameters leave the mean 48 % at a fifth and "
    "nothing at half. The median, both trimmed means, multi-Krum, Bulyan, mixing of nearest neighbours, "
    "buckets, the geometric median, centred clipping and bounded norms hold 91 and more of 94 at the "
    "fifth that they assume. At three tenths the trimmed mean and buckets have 15 and 11; told the true "
    "share (*), multi-Krum and nearest neighbours hold 94 at .4. At .6 FLTrust alone is sure, with 87, "
    "from 90 without attackers: the server's own data is what a majority cannot outvote. Krum by itself "
    "costs 27 points without any attacker, and a robust learning rate 20. Repetition (draco) beside the "
    "mean of gradients, which a tenth of opposite ones brings to 12, holds 92 at a tenth and 65 at a "
    "fifth. Random parameters do less: the geometric median, FLTrust and tests on the server's data hold "
    "86 to 91 at .6. A little is enough, and min-max, of attackers who know each other alone, leave the "
    "mean at 91 or 92 even at .6, so that no rule is a defence against them here; the median they bring "
    'to 65 and 70. "-" is a rule that is unfit for so few clients or without declared noise; to: the '
    "largest share borne, with 10 points lost at most."
)
CONTROL = Control(
    "the mean of all under the same attack, and every rule without attackers",
    lambda row: row["rule"] == "mean",
    by=("attack", "algorithm", "share"),
)
ALONE = False
CLIENTS, ASSUMED = 30, 0.2
ATTACKS = ("opposite", "uniform", "little", "min-max")
"""The two that Ma et al. name, of whole models and plain to see, and two of who knows the rules: one hides in
the deviation of the updates, one goes as far away as two honest updates are apart. Attackers know what each
of them has trained, and nothing of the others.
"""
ASKING = ("trimmed-mean", "weighted-trimmed", "krum", "multi-krum", "bulyan", "nnm", "rlr")
"""Rules whose answer depends on the share that they are told."""
COPIES = 5  # of each part of the data, for who compares them
BEARS = 10.0  # points of accuracy below the mean without attackers: more is no longer borne
NOTHING, CONSTANT = "none", "constant answer"


@dataclass(frozen=True)
class Line:
    """A rule on its way through the shares. true: it is told the true share, in place of ASSUMED. algorithm:
    of training; copies of data are compared by their gradients, in which there is no order of examples.
    """

    rule: str
    algorithm: str = "fedavg"
    true: bool = False

    @property
    def name(self) -> str:
        name = "mean, fedsgd" if (self.rule, self.algorithm) == ("mean", "fedsgd") else self.rule
        return name + "*" * self.true

    @classmethod
    def of(cls, row: Row) -> Line:
        return cls(row["rule"], row["algorithm"], row["true"])


def lines_of(rule: str) -> list[Line]:
    """Those of a rule: with the share that it assumes, and where it is told one with the true share; of draco
    beside the mean of the same training.
    """
    if rule == "draco":
        return [Line("mean", "fedsgd"), Line(rule, "fedsgd")]
    return [Line(rule), *([Line(rule, true=True)] if rule in ASKING else [])]


LINES = [line for rule in RULES for line in lines_of(rule)]


@dataclass(frozen=True)
class Size:
    """rounds: of averaging; of gradients there are half as many again. seeds: of a line whose rule is told
    the true share there is the first alone.
    """

    attacks: tuple[str, ...]
    shares: tuple[float, ...]
    rounds: int
    seeds: int


SIZES = {
    "quick": Size(("opposite", "little"), (0.2, 0.6), 10, 1),
    "full": Size(ATTACKS, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6), 20, 3),
}


def cases(size: str, seed: int) -> list[Case]:
    how = SIZES[size]
    return [
        Case(f"{attack}, {line.name}", partial(run_case, how, line, attack, seed))
        for attack in (NOTHING, *how.attacks)
        for line in LINES
    ]


def configuration(line: Line, attack: str, share: float, rounds: int, seed: int) -> RunConfig:
    """All keep back what some rules need, so that all deal the same."""
    attacked: dict[str, Any] = {} if attack == NOTHING else {"attack": attack, "attackers": share}
    gradients = line.algorithm == "fedsgd"
    trained: dict[str, Any] = {"redundancy": COPIES, "lr": 0.3} if gradients else {}
    return RunConfig.of(
        clients=CLIENTS,
        model="mlp",
        algorithm=line.algorithm,
        rounds=rounds * 3 // 2 if gradients else rounds,
        validation=0.1,
        root=100,
        assumed=share if line.true else ASSUMED,
        scheme="plain",
        execution="batched",
        metrics=False,
        seed=seed,
        **trained,
        **attacked,
    )


def run_case(size: Size, line: Line, attack: str, seed: int) -> Iterator[Row | str]:
    """Of each share a row. accuracies: of each seed, in [0, 1] on the test set, the mean of the last rounds;
    or unfit: why the rule does not stand for it. constant: the accuracy of the best constant answer. out: the
    share of the attackers, and of the honest, that the rule left out, over all rounds and seeds.
    """
    some = seeds(seed, 1 if line.true else size.seeds)
    for share in (0.0,) if attack == NOTHING else size.shares:
        yield f"{share:g} attackers"
        row = {**asdict(line), "attack": attack, "share": share, "attackers": round(share * CLIENTS)}
        try:
            # The rule in place of the configuration's, which would be none where it is unfit.
            runs = [
                run(configuration(line, attack, share, size.rounds, each), RULES[line.rule]) for each in some
            ]
        except Unfit as error:
            yield {**row, "unfit": str(error)}
            continue
        yield {
            **row,
            "accuracies": [round(each["accuracy"], 5) for each in runs],
            "constant": round(runs[0]["constant"], 5),
            "out": {
                who: mean_of([each["left_out"][who] for each in runs]) for who in ("attackers", "honest")
            },
        }


def mean_of(shares: Sequence[float | None]) -> float | None:
    """Of those that there are; None of none."""
    there = [share for share in shares if share is not None]
    return round(statistics.fmean(there), 4) if there else None


def percent(row: Row) -> float:
    """Accuracy, the mean of the last rounds, in percent."""
    return 100 * statistics.fmean(row["accuracies"])


def paths(rows: Sequence[Row], attack: str) -> dict[Line, dict[float, Row]]:
    """Line -> share -> its row under this attack, and the one without attackers."""
    by: dict[Line, dict[float, Row]] = {}
    for row in rows:
        if row["attack"] in (NOTHING, attack):
            by.setdefault(Line.of(row), {})[row["share"]] = row
    return by


def borne(path: dict[float, Row], least: float) -> float | None:
    """The largest share up to which accuracy is nowhere below `least` percent; None where it always is."""
    most = None
    for share in sorted(path):
        if "unfit" in path[share] or percent(path[share]) < least:
            break
        most = share
    return most


def attacks_in(rows: Sequence[Row]) -> list[str]:
    """Those of which there are rows, in their order."""
    return list(dict.fromkeys(row["attack"] for row in rows if row["attack"] != NOTHING))


def table(rows: Sequence[Row]) -> Table:
    """By share of attackers: accuracy in percent on the test set, the mean of the last ten rounds and of the
    seeds, - where the rule is unfit. A * after a rule: it is told the true share, not .2. to: the share that
    is borne (`borne`), with at most BEARS points less than the mean of all has without attackers.
    """
    shares = sorted({row["share"] for row in rows})
    constant = next(f"{100 * row['constant']:.0f}" for row in rows if "constant" in row)
    cells = list[tuple[str, ...]]()
    for attack in attacks_in(rows):
        by = paths(rows, attack)
        cells.append((attack, CONSTANT, *(constant for _ in shares), ""))
        for line, path in by.items():
            to = borne(path, percent(by[Line("mean", line.algorithm)][0.0]) - BEARS)
            numbers = ("-" if "unfit" in path[share] else f"{percent(path[share]):.0f}" for share in shares)
            cells.append((attack, line.name, *numbers, "-" if to is None else decimal(to)))
    return Table.of(("attack", "rule", *map(decimal, shares), "to"), cells)


def decimal(share: float) -> str:
    """A share as .2."""
    return f"{share:g}".removeprefix("0") or "0"


def plot(rows: Sequence[Row]) -> Figure:
    from benchmarks.plots import lines

    constant = next(100 * row["constant"] for row in rows if "constant" in row)
    panels = {}
    for attack in attacks_in(rows):
        curves = {f"~{CONSTANT}": [(share, constant) for share in sorted({row["share"] for row in rows})]}
        for line, path in paths(rows, attack).items():
            if fit := [(share, percent(path[share])) for share in sorted(path) if "unfit" not in path[share]]:
                curves[("~" if line.true else "") + line.name] = fit
        panels[attack] = ("share of attackers", "accuracy, %", curves)
    return lines(panels, log=False, below=True)
