"""What may be typed after `secagg`, but for the groups. What a signature names and its body does not, `given`
collects.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fl.cli import app
from fl.cli.options import (
    OF_DEMO,
    PROTECTION,
    WHOLE_RUN,
    Alike,
    Bits,
    Dashboard,
    DataDir,
    Drops,
    Force,
    KeyReaders,
    Patience,
    RosterKey,
    State,
    Threshold,
    finite,
    given,
    listed,
    most,
    protection_of,
    takes,
)
from fl.config.limits import Limits
from fl.config.presets import PRESETS
from fl.config.run import CHOICES
from fl.mistyped import choices


@app.command("info")
def _info(ctx: typer.Context) -> None:
    """Show versions, cores, cipher speed, GPU, data sets and extras."""
    from fl.cli.info import run

    run(ctx.obj)


@app.command("list")
def _list(
    ctx: typer.Context,
    what: Annotated[str, typer.Argument(metavar="[models|data|schemes|presets|rules|attacks]")],
) -> None:
    """Show what there is, with a line and the source of each."""
    from fl.cli.lists import run

    run(ctx.obj, what)


@app.command("demo")
@takes(OF_DEMO)
def _demo(
    ctx: typer.Context,
    clients: Annotated[int, typer.Option(help="Client processes.")] = 8,
    length: Annotated[int, typer.Option(help="Coordinates of each client's vector.")] = 100_000,
    bits: Bits = 16,
    threshold: Threshold = None,
    drop: Drops = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the clients' vectors; of no key and no mask.")] = 0,
    show: Annotated[int, typer.Option(help="The client whose words are shown.")] = 0,
    deadline: Annotated[
        float | None,
        typer.Option(
            callback=finite,
            help="Seconds of a round; who is later is dropped.",
            show_default="while processes live",
        ),
    ] = None,
) -> None:
    """Tell the protocol round by round: one secure sum of vectors, in processes of their own."""
    from fl.cli.demo import Demo, run

    protection = protection_of(given(ctx, (*OF_DEMO, "threshold")))
    run(ctx.obj, Demo(clients, length, bits, tuple(drop or ()), seed, show, protection, deadline))


def _usual(flag: str) -> str:
    """`--engine ray`, as other frameworks have it, says `--execution ray`."""
    return "execution" if flag == "engine" else flag


@app.command("train", context_settings={"token_normalize_func": _usual})
@takes(WHOLE_RUN)
def _train(
    ctx: typer.Context,
    config: Annotated[Path | None, typer.Option(help="Run description, .toml or .json.")] = None,
    preset: Annotated[
        str | None,
        typer.Option(**listed(PRESETS, "Settings of a published experiment: see `secagg list presets`.")),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for metrics, plot and model.")] = Path("runs/train"),
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out where it was stopped.")
    ] = False,
    dashboard: Dashboard = None,
    force: Force = False,
) -> int:
    """Train a model in a federation on this machine: a process for each party, or all clients in one."""
    from fl.cli.described import described
    from fl.cli.train import run

    flags = given(ctx, WHOLE_RUN)
    description = described(ctx.obj, config, preset, out if resume else None, flags)
    return run(ctx.obj, description, out, force=force, resume=resume, described_in=config, port=dashboard)


@app.command("evaluate")
def _evaluate(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="The folder that a run has left.")],
    per_class: Annotated[
        bool, typer.Option("--per-class", help="Precision, recall and F1 of each class.")
    ] = False,
    victim: Annotated[
        int | None,
        typer.Option(metavar="CLASS", help="With --per-class: its F1, and the micro-F1 of the rest."),
    ] = None,
    backdoor: Annotated[
        bool, typer.Option("--backdoor", help="How often images with a trigger are taken for --target.")
    ] = False,
    target: Annotated[
        int | None, typer.Option(metavar="CLASS", help="With --backdoor: the class wanted.")
    ] = None,
    per_client: Annotated[
        bool, typer.Option("--per-client", help="Accuracy on each client's own examples, and how fair it is.")
    ] = False,
    data_dir: DataDir = None,
    device: Annotated[
        str, typer.Option(metavar=choices(CHOICES["device"]), help="Where the model is evaluated.")
    ] = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Folder for evaluation.json and pictures.", show_default="RUN")
    ] = None,
) -> None:
    """Measure what the model of a run is worth on the test set."""
    from fl.cli.evaluate import Asked, run

    asked = Asked(per_class, victim, backdoor, target, per_client)
    run(ctx.obj, folder, asked, data_dir=data_dir, device=device, to=out)


@app.command("report")
def _report(
    ctx: typer.Context,
    runs: Annotated[
        list[Path] | None, typer.Argument(metavar="[RUN]...", help="Folders that runs have left.")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="[quick|full|gpu]",
            help="Show what `secagg bench matrix` has measured here at this size.",
            show_default="what comes with the package",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the page, plots and tables.")] = Path("runs/report"),
    force: Force = False,
) -> None:
    """Show on one page what each protection costs and stops, as it was measured, and runs of your own."""
    from fl.cli.page import run

    run(ctx.obj, runs or [], out, size=size, force=force)


@app.command("serve")
@takes(PROTECTION)
def _serve(
    ctx: typer.Context,
    config: Annotated[Path | None, typer.Option(help="Train as this .toml or .json describes.")] = None,
    task: Annotated[
        str | None, typer.Option(help="Train the model of this file of Python, which is run: docs/task.md.")
    ] = None,
    length: Annotated[int | None, typer.Option(help="Or sum one vector of this length a client.")] = None,
    bound: Annotated[float, typer.Option(callback=finite, help="Range of a coordinate.")] = 1.0,
    bits: Bits = 16,
    clip: Annotated[float | None, typer.Option(callback=finite, help="Largest L2 norm of a vector.")] = None,
    max_weight: Annotated[int | None, typer.Option(help="Clients give weights from 0 to this.")] = None,
    new: Annotated[
        bool, typer.Option("--new", help="With --length: all inputs are others than those summed before.")
    ] = False,
    threshold: Threshold = None,
    bind: Annotated[
        str, typer.Option(help="Address to listen on, tcp://[::]:5555 for IPv6 too; port * is a free one.")
    ] = "tcp://*:5555",
    key: Annotated[Path, typer.Option(help="The server's key.")] = Path("server.key"),
    roster: Annotated[Path, typer.Option(help="The signed roster of the clients.")] = Path("roster"),
    roster_key: RosterKey = None,
    state: State = None,
    key_readers: KeyReaders = "owner",
    deadline: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[ROUND=]SECONDS",
            help="Of every round, or of one: who is later is dropped. Training: advertise-keys.",
            show_default="join 60, training 600, others 120",
        ),
    ] = None,
    finish: Annotated[
        float,
        typer.Option(
            callback=finite, help="Seconds to wait on for clients without whom a sum cannot be finished."
        ),
    ] = 600.0,
    out: Annotated[
        Path | None, typer.Option(help="The mean, or the run's folder.", show_default="mean.npy, runs/serve")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the training, or the sum, in --out where it was stopped."),
    ] = False,
    dashboard: Dashboard = None,
    force: Force = False,
) -> None:
    """Serve a federation over a network: sum the clients' vectors, or train with them."""
    from fl.cli.serve import Summing, run

    run(
        ctx.obj,
        config,
        Summing(length, bound, bits, clip, max_weight, new),
        task=task,
        bind=bind,
        key=key,
        roster=roster,
        roster_key=roster_key,
        state=state,
        readers=key_readers,
        deadlines=deadline or [],
        finish=finish,
        out_path=out,
        flags=given(ctx, (*PROTECTION, "threshold")),
        force=force,
        resume=resume,
        port=dashboard,
    )


