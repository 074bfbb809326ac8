"""The enemies' company: whole sessions in which the server, or one client, changes what it says, and a spy
that works out what a dishonest server learns from what it saw and from the clients on its side.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray

from secagg import (
    CKKS,
    Aggregate,
    Counts,
    Identity,
    Masking,
    Recorded,
    RemoteProtocolError,
    Roster,
    Scheme,
    Tampered,
    TooFewClients,
    Weight,
    throwaway_identities,
)
from secagg.bits import add_packed, word_type
from secagg.crypto import KEY_BYTES, Rng, SecretKey, Tag, digest, seal, system_rng, unseal
from secagg.in_process import Drops
from secagg.masking.derived import (
    commit_shares,
    keys_statement,
    pair_mask_key,
    self_mask_key,
    session_id,
    share_data,
    share_key,
    shares_statement,
)
from secagg.masking.messages import (
    MaskedInput,
    MaskedInputRequest,
    PairKeyShare,
    ShareKeys,
    ShareKeysRequest,
    Unmasking,
)
from secagg.prg import add_masks
from secagg.session import Once
from secagg.shamir import SHARE_BYTES, is_share, recon
from secagg.wire import Message, Task, decode, encode
from tests.play import TASK, Says, Session, learned, the_truth
from tests.secagg.helpers import ANSWER, CKKS_ANSWER, REQUEST, kind_of

CONTEXT = digest(Tag.CONTEXT, TASK)
NONCE = bytes(range(32))
VECTORS = {"counts": Counts(length=4, maximum=2**40), "weight": Weight(maximum=7)}

Change = Callable[[Any], Message | bytes]
"""A message -> what is said in its place."""

Lies = Mapping[tuple[str, str, str], Mapping[str, Change]]
"""(sessions in which there is that check, round, what the refusal says) -> what is changed -> how."""


def request_kind(scheme: Scheme, round: str) -> type[Message]:
    """Of the server's message that opens this round."""
    return REQUEST[kind_of(scheme)][round]


# The honest


@dataclass(frozen=True)
class Company:
    """A scheme and who takes part in it. identities is None where the server is not suspected."""

    scheme: Any
    identities: Mapping[int, Identity] | None

    @property
    def roster(self) -> Roster | None:
        return next(iter(self.identities.values())).roster if self.identities else None

    @property
    def cohort(self) -> list[int]:
        return list(range(self.scheme.clients))


@cache
def company(
    adversary: Any = "active", clients: int = 6, listed: int = 0, seed: int | None = None, **numbers: Any
) -> Company:
    """listed: in the roster, where that is longer than the cohort. seed: of the identities, else drawn.
    numbers: threshold, corrupt, m_min and others.
    """
    active, rng = adversary == "active", system_rng if seed is None else np.random.default_rng(seed).bytes
    roster, identities = throwaway_identities(range(max(listed, clients)), rng) if active else (None, None)
    vectors = numbers.pop("vectors", VECTORS)
    return Company(
        Masking.for_cohort(clients, dict(vectors), adversary=adversary, roster=roster, **numbers), identities
    )


# Six clients of whom any four are enough, so that two may be lost; client 5 is the server's.
ACTIVE = company("active", threshold=4)
SEMI_HONEST = company("semi-honest", threshold=4)
BOTH = {"active": ACTIVE, "semi-honest": SEMI_HONEST}

# The same in two groups of three, any two of whom are enough.
IN_GROUPS = {
    f"{adversary}, groups": company(adversary, threshold=4, corrupt=0, groups=2, public_weights=True)
    for adversary in BOTH
}


def ckks(ending: Any, clients: int = 6, **numbers: Any) -> Company:
    """A company that trusts the server to follow the protocol, and signs its keys."""
    roster, identities = throwaway_identities(range(clients))
    vectors = numbers.pop("vectors", VECTORS)
    return Company(CKKS.for_cohort(clients, vectors, ending=ending, roster=roster, **numbers), identities)


