"""Federated learning over secure sums. Importing this package does not import torch."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

__all__ = ["load"]


def load(folder: str | PathLike[str]) -> nn.Module:
    """The model that a run left in `folder`, in eval mode, on the CPU.

    Raises: fl.models.architectures.ModelError where there is none or the file is not what it should be.
    """
    from fl.models.weights import load as load_model

    return load_model(folder)
