"""A federation in one process: every scheme, who takes part, who is late, when it stops, what it tells."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fl.cohort.delay import _seen, client_seconds
from fl.cohort.layout import Layout, Serving, lay_out
from fl.cohort.links import compute_seconds, expected_seconds
from fl.cohort.selection import choose
from fl.config.plan import LocalPlan
from fl.config.run import CHOICES, RunConfig
from fl.config.secret import RunSecrets
from fl.config.section import ConfigError
from fl.data.shard import Shard
from fl.federation.client import LocalTrainer
from fl.federation.records import Trained
from fl.federation.server import Server
from fl.federation.simulation import WAYS, SimulatedCohort
from fl.federation.vectors import UPDATE
from fl.models.weights import from_vector
from fl.training import clients
from fl.training.local import batches, evaluate
from secagg import Aggregate, Scheme, TooFewClients, run
from tests.secagg.test_new_scheme import Clear
from transport import RoundReport, Standing

SECRETS = RunSecrets.of_seed(1)
SMALL: dict[str, Any] = {
    "clients": 5,
    "rounds": 3,
    "model": "logistic",
    "lr": 0.2,
    "partition": "iid",
    "execution": "batched",
}
SCHEMES: dict[str, dict[str, Any]] = {
    "masking, active": {},
    "masking, semi-honest": {"adversary": "semi-honest"},
    "split, active": {"scheme": "split", "relays": 3},
    "split, semi-honest": {"scheme": "split", "adversary": "semi-honest"},
    "ckks, release": {"scheme": "ckks"},
    "ckks, keep": {"scheme": "ckks", "ending": "keep"},
    "plain": {"scheme": "plain"},
}


def config_of(**changes: Any) -> RunConfig:
    """Of five clients with fifty digits each, unless something else is asked for."""
    return RunConfig.of(**{"examples_per_client": 50} | SMALL | changes)


@dataclass
class Run:
    """A run that has ended, or as far as it came."""

    config: RunConfig
    layout: Layout
    cohort: Any
    server: Server
    rounds: list[Trained] = field(default_factory=list)
    reports: list[RoundReport] = field(default_factory=list)

    @property
    def last(self) -> Trained:
        return self.rounds[-1]


def cohort_of(config: RunConfig, layout: Layout, **more: Any) -> SimulatedCohort:
    return SimulatedCohort(config, layout, secrets=SECRETS.clients(config.cohort.clients), **more)


def begun(config: RunConfig, make: Callable[[RunConfig, Layout], Any] | None = None) -> Run:
    layout = lay_out(config)
    cohort = (make or cohort_of)(config, layout)
    drawn = {"secret": SECRETS.server, "run": SECRETS.run}
    return Run(config, layout, cohort, Server(cohort, config, layout.serving, **drawn))


def go(run: Run) -> Run:
    for trained in run.server.rounds(None, run.reports.append):
        run.rounds.append(trained)
    return run


def simulated(**changes: Any) -> Run:
    return go(begun(config_of(**changes)))


@pytest.fixture(scope="module")
def plain() -> Run:
    return simulated(scheme="plain")


# Schemes


class InTheClear(SimulatedCohort):
    """Sums by a scheme that is not among those of secagg, whatever the configuration says."""

    def aggregate(self, scheme: Scheme, task: bytes = b"", **how: Any) -> Aggregate:
        return super().aggregate(Clear(clients=scheme.clients, vectors=scheme.vectors), task, **how)


def test_a_scheme_of_ones_own_trains_to_the_same_model() -> None:
    config = config_of(rounds=1)
    make = partial(InTheClear, secrets=SECRETS.clients(config.cohort.clients))
    own = go(begun(config, make))
    assert [report.round for report in own.reports] == ["join", "send"]
    np.testing.assert_array_equal(own.last.parameters, simulated(rounds=1).last.parameters)


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_trains(name: str, plain: Run) -> None:
    """After round 1 no weight is farther from the plain run's than the round states. Then the models differ,
    and with them the orders of examples: accuracies are as near as those of two runs (deviation 0.014).
    """
    first, learned = begun(config_of(**SCHEMES[name])), []
    for trained in first.server.rounds(None, lambda report: None):
        kept = first.cohort.learned
        record = kept or trained.record
        weights = first.cohort.held.model.parameters if kept else trained.parameters
        learned.append((weights.copy(), record))
        assert (trained.parameters is None) is (kept is not None) is (name == "ckks, keep")
        assert trained.record.alive == 5
    weights, record = learned[0]
    difference = np.abs(weights - plain.rounds[0].parameters).max()
    assert difference <= record.error_bound + plain.rounds[0].record.error_bound
    assert bool(difference) is (name != "plain")
    assert record.error_bound < 0.01 * np.abs(weights).max()
    assert learned[-1][1].loss < 0.9 * record.loss
    assert learned[-1][1].accuracy == pytest.approx(plain.last.record.accuracy, abs=0.07)
    assert record.train_loss == pytest.approx(plain.rounds[0].record.train_loss, abs=1e-3)
    assert record.train_accuracy == plain.rounds[0].record.train_accuracy


def test_where_clients_keep_the_model_the_server_sends_the_first_alone() -> None:
    kept, tasks = begun(config_of(scheme="ckks", ending="keep")), []
    aggregate = kept.cohort.aggregate

    def heard(scheme: Scheme, task: bytes, **rest: Any) -> Aggregate:
        tasks.append(msgspec.msgpack.decode(task)[4])
        return aggregate(scheme, task, **rest)

    kept.cohort.aggregate = heard
    go(kept)
    assert [len(parameters) for parameters in tasks] == [4 * 650, 0, 0]
    for trained in kept.rounds:
        record = trained.record
        assert trained.parameters is None
        assert (record.accuracy, record.loss, record.train_loss, record.error_bound) == (None,) * 4
        assert np.array_equal(trained.checkpoint.parameters, kept.rounds[0].checkpoint.parameters)


@pytest.mark.parametrize("precision", CHOICES["precision"])
def test_every_precision_trains(precision: str, plain: Run) -> None:
    """It is part of the task, and so of what the order of examples is drawn from."""
    changed = simulated(scheme="plain", precision=precision)
    assert changed.last.record.accuracy == pytest.approx(plain.last.record.accuracy, abs=0.07)
    same = np.array_equal(changed.last.parameters, plain.last.parameters)
    assert same is (precision == "float32")


# Beside processes


@dataclass(frozen=True)
class _Roster:
    clients: Mapping[int, None]
    identities: None = None


class Trainers:
    """The clients of a run as its processes have them: each a function of the task, and its own shard."""

    def __init__(self, config: RunConfig, layout: Layout) -> None:
        name, classes = layout.serving.dataset.name, layout.serving.dataset.classes
        self.roster = _Roster(dict.fromkeys(range(config.cohort.clients)))
        self.trainers = {
            u: LocalTrainer(u, Shard(*layout.examples(u), classes, name), "cpu", SECRETS.client(u))
            for u in range(config.cohort.clients)
        }

    def aggregate(self, scheme: Scheme, task: bytes, *, clients: Collection[int], **_: Any) -> Aggregate:
        return run(scheme, {u: self.trainers[u] for u in clients}, task=task)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"algorithm": "fedsgd"},
        {"algorithm": "fedavg-weights", "server": "adam", "server_lr": 0.01},
        {"sample": 3, "local_steps": 5},
        {"model": "tolpegin-fmnist", "lr": 0.001, "damage": "noise", "rounds": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("execution", ["batched", "sequential", "processes"])
def test_clients_in_one_process_train_as_those_of_processes_do(
    execution: str, changes: dict[str, Any]
) -> None:
    """In float64, which leaves the models that are sent alike to the bit, and so the orders of examples."""
    config = config_of(**{"scheme": "plain", "execution": execution, "precision": "float64"} | changes)
    here, there = go(begun(config)), go(begun(config, Trainers))
    assert len(here.rounds) == len(there.rounds) == config.training.rounds
    for one, other in zip(here.rounds, there.rounds, strict=True):
        np.testing.assert_allclose(one.parameters, other.parameters, atol=1e-5)
        assert one.survivors == other.survivors
        assert one.record.accuracy == pytest.approx(other.record.accuracy, abs=0.01)
        assert one.record.train_accuracy == pytest.approx(other.record.train_accuracy, abs=0.01)
        assert one.record.train_loss == pytest.approx(other.record.train_loss, abs=1e-4)


def test_every_execution_has_its_way() -> None:
    assert WAYS.keys() == set(CHOICES["execution"])


def test_auto_takes_the_way_it_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    auto = begun(config_of(execution="auto", scheme="plain", rounds=2))
    monkeypatch.setattr(auto.cohort.clients, "_tried", lambda *_: {"sequential": 1.0, "batched": 2.0})
    go(auto)
    assert auto.cohort.clients.way == "batched"
    same = simulated(scheme="plain", rounds=2)
    np.testing.assert_array_equal(auto.last.parameters, same.last.parameters)


class Heard:
    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []
        self.uploads: list[int] = []

    def step(self, u: int, step: int, examples: np.ndarray, gradients: np.ndarray) -> None:
        self.steps.append((u, step))

    def upload(self, u: int, upload: np.ndarray) -> None:
        self.uploads.append(u)


@pytest.mark.parametrize("execution", ["batched", "sequential"])
def test_a_tap_hears_every_client_of_every_round(execution: str) -> None:
    heard = Heard()
    config = config_of(execution=execution, scheme="plain", rounds=2, local_steps=3)
    tapped = go(begun(config, lambda config, layout: cohort_of(config, layout, tap=heard)))
    assert sorted(heard.steps) == sorted(2 * [(u, step) for u in range(5) for step in range(3)])
    assert sorted(heard.uploads) == sorted(2 * list(range(5)))
    silent = simulated(execution=execution, scheme="plain", rounds=2, local_steps=3)
    np.testing.assert_allclose(tapped.last.parameters, silent.last.parameters, atol=1e-6)


def test_who_has_trained_can_be_asked_while_they_train(monkeypatch: pytest.MonkeyPatch) -> None:
    run = begun(config_of(execution="sequential", rounds=1))
    assert run.cohort.in_round() == ("training", 0, 0)
    seen, who, one, five = [], [], clients.train, frozenset(range(5))

    def heard(*args: Any, u: int, **named: Any) -> Any:
        seen.append(run.cohort.in_round())
        who.append((u, run.cohort.standing()))
        return one(*args, u=u, **named)

    monkeypatch.setattr(clients, "train", heard)
    go(run)
    assert {(name, of) for name, _, of in seen} == {("training", 5)}
    assert max(trained for _, trained, _ in seen) < 5
    for u, standing in who:
        assert u in standing.awaited
        assert standing.answered | standing.awaited == five
        assert not standing.answered & standing.awaited
    assert run.cohort.in_round() == ("training", 5, 5)
    assert run.cohort.standing() == Standing("training", five, frozenset())


def test_reports_are_those_of_a_session_over_a_network() -> None:
    masked = simulated(rounds=1)
    scheme = masked.server.scheme
    assert tuple(report.round for report in masked.reports) == scheme.rounds
    for report in masked.reports:
        assert report.alive == report.up.keys() == set(range(5))
        assert report.lost == {}
        assert all(report.up.values())
    assert [bool(report.down) for report in masked.reports] == [False, *[True] * (len(scheme.rounds) - 1)]
    record = masked.last.record
    assert record.bytes_up == sum(sum(report.up.values()) for report in masked.reports)
    assert record.bytes_up > 5 * 650 * 2
    assert record.bytes_down > 5 * 650 * 4


# Who takes part


@pytest.mark.parametrize(("sample", "k"), [(4, 4), (0.5, 6)])
def test_every_round_has_k_clients_that_the_server_chose(sample: int | float, k: int) -> None:
    sampled = simulated(clients=12, sample=sample, rounds=6, scheme="plain")
    chosen = [trained.survivors[0] for trained in sampled.rounds]
    candidates = sampled.layout.serving.declared
    assert chosen == [frozenset(choose("chance", candidates, k, SECRETS.server, r)) for r in range(1, 7)]
    assert {len(some) for some in chosen} == {k}
    assert len(set(chosen)) > 3
    assert {trained.record.chosen for trained in sampled.rounds} == {k}
    assert sampled.server.scheme.clients == k


def test_those_who_declare_good_data_are_chosen_more() -> None:
    best = simulated(
        clients=12, sample=3, select="quality", damage="noise", damaged=0.5, rounds=8, scheme="plain"
    )
    seen = [u for trained in best.rounds for u in trained.survivors[0]]
    damaged = best.layout.damaged
    assert len(damaged) == 6
    assert sum(u in damaged for u in seen) < 0.25 * len(seen)


def test_the_mean_is_over_those_who_took_part() -> None:
    """Of two clients of five, by their numbers of examples; the others' data change nothing."""
    changes = {"sample": 2, "small_cohort": True, "rounds": 1, "scheme": "plain", "partition": "quantity"}
    sampled = begun(config_of(examples_per_client=None, **changes))
    uploads: dict[int, np.ndarray] = {}

    class Kept(Heard):
        def upload(self, u: int, upload: np.ndarray) -> None:
            uploads[u] = upload.astype(np.float64)

    start = sampled.server.model.parameters
    sampled.cohort._tap = Kept()
    go(sampled)
    (there,) = sampled.last.survivors
    assert uploads.keys() == there
    weights = [len(sampled.layout.shares[u]) for u in sorted(there)]
    mean = np.average([uploads[u] for u in sorted(there)], axis=0, weights=weights)
    assert len(set(weights)) == 2
    np.testing.assert_allclose(sampled.last.parameters - start, mean, atol=1e-6)


