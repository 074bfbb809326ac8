"""Any tree of arrays in a sum, and the mean of it as such a tree again."""

from __future__ import annotations

import subprocess
import sys
from collections import OrderedDict, namedtuple
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from secagg import CKKS, Aggregate, Bounded, LocalProtocolError, Masking, Plain, Split, Tree, run
from secagg.encoding import Clipping

Pair = namedtuple("Pair", "first second")
FLOATS = {"float16": 2**-10, "bfloat16": 2**-7, "float32": 2**-23, "float64": 2**-52}
"""Of each type the distance from 1 to the next number."""
BOUND = 4.0


def mean_of(tree: Tree, given: list[Any], lost: set[int] | None = None, **more: Any) -> tuple[Any, Aggregate]:
    """given: of each client its tree, or with weights (tree, weight)."""
    pairs = given if "weight" in tree.vectors else [(one, 1) for one in given]
    scheme = Masking.for_cohort(len(given), tree.vectors)
    inputs = {u: tree.flatten(*pair) for u, pair in enumerate(pairs)}
    total = run(scheme, inputs, drop={scheme.upload_round: lost or ()}, **more)
    return tree.unflatten(total), total


def assert_alike(made: Any, tree: Any, error: float) -> None:
    """Structure, types and shapes, and numbers but for the sum's error and the rounding of their type."""
    assert type(made) is type(tree)
    match tree:
        case dict():
            assert list(made) == list(tree)
            for key, child in tree.items():
                assert_alike(made[key], child, error)
        case list() | tuple():
            assert len(made) == len(tree)
            for one, other in zip(made, tree, strict=True):
                assert_alike(one, other, error)
        case torch.Tensor():
            assert (made.dtype, made.shape, made.device) == (tree.dtype, tree.shape, tree.device)
            assert_near(made.detach().double().numpy(), tree.detach().double().numpy(), made.dtype, error)
        case np.ndarray() | np.generic():
            assert (made.dtype, made.shape) == (tree.dtype, tree.shape)
            assert_near(made, tree, made.dtype, error)
        case _:
            assert_near(made, tree, "float64" if isinstance(tree, float) else "int64", error)


def assert_near(made: Any, given: Any, dtype: Any, error: float) -> None:
    unit = FLOATS.get(getattr(dtype, "name", str(dtype).removeprefix("torch.")))
    made, given = np.asarray(made, np.float64), np.asarray(given, np.float64)
    allowed = 0.0 if unit is None else error + unit * (np.abs(given) + error) + 2.0**-24
    assert (np.abs(made - given) <= allowed).all()


# There and back

floats = st.floats(-BOUND, BOUND, width=16)
shapes = arrays.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3)
of_numpy = st.one_of(
    *(
        arrays.arrays(dtype, shapes, elements=st.floats(-BOUND, BOUND, width=16))
        for dtype in ("f2", "f4", ">f8")
    ),
    *(arrays.arrays(dtype, shapes) for dtype in ("i1", "u2", "?")),
    arrays.arrays("i8", shapes, elements=st.integers(-(2**31) + 1, 2**31 - 1)),
)
of_torch = st.builds(
    lambda x, dtype, grad: torch.tensor(x, dtype=dtype, requires_grad=grad),
    arrays.arrays("f4", shapes, elements=floats),
    st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    st.booleans(),
)
leaves = st.one_of(
    floats,
    st.integers(-1000, 1000),
    st.booleans(),
    floats.map(np.float32),
    st.lists(floats, min_size=1, max_size=3),
    of_numpy,
    of_torch,
)
trees = st.recursive(
    leaves,
    lambda child: st.one_of(
        st.dictionaries(st.text(max_size=3) | st.integers(0, 9), child, max_size=3),
        st.lists(child, max_size=3),
        st.tuples(child, child),
        st.builds(Pair, child, child),
    ),
    max_leaves=6,
)


@settings(max_examples=150)
@given(trees)
def test_what_all_have_comes_back_as_it_was(tree: Any) -> None:
    whole = {"a": tree, "more": 0.5}
    made, total = mean_of(Tree(whole, bound=BOUND), [whole] * 3)
    assert_alike(made, whole, total.error_bound["numbers"])
    assert total.clipped == {"numbers": 0}


