"""Images of classes out of a model that was trained by secure sums, and out of its first weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.inverted import cells_of
from benchmarks.spread import seeds
from fl.cli.classes import attacked, trained
from fl.cli.face import described
from fl.cohort.layout import lay_out
from fl.config.secret import RunSecrets
from fl.data import DataError
from fl.leakage.attack import Budget

CLAIM = (
    "An image of each class out of a model that 4 clients have trained in masked sums, by descent on 1 "
    "- p of the class (MI-Face), with the source's denoising and sharpening and without, beside the "
    "same out of the first weights. A class is right where the class mean that correlates most with its "
    "image is its own. No sum of updates is looked at: the model alone is enough, whatever summed them. "
    "Out of trained models all ten classes of digits and of MNIST are right, and 183 to 186 of 186 of "
    "LFW; out of first weights as many as by chance, but with one seed of three, where the logistic "
    "model of MNIST gives 4 of 10 and its cell says that the attack failed on the control. They are "
    "nobody's picture: 0.1 to 0.7 dB nearer to the mean of the class than grey is, 2.3 of digits at "
    "most. What the source does to its images makes these worse, of LFW by 10 dB."
)
FIRST = "first weights"
CONTROL = Control(
    "the same model at its first weights", lambda row: row["weights"] == FIRST, by=("seed", "dataset")
)
ALONE = False
SEEDS = {"quick": 1, "full": 3}


@dataclass(frozen=True)
class Setup:
    """4 clients of so many images each, in masked sums of so many rounds of one pass."""

    dataset: str
    model: str
    images: int
    rounds: int
    seconds: float = 1.0


SETUPS = (
    Setup("digits", "logistic", 300, 20),
    Setup("digits", "mlp", 300, 20),
    Setup("mnist", "logistic", 1000, 10),
    Setup("mnist", "mlp", 1000, 10),
    Setup("lfw", "logistic", 500, 20),
    Setup("lfw", "mlp", 500, 20),
)
CLIENTS, BATCH, STEPS = 4, 32, 2000
PROCESSED = (False, True)


def cases(size: str, seed: int) -> list[Case]:
    setups = SETUPS[:1] if size == "quick" else SETUPS
    return [
        Case(f"{setup.dataset}, {setup.model}, seed {each}", partial(run_case, setup, each))
        for setup in setups
        for each in seeds(seed, SEEDS[size])
    ]


def run_case(setup: Setup, seed: int) -> Iterator[Row | str]:
    """accuracy: of the trained model, on the test set. Raises: NotImplementedError without the data set."""
    flags = {"dataset": setup.dataset, "model": setup.model, "scheme": "masking"}
    config = described(flags, CLIENTS, setup.images, BATCH, setup.rounds, seed)
    try:
        layout = lay_out(config)
    except DataError as error:
        raise NotImplementedError(str(error)) from error
    run = trained(config, layout, RunSecrets.of_seed(seed))
    for processed in PROCESSED:
        yield "processed" if processed else "as it comes"
        budget = Budget(seconds=setup.seconds, iterations=STEPS, processed=processed)
        outcome = attacked(run, "server", budget, seed)
        for name, cell in outcome.cells.items():
            yield {
                "dataset": setup.dataset,
                "model": setup.model,
                "rounds": setup.rounds,
                "seed": seed,
                "accuracy": run.accuracy,
                "processed": processed,
                "weights": FIRST if name == "untrained" else "all rounds",
                "classes": len(cell.means),
                "hits": cell.hits,
                "psnr": round(float(cell.psnr.mean()), 2),
                "grey": round(float(cell.grey.mean()), 2),
                "found": cell.found,
                "verdict": outcome.verdict,
            }


def table(rows: Sequence[Row]) -> Table:
    """right: classes whose own mean is nearest, of all seeds. PSNR: to it, in the mean, and grey's. found: in
    how many seeds more than by chance.
    """
    by = cells_of(rows, "dataset", "model", "rounds", "processed", "weights")
    header = ("data", "model", "rounds", "processed", "weights", "accuracy", "right", "PSNR", "grey", "found")
    return Table.of(
        (*header, "so"),
        [
            (
                dataset,
                model,
                str(rounds),
                "yes" if processed else "no",
                of,
                "-" if of == FIRST else f"{np.mean([row['accuracy'] for row in some]):.2f}",
                f"{sum(row['hits'] for row in some)} of {sum(row['classes'] for row in some)}",
                f"{np.mean([row['psnr'] for row in some]):.1f}",
                f"{some[0]['grey']:.1f}",
                f"{sum(bool(row['found']) for row in some)} of {len(some)}",
                "" if of == FIRST else ", ".join(sorted({row["verdict"] for row in some})),
            )
            for (dataset, model, rounds, processed, of), some in by.items()
        ],
    )
