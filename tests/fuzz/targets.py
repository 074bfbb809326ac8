"""What is fuzzed: every place where bytes come in, with true bytes and the law for whatever comes instead.

The law of all: the result is a message, or RemoteProtocolError, or for the reader of a file TransportError.
Anything else that a target raises is a finding.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import msgspec
import numpy as np

from secagg import CKKS, Bounded, Counts, Masking, Plain, Policy, RemoteProtocolError
from secagg.bits import add_packed, check_packed, pack, packed_bytes, word_type
from secagg.schemes import SCHEMES, accept, read_offer
from secagg.wire import Message, decode, encode
from tests.fuzz import files, sessions, wires
from tests.fuzz.edits import edited
from tests.fuzz.sessions import (
    CKKS_PLAYED,
    MESSAGES,
    ONE,
    PLAYED,
    SPLIT_PLAYED,
    TAKEN,
    asked,
    ckks_asked,
    ckks_rounds,
    joint_rounds,
    refused,
    rounds,
    split_asked,
    split_rounds,
    split_shares,
)
from tests.play import identities


@dataclass(frozen=True)
class Target:
    """A function of bytes: which seed, and a script of edits to it.

    seeds: what arrives in truth. law: (which of them, what came instead) -> TAKEN, or the refusal in words.
    """

    seeds: Callable[[], Sequence[bytes]]
    law: Callable[[int, bytes], str]

    def __call__(self, data: bytes) -> str:
        words = self.law(*self.arrived(data))
        assert words.isprintable(), f"words that could upset a terminal: {words!r}"
        return words

    def arrived(self, data: bytes) -> tuple[int, bytes]:
        seeds = self.seeds()
        which = data[0] % len(seeds) if data else 0
        return which, edited(seeds[which], data[1:], seeds)


# Messages, offers and vectors


@cache
def said() -> list[tuple[type[Message], bytes]]:
    """Two messages of every kind that a session says, if there are two, and the kind."""
    heard = [
        message
        for scene in (*rounds(), *joint_rounds(), *ckks_rounds(), *split_rounds())
        for message in (*scene.requests.values(), *scene.play.answers.values())
    ]
    heard += split_shares()  # in seals
    found: dict[type[Message], list[bytes]] = {}
    for message in dict.fromkeys(bytes(message) for message in heard):
        (kind,) = [kind for kind in MESSAGES if refused(decode, kind, message) is None]
        found.setdefault(kind, []).append(message)
    return [(kind, message) for kind, messages in found.items() for message in (messages[0], messages[-1])]


def any_message(which: int, data: bytes) -> str:
    """At most one kind of message, and then it is said in no other way."""
    due, taken, words = said()[which][0], [], ""
    for kind in MESSAGES:
        try:
            message = decode(kind, memoryview(data))
        except RemoteProtocolError as refusal:
            words = str(refusal) if kind is due else words
        else:
            assert isinstance(message, kind)
            assert encode(message) == data
            taken.append(kind)
    assert len(taken) <= 1, taken
    return words or TAKEN


OFFERED = [
    *PLAYED.values(),
    Masking.for_cohort(200, {"m": Bounded(length=2**20, bound=0.5, bits=16, clip=4.0)}),
    Masking.for_cohort(3, Counts(length=2, maximum=1), m_min=3),
    Plain.for_cohort(1, Counts(length=1, maximum=2**40), small_cohort=True),
    *CKKS_PLAYED.values(),
    *SPLIT_PLAYED.values(),
]
POLICIES = [
    Policy(schemes=frozenset(SCHEMES), adversary="semi-honest", smallest_cohort=0),
    Policy(corrupt=1, threshold=3),
]


def any_offer(which: int, data: bytes) -> str:
    """Parameters that are possible, said in this way alone; a policy accepts or refuses them."""
    try:
        scheme = read_offer(data)
    except RemoteProtocolError as refusal:
        return str(refusal)
    assert scheme.offer() == data
    assert scheme.explain()
    coordinates = sum(spec.length for spec in scheme.vectors.values())
    assert scheme.largest_upload > (scheme.plan.upload_bytes if isinstance(scheme, CKKS) else coordinates)
    for policy in POLICIES:
        refusal = refused(accept, policy, data, identities(range(4))[0])
    return f"{TAKEN}; {refusal}" if refusal and data != OFFERED[which].offer() else TAKEN


PACKED = [(1, 1), (5, 7), (64, 8), (65, 62), (130, 33)]  # values, bits


@cache
def packed_seeds() -> list[bytes]:
    return [
        bytes(pack(np.arange(length, dtype=word_type(bits)) * 3 % 2**bits, bits)) for length, bits in PACKED
    ]


def any_packed(which: int, data: bytes) -> str:
    """Packed values, in one way alone."""
    length, bits = PACKED[which]
    try:
        check_packed(data, length, bits)
    except RemoteProtocolError as refusal:
        return str(refusal)
    total = np.zeros(length, word_type(bits))
    add_packed(total, memoryview(data), bits)
    assert len(data) == packed_bytes(length, bits)
    assert pack(total, bits) == data
    return TAKEN


# Tasks of federated averaging


@cache
def task_seeds() -> list[bytes]:
    """One of every model but ResNet-18, which has 45 MB."""
    from fl.config.plan import LocalPlan, ServerStep
    from fl.federation.task import Instructions
    from fl.models.architectures import FOR_TEXT, MODELS, Description, build
    from fl.models.weights import to_vector

    tasks = []
    for name in MODELS:
        if name != "resnet18":
            shape, classes = ((5,), 7) if name in FOR_TEXT else ((3, 10, 11), 4)
            description = Description(name, shape, classes)
            vector = to_vector(build(name, shape, classes, 0)).tobytes()
            tasks.append(
                msgspec.msgpack.encode(
                    Instructions(bytes(16), 1, description, vector, LocalPlan(), ServerStep())
                )
            )
    return tasks


def any_task(which: int, data: bytes) -> str:
    from fl.federation.task import read_instructions
    from fl.models.weights import to_vector

    try:
        instructions, model = read_instructions(data)
    except RemoteProtocolError as refusal:
        return str(refusal)
    assert msgspec.msgpack.encode(instructions) == data
    assert 4 * to_vector(model).size == len(instructions.parameters)
    return TAKEN


TARGETS: dict[str, Target] = {
    "messages": Target(cache(lambda: [message for _, message in said()]), any_message),
    "offers": Target(cache(lambda: [scheme.offer() for scheme in OFFERED]), any_offer),
    "packed": Target(packed_seeds, any_packed),
    "clients": Target(cache(lambda: [requests[0] for _, requests in asked()]), sessions.client_session),
    "servers": Target(
        cache(lambda: [scene.play.answers[ONE] for scene in rounds()]), sessions.server_session
    ),
    "joint-servers": Target(
        cache(lambda: [scene.play.answers[ONE] for scene in joint_rounds()]), sessions.joint_server_session
    ),
    "ckks-clients": Target(
        cache(lambda: [requests[0] for _, requests in ckks_asked()]), sessions.ckks_client_session
    ),
    "ckks-servers": Target(
        cache(lambda: [scene.play.answers[scene.one] for scene in ckks_rounds()]),
        sessions.ckks_server_session,
    ),
    "split-parties": Target(
        cache(lambda: [requests[0] for _, requests in split_asked()]), sessions.split_party_session
    ),
    "split-servers": Target(
        cache(lambda: [scene.play.answers[scene.one] for scene in split_rounds()]),
        sessions.split_server_session,
    ),
    "split-shares": Target(split_shares, sessions.opened_share),
    "frames": Target(wires.frame_seeds, wires.any_frame),
    "uploads": Target(wires.upload_seeds, wires.uploads),
    "downloads": Target(wires.download_seeds, wires.downloads),
    "rosters": Target(files.roster_seeds, files.any_roster),
    "rosters-seen": Target(files.seen_seeds, files.any_seen),
    "keys": Target(files.key_seeds, files.any_key),
    "journals": Target(lambda: files.JOURNALS, files.any_journal),
    "signed": Target(files.signed_seeds, files.any_signed),
}
if importlib.util.find_spec("torch"):
    TARGETS["tasks"] = Target(task_seeds, any_task)


def _forgets_a_case(which: int, data: bytes) -> str:
    fields = dict(zip("abcd", data, strict=False))
    return TAKEN if fields["c"] else "nothing"


def _makes_room(which: int, data: bytes) -> str:
    return str(len(bytearray(int.from_bytes(data[:4], "big"))))


def _never_ends(which: int, data: bytes) -> str:
    while len(data) < 3:
        pass
    return TAKEN


def _true() -> list[bytes]:
    return [b"\0\0\1\1"]


PLANTED = {
    "planted-error": Target(_true, _forgets_a_case),
    "planted-memory": Target(_true, _makes_room),
    "planted-hang": Target(_true, _never_ends),
}
"""Decoders with a bug, not among the others: that these are found shows that something is looked for."""
