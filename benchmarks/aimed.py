"""Runs whose attackers are after one class, or stamp a trigger: what the tables of such attacks share."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch

from benchmarks.harness import Row
from benchmarks.poisoned import laid_out, left_out, model_of, played
from benchmarks.spread import by_seed, spread
from fl.cohort.layout import Layout
from fl.config.run import RunConfig
from fl.data.examples import Labels
from fl.federation.records import Trained
from fl.models.architectures import build
from fl.models.weights import from_vector
from fl.poisoning.data import stamp
from fl.scores import ByClass, success
from fl.training.local import answered, device


@dataclass(frozen=True)
class Scores:
    """Of a model on the test set, in [0, 1] each. victim: the F1 of the class that is attacked; rest: the
    micro-F1 of all others; taken: the share of the victim's examples that are taken for the target; success:
    of the images that bear the trigger and are not of the target, the share that are taken for it.
    """

    accuracy: float
    victim: float
    rest: float
    taken: float
    success: float


def run(config: RunConfig, last: int) -> Row:
    """The run that `secagg train` makes of the configuration, with its attackers and its rule.

    Returns the means of the `Scores` over so many last rounds; rounds: the scores of each of these; left_out:
    as `poisoned.run`; seconds. Raises: as `poisoned.laid_out` and `poisoned.played`.
    """
    layout, server = laid_out(config)
    begun, scores, every = time.monotonic(), list[dict[str, float]](), list[Trained]()
    look = looking(config, layout)
    for trained in played(server, config.training.rounds):
        every.append(trained)
        if trained.record.round > config.training.rounds - last:
            scores.append(asdict(look(trained)))
    return {
        **{name: statistics.fmean(each[name] for each in scores) for name in scores[0]},
        "rounds": [{name: round(score, 4) for name, score in each.items()} for each in scores],
        "left_out": left_out(every, layout.attackers),
        "seconds": round(time.monotonic() - begun, 1),
    }


def looking(config: RunConfig, layout: Layout) -> Callable[[Trained], Scores]:
    """The scores after a round, for the victim and the target of the configuration, attacked or not."""
    dataset, on, aim = layout.serving.dataset, device(config.training.device), config.attack
    y = torch.tensor(dataset.test_y, device=on)
    x, stamped = (torch.tensor(each, device=on) for each in (dataset.test_x, stamp(dataset.test_x)))
    model = build(config.training.model, dataset.shape, dataset.classes, seed=0)

    def look(trained: Trained) -> Scores:
        from_vector(model, model_of(trained).astype(np.float32))
        answers, triggered = (answered(model, each, y)[0].cpu().numpy() for each in (x, stamped))
        return scored(dataset.test_y, answers, triggered, dataset.classes, aim.victim, aim.target)

    return look


def scored(
    truth: Labels, answers: Labels, triggered: Labels, classes: int, victim: int, target: int
) -> Scores:
    """answers, triggered: to the test set without the trigger and with it."""
    by_class = ByClass.of(truth, answers, classes)
    return Scores(
        accuracy=float((answers == truth).mean()),
        victim=float(by_class.f1[victim]),
        rest=by_class.rest(victim),
        taken=float((answers[truth == victim] == target).mean()),
        success=success(truth, triggered, target),
    )


def percents(some: Sequence[Row], name: str) -> dict[int, float]:
    """Of a score, by seed."""
    return by_seed(some, lambda row: 100 * row[name])


def mean(some: Sequence[Row], name: str) -> str:
    """Of a score, in percent, ± over seeds."""
    return spread(list(percents(some, name).values()), ".1f")
