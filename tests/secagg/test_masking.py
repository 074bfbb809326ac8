"""The protocol as a whole: whoever vanishes, the sum of the others is exact, or there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import Bounded, Counts, Masking, TooFewClients, Weight, run
from secagg.masking.messages import MaskedInput
from secagg.wire import MAX_ID
from tests.play import TASK, Play, assert_same_codes, changed, rounding_seed
from tests.secagg.helpers import MASKING, MIXED, codes_of, credentials, mixed_inputs

Fates = Mapping[int, str | None]
"""Client -> the round from which on it is never heard from again; None: it stays."""

every_make = pytest.mark.parametrize("make", MASKING.values(), ids=MASKING)


def session(scheme: Masking, inputs: Mapping[int, Any], fates: Fates | None = None, **more: Any) -> Any:
    drop: dict[str, set[int]] = {}
    for u, round in (fates or {}).items():
        if round:
            drop.setdefault(round, set()).add(u)
    seeds = {u: rounding_seed(u) for u in inputs}
    keys = credentials(scheme, inputs)
    return run(scheme, inputs, task=TASK, drop=drop, rounding_seeds=seeds, **keys, **more)


def alive_in(scheme: Masking, fates: Fates, round: str) -> frozenset[int]:
    passed = scheme.rounds[: scheme.rounds.index(round) + 1]
    return frozenset(u for u, fate in fates.items() if fate not in passed)


def check_drops(scheme: Masking, inputs: Mapping[int, Any], fates: Fates) -> None:
    """The sum is exact if enough are left in every round; else the first with fewer ends the session."""
    for round in scheme.rounds:
        left, needed = len(alive_in(scheme, fates, round)), scheme.m_min
        if round == "unmasking":
            needed = scheme.threshold
        if left < needed:
            with pytest.raises(TooFewClients) as caught:
                session(scheme, inputs, fates)
            error = caught.value
            assert (error.alive, error.needed, error.round) == (left, needed, round)
            return
    total = session(scheme, inputs, fates)
    assert total.survivors == alive_in(scheme, fates, "masked-input")
    assert_same_codes(total.codes, codes_of(scheme, inputs, total.survivors))


# The sum


@st.composite
def cohorts(draw: st.DrawFn) -> tuple[Masking, dict[int, Any], Fates]:
    n = draw(st.integers(3, 7))
    specs: dict[str, Any] = {
        "": Counts(length=draw(st.integers(1, 4)), maximum=draw(st.integers(1, 2**53 - 1))),
        "update": Bounded(
            length=draw(st.integers(1, 70)),
            bound=draw(st.floats(1e-3, 1e3)),
            bits=draw(st.integers(2, 32)),
            clip=draw(st.none() | st.floats(1e-3, 1e3)),
        ),
        "weight": Weight(maximum=draw(st.integers(1, 2**31 - 1))),
    }
    specs = {name: specs[name] for name in draw(st.sets(st.sampled_from(sorted(specs)), min_size=1))}
    ids = draw(st.lists(st.integers(0, MAX_ID), min_size=n, max_size=n, unique=True))
    name = draw(st.sampled_from(sorted(MASKING)))
    # A + 2 <= t <= n and, against an active server, (n + A) / 2 < t.
    A = draw(st.integers(0, n - 2 if name == "active" else 0))
    t = draw(st.integers(max((n + A) // 2 + 1, A + 2), n))
    scheme = MASKING[name](ids, specs, corrupt=A, threshold=t, m_min=draw(st.integers(t, n)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    values: dict[str, Callable[[], Any]] = {
        "": lambda: rng.integers(0, specs[""].maximum, specs[""].length, endpoint=True),
        "update": lambda: rng.normal(0, specs["update"].bound, specs["update"].length),
        "weight": lambda: rng.integers(1, specs["weight"].maximum, endpoint=True),
    }
    inputs = {u: {name: values[name]() for name in specs} for u in ids}
    # Most clients stay, so that most sessions reach the last round.
    fate = st.sampled_from((*scheme.rounds, *[None] * 10))
    return scheme, inputs, {u: draw(fate) for u in ids}


@settings(max_examples=60)
@given(cohorts())
def test_whoever_vanishes_the_sum_is_exact_or_there_is_none(
    cohort: tuple[Masking, dict[int, Any], Fates],
) -> None:
    check_drops(*cohort)


@pytest.mark.parametrize(
    ("name", "clients"), [("semi-honest", 1), ("active", 1), ("semi-honest", 2), ("active", 2)]
)
def test_a_small_cohort_sums_too(name: str, clients: int) -> None:
    inputs = mixed_inputs(range(clients))
    scheme = MASKING[name](inputs, MIXED, small_cohort=True)
    assert_same_codes(session(scheme, inputs).codes, codes_of(scheme, inputs, inputs))


def test_the_weighted_mean_is_within_the_stated_bound_of_the_float_mean() -> None:
    """30 sets of weighted updates, some out of range, some out of the ball."""
    rng = np.random.default_rng(1)
    for i in range(30):
        n, length, w_max = int(rng.integers(3, 9)), int(rng.integers(1, 40)), int(rng.integers(1, 500))
        bound, clip = rng.uniform(0.1, 2.0), rng.choice([None, 0.5, 3.0])
        spec = Bounded(length=length, bound=bound, bits=int(rng.integers(2, 25)), clip=clip)
        make = list(MASKING.values())[i % 2]
        scheme = make(range(n), {"update": spec, "weight": Weight(maximum=w_max)})
        x = rng.normal(0, 0.6, (n, length)).astype(rng.choice([np.float32, np.float64]))
        w = rng.integers(1, w_max, n, endpoint=True)
        lost = set(rng.choice(n, n - scheme.threshold, replace=False).tolist())
        inputs = {u: {"update": x[u], "weight": w[u]} for u in range(n)}
        total = run(scheme, inputs, drop={"masked-input": lost}, **credentials(scheme, inputs))
        left = sorted(set(range(n)) - lost)
        norms = np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
        clipped = np.clip(x * np.minimum(1, clip / norms) if clip else x, -bound, bound)
        true = np.average(clipped[left], axis=0, weights=w[left])
        assert np.abs(total.mean["update"] - true).max() <= total.error_bound["update"]
        assert total.error_bound["update"] == pytest.approx(
            len(left) * bound / (2 ** (spec.bits - 1) - 1) * w_max / w[left].sum(), rel=1e-6
        )
        assert total.sum["weight"].tolist() == [w[left].sum()]
        np.testing.assert_allclose(total.sum["update"], total.mean["update"] * w[left].sum(), rtol=1e-12)


@every_make
def test_weights_that_sum_to_nothing_give_a_finite_mean(make: Any) -> None:
    """A lying client can bring it to zero, too: the mean is worthless then, but no error."""
    weighted = make(range(3), {"update": Bounded(length=2, bound=1.0), "weight": Weight(maximum=4)})
    honest = {u: {"update": [1.0, 0.0], "weight": 2} for u in range(3)}
    play = Play(weighted, honest).to("masked-input").answer()
    bits = weighted.vectors["weight"].ring_bits(3)

    def lie(message: MaskedInput) -> MaskedInput:
        update, weight = message.packed
        less = (int.from_bytes(weight, "little") - 6) % 2**bits
        return MaskedInput([update, memoryview(less.to_bytes(1, "little"))])

    play.answers[0] = changed(MaskedInput, play.answers[0], lie)
    total = play.finish()
    assert total.sum["weight"].tolist() == [0]
    assert np.isfinite(total.mean["update"]).all()


@every_make
def test_clipping_is_told_to_its_client_alone(make: Any) -> None:
    inputs = mixed_inputs(range(3))
    inputs[1]["update"] = [9, 1, 0, -1, -9]
    play = Play(make(range(3), MIXED), inputs)
    assert play.clients[1].clipping == {}
    play.finish()
    assert play.clients[1].clipping["update"].coordinates == 2
    assert play.clients[0].clipping["update"].coordinates == 0
    assert play.clients[0].clipping.keys() == MIXED.keys()
