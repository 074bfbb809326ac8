"""Whether training or depth of a net hides what its gradients give away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.inverted import HEADER, Summary, Target, cells_of, over_rounds, word
from benchmarks.spread import seeds

CLAIM = (
    "Gradients of one MNIST image each, at a net's first weights and after five rounds of 4 clients of "
    "1,500 images (one pass a round, rate 0.02), inverted with so many seconds of a processor an image. "
    "Both sigmoid nets give images away at first weights, three layers deep or four, and with two of "
    "three seeds after training, though by then three times as long an attack ends with 17 to 19 dB where "
    "it had 29 to 30: training makes it harder, and hides nothing for sure. Of the net of ReLU with one "
    "hidden layer training leaves 15 dB of 91 to this attack; what enters it can be read off its gradient "
    "without an optimiser all the same (`secagg attack analytic`). On ReLU with pooling the attack fails "
    "at first weights, too, which says nothing of what such a net hides. Depth is so looked at up to four "
    "convolutions: resnet18, of 11 million numbers, takes too long, and is left out."
)
CONTROL = Control("the same net at its first weights", lambda row: row["round"] == 0, by=("seed", "model"))
ALONE = False
SEEDS = {"quick": 1, "full": 3}
LAST = 5


@dataclass(frozen=True)
class Net:
    """kind: its layers. rounds: after which it is attacked. seconds: of a processor, an image, at its first
    weights and when it is trained.
    """

    model: str
    kind: str
    rounds: tuple[int, ...]
    seconds: tuple[float, float]


NETS = (
    Net("mlp", "1 hidden, ReLU", (0, LAST), (0.3, 0.3)),
    Net("cnn", "2 conv, ReLU, pooling", (0, LAST), (0.3, 0.3)),
    Net("lenet-zhu", "3 conv, sigmoid", (0, LAST), (0.3, 1.0)),
    Net("lenet-4conv", "4 conv, sigmoid", (0, LAST), (0.3, 1.0)),
)


def cases(size: str, seed: int) -> list[Case]:
    """Quick: after one round."""
    return [
        Case(f"{net.model}, seed {each}", partial(run_case, net, each, 1 if size == "quick" else LAST))
        for net in NETS
        for each in seeds(seed, SEEDS[size])
    ]


def run_case(net: Net, seed: int, last: int) -> Iterator[Row | str]:
    """accuracy: on the test set. Raises: NotImplementedError where the data set is not to be had."""
    target = Target.drawn("mnist", seed)
    rounds = sorted({min(round, last) for round in net.rounds})
    for trained in over_rounds(target.knowledge(net.model, seed), seed, rounds):
        yield f"after {trained.round} rounds"
        seconds = net.seconds[trained.round > 0]
        uploads = target.uploads(trained.knowledge)
        row = {"model": net.model, "kind": net.kind, "numbers": len(uploads[0]), "seed": seed}
        row |= {"round": trained.round, "accuracy": trained.accuracy, "budget": seconds}
        (found,) = target.attacked(trained.knowledge, [uploads], seconds, seed)
        yield row | found


def table(rows: Sequence[Row]) -> Table:
    """numbers: of an update. s: that the attack may take for an image."""
    by = cells_of(rows, "model", "round")
    return Table.of(
        ("model", "layers", "numbers", "rounds", "accuracy", "s", *HEADER, "so"),
        [
            (
                model,
                some[0]["kind"],
                f"{some[0]['numbers']:,}",
                str(round),
                f"{np.mean([row['accuracy'] for row in some]):.2f}",
                f"{some[0]['budget']:g}",
                *Summary.of(some).cells,
                word(some, by[model, 0], "training hides it from this attack"),
            )
            for (model, round), some in by.items()
        ],
    )
