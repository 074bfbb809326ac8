"""Offers that a client refuses: malformed, impossible, not canonical, against its policy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from secagg import CKKS, Bounded, Counts, Decoys, Masking, Plain, Private, Split, Weight
from secagg.specs import Spec
from tests.vectors import independent as i
from tests.vectors.makers.bad_encodings import Pairs, Raw, wider, written
from tests.vectors.makers.choices import ONE, SEVERAL, roster_of
from tests.vectors.makers.plans import Json

MALFORMED, IMPOSSIBLE, FORM = (
    "not the parameters of a session",
    "offers an impossible session",
    "in a form that is not canonical",
)
TRUSTING = {"adversary": "semi-honest"}


def offer_of(clients: int = 10, vectors: Mapping[str, Spec] | None = None, **numbers: Any) -> Json:
    roster = roster_of(clients) if numbers.get("adversary") == "active" else None
    return i.unpack(Masking.for_cohort(clients, vectors or {"": ONE}, roster=roster, **numbers).offer())


def case(
    what: str, good: Json, bad: Json | bytes, words: str, policy: Json, roster: int | None = None
) -> Json:
    return {
        "what": what,
        "policy": policy,
        "roster": roster,
        "good": i.packed(good).hex(),
        "bytes": (bad if isinstance(bad, bytes) else written(bad)).hex(),
        "error": {"class": "RemoteProtocolError", "culprits": [], "words": words},
    }


def forms() -> Iterator[Json]:
    """Bytes that are no offer, or not the one form of it."""
    good = offer_of()
    data = i.packed(good)
    pairs = list(good.items())

    def spoilt(what: str, bad: Json | bytes, words: str) -> Json:
        return case(what, good, bad, words, TRUSTING)

    yield spoilt("no bytes", b"", MALFORMED)
    yield spoilt("a byte behind its end", data + b"\0", MALFORMED)
    yield spoilt("without its last byte", data[:-1], MALFORMED)
    longer = spoilt("65,537 bytes: zeros behind its end", data, "at most 65536 are read")
    yield longer | {"zeros": 2**16 + 1 - len(data)}
    yield spoilt("an array", written(["masking"]), MALFORMED)
    yield spoilt("another scheme", good | {"scheme": "other"}, MALFORMED)
    yield spoilt("a field too many", dict(sorted({**good, "extra": 0}.items())), MALFORMED)
    yield spoilt(
        "a field that has no default is missing", {k: v for k, v in pairs if k != "degree"}, MALFORMED
    )
    yield spoilt("a field that has a default is missing", {k: v for k, v in pairs if k != "batch"}, FORM)
    yield spoilt("keys that descend", written(Pairs(pairs[::-1])), FORM)
    yield spoilt("a key that stands twice", written(Pairs([pairs[0], *pairs])), FORM)
    yield spoilt("a number in a longer form", good | {"clients": wider(10)}, FORM)
    yield spoilt("a number as a float", good | {"clients": 10.0}, MALFORMED)
    yield spoilt("a number as text", good | {"clients": "10"}, MALFORMED)
    yield spoilt("a negative number", good | {"corrupt": Raw(b"\xff")}, IMPOSSIBLE)
    yield spoilt("no vectors", good | {"vectors": None}, MALFORMED)
    several = offer_of(vectors=SEVERAL)
    vectors = several["vectors"]

    def of_vectors(what: str, name: str, change: Json, words: str) -> Json:
        spec = dict(sorted({**vectors[name], **change}.items()))
        return case(what, several, several | {"vectors": {**vectors, name: spec}}, words, TRUSTING)

    turned = several | {"vectors": Pairs(list(vectors.items())[::-1])}
    yield case("vectors in another order", several, turned, FORM, TRUSTING)
    yield of_vectors("a bound that is an integer", "update", {"bound": 1}, FORM)
    yield of_vectors("a bound of 4 bytes", "update", {"bound": Raw(b"\xca\x3f\x00\x00\x00")}, FORM)
    yield of_vectors("a vector of another kind", "update", {"kind": "other"}, MALFORMED)
    yield of_vectors("a vector with a field too many", "weight", {"length": 1}, MALFORMED)


def impossible() -> Iterator[Json]:
    """Numbers of which no session can be made, whatever the policy."""
    good = offer_of()

    def spoilt(what: str, words: str, **numbers: Any) -> Json:
        return case(what, good, good | numbers, words, TRUSTING)

    one = {"kind": "counts", "length": 1, "maximum": 1}
    yield spoilt("no clients", f"{IMPOSSIBLE}: 0 clients", clients=0)
    yield spoilt("a million clients and one", "1000001 clients is not in", clients=10**6 + 1)
    yield spoilt("two clients", "use 3 or", clients=2)
    yield spoilt("no vector", "a session has 1..64 vectors", vectors={})
    yield spoilt("65 vectors", "1..64 vectors", vectors={f"{x:02}": one for x in range(65)})
    yield spoilt("a name of 65 bytes", "at most 64 bytes", vectors={"n" * 65: one})
    yield spoilt("a name that is not printable", "a vector's name is printable", vectors={"\n": one})
    weights = {name: {"kind": "weight", "maximum": 2} for name in "vw"}
    yield spoilt("two weights", "at most one weight", vectors=weights)
    yield spoilt("an empty vector", "length 0", vectors={"": {**one, "length": 0}})
    longest = {name: {**one, "length": 2**28 + 1} for name in "ab"}
    yield spoilt("2^29 coordinates and two", "coordinates together", vectors=longest)
    widest = {"": {**one, "maximum": 2**53 - 1}}
    yield case("a ring of 63 bits", offer_of(600), offer_of(600) | {"vectors": widest}, "63 bits", TRUSTING)
    bounded = {"bits": 16, "bound": 1.0, "clip": None, "kind": "bounded", "length": 1}
    for name, value in (("bits", 1), ("bits", 33), ("bound", 0.0), ("bound", float("inf")), ("clip", 0.0)):
        yield spoilt(f"{name} of {value}", f"{name} {value}", vectors={"": {**bounded, name: value}})
    yield spoilt("as many corrupt as there are", "10 corrupt clients of 10", corrupt=10)
    yield spoilt("as many dropouts as there are", "10 dropouts of 10", dropout=10)
    yield spoilt("nobody can be spared", "6 would have to be left", dropout=5)
    yield spoilt("t of a half", "threshold 5 is impossible", threshold=5)
    yield spoilt("t above n - d", "threshold 8 is impossible", threshold=8, m_min=8)
    yield spoilt("m_min below t", "m_min 5 is impossible", m_min=5)
    yield spoilt("m_min above n", "m_min 11 is impossible", m_min=11)
    yield spoilt("another degree", "degree 4 with threshold 6 is impossible", degree=4)
    yield spoilt("a batch of two with one corrupt", "a batch of 2 is impossible", batch=2)
    yield spoilt("a batch above n", "a batch of 11 is impossible", batch=11)
    yield spoilt("blank always", "blank 1.0: the probability", blank=1.0)
    yield spoilt("a negative zero", "blank -0.0: the probability", blank=-0.0)
    yield spoilt("blanks of counts", "blank 0.25 beside the vector ''", blank=0.25)
    few = {"blank": 0.25, "vectors": {"": bounded}}
    yield spoilt("blanks without noise, of 5 honest clients", "of fewer than two of them", **few)
    yield spoilt("a roster nobody signs for", "is bound to a roster, and only then", roster=bytes(32))
    yield spoilt("no such adversary", MALFORMED, adversary="none")
    yield spoilt("no such PRG", MALFORMED, prg="mt19937")
    active = offer_of(adversary="active")
    below = active | {"threshold": 5, "m_min": 5}
    yield case("active: t below the quorum", active, below, "threshold 5 is impossible", {}, 10)
    yield case("active: no roster", active, active | {"roster": b""}, "is bound to a roster", {}, 10)
    sparse = offer_of(graph="sparse", dropout=3)
    policy = {**TRUSTING, "graph": "sparse", "dropout": 3}
    k, t, m_min = (sparse[name] for name in ("degree", "threshold", "m_min"))
    for what, change in (("another k", {"degree": k + 2}), ("another t", {"threshold": t + 1})):
        yield case(f"sparse: {what}", sparse, sparse | change, "is impossible: with 10 clients", policy)
    few = sparse | {"m_min": m_min - 1}
    yield case("sparse: m_min below n - d", sparse, few, f"m_min {m_min - 1} is impossible", policy)


def against_policy() -> Iterator[Json]:
    """Offers of possible sessions that this client would not have made."""
    good, active = offer_of(), offer_of(adversary="active")
    plain = i.unpack(Plain.for_cohort(10, ONE).offer())
    yield case("plain", good, plain, "the server offers the scheme plain", TRUSTING)
    yield case("a cohort too small", good, offer_of(9), "a cohort of 9", {**TRUSTING, "smallest_cohort": 10})
    other = offer_of(vectors={"": Counts(length=1, maximum=2)})
    asked = {**TRUSTING, "vectors": {"": {"kind": "counts", "length": 1, "maximum": 1}}}
    yield case("other vectors", good, other, "does not ask for what this client's policy says", asked)
    yield case("semi-honest", active, good, "trusts it to follow the protocol", {}, 10)
    yield case("active, to a client without a roster", good, active, "its own copy of the roster", TRUSTING)
    foreign = active | {"roster": bytes(32)}
    yield case("another roster", active, foreign, "bound to another roster", {}, 10)
    wide = offer_of(20, adversary="active", corrupt=2) | {"roster": active["roster"]}
    yield case("more clients than the roster has", active, wide, "a cohort of 20 from a roster of 10", {}, 10)
    yield case("no batches", offer_of(batch=5), good, "sums by batches of 0", {**TRUSTING, "batch": 5})
    other, policy = offer_of(prg="chacha20"), {**TRUSTING, "prg": "aes-128-ctr"}
    yield case("another cipher", good, other, "makes masks by chacha20", policy)
    for name, numbers in (
        ("corrupt", {"corrupt": 0}),
        ("threshold", {"threshold": 7}),
        ("m_min", {"m_min": 7}),
    ):
        words = f"offers {name} {numbers[name]}; by this client's policy it is"
        yield case(f"another {name}", good, offer_of(**numbers), words, TRUSTING)
    large, sparse = offer_of(100), offer_of(100, dropout=20)
    yield case("sparse: another dropout", large, sparse, "by this client's policy it is", TRUSTING)
    unasked = offer_of(graph="sparse", dropout=3)
    words = "by this client's policy it is"
    yield case("sparse, where the client's choice is complete", good, unasked, words, TRUSTING)
    never = {**TRUSTING, "corrupt": 9}
    assumed = offer_of(20, corrupt=9)
    yield case("no such session by its own numbers", assumed, good, "no such session is possible", never)


def of_private() -> Iterator[Json]:
    one = Private(length=100, clip=1.0)
    good = offer_of(vectors={"": one})

    def spoilt(what: str, words: str, vectors: Json | None = None, **change: Any) -> Json:
        vectors = vectors or {"": good["vectors"][""] | change}
        return case(f"private: {what}", good, good | {"vectors": vectors}, words, TRUSTING)

    private = good["vectors"][""]
    yield spoilt("no length", f"{IMPOSSIBLE}: length 0", length=0)
    yield spoilt("no clip", f"{IMPOSSIBLE}: clip 0.0", clip=0.0)
    yield spoilt("a clip that is no number", f"{IMPOSSIBLE}: clip nan", clip=float("nan"))
    for bits in (3, 25):
        yield spoilt(f"{bits} bits", f"{IMPOSSIBLE}: bits {bits} of a private vector", bits=bits)
    yield spoilt("no noise", f"{IMPOSSIBLE}: noise multiplier 0.0 is not", multiplier=0.0)
    yield spoilt("noise without end", f"{IMPOSSIBLE}: noise multiplier inf is not", multiplier=float("inf"))
    yield spoilt("another noise", MALFORMED, noise="laplace")
    yield spoilt("a multiplier that is an integer", FORM, multiplier=1)
    others: Json = {
        "bounded": {"bits": 16, "bound": 1.0, "clip": 1.0, "kind": "bounded", "length": 1},
        "counts": {"kind": "counts", "length": 1, "maximum": 1},
        "weight": {"kind": "weight", "maximum": 2},
    }
    for kind, other in others.items():
        words = "beside a private vector a session has only private ones"
        yield spoilt(f"{kind} beside it", words, {"": private, kind: other})
    for scheme in (Plain, CKKS):
        offered = i.unpack(scheme.for_cohort(10, ONE).offer())
        policy = {**TRUSTING, "schemes": [offered["scheme"]]}
        bad = offered | {"vectors": {"": private}}
        what = f"private: in the scheme {offered['scheme']}"
        yield case(what, offered, bad, "a private vector is for masking", policy)
    large = offer_of(100, vectors={"": one})
    few = large | {"vectors": {"": private | {"bits": 6}}}
    yield case("private: a ring too small", large, few, "a ring of 6 bits holds no noised sum", TRUSTING)
    fine = "which is not in 0.001..131072"
    yield spoilt("noise below its grid", fine, bits=8, multiplier=1e-5)
    yield spoilt("noise above what is drawn", fine, bits=24)
    words = "a ring of 24 bits makes a grid"
    yield spoilt("a grid too fine", words, bits=24, length=2**29, multiplier=1e-5)
    policy = {**TRUSTING, "noise": 0.99}
    yield case("private: a vector without noise", good, offer_of(), "without noise in its sum", policy)
    less = offer_of(vectors={"": Private(length=100, clip=1.0, multiplier=0.9)})
    yield case("private: less noise", good, less, "offers noise of 0.9 x the clip in the sum", policy)
    twice = offer_of(vectors={"a": one, "b": one})
    yield case("private: two at once", good, twice, "offers noise of 0.707107 x the clip", policy)
    coarse = offer_of(vectors={"": Private(length=10_000, clip=1.0, bits=8)})
    yield case("private: a grid too coarse", good, coarse, "rounding leaves noise of 0.", policy)
    smaller = offer_of(vectors={"": Private(length=100, clip=0.5)})
    clips = {**TRUSTING, "clips": {"": [0.75, 1.0]}}
    insists, least = {**TRUSTING, "blank": 0.5, "noise": 0.5}, {**TRUSTING, "noise": 0.5}
    half, quarter = (offer_of(vectors={"": one}, blank=P) for P in (0.5, 0.25))
    words = "contribute nothing with a probability of 0.25; this client takes"
    yield case("private: fewer blanks than it insists on", half, quarter, f"{words} 0.5", insists)
    yield case("private: blanks, with no noise insisted on", good, quarter, f"{words} 0 ", TRUSTING)
    yield case("private: blanks, against its choice", good, quarter, f"{words} 0 ", {**least, "blank": 0.0})
    bare = offer_of(vectors={"": Bounded(length=100, bound=1.0)}, blank=1e-7)
    under = offer_of(vectors={"": one}, blank=1e-7)
    words, rare = "what hides a sum of few is noise of its choosing", {**TRUSTING, "blank": 1e-7}
    yield case("private: blanks under noise of the server's choosing", bare, under, words, rare)
    named = offer_of(vectors={"a": one})
    words = "offers a clip for the vector 'a', for which this client has no limits, and none for ''"
    yield case("private: limits under another name", good, named, words, clips)
    yield case("private: a smaller clip", good, smaller, "offers a clip of 0.5 for the vector ''", clips)


def in_finer_steps() -> Iterator[Json]:
    """Offers of sums whose codes tell more of one client than this one's policy has it."""
    policy = {**TRUSTING, "bounds": {"update": [0.5, 4.0]}, "bits": 16, "heaviest": 10}

    def offered(bound: float = 1.0, bits: int = 16, maximum: int = 10) -> Json:
        update = Bounded(length=100, bound=bound, bits=bits)
        return offer_of(vectors={"update": update, "weight": Weight(maximum=maximum)})

    words = "for the vector 'update'; this client takes 0.5 to 4"
    yield case("a tighter bound", offered(), offered(bound=0.25), f"a bound of 0.25 {words}", policy)
    yield case("a wider bound", offered(), offered(bound=8.0), f"a bound of 8 {words}", policy)
    yield case("more bits", offered(), offered(bits=17), "asks for 17 bits of each number", policy)
    named = offer_of(vectors={"updates": Bounded(length=100, bound=1.0)})
    words = "for the vector 'updates', for which this client has no limits, and none for 'update'"
    yield case("limits under another name", offered(), named, f"offers a bound {words}", policy)
    yield case("a smaller largest weight", offered(), offered(maximum=9), "offers weights up to 9", policy)
    bare = offer_of(vectors={"update": Bounded(length=100, bound=1.0, bits=16)})
    yield case(
        "no weights, where the largest is to be 10", offered(), bare, "offers weights up to 1;", policy
    )


