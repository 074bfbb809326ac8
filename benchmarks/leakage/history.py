"""What several rounds of the same clients give away that one does not: a history of updates, and of sums."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.inverted import HEADER, Summary, cells_of, word
from benchmarks.spread import seeds
from fl.cli.attack import described
from fl.cli.recorded import Round, record
from fl.cli.scored import Images, of_images
from fl.cohort.layout import Layout, Serving
from fl.config.secret import RunSecrets
from fl.data import DataError, load
from fl.leakage import apart
from fl.leakage.attack import Budget
from fl.leakage.baselines import TO_BEAT
from fl.leakage.verdicts import ROUNDING, reconstructed
from fl.leakage.views import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "Images of MNIST, one a client and the same in each of eight rounds, one local step a round. Attacked "
    "are the last one, two, four or eight rounds at once, of sums the masked ones that a server has, in as "
    "many seconds of a processor an image however many they are. Out of one sum of ten this attack finds no "
    "image in 2 s, with any seed and of either net; that is no merit of rounding or of a mask, for out of "
    "the bare sum, which is there of `lenet-zhu`, it finds none either; two and more sums of the same ten "
    "give them away, with all three seeds of `lenet-4conv` (20 dB, where one has 11) and from four rounds "
    "on with two of `lenet-zhu`. A sum of four leaks by itself, and by two rounds 10 dB more. What rounding "
    "hides, rounds give back, too: of single updates in 11 bits one round leaves 12 dB, in which nothing is "
    "found, four leave 21. A tight bound of 16 bits is as good as no encoding; the default one takes 3 dB "
    "from one sum of four, and from eight nothing. Rounds cost time: of single updates, which one round "
    "gives away, eight have 21 dB where one has 42. So whoever is always summed with the same clients is "
    "hidden less with each round; that one sum hides an image from this attack promises nothing of another."
)
CONTROL = Control(
    "the last round alone, in as many seconds",
    lambda row: row["rounds"] == 1,
    by=("model", "clients", "sent", "seed"),
)
ALONE = False
SEEDS = {"quick": 1, "full": 3}
LAST = 8  # rounds of training; a history is the last of them
RATE = 0.05
EXACT, TIGHT = "not encoded", "16 bits, tight"
BOUND = 3.0  # a client's default


@dataclass(frozen=True)
class Setup:
    """clients: of a sum; 1 are single updates. sent: what becomes of an update before it is added. rounds:
    how many are attacked at once. seconds: of a processor, an image, however many rounds there are.
    """

    model: str
    clients: int
    sent: str
    rounds: tuple[int, ...]
    seconds: float


def encoding(bits: int) -> str:
    """What an encoding of so many bits is called."""
    return f"{bits} bits, bound 3"


ALL, ENDS = (1, 2, 4, 8), (1, 8)
SETUPS = (
    Setup("lenet-zhu", 1, EXACT, ENDS, 0.5),
    Setup("lenet-zhu", 1, encoding(16), ALL, 0.5),
    Setup("lenet-zhu", 1, encoding(11), ALL, 0.5),
    *(
        Setup("lenet-zhu", clients, sent, rounds, seconds)
        for clients, seconds in ((4, 1.0), (10, 2.0))
        for sent, rounds in ((EXACT, ENDS), (TIGHT, ENDS), (encoding(16), ALL))
    ),
    Setup("lenet-4conv", 1, encoding(16), ALL, 0.5),
    Setup("lenet-4conv", 4, encoding(16), ALL, 1.0),
    Setup("lenet-4conv", 10, encoding(16), ALL, 2.0),
)
FEW = (replace(SETUPS[1], rounds=ENDS), Setup("lenet-zhu", 4, encoding(16), ENDS, 0.5))


def cases(size: str, seed: int) -> list[Case]:
    return [
        Case(
            f"{setup.model}, {setup.clients} clients, {setup.sent}, seed {each}",
            partial(run_case, setup, each),
        )
        for setup in (FEW if size == "quick" else SETUPS)
        for each in seeds(seed, SEEDS[size])
    ]


def run_case(setup: Setup, seed: int) -> Iterator[Row | str]:
    """A row for each number of rounds. Raises: NotImplementedError where the data set is not to be had."""
    groups = [range(8)] if setup.clients == 1 else [range(i, i + setup.clients) for i in (0, setup.clients)]
    if setup.clients >= 8:
        groups = groups[:1]  # images enough for a verdict
    sessions = [session(setup, seed, group) for group in groups]
    head = {"model": setup.model, "clients": setup.clients, "sent": setup.sent, "seed": seed}
    head["budget"] = setup.seconds
    for rounds in setup.rounds:
        yield f"{rounds} rounds"
        cells = [attacked(setup, round, rounds, seed) for round in sessions]
        yield head | {"rounds": rounds} | told(cells)


def session(setup: Setup, seed: int, group: range) -> Round:
    """Of clients of one training image each, masked, with every round recorded."""
    try:
        dataset = load("mnist")
    except DataError as error:
        raise NotImplementedError(str(error)) from error
    some = np.random.default_rng(seed).choice(len(dataset.train_y), 20, replace=False)[list(group)]
    x, y = cast(NDArray[np.float32], dataset.train_x)[some], dataset.train_y[some]
    layout = Layout(x, y, {u: np.array([u]) for u in range(len(some))}, frozenset(), Serving(dataset))

    def recorded(bits: int, bound: float) -> Round:
        flags = {"scheme": "masking", "dataset": "mnist", "model": setup.model, "lr": RATE}
        config = described(flags | {"bits": bits, "bound": bound}, len(some), 1, None, LAST, seed)
        return record(config, layout, RunSecrets.of_seed(seed), LAST)

    if setup.sent == TIGHT:
        wide = recorded(16, BOUND)
        largest = max(np.abs(x).max() for one in (*wide.earlier, wide) for x in one.uploads.values())
        return recorded(16, 1.01 * float(largest))
    return recorded(16 if setup.sent == EXACT else int(setup.sent.split()[0]), BOUND)


def seen(setup: Setup, round: Round) -> View:
    """What the server reads of a round: of one client its update, of more their sum."""
    members = sorted(round.uploads)
    if setup.clients == 1:
        return round.exact(members) if setup.sent == EXACT else round.single(members)
    return round.summed(members) if setup.sent == EXACT else round.view("server")


def attacked(setup: Setup, round: Round, rounds: int, seed: int) -> Images:
    """By the last so many rounds."""
    last = replace(round, earlier=round.earlier[len(round.earlier) - (rounds - 1) :])
    view, budget = seen(setup, last), Budget(seconds=setup.seconds)
    return of_images(last, view, apart.run("history", view, last.knowledge, budget, seed))


def told(cells: Sequence[Images]) -> Row:
    """Of all rounds together: PSNR of each image in dB, labels told right, the mean PSNR of each baseline,
    whether images are found, and seconds.
    """
    images = np.concatenate([cell.scores.psnr for cell in cells])
    to_beat = {name: np.concatenate([cell.baseline_psnr[name] for cell in cells]) for name in TO_BEAT}
    return {
        "psnr": np.round(images, 2).tolist(),
        "labels": sum(int(cell.scores.labels.sum()) for cell in cells),
        "baselines": {name: round(float(each.mean()), 2) for name, each in to_beat.items()},
        "found": reconstructed(images, to_beat),
        "seconds": round(sum(one.seconds for cell in cells for one in cell.guesses), 1),
    }


def table(rows: Sequence[Row]) -> Table:
    """clients: of a sum. s: of a processor, an image, for all rounds together."""
    by = cells_of(rows, "model", "clients", "sent", "rounds")
    return Table.of(
        ("model", "clients", "sent", "rounds", "s", *HEADER, "so"),
        [
            (
                model,
                str(clients),
                sent,
                str(rounds),
                f"{some[0]['budget']:g}",
                *Summary.of(some).cells,
                word(some, single_updates(rows, model), hidden(by, some)),
            )
            for (model, clients, sent, rounds), some in by.items()
        ],
    )


def single_updates(rows: Sequence[Row], model: str) -> list[Row]:
    """The control of sums: single updates of the last round, at 16 bits."""
    is_it = {"model": model, "clients": 1, "sent": encoding(16), "rounds": 1}
    return [row for row in rows if is_it.items() <= row.items()]


def hidden(by: Mapping[tuple[Any, ...], Sequence[Row]], some: Sequence[Row]) -> str:
    """What is said of a cell in which nothing was found: who or what hid it, where the same numbers were
    attacked before they were encoded.
    """
    head = some[0]
    if head["sent"] == EXACT:
        return "the sum is not found"
    bare = [row["found"] for row in by.get((head["model"], head["clients"], EXACT, head["rounds"]), ())]
    if bare and all(bare):
        return ROUNDING
    return "hidden from this attack" if any(bare) or not bare else "nor found in a bare sum"


def plot(rows: Sequence[Row]) -> Figure:
    """By the number of rounds, at 16 bits and a client's default bound."""
    from benchmarks.plots import lines

    panels: dict[str, tuple[str, str, dict[str, list[tuple[float, float]]]]] = {}
    for (model, clients, sent, rounds), some in cells_of(rows, "model", "clients", "sent", "rounds").items():
        if sent == encoding(16):
            _, _, of_model = panels.setdefault(model, ("rounds", "PSNR, dB", {}))
            of_model.setdefault(f"sum of {clients}" if clients > 1 else "single", []).append(
                (rounds, Summary.of(some).mean)
            )
    return lines(panels, log=False)
