"""Command lines that a page shows."""

from __future__ import annotations

import contextlib
import io
import shlex
from functools import cache

import click
import typer

from fl.cli import app


@cache
def _command() -> click.Command:
    """Made once: it takes a tenth of a second."""
    return typer.main.get_command(app)


def can_be_typed(line: str) -> None:
    """`secagg ...`: its command exists, and takes these options. What they do, other tests show.

    Raises: click.UsageError.
    """
    command = _command()
    words = shlex.split(line.replace("[", "").replace("]", ""))[1:]
    context = click.Context(command)
    while isinstance(command, click.Group):
        name, found, words = command.resolve_command(context, words)
        assert found is not None
        command = found
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(click.exceptions.Exit):
        command.make_context(name, words)