TO_SPLIT = {**TRUSTING, "schemes": ["split"]}


def of_split() -> Iterator[Json]:
    good = i.unpack(Split.for_cohort(10, {"": ONE}).offer())

    def bad(what: str, words: str, **numbers: Any) -> Json:
        return case(f"split: {what}", good, good | numbers, words, TO_SPLIT)

    yield bad("one relay", IMPOSSIBLE, relays=1)
    yield bad("seventeen relays", IMPOSSIBLE, relays=17)
    yield bad("m_min below A + 2", IMPOSSIBLE, m_min=2)
    yield bad("m_min above n", IMPOSSIBLE, m_min=11)
    yield bad("active without a roster", IMPOSSIBLE, adversary="active")
    yield bad("another m_min", "m_min 8; by this client's policy it is 7", m_min=8)
    yield bad("another A", "corrupt 0; by this client's policy it is 1", corrupt=0)
    batched = {**TRUSTING, "schemes": ["masking", "split"], "batch": 5}
    words = "offers split, which sums no batches; this client insists on 5"
    yield case("split, to one that insists on batches", offer_of(batch=5), good, words, batched)
    yield case("split, unasked", offer_of(), good, "the server offers the scheme split", TRUSTING)


TO_CKKS = {**TRUSTING, "schemes": ["ckks"]}


