"""One encoding for each message, and nothing else is read; the sizes are those the formulas say."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import LocalProtocolError, RemoteProtocolError, TooFewClients, wire
from secagg.crypto import PROTOCOL_VERSION
from secagg.masking.messages import (
    SEALED_BYTES,
    AdvertiseKeys,
    Commitments,
    ConsistencyCheck,
    ConsistencyCheckRequest,
    Delivery,
    MaskedInput,
    MaskedInputRequest,
    PairKeyShare,
    SelfMaskShare,
    ShareKeys,
    ShareKeysRequest,
    SignedUnmaskingRequest,
    Unmasking,
    UnmaskingRequest,
)
from secagg.plain import Input
from secagg.shamir import SHARE_BYTES
from secagg.wire import (
    MAX_ID,
    Join,
    Message,
    Task,
    decode,
    encode,
    size_of_bytes,
    size_of_header,
    size_of_int,
    size_of_tag,
)

KEY, SEALED, SHARE, SIGNATURE = bytes(32), bytes(SEALED_BYTES), bytes(SHARE_BYTES), bytes(64)
COMMITMENTS = Commitments(KEY, bytes(range(32)))
MESSAGES = [
    Join(PROTOCOL_VERSION, KEY),
    Task(KEY, b"model"),
    AdvertiseKeys(KEY, KEY, b""),
    AdvertiseKeys(KEY, KEY, SIGNATURE),
    ShareKeysRequest({0: (KEY, KEY, b""), MAX_ID: (KEY, KEY, SIGNATURE)}),
    ShareKeys({1: SEALED}, b"", {}, b""),
    ShareKeys({1: SEALED}, KEY, {0: COMMITMENTS, 1: COMMITMENTS}, SIGNATURE),
    MaskedInputRequest([0, 1, 300], {1: Delivery(SEALED, None), 300: Delivery(SEALED, COMMITMENTS)}),
    MaskedInput([memoryview(b"abc"), memoryview(b"")]),
    ConsistencyCheckRequest([3, 300]),
    ConsistencyCheck(SIGNATURE),
    UnmaskingRequest([3, 300]),
    SignedUnmaskingRequest({3: SIGNATURE, 300: b""}),
    Unmasking({0: SelfMaskShare(SHARE), 1: PairKeyShare(SHARE)}),
    Input([memoryview(bytes(8))]),
]
NAMES = [type(message).__name__ for message in MESSAGES]
every_message = pytest.mark.parametrize("message", MESSAGES, ids=NAMES)


def refuses(kind: type[Message], data: bytes, words: str = "message") -> None:
    with pytest.raises(RemoteProtocolError, match=words):
        decode(kind, data)


@every_message
@pytest.mark.parametrize("buffer", [bytes, bytearray, memoryview])
def test_a_message_is_read_back_from_any_buffer(message: Message, buffer: Any) -> None:
    assert decode(type(message), buffer(encode(message))) == message


@every_message
def test_a_message_is_read_as_no_other_kind(message: Message) -> None:
    for kind in {type(other) for other in MESSAGES} - {type(message)}:
        refuses(kind, encode(message), f"not a {kind.__struct_config__.tag} message: (Invalid|Expected)")


@every_message
def test_a_message_cut_short_or_with_bytes_left_over_is_refused(message: Message) -> None:
    data = encode(message)
    for length in range(len(data)):
        refuses(type(message), data[:length])
    refuses(type(message), data + b"\0")


@every_message
def test_a_message_with_a_field_too_many_or_too_few_is_refused(message: Message) -> None:
    fields = msgspec.msgpack.decode(encode(message))
    refuses(type(message), msgspec.msgpack.encode([*fields, 0]))
    refuses(type(message), msgspec.msgpack.encode(fields[:-1]))


def test_another_encoding_of_the_same_message_is_refused() -> None:
    data = encode(UnmaskingRequest([3]))
    assert data.endswith(b"\x91\x03")
    for longer in (b"\x91\xcc\x03", b"\x91\xd2\0\0\0\x03", b"\xdc\0\x01\x03"):
        refuses(UnmaskingRequest, data[:-2] + longer, "message in a form that is not canonical")


KEYS = (KEY, KEY, SIGNATURE)


@pytest.mark.parametrize(
    "message",
    [
        ShareKeysRequest({200: KEYS, 201: KEYS}),
        ShareKeys({200: SEALED, 201: SEALED}, b"", {}, b""),
        ShareKeys({}, b"", {200: COMMITMENTS, 201: COMMITMENTS}, b""),
        MaskedInputRequest([], {200: Delivery(SEALED, None), 201: Delivery(SEALED, None)}),
        SignedUnmaskingRequest({200: SIGNATURE, 201: SIGNATURE}),
        Unmasking({200: SelfMaskShare(SHARE), 201: PairKeyShare(SHARE)}),
    ],
)
def test_an_id_that_stands_twice_in_a_map_is_refused(message: Message) -> None:
    data = encode(message)
    assert data.count(b"\xcc\xc9") == 1
    refuses(type(message), data.replace(b"\xcc\xc9", b"\xcc\xc8"), "not canonical")


def keyed(entry: Any) -> Callable[[list[int]], dict[int, Any]]:
    return lambda ids: dict.fromkeys(ids, entry)


@pytest.mark.parametrize(
    ("message", "of", "repeats"),
    [
        (lambda ids: ShareKeysRequest(ids), keyed(KEYS), False),
        (lambda ids: ShareKeys(ids, b"", {}, b""), keyed(SEALED), False),
        (lambda ids: ShareKeys({}, b"", ids, b""), keyed(COMMITMENTS), False),
        (lambda ids: MaskedInputRequest(ids, {}), list, True),
        (lambda ids: MaskedInputRequest([], ids), keyed(Delivery(SEALED, None)), False),
        (lambda ids: ConsistencyCheckRequest(ids), list, True),
        (lambda ids: UnmaskingRequest(ids), list, True),
        (lambda ids: SignedUnmaskingRequest(ids), keyed(SIGNATURE), False),
        (lambda ids: Unmasking(ids), keyed(SelfMaskShare(SHARE)), False),
    ],
)
def test_ids_that_do_not_ascend_are_refused(message: Any, of: Any, repeats: bool) -> None:
    """One order, and each once: no list counts a client twice, and what is listed has one encoding."""
    for ids in ([1, 0], [0, 2, 1], [300, 3], [0, 1, 0]):
        kind = type(message(of(ids)))
        if len(of(ids)) == len(ids):  # a map holds no key twice: see above
            refuses(kind, encode(message(of(ids))), "ids that do not ascend, or one that stands twice")
        good = message(of(sorted(set(ids))))
        assert decode(kind, encode(good)) == good
    if repeats:
        for ids in ([7, 7], [0, 1, 1]):
            refuses(kind, encode(message(of(ids))), "ids that do not ascend, or one that stands twice")


@pytest.mark.parametrize(
    "message",
    [
        Join("1", KEY),
        Join(1, KEY[:-1]),
        Join(1, KEY + b"\0"),
        Task(KEY[:-1], b""),
        Task(KEY + b"\0", b""),
        AdvertiseKeys(KEY[:-1], KEY, b""),
        AdvertiseKeys(KEY, KEY + b"\0", b""),
        AdvertiseKeys(KEY, KEY, SIGNATURE + b"\0"),
        ShareKeysRequest({-1: KEYS}),
        ShareKeysRequest({MAX_ID + 1: KEYS}),
        ShareKeysRequest({0: (KEY, KEY[:-1], b"")}),
        ShareKeysRequest({0: (KEY, KEY, SIGNATURE + b"\0")}),
        ShareKeysRequest({0: (KEY, KEY)}),
        ShareKeysRequest({0: (KEY, KEY, b"", b"")}),
        ShareKeys({-1: SEALED}, b"", {}, b""),
        ShareKeys({0: SEALED[:-1]}, b"", {}, b""),
        ShareKeys({0: SEALED + b"\0"}, b"", {}, b""),
        ShareKeys({0: SEALED}, KEY + b"\0", {}, b""),
        ShareKeys({0: SEALED}, KEY, {MAX_ID + 1: COMMITMENTS}, b""),
        ShareKeys({0: SEALED}, KEY, {0: Commitments(KEY[:-1], KEY)}, b""),
        ShareKeys({0: SEALED}, KEY, {0: Commitments(KEY, KEY + b"\0")}, b""),
        ShareKeys({0: SEALED}, KEY, {0: None}, b""),
        ShareKeys({0: SEALED}, KEY, {}, SIGNATURE + b"\0"),
        MaskedInputRequest([-1], {}),
        MaskedInputRequest([MAX_ID + 1], {}),
        MaskedInputRequest([SHARE], {}),
        MaskedInputRequest([], {-1: Delivery(SEALED, None)}),
        MaskedInputRequest([], {0: Delivery(SEALED[:-1], None)}),
        MaskedInputRequest([], {0: Delivery(SEALED, Commitments(KEY, b""))}),
        MaskedInputRequest([], {0: SEALED}),
        MaskedInput([memoryview(b"")] * 65),
        Input([memoryview(b"")] * 65),
        ConsistencyCheckRequest([-1]),
        ConsistencyCheckRequest([MAX_ID + 1]),
        ConsistencyCheck(SIGNATURE + b"\0"),
        SignedUnmaskingRequest({-1: SIGNATURE}),
        SignedUnmaskingRequest({0: SIGNATURE + b"\0"}),
        UnmaskingRequest([-1]),
        UnmaskingRequest([MAX_ID + 1]),
        UnmaskingRequest([None]),
        Unmasking({0: SelfMaskShare(SHARE[:-1])}),
        Unmasking({0: PairKeyShare(SHARE + b"\0")}),
        Unmasking({0: [SelfMaskShare(SHARE), PairKeyShare(SHARE)]}),
        Unmasking({0: ["x", SHARE]}),
        Unmasking({0: ["b", SHARE, SHARE]}),
    ],
)
def test_a_field_out_of_its_range_is_refused(message: Any) -> None:
    refuses(type(message), encode(message), f"not a {type(message).__struct_config__.tag} message")


@pytest.mark.parametrize(
    "data", [b"\x91" * 10**5, b"\x81" * 10**5, b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc1", b""]
)
@every_message
def test_bytes_made_to_hurt_a_decoder_are_refused(message: Message, data: bytes) -> None:
    kind = type(message)
    refuses(kind, data)
    refuses(kind, encode(message)[: size_of_tag(kind)] + data)


@given(st.sampled_from(MESSAGES), st.binary())
def test_whatever_the_bytes_a_message_is_read_or_refused(message: Message, data: bytes) -> None:
    for candidate in (data, encode(message)[:-1] + data):
        with suppress(RemoteProtocolError):
            assert encode(decode(type(message), candidate)) == candidate


def test_the_shamir_point_of_the_largest_id_is_below_two_to_the_31() -> None:
    assert MAX_ID + 1 == 2**31 - 1


@pytest.mark.parametrize("value", [0, 127, 128, 255, 256, 65535, 65536, MAX_ID])
def test_the_size_of_an_id_is_what_msgpack_writes(value: int) -> None:
    assert size_of_int(value) == len(msgspec.msgpack.encode(value))


@pytest.mark.parametrize("length", [0, 1, 255, 256, 65535, 65536])
def test_the_size_of_bytes_is_what_msgpack_writes(length: int) -> None:
    assert size_of_bytes(length) == len(msgspec.msgpack.encode(bytes(length)))


@pytest.mark.parametrize("entries", [0, 15, 16, 65535, 65536])
def test_the_size_of_a_header_is_what_msgpack_writes(entries: int) -> None:
    assert size_of_header(entries) == len(msgspec.msgpack.encode([0] * entries)) - entries
    assert size_of_header(entries) == len(
        msgspec.msgpack.encode(dict.fromkeys(range(entries), 0))
    ) - entries - sum(map(size_of_int, range(entries)))


@pytest.mark.parametrize("share", [SelfMaskShare(SHARE), PairKeyShare(SHARE)])
def test_a_share_is_not_shown(share: Any) -> None:
    assert repr(share) == f"{type(share).__name__}(<hidden>)"
    assert "\\x00" not in repr(Unmasking({0: share}))


@pytest.mark.parametrize(
    "error",
    [
        LocalProtocolError("words"),
        RemoteProtocolError("words", {1, 2}),
        TooFewClients(2, 3, "unmasking"),
        TooFewClients(2, 3, "unmasking", of=0),
    ],
)
def test_an_error_survives_the_way_between_processes(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


def test_an_error_says_its_words_and_no_more() -> None:
    assert str(RemoteProtocolError("words", {1})) == "words"
    assert str(RemoteProtocolError("\x1b[2Jwo\nrds")) == " [2Jwo rds"  # it may quote the peer, on a terminal
    assert str(RemoteProtocolError("w" * 501)) == "w" * 500
    assert str(TooFewClients(2, 3, "join")).startswith("2 clients left in round join, 3 needed")
    of_one = "2 clients left in round unmasking that hold shares of client 0, 3 needed"
    assert str(TooFewClients(2, 3, "unmasking", of=0)).startswith(of_one)


# In threads


def test_every_message_has_its_decoder_from_the_start() -> None:
    ours = {kind for kind in Message.__subclasses__() if kind.__module__.startswith("secagg.")}
    assert ours
    assert wire._decoders.keys() >= ours


FIRST = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
sys.setswitchinterval(1e-6)
from secagg import Bounded, Masking, Policy, accept
from secagg.masking.messages import UnmaskingRequest
from secagg.wire import decode, encode
offer, request = Masking.for_cohort(5, Bounded(length=10, bound=1.0)).offer(), encode(UnmaskingRequest([1]))
together = threading.Barrier(16)
def first(_):
    together.wait()
    accept(Policy(adversary="semi-honest"), offer, None)
    decode(UnmaskingRequest, request)
with ThreadPoolExecutor(16) as threads:
    list(threads.map(first, range(16)))  # what one raises, this raises
"""


def test_many_threads_may_decode_first() -> None:
    """Where each found out the type for itself, a third of the processes died."""
    for _ in range(5):
        assert subprocess.run([sys.executable, "-c", FIRST]).returncode == 0
