"""What a section of a run's description is: a struct whose fields each say once what they may be, in which
words and within which limits, and what the command line tells of them. Flags, files and errors are made of
it.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType, NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta

from fl.mistyped import nearest


class ConfigError(ValueError):
    """The description of a run is not usable. The message names the key, the file and what would do."""

    @staticmethod
    def unless(condition: bool, message: str) -> None:
        if not condition:
            raise ConfigError(message)


def setting(
    help: str,
    *,
    name: str = "",
    unset: str | None = None,
    words: tuple[str, ...] = (),
    panel: str = "",
    typed: Mapping[str, float] = MappingProxyType({}),
    **limits: Any,
) -> Meta:
    """What a field says of itself, beside its type.

    help: for the command line. name: of its flag, where the field's own is that of another section's. unset:
    what the default stands for, in words. words: which it may be, where its type does not list them, or in
    another order. panel: the section under whose title its flag stands, if not its own. limits: as of
    `msgspec.Meta`, for whatever comes; typed: narrower ones, for what a person gives.
    """
    said = {"name": name, "unset": unset, "words": words, "panel": panel, "typed": dict(typed)}
    return Meta(description=help, extra=said, **limits)


@dataclass(frozen=True)
class Setting:
    """A field of a section. name: of its flag, unique over all sections; key: in its section. kinds: the
    types that it takes, but for None.
    """

    section: str
    key: str
    name: str
    type: Any
    kinds: frozenset[Any]
    default: Any
    help: str
    unset: str | None
    words: tuple[str, ...]
    panel: str
    typed: Any

    @classmethod
    def of(cls, field: msgspec.structs.FieldInfo) -> Setting:
        parts = get_args(field.type) if get_origin(field.type) not in (None, Annotated) else (field.type,)
        kinds = {get_args(part)[0] if get_origin(part) is Annotated else part for part in parts} - {NoneType}
        metas = [meta for part in parts for meta in getattr(part, "__metadata__", ())]
        meta = next((meta for meta in metas if meta.description), setting(""))
        said: dict[str, Any] = meta.extra or {}
        words = [word for kind in kinds if _is_words(kind) for word in get_args(kind)]
        return cls(
            section="",
            key=field.name,
            name=said["name"] or field.name,
            type=field.type,
            kinds=frozenset(str if _is_words(kind) else kind for kind in kinds),
            default=field.default,
            help=meta.description or "",
            unset=said["unset"],
            words=said["words"] or tuple(words),
            panel=said["panel"],
            typed=Annotated[next(iter(kinds)), Meta(**said["typed"])] if said["typed"] else Any,
        )


def _is_words(kind: Any) -> bool:
    return get_origin(kind) is Literal


@functools.cache
def fields_of(section: type[msgspec.Struct]) -> tuple[Setting, ...]:
    """Its own fields, then those of what it is composed of."""
    inherited = section.__base__.__struct_fields__  # type: ignore[union-attr]
    fields = sorted(msgspec.structs.fields(section), key=lambda field: field.name in inherited)
    return tuple(map(Setting.of, fields))


@functools.cache
def sections_of(whole: type[msgspec.Struct]) -> Mapping[str, str]:
    """Section -> its title, of a description made of such."""
    sections = msgspec.structs.fields(whole)
    return {section.name: section.type.__metadata__[0].title for section in sections}


@functools.cache
def settings_of(whole: type[msgspec.Struct]) -> Mapping[str, Setting]:
    """Name -> setting, of all sections. A field without help is none: neither a flag nor a key of a file."""
    return {
        field.name: dataclasses.replace(field, section=section.name, panel=field.panel or section.name)
        for section in msgspec.structs.fields(whole)
        for field in fields_of(get_args(section.type)[0])
        if field.help
    }


def settle(section: msgspec.Struct) -> None:
    """Check a section that was just made, its values against their limits; 1 becomes 1.0, a list a tuple.

    Raises: ConfigError.
    """
    # A client refuses a task in another form than its own: 1 and 1.0 are two forms of a rate.
    for field in fields_of(type(section)):
        value = checked(field, getattr(section, field.key), field.key)
        msgspec.structs.force_setattr(section, field.key, value)


def checked(field: Setting, value: Any, label: str) -> Any:
    """The value as its field's type. label: what an error calls it. Raises: ConfigError."""
    words = field.words if isinstance(value, str) else ()
    if words and re.sub(r"^cuda:\d{1,3}\Z", "cuda", value) not in words:
        raise ConfigError(f"{label} = {value!r}: give one of {', '.join(words)}{nearest(value, words)}")
    try:
        msgspec.convert(value, field.typed)
        value = msgspec.convert(value, field.type)
        msgspec.json.encode(value)  # a byte that is no UTF-8 reaches Python as text that no file can hold
    except UnicodeEncodeError as error:
        raise ConfigError(f"{label} = {value!r}: give text that UTF-8 can hold") from error
    except msgspec.ValidationError as error:
        wanted = str(error).replace("`", "").removeprefix("Expected ")
        raise ConfigError(f"{label} = {_short(value)}: give {wanted}") from error
    return value


def _short(value: Any) -> str:
    """The value as it fits a line, however long or deep it is."""
    short = reprlib.Repr()
    short.maxstring = short.maxlong = short.maxother = 80
    return short.repr(value)
