"""Bytes of a session by round and role, as they crossed, beside the formula of masking.messages.traffic."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.played import play
from benchmarks.protocol.cost import lost_of
from secagg import Bounded, Masking, throwaway_identities
from secagg.masking.messages import traffic
from secagg.policy import Adversary, GraphChoice

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "Every message is as long as the formula says; shares grow with the neighbours, keys with the cohort, "
    "and only the masked input with the vector. In bytes that a client sends / receives."
)
CONTROL = Control("the formula, in each row", lambda row: "formula_up" in row)
ALONE = False
WAYS = ("up", "down")
TASK = bytes(100)
ROUNDS = ("join", "advertise-keys", "share-keys", "masked-input", "consistency-check", "unmasking")
Session = tuple[int, int, float, Adversary, GraphChoice]  # clients, coordinates, lost before their upload
_OF: tuple[tuple[Adversary, GraphChoice], ...] = (
    ("semi-honest", "complete"),
    ("semi-honest", "sparse"),
    ("active", "complete"),
    ("active", "sparse"),
)
CASES: dict[str, list[Session]] = {
    "quick": [(n, 1000, 0.1, *of) for n in (50, 100) for of in _OF],
    "full": [
        *((n, 1000, 0.1, *of) for n in (50, 100, 200, 400) for of in _OF),
        *((100, m, 0.1, *of) for m in (10_000, 100_000) for of in _OF[1:3]),
        *((100, 1000, lost, *of) for lost in (0.0, 0.3) for of in _OF),
    ],
}


def cases(size: str, seed: int) -> list[Case]:
    return [
        Case(
            f"{n} clients, {m:,} coordinates, {part:.0%} lost, {adversary}, {graph}",
            partial(run_case, n, m, part, adversary, graph, seed),
        )
        for n, m, part, adversary, graph in CASES[size]
    ]


def run_case(n: int, m: int, part: float, adversary: Adversary, graph: GraphChoice, seed: int) -> Row:
    """The client that stayed and has the longest id."""
    roster, identities = throwaway_identities(range(n)) if adversary == "active" else (None, None)
    scheme = Masking.for_cohort(
        n, Bounded(length=m, bound=1.0), adversary=adversary, roster=roster, graph=graph
    )
    lost = lost_of(n, part, seed)
    costs, total = play(
        scheme,
        lambda u: lambda task: np.zeros(m, np.float32),
        task=TASK,
        drop={"masked-input": lost},
        identities=identities,
    )
    u, U3 = max(total.survivors), sorted(total.survivors)
    # How many neighbours stand around u, which ones hardly matters: ids of one length.
    holders = None if scheme.complete else range(u - scheme.degree, u)
    said = traffic(scheme, len(TASK), u, range(n), range(n), U3, U3 if roster else None, holders)
    return {
        "clients": n,
        "coordinates": m,
        "lost": len(lost),
        "adversary": adversary,
        "graph": graph,
        "degree": scheme.degree,
        "up": {round: each[u] for round, each in costs.up.items()},
        "down": {round: each[u] for round, each in costs.down.items()},
        "formula_up": {round: up for round, (up, _) in said.items()},
        "formula_down": {round: down for round, (_, down) in said.items()},
        "server_received": sum(sum(each.values()) for each in costs.up.values()),
        "server_sent": sum(sum(each.values()) for each in costs.down.values()),
    }


def table(rows: Sequence[Row]) -> Table:
    rounds = list(dict.fromkeys(round for row in reversed(rows) for round in row["up"]))
    rounds.sort(key=ROUNDS.index)
    header = ("clients", "coordinates", "lost", "server is", "graph", "k")
    cells = list[tuple[str, ...]]()
    for row in rows:
        case = (str(row["clients"]), f"{row['coordinates']:,}", str(row["lost"]))
        about = (*case, row["adversary"], row["graph"], str(row["degree"]))
        sizes = (both(*(row[way].get(round) for way in WAYS)) for round in rounds)
        total = both(*(sum(row[way].values()) for way in WAYS))
        server = f"{row['server_received'] / 1e6:.1f} / {row['server_sent'] / 1e6:.1f} MB"
        cells.append((*about, *sizes, total, f"{off_formula(row):.2%}", server))
    return Table.of((*header, *rounds, "in all", "off formula", "the server's end"), cells)


def both(sent: int | None, received: int | None) -> str:
    """Nothing of a round that there was not."""
    return "" if sent is None or received is None else f"{sent:,} / {received:,}"


def case_of(row: Row) -> str:
    """What a row is of, in words."""
    return (
        f"{row['clients']} clients, {row['coordinates']:,} coordinates, {row['lost']} lost, "
        f"{row['adversary']}, {row['graph']}"
    )


def off_formula(row: Row) -> float:
    """All differences, as a part of all bytes. Not 0 on a sparse graph alone, where the formula is given
    neighbours that are as many, and not the same: their ids may be a byte longer, and others are lost.
    """
    off = sum(
        abs(row[way][round] - said) for way in ("up", "down") for round, said in row["formula_" + way].items()
    )
    return float(off / sum(sum(row["formula_" + way].values()) for way in ("up", "down")))


def plot(rows: Sequence[Row]) -> Figure:
    from benchmarks.plots import bars

    names = [case_of(row) for row in rows]
    panels = {
        "a client sends, kB": [{r: size / 1000 for r, size in row["up"].items()} for row in rows],
        "a client receives, kB": [{r: size / 1000 for r, size in row["down"].items()} for row in rows],
    }
    return bars(names, panels)
