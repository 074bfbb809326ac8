"""decoys.json: a session of decoys, told from outside, and what must be refused of its uploads.

As of CKKS the key is the constant polynomial 1, and ciphertexts are without noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from secagg import Bounded, Counts, Decoys
from secagg.identity import Roster
from tests.vectors import independent_decoys as decoys
from tests.vectors.makers.bad import by_place
from tests.vectors.makers.chance import Counter
from tests.vectors.makers.ckks import IDS, OTHER, U3, Scene, U
from tests.vectors.makers.plans import Json

VECTORS = {"": Bounded(length=2, bound=7.0, bits=4), "count": Counts(length=1, maximum=5)}
CANDIDATES = 2


class DecoysScene(Scene):
    """A session. true: where each client's true candidate is."""

    ANSWERS = Scene.ANSWERS | {"input": "candidates"}

    def new_scheme(self, roster: Roster | None, **numbers: Any) -> Any:
        return Decoys.for_cohort(len(IDS), self.vectors, roster=roster, candidates=CANDIDATES, **numbers)

    def prepare(self) -> None:
        self.ring = decoys.Ring.of(self.terms.numbers)
        self.true = {u: IDS.index(u) // 2 % CANDIDATES for u in IDS}
        sums = []
        for u in U3:
            candidates = [self.decoy(u)] * CANDIDATES
            candidates[self.true[u]] = self.inputs(u)
            written = [decoys.written(self.specs(), candidate) for candidate in candidates]
            self.short(f"candidates-of-{u}", b"".join(written))
            chosen = [self.ring.encrypted(int(j == self.true[u]), self.c_1(u) + j) for j in range(CANDIDATES)]
            self.sparse(f"selectors-of-{u}", self.ring.pack(chosen))
            sums += [
                self.ring.times(selector, decoys.read(self.specs(), data))
                for selector, data in zip(chosen, written, strict=True)
            ]
        self.sum = self.sparse("sum", self.ring.pack([self.ring.added(sums)]))

    def inputs(self, u: int) -> Any:
        k = IDS.index(u)
        return {"": [k - 2, 3 - k], "count": [k]}

    def decoy(self, u: int) -> Any:
        k = IDS.index(u)
        return {"": [-7, 7 - k], "count": [5 - k]}

    def c_1(self, u: int) -> int:
        return int.from_bytes(self.terms.context, "big") * (u + 1) % (self.ring.Q - CANDIDATES)

    def key_bytes(self) -> bytes:
        return self.ring.key()

    def primes(self) -> Json:
        return {"primes": self.ring.primes}

    def sparse(self, name: str, data: bytes) -> bytes:
        """Each polynomial's first eight residues, and as many zeros as follow."""
        parts, at = [], 0
        for bits in self.ring.sizes:
            size = self.ring.degree * bits // 8
            while at < len(data) and len(parts) < self._until(bits, data):
                parts.append(f"{data[at : at + bits].hex()} 00*{size - bits}")
                at += size
        self.parts[name], self.long[name] = " ".join(parts), data
        return data

    def _until(self, bits: int, data: bytes) -> int:
        """Polynomials up to and with those of primes of this size."""
        each = len(data) // sum(self.ring.degree * b // 8 for b in self.ring.sizes)
        return each * (self.ring.sizes.index(bits) + self.ring.sizes.count(bits))

    def uploaded(self, u: int, vectors: bytes | None = None, selectors: bytes | None = None) -> list[bytes]:
        both = vectors or self.long[f"candidates-of-{u}"], selectors or self.long[f"selectors-of-{u}"]
        made = decoys.upload_digest(self.sid, u, *both)
        return [*both, made, self.sign(u, decoys.upload_statement(self.sid, u, made))]

    def record(self) -> Json:
        record = super().record()
        for u, client in record["clients"].items():
            order = sorted(Counter(f"{self.name}/order {u}/{j}")(16) for j in range(CANDIDATES))
            true = self.true[int(u)]
            record["clients"][u] = client | {
                "decoys": [self.decoy(int(u))],
                "true": true,
                # In the order in which they are drawn: the true candidate's key first.
                "decoy_seeds": [Counter(f"{self.name}/decoy {u}")(32).hex()],
                "order": [order[true].hex(), order[1 - true].hex()],
            }
        return record


def uploads(scene: DecoysScene) -> Iterator[Json]:
    vectors, selectors, made, signature = scene.uploaded(U)

    def case(what: str, said: Sequence[Any], words: str) -> Json:
        return scene.to_server(what, "input", U, said, words)

    size, of_selectors = len(vectors), len(selectors)
    words = f"candidates of {size - 1} bytes, not {size}"
    yield case("a byte too few", scene.uploaded(U, vectors[:-1]), words)
    yield case("one candidate more", scene.uploaded(U, vectors + vectors[: size // 2]), "candidates of")
    behind = scene.uploaded(U, vectors[:-1] + bytes([vectors[-1] | 0x80]))
    yield case("a bit behind the last coordinate", behind, "bits behind the last coordinate are set")
    words = f"ciphertexts of {of_selectors // 2} bytes, not {of_selectors}"
    one = scene.sparse("one-selector", scene.ring.pack([scene.ring.encrypted(1, scene.c_1(U))]))
    yield case("one selector too few", scene.uploaded(U, None, one), words)
    scene.parts["largest-selectors"], scene.long["largest-selectors"] = (
        f"ff*{of_selectors}",
        b"\xff" * of_selectors,
    )
    largest = scene.uploaded(U, None, scene.long["largest-selectors"])
    yield case("the largest residues", largest, "a ciphertext with a residue that is not below its prime")
    other = "candidates with another digest than their sender's"
    yield case("another digest", [vectors, selectors, OTHER[:32], signature], other)
    words = "candidates that are without its signature"
    yield case("no signature", [vectors, selectors, made, b""], words)
    yield case("another's signature", [vectors, selectors, made, scene.uploaded(128)[3]], words)


def session_of_decoys() -> Json:
    scene = DecoysScene("decoys", VECTORS, signed=True)
    wrong = list(uploads(scene))
    return {
        "what": "A session of decoys (protocol-decoys.md), and what must be refused in it: see README.md.",
        "sessions": {scene.name: scene.record()},
        "wrong": by_place(wrong),
    }
