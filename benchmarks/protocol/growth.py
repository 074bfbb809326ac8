"""How cost grows with the cohort and with the vector, beside what the papers' formulas predict."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.protocol.cost import lost_of, measure
from secagg import Bounded, Masking
from secagg.bits import add_packed, pack
from secagg.crypto import SecretKey, Tag, kdf, seal, unseal
from secagg.encoding import encode_vector
from secagg.masking.messages import (
    Delivery,
    MaskedInputRequest,
    SelfMaskShare,
    ShareKeys,
    ShareKeysRequest,
    Unmasking,
)
from secagg.policy import GraphChoice
from secagg.prg import add_masks
from secagg.shamir import SHARE_BYTES, _weights_at_zero, recon, share
from secagg.wire import decode
from secagg.wire import encode as to_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "Cost grows as Bonawitz et al. (2017) and Bell et al. (2020) count operations. With k neighbours a "
    "client makes 2k key agreements, deals two secrets and expands k + 1 masks of m words; the server of n "
    "takes off a mask for each survivor and one for each surviving neighbour of each lost client. k is "
    "n - 1 on the complete graph and grows as log n on the sparse one. Predicted: those counts, times what "
    "one operation took alone at its best. Left out is all other work: most of it, from thousands of "
    "clients on, is that a client reads and hashes every key of the cohort, where Bell et al. show it "
    "its neighbours' alone; and, from 10^7 coordinates on, memory that the processor's caches do not hold."
)
CONTROL = Control("the papers' formulas, in each row", lambda row: "predicted_client_ms" in row)
ALONE = True
LOST = 0.3
Session = tuple[str, int, int, GraphChoice]  # what grows, clients, coordinates
_SHORT = 10_000
CASES: dict[str, list[Session]] = {
    "quick": [
        *(("clients", n, 1000, "complete") for n in (25, 50, 100, 200)),
        *(("clients", n, 1000, "sparse") for n in (50, 100, 200, 400)),
        *(("coordinates", 10, m, "complete") for m in (10**4, 10**5, 10**6)),
    ],
    "full": [
        *(("clients", n, _SHORT, "complete") for n in (50, 100, 200, 400, 800)),
        *(("clients", n, _SHORT, "sparse") for n in (100, 300, 1000, 3000, 10_000)),
        *(("coordinates", 10, m, "complete") for m in (10**4, 10**5, 10**6, 10**7, 10**8)),
    ],
}
_LEAST_SECONDS = 1.0  # of sessions of one case, of which there are one at least
_MOST_ALONE = 10**6  # coordinates on which an operation is timed alone


def cases(size: str, seed: int) -> list[Case]:
    return [
        Case(f"{n} clients, {m:,} coordinates, {graph}", partial(run_case, grows, n, m, graph, seed))
        for grows, n, m, graph in CASES[size]
    ]


def alone(scheme: Masking) -> dict[str, float]:
    """Seconds that one operation takes by itself, at the size it has in a session of the scheme."""
    n, k, t = scheme.clients, scheme.degree, scheme.threshold
    whole, bits = scheme.vectors[""].length, scheme.ring_bits()[""]
    m = min(whole, _MOST_ALONE)
    key, other, seed = SecretKey.generate(), SecretKey.generate().public, os.urandom(32)
    shares = share(7, t, range(1, k + 2))
    some = {x: shares[x] for x in range(1, t + 1)}
    spec = Bounded(length=m, bound=1.0)
    x = np.zeros(m, np.float32)
    y, _ = encode_vector(spec, x, clients=n, rounding_key=seed)
    packed, sealed = pack(y, bits), seal(seed, bytes(66), b"")
    listed = to_bytes(ShareKeysRequest({v: (os.urandom(32), os.urandom(32), b"") for v in range(n)}))
    long = whole / m
    return {
        "agree": timed(lambda: key.agree(other)),
        "derive": timed(lambda: kdf(Tag.PAIR_MASK, seed, seed, 1, 2, "")),
        "seal": timed(lambda: seal(seed, bytes(66), b"")),
        "open": timed(lambda: unseal(seed, sealed, b"")),
        "share": timed(lambda: share(7, t, range(1, k + 2))),
        "rebuild": timed(lambda: rebuild(some, scheme)),
        "list": timed(lambda: decode(ShareKeysRequest, listed)),
        "messages": timed(lambda: in_and_out(k, n, sealed)),
        "mask": long * timed(lambda: add_masks(y, [seed] * 10)) / 10,
        "encode": long * timed(lambda: pack(encode_vector(spec, x, clients=n, rounding_key=seed)[0], bits)),
        "add": long * timed(lambda: add_packed(y, packed, bits)),
    }


def rebuild(shares: dict[int, int], scheme: Masking) -> None:
    """A secret of its shares, with all that takes in a session."""
    if not scheme.complete:  # where each client has holders of its own
        _weights_at_zero.cache_clear()
    recon(shares)


def in_and_out(k: int, n: int, sealed: bytes) -> None:
    """The messages of one client that grow with its neighbours, written once and read once."""
    delivery, returned = Delivery(sealed, None), SelfMaskShare(sealed[:SHARE_BYTES])
    decode(ShareKeys, to_bytes(ShareKeys(dict.fromkeys(range(k), sealed), b"", {}, b"")))
    decode(
        MaskedInputRequest, to_bytes(MaskedInputRequest(list(range(n)), dict.fromkeys(range(k), delivery)))
    )
    decode(Unmasking, to_bytes(Unmasking(dict.fromkeys(range(k), returned))))


def timed(work: Callable[[], object]) -> float:
    """Processor seconds, the best of five tries that take a few milliseconds each."""
    count, best = 1, 0.0
    while best < 0.003:
        begun = time.process_time()
        for _ in range(count):
            work()
        best, count = time.process_time() - begun, 2 * count
    count //= 2
    for _ in range(4):
        begun = time.process_time()
        for _ in range(count):
            work()
        best = min(best, time.process_time() - begun)
    return best / count


def formula(scheme: Masking, lost: int, one: dict[str, float]) -> tuple[float, float]:
    """Seconds of a client and of the server: operations counted as in the papers, and the messages."""
    n, k = scheme.clients, scheme.degree
    left = n - lost
    beside = k * left / (n - 1)  # neighbours of a client that survived
    dealing = 2 * one["share"] + k * (one["agree"] + 2 * one["derive"] + one["seal"] + one["open"])
    masking = one["encode"] + k * (one["agree"] + one["derive"]) + (k + 1) * one["mask"]
    unmasking = left * (one["rebuild"] + one["derive"] + one["mask"])
    unmasking += lost * (one["rebuild"] + beside * (one["agree"] + one["derive"] + one["mask"]))
    client = one["list"] + one["messages"] + dealing + masking
    checking = 2 * n * one["agree"]  # that no public key is of small order
    return client, n * one["messages"] + checking + left * one["add"] + unmasking


def run_case(grows: str, n: int, m: int, graph: GraphChoice, seed: int) -> Row:
    """Semi-honest; the costs of the median of as many sessions as fit in a second."""
    scheme = Masking.for_cohort(n, Bounded(length=m, bound=1.0), graph=graph)
    lost = lost_of(n, LOST, seed)
    one = alone(scheme)
    client, server = list[float](), list[float]()
    while sum(server) + n * sum(client) / 1000 < _LEAST_SECONDS:
        costs = measure(scheme, None, lost, seed)
        client.append(costs.client_ms_all())
        server.append(costs.server_s_all())
    said = formula(scheme, len(lost), one)
    return {
        "grows": grows,
        "clients": n,
        "coordinates": m,
        "graph": graph,
        "degree": scheme.degree,
        "lost": len(lost),
        "client_ms": client,
        "server_s": server,
        "operation_us": {name: 1e6 * seconds for name, seconds in one.items()},
        "predicted_client_ms": 1000 * said[0],
        "predicted_server_s": said[1],
    }


def series(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """(what grows, graph) -> the rows, in their order."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row["grows"], row["graph"]), []).append(row)
    return found


LETTERS = {"clients": "n", "coordinates": "m"}  # the papers' own
PARTIES = (("a client", "client_ms", 1000.0), ("the server", "server_s", 1.0))


def slope(grows: str, one: Row, other: Row, name: str) -> float:
    """d ln cost / d ln (what grows), from one row to the other."""
    before, after = (statistics.median(np.atleast_1d(row[name])) for row in (one, other))
    return math.log(after / before) / math.log(other[grows] / one[grows])


def table(rows: Sequence[Row]) -> Table:
    """Slopes from one line to the next; the last line of a series has those from its first to its last."""
    header = ("grows", "to", "k")
    cells = list[tuple[str, ...]]()
    for (grows, graph), each in series(rows).items():
        for one, row in zip([None, *each], each, strict=False):
            numbers = list[str]()
            for _, name, unit in PARTIES:
                took = (1000 / unit * x for x in (statistics.median(row[name]), row["predicted_" + name]))
                numbers += [" / ".join(map(ms, took)), slopes(grows, one, row, name)]
            cells.append((f"{LETTERS[grows]}, {graph}", f"{row[grows]:,}", str(row["degree"]), *numbers))
        ends = [("", slopes(grows, each[0], each[-1], name)) for _, name, _ in PARTIES]
        cells.append((f"{LETTERS[grows]}, {graph}", "in all", "", *ends[0], *ends[1]))
    parties = ((f"{who} / predicted", "slope / predicted") for who, *_ in PARTIES)
    return Table.of((*header, *chain.from_iterable(parties)), cells)


def ms(milliseconds: float) -> str:
    """Milliseconds for people."""
    return f"{milliseconds:,.0f} ms" if milliseconds >= 100 else f"{milliseconds:.3g} ms"


def slopes(grows: str, one: Row | None, other: Row, name: str) -> str:
    """Measured, and predicted; blank at the beginning of a series."""
    if one is None:
        return ""
    return " / ".join(f"{slope(grows, one, other, what):.2f}" for what in (name, "predicted_" + name))


def plot(rows: Sequence[Row]) -> Figure:
    from benchmarks.plots import lines

    panels = {}
    for (grows, graph), each in series(rows).items():
        curves = {}
        for who, name, unit in PARTIES:
            curves[who] = [(row[grows], statistics.median(row[name]) / unit) for row in each]
            curves[f"~{who}, predicted"] = [(row[grows], row["predicted_" + name] / unit) for row in each]
        other = "coordinates" if grows == "clients" else "clients"
        panels[f"{graph} graph, {each[0][other]:,} {other}"] = (grows, "processor seconds", curves)
    return lines(panels)
