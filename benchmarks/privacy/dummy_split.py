"""What relays that collude learn from shares that cancel: every number of them, with the server."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Case, Control, Row, Table
from benchmarks.spread import guesses
from secagg import Counts, Identity, Split, run, throwaway_identities
from secagg.bits import Words, add_packed, packed_bytes, word_type
from secagg.crypto import DIGEST_BYTES
from secagg.errors import ClientId
from secagg.prg import add_masks
from secagg.record import Recorder
from secagg.split.derived import dummy_key
from secagg.split.messages import SHARES, SeedShare, Shares, VectorShare, holder_of
from secagg.split.relay import SplitRelay, Usable
from secagg.wire import decode

CLAIM = (
    "The server with any of the relays but one learns nothing of a client's vector. In a small ring, where "
    "all choices of dummies can be gone through, what any such relays hold has one distribution whatever "
    "the vector is, the uniform one. In whole sessions, where dummies are streams of AES and shares travel "
    "sealed, they guess which of two vectors a client has sent as a coin does; the sum is the same either "
    "way. All relays together add its shares, and read it."
)
CONTROL = Control(
    "all relays together, who must succeed",
    lambda row: row["together"] == row["relays"],
    by=("what", "relays"),
)
ALONE = True
RELAYS = (2, 3, 4)
RING = 8  # elements of the small one: of sums of 3 clients' codes 0 to 2
SESSIONS = {"quick": 60, "full": 2000}
CLIENTS, LENGTH, MAXIMUM = 4, 64, 255  # of a session


def cases(size: str, seed: int) -> list[Case]:
    counted = [Case(f"counted, {M} relays", partial(run_counted, M)) for M in RELAYS]
    guessed = [Case(f"guessed, {M} relays", partial(run_guessed, M, SESSIONS[size], seed)) for M in RELAYS]
    return counted + guessed


# Counted


def run_counted(M: int) -> Iterator[Row]:
    """By how many relays are together, at most over which they are: total variation of what they hold from
    uniform, and between two vectors.
    """
    scheme = Split.for_cohort(3, Counts(length=1, maximum=2), relays=M)
    assert scheme.ring_bits() == {"": RING.bit_length() - 1}  # noqa: S101
    held = {x: held_by_all(scheme, x) for x in range(RING)}
    for together in range(1, M + 1):
        uniform, between = 0.0, 0.0
        for some in itertools.combinations(range(M), together):
            seen = {x: Counter(tuple(each[j] for j in some) for each in all_of) for x, all_of in held.items()}
            every = list(itertools.product(range(RING), repeat=together))
            flat = Counter(dict.fromkeys(every, RING ** (M - 1) / len(every)))
            uniform = max(uniform, *(variation(each, flat) for each in seen.values()))
            between = max(between, *(variation(seen[0], each) for each in seen.values()))
        yield {"what": "counted", "relays": M, "together": together, "uniform": uniform, "between": between}


def held_by_all(scheme: Split, x: int) -> list[tuple[int, ...]]:
    """The element that each relay adds, for every choice of dummies there is in the place of the PRG's."""
    client, holder = scheme.client(0, lambda task: [x]), holder_of(0, scheme.relays)
    others = [j for j in range(scheme.relays) if j != holder]
    bits, found = scheme.ring_bits()[""], list[tuple[int, ...]]()
    for dummies in itertools.product(range(RING), repeat=len(others)):
        drawn = dict(zip(others, dummies, strict=True))

        def subtract(y: Words, plus: Any, minus: Sequence[int], prg: str, drawn: Any = drawn) -> None:
            for j in minus:
                y -= y.dtype.type(drawn[j])

        with (
            patch("secagg.split.client.add_masks", subtract),
            patch("secagg.split.client.dummy_key", lambda seed, sid, u, j, name: j),
        ):
            shares = client._cut(bytes(DIGEST_BYTES), {"": np.array([x], word_type(bits))}, [])
        vector = np.zeros(1, word_type(bits))
        add_packed(vector, decode(VectorShare, shares[holder]).packed[0], bits)
        held = drawn | {holder: int(vector[0])}
        found.append(tuple(held[j] for j in range(scheme.relays)))
    return found


def variation(one: Counter[tuple[int, ...]], other: Counter[tuple[int, ...]]) -> float:
    """Total variation of two that have as many counts in all."""
    apart = sum(abs(one[each] - other[each]) for each in one.keys() | other.keys())
    return apart / 2 / one.total()


