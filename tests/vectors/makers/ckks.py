"""ckks.json: two sessions of CKKS, told from outside, and what must be refused in them.

SEAL draws its own randomness, and a key or a ciphertext is long. So the key here is the constant polynomial
1, ciphertexts are of constant polynomials without noise, and all of it is written as what repeats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from secagg import CKKS, Bounded, Counts
from secagg.identity import Roster, throwaway_identities
from secagg.specs import Spec
from tests.vectors import independent as i
from tests.vectors import independent_ckks as ckks
from tests.vectors.makers.bad import by_place
from tests.vectors.makers.chance import Counter
from tests.vectors.makers.plans import Json
from tests.vectors.makers.primitives import SMALL_ORDER
from tests.vectors.makers.scene import changed, without
from tests.vectors.makers.sessions import specification

IDS = (0, 5, 127, 128, 300, 2**31 - 2)
LOST = (5, 127)  # in share-keys: of the three that were to make a key one is left
U3 = [u for u in IDS if u not in LOST]
MAKER, U, LAST = 0, 300, IDS[-1]
Z = 1  # the key
ZERO, OTHER, STRANGER = bytes.fromhex(SMALL_ORDER[4]), bytes(64), 2**31 - 3

REQUESTS = {
    "advertise-keys": "task",
    "share-keys": "share-ckks-key-request",
    "input": "ciphertexts-request",
    "decrypt": "decrypt-request",
}
ANSWERS = {
    "join": "join",
    "advertise-keys": "advertise-ckks-key",
    "share-keys": "share-ckks-key",
    "input": "ciphertexts",
    "decrypt": "decrypted",
}


class Scene:
    """A session. parts: what is named in the texts of messages; long: its bytes."""

    ANSWERS: Mapping[str, str] = ANSWERS

    def __init__(self, name: str, vectors: Mapping[str, Spec], signed: bool, **numbers: Any) -> None:
        self.name, self.vectors, rng = name, vectors, Counter(name)
        chance = Counter(f"{name}/roster")
        roster = throwaway_identities(IDS, chance)[0] if signed else None
        self.roster, self.signing = roster, dict(zip(IDS, chance.drawn, strict=False)) if signed else {}
        self.scheme = self.new_scheme(roster, **numbers)
        self.terms = ckks.Terms(self.scheme.offer(), f"task of {name}".encode(), rng(32))
        self.c_sk = {u: rng(32) for u in IDS}
        self.keys = {u: self.advertised(u, i.x25519_public(self.c_sk[u])) for u in IDS}
        self.sid = self.terms.sid(self.keys)
        self.K, self.nonces = rng(32), {u: rng(12) for u in IDS}
        self.parts: dict[str, Any] = {}
        self.long: dict[str, bytes] = {}
        self.slots: dict[int, float] = {}
        self.prepare()
        self.secret = self.sealed_key("secret", self.key_bytes())
        for u, fields in self.keys.items():
            self.short(f"key-of-{u}", fields[0])
            self.short(f"signature-of-{u}", fields[1])
        for u, sealed in self.shared(self.secret)[1].items():
            self.short(f"K-for-{u}", sealed)
        self.messages = list(self.conversation())

    def new_scheme(self, roster: Roster | None, **numbers: Any) -> Any:
        return CKKS.for_cohort(len(IDS), self.vectors, roster=roster, **numbers)

    def prepare(self) -> None:
        """What is uploaded, and its sum."""
        self.ring: Any = ckks.OnePrime.of(self.terms.numbers)
        self.layouts = ckks.plan(len(IDS), self.specs(), self.scheme.ending)["layouts"]
        self.slots = {u: self.slot(self.inputs(u)[""]) for u in U3}
        for u in U3:
            self.ciphertext(f"upload-of-{u}", self.ring.encrypted(self.slots[u], self.c_1(u), Z))
        self.sum = self.ciphertext("sum", self.ring.added([self.long[f"upload-of-{u}"] for u in U3]))
        self.ciphertext("largest-residues", b"\xff" * len(self.sum))

    def key_bytes(self) -> bytes:
        key: bytes = self.ring.key(Z)
        return key

    def inputs(self, u: int) -> dict[str, list[Any]]:
        k = IDS.index(u)
        if self.scheme.ending == "keep":
            return {"": [k % 2, (k + 1) // 2 % 2]}
        return {"": [(k - 2) / 8]}

    def slot(self, x: Sequence[Any]) -> float:
        """The one that holds all of the vector."""
        (layout,) = self.layouts.values()
        if "real" in layout:
            return x[0] * layout["real"]
        return sum(value * layout["base"] ** place for place, value in enumerate(x))

    def specs(self) -> Json:
        return {name: specification(spec) for name, spec in self.vectors.items()}

    def c_1(self, u: int) -> int:
        return int.from_bytes(i.digest("context", u.to_bytes(4, "big")), "big") % self.ring.prime

    # What repeats

    def short(self, name: str, data: bytes) -> None:
        if data:
            self.parts[name], self.long[name] = data.hex(), data

    def ciphertext(self, name: str, residues: bytes) -> bytes:
        """c_0 and c_1, each of which repeats: eight residues have as many bytes as one has bits."""
        half = len(residues) // 2
        self.parts[name] = " ".join(_repeated(c, self.ring.bits) for c in (residues[:half], residues[half:]))
        self.long[name] = residues
        return residues

    def sealed_key(self, name: str, key: bytes, sealing: bytes | None = None) -> bytes:
        """key: the plaintext, which repeats. sealing: the AES key, if another than is due."""
        nonce, AES = Counter(f"{self.name}/{name}")(12), sealing or ckks.secret_key(self.K, self.sid, MAKER)
        self.parts[name] = {
            "plaintext": _repeated(key, 8),
            "key": AES.hex(),
            "nonce": nonce.hex(),
            "associated": self.sid.hex(),
        }
        self.long[name] = i.seal(AES, nonce, key, self.sid)
        return self.long[name]

    def text(self, data: bytes) -> str:
        """Hex, with the names of parts for them."""
        text = data.hex()
        for name, long in self.long.items():
            text = text.replace(long.hex(), f" @{name} ")
        return " ".join(text.split())

    # What is said

    def sign(self, u: int, statement: bytes) -> bytes:
        return i.sign(self.signing[u], statement) if self.signing else b""

    def advertised(self, u: int, c_pk: bytes) -> list[bytes]:
        if u not in self.signing:
            return [c_pk, b""]
        return [c_pk, self.sign(u, self.terms.key_statement(u, c_pk))]

    def shared(self, secret: bytes, K: bytes | None = None, maker: int = MAKER) -> list[Any]:
        """What a maker says, with K for every other client of U1."""
        sealed = {}
        for v in (v for v in IDS if v != maker):
            agreed = i.x25519(self.c_sk[maker], self.keys[v][0])
            key, data = ckks.seal_key(agreed, self.sid, maker, v), ckks.seal_data(self.sid, maker, v, secret)
            sealed[v] = i.seal(key, self.nonces[v], K or self.K, data)
        return [secret, sealed, self.sign(maker, ckks.secret_statement(self.sid, maker, secret))]

    def uploaded(self, u: int, residues: bytes | None = None) -> list[bytes]:
        residues = self.long[f"upload-of-{u}"] if residues is None else residues
        made = ckks.upload_digest(self.sid, u, residues)
        return [residues, made, self.sign(u, ckks.upload_statement(self.sid, u, made))]

    def released(self) -> bytes:
        """The sum of the slots without flooding, in steps of the grid."""
        return round(self.ring.decrypted(self.sum, Z) * 128).to_bytes(8, "little", signed=True)

    def conversation(self) -> Iterator[Json]:
        def answers(round: str, who: Sequence[int], said: Callable[[int], list[Any]]) -> Iterator[Json]:
            for u in who:
                data = i.packed([self.ANSWERS[round], *said(u)])
                yield {"round": round, "from": u, "to": "server", "bytes": data.hex()}

        def request(round: str, to: Sequence[int], said: list[Any]) -> Json:
            data = i.packed([REQUESTS[round], *said])
            return {"round": round, "from": "server", "to": list(to), "bytes": data.hex()}

        release = self.scheme.ending == "release"
        made = self.shared(self.secret)
        yield from answers("join", IDS, lambda u: [1, self.terms.parameters])
        yield request("advertise-keys", IDS, [self.terms.nonce, self.terms.task])
        yield from answers("advertise-keys", IDS, lambda u: self.keys[u])
        yield request("share-keys", IDS, [self.keys])
        yield from answers("share-keys", U3, lambda u: made if u == MAKER else [b"", {}, b""])
        yield request("input", U3, [MAKER, *made])
        yield from answers("input", U3, self.uploaded)
        asked = U3[: ckks.RELEASERS] if release else U3
        yield request("decrypt", asked, [U3, self.sum])
        if release:
            yield request("decrypt", U3[ckks.RELEASERS :], [U3, b""])
        released = self.released() if release else b""
        yield from answers("decrypt", U3, lambda u: [released if u in asked else b""])

    def primes(self) -> Json:
        return {"prime": self.ring.prime}

    def record(self) -> Json:
        record: Json = {
            "offer": self.terms.offer.hex(),
            "parameters": self.terms.parameters.hex(),
            "vectors": {name: dict(spec) for name, spec in self.specs().items()},
            **self.primes(),
            "cohort": list(IDS),
            "drop": {"share-keys": list(LOST)},
            "task": self.terms.task.hex(),
            "context": self.terms.context.hex(),
            "nonce": self.terms.nonce.hex(),
            "sid": self.sid.hex(),
            "K": self.K.hex(),
        }
        if self.roster is not None:
            record["roster"] = {
                "digest": self.roster.digest.hex(),
                "keys": {str(u): key.hex() for u, key in self.roster.keys.items()},
                "secrets": {str(u): secret.hex() for u, secret in self.signing.items()},
            }
        record["clients"] = {
            str(u): {
                "rounding_seed": Counter(f"{self.name}/rounding {u}")(32).hex(),
                "inputs": self.inputs(u),
                "c_sk": self.c_sk[u].hex(),
                **({"slot": self.slots[u]} if u in self.slots else {}),
            }
            for u in IDS
        }
        if self.scheme.ending == "release":
            seed = ckks.flooding_seed(self.K, self.sid, self.sum)
            (g,), slot = ckks.normal(seed, 1), self.ring.decrypted(self.sum, Z)
            flooded = ckks.released(slot, g, len(IDS), self.terms.numbers)
            record["flooding"] = {"seed": seed.hex(), "g": round(g, 9), "released": flooded}
        record["parts"] = self.parts
        record["messages"] = [{**m, "bytes": self.text(bytes.fromhex(m["bytes"]))} for m in self.messages]
        total = {
            name: [sum(column) for column in zip(*(self.inputs(u)[name] for u in U3), strict=True)]
            for name in sorted(self.vectors)
        }
        return {**record, "result": {"survivors": U3, "sum": total}}

    # What is said instead

    def step(self, round: str, u: int, *, asked: bool) -> int:
        return next(
            n
            for n, m in enumerate(self.messages)
            if m["round"] == round and ((m["from"] == "server" and u in m["to"]) if asked else m["from"] == u)
        )

    def to_client(self, what: str, round: str, u: int, said: Sequence[Any], words: str) -> Json:
        data = self.text(i.packed([REQUESTS[round], *said]))
        return self.case(
            f"{REQUESTS[round]}: {what}",
            self.step(round, u, asked=True),
            u,
            [{"from": "server", "bytes": data}],
            words,
        )

    def to_server(self, what: str, round: str, u: int, said: Sequence[Any], words: str) -> Json:
        action = {"from": u, "bytes": self.text(i.packed([self.ANSWERS[round], *said]))}
        step = self.step(round, u, asked=False)
        return self.case(f"{self.ANSWERS[round]}: {what}", step, "server", [action], words, [u])

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
            "what": what,
            "session": self.name,
            "step": step,
            "to": to,
            "script": script,
            "error": error,
        }


def _repeated(data: bytes, size: int) -> str:
    """A unit of so many bytes, and how often."""
    if data[:size] * (len(data) // size) != data:
        raise AssertionError("it does not repeat")
    return f"{data[:size].hex()}*{len(data) // size}"


# To client 300, which makes no key


def key_lists(scene: Scene) -> Iterator[Json]:
    keys = scene.keys

    def case(what: str, other: Json, words: str) -> Json:
        return scene.to_client(what, "share-keys", U, [other], words)

    fresh = i.x25519_public(bytes(32))
    own = "does not hold this client's own keys"
    yield case("without u", without(keys, U), own)
    yield case("another key for u", changed(keys, U, scene.advertised(U, fresh)), own)
    few = without(keys, *(u for u in IDS[:-2]))
    yield case("fewer than m_min", few, "2 clients advertised keys; it takes 4 to 6")
    more = changed(keys, STRANGER, [fresh, b""])
    yield case("more than n", more, "7 clients advertised keys; it takes 4 to 6")
    twice = changed(keys, 5, scene.advertised(5, keys[128][0]))
    yield case("one key twice", twice, "one key twice")
    weak = changed(keys, MAKER, scene.advertised(MAKER, ZERO))
    yield case("the key of a maker is of small order", weak, "small order")
    if not scene.signing:
        yield case("a signature", changed(keys, 5, [keys[5][0], OTHER]), "where nothing is signed")
        return
    words = "not signed by client 5 of this roster for this session"
    yield case("no signature", changed(keys, 5, [keys[5][0], b""]), words)
    yield case("another's signature", changed(keys, 5, [keys[5][0], keys[128][1]]), words)
    yield case("another key than was signed", changed(keys, 5, [fresh, keys[5][1]]), words)
    of_masking = scene.sign(5, i.transcript("sign-keys", scene.terms.parameters, 5, keys[5][0]))
    yield case("signed with another tag", changed(keys, 5, [keys[5][0], of_masking]), words)
    elsewhere = changed(without(keys, 5), 6, keys[5])
    unlisted = "not signed by client 6 of this roster for this session"
    yield case("a client that the roster does not list", elsewhere, unlisted)


def session_keys(scene: Scene) -> Iterator[Json]:
    secret, sealed, signature = scene.shared(scene.secret)

    def case(what: str, maker: int, said: Sequence[Any], words: str) -> Json:
        return scene.to_client(what, "input", U, [maker, *said], words)

    def signed(maker: int, secret: bytes) -> bytes:
        return scene.sign(maker, ckks.secret_statement(scene.sid, maker, secret))

    if scene.signing:
        words = "not signed by client 0 of this roster for this session"
        yield case("no signature", MAKER, [secret, sealed, b""], words)
        yield case("another's signature", MAKER, [secret, sealed, signed(5, secret)], words)
        elsewhere = scene.sign(MAKER, ckks.secret_statement(OTHER[:32], MAKER, secret))
        yield case("signed for another session", MAKER, [secret, sealed, elsewhere], words)
    else:
        yield case("a signature", MAKER, [secret, sealed, OTHER], "where nothing is signed")
    none = "a session key that no client was to make for this one"
    yield case("of a client that is no maker", 128, [secret, sealed, signed(128, secret)], none)
    yield case("of u, which is no maker", U, [secret, sealed, signed(U, secret)], none)
    yield case("not sealed for u", MAKER, [secret, without(sealed, U), signature], none)
    for what, short in (("no secret", b""), ("a secret of one byte", b"\0")):
        yield case(what, MAKER, [short, sealed, signed(MAKER, short)], "a session key of another ring")
    closed = "a session key that does not open"
    others = changed(sealed, U, sealed[128])
    yield case("sealed for another client", MAKER, [secret, others, signature], closed)
    bit = changed(sealed, U, sealed[U][:-1] + bytes([sealed[U][-1] ^ 1]))
    yield case("a bit of the tag is flipped", MAKER, [secret, bit, signature], closed)
    yield case("of another maker", 5, [secret, sealed, signed(5, secret)], closed)
    wrong = scene.shared(scene.secret, K=OTHER[:32])
    yield case("sealed with another K", MAKER, wrong, closed)
    key = scene.ring.key(Z)
    another = scene.sealed_key("secret-of-client-5", key, ckks.secret_key(scene.K, scene.sid, 5))
    yield case("a secret under the key of another maker", MAKER, scene.shared(another), closed)
    large = scene.sealed_key("largest-secret", b"\xff" * len(key))
    words = "a CKKS key with a residue that is not below its prime"
    yield case("a key of the largest residues", MAKER, scene.shared(large), words)


def sums(scene: Scene) -> Iterator[Json]:
    def case(what: str, survivors: Sequence[int], residues: bytes, words: str, u: int = U) -> Json:
        return scene.to_client(what, "decrypt", u, [sorted(survivors), residues], words)

    total, size = scene.sum, len(scene.sum)
    yield case("u is not in U3", [u for u in U3 if u != U], total, "counts this client as dropped")
    words = "the server names a survivor that had advertised no keys"
    yield case("U3 is not within U1", [*U3, STRANGER], total, words)
    yield case("fewer than m_min", U3[:3], total, "3 clients survive, 4 are needed")
    yield case("no sum", U3, b"", f"ciphertexts of 0 bytes, not {size}")
    yield case("a sum of one byte", U3, b"\0", f"ciphertexts of 1 bytes, not {size}")
    yield case("two sums", U3, total * 2, f"ciphertexts of {2 * size} bytes, not {size}")
    words = "a ciphertext with a residue that is not below its prime"
    yield case("the largest residues", U3, scene.long["largest-residues"], words)
    if scene.scheme.ending == "release":
        words = "a sum for a client that is not to decrypt it"
        yield case("to one that is no releaser", U3, total, words, LAST)


# To the server


def answers(scene: Scene) -> Iterator[Json]:
    def case(what: str, round: str, u: int, said: Sequence[Any], words: str) -> Json:
        return scene.to_server(what, round, u, said, words)

    (c_pk, signature), unsigned = scene.keys[U], "where nothing is signed"
    weak = scene.advertised(U, ZERO)
    yield case("a key of small order", "advertise-keys", U, weak, "small order")
    taken = scene.advertised(U, scene.keys[0][0])
    yield case("another's key", "advertise-keys", U, taken, "a key that is already in use")
    if signature:
        words = "advertised a key that is without its signature"
        yield case("no signature", "advertise-keys", U, [c_pk, b""], words)
        yield case("another's signature", "advertise-keys", U, [c_pk, scene.keys[5][1]], words)
    else:
        yield case("a signature", "advertise-keys", U, [c_pk, OTHER], unsigned)
    secret, sealed, by_maker = scene.shared(scene.secret)
    words = "made a key, and was not to make one"
    yield case("a secret of one that is no maker", "share-keys", U, [b"\0", {}, b""], words)
    yield case("K of one that is no maker", "share-keys", U, [b"", {0: sealed[U]}, b""], words)
    yield case("a signature of one that is no maker", "share-keys", U, [b"", {}, OTHER], words)
    words = "made no key, or one of another ring"
    yield case("no secret", "share-keys", MAKER, [b"", {}, b""], words)
    yield case("a secret of one byte", "share-keys", MAKER, [b"\0", sealed, by_maker], words)
    words = "made a key for others than the clients of this session"
    yield case("a holder is missing", "share-keys", MAKER, [secret, without(sealed, U), by_maker], words)
    itself = changed(sealed, MAKER, sealed[U])
    yield case("sealed to the maker itself", "share-keys", MAKER, [secret, itself, by_maker], words)
    if signature:
        words = "made a key that is without its signature"
        yield case("no signature", "share-keys", MAKER, [secret, sealed, b""], words)
    else:
        yield case("a signature", "share-keys", MAKER, [secret, sealed, OTHER], unsigned)
    yield from uploads(scene)
    released = scene.released() if scene.scheme.ending == "release" else b""
    words = "released a sum, and was not to release it"
    yield case("of one that is no releaser", "decrypt", LAST, [bytes(8)], words)
    for what, other in (("nothing", b""), ("a byte too few", bytes(7)), ("twice", released * 2)):
        if released:
            words = f"released {len(other)} bytes, not 8"
            yield case(what, "decrypt", U, [other], words)


def uploads(scene: Scene) -> Iterator[Json]:
    def case(what: str, said: Sequence[Any], words: str) -> Json:
        return scene.to_server(what, "input", U, said, words)

    residues, made, signature = scene.uploaded(U, scene.long[f"upload-of-{U}"])
    size = len(residues)
    yield case("no ciphertexts", scene.uploaded(U, b""), f"ciphertexts of 0 bytes, not {size}")
    double = scene.uploaded(U, residues * 2)
    yield case("twice as many", double, f"ciphertexts of {2 * size} bytes, not {size}")
    other = "another digest than their sender's"
    yield case("another digest", [residues, OTHER[:32], signature], other)
    of_another = ckks.upload_digest(scene.sid, 128, residues)
    yield case("the digest of another client", [residues, of_another, signature], other)
    largest = scene.uploaded(U, scene.long["largest-residues"])
    yield case("the largest residues", largest, "a ciphertext with a residue that is not below its prime")
    if signature:
        words = "ciphertexts that are without its signature"
        yield case("no signature", [residues, made, b""], words)
        yield case("another's signature", [residues, made, scene.uploaded(128, residues)[2]], words)
    else:
        yield case("a signature", [residues, made, OTHER], "where nothing is signed")


def scripts(scene: Scene) -> Iterator[Json]:
    """What takes more than one message."""
    first = scene.step("decrypt", U3[0], asked=False)
    said = {u: {"message": scene.step("decrypt", u, asked=False)} for u in U3}
    if scene.scheme.ending == "keep":
        words = "0 clients left in round decrypt, 1 needed"
        close: list[Json] = [{"close": "decrypt"}]
        yield scene.case(
            "decrypted: nobody hears the sum", first, "server", close, words, (), "TooFewClients"
        )
    else:

        def lying(u: int) -> Json:
            other = (1000 + u).to_bytes(8, "little")
            return {"from": u, "bytes": i.packed(["decrypted", other]).hex()}

        words = "no majority of the clients that released the sum released the same"
        apart = [said[0], lying(128), lying(300), {"close": "decrypt"}]
        yield scene.case("decrypted: three release three sums", first, "server", apart, words)
        few = [said[0], said[LAST], {"close": "decrypt"}]
        words = "1 client left in round decrypt, 2 needed"
        yield scene.case("decrypted: one of three", first, "server", few, words, (), "TooFewClients")
    shares = scene.step("share-keys", U3[0], asked=False)
    but_one = [{"message": scene.step("share-keys", u, asked=False)} for u in U3[:-1]]
    words = "3 clients left in round share-keys, 4 needed"
    what = "share-ckks-key: one too few"
    script = [*but_one, {"close": "share-keys"}]
    yield scene.case(what, shares, "server", script, words, (), "TooFewClients")


def caught(scene: Scene) -> Iterator[Json]:
    """A releaser that lies is named, and the sum is that of the others."""
    first = scene.step("decrypt", U3[0], asked=False)
    for liar in U3[: ckks.RELEASERS]:
        script: list[Json] = [{"message": scene.step("decrypt", u, asked=False)} for u in U3]
        other = i.packed(["decrypted", (1).to_bytes(8, "little")]).hex()
        script[U3.index(liar)] = {"from": liar, "bytes": other}
        what = f"decrypted: client {liar} releases another sum"
        yield {
            "what": what,
            "session": scene.name,
            "step": first,
            "to": "server",
            "script": [*script, {"close": "decrypt"}],
            "caught": [liar],
        }


def sessions_of_ckks() -> Json:
    keep = Scene("ckks-keep", {"": Counts(length=2, maximum=1)}, signed=True)
    release = Scene(
        "ckks-release", {"": Bounded(length=1, bound=1.0, bits=8)}, signed=False, ending="release"
    )
    both = [keep, release]
    wrong = [
        case for scene in both for make in (key_lists, session_keys, sums, answers) for case in make(scene)
    ]
    scripted = [case for scene in both for case in scripts(scene)]
    liars = list(caught(release))
    return {
        "what": "Two sessions of ckks (protocol-ckks.md), and what must be refused: see README.md.",
        "sessions": {scene.name: scene.record() for scene in both},
        "wrong": by_place(wrong),
        "scripts": scripted,
        "caught": liars,
    }
