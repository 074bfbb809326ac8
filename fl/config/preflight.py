"""How much of its own examples a client lets its update give away: its own rule, as `Limits` is for what it
computes. What looks is `fl.preflight`.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from fl.config.section import ConfigError

Action = Literal["refuse", "warn", "off"]
_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Examples = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]

SHARES: Final = ((50, 0.6), (100, 0.3), (200, 0.2), (500, 0.1))
"""(from so many examples in an update on, the largest share of them that may come out). Of fewer an honest
model gives most away, and no share tells it from a crafted one. By `secagg bench leakage preflight`: the
largest of honest runs of one seed, and a little more; it counts the alarms in runs of another.
"""


class Preflight(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table [preflight] of a client's policy file. Of a layer made for reading, whose rows point the same
    way, it lets nothing come out.

    action: of an update that gives more away: it does not leave (refuse), or leaves, and whoever runs the
    client is told (warn); off looks at nothing. shares: as SHARES; below the first number any share will do.
    """

    action: Action = "refuse"
    shares: tuple[tuple[_Examples, _Share], ...] = SHARES

    def __post_init__(self) -> None:
        if not self.shares:
            raise ConfigError(
                "shares of none let any share come out: leave the key out, or say action = 'off'"
            )

    def largest(self, examples: int) -> float:
        """The largest share of so many examples that may come out."""
        return max((each for each in self.shares if each[0] <= examples), default=(0, 1.0))[1]


OFF: Final = Preflight(action="off")