@settings(max_examples=60)
@given(st.data())
def test_the_weighted_mean_is_numpys_and_integers_are_rounded_exactly(data: st.DataObject) -> None:
    weights = data.draw(st.lists(st.integers(0, 1000), min_size=4, max_size=6))
    weights[1] += 1  # somebody counts
    n = len(weights)
    x = data.draw(arrays.arrays("f8", (n, 3), elements=st.floats(-BOUND, BOUND)))
    counters = data.draw(arrays.arrays("i8", (n, 2), elements=st.integers(-(2**31) + 1, 2**31 - 1)))
    tree = Tree({"x": x[0], "n": counters[0]}, bound=BOUND, max_weight=1001)
    given = [({"x": x[u], "n": counters[u]}, weights[u]) for u in range(n)]
    made, total = mean_of(tree, given, lost={0})
    left = slice(1, n)
    expected = np.average(x[left], axis=0, weights=weights[left])
    assert np.abs(made["x"] - expected).max() <= total.error_bound["numbers"]
    exact = [
        Fraction(int(np.dot(counters[left, i].astype(object), weights[left])), sum(weights[left]))
        for i in (0, 1)
    ]
    assert made["n"].tolist() == [round(mean) for mean in exact]


@pytest.mark.parametrize(("weights", "mean", "most"), [((1, 1, 2), 2, False), ((1, 2, 3), 3, True)])
def test_of_two_nearest_integers_the_even_one_is_taken(weights: Any, mean: int, most: bool) -> None:
    """As numpy and FedAvg's own average round; of bool it is the majority, and False of halves."""
    given = [({"n": n, "b": b}, w) for n, b, w in zip((1, 2, 3), (False, False, True), weights, strict=True)]
    expected = round(sum(Fraction(tree["n"] * w, sum(weights)) for tree, w in given))
    made, _ = mean_of(Tree(given[0][0], bound=1.0, max_weight=3), given)
    assert made == {"n": expected, "b": False}


def test_a_state_dict_stays_one_that_its_module_loads() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    state = model.state_dict()
    made, _ = mean_of(Tree(state, bound=BOUND), [state] * 3)
    assert type(made) is OrderedDict
    assert made._metadata == state._metadata
    model.load_state_dict(made)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(6.0).reshape(2, 3).T / 2,
        torch.arange(8.0)[::2] / 2,
        torch.tensor(2.5),
        torch.nn.Parameter(torch.ones(2)),
        torch.ones(2, requires_grad=True) * 2,
        torch.zeros(0, 3),
        torch.tensor([1, 2**31 - 1], dtype=torch.uint32),
        torch.tensor([True, False]),
    ],
    ids=["transposed", "strided", "0-d", "parameter", "in a graph", "empty", "uint32", "bool"],
)
def test_a_tensor_is_taken_as_it_is_and_given_back_without_gradients(tensor: torch.Tensor) -> None:
    made, total = mean_of(Tree([tensor, 0.5], bound=BOUND), [[tensor, 0.5]] * 3)
    assert_alike(
        made[0],
        tensor.detach() if type(tensor) is torch.Tensor else tensor.data,
        total.error_bound["numbers"],
    )
    assert not made[0].requires_grad


def test_the_mean_is_on_the_references_device_wherever_the_clients_trees_are() -> None:
    """On the one that every machine has beside its processor, where tensors have no numbers."""
    tree = Tree([torch.zeros(2, dtype=torch.bfloat16, device="meta")], bound=BOUND)
    made, _ = mean_of(tree, [[torch.ones(2, dtype=torch.bfloat16)]] * 3)
    assert (made[0].device.type, made[0].dtype, made[0].shape) == ("meta", torch.bfloat16, (2,))


def test_the_order_of_a_clients_keys_does_not_matter() -> None:
    tree = Tree({"a": 0.0, "b": 1.0}, bound=BOUND)
    assert tree.flatten({"b": 2.0, "a": 3.0})["numbers"].tolist() == [3.0, 2.0]


def test_in_a_list_of_whole_and_real_numbers_the_whole_ones_stay_whole() -> None:
    assert mean_of(Tree([0.5, 7], bound=BOUND), [[0.5, n] for n in (7, 8, 9)])[0][1] == 8


def test_a_whole_number_stands_for_a_real_one() -> None:
    made, _ = mean_of(Tree({"x": 0.5, "l": [0.5, 0.5]}, bound=BOUND), [{"x": 1, "l": [1, np.float64(0)]}] * 3)
    assert_alike(made, {"x": 1.0, "l": [1.0, 0.0]}, 1e-3)


def test_a_mean_that_the_type_cannot_hold_is_its_largest_number() -> None:
    """Rounding, or a lie, may take it beyond."""
    tree = Tree({"h": np.float16(65504), "u": np.uint8([255])}, bound=1e6, bits=4)
    total = Aggregate(
        frozenset(range(3)),
        {},
        {"numbers": [], "numbers clipped": [0], "integers": np.array([3 * (2**31 + 299)])},  # type: ignore[dict-item, list-item]
        {"numbers": np.array([7e4])},
        {},
    )
    assert_alike(tree.unflatten(total), {"h": np.float16(65504), "u": np.uint8([255])}, 0.0)


# Integers that are kept


