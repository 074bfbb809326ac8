"""Federated learning over secure sums. Importing this package does not import torch."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

__all__ = ["load"]


def load(folder: str | PathLike[str], task: str | PathLike[str] | None = None) -> nn.Module:
    """The model that a run left in `folder`, in eval mode, on the CPU. task: the file of a task of one's own,
    of a run that had one: a model's file holds no code.

    Security: the file of a task is run. Take none from a folder that somebody else has made, unread.

    Raises: fl.models.architectures.ModelError where there is none, the file is not what it should be, or it
    is of another task; fl.own.TaskError where that cannot be run.
    """
    from fl.models.architectures import MODELS
    from fl.models.weights import load as load_model
    from fl.own import OwnTask

    return load_model(folder, MODELS if task is None else OwnTask.read(task).models)
