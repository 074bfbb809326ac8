"""[robust]: the rules are those that there are, and each is given what it needs."""

from __future__ import annotations

import re
from typing import Any

import pytest

from fl.config.robust import ON_ROOT, ON_VALIDATION, RULES
from fl.config.run import RunConfig
from fl.config.section import ConfigError
from fl.robust import RULES as THERE

PLAIN = {"scheme": "plain"}
DRACO = PLAIN | {"robust": "draco", "redundancy": 4, "algorithm": "fedsgd"}


def test_the_rules_of_a_run_are_those_that_there_are() -> None:
    assert tuple(THERE) == RULES
    assert {*ON_ROOT, *ON_VALIDATION} <= set(RULES)


@pytest.mark.parametrize(
    ("together", "remedy", "says"),
    [
        (
            {"robust": "median"},
            PLAIN,
            "the server does not: take scheme = 'masking' with groups, or scheme = 'plain', or clip, which",
        ),
        ({"robust": "median", "scheme": "split"}, {"scheme": "masking", "groups": 4}, "take scheme = 'maski"),
        (
            PLAIN | {"robust": "median", "privacy": "central", "clip": 1.0, "noise_multiplier": 1.0},
            {"privacy": "local"},
            "the noise of privacy = 'central' is reckoned for the mean",
        ),
        (PLAIN | {"robust": "fltrust"}, {"root": 50}, "say on how many examples with root"),
        *(
            (PLAIN | {"robust": rule}, {"validation": 0.1}, "say what share is kept for it with validation")
            for rule in ON_VALIDATION
        ),
        (
            PLAIN | {"robust": "mmse"},
            {"privacy": "local", "clip": 1.0, "noise_multiplier": 1.0},
            "it weighs updates by the noise that clients declare: take privacy = 'local'",
        ),
        ({"redundancy": 3}, {"redundancy": 2}, "redundancy = 3: 8 clients cannot be groups of so many"),
        (DRACO | {"redundancy": 2}, {"redundancy": 4}, "give a redundancy of 3 or more"),
        (
            DRACO | {"algorithm": "fedavg"},
            {"algorithm": "fedsgd"},
            "take algorithm = 'fedsgd', in which ther",
        ),
        (
            DRACO | {"privacy": "local", "clip": 1.0, "noise_multiplier": 1.0},
            {"privacy": "none", "noise_multiplier": None},
            "with noise of their own no two clients send the same",
        ),
        (DRACO | {"sample": 4}, {"sample": None}, "a sample is not of whole groups"),
        ({"groups": 9}, {"groups": 8}, "groups = 9: a round has 8 clients: give as many at most"),
        ({"groups": 2, "cluster": "label"}, {"cluster": None}, "drawn by chance from all clients of a round"),
        (
            {"groups": 2, "privacy": "central", "clip": 1.0, "noise_multiplier": 1.0},
            {"privacy": "local"},
            "the noise of privacy = 'central' is reckoned for one sum",
        ),
        (
            {"groups": 2, "public_weights": True, "privacy": "local", "clip": 1.0, "noise_multiplier": 1.0},
            {"public_weights": False},
            "public_weights: with privacy = 'local' every client weighs 1",
        ),
        (
            DRACO | {"scheme": "masking", "groups": 2},
            {"groups": 0, "scheme": "plain"},
            "robust = 'draco' compares what single clients send",
        ),
        ({"groups": 2, "sample": 4, "batch_size": 65}, {"sample": None}, "no sample and no cluster with it"),
    ],
    ids=str,
)
def test_a_rule_without_what_it_needs_is_refused_with_what_would_do(
    together: dict[str, Any], remedy: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        RunConfig.of(**together)
    RunConfig.of(**together | remedy)


def test_in_groups_clients_count_alike_and_tell_nothing_else_but_where_weights_are_public() -> None:
    config = RunConfig.of(groups=2)
    assert (config.weighted, config.tells_metrics, config.redrawn, config.per_sum) == (False, False, False, 4)
    config = RunConfig.of(groups=3, public_weights=True, sample=7)
    assert (config.weighted, config.tells_metrics, config.redrawn, config.per_sum) == (True, False, True, 3)


def test_what_a_rule_would_need_is_not_asked_of_others() -> None:
    RunConfig.of(scheme="masking", redundancy=2, root=50, assumed=0.3)
    RunConfig.of(**PLAIN, robust="median")
