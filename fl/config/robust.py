"""[robust]: the rule by which the server combines updates, some of which may be an attacker's."""

from __future__ import annotations

import math
from typing import Annotated, Final

import msgspec

from fl.config.section import setting, settle

RULES: Final = (
    "mean",
    "median",
    "trimmed-mean",
    "weighted-trimmed",
    "krum",
    "multi-krum",
    "bulyan",
    "nnm",
    "bucketing",
    "geometric-median",
    "centred-clipping",
    "norm-bound",
    "rlr",
    "draco",
    "mmse",
    "fltrust",
    "test-weighting",
    "leave-one-out",
    "reputation",
)  # as fl.robust.RULES; tests/fl/config/test_robust.py compares the two
ON_ROOT: Final = ("fltrust",)
"""Rules that hold updates against one that the server trains itself."""
ON_VALIDATION: Final = ("test-weighting", "leave-one-out")
"""Rules that ask how well models do on data of the server's."""


class RobustConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the server combines updates, and what it has of its own to do so.

    Raises: ConfigError for a value of the wrong type or out of its range.
    """

    rule: Annotated[
        str,
        setting(
            "How the server combines updates, or sums of --groups of them: see `secagg list rules`.",
            name="robust",
            words=RULES,
        ),
    ] = "mean"
    assumed: Annotated[
        float, setting("Share of the clients that a rule takes for attackers.", ge=0, lt=1)
    ] = 0.2
    root: (
        Annotated[
            int,
            setting(
                "Training examples that the server keeps, to train on itself.",
                unset="none",
                ge=1,
                le=2**31 - 1,
            ),
        ]
        | None
    ) = None
    redundancy: Annotated[
        int, setting("Clients that hold the same examples, so that they can be compared.", ge=1, le=1_000)
    ] = 1

    def __post_init__(self) -> None:
        settle(self)

    @property
    def counts(self) -> bool:
        """Whether all that a rule needs is parts enough for the attackers that are assumed."""
        return self.rule not in ("mmse", *ON_ROOT, *ON_VALIDATION)

    def attackers(self, clients: int) -> int:
        """How many of so many clients are taken for attackers."""
        return math.floor(self.assumed * clients + 1e-9)  # .29 * 100 is a little below 29

    @property
    def is_mean(self) -> bool:
        """Whether updates are taken as they come."""
        return self.rule == "mean"


def assuming(attackers: int, clients: int) -> float:
    """The share to assume for so many of these clients, with digits that can be typed."""
    return math.ceil(round(attackers / clients * 1e4, 6)) / 1e4
