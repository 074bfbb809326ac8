"""An exercise: a rule of one's own, on the public doors alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fl.cohort.layout import lay_out
from fl.config.run import RunConfig
from fl.federation.simulation import simulated
from fl.robust import Bench, Memory, Points, Verdict


def nearest_to_the_last(points: Points, bench: Bench, memory: Memory) -> Verdict:
    """Half of the parts, those nearest to what was taken in the round before; in the first the median."""
    before = memory.get("update", np.median(points.updates, axis=0))
    far = np.argsort(np.linalg.norm(points.updates - before, axis=1))[len(points.updates) // 2 :]
    update = np.delete(points.updates, far, axis=0).mean(axis=0)
    return Verdict(update, frozenset(far.tolist()), {"update": update})


def test_a_new_rule_leaves_out_who_sends_the_opposite() -> None:
    config = RunConfig.of(clients=8, rounds=3, scheme="plain", execution="batched", model="logistic", seed=1)

    def reversing(instructions, model, results):  # type: ignore[no-untyped-def]
        return results | {u: replace(results[u], upload=-9 * results[u].upload) for u in (0, 5)}

    run = simulated(config, lay_out(config), rule=nearest_to_the_last, sending=reversing)
    trained = list(run.rounds())
    assert all({0, 5} < each.left_out for each in trained)
    plain = list(simulated(config, lay_out(config), sending=reversing).rounds())
    assert trained[-1].record.accuracy > plain[-1].record.accuracy + 0.3
