"""What the tests of the page put on it: protections with numbers of every kind, and a run, of any name."""

from __future__ import annotations

from fl.page.published import Matrix, Point, Published, Source
from fl.page.state import OpenRound, ProtocolRound, RunState, TrainingRound

HOSTILE = '</script><script>document.title="owned"</script><img src=x onerror=alert(1)>"\'{{ 7*7 }}=1+1'
SOURCE = Source("matrix/cost", "secagg bench matrix cost --size full", "abc123", "2026-11-30", "2 cores")

PLAIN = Point(
    "plain",
    "plain",
    "",
    "secagg train --scheme plain",
    {"client_ms": 0.0, "bytes_up": 1.0, "leakage": 86.0, "accuracy": 96.1, "epsilon": None},
    {"epsilon": "no noise is added"},
    {"accuracy": 0.5, "leakage": 4.0},
)
MASKING = Point(
    "masking",
    "masking",
    "",
    "secagg train --scheme masking",
    {"client_ms": 9.0, "bytes_up": 0.66, "leakage": 41.0, "accuracy": 96.0, "epsilon": None},
    {"epsilon": "no noise is added"},
    {"client_ms": 1.0},
)
NOISED = Point(
    "masking, distributed noise, epsilon 8",
    "masking",
    "distributed noise, epsilon 8",
    "secagg train --scheme masking --privacy distributed --clip 0.5 --epsilon 8",
    {"client_ms": 12.0, "bytes_up": 0.9, "leakage": 0.0, "accuracy": 74.0, "epsilon": 8.0},
    {"epsilon": "against the server and the corrupt clients"},
)
KEPT = Point(
    "ckks, keep",
    "ckks",
    "keep",
    "secagg train --scheme ckks --ending keep",
    {"client_ms": 140.0, "bytes_up": 8.3, "leakage": None, "accuracy": 96.1, "epsilon": None},
    {"leakage": "the server has ciphertexts alone", "epsilon": "no noise is added"},
)
POINTS = (PLAIN, MASKING, NOISED, KEPT)
MATRIX = Matrix(
    "poisoning-few",
    "poisoning",
    "Few rules",
    "Accuracy in percent",
    "rule",
    "attack",
    ("none", "opposite"),
    (("mean", (95.0, 48.0)), ("krum", (67.0, None))),
    "%",
    "high",
    0,
    100,
    "The mean falls.",
    SOURCE,
    empty="not tried",
)
PUBLISHED = Published(points=POINTS, points_of=(SOURCE,), matrices=(MATRIX,))


def training(round: int, accuracy: float, epsilon: float | None = None, alive: int = 5) -> TrainingRound:
    return TrainingRound(
        round=round,
        accuracy=accuracy,
        loss=1.0,
        validation=None,
        bytes_up=5000 * alive,
        bytes_down=9000,
        chosen=5,
        alive=alive,
        sums=1,
        sums_asked=1,
        seconds=0.5,
        abandoned="",
        epsilon=epsilon,
    )


def state(name: str = "mine") -> RunState:
    return RunState(
        name=name,
        title=f"masking: {name}",
        settings=(("clients", "5"), ("dataset", name)),
        rounds=(training(1, 0.5, 1.5), training(2, 0.75, 2.5, alive=4)),
        total=3,
        protocol=(
            ProtocolRound(
                round="share-keys",
                alive=(0, 1, 2, 4),
                lost={"3": "late"},
                bytes_up=12_345,
                bytes_down=1,
                milliseconds=7.0,
            ),
        ),
        open=OpenRound(round="masked-input", done=2, total=4, answered=(0, 1), awaited=(2, 4)),
        epsilon=2.5,
        delta=1e-5,
        against="the server",
        honest=3,
        status="running",
    )
