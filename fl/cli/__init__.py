"""The `secagg` command: what may be typed, and which exit code an error becomes.

The commands stand in commands.py and groups.py: thin functions that import their module when they are
called, so that help and the commands without training never load torch.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Annotated

import click
import typer
from typer.core import TyperGroup

from fl.cli.output import Output
from fl.cli.streams import bearing

OK, FAILED, USAGE, TOO_FEW_CLIENTS, PEER_MISBEHAVED, WITHHELD, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130

EPILOG = "\n\n".join(
    [
        "--json, --quiet, --verbose and --debug may also stand after the command.",
        "Exit codes:",
        f"{OK} ok",
        f"{FAILED} failed: the network, a disk, a data set or a missing package",
        f"{USAGE} usage: an option, argument, file or configuration that cannot be",
        f"{TOO_FEW_CLIENTS} too few clients were left: no sum, nothing revealed",
        f"{PEER_MISBEHAVED} a peer misbehaved",
        f"{WITHHELD} the update would have given this client's examples away, and was not sent",
        f"{INTERRUPTED} interrupted",
    ]
)

# By name, so that no command has to import what it does not use. The nearest base class counts.
EXIT_CODES = {
    "TooFewClients": TOO_FEW_CLIENTS,
    "RemoteProtocolError": PEER_MISBEHAVED,
    "LocalProtocolError": USAGE,
    "FileError": USAGE,
    "ConfigError": USAGE,
    "ResultError": FAILED,
    "DataError": FAILED,
    "ModelError": FAILED,
    "TaskError": FAILED,
    "Diverged": FAILED,
    "ClusterError": FAILED,
    "Unfit": FAILED,
    "Withheld": WITHHELD,
    "SecAggError": FAILED,
}

EXTRA_OF_MODULE = {
    "torch": "fl",
    "torchvision": "fl",
    "sklearn": "fl",
    "matplotlib": "fl",
    "safetensors": "fl",
    "dp_accounting": "fl",
    "jinja2": "fl",
    "vl_convert": "fl",
    "tenseal": "ckks",
    "zstandard": "ckks",
    "flwr": "flower",
    "ray": "ray",
}


class _Group(TyperGroup):
    """Takes the global flags wherever they stand: `secagg info --json` is `secagg --json info`. Alone, a
    group shows its help."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        flags = [arg for arg in args[:end] if arg in ("--json", "--quiet", "--verbose", "--debug")]
        rest = [arg for arg in args[:end] if arg not in flags]
        return super().parse_args(ctx, [*flags, *rest, *args[end:]] or ["--help"])


def _new_app(help: str, epilog: str | None = None) -> typer.Typer:
    return typer.Typer(
        cls=_Group,
        help=help,
        epilog=epilog,
        add_completion=False,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        suggest_commands=False,  # click does, since 8.4
        context_settings={"help_option_names": ["--help", "-h"]},
    )


def group(name: str, help: str) -> typer.Typer:
    """`secagg NAME ...`."""
    made = _new_app(help)
    app.add_typer(made, name=name)
    return made


app = _new_app("Secure aggregation for federated learning.", EPILOG)


def main(args: Sequence[str] | None = None) -> int:
    """Run one command line, by default the process's own; returns the exit code."""
    _open_streams()
    out = Output()
    with bearing() as (stdout, _), _ended_by_request():
        code = _main(out, args)
        stdout.flush()
        # A reader who left has had enough, and that is no failure; a full disk is one.
        if code == OK and stdout.failed is not None and not isinstance(stdout.failed, BrokenPipeError):
            out.error(f"what was printed is not complete: {stdout.failed.strerror}")
            return FAILED
        return code


def _main(out: Output, args: Sequence[str] | None) -> int:
    try:
        code = app(args=args, prog_name="secagg", obj=out, standalone_mode=False)
        if code != INTERRUPTED:  # what typer makes of Ctrl-C inside a command
            return code if isinstance(code, int) else OK
    except (KeyboardInterrupt, click.Abort):
        pass
    except Exception as error:  # whatever it is, a shell gets one line and an exit code; --debug the rest
        return _told(out, error)
    out.error("interrupted")
    return INTERRUPTED


def _open_streams() -> None:
    """Where the shell has closed some: what is opened next would take their place, and their output."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for the life of the process
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


@contextmanager
def _ended_by_request() -> Iterator[None]:
    """SIGTERM ends a command as Ctrl-C does, so that nothing is left behind; the first one, whose cleaning up
    others do not interrupt. Not where whoever calls us has thought of it, or in a thread.
    """
    mine = threading.current_thread() is threading.main_thread()
    if not mine or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is end:  # else the process is about to end
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def exit_code(out: Output, who: str = "") -> Iterator[None]:
    """Around the body of a process of its own an error becomes one line and the exit code."""
    with bearing():
        try:
            yield
        except Exception as error:  # nobody is above to catch it, and whoever waits reads the exit code
            sys.exit(_told(out, error, who))


def _told(out: Output, error: Exception, who: str = "") -> int:
    """The exit code, after the error's line on stderr."""
    if out.debug:
        traceback.print_exception(error)
    code, message = explain(error)
    out.error(f"{who}: {message}" if who else message)
    return code


def explain(error: Exception) -> tuple[int, str]:
    """The exit code and the line for people."""
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        hint = f" (see `{context.command_path} --help`)" if context else ""
        return error.exit_code, error.format_message() + hint
    # Of our packages only: others have a ConfigError, too, and theirs are no mistake of who typed.
    for base in type(error).__mro__:
        if base.__name__ in EXIT_CODES and base.__module__.split(".")[0] in ("secagg", "transport", "fl"):
            culprits = sorted(getattr(error, "culprits", ()))
            named = f" (culprits: clients {', '.join(map(str, culprits))})" if culprits else ""
            return EXIT_CODES[base.__name__], f"{error}{named}"
    if isinstance(error, ModuleNotFoundError):
        module = (error.name or "").split(".")[0]
        if extra := EXTRA_OF_MODULE.get(module):
            return FAILED, f"this needs {module}: pip install 'secagg[{extra}]'"
    if isinstance(error, OSError) and error.strerror:
        return FAILED, error.strerror + (f": {error.filename}" if error.filename else "")
    return FAILED, f"internal: {type(error).__name__}: {error} (--debug shows where)"


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print("secagg", version("secagg"))
        raise typer.Exit


@app.callback()
def _globals(
    ctx: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="JSON on stdout, one object a line.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Print every round of the protocol, and what it promises.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    out = ctx.ensure_object(Output)
    out.json, out.quiet, out.verbose, out.debug = json, quiet, verbose, debug


from fl.cli import commands, groups  # noqa: E402, F401 - they register themselves with app

if __name__ == "__main__":
    sys.exit(main())
