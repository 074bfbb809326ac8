"""Updates of single images, inverted: each benchmark of them, made small."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import inverted, noised
from benchmarks.inverted import Summary, Target, word
from benchmarks.leakage import (
    analytic,
    constant,
    encoding,
    faces,
    faces_accuracy,
    perturbed,
    sets,
    steps,
    trained,
)
from fl.data import DataError, Dataset
from fl.leakage.attack import Budget, Encoding, Guess, Knowledge
from fl.leakage.attacks import ATTACKS
from fl.leakage.gradients import Matching
from fl.leakage.labels import labels
from fl.leakage.verdicts import FAILED
from fl.leakage.views import View
from secagg import Bounded
from tests.benchmarks.cases import rows_of, shown

SEEN = list[tuple[str, View, Knowledge]]()


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Images of 8 x 8 pixels of noise. What is attacked is kept; what is found is grey, with its label."""
    rng = np.random.default_rng(0)
    x, y = rng.random((200, 1, 8, 8), dtype=np.float32), np.arange(200) % 10

    def load(name: str, data_dir: object = None) -> Dataset:
        return Dataset(name, x, y, x[:60], y[:60], classes=10)

    def here(attack: str, view: View, knowledge: Knowledge, budget: Budget, seed: int) -> Guess:
        assert attack in ATTACKS
        SEEN.append((attack, view, knowledge))
        read = labels(view, knowledge, budget, seed)
        return tuple(replace(one, images=np.full((len(one.labels), 1, 8, 8), 0.5)) for one in read)

    monkeypatch.setattr(inverted, "load", load)
    monkeypatch.setattr("fl.cohort.layout.load", load)
    monkeypatch.setattr(inverted.apart, "run", here)
    monkeypatch.setattr(inverted, "EXAMPLES", 20)
    SEEN.clear()
    noised.layout_of.cache_clear()
    yield
    noised.layout_of.cache_clear()


@pytest.mark.parametrize("benchmark_", [encoding, steps, trained, perturbed, faces, sets, constant])
def test_a_row_for_each_cell_and_a_control_beside_it(benchmark_: Any) -> None:
    rows = rows_of(benchmark_)
    assert {len(row["psnr"]) for row in rows} == {8}
    shown(benchmark_, rows)


def test_every_step_of_a_code_is_larger_with_fewer_bits_a_wider_bound_and_less_weight() -> None:
    x, rng = np.linspace(-0.9, 0.9, 500), np.random.default_rng(0)

    def off(bits: int, bound: float, share: int) -> float:
        spec = Bounded(length=500, bound=bound, bits=bits)
        return float(np.abs(encoding.rounded(x, spec, share, rng) - x).max())

    assert off(16, 1.0, 1) <= 1 / 32767
    for wider in (off(12, 1.0, 1), off(16, 3.0, 1), off(16, 1.0, 10)):
        assert 2 * off(16, 1.0, 1) < wider < 0.01


def test_of_several_steps_one_attacker_is_shown_what_was_sent_and_the_other_a_mean_step() -> None:
    rows = [row for row in steps.of_steps(0, (1, 9), 0.1) if not isinstance(row, str)]
    (_, means, once), (_, sent, again) = SEEN
    assert (once.plan.steps, again.plan.steps) == (1, 9)
    np.testing.assert_allclose(9 * means.parts[8].updates, sent.parts[0].updates)
    assert [(row["steps"], row["attacker"], row["budget"]) for row in rows] == [
        (1, steps.ONCE, 0.1),
        (9, steps.ONCE, 0.1),
        (9, steps.AGAIN, pytest.approx(0.9)),
    ]


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_clients_take_their_batches_as_the_attacker_does_or_not(batch: int) -> None:
    """With the true images what is matched is what was sent, if the order is the attacker's."""
    plan = steps.plan_of(batch)
    target = steps.by_label(Target.drawn("mnist", 0))
    knowledge = replace(target.knowledge("lenet-4conv", 0, plan), examples=steps.IMAGES)
    x, y = torch.tensor(target.x[:4]).double(), torch.tensor(target.y[:4])
    assert y.tolist() == sorted(y.tolist())
    for lucky in (True, False) if batch < steps.IMAGES else (True,):
        update, _ = target.uploads(knowledge, order=steps.order_of(plan, 0, lucky=lucky))
        assert (float(Matching(knowledge, update, 1).squared(x, y).detach()) < 1e-6) == lucky


