"""The laws that rules keep, each for all that keep it, and what single ones say of their rounds."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl.robust import RULES, Bench, Points, Unfit, coordinates, distances, rules
from tests.fl.robust.rounds import honest, points, ruled, spoilt

OURS = [name for name, rule in RULES.items() if rule.__module__.split(".")[-1] != "trust"]
OF_COPIES = {"draco"}
seeds = st.integers(0, 10**6)


def given_for(rule: str, n: int) -> dict[str, Any]:
    """What a rule has to be told beside the updates, where all clients are alike."""
    return {"mmse": {"noise": np.ones(n)}, "draco": {"copies": tuple(frozenset({u}) for u in range(n))}}.get(
        rule, {}
    )


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_says_what_it_is_what_it_needs_and_whose_it_is(rule: str) -> None:
    text = RULES[rule].__doc__ or ""
    assert re.search(r"\A[A-Z].+?\.\n\n.*Needs: .+?\n    Source: .+", text, re.DOTALL)


# Laws


@pytest.mark.parametrize("rule", OURS)
def test_equal_updates_give_themselves(rule: str) -> None:
    x = np.tile(honest(0, 1), (20, 1))
    verdict = ruled(rule, x, **given_for(rule, 20))
    np.testing.assert_allclose(verdict.update, x[0], rtol=1e-12)


@pytest.mark.parametrize("rule", [rule for rule in OURS if rule != "bucketing"])
@given(seed=seeds)
def test_the_order_of_clients_is_of_no_matter(rule: str, seed: int) -> None:
    x, _ = spoilt(seed)
    order = np.random.default_rng(seed).permutation(len(x))
    weights = 1.0 + order
    one = ruled(rule, points(x[order], weights), **given_for(rule, len(x)))
    other = ruled(rule, points(x, np.sort(weights)), **given_for(rule, len(x)))
    np.testing.assert_allclose(one.update, other.update, rtol=1e-6, atol=1e-9 * np.abs(x).max())


@pytest.mark.parametrize("rule", OURS)
@given(seed=seeds)
def test_what_is_added_to_all_is_added_to_the_result(rule: str, seed: int) -> None:
    x, by = honest(seed), 100 * honest(seed + 1, 1)[0]
    told = given_for(rule, len(x))
    one = ruled(rule, x, **told).update + by
    other = ruled(rule, x + by, **told, model=by, step=lambda update: update).update  # whole models
    np.testing.assert_allclose(one, other, atol=1e-9)


@pytest.mark.parametrize("rule", ["trimmed-mean", "multi-krum", "bulyan", "nnm", "rlr", "weighted-trimmed"])
@given(seed=seeds)
def test_where_nobody_attacks_it_is_the_mean(rule: str, seed: int) -> None:
    x = honest(seed)
    verdict = ruled(rule, x, assumed=0.0)
    np.testing.assert_allclose(verdict.update, x.mean(axis=0), atol=1e-12)
    assert not verdict.left_out


WITHIN = ["median", "trimmed-mean", "weighted-trimmed", "krum", "multi-krum", "bulyan", "nnm", "bucketing"]


@pytest.mark.parametrize("rule", WITHIN)
@given(seed=seeds)
def test_a_fifth_of_attackers_leaves_each_coordinate_among_the_honest(rule: str, seed: int) -> None:
    x, bad = spoilt(seed)
    good = np.delete(x, bad, axis=0)
    update = ruled(rule, x).update
    slack = 1e-12 * np.abs(good).max()
    assert (update >= good.min(axis=0) - slack).all()
    assert (update <= good.max(axis=0) + slack).all()


@pytest.mark.parametrize("rule", [*WITHIN, "geometric-median", "centred-clipping"])
@given(seed=seeds)
def test_a_fifth_of_attackers_leaves_the_result_near_the_honest(rule: str, seed: int) -> None:
    x, bad = spoilt(seed)
    good = np.delete(x, bad, axis=0)
    centre = good.mean(axis=0)
    farthest = np.linalg.norm(good - centre, axis=1).max()
    assert np.linalg.norm(ruled(rule, x).update - centre) <= farthest
    assert np.linalg.norm(ruled("mean", x).update - centre) > 0.1 * np.linalg.norm(x[bad], axis=1).min() / 20


@pytest.mark.parametrize(("rule", "left_out"), [("krum", 19), ("multi-krum", 4)])
@given(seed=seeds)
def test_attackers_are_among_those_left_out(rule: str, left_out: int, seed: int) -> None:
    x, bad = spoilt(seed)
    verdict = ruled(rule, x)
    assert len(verdict.left_out) == left_out
    assert verdict.left_out >= set(bad)


# Too few


UNFIT = [
    ("trimmed-mean", 5, 0.5, "5 updates to withstand 2 of them, and this round has 4"),
    ("weighted-trimmed", 5, 0.5, "5 updates to withstand 2 of them, and this round has 4"),
    ("nnm", 5, 0.5, "5 updates to withstand 2 of them, and this round has 4"),
    ("krum", 5, 0.2, "3 updates to withstand 0 of them, and this round has 2"),
    ("multi-krum", 7, 0.3, "5 updates to withstand 1 of them, and this round has 4"),
    ("bulyan", 11, 0.2, "11 updates to withstand 2 of them, and this round has 10"),
    ("bucketing", 9, 0.25, "9 updates to withstand 2 of them, and this round has 8"),
]


@pytest.mark.parametrize(("rule", "least", "assumed", "why"), UNFIT)
def test_a_rule_refuses_a_round_with_too_few(rule: str, least: int, assumed: float, why: str) -> None:
    has = int(why.rsplit(maxsplit=1)[-1])
    with pytest.raises(Unfit, match=f"{rule} needs {why}: take more clients a round, or assume fewer"):
        ruled(rule, honest(0, has), assumed=assumed)
    f = int(re.findall(r"withstand (\d+)", why)[0])
    ruled(rule, honest(0, least), assumed=f / least)


def test_the_assumed_share_is_rounded_down_but_for_rounding_errors() -> None:
    bench = {share: Bench(1, np.zeros(1), assumed=share) for share in (0.2, 0.29, 0.3)}
    counts = [bench[share].attackers(points(np.zeros((n, 1)))) for share, n in ((0.2, 9), (0.29, 100))]
    assert counts == [1, 29]


def test_the_model_after_an_update_is_their_sum_unless_it_is_said() -> None:
    assert Bench(1, np.ones(2)).after(np.ones(2)).tolist() == [2, 2]
    assert Bench(1, np.ones(2), step=lambda update: 5 * update).after(np.ones(2)).tolist() == [5, 5]


def test_who_changes_nothing_sends_nothing_or_the_model_where_models_are_sent() -> None:
    model = np.array([1.0, -2.0])
    assert Bench(1, model).origin.tolist() == [0, 0]
    assert Bench(1, model, step=lambda update: model + 0.5 * (update - model)).origin.tolist() == [1, -2]


# By coordinates


@pytest.mark.parametrize("n", [1, 2, 9, 10])
def test_the_median_is_that_of_more_coordinates_than_one_block(n: int) -> None:
    x = honest(0, n, coordinates.BLOCK + 3)
    np.testing.assert_allclose(ruled("median", x).update, np.median(x, axis=0), rtol=1e-15)


# Of groups


def in_groups(seed: int, sizes: list[int], spoilt: int) -> tuple[Points, np.ndarray]:
    """Means of groups of clients, weighted by examples; in so many of them one client sends what it likes.
    Beside them the clients' own, the honest alone.
    """
    rng, x = np.random.default_rng(seed), honest(seed, sum(sizes))
    weights, ends = rng.integers(1, 50, len(x)).astype(float), np.cumsum([0, *sizes])
    places = [np.arange(*pair) for pair in pairwise(ends)]
    bad = [place[0] for place in places[:spoilt]]
    sent = x.copy()
    sent[bad] = 1e6
    means = np.stack([np.average(sent[place], axis=0, weights=weights[place]) for place in places])
    totals = np.array([weights[place].sum() for place in places])
    return Points(tuple(frozenset(place.tolist()) for place in places), means, totals), np.delete(x, bad, 0)


@pytest.mark.parametrize("rule", ["median", "trimmed-mean", "weighted-trimmed"])
@given(seed=seeds)
def test_dirty_groups_of_fewer_than_half_leave_the_result_among_the_honest(rule: str, seed: int) -> None:
    of_groups, clean = in_groups(seed, [2] * 20, 4)
    update = ruled(rule, of_groups, assumed=0.1).update
    assert (update >= clean.min(axis=0)).all()
    assert (update <= clean.max(axis=0)).all()


def test_the_weights_of_groups_are_their_totals_and_the_mean_is_that_of_all() -> None:
    of_groups, x = in_groups(0, [2, 3, 2, 3, 2], 0)
    rng = np.random.default_rng(0)
    weights = rng.integers(1, 50, len(x)).astype(float)
    np.testing.assert_allclose(ruled("mean", of_groups).update, np.average(x, axis=0, weights=weights))
    told = ruled("weighted-trimmed", of_groups, assumed=0.1).update
    assert not np.allclose(told, ruled("trimmed-mean", of_groups, assumed=0.1).update)


def test_of_assumed_attackers_each_may_be_in_a_group_of_its_own() -> None:
    of_groups, _ = in_groups(0, [5] * 8, 0)
    counts = [Bench(1, np.zeros(1), assumed=share).attackers(of_groups) for share in (0.0, 0.1, 0.2, 0.9)]
    assert counts == [0, 4, 8, 8]
    with pytest.raises(
        Unfit, match="trimmed-mean needs 9 groups to withstand 4 of them, and this round has 8"
    ):
        ruled("trimmed-mean", of_groups, assumed=0.1)


@given(seed=seeds)
def test_on_equal_weights_the_weighted_trimmed_mean_is_the_trimmed_mean(seed: int) -> None:
    x, _ = spoilt(seed)
    x[np.argmax(np.abs(x).max(axis=1))] *= 1e200  # of which no rounding error may stay
    for weight in (1, 3, 600.7):
        verdict = ruled("weighted-trimmed", points(x, np.full(len(x), weight)))
        np.testing.assert_allclose(verdict.update, ruled("trimmed-mean", x).update, rtol=1e-9)


def test_a_value_that_is_cut_in_part_weighs_what_is_left_of_it() -> None:
    # A tenth off each end: all of the first, half of the last, whose other half counts .1 of .8.
    update = coordinates.weighted_middle(np.array([[0.0], [1], [2]]), np.array([0.1, 0.7, 0.2]), 0.1)
    assert update == pytest.approx((0.7 * 1 + 0.1 * 2) / 0.8)


@given(weights=st.lists(st.integers(0, 10**6), min_size=1, max_size=20))
def test_capped_shares_are_in_proportion_as_far_as_they_can(weights: list[int]) -> None:
    w = np.array(weights, np.float64)
    most = 2 / len(w)
    shares = coordinates.capped(w, most)
    assert shares.sum() == pytest.approx(1)
    assert shares.max() <= most * (1 + 1e-9)
    light = shares < most * (1 - 1e-9)
    if (w > 0).sum() > len(w) / 2:  # else the cap cannot be kept without those that have nothing
        np.testing.assert_allclose(shares[light] * w[light].sum(), w[light] * shares[light].sum(), atol=1e-9)
        assert not light.any() or w[light].max() <= w[~light].min(initial=np.inf)


@pytest.mark.parametrize(("share", "most"), [(0.006, 0.1), (0.517, 0.2)])
@pytest.mark.parametrize("factor", [-1000, 1000])
@given(seed=seeds)
def test_an_attacker_with_little_or_much_of_the_data_is_withstood(
    share: float, most: float, factor: int, seed: int
) -> None:
    # Eight sites that differ by a fifth of what they have in common; errors are relative to it.
    rng = np.random.default_rng(seed)
    common, own = rng.normal(size=(1, 1000)), rng.normal(size=(8, 1000))
    x = common + 0.2 * own
    weights = np.array([share, *(1 - share) * rng.dirichlet(np.full(7, 4.0))])
    right = np.average(x[1:], axis=0, weights=weights[1:])
    x[0] *= factor
    errors = {
        rule: np.linalg.norm(ruled(rule, points(x, weights)).update - right) / np.linalg.norm(right)
        for rule in ("weighted-trimmed", "mean", "norm-bound")
    }
    assert errors["weighted-trimmed"] < most
    assert errors["mean"] > 5
    if share > 0.5 and factor < 0:
        assert errors["norm-bound"] > 1  # worse than no update at all


def test_weights_of_which_a_few_clients_hold_half_are_refused() -> None:
    weights = [*[100] * 4, *[1] * 6]
    with pytest.raises(Unfit, match="weighted-trimmed cannot withstand 3 of 10 updates that may have 60% of"):
        ruled("weighted-trimmed", points(honest(0, 10), weights), assumed=0.3)


def test_coordinates_whose_signs_agree_too_little_go_backwards() -> None:
    # Of ten clients 7, 6 and all go one way: outnumbered by 4 (2f), by 2, and by 10.
    x = np.ones((10, 3))
    x[:3, 0] = x[:4, 1] = -1
    assert ruled("rlr", x).update == pytest.approx([0.4, -0.2, 1.0])


def test_rlr_turns_back_from_nothing_that_all_agree_on() -> None:
    x = np.ones((10, 3))
    assert ruled("rlr", x, assumed=0.5).update == pytest.approx([1, 1, 1])
    with pytest.raises(Unfit, match="rlr needs 12 updates to withstand 6 of them, and this round has 10"):
        ruled("rlr", x, assumed=0.6)


def test_buckets_change_from_round_to_round_and_are_no_secret() -> None:
    x = honest(0)
    first, again, second = (ruled("bucketing", x, round=number).update for number in (1, 1, 2))
    assert first.tolist() == again.tolist() != second.tolist()


@pytest.mark.parametrize(("n", "s"), [(6, 2), (7, 2), (7, 3), (2, 3)])
def test_a_bucket_that_is_not_full_is_the_mean_of_what_it_has(n: int, s: int) -> None:
    x, order = honest(0, n), np.random.default_rng(0).permutation(n)
    means = [x[order[start : start + s]].mean(axis=0) for start in range(0, n, s)]
    np.testing.assert_allclose(coordinates.buckets(x, order, s), means, rtol=1e-12)


# By distances


@pytest.mark.parametrize("far", [1e3, 1e9, 1e15])
@pytest.mark.parametrize("moved", [0.0, 1e5])
def test_distances_of_the_honest_are_right_whoever_is_far_off(far: float, moved: float) -> None:
    x = honest(0) + moved
    x[:4] += far
    x[0] = x[1]
    right = np.square(x[:, None] - x[None]).sum(axis=2)
    np.testing.assert_allclose(distances.squared_distances(x), right, rtol=1e-6)


@given(seed=seeds, f=st.integers(0, 3))
def test_krum_is_as_it_is_written(seed: int, f: int) -> None:
    x = honest(seed, 10)
    score = [sum(sorted(np.square(x - row).sum(axis=1))[1 : 10 - f - 1]) for row in x]  # n - f - 2 others
    assert ruled("krum", x, assumed=f / 10).update.tolist() == x[np.argmin(score)].tolist()
    best = np.argsort(score)[: 10 - f]
    update = ruled("multi-krum", x, assumed=f / 10).update
    np.testing.assert_allclose(update, x[best].mean(axis=0), rtol=1e-12)


@given(seed=seeds, n=st.integers(11, 12), f=st.integers(0, 2))
def test_bulyan_is_as_it_is_written(seed: int, n: int, f: int) -> None:
    x, taken = list(honest(seed, n)), []
    while len(taken) < n - 2 * f:
        near = max(1, len(x) - f - 2)
        score = [sum(sorted(np.square(np.array(x) - row).sum(axis=1))[1 : near + 1]) for row in x]
        taken.append(x.pop(int(np.argmin(score))))
    columns = np.array(taken).T
    right = [sorted(c, key=lambda v: abs(v - np.median(c)))[: n - 4 * f] for c in columns]
    verdict = ruled("bulyan", honest(seed, n), assumed=f / n)
    np.testing.assert_allclose(verdict.update, np.mean(right, axis=1), rtol=1e-9)
    assert [honest(seed, n)[i].tolist() for i in sorted(verdict.left_out)] == [row.tolist() for row in x]


@given(seed=seeds)
def test_from_the_geometric_median_the_pulls_of_all_cancel(seed: int) -> None:
    x, _ = spoilt(seed)
    to = x - ruled("geometric-median", x).update
    pulls = to / np.linalg.norm(to, axis=1, keepdims=True)
    assert np.linalg.norm(pulls.sum(axis=0)) < 1e-3


def test_the_geometric_median_is_the_point_that_most_are_at() -> None:
    x = honest(0, 9)
    x[:5] = x[0]
    np.testing.assert_allclose(ruled("geometric-median", x).update, x[0], atol=1e-5)


def test_the_geometric_median_is_the_same_from_wherever_it_starts() -> None:
    x = honest(0)
    far = distances.weiszfeld(x, start=np.full(x.shape[1], 1e12))
    np.testing.assert_allclose(far, distances.weiszfeld(x), atol=1e-6)


@pytest.mark.parametrize("far", [1e9, 1e12, 3e38])
def test_the_geometric_median_is_not_moved_by_how_far_a_fifth_is(far: float) -> None:
    x = honest(0, 10)
    away = np.random.default_rng(0).normal(size=(2, x.shape[1]))
    x[:2] = 1e7 * away
    near = ruled("geometric-median", x).update
    x[:2] = far * away
    np.testing.assert_allclose(ruled("geometric-median", x).update, near, atol=1e-6)


def test_centred_clipping_starts_from_what_it_gave_last() -> None:
    x, _ = spoilt(0)
    first = ruled("centred-clipping", x)
    assert first.memory["centre"].tolist() == first.update.tolist()
    centre = first.update + 1
    radius = float(np.median(np.linalg.norm(x - centre, axis=1)))
    second = ruled("centred-clipping", x, memory={"centre": centre})
    for _ in range(3):
        to = x - centre
        centre = centre + (to * np.minimum(1, radius / np.linalg.norm(to, axis=1))[:, None]).mean(axis=0)
    np.testing.assert_allclose(second.update, centre, rtol=1e-9)


def test_of_whole_models_centred_clipping_remembers_what_changed() -> None:
    x, by = honest(0), 100 * honest(1, 1)[0]
    memory = ruled("centred-clipping", x).memory
    whole = {"model": by, "step": lambda update: update}
    assert ruled("centred-clipping", x + by, **whole).memory["centre"] == pytest.approx(memory["centre"])
    later = ruled("centred-clipping", x + 1, memory).update
    np.testing.assert_allclose(ruled("centred-clipping", x + 1 + by, memory, **whole).update, later + by)


# By what is declared


def test_updates_longer_than_the_median_are_made_as_short() -> None:
    x = [[1.0, 0], [0, 2], [-4000, 3000]]
    update = ruled("norm-bound", points(x, [1, 1, 2])).update
    np.testing.assert_allclose(update, [(1 - 2 * 1.6) / 4, (2 + 2 * 1.2) / 4], rtol=1e-12)


def test_where_all_declare_the_same_noise_it_is_the_mean() -> None:
    of = points(honest(0), np.arange(1.0, 21))
    for noise in (0.0, 2.5):
        update = ruled("mmse", of, noise=np.full(20, noise)).update
        np.testing.assert_allclose(update, ruled("mean", of).update, rtol=1e-9)


@pytest.mark.parametrize("heterogeneity", [0.0, 1.0])
def test_where_some_declare_more_noise_the_error_is_less_than_the_means(heterogeneity: float) -> None:
    rng = np.random.default_rng(0)
    noise = np.array([*[0.1] * 5, *[3.0] * 5])
    x = heterogeneity * rng.normal(size=(10, 1000)) + noise[:, None] * rng.normal(size=(10, 1000))
    update, mean = ruled("mmse", x, noise=noise).update, ruled("mean", x).update
    # The least that is possible: of weights that are the inverse of each variance.
    least = 1 / np.sum(1 / (noise**2 + heterogeneity**2))
    assert np.square(update).mean() < min(1.15 * least, 0.6 * np.square(mean).mean())


def test_who_alone_declares_no_noise_does_not_count_alone() -> None:
    x, noise = honest(0, 10), np.array([0.0, *[0.5] * 9])
    update = ruled("mmse", x, noise=noise).update
    assert np.linalg.norm(update - x[0]) > 0.5 * np.linalg.norm(x.mean(axis=0) - x[0])


@pytest.mark.parametrize("n", [1, 5])
def test_equal_updates_without_any_noise_give_themselves(n: int) -> None:
    x = np.ones((n, 3))
    assert ruled("mmse", x, noise=np.zeros(n)).update.tolist() == pytest.approx([1, 1, 1])


def test_mmse_needs_declared_noise() -> None:
    with pytest.raises(Unfit, match="mmse needs the noise of each update declared: give clients noise of"):
        ruled("mmse", honest(0))


GROUPS = (frozenset({0, 1, 2}), frozenset({3, 4, 5}), frozenset({6, 7, 8}))


def copied(weights: tuple[int, int, int] = (1, 2, 3)) -> Points:
    """Three clients for each of three parts of the data."""
    return points(np.repeat(honest(0, 3), 3, axis=0), np.repeat(weights, 3))


def test_one_attacker_in_each_group_changes_nothing_to_the_bit() -> None:
    of = copied()
    right = ruled("draco", of, copies=GROUPS)
    assert not right.left_out
    np.testing.assert_allclose(right.update, ruled("mean", of).update, rtol=1e-12)
    for u in (0, 4, 8):
        of.updates[u] = 1e30
    verdict = ruled("draco", of, copies=GROUPS)
    assert verdict.update.tolist() == right.update.tolist()
    assert verdict.left_out == {0, 4, 8}


def test_who_lies_of_its_examples_alone_is_no_copy() -> None:
    of = copied()
    of.weights[1] = 1000
    assert ruled("draco", of, copies=GROUPS).left_out == {1}


def test_a_group_without_a_majority_is_left_out_with_its_lost_counted_against_it() -> None:
    of = copied()
    of.updates[0], of.updates[1] = 1, 2
    there = [0, 1, 2, 3, 6, 7]  # of the second group two are lost, of the third one
    some = Points(tuple(of.members[i] for i in there), of.updates[there], of.weights[there])
    verdict = ruled("draco", some, copies=GROUPS)
    assert verdict.update.tolist() == of.updates[6].tolist()
    assert verdict.left_out == {0, 1, 2, 3}


def test_draco_needs_copies_and_one_group_that_agrees() -> None:
    with pytest.raises(Unfit, match="draco needs clients that hold the same examples: deal each part to"):
        ruled("draco", copied())
    of = copied()
    of.updates[:] = honest(1, 9)
    with pytest.raises(
        Unfit, match="draco found no group whose greater half sent the same: hold more copies"
    ):
        ruled("draco", of, copies=GROUPS)


def test_one_sum_of_all_is_the_mean_as_it_is() -> None:
    x = honest(0, 1)
    assert ruled("mean", points(x, [7])).update.tolist() == x[0].tolist()
    assert ruled("mean", points(honest(0, 2), [1, 3])).update.tolist() == pytest.approx(
        np.average(honest(0, 2), axis=0, weights=[1, 3]).tolist()
    )
    assert rules.mean is RULES["mean"]
