"""What attacks find in what a client of a small net sends, and that they have nothing else to find it in."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from fl.config.plan import LocalPlan
from fl.config.privacy import Perturbation
from fl.config.section import ConfigError
from fl.leakage import apart
from fl.leakage.analytic import analytic
from fl.leakage.attack import Attack, Budget, Knowledge, Public
from fl.leakage.attacks import ATTACKS
from fl.leakage.gradients import Matching
from fl.leakage.imprint import crafted
from fl.leakage.inversion import SOLVED, Memory, cosine, inversion, sparse
from fl.leakage.labels import labels, of_gradient
from fl.leakage.metrics import matched, psnr
from fl.leakage.peeling import FirstLayer, Sum, peeling
from fl.leakage.starts import CLASS_IMAGE, CLASS_MEAN, OWN, STARTS, begun
from fl.leakage.views import Part, View, of_model
from fl.models.architectures import Description, build
from fl.models.weights import to_vector
from fl.training.local import train
from tests.fl.leakage.helpers import (
    CLASSES,
    GRADIENT,
    IMAGES,
    LABELS,
    SHAPE,
    gradient,
    knowing,
    rng,
    sent,
    summed,
    view,
)

QUICK = Budget(seconds=1e9, iterations=20, starts=1)
ONE_STEP = LocalPlan(steps=1, batch_size=8, lr=0.05)
THREE_STEPS = LocalPlan(steps=3, batch_size=1, lr=0.05, momentum=0.8)


@pytest.mark.parametrize("plan", [GRADIENT, ONE_STEP, THREE_STEPS], ids=["gradient", "step", "steps"])
def test_an_image_is_found_in_what_one_client_sends(plan: LocalPlan) -> None:
    knowledge = knowing(plan)
    (found,) = inversion(view(sent(knowledge, 0)), knowledge, QUICK, 0)
    assert found.labels.tolist() == [LABELS[0]]
    assert psnr(IMAGES[:1], found.images)[0] > 30


def test_the_engine_does_not_stop_at_what_can_be_seen() -> None:
    """torch's own L-BFGS forgets steps of a curvature below 1e-10, and is stuck here at 6e-9."""
    description = Description("lenet-4conv", (1, 28, 28), CLASSES)
    model, x = build(*msgspec.structs.astuple(description), seed=0), rng.random((1, 1, 28, 28), np.float32)
    update = gradient(model, x, LABELS[:1])
    knowledge = Knowledge(description, to_vector(model), GRADIENT, 1)
    budget = Budget(seconds=1e9, iterations=60, starts=1)
    (found,) = inversion(view(Part(frozenset({0}), update[None], 1)), knowledge, budget, 0)
    assert found.loss < SOLVED


def test_its_steps_are_those_of_torchs_l_bfgs() -> None:
    curvature = torch.linspace(1, 50, 30, dtype=torch.float64)
    theirs = torch.ones(30, dtype=torch.float64, requires_grad=True)
    lbfgs = torch.optim.LBFGS([theirs], max_iter=15, history_size=5, tolerance_grad=0, tolerance_change=0)

    def closure() -> torch.Tensor:
        lbfgs.zero_grad()
        loss = (curvature * theirs**2).sum() + (theirs**4).sum()
        loss.backward()
        return loss

    lbfgs.step(closure)
    memory, x, c = Memory(history=5), np.ones(30), curvature.numpy()
    for _ in range(15):
        x = x + memory.step(2 * c * x + 4 * x**3)
    assert 0 < np.abs(x).max() < 0.5
    np.testing.assert_allclose(x, theirs.detach(), rtol=1e-6)


def test_every_part_of_a_view_is_attacked_for_itself() -> None:
    knowledge = knowing()
    found = inversion(view(*(sent(knowledge, i, u=i) for i in (0, 1))), knowledge, QUICK, 0)
    images = np.concatenate([one.images for one in found if one.images is not None])
    assert (psnr(IMAGES[:2], images) > 30).all()


def test_images_of_several_clients_are_found_in_their_sum() -> None:
    knowledge = knowing()
    (found,) = inversion(view(summed(*(sent(knowledge, i, u=i) for i in (0, 1)))), knowledge, QUICK, 0)
    assert found.images is not None
    assert sorted(found.labels.tolist()) == [3, 7]
    assert (psnr(IMAGES[:2], found.images[matched(IMAGES[:2], found.images)]) > 20).all()


