"""What a table of groups of clients reads out of its rows: by the size of a group, what attackers leave of a
training, and what the groups cost, give away and promise.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from benchmarks.harness import Row, Table
from benchmarks.inverted import cells_of
from benchmarks.spread import by_seed, times

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RUN, COST, LEAK, NOISE = "run", "cost", "leak", "noise"
"""What a row is of."""
MEAN, MEDIAN, WEIGHTED = "mean", "median", "weighted-trimmed"
NOTHING, OPPOSITE, FLIP, BACKDOOR = "none", "opposite", "flip", "backdoor"
IID, UNEVEN, TRIGGER = "alike", "uneven", "trigger"
"""Of clients that hold as many examples each, dealt at random; of others; and where a trigger is taught."""
EQUAL, DECLARED = "equal", "declared"
"""What a client weighs in its group, and a group beside others: all alike, or as many as its examples."""
TOOK: Final = 5.0
"""Points that an attack takes of one sum, at least, to count as one: else its groups show no defence."""
TIMES: Final = {"up": "up", "down": "down", "client": "client_ms", "server": "server_ms"}
"""Column -> what it tells of a session, in times of one sum's."""
Curve = list[tuple[float, float]]
Line = tuple[int, str, str]
"""(size, rule, weights)."""


def of_kind(rows: Sequence[Row], kind: str) -> list[Row]:
    """Those of this kind."""
    return [row for row in rows if row["kind"] == kind]


def runs(rows: Sequence[Row]) -> dict[Line, dict[tuple[str, str, int], list[Row]]]:
    """Line -> (setting, attack, bad) -> its seeds. One sum is one line, whatever its setting."""
    by: dict[Line, dict[tuple[str, str, int], list[Row]]] = {}
    for key, some in cells_of(
        of_kind(rows, RUN), "size", "rule", "weights", "setting", "attack", "bad"
    ).items():
        size, rule, weights, *at = key
        by.setdefault((size, rule, weights), {})[tuple(at)] = some
    return dict(sorted(by.items(), key=lambda each: each[0][0]))


def percent(some: Sequence[Row], score: str) -> float:
    """The mean of a score over the rows, in percent."""
    return 100 * statistics.fmean(row[score] for row in some)


def aims_at(attack: str) -> str:
    """The score that an attack is after."""
    return {BACKDOOR: "success", FLIP: "victim"}.get(attack, "accuracy")


def takes(rows: Sequence[Row], at: tuple[str, str, int]) -> float:
    """In points of what the attack is after: what it takes of one sum, beside the same sum without it."""
    (one,) = [of for line, of in runs(rows).items() if line[1] == MEAN]
    setting, attack, _ = at
    score = aims_at(attack)
    lost = percent(one[setting, NOTHING, 0], score) - percent(one[at], score)
    return -lost if attack == BACKDOOR else lost


def succeeds(rows: Sequence[Row], at: tuple[str, str, int]) -> bool:
    """Whether the attack does anything to who has no defence."""
    return at[1] == NOTHING or takes(rows, at) >= TOOK


def table(rows: Sequence[Row]) -> Table:
    """A line for each size of group, and one sum of all. unsafe: such a session is refused but as an
    experiment; declared: clients count by their examples, of which each group's sum is then told, else alike.
    bad 4, dirty: of so many attackers, in how many groups there is one, on average; half: in what percent of
    the rounds of all runs that is half of them or more. Then in percent on the test set, means of the last
    rounds and of the seeds: accuracy by attack, of so many clients; F1: of the class that is flipped;
    trigger: of the images that bear it and are not of the target, those taken for it. Brackets: the attack
    takes less than TOOK points of one sum, so that nothing is shown. uneven: where clients hold unlike
    numbers of examples. In times of one sum's session: bytes of a client up and down, processor time of a
    client and of the server. leaks: of the images in a sum, how many percent the best attack reads, by the
    round of training. epsilon: of one round at delta 1e-5, where clients add noise that is 1 on one sum of
    all; calibrated: where they add as much as such a group needs, and noise: how much that is in the mean of
    all, in times of one sum's.
    """
    by, lines = runs(rows), list[tuple[str, ...]]()
    asked = list(dict.fromkeys(at for of in by.values() for at in of))
    asked.sort(key=lambda at: (IID, TRIGGER, UNEVEN).index(at[0]))
    columns, rounds = _columns(rows, asked), _rounds(rows)
    numbers = sorted({bad for _, _, bad in asked if bad})
    for line, of in by.items():
        size, rule, weights = line
        told = rule == MEAN or (rule, weights) == (MEDIAN, EQUAL)  # once for each size
        lines.append(
            (
                named(next(iter(of.values()))[0]),
                *(cell for bad in numbers for cell in _dirty(of, bad)),
                *(cell(of) for _, cell in columns),
                *(_costs(rows, size) if told else [""] * len(TIMES)),
                *(_leaks(rows, size) if told else [""] * len(rounds)),
                *(_noise(rows, size) if told else [""] * 3),
            )
        )
    header = (
        "groups of",
        *(name for bad in numbers for name in (f"bad {bad}, dirty", "half")),
        *(name for name, _ in columns),
        *TIMES,
        *(f"leaks, {round}" for round in rounds),
        *("epsilon", "calibrated", "noise"),
    )
    return Table.of(header, lines)


