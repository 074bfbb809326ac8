"""The averaging line of a simulation as one call: whatever ids, weights and trees it has."""

from __future__ import annotations

import uuid
import warnings
from typing import Any

import numpy as np
import pytest

from secagg import CKKS, LocalProtocolError, Masking, Plain, Split, TooFewClients, average

REFERENCE = {"w": np.zeros(3, np.float32), "n": 0}
IDS: list[Any] = ["zürich", 2**63, ("site", 4), uuid.UUID(int=7), None]


def contributions(ids: Any = IDS) -> dict[Any, Any]:
    return {
        who: ({"w": np.full(3, i / 10, np.float32), "n": 10 * i}, 100 * (i + 1)) for i, who in enumerate(ids)
    }


@pytest.mark.parametrize(
    ("scheme", "more"),
    [
        (Masking, {}),
        (Masking, {"adversary": "active", "corrupt": 1}),
        (Split, {"relays": 3, "adversary": "active"}),
        (CKKS, {"ending": "release"}),
        (Plain, {}),
    ],
)
def test_whatever_clients_are_called_the_mean_is_of_those_who_are_left(scheme: Any, more: Any) -> None:
    done = average(REFERENCE, contributions(), bound=1.0, lost=["zürich"], scheme=scheme, **more)
    assert done.survivors == tuple(IDS[1:])
    weights = [200, 300, 400, 500]
    expected = np.average([0.1, 0.2, 0.3, 0.4], weights=weights)
    assert np.abs(done.tree["w"] - expected).max() <= done.error_bound + 2e-8
    assert done.tree["n"] == round(np.average([10, 20, 30, 40], weights=weights))
    assert done.aggregate.sum["weight"].tolist() == [sum(weights)]
    assert (done.clipped, done.aggregate.survivors) == (0, {1, 2, 3, 4})


def test_who_is_lost_had_dealt_its_keys_and_too_many_of_them_end_it() -> None:
    with pytest.raises(TooFewClients, match=r"left in round masked-input"):
        average(REFERENCE, contributions(), bound=1.0, lost=IDS[1:])


def test_what_was_cut_is_warned_of_and_above_a_share_alone_if_one_is_said() -> None:
    words = r"3 numbers, a share of 0\.2, were beyond the bound of 0\.35 and cut"
    with pytest.warns(UserWarning, match=words) as caught:
        done = average(REFERENCE, contributions(), bound=0.35)
    assert caught[0].filename == __file__
    assert done.clipped == 0.2
    with warnings.catch_warnings(action="error"):
        average(REFERENCE, contributions(), bound=0.35, warn_above=0.2)


def test_a_tree_of_integers_alone_has_no_error() -> None:
    done = average([0], {who: ([who], who) for who in (1, 2, 4)}, bound=1.0)
    assert (done.tree, done.error_bound, done.clipped) == ([3], 0, 0)


@pytest.mark.parametrize(
    ("changes", "more", "words"),
    [
        ({"zürich": (REFERENCE, -1)}, {}, "client 'zürich': weight -1 is not a whole number in"),
        ({"zürich": (REFERENCE, 9)}, {"max_weight": 3}, r"client 'zürich': weight 9 .* 0\.\.3"),
        ({"zürich": ({"w": 0}, 1)}, {}, "client 'zürich': tree lacks 'n', which the reference has"),
        ({"zürich": REFERENCE}, {}, "client 'zürich' gives no pair of a tree and its weight"),
        ({}, {"lost": ["bern"]}, "client 'bern' is lost, and contributes nothing to begin with"),
        ({}, {"scheme": Plain, "adversary": "active"}, "plain hides nothing from any server: take"),
        ({}, {"scheme": CKKS, "adversary": "active"}, "CKKS is not for a server that is active"),
    ],
)
def test_what_is_wrong_is_said_of_the_client_by_its_own_name(changes: Any, more: Any, words: str) -> None:
    with pytest.raises(LocalProtocolError, match=words):
        average(REFERENCE, contributions() | changes, **{"bound": 1.0} | more)


def test_two_clients_hide_nothing_of_each_other() -> None:
    with pytest.raises(LocalProtocolError, match="with 2 clients the sum tells each input"):
        average(REFERENCE, contributions("ab"), bound=1.0)
    assert average(REFERENCE, contributions("ab"), bound=1.0, small_cohort=True).survivors == ("a", "b")


def test_a_list_of_trees_names_no_clients() -> None:
    with pytest.raises(LocalProtocolError, match="contributions map each client's id to its"):
        average(REFERENCE, list(contributions().values()), bound=1.0)  # type: ignore[arg-type]
