"""Images by a net that has learned them from gradients of the attacker's own images, perturbed as clients
perturb what they send: what no optimiser can do where noise or compression leaves nothing to match.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fl.config.section import ConfigError
from fl.leakage.attack import Budget, Found, Guess, Knowledge
from fl.leakage.gradients import Matching
from fl.leakage.labels import of_gradient
from fl.leakage.sent import Sent
from fl.leakage.views import Part, View

UPDATES: Final = 6_000  # of the attacker's own: 1.4 s for those of lenet-4conv
NUMBERS: Final = 2**28  # of all of them together: 1 GiB
TOGETHER: Final = 50
DRAWS: Final = 4  # of noise, of each of them
MAKING: Final = 0.4  # of its time, at most: too few of them cost more than a net that is not done
DRAWN: Final = 0.5  # and when no noise is drawn any more
KEPT: Final = 256  # principal components
HELD_OUT: Final = 0.1
HIDDEN: Final = 1_000  # neurons
BATCH: Final = 64
RIDGES: Final = tuple(10.0**power for power in range(-8, 2))  # beside the largest variance


def learned(view: View, knowledge: Knowledge, budget: Budget, seed: int) -> Guess:
    """Images by a net that was trained on the attacker's own images and what clients would send of them.

    Source: Wu et al., Learning To Invert, UAI 2023; begun with a linear map, of principal components.
    """
    if knowledge.public is None:
        raise ConfigError("the learned attack is for an attacker with images of its own")
    if len(knowledge.model.shape) != 3:
        raise ConfigError(f"inversion makes images, and {knowledge.model.model} is for text")
    alike = dict[tuple[int, int], list[int]]()
    for i, part in enumerate(view.parts):
        alike.setdefault((len(part.members), knowledge.images_of(part)), []).append(i)
    guess = dict[int, Found]()
    for (clients, images), which in alike.items():
        since = time.process_time()
        until = budget.until(images * len(which))
        inverter = Inverter.trained(knowledge, clients, images, until, seed, passes=budget.iterations)
        found = [_of_part(inverter, view.parts[i], knowledge, images) for i in which]
        seconds = (time.process_time() - since) / len(which)
        guess |= {i: replace(one, seconds=seconds) for i, one in zip(which, found, strict=True)}
    return tuple(guess[i] for i in range(len(view.parts)))


def _of_part(inverter: Inverter, part: Part, knowledge: Knowledge, images: int) -> Found:
    """Of candidates that whose images explain it best."""
    each = []
    for update in part.updates:
        matching = Matching(knowledge, update, len(part.members))
        x, y = inverter.images(update), of_gradient(matching, knowledge, images)
        loss = float(matching.squared(torch.tensor(x), torch.tensor(y)).detach())
        each.append(Found(x, y, loss))
    return min(each, key=lambda found: found.loss)


@dataclass(frozen=True)
class Inverter:
    """From what is sent of N images to these, in the order of their labels.

    middle, axes, scales: of the principal components that it reads. linear: (K + 1, N C H W), the last row
    what it adds. net: what is better than that; None where nothing is.
    """

    shape: tuple[int, ...]
    middle: torch.Tensor
    axes: torch.Tensor
    scales: torch.Tensor
    linear: torch.Tensor
    net: nn.Module | None

    @classmethod
    def trained(
        cls, knowledge: Knowledge, clients: int, images: int, until: float, seed: int, *, passes: int
    ) -> Inverter:
        """images: of all clients together. until: when to stop, as time.process_time() tells it. passes: of
        the net over what it learns from, at most.
        """
        rng = torch.Generator().manual_seed(seed)
        since = time.process_time()
        sent, own = Sent(knowledge, clients, rng), _Own.drawn(knowledge, images, rng)
        # The directions are those of updates without noise: in noise they are not to be seen (at a deviation
        # of 0.1 linear maps have 14.8 dB of those with noise, and 16.6 so).
        clean = own.kept(sent, since + MAKING * (until - since))
        middle = clean.mean(dim=0)
        clean -= middle
        axes = _axes(clean, min(KEPT, len(clean) - 1), rng)
        own = own.first(len(clean))
        del clean
        each = list[torch.Tensor]()
        while not each or (
            len(each) < DRAWS and sent.random and time.process_time() < since + DRAWN * (until - since)
        ):
            each.append(torch.cat([(x - middle) @ axes for x in own.sent(sent, noisy=True)]))
        z, target = torch.stack(each), own.x.flatten(1)
        scales = z[0].std(dim=0).clamp(min=1e-12)
        rest = len(target) - max(1, int(HELD_OUT * len(target)))
        linear = _ridge(z, target, rest)
        off = target - _linear(z, linear)
        net = _net(z / scales, off, rest, passes, until, rng)
        return cls((images, *knowledge.model.shape), middle, axes, scales, linear, net)

    @torch.no_grad()
    def images(self, update: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, C, H, W), of an update (d,)."""
        z = (torch.tensor(update[: len(self.middle)], dtype=torch.float32) - self.middle) @ self.axes
        x = _linear(z[None], self.linear)
        if self.net is not None:
            x = x + self.net(z[None] / self.scales)
        return x.reshape(self.shape).double().numpy()


