"""The `secagg` command: what may be typed, and which exit code an error becomes.

Each command is a thin function here that imports its module when it is called, so that help and the
commands without training never load torch. What its signature names and its body does not, `given` collects.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import click
import typer
from typer.core import TyperGroup

from fl.cli.options import (
    AdversaryName,
    Batch,
    Bits,
    Corrupt,
    Dropout,
    Drops,
    EndingName,
    Force,
    GraphName,
    PrivateKey,
    RosterKey,
    SchemeName,
    SmallCohort,
    Threshold,
    given,
)
from fl.cli.output import Output

OK, FAILED, USAGE, TOO_FEW_CLIENTS, PEER_MISBEHAVED, INTERRUPTED = 0, 1, 2, 3, 4, 130

EPILOG = "\n\n".join(
    [
        "--json, --quiet and --debug may also stand after the command. Exit codes:",
        f"{OK} ok",
        f"{FAILED} failed: network, file, data set or a missing package",
        f"{USAGE} usage: an option, argument or configuration that cannot be",
        f"{TOO_FEW_CLIENTS} too few clients were left: no sum, nothing revealed",
        f"{PEER_MISBEHAVED} a peer misbehaved",
        f"{INTERRUPTED} interrupted",
    ]
)

# By name, so that no command has to import what it does not use. The nearest base class counts.
EXIT_CODES = {
    "TooFewClients": TOO_FEW_CLIENTS,
    "RemoteProtocolError": PEER_MISBEHAVED,
    "LocalProtocolError": USAGE,
    "ConfigError": USAGE,
    "DataError": FAILED,
    "ModelError": FAILED,
    "Diverged": FAILED,
    "SecAggError": FAILED,
}

EXTRA_OF_MODULE = {
    "torch": "fl",
    "torchvision": "fl",
    "sklearn": "fl",
    "matplotlib": "fl",
    "safetensors": "fl",
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
        flags = [arg for arg in args[:end] if arg in ("--json", "--quiet", "--debug")]
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
        context_settings={"help_option_names": ["--help", "-h"]},
    )


app = _new_app("Secure aggregation for federated learning.", EPILOG)
keys_app = _new_app("Make identity keys, sign rosters, compare fingerprints.")
app.add_typer(keys_app, name="keys")


def main(args: Sequence[str] | None = None) -> int:
    """Run one command line, by default the process's own; returns the exit code."""
    out = Output()
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