def named(row: Row) -> str:
    """How a table calls the groups of a run."""
    if row["rule"] == MEAN:
        return "one sum"
    rule = [] if row["rule"] == MEDIAN else [row["rule"]]
    unsafe = ["unsafe"] if row["unsafe"] else []
    return ", ".join([str(row["size"]), *unsafe, *rule, *([DECLARED] if row["weights"] == DECLARED else [])])


Runs = dict[tuple[str, str, int], list[Row]]


def _columns(
    rows: Sequence[Row], asked: Sequence[tuple[str, str, int]]
) -> list[tuple[str, Callable[[Runs], str]]]:
    """(name, what a line has there) of all that was trained."""

    def cell(at: tuple[str, str, int], score: str, of: Runs) -> str:
        number = f"{percent(of[at], score):.0f}" if at in of else ""
        return number if not number or succeeds(rows, at) else f"({number})"

    columns = list[tuple[str, Callable[[Runs], str]]]()
    for at in asked:
        setting, attack, bad = at
        name = f"{attack} {bad}" if bad else attack
        prefix = {IID: "", TRIGGER: "accuracy, ", UNEVEN: "uneven, "}[setting]
        columns.append((prefix + name, partial(cell, at, "accuracy")))
        if setting == TRIGGER:
            columns.append((f"trigger, {name}", partial(cell, at, "success")))
        elif attack == FLIP:
            columns.append((f"F1, {name}", partial(cell, at, "victim")))
    return columns


def _dirty(of: Runs, bad: int) -> tuple[str, str]:
    some = [row for (_, _, bad_there), each in of.items() for row in each if bad_there == bad]
    if not some or some[0]["size"] == some[0]["clients"]:
        return "", ""
    dirty, half = (statistics.fmean(row[name] for row in some) for name in ("dirty", "half"))
    return f"{dirty:.1f} of {some[0]['groups']}", f"{100 * half:.0f}"


def _costs(rows: Sequence[Row], size: int) -> list[str]:
    some = of_kind(rows, COST)
    ours, one = ([row for row in some if row["size"] == each(row)] for each in (lambda row: size, _all))
    if not ours:
        return [""] * len(TIMES)
    return [
        f"{times(by_seed(ours, itemgetter(name)), by_seed(one, itemgetter(name))):.2f}"
        for name in TIMES.values()
    ]


def _all(row: Row) -> int:
    return int(row["clients"])


def _rounds(rows: Sequence[Row]) -> list[int]:
    return sorted({row["round"] for row in of_kind(rows, LEAK)})


def leaked(rows: Sequence[Row], size: int, round: int) -> float | None:
    """In percent of the images; None where that was not measured."""
    there = [row for row in of_kind(rows, LEAK) if (row["size"], row["round"]) == (size, round)]
    return percent(there, "share") if there else None


def _leaks(rows: Sequence[Row], size: int) -> list[str]:
    shares = [leaked(rows, size, round) for round in _rounds(rows)]
    return ["" if share is None else f"{share:.0f}" for share in shares]


def _noise(rows: Sequence[Row], size: int) -> tuple[str, ...]:
    for row in of_kind(rows, NOISE):
        if row["size"] == size:
            told = (row["calibrated"], row["noise"])
            return f"{row['same']:.2f}", *("-" if each is None else f"{each:.2f}" for each in told)
    return "", "", ""


def plot(rows: Sequence[Row]) -> Figure:
    """What attackers leave, and what the server reads, by the size of a group; dashed, without attackers."""
    from benchmarks.plots import lines

    dial = {size: of for (size, _, weights), of in runs(rows).items() if weights == EQUAL}
    dial |= {size: of for (size, rule, _), of in runs(rows).items() if rule == MEAN}
    sizes = sorted(dial)

    def curve(at: tuple[str, str, int], score: str) -> Curve:
        return [(size, percent(dial[size][at], score)) for size in sizes if at in dial[size]]

    asked = list(dict.fromkeys(at for of in dial.values() for at in of))
    alike = [at for at in asked if at[0] == IID]
    accuracy = {f"{at[1]} {at[2]}" if at[2] else f"~{at[1]}": curve(at, "accuracy") for at in alike}
    shown: dict[str, Curve] = {
        f"leaks, round {round}": [
            (size, share) for size in sizes if (share := leaked(rows, size, round)) is not None
        ]
        for round in _rounds(rows)
    }
    (taught,) = (at for at in asked if at[1] == BACKDOOR)
    shown["trigger works"] = curve(taught, "success")
    panels: dict[str, tuple[str, str, dict[str, Curve]]] = {
        "under attack": ("clients in a group", "accuracy, %", accuracy),
        "read, and taught": ("clients in a group", "% of images", shown),
    }
    return lines(panels, log=False)