def test_later_rounds_are_attacked_from_their_own_models() -> None:
    rows = [row for row in steps.of_rounds(0, (0, 1), 0.1) if not isinstance(row, str)]
    assert [row["round"] for row in rows] == [0, 1]
    assert not np.array_equal(SEEN[0][2].parameters, SEEN[1][2].parameters)


def test_noise_is_where_it_is_said_and_the_aware_attacker_drops_what_it_doubts() -> None:
    target = Target.drawn("mnist", 0)
    knowledge = target.knowledge("lenet-4conv", 0)
    gradients = target.uploads(knowledge)
    cells = {cell.what: cell for cell in perturbed.CELLS}

    def off(what: str) -> np.ndarray[Any, Any]:
        return np.asarray(perturbed.received(cells[what].asked, gradients, 0)) - np.asarray(gradients)

    assert not off("none").any()
    assert off("sd 0.1 on all").std() == pytest.approx(0.1, rel=0.1)
    some = off("sd 0.1 on the largest 10 %")
    assert (some != 0).mean() == pytest.approx(0.1, abs=0.01)
    x = np.array([5.0, 1.0, -9.0, 2.0, 7.0, 7.0])
    assert perturbed.untrusted(x, 0.5, 2).tolist() == [5.0, 1.0, 0.0, 2.0, 7.0, 7.0]


def test_who_learns_knows_what_was_done_and_has_images_of_its_own() -> None:
    for attack, _, knows in seen_by(perturbed) + seen_by(encoding):
        if attack == perturbed.LEARNED:
            assert knows.public is not None
            assert len(knows.public.x) == 200
        else:
            assert (knows.public, knows.perturbation, knows.encoding) == (None, None, None)
    knew = [one for attack, _, one in seen_by(perturbed) if attack == perturbed.LEARNED]
    assert [one.perturbation for one in knew] == [cell.asked for cell in perturbed.FEW]
    knew = [one for attack, _, one in seen_by(encoding) if attack == perturbed.LEARNED]
    assert [one.encoding for one in knew] == [None, Encoding(2)]


def seen_by(benchmark_: Any) -> list[tuple[str, View, Knowledge]]:
    SEEN.clear()
    rows_of(benchmark_)
    return list(SEEN)


def test_nothing_is_hidden_that_another_attacker_finds() -> None:
    found, lost = [row(20.0, True)], [row(8.0, False)]
    assert perturbed.said(lost, found, {"learned": found}) == "not hidden: learned finds it"
    both = {"aware": found, "learned": found}
    assert perturbed.said(lost, found, both) == "not hidden: aware and learned find it"
    assert perturbed.said(lost, found, {"learned": lost}) == "hidden from these attacks"
    assert perturbed.said(lost, found, {}) == "hidden from this attack"
    assert perturbed.said(lost, lost, {"learned": found}) == FAILED
    assert perturbed.said(found, found, {"learned": lost}) == "leaks"


def test_an_accuracy_is_beside_that_of_the_same_seed_with_nothing_perturbed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = faces_accuracy.configuration

    def smaller(seed: int, rounds: int, steps: int) -> Any:
        few = {"clients": 6, "sample": 3, "model": "mlp", "examples_per_client": 20}
        return right(seed, rounds, 2).with_(**few)

    monkeypatch.setattr(faces_accuracy, "configuration", smaller)
    rows = rows_of(faces_accuracy)
    shown(faces_accuracy, rows)
    assert [row["what"] for row in rows] == list(faces_accuracy.PUBLISHED)
    sizes = {row["what"]: row["size"] for row in rows}
    assert sizes["none"][0] == sizes["sd 0.1 on all"][0]  # the same first round, perturbed after it
    assert sizes["none"][1] < sizes["sd 0.1 on all"][1]


