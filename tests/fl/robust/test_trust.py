"""Rules that hold parts against the server's own data, or against what it remembers: laws and answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fl.cohort.layout import lay_out
from fl.config.run import RunConfig
from fl.config.secret import RunSecrets
from fl.federation.simulation import simulated
from fl.robust import RULES, Bench, Points, Unfit, Verdict
from fl.robust.trust import FORGETTING

Vector = NDArray[np.float64]
NAMES = ("fltrust", "test-weighting", "leave-one-out", "reputation")
MODEL, AIM = np.array([1.0, -2.0, 0.5]), np.array([2.0, 0.0, 1.0])
"""Where the clients started, and the model of accuracy 1."""


def of(*updates: object, weights: object = None, members: object = None) -> Points:
    """Points of one client each, of one example each."""
    rows = np.array(updates, np.float64)
    each = [frozenset({u}) for u in range(len(rows))] if members is None else members
    counts = np.ones(len(rows)) if weights is None else np.array(weights, np.float64)
    return Points(tuple(each), rows, counts)  # type: ignore[arg-type]


def near_the_aim(model: Vector) -> float:
    """A smooth accuracy."""
    return float(np.exp(-np.linalg.norm(model - AIM)))


BENCH = Bench(1, MODEL, near_the_aim, root=lambda: np.array([0.5, 0.8, 0.3]), chance=0.01)
NONE = Bench(1, np.zeros(2))


def verdict(name: str, points: Points, bench: Bench = BENCH) -> Verdict:
    return RULES[name](points, bench, {})


def random_points(seed: int, parts: int = 7) -> Points:
    rng = np.random.default_rng(seed)
    toward = AIM - MODEL + rng.normal(0, 1.5, (parts, 3))
    return of(*toward, weights=rng.integers(1, 9, parts))


# Of all


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 999))
def test_in_another_order_the_verdict_is_the_same(name: str, seed: int) -> None:
    points = random_points(seed)
    order = np.random.default_rng(seed).permutation(len(points.updates))
    other = Points(tuple(points.members[row] for row in order), points.updates[order], points.weights[order])
    one, two = verdict(name, points), verdict(name, other)
    np.testing.assert_allclose(two.update, one.update, atol=1e-12)
    assert {int(order[row]) for row in two.left_out} == one.left_out


@pytest.mark.parametrize("name", ["fltrust", "test-weighting", "reputation"])
@given(seed=st.integers(0, 999))
def test_who_is_left_out_and_nobody_else_may_send_as_many_examples_as_it_likes(name: str, seed: int) -> None:
    points = random_points(seed)
    before = verdict(name, points)
    for row in before.left_out:
        more = replace(points, weights=np.where(np.arange(7) == row, 1e6, points.weights))
        np.testing.assert_allclose(verdict(name, more).update, before.update, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_of_models_the_verdict_is_the_model_that_updates_would_have_given(name: str) -> None:
    points = random_points(3)
    models = replace(points, updates=points.updates + MODEL)
    root = BENCH.root
    assert root is not None
    whole = replace(BENCH, step=lambda update: update, root=lambda: root() + MODEL)
    one, two = verdict(name, points), verdict(name, models, whole)
    np.testing.assert_allclose(two.update, MODEL + one.update, atol=1e-12)
    assert two.left_out == one.left_out


@pytest.mark.parametrize(
    ("name", "sent"),
    [("fltrust", [-1.0, -1.0, -1.0]), ("test-weighting", [99.0, 0.0, 0.0])],
)
def test_the_model_stays_as_it_is_where_nobody_is_trusted(name: str, sent: list[float]) -> None:
    said = verdict(name, of(sent, sent))
    assert said.left_out == {0, 1}
    np.testing.assert_array_equal(said.update, np.zeros(3))
    whole = replace(BENCH, step=lambda update: update, root=lambda: np.array([9.0, 9.0, 9.0]))
    np.testing.assert_array_equal(verdict(name, of(sent, sent), whole).update, MODEL)


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("fltrust", r"fltrust compares updates with the server's own: give it root data \(--root\)"),
        (
            "test-weighting",
            r"test-weighting measures models on validation data of the server: give some \(--validation\)",
        ),
        ("leave-one-out", "leave-one-out measures models on validation data of the server"),
    ],
)
def test_without_data_of_the_server_there_is_nothing_to_hold_updates_against(name: str, missing: str) -> None:
    with pytest.raises(Unfit, match=missing):
        verdict(name, of([1.0, 2.0]), NONE)


# FLTrust


def test_fltrust_by_hand() -> None:
    """Cosines 1, 1/sqrt 2, 0 and -1; all at the length of the server's update."""
    bench = replace(NONE, root=lambda: np.array([2.0, 0.0]))
    said = RULES["fltrust"](of([9, 0], [3, 3], [0, 5], [-1, 0]), bench, {})
    slanted = np.sqrt(0.5)
    expected = (np.array([2, 0]) + slanted * 2 * np.array([slanted, slanted])) / (1 + slanted)
    np.testing.assert_allclose(said.update, expected)
    assert said.left_out == {2, 3}


