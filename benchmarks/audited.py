"""The mechanisms of noise as a run plays them, each with its worst canary, to be audited: what the adversary
sees of it, and how much that speaks for the canary; and what a run is charged with for it.

Neighbours are as in `fl.privacy.releases`: the canary's whole contribution, or zero in its place. Every
score is the logarithm of the likelihood ratio of what is seen, or grows with it: no test does better.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.ring import added
from fl.config.plan import LocalPlan
from fl.config.privacy import Mechanism, NoiseKind, Perturbation
from fl.config.run import RunConfig
from fl.federation.noising import RATE, Noising
from fl.federation.vectors import BELOW, BELOW_CLIP, UPDATE, mean_of, scheme_for
from fl.privacy.audit import Play, Scores
from fl.privacy.mechanisms import Level, asked_of_clients, perturbed, update_and_count
from fl.privacy.releases import Gaussian, Release
from fl.privacy.spending import Spending, discrete_release
from fl.privacy.step import per_example
from fl.training.batched import train_batched
from fl.training.step import Gradients
from secagg import Aggregate, Counts, Masking, Private, run
from secagg.blank import SUMMED, toss
from secagg.crypto import KEY_BYTES, Rng
from secagg.private import Calibration, Reading, encode_private

CLIP: Final = 0.5
LONG: Final = 1000.0  # a gradient so long that it is the clip that it comes down to
AT_REST: Final = 1e-9  # a learning rate at which no step changes the next one's gradients


def config_of(
    mechanism: Mechanism, noise: NoiseKind, multiplier: float, *, clients: int = 5, **settings: Any
) -> RunConfig:
    """Of a run of two rounds."""
    return RunConfig.of(
        privacy=mechanism,
        noise=noise,
        clip=CLIP,
        noise_multiplier=multiplier,
        clients=clients,
        rounds=2,
        adversary="semi-honest",
        **settings,
    )


def noising_of(config: RunConfig, length: int) -> Noising:
    """The noise of such a run, of updates of `length` coordinates, with nothing spent yet."""
    distributed = config.privacy.mechanism == "distributed"
    one = Private(length=1, clip=1.0, multiplier=1e3) if distributed else Counts(length=1, maximum=1)
    sessions = config.protection.for_cohort(config.cohort.clients, {"": one}, None)
    return Noising(config, length, sessions, Spending(config.privacy.delta), {})


def charged(config: RunConfig, length: int) -> tuple[Release, ...]:
    """What the first round is charged with, for a model of so many parameters."""
    noising = noising_of(config, length)
    noising.begin(1)
    return noising.spending.charges[0].releases


def asked(config: RunConfig) -> Perturbation:
    """What the clients are asked to do themselves."""
    perturbation = asked_of_clients(config.privacy, Level.of(config.privacy))
    assert perturbation is not None  # noqa: S101 - of local and example
    return perturbation


def likelihood(noise: NoiseKind, seen: Scores, multiplier: float) -> Scores:
    """Of 1 against 0 in so many clips, under this noise: the logarithm of the ratio, but for a constant."""
    if noise == "laplace":
        return (np.abs(seen) - np.abs(seen - 1)) * math.sqrt(2) / multiplier
    return seen / multiplier**2


# Of one client


def local(config: RunConfig, length: int, rng: Rng) -> Play:
    """An update of norm C along the first coordinate."""
    privacy, perturbation = config.privacy, asked(config)
    canary = np.eye(1, length)[0] * CLIP

    def play(present: bool, runs: int) -> Scores:
        sent = [perturbed(perturbation, present * canary, rng(KEY_BYTES))[0] for _ in range(runs)]
        return likelihood(privacy.kind, np.array(sent) / CLIP, perturbation.multiplier)

    return play


def local_by_the_data(config: RunConfig, length: int, rng: Rng) -> Play:
    """An update of norm C that is even over its coordinates, where noise follows the update. The score is how
    many coordinates come out that are not zero.
    """
    perturbation = asked(config)
    canary = np.full(length, CLIP / math.sqrt(length))

    def play(present: bool, runs: int) -> Scores:
        sent = (perturbed(perturbation, present * canary, rng(KEY_BYTES)) for _ in range(runs))
        return np.array([np.count_nonzero(each) for each in sent], np.float64)

    return play


# By the server


def central(config: RunConfig, length: int, rng: Rng) -> Play:
    """A mean of a real session in which all but the canary's client sent zeros, noised anew in every run; and
    where the clip adapts, the next round's clip beside it.
    """
    privacy, clients = config.privacy, config.cohort.clients
    of_update, of_count = update_and_count(privacy, Level.of(privacy), clients)

    def play(present: bool, runs: int) -> Scores:
        total = summed(config, length, [int(present)] + [0] * (clients - 1))
        scores = np.empty(runs)
        with patch.object(os, "urandom", rng):
            for i in range(runs):
                noising = noising_of(config, length)
                mean = noising.noised(1, mean_of([total], UPDATE), clients)
                scores[i] = likelihood(privacy.kind, mean[:1] * clients / CLIP, of_update)[0]
                if privacy.adaptive_clip:
                    noising.adapt(1, [total])
                    share = -math.log((noising.level(2).clip or CLIP) / CLIP) / RATE
                    counted = np.array([share * clients / BELOW_CLIP])
                    scores[i] += likelihood(privacy.kind, counted, of_count)[0]
        return scores

    return play


def summed(config: RunConfig, length: int, there: list[int]) -> Aggregate:
    """A round's session, in which those who are there send the whole clip in the first coordinate."""
    scheme = scheme_for(config, len(there), length, 1, None)
    vectors = {UPDATE: np.eye(1, length)[0] * CLIP, BELOW: np.array([BELOW_CLIP])}
    return run(
        scheme, {u: {name: vectors[name] * each for name in scheme.vectors} for u, each in enumerate(there)}
    )


