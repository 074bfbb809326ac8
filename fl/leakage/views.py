"""What one party can read out of what it saw of a session, exactly as recorded: this, and no more, is what an
attack is given.

A server of a scheme that shows it single vectors reads single updates; of decoys, candidates; of one that
hides, a sum; of one whose clients keep the sum, nothing. A function for each party, from what was recorded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secagg import Aggregate, Bounded, Decoys, Plain, Scheme, Split, Weight
from secagg.bits import add_packed, word_type
from secagg.decoys.messages import Candidates
from secagg.encoding import centred, decode_mean, error_bound
from secagg.errors import ClientId
from secagg.plain import INPUT, Input
from secagg.record import ServerView
from secagg.specs import Spec, Vectors, weight_of
from secagg.split.messages import SeedShare, VectorShare
from secagg.wire import decode

UPDATE, EXAMPLES = "update", "examples"
"""As fl.federation.vectors names them."""

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """The mean of some clients' updates, weighted by their examples.

    members: whose. updates: (K, d), of which one is it: K is 1 but where a party cannot tell. examples: of
    all members together; None where it is not told. deviation: of each number, by how it was encoded and by
    declared noise; 0 of float32. earlier: what was read of the same clients in rounds before, in their
    order. before: (d,), the model that it was made from, in an earlier round; None where it is the one that
    is known.
    """

    members: frozenset[ClientId]
    updates: NDArray[np.float64] = field(repr=False)
    examples: int | None = None
    deviation: float = 0.0
    earlier: tuple[Part, ...] = field(default=(), repr=False)
    before: NDArray[np.float32] | None = field(default=None, repr=False)
    labels: NDArray[np.int64] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class View:
    """What a party can read of a session. why: in words, of one that can read nothing."""

    parts: tuple[Part, ...]
    why: str = ""


def of_server(scheme: Scheme, seen: ServerView) -> View:
    """What a server that follows the protocol can read."""
    if isinstance(scheme, Plain):
        return View(tuple(_inputs(scheme.vectors, seen)))
    if isinstance(scheme, Decoys):
        return View(tuple(_candidates(scheme, seen)))
    if seen.aggregate is None:
        return View((), "the session ended without a sum")
    if getattr(scheme, "ending", "release") == "keep":
        return View((), "the clients keep the sum: the server has ciphertexts under a key of theirs")
    total = seen.aggregate
    return View(tuple(map(of_aggregate, total.parts or (total,))))


def of_aggregate(total: Aggregate) -> Part:
    """The one thing that every scheme that hides single vectors gives, whichever it is: of groups for each of
    them.
    """
    examples = int(total.sum[EXAMPLES][0]) if EXAMPLES in total.sum else None
    # Each client's code is rounded at random, off by a sixth of a square step in the mean.
    rounding = total.error_bound.get(UPDATE, 0.0) / math.sqrt(6 * len(total.survivors))
    deviation = math.hypot(rounding, total.noise.get(UPDATE, 0.0))
    return Part(total.survivors, total.mean[UPDATE].astype(np.float64)[None], examples, deviation)


def of_relay(scheme: Split, opened: Mapping[ClientId, VectorShare | SeedShare]) -> View:
    """What a relay of split can read: of each client whose vector is with it, the share, which looks like any
    other vector of the ring; of the others, seeds of dummies, which are none of theirs.
    """
    parts, spec = [], scheme.vectors[UPDATE]
    at, bits, largest = scheme.names.index(UPDATE), scheme.ring_bits()[UPDATE], _largest(scheme.vectors)
    for u, share in sorted(opened.items()):
        if isinstance(share, VectorShare):
            words = np.zeros(spec.length, word_type(bits))
            add_packed(words, share.packed[at], bits)
            codes = centred(spec, words, scheme.clients)
            x = decode_mean(spec, codes, survivors=1, total_weight=largest, max_weight=largest)
            parts.append(Part(frozenset({u}), x[None]))
    return View(tuple(parts), "" if parts else "it holds dummies alone")


def of_eavesdropper() -> View:
    """What who listens on the wire can read: tests/transport/test_capture.py looks for more than that."""
    return View((), "all that is on the wire is encrypted and authenticated (CURVE): it sees sizes and times")


def of_colluders(whole: Part, own: Mapping[ClientId, tuple[Vector, int]]) -> View:
    """What the server and some clients can read together: what the others' updates come to.

    whole: the server's sum. own: of each of the clients that is in it, its update as it was encoded, and its
    number of examples; 1 each where weights are not told.
    """
    inside = {u: each for u, each in own.items() if u in whole.members}
    if inside.keys() == whole.members:
        return View((), "nobody else is in the sum")
    everything = whole.examples if whole.examples is not None else len(whole.members)
    rest = everything * whole.updates[0] - sum(weight * x for x, weight in inside.values())
    left = everything - sum(weight for _, weight in inside.values())
    told = None if whole.examples is None else left
    others = whole.members - inside.keys()
    # Of the colluders' own codes nothing is uncertain: what is left is the rounding of the others.
    deviation = whole.deviation * everything / left * math.sqrt(len(others) / len(whole.members))
    return View((Part(others, (rest / left)[None], told, deviation),))


def of_two(whole: Part, without: Part) -> View:
    """What a server reads that has asked for two sums, the second without some: what the updates of these
    come to, if all others have sent the same again.

    without: its update in terms of the first session's model (`disguised.Disguise.back`).
    """
    members = whole.members - without.members
    if not members or not without.members <= whole.members:
        return View((), "the second sum is not of some of the first")
    counts = [len(one.members) if one.examples is None else one.examples for one in (whole, without)]
    left = counts[0] - counts[1]
    rest = counts[0] * whole.updates[0] - counts[1] * without.updates[0]
    told = left if whole.examples is not None and without.examples is not None else None
    # The rounding of both sums is in it, and small as it may be, all of it is held against a few.
    deviation = math.hypot(counts[0] * whole.deviation, counts[1] * without.deviation) / left
    return View((Part(members, (rest / left)[None], told, deviation),))


def of_participant(before: Vector, after: Vector, lr: float, members: frozenset[ClientId]) -> View:
    """What a client reads that follows the model over rounds: the mean update of them all is what the model
    moved by. before, after: (d,), two broadcast models, one step of `lr` along the mean apart.
    """
    return View((Part(members, ((after - before) / lr)[None]),))


def of_client(steps: Mapping[ClientId, tuple[Vector, int]]) -> View:
    """What is read at the clients themselves, where they train: the gradient of one step, and its number of
    examples. No encryption reaches there.
    """
    return View(tuple(Part(frozenset({u}), g[None], n) for u, (g, n) in sorted(steps.items())))


def over_rounds(last: View, earlier: Sequence[tuple[NDArray[np.float32], View]]) -> View:
    """A client's history, or that of a cohort: what is read of a round, with what was read of the very same
    clients in rounds before. earlier: of each the model that the clients received, and what was read.
    """
    parts = [
        replace(
            part,
            earlier=tuple(
                replace(one, before=model)
                for model, view in earlier
                for one in view.parts
                if one.members == part.members
            ),
        )
        for part in last.parts
    ]
    return View(tuple(parts), last.why)


def of_model(parameters: NDArray[np.float32], members: frozenset[ClientId]) -> View:
    """What can be read by who has the model, (d,), that these have trained: that, in an update's place."""
    return View((Part(members, parameters.astype(np.float64)[None]),))


