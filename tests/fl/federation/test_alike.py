"""Rounds whose updates come out alike whatever the order of batches, and two chosen sessions with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fl.cohort.layout import lay_out
from fl.config.alike import likeness, one_gradient
from fl.config.plan import LocalPlan
from fl.config.run import RunConfig
from fl.config.secret import RunSecrets
from fl.federation.server import Server
from fl.federation.simulation import SimulatedCohort
from fl.federation.task import write_instructions
from fl.federation.vectors import UPDATE
from secagg import Policy

N, VICTIM = 9, 3
SECRETS = RunSecrets.of_seed(0)
FEDSGD: dict[str, Any] = {
    "clients": N,
    "examples_per_client": 20,
    "model": "logistic",
    "partition": "iid",
    "execution": "sequential",
    "algorithm": "fedsgd",
    "corrupt": 1,
    "bits": 24,
    "rounds": 3,
}


@pytest.mark.parametrize(
    ("plan", "alike"),
    [
        (LocalPlan(), False),
        (LocalPlan(steps=2, batch_size=64), False),
        (LocalPlan(algorithm="fedavg-weights"), False),
        (LocalPlan(algorithm="fedsgd"), True),
        (LocalPlan(steps=1), True),
        (LocalPlan(epochs=5, batch_size=65), True),
    ],
)
def test_a_plan_that_leaves_the_order_nothing_to_do_is_alike(plan: LocalPlan, alike: bool) -> None:
    model = np.ones(3)
    assert one_gradient(plan, 64) is alike
    assert (likeness(plan, model, Policy()) is not None) is alike
    assert likeness(plan, model, Policy(alike="always")) is not None
    assert likeness(plan, model, Policy(alike="never")) is None
    of_any = likeness(plan, model, Policy(alike="any"))
    assert of_any is not None
    assert of_any.whatever


def two_chosen_sessions(**settings: Any) -> tuple[Any, Any, dict[int, np.ndarray[Any, Any]]]:
    """What the server learns of everybody, of all but the victim, and what each client adds to a sum."""
    config = RunConfig.of(**FEDSGD | settings)
    layout = lay_out(config)
    sent: dict[int, np.ndarray[Any, Any]] = {}

    class Ear:
        def step(self, *_: Any) -> None: ...

        def upload(self, u: int, upload: np.ndarray[Any, Any]) -> None:
            sent[u] = upload

    cohort = SimulatedCohort(config, layout, tap=Ear(), secrets=SECRETS.clients(N))
    server = Server(cohort, config, layout.serving)
    alike = likeness(config.training.plan, server.model.broadcast, config.protection.policy())
    totals = []
    for run, asked in ((bytes(16), range(N)), (bytes(15) + b"1", sorted({*range(N)} - {VICTIM}))):
        task = write_instructions(config, run, 1, server.description, server.model.broadcast)
        scheme = server._scheme_for(len(asked))
        totals.append(cohort.aggregate(scheme, task, clients=asked, alike=alike))
    return *totals, {u: upload * FEDSGD["examples_per_client"] for u, upload in sent.items()}


@pytest.mark.parametrize("scheme", ["masking", "split"])
@pytest.mark.parametrize(("alike", "out"), [("never", {VICTIM}), ("auto", {0, 1, VICTIM})])
def test_full_gradients_are_given_away_by_two_sessions_without_the_rule_and_not_with_it(
    alike: str, out: set[int], scheme: str
) -> None:
    """With it the difference is of three clients: A = 1, so that two honest ones are among them."""
    of_all, of_most, sent = two_chosen_sessions(alike=alike, scheme=scheme)
    assert of_all.survivors - of_most.survivors == out
    found = of_all.sum[UPDATE] - of_most.sum[UPDATE]
    wrong = found - sum(sent[u] for u in out)
    assert np.linalg.norm(wrong) < 1e-3 * np.linalg.norm(found)  # of 24 bits, rounded


@pytest.mark.parametrize(("alike", "out"), [("auto", {VICTIM}), ("always", {0, 1, VICTIM})])
def test_steps_that_are_small_add_up_alike_in_any_order_and_only_a_rule_for_all_training_stops_it(
    alike: str, out: set[int]
) -> None:
    of_all, of_most, sent = two_chosen_sessions(
        alike=alike, algorithm="fedavg", lr=1e-3, momentum=0.0, batch_size=4, precision="float64"
    )
    assert of_all.survivors - of_most.survivors == out
    found = of_all.sum[UPDATE] - of_most.sum[UPDATE]
    wrong = found - sum(sent[u] for u in out)
    assert np.linalg.norm(wrong) < 0.05 * np.linalg.norm(found)


@pytest.mark.parametrize("settings", [{}, {"algorithm": "fedavg", "lr": 0.5, "alike": "any"}])
def test_a_run_whose_updates_count_as_alike_sums_the_same_clients_in_every_round(
    settings: dict[str, Any],
) -> None:
    config = RunConfig.of(**FEDSGD | settings)
    layout = lay_out(config)
    cohort = SimulatedCohort(config, layout, secrets=SECRETS.clients(N))
    server = Server(cohort, config, layout.serving)
    survivors = [trained.survivors for trained in server.rounds({}, lambda report: None)]
    assert survivors == [(frozenset(range(N)),)] * config.training.rounds
