"""What the code decides of docs/protocol.md and of the pages of single schemes: `python -m
tests.docs.protocol_tables` writes their blocks.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import re
import sys
import tempfile
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import zmq
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from zmq.utils import z85

from secagg import (
    CKKS,
    Among,
    Bounded,
    Counts,
    Decoys,
    Masking,
    Plain,
    Private,
    Recorded,
    Roster,
    Split,
    Weight,
    throwaway_identities,
)
from secagg import states as client_states
from secagg.ckks import client as ckks_client
from secagg.ckks.flooding import gaussian
from secagg.ckks.ring import Ring
from secagg.crypto import Tag, digest
from secagg.decoys import client as decoys_client
from secagg.graph import graph_of
from secagg.masking import groups as masking_groups
from secagg.masking import session as masking_session
from secagg.prg import keystream
from secagg.session import relays_of
from secagg.split import relay as split_relay
from secagg.wire import MAX_ID, Message, relay_of
from tests.docs.pages import rewritten, rows, table
from tests.vectors import independent as i
from tests.vectors.makers.chance import Counter
from tests.vectors.replay import load
from transport.frames import ClientFrame, Frame, ServerFrame
from transport.keys import PrivateKey, write_private, write_public
from transport.roster import read as read_roster
from transport.roster import sign

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "protocol.md"
OWN_PAGE = {name: DOCS / f"protocol-{name}.md" for name in ("ckks", "split", "decoys")}
"""Of schemes that are told apart from the others."""
CKKS_PAGE, SPLIT_PAGE, DECOYS_PAGE = OWN_PAGE.values()


def told_on(page: str, name: str) -> bool:
    """Whether a module, or a session, is told on the page of this scheme; "": on the main one."""
    return page == next((scheme for scheme in OWN_PAGE if scheme in name), "")


# Types, as the tables write them.


def wire_type(type: Any) -> str:
    match type:
        case msgspec.inspect.IntType(ge=0, le=le) if le == MAX_ID:
            return "id"
        case msgspec.inspect.IntType(ge=None, le=None):
            return "int"
        case msgspec.inspect.IntType():
            return f"int {type.ge}..{type.le}"
        case msgspec.inspect.FloatType():
            return "float"
        case msgspec.inspect.BoolType():
            return "bool"
        case msgspec.inspect.NoneType():
            return "nil"
        case msgspec.inspect.BytesType() | msgspec.inspect.MemoryViewType():
            return _sized("bin", type)
        case msgspec.inspect.StrType():
            return _sized("str", type)
        case msgspec.inspect.LiteralType():
            return "str " + " or ".join(f'"{value}"' for value in sorted(type.values))
        case msgspec.inspect.DictType():
            return f"map of {wire_type(type.key_type)} to {wire_type(type.value_type)}"
        case msgspec.inspect.ListType():
            most = "" if type.max_length is None else f"at most {type.max_length} "
            return f"array of {most}{wire_type(type.item_type)}"
        case msgspec.inspect.TupleType():
            return f"[{', '.join(wire_type(item) for item in type.item_types)}]"
        case msgspec.inspect.UnionType():
            return " or ".join(wire_type(option) for option in type.types)
        case msgspec.inspect.StructType(array_like=True):
            named = [f"{field.name}: {wire_type(field.type)}" for field in type.fields]
            return _array(type.tag, named)
        case msgspec.inspect.StructType(tag=None):
            return f"`{type.cls.__name__.lower()}`"
        case msgspec.inspect.StructType():
            return f'"{type.tag}"'
        case msgspec.inspect.VarTupleType():
            return f"array of {wire_type(type.item_type)}"
    raise TypeError(type)


def _array(tag: object, named: list[str]) -> str:
    return "[" + ", ".join([f'"{tag}"', *named] if tag else named) + "]"


def _sized(kind: str, type: Any) -> str:
    if type.max_length is None:
        return kind
    return f"{kind} {'' if type.min_length == type.max_length else '≤ '}{type.max_length}"


def fields_of(kind: type[msgspec.Struct]) -> list[tuple[str, str]]:
    info = msgspec.inspect.type_info(kind)
    assert isinstance(info, msgspec.inspect.StructType)
    return [(field.name, wire_type(field.type)) for field in info.fields]


def tag_of(kind: type[msgspec.Struct]) -> str:
    return str(kind.__struct_config__.tag)


def subclasses(kind: type) -> Iterator[type]:
    for sub in kind.__subclasses__():
        yield sub
        yield from subclasses(sub)


# Messages and frames.


MODULES = (
    *("secagg.wire", "secagg.masking.messages", "secagg.plain", "secagg.ckks.messages"),
    *("secagg.split.messages", "secagg.decoys.messages"),
)


def message_kinds(page: str = "") -> list[type[Message]]:
    """Those of one page, by module in the order in which each defines them."""
    kinds = [kind for kind in subclasses(Message) if kind.__module__.startswith("secagg.")]
    mine = {kind: list(vars(sys.modules[kind.__module__]).values()).index(kind) for kind in kinds}
    mine = {kind: at for kind, at in mine.items() if told_on(page, kind.__module__)}
    return sorted(mine, key=lambda kind: (MODULES.index(kind.__module__), mine[kind]))


def _as_array(kind: type[msgspec.Struct]) -> str:
    return f"`{_array(tag_of(kind), [f'{name}: {type}' for name, type in fields_of(kind)])}`"


SEALED = ("seed", "vector")  # of split: said by clients, in seals


def messages(page: str = "") -> str:
    said = {tag: who for session in played().values() for tag, who in session.said.items()}
    said |= dict.fromkeys(SEALED, "client, sealed") | {"joint": "client"}  # of no session with a `join`
    made = [
        (f"`{tag_of(kind)}`", said.get(tag_of(kind), "server"), _as_array(kind))
        for kind in message_kinds(page)
    ]
    return table(("message", "from", "as an array"), made)


def ckks_messages() -> str:
    return messages("ckks")


def decoys_messages() -> str:
    return messages("decoys")


def split_messages() -> str:
    return messages("split")


def frames() -> str:
    from_client, from_server = typing.get_args(ClientFrame), typing.get_args(ServerFrame)
    made: list[tuple[str, ...]] = []
    for kind in Frame.__subclasses__():
        who = ["client"] * (kind in from_client) + ["server"] * (kind in from_server)
        made.append((f"`{tag_of(kind)}`", ", ".join(who), _as_array(kind)))
    return table(("frame", "from", "header"), made)


# Parameters.

NEW = "?"  # what stands for a meaning that nobody has written yet
HEADER = ("object", "field", "type", "default of secagg", "meaning")


def meanings(text: str) -> dict[tuple[str, str], str]:
    """(object, field) -> meaning, which is written on the page by hand."""
    found, of = {}, ""
    for name, field, _, _, meaning in rows(text, *HEADER):
        of = name or of
        found[of, field] = meaning
    return found


def parameters() -> str:
    return _objects(PAGE, Masking, masking_groups.Groups, Plain, Bounded, Counts, Private, Weight)


def ckks_parameters() -> str:
    return _objects(CKKS_PAGE, CKKS)


def decoys_parameters() -> str:
    return _objects(DECOYS_PAGE, Decoys)


def split_parameters() -> str:
    return _objects(SPLIT_PAGE, Split)


def _objects(page: Path, *kinds: type[msgspec.Struct]) -> str:
    known, made = meanings(page.read_text(encoding="utf-8")), []
    for kind in kinds:
        info = msgspec.inspect.type_info(kind)
        assert isinstance(info, msgspec.inspect.StructType)
        name = f"`{info.tag or kind.__name__.lower()}`"
        if info.tag:
            made.append((name, f"`{info.tag_field}`", f'str "{info.tag}"', "", ""))
        for at, field in enumerate(sorted(info.fields, key=lambda field: field.name)):
            default = "" if field.required else f"`{_shown(field.default)}`"
            meaning = known.get((name, f"`{field.name}`"), NEW)
            shown = "" if at or info.tag else name
            made.append((shown, f"`{field.name}`", wire_type(field.type), default, meaning))
    return table(HEADER, made)


def _shown(value: Any) -> str:
    words = {"None": "nil", "False": "false", "b''": "empty", "()": "empty", "NODEFAULT": "not there"}
    return words.get(repr(value), str(value))


def offer_example() -> str:
    scheme = example_offer()
    lines = ["```text", *_hex_lines(scheme.offer()), "```", "", f"Its digest: `{scheme.digest().hex()}`."]
    return "\n".join(lines)


def example_offer() -> Masking:
    vectors = {"weight": Weight(maximum=10), "": Bounded(length=5, bound=1.0, bits=8)}
    return Masking.for_cohort(4, vectors, adversary="semi-honest")


def _hex_lines(data: bytes, width: int = 64) -> list[str]:
    return [data[i : i + width].hex() for i in range(0, len(data), width)]


def choices() -> str:
    """What a client with the default policy expects, the roster being the cohort."""
    made: list[tuple[str, ...]] = []
    for adversary in ("semi-honest", "active"):
        for n in (3, 4, 10, 50, 100, 1000, 10_000):
            roster = Roster(bytes(32), {}) if adversary == "active" else None
            scheme = Masking.for_cohort(n, Counts(length=1, maximum=1), adversary=adversary, roster=roster)
            numbers = (scheme.corrupt, scheme.dropout, scheme.degree, scheme.threshold, scheme.m_min)
            graph = "complete" if scheme.complete else "sparse"
            made.append((adversary, str(n), *map(str, numbers), graph))
    return table(("adversary", "n", "A", "d", "k", "t", "m_min", "graph"), made)


CKKS_EXAMPLES: tuple[tuple[int, str, Bounded | Counts | Weight], ...] = (
    (3, "keep", Counts(length=1, maximum=1)),
    (3, "keep", Counts(length=10, maximum=2**53 - 1)),
    (100, "keep", Bounded(length=1_000_000, bound=1.0)),
    (100, "keep", Bounded(length=1_000_000, bound=1.0, bits=12)),
    (1000, "keep", Bounded(length=1000, bound=1.0, bits=32)),
    (3, "release", Bounded(length=1, bound=1.0, bits=2)),
    (100, "release", Bounded(length=1_000_000, bound=1.0)),
    (100, "release", Bounded(length=1_000_000, bound=1.0, bits=12)),
    (1000, "release", Bounded(length=1000, bound=1.0, bits=32)),
    (1_000_000, "release", Weight(maximum=2**31 - 1)),
)


def ckks_choices() -> str:
    """Numbers that follow from n, the ending and one vector."""
    made: list[tuple[str, ...]] = []
    for n, ending, spec in CKKS_EXAMPLES:
        scheme = CKKS.for_cohort(n, spec, ending=ending)  # type: ignore[arg-type]
        plan = scheme.plan
        (layout,) = plan.layouts.values()
        how = (
            f"real, unit = {layout.real:.6g}"
            if layout.real
            else f"{layout.each} digits to base {layout.base}"
            if layout.limbs == 1
            else f"{layout.limbs} limbs of {layout.base.bit_length() - 1} bits"
        )
        sizes = ", ".join(map(str, scheme.prime_bits))
        numbers = (str(scheme.degree), sizes, str(scheme.scale), str(plan.capacity), how)
        made.append((str(n), ending, vector_of(spec), *numbers, str(plan.slots), f"{plan.upload_bytes:,}"))
    header = ("n", "ending", "vector", "N", "β", "Δ", "cap", "layout", "S", "Y")
    return table(header, made)


DECOYS_EXAMPLES: tuple[tuple[int, int, Bounded | Counts | Weight], ...] = (
    (3, 2, Counts(length=1, maximum=1)),
    (100, 8, Bounded(length=1_000_000, bound=1.0, bits=12)),
    (100, 8, Bounded(length=1_000_000, bound=1.0)),
    (256, 10, Bounded(length=100_000, bound=1.0)),
    (16_000, 64, Bounded(length=100_000, bound=1.0)),
)


def decoys_choices() -> str:
    """Numbers that follow from n, the candidates and one vector."""
    made: list[tuple[str, ...]] = []
    for n, candidates, spec in DECOYS_EXAMPLES:
        scheme = Decoys.for_cohort(n, spec, candidates=candidates)
        plan, sizes = scheme.plan, ", ".join(map(str, scheme.prime_bits))
        numbers = (scheme.degree, sizes, scheme.modulus, plan.polynomials)
        of_bytes = (f"{plan.candidate_bytes:,}", f"{plan.upload_bytes:,}", f"{plan.sum_bytes:,}")
        made.append((str(n), str(candidates), vector_of(spec), *map(str, numbers), *of_bytes))
    return table(("n", "κ", "vector", "N", "β", "T_p", "ν", "C", "upload", "sum"), made)


def vector_of(spec: Bounded | Counts | Weight) -> str:
    match spec:
        case Bounded():
            return f"bounded, length {spec.length}, bits {spec.bits}"
        case Counts():
            return f"counts, length {spec.length}, maximum {spec.maximum}"
    return f"weight, maximum {spec.maximum}"


# States and rounds.

CLIENTS: Mapping[str, tuple[Any, ...]] = {
    "masking": (masking_session,),
    "ckks": (ckks_client,),
    "split": (client_states, split_relay),
    "decoys": (decoys_client,),
}
"""Where the states of clients, and relays, are."""

Step = tuple[str, str, str, str]
"""(state, message, next state, reply); the empty state is before the first and after the last."""


@dataclass(frozen=True)
class Played:
    """rounds: (round, what opens it, what answers it). said: what, by whom. steps: each once."""

    rounds: list[tuple[str, str, str]]
    said: dict[str, str]
    steps: list[Step]


@lru_cache(maxsize=1)
def played() -> dict[str, Played]:
    """One session of each kind, as it was seen."""
    spec, ids = Counts(length=1, maximum=1), (0, 1, 2, 300)
    roster, identities = throwaway_identities(ids, relays=2)
    schemes = {
        "masking, active": Masking.for_cohort(4, spec, adversary="active", roster=roster),
        "masking, semi-honest": Masking.for_cohort(4, spec),
        "plain": Plain.for_cohort(4, spec),
        "ckks, keep": CKKS.for_cohort(4, spec, roster=roster),
        "ckks, release": CKKS.for_cohort(4, spec, ending="release", roster=roster),
        "split": Split.for_cohort(4, spec, roster=roster),
        "decoys": Decoys.for_cohort(4, spec, candidates=2, roster=roster),
    }
    result = {}
    for name, scheme in schemes.items():
        server = Recorded(scheme.server(ids, roster=roster))
        x: Any = Among([1], [[0]]) if isinstance(scheme, Decoys) else [1]
        clients: dict[int, Any] = {
            u: scheme.client(u, lambda task, x=x: x, identity=identities[u]) for u in ids
        }
        clients |= {r: scheme.relay(j, identity=identities[r]) for j, r in enumerate(relays_of(scheme))}
        outbox = {u: client.start() for u, client in clients.items()}
        steps: dict[Step, None] = {("", "", _state_of(clients[u]), name_of(outbox[u])): None for u in clients}
        while server.result is None:
            for u, message in outbox.items():
                server.receive(u, message)
            outbox = {}
            for u, request in server.advance().items():
                before = _state_of(clients[u])
                outbox[u] = reply = clients[u].receive(request)
                steps[before, name_of(request), _state_of(clients[u]), name_of(reply)] = None
                if name_of(request) == "column-request":  # again
                    steps["Added", name_of(request), "Added", name_of(clients[u].receive(request))] = None
        opened = {round: name_of(message) for round, _, message in server.view.sent}
        answered = {round: name_of(message) for round, _, message in server.view.received}
        rounds = [(round, opened.get(round, ""), answered[round]) for round in scheme.rounds]
        said = {
            name_of(message): "client" if relay_of(u) is None else "relay"
            for _, u, message in reversed(server.view.received)  # of what both say, the client
        }
        result[name] = Played(rounds, said, list(steps))
    return result


CKKS_IDS = (0, 5, 130, 300)
CKKS_VECTORS = {
    "": Bounded(length=3, bound=2.0, bits=8),
    "count": Counts(length=2, maximum=2**31),
    "weight": Weight(maximum=10),
}
CKKS_INPUTS = {
    u: {"": [1.5, -2.0, 0.25 * k], "count": [k, 2**31 - k], "weight": 10 - k} for k, u in enumerate(CKKS_IDS)
}


def weighed(u: int, name: str) -> Any:
    """What client u adds to the sum of a vector."""
    x = CKKS_INPUTS[u][name]
    return CKKS_INPUTS[u]["weight"] * np.array(x) if name == "" else np.atleast_1d(x)


@dataclass(frozen=True)
class CkksSession:
    """K: of the first maker. result: of who has the sum."""

    scheme: CKKS
    view: Any
    K: bytes
    result: Any

    def fields(self, u: int, name: str) -> list[Any]:
        """Of the message that u said or was sent."""
        said = [m for _, v, m in (*self.view.sent, *self.view.received) if v == u and name_of(m) == name]
        (fields,) = (i.unpack(message) for message in said)
        return list(fields[1:])


@lru_cache(maxsize=2)
def ckks_session(ending: Any) -> CkksSession:
    """One with several vectors, signed; the last client is lost in input."""
    roster, identities = throwaway_identities(CKKS_IDS)
    scheme = CKKS.for_cohort(len(CKKS_IDS), CKKS_VECTORS, ending=ending, roster=roster)
    server = Recorded(scheme.server(CKKS_IDS, b"task", roster=roster))
    chance = {u: Counter(f"client {u}") for u in CKKS_IDS}
    clients = {
        u: scheme.client(
            u, lambda task, x=x: x, rounding_seed=bytes(32), identity=identities[u], rng=chance[u]
        )
        for u, x in CKKS_INPUTS.items()
    }
    outbox = {u: client.start() for u, client in clients.items()}
    while server.result is None:
        for u, message in outbox.items():
            if u != CKKS_IDS[-1] or server.round != "input":
                server.receive(u, message)
        outbox = {u: clients[u].receive(request) for u, request in server.advance().items()}
    _, K = (drawn for drawn in chance[0].drawn if len(drawn) == 32)
    return CkksSession(scheme, server.view, K, clients[0].result if ending == "keep" else server.result)


def _state_of(client: Any) -> str:
    state = getattr(client, "_state", None)
    return type(state).__name__.lstrip("_") if state is not None else ""


def name_of(message: bytes) -> str:
    return str(msgspec.msgpack.decode(message)[0])


def states(scheme: str = "masking") -> str:
    """The state machine of a client, and of a relay: every step of these sessions, and the page fails if a
    state has none.
    """
    sessions = [session for name, session in played().items() if name.startswith(scheme)]
    steps = list(dict.fromkeys(step for session in sessions for step in session.steps))
    order = list(dict.fromkeys(state for state, *_ in steps))
    if set(order) != {"", *awaited(scheme)}:
        raise LookupError(f"no session goes through {set(awaited(scheme)) - set(order)}")
    lines = ["```mermaid", "stateDiagram-v2"]
    for state, message, following, reply in sorted(steps, key=lambda step: order.index(step[0])):
        label = f"{message} / {reply}" if message else f"/ {reply}"
        lines.append(f"    {state or '[*]'} --> {following or '[*]'}: {label}")
    return "\n".join([*lines, "```"])


def awaited(scheme: str) -> list[str]:
    """The types of its modules that await something."""
    everything = [pair for module in CLIENTS[scheme] for pair in vars(module).items()]
    kinds = [name.lstrip("_") for name, kind in everything if inspect.isclass(kind)]
    return [name for name in kinds if name.startswith("Awaiting") or name == "Added"]


def ckks_states() -> str:
    return states("ckks")


def decoys_states() -> str:
    return states("decoys")


def split_states() -> str:
    return states("split")


def rounds(page: str = "") -> str:
    made: list[tuple[str, ...]] = []
    for name, session in played().items():
        if not told_on(page, name):
            continue
        for at, (round, opens, answers) in enumerate(session.rounds):
            before = [
                session.said[said] for _, _, said in session.rounds[1:at]
            ]  # after the join, which all say
            number = bool(opens) + before.count(session.said[answers])
            request = f"`{opens}` (number {number - 1})" if opens else "the `offer` frame"
            answer = f"`{answers}` (number {number})"
            made.append((name if not opens else "", f"`{round}`", request, answer))
    return table(("session", "round", "opened by", "answered by"), made)


def ckks_rounds() -> str:
    return rounds("ckks")


def decoys_rounds() -> str:
    return rounds("decoys")


def split_rounds() -> str:
    return rounds("split")


# Constants.

CONSTANTS = (
    *("secagg.crypto", "secagg.shamir", "secagg.prg", "secagg.wire", "secagg.params", "secagg.specs"),
    *("secagg.noise", "secagg.private", "secagg.policy"),
    *(
        "secagg.graph",
        "secagg.masking.choice",
        "secagg.masking.groups",
        "secagg.masking.messages",
        "secagg.ckks",
        "secagg.ckks.ring",
    ),
    *("secagg.ckks.packing", "secagg.ckks.derived", "secagg.ckks.messages", "secagg.schemes"),
    *("secagg.split", "secagg.split.messages"),
    *("secagg.decoys", "secagg.decoys.plan", "secagg.decoys.transform"),
    *("transport.frames", "transport.router", "transport.connections", "transport.exchange"),
    *("transport.server", "transport.line", "transport.roster"),
)
NOT_OF_THE_WIRE = {
    "secagg.prg.BLOCK_BYTES",
    "secagg.schemes.SCHEMES",
    "secagg.specs.BLOCK",
    "transport.server.REASONS",
    "transport.server.TICK_SECONDS",
    "transport.connections.SCAN_MS",
    "transport.connections.SCANNED_A_MS",
}


def constants_of(module: str) -> dict[str, Any]:
    """Numbers and bytes with a public capital name that the module itself sets."""
    loaded = importlib.import_module(module)
    tree = ast.parse(Path(str(loaded.__file__)).read_text(encoding="utf-8"))
    names = [
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    ]
    values = {name: getattr(loaded, name) for name in names if re.fullmatch(r"[A-Z][A-Z_0-9]+", name)}
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, int | float | bytes | Mapping) and f"{module}.{name}" not in NOT_OF_THE_WIRE
    }


def constants(page: str = "") -> str:
    """What each is for is written on the page by hand."""
    text = OWN_PAGE.get(page, PAGE).read_text(encoding="utf-8")
    known = {name: what for name, _, what in rows(text, "constant", "value", "what")}
    made = [
        (f"`{name}`", _constant(value), known.get(f"`{name}`", NEW))
        for module in CONSTANTS
        if told_on(page, module)
        for name, value in constants_of(module).items()
    ]
    return table(("constant", "value", "what"), made)


def ckks_constants() -> str:
    return constants("ckks")


def decoys_constants() -> str:
    return constants("decoys")


def split_constants() -> str:
    return constants("split")


def _constant(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_constant(entry)}" for name, entry in value.items())
    if isinstance(value, bytes):
        return f"`{value.decode()}`"
    if isinstance(value, int) and value >= 2**64:
        return f"`{value:#x}`"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


# Small examples.

CKKS_RINGS = (Ring(2048, (22,)), Ring(4096, (31, 30)), Ring(8192, (50, 50)))


def ckks_example() -> str:
    """Primes; a polynomial's residues; what flooding is made of."""
    shown = {
        f"N {ring.degree}, β {', '.join(map(str, ring.prime_bits))}": (
            f"primes {' '.join(map(str, ring.primes))}, special {ring.special_prime}"
        )
        for ring in CKKS_RINGS
    }
    (q,) = CKKS_RINGS[0].primes
    x = points(CKKS_RINGS[0].degree, q)
    shown["ψ of the first"] = str(x[0])
    residues = " ".join(str((1 + 2 * x[at]) % q) for at in (0, 1, 2, 2047))
    shown["residues of 1 + 2 X"] = f"number 0, 1, 2 and 2047: {residues}"
    normal = " ".join(f"{g:.6f}" for g in gaussian(bytes(range(32)), 5))
    shown["g under 00 01 … 1f"] = f"S = 5: {normal}"
    return _named(shown)


