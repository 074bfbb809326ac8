"""Figure 6 of Wei and Liu: faces in gradients that are compressed or noised."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from benchmarks.harness import Case, Row, Table
from benchmarks.leakage import perturbed
from benchmarks.spread import seeds

CLAIM = (
    "Gradients of one face of LFW each (62 people, 32 x 32 pixels), of `lenet-zhu` at its first weights, "
    "perturbed as in `perturbed` and inverted with 1.5 s of a processor an image; published is whether "
    "figure 6 shows the face. Without 10 % of the numbers faces leak, there and here. Without 90 % they "
    "are hidden, there and here, but only from who takes the zeros for numbers: who sees what was left "
    "out finds them. Noise of variance 0.01 (deviation 0.1) hides them, there and here; 0.001 (0.032), "
    "under which they leak there, hides them here from this attack in this time, which does not mean from "
    "every one. Accuracies are not measured here."
)
CONTROL = perturbed.CONTROL
ALONE = False
SECONDS = 1.5  # of a processor, an image
SEEDS = {"quick": 1, "full": 3}


def cases(size: str, seed: int) -> list[Case]:
    cells = perturbed.FIGURE_6
    return [
        Case(f"seed {each}", partial(perturbed.run_case, "lfw", "lenet-zhu", cells, each, SECONDS))
        for each in seeds(seed, SEEDS[size])
    ]


def table(rows: Sequence[Row]) -> Table:
    """As `perturbed`; published: whether their figure shows the face."""
    return perturbed.table(rows)
