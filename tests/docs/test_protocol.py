"""docs/protocol.md says what the code does: its blocks are current, its tables complete, its examples right.

The examples are recomputed by what stands here, written from the page alone, and not by the package.
"""

from __future__ import annotations

import ast
import hashlib
import math
import re
import struct
from collections.abc import Callable, Collection, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secagg import (
    Bounded,
    Counts,
    Masking,
    RemoteProtocolError,
    TooFewClients,
    Weight,
    throwaway_identities,
)
from secagg.crypto import _SMALL_ORDER_Y, PROTOCOL_VERSION, OwnTag, Tag
from secagg.masking.messages import traffic
from tests.docs import protocol_tables as generated
from tests.secagg.helpers import hkdf_sha256
from transport.frames import TRANSPORT_VERSION, wire_bytes

ROOT = Path(__file__).parents[2]
PAGE, CKKS_PAGE = generated.PAGE.read_text(), generated.CKKS_PAGE.read_text()
BOTH = PAGE + CKKS_PAGE
P = 2**256 + 297


# The page, taken apart.


def section(number: str, page: str = PAGE) -> str:
    """The text of one section, its own subsections included."""
    level = "###" if "." in number else "##"
    (text,) = re.findall(
        rf"^{level} {re.escape(number)}\.? .*?(?=^##{'#?' if level == '###' else ''} |\Z)", page, re.M | re.S
    )
    return text


def table(text: str, *header: str) -> list[list[str]]:
    """The rows of the one table there with this header."""
    rows: list[list[str]] = []
    found = 0
    inside = False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")] if line.startswith("|") else None
        if cells is None:
            inside = False
        elif inside and not set(line) <= set("|- "):
            rows.append([cell.strip().removesuffix("|").strip() for cell in re.split(r"\|", line)[1:-1]])
        elif tuple(cells) == header:
            inside, found = True, found + 1
    assert found == 1, header
    return rows


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def shown(name: str) -> str:
    """A value of the example session, as section 13 shows it."""
    (text,) = re.findall(
        rf"^{re.escape(name)} +((?:\S.*)(?:\n {{20,}}\S.*)*)$", re.sub(r"```", "", section("13")), re.M
    )
    return re.sub(r"\s*\n\s+", "", text)


# The primitives, as the page has them.


def transcript(tag: str, parts: Sequence[bytes | int | str]) -> bytes:
    encoded = [b"secagg/1/" + tag.encode()]
    for part in parts:
        if isinstance(part, bytes):
            encoded.append(b"b" + part)
        else:
            encoded.append(b"s" + part.encode() if isinstance(part, str) else b"i" + part.to_bytes(8, "big"))
    return b"".join(len(p).to_bytes(8, "big") + p for p in encoded)


def digest(tag: str, *parts: bytes | int | str) -> bytes:
    return hashlib.sha256(transcript(tag, parts)).digest()


def msgpack(value: Any) -> bytes:
    match value:
        case None | False | True:
            return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
        case int():
            if value < 2**7:
                return bytes([value])
            size = next(i for i in range(4) if value < 2 ** (8 * 2**i))
            return bytes([0xCC + size]) + value.to_bytes(2**size, "big")
        case float():
            return b"\xcb" + struct.pack(">d", value)
        case str():
            return _header(len(value.encode()), (0xA0, 32), (0xD9, 0xDA, 0xDB)) + value.encode()
        case bytes():
            return _header(len(value), None, (0xC4, 0xC5, 0xC6)) + value
        case list():
            return _header(len(value), (0x90, 16), (None, 0xDC, 0xDD)) + b"".join(map(msgpack, value))
        case dict():
            pairs = b"".join(msgpack(k) + msgpack(v) for k, v in value.items())
            return _header(len(value), (0x80, 16), (None, 0xDE, 0xDF)) + pairs
    raise TypeError(value)


def _header(length: int, short: tuple[int, int] | None, long: tuple[int | None, int, int]) -> bytes:
    if short is not None and length < short[1]:
        return bytes([short[0] + length])
    size = next(i for i, kind in enumerate(long) if kind is not None and length < 2 ** (8 * 2**i))
    return bytes([long[size] or 0]) + length.to_bytes(2**size, "big")


def words(prg: str, seed: bytes, count: int, size: int) -> list[int]:
    ciphers: dict[str, Cipher[Any]] = {
        "aes-128-ctr": Cipher(algorithms.AES(seed[:16]), modes.CTR(bytes(16))),
        "chacha20": Cipher(algorithms.ChaCha20(seed, bytes(16)), mode=None),
    }
    stream = ciphers[prg].encryptor().update(bytes(count * size))
    return [int.from_bytes(stream[size * j : size * (j + 1)], "little") for j in range(count)]