@contextmanager
def exit_code(out: Output, who: str = "") -> Iterator[None]:
    """For the body of a process of its own: an error becomes one line and the exit code."""
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
    debug: Annotated[bool, typer.Option("--debug", help="Print the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    out = ctx.ensure_object(Output)
    out.json, out.quiet, out.debug = json, quiet, debug


@app.command("info")
def _info(ctx: typer.Context) -> None:
    """Show versions, cores, cipher speed, GPU, data sets and extras."""
    from fl.cli.info import run

    run(ctx.obj)


@app.command("demo")
def _demo(
    ctx: typer.Context,
    clients: Annotated[int, typer.Option(help="Client processes.")] = 8,
    length: Annotated[int, typer.Option(help="Coordinates of each client's vector.")] = 100_000,
    bits: Bits = 16,
    threshold: Threshold = None,
    drop: Drops = None,
    scheme: SchemeName = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the clients' vectors; of no key and no mask.")] = 0,
    show: Annotated[int, typer.Option(help="The client whose words are shown.")] = 0,
    adversary: AdversaryName = None,
    ending: EndingName = None,
    corrupt: Corrupt = None,
    dropout: Dropout = None,
    graph: GraphName = None,
    batch: Batch = None,
    small_cohort: SmallCohort = False,
) -> None:
    """Tell the protocol round by round: one secure sum of vectors, in processes of their own."""
    from fl.cli.demo import Demo, run
    from fl.cli.serve import protection_of
    from fl.protection import Protection

    protection = protection_of(given(ctx, Protection.__dataclass_fields__))
    run(ctx.obj, Demo(clients, length, bits, tuple(drop or ()), seed, show, protection))


@app.command("train")
def _train(
    ctx: typer.Context,
    config: Annotated[Path | None, typer.Option(help="Run description, .toml or .json.")] = None,
    clients: Annotated[int | None, typer.Option(help="Client processes.", show_default="8")] = None,
    rounds: Annotated[int | None, typer.Option(help="Training rounds.", show_default="15")] = None,
    local_epochs: Annotated[int | None, typer.Option(help="Epochs a round and client.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples a step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate of SGD.")] = None,
    model: Annotated[str | None, typer.Option(help="cnn, mlp or logistic.", show_default="cnn")] = None,
    dataset: Annotated[
        str | None, typer.Option(help="digits, mnist or fashion-mnist.", show_default="digits")
    ] = None,
    data_dir: Annotated[str | None, typer.Option(help="Where data sets are looked for.")] = None,
    scheme: SchemeName = None,
    adversary: AdversaryName = None,
    ending: EndingName = None,
    corrupt: Corrupt = None,
    dropout: Dropout = None,
    graph: GraphName = None,
    batch: Batch = None,
    drop: Drops = None,
    seed: Annotated[int | None, typer.Option(help="Of data and weights; of no key and no mask.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda.", show_default="auto")] = None,
    out: Annotated[Path, typer.Option(help="Folder for metrics, plot and model.")] = Path("runs/train"),
    small_cohort: SmallCohort = False,
    baseline: Annotated[
        bool, typer.Option("--baseline/--no-baseline", help="Run the plain scheme beside it.")
    ] = True,
    force: Force = False,
) -> int:
    """Train a model in a federation on this machine: a server process and one for each client."""
    from fl.cli.train import run
    from fl.config import RunConfig

    flags = given(ctx, RunConfig.__struct_fields__)
    description = RunConfig.read(config, **flags) if config else RunConfig(**flags)
    return run(ctx.obj, description, out, force=force, baseline=baseline)


@app.command("serve")
def _serve(
    ctx: typer.Context,
    config: Annotated[Path | None, typer.Option(help="Train as this .toml or .json describes.")] = None,
    length: Annotated[int | None, typer.Option(help="Or sum one vector of this length a client.")] = None,
    bound: Annotated[float, typer.Option(help="Range of a coordinate.")] = 1.0,
    bits: Bits = 16,
    clip: Annotated[float | None, typer.Option(help="Largest L2 norm of a vector.")] = None,
    max_weight: Annotated[int | None, typer.Option(help="Clients give weights from 1 to this.")] = None,
    threshold: Threshold = None,
    scheme: SchemeName = None,
    adversary: AdversaryName = None,
    ending: EndingName = None,
    corrupt: Corrupt = None,
    dropout: Dropout = None,
    graph: GraphName = None,
    batch: Batch = None,
    bind: Annotated[
        str, typer.Option(help="Address to listen on; a port of * takes a free one.")
    ] = "tcp://*:5555",
    key: Annotated[Path, typer.Option(help="The server's key.")] = Path("server.key"),
    roster: Annotated[Path, typer.Option(help="The signed roster of the clients.")] = Path("roster"),
    roster_key: RosterKey = None,
    deadline: Annotated[
        list[str] | None,
        typer.Option(metavar="ROUND=SECONDS", help="Who is later is dropped. Training: advertise-keys."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The mean, or the run's folder.", show_default="mean.npy, runs/serve")
    ] = None,
    small_cohort: SmallCohort = False,
    force: Force = False,
) -> None:
    """Serve a federation over a network: sum the clients' vectors, or train with them."""
    from fl.cli.serve import Summing, run
    from fl.protection import Protection

    run(
        ctx.obj,
        config,
        Summing(length or 0, bound, bits, clip, max_weight),
        bind=bind,
        key=key,
        roster=roster,
        roster_key=roster_key,
        deadlines=deadline or [],
        out_path=out,
        flags=given(ctx, Protection.__dataclass_fields__),
        force=force,
    )


@app.command("join")
def _join(
    ctx: typer.Context,
    connect: Annotated[str, typer.Option(help="The server's address, tcp://host:5555.")],
    key: Annotated[Path, typer.Option(help="This client's key.")],
    data: Annotated[Path | None, typer.Option(help="Folder with shard.npz to train on.")] = None,
    input: Annotated[Path | None, typer.Option(help="Or one vector to contribute, .npy.")] = None,
    weight: Annotated[int | None, typer.Option(help="Of the vector, where the server weighs.")] = None,
    server: Annotated[Path, typer.Option(help="The server's public key.")] = Path("server.pub"),
    roster: Annotated[Path | None, typer.Option(help="This client's copy of the signed roster.")] = None,
    roster_key: RosterKey = None,
    policy: Annotated[Path | None, typer.Option(help="This client's rules, .toml.")] = None,
    allow: Annotated[
        list[str] | None, typer.Option(metavar="SCHEME", help="Accept this scheme too: ckks, plain.")
    ] = None,
    semi_honest: Annotated[
        bool, typer.Option("--semi-honest", help="Trust the server to follow the protocol.")
    ] = False,
    smallest_cohort: Annotated[
        int | None, typer.Option(help="Take no part in a smaller one.", show_default="3")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=2, help="Be summed by whole batches of so many clients, or not at all.")
    ] = None,
    patience: Annotated[float, typer.Option(help="Seconds without the server before giving up.")] = 60.0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda.")] = "auto",
    out: Annotated[
        Path | None,
        typer.Option(help="The mean, where clients keep it, .npy.", show_default="INPUT.mean.npy"),
    ] = None,
    force: Force = False,
) -> None:
    """Take part in a federation over a network, with a vector or with data to train on."""
    from fl.cli.join import run

    run(
        ctx.obj,
        connect,
        key,
        data=data,
        vector=input,
        weight=weight,
        server=server,
        roster=roster,
        roster_key=roster_key,
        policy_file=policy,
        allow=allow or [],
        semi_honest=semi_honest,
        smallest_cohort=smallest_cohort,
        batch=batch,
        patience=patience,
        device=device,
        out_path=out,
        force=force,
    )


@app.command("bench")
def _bench(
    ctx: typer.Context,
    folder: Annotated[
        str, typer.Argument(help="What to measure; report: write docs/benchmarks.md.")
    ] = "protocol",
    name: Annotated[str | None, typer.Argument(help="One benchmark of it.", show_default="all")] = None,
    size: Annotated[str, typer.Option(help="quick: minutes. full: up to an hour a table.")] = "quick",
    seed: Annotated[int, typer.Option(help="Of vectors and losses; of no key.")] = 0,
) -> int:
    """Measure cost, traffic, memory and others' code beside ours; results as tables and JSON."""
    from fl.cli.bench import run

    return run([folder, *([name] if name else []), "--size", size, "--seed", str(seed)])


@keys_app.command("server")
def _keys_server(ctx: typer.Context, out: PrivateKey = Path("server.key"), force: Force = False) -> None:
    """Make the server's key, on the server."""
    from fl.cli.keys import server

    server(ctx.obj, out, force=force)


@keys_app.command("client")
def _keys_client(
    ctx: typer.Context,
    id: Annotated[int, typer.Argument(metavar="ID")],
    out: Annotated[
        Path | None,
        typer.Option(help="Private key; the public one gets the suffix .pub.", show_default="clientID.key"),
    ] = None,
    force: Force = False,
) -> None:
    """Make the key of client ID (0 to 2147483646), on that client's machine."""
    from fl.cli.keys import client

    client(ctx.obj, id, out or Path(f"client{id}.key"), force=force)


@keys_app.command("roster-key")
def _keys_roster_key(ctx: typer.Context, out: PrivateKey = Path("roster.key"), force: Force = False) -> None:
    """Make the key that signs rosters: on a machine that stays offline, never on the server."""
    from fl.cli.keys import roster_key

    roster_key(ctx.obj, out, force=force)


@keys_app.command("roster")
def _keys_roster(
    ctx: typer.Context,
    clients: Annotated[list[Path], typer.Argument(metavar="CLIENT.pub...")],
    version: Annotated[int, typer.Option(help="1, then higher with every new roster.")],
    key: Annotated[Path, typer.Option(help="The roster key.")] = Path("roster.key"),
    out: Annotated[Path, typer.Option(help="The signed roster; its signer's .pub is kept beside it.")] = Path(
        "roster"
    ),
    force: Force = False,
) -> None:
    """Sign a roster: which client has which public keys."""
    from fl.cli.keys import roster

    roster(ctx.obj, clients, key=key, version=version, to=out, force=force)


@keys_app.command("show")
def _keys_show(
    ctx: typer.Context,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...")],
    signer: Annotated[
        Path | None,
        typer.Option(help="Public roster key to check rosters with.", show_default="ROSTER.pub"),
    ] = None,
) -> None:
    """Show kind, id and fingerprint of keys and rosters, to compare by voice."""
    from fl.cli.keys import show

    show(ctx.obj, files, signer=signer)


@keys_app.command("cohort")
def _keys_cohort(
    ctx: typer.Context,
    clients: Annotated[int, typer.Argument(min=1, metavar="N")],
    out: Annotated[Path, typer.Option(help="Folder for the files; made if it is missing.")],
    force: Force = False,
) -> None:
    """Make all keys and the roster of a demonstration with N clients, in one folder."""
    from fl.cli.keys import cohort

    cohort(ctx.obj, clients, out, force=force)


if __name__ == "__main__":
    sys.exit(main())
