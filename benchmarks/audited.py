"""The mechanisms of noise as a run plays them, each with its worst canary, to be audited: what the adversary
sees of it, and how much that speaks for the canary.

Neighbours are as in `fl.privacy.accounting`: the canary's whole contribution, or zero in its place. Every
score is the logarithm of the likelihood ratio of what is seen, or grows with it: no test does better.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray

from fl.config.plan import LocalPlan
from fl.config.privacy import Perturbation
from fl.config.run import RunConfig
from fl.federation.noising import RATE, Noising
from fl.federation.vectors import BELOW, BELOW_CLIP, UPDATE, mean_of, scheme_for
from fl.privacy.accounting import DiscreteGaussians, Gaussian, Laplace, Release, Skellam
from fl.privacy.audit import Play, Scores
from fl.privacy.mechanisms import perturbed, update_and_count
from fl.privacy.noise import RealNoise
from fl.privacy.spending import Spending
from fl.privacy.step import per_example
from fl.training.batched import train_batched
from fl.training.step import Gradients
from secagg import Aggregate, Counts, Masking, Private, run
from secagg.bits import Words
from secagg.crypto import KEY_BYTES, Rng
from secagg.private import Calibration, Reading, encode_private
from secagg.specs import Noise

CLIP: Final = 0.5
LONG: Final = 1000.0  # a gradient so long that it is the clip that it comes down to
AT_REST: Final = 1e-9  # a learning rate at which no step changes the next one's gradients


def likelihood(noise: RealNoise, seen: Scores, multiplier: float) -> Scores:
    """Of 1 against 0 in so many clips, under this noise: the logarithm of the ratio, but for a constant."""
    if noise == "gaussian":
        return seen / multiplier**2
    return (np.abs(seen) - np.abs(seen - 1)) * math.sqrt(2) / multiplier


# Of one client


def local(noise: RealNoise, multiplier: float, rng: Rng, *, length: int = 1) -> Play:
    """An update of norm C along the first coordinate."""
    asked = Perturbation("local", noise, CLIP, multiplier)
    canary = np.eye(1, length)[0] * CLIP

    def play(present: bool, runs: int) -> Scores:
        sent = [perturbed(asked, present * canary, rng(KEY_BYTES))[0] for _ in range(runs)]
        return likelihood(noise, np.array(sent) / CLIP, multiplier)

    return play


def local_by_the_data(multiplier: float, rng: Rng, *, length: int, **changes: Any) -> Play:
    """An update of norm C that is even over its coordinates, where noise follows the update. The score is how
    many coordinates come out that are not zero. changes: to the perturbation.
    """
    asked = Perturbation("local", "gaussian", CLIP, multiplier, **changes)
    canary = np.full(length, CLIP / math.sqrt(length))

    def play(present: bool, runs: int) -> Scores:
        sent = (perturbed(asked, present * canary, rng(KEY_BYTES)) for _ in range(runs))
        return np.array([np.count_nonzero(each) for each in sent], np.float64)

    return play


# By the server


def central(
    noise: RealNoise, multiplier: float, rng: Rng, *, adaptive: bool = False, clients: int = 5
) -> Play:
    """A mean of a real session in which all but the canary's client sent zeros, noised anew in every run; and
    where the clip adapts, the next round's clip beside it.
    """
    config = RunConfig.of(
        privacy="central",
        noise=noise,
        clip=CLIP,
        noise_multiplier=multiplier,
        adaptive_clip=adaptive,
        clients=clients,
        rounds=2,
        adversary="semi-honest",
    )
    of_update, of_count = update_and_count(config.privacy, noising_of(config).level(1), clients)

    def play(present: bool, runs: int) -> Scores:
        total = summed(config, [int(present)] + [0] * (clients - 1))
        scores = np.empty(runs)
        with patch.object(os, "urandom", rng):
            for i in range(runs):
                noising = noising_of(config)
                mean = noising.noised(1, mean_of([total], UPDATE), clients)
                scores[i] = likelihood(noise, mean[:1] * clients / CLIP, of_update)[0]
                if adaptive:
                    noising.adapt(1, [total])
                    share = -math.log((noising.level(2).clip or CLIP) / CLIP) / RATE
                    counted = np.array([share * clients / BELOW_CLIP])
                    scores[i] += likelihood(noise, counted, of_count)[0]
        return scores

    return play


def noising_of(config: RunConfig) -> Noising:
    sessions = config.protection.for_cohort(config.cohort.clients, {"": Counts(length=1, maximum=1)}, None)
    return Noising(config, 1, sessions, Spending(config.privacy.delta), {})


def summed(config: RunConfig, there: list[int]) -> Aggregate:
    """A round's session of one parameter, in which those who are there send the whole clip."""
    scheme = scheme_for(config, len(there), 1, 1, None, noising_of(config).level(1))
    inputs = {
        u: {UPDATE: np.array([CLIP * each]), BELOW: np.array([BELOW_CLIP * each])}
        for u, each in enumerate(there)
    }
    names = scheme.vectors.keys()
    return run(scheme, {u: {name: vectors[name] for name in names} for u, vectors in inputs.items()})


