"""What the vectors of a session may hold, and whether a client's are so.

A session names its vectors. Each has its own length, limits and ring Z_{2^b}: the smallest power of two that
the sum of all clients' codes cannot leave, b = ceil(log2(n (2^q - 1) + 1)); of a private vector the one that
it says.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, Final, Literal, Protocol, SupportsFloat, SupportsIndex, get_args, get_origin

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from secagg.errors import LocalProtocolError

MAX_RING_BITS: Final = 62
MAX_LENGTH: Final = 2**29
BLOCK: Final = 1 << 14  # coordinates looked at at once: the working set stays in the second-level cache

CLIPPED: Final = " clipped"
"""Behind the name of a bounded vector: that of the count, in the same session, of what its range cut."""

Vector = ArrayLike
"""(m,) numbers, whatever numpy makes an array of: real ones where the specification is of real numbers,
integers in its range where it is of integers; of a weight a single number will do."""

Noise = Literal["skellam", "discrete-gaussian"]
"""Which discrete noise: shares of Skellam noise add up to Skellam noise exactly, of the other nearly."""

_NOISES: Final = " and ".join(get_args(Noise))


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
    """Integers in [0, maximum], exact: no rounding, and no weight multiplies them.

    length: coordinates, 1..2^29. maximum: 1..2^53-1, of one client.
    """

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
    """One integer in 0..maximum, w: every Bounded vector of the session enters the sum as (w / maximum) x.
    maximum: 1..2^31-1, public.

    It travels masked like any vector: the server learns the sum of the weights alone. A whole float is taken
    for the integer that it is. Who weighs 0 is in the sum, and adds nothing to it; where all do, the mean is
    0, of nothing.
    """

    maximum: int

    def __post_init__(self) -> None:
        set_exactly(self, "maximum", int)
        _check(1 <= self.maximum < 2**31, f"maximum weight {self.maximum} is not in 1..2^31-1")

    @property
    def length(self) -> int:
        """Coordinates: 1."""
        return 1

    @property
    def largest_code(self) -> int:
        return self.maximum


class Private(_Spec, frozen=True, kw_only=True, tag="private"):
    """Real numbers of which the sum is learned under noise: each client clips, rotates, rounds to a grid and
    adds its share of discrete noise, all in a ring of `bits` bits (secagg/private.py). The mean is that over
    the survivors; there are no weights.

    length: coordinates, 1..2^29. clip: C, the largest L2 norm of the vector. bits: b, 4..24: of the ring
    itself, whatever the number of clients. noise: "skellam", whose shares add up exactly, or
    "discrete-gaussian". multiplier: z: in the sum, the shares of the m_min - A clients that are honest if as
    few survive as may, have the standard deviation z C together, in each coordinate.

    Source: Agarwal et al., NeurIPS 2021 (Skellam); Kairouz et al., ICML 2021 (discrete Gaussian).
    """

    length: int
    clip: float
    bits: int = 16
    noise: Noise = "skellam"
    multiplier: float = 1.0

    def __post_init__(self) -> None:
        set_exactly(self, "length", int)
        set_exactly(self, "bits", int)
        set_exactly(self, "clip", float)
        set_exactly(self, "multiplier", float)
        _check(1 <= self.length <= MAX_LENGTH, f"length {self.length} is not in 1..2^29")
        _check(1e-30 <= self.clip <= 1e30, f"clip {self.clip} is not a number in 1e-30..1e30")
        _check(4 <= self.bits <= 24, f"bits {self.bits} of a private vector is not in 4..24")
        _check(self.noise in get_args(Noise), f"no noise is called {self.noise!r}: there are {_NOISES}")
        _check(
            1e-6 <= self.multiplier <= 1e6, f"noise multiplier {self.multiplier} is not a number in 1e-6..1e6"
        )

    @property
    def largest_code(self) -> int:
        return (1 << self.bits) - 1

    def ring_bits(self, clients: int) -> int:
        return self.bits  # sums may leave the ring: that costs some accuracy, and saves half the bits


Spec = Bounded | Counts | Weight | Private
"""What one vector of a session may hold."""

Real = Bounded | Private
"""Of numbers that are rounded; the others are integers, and exact."""
Vectors = Mapping[str, Spec]
"""name -> what that vector may hold: up to 64, with names of up to 64 bytes, 2^29 coordinates together."""


def set_exactly(struct: msgspec.Struct, name: str, kind: type[int] | type[float]) -> None:
    """A field as Python's own int or float, as which it is sent and digested, if it is that number."""
    value = getattr(struct, name)
    exact = integer(name, value) if kind is int else _real(name, value)
    msgspec.structs.force_setattr(struct, name, exact)


def check_fields(struct: msgspec.Struct, what: str) -> None:
    """Hold one that was made in Python to the limits by which one from a file or a network is decoded.

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


def whole_weight(label: str, value: Any, maximum: int) -> int:
    """A weight in 0..maximum as an integer, whatever it was counted in. Raises: LocalProtocolError."""
    try:
        number = value.item() if hasattr(value, "item") else value
        whole = int(number)
        exact = whole == number and not isinstance(number, bool)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        exact = False
    if not exact or not 0 <= whole <= maximum:
        raise LocalProtocolError(f"{label} {value!r} is not a whole number in 0..{maximum}")
    return whole


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise LocalProtocolError(message)


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
    if isinstance(spec, Real):
        if x.dtype.kind not in "fiu":
            raise LocalProtocolError(f"{label} holds {x.dtype}, not real numbers")
        # A NaN would pass every comparison of clipping, and be cast to whatever the processor makes of it.
        for start in range(0, len(x), BLOCK):
            block = x[start : start + BLOCK]
            finite = np.isfinite(_doubles(block) if x.dtype.itemsize > 8 else block)
            if not finite.all():
                where = start + int(np.argmin(finite))
                raise LocalProtocolError(f"{label} holds {x[where]} at coordinate {where}")
        return _doubles(x) if x.dtype.itemsize > 8 else x
    if isinstance(spec, Weight) and x.dtype.kind == "f":
        x = _whole(label, x)
    # Floats are refused even where they are whole: above 2^53 they would be counts that nobody gave.
    if x.dtype.kind not in "iu":
        raise LocalProtocolError(f"{label} holds {x.dtype}, not integers")
    low, high = int(x.min()), int(x.max())
    if low < 0 or high > spec.largest_code:
        raise LocalProtocolError(f"{label} holds {low if low < 0 else high}, not in 0..{spec.largest_code}")
    return x


def _whole(label: str, x: NDArray[Any]) -> NDArray[np.int64]:
    """A weight that was counted in floats: below 2^31, as weights are, these are exact."""
    if not (float(x[0]).is_integer() and abs(x[0]) < 2**53):
        raise LocalProtocolError(f"{label} holds {x[0]}, not a whole number")
    return x.astype(np.int64)


def _doubles(x: NDArray[Any]) -> NDArray[np.float64]:
    """The vector as float64, in which all else is computed; infinite where a longer type goes beyond it."""
    with np.errstate(over="ignore"):
        return x.astype(np.float64)


def weight_of(specs: Vectors, values: Mapping[str, NDArray[Any]]) -> tuple[int, int]:
    """(w, w_max) of checked values; (1, 1) in a session without a Weight."""
    for name, spec in specs.items():
        if isinstance(spec, Weight):
            return int(values[name][0]), spec.maximum
    return 1, 1