def test_what_is_kept_is_not_sent_and_is_the_references_own_whatever_happens_to_that() -> None:
    counters = torch.tensor([5, 6])
    reference = {"n": counters, "on": True, "x": 0.5}
    tree = Tree(reference, bound=1.0, integers="keep")
    assert tree.vectors.keys() == {"numbers", "numbers clipped"}
    counters += 100
    for _ in range(2):
        made, _ = mean_of(tree, [{"n": "anything", "on": None, "x": 0.25}] * 3)
        assert made["n"].tolist() == [5, 6]
        assert made["on"] is True
        made["n"] += 1


# What was cut


@pytest.mark.parametrize("scheme", [Masking, Split, CKKS, Plain])
def test_how_much_was_cut_is_told_of_all_together(scheme: Any) -> None:
    """As encoding cuts: 0.1 in float32 is more than the bound."""
    tree = Tree({"a": np.zeros(4, np.float32), "b": [0.0] * 20_000}, bound=0.1)
    cut = {
        u: {"a": np.float32([0.1, -0.3, 0.05, 0]), "b": [0.2] * u + [0.1] * (20_000 - u)} for u in range(4)
    }
    told: dict[int, Clipping] = {}
    total = run(
        scheme.for_cohort(4, tree.vectors),
        {u: tree.flatten(own) for u, own in cut.items()},
        drop={"join": {3}},
        told=lambda u, clipping: told.update({u: clipping["numbers"]} if clipping else {}),
    )
    assert total.clipped == {"numbers": 9}
    assert sum(told[u].coordinates for u in range(3)) == 9
    assert tree.share_clipped(total) == 9 / (3 * 20_004)


def test_sums_without_such_a_count_tell_of_none() -> None:
    assert (
        run(Masking.for_cohort(3, Bounded(length=1, bound=1.0)), {u: [9.0] for u in range(3)}).clipped == {}
    )
    assert Tree([1], bound=1.0).share_clipped(mean_of(Tree([1], bound=1.0), [[1]] * 3)[1]) == 0


def test_beside_blanks_there_is_no_count_and_no_tree() -> None:
    with pytest.raises(LocalProtocolError, match="beside the vector 'numbers clipped'"):
        Masking.for_cohort(100, Tree([0.5], bound=1.0).vectors, blank=0.1)


# What is refused

REFERENCE = {
    "w": np.zeros((2, 3), np.float32),
    "n": np.array([1, 2]),
    "l": [0.5, 1.0],
    "t": (0.5, np.ones(1)),
}


def but(**changes: Any) -> dict[str, Any]:
    return REFERENCE | changes


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ([1], "tree is a list, where the reference has a dict"),
        (but(t=[0.5, np.ones(1)]), r"tree\['t'\] is a list, where the reference has a tuple"),
        (but(t=(0.5,)), r"tree\['t'\] has 1 entries, the reference 2"),
        ({"w": 0, "n": 0, "t": 0}, "tree lacks 'l', which the reference has"),
        (but(more=1), "tree has 'more', which the reference lacks"),
        (
            but(w=np.zeros((3, 2), np.float32)),
            r"tree\['w'\] has the shape \(3, 2\), the reference has \(2, 3\)",
        ),
        (but(l=[0.5]), r"tree\['l'\] has the shape \(1,\)"),
        (but(w=np.zeros((2, 3))), r"tree\['w'\] holds float64, the reference float32: convert"),
        (but(w=torch.zeros(2, 3, dtype=torch.int32)), r"tree\['w'\] holds int32, the reference float32"),
        (but(n=np.array([1.0, 2.0])), r"tree\['n'\] holds float64, the reference int64"),
        (but(t=(True, np.ones(1))), r"tree\['t'\]\[0\] holds bool, the reference float64"),
        (but(l=[0.5, None]), r"tree\['l'\] holds NoneType, where the reference has numbers"),
        (but(l=[0.5, True]), r"tree\['l'\] holds bool, where the reference has numbers"),
        (but(l=[]), r"tree\['l'\] holds nothing, where the reference has numbers"),
        (but(l="ab"), r"tree\['l'\] holds str, where the reference has numbers"),
        (but(l=[0.5, 10**400]), r"tree\['l'\] cannot be read as an array: "),
        (but(w=torch.zeros(2, 3).to_sparse()), r"tree\['w'\] cannot be read as an array: "),
        (but(w=torch.zeros(2, 3, device="meta")), r"tree\['w'\] cannot be read as an array: "),
        (
            but(w=np.ma.zeros((2, 3), np.float32)),
            r"tree\['w'\] hides some of its numbers by a mask: fill them in",
        ),
        (but(w=np.full((2, 3), np.nan, np.float32)), r"tree\['w'\] holds nan: mend it where it comes from"),
        (but(l=[0.5, -np.inf]), r"tree\['l'\] holds -inf: mend"),
        (
            but(n=np.array([1, 2**31])),
            r"tree\['n'\] holds integers as large as 2147483648, beyond the largest",
        ),
        (but(n=np.array([-(2**63), 0])), r"tree\['n'\] holds integers as large as 9223372036854775808"),
    ],
)
def test_a_tree_that_is_not_as_the_reference_is_refused_by_the_name_of_its_leaf(
    tree: Any, words: str
) -> None:
    with pytest.raises(LocalProtocolError, match=words):
        Tree(REFERENCE, bound=1.0).flatten(tree)


