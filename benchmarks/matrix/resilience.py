"""What a fifth of malicious clients do under each protection: to accuracy by four attacks, and by a trigger;
and what the best rule that the server's view permits leaves of that.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from benchmarks.aimed import Scores, looking
from benchmarks.harness import Case, Control, Row, Table
from benchmarks.poisoned import constant, laid_out, played, until
from benchmarks.protected import LAST, SIZES, Size, by_protection, configuration, named, on_device, value
from benchmarks.protections import PLAIN, PROTECTIONS, Protection
from benchmarks.spread import by_seed, paired, seeds, spread
from fl.federation.records import Trained
from fl.robust import RULES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "The training of `cost` with 4 of its 20 clients malicious: opposite parameters, random ones, min-max, "
    "and a trigger. What hides updates stops none of it: opposite parameters leave 61 to 63 of 95 % under "
    "plain, masking, split and CKKS alike and among decoys, and a trigger works on 87 or 88 % of the images "
    "under each. What stops it is a rule that sees each update: with the best of those that need nothing "
    "else (`nnm`, chosen on other seeds, of those equally accurate the one whose trigger works least) the "
    "worst attack costs half a point, and the trigger works on 67, 19 and 9 %, by seed. The median of group "
    "sums helps where groups hide next to nothing: of 2 clients opposite parameters cost 6 points, and "
    "triggers work on 69, 42 and 66 %; of 5, of which four attackers dirty most, they cost 43, more than "
    "the 36 of a mean, and triggers work on 86 %. Groups are drawn anew in each run, and such numbers with "
    "them. Clipped updates bound what one client does to a sum: with distributed noise at an epsilon of 50 "
    "the worst attack costs 9 of 90 points, at 8 18 of 62, with the server's own noise 11 of 78, and "
    "triggers work on 58, 26 and 41 %. Noise in the steps leaves updates unbounded, and so unlike each "
    "other that forged ones hide among them: min-max takes 41 of 57 points, and under the best rule "
    "opposite parameters 38. Rows that have learned next to nothing, local noise and an epsilon of 1, show "
    "nothing."
)
CONTROL = Control(
    "no protection and the mean of all, under the same attack and with the same seeds",
    lambda row: (row["protection"], row["rule"]) == (PLAIN.name, MEAN),
    by=("attack", "seed"),
)
ALONE = False
ON_GPU = (
    "MNIST and `mlp-200` trained on a GPU by 20 clients in 15 rounds, 4 of them malicious: the attacks and "
    "the rules of the table of digits."
)
SHARE: Final = 0.2  # of attackers: four of twenty; rules assume as many
NOTHING: Final = "none"
ATTACKS: Final = ("opposite", "uniform", "min-max", "backdoor")
"""Two that care for nothing, one that stays as near to the others as they are to each other, and one that is
after a trigger.
"""
MEAN: Final = "mean"
MEDIAN: Final = "median"
"""Of groups, which are few: other rules are not fit for as few parts."""
APART: Final = 100
"""From a reported seed to one by which a rule is chosen: none is both."""
EQUAL: Final = 0.005
"""Rules whose accuracies under their worst attacks lie no farther apart are taken for equally good. Said
after accuracy alone had chosen `nnm` in one run and in another, .05 points ahead of it, `reputation`, under
which a trigger works on 87 % of the images.
"""
ELSEWHERE: Final = {
    "draco": "needs clients that hold the same examples",
    "mmse": "needs noise of the clients' own, of which they tell the server",
    "fltrust": "needs examples of the server's own",
    "test-weighting": "needs examples of the server's own",
    "leave-one-out": "needs examples of the server's own",
}
"""Rules that need more than the updates of the rounds, and what: mmse has it where noise is local."""
FEW: Final = (MEAN, "median", "multi-krum", "norm-bound")
"""What a quick size chooses from."""


def candidates(protection: Protection, size: str) -> tuple[str, ...]:
    """The rules that a server can have under this protection without anything of its own."""
    if not protection.clear:
        return (MEDIAN,) if protection.group else (MEAN,)
    local = dict(protection.settings).get("privacy") == "local"
    there = [rule for rule in RULES if rule not in ELSEWHERE or (rule == "mmse" and local)]
    return FEW if size == "quick" else tuple(there)


def cases(size: str, seed: int) -> list[Case]:
    """What takes longest first: the protections under which there is a rule to be chosen."""
    how = SIZES[size]
    reported = seeds(seed, how.seeds)
    chosen = [
        Case(
            f"{each.name}, the best rule",
            partial(run_best, each, candidates(each, size), how, reported),
        )
        for each in how.protections
        if each.parted
    ]
    means = [
        Case(f"{each.name}, {MEAN}, seed {one}", partial(run_mean, each, how, one))
        for one in reported
        for each in how.protections
    ]
    return chosen + means


def run_mean(protection: Protection, how: Size, seed: int) -> Iterator[Row | str]:
    """A row without attackers, and one under each attack, of `run`. choice: None, and why."""
    for attack in (NOTHING, *ATTACKS):
        yield attack
        yield run(protection, MEAN, attack, how, seed) | value("choice", None, why_no_rule(protection))


def why_no_rule(protection: Protection) -> str:
    """Why a row under the mean names no choice of a rule."""
    if protection.parted:
        return "the best rule has rows of its own"
    if protection.kept:
        return "the server sees no sum that a rule could combine"
    return "only one sum is seen"


def run_best(
    protection: Protection, rules: Sequence[str], how: Size, reported: Sequence[int]
) -> Iterator[Row | str]:
    """Rows as of `run_mean` under the rule with the best accuracy at its worst attack, of all seeds; of those
    that are EQUAL to it the one under which the trigger works least. choice: the accuracy of each rule under
    its worst attack, how often the trigger works, and the seeds that gave both: as many as are reported, and
    none of them.
    """
    apart = [APART + seed for seed in reported]
    worst, triggers = dict[str, float](), dict[str, float]()
    for rule in rules:
        yield f"tries {rule}"
        tried = {attack: [run(protection, rule, attack, how, seed) for seed in apart] for attack in ATTACKS}
        worst[rule] = round(
            min(statistics.fmean(row["accuracy"] for row in some) for some in tried.values()), 5
        )
        triggers[rule] = round(statistics.fmean(row["success"] for row in tried["backdoor"]), 5)
    best = chosen(worst, triggers)
    choice = {"seeds": apart, "worst": worst, "triggers": triggers}
    for seed in reported:
        for attack in (NOTHING, *ATTACKS):
            yield f"{best}, {attack}, seed {seed}"
            yield run(protection, best, attack, how, seed) | {"choice": choice}


def chosen(worst: Mapping[str, float], triggers: Mapping[str, float]) -> str:
    """The rule that `run_best` reports; of equals in both the first."""
    most = max(worst.values())
    return min(
        (rule for rule in worst if worst[rule] >= most - EQUAL),
        key=lambda rule: (triggers[rule], -worst[rule]),
    )


def run(protection: Protection, rule: str, attack: str, how: Size, seed: int) -> Row:
    """accuracy, success: on the test set, and of its images that bear the trigger, in [0, 1], means of the
    last rounds, of the clients' model where they keep it; constant: the accuracy of the best constant answer.
    until: the round after which nobody could train what the model had become; it counts as it then was.
    dataset, device: what was trained, and on what.

    Raises: NotImplementedError where the data set or the device is not to be had.
    """
    on = on_device(how)
    more: dict[str, Any] = {"robust": rule} | ({"assumed": SHARE} if rule != MEAN else {})
    if attack != NOTHING:
        more |= {"attack": attack, "attackers": SHARE}
    config = configuration(protection, how, seed, execution="batched", **more)
    layout, server = laid_out(config)
    look, scores, every = looking(config, layout), list[Scores](), list[Trained]()
    for trained in played(server, how.rounds):
        every.append(trained)
        if trained.record.round > how.rounds - LAST:
            scores.append(look(trained))
    return {
        **named(protection),
        **on,
        "rule": rule,
        "attack": attack,
        "seed": seed,
        "accuracy": round(statistics.fmean(each.accuracy for each in scores), 5),
        "success": round(statistics.fmean(each.success for each in scores), 5),
        "constant": round(constant(layout), 5),
        **value("until", until(every), "all rounds were trained"),
    }


@dataclass(frozen=True)
class Line:
    """The rows of a protection under one rule, by attack, and its own under the mean without attackers.

    chosen: whether the rule is the best that there is.
    """

    protection: str
    rule: str
    chosen: bool
    by: Mapping[str, Sequence[Row]]
    clean: Sequence[Row]

    def percents(self, attack: str, score: str = "accuracy") -> dict[int, float]:
        """By seed."""
        return percents(self.by[attack], score)

    @property
    def worst(self) -> str:
        """The attack that leaves the least accuracy, over all seeds."""
        return min(ATTACKS, key=lambda attack: statistics.fmean(self.percents(attack).values()))

    @property
    def broken(self) -> int:
        """Runs after whose end, or before, nobody could train any more."""
        return sum(row["until"] is not None for some in self.by.values() for row in some)


def percents(some: Sequence[Row], score: str) -> dict[int, float]:
    """Of a score, by seed."""
    return by_seed(some, lambda row: 100 * row[score])


def lines_of(rows: Sequence[Row]) -> list[Line]:
    """In the order of the protections, each under the mean first."""
    by, lines = by_protection(rows), list[Line]()
    for name in (each.name for each in PROTECTIONS if each.name in by):
        of_mean = [row for row in by[name] if row["choice"] is None]
        clean = [row for row in of_mean if row["attack"] == NOTHING]
        for chosen in (False, True):
            some = [row for row in by[name] if (row["choice"] is not None) == chosen]
            of = {attack: [row for row in some if row["attack"] == attack] for attack in (NOTHING, *ATTACKS)}
            if some:
                lines.append(Line(name, some[0]["rule"], chosen, of, clean))
    return lines


def table(rows: Sequence[Row]) -> Table:
    """accuracy: in percent on the test set, the mean of the last three rounds and of the seeds, by attack of
    four of twenty clients; least, less none: under the attack that leaves the least, beside the mean of all
    without attackers, by pairs of seeds, ± its standard error. trigger: of the test images that bear it and
    are not of the target, how many percent are taken for it under the backdoor, ± over seeds; untouched: and
    without attackers. others: why there is no other rule than the mean. broken: runs whose model nobody could
    train any more, before their end.
    """
    lines = list[tuple[str, ...]]()
    for line in lines_of(rows):
        accuracies = [statistics.fmean(line.percents(attack).values()) for attack in line.by]
        least = paired(line.percents(line.worst), percents(line.clean, "accuracy"), "+.1f")
        lines.append(
            (
                line.protection,
                line.rule,
                "best" if line.chosen else "",
                *(f"{accuracy:.0f}" for accuracy in accuracies),
                line.worst,
                least,
                spread(list(line.percents("backdoor", "success").values()), ".0f"),
                f"{statistics.fmean(line.percents(NOTHING, 'success').values()):.0f}",
                "" if line.chosen else other_rules(line.by[NOTHING][0]),
                str(line.broken or ""),
                f"{100 * line.clean[0]['constant']:.0f}",
            )
        )
    header = ("protection", "rule", "", NOTHING, *ATTACKS, "least", "less none", "trigger", "untouched")
    return Table.of((*header, "others", "broken", "constant"), lines)


def other_rules(row: Row) -> str:
    """Why a protection has none but the mean; nothing where it has."""
    there = any(each.parted for each in PROTECTIONS if each.name == row["protection"])
    return "" if there else f"none: {row['choice_why']}"


def plot(rows: Sequence[Row]) -> Figure:
    """Accuracy by attack, and how often the trigger works, protection by protection."""
    from benchmarks.plots import grids

    lines = lines_of(rows)
    names = [f"{line.protection}: {line.rule}" if line.chosen else line.protection for line in lines]

    def means(attacks: Sequence[str], score: str) -> list[list[float]]:
        return [
            [statistics.fmean(line.percents(attack, score).values()) for attack in attacks] for line in lines
        ]

    attacks, touched = (NOTHING, *ATTACKS), (NOTHING, "backdoor")
    panels = {
        "accuracy": (names, attacks, means(attacks, "accuracy")),
        "the trigger works": ([""] * len(names), touched, means(touched, "success")),
    }
    return grids(panels, "attack", "% of test images")
