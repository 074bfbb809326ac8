"""What dummies cost each party: shares that cancel, in split aggregation, and blanks, beside masking."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.played import PerRound, play
from secagg import Bounded, Masking, Private, Roster, Split, throwaway_identities
from secagg.errors import ClientId
from secagg.policy import Adversary
from secagg.session import relays_of
from secagg.specs import Spec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "Of 100,000 coordinates, of 16 bits each; nobody is lost. At 1000 clients and 2 relays a client of "
    "split aggregation takes less than 10 ms, each relay less than 1.2 s, and what a client sends is within "
    "1 % of one packed vector, whatever the number of relays: in one message. Masking takes five, and at "
    "100 clients more than ten times the client's time. (Of 1000 clients against an active server, and on "
    "the complete graph: cost, among the benchmarks of the protocol.) The price is trust: masks are opened "
    "by more than A clients with the server, shares by all relays with it. A blank takes the bytes of any "
    "other noised vector, and the time."
)
CONTROL = Control(
    "masking, of the same vectors", lambda row: row["scheme"] == "masking", by=("clients", "noise")
)
ALONE = True
CLIENTS = {"quick": 30, "full": 100}
MANY = {"quick": 60, "full": 1000}
LENGTH = {"quick": 20_000, "full": 100_000}
BITS = 16  # of a bounded vector's codes; of a private one's ring
CLIP = 1.0


@dataclass(frozen=True)
class Way:
    """of: masking's graph, or how many relays. noise: whether the vector is private, in a ring of BITS.
    blank: P, with noise. adversary: what the server may be.
    """

    scheme: str
    of: str | int
    noise: bool = False
    blank: float = 0.0
    adversary: Adversary = "active"

    @property
    def name(self) -> str:
        parts = [self.scheme, f"{self.of} relays" if self.scheme == "split" else str(self.of), self.adversary]
        return ", ".join(
            [*parts, *(["noise"] if self.noise else []), *([f"P {self.blank}"] if self.blank else [])]
        )


SPLIT = tuple(Way("split", M) for M in (2, 3, 4))
WAYS = (
    Way("masking", "complete"),
    Way("masking", "sparse"),
    *SPLIT,
    Way("masking", "sparse", noise=True),
    Way("masking", "sparse", noise=True, blank=0.5),
    Way("split", 2, noise=True),
    Way("split", 2, noise=True, blank=0.5),
)
OF_MANY = (Way("masking", "sparse", adversary="semi-honest"), *SPLIT)


def cases(size: str, seed: int) -> list[Case]:
    """Every way; and of many clients those that take no more than minutes."""
    length = LENGTH[size]
    every = [(CLIENTS[size], way) for way in WAYS] + [(MANY[size], way) for way in OF_MANY]
    return [Case(f"{n} clients, {way.name}", partial(run_case, way, n, length, seed)) for n, way in every]


def run_case(way: Way, n: int, length: int, seed: int) -> Row:
    """One session, nobody lost. packed: bytes of one vector in its ring. rounds: in
    which a client has something to say, after joining. up, down: of the client that has most.
    """
    M = int(way.of) if way.scheme == "split" else 0
    roster, identities = throwaway_identities(range(n), relays=M)
    scheme = scheme_of(way, n, length, roster)
    x = np.random.default_rng(seed).uniform(-1, 1, length).astype(np.float32)
    signing = identities if way.adversary == "active" else None
    costs, result = play(scheme, lambda u: lambda task: x, identities=signing)
    if len(result.survivors) != n:
        raise AssertionError("somebody was lost")
    (bits,), relays = scheme.ring_bits().values(), relays_of(scheme)
    return {
        "clients": n,
        **asdict(way),
        "length": length,
        "bits": bits,
        "packed": math.ceil(length * bits / 8),
        "degree": scheme.degree if isinstance(scheme, Masking) else None,
        "rounds": len(costs.client_ms()) - 1,
        "client_ms": costs.client_ms_all(),
        "client_ms_by_round": costs.client_ms(),
        "relay_s": costs.relays_s(),
        "server_s": costs.server_s_all(),
        "up": max(in_all(costs.up, u) for u in range(n)),
        "down": max(in_all(costs.down, u) for u in range(n)),
        "relay_up": [in_all(costs.up, r) for r in relays],
        "relay_down": [in_all(costs.down, r) for r in relays],
    }


def scheme_of(way: Way, n: int, length: int, roster: Roster) -> Masking | Split:
    """The scheme of a way, of n clients and vectors of `length` coordinates."""
    vector: Spec = Bounded(length=length, bound=1.0, bits=BITS)
    if way.noise:
        vector = Private(length=length, clip=CLIP, bits=BITS)
    how: dict[str, Any] = {"adversary": way.adversary, "roster": roster, "blank": way.blank}
    if way.scheme == "split":
        return Split.for_cohort(n, vector, relays=int(way.of), **how)
    return Masking.for_cohort(n, vector, graph="complete" if way.of == "complete" else "sparse", **how)


def in_all(of_rounds: PerRound[int], party: ClientId) -> int:
    """Bytes of a party in all rounds."""
    return sum(each.get(party, 0) for each in of_rounds.values())


def table(rows: Sequence[Row]) -> Table:
    """by: what hides a vector, from an active server if not said otherwise. opened by: who reads it together
    with the server. up: in packed vectors. A relay: the busiest.
    """
    header = (
        *("clients", "by", "opened by", "rounds", "a client", "a relay", "server"),
        *("up", "down", "relay up", "relay down"),
    )
    return Table.of(header, [_cells(row) for row in rows])


def _cells(row: Row) -> tuple[str, ...]:
    split = row["scheme"] == "split"
    return (
        f"{row['clients']:,}",
        _by(row),
        f"all {row['of']} relays" if split else "> A clients",
        str(row["rounds"]),
        f"{row['client_ms']:.1f} ms",
        f"{max(row['relay_s']):.2f} s" if split else "",
        f"{row['server_s']:.2f} s",
        f"x {row['up'] / row['packed']:.4f}",
        f"{row['down'] / 1000:.1f} kB",
        f"{max(row['relay_up']) / 1e6:.2f} MB" if split else "",
        f"{max(row['relay_down']) / 1e6:.1f} MB" if split else "",
    )


def _by(row: Row) -> str:
    parts = [f"{row['of']} relays" if row["scheme"] == "split" else f"masks, {row['of']}"]
    parts += ["semi-honest"] if row["adversary"] == "semi-honest" else []
    parts += ["noise"] if row["noise"] else []
    return ", ".join([*parts, f"P {row['blank']:g}"] if row["blank"] else parts)


def plot(rows: Sequence[Row]) -> Figure:
    """Of the largest cohort, without noise."""
    from benchmarks.plots import bars

    most = max(row["clients"] for row in rows)
    shown = [row for row in rows if row["clients"] == most and not row["noise"]]
    return bars(
        [_by(row) for row in shown],
        {
            "a client, ms": [row["client_ms_by_round"] for row in shown],
            "relays and server, s": [
                {**{f"relay {j}": s for j, s in enumerate(row["relay_s"])}, "server": row["server_s"]}
                for row in shown
            ],
        },
    )
