"""Images from what the same clients sent in several rounds: those that would explain all of it."""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from fl.config.section import ConfigError
from fl.leakage.attack import Budget, Found, Guess, Knowledge
from fl.leakage.gradients import Matching
from fl.leakage.inversion import by_lbfgs, from_starts, refused
from fl.leakage.labels import of_gradients
from fl.leakage.views import Part, View


def history(view: View, knowledge: Knowledge, budget: Budget, seed: int) -> Guess:
    """As inversion, of all rounds at once in which the same clients sent something of the same images.

    Source: none, made for this project: who has the server sees every update of each client over time.
    """
    return tuple(_of_part(part, knowledge, budget, seed) for part in view.parts)


def _of_part(part: Part, knowledge: Knowledge, budget: Budget, seed: int) -> Found:
    since, images = time.process_time(), knowledge.images_of(part)
    refused(knowledge, budget)
    if any(len(each.updates) > 1 for each in (part, *part.earlier)):
        raise ConfigError("history follows one update over rounds, and here are candidates: try inversion")
    if part.earlier and images < knowledge.held_by(part):
        raise ConfigError(
            "history is of the same images in every round: let a client's steps take all that it holds"
        )
    rounds = [_of_round(each, knowledge) for each in (*part.earlier, part)]
    size = torch.stack([each.size for each in rounds]).sum()

    def distance(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Every number of every round counts alike: rounding is the same in all, whatever their size."""
        off: torch.Tensor = torch.stack([each.off(x, y) for each in rounds]).sum() / size
        return off

    y = of_gradients(rounds, knowledge, images)
    rounding = zip(rounds, (*part.earlier, part), strict=True)
    explained = sum(one.explained(each.deviation) * float(one.size) for one, each in rounding) / float(size)
    found = from_starts(distance, knowledge, y, budget, seed, by_lbfgs, explained)
    return replace(found, seconds=time.process_time() - since)


def _of_round(part: Part, knowledge: Knowledge) -> Matching:
    return Matching(knowledge.at(part), part.updates[0], len(part.members))
