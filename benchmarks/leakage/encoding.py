"""What the encoding of an update hides of the image in it: by bits, bound and weight."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import product

import numpy as np

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.inverted import HEADER, Summary, Target, Vector, word
from benchmarks.spread import seeds
from fl.config.plan import LocalPlan
from fl.leakage.views import EXAMPLES, UPDATE, encoded
from secagg import Bounded, Weight
from secagg.crypto import KEY_BYTES
from secagg.encoding import centred, encode_vector

CLAIM = (
    "Updates of one MNIST image each, one step at rate 0.05 of `lenet-4conv` at its first weights, "
    "encoded as every scheme encodes them and then read in the clear: no mask, no sum. Inverted with 0.3 "
    "s of a processor an image. A bound of 3 is a client's default, tight is the largest number in that "
    "update; a weight of w_max/100 is that of a client with a hundredth of the most examples that one may "
    "have. What is sent is rounded in steps of bound / 2^(bits - 1) x w_max / w, and it is their size "
    "beside the update's mean number (steps) that decides, whichever of the three makes it: up to a third "
    "of it the image is found with every seed, and at nine tenths with none. 16 bits hide it only under "
    "the default bound and at a hundredth of the weight, 20 and 24 bits never. This is rounding, and "
    "nothing that a scheme may be praised for: a server that chooses bits, bound and largest weight turns "
    "it off."
)
EXACT = "not encoded"
CONTROL = Control("the same updates, not encoded", lambda row: row["bound"] == EXACT, by=("seed",))
ALONE = False
SECONDS = {"quick": 0.3, "full": 0.3}  # of a processor, an image
SEEDS = {"quick": 1, "full": 3}
BITS = {"quick": (8, 16), "full": (8, 12, 16, 20, 24)}
BOUNDS = {"tight": None, "3": 3.0}
SHARES = (1, 10, 100)  # w_max over w
CLIENTS = 10  # of the session: they decide how wide its ring is, and no code
PLAN = LocalPlan(steps=1, batch_size=1, lr=0.05, momentum=0.0)


def cases(size: str, seed: int) -> list[Case]:
    return [
        Case(f"seed {each}", partial(run_case, each, BITS[size], SECONDS[size]))
        for each in seeds(seed, SEEDS[size])
    ]


def run_case(seed: int, of_bits: Sequence[int], seconds: float) -> list[Row]:
    """step: the size of a step of the codes beside the mean absolute number of an update.

    Raises: NotImplementedError where the data set is not to be had.
    """
    target = Target.drawn("mnist", seed)
    knowledge = target.knowledge("lenet-4conv", seed, PLAN)
    uploads = target.uploads(knowledge)
    cells: list[Row] = [{"bound": EXACT, "bits": None, "share": 1, "step": 0.0}]
    read, mean = [uploads], float(np.mean(np.abs(uploads)))
    for bound, bits, share in product(BOUNDS, of_bits, SHARES):
        rng = np.random.default_rng([seed, bits, share])
        specs = [_spec(x, BOUNDS[bound], bits) for x in uploads]
        read.append([rounded(x, spec, share, rng) for x, spec in zip(uploads, specs, strict=True)])
        step = float(np.mean([spec.bound / spec.levels for spec in specs])) * share / mean
        cells.append({"bound": bound, "bits": bits, "share": share, "step": step})
    found = target.attacked(knowledge, read, seconds, seed)
    return [{"seed": seed} | cell | one for cell, one in zip(cells, found, strict=True)]


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
    by: dict[tuple[str, int | None, int], list[Row]] = {}
    for row in rows:
        by.setdefault((row["bound"], row["bits"], row["share"]), []).append(row)
    control = by[EXACT, None, 1]
    return Table.of(
        ("bound", "bits", "weight", "steps", *HEADER, "so"),
        [
            (
                bound,
                "" if bits is None else str(bits),
                "" if bits is None else "w_max" if share == 1 else f"w_max/{share}",
                "" if bits is None else f"{np.mean([row['step'] for row in some]):.2g}",
                *Summary.of(some).cells,
                word(some, control, "rounding hides it"),
            )
            for (bound, bits, share), some in by.items()
        ],
    )
