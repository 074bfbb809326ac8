"""The attack that learns from images of its own, and that it perturbs what it learns from as clients do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fl.config.plan import LocalPlan
from fl.config.privacy import Perturbation
from fl.config.section import ConfigError
from fl.leakage import apart
from fl.leakage.attack import Budget, Encoding, Knowledge, Public
from fl.leakage.inversion import inversion
from fl.leakage.learned import learned
from fl.leakage.metrics import psnr
from fl.leakage.sent import Sent, encoded, perturbed
from fl.leakage.verdicts import learned as found
from fl.leakage.views import Part
from fl.models.architectures import Description, build
from fl.models.weights import to_vector
from fl.privacy import mechanisms
from fl.privacy.step import per_example
from fl.training.local import train
from secagg import Bounded
from secagg.encoding import centred, decode_mean, encode_vector
from tests.fl.leakage.helpers import CLASSES, GRADIENT, IMAGES, LABELS, SHAPE, knowing, sent, summed, view

SEED = bytes(32)
BUDGET = Budget(seconds=1e9, iterations=5)
rng = np.random.default_rng(0)


def of_a_kind(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Images that are mixtures of four, of which the first also has the label."""
    patterns = np.random.default_rng(1).random((4, *SHAPE))
    shares = rng.dirichlet(np.ones(4), number)
    images = np.tensordot(shares, patterns, 1).astype(np.float32)
    return images, (shares[:, 0] > 0.25).astype(np.int64)


