"""What every attack is given, and what it gives back: attack(view, knowledge, budget, seed) -> guess."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from fl.config.plan import LocalPlan
from fl.config.privacy import Perturbation
from fl.leakage.views import Part, View
from fl.models.architectures import Description


@dataclass(frozen=True)
class Public:
    """Images that are no secret, of the kind of those that are. x: (N, C, H, W) in [0, 1], y: (N,)."""

    x: NDArray[np.float32] = field(repr=False)
    y: NDArray[np.int64] = field(repr=False)


@dataclass(frozen=True)
class Encoding:
    """How what is sent was rounded: as `secagg.Bounded` has it. bound: None for the largest number of each
    update. share: w_max / w, of the weight at which it was sent. bits: 1 for the signs alone, times the mean
    size, which no scheme here does.
    """

    bits: int
    bound: float | None = None
    share: float = 1.0
    clip: float | None = None


@dataclass(frozen=True)
class Knowledge:
    """What everybody knows who takes part: what was trained, from where, and how.

    parameters: (d,) float32, the model that the clients received. examples: of each client, public. public:
    images of an attacker's own, None where it has none; no true one is among them. perturbation, encoding:
    what clients were asked to do to what they send, and how it was rounded; None for neither.
    """

    model: Description
    parameters: NDArray[np.float32] = field(repr=False)
    plan: LocalPlan
    examples: int
    public: Public | None = None
    perturbation: Perturbation | None = None
    encoding: Encoding | None = None

    def images_of(self, part: Part) -> int:
        """How many examples went into an update: of each client those that its steps can take."""
        held = self.held_by(part)
        if self.plan.algorithm != "fedsgd" and self.plan.steps:
            return min(held, self.plan.steps * self.plan.batch_size * len(part.members))
        return held

    def held_by(self, part: Part) -> int:
        """How many examples its members hold, as many each."""
        each = self.examples
        if part.examples is not None:
            each = max(1, round(part.examples / len(part.members)))
        return each * len(part.members)

    @property
    def clipped(self) -> bool:
        """Whether clients scale down an update that is too long, each by a factor that it tells nobody."""
        asked = self.perturbation
        itself = asked is not None and asked.mechanism != "example" and asked.clip is not None
        return itself or (self.encoding is not None and self.encoding.clip is not None)

    def at(self, part: Part) -> Knowledge:
        """Of what a part is of: the model of its round, and as many steps as its members take in it, of
        whom each holds as many examples as the others.
        """
        plan, parameters = self.plan, self.parameters if part.before is None else part.before
        if plan.algorithm != "fedsgd":
            steps = plan.steps_of(self.held_by(part) // len(part.members))
            plan = msgspec.structs.replace(plan, steps=steps)
        return replace(self, plan=plan, parameters=parameters)


@dataclass(frozen=True)
class Budget:
    """How much an attack may spend on a part.

    seconds: of a processor, for each image in it, so that what else runs takes nothing away. iterations: of
    an optimiser, from each start. starts: at most so many, while there is time. start: where the first is, by
    name (`starts.NAMES`). looks: after each of the first so many iterations of the first start, what is then
    the best is kept, to be looked at. processed: what each step of `face` makes is denoised and sharpened.
    """

    seconds: float = 10.0
    iterations: int = 300
    starts: int = 8
    start: str = "grey"
    looks: int = 0
    processed: bool = False

    def until(self, images: int) -> float:
        """When to stop, as time.process_time() tells it."""
        return time.process_time() + self.seconds * images


@dataclass(frozen=True)
class Found:
    """What an attack makes of one part.

    images: (N, C, H, W) float64, as they came, not clipped; None where it looks for none. labels:
    (N,). loss: by which it chose among what it had found, with nothing of the truth in it. halfway: the least
    one at half of its time. path: (K, N, C, H, W), what was best after each of the first K iterations of the
    first start, as many as the budget looks at. claimed: (N,), which of the images the attack says to have
    found, the others only fill their places; None of an attack that does not know. words: (W,), ascending,
    each once; the labels are then those that come next.
    """

    images: NDArray[np.float64] | None = field(repr=False)
    labels: NDArray[np.int64]
    loss: float = float("nan")
    seconds: float = 0.0
    halfway: float = float("nan")
    path: NDArray[np.float64] | None = field(default=None, repr=False)
    claimed: NDArray[np.bool_] | None = None
    words: NDArray[np.int64] | None = field(default=None, repr=False)


Guess = tuple[Found, ...]
"""One for each part of the view, in its order."""

Attack = Callable[[View, Knowledge, Budget, int], Guess]
"""(view, knowledge, budget, seed) -> guess. Raises: ConfigError where it is not for this model or plan."""
