"""How often one example is taken up in a round."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl.config.plan import LocalPlan
from fl.privacy.accounting import epsilon
from fl.privacy.exposure import Exposure, exposure
from fl.privacy.releases import Gaussian
from fl.training.local import batches

KEY = bytes(range(32))
plans = st.builds(
    LocalPlan,
    algorithm=st.sampled_from(["fedavg", "fedsgd"]),
    epochs=st.integers(1, 4),
    steps=st.integers(0, 30),
    batch_size=st.integers(1, 20),
    sampling=st.sampled_from(["shuffled", "poisson"]),
)


@given(plan=plans, n=st.integers(1, 60))
def test_no_example_is_in_more_batches_than_are_counted(plan: LocalPlan, n: int) -> None:
    """And shuffled, some example is in as many. Where nobody knows n it is counted no less."""
    times = Counter(example for batch in batches(n, plan, KEY) for example in batch.tolist())
    counted, of_any = exposure(plan, n), exposure(plan, None)
    assert counted is not None
    assert max(times.values(), default=0) <= counted.steps
    if counted.rate == 1:
        assert max(times.values()) == counted.steps
    if of_any is None:
        assert plan.sampling == "poisson"
        assert not plan.steps
    else:
        assert of_any.rate == 1
        assert of_any.steps >= counted.steps


@pytest.mark.parametrize(
    ("plan", "n", "rate", "steps"),
    [
        (LocalPlan(epochs=2, batch_size=8), 100, 1.0, 2),  # 26 steps are two passes
        (LocalPlan(steps=27, batch_size=8), 100, 1.0, 3),  # the third of one step
        (LocalPlan(steps=27, batch_size=8), None, 1.0, 27),
        (LocalPlan(steps=100, batch_size=5, sampling="poisson"), 500, 0.01, 100),  # Wei et al., table 2
        (LocalPlan(epochs=2, batch_size=8, sampling="poisson"), 100, 0.08, 26),
        (LocalPlan(steps=9, batch_size=8, sampling="poisson"), 4, 1.0, 9),
        (LocalPlan(steps=9, batch_size=8, sampling="poisson"), None, 1.0, 9),
        (LocalPlan("fedsgd", epochs=5), 100, 1.0, 1),
    ],
    ids=str,
)
def test_a_round_takes_an_example_so_often(plan: LocalPlan, n: int | None, rate: float, steps: int) -> None:
    assert exposure(plan, n) == Exposure(rate, steps)


def test_of_epochs_of_samples_of_nobody_knows_how_many_nothing_is_known() -> None:
    assert exposure(LocalPlan(sampling="poisson"), None) is None


def test_what_the_rows_of_wei_et_al_cost() -> None:
    """Table 1, MNIST: 100 rounds of 100 steps of 5 in 500, sigma 6, delta 1e-5; attacks_defences.md 5.2."""
    spent = []
    for way in ("shuffled", "poisson"):
        taken = exposure(LocalPlan(steps=100, batch_size=5, sampling=way), 500)
        assert taken is not None
        spent.append(epsilon([Gaussian(6.0, taken.rate, taken.steps)] * 100, 1e-5))
    assert spent == pytest.approx([8.0037, 0.6010], abs=1e-4)  # a pass a round, exactly; 10^4 samples, by PLD