# Clusters


CLUSTERED: dict[str, dict[str, Any]] = {
    "label": {"partition": "dirichlet", "alpha": 0.05, "examples_per_client": None},
    "place": {"links": "lte"},
    "mode": {"links": "mixed"},
}


@pytest.mark.parametrize("by", CLUSTERED)
def test_the_sums_of_clusters_are_disjoint_and_their_mean_is_that_over_all(by: str) -> None:
    changes = {"clients": 15, "rounds": 1, "scheme": "plain"} | CLUSTERED[by]
    whole, parts = simulated(**changes), simulated(**changes, cluster=by)
    for one, several in zip(whole.rounds, parts.rounds, strict=True):
        assert several.record.sums == len(several.survivors) > 1
        assert all(len(cluster) >= 3 for cluster in several.survivors)
        assert sum(map(len, several.survivors)) == len(frozenset.union(*several.survivors)) == 15
        assert (one.record.alive, several.record.alive) == (15, 15)
        np.testing.assert_allclose(several.parameters, one.parameters, atol=1e-6)
        assert several.record.train_loss == pytest.approx(one.record.train_loss, rel=1e-5)
        assert several.record.train_accuracy == pytest.approx(one.record.train_accuracy, rel=1e-12)
    assert {report.round for report in parts.reports} == {"join", "input"}


