"""What a client lets the sums that it is in tell of its vectors, whatever servers say: its own account, over
all sessions of its key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal, Protocol

import msgspec

from fl.marks import in_unsafe_groups
from fl.privacy.accounting import RenyiFilter, order_for
from fl.privacy.releases import Release, rdp
from fl.privacy.spending import comes_apart, discrete_release, failure, in_session
from secagg import Masking, RemoteProtocolError, Scheme
from secagg.params import NoisedParameters

FAILURES: Final = 0.01
"""Of a budget's delta, what is kept for the chance that the draw of sparse graphs fails in any session."""


class Budget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table [privacy] of a client's policy file: epsilon at delta, the most that all sessions may cost.

    order: of the Rényi divergence in which it is counted, fixed with the first session; None for the one at
    which the most sessions under normal noise fit. protects: what may be replaced by zero, all that this
    client contributes, or one of its examples. Noise for the one says nothing of the other: that on examples
    leaves their sum to be read, and that on a client's sum is half of what an example in it needs.
    """

    epsilon: Annotated[float, msgspec.Meta(gt=0, le=1e6)]
    delta: Annotated[float, msgspec.Meta(gt=0, le=0.01)] = 1e-5
    order: Annotated[float, msgspec.Meta(gt=1, le=1024)] | None = None
    protects: Literal["client", "example"] = "client"

    @property
    def best_order(self) -> float:
        """Raises: ConfigError where nothing could be spent."""
        order = self.order or order_for(self.epsilon, self.delta)
        return RenyiFilter(self.epsilon, self.delta * (1 - FAILURES), order=order).order


class Record(Protocol):
    """What a key has spent, on disk: `transport.journal.Spent`."""

    @property
    def order(self) -> float | None: ...

    def check(self, order: float, cost: float, most: float) -> float: ...

    def charge(self, order: float, cost: float, most: float) -> None: ...


@dataclass(frozen=True)
class Account:
    """A budget, and what is spent of it.

    A server chooses what it asks for by what it has learned, so that the costs of all sessions make no
    epsilon by themselves: a Rényi filter allows what fits in at one order (Feldman, Zrnic, 2008.11193).
    """

    budget: Budget
    spent: Record = field(repr=False)

    @property
    def order(self) -> float:
        return self.budget.order or self.spent.order or self.budget.best_order

    @property
    def left(self) -> float:
        """The share that is left, in 0..1. Raises: as `check`."""
        most = self._most(order := self.order)
        return self.spent.check(order, 0.0, most) / most

    def check(self, releases: Sequence[Release], failure: float = 0.0) -> None:
        """Before anything is computed for a session that would tell this, but for a chance of failure.

        Raises: RemoteProtocolError if it would be more than what is left; LocalProtocolError where the record
        is of another order than the budget's; ConfigError for a budget that allows nothing.
        """
        self.spent.check(*self._cost(releases, failure))

    def charge(self, releases: Sequence[Release], failure: float = 0.0) -> None:
        """Put it on record, durably, before the vectors leave. An input that never arrives is charged, too.

        Raises: as `check`, and TransportError if the record cannot be kept.
        """
        self.spent.charge(*self._cost(releases, failure))

    def _cost(self, releases: Sequence[Release], failure: float) -> tuple[float, float, float]:
        """(order, what the releases cost, all that there is), in Rényi divergence."""
        if not releases:
            raise RemoteProtocolError(
                "the server asks for vectors without noise, which no budget allows; this client keeps to one "
                "([privacy], in its policy)"
            )
        order = self.order
        most = self._most(order)
        # A failure spends as large a share of all there is as it has in what is kept for failures: while the
        # first sum stays within the budget, so does that of the failures.
        of_failure = most * failure / (FAILURES * self.budget.delta)
        return order, sum(rdp(release, order) for release in releases) + of_failure, most

    def _most(self, order: float) -> float:
        delta = self.budget.delta * (1 - FAILURES)
        return RenyiFilter(self.budget.epsilon, delta, order=order).left


@dataclass
class Charged:
    """The sessions of one client on its account: `accepted` and `leaving` as `transport.Peer.contribute`
    calls them. Of vectors that are not private, `asked` hears what they tell once the client knows its task.
    """

    account: Account
    trains: bool
    _releases: tuple[Release, ...] = ()
    _failure: float = 0.0

    def accepted(self, scheme: Scheme) -> None:
        """Raises: as `Account.check`; RemoteProtocolError for noise that protects something else."""
        self._releases = of_private(scheme)
        self._failure = failure(scheme) if self._releases else 0.0
        if self._releases:
            self._protects("client")
        if self._releases or not self.trains:  # else it depends on the task, which is still to come
            self.account.check(self._releases, self._failure)

    def asked(self, releases: Sequence[Release], *, of_examples: bool = False) -> None:
        """What the task has the client noise itself: its update, or each of its examples. Raises: as
        `accepted`.
        """
        if releases:
            self._protects("example" if of_examples else "client")
        self._releases = (*self._releases, *releases)
        self.account.check(self._releases, self._failure)

    def _protects(self, noise: str) -> None:
        if noise != (protects := self.account.budget.protects):
            raise RemoteProtocolError(
                f"the server asks for noise that protects one {noise}, and this client's budget is of one "
                f"{protects} (protects, under [privacy] in its policy)"
            )

    def leaving(self) -> None:
        """Raises: as `Account.charge`."""
        self.account.charge(self._releases, self._failure)


def of_private(scheme: Scheme) -> tuple[Release, ...]:
    """What the private vectors of a session tell: under no more noise than the honest who are sure to be left
    add, whoever else does; where an active server can cut this client off from them, or its group is unsafe,
    under its own share alone. Empty where the session has none.
    """
    if not isinstance(scheme, NoisedParameters):
        return ()
    shares = 1 if isinstance(scheme, Masking) and _alone(scheme) else scheme.honest
    of_each = (discrete_release(scheme.calibration(name), shares=shares) for name in scheme.private)
    return in_session(of_each, scheme.blank)


def _alone(scheme: Masking) -> bool:
    """Whether no other client's noise is sure to be in the sum."""
    return comes_apart(scheme) or in_unsafe_groups(scheme)
