"""The averaging line of a simulation, in one call: a whole session in this process, of anybody's trees."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from secagg.aggregate import Aggregate
from secagg.ckks import CKKS
from secagg.errors import ClientId, LocalProtocolError
from secagg.identity import Identity, throwaway_identities
from secagg.in_process import run
from secagg.masking import Masking
from secagg.names import Names
from secagg.plain import Plain
from secagg.policy import Adversary
from secagg.session import Contribute, Scheme
from secagg.specs import whole_weight
from secagg.split import Split
from secagg.tree import NUMBERS, IntegerLeaves, Tree

LARGEST_WEIGHT = 2**31 - 1


@dataclass(frozen=True)
class Averaged:
    """What `average` gives. tree: the survivors' weighted mean, built as the reference. survivors: whose, by
    the ids that were given, in the order given. error_bound: no real number is farther from the mean of what
    was not cut, but for the rounding to its own type. clipped: the share of all their real numbers that was
    beyond the bound and cut, 0..1. aggregate: all that the server learned.
    """

    tree: Any = field(repr=False)
    survivors: tuple[Hashable, ...]
    error_bound: float
    clipped: float
    aggregate: Aggregate = field(repr=False)


def average(
    reference: Any,
    contributions: Mapping[Any, tuple[Any, float]],
    *,
    bound: float,
    bits: int = 16,
    max_weight: int | None = None,
    integers: IntegerLeaves = "mean",
    largest_integer: int | None = None,
    lost: Collection[Hashable] = (),
    scheme: type[Masking] | type[Split] | type[CKKS] | type[Plain] = Masking,
    adversary: Adversary = "semi-honest",
    warn_above: float = 0.0,
    **numbers: Any,
) -> Averaged:
    """The weighted mean of trees, by one real session with all its keys and masks, in this process.

    reference: what all trees are built as (`Tree`, which has bound, bits, integers and largest_integer).
    contributions: id -> (tree, weight), of three clients or more; whatever can be a key is an id, and takes
    part as 0, 1, ... in the order given (`Names`). max_weight: public; if not said, the largest that is
    given. lost: ids that have dealt their keys and never upload. adversary: "active" makes a roster, for this
    session alone. numbers: for `scheme.for_cohort`: corrupt, dropout, relays, small_cohort, ... warn_above:
    warn where a larger share of the survivors' numbers was cut.

    Raises: LocalProtocolError, which names the client, and the leaf where one is wrong; TooFewClients where
    more are lost than the session can lose.

    Security: all parties are in this process. What the server would have seen is `aggregate` and no more.
    """
    pairs = _pairs(contributions)
    weights = [whole_weight(f"client {who!r}: weight", w, LARGEST_WEIGHT) for who, (_, w) in pairs.items()]
    tree = Tree(
        reference,
        bound=bound,
        bits=bits,
        max_weight=max(1, *weights) if max_weight is None else max_weight,
        integers=integers,
        largest_integer=largest_integer,
    )
    made, identities = _made(scheme, len(pairs), tree, adversary, numbers)
    places = Names(list(pairs))
    if unknown := [who for who in lost if who not in places]:
        raise LocalProtocolError(f"client {unknown[0]!r} is lost, and contributes nothing to begin with")
    aggregate = run(
        made,
        {places[who]: _contribute(tree, who, *pair) for who, pair in pairs.items()},
        drop={made.upload_round: {places[who] for who in lost}},
        identities=identities,
    )
    share = tree.share_clipped(aggregate)
    if share > warn_above:
        warnings.warn(
            f"{aggregate.clipped[NUMBERS]} numbers, a share of {share:.2g}, were beyond the bound of "
            f"{bound:g} and cut: the mean is of what is left. Give a larger bound, or warn_above a share",
            stacklevel=2,
        )
    return Averaged(
        tree.unflatten(aggregate),
        places.of(aggregate.survivors),
        aggregate.error_bound.get(NUMBERS, 0.0),
        share,
        aggregate,
    )


def _pairs(contributions: Mapping[Any, tuple[Any, float]]) -> Mapping[Any, tuple[Any, float]]:
    if not isinstance(contributions, Mapping):
        raise LocalProtocolError("contributions map each client's id to its (tree, weight)")
    for who, given in contributions.items():
        if not (isinstance(given, tuple) and len(given) == 2):
            raise LocalProtocolError(f"client {who!r} gives no pair of a tree and its weight")
    return contributions


def _made(
    scheme: Any, clients: int, tree: Tree, adversary: Adversary, numbers: Mapping[str, Any]
) -> tuple[Scheme, Mapping[ClientId, Identity] | None]:
    """The scheme for these clients, and identities where it signs."""
    made: Scheme = scheme.for_cohort(clients, tree.vectors, **numbers)
    if adversary == "semi-honest":
        return made, None
    if scheme is Plain:
        raise LocalProtocolError("plain hides nothing from any server: take Masking or Split")
    roster, identities = throwaway_identities(range(clients), relays=made.relays)
    signed = scheme.for_cohort(clients, tree.vectors, adversary=adversary, roster=roster, **numbers)
    return signed, identities


def _contribute(tree: Tree, who: Hashable, own: Any, weight: float) -> Contribute:
    def vectors(task: bytes) -> Any:
        try:
            return tree.flatten(own, weight)
        except LocalProtocolError as error:
            raise LocalProtocolError(f"client {who!r}: {error}") from None

    return vectors
