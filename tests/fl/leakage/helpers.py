"""A small net and images of noise: what a client would send of them, and what everybody knows of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from fl.config.plan import LocalPlan
from fl.leakage.attack import Budget, Guess, Knowledge
from fl.leakage.attacks import ATTACKS
from fl.leakage.views import Part, View
from fl.models.architectures import Description, build
from fl.models.weights import from_vector, to_vector
from fl.training.local import train

SHAPE, CLASSES = (1, 8, 8), 10
GRADIENT = LocalPlan(algorithm="fedsgd")
rng = np.random.default_rng(19)
IMAGES = rng.random((4, *SHAPE)).astype(np.float32)
LABELS = np.array([3, 7, 7, 1])


def knowing(
    plan: LocalPlan = GRADIENT, model: str = "lenet-zhu", examples: int = 1, seed: int = 0
) -> Knowledge:
    parameters = to_vector(build(model, SHAPE, CLASSES, seed))
    return Knowledge(Description(model, SHAPE, CLASSES), parameters, plan, examples)


def sent(knowledge: Knowledge, *images: int, u: int = 0) -> Part:
    """What client u with these images sends."""
    model = build(knowledge.model.model, SHAPE, CLASSES, 0)
    from_vector(model, knowledge.parameters)
    x, y = torch.tensor(IMAGES[list(images)]), torch.tensor(LABELS[list(images)])
    upload = train(model, x, y, knowledge.plan, bytes(32)).upload
    return Part(frozenset({u}), upload.astype(np.float64)[None], len(images))


def summed(*parts: Part) -> Part:
    """Of clients of as many images each."""
    updates = np.mean([part.updates for part in parts], axis=0)
    members = frozenset().union(*(part.members for part in parts))
    return Part(members, updates, sum(part.examples or 0 for part in parts))


def attack_here(attack: str, view: View, knowledge: Knowledge, budget: Budget, seed: int) -> Guess:
    """`apart.run` without a process of its own, which takes seconds to begin: test_attacks tells of it."""
    return ATTACKS[attack](view, knowledge, budget, seed) if view.parts else ()


def quick_attack(attack: str, view: View, knowledge: Knowledge, budget: Budget, seed: int) -> Guess:
    """Which finds less than it could."""
    return attack_here(attack, view, knowledge, replace(budget, iterations=2, starts=1), seed)


def view(*parts: Part) -> View:
    return View(parts)


def gradient(
    model: torch.nn.Module, x: NDArray[np.float32 | np.int64], y: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(d,) in float64, as torch has it without any of our own code. x: images, or tokens."""
    model, inputs = model.double(), torch.tensor(x)
    loss = cross_entropy(model(inputs.double() if inputs.is_floating_point() else inputs), torch.tensor(y))
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]).numpy()
