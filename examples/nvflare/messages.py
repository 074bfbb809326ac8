"""What controller and executor share: the model, how it enters a sum, and the task that carries it."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from secagg import Tree

NAME = "secagg"  # of NVFlare's tasks, all of them

MODEL: dict[str, Any] = {"weights": np.zeros(8), "bias": np.zeros(1)}
"""The first model: put a state_dict in its place, of numpy or torch."""


def tree_of(model: dict[str, Any]) -> Tree:
    """How it is summed: every number within the bound, clients weighted by their examples, 100 at most."""
    return Tree(model, bound=4.0, max_weight=100)


def packed(number: int, model: dict[str, Any]) -> bytes:
    """A session's task: round and model."""
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, round=number, **model)
    return file.getvalue()


def unpacked(task: bytes) -> tuple[int, dict[str, Any]]:
    with np.load(io.BytesIO(task), allow_pickle=False) as file:
        return int(file["round"]), {name: file[name] for name in MODEL}
