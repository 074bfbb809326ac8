"""Pictures of what attacks found: beside the truth, and beside what anybody guesses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHOWN = 16  # images of a picture
Scored = tuple[NDArray[Any], NDArray[np.float64] | None]


def images(path: Path, title: str, rows: Mapping[str, Scored]) -> None:
    """Under one another, the first few of each. rows: name -> (N, C, H, W), and the PSNR of each, if any."""
    pyplot = _pyplot()
    some = min(SHOWN, *(len(each) for each, _ in rows.values()))
    figure, axes = pyplot.subplots(
        len(rows), some, figsize=(max(4.0, 0.95 * some), 1.2 * len(rows)), squeeze=False, layout="constrained"
    )
    figure.suptitle(title, fontsize=9)
    for row, (name, (of, psnr)) in zip(axes, rows.items(), strict=True):
        row[0].set_ylabel(name, fontsize=8)
        for i, at in enumerate(row):
            image = np.clip(of[i], 0, 1).transpose(1, 2, 0)
            at.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            at.set(xticks=[], yticks=[])
            if psnr is not None:
                at.set_title(f"{psnr[i]:.1f} dB", fontsize=7)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def counts(path: Path, title: str, rows: Mapping[str, NDArray[np.int64]], of: str, each: str) -> None:
    """Bars side by side. rows: name -> (n,), how many `of` something in `each`."""
    pyplot = _pyplot()
    figure, at = pyplot.subplots(figsize=(7.0, 3.0), layout="constrained")
    width = 0.8 / len(rows)
    for i, (name, many) in enumerate(rows.items()):
        at.bar(np.arange(len(many)) + (i - (len(rows) - 1) / 2) * width, many, width, label=name)
    at.set(xlabel=each, ylabel=of)
    at.set_title(title, fontsize=9)
    at.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def shares(path: Path, title: str, rows: Mapping[str, Mapping[str, float]]) -> None:
    """Bars of shares from 0 to 1, one group for each name. rows: name -> what is shown of it -> its share."""
    pyplot = _pyplot()
    kinds = list(dict.fromkeys(kind for row in rows.values() for kind in row))
    figure, at = pyplot.subplots(figsize=(7.0, 1.2 + 0.6 * len(rows)), layout="constrained")
    height = 0.8 / max(len(kinds), 1)
    for i, kind in enumerate(kinds):
        there = {place: row[kind] for place, row in enumerate(rows.values()) if kind in row}
        at.barh(
            [place + (i - (len(kinds) - 1) / 2) * height for place in there],
            list(there.values()),
            height,
            label=kind,
        )
    at.set(xlim=(0, 1), xlabel="share", yticks=range(len(rows)), yticklabels=list(rows))
    at.invert_yaxis()
    at.set_title(title, fontsize=9)
    # Not over a bar, and not beyond the edges.
    figure.legend(loc="outside lower center", ncols=min(len(kinds), 3) or 1, fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def spread(path: Path, title: str, values: Sequence[float], marks: Mapping[str, float]) -> None:
    """How many clients have which accuracy, in twenty steps from 0 to 1. marks: name -> where its line is."""
    pyplot = _pyplot()
    figure, at = pyplot.subplots(figsize=(7.0, 3.0), layout="constrained")
    at.hist(values, bins=np.linspace(0, 1, 21))
    for (name, where), style in zip(marks.items(), ("-", "--"), strict=True):
        at.axvline(where, color="black", linestyle=style, label=f"{name}: {where:.3f}")
    at.set(xlim=(0, 1), xlabel="accuracy on its own examples", ylabel="clients")
    at.set_title(title, fontsize=9)
    at.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot
