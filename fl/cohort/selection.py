"""Who takes part in a round, and with whom: selection and clusters (Ma et al., On Safeguarding Privacy and
Security in the Framework of Federated Learning, II-B, IV-C and IV-D).

Both go by what clients declare before the run: under secure aggregation the server sees no single update, so
that it can rank none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from fl.cohort.links import Link
from fl.config.secret import choice_key, permutations
from secagg.errors import ClientId, counted


@dataclass(frozen=True, slots=True)
class Declared:
    """What a client says of itself. quality: of its data, in [0, 1], 1 is clean; link: its own; label: its
    most common one ("interest"), >= 0. Link and label are None where it does not say.

    Security: nobody checks it, and a client can lie. One that overstates takes part in up to 2k/n of the
    rounds (k chosen of n; in all where 2k >= n), where chance gives k/n; many that do so can double their
    share of the cohort. A false label or link puts a client into the cluster of its choice, beside whom it
    likes. The server reads all three: a label tells what the data are about, a link where the client is.
    Raises: ValueError for a quality or a label out of range.
    """

    quality: float
    link: Link | None = None
    label: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.quality <= 1:
            raise ValueError(f"a quality of {self.quality}: declare one from 0 to 1 (clean)")
        if self.label is not None and self.label < 0:
            raise ValueError(f"a label of {self.label}: declare one from 0 on, or None")


Candidates = Mapping[ClientId, Declared]
Selection = Callable[[Candidates, int, bytes], tuple[ClientId, ...]]
Attribute = Callable[[Declared], Any]


def _known(by: str, of: Attribute, ids: Collection[ClientId], declared: Candidates) -> dict[ClientId, Any]:
    values = {u: of(declared[u]) if u in declared else None for u in sorted(ids)}
    if silent := [u for u, value in values.items() if value is None]:
        what = "label" if by == "label" else "link"
        raise ValueError(f"{by!r} needs every client's {what}: have {silent} declare one, or leave them out")
    return values


def _by_chance(ids: Collection[ClientId], k: int, key: bytes) -> list[ClientId]:
    """Choose at most k of them, without replacement, in random order."""
    if k < 1:
        raise ValueError("nobody to choose: ask for 1 client or more")
    ordered = sorted(ids)  # or the draw would depend on who came first
    return [ordered[i] for i in next(permutations(key, len(ordered)))[:k]]


def _chance(candidates: Candidates, k: int, key: bytes) -> tuple[ClientId, ...]:
    return tuple(sorted(_by_chance(candidates, k, key)))


def _best(by: str, of: Attribute) -> Selection:
    """The best k of 2k that chance offers."""

    def select(candidates: Candidates, k: int, key: bytes) -> tuple[ClientId, ...]:
        scores = _known(by, of, candidates, candidates)
        offered = _by_chance(candidates, 2 * k, key)
        # They come in random order and the sort is stable: chance breaks ties.
        return tuple(sorted(sorted(offered, key=scores.__getitem__, reverse=True)[:k]))

    return select


SELECTIONS: Mapping[str, Selection] = {
    "chance": _chance,
    "quality": _best("quality", lambda declared: declared.quality),
    "channel": _best("channel", lambda declared: declared.link and declared.link.up),
}
"""Name -> function(candidates, k >= 1, key) -> ids, ascending: k of them, or all where there are no more.

chance: uniform. quality, channel (upload rate): the best k of 2k drawn uniformly, as power-of-choice does
with losses (Cho, Wang and Joshi 2020), so that the good do not take every round. The bad do take none:
without ties the last k of 2k candidates or more are never chosen, and the model never sees their data.
Raises: ValueError for k < 1, and where a candidate has not declared what it takes.
"""


def choose(by: str, candidates: Candidates, k: int, secret: bytes, round: int) -> tuple[ClientId, ...]:
    """k of the candidates, ascending, by one of `SELECTIONS`; all of them where there are no more than k.

    The same for the same arguments, so that a resumed run chooses alike. secret: the server's own, 32 bytes:
    nobody else can tell who was, or will be, in a round. round: >= 0.
    Security: the server chooses, and can choose whom it likes, whatever `by` and `secret` are: a client is
    protected by its roster and its policy's smallest cohort, not by this draw.
    Raises: ValueError for an unknown `by`, and as `SELECTIONS`.
    """
    if by not in SELECTIONS:
        raise ValueError(f"no selection by {by!r}: take one of {', '.join(SELECTIONS)}")
    return SELECTIONS[by](candidates, k, choice_key(secret, round))


CLUSTERS: Mapping[str, Attribute] = {
    "label": lambda declared: declared.label,
    "place": lambda declared: declared.link and tuple(x >= 0 for x in declared.link.place),
    "mode": lambda declared: declared.link and declared.link.mode,
}
"""Name -> what members of a cluster share: interest, quadrant of the square, way of uploading (Ma et al.,
IV-C); None where it was not declared."""


def clusters(
    by: str, ids: Collection[ClientId], declared: Candidates, smallest: int = 3
) -> tuple[tuple[ClientId, ...], ...]:
    """Every id in exactly one cluster; each ascends, and they by their first id.

    Groups of fewer than `smallest` are merged into one; if that is still too small, it joins the smallest of
    the others (of several, the one with the lowest id), whose members gain most from company.

    Security: a cluster is a session of its own, so the server learns a sum for each: every client hides among
    the other members alone, and the sum is known to be of their label, place or mode. The server forms the
    clusters, and others declare what they like: a client may find itself among accomplices.
    Raises: ValueError for an unknown `by`, a client that has not declared it, fewer ids than `smallest`.
    """
    if by not in CLUSTERS:
        raise ValueError(f"no clusters by {by!r}: take one of {', '.join(CLUSTERS)}")
    if len(set(ids)) < smallest:
        raise ValueError(
            f"{counted(len(set(ids)), 'client')} cannot make a cluster of {smallest}: wait for more of them"
        )
    groups: defaultdict[Any, list[ClientId]] = defaultdict(list)
    for u, value in _known(by, CLUSTERS[by], ids, declared).items():
        groups[value].append(u)
    large = [group for group in groups.values() if len(group) >= smallest]
    rest = [u for group in groups.values() if len(group) < smallest for u in group]
    if len(rest) >= smallest:
        large.append(rest)
    elif rest:
        min(large, key=len).extend(rest)
    return tuple(sorted(tuple(sorted(group)) for group in large))