def test_masked_sums_of_clusters_are_within_the_bound_that_the_round_states() -> None:
    changes = {"clients": 12, "rounds": 1} | CLUSTERED["mode"]
    masked, plain = (
        simulated(**changes, cluster=by, scheme=s) for by, s in (("mode", "masking"), (None, "plain"))
    )
    difference = np.abs(masked.last.parameters - plain.last.parameters).max()
    assert 0 < difference <= masked.last.record.error_bound
    assert masked.last.record.sums > 1


def test_a_cluster_by_what_nobody_declared_is_refused() -> None:
    config = config_of(cluster="label")
    layout = lay_out(config)
    server = Server(SimulatedCohort(config, layout), config, Serving(layout.serving.dataset))
    with pytest.raises(ConfigError, match="'label' needs every client's label"):
        next(server.rounds(None, lambda report: None))


# Links and deadlines


@given(
    examples=st.integers(1, 60),
    size=st.integers(1, 20),
    epochs=st.integers(1, 3),
    steps=st.integers(0, 20),
    algorithm=st.sampled_from(CHOICES["algorithm"]),
)
def test_a_device_computes_on_the_examples_of_all_its_steps(
    examples: int, size: int, epochs: int, steps: int, algorithm: str
) -> None:
    plan = LocalPlan(algorithm, epochs, steps, size)
    assert _seen(plan, examples) == sum(map(len, batches(examples, plan, bytes(32))))