def packed(values: Sequence[int], b: int) -> bytes:
    bits = [value >> i & 1 for value in values for i in range(b)]
    size = -(-len(bits) // 8)
    return bytes(sum(bit << i for i, bit in enumerate(bits[8 * k : 8 * k + 8])) for k in range(size))


def share(secret: bytes, coefficients: Sequence[int], v: int) -> bytes:
    terms = [int.from_bytes(secret, "big"), *coefficients]
    return (sum(a * (v + 1) ** i for i, a in enumerate(terms)) % P).to_bytes(33, "big")


# Blocks and tables.


PAGES = pytest.mark.parametrize("page", generated.BLOCKS, ids=lambda page: page.name)


@pytest.mark.parametrize(
    ("page", "name"), [(page, name) for page, blocks in generated.BLOCKS.items() for name in blocks]
)
def test_every_block_is_what_the_code_has_now(page: Path, name: str) -> None:
    (block,) = re.findall(
        rf"<!-- begin {name} -->\n(.*?)\n<!-- end {name} -->", page.read_text(encoding="utf-8"), re.S
    )
    assert block == generated.BLOCKS[page][name](), "run python -m tests.docs.protocol_tables"


@PAGES
def test_every_mark_on_a_page_belongs_to_a_block(page: Path) -> None:
    assert (
        set(re.findall(r"<!-- begin (\w+) -->", page.read_text(encoding="utf-8")))
        == generated.BLOCKS[page].keys()
    )


def letters(text: str) -> list[str]:
    return [name for row in table(text, "letter", "meaning") for name in row[0].split(", ")]


def test_a_letter_has_one_meaning_on_both_pages() -> None:
    explained = letters(section("2.1")) + letters(section("1.1", CKKS_PAGE))
    assert len(explained) == len(set(explained)) > 30


def test_the_fields_that_are_explained_are_those_there_are() -> None:
    both = (section("5.1"), section("2.1", CKKS_PAGE))
    rows = [
        row for text in both for row in table(text, "object", "field", "type", "default of secagg", "meaning")
    ]
    assert sum(row[1] not in ("`scheme`", "`kind`") for row in rows) == len(generated.FIELDS)


@pytest.mark.parametrize("scheme", generated.CLIENTS)
def test_the_states_of_the_diagram_are_those_that_clients_go_through(scheme: str) -> None:
    sessions = [session for name, session in generated.played().items() if name.startswith(scheme)]
    assert len(sessions) == 2
    assert {edge for session in sessions for edge in session.steps} == set(generated.transitions(scheme))


@pytest.mark.parametrize("ckks", [False, True])
def test_every_round_and_message_is_described_where_the_session_is(ckks: bool) -> None:
    text = section("5", CKKS_PAGE) if ckks else section("8")
    for kind in generated.message_kinds(ckks=ckks):
        assert f"`{generated.tag_of(kind)}`" in text
    for name, session in generated.played().items():
        if name.startswith("ckks") == ckks:
            assert all(round in text for round, _, _ in session.rounds)


def test_every_frame_is_described_in_section_4() -> None:
    text = section("4")
    for kind in generated.Frame.__subclasses__():
        assert f"`{generated.tag_of(kind)}`" in text


# Every tag.


def tag_rows() -> dict[str, list[str]]:
    both = (section("2.4"), section("1.3", CKKS_PAGE))
    rows = [
        row for text in both for row in table(text, "tag", "made by", "secret", "salt", "parts", "what for")
    ]
    return {code(row[0])[0]: row for row in rows}


def test_the_table_of_tags_has_every_tag_once_and_no_other() -> None:
    assert sorted(tag_rows()) == sorted(tag.value.decode() for tag in Tag)
    assert len(re.findall(r"^\| `[\w-]+` \| (?:digest|kdf|transcript) \|", BOTH, re.M)) == len(Tag)


def test_the_tags_of_one_machine_are_named_and_are_no_others() -> None:
    (named,) = re.findall(r"has three more, (.*?), for what stays on one machine", section("2.4"))
    assert sorted(code(named)) == sorted(tag.value.decode() for tag in OwnTag)
    assert not set(code(named)) & tag_rows().keys()


ELSEWHERE = {Tag.ROUNDING, Tag.TRAINING, Tag.ROSTER, Tag.CKKS_SECRET_KEY, Tag.CKKS_SUM, Tag.CKKS_FLOODING}
"""Tags with a test of their own: below, and the session in test_protocol_ckks.py."""


@pytest.mark.parametrize("tag", [tag for tag in Tag if tag not in ELSEWHERE])
def test_a_tag_gives_what_the_package_makes(tag: Tag) -> None:
    example = generated.example()
    _, made_by, secret, salt, parts, _ = tag_rows()[tag.value.decode()]
    text = transcript(tag.value.decode(), [example.values[name] for name in code(parts)])
    if made_by == "kdf":
        due = hkdf_sha256(example.values[code(secret)[0]], example.values[code(salt)[0]], text, 32)
    else:
        due = hashlib.sha256(text).digest() if made_by == "digest" else text
    assert example.made[tag] == due


def test_the_two_tags_that_are_not_on_the_wire_give_what_the_package_makes() -> None:
    from secagg.crypto import kdf

    _, _, secret, salt, parts, _ = tag_rows()["rounding"]
    assert (code(secret), code(salt), code(parts)) == (["seed"], ["context"], ["name"])
    seed, context = bytes(range(32)), digest("context", b"task")
    due = hkdf_sha256(seed, context, transcript("rounding", ["w"]), 32)
    assert kdf(Tag.ROUNDING, seed, context, "w") == due
    roster, _ = throwaway_identities([3, 300])
    listed = b"".join(u.to_bytes(4, "big") + key for u, key in sorted(roster.keys.items()))
    assert roster.digest == digest("roster", listed)


def _arguments(text: str) -> list[str]:
    """Of a call that begins the text, split at its own commas."""
    arguments, depth = [""], 0
    for letter in text[text.index("(") + 1 :]:
        depth += (letter == "(") - (letter == ")")
        if depth < 0:
            break
        if letter == "," and depth == 0:
            arguments.append("")
        else:
            arguments[-1] += letter
    return [argument.strip(" `") for argument in arguments]


def test_a_tag_in_running_text_has_the_parts_of_the_table() -> None:
    rows, calls = tag_rows(), list(re.finditer(r"\b(digest|kdf|transcript)\(`", BOTH))
    said = set()
    for call in calls:
        tag, *arguments = _arguments(BOTH[call.start() :])
        _, made_by, _, _, parts, _ = rows[tag]
        assert made_by == call[1] or tag == "share-data"  # shown as a transcript in section 2.3
        said.add(tag)
        if "…" not in arguments:
            assert len(arguments) == len(code(parts)) + 2 * (made_by == "kdf"), tag
    assert said == rows.keys() - {"parameters", "roster"}


# Every check.


def _text(node: ast.expr) -> Iterator[str]:
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr():
            yield "".join(str(v.value) if isinstance(v, ast.Constant) else "…" for v in node.values)
        case ast.IfExp():
            yield from _text(node.body)
            yield from _text(node.orelse)


def texts_in_code() -> set[str]:
    """What a RemoteProtocolError, or the reason of an end, can say."""
    found = set()
    for path in [*(ROOT / "secagg").rglob("*.py"), *(ROOT / "transport").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Name(id="RemoteProtocolError"), args=[text, *_]):
                    found |= set(_text(text))
                case ast.Call(func=ast.Attribute(attr="lose"), args=[_, text]):
                    found |= set(_text(text))
    return found


def texts_on_page() -> set[str]:
    found = set()
    header: list[str] = []
    for line in BOTH.splitlines():
        if not line.startswith("|"):
            header = []
            continue
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        header = header or cells
        found |= {
            text for name, cell in zip(header, cells, strict=True) if "text" in name for text in code(cell)
        }
    return found


def test_the_pages_list_every_check_with_its_text_and_no_other() -> None:
    too_few = {text for text in texts_on_page() if "no sum, nothing revealed" in text}
    assert texts_on_page() - too_few == texts_in_code()
    of_shares = [TooFewClients(2, 3, "unmasking", 4, unusable) for unusable in ((), (5,))]
    for error in (TooFewClients(2, 3, "join"), *of_shares):
        said = re.sub(r"\b(\d+|join|unmasking)\b", "…", str(error))
        assert said in too_few
    assert len(too_few) == 3


def test_what_a_server_refuses_begins_with_client_and_round_but_for_who_is_not_expected() -> None:
    any_message, *_ = table(section("11.3"), "message", "check", "text")
    server = Masking.for_cohort(3, Counts(length=1, maximum=1)).server(range(3))
    with pytest.raises(RemoteProtocolError) as caught:
        server.receive(7, b"")
    assert re.sub(r"7|join", "…", str(caught.value)) == code(any_message[2])[0]
    with pytest.raises(RemoteProtocolError, match=r"^client 1, join: not a join message: "):
        server.receive(1, b"")


# Sections 1 to 3.


def numbers_of(page: Path) -> list[str]:
    return re.findall(r"^##+ ([\d.]+)", page.read_text(encoding="utf-8"), re.M)


@PAGES
def test_sections_are_numbered_in_order_and_those_referred_to_exist(page: Path) -> None:
    numbers = numbers_of(page)
    main = [int(number.rstrip(".")) for number in numbers if number.endswith(".")]
    assert main == list(range(1, len(main) + 1))
    for chapter in main:
        below = [
            number for number in numbers if number.startswith(f"{chapter}.") and not number.endswith(".")
        ]
        assert below == [f"{chapter}.{i}" for i in range(1, len(below) + 1)]
    text = page.read_text(encoding="utf-8")
    of_main = r"main page(?:, section|'s section| \(section) (\d+(?:\.\d+)?)"
    assert set(re.findall(of_main, text)) <= {number.rstrip(".") for number in numbers_of(generated.PAGE)}
    own = re.findall(r"sections? (\d+(?:\.\d+)?)", re.sub(of_main, "", text))
    assert set(own) <= {number.rstrip(".") for number in numbers}


def test_the_versions_are_those_of_the_code() -> None:
    protocol, transport = PROTOCOL_VERSION, TRANSPORT_VERSION
    assert f"Protocol version {protocol}, transport version {transport}." in PAGE
    assert f"| transport, {transport} |" in section("1")
    assert f"| protocol, {protocol} |" in section("1")
    assert f'E("secagg/{protocol}/" ‖ tag)' in section("2.3")
    assert f"`join`: `version` = {protocol}" in section("8.2")
    assert f"| `join` | version is {protocol} |" in section("11.3")


# Type -> its short form, and the first number that needs each longer one: prefix, bytes of the number.
FORMS: dict[str, tuple[Callable[[int], Any], int | None, list[tuple[int, str, int]]]] = {
    "int": (lambda n: n, 0x00, [(2**7, "cc", 1), (2**8, "cd", 2), (2**16, "ce", 4), (2**32, "cf", 8)]),
    "str": (lambda n: "x" * n, 0xA0, [(2**5, "d9", 1), (2**8, "da", 2), (2**16, "db", 4)]),
    "bin": (lambda n: b"x" * n, None, [(0, "c4", 1), (2**8, "c5", 2), (2**16, "c6", 4)]),
    "array": (lambda n: [0] * n, 0x90, [(2**4, "dc", 2), (2**16, "dd", 4)]),
    "map": (lambda n: dict.fromkeys(range(n), 0), 0x80, [(2**4, "de", 2), (2**16, "df", 4)]),
}


@pytest.mark.parametrize("kind", FORMS)
def test_the_forms_of_msgpack_are_those_the_package_writes(kind: str) -> None:
    make, short, long = FORMS[kind]
    text = dict(table(section("2.2"), "type", "bytes"))[kind]
    if short is not None:
        most = long[0][0] - 1
        assert msgspec.msgpack.encode(make(most))[0] == short + most
        assert kind == "int" or f"`{short:02x}`" in text
        assert re.search(rf"(to |\.\.){most}\b", text)
    for number, prefix, size in long:
        written = msgspec.msgpack.encode(make(number))
        assert written.startswith(bytes.fromhex(prefix) + number.to_bytes(size, "big"))
        assert f"`{prefix}` + {size}" in text


def test_the_other_types_of_msgpack() -> None:
    rows = dict(table(section("2.2"), "type", "bytes"))
    assert rows.keys() == FORMS.keys() | {"float", "nil, bool"}
    assert [msgspec.msgpack.encode(value).hex() for value in (None, False, True)] == code(rows["nil, bool"])
    assert msgspec.msgpack.encode(1.0) == bytes.fromhex(code(rows["float"])[0]) + struct.pack(">d", 1)


def test_the_example_of_a_transcript() -> None:
    text = section("2.3")
    due = transcript("share-data", [bytes(4), 1, 300])
    (block,) = re.findall(r"```text\n(.*?)```", text, re.S)
    assert bytes.fromhex(block) == due
    assert hashlib.sha256(due).hexdigest() in text


def test_the_small_order_keys() -> None:
    y, other = (int(value, 16) for value in re.findall(r"`(0x\w{64})`", section("3")))
    assert {0, 1, 2**255 - 20, y, other} == _SMALL_ORDER_Y


def test_the_example_of_shares() -> None:
    shares = ", ".join(str(int.from_bytes(share(b"\5", (2, 3), v), "big")) for v in (0, 1, 2))
    assert f"{shares} ".replace(", 38 ", ", 38 and 272410.") in section("3")
    assert int.from_bytes(share(b"\5", (2, 3), 300), "big") == 272410


def test_the_examples_of_streams() -> None:
    header = ("`prg`", "first 8 bytes", "word 0 of 32 bits", "word 0 of 64 bits")
    for prg, first, word, wide in table(section("3"), *header):
        drawn = words(code(prg)[0], bytes(range(32)), 2, 4)
        assert [f"{drawn[0]:#010x}"] == code(word)
        assert [f"{words(code(prg)[0], bytes(range(32)), 1, 8)[0]:#018x}"] == code(wide)
        assert [b"".join(w.to_bytes(4, "little") for w in drawn).hex()] == code(first)


# Section 4.1.


def test_the_fingerprint_of_the_example() -> None:
    (file,) = re.findall(r"`server.pub`\n```text\n(.*?)```", section("4.1"), re.S)
    said = dict(re.findall(r'^(\w+) = "(.*)"$', file, re.M))
    fields = [
        b"secagg/1/key-fingerprint",
        b"server",
        b"",
        said["curve"].encode(),
        bytes.fromhex(said["ed25519"]),
    ]
    due = hashlib.sha256(b"\0".join(fields)).hexdigest()[:32]
    assert said["fingerprint"] == " ".join(re.findall("....", due))


def test_the_roster_verifies_and_has_its_digest() -> None:
    text = section("4.1")
    (roster,) = re.findall(r"`roster`\n```text\n(.*?)```", text, re.S)
    body, _, signature = roster.rpartition("signature ")
    signed = b"secagg/1/roster-signature\0" + body.encode()
    signer = bytes.fromhex(re.findall("^signer (.*)$", roster, re.M)[0])
    Ed25519PublicKey.from_public_bytes(signer).verify(bytes.fromhex(signature), signed)
    assert hashlib.sha256(signed).hexdigest() in text.replace(roster, "")
    assert Ed25519PrivateKey.from_private_bytes(b"\x69" * 32).public_key().public_bytes_raw() == signer


# Section 5.


def test_the_offer_decodes_to_what_the_page_says_and_encodes_to_the_same_bytes() -> None:
    text = section("5.1")
    (block,) = re.findall(r"<!-- begin offer_example -->\n```text\n(.*?)```", text, re.S)
    offer = bytes.fromhex(block)
    specs = {
        "": {"bits": 8, "bound": 1.0, "clip": None, "kind": "bounded", "length": 5},
        "weight": {"kind": "weight", "maximum": 10},
    }
    numbers = {"batch": 0, "clients": 4, "corrupt": 1, "degree": 3, "dropout": 1, "m_min": 3, "threshold": 3}
    words = {"adversary": "semi-honest", "prg": "aes-128-ctr", "roster": b"", "scheme": "masking"}
    object = {**numbers, **words, "small_cohort": False, "vectors": specs}
    assert msgpack({name: object[name] for name in sorted(object)}) == offer
    assert digest("parameters", offer).hex() in text


def _fact(a: int) -> float:
    return math.lgamma(a + 1)


def _choose(a: int, c: int) -> float:
    return _fact(a) - _fact(c) - _fact(a - c)


def _above(n: int, marked: int, drawn: int, x: int) -> float:
    j = x + 1
    if j > min(marked, drawn):
        return -math.inf
    if j <= (drawn + 1) * (marked + 1) // (n + 2):
        return 0.0
    first = _choose(marked, j) + _choose(n - marked, drawn - j) - _choose(n, drawn)
    total = term = 1.0
    while j < min(marked, drawn) and term > 1e-18 * total:
        term *= (marked - j) * (drawn - j) / ((j + 1) * (n - marked - drawn + j + 1))
        total, j = total + term, j + 1
    return first + math.log(total)


def _cut(n: int, bad: int, k: int) -> float:
    if k > bad:
        return -math.inf
    places = math.log(n) + math.log(n - k - 1) - math.log(2)
    return places + _fact(bad) + _fact(n - k) - _fact(n) - _fact(bad - k)


def sparsest(n: int, A: int, d: int, active: bool) -> tuple[int, int] | None:
    if A + (2 if active else 1) * d > 0.9 * n + 1e-9:
        return None
    most = least = 0
    rarely, seldom = -((128 if active else 40) + 1) * math.log(2), -20 * math.log(2) - math.log(n)
    for k in range(2, n - 1, 2):
        while _above(n, A, k, most) > rarely - math.log(n):
            most += 1
        while least < k and _above(n, d, k, k - least - 1) < seldom:
            least += 1
        against = math.ceil((most + k - 1.25) / 2) if active else most
        if against < least and _cut(n, A + d, k) < rarely:
            return k, max(against + 1, 2)
    return None


def numbers_due(n: int, active: bool) -> tuple[int, int, int, int, int]:
    """A, d, k, t, m_min by section 5.2."""
    A = 0 if n <= 2 else max(1, math.floor((0.1 + 1e-14) * n))
    Q = max((n + A) // 2 + 1, A + 2) if active else max(n // 2 + 1, A + 2 if A else 0)
    d = max(0, min(math.floor((0.3 + 1e-14) * n), n - Q))
    while d > 0 and A + (2 if active else 1) * d > 0.9 * n + 1e-9:
        d -= 1
    sparse = sparsest(n, A, d, active) if n >= 50 else None
    if sparse is not None and 2 * sparse[0] < n:
        return A, d, *sparse, max(Q, n - d)
    t = max(Q, 2 * n // 3 + 1) if active and 2 * n // 3 + 1 <= n - d else Q
    return A, d, n - 1, t, t


@pytest.mark.parametrize("adversary", ["semi-honest", "active"])
def test_the_numbers_a_client_expects_follow_from_the_page(adversary: str) -> None:
    rows = table(section("5.2"), "adversary", "n", "A", "d", "k", "t", "m_min", "graph")
    listed = {int(row[1]): tuple(map(int, row[2:7])) for row in rows if row[0] == adversary}
    assert len(listed) > 5
    for n, numbers in listed.items():
        assert numbers_due(n, adversary == "active") == numbers
    roster, _ = throwaway_identities([0])
    for n in [*range(3, 70), 91]:
        scheme = Masking.for_cohort(
            n,
            Counts(length=1, maximum=1),
            adversary=adversary,
            roster=roster if adversary == "active" else None,
        )
        made = (scheme.corrupt, scheme.dropout, scheme.degree, scheme.threshold, scheme.m_min)
        assert numbers_due(n, adversary == "active") == made


# Section 6.


def test_the_examples_of_codes() -> None:
    r, L, b = 2.0, 7, 6
    assert b == (3 * (2**4 - 1)).bit_length()
    for x, codes, clipped in table(section("6"), "x", "codes", "clipped"):
        values = [float(Fraction(value)) for value in x.split()]
        z = [round(min(r, max(-r, value)) * (L / r)) for value in values]
        assert " ".join(str(value % 2**b) for value in z) == codes
        assert clipped == str(sum(abs(value) > r for value in values))
        spec = Bounded(length=4, bound=r, bits=4)
        scheme = Masking.for_cohort(3, {"": spec})
        encoded, clipping = generated.encode_inputs(scheme, values, b"", bytes(32))
        assert " ".join(map(str, encoded[""])) == codes
        assert clipping[""].coordinates == int(clipped)


def test_the_examples_of_packing() -> None:
    rows = table(section("6"), "b", "values", "packed")
    assert len(rows) == 4
    for b, values, due in rows:
        assert packed([int(value) for value in values.split()], int(b)).hex() == code(due)[0]


# Section 7.


def test_the_example_of_a_graph() -> None:
    lines = re.findall(r"^(\S+(?: \d+)?) {2,}(.*)$", section("7.2"), re.M)
    block = dict(lines)
    n, k, U1 = 8, 4, [0, 1, 2, 3, 5, 8, 300]
    seed = digest("graph", bytes(32))
    assert block["seed"] == seed.hex()
    drawn = words("aes-128-ctr", seed, n, 8)
    assert block["words"] == " ".join(f"{word:016x}" for word in drawn)
    order = sorted(range(n), key=lambda i: drawn[i])
    assert block["order"] == " ".join(map(str, order))
    ring = [U1[i] if i < len(U1) else None for i in order]
    assert block["ring"] == " ".join("empty" if v is None else str(v) for v in ring)
    for p, u in enumerate(ring):
        if u is not None:
            beside = {ring[(p + s) % n] for s in range(-k // 2, k // 2 + 1)} - {None, u}
            assert block[f"of {u}"] == " ".join(map(str, sorted(beside)))


# Section 12.


def _size_of_id(v: int) -> int:
    return 1 if v < 2**7 else 2 if v < 2**8 else 3 if v < 2**16 else 5


def _header_size(count: int) -> int:
    return 1 if count < 16 else 3 if count < 2**16 else 5


def _bytes_size(length: int) -> int:
    return length + (2 if length < 2**8 else 3 if length < 2**16 else 5)


def sizes_by_page(
    active: bool,
    u: int,
    task: int,
    sets: Sequence[Collection[int]],
    holders: Collection[int],
    packed: list[int],
) -> dict[str, int]:
    U1, U2, U3, U4 = (frozenset(members) for members in sets)
    H1 = frozenset(holders)

    def ids(U: frozenset[int]) -> int:
        return _header_size(len(U)) + sum(map(_size_of_id, U))

    names = {
        **{"U1": U1, "U2": U2, "U3": U3, "U4": U4, "H1": H1, "H2": H1 & U2, "u": u},
        **{"of": H1 if active else frozenset(), "task": task, "vectors": len(packed)},
        "packed": sum(map(_bytes_size, packed)),
        **{"sig": 66 if active else 2, "pair": 69 if active else 1, "com": 34 if active else 2},
        **{"ids": ids, "map": lambda U, each: ids(U) + len(U) * each},
        **{"head": _header_size, "bin": _bytes_size},
    }
    rows = table(section("12"), "message", "bytes")
    formulas = {code(message)[0]: formula for message, formula in rows}
    return {name: eval(formula, {**names, "name": 2 + len(name)}) for name, formula in formulas.items()}  # noqa: S307


SETS: list[tuple[list[int], ...]] = [
    (list(range(5)), list(range(5)), [0, 1, 2], [0, 2]),
    ([0, 127, 128, 255, 256, 65535, 65536], [0, 128, 255, 256, 65536], [0, 128, 65536], [0, 65536]),
    (list(range(40)), list(range(20)), list(range(3)), list(range(2))),
]


@pytest.mark.parametrize("active", [False, True])
@pytest.mark.parametrize("sets", SETS)
@pytest.mark.parametrize("task", [0, 16, 300, 70000])
def test_the_sizes_of_messages_are_those_of_the_code(
    sets: tuple[list[int], ...], active: bool, task: int
) -> None:
    specs = {"a": Bounded(length=3, bound=1.0), "b": Counts(length=1000, maximum=9), "c": Weight(maximum=3)}
    n = len(sets[0])
    scheme = Masking.for_cohort(n, specs)
    packed_sizes = [-(-spec.length * scheme.ring_bits()[name] // 8) for name, spec in specs.items()]
    for holders in (sets[0], sets[0][::2]):
        due = sizes_by_page(active, 0, task, sets, holders, packed_sizes)
        U1, U2, U3, U4 = sets
        made = traffic(scheme, task, 0, U1, U2, U3, U4 if active else None, holders)
        played = generated.played()["masking, active" if active else "masking, semi-honest"]
        for round, opened_by, answered_by in played.rounds:
            assert made[round] == (due[answered_by], due[opened_by] if opened_by else 0)


def test_the_sizes_table_has_every_message_of_masking() -> None:
    listed = [code(row[0])[0] for row in table(section("12"), "message", "bytes")]
    kinds = {generated.tag_of(kind) for kind in generated.message_kinds(ckks=False)}
    assert sorted(listed) == sorted(kinds - {"input"})


def test_the_sizes_in_frames() -> None:
    text, i = section("12"), _size_of_id
    assert "37 + id(j) + id(size) + size" in text
    assert "17 + id(j) + id(offset)" in text
    assert "16 + id(j) + id(offset)" in text
    for size, number in [(41, 0), (1_000_000, 3), (262_144, 1), (262_145, 200), (70_000_000, 2)]:
        offsets = range(0, size, 262_144) if size > 262_144 else ()
        there = 37 + i(number) + i(size) + size + sum(17 + i(number) + i(o) for o in offsets)
        back = sum(16 + i(number) + i(o) for o in offsets)
        assert wire_bytes(size, number) == (there, back)
    assert wire_bytes(41, 0) == (80, 0)
    assert "80 bytes there and 0 back" in text
    assert "{:,} there and {} back".format(*wire_bytes(1_000_000, 3)) in text


# Section 13: the example session, by the page's own rules.


def _agree(secret: bytes, other: bytes) -> bytes:
    public = X25519PrivateKey.from_private_bytes(other).public_key().public_bytes_raw()
    return X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(public))


def _kdf(tag: str, secret: bytes, sid: bytes, *parts: bytes | int | str) -> bytes:
    return hkdf_sha256(secret, sid, transcript(tag, parts), 32)


IDS = (0, 1, 2, 300)


def test_the_keys_of_the_example_session() -> None:
    c_sk, s_sk = ([bytes([first + i]) * 32 for i in range(4)] for first in (0x10, 0x20))
    public = [
        [X25519PrivateKey.from_private_bytes(sk).public_key().public_bytes_raw() for sk in keys]
        for keys in (c_sk, s_sk)
    ]
    assert (shown("c_pk of 0"), shown("s_pk of 0")) == (public[0][0].hex(), public[1][0].hex())
    parameters = digest("parameters", bytes.fromhex(shown("offer")))
    context = digest("context", b"task")
    assert (shown("parameters"), shown("context")) == (parameters.hex(), context.hex())
    roster = bytes.fromhex(re.findall(r"digest of this roster: `(\w+)`", section("4.1"))[0])
    statement = [parameters, roster, context, b"\x72" * 32, 0, public[0][0], public[1][0]]
    signer = Ed25519PrivateKey.from_private_bytes(b"\x60" * 32)
    assert shown("sigma of 0") == signer.sign(transcript("sign-keys", statement)).hex()
    keys = b"".join(v.to_bytes(4, "big") + public[0][i] + public[1][i] for i, v in enumerate(IDS))
    sid = digest("session", b"\x72" * 32, parameters, context, keys)
    assert shown("sid") == sid.hex()
    assert shown("c_uv") == _agree(c_sk[0], c_sk[3]).hex()
    assert shown("s_uv") == _agree(s_sk[0], s_sk[3]).hex()


def test_the_shares_of_the_example_session() -> None:
    sid, s_sk, b = bytes.fromhex(shown("sid")), b"\x20" * 32, b"\x30" * 32
    key_share, mask_share = share(s_sk, (1, 2), 300), share(b, (3, 4), 300)
    assert (shown("key share"), shown("mask share")) == (key_share.hex(), mask_share.hex())
    key = _kdf("share-key", bytes.fromhex(shown("c_uv")), sid, 0, 300)
    data = digest("share-data", sid, 0, 300)
    assert (shown("share-key"), shown("share-data")) == (key.hex(), data.hex())
    nonce = b"\x52" * 12
    sealed = nonce + AESGCM(key).encrypt(nonce, key_share + mask_share, data)
    assert shown("sealed 0→300") == sealed.hex()
    assert shown("commit-mask") == digest("commit-mask", sid, 0, b).hex()
    assert shown("of_key") == digest("commit-key-share", sid, 0, 300, key_share).hex()
    assert shown("of_mask") == digest("commit-mask-share", sid, 0, 300, mask_share).hex()


def test_the_share_keys_message_of_the_example_session_and_its_signature() -> None:
    sid, s_sk, b = bytes.fromhex(shown("sid")), b"\x20" * 32, b"\x30" * 32
    sealed, commitments = {}, {}
    for i, v in enumerate(IDS):
        key_share, mask_share = share(s_sk, (1, 2), v), share(b, (3, 4), v)
        commitments[v] = [
            digest("commit-key-share", sid, 0, v, key_share),
            digest("commit-mask-share", sid, 0, v, mask_share),
        ]
        if v != 0:
            nonce = bytes([0x4F + i]) * 12
            key = _kdf("share-key", _agree(b"\x10" * 32, bytes([0x10 + i]) * 32), sid, 0, v)
            data = digest("share-data", sid, 0, v)
            sealed[v] = nonce + AESGCM(key).encrypt(nonce, key_share + mask_share, data)
    fields = [sealed, digest("commit-mask", sid, 0, b), commitments]
    unsigned = msgpack(["share-keys", *fields, b""])
    signer = Ed25519PrivateKey.from_private_bytes(b"\x60" * 32)
    signature = signer.sign(transcript("sign-shares", [sid, 0, unsigned]))
    assert shown("sigma shares") == signature.hex()
    message = msgpack(["share-keys", *fields, signature])
    rows = table(section("13"), "round", "from", "message", "bytes", "whole, or its SHA-256")
    (row,) = [row for row in rows if row[2] == "`share-keys`"]
    assert row[3:] == [str(len(message)), f"`SHA-256 {hashlib.sha256(message).hexdigest()}`"]


@pytest.mark.parametrize(("name", "x"), [("", [1, -7, 3]), ("weight", [10])])
def test_the_masked_input_of_the_example_session(name: str, x: list[int]) -> None:
    sid = bytes.fromhex(shown("sid"))
    b = {"": 4 * 15, "weight": 4 * 10}[name].bit_length()
    codes = [value % 2**b for value in x]
    assert shown(f'x_0 "{name}"') == f"b = {b}: " + " ".join(map(str, codes))
    y = list(codes)
    seeds = {"self-mask": _kdf("self-mask", b"\x30" * 32, sid, 0, name)}
    for i, v in enumerate(IDS[1:], 1):
        s_uv = _agree(b"\x20" * 32, bytes([0x20 + i]) * 32)
        seeds[f"pair-mask {v}"] = _kdf("pair-mask", s_uv, sid, 0, v, name)
    for which, seed in seeds.items():
        drawn = words("aes-128-ctr", seed, len(x), 4)
        assert shown(f'{which} "{name}"') == f"{seed.hex()}: " + " ".join(f"{word:08x}" for word in drawn)
        sign = 1 if which == "self-mask" else -1  # 0 is the smaller id of every pair
        y = [value + sign * word for value, word in zip(y, drawn, strict=True)]
    assert shown(f'y_0 "{name}" packed') == packed([value % 2**b for value in y], b).hex()


def test_the_sets_that_are_signed_in_the_example_session() -> None:
    def members(ids: Sequence[int]) -> bytes:
        return digest("members", b"".join(v.to_bytes(4, "big") for v in ids))

    assert shown("members U1, U2") == members(IDS).hex()
    assert shown("members U3") == members(IDS[:3]).hex()
    start = [bytes.fromhex(shown(name)) for name in ("sid", "parameters", "context")]
    statement = transcript("sign-members", [*start, members(IDS), members(IDS), members(IDS[:3])])
    signer = Ed25519PrivateKey.from_private_bytes(b"\x60" * 32)
    assert shown("sigma' of 0") == signer.sign(statement).hex()
    sums = [sum(column) * 10 for column in zip((1, -7, 3), (2, 2, 2), (-4, 0, 7), strict=True)]
    assert shown('sum of ""').split() == [str(value) for value in sums]


def test_short_messages_of_the_example_session_are_shown_whole() -> None:
    rows = table(section("13"), "round", "from", "message", "bytes", "whole, or its SHA-256")
    whole = {code(row[2])[0]: bytes.fromhex(code(row[4])[0]) for row in rows if "SHA" not in row[4]}
    assert len(whole) == 4
    parameters = bytes.fromhex(shown("parameters"))
    assert whole["join"] == msgpack(["join", 1, parameters])
    assert whole["task"] == msgpack(["task", b"\x72" * 32, b"task"])
    assert whole["consistency-check-request"] == msgpack(["consistency-check-request", [0, 1, 2]])
    parts = [bytes.fromhex(shown(f'y_0 "{name}" packed')) for name in ("", "weight")]
    assert whole["masked-input"] == msgpack(["masked-input", parts])


# Numbers in running text.


def test_numbers_in_running_text_are_those_of_the_code() -> None:
    from fl.federation.vectors import LOSS_BOUND
    from transport import client, exchange, frames, server

    chunk, n = f"{frames.CHUNK_BYTES:,}", generated.Counts(length=7, maximum=1)
    assert f"at most {chunk} bytes is the payload" in PAGE
    assert f"at most {frames.WINDOW} chunks asked for" in PAGE
    assert f"a part of a frame has at most {frames.MAX_FRAME_BYTES:,} bytes" in PAGE
    assert f"of which nothing comes for {exchange.STALL_SECONDS:.0f} s, from its first pull" in PAGE
    assert exchange.MAX_STAGED == 3
    assert "The server pulls from three clients at a time" in PAGE
    assert f"After {client.PATIENCE_SECONDS:.0f} s without any frame the server is gone" in PAGE
    schemes = [kind.for_cohort(5, n) for kind in (Masking, generated.CKKS, generated.Plain)]
    deadlines = {}
    for scheme in schemes:
        deadlines |= server.usual_deadlines(scheme)
    assert f"join {deadlines['join']:.0f}, advertise-keys {deadlines['advertise-keys']:.0f} " in PAGE
    of_input = f"input (of `plain` and `ckks`) {deadlines['input']:.0f}"
    assert f"{of_input}, others {server.ROUND_SECONDS:.0f}." in PAGE
    others = deadlines.keys() - {"join", "advertise-keys", "input"}
    assert {deadlines[name] for name in others} == {server.ROUND_SECONDS}
    assert Masking.for_cohort(5, n).largest_upload == 4096 + 256 * 5 + 8 * 7
    assert "4096 + 256 n + 8 Σm bytes" in PAGE
    ckks = generated.CKKS.for_cohort(5, n)
    key = 8 * ckks.degree * (len(ckks.prime_bits) + 1)
    slots = max(ckks.plan.upload_bytes, 8 * ckks.plan.slots)
    assert ckks.largest_upload == 4096 + 128 * 5 + key + slots
    assert "more than 4096 + 128 n + 8 N (l + 1) + max(Y, 8 S) bytes" in CKKS_PAGE
    assert f"(length 1, bound {LOSS_BOUND:.0f})" in PAGE


# Training tasks


def array_of(first: str) -> list[list[str]]:
    """[name, what it is] of every field of the array that begins with these words on the page."""
    (array,) = re.findall(rf"`\[{first}(.*?)\]`", PAGE)
    return [part.split(": ") for part in (first + array).split(", ")]


def test_the_training_task_on_the_page_has_the_fields_of_the_code() -> None:
    from fl.config.plan import LocalPlan, ServerStep
    from fl.federation.task import Instructions

    for kind, first in (
        (Instructions, '"train", '),
        (LocalPlan, "algorithm: "),
        (ServerStep, "optimiser: "),
    ):
        page = [part[0] for part in array_of(first) if part[0] != '"train"']
        assert page == list(kind.__struct_fields__)


def test_numbers_of_a_training_task_are_refused_outside_the_ranges_on_the_page() -> None:
    """And taken at their ends."""
    from fl.config.plan import LocalPlan, ServerStep

    checked = 0
    for kind, first in ((LocalPlan, "algorithm: "), (ServerStep, "optimiser: ")):
        defaults = list(msgspec.structs.astuple(kind()))
        for at, (name, words) in enumerate(array_of(first)):
            number, _, limits = words.partition(" ")
            if not limits:
                continue
            cast, (low, high) = {"int": int, "float": float}[number], limits.split("..")
            outside = [cast(low) - 1, cast(high.strip("<")) + (0 if "<" in high else 1)]
            inside = [cast(low), 0.999 if "<" in high else cast(high)]
            for value in inside:
                msgspec.convert([*defaults[:at], value, *defaults[at + 1 :]], kind)
            for value in outside:
                with pytest.raises(msgspec.ValidationError):
                    msgspec.convert([*defaults[:at], value, *defaults[at + 1 :]], kind)
            checked += 1
            assert name in kind.__struct_fields__
    assert checked == 10


def test_words_of_a_training_task_are_those_on_the_page() -> None:
    from typing import get_args

    from fl.config import plan

    for words in (plan.Algorithm, plan.Precision, plan.Optimiser):
        *most, last = get_args(words)
        assert f"{', '.join(f'`{word}`' for word in most)} or `{last}`" in PAGE


def test_a_training_task_put_together_from_the_page_is_taken_to_the_byte() -> None:
    import numpy as np

    from fl.config.run import RunConfig
    from fl.config.secret import order_key, permutations
    from fl.federation.task import read_instructions, write_instructions
    from fl.models.architectures import Description

    config = RunConfig(local_steps=7, lr=0.5, momentum=0.25, proximal=1.5, algorithm="fedavg-weights")
    parameters = np.arange(15, dtype=np.float32)
    written = write_instructions(config, b"r" * 16, 3, Description("logistic", (1, 2, 2), 3), parameters)
    page = [
        *("train", b"r" * 16, 3, {"model": "logistic", "shape": [1, 2, 2], "classes": 3}),
        b"".join(struct.pack("<f", value) for value in range(15)),
        ["fedavg-weights", 2, 7, 8, 0.5, 0.25, 1.5, "float32"],
        ["average", 1.0, 0.9, 0.99, 0.001],
    ]
    assert written == msgpack(page)
    read_instructions(written)
    secret, context = bytes(range(32)), digest("context", written)
    order = hkdf_sha256(secret, context, transcript("training", ["order"]), 32)
    assert order_key(secret, written) == order
    for k, taken in zip(range(2), permutations(order, 9), strict=False):
        stream = hkdf_sha256(order, b"", transcript("training", ["pass", k]), 32)
        assert taken.tolist() == sorted(range(9), key=words("aes-128-ctr", stream, 9, 8).__getitem__)


def test_a_greeting_and_its_refusal_keep_their_form() -> None:
    from transport.frames import Hello, Refuse, encode

    assert encode(Hello(7)) == msgpack(["hello", 7])
    assert encode(Refuse(1)) == msgpack(["refuse", 1])
    assert [generated.fields_of(kind) for kind in (Hello, Refuse)] == [[("version", "int")]] * 2
    assert msgspec.msgpack.decode(encode(Hello(1))) == ["hello", 1]
