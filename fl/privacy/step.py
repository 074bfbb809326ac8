"""Each example's gradient clipped, and their sum noised, in every step of a client's training: Fed-CDP (Wei
et al., Gradient-Leakage Resilient Federated Learning, ICDCS 2021), whose step is that of Abadi et al. (Deep
Learning with Differential Privacy, CCS 2016).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable

import numpy as np
import torch

from fl.config.plan import LocalPlan
from fl.config.privacy import Perturbation
from fl.privacy.noise import real_noise
from fl.training.step import PerExample, Tensors, norms
from secagg.prg import SEED_BYTES


def asked_for(perturbation: Perturbation | None, plan: LocalPlan) -> PerExample | None:
    """What the steps of a round are to make of examples, where the round's task asks for it."""
    if perturbation is None or perturbation.mechanism != "example":
        return None
    return per_example(perturbation, plan)


def _fresh() -> bytes:
    return os.urandom(SEED_BYTES)


def per_example(
    perturbation: Perturbation, plan: LocalPlan, *, seeds: Callable[[], bytes] = _fresh
) -> PerExample:
    """Each example's gradient g is clipped to g min(1, C / |g|), |g| its L2 norm over all parameters; noise
    of standard deviation z C a coordinate is added to their sum; and this is divided by the plan's batch
    size, also where a batch is shorter or longer, so that no step tells how long it was. For fedsgd it is
    divided by what the client holds.

    sensitivity l2-max: min(C, the largest norm in the batch) in place of C for the noise. largest below 1:
    noise on that share of the sum's coordinates alone, those of the largest size. Both run, and have no
    epsilon: what is noise, and how much, follows the data. seeds: for tests; the same seed is the same noise.

    Guarantees: what one example adds to a sum has norm C at most, to the rounding of the plan's precision;
    one whose gradient is not finite adds nothing. Noise is fresh from the operating system for each client
    and step.

    The noise is made on the CPU and moved to where the gradients are: 20 ns a coordinate on one core of a
    server, Laplace's 8.
    """
    clip, lot = perturbation.clip, float(plan.batch_size)
    assert clip is not None  # noqa: S101 - Perturbation has seen to it

    def bounded(each: Tensors) -> Tensors:
        of_each = norms(each)
        scale = (clip / of_each).clamp(max=1.0)
        for g in each:
            g.mul_(_over(scale, g)).masked_fill_(~_over(of_each.isfinite(), g), 0.0)
        return each

    def released(total: Tensors, of: torch.Tensor, largest: torch.Tensor) -> Tensors:
        summed = torch.cat([g.flatten(1) for g in total], dim=1)
        width = torch.full_like(largest, clip) if perturbation.sensitivity == "clip" else largest
        # In double precision until it is noise of this size.
        drawn = [
            real_noise(perturbation.noise, perturbation.multiplier, summed.shape[1], seeds()) for _ in of
        ]
        noise = torch.from_numpy(np.stack(drawn)).to(summed) * width[:, None]
        if perturbation.largest < 1.0:
            noise = _on_largest(noise, summed, perturbation.largest)
        along = (summed + noise) / (of[:, None] if plan.algorithm == "fedsgd" else lot)
        parts = torch.split(along, [g[0].numel() for g in total], dim=1)
        return [part.view_as(g) for part, g in zip(parts, total, strict=True)]

    return PerExample(bounded, released)


def deviation_of_update(plan: LocalPlan, clip: float, multiplier: float, examples: int) -> float:
    """Standard deviation of what the noise of all steps leaves in a coordinate of an update, at most, where
    clients hold so many examples at most. Momentum gathers a step's noise to 1 / (1 - momentum) times it.
    """
    if plan.algorithm == "fedsgd":  # divided by what the client holds, which may be a single one
        return multiplier * clip
    a_step = plan.lr * multiplier * clip / plan.batch_size / (1 - plan.momentum)
    return a_step * math.sqrt(plan.steps_of(examples))


def _over(of_each: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """(K, B), as it is multiplied with (K, B, *p)."""
    return of_each.view(*of_each.shape, *[1] * (g.ndim - 2))


def _on_largest(noise: torch.Tensor, summed: torch.Tensor, share: float) -> torch.Tensor:
    """(K, d): the noise of the share of coordinates that are the largest; 0 of the others."""
    kept = math.ceil(share * summed.shape[1])
    places = summed.abs().topk(kept, dim=1).indices
    return torch.zeros_like(noise).scatter(1, places, noise.gather(1, places))