def encoded(u: ClientId, specs: Vectors, codes: Sequence[Mapping[str, NDArray[np.int64]]]) -> Part:
    """What one client's signed codes say: its update, or of several its candidates."""
    weight, largest = weight_of(specs, codes[0])
    spec, number = specs[UPDATE], {"survivors": 1, "total_weight": weight, "max_weight": largest}
    updates = [decode_mean(spec, each[UPDATE], **number) for each in codes]
    examples = int(codes[0][EXAMPLES][0]) if EXAMPLES in codes[0] else None
    return Part(frozenset({u}), np.stack(updates), examples, error_bound(spec, **number) / math.sqrt(6))


def _largest(specs: Vectors) -> int:
    """The weight that a share is read with: its own is another share."""
    return next((spec.maximum for spec in specs.values() if isinstance(spec, Weight)), 1)


def _inputs(specs: Vectors, seen: ServerView) -> Iterator[Part]:
    for round, u, message in seen.received:
        if round == INPUT:
            values = {
                name: np.frombuffer(raw, "<f4" if isinstance(specs[name], Bounded) else "<i8")
                for name, raw in zip(sorted(specs), decode(Input, message).vectors, strict=True)
            }
            examples = int(values[EXAMPLES][0]) if EXAMPLES in values else None
            yield Part(frozenset({u}), values[UPDATE].astype(np.float64)[None], examples)


def _candidates(scheme: Decoys, seen: ServerView) -> Iterator[Part]:
    for round, u, message in seen.received:
        if round == scheme.upload_round:
            flat = [x.reshape(-1) for x in scheme.plan.unpack(decode(Candidates, message).vectors)]
            yield encoded(u, scheme.vectors, [_split(scheme.vectors, x) for x in flat])


def _split(specs: Mapping[str, Spec], flat: NDArray[Any]) -> dict[str, NDArray[np.int64]]:
    parts, start = {}, 0
    for name in sorted(specs):
        parts[name] = flat[start : start + specs[name].length]
        start += specs[name].length
    return parts