@pytest.mark.parametrize(
    ("reference", "more", "words"),
    [
        ({"name": "cnn"}, {}, r"tree\['name'\] is a str: a tree is of dicts, lists, tuples"),
        ([0.5, None], {}, r"tree\[1\] is a NoneType: a tree is of"),
        (Pair(0.5, 1j), {}, r"tree.second is a complex: a tree is of"),
        (
            {"z": torch.zeros(1, dtype=torch.complex64)},
            {},
            r"tree\['z'\] holds complex64: numbers of float16",
        ),
        ({"f": torch.zeros(1).to(torch.float8_e5m2)}, {}, r"tree\['f'\] holds float8_e5m2: numbers of"),
        ({"o": np.array([None])}, {}, r"tree\['o'\] holds object: numbers of"),
        ({}, {}, "nothing of this tree would be sent: it has no numbers"),
        ([1], {"integers": "keep"}, "nothing of this tree would be sent"),
        ([1], {"integers": "max"}, "integers='max' is not to be had: 'mean' is their rounded mean"),
        ([1], {"largest_integer": 0}, "largest_integer 0 with weights up to 1: from 1 to"),
        ([1], {"largest_integer": 2**43, "max_weight": 1000}, "with weights up to 1000: from 1 to"),
        ([1], {"largest_integer": 1.5}, "largest_integer 1.5 is not an integer"),
        ([0.5], {"max_weight": 0}, "maximum weight 0 is not in"),
        ([0.5], {"bound": -1.0}, "bound -1.0 is not a number"),
    ],
)
def test_a_reference_that_cannot_be_summed_is_refused(reference: Any, more: Any, words: str) -> None:
    with pytest.raises(LocalProtocolError, match=words):
        Tree(reference, **{"bound": 1.0} | more)


@pytest.mark.parametrize("weight", [3, 3.0, np.float32(3), np.uint8(3), torch.tensor(3), np.array([3])])
def test_a_whole_weight_is_taken_however_it_was_counted(weight: Any) -> None:
    vectors = Tree([0.5, 7], bound=1.0, max_weight=3, largest_integer=9).flatten([0.5, 7], weight)
    assert vectors["weight"].tolist() == [3]
    assert vectors["integers"].tolist() == [3 * (7 + 9)]


@pytest.mark.parametrize("weight", [-1, 2.5, float("nan"), float("inf"), 4, True, "3", None, np.ones(2)])
def test_any_other_weight_is_refused_by_name(weight: Any) -> None:
    with pytest.raises(LocalProtocolError, match=r"weight .* is not a whole number in 0\.\.3"):
        Tree([0.5], bound=1.0, max_weight=3).flatten([0.5], weight)


def test_a_weight_without_weights_is_refused() -> None:
    with pytest.raises(
        LocalProtocolError, match="weight 2 in a tree without weights: give Tree a max_weight"
    ):
        Tree([0.5], bound=1.0).flatten([0.5], 2)


def test_where_nobody_weighs_anything_there_is_no_mean() -> None:
    with pytest.raises(LocalProtocolError, match="all who are left weigh 0: there is no mean of nothing"):
        mean_of(Tree([0.5, 1], bound=1.0, max_weight=3), [([0.5, 1], 0)] * 3)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (Tree([0.5], bound=1.0, max_weight=1), r"no sum of such trees: its vectors are \['numbers', 'num"),
        (Tree([0.5, 0.5], bound=1.0), "no sum of such trees: of 'numbers' it has 2, not 1"),
    ],
)
def test_the_sum_of_another_tree_is_refused(other: Tree, words: str) -> None:
    given = [0.5] * other.vectors["numbers"].length
    total = mean_of(other, [(given, 1)] * 3 if other.vectors.keys() & {"weight"} else [given] * 3)[1]
    with pytest.raises(LocalProtocolError, match=words):
        Tree([0.5], bound=1.0).unflatten(total)


def test_nothing_of_it_imports_torch() -> None:
    code = (
        "import sys, numpy as np, secagg\n"
        "tree = secagg.Tree({'x': np.ones(2), 'n': 3}, bound=2.0)\n"
        "scheme = secagg.Masking.for_cohort(3, tree.vectors)\n"
        "given = {u: tree.flatten({'x': np.ones(2), 'n': 3}) for u in range(3)}\n"
        "assert tree.unflatten(secagg.run(scheme, given))['n'] == 3\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
