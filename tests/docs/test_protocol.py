"""docs/protocol.md and the pages of single schemes say what the code does: their blocks are current, their
tables complete, their numbers and examples right. That bytes follow from them is proved in tests/vectors.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import re
import struct
from collections.abc import Callable, Collection, Iterator, Mapping
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import pytest

from fl.config import plan
from fl.config.plan import LocalPlan, ServerStep
from fl.config.privacy import Perturbation
from fl.config.run import RunConfig
from fl.config.secret import order_key, permutations, samples
from fl.federation.task import Instructions, read_instructions, write_instructions
from fl.federation.vectors import LOSS_BOUND
from fl.models.architectures import Description
from secagg import (
    CKKS,
    Among,
    Bounded,
    Counts,
    Decoys,
    LocalProtocolError,
    Masking,
    Plain,
    Private,
    Recorded,
    RemoteProtocolError,
    TooFewClients,
    Weight,
    run,
    throwaway_identities,
)
from secagg.bits import pack
from secagg.ckks.ring import MAX_MODULUS_BITS
from secagg.crypto import _SMALL_ORDER_Y, PROTOCOL_VERSION, OwnTag, Tag, transcript
from secagg.errors import RelayLost
from secagg.inputs import encode_inputs
from secagg.masking.messages import traffic
from secagg.prg import keystream
from secagg.shamir import share
from secagg.split import Split
from secagg.split.messages import traffic_of_client, traffic_of_relay
from tests.docs import protocol_tables as generated
from tests.docs.pages import code, rows, section
from tests.vectors import independent as i
from transport import exchange, frames, server
from transport.frames import TRANSPORT_VERSION, Hello, Refuse, encode, wire_bytes
from transport.line import PATIENCE_SECONDS

ROOT = Path(__file__).parents[2]
PAGE, CKKS_PAGE, SPLIT_PAGE, DECOYS_PAGE = (page.read_text(encoding="utf-8") for page in generated.BLOCKS)
ALL = PAGE + CKKS_PAGE + SPLIT_PAGE + DECOYS_PAGE
main, of_ckks, of_split, of_decoys = (
    partial(section, page) for page in (PAGE, CKKS_PAGE, SPLIT_PAGE, DECOYS_PAGE)
)


# Blocks and tables.


PAGES = pytest.mark.parametrize("page", generated.BLOCKS, ids=lambda page: page.name)


@PAGES
def test_a_page_has_the_blocks_that_the_code_has_now_and_no_others(page: Path) -> None:
    assert page.read_text(encoding="utf-8") == generated.current(page), (
        "run python -m tests.docs.protocol_tables"
    )


def letters(text: str) -> list[str]:
    return [name for row in rows(text, "letter", "meaning") for name in row[0].split(", ")]


def test_a_letter_has_one_meaning_on_all_pages() -> None:
    explained = letters(main("2.1")) + letters(of_ckks("1.1")) + letters(of_split("1.1"))
    explained += letters(of_decoys("1.1"))
    assert len(explained) == len(set(explained)) > 30


@PAGES
def test_every_field_and_constant_has_a_meaning(page: Path) -> None:
    assert f"| {generated.NEW} |" not in page.read_text(encoding="utf-8")


def number(text: str) -> float:
    """Of 1,000,000, 1e-30, 2^53 − 1 and the like."""
    return eval(text.replace(",", "").replace("^", "**").replace("−", "-"))  # noqa: S307


GOOD: Mapping[str, Callable[..., Any]] = {
    "bounded": lambda **one: Bounded(**{"length": 3, "bound": 1.0, **one}),
    "private": lambda **one: Private(**{"length": 3, "clip": 1.0, **one}),
    "counts": lambda **one: Counts(**{"length": 3, "maximum": 9, **one}),
    "weight": Weight,
    "masking": lambda clients: Masking.for_cohort(clients, Weight(maximum=1), small_cohort=True),
}


def test_a_field_takes_what_its_range_on_the_page_has_and_no_more() -> None:
    ranged = {key: words for key, words in generated.meanings(main("5.1")).items() if ".." in words}
    many = ranged.pop(("`masking`", "`vectors`"))
    assert len(ranged) == 12
    for (kind, field), words in ranged.items():
        low, high = map(number, re.findall(r"(\S+)\.\.(\S+(?: − 1)?)\b", words)[0])
        make, name = GOOD[code(kind)[0]], code(field)[0]
        for value in (low, high):
            make(**{name: value})
        for value in (low - 1, high + 1) if isinstance(low, int) else (low / 2, high * 2):
            with pytest.raises(LocalProtocolError, match=r" is not (a number )?in \S+\.\."):
                make(**{name: value})
    low, high = map(number, re.findall(r"(\d+)\.\.(\d+)", many)[0])
    for count, fits in {low: True, high: True, low - 1: False, high + 1: False}.items():
        vectors = {f"{k}": Counts(length=1, maximum=1) for k in range(int(count))}
        refused = pytest.raises(LocalProtocolError, match=r" has 1\.\.64 vectors")
        with contextlib.nullcontext() if fits else refused:
            Masking.for_cohort(3, vectors)


def test_powers_in_the_meaning_of_a_constant_are_its_value() -> None:
    powers = [row for row in rows(main("14"), "constant", "value", "what") if "^" in row[2]]
    assert len(powers) == 2
    for _, value, what in powers:
        assert number(re.findall(r"2\^.*", what)[0]) == int(value.strip("`").replace(",", ""), 0)


SESSIONS = {"": main("8"), "ckks": of_ckks("5"), "split": of_split("3"), "decoys": of_decoys("5")}


@pytest.mark.parametrize("page", SESSIONS)
def test_every_round_and_message_is_described_where_the_session_is(page: str) -> None:
    text = SESSIONS[page]
    for kind in generated.message_kinds(page):
        assert f"`{generated.tag_of(kind)}`" in text
    for name, session in generated.played().items():
        if generated.told_on(page, name):
            assert all(round in text for round, _, _ in session.rounds)


def test_every_frame_is_described_in_section_4() -> None:
    text = main("4")
    for kind in generated.Frame.__subclasses__():
        assert f"`{generated.tag_of(kind)}`" in text


# Every tag.


def tag_rows() -> dict[str, list[str]]:
    pages = (main("2.4"), of_ckks("1.3"), of_split("1.3"), of_decoys("1.3"))
    listed = [
        row for text in pages for row in rows(text, "tag", "made by", "secret", "salt", "parts", "what for")
    ]
    return {code(row[0])[0]: row for row in listed}


def test_the_table_of_tags_has_every_tag_once_and_no_other() -> None:
    assert sorted(tag_rows()) == sorted(tag.value.decode() for tag in Tag)
    assert len(re.findall(r"^\| `[\w-]+` \| (?:digest|kdf|transcript) \|", ALL, re.M)) == len(Tag)


def test_the_tags_of_one_machine_are_named_and_are_no_others() -> None:
    (named,) = re.findall(r"has fourteen more, (.*?), for what stays on one machine", main("2.4"))
    assert sorted(code(named)) == sorted(tag.value.decode() for tag in OwnTag)
    assert not set(code(named)) & tag_rows().keys()


WRITTEN: Mapping[str, tuple[str, ...]] = {
    **{"c_uv": ("secret", "agreed"), "seed": ("rounding_seed",)},
    **{"smaller": ("min(u, v)",), "larger": ("max(u, v)",)},
    **{"key_share": ("both[:SHARE_BYTES]",), "mask_share": ("both[SHARE_BYTES:]",)},
    **{"offer": ("self.offer()",), "unsigned": ("encode(unsigned)",), "sealed_key": ("secret",)},
    **{"keys": ("listed",), "ckks_keys": ("listed",), "U1": ("*sets",), "residues": ("bytes(residues)",)},
    "asked": ("digest(Tag.CKKS_SUM, sid, bytes(residues))",),
    **{
        "c_uj": ("secret",),
        "relay_keys": ("listed",),
        "sealed": ("bytes(sealed)",),
        "digests": ("*digests",),
    },
    **{"members": ("listed",), "packed": ("*map(bytes, packed)",)},
    **{"vectors": ("bytes(vectors)",), "selectors": ("bytes(selectors)",)},
    "added": ("digest(Tag.SPLIT_MEMBERS, listed)",),
    "parameters": ("digest_of",),
    "ids": ("b''.join((v.to_bytes(4, 'big') for v in sorted(U)))",),
}
"""How the code writes what the table calls otherwise."""


def calls_in_code() -> dict[str, set[tuple[str, ...]]]:
    """tag -> (made by, secret and salt of a key, parts) of each call that makes something under it."""
    found: dict[str, set[tuple[str, ...]]] = {}
    for path in (ROOT / "secagg").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Name(id=made_by),
                    args=[ast.Attribute(value=ast.Name(id="Tag"), attr=tag), *parts],
                ):
                    words = ["literal" if isinstance(p, ast.Constant) else ast.unparse(p) for p in parts]
                    found.setdefault(Tag[tag].value.decode(), set()).add((made_by, *words))
    return found


def test_a_tag_is_made_as_the_table_says() -> None:
    made, listed = calls_in_code(), tag_rows()
    del listed["training"]  # a trainer's own: its bytes are in the test of a training task
    for tag, (_, made_by, secret, salt, parts, _) in listed.items():
        due = [made_by, *code(secret), *code(salt), *code(parts)]
        due = due[: due.index("U1") + 1] if "U1" in due else due  # of three sets, one behind the other
        for call in made.pop(tag):
            assert len(call) == len(due), tag
            for word, name in zip(call, due, strict=True):
                assert word in (name, "literal", *WRITTEN.get(name, ())), tag
    assert not made


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
    listed, calls = tag_rows(), list(re.finditer(r"\b(digest|kdf|transcript)\(`", ALL))
    said = set()
    for call in calls:
        tag, *arguments = _arguments(ALL[call.start() :])
        _, made_by, _, _, parts, _ = listed[tag]
        assert made_by == call[1] or tag == "share-data"  # shown as a transcript in section 2.3
        said.add(tag)
        if "…" not in arguments:
            assert len(arguments) == len(code(parts)) + 2 * (made_by == "kdf"), tag
    assert said == listed.keys() - {"parameters", "roster"}


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
                case ast.Call(func=ast.Name(id="check_signed"), args=[*_, text]):
                    found |= set(_text(text))
                case ast.Call(func=ast.Attribute(attr="lose"), args=[_, text]):
                    found |= set(_text(text))
    return found


def texts_on_page() -> set[str]:
    found = set()
    header: list[str] = []
    for line in ALL.splitlines():
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
    for relays in ({0}, {0, 2}):
        said = str(RelayLost(relays, 3, "deliver")).replace("0, 2", "0")
        assert re.sub(r"\d|deliver", "…", said) in too_few
    assert len(too_few) == 5


def test_what_a_server_refuses_begins_with_client_and_round_but_for_who_is_not_expected() -> None:
    any_message, *_ = rows(main("11.3"), "message", "check", "text")
    server = Masking.for_cohort(3, Counts(length=1, maximum=1)).server(range(3))
    with pytest.raises(RemoteProtocolError) as caught:
        server.receive(7, b"")
    assert re.sub(r"client 7|join", "…", str(caught.value)) == code(any_message[2])[0]
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
        assert below == [f"{chapter}.{number}" for number in range(1, len(below) + 1)]
    text = page.read_text(encoding="utf-8")
    of_main = r"main page(?:, section|'s section| \(section) (\d+(?:\.\d+)?)"
    assert set(re.findall(of_main, text)) <= {number.rstrip(".") for number in numbers_of(generated.PAGE)}
    own = re.findall(r"sections? (\d+(?:\.\d+)?)", re.sub(of_main, "", text))
    assert set(own) <= {number.rstrip(".") for number in numbers}


def test_the_versions_are_those_of_the_code() -> None:
    protocol, transport = PROTOCOL_VERSION, TRANSPORT_VERSION
    assert f"Protocol version {protocol}, transport version {transport}." in PAGE
    assert f"| transport, {transport} |" in main("1")
    assert f"| protocol, {protocol} |" in main("1")
    assert f'E("secagg/{protocol}/" ‖ tag)' in main("2.3")
    assert f"`join`: `version` = {protocol}" in main("8.2")
    assert f"| `join` | version is {protocol} |" in main("11.3")


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
    text = dict(rows(main("2.2"), "type", "bytes"))[kind]
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
    forms = dict(rows(main("2.2"), "type", "bytes"))
    assert forms.keys() == FORMS.keys() | {"float", "nil, bool"}
    assert [msgspec.msgpack.encode(value).hex() for value in (None, False, True)] == code(forms["nil, bool"])
    assert msgspec.msgpack.encode(1.0) == bytes.fromhex(code(forms["float"])[0]) + struct.pack(">d", 1)


def test_the_example_of_a_transcript() -> None:
    text = main("2.3")
    due = transcript(Tag.SHARE_DATA, bytes(4), 1, 300)
    (block,) = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    assert bytes.fromhex(block) == due
    assert hashlib.sha256(due).hexdigest() in text


def test_the_small_order_keys() -> None:
    y, other = (int(value, 16) for value in re.findall(r"`(0x\w{64})`", main("3")))
    assert {0, 1, 2**255 - 20, y, other} == _SMALL_ORDER_Y


def test_the_example_of_shares() -> None:
    draws = iter((2, 3))
    made = share(5, 3, [1, 2, 3, 301], lambda size: next(draws).to_bytes(size, "big"))
    assert "0, 1, 2 and 300 are {}, {}, {} and {}.".format(*made.values()) in main("3")


def test_the_examples_of_streams() -> None:
    for prg, first, word, wide in rows(
        main("3"), "`prg`", "first 8 bytes", "word 0 of 32 bits", "word 0 of 64 bits"
    ):
        drawn, eight = (next(keystream(bytes(range(32)), 1, f"<u{size}", code(prg)[0]))[0] for size in (4, 8))
        assert [f"{int(drawn):#010x}"] == code(word)
        assert [f"{int(eight):#018x}"] == code(wide)
        assert [eight.tobytes().hex()] == code(first)


# Section 4.1.


def shown_file(name: str) -> str:
    (text,) = re.findall(rf"`{name}`\n```text\n(.*?)```", main("4.1"), re.DOTALL)
    return str(text)


def test_the_fingerprint_of_the_example() -> None:
    said = dict(re.findall(r'^(\w+) = "(.*)"$', shown_file("server.pub"), re.MULTILINE))
    hashed = b"secagg/1/key-fingerprint\0server\0\0" + said["curve"].encode() + b"\0"
    due = hashlib.sha256(hashed + bytes.fromhex(said["ed25519"])).hexdigest()[:32]
    assert said["fingerprint"] == " ".join(re.findall("....", due))


def test_the_roster_verifies_and_has_its_digest() -> None:
    body, _, signature = shown_file("roster").rpartition("signature ")
    signed = b"secagg/1/roster-signature\0" + body.encode()
    (signer,) = re.findall("^signer (.*)$", body, re.MULTILINE)
    assert i.verifies(bytes.fromhex(signer), signed, bytes.fromhex(signature))
    assert f"digest of this roster: `{hashlib.sha256(signed).hexdigest()}`" in main("4.1")


# Section 6.


def test_the_examples_of_codes() -> None:
    """q = 4, r = 2, n = 3: L = 7, b = 6."""
    for x, codes, clipped in rows(main("6"), "x", "codes", "clipped"):
        scheme = Masking.for_cohort(3, {"": Bounded(length=4, bound=2.0, bits=4)})
        exact = [Fraction(value) for value in x.split()]
        assert all(
            (value * 7 / 2).denominator == 1 for value in exact if abs(value) <= 2
        )  # nothing is rounded
        values = [float(value) for value in exact]
        encoded, clipping = encode_inputs(scheme, values, b"", bytes(32))
        assert scheme.ring_bits() == {"": 6}
        assert " ".join(map(str, encoded[""])) == codes
        assert str(clipping[""].coordinates) == clipped


def test_the_examples_of_packing() -> None:
    examples = rows(main("6"), "b", "values", "packed")
    assert len(examples) == 4
    for b, values, due in examples:
        words = np.array([int(value) for value in values.split()], np.uint32 if int(b) <= 32 else np.uint64)
        assert pack(words, int(b)).hex() == code(due)[0]


# Sizes: sections 12 and 7.


def ids(U: Collection[int]) -> int:
    return head(len(U)) + sum(map(id_size, U))


def id_size(v: int) -> int:
    return 1 if v < 2**7 else 2 if v < 2**8 else 3 if v < 2**16 else 5


def head(count: int) -> int:
    return 1 if count < 16 else 3 if count < 2**16 else 5


def binary(length: int) -> int:
    return length + (2 if length < 2**8 else 3 if length < 2**16 else 5)


def size(formula: str, message: str, **letters: Any) -> int:
    """What a formula of the page gives. letters: what stands in it for this session."""
    words = {
        "id": id_size,
        "ids": ids,
        "map": lambda U, each: ids(U) + len(U) * each,
        "head": head,
        "bin": binary,
    }
    return int(eval(formula, {**words, "name": 2 + len(message), **letters}))  # noqa: S307


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
    scheme = Masking.for_cohort(len(sets[0]), specs)
    packed = sum(binary(-(-spec.length * scheme.ring_bits()[name] // 8)) for name, spec in specs.items())
    formulas = {code(message)[0]: formula for message, formula in rows(main("12"), "message", "bytes")}
    signed = {"sig": 66, "pair": 69, "com": 34} if active else {"sig": 2, "pair": 1, "com": 2}
    U1, U2, U3, U4 = map(frozenset, sets)
    for holders in (U1, frozenset(sets[0][::2])):
        letters = {
            **{"U1": U1, "U2": U2, "U3": U3, "U4": U4, "H1": holders, "H2": holders & U2, "u": 0},
            **{
                "of": holders if active else (),
                "task": task,
                "vectors": len(specs),
                "packed": packed,
                **signed,
            },
        }
        opened = frozenset(sets[1][1:]) if holders != U1 else None  # as of groups
        made = traffic(scheme, task, 0, *sets[:3], sets[3] if active else None, holders, opened)
        played = generated.played()["masking, active" if active else "masking, semi-honest"]
        for round, opened_by, answered_by in played.rounds:
            if round == "unmasking" and opened is not None:
                letters["H2"] = holders & opened
            up, down = (
                size(formulas[name], name, **letters) if name else 0 for name in (answered_by, opened_by)
            )
            assert made[round] == (up, down)


def test_the_sizes_in_frames() -> None:
    text = main("12")
    assert "37 + id(j) + id(size) + size" in text
    assert "17 + id(j) + id(offset)" in text
    assert "16 + id(j) + id(offset)" in text
    for length, number in [(41, 0), (1_000_000, 3), (262_144, 1), (262_145, 200), (70_000_000, 2)]:
        offsets = range(0, length, 262_144) if length > 262_144 else ()
        there = 37 + id_size(number) + id_size(length) + length
        chunks = [(17 + id_size(number) + id_size(o), 16 + id_size(number) + id_size(o)) for o in offsets]
        assert wire_bytes(length, number) == (there + sum(c for c, _ in chunks), sum(p for _, p in chunks))
    assert "{} bytes there and {} back".format(*wire_bytes(41, 0)) in text
    assert "{:,} there and {} back".format(*wire_bytes(1_000_000, 3)) in text


CKKS_SIZES = {
    (code(message)[0], who): formula
    for message, who, formula in rows(of_ckks("7"), "message", "of or to", "bytes")
}


@pytest.mark.parametrize("ending", ["keep", "release"])
def test_the_sizes_of_messages_of_ckks_are_those_of_the_code(ending: str) -> None:
    pytest.importorskip("tenseal")
    session = generated.ckks_session(ending)
    scheme, view = session.scheme, session.view
    U1, U3, plan = frozenset(generated.CKKS_IDS), frozenset(generated.CKKS_IDS[:-1]), scheme.plan
    letters = {
        **{"U1": U1, "U3": U3, "maker": 0, "sig": 66, "upload": binary(plan.upload_bytes)},
        "key": binary(8 * scheme.degree * (len(scheme.prime_bits) + 1) + 28),
        "released": binary(8 * plan.slots),
    }
    for _, u, message in view.received + view.sent:
        name = generated.name_of(message)
        who = {
            "share-ckks-key": "another" if u == 300 else "a maker",
            "decrypt-request": "who decrypts",
            "decrypted": "a releaser" if ending == "release" else "another",
        }.get(name, "all")
        if name not in ("join", "task"):
            assert len(message) == size(CKKS_SIZES[name, who], name, u=u, **letters), (name, u)


SPLIT_SIZES = {code(message)[0]: formula for message, formula in rows(of_split("5"), "message", "bytes")}


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("relays", [2, 16])
def test_the_sizes_of_messages_of_split_are_those_of_the_code(signed: bool, relays: int) -> None:
    specs = {"a": Bounded(length=3, bound=1.0), "b": Counts(length=1000, maximum=9)}
    members, task, tags = [0, 127, 128, 255, 65536], 300, {128: 2}
    scheme = Split.for_cohort(len(members), specs, relays=relays)
    packed = sum(binary(-(-spec.length * scheme.ring_bits()[name] // 8)) for name, spec in specs.items())

    def of(name: str, **more: Any) -> int:
        letters = {"M": relays, "V": len(specs), "packed": packed, "sig": 66 if signed else 2, "task": task}
        return size(SPLIT_SIZES[name], name, **letters, **more)

    def share(u: int, j: int) -> int:
        """In its seal."""
        return binary(28 + of("vector" if u % relays == j else "seed", T=tags.get(u, 0)))

    made = {
        u: traffic_of_client(scheme, relays, task, u, signed=signed, tags=tags.get(u, 0)) for u in members
    }
    for u in members:
        sealed = sum(share(u, j) for j in range(relays))
        assert made[u]["shares"] == (of("shares", sealed=sealed), of("split-task"))
    for j in range(relays):
        due = traffic_of_relay(scheme, relays, j, members, members, signed=signed, tags=tags)
        sealed = sum(share(u, j) for u in members)
        assert due["relay-keys"] == (of("relay-key"), of("relay-key-request"))
        assert due["deliver"] == (of("received", U=[]), of("deliver-request", sealed=sealed, U=members))
        assert due["columns"] == (of("column"), of("column-request", U=members))


DECOYS_SIZES = {code(message)[0]: formula for message, formula in rows(of_decoys("7"), "message", "bytes")}


@pytest.mark.parametrize("signed", [False, True])
def test_the_sizes_of_messages_of_decoys_are_those_of_the_code(signed: bool) -> None:
    pytest.importorskip("tenseal")
    specs = {"a": Bounded(length=5000, bound=1.0, bits=7), "b": Counts(length=3, maximum=9)}
    ids, roster = (0, 130, 300), None
    identities: dict[int, Any] = {}
    if signed:
        roster, identities = throwaway_identities(ids)
    scheme = Decoys.for_cohort(3, specs, candidates=4, roster=roster)
    x = {"a": np.zeros(5000), "b": [1, 2, 3]}
    recorded: list[Recorded] = []

    def instrument(server: Any) -> Any:
        recorded.append(Recorded(server))
        return recorded[0]

    run(scheme, {u: Among(x, [x] * 3) for u in ids}, identities=identities, instrument=instrument)
    plan = scheme.plan
    selector = sum(2 * plan.ring.degree * bits // 8 for bits in scheme.prime_bits)
    letters = {
        **{"U3": frozenset(ids), "sig": 66 if signed else 2, "sums": binary(2 * selector)},
        **{"shown": binary(4 * plan.candidate_bytes), "chosen": binary(4 * selector)},
    }
    view = recorded[0].view
    for _, _, message in view.received + view.sent:
        if (name := generated.name_of(message)) in DECOYS_SIZES:
            assert len(message) == size(DECOYS_SIZES[name], name, **letters), name
    assert scheme.largest_upload == 4096 + 128 * 3 + plan.ring.key_bytes + 4 * (
        plan.candidate_bytes + selector
    )
    assert "more than 4096 + 128 n + 8 N (l + 1) + κ (C + Σ 2 N β / 8) bytes" in DECOYS_PAGE


def test_the_tables_of_sizes_have_every_message() -> None:
    listed = [code(row[0])[0] for row in rows(main("12"), "message", "bytes")]
    kinds = {generated.tag_of(kind) for kind in generated.message_kinds()}
    assert sorted(listed) == sorted(kinds - {"input"})
    kinds = {generated.tag_of(kind) for kind in generated.message_kinds("ckks")}
    assert {name for name, _ in CKKS_SIZES} == kinds
    kinds = {generated.tag_of(kind) for kind in generated.message_kinds("split")}
    assert SPLIT_SIZES.keys() == kinds
    kinds = {generated.tag_of(kind) for kind in generated.message_kinds("decoys")}
    assert DECOYS_SIZES.keys() == kinds | {"decrypt-request"}  # of which there is another on the page of CKKS


# Numbers in running text.


def test_numbers_in_running_text_are_those_of_the_code() -> None:
    chunk, n = f"{frames.CHUNK_BYTES:,}", Counts(length=7, maximum=1)
    assert f"at most {chunk} bytes is the payload" in PAGE
    assert f"at most {frames.WINDOW} chunks asked for" in PAGE
    assert f"a part of a frame has at most {frames.MAX_FRAME_BYTES:,} bytes" in PAGE
    assert f"of which nothing comes for {exchange.STALL_SECONDS:.0f} s, from its first pull" in PAGE
    assert exchange.MAX_STAGED == 3
    assert "The server pulls from three clients at a time" in PAGE
    assert f"After {PATIENCE_SECONDS:.0f} s without any frame the server is gone" in PAGE
    schemes = [kind.for_cohort(5, n) for kind in (Masking, CKKS, Plain, Split)]
    deadlines = {}
    for scheme in schemes:
        deadlines |= server.usual_deadlines(scheme)
    assert f"join {deadlines['join']:.0f}, advertise-keys {deadlines['advertise-keys']:.0f} " in PAGE
    of_input = f"input (of `plain`, `ckks` and `decoys`) {deadlines['input']:.0f}"
    slow = {deadlines[name] for name in ("shares", "deliver", "columns")}
    of_split = f"shares, deliver and columns (of `split`) {slow.pop():.0f}"
    assert not slow
    assert f"{of_input}, {of_split}, others {server.ROUND_SECONDS:.0f}." in PAGE
    others = deadlines.keys() - {"join", "advertise-keys", "input", "shares", "deliver", "columns"}
    assert {deadlines[name] for name in others} == {server.ROUND_SECONDS}
    assert Masking.for_cohort(5, n).largest_upload == 4096 + 256 * 5 + 8 * 7
    assert "4096 + 256 n + 8 Σm bytes" in PAGE
    split = Split.for_cohort(5, {"a": n, "b": n})
    assert split.largest_request == 4096 + 5 * (256 + 34 * 2 + 8 * 2 + split.upload_bytes)
    assert "4096 + n (256 + 34 M + 8 V + P) bytes at most, V vectors, of P bytes when packed" in PAGE
    ckks = CKKS.for_cohort(5, n)
    key = 8 * ckks.degree * (len(ckks.prime_bits) + 1)
    slots = max(ckks.plan.upload_bytes, 8 * ckks.plan.slots)
    assert ckks.largest_upload == 4096 + 128 * 5 + key + slots
    assert "more than 4096 + 128 n + 8 N (l + 1) + max(Y, 8 S) bytes" in CKKS_PAGE
    assert f"(length 1, bound {LOSS_BOUND:.0f})" in PAGE


def test_the_largest_moduli_and_the_example_session_are_those_of_the_code_and_the_vectors() -> None:
    assert {
        int(N): int(bits) for N, bits in rows(of_ckks("3"), "N", "largest modulus, bits")
    } == MAX_MODULUS_BITS
    assert f"`sessions/{generated.NAME}.json`" in main("13")


# Training tasks


def array_of(first: str) -> list[list[str]]:
    """[name, what it is] of every field of the array that begins with these words on the page."""
    (array,) = re.findall(rf"`\[{first}(.*?)\]`", PAGE)
    return [part.split(": ") for part in (first + array).split(", ")]


def test_the_training_task_on_the_page_has_the_fields_of_the_code() -> None:
    for kind, first in (
        (Instructions, '"train", '),
        (LocalPlan, "algorithm: "),
        (ServerStep, "optimiser: "),
        (Perturbation, "mechanism: "),
    ):
        page = [part[0] for part in array_of(first) if part[0] != '"train"']
        assert page == list(kind.__struct_fields__)


def test_numbers_of_a_training_task_are_refused_outside_the_ranges_on_the_page() -> None:
    """And taken at their ends."""
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
    told = {field.name: field.type for field in msgspec.structs.fields(Perturbation)}
    of_noise = (told["mechanism"], told["noise"], told["sensitivity"])
    for words in (plan.Algorithm, plan.Precision, plan.Sampling, plan.Balance, plan.Optimiser, *of_noise):
        *most, last = get_args(words)
        assert f"{', '.join(f'`{word}`' for word in most)} or `{last}`" in PAGE


def test_a_training_task_put_together_from_the_page_is_taken_to_the_byte() -> None:
    config = RunConfig.of(local_steps=7, lr=0.5, momentum=0.25, proximal=1.5, algorithm="fedavg-weights")
    parameters = np.arange(15, dtype=np.float32)
    written = write_instructions(config, b"r" * 16, 3, Description("logistic", (1, 2, 2), 3), parameters)
    page = [
        *("train", b"r" * 16, 3, {"model": "logistic", "shape": [1, 2, 2], "classes": 3}),
        b"".join(struct.pack("<f", value) for value in range(15)),
        ["fedavg-weights", 2, 7, 8, 0.5, 0.25, 1.5, "float32", "shuffled", "none"],
        ["average", 1.0, 0.9, 0.99, 0.001],
        None,
    ]
    assert written == i.packed(page)
    read_instructions(written)
    secret, context = bytes(range(32)), i.digest("context", written)
    order = i.kdf("training", secret, context, "order")
    assert order_key(secret, written) == order
    for k, taken in zip(range(2), permutations(order, 9), strict=False):
        words = i.words("aes-128-ctr", i.kdf("training", order, b"", "pass", k), 9, 8)
        assert taken.tolist() == sorted(range(9), key=words.__getitem__)
    for k, taken in zip(range(3), samples(order, 9, 4), strict=False):
        words = i.words("aes-128-ctr", i.kdf("training", order, b"", "sample", k), 9, 8)
        assert taken.tolist() == [k for k, word in enumerate(words) if (word >> 11) / 2**53 < 4 / 9]
    assert next(samples(order, 9, 9)).tolist() == next(samples(order, 9, 100)).tolist() == list(range(9))


def test_a_greeting_and_its_refusal_keep_their_form() -> None:
    assert encode(Hello(7)) == i.packed(["hello", 7])
    assert encode(Refuse(1)) == i.packed(["refuse", 1])
    assert [generated.fields_of(kind) for kind in (Hello, Refuse)] == [[("version", "int")]] * 2
