"""Vectors of a session: what they may hold, how they become elements of Z_{2^b}, and how those are packed.

A session names its vectors. Each has its own length, bounds and ring; the ring is the smallest power of
two that the sum of all clients' codes cannot leave: b = ceil(log2(n (2^q - 1) + 1)).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, SupportsFloat, SupportsIndex, get_args, get_origin

import msgspec
import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from secagg.errors import LocalProtocolError, RemoteProtocolError
from secagg.prg import Words, keystream

MAX_RING_BITS: Final = 62
MAX_LENGTH: Final = 2**29
_BLOCK: Final = 1 << 14  # values handled at once: the working set stays in the second-level cache
_PACKED_BLOCK: Final = 1 << 16  # values packed or unpacked at once, in steps of every eighth

Vector = ArrayLike


class _Codes(Protocol):
    @property
    def largest_code(self) -> int: ...


class _Spec(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", forbid_unknown_fields=True):
    def ring_bits(self: _Codes, clients: int) -> int:
        """b of the ring Z_{2^b} in which `clients` codes are summed.

        Raises: LocalProtocolError above 62 bits.
        """
        bits = (clients * self.largest_code).bit_length()
        if bits > MAX_RING_BITS:
            raise LocalProtocolError(
                f"{clients} clients with codes up to {self.largest_code} need a ring of {bits} bits; "
                f"at most {MAX_RING_BITS} are possible: use fewer bits or a smaller maximum"
            )
        return bits


class Bounded(_Spec, frozen=True, kw_only=True, tag="bounded"):
    """Real numbers in [-bound, bound], sent as symmetric integers of `bits` bits with unbiased rounding.

    length: coordinates, 1..2^29. bound: r, the coordinate range. bits: q, 2..32. clip: C, the largest L2
    norm of the vector, applied before the range; None for no limit.
    """

    length: int
    bound: float
    bits: int = 16
    clip: float | None = None

    def __post_init__(self) -> None:
        set_exactly(self, "length", int)
        set_exactly(self, "bits", int)
        set_exactly(self, "bound", float)
        _check(1 <= self.length <= MAX_LENGTH, f"length {self.length} is not in 1..2^29")
        _check(1e-30 <= self.bound <= 1e30, f"bound {self.bound} is not a number in 1e-30..1e30")
        _check(2 <= self.bits <= 32, f"bits {self.bits} is not in 2..32")
        if self.clip is not None:
            set_exactly(self, "clip", float)
            _check(1e-30 <= self.clip <= 1e30, f"clip {self.clip} is not a number in 1e-30..1e30")

    @property
    def levels(self) -> int:
        """L: codes run from -L to L, so that zero is exact; bound corresponds to L."""
        return (1 << self.bits - 1) - 1

    @property
    def largest_code(self) -> int:
        return (1 << self.bits) - 1


class Counts(_Spec, frozen=True, kw_only=True, tag="counts"):
    """Integers in [0, maximum], exact: no rounding, and no weight multiplies them."""

    length: int
    maximum: int

    def __post_init__(self) -> None:
        set_exactly(self, "length", int)
        set_exactly(self, "maximum", int)
        _check(1 <= self.length <= MAX_LENGTH, f"length {self.length} is not in 1..2^29")
        _check(1 <= self.maximum < 2**53, f"maximum {self.maximum} is not in 1..2^53-1")

    @property
    def largest_code(self) -> int:
        return self.maximum


class Weight(_Spec, frozen=True, kw_only=True, tag="weight"):
    """One integer in 1..maximum, w: every Bounded vector of the session enters the sum as (w / maximum) x.

    It travels masked like any vector: the server learns the sum of the weights alone.
    """

    maximum: int

    def __post_init__(self) -> None:
        set_exactly(self, "maximum", int)
        _check(1 <= self.maximum < 2**31, f"maximum weight {self.maximum} is not in 1..2^31-1")

    @property
    def length(self) -> int:
        return 1

    @property
    def largest_code(self) -> int:
        return self.maximum


Spec = Bounded | Counts | Weight
Vectors = Mapping[str, Spec]


def set_exactly(struct: msgspec.Struct, name: str, kind: type[int] | type[float]) -> None:
    """A field as Python's own int or float, as which it is sent and digested, if it is that number."""
    value = getattr(struct, name)
    exact = integer(name, value) if kind is int else _real(name, value)
    msgspec.structs.force_setattr(struct, name, exact)


