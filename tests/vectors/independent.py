"""The primitives of docs/protocol.md once more, from the page and the standards alone: nothing of secagg, no
numpy. Slow and plain, to hold the vectors against.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import math
import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

P = 2**256 + 297


class MalformedError(ValueError):
    """Bytes that are no message."""


# Section 2.2: msgpack

_SIZED = {
    **{0xC4 + i: ("bin", 1 << i) for i in range(3)},
    **{0xCC + i: ("int", 1 << i) for i in range(4)},
    **{0xD9 + i: ("str", 1 << i) for i in range(3)},
    **{0xDC + i: ("array", 2 << i) for i in range(2)},
    **{0xDE + i: ("map", 2 << i) for i in range(2)},
}
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
_SMALL = [("int", 0x00, 0x80), ("map", 0x80, 0x90), ("array", 0x90, 0xA0), ("str", 0xA0, 0xC0)]


def unpack(data: bytes) -> Any:
    """The one value these bytes are, in its one encoding."""
    try:
        value, end = _read(data, 0)
    except (IndexError, KeyError, TypeError, UnicodeDecodeError, RecursionError, struct.error) as error:
        raise MalformedError(str(error)) from None
    if end != len(data) or packed(value) != data:
        raise MalformedError("bytes left over, or another encoding of the same value")
    return value


def _read(data: bytes, at: int) -> tuple[Any, int]:
    head, at = data[at], at + 1
    if head in _CONSTANTS:
        return _CONSTANTS[head], at
    if head == 0xCB:
        return struct.unpack(">d", data[at : at + 8])[0], at + 8
    for kind, low, high in _SMALL:
        if low <= head < high:
            return _rest(kind, head - low, data, at)
    kind, width = _SIZED[head]
    return _rest(kind, int.from_bytes(data[at : at + width], "big"), data, at + width)


def _rest(kind: str, size: int, data: bytes, at: int) -> tuple[Any, int]:
    if kind == "int":
        return size, at
    if kind in ("bin", "str"):
        raw = data[at : at + size]
        return (raw if kind == "bin" else raw.decode()), at + size
    entries = []
    for _ in range(size * (2 if kind == "map" else 1)):
        entry, at = _read(data, at)
        entries.append(entry)
    return (dict(zip(entries[::2], entries[1::2], strict=True)) if kind == "map" else entries), at


def packed(value: Any) -> bytes:
    match value:
        case None | bool():
            return bytes(head for head, constant in _CONSTANTS.items() if constant is value)
        case int():
            return header("int", value, 1)
        case float():
            return b"\xcb" + struct.pack(">d", value)
        case bytes():
            return header("bin", len(value), 1) + value
        case str():
            return header("str", len(value.encode()), 1) + value.encode()
        case list():
            return header("array", len(value), 2) + b"".join(map(packed, value))
        case dict():
            return header("map", len(value), 2) + b"".join(packed(k) + packed(v) for k, v in value.items())
    raise TypeError(value)


def header(kind: str, size: int, width: int) -> bytes:
    for small, low, high in _SMALL:
        if small == kind and size < high - low:
            return bytes([low + size])
    while size >= 256**width:
        width *= 2
    head = next(head for head, sized in _SIZED.items() if sized == (kind, width))
    return bytes([head]) + size.to_bytes(width, "big")


# Section 2.2: messages, as their names and what stands behind them

Shape = Callable[[Any], bool]


def _is_id(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 2**31 - 2


def _ascends(ids: list[Any]) -> bool:
    return all(map(_is_id, ids)) and all(a < b for a, b in itertools.pairwise(ids))


def _bin(low: int, high: int) -> Shape:
    return lambda value: isinstance(value, bytes) and low <= len(value) <= high


def _row(*shapes: Shape) -> Shape:
    return lambda value: (
        isinstance(value, list)
        and len(value) == len(shapes)
        and all(s(v) for s, v in zip(shapes, value, strict=True))
    )


def _by_id(shape: Shape) -> Shape:
    return lambda value: isinstance(value, dict) and _ascends(list(value)) and all(map(shape, value.values()))


def _ids(value: Any) -> bool:
    return isinstance(value, list) and _ascends(value)


def _vectors(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= 64 and all(isinstance(v, bytes) for v in value)


def _many(most: int, shape: Shape) -> Shape:
    return lambda value: isinstance(value, list) and len(value) <= most and all(map(shape, value))


def _relay_keys(value: Any) -> bool:
    return _by_id(_row(_KEY, _SIGNATURE))(value) and all(j < 16 for j in value)


_KEY, _SIGNATURE, _SEALED = _bin(32, 32), _bin(0, 64), _bin(94, 94)
_COMMITMENTS = _row(_KEY, _KEY)
_TAG = _bin(16, 16)
_SHARE = _row(lambda kind: kind in ("b", "s"), _bin(33, 33))
SHAPES: Mapping[str, tuple[Shape, ...]] = {
    "join": (lambda version: type(version) is int, _KEY),
    "task": (_KEY, _bin(0, 2**31)),
    "joint": (lambda version: type(version) is int, _KEY, _bin(0, 2**32)),
    "advertise-keys": (_KEY, _KEY, _SIGNATURE),
    "share-keys-request": (_by_id(_row(_KEY, _KEY, _SIGNATURE)),),
    "share-keys": (_by_id(_SEALED), _bin(0, 32), _by_id(_COMMITMENTS), _SIGNATURE),
    "masked-input-request": (
        _ids,
        _by_id(_row(_SEALED, lambda value: value is None or _COMMITMENTS(value))),
    ),
    "masked-input": (_vectors,),
    "consistency-check-request": (_ids,),
    "consistency-check": (_SIGNATURE,),
    "unmasking-request": (_ids,),
    "signed-unmasking-request": (_by_id(_SIGNATURE),),
    "unmasking": (_by_id(_SHARE),),
    "input": (_vectors,),
    "advertise-ckks-key": (_KEY, _SIGNATURE),
    "share-ckks-key-request": (_by_id(_row(_KEY, _SIGNATURE)),),
    "share-ckks-key": (_bin(0, 2**20), _by_id(_bin(60, 60)), _SIGNATURE),
    "ciphertexts-request": (_is_id, _bin(0, 2**20), _by_id(_bin(60, 60)), _SIGNATURE),
    "ciphertexts": (_bin(0, 2**32), _KEY, _SIGNATURE),
    "decrypt-request": (_ids, _bin(0, 2**32)),
    "decrypted": (_bin(0, 2**32),),
    "candidates": (_bin(0, 2**32), _bin(0, 2**32), _KEY, _SIGNATURE),
    "relay-key-request": (_KEY, _KEY),
    "relay-key": (_KEY, _SIGNATURE),
    "split-task": (_KEY, _bin(0, 2**31), _relay_keys),
    "shares": (_KEY, _many(16, _bin(28, 2**32)), _SIGNATURE),
    "seed": (_many(4, _TAG), _TAG),
    "vector": (_many(4, _TAG), _vectors),
    "deliver-request": (
        _relay_keys,
        _by_id(_row(_KEY, _many(16, _KEY), _bin(28, 2**32), _SIGNATURE)),
    ),
    "received": (_ids,),
    "column-request": (_ids,),
    "column": (_vectors, _SIGNATURE),
}


def message(name: str, data: bytes) -> list[Any]:
    """The fields of the message of that name. Raises: MalformedError for anything else."""
    fields = unpack(data)
    if not (isinstance(fields, list) and fields[:1] == [name] and _row(*SHAPES[name])(fields[1:])):
        raise MalformedError(f"not a {name} message")
    return fields[1:]


# Section 2.3: transcripts, digests, keys


def transcript(tag: str, *parts: bytes | int | str) -> bytes:
    encoded = [b"secagg/1/" + tag.encode()]
    for part in parts:
        match part:
            case bytes():
                encoded.append(b"b" + part)
            case str():
                encoded.append(b"s" + part.encode())
            case int():
                encoded.append(b"i" + part.to_bytes(8, "big"))
    return b"".join(len(p).to_bytes(8, "big") + p for p in encoded)


def digest(tag: str, *parts: bytes | int | str) -> bytes:
    return hashlib.sha256(transcript(tag, *parts)).digest()


def hkdf(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869, section 2, with SHA-256."""
    prk = hmac.digest(salt or bytes(32), secret, "sha256")
    okm = block = b""
    while len(okm) < length:
        block = hmac.digest(prk, block + info + bytes([len(okm) // 32 + 1]), "sha256")
        okm += block
    return okm[:length]


def kdf(tag: str, secret: bytes, salt: bytes, *parts: bytes | int | str, length: int = 32) -> bytes:
    return hkdf(secret, salt, transcript(tag, *parts), length)


# Section 3: primitives


def x25519_public(secret: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def x25519(secret: bytes, public: bytes) -> bytes:
    """Raises: ValueError where the result is zero."""
    return X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(public))


def ed25519_public(secret: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def sign(secret: bytes, statement: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(secret).sign(statement)


def verifies(public: bytes, statement: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, statement)
    except (InvalidSignature, ValueError):
        return False
    return True


def seal(key: bytes, nonce: bytes, plaintext: bytes, associated: bytes) -> bytes:
    return nonce + AESGCM(key).encrypt(nonce, plaintext, associated)


def unseal(key: bytes, sealed: bytes, associated: bytes) -> bytes:
    """Raises: InvalidTag."""
    return AESGCM(key).decrypt(sealed[:12], sealed[12:], associated)


def aes_block(key: bytes, block: bytes) -> bytes:
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(block)  # noqa: S305 - block by block


def chacha20_block(key: bytes, counter: int, nonce: bytes) -> bytes:
    """RFC 8439, section 2.3, from its text: 64 bytes."""
    state = list(struct.unpack("<16I", b"expand 32-byte k" + key + counter.to_bytes(4, "little") + nonce))
    x = state[:]
    for _ in range(10):
        for i in range(4):
            _quarter_round(x, i, i + 4, i + 8, i + 12)
        for i in range(4):
            _quarter_round(x, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return struct.pack("<16I", *((a + b) % 2**32 for a, b in zip(x, state, strict=True)))


def _quarter_round(x: list[int], a: int, b: int, c: int, d: int) -> None:
    for into, other, mixed, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        x[into] = (x[into] + x[other]) % 2**32
        y = x[mixed] ^ x[into]
        x[mixed] = (y << turn | y >> (32 - turn)) % 2**32


_BLOCKS: Mapping[str, tuple[int, Callable[[bytes, int], bytes]]] = {
    "aes-128-ctr": (16, lambda seed, i: aes_block(seed[:16], i.to_bytes(16, "big"))),
    "chacha20": (64, lambda seed, i: chacha20_block(seed, i, bytes(12))),
}


def words(prg: str, seed: bytes, count: int, width: int, first: int = 0) -> list[int]:
    """Words number first, first + 1, … of `width` bytes of the stream under seed."""
    size, block = _BLOCKS[prg]
    start, end = first * width, (first + count) * width
    stream = b"".join(block(seed, i) for i in range(start // size, -(-end // size)))
    inside = stream[start % size :][: end - start]
    return [int.from_bytes(inside[i : i + width], "little") for i in range(0, len(inside), width)]


def shares(
    secret: int, coefficients: Sequence[int], points: Collection[int], prime: int = P
) -> dict[int, int]:
    """Horner's rule: f(x) of each point x."""
    values = {}
    for x in points:
        y = 0
        for a in reversed([secret, *coefficients]):
            y = (y * x + a) % prime
        values[x] = y
    return values


def recon(given: Mapping[int, int], prime: int = P) -> int:
    """Lagrange's formula at 0."""
    secret = 0
    for x, y in given.items():
        top = math.prod(-other for other in given if other != x)
        bottom = math.prod(x - other for other in given if other != x)
        secret += y * top * pow(bottom, -1, prime)
    return secret % prime


# Section 6: vectors


def ring_bits(spec: Mapping[str, Any], clients: int) -> int:
    if spec["kind"] == "private":
        return int(spec["bits"])
    largest = 2 ** spec["bits"] - 1 if spec["kind"] == "bounded" else spec["maximum"]
    return int(clients * largest).bit_length()


def word_bytes(bits: int) -> int:
    return 4 if bits <= 32 else 8


def encode(
    spec: Mapping[str, Any], x: Sequence[float], bits: int, key: bytes, weight: Fraction
) -> tuple[list[int], int, float]:
    """(codes, coordinates out of range, factor of the norm): float64 step by step, as the page has it."""
    if spec["kind"] != "bounded":
        return [int(value) for value in x], 0, 1.0
    r, levels, factor = spec["bound"], 2 ** (spec["bits"] - 1) - 1, norm_factor(spec["clip"], x)
    scale = weight.numerator / weight.denominator * (levels / r)
    codes, clipped = [], 0
    for value, word in zip(x, words("aes-128-ctr", key, len(x), 4), strict=True):
        scaled = value * factor
        clipped += abs(scaled) > r
        z = min(max(scaled, -r), r) * scale
        code = math.floor(z) + (word / 2**32 < z - math.floor(z))
        codes.append(min(max(code, -levels), levels) % 2**bits)
    return codes, clipped, factor


def norm_factor(clip: float | None, x: Sequence[float]) -> float:
    """In units of the largest coordinate: any order of the sum gives the same where the squares are exact."""
    largest = max(abs(value) for value in x)
    if clip is None or largest == 0:
        return 1.0
    return min(1.0, clip / largest / math.sqrt(sum((value / largest) ** 2 for value in x)))


def centred(spec: Mapping[str, Any], word: int, bits: int) -> int:
    low = word % 2**bits
    return low - 2**bits if spec["kind"] in ("bounded", "private") and low >= 2 ** (bits - 1) else low


def decode(
    spec: Mapping[str, Any], codes: Sequence[int], survivors: int, total_weight: int, max_weight: int
) -> tuple[list[float], list[float], float]:
    """(sum, mean, bound of the mean's error)."""
    if spec["kind"] != "bounded":
        return list(codes), [float(code) / survivors for code in codes], 0.0
    step = spec["bound"] / (2 ** (spec["bits"] - 1) - 1) * max_weight
    error = survivors * step / total_weight + spec["bound"] * 2.0**-44
    return [code * step for code in codes], [code * (step / total_weight) for code in codes], error


def pack_bits(values: Sequence[int], bits: int) -> bytes:
    """One long number in base 2^b, least significant first."""
    number = sum(value % 2**bits << bits * j for j, value in enumerate(values))
    return number.to_bytes(-(-len(values) * bits // 8), "little")


def unpack_bits(data: bytes, length: int, bits: int) -> list[int]:
    """Raises: MalformedError for another length, or bits behind the last value."""
    number = int.from_bytes(data, "little")
    if len(data) != -(-length * bits // 8) or number >> length * bits:
        raise MalformedError("not these values and nothing behind them")
    return [(number >> bits * j) % 2**bits for j in range(length)]


# Section 7: the graph


def ring(clients: int, sid: bytes, members: Collection[int]) -> list[int | None]:
    drawn = words("aes-128-ctr", digest("graph", sid), clients, 8)
    listed = sorted(members)
    order = sorted(range(clients), key=lambda i: (drawn[i], i))
    return [listed[i] if i < len(listed) else None for i in order]


def neighbours(clients: int, degree: int, sid: bytes, members: Collection[int]) -> dict[int, set[int]]:
    if degree == clients - 1:
        return {u: set(members) - {u} for u in members}
    places = ring(clients, sid, members)
    reach = [step for step in range(-degree // 2, degree // 2 + 1) if step]
    return {
        u: {v for step in reach if (v := places[(p + step) % clients]) is not None}
        for p, u in enumerate(places)
        if u is not None
    }


def batches(everybody: Collection[int], batch: int) -> list[list[int]]:
    listed = sorted(everybody)
    count = max(1, len(listed) // batch)
    return [listed[i * batch : (i + 1) * batch if i < count - 1 else None] for i in range(count)]


def cut(clients: int, number: int, base: bytes, members: Collection[int]) -> list[list[int]]:
    listed = sorted(members)
    ids = b"".join(u.to_bytes(4, "big") for u in listed)
    drawn = words("aes-128-ctr", digest("groups", base, number, ids), clients, 8)
    order = sorted(range(clients), key=lambda i: (drawn[i], i))
    ends = [clients * j // number for j in range(number + 1)]
    places = (order[start:end] for start, end in pairwise(ends))
    return [sorted(listed[i] for i in group if i < len(listed)) for group in places]
