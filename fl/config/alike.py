"""When the updates of two training rounds come out alike: what a client's rule for that is told of a task.

What training adds to a model depends on the model, the data and the order of the batches. The order is each
client's secret (fl/config/secret.py), and makes another update of every session: unless the plan leaves it
nothing to do. See secagg/alike.py, and docs/threats.md for what was measured.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fl.config.plan import LocalPlan
from secagg import Policy
from secagg.alike import Likeness

KIND = "training"


def one_gradient(plan: LocalPlan, alike_batch: int) -> bool:
    """Whether the order of batches makes no difference to speak of: the full gradient, one step, or batches
    so large that each is most of what a client holds. It follows from what the server knows alone, so that
    it tells nothing of a client's data.
    """
    return plan.algorithm == "fedsgd" or plan.steps == 1 or plan.batch_size > alike_batch


def likeness(
    plan: LocalPlan, model: NDArray[np.floating], policy: Policy, *, own_loop: bool = False
) -> Likeness | None:
    """What a client's update by this plan is computed from; None where secret order is enough.

    model: (d,), the parameters and buffers where it starts. own_loop: the plan does not say what steps are
    taken, nor whether their order is secret.
    """
    unlike = not own_loop and not one_gradient(plan, policy.alike_batch)
    if policy.alike == "never" or (policy.alike == "auto" and unlike):
        return None
    return Likeness(KIND, model, whatever=policy.alike == "any")
