"""Who holds what: a partition as a picture. matplotlib is imported on drawing."""

from __future__ import annotations

import io
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fl.data.examples import DataError, Labels
from fl.data.files import write_atomically

MOST_ROWS = 62  # of more classes the most frequent are drawn, and the others in one row
FORMATS = ("png", "pdf", "svg")


def draw_partition(
    path: str | PathLike[str],
    labels: Labels,
    shares: Sequence[NDArray[np.int64]],
    classes: int,
    title: str,
) -> None:
    """A cell for each client and class, the darker the more examples; above, each client's total.

    Shades grow with the square root of the number, so that a few examples are seen beside thousands; a white
    cell holds none.

    path: ends in .png, .pdf or .svg; a file there is replaced.  labels: (N,), in 0..classes-1;  shares: each
    client's indices into labels, as `Partition.deal` gives them.
    Raises: DataError for another ending.
    """
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    path = Path(path)
    if path.suffix[1:] not in FORMATS:
        raise DataError(f"{path}: a picture's name ends in .{', .'.join(FORMATS)}")
    counts, names = _rows(np.array([np.bincount(labels[own], minlength=classes) for own in shares]))
    clients, rows = counts.shape
    size = (min(14.0, 4.0 + 0.22 * clients), min(11.0, 3.2 + 0.22 * rows))  # inches
    figure = Figure(figsize=size, layout="constrained")
    totals, cells = figure.subplots(2, 1, sharex=True, height_ratios=[1, max(2.0, rows / 6)])
    totals.bar(range(clients), counts.sum(axis=1), color="tab:gray")
    totals.set(ylabel="examples", title=title)
    held = np.ma.masked_equal(counts.T, 0)
    drawn = cells.imshow(
        held, aspect="auto", interpolation="none", cmap="viridis_r", norm=PowerNorm(0.5, 0, counts.max())
    )
    cells.set(xlabel="client", ylabel="class")
    cells.set_yticks(np.arange(0, rows, 1 if rows <= 20 else 5))
    cells.set_yticklabels(names[:: 1 if rows <= 20 else 5])
    cells.xaxis.get_major_locator().set_params(integer=True)
    figure.colorbar(drawn, ax=cells, label="examples (white: none)")
    content = io.BytesIO()
    figure.savefig(content, format=path.suffix[1:], dpi=120)
    write_atomically(path, content.getvalue())


def _rows(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], list[str]]:
    """(clients, rows) of (clients, classes), and what each row is: of very many classes the last row is the
    sum of the rarest.
    """
    classes = counts.shape[1]
    if classes <= MOST_ROWS:
        return counts, [str(label) for label in range(classes)]
    order = np.argsort(-counts.sum(axis=0), kind="stable")
    common, rare = np.sort(order[: MOST_ROWS - 1]), order[MOST_ROWS - 1 :]
    merged = np.concatenate([counts[:, common], counts[:, rare].sum(axis=1, keepdims=True)], axis=1)
    return merged, [*map(str, common), f"{len(rare)} others"]
