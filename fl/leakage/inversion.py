"""Images from an update: those whose own would be the one that was seen (Zhu et al., NeurIPS 2019)."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg.blas import daxpy

from fl.config.section import ConfigError
from fl.leakage.attack import Budget, Found, Guess, Knowledge
from fl.leakage.gradients import Matching
from fl.leakage.labels import of_gradient
from fl.leakage.starts import begun, checked
from fl.leakage.views import Part, View

HISTORY: Final = 100  # of L-BFGS: with 10, as scipy has it, 14.7-18 dB in 300 iterations; with 100, 34
INNER: Final = 20  # steps between two looks at the clock
SOLVED: Final = 1e-10  # of the squared gradient norm: images are then nearer than any eye tells
STUCK: Final = 8  # iterations that together gain less than a hundredth
FITTED: Final = 0.05  # or less than so much, of a loss that rounding alone explains: they fit the rounding

SIGNED_LR: Final = 0.1
TV: Final = 1e-4  # the weight of the total variation: of an untrained net 1e-2 leaves 12.6 dB, this 33.6

Vector = NDArray[np.float64]
Look = Callable[[torch.Tensor, float], None]
Distance = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(images, labels) -> how far what they would have sent is from what was seen; differentiable."""
Optimiser = Callable[
    [Distance, torch.Tensor, torch.Tensor, Budget, float, Look, float], tuple[torch.Tensor, float]
]
"""(what to make small, start, labels, budget, when to stop, told the best after each iteration and its loss,
what rounding alone leaves of it) -> (images, gradient loss).
"""


def inversion(view: View, knowledge: Knowledge, budget: Budget, seed: int) -> Guess:
    """Images whose gradient is the one that was seen, by L-BFGS in float64 on the squared distance.

    Source: Zhu et al., Deep Leakage from Gradients, NeurIPS 2019; Wei et al. (CPL), ESORICS 2020.
    """
    return tuple(_of_part(part, knowledge, budget, seed, Matching.squared, by_lbfgs) for part in view.parts)


def sparse(view: View, knowledge: Knowledge, budget: Budget, seed: int) -> Guess:
    """As inversion, of compressed updates: numbers that were left out, which are 0, are not asked to be met.

    Source: none, made for this project: whoever sees an update sees what it lacks.
    """
    return tuple(
        _of_part(part, knowledge, budget, seed, Matching.squared, by_lbfgs, sparse=True)
        for part in view.parts
    )


def cosine(view: View, knowledge: Knowledge, budget: Budget, seed: int) -> Guess:
    """Images whose gradient points where the one that was seen does, smooth ones, by Adam on signs.

    Source: Geiping et al., Inverting Gradients, NeurIPS 2020.
    """
    return tuple(_of_part(part, knowledge, budget, seed, Matching.cosine, by_signs) for part in view.parts)


def _of_part(
    part: Part,
    knowledge: Knowledge,
    budget: Budget,
    seed: int,
    measure: Callable[[Matching, torch.Tensor, torch.Tensor], torch.Tensor],
    optimiser: Optimiser,
    *,
    sparse: bool = False,
) -> Found:
    """The best of all starts, and of all candidates: by the gradient loss, of which the truth is no part."""
    since, images = time.process_time(), knowledge.images_of(part)
    refused(knowledge, budget)
    best: Found | None = None
    for update in part.updates:
        matching = Matching(knowledge.at(part), update, len(part.members), sparse=sparse)
        y = of_gradient(matching, knowledge, images) if part.labels is None else part.labels
        explained = matching.explained(part.deviation) if optimiser is by_lbfgs else 0.0
        found = from_starts(partial(measure, matching), knowledge, y, budget, seed, optimiser, explained)
        if best is None or found.loss < best.loss:
            best = found
    assert best is not None  # noqa: S101 - a part has one candidate at least
    return replace(best, seconds=time.process_time() - since)


def refused(knowledge: Knowledge, budget: Budget) -> None:
    """Raises: ConfigError where no images are looked for, or not from this start."""
    checked(budget.start, knowledge)
    if len(knowledge.model.shape) != 3:
        raise ConfigError(f"inversion makes images, and {knowledge.model.model} is for text")


def from_starts(
    distance: Distance,
    knowledge: Knowledge,
    y: NDArray[np.int64],
    budget: Budget,
    seed: int,
    optimiser: Optimiser,
    explained: float = 0.0,
) -> Found:
    """The best of all starts, the first as the budget says, while there is time and nothing is solved, or
    explained: where the loss is below what rounding alone leaves, a smaller one is of no better images.
    """
    rng = torch.Generator().manual_seed(seed)
    labels, until = torch.tensor(y), budget.until(len(y))
    half = until - budget.seconds * len(y) / 2
    best, least, path, halfway = None, float("inf"), list[torch.Tensor](), float("inf")

    def look(x: torch.Tensor, loss: float) -> None:
        nonlocal halfway
        if number == 0 and len(path) < budget.looks:
            path.append(x)
        if time.process_time() < half:
            halfway = min(halfway, loss)

    for number in range(budget.starts):
        # What grey did not solve, another grey will not.
        start = begun(budget.start if number == 0 else "uniform", labels, knowledge, rng)
        x, loss = optimiser(distance, start, labels, budget, until, look, explained)
        if best is None or loss < least:
            best, least = x, loss
        if least < max(SOLVED, explained) or time.process_time() > until:
            break
    assert best is not None  # noqa: S101 - there is one start at least
    kept = torch.stack(path).numpy() if path else None
    return Found(best.numpy(), y, least, halfway=halfway, path=kept)


