"""CKKS: what each step takes and is sent, beside masking, plain, and TenSEAL as NVFlare sets it up."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.played import Calls, Costs, play, timed, timed_with_peak, watched
from secagg import CKKS, Bounded, Masking, Plain
from secagg.ckks import client as ckks_client
from secagg.ckks import server as ckks_server
from secagg.ckks.seal import Keys
from secagg.policy import Ending

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "With the parameters of 100 clients CKKS sends at most 16 bytes a coordinate, less than a third of what "
    "NVFlare's parameters take in TenSEAL's own form, and the mean is within 2^-12 of the range; masking "
    "sends 3. Encryption takes more than TenSEAL's alone, which gives its residues out one by one. The "
    "server adds an upload in the same time and memory, however many clients there are."
)
US, NVFLARE = "CKKS", "TenSEAL as in NVFlare"
CONTROL = Control(
    "TenSEAL as NVFlare sets it up; masking and plain beside it", lambda row: row["who"] == NVFLARE
)
ALONE = True
CLIENTS = 100
LENGTH = {"quick": 100_000, "full": 1_000_000}
UPLOADS = {"quick": 4, "full": 10}
SETS: tuple[tuple[Ending, int], ...] = (("keep", 16), ("keep", 12), ("release", 16), ("release", 12))
COHORTS = {"quick": (5, 20), "full": (10, 40, 160)}
COHORT_LENGTH = {"quick": 10_000, "full": 100_000}
NVFLARE_DEGREE, NVFLARE_PRIMES, NVFLARE_SCALE = 8192, [60, 40, 40], 2.0**40
STEPS = ("encrypt", "serialise", "add", "decrypt")

Spent = Mapping[str, Sequence[float]]
"""Step -> processor seconds, of each upload; decrypt: of each decryption of the sum."""


def cases(size: str, seed: int) -> list[Case]:
    """Raises: ModuleNotFoundError without TenSEAL."""
    import tenseal  # noqa: F401

    uploads = UPLOADS[size], LENGTH[size], seed
    return [
        *(
            Case(f"{US}, clients {ending} the sum, {bits} bits", partial(ours, ending, bits, *uploads))
            for ending, bits in SETS
        ),
        Case(NVFLARE, partial(nvflare, *uploads)),
        Case("masking", partial(masking, *uploads)),
        Case("plain", partial(plain, *uploads)),
        *(Case(f"the server of {n}", partial(cohort, n, COHORT_LENGTH[size], seed)) for n in COHORTS[size]),
    ]


@lru_cache(maxsize=1)
def inputs(n: int, length: int, seed: int) -> list[NDArray[np.float32]]:
    """The clients' vectors: (length,) in [-1, 1] each."""
    return [np.random.default_rng([seed, u]).uniform(-1, 1, length).astype(np.float32) for u in range(n)]


# Sessions


CALLS: Calls = {
    "encrypt": (Keys, "encrypt"),
    "pack": (ckks_client, "pack_residues"),
    "unpack": (ckks_server, "unpack_residues"),
    "add": (ckks_server, "add_residues"),
    "decrypt": (Keys, "decrypt"),
}


@contextmanager
def encrypted_once() -> Iterator[None]:
    """Clients who encrypt the same upload the same ciphertexts: a hundred take the time of a few."""
    made: dict[bytes, Any] = {}
    right = Keys.encrypt

    def encrypt(keys: Keys, slots: NDArray[np.float64]) -> Any:
        if (known := slots.tobytes()) not in made:
            made[known] = right(keys, slots)
        return made[known]

    with patch.object(Keys, "encrypt", encrypt):
        yield


