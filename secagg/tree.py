"""A state_dict, or any tree of arrays, as the named vectors of a session; and their mean as such a tree."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from secagg.aggregate import Aggregate
from secagg.encoding import out_of_range
from secagg.errors import LocalProtocolError
from secagg.leaves import Leaf, duplicate, is_leaf
from secagg.specs import BLOCK, CLIPPED, Bounded, Counts, Spec, Weight, integer, whole_weight

IntegerLeaves = Literal["mean", "keep"]

NUMBERS: Final = "numbers"
INTEGERS: Final = "integers"
WEIGHT: Final = "weight"

_ROOM: Final = 2**49
"""Of a client's code of an integer, where nothing else is said: 8,192 of them fit into the largest ring."""


class Tree:
    """How trees that are built as the reference is enter a sum, and come out of it.

    A tree is a dict, list, tuple or namedtuple of trees, or a leaf: an array of numpy or a tensor of torch,
    of float16, bfloat16, float32, float64, integers or bool, in whatever shape, on whatever device; a number;
    a list or tuple of numbers of one type. torch is not imported.

    reference: a tree whose structure, shapes and types all have; of its numbers only those of kept integers
    are looked at. bound: r, the range of all real numbers; what lies outside is cut, and counted. bits: of
    each. max_weight: the largest weight, which is public; None: no client has a weight.

    integers: of leaves of integers and bool, "mean" sums w c exactly, and the mean is rounded to the nearest
    integer, to the even one of two (of bool, the weighted majority); "keep" sends nothing, and gives the
    reference's own. A maximum cannot be had: a sum that tells it, of how many clients reach each threshold,
    tells all their values. largest_integer: what no integer may exceed in absolute value; 2^31 - 1, or what
    weights leave of it.

    vectors: name -> specification, for a scheme: "numbers", "numbers clipped" (`Aggregate.clipped`),
    "integers" and "weight", those that the tree takes.

    Security: how many numbers were cut is summed exactly, masked like any count. So a session of such a tree
    has no noise and no blanks beside; it is for masking, split, CKKS and plain.

    Raises: LocalProtocolError, which names the leaf, for what has no place in a sum.
    """

    def __init__(
        self,
        reference: Any,
        *,
        bound: float,
        bits: int = 16,
        max_weight: int | None = None,
        integers: IntegerLeaves = "mean",
        largest_integer: int | None = None,
    ) -> None:
        if integers not in get_args(IntegerLeaves):
            raise LocalProtocolError(
                f"integers={integers!r} is not to be had: 'mean' is their rounded mean, 'keep' the "
                "reference's own; a maximum is not told by a sum that hides the rest"
            )
        self._kept: dict[str, Any] = {}
        self._skeleton = _mapped(reference, partial(self._leaf, keep=integers == "keep"))
        leaves = [leaf for leaf, _ in _matched(self._skeleton, self._skeleton)]
        weighing = None if max_weight is None else Weight(maximum=max_weight)
        self._heaviest = 1 if weighing is None else weighing.maximum
        self._largest = _largest(largest_integer, self._heaviest)
        self._bound = 0.0
        self.vectors: dict[str, Spec] = {}
        if real := sum(leaf.size for leaf in leaves if leaf.real):
            numbers = Bounded(length=real, bound=bound, bits=bits)
            self._bound = numbers.bound
            self.vectors |= {NUMBERS: numbers, NUMBERS + CLIPPED: Counts(length=1, maximum=real)}
        if whole := sum(leaf.size for leaf in leaves if self._sent_whole(leaf)):
            self.vectors[INTEGERS] = Counts(length=whole, maximum=2 * self._largest * self._heaviest)
        if not self.vectors:
            raise LocalProtocolError("nothing of this tree would be sent: it has no numbers, or all are kept")
        if weighing is not None:
            self.vectors[WEIGHT] = weighing

    def flatten(self, tree: Any, weight: float = 1) -> dict[str, NDArray[Any]]:
        """What a client contributes of its tree, by the names of `vectors`. weight: w, a whole number in
        0..max_weight, such as its number of examples; 1 where there are no weights.

        Raises: LocalProtocolError, which names the leaf, if the tree is not as the reference, or holds a
        number that is not finite or an integer beyond the largest. Nothing was sent.
        """
        if WEIGHT not in self.vectors and weight != 1:
            raise LocalProtocolError(f"weight {weight!r} in a tree without weights: give Tree a max_weight")
        w = whole_weight("weight", weight, self._heaviest)
        real: list[NDArray[Any]] = []
        whole: list[NDArray[np.int64]] = []
        for leaf, value in _matched(self._skeleton, tree):
            if leaf.real:
                real.append(leaf.read(value))
            elif self._sent_whole(leaf):
                whole.append(w * (self._within(leaf, leaf.read(value)) + self._largest))
        vectors: dict[str, NDArray[Any]] = {}
        if NUMBERS in self.vectors:
            wide = any(x.dtype.itemsize > 4 for x in real)
            numbers = np.concatenate(real, dtype=np.float64 if wide else np.float32)
            vectors = {NUMBERS: numbers, NUMBERS + CLIPPED: self._clipped(numbers)}
        if INTEGERS in self.vectors:
            vectors[INTEGERS] = np.concatenate(whole)
        if WEIGHT in self.vectors:
            vectors[WEIGHT] = np.array([w])
        return vectors

    def unflatten(self, aggregate: Aggregate) -> Any:
        """The survivors' weighted mean as a tree: the reference's structure, types, shapes and devices, apart
        from all gradients.

        Real numbers are within `aggregate.error_bound["numbers"]` of the mean of what was not cut, and are
        then rounded to the type of their leaf; integers are exact, as `integers` says.

        Raises: LocalProtocolError if this is the sum of other vectors, or nobody in it weighs anything.
        """
        total = self._total_weight(aggregate)
        ahead = {True: self._mean_of_numbers(aggregate), False: self._mean_of_integers(aggregate, total)}
        start = {True: 0, False: 0}

        def write(path: str, leaf: Leaf) -> Any:
            if leaf.path in self._kept:
                return duplicate(self._kept[leaf.path])
            begin = start[leaf.real]
            start[leaf.real] += leaf.size
            return leaf.write(ahead[leaf.real][begin : begin + leaf.size])

        return _mapped(self._skeleton, write)

    def share_clipped(self, aggregate: Aggregate) -> float:
        """Of all real numbers of the survivors, the share that was beyond the bound and cut, in 0..1; of an
        aggregate of these vectors.
        """
        spec = self.vectors.get(NUMBERS)
        if spec is None:
            return 0.0
        return aggregate.clipped[NUMBERS] / (spec.length * len(aggregate.survivors))

    def _leaf(self, path: str, value: Any, *, keep: bool) -> Leaf:
        leaf = Leaf.of(path, value)
        if keep and not leaf.real:
            self._kept[path] = duplicate(value)
        return leaf

    def _sent_whole(self, leaf: Leaf) -> bool:
        return not leaf.real and leaf.path not in self._kept

    def _within(self, leaf: Leaf, x: NDArray[Any]) -> NDArray[np.int64]:
        far = max(int(x.max()), -int(x.min())) if len(x) else 0
        if far > self._largest:
            raise LocalProtocolError(
                f"{leaf.path} holds integers as large as {far}, beyond the largest of {self._largest}: give "
                "Tree a largest_integer, or keep the reference's (integers='keep')"
            )
        return x.astype(np.int64)

    def _clipped(self, numbers: NDArray[Any]) -> NDArray[np.int64]:
        blocks = (numbers[i : i + BLOCK].astype(np.float64) for i in range(0, len(numbers), BLOCK))
        return np.array([sum(out_of_range(block, self._bound) for block in blocks)])

    def _total_weight(self, aggregate: Aggregate) -> int:
        if aggregate.sum.keys() != self.vectors.keys():
            raise LocalProtocolError(f"this is no sum of such trees: its vectors are {sorted(aggregate.sum)}")
        if WEIGHT not in self.vectors:
            return len(aggregate.survivors)
        total = int(aggregate.sum[WEIGHT][0])
        if total < 1:
            raise LocalProtocolError("all who are left weigh 0: there is no mean of nothing")
        return total

    def _mean_of_numbers(self, aggregate: Aggregate) -> NDArray[np.float64]:
        if NUMBERS not in self.vectors:
            return np.empty(0)
        mean = self._whole_length(NUMBERS, aggregate.mean[NUMBERS])
        # What was cut has its mean in the range: beyond it there is rounding alone, or a client that lies.
        cut: NDArray[np.float64] = np.clip(mean, -self._bound, self._bound)
        return cut

    def _mean_of_integers(self, aggregate: Aggregate, total: int) -> NDArray[np.int64]:
        if INTEGERS not in self.vectors:
            return np.empty(0, np.int64)
        summed = self._whole_length(INTEGERS, aggregate.sum[INTEGERS]) - self._largest * total
        quotient, rest = np.divmod(summed, total)
        mean: NDArray[np.int64] = quotient + (
            (2 * rest > total) | ((2 * rest == total) & (quotient % 2 == 1))
        )
        return mean

    def _whole_length(self, name: str, x: NDArray[Any]) -> NDArray[Any]:
        if len(x) != self.vectors[name].length:
            raise LocalProtocolError(
                f"this is no sum of such trees: of {name!r} it has {len(x)}, not {self.vectors[name].length}"
            )
        return x


