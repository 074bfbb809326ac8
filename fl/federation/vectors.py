"""What clients send: a client's update, its number of examples, its loss and its count of correct answers are
named vectors of one session. With a scheme that hides, the server learns their sums and nothing of any one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl.config.protection import BOUND
from fl.config.run import RunConfig
from fl.privacy.mechanisms import TAILS, Level, update_and_count
from fl.privacy.step import deviation_of_update
from fl.robust import Points
from fl.training.local import LocalResult
from secagg import Aggregate, Bounded, Counts, Private, RemoteProtocolError, Roster, Scheme, Weight
from secagg.errors import ClientId
from secagg.specs import Noise, Spec, Vectors

UPDATE, EXAMPLES, LOSS, CORRECT = "update", "examples", "loss", "correct"
BELOW = "below"  # +1/2 of a client whose update's norm is within the round's clip, -1/2 of any other
BELOW_CLIP = 0.5
LOSS_BOUND = 16.0  # nats; of ten classes, chance is 2.3


def scheme_for(
    config: RunConfig,
    clients: int,
    length: int,
    examples: int,
    roster: Roster | None,
    level: Level | None = None,
    *,
    cohort: Collection[ClientId] = (),
    cut: bytes = b"",
) -> Scheme:
    """The session of a training round. length: d of the model; examples: the largest weight; level: of the
    round, None for that of the first. cohort, cut: of groups, as in `Protection.for_cohort`.
    """
    level = level or Level.of(config.privacy)
    if config.privacy.mechanism == "distributed":
        specs = private_specs(config, length, level)
        return config.protection.for_cohort(clients, specs, roster, cohort=cohort, cut=cut)
    vectors: dict[str, Spec] = {UPDATE: bounded_spec(config, length, level, examples)}
    if config.privacy.adaptive_clip:
        vectors[BELOW] = Bounded(length=1, bound=BELOW_CLIP, bits=2)  # both are codes: no rounding
    if config.weighted:
        vectors[EXAMPLES] = Weight(maximum=examples)
    if config.tells_metrics:
        vectors[LOSS] = Bounded(length=1, bound=LOSS_BOUND)
        vectors[CORRECT] = Counts(length=1, maximum=examples)
    return config.protection.for_cohort(clients, vectors, roster, cohort=cohort, cut=cut)


def private_specs(config: RunConfig, length: int, level: Level) -> dict[str, Private]:
    """Of the vectors of a session whose clients add their noise in the ring."""
    of_update, of_count = update_and_count(config.privacy, level, config.per_sum)
    assert level.clip is not None  # noqa: S101 - noise is a multiple of it, as PrivacyConfig has seen to
    noise: Noise = "discrete-gaussian" if config.privacy.kind == "discrete-gaussian" else "skellam"
    bits, clip = config.protection.bits, level.clip
    update = Private(length=length, clip=clip, bits=bits, noise=noise, multiplier=of_update)
    if not config.privacy.adaptive_clip:
        return {UPDATE: update}
    count = Private(length=1, clip=BELOW_CLIP, bits=bits, noise=noise, multiplier=of_count)
    return {UPDATE: update, BELOW: count}


def bounded_spec(config: RunConfig, length: int, level: Level, examples: int = 1) -> Bounded:
    """Of the update. Where clients add noise they have clipped before, and a second clip would bend it: the
    range is then so wide that the noise fits, also the noise of all steps of a client with so many examples.
    Of a mean that the server noises, it is the ball's own.
    """
    privacy, clip = config.privacy, level.clip
    bound = BOUND
    if privacy.mechanism == "local" and clip is not None:
        bound, clip = clip * (1 + TAILS[privacy.kind] * level.multiplier), None
    elif privacy.mechanism == "central" and clip is not None:
        bound = clip
    elif privacy.mechanism == "example" and clip is not None:
        plan = config.training.plan
        spread = deviation_of_update(plan, clip, level.multiplier, examples)
        bound, clip = BOUND + TAILS[privacy.kind] * spread, None  # the clip is of each example's gradient
    bits = config.protection.bits
    return Bounded(length=length, bound=config.protection.bound or bound, bits=bits, clip=clip)


def contribution(result: LocalResult, names: Collection[str], clip: float | None = None) -> dict[str, Any]:
    """Those of a client's vectors that a session asks for. clip: of the task, whether its update is within,
    which it then says, too; None for no such clip.

    Raises: RemoteProtocolError for any other.
    """
    every: dict[str, Any] = {
        UPDATE: result.upload,
        EXAMPLES: result.examples,
        # Cut here: of what encoding clips the client is warned.
        LOSS: np.array([min(result.loss, LOSS_BOUND)]),
        CORRECT: np.array([result.correct]),
    }
    if clip is not None:
        within = float(np.linalg.norm(result.upload.astype(np.float64))) <= clip
        every[BELOW] = np.array([BELOW_CLIP if within else -BELOW_CLIP])
    if UPDATE not in names or not every.keys() >= set(names):
        raise RemoteProtocolError(
            f"the server asks for {', '.join(sorted(names))}; a client has {', '.join(every)}"
        )
    return {name: every[name] for name in names}


def check_of_groups(vectors: Vectors) -> None:
    """Where groups are summed apart a client says nothing of its own loss and accuracy, and how many examples
    it has as a weight alone, which its policy has let be known: as a count it would be told all the same.

    Raises: RemoteProtocolError for vectors that ask for more.
    """
    weight = {EXAMPLES} if isinstance(vectors.get(EXAMPLES), Weight) else set[str]()
    if more := vectors.keys() - weight - {UPDATE, BELOW}:
        raise RemoteProtocolError(
            f"the server asks for {min(more)} of each group of clients; of groups a client tells no loss and "
            "accuracy, and its examples as a weight alone"
        )


def parts_of(totals: Sequence[Aggregate]) -> list[Aggregate]:
    """What a round's sums were opened as: their parts where they have some, one a client or one a group."""
    return [part for total in totals for part in total.parts or (total,)]


def points_of(totals: Sequence[Aggregate]) -> Points:
    """What a round's sums tell, as a rule is given it."""
    parts = parts_of(totals)
    return Points(
        tuple(part.survivors for part in parts),
        np.stack([part.mean[UPDATE] for part in parts]),
        np.array([_weight(part) for part in parts]),
    )


def examples_of(totals: Sequence[Aggregate]) -> float:
    return sum(map(_weight, totals)) or 1.0


def _weight(total: Aggregate) -> float:
    """Of all its clients: their examples; where weights would tell too much, each counts 1."""
    return float(total.sum[EXAMPLES][0]) if EXAMPLES in total.sum else float(len(total.survivors))


def mean_of(totals: Sequence[Aggregate], name: str) -> NDArray[np.float64]:
    """The weighted mean over the clients of all clusters: of the clusters' means, by their examples."""
    if len(totals) == 1:
        return totals[0].mean[name]
    shares = [_weight(total) / examples_of(totals) for total in totals]
    parts = [share * total.mean[name] for share, total in zip(shares, totals, strict=True)]
    return np.sum(parts, axis=0)  # type: ignore[no-any-return]
