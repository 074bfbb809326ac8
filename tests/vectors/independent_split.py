"""A session of split without secagg (docs/protocol-split.md): every message of clients, relays and server
from the drawn secrets, and what relays open and add.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.vectors import independent as i
from tests.vectors.independent_session import Terms, added, joined, unhex

Json = dict[str, Any]
Keys = Mapping[int, Sequence[bytes]]

FIRST_RELAY = 2**31


# Section 3: what is derived and signed


def sid_of(terms: Terms, keys: Keys) -> bytes:
    listed = b"".join(bytes([j]) + keys[j][0] for j in sorted(keys))
    return i.digest("split-session", terms.nonce, terms.parameters, terms.context, listed)


def key_statement(terms: Terms, j: int, pk: bytes) -> bytes:
    bound = terms.parameters, terms.roster, terms.context, terms.nonce
    return i.transcript("sign-relay-key", *bound, j, pk)


def shares_statement(terms: Terms, sid: bytes, u: int, c_pk: bytes, digests: Sequence[bytes]) -> bytes:
    return i.transcript("sign-split-shares", sid, terms.parameters, terms.context, u, c_pk, *digests)


def column_statement(
    sid: bytes, j: int, digests: Mapping[int, Sequence[bytes]], packed: Sequence[bytes]
) -> bytes:
    members = joined(*(x for u in sorted(digests) for x in (u, *digests[u])))
    added = i.digest("split-members", members)
    return i.transcript("sign-column", sid, j, added, i.digest("split-column", *packed))


def seal_key(secret: bytes, sid: bytes, u: int, j: int, c_pk: bytes) -> bytes:
    return i.kdf("split-seal-key", secret, sid, u, j, c_pk)


def seal_data(sid: bytes, u: int, j: int) -> bytes:
    return i.digest("split-seal-data", sid, u, j)


def dummy(terms: Terms, sid: bytes, seed: bytes, u: int, j: int, name: str, m: int, b: int) -> list[int]:
    return terms.stream(i.kdf("split-dummy", seed, sid, u, j, name), m, b)


def digests_of(sealed: Sequence[bytes]) -> list[bytes]:
    return [i.digest("split-share", each) for each in sealed]


class Conversation:
    """All that is said in a recorded session, from what was drawn, and the clients' codes."""

    def __init__(self, record: Json) -> None:
        self.record = record
        self.terms = Terms.of(*(bytes.fromhex(record[name]) for name in ("offer", "task", "nonce")))
        self.M, self.cohort = self.terms.numbers["relays"], record["cohort"]
        self.sk = {int(j): bytes.fromhex(sk) for j, sk in record["relays"].items()}
        secrets = record.get("roster", {}).get("secrets", {})
        self.signing = {int(u): bytes.fromhex(secret) for u, secret in secrets.items()}
        lost = record["drop"].get("shares", [])
        self.U3 = [u for u in self.cohort if u not in lost]
        self.keys = {j: self.shown(j) for j in range(self.M)}
        self.sid = sid_of(self.terms, self.keys)
        self.shares = {u: self.shared(u) for u in self.U3}
        self.columns = {j: self.column(j) for j in range(self.M)}

    def sign(self, u: int, statement: bytes) -> bytes:
        return i.sign(self.signing[u], statement) if self.terms.active else b""

    def shown(self, j: int) -> list[bytes]:
        pk = i.x25519_public(self.sk[j])
        return [pk, self.sign(FIRST_RELAY + j, key_statement(self.terms, j, pk))]

    def shared(self, u: int) -> list[Any]:
        """[c_pk, sealed, signature]."""
        drawn, M, sid = unhex(self.record["clients"][str(u)] | NOT_HEX), self.M, self.sid
        shares = {j: i.packed(["seed", [], seed]) for j, seed in drawn["seeds"].items()}
        packed = []
        for name, spec, b in self.terms.vectors:
            y = list(self.record["clients"][str(u)]["codes"][name])
            for j, seed in drawn["seeds"].items():
                y = added(y, dummy(self.terms, sid, seed, u, j, name, spec["length"], b), -1)
            packed.append(i.pack_bits(y, b))
        shares[u % M] = i.packed(["vector", [], packed])
        c_pk = i.x25519_public(drawn["c_sk"])
        sealed = []
        for j in range(M):
            key = seal_key(i.x25519(drawn["c_sk"], self.keys[j][0]), sid, u, j, c_pk)
            sealed.append(i.seal(key, drawn["nonces"][j], shares[j], seal_data(sid, u, j)))
        signature = self.sign(u, shares_statement(self.terms, sid, u, c_pk, digests_of(sealed)))
        return [c_pk, sealed, signature]

    def opened(self, j: int, u: int) -> list[Any]:
        """By relay j, with its key."""
        c_pk, sealed, _ = self.shares[u]
        key = seal_key(i.x25519(self.sk[j], c_pk), self.sid, u, j, c_pk)
        share = i.unpack(i.unseal(key, sealed[j], seal_data(self.sid, u, j)))
        if share[0] != ("vector" if u % self.M == j else "seed"):
            raise i.MalformedError("not the share that is due")
        return list(share[2:])

    def column(self, j: int) -> list[Any]:
        """[packed, signature]."""
        shares, packed = {u: self.opened(j, u)[0] for u in self.U3}, []
        for at, (name, spec, b) in enumerate(self.terms.vectors):
            total = [0] * spec["length"]
            for u, share in shares.items():
                words = (
                    i.unpack_bits(share[at], spec["length"], b)
                    if u % self.M == j
                    else dummy(self.terms, self.sid, share, u, j, name, spec["length"], b)
                )
                total = added(total, words, 1)
            packed.append(i.pack_bits(total, b))
        digests = {u: digests_of(self.shares[u][1]) for u in self.U3}
        return [packed, self.sign(FIRST_RELAY + j, column_statement(self.sid, j, digests, packed))]

    def codes(self) -> dict[str, list[int]]:
        """The sum, from the columns alone."""
        found = {}
        for at, (name, spec, b) in enumerate(self.terms.vectors):
            total = [0] * spec["length"]
            for packed, _ in self.columns.values():
                total = added(total, i.unpack_bits(packed[at], spec["length"], b), 1)
            found[name] = [i.centred(spec, word, b) for word in total]
        return found

    def __iter__(self) -> Iterator[tuple[str, int | str, Any, bytes]]:
        """(round, from, to, message) in order."""
        relays = [FIRST_RELAY + j for j in range(self.M)]
        for party in (*self.cohort, *relays):
            yield "join", party, "server", i.packed(["join", 1, self.terms.parameters])
        asked = ["relay-key-request", self.terms.nonce, self.terms.context]
        yield "relay-keys", "server", relays, i.packed(asked)
        for j, key in self.keys.items():
            yield "relay-keys", relays[j], "server", i.packed(["relay-key", *key])
        task = bytes.fromhex(self.record["task"])
        yield "shares", "server", self.cohort, i.packed(["split-task", self.terms.nonce, task, self.keys])
        for u, shares in self.shares.items():
            yield "shares", u, "server", i.packed(["shares", *shares])
        for j in range(self.M):
            passed = {u: [s[0], digests_of(s[1]), s[1][j], s[2]] for u, s in self.shares.items()}
            yield "deliver", "server", [relays[j]], i.packed(["deliver-request", self.keys, passed])
        for relay in relays:
            yield "deliver", relay, "server", i.packed(["received", []])
        yield "columns", "server", relays, i.packed(["column-request", self.U3])
        for j, column in self.columns.items():
            yield "columns", relays[j], "server", i.packed(["column", *column])


NOT_HEX: Json = {"inputs": [], "codes": []}
"""What of a client's record is no bytes."""
