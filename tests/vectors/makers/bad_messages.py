"""Messages that are well formed and wrong where they stand; in the order of docs/protocol.md, section 11."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tests.vectors import independent as i
from tests.vectors.makers.plans import Json
from tests.vectors.makers.primitives import SMALL_ORDER
from tests.vectors.makers.scene import Scene, changed, without

ZERO = bytes.fromhex(SMALL_ORDER[4])  # of order 8
SIGNED, OTHER = "not signed by that client", bytes(64)
STRANGER = 2**31 - 3  # in the roster, where there is one; not in the cohort


def share_keys_requests(scene: Scene, u: int) -> Iterator[Json]:
    (keys,) = scene.heard("share-keys", u)
    v, w = (x for x in keys if x != u)
    needed = f"it takes {scene.terms.numbers['m_min']} to {len(keys)}"

    def case(what: str, other: Mapping[int, list[bytes]], words: str) -> Json:
        return scene.to_client(what, "share-keys", u, [other], words)

    def showing(x: int, c_pk: bytes, s_pk: bytes) -> Json:
        return changed(keys, x, scene.advertised(x, c_pk, s_pk))

    (c_u, s_u, _), (c_v, s_v, _), (c_w, s_w, _) = keys[u], keys[v], keys[w]
    own = "does not hold this client's own keys"
    yield case("without u", without(keys, u), own)
    yield case("u's keys exchanged", showing(u, s_u, c_u), own)
    yield case("another s_pk for u", showing(u, c_u, i.x25519_public(bytes(32))), own)
    yield case("fewer than m_min", {u: keys[u]}, f"1 clients advertised keys; {needed}")
    fresh = [i.x25519_public(bytes([x]) * 32) for x in (1, 2)]
    more = changed(keys, STRANGER, scene.advertised(STRANGER, *fresh))
    yield case("more than n", more, f"{len(more)} clients advertised keys; {needed}")
    yield case("one c_pk twice", showing(v, c_w, s_v), "one key twice")
    yield case("one s_pk twice", showing(v, c_v, s_w), "one key twice")
    yield case("one key as c_pk and s_pk", showing(v, c_v, c_v), "one key twice")
    yield case("u's c_pk as another's s_pk", showing(v, c_v, c_u), "one key twice")
    yield case("a c_pk of small order", showing(v, ZERO, s_v), "small order")
    if not scene.terms.active:
        yield case("a signature", changed(keys, v, [c_v, s_v, OTHER]), "where nothing is signed")
        return
    yield case("another s_pk than was signed", changed(keys, v, [c_v, fresh[0], keys[v][2]]), SIGNED)
    yield case("no signature", changed(keys, v, [c_v, s_v, b""]), SIGNED)
    yield case("another's signature", changed(keys, v, [c_v, s_v, keys[w][2]]), SIGNED)
    elsewhere = without(keys, v) | {v + 1: keys[v]}
    yield case("a client that the roster does not list", dict(sorted(elsewhere.items())), SIGNED)
    terms = scene.terms
    for what, bound in (
        ("parameters", (OTHER[:32], terms.roster, terms.context, terms.nonce)),
        ("roster", (terms.parameters, OTHER[:32], terms.context, terms.nonce)),
        ("task", (terms.parameters, terms.roster, OTHER[:32], terms.nonce)),
        ("nonce", (terms.parameters, terms.roster, terms.context, OTHER[:32])),
    ):
        signature = scene.sign(v, i.transcript("sign-keys", *bound, v, c_v, s_v))
        yield case(f"signed for another {what}", changed(keys, v, [c_v, s_v, signature]), SIGNED)


def masked_input_requests(scene: Scene, u: int) -> Iterator[Json]:
    shared, dealt = scene.heard("masked-input", u)
    v, w = (x for x in shared if x != u)

    def case(what: str, shared: list[int], dealt: Json, words: str) -> Json:
        return scene.to_client(what, "masked-input", u, [shared, dealt], words)

    others = "from others than this client's dealers"
    yield case("U2 is not within U1", sorted([*shared, STRANGER]), dealt, "advertised no keys")
    yield case("u is not in U2", [x for x in shared if x != u], dealt, "counts this client as dropped")
    yield case("fewer than m_min", [u], {}, "1 clients shared keys, 2 are needed")
    yield case("a dealer is missing", shared, without(dealt, v), others)
    yield case("a dealer too many, u itself", shared, changed(dealt, u, dealt[v]), others)
    yield case("a dealer that is not in U2", [x for x in shared if x != w], dealt, others)
    sealed, commitments = dealt[v]
    signed = changed(dealt, v, [sealed, None if commitments else [OTHER[:32]] * 2])
    yield case(f"commitments are {'missing' if commitments else 'there'}", shared, signed, "and only then")


def of_sparse_graphs(scene: Scene) -> Iterator[Json]:
    """Who is no neighbour holds nothing and deals nothing."""
    u = scene.record["U3"][0]
    shared, dealt = scene.heard("masked-input", u)
    far = next(x for x in shared if x != u and x not in scene.agreed.neighbours[u])
    others = "from others than this client's dealers"
    more = changed(dealt, far, next(iter(dealt.values())))
    yield scene.to_client("a dealer that is no neighbour", "masked-input", u, [shared, more], others)
    sealed, *rest = scene.said("share-keys", u)
    wrong = scene.shared(u, changed(sealed, far, next(iter(sealed.values()))), *rest[:2])
    yield scene.to_server(
        "a holder that is no neighbour", "share-keys", u, wrong, "than the clients that are to hold"
    )
    (shares,) = scene.said("unmasking", u)
    more = changed(shares, far, ["b", bytes(33)])
    yield scene.to_server("a dealer that is no neighbour", "unmasking", u, [more], "dealt none to it")


def last_requests(scene: Scene, u: int) -> Iterator[Json]:
    """Which clients are in the sum. In this session one of U2 dropped out, and m_min are left."""
    U2, U3 = scene.record["U2"], scene.record["U3"]
    (gone,) = set(U2) - set(U3)
    if scene.terms.active:
        round, said = "consistency-check", lambda U: [sorted(U)]
    else:
        round, said = "unmasking", lambda U: [sorted(set(U2) - set(U))]
    dropped = "counts this client as dropped"
    yield scene.to_client("u is not in U3", round, u, said({gone, *U3} - {u}), dropped)
    yield scene.to_client("fewer than m_min", round, u, said({u}), "1 clients survive, 2 are needed")
    if scene.terms.active:
        yield scene.to_client(
            "U3 is not within U2", round, u, said({*U3, STRANGER}), "a survivor that had shared no"
        )
        return
    yield scene.to_client(
        "a dropped client that is not in U2",
        round,
        u,
        [[gone, STRANGER]],
        "dropped client that had shared no keys",
    )


def signed_unmasking_requests(scene: Scene, u: int) -> Iterator[Json]:
    (signatures,) = scene.heard("unmasking", u)
    U2, U3 = scene.record["U2"], scene.record["U3"]
    (gone,) = set(U2) - set(U3)
    v = next(x for x in U3 if x != u)
    needed = "1 clients signed the survivors this client was shown, 2 are needed"

    def case(what: str, other: Json) -> Json:
        return scene.to_client(what, "unmasking", u, [other], needed)

    def with_statement(statement: bytes) -> Json:
        return changed(signatures, v, scene.sign(v, statement))

    statement = scene.agreed.members_statement(U2, U3)
    yield case("a signature too few", without(signatures, v))
    yield case("another's signature", changed(signatures, v, signatures[u]))
    yield case("one of another U3", with_statement(scene.agreed.members_statement(U2, U2)))
    yield case("one of another U2", with_statement(scene.agreed.members_statement(U3, U3)))
    yield case(
        "one that does not count, of a client not in U3",
        changed(without(signatures, v), gone, scene.sign(gone, statement)),
    )


def batches(scene: Scene) -> Iterator[Json]:
    u, words = scene.record["U3"][0], "sums a part of a batch, clients 0 to 1"
    U2, U3 = scene.record["U2"], scene.record["U3"]
    part = next(x for x in U2 if x not in U3)
    yield scene.to_client("part of a batch", "consistency-check", u, [sorted([*U3, part])], words)


def groups(scene: Scene) -> Iterator[Json]:
    """Fewer of a group than it takes."""
    u = scene.record["U3"][0]
    shared, dealt = scene.heard("masked-input", u)
    own, *others = sorted(scene.record["groups"], key=lambda group: u not in group)
    gone = [v for v in own if v in shared and v != u][: len(set(own) & set(shared)) - 2]
    rest = [v for v in shared if v not in gone]
    words = "2 clients of this one's group shared keys, 3 are needed"
    yield scene.to_client("too few of u's group", "masked-input", u, [rest, without(dealt, *gone)], words)
    if scene.terms.groups["cohort"]:
        (keys,) = scene.heard("share-keys", u)
        v, w = max(keys), 2**31 - 3
        strange = without(keys, v) | {w: keys[v]}
        words = "clients who are not of the cohort it cuts"
        yield scene.to_client("a client who is not of the cohort", "share-keys", u, [strange], words)
    if scene.terms.active:  # of two groups m_min are in no U3 without three of one
        return
    U2 = scene.record["U2"]
    left = {u, *(v for group in (own, *others) for v in [w for w in group if w in U2 and w != u][-2:])}
    left -= {next(v for v in own if v in left and v != u)}
    words = "no group has 3 survivors, who are needed to open its sum"
    yield scene.to_client("two of each group", "unmasking", u, [[v for v in U2 if v not in left]], words)


# At the server


def scripts(scene: Scene, u: int) -> Iterator[Json]:
    """What takes more than one message."""
    (keys,) = scene.heard("share-keys", u)
    v = next(x for x in keys if x != u)
    weak = {**keys, v: scene.advertised(v, keys[v][0], ZERO)}
    script = [
        {"from": "server", "bytes": i.packed(["share-keys-request", weak]).hex()},
        {"message": scene.asked("masked-input", u)},
    ]
    what = "masked-input-request: the s_pk of a neighbour is of small order"
    yield scene.case(what, scene.asked("share-keys", u), u, script, "small order")
    for round in dict.fromkeys(m["round"] for m in scene.messages):
        number = scene.answered(round, u)
        another = scene.data(number) + b"\0"  # the same again is ignored: networks deliver twice
        again = [{"message": number}, {"from": u, "bytes": another.hex()}]
        words = f"client {u} is not expected in round {round}"
        yield scene.case(f"{round}: another thing said after it", number, "server", again, words, [u])


def from_strangers(scene: Scene, u: int) -> Iterator[Json]:
    for round in dict.fromkeys(m["round"] for m in scene.messages):
        number = scene.answered(round, u)
        said = [{"from": STRANGER, "bytes": scene.data(number).hex()}]
        words = f"client {STRANGER} is not expected in round {round}"
        yield scene.case(f"{round}: from a stranger", number, "server", said, words, [STRANGER])


def joins(scene: Scene, u: int) -> Iterator[Json]:
    parameters = scene.terms.parameters
    yield scene.to_server(
        "another version", "join", u, [2, parameters], "protocol version 2, this is version 1"
    )
    yield scene.to_server("other parameters", "join", u, [1, OTHER[:32]], "joined with other parameters")


def joints(scene: Scene, apart: Scene, u: int) -> Iterator[Json]:
    """In a session that was opened jointly, and in one that was not."""
    whole = scene.data(scene.answered("advertise-keys", u))
    version, parameters, answer = i.message("joint", whole)

    def case(what: str, said: bytes, words: str) -> Json:
        return scene.to_server(f"joint, {what}", "advertise-keys", u, said, words)

    def saying(*fields: Any) -> bytes:
        return i.packed(["joint", *fields])

    yield case("another version", saying(2, parameters, answer), "protocol version 2, this is version 1")
    yield case("other parameters", saying(version, OTHER[:32], answer), "joined with other parameters")
    yield case("a join alone", i.packed(["join", version, parameters]), "not a joint message")
    yield case("the answer alone", answer, "not a joint message")
    inside = "not a advertise-keys message"
    yield case("a byte behind the answer", saying(version, parameters, answer + b"\0"), inside)
    yield case("no answer", saying(version, parameters, b""), inside)
    yield case("a joint one in it", saying(version, parameters, whole), inside)
    keys = apart.data(apart.answered("advertise-keys", u))
    both = i.packed(["joint", version, apart.terms.parameters, keys])
    yield apart.to_server("a joint one, where the task was not sent", "join", u, both, "not a join message")
    yield apart.to_server("a joint one, after a join", "advertise-keys", u, both, inside)


def advertise_keys(scene: Scene, u: int) -> Iterator[Json]:
    c_pk, s_pk, signature = scene.said("advertise-keys", u)
    earlier = next(
        m["from"] for m in scene.messages if m["round"] == "advertise-keys" and m["to"] == "server"
    )
    taken = scene.keys[earlier]

    def case(what: str, said: list[bytes], words: str) -> Json:
        return scene.to_server(what, "advertise-keys", u, said, words)

    in_use = "a key that is already in use"
    yield case("a c_pk of small order", scene.advertised(u, ZERO, s_pk), "small order")
    yield case("an s_pk of small order", scene.advertised(u, c_pk, ZERO), "small order")
    yield case("one key for both", scene.advertised(u, c_pk, c_pk), in_use)
    yield case("another's c_pk", scene.advertised(u, taken[0], s_pk), in_use)
    yield case("another's s_pk as c_pk", scene.advertised(u, taken[1], s_pk), in_use)
    if not scene.terms.active:
        yield case("a signature", [c_pk, s_pk, OTHER], "where nothing is signed")
        return
    unsigned = "without its signature"
    yield case("no signature", [c_pk, s_pk, b""], unsigned)
    yield case("another's signature", [c_pk, s_pk, taken[2]], unsigned)
    yield case("another s_pk than was signed", [c_pk, i.x25519_public(bytes(32)), signature], unsigned)


def share_keys(scene: Scene, u: int) -> Iterator[Json]:
    sealed, commitment, commitments, signature = scene.said("share-keys", u)
    v = next(iter(sealed))

    def case(what: str, said: list[Any], words: str) -> Json:
        return scene.to_server(what, "share-keys", u, said, words)

    others = "with others than the clients that are to hold them"
    yield case("a holder is missing", scene.shared(u, without(sealed, v), commitment, commitments), others)
    to_itself = scene.shared(u, changed(sealed, u, sealed[v]), commitment, commitments)
    yield case("sealed to u itself", to_itself, others)
    elsewhere = scene.shared(u, changed(sealed, STRANGER, sealed[v]), commitment, commitments)
    yield case("a holder that is not in U1", elsewhere, others)
    if not scene.terms.active:
        committed = {x: [OTHER[:32]] * 2 for x in sorted([u, *sealed])}
        unasked = "where nothing is signed"
        yield case("a commitment", [sealed, OTHER[:32], {}, b""], unasked)
        yield case("commitments", [sealed, b"", committed, b""], unasked)
        yield case("a signature", [sealed, b"", {}, OTHER], unasked)
        return
    uncommitted = "without committing to each share"
    yield case("no commitment", scene.shared(u, sealed, b"", commitments), uncommitted)
    yield case("a commitment of 31 bytes", scene.shared(u, sealed, commitment[:31], commitments), uncommitted)
    yield case("none of a holder", scene.shared(u, sealed, commitment, without(commitments, v)), uncommitted)
    yield case("none of u", scene.shared(u, sealed, commitment, without(commitments, u)), uncommitted)
    yield case("no signature", [sealed, commitment, commitments, b""], "without its signature")
    changed_after = [sealed, OTHER[:32], commitments, signature]
    yield case("another commitment than was signed", changed_after, "without its signature")


def masked_input(scene: Scene, u: int) -> Iterator[Json]:
    (packed,) = scene.said("masked-input", u)
    sizes = [
        (len(y), spec["length"] * bits % 8)
        for y, (_, spec, bits) in zip(packed, scene.terms.vectors, strict=True)
    ]

    def case(what: str, said: list[bytes], words: str) -> Json:
        return scene.to_server(what, "masked-input", u, [said], words)

    yield case("a vector too few", packed[:-1], f"{len(packed) - 1} vectors, the session has {len(packed)}")
    yield case(
        "a vector too many", [*packed, b""], f"{len(packed) + 1} vectors, the session has {len(packed)}"
    )
    for number, (size, used) in enumerate(sizes):
        y = packed[number]

        def other(y: bytes, number: int = number) -> list[bytes]:
            return [*packed[:number], y, *packed[number + 1 :]]

        what = f"vector {number + 1}"
        yield case(f"{what}: a byte too few", other(y[:-1]), f"a vector of {size - 1} bytes, not {size}")
        yield case(f"{what}: a byte too many", other(y + b"\0"), f"a vector of {size + 1} bytes, not {size}")
        for bit in range(used, 8) if used else ():
            spoilt = y[:-1] + bytes([y[-1] | 1 << bit])
            yield case(
                f"{what}: bit {bit} behind its end", other(spoilt), "bits behind the last coordinate are set"
            )


def consistency_check(scene: Scene, u: int) -> Iterator[Json]:
    U2, U3 = scene.record["U2"], scene.record["U3"]
    v = next(x for x in U3 if x != u)
    agreed, words = scene.agreed, "did not sign the survivors it was shown"
    for what, signature in (
        ("no signature", b""),
        ("another's signature", scene.said("consistency-check", v)[0]),
        ("of another U3", scene.sign(u, agreed.members_statement(U2, U2))),
        ("of another U2", scene.sign(u, agreed.members_statement(U3, U3))),
    ):
        yield scene.to_server(what, "consistency-check", u, [signature], words)


def unmasking(scene: Scene, u: int) -> Iterator[Json]:
    (shares,) = scene.said("unmasking", u)
    U2, U3 = scene.record["U2"], scene.record["U3"]
    (gone,) = set(U2) - set(U3)
    v = next(x for x in U3 if x != u)

    def case(what: str, said: Json, words: str) -> Json:
        return scene.to_server(what, "unmasking", u, [said], words)

    kind, outside = "a share of the wrong kind", "not an element of the field"
    yield case("of a client that dealt none", changed(shares, STRANGER, ["b", bytes(33)]), "dealt none to it")
    yield case("of the key of a survivor", changed(shares, v, ["s", shares[v][1]]), kind)
    yield case("of the mask of a dropped client", changed(shares, gone, ["b", shares[gone][1]]), kind)
    for value in (i.P, i.P + 1, 2**264 - 1):
        spoilt = changed(shares, v, ["b", value.to_bytes(33, "big")])
        yield case(
            f"a share of {value - i.P} above P" if value < i.P + 2 else "a share of 2^264 - 1",
            spoilt,
            outside,
        )
    if not scene.terms.active:
        return
    another = "another share of client {} than it was dealt"
    for x, kind in ((v, "b"), (gone, "s")):
        share = (int.from_bytes(shares[x][1], "big") ^ 1).to_bytes(33, "big")
        yield case(f"another share, {kind}", changed(shares, x, [kind, share]), another.format(x))
