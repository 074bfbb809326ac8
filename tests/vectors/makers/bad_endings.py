"""What shows only later: too few clients, shares that do not fit together, and what is left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from secagg.errors import counted
from tests.vectors import independent as i
from tests.vectors.makers.chance import Counter
from tests.vectors.makers.plans import Json
from tests.vectors.makers.scene import Scene, changed, without

TOO_FEW = "TooFewClients"


def recorded(scene: Scene, first: int, last: int, *, but: Mapping[int, bytes | None]) -> Iterator[Json]:
    """The messages to the server from number first to last, and the ends of rounds between them. but: other
    bytes for some, None for silence."""
    round = scene.messages[first]["round"]
    for number in range(first, last + 1):
        message = scene.messages[number]
        if message["round"] != round:
            yield {"close": round}
            round = message["round"]
        if message["to"] != "server":
            continue
        if number not in but:
            yield {"message": number}
        elif (data := but[number]) is not None:
            yield {"from": message["from"], "bytes": data.hex()}


def too_few(scene: Scene) -> Iterator[Json]:
    """In each round, as many fall silent as one less than m_min, or at last t, can do without."""
    numbers = scene.terms.numbers
    for round in dict.fromkeys(m["round"] for m in scene.messages):
        answers = [n for n, m in enumerate(scene.messages) if m["round"] == round and m["to"] == "server"]
        needed = numbers["threshold"] if round == "unmasking" else numbers["m_min"]
        silent = dict.fromkeys(answers[needed - 1 :])
        script = [*recorded(scene, answers[0], answers[-1], but=silent), {"close": round}]
        words = f"{counted(needed - 1, 'client')} left in round {round}, {needed} needed"
        yield scene.case(f"{round}: one too few", answers[0], "server", script, words, kind=TOO_FEW)


def unopened(scene: Scene, dealer: int) -> Iterator[Json]:
    """Two holders of four leave one dealer's share out, and t are three."""
    answers = [n for n, m in enumerate(scene.messages) if m["round"] == "unmasking" and m["to"] == "server"]
    but: dict[int, bytes | None] = {}
    for number in [n for n in answers if scene.messages[n]["from"] != dealer][:2]:
        (shares,) = i.message("unmasking", scene.data(number))
        but[number] = i.packed(["unmasking", without(shares, dealer)])
    script = [*recorded(scene, answers[0], answers[-1], but=but), {"close": "unmasking"}]
    if scene.terms.active:
        words, kind, culprits = (
            f"client {dealer} dealt shares that its holders cannot use",
            "RemoteProtocolError",
            [dealer],
        )
    else:
        words, kind, culprits = (
            f"2 clients left in round unmasking that hold shares of client {dealer}",
            TOO_FEW,
            [],
        )
    what = "unmasking: two holders leave out the share of one dealer"
    yield scene.case(what, answers[0], "server", script, words, culprits, kind)


def dealt_otherwise(scene: Scene, dealer: int, secrets: Mapping[str, int], words: str) -> Json:
    """The dealer shares other secrets than its own, commits to those shares, and its holders return them."""
    agreed, client, holders = scene.agreed, scene.clients[dealer], scene.agreed.holders[dealer]
    points, both = [v + 1 for v in holders], {}
    of = {
        name: i.shares(secret, [int.from_bytes(c, "big") for c in client.drawn[coefficients]], points)
        for name, secret, coefficients in (
            ("s", secrets.get("s", int.from_bytes(client.drawn["s_sk"], "big")), "key_coefficients"),
            ("b", secrets.get("b", int.from_bytes(client.drawn["b_u"], "big")), "mask_coefficients"),
        )
    }
    both = {v: of["s"][v + 1].to_bytes(33, "big") + of["b"][v + 1].to_bytes(33, "big") for v in holders}
    rng, sealed = Counter("dealt otherwise"), {}
    for v in (v for v in holders if v != dealer):
        key = agreed.share_key(i.x25519(client.drawn["c_sk"], agreed.keys[v][0]), dealer, v)
        sealed[v] = i.seal(key, rng(12), both[v], agreed.share_data(dealer, v))
    commitments = {v: agreed.commitments(dealer, v, shares) for v, shares in both.items()}
    commitment = i.digest("commit-mask", agreed.sid, dealer, client.drawn["b_u"])
    active = scene.terms.active
    said = scene.shared(dealer, sealed, *((commitment, commitments) if active else (b"", {})))
    first = scene.answered("share-keys", dealer)
    but: dict[int, bytes | None] = {first: i.packed(["share-keys", *said])}
    for number, message in enumerate(scene.messages):
        if message["round"] == "unmasking" and message["to"] == "server":
            (shares,) = i.message("unmasking", scene.data(number))
            kind, holder = shares[dealer][0], message["from"]
            half = both[holder][:33] if kind == "s" else both[holder][33:]
            but[number] = i.packed(["unmasking", changed(shares, dealer, [kind, half])])
    script = [*recorded(scene, first, len(scene.messages) - 1, but=but), {"close": "unmasking"}]
    what = f"share-keys: {words}"
    return scene.case(what, first, "server", script, words.format(dealer), [dealer] if active else [])


