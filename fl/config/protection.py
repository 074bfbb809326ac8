"""What protects a run, as its configuration, its command line and its clients' policies all say it."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Collection
from dataclasses import dataclass

from secagg import LocalProtocolError, Policy, Roster, Scheme
from secagg.ckks.packing import Ending
from secagg.masking.choice import Adversary, GraphChoice
from secagg.policy import Likening
from secagg.prg import Prg
from secagg.schemes import SCHEMES
from secagg.specs import Vectors

MASKING_ONLY = ("corrupt", "dropout", "graph", "threshold", "batch", "prg")
"""What ckks would not look at. Neither does plain, but it may be given them: the same run unprotected."""


@dataclass(frozen=True, kw_only=True)
class Protection:
    """scheme: masking, ckks or plain. adversary: None for active, and for ckks semi-honest. ending: of ckks,
    None for release. The rest is as in `secagg.Masking.for_cohort`, None for its defaults.

    Raises: LocalProtocolError for what the scheme cannot keep, or would not look at.
    """

    scheme: str = "masking"
    adversary: Adversary | None = None
    ending: Ending | None = None
    corrupt: int | float | None = None
    dropout: int | float | None = None
    graph: GraphChoice = "auto"
    threshold: int | None = None
    batch: int = 0
    prg: Prg = "aes-128-ctr"
    alike: Likening = "auto"
    small_cohort: bool = False

    def __post_init__(self) -> None:
        if self.scheme != "ckks" and self.ending is not None:
            raise LocalProtocolError(
                f"--ending {self.ending} is for --scheme ckks: {self.scheme} has one ending"
            )
        for name in MASKING_ONLY if self.scheme == "ckks" else ():
            if getattr(self, name) != getattr(Protection, name):
                raise LocalProtocolError(f"--{name} is for --scheme masking: it means nothing to ckks")

    @property
    def against(self) -> Adversary:
        """The adversary, filled in."""
        return self.adversary or ("semi-honest" if self.scheme == "ckks" else "active")

    @property
    def kept(self) -> bool:
        """Whether the clients keep the sum, and the server never has it."""
        return self.ending == "keep"

    def for_cohort(self, clients: int, vectors: Vectors, roster: Roster | None) -> Scheme:
        """Raises: LocalProtocolError where there is no such session."""
        scheme = SCHEMES[self.scheme]
        filled = {"adversary": self.against, "ending": self.ending or "release", "roster": roster}
        settings = dataclasses.asdict(self) | filled
        takes = inspect.signature(scheme.for_cohort).parameters
        own = {name: value for name, value in settings.items() if name in takes}
        return scheme.for_cohort(clients, vectors, **own)

    def policy(self) -> Policy:
        """Of a client that insists on just this."""
        return Policy(
            schemes=frozenset({self.scheme}),
            adversary=self.against,
            corrupt=self.corrupt,
            dropout=self.dropout,
            graph=self.graph,
            threshold=self.threshold,
            batch=self.batch or None,
            prg=self.prg,
            ending=(self.ending or "release") if self.scheme == "ckks" else None,
            smallest_cohort=1 if self.small_cohort else 3,
            alike=self.alike,
        )


def check_installed(schemes: Collection[str]) -> None:
    """Raises: ModuleNotFoundError where a client of one of these schemes would lack a package."""
    if "ckks" in schemes:
        import tenseal  # noqa: F401
        import zstandard  # noqa: F401
