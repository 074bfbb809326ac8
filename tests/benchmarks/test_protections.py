"""The rows of the matrix: each is a run that can be asked for, and typed."""

from __future__ import annotations

import shlex
from itertools import pairwise

import msgspec
import pytest

from benchmarks.protections import EPSILON, PLAIN, PROTECTIONS, Protection, by_name
from fl.config.run import RunConfig
from secagg import Bounded, LocalProtocolError, throwaway_identities


def test_every_row_has_a_name_of_its_own_and_the_first_protects_nothing() -> None:
    assert len({row.name for row in PROTECTIONS}) == len(PROTECTIONS)
    assert PROTECTIONS[0] == PLAIN
    assert [row for row in PROTECTIONS if row == by_name("masking")] == [Protection("masking")]


@pytest.mark.parametrize("row", PROTECTIONS, ids=lambda row: row.name)
def test_the_flags_of_a_row_are_its_settings(row: Protection) -> None:
    config = RunConfig.of(clients=20, **row.all_settings)
    words = shlex.split(row.flags)
    typed = {
        flag: "True" if follows.startswith("--") else follows
        for flag, follows in pairwise([*words, "--"])
        if flag.startswith("--")
    }
    told = {name.removeprefix("--").replace("-", "_"): value for name, value in typed.items()}
    assert told == {
        name: f"{value:g}" if isinstance(value, float) else str(value)
        for name, value in row.all_settings.items()
    }
    assert config.protection.kept == row.kept
    assert (config.protection.scheme == "plain") == row.clear


def test_rows_with_noise_of_which_there_is_one_have_the_same_epsilon() -> None:
    spent = [dict(row.settings).get("epsilon") for row in PROTECTIONS if "distributed" not in row.mechanism]
    assert {each for each in spent if each is not None} == {EPSILON}


def test_groups_are_of_as_many_clients_in_any_cohort_and_unsafe_ones_say_so() -> None:
    rows = [row for row in PROTECTIONS if row.group]
    assert [row.group for row in rows] == [5, 2]
    for row in rows:
        assert [row.settings_of(n)["groups"] * row.group for n in (10, 20, 50)] == [10, 20, 50]
        assert ("unsafe" in row.name) == ("unsafe_groups" in row.all_settings)
        assert row.parted
        assert not row.clear
    safe, unsafe = (RunConfig.of(clients=20, **row.all_settings).protection for row in rows)
    spec, (roster, _) = Bounded(length=3, bound=1.0), throwaway_identities(range(20))
    safe.for_cohort(20, {"": spec}, roster)
    with pytest.raises(LocalProtocolError, match="unsafe_groups"):
        msgspec.structs.replace(unsafe, unsafe_groups=False).for_cohort(20, {"": spec}, roster)
