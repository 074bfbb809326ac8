"""Figure 6 of Wei and Liu: faces in gradients that are compressed or noised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from benchmarks.harness import Case, Row, Table
from benchmarks.leakage import perturbed
from benchmarks.leakage.perturbed import AWARE, LEARNED, LEFT_OUT, NONE, PLAIN, Cell, gaussian
from benchmarks.spread import seeds

CLAIM = (
    "Gradients of one face of LFW each (62 people, 32 x 32 pixels), of `lenet-zhu` at its first "
    "weights, perturbed as in `perturbed`, by the same attackers: plain and aware with 4 s of a "
    "processor an image, learned from other pictures of the same people, 16 s for eight. Published is "
    "whether figure 6 shows the face. Without 10 % of the numbers faces leak, there and here. Without "
    "90 %, and under noise of variance 0.01 (deviation 0.1), they are hidden there, and here from "
    "L-BFGS alone: who does not ask for what was left out finds them at 23 dB, and who has learned at "
    "19 to 20, where the best guess has 15. At variance 0.001 (0.032), under which they leak there, "
    "L-BFGS does not find them in this time, and who has learned does. No perturbation of the figure "
    "hides faces. Accuracies are in `faces_accuracy`."
)
CONTROL = perturbed.CONTROL
ALONE = False
SECONDS = {"quick": {PLAIN: 0.5, LEARNED: 1.0}, "full": {PLAIN: 4.0, AWARE: 4.0, LEARNED: 2.0}}
SEEDS = {"quick": 1, "full": 3}
FIGURE_6 = (
    Cell(NONE, published="leaks"),
    replace(LEFT_OUT[0.1], published="leaks"),
    replace(LEFT_OUT[0.9], published="safe"),
    Cell("sd 0.032 on all", gaussian(0.001**0.5), published="leaks"),
    Cell("sd 0.1 on all", gaussian(0.01**0.5), published="safe"),
)
FEW = (FIGURE_6[0], FIGURE_6[4])


def cases(size: str, seed: int) -> list[Case]:
    cells = FEW if size == "quick" else FIGURE_6
    return [
        Case(f"seed {each}", partial(perturbed.run_case, "lfw", "lenet-zhu", cells, each, SECONDS[size]))
        for each in seeds(seed, SEEDS[size])
    ]


def table(rows: Sequence[Row]) -> Table:
    """As `perturbed`; published: whether their figure shows the face."""
    return perturbed.table(rows)
