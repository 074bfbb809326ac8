"""Names of clients, and the ids by which they take part."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import LocalProtocolError, Names
from secagg.wire import MAX_ID

NAMES = st.one_of(st.text(), st.integers(), st.uuids(), st.none(), st.tuples(st.text(), st.booleans()))


@given(st.dictionaries(NAMES, st.integers(0, MAX_ID)).filter(lambda d: len(set(d.values())) == len(d)))
def test_there_and_back_is_where_one_was(listed: dict[Any, int]) -> None:
    names = Names(listed)
    assert dict(names) == listed
    assert [names.name(names[who]) for who in names] == list(listed)
    assert names.of(reversed(listed.values())) == tuple(listed)
    assert names == Names(Names(listed))


@given(st.lists(NAMES, unique=True))
def test_where_no_roster_gives_ids_they_are_the_places(listed: list[Any]) -> None:
    names = Names(iter(listed))
    assert list(names.items()) == [(who, u) for u, who in enumerate(listed)]
    assert "another" not in names or "another" in listed


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        (["bern", "genf", "bern"], "client 'bern' stands twice among the names"),
        ([1, True], "client True stands twice"),
        ({"bern": 7, "genf": 7}, "clients 'bern' and 'genf' have one id, 7"),
        *(
            ({"bern": u}, r"client 'bern': its id is a whole number in 0\.\.2147483646, not ")
            for u in (-1, MAX_ID + 1, 1.0, True, "1", None, np.int64(1))
        ),
    ],
)
def test_what_is_not_one_to_one_is_refused(listed: Any, words: str) -> None:
    with pytest.raises(LocalProtocolError, match=words):
        Names(listed)


def test_who_takes_no_part_has_no_name() -> None:
    names = Names(["bern", "genf"])
    for ask in (lambda: names.name(2), lambda: names.of([0, 2])):
        with pytest.raises(LocalProtocolError, match="nobody here takes part as client 2"):
            ask()
    with pytest.raises(KeyError):
        names["zug"]
