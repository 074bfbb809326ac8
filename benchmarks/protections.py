"""The ways of protecting one training that are held against each other: the rows of benchmarks/matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

EPSILONS: Final = (50.0, 8.0, 1.0)
"""Of all rounds of a run: what promises next to nothing, what is usual, and what promises much."""
EPSILON: Final = 8.0
"""Of all rows of which there is one alone: so that they differ by who adds the noise, and to what."""
CLIP: Final = 0.5  # of an update
EXAMPLE_CLIP: Final = 1.0  # of the gradient of an example
BATCH: Final = 5  # clients
BLANK: Final = 0.2
DECOYS: Final = 4
GROUPS: Final = (5, 2)  # clients of each; two are too few for what a group promises, and run as an experiment
CLIENTS: Final = 20
"""Of the training that cost and accuracy are of."""


Settings = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Protection:
    """A row: a scheme, and what is done to updates beside it (mechanism, "" for nothing).

    settings: of `RunConfig`, beyond the scheme. group: clients of each group that is summed apart, 0 for one
    sum of all. clear: whether the server sees each client's update, noised or not, so that a rule can tell
    them apart. kept: whether the clients alone have the sum, and the model.
    """

    scheme: str
    mechanism: str = ""
    settings: Settings = ()
    group: int = 0

    @property
    def name(self) -> str:
        return f"{self.scheme}, {self.mechanism}" if self.mechanism else self.scheme

    @property
    def all_settings(self) -> dict[str, Any]:
        """By name, as `RunConfig.of` takes them, of a cohort of CLIENTS."""
        return self.settings_of(CLIENTS)

    def settings_of(self, clients: int) -> dict[str, Any]:
        """The same of any cohort: of a larger one there are more groups."""
        groups = {"groups": max(1, clients // self.group)} if self.group else {}
        return {"scheme": self.scheme, **groups, **dict(self.settings)}

    @property
    def clear(self) -> bool:
        return self.scheme == "plain"

    @property
    def kept(self) -> bool:
        return self.scheme == "decoys" or dict(self.settings).get("ending") == "keep"

    @property
    def parted(self) -> bool:
        """Whether the server sees parts of a round, of which a rule can make more than their mean."""
        return self.clear or self.group > 0

    @property
    def flags(self) -> str:
        """What is typed after `secagg train` for it."""
        return " ".join(
            _typed(f"--{name.replace('_', '-')}", value) for name, value in self.all_settings.items()
        )


def _typed(flag: str, value: Any) -> str:
    if value is True:
        return flag
    return f"{flag} {value:g}" if isinstance(value, float) else f"{flag} {value}"


def _noised(mechanism: str, epsilon: float = EPSILON, clip: float = CLIP) -> Settings:
    return ("privacy", mechanism), ("clip", clip), ("epsilon", epsilon)


PLAIN: Final = Protection("plain")
PROTECTIONS: Final = (
    PLAIN,
    Protection("plain", f"local noise, epsilon {EPSILON:g}", _noised("local")),
    Protection("plain", f"noise in the steps, epsilon {EPSILON:g}", _noised("example", clip=EXAMPLE_CLIP)),
    Protection("masking"),
    Protection("masking", f"by batches of {BATCH}", (("batch", BATCH),)),
    *(
        Protection("masking", f"distributed noise, epsilon {e:g}", _noised("distributed", e))
        for e in EPSILONS
    ),
    Protection("masking", f"central noise, epsilon {EPSILON:g}", _noised("central")),
    Protection("ckks", "release", (("ending", "release"),)),
    Protection("ckks", "keep", (("ending", "keep"),)),
    Protection("split"),
    Protection(
        "masking",
        f"blanks of {BLANK:g}, distributed noise, epsilon {EPSILON:g}",
        (("blank", BLANK), *_noised("distributed")),
    ),
    Protection("decoys", "keep", (("decoys", DECOYS),)),
    *(
        Protection(
            "masking",
            f"groups of {of}, median" + (", unsafe" if unsafe else ""),
            (*((("unsafe_groups", True),) if unsafe else ()), ("robust", "median")),
            group=of,
        )
        for of, unsafe in zip(GROUPS, (False, True), strict=True)
    ),
)
"""The first is the control of all others."""


QUICK: Final = tuple(
    each
    for each in PROTECTIONS
    if each.name
    in {
        "plain",
        f"plain, local noise, epsilon {EPSILON:g}",
        "masking",
        f"masking, distributed noise, epsilon {EPSILON:g}",
        "ckks, keep",
        "split",
    }
)
"""The rows of the quick size: no protection, noise alone, a sum alone, both, and what nobody but the clients
has, or many hold a part of.
"""


def by_name(name: str) -> Protection:
    """The one of this name."""
    (found,) = (each for each in PROTECTIONS if each.name == name)
    return found
