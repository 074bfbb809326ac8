"""The pictures of docs/leakage.md: images, and what is found of them in single updates and in a masked sum.

`python -m benchmarks.gallery` draws them again, in some minutes. Faces are not among them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.report import FIGURES
from fl.cli import pictures
from fl.cli.attack import described
from fl.cli.recorded import Round, record
from fl.cli.scored import Images, of_images
from fl.cohort.layout import lay_out
from fl.config.secret import RunSecrets
from fl.leakage import apart
from fl.leakage.attack import Budget
from fl.leakage.views import View

DATASETS: Final = ("digits", "mnist", "fashion-mnist")
CLIENTS, SEED = 10, 0
SECONDS: Final = 4.0  # of a processor, an image: as `secagg attack inversion` has it


def drawn(dataset: str, folder: Path, seconds: float = SECONDS) -> str:
    """Draw one, and say what is on it. Raises: DataError where the data set is not to be had."""
    config = described({"dataset": dataset, "scheme": "masking"}, CLIENTS, 1, None, 1, SEED)
    round = record(config, lay_out(config), RunSecrets.of_seed(SEED))
    single = _found(round, round.single(range(CLIENTS)), seconds)
    summed = _found(round, round.view("server"), seconds)
    best = single.best_baseline
    rows: dict[str, pictures.Scored] = {
        "original": (single.truth, None),
        "single update": (single.guess, single.scores.psnr),
        f"masked sum of {CLIENTS}": (summed.guess, summed.scores.psnr),
        best: (single.baselines[best], single.baseline_psnr[best]),
    }
    path = folder / f"leakage-{dataset}.png"
    pictures.images(path, "", rows)
    means = [f"{name} {psnr.mean():.1f} dB" for name, (_, psnr) in rows.items() if psnr is not None]
    return f"wrote {path}: {', '.join(means)}"


def _found(round: Round, view: View, seconds: float) -> Images:
    guess = apart.run("inversion", view, round.knowledge, Budget(seconds=seconds), SEED)
    return of_images(round, view, guess)


def main() -> Iterator[str]:
    FIGURES.mkdir(parents=True, exist_ok=True)
    for dataset in DATASETS:
        yield drawn(dataset, FIGURES)


if __name__ == "__main__":
    for line in main():
        print(line, flush=True)
