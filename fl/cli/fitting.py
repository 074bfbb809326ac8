"""Which attacks fit what the server of a run read, and of the others why not: by what everybody knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Final

from torch import nn

from fl.cli.recorded import Round
from fl.leakage.attack import Knowledge
from fl.leakage.attacks import ATTACKS
from fl.leakage.gradients import model_of
from fl.leakage.views import Part
from fl.models.architectures import Centred

LINKAGE, GROUPING = "linkage", "grouping"
MOST_SCORED: Final = 2_000  # images in an update: each is compared with each
MOST_INVERTED: Final = 20  # of 50 in a sum labels alone come out (docs/benchmarks/leakage.md)
MOST_STEPS: Final = 10  # each taken again for every look at the distance
MOST_NUMBERS: Final = 1_000_000  # of a model whose gradient is differentiated once more

Why = Callable[[Sequence[Round]], str]


def fitting(rounds: Sequence[Round]) -> dict[str, str]:
    """Attack -> why it is not tried, "" where it is; every one that there is, those that are tried first.

    rounds: of which something was read, in their order, one at least.
    """
    asked: Mapping[str, Why] = {
        "labels": _labels,
        "words": _words,
        "analytic": _first_layer,
        "peeling": _first_layer,
        "inversion": _inversion,
        "sparse": _sparse,
        "history": _history,
        LINKAGE: _linkage,
        GROUPING: _grouping,
    }
    why = {name: reason(rounds) for name, reason in asked.items()}
    return dict(sorted(why.items(), key=lambda each: bool(each[1]))) | LATER


LATER: Final = {
    "cosine": "looks for what inversion looks for, and takes longer: secagg attack cosine",
    "learned": "trains for minutes before it looks: secagg attack learned",
    "imprint": "is of a server that crafts the model, as this one did not: secagg attack imprint",
    "face": "is of the model alone, which no way of adding up hides: secagg attack face",
}
assert LATER.keys() < ATTACKS.keys()  # noqa: S101 - every attack is tried, or is said not to be


def _parts(rounds: Sequence[Round]) -> Sequence[Part]:
    return rounds[-1].read.parts


def _text(knowledge: Knowledge) -> bool:
    return len(knowledge.model.shape) != 3


def _labels(rounds: Sequence[Round]) -> str:
    return (
        "reads classes, and the labels of texts are their next words: see words"
        if _text(rounds[-1].knowledge)
        else ""
    )


def _words(rounds: Sequence[Round]) -> str:
    return "" if _text(rounds[-1].knowledge) else "reads texts, and these are images"


def _one(rounds: Sequence[Round]) -> str:
    """Why one round was read, or what to do about it."""
    config = rounds[-1].config
    if config.training.rounds < 2:
        return "the run had no other: --rounds"
    return (
        "--meter-rounds" if config.meter.rounds < 2 else "of the others nothing was kept, or can be attacked"
    )


def _texts(rounds: Sequence[Round]) -> str:
    return "looks for images, and these are texts" if _text(rounds[-1].knowledge) else ""


def _images(rounds: Sequence[Round]) -> str:
    knowledge = rounds[-1].knowledge
    if why := _texts(rounds):
        return why
    many = max(knowledge.images_of(part) for part in _parts(rounds))
    if many > MOST_SCORED:
        return f"has no time for {many} images in one of what was read: {MOST_SCORED} are the most"
    return ""


def _first_layer(rounds: Sequence[Round]) -> str:
    layers = [each for each in model_of(rounds[-1].knowledge).modules() if not list(each.children())]
    first = next(layer for layer in layers if not isinstance(layer, Centred | nn.Flatten))
    if not _text(rounds[-1].knowledge) and not isinstance(first, nn.Linear):
        return f"reads what enters a first linear layer, and this model begins with {type(first).__name__}"
    return _images(rounds) or _candidates(rounds)


def _candidates(rounds: Sequence[Round]) -> str:
    most = max(len(part.updates) for part in _parts(rounds))
    return f"reads one update, and here are {most} candidates of each client" if most > 1 else ""


def _inverted(rounds: Sequence[Round]) -> str:
    knowledge = rounds[-1].knowledge
    if why := _images(rounds):
        return why
    many = max(knowledge.images_of(part) for part in _parts(rounds))
    steps = max(knowledge.at(part).plan.steps for part in _parts(rounds))
    if many > MOST_INVERTED:
        return f"has no time for {many} images in one of what was read: {MOST_INVERTED} are the most"
    if steps > MOST_STEPS:
        return f"has no time to take {steps} local steps again and again: {MOST_STEPS} are the most"
    if len(knowledge.parameters) > MOST_NUMBERS:
        return f"has no time for a model of {len(knowledge.parameters)} numbers: {MOST_NUMBERS} are the most"
    return ""


def _compressed(rounds: Sequence[Round]) -> bool:
    asked = rounds[-1].knowledge.perturbation
    return asked is not None and asked.compress > 0


def _inversion(rounds: Sequence[Round]) -> str:
    return "is not for updates that were compressed: see sparse" if _compressed(rounds) else _inverted(rounds)


def _sparse(rounds: Sequence[Round]) -> str:
    if why := _texts(rounds):
        return why
    return _inverted(rounds) if _compressed(rounds) else "is for updates that were compressed: see inversion"


def _history(rounds: Sequence[Round]) -> str:
    knowledge, last = rounds[-1].knowledge, _parts(rounds)
    if why := _texts(rounds) or _candidates(rounds):
        return why
    if any(knowledge.images_of(part) < knowledge.held_by(part) for part in last):
        return "is of the same images in every round, and a client's steps take others each time"
    if why := _inverted(rounds):
        return why
    before = [part.members for round in rounds[:-1] for part in round.read.parts]
    if not before:
        return f"takes the same clients in two rounds, and one was read: {_one(rounds)}"
    if all(part.members not in before for part in last):
        return "takes the same clients in two rounds, and each that was read was of others"
    return ""


def _linkage(rounds: Sequence[Round]) -> str:
    if len(rounds) < 2:
        return f"compares the updates of two rounds, and one was read: {_one(rounds)}"
    there = [set(round.uploads) for round in rounds]
    if max(len(some & other) for some, other in combinations(there, 2)) < 2:
        return "compares clients that are in two rounds, and no two are in those that were read"
    return ""


def _grouping(rounds: Sequence[Round]) -> str:
    members = [part.members for round in rounds for part in round.read.parts]
    if any(len(each) == 1 for each in members):
        return "tells whose an image is that came out of sums, and here every update has its sender"
    if why := _first_layer(rounds):
        return why
    if len(set(members)) < 2:
        return "tells whose an image is by who was in which sum, and the same were in all that were read"
    return ""
