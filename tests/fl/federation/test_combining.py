"""The rule of a run: every rule trains, and is given what the server has of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fl.cohort.layout import Layout, lay_out
from fl.config.robust import ON_ROOT, ON_VALIDATION
from fl.config.run import RunConfig
from fl.config.secret import RunSecrets, root_key
from fl.config.section import ConfigError
from fl.federation.sending import Results
from fl.federation.server import Server
from fl.federation.simulation import simulated
from fl.federation.task import Instructions
from fl.models.architectures import build
from fl.robust import RULES, Bench, Memory, Points, Unfit, Verdict
from fl.robust.rules import mean
from fl.training.local import train
from fl.training.server import GlobalModel

SMALL: dict[str, Any] = {
    "clients": 8,
    "rounds": 4,
    "model": "logistic",
    "partition": "iid",
    "execution": "batched",
    "scheme": "plain",
}
LOCAL = {"privacy": "local", "clip": 1.0, "noise_multiplier": 0.01}
NEEDS: dict[str, dict[str, Any]] = {
    **{rule: {"root": 60} for rule in ON_ROOT},
    **{rule: {"validation": 0.1} for rule in ON_VALIDATION},
    "mmse": LOCAL,
    "draco": {"redundancy": 4, "algorithm": "fedsgd", "lr": 1.0, "server": "momentum"},
}
SECRETS = RunSecrets.of_seed(5)
APART = ("mean", "draco", "mmse", "rlr")
"""The mean is no rule that sees parts, two have settings in which nobody sends models, and one goes by the
signs of changes that may be all rounding."""


def run_of(layout: Layout | None = None, instruments: Mapping[str, Any] = {}, **changes: Any) -> Server:
    config = RunConfig.of(**SMALL | changes)
    return simulated(config, layout or lay_out(config), secrets=SECRETS, **instruments)


def benches(instruments: Mapping[str, Any] = {}, **changes: Any) -> tuple[Server, list[Bench]]:
    """A run of the mean, and what its rule was given."""
    given: list[Bench] = []

    def rule(points: Points, bench: Bench, memory: Memory) -> Verdict:
        given.append(bench)
        return mean(points, bench, memory)

    server = run_of(None, {"rule": rule, **instruments}, **changes)
    list(server.rounds())
    return server, given


# Every rule


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_trains(rule: str) -> None:
    *_, last = run_of(robust=rule, **NEEDS.get(rule, {})).rounds()
    assert last.record.accuracy > 0.55
    assert last.record.left_out == (None if rule == "mean" else sorted(last.left_out))


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule not in APART])
def test_models_sent_whole_train_as_what_changed_in_them(rule: str) -> None:
    """But for rounding. Of batches that are all of the examples no order makes a difference."""
    settings = NEEDS.get(rule, {}) | {"robust": rule, "rounds": 2, "batch_size": 1_000}
    *_, moved = run_of(**settings).rounds()
    *_, whole = run_of(**settings, algorithm="fedavg-weights").rounds()
    assert whole.left_out == moved.left_out
    np.testing.assert_allclose(whole.parameters, moved.parameters, atol=1e-5)


def test_what_rules_need_is_what_a_run_is_refused_without() -> None:
    """The names that the configuration knows are of those rules, and of no others, that cannot do without."""
    points = Points(tuple(frozenset({u}) for u in range(8)), np.ones((8, 1)), np.ones(8))
    full: dict[str, Any] = {
        "score": lambda model: 1.0,
        "root": lambda: np.ones(1),
        "noise": np.ones(8),
        "copies": (frozenset(range(8)),),
    }
    without: dict[str, set[str]] = {}
    for name, rule in RULES.items():
        for field in full:
            lacking = {key: value for key, value in full.items() if key != field}
            try:
                rule(points, Bench(1, np.ones(1), **lacking), {})
            except Unfit:
                without.setdefault(field, set()).add(name)
    told = {"score": set(ON_VALIDATION), "root": set(ON_ROOT), "noise": {"mmse"}, "copies": {"draco"}}
    assert without == {field: names for field, names in told.items() if names & RULES.keys()}


# Who is unfit


def refusing(rounds: int) -> Callable[[Points, Bench, Memory], Verdict]:
    def rule(points: Points, bench: Bench, memory: Memory) -> Verdict:
        if bench.round == rounds:
            raise Unfit("too few of them")
        return mean(points, bench, memory)

    return rule


def test_a_rule_that_is_not_for_so_few_clients_is_refused_before_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(RULES, "median", refusing(1))
    with pytest.raises(ConfigError, match="robust = 'median': too few of them"):
        run_of(robust="median")


def test_a_round_that_a_rule_cannot_stand_for_ends_the_run() -> None:
    with pytest.raises(Unfit, match="too few of them"):
        list(run_of(None, {"rule": refusing(2)}).rounds())


def test_or_is_abandoned_where_rounds_may_be() -> None:
    first, second, third, _ = run_of(None, {"rule": refusing(2)}, minimum=2).rounds()
    assert (second.record.abandoned, second.record.accuracy) == ("too few of them", None)
    assert second.record.left_out is None
    np.testing.assert_array_equal(first.parameters, second.parameters)
    assert not np.array_equal(third.parameters, second.parameters)


# What the server has of its own


def test_the_servers_own_update_is_what_a_client_with_the_root_data_would_send() -> None:
    server, (first, second, *_) = benches(root=50, local_epochs=1)
    dataset, root = lay_out(server.config).serving.dataset, lay_out(server.config).serving.root
    model = build("logistic", dataset.shape, dataset.classes, 0)
    x, y = (torch.tensor(part) for part in root)
    expected = train(model, x, y, server.config.training.plan, root_key(SECRETS.server, 1)).upload
    np.testing.assert_array_equal(first.root(), expected.astype(np.float64))
    assert not np.array_equal(first.root(), second.root())
    _, (without, *_) = benches()
    assert without.root is None


@pytest.mark.parametrize("algorithm", ["fedavg", "fedavg-weights", "fedsgd"])
def test_a_rule_can_tell_what_model_an_update_makes(algorithm: str) -> None:
    """By the plain step, also where the server's follows earlier rounds."""
    sent: list[np.ndarray] = []

    def sending(instructions: Instructions, model: nn.Module, results: Results) -> Results:
        sent.append(results[0].upload)
        return {u: replace(result, upload=results[0].upload) for u, result in results.items()}

    _, (first, second, *_) = benches({"sending": sending}, algorithm=algorithm, lr=0.1)
    np.testing.assert_allclose(first.after(sent[0].astype(np.float64)), second.model, atol=1e-6)
    _, (_, later, *_) = benches(server="momentum", algorithm=algorithm)
    nothing = later.model if algorithm == "fedavg-weights" else np.zeros_like(later.model)
    np.testing.assert_array_equal(later.after(nothing), later.model)


