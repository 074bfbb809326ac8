"""Which noise runs under which scheme, and with which clients: `python -m tests.docs.privacy_table` writes
the table of docs/privacy.md.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Hashable, Iterable
from typing import Any, get_args

from fl.config.privacy import NOISES, Mechanism, NoiseKind
from fl.config.run import RunConfig
from fl.config.section import ConfigError
from fl.federation.vectors import scheme_for
from secagg import LocalProtocolError, throwaway_identities
from tests.docs.errors_page import ROOT
from tests.docs.pages import rewritten, table

PAGE = ROOT / "docs" / "privacy.md"
RUNS = "runs"
CLIENTS = 20

SCHEMES: dict[str, dict[str, Any]] = {
    "masking": {"scheme": "masking"},
    "split": {"scheme": "split"},
    "ckks": {"scheme": "ckks"},
    "ckks, keep": {"scheme": "ckks", "ending": "keep"},
    "plain": {"scheme": "plain"},
}
SELECTIONS: dict[str, dict[str, Any]] = {
    "all": {},
    "`--sample`": {"sample": 10},
    "`--select channel`": {"sample": 10, "select": "channel", "links": "mixed"},
    "`--select quality`": {"sample": 10, "select": "quality"},
    "`--cluster`": {"cluster": "label"},
}
CELLS = list(itertools.product(SCHEMES, get_args(Mechanism), (None, *get_args(NoiseKind)), SELECTIONS))


@functools.cache
def cell(scheme: str, mechanism: str, noise: str | None, selection: str) -> str:
    """RUNS, if such a run can be described and has a session; else the sentence that refuses it."""
    noised = {} if mechanism == "none" else {"clip": 0.5, "noise_multiplier": 1.0}
    settings = SCHEMES[scheme] | SELECTIONS[selection] | noised
    try:
        config = RunConfig.of(clients=CLIENTS, privacy=mechanism, noise=noise, **settings)
        roster, _ = throwaway_identities(range(CLIENTS), relays=config.protection.relay_count)
        scheme_for(config, config.cohort.per_round, 650, 60, roster)
    except (ConfigError, LocalProtocolError) as error:
        return str(error)
    return RUNS


def grouped(names: Iterable[str], by: Callable[[str], Hashable]) -> list[list[str]]:
    """The names of which `by` says the same, together, in the order in which they came."""
    groups: dict[Hashable, list[str]] = {}
    for name in names:
        groups.setdefault(by(name), []).append(name)
    return list(groups.values())


def block() -> str:
    refusals: list[str] = []

    def short(scheme: str, mechanism: str, noise: str | None, selection: str) -> str:
        said = cell(scheme, mechanism, noise, selection)
        if said == RUNS:
            return said
        if said not in refusals:
            refusals.append(said)
        return f"no ({refusals.index(said) + 1})"

    rows = []
    for mechanism in get_args(Mechanism):
        kinds: Any = NOISES[mechanism] or (None,)  # any other noise is refused whatever stands beside it

        def of_noise(noise: Any, mechanism: str = mechanism) -> Hashable:
            return tuple(cell(scheme, mechanism, noise, each) for scheme in SCHEMES for each in SELECTIONS)

        for noises in grouped(kinds, of_noise):
            noise = noises[0]

            def of_selection(each: str, mechanism: str = mechanism, noise: Any = noise) -> Hashable:
                return tuple(cell(scheme, mechanism, noise, each) for scheme in SCHEMES)

            for selections in grouped(SELECTIONS, of_selection):
                cells = [short(scheme, mechanism, noise, selections[0]) for scheme in SCHEMES]
                kind = ", ".join(noises) if noise else ""
                rows.append((f"`{mechanism}`", kind, ", ".join(selections), *cells))
    made = table(("privacy", "noise", "clients of a round", *SCHEMES), rows)
    return made + "\n\n" + "\n".join(f"{number}. {said}" for number, said in enumerate(refusals, 1))


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text(), {"refusals": block()}))
