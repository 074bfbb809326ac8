"""The tables of false parameters, of crowds and of declared noise measure what they say, at a small size."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import harness, poisoned
from benchmarks.poisoning import declared, ma, ma_users
from fl.cohort.layout import lay_out
from fl.federation.records import RoundRecord, Trained
from fl.training.local import Diverged
from tests.benchmarks.cases import no_data, rows_of, shown

SMALL = ma.Setting("digits", 6, 20, 135, 1347, 2, (0, 2), 1)


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ma.SETTINGS, "quick", SMALL)
    monkeypatch.setattr(ma, "MORE", 30)
    monkeypatch.setitem(ma_users.USERS, "quick", (4, 6))


@pytest.mark.slow
@pytest.mark.usefixtures("_small")
def test_each_attack_is_measured_under_both_rules_by_the_same_attackers() -> None:
    rows = rows_of(ma, seed=3)
    assert len(rows) == len(ma.cases("quick", 3)) == 2 + 2 * 2 + 2
    assert {(row["attack"], row["bad"]) for row in rows} == {("none", 0), ("opposite", 2), ("uniform", 2)}
    assert {row["steps"] for row in rows if row["rule"] == ma.MEAN} == {ma.STEPS}
    for row in rows:
        assert [round for round, _ in row["curve"]] == [1, 2]
        assert row["accuracy"] == pytest.approx(np.mean([accuracy for _, accuracy in row["curve"]]))
        assert (row["left_out"]["attackers"] is None) == (row["bad"] == 0)
    (opposite,) = (row for row in rows if (row["attack"], row["rule"]) == ("opposite", ma.MEAN))
    assert opposite["left_out"] == {"attackers": 0, "honest": 0}
    shown(ma, rows)


@pytest.mark.parametrize("size", ["quick", "full"])
def test_the_server_tests_on_as_many_examples_as_are_said_to_be_held_out(size: str) -> None:
    setting = ma.SETTINGS[size]
    config = setting.configuration("none", 0, ma.STEPS, ma.TESTED, 0)
    assert round(config.held_out * setting.training) == setting.held_out
    if setting.dataset == "digits":
        layout = lay_out(config)
        assert layout.serving.validation is not None
        assert len(layout.serving.validation[1]) == setting.held_out
        assert {len(own) for own in layout.shares.values()} == {setting.examples}


def test_a_case_is_a_run_with_so_many_attackers_under_the_rule() -> None:
    for bad in (3, 6, 9, 12):
        config = ma.SETTINGS["full"].configuration("opposite", bad, ma.STEPS, ma.TESTED, 0)
        assert config.attack.number_of(30) == bad
        assert (config.attack.name, config.robust.rule, config.training.steps) == (
            "opposite",
            "test-weighting",
            20,
        )
    assert ma.SETTINGS["full"].configuration("none", 0, ma.STEPS, ma.MEAN, 0).attack.name is None


def test_a_model_has_failed_that_is_no_better_than_a_constant_answer_by_two_points() -> None:
    rows = [{"accuracy": accuracy, "constant": 0.11} for accuracy in (0.10, 0.16)]
    assert ma.failed(rows)
    assert not ma.failed([*rows, {"accuracy": 0.15, "constant": 0.11}])


def test_the_best_constant_answer_is_the_most_common_class() -> None:
    layout = SimpleNamespace(serving=SimpleNamespace(dataset=SimpleNamespace(test_y=np.array([0, 2, 2, 1]))))
    assert poisoned.constant(layout) == 0.5  # type: ignore[arg-type]


def test_who_was_left_out_is_counted_of_those_who_were_in_the_round() -> None:
    """Attacker 0 in two rounds, 1 in one; of the honest 2 and 3."""
    rounds = [
        SimpleNamespace(left_out={0, 2}, survivors=(frozenset({0, 2, 3}),)),
        SimpleNamespace(left_out=set(), survivors=(frozenset({0, 1, 3}),)),
    ]
    assert poisoned.left_out(rounds, frozenset({0, 1})) == {"attackers": 1 / 3, "honest": 1 / 3}  # type: ignore[arg-type]


def test_a_model_that_nobody_can_train_stays_what_it_is() -> None:
    def rounds(until: int) -> Iterator[Trained]:
        for round in range(1, until + 1):
            record = RoundRecord(round, *(None,) * 17)  # type: ignore[arg-type]
            yield Trained(record, (frozenset({0}),), None, object())  # type: ignore[arg-type]
        raise Diverged("training diverged")

    def played(until: int) -> list[Trained]:
        server = SimpleNamespace(rounds=lambda: rounds(until))
        return list(poisoned.played(server, 4))  # type: ignore[arg-type]

    broken = played(2)
    assert [each.record.round for each in broken] == [1, 2, 3, 4]
    assert {each.checkpoint for each in broken[1:]} == {broken[1].checkpoint}
    assert (poisoned.until(broken), poisoned.until(broken[:2])) == (2, None)
    assert poisoned.left_out(broken, frozenset()) == {"attackers": None, "honest": 0}
    with pytest.raises(Diverged):
        played(0)


def test_the_last_rounds_are_all_looked_at() -> None:
    looks = [round for round in range(1, 31) if poisoned.looked_at(round, 30)]
    assert looks == [5, 10, 15, 20, *range(21, 31)]


@pytest.mark.slow
@pytest.mark.usefixtures("_small")
def test_a_crowd_grows_and_its_attackers_do_not() -> None:
    rows = rows_of(ma_users)
    assert [(row["clients"], row["attack"], row["bad"]) for row in rows] == [
        (clients, attack, 0 if attack == "none" else ma_users.BAD)
        for clients in (4, 6)
        for attack in ("none", "opposite", "uniform")
    ]
    shown(ma_users, rows)


@pytest.mark.parametrize("benchmark", [ma, ma_users])
def test_where_data_are_absent_nothing_is_measured(
    benchmark: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_data(monkeypatch, lambda: rows_of(benchmark, size="full"))


def test_weights_by_declared_noise_lower_the_error_where_it_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(declared, "ROUNDS", 2)
    monkeypatch.setattr(declared, "CLIENTS", 8)
    monkeypatch.setattr(declared, "DEALT", ("iid",))
    monkeypatch.setattr(declared, "MIXTURES", ((0.0, 0.0), (0.005, 0.2)))
    rows = rows_of(declared)
    silent, same, plain, weighted = (row["error"] for row in rows)
    assert silent < 1e-6  # float32 on the wire
    assert same == pytest.approx(silent, rel=1e-3)
    assert weighted < plain / 10
    assert [len(row["errors"]) for row in rows] == [2] * 4
    shown(declared, rows)


def test_the_committed_rows_show_what_is_claimed_of_false_parameters() -> None:
    by = ma.groups(harness.read("poisoning", "ma")["rows"])
    means = {
        (cell.attack, cell.bad, cell.steps, cell.rule): np.mean(list(ma.accuracies(some).values()))
        for cell, some in by.items()
    }
    unprotected = {
        attack: [means[attack, bad, ma.STEPS, ma.MEAN] for bad in (3, 6, 9, 12)] for attack in ma.ATTACKS
    }
    assert np.round(unprotected["opposite"]).tolist() == [66, 40, 23, 10]
    assert np.round(unprotected["uniform"]).tolist() == [71, 40, 20, 14]
    assert [ma.failed(by[ma.Cell(attack, 12, ma.STEPS, ma.MEAN)]) for attack in ma.ATTACKS] == [True, False]
    for attack, kept, more in (("opposite", 90, 1.3), ("uniform", 84.7, 2.7)):
        tested = means[attack, 12, ma.STEPS, ma.TESTED]
        assert tested == pytest.approx(kept, abs=0.1)
        assert means[attack, 12, ma.MORE, ma.TESTED] - tested == pytest.approx(more, abs=0.1)
    out = sum(30 * (30 - row["bad"]) * row["left_out"]["honest"] for some in by.values() for row in some)
    assert out == pytest.approx(1)


def test_the_committed_rows_show_what_is_claimed_of_more_users() -> None:
    rows = harness.read("poisoning", "ma_users")["rows"]
    by = ma_users.groups(rows)

    def mean(attack: str, clients: int) -> int:
        return round(np.mean(list(ma.accuracies(by[ma_users.Cell(attack, clients)]).values())))

    users = (6, 12, 30, 60)
    assert [mean("opposite", n) for n in users] == [10, 28, 66, 88]
    assert [mean("uniform", n) for n in users] == [10, 17, 71, 90]
    assert mean("none", 60) == 95
    assert {cell for cell, some in by.items() if ma.failed(some)} == {
        ma_users.Cell(attack, 6) for attack in ma.ATTACKS
    }
    broken = [(row["attack"], row["clients"]) for row in rows if row["until"] is not None]
    assert broken == [("uniform", 6)] * 2