def offer_of_ckks(clients: int = 10, vectors: Mapping[str, Spec] | None = None, **numbers: Any) -> Json:
    return i.unpack(CKKS.for_cohort(clients, vectors or {"": ONE}, **numbers).offer())


def of_ckks() -> Iterator[Json]:
    good, released = offer_of_ckks(), offer_of_ckks(ending="release")

    def spoilt(what: str, words: str, **numbers: Any) -> Json:
        return case(f"ckks: {what}", good, good | numbers, words, TO_CKKS)

    due = "is not what this session takes"
    extra = dict(sorted({**good, "batch": 0}.items()))
    yield case("ckks: a field of masking", good, extra, MALFORMED, TO_CKKS)
    less = {k: v for k, v in good.items() if k != "flood_bits"}
    yield case("ckks: a field that has a default is missing", good, less, FORM, TO_CKKS)
    yield spoilt("a server that is active", "CKKS is not for a server that is active", adversary="active")
    yield spoilt("no such ending", MALFORMED, ending="both")
    yield spoilt("flooding of what is kept", "is flooded with 0 bits", flood_bits=40)
    none = released | {"flood_bits": 0}
    yield case("ckks: no flooding of what is released", released, none, "is flooded with 40 bits", TO_CKKS)
    yield spoilt("m_min of none", f"{IMPOSSIBLE}: m_min 0 is not in 1..10", m_min=0)
    yield spoilt("m_min above n", f"{IMPOSSIBLE}: m_min 11 is not in 1..10", m_min=11)
    yield spoilt("half a roster", "the digest of a roster", roster=bytes(16))
    yield spoilt("another degree", due, degree=2 * good["degree"])
    yield spoilt("another size of a prime", due, prime_bits=[good["prime_bits"][0] + 1])
    yield spoilt("a prime more", due, prime_bits=[*good["prime_bits"], 30])
    yield spoilt("another scale", due, scale=good["scale"] + 1)
    masking = offer_of()
    yield case("ckks, unasked", masking, good, "the server offers the scheme ckks", TRUSTING)
    active = offer_of(adversary="active")
    allowed = {"schemes": ["ckks", "masking"]}
    yield case("ckks, to one that does not trust it", active, good, "trusts it to follow", allowed, 10)
    listed = offer_of_ckks(roster=roster_of(10))
    yield case("ckks signed, to a client without a roster", good, listed, "its own copy of the", TO_CKKS)
    unsigned = "bound to another roster than this client holds"
    yield case("ckks unsigned, to a client with a roster", listed, good, unsigned, TO_CKKS, 10)
    other = listed | {"roster": bytes(32)}
    yield case("ckks: another roster", listed, other, "bound to another roster", TO_CKKS, 10)
    words = "offers that clients release the sum; this client insists that they keep it"
    yield case("ckks: another ending", good, released, words, {**TO_CKKS, "ending": "keep"})
    words = "offers m_min 7; by this client's policy it is 6"
    yield case("ckks: another m_min", good, offer_of_ckks(m_min=7), words, TO_CKKS)


