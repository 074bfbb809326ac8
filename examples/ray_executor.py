"""Unmask on a Ray cluster: `pip install 'secagg[ray]'`, then `python examples/ray_executor.py`.

The server takes any `concurrent.futures.Executor`. Ray has none of its own; these lines make one.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

import numpy as np

from secagg import Bounded, Masking, run

try:
    import ray
except ModuleNotFoundError:
    raise SystemExit("this example needs Ray: pip install 'secagg[ray]'") from None


class RayExecutor(Executor):
    """Tasks of a Ray cluster, which `ray.init` has connected to."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return ray.remote(fn).remote(*args, **kwargs).future()


def main() -> None:
    n, length = 20, 100_000
    scheme = Masking.for_cohort(n, Bounded(length=length, bound=1.0))
    updates = {u: np.random.default_rng(u).uniform(-1, 1, length) for u in range(n)}
    with RayExecutor() as executor:
        aggregate = run(scheme, updates, drop={"masked-input": {3, 7}}, executor=executor)
    expected = np.mean([updates[u] for u in sorted(aggregate.survivors)], axis=0)
    error = np.abs(aggregate.mean[""] - expected).max()
    within = "within" if error <= aggregate.error_bound[""] else "NOT within"
    print(f"the mean over {len(aggregate.survivors)} clients is {within} its bound: {error:.1e} off")


if __name__ == "__main__":
    ray.init(configure_logging=False)
    main()
