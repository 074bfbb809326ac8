"""Presets are configurations: they can be run, and say what their source says."""

from __future__ import annotations

import pytest

from fl.config.presets import PRESETS
from fl.config.run import RunConfig
from fl.federation.vectors import scheme_for
from fl.models.architectures import build
from fl.models.weights import to_vector
from secagg import throwaway_identities

SHAPES = {
    "mnist": ((1, 28, 28), 60_000),
    "fashion-mnist": ((1, 28, 28), 60_000),
    "cifar-10": ((3, 32, 32), 50_000),
    "lfw": ((3, 32, 32), 12_000),
}
"""Of the data sets of presets: an example's shape, and about how many there are to train on."""


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_configuration(name: str) -> None:
    """Its words and numbers are possible, all of them; and it can be changed in part."""
    settings = PRESETS[name].settings
    config = RunConfig.of(**settings)
    assert config.flat().items() >= settings.items()
    assert RunConfig.of(**settings | {"rounds": 1, "clients": config.cohort.clients + 1}).training.rounds == 1
    assert config.training.execution != "processes"


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_what_it_is_and_whence(name: str) -> None:
    preset = PRESETS[name]
    config = RunConfig.of(**preset.settings)
    assert preset.line.startswith(f"{config.data.dataset}: {config.cohort.clients} clients")
    assert "et al." in preset.source
    for said in (preset.line, preset.source):
        assert "\n" not in said
        assert said.isascii()
    if config.cohort.per_round < config.cohort.clients:
        assert f"{config.cohort.per_round} a round" in preset.line
    if config.data.examples_per_client is not None:
        assert f"of {config.data.examples_per_client} examples" in preset.line


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_can_be_summed_securely(name: str) -> None:
    """There is such a session, for its model and its number of clients a round; in plain too."""
    config = RunConfig.of(**PRESETS[name].settings)
    shape, examples = SHAPES[config.data.dataset]
    length = len(to_vector(build(config.training.model, shape, 10, 0)))
    roster, _ = throwaway_identities(range(config.cohort.clients))
    scheme = scheme_for(config, config.cohort.per_round, length, examples, roster)
    assert scheme.clients == config.cohort.per_round
    assert scheme.vectors["update"].length == length


@pytest.mark.parametrize("name", PRESETS)
def test_there_are_examples_for_all_clients_of_a_preset(name: str) -> None:
    config = RunConfig.of(**PRESETS[name].settings)
    _, examples = SHAPES[config.data.dataset]
    assert (
        config.data.examples_per_client or examples // config.cohort.clients
    ) >= config.training.batch_size