def test_of_each_set_noise_and_other_weights_stand_beside_what_is_as_it_is() -> None:
    rows = list(sets.run_case(sets.SETUPS[0], 0, 1.0))
    assert [row["what"] for row in rows if isinstance(row, dict)] == [sets.NONE, *sets.NOISES, sets.OTHER]
    (_, plain, knows), (_, noised, _), (_, other, stranger) = SEEN
    np.testing.assert_array_equal(
        [part.updates for part in plain.parts], [part.updates for part in other.parts]
    )
    assert not np.array_equal(knows.parameters, stranger.parameters)
    off = [part.updates - plain.parts[u % 8].updates for u, part in enumerate(noised.parts)]
    assert len(off) == 16
    assert np.std(off[:8]) == pytest.approx(24, rel=0.1)  # of clip 4, whatever the gradient


def test_their_number_is_held_against_ours_in_both_readings() -> None:
    """Without noise it is to be at most theirs, with it at least."""
    found = row(20.0, True) | {"dataset": "mnist", "model": "mlp", "seed": 0, "mse": [0.2] * 8}
    found |= {"mse_unclipped": [0.3] * 8, "l2": [9.0] * 8, "ssim": [0.5] * 8}
    rows = [found | {"what": what, "published": 4.95} for what in (sets.NONE, *sets.NOISES)]
    (header, *_), lines = [sets.table(rows).header], sets.table(rows).rows
    as_mse, as_l2 = header.index("as MSE"), header.index("as L2")
    assert [(line[as_mse], line[as_l2]) for line in lines] == [
        ("8 of 8", "0 of 8"),
        ("0 of 8", "8 of 8"),
        ("0 of 8", "8 of 8"),
    ]


def test_how_exactly_an_image_is_read_off_and_how_many_of_several(monkeypatch: pytest.MonkeyPatch) -> None:
    def here(attack: str, *given: Any) -> Guess:
        return ATTACKS[attack](*given)

    monkeypatch.setattr(analytic.apart, "run", here)
    monkeypatch.setattr(analytic, "MODELS", ("mlp",))
    rows = rows_of(analytic)
    shown(analytic, rows)
    by = {(row["bound"], row["bits"], row["images"]): row for row in rows}
    assert all(len(row["error"]) == 32 for row in rows)
    assert max(by[analytic.FLOAT, None, 1]["error"]) <= analytic.EXACT < min(by["3", 16, 1]["error"])
    assert (by[analytic.FLOAT, None, 1]["read"], by[analytic.FLOAT, None, 32]["read"] < 16) == (32, True)


def row(psnr: float, found: bool) -> dict[str, Any]:
    return {"psnr": [psnr] * 8, "baselines": {"grey": 6.0, "mean image": 9.0}, "found": found, "labels": 8}


def test_a_cell_is_summed_up_over_seeds_and_judged_beside_its_control() -> None:
    found, lost = row(20.0, True), row(8.0, False)
    both = Summary.of([found, lost])
    assert (both.mean, both.low, both.baseline, both.found, both.seeds) == (14.0, 8.0, 9.0, 1, 2)
    assert word([found, lost], [found, found], "hidden") == "leaks"
    assert word([lost, lost], [found, found], "hidden") == "hidden"
    assert word([lost, lost], [found, lost], "hidden") == FAILED


@pytest.mark.parametrize(
    "case", [lambda: next(encoding.run_case(0, encoding.FEW, {})), lambda: Target.drawn("lfw", 0)]
)
def test_where_data_are_absent_it_is_said(monkeypatch: pytest.MonkeyPatch, case: Any) -> None:
    def load(name: str) -> Dataset:
        raise DataError(f"no {name} here")

    monkeypatch.setattr(inverted, "load", load)
    with pytest.raises(NotImplementedError, match="here"):
        case()
