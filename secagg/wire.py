"""How messages become bytes: msgpack through msgspec, decoded once, strictly, into a typed frozen message.

Three messages every scheme shares stand here: a client's Join, the Task that answers it, and a Joint, in
which a client's Join and its answer to the Task come as one.
"""

from __future__ import annotations

import hashlib
import itertools
from contextlib import suppress
from typing import Annotated, Any, TypeVar

import msgspec

from secagg.crypto import DIGEST_BYTES, KEY_BYTES, PROTOCOL_VERSION, SIGNATURE_BYTES, Tag, digest
from secagg.errors import RemoteProtocolError

MAX_ID = 2**31 - 2  # the Shamir point of client u is u + 1
MAX_TASK_BYTES = 2**31
MAX_OFFER_BYTES = 1 << 16  # the longest offer that is read
MAX_RELAYS = 16
FIRST_RELAY = 2**31  # relay j takes part as this + j: no client has such an id

Id = Annotated[int, msgspec.Meta(ge=0, le=MAX_ID)]
Digest = Annotated[bytes, msgspec.Meta(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]
Key = Annotated[bytes, msgspec.Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)]
Signature = Annotated[bytes, msgspec.Meta(max_length=SIGNATURE_BYTES)]  # empty where nothing is signed


Raw = bytes | bytearray | memoryview
"""A whole message as it arrived."""


class Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An array whose first entry is the message's name. Each kind is told to `decodes`."""


_decoders: dict[type[Message], msgspec.msgpack.Decoder[Any]] = {}


def decodes(*kinds: type[Message]) -> None:
    """What arrives may be of these kinds. Called where they are imported: msgspec (0.22) can crash where two
    threads decode a type for the first time at once.
    """
    _decoders.update({kind: msgspec.msgpack.Decoder(kind) for kind in kinds})


class Join(Message, frozen=True, tag="join"):
    """Client: here I am, with these parameters."""

    version: int
    parameters: Digest


class Task(Message, frozen=True, tag="task"):
    """Server: what this session is for. Opens advertise-keys, or in `plain` the input round."""

    nonce: Key
    task: Annotated[bytes, msgspec.Meta(max_length=MAX_TASK_BYTES)]


class Joint(Message, frozen=True, tag="joint"):
    """Client: here I am, with these parameters, and this is what I answer to the request that came with them.

    answer: the message that would have been said alone, had there been a Join before it.
    """

    version: int
    parameters: Digest
    answer: memoryview


decodes(Join, Task, Joint)


def relay_party(j: int) -> int:
    """The id under which relay j takes part in sessions, beside clients."""
    return FIRST_RELAY + j


def relay_of(party: int) -> int | None:
    """j of a relay's id; None of a client's."""
    return party - FIRST_RELAY if party >= FIRST_RELAY else None


def context_of(task: bytes) -> bytes:
    """What every key and every signature of a session binds of its task."""
    return digest(Tag.CONTEXT, task)


def fingerprint(message: Raw) -> bytes:
    """Which whole message this is, for whoever has to know it again."""
    return hashlib.sha256(message).digest()


M = TypeVar("M", bound=Message)

_encoder = msgspec.msgpack.Encoder()


def encode(message: Message) -> bytes:
    return _encoder.encode(message)


def decode(kind: type[M], data: Raw) -> M:
    """The message of that kind, and nothing else.

    Raises: RemoteProtocolError whatever else the bytes are: another message, a field out of range, bytes
    left over, ids that do not ascend, or another encoding of the same message.
    """
    try:
        message: M = _decoders[kind].decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"not a {kind.__struct_config__.tag} message: {error}") from None
    # One form a message: none of its bits is free for its sender to choose, and a signature over a message
    # that is encoded again (`shares_statement`) is over what arrived.
    encoded = _encoder.encode(message)
    # What one encoding begins with and is one itself is the whole of it. Not `!=`: a long memoryview would
    # be compared byte by byte.
    if not encoded.startswith(data):
        raise RemoteProtocolError(f"a {kind.__struct_config__.tag} message in a form that is not canonical")
    for name in kind.__struct_fields__:
        _check_ascending(getattr(message, name))
    return message


def decode_task(data: Raw) -> Task:
    """The task, in whatever message a scheme sends it. Raises: RemoteProtocolError as `decode`."""
    kinds = [kind for kind in _decoders if issubclass(kind, Task) and kind is not Task]
    for kind in kinds:
        with suppress(RemoteProtocolError):
            return decode(kind, data)
    return decode(Task, data)


def _check_ascending(field: object) -> None:
    """Ids, in a list or as the keys of a map, stand in one order and once."""
    if isinstance(field, dict | list):
        ids = [entry for entry in field if isinstance(entry, int)]
        if any(a >= b for a, b in itertools.pairwise(ids)):
            raise RemoteProtocolError("ids that do not ascend, or one that stands twice")


def check_join(data: Raw, parameters: bytes) -> None:
    """Raises: RemoteProtocolError if this Join speaks another version or has other parameters."""
    _check_terms(decode(Join, data), parameters)


def joint(parameters: bytes, answer: bytes) -> bytes:
    """The answer, and that its sender has joined with these parameters."""
    return encode(Joint(PROTOCOL_VERSION, parameters, memoryview(answer)))


def answer_in(data: Raw, parameters: bytes) -> Raw:
    """What a Joint brings. Raises: RemoteProtocolError if it is none, or as `check_join`."""
    said = decode(Joint, data)
    _check_terms(said, parameters)
    return said.answer


def _check_terms(join: Join | Joint, parameters: bytes) -> None:
    if join.version != PROTOCOL_VERSION:
        raise RemoteProtocolError(f"protocol version {join.version}, this is version {PROTOCOL_VERSION}")
    if join.parameters != parameters:
        raise RemoteProtocolError("joined with other parameters than this session's")


# Sizes in bytes of what msgpack writes: the formula that measured traffic is compared with.


def size_of_int(value: int) -> int:
    return 1 if value < 2**7 else 2 if value < 2**8 else 3 if value < 2**16 else 5


def size_of_bytes(length: int) -> int:
    return length + (2 if length < 2**8 else 3 if length < 2**16 else 5)


def size_of_header(entries: int) -> int:
    """The bytes before the items of an array or a map."""
    return 1 if entries < 16 else 3 if entries < 2**16 else 5


def size_of_tag(kind: type[Message]) -> int:
    """The array header of a message and its name."""
    return 1 + 1 + len(str(kind.__struct_config__.tag))
