"""A task of one's own on the command line: read, held against what a run is asked for, and kept with it."""

from __future__ import annotations

from pathlib import Path

from fl.cli.output import Output
from fl.config.plan import unknown_to_loops
from fl.config.run import RunConfig
from fl.config.section import ConfigError
from fl.own import FILE, OwnTask


def taken(out: Output, config: RunConfig) -> tuple[RunConfig, OwnTask | None]:
    """The run as it stands in its folder, beside a copy of its task; and that task, if there is one.

    Raises: TaskError; ConfigError for what this task cannot do.
    """
    if config.training.task is None:
        return config, None
    own = OwnTask.read(config.training.task)
    check(config, own)
    out.say(f"the task is {own.path}, SHA-256 {own.digest}: every party runs a copy of its own, and no other")
    return config.with_(task=FILE), own


def found_in(config: RunConfig, folder: Path) -> OwnTask | None:
    """The copy in a party's folder, of a run that has a task. Raises: TaskError."""
    return None if config.training.task is None else OwnTask.read(folder / FILE)


def check(config: RunConfig, own: OwnTask) -> None:
    """Raises: ConfigError where a run asks for what the code of this task does not do."""
    privacy, protection = config.privacy.mechanism, config.protection
    ConfigError.unless(
        privacy == "none" or not own.has_statistics(),
        f"privacy = {privacy!r}: model() of the task keeps running statistics, which would be noise: take "
        "GroupNorm in the place of BatchNorm",
    )
    if not own.trains:
        return
    name = unknown_to_loops(config.training.plan)
    ConfigError.unless(
        name is None,
        f"{_setting(name)} is of the trainer's own steps, and this task has a train(): leave out one of them",
    )
    ConfigError.unless(
        privacy != "example",
        "privacy = 'example': noise in every step is added by the trainer's own steps, and this task has a "
        "train(): leave that out, or take distributed, local or central",
    )
    once = protection.scheme == "ckks" or (protection.blank and privacy != "distributed")
    ConfigError.unless(
        protection.scheme == "plain" or protection.alike == "never" or not (config.cohort.parted or once),
        "train() of the task: no plan says whether what it sends comes out alike, so it counts as if it did, "
        "and a client helps to two different sums of such updates at most: no sample, cluster, ckks or "
        "blanks without noise with it, or alike = 'never', if its order of examples is a secret",
    )


def _setting(key: str | None) -> str:
    """What a field of the plan is called as a setting."""
    return next((each.name for each in RunConfig.settings().values() if each.key == key), "")


def loading(folder: Path, own: OwnTask | None) -> str:
    """How the model in this folder is had in Python."""
    code = "" if own is None else f", task={str(folder / FILE)!r}"
    return f"fl.load({str(folder)!r}{code})"
