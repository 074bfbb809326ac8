"""The one module that imports torchvision: `from fl.data.vision import datasets`, or DOWNLOADED.

torchvision's wheel is linked against CUDA. Beside a CPU-only torch its C++ operators do not load, and its
import fails on registering a Python side for an operator that is not there. Declaring the two that it asks
for is enough for everything written in Python: data sets, transforms.v2, models, save_image.
"""

from __future__ import annotations

from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import torch

__all__ = ["DOWNLOADED", "datasets"]


def _declare_missing_operators() -> torch.library.Library | None:
    """Declare torchvision::nms and qnms where torch has no CUDA and torchvision's library does not load."""
    spec = find_spec("torchvision")
    if torch.version.cuda is not None or spec is None or spec.origin is None:
        return None
    for library in Path(spec.origin).parent.glob("_C.*"):
        with suppress(OSError):  # a CPU build of torchvision does load, and declares them itself
            torch.ops.load_library(library)
    if hasattr(torch.ops.torchvision, "nms"):
        return None
    declared = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        declared.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return declared


_declared = _declare_missing_operators()  # the declarations last as long as this object

from torchvision import datasets  # noqa: E402

DOWNLOADED = {
    "mnist": datasets.MNIST,
    "fashion-mnist": datasets.FashionMNIST,
    "cifar-10": datasets.CIFAR10,
}
