"""Models: built from a seed, as their papers have them, and stepped many at a time by torch.func."""

from __future__ import annotations

import re

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import grad, grad_and_value, stack_module_state, vmap
from torch.nn.functional import cross_entropy

from fl.models.architectures import (
    FOR_TEXT,
    GRU,
    MODELS,
    Description,
    ModelError,
    build,
)
from fl.models.batchnorm import BatchNorm2d, mixes_examples, stateful_call
from fl.models.weights import to_vector

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 16, 12)]
# What the papers train on, where it is not one of 28 x 28 in ten classes.
USUAL = {
    "lenet-zhu": ((3, 32, 32), 100),
    "tolpegin-cifar10": ((3, 32, 32), 10),
    "resnet18": ((3, 32, 32), 100),
    "gru": ((20,), 1_000),
    "bag-of-words": ((20,), 1_000),
}
NORMALISED = {"tolpegin-fmnist", "tolpegin-cifar10"}


def example_of(name: str) -> tuple[tuple[int, ...], int]:
    """(shape, classes): the least that every model takes."""
    return ((5,), 7) if name in FOR_TEXT else ((3, 10, 11), 4)


def some(
    shape: tuple[int, ...], classes: int, number: int, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """(x, y) of so many examples."""
    g = torch.Generator().manual_seed(seed)
    x = (
        torch.randint(classes, (number, *shape), generator=g)
        if len(shape) == 1
        else torch.rand(number, *shape, generator=g)
    )
    return x, torch.randint(classes, (number,), generator=g)


def state(model: nn.Module) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """(parameters, buffers) by name."""
    return {n: p.detach() for n, p in model.named_parameters()}, dict(model.named_buffers())


# From shape and seed.


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["cnn", "mlp", "logistic"])
def test_our_own_models_take_images_of_every_shape_even_one(name: str, shape: tuple[int, ...]) -> None:
    assert build(name, shape, 10, seed=0)(torch.zeros(1, *shape)).shape == (1, 10)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_gives_a_logit_for_each_class(name: str) -> None:
    shape, classes = example_of(name)
    model = build(name, shape, classes, seed=0)
    x, _ = some(shape, classes, 3)
    assert model(x).shape == (3, classes)
    assert model.eval()(x[:1]).shape == (1, classes)


@pytest.mark.parametrize("name", MODELS)
def test_the_number_of_parameters_is_as_documented(name: str) -> None:
    line = (MODELS[name].__doc__ or "").splitlines()[0]
    documented = {int(number.replace(",", "")) for number in re.findall(r"\d{1,3}(?:,\d{3})+|\d{3,}", line)}
    shape, classes = USUAL.get(name, ((1, 28, 28), 10))
    assert sum(p.numel() for p in build(name, shape, classes, seed=0).parameters()) in documented


@pytest.mark.parametrize(
    ("name", "published"),
    [("mlp-200", 199_210), ("mcmahan-cnn", 1_663_370)],  # McMahan et al., AISTATS 2017, section 3
)
def test_the_number_of_parameters_is_as_published(name: str, published: int) -> None:
    assert to_vector(build(name, (1, 28, 28), 10, seed=0)).size == published


@pytest.mark.parametrize(
    ("name", "shape", "reach"),
    [
        ("lenet-zhu", (3, 32, 32), 768),
        ("lenet-zhu", (1, 28, 28), 588),
        ("lenet-4conv", (3, 32, 32), 768),
        ("lenet-4conv", (1, 28, 28), 588),
        ("lenet-zhu", (1, 9, 5), 12 * 3 * 2),
        ("tolpegin-fmnist", (1, 28, 28), 1568),
        ("tolpegin-cifar10", (3, 32, 32), 2048),
        ("fed-cdp", (1, 28, 28), 1600),
    ],
)
def test_as_many_numbers_reach_the_first_linear_layer_as_in_the_source(
    name: str, shape: tuple[int, ...], reach: int
) -> None:
    model = build(name, shape, 10, seed=0)
    linear = next(module for module in model.modules() if isinstance(module, nn.Linear))
    assert linear.in_features == reach
    assert model(torch.zeros(2, *shape)).shape == (2, 10)


@pytest.mark.parametrize(
    ("shape", "length"), [((1, 8, 8), 9_930), ((1, 28, 28), 20_490)], ids=["8 x 8", "28 x 28"]
)
def test_the_length_of_the_cnn_is_as_documented(shape: tuple[int, int, int], length: int) -> None:
    assert to_vector(build("cnn", shape, 10, seed=0)).shape == (length,)


