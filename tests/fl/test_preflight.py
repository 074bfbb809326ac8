"""What a client's update would give away of its own examples, as the client sees it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.crafted import hidden, traps
from fl.cli.learn import Looked
from fl.cli.output import Output
from fl.cli.rounds import tell_looked
from fl.config.plan import LocalPlan
from fl.config.preflight import SHARES, Preflight
from fl.data import load
from fl.leakage.attack import Budget, Knowledge
from fl.leakage.imprint import crafted, imprint
from fl.leakage.views import Part, View
from fl.models.architectures import Description, build
from fl.models.weights import from_vector
from fl.preflight import (
    NEAR,
    SILENT,
    Kept,
    Layer,
    Moved,
    Own,
    Verdict,
    Withheld,
    differences_of,
    inspector,
    opened,
    preflight,
)
from fl.training.local import train

STEP = LocalPlan(steps=1, batch_size=1000, momentum=0.0)
DIGITS = load("digits")
PUBLIC = DIGITS.train_x[-500:]


def looked(
    examples: int,
    model: str = "mlp",
    plan: LocalPlan = STEP,
    *,
    parameters: NDArray[np.float32] | None = None,
    noise: float = 0.0,
    rules: Preflight = Preflight(),  # noqa: B008 - frozen
    like: int | None = None,
    kept: Kept | None = None,
) -> Verdict:
    """like: all examples are this one."""
    x, y = DIGITS.train_x[:examples], DIGITS.train_y[:examples]
    if like is not None:
        x, y = np.repeat(x[like : like + 1], examples, axis=0), np.repeat(y[like], examples)
    net = build(model, DIGITS.shape, DIGITS.classes, 0)
    if parameters is not None:
        from_vector(net, parameters)
    result = train(net, torch.tensor(x), torch.tensor(y), plan, bytes(32))
    return preflight(net, x, result.upload, plan, rules, noise=noise, kept=kept)


def sieve(model: str = "mlp-1000", **how: Any) -> NDArray[np.float32]:
    description = Description(model, DIGITS.shape, DIGITS.classes)
    return hidden(description, PUBLIC, np.random.default_rng(0), **how)


@pytest.mark.parametrize("model", ["mlp", "mlp-200", "logistic"])
@pytest.mark.parametrize("algorithm", ["fedavg", "fedavg-weights", "fedsgd"])
def test_an_example_that_trains_alone_comes_out_whatever_is_sent_and_however_it_enters(
    model: str, algorithm: Any
) -> None:
    """Of one step and of several: a row stays that one image."""
    once = STEP if algorithm != "fedsgd" else LocalPlan()
    for plan in (once, LocalPlan(epochs=5)):
        verdict = looked(1, model, plan if algorithm == "fedavg" else LocalPlan(algorithm=algorithm))
        assert (verdict.out, verdict.examples, verdict.share) == (1, 1, 1.0)
        assert not verdict.leaks  # of so few any share will do


def test_of_many_examples_an_honest_model_gives_few_away_and_one_made_for_it_most() -> None:
    """That of `secagg attack imprint`."""
    imprinted = crafted(Description("mlp-1000", DIGITS.shape, DIGITS.classes), PUBLIC)
    honest, made = looked(100, "mlp-1000"), looked(100, "mlp-1000", parameters=imprinted)
    assert honest.share < 0.3 < made.share
    assert not honest.leaks
    assert made.leaks
    assert not honest.alike
    assert made.alike == 1000
    assert "neurons have weights that point the same way" in made.sentence()


def test_of_a_narrow_layer_made_for_reading_nothing_may_come_out_and_of_an_honest_one_as_much_may() -> None:
    """It reads fewer than the limit of any model."""
    imprinted = crafted(Description("mlp", DIGITS.shape, DIGITS.classes), PUBLIC)
    made, honest = looked(100, "mlp", parameters=imprinted), looked(100, "mlp-1000")
    assert (made.alike, honest.alike) == (64, 0)
    assert 0 < made.out <= honest.out < 30
    assert (made.leaks, honest.leaks) == (True, False)
    assert "15 of the 100 examples" in made.sentence()
    assert "(15%; none may, since 64 of its neurons have weights that point" in made.sentence()
    assert not replace(made, out=0).leaks


@pytest.mark.parametrize("examples", [3, 16])
def test_by_few_examples_rows_of_no_model_are_alike(examples: int) -> None:
    """In their few directions all are."""
    assert looked(examples, "mlp-1000").alike == 0


def test_of_a_crafted_models_update_just_those_examples_count_that_its_attack_reads() -> None:
    description, x = Description("mlp-1000", DIGITS.shape, DIGITS.classes), DIGITS.train_x[:100]
    parameters = crafted(description, PUBLIC)
    net = build("mlp-1000", DIGITS.shape, DIGITS.classes, 0)
    from_vector(net, parameters)
    update = train(net, torch.tensor(x), torch.tensor(DIGITS.train_y[:100]), STEP, bytes(32)).upload
    view = View((Part(frozenset({0}), update.astype(np.float64)[None], 100),))
    (found,) = imprint(view, Knowledge(description, parameters, STEP, 100), Budget(), 0)
    assert found.images is not None
    assert found.claimed is not None
    claims = found.images[found.claimed].reshape(-1, 1, 64)
    right = (np.square(claims - x.reshape(1, 100, 64)).mean(axis=2) < NEAR).any(axis=0)
    assert preflight(net, x, update, STEP, Preflight()).out == right.sum() > 30


@pytest.mark.parametrize("how", [{"jitter": 0.05}, {"directions": 2}, {"uneven": True}])
def test_rows_that_are_hidden_among_others_are_differenced_all_the_same(how: dict[str, Any]) -> None:
    """Not two of them alike; measuring two things in turns; counting behind by factors of the server's."""
    assert looked(100, "mlp-1000", parameters=sieve(**how)).leaks


