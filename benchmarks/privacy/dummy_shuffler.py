"""Zero-sum shares of whole vectors through one shuffler: regrouped by lattice reduction."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from flint import fmpz_mat
from numpy.typing import NDArray

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.shown import Images, update
from fl.config.protection import BOUND
from secagg import Bounded

CLAIM = (
    "Clients cut their encoded updates into shares that are uniform but for their sum, and a perfect "
    "shuffler mixes the shares of all: nobody knows whose any is. The shares of one client are those that "
    "add up to something small beside the ring, and LLL finds them in the coordinates of a few dozen "
    "weights: every client's update, in seconds. Shares hide what they were made for only where they go to "
    "parties of which one keeps its own (`--scheme split`)."
)
CONTROL = Control(
    "vectors that fill the ring, of which nothing is small: the same attack finds none",
    lambda row: row["vectors"] == "fill the ring",
    by=("clients", "shares"),
)
ALONE = True
SIZES = {"quick": ((5, 3), (10, 6)), "full": ((5, 3), (10, 3), (10, 6), (20, 3))}  # clients, shares of each
BITS, EXAMPLES = 16, 60
VECTORS = ("MNIST updates", "fill the ring")


def cases(size: str, seed: int) -> list[Case]:
    """Each number of clients and shares, with updates and with vectors of which nothing can be found."""
    return [
        Case(f"{n} clients, {shares} shares, {vectors}", partial(run_case, vectors, n, shares, seed))
        for n, shares in SIZES[size]
        for vectors in VECTORS
    ]


def run_case(vectors: str, clients: int, shares: int, seed: int) -> Row:
    """regrouped: clients all of whose shares, and no others, are found to be one client's. largest: of what
    is cut, in absolute value. seconds: of processor time.

    Raises: NotImplementedError where the data set is not to be had.
    """
    rng = np.random.default_rng([seed, clients, shares])
    coordinates = clients * shares
    spec = Bounded(length=coordinates, bound=BOUND, bits=BITS)
    bits = spec.ring_bits(clients)
    if vectors == VECTORS[0]:
        images = Images(rng)
        model, examples = images.model(seed), images.take(clients, EXAMPLES)
        every = np.array([update(model, *own) for own in zip(*examples, strict=True)])
        some = rng.permutation(every.shape[1])[:coordinates]
        x = np.rint(every[:, some] * (spec.levels / spec.bound)).astype(np.int64)
    else:
        x = rng.integers(-(1 << bits - 1), 1 << bits - 1, (clients, coordinates))
    sent, owners = shuffled(x, shares, bits, rng)
    begun = time.process_time()
    groups = regrouped(sent, clients, bits, small=max(1, round(float(np.sqrt(np.square(x).mean())))))
    seconds = time.process_time() - begun
    found = sum(len(group) == shares and len({owners[i] for i in group}) == 1 for group in groups)
    return {
        "vectors": vectors,
        "clients": clients,
        "shares": shares,
        "coordinates": coordinates,
        "ring_bits": bits,
        "largest": int(np.abs(x).max()),
        "regrouped": found,
        "seconds": seconds,
    }


def shuffled(
    x: NDArray[np.int64], shares: int, bits: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], list[int]]:
    """(what the shuffler gives out, in no order; whose each is, which nobody is told)."""
    cut = rng.integers(0, 1 << bits, (len(x), shares, x.shape[1]))
    cut[:, -1] = (x - cut[:, :-1].sum(axis=1)) % (1 << bits)
    order = rng.permutation(len(x) * shares)
    return cut.reshape(-1, x.shape[1])[order], (order // shares).tolist()


def regrouped(shares: NDArray[np.int64], clients: int, bits: int, small: int) -> list[list[int]]:
    """Shares that belong together, as far as they are found.

    shares: (m, c), in [0, 2^bits). A choice of shares, and what it adds up to modulo the ring, is a vector of
    the lattice below. It is short where this is small, and as many as there are clients are shortest: the
    first of a reduced basis. They are combinations of clients, in which shares of one client go together.
    """
    m, c = shares.shape
    basis = np.zeros((m + c, m + c), np.int64)
    basis[:m, :m] = small * np.eye(m, dtype=np.int64)
    basis[:m, m:] = shares
    basis[m:, m:] = np.eye(c, dtype=np.int64) << bits
    reduced: Any = fmpz_mat(basis.tolist()).lll()
    groups = defaultdict[tuple[int, ...], list[int]](list)
    for i in range(m):
        groups[tuple(int(reduced[row, i]) for row in range(clients))].append(i)
    return list(groups.values())


def table(rows: Sequence[Row]) -> Table:
    """largest: coordinate of what is cut, in absolute value."""
    header = ("vectors", "clients", "shares", "ring", "coordinates", "largest", "regrouped", "takes")
    cells = [
        (
            row["vectors"],
            str(row["clients"]),
            str(row["clients"] * row["shares"]),
            f"{row['ring_bits']} bits",
            str(row["coordinates"]),
            f"{row['largest']:,}",
            f"{row['regrouped']} of {row['clients']}",
            f"{row['seconds']:.2g} s",
        )
        for row in rows
    ]
    return Table.of(header, cells)
