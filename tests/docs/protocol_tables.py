"""What the code decides of docs/protocol.md and docs/protocol-ckks.md: `python -m tests.docs.protocol_tables`
writes their blocks.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import re
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

from secagg import CKKS, Bounded, Counts, Identity, Masking, Plain, Recorded, Roster, Weight
from secagg.ckks import client as ckks_client
from secagg.ckks import derived as ckks_derived
from secagg.ckks.flooding import gaussian
from secagg.ckks.ring import Ring
from secagg.crypto import SecretKey, SigningKey, Tag, digest
from secagg.graph import Graph, graph_of
from secagg.inputs import encode_inputs
from secagg.masking import client as client_module
from secagg.masking.client import MaskingClient, advertise_keys
from secagg.masking.derived import (
    commit_mask,
    commit_shares,
    keys_statement,
    members_statement,
    pair_mask_key,
    self_mask_key,
    session_id,
    share_data,
    share_key,
    shares_statement,
)
from secagg.masking.messages import Commitments, ShareKeys
from secagg.prg import keystream
from secagg.shamir import share
from secagg.wire import MAX_ID, Join, Message, decode
from transport.frames import ClientFrame, Frame, ServerFrame
from transport.keys import PrivateKey, write_private, write_public
from transport.roster import read as read_roster
from transport.roster import sign

DOCS = Path(__file__).parents[2] / "docs"
PAGE, CKKS_PAGE = DOCS / "protocol.md", DOCS / "protocol-ckks.md"


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
        case msgspec.inspect.StructType():
            return f'"{type.tag}"'
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


def table(*header: str, rows: Iterator[tuple[str, ...]] | list[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def subclasses(kind: type) -> Iterator[type]:
    for sub in kind.__subclasses__():
        yield sub
        yield from subclasses(sub)


# Messages and frames.


MODULES = ("secagg.wire", "secagg.masking.messages", "secagg.plain", "secagg.ckks.messages")


def message_kinds(*, ckks: bool) -> list[type[Message]]:
    """Those of one page, by module in the order in which each defines them."""
    kinds = [kind for kind in subclasses(Message) if kind.__module__.startswith("secagg.")]
    mine = [kind for kind in kinds if ("ckks" in kind.__module__) == ckks]
    return sorted(mine, key=lambda kind: MODULES.index(kind.__module__))


def _as_array(kind: type[msgspec.Struct]) -> str:
    return f"`{_array(tag_of(kind), [f'{name}: {type}' for name, type in fields_of(kind)])}`"


def messages(*, ckks: bool = False) -> str:
    said = {tag for session in played().values() for tag in session.said}
    rows = [
        (f"`{tag_of(kind)}`", "client" if tag_of(kind) in said else "server", _as_array(kind))
        for kind in message_kinds(ckks=ckks)
    ]
    return table("message", "from", "as an array", rows=rows)


def ckks_messages() -> str:
    return messages(ckks=True)


def frames() -> str:
    from_client, from_server = typing.get_args(ClientFrame), typing.get_args(ServerFrame)
    rows = []
    for kind in Frame.__subclasses__():
        who = ["client"] * (kind in from_client) + ["server"] * (kind in from_server)
        rows.append((f"`{tag_of(kind)}`", ", ".join(who), _as_array(kind)))
    return table("frame", "from", "header", rows=rows)


# Parameters.

_LENGTH = "coordinates"
FIELDS: Mapping[tuple[str, str], str] = {
    ("masking", "clients"): "n, clients of the cohort, 1..1,000,000",
    ("masking", "vectors"): "name → specification, 1..64 of them",
    ("masking", "small_cohort"): "true allows n < 3, where a sum hides nothing",
    ("masking", "threshold"): "t, shares that rebuild a secret",
    ("masking", "m_min"): "smallest U1, U2 and U3",
    ("masking", "degree"): "k, neighbours of a client; n − 1 is the complete graph",
    ("masking", "adversary"): "what the server may do",
    ("masking", "corrupt"): "A, clients that may be on the server's side",
    ("masking", "dropout"): "d, clients the session can lose by the choice of its numbers",
    ("masking", "batch"): "B, clients are summed by whole batches of so many; 0: no batches",
    ("masking", "prg"): "cipher of the masks",
    ("masking", "roster"): "active: the roster's digest, 32 bytes; semi-honest: empty",
    ("ckks", "clients"): "n",
    ("ckks", "vectors"): "as in masking",
    ("ckks", "small_cohort"): "as in masking",
    ("ckks", "adversary"): "semi-honest and nothing else",
    ("ckks", "degree"): "N, section 3",
    ("ckks", "prime_bits"): "β of the primes, section 3",
    ("ckks", "scale"): "Δ, section 3",
    ("ckks", "m_min"): "smallest U1, U2 and U3",
    ("ckks", "ending"): "clients keep the sum, or release it to the server",
    ("ckks", "flood_bits"): "40 where the sum is released, else 0",
    (
        "ckks",
        "roster",
    ): "digest of the roster under which keys are signed, 32 bytes; empty: nothing is signed",
    ("plain", "clients"): "n",
    ("plain", "vectors"): "as in masking",
    ("plain", "small_cohort"): "as in masking",
    ("bounded", "length"): "m, coordinates, 1..2^29",
    ("bounded", "bound"): "r, range of a coordinate, 1e-30..1e30",
    ("bounded", "bits"): "q, 2..32",
    ("bounded", "clip"): "C, largest L2 norm, 1e-30..1e30; nil: no limit",
    ("counts", "length"): "m, 1..2^29",
    ("counts", "maximum"): "largest value, 1..2^53 − 1",
    ("weight", "maximum"): "w_max, 1..2^31 − 1; the vector has one coordinate",
}


def parameters() -> str:
    return _objects(Masking, Plain, Bounded, Counts, Weight)


def ckks_parameters() -> str:
    return _objects(CKKS)


def _objects(*kinds: type[msgspec.Struct]) -> str:
    rows = []
    for kind in kinds:
        info = msgspec.inspect.type_info(kind)
        assert isinstance(info, msgspec.inspect.StructType)
        rows.append((f"`{info.tag}`", f"`{info.tag_field}`", f'str "{info.tag}"', "", ""))
        for field in sorted(info.fields, key=lambda field: field.name):
            default = "" if field.required else f"`{_shown(field.default)}`"
            meaning = FIELDS[str(info.tag), field.name]
            rows.append(("", f"`{field.name}`", wire_type(field.type), default, meaning))
    return table("object", "field", "type", "default of secagg", "meaning", rows=rows)


def _shown(value: Any) -> str:
    words = {None: "nil", False: "false", b"": "empty"}
    return words[value] if value is None or value is False or value == b"" else str(value)


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
    rows = []
    for adversary in ("semi-honest", "active"):
        for n in (3, 4, 10, 50, 100, 1000, 10_000):
            roster = Roster(bytes(32), {}) if adversary == "active" else None
            scheme = Masking.for_cohort(n, Counts(length=1, maximum=1), adversary=adversary, roster=roster)
            numbers = (scheme.corrupt, scheme.dropout, scheme.degree, scheme.threshold, scheme.m_min)
            graph = "complete" if scheme.complete else "sparse"
            rows.append((adversary, str(n), *map(str, numbers), graph))
    return table("adversary", "n", "A", "d", "k", "t", "m_min", "graph", rows=rows)


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
    rows = []
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
        rows.append((str(n), ending, vector_of(spec), *numbers, str(plan.slots), f"{plan.upload_bytes:,}"))
    header = ("n", "ending", "vector", "N", "β", "Δ", "cap", "layout", "S", "Y")
    return table(*header, rows=rows)


def vector_of(spec: Bounded | Counts | Weight) -> str:
    match spec:
        case Bounded():
            return f"bounded, length {spec.length}, bits {spec.bits}"
        case Counts():
            return f"counts, length {spec.length}, maximum {spec.maximum}"
    return f"weight, maximum {spec.maximum}"


# States and rounds.

CLIENTS: Mapping[str, Any] = {"masking": client_module, "ckks": ckks_client}


def awaited(scheme: str = "masking") -> dict[str, type]:
    """The types of a scheme's client.py that await something."""
    return {
        name.lstrip("_"): kind
        for name, kind in vars(CLIENTS[scheme]).items()
        if inspect.isclass(kind) and name.lstrip("_").startswith("Awaiting")
    }