def dealers(scene: Scene) -> Iterator[Json]:
    U2, U3 = scene.record["U2"], scene.record["U3"]
    (gone,), survivor = set(U2) - set(U3), U3[0]
    apart = "the shares of client {} do not belong together"
    yield dealt_otherwise(scene, survivor, {"b": i.P - 1}, apart)
    yield dealt_otherwise(scene, gone, {"s": 2**256}, apart)
    yield dealt_otherwise(scene, gone, {"s": 1}, "client {} dealt shares of another key")
    if scene.terms.active:
        yield dealt_otherwise(scene, survivor, {"b": 1}, "client {} dealt shares of another mask")


# What is no error: a share that cannot be used is left out


def left_out(scene: Scene, u: int) -> Iterator[Json]:
    """Client u is passed a share that it cannot use, says nothing of it, and returns those of the others."""
    shared, dealt = scene.heard("masked-input", u)
    v = next(x for x in dealt if x in scene.record["U3"])
    for what, delivery in spoilt_deliveries(scene, u, v, dealt[v]):
        request = i.packed(["masked-input-request", shared, changed(dealt, v, delivery)])
        script: list[Json] = [{"from": "server", "bytes": request.hex()}]
        rounds = ("consistency-check", "unmasking") if scene.terms.active else ("unmasking",)
        script += [{"message": scene.asked(round, u)} for round in rounds]
        (shares,) = scene.said("unmasking", u)
        yield {
            "what": what,
            "session": scene.name,
            "step": scene.asked("masked-input", u),
            "to": u,
            "script": script,
            "answer": i.packed(["unmasking", without(shares, v)]).hex(),
        }


def not_opened(scene: Scene) -> Json:
    """Too few of a group have signed: a client returns no share of its members, and those of the others."""
    u = scene.record["U3"][0]
    group = next(group for group in scene.record["groups"] if u not in group)
    (signatures,) = scene.heard("unmasking", u)
    gone = [v for v in group if v in signatures][: len(set(group) & set(signatures)) - 2]
    request = i.packed(["signed-unmasking-request", without(signatures, *gone)])
    (shares,) = scene.said("unmasking", u)
    return {
        "what": "signatures of two of a group that takes three",
        "session": scene.name,
        "step": scene.asked("unmasking", u),
        "to": u,
        "script": [{"from": "server", "bytes": request.hex()}],
        "answer": i.packed(["unmasking", without(shares, *group)]).hex(),
    }


def spoilt_deliveries(
    scene: Scene, u: int, v: int, delivery: Sequence[Any]
) -> Iterator[tuple[str, list[Any]]]:
    """What v dealt to u, spoilt."""
    sealed, commitments = delivery
    agreed, client = scene.agreed, scene.clients[v]
    key = agreed.share_key(i.x25519(client.drawn["c_sk"], agreed.keys[u][0]), v, u)
    both, data = client.dealt(agreed)[u], agreed.share_data(v, u)
    nonce = Counter("left out")(12)

    def sealed_anew(both: bytes, data: bytes = data, key: bytes = key) -> list[Any]:
        committed = agreed.commitments(v, u, both) if commitments is not None else None
        return [i.seal(key, nonce, both, data), committed]

    yield "a bit of the tag is flipped", [sealed[:-1] + bytes([sealed[-1] ^ 1]), commitments]
    yield "a bit of the nonce is flipped", [bytes([sealed[0] ^ 1]) + sealed[1:], commitments]
    yield "sealed with the data of the other direction", sealed_anew(both, data=agreed.share_data(u, v))
    back = agreed.share_key(i.x25519(client.drawn["c_sk"], agreed.keys[u][0]), u, v)
    yield "sealed under the key of the other direction", sealed_anew(both, key=back)
    outside = i.P.to_bytes(33, "big")
    yield "the share of the key is P", sealed_anew(outside + both[33:])
    yield "the share of the mask is P", sealed_anew(both[:33] + outside)
    if commitments is not None:
        yield "the commitments are exchanged", [sealed, commitments[::-1]]
        yield "another commitment of the share of the key", [sealed, [bytes(32), commitments[1]]]
        yield "another commitment of the share of the mask", [sealed, [commitments[0], bytes(32)]]


def reported(scene: Scene, dealer: int) -> Json:
    """One holder leaves a share out: the sum is the same, and the server reports the two."""
    number = next(
        n
        for n, m in enumerate(scene.messages)
        if m["round"] == "unmasking" and m["to"] == "server" and m["from"] != dealer
    )
    (shares,) = i.message("unmasking", scene.data(number))
    but = {number: i.packed(["unmasking", without(shares, dealer)])}
    script = [*recorded(scene, number, len(scene.messages) - 1, but=but), {"close": "unmasking"}]
    return {
        "what": "one holder leaves out the share of one dealer",
        "session": scene.name,
        "step": number,
        "to": "server",
        "script": script,
        "unopened": [[scene.messages[number]["from"], dealer]],
    }
