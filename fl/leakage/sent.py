"""What clients would send of images of an attacker's own, many at once: trained, perturbed and encoded as
theirs are, under randomness of the attacker's.
"""

from __future__ import annotations

import math

import msgspec
import torch
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy

from fl.config.privacy import Perturbation
from fl.config.section import ConfigError
from fl.leakage.attack import Encoding, Knowledge
from fl.models.architectures import build
from fl.models.weights import from_vector

Named = dict[str, torch.Tensor]


class Sent:
    """The means of what so many clients send, in float32. clients: in each mean."""

    def __init__(self, knowledge: Knowledge, clients: int, rng: torch.Generator) -> None:
        """Raises: ConfigError for noise in each of several steps."""
        described = knowledge.model
        model = build(described.model, described.shape, described.classes, 0)
        from_vector(model, knowledge.parameters)
        self._model, self._plan, self._clients, self._rng = model.eval(), knowledge.plan, clients, rng
        self._named = {name: p.detach() for name, p in self._model.named_parameters()}
        self._asked, self._encoding = knowledge.perturbation, knowledge.encoding
        self._steps = 1 if self._plan.algorithm == "fedsgd" else max(1, self._plan.steps)
        self._in_steps = self._asked is not None and self._asked.mechanism == "example"
        if self._in_steps and self._steps > 1:
            raise ConfigError(
                "the learned attack takes the noise of one step again, and not of each of several"
            )
        self.length = sum(p.numel() for p in self._named.values())

    @property
    def random(self) -> bool:
        """Whether the same images are never sent twice alike."""
        noised = self._asked is not None and self._asked.mechanism != "none"
        return noised or (self._encoding is not None and self._encoding.bits > 1)

    def of(self, x: torch.Tensor, y: torch.Tensor, *, noisy: bool = True) -> torch.Tensor:
        """(M, d), of M times N images, (M, N, C, H, W), with labels (M, N); each client has N / clients.
        noisy: or without all that is random in it.
        """
        m, n = y.shape
        x, y = (each.reshape(m * self._clients, n // self._clients, *each.shape[2:]) for each in (x, y))
        asked = self._asked
        if asked is not None and not noisy:
            asked = msgspec.structs.replace(asked, multiplier=0.0)
        if asked is not None and self._in_steps:
            sent = self._noised_step(x, y, asked)
        else:
            sent = vmap(self._moved)(x, y)
        if asked is not None:
            sent = perturbed(sent, asked, self._rng)
        if self._encoding is not None and (noisy or self._encoding.bits == 1):
            sent = encoded(sent, self._encoding, self._rng)
        return sent.reshape(m, self._clients, -1).mean(dim=1)

    def _gradient(self, named: Named, x: torch.Tensor, y: torch.Tensor) -> Named:
        def loss(named: Named) -> torch.Tensor:
            return cross_entropy(functional_call(self._model, named, (x,)), y)

        along: Named = grad(loss)(named)
        return along

    def _moved(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """One client's, its batches in the order of its images."""
        if self._plan.algorithm == "fedsgd":
            return _flat(self._gradient(self._named, x, y))
        named, velocity = self._named, {name: torch.zeros_like(p) for name, p in self._named.items()}
        batches = torch.split(torch.arange(len(y)), self._plan.batch_size)
        for step in range(self._steps):
            batch = batches[step % len(batches)]
            along = self._gradient(named, x[batch], y[batch])
            velocity = {name: self._plan.momentum * v + along[name] for name, v in velocity.items()}
            named = {name: p - self._plan.lr * velocity[name] for name, p in named.items()}
        return self._as_sent(_flat(named) - _flat(self._named))

    def _as_sent(self, moved: torch.Tensor) -> torch.Tensor:
        return moved + _flat(self._named) if self._plan.algorithm == "fedavg-weights" else moved

    def _noised_step(self, x: torch.Tensor, y: torch.Tensor, asked: Perturbation) -> torch.Tensor:
        """Every client's, in which each example's gradient is clipped, and their sum noised."""
        assert asked.clip is not None  # noqa: S101 - as its config has it
        one = vmap(vmap(lambda x, y: _flat(self._gradient(self._named, x[None], y[None]))))
        each = one(x, y)  # (clients, E, d)
        norms = each.norm(dim=2, keepdim=True)
        largest = norms.amax(dim=1).clamp(max=asked.clip)
        total = (each * (asked.clip / norms).clamp(max=1)).sum(dim=1)
        total = _noisy(total, asked, largest, self._rng)
        if self._plan.algorithm == "fedsgd":
            return total / y.shape[1]
        return self._as_sent(-self._plan.lr * total / self._plan.batch_size)


def perturbed(x: torch.Tensor, asked: Perturbation, rng: torch.Generator) -> torch.Tensor:
    """As fl.privacy.mechanisms.perturbed makes it of each of (M, d)."""
    left_out = math.floor(asked.compress * x.shape[1])
    if left_out:
        x = torch.where(_largest(x, x.shape[1] - left_out), x, 0)
    if asked.mechanism != "local" or asked.clip is None:
        return x
    x = _into_ball(x, asked.clip)
    return _noisy(x, asked, x.norm(dim=1, keepdim=True), rng)


def encoded(x: torch.Tensor, encoding: Encoding, rng: torch.Generator) -> torch.Tensor:
    """As secagg.encoding rounds each of (M, d), and it is read again."""
    if encoding.bits == 1:
        return x.sign() * x.abs().mean(dim=1, keepdim=True)
    if encoding.clip is not None:
        x = _into_ball(x, encoding.clip)
    bound = x.abs().amax(dim=1, keepdim=True) if encoding.bound is None else encoding.bound
    levels = (1 << encoding.bits - 1) - 1
    step = bound / levels * encoding.share
    z = torch.maximum(torch.minimum(x, +bound * torch.ones(1)), -bound * torch.ones(1)) / step
    codes = torch.floor(z + torch.rand(z.shape, generator=rng))
    return codes.clamp(-levels, levels) * step


def _noisy(x: torch.Tensor, asked: Perturbation, largest: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """largest: (M, 1), the norm by which noise goes that does not go by the clip."""
    assert asked.clip is not None  # noqa: S101 - as its config has it
    if not asked.multiplier:
        return x
    noise = torch.randn(x.shape, generator=rng)
    if asked.noise == "laplace":  # a difference of exponentials, of the same deviation
        halves = torch.empty((2, *x.shape)).exponential_(generator=rng)
        noise = (halves[0] - halves[1]) / math.sqrt(2)
    noise = asked.multiplier * (asked.clip if asked.sensitivity == "clip" else largest) * noise
    if asked.largest < 1:
        noise = torch.where(_largest(x, math.ceil(asked.largest * x.shape[1])), noise, 0)
    return x + noise


def _largest(x: torch.Tensor, number: int) -> torch.Tensor:
    """(M, d): whether a number is of so many that are largest."""
    least: torch.Tensor = x.abs().topk(number, dim=1).values[:, -1:]
    return x.abs() >= least


def _into_ball(x: torch.Tensor, clip: float) -> torch.Tensor:
    norms: torch.Tensor = x.norm(dim=1, keepdim=True)
    return x * (clip / norms).clamp(max=1)


def _flat(named: Named) -> torch.Tensor:
    return torch.cat([p.flatten() for p in named.values()])