def test_of_candidates_the_one_is_taken_that_images_explain_best() -> None:
    knowledge = knowing()
    true = sent(knowledge, 0)
    noise = np.random.default_rng(1).permutation(true.updates[0])
    (found,) = inversion(view(Part(true.members, np.stack([noise, true.updates[0]]), 1)), knowledge, QUICK, 0)
    assert psnr(IMAGES[:1], found.images)[0] > 30


def test_without_the_model_nothing_is_found() -> None:
    """As CPL says of who does not have it: the control of all that is found with it."""
    knowledge = knowing()
    (found,) = inversion(view(sent(knowledge, 0)), knowing(seed=1), QUICK, 0)
    assert psnr(IMAGES[:1], found.images)[0] < 15


def test_what_was_left_out_of_an_update_is_not_asked_to_be_met() -> None:
    """Who takes the zeros for numbers finds nothing, or less."""
    knowledge = knowing()
    true = sent(knowledge, 0).updates[0]
    rest = np.where(np.abs(true) > np.quantile(np.abs(true), 0.5), true, 0.0)
    compressed = view(Part(frozenset({0}), rest[None], 1))
    (plain,), (aware,) = (attack(compressed, knowledge, QUICK, 0) for attack in (inversion, sparse))
    assert psnr(IMAGES[:1], plain.images)[0] + 10 < psnr(IMAGES[:1], aware.images)[0]
    matching = Matching(knowledge, rest, 1, sparse=True)
    assert matching.cosine(torch.tensor(IMAGES[:1]).double(), torch.tensor(LABELS[:1])).item() < 1e-6


def test_what_rounding_explains_is_not_fitted_further(monkeypatch: pytest.MonkeyPatch) -> None:
    """More iterations would make the loss smaller, and the images worse; and so would other starts."""
    knowledge = knowing()
    part = summed(*(sent(knowledge, i, u=i) for i in range(4)))
    deviation = 1e-3 * float(np.abs(part.updates).mean())
    rounding = np.random.default_rng(0).normal(0, deviation, part.updates.shape)
    unaware = replace(part, updates=part.updates + rounding)
    aware = replace(unaware, deviation=deviation)
    budget = replace(QUICK, iterations=60)
    (fitted,), (stopped,) = (inversion(view(each), knowledge, budget, 0) for each in (unaware, aware))
    assert fitted.images is not None
    assert stopped.images is not None
    assert fitted.loss < stopped.loss < Matching(knowledge, aware.updates[0], 4).explained(deviation)
    near, nearer = (
        psnr(IMAGES, images[matched(IMAGES, images)]).mean() for images in (fitted.images, stopped.images)
    )
    assert near < nearer
    monkeypatch.setattr(
        "fl.leakage.inversion.begun", lambda name, *rest: began.append(name) or begun(name, *rest)
    )
    began = list[str]()
    inversion(view(aware), knowledge, replace(budget, starts=3), 0)
    assert began == ["grey"]


@pytest.mark.parametrize("plan", [GRADIENT, ONE_STEP, THREE_STEPS], ids=["gradient", "step", "steps"])
def test_rounding_explains_what_the_true_images_leave(plan: LocalPlan) -> None:
    knowledge, deviation = knowing(plan), 1e-3
    update = sent(knowledge, 0).updates[0]
    update = update + np.random.default_rng(0).normal(0, deviation, update.shape)
    matching = Matching(knowledge, update, 1)
    x, y = torch.tensor(IMAGES[:1]).double().requires_grad_(), torch.tensor(LABELS[:1])
    assert float(matching.squared(x, y).detach()) == pytest.approx(matching.explained(deviation), rel=0.1)


def test_the_direction_of_a_gradient_is_enough() -> None:
    knowledge = knowing()
    smooth = np.linspace(0, 1, 64, dtype=np.float32).reshape(1, *SHAPE)
    update = gradient(build("lenet-zhu", SHAPE, CLASSES, 0), smooth, LABELS[:1])
    (found,) = cosine(view(Part(frozenset({0}), 7 * update[None], 1)), knowledge, QUICK, 0)
    assert psnr(smooth, found.images)[0] > 20
    assert found.images is not None
    assert (found.images.min() >= 0, found.images.max() <= 1) == (True, True)


