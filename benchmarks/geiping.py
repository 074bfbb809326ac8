"""Geiping et al.'s own engine on our views, out of a clone of their repository, in a process of its own.

`python geiping.py CLONE` runs it on the folder where it is started (`fl.leakage.apart.of_program`). Of their
code nothing is copied and nothing edited: what it imports, and an attack does not need, is stood in for.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import torch

from fl.leakage import apart
from fl.leakage.attack import Budget, Found, Guess, Knowledge
from fl.leakage.gradients import Matching, model_of, rehearsed
from fl.leakage.labels import of_gradient
from fl.leakage.views import Part, View

REPOSITORY: Final = "https://github.com/JonasGeiping/invertinggradients"
CLONE: Final = "SECAGG_GEIPING"
"""The variable of the environment that says where a clone is."""

SETTINGS: Final = {
    "signed": True,
    "boxed": True,
    "cost_fn": "sim",
    "indices": "def",
    "weights": "equal",
    "lr": 0.1,
    "optim": "adam",
    "restarts": 1,
    "max_iterations": 4800,
    "total_variation": 0.01,
    "init": "randn",
    "filter": "none",
    "lr_decay": True,
    "scoring_choice": "loss",
}
"""Their defaults, but for signs and the total variation (1e-1 there), which are those of a run of it that
others published, on this net and CIFAR-10's first image: 24.8 dB in 4800 iterations.
"""


@dataclass(frozen=True)
class Engine:
    """Theirs. commit: of the clone."""

    clone: Path
    commit: str

    @classmethod
    def found(cls) -> Engine:
        """Raises: NotImplementedError where there is no clone."""
        name = os.environ.get(CLONE, "")
        if not name or not (Path(name) / "inversefed" / "reconstruction_algorithms.py").is_file():
            raise NotImplementedError(f"no clone of {REPOSITORY}: say where one is by {CLONE}=FOLDER")
        said = subprocess.run(  # noqa: S603
            ["git", "-C", name, "rev-parse", "--short", "HEAD"],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
        )
        return cls(Path(name).resolve(), said.stdout.strip() or "of no commit")

    def __call__(self, view: View, knowledge: Knowledge, budget: Budget, seed: int) -> Guess:
        """Of single images from one gradient each. The budget is its own: so many iterations."""
        return apart.of_program(["-P", __file__, str(self.clone)], view, knowledge, budget, seed)


def _main(clone: Path) -> None:
    torch.set_num_threads(1)
    reconstruction = _imported(clone)
    view, knowledge, _, seed = apart.unpacked(Path(apart.GIVEN).read_bytes())
    rehearsed(knowledge)
    found = [_of_part(reconstruction, part, knowledge, seed) for part in view.parts]
    Path(apart.FOUND).write_bytes(apart.packed_guess(tuple(found)))


def _imported(clone: Path) -> Any:
    """Their module of attacks alone: its package imports data sets, models and torchvision besides, in which
    nothing is left that runs with today's.
    """
    package, networks = ModuleType("inversefed"), ModuleType("inversefed.nn")
    package.__path__, networks.__path__ = [str(clone / "inversefed")], [str(clone / "inversefed" / "nn")]
    sys.modules |= {
        "inversefed": package,
        "inversefed.nn": networks,
        "torchvision": ModuleType("torchvision"),
    }
    networks.MetaMonkey = import_module("inversefed.nn.modules").MetaMonkey  # type: ignore[attr-defined]
    return import_module("inversefed.reconstruction_algorithms")


def _of_part(reconstruction: Any, part: Part, knowledge: Knowledge, seed: int) -> Found:
    """In float32, as theirs is. The label is the one that our attacks read off the gradient."""
    matching = Matching(knowledge, part.updates[0], 1)
    y, model = of_gradient(matching, knowledge, 1), model_of(knowledge).float()
    sizes = [parameter.numel() for parameter in model.parameters()]
    flat = torch.split(matching.seen.float(), sizes)
    gradient = [g.view_as(p) for g, p in zip(flat, model.parameters(), strict=True)]
    as_they_are = torch.zeros(1, 1, 1), torch.ones(1, 1, 1)  # mean and deviation: our models take [0, 1]
    torch.manual_seed(seed)
    since = time.process_time()
    with redirect_stdout(io.StringIO()):  # it tells of every 500th iteration
        engine = reconstruction.GradientReconstructor(model, as_they_are, dict(SETTINGS), num_images=1)
        x, told = engine.reconstruct(gradient, torch.tensor(y), img_shape=knowledge.model.shape)
    return Found(x.double().numpy(), y, told["opt"], time.process_time() - since)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
