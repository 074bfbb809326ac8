"""Where an optimiser begins: the initial images of Wei et al. (CPL, ESORICS 2020), and grey."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch

from fl.config.section import ConfigError
from fl.leakage.attack import Knowledge
from fl.mistyped import nearest

Shape = tuple[int, ...]

Start = Callable[[int, Shape, torch.Generator], torch.Tensor]
"""(images, shape, generator) -> (N, C, H, W) float64."""

APART: Final = 0.05
"""Between images of one class that begin alike: their gradients would be equal for ever."""


def grey(n: int, shape: Shape, rng: torch.Generator) -> torch.Tensor:
    """One half everywhere; of several images, each a little apart."""
    return _apart(torch.full((n, *shape), 0.5, dtype=torch.float64), rng)


def uniform(n: int, shape: Shape, rng: torch.Generator) -> torch.Tensor:
    """Every value from U[0, 1]."""
    return torch.rand((n, *shape), generator=rng, dtype=torch.float64)


def normal(n: int, shape: Shape, rng: torch.Generator) -> torch.Tensor:
    """Every value from N(0, 1)."""
    return torch.randn((n, *shape), generator=rng, dtype=torch.float64)


def binary(n: int, shape: Shape, rng: torch.Generator) -> torch.Tensor:
    """Every value 0 or 1."""
    return torch.randint(0, 2, (n, *shape), generator=rng).double()


def patterned(n: int, shape: Shape, rng: torch.Generator) -> torch.Tensor:
    """A random tile of a quarter of the image, repeated."""
    return _tiled(uniform, n, shape, rng, 2)


def patterned_16(n: int, shape: Shape, rng: torch.Generator) -> torch.Tensor:
    """A random tile of a sixteenth of the image, repeated."""
    return _tiled(uniform, n, shape, rng, 4)


def patterned_binary(n: int, shape: Shape, rng: torch.Generator) -> torch.Tensor:
    """A tile of 0 and 1, a quarter of the image, repeated."""
    return _tiled(binary, n, shape, rng, 2)


def red(n: int, shape: Shape, rng: torch.Generator) -> torch.Tensor:
    """One colour: the first channel 1, the others 0; of several images, each a little apart."""
    return _coloured(0, n, shape, rng)


def green(n: int, shape: Shape, rng: torch.Generator) -> torch.Tensor:
    """As red, of the second channel; of images without colour, the last one."""
    return _coloured(1, n, shape, rng)


def blue(n: int, shape: Shape, rng: torch.Generator) -> torch.Tensor:
    """As red, of the third channel; of images without colour, the last one."""
    return _coloured(2, n, shape, rng)


STARTS: dict[str, Start] = {
    "grey": grey,
    "uniform": uniform,
    "normal": normal,
    "binary": binary,
    "patterned": patterned,
    "patterned-16": patterned_16,
    "patterned-binary": patterned_binary,
    "red": red,
    "green": green,
    "blue": blue,
}
CLASS_IMAGE, CLASS_MEAN = "class-image", "class-mean"
OWN: Final = (CLASS_IMAGE, CLASS_MEAN)
"""Made of images of the attacker's own."""
NAMES: Final = (*STARTS, *OWN)


def named(name: str) -> str:
    """Raises: ConfigError where nothing begins there."""
    if name not in NAMES:
        raise ConfigError(f"--start {name}: there are {', '.join(NAMES)}{nearest(name, NAMES)}")
    return name


def checked(name: str, knowledge: Knowledge) -> str:
    """Raises: ConfigError where nothing begins there, or nothing can by what is known."""
    named(name)
    if name in OWN and knowledge.public is None:
        raise ConfigError(f"--start {name} is for an attacker with images of its own")
    return name


def begun(name: str, y: torch.Tensor, knowledge: Knowledge, rng: torch.Generator) -> torch.Tensor:
    """(N, C, H, W) float64: for images of these labels. Of class-image, one of each label that is public, of
    class-mean their mean, several a little apart; where none is, of any label.
    """
    if name not in OWN:
        return STARTS[name](len(y), knowledge.model.shape, rng)
    assert knowledge.public is not None  # noqa: S101 - as checked
    own, labels = torch.tensor(knowledge.public.x).double(), torch.tensor(knowledge.public.y)
    among = [own[labels == label] if (labels == label).any() else own for label in y]
    if name == CLASS_MEAN:
        return _apart(torch.stack([images.mean(dim=0) for images in among]), rng)
    return torch.cat([images[torch.randint(len(images), (1,), generator=rng)] for images in among])


def _apart(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    return x if len(x) == 1 else x + APART * torch.randn(x.shape, generator=rng, dtype=torch.float64)


def _tiled(of: Start, n: int, shape: Shape, rng: torch.Generator, across: int) -> torch.Tensor:
    """A tile as often as it goes across and down, the last ones cut off where the sides are no multiple."""
    channels, height, width = shape
    tile = of(n, (channels, -(-height // across), -(-width // across)), rng)
    return tile.repeat(1, 1, across, across)[:, :, :height, :width].contiguous()


def _coloured(channel: int, n: int, shape: Shape, rng: torch.Generator) -> torch.Tensor:
    x = torch.zeros((n, *shape), dtype=torch.float64)
    x[:, min(channel, shape[0] - 1)] = 1.0
    return _apart(x, rng)
