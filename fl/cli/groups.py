"""The commands of a group: `secagg keys ...`, `secagg data ...` and `secagg attack ...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fl.cli import group
from fl.cli.options import DataDir, Force, PrivateKey, check_choices, finite, given, listed, takes
from fl.config.run import CHOICES
from secagg.wire import MAX_RELAYS

keys_app = group("keys", "Make identity keys, sign rosters, compare fingerprints.")
data_app = group("data", "List, fetch and check data sets; see who would hold what.")
attack_app = group("attack", "See what an adversary gets out of what it saw of a session.")


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


@keys_app.command("relay")
def _keys_relay(
    ctx: typer.Context,
    number: Annotated[int, typer.Argument(metavar="N")],
    out: Annotated[
        Path | None,
        typer.Option(help="Private key; the public one gets the suffix .pub.", show_default="relayN.key"),
    ] = None,
    force: Force = False,
) -> None:
    """Make the key of relay N (0, 1, ... to 15), on that relay's machine."""
    from fl.cli.keys import relay

    relay(ctx.obj, number, out or Path(f"relay{number}.key"), force=force)


@keys_app.command("roster-key")
def _keys_roster_key(ctx: typer.Context, out: PrivateKey = Path("roster.key"), force: Force = False) -> None:
    """Make the key that signs rosters: on a machine that stays offline, never on the server."""
    from fl.cli.keys import roster_key

    roster_key(ctx.obj, out, force=force)


@keys_app.command("roster")
def _keys_roster(
    ctx: typer.Context,
    parties: Annotated[list[Path], typer.Argument(metavar="CLIENT.pub... [RELAY.pub...]")],
    version: Annotated[int, typer.Option(help="1, then higher with every new roster.")],
    key: Annotated[Path, typer.Option(help="The roster key.")] = Path("roster.key"),
    out: Annotated[Path, typer.Option(help="The signed roster; its signer's .pub is kept beside it.")] = Path(
        "roster"
    ),
    force: Force = False,
) -> None:
    """Sign a roster: which client has which public keys, and which relay, all of them."""
    from fl.cli.keys import roster

    roster(ctx.obj, parties, key=key, version=version, to=out, force=force)


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
    relays: Annotated[int, typer.Option(min=0, max=MAX_RELAYS, help="And with so many relays.")] = 0,
    force: Force = False,
) -> None:
    """Make all keys and the roster of a demonstration with N clients, in one folder."""
    from fl.cli.keys import cohort

    cohort(ctx.obj, clients, relays, out, force=force)


@data_app.command("list")
def _data_list(ctx: typer.Context, data_dir: DataDir = None) -> None:
    """Show every data set, and where it is or how to get it."""
    from fl.cli.data import show

    show(ctx.obj, data_dir)


@data_app.command("fetch")
def _data_fetch(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(**listed(CHOICES["dataset"], "Of the data set."))],
    data_dir: DataDir = None,
) -> None:
    """Download what is missing of a data set."""
    from fl.cli.data import get

    get(ctx.obj, name, data_dir)


@data_app.command("check")
def _data_check(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(**listed(CHOICES["dataset"], "Of the data set."), show_default="all that are here"),
    ] = None,
    data_dir: DataDir = None,
) -> int:
    """Read a data set to the end and compare its files with the published ones."""
    from fl.cli.data import check

    return check(ctx.obj, name, data_dir)


