"""Whether depth of a net hides what its gradients give away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from benchmarks import deep
from benchmarks.deep import DEPTHS, RELU, SIGMOID
from benchmarks.harness import Case, Control, Row, Table
from benchmarks.inverted import HEADER, Summary, Target, cells_of, word
from benchmarks.spread import seeds
from fl.leakage.attack import Budget
from fl.leakage.views import Part, View

CLAIM = (
    "Gradients of one MNIST image each, at first weights, of nets of two to eight convolutions of 12 "
    "channels and a linear layer. Of sigmoids images come out of all of them in a second of a "
    "processor, each depth with fewer decibels (81 of two, 33 of eight). Of ReLU, which L-BFGS does not "
    "invert, the attack by direction and signs finds them of two and four convolutions in 3 s (34 and "
    "21 dB), of six with one seed of three, and of eight with none; and of a residual net of 17 "
    "convolutions, resnet18 with an eighth of its channels, with none in 16 s. That depth is no defence "
    "is shown here for sigmoids, and not for deep ReLU nets, on which more time was not tried; labels "
    "come out of all."
)
SHALLOW = DEPTHS[0]
CONTROL = Control(
    "two convolutions of the same kind", lambda row: row["convolutions"] == SHALLOW, by=("seed", "group")
)
ALONE = False
SEEDS = {"quick": 1, "full": 3}


@dataclass(frozen=True)
class Net:
    """group: of nets that differ in their depth. seconds: of a processor, an image."""

    model: str
    group: str
    convolutions: int
    attack: str
    seconds: float


SIGMOIDS = tuple(Net(f"{SIGMOID}-{n}", "sigmoids, L-BFGS", n, "inversion", 1.0) for n in DEPTHS)
RELUS = tuple(Net(f"{RELU}-{n}", "ReLU, signs", n, "cosine", 3.0) for n in DEPTHS)
# resnet18 itself has 11 million numbers, of which a step of the attack takes 1.2 s on CIFAR-10.
RESIDUAL = Net(deep.RESIDUAL, "ReLU, signs", 17, "cosine", 16.0)


def cases(size: str, seed: int) -> list[Case]:
    """Quick: the least and the most of convolutions, for less long."""
    if size == "quick":
        ends = [SIGMOIDS[0], SIGMOIDS[-1], RELUS[0], RELUS[-1]]
        return [_case(replace(net, seconds=net.seconds / 4), seed) for net in ends]
    return [_case(net, each) for net in (*SIGMOIDS, *RELUS, RESIDUAL) for each in seeds(seed, SEEDS[size])]


def _case(net: Net, seed: int) -> Case:
    return Case(f"{net.model}, seed {seed}", partial(run_case, net, seed))


def run_case(net: Net, seed: int) -> Iterator[Row | str]:
    """Gradients at first weights. Raises: NotImplementedError where the data set is not to be had."""
    target = Target.drawn("mnist", seed)
    with deep.named():
        knowledge = target.knowledge(net.model, seed)
        uploads = target.uploads(knowledge)
        yield f"{len(uploads)} images"
        view = View(tuple(Part(frozenset({u}), x[None]) for u, x in enumerate(uploads)))
        found = deep.attacked(net.attack, view, knowledge, Budget(seconds=net.seconds), seed)
    row = {"group": net.group, "model": net.model, "convolutions": net.convolutions, "seed": seed}
    row |= {"numbers": len(uploads[0]), "budget": net.seconds}
    yield row | target.scored(found)


def table(rows: Sequence[Row]) -> Table:
    """numbers: of an update. s: that the attack may take for an image."""
    by = cells_of(rows, "group", "convolutions")
    return Table.of(
        ("layers, attack", "convolutions", "numbers", "s", *HEADER, "so"),
        [
            (
                group,
                str(convolutions),
                f"{some[0]['numbers']:,}",
                f"{some[0]['budget']:g}",
                *Summary.of(some).cells,
                word(some, by[group, SHALLOW], "depth hides it from this attack"),
            )
            for (group, convolutions), some in by.items()
        ],
    )