# Four are enough of these six, too.
KEEP, RELEASE = ckks("keep"), ckks("release")
ENDINGS = {"ckks, kept": KEEP, "ckks, released": RELEASE}
EVERY = BOTH | ENDINGS
CORRUPT = 5


def each_lie(lies: Lies, among: Mapping[str, Company]) -> pytest.MarkDecorator:
    """company, round, change, words: each lie in each session that it is for."""
    return pytest.mark.parametrize(
        ("company", "round", "change", "words"),
        [
            pytest.param(company, round, change, words, id=f"{adversary}, {round}: {what}")
            for (where, round, words), changes in lies.items()
            for what, change in changes.items()
            for adversary, company in among.items()
            if where in ("both", adversary)
        ],
    )


def vectors_of(u: int) -> dict[str, Any]:
    return {"counts": [10**10 * (u + 1) + i for i in range(4)], "weight": 1 + u % 7}


def sum_of(
    ids: Collection[int], inputs: Callable[[int], dict[str, Any]] = vectors_of
) -> dict[str, list[int]]:
    return {
        name: np.sum([np.reshape(inputs(u)[name], -1) for u in ids], axis=0).tolist() for name in inputs(0)
    }


def assert_exact(total: Aggregate | None, survivors: Collection[int]) -> None:
    assert total is not None
    assert total.survivors == set(survivors)
    assert {name: x.tolist() for name, x in (total.codes or total.sum).items()} == sum_of(survivors)


class Draws:
    """A client's generator, which remembers what it gave: c_u^SK, s_u^SK and b_u come first."""

    def __init__(self, rng: Rng = system_rng) -> None:
        self.rng, self.given = rng, []

    def __call__(self, n: int) -> bytes:
        self.given.append(self.rng(n))
        return self.given[-1]


def _seeded(*seed: int) -> Rng:
    return np.random.default_rng(seed).bytes


class Gullible(Roster):
    """A roster that believes every signature: of a server that lets pass what an honest one would stop."""

    def signed_by(self, u: int, message: bytes, signature: bytes) -> bool:
        return True


def gullible(roster: Roster) -> Gullible:
    return Gullible(roster.digest, roster.keys)


def believing(company: Company, u: int) -> Identity:
    """Client u's identity with a roster that believes every signature: its checks are taken away."""
    assert company.identities is not None
    return Identity(u, gullible(company.identities[u].roster), company.identities[u].key)


# The dishonest


def flipped(data: bytes, at: int = -1) -> bytes:
    """The data with one bit of one byte changed."""
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def without(entries: Mapping[int, Any], *ids: int) -> dict[int, Any]:
    return {v: entry for v, entry in entries.items() if v not in ids}


def to(victim: int, round: str, change: Change, scheme: Scheme) -> Says:
    """A server that changes one request, to one client."""
    return _changing(victim, round, change, request_kind(scheme, round))


def of(liar: int, round: str, change: Change, kinds: Mapping[str, Any] = ANSWER) -> Says:
    """A client that changes one answer."""
    return _changing(liar, round, change, kinds[round])


def _changing(u: int, round: str, change: Change, kind: type[Message]) -> Says:
    def says(now: str, who: int, message: bytes) -> bytes:
        if (now, who) != (round, u):
            return message
        new = change(decode(kind, message))
        return new if isinstance(new, bytes) else encode(new)

    return says


def sign_keys(
    company: Company, signer: int, c_pk: bytes, s_pk: bytes, *, of: int | None = None, **other: bytes
) -> tuple[bytes, bytes, bytes]:
    """An entry of the key list, signed by `signer` as if it were `of`. other: nonce, context, parameters or
    roster of another session.
    """
    assert company.identities is not None
    identity = company.identities[signer]
    bound = {
        "parameters": company.scheme.digest(),
        "roster": identity.roster.digest,
        "context": CONTEXT,
        "nonce": NONCE,
    } | other
    statement = keys_statement(**bound, u=signer if of is None else of, c_pk=c_pk, s_pk=s_pk)
    return c_pk, s_pk, identity.key.sign(statement)


