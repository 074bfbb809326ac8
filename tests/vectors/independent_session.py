"""A session of masking without secagg (docs/protocol.md, section 8): every message from the drawn secrets."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from cryptography.exceptions import InvalidTag

from tests.vectors import independent as i

Json = dict[str, Any]


def unhex(value: Any) -> Any:
    """The hex strings in what a record holds, as bytes; the keys of its maps of ids, as ids."""
    match value:
        case str():
            return bytes.fromhex(value)
        case list():
            return [unhex(entry) for entry in value]
        case dict():
            return {int(k) if k.isdigit() else k: unhex(v) for k, v in value.items()}
    return value


def joined(*fields: bytes | int) -> bytes:
    return b"".join(x.to_bytes(4, "big") if isinstance(x, int) else x for x in fields)


def members(ids: Sequence[int]) -> bytes:
    return i.digest("members", joined(*ids))


@dataclass(frozen=True)
class Terms:
    """What is agreed before any key is seen. numbers: the offer, decoded."""

    numbers: Json
    parameters: bytes
    context: bytes
    nonce: bytes
    roster: bytes

    @classmethod
    def of(cls, offer: bytes, task: bytes, nonce: bytes) -> Terms:
        numbers = i.unpack(offer)
        return cls(
            numbers, i.digest("parameters", offer), i.digest("context", task), nonce, numbers["roster"]
        )

    @property
    def active(self) -> bool:
        return bool(self.numbers["adversary"] == "active")

    @property
    def vectors(self) -> Iterator[tuple[str, Json, int]]:
        """(name, specification, b) in the order of the wire."""
        for name in sorted(self.numbers["vectors"], key=str.encode):
            spec = self.numbers["vectors"][name]
            spec = {"length": 1, **spec}
            yield name, spec, i.ring_bits(spec, self.summed)

    @property
    def groups(self) -> Json:
        """What the offer says of them; of one sum nothing."""
        return self.numbers.get("groups", {})

    @property
    def summed(self) -> int:
        """Of how many clients one sum is at most."""
        return -(-self.numbers["clients"] // self.groups.get("number", 1))

    def rotation(self, name: str) -> bytes:
        return i.digest("rotation", self.nonce, self.parameters, self.context, name)

    def keys_statement(self, u: int, c_pk: bytes, s_pk: bytes) -> bytes:
        bound = self.parameters, self.roster, self.context, self.nonce
        return i.transcript("sign-keys", *bound, u, c_pk, s_pk)

    def stream(self, seed: bytes, length: int, bits: int) -> list[int]:
        return i.words(self.numbers["prg"], seed, length, i.word_bytes(bits))


class Agreed:
    """What follows once the keys of U1 are known."""

    def __init__(self, terms: Terms, keys: Mapping[int, list[bytes]]) -> None:
        self.terms, self.keys, self.U1 = terms, keys, sorted(keys)
        listed = joined(*(x for v in self.U1 for x in (v, *keys[v][:2])))
        self.sid = i.digest("session", terms.nonce, terms.parameters, terms.context, listed)
        n, k = terms.numbers["clients"], terms.numbers["degree"]
        graph = i.neighbours(n, k, self.sid, self.U1)
        self.neighbours, self.groups = graph, [self.U1]
        if of := terms.groups:
            self.groups = i.cut(n, of["number"], of["seed"] or self.sid, of["cohort"] or self.U1)
            beside = {u: set(group) & set(self.U1) - {u} for group in self.groups for u in group}
            self.neighbours = {u: beside[u] for u in self.U1}
        own = [set(), *({u} for u in self.U1)] if k == n - 1 else [set()] * (len(self.U1) + 1)
        self.holders = {
            u: sorted(graph[u] | self_held) for u, self_held in zip(self.U1, own[1:], strict=True)
        }

    def opened(self, there: Collection[int]) -> list[list[int]]:
        """The groups of which enough are there; of one sum everybody."""
        least = self.terms.groups.get("m_g", 0)
        return [group for group in self.groups if len(set(group) & set(there)) >= least]

    def left(self, U2: Sequence[int]) -> list[int]:
        """Who is in U2 of those who have shared."""
        return [u for u in U2 if any(u in group for group in self.opened(U2))]

    def self_mask(self, b_u: bytes, u: int, name: str) -> bytes:
        return i.kdf("self-mask", b_u, self.sid, u, name)

    def pair_mask(self, s_uv: bytes, u: int, v: int, name: str) -> bytes:
        return i.kdf("pair-mask", s_uv, self.sid, min(u, v), max(u, v), name)

    def share_key(self, c_uv: bytes, dealer: int, holder: int) -> bytes:
        return i.kdf("share-key", c_uv, self.sid, dealer, holder)

    def share_data(self, dealer: int, holder: int) -> bytes:
        return i.digest("share-data", self.sid, dealer, holder)

    def commitments(self, dealer: int, holder: int, both: bytes) -> list[bytes]:
        return [
            i.digest("commit-key-share", self.sid, dealer, holder, both[:33]),
            i.digest("commit-mask-share", self.sid, dealer, holder, both[33:]),
        ]

    def members_statement(self, U2: Sequence[int], U3: Sequence[int]) -> bytes:
        terms = self.terms
        sets = map(members, (self.U1, U2, U3))
        return i.transcript("sign-members", self.sid, terms.parameters, terms.context, *sets)


class Client:
    """Client u with what the record says it drew."""

    def __init__(self, terms: Terms, u: int, record: Json, signing: bytes | None) -> None:
        drawn = {name: unhex(record[name]) for name in record if name not in ("inputs", "codes", "clipping")}
        self.terms, self.u, self.inputs, self.drawn, self.signing = terms, u, record["inputs"], drawn, signing
        self.noised = record.get("codes", {})

    def sign(self, statement: bytes) -> bytes:
        return i.sign(self.signing, statement) if self.signing is not None else b""

    def codes(self) -> dict[str, tuple[list[int], int, float]]:
        weight = Fraction(1)
        for name, spec, _ in self.terms.vectors:
            if spec["kind"] == "weight":
                weight = Fraction(self.inputs[name][0], spec["maximum"])
        encoded = {}
        for name, spec, bits in self.terms.vectors:
            if spec["kind"] == "private":  # of which rounding and noise are the client's own affair
                encoded[name] = self.noised[name], 0, i.norm_factor(spec["clip"], self.inputs[name])
                continue
            key = i.kdf("rounding", self.drawn["rounding_seed"], self.terms.context, name)
            encoded[name] = i.encode(spec, self.inputs[name], bits, key, weight)
        return encoded

    def advertise_keys(self) -> list[Any]:
        c_pk, s_pk = (i.x25519_public(self.drawn[name]) for name in ("c_sk", "s_sk"))
        return ["advertise-keys", c_pk, s_pk, self.sign(self.terms.keys_statement(self.u, c_pk, s_pk))]

    def dealt(self, agreed: Agreed) -> dict[int, bytes]:
        """Both shares of each holder, joined."""
        points = [v + 1 for v in agreed.holders[self.u]]
        of_key, of_mask = (
            i.shares(
                int.from_bytes(self.drawn[secret], "big"),
                [int.from_bytes(c, "big") for c in self.drawn[coefficients]],
                points,
            )
            for secret, coefficients in (("s_sk", "key_coefficients"), ("b_u", "mask_coefficients"))
        )
        return {x - 1: of_key[x].to_bytes(33, "big") + of_mask[x].to_bytes(33, "big") for x in points}

    def share_keys(self, agreed: Agreed) -> list[Any]:
        u, sealed, both = self.u, {}, self.dealt(agreed)
        for v in (v for v in both if v != u):
            key = agreed.share_key(i.x25519(self.drawn["c_sk"], agreed.keys[v][0]), u, v)
            sealed[v] = i.seal(key, self.drawn["nonces"][v], both[v], agreed.share_data(u, v))
        if not self.terms.active:
            return ["share-keys", sealed, b"", {}, b""]
        commitment = i.digest("commit-mask", agreed.sid, u, self.drawn["b_u"])
        commitments = {v: agreed.commitments(u, v, shares) for v, shares in both.items()}
        unsigned = ["share-keys", sealed, commitment, commitments, b""]
        statement = i.transcript("sign-shares", agreed.sid, u, i.packed(unsigned))
        return [*unsigned[:-1], self.sign(statement)]

    def masked_input(self, agreed: Agreed, U2: Sequence[int]) -> list[Any]:
        u, vectors = self.u, []
        codes = self.codes()
        others = [v for v in sorted(agreed.neighbours[u]) if v in U2]
        agreements = {v: i.x25519(self.drawn["s_sk"], agreed.keys[v][1]) for v in others}
        for name, spec, bits in self.terms.vectors:
            own = agreed.self_mask(self.drawn["b_u"], u, name)
            y = added(codes[name][0], self.terms.stream(own, spec["length"], bits), 1)
            for v, s_uv in agreements.items():
                mask = self.terms.stream(agreed.pair_mask(s_uv, u, v, name), spec["length"], bits)
                y = added(y, mask, 1 if u > v else -1)
            vectors.append(i.pack_bits(y, bits))
        return ["masked-input", vectors]

    def unmasking(
        self,
        agreed: Agreed,
        deliveries: Mapping[int, list[Any]],
        dropped: Sequence[int],
        there: Collection[int],
    ) -> list[Any]:
        """Opens what was dealt, with u's own shares beside it on the complete graph. there: U3, or of that
        whose signatures count.
        """
        u, shares = self.u, {}
        opened = {v: self.opened(agreed, v, delivery) for v, delivery in deliveries.items()}
        if u in agreed.holders[u]:
            opened[u] = self.dealt(agreed)[u]
        summed = {v for group in agreed.opened(there) for v in group}
        for v, both in sorted(opened.items()):
            if both is not None and v in summed:
                shares[v] = ["s", both[:33]] if v in dropped else ["b", both[33:]]
        return ["unmasking", shares]

    def opened(self, agreed: Agreed, v: int, delivery: list[Any]) -> bytes | None:
        sealed, commitments = delivery
        key = agreed.share_key(i.x25519(self.drawn["c_sk"], agreed.keys[v][0]), v, self.u)
        try:
            both = i.unseal(key, sealed, agreed.share_data(v, self.u))
        except InvalidTag:
            return None
        if max(int.from_bytes(half, "big") for half in (both[:33], both[33:])) >= i.P:
            return None
        if self.terms.active and commitments != agreed.commitments(v, self.u, both):
            return None
        return both


def added(y: Sequence[int], mask: Sequence[int], sign: int) -> list[int]:
    return [a + sign * b for a, b in zip(y, mask, strict=True)]


def summed(batches: Sequence[Sequence[int]], U: Sequence[int]) -> list[int]:
    """Who is in the sum: those of whole batches."""
    return [u for u in U if all(set(batch) <= set(U) for batch in batches if u in batch)]


def batches_of(record: Json, numbers: Json) -> list[list[int]]:
    if not numbers["batch"]:
        return []
    listed = record["roster"]["keys"] if "roster" in record else range(numbers["clients"])
    return i.batches([int(u) for u in listed], numbers["batch"])


# Every message, from the drawn secrets

Said = tuple[str, Any, Any, bytes]  # round, from, to, message


class Conversation:
    """All messages of a record's parties in order."""

    def __init__(self, record: Json) -> None:
        self.record = record
        offer, task, nonce = (bytes.fromhex(record[name]) for name in ("offer", "task", "nonce"))
        self.terms, self.task = Terms.of(offer, task, nonce), task
        secrets = record.get("roster", {}).get("secrets", {})
        self.clients = {
            int(u): Client(self.terms, int(u), drawn, bytes.fromhex(secrets[u]) if u in secrets else None)
            for u, drawn in record["clients"].items()
        }
        self.batches = batches_of(record, self.terms.numbers)
        self.joint = record.get("joint", False)

    def __iter__(self) -> Iterator[Said]:
        """Whoever is dropped in a round is not heard in it, nor after it."""
        terms, left, clients = self.terms, list(self.clients), self.clients

        def answers(round: str, answer: Any, request: Any = None) -> Iterator[Said]:
            """The request to all that are left, and the answers of those that are left then."""
            if request is not None:
                yield round, "server", list(left), i.packed(request)
            left[:] = [u for u in left if u not in self.record["drop"].get(round, ())]
            for u in left:
                yield round, u, "server", i.packed(answer(u))

        def first(u: int) -> list[Any]:
            keys = clients[u].advertise_keys()
            return ["joint", 1, terms.parameters, i.packed(keys)] if self.joint else keys

        if not self.joint:
            yield from answers("join", lambda u: ["join", 1, terms.parameters])
        yield from answers("advertise-keys", first, ["task", terms.nonce, self.task])
        keys = {u: clients[u].advertise_keys()[1:] for u in left}
        agreed = Agreed(terms, keys)
        request: list[Any] = ["share-keys-request", keys]
        yield from answers("share-keys", lambda u: clients[u].share_keys(agreed), request)
        left[:] = U2 = agreed.left(left)
        U2 = list(U2)
        deliveries = {u: dict(self.delivered(agreed, u, U2)) for u in U2}
        for u in U2:
            yield "masked-input", "server", [u], i.packed(["masked-input-request", U2, deliveries[u]])
        yield from answers("masked-input", lambda u: clients[u].masked_input(agreed, U2))
        left[:] = U3 = summed(self.batches, left)
        dropped = [u for u in U2 if u not in U3]
        request = ["unmasking-request", dropped]
        if terms.active:
            statement, U3 = agreed.members_statement(U2, U3), list(U3)
            check: list[Any] = ["consistency-check-request", U3]
            yield from answers(
                "consistency-check", lambda u: ["consistency-check", clients[u].sign(statement)], check
            )
            request = ["signed-unmasking-request", {u: clients[u].sign(statement) for u in left}]
        there = list(left)
        yield from answers(
            "unmasking", lambda u: clients[u].unmasking(agreed, deliveries[u], dropped, there), request
        )

    def delivered(self, agreed: Agreed, u: int, U2: Sequence[int]) -> Iterator[tuple[int, list[Any]]]:
        for v in (v for v in agreed.holders[u] if v in U2 and v != u):
            _, sealed, _, commitments, _ = self.clients[v].share_keys(agreed)
            yield v, [sealed[u], commitments[u] if self.terms.active else None]