def of_decoys() -> Iterator[Json]:
    good = i.unpack(Decoys.for_cohort(10, {"": ONE}).offer())
    told = {**TRUSTING, "schemes": ["decoys"]}

    def spoilt(what: str, words: str, **numbers: Any) -> Json:
        return case(f"decoys: {what}", good, good | numbers, words, told)

    due = "these decoys take"
    yield spoilt("a server that is active", "decoys are not for a server that is active", adversary="active")
    yield spoilt("a sum that is released", "the true candidate is found by linear algebra", ending="release")
    yield spoilt("one candidate", f"{IMPOSSIBLE}: candidates 1 is not in 2..64", candidates=1)
    yield spoilt("65 candidates", f"{IMPOSSIBLE}: candidates 65 is not in 2..64", candidates=65)
    yield spoilt("another modulus", due, modulus=good["modulus"] + 2 * good["degree"])
    yield spoilt("a prime more", due, prime_bits=[*good["prime_bits"], 30])
    wide = {"": {"bits": 32, "bound": 1.0, "clip": None, "kind": "bounded", "length": 1}}
    yield spoilt("vectors that no ring carries", "with these vectors could overflow", vectors=wide)
    yield case("decoys, unasked", offer_of(), good, "the server offers the scheme decoys", TRUSTING)


