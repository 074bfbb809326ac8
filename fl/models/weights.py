"""A model's weights, as a vector and as a file."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from pathlib import Path

import msgspec
import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import nn

from fl import marks
from fl.data.examples import OWN
from fl.data.files import write_atomically
from fl.models.architectures import MODELS, Description, ModelError, Models, unset

FILE = "model.safetensors"


def _float_tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    """Parameters, then buffers, in the order of their registration; integer buffers do not average."""
    # What a coordinate of every vector, checkpoint and sum is: fl.training.local.flat has the same order.
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
    for tensor, part in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def save(
    model: nn.Module,
    description: Description,
    folder: str | PathLike[str],
    *,
    unsafe_groups: bool = False,
) -> Path:
    """Write model.safetensors, with the description as its metadata, into `folder`. unsafe_groups: whether it
    was trained with such, which is said there, too. Returns its path.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    said = {"description": description, **marks.fields(unsafe_groups)}
    metadata = {name: msgspec.json.encode(each).decode() for name, each in said.items()}
    path = Path(folder) / FILE
    write_atomically(path, safetensors.torch.save(tensors, metadata))
    return path


def load(folder: str | PathLike[str], models: Models = MODELS) -> nn.Module:
    """The model that `save` wrote into `folder`, in eval mode, on the CPU. models: which it may be.

    Raises: ModelError where there is no such file, or it is damaged, does not fit its own description, or is
    none of these.
    """
    return described(folder, models)[0]


def described(folder: str | PathLike[str], models: Models = MODELS) -> tuple[nn.Module, Description]:
    """As `load`, and what the file says that it is."""
    path = Path(folder) / FILE
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        description = msgspec.json.decode(metadata["description"], type=Description)
        if description.model not in models:
            raise ModelError(_not_there(path, description, models))
        model = unset(description, models)  # the file decides nothing about memory but by its own length
        types = {name: tensor.dtype for name, tensor in model.state_dict().items()}
        model.load_state_dict(tensors, assign=True)  # of any type and with NaN: both are looked for below
    except FileNotFoundError:
        raise ModelError(f"{path} is not there: name the folder of a run that finished") from None
    except KeyError:
        raise ModelError(
            f"{path} does not say which model it holds: it was not written by this program"
        ) from None
    except (OSError, RuntimeError, msgspec.MsgspecError, safetensors.SafetensorError) as error:
        raise ModelError(f"{path} is not a readable model: {error}") from error
    # Of a task of one's own there may be integers, which are not summed.
    if not all(tensor.dtype == types[name] and tensor.isfinite().all() for name, tensor in tensors.items()):
        raise ModelError(f"{path} holds numbers that are not finite float32")
    return model.eval(), description


def _not_there(path: Path, description: Description, models: Models) -> str:
    if not description.own:
        return f"{path} is a {description.model}, and no model of a task: leave the task out"
    digest = description.model.removeprefix(OWN)
    if models is MODELS:
        return f"{path} is of a task of one's own and holds no code: give task=, a file with SHA-256 {digest}"
    return f"{path} is of another task than this one: of the file with the SHA-256 {digest}"