# In each step of one client


class Along:
    """What every client's steps go along: (steps, K, d) in the end."""

    def __init__(self, steps: int) -> None:
        self.steps: list[list[torch.Tensor]] = [[] for _ in range(steps)]

    def step(self, u: int, step: int, examples: NDArray[np.int64], gradients: Gradients) -> None:
        self.steps[step].append(gradients.along)

    def upload(self, u: int, upload: NDArray[np.floating]) -> None: ...


def trained(asked: Perturbation, x: torch.Tensor, plan: LocalPlan, runs: int, rng: Rng) -> Scores:
    """(steps, runs, width): what the steps of so many clients went along, as sums over their examples x, of
    class 0, of a model without a bias: a gradient is along (-x, x), and that of zero is zero.
    """
    model = torch.nn.Linear(x.shape[1], 2, bias=False, dtype=torch.float64)
    torch.nn.init.zeros_(model.weight)
    heard = Along(plan.steps)
    train_batched(
        model,
        x,
        torch.zeros(len(x), dtype=torch.int64),
        [torch.arange(len(x))] * runs,
        plan,
        [rng(KEY_BYTES) for _ in range(runs)],
        tap=heard,
        per_example=per_example(asked, plan, seeds=lambda: rng(KEY_BYTES)),
    )
    along = torch.stack([torch.stack(each) for each in heard.steps]) * plan.batch_size
    class_0, class_1 = along.chunk(2, dim=2)
    seen: Scores = ((class_1 - class_0) / math.sqrt(2)).numpy()
    return seen


def plan_of(batch_size: int, steps: int, sampling: Any = "shuffled") -> LocalPlan:
    return LocalPlan(
        steps=steps, batch_size=batch_size, lr=AT_REST, momentum=0.0, precision="float64", sampling=sampling
    )


def example(multiplier: float, rng: Rng, *, holds: int = 1, steps: int = 1) -> Play:
    """Steps of a client that holds so many examples, of which each is in a step with probability 1 in them;
    all but the canary are zero. The adversary sees every step.
    """
    asked = Perturbation("example", "gaussian", CLIP, multiplier)
    plan, rate = plan_of(1, steps, "poisson"), 1 / holds

    def play(present: bool, runs: int) -> Scores:
        x = torch.zeros(holds, 1, dtype=torch.float64)
        x[0] = LONG * present
        seen = trained(asked, x, plan, runs, rng)[:, :, 0] / CLIP
        ratio = np.exp((2 * seen - 1) / (2 * multiplier**2))
        scores: Scores = np.log(1 - rate + rate * ratio).sum(axis=0)
        return scores

    return play