@given(seed=st.integers(0, 999), row=st.integers(0, 6), factor=st.floats(1e-30, 1e30))
def test_to_scale_an_update_changes_nothing_in_fltrust(seed: int, row: int, factor: float) -> None:
    points = random_points(seed)
    scaled = points.updates.copy()
    scaled[row] *= factor
    one, two = verdict("fltrust", points), verdict("fltrust", replace(points, updates=scaled))
    np.testing.assert_allclose(two.update, one.update, atol=1e-9)
    assert BENCH.root is not None
    assert np.linalg.norm(two.update) <= np.linalg.norm(BENCH.root()) + 1e-9


def test_an_update_of_nothing_has_no_part_in_fltrust_nor_has_anybody_beside_such_a_root() -> None:
    assert verdict("fltrust", of([0, 0, 0], [1, 1, 1])).left_out == {0}
    idle = replace(BENCH, root=lambda: np.zeros(3))
    assert verdict("fltrust", of([0, 0, 0], [1, 1, 1]), idle).left_out == {0, 1}


# Test weighting


def test_a_part_weighs_what_it_is_better_than_chance_whatever_it_says_it_has() -> None:
    scores = {1.0: 0.5, 2.0: 0.3, 3.0: 0.1, 4.0: 0.05}
    bench = replace(NONE, score=lambda model: scores[float(model[0])])
    points = of([1, 0], [2, 10], [3, 99], [4, 999], weights=[1, 5, 5, 5000])
    said = RULES["test-weighting"](points, bench, {})
    np.testing.assert_allclose(said.update, (0.4 * np.array([1, 0]) + 0.2 * np.array([2, 10])) / 0.6)
    assert said.left_out == {2, 3}


def test_of_two_classes_chance_is_a_half() -> None:
    bench = replace(NONE, score=lambda model: float(model[0]))
    points = of([0.9, 1], [0.4, 2])
    assert RULES["test-weighting"](points, bench, {}).left_out == frozenset()
    assert RULES["test-weighting"](points, replace(bench, chance=0.5), {}).left_out == {1}


# Leave one out


def test_who_makes_it_worse_is_left_out_and_who_changes_nothing_is_not() -> None:
    toward = AIM - MODEL
    points = of(toward, toward, -3 * toward, toward, weights=[1, 1, 1, 5])
    said = verdict("leave-one-out", points)
    assert said.left_out == {2}
    np.testing.assert_allclose(said.update, toward)
    assert verdict("leave-one-out", of(toward, toward, toward)).left_out == frozenset()


def test_beside_an_enormous_update_the_others_are_still_summed() -> None:
    """All less one would leave nothing of them: 1e30 has 16 digits."""
    toward, looks = AIM - MODEL, list[Vector]()

    def score(model: Vector) -> float:
        looks.append(model)
        return near_the_aim(model)

    said = verdict("leave-one-out", of(toward, [1e30, -1e30, 1e30], toward), replace(BENCH, score=score))
    assert said.left_out == {1}
    np.testing.assert_allclose(said.update, toward)
    np.testing.assert_allclose(looks[2], AIM, atol=1e-12)  # all, without the first, without the second


def test_a_round_takes_one_look_more_than_it_has_parts() -> None:
    looks = list[Vector]()

    def score(model: Vector) -> float:
        looks.append(model)
        return 0.0

    verdict("leave-one-out", random_points(0), replace(BENCH, score=score))
    assert len(looks) == 8


def test_two_who_ruin_the_model_hide_one_another() -> None:
    """With a limit of what accuracy can tell, as a real one has."""
    toward = AIM - MODEL
    bench = replace(BENCH, score=lambda model: round(near_the_aim(model), 2))
    said = verdict("leave-one-out", of(toward, -99 * toward, toward, -99 * toward), bench)
    assert said.left_out == frozenset()


@pytest.mark.parametrize("weights", [[1, 0], [0, 0]])
def test_a_round_without_examples_but_for_one_client_has_nobody_to_leave(weights: list[int]) -> None:
    said = verdict("leave-one-out", of([-9, 0, 0], [1, 1, 1], weights=weights))
    np.testing.assert_allclose(said.update, weights[0] * np.array([-9.0, 0, 0]))


# Reputation


def rounds_of(*cohorts: dict[int, float]) -> list[Verdict]:
    """One after the other; client -> what it sends in each coordinate."""
    said, memory = list[Verdict](), dict[str, Vector]()
    for cohort in cohorts:
        members = [frozenset({u}) for u in cohort]
        points = of(*([sent, sent] for sent in cohort.values()), members=members)
        said.append(RULES["reputation"](points, NONE, memory))
        memory = dict(said[-1].memory)
    return said


