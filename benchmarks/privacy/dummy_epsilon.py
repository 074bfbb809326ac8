"""What blanks are worth and what they cost: epsilon beside bytes, at the same accuracy."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING
from unittest.mock import patch

import numpy as np

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.noised import DELTA, Training, Updates, Vector
from benchmarks.ring import Sessions, added
from benchmarks.spread import by_seed, paired, seeds, spread
from fl.config.run import RunConfig
from fl.data import DataError
from fl.privacy.accounting import epsilon
from fl.privacy.amplification import in_general
from fl.privacy.releases import Sampled, Skellam, rdp
from secagg import Private, Split
from secagg.bits import word_type
from secagg.blank import toss
from secagg.crypto import KEY_BYTES, system_rng
from secagg.errors import ClientId, counted
from secagg.noise import add_noise
from secagg.private import Calibration, Reading, encode_private

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "MNIST as in columns, 1000 clients, 40 rounds, Skellam noise of multiplier 2 in a ring of 16 bits, "
    "whose shares are reckoned for all of a round: of 100 clients without blanks, and of 100 / (1 - P) with "
    "them, so that 100 take part on average, which the mean is divided by, and it has the same noise. The "
    "accuracy is the same within half a point. Bytes and the work of clients grow as 1 / (1 - P); epsilon "
    "at delta 1e-5, against a server that does not see the coins and as if every client were in every "
    "round, falls a little faster than that: from 19.8 to 9.2, 3.5 and 1.7. Any noise: by the bound that "
    "needs no symmetry (Zhu and Wang). To whoever sees the coins blanks are worth nothing. The codes are "
    "added without masks, but for one round of each through sessions of split aggregation, whose sums are "
    "the same to the bit."
)
CONTROL = Control("no blanks", lambda row: row["blank"] == 0, by=("through",))
ALONE = False
CLIENTS, PART, CLIP, BITS, LENGTH, Z = 1000, 100, 0.5, 16, 50_890, 2.0
BLANKS = (0.0, 0.5, 0.8, 0.9)
ROUNDS = {"quick": 3, "full": 40}
SEEDS = {"quick": 1, "full": 3}
THROUGH = {"quick": (0.0,), "full": BLANKS}  # P of those through sessions
SESSION_ROUNDS = {"quick": 1, "full": 1}
INTEGERS = (*range(2, 65), 80, 96, 128)


@dataclass(frozen=True)
class Way:
    """blank: P. through: how vectors are summed, in the ring alone or through sessions."""

    blank: float
    through: str = "ring"

    @property
    def per_round(self) -> int:
        """So many that PART take part, on average."""
        return round(PART / (1 - self.blank))


def cases(size: str, seed: int) -> list[Case]:
    """Every P, seed by seed; then the first seed through split sessions."""
    rounds, few = ROUNDS[size], SESSION_ROUNDS[size]
    every = [(Way(P), each, rounds) for each in seeds(seed, SEEDS[size]) for P in BLANKS]
    every += [(Way(P, "sessions"), seed, few) for P in THROUGH[size]]
    return [
        Case(f"P {way.blank:g}, {way.through}, seed {each}", partial(run_case, way, each, trained, rounds))
        for way, each, trained in every
    ]


def configuration(way: Way, seed: int, rounds: int) -> RunConfig:
    """As in `columns`."""
    return RunConfig.of(
        clients=CLIENTS,
        sample=way.per_round,
        corrupt=10,
        dataset="mnist",
        partition="iid",
        examples_per_client=60,
        model="mlp",
        local_epochs=2,
        batch_size=10,
        lr=0.1,
        momentum=0.0,
        rounds=rounds,
        scheme="plain",
        execution="batched",
        seed=seed,
    )


class PartTraining(Training):
    """Of those alone whose coin falls so: what others would compute nobody sees. blank: P."""

    def __init__(self, config: RunConfig, blank: float) -> None:
        super().__init__(config)
        self._blank = blank

    def chosen(self, round: int) -> list[ClientId]:
        return [u for u in super().chosen(round) if not self._blank or toss(self._blank, system_rng)]


def private() -> Private:
    """The vector of a client."""
    return Private(length=LENGTH, clip=CLIP, bits=BITS, multiplier=Z)


def calibration(way: Way) -> Calibration:
    """Noise for all of a round's clients: all are honest, and stay."""
    return Calibration(private(), way.per_round, way.per_round)


