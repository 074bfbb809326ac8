"""A cohort that is cut into groups, each of which is summed apart: its training under attack, what a session
costs, what its sums leak, and what its noise promises; all of it in real masked sessions.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np

from benchmarks.adversaries import SERVER, Recorded, Stage
from benchmarks.aimed import looking
from benchmarks.by_size import MEAN
from benchmarks.harness import Row
from benchmarks.matrix.cost import on_one_core
from benchmarks.matrix.leakage import INVERSION, READ_OFF, Attacks
from benchmarks.played import Costs, play
from benchmarks.poisoned import constant, laid_out, played
from benchmarks.protected import value
from benchmarks.protections import Protection
from fl.config.run import RunConfig
from fl.federation.records import Trained
from fl.federation.vectors import UPDATE, scheme_for
from fl.privacy.accounting import epsilon
from fl.privacy.releases import Gaussian
from fl.robust import RULES, Bench, Memory, Points, Rule, Verdict
from secagg import Masking, Private, throwaway_identities
from secagg import run as session
from secagg.masking.groups import corrupt_in_group, least_of_group
from secagg.policy import Adversary

CORRUPT: Final = 0.1
"""Of the cohort, clients on the server's side: what a session assumes where nothing else is said."""
ADVERSARY: Final[Adversary] = "active"
MULTIPLIER, DELTA = 1.0, 1e-5
"""Of the noise on one sum of all, and at which its epsilon is told."""
LENGTH: Final = 1000  # of a private vector: how much noise is added does not depend on it


@dataclass(frozen=True)
class Cut:
    """n clients in groups of `size`; all of them in one: a single sum."""

    clients: int
    size: int

    @property
    def whole(self) -> bool:
        return self.size == self.clients

    @property
    def groups(self) -> int:
        return self.clients // self.size

    @property
    def corrupt(self) -> int:
        return max(1, round(CORRUPT * self.clients))

    @property
    def unsafe(self) -> bool:
        """Whether a group is too small for what it promises, so that it runs as an experiment alone."""
        return not self.whole and self.least > self.size

    @property
    def least(self) -> int:
        """m_g, the fewest of a group whose sum is opened."""
        return least_of_group(self.clients, self.corrupt, self.groups, ADVERSARY)

    @property
    def corrupt_in_group(self) -> int:
        """A_g."""
        return corrupt_in_group(self.clients, self.corrupt, self.groups)

    @property
    def settings(self) -> dict[str, Any]:
        """Of `RunConfig`."""
        if self.whole:
            return {"scheme": "masking"}
        return {
            "scheme": "masking",
            "groups": self.groups,
            **({"unsafe_groups": True} if self.unsafe else {}),
        }

    @property
    def named(self) -> Row:
        """What every row has of it."""
        return {"clients": self.clients, "size": self.size, "groups": self.groups, "unsafe": self.unsafe}


# Training


class Watching:
    """A rule, and beside it of each round whose sums it was given."""

    def __init__(self, rule: Rule) -> None:
        self._rule, self.members = rule, list[tuple[frozenset[int], ...]]()

    def __call__(self, points: Points, bench: Bench, memory: Memory) -> Verdict:
        self.members.append(points.members)
        return self._rule(points, bench, memory)


def run(config: RunConfig, last: int) -> Row:
    """The run that `secagg train` makes of the configuration. Means of the `Scores` over so many last rounds;
    constant: the accuracy of the best constant answer; dirty: how many sums an attacker was in, half: whether
    that was half of all or more, each the mean of the rounds. Raises: as `poisoned.laid_out` and
    `poisoned.played`.
    """
    rule = None if config.robust.rule == MEAN else Watching(RULES[config.robust.rule])
    layout, server = laid_out(config, rule)
    look, scores, every = looking(config, layout), list[dict[str, float]](), list[Trained]()
    for trained in played(server, config.training.rounds):
        every.append(trained)
        if trained.record.round > config.training.rounds - last:
            scores.append(asdict(look(trained)))
    sums = [trained.survivors for trained in every] if rule is None else rule.members
    dirty = [sum(not layout.attackers.isdisjoint(each) for each in some) for some in sums if some]
    at_half = [2 * bad >= len(some) for bad, some in zip(dirty, filter(None, sums), strict=True)]
    return {
        **{name: round(statistics.fmean(each[name] for each in scores), 5) for name in scores[0]},
        "constant": round(constant(layout), 5),
        "dirty": round(statistics.fmean(dirty), 3),
        "half": round(statistics.fmean(at_half), 3),
    }


# Cost