@pytest.mark.parametrize("examples", [5, 100])
def test_by_poisson_sampling_it_computes_on_as_many_on_average(examples: int) -> None:
    plan = LocalPlan(steps=2_000, batch_size=8, sampling="poisson")
    taken = sum(map(len, batches(examples, plan, bytes(32))))
    assert _seen(plan, examples) == pytest.approx(taken, abs=5 * math.sqrt(taken))


def test_the_delay_of_a_round_is_that_of_the_slowest_client_in_the_sum() -> None:
    linked = simulated(links="mixed", rounds=1, local_epochs=2)
    serving = linked.layout.serving
    each = []
    for u in range(5):
        up, down = (sum(getattr(r, way).get(u, 0) for r in linked.reports) for way in ("up", "down"))
        link = serving.declared[u].link
        each.append(compute_seconds(2 * 50, serving.speeds[u]) + expected_seconds(link, up, down))
    assert linked.last.record.delay == pytest.approx(max(each), rel=1e-12)
    assert simulated(rounds=1).last.record.delay is None


def times(linked: Run, up: int, down: int) -> dict[int, float]:
    serving = linked.layout.serving
    return {u: client_seconds(linked.config, serving, u, up, down) for u in serving.declared}


def halfway(seconds: Collection[float], late: int) -> float:
    """A deadline that so many do not keep, by a margin."""
    ordered = sorted(seconds, reverse=True)
    return (ordered[late - 1] + ordered[late]) / 2


