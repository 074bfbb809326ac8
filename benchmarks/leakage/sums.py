"""Images out of masked sums: of whom the server sees nothing but what all send together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.inverted import cells_of
from benchmarks.noised import Training, Updates, Vector, clipped, decoded, layout_of, mean_of
from benchmarks.spread import seeds, spread
from fl.cohort.layout import Layout
from fl.config.privacy import Perturbation
from fl.config.run import RunConfig
from fl.data import DataError
from fl.leakage import apart
from fl.leakage.attack import Budget, Guess, Knowledge
from fl.leakage.views import Part, View
from fl.models.architectures import Description
from fl.privacy.accounting import epsilon, multiplier_for
from fl.privacy.mechanisms import Level, central_deviation
from fl.privacy.releases import Gaussian
from secagg import Bounded

CLAIM = (
    "Five clients of 100 examples each take one step of eight at rate 0.5, and the server has the sum, as it "
    "is left of masked inputs, 16 bits a number. After 20 rounds, with a bound as tight as the updates "
    "allow, .72 to .77 of all examples have come out of the sums, nine claims of ten right, found by a rule "
    "that sees no truth (`peeling`); out of sums that are not encoded .79 to .84, and no claim is wrong (a "
    "fifth is never drawn). After 8 rounds it is .46 to .48, and after 2 .15 to .16, as good as all that "
    "those rounds held: each round gives up its own. At a client's default bound of 3 it is a fifth to a "
    "quarter of all after 20 rounds, .06 to .08 after 8, six or seven claims of ten right, and next to none "
    "after 2: rounding hides some, masking nothing. MNIST is alike; CIFAR-10 comes out in floats alone, its "
    "model having left all sense at this rate. What helps is more images in a sum beside the net's width: of "
    "80 images to 1,000 neurons most come out at 16 bits, of 160 .06 to .11 of all examples (in floats .15 "
    "to .41), of 500 .02 at most, and of 40 images to 200 neurons .10 to .20, to 64 a twentieth. Of five "
    "local steps a tenth comes out in floats, and a fiftieth at 16 bits. Clipping at 1, each client by a "
    "factor of its own that it tells nobody, hides nothing: neurons that hold one image tell the factor. "
    "Noise on top does, in floats as in 16 bits, long before it is worth an epsilon: of the .43 to .49 that "
    "come out of 8 clipped rounds .33 to .41 are left under a multiplier of 0.00001 (epsilon 4e10), and from "
    "0.0001 (4e8) on none; so there is none at the multipliers that are worth an epsilon of 50 (0.42), 8 "
    "(1.7) and 1 (10.6), by then with accuracies of .15 to .27, .09 to .19 and .07 to .16 in the place of "
    ".31 to .48. These epsilons are of a client's part of all rounds together, at delta 1e-5, against "
    "whoever sees every sum with its noise and none without it: clients, and a server that does not add the "
    "noise itself. Noise in the ring is a little dearer."
)
FLOAT, TIGHT, DEFAULT = "none", "tight", "3"
CONTROL = Control(
    "the same sum with no clip, no noise and no encoding",
    lambda row: row["bound"] == FLOAT and not row["noise"] and row["clip"] is None,
    by=("dataset", "model", "clients", "batch", "steps", "rounds", "seed"),
)
ALONE = False
SEEDS = {"quick": 1, "full": 3}
QUICK: Final = 4  # rounds
BITS: Final = 16
RIGHT: Final = 1e-3  # mean squared error of a claimed image, 30 dB
DELTA: Final = 1e-5
AT_ONCE: Final = 10  # rounds: of a net of 1,000 neurons each is 10 MB
CLIP: Final = 1.0  # updates of eight images at first weights have norms of 1.1 to 1.6


@dataclass(frozen=True)
class Setup:
    """Clients who each hold `examples` images, and take `steps` of `batch` in each round. bounds: of the
    encoding. clip: the largest L2 norm of an update. noise: the multiplier of Gaussian noise on the sum of
    clipped updates; or budget: an epsilon of all rounds, for which the least multiplier is found.
    """

    dataset: str = "fashion-mnist"
    model: str = "mlp-1000"
    clients: int = 5
    examples: int = 100
    batch: int = 8
    steps: int = 1
    rate: float = 0.5
    bounds: tuple[str, ...] = (FLOAT, TIGHT)
    clip: float | None = None
    noise: float = 0.0
    budget: float | None = None
    chosen: int | None = None
    rounds: int = 8

    @property
    def name(self) -> str:
        each = f"{self.dataset}, {self.model}, {self.clients} x {self.batch}"
        each += f", {self.steps} steps" if self.steps > 1 else ""
        each += f", clip {self.clip:g}" if self.clip else ""
        each += f", epsilon {self.budget:g}" if self.budget else ""
        return each + (f", noise {self.noise:g}" if self.noise else "")

    @property
    def asked(self) -> Perturbation | None:
        """What clients do to their updates, as all know: of the noise on their sum each adds a share."""
        return None if self.clip is None else Perturbation(clip=self.clip)

    def multiplier(self, rounds: int) -> float:
        if self.budget is None:
            return self.noise
        return multiplier_for(self.budget, DELTA, lambda z: [Gaussian(z, steps=rounds)])


BASE = Setup(bounds=(FLOAT, TIGHT, DEFAULT), rounds=20)
FEWER = replace(BASE, rounds=8, bounds=(FLOAT, TIGHT))
CLIPPED = replace(FEWER, clip=CLIP)
SETUPS = (
    BASE,
    *(replace(BASE, rounds=n) for n in (2, 8)),
    *(replace(FEWER, dataset=name) for name in ("mnist", "cifar-10")),
    *(replace(FEWER, model=name) for name in ("mlp-200", "mlp")),
    *(replace(FEWER, clients=n) for n in (10, 20)),
    *(replace(FEWER, batch=b) for b in (2, 16, 100)),
    replace(BASE, steps=5, bounds=(FLOAT, TIGHT)),
    CLIPPED,
    *(replace(CLIPPED, noise=z) for z in (1e-5, 1e-4, 0.05)),
    *(replace(CLIPPED, budget=budget) for budget in (50.0, 8.0, 1.0)),
)


def cases(size: str, seed: int) -> list[Case]:
    setups = [replace(BASE, rounds=QUICK)] if size == "quick" else SETUPS
    return [
        Case(
            f"{setup.name}, {setup.rounds} rounds, seed {each}",
            partial(run_case, setup, each, setup.rounds),
        )
        for setup in setups
        for each in seeds(seed, SEEDS[size])
    ]


def run_case(setup: Setup, seed: int, rounds: int) -> Iterator[Row | str]:
    """share: of all examples of all clients, how many a claim is right of. precision: of claims, how many are
    right. Raises: NotImplementedError where the data set is not to be had.
    """
    tight, multiplier = 0.0, setup.multiplier(rounds)
    for bound in setup.bounds:  # that in floats is first, and tells how tight a bound can be
        yield f"bound {bound}, {rounds} rounds"
        run = Peeled.of(setup, bound, tight, seed, rounds)
        tight = run.largest
        yield {
            "name": setup.name,
            "dataset": setup.dataset,
            "model": setup.model,
            "clients": setup.clients,
            "batch": setup.batch,
            "steps": setup.steps,
            "clip": setup.clip,
            "noise": float(f"{multiplier:.4g}"),
            "epsilon": _epsilon(multiplier, rounds),
            "bound": bound,
            "seed": seed,
            "accuracy": run.accuracy,
            "seconds": round(sum(one.seconds for one in run.guess), 1),
            "rounds": rounds,
            "images": setup.clients * setup.batch * setup.steps,
            **_scored(run.claims, run.truth),
        }


@dataclass(frozen=True)
class Peeled:
    """A run whose sums were peeled. parts: of the server's view, without their numbers. truth: (N, pixels),
    all examples, with `owners`, (N,), the client that each is of. largest: number in any update.
    """

    parts: tuple[Part, ...]
    guess: Guess
    truth: Vector
    owners: NDArray[np.int64]
    largest: float
    accuracy: float

    @property
    def claims(self) -> Vector:
        """(K, pixels): all that the attack says to be images."""
        each = [cast(Vector, one.images)[one.claimed] for one in self.guess]
        return np.concatenate(each).reshape(-1, self.truth.shape[1])

    @classmethod
    def of(cls, setup: Setup, bound: str, tight: float, seed: int, rounds: int) -> Peeled:
        """Raises: NotImplementedError where the data set is not to be had."""
        training, layout = _training(setup, seed, rounds)
        dataset = layout.serving.dataset
        described = Description(setup.model, dataset.shape, dataset.classes)
        first, plan = training.parameters.astype(np.float32), training.config.training.plan
        knowledge = Knowledge(described, first, plan, setup.examples, perturbation=setup.asked)
        heard, parts, guess = (
            Heard(setup, bound, tight, np.random.default_rng(seed), setup.multiplier(rounds)),
            list[Part](),
            cast(Guess, ()),
        )
        for round in training.rounds(partial(heard.mean, training)):
            if round % AT_ONCE == 0 or round == rounds:
                view = View(tuple(heard.parts))
                guess += apart.run("peeling", view, knowledge, Budget(seconds=1), seed)
                parts += [replace(part, updates=np.empty((0, 0)), before=None) for part in heard.parts]
                heard.parts.clear()
        each = [layout.examples(u)[0] for u in range(setup.clients)]
        truth = np.concatenate(each).astype(np.float64)
        owners = np.repeat(np.arange(setup.clients), [len(x) for x in each])
        accuracy = training.accuracy()
        return cls(tuple(parts), guess, truth.reshape(len(truth), -1), owners, heard.largest, accuracy)


def tightest(setup: Setup, seed: int, rounds: int) -> float:
    """The largest number in any update of a run whose sums are not encoded. Raises: as `Peeled.of`."""
    heard = Heard(setup, FLOAT, 0.0, np.random.default_rng(seed), setup.multiplier(rounds))
    training, _ = _training(setup, seed, rounds)
    for _ in training.rounds(partial(heard.mean, training)):
        heard.parts.clear()
    return heard.largest


def _training(setup: Setup, seed: int, rounds: int) -> tuple[Training, Layout]:
    config = _configuration(setup, seed, rounds)
    try:
        layout = layout_of(config)
    except DataError as error:
        raise NotImplementedError(str(error)) from error
    return Training(config, layout), layout


def _configuration(setup: Setup, seed: int, rounds: int) -> RunConfig:
    plan = {"local_steps": setup.steps, "batch_size": setup.batch, "lr": setup.rate, "momentum": 0.0}
    cohort: dict[str, Any] = {"clients": setup.clients, "examples_per_client": setup.examples}
    cohort |= {"partition": "iid", "sample": setup.chosen}
    rest = {"dataset": setup.dataset, "model": setup.model, "rounds": rounds, "seed": seed}
    return RunConfig.of(**plan, **cohort, **rest, scheme="plain", execution="sequential")


@dataclass
class Heard:
    """The server of a session that hides single updates: of each round it has the mean, as it is decoded."""

    setup: Setup
    bound: str
    tight: float
    rng: np.random.Generator
    noise: float = 0.0
    largest: float = 0.0
    parts: list[Part] = field(default_factory=list)

    def mean(self, training: Training, updates: Updates) -> Vector:
        before = training.parameters.astype(np.float32)
        updates = updates if self.setup.clip is None else clipped(self.setup.clip, updates)
        self.largest = max(self.largest, *(float(np.abs(x).max()) for x in updates.values()))
        spec = Bounded(length=len(before), bound=self._bound, bits=BITS)
        if self.bound == FLOAT:
            mean, deviation = mean_of(updates), 0.0
        else:
            mean, deviation = decoded(spec, updates, self.rng)
        if self.noise:
            # As the shares of all clients come to together, whoever adds them.
            level = Level(self.setup.clip, self.noise)
            added = central_deviation(spec, level, len(updates), as_float=self.bound == FLOAT)
            mean = mean + self.rng.normal(0, added, len(mean))
            deviation = math.hypot(deviation, added)
        members = frozenset(updates)
        self.parts.append(Part(members, mean[None], deviation=deviation, before=before))
        return mean

    @property
    def _bound(self) -> float:
        if self.bound == FLOAT:
            return 1.0  # nothing is encoded, and any will do
        return self.tight if self.bound == TIGHT else float(self.bound)


def _epsilon(multiplier: float, rounds: int) -> float | None:
    """At DELTA, of all that one client adds in all rounds, against whoever sees every sum with its noise, and
    none of it without: a server, too, but for one that adds the noise itself.
    """
    if not multiplier:
        return None
    return float(f"{epsilon([Gaussian(multiplier, steps=rounds)], DELTA):.4g}")


def _scored(claims: Vector, truth: Vector) -> Row:
    """Claims beside all true images, as pixels: (K, d) and (N, d)."""
    if not len(claims):
        return {"claims": 0, "right": 0, "share": 0.0, "precision": None}
    which, errors = nearest(claims, truth)
    right = errors <= RIGHT
    return {
        "claims": len(claims),
        "right": int(right.sum()),
        "share": len(np.unique(which[right])) / len(truth),
        "precision": float(right.mean()),
    }


def nearest(claims: Vector, truth: Vector) -> tuple[NDArray[np.int64], Vector]:
    """Of each claim (which true image is nearest, their mean squared error)."""
    each = [np.square(truth - one).mean(axis=1) for one in np.clip(claims, 0, 1)]
    errors = np.array(each).reshape(-1, len(truth))  # also where there is no claim
    return errors.argmin(axis=1), errors.min(axis=1)


def table(rows: Sequence[Row]) -> Table:
    """images: in a sum. found: of the 100 examples of each client the share that a claim is right of, over
    all rounds; more than took part cannot be. precision: of claims. s: of a processor, for all rounds.
    """
    header = (
        "data model clients batch steps rounds clip noise epsilon bound images found precision accuracy s"
    )
    return Table.of(
        tuple(header.split()),
        [
            (*_settings(some[0]), bound, str(some[0]["images"]), *_cells(some))
            for (_, _, bound), some in cells_of(rows, "name", "rounds", "bound").items()
        ],
    )


def _settings(row: Row) -> tuple[str, ...]:
    noise = f"{row['noise']:.3g}" if row["noise"] else ""
    told = "" if row["epsilon"] is None else f"{row['epsilon']:.3g}"
    numbers = [str(row[name]) for name in ("clients", "batch", "steps", "rounds")]
    clip = f"{row['clip']:g}" if row["clip"] else ""
    return row["dataset"], row["model"], *numbers, clip, noise, told


def _cells(some: Sequence[Row]) -> tuple[str, ...]:
    precise = [row["precision"] for row in some if row["precision"] is not None]
    return (
        spread([row["share"] for row in some]),
        spread(precise) if precise else "no claim",
        f"{np.mean([row['accuracy'] for row in some]):.2f}",
        f"{np.median([row['seconds'] for row in some]):.1f}",
    )
