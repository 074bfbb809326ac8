"""Dealing a training set out to clients: evenly, or each with its own mixture of labels, or its own size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fl.data.examples import DataError, Labels
from fl.mistyped import nearest
from secagg.errors import counted

Indices = NDArray[np.int64]  # of one client's examples, ascending
MINIMUM = 8  # examples that dirichlet and quantity leave nobody below


@dataclass(frozen=True)
class Partition:
    """How a training set is dealt out. What a kind does not name, it does not look at.

    kind: one of PARTITIONS.
    alpha: concentration, 0.001..1e6. dirichlet: of each label over the clients; quantity: of their sizes.
    classes_per_client: shards: how many different labels each client has, 1..65536.
    examples_per_client: exactly so many for each, 1..2^31-1; None: all are dealt out. quantity takes none.

    Raises: DataError for a value out of its range.
    """

    kind: str = "dirichlet"
    alpha: float = 0.5
    classes_per_client: int = 2
    examples_per_client: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in PARTITIONS:
            near = nearest(self.kind, PARTITIONS)
            raise DataError(f"no partition {self.kind!r}: there are {', '.join(PARTITIONS)}{near}")
        _check_alpha(self.alpha)
        if not 1 <= self.classes_per_client <= 65_536:
            raise DataError(f"{self.classes_per_client} classes a client: give 1 to 65536")
        if self.examples_per_client is not None and not 1 <= self.examples_per_client < 2**31:
            raise DataError(f"{self.examples_per_client} examples a client: give 1 to 2^31-1, or none")

    def deal(self, labels: Labels, clients: int, rng: np.random.Generator) -> list[Indices]:
        """Each client's examples, as indices into `labels`: ascending, and none twice.

        Without examples_per_client every example goes to exactly one client (shards: every example of a label
        that somebody was given). With it, clients share no example as long as there are enough; where
        clients * examples_per_client exceeds N, each client draws from the whole set by itself, so that
        clients' examples overlap (Wei et al., Data Poisoning and Leakage Analysis in Federated Learning: 500
        of MNIST's 60,000 for each of 1,000 clients).

        labels: (N,);  clients >= 1.
        Raises: DataError where N examples are too few, or of too few classes.
        """
        if not 1 <= clients <= 10**6:
            raise DataError(f"{clients} clients: a training set is dealt out to 1 to 1000000")
        if (each := self.examples_per_client or 0) > len(labels):
            raise DataError(
                f"{counted(each, 'example')} a client of {len(labels)} there are: "
                "take fewer, or a larger data set"
            )
        return PARTITIONS[self.kind](self, labels, clients, rng)


def dirichlet(
    labels: Labels, clients: int, alpha: float, rng: np.random.Generator, minimum: int = MINIMUM
) -> list[Indices]:
    """Indices of each client's examples: every example at exactly one client, each list in ascending order.

    For each label, proportions over the clients are drawn from Dirichlet(alpha, ..., alpha) (Hsu, Qi and
    Brown 2019, with the clients' sizes left free): alpha -> 0 gives a label to one client, alpha ->
    infinity deals it out evenly. Clients left with fewer than `minimum` then get random examples of whoever
    holds the most at that moment.

    labels: (N,);  clients >= 1;  alpha: 0.001..1e6;  minimum >= 0.
    Raises: DataError for another alpha, and where N examples do not give every client `minimum`.
    """
    _check_alpha(alpha)
    _enough(labels, clients, minimum)
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


def _check_alpha(alpha: float) -> None:
    """Beyond this the draws leave float64, and it would not matter: one label each, or all evenly."""
    if not 1e-3 <= alpha <= 1e6:
        raise DataError(f"a partition's alpha of {alpha}: give 0.001 to 1000000")


def _dirichlet(how: Partition, labels: Labels, clients: int, rng: np.random.Generator) -> list[Indices]:
    """With a size for each: every client draws its own mixture of labels from Dirichlet(alpha, ..., alpha),
    and its examples by that (Hsu, Qi and Brown 2019); a label that has run out leaves the mixture.
    """
    n = how.examples_per_client
    if n is None:
        return dirichlet(labels, clients, how.alpha, rng)

    def counts(room: Indices) -> Indices:
        mixture = rng.dirichlet(np.full(len(room), how.alpha))
        drawn = np.zeros(len(room), dtype=np.int64)
        while (lacking := n - drawn.sum()) > 0:
            open_ = np.where(drawn < room, mixture, 0.0)
            if open_.sum() == 0:
                open_ = (drawn < room).astype(np.float64)
            drawn = np.minimum(drawn + rng.multinomial(lacking, open_ / open_.sum()), room)
        return drawn

    pools = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return list(_draw(pools, [counts] * clients, clients * n > len(labels), rng))


def _iid(how: Partition, labels: Labels, clients: int, rng: np.random.Generator) -> list[Indices]:
    """Examples at random, of equal numbers to within one."""
    n = how.examples_per_client
    if n is None:
        _enough(labels, clients, 1)
        return [np.sort(part) for part in np.array_split(rng.permutation(len(labels)), clients)]
    counts = [lambda _room: np.array([n])] * clients
    return list(_draw([np.arange(len(labels))], counts, clients * n > len(labels), rng))


def _shards(how: Partition, labels: Labels, clients: int, rng: np.random.Generator) -> list[Indices]:
    """k labels for each client, exactly (McMahan et al. 2017, section 3, where shards of a sorted set can
    hold more or fewer). Labels go to clients as evenly as can be, in random order, and a label's examples
    evenly to those who have it. With clients * k below the number of labels, some go to nobody.
    """
    k, n = how.classes_per_client, how.examples_per_client
    names = np.unique(labels)
    if k > len(names):
        raise DataError(
            f"{counted(k, 'class', 'classes')} a client of {len(names)} there are: take fewer classes "
            "a client"
        )
    if n is not None and n < k:
        raise DataError(
            f"{counted(n, 'example')} a client cannot be of {counted(k, 'class', 'classes')}: take "
            "more, or fewer classes"
        )
    given = np.zeros((clients, len(names)), dtype=bool)
    for own in given:
        order = rng.permutation(len(names))
        # The labels that the fewest have so far; of equals, chance decides, as the sort is stable.
        own[order[np.argsort(given.sum(axis=0)[order], kind="stable")[:k]]] = True
    sizes = np.array([np.count_nonzero(labels == name) for name in names])
    overlap = n is not None and clients * n > len(labels)
    wanted = _even(given, sizes, n) if n is not None else _share_out(given, sizes)
    # Where clients overlap, each draws from all of a label.
    wants = wanted.max(axis=0) if overlap else wanted.sum(axis=0)
    if (wanted[given] == 0).any() or (wants > sizes).any():
        worst = int(np.argmax(np.maximum(wants, given.sum(axis=0)) / sizes))
        raise DataError(
            f"label {names[worst]} has {counted(sizes[worst], 'example')}, too few for those who get it, "
            f"{given[:, worst].sum()} of {counted(clients, 'client')}: "
            "take fewer clients, fewer examples a client, or more classes a client"
        )
    pools = [np.flatnonzero(labels == name) for name in names]
    return list(_draw(pools, [_just(own) for own in wanted], overlap, rng))


def _even(given: NDArray[np.bool_], sizes: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """(clients, labels): n examples for each client, as many of each of its labels, to within one: one more
    of those of which the most is left.
    """
    k = given.sum(axis=1, keepdims=True)
    wanted = np.where(given, n // k, 0)
    left = sizes - wanted.sum(axis=0)
    for own, has in zip(wanted, given, strict=True):
        # No label is short of so many: those that the client has not stand last.
        more = np.argsort(np.where(has, -left, len(given) * n), kind="stable")[: n % has.sum()]
        own[more] += 1
        left[more] -= 1
    return wanted


def _share_out(given: NDArray[np.bool_], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """(clients, labels): all examples of each label, as many for each client that has it, to within one."""
    place = np.cumsum(given, axis=0)
    holders = np.maximum(place[-1:], 1)
    # `place` counts the holders of a label: the first of them get one of the rest each.
    return np.where(given, sizes // holders + (place <= sizes % holders), 0)


def _quantity(how: Partition, labels: Labels, clients: int, rng: np.random.Generator) -> list[Indices]:
    """Examples at random, their numbers by Dirichlet(alpha, ..., alpha) over the clients: MINIMUM for each,
    and the rest in those proportions.
    """
    if how.examples_per_client is not None:
        raise DataError("a partition by quantity draws the clients' sizes: leave examples_per_client out")
    _enough(labels, clients, MINIMUM)
    shares = np.cumsum(rng.dirichlet(np.full(clients, how.alpha)))[:-1]
    cuts = np.rint(shares * (len(labels) - clients * MINIMUM)).astype(np.int64)
    cuts += MINIMUM * np.arange(1, clients)
    return [np.sort(part) for part in np.split(rng.permutation(len(labels)), cuts)]


def _enough(labels: Labels, clients: int, minimum: int) -> None:
    if clients * minimum > len(labels):
        raise DataError(
            f"{counted(len(labels), 'example')} cannot give {counted(clients, 'client')} {minimum} each: "
            f"take at most {counted(len(labels) // minimum, 'client')} or a larger data set"
        )


def _just(wanted: Indices) -> Callable[[Indices], Indices]:
    """What `_draw` asks of a client that takes so many, however many are left."""
    return lambda _left: wanted


def _draw(
    pools: Sequence[Indices],
    wanted: Sequence[Callable[[Indices], Indices]],
    overlap: bool,
    rng: np.random.Generator,
) -> Iterator[Indices]:
    """Each client's examples. wanted: from how many are left of each pool, how many the client takes of it.
    overlap: what one has drawn is there for the next again.
    """
    left = [rng.permutation(pool) for pool in pools]
    for counts_of in wanted:
        counts = counts_of(np.array([len(pool) for pool in left]))
        if overlap:
            taken = [rng.choice(pool, k, replace=False) for pool, k in zip(left, counts, strict=True) if k]
        else:
            taken = [pool[:k] for pool, k in zip(left, counts, strict=True)]
            left = [pool[k:] for pool, k in zip(left, counts, strict=True)]
        yield np.sort(np.concatenate(taken))


PARTITIONS: dict[str, Callable[[Partition, Labels, int, np.random.Generator], list[Indices]]] = {
    "dirichlet": _dirichlet,
    "iid": _iid,
    "shards": _shards,
    "quantity": _quantity,
}