@pytest.mark.parametrize(("model", "images"), [("lenet-zhu", 4), ("mlp", 4), ("fed-cdp", 1)])
def test_labels_are_read_off_the_last_layer(model: str, images: int) -> None:
    """Of fed-cdp, which has no bias, for one image to be sure of it."""
    shape = (1, 12, 12)
    x = np.random.default_rng(2).random((images, *shape)).astype(np.float32)
    update = gradient(build(model, shape, CLASSES, 0), x, LABELS[:images])
    description, parameters = Description(model, shape, CLASSES), to_vector(build(model, shape, CLASSES, 0))
    knowledge = Knowledge(description, parameters, GRADIENT, images)
    (found,) = labels(view(Part(frozenset({0}), update[None], images)), knowledge, QUICK, 0)
    assert found.labels.tolist() == sorted(LABELS[:images].tolist())


def test_of_candidates_the_labels_are_those_of_one_that_labels_explain() -> None:
    knowledge = knowing(examples=4)
    true = sent(knowledge, 0, 1, 2, 3)
    noise = rng.normal(0, true.updates.std(), size=true.updates.shape)
    for candidates in ((true.updates, noise), (noise, true.updates)):
        (found,) = labels(view(replace(true, updates=np.concatenate(candidates))), knowledge, QUICK, 0)
        assert found.labels.tolist() == sorted(LABELS)


def test_over_several_steps_labels_are_read_by_the_models_before_and_after() -> None:
    """By the first alone one of the two 7 is taken for a 0."""
    knowledge = knowing(LocalPlan(steps=8, batch_size=2, lr=0.1, momentum=0.0), examples=4)
    (found,) = labels(view(sent(knowledge, 0, 1, 2, 3)), knowledge, QUICK, 0)
    assert found.labels.tolist() == sorted(LABELS.tolist())


def test_passes_over_what_a_client_holds_are_so_many_steps() -> None:
    """Those of each part, by what its members hold."""
    passes = knowing(LocalPlan(epochs=3, batch_size=2, lr=0.01), examples=4)
    part = sent(passes, 0, 1, 2, 3)
    assert (passes.at(part).plan.steps, passes.at(sent(passes, 0)).plan.steps) == (6, 3)
    (found,) = labels(view(part), passes, QUICK, 0)
    assert found.labels.tolist() == sorted(LABELS.tolist())


def test_labels_are_counted_by_images_of_the_kind_where_there_are_some() -> None:
    """Of dark images the model thinks other than of grey."""
    knowledge, dark, y = knowing(examples=200, seed=1), IMAGES / 10, np.arange(200) % 7
    update = gradient(build("lenet-zhu", SHAPE, CLASSES, 1), np.repeat(dark, 50, axis=0), y)
    (by_grey,), (by_own,) = (
        labels(view(Part(frozenset({0}), update[None], 200)), known, QUICK, 0)
        for known in (knowledge, replace(knowledge, public=Public(dark, LABELS)))
    )
    assert by_own.labels.tolist() == sorted(y.tolist())
    assert by_grey.labels.tolist() != sorted(y.tolist())


def test_a_model_without_a_last_linear_layer_gives_no_labels() -> None:
    matching = Matching(knowing(), sent(knowing(), 0).updates[0], 1)
    matching.model = nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten())
    with pytest.raises(
        ConfigError, match="labels are read off a last linear layer, and Flatten is the last here"
    ):
        of_gradient(matching, knowing(), 1)


def test_text_is_not_inverted() -> None:
    model = build("bag-of-words", (4,), 20, 0)
    knowledge = Knowledge(Description("bag-of-words", (4,), 20), to_vector(model), GRADIENT, 1)
    with pytest.raises(ConfigError, match="inversion makes images, and bag-of-words is for text"):
        inversion(view(Part(frozenset({0}), to_vector(model)[None], 1)), knowledge, QUICK, 0)


