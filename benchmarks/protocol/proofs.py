"""What it would take a client to prove that its hidden vector is short, beside what hiding it takes."""

from __future__ import annotations

import math
import os
import secrets
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from benchmarks import proven
from benchmarks.harness import Case, Control, Row, Table
from benchmarks.played import timed
from benchmarks.privacy import dummy_cost
from benchmarks.privacy.dummy_cost import Way
from benchmarks.proven import POINT_BYTES, SCALAR_BYTES
from secagg.prg import generator

CLAIM = (
    "Of 10^6 coordinates of 16 bits, a client that did no more than commit to each would take 540 times what "
    "our masking client takes; one that proves their norm by 1000 random projections 670 times, and one that "
    "proves each range 25,000 to 34,000 times: 18 to 26 minutes. It would send 32 MB, and 2 GB where each "
    "range has a proof of its own; masking sends 2.9 MB. Where two relays hold shares no exponentiation is "
    "needed: the part of PINE that is measured takes 0.94 s, and all of it sends 1.4 times a packed share. "
    "Reckoned are operations, times what one of X25519 takes in the same minute: the fastest there is here, "
    "though it cannot add points, so that such proofs would need another group. Tables of fixed bases, which "
    "make a commitment cheaper, are not counted."
)
MASKING, ON_SHARES = "masking", "L2 on shares"
CONTROL = Control("our masking client, of the same vector", lambda row: row["what"] == MASKING)
ALONE = True
LENGTHS = {"quick": (10_000,), "full": (10_000, 100_000, 1_000_000)}
CLIENTS = {"quick": 20, "full": 100}
BITS = 16  # of a coordinate
POWERS = 500  # taken to time one
REPETITIONS = 9
PROJECTIONS = 1000  # of RiseFL's example and experiments
PROJECTED_BITS = BITS + 24 + 4  # of an inner product, as its manual recommends
SCALAR_BITS = 255
ADDITIONS = SCALAR_BITS + SCALAR_BITS // 4  # of points, in one exponentiation by windows of four bits
PAIR = (ADDITIONS + SCALAR_BITS // 4) / ADDITIONS  # of two at once, which double together
CHECKS = 100  # of PINE's wraparound, as are all constants of `pine_bytes`
WAYS = {MASKING: Way("masking", "sparse"), "split, 2 relays": Way("split", 2)}
FASTEST = "X25519"  # of what there is here


@dataclass(frozen=True)
class Work:
    """Of one client's proof. powers: exponentiations that it takes the client, or what takes as long as so
    many; to_check: the server. sent: bytes, all in all.
    """

    powers: float
    to_check: float
    sent: int


def multi(terms: int) -> float:
    """A product of so many powers, in exponentiations: by buckets (Pippenger), of the best width, or one by
    one where they are few.
    """
    additions = min(-(-SCALAR_BITS // c) * (terms + (1 << c)) for c in range(1, 25))
    return min(additions / ADDITIONS, terms)


def committed(d: int) -> Work:
    """A commitment to each coordinate, under blinding of full length. What the server does with them is to
    multiply."""
    return Work(d, 0, d * POINT_BYTES)


def aggregated(bits: int) -> Work:
    """One proof (Bünz et al., IEEE S&P 2018) that all these are bits, whichever range each belongs to:
    beside the commitments.

    The blinding of all bits is committed to; then each round of the inner product takes two products of as
    many powers as there are places left, and folds the generators in pairs. Sent are two points a round, and
    four points and five scalars; checked is one product of all generators.
    """
    rounds = math.ceil(math.log2(bits))
    left = [2 ** (rounds - i) for i in range(rounds)]
    powers = multi(2 * left[0]) + sum(2 * multi(places) + PAIR * places for places in left)
    return Work(powers, multi(2 * left[0]), (2 * rounds + 4) * POINT_BYTES + 5 * SCALAR_BYTES)


def projected(d: int) -> Work:
    """RiseFL's: a commitment to each coordinate; the server's products of powers, checked in one of d; of
    each projection a commitment to it and to its square, with a proof that it is the square (4 powers, 3
    scalars); and the ranges of all. Left out: the coefficients, which both draw and multiply with, the
    server's own products, once a round, shares, and what all clients say of them.
    """
    ranges, commitments = aggregated(PROJECTIONS * PROJECTED_BITS), committed(d)
    return Work(
        commitments.powers + multi(d) + 6 * PROJECTIONS + ranges.powers,
        multi(d) + 4 * PROJECTIONS + ranges.to_check,
        commitments.sent + PROJECTIONS * (2 * POINT_BYTES + 3 * SCALAR_BYTES) + ranges.sent,
    )


def in_one_proof(d: int) -> Work:
    """Ranges of all coordinates."""
    ranges, commitments = aggregated(d * BITS), committed(d)
    return Work(
        commitments.powers + ranges.powers, ranges.to_check + multi(d), commitments.sent + ranges.sent
    )


def bit_by_bit(d: int) -> Work:
    """The same, each by itself: counted in one of a coordinate, which verifies."""
    made, checked = proven.Counter(), proven.Counter()
    proof = proven.prove(secrets.randbelow(2**BITS), BITS, made)
    if not proven.is_proven(proof, BITS, checked):
        raise AssertionError("the proof does not verify")
    return Work(d * made.taken, d * checked.taken, d * BITS * proven.BIT_BYTES)


PROOFS: dict[str, Callable[[int], Work]] = {
    "commitments alone": committed,
    f"L2, {PROJECTIONS} projections": projected,
    f"{BITS}-bit ranges, one proof": in_one_proof,
    f"{BITS}-bit ranges, by bits": bit_by_bit,
}
"""By the number of coordinates."""


def cases(size: str, seed: int) -> list[Case]:
    n = CLIENTS[size]
    return [
        Case("exponentiations", run_groups),
        *(Case(f"{d:,} coordinates", partial(run_case, d, n, seed)) for d in LENGTHS[size]),
    ]


def exponentiations() -> dict[str, Callable[[], object]]:
    """One of each group: a point multiplied by a secret, or a power to 256 bits."""
    key, peer = X25519PrivateKey.generate(), X25519PrivateKey.generate().public_key()
    mine, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    others, exponent = other.public_key(), secrets.randbits(256)
    return {
        FASTEST: lambda: key.exchange(peer),
        "P-256": lambda: mine.exchange(ec.ECDH(), others),
        "2048-bit modulus": lambda: proven.H**exponent,
    }


def seconds_of(power: Callable[[], object]) -> float:
    """The median of repetitions."""
    taken = list[float]()
    for _ in range(REPETITIONS):
        timed(taken, partial(_repeated, power, POWERS))
    return statistics.median(taken) / POWERS


def _repeated(work: Callable[[], object], times: int) -> None:
    for _ in range(times):
        work()


def run_groups() -> Iterator[Row]:
    """A row for each group: processor seconds of one exponentiation."""
    for group, power in exponentiations().items():
        yield {"what": f"one, {group}", "how": "measured", "powers": 1, "seconds": seconds_of(power)}


def run_case(d: int, n: int, seed: int) -> Iterator[Row | str]:
    """What is measured first; then what is reckoned, by X25519's rate in the same minute. times: of the
    masking client's time.
    """
    masking = 0.0
    for what, way in WAYS.items():
        yield what
        session = dummy_cost.run_case(way, n, d, seed)
        seconds = session["client_ms"] / 1000
        masking = masking or seconds
        yield row(what, d, "measured") | taken(seconds, masking) | {"sent": session["up"]}
    yield ON_SHARES
    codes = np.random.default_rng(seed).integers(-(2**15), 2**15, d).astype(np.float64)
    checks = list[float]()
    timed(checks, lambda: wraparound_checks(codes, os.urandom(32)))
    yield row(ON_SHARES, d, "in part") | taken(checks[0], masking) | {"sent": pine_bytes(d)}
    yield "exponentiations"
    power = seconds_of(exponentiations()[FASTEST])
    for what, proof in PROOFS.items():
        work = proof(d)
        server = {"check_seconds": work.to_check * power}
        yield row(what, d, "reckoned") | asdict(work) | taken(work.powers * power, masking) | server


def row(what: str, d: int, how: str) -> Row:
    """What every row says of what it is."""
    return {"what": what, "coordinates": d, "how": how}


def taken(seconds: float, masking: float) -> Row:
    """Processor seconds, and in those of the masking client."""
    return {"seconds": seconds, "times": seconds / masking}


def wraparound_checks(codes: NDArray[np.float64], seed: bytes, block: int = 8192) -> NDArray[np.float64]:
    """What of PINE (Rothblum et al., 2023, section 3) grows fastest with d: products of the vector with 100
    random ones whose coordinates are -1 and 1 a quarter of the time each, else 0. Exact below 2^53.

    codes: (d,) whole numbers. The polynomials of the proof come on top.
    """
    draw = generator(seed)
    signs = np.array(
        [[(-1, 0, 0, 1)[byte >> 2 * i & 3] for i in range(4)] for byte in range(256)], np.float64
    )
    sums = np.zeros(CHECKS)
    for start in range(0, len(codes), block):
        part = codes[start : start + block]
        raw = np.frombuffer(draw(CHECKS * -(-len(part) // 4)), np.uint8).reshape(CHECKS, -1)
        sums += signs[raw].reshape(CHECKS, -1)[:, : len(part)] @ part
    return sums


def pine_bytes(
    d: int,
    norm: int = 2**15,
    *,
    chunk: int = 150,
    norm_chunk: int | None = None,
    proofs: int = 5,
    norm_proofs: int = 1,
    checks: int = CHECKS,
) -> int:
    """Bytes of the two shares and of what both aggregators see, of Pine32HmacSha256Aes128 in the reference
    code of draft-chen-cfrg-vdaf-pine-01, whose test vectors have just these: d words of 32 bits, and little.

    norm: the bound, in codes; of powers of two 2^15 is the largest whose square the prime of 32 bits bears
    three times. norm_chunk: squares that one gate adds, about sqrt(d) unless said.
    """
    squares = norm_chunk or math.isqrt(d)
    bound = _power_of_two(math.ceil(8.7 * norm) + 1)
    bits = 2 * (norm**2).bit_length() + ((2 * bound - 1).bit_length() + 1) * checks
    calls = -(-bits // chunk) + -(-checks // chunk)
    proof = norm_proofs * _gadget(squares, -(-d // squares)) + proofs * _gadget(2 * chunk, calls)
    leader, helper, public = 4 * (d + bits + proof) + 64, 128, 128
    return leader + helper + public


def _gadget(arity: int, calls: int) -> int:
    """Field elements of the proof of so many calls of a gadget of degree 2."""
    return arity + 2 * (_power_of_two(calls + 1) - 1) + 1


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()


def table(rows: Sequence[Row]) -> Table:
    """a client: seconds of the one that proves. to check: of the server, for each client."""
    header = ("what", "d", "how", "powers", "a client", "of masking", "to check", "sent")
    return Table.of(header, [_cells(row) for row in rows])


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row["what"],
        f"{row['coordinates']:,}" if "coordinates" in row else "",
        row["how"],
        f"{digits(row['powers'], 3):,.0f}" if "powers" in row else "",
        duration(row["seconds"]),
        f"{digits(row['times'], 2):,g}" if "times" in row else "",
        duration(row["check_seconds"]) if row.get("check_seconds") else "",
        megabytes(row["sent"]) if "sent" in row else "",
    )


def megabytes(count: int) -> str:
    """Bytes for people."""
    return f"{digits(count / 1e6, 3):,g} MB"


def duration(seconds: float) -> str:
    """To three digits, in the unit that fits."""
    unit, size = next(each for each in (("s", 1.0), ("ms", 1e-3), ("us", 0.0)) if seconds >= each[1])
    return f"{digits(seconds / (size or 1e-6), 3):,g} {unit}"


def digits(number: float, how_many: int) -> float:
    """The number, of which so many digits count."""
    return float(f"{number:.{how_many}g}")