def reputation_of(said: Verdict, u: int) -> float:
    (row,) = np.flatnonzero(said.memory["clients"] == u)
    good, bad = said.memory["good"][row], said.memory["bad"][row]
    return float((good + 1) / (good + bad + 2))


HONEST = {0: 1.0, 1: 1.1, 2: 0.9, 3: 1.05, 4: 1.02}


def test_an_outlier_is_left_out_and_the_others_count_alike() -> None:
    (said,) = rounds_of(HONEST | {7: -30.0})
    assert said.left_out == {5}
    np.testing.assert_allclose(said.update, np.mean(list(HONEST.values())))
    assert (reputation_of(said, 0), reputation_of(said, 7)) == pytest.approx((2 / 3, 1 / 3))


def test_beyond_twice_the_median_distance_to_the_median_a_part_is_an_outlier() -> None:
    (said,) = rounds_of(dict(enumerate([-1.0, -1.0, 0.0, 1.0, 1.0, 2.0, -2.1])))
    assert said.left_out == {6}


def test_who_has_the_better_name_counts_for_more_and_so_does_who_has_more_examples() -> None:
    spread = {0: 0.0, 1: 1.0, 2: 2.0, 3: 3.0}
    first, second = rounds_of(spread | {7: -30.0}, spread | {7: 0.0})
    names = np.array([*[1 + 1 + FORGETTING] * 4, 1 + 1])
    np.testing.assert_allclose(second.update, np.average([0, 1, 2, 3, 0], weights=names))
    said = RULES["reputation"](of([1, 0], [0, 1], weights=[3, 1]), NONE, {})
    np.testing.assert_allclose(said.update, [0.75, 0.25])
    assert first.left_out == {4}


def test_a_cohort_that_changes_leaves_the_absent_as_they_were() -> None:
    first, second, third = rounds_of(
        HONEST | {7: -30.0}, HONEST | {9: -30.0}, {u: HONEST[u] for u in (1, 2, 3)} | {7: 1.0}
    )
    assert second.memory["clients"].tolist() == [0, 1, 2, 3, 4, 7, 9]
    assert reputation_of(second, 7) == reputation_of(first, 7)
    assert reputation_of(third, 9) == reputation_of(second, 9)
    assert reputation_of(third, 7) == pytest.approx(2 / (2 + 1 + FORGETTING))
    assert third.left_out == frozenset()  # one good round, which counts more than an older bad one


def test_what_is_remembered_of_a_client_is_bounded_and_so_is_its_credit() -> None:
    good = [HONEST | {7: 1.0}] * 60
    said = rounds_of(*good, *[HONEST | {7: -30.0}] * 12)
    most = reputation_of(said[59], 7)
    assert most < (10 + 1) / (10 + 2)  # 1 / (1 - .9) rounds count, however many there were
    out = [5 in each.left_out for each in said[60:]]
    assert out.index(True) == 6  # that many rounds of credit, and then
    assert all(out[6:])


def test_of_a_sum_every_member_has_the_reputation() -> None:
    members = [frozenset({0, 1}), frozenset({2, 3}), frozenset({4, 5})]
    said = RULES["reputation"](of([1, 1], [1.1, 1.1], [50, 50], members=members), NONE, {})
    assert said.left_out == {2}
    assert reputation_of(said, 4) == reputation_of(said, 5) == pytest.approx(1 / 3)


def test_a_resumed_run_remembers_who_is_who() -> None:
    """A sample of each round: the cohorts differ, and the checkpoint holds all who were in one."""
    config = RunConfig.of(
        clients=8, sample=6, rounds=4, scheme="plain", execution="sequential", model="logistic", seed=1
    )
    layout, secrets = lay_out(config), RunSecrets.of_seed(1)

    def reversing(instructions, model, results):  # type: ignore[no-untyped-def]
        return {u: replace(r, upload=-9 * r.upload) if u < 2 else r for u, r in results.items()}

    def run(resume=None):  # type: ignore[no-untyped-def]
        rule = RULES["reputation"]
        return simulated(
            config, layout, secrets=secrets, resume=resume, rule=rule, sending=reversing
        ).rounds()

    whole = list(run())
    rest = list(run(whole[1].checkpoint))
    assert [each.left_out for each in rest] == [each.left_out for each in whole[2:]]
    np.testing.assert_array_equal(rest[-1].checkpoint.parameters, whole[-1].checkpoint.parameters)
    for name, kept in whole[-1].checkpoint.memory.items():
        np.testing.assert_array_equal(rest[-1].checkpoint.memory[name], kept)
    clients, bad = (whole[-1].checkpoint.memory[f"rule.{name}"] for name in ("clients", "bad"))
    assert {0, 1} <= {int(u) for u, against in zip(clients, bad, strict=True) if against}