def check_fields(struct: msgspec.Struct, what: str) -> None:
    """Of one that was made in Python: the limits by which one from a file or a network is decoded.

    Raises: LocalProtocolError.
    """
    for field in msgspec.structs.fields(struct):
        value = getattr(struct, field.name)
        try:
            msgspec.convert(value, field.type)
        except msgspec.ValidationError as error:
            words = [word for part in (field.type, *get_args(field.type)) for word in _words(part)]
            said = str(error).replace("`", "").removeprefix("Expected ")
            wanted = f"one of {', '.join(words)}" if words else said
            raise LocalProtocolError(f"{field.name} {value!r} of a {what}: give {wanted}") from None


def _words(kind: Any) -> tuple[str, ...]:
    return get_args(kind) if get_origin(kind) is Literal else ()


def integer(name: str, value: SupportsIndex) -> int:
    """Raises: LocalProtocolError if this is no integer."""
    try:
        return int(operator.index(value))
    except TypeError:
        raise LocalProtocolError(f"{name} {value!r} is not an integer") from None


def _real(name: str, value: SupportsFloat) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise LocalProtocolError(f"{name} {value!r} is not a number") from None


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise LocalProtocolError(message)


@dataclass(frozen=True)
class Clipping:
    """What encoding changed, told to its client alone: coordinates out of range; the L2 factor (1: none; 0
    where float64 has no number so small, though the vector is scaled by it all the same).
    """

    coordinates: int
    norm_factor: float


def word_type(bits: int) -> DTypeLike:
    """The machine word that holds an element of Z_{2^bits} while it is masked and summed."""
    return np.uint32 if bits <= 32 else np.uint64


def check_vectors(specs: Vectors, values: Mapping[str, Vector]) -> dict[str, NDArray[Any]]:
    """The caller's vectors as arrays, each as its specification says.

    Raises: LocalProtocolError naming the vector and what is wrong with it.
    """
    if odd := [name for name in values if not isinstance(name, str)]:
        raise LocalProtocolError(f"a vector's name is a string, not {odd[0]!r}")
    if missing := specs.keys() - values.keys():
        raise LocalProtocolError(f"vector {sorted(missing)[0]!r} of the session is missing")
    if unknown := values.keys() - specs.keys():
        raise LocalProtocolError(f"vector {sorted(unknown)[0]!r} is not one of the session's {sorted(specs)}")
    return {name: _check_vector(name, specs[name], values[name]) for name in sorted(specs)}


def _check_vector(name: str, spec: Spec, value: Vector) -> NDArray[Any]:
    label = f"vector {name!r}" if name else "the vector"
    if np.ma.isMaskedArray(value):
        raise LocalProtocolError(
            f"{label} is a masked array: say what stands for the masked values (x.filled)"
        )
    try:
        x = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise LocalProtocolError(f"{label} is not an array of numbers: {error}") from None
    x = x.reshape(1) if isinstance(spec, Weight) and x.ndim == 0 else x
    if x.shape != (spec.length,):
        raise LocalProtocolError(f"{label} has shape {x.shape}, the session's is ({spec.length},)")
    if isinstance(spec, Bounded):
        if x.dtype.kind not in "fiu":
            raise LocalProtocolError(f"{label} holds {x.dtype}, not real numbers")
        for start in range(0, len(x), _BLOCK):
            block = x[start : start + _BLOCK]
            finite = np.isfinite(_doubles(block) if x.dtype.itemsize > 8 else block)
            if not finite.all():
                where = start + int(np.argmin(finite))
                raise LocalProtocolError(f"{label} holds {x[where]} at coordinate {where}")
        return _doubles(x) if x.dtype.itemsize > 8 else x
    if x.dtype.kind not in "iu":
        raise LocalProtocolError(f"{label} holds {x.dtype}, not integers")
    lowest = 1 if isinstance(spec, Weight) else 0
    low, high = int(x.min()), int(x.max())
    if low < lowest or high > spec.largest_code:
        raise LocalProtocolError(
            f"{label} holds {low if low < lowest else high}, not in {lowest}..{spec.largest_code}"
        )
    return x


def _doubles(x: NDArray[Any]) -> NDArray[np.float64]:
    """As float64, in which all else is computed; infinite where a longer type goes beyond it."""
    with np.errstate(over="ignore"):
        return x.astype(np.float64)


