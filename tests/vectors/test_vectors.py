"""The vectors are what others published, what this package computes, and what is computed without it."""

from __future__ import annotations

import ast
import hashlib
import math
import re
from fractions import Fraction
from functools import lru_cache
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from secagg import RemoteProtocolError, Roster
from secagg.ckks.flooding import gaussian
from secagg.crypto import SecretKey, Tag, is_signature, kdf, seal, unseal
from secagg.errors import LocalProtocolError
from secagg.graph import sparsest
from secagg.schemes import read_offer
from secagg.shamir import recon
from tests.vectors import independent as i
from tests.vectors import independent_choice as choice
from tests.vectors import independent_ckks as ckks
from tests.vectors import independent_decoys as decoys
from tests.vectors import independent_private as private
from tests.vectors import independent_split as split
from tests.vectors.independent_check import differences
from tests.vectors.independent_server import RefusedError, TooFewError
from tests.vectors.make import files
from tests.vectors.makers.chance import Record
from tests.vectors.makers.choices import roster_of
from tests.vectors.makers.ckks import ANSWERS as SAID
from tests.vectors.makers.ckks import REQUESTS as REQUESTED
from tests.vectors.makers.primitives import stream
from tests.vectors.replay import FOLDER, load, session

unhex = bytes.fromhex
Json = dict[str, Any]


SESSIONS = sorted(path.stem for path in (FOLDER / "sessions").glob("*.json"))
each_session = pytest.mark.parametrize("name", SESSIONS)


# This package


@lru_cache(maxsize=1)
def made() -> dict[str, str]:
    return dict(files())


def test_make_writes_these_files_and_no_others() -> None:
    here = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.json")}
    assert here == made().keys()


