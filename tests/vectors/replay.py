"""Sessions built again from their records, by this package."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from secagg import Among, Identity, Roster, SecAggError
from secagg.crypto import SigningKey
from secagg.schemes import read_offer
from secagg.session import relays_of
from secagg.wire import relay_of
from tests.vectors import independent
from tests.vectors.makers.chance import Record
from tests.vectors.makers.plans import Json
from tests.vectors.makers.sessions import COEFFICIENT_BYTES, conversation, result_of

FOLDER = Path(__file__).parent


def spelt_out(text: str, parts: Mapping[str, Any]) -> bytes:
    """Hex; hex*n, so often; @name, that part, itself such a text, or sealed."""
    found = []
    for token in text.split():
        unit, _, times = token.partition("*")
        if not token.startswith("@"):
            found.append(bytes.fromhex(unit) * int(times or 1))
        elif isinstance(part := parts[token[1:]], str):
            found.append(spelt_out(part, parts))
        else:
            key, nonce, associated = (bytes.fromhex(part[x]) for x in ("key", "nonce", "associated"))
            found.append(independent.seal(key, nonce, spelt_out(part["plaintext"], parts), associated))
    return b"".join(found)


def drawn_by(client: Mapping[str, Any]) -> list[bytes]:
    """What a client of a record drew, call by call."""
    shuffled = [*client.get("decoy_seeds", []), *client.get("order", [])]
    named = [client[name] for name in ("c_sk", "s_sk", "b_u") if name in client]
    coefficients = client.get("key_coefficients", []) + client.get("mask_coefficients", [])
    longer = [c.rjust(2 * COEFFICIENT_BYTES, "0") for c in coefficients]
    before = [*client.get("noise", {}).values(), *client.get("seeds", {}).values()]
    return [
        bytes.fromhex(x) for x in (*before, *shuffled, *named, *longer, *client.get("nonces", {}).values())
    ]


class Session:
    """A recorded session, from which a server or a client can be had in any state."""

    def __init__(self, record: Json) -> None:
        self.record = record
        self.messages = [
            {**m, "bytes": self.spelt_out(m["bytes"]).hex()} if "parts" in record else m
            for m in record["messages"]
        ]
        self.scheme = read_offer(bytes.fromhex(record["offer"]))
        self.roster: Roster | None = None
        if "roster" in record:
            keys = {int(u): bytes.fromhex(key) for u, key in record["roster"]["keys"].items()}
            relays = {int(j): bytes.fromhex(key) for j, key in record["roster"].get("relays", {}).items()}
            self.roster = Roster(bytes.fromhex(record["roster"]["digest"]), keys, relays)

    @property
    def joint(self) -> bool:
        """Whether the first request goes out with the offer."""
        return self.record.get("joint", False)

    def spelt_out(self, text: str) -> bytes:
        return spelt_out(text, self.record.get("parts", {}))

    def identity(self, u: int) -> Identity | None:
        if self.roster is None:
            return None
        return Identity(u, self.roster, SigningKey(bytes.fromhex(self.record["roster"]["secrets"][str(u)])))

    def new_server(self) -> Any:
        chance = Record([bytes.fromhex(self.record["nonce"])])
        task = bytes.fromhex(self.record["task"])
        return self.scheme.server(self.record["cohort"], task, roster=self.roster, rng=chance)

    def new_client(self, u: int) -> Any:
        """Or a relay, by the id under which it takes part."""
        if (j := relay_of(u)) is not None:
            chance = Record([bytes.fromhex(self.record["relays"][str(j)])])
            return self.scheme.relay(j, identity=self.identity(u), rng=chance)
        drawn = self.record["clients"][str(u)]
        inputs = Among(drawn["inputs"], drawn["decoys"]) if "decoys" in drawn else drawn["inputs"]
        return self.scheme.client(
            u,
            lambda task: inputs,
            rounding_seed=bytes.fromhex(drawn["rounding_seed"]),
            identity=self.identity(u),
            rng=Record(drawn_by(drawn)),
        )

    def server_at(self, step: int) -> Any:
        """The server that has heard and said what stands before the message with this number."""
        server = self.new_server()
        if self.joint:
            server.open_jointly()
        for message in self.messages[: step + 1]:
            if message["round"] != server.round:
                server.advance()
            if message is not self.messages[step] and message["to"] == "server":
                server.receive(message["from"], bytes.fromhex(message["bytes"]))
        return server

    def client_at(self, u: int, step: int) -> Any:
        """Client u before it reads the message with this number."""
        client = self.new_client(u)
        heard = [m for m in self.messages[:step] if m["from"] == "server" and u in m["to"]]
        if self.joint:
            client.start_jointly(bytes.fromhex(heard.pop(0)["bytes"]))
        else:
            client.start()
        for message in heard:
            client.receive(bytes.fromhex(message["bytes"]))
        return client

    def played_again(self) -> tuple[list[Json], Json]:
        """(messages, result) of this package's parties with the recorded chance."""
        server = self.new_server()
        clients = {u: self.new_client(u) for u in (*self.record["cohort"], *relays_of(self.scheme))}
        messages = list(conversation(server, clients, self.record["drop"], joint=self.joint))
        return messages, result_of(server.result)


def act(session: Session, case: Mapping[str, Any]) -> tuple[Any, bytes | None]:
    """A bad vector's script, carried out: the party it befalls, and its last answer.

    Raises: what the last action of the script makes it raise; an earlier one must not.
    """
    to, script = case["to"], case["script"]
    party = session.server_at(case["step"]) if to == "server" else session.client_at(to, case["step"])
    answer = None
    for number, action in enumerate(script):
        try:
            answer = _do(session, party, to, action)
        except SecAggError as error:
            if number < len(script) - 1:
                raise AssertionError(f"{case['what']}: refused before the end of its script") from error
            raise
    return party, answer


def _do(session: Session, party: Any, to: int | str, action: Mapping[str, Any]) -> bytes | None:
    if "close" in action:
        if party.round != action["close"]:
            raise AssertionError(f"in round {party.round}, not {action['close']}")
        party.advance()
        return None
    said = session.messages[action["message"]] if "message" in action else action
    data = session.spelt_out(said["bytes"])
    if to != "server":
        return party.receive(data)
    party.receive(said["from"], data)
    return None


def each_bad(place: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The bad vectors of one place, each as a case of its own."""
    for what, data, words in place["bad"]:
        yield {
            "what": what,
            "session": place["session"],
            "step": place["step"],
            "to": place["to"],
            "script": [{"from": place["from"], "bytes": data}],
            "error": {**place["error"], "words": words},
        }


@lru_cache(maxsize=64)
def load(name: str) -> Json:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


@lru_cache(maxsize=64)
def session(name: str) -> Session:
    apart = load("ckks")["sessions"] | load("decoys")["sessions"] | load("split")["sessions"]
    return Session(apart[name] if name in apart else load(f"sessions/{name}"))
