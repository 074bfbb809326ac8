"""A secure sum in one process: ten clients, one of which vanishes before it uploads."""

import numpy as np

from secagg import Bounded, Masking, run

scheme = Masking.for_cohort(clients=10, vectors={"update": Bounded(length=1000, bound=1.0, bits=16)})
inputs = {u: {"update": np.full(1000, u / 10)} for u in range(10)}

total = run(scheme, inputs, drop={"masked-input": {9}})

expected = np.mean([inputs[u]["update"] for u in total.survivors], axis=0)
error = np.abs(total.mean["update"] - expected).max()
print(f"{len(total.survivors)} survivors, mean {total.mean['update'][0]:.4f}")
print(f"error {error:.1e}, never above {total.error_bound['update']:.1e}")
