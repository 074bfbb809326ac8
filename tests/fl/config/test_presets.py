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
    config = RunConfig(**settings)
    assert {key: getattr(config, key) for key in settings} == settings
    assert RunConfig(**settings | {"rounds": 1, "clients": config.clients + 1}).rounds == 1
    assert config.execution != "processes"


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_what_it_is_and_whence(name: str) -> None:
    preset = PRESETS[name]
    config = RunConfig(**preset.settings)
    assert preset.line.startswith(f"{config.dataset}: {config.clients} clients")
    assert "et al." in preset.source
    for said in (preset.line, preset.source):
        assert "\n" not in said
        assert said.isascii()
    if config.cohort < config.clients:
        assert f"{config.cohort} a round" in preset.line
    if config.examples_per_client is not None:
        assert f"of {config.examples_per_client} examples" in preset.line


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_can_be_summed_securely(name: str) -> None:
    """There is such a session, for its model and its number of clients a round; in plain too."""
    config = RunConfig(**PRESETS[name].settings)
    shape, examples = SHAPES[config.dataset]
    length = len(to_vector(build(config.model, shape, 10, 0)))
    roster, _ = throwaway_identities(range(config.clients))
    scheme = scheme_for(config, config.cohort, length, examples, roster)
    assert scheme.clients == config.cohort
    assert scheme.vectors["update"].length == length


@pytest.mark.parametrize("name", PRESETS)
def test_there_are_examples_for_all_clients_of_a_preset(name: str) -> None:
    config = RunConfig(**PRESETS[name].settings)
    _, examples = SHAPES[config.dataset]
    assert (config.examples_per_client or examples // config.clients) >= config.batch_size