@pytest.mark.parametrize("model", ["logistic", "mlp", "mlp-200"])
def test_what_enters_a_linear_layer_is_read_off_exactly(model: str) -> None:
    knowledge = knowing(model=model)
    (found,) = analytic(view(sent(knowledge, 0)), knowledge, QUICK, 0)
    assert found.images is not None
    assert np.linalg.norm(found.images[0] - IMAGES[0]) <= 1e-5 * np.linalg.norm(IMAGES[0])


def test_of_several_images_those_are_read_that_moved_a_neuron_alone() -> None:
    knowledge = knowing(model="mlp-200", examples=2)
    dark = np.zeros_like(IMAGES[:2])
    dark[0, :, :4], dark[1, :, 4:] = IMAGES[0, :, :4], IMAGES[1, :, 4:]
    update = gradient(build("mlp-200", SHAPE, CLASSES, 0), dark, LABELS[:2])
    (found,) = analytic(view(Part(frozenset({0}), update[None], 2)), knowledge, QUICK, 0)
    assert found.images is not None
    assert (psnr(dark, found.images[matched(dark, found.images)]) > 60).all()


def test_what_enters_a_convolution_is_not_read_so() -> None:
    with pytest.raises(
        ConfigError, match="reads what enters a first linear layer with a bias: this model beg"
    ):
        analytic(view(sent(knowing(), 0)), knowing(), QUICK, 0)


def test_a_sum_is_peeled_to_its_last_image_by_a_check_that_sees_no_truth() -> None:
    """Six clients of two images: few neurons are fired by one alone, and all twelve come out."""
    x = np.random.default_rng(3).random((12, 1, 16, 16)).astype(np.float32)
    x *= x > 0.6  # as of images with much black: other images fire other neurons
    y = np.arange(12) % CLASSES
    description = Description("mlp-1000", (1, 16, 16), CLASSES)
    net = build(description.model, description.shape, CLASSES, 0)
    knowledge = Knowledge(description, to_vector(net), GRADIENT, 2)
    update = gradient(net, x, y)
    (found,) = peeling(view(Part(frozenset(range(6)), update[None], 12)), knowledge, QUICK, 0)
    assert found.images is not None
    assert found.claimed is not None
    assert found.claimed.all()
    order = matched(x, found.images)
    assert (psnr(x, found.images[order]) > 60).all()
    assert found.labels[order].tolist() == y.tolist()

    # With noise it finds what it can, says how many that is, and takes no mixture for an image.
    noisy = update + rng.normal(0, 1e-5, len(update))
    told = Part(frozenset(range(6)), noisy[None], 12, deviation=1e-5)
    (found,) = peeling(view(told), knowledge, QUICK, 0)
    assert found.images is not None
    assert found.claimed is not None
    assert found.claimed.sum() > 0
    near = psnr(x, found.images[matched(x, found.images)])
    assert (near > 25).sum() >= 0.9 * found.claimed.sum()
    assert (found.images[~found.claimed] == 0.5).all()


def test_a_sum_of_clipped_updates_is_peeled_with_the_factor_of_each_client() -> None:
    x = np.random.default_rng(3).random((6, 1, 16, 16)).astype(np.float32)
    x *= x > 0.6
    y = np.arange(6) % CLASSES
    net = build("mlp-1000", (1, 16, 16), CLASSES, 0)
    knowledge = Knowledge(Description("mlp-1000", (1, 16, 16), CLASSES), to_vector(net), GRADIENT, 2)
    mine = [slice(2 * u, 2 * u + 2) for u in range(3)]
    scaled = [f * gradient(net, x[own], y[own]) for f, own in zip((0.9, 0.4, 1), mine, strict=True)]
    seen = view(Part(frozenset(range(3)), np.mean(scaled, axis=0)[None], 6))

    (found,) = peeling(seen, replace(knowledge, perturbation=Perturbation(clip=1.0)), QUICK, 0)
    assert found.images is not None
    assert found.claimed is not None
    assert found.claimed.all()
    order = matched(x, found.images)
    assert (psnr(x, found.images[order]) > 60).all()
    assert found.labels[order].tolist() == y.tolist()

    # Who takes all to weigh alike takes the first off wrongly, and does not come to the end.
    (blind,) = peeling(seen, knowledge, QUICK, 0)
    assert blind.claimed is not None
    assert not blind.claimed.all()


