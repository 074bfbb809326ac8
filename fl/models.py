"""Models by name. Each is a function from an image's shape and the number of classes to a module.

No BatchNorm: its running statistics are not the mean of the clients' statistics, and a batch of one has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from os import PathLike
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import nn

from fl.data.examples import Shape
from fl.data.files import write_atomically

FILE = "model.safetensors"
Size = Annotated[int, msgspec.Meta(ge=1, le=65_536)]


class ModelError(ValueError):
    """A model, its file or its vector is not what it should be."""


class Centred(nn.Module):
    """Images in [0, 1] to [-1, 1]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x - 1


def cnn(shape: Shape, classes: int) -> nn.Module:
    """Two 3 x 3 convolutions and a linear layer: 9,930 parameters at 1 x 8 x 8, 20,490 at 1 x 28 x 28."""
    channels, height, width = shape
    # Of 8 x 8 pixels, none can be spared before the strokes are seen.
    early = 2 if min(height, width) >= 16 else 1
    if min(height, width) < 2:
        raise ModelError(f"cnn is for images of at least 2 x 2 pixels, not {height} x {width}")
    return nn.Sequential(
        Centred(),
        nn.Conv2d(channels, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(early),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * (height // early // 2) * (width // early // 2), classes),
    )


def mlp(shape: Shape, classes: int) -> nn.Module:
    """One hidden layer of 64."""
    return nn.Sequential(
        Centred(), nn.Flatten(), nn.Linear(int(np.prod(shape)), 64), nn.ReLU(), nn.Linear(64, classes)
    )


def logistic(shape: Shape, classes: int) -> nn.Module:
    """Multinomial logistic regression: one linear layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), classes))


MODELS: dict[str, Callable[[Shape, int], nn.Module]] = {"cnn": cnn, "mlp": mlp, "logistic": logistic}


class Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that is needed to build a model: written into its file, sent to clients.

    model: a name in MODELS;  shape: (C, H, W) of one image.
    """

    model: str
    shape: tuple[Size, Size, Size]
    classes: Size

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise ModelError(f"no model {self.model!r}: there are {', '.join(MODELS)}")


def build(name: str, shape: Shape, classes: int, seed: int) -> nn.Module:
    """A model on the CPU, its initial weights drawn from `seed`; torch's global generators stay as they were.

    Raises: ModelError for an unknown name.
    """
    description = Description(name, shape, classes)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return MODELS[description.model](description.shape, description.classes)


def _float_tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    """Parameters, then buffers, in the order of their registration; integer buffers do not average."""
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.is_floating_point():
            yield tensor.detach()


def to_vector(model: nn.Module) -> NDArray[np.float32]:
    """All parameters and float buffers of the model as one vector: (d,) float32, a copy."""
    return torch.cat([tensor.flatten().float().cpu() for tensor in _float_tensors(model)]).numpy()


def from_vector(model: nn.Module, vector: NDArray[np.floating]) -> None:
    """Set the model's parameters and float buffers to what `to_vector` gave, in place.

    vector: (d,), finite as float32.
    Raises: ModelError for another length, NaN or infinity; the model is then as it was.
    """
    tensors = list(_float_tensors(model))
    length = sum(tensor.numel() for tensor in tensors)
    if vector.shape != (length,):
        raise ModelError(f"this model is a vector of shape ({length},), not {vector.shape}")
    with np.errstate(over="ignore"):
        flat = torch.tensor(vector.astype(np.float32))
    if not flat.isfinite().all():
        raise ModelError("a model's vector must be finite: this one holds NaN or infinity")
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def save(model: nn.Module, description: Description, folder: str | PathLike[str]) -> Path:
    """Write model.safetensors, with the description as its metadata, into `folder`. Returns its path."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    metadata = {"description": msgspec.json.encode(description).decode()}
    path = Path(folder) / FILE
    write_atomically(path, safetensors.torch.save(tensors, metadata))
    return path


def load(folder: str | PathLike[str]) -> nn.Module:
    """The model that `save` wrote into `folder`, in eval mode, on the CPU.

    Raises: ModelError where there is no such file, or it is damaged or does not fit its own description.
    """
    path = Path(folder) / FILE
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        description = msgspec.json.decode(metadata["description"], type=Description)
        with torch.device("meta"):  # shapes only: the file decides nothing about memory but by its own length
            model = MODELS[description.model](description.shape, description.classes)
        model.load_state_dict(tensors, assign=True)
    except FileNotFoundError:
        raise ModelError(f"{path} is not there: name the folder of a run that finished") from None
    except KeyError:
        raise ModelError(
            f"{path} does not say which model it holds: it was not written by this program"
        ) from None
    except (OSError, RuntimeError, msgspec.MsgspecError, safetensors.SafetensorError) as error:
        raise ModelError(f"{path} is not a readable model: {error}") from error
    if not all(tensor.dtype == torch.float32 and tensor.isfinite().all() for tensor in tensors.values()):
        raise ModelError(f"{path} holds numbers that are not finite float32")
    return model.eval()