# Guessed


def run_guessed(M: int, sessions: int, seed: int) -> Iterator[Row | str]:
    """By how many relays are together, in each session others: how often they guess rightly."""
    rng = np.random.default_rng([seed, M])
    roster, identities = throwaway_identities(range(CLIENTS), relays=M)
    scheme = Split.for_cohort(CLIENTS, Counts(length=LENGTH, maximum=MAXIMUM), relays=M, roster=roster)
    right = [0] * (M + 1)
    for session in range(sessions):
        if session % 100 == 0:
            yield f"session {session + 1} of {sessions}"
        victim, chosen = session % CLIENTS, int(rng.integers(2))
        two = rng.integers(0, MAXIMUM + 1, (2, LENGTH))
        view = View.of(scheme, identities, victim, two, chosen)
        for together in range(M + 1):
            some = rng.choice(M, together, replace=False).tolist()
            right[together] += view.guess(some) == chosen
    for together, count in enumerate(right):
        yield {"what": "guessed", "relays": M, "together": together, "right": count, "of": sessions}


@dataclass
class View:
    """What server and relays have of one client in one session. two: its candidates."""

    scheme: Split
    victim: ClientId
    two: NDArray[np.int64]
    sid: bytes
    sealed: Sequence[bytes]
    opened: Mapping[int, SeedShare | VectorShare]

    @classmethod
    def of(
        cls,
        scheme: Split,
        identities: Mapping[ClientId, Identity],
        victim: ClientId,
        two: NDArray[np.int64],
        chosen: int,
    ) -> View:
        """Of a session in which another client sends the vector that the victim does not: the sum tells
        nothing.
        """
        x = {u: np.zeros(LENGTH, np.int64) for u in range(CLIENTS)}
        x[victim], x[(victim + 1) % CLIENTS] = two[chosen], two[1 - chosen]
        recorder, opened, sids = Recorder([None]), dict[int, Any](), list[bytes]()
        add = SplitRelay._column

        def noting(relay: SplitRelay, sid: bytes, added: Mapping[ClientId, Usable]) -> Any:
            opened[relay._j] = added[victim].share
            sids.append(sid)
            return add(relay, sid, added)

        with patch.object(SplitRelay, "_column", noting):
            run(scheme, x, identities=identities, instrument=partial(recorder.server, b""))
        (view,) = recorder.servers
        (sent,) = [raw for name, u, raw in view.received if (name, u) == (SHARES, victim)]
        return cls(scheme, victim, two, sids[0], [*map(bytes, decode(Shares, sent).sealed)], opened)

    def guess(self, together: Sequence[int]) -> int:
        """Which candidate is nearer to the sum of the shares they can open; of the packed share, where it is
        another relay's, they have the ciphertext.
        """
        (bits,), holder = self.scheme.ring_bits().values(), holder_of(self.victim, self.scheme.relays)
        total = np.zeros(LENGTH, word_type(bits))
        if holder not in together:
            add_packed(total, self.sealed[holder][-packed_bytes(LENGTH, bits) :], bits)
        for j in together:
            share = self.opened[j]
            if isinstance(share, VectorShare):
                add_packed(total, share.packed[0], bits)
            else:
                key = dummy_key(share.seed, self.sid, self.victim, j, "")
                add_masks(total, [key], (), self.scheme.prg)
        apart = (total.astype(np.int64) - self.two) % 2**bits
        return int(np.argmin(np.minimum(apart, 2**bits - apart).sum(axis=1)))


def table(rows: Sequence[Row]) -> Table:
    """together: how many relays, with the server. from uniform, between vectors: total variation, the most of
    any such relays. right: of sessions, with its 95 % interval, beside one half.
    """
    by: dict[tuple[int, int], Row] = {}
    for row in rows:
        by.setdefault((row["relays"], row["together"]), {}).update(row)
    header = ("relays", "together", "from uniform", "between vectors", "sessions", "guessed rightly")
    return Table.of(header, [_cells(M, k, row) for (M, k), row in sorted(by.items())])


def _cells(M: int, together: int, row: Row) -> tuple[str, ...]:
    counted = "uniform" in row
    return (
        str(M),
        f"{together}, all" if together == M else str(together),
        f"{row['uniform']:.4g}" if counted else "",
        f"{row['between']:.4g}" if counted else "",
        f"{row['of']:,}",
        guesses(row["right"], row["of"]),
    )
