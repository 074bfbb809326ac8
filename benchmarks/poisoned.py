"""Runs with attackers among the clients, under a rule of the server's: what the tables of poisoning share."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.harness import Row
from fl.cohort.layout import Layout, lay_out
from fl.config.run import RunConfig
from fl.config.secret import RunSecrets
from fl.data import DataError
from fl.federation.records import Trained
from fl.federation.server import Server
from fl.federation.simulation import simulated
from fl.models.architectures import build
from fl.models.weights import from_vector
from fl.robust import Rule
from fl.training.local import Diverged, device, evaluate
from secagg.errors import ClientId
from secagg.record import Instrument

LAST = 10  # rounds whose mean is an accuracy: under attack one round is far from the next
EVERY = 5  # rounds between two looks at the test set before these


def run(config: RunConfig, rule: Rule | None = None) -> Row:
    """The run that `secagg train` makes of the configuration, with its attackers and its rule, or another.

    Returns accuracy: in [0, 1] on the test set, mean of the last rounds; curve: [round, accuracy]; constant:
    the accuracy of the best constant answer; left_out: parts of rounds that the rule left out, of attackers
    and of the honest, as shares of theirs; until: the round after which nobody could train, None where all
    were trained; seconds. Raises: as `laid_out`; Unfit of the rule; Diverged in the first round.
    """
    layout, server = laid_out(config, rule)
    begun, curve, every = time.monotonic(), list[tuple[int, float]](), list[Trained]()
    look = looking(config, layout)
    for trained in played(server, config.training.rounds):
        every.append(trained)
        if looked_at(trained.record.round, config.training.rounds):
            curve.append((trained.record.round, look(trained)))
    return {
        "accuracy": statistics.fmean(accuracy for _, accuracy in curve[-LAST:]),
        "curve": [[round, accuracy] for round, accuracy in curve],
        "constant": constant(layout),
        "left_out": left_out(every, layout.attackers),
        "until": until(every),
        "seconds": round(time.monotonic() - begun, 1),
    }


def played(server: Server, rounds: int) -> Iterator[Trained]:
    """Every round. Attackers can lead a model so far out that the honest can train it no more: what it was
    then is what it is in all rounds that are left, in which nobody is in a sum.

    Raises: Diverged where not even a first round came about.
    """
    last: Trained | None = None
    try:
        for last in server.rounds():
            yield last
    except Diverged:
        if last is None:
            raise
        for round in range(last.record.round + 1, rounds + 1):
            yield replace(last, record=replace(last.record, round=round), survivors=())


def until(every: Sequence[Trained]) -> int | None:
    """The round after which nobody was in a sum; None where there is none."""
    there = [trained.record.round for trained in every if trained.survivors]
    return None if every[-1].survivors else max(there, default=0)


def laid_out(
    config: RunConfig, rule: Rule | None = None, *, instrument: Instrument | None = None
) -> tuple[Layout, Server]:
    """Who holds what, and the server whose rounds are the run. Raises: NotImplementedError where the data set
    is not to be had.
    """
    try:
        layout = lay_out(config)
    except DataError as error:
        raise NotImplementedError(str(error)) from error
    secrets = RunSecrets.of_seed(config.training.seed)
    every = config.training.rounds
    return layout, simulated(
        config, layout, secrets=secrets, rule=rule, evaluate_every=every, instrument=instrument
    )


def looked_at(round: int, rounds: int) -> bool:
    """Whether the test set is: in the last rounds, and now and then before them."""
    return round > rounds - LAST or round % EVERY == 0


def looking(config: RunConfig, layout: Layout) -> Callable[[Trained], float]:
    """Accuracy on the test set after a round."""
    dataset, on = layout.serving.dataset, device(config.training.device)
    x, y = torch.tensor(dataset.test_x, device=on), torch.tensor(dataset.test_y, device=on)
    model = build(config.training.model, dataset.shape, dataset.classes, seed=0)

    def look(trained: Trained) -> float:
        from_vector(model, model_of(trained).astype(np.float32))
        return evaluate(model, x, y)[0]

    return look


def model_of(trained: Trained) -> NDArray[np.float64]:
    """The model after a round, (d,): where the clients keep it, theirs."""
    kept = trained.local.parameters
    return trained.checkpoint.parameters if kept is None else kept


def constant(layout: Layout) -> float:
    """The accuracy on the test set of the best constant answer: whoever is no better has learned nothing."""
    y = layout.serving.dataset.test_y
    return float(np.bincount(y).max() / len(y))


def left_out(rounds: Sequence[Trained], attackers: frozenset[ClientId]) -> dict[str, float | None]:
    """The share of the attackers, and of the honest, that had no part in a round; None of nobody."""
    shares: dict[str, float | None] = {}
    for who, are_bad in (("attackers", True), ("honest", False)):
        there = [u in each.left_out for each in rounds for some in each.survivors for u in some]
        whose = [u in attackers for each in rounds for some in each.survivors for u in some]
        of_them = [out for out, bad in zip(there, whose, strict=True) if bad is are_bad]
        shares[who] = statistics.fmean(of_them) if of_them else None
    return shares


def out(some: Sequence[Row], who: str) -> str:
    """How many percent of the attackers, or of the honest, were left out; nothing where there are none."""
    shares = [row["left_out"][who] for row in some if row["left_out"][who] is not None]
    return f"{100 * statistics.fmean(shares):.0f}" if shares else ""