def weight_of(specs: Vectors, values: Mapping[str, NDArray[Any]]) -> tuple[int, int]:
    """(w, w_max) of checked values; (1, 1) in a session without a Weight."""
    for name, spec in specs.items():
        if isinstance(spec, Weight):
            return int(values[name][0]), spec.maximum
    return 1, 1


@dataclass(frozen=True, slots=True)
class Scaling:
    """A factor f 2^-k, 0 < f 2^-k <= 1, in two steps: C / ||x||_2 can be smaller than any float64."""

    f: float = 1.0
    k: int = 0

    @property
    def factor(self) -> float:
        return math.ldexp(self.f, -self.k)

    def __call__(self, block: NDArray[np.float64]) -> NDArray[np.float64]:
        """block x factor, in place."""
        if self.f != 1 or self.k:
            np.ldexp(block, -self.k, out=block)
            block *= self.f
        return block


def norm_scaling(spec: Bounded, x: NDArray[Any]) -> Scaling:
    """min(1, C / ||x||_2), which brings x into the ball of radius clip."""
    if spec.clip is None:
        return Scaling()
    largest = max(float(x.max()), -float(x.min()))
    if largest == 0:
        return Scaling()
    # In units of the largest coordinate, so that no square leaves the range of float64; added without error,
    # so that a long vector's norm is as good as a short one's.
    blocks = (x[i : i + _BLOCK].astype(np.float64) / largest for i in range(0, len(x), _BLOCK))
    norm = math.sqrt(math.fsum(float(np.square(block).sum()) for block in blocks))
    if spec.clip / largest / norm >= 1:
        return Scaling()
    mantissa, k = math.frexp(largest)
    return Scaling(spec.clip / mantissa / norm, k)


def encode(
    spec: Spec, x: NDArray[Any], *, clients: int, rounding_key: bytes, weight: tuple[int, int] = (1, 1)
) -> tuple[Words, Clipping]:
    """Codes of a checked vector: (m,) words in [0, 2^b), and what was clipped.

    Bounded: clip to C, then to [-r, r]; z = (w / w_max) x L / r; floor(z) plus one with probability
    z - floor(z), so that the expectation is z to 2^-32 and an integer z is exact. Others: themselves.

    Security: rounding_key must not be used for another vector.
    """
    bits = spec.ring_bits(clients)
    codes = np.empty(spec.length, word_type(bits))
    if not isinstance(spec, Bounded):
        codes[:] = x
        return codes, Clipping(0, 1.0)
    into_ball = norm_scaling(spec, x)
    scale = weight[0] / weight[1] * (spec.levels / spec.bound)
    ring = np.uint64(2**bits - 1)
    clipped = start = 0
    for uniform in keystream(rounding_key, spec.length, np.uint32):
        block = into_ball(x[start : start + len(uniform)].astype(np.float64))
        if max(block.max(), -block.min()) > spec.bound:
            clipped += int(np.count_nonzero(np.abs(block) > spec.bound))
            np.clip(block, -spec.bound, spec.bound, out=block)
        block *= scale
        whole = np.floor(block)
        block -= whole
        whole += uniform * 2.0**-32 < block
        # At |z| = L the float product may lie a last place outside the symmetric range.
        np.clip(whole, -spec.levels, spec.levels, out=whole)
        codes[start : start + len(block)] = whole.astype(np.int64).view(np.uint64) & ring
        start += len(block)
    return codes, Clipping(clipped, into_ball.factor)


def centred(spec: Spec, total: Words, clients: int) -> NDArray[np.int64]:
    """The sum of codes as signed integers, exact: (m,) words modulo 2^b -> (m,) int64."""
    bits = spec.ring_bits(clients)
    signed = np.empty(len(total), np.int64)
    for start in range(0, len(total), _BLOCK):
        block = signed[start : start + _BLOCK]
        block[:] = total[start : start + _BLOCK]
        block &= 2**bits - 1
        if isinstance(spec, Bounded):
            block[block >= 2 ** (bits - 1)] -= 2**bits
    return signed


def decode_sum(spec: Spec, codes: NDArray[np.int64], *, max_weight: int) -> NDArray[Any]:
    """sum of w x from the exact sum of codes; for integer vectors the integers themselves."""
    if not isinstance(spec, Bounded):
        return codes
    return _scaled(codes, spec.bound / spec.levels * max_weight)