def test_of_several_steps_images_are_read_that_neurons_agree_on() -> None:
    plan = LocalPlan(steps=3, batch_size=1, lr=0.01)
    knowledge = replace(knowing(plan, model="mlp-1000", examples=3), public=None)
    model = build("mlp-1000", SHAPE, CLASSES, 0)
    dark = np.where(IMAGES[:3] > 0.7, IMAGES[:3], 0)
    x, y = torch.tensor(dark), torch.tensor(LABELS[:3])
    upload = train(model, x, y, plan, bytes(32)).upload.astype(np.float64)
    (found,) = peeling(view(Part(frozenset({0}), upload[None], 3)), knowledge, QUICK, 0)
    assert found.images is not None
    assert found.claimed is not None
    assert found.claimed.sum() == 3
    assert (psnr(dark, found.images[matched(dark, found.images)]) > 40).all()


@pytest.mark.parametrize(
    "plan",
    [
        GRADIENT,
        ONE_STEP,
        THREE_STEPS,
        LocalPlan(algorithm="fedavg-weights", steps=3, batch_size=1, lr=0.05, momentum=0.8),
    ],
    ids=["gradient", "step", "steps", "weights"],
)
def test_a_sum_knows_how_far_rounding_has_moved_it(plan: LocalPlan) -> None:
    knowledge = knowing(plan, model="mlp", examples=3)
    update, rounding = sent(knowledge, 0, 1, 2).updates[0], 0.01
    before, after = (
        Sum.of(FirstLayer.of(matching.model), matching, 3, rounding)
        for matching in (
            Matching(knowledge, update, 1),
            Matching(knowledge, update + rng.normal(0, rounding, len(update)), 1),
        )
    )
    assert after.deviation == pytest.approx((after.weight - before.weight).std(), rel=0.1)


def test_neurons_that_several_images_fire_are_not_taken_for_one() -> None:
    """Of a narrow net with every neuron fired by all of them there is nothing to begin with."""
    net = build("mlp", SHAPE, CLASSES, 0)
    net[2].bias.data += 10  # type: ignore[index]
    update = gradient(net, IMAGES, LABELS)
    knowledge = replace(knowing(model="mlp", examples=4), parameters=to_vector(net.float()))
    (found,) = peeling(view(Part(frozenset({0}), update[None], 4)), knowledge, QUICK, 0)
    assert found.claimed is not None
    assert not found.claimed.any()


def test_what_peeling_is_not_for_is_said() -> None:
    with pytest.raises(ConfigError, match="peeling reads what enters a first linear layer with a bias, and"):
        peeling(view(sent(knowing(), 0)), knowing(), QUICK, 0)


def test_what_is_matched_is_what_training_sends() -> None:
    """With the true images there is no difference left: the attack takes the very steps that clients take."""
    for plan, images in ((GRADIENT, [0, 1]), (ONE_STEP, [0, 1]), (THREE_STEPS, [0])):
        knowledge = knowing(plan, examples=len(images))
        matching = Matching(knowledge, sent(knowledge, *images).updates[0], 1)
        x, y = torch.tensor(IMAGES[images]).double().requires_grad_(), torch.tensor(LABELS[images])
        assert float(matching.squared(x, y).detach()) < 1e-8
        assert float(matching.cosine(x, y).detach()) < 1e-8


def test_weights_that_are_sent_are_taken_as_what_they_moved_by() -> None:
    plan = LocalPlan(algorithm="fedavg-weights", steps=1, batch_size=8)
    knowledge = knowing(plan)
    x, y = torch.tensor(IMAGES[:1]).double(), torch.tensor(LABELS[:1])
    matching = Matching(knowledge, sent(knowledge, 0).updates[0], 1)
    assert float(matching.squared(x, y).detach()) < 1e-6  # weights in float32 know less of a small step


@pytest.mark.parametrize("start", STARTS)
def test_starts_are_images_of_their_number_and_shape_and_of_their_seed(start: str) -> None:
    for n, shape in ((1, (1, 28, 28)), (3, (3, 5, 7))):
        x, again = (STARTS[start](n, shape, torch.Generator().manual_seed(4)) for _ in range(2))
        assert (tuple(x.shape), x.dtype) == ((n, *shape), torch.float64)
        assert torch.equal(x, again)
        assert n == 1 or not torch.equal(x[0], x[1])  # two that are equal would be equal for ever


