"""Whether more users need fewer rounds, and less time: users in a square kilometre (Ma et al., figure 5)."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.spread import seeds
from fl.cohort.layout import lay_out
from fl.cohort.links import MODES, Link, compute_seconds, expected_seconds, place, round_seconds, speeds
from fl.config.run import RunConfig
from fl.config.secret import RunSecrets
from fl.data import DataError
from fl.federation.records import RoundRecord
from fl.federation.simulation import simulated

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "Rounds and total delay to 90 % by the number of users, each with examples of its own, where a round "
    "takes as long as its slowest user. More users need fewer rounds up to ten or twenty, and not beyond. "
    "Ma et al. report that they also take less time: not reproduced beyond ten, for the slowest of many is "
    "slower, with a channel for each, and much more so with one that they share. Rounds are trained; delays "
    "are of a model of links and devices."
)
CONTROL = Control(
    "plain sums, each user with a channel of its own, in each row", lambda row: "plain, own" in row["round_s"]
)
ALONE = False
GOAL = 0.9  # accuracy on validation data; the test set decides nothing
MOST_ROUNDS = 60
LINKS = ("mixed", *MODES)
MASKED_FROM = 5  # clients: a masked sum of fewer is refused, or hides little
SEEDS = {"quick": 1, "full": 3}
DRAWS = 100  # of places and devices, for the mean delay of a round: of one, the slowest is chance


@dataclass(frozen=True)
class Setting:
    """examples: of each user, whatever their number: who comes brings data."""

    dataset: str
    model: str
    dealt: str
    examples: int

    def configuration(self, users: int, seed: int, *, masked: bool = False) -> RunConfig:
        """masked: a round of a step, under masking, against an active server."""
        return RunConfig.of(
            clients=users,
            dataset=self.dataset,
            partition=self.dealt,
            examples_per_client=self.examples,
            model=self.model,
            local_epochs=1,
            batch_size=10,
            lr=0.1,
            momentum=0.0,
            local_steps=1 if masked else 0,
            rounds=1 if masked else MOST_ROUNDS,
            until_accuracy=GOAL,
            scheme="masking" if masked else "plain",
            execution="auto",
            small_cohort=True,
            seed=seed,
        )


SETTINGS = {
    "quick": (Setting("digits", "cnn", "iid", 60),),
    "full": (Setting("mnist", "mlp", "iid", 500),),
}
USERS: dict[str, tuple[int, ...]] = {"quick": (5, 10, 20), "full": (2, 5, 10, 20, 30, 50, 100)}


@dataclass(frozen=True)
class Bytes:
    """Of one client in one round."""

    up: int
    down: int

    @classmethod
    def of(cls, record: RoundRecord) -> Bytes:
        """All are alike, but for the digits of their ids under masking: the mean."""
        return cls(round(record.bytes_up / record.chosen), round(record.bytes_down / record.chosen))


def cases(size: str, seed: int) -> list[Case]:
    most = max(USERS[size])
    return [
        Case(
            f"{setting.dataset}, {setting.model}, {setting.dealt}, {users} users, seed {each}",
            partial(run_case, setting, users, most, seed, each),
        )
        for setting in SETTINGS[size]
        for users in USERS[size]
        for each in seeds(seed, SEEDS[size])
    ]


def run_case(setting: Setting, users: int, most: int, first: int, seed: int) -> Row:
    """Trained once, and then a delay for each way to send that. rounds: None where the goal was not reached.
    round_s: mean seconds of a round, by scheme and channel, then by mode of the links. first: the benchmark's
    seed. Raises: NotImplementedError where the data set is not to be had.
    """
    config = setting.configuration(users, seed)
    try:
        masked, records = masked_bytes(setting, users, first), records_of(config)
    except DataError as error:
        raise NotImplementedError(str(error)) from error
    last, sent = records[-1], {"plain": Bytes.of(records[0])}
    if masked is not None:
        sent["masking"] = masked
    reached = (last.validation or 0.0) >= GOAL
    seen = config.training.epochs * setting.examples
    return {
        **asdict(setting),
        "users": users,
        "seed": seed,
        "rounds": last.round if reached else None,
        "trained": last.round,
        "validation": last.validation,
        "accuracy": last.accuracy,
        "bytes": {scheme: asdict(each) for scheme, each in sent.items()},
        "round_s": {
            f"{scheme}, {channel}": {
                mode: mean_delay(users, mode, each, seen, most, seed, shared=channel == "shared")
                for mode in LINKS
            }
            for scheme, each in sent.items()
            for channel in ("own", "shared")
        },
    }


def records_of(config: RunConfig) -> list[RoundRecord]:
    """Every round of the run."""
    server = simulated(config, lay_out(config), secrets=RunSecrets.of_seed(config.training.seed))
    return [trained.record for trained in server.rounds()]


@lru_cache(maxsize=1)
def masked_bytes(setting: Setting, users: int, seed: int) -> Bytes | None:
    """Of a round under masking. What is trained in it does not matter: all seeds share that of the first."""
    if users < MASKED_FROM:
        return None
    (record,) = records_of(setting.configuration(users, seed, masked=True))
    return Bytes.of(record)


def mean_delay(
    users: int, mode: str, sent: Bytes, examples_seen: int, most: int, seed: int, *, shared: bool
) -> float:
    """Seconds of a round, over draws. The users are the first of `most` that are placed in each: those of a
    small cohort are in every larger one."""
    delays = []
    for draw in range(DRAWS):
        rng = np.random.default_rng([seed, draw])
        links, devices = place(most, mode, rng)[:users], speeds(most, rng)[:users].tolist()
        delays.append(delay(divided(links) if shared else links, devices, sent, examples_seen))
    return statistics.mean(delays)


def delay(links: Sequence[Link], devices: Sequence[float], sent: Bytes, examples_seen: int) -> float:
    """Seconds of a round: the slowest client's training and transmission. devices: examples a second."""
    compute = [compute_seconds(examples_seen, speed) for speed in devices]
    return round_seconds(compute, [expected_seconds(link, sent.up, sent.down) for link in links])


