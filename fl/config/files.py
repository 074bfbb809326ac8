"""A description of a run as it stands in a file: what each key means, and where one that means nothing here
belongs.
"""

from __future__ import annotations

import codecs
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from fl.config.section import ConfigError, Setting
from fl.mistyped import closest, nearest

Said = dict[str, tuple[str, Any]]
"""Name of a setting -> what an error calls it, and its value."""


def table_in(path: Path) -> dict[str, Any]:
    """The top-level table of a file of JSON, if it is called so, or TOML: UTF-8, with a byte-order mark or
    without, lines ended as on any system.

    Raises: ConfigError for any other.
    """
    kind = {".json": "JSON"}.get(path.suffix, "TOML")  # by look-up: docs/errors.md has one line for both
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path} is not a file")
        text = path.read_bytes().removeprefix(codecs.BOM_UTF8).decode()
        given = msgspec.json.decode(text) if kind == "JSON" else tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{path}: not readable: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: not UTF-8, from byte {error.start} on: save it in that encoding"
        ) from error
    except RecursionError as error:
        raise ConfigError(f"{path}: not {kind}: nested too deeply") from error
    except (tomllib.TOMLDecodeError, msgspec.DecodeError) as error:
        raise ConfigError(f"{path}: not {kind}: {error}") from error
    if not isinstance(given, dict):
        raise ConfigError(
            f'{path}: the file must hold tables of keys, such as {{"training": {{"rounds": 10}}}}'
        )
    return given


def said_in(
    path: Path, given: Mapping[str, Any], there: Mapping[str, Setting], tell: Callable[[str], None]
) -> Said:
    """What a file says of the settings there are. Of one without sections, as older versions wrote it, `tell`
    hears how to write it now.

    Raises: ConfigError for a key or a section that is none, or that stands where it does not belong.
    """
    # No setting is a table: one is enough to tell a file of sections, and to judge the rest of it as such.
    if any(isinstance(value, dict) for value in given.values()):
        return _in_sections(path, given, there)
    said = {}
    for name, value in without_old_nulls(given).items():
        if name not in there:
            raise ConfigError(f"{path}: no setting is called {name!r}{_meant(name, '', there)}")
        said[name] = f"{path}: {name}", value
    if given:
        tell(f"{path} has no sections, and is read as it was before; now it is {_as_now(given, there)}")
    return said


def without_old_nulls(flat: Mapping[str, Any]) -> dict[str, Any]:
    """What older versions wrote, as `RunConfig.of` takes it: no local_steps were null, and are 0 now."""
    return dict(flat) | {"local_steps": 0} if flat.get("local_steps", 0) is None else dict(flat)


def _as_now(given: Mapping[str, Any], there: Mapping[str, Setting]) -> str:
    """Where the names of a flat file stand now: [section] key, key, [section] key."""
    keys: dict[str, list[str]] = {}
    for name, setting in there.items():
        if name in given:
            now = name if name == setting.key else f"{setting.key} (was {name})"
            keys.setdefault(setting.section, []).append(now)
    return ", ".join(f"[{section}] {', '.join(names)}" for section, names in keys.items())


def _in_sections(path: Path, given: Mapping[str, Any], there: Mapping[str, Setting]) -> Said:
    by_key = {(setting.section, setting.key): setting for setting in there.values()}
    sections = {section for section, _ in by_key}
    said = {}
    for section, table in given.items():
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: {section!r} stands in no section{_meant(section, '', there)}")
        if section not in sections:
            raise ConfigError(f"{path}: unknown section {section!r}{nearest(section, sections)}")
        for key, value in table.items():
            if (setting := by_key.get((section, key))) is None:
                raise ConfigError(f"{path}: [{section}] has no key {key!r}{_meant(key, section, there)}")
            said[setting.name] = f"{path}: [{section}] {key}", value
    return said


def _meant(word: str, section: str, there: Mapping[str, Setting]) -> str:
    """Say where what stands in this section belongs, or what it may have meant, the section's own first: the
    end of an error.
    """
    if homes := [setting for setting in there.values() if word in (setting.key, setting.name)]:
        where = " or ".join(f"{home.key} in [{home.section}]" for home in homes)
        return f": it is {where}"
    known: dict[str, Setting] = {}
    # The section's own come last: of a key that several have, such as lr, theirs is the one that stays.
    for setting in sorted(there.values(), key=lambda setting: setting.section == section):
        known |= {setting.name: setting, setting.key: setting}
    close = closest(word, known)
    return f"; did you mean {known[close].key!r} in [{known[close].section}]?" if close else ""