def costs(configs: Mapping[int, RunConfig], length: int, repeats: int, seed: int) -> dict[int, Row]:
    """Of a session of each, by size, in turn and in this process, of models with so many parameters:
    client_ms, the median client's, server_ms, processor time of all rounds; up, down: bytes of a client, on
    average. Medians of the repeats.
    """
    measured: dict[int, list[Row]] = {size: [] for size in configs}
    with on_one_core():
        for _ in range(repeats):
            for size, config in configs.items():
                measured[size].append(_session(config, length, seed))
    return {
        size: {name: round(statistics.median(each[name] for each in some), 3) for name in some[0]}
        for size, some in measured.items()
    }


def _session(config: RunConfig, length: int, seed: int) -> Row:
    clients = config.cohort.clients
    roster, identities = throwaway_identities(range(clients))
    scheme = scheme_for(config, clients, length, 1, roster)
    updates = np.random.default_rng(seed).normal(0, 0.01, (clients, length))
    spent, total = play(
        scheme,
        lambda u: lambda task: {UPDATE: updates[u], **{name: 1 for name in scheme.vectors if name != UPDATE}},
        identities=identities,
    )
    assert len(total.survivors) == clients  # noqa: S101 - nobody is lost, so no group is left out
    return {
        "client_ms": spent.client_ms_all(),
        "server_ms": 1000 * spent.server_s_all(),
        "up": _bytes(spent, "up") / clients,
        "down": _bytes(spent, "down") / clients,
    }


def _bytes(spent: Costs, way: str) -> int:
    return sum(sum(each.values()) for each in getattr(spent, way).values())


# Leakage


@lru_cache(maxsize=1)
def staged(dataset: str, clients: int, rounds: tuple[int, ...], seed: int) -> Stage:
    """As `Stage.of`, kept for the next case."""
    return Stage.of(dataset, clients, rounds, seed)


def leaks(
    dataset: str, cut: Cut, rounds: tuple[int, ...], seed: int, seconds: float, rule: str, inverted: int
) -> Iterator[Row | str]:
    """Of each round a row, as `matrix.leakage` has it of the server: share of the images in the sums that it
    reads that come out, by the attack that finds most. seconds: of a processor, an image, of an inversion, of
    which there is one where `inverted` clients or fewer are in a sum.

    Raises: NotImplementedError where the data set is not to be had.
    """
    yield "the model"
    stage, recorded = staged(dataset, cut.clients, rounds, seed), dict[int, Recorded]()
    settings = {name: setting for name, setting in cut.settings.items() if name != "scheme"}
    if not cut.whole:
        settings["robust"] = rule
    protection = Protection("masking", f"in groups of {cut.size}", tuple(settings.items()))
    for each in rounds:
        yield f"the session of round {each}"
        recorded[each] = Recorded.of(protection, stage, each, cut.clients, seed)
    attacks = Attacks(recorded, seed, (SERVER,))
    for attack in READ_OFF:
        yield attack
        attacks.find(attack, attacks.readable)
    if cut.size <= inverted:
        yield INVERSION
        attacks.find(INVERSION, [key for key in attacks.readable if attacks.best(key)[1] < 1], seconds)
    for each in rounds:
        yield {"round": each, **attacks.scored((each, SERVER))}


# Noise


def weakened(cut: Cut) -> float:
    """The exact epsilon of one round of a group's sum, at DELTA, where each client adds its share of a noise
    that is MULTIPLIER on one sum of all, of whom nobody is lost or corrupt.
    """
    return epsilon([Gaussian(MULTIPLIER * (cut.size / cut.clients) ** 0.5)], DELTA)


def promised(cut: Cut) -> Row:
    """Of one round. same: as `weakened`. calibrated: the same where shares are as large as a session makes
    them, so that m_g - A_g of a group are enough; noise: of the mean of all, in a coordinate, in times of one
    sum's, of two such sessions in which nobody is lost. Both None where a session promises no epsilon.
    """
    row: Row = {"same": round(weakened(cut), 4), "multiplier": MULTIPLIER, "delta": DELTA}
    if cut.unsafe:
        why = f"up to {cut.corrupt_in_group} of a group of {cut.size} may be corrupt: no noise is sure"
        return row | value("calibrated", None, why) | value("noise", None, why)
    ours, one = _deviation(cut), _deviation(Cut(cut.clients, cut.clients))
    calibrated = epsilon([Gaussian(MULTIPLIER)], DELTA)
    return row | {"calibrated": round(calibrated, 4), "noise": round(ours / one, 4)}


def _deviation(cut: Cut) -> float:
    """Of the noise in the mean of a session, in clips."""
    roster, identities = throwaway_identities(range(cut.clients))
    vectors = Private(length=LENGTH, clip=1.0, multiplier=MULTIPLIER)
    groups = 0 if cut.whole else cut.groups
    scheme = Masking.for_cohort(cut.clients, vectors, roster=roster, corrupt=cut.corrupt, groups=groups)
    total = session(scheme, dict.fromkeys(range(cut.clients), np.zeros(LENGTH)), identities=identities)
    (noise,) = total.noise.values()
    return noise
