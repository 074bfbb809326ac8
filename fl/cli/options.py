"""The options that more than one command of `secagg` takes, and which of them were given."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from click.core import ParameterSource

from fl.config.limits import Limits
from fl.config.protection import Protection
from fl.config.run import CHOICES, RunConfig
from fl.config.section import ConfigError, Setting
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
    """The protection that these flags ask for. Raises: ConfigError, LocalProtocolError for what cannot be."""
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


def finite(value: float | None) -> float | None:
    """Of every option that takes a number. Raises: BadParameter for infinity, and for what is no number."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value}: give a finite number")
    return value


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

DataDir = Annotated[
    Path | None,
    typer.Option(help="Where data sets are looked for.", show_default="$SECAGG_DATA or the cache"),
]
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

Dashboard = Annotated[
    int | None,
    typer.Option(
        metavar="PORT",
        min=0,
        max=65535,
        help="Show how far it is at http://127.0.0.1:PORT, on this machine alone; 0 for a free port.",
    ),
]
Patience = Annotated[
    float, typer.Option(callback=finite, help="Seconds without the server before giving up.")
]


def most(name: str, help: str) -> Any:
    """An option for this field of a client's limits."""
    default = str(getattr(Limits(), name))
    return typer.Option(min=1, max=2**31 - 1, help=help, show_default=default)


# Of a run: a flag for every field of its description.

WHOLE_RUN = tuple(RunConfig.settings())
OF_TRAINING = ("bits", "bound", "clip")
PROTECTION = tuple(
    name
    for name, setting in RunConfig.settings().items()
    if setting.section == "protection" and name not in OF_TRAINING
)
"""Settings of any sum. A sum of one vector says OF_TRAINING of it in options of its own."""
OF_DEMO = tuple(name for name in PROTECTION if name != "blank")
"""The demo holds its sum against everybody's words."""


def takes(names: Iterable[str], run: type[RunConfig] = RunConfig) -> Callable[[Command], Command]:
    """The command, with a flag for each of these settings of a run, as the setting describes itself. They
    stand in the context alone, where `given` finds them.
    """
    wanted, titles = set(names), run.sections()
    flags = [_flag(each, titles[each.panel]) for name, each in run.settings().items() if name in wanted]

    def with_flags(command: Command) -> Command:
        own = list(inspect.signature(command, eval_str=True).parameters.values())

        def run(ctx: typer.Context, **values: Any) -> int | None:
            return command(ctx, **{parameter.name: values[parameter.name] for parameter in own[1:]})

        keywords = (parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own[1:])
        parameters = [own[0], *keywords, *flags]
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        # typer takes the parameters from the one, and their types from the other.
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return with_flags


def _flag(setting: Setting, panel: str) -> inspect.Parameter:
    default: Any = None
    annotation: Any = Drops
    if setting.name != "drop":
        default, annotation = _typed(setting, {"help": setting.help, "rich_help_panel": panel})
    return inspect.Parameter(
        setting.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def _typed(setting: Setting, options: dict[str, Any]) -> tuple[bool | None, Any]:
    """The flag's default, and what it takes."""
    # None where it is not given: what the setting then is, is for a file, a preset or the section to say.
    if setting.kinds == {bool}:
        name = setting.name.replace("_", "-")
        option = typer.Option(f"--{name}/--no-{name}" if setting.default else f"--{name}", **options)
        return setting.default, Annotated[bool, option]
    if setting.kinds == {int, float}:
        options |= {"parser": count_or_fraction, "metavar": "N|FRACTION"}
    if float in setting.kinds:
        options |= {"callback": finite}
    if setting.words:
        options |= listed(setting.words, options["help"])
    kind: Any = float if float in setting.kinds else next(iter(setting.kinds))
    unset = setting.default if setting.unset is None else setting.unset
    if unset is not None and unset != "":
        options["show_default"] = False
        options["help"] += f" [dim]\\[default: {unset}][/dim]"
    return None, Annotated[kind | None, typer.Option(**options)]


def listed(known: Iterable[str], help: str) -> dict[str, str]:
    """What makes an option list what it takes: where a value stands, or if there are many after the help."""
    shown = choices(known)  # its bracket is escaped in the help, where rich would take it for markup
    if len(shown) <= MOST_COLUMNS:
        return {"metavar": shown, "help": help}
    return {"metavar": "NAME", "help": f"{help} \\{shown.replace('|', ' | ')}"}
