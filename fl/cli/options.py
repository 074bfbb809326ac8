"""The options that more than one command of `secagg` takes, and which of them were given."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
import typer
from click.core import ParameterSource

from fl.config.protection import Protection
from fl.config.run import CHOICES, ConfigError, RunConfig
from fl.mistyped import choices, nearest

MOST_COLUMNS = 20  # of choices, beside an option's name
Command = Callable[..., int | None]


def given(ctx: typer.Context, fields: Iterable[str]) -> dict[str, Any]:
    """The options of these names that the command line gives: they win over a file and over the defaults."""
    return {
        name: ctx.params[name]
        for name in fields
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }


def check_choices(flags: Mapping[str, Any]) -> None:
    """Raises: ConfigError for a word that is not one of those that the option takes."""
    for name, word in flags.items():
        if name in CHOICES and word not in CHOICES[name]:
            known = CHOICES[name]
            raise ConfigError(f"--{name} {word}: there are {', '.join(known)}{nearest(word, known)}")


def protection_of(flags: Mapping[str, Any]) -> Protection:
    """Raises: ConfigError, LocalProtocolError for what cannot be."""
    check_choices(flags)
    return Protection(**flags)


def count_or_fraction(text: str) -> int | float:
    """A count is written 2, a fraction 0.1. Raises: BadParameter for anything else."""
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text}: a number of clients such as 2, or a fraction such as 0.1"
        ) from None


Alike = Annotated[
    str | None,
    typer.Option(
        metavar=choices(CHOICES["alike"]),
        help="Help to two different sums at most of vectors that come out alike.",
        show_default="auto",
    ),
]
Threshold = Annotated[
    int | None,
    typer.Option(
        help="Clients that a sum needs; implies --graph complete.",
        show_default="over 2/3 of the clients; semi-honest: over 1/2",
    ),
]
Bits = Annotated[int, typer.Option(help="Bits of a coordinate, 2 to 32.")]
Drops = Annotated[
    list[str] | None,
    typer.Option(metavar="ID@ROUND", help="Kill a client in a round: 3@share-keys, 5@masked-input:50%."),
]

# Files.

Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
PrivateKey = Annotated[Path, typer.Option(help="Private key; the public one gets the suffix .pub.")]
RosterKey = Annotated[
    Path | None, typer.Option(help="Public key the roster is signed with.", show_default="ROSTER.pub")
]
State = Annotated[
    Path | None,
    typer.Option(help="Folder of the key's records, always the same.", show_default="beside the key"),
]
KeyReaders = Annotated[
    str,
    typer.Option(
        metavar="[owner|group|all]",
        help="Who may read the key's file: group or all for a mounted secret, whose mode others decide.",
    ),
]


# Of a run: a flag for every field of its description.

WHOLE_RUN = RunConfig.__struct_fields__
PROTECTION = tuple(name for name in Protection.__dataclass_fields__ if name in WHOLE_RUN)


def takes(names: Iterable[str]) -> Callable[[Command], Command]:
    """The command, with a flag for each of these fields of RunConfig, as the field describes itself. They
    stand in the context alone, where `given` finds them.
    """
    hints = get_type_hints(RunConfig, include_extras=True)
    flags = [
        _flag(field, hints[field.name]) for field in msgspec.structs.fields(RunConfig) if field.name in names
    ]

    def with_flags(command: Command) -> Command:
        own = list(inspect.signature(command, eval_str=True).parameters.values())

        def run(ctx: typer.Context, **values: Any) -> int | None:
            return command(ctx, **{parameter.name: values[parameter.name] for parameter in own[1:]})

        keywords = (parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own[1:])
        parameters = [own[0], *keywords, *flags]
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return with_flags


def _flag(field: msgspec.structs.FieldInfo, hint: Any) -> inspect.Parameter:
    if field.name == "drop":
        return inspect.Parameter("drop", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Drops)
    metas = [meta for part in _parts(hint) for meta in getattr(part, "__metadata__", ())]
    said = next(meta for meta in metas if meta.description)
    kinds = {get_args(part)[0] if get_origin(part) is Annotated else part for part in _parts(hint)}
    kinds -= {NoneType}
    options: dict[str, Any] = {"help": said.description, "rich_help_panel": said.extra["panel"]}
    if kinds == {bool}:
        name = field.name.replace("_", "-")
        option = typer.Option(f"--{name}/--no-{name}" if field.default else f"--{name}", **options)
        return inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=Annotated[bool, option],
        )
    if kinds == {int, float}:
        options |= {"parser": count_or_fraction, "metavar": "N|FRACTION"}
    if field.name in CHOICES:
        options |= listed(CHOICES[field.name], options["help"])
    kind: Any = float if float in kinds else kinds.pop()
    default = said.extra["unset"] if field.default is None else field.default
    if default != "":
        options["show_default"] = False
        options["help"] += f" [dim]\\[default: {default}][/dim]"
    annotation: Any = Annotated[kind | None, typer.Option(**options)]
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def listed(known: Iterable[str], help: str) -> dict[str, str]:
    """What makes an option list what it takes: where a value stands, or if there are many after the help."""
    shown = choices(known)
    if len(shown) <= MOST_COLUMNS:
        return {"metavar": shown, "help": help}
    return {"metavar": "NAME", "help": f"{help} \\{shown.replace('|', ' | ')}"}


def _parts(hint: Any) -> tuple[Any, ...]:
    """Of a union its members, else itself."""
    return (hint,) if get_origin(hint) is Annotated or isinstance(hint, type) else get_args(hint)