def _hints(function: Any) -> dict[str, Any]:
    known = {**vars(importlib.import_module(function.__module__)), "Masking": Masking, "CKKS": CKKS}
    return typing.get_type_hints(function, known)


def _consumed(function: Any) -> type[Message] | None:
    """The message among a function's arguments."""
    hints = {name: hint for name, hint in _hints(function).items() if name != "return"}
    found = [h for h in hints.values() if inspect.isclass(h) and issubclass(h, Message)]
    return found[0] if found else None


def _transitions_of(kind: type) -> list[Any]:
    own = [f for name, f in vars(kind).items() if inspect.isfunction(f) and not name.startswith("__")]
    return [f for f in own if _consumed(f) is not None and _outcome(f) is not None]


def _outcome(function: Any) -> tuple[list[str], type[Message]] | None:
    """(next states, reply) of a transition, by its return annotation."""
    hint = _hints(function)["return"]
    if inspect.isclass(hint):
        return ([], hint) if issubclass(hint, Message) else None
    parts = typing.get_args(hint)
    if len(parts) != 2 or not (inspect.isclass(parts[1]) and issubclass(parts[1], Message)):
        return None
    kinds = typing.get_args(parts[0]) or (parts[0],)
    return [kind.__name__ for kind in kinds if kind.__name__.startswith("Awaiting")], parts[1]