def divided(links: Sequence[Link]) -> list[Link]:
    """Those of one mode take equal parts of its one channel."""
    takers = Counter(link.mode for link in links)
    return [
        replace(link, up=link.up / takers[link.mode], down=link.down / takers[link.mode]) for link in links
    ]


def total(row: Row, way: str, mode: str) -> float | None:
    """Seconds to the goal, all rounds together; None where it was not reached, or not sent that way."""
    if row["rounds"] is None or way not in row["round_s"]:
        return None
    return float(row["rounds"] * row["round_s"][way][mode])


def groups(rows: Sequence[Row]) -> dict[tuple[str, int], list[Row]]:
    """By setting and number of users: the seeds of each together."""
    by: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        by.setdefault((f"{row['dataset']}, {row['model']}, {row['dealt']}", row["users"]), []).append(row)
    return by


def mean_total(some: Sequence[Row], way: str, mode: str) -> float | None:
    """Over seeds; None unless all have reached the goal."""
    totals = [each for each in (total(row, way, mode) for row in some) if each is not None]
    return statistics.mean(totals) if len(totals) == len(some) else None


def table(rows: Sequence[Row]) -> Table:
    """Total delays in seconds, by mode."""
    modes = " / ".join(LINKS)
    ways = ("plain, own", "plain, shared", "masking, own", "masking, shared")
    header = ("training", "users", "rounds", "accuracy", *(f"{way}: {modes}" for way in ways))
    cells = [
        (
            setting,
            str(users),
            _rounds(some),
            f"{statistics.mean(row['accuracy'] for row in some):.3f}",
            *(" / ".join(_seconds(mean_total(some, way, mode)) for mode in LINKS) for way in ways),
        )
        for (setting, users), some in groups(rows).items()
    ]
    return Table.of(header, cells)


def _rounds(some: Sequence[Row]) -> str:
    """Of each seed."""
    return ", ".join(f"> {row['trained']}" if row["rounds"] is None else str(row["rounds"]) for row in some)


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.3g}"


def plot(rows: Sequence[Row]) -> Figure:
    """Rounds of each setting; total delays of the first, by mode."""
    from benchmarks.plots import lines

    by = groups(rows)
    rounds: dict[str, list[tuple[float, float]]] = {}
    for (setting, users), some in by.items():
        points = rounds.setdefault(setting, [])
        if all(row["rounds"] is not None for row in some):
            points.append((users, statistics.mean(row["rounds"] for row in some)))
    first = next(iter(rounds))
    panels: dict[str, tuple[str, str, Mapping[str, Sequence[tuple[float, float]]]]] = {
        f"rounds to {GOAL:.0%}": (
            "users",
            "rounds",
            {name: points for name, points in rounds.items() if points},
        )
    }
    for way, title in (("plain, own", "each its own channel"), ("plain, shared", "one channel for all")):
        curves: dict[str, list[tuple[float, float]]] = {}
        for (setting, users), some in by.items():
            for mode in LINKS if setting == first else ():
                if (seconds := mean_total(some, way, mode)) is not None:
                    curves.setdefault(mode, []).append((users, seconds))
        panels[f"{title} ({first})"] = ("users", "total delay, s", curves)
    return lines(panels)