def test_what_relays_send_and_hear_is_counted_apart() -> None:
    """A client sends its vector once, whoever has a share of it; so does each relay, as its column."""
    ran = simulated(scheme="split", rounds=1)
    record, scheme = ran.last.record, ran.server.scheme
    assert 0 < record.bytes_up - 5 * scheme.upload_bytes < 5 * 500
    assert 0 < record.relay_bytes_up - 2 * scheme.upload_bytes < 2 * 400
    assert record.relay_bytes_down > 5 * scheme.upload_bytes
    own = [report.seconds for report in ran.reports if report.round in ("relay-keys", "deliver", "columns")]
    assert record.relay_seconds == pytest.approx(sum(own))
    assert simulated(rounds=1).last.record.relay_bytes_up is None


@pytest.mark.parametrize("scheme", ["plain", "masking", "split", "ckks"])
def test_an_upload_is_as_long_as_its_scheme_says_but_for_a_few_bytes(scheme: str) -> None:
    ran = simulated(scheme=scheme, rounds=1)
    (lengths,) = [
        report.up.values() for report in ran.reports if report.round == ran.server.scheme.upload_round
    ]
    for length in lengths:
        assert 0 <= length - ran.server.scheme.upload_bytes < 350


LINKED: dict[str, Any] = {"clients": 8, "links": "lte", "rounds": 2}


@pytest.mark.parametrize("scheme", ["plain", "masking", "split"])
def test_whoever_is_late_by_the_model_of_links_is_not_in_the_sum(scheme: str) -> None:
    """And those who are in it have the mean among themselves."""
    unhurried = begun(config_of(scheme=scheme, **LINKED))
    seconds = times(unhurried, unhurried.server.scheme.upload_bytes, 4 * 650 + 200)
    limit = halfway(seconds.values(), 2)
    hurried = go(begun(config_of(scheme=scheme, deadline=limit, **LINKED)))
    there = frozenset(u for u, taken in seconds.items() if taken <= limit)
    assert len(there) == 6
    for trained in hurried.rounds:
        assert trained.survivors == (there,)
        assert (trained.record.chosen, trained.record.alive) == (8, 6)
        assert trained.record.abandoned == ""
        assert trained.record.delay <= limit
    lost = {u for report in hurried.reports for u in report.lost}
    assert lost == set(range(8)) - there


@pytest.mark.parametrize("scheme", ["plain", "masking", "split", "ckks"])
def test_a_round_with_too_few_uploads_is_abandoned_and_the_model_stays(scheme: str) -> None:
    """The sum of a scheme that hides is not opened: its last round never comes."""
    unhurried = begun(config_of(scheme=scheme, **LINKED))
    seconds = times(unhurried, unhurried.server.scheme.upload_bytes, 4 * 650 + 200)
    changes = LINKED | {"scheme": scheme, "deadline": halfway(seconds.values(), 2), "minimum": 7}
    hurried = begun(config_of(**changes))
    start = hurried.server.model.parameters
    go(hurried)
    upload = hurried.server.scheme.upload_round
    assert len(hurried.rounds) == 2
    for trained in hurried.rounds:
        record = trained.record
        assert record.abandoned == f"6 clients left in {upload}, 7 needed"
        assert (record.chosen, record.alive, record.sums, record.delay) == (8, 0, 0, None)
        assert (record.accuracy, record.loss, record.train_loss, record.error_bound) == (None,) * 4
        assert np.array_equal(trained.parameters, start)
        assert np.array_equal(trained.checkpoint.parameters, start)
    assert (hurried.server.lost.alive, hurried.server.lost.needed) == (6, 7)
    assert {report.round for report in hurried.reports} <= set(hurried.server.scheme.rounds) - {
        "unmasking",
        "columns",
        "decrypt",
    }
    enough = simulated(**changes | {"minimum": 6})
    assert [trained.record.alive for trained in enough.rounds] == [6, 6]


def test_one_cluster_that_is_abandoned_leaves_the_others() -> None:
    clustered = begun(
        config_of(clients=12, cluster="mode", links="mixed", minimum=2, rounds=1, scheme="plain")
    )
    cohorts = clustered.server._chosen(1)
    lost = set(cohorts[0][1:])  # all of the first cluster but one are late
    late = clustered.cohort._late
    clustered.cohort._late = lambda scheme, task, some: late(scheme, task, some) | {"input": lost & set(some)}
    go(clustered)
    assert clustered.last.survivors == tuple(map(frozenset, cohorts[1:]))
    record = clustered.last.record
    assert (record.chosen, record.sums, record.abandoned) == (12, len(cohorts) - 1, "")
    assert record.alive == 12 - len(cohorts[0])


