"""The run that is asked for: flags, beside a file, a preset, or a run to go on with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fl.cli import rounds
from fl.cli.output import Output
from fl.config.presets import PRESETS
from fl.config.robust import ON_ROOT, RULES
from fl.config.run import CHOICES, NOT_WITH_TASK, RunConfig
from fl.config.section import ConfigError
from fl.mistyped import nearest
from fl.page.state import CONFIG
from fl.poisoning.data import DATA, OF_TARGET, OF_VICTIM
from fl.poisoning.updates import COLLUDING

COUNTS_WITH = {
    "alpha": ("partition", ("dirichlet", "quantity")),
    "classes_per_client": ("partition", ("shards",)),
    "damage_level": ("damage", CHOICES["damage"]),
    "damaged": ("damage", CHOICES["damage"]),
    "server_momentum": ("server", ("momentum", "adam", "yogi")),
    "server_beta2": ("server", ("adam", "yogi")),
    "server_tau": ("server", ("adam", "yogi")),
    "assumed": ("robust", RULES[1:]),
    "root": ("robust", ON_ROOT),
    **dict.fromkeys(("local_epochs", "batch_size", "momentum"), ("algorithm", ("fedavg", "fedavg-weights"))),
    **dict.fromkeys(
        ("attackers", "availability", "attack_rounds", "attack_level"), ("attack", CHOICES["attack"])
    ),
    "attack_boost": ("attack", tuple(DATA)),
    "attack_victim": ("attack", OF_VICTIM),
    "attack_target": ("attack", OF_TARGET),
    "omniscient": ("attack", tuple(sorted(COLLUDING))),
}
"""Flags that would do nothing without another."""


def described(
    out: Output, file: Path | None, preset: str | None, resumed: Path | None, flags: Mapping[str, Any]
) -> RunConfig:
    """The run that the command line asks for: flags win over a file or a preset. resumed: the folder of a run
    to go on with, which is as it was.

    Raises: ConfigError, also for what does not go together.
    """
    if resumed is not None:
        if file or preset or flags.keys() - set(rounds.MAY_CHANGE):
            raise ConfigError(
                "--resume goes on with the run as it was: with it go --out, --rounds, --device, --data-dir, "
                "--no-baseline and --meter alone"
            )
        return RunConfig.read(resumed / CONFIG, **flags)
    if preset is not None and file is not None:
        raise ConfigError("--preset or --config: give one of them")
    if preset is not None and preset not in PRESETS:
        raise ConfigError(f"--preset {preset}: there are {', '.join(PRESETS)}{nearest(preset, PRESETS)}")
    if flags.get("task") is not None and (brought := flags.keys() & set(NOT_WITH_TASK)):
        raise ConfigError(f"--{_typed(min(brought))} or --task, which brings it: give one of them")
    if {"local_epochs", "local_steps"} <= flags.keys():
        raise ConfigError("--local-epochs or --local-steps: give one of them")
    if "local_epochs" in flags:
        flags = {**flags, "local_steps": 0}  # a file's or a preset's
    settings = {} if preset is None else PRESETS[preset].settings
    config = RunConfig.read(file, tell=out.warn, **flags) if file else RunConfig.of(**settings | dict(flags))
    has = config.flat()
    for name in flags:
        other, words = COUNTS_WITH.get(name, ("", ()))
        if other and has[other] not in words:
            raise ConfigError(f"--{_typed(name)} counts with --{_typed(other)} {' or '.join(words)} only")
    if not config.meter.on and (idle := flags.keys() & set(rounds.METER) - {"meter"}):
        raise ConfigError(f"--{_typed(min(idle))} counts with --meter only")
    if flags.get("select") == "quality" and config.data.damage is None:
        raise ConfigError("--select quality: all declare the same quality: give --damage too")
    return config


def _typed(name: str) -> str:
    return name.replace("_", "-")