def _largest(given: int | None, max_weight: int) -> int:
    if given is None:
        return min(2**31 - 1, _ROOM // (2 * max_weight))
    largest = integer("largest_integer", given)
    if not 1 <= largest <= (2**53 - 1) // (2 * max_weight):
        raise LocalProtocolError(
            f"largest_integer {largest} with weights up to {max_weight}: from 1 to 2^52 / max_weight"
        )
    return largest


def _mapped(node: Any, at: Callable[[str, Any], Any], path: str = "tree") -> Any:
    """A tree of the same build, whose leaves are what `at` makes of path and leaf."""
    if isinstance(node, dict):
        made = copy.copy(node)  # with its class, order, and what a state_dict has in attributes
        for key, child in node.items():
            made[key] = _mapped(child, at, f"{path}[{key!r}]")
        return made
    if isinstance(node, Leaf) or is_leaf(node):
        return at(path, node)
    if isinstance(node, tuple) and hasattr(node, "_fields"):
        named = zip(node._fields, node, strict=True)
        return type(node)(*(_mapped(child, at, f"{path}.{name}") for name, child in named))
    if type(node) in (list, tuple):
        return type(node)(_mapped(child, at, f"{path}[{i}]") for i, child in enumerate(node))
    raise LocalProtocolError(
        f"{path} is a {type(node).__name__}: a tree is of dicts, lists, tuples, arrays of numpy, tensors and "
        "numbers; leave it out, or convert it"
    )


def _matched(skeleton: Any, tree: Any, path: str = "tree") -> Iterator[tuple[Leaf, Any]]:
    """Each leaf of the reference and what the tree has there, in the reference's order.

    Raises: LocalProtocolError, which names the place, where the tree is built otherwise.
    """
    if isinstance(skeleton, Leaf):
        yield skeleton, tree
        return
    alike = isinstance(tree, dict) if isinstance(skeleton, dict) else type(tree) is type(skeleton)
    if not alike:
        kinds = type(tree).__name__, type(skeleton).__name__
        raise LocalProtocolError(f"{path} is a {kinds[0]}, where the reference has a {kinds[1]}")
    if isinstance(skeleton, dict):
        if missing := [key for key in skeleton if key not in tree]:
            raise LocalProtocolError(f"{path} lacks {missing[0]!r}, which the reference has")
        if more := [key for key in tree if key not in skeleton]:
            raise LocalProtocolError(f"{path} has {more[0]!r}, which the reference lacks")
        for key, child in skeleton.items():
            yield from _matched(child, tree[key], f"{path}[{key!r}]")
        return
    if len(tree) != len(skeleton):
        raise LocalProtocolError(f"{path} has {len(tree)} entries, the reference {len(skeleton)}")
    for i, child in enumerate(skeleton):
        yield from _matched(child, tree[i], f"{path}[{i}]")
