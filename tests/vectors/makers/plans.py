"""The sessions that are played: who takes part, with which numbers and vectors, and who drops out when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from secagg import Bounded, Counts, Private, Weight
from secagg.specs import Spec

MIXED: dict[str, Spec] = {
    "counts": Counts(length=3, maximum=9),
    "update": Bounded(length=5, bound=1.0, bits=8),
    "weight": Weight(maximum=4),
    "wide": Bounded(length=2, bound=8.0, bits=32, clip=10.0),
}
IDS = (0, 1, 5, 127, 128, 255, 256, 300, 65535, 65536, 70000, 2**24, 2**30, 2**31 - 4, 2**31 - 3, 2**31 - 2)
"""Both ends of every form that an id has on the wire."""
THREE, FOUR = (0, 300, 2**31 - 2), (0, 5, 300, 2**31 - 2)
SIX = (0, 1, 127, 128, 300, 65536)

Json = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """A session to be played. numbers: arguments of `Masking.for_cohort`. drop: round -> whom it loses.
    listed: in the roster, active only; the cohort is part of it. joint: the task goes out with the offer."""

    name: str
    what: str
    ids: Sequence[int]
    numbers: Mapping[str, Any]
    vectors: Mapping[str, Spec] = field(default_factory=lambda: MIXED)
    drop: Mapping[str, Sequence[int]] = field(default_factory=dict)
    listed: Sequence[int] = ()
    joint: bool = False

    @property
    def brief(self) -> bool:
        """Without what only helps to find an error: shares, agreed secrets, masks of pairs; and without the
        requests that repeat what was said."""
        return "masked-input" not in self.drop or len(self.drop) > 1


def mixed_input(i: int) -> Json:
    """Of the i-th client: exact in binary, some of it out of range."""
    return {
        "counts": [i % 10, 9, 0],
        "update": [((7 * i + 5 * j) % 160 - 80) / 64 for j in range(5)],
        "weight": [1 + i % 4],
        "wide": [6.0 * 2.0 ** (i % 3 - 1), -8.0 * 2.0 ** (i % 3 - 1)],
    }


def some_input(specs: Mapping[str, Spec], i: int) -> Json:
    if specs == MIXED:
        return mixed_input(i)
    made: Json = {}
    for name, spec in specs.items():
        if isinstance(spec, Private):
            made[name] = [3.0 * 2.0 ** (i % 3 - 1), -4.0 * 2.0 ** (i % 3 - 1), *[0.0] * (spec.length - 2)]
        elif isinstance(spec, Bounded):
            made[name] = [((5 * i + 3 * j) % 64 - 32) * spec.bound / 32 for j in range(spec.length)]
        elif spec.maximum > 2**40 or isinstance(spec, Weight):
            made[name] = [spec.maximum - i - j for j in range(spec.length)]
        else:
            made[name] = [1 + (i + j) % spec.maximum for j in range(spec.length)]
    return made


UP_TO_MASKED_INPUT = ("join", "advertise-keys", "share-keys", "masked-input")
ROUNDS = {
    "semi-honest": (*UP_TO_MASKED_INPUT, "unmasking"),
    "active": (*UP_TO_MASKED_INPUT, "consistency-check", "unmasking"),
}


def plans() -> Iterator[Plan]:
    for graph in ("complete", "sparse"):
        for adversary in ("semi-honest", "active"):
            yield from _with_drops(graph, adversary)
            yield _with_drops_in_all_rounds(graph, adversary)
    yield Plan(
        "chacha20",
        "complete graph, semi-honest server, masks by ChaCha20 over several of its blocks; one vector has no "
        "name, one a name that is not ASCII; client 5 drops out in masked-input",
        FOUR,
        {"graph": "complete", "prg": "chacha20"},
        {"": Bounded(length=40, bound=2.0, bits=12, clip=16.0), "größe": Counts(length=3, maximum=2**40)},
        {"masked-input": [5]},
    )
    yield Plan(
        "wide-rings",
        "complete graph, active server, rings of 33 to 55 bits: words of 64 bits over several blocks, values "
        "over the edges of words; client 300 drops out in masked-input",
        FOUR,
        {"graph": "complete", "adversary": "active", "corrupt": 1, "dropout": 1},
        {
            "33": Bounded(length=21, bound=1.0, bits=31),
            "34": Bounded(length=3, bound=1.0, bits=32),
            "55": Counts(length=9, maximum=2**53 - 1),
            "weight": Weight(maximum=2**31 - 1),
        },
        {"masked-input": [300]},
        FOUR,
    )
    yield Plan(
        "private",
        "complete graph, active server, private vectors: the noise is drawn first of all, 32 bytes of each "
        "vector, and is the client's own affair, so that `codes` is where to begin; client 300 drops out in "
        "masked-input",
        FOUR,
        {"graph": "complete", "adversary": "active", "corrupt": 1, "dropout": 1},
        {
            "gaussian": Private(length=2, clip=8.0, bits=20, noise="discrete-gaussian", multiplier=0.5),
            "skellam": Private(length=5, clip=5.0, bits=12),
        },
        {"masked-input": [300]},
        FOUR,
    )
    yield Plan(
        "batches",
        "complete graph, active server, a batch of 2 clients and one of 3; client 1 drops out in "
        "masked-input and takes client 0 with it",
        IDS[:5],
        {"graph": "complete", "adversary": "active", "corrupt": 0, "threshold": 3, "batch": 2},
        {"": Counts(length=3, maximum=9)},
        {"masked-input": [1]},
        IDS[:5],
    )
    yield from _with_groups()
    yield Plan(
        "joint",
        "complete graph, active server, the task goes out with the offer: there is no round of joins, and "
        "every client's first answer is a joint one; client 0 is lost in it",
        FOUR,
        {"graph": "complete", "adversary": "active", "corrupt": 0, "dropout": 1},
        drop={"advertise-keys": [0]},
        listed=FOUR,
        joint=True,
    )


def _with_groups() -> Iterator[Plan]:
    yield Plan(
        "groups-semi-honest",
        "complete graph, semi-honest server, three groups of three, of which three have to be left; client 5 "
        "drops out in masked-input, so that its group is not opened",
        IDS[:9],
        {"graph": "complete", "corrupt": 1, "groups": 3, "public_weights": True},
        drop={"masked-input": [5]},
    )
    yield Plan(
        "groups-active",
        "complete graph, active server, two groups of four, of which three have to be left, cut by the base "
        "of an earlier session; client 127 drops out in masked-input",
        IDS[:8],
        {
            **{"graph": "complete", "adversary": "active", "corrupt": 1},
            **{"groups": 2, "cohort": IDS[:8], "cut": bytes(range(32))},
        },
        {"": Counts(length=3, maximum=9), "update": Bounded(length=5, bound=1.0, bits=8)},
        {"masked-input": [127]},
        IDS[:8],
    )
    yield Plan(
        "groups-sparse-active",
        "sparse graph, active server, two groups of eight; client 5 does not join and leaves a hole, client "
        "300 drops out in consistency-check: shares go to neighbours of either group, masks are of one's own",
        IDS[:16],
        {"graph": "sparse", "adversary": "active", "corrupt": 1, "dropout": 6, "groups": 2},
        {"": Counts(length=3, maximum=9)},
        {"join": [5], "consistency-check": [300]},
        IDS[:16],
    )


def _with_drops(graph: str, adversary: str) -> Iterator[Plan]:
    """Nobody, and then in each round somebody else."""
    numbers: Json = {"adversary": adversary, "graph": graph}
    about, name = f"{graph} graph, {adversary} server", f"{graph}-{adversary}"
    ids = FOUR if graph == "complete" else SIX
    numbers |= {} if graph == "complete" else {"corrupt": 1, "dropout": 1}
    listed = (*ids, ids[-1] - 1)
    yield Plan(f"{name}-no-drops", f"{about}; nobody drops out", ids, numbers, listed=listed)
    if graph == "complete":
        ids = THREE
        numbers |= {"corrupt": 0, "dropout": 1, "threshold": 2}
    for i, round in enumerate(ROUNDS[adversary]):
        gone = ids[i % len(ids)]
        what = f"{about}; client {gone} drops out in {round}"
        yield Plan(
            f"{name}-drop-{round}", what, ids, numbers, drop={round: [gone]}, listed=(*ids, ids[-1] - 1)
        )


def _with_drops_in_all_rounds(graph: str, adversary: str) -> Plan:
    """The smallest cohorts that can spare so many."""
    n, more = {
        ("complete", "semi-honest"): (11, {"corrupt": 1, "threshold": 6}),
        ("complete", "active"): (13, {"corrupt": 0, "threshold": 7}),
        ("sparse", "semi-honest"): (11, {"corrupt": 1, "dropout": 5}),
        ("sparse", "active"): (16, {"corrupt": 1, "dropout": 6}),
    }[graph, adversary]
    return Plan(
        f"{graph}-{adversary}-all-rounds",
        f"{graph} graph, {adversary} server; in every round another client drops out",
        IDS[:n],
        {"adversary": adversary, "graph": graph, **more},
        drop={round: [IDS[2 * i + 1]] for i, round in enumerate(ROUNDS[adversary])},
        listed=IDS[:n],
    )
