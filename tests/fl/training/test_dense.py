"""The step that is written out is the one that autograd would take, of one network and of a stack."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from fl.config.plan import LocalPlan
from fl.models.architectures import FOR_TEXT, MODELS, Centred, build
from fl.training.dense import flattened, is_written_out, sgd_step

Widths = st.lists(st.integers(1, 5), min_size=2, max_size=5)


def network(widths: list[int], seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Flatten()]
    for wide, wider in pairwise(widths):
        layers += [nn.Linear(wide, wider), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).double()


def by_autograd(
    model: nn.Module, x: torch.Tensor, y: torch.Tensor, weight: torch.Tensor, plan: LocalPlan, steps: int
) -> list[torch.Tensor]:
    """(loss of each step, ...), the model trained in place."""
    optimiser = torch.optim.SGD(model.parameters(), lr=plan.lr, momentum=plan.momentum)
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        loss = (cross_entropy(model(x), y, reduction="none") * weight).sum()
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
    return losses


@given(Widths, st.integers(1, 4), st.integers(0, 2**16), st.sampled_from([0.0, 0.9]), st.integers(0, 3))
@settings(deadline=None, max_examples=60)
def test_its_steps_are_those_of_autograd(
    widths: list[int], batch: int, seed: int, momentum: float, clients: int
) -> None:
    """clients: 0 for one network as it is."""
    plan = LocalPlan(lr=0.3, momentum=momentum)
    models = [network(widths, seed + k) for k in range(clients or 1)]
    x = torch.randn(len(models), batch, widths[0], dtype=torch.float64)
    y = torch.randint(0, widths[-1], (len(models), batch))
    weight = torch.rand(len(models), batch, dtype=torch.float64)
    weight[:, batch // 2 :] *= torch.randint(0, 2, (1,))  # as examples that pad a batch
    parameters = [
        torch.stack([p.detach() for p in of_each])
        for of_each in zip(*(model.parameters() for model in models), strict=True)
    ]
    given_x, given_y, given_weight = x, y, weight
    if not clients:
        parameters = [p[0] for p in parameters]
        given_x, given_y, given_weight = x[0], y[0], weight[0]
    velocity = [torch.zeros_like(p) for p in parameters] if momentum else []
    losses = [sgd_step(parameters, velocity, given_x, given_y, given_weight, plan) for _ in range(3)]
    for k, model in enumerate(models):
        expected = by_autograd(model, x[k], y[k], weight[k], plan, 3)
        of_this = torch.stack(losses)[:, k] if clients else torch.stack(losses)
        torch.testing.assert_close(of_this, torch.stack(expected), rtol=1e-12, atol=1e-13)
        for own, other in zip(parameters, model.parameters(), strict=True):
            torch.testing.assert_close(own[k] if clients else own, other.detach(), rtol=1e-11, atol=1e-13)


def test_what_comes_before_the_first_layer_is_kept() -> None:
    model, x = build("mlp", (1, 8, 8), 10, 0), torch.rand(3, 1, 8, 8)
    assert torch.equal(flattened(model, x), Centred()(x).flatten(1))
    assert torch.equal(model[-1](model[-2](model[-3](flattened(model, x)))), model(x))  # type: ignore[index]


def test_dense_models_are_written_out_and_no_others() -> None:
    shape = dict.fromkeys(MODELS, (3, 32, 32)) | dict.fromkeys(FOR_TEXT, (8,))
    dense = {name for name in MODELS if is_written_out(build(name, shape[name], 10, 0), LocalPlan())}
    assert dense == {"logistic", "mlp", "mlp-200", "mlp-1000"}


@pytest.mark.parametrize(
    "layers",
    [
        [],
        [nn.ReLU()],
        [nn.Linear(2, 2), nn.ReLU()],
        [nn.Linear(2, 2), nn.Linear(2, 2)],
        [nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2)],
        [nn.Linear(2, 2), nn.Flatten(), nn.Linear(2, 2)],
        [nn.Dropout(), nn.Linear(2, 2)],
        [nn.Linear(2, 2, bias=False)],
    ],
)
def test_networks_of_other_layers_are_left_to_autograd(layers: list[nn.Module]) -> None:
    assert not is_written_out(nn.Sequential(*layers), LocalPlan())


def shared() -> nn.Sequential:
    layer = nn.Linear(2, 2)
    return nn.Sequential(layer, nn.ReLU(), layer)


def tied() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    model[2].weight = model[0].weight
    return model


def frozen() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    model[0].weight.requires_grad_(False)
    return model


def hooked() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    model[1].register_forward_hook(lambda layer, given, output: output / 2)
    return model


class Scaled(nn.Sequential):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) / 4  # type: ignore[no-any-return]


def scaled() -> nn.Sequential:
    return Scaled(nn.Linear(2, 2))


def with_more() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(2, 2))
    model.register_parameter("more", nn.Parameter(torch.zeros(1)))
    return model


@pytest.mark.parametrize("make", [shared, tied, frozen, hooked, scaled, with_more])
def test_networks_that_do_more_than_their_layers_are_left_to_autograd(
    make: Callable[[], nn.Sequential],
) -> None:
    assert not is_written_out(make(), LocalPlan())


@pytest.mark.parametrize(
    "plan", [LocalPlan(algorithm="fedsgd"), LocalPlan(proximal=0.1), LocalPlan(precision="bfloat16")]
)
def test_other_steps_are_left_to_autograd(plan: LocalPlan) -> None:
    assert not is_written_out(nn.Sequential(nn.Linear(2, 2)), plan)