@app.command("join")
def _join(
    ctx: typer.Context,
    connect: Annotated[str, typer.Option(help="The server's address, tcp://host:5555.")],
    key: Annotated[Path, typer.Option(help="This client's key.")],
    data: Annotated[Path | None, typer.Option(help="Folder with shard.npz to train on.")] = None,
    task: Annotated[
        Path | None,
        typer.Option(
            help="With --data: train this file of Python, which is run, and nothing else: docs/task.md."
        ),
    ] = None,
    input: Annotated[Path | None, typer.Option(help="Or one vector to contribute, .npy.")] = None,
    flatten: Annotated[
        bool, typer.Option("--flatten", help="Take an array of more dimensions as a vector, row by row.")
    ] = False,
    weight: Annotated[int | None, typer.Option(min=0, help="Of the vector, where the server weighs.")] = None,
    server: Annotated[Path, typer.Option(help="The server's public key.")] = Path("server.pub"),
    roster: Annotated[Path | None, typer.Option(help="This client's copy of the signed roster.")] = None,
    roster_key: RosterKey = None,
    policy: Annotated[Path | None, typer.Option(help="This client's rules, .toml.")] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="SCHEME", help="Accept split, ckks, plain or decoys too; may be repeated."),
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
    smallest_group: Annotated[
        int | None,
        typer.Option(min=1, help="Be summed in a group of so many clients or more.", show_default="with all"),
    ] = None,
    unsafe_groups: Annotated[
        bool,
        typer.Option(
            "--unsafe-groups", help="Also in one of which the server's side may be nearly all: an experiment."
        ),
    ] = False,
    public_weights: Annotated[
        bool,
        typer.Option("--public-weights", help="Also where the server learns the weights of each group."),
    ] = False,
    one_cut: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="In groups that stay as they were first cut, in the run that you give this name.",
            show_default="in any",
        ),
    ] = None,
    blank: Annotated[
        float | None,
        typer.Option(callback=finite, help="Insist that clients contribute nothing with this probability."),
    ] = None,
    ending: Annotated[
        str | None,
        typer.Option(
            metavar=choices(CHOICES["ending"]),
            help="With ckks: insist that the sum is released, or kept.",
            show_default="either",
        ),
    ] = None,
    alike: Alike = None,
    answer_after: Annotated[
        float | None,
        typer.Option(
            callback=finite, help="Seconds from a task to its answer, however much there is to train on."
        ),
    ] = None,
    most_epochs: Annotated[int | None, most("epochs", "Refuse to train longer in a round.")] = None,
    most_steps: Annotated[int | None, most("steps", "So too where steps are counted.")] = None,
    most_batch_size: Annotated[int | None, most("batch_size", "Refuse steps of more examples.")] = None,
    most_parameters: Annotated[int | None, most("parameters", "Refuse larger models.")] = None,
    preflight: Annotated[
        bool | None,
        typer.Option(
            "--preflight/--no-preflight",
            help="Send no update off which more of the examples can be read than may be.",
            show_default="preflight",
        ),
    ] = None,
    new: Annotated[
        bool, typer.Option("--new", help="The input is another one than those that were summed before.")
    ] = False,
    patience: Patience = 60.0,
    state: State = None,
    key_readers: KeyReaders = "owner",
    device: Annotated[
        str,
        typer.Option(
            metavar=choices(CHOICES["device"]), help="Where the model is trained; cuda:N for one of several."
        ),
    ] = "auto",
    out: Annotated[
        Path | None,
        typer.Option(help="The mean, where clients keep it, .npy.", show_default="INPUT.mean.npy"),
    ] = None,
    force: Force = False,
) -> None:
    """Take part in a federation over a network, with a vector or with data to train on."""
    from fl.cli.join import Door, run
    from fl.cli.rules import MOST, OF_POLICY, PREFLIGHT, rules_of

    said = given(ctx, (*OF_POLICY, PREFLIGHT, *(f"{MOST}{name}" for name in Limits.__struct_fields__)))
    run(
        ctx.obj,
        Door(connect, key, server, roster, roster_key, state, key_readers, patience),
        rules_of(policy, roster, said, trains=data is not None),
        data=data,
        vector=input,
        flatten=flatten,
        weight=weight,
        new=new,
        device=device,
        out_path=out,
        force=force,
        task=task,
    )


