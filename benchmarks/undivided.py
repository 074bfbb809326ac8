"""The engine of the first attacks on gradients, on our views: torch's L-BFGS with its own tolerances, on the
squared distance as it is, from one start.

`python undivided.py` runs it as `python -m fl.leakage.apart ATTACK` does: it is for measuring what ours adds,
and no attack of `fl`.
"""

from __future__ import annotations

import time
from typing import Final
from unittest.mock import patch

import numpy as np
import torch

from fl.leakage import apart
from fl.leakage.attack import Budget, Found, Guess, Knowledge
from fl.leakage.attacks import ATTACKS
from fl.leakage.gradients import Matching
from fl.leakage.labels import of_gradient
from fl.leakage.starts import begun
from fl.leakage.views import Part, View

NAME: Final = "undivided"
HISTORY: Final = 100


def undivided(view: View, knowledge: Knowledge, budget: Budget, seed: int) -> Guess:
    """Source: Zhu et al., Deep Leakage from Gradients, NeurIPS 2019; labels are read off first, as ours."""
    rng = torch.Generator().manual_seed(seed)
    return tuple(_of_part(part, knowledge, budget, rng) for part in view.parts)


def _of_part(part: Part, knowledge: Knowledge, budget: Budget, rng: torch.Generator) -> Found:
    since, images = time.process_time(), knowledge.images_of(part)
    matching = Matching(knowledge, part.updates[0], len(part.members))
    labels = of_gradient(matching, knowledge, images)
    y, until = torch.tensor(labels), budget.until(images)
    x = begun(budget.start, y, knowledge, rng).requires_grad_()
    lbfgs = torch.optim.LBFGS([x], history_size=HISTORY)
    best, least = x.detach().clone(), float("inf")

    def closure() -> torch.Tensor:
        nonlocal best, least
        off = matching.off(x, y)
        (x.grad,) = torch.autograd.grad(off, [x])
        if off.item() < least:
            best, least = x.detach().clone(), off.item()
        return off.detach()

    for _ in range(budget.iterations):
        lbfgs.step(closure)  # type: ignore[no-untyped-call]
        if not np.isfinite(least) or time.process_time() > until:
            break
    return Found(best.numpy(), labels, least / matching.size.item(), time.process_time() - since)


def attacked(view: View, knowledge: Knowledge, budget: Budget, seed: int) -> Guess:
    """As fl.leakage.apart.run."""
    return apart.of_program(["-P", __file__], view, knowledge, budget, seed)


if __name__ == "__main__":
    with patch.dict(ATTACKS, {NAME: undivided}):
        apart.main(NAME)