def test_without_a_minimum_or_a_deadline_too_few_end_the_run() -> None:
    plain = begun(config_of())
    plain.cohort._late = lambda *_: {"masked-input": {0, 1, 2, 3}}
    with pytest.raises(TooFewClients):
        go(plain)
    assert plain.rounds == []


def test_where_clients_keep_the_model_a_round_that_is_abandoned_ends_the_run() -> None:
    """There would be nobody who has the model to go on from."""
    kept = begun(config_of(scheme="ckks", ending="keep", minimum=4))
    kept.cohort._late = lambda *_: {"input": {0, 1}}
    with pytest.raises(TooFewClients):
        go(kept)
    assert kept.rounds == []


def test_where_clients_keep_the_model_whoever_missed_a_sum_is_out_of_the_run() -> None:
    kept = begun(config_of(scheme="ckks", ending="keep"))
    late = iter([{"input": {2}}, {}, {}])
    kept.cohort._late = lambda *_: next(late)
    go(kept)
    assert [trained.survivors for trained in kept.rounds] == 3 * [(frozenset({0, 1, 3, 4}),)]
    assert kept.reports[0].alive == {0, 1, 2, 3, 4}
    joined = [report.alive for report in kept.reports if report.round == "join"]
    assert joined == [{0, 1, 2, 3, 4}, {0, 1, 3, 4}, {0, 1, 3, 4}]


def test_a_model_of_links_needs_what_clients_hold() -> None:
    config = config_of(links="lte")
    layout = lay_out(config)
    server = Server(SimulatedCohort(config, layout), config, Serving(layout.serving.dataset))
    with pytest.raises(ConfigError, match="links: only `secagg train` lays out a model of them"):
        next(server.rounds(None, lambda report: None))


# Until it is good enough


def test_a_run_stops_at_its_accuracy_on_the_validation_data() -> None:
    """Not on the test set: the two differ, and the server measures both."""
    changes = {"scheme": "plain", "rounds": 8, "validation": 0.1}
    whole = simulated(**changes)
    reached = [trained.record.validation for trained in whole.rounds]
    goal = reached[2]
    first = next(round for round, accuracy in enumerate(reached, start=1) if accuracy >= goal)
    stopped = simulated(**changes, until_accuracy=goal)
    assert len(stopped.rounds) == first < 8
    assert np.array_equal(stopped.last.parameters, whole.rounds[first - 1].parameters)
    x, y = whole.layout.serving.validation
    model = whole.server._model
    from_vector(model, stopped.last.parameters.astype(np.float32))
    accuracy, _ = evaluate(model, torch.tensor(x), torch.tensor(y))
    assert accuracy == stopped.last.record.validation
    assert any(trained.record.validation != trained.record.accuracy for trained in whole.rounds)


def test_a_run_that_does_not_reach_it_takes_all_rounds() -> None:
    never = simulated(scheme="plain", until_accuracy=1.0)
    assert len(never.rounds) == 3
    assert all(0 < trained.record.validation < 1 for trained in never.rounds)
    assert simulated(scheme="plain").last.record.validation is None


# Damaged data


def test_damaged_labels_make_a_worse_model() -> None:
    changes = {"scheme": "plain", "rounds": 5, "damaged": 1.0, "damage_level": 0.9}
    good, bad = simulated(**changes), simulated(**changes, damage="labels")
    assert bad.last.record.accuracy < good.last.record.accuracy - 0.2


def test_where_all_hold_as_many_examples_that_is_the_largest_weight() -> None:
    """Of 1,347 in all: a mean is as much more precise."""
    bounds = [
        simulated(rounds=1, examples_per_client=held, max_examples=most).last.record.error_bound
        for held, most in ((50, None), (50, 1347), (50, 100))
    ]
    assert bounds[0] < bounds[2] / 1.9 < bounds[1] / 20


def test_the_mean_of_one_sum_is_that_sums() -> None:
    from fl.federation.vectors import mean_of

    total = Aggregate(frozenset({0}), {}, {}, {UPDATE: np.arange(3.0)}, {})
    assert mean_of([total], UPDATE) is total.mean[UPDATE]
