"""[attack]: what the malicious clients of a run do, how many they are, and when."""

from __future__ import annotations

from typing import Annotated

import msgspec

from fl.config.section import ConfigError, setting, settle
from fl.poisoning import DATA, UPDATES
from fl.poisoning.timing import attacks, windows
from fl.poisoning.updates import COLLUDING

_Class = {"ge": 0, "le": 65_535}


class AttackConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which of the clients attack, and how: with their data, or with what they send.

    Raises: ConfigError for a value of the wrong type or out of its range.
    """

    name: (
        Annotated[
            str,
            setting("What malicious clients do.", name="attack", words=(*DATA, *UPDATES)),
        ]
        | None
    ) = None
    attackers: Annotated[float, setting("Share of the clients that are malicious.", gt=0, le=1)] = 0.1
    availability: (
        Annotated[
            float,
            setting(
                "Probability that a place in a round is an attacker's, while there are any.",
                unset="all clients alike",
                ge=0,
                le=1,
            ),
        ]
        | None
    ) = None
    rounds: Annotated[
        str,
        setting("Rounds of the attack: 40:60, or several by commas.", name="attack_rounds", unset="all"),
    ] = ""
    level: (
        Annotated[
            float,
            setting(
                "How much of it, in its own measure.",
                name="attack_level",
                unset="the attack's own",
                ge=0,
                le=1e6,
            ),
        ]
        | None
    ) = None
    boost: Annotated[
        float,
        setting("How many times what poisoned data gave is sent.", name="attack_boost", gt=0, le=1e6),
    ] = 1.0
    victim: Annotated[int, setting("Class that is attacked.", name="attack_victim", **_Class)] = 7
    target: Annotated[int, setting("Class that is wanted in its place.", name="attack_target", **_Class)] = 9
    omniscient: Annotated[bool, setting("Attackers know what everybody has trained.")] = False
    skip_clip: Annotated[
        bool, setting("Attackers skip the clip, as clients of their own would: else they keep to it.")
    ] = False

    def __post_init__(self) -> None:
        settle(self)
        try:
            windows(self.rounds)
        except ValueError as error:
            raise ConfigError(f"attack_rounds: {error}") from error
        ConfigError.unless(
            not self.omniscient or self.name in COLLUDING,
            f"omniscient: of what others have trained only {', '.join(sorted(COLLUDING))} make anything",
        )
        ConfigError.unless(
            not self.skip_clip or self.name is not None,
            "skip_clip: nobody attacks: say with attack what malicious clients do",
        )

    @property
    def of_data(self) -> bool:
        return self.name in DATA

    @property
    def colluding(self) -> bool:
        """Whether attackers look at what their accomplices have trained."""
        return self.name in COLLUDING

    def at(self, round: int) -> bool:
        """Whether there is an attack in this round."""
        return self.name is not None and attacks(self.rounds, round)

    def number_of(self, clients: int) -> int:
        """How many of so many clients attack."""
        return 0 if self.name is None else round(self.attackers * clients)