def decode_mean(
    spec: Spec, codes: NDArray[np.int64], *, survivors: int, total_weight: int, max_weight: int
) -> NDArray[np.float64]:
    """The weighted mean; for integer vectors the plain one."""
    if not isinstance(spec, Bounded):
        return codes / survivors
    return _scaled(codes, spec.bound / spec.levels * max_weight / total_weight)


def _scaled(codes: NDArray[np.int64], factor: float) -> NDArray[np.float64]:
    real = codes.astype(np.float64)
    real *= factor
    return real


def error_bound(spec: Spec, *, survivors: int, total_weight: int, max_weight: int) -> float:
    """|U3| (r / L) w_max / sum w: no coordinate of the mean is farther off where none clipped, since each
    code is less than one level off. 0 for integer vectors.
    """
    if not isinstance(spec, Bounded):
        return 0.0
    step = spec.bound / spec.levels * max_weight
    # The last term covers the float64 arithmetic of encoding and decoding.
    return survivors * step / total_weight + spec.bound * 2.0**-44


def packed_bytes(length: int, bits: int) -> int:
    """Bytes of `length` values of exactly `bits` bits each."""
    return (length * bits + 7) // 8


def pack(codes: Words, bits: int) -> bytearray:
    """(m,) words -> ceil(m b / 8) bytes: the low b bits of each, least significant first, nothing between.

    bits: 1..62.
    """
    packed = bytearray(packed_bytes(len(codes), bits))
    for start in range(0, len(codes), _PACKED_BLOCK):
        chunk = codes[start : start + _PACKED_BLOCK]
        first, size = start * bits // 8, packed_bytes(len(chunk), bits)
        packed[first : first + size] = _pack_block(chunk, bits)[:size].data
    return packed


def _pack_block(codes: Words, bits: int) -> NDArray[np.uint8]:
    if bits < 8:  # windows of 64 bits, one every `bits` bytes, would overlap
        each = np.unpackbits(codes.astype(np.uint8)[:, None], axis=1, count=bits, bitorder="little")
        return np.packbits(each, bitorder="little")
    raw = np.zeros(packed_bytes(len(codes), bits) + 2 * bits + 8, np.uint8)
    for j in range(8):
        values = codes[j::8].astype(np.uint64)
        values &= np.uint64(2**bits - 1)
        window, above, shift = _windows(raw, j, len(values), bits)
        if shift + bits > 64:
            above |= (values >> np.uint64(64 - shift)).astype(np.uint8)
        values <<= np.uint64(shift)
        window |= values
    return raw


def _windows(
    raw: NDArray[np.uint8], j: int, count: int, bits: int
) -> tuple[NDArray[np.uint64], NDArray[np.uint8], int]:
    """Eight values of b bits take b bytes. Value j of each eight begins `shift` bits into a window of 64; of
    more than 57 bits it may go on in the byte above.
    """
    byte, shift = divmod(j * bits, 8)
    window = np.ndarray((count,), "<u8", raw, byte, (bits,))
    return window, raw[byte + 8 :: bits][:count], shift


def check_packed(packed: bytes | bytearray | memoryview, length: int, bits: int) -> None:
    """Raises: RemoteProtocolError unless these are `length` values of `bits` bits and nothing behind."""
    if len(packed) != packed_bytes(length, bits):
        raise RemoteProtocolError(f"a vector of {len(packed)} bytes, not {packed_bytes(length, bits)}")
    if (used := length * bits % 8) and packed[-1] >> used:
        raise RemoteProtocolError("bits behind the last coordinate are set")


def add_packed(total: Words, packed: bytes | bytearray | memoryview, bits: int) -> None:
    """total += the checked packed vector, in place, modulo the word: unpacked block by block."""
    raw = np.empty(packed_bytes(min(len(total), _PACKED_BLOCK), bits) + 2 * bits + 8, np.uint8)
    for start in range(0, len(total), _PACKED_BLOCK):
        target = total[start : start + _PACKED_BLOCK]
        size = packed_bytes(len(target), bits)
        raw[:size] = np.frombuffer(packed, np.uint8, size, start * bits // 8)
        for j in range(min(8, len(target))):
            column = target[j::8]
            window, above, shift = _windows(raw, j, len(column), bits)
            values = window >> np.uint64(shift)
            if shift + bits > 64:
                values |= above.astype(np.uint64) << np.uint64(64 - shift)
            values &= np.uint64(2**bits - 1)
            column += values.astype(total.dtype)
