"""A server of masking without secagg (docs/protocol.md, sections 8.8, 11.3 and 11.4): what it sends for what
clients say, what it verifies, rebuilds and takes off, and the sum.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tests.vectors import independent as i
from tests.vectors.independent_session import Agreed, Json, Terms, batches_of, summed

ROUNDS = ("join", "advertise-keys", "share-keys", "masked-input", "consistency-check", "unmasking")
ANY_KEY = bytes(32)


class RefusedError(Exception):
    """culprits: who is named."""

    def __init__(self, culprits: Collection[int] = ()) -> None:
        self.culprits = set(culprits)


class TooFewError(Exception):
    """Fewer answered than it takes."""


def hold(condition: bool) -> None:
    if not condition:
        raise i.MalformedError


class Server:
    """Of a session file's offer, task, nonce, cohort and roster. It keeps a trace of what it computes:

    verified: (round, client, statement) of each signature. total: name -> sum of the masked inputs in Z_2^b,
    of the group that was opened last. parts: (survivors, name -> sum of codes) of each group that is opened.
    rebuilt: "b" and "s" -> client -> secret. taken_off: name -> [what, client, the other one, seed, sign].
    """

    def __init__(self, record: Json) -> None:
        offer, task, nonce = (bytes.fromhex(record[name]) for name in ("offer", "task", "nonce"))
        self.terms, self.task = Terms.of(offer, task, nonce), task
        keys = record.get("roster", {}).get("keys", {})
        self.roster = {int(u): bytes.fromhex(key) for u, key in keys.items()}
        self.batches = batches_of(record, self.terms.numbers)
        self.joint = record.get("joint", False)
        self.round, self.awaited = "advertise-keys" if self.joint else "join", set(record["cohort"])
        self.said: dict[str, dict[int, list[Any]]] = {round: {} for round in ROUNDS}
        self.gone: set[int] = set()
        self.agreed: Any = None
        self.U2: list[int] = []
        self.U3: list[int] = []
        self.verified: list[tuple[str, int, bytes]] = []
        self.total: dict[str, list[int]] = {}
        self.rebuilt: dict[str, dict[int, bytes]] = {"b": {}, "s": {}}
        self.taken_off: dict[str, list[tuple[str, int, int, bytes, int]]] = {}
        self.sums: dict[str, list[int]] = {}
        self.opened: list[list[int]] = []
        self.parts: list[tuple[list[int], dict[str, list[int]]]] = []

    # Section 11.3

    def receive(self, u: int, data: bytes) -> None:
        """Raises: RefusedError naming u, which has lost its place."""
        if u not in self.awaited:
            self.gone.add(u)
            raise RefusedError([u])
        self.awaited.remove(u)
        checks = {
            "join": self.join,
            "advertise-keys": self.advertise_keys,
            "share-keys": self.share_keys,
            "masked-input": self.masked_input,
            "consistency-check": self.consistency_check,
            "unmasking": self.unmasking,
        }
        try:
            if self.joint and self.round == "advertise-keys":
                *terms, data = i.message("joint", data)
                self.join(u, *terms)
            fields = i.message(self.round, data)
            checks[self.round](u, *fields)
        except (i.MalformedError, ValueError):
            raise RefusedError([u]) from None
        self.said[self.round][u] = fields

    def signed(self, u: int, statement: bytes, signature: bytes) -> None:
        if not self.terms.active:
            return hold(signature == b"")
        self.verified.append((self.round, u, statement))
        return hold(u in self.roster and i.verifies(self.roster[u], statement, signature))

    def join(self, u: int, version: int, parameters: bytes) -> None:
        hold(version == 1 and parameters == self.terms.parameters)

    def advertise_keys(self, u: int, c_pk: bytes, s_pk: bytes, signature: bytes) -> None:
        for key in (c_pk, s_pk):
            i.x25519(ANY_KEY, key)  # not of small order
        in_use = {key for fields in self.said[self.round].values() for key in fields[:2]}
        hold(c_pk != s_pk and not {c_pk, s_pk} & in_use)
        self.signed(u, self.terms.keys_statement(u, c_pk, s_pk), signature)

    def share_keys(
        self, u: int, sealed: Json, commitment: bytes, commitments: Json, signature: bytes
    ) -> None:
        holders = set(self.agreed.holders[u])
        hold(set(sealed) == holders - {u})
        hold(set(commitments) == (holders if self.terms.active else set()))
        hold(len(commitment) == (32 if self.terms.active else 0))
        unsigned = i.packed(["share-keys", sealed, commitment, commitments, b""])
        self.signed(u, i.transcript("sign-shares", self.agreed.sid, u, unsigned), signature)

    def masked_input(self, u: int, packed: Sequence[bytes]) -> None:
        hold(len(packed) == len(list(self.terms.vectors)))
        for (_, spec, bits), vector in zip(self.terms.vectors, packed, strict=True):
            i.unpack_bits(vector, spec["length"], bits)

    def consistency_check(self, u: int, signature: bytes) -> None:
        self.signed(u, self.agreed.members_statement(self.U2, self.U3), signature)

    def unmasking(self, u: int, shares: Mapping[int, list[Any]]) -> None:
        hold(set(shares) <= set(self.agreed.holders[u]) & set(self.U2))
        for v, (kind, share) in shares.items():
            hold(kind == ("b" if v in self.U3 else "s"))
            hold(int.from_bytes(share, "big") < i.P)
            if self.terms.active:
                of_key, of_mask = self.said["share-keys"][v][2][u]
                made = self.agreed.commitments(v, u, share + share)
                hold(made[1] == of_mask if kind == "b" else made[0] == of_key)

    # Section 8.8

    def close(self) -> dict[int, bytes]:
        """The requests that open the next round; none after the last. Raises: TooFewError; RefusedError."""
        closing, numbers = self.round, self.terms.numbers
        lost = set() if closing == "masked-input" else self.gone
        answered = sorted(set(self.said[closing]) - lost)
        if closing == "share-keys":
            answered = self.agreed.left(answered)
        if closing in ROUNDS[:4]:
            left = summed(self.batches, answered)
            answered = left if closing == "masked-input" else answered
        else:
            left = answered
        if closing in ("masked-input", "consistency-check"):
            self.opened = self.agreed.opened(left)
        few = len(left) < numbers["threshold" if closing == "unmasking" else "m_min"]
        if few or (closing in ("masked-input", "consistency-check") and not self.opened):
            if closing in ROUNDS[:4]:  # later the others of U3 may still come
                self.round, self.awaited = "over", set()
            raise TooFewError
        requests = {
            "join": self.tasks,
            "advertise-keys": self.keys,
            "share-keys": self.deliveries,
            "masked-input": self.survivors,
            "consistency-check": self.signatures,
            "unmasking": self.finish,
        }[closing](answered)
        rounds = [round for round in (*ROUNDS, "done") if self.terms.active or round != "consistency-check"]
        self.round = rounds[rounds.index(closing) + 1]
        self.awaited = set(answered) - self.gone if requests else set()
        return {u: request for u, request in requests.items() if u in self.awaited}

    def tasks(self, answered: list[int]) -> dict[int, bytes]:
        return dict.fromkeys(answered, i.packed(["task", self.terms.nonce, self.task]))

    def keys(self, U1: list[int]) -> dict[int, bytes]:
        keys = {u: self.said["advertise-keys"][u] for u in U1}
        self.agreed = Agreed(self.terms, keys)
        return dict.fromkeys(U1, i.packed(["share-keys-request", keys]))

    def deliveries(self, U2: list[int]) -> dict[int, bytes]:
        requests: dict[int, bytes] = {}
        self.U2, said = U2, self.said["share-keys"]
        for u in U2:
            dealers = [v for v in self.agreed.holders[u] if v in U2 and v != u]
            dealt = {v: [said[v][0][u], said[v][2][u] if self.terms.active else None] for v in dealers}
            requests[u] = i.packed(["masked-input-request", U2, dealt])
        return requests

    def survivors(self, U3: list[int]) -> dict[int, bytes]:
        self.U3 = U3
        if self.terms.active:
            return dict.fromkeys(U3, i.packed(["consistency-check-request", U3]))
        return dict.fromkeys(U3, i.packed(["unmasking-request", [v for v in self.U2 if v not in U3]]))

    def signatures(self, U4: list[int]) -> dict[int, bytes]:
        given = {u: self.said["consistency-check"][u][0] for u in U4}
        return dict.fromkeys(U4, i.packed(["signed-unmasking-request", given]))

    def finish(self, answered: list[int]) -> dict[int, bytes]:
        dropped, summed = (
            [v for v in self.U2 if v not in self.U3],
            {u for group in self.opened for u in group},
        )
        for kind, clients in (("b", self.U3), ("s", dropped)):
            for v in clients:
                if v in summed:
                    self.rebuilt[kind][v] = self.secret(kind, v, answered)
        for group in self.opened:
            self.unmask([u for u in self.U3 if u in group], [v for v in dropped if v in group])
        for name, _, _ in self.terms.vectors:
            each = [sums[name] for _, sums in self.parts]
            self.sums[name] = [sum(column) for column in zip(*each, strict=True)]
        return {}

    def unmask(self, U3: Sequence[int], dropped: Sequence[int]) -> None:
        """Of one group."""
        sums: dict[str, list[int]] = {}
        for number, (name, spec, bits) in enumerate(self.terms.vectors):
            vectors = [self.said["masked-input"][u][0][number] for u in U3]
            each = [i.unpack_bits(vector, spec["length"], bits) for vector in vectors]
            self.total[name] = [sum(column) % 2**bits for column in zip(*each, strict=True)]
            self.taken_off[name] = [*self.own_masks(name, U3), *self.pair_masks(name, U3, dropped)]
            total = self.total[name]
            for _, _, _, seed, sign in self.taken_off[name]:
                mask = self.terms.stream(seed, spec["length"], bits)
                total = [word + sign * other for word, other in zip(total, mask, strict=True)]
            sums[name] = [i.centred(spec, word, bits) for word in total]
        self.parts.append((list(U3), sums))

    def secret(self, kind: str, v: int, answered: Sequence[int]) -> bytes:
        """Section 11.4: rebuilt from the t lowest, and held against what v committed to."""
        t, active = self.terms.numbers["threshold"], self.terms.active
        returned = {u: self.said["unmasking"][u][0] for u in answered}
        holders = [u for u in answered if v in returned[u]]
        said = self.said["unmasking"]
        left_out = [u for u, (shares,) in said.items() if u in self.agreed.holders[v] and v not in shares]
        if len(holders) < t and active and len(left_out) > self.terms.numbers["corrupt"]:
            raise RefusedError([v])
        if len(holders) < t:
            raise TooFewError
        named = RefusedError([v] if active else [])
        number = i.recon({u + 1: int.from_bytes(returned[u][v][1], "big") for u in holders[:t]})
        if number >= 2**256:
            raise named
        secret = number.to_bytes(32, "big")
        if kind == "s" and i.x25519_public(secret) != self.agreed.keys[v][1]:
            raise named
        if kind == "b" and active:
            due = self.said["share-keys"][v][1]
            if i.digest("commit-mask", self.agreed.sid, v, secret) != due:
                raise named
        return secret

    def own_masks(self, name: str, U3: Sequence[int]) -> list[tuple[str, int, int, bytes, int]]:
        masks = {u: self.agreed.self_mask(self.rebuilt["b"][u], u, name) for u in U3}
        return [("self", u, u, seed, -1) for u, seed in masks.items()]

    def pair_masks(
        self, name: str, U3: Sequence[int], dropped: Sequence[int]
    ) -> list[tuple[str, int, int, bytes, int]]:
        """Of each dropped v with its neighbours u in the sum."""
        found = []
        for v in dropped:
            s_sk = self.rebuilt["s"][v]
            for u in (u for u in U3 if u in self.agreed.neighbours[v]):
                seed = self.agreed.pair_mask(i.x25519(s_sk, self.agreed.keys[u][1]), u, v, name)
                found.append(("pair", v, u, seed, -1 if u > v else 1))
        return found