def points(degree: int, q: int) -> list[int]:
    """Where polynomials are evaluated modulo q: psi^(2 rev(i) + 1), psi the least root of order 2N."""
    g = next(r for x in range(2, q) if pow(r := pow(x, (q - 1) // (2 * degree), q), degree, q) == q - 1)
    psi, width = min(pow(g, k, q) for k in range(1, 2 * degree, 2)), degree.bit_length() - 1
    return [pow(psi, 2 * int(f"{at:0{width}b}"[::-1], 2) + 1, q) for at in range(degree)]


def graph() -> str:
    """Seven members on eight places, four neighbours each."""
    seed, drawn = digest(Tag.GRAPH, bytes(32)), graph_of((0, 1, 2, 3, 5, 8, 300), 8, 4, bytes(32))
    words = next(keystream(seed, 8, np.uint64)).copy()
    lines = {
        "sid": "00 × 32",
        "seed": seed.hex(),
        "words": " ".join(f"{int(word):016x}" for word in words),
        "order": " ".join(str(at) for at in np.argsort(words, kind="stable")),
        "ring": " ".join("empty" if v is None else str(v) for v in drawn._ring),
        **{f"of {v}": " ".join(map(str, sorted(drawn.neighbours(v)))) for v in drawn.members},
    }
    return _named(lines, label=10, width=160)


def groups() -> str:
    """The same seven on eight places, in three groups."""
    members, sid = (0, 1, 2, 3, 5, 8, 300), bytes(32)
    seed = digest(Tag.GROUPS, sid, 3, b"".join(v.to_bytes(4, "big") for v in members))
    words = next(keystream(seed, 8, np.uint64)).copy()
    lines = {
        "base": "00 × 32",
        "seed": seed.hex(),
        "words": " ".join(f"{int(word):016x}" for word in words),
        "order": " ".join(str(at) for at in np.argsort(words, kind="stable")),
        **{
            f"group {j}": " ".join(map(str, sorted(group)))
            for j, group in enumerate(masking_groups.cut(members, 8, 3, sid))
        },
    }
    return _named(lines, label=10, width=160)


def _named(lines: Mapping[str, str], label: int = 22, width: int = 128) -> str:
    shown = ["```text"]
    for name, text in lines.items():
        pieces = [text[at : at + width] for at in range(0, len(text), width)] or [""]
        shown += [f"{name if not at else '':<{label}} {piece}" for at, piece in enumerate(pieces)]
    return "\n".join([*shown, "```"])


# Files.


def _key(byte: int, kind: Any, id: int | None = None) -> PrivateKey:
    """From seeds of one byte each; a roster key has no CURVE key."""
    signing = Ed25519PrivateKey.from_private_bytes(bytes([0x60 + byte]) * 32)
    secret = b"" if kind == "roster" else z85.encode(bytes([0x80 + byte]) * 32)
    return PrivateKey(kind, id, secret, zmq.curve_public(secret) if secret else b"", signing)


def files() -> str:
    clients = [_key(k, "client", u) for k, u in enumerate((0, 1, 2, 300))]
    roster_key = _key(9, "roster")
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        write_private(at / "client300.key", clients[-1])
        write_public(at / "server.pub", _key(8, "server").public)
        shown = {path.name: path.read_text() for path in sorted(at.iterdir())}
        (at / "roster").write_bytes(sign((key.public for key in clients), 1, roster_key))
        shown["roster"] = (at / "roster").read_text()
        digest = read_roster(at / "roster", roster_key.public).identities.digest
    lines = [line for name, text in shown.items() for line in (f"`{name}`", "```text", text + "```", "")]
    return "\n".join([*lines, f"The digest of this roster: `{digest.hex()}`."])


# One whole session: of the vectors, which this package plays again and tests/vectors/independent.py computes.

NAME = "complete-active-drop-masked-input"
RECORD = load(f"sessions/{NAME}")
U, V = "300", "0"  # whose part is shown, and with whom


def session() -> str:
    """What client U draws, comes to and says, in the order in which it comes up."""
    client, sid = RECORD["clients"][U], bytes.fromhex(RECORD["sid"])
    (pair,) = [pair for pair in RECORD["pairs"] if (str(pair["u"]), str(pair["v"])) == (V, U)]
    said = {m["round"]: _fields(m) for m in RECORD["messages"] if m["from"] == int(U)}
    of_key, of_mask = said["share-keys"][3][int(V)]
    lines = {
        "offer": RECORD["offer"],
        **{name: RECORD[name] for name in ("parameters", "task", "context", "nonce")},
        "roster": RECORD["roster"]["digest"],
        "Ed25519 seed": RECORD["roster"]["secrets"][U],
        **{name: client[name] for name in ("c_sk", "c_pk", "s_sk", "s_pk", "b_u")},
        "a_1 of s_sk": client["key_coefficients"][0],
        "a_1 of b_u": client["mask_coefficients"][0],
        f"nonce for {V}": client["nonces"][V],
        "signature of the keys": said["advertise-keys"][3].hex(),
        "sid": RECORD["sid"],
        f"c_uv with {V}": pair["c_uv"],
        "share-key": i.kdf("share-key", bytes.fromhex(pair["c_uv"]), sid, int(U), int(V)).hex(),
        "share-data": i.digest("share-data", sid, int(U), int(V)).hex(),
        "share of s_sk": client["shares"][V][0],
        "share of b_u": client["shares"][V][1],
        f"sealed {U}→{V}": said["share-keys"][1][int(V)].hex(),
        "commit-mask": said["share-keys"][2].hex(),
        "of_key": of_key.hex(),
        "of_mask": of_mask.hex(),
        "signature of shares": said["share-keys"][4].hex(),
        f"s_uv with {V}": pair["s_uv"],
    }
    masks = {"self": client["self_mask"]}
    for other in (v for v in RECORD["U2"] if v != int(U)):
        (mine,) = [p for p in RECORD["pairs"] if {p["u"], p["v"]} == {int(U), other}]
        masks[f"with {other}"] = mine["pair_mask"]
    for at, (name, spec) in enumerate(RECORD["vectors"].items()):
        lines[f"x {name}"] = f"{' '.join(map(str, client['inputs'][name]))}"
        lines[f"codes {name}"] = f"b = {spec['ring_bits']}: {' '.join(map(str, client['codes'][name]))}"
        for which, mask in masks.items():
            more = " …" if spec.get("length", 1) > len(mask[name]["words"]) else ""
            lines[f"{which}, {name}"] = f"{mask[name]['seed']}: {' '.join(mask[name]['words'])}{more}"
        lines[f"packed {name}"] = said["masked-input"][1][at].hex()
    for sets, ids in {"U1, U2": RECORD["U1"], "U3": RECORD["U3"]}.items():
        lines[f"members {sets}"] = i.digest("members", b"".join(v.to_bytes(4, "big") for v in ids)).hex()
    lines["signature of U3"] = said["consistency-check"][1].hex()
    for name, codes in RECORD["result"]["codes"].items():
        lines[f"sum of codes {name}"] = " ".join(map(str, codes))
    return _named(lines, label=26)


def conversation() -> str:
    """Every message of client U."""
    made: list[tuple[str, ...]] = []
    for message in RECORD["messages"]:
        if message["from"] == int(U) or (message["from"] == "server" and int(U) in message["to"]):
            data = bytes.fromhex(message["bytes"])
            shown = data.hex() if len(data) <= 48 else f"SHA-256 {hashlib.sha256(data).hexdigest()}"
            who = "server" if message["from"] == "server" else f"client {U}"
            made.append(
                (f"`{message['round']}`", who, f"`{_fields(message)[0]}`", str(len(data)), f"`{shown}`")
            )
    return table(("round", "from", "message", "bytes", "whole, or its SHA-256"), made)


def _fields(message: Mapping[str, Any]) -> list[Any]:
    return list(i.unpack(bytes.fromhex(message["bytes"])))


BLOCKS: Mapping[Path, tuple[Callable[[], str], ...]] = {
    PAGE: (
        *(messages, frames, parameters, offer_example, choices, states, rounds, constants, graph, groups),
        *(files, session, conversation),
    ),
    CKKS_PAGE: (
        *(ckks_messages, ckks_rounds, ckks_states, ckks_parameters, ckks_choices, ckks_example),
        ckks_constants,
    ),
    SPLIT_PAGE: (split_messages, split_rounds, split_states, split_parameters, split_constants),
    DECOYS_PAGE: (
        *(decoys_messages, decoys_rounds, decoys_states, decoys_parameters, decoys_choices),
        decoys_constants,
    ),
}


def current(page: Path) -> str:
    """The page with every block as the code has it now."""
    blocks = {function.__name__: function() for function in BLOCKS[page]}
    return rewritten(page.read_text(encoding="utf-8"), blocks)


if __name__ == "__main__":
    for page in BLOCKS:
        page.write_text(current(page))
