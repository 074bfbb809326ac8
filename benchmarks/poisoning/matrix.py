"""Every attack under every rule: what is left of the model and of the class that is attacked, whether the
trigger works, whom the rule leaves out, and what it costs the server.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.aimed import Scores, looking
from benchmarks.harness import Case, Control, Row, Table
from benchmarks.poisoned import LAST, constant, left_out, played
from benchmarks.spread import seeds
from fl.cohort.layout import lay_out
from fl.config.run import RunConfig
from fl.config.secret import RunSecrets
from fl.federation.records import Trained
from fl.federation.simulation import simulated
from fl.poisoning import DATA, UPDATES
from fl.robust import RULES, Bench, Memory, Points, Rule, Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "Digits, 30 clients that hold the classes in unequal parts, 6 of them attackers, the share that rules "
    "assume; three seeds. Of 94 % the mean of all keeps 48 where attackers upload the opposite of their "
    "parameters, 78 where random ones, 66 of changes ten times as large, 89 of changes with the opposite "
    "sign and 92 where all labels are turned around. Every other attack leaves it 93 to 95: of accuracy no "
    "rule is a defence against those here. Under each of these five multi-Krum, mixing of nearest "
    "neighbours, the geometric median, centred clipping and reputation keep 91 and more; reputation leaves "
    "out all that are opposite, random or too large, and nobody else. Weights by a test of each upload alone "
    "keep 63 of the opposite ones, and leave out 1 % of them; leaving one out keeps 85, with 71 to 92 of "
    "single seeds. A rule can be worse than none: inner products turned around leave the mean 93, the median "
    "84, Bulyan 53, Krum 44 and a robust learning rate (rlr) 31. Without attackers Krum has 67, rlr 74, "
    "Bulyan and FLTrust 90, and each of the others at most a point less than the mean. A trigger works on 82 "
    "% of the images, on 3 without attackers, and the accuracy stays 94; Bulyan leaves it 28, FLTrust and "
    "capped shares 38, Krum 40, the median and rlr 43, and the others 49 and more. Where each part of the "
    "data is with five clients, comparing their copies (draco) leaves it 4, where the mean of gradients has "
    "94; of opposite ones it keeps 92 with two seeds of three, and 10 with the one where attackers are most "
    "of a group. One class called by another's name costs that class 4 points of F1 under the mean, of 97; "
    "clean labels, and a class that attackers leave out, none, but Krum has of a class left out 3 for 58, "
    "rlr 38 for 60 and Bulyan 72 for 94. In times of the mean's the median, the trimmed mean, buckets and "
    "draco take 10 to 12, what else goes by distance or signs 17 to 66, FLTrust 150, capped shares 180, and "
    "tests of each upload 450 and 570."
)
CONTROL = Control(
    "the mean of all under the same attack, and every rule without attackers",
    lambda row: row["rule"] == "mean",
    by=("attack", "algorithm"),
)
ALONE = False
CLIENTS, SHARE = 30, 0.2  # of attackers: what every rule assumes
VICTIM, TARGET = 7, 9
COPIES = 5  # of each part of the data, for who compares them
NOTHING = "none"
OF_ONE_CLASS = ("flip", "clean-label", "subset")
"""Attacks that are after the victim; all others leave it what they leave of every class."""
ELSEWHERE = {
    "mmse": "needs noise of the clients' own, believes what they declare of it, and is the mean else"
}
"""A rule of which there is no row here, and why: `declared` measures it."""


@dataclass(frozen=True)
class Line:
    """algorithm: copies of data are compared by their gradients, in which there is no order of examples."""

    rule: str
    algorithm: str = "fedavg"

    @property
    def name(self) -> str:
        return self.rule if self.algorithm == "fedavg" else f"{self.rule}, {self.algorithm}"

    @classmethod
    def of(cls, row: Row) -> Line:
        return cls(row["rule"], row["algorithm"])


def lines_of(rules: Sequence[str]) -> list[Line]:
    """What compares copies stands apart, after all others, with a mean that trains as it does."""
    apart = [Line("mean", "fedsgd"), Line("draco", "fedsgd")] if "draco" in rules else []
    return [Line(rule) for rule in rules if rule != "draco"] + apart


@dataclass(frozen=True)
class Size:
    """rounds: of averaging; of gradients there are twice as many."""

    rules: tuple[str, ...]
    attacks: tuple[str, ...]
    rounds: int
    seeds: int


SIZES = {
    "quick": Size(
        ("mean", "median", "multi-krum", "fltrust"), (NOTHING, "flip", "backdoor", "little", "scale"), 12, 1
    ),
    "full": Size(tuple(rule for rule in RULES if rule not in ELSEWHERE), (NOTHING, *DATA, *UPDATES), 20, 3),
}


def cases(size: str, seed: int) -> list[Case]:
    how = SIZES[size]
    return [
        Case(f"{attack}, {line.name}", partial(run_case, how, line, attack, seed))
        for attack in how.attacks
        for line in lines_of(how.rules)
    ]


def configuration(line: Line, attack: str, rounds: int, seed: int) -> RunConfig:
    """All keep back what some rules need, so that all deal the same."""
    trained: dict[str, Any] = {"rounds": rounds, "execution": "batched"}
    if line.algorithm == "fedsgd":
        trained = {"rounds": 2 * rounds, "execution": "sequential", "lr": 0.2, "redundancy": COPIES}
    return RunConfig.of(
        clients=CLIENTS,
        model="mlp",
        algorithm=line.algorithm,
        validation=0.1,
        root=100,
        robust=line.rule,
        assumed=SHARE,
        attack=None if attack == NOTHING else attack,
        attackers=SHARE,
        attack_victim=VICTIM,
        attack_target=TARGET,
        scheme="plain",
        metrics=False,
        seed=seed,
        **trained,
    )


class Timed:
    """A rule, and beside it, of the same updates, the mean: (milliseconds of processor time of the rule, of
    the mean) in each round. What the server trains or tests for a rule counts.
    """

    def __init__(self, rule: Rule) -> None:
        self._rule, self.took = rule, list[tuple[float, float]]()

    def __call__(self, points: Points, bench: Bench, memory: Memory) -> Verdict:
        for _ in range(2):  # without a clock: the first waits for the memory, five times as long as the third
            RULES["mean"](points, bench, {})
        begun = time.process_time_ns()
        RULES["mean"](points, bench, {})
        between = time.process_time_ns()
        verdict = self._rule(points, bench, memory)
        self.took.append(((time.process_time_ns() - between) / 1e6, (between - begun) / 1e6))
        return verdict

    @property
    def times_the_mean(self) -> float:
        ours, mean = zip(*self.took, strict=True)
        return float(statistics.median(ours) / statistics.median(mean))


def run_case(size: Size, line: Line, attack: str, seed: int) -> Iterator[Row | str]:
    """A row. Lists are by seed: accuracies, victims, rests, successes as `Scores`, means of the last rounds.
    out: the share of the attackers, and of the honest, that the rule left out, None of nobody; cost: the
    rule's time beside the mean's. constant: the accuracy of the best constant answer.
    """
    runs = list[Row]()
    for each in seeds(seed, size.seeds):
        yield f"seed {each}"
        runs.append(run(configuration(line, attack, size.rounds, each)))
    yield {
        **asdict(line),
        "attack": attack,
        **{
            name: [round(each["scores"][score], 5) for each in runs]
            for name, score in (
                ("accuracies", "accuracy"),
                ("victims", "victim"),
                ("rests", "rest"),
                ("successes", "success"),
            )
        },
        "out": {who: mean_of([each["left_out"][who] for each in runs]) for who in ("attackers", "honest")},
        "cost": [round(each["cost"], 2) for each in runs],
        "constant": round(runs[0]["constant"], 5),
    }


def run(config: RunConfig) -> Row:
    """The run that `secagg train` makes of the configuration, with its attackers and its rule."""
    layout, rule = lay_out(config), Timed(RULES[config.robust.rule])
    server = simulated(
        config,
        layout,
        secrets=RunSecrets.of_seed(config.training.seed),
        rule=rule,
        evaluate_every=config.training.rounds,
    )
    scores, every, look = list[Scores](), list[Trained](), looking(config, layout)
    for trained in played(server, config.training.rounds):
        every.append(trained)
        if trained.record.round > config.training.rounds - LAST:
            scores.append(look(trained))
    return {
        "scores": {
            name: statistics.fmean(asdict(each)[name] for each in scores) for name in asdict(scores[0])
        },
        "left_out": left_out(every, layout.attackers),
        "cost": rule.times_the_mean,
        "constant": constant(layout),
    }


def mean_of(shares: Sequence[float | None]) -> float | None:
    """Of those that there are; None of none."""
    there = [share for share in shares if share is not None]
    return round(statistics.fmean(there), 4) if there else None


def percent(row: Row, score: str = "accuracies") -> float:
    """A score, the mean of the last rounds, in percent."""
    return 100 * statistics.fmean(row[score])


def by_line(rows: Sequence[Row]) -> dict[Line, dict[str, Row]]:
    """Line -> attack -> its row."""
    by: dict[Line, dict[str, Row]] = {}
    for row in rows:
        by.setdefault(Line.of(row), {})[row["attack"]] = row
    return by


def attacks_in(rows: Sequence[Row]) -> list[str]:
    """Those of which there are rows, in their order."""
    return list(dict.fromkeys(row["attack"] for row in rows))


def table(rows: Sequence[Row]) -> Table:
    """By attack: accuracy in percent on the test set, the mean of the last ten rounds and of the seeds. F1:
    the victim's, and the micro-F1 of all other classes, in percent. success: of the test images that bear the
    trigger and are not of the target, how many percent are taken for it. bad out: how many percent of the
    attackers' updates had no part, under attacks of data and of updates; good out: of the honest ones,
    without attackers and under all attacks. cost: of the server's time for the rule, in times of the mean's,
    the median of all runs.
    """
    attacks = attacks_in(rows)
    of_one = [attack for attack in (NOTHING, *OF_ONE_CLASS) if attack in attacks]
    triggered = [attack for attack in (NOTHING, "backdoor") if attack in attacks]
    lines = list[tuple[str, ...]]()
    for line, by in by_line(rows).items():
        attacked = [row for attack, row in by.items() if attack != NOTHING]
        lines.append(
            (
                line.name,
                *(f"{percent(by[attack]):.0f}" for attack in attacks),
                *(f"{percent(by[each], 'victims'):.0f}, {percent(by[each], 'rests'):.0f}" for each in of_one),
                *(f"{percent(by[each], 'successes'):.0f}" for each in triggered),
                out([row for row in attacked if row["attack"] in DATA], "attackers"),
                out([row for row in attacked if row["attack"] in UPDATES], "attackers"),
                out([by[NOTHING]], "honest"),
                out(attacked, "honest"),
                f"{statistics.median(cost for row in by.values() for cost in row['cost']):.2g}",
                f"{100 * rows[0]['constant']:.0f}",
            )
        )
    header = (
        "rule",
        *attacks,
        *(f"F1, {each}" for each in of_one),
        *(f"success, {each}" for each in triggered),
        "bad out, data",
        "updates",
        "good out, none",
        "attacked",
        "cost",
        "best constant answer",
    )
    return Table.of(header, lines)


def out(rows: Sequence[Row], who: str) -> str:
    """How many percent of the attackers, or of the honest, were left out; nothing where there are none."""
    shares = [row["out"][who] for row in rows if row["out"][who] is not None]
    return f"{100 * statistics.fmean(shares):.0f}" if shares else ""


def plot(rows: Sequence[Row]) -> Figure:
    from benchmarks.plots import grids

    by, attacks = by_line(rows), attacks_in(rows)
    numbers = [[percent(of[attack]) for attack in attacks] for of in by.values()]
    return grids({"": ([line.name for line in by], attacks, numbers)}, "attack", "accuracy, %")
