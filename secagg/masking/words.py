"""What a choice of parameters means, in words: for people who decide whether to take part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import msgspec

from secagg.errors import counted
from secagg.graph import ETA, SIGMA
from secagg.masking.groups import CUT_SIGMA
from secagg.policy import Adversary

if TYPE_CHECKING:
    from secagg.masking import Masking
    from secagg.masking.groups import Groups


_NO_INTEGRITY = "Correct for honest clients only: masking gives no integrity."
AGAINST: Mapping[Adversary, str] = {
    "active": "active server: whatever it does, it learns sums over a quorum and no single vector. "
    + _NO_INTEGRITY,
    "semi-honest": "honest-but-curious server: it learns the sum and no single vector. " + _NO_INTEGRITY,
}
"""In one line, against whom."""
OF_GROUPS: Mapping[Adversary, str] = {
    "active": "active server: whatever it does, it learns sums over a quorum of a group and no single "
    f"vector. {_NO_INTEGRITY}",
    "semi-honest": "honest-but-curious server: it learns the sum of each group and no single vector. "
    + _NO_INTEGRITY,
}
"""The same, where groups are summed apart."""
UNSAFE_GROUPS = (
    "of an unsafe group the server, with clients on its side or where few are left, may learn a single "
    f"vector. {_NO_INTEGRITY}"
)
"""The same, where these may be too small: against nobody."""


def in_words(scheme: Masking) -> Iterator[str]:
    """Line by line: what is sent, what the choice guarantees, and what not."""
    n, t, A = scheme.clients, scheme.threshold, scheme.corrupt
    active = scheme.adversary == "active"
    shape = "complete graph" if scheme.complete else f"sparse graph of {scheme.degree} neighbours each"
    if active:
        server = f"active server, {counted(A, 'corrupt client')} assumed, survivors signed by a quorum"
    else:
        server = "honest-but-curious server"
    yield f"masking, {counted(n, 'client')}, threshold {t}, {shape}, {server}"
    yield from scheme.describe_vectors()
    yield from _complete(scheme) if scheme.complete else _sparse(scheme)
    yield from scheme.describe_blanks()
    if scheme.groups is not msgspec.UNSET:
        yield from _groups(scheme, scheme.groups)
    if scheme.prg != "aes-128-ctr":
        yield f"masks are streams of {scheme.prg}"
    if scheme.batch:
        spare = max(0, n - scheme.m_min - n % scheme.batch) // scheme.batch  # the last is the largest
        yield (
            f"summed by whole batches of {scheme.batch} clients, in the order of ids: who is lost before its "
            f"vector takes its batch out of the sum, and up to {counted(spare, 'batch', 'batches')} "
            "may go; sums of many sessions "
            "with these clients and this size tell no two honest clients of a batch apart"
        )
    if active:
        open_ends = "one malicious model sent to everybody, or malice spread over rounds"
    else:
        open_ends = "anything against a server that breaks the protocol"
    yield f"not promised: {open_ends}; or a right sum where a client lies (masking gives no integrity)"


def _groups(scheme: Masking, groups: Groups) -> Iterator[str]:
    A_g, least, most = scheme.sums.corrupt, scheme.clients // groups.number, scheme.sums.most
    g = f"{least}" if least == most else f"{least} or {most}"
    yield (
        f"{counted(groups.number, 'group')} of {g} clients, each summed apart: of each the server learns the "
        f"sum of {groups.m_g} survivors or more, and of one with fewer nothing"
    )
    if groups.unsafe:
        yield (
            f"UNSAFE GROUPS: up to {A_g} of a group may be corrupt, and {groups.m_g} survivors are summed: a "
            "sum may tell one client's vector. For experiments"
        )
    else:
        yield (
            f"no group has more than {A_g} of the {scheme.corrupt} corrupt, but for a chance of "
            f"2^-{CUT_SIGMA}: the draw is a hash of keys, which some may try until it suits them"
        )
    if groups.public_weights:
        yield "weights are public: of each group their sum is known"
    again = "as in an earlier session" if groups.seed else "by the session's keys"
    yield f"the cut is drawn {again}; sums of like vectors that are cut otherwise are refused"


def _complete(scheme: Masking) -> Iterator[str]:
    n, t, m_min = scheme.clients, scheme.threshold, scheme.m_min
    early = f", {n - m_min} of them before unmasking" if m_min > t else ""
    when = "once their vectors have come" if scheme.batch else f"in any round{early}"
    yield f"up to {counted(n - t, 'client')} may vanish, {when}; with fewer than {t} left there is no sum"
    if scheme.groups is not msgspec.UNSET:
        whatever = ", whatever it does," if scheme.adversary == "active" else ""
        yield (
            f"the server{whatever} and {counted(scheme.corrupt, 'client')} on its side learn sums of "
            f"{max(scheme.honest, 1)} or more honest clients of one group"
        )
    elif scheme.adversary == "active":
        yield (
            f"the server, whatever it does, learns sums of {m_min - scheme.corrupt} or more honest clients "
            "that were there"
        )
    else:
        yield (
            f"the server, with fewer than {counted(t, 'client')} on its side, learns the survivors' "
            "sum, no more"
        )


def _sparse(scheme: Masking) -> Iterator[str]:
    n, t, A, d, m_min = scheme.clients, scheme.threshold, scheme.corrupt, scheme.dropout, scheme.m_min
    sigma = SIGMA[scheme.adversary]
    when = "once their vectors have come" if scheme.batch else f"in any round ({n - m_min} before unmasking)"
    yield (
        f"up to {counted(d, 'client')} may vanish, {when}; then there is a sum, in all but 2^-{ETA} of "
        "the sessions"
    )
    chance = f"but for a chance of 2^-{sigma} over the draw of neighbours, with {A} corrupt and {d} lost,"
    if scheme.adversary == "active":
        yield f"whatever the server does, a session unmasks one U3 of {m_min} or more, signed by so many"
        yield (f"{chance} no client loses both its masks, and the honest are summed as one")
        yield (
            "the draw is a hash of all keys; server and corrupt clients can try keys until it suits them: "
            f"of 2^80 tries, all fail but for a chance of 2^-{sigma - 80}"
        )
        yield (
            "it is reckoned with losses that do not look at the graph; an active server picks who is lost: "
            f"then a client is summed with {t} of its neighbours at least, less the corrupt among them"
        )
    else:
        yield f"{chance} the server and they learn the sum of all honest survivors, no more"
        yield (
            "that is for losses that do not look at the graph, and for a server and clients that follow the "
            "protocol"
        )
    yield f"sybils: if more than {counted(A, 'client')} are the server's or invented, none of this holds"
