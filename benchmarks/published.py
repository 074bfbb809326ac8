"""What `secagg report` shows: of the committed results fl/page/published.json and the pictures beside it,
which `python -m benchmarks report` writes, so that an installed package has them; of a size that was measured
here what `python -m benchmarks page --size SIZE` prints, for `secagg report --size SIZE`.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from benchmarks import harness, joined, matrices
from benchmarks.protected import SIZES
from benchmarks.protocol import growth
from fl.config.section import ConfigError
from fl.page.published import DATA, PICTURES, Curve, Growth, Panel, Picture, Point, Published, Source
from secagg.errors import counted

GALLERY: Final = {"digits": "Digits", "mnist": "MNIST", "fashion-mnist": "Fashion-MNIST"}


def published() -> Published:
    """All of it."""
    points, points_of = charted()
    return Published(
        points=points,
        points_of=points_of,
        matrices=tuple(matrix for make in matrices.MATRICES for matrix in make()),
        growth=tuple(grown()),
        pictures=tuple(
            Picture(
                f"leakage-{dataset}.png",
                f"{name}: the originals, found in single updates, found in a masked sum of ten, and the "
                "class mean, which knows no update",
                f"Four rows of ten images of {name}, each below its PSNR: the originals; what was found of "
                "them in single updates; in the masked sum of all ten; and the mean image of each class",
            )
            for dataset, name in GALLERY.items()
        ),
    )


def write() -> Iterator[Path]:
    """Each file once it is written."""
    PICTURES.mkdir(exist_ok=True)
    for picture in published().pictures:
        (PICTURES / picture.file).write_bytes((harness.FIGURES / picture.file).read_bytes())
        yield PICTURES / picture.file
    DATA.write_bytes(encoded())
    yield DATA


def encoded() -> bytes:
    """As it is committed."""
    return msgspec.json.format(msgspec.json.encode(published()), indent=1) + b"\n"


def of_size(size: str) -> Published:
    """The chart and its matrices, of the results of this size that lie here. Raises: ConfigError where there
    are none.
    """
    if size not in joined.sizes(size).values():
        raise ConfigError(
            f"nothing was measured here at {size} size: secagg bench {joined.FOLDER} --size {size} does it"
        )
    points, points_of = charted(size)
    shown = tuple(matrix for make in matrices.PROTECTIONS for matrix in make(size))
    how = SIZES[size]
    of = f"{counted(how.rounds, 'round')} on {how.dataset}, with {counted(how.seeds, 'seed')}"
    return Published(points=points, points_of=points_of, matrices=shown, size=size, of=of)


def charted(size: str = "full") -> tuple[tuple[Point, ...], tuple[Source, ...]]:
    """The points of the chart, and what they were measured by."""
    points = joined.points(joined.measured(size), size)
    sources = (matrices.source(joined.FOLDER, name, its) for name, its in joined.sizes(size).items())
    return points, tuple(sources) if points else ()


# Curves


def grown() -> Iterator[Growth]:
    """What a session costs by its clients and coordinates."""
    if not (rows := matrices.measured("protocol", "growth")):
        return
    panels = []
    for (grows, graph), each in growth.series(rows).items():
        curves = list[Curve]()
        for who, name, unit in growth.PARTIES:
            measured = [(row[grows], statistics.median(row[name]) / unit) for row in each]
            said = [(row[grows], row["predicted_" + name] / unit) for row in each]
            curves += [Curve(who, tuple(measured)), Curve(who, tuple(said), predicted=True)]
        other = "coordinates" if grows == "clients" else "clients"
        panels.append(
            Panel(
                f"growth-{grows}-{graph}",
                f"{graph.capitalize()} graph, {each[0][other]:,} {other}",
                grows,
                "processor seconds",
                tuple(curves),
            )
        )
    yield Growth(
        title="A masked sum",
        says=(
            f"Processor time of a masked sum of which {100 * growth.LOST:.0f} % of the clients are lost "
            "before they upload: dots are measured, dashes are what the papers' counts of operations say."
        ),
        panels=tuple(panels),
        claim=growth.CLAIM,
        source=matrices.source("protocol", "growth"),
    )