def new_keys() -> tuple[bytes, bytes]:
    return SecretKey.generate().public, SecretKey.generate().public


def dealing(scene: Scene, dealer: int, change: Callable[[int, bytes], bytes]) -> bytes:
    """The dealer's ShareKeys again, with other shares in it, each committed to, and all signed.

    change: holder, its two shares -> what is sealed for it instead.
    """
    message, sid = decode(ShareKeys, scene.answers[dealer]), scene.inner._sid
    secret, sealed, commitments = SecretKey(scene.draws[dealer].given[0]), {}, {}
    for v, was in message.sealed.items():
        key = share_key(secret.agree(scene.inner._keys[v][0]), sid, dealer, v)
        both = unseal(key, was, share_data(sid, dealer, v))
        assert both is not None
        both = change(v, both)
        sealed[v] = seal(key, both, share_data(sid, dealer, v))
        commitments[v] = commit_shares(sid, dealer, v, both)
    if scene.company.identities is not None:
        message = replace(message, commitments=message.commitments | commitments)
    return signed(scene, dealer, replace(message, sealed=sealed))


def signed(scene: Scene, dealer: int, message: ShareKeys) -> bytes:
    """A changed ShareKeys under the signature of its dealer."""
    if scene.company.identities is None:
        return encode(message)
    statement = shares_statement(scene.inner._sid, dealer, message)
    return encode(replace(message, signature=scene.company.identities[dealer].key.sign(statement)))


class Scene(Session):
    """One session, played on to its end whoever lies in it.

    asks, says: what the server, a client says instead. server_roster: the server's, if not the company's.
    schemes: client -> parameters of its own. seed: of what the clients draw, and so of the graph. ended: what
    ended the session instead of a sum.
    """

    def __init__(
        self,
        company: Company,
        *,
        asks: Says | None = None,
        says: Says | None = None,
        drop: Drops | None = None,
        identities: Mapping[int, Identity] | None = None,
        server_roster: Roster | None = None,
        schemes: Mapping[int, Any] | None = None,
        inputs: Callable[[int], dict[str, Any]] = vectors_of,
        once: Mapping[int, Once] | None = None,
        task: bytes = TASK,
        nonce: bytes = NONCE,
        seed: int | None = None,
    ) -> None:
        self.company, self.scheme = company, company.scheme
        self.kinds = CKKS_ANSWER if isinstance(company.scheme, CKKS) else ANSWER
        keys = {**(company.identities or {}), **(identities or {})}
        self.inner = self.scheme.server(
            company.cohort, task, roster=server_roster or company.roster, rng=lambda n: nonce
        )
        rngs = {u: system_rng if seed is None else _seeded(seed, u) for u in company.cohort}
        self.draws = {u: Draws(rng) for u, rng in rngs.items()}
        clients = {
            u: (schemes or {})
            .get(u, self.scheme)
            .client(
                u,
                lambda task, u=u: inputs(u),
                rounding_seed=bytes(KEY_BYTES),
                identity=keys.get(u),
                once=(once or {}).get(u),
                rng=self.draws[u],
            )
            for u in company.cohort
        }
        server = Recorded(Tampered(self.inner, asks or the_truth))
        super().__init__(server, clients, drop=drop, says=says or the_truth, forgiven=company.cohort)
        self.ended: RemoteProtocolError | TooFewClients | None = None

    def play(self) -> Scene:
        return self.to("done")

    def to(self, round: str) -> Scene:
        """Play on until that round is open and its requests are on their way, or the session has ended."""
        while self.ended is None and self.server.round not in (round, "done"):
            self.answer()
            self.close()
        return self

    def close(self) -> None:
        try:
            super().close()
        except (RemoteProtocolError, TooFewClients) as end:
            self.ended = end

    def lie(self, u: int, change: Change) -> Scene:
        """Change what u is about to say, knowing all that was said before."""
        new = change(decode(self.kinds[self.server.round], self.answers[u]))
        self.answers[u] = new if isinstance(new, bytes) else encode(new)
        return self

    @property
    def total(self) -> Aggregate | None:
        """The result, wherever it is."""
        return learned(self.server.result, self.clients.values()) if self.server.result else None

    def said(self, round: str) -> set[int]:
        """Who sent anything in this round."""
        return {u for now, u, _ in self.server.view.received if now == round}

    def message(self, round: str, u: int) -> Any:
        """What u answered, as the server heard it."""
        return next(
            decode(self.kinds[round], m) for now, v, m in self.server.view.received if (now, v) == (round, u)
        )

    def learned(self, *colluders: int) -> set[frozenset[int]]:
        return self.spy(*colluders).learned()

    def spy(self, *colluders: int) -> Spy:
        return Spy(self, {u: self.draws[u] for u in colluders})


