"""Images out of masked sums, by how many clients are in one: whether more clients hide more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.batched import Batches, ends, so
from benchmarks.harness import Case, Control, Row, Table
from benchmarks.inverted import cells_of
from benchmarks.noised import Vector, decoded
from benchmarks.spread import seeds, spread
from fl.config.plan import LocalPlan
from fl.leakage import apart
from fl.leakage.attack import Budget
from fl.leakage.baselines import likely_counts
from fl.leakage.labels import labels
from fl.leakage.starts import CLASS_MEAN
from fl.leakage.views import Part, View
from secagg import Bounded

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "Each client takes one step of its one MNIST image, at first weights of `lenet-4conv`. The server "
    "has the sum as it is left of masked inputs, 16 bits a number, with a bound as tight as the updates "
    "allow, so that it is the sum that hides what is hidden, and not its rounding. It is inverted with "
    "3 s of a processor for each image in it, from the mean image of each label, by who has images of "
    "its own. More clients hide more, and slowly: 79 dB of one, 67 of two, 32 of eight, all above 20 "
    "dB; of ten two images of three are, of fifteen two of five, and of twenty 7 %, where all is still "
    "3 dB above the best guess. From five clients on every attack ended with its time. Labels are "
    "counted rightly in every sum of up to twenty, so that being given them helps nobody, and of fifty "
    "clients 1,197 of 1,200, where chance has 83 %."
)
SINGLE, SUM = "single updates", "a masked sum"
INFERRED, GIVEN = "inferred", "given"
CONTROL = Control("single updates in the clear", lambda row: row["read"] == SINGLE, by=("seed",))
ALONE = False
CLIENTS = {"quick": (1, 8, 50), "full": (1, 2, 3, 4, 5, 8, 10, 15, 20, 50)}
UNSEEN: Final = 50  # clients from which on no image is looked for
SUMS: Final = 8  # of these, so that there is more than one to count the labels of
SECONDS = {"quick": 0.3, "full": 3.0}  # of a processor, an image
SEEDS = {"quick": 1, "full": 3}
NET: Final = "lenet-4conv"
PLAN: Final = LocalPlan(steps=1, batch_size=1, lr=0.05, momentum=0.0)
BITS: Final = 16


def cases(size: str, seed: int) -> list[Case]:
    return [
        Case(f"{clients} clients, seed {each}", partial(run_case, clients, each, SECONDS[size]))
        for clients in CLIENTS[size]
        for each in seeds(seed, SEEDS[size])
    ]


def run_case(clients: int, seed: int, seconds: float) -> Iterator[Row | str]:
    """hits: of all images, how many labels are in the counts of their sum. chance: how many are expected to
    be in the best counts that public shares of the classes give.

    Raises: NotImplementedError where the data set is not to be had.
    """
    some = Batches.drawn("mnist", clients, None, seed, count=SUMS if clients >= UNSEEN else None)
    knowledge = replace(some.knowledge(NET, seed), plan=PLAN, examples=1)
    uploads = some.target.uploads(knowledge)
    summed = _summed(uploads, clients, np.random.default_rng(seed))
    head: Row = {"clients": clients, "seed": seed, "sums": len(summed.parts), "images": len(some.target.y)}
    head |= {"budget": seconds, "chance": len(summed.parts) * _expected(some, clients)}
    if clients >= UNSEEN:
        guess = labels(summed, knowledge, Budget(), seed)
        yield head | {"read": SUM, "told": INFERRED, "hits": some.hits(guess), "psnr": None}
        return
    budget = Budget(seconds=seconds, start=CLASS_MEAN)
    for read, view in ([(SINGLE, _clear(uploads))] if clients == 1 else []) + [(SUM, summed)]:
        yield read
        guess = apart.run("inversion", view, knowledge, budget, seed)
        yield head | {"read": read, "told": INFERRED, "hits": some.hits(guess)} | some.scored(guess)
    yield "labels given"
    wrong = [i for i, y in enumerate(some.labels()) if not np.array_equal(y, np.sort(guess[i].labels))]
    told = View(tuple(replace(summed.parts[i], labels=some.labels()[i]) for i in wrong))
    again = dict(zip(wrong, apart.run("inversion", told, knowledge, budget, seed), strict=True))
    guess = tuple(again.get(i, one) for i, one in enumerate(guess))  # right ones would give the same again
    yield head | {"read": SUM, "told": GIVEN, "hits": some.hits(guess)} | some.scored(guess)


def _clear(uploads: Sequence[Vector]) -> View:
    return View(tuple(Part(frozenset({u}), x[None], 1) for u, x in enumerate(uploads)))


def _summed(uploads: Sequence[Vector], clients: int, rng: np.random.Generator) -> View:
    """The sums of so many clients each."""
    parts = []
    for first in range(0, len(uploads), clients):
        updates = dict(enumerate(uploads[first : first + clients]))
        largest = max(float(np.abs(x).max()) for x in updates.values())
        mean, deviation = decoded(Bounded(length=len(uploads[0]), bound=largest, bits=BITS), updates, rng)
        parts.append(Part(frozenset(updates), mean[None], clients, deviation))
    return View(tuple(parts))


def _expected(some: Batches, clients: int) -> float:
    shares = np.bincount(some.target.of, minlength=some.target.classes) / len(some.target.of)
    return likely_counts(shares, clients)[1]


def table(rows: Sequence[Row]) -> Table:
    """images: of each seed. without: the best of grey, mean and class-mean image. > 20 dB: how many of all.
    right: of labels, as they are counted, beside what public shares give by chance. ended: how the attacks
    did, of all sums.
    """
    control = [row for row in rows if row["read"] == SINGLE]
    header = (
        "clients",
        "what is read",
        "labels",
        "images",
        "PSNR",
        "without",
        "> 20 dB",
        "right",
        "by chance",
    )
    return Table.of(
        (*header, "ended", "so"),
        [
            (
                str(clients),
                read,
                told,
                str(some[0]["images"]),
                *_found(some),
                f"{sum(row['hits'] for row in some) / _images(some):.0%}" if told == INFERRED else "",
                f"{sum(row['chance'] for row in some) / _images(some):.0%}",
                *_so(some, control),
            )
            for (clients, read, told), some in cells_of(rows, "clients", "read", "told").items()
        ],
    )


def _images(some: Sequence[Row]) -> int:
    return sum(row["images"] for row in some)


def _found(some: Sequence[Row]) -> tuple[str, ...]:
    if some[0]["psnr"] is None:
        return "not looked for", "", ""
    return (
        spread([float(np.mean(row["psnr"])) for row in some], ".1f"),
        f"{_without(some):.1f}",
        f"{sum(row['recognised'] for row in some) / _images(some):.0%}",
    )


def _so(some: Sequence[Row], control: Sequence[Row]) -> tuple[str, str]:
    if some[0]["psnr"] is None:
        return "", ""
    return ends([end for row in some for end in row["ended"]]), so(some, control)


def _without(some: Sequence[Row]) -> float:
    return float(np.mean([max(row["baselines"].values()) for row in some]))


def plot(rows: Sequence[Row]) -> Figure:
    """PSNR by clients; dashed, the best guess without."""
    from benchmarks.plots import lines

    seen = [row for row in rows if row["read"] == SUM and row["psnr"] is not None]
    curves: dict[str, list[tuple[float, float]]] = {}
    for (told, clients), some in cells_of(seen, "told", "clients").items():
        mean = float(np.mean([np.mean(row["psnr"]) for row in some]))
        curves.setdefault(f"labels {told}", []).append((clients, mean))
    guessed = [(clients, _without(some)) for (clients,), some in cells_of(seen, "clients").items()]
    panel = ("clients in the sum", "PSNR, dB", curves | {"~best guess without": guessed})
    return lines({"MNIST, one image a client": panel}, log=False)
