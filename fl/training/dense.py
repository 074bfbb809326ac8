"""The step of a dense network, written out: of one, or of a stack of them at once.

A step of McMahan's 2NN takes half a millisecond of multiplication. Autograd takes half as long beside it, and
what a gradient costs that is written to memory and read again as long once more; here it is added where it
goes as it is multiplied.
"""

from __future__ import annotations

import torch
from torch import nn

from fl.config.plan import LocalPlan
from fl.models.architectures import Centred


def is_written_out(model: nn.Module, plan: LocalPlan) -> bool:
    """Whether `sgd_step` can take the model's steps: it is linear layers with ReLU between them, on inputs
    that are centred, flattened or neither; and steps go along the loss's gradient alone.
    """
    # Just these types: what is derived from one may compute something else.
    if type(model) is not nn.Sequential or plan.algorithm == "fedsgd":
        return False
    if plan.proximal or plan.precision == "bfloat16":
        return False
    kinds = [type(layer) for layer in model]
    while kinds and kinds[0] in (Centred, nn.Flatten):
        kinds.pop(0)
    alternate = len(kinds) % 2 == 1 and kinds == ([nn.Linear, nn.ReLU] * len(kinds))[: len(kinds)]
    return alternate and _holds_just_these(model) and not any(map(_is_listened_to, model.modules()))


def _holds_just_these(model: nn.Sequential) -> bool:
    """Weight and bias of each layer, none shared, all trained."""
    linear = [layer for layer in model if isinstance(layer, nn.Linear)]
    own = [parameter for layer in linear for parameter in (layer.weight, layer.bias)]
    return list(map(id, own)) == list(map(id, model.parameters())) and all(p.requires_grad for p in own)


def _is_listened_to(module: nn.Module) -> bool:
    """Whether something is hooked to it, which would not be called: the layers are not."""
    return any(
        getattr(module, f"_{kind}_hooks") for kind in ("forward", "forward_pre", "backward", "backward_pre")
    )


def flattened(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What the first linear layer of such a model is given: (B, i), for x: (B, ...)."""
    for layer in model:  # type: ignore[attr-defined]  # a Sequential
        if isinstance(layer, nn.Linear):
            break
        x = layer(x)
    return x


@torch.no_grad()
def sgd_step(
    parameters: list[torch.Tensor],
    velocity: list[torch.Tensor],
    x: torch.Tensor,
    y: torch.Tensor,
    weight: torch.Tensor,
    plan: LocalPlan,
) -> torch.Tensor:
    """Take a step of SGD, with momentum where the plan has some, in place. Returns the loss before it: the
    sum of the examples' cross-entropy, each times its weight.

    parameters: (o, i) and (o,) of each layer; velocity alike, empty without momentum; x: (B, i), flattened;
    y and weight: (B,). With one more dimension of K before those of all: K networks, and (K,) losses.
    """
    # into = keep * into + add * gradient
    into, keep, add = (velocity, plan.momentum, 1.0) if plan.momentum else (parameters, 1.0, -plan.lr)
    linear = torch.addmm if x.ndim == 2 else torch.baddbmm
    layers = list(zip(parameters[::2], parameters[1::2], strict=True))
    inputs = [x]
    for k, (w, b) in enumerate(layers):
        output = linear(b.unsqueeze(-2), inputs[k], w.mT)
        inputs.append(output.relu_() if k < len(layers) - 1 else output)
    log, label = torch.log_softmax(inputs.pop(), -1), y.unsqueeze(-1)
    loss = -(log.gather(-1, label).squeeze(-1) * weight).sum(-1)
    # Of the logits: what softmax gives less what is right; then of each layer's inputs, from last to first.
    slope = log.exp_()  # in place: the loss has been read
    slope.scatter_add_(-1, label, slope.new_full((), -1.0).expand(label.shape))
    slope *= weight.unsqueeze(-1)
    for k in reversed(range(len(layers))):
        # Before the weights: without momentum `into` are these, and change in the next lines.
        below = (slope @ layers[k][0]).mul_(inputs[k] > 0) if k else slope
        of_weight, of_bias = into[2 * k : 2 * k + 2]
        multiply = of_weight.addmm_ if x.ndim == 2 else of_weight.baddbmm_
        multiply(slope.mT, inputs[k], beta=keep, alpha=add)
        of_bias.mul_(keep).add_(slope.sum(-2), alpha=add)
        slope = below
    if plan.momentum:
        torch._foreach_add_(parameters, velocity, alpha=-plan.lr)
    return loss
