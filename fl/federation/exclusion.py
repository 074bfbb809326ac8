"""Sums that came to no end: which of them a run goes on after, and whom it asks no more."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fl.config.run import RunConfig
from secagg import RemoteProtocolError, SecAggError, TooFewClients
from secagg.errors import ClientId, RelayLost, counted
from transport import Refused

KEPT: Final = "cohort.excluded"  # in a checkpoint


class Excluding(TooFewClients):
    """Too few clients are left, without those that a run asks no more. excluded: client -> why."""

    def __init__(self, message: str, few: TooFewClients, excluded: Mapping[ClientId, str]) -> None:
        SecAggError.__init__(self, message)  # TooFewClients would make a message of its own
        vars(self).update(vars(few))
        self.excluded = dict(excluded)


class Exclusion:
    """Of one run. A sum whose vectors had been asked for is never asked for again: the next round is another
    context, of the clients that are not excluded.

    memory: what the checkpoint of a run that goes on has kept.
    """

    def __init__(self, config: RunConfig, memory: Mapping[str, NDArray[np.float64]]) -> None:
        self._config = config
        before = memory.get(KEPT, np.empty(0)).astype(int).tolist()
        self.why = {u: f"client {u} was named before this run was resumed" for u in before}

    @property
    def memory(self) -> dict[str, NDArray[np.float64]]:
        """What has to be kept to go on from here."""
        return {KEPT: np.array(sorted(self.why), np.float64)} if self.why else {}

    def of(self, cohort: Iterable[ClientId]) -> dict[ClientId, str]:
        """Who of these is not asked, and why."""
        return {u: f"excluded: {self.why[u]}" for u in cohort if u in self.why}

    def candidates(self, ids: Collection[ClientId], needed: int) -> list[ClientId]:
        """Of whom a round of so many is chosen. The excluded fill it up where the others are too few: a
        cohort of another size would be one of other parameters, which clients may refuse, other groups and
        batches, and noise for another number. They are not asked, and count as dropped.
        """
        others = [u for u in ids if u not in self.why]
        return sorted([*others, *[u for u in ids if u in self.why][: max(0, needed - len(others))]])

    def abandoned(
        self,
        error: TooFewClients | RemoteProtocolError,
        round: int,
        cohort: Collection[ClientId],
        *,
        closed: bool,
    ) -> str | None:
        """Why the sum of this cohort is given up while the run goes on; None where the run ends with the
        error. closed: whether all protocol rounds were.

        Raises: Excluding, where the run ends for want of clients, some of whom are excluded.
        """
        if self._config.protection.kept:  # those who keep the model have none to go on from
            return None
        if isinstance(error, RemoteProtocolError):
            # Else a party in this process refuses what it hears, and would do so again.
            return self._unopened(error, round) if closed else None
        excluded = {u: self.why[u] for u in cohort if u in self.why}
        # What one client dealt or held back, unlike a network that is down, does not end a run.
        goes_on = self._config.cohort.abandons or bool(error.unusable)
        if goes_on and len(cohort) - len(excluded) >= min(error.needed, len(cohort)):
            left = counted(error.alive, "relay" if isinstance(error, RelayLost) else "client")
            of = f" with a share of client {error.of} that can be used" if error.unusable else ""
            refused = f", {len(error.refused)} refused" if isinstance(error, Refused) else ""
            return f"{left} left in {error.round}{of}, {error.needed} needed{refused}"
        if excluded:
            whys = "; ".join(why for _, why in sorted(excluded.items()))
            raise Excluding(f"{error}. Asked no more: {whys}", error, excluded) from error
        return None

    def _unopened(self, error: RemoteProtocolError, round: int) -> str:
        """What came back of the clients does not open the sum. They are named on their own signed bytes: in
        sessions in which nothing is signed nobody is.
        """
        self.why |= {u: f"{error} (round {round})" for u in error.culprits if u not in self.why}
        return f"{error}{'' if error.culprits else '; who is at fault cannot be told'}"