def test_what_float32_does_not_hold_is_no_model_and_scores_nothing() -> None:
    _, (bench, *_) = benches(validation=0.1)
    assert bench.score(bench.model) > 0
    assert bench.score(bench.after(np.full_like(bench.model, 1e39))) == 0


def test_a_bench_holds_the_runs_numbers() -> None:
    _, (bench, *_) = benches(assumed=0.3, redundancy=2)
    assert (bench.assumed, bench.chance) == (0.3, 0.1)
    assert bench.copies == tuple(frozenset({u, u + 1}) for u in (0, 2, 4, 6))
    assert bench.noise is None
    _, (bench, *_) = benches()
    assert bench.copies == ()


def test_the_noise_that_clients_are_asked_for_is_declared_by_each() -> None:
    _, given = benches(**LOCAL, noise_schedule="linear", noise_end=0.04)
    declared = [bench.noise.tolist() for bench in given]
    np.testing.assert_allclose(declared, [[each] * 8 for each in (0.01, 0.02, 0.03, 0.04)])


def test_of_a_benchmark_each_client_declares_its_own() -> None:
    mixed = {u: 0.1 * (u + 1) for u in range(8)}
    _, (bench, *_) = benches({"noise": mixed})
    np.testing.assert_array_equal(bench.noise, list(mixed.values()))
    # Of a sum, that of its mean.
    _, (bench, *_) = benches({"noise": mixed}, scheme="masking")
    np.testing.assert_allclose(bench.noise, [np.linalg.norm(list(mixed.values())) / 8])


@pytest.mark.parametrize("execution", ["batched", "sequential"])
def test_who_holds_the_same_examples_sends_the_same_to_the_bit(execution: str) -> None:
    sent: dict[int, bytes] = {}

    def sending(instructions: Instructions, model: nn.Module, results: Results) -> Results:
        sent.update({u: result.upload.tobytes() for u, result in results.items()})
        return results

    settings = NEEDS["draco"] | {"execution": execution, "model": "cnn", "rounds": 1}
    next(run_of(None, {"sending": sending}, **settings).rounds())
    assert [len({sent[u] for u in group}) for group in (range(4), range(4, 8))] == [1, 1]
    assert sent[0] != sent[4]


def test_a_rule_by_name_remembers_after_a_stop() -> None:
    rounds = run_of(robust="reputation").rounds()
    checkpoint = next(rounds).checkpoint
    assert {name for name in checkpoint.memory if name.startswith("rule.")}
    *_, whole = rounds
    *_, rest = run_of(None, {"resume": checkpoint}, robust="reputation").rounds()
    np.testing.assert_array_equal(rest.parameters, whole.parameters)


def test_the_model_that_clients_follow_is_not_moved_by_what_a_rule_tries() -> None:
    server, (bench, *_) = benches(validation=0.1, rounds=1, root=20)
    before = server.model.parameters.copy()
    bench.after(np.ones_like(before))
    bench.score(np.ones_like(before))
    bench.root()
    np.testing.assert_array_equal(server.model.parameters, before)
    assert isinstance(server.model, GlobalModel)