# What is learned


def readable(
    beside: Mapping[int, Collection[int]],
    sid: Mapping[int, Any],
    keys: Collection[int],
    masks: Collection[int],
) -> set[frozenset[int]]:
    """The smallest groups of honest clients the sum of whose vectors can be read: where every self-mask is
    known, and every unknown mask of a pair stands in the group twice and cancels.

    beside: its neighbours in the U2 that each honest client was shown, with whose masks it masked; itself
    does not count. sid: as it was shown it. keys, masks: whose s^SK, whose b is known.
    """
    hidden = {u: {v for v in beside[u] if v != u and u not in keys and v not in keys} for u in beside}
    groups = {u: frozenset({u}) for u in beside}
    for u in beside:
        for v in hidden[u] & beside.keys():
            if u in hidden[v]:  # else u's mask stays, and v's vector is without it
                joined = groups[u] | groups[v]
                groups |= dict.fromkeys(joined, joined)

    def cancels(u: int, group: frozenset[int]) -> bool:
        return all(v in group and u in hidden[v] and sid[u] == sid[v] for v in hidden[u])

    return {group for group in groups.values() if all(u in masks and cancels(u, group) for u in group)}


class Spy:
    """Every key that follows, by the key schedule, from the server's view and the colluders' own secrets."""

    def __init__(self, scene: Scene, colluders: Mapping[int, Draws]) -> None:
        self.scheme, self.honest = scene.scheme, set(scene.clients) - set(colluders)
        sent, received = scene.server.view.sent, scene.server.view.received
        said = {(round, u): message for round, u, message in received if _is(ANSWER[round], message)}
        asked = {(round, u): message for round, u, message in sent}
        self.keys, self.beside, self.y, sid = {}, {}, {}, {}
        for u, client in scene.clients.items():
            if ("share-keys", u) in asked:
                nonce, task = _task(asked["advertise-keys", u])
                self.keys[u] = decode(ShareKeysRequest, asked["share-keys", u]).keys
                parameters = client._parameters.digest()
                sid[u] = session_id(nonce, parameters, digest(Tag.CONTEXT, task), self.keys[u])
            if ("masked-input", u) in said:
                U2 = decode(MaskedInputRequest, asked["masked-input", u]).shared
                graph, cut = (
                    made(sid[u], self.keys[u]) for made in (self.scheme.graph, self.scheme.sums.cut)
                )
                self.beside[u] = self.scheme.sums.masks(graph, cut, u) & set(U2)
                self.y[u] = decode(MaskedInput, said["masked-input", u]).packed
        self.sid = sid
        self.s_sk = {u: SecretKey(draws.given[1]) for u, draws in colluders.items()}
        self.b = {u: draws.given[2] for u, draws in colluders.items() if len(draws.given) > 2}
        self._rebuild(self._shares(colluders, said))

    def _shares(
        self, colluders: Mapping[int, Draws], said: Mapping[tuple[str, int], bytes]
    ) -> dict[tuple[int, str], dict[int, int]]:
        """(dealer, "s" or "b") -> point -> share: what was returned, and what colluders can open."""
        shares: dict[tuple[int, str], dict[int, int]] = {}
        for (round, u), message in said.items():
            if round == "share-keys" and u in self.sid:
                for v in colluders.keys() & decode(ShareKeys, message).sealed.keys():
                    for kind, value in self._open(u, v, colluders[v], decode(ShareKeys, message)):
                        shares.setdefault((u, kind), {})[v + 1] = value
            if round == "unmasking":
                for v, given in decode(Unmasking, message).shares.items():
                    kind = "s" if isinstance(given, PairKeyShare) else "b"
                    shares.setdefault((v, kind), {})[u + 1] = int.from_bytes(given.share, "big")
        return shares

    def _open(self, u: int, v: int, draws: Draws, message: ShareKeys) -> Iterator[tuple[str, int]]:
        secret = SecretKey(draws.given[0]).agree(self.keys[u][u][0])
        key, data = share_key(secret, self.sid[u], u, v), share_data(self.sid[u], u, v)
        both = unseal(key, message.sealed[v], data)
        if both is not None and is_share(both[:SHARE_BYTES]) and is_share(both[SHARE_BYTES:]):
            yield "s", int.from_bytes(both[:SHARE_BYTES], "big")
            yield "b", int.from_bytes(both[SHARE_BYTES:], "big")

    def _rebuild(self, shares: Mapping[tuple[int, str], Mapping[int, int]]) -> None:
        for (v, kind), points in shares.items():
            for chosen in combinations(sorted(points), self.scheme.threshold):
                if v in (self.b if kind == "b" else self.s_sk):
                    break
                secret = recon({x: points[x] for x in chosen}) % 2**256
                raw = secret.to_bytes(KEY_BYTES, "big")
                if kind == "b":
                    self.b[v] = raw
                elif SecretKey(raw).public == self.keys[v][v][1]:
                    self.s_sk[v] = SecretKey(raw)

    def pair(self, u: int, v: int) -> bytes | None:
        """s_uv as u has it, if one of its two ends is known."""
        if u in self.s_sk:
            return self.s_sk[u].agree(self.keys[u][v][1])
        if v in self.s_sk:
            return self.s_sk[v].agree(self.keys[u][u][1])
        return None

    def learned(self) -> set[frozenset[int]]:
        beside = {u: self.beside[u] for u in self.honest & self.y.keys()}
        return readable(beside, self.sid, self.s_sk.keys(), self.b.keys())

    def read(self, group: Collection[int]) -> dict[str, list[int]]:
        """The sum of the group's y_u, less every mask that is known."""
        bits = self.scheme.ring_bits()
        totals = {name: np.zeros(spec.length, word_type(bits[name])) for name, spec in VECTORS.items()}
        for u in group:
            for i, (name, total) in enumerate(sorted(totals.items())):
                add_packed(total, self.y[u][i], bits[name])
                for stream, sign in self.masks(u, name):
                    add_masks(total, *(([stream], []) if sign < 0 else ([], [stream])))
        return {name: (total & (2 ** bits[name] - 1)).tolist() for name, total in totals.items()}

    def masks(self, u: int, name: str) -> Iterator[tuple[bytes, int]]:
        """(PRG key, sign) of every mask on u's vector that is known."""
        if u in self.b:
            yield self_mask_key(self.b[u], self.sid[u], u, name), 1
        for v in self.beside[u]:
            if (s_uv := self.pair(u, v)) is not None:
                yield pair_mask_key(s_uv, self.sid[u], u, v, name), 1 if u > v else -1

    def words(self, u: int, name: str) -> NDArray[Any]:
        """y_u as it came, modulo the word."""
        bits = self.scheme.ring_bits()[name]
        total = np.zeros(VECTORS[name].length, word_type(bits))
        add_packed(total, self.y[u][sorted(VECTORS).index(name)], bits)
        return total


def _is(kind: type[Message], message: bytes) -> bool:
    try:
        decode(kind, message)
    except RemoteProtocolError:
        return False
    return True


def _task(request: bytes) -> tuple[bytes, bytes]:
    task = decode(Task, request)
    return task.nonce, task.task