@pytest.mark.parametrize(
    "name", sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.json"))
)
def test_the_file_is_what_make_writes(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == made()[name], "python -m tests.vectors.make"


@each_session
def test_the_recorded_chance_gives_the_recorded_session(name: str) -> None:
    """Nothing but the record goes in: no counter stands behind it."""
    messages, result = session(name).played_again()
    recorded = session(name).messages
    for message, other in zip(messages, recorded, strict=True):
        if "sha256" in other:
            message["sha256"] = hashlib.sha256(unhex(message.pop("bytes"))).hexdigest()
        assert message == other
    assert result == session(name).record["result"]


def test_every_tag_is_in_kdf_json() -> None:
    tags = {tag.value.decode() for tag in Tag}
    assert {case["tag"] for case in load("kdf")["transcripts"]} == tags
    assert {case["tag"] for case in load("kdf")["keys"]} == tags


def test_this_package_reads_the_streams_at_the_places_it_can_reach() -> None:
    reached = [case for case in load("prg")["seek"] if case["first"] <= 2**20]
    assert len(reached) == 4 * 5
    for case in reached:
        words = stream(case["prg"], unhex(case["seed"]), case["word_bits"], 4, case["first"])
        assert words == case["words"]


# Published answers


def keystream(case: Json) -> bytes:
    """By `cryptography`'s own mode, which neither prg.py nor independent.py goes through block by block."""
    key, first = unhex(case["key"]), unhex(case["first_block"])
    if case["cipher"] == "chacha20":
        return Cipher(algorithms.ChaCha20(key, first), None).encryptor().update(unhex(case["plaintext"]))
    return Cipher(algorithms.AES(key), modes.CTR(first)).encryptor().update(unhex(case["plaintext"]))


def by_blocks(case: Json) -> bytes:
    key, first, plaintext = (unhex(case[name]) for name in ("key", "first_block", "plaintext"))
    if case["cipher"] == "chacha20":
        counter = int.from_bytes(first[:4], "little")
        blocks = [i.chacha20_block(key, counter + j, first[4:]) for j in range(len(plaintext) // 64 + 1)]
    else:
        counter = int.from_bytes(first, "big")
        counters = ((counter + j) % 2**128 for j in range(len(plaintext) // 16))
        blocks = [i.aes_block(key, c.to_bytes(16, "big")) for c in counters]
    return bytes(a ^ b for a, b in zip(plaintext, b"".join(blocks), strict=False))


@pytest.mark.parametrize("case", load("prg")["published"], ids=lambda case: case["source"])
def test_a_cipher_gives_the_published_answer(case: Json) -> None:
    assert keystream(case) == by_blocks(case) == unhex(case["ciphertext"])
    if not any(unhex(case["first_block"])):  # where our stream begins
        assert not any(unhex(case["plaintext"]))
        words = stream(case["cipher"], unhex(case["key"]), 32, len(case["ciphertext"]) // 8)
        assert b"".join(unhex(word)[::-1] for word in words) == unhex(case["ciphertext"])


def test_the_other_primitives_give_the_published_answers() -> None:
    for case in load("kdf")["published"]:
        okm = unhex(case["key"])
        assert i.hkdf(unhex(case["secret"]), unhex(case["salt"]), unhex(case["info"]), len(okm)) == okm
    for case in load("sealing")["x25519"]:
        secret, public, agreed = (unhex(case[name]) for name in ("secret", "public", "agreed"))
        assert SecretKey(secret).agree(public) == i.x25519(secret, public) == agreed
    for case in load("sealing")["aes-256-gcm"]:
        key, nonce, plaintext, associated = (
            unhex(case[name]) for name in ("key", "nonce", "plaintext", "associated")
        )
        sealed = nonce + unhex(case["ciphertext"] + case["tag"])
        assert seal(key, plaintext, associated, Record([nonce])) == sealed
        assert i.seal(key, nonce, plaintext, associated) == sealed
        assert unseal(key, sealed, associated) == i.unseal(key, sealed, associated) == plaintext
    for case in load("signatures")["published"]:
        secret, public, statement = (unhex(case[name]) for name in ("secret", "public", "statement"))
        assert i.ed25519_public(secret) == public
        assert i.sign(secret, statement) == unhex(case["signature"])
        assert is_signature(public, statement, unhex(case["signature"]))
    for case in load("packing")["published"]:
        assert i.pack_bits([int(v, 16) for v in case["values"]], case["ring_bits"]) == unhex(case["packed"])


def test_any_t_of_the_published_shares_give_the_published_secret() -> None:
    for case in load("shamir")["published"]:
        prime, shares = int(case["prime"], 16), {int(x): int(y, 16) for x, y in case["shares"].items()}
        for gone in range(1, len(shares) - case["t"] + 2):
            some = dict(list(shares.items())[gone - 1 :][: case["t"]])
            assert recon(some, prime) == i.recon(some, prime) == int(case["secret"], 16)


def test_the_choice_of_degree_is_googles() -> None:
    table = load("graph")["choices_at_40_bits"]["table"]
    for n, corrupt, dropout, adversary, (k, t) in table:
        A, d = choice.floor_of(corrupt, n), choice.floor_of(dropout, n)
        assert sparsest(n, A, d, adversary, sigma=40) == (k, t)
        if n <= 1000 and k <= 150:
            assert choice.threshold(n, A, d, k, adversary == "active", 40) == t
            assert k == 2 or choice.threshold(n, A, d, k - 2, adversary == "active", 40) is None


# Without this package


def test_the_independent_files_import_nothing_of_the_package() -> None:
    for path in FOLDER.glob("independent*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in getattr(node, "names", []) if isinstance(alias, ast.alias)]
            module = getattr(node, "module", None) or ""
            used = [module] if module else names if isinstance(node, ast.Import) else []
            used += [f"{module}.{name}" for name in names if module == "tests.vectors"]
            for name in used:
                assert name.split(".")[0] not in ("secagg", "numpy", "msgspec", "flint"), path
                assert not re.match(r"tests\.(?!vectors(\.independent\w*)?$)", name), path


@each_session
def test_the_session_is_computed_again_without_the_package(name: str) -> None:
    assert list(differences(load(f"sessions/{name}"))) == []


def test_a_changed_record_is_noticed() -> None:
    record = load("sessions/complete-active-drop-masked-input")
    for number, message in enumerate(record["messages"]):
        data = bytearray(unhex(message["bytes"]))
        data[-1] ^= 1
        spoilt = [*record["messages"]]
        spoilt[number] = {**message, "bytes": data.hex()}
        try:
            found = list(differences({**record, "messages": spoilt}))
        except (i.MalformedError, InvalidTag, ValueError, OverflowError, RefusedError, TooFewError):
            continue
        assert found, number
    for what in ("parameters", "context", "sid"):
        assert list(differences({**record, what: "00" * 32}))
    for u in record["U2"]:
        clients = {**record["clients"], str(u): {**record["clients"][str(u)], "c_pk": "00" * 32}}
        assert list(differences({**record, "clients": clients}))


def test_streams() -> None:
    for case in load("prg")["streams"] + load("prg")["seek"]:
        bits, seed, first = case["word_bits"], unhex(case["seed"]), case.get("first", 0)
        count = len(case["words"])
        words = [int(word, 16) for word in case["words"]]
        assert i.words(case["prg"], seed, count, bits // 8, first) == words
        assert _by_the_mode(case["prg"], seed, first * bits // 8, count * bits // 8) == b"".join(
            word.to_bytes(bits // 8, "little") for word in words
        )
    for case in load("prg")["masks"]:
        bits = case["word_bits"]
        y, added, subtracted = ([int(x, 16) for x in case[name]] for name in ("y", "added", "subtracted"))
        mask = i.words(case["prg"], unhex(case["seed"]), len(y), bits // 8)
        assert [(a + b) % 2**bits for a, b in zip(y, mask, strict=True)] == added
        assert [(a - b) % 2**bits for a, b in zip(y, mask, strict=True)] == subtracted


def _by_the_mode(prg: str, seed: bytes, start: int, size: int) -> bytes:
    """Bytes of a stream, with the cipher's counter set to where they are."""
    block = 16 if prg == "aes-128-ctr" else 64
    number = start // block
    if prg == "aes-128-ctr":
        cipher: Cipher[Any] = Cipher(algorithms.AES(seed[:16]), modes.CTR(number.to_bytes(16, "big")))
    else:
        cipher = Cipher(algorithms.ChaCha20(seed, number.to_bytes(4, "little") + bytes(12)), None)
    return cipher.encryptor().update(bytes(start % block + size))[start % block :]


def part(shown: Json) -> bytes | int | str:
    ((kind, value),) = shown.items()
    return int(value, 16) if kind == "int" else value if kind == "text" else unhex(value)


def test_transcripts_digests_and_keys() -> None:
    seen = set()
    for case in load("kdf")["transcripts"]:
        parts = [part(shown) for shown in case["parts"]]
        assert i.transcript(case["tag"], *parts) == unhex(case["transcript"])
        assert i.digest(case["tag"], *parts) == unhex(case["digest"])
        seen.add(case["transcript"])
    assert len(seen) == len(load("kdf")["transcripts"])
    for case in load("kdf")["keys"]:
        parts = [part(shown) for shown in case["parts"]]
        secret, salt, key = (unhex(case[name]) for name in ("secret", "salt", "key"))
        assert i.kdf(case["tag"], secret, salt, *parts) == kdf(
            Tag(case["tag"].encode()), secret, salt, *parts
        )
        assert i.kdf(case["tag"], secret, salt, *parts) == key


def test_commitments() -> None:
    for case in load("commitments")["cases"]:
        sid, b_u, key_share, mask_share = (
            unhex(case[name]) for name in ("sid", "b_u", "key_share", "mask_share")
        )
        dealer, holder = case["dealer"], case["holder"]
        assert i.digest("commit-mask", sid, dealer, b_u).hex() == case["commitment"]
        assert i.digest("commit-key-share", sid, dealer, holder, key_share).hex() == case["of_key"]
        assert i.digest("commit-mask-share", sid, dealer, holder, mask_share).hex() == case["of_mask"]


def test_sealing() -> None:
    for case in load("sealing")["cases"]:
        c_sk, sid, nonce, both = (unhex(case[name]) for name in ("c_sk", "sid", "nonce", "both"))
        c_uv = i.x25519(c_sk, unhex(case["c_pk_of_the_holder"]))
        key = i.kdf("share-key", c_uv, sid, case["dealer"], case["holder"])
        data = i.digest("share-data", sid, case["dealer"], case["holder"])
        made = {"c_uv": c_uv, "share_key": key, "share_data": data, "sealed": i.seal(key, nonce, both, data)}
        assert {name: value.hex() for name, value in made.items()}.items() <= case.items()
    for point in load("sealing")["small_order"]:
        with pytest.raises(ValueError, match="shared key"):
            i.x25519(bytes(range(32)), unhex(point))
        with pytest.raises(RemoteProtocolError, match="small order"):
            SecretKey(bytes(range(32))).agree(unhex(point))


def test_shares() -> None:
    vectors = load("shamir")
    prime = int(vectors["prime"], 16)
    assert prime == i.P
    assert all(pow(a, prime - 1, prime) == 1 for a in (2, 3, 5, 7, 11, 13))
    for case in vectors["cases"]:
        secret, coefficients = int(case["secret"], 16), [int(c, 16) for c in case["coefficients"]]
        shares = {int(x): int(y, 16) for x, y in case["shares"].items()}
        assert i.shares(secret, coefficients, shares) == shares
        t = len(coefficients) + 1
        for some in (list(shares.items())[:t], list(shares.items())[-t:]):
            assert i.recon(dict(some)) == recon(dict(some)) == secret
    for draw, coefficient in vectors["draws"]:
        assert int(draw, 16) % prime == int(coefficient, 16)
        assert (len(draw), len(coefficient)) == (98, 66)
    assert all(int(x, 16) < prime for x in vectors["elements"])
    assert len(vectors["elements"]) == 5
    assert all(int(x, 16) >= prime for x in vectors["not_elements"])
    assert len(vectors["not_elements"]) == 3


def test_packing() -> None:
    vectors = load("packing")
    assert {case["ring_bits"] for case in vectors["cases"]} == set(range(1, 63))
    for case in vectors["cases"]:
        values, packed = [int(v, 16) for v in case["values"]], unhex(case["packed"])
        assert i.pack_bits(values, case["ring_bits"]) == packed
        assert i.unpack_bits(packed, len(values), case["ring_bits"]) == values
    for case in vectors["refused"]:
        with pytest.raises(i.MalformedError):
            i.unpack_bits(unhex(case["packed"]), case["length"], case["ring_bits"])


def test_encoding() -> None:
    vectors = load("encoding")
    for case in vectors["encode"]:
        spec, bits, weight = case["spec"], case["ring_bits"], Fraction(*case["weight"])
        assert i.ring_bits(spec, case["clients"]) == bits
        made = i.encode(spec, case["x"], bits, unhex(case["rounding_key"]), weight)
        assert made == (case["codes"], *case["clipping"])
        if case.get("exact"):
            assert exactly(spec, case["x"], bits, case["words"], weight) == case["codes"]
    for case in vectors["decode"]:
        spec, bits, words = case["spec"], case["ring_bits"], [int(word, 16) for word in case["words"]]
        assert [i.centred(spec, word, bits) for word in words] == case["codes"]
        numbers = case["survivors"], case["total_weight"], case["max_weight"]
        total, mean, error = i.decode(spec, case["codes"], *numbers)
        assert (total, mean, error) == (case["sum"], case["mean"], case["error_bound"])
        if case["exact"] and spec["kind"] == "bounded":
            step = Fraction(spec["bound"]) / (2 ** (spec["bits"] - 1) - 1) * numbers[2]
            assert [code * step for code in case["codes"]] == total
    for spec, clients, bits in vectors["ring_bits"]:
        assert i.ring_bits(spec, clients) == bits


def test_private_vectors() -> None:
    vectors = load("private")
    for case in vectors["rotations"]:
        rotation = private.Rotation(unhex(case["seed"]), len(case["x"]))
        assert rotation.forward(case["x"]) == case["forward"]
        assert rotation.back(case["x"]) == case["back"]
    for case in vectors["numbers"]:
        numbers = private.Numbers.of(case["spec"], case["clients"], case["honest"])
        assert vars(numbers).items() <= case.items()
        assert case["l1"] == min(math.sqrt(case["spec"]["length"] * numbers.l2_squared), numbers.l2_squared)
    for case in vectors["scaled"]:
        numbers = private.Numbers.of(case["spec"], case["clients"], case["honest"])
        factor = i.norm_factor(case["spec"]["clip"], case["x"])
        rotated = private.Rotation(unhex(case["rotation"]), len(case["x"])).forward(
            [value * factor for value in case["x"]]
        )
        assert (factor, [y / numbers.granularity for y in rotated]) == (case["factor"], case["z"])
    for case in vectors["rounded"]:
        tries = [[int(word, 16) for word in words] for words in case["tries"]]
        assert private.rounded(case["z"], case["l2_squared"], tries) == case["codes"]
        within = sum(code * code for code in case["codes"]) <= case["l2_squared"]
        assert within == (len(tries) < 100)
    assert {len(case["tries"]) for case in vectors["rounded"]} >= {1, 100}
    for case in vectors["sums"]:
        spec, survivors = case["spec"], case["survivors"]
        numbers = private.Numbers.of(spec, case["clients"], case["honest"])
        assert [i.centred(spec, int(word, 16), spec["bits"]) for word in case["words"]] == case["codes"]
        total = private.total(case["codes"], numbers.granularity, unhex(case["rotation"]))
        assert (total, [x / survivors for x in total]) == (case["sum"], case["mean"])
        assert numbers.noise(survivors) == case["noise"]
        there = survivors * (1 - case["blank"])
        assert [x / there for x in total] == case["mean_with_blanks"]
        assert case["noise_with_blanks"] == pytest.approx(case["noise"] / (1 - case["blank"]), rel=1e-15)
    for P, word, summed in vectors["coins"]:
        assert (Fraction(int(word, 16)) >= Fraction(P) * 2**64) == summed


@each_session
def test_no_step_of_a_sessions_encoding_rounds(name: str) -> None:
    record = load(f"sessions/{name}")
    for client in (client for client in record["clients"].values() if "codes" in client):
        weight = Fraction(1)
        for vector, spec in record["vectors"].items():
            if spec["kind"] == "weight":
                weight = Fraction(client["inputs"][vector][0], spec["maximum"])
        for vector, spec in record["vectors"].items():
            if spec["kind"] == "bounded":
                key = i.kdf("rounding", unhex(client["rounding_seed"]), unhex(record["context"]), vector)
                x, bits = client["inputs"][vector], spec["ring_bits"]
                words = [f"{word:x}" for word in i.words("aes-128-ctr", key, len(x), 4)]
                assert exactly(spec, x, bits, words, weight) == client["codes"][vector]


def exactly(spec: Json, x: list[float], bits: int, words: list[str], weight: Fraction) -> list[int]:
    """Section 6 in exact fractions: where float64 rounds nothing, it gives the same."""
    r, levels, factor = Fraction(spec["bound"]), 2 ** (spec["bits"] - 1) - 1, Fraction(1)
    square = sum(Fraction(value) ** 2 for value in x)
    if spec["clip"] is not None and square > Fraction(spec["clip"]) ** 2:
        top, bottom = math.isqrt(square.numerator), math.isqrt(square.denominator)
        assert Fraction(top, bottom) ** 2 == square
        factor = Fraction(spec["clip"]) / Fraction(top, bottom)
    codes = []
    for value, word in zip(x, words, strict=True):
        z = min(max(Fraction(value) * factor, -r), r) * weight * levels / r
        codes.append((math.floor(z) + (Fraction(int(word, 16), 2**32) < z - math.floor(z))) % 2**bits)
    return codes


def test_graphs_and_batches() -> None:
    for case in load("graph")["graphs"]:
        n, sid, members = case["clients"], unhex(case["sid"]), case["members"]
        complete = case["degree"] == n - 1
        assert (None if complete else i.ring(n, sid, members)) == case["ring"]
        found = i.neighbours(n, case["degree"], sid, members)
        for u, neighbours in case["neighbours"].items():
            assert sorted(found[int(u)]) == neighbours
            assert case["holders"][u] == (members if complete else neighbours)
    for case in load("graph")["batches"]:
        assert i.batches(range(case["clients"]), case["batch"]) == case["batches"]


def test_cuts_and_the_numbers_of_groups() -> None:
    for case in load("graph")["cuts"]:
        made = i.cut(case["clients"], case["number"], unhex(case["base"]), case["members"])
        assert made == case["groups"]
        assert sorted(u for group in made for u in group) == case["members"]
    for n, A, number, adversary, *due in load("graph")["groups"]:
        assert list(choice.groups(n, A, number, adversary == "active")) == due


def test_the_choice_of_degree_holds_with_exact_fractions() -> None:
    """But for the largest, of which exact fractions take long."""
    for n, A, d, adversary, chosen in load("graph")["choices"]:
        if n <= 1000 and (chosen is None or chosen[0] <= 200):
            exact = choice.sparsest(n, A, d, adversary == "active", choice.SIGMA[adversary])
            assert exact == (None if chosen is None else tuple(chosen)), (n, A, d, adversary)


@pytest.mark.parametrize("case", load("parameters")["cases"], ids=lambda case: case["what"])
def test_parameters(case: Json) -> None:
    offer = unhex(case["offer"])
    assert read_offer(offer).digest().hex() == case["parameters"]
    numbers = i.unpack(offer)
    assert i.digest("parameters", offer).hex() == case["parameters"]
    arguments = case["arguments"]
    vectors = {name: dict(sorted(case["vectors"][name].items())) for name in sorted(case["vectors"])}
    due = {"scheme": "masking", "clients": arguments["clients"], "vectors": vectors, "small_cohort": False}
    if arguments.get("scheme") == "plain":
        assert numbers == {**due, "scheme": "plain"}
        return
    if arguments.get("scheme") == "decoys":
        K = arguments.get("candidates", 8)
        plan = decoys.plan(arguments["clients"], K, vectors)
        primes = ckks.primes(plan["degree"], plan["prime_bits"])
        assert primes == case["plan"]["primes"]
        own = sum(-(-spec.get("length", 1) * decoys.width(spec) // 8) for spec in vectors.values())
        selector = sum(2 * plan["degree"] * bits // 8 for bits in plan["prime_bits"])
        assert case["plan"]["upload_bytes"] == K * (own + selector)
        due |= {"scheme": "decoys", "adversary": "semi-honest", "ending": "keep", "candidates": K, **plan}
        due["m_min"] = arguments.get("m_min", arguments["clients"] // 2 + 1)
        due["roster"] = roster_of(arguments["roster"]).digest if "roster" in arguments else b""
        assert i.packed(dict(sorted(due.items()))) == offer
        return
    if arguments.get("scheme") == "ckks":
        plan = ckks.plan(arguments["clients"], vectors, arguments.get("ending", "keep"))
        made = {name: plan[name] for name in ("capacity", "slots", "upload_bytes", "layouts")}
        assert made == {name: case["plan"][name] for name in made}
        assert ckks.primes(plan["degree"], plan["prime_bits"]) == case["plan"]["primes"]
        due |= {"scheme": "ckks", "adversary": "semi-honest", **ckks.numbers(arguments, vectors)}
        due["small_cohort"] = arguments.get("small_cohort", False)
        due["roster"] = roster_of(arguments["roster"]).digest if "roster" in arguments else b""
        assert i.packed(dict(sorted(due.items()))) == offer
        return
    noised = any(spec["kind"] == "private" for spec in vectors.values())
    assert choice.numbers(arguments, noised) == case["numbers"]
    due |= {"adversary": "semi-honest", "prg": "aes-128-ctr", "batch": 0, "blank": 0.0, **case["numbers"]}
    due |= {
        name: arguments[name]
        for name in ("adversary", "prg", "batch", "blank", "small_cohort")
        if name in arguments
    }
    due["roster"] = roster_of(arguments["roster"]).digest if "roster" in arguments else b""
    n, number = arguments["clients"], arguments.get("groups", 1)
    if "groups" in arguments:
        _, least = choice.groups(n, due["corrupt"], number, due["adversary"] == "active")
        unsafe = arguments.get("unsafe_groups", False)
        m_g = arguments.get("m_g", n // number // 2 + 1 if unsafe and least > n // number else least)
        due["groups"] = {
            **{"cohort": arguments.get("cohort", []), "m_g": m_g, "number": number},
            "public_weights": arguments.get("public_weights", False),
            **{"seed": unhex(arguments.get("cut", "")), "unsafe": unsafe},
        }
        assert m_g == case["m_g"]
    assert i.packed(dict(sorted(due.items()))) == offer
    bits = {name: i.ring_bits(spec, -(-n // number)) for name, spec in vectors.items()}
    assert bits == case["ring_bits"]


def test_messages() -> None:
    assert {case["message"] for case in load("messages")["cases"]} == i.SHAPES.keys()
    for case in load("messages")["cases"]:
        assert _shown(i.message(case["message"], unhex(case["bytes"]))) == case["fields"]


def _shown(value: Any) -> Any:
    if isinstance(value, list):
        return [_shown(entry) for entry in value]
    if isinstance(value, dict):
        return {str(k): _shown(v) for k, v in value.items()}
    return value.hex() if isinstance(value, bytes) else value


def test_signatures() -> None:
    vectors = load("signatures")
    roster = {int(u): unhex(key) for u, key in vectors["roster"]["keys"].items()}
    listed = b"".join(u.to_bytes(4, "big") + key for u, key in sorted(roster.items()))
    assert i.digest("roster", listed).hex() == vectors["roster"]["digest"]
    bound = [unhex(x) for x in (vectors["parameters"], vectors["roster"]["digest"], vectors["context"])]
    for case in vectors["cases"]:
        u, secret = case["u"], unhex(vectors["roster"]["secrets"][str(case["u"])])
        assert i.ed25519_public(secret) == roster[u]
        if case["message"] == "advertise-keys":
            nonce, c_pk, s_pk = (unhex(case[name]) for name in ("nonce", "c_pk", "s_pk"))
            statement = i.transcript("sign-keys", *bound, nonce, u, c_pk, s_pk)
        elif case["message"] == "share-keys":
            assert i.message("share-keys", unhex(case["unsigned"]))[-1] == b""
            statement = i.transcript("sign-shares", unhex(case["sid"]), u, unhex(case["unsigned"]))
        elif case["message"] == "advertise-ckks-key":
            statement = i.transcript("sign-ckks-key", *bound, unhex(case["nonce"]), u, unhex(case["c_pk"]))
        elif case["message"] == "share-ckks-key":
            statement = ckks.secret_statement(unhex(case["sid"]), u, unhex(case["sealed_key"]))
        elif case["message"] == "ciphertexts":
            statement = ckks.upload_statement(unhex(case["sid"]), u, unhex(case["upload"]))
        elif case["message"] == "candidates":
            statement = decoys.upload_statement(unhex(case["sid"]), u, unhex(case["upload"]))
        else:
            joined = (b"".join(v.to_bytes(4, "big") for v in case[U]) for U in ("U1", "U2", "U3"))
            sets = [i.digest("members", ids) for ids in joined]
            statement = i.transcript("sign-members", unhex(case["sid"]), bound[0], bound[2], *sets)
        assert statement.hex() == case["statement"]
        assert i.sign(secret, statement).hex() == case["signature"]
    for case in vectors["not_verifying"]:
        key, statement, signature = (unhex(case[name]) for name in ("public", "statement", "signature"))
        assert not i.verifies(key, statement, signature)
        assert not is_signature(key, statement, signature)


# CKKS

CKKS_SESSIONS = load("ckks")["sessions"]
each_ckks = pytest.mark.parametrize("name", CKKS_SESSIONS)


@each_ckks
def test_the_server_of_ckks_says_what_is_recorded(name: str) -> None:
    used = session(name)
    server, release = used.new_server(), used.scheme.ending == "release"
    for message in used.messages:
        if message["to"] == "server":
            server.receive(message["from"], unhex(message["bytes"]))
            continue
        if message["round"] != server.round:
            requests = server.advance()
        assert {requests[u].hex() for u in message["to"]} == {message["bytes"]}
    server.advance()
    assert sorted(server.result.survivors) == used.record["result"]["survivors"]
    assert server.caught == {}
    if release:  # within half a step of the grid
        (total,), (due,) = server.result.sum[""].tolist(), used.record["result"]["sum"][""]
        assert abs(total - due) <= server.result.error_bound[""] * len(server.result.survivors)
    else:
        with pytest.raises(LocalProtocolError, match="the clients keep this sum"):
            server.result.sum[""]


@each_ckks
def test_a_client_of_ckks_takes_what_is_recorded(name: str) -> None:
    """One that makes no key says what is recorded up to its ciphertexts, and keeps or releases the sum."""
    used, u = session(name), 300
    client = used.new_client(u)
    said = [client.start()]
    for message in used.messages:
        if message["from"] == "server" and u in message["to"]:
            said.append(client.receive(unhex(message["bytes"])))
    recorded = [unhex(m["bytes"]) for m in used.messages if m["from"] == u]
    assert said[:3] == recorded[:3]
    assert [len(message) for message in said[3:]] == [len(message) for message in recorded[3:]]
    if used.scheme.ending == "keep":
        assert client.result.sum[""].tolist() == used.record["result"]["sum"][""]
        assert sorted(client.result.survivors) == used.record["result"]["survivors"]
        return
    (released,) = i.message("decrypted", said[4])
    assert abs(int.from_bytes(released, "little", signed=True) - used.record["flooding"]["released"]) <= 1


@each_ckks
def test_a_session_of_ckks_is_computed_again_without_the_package(name: str) -> None:
    used, record = session(name), CKKS_SESSIONS[name]
    said: dict[str, dict[int, list[Any]]] = {}
    asked: dict[str, list[Any]] = {}
    for message in used.messages:
        kind = REQUESTED[message["round"]] if message["from"] == "server" else SAID[message["round"]]
        fields = i.message(kind, unhex(message["bytes"]))
        if message["from"] == "server":
            asked.setdefault(message["round"], fields)
        else:
            said.setdefault(message["round"], {})[message["from"]] = fields
    terms = ckks.Terms(*(unhex(record[x]) for x in ("offer", "task", "nonce")))
    numbers, ring, (keys,) = terms.numbers, ckks.OnePrime.of(terms.numbers), asked["share-keys"]
    plan = ckks.plan(numbers["clients"], numbers["vectors"], numbers["ending"])
    assert {x: numbers[x] for x in ("degree", "prime_bits", "scale")} == {
        x: plan[x] for x in ("degree", "prime_bits", "scale")
    }
    assert (ring.prime, plan["upload_bytes"]) == (record["prime"], len(asked["decrypt"][1]))
    assert (terms.parameters.hex(), terms.context.hex()) == (record["parameters"], record["context"])
    assert keys == said["advertise-keys"]
    sid, K = terms.sid(keys), unhex(record["K"])
    assert sid.hex() == record["sid"]
    public = {int(u): unhex(key) for u, key in record.get("roster", {}).get("keys", {}).items()}

    def signed(u: int, statement: bytes, signature: bytes) -> bool:
        return i.verifies(public[u], statement, signature) if public else signature == b""

    c_sk = {int(u): unhex(client["c_sk"]) for u, client in record["clients"].items()}
    for u, (c_pk, signature) in keys.items():
        assert i.x25519_public(c_sk[u]) == c_pk
        assert signed(u, terms.key_statement(u, c_pk), signature)
    maker, secret, sealed, signature = asked["input"]
    assert [secret, sealed, signature] == said["share-keys"][maker]
    assert signed(maker, ckks.secret_statement(sid, maker, secret), signature)
    for v in (v for v in keys if v != maker):
        key = ckks.seal_key(i.x25519(c_sk[v], keys[maker][0]), sid, maker, v)
        assert i.unseal(key, sealed[v], ckks.seal_data(sid, maker, v, secret)) == K
    z = i.unseal(ckks.secret_key(K, sid, maker), secret, sid)
    assert z == ring.key(1)
    (layout,) = plan["layouts"].values()
    for u, (residues, digest, signature) in said["input"].items():
        client = record["clients"][str(u)]
        assert digest == ckks.upload_digest(sid, u, bytes(residues))
        assert signed(u, ckks.upload_statement(sid, u, digest), signature)
        x = client["inputs"][""]
        slot = x[0] * layout["real"] if "real" in layout else x[0] + x[1] * layout["base"]
        assert slot == client["slot"]
        assert math.isclose(ring.decrypted(residues, 1), slot, abs_tol=1 / numbers["scale"])
    U3, total = asked["decrypt"]
    assert U3 == record["result"]["survivors"] == sorted(said["input"])
    assert total == ring.added([residues for residues, _, _ in said["input"].values()])
    slot = ring.decrypted(total, 1)
    if "real" in layout:
        assert [slot / layout["real"]] == pytest.approx(record["result"]["sum"][""], abs=1e-9)
        assert {fields[0] for fields in said["decrypt"].values()} == {
            b"",
            round(slot * 128).to_bytes(8, "little"),
        }
    else:
        base = layout["base"]
        assert [round(slot) % base, round(slot) // base] == record["result"]["sum"][""]
        assert {fields[0] for fields in said["decrypt"].values()} == {b""}
    if numbers["ending"] == "release":
        shown, seed = record["flooding"], ckks.flooding_seed(K, sid, bytes(total))
        (g,) = ckks.normal(seed, 1)
        assert (seed.hex(), g) == (shown["seed"], pytest.approx(shown["g"], abs=1e-9))
        assert ckks.released(slot, g, numbers["clients"], numbers) == shown["released"]
        assert gaussian(seed, 1).tolist() == pytest.approx([g], abs=1e-9)


# Decoys

DECOYS = load("decoys")["sessions"]["decoys"]


def test_the_server_of_decoys_says_what_is_recorded() -> None:
    used = session("decoys")
    server = used.new_server()
    for message in used.messages:
        if message["to"] == "server":
            server.receive(message["from"], unhex(message["bytes"]))
            continue
        if message["round"] != server.round:
            requests = server.advance()
        assert {requests[u].hex() for u in message["to"]} == {message["bytes"]}
    server.advance()
    assert sorted(server.result.survivors) == DECOYS["result"]["survivors"]


@pytest.mark.parametrize("u", [128, 300])
def test_a_client_of_decoys_takes_what_is_recorded(u: int) -> None:
    """One that makes no key says what is recorded but for its own selectors, which are fresh."""
    used, said = session("decoys"), []
    client = used.new_client(u)
    said.append(client.start())
    for message in used.messages:
        if message["from"] == "server" and u in message["to"]:
            said.append(client.receive(unhex(message["bytes"])))
    recorded = [unhex(m["bytes"]) for m in used.messages if m["from"] == u]
    assert said[:3] == recorded[:3]
    ours, due = (i.message("candidates", each[3]) for each in (said, recorded))
    assert ours[0] == due[0]
    assert [len(part) for part in ours] == [len(part) for part in due]
    assert said[4] == recorded[4]
    assert {name: x.tolist() for name, x in client.result.sum.items()} == DECOYS["result"]["sum"]
    assert sorted(client.result.survivors) == DECOYS["result"]["survivors"]


def test_a_session_of_decoys_is_computed_again_without_the_package() -> None:
    """But for what the rounds of CKKS have in common with it, which is computed there."""
    used, vectors = session("decoys"), DECOYS["vectors"]
    terms = ckks.Terms(*(unhex(DECOYS[x]) for x in ("offer", "task", "nonce")))
    numbers, sid = terms.numbers, unhex(DECOYS["sid"])
    ring, K = decoys.Ring.of(numbers), numbers["candidates"]
    taken = decoys.plan(numbers["clients"], K, vectors)
    assert taken == {name: numbers[name] for name in taken}
    assert (ring.primes, terms.parameters.hex()) == (DECOYS["primes"], DECOYS["parameters"])
    public = {int(u): unhex(key) for u, key in DECOYS["roster"]["keys"].items()}
    products = []
    for message in used.messages:
        if (message["round"], message["to"]) != ("input", "server"):
            continue
        u, client = message["from"], DECOYS["clients"][str(message["from"])]
        packed, selectors, digest, signature = i.message("candidates", unhex(message["bytes"]))
        assert digest == decoys.upload_digest(sid, u, packed, selectors)
        assert i.verifies(public[u], decoys.upload_statement(sid, u, digest), signature)
        size = len(packed) // K
        each = [packed[j * size : (j + 1) * size] for j in range(K)]
        others = [decoys.written(vectors, decoy) for decoy in client["decoys"]]
        others.insert(client["true"], decoys.written(vectors, client["inputs"]))
        assert each == others
        chosen = ring.unpack(selectors, K)
        assert [ring.decrypted(c)[0] for c in chosen] == [int(j == client["true"]) for j in range(K)]
        keys = [unhex(key) for key in client["order"]]
        assert (keys[0] < keys[1]) == (client["true"] == 0)
        products += [ring.times(c, decoys.read(vectors, x)) for c, x in zip(chosen, each, strict=True)]
    (total,) = {m["bytes"] for m in used.messages if m["round"] == "decrypt" and m["from"] == "server"}
    survivors, residues = i.message("decrypt-request", unhex(total))
    assert survivors == DECOYS["result"]["survivors"]
    assert ring.pack([ring.added(products)]) == residues
    t, due = numbers["modulus"], DECOYS["result"]["sum"]
    assert ring.decrypted(ring.unpack(residues, 1)[0])[:3] == [x % t for x in (*due[""], *due["count"])]


# Split

SPLIT_SESSIONS = load("split")["sessions"]
each_split = pytest.mark.parametrize("name", SPLIT_SESSIONS)


@each_split
def test_the_recorded_chance_gives_the_recorded_session_of_split(name: str) -> None:
    """Of clients, relays and server."""
    assert session(name).played_again() == (session(name).messages, SPLIT_SESSIONS[name]["result"])


@each_split
def test_a_session_of_split_is_computed_again_without_the_package(name: str) -> None:
    record = SPLIT_SESSIONS[name]
    whole = split.Conversation(record)
    said = [
        {"round": round, "from": sender, "to": to, "bytes": data.hex()} for round, sender, to, data in whole
    ]
    assert said == record["messages"]
    assert (whole.sid.hex(), whole.terms.parameters.hex()) == (record["sid"], record["parameters"])
    assert whole.terms.context.hex() == record["context"]
    assert whole.codes() == record["result"]["codes"]
    assert record["result"]["survivors"] == whole.U3
    weights = whole.codes().get("weight", [len(whole.U3)])
    most = 9 if "weight" in record["vectors"] else 1
    for vector, spec, b in whole.terms.vectors:
        assert {"length": 1, **record["vectors"][vector]} == {**spec, "ring_bits": b}
        codes = whole.codes()[vector]
        total, mean, bound = i.decode(spec, codes, len(whole.U3), weights[0], most)
        shown = record["result"]
        assert (shown["sum"][vector], shown["mean"][vector]) == (total, mean)
        assert shown["error_bound"][vector] == bound
    for u, client in ((u, record["clients"][str(u)]) for u in whole.U3):
        for vector, spec, b in whole.terms.vectors:
            key = i.kdf("rounding", unhex(client["rounding_seed"]), whole.terms.context, vector)
            weight = Fraction(client["inputs"].get("weight", [most])[0], most)
            codes, _, _ = i.encode(spec, client["inputs"][vector], b, key, weight)
            assert codes == client["codes"][vector]
        if whole.terms.active:
            public = unhex(record["roster"]["keys"][str(u)])
            c_pk, sealed, signature = whole.shares[u]
            digests = split.digests_of(sealed)
            statement = split.shares_statement(whole.terms, whole.sid, u, c_pk, digests)
            assert i.verifies(public, statement, signature)


@pytest.mark.parametrize("key", load("signatures")["small_order"])
def test_a_roster_with_a_key_of_small_order_is_refused(key: str) -> None:
    p = 2**255 - 19
    y = int.from_bytes(unhex(key), "little") % 2**255 % p
    d = -121665 * pow(121666, -1, p) % p
    # The order divides 8: y is 0 or 1 or -1, or 8 times the point is the neutral one, i.e. d y^4 + 2 y^2 = 1.
    assert y in (0, 1, p - 1) or (d * y**4 + 2 * y**2 - 1) % p == 0
    with pytest.raises(LocalProtocolError, match="small order"):
        Roster(bytes(32), {0: unhex(key)})
