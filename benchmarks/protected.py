"""One training under each protection: what the tables of costs and of attackers share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from benchmarks.harness import GPU, Row
from benchmarks.protections import CLIENTS, PROTECTIONS, QUICK, Protection
from fl.config.run import RunConfig

TASK: Final[Mapping[str, Any]] = {"clients": CLIENTS, "metrics": False}
"""What all have, beside the defaults. Sums of the clients' own loss and accuracy are left out, since a
session of private vectors has no others.
"""
LAST: Final = 3
"""Rounds whose mean is an accuracy: few are trained, and under noise one is far from the next."""


@dataclass(frozen=True)
class Size:
    """protections, rounds, seeds: how many of each. dataset, model: what is trained, device: on what."""

    protections: tuple[Protection, ...]
    rounds: int
    seeds: int
    dataset: str = "digits"
    model: str = "mlp"
    device: str = "cpu"

    @property
    def task(self) -> dict[str, Any]:
        """As settings."""
        return {"dataset": self.dataset, "model": self.model, "rounds": self.rounds, "device": self.device}


SIZES: Final = {
    "quick": Size(QUICK, 5, 1),
    "full": Size(PROTECTIONS, 15, 3),
    GPU: Size(PROTECTIONS, 15, 3, "mnist", "mlp-200", "cuda"),  # the data and the net of the table of leakage
}


def configuration(protection: Protection, how: Size, seed: int, **more: Any) -> RunConfig:
    """more: settings, also in the place of the protection's."""
    return RunConfig.of(**TASK, **how.task, seed=seed, **protection.all_settings | more)


def on_device(how: Size) -> Row:
    """What every row says of what is trained, and on what. Raises: NotImplementedError where that is not to
    be had.
    """
    if how.device == "cpu":
        return {"dataset": how.dataset, "device": how.device}
    if not torch.cuda.is_available():
        raise NotImplementedError(f"--size {GPU} needs a GPU that torch can use: see `secagg info`")
    return {"dataset": how.dataset, "device": torch.cuda.get_device_name(how.device)}


def named(protection: Protection) -> Row:
    """What every row of the matrix has of its protection."""
    return {
        "protection": protection.name,
        "scheme": protection.scheme,
        "mechanism": protection.mechanism,
    }


def value(name: str, number: Any, why: str) -> Row:
    """A number under its name, or None and beside it why there is none: what does not apply is not 0."""
    return {name: number} if number is not None else {name: None, f"{name}_why": why}


def by_protection(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each, in the order in which they come."""
    by: dict[str, list[Row]] = {}
    for row in rows:
        by.setdefault(row["protection"], []).append(row)
    return by
