"""[data]: what the clients of a run hold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from fl.config.section import setting, settle
from fl.data import DATASETS


class DataConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which data there are, who holds what of them, and what is done to it.

    Raises: ConfigError for a value of the wrong type or out of its range."""

    dataset: Annotated[str, setting("See `secagg list data`.", words=tuple(DATASETS))] = "digits"
    data_dir: Annotated[str, setting("Where data sets are looked for.")] | None = None
    partition: Annotated[
        Literal["dirichlet", "iid", "shards", "quantity"],
        setting("Who holds what: `secagg data picture` draws it."),
    ] = "dirichlet"
    alpha: Annotated[
        float,
        setting(
            "With --partition dirichlet or quantity, concentration: small is skewed, large is even.",
            ge=1e-3,
            le=1e6,
        ),
    ] = 0.5
    classes_per_client: Annotated[int, setting("With --partition shards.", ge=1, le=65_536)] = 2
    examples_per_client: (
        Annotated[
            int, setting("Just so many each; clients overlap if there are too few.", ge=1, le=2**31 - 1)
        ]
        | None
    ) = None
    validation: (
        Annotated[
            float,
            setting(
                "Share of the training data that the server keeps.",
                unset="0.1 with --until-accuracy, else none",
                ge=0,
                le=0.5,
            ),
        ]
        | None
    ) = None
    """For what the server decides, never the test set."""
    damage: (
        Annotated[Literal["noise", "missing", "labels"], setting("What is wrong with some clients' data.")]
        | None
    ) = None
    damage_level: Annotated[float, setting("How wrong.", gt=0, le=1)] = 0.3
    damaged: Annotated[float, setting("Share of the clients with damaged data.", ge=0, le=1)] = 0.3
    max_examples: (
        Annotated[
            int,
            setting(
                "Largest weight of a client, public.",
                unset="--examples-per-client, else all training examples",
                ge=1,
                le=2**31 - 1,
            ),
        ]
        | None
    ) = None

    @property
    def folder(self) -> Path | None:
        return None if self.data_dir is None else Path(self.data_dir)

    def __post_init__(self) -> None:
        settle(self)