Edge = tuple[str, str, str, str]
"""(state, message, next state, reply); the empty state is before the first and after the last."""


def transitions(scheme: str = "masking") -> list[Edge]:
    """The client's state machine, from the types of its transitions."""
    edges: list[Edge] = [("", "", "AwaitingTask", tag_of(Join))]
    first: Mapping[str, tuple[Any, Any]] = {
        "masking": (MaskingClient._take_task, advertise_keys),
        "ckks": (ckks_client.CKKSClient._take_task, ckks_client.advertise_key),
    }
    for name, kind in awaited(scheme).items():
        if name == "AwaitingTask":  # it knows nothing yet: its transition is a function of the terms
            method, outcome = first[scheme][0], _outcome(first[scheme][1])
        else:
            (method,) = _transitions_of(kind)
            outcome = _outcome(method)
        consumed = _consumed(method)
        assert outcome is not None
        assert consumed is not None
        following, reply = outcome
        edges += [(name, tag_of(consumed), state, tag_of(reply)) for state in following or [""]]
    order = ["", *awaited(scheme)]
    return sorted(edges, key=lambda edge: (edge[0] != "", edge[0] != "AwaitingTask", order.index(edge[0])))


def states(scheme: str = "masking") -> str:
    lines = ["```mermaid", "stateDiagram-v2"]
    for state, message, following, reply in transitions(scheme):
        label = f"{message} / {reply}" if message else f"/ {reply}"
        lines.append(f"    {state or '[*]'} --> {following or '[*]'}: {label}")
    return "\n".join([*lines, "```"])


def ckks_states() -> str:
    return states("ckks")


@dataclass(frozen=True)
class Played:
    """rounds: (round, what opens it, what answers it). said: all that clients say. steps: a client's."""

    rounds: list[tuple[str, str, str]]
    said: set[str]
    steps: set[Edge]


def _name_of(message: bytes) -> str:
    return str(msgspec.msgpack.decode(message)[0])


@lru_cache(maxsize=1)
def played() -> dict[str, Played]:
    """One session of each kind, as it was seen."""
    spec = Counts(length=1, maximum=1)
    identities = example().identities
    roster = identities[0].roster
    schemes = {
        "masking, active": Masking.for_cohort(4, spec, adversary="active", roster=roster),
        "masking, semi-honest": Masking.for_cohort(4, spec),
        "plain": Plain.for_cohort(4, spec),
        "ckks, keep": CKKS.for_cohort(4, spec, roster=roster),
        "ckks, release": CKKS.for_cohort(4, spec, ending="release", roster=roster),
    }
    result = {}
    for name, scheme in schemes.items():
        server = Recorded(scheme.server(identities.keys(), roster=roster))
        clients = {u: scheme.client(u, lambda task: [1], identity=identities[u]) for u in identities}
        steps, outbox = set(), {}
        for u, client in clients.items():
            outbox[u] = client.start()
            steps.add(("", "", _state_of(client), _name_of(outbox[u])))
        while server.result is None:
            for u, message in outbox.items():
                server.receive(u, message)
            outbox = {}
            for u, request in server.advance().items():
                before = _state_of(clients[u])
                outbox[u] = reply = clients[u].receive(request)
                assert reply is not None
                steps.add((before, _name_of(request), _state_of(clients[u]), _name_of(reply)))
        opened = {round: _name_of(message) for round, _, message in server.view.sent}
        answered = {round: _name_of(message) for round, _, message in server.view.received}
        rounds = [(round, opened.get(round, ""), answered[round]) for round in scheme.rounds]
        result[name] = Played(rounds, set(answered.values()), steps)
    return result


def _state_of(client: Any) -> str:
    state = getattr(client, "_state", None)
    return type(state).__name__.lstrip("_") if state is not None else ""


def rounds(*, ckks: bool = False) -> str:
    rows = []
    for name, session in played().items():
        if name.startswith("ckks") != ckks:
            continue
        for number, (round, opens, answers) in enumerate(session.rounds):
            request = f"`{opens}` (number {number - 1})" if opens else "the `offer` frame"
            rows.append((name if not number else "", f"`{round}`", request, f"`{answers}` (number {number})"))
    return table("session", "round", "opened by", "answered by", rows=rows)


