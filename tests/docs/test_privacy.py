"""docs/privacy.md: which noise runs with what."""

from __future__ import annotations

import re

import pytest

from fl.config.privacy import NOISES
from tests.docs.pages import rewritten
from tests.docs.privacy_table import CELLS, PAGE, RUNS, block, cell


def test_the_table_is_what_the_code_makes_it() -> None:
    page = PAGE.read_text()
    assert rewritten(page, {"refusals": block()}) == page, "stale: run `python -m tests.docs.privacy_table`"


def test_every_cell_runs_or_is_refused_in_a_sentence_of_the_table() -> None:
    for scheme, mechanism, noise, selection in CELLS:
        said = cell(scheme, mechanism, noise, selection)
        if noise is None or noise in NOISES[mechanism]:
            assert said == RUNS or f". {said}\n" in PAGE.read_text() + "\n"
        else:
            assert re.match(r"(noise: nobody adds noise|noise = .*: with privacy = .* it is .* or )", said)


@pytest.mark.parametrize("mechanism", ["local", "central", "distributed", "example"])
def test_beside_noise_nothing_is_declared(mechanism: str) -> None:
    for scheme in ("masking", "plain"):
        assert cell(scheme, mechanism, None, "`--select quality`") != RUNS
        assert cell(scheme, mechanism, None, "`--cluster`") != RUNS