def in_ring(way: Way, updates: Updates) -> Vector:
    """The codes of those who take part, and the noise of all: shares of Skellam noise add up to one of the
    sum of their variances, which is drawn at once.
    """
    made = calibration(way)
    reading = Reading(made, os.urandom(KEY_BYTES))
    with patch("secagg.private.add_noise", lambda *of_vector: None):
        encoded = [encode_private(reading, x, os.urandom(KEY_BYTES))[0] for x in updates.values()]
    noise = np.zeros(made.spec.length, np.int64)
    add_noise(noise, "skellam", way.per_round * made.variance, os.urandom(KEY_BYTES))
    encoded.append((noise % 2**BITS).astype(word_type(BITS)))
    return reading.mean(added(made, encoded), way.per_round * (1 - way.blank))


def run_case(way: Way, seed: int, rounds: int, accounted: int) -> Row:
    """rounds: that are trained; accounted: for which epsilon is reckoned. epsilon: to whoever does not see
    the coins; known: to whoever does; general: by the bound that holds for any noise.

    Raises: NotImplementedError where the data set is not to be had.
    """
    config = configuration(way, seed, rounds)
    try:
        training = Training(config) if way.through == "sessions" else PartTraining(config, way.blank)
    except DataError as error:
        raise NotImplementedError(str(error)) from error
    summed = Sessions(split(way)) if way.through == "sessions" else partial(in_ring, way)
    for _ in training.rounds(summed):
        pass
    return {
        **asdict(way),
        "seed": seed,
        "rounds": rounds,
        "per_round": way.per_round,
        "bytes": split(way).upload_bytes,
        **costs(way, accounted),
        "accuracy": training.accuracy(),
        "sums": getattr(summed, "sums", 0),
    }


def split(way: Way) -> Split:
    """Of two relays that follow the protocol, which of all schemes takes least time for 1000 clients."""
    return Split.for_cohort(way.per_round, private(), corrupt=0, dropout=0, blank=way.blank)


def costs(way: Way, rounds: int) -> dict[str, float]:
    """Epsilon of so many rounds: as accounted for, to who sees the coins, and by the bound that holds for any
    noise.
    """
    made = calibration(way)
    release = Skellam(made.l2_squared, made.l1, made.honest * made.variance)
    sampled = Sampled((release,), 1 - way.blank, rounds)
    return {
        "epsilon": epsilon([sampled], DELTA),
        "general": general(release, 1 - way.blank, rounds),
        "known": epsilon([release] * rounds, DELTA),
    }


def general(release: Skellam, rate: float, rounds: int) -> float:
    """Epsilon by the bound for any noise; rate: with what probability a client takes part in a round."""
    from dp_accounting.rdp import compute_epsilon

    spent = [rounds * in_general(lambda k: rdp(release, k), rate, order) for order in INTEGERS]
    return float(compute_epsilon(INTEGERS, spent, DELTA)[0])


def table(rows: Sequence[Row]) -> Table:
    """clients, MB: of a round. coins seen: epsilon to whoever sees them. from P 0: by pairs of seeds, in
    points, ± the standard error.
    """
    by: dict[Way, list[Row]] = {}
    for row in rows:
        by.setdefault(Way(row["blank"], row["through"]), []).append(row)
    header = (
        *("P", "through", "clients", "MB", "epsilon", "any noise", "coins seen"),
        *("rounds", "seeds", "accuracy", "from P 0"),
    )
    return Table.of(header, [_cells(way, some, by) for way, some in by.items()])


def _cells(way: Way, some: Sequence[Row], by: Mapping[Way, Sequence[Row]]) -> tuple[str, ...]:
    first, trained = some[0], way.through == "ring"
    sessions = f"{counted(first['rounds'], 'session')}, {first['sums']} equal"
    return (
        f"{way.blank:g}",
        way.through if trained else sessions,
        str(first["per_round"]),
        f"{first['per_round'] * first['bytes'] / 1e6:.1f}",
        f"{first['epsilon']:.2f}" if trained else "",
        f"{first['general']:.2f}" if trained and way.blank else "",
        f"{first['known']:.2f}" if trained else "",
        str(first["rounds"]),
        str(len(some)),
        spread([100 * row["accuracy"] for row in some], ".2f") if trained else "",
        paired(_points(some), _points(by[Way(0.0)]), "+.2f") if trained and way.blank else "",
    )


def _points(some: Sequence[Row]) -> dict[int, float]:
    return by_seed(some, lambda row: 100 * float(row["accuracy"]))


def plot(rows: Sequence[Row]) -> Figure:
    """Epsilon over bytes, without the accuracy, which is the same."""
    from benchmarks.plots import lines

    some = sorted({row["blank"]: row for row in rows}.items())
    points = {
        what: [(row["per_round"] * row["bytes"] / 1e6, row[name]) for _, row in some]
        for what, name in (
            ("coins unseen", "epsilon"),
            ("~for any noise", "general"),
            ("coins seen", "known"),
        )
    }
    return lines({"at the same accuracy": ("MB a round, of all clients", "epsilon", points)})
