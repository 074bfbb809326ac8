"""The measurements that stand with the package, for `secagg report` to show: what `python -m benchmarks
report` makes of the committed results. Nothing in it is entered by hand.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import msgspec

HERE: Final = Path(__file__).parent
DATA, PICTURES = HERE / "published.json", HERE / "pictures"

Better = Literal["low", "high"]


class Source(msgspec.Struct, frozen=True):
    """What was measured, by which command, of which commit, when, and on what machine."""

    of: str
    command: str
    commit: str
    date: str
    machine: str


class Axis(msgspec.Struct, frozen=True):
    """One of the two ways along which protections are told apart. says: a sentence for people. costs: so
    much between them that equal steps are to be equal factors.
    """

    name: str
    title: str
    unit: str
    better: Better
    says: str
    costs: bool = False

    @property
    def label(self) -> str:
        return f"{self.title} ({self.unit})" if self.unit else self.title


AXES: Final = (
    Axis(
        "client_ms",
        "client's time over plain",
        "ms a round",
        "low",
        "processor time of one client in one round, training and session, less what it takes unprotected",
        costs=True,
    ),
    Axis(
        "bytes_up",
        "bytes sent",
        "times plain",
        "low",
        "what one client sends in one round, beside what it sends unprotected",
        costs=True,
    ),
    Axis("server_ms", "server's time", "ms a round", "low", "processor time of the server", costs=True),
    Axis("rounds", "protocol rounds", "", "low", "how often a client and the server wait for each other"),
    Axis(
        "leakage",
        "leakage to the server",
        "% of examples",
        "low",
        "share of the cohort's examples that come out above 20 dB of what the server reads in a round",
    ),
    Axis(
        "leakage_clients",
        "leakage to other clients",
        "% of examples",
        "low",
        "the same of what clients read of each other",
    ),
    Axis(
        "resilience",
        "accuracy under attack",
        "points beside none",
        "high",
        "accuracy under the worst of four attacks, less that without an attacker, by the best rule that what "
        "the server sees permits",
    ),
    Axis("success", "backdoor's success", "%", "low", "test images with the trigger taken for the target"),
    Axis("accuracy", "accuracy", "%", "high", "on the test set, without attackers"),
    Axis(
        "epsilon",
        "epsilon",
        "against whom: see each",
        "low",
        "what all rounds together may tell of one client or example, where noise bounds it",
        costs=True,
    ),
)
"""What may be chosen for either side of the chart: the keys of a point's values."""


class Point(msgspec.Struct, frozen=True):
    """A protection, and what it comes to on each axis; None where that does not apply. why: of these why not,
    and of others what there is to say beside the number, such as whom an epsilon holds against. command: what
    trains with it. spread: the sample standard deviation over seeds, of those values that have one.
    """

    name: str
    scheme: str
    mechanism: str
    command: str
    values: dict[str, float | None]
    why: dict[str, str] = {}
    spread: dict[str, float] = {}


class Matrix(msgspec.Struct, frozen=True):
    """A number for each row and column, None where there is none. about: "leakage" or "poisoning". corner:
    what rows are, across: what columns are. says: what a cell is. empty: why some are blank. low, high: the
    numbers of the lightest and of the darkest cell. claim: what the measurement shows, if it was looked at.
    """

    name: str
    about: Literal["leakage", "poisoning"]
    title: str
    says: str
    corner: str
    across: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]
    unit: str
    better: Better
    low: float
    high: float
    claim: str
    source: Source
    digits: int = 0
    empty: str = ""


class Curve(msgspec.Struct, frozen=True):
    """points: (x, y). predicted: by a formula, not measured."""

    name: str
    points: tuple[tuple[float, float], ...]
    predicted: bool = False


class Panel(msgspec.Struct, frozen=True):
    name: str
    title: str
    x: str
    y: str
    curves: tuple[Curve, ...]


class Growth(msgspec.Struct, frozen=True):
    """How a cost grows, on logarithmic axes."""

    title: str
    says: str
    panels: tuple[Panel, ...]
    claim: str
    source: Source


class Picture(msgspec.Struct, frozen=True):
    """file: its name in `PICTURES`. alt: what is on it, in words."""

    file: str
    title: str
    alt: str


class Published(msgspec.Struct, frozen=True):
    """points: of the chart, in order, and where they are from; none until they are measured at this size. of:
    what was trained, of results that were measured here; nothing of those that come with the package.
    """

    points: tuple[Point, ...] = ()
    points_of: tuple[Source, ...] = ()
    matrices: tuple[Matrix, ...] = ()
    growth: tuple[Growth, ...] = ()
    pictures: tuple[Picture, ...] = ()
    size: str = "full"
    of: str = ""

    @property
    def sources(self) -> tuple[Source, ...]:
        """Of everything, each once."""
        matrices, growth = (each.source for each in self.matrices), (each.source for each in self.growth)
        return tuple(dict.fromkeys((*self.points_of, *matrices, *growth)))


def read() -> Published:
    """What is installed with the package."""
    return msgspec.json.decode(DATA.read_bytes(), type=Published)