@data_app.command("picture")
def _data_picture(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option(help="A .png, .pdf or .svg.")] = Path("partition.png"),
    dataset: Annotated[str, typer.Option(**listed(CHOICES["dataset"], "See `secagg data list`."))] = "digits",
    clients: Annotated[int, typer.Option(min=1, help="Clients.")] = 8,
    partition: Annotated[
        str, typer.Option(**listed(CHOICES["partition"], "How they are dealt out."))
    ] = "dirichlet",
    alpha: Annotated[float, typer.Option(callback=finite, help="Dirichlet concentration.")] = 0.5,
    classes_per_client: Annotated[int, typer.Option(help="With --partition shards.")] = 2,
    examples_per_client: Annotated[int | None, typer.Option(help="Just so many each.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    data_dir: DataDir = None,
    force: Force = False,
) -> None:
    """Draw who would hold what."""
    from fl.cli.data import picture
    from fl.data.partition import Partition

    check_choices({"dataset": dataset, "partition": partition})
    how = Partition(partition, alpha, classes_per_client, examples_per_client)
    picture(ctx.obj, out, dataset, clients, how, seed=seed, data_dir=data_dir, force=force)


@attack_app.command("list")
def _attack_list(ctx: typer.Context) -> None:
    """Show the attacks there are, with a line and the source of each."""
    from fl.cli.attack import show

    show(ctx.obj)


ATTACKED = ("dataset", "data_dir", "model", "scheme", "ending", "relays", "decoys", "bits", "bound")
TRAINED = ("algorithm", "lr", "momentum", "local_steps")
PERTURBED = ("privacy", "noise", "clip", "noise_multiplier", "noise_largest", "compress")
"""Of a run, what a command of an attack asks for; the rest is as the attack needs it."""


Clients = Annotated[int, typer.Option(help="Clients of the session.")]
Images = Annotated[int, typer.Option(min=1, help="Images that each client holds.")]
Batch = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        "--batch",
        min=1,
        help="Examples of a local step.",
        show_default="all that it holds",
    ),
]
Round = Annotated[int, typer.Option(min=1, help="The training round that is attacked.")]
Seen = Annotated[
    str,
    typer.Option(
        help="Who saw it: server, eavesdropper, participant (the model over rounds), client (where it "
        "trains), relay:0 of split, or the server and some clients, colluders:0,3."
    ),
]
WithoutModel = Annotated[
    bool, typer.Option("--without-model", help="The attacker has not the model: it draws weights of its own.")
]
Seed = Annotated[int, typer.Option(min=0, help="Of data, first weights and the attack.")]
Report = Annotated[Path, typer.Option(help="Folder for report and pictures.")]


@takes((*ATTACKED, *TRAINED, *PERTURBED))
def _attack(
    ctx: typer.Context,
    clients: Clients = 10,
    images: Images = 1,
    batch: Batch = None,
    round: Round = 1,
    rounds_seen: Annotated[
        int | None,
        typer.Option(
            min=1, help="Of the rounds up to that one, how many it saw.", show_default="one; of history all"
        ),
    ] = None,
    view: Seen = "server",
    start: Annotated[
        str, typer.Option(help="Where the attack begins: grey, patterned, uniform, ...")
    ] = "grey",
    time: Annotated[
        float, typer.Option(min=0, callback=finite, help="Seconds of a processor for each image.")
    ] = 4.0,
    iterations: Annotated[int, typer.Option(min=1, help="Steps of the attack from each start.")] = 300,
    without_model: WithoutModel = False,
    seed: Seed = 0,
    out: Report = Path("runs/attack"),
    force: Force = False,
) -> None:
    from fl.cli.attack import USES, check_spent, described, run
    from fl.leakage.attack import Budget

    attack = str(ctx.info_name)
    check_spent(attack, given(ctx, USES))
    flags = given(ctx, (*ATTACKED, *TRAINED, *PERTURBED))
    config = described(flags, clients, images, batch, round, seed)
    budget = Budget(seconds=time, iterations=iterations, start=start)
    run(
        ctx.obj,
        attack,
        config,
        view,
        budget,
        out,
        without_model=without_model,
        rounds_seen=rounds_seen,
        force=force,
    )


@attack_app.command("labels")
@takes((*ATTACKED, *TRAINED))
def _attack_labels(
    ctx: typer.Context,
    clients: Clients = 10,
    images: Images = 1,
    batch: Batch = None,
    round: Round = 1,
    view: Seen = "server",
    without_model: WithoutModel = False,
    seed: Seed = 0,
    out: Report = Path("runs/attack"),
    force: Force = False,
) -> None:
    """Read how many images there are of each class off the last layer, and no image."""
    from fl.cli.attack import described, run
    from fl.leakage.attack import Budget

    config = described(given(ctx, (*ATTACKED, *TRAINED)), clients, images, batch, round, seed)
    run(ctx.obj, "labels", config, view, Budget(), out, without_model=without_model, force=force)