def ckks_rounds() -> str:
    return rounds(ckks=True)


# Constants.

CONSTANTS: Mapping[str, Mapping[str, str]] = {
    "secagg.crypto": {
        "PROTOCOL_VERSION": "in every transcript and in `join`",
        "KEY_BYTES": "of a key, a nonce of the server, b_u",
        "NONCE_BYTES": "of AES-GCM",
        "AE_OVERHEAD": "bytes of a ciphertext beyond its plaintext",
        "DIGEST_BYTES": "of SHA-256",
        "SIGNATURE_BYTES": "of Ed25519",
    },
    "secagg.shamir": {"PRIME": "2^256 + 297", "SHARE_BYTES": "of one share, big-endian"},
    "secagg.prg": {"SEED_BYTES": "of a stream's seed"},
    "secagg.wire": {"MAX_ID": "largest id, 2^31 − 2", "MAX_TASK_BYTES": "of a task"},
    "secagg.params": {
        "MAX_CLIENTS": "largest n",
        "MAX_VECTORS": "of a session",
        "MAX_NAME": "bytes of a vector's name, UTF-8",
    },
    "secagg.specs": {"MAX_RING_BITS": "largest b", "MAX_LENGTH": "coordinates of all vectors together"},
    "secagg.graph": {"SIGMA": "σ, bits of conditions (1) and (2)", "ETA": "η, bits of condition (3)"},
    "secagg.masking.choice": {
        "CORRUPT": "A of n (semi-honest) or of the roster (active)",
        "DROPOUT": "d of n",
        "SMALLEST_SPARSE": "n from which on a sparse graph is offered unasked",
    },
    "secagg.masking.messages": {"SEALED_BYTES": "two shares under AES-GCM"},
    "secagg.ckks": {"FLOOD_BITS": "of a sum that is released"},
    "secagg.ckks.ring": {
        "SECURITY_BITS": "of the rings, against classical computers",
        "MAX_MODULUS_BITS": "N, and the bits of the largest modulus with it",
        "SPECIAL_BITS": "of the special prime",
        "MAX_PRIME_BITS": "of a prime of the ring",
        "ERROR_VARIANCE": "of a coefficient of a fresh ciphertext",
    },
    "secagg.ckks.packing": {"GRID": "steps of what is released, in units of the scale"},
    "secagg.ckks.derived": {"MAKERS": "clients that make a key", "RELEASERS": "clients that release the sum"},
    "secagg.ckks.messages": {
        "SEALED_BYTES": "K under AES-GCM",
        "MAX_SECRET_BYTES": "of a sealed CKKS key",
    },
    "secagg.policy": {"MAX_OFFER_BYTES": "longest offer that is read"},
    "transport.frames": {
        "TRANSPORT_VERSION": "in `hello` and `refuse`",
        "CHUNK_BYTES": "of a chunk, and of a message that travels with its announcement",
        "WINDOW": "chunks asked for and not yet here",
        "MAX_FRAME_BYTES": "of one part of a frame",
        "MAX_MESSAGE_BYTES": "largest size, number or offset that can be written",
        "SESSION_BYTES": "of a session's name",
        "CHECKSUM_BYTES": "of a message's checksum",
    },
    "transport.router": {
        "LINGER_MS": "server's, at closing",
        "HANDSHAKE_MS": "then a connection without one is closed",
        "UNACKNOWLEDGED_MS": "then a connection is taken to be dead",
        "QUEUED": "frames of one connection that the server keeps unread",
        "UNGREETED": "connections that may stand without a hello, besides two of each client",
        "ZAP_DOMAIN": "server's; a client sets none",
        "PING_SECONDS": "between two `ping` frames",
    },
    "transport.connections": {
        "UNREAD_BYTES": "of one connection that the server has not read, at most",
        "UNGREETED_BYTES": "the same, before a hello",
        "HEARTBEAT_BYTES": "a second that are not counted",
        "RETIRE_SECONDS": "until a connection that was replaced is broken",
    },
    "transport.exchange": {
        "MAX_STAGED": "uploads that are pulled at once",
        "STALL_SECONDS": "after which an upload that stands still is given up",
        "JOIN_BYTES": "longest message with number 0 that is taken",
    },
    "transport.server": {
        "FINISH_SECONDS": "that a round waits on for those without whom no sum can be finished",
        "JOIN_SECONDS": "of the join",
        "SLOW_SECONDS": "of a round in which clients compute for long",
        "ROUND_SECONDS": "of any other round",
    },
    "transport.client": {
        "PATIENCE_SECONDS": "without a frame, then the server is gone",
    },
    "transport.keys": {},
    "transport.roster": {"MAX_VERSION": "of a roster", "MAX_FILE": "bytes of a roster"},
}
NOT_OF_THE_WIRE = {
    "secagg.prg.BLOCK_BYTES",
    "transport.server.TICK_SECONDS",
    "transport.connections.SCAN_MS",
    "secagg.specs.BLOCK",
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


def constants(*, ckks: bool = False) -> str:
    rows = []
    for module, meanings in CONSTANTS.items():
        if ("ckks" in module) != ckks:
            continue
        values = constants_of(module)
        if values.keys() != meanings.keys():
            raise LookupError(f"{module}: {sorted(values.keys() ^ meanings.keys())} are in one place only")
        rows += [(f"`{name}`", _constant(values[name]), meaning) for name, meaning in meanings.items()]
    return table("constant", "value", "what", rows=rows)


def ckks_constants() -> str:
    return constants(ckks=True)


def _constant(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_constant(entry)}" for name, entry in value.items())
    if isinstance(value, bytes):
        return f"`{value.decode()}`"
    if isinstance(value, int) and value >= 2**64:
        return f"`{value:#x}`"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


# Small examples.


def sparse_example() -> tuple[bytes, Graph]:
    """Seven members on eight places, four neighbours each."""
    sid = bytes(32)
    return digest(Tag.GRAPH, sid), graph_of((0, 1, 2, 3, 5, 8, 300), 8, 4, sid)


CKKS_RINGS = (Ring(2048, (22,)), Ring(4096, (31, 30)), Ring(8192, (50, 50)))


def ckks_example() -> str:
    """Primes; a polynomial's residues; what flooding is made of."""
    lines = ["```text"]
    for ring in CKKS_RINGS:
        name = f"N {ring.degree}, β {', '.join(map(str, ring.prime_bits))}"
        lines += _named(name, f"primes {' '.join(map(str, ring.primes))}, special {ring.special_prime}")
    ring = CKKS_RINGS[0]
    (q,) = ring.primes
    psi = least_root(q, ring.degree)
    at = [pow(psi, 2 * int(f"{i:011b}"[::-1], 2) + 1, q) for i in (0, 1, 2, 2047)]
    lines += _named("ψ of the first", str(psi))
    shown_residues = " ".join(str((1 + 2 * x) % q) for x in at)
    lines += _named("residues of 1 + 2 X", f"number 0, 1, 2 and 2047: {shown_residues}")
    normal = " ".join(f"{g:.6f}" for g in gaussian(bytes(range(32)), 5))
    lines += _named("g under 00 01 … 1f", f"S = 5: {normal}")
    return "\n".join([*lines, "```"])


def least_root(q: int, degree: int) -> int:
    """The least primitive root of unity of order 2N modulo q."""
    g = next(r for x in range(2, q) if pow(r := pow(x, (q - 1) // (2 * degree), q), degree, q) == q - 1)
    return min(pow(g, k, q) for k in range(1, 2 * degree, 2))


def graph() -> str:
    seed, drawn = sparse_example()
    words = next(keystream(seed, 8, np.uint64)).copy()
    places = ["empty" if v is None else str(v) for v in drawn._ring]
    lines = [
        "```text",
        "sid        00 × 32",
        f"seed       {seed.hex()}",
        f"words      {' '.join(f'{int(word):016x}' for word in words)}",
        f"order      {' '.join(str(i) for i in np.argsort(words, kind='stable'))}",
        f"ring       {' '.join(places)}",
        *(f"of {v:<7} {' '.join(map(str, sorted(drawn.neighbours(v))))}" for v in drawn.members),
        "```",
    ]
    return "\n".join(lines)


# One whole session.

TASK = b"task"
IDS = (0, 1, 2, 300)
LOST = 300  # after it has shared keys
VECTORS = {"": Bounded(length=3, bound=7.0, bits=4), "weight": Weight(maximum=10)}
INPUTS = {
    0: {"": [1.0, -7.0, 3.0], "weight": 10},
    1: {"": [2.0, 2.0, 2.0], "weight": 10},
    2: {"": [-4.0, 0.0, 7.0], "weight": 10},
    300: {"": [5.0, 5.0, 5.0], "weight": 10},
}


def _filled(byte: int, size: int = 32) -> bytes:
    return bytes([byte]) * size


def _scripted(i: int) -> Callable[[int], bytes]:
    """What client number i draws: c_sk, s_sk, b_u; coefficients; nonces of AES-GCM."""
    drawn = {32: 0, 49: 0, 12: 0}

    def rng(size: int) -> bytes:
        k, drawn[size] = drawn[size], drawn[size] + 1
        if size == 32:
            return _filled(0x10 * (k + 1) + i)
        return _filled(0x50 + k, 12) if size == 12 else (10 * i + k + 1).to_bytes(size, "big")

    return rng


@dataclass(frozen=True)
class Example:
    """A session with every draw known; `lines` is what the page shows of it."""

    scheme: Masking
    identities: dict[int, Identity]
    roster_text: bytes
    key_files: dict[str, str]
    view: Any
    values: dict[str, Any]  # what the parts of the page's table of tags stand for
    made: dict[Tag, bytes]  # what the package makes under each tag

    def message(self, round: str, u: int, *, sent: bool) -> bytes:
        recorded = self.view.sent if sent else self.view.received
        return next(m for r, v, m in recorded if (r, v) == (round, u))


def _key(i: int, kind: Any = "client", id: int | None = None) -> PrivateKey:
    signing = Ed25519PrivateKey.from_private_bytes(_filled(0x60 + i))
    if kind == "roster":
        return PrivateKey(kind, None, b"", b"", signing)
    secret = z85.encode(_filled(0x80 + i))
    return PrivateKey(kind, id, secret, zmq.curve_public(secret), signing)


@lru_cache(maxsize=1)
def example() -> Example:
    keys = {u: _key(i, "client", u) for i, u in enumerate(IDS)}
    server_key, roster_key = _key(8, "server"), _key(9, "roster")
    roster_text = sign((key.public for key in keys.values()), 1, roster_key)
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        (at / "roster").write_bytes(roster_text)
        write_private(at / "client300.key", keys[300])
        write_public(at / "server.pub", server_key.public)
        listed = read_roster(at / "roster", roster_key.public).identities
        key_files = {path.name: path.read_text() for path in sorted(at.iterdir()) if path.name != "roster"}
    identities = {
        u: Identity(u, listed, SigningKey(key.signing.private_bytes_raw())) for u, key in keys.items()
    }
    scheme = Masking.for_cohort(4, VECTORS, adversary="active", roster=listed)
    server = Recorded(scheme.server(IDS, TASK, roster=listed, rng=lambda size: _filled(0x72, size)))
    clients = {
        u: scheme.client(
            u, lambda task, x=INPUTS[u]: x, rounding_seed=bytes(32), identity=identities[u], rng=_scripted(i)
        )
        for i, u in enumerate(IDS)
    }
    outbox = {u: client.start() for u, client in clients.items()}
    while server.result is None:
        for u, message in outbox.items():
            if u != LOST or server.round in ("join", "advertise-keys", "share-keys"):
                server.receive(u, message)
        outbox = {u: clients[u].receive(request) for u, request in server.advance().items()}  # type: ignore[misc]
    values, made = _under_each_tag(scheme, listed, server.view)
    return Example(scheme, identities, roster_text, key_files, server.view, values, made)


def _under_each_tag(scheme: Masking, roster: Roster, view: Any) -> tuple[dict[str, Any], dict[Tag, bytes]]:
    """What the parts in the page's table of tags stand for, of dealer 0 and holder 300; what they give."""
    nonce, u, v = _filled(0x72), 0, 300
    context, parameters = digest(Tag.CONTEXT, TASK), scheme.digest()
    c_sk = {w: SecretKey(_filled(0x10 + i)) for i, w in enumerate(IDS)}
    s_sk = {w: SecretKey(_filled(0x20 + i)) for i, w in enumerate(IDS)}
    keys = {w: (c_sk[w].public, s_sk[w].public, b"") for w in IDS}
    sid = session_id(nonce, parameters, context, keys)
    b_u = _filled(0x30)
    (dealt,) = [decode(ShareKeys, m) for r, w, m in view.received if r == "share-keys" and w == u]
    unsigned = ShareKeys(dealt.sealed, dealt.commitment, dealt.commitments, b"")
    points = [w + 1 for w in IDS]
    key_share = _dealt(s_sk[u].expose(), points, (1, 2))
    mask_share = _dealt(b_u, points, (3, 4))
    of_key, of_mask = (shares[v + 1].to_bytes(33, "big") for shares in (key_share, mask_share))
    both: Commitments = commit_shares(sid, u, v, of_key + of_mask)
    survivors = [w for w in IDS if w != LOST]
    c_uv, s_uv = c_sk[u].agree(c_sk[v].public), s_sk[u].agree(s_sk[v].public)
    values = {
        "offer": scheme.offer(),
        "task": TASK,
        "nonce": nonce,
        "parameters": parameters,
        "context": context,
        "roster": roster.digest,
        "keys": b"".join(w.to_bytes(4, "big") + keys[w][0] + keys[w][1] for w in IDS),
        "sid": sid,
        "u": u,
        "v": v,
        "dealer": u,
        "holder": v,
        "smaller": u,
        "larger": v,
        "name": "",
        "b_u": b_u,
        "c_uv": c_uv,
        "s_uv": s_uv,
        "c_pk": keys[u][0],
        "s_pk": keys[u][1],
        "seed": bytes(32),
        "ids": b"".join(w.to_bytes(4, "big") for w in survivors),
        "key_share": of_key,
        "mask_share": of_mask,
        "unsigned": msgspec.msgpack.encode(unsigned),
        "U1": _members(IDS),
        "U2": _members(IDS),
        "U3": _members(survivors),
        "listed": b"".join(w.to_bytes(4, "big") + roster.keys[w] for w in IDS),
        "maker": u,
        "ckks_keys": b"".join(w.to_bytes(4, "big") + c_sk[w].public for w in IDS),
        "sealed_key": b"sealed",
        "residues": b"residues",
        "upload": _filled(0x40),
    }
    ckks_keys = {w: (c_sk[w].public, b"") for w in IDS}
    made = {
        Tag.PARAMETERS: parameters,
        Tag.CONTEXT: context,
        Tag.SESSION: sid,
        Tag.GRAPH: digest(Tag.GRAPH, sid),
        Tag.SHARE_KEY: share_key(c_uv, sid, u, v),
        Tag.SHARE_DATA: share_data(sid, u, v),
        Tag.SELF_MASK: self_mask_key(b_u, sid, u, ""),
        Tag.PAIR_MASK: pair_mask_key(s_uv, sid, v, u, ""),
        Tag.MEMBERS: _members(survivors),
        Tag.COMMIT_MASK: commit_mask(sid, u, b_u),
        Tag.COMMIT_KEY_SHARE: both.of_key,
        Tag.COMMIT_MASK_SHARE: both.of_mask,
        Tag.SIGN_KEYS: keys_statement(parameters, roster.digest, context, nonce, u, *keys[u][:2]),
        Tag.SIGN_SHARES: shares_statement(sid, u, dealt),
        Tag.SIGN_MEMBERS: members_statement(sid, parameters, context, IDS, IDS, survivors),
        Tag.CKKS_SESSION: ckks_derived.session_id(nonce, parameters, context, ckks_keys),
        Tag.CKKS_SEAL_KEY: ckks_derived.seal_key(c_uv, sid, u, v),
        Tag.CKKS_SEAL_DATA: ckks_derived.seal_data(sid, u, v, b"sealed"),
        Tag.CKKS_UPLOAD: ckks_derived.upload_digest(sid, u, b"residues"),
        Tag.SIGN_CKKS_KEY: ckks_derived.key_statement(
            parameters, roster.digest, context, nonce, u, keys[u][0]
        ),
        Tag.SIGN_CKKS_SECRET: ckks_derived.secret_statement(sid, u, b"sealed"),
        Tag.SIGN_CKKS_UPLOAD: ckks_derived.upload_statement(sid, u, _filled(0x40)),
    }
    return values, made


def _dealt(secret: bytes, points: list[int], coefficients: tuple[int, ...]) -> dict[int, int]:
    draws = iter(coefficients)
    return share(int.from_bytes(secret, "big"), 3, points, lambda size: next(draws).to_bytes(size, "big"))


def _members(ids: Any) -> bytes:
    return digest(Tag.MEMBERS, b"".join(w.to_bytes(4, "big") for w in ids))


def files() -> str:
    shown = example()
    texts = {**shown.key_files, "roster": shown.roster_text.decode()}
    lines = [line for name, text in texts.items() for line in (f"`{name}`", "```text", text + "```", "")]
    return "\n".join([*lines, f"The digest of this roster: `{shown.values['roster'].hex()}`."])


def session() -> str:
    """The values of the example session, in the order in which they come up."""
    shown = example()
    values, made = shown.values, shown.made
    sid, bits = values["sid"], shown.scheme.ring_bits()
    x_0, _ = encode_inputs(shown.scheme, INPUTS[0], values["context"], bytes(32))
    lines = ["```text", *_named("offer", shown.scheme.offer().hex())]
    for name, value in [
        ("parameters", values["parameters"]),
        ("context", values["context"]),
        ("c_pk of 0", values["c_pk"]),
        ("s_pk of 0", values["s_pk"]),
        ("sigma of 0", decode_array(shown.message("advertise-keys", 0, sent=False))[3]),
        ("sid", sid),
        ("c_uv", values["c_uv"]),
        ("share-key", made[Tag.SHARE_KEY]),
        ("share-data", made[Tag.SHARE_DATA]),
        ("key share", values["key_share"]),
        ("mask share", values["mask_share"]),
        ("sealed 0→300", decode_array(shown.message("share-keys", 0, sent=False))[1][300]),
        ("commit-mask", made[Tag.COMMIT_MASK]),
        ("of_key", made[Tag.COMMIT_KEY_SHARE]),
        ("of_mask", made[Tag.COMMIT_MASK_SHARE]),
        ("sigma shares", decode_array(shown.message("share-keys", 0, sent=False))[4]),
        ("s_uv", values["s_uv"]),
    ]:
        lines += _named(name, value.hex())
    for name, y in x_0.items():
        label = f'"{name}"'
        lines += _named(f"x_0 {label}", f"b = {bits[name]}: " + " ".join(map(str, y)))
        seeds = {"self-mask": self_mask_key(values["b_u"], sid, 0, name)}
        for v in IDS[1:]:
            s_uv = SecretKey(_filled(0x20)).agree(SecretKey(_filled(0x20 + IDS.index(v))).public)
            seeds[f"pair-mask {v}"] = pair_mask_key(s_uv, sid, 0, v, name)
        for which, seed in seeds.items():
            words = next(keystream(seed, len(y), y.dtype, shown.scheme.prg))
            shown_words = " ".join(f"{int(w):0{2 * y.itemsize}x}" for w in words)
            lines += _named(f"{which} {label}", f"{seed.hex()}: {shown_words}")
        packed = decode_array(shown.message("masked-input", 0, sent=False))[1][sorted(x_0).index(name)]
        lines += _named(f"y_0 {label} packed", packed.hex())
    lines += _named("members U1, U2", values["U1"].hex())
    lines += _named("members U3", values["U3"].hex())
    lines += _named("sigma' of 0", decode_array(shown.message("consistency-check", 0, sent=False))[1].hex())
    aggregate = shown.view.aggregate
    lines += _named('sum of ""', " ".join(f"{v:g}" for v in aggregate.sum[""]))
    lines += _named('sum of "weight"', " ".join(map(str, aggregate.sum["weight"])))
    return "\n".join([*lines, "```"])


def decode_array(message: bytes) -> list[Any]:
    return list(msgspec.msgpack.decode(message, strict=True))


def _named(name: str, text: str, width: int = 128) -> list[str]:
    pieces = [text[i : i + width] for i in range(0, len(text), width)] or [""]
    return [f"{name if not i else '':<22} {piece}" for i, piece in enumerate(pieces)]


def conversation() -> str:
    """Every message of client 0 in the example session."""
    shown = example()
    rows = []
    for round in shown.scheme.rounds:
        for sent in (True, False):
            if sent and round == "join":
                continue
            message = shown.message(round, 0, sent=sent)
            whole = message.hex() if len(message) <= 48 else ""
            fingerprint = whole or f"SHA-256 {hashlib.sha256(message).hexdigest()}"
            who = "server" if sent else "client 0"
            rows.append((f"`{round}`", who, f"`{_name_of(message)}`", str(len(message)), f"`{fingerprint}`"))
    return table("round", "from", "message", "bytes", "whole, or its SHA-256", rows=rows)


_OF_PAGE: Mapping[Path, tuple[Callable[[], str], ...]] = {
    PAGE: (
        *(messages, frames, parameters, offer_example, choices, states, rounds, constants, graph),
        *(files, session, conversation),
    ),
    CKKS_PAGE: (
        *(ckks_messages, ckks_rounds, ckks_states, ckks_parameters, ckks_choices, ckks_example),
        ckks_constants,
    ),
}
BLOCKS: Mapping[Path, Mapping[str, Callable[[], str]]] = {
    page: {function.__name__: function for function in functions} for page, functions in _OF_PAGE.items()
}


def rewritten(page: Path) -> str:
    """The page with every block as the code has it now."""
    text = page.read_text(encoding="utf-8")
    for name, function in BLOCKS[page].items():
        begin, end = f"<!-- begin {name} -->\n", f"\n<!-- end {name} -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise LookupError(f"{page.name} has no block {name}")
        text = before + begin + function() + end + after
    return text


if __name__ == "__main__":
    for page in BLOCKS:
        page.write_text(rewritten(page))
