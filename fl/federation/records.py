"""What a training round tells, and what it leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl.config.plan import Way
from fl.federation.vectors import CORRECT, LOSS, UPDATE, examples_of, mean_of
from fl.preflight import Verdict
from fl.training.checkpoint import Checkpoint
from secagg import Aggregate
from secagg.errors import ClientId
from transport import RoundReport


@dataclass(frozen=True)
class Learned:
    """What a training round tells whoever has its sum, or its sums.

    accuracy, loss: of the new model on a test set; None without one. validation: its accuracy on what was
    held out of the training data. train_loss, train_accuracy: weighted means over the clients' own examples,
    of sums that hid them, None where the session has none; the loss while they train, the accuracy before,
    of the model that they received.
    error_bound: no weight of the mean is farther off; None of a sum that carries noise of its own.
    """

    accuracy: float | None
    loss: float | None
    validation: float | None
    train_loss: float | None
    train_accuracy: float | None
    error_bound: float | None

    @classmethod
    def of(
        cls,
        totals: Sequence[Aggregate],
        evaluated: tuple[float, float] | None = None,
        validation: float | None = None,
    ) -> Learned:
        """evaluated: accuracy and loss of the new model. totals: of the clusters, disjoint."""
        accuracy, loss = evaluated or (None, None)
        return cls(
            accuracy,
            loss,
            validation,
            float(mean_of(totals, LOSS)[0]) if LOSS in totals[0].sum else None,
            float(sum(total.sum[CORRECT][0] for total in totals) / examples_of(totals))
            if CORRECT in totals[0].sum
            else None,
            max((total.error_bound[UPDATE] for total in totals if total.error_bound), default=None),
        )


@dataclass(frozen=True)
class RoundRecord:
    """One training round, as the server saw it; a line of metrics.jsonl.

    accuracy to train_accuracy, error_bound: as in `Learned`; None where the clients keep the sum, or the
    round was abandoned. bytes_up, bytes_down: of the protocol's messages, all clients together;
    relay_bytes_up, relay_bytes_down: all relays together; relay_seconds: of the protocol rounds that waited
    for relays alone; None where there are none. chosen: how
    many were asked; alive: how many are in the sum, over `sums` sums of `sums_asked`, one for each cluster or
    group.
    delay: seconds that the model of links and devices gives the slowest client in the sum; None without
    links. abandoned: why the model stayed as it was, "" if it did not. clip: the largest L2 norm of an
    update, of an example's gradient where noise is in the steps; noise: standard deviation of what was added
    to each coordinate of the mean; None where there is none, or it depends on the data. epsilon: of all
    rounds begun until now, this one too, at `delta`; against: whom it holds against, if at least `honest`
    clients of each sum are honest, None where it needs none. no_epsilon: why there is none, though noise is
    added. wraps: how many coordinates of the sum have presumably left the ring, with noise in it.
    left_out: whose updates the server did not take, by its rule or for the length of their group's sum; None
    of the mean, which takes all, where none is too long. too_long: of each group whose sum is longer than its
    clients could make it, its clients; None without groups. unsafe_groups: whether groups may be so small
    that the server's side is nearly all of one: then no sum hides what masking promises to. excluded: whom
    the run asks no more, for what they had signed in a session that failed in this round, or an earlier one.
    """

    round: int
    accuracy: float | None
    loss: float | None
    validation: float | None
    train_loss: float | None
    train_accuracy: float | None
    bytes_up: int
    bytes_down: int
    chosen: int
    alive: int
    sums: int
    sums_asked: int
    seconds: float
    delay: float | None
    abandoned: str
    error_bound: float | None
    clip: float | None = None
    noise: float | None = None
    epsilon: float | None = None
    delta: float | None = None
    against: str | None = None
    honest: int | None = None
    no_epsilon: str | None = None
    wraps: float | None = None
    relay_bytes_up: int | None = None
    relay_bytes_down: int | None = None
    relay_seconds: float | None = None
    left_out: Sequence[ClientId] | None = None
    too_long: Sequence[Sequence[ClientId]] | None = None
    unsafe_groups: bool = False
    excluded: Sequence[ClientId] = ()

    @classmethod
    def of(cls, learned: Learned | None, reports: Sequence[RoundReport], **rest: Any) -> RoundRecord:
        """learned: by the server. rest: the fields that the two do not give."""
        nothing = dict.fromkeys(Learned.__dataclass_fields__)
        clients = [report.of_clients for report in reports]
        return cls(
            bytes_up=sum(sum(report.up.values()) for report in clients),
            bytes_down=sum(sum(report.down.values()) for report in clients),
            **_of_relays(reports),
            **(nothing if learned is None else asdict(learned)),
            **rest,
        )


def _of_relays(reports: Sequence[RoundReport]) -> dict[str, Any]:
    """The fields that are of relays: none where there are none."""
    relays = [report.of_relays for report in reports]
    if not any(report.up for report in relays):
        return {}
    return {
        "relay_bytes_up": sum(sum(report.up.values()) for report in relays),
        "relay_bytes_down": sum(sum(report.down.values()) for report in relays),
        "relay_seconds": sum(
            report.seconds
            for report, relay in zip(reports, relays, strict=True)
            if relay.up and not report.of_clients.up
        ),
    }


@dataclass(frozen=True)
class Local:
    """What clients in this process would say of themselves; over a network each says it where it is.

    way, rates: how they are computed, and client-steps a second of each way that was tried. clipped: how many
    coordinates of whose upload were beyond the bound. learned, parameters: where they keep the model, what
    they learned of it and itself, (d,) float64. looked: what each one's update gives away of its examples,
    where that was looked at.
    """

    way: Way | None = None
    rates: Mapping[str, float] = field(default_factory=dict)
    clipped: Mapping[ClientId, int] = field(default_factory=dict)
    learned: Learned | None = None
    parameters: NDArray[np.float64] | None = field(default=None, repr=False)
    looked: Mapping[ClientId, Verdict] = field(default_factory=dict)


@dataclass(frozen=True)
class Trained:
    """What a round leaves: its record, who is in each of its sums, the global model as (d,) float64, None
    where the clients keep it, what a resumed run goes on from, and whom the server's rule left out.
    """

    record: RoundRecord
    survivors: tuple[frozenset[ClientId], ...]
    parameters: NDArray[np.float64] | None
    checkpoint: Checkpoint
    left_out: frozenset[ClientId] = frozenset()
    local: Local = field(default_factory=Local)