@attack_app.command("words")
@takes((*ATTACKED, *TRAINED))
def _attack_words(
    ctx: typer.Context,
    clients: Clients = 10,
    texts: Annotated[int, typer.Option(min=1, help="Texts of 8 words, and the next, of each client.")] = 1,
    batch: Batch = None,
    round: Round = 1,
    view: Seen = "server",
    without_model: WithoutModel = False,
    seed: Seed = 0,
    out: Report = Path("runs/attack"),
    force: Force = False,
) -> None:
    """Read the words of texts off the embedding of a model of language."""
    from fl.cli.attack import described, run
    from fl.leakage.attack import Budget

    flags = {"dataset": "text", "model": "bag-of-words"} | given(ctx, (*ATTACKED, *TRAINED))
    config = described(flags, clients, texts, batch, round, seed)
    run(ctx.obj, "words", config, view, Budget(), out, without_model=without_model, force=force)


@attack_app.command("face")
@takes((*ATTACKED, *TRAINED, "local_epochs"))
def _attack_face(
    ctx: typer.Context,
    clients: Clients = 4,
    images: Images = 300,
    batch: Annotated[
        int, typer.Option("--batch-size", "--batch", min=1, help="Examples of a local step.")
    ] = 32,
    round: Annotated[int, typer.Option(min=1, help="Rounds of training before the attack.")] = 20,
    view: Seen = "server",
    processed: Annotated[
        bool, typer.Option("--processed", help="Denoise and sharpen the image after each step.")
    ] = False,
    time: Annotated[
        float, typer.Option(min=0, callback=finite, help="Seconds of a processor for each class.")
    ] = 4.0,
    iterations: Annotated[int, typer.Option(min=1, help="Steps of the attack.")] = 2000,
    seed: Seed = 0,
    out: Report = Path("runs/attack"),
    force: Force = False,
) -> None:
    """Make an image of each class out of the trained model alone."""
    from fl.cli.face import described, run
    from fl.leakage.attack import Budget

    flags = given(ctx, (*ATTACKED, *TRAINED, "local_epochs"))
    config = described(flags, clients, images, batch, round, seed)
    budget = Budget(seconds=time, iterations=iterations, processed=processed)
    run(ctx.obj, config, view, budget, out, force=force)


@attack_app.command("imprint")
@takes((*ATTACKED, *TRAINED))
def _attack_imprint(
    ctx: typer.Context,
    clients: Clients = 10,
    images: Images = 8,
    batch: Batch = None,
    bins: Annotated[
        int | None,
        typer.Option(min=1, help="Into which images are sorted.", show_default="as many as neurons"),
    ] = None,
    view: Seen = "server",
    seed: Seed = 0,
    out: Report = Path("runs/attack"),
    force: Force = False,
) -> None:
    """Read images out of a sum through a model that the server crafted: bins of brightness."""
    from fl.cli.attack import described, run
    from fl.leakage.attack import Budget

    flags = {"model": "mlp-1000"} | given(ctx, (*ATTACKED, *TRAINED))
    config = described(flags, clients, images, batch, 1, seed)
    run(ctx.obj, "imprint", config, view, Budget(), out, bins=bins, force=force)


IMAGE_ATTACKS = {
    "inversion": "Look for the images whose update is the one that was seen, by L-BFGS.",
    "sparse": "As inversion, of updates that were compressed: what was left out is not asked to be met.",
    "cosine": "Look for the images whose update points where the one that was seen does, by Adam on signs.",
    "history": "As inversion, of several rounds at once in which the same clients took the same images.",
    "learned": "Train a net on images of the attacker's own, perturbed as the clients perturb theirs.",
    "analytic": "Read the images that enter a first linear layer off its gradient.",
    "peeling": "Read images out of a sum through a first linear layer, each taken off before the next.",
}
for _name, _help in IMAGE_ATTACKS.items():
    attack_app.command(_name, help=_help)(_attack)
