"""What ByzFL makes of 100 inputs: `SECAGG_BYZFL=CHECKOUT python -m tests.fl.robust.make_byzfl` writes
byzfl.json anew. The inputs are drawn from their numbers and are not in it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.poisoning.byzfl import PAIRS, REPOSITORY, Theirs

FILE = Path(__file__).with_name("byzfl.json")
INPUTS = 100


def drawn(number: int) -> tuple[NDArray[np.float64], int]:
    """An input: (n, d) float64, f of whose rows, less than half, are far from the others."""
    rng = np.random.default_rng(number)
    n, d = int(rng.integers(5, 16)), int(rng.integers(1, 5))
    f = int(rng.integers(0, (n - 1) // 2 + 1))
    x = rng.standard_normal((n, d))
    x[rng.permutation(n)[:f]] += 10 ** rng.uniform(-1, 3)
    return x * 10 ** rng.uniform(-1, 2), f


def text() -> str:
    """A line for each result; ten digits of each number."""
    theirs = Theirs.found()
    head = json.dumps({"source": REPOSITORY, "commit": theirs.commit, "numpy": np.__version__})
    rules = []
    for rule in PAIRS:
        results = []
        for number in range(INPUTS):
            x, f = drawn(number)
            found = np.asarray(theirs(rule, f)(x))
            digits = np.vectorize(lambda value: float(f"{value:.10g}"), otypes=[float])(found)
            results.append(json.dumps(digits.tolist(), separators=(",", ":")))
        rules.append(f'"{rule}": [\n' + ",\n".join(results) + "\n]")
    return head[:-1] + ',\n"results": {\n' + ",\n".join(rules) + "\n}}\n"


if __name__ == "__main__":
    FILE.write_text(text())
