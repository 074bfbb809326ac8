"""Training as Wei and Liu set it up, unprotected, beside the accuracies that they publish (their Table 2)."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.spread import by_seed, paired, seeds, spread
from fl.cohort.layout import Layout, lay_out
from fl.config.presets import PRESETS
from fl.config.run import RunConfig
from fl.config.secret import RunSecrets
from fl.data import DataError
from fl.federation.records import RoundRecord
from fl.federation.simulation import simulated
from fl.models.architectures import Description, build
from fl.models.weights import from_vector
from fl.training.local import device, evaluate

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

CLAIM = (
    "Plain federated averaging at the settings of Wei and Liu's Table 2, beside the accuracies they print: "
    "0.980 on MNIST, 0.861 on Fashion-MNIST, 0.674 on CIFAR-10, 0.695 on LFW. With two classes a client, as "
    "their code deals, and with examples at random. The last model counts, not the best, and nothing was "
    "tuned. Quick: a tenth of the rounds, of 30 steps instead of 100, which says nothing of the claim."
)
CONTROL = Control("the accuracies they print, in each row", lambda row: "published" in row)
ALONE = False
PUBLISHED = {"mnist": 0.980, "fashion-mnist": 0.861, "cifar-10": 0.674, "lfw": 0.695}
SHARE_OF_ROUNDS = {"quick": 0.1, "full": 1.0}
STEPS = {"quick": 30, "full": 100}
DEALT = {
    "quick": {
        "mnist": {"shards": 1},
        "fashion-mnist": {"shards": 1},
        "cifar-10": {"shards": 1},
        "lfw": {"iid": 1},
    },
    "full": {
        "mnist": {"shards": 3, "iid": 3},
        "fashion-mnist": {"shards": 3, "iid": 3},
        "cifar-10": {"shards": 3, "iid": 3},
        "lfw": {"iid": 3},
    },
}
"""Seeds of each way to deal a data set. LFW has too few of most people for shards."""
LAST = 5  # rounds whose mean is taken: by classes a client, one round is far from the next
EVERY = 10  # rounds between two looks at the test set before that: it takes as long as ten clients


@dataclass(frozen=True)
class Cell:
    dataset: str
    partition: str
    seed: int


def cells(size: str, seed: int) -> list[Cell]:
    """Every data set, deal and seed."""
    return [
        Cell(dataset, partition, each)
        for dataset, ways in DEALT[size].items()
        for partition, count in ways.items()
        for each in seeds(seed, count)
    ]


def cases(size: str, seed: int) -> list[Case]:
    return [
        Case(f"{cell.dataset}, {cell.partition}, seed {cell.seed}", partial(run_case, cell, size))
        for cell in cells(size, seed)
    ]


def configuration(cell: Cell, size: str) -> RunConfig:
    """The preset's, with a part of its rounds and steps."""
    settings = PRESETS[f"wei-{cell.dataset}"].settings
    rest = {
        "partition": cell.partition,
        "seed": cell.seed,
        "rounds": max(1, round(SHARE_OF_ROUNDS[size] * settings["rounds"])),
        "local_steps": STEPS[size],
        "scheme": "plain",
    }
    return RunConfig.of(**settings | rest)


def run_case(cell: Cell, size: str) -> Row:
    """skipped: why, where the data set is not to be had."""
    config = configuration(cell, size)
    try:
        layout = lay_out(config)
    except DataError as error:
        return row(cell, config) | {"skipped": str(error)}
    return row(cell, config) | trained(config, layout)


def row(cell: Cell, config: RunConfig) -> Row:
    """What every row of a cell says, and what was published of it."""
    return {
        "dataset": cell.dataset,
        "partition": cell.partition,
        "seed": cell.seed,
        "rounds": config.training.rounds,
        "rounds_published": PRESETS[f"wei-{cell.dataset}"].settings["rounds"],
        "local_steps": config.training.steps,
        "published": PUBLISHED[cell.dataset],
    }