def example_by_largest(multiplier: float, rng: Rng, *, length: int, shorter: float = 0.1) -> Play:
    """One step on two examples, of which the canary is as long as the clip and the other by this share
    shorter. The score is the squared length of what is seen where neither of them is.
    """
    asked = Perturbation("example", "gaussian", CLIP, multiplier, "l2-max")
    plan = plan_of(2, 1)

    def play(present: bool, runs: int) -> Scores:
        x = torch.zeros(2, length // 2, dtype=torch.float64)
        x[0, 0] = LONG * present
        x[1, 0] = CLIP * (1 - shorter) * math.sqrt(2)
        scores: Scores = np.square(trained(asked, x, plan, runs, rng)[0, :, 1:]).sum(axis=1)
        return scores

    return play


# Of the clients together


def shares(
    noise: Noise, multiplier: float, *, length: int = 1, bits: int = 16, clients: int = 4, corrupt: int = 1
) -> Calibration:
    """Of a session in which as few may survive as can: with one of four corrupt, two add the whole noise."""
    spec = Private(length=length, clip=CLIP, bits=bits, noise=noise, multiplier=multiplier)
    return Masking.for_cohort(clients, {UPDATE: spec}, corrupt=corrupt).calibration(UPDATE)


def distributed(calibration: Calibration, rng: Rng) -> Play:
    """The sum of the fewest survivors, less what the corrupt among them sent, which these know: of the honest
    ones, who are left, all but the canary's client send zeros.
    """
    canary = np.eye(1, calibration.spec.length)[0] * CLIP

    def play(present: bool, runs: int) -> Scores:
        scores, reading = np.empty(runs), Reading(calibration, rng(KEY_BYTES))
        for i in range(runs):
            inputs = (canary * (present and u == 0) for u in range(calibration.honest))
            sent = [encode_private(reading, x, rng(KEY_BYTES))[0] for x in inputs]
            scores[i] = reading.total(ring_sum(sent, calibration.spec.bits))[0] / CLIP
        return scores

    return play


def ring_sum(sent: Iterable[Words], bits: int) -> NDArray[np.int64]:
    """(m,) centred: what masks leave of the clients' codes."""
    half = 1 << (bits - 1)
    total = np.sum([words.astype(np.int64) for words in sent], axis=0)
    centred: NDArray[np.int64] = (total + half) % (1 << bits) - half
    return centred


# Many canaries in a single run, each in a coordinate of its own

AtOnce = tuple[NDArray[np.bool_], Scores]
"""((m,), which of the canaries are in; (m,), how much what is seen speaks for each)"""


def coins(m: int, rng: Rng) -> NDArray[np.bool_]:
    return (np.frombuffer(rng(m), np.uint8) & 1).astype(bool)


def example_at_once(multiplier: float, m: int, rng: Rng) -> AtOnce:
    """One step on all m examples of a client."""
    included = coins(m, rng)
    asked = Perturbation("example", "gaussian", CLIP, multiplier)
    x = LONG * torch.diag(torch.from_numpy(included.astype(np.float64)))
    return included, trained(asked, x, plan_of(m, 1), 1, rng)[0, 0]


def all_shares(noise: Noise, multiplier: float, m: int) -> Calibration:
    """Of a session of m clients of whom every one is honest and survives, each with a coordinate."""
    return Calibration(Private(length=m, clip=CLIP, noise=noise, multiplier=multiplier), m, m)


def distributed_at_once(noise: Noise, multiplier: float, m: int, rng: Rng) -> AtOnce:
    """The sum of all m clients."""
    included = coins(m, rng)
    reading = Reading(all_shares(noise, multiplier, m), rng(KEY_BYTES))
    canaries = (CLIP * each * row for each, row in zip(included, np.eye(m), strict=True))
    sent = (encode_private(reading, x, rng(KEY_BYTES))[0] for x in canaries)
    return included, reading.total(ring_sum(sent, reading.calibration.spec.bits))


# With what is claimed of them


@dataclass(frozen=True)
class Audited:
    """A mechanism, and what its accountant says it releases: both of the multiplier."""

    releases: Callable[[float], tuple[Release, ...]]
    play: Callable[[float, Rng], Play]
    multiplier: float = 1.0


@dataclass(frozen=True)
class AuditedAtOnce:
    """As `Audited`: of so many canaries."""

    releases: Callable[[float, int], tuple[Release, ...]]
    play: Callable[[float, int, Rng], AtOnce]
    multiplier: float = 2.0


def gaussian(multiplier: float) -> tuple[Release, ...]:
    return (Gaussian(multiplier),)


def laplace(multiplier: float) -> tuple[Release, ...]:
    """Of one coordinate, whose L1 norm is its L2 norm."""
    return (Laplace(multiplier / math.sqrt(2)),)


def discrete(calibration: Calibration) -> tuple[Release, ...]:
    """Of a sum in which only those are left who surely are."""
    own = calibration
    if own.spec.noise == "skellam":
        return (Skellam(own.l2_squared, own.l1, own.variance * own.honest),)
    return (DiscreteGaussians(own.l2_squared, own.l1, own.spec.length, own.variance, own.honest),)


def of_shares(noise: Noise, length: int, bits: int = 16) -> Audited:
    def calibration(multiplier: float) -> Calibration:
        return shares(noise, multiplier, length=length, bits=bits)

    return Audited(lambda z: discrete(calibration(z)), lambda z, rng: distributed(calibration(z), rng))


WITH_EPSILON: Final[dict[str, Audited]] = {
    "local, gaussian": Audited(gaussian, lambda z, rng: local("gaussian", z, rng, length=16)),
    "local, laplace": Audited(laplace, lambda z, rng: local("laplace", z, rng)),
    "central, gaussian": Audited(gaussian, lambda z, rng: central("gaussian", z, rng)),
    "central, laplace": Audited(laplace, lambda z, rng: central("laplace", z, rng)),
    "central, adaptive clip": Audited(gaussian, lambda z, rng: central("gaussian", z, rng, adaptive=True)),
    "example, 1 step": Audited(gaussian, lambda z, rng: example(z, rng)),
    "example, 2 steps of a half": Audited(
        lambda z: (Gaussian(z, rate=0.5, steps=2),), lambda z, rng: example(z, rng, holds=2, steps=2)
    ),
    "distributed, skellam, 10 bits": of_shares("skellam", 16, bits=10),
    "distributed, discrete-gaussian": of_shares("discrete-gaussian", 16),
    "distributed, a count": of_shares("skellam", 1),
}
AT_ONCE: Final[dict[str, AuditedAtOnce]] = {
    "example, at once": AuditedAtOnce(lambda z, m: gaussian(z), example_at_once),
    "distributed, at once": AuditedAtOnce(
        lambda z, m: discrete(all_shares("skellam", z, m)), partial(distributed_at_once, "skellam")
    ),
}
WITHOUT_EPSILON: Final[dict[str, Audited]] = {
    "example, l2-max, d = 1,000": Audited(
        gaussian, lambda z, rng: example_by_largest(z, rng, length=1_000), 6.0
    ),
    "example, l2-max, d = 10,000": Audited(
        gaussian, lambda z, rng: example_by_largest(z, rng, length=10_000), 6.0
    ),
    "local, l2-max": Audited(
        gaussian, lambda z, rng: local_by_the_data(z, rng, length=1_000, sensitivity="l2-max"), 6.0
    ),
    "local, noise-largest": Audited(
        gaussian, lambda z, rng: local_by_the_data(z, rng, length=1_000, largest=0.1), 6.0
    ),
}
"""With what their multiplier would cost if the noise did not follow the data."""