def test_an_image_of_the_class_is_one_that_is_public() -> None:
    public = Public(IMAGES, LABELS)
    knowledge = replace(knowing(), public=public)
    rng = torch.Generator().manual_seed(0)
    x = begun(CLASS_IMAGE, torch.tensor([1, 3, 7, 5]), knowledge, rng).numpy()
    assert np.array_equal(x[:2], IMAGES[[3, 0]])
    assert any(np.array_equal(x[2], IMAGES[i]) for i in (1, 2))
    assert any(np.array_equal(x[3], image) for image in IMAGES)  # there is none of class 5


def test_the_mean_of_a_class_is_that_of_the_public_ones() -> None:
    knowledge = replace(knowing(), public=Public(IMAGES, LABELS))
    one, two = (
        begun(CLASS_MEAN, torch.tensor(y), knowledge, torch.Generator().manual_seed(0)).numpy()
        for y in ([7], [7, 7, 5])
    )
    np.testing.assert_allclose(one[0], IMAGES[1:3].mean(axis=0), rtol=1e-6)
    assert not np.array_equal(two[0], two[1])  # two that are equal would be equal for ever
    np.testing.assert_allclose(two[2], IMAGES.mean(axis=0), atol=0.3)  # there is none of class 5


@pytest.mark.parametrize("start", OWN)
def test_who_has_no_images_does_not_begin_from_them(start: str) -> None:
    with pytest.raises(ConfigError, match=f"--start {start} is for an attacker with images of its own"):
        inversion(view(sent(knowing(), 0)), knowing(), Budget(start=start), 0)


@pytest.mark.slow
def test_what_is_public_goes_along_and_a_start_from_it_is_made_apart() -> None:
    knowledge = replace(knowing(), public=Public(IMAGES[1:3], LABELS[1:3]))
    budget = replace(QUICK, start=CLASS_IMAGE, iterations=1, looks=1)
    (found,) = apart.run("inversion", view(sent(knowledge, 0)), knowledge, budget, 0)
    assert found.path is not None
    assert found.path.shape == (1, 1, *SHAPE)
    np.testing.assert_array_equal(found.path[0], found.images)


@pytest.mark.parametrize("attack", [inversion, cosine])
def test_the_way_of_the_first_start_is_kept_as_far_as_it_is_looked_at(attack: Attack) -> None:
    knowledge = knowing()
    (found,) = attack(view(sent(knowledge, 0)), knowledge, replace(QUICK, iterations=8, looks=2), 0)
    assert found.path is not None
    assert found.path.shape == (2, 1, *SHAPE)
    near = psnr(np.repeat(IMAGES[:1], 2, axis=0), found.path[:, 0])
    assert near[-1] > near[0]


@pytest.mark.parametrize("attack", [inversion, cosine])
def test_the_loss_at_half_of_the_time_is_told(attack: Attack) -> None:
    knowledge = knowing()
    (early,) = attack(view(sent(knowledge, 0)), knowledge, replace(QUICK, iterations=2), 0)
    assert early.halfway == early.loss  # half of the time was not over
    late = attack(view(sent(knowledge, 0)), knowledge, replace(QUICK, seconds=0, iterations=2), 0)
    assert late[0].halfway == np.inf


def test_where_one_start_is_stuck_others_follow_while_there_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    began = list[str]()

    def counted(name: str, *rest: Any) -> torch.Tensor:
        began.append(name)
        return begun(name, *rest)

    monkeypatch.setattr("fl.leakage.inversion.begun", counted)
    knowledge = knowing()
    unsolvable = view(Part(frozenset({0}), rng.normal(size=(1, len(knowledge.parameters))), 1))
    inversion(unsolvable, knowledge, replace(QUICK, iterations=1, starts=3), 0)
    assert began == ["grey", "uniform", "uniform"]
    inversion(unsolvable, knowledge, replace(QUICK, iterations=1, starts=3, seconds=0), 0)
    assert began[3:] == ["grey"]


