"""Graphs, and the numbers of a session, as this package has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from secagg import CKKS, Bounded, Counts, Decoys, Masking, Plain, Private, Roster, Weight
from secagg.ckks.packing import Layout
from secagg.graph import graph_of, sparsest
from secagg.masking import groups
from secagg.policy import Adversary
from secagg.specs import Spec
from secagg.wire import MAX_ID
from tests.vectors.makers import published
from tests.vectors.makers.chance import Counter
from tests.vectors.makers.plans import Json
from tests.vectors.makers.sessions import specification

# graph.json


def graph() -> Json:
    sid = Counter("graph")
    some = [0, 1, 2, 3, 5, 8, 300]
    cases = [
        (8, 4, some, bytes(32)),
        (4, 3, [0, 5, 300, MAX_ID], sid(32)),
        (4, 3, [5, 300, MAX_ID], sid(32)),
        (6, 4, list(range(6)), sid(32)),
        (6, 4, [0, 1, 127, 300, 65536], sid(32)),
        (6, 2, list(range(6)), sid(32)),
        (10, 8, list(range(0, 1000, 100)), sid(32)),
        (16, 14, list(range(11)), sid(32)),
        (50, 22, list(range(50)), sid(32)),
        (50, 22, list(range(0, 70, 2)), sid(32)),
        (100, 34, list(range(30, 100)), sid(32)),
    ]
    base = Counter("graph/cuts")
    return {
        "what": "Graphs (section 7.2; null: an empty place of the ring), batches (7.3), cuts into groups, "
        "and A_g and the least m_g of n clients, A corrupt, in G groups (7.4): [n, A, G, adversary, A_g, "
        "m_g]; and the choice of k and t (5.2): "
        "[clients, corrupt, dropout, adversary, [k, t] or null where only the complete graph will do]. "
        "choices_at_40_bits: sigma is 40 for both adversaries, corrupt and dropout are fractions of the "
        "cohort.",
        "graphs": [_graph(*case) for case in cases],
        "batches": [_batches(n, batch) for n, batch in ((6, 2), (7, 2), (7, 3), (9, 5), (5, 5), (11, 4))],
        "cuts": [
            _cut(*case)
            for case in (
                (8, 3, some, bytes(32)),
                (8, 8, some, base(32)),
                (7, 2, some, base(32)),
                (100, 5, list(range(0, 200, 2)), base(32)),
                (100, 9, list(range(30, 100)), base(32)),
            )
        ],
        "groups": [_groups(*case) for case in _GROUPS],
        "choices": [_choice(*case) for case in _CHOICES],
        "choices_at_40_bits": {
            "source": published.DEGREES_SOURCE,
            "table": [[n, A, d, who, [k, t]] for n, A, d, who, k, t in published.DEGREES],
        },
    }


def _graph(clients: int, degree: int, members: Sequence[int], sid: bytes) -> Json:
    made = graph_of(tuple(members), clients, degree, sid)
    shown = made.members if len(members) <= 16 else made.members[:2]
    return {
        "clients": clients,
        "degree": degree,
        "sid": sid.hex(),
        "members": list(members),
        "ring": None if made.complete else made._ring,
        "neighbours": {str(u): sorted(made.neighbours(u)) for u in shown},
        "holders": {str(u): sorted(made.holders(u)) for u in shown},
    }


def _batches(n: int, batch: int) -> Json:
    numbers: Json = {"corrupt": 0, "dropout": 0, "small_cohort": n < 3}
    scheme = Masking.for_cohort(n, Counts(length=1, maximum=1), batch=batch, **numbers)
    return {"clients": n, "batch": batch, "batches": [sorted(part) for part in scheme.batches(None)]}


def _cut(clients: int, number: int, members: Sequence[int], base: bytes) -> Json:
    made = groups.cut(tuple(members), clients, number, base)
    shown = {"clients": clients, "number": number, "base": base.hex(), "members": list(members)}
    return {**shown, "groups": [sorted(group) for group in made]}


_GROUPS = [
    (n, A, number, adversary)
    for adversary in ("semi-honest", "active")
    for n, A, number in (
        *((8, 1, 2), (9, 0, 3), (12, 1, 2), (40, 4, 4), (40, 4, 8), (100, 10, 3), (100, 10, 5)),
        *((100, 10, 20), (200, 20, 4), (1000, 30, 10), (1000, 100, 3), (1000, 100, 4), (1000, 1, 100)),
    )
]


def _groups(n: int, A: int, number: int, adversary: Adversary) -> list[Any]:
    A_g = groups.corrupt_in_group(n, A, number)
    return [n, A, number, adversary, A_g, groups.least_of_group(n, A, number, adversary)]


_CHOICES = [
    (n, A, d, adversary)
    for adversary in ("semi-honest", "active")
    for n, A, d in (
        *(
            (4, 1, 0),
            (6, 1, 1),
            (6, 1, 2),
            (7, 1, 1),
            (8, 1, 2),
            (9, 1, 4),
            (10, 1, 3),
            (16, 1, 6),
            (20, 0, 0),
        ),
        *((20, 2, 6), (50, 5, 15), (50, 5, 5), (64, 3, 3), (100, 1, 10), (100, 10, 30), (100, 30, 30)),
        *(
            (200, 20, 60),
            (500, 50, 50),
            (1000, 100, 300),
            (1000, 50, 50),
            (1000, 450, 450),
            (10000, 1000, 3000),
        ),
    )
]


def _choice(n: int, A: int, d: int, adversary: str) -> list[Any]:
    choice = sparsest(n, A, d, adversary)
    return [n, A, d, adversary, None if choice is None else list(choice)]


# parameters.json

ONE = Counts(length=1, maximum=1)
SEVERAL: Mapping[str, Spec] = {
    "update": Bounded(length=2**20, bound=0.5, bits=12, clip=1.5),
    "": Bounded(length=1, bound=16.0),
    "größe": Counts(length=3, maximum=2**53 - 1),
    "weight": Weight(maximum=255),
}

NOISED: Mapping[str, Spec] = {
    "": Private(length=2**20, clip=0.5),
    "count": Private(length=1, clip=1.0, bits=12, noise="discrete-gaussian", multiplier=10.0),
}


WEIGHED: Json = {"corrupt": 2, "groups": 4, "public_weights": True, "m_g": 7}
LISTED, BASE = list(range(0, 1000, 100)), bytes(range(32))


def roster_of(clients: int) -> Roster:
    """One whose keys play no part; key and digest by SHA-256."""
    rng = Counter(f"roster of {clients}")
    return Roster(rng(32), {u: rng(32) for u in range(clients)})


def parameters() -> Json:
    rosters = {clients: roster_of(clients) for clients in (4, 5, 8, 10, 20, 60)}
    cases: list[tuple[str, int, Mapping[str, Spec], Json, int | None]] = [
        *(
            (f"defaults, {n} clients", n, {"": ONE}, {}, None)
            for n in (3, 4, 5, 8, 10, 20, 49, 50, 100, 1000)
        ),
        *((f"defaults, {n} clients", n, {"": ONE}, {"adversary": "active"}, n) for n in (4, 5, 8, 10, 20)),
        ("a roster beyond the cohort", 10, {"": ONE}, {"adversary": "active"}, 60),
        ("several vectors", 5, SEVERAL, {"prg": "chacha20"}, None),
        ("counts given", 20, {"": ONE}, {"corrupt": 3, "dropout": 2}, None),
        ("fractions given", 20, {"": ONE}, {"corrupt": 0.25, "dropout": 0.1}, None),
        ("threshold and m_min given", 10, {"": ONE}, {"threshold": 7, "m_min": 8}, None),
        ("private vectors", 20, NOISED, {}, None),
        ("private vectors, on a sparse graph", 100, NOISED, {"corrupt": 5}, None),
        ("private vectors, and blanks", 20, NOISED, {"blank": 0.75}, None),
        ("batches", 20, {"": ONE}, {"adversary": "active", "batch": 5}, 20),
        ("groups", 100, {"": ONE}, {"corrupt": 5, "groups": 5}, None),
        ("groups, active", 60, {"": ONE}, {"adversary": "active", "corrupt": 2, "groups": 3}, 60),
        ("groups, with weights and m_g given", 40, SEVERAL, WEIGHED, None),
        ("groups of private vectors", 60, NOISED, {"corrupt": 3, "groups": 2}, None),
        ("groups cut as before", 10, {"": ONE}, {"groups": 2, "cohort": LISTED, "cut": BASE}, None),
        ("unsafe groups", 20, {"": ONE}, {"groups": 10, "unsafe_groups": True}, None),
        ("sparse although small", 10, {"": ONE}, {"graph": "sparse", "corrupt": 1, "dropout": 3}, None),
        ("sparse, active", 10, {"": ONE}, {"graph": "sparse", "adversary": "active", "dropout": 3}, 10),
        ("complete although large", 100, {"": ONE}, {"graph": "complete"}, None),
        ("an experiment with two", 2, {"": ONE}, {"small_cohort": True}, None),
    ]
    plain = Plain.for_cohort(3, SEVERAL)
    return {
        "what": "Parameters (section 5): arguments, as far as they are not the defaults; numbers that "
        "follow; the offer; "
        "its digest. roster: the number of its clients; its digest stands in the offer. plan, of ckks: what "
        "follows beside (protocol-ckks.md, section 3); a layout is real, with its unit, or digits of a base, "
        "or limbs of so many bits.",
        "cases": [
            *(_parameters(*case, rosters) for case in cases),
            {
                "what": "plain",
                "arguments": {"scheme": "plain", "clients": 3},
                "vectors": {name: specification(spec) for name, spec in SEVERAL.items()},
                "offer": plain.offer().hex(),
                "parameters": plain.digest().hex(),
            },
            *(_of_ckks(*case, rosters) for case in _CKKS),
            *(_of_decoys(*case, rosters) for case in _DECOYS),
        ],
    }


def _parameters(
    what: str,
    clients: int,
    vectors: Mapping[str, Spec],
    arguments: Json,
    listed: int | None,
    rosters: Mapping[int, Roster],
) -> Json:
    roster = rosters[listed] if listed is not None else None
    scheme = Masking.for_cohort(clients, vectors, roster=roster, **arguments)
    names = ("corrupt", "dropout", "degree", "threshold", "m_min")
    return {
        "what": what,
        "arguments": {
            "clients": clients,
            **{name: value.hex() if isinstance(value, bytes) else value for name, value in arguments.items()},
            **({"roster": listed} if listed else {}),
        },
        "vectors": {name: specification(spec) for name, spec in vectors.items()},
        "numbers": {name: getattr(scheme, name) for name in names},
        **({"m_g": scheme.groups.m_g} if isinstance(scheme.groups, groups.Groups) else {}),
        "ring_bits": scheme.ring_bits(),
        "offer": scheme.offer().hex(),
        "parameters": scheme.digest().hex(),
    }


_SMALL: Mapping[str, Spec] = {"counts": Counts(length=3, maximum=1), "weight": Weight(maximum=1)}
_LARGE: Mapping[str, Spec] = {"": Bounded(length=10**6, bound=1.0)}
_CKKS: list[tuple[str, int, Mapping[str, Spec], Json, int | None]] = [
    ("ckks, the smallest ring", 3, {"": ONE}, {}, None),
    ("ckks, several digits in a slot", 4, _SMALL, {}, None),
    ("ckks, several vectors", 5, SEVERAL, {}, None),
    ("ckks, a million coordinates", 100, _LARGE, {}, None),
    ("ckks, limbs", 1000, {"": Bounded(length=1000, bound=1.0, bits=32)}, {}, None),
    ("ckks, m_min given and a roster", 10, {"": ONE}, {"m_min": 8}, 10),
    ("ckks, an experiment with two", 2, {"": ONE}, {"small_cohort": True}, None),
    ("ckks released, the smallest ring", 3, {"": ONE}, {"ending": "release"}, None),
    ("ckks released, several vectors", 5, SEVERAL, {"ending": "release"}, None),
    ("ckks released, a million coordinates", 100, _LARGE, {"ending": "release"}, None),
    ("ckks released, a million clients", 10**6, {"": Weight(maximum=2**31 - 1)}, {"ending": "release"}, None),
    ("ckks released, with a roster", 20, _SMALL, {"ending": "release"}, 20),
]


def _of_ckks(
    what: str,
    clients: int,
    vectors: Mapping[str, Spec],
    arguments: Json,
    listed: int | None,
    rosters: Mapping[int, Roster],
) -> Json:
    roster = rosters[listed] if listed is not None else None
    scheme = CKKS.for_cohort(clients, vectors, roster=roster, **arguments)
    given = {"scheme": "ckks", "clients": clients, **arguments, **({"roster": listed} if listed else {})}
    plan = scheme.plan
    return {
        "what": what,
        "arguments": given,
        "vectors": {name: specification(spec) for name, spec in vectors.items()},
        "plan": {
            "primes": list(plan.ring.primes),
            "capacity": plan.capacity,
            "layouts": {name: _layout(layout) for name, layout in sorted(plan.layouts.items())},
            "slots": plan.slots,
            "upload_bytes": plan.upload_bytes,
        },
        "offer": scheme.offer().hex(),
        "parameters": scheme.digest().hex(),
    }


_DECOYS: list[tuple[str, int, Mapping[str, Spec], Json, int | None]] = [
    ("decoys, the smallest ring", 3, {"": ONE}, {"candidates": 2}, None),
    ("decoys, several vectors", 5, {"": Bounded(length=5, bound=1.0, bits=12), **_SMALL}, {}, None),
    ("decoys, a million coordinates", 100, _LARGE, {"candidates": 10}, None),
    (
        "decoys, as many clients as can be at 16 bits",
        16_000,
        {"": Bounded(length=9, bound=1.0)},
        {},
        None,
    ),
    ("decoys, m_min given and a roster", 10, {"": ONE}, {"m_min": 8, "candidates": 64}, 10),
]


def _of_decoys(
    what: str,
    clients: int,
    vectors: Mapping[str, Spec],
    arguments: Json,
    listed: int | None,
    rosters: Mapping[int, Roster],
) -> Json:
    roster = rosters[listed] if listed is not None else None
    scheme = Decoys.for_cohort(clients, vectors, roster=roster, **arguments)
    given = {"scheme": "decoys", "clients": clients, **arguments, **({"roster": listed} if listed else {})}
    return {
        "what": what,
        "arguments": given,
        "vectors": {name: specification(spec) for name, spec in vectors.items()},
        "plan": {"primes": list(scheme.plan.ring.primes), "upload_bytes": scheme.plan.upload_bytes},
        "offer": scheme.offer().hex(),
        "parameters": scheme.digest().hex(),
    }


def _layout(layout: Layout) -> Json:
    if layout.real:
        return {"slots": layout.slots, "real": layout.real}
    if layout.limbs > 1:
        return {"slots": layout.slots, "limbs": layout.limbs, "bits": layout.base.bit_length() - 1}
    return {"slots": layout.slots, "digits": layout.each, "base": layout.base}


FILES: dict[str, Callable[[], Json]] = {"graph": graph, "parameters": parameters}