def test_traps_are_read_without_differences() -> None:
    description = Description("mlp-1000", DIGITS.shape, DIGITS.classes)
    trapped = traps(description, PUBLIC, np.random.default_rng(0), strength=0.5)
    verdict = looked(100, "mlp-1000", parameters=trapped)
    assert verdict.leaks
    assert not verdict.alike


def test_what_is_kept_of_the_rounds_before_changes_no_verdict() -> None:
    """Whatever the server sends now: a model that centres what enters it, and one that does not."""
    kept: Kept = {}
    imprinted = crafted(Description("mlp", DIGITS.shape, DIGITS.classes), PUBLIC)
    for model, parameters in (("mlp", imprinted), ("mlp-1000", None), ("mlp", imprinted)):
        verdict = looked(100, model, parameters=parameters)
        assert looked(100, model, parameters=parameters, kept=kept) == verdict
        assert verdict.out
    assert sorted(kept) == [0, 1]


def test_only_what_is_in_the_update_counts() -> None:
    """Eight examples of a hundred: at most those come out, and they are the share of eight."""
    plan = LocalPlan(steps=1, batch_size=8, momentum=0.0)
    verdict = looked(100, "mlp-1000", plan)
    assert verdict.examples == 8
    assert 6 <= verdict.out <= 8


def test_noise_that_is_still_to_come_hides_what_it_is_larger_than() -> None:
    bare, faint, loud = (looked(1, noise=noise).out for noise in (0.0, 1e-9, 1.0))
    assert (bare, faint, loud) == (1, 1, 0)


def test_examples_that_are_alike_come_out_together() -> None:
    assert looked(30, like=3).out == 30


def test_where_no_linear_layer_sees_the_pixels_nothing_is_said_to_be_safe() -> None:
    verdict = looked(1, "cnn")
    assert (verdict.out, verdict.leaks) == (0, False)
    assert "this model begins with another" in verdict.sentence()


def read_plainly(moved: Moved, x: NDArray[np.float32], near: float) -> NDArray[np.bool_]:
    """Each neuron that moved beside each example, in all their pixels, in float64."""
    some = np.abs(moved.bias) > SILENT * np.abs(moved.bias).max()
    rows = moved.weight[some].astype(np.float64) / moved.bias[some, None]
    noise = np.square(moved.deviation[some] / moved.bias[some]) * (1 + np.square(rows).mean(axis=1))
    errors = np.stack([np.square(rows - one).mean(axis=1) for one in x.astype(np.float64)])
    out: NDArray[np.bool_] = (errors + noise < near).any(axis=1)
    return out


