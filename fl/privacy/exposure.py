"""How often a round of a client's training with noised steps takes up one of its examples: what the mechanism
`example` has to be counted by. Neighbours there differ in one example's contribution to every step of one
client; who gives the same example to several clients has each of them tell of it.

What these releases cost holds against everybody: who sees the model, the sum, this client's upload, or every
noised step of it. Noise is in each step, and what comes after it, momentum, the proximal term, the sum, knows
no example. It does not hold of what a client would tell beside its update: its loss, or its correct answers.
"""

from __future__ import annotations

from dataclasses import dataclass

from fl.config.plan import LocalPlan


@dataclass(frozen=True)
class Exposure:
    """An example is in `steps` noised sums of a round at most, in each with probability `rate`, by a coin
    that is its client's secret.
    """

    rate: float
    steps: int


def exposure(plan: LocalPlan, examples: int | None) -> Exposure | None:
    """Of the examples of a client that holds so many; None: of any client, which may hold a single one. None
    where of any client nothing can be said, as by epochs of Poisson samples, whose steps go by what it holds.

    Shuffled, an example is in one batch of a pass. For every order of the examples, which does not follow
    from what they are, each other step is the same function of what was released before it: so a pass is one
    release, of rate 1, however many steps it has.
    """
    if plan.algorithm == "fedsgd":
        return Exposure(1.0, 1)
    if plan.sampling == "poisson":
        if examples is None:
            return Exposure(1.0, plan.steps) if plan.steps else None
        return Exposure(min(1.0, plan.batch_size / examples), plan.steps_of(examples))
    a_pass = -(-(examples or 1) // plan.batch_size)
    return Exposure(1.0, -(-plan.steps // a_pass) if plan.steps else plan.epochs)