@pytest.mark.parametrize("name", ["lenet-zhu", "lenet-4conv"])
def test_the_lenets_begin_with_weights_and_biases_up_to_a_half(name: str) -> None:
    for parameter in build(name, (3, 32, 32), 100, seed=0).parameters():
        assert float(parameter.detach().abs().max()) <= 0.5
        assert float(parameter.detach().abs().max()) > 0.3


def test_fed_cdp_begins_as_keras_does() -> None:
    for parameter in build("fed-cdp", (1, 28, 28), 10, seed=0).parameters():
        field = parameter[0, 0].numel()  # of a convolution's window; 1 for a linear layer
        limit = (6 / (field * (parameter.shape[0] + parameter.shape[1]))) ** 0.5
        assert 0.9 * limit < float(parameter.detach().abs().max()) <= limit


@pytest.mark.parametrize("name", MODELS)
def test_the_seed_alone_decides_and_the_global_generator_is_untouched(name: str) -> None:
    shape, classes = example_of(name)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = to_vector(build(name, shape, classes, seed=5))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert np.array_equal(one, to_vector(build(name, shape, classes, seed=5)))
    assert not np.array_equal(one, to_vector(build(name, shape, classes, seed=6)))


# What is refused.


def test_an_unknown_model_lists_those_there_are() -> None:
    with pytest.raises(ModelError, match="cnn, mlp, logistic"):
        build("resnet", (1, 8, 8), 10, seed=0)


@pytest.mark.parametrize(
    ("name", "side"),
    [("cnn", 2), ("mcmahan-cnn", 4), ("tolpegin-fmnist", 4), ("tolpegin-cifar10", 8), ("fed-cdp", 10)],
)
def test_images_are_refused_just_where_nothing_of_them_would_be_left(name: str, side: int) -> None:
    for shape in [(3, side - 1, side), (3, side, side - 1)]:
        with pytest.raises(ModelError, match=f"{name} is for images of at least {side} x {side}"):
            build(name, shape, 10, seed=0)
    assert build(name, (3, side, side), 10, seed=0)(torch.zeros(2, 3, side, side)).shape == (2, 10)


def test_images_without_colour_are_refused_where_colour_is_standardised() -> None:
    with pytest.raises(ModelError, match="3 channels, not 1: try tolpegin-fmnist"):
        build("tolpegin-cifar10", (1, 32, 32), 10, seed=0)


@pytest.mark.parametrize("name", MODELS)
def test_images_and_text_are_not_taken_for_each_other(name: str) -> None:
    shape, what, instead = (
        ((3, 32, 32), "images", "cnn, mlp") if name in FOR_TEXT else ((20,), "text", "gru, bag-of-words")
    )
    with pytest.raises(ModelError, match=f"{name} is not for {what}: there are {instead}"):
        build(name, shape, 10, seed=0)


@pytest.mark.parametrize("shape", [(), (8, 8), (1, 1, 8, 8)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=re.escape("an image (C, H, W) or a text (T,)")):
        build("cnn", shape, 10, seed=0)


@pytest.mark.parametrize("name", ["cnn", "gru"])
def test_a_description_survives_the_wire(name: str) -> None:
    shape, classes = example_of(name)
    description = Description(name, shape, classes)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(description), type=Description) == description


@pytest.mark.parametrize("shape", [[], [0], [65_537], [8, 8], [1, 1, 8, 8], ["8"], 8])
def test_a_description_of_no_example_is_not_decoded(shape: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"model": "gru", "shape": shape, "classes": 9}, Description)


# Many models in one step.


