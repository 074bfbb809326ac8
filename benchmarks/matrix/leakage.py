"""What of a cohort's images comes out under each protection, by who looks, and after how much training.

Each client takes one step on its eight images, and that is sent in a session of the row's protection, which
is recorded: an attack has what its adversary saw of it, and nothing else. The rounds before it are trained
in the clear, one model for all rows of a seed, by others than the cohort: a round is one step on 400 images,
which is the mean of fifty clients' on eight. Where no noise decides it, the bound of the encoding is as tight
as the updates allow, so that rounding hides as little as it can. A row's noise is that of one round of
fifteen that spend its epsilon together, as in the tables of accuracy and cost. Updates of one step come out
alike: clients help to more than two sums of them by alike = "never" alone, which this takes.

What is read off the first layer (`analytic`, `peeling`) takes next to no time, and is tried on all. An
inversion is tried with two clients alone, on what those have missed: of more than 20 images in a sum there is
no time for one. Of single updates those of ten clients are attacked, and the share is of theirs. Nobody knows
which of several candidates is true: what is read off any of them counts.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.adversaries import CLIENT, EAVESDROPPER, RELAY, SERVER, Recorded, Stage, adversaries
from benchmarks.harness import Case, Control, Row, Table
from benchmarks.inverted import cells_of
from benchmarks.protected import named, value
from benchmarks.protections import PLAIN, PROTECTIONS, QUICK, Protection, by_name
from benchmarks.spread import seeds
from fl.cli.guessed import of_labels
from fl.cli.linked import linked
from fl.cli.scored import Images, of_images
from fl.config.section import ConfigError
from fl.leakage import apart
from fl.leakage.attack import Budget, Found, Guess
from fl.leakage.starts import CLASS_MEAN
from fl.leakage.views import Part, View
from secagg import LocalProtocolError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "MNIST, `mlp-200`, one step on eight images a client, bounds as tight as the updates allow. "
    "Unprotected, the server reads 98 to 100 % of the images, whatever the cohort and however long the "
    "training. What masking, split and CKKS that releases its sum leave it is one sum, and what that hides, "
    "the crowd hides, under one scheme as under another: of two clients 100 % come out at first, 79 to 85 "
    "after 19 rounds and 46 to 52 after 199; of ten 2, 4 and 12; of fifty none, at last 1. Cut into groups, "
    "the cohort hides what its groups do: of ten clients in groups of 5 9, 16 and 16 % come out, in groups "
    "of 2, which are unsafe, 91, 74 and 35, and of fifty in such 78, 78 and 27. Where the clients keep the "
    "sum of CKKS the server has nothing to read, and in a relay's shares no image is found. Clients read "
    "the sum of the others under every scheme: of one other client 46 to 100 % come out, and of the median "
    "of five sums of two 1 % at most. No image comes out of distributed noise, at an epsilon of 50, 8 or 1, "
    "of local noise, or of noise in the steps, for anybody; the server's own noise hides them from clients, "
    "and from the server itself only what clipping does. A tap on a client's own machine has what the "
    "unprotected server has under every scheme, and only noise in the steps is in it. Among three decoys "
    "every image comes out in the first round, and 29 to 46 % later, when the server has the first weights "
    "alone. Labels are told right of 90 to 100 % of the images of ten clients in round 1, of a sum as of "
    "single updates (58 and 87 % by the best guess without), and under noise of the clients' own of less "
    "than by that guess. Whose update is whose in the next round shows in single updates (AUC .99, among "
    "decoys 1.00), by chance alone under local noise and noise in the steps, and in a sum there is nothing "
    "of it. What nobody reads is no 0: who listens, and the server where the sum is kept."
)
CONTROL = Control(
    "plain, whose server reads each client's update: the same clients, the same model, the same attacks",
    lambda row: row["protection"] == PLAIN.name and row["adversary"] == SERVER,
    by=("clients", "round", "seed"),
)
ALONE = False
TAP: Final = "a client's tap"
BARE: Final = {PLAIN.name: "any other"} | {
    each.name: each.name for each in PROTECTIONS if dict(each.settings).get("privacy") == "example"
}
"""Protections under which the server sees what left training, and of which rows that stands for a tap."""
OUT: Final = 20.0  # dB, above which an image has come out
MOST: Final = 10  # clients whose single updates are attacked
INVERTED: Final = 2  # clients, up to whom there is time for an inversion: 16 images in a sum
READ_OFF: Final = ("analytic", "peeling")
INVERSION, LABELS = "inversion", "labels"
NO_SESSION = "there is no such session"
ONE_SUM = "nothing is read of single clients: in one sum there is nothing of a pair"


@dataclass(frozen=True)
class Size:
    """rounds: whose sessions are attacked, each after as many of training as come before it. seconds: of a
    processor, an image, of an inversion.
    """

    protections: tuple[Protection, ...]
    clients: tuple[int, ...]
    rounds: tuple[int, ...]
    seeds: int
    seconds: float
    dataset: str = "mnist"


SIZES = {
    "quick": Size(QUICK, (2, 10), (1, 20), 1, 0.3),
    "full": Size(PROTECTIONS, (2, 10, 50), (1, 20, 200), 3, 0.5),
}
Key = tuple[int, str]
"""(round, adversary)."""


def cases(size: str, seed: int) -> list[Case]:
    how = SIZES[size]
    return [
        Case(f"{row.name}, {clients} clients, seed {each}", partial(run_case, how, row.name, clients, each))
        for each in seeds(seed, how.seeds)
        for clients in how.clients
        for row in how.protections
    ]


@lru_cache(maxsize=1)
def staged(size: Size, seed: int) -> Stage:
    """What all rows of a seed share; kept for the next case."""
    return Stage.of(size.dataset, max(size.clients), size.rounds, seed)


def run_case(size: Size, name: str, clients: int, seed: int) -> Iterator[Row | str]:
    """A row for each round and adversary. share: of the images in what it reads those that come out, by the
    attack that finds most (`by`); shares: by each; None, and share_why, where there is nothing to attack.
    psnr: by that attack; without: of the best guess without any. Of the server besides labels: of the images
    how many are told right; chance: how many by the best guess without; linkage: the AUC by which updates of
    two rounds are told to be one client's.

    Raises: NotImplementedError where the data set is not to be had.
    """
    protection = by_name(name)
    yield "the model"
    stage, rounds = staged(size, seed), dict[int, Recorded]()
    head = named(protection) | {"clients": clients, "seed": seed}
    try:
        for round in size.rounds:
            yield f"the session of round {round}"
            rounds[round] = Recorded.of(protection, stage, round, clients, seed)
    except (LocalProtocolError, ConfigError) as error:
        why = f"{NO_SESSION} of {clients} clients: {error}"
        for round in size.rounds:
            for who in adversaries(protection):
                yield head | {"round": round, "adversary": who} | nothing(why)
        return
    attacks = Attacks(rounds, seed)
    todo = attacks.readable
    for attack in READ_OFF:
        yield attack
        attacks.find(attack, todo)
    if clients <= INVERTED:
        yield INVERSION
        missing = [key for key in todo if key[1] != RELAY and attacks.best(key)[1] < 1]
        attacks.find(INVERSION, missing, size.seconds)
    yield LABELS
    labels = attacks.labels()
    for (round, who), view in attacks.views.items():
        told = {"round": round, "adversary": who}
        told |= attacks.scored((round, who)) if view.parts else nothing(view.why)
        if who == SERVER:
            told |= labels.get(round, value("labels", None, view.why)) | linkage(rounds[round])
        yield head | told


def nothing(why: str) -> Row:
    """Where nothing can be read: what does not apply is not 0."""
    return {"images": 0, **value("share", None, why)}


def linkage(recorded: Recorded) -> Row:
    """Two clients differ alike from their mean: that would be one guess."""
    if len(recorded.seen.uploads) < 3:
        return value("linkage", None, "of two clients it would be a single guess")
    if recorded.then is None:
        return value("linkage", None, ONE_SUM)
    return {"linkage": round(linked([recorded.seen.read, recorded.then.read]).auc, 4)}


class Attacks:
    """On what every adversary reads of some rounds of one protection: each attack on all of it at once, since
    a process takes longer to begin than an image to be read off. only: these adversaries, None for all.
    """

    def __init__(self, rounds: Mapping[int, Recorded], seed: int, only: Sequence[str] | None = None) -> None:
        self._rounds, self._seed = rounds, seed
        self._knowledge = next(iter(rounds.values())).knowledge
        self.views = {
            (round, who): _few(each.read_by(who))
            for round, each in rounds.items()
            for who in only or adversaries(each.protection)
        }
        self.found: dict[Key, dict[str, Images]] = {key: {} for key in self.readable}

    @property
    def readable(self) -> list[Key]:
        return [key for key, view in self.views.items() if view.parts]

    def find(self, attack: str, keys: Sequence[Key], seconds: float = 1.0) -> None:
        """Images in what these read."""
        for key, guess in self._guessed(attack, keys, seconds).items():
            self.found[key][attack] = of_images(self._rounds[key[0]].seen, self.views[key], guess)

    def labels(self) -> dict[int, Row]:
        """By round, in what the server reads."""
        rows = dict[int, Row]()
        keys = [key for key in self.readable if key[1] == SERVER]
        for key, guess in self._guessed(LABELS, keys, 1.0).items():
            cell = of_labels(self._rounds[key[0]].seen, self.views[key], guess)
            rows[key[0]] = {"labels": cell.hits, "chance": round(cell.expected, 2)}
        return rows

    def _guessed(self, attack: str, keys: Sequence[Key], seconds: float) -> dict[Key, Guess]:
        """Of candidates, of which one is true, what is read off each, where the attack does not choose."""
        lone = [
            (key, i, one)
            for key in keys
            for i, part in enumerate(self.views[key].parts)
            for one in (_candidates(part) if attack in READ_OFF else [part])
        ]
        budget = Budget(seconds=seconds, start=CLASS_MEAN)
        guess = apart.run(attack, View(tuple(one for _, _, one in lone)), self._knowledge, budget, self._seed)
        of: dict[Key, dict[int, list[Found]]] = {}
        for (key, i, _), one in zip(lone, guess, strict=True):
            of.setdefault(key, {}).setdefault(i, []).append(one)
        return {key: tuple(map(_together, parts.values())) for key, parts in of.items()}

    def best(self, key: Key) -> tuple[str, float]:
        """(the attack that finds most, of as many that which comes nearest; the share)."""
        found = self.found[key]
        name = max(found, key=lambda each: (share(found[each]), float(found[each].scores.psnr.mean())))
        return name, share(found[name])

    def scored(self, key: Key) -> Row:
        by, most = self.best(key)
        images = self.found[key][by]
        psnr, without = images.scores.psnr, images.baseline_psnr[images.best_baseline]
        return {
            "images": len(psnr),
            "share": round(most, 4),
            "by": by,
            "shares": {name: round(share(each), 4) for name, each in self.found[key].items()},
            "psnr": {
                "mean": round(float(psnr.mean()), 2),
                "median": round(float(np.median(psnr)), 2),
                "most": round(float(psnr.max()), 2),
            },
            "without": {
                "share": round(float((without > OUT).mean()), 4),
                "psnr": round(float(without.mean()), 2),
            },
        }


def share(images: Images) -> float:
    """Of the images those that come out, in [0, 1]."""
    return float((images.scores.psnr > OUT).mean())


def _few(view: View) -> View:
    """Of single updates, and of sums of groups, those of as many clients as are attacked; a sum is whole."""
    before = np.cumsum([0, *(len(part.members) for part in view.parts)])
    return replace(view, parts=view.parts[: int((before[:-1] < MOST).sum())])


def _candidates(part: Part) -> list[Part]:
    return [replace(part, updates=x[None]) for x in part.updates]


def _together(some: Sequence[Found]) -> Found:
    """Of all candidates: who reads them cannot tell which is true, but an image from what is none."""
    if len(some) == 1:
        return some[0]
    images = np.concatenate([one.images for one in some if one.images is not None])
    return replace(some[0], images=images, labels=np.concatenate([one.labels for one in some]), claimed=None)


def table(rows: Sequence[Row]) -> Table:
    """By clients (n) and round: of the images that are in what is read, how many percent come out, in the
    mean of the seeds; "-" where nothing can be read, "none" where so few clients have no such session.
    labels: of all that are in what the server reads, how many percent are told right, and by the best guess
    without. linked: the AUC by which it tells which updates of the next round are whose; chance is .5. guess:
    the most of any column that come out of the best guess without an attack. tap: who sees what a client has
    trained before it is protected, which is what the server has under plain; but for noise in the steps,
    which is in it.
    """
    columns = list(dict.fromkeys((row["clients"], row["round"]) for row in rows))
    lines = list[tuple[str, ...]]()
    told = [row for row in rows if row["adversary"] != EAVESDROPPER]
    told += [
        row | {"adversary": TAP} for row in rows if row["adversary"] == SERVER and row["protection"] in BARE
    ]
    told += [row | {"protection": "any"} for row in rows if row["adversary"] == EAVESDROPPER]
    for (name, who), some in cells_of(told, "protection", "adversary").items():
        by = cells_of(some, "clients", "round")
        cells = [_cell(by[at]) for at in columns]
        guess = max((row["without"]["share"] for row in some if row["images"]), default=None)
        if who == TAP:
            name = BARE[name]
        lines.append((name, who, *cells, *_beside(some), "" if guess is None else f"{100 * guess:.0f}"))
    heads = (f"n {clients}, {round}" for clients, round in columns)
    return Table.of(("protection", "who looks", *heads, "labels", "linked", "guess"), lines)


def _cell(some: Sequence[Row]) -> str:
    there = [row["share"] for row in some if row["share"] is not None]
    if there:
        return f"{100 * statistics.fmean(there):.0f}"
    return "none" if some[0]["share_why"].startswith(NO_SESSION) else "-"


def _beside(some: Sequence[Row]) -> tuple[str, str]:
    told = [row for row in some if row.get("labels") is not None]
    images = sum(row["images"] for row in told) or 1
    labels = [100 * sum(row[name] for row in told) / images for name in ("labels", "chance")]
    areas = [row["linkage"] for row in some if row.get("linkage") is not None]
    return (
        f"{labels[0]:.0f}, {labels[1]:.0f}" if told else "",
        f"{statistics.fmean(areas):.2f}" if areas else "",
    )


def plot(rows: Sequence[Row]) -> Figure:
    """What the server, and what a client gets; of a cell in which nothing can be read no number."""
    from benchmarks.plots import grids

    panels = {}
    for who, names in ((SERVER, True), (CLIENT, False)):
        some = [row for row in rows if row["adversary"] == who]
        by = cells_of(some, "protection", "clients", "round")
        columns = list(dict.fromkeys(key[1:] for key in by))
        protections = list(dict.fromkeys(key[0] for key in by))
        numbers = [[_percent(by[name, *at]) for at in columns] for name in protections]
        shown = protections if names else [""] * len(protections)
        panels[who] = shown, [f"{n}, {round}" for n, round in columns], numbers
    return grids(panels, "clients, round", "images above 20 dB, %")


def _percent(some: Sequence[Row]) -> float:
    there = [row["share"] for row in some if row["share"] is not None]
    return 100 * statistics.fmean(there) if there else float("nan")
