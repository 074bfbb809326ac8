"""Decoys: how often whoever sees all candidates of a client tells which of them is true."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.guessed import ATTACKERS, Fitted, Observer, Shown, by_sum, interval
from benchmarks.harness import Case, Control, Row, Table
from benchmarks.shown import IN_TURN, SENT, Cohort, Images, in_session, layers_of, mean_update, pretended
from fl.config.protection import BOUND
from fl.models.weights import from_vector, to_vector
from secagg import Bounded, Decoys

CLAIM = (
    "Sessions of decoys as the server sees them: 10 clients of 60 MNIST images at 14 x 14 pixels, fl's "
    "`mlp`, three rounds after a first. The attacker does not have the sum; it has images of its own, "
    "plays the same run with clients of its own, and learns there what a true update looks like. It finds "
    "nearly every true update among decoys that a client can make: by statistics of layers alone, though "
    "mean and deviation of each layer are matched. The matching itself tells: of units at rest training "
    "changes nothing, and what is stretched and moved is no longer 0. Only true updates of images that no "
    "client has are not told from the client's own, as they are; the intervals are as wide as forty "
    "clients make them. Whoever has the sum finds every one, however well decoys are made. Decoys have no "
    "claim, therefore."
)
THE_SUM = "the sum"
CONTROL = Control(
    "least squares with the sum, which the scheme keeps from the server; and decoys that are true updates, "
    "of examples that no client has",
    lambda row: row["attacker"] == THE_SUM,
    by=("kind", "candidates"),
)
ALONE = False
CANDIDATES = {"quick": (4,), "full": (2, 4, 8)}
SEEDS = {"quick": 1, "full": 4}
ROUNDS = {"quick": 2, "full": 4}  # in the first there is no round before: it is not counted
CLIENTS = 10  # and as many whom the attacker makes up
EXAMPLES = 60  # of each client
OWN, TESTS = 5, 300  # trainings on examples of the attacker's own; examples it tests with
Features = Mapping[str, NDArray[np.float64]]


def cases(size: str, seed: int) -> list[Case]:
    """Each kind of decoys with each K, seed by seed."""
    return [
        Case(
            f"{kind}, K = {candidates}, seed {each}", partial(run_case, kind, candidates, each, ROUNDS[size])
        )
        for kind in SENT
        for candidates in CANDIDATES[size]
        if kind != IN_TURN or candidates > 2  # a single decoy is of the first kind
        for each in range(seed, seed + SEEDS[size])
    ]


def run_case(kind: str, candidates: int, seed: int, rounds: int) -> Iterator[Row | str]:
    """right: guesses, of as many as clients in counted rounds.

    Raises: NotImplementedError where the data set is not to be had.
    """
    rng = np.random.default_rng(seed)
    images = Images(rng)
    clients, attacker = cohort(images, kind, candidates, seed), Attacker(images, kind, candidates, seed, rng)
    scheme = Decoys.for_cohort(CLIENTS, attacker.spec, candidates=candidates)
    right = dict.fromkeys([*ATTACKERS, THE_SUM], 0)
    for round in range(1, rounds + 1):
        yield f"round {round} of {rounds}"
        sent = clients.trained()
        shown, mean = in_session(scheme, sent)
        guesses = attacker.guesses(shown)
        guesses[THE_SUM] = by_sum(shown, CLIENTS * mean, rng)
        clients.move(mean)
        if round > 1:
            true = [int(np.square(shown[u] - sent[u][""]).sum(axis=1).argmin()) for u in sorted(shown)]
            for name, guessed in guesses.items():
                right[name] += int((guessed == true).sum())
    for name, count in right.items():
        yield {
            "kind": kind,
            "candidates": candidates,
            "attacker": name,
            "seed": seed,
            "right": count,
            "of": CLIENTS * (rounds - 1),
        }


def cohort(images: Images, kind: str, candidates: int, seed: int) -> Cohort:
    """Clients with `candidates` shares of images each, of which one is their own."""
    held = images.take(CLIENTS, candidates, EXAMPLES)
    return Cohort(held, kind, images.model(seed), images.classes)


class Attacker:
    """A server that sees the candidates of each round, and nothing else of it.

    It knows the model that the run begins with, how clients train and how they make decoys. It has examples
    of its own, of which it makes clients of its own, plays the same run with them, and sees there what the
    true candidate looks like. The models of later rounds, which the clients keep, it takes to be what its own
    guesses lead to.
    """

    def __init__(
        self, images: Images, kind: str, candidates: int, seed: int, rng: np.random.Generator
    ) -> None:
        self._own, self._believed = images.take(OWN, EXAMPLES), images.model(seed)
        layers = layers_of(self._believed)
        self.spec, self._rng = Bounded(length=sum(layers), bound=BOUND), rng
        self._made_up = cohort(images, kind, candidates, seed)
        self._there, self._here = (
            Observer(images.model(seed), layers, *images.take(TESTS)) for _ in range(2)
        )
        self._known = list[Features]()

    def guesses(self, shown: Shown) -> dict[str, NDArray[np.int64]]:
        """Which of each client's candidates, by id, is the true one, by each of ATTACKERS."""
        if len(self._there.seen) == 1:  # the first round is like no other: nothing was before
            self._known = []
        self._known.append(self._played())
        start = to_vector(self._believed)
        seen = self._there.look(shown, start, mean_update(self._believed, self._own))
        guesses = {name: guess(of, self._known, seen) for name, of in ATTACKERS.items()}
        chosen = [shown[u][j] for u, j in zip(sorted(shown), guesses["classifier"], strict=True)]
        from_vector(self._believed, start + np.mean(chosen, axis=0))
        return guesses

    def _played(self) -> Features:
        """The same round with its own clients."""
        model = self._made_up.model
        start, own = to_vector(model), mean_update(model, self._own)
        sent = self._made_up.trained()
        self._made_up.move(np.mean([x[""] for x in sent.values()], axis=0))
        return self._here.look(pretended(sent, self.spec, self._rng), start, own)