def trained(config: RunConfig, layout: Layout) -> Row:
    """One run. curve: [round, accuracy] on the test set. seconds: of all rounds, of these looks with the
    server's own alone, at the last.
    """
    secrets = RunSecrets.of_seed(config.training.seed)
    server = simulated(config, layout, secrets=secrets, evaluate_every=config.training.rounds)
    dataset, on = layout.serving.dataset, device(config.training.device)
    test = torch.tensor(dataset.test_x, device=on), torch.tensor(dataset.test_y, device=on)
    records, curve = list[RoundRecord](), list[list[float]]()
    for each in server.rounds():
        records.append(each.record)
        if looked_at(each.record.round, config.training.rounds):
            curve.append([each.record.round, accuracy(server.description, each.checkpoint.parameters, *test)])
    return {
        "accuracy": curve[-1][1],
        "accuracy_last": statistics.mean(accuracy for _, accuracy in curve[-LAST:]),
        "curve": curve,
        "seconds": sum(record.seconds for record in records),
        "way": each.local.way,
        "client_steps_per_s": pace(records, config.training.steps),
        "device": on.type,
    }


def looked_at(round: int, rounds: int) -> bool:
    """Whether the test set is: in the last rounds, and now and then before them."""
    return round > rounds - LAST or round % EVERY == 0


def accuracy(
    description: Description, parameters: NDArray[np.float64], x: torch.Tensor, y: torch.Tensor
) -> float:
    """In [0, 1], of the model with these parameters, (d,)."""
    model = build(description.model, description.shape, description.classes, seed=0)
    from_vector(model, parameters)
    return evaluate(model, x, y)[0]


def pace(records: Sequence[RoundRecord], steps: int) -> float:
    """Client-steps a second, summing included. Not of the first round, which tries both ways, if there are
    others."""
    counted = records[1:] or records
    return sum(record.chosen for record in counted) * steps / sum(record.seconds for record in counted)


def groups(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """By data set and partition, the seeds of each together; without what was left out."""
    by: dict[tuple[str, str], list[Row]] = {}
    for each in rows:
        if "skipped" not in each:
            by.setdefault((each["dataset"], each["partition"]), []).append(each)
    return by


def table(rows: Sequence[Row]) -> Table:
    """last: accuracy after the last round; last 5: its mean over the last five; from random: how far that of
    the same seeds is from what it is with examples at random, ± its standard error. time: of one run.
    """
    header = (
        *("data", "dealt", "rounds", "steps", "seeds", "last", f"last {LAST}", "from random", "published"),
        *("time", "steps/s", "way"),
    )
    by = groups(rows)
    cells = [
        (
            dataset,
            partition,
            f"{some[0]['rounds']} of {some[0]['rounds_published']}",
            str(some[0]["local_steps"]),
            str(len(some)),
            spread([each["accuracy"] for each in some]),
            spread([each["accuracy_last"] for each in some]),
            from_random(some, by.get((dataset, "iid"), [])) if partition != "iid" else "",
            f"{some[0]['published']:.3f}",
            f"{statistics.mean(each['seconds'] for each in some):.0f} s",
            f"{statistics.median(each['client_steps_per_s'] for each in some):.0f}",
            ", ".join(sorted({each["way"] for each in some})),
        )
        for (dataset, partition), some in by.items()
    ]
    missing = dict.fromkeys((each["dataset"], each["partition"]) for each in rows if "skipped" in each)
    return Table.of(header, cells + [(*which, "no data", *[""] * (len(header) - 3)) for which in missing])


def from_random(some: Sequence[Row], at_random: Sequence[Row]) -> str:
    """Of accuracy over the last rounds; nothing where no examples were dealt at random."""

    def accuracies(rows: Sequence[Row]) -> dict[int, float]:
        return by_seed(rows, lambda row: float(row["accuracy_last"]))

    return paired(accuracies(some), accuracies(at_random)) if at_random else ""


def plot(rows: Sequence[Row]) -> Figure:
    """Mean accuracy over seeds, by round."""
    from benchmarks.plots import lines

    panels: dict[str, tuple[str, str, dict[str, list[tuple[float, float]]]]] = {}
    for (dataset, partition), some in groups(rows).items():
        looks = [round for round, _ in some[0]["curve"]]
        curves = [[accuracy for _, accuracy in each["curve"]] for each in some]
        means = [statistics.mean(at) for at in zip(*curves, strict=True)]
        published = [(looks[0], PUBLISHED[dataset]), (looks[-1], PUBLISHED[dataset])]
        panel = panels.setdefault(dataset, ("round", "test accuracy", {"~published": published}))
        panel[2][partition] = list(zip(looks, means, strict=True))
    return lines(panels, log=False)