def test_what_an_attack_is_not_for_is_said() -> None:
    with pytest.raises(ConfigError, match=r"--start gray: there are grey, .*did you mean 'grey'"):
        inversion(view(sent(knowing(), 0)), knowing(), Budget(start="gray"), 0)


def meant_for(attack: str) -> tuple[Knowledge, Part, list[int]]:
    """What is known, what is seen, and the labels that are in it, where such an attack finds something."""
    if attack == "words":
        net = build("bag-of-words", (8,), 20, 0)
        knowledge = Knowledge(Description("bag-of-words", (8,), 20), to_vector(net), GRADIENT, 1)
        update = gradient(net, np.arange(8)[None], np.array([9]))
        return knowledge, Part(frozenset({0}), update[None], 1), [9]
    knowledge = knowing(model="mlp" if attack in ("analytic", "peeling", "imprint") else "lenet-zhu")
    knowledge = replace(knowledge, public=Public(IMAGES, LABELS))
    if attack == "face":
        return knowledge, of_model(knowledge.parameters, frozenset({0})).parts[0], list(range(CLASSES))
    if attack == "imprint":
        knowledge = replace(knowledge, parameters=crafted(knowledge.model, IMAGES))
    return knowledge, sent(knowledge, 0), [LABELS[0]]


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_runs_where_it_can_read_no_data(attack: str) -> None:
    knowledge, part, true = meant_for(attack)
    (found,) = apart.run(attack, view(part), knowledge, QUICK, 0)
    assert found.labels.tolist() == true


def test_apart_it_finds_what_it_finds_here() -> None:
    """With labels that are told, and so not inferred, and the way that it went."""
    knowledge, budget = knowing(), Budget(seconds=1e9, iterations=2, starts=1, start="uniform", looks=1)
    told = replace(sent(knowledge, 0), labels=np.array([5]))
    assert LABELS[0] != 5
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    (here,) = inversion(view(told), knowledge, budget, 5)
    torch.set_num_threads(threads)
    (there,) = apart.run("inversion", view(told), knowledge, budget, 5)
    np.testing.assert_allclose(there.images, here.images, rtol=1e-9)  # of a wrong label they grow
    np.testing.assert_allclose(there.path, here.path, rtol=1e-9)
    assert here.labels.tolist() == there.labels.tolist() == [5]
    assert (there.loss, there.halfway) == pytest.approx((here.loss, here.halfway), rel=1e-9)


def test_behind_the_closed_door_no_data_are_read_and_nothing_is_started(tmp_path: Path) -> None:
    tries = """
import sys
from pathlib import Path
from fl.leakage.apart import close
import fl.data, subprocess, socket
close(Path.cwd())
Path("own").write_text("of this folder", encoding="utf-8")
for forbidden in (
    lambda: fl.data.load("digits"),
    lambda: open("/etc/hostname"),
    lambda: open("../outside", "w"),
    lambda: subprocess.run(["true"]),
):
    try:
        forbidden()
    except PermissionError as error:
        print(error)
"""
    ran = subprocess.run(
        [sys.executable, "-c", tries], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    read = "an attack reads nothing but what it is given, and not "
    lines = ran.stdout.splitlines()
    assert [line.startswith(read) for line in lines] == [True, True, True, False]
    assert lines[0].endswith("digits.csv.gz")
    assert not (tmp_path.parent / "outside").exists()


def test_a_view_with_nothing_in_it_is_not_attacked() -> None:
    assert apart.run("inversion", View((), "nothing"), knowing(), QUICK, 0) == ()


def test_the_reason_why_an_attack_is_not_for_this_comes_back_from_its_process() -> None:
    with pytest.raises(ConfigError, match="--start gray"):
        apart.run("inversion", view(sent(knowing(), 0)), knowing(), Budget(start="gray"), 0)


def test_nothing_but_what_scores_has_anything_to_score_with() -> None:
    scoring = {"metrics", "baselines", "verdicts"}
    modules = {path.stem: path for path in Path(apart.__file__).parent.glob("*.py")}
    assert scoring < modules.keys()
    for name in modules.keys() - scoring:
        tree = ast.parse(modules[name].read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                inside = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
                imported = {word for each in node.names for word in f"{inside}{each.name}".split(".")}
                assert not scoring & imported, name