# In each step of one client


class Along:
    """What every client's steps go along: (steps, K, d) in the end."""

    def __init__(self, steps: int) -> None:
        self.steps: list[list[torch.Tensor]] = [[] for _ in range(steps)]

    def step(self, u: int, step: int, examples: NDArray[np.int64], gradients: Gradients) -> None:
        self.steps[step].append(gradients.along)

    def upload(self, u: int, upload: NDArray[np.floating]) -> None: ...


def of_steps(multiplier: float, *, holds: int = 1, steps: int = 1, **settings: Any) -> RunConfig:
    """Of clients that hold so many examples, of whom one is in a step in the mean, by secret coins."""
    still: dict[str, Any] = {"lr": AT_REST, "momentum": 0.0, "precision": "float64"}
    batches: dict[str, Any] = {"batch_size": 1, "local_batches": "poisson"} | settings
    counts: dict[str, Any] = {"examples_per_client": holds, "local_steps": steps}
    return config_of("example", "gaussian", multiplier, **still, **batches, **counts)


def trained(config: RunConfig, x: torch.Tensor, runs: int, rng: Rng) -> Scores:
    """(steps, runs, width): what the steps of so many clients went along, as sums over their examples x, of
    class 0, of a model without a bias: a gradient is along (-x, x), and that of zero is zero.
    """
    plan: LocalPlan = config.training.plan
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
        per_example=per_example(asked(config), plan, seeds=lambda: rng(KEY_BYTES)),
    )
    along = torch.stack([torch.stack(each) for each in heard.steps]) * plan.batch_size
    class_0, class_1 = along.chunk(2, dim=2)
    seen: Scores = ((class_1 - class_0) / math.sqrt(2)).numpy()
    return seen


