"""What several rounds give away together: which updates are one client's, and whose an image is that came out
of sums, each beside chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fl.cli import pictures
from fl.cli.recorded import Round
from fl.cli.scored import RIGHT, Tally, parts_of
from fl.leakage.attack import Guess
from fl.leakage.grouping import grouped
from fl.leakage.linkage import auc, likeness
from fl.leakage.metrics import psnr
from fl.leakage.verdicts import guessed
from fl.leakage.views import View
from secagg.errors import counted


@dataclass(frozen=True)
class Linked:
    """How well updates of one round are told to be of the clients of another.

    auc: of all pairs. hits: for how many of `trials` updates that of the same client is the likest; expected:
    for how many by chance. To who reads no single updates there is nothing of a pair: all are alike.
    """

    view: View
    rounds: int
    auc: float
    hits: int
    trials: int
    expected: float

    @property
    def tally(self) -> Tally:
        return Tally(self.hits, self.trials, self.expected)

    @property
    def found(self) -> bool | None:
        if not self.trials:
            return False
        chance = self.expected / self.trials
        return guessed(self.hits, self.trials, chance) if guessed(self.trials, self.trials, chance) else None

    @property
    def brief(self) -> str:
        return f"AUC {self.auc:.2f}"

    @property
    def beside(self) -> str:
        of = f"; {self.hits} of {counted(self.trials, 'update')} beside {self.expected:.1f}"
        return f"{self.brief} beside .50{of if self.trials else ''}"

    @property
    def says(self) -> str:
        return f"and which updates of {self.rounds} rounds are one client's is told with an {self.beside}"

    @property
    def besides(self) -> str:
        return ""

    @property
    def header(self) -> tuple[str, ...]:
        return "AUC", "updates", "right", "by chance"

    @property
    def row(self) -> tuple[str, ...]:
        return f"{self.auc:.2f}", str(self.trials), str(self.hits), f"{self.expected:.1f}"

    @property
    def lines(self) -> Sequence[str]:
        return ()

    def told(self) -> dict[str, Any]:
        of = {"auc": round(self.auc, 4), "updates": self.trials, "hits": self.hits}
        return parts_of(self.view) | of | {"chance": round(self.expected, 3), "found": self.found}

    def draw(self, path: Path, title: str) -> None:
        right, of, chance = self.tally
        shown = {"right": right / max(of, 1), "by chance": chance / max(of, 1)}
        pictures.shares(path, title, {"updates linked": shown})


def linked(views: Sequence[View]) -> Linked:
    """views: of the rounds, in their order, of whom some clients are in several."""
    scores, same, hits, trials, expected = list[float](), list[bool](), 0, 0, 0.0
    read = [[part for part in view.parts if len(part.members) == 1] for view in views]
    for i, earlier in enumerate(read):
        for later in read[i + 1 :]:
            here, there = ([next(iter(part.members)) for part in some] for some in (earlier, later))
            if len(here) < 2 or len(there) < 2:
                continue
            alike = likeness([part.updates for part in later], [part.updates for part in earlier])
            one = np.array([[u == v for v in here] for u in there])
            scores += alike.ravel().tolist()
            same += one.ravel().tolist()
            back = one.any(axis=1)  # whose client was there before
            hits += int(one[back, alike[back].argmax(axis=1)].sum())
            trials += int(back.sum())
            expected += back.sum() / len(here)
    pairs = np.array(same, dtype=bool)
    area = auc(np.array(scores), pairs) if pairs.any() and not pairs.all() else 0.5
    return Linked(views[-1], len(views), area, hits, trials, float(expected))


@dataclass(frozen=True)
class Owned:
    """Of images that were read in sums, each once, for how many one client alone is left whose it can be, and
    for how many of these it is that client's. members: of a sum, at least.
    """

    images: int
    named: int
    rightly: int
    members: int

    @property
    def found(self) -> bool:
        return self.named > 0 and guessed(self.rightly, self.named, 1 / self.members)

    @property
    def beside(self) -> str:
        if not self.images:
            return "no image"
        chance = f", of {self.rightly} rightly, beside {self.tally.chance:.1f} by chance"
        of = f"it is told of {self.named} whose{chance}" if self.named else "it is told of none whose"
        return f"{counted(self.images, 'image')}; {of}"

    @property
    def tally(self) -> Tally:
        """Of the images of which it is told whose."""
        return Tally(self.rightly, self.named, self.named / self.members)

    def told(self) -> Mapping[str, Any]:
        return {"images": self.images, "named": self.named, "rightly": self.rightly, "found": self.found}


def owned(rounds: Sequence[Round], view: View, guess: Guess) -> Owned:
    """view: of all sums of these rounds, peeled."""
    groups = grouped(view, guess)
    named = [group for group in groups if len(group.clients) == 1]
    rightly = 0
    for group in named:
        (u,) = group.clients
        own = cast(NDArray[np.float32], rounds[-1].layout.examples(u)[0])
        rightly += bool((psnr(own, np.broadcast_to(group.image, own.shape)) >= RIGHT).any())
    return Owned(len(groups), len(named), rightly, min(len(part.members) for part in view.parts))
