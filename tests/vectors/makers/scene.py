"""A recorded session as a place for bad messages: what was said, and what its parties could sign instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.vectors import independent as i
from tests.vectors.independent_session import Agreed, Conversation
from tests.vectors.makers.plans import Json

REQUESTS = {
    "advertise-keys": "task",
    "share-keys": "share-keys-request",
    "masked-input": "masked-input-request",
    "consistency-check": "consistency-check-request",
}


class Scene:
    """Messages have the numbers that they have in the session's file, from 0."""

    def __init__(self, name: str, record: Json) -> None:
        self.name, self.record, self.messages = name, record, record["messages"]
        self.whole = Conversation(record)
        self.terms, self.clients = self.whole.terms, self.whole.clients
        self.keys: dict[int, list[bytes]] = {
            u: self.said("advertise-keys", u) for u in record["cohort"] if u in record["U1"]
        }
        self.agreed = Agreed(self.terms, self.keys)

    def request(self, round: str) -> str:
        """The name of the message that opens a round."""
        ending = "signed-unmasking-request" if self.terms.active else "unmasking-request"
        return REQUESTS.get(round, ending)

    def answered(self, round: str, u: int) -> int:
        return next(
            n for n, m in enumerate(self.messages) if (m["round"], m["from"], m["to"]) == (round, u, "server")
        )

    def asked(self, round: str, u: int) -> int:
        return next(
            n
            for n, m in enumerate(self.messages)
            if m["round"] == round and m["from"] == "server" and u in m["to"]
        )

    def data(self, number: int) -> bytes:
        return bytes.fromhex(self.messages[number]["bytes"])

    def said(self, round: str, u: int) -> list[Any]:
        """The fields of u's answer; of a joint one those of the answer in it."""
        data = self.data(self.answered(round, u))
        if self.record.get("joint") and round == "advertise-keys":
            _, _, data = i.message("joint", data)
        return i.message(round, data)

    def heard(self, round: str, u: int) -> list[Any]:
        """The fields of the request to u."""
        return i.message(self.request(round), self.data(self.asked(round, u)))

    def sign(self, u: int, statement: bytes) -> bytes:
        return i.sign(bytes.fromhex(self.record["roster"]["secrets"][str(u)]), statement)

    def advertised(self, u: int, c_pk: bytes, s_pk: bytes) -> list[bytes]:
        """Other keys of u, signed where the session is active."""
        signature = self.sign(u, self.terms.keys_statement(u, c_pk, s_pk)) if self.terms.active else b""
        return [c_pk, s_pk, signature]

    def shared(self, u: int, sealed: Json, commitment: bytes, commitments: Json) -> list[Any]:
        """Other shares of u, signed where the session is active."""
        unsigned = ["share-keys", sealed, commitment, commitments, b""]
        if not self.terms.active:
            return unsigned[1:]
        statement = i.transcript("sign-shares", self.agreed.sid, u, i.packed(unsigned))
        return [*unsigned[1:-1], self.sign(u, statement)]

    def case(
        self,
        what: str,
        step: int,
        to: int | str,
        script: Sequence[Json],
        words: str,
        culprits: Sequence[int] = (),
        kind: str = "RemoteProtocolError",
    ) -> Json:
        return {
            "what": what,
            "session": self.name,
            "step": step,
            "to": to,
            "script": list(script),
            "error": {"class": kind, "culprits": list(culprits), "words": words},
        }

    def to_client(
        self,
        what: str,
        round: str,
        u: int,
        said: bytes | Sequence[Any],
        words: str,
        culprits: Sequence[int] = (),
    ) -> Json:
        """Client u refuses another request than it was sent."""
        action = {"from": "server", "bytes": as_bytes(self.request(round), said).hex()}
        return self.case(f"{self.request(round)}: {what}", self.asked(round, u), u, [action], words, culprits)

    def to_server(self, what: str, round: str, u: int, said: bytes | Sequence[Any], words: str) -> Json:
        """The server refuses another answer than u gave, and names u."""
        action = {"from": u, "bytes": as_bytes(round, said).hex()}
        return self.case(f"{round}: {what}", self.answered(round, u), "server", [action], words, [u])


def as_bytes(name: str, said: bytes | Sequence[Any]) -> bytes:
    return said if isinstance(said, bytes) else i.packed([name, *said])


def without(mapping: Mapping[Any, Any], *gone: Any) -> Json:
    return {k: v for k, v in mapping.items() if k not in gone}


def changed(mapping: Mapping[Any, Any], key: Any, value: Any) -> Json:
    """With its keys in order, as ids stand."""
    return dict(sorted({**mapping, key: value}.items()))
