"""What a client of `secagg join` insists on: its policy, what it computes at most and what its sessions may
cost, from a file of its own or from options.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from fl.cli.options import check_choices
from fl.config.files import table_in
from fl.config.limits import Limits
from fl.config.preflight import OFF, Preflight
from fl.config.run import CHOICES
from fl.config.section import ConfigError
from fl.mistyped import nearest
from fl.privacy.budget import Budget
from secagg import LocalProtocolError, Policy

OF_POLICY = (
    *("allow", "semi_honest", "smallest_cohort", "batch", "blank", "ending", "alike", "answer_after"),
    *("smallest_group", "unsafe_groups", "public_weights", "one_cut"),
)
"""Options that say a client's policy, where no file does: after the first two, fields of `Policy`."""
MOST = "most_"  # before the fields of `Limits`, as options
TRAINING = "training"  # table of a policy file: what a client computes at most
PRIVACY = "privacy"  # what all its sessions may cost
PREFLIGHT = "preflight"  # and what its updates may give away


@dataclass(frozen=True)
class Rules:
    """Of one client. budget: None where it counts nothing."""

    policy: Policy
    limits: Limits
    budget: Budget | None
    preflight: Preflight


def rules_of(file: Path | None, roster: Path | None, flags: Mapping[str, Any], *, trains: bool) -> Rules:
    """What the file says, or what these options say: fields of OF_POLICY, and most_... for those of `Limits`.

    Raises: ConfigError for both, or for what cannot be.
    """
    most = {name: number for name, number in flags.items() if name.startswith(MOST)}
    others = {name: value for name, value in flags.items() if name not in {*most, PREFLIGHT}}
    return Rules(
        policy_of(file, roster, others),
        limits_of(file, most, trains=trains),
        budget_of(file),
        preflight_of(file, flags.get(PREFLIGHT), trains=trains),
    )


def policy_of(file: Path | None, roster: Path | None, flags: Mapping[str, Any]) -> Policy:
    """This client's policy: that in the file, or what the options say, of those of OF_POLICY that are given.

    Raises: ConfigError for both, or what is no policy.
    """
    if file is not None:
        if flags:
            raise ConfigError(
                "--policy says it all: no --allow, --semi-honest, --smallest-cohort, --batch, --blank, "
                "--ending, --alike, --answer-after, --smallest-group, --unsafe-groups, --public-weights or "
                "--one-cut"
            )
        return read_policy(file)
    allow, ending, answer_after = flags.get("allow", ()), flags.get("ending"), flags.get("answer_after")
    if unknown := set(allow) - {*CHOICES["scheme"]}:
        word, known = min(unknown), CHOICES["scheme"]
        raise ConfigError(f"--allow {word}: the schemes are {', '.join(known)}{nearest(word, known)}")
    if ending is not None and "ckks" not in allow:
        raise ConfigError(f"--ending {ending} is of ckks: give --allow ckks with it")
    if answer_after is not None and not 0 < answer_after <= 1e6:
        raise ConfigError(f"--answer-after {answer_after}: a number of seconds, above 0 and at most 1000000")
    if not 0 <= flags.get("blank", 0.0) < 1:
        raise ConfigError(f"--blank {flags['blank']}: a probability, at least 0 and below 1")
    of_groups = [name for name in ("unsafe_groups", "public_weights", "one_cut") if name in flags]
    if of_groups and "smallest_group" not in flags:
        flag = of_groups[0].replace("_", "-")
        raise ConfigError(f"--{flag} counts with --smallest-group only")
    if not 1 <= len(flags.get("one_cut", "a run")) <= 100:
        raise ConfigError("--one-cut: a name for this run, of 1 to 100 characters")
    check_choices({name: flags[name] for name in ("ending", "alike") if name in flags})
    trusting = "semi_honest" in flags or roster is None
    said = {name: flags[name] for name in OF_POLICY[2:] if name in flags}
    return Policy(
        schemes=frozenset({"masking", *allow}), adversary="semi-honest" if trusting else "active", **said
    )


