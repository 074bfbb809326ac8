"""What a server computes from the clients' messages of recorded sessions, step by step, by this package."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from secagg.bits import add_packed, word_type
from secagg.crypto import SecretKey
from secagg.masking.derived import (
    keys_statement,
    members_statement,
    pair_mask_key,
    self_mask_key,
    shares_statement,
)
from secagg.masking.messages import (
    AdvertiseKeys,
    ConsistencyCheck,
    MaskedInput,
    SelfMaskShare,
    ShareKeys,
    Unmasking,
)
from secagg.schemes import read_offer
from secagg.shamir import recon
from secagg.wire import decode
from tests.vectors.makers.plans import Json

TOLD = (
    "complete-active-drop-masked-input",
    "complete-semi-honest-drop-masked-input",
    "sparse-active-drop-masked-input",
    "sparse-semi-honest-drop-masked-input",
    "batches",
    "wide-rings",
)
KINDS: Mapping[str, Any] = {
    "advertise-keys": AdvertiseKeys,
    "share-keys": ShareKeys,
    "masked-input": MaskedInput,
    "consistency-check": ConsistencyCheck,
    "unmasking": Unmasking,
}


def server(records: Mapping[str, Json]) -> Json:
    return {
        "what": "What the server of a session computes (section 8.8): see README.md.",
        "sessions": [{"session": name, **Traced(records[name]).steps()} for name in TOLD],
        "late": [case for name in TOLD[:2] for case in late(name, records[name])],
    }


def late(name: str, record: Json) -> Iterator[Json]:
    """Each round of U3, in which at first one answer too few comes."""
    numbered = list(enumerate(record["messages"]))
    for round in ("consistency-check", "unmasking"):
        answers = [k for k, m in numbered if m["round"] == round and m["to"] == "server"]
        needed = record["numbers"]["threshold" if round == "unmasking" else "m_min"]
        if answers:
            yield {"session": name, "round": round, "silent": answers[needed - 1 :]}


class Traced:
    """A session's server, as far as the messages to it decide what it does."""

    def __init__(self, record: Json) -> None:
        self.record, self.scheme = record, read_offer(bytes.fromhex(record["offer"]))
        self.sid, self.nonce, self.context = (bytes.fromhex(record[x]) for x in ("sid", "nonce", "context"))
        self.said: dict[str, dict[int, Any]] = {round: {} for round in KINDS}
        for message in record["messages"]:
            if message["to"] == "server" and message["round"] != "join":
                kind = KINDS[message["round"]]
                said = decode(kind, bytes.fromhex(message["bytes"]))
                self.said[message["round"]][message["from"]] = said
        self.keys = {u: self.said["advertise-keys"][u] for u in record["U1"]}

    def steps(self) -> Json:
        rebuilt = self.rebuilt()
        return {
            "rounds": list(self.rounds()),
            "verified": list(self.verified()) if "roster" in self.record else [],
            "total": self.total(),
            "rebuilt": {
                kind: {str(v): {"holders": of, "secret": secret.hex()} for v, (of, secret) in each.items()}
                for kind, each in rebuilt.items()
            },
            "taken_off": {name: list(self.taken_off(name, rebuilt)) for name in self.scheme.names},
            "codes": self.record["result"]["codes"],
        }

    def rounds(self) -> Iterator[Json]:
        """The numbers of the messages that the server hears, and of those that it then sends."""
        numbered = list(enumerate(self.record["messages"]))
        names = list(dict.fromkeys(message["round"] for _, message in numbered))
        for name, following in zip(names, [*names[1:], None], strict=True):
            yield {
                "round": name,
                "hears": [k for k, m in numbered if m["round"] == name and m["to"] == "server"],
                "sends": [k for k, m in numbered if m["round"] == following and m["from"] == "server"],
            }

    def verified(self) -> Iterator[Json]:
        parameters, roster = self.scheme.digest(), bytes.fromhex(self.record["roster"]["digest"])
        for u, said in self.keys.items():
            bound = parameters, roster, self.context, self.nonce
            yield self.signed("advertise-keys", u, keys_statement(*bound, u, said.c_pk, said.s_pk), said)
        for u, said in self.said["share-keys"].items():
            yield self.signed("share-keys", u, shares_statement(self.sid, u, said), said)
        sets = (self.record[name] for name in ("U1", "U2", "U3"))
        statement = members_statement(self.sid, parameters, self.context, *sets)
        for u, said in self.said["consistency-check"].items():
            yield self.signed("consistency-check", u, statement, said)

    def signed(self, round: str, u: int, statement: bytes, said: Any) -> Json:
        public = self.record["roster"]["keys"][str(u)]
        return {
            "round": round,
            "from": u,
            "public": public,
            "statement": statement.hex(),
            "signature": said.signature.hex(),
        }

    def total(self) -> Json:
        """The masked inputs of U3, added in Z_2^b; in hex, as words are."""
        bits, shown = self.scheme.ring_bits(), {}
        for number, name in enumerate(self.scheme.names):
            b = bits[name]
            words = np.zeros(self.scheme.vectors[name].length, word_type(b))
            for u in self.record["U3"]:
                add_packed(words, self.said["masked-input"][u].packed[number], b)
            shown[name] = [f"{int(word) % 2**b:0{2 * words.itemsize}x}" for word in words]
        return shown

    def rebuilt(self) -> dict[str, dict[int, tuple[list[int], bytes]]]:
        """Kind of share -> client -> the holders of the t lowest points, and the secret."""
        found: dict[str, dict[int, tuple[list[int], bytes]]] = {"b": {}, "s": {}}
        survivors, t = self.record["U3"], self.scheme.threshold
        for v in self.record["U2"]:
            given = {u: said.shares[v] for u, said in self.said["unmasking"].items() if v in said.shares}
            holders = sorted(given)[:t]
            secret = recon({u + 1: int.from_bytes(given[u].share, "big") for u in holders})
            assert all(isinstance(share, SelfMaskShare) == (v in survivors) for share in given.values())
            found["b" if v in survivors else "s"][v] = holders, secret.to_bytes(32, "big")
        return found

    def taken_off(
        self, name: str, rebuilt: Mapping[str, Mapping[int, tuple[list[int], bytes]]]
    ) -> Iterator[Json]:
        """Seeds, and whether their words are subtracted from the total or added to it."""
        for u, (_, b_u) in rebuilt["b"].items():
            yield {"mask": "self", "of": u, "seed": self_mask_key(b_u, self.sid, u, name).hex(), "sign": "-"}
        for v, (_, secret) in rebuilt["s"].items():
            s_sk = SecretKey(secret)
            for u in (u for u in self.record["U3"] if u in self.record["neighbours"][str(v)]):
                seed = pair_mask_key(s_sk.agree(self.keys[u].s_pk), self.sid, u, v, name)
                sign = "-" if u > v else "+"
                yield {"mask": "pair", "of": v, "with": u, "seed": seed.hex(), "sign": sign}
