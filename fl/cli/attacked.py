"""An attack on what a party of a recorded round could read, beside its controls in the same run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import msgspec
import numpy as np
from numpy.typing import NDArray

from fl.cli.guessed import of_labels, of_words
from fl.cli.recorded import Round
from fl.cli.scored import Cell, of_images
from fl.config.plan import LocalPlan
from fl.config.section import ConfigError
from fl.leakage import apart
from fl.leakage.attack import Budget, Knowledge
from fl.leakage.starts import OWN
from fl.leakage.verdicts import LEARNED, TOO_FEW, Controls, verdict
from fl.leakage.views import View
from fl.models.architectures import build
from fl.models.weights import to_vector
from fl.training.clients import usable_cores
from secagg import Plain
from secagg.errors import ClientId

Score = Callable[..., Cell]
"""(round, view, guess, tapped=) -> cell. tapped: what was read is of clients' first steps alone."""

SCORES: Mapping[str, Score] = {
    "labels": of_labels,
    "words": of_words,
    **dict.fromkeys(LEARNED, partial(of_images, learned=True)),
}
"""Of attacks that look for something else than images, or have learned from the like of them."""


class Doing:
    """What is attacked just now, in the order in which it was begun."""

    def __init__(self) -> None:
        self._names: dict[str, None] = {}

    @contextmanager
    def this(self, name: str) -> Iterator[None]:
        self._names[name] = None
        try:
            yield
        finally:
            del self._names[name]

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._names))


@dataclass(frozen=True)
class Outcome:
    """What an attack made of a party's view, beside the controls: the same attack, in the same run.

    seen: None where the party can read nothing. exact: None where nobody had to look. informed: what the
    party reads, attacked by who has the model; None where the attack on it had it. last: what it reads of the
    last round alone, inverted; None where no earlier ones were attacked with it. noised: what it reads has
    clients' shares of noise in it, which no control has.
    """

    seen: Cell | None
    single: Cell
    summed: Cell | None
    exact: Cell | None
    why: str
    informed: Cell | None = None
    last: Cell | None = None
    noised: bool = False

    @property
    def verdict(self) -> str:
        if self.seen is not None and self.seen.found is None:
            return TOO_FEW
        controls = Controls(
            bool(self.single.found),
            None if self.exact is None else bool(self.exact.found),
            None if self.summed is None else bool(self.summed.found),
            None if self.informed is None else bool(self.informed.found),
            self.noised,
        )
        return verdict(None if self.seen is None else bool(self.seen.found), controls)

    @property
    def cells(self) -> dict[str, Cell]:
        there = {"seen": self.seen, "informed": self.informed, "single": self.single, "sum": self.summed}
        there |= {"exact": self.exact, "last": self.last}
        return {name: cell for name, cell in there.items() if cell is not None}


def attacked(
    round: Round,
    attack: str,
    party: str,
    budget: Budget,
    seed: int,
    which: frozenset[ClientId] = frozenset(),
    doing: Doing | None = None,
    *,
    without_model: bool = False,
) -> Outcome:
    """The attack on what the party can read, and on the controls. which: as of `Round.view`. doing: holds
    what is attacked meanwhile. without_model: who attacks what the party reads draws first weights of its
    own.

    Raises: ConfigError where there is no such party, it has the model by what it is, or the attack is not for
    this model.
    """
    if without_model and (party == "participant" or round.earlier):
        raise ConfigError("--without-model: who follows the model over rounds has it; take one round")
    view, knowledge, score = round.view(party, which), round.knowledge, SCORES.get(attack, of_images)
    if budget.start in OWN or attack in LEARNED:
        knowledge = replace(knowledge, public=round.public)
    members = sorted(set(round.uploads) - (which if party == "colluders" else set()))
    if party == "relay" and view.parts:
        members = sorted(u for part in view.parts for u in part.members)
    tapped = party == "client"
    todo = {"seen": view, "single": round.single(members)}
    if sums := [sorted(part.members) for part in view.parts if len(part.members) > 1]:
        todo["sum"] = View(tuple(part for members in sums for part in round.summed(members).parts))
    own = dict.fromkeys(todo, knowledge) | {"single": replace(knowledge, encoding=round.encoding)}
    if not isinstance(round.scheme, Plain):  # under which updates are sent as they are
        own["seen"] = own["single"]
    if tapped:
        own["seen"] = _of_first_step(round, knowledge)
    if without_model:
        todo["informed"], own["informed"] = view, own["seen"]
        own["seen"] = replace(own["seen"], parameters=_other_weights(knowledge, seed))

    if round.earlier and view.parts:
        todo["last"], own["last"] = view, own["seen"]

    now = Doing() if doing is None else doing

    def cell(name: str, what: View) -> Cell:
        by = "inversion" if name == "last" else attack
        with now.this(name):
            guess = apart.run(by, what, own.get(name, knowledge), budget, seed)
        return score(round, what, guess, tapped=tapped and name in ("seen", "informed", "last"))

    with ThreadPoolExecutor(usable_cores()) as threads:
        jobs = {name: threads.submit(cell, name, each) for name, each in todo.items() if each.parts}
        cells = {name: job.result() for name, job in jobs.items()}
    seen, single = cells.get("seen"), cells["single"]
    hidden = seen is not None and not seen.found and single.found is False
    exact = cell("exact", round.exact(members)) if hidden else None
    noised = party != "client" and round.config.privacy.mechanism == "distributed"
    others = cells.get("informed"), cells.get("last")
    return Outcome(seen, single, cells.get("sum"), exact, view.why, *others, noised)


def _of_first_step(round: Round, knowledge: Knowledge) -> Knowledge:
    """What is known of the gradient of a client's first step: what is sent is perturbed later, but for the
    noise of each step.
    """
    batch, asked = max(len(of) for _, of in round.first.values()), knowledge.perturbation
    if asked is not None:
        asked = msgspec.structs.replace(asked, compress=0.0) if asked.mechanism == "example" else None
    return replace(knowledge, plan=LocalPlan(algorithm="fedsgd"), examples=batch, perturbation=asked)


def _other_weights(knowledge: Knowledge, seed: int) -> NDArray[np.float32]:
    """First weights of the same model as others would draw them."""
    described = knowledge.model
    return to_vector(build(described.model, described.shape, described.classes, seed + 1))