def of_groups() -> Iterator[Json]:
    good = offer_of(20, groups=2)
    of = good["groups"]
    sizes = "20 clients cannot be: from 2 to 20"

    def spoilt(what: str, words: str, other: Json | None = None, **change: Any) -> Json:
        bad = good | {"groups": of | change} | (other or {})
        return case(f"groups: {what}", good, bad, words, {**TRUSTING, "smallest_group": 2})

    yield spoilt("of everybody", f"1 group of {sizes}", number=1)
    yield spoilt("more than clients", f"21 groups of {sizes}", number=21)
    words = "10 groups of 20 clients have 2 each, and 4 of each would have to be left"
    yield spoilt("too small", words, number=10, m_g=2)
    yield spoilt("an m_g too small", "m_g 3 is impossible: of groups of 10 clients it is in 4..10", m_g=3)
    yield spoilt("an m_g above the smallest", "m_g 11 is impossible", m_g=11)
    yield spoilt("unsafe, of nobody", "m_g 0 is impossible", m_g=0, unsafe=True)
    words = "the cohort that is cut is 20 different ids in order"
    yield spoilt("a cohort of 19", words, cohort=list(range(19)))
    yield spoilt("a cohort with one twice", words, cohort=[0, *range(19)])
    yield spoilt("a cohort that descends", words, cohort=list(range(20))[::-1])
    yield spoilt("an id that is none", words, cohort=[*range(19), 2**31 - 1])
    yield spoilt("a base of 31 bytes", "drawn from 32 bytes", cohort=list(range(20)), seed=bytes(31))
    yield spoilt("a base without its cohort", "is one of its cohort: name that, too", seed=bytes(32))
    yield spoilt("beside batches", "by groups or by batches", {"batch": 4})
    yield spoilt("beside blanks", "blanks are for one sum of all", {"blank": 0.25})
    weight = {"vectors": {"": {"kind": "weight", "maximum": 2}}}
    yield spoilt("with weights that are not public", "the sum of weights would be known", weight)
    yield spoilt("a field too many", MALFORMED, other_field=1)
    yield spoilt("a flag that is a number", MALFORMED, unsafe=1)
    yield spoilt("nil", MALFORMED, {"groups": None})
    bare = offer_of(20)
    yield case("groups: unasked", bare, good, "this client is summed with all", TRUSTING)
    larger = {**TRUSTING, "smallest_group": 10}
    yield case("groups: smaller ones", good, offer_of(20, groups=3), "takes groups of 10 or more", larger)
    public = offer_of(20, groups=2, public_weights=True)
    yield case("groups: public weights", good, public, "takes weights for public", larger)
    unsafe = offer_of(20, groups=2, unsafe_groups=True)
    yield case("groups: unsafe ones", good, unsafe, "offers unsafe groups", larger)
    staying = offer_of(20, groups=2, cohort=range(20))
    words = "cuts whoever comes, each round anew, and this client insists on one cut"
    yield case("groups: of whoever comes", staying, good, words, {**larger, "one_cut": "a run"})
    insisting = {**TRUSTING, "one_cut": "a run"}
    words = "without a roster this client, which insists on one cut, cannot see"
    yield case(
        "one cut: a sum of nobody knows whom", staying, bare, words, {**insisting, "smallest_group": 10}
    )
    some, everybody = (offer_of(n, corrupt=1, dropout=1) for n in (10, 20))
    words = "the server sums 10 clients at once, of 20 in this client's roster"
    mine = {**insisting, "corrupt": 1, "dropout": 1}
    yield case("one cut: a sum of some", everybody, some, words, mine, roster=20)
    experiment = {**TRUSTING, "smallest_group": 2, "unsafe_groups": True}
    usual, fewer = (offer_of(20, groups=10, unsafe_groups=True, m_g=m_g) for m_g in (2, 1))
    words = "opens groups of 1; by this client's policy it takes 2"
    yield case("groups: a smaller m_g", usual, fewer, words, experiment)


def offers() -> Iterator[Json]:
    yield from forms()
    yield from impossible()
    yield from against_policy()
    yield from in_finer_steps()
    yield from of_private()
    yield from of_groups()
    yield from of_split()
    yield from of_ckks()
    yield from of_decoys()
