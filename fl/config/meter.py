"""[meter]: what the server of a run could get out of what it read, tried at the end of it."""

from __future__ import annotations

from typing import Annotated

import msgspec

from fl.config.section import setting, settle


class MeterConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether the server's own record of a run is attacked when the run has ended, and what that may cost.

    Raises: ConfigError for a value of the wrong type or out of its range.
    """

    on: Annotated[
        bool, setting("After the run, attack what its server could read: what leaks.", name="meter")
    ] = False
    rounds: Annotated[
        int,
        setting("Of how many rounds, the last, it attacks what was read.", name="meter_rounds", ge=1, le=100),
    ] = 2
    memory: Annotated[
        int,
        setting("Megabytes of it that are kept at most.", name="meter_memory", ge=1, le=1_000_000),
    ] = 256
    time: Annotated[
        float,
        setting(
            "Seconds of a processor for an attack on what it read, and as many for each control.",
            name="meter_time",
            gt=0,
            le=100_000,
        ),
    ] = 3.0

    def __post_init__(self) -> None:
        settle(self)
