"""Unmask on a Ray cluster: `pip install 'secagg[ray]'`, then `python examples/ray_executor.py`.

The server takes any `concurrent.futures.Executor`; `fl.cluster` makes one of Ray's workers. It starts a
cluster on this machine, unless RAY_ADDRESS names one. `secagg train --execution ray` trains there, too.
"""

from __future__ import annotations

import numpy as np

from secagg import Bounded, Masking, run

try:
    # begin ray
    from fl.cluster import connected
    # end ray
except ModuleNotFoundError:
    raise SystemExit("this example needs Ray: pip install 'secagg[ray]'") from None


def main() -> None:
    n, length = 20, 100_000
    scheme = Masking.for_cohort(n, Bounded(length=length, bound=1.0))
    updates = {u: np.random.default_rng(u).uniform(-1, 1, length) for u in range(n)}
    # begin ray
    with connected(cores=2) as executor:
        aggregate = run(scheme, updates, drop={"masked-input": {3, 7}}, executor=executor)
    # end ray
    expected = np.mean([updates[u] for u in sorted(aggregate.survivors)], axis=0)
    error = np.abs(aggregate.mean[""] - expected).max()
    within = "within" if error <= aggregate.error_bound[""] else "NOT within"
    print(f"the mean over {len(aggregate.survivors)} clients is {within} its bound: {error:.1e} off")


if __name__ == "__main__":
    main()
