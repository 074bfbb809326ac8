"""Dealing a training set out to clients, not evenly: each has its own mixture of labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fl.data.examples import DataError, Labels


def dirichlet(
    labels: Labels, clients: int, alpha: float, rng: np.random.Generator, minimum: int = 8
) -> list[NDArray[np.int64]]:
    """Indices of each client's examples: every example at exactly one client, each list in ascending order.

    For each label, proportions over the clients are drawn from Dirichlet(alpha, ..., alpha) (Hsu, Qi and
    Brown 2019, with the clients' sizes left free): alpha -> 0 gives a label to one client, alpha ->
    infinity deals it out evenly. Clients left with fewer than `minimum` then get random examples of whoever
    holds the most at that moment.

    labels: (N,);  clients >= 1;  alpha > 0;  minimum >= 0.
    Raises: DataError where N examples do not give every client `minimum`.
    """
    if clients * minimum > len(labels):
        raise DataError(
            f"{len(labels)} examples do not give {clients} clients {minimum} each: "
            f"take at most {len(labels) // minimum} clients or a larger data set"
        )
    owner = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        shares = np.cumsum(rng.dirichlet(np.full(clients, alpha)))
        cuts = np.rint(shares[:-1] * len(members)).astype(np.int64)
        for client, part in enumerate(np.split(members, cuts)):
            owner[part] = client
    sizes = np.bincount(owner, minlength=clients)
    for poor in np.flatnonzero(sizes < minimum):
        while sizes[poor] < minimum:
            rich = np.argmax(sizes)
            owner[rng.choice(np.flatnonzero(owner == rich))] = poor
            sizes[rich] -= 1
            sizes[poor] += 1
    return [np.flatnonzero(owner == client) for client in range(clients)]
