"""Two chosen sessions: what the difference of their sums tells of the one client that is in one alone."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.spread import seeds
from fl.cohort.layout import lay_out
from fl.config.plan import LocalPlan
from fl.config.run import RunConfig
from fl.config.secret import RunSecrets, order_key
from fl.data import DataError
from fl.federation.task import write_instructions
from fl.leakage.disguised import renumbered
from fl.models.architectures import Description, build
from fl.models.weights import from_vector, to_vector
from fl.training.clients import LocalClients
from secagg.errors import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "A server sums ten clients' updates, then those of nine for the same model, or one near it, and "
    "subtracts: how the difference correlates with the tenth's update (digits, CNN, 2 epochs of batch 8, "
    "momentum 0.8), where clients take their examples in the same order, and where the order is a secret "
    "of theirs that the whole task is in. Median, least and most over seeds, models and victims. In a secret "
    "order a second session tells what the next honest round does: of a client that holds much of the data "
    "more than of others, since it is much of the sum. At small rates, which the server chooses, all steps "
    "are taken at nearly one model, and no order hides their sum. The number of the victim's examples comes "
    "out in every case, and so does its input where that is constant: they are alike whenever they are asked "
    "for."
)
CONTROL = Control("the same order in both sessions", lambda row: row["order"] == "same", by=("what", "moved"))
ALONE = False
CLIENTS = 10
SEEDS = {"quick": 1, "full": 3}
HONEST = {"quick": (0,), "full": (0, 3)}  # rounds trained before the attack
DELTAS = {"quick": (0.0, 1e-2), "full": (0.0, 1e-5, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1)}
NEXT, DISGUISED = "next honest round", "hidden units renumbered"
ORDERS = ("same", "secret")
LOCAL = LocalPlan(epochs=2, batch_size=8, lr=0.05, momentum=0.8)
PLANS = {
    "2 epochs, batch 8": LOCAL,
    "the same, rate 0.01": msgspec.structs.replace(LOCAL, lr=0.01),
    "the same, rate 0.001": msgspec.structs.replace(LOCAL, lr=0.001),
    "1 step, batch 8": msgspec.structs.replace(LOCAL, steps=1),
    "1 step of all": msgspec.structs.replace(LOCAL, steps=1, batch_size=100_000),
    "FedSGD": LocalPlan("fedsgd", lr=0.5),
}
Vector = NDArray[np.float64]
Updates = Mapping[int, Vector]
"""Client -> its update times its number of examples: what is summed."""


@dataclass(frozen=True)
class Sessions:
    """moved: how far the second model is from the first, relative to it, or what else it is."""

    what: str
    order: str
    moved: float | str


def listed(size: str) -> list[Sessions]:
    """All pairs of sessions that are compared."""
    first, *others = PLANS
    moved: list[float | str] = [*DELTAS[size], NEXT, DISGUISED]
    every = [Sessions(first, order, each) for order in ORDERS for each in moved]
    return every + [Sessions(what, order, 0.0) for what in others for order in ORDERS]


def cases(size: str, seed: int) -> list[Case]:
    """One for each model that is attacked: its sessions share what its clients do."""
    return [
        Case(f"seed {each}, after {counted(honest, 'honest round')}", partial(run_case, size, each, honest))
        for each in seeds(seed, SEEDS[size])
        for honest in HONEST[size]
    ]


class Federation:
    """Ten clients with digits, the model after some honest rounds, and what clients make of a model."""

    def __init__(self, seed: int, honest: int) -> None:
        self._config = RunConfig.of(clients=CLIENTS, seed=seed, scheme="plain")
        layout = lay_out(self._config)
        dataset = layout.serving.dataset
        self.description = Description("cnn", dataset.shape, dataset.classes)
        self._clients = LocalClients(layout.x, layout.y, layout.shares, torch.device("cpu"), "sequential")
        self._secrets = RunSecrets.of_seed(seed)
        self.counts = {u: len(own) for u, own in layout.shares.items()}
        self.rng = np.random.default_rng([seed, honest])
        self.model = to_vector(build("cnn", dataset.shape, dataset.classes, seed)).astype(np.float64)
        for round in range(honest):
            self.model = self.after(self.updates(self.model, LOCAL, "secret", bytes([round]) * 16))

    def updates(self, model: Vector, plan: LocalPlan, order: str, run: bytes, round: int = 1) -> Updates:
        """What the server would sum, in the session with this run id. same: as where the order came from
        a seed of the server's, the client and the round.
        """
        sent = model.astype(np.float32)
        task = write_instructions(self._config, run, round, self.description, sent)
        received = build("cnn", self.description.shape, self.description.classes, 0)
        from_vector(received, sent)
        drawn_from = task if order == "secret" else b"round %d" % round
        orders = {u: order_key(self._secrets.client(u), drawn_from) for u in self.counts}
        results = self._clients.train(received, plan, orders, counting=False)
        return {u: self.counts[u] * result.upload.astype(np.float64) for u, result in results.items()}

    def after(self, updates: Updates) -> Vector:
        """The model, moved by the mean."""
        moved: Vector = self.model + np.sum(list(updates.values()), axis=0) / sum(self.counts.values())
        return moved


@lru_cache(maxsize=8)
def federation(seed: int, honest: int) -> Federation:
    """The same for all rows of a seed, and kept. honest: rounds."""
    return Federation(seed, honest)


@lru_cache(maxsize=64)
def first_session(seed: int, honest: int, what: str, order: str) -> Updates:
    """Client -> its update in the first of the two sessions."""
    played = federation(seed, honest)
    return played.updates(played.model, PLANS[what], order, b"the first run id")


def _as_it_is(update: Vector) -> Vector:
    return update


def correlations(case: Sessions, seed: int, honest: int) -> list[float]:
    """Of each client as the victim."""
    played, plan = federation(seed, honest), PLANS[case.what]
    first = first_session(seed, honest, case.what, case.order)
    back: Callable[[Vector], Vector] = _as_it_is
    model, round = played.model, 1
    if case.moved == NEXT:
        model, round = played.after(first), 2
    elif case.moved == DISGUISED:
        disguise = renumbered(played.description, model, played.rng)
        model, back = disguise.parameters, disguise.back
    elif case.moved:
        direction = played.rng.standard_normal(len(model))
        model = model + float(case.moved) * direction * np.linalg.norm(model) / np.linalg.norm(direction)
    second = played.updates(model, plan, case.order, b"another run's id", round)
    whole, nearly = np.sum(list(first.values()), axis=0), np.sum(list(second.values()), axis=0)
    return [
        float(np.corrcoef(whole - back(nearly - second[victim]), first[victim])[0, 1]) for victim in first
    ]


def run_case(size: str, seed: int, honest: int) -> Iterator[Row | str]:
    """Raises: NotImplementedError where the data set is not to be had."""
    try:
        for case in listed(size):
            yield f"{case.what}, {case.order} order, {case.moved}"
            found = correlations(case, seed, honest)
            yield {
                **asdict(case),
                "seed": seed,
                "honest": honest,
                "least": min(found),
                "most": max(found),
                "correlations": [round(each, 4) for each in found],
            }
    except DataError as error:
        raise NotImplementedError(str(error)) from error


Which = tuple[str, str, float | str]  # what the clients do, their order, the second model


def groups(rows: Sequence[Row]) -> dict[Which, list[Row]]:
    """The seeds and models of each kind of session together."""
    by: dict[Which, list[Row]] = {}
    for row in rows:
        by.setdefault((row["what"], row["order"], row["moved"]), []).append(row)
    return by


def median(some: Sequence[Row]) -> float:
    """Over seeds, models and victims."""
    return statistics.median(float(each) for row in some for each in row["correlations"])


def table(rows: Sequence[Row]) -> Table:
    header = ("clients do", "second model", "same order", "secret order")
    lines: dict[tuple[str, float | str], dict[str, str]] = {}
    for (what, order, moved), some in groups(rows).items():
        least, most = min(row["least"] for row in some), max(row["most"] for row in some)
        said = f"{median(some):.2f} ({least:.2f} to {most:.2f})"
        lines.setdefault((what, moved), {})[order] = said
    cells = [
        (what, moved if isinstance(moved, str) else f"moved by {moved:g}", *(said[order] for order in ORDERS))
        for (what, moved), said in lines.items()
    ]
    return Table.of(header, cells)


def plot(rows: Sequence[Row]) -> Figure:
    from benchmarks.plots import lines

    series = {
        f"{order} order": [
            (moved, median(some))
            for (_, of, moved), some in groups(rows).items()
            if of == order and not isinstance(moved, str) and moved
        ]
        for order in ORDERS
    }
    return lines({"two sessions, one without the victim": ("second model moved by", "correlation", series)})