def example(config: RunConfig, length: int, rng: Rng) -> Play:
    """All examples but the canary are zero. The adversary sees every step, and no coin."""
    holds = config.data.examples_per_client or 1
    multiplier, rate = asked(config).multiplier, 1 / holds

    def play(present: bool, runs: int) -> Scores:
        x = torch.zeros(holds, length // 2, dtype=torch.float64)
        x[0, 0] = LONG * present
        seen = trained(config, x, runs, rng)[:, :, 0] / CLIP
        ratio = np.exp((2 * seen - 1) / (2 * multiplier**2))
        scores: Scores = np.log(1 - rate + rate * ratio).sum(axis=0)
        return scores

    return play


def example_by_largest(config: RunConfig, length: int, rng: Rng, *, shorter: float = 0.1) -> Play:
    """One step on two examples, of which the canary is as long as the clip and the other by this share
    shorter. The score is the squared length of what is seen where neither of them is.
    """

    def play(present: bool, runs: int) -> Scores:
        x = torch.zeros(2, length // 2, dtype=torch.float64)
        x[0, 0] = LONG * present
        x[1, 0] = CLIP * (1 - shorter) * math.sqrt(2)
        scores: Scores = np.square(trained(config, x, runs, rng)[0, :, 1:]).sum(axis=1)
        return scores

    return play


# Of the clients together


def distributed(config: RunConfig, length: int, rng: Rng, *, hidden: bool = True) -> Play:
    """The sums of the fewest survivors, less what the corrupt among them sent, which these know: of the
    honest ones, who are left, all but the canary's client send zeros; and that one, too, where its coin falls
    so. hidden: how it fell; else it always takes part, as who sees the coins may suppose.
    """
    scheme = scheme_for(config, config.cohort.clients, length, 1, None)
    assert isinstance(scheme, Masking)  # noqa: S101 - as RunConfig has it
    rate = 1 - scheme.blank if hidden else 1.0

    def play(present: bool, runs: int) -> Scores:
        scores = np.zeros(runs)
        tossed = [toss(1 - rate, rng) for _ in range(runs)] if rate < 1 else [SUMMED] * runs
        for name in scheme.vectors:
            reading = Reading(scheme.calibration(name), rng(KEY_BYTES))
            spec, honest = reading.calibration.spec, reading.calibration.honest
            inputs = np.zeros((honest, spec.length))
            inputs[0, 0] = spec.clip * present
            for i in range(runs):
                sent = [encode_private(reading, x, rng(KEY_BYTES), tossed[i])[0] for x in inputs]
                seen = reading.total(added(reading.calibration, sent))[:1] / spec.clip
                scores[i] += likelihood(spec.noise, seen, spec.multiplier)[0]
        return scores  # of a mixture with the one of 0 the ratio grows with this

    return play


# Many canaries in a single run, each in a coordinate of its own

AtOnce = tuple[NDArray[np.bool_], Scores]
"""((m,), which of the canaries are in; (m,), how much what is seen speaks for each)"""


def coins(m: int, rng: Rng) -> NDArray[np.bool_]:
    """Fair ones: (m,) of bool."""
    return (np.frombuffer(rng(m), np.uint8) & 1).astype(bool)


def example_at_once(multiplier: float, m: int, rng: Rng) -> AtOnce:
    """One step on all m examples of a client."""
    included = coins(m, rng)
    x = LONG * torch.diag(torch.from_numpy(included.astype(np.float64)))
    return included, trained(all_examples(multiplier, m), x, 1, rng)[0, 0]


def all_examples(multiplier: float, m: int) -> RunConfig:
    """A run in whose one step each of the m examples is taken."""
    return of_steps(multiplier, holds=m, batch_size=m)


def distributed_at_once(multiplier: float, m: int, rng: Rng) -> AtOnce:
    """The sum of all m clients."""
    included = coins(m, rng)
    reading = Reading(all_shares(multiplier, m), rng(KEY_BYTES))
    canaries = (CLIP * each * row for each, row in zip(included, np.eye(m), strict=True))
    sent = (encode_private(reading, x, rng(KEY_BYTES))[0] for x in canaries)
    return included, reading.total(added(reading.calibration, sent))


def all_shares(multiplier: float, m: int) -> Calibration:
    """Of a session of m clients of whom every one is honest and survives, each with a coordinate."""
    return Calibration(Private(length=m, clip=CLIP, multiplier=multiplier), m, m)


# With what is claimed of them


@dataclass(frozen=True)
class Audited:
    """A mechanism: the run of a multiplier, how it is played, and of how many parameters."""

    config: Callable[[float], RunConfig]
    player: Callable[[RunConfig, int, Rng], Play]
    length: int = 1
    multiplier: float = 1.0

    def play(self, multiplier: float, rng: Rng) -> Play:
        """With noise of this multiplier, and all randomness from rng."""
        return self.player(self.config(multiplier), self.length, rng)

    def releases(self) -> tuple[Release, ...]:
        """What a run is charged with; where it has no epsilon, what the multiplier would cost if the noise
        did not follow the data.
        """
        config = self.config(self.multiplier)
        has = config.privacy.has_epsilon
        return charged(config, self.length) if has else (Gaussian(self.multiplier),)


@dataclass(frozen=True)
class AuditedAtOnce:
    """A mechanism of a multiplier and so many canaries: how it is played, and what is claimed of it."""

    play: Callable[[float, int, Rng], AtOnce]
    claimed: Callable[[float, int], tuple[Release, ...]]
    multiplier: float = 2.0

    def releases(self, m: int) -> tuple[Release, ...]:
        return self.claimed(self.multiplier, m)


def of(mechanism: Mechanism, noise: NoiseKind, **settings: Any) -> Callable[[float], RunConfig]:
    """Noise multiplier -> the run of this mechanism with it."""
    return lambda multiplier: config_of(mechanism, noise, multiplier, **settings)


def step_of(**settings: Any) -> Callable[[float], RunConfig]:
    """Noise multiplier -> the run of one noised step with it."""
    return lambda multiplier: of_steps(multiplier, **settings)


def in_ring(noise: NoiseKind, length: int, **settings: Any) -> Audited:
    """Of four clients, of whom one may be lost and one adds no noise."""
    return Audited(of("distributed", noise, clients=4, corrupt=1, **settings), distributed, length)


def by_largest(length: int) -> Audited:
    """A step of two examples with noise by their largest norm (`l2-max`), of `length` coordinates."""
    return Audited(step_of(holds=2, batch_size=2, sensitivity="l2-max"), example_by_largest, length, 6.0)


def by_the_data(**settings: Any) -> Audited:
    """Local noise that goes by the client's own data, for which there is no epsilon."""
    return Audited(of("local", "gaussian", **settings), local_by_the_data, 1_000, 6.0)


WITH_EPSILON: Final = {
    "local, gaussian": Audited(of("local", "gaussian"), local, 16),
    "local, laplace": Audited(of("local", "laplace"), local),
    "central, gaussian": Audited(of("central", "gaussian"), central),
    "central, laplace": Audited(of("central", "laplace"), central),
    "central, adaptive clip": Audited(of("central", "gaussian", adaptive_clip=True), central),
    "example, 1 step": Audited(step_of(), example, 2),
    "example, 2 steps of a half": Audited(step_of(holds=2, steps=2), example, 2),
    "distributed, skellam, 10 bits": in_ring("skellam", 4, bits=10),
    "distributed, discrete-gaussian": in_ring("discrete-gaussian", 4),
    "distributed, adaptive clip": in_ring("skellam", 1, adaptive_clip=True),
}
AT_ONCE: Final = {
    "example, at once": AuditedAtOnce(example_at_once, lambda z, m: charged(all_examples(z, m), 2 * m)),
    "distributed, at once": AuditedAtOnce(
        distributed_at_once, lambda z, m: (discrete_release(all_shares(z, m)),)
    ),
}
WITHOUT_EPSILON: Final = {
    "example, l2-max, d = 1,000": by_largest(1_000),
    "example, l2-max, d = 10,000": by_largest(10_000),
    "local, l2-max": by_the_data(sensitivity="l2-max"),
    "local, noise-largest": by_the_data(noise_largest=0.1),
}
