"""The options that more than one command of `secagg` takes, and which of them were given."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from click.core import ParameterSource


def given(ctx: typer.Context, fields: Iterable[str]) -> dict[str, Any]:
    """The options of these names that the command line gives: they win over a file and over the defaults."""
    return {
        name: ctx.params[name]
        for name in fields
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }


def count_or_fraction(text: str) -> int | float:
    """A count is written 2, a fraction 0.1. Raises: BadParameter for anything else."""
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text}: a number of clients such as 2, or a fraction such as 0.1"
        ) from None


# What protects a run: the fields of fl.protection.Protection.

SchemeName = Annotated[str | None, typer.Option(help="masking, ckks or plain.", show_default="masking")]
AdversaryName = Annotated[
    str | None,
    typer.Option(
        help="What the server may do: active or semi-honest.", show_default="active; ckks: semi-honest"
    ),
]
EndingName = Annotated[
    str | None,
    typer.Option(
        help="With ckks: release the sum to the server, or keep it among the clients.", show_default="release"
    ),
]
Corrupt = Annotated[
    float | None,
    typer.Option(
        metavar="N|FRACTION",
        help="Clients assumed on the server's side: 2, or 0.1.",
        show_default="0.1",
        parser=count_or_fraction,
    ),
]
Dropout = Annotated[
    float | None,
    typer.Option(
        metavar="N|FRACTION",
        help="Clients that a session may lose.",
        show_default="0.3 or what can be",
        parser=count_or_fraction,
    ),
]
GraphName = Annotated[
    str | None,
    typer.Option(help="Who deals shares to whom: complete, sparse, auto (by size).", show_default="auto"),
]
Threshold = Annotated[int | None, typer.Option(help="Clients needed.", show_default="half and one more")]
Batch = Annotated[
    int | None,
    typer.Option(min=0, help="Sum by whole batches of so many clients, by id.", show_default="none"),
]
SmallCohort = Annotated[bool, typer.Option("--small-cohort", help="Allow 1 or 2 clients: for experiments.")]

# What is summed, and by whom.

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
