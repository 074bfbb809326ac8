"""Secure averaging under NVFlare, on its simulator. NVFlare has pins of its own: in an environment apart,
`pip install nvflare`, `pip install .` in a clone, and `python examples/nvflare/job.py`. Tried with 2.9.0.

Five sites fit a linear model, each to examples of its own; in round 2 one of them dies, when it has dealt the
shares of its keys and is asked for its masked model: the others' mean is exact all the same, and the last
round is theirs. What is yours are MODEL in messages.py and `train` here; the rest is one controller and one
executor, which `job.to_server` and `job.to_clients` put into a job as any other.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np
from controller import SecureAveraging
from executor import SecureExecutor
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal
from nvflare.job_config.api import FedJob

SITES = [f"site-{i}" for i in range(1, 6)]


class Regression(SecureExecutor):
    """Ten steps along the gradient of the mean squared error. dies: the site that does so in round 2."""

    def __init__(self, dies: str = "") -> None:
        super().__init__()
        self.dies = dies
        self._number, self._heard = 0, 0

    def train(self, site: str, number: int, model: dict[str, Any]) -> tuple[dict[str, Any], int]:
        self._number = number
        x, y = examples(site)
        weights, bias = model["weights"], model["bias"]
        for _ in range(10):
            wrong = x @ weights + bias - y
            weights, bias = weights - 0.1 * x.T @ wrong / len(y), bias - 0.1 * wrong.mean()
        return {"weights": weights, "bias": bias}, len(y)

    def execute(
        self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal
    ) -> Shareable:
        self._heard = 0 if "offer" in shareable else self._heard + 1
        # After task and keys the third message asks for its masked model.
        if self.dies == fl_ctx.get_identity_name() and (self._number, self._heard) == (2, 3):
            os._exit(1)
        return super().execute(task_name, shareable, fl_ctx, abort_signal)


def examples(site: str) -> tuple[np.ndarray, np.ndarray]:
    """A site's own: between 20 and 60 of one law, with noise."""
    rng = np.random.default_rng(int(site.removeprefix("site-")))
    x = rng.normal(size=(rng.integers(20, 60), 8))
    return x, x @ np.linspace(-1, 1, 8) + 0.5 + 0.1 * rng.normal(size=len(x))


def main(workspace: str) -> int:
    job = FedJob("secure-averaging")
    # begin nvflare
    job.to_server(SecureAveraging(rounds=3, deadline=20))
    job.to_clients(Regression(dies="site-4"))  # of SecureExecutor: `train` is yours
    # end nvflare
    return job.simulator_run(workspace, clients=SITES)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "workspace"))