def by_lbfgs(
    distance: Distance,
    start: torch.Tensor,
    y: torch.Tensor,
    budget: Budget,
    until: float,
    look: Look,
    explained: float = 0.0,
) -> tuple[torch.Tensor, float]:
    """L-BFGS on the squared distance, steps of length 1, without tolerances; nothing keeps pixels in [0, 1].

    Of what was rounded it stops before it fits the rounding: where the loss is below what that explains
    (Morozov's discrepancy principle) and falls slowly. A sum of ten MNIST images was at 17.7 dB after 90
    iterations, and at 16.7 after 156, with a smaller loss.

    Source: Nocedal and Wright, Numerical Optimization, 2nd edition, algorithm 7.4. The steps are those of
    torch's, which takes longer for a direction than such nets do for their gradient, and forgets steps of a
    curvature below 1e-10, where it is stuck.
    """
    x, memory = start.clone().requires_grad_(), Memory()
    best, least, history = start, float("inf"), list[float]()
    for _ in range(budget.iterations):
        for _ in range(INNER):
            off = distance(x, y)
            (gradient,) = torch.autograd.grad(off, [x])
            loss = off.item()
            if not np.isfinite(loss):
                break
            if loss < least:
                best, least = x.detach().clone(), loss
            with torch.no_grad():
                x += torch.from_numpy(memory.step(gradient.numpy().ravel())).view_as(x)
        history.append(least)
        look(best, least)
        gain = FITTED if least < explained else 0.01
        stuck = len(history) > STUCK and least > (1 - gain) * history[-STUCK - 1]
        if least < SOLVED or not np.isfinite(loss) or stuck or time.process_time() > until:
            break
    return best, least


class Memory:
    """What L-BFGS knows of the curvature: the last steps, and what each changed of the gradient."""

    def __init__(self, history: int = HISTORY) -> None:
        self._pairs = deque[tuple[Vector, Vector, float]](maxlen=history)
        self._gamma = 1.0
        self._before: tuple[Vector, Vector] | None = None

    @np.errstate(over="ignore", invalid="ignore")  # who leaves for infinity is stopped by the loss there
    def step(self, gradient: Vector) -> Vector:
        """(d,): the next step, from where this is the gradient, (d,). It has taken the last that it said."""
        if self._before is None:
            step: Vector = -gradient / (np.abs(gradient).sum() or 1.0)
        else:
            self._learn(gradient)
            step = self._direction(gradient)
        self._before = step, gradient.copy()
        return step

    def _learn(self, gradient: Vector) -> None:
        assert self._before is not None  # noqa: S101 - there was a step
        s, y = self._before[0], gradient - self._before[1]
        curvature = float(s @ y)
        if curvature > 0:
            self._pairs.append((s, y, 1 / curvature))
            self._gamma = curvature / float(y @ y)

    def _direction(self, gradient: Vector) -> Vector:
        q: Vector = -gradient
        shares = list[float]()
        for s, y, rho in reversed(self._pairs):
            share = rho * float(s @ q)
            daxpy(y, q, a=-share)  # q -= share * y, in place
            shares.append(share)
        q *= self._gamma
        for (s, y, rho), share in zip(self._pairs, reversed(shares), strict=True):
            daxpy(s, q, a=share - rho * float(y @ q))
        return q


def by_signs(
    distance: Distance,
    start: torch.Tensor,
    y: torch.Tensor,
    budget: Budget,
    until: float,
    look: Look,
    explained: float = 0.0,
) -> tuple[torch.Tensor, float]:
    """Adam on the signs of the gradients of the cosine distance and the total variation, its rate a tenth at
    3/8, 5/8 and 7/8 of the way, pixels kept in [0, 1]. The way ends with its time or its iterations.
    """
    x = start.clone().clamp(0, 1).requires_grad_()
    adam = torch.optim.Adam([x], lr=SIGNED_LR)
    best, least = x.detach().clone(), float("inf")
    since, steps = time.process_time(), budget.iterations * INNER
    for step in range(steps):
        done = max(step / steps, (time.process_time() - since) / max(until - since, 1e-9))
        if done >= 1:
            break
        adam.param_groups[0]["lr"] = SIGNED_LR * 0.1 ** sum(done >= eighths / 8 for eighths in (3, 5, 7))
        loss = distance(x, y)
        if loss.item() < least:
            best, least = x.detach().clone(), loss.item()
        (gradient,) = torch.autograd.grad(loss + TV * _variation(x), [x])
        x.grad = gradient.sign()
        adam.step()
        with torch.no_grad():
            x.clamp_(0, 1)
        if step % INNER == INNER - 1:
            look(best, least)
    return best, least


def _variation(x: torch.Tensor) -> torch.Tensor:
    """Total variation, the mean over neighbours."""
    down, right = x[:, :, 1:] - x[:, :, :-1], x[:, :, :, 1:] - x[:, :, :, :-1]
    return down.abs().mean() + right.abs().mean()