def update(knowledge: Knowledge, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    model = build(knowledge.model.model, SHAPE, CLASSES, 0)
    return train(model, torch.tensor(x), torch.tensor(y), knowledge.plan, SEED).upload.astype(np.float64)


def rows(number: int = 40, length: int = 500) -> torch.Tensor:
    return torch.tensor(rng.normal(size=(number, length)).astype(np.float32))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_what_noise_hides_from_an_optimiser_is_learned_all_the_same() -> None:
    own, truth = of_a_kind(600), of_a_kind(8)
    asked = Perturbation("local", clip=1e6, multiplier=0.02 / 1e6)
    knowledge = replace(knowing(), public=Public(*own), perturbation=asked)
    each = [update(knowledge, x[None], y[None]) for x, y in zip(*truth, strict=True)]
    noisy = [mechanisms.perturbed(asked, x, bytes([i]) * 32) for i, x in enumerate(each)]
    seen = view(*(Part(frozenset({u}), x[None], 1) for u, x in enumerate(noisy)))
    means = np.stack([own[0][own[1] == y].mean(axis=0) for y in truth[1]])
    without = psnr(truth[0], means)

    def near(attack: object) -> np.ndarray:
        guess = attack(seen, knowledge, BUDGET, 0)  # type: ignore[operator]
        return psnr(truth[0], np.concatenate([one.images for one in guess]))

    assert not found(near(inversion), without)
    assert found(near(learned), without)
    assert near(learned).mean() > without.mean() + 2


def test_of_several_images_it_learns_the_order_of_their_labels() -> None:
    own = of_a_kind(300)
    knowledge = replace(knowing(examples=2), public=Public(*own))
    x, y = own[0][:4], own[1][:4]
    dark, bright = x[y == 0][0], x[y == 1][0]
    both = [
        Part(frozenset({u}), update(knowledge, image[None], np.array([label]))[None], 1)
        for u, (image, label) in enumerate(((bright, 1), (dark, 0)))
    ]
    (one,) = learned(view(summed(*both)), replace(knowledge, examples=1), BUDGET, 0)
    assert one.labels.tolist() == [0, 1]
    assert one.images is not None
    assert (
        psnr(np.stack([dark, bright]), one.images).mean() > psnr(np.stack([bright, dark]), one.images).mean()
    )


def test_of_candidates_that_is_taken_whose_images_explain_it() -> None:
    own = of_a_kind(300)
    knowledge = replace(knowing(), public=Public(*own))
    true = update(knowledge, own[0][:1], own[1][:1])
    noise = np.random.default_rng(1).permutation(true)
    (two,) = learned(view(Part(frozenset({0}), np.stack([noise, true]), 1)), knowledge, BUDGET, 0)
    (one,) = learned(view(Part(frozenset({0}), true[None], 1)), knowledge, BUDGET, 0)
    np.testing.assert_array_equal(one.images, two.images)


@pytest.mark.parametrize(
    "plan",
    [
        GRADIENT,
        LocalPlan(steps=1, batch_size=8, lr=0.05),
        LocalPlan(steps=3, batch_size=1, lr=0.05, momentum=0.8),
        LocalPlan(algorithm="fedavg-weights", steps=1, batch_size=8),
    ],
    ids=["gradient", "step", "steps", "weights"],
)
def test_it_learns_from_what_training_sends(plan: LocalPlan) -> None:
    images = [0] if plan.steps == 3 else [0, 1]
    knowledge = knowing(plan, examples=len(images))
    made = Sent(knowledge, 1, generator()).of(
        torch.tensor(IMAGES[None, images]), torch.tensor(LABELS[None, images])
    )
    np.testing.assert_allclose(made[0].numpy(), sent(knowledge, *images).updates[0], atol=1e-5)


def test_of_several_clients_it_is_their_mean() -> None:
    knowledge = knowing()
    made = Sent(knowledge, 2, generator()).of(torch.tensor(IMAGES[None, :2]), torch.tensor(LABELS[None, :2]))
    both = summed(sent(knowledge, 0), sent(knowledge, 1, u=1))
    np.testing.assert_allclose(made[0].numpy(), both.updates[0], atol=1e-5)


def test_it_leaves_out_and_clips_as_a_client_does() -> None:
    x = rows()
    asked = Perturbation("local", clip=5.0, multiplier=0.0, compress=0.9)
    right = np.stack([mechanisms.perturbed(asked, each.astype(np.float64), SEED) for each in x.numpy()])
    np.testing.assert_allclose(perturbed(x, asked, generator()).numpy(), right, atol=1e-6)


@pytest.mark.parametrize("kind", ["gaussian", "laplace"])
@pytest.mark.parametrize("largest", [1.0, 0.1])
@pytest.mark.parametrize("sensitivity", ["clip", "l2-max"])
def test_its_noise_is_of_the_size_and_where_a_clients_is(kind: str, largest: float, sensitivity: str) -> None:
    x = rows(400)
    asked = Perturbation("local", kind, 50.0, 0.1, sensitivity, largest=largest)  # type: ignore[arg-type]
    right = np.stack([mechanisms.perturbed(asked, each, rng.bytes(32)) for each in x.numpy()]) - x.numpy()
    own = perturbed(x, asked, generator()).numpy() - x.numpy()
    np.testing.assert_array_equal(own != 0, right != 0)
    assert own.std() == pytest.approx(right.std(), rel=0.05)
    # Of a Gaussian 0.80 of the deviation, of Laplace's 0.71.
    assert np.abs(own).mean() == pytest.approx(np.abs(right).mean(), rel=0.05)


@pytest.mark.parametrize("sensitivity", ["clip", "l2-max"])
def test_it_takes_the_noise_of_a_step_again(sensitivity: str) -> None:
    plan = LocalPlan(steps=1, batch_size=4, lr=0.5)
    for multiplier in (0.0, 0.1):
        asked = Perturbation("example", clip=0.1, multiplier=multiplier, sensitivity=sensitivity)  # type: ignore[arg-type]
        knowledge = replace(knowing(plan, examples=2), perturbation=asked)
        model, x, y = (
            build("lenet-zhu", SHAPE, CLASSES, 0),
            torch.tensor(IMAGES[:2]),
            torch.tensor(LABELS[:2]),
        )
        steps = per_example(asked, plan, seeds=lambda: SEED)
        right = train(model, x, y, plan, SEED, per_example=steps, counting=False).upload
        own = Sent(knowledge, 1, generator()).of(x[None], y[None])[0].numpy()
        if multiplier:
            assert own.std() == pytest.approx(right.std(), rel=0.1)
        else:
            np.testing.assert_allclose(own, right, atol=1e-6)


def test_it_rounds_as_codes_are_rounded_and_read() -> None:
    x, share = rows(3, 4000) / 3, 5
    spec = Bounded(length=4000, bound=0.5, bits=6, clip=15.0)
    words = [
        encode_vector(spec, each, clients=3, rounding_key=SEED, weight=(1, share))[0] for each in x.numpy()
    ]
    right = np.stack(
        [
            decode_mean(spec, centred(spec, each, 3), survivors=1, total_weight=1, max_weight=share)
            for each in words
        ]
    )
    own = encoded(x, Encoding(6, 0.5, share, 15.0), generator()).numpy()
    step = spec.bound / spec.levels * share
    np.testing.assert_allclose(own / step, np.rint(own / step), atol=1e-4)
    assert np.abs(own - right).max() == pytest.approx(step)
    assert np.mean(own - right) == pytest.approx(0, abs=5e-3)
    tight = encoded(x, Encoding(2), generator())
    assert torch.equal(tight.abs().amax(dim=1), x.abs().amax(dim=1))
    signs = encoded(x, Encoding(1), generator())
    torch.testing.assert_close(signs, x.sign() * x.abs().mean(dim=1, keepdim=True))


def test_what_it_knows_goes_along() -> None:
    asked = Perturbation("local", clip=2.0, multiplier=0.5, compress=0.5)
    knowledge = replace(knowing(), perturbation=asked, encoding=Encoding(8, 3.0, 2.5))
    _, told, _, _ = apart.unpacked(apart.packed(view(sent(knowledge, 0)), knowledge, BUDGET, 0))
    assert (told.perturbation, told.encoding) == (asked, Encoding(8, 3.0, 2.5))


def test_what_it_is_not_for_is_said() -> None:
    with pytest.raises(ConfigError, match="the learned attack is for an attacker with images of its own"):
        learned(view(sent(knowing(), 0)), knowing(), BUDGET, 0)
    public = Public(IMAGES, LABELS)
    steps = LocalPlan(steps=2, batch_size=1)
    noisy = replace(knowing(steps), public=public, perturbation=Perturbation("example", clip=1.0))
    with pytest.raises(ConfigError, match="takes the noise of one step again, and not of each of several"):
        learned(view(sent(knowing(steps), 0)), noisy, BUDGET, 0)
    parameters = to_vector(build("bag-of-words", (4,), 20, 0))
    text = Knowledge(Description("bag-of-words", (4,), 20), parameters, GRADIENT, 1, public)
    with pytest.raises(ConfigError, match="inversion makes images, and bag-of-words is for text"):
        learned(view(Part(frozenset({0}), parameters[None], 1)), text, BUDGET, 0)
