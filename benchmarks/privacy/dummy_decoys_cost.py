"""What decoys cost, by number of candidates, beside CKKS whose sum the clients keep, which hides more."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.played import play
from secagg import CKKS, Among, Bounded, Decoys

CLAIM = (
    "A session of 10 clients, 10^5 coordinates of 16 bits. CKKS whose sum the clients keep dominates: "
    "against the same adversary it shows no candidate at all, and takes fewer bytes in all, less time of "
    "clients and a fraction of the server's. Only the upload of two candidates is smaller than its "
    "ciphertexts. A candidate more is 2.6 bytes a coordinate more to send, and as much work for the server "
    "as the one before."
)
BETTER = "CKKS, keep"
CONTROL = Control("CKKS whose sum the clients keep", lambda row: row["who"] == BETTER)
ALONE = True
CLIENTS = 10
LENGTH = {"quick": 20_000, "full": 100_000}
CANDIDATES = {"quick": (2, 4), "full": (2, 4, 8)}


def cases(size: str, seed: int) -> list[Case]:
    """CKKS, and decoys by K. Raises: ModuleNotFoundError without TenSEAL."""
    import tenseal  # noqa: F401

    return [
        Case(
            f"K = {candidates}" if candidates > 1 else BETTER,
            partial(run_case, candidates, LENGTH[size], seed),
        )
        for candidates in (1, *CANDIDATES[size])
    ]


def run_case(candidates: int, length: int, seed: int) -> Row:
    """Of one candidate CKKS. up, down: bytes of a client in all rounds; client: seconds of each; server:
    seconds for one client's upload; off: what the mean is off by at most, from that of the vectors' codes.
    """
    rng, spec = np.random.default_rng(seed), Bounded(length=length, bound=1.0)
    x = np.clip(rng.normal(0, 0.1, (candidates, length)), -1, 1)
    x = np.rint(x * spec.levels) / spec.levels  # so that nothing is rounded
    given: Any = Among(x[0], list(x[1:])) if candidates > 1 else x[0]
    if candidates > 1:
        scheme: Decoys | CKKS = Decoys.for_cohort(CLIENTS, spec, candidates=candidates)
    else:
        scheme = CKKS.for_cohort(CLIENTS, spec, ending="keep")
    costs, total = play(scheme, lambda u: lambda task: given)
    last = CLIENTS - 1  # it makes no key of the session, of which there are few
    up, down = (
        sum(each[last] for each in rounds.values() if last in each) for rounds in (costs.up, costs.down)
    )
    return {
        "who": "decoys" if candidates > 1 else BETTER,
        "candidates": candidates,
        "clients": CLIENTS,
        "coordinates": length,
        "degree": scheme.degree,
        "modulus_bits": sum(scheme.prime_bits),
        "up": up,
        "down": down,
        "client": [sum(each.get(u, 0.0) for each in costs.client.values()) for u in range(CLIENTS)],
        "server": costs.server_s_all() / CLIENTS,
        "off": float(np.abs(total.mean[""] - x[0]).max()),
    }


def table(rows: Sequence[Row]) -> Table:
    """Bytes a coordinate, and milliseconds of processor time: of the median client, and of the server for
    each. shows: candidates, to the server."""
    header = ("scheme", "shows", "ring", "up, B each", "down, B each", "client", "server", "mean off by")
    return Table.of(header, [_cells(row) for row in rows])


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        row["who"],
        f"{row['candidates']}" if row["candidates"] > 1 else "none",
        f"{row['degree']}, {row['modulus_bits']} bits",
        *(f"{row[way] / row['coordinates']:.1f}" for way in ("up", "down")),
        f"{1000 * statistics.median(row['client']):.0f} ms",
        f"{1000 * row['server']:.0f} ms",
        f"{row['off']:.0e}" if row["off"] > 1e-12 else "exact",
    )