@pytest.mark.parametrize("name", MODELS)
def test_a_step_of_many_models_at_once_is_a_step_of_each(name: str) -> None:
    """In float64: the rounding of float32 moves some ReLU across its kink, and with it a gradient."""
    shape, classes = example_of(name)
    models = [build(name, shape, classes, seed=seed).double() for seed in range(2)]
    parameters, buffers = stack_module_state(models)
    batches = [some(shape, classes, 4, seed) for seed in range(2)]
    xs, ys = torch.stack([x for x, _ in batches]), torch.stack([y for _, y in batches])
    xs = xs.double() if xs.is_floating_point() else xs

    def loss(p, b, x, y):  # type: ignore[no-untyped-def]
        logits, new = stateful_call(models[0], p, b, x)
        return cross_entropy(logits, y), new

    together, new = vmap(grad(loss, has_aux=True))(parameters, buffers, xs, ys)
    assert new.keys() == buffers.keys()
    for i, model in enumerate(models):
        alone = torch.autograd.grad(cross_entropy(model(xs[i]), ys[i]), list(model.parameters()))
        for parameter, gradient in zip(parameters, alone, strict=True):
            assert (parameters[parameter][i] - together[parameter][i]).isfinite().all()
            torch.testing.assert_close(together[parameter][i], gradient, rtol=1e-12, atol=1e-12)
        assert any(gradient.abs().max() > 1e-3 for gradient in alone)
        for buffer, value in model.named_buffers():  # the plain call has moved them
            torch.testing.assert_close(new[buffer][i], value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", sorted(MODELS.keys() - NORMALISED))
def test_without_batchnorm_padding_changes_no_gradient(name: str) -> None:
    shape, classes = example_of(name)
    model = build(name, shape, classes, seed=0)
    parameters, buffers = state(model)
    x, _ = some(shape, classes, 3)
    logits, new = stateful_call(model, parameters, buffers, x, torch.tensor([1.0, 0.0, 1.0]))
    assert (new, mixes_examples(model)) == ({}, False)
    torch.testing.assert_close(logits[0], stateful_call(model, parameters, buffers, x[:1])[0][0])


def test_the_gru_is_torchs() -> None:
    ours, theirs = GRU(words=7, embedded=4, hidden=6).double(), nn.GRU(4, 6, batch_first=True).double()
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(ours.input.weight)
        theirs.bias_ih_l0.copy_(ours.input.bias)
        theirs.weight_hh_l0.copy_(ours.state.weight)
        theirs.bias_hh_l0.copy_(ours.state.bias)
    x, _ = some((5,), 7, 3)
    _, h = theirs(ours.embedding(x))
    torch.testing.assert_close(ours(x), ours.output(h[0]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", FOR_TEXT)
def test_the_gradient_of_the_embeddings_names_the_words(name: str) -> None:
    model = build(name, (3,), 9, seed=0)
    cross_entropy(model(torch.tensor([[4, 2, 4]])), torch.tensor([0])).backward()
    assert model.embedding.weight.grad.any(dim=1).nonzero().flatten().tolist() == [2, 4]


def test_the_order_of_words_matters_to_the_gru_and_not_to_the_bag() -> None:
    one, other = torch.tensor([[1, 2, 3]]), torch.tensor([[3, 1, 2]])
    gru, bag = (build(name, (3,), 9, seed=0) for name in ("gru", "bag-of-words"))
    assert not torch.allclose(gru(one), gru(other))
    torch.testing.assert_close(bag(one), bag(other))


# BatchNorm.


def test_only_batchnorm_mixes_examples() -> None:
    mixing = {name for name in MODELS if mixes_examples(build(name, *example_of(name), seed=0))}
    assert mixing == NORMALISED


def test_batchnorm_is_torchs() -> None:
    ours, theirs = BatchNorm2d(3).double(), nn.BatchNorm2d(3).double()
    for norm in (ours, theirs):
        nn.init.uniform_(norm.weight, generator=torch.Generator().manual_seed(0))
        nn.init.uniform_(norm.bias, generator=torch.Generator().manual_seed(1))
    for seed in range(3):
        x = 5 * some((3, 4, 5), 2, 6, seed)[0].double() + 2
        mine, its = x.clone().requires_grad_(), x.clone().requires_grad_()
        ours(mine).square().sum().backward()
        theirs(its).square().sum().backward()
        torch.testing.assert_close(mine.grad, its.grad, rtol=1e-10, atol=1e-10)
        for name in ("running_mean", "running_var"):
            torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=1e-12, atol=1e-12)
    assert not ours.running_var.requires_grad
    x = some((3, 4, 5), 2, 1)[0].double()
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-12, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    masks=st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=3, max_size=3),
    seed=st.integers(0, 99),
)
@example(masks=[[False] * 6, [True] * 6, [True] + [False] * 5], seed=0)
def test_padded_models_at_once_are_each_on_its_own_examples(masks: list[list[bool]], seed: int) -> None:
    shape, classes = (1, 4, 5), 3
    models = [build("tolpegin-fmnist", shape, classes, seed=i).double() for i in range(3)]
    parameters, buffers = stack_module_state(models)
    xs = torch.rand(3, 6, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    ys = torch.arange(18).reshape(3, 6) % classes
    counted = torch.tensor(masks).double()

    def loss(p, b, x, y, c):  # type: ignore[no-untyped-def]
        logits, new = stateful_call(models[0], p, b, x, c)
        return (c * cross_entropy(logits, y, reduction="none")).sum(), new

    together, (_, new) = vmap(grad_and_value(loss, has_aux=True))(parameters, buffers, xs, ys, counted)
    for i, model in enumerate(models):
        own = torch.tensor(masks[i])
        if own.any():
            alone = torch.autograd.grad(
                cross_entropy(model(xs[i][own]), ys[i][own], reduction="sum"), list(model.parameters())
            )
        else:  # nothing to learn from, and nothing is learnt
            alone = [torch.zeros_like(parameter) for parameter in model.parameters()]
        for parameter, gradient in zip(parameters, alone, strict=True):
            torch.testing.assert_close(together[parameter][i], gradient, rtol=1e-12, atol=1e-12)
        for buffer, value in model.named_buffers():
            torch.testing.assert_close(new[buffer][i], value, rtol=1e-12, atol=1e-12)


def test_the_statistics_are_of_the_counted_examples_alone() -> None:
    norm = BatchNorm2d(1)
    parameters, buffers = state(norm)
    x = torch.tensor([1.0, 3.0, 100.0]).reshape(3, 1, 1, 1)
    _, new = stateful_call(norm, parameters, buffers, x, torch.tensor([1.0, 1.0, 0.0]))
    assert float(new["running_mean"]) == pytest.approx(0.1 * 2)
    assert float(new["running_var"]) == pytest.approx(0.9 + 0.1 * 2)  # unbiased
    _, every = stateful_call(norm, parameters, buffers, x)
    assert float(every["running_mean"]) == pytest.approx(0.1 * 104 / 3)


def test_a_channel_of_one_number_stays_finite() -> None:
    norm = BatchNorm2d(1)
    assert norm(torch.full((1, 1, 1, 1), 7.0)).tolist() == [[[[0.0]]]]
    assert (float(norm.running_mean), float(norm.running_var)) == pytest.approx((0.7, 0.9))


def test_under_autocast_the_statistics_keep_their_precision() -> None:
    norm, x = BatchNorm2d(2), 100 + some((2, 20, 20), 2, 9)[0].bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        norm(x)
    torch.testing.assert_close(norm.running_mean, 0.1 * x.float().mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * x.float().var((0, 2, 3)))


def test_a_stateful_call_leaves_the_model_and_what_it_was_given() -> None:
    model = build("tolpegin-fmnist", (1, 4, 4), 3, seed=0)
    parameters, buffers = state(model)
    kept = {name: buffer.clone() for name, buffer in buffers.items()}
    before = to_vector(model)
    _, new = stateful_call(model, parameters, buffers, torch.rand(4, 1, 4, 4), torch.ones(4))
    assert np.array_equal(to_vector(model), before)
    assert all(torch.equal(buffers[name], kept[name]) for name in kept)
    assert not any(torch.equal(new[name], kept[name]) for name in kept)
    assert all(module.counted is None for module in model.modules() if isinstance(module, BatchNorm2d))


def test_a_call_that_fails_leaves_no_mask_behind() -> None:
    model = build("tolpegin-fmnist", (1, 4, 4), 3, seed=0)
    with pytest.raises(RuntimeError):
        stateful_call(model, *state(model), torch.rand(4, 2, 4, 4), torch.ones(4))
    assert all(module.counted is None for module in model.modules() if isinstance(module, BatchNorm2d))


def test_in_eval_mode_no_statistics_move() -> None:
    model = build("tolpegin-fmnist", (1, 4, 4), 3, seed=0).eval()
    parameters, buffers = state(model)
    _, new = stateful_call(model, parameters, buffers, torch.rand(4, 1, 4, 4))
    assert all(torch.equal(new[name], buffers[name]) for name in buffers)


def test_a_variance_below_zero_counts_as_zero() -> None:
    norm = BatchNorm2d(1).eval()
    x = torch.rand(2, 1, 2, 2)
    norm.running_var = torch.tensor([-0.5])
    below = norm(x)
    norm.running_var = torch.tensor([0.0])
    assert torch.equal(below, norm(x))
    assert below.isfinite().all()
