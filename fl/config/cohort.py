"""[cohort]: who takes part in a run, and in which of its rounds."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from fl.config.section import ConfigError, setting, settle
from secagg.errors import counted


class CohortConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who takes part, and how a round chooses, groups and loses them.

    Raises: ConfigError for a value of the wrong type, out of its range, or that contradicts another."""

    clients: Annotated[int, setting("Clients, N.", ge=1, le=10_000)] = 8
    sample: (
        Annotated[int, setting("Clients of each round, K: 10, or 0.1 of all.", unset="all", ge=1, le=10_000)]
        | Annotated[float, Meta(gt=0, lt=1)]
        | None
    ) = None
    select: Annotated[
        Literal["chance", "quality", "channel"],
        setting("By what they are chosen: chance, or what they declare."),
    ] = "chance"
    cluster: (
        Annotated[
            Literal["label", "place", "mode"],
            setting("One sum for each cluster of clients; mode is that of upload."),
        ]
        | None
    ) = None
    links: (
        Annotated[
            Literal["lte", "wifi", "5g", "mixed"],
            setting("Model of the clients' network; its delay is recorded."),
        ]
        | None
    ) = None
    deadline: (
        Annotated[
            float,
            setting("Seconds for training and for the upload; in one process, of the links' model.", gt=0),
        ]
        | None
    ) = None
    minimum: (
        Annotated[
            int,
            setting(
                "Uploads that a sum needs, of each cluster where there are some, else it is abandoned.",
                ge=1,
                le=10_000,
            ),
        ]
        | None
    ) = None
    drop: Annotated[
        tuple[str, ...], setting("Kill a client in a round: 3@share-keys, 5@masked-input:50%.")
    ] = ()
    """ID@ROUND[:TRAINING-ROUND] each; the command line reads them."""
    baseline: Annotated[bool, setting("Run the plain scheme beside it.")] = True

    def __post_init__(self) -> None:
        settle(self)
        by_links = self.select == "channel" or self.cluster in ("place", "mode")
        ConfigError.unless(
            not isinstance(self.sample, int) or self.sample <= self.clients,
            f"sample = {self.sample}: the choice is of {counted(self.clients, 'client')}",
        )
        ConfigError.unless(
            self.select == "chance" or self.sample is not None,
            f"select = {self.select!r} chooses the clients of a round: say how many with sample",
        )
        ConfigError.unless(
            not by_links or self.links is not None,
            "to select by channel, or cluster by place or mode, there have to be links: give links too",
        )
        ConfigError.unless(
            self.minimum is None or self.minimum <= self.per_round,
            f"minimum = {self.minimum}: a round has {counted(self.per_round, 'client')}",
        )

    @property
    def per_round(self) -> int:
        """K, the clients of each round."""
        if isinstance(self.sample, float):
            return max(1, round(self.sample * self.clients))
        return self.clients if self.sample is None else self.sample

    @property
    def abandons(self) -> bool:
        """Whether a round that comes to no end leaves the model as it was, and the run goes on."""
        return self.minimum is not None or self.deadline is not None

    @property
    def parted(self) -> bool:
        """Whether some sums are of some clients only."""
        return self.sample is not None or self.cluster is not None