@pytest.mark.parametrize("noise", [0.0, 3e-7, 3e-6])
@pytest.mark.parametrize("how", ["honest", "imprint", "directions", "traps"])
def test_no_pair_of_a_row_and_an_example_is_missed(how: str, noise: float) -> None:
    """Of rows and of differences, beside all of them compared as they are."""
    x, y = DIGITS.train_x[:60], DIGITS.train_y[:60]
    net = build("mlp-1000", DIGITS.shape, DIGITS.classes, 3)
    if how == "traps":
        description = Description("mlp-1000", DIGITS.shape, DIGITS.classes)
        from_vector(net, traps(description, PUBLIC, np.random.default_rng(0), strength=0.5))
    elif how != "honest":
        from_vector(net, sieve(**({} if how == "imprint" else {"directions": 4})))
    result = train(net, torch.tensor(x), torch.tensor(y), STEP, bytes(32))
    _, first, rest = opened(net)
    assert first is not None
    layer, flat = Layer.of(first, rest), x.reshape(60, -1)
    own = Own.of(flat, NEAR)
    moved, groups = Moved.of(layer, result.upload, STEP, noise), layer.groups(own)
    all_of = [moved, differences_of(moved, layer, groups, own)]
    plain = np.any([read_plainly(one, flat, NEAR) for one in all_of if one is not None], axis=0)
    out = preflight(net, x, result.upload, STEP, Preflight(), noise=noise).out
    assert out == np.count_nonzero(plain)
    assert out or noise


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 60), st.integers(1, 100), st.booleans())
def test_no_pair_is_missed_of_any_rows_and_examples(
    seed: int, neurons: int, examples: int, width: int, noisy: bool
) -> None:
    """Rows that are some example, by more or less than is near; of all sizes of biases, and of none."""
    rng = np.random.default_rng(seed)
    x = (rng.random((examples, width)) * (rng.random(width) > 0.5)).astype(np.float32)
    off = rng.normal(size=(neurons, width)) * np.sqrt(NEAR * rng.choice([0.0, 0.9, 1.1, 100.0], (neurons, 1)))
    bias = rng.normal(size=neurons) * 10.0 ** rng.integers(-9, 3, neurons)
    weight = (x[rng.integers(examples, size=neurons)] + off) * bias[:, None]
    deviation = np.abs(bias) * rng.choice([0.0, 0.5, 1.0, 2.0], neurons) * np.sqrt(NEAR / 2) * noisy
    moved = Moved(*(each.astype(np.float32) for each in (weight, bias, deviation)))
    sure, may = (read_plainly(moved, x, NEAR * by) for by in (0.999, 1.001))  # float32
    out = np.zeros(examples, dtype=bool)
    Own.of(x, NEAR).come_out(moved, lambda of: x[of], out)
    assert (out[sure]).all()
    assert (may[out]).all()


def test_how_much_may_come_out_goes_by_how_many_there_are() -> None:
    assert [Preflight().largest(n) for n in (1, 49, 50, 99, 10**6)] == [1.0, 1.0, 0.6, 0.6, SHARES[-1][1]]
    strict = Preflight(shares=((1, 0.0),))
    assert looked(1, rules=strict).leaks
    assert not looked(200, "logistic", rules=strict).leaks


def test_little_is_told_once_and_a_layer_made_for_reading_is_warned_of_in_every_round(
    capsys: pytest.CaptureFixture[str],
) -> None:
    looked = Looked(Output(), "client 3")
    little = Verdict("", examples=100, out=1, largest=0.3)
    for verdict in (little, little, replace(little, alike=64), replace(little, out=0, alike=64)):
        looked(verdict)
    said, warned = (lines.splitlines() for lines in capsys.readouterr())
    assert [line.startswith("client 3: 1 of the 100 examples") for line in said] == [True]
    assert [line.startswith("warning: client 3: ") for line in warned] == [True] * 2
    assert all("64 of its neurons have weights that point the same way" in line for line in warned)


def test_what_few_examples_give_away_is_warned_of_though_any_share_may(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for looked in (Looked(Output(), "client 3"), lambda verdict: tell_looked(Output(), {3: verdict})):
        for out in (1, 2):
            looked(Verdict("", examples=20, out=out))
        said, warned = capsys.readouterr()
        assert ("1 of the 20" in said, "2 of the 20" in warned) == (True, True)


def test_a_loop_of_ones_own_withholds_what_gives_too_much_away() -> None:
    x, y = DIGITS.train_x[:100], DIGITS.train_y[:100]
    honest, crafted_ = (build("mlp-1000", DIGITS.shape, DIGITS.classes, 0) for _ in range(2))
    from_vector(crafted_, sieve())
    models, verdicts = {b"honest": honest, b"crafted": crafted_}, list[Verdict]()

    def update_of(task: bytes) -> dict[str, NDArray[np.float32]]:
        result = train(models[task], torch.tensor(x), torch.tensor(y), STEP, bytes(32))
        return {"update": result.upload}

    updates = {task: update_of(task) for task in models}
    look = inspector(models.__getitem__, x, STEP, Preflight(), told=verdicts.append)
    look(b"honest", updates[b"honest"])
    with pytest.raises(Withheld, match=r"nothing was sent: .* can be read off its first layer"):
        look(b"crafted", updates[b"crafted"])
    inspector(models.__getitem__, x, STEP, Preflight(action="warn"))(b"crafted", updates[b"crafted"])
    assert [verdict.leaks for verdict in verdicts] == [False, True]
