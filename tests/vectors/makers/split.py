"""split.json: two sessions of split, played with a counter in the place of chance, and what must be refused
in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from secagg import Bounded, Counts, Split, Weight, throwaway_identities
from secagg.crypto import Tag, digest
from secagg.inputs import encode_inputs
from secagg.session import relays_of
from secagg.specs import Spec
from tests.vectors import independent as i
from tests.vectors import independent_split as split
from tests.vectors.makers.bad import by_place
from tests.vectors.makers.chance import Counter
from tests.vectors.makers.plans import Json
from tests.vectors.makers.primitives import SMALL_ORDER
from tests.vectors.makers.scene import changed, without
from tests.vectors.makers.sessions import conversation, result_of, specification

IDS = (0, 5, 127, 128, 300, 2**31 - 2)
ZERO, OTHER, STRANGER = bytes.fromhex(SMALL_ORDER[4]), bytes(64), 2**31 - 3
REQUESTS = {
    "relay-keys": "relay-key-request",
    "shares": "split-task",
    "deliver": "deliver-request",
    "columns": "column-request",
}
ANSWERS = {"relay-keys": "relay-key", "shares": "shares", "deliver": "received", "columns": "column"}
FIRST = split.FIRST_RELAY


class Scene:
    """A session and its record."""

    def __init__(
        self,
        name: str,
        ids: Sequence[int],
        vectors: Mapping[str, Spec],
        inputs: Mapping[int, Json],
        *,
        relays: int,
        signed: bool,
        drop: Mapping[str, Sequence[int]],
        **numbers: Any,
    ) -> None:
        self.name = name
        of_roster, of_server = Counter(f"{name}/roster"), Counter(f"{name}/server")
        roster, identities = None, {}
        if signed:
            roster, identities = throwaway_identities(ids, of_roster, relays=relays)
        scheme = Split.for_cohort(len(ids), vectors, relays=relays, roster=roster, **numbers)
        task, parties = f"task of {name}".encode(), [*ids, *relays_of(scheme)]
        chance = {u: Counter(f"{name}/{u}") for u in parties}
        seeds = {u: Counter(f"{name}/rounding {u}")(32) for u in ids}
        server = scheme.server(ids, task, roster=roster, rng=of_server)
        clients: dict[int, Any] = {
            u: scheme.client(
                u,
                lambda task, x=inputs[u]: x,
                rounding_seed=seeds[u],
                identity=identities.get(u),
                rng=chance[u],
            )
            for u in ids
        }
        clients |= {
            r: scheme.relay(j, identity=identities.get(r), rng=chance[r])
            for j, r in enumerate(relays_of(scheme))
        }
        self.messages = list(conversation(server, clients, drop))
        bits, context = scheme.ring_bits(), digest(Tag.CONTEXT, task)
        self.record: Json = {
            "offer": scheme.offer().hex(),
            "parameters": scheme.digest().hex(),
            "vectors": {
                vector: {**specification(spec), "ring_bits": bits[vector]}
                for vector, spec in sorted(scheme.vectors.items())
            },
            "cohort": list(ids),
            "drop": {round: list(lost) for round, lost in drop.items()},
            "task": task.hex(),
            "context": context.hex(),
            "nonce": of_server.drawn[0].hex(),
            "sid": server._sid.hex(),
        }
        if roster is not None:
            self.record["roster"] = {
                "digest": roster.digest.hex(),
                "keys": {str(u): key.hex() for u, key in roster.keys.items()},
                "relays": {str(j): key.hex() for j, key in roster.relays.items()},
                "secrets": {str(u): s.hex() for u, s in zip(parties, of_roster.drawn, strict=True)},
            }
        self.record["relays"] = {str(j): chance[FIRST + j].drawn[0].hex() for j in range(relays)}
        self.record["clients"] = {}
        for u in ids:
            codes, _ = encode_inputs(scheme, inputs[u], context, seeds[u])
            self.record["clients"][str(u)] = {
                "inputs": inputs[u],
                "rounding_seed": seeds[u].hex(),
                "codes": {vector: words.tolist() for vector, words in sorted(codes.items())},
                **_drawn(chance[u].drawn, relays, u),
            }
        self.record |= {"messages": self.messages, "result": result_of(server.result)}
        self.whole = split.Conversation(self.record)
        self.keys, self.M = self.whole.keys, relays

    # What is said instead

    def step(self, round: str, party: int, *, asked: bool) -> int:
        return next(
            n
            for n, m in enumerate(self.messages)
            if m["round"] == round
            and ((m["from"] == "server" and party in m["to"]) if asked else m["from"] == party)
        )

    def said(self, round: str, party: int, *, asked: bool) -> list[Any]:
        data = bytes.fromhex(self.messages[self.step(round, party, asked=asked)]["bytes"])
        return list(i.unpack(data)[1:])

    def to_party(self, what: str, round: str, party: int, said: Sequence[Any], words: str) -> Json:
        action = {"from": "server", "bytes": i.packed([REQUESTS[round], *said]).hex()}
        step = self.step(round, party, asked=True)
        return self.case(f"{REQUESTS[round]}: {what}", step, party, [action], words)

    def to_server(self, what: str, round: str, party: int, said: Sequence[Any], words: str) -> Json:
        action = {"from": party, "bytes": i.packed([ANSWERS[round], *said]).hex()}
        step = self.step(round, party, asked=False)
        return self.case(f"{ANSWERS[round]}: {what}", step, "server", [action], words, [party])

    def case(
        self,
        what: str,
        step: int,
        to: int | str,
        script: list[Json],
        words: str,
        culprits: Sequence[int] = (),
        kind: str = "RemoteProtocolError",
    ) -> Json:
        error = {"class": kind, "culprits": list(culprits), "words": words}
        return {
            **{"what": what, "session": self.name, "step": step, "to": to},
            **{"script": script, "error": error},
        }


def _drawn(drawn: Sequence[bytes], relays: int, u: int) -> Json:
    """Nothing of a client that was lost before it drew."""
    if not drawn:
        return {}
    others = [j for j in range(relays) if j != u % relays]
    seeds, (c_sk, *nonces) = drawn[: len(others)], drawn[len(others) :]
    return {
        "seeds": {str(j): seed.hex() for j, seed in zip(others, seeds, strict=True)},
        "c_sk": c_sk.hex(),
        "nonces": {str(j): nonce.hex() for j, nonce in enumerate(nonces)},
    }


# To a client, or a relay


def relay_keys(scene: Scene, round: str, party: int) -> Iterator[Json]:
    """As a client and as a relay is shown them. party: not relay 1."""
    said = scene.said(round, party, asked=True)
    at = 2 if round == "shares" else 0

    def case(what: str, keys: Json, words: str) -> Json:
        return scene.to_party(what, round, party, [*said[:at], keys, *said[at + 1 :]], words)

    keys, last = dict(scene.keys), scene.M - 1
    others = f"keys of other relays than the {scene.M} of this session"
    yield case("a relay is missing", without(keys, last), others)
    yield case("a relay too many", changed(keys, scene.M, keys[last]), others)
    yield case("one key twice", changed(keys, 1, [keys[0][0], keys[1][1]]), "one key for two relays")
    fresh = i.x25519_public(bytes(32))
    if not scene.whole.terms.active:
        yield case("a signature", changed(keys, 1, [keys[1][0], OTHER]), "where nothing is signed")
        return
    words = "the key the server shows for relay 1 is not signed by that relay of this roster"
    yield case("no signature", changed(keys, 1, [keys[1][0], b""]), words)
    yield case("another's signature", changed(keys, 1, [keys[1][0], keys[0][1]]), words)
    yield case("another key than was signed", changed(keys, 1, [fresh, keys[1][1]]), words)
    statement = split.key_statement(scene.whole.terms, 1, fresh)
    by_a_client = scene.whole.sign(IDS[0], statement)
    yield case("signed by a client", changed(keys, 1, [fresh, by_a_client]), words)


def tasks(scene: Scene) -> Iterator[Json]:
    nonce, task, keys = scene.said("shares", scene.whole.U3[0], asked=True)
    signature = scene.whole.sign(FIRST + 1, split.key_statement(scene.whole.terms, 1, ZERO))
    yield scene.to_party(
        "a relay's key is of small order",
        "shares",
        scene.whole.U3[0],
        [nonce, task, changed(keys, 1, [ZERO, signature])],
        "small order",
    )


def deliveries(scene: Scene) -> Iterator[Json]:
    keys, shares = scene.said("deliver", FIRST, asked=True)

    def case(what: str, said: Sequence[Any], words: str) -> Json:
        return scene.to_party(what, "deliver", FIRST, said, words)

    fresh = i.x25519_public(bytes(32))
    signature = scene.whole.sign(FIRST, split.key_statement(scene.whole.terms, 0, fresh))
    another = changed(keys, 0, [fresh, signature])
    yield case("another key of this relay", [another, shares], "another key of this relay")
    m_min, n = scene.whole.terms.numbers["m_min"], scene.whole.terms.numbers["clients"]
    few = {u: shares[u] for u in list(shares)[: m_min - 1]}
    yield case("fewer than m_min", [keys, few], f"shares of {m_min - 1} clients; it takes {m_min} to {n}")
    many = {**shares, **{u: next(iter(shares.values())) for u in range(1000, 1000 + n)}}
    many = dict(sorted(many.items()))
    yield case("more than n", [keys, many], f"shares of {len(many)} clients; it takes {m_min} to {n}")


def column_requests(scene: Scene) -> Iterator[Json]:
    (members,) = scene.said("columns", FIRST, asked=True)
    m_min = scene.whole.terms.numbers["m_min"]

    def case(what: str, said: Sequence[int], words: str) -> Json:
        return scene.to_party(what, "columns", FIRST, [list(said)], words)

    few = members[: m_min - 1]
    yield case("fewer than m_min", few, f"the server asks for a sum of {len(few)} clients, {m_min} are")
    words = "the server asks for shares that this relay did not get, or cannot use"
    yield case("one that it did not get", sorted([*members, STRANGER]), words)


# To the server


def relays_answers(scene: Scene) -> Iterator[Json]:
    terms, last = scene.whole.terms, FIRST + scene.M - 1

    def case(what: str, round: str, party: int, said: Sequence[Any], words: str) -> Json:
        return scene.to_server(what, round, party, said, words)

    pk, signature = scene.keys[scene.M - 1]
    yield case("a key of small order", "relay-keys", last, [ZERO, signature], "small order")
    theirs = scene.keys[0][0]
    copied = scene.whole.sign(last, split.key_statement(terms, scene.M - 1, theirs))
    yield case("another's key", "relay-keys", last, [theirs, copied], "showed a key that is already in use")
    yield case("of a stranger", "deliver", last, [[STRANGER]], "could not use a share that it was not sent")
    packed, of_column = scene.said("columns", last, asked=False)
    count = len(packed)
    words = f"{count - 1} vectors, the session has {count}"
    yield case("a vector less", "columns", last, [packed[1:], of_column], words)
    long = [packed[0] + b"\0", *packed[1:]]
    yield case("a byte more", "columns", last, [long, of_column], f"a vector of {len(long[0])} bytes, not")
    if not terms.active:
        unsigned = "where nothing is signed"
        yield case("a signature", "relay-keys", last, [pk, OTHER], unsigned)
        yield case("a signature", "columns", last, [packed, OTHER], unsigned)
        return
    yield case("no signature", "relay-keys", last, [pk, b""], "showed a key not signed by it")
    words = "a column not signed by it"
    yield case("no signature", "columns", last, [packed, b""], words)
    fewer = {u: split.digests_of(scene.whole.shares[u][1]) for u in scene.whole.U3[1:]}
    statement = split.column_statement(scene.whole.sid, scene.M - 1, fewer, packed)
    yield case("signed of a smaller set", "columns", last, [packed, scene.whole.sign(last, statement)], words)


def clients_answers(scene: Scene) -> Iterator[Json]:
    u, v = scene.whole.U3[:2]
    c_pk, sealed, signature = scene.whole.shares[u]

    def case(what: str, said: Sequence[Any], words: str) -> Json:
        return scene.to_server(what, "shares", u, said, words)

    sizes = "shares of other sizes than the session's"
    yield case("a key of small order", [ZERO, sealed, signature], "small order")
    yield case("one less", [c_pk, sealed[1:], signature], sizes)
    yield case("a byte less", [c_pk, [sealed[0][1:], *sealed[1:]], signature], sizes)
    if not scene.whole.terms.active:
        yield case("a signature", [c_pk, sealed, OTHER], "where nothing is signed")
        return
    yield case("no signature", [c_pk, sealed, b""], "shares not signed by it")
    yield case("another's", scene.whole.shares[v], sizes if u % scene.M != v % scene.M else "not signed")
    flipped = [sealed[0][:-1] + bytes([sealed[0][-1] ^ 1]), *sealed[1:]]
    yield case("a bit is flipped", [c_pk, flipped, signature], "shares not signed by it")


def scripts(scene: Scene) -> Iterator[Json]:
    """What takes more than one message."""
    asked = scene.step("columns", FIRST, asked=True)
    other = i.packed(["column-request", scene.whole.U3[1:]]).hex()
    words = "the server asks for the sum of another set of clients, too"
    script: list[Json] = [{"message": asked}, {"message": asked}, {"from": "server", "bytes": other}]
    yield scene.case("column-request: another set, after a column", asked, FIRST, script, words)
    for round, lost in (("join", 0), ("relay-keys", scene.M - 1), ("deliver", 0), ("columns", 1)):
        said = [
            {"message": n}
            for n, m in enumerate(scene.messages)
            if m["round"] == round and m["to"] == "server" and m["from"] != FIRST + lost
        ]
        first = next(n for n, m in enumerate(scene.messages) if m["round"] == round and m["to"] == "server")
        words = f"relay {lost} is gone in round {round}, and a sum takes all {scene.M}"
        yield scene.case(
            f"{round}: a relay is lost", first, "server", [*said, {"close": round}], words, (), "RelayLost"
        )


def sessions_of_split() -> Json:
    of_many = {"": Bounded(length=3, bound=2.0, bits=8), "large": Counts(length=2, maximum=2**40)}
    active = Scene(
        "split-active",
        IDS,
        of_many,
        {u: {"": [k / 4 - 1, 2.0, -1.5], "large": [2**40 - k, k]} for k, u in enumerate(IDS)},
        relays=3,
        signed=True,
        drop={"shares": [127]},
        corrupt=1,
        m_min=4,
    )
    few = (1, 2, 300)
    semi_honest = Scene(
        "split-semi-honest",
        few,
        {"update": Bounded(length=5, bound=1.0, bits=4), "weight": Weight(maximum=9)},
        {u: {"update": [1.0, -1.0, 0.0, 1.0, 0.0], "weight": [9]} for u in few},
        relays=2,
        signed=False,
        drop={},
        prg="chacha20",
    )
    wrong: list[Json] = []
    for scene in (active, semi_honest):
        wrong += relay_keys(scene, "shares", scene.whole.U3[0])
        wrong += relay_keys(scene, "deliver", FIRST)
        for make in (tasks, deliveries, column_requests, relays_answers, clients_answers):
            wrong += make(scene)
    return {
        "what": "Two sessions of split (protocol-split.md), and what must be refused: see README.md.",
        "sessions": {scene.name: scene.record for scene in (active, semi_honest)},
        "wrong": by_place(wrong),
        "scripts": [case for scene in (active, semi_honest) for case in scripts(scene)],
    }
