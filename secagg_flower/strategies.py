"""What a strategy of Flower's must not be: one that learns of single replies what a mean does not have."""

from __future__ import annotations

from typing import Any, Final

from flwr.serverapp import strategy as flower

from secagg import LocalProtocolError

_COPIES: Final = "looks at single replies, each of which is the mean here: it would defend against nobody"
_TREES: Final = "passes on each client's trees, of which there is no mean"
_CLIPPED: Final = (
    "clips each reply by itself, and here clips their mean: its noise would hide no client. Clip where the "
    "clients are"
)
REFUSED: Final[dict[type, str]] = {
    flower.MultiKrum: _COPIES,  # and Krum, which is one
    flower.Bulyan: _COPIES,
    flower.FedMedian: _COPIES,
    flower.FedTrimmedAvg: _COPIES,
    flower.QFedAvg: "weighs each reply by its own loss, which is the mean's here",
    flower.FedXgbBagging: _TREES,
    flower.FedXgbCyclic: _TREES,
    flower.DifferentialPrivacyServerSideFixedClipping: _CLIPPED,
    flower.DifferentialPrivacyServerSideAdaptiveClipping: _CLIPPED,
    flower.DifferentialPrivacyClientSideAdaptiveClipping: (
        "counts who has clipped, where all replies say the same here: use fixed clipping"
    ),
}
"""Flower's strategies, with what is derived from them, and why. All others of Flower's average."""


def check(strategy: Any) -> None:
    """None: nothing is known of it. What somebody has derived from an average of Flower's is taken for one.

    Raises: LocalProtocolError for one of Flower's that learns more of replies than their mean, or wraps one.
    """
    for refused, why in REFUSED.items():
        if isinstance(strategy, refused):
            raise LocalProtocolError(f"{type(strategy).__name__} is not for secure sums: it {why}")
    # An account holds where all weigh the same, and Flower has it look at each reply's number of examples.
    if getattr(strategy, "accountant", None) is not None:
        raise LocalProtocolError(
            f"{type(strategy).__name__} accounts for clients that all weigh the same, and under secure sums "
            "nobody sees whether they do: leave its accountant out"
        )
    if isinstance(inner := getattr(strategy, "strategy", None), flower.Strategy):  # what it wraps
        check(inner)