def limits_of(file: Path | None, flags: Mapping[str, int], *, trains: bool) -> Limits:
    """What this client is willing to compute: by its rules in the file, or by flags, most_... each.

    Raises: ConfigError for both, for what are no limits, or where nothing is trained.
    """
    if flags and not trains:
        raise ConfigError("--most-... is for --data: only training is limited so")
    if flags and file is not None:
        raise ConfigError(f"--policy says it all: write limits into its table [{TRAINING}]")
    given = {name.removeprefix(MOST): number for name, number in flags.items()}
    if file is not None:
        given = table_in(file).get(TRAINING, {})
        if isinstance(given, dict):
            check_keys(given, Limits.__struct_fields__, f"{file}, {TRAINING}: ")
    try:
        return msgspec.convert(given, Limits)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{file}, {TRAINING}: {error}") from error


def preflight_of(file: Path | None, asked: bool | None, *, trains: bool) -> Preflight:
    """How much of its examples this client's updates may give away: by its rules in the file, or by the
    option. Raises: ConfigError for both, for what is no rule, or where nothing is trained.
    """
    if asked is not None and not trains:
        raise ConfigError("--preflight is for --data: of an --input nobody knows what it was made of")
    if asked is not None and file is not None:
        raise ConfigError(
            f"--policy says it all: write action = 'refuse' or 'off' into its table [{PREFLIGHT}]"
        )
    if asked is False:
        return OFF
    given = {} if file is None else table_in(file).get(PREFLIGHT, {})
    if isinstance(given, dict):
        check_keys(given, Preflight.__struct_fields__, f"{file}, {PREFLIGHT}: ")
    try:
        return msgspec.convert(given, Preflight)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{file}, {PREFLIGHT}: {error}") from error


def budget_of(file: Path | None) -> Budget | None:
    """What this client's sessions may cost together, by its rules in the file; None where nothing is said.

    Raises: ConfigError for what is no budget.
    """
    if file is None or (given := table_in(file).get(PRIVACY)) is None:
        return None
    if isinstance(given, dict):
        check_keys(given, Budget.__struct_fields__, f"{file}, {PRIVACY}: ")
    try:
        budget = msgspec.convert(given, Budget)
        _ = budget.best_order  # for what it raises, before anybody is connected to
    except (msgspec.ValidationError, ConfigError) as error:
        raise ConfigError(f"{file}, {PRIVACY}: {error}") from error
    return budget


def read_policy(path: Path) -> Policy:
    """The client's own rules, a .toml of the fields of `secagg.Policy`, and tables of `Limits`, of a
    `Budget` and of a `Preflight`.

    Raises: ConfigError for any other.
    """
    try:
        rules = table_in(path)
        check_words(rules, f"{path} is not a policy: ")
        for table in (TRAINING, PRIVACY, PREFLIGHT):
            rules.pop(table, None)
        return msgspec.convert(rules, Policy)
    except (msgspec.ValidationError, LocalProtocolError) as error:
        raise ConfigError(f"{path} is not a policy: {error}") from error


def check_words(rules: Mapping[str, Any], where: str) -> None:
    """Raises: ConfigError for a key or a word that no policy has, with the nearest that it could be."""
    check_keys(rules, (*Policy.__struct_fields__, TRAINING, PRIVACY, PREFLIGHT), where)
    schemes = rules.get("schemes", ())
    said = [*rules.items(), *(("scheme", word) for word in schemes if isinstance(schemes, list))]
    for key, word in said:
        known = CHOICES.get(key, ())
        if known and isinstance(word, str) and word not in known:
            raise ConfigError(
                f"{where}{key} = {word!r}: give one of {', '.join(known)}{nearest(word, known)}"
            )


def check_keys(table: Mapping[str, Any], known: Collection[str], where: str) -> None:
    """Raises: ConfigError for a key that is none of these, with the nearest that it could be."""
    for key in table:
        if key not in known:
            raise ConfigError(f"{where}unknown key {key!r}{nearest(key, known)}")