@app.command("relay")
def _relay(
    ctx: typer.Context,
    connect: Annotated[str, typer.Option(help="The server's address, tcp://host:5555.")],
    key: Annotated[Path, typer.Option(help="This relay's key.")],
    server: Annotated[Path, typer.Option(help="The server's public key.")] = Path("server.pub"),
    roster: Annotated[Path, typer.Option(help="This relay's copy of the signed roster.")] = Path("roster"),
    roster_key: RosterKey = None,
    policy: Annotated[Path | None, typer.Option(help="This relay's rules, .toml, as a client's.")] = None,
    semi_honest: Annotated[
        bool, typer.Option("--semi-honest", help="Trust the server to follow the protocol.")
    ] = False,
    smallest_cohort: Annotated[
        int | None, typer.Option(help="Take no part in a smaller one.", show_default="3")
    ] = None,
    patience: Patience = 60.0,
    state: State = None,
    key_readers: KeyReaders = "owner",
) -> None:
    """Be a relay of a federation with --scheme split: add shares of vectors, until the server closes."""
    from fl.cli.join import Door
    from fl.cli.relay import policy_for, run

    said = given(ctx, ("semi_honest", "smallest_cohort"))
    door = Door(connect, key, server, roster, roster_key, state, key_readers, patience)
    run(ctx.obj, door, policy_for(policy, roster, said))


@app.command("bench")
def _bench(
    ctx: typer.Context,
    folder: Annotated[
        str,
        typer.Argument(
            metavar="[protocol|training|privacy|leakage|poisoning|matrix|report]",
            help="What to measure; report: write docs/benchmarks.",
        ),
    ] = "protocol",
    name: Annotated[str | None, typer.Argument(help="One benchmark of it.", show_default="all")] = None,
    size: Annotated[
        str,
        typer.Option(metavar="[quick|full|gpu]", help="Minutes, up to an hour a table, or what takes a GPU."),
    ] = "quick",
    seed: Annotated[int, typer.Option(help="Of vectors and losses; of no key.")] = 0,
) -> int:
    """Measure cost, traffic, memory and others' code beside ours; results as tables and JSON."""
    from fl.cli.bench import run

    flags = [f"--{flag}" for flag in ("json", "quiet", "debug") if getattr(ctx.obj, flag)]
    return run([folder, *([name] if name else []), "--size", size, "--seed", str(seed), *flags])
