"""What the encoding of an update hides of the image in it: by bits, bound and weight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count

import numpy as np

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.inverted import HEADER, Summary, Target, Vector, cells_of
from benchmarks.leakage.perturbed import ATTACKERS, LEARNED, PLAIN, others, said
from benchmarks.spread import seeds
from fl.config.plan import LocalPlan
from fl.leakage.attack import Encoding
from fl.leakage.views import EXAMPLES, UPDATE, encoded
from secagg import Bounded, Weight
from secagg.crypto import KEY_BYTES
from secagg.encoding import centred, encode_vector

CLAIM = (
    "Updates of one MNIST image each, one step at rate 0.05 of `lenet-4conv` at its first weights, "
    "encoded as every scheme encodes them and then read in the clear: no mask, no sum. A bound of 3 is "
    "a client's default, tight is the largest number in that update; a weight of w_max/100 is that of a "
    "client with a hundredth of the most examples that one may have. Codes have two bits at least; of "
    "one bit are signs, times the mean size. plain: L-BFGS, 0.8 s of a processor an image; learned: a "
    "net that has learned from 6,000 public images, encoded likewise, 8 s for eight. What counts is how "
    "large a step of the codes is beside the mean number of an update, whatever made it so: at a third "
    "of that an image of 20 dB comes out, at a tenth 28 to 31, at a fiftieth 44, and at a thousandth "
    "and less all but what comes out of an update that is not encoded. So 16 bits hide nothing at full "
    "weight, at either bound. At one and a half steps and more L-BFGS finds nothing, and who has "
    "learned still does: 18 dB, of the signs alone, too, where the class mean has 13; of two bits 14.5, "
    "of 8 bits at the default bound 16. Labels come out wherever a step is below ten times the mean. To "
    "share as few bits as there can be is no protection; where a cell says that something is rounded "
    "away from this attack, no other was tried."
)
EXACT, SIGNS = "not encoded", "signs"
CONTROL = Control(
    "the same updates, not encoded, by the same attack",
    lambda row: row["bound"] == EXACT,
    by=("seed", "attack"),
)
ALONE = False
SECONDS = {"quick": {PLAIN: 0.2, LEARNED: 0.5}, "full": {PLAIN: 0.8, LEARNED: 1.0}}
"""Of a processor, an image."""
SEEDS = {"quick": 1, "full": 3}
BOUNDS = {"tight": None, "3": 3.0}
CLIENTS = 10  # of the session: they decide how wide its ring is, and no code
PLAN = LocalPlan(steps=1, batch_size=1, lr=0.05, momentum=0.0)


@dataclass(frozen=True)
class Cell:
    """bound: of BOUNDS, or EXACT, or SIGNS. share: w_max over w. learned: whether that attack is tried."""

    bound: str
    bits: int = 0
    share: int = 1
    learned: bool = False

    @property
    def encoding(self) -> Encoding | None:
        """As who learns of it is told."""
        return None if self.bound == EXACT else Encoding(self.bits, BOUNDS.get(self.bound), self.share)


FEW = (Cell(EXACT, learned=True), Cell("tight", 2, learned=True), Cell("3", 16), Cell("3", 16, 100))
CELLS = (
    Cell(EXACT, learned=True),
    Cell(SIGNS, 1, learned=True),
    *(Cell("tight", bits, learned=True) for bits in (2, 4)),
    *(Cell("tight", bits, share) for bits in (8, 16) for share in (1, 100)),
    *(Cell("3", bits, share, (bits, share) == (8, 1)) for bits in (8, 12) for share in (1, 100)),
    *(Cell("3", 16, share, share == 100) for share in (1, 10, 100)),
    *(Cell("3", bits, share) for bits in (20, 24) for share in (1, 100)),
)


def cases(size: str, seed: int) -> list[Case]:
    cells = FEW if size == "quick" else CELLS
    return [
        Case(f"seed {each}", partial(run_case, each, cells, SECONDS[size]))
        for each in seeds(seed, SEEDS[size])
    ]


def run_case(seed: int, cells: Sequence[Cell], seconds: Mapping[str, float]) -> Iterator[Row | str]:
    """step: the size of a step of the codes beside the mean absolute number of an update.

    Raises: NotImplementedError where the data set is not to be had.
    """
    target = Target.drawn("mnist", seed)
    knowledge = target.knowledge("lenet-4conv", seed, PLAN)
    uploads = target.uploads(knowledge)
    mean = float(np.mean(np.abs(uploads)))
    read = [[received(cell, x, rng) for x in uploads] for cell, rng in zip(cells, _drawn(seed), strict=False)]
    heads = [
        {"seed": seed, "bound": cell.bound, "bits": cell.bits, "share": cell.share}
        | {"step": float(np.mean([_step(cell, x) for x in uploads])) / mean}
        for cell in cells
    ]
    yield "plain"
    for head, found in zip(heads, target.attacked(knowledge, read, seconds[PLAIN], seed, PLAIN), strict=True):
        yield head | {"attack": PLAIN} | found
    for cell, head, each in zip(cells, heads, read, strict=True):
        if cell.learned:
            yield f"learned, {cell.bound}, {cell.bits} bits"
            knows = replace(target.with_own(knowledge), encoding=cell.encoding)
            (found,) = target.attacked(knows, [each], seconds[LEARNED], seed, LEARNED)
            yield head | {"attack": LEARNED} | found


def _drawn(seed: int) -> Iterator[np.random.Generator]:
    for number in count():
        yield np.random.default_rng([seed, number])


def received(cell: Cell, x: Vector, rng: np.random.Generator) -> Vector:
    """What can be read of an update."""
    if cell.bound == EXACT:
        return x
    if cell.bound == SIGNS:
        signs: Vector = np.sign(x) * np.abs(x).mean()
        return signs
    return rounded(x, _spec(x, BOUNDS[cell.bound], cell.bits), cell.share, rng)


def _step(cell: Cell, x: Vector) -> float:
    if cell.bound == EXACT:
        return 0.0
    if cell.bound == SIGNS:
        return 2 * float(np.abs(x).mean())
    spec = _spec(x, BOUNDS[cell.bound], cell.bits)
    return spec.bound / spec.levels * cell.share


def _spec(x: Vector, bound: float | None, bits: int) -> Bounded:
    return Bounded(length=len(x), bound=bound or float(np.abs(x).max()), bits=bits)


def rounded(x: Vector, spec: Bounded, share: int, rng: np.random.Generator) -> Vector:
    """What can be read of an update that a client with one example has encoded, where another may have
    `share` of them.
    """
    key = rng.bytes(KEY_BYTES)  # of an experiment that is to be repeated: a client's is a secret
    words, _ = encode_vector(spec, x, clients=CLIENTS, rounding_key=key, weight=(1, share))
    codes = {UPDATE: centred(spec, words, CLIENTS), EXAMPLES: np.array([1])}
    read: Vector = encoded(0, {UPDATE: spec, EXAMPLES: Weight(maximum=share)}, [codes]).updates[0]
    return read


def table(rows: Sequence[Row]) -> Table:
    """steps: how large a step of the codes is beside the mean absolute number of an update."""
    by = cells_of(rows, "bound", "bits", "share", "attack")
    return Table.of(
        ("bound", "bits", "weight", "steps", "attacker", *HEADER, "so"),
        [
            (
                key[0],
                str(key[1] or ""),
                "" if key[0] in (EXACT, SIGNS) else "w_max" if key[2] == 1 else f"w_max/{key[2]}",
                "" if key[0] == EXACT else f"{np.mean([row['step'] for row in some]):.2g}",
                ATTACKERS[key[3]],
                *Summary.of(some).cells,
                said(some, by[EXACT, 0, 1, key[3]], others(by, key)).replace(
                    "hidden from", "rounded away from"
                ),
            )
            for key, some in by.items()
        ],
    )
