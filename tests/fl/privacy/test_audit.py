"""Lower bounds of epsilon: that they are right where the numbers are known, that no mechanism's claim is
below one, and that they catch what they are there to catch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from unittest.mock import patch

import numpy as np
import pytest

from benchmarks.audited import AT_ONCE, WITH_EPSILON, WITHOUT_EPSILON, distributed, in_ring
from benchmarks.ring import added
from fl.config.section import ConfigError
from fl.federation.vectors import UPDATE, scheme_for
from fl.privacy.accounting import epsilon
from fl.privacy.audit import Scores, audit, audit_at_once, chance
from fl.privacy.releases import Gaussian, Sampled
from secagg import Masking, inputs, run
from secagg.bits import Words

DELTA, RUNS = 0.1, 1600  # at which so few runs surely tell noise of one sensitivity from half of it
CANARIES = 500


def rng_of(seed: int) -> Callable[[int], bytes]:
    return np.random.default_rng(seed).bytes


def fixed(absent: Scores, present: Scores) -> Callable[[bool, int], Scores]:
    return lambda there, runs: present if there else absent


# The bounds


def test_the_bound_is_that_of_the_error_rates_at_their_upper_bounds() -> None:
    """Of 80 runs each, of which the last 60 count. 3 wrong of 60 are a rate of 0.17119 at most, none is
    0.08452, each with a confidence of 99.5 % (Clopper and Pearson: quantiles of beta distributions).
    """
    one, zero = np.ones(80), np.zeros(80)
    some = zero.copy()
    some[-3:] = 1
    zero[0] = 1  # one of those that choose
    found = audit(fixed(zero, 1 - some), runs=80, delta=0.01)  # missed
    assert found.epsilon == pytest.approx(math.log((1 - 0.01 - 0.17119) / 0.08452), rel=1e-4)
    assert (found.delta, found.confidence, found.plays) == (0.01, 0.99, 160)
    # Seen where it is not: the other of the two inequalities.
    assert audit(fixed(some, one), runs=80, delta=0.01).epsilon == pytest.approx(found.epsilon)


def test_the_runs_that_choose_the_threshold_do_not_count() -> None:
    """What separates their scores separates no others."""
    absent, present = np.zeros(1000), np.zeros(1000)
    present[:250] = 1
    assert audit(fixed(absent, present), runs=1000, delta=0.0).epsilon == 0.0


def test_the_threshold_is_the_one_that_tells_most() -> None:
    """Three scores: the middle one says little, the upper one all."""
    absent = np.tile([0.0] * 9 + [1.0], 100)
    present = np.tile([0.0] * 5 + [1.0, 2.0, 2.0, 2.0, 2.0], 100)
    found = audit(fixed(absent, present), runs=1000, delta=0.0)
    assert found.epsilon > math.log(0.3 / 0.0106) > math.log(5 / 1) + 1


def test_nothing_is_found_where_there_is_nothing_and_a_score_the_wrong_way_round_is_nothing() -> None:
    drawn = np.random.default_rng(0).normal(size=(2, 2000))
    assert audit(fixed(*drawn), runs=2000, delta=0.0).epsilon < 0.1
    assert audit(fixed(drawn[0], drawn[1] - 3), runs=2000, delta=DELTA).epsilon < 0.1


def test_it_comes_near_the_exact_epsilon_of_a_gaussian() -> None:
    """Of the mechanism `local`, with as much noise as a clip."""
    found = audit(WITH_EPSILON["local, gaussian"].play(1.0, rng_of(1)), runs=10_000, delta=0.03)
    exact = epsilon([Gaussian(1.0)], 0.03)
    assert 0.6 * exact <= found.epsilon <= exact


def by_counting(m: int, r: int, v: int, heads: float, delta: float) -> float:
    p = [math.comb(r, k) * heads**k * (1 - heads) ** (r - k) for k in range(r + 1)]
    alpha = max((sum(p[v - i : v]) / i for i in range(1, v + 1)), default=0.0)
    return min(1.0, sum(p[v:]) + 2 * m * delta * alpha)


@pytest.mark.parametrize("v", [0, 1, 13, 20])
@pytest.mark.parametrize("delta", [0.0, 1e-3])
def test_the_chance_of_so_many_right_guesses_is_the_theorems(v: int, delta: float) -> None:
    assert chance(50, 20, v, math.log(3), delta) == pytest.approx(by_counting(50, 20, v, 0.75, delta))


def test_guesses_are_the_highest_and_the_lowest_scores() -> None:
    """Eighty of a hundred and twenty canaries, all right: 2^-80 at epsilon 0, so that q^80 = 0.01."""
    included = np.arange(120) >= 60
    scores = np.arange(120.0)
    scores[40:80] = scores[40:80][::-1]  # whom nobody guesses
    found = audit_at_once(included, scores, guesses=80, delta=0.0)
    heads = 0.01 ** (1 / 80)
    assert found.epsilon == pytest.approx(math.log(heads / (1 - heads)), abs=1e-5)
    assert audit_at_once(included, -scores, guesses=80, delta=0.0).epsilon == 0.0
    assert audit_at_once(included, scores, guesses=120, delta=0.0).epsilon < found.epsilon


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"runs": 3}, "runs = 3: give 4 or more, a quarter of which choose the threshold"),
        ({"delta": 1.0}, "delta = 1.0: give a number from 0 on, below 1"),
        ({"confidence": 1.0}, "confidence = 1.0: give a number from 0.5 on, below 1"),
    ],
)
def test_what_is_no_audit_is_refused(settings: dict[str, float], text: str) -> None:
    scores = np.zeros(4)
    with pytest.raises(ConfigError, match=f"^{text}$"):
        audit(fixed(scores, scores), **{"runs": 4, "delta": 0.0} | settings)  # type: ignore[arg-type]
    for guesses in (3, 6):
        text = f"guesses = {guesses}: give an even number from 2 to 4, the canaries"
        with pytest.raises(ConfigError, match=f"^{text}$"):
            audit_at_once(scores > 0, scores, guesses=guesses, delta=0.0)


# The mechanisms


@pytest.mark.parametrize("name", WITH_EPSILON)
def test_no_mechanism_tells_more_than_it_claims_and_half_its_noise_is_caught(name: str) -> None:
    mechanism = WITH_EPSILON[name]
    z = mechanism.multiplier
    claim = epsilon(mechanism.releases(), DELTA)
    assert audit(mechanism.play(z, rng_of(2)), runs=RUNS, delta=DELTA).epsilon <= claim
    assert audit(mechanism.play(z / 2, rng_of(2)), runs=RUNS, delta=DELTA).epsilon > claim


def test_coins_that_nobody_sees_are_worth_what_is_claimed_and_nothing_where_they_are_seen() -> None:
    mechanism = in_ring("skellam", 4, blank=0.7)
    (told,) = mechanism.releases()
    assert isinstance(told, Sampled)
    claim = epsilon([told], DELTA)
    assert claim < 0.5 * epsilon(told.releases, DELTA)
    assert audit(mechanism.play(1.0, rng_of(2)), runs=RUNS, delta=DELTA).epsilon <= claim
    assert audit(mechanism.play(0.3, rng_of(2)), runs=RUNS, delta=DELTA).epsilon > claim
    seen = distributed(mechanism.config(1.0), mechanism.length, rng_of(2), hidden=False)
    assert audit(seen, runs=RUNS, delta=DELTA).epsilon > claim


@pytest.mark.parametrize("name", AT_ONCE)
def test_a_single_run_tells_no_more_and_catches_a_fifth_of_the_noise(name: str) -> None:
    mechanism = AT_ONCE[name]
    z = mechanism.multiplier
    claim = epsilon(mechanism.releases(CANARIES), 1e-5)

    def found(multiplier: float) -> float:
        included, scores = mechanism.play(multiplier, CANARIES, rng_of(3))
        return audit_at_once(included, scores, guesses=CANARIES // 2, delta=1e-5).epsilon

    assert 0 < found(z) <= claim < found(z / 5)


@pytest.mark.parametrize("name", WITHOUT_EPSILON)
def test_noise_that_follows_the_data_tells_more_than_its_multiplier_says(name: str) -> None:
    mechanism = WITHOUT_EPSILON[name]
    naive = epsilon(mechanism.releases(), 1e-5)
    found = audit(mechanism.play(mechanism.multiplier, rng_of(4)), runs=200, delta=1e-5)
    assert found.epsilon > 2 * naive


def test_a_real_session_leaves_the_server_and_the_corrupt_the_sum_that_is_audited() -> None:
    """One of four clients is lost, and one of those who are left is corrupt: it takes off what it sent."""
    mechanism = WITH_EPSILON["distributed, discrete-gaussian"]
    scheme = scheme_for(mechanism.config(1.0), 4, mechanism.length, 1, None)
    assert isinstance(scheme, Masking)
    zeros = {UPDATE: np.zeros(mechanism.length)}
    sent: list[Words] = []

    def heard(*given: object) -> object:
        words, clipping = right(*given)  # type: ignore[arg-type]
        sent.append(words.copy())
        return words, clipping

    right = inputs.encode_private
    with patch.object(inputs, "encode_private", heard):
        total = run(scheme, dict.fromkeys(range(4), zeros), drop={"masked-input": {3}})
    assert len(total.survivors) == scheme.m_min == 3
    honest, corrupt = sent[:2], sent[2]
    left = total.codes[UPDATE].astype(np.uint64) - corrupt.astype(np.uint64)
    calibration = scheme.calibration(UPDATE)
    np.testing.assert_array_equal(added(calibration, [left]), added(calibration, honest))
    assert len(honest) == calibration.honest