def guess(of: Sequence[str], known: Sequence[Features], seen: Features) -> NDArray[np.int64]:
    """known: of what the attacker has made up, where the true one stands first."""
    features = np.concatenate([np.concatenate([each[name] for name in of], axis=2) for each in known])
    fitted = Fitted.to(features, np.zeros(len(features), np.int64))
    return fitted.guess(np.concatenate([seen[name] for name in of], axis=2))


# What is said of it


@dataclass(frozen=True)
class Guessed:
    """By one attacker, over all seeds: how many guesses were right, of how many, about how many clients."""

    right: int = 0
    of: int = 0
    clients: int = 0

    def and_of(self, row: Row) -> Guessed:
        return Guessed(self.right + row["right"], self.of + row["of"], self.clients + CLIENTS)

    @property
    def percent(self) -> str:
        return f"{100 * self.right / self.of:.0f}"

    def interval(self, error: float) -> tuple[float, float]:
        """Of the rate, as if a client had been guessed once: it holds the same examples in every round, so
        that its guesses go together.
        """
        return interval(self.right * self.clients / self.of, self.clients, error)


def groups(rows: Sequence[Row]) -> dict[tuple[str, int], dict[str, Guessed]]:
    """(kind, K) -> attacker -> its guesses."""
    by: dict[tuple[str, int], dict[str, Guessed]] = {}
    for row in rows:
        of = by.setdefault((row["kind"], row["candidates"]), {})
        of[row["attacker"]] = of.get(row["attacker"], Guessed()).and_of(row)
    return by


def table(rows: Sequence[Row]) -> Table:
    """Percent of guesses that are right. strongest: of all without the sum, with the interval of its rate: it
    is the best of several, and at 95 % all of their intervals are right together.
    """
    header = ("decoys", "K", "clients", "1/K", "strongest", "", "", *ATTACKERS, THE_SUM)
    cells = []
    for (kind, candidates), guessed in groups(rows).items():
        name = max(ATTACKERS, key=lambda each: guessed[each].right)
        low, high = guessed[name].interval(0.05 / len(ATTACKERS))
        chance = low <= 1 / candidates <= high
        cells.append(
            (
                kind,
                str(candidates),
                str(guessed[name].clients),
                f"{100 / candidates:.1f}",
                name,
                f"{guessed[name].percent} ({100 * low:.0f} to {100 * high:.0f})",
                "at chance" if chance else "above chance" if low > 1 / candidates else "below chance",
                *(guessed[each].percent for each in [*ATTACKERS, THE_SUM]),
            )
        )
    return Table.of(header, cells)
