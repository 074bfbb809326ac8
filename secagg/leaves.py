"""What stands at a leaf of a tree: an array of numpy, a tensor, a number, or a list of numbers; read as an
array, and made again out of one.

Tensors are known by what they can do: torch is never imported.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg.errors import LocalProtocolError

FLOATS: Final = ("float16", "bfloat16", "float32", "float64")
INTEGERS: Final = ("bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
_OF_NUMBERS: Final = {bool: "bool", int: "int64", float: "float64"}
_FLOAT16: Final = float(np.finfo(np.float16).max)  # the one type that is narrower than a bound may be


@dataclass(frozen=True)
class Leaf:
    """One of the reference's. path: as whoever holds the tree writes it. dtype: its name, alike in numpy and
    torch; of numbers of Python "bool", "int64" or "float64". make: an array of its shape, float64 or int64,
    in the reference's type and on its device.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    make: Callable[[NDArray[Any]], Any]

    @classmethod
    def of(cls, path: str, value: Any) -> Leaf:
        """Raises: LocalProtocolError for what has no place in a sum."""
        shape = tuple(value.shape) if hasattr(value, "shape") else np.shape(value)
        return cls(path, shape, _dtype_of(path, value), _maker(value))

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def real(self) -> bool:
        return self.dtype in FLOATS

    def read(self, value: Any) -> NDArray[Any]:
        """What another tree has in this place, flat: (size,), real or of integers.

        Raises: LocalProtocolError if it is not as in the reference, or not finite.
        """
        dtype = _dtype_of(self.path, value)
        shape = tuple(value.shape) if hasattr(value, "shape") else np.shape(value)
        if shape != self.shape:
            raise LocalProtocolError(f"{self.path} has the shape {shape}, the reference has {self.shape}")
        # A whole number of Python's is as good a real one.
        exact = dtype == self.dtype or (self.real and type(value) in (int, list, tuple) and dtype == "int64")
        if not exact:
            raise LocalProtocolError(
                f"{self.path} holds {dtype}, the reference {self.dtype}: convert the one or the other, "
                "for nothing is rounded unasked"
            )
        x = _array(self.path, value, self.dtype).ravel()
        if self.real and not np.isfinite(x).all():
            bad = x[int(np.argmin(np.isfinite(x)))]
            raise LocalProtocolError(f"{self.path} holds {bad}: mend it where it comes from")
        return x

    def write(self, x: NDArray[Any]) -> Any:
        """Of (size,) numbers, rounded to its type."""
        if self.dtype == "float16":
            x = np.clip(x, -_FLOAT16, _FLOAT16)
        elif not self.real:
            # What clients have is within their type, and so is its mean, unless one of them lies.
            low, high = (
                (0, 1) if self.dtype == "bool" else (np.iinfo(self.dtype).min, np.iinfo(self.dtype).max)
            )
            x = np.clip(x, low, min(high, 2**63 - 1))
        return self.make(x.reshape(self.shape))


def is_leaf(value: Any) -> bool:
    """Whether this is numbers; else it is a dict, list or tuple, or has no place in a tree."""
    if type(value) in (list, tuple):
        kinds = {type(item) for item in value}
        return len(kinds) == 1 and kinds <= _OF_NUMBERS.keys()  # of a mixed one each is a leaf of its own
    return isinstance(value, np.ndarray | np.generic) or type(value) in _OF_NUMBERS or _is_tensor(value)


def duplicate(value: Any) -> Any:
    """A leaf of its own, which no later change of the other reaches."""
    return value.detach().clone() if _is_tensor(value) else copy.deepcopy(value)


def _is_tensor(value: Any) -> bool:
    return all(hasattr(value, name) for name in ("detach", "new_tensor", "numpy", "dtype"))


def _dtype_of(path: str, value: Any) -> str:
    """Raises: LocalProtocolError unless these are numbers that can be summed."""
    if isinstance(value, np.ma.MaskedArray):
        raise LocalProtocolError(f"{path} hides some of its numbers by a mask: fill them in (x.filled)")
    if hasattr(value, "dtype"):
        name = str(value.dtype).removeprefix("torch.") if _is_tensor(value) else value.dtype.name
        if name not in FLOATS + INTEGERS:
            raise LocalProtocolError(
                f"{path} holds {name}: numbers of {', '.join(FLOATS)}, integers and bool can be averaged"
            )
        return str(name)
    return _dtype_of_numbers(path, value if isinstance(value, list | tuple) else [value])


def _dtype_of_numbers(path: str, items: list[Any] | tuple[Any, ...]) -> str:
    kinds = {_kind(item) for item in items}
    if kinds == {bool}:
        return _OF_NUMBERS[bool]
    if not kinds or kinds - {int, float}:
        what = next((type(item).__name__ for item in items if _kind(item) not in (int, float)), "nothing")
        raise LocalProtocolError(f"{path} holds {what}, where the reference has numbers")
    return _OF_NUMBERS[float if float in kinds else int]


def _kind(item: Any) -> type | None:
    """What a number counts as, Python's own or numpy's."""
    for kind, types in ((bool, bool | np.bool_), (int, int | np.integer), (float, float | np.floating)):
        if isinstance(item, types):
            return kind
    return None


def _array(path: str, value: Any, dtype: str) -> NDArray[Any]:
    """In numpy: bfloat16, which numpy has not, as float32."""
    try:
        if _is_tensor(value):
            tensor = value.detach()
            array: NDArray[Any] = (tensor.float() if dtype == "bfloat16" else tensor).numpy(force=True)
            return array
        return np.asarray(value, "float32" if dtype == "bfloat16" else dtype)
    except (TypeError, RuntimeError, NotImplementedError, OverflowError) as error:
        raise LocalProtocolError(f"{path} cannot be read as an array: {error}") from None


def _maker(value: Any) -> Callable[[NDArray[Any]], Any]:
    if _is_tensor(value):
        # Without its numbers, which may be a model's whole memory; with its type and device.
        made: Callable[[NDArray[Any]], Any] = value.detach().new_empty(0).new_tensor
        return made
    if isinstance(value, np.generic):
        return lambda x: x.astype(value.dtype)[()]
    if isinstance(value, np.ndarray):
        dtype = value.dtype
        return lambda x: x.astype(dtype)
    if isinstance(value, list | tuple):
        kind, dtype = type(value), np.dtype(_dtype_of_numbers("", value))
        return lambda x: kind(x.astype(dtype).tolist())
    own = type(value)
    return lambda x: own(x.item())