def ours(ending: Ending, bits: int, uploads: int, length: int, seed: int) -> Row:
    """A session of 100 clients. Where they release the sum, all upload, several the same ciphertexts: what is
    off is flooding. Where they keep it, those of whom each has a vector of its own: what is off is rounding.
    keys: what a client that makes none sends and gets for them.
    """
    x = inputs(uploads, length, seed)
    n = CLIENTS if ending == "release" else len(x)
    scheme = CKKS.for_cohort(
        CLIENTS,
        Bounded(length=len(x[0]), bound=1.0, bits=bits),
        ending=ending,
        m_min=min(n, CLIENTS // 2 + 1),
    )
    with watched(CALLS) as spent, encrypted_once():
        drop = {"share-keys": range(n, CLIENTS)}
        costs, result = play(scheme, lambda u: lambda task: x[u % len(x)], drop=drop)
    each = scheme.plan.ciphertexts
    taken = {
        "encrypt": _grouped(spent["encrypt"], each),
        "serialise": [a + b for a, b in zip(spent["pack"], spent["unpack"], strict=True)],
        "add": spent["add"],
        "decrypt": _grouped(spent["decrypt"], each),
    }
    up, down, last = costs.up, costs.down, n - 1
    rounds = "advertise-keys", "share-keys"
    return {
        "who": US,
        "ending": ending,
        "bits": bits,
        "degree": scheme.degree,
        "primes": scheme.prime_bits,
        "security": scheme.plan.ring.modulus_bits,
        **measured(taken, result.mean[""], x, n),
        "error_bound": result.error_bound[""],
        "upload_bytes": up["input"][last],
        "key_bytes": sum(up[round][last] for round in rounds)
        + down["share-keys"][last]
        + down["input"][last],
        "sum_bytes": down["decrypt"][0] + up["decrypt"][0],
    }


def _grouped(seconds: Sequence[float], each: int) -> list[float]:
    return [sum(seconds[i : i + each]) for i in range(0, len(seconds), each)]


def measured(taken: Spent, mean: NDArray[np.float64], x: Sequence[NDArray[np.float32]], n: int) -> Row:
    """Of n uploads, of these vectors in turn."""
    exact = np.average(x, axis=0, weights=np.bincount(np.arange(n) % len(x)))
    return {
        "uploads": n,
        "coordinates": len(exact),
        "seconds": {name: list(taken[name]) for name in STEPS if name in taken},
        "error": float(np.abs(mean - exact).max()),
        "error_rms": float(np.sqrt(np.square(mean - exact).mean())),
    }


def nvflare(uploads: int, length: int, seed: int) -> Row:
    """What its HEBuilder sets up, in TenSEAL's own form: a vector for each ciphertext, since TenSEAL warns of
    longer ones, which it cuts up alike. The server's context has no secret key.
    """
    import tenseal as ts

    x, context = inputs(uploads, length, seed), nvflare_context()
    public = ts.context_from(context.serialize(save_secret_key=False), n_threads=1)
    taken: dict[str, list[float]] = {name: [] for name in STEPS}
    slots = range(0, len(x[0]), NVFLARE_DEGREE // 2)

    total: list[Any] = []
    for each in x:
        parts = [each[i : i + slots.step] for i in slots]
        vectors = timed(taken["encrypt"], lambda: [ts.ckks_vector(context, part.tolist()) for part in parts])  # noqa: B023
        upload, arrived = timed(taken["serialise"], lambda: _there(ts, public, vectors))  # noqa: B023
        if total:
            total = timed(taken["add"], lambda: [a + b for a, b in zip(total, arrived, strict=True)])  # noqa: B023
        else:
            total = arrived
    result = [vector.serialize() for vector in total]
    back = [ts.ckks_vector_from(context, part) for part in result]
    mean = timed(taken["decrypt"], lambda: np.concatenate([part.decrypt() for part in back])) / len(x)
    return {
        "who": NVFLARE,
        "ending": "keep",
        "bits": None,
        "degree": NVFLARE_DEGREE,
        "primes": NVFLARE_PRIMES[:-1],
        "security": sum(NVFLARE_PRIMES),
        **measured(taken, mean, x, len(x)),
        "error_bound": None,
        "upload_bytes": upload,
        "key_bytes": len(context.serialize(save_secret_key=True)),
        "sum_bytes": sum(map(len, result)),
    }


def nvflare_context() -> Any:
    """Keys with the numbers of NVFlare's."""
    import tenseal as ts

    context = ts.context(
        ts.SCHEME_TYPE.CKKS,
        NVFLARE_DEGREE,
        coeff_mod_bit_sizes=NVFLARE_PRIMES,
        encryption_type=ts.ENCRYPTION_TYPE.SYMMETRIC,
        n_threads=1,
    )
    context.global_scale = NVFLARE_SCALE
    return context


def _there(ts: Any, public: Any, vectors: Sequence[Any]) -> tuple[int, list[Any]]:
    """Bytes, and what arrives."""
    upload = [vector.serialize() for vector in vectors]
    return sum(map(len, upload)), [ts.ckks_vector_from(public, part) for part in upload]


def masking(uploads: int, length: int, seed: int) -> Row:
    """Of 100 clients. encrypt: mask and pack; decrypt: unmask."""
    x = inputs(uploads, length, seed)
    scheme = Masking.for_cohort(CLIENTS, Bounded(length=len(x[0]), bound=1.0))
    costs, result = play(scheme, lambda u: lambda task: x[u % len(x)])
    up, down, last = costs.up, costs.down, CLIENTS - 1
    rounds = "advertise-keys", "share-keys"
    keys = sum(up[round][last] for round in rounds) + down["share-keys"][last] + down["masked-input"][last]
    return _played("masking", costs, "masked-input", result, x) | {
        "bits": 16,
        "key_bytes": keys,
        "sum_bytes": up["unmasking"][last] + down["unmasking"][last],
    }


def plain(uploads: int, length: int, seed: int) -> Row:
    """A row of the same sum in the clear."""
    x = inputs(uploads, length, seed)
    scheme = Plain.for_cohort(len(x), Bounded(length=len(x[0]), bound=1.0), small_cohort=True)
    costs, result = play(scheme, lambda u: lambda task: x[u])
    return _played("plain", costs, "input", result, x) | {"bits": 32, "key_bytes": 0, "sum_bytes": 0}


def _played(who: str, costs: Costs, round: str, result: Any, x: Sequence[NDArray[np.float32]]) -> Row:
    """Of a session of `play`, whose rounds are steps."""
    n = len(costs.up[round])
    taken = {"encrypt": list(costs.client[round].values()), "add": [costs.server[round] / n]}
    if who == "masking":
        taken["decrypt"] = [costs.server["unmasking"]]
    return {
        "who": who,
        "ending": None,
        "degree": None,
        "primes": None,
        "security": None,
        **measured(taken, result.mean[""], x, n),
        "error_bound": result.error_bound[""],
        "upload_bytes": costs.up[round][n - 1],
    }


# The server, by clients


def cohort(n: int, length: int, seed: int) -> Row:
    """The real server of so many real clients, who all upload one client's ciphertexts: what adding takes.

    server_bytes: the accumulator, and the most that the server took beside it while it worked on an upload.
    """
    scheme = CKKS.for_cohort(n, Bounded(length=length, bound=1.0), ending="release")
    (x,) = inputs(1, length, seed)
    server = scheme.server(range(n))
    clients = {u: scheme.client(u, lambda task: x) for u in range(n)}
    outbox = {u: client.start() for u, client in clients.items()}
    with encrypted_once():
        while server.round != "input" or not outbox:
            for u, message in outbox.items():
                server.receive(u, message)
            outbox = {u: clients[u].receive(request) or b"" for u, request in server.advance().items()}
    seconds = list[float]()
    peaks = [timed_with_peak(seconds, partial(server.receive, u, message)) for u, message in outbox.items()]
    plan = scheme.plan
    accumulator = 8 * 2 * len(plan.ring.primes) * plan.ring.degree * plan.ciphertexts
    return {
        "who": "the server",
        "clients": n,
        "coordinates": length,
        "seconds": {"add": seconds},
        "upload_bytes": len(next(iter(outbox.values()))),
        "accumulator_bytes": accumulator,
        "server_bytes": accumulator + max(peaks),
    }


def table(rows: Sequence[Row]) -> Table:
    """B each: bytes a coordinate."""
    about = ("what", "summed", "bits", "ring", "upload, B each", "sum, B each", "keys")
    times = (f"{name}, ms" for name in STEPS)
    header = (*about, *times, "mean off by", "at most", "the server's memory")
    return Table.of(header, [_cells(row) for row in rows])


def _cells(row: Row) -> tuple[str, ...]:
    seconds = [row["seconds"].get(name) for name in STEPS]
    times = [f"{1000 * statistics.median(each):.1f}" if each else "" for each in seconds]
    if row["who"] == "the server":
        memory = f"{row['server_bytes'] / row['accumulator_bytes']:.2f} times the sum"
        name = f"the server, {row['coordinates']:,} coordinates"
        upload = f"{row['upload_bytes'] / row['coordinates']:.2f}"
        return name, str(row["clients"]), "", "", upload, "", "", *times, "", "", memory
    name = f"{row['who']}, {row['ending']}" if row["who"] == US else row["who"]
    ring = f"{row['degree']}, {' + '.join(map(str, row['primes']))}" if row["primes"] else ""
    bound = f"{row['error_bound']:.1e}" if row["error_bound"] is not None else ""
    sent = (f"{row[f'{what}_bytes'] / row['coordinates']:.2f}" for what in ("upload", "sum"))
    keys = f"{row['key_bytes'] / 1000:,.1f} kB"
    about = (name, str(row["uploads"]), str(row["bits"] or ""), ring, *sent, keys)
    return (*about, *times, f"{row['error']:.1e}", bound, "")


def plot(rows: Sequence[Row]) -> Figure:
    from benchmarks.plots import bars

    sent = [row for row in rows if row["who"] != "the server"]
    names = [
        f"{row['who']}, {row['ending']}, {row['bits']} bits" if row["who"] == US else row["who"]
        for row in sent
    ]
    panels = {
        "an upload, bytes a coordinate": [
            {"upload": row["upload_bytes"] / row["coordinates"]} for row in sent
        ],
        "processor time, ms": [
            {name: 1000 * statistics.median(each) for name, each in row["seconds"].items()} for row in sent
        ],
    }
    return bars(names, panels)