@dataclass(frozen=True)
class _Own:
    """Images of the attacker's own, N together, by their labels. x: (M, N, C, H, W), y: (M, N)."""

    x: torch.Tensor
    y: torch.Tensor

    @classmethod
    def drawn(cls, knowledge: Knowledge, images: int, rng: torch.Generator) -> _Own:
        """Each image once, where one is sent at a time; else drawn anew."""
        assert knowledge.public is not None  # noqa: S101 - as was looked at
        x, labels = torch.tensor(knowledge.public.x), torch.tensor(knowledge.public.y)
        most = min(UPDATES, NUMBERS // len(knowledge.parameters))
        drawn = torch.randperm(len(x), generator=rng)[:most, None]
        if images > 1:
            drawn = torch.randint(len(x), (most, images), generator=rng)
        ordered = drawn.gather(1, labels[drawn].argsort(dim=1, stable=True))
        return cls(x[ordered], labels[ordered])

    def first(self, number: int) -> _Own:
        return _Own(self.x[:number], self.y[:number])

    def sent(self, sent: Sent, *, noisy: bool) -> Iterator[torch.Tensor]:
        """What is sent of them, (TOGETHER, d) at a time."""
        for x, y in zip(torch.split(self.x, TOGETHER), torch.split(self.y, TOGETHER), strict=True):
            yield sent.of(x, y, noisy=noisy)

    def kept(self, sent: Sent, until: float) -> torch.Tensor:
        """(M, d), without noise, of as many as there is time for."""
        seen = list[torch.Tensor]()
        for some in self.sent(sent, noisy=False):
            seen.append(some)
            if time.process_time() > until:
                break
        return torch.cat(seen)


def _axes(seen: torch.Tensor, number: int, rng: torch.Generator) -> torch.Tensor:
    """(d, K): the directions in which what was seen, centred, varies most, by a random sketch.

    Source: Halko, Martinsson and Tropp, SIAM Review 53(2), 2011, algorithms 4.4 and 5.1.
    """
    sketch = torch.randn((seen.shape[1], number + 20), generator=rng)
    for _ in range(2):
        sketch, _ = torch.linalg.qr(seen.T @ (seen @ sketch))
    _, _, axes = torch.linalg.svd(seen @ sketch, full_matrices=False)
    components: torch.Tensor = sketch @ axes[:number].T
    return components


def _linear(z: torch.Tensor, linear: torch.Tensor) -> torch.Tensor:
    return z @ linear[:-1] + linear[-1]


def _ridge(z: torch.Tensor, target: torch.Tensor, rest: int) -> torch.Tensor:
    """The linear map from z, (D, M, K), that does best on what was held out, the examples from `rest` on."""
    middle, own = target[:rest].mean(dim=0), z[:, :rest].flatten(0, 1)
    within = own.T @ own / len(own)
    across = z[:, :rest].mean(dim=0).T @ (target[:rest] - middle) / rest
    unit, best, least = within.diagonal().max() * torch.eye(len(within)), middle[None], float("inf")
    for ridge in RIDGES:
        linear = torch.cat([torch.linalg.solve(within + ridge * unit, across), middle[None]])
        off = float((target[rest:] - _linear(z[0, rest:], linear)).square().mean())
        if off < least:
            best, least = linear, off
    return best


def _net(
    z: torch.Tensor, off: torch.Tensor, rest: int, passes: int, until: float, rng: torch.Generator
) -> nn.Module | None:
    """What brings images nearer that were held out, by Adam, until the time is over; None if nothing does.
    z: (D, M, K), off: (D, M, ...), of which each pass takes the next of D.
    """
    torch.manual_seed(int(torch.randint(2**31, (1,), generator=rng)))
    last = nn.Linear(HIDDEN, off.shape[2])
    nn.init.zeros_(last.weight)  # it begins at what is linear
    nn.init.zeros_(last.bias)
    hidden = nn.Linear(z.shape[2], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU()
    net = nn.Sequential(*hidden, last)
    adam = torch.optim.Adam(net.parameters(), lr=1e-3)
    best, least = None, float(off[0, rest:].square().mean())
    for number in range(passes):
        of = number % len(z)
        for some in torch.split(torch.randperm(rest, generator=rng), BATCH):
            if time.process_time() > until:
                break
            adam.zero_grad()
            loss = (net(z[of, some]) - off[of, some]).square().mean()
            loss.backward()
            adam.step()
        with torch.no_grad():
            left = float((net(z[0, rest:]) - off[0, rest:]).square().mean())
        if left < least:
            best, least = {name: value.clone() for name, value in net.state_dict().items()}, left
        if time.process_time() > until:
            break
    if best is None:
        return None
    net.load_state_dict(best)
    return net
