"""What protects a run, as its configuration, its command line and its clients' policies all say it."""

from __future__ import annotations

from dataclasses import dataclass

from secagg import Masking, Plain, Policy, Roster, Scheme
from secagg.encoding import Vectors
from secagg.masking.choice import Adversary, GraphChoice


@dataclass(frozen=True, kw_only=True)
class Protection:
    """scheme: masking or plain. The rest is as in `secagg.Masking.for_cohort`, None for its defaults."""

    scheme: str = "masking"
    adversary: Adversary = "active"
    corrupt: int | float | None = None
    dropout: int | float | None = None
    graph: GraphChoice = "auto"
    threshold: int | None = None
    batch: int = 0
    small_cohort: bool = False

    def for_cohort(self, clients: int, vectors: Vectors, roster: Roster | None) -> Scheme:
        """Raises: LocalProtocolError where there is no such session."""
        if self.scheme == "plain":
            return Plain.for_cohort(clients, vectors, small_cohort=self.small_cohort)
        return Masking.for_cohort(
            clients,
            vectors,
            adversary=self.adversary,
            roster=roster,
            corrupt=self.corrupt,
            dropout=self.dropout,
            graph=self.graph,
            threshold=self.threshold,
            batch=self.batch,
            small_cohort=self.small_cohort,
        )

    def policy(self) -> Policy:
        """Of a client that insists on just this."""
        return Policy(
            schemes=frozenset({self.scheme}),
            adversary=self.adversary,
            corrupt=self.corrupt,
            dropout=self.dropout,
            graph=self.graph,
            threshold=self.threshold,
            batch=self.batch or None,
            smallest_cohort=1 if self.small_cohort else 3,
        )
