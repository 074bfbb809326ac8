"""`secagg join`: one client of a federation, with a vector of its own or with data to train on."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

import transport
from fl.cli import exit_code
from fl.cli.display import shown, since
from fl.cli.drops import Killer
from fl.cli.options import check_choices
from fl.cli.output import Output
from fl.cli.report import within
from fl.cli.results import check_file, npy, try_folder, write_result
from fl.cli.rounds import FIRST_ROUND, METRICS
from fl.config.files import table_in
from fl.config.limits import Limits
from fl.config.protection import Protection, check_installed
from fl.config.run import CHOICES
from fl.config.secret import CLIENT, kept, rounding_seed
from fl.config.section import ConfigError
from fl.mistyped import nearest
from fl.privacy.budget import Account, Budget, Charged
from secagg import Aggregate, Bounded, LocalProtocolError, Policy, Scheme
from secagg.ckks import WARNING
from secagg.errors import counted
from secagg.masking.words import AGAINST
from secagg.specs import check_vectors
from transport import Contribution, Peer, TransportError

if TYPE_CHECKING:
    from fl.data.shard import Shard
    from fl.federation.task import Held, Instructions
    from fl.privacy.releases import Release

TRAINING = "training"  # table of a policy file: what a client computes at most
PRIVACY = "privacy"  # and what all its sessions may cost
TEST = "test"  # folder of a test set, beside a client's own examples
NPY = b"\x93NUMPY"  # what such a file begins with
PATIENCE = 10.0  # on this machine, once the server has gone: what it said last is here by then


def run(
    out: Output,
    connect: str,
    key: Path,
    *,
    data: Path | None,
    vector: Path | None,
    flatten: bool,
    weight: int | None,
    server: Path,
    roster: Path | None,
    roster_key: Path | None,
    policy: Policy,
    limits: Limits,
    budget: Budget | None,
    patience: float,
    state: Path | None,
    readers: str,
    new: bool,
    device: str,
    out_path: Path | None,
    force: bool,
) -> None:
    """Contribute one vector, or train until the server closes."""
    if (data is None) == (vector is None):
        raise ConfigError("give --input, a vector to contribute, or --data, a folder to train on")
    if new and vector is None:
        raise ConfigError("--new is for --input: what training gives follows from the model")
    if not 0 < patience < 1e9:
        raise ConfigError(f"--patience {patience}: a number of seconds above 0")
    x = read_vector(vector, flatten=flatten) if vector is not None else None
    result = None
    if vector is not None and "ckks" in policy.schemes:
        result = out_path or vector.with_suffix(".mean.npy")
        check_file(result, force=force)
    elif out_path is not None:
        raise ConfigError("--out is for --input where ckks is allowed: there the clients may keep the mean")
    if data is not None:
        if not (data / "shard.npz").is_file():
            raise ConfigError(f"{data} holds no shard.npz: name the folder with the client's examples")
        try_folder(data)
    check_installed(policy.schemes)
    if roster is None:
        out.warn("no --roster: who else takes part, this client takes on the server's word: semi-honest")
    options: Any = {"policy": policy, "patience": patience, "state": state, "readers": readers}
    with transport.join(connect, key, server, roster, roster_key, **options) as peer:
        out.say(f"client {peer.id}: connecting to {connect}")
        tell_policy(out, policy)
        charged = None
        if budget is not None:
            charged = Charged(Account(budget, peer.spent), trains=x is None)
            tell_budget(out, charged.account)
        if x is not None:
            contribute(out, peer, x, weight, result, new=new, charged=charged)
        elif data is not None:
            train(out, peer, data, device=device, limits=limits, charged=charged)
        if charged is not None:
            tell_budget(out, charged.account)


def policy_of(
    file: Path | None,
    roster: Path | None,
    *,
    allow: Sequence[str],
    semi_honest: bool,
    smallest_cohort: int | None,
    batch: int | None,
    ending: str | None,
    alike: str | None,
    answer_after: float | None,
) -> Policy:
    """This client's rules: those in the file, or those that the other options say.

    Raises: ConfigError for both, or what is no policy.
    """
    if file is not None:
        if allow or semi_honest or {smallest_cohort, batch, ending, alike, answer_after} != {None}:
            raise ConfigError(
                "--policy says it all: no --allow, --semi-honest, --smallest-cohort, --batch, --ending, "
                "--alike or --answer-after"
            )
        return read_policy(file)
    if unknown := set(allow) - {*CHOICES["scheme"]}:
        word, known = min(unknown), CHOICES["scheme"]
        raise ConfigError(f"--allow {word}: the schemes are {', '.join(known)}{nearest(word, known)}")
    if ending is not None and "ckks" not in allow:
        raise ConfigError(f"--ending {ending} is of ckks: give --allow ckks with it")
    if answer_after is not None and not 0 < answer_after <= 1e6:
        raise ConfigError(f"--answer-after {answer_after}: a number of seconds, above 0 and at most 1000000")
    check_choices({name: word for name, word in (("ending", ending), ("alike", alike)) if word is not None})
    return Policy(
        schemes=frozenset({"masking", *allow}),
        adversary="semi-honest" if semi_honest or roster is None else "active",
        smallest_cohort=3 if smallest_cohort is None else smallest_cohort,
        batch=batch,
        ending=ending,  # type: ignore[arg-type]  # one of them
        alike=alike or "auto",  # type: ignore[arg-type]
        answer_after=answer_after,
    )


def limits_of(file: Path | None, flags: Mapping[str, int], *, trains: bool) -> Limits:
    """What this client is willing to compute: by its rules in the file, or by flags, most_... each.

    Raises: ConfigError for both, for what are no limits, or where nothing is trained.
    """
    if flags and not trains:
        raise ConfigError("--most-... is for --data: only training is limited so")
    if flags and file is not None:
        raise ConfigError(f"--policy says it all: write limits into its table [{TRAINING}]")
    given = {name.removeprefix("most_"): number for name, number in flags.items()}
    if file is not None:
        given = table_in(file).get(TRAINING, {})
        if isinstance(given, dict):
            check_keys(given, Limits.__struct_fields__, f"{file}, {TRAINING}: ")
    try:
        return msgspec.convert(given, Limits)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{file}, {TRAINING}: {error}") from error


def budget_of(file: Path | None) -> Budget | None:
    """What this client's sessions may cost together, by its rules in the file; None where nothing is said.

    Raises: ConfigError for what is no budget.
    """
    if file is None or (given := table_in(file).get(PRIVACY)) is None:
        return None
    if isinstance(given, dict):
        check_keys(given, Budget.__struct_fields__, f"{file}, {PRIVACY}: ")
    try:
        budget = msgspec.convert(given, Budget)
        _ = budget.best_order  # for what it raises, before anybody is connected to
    except (msgspec.ValidationError, ConfigError) as error:
        raise ConfigError(f"{file}, {PRIVACY}: {error}") from error
    return budget


def tell_policy(out: Output, policy: Policy) -> None:
    if "plain" in policy.schemes:
        out.warn("plain is allowed: if the server offers that, it reads every vector of this client")
    if "ckks" in policy.schemes:
        out.warn(f"ckks is allowed: {WARNING}")
    if policy.schemes == {"masking"}:
        out.say(AGAINST[policy.adversary])


def tell_budget(out: Output, account: Account) -> None:
    budget, left = account.budget, account.left
    out.say(
        f"{left:.0%} of this client's privacy budget is left: epsilon {budget.epsilon:g} at delta "
        f"{budget.delta:g} of one {budget.protects}, counted at order {account.order:g}"
    )
    out.record({"budget_left": left})


@contextmanager
def joined(
    out: Output, own: Path, endpoint: str, serving: Connection, protection: Protection
) -> Iterator[Peer]:
    """Connect a client's process on this machine: with the keys in its own folder, insisting on just
    this protection; an error becomes one line and the exit code. serving: a pipe that comes to its end when
    the server does.
    """
    keys = own / "client.key", own / "server.pub", own / "roster"
    policy = protection.policy()
    patient: Any = {"patience": PATIENCE, "lives": lambda: not serving.poll()}
    with exit_code(out, own.name), transport.join(endpoint, *keys, policy=policy, **patient) as peer:
        yield peer


def read_policy(path: Path) -> Policy:
    """The client's own rules, a .toml of the fields of `secagg.Policy`, and tables of `Limits` and of a
    `Budget`.

    Raises: ConfigError for any other.
    """
    try:
        rules = table_in(path)
        check_words(rules, f"{path} is not a policy: ")
        for table in (TRAINING, PRIVACY):
            rules.pop(table, None)
        return msgspec.convert(rules, Policy)
    except (msgspec.ValidationError, LocalProtocolError) as error:
        raise ConfigError(f"{path} is not a policy: {error}") from error


def check_words(rules: Mapping[str, Any], where: str) -> None:
    """Raises: ConfigError for a key or a word that no policy has, with the nearest that it could be."""
    check_keys(rules, (*Policy.__struct_fields__, TRAINING, PRIVACY), where)
    schemes = rules.get("schemes", ())
    said = [*rules.items(), *(("scheme", word) for word in schemes if isinstance(schemes, list))]
    for key, word in said:
        known = CHOICES.get(key, ())
        if known and isinstance(word, str) and word not in known:
            raise ConfigError(
                f"{where}{key} = {word!r}: give one of {', '.join(known)}{nearest(word, known)}"
            )


def check_keys(table: Mapping[str, Any], known: Collection[str], where: str) -> None:
    """Raises: ConfigError for a key that is none of these, with the nearest that it could be."""
    for key in table:
        if key not in known:
            raise ConfigError(f"{where}unknown key {key!r}{nearest(key, known)}")


def read_vector(path: Path, *, flatten: bool = False) -> np.ndarray[Any, Any]:
    """The vector in an .npy file, all that can be known without the server's offer checked.

    flatten: take an array of another shape as its numbers in the order of rows.

    Raises: ConfigError if it holds anything else.
    """
    try:
        with path.open("rb") as file:
            is_npy = file.read(len(NPY)) == NPY
            file.seek(0)
            x = np.load(file, allow_pickle=False) if is_npy else np.zeros(0)
    except OSError as error:
        raise ConfigError(f"{path}: not readable: {error.strerror}") from None
    except Exception:  # whatever numpy's parsers raise, and not in its words, which advise to unpickle it
        raise ConfigError(f"{path} was cut short or damaged, or holds Python objects, not numbers") from None
    if not is_npy:
        raise ConfigError(f"{path} is not a vector in numpy's .npy format: write one with numpy.save")
    if x.ndim != 1 and not flatten:
        raise ConfigError(
            f"{path} holds an array of shape {x.shape}, not a vector: to send its "
            f"{counted(x.size, 'number')} row by "
            "row give --flatten"
        )
    if x.size == 0:
        raise ConfigError(f"{path} holds no number")
    try:
        return check_vectors({"": Bounded(length=x.size, bound=1.0)}, {"": x.reshape(-1)})[""]
    except LocalProtocolError as error:
        raise ConfigError(f"{path}: {error}") from None


def contribute(
    out: Output,
    peer: Peer,
    vector: np.ndarray[Any, Any],
    weight: int | None,
    result: Path | None,
    *,
    new: bool,
    charged: Charged | None = None,
) -> None:
    """Contribute one vector to one session. result: where the mean goes if the clients keep it. new: the
    vector is another one than before. charged: the account that it is charged to, if there is one.
    """
    values: dict[str, Any] = {"": vector} if weight is None else {"": vector, "weight": weight}
    at = ["waiting for the server"]

    def progress(round: str, sent: int, size: int) -> None:
        at[0] = f"in {round}"

    def left() -> None:
        out.say(
            f"client {peer.id}: the vector is sent; stay until the sum is finished, which may need this "
            "client (a lost connection is made again; a process that was stopped cannot go on)"
        )

    with shown(out, since(lambda: f"client {peer.id}: {at[0]}")):
        on_account: Any = (
            {} if charged is None else {"accepted": charged.accepted, "leaving": charged.leaving}
        )
        contribution = peer.contribute(
            values, new=new, progress=progress, left=left, tell=out.warn, **on_account
        )
    if contribution is None or not contribution.summed:
        nothing = "the server closed without a session"
        if peer.turned_away:
            nothing += f" for this process: another of this key was in the one that ran ({peer.turned_away})"
        reason = contribution.reason if contribution else nothing
        raise TransportError(f"the vector is not known to be in a sum: {reason}")
    tell_clipping(out, peer.id, contribution)
    out.say(f"client {peer.id}: the vector is in the sum")
    fields: dict[str, Any] = {"client": peer.id, "summed": True}
    kept = None
    if (total := contribution.result) is not None and result is not None:
        kept = write_result(result, npy(total.mean[""]))
        fields |= {
            "wrote": kept.path,
            "survivors": sorted(total.survivors),
            "error_bound": total.error_bound[""],
        }
        out.say(
            f"wrote {kept.path}: the mean over {counted(len(total.survivors), 'client')}, each "
            "coordinate within "
            f"{total.error_bound['']:.2e} of the mean of {within(contribution.scheme)}"
        )
    out.record(fields)
    if kept is not None:
        kept.check()


def train(
    out: Output,
    peer: Peer,
    folder: Path,
    *,
    device: str,
    limits: Limits,
    killer: Killer | None = None,
    charged: Charged | None = None,
) -> None:
    """Train on the shard in `folder` whenever the server asks, until it closes. Where the clients keep the
    model it is left in `folder`, beside what each round made of it. charged: the account that each round is
    charged to, if there is one.
    """
    import torch

    from fl.data.shard import FILE, read_shard
    from fl.federation.client import LocalTrainer

    # One thread: several would add up in another order, and the clients of one machine share its cores.
    torch.set_num_threads(1)
    killer = killer or Killer(None)
    secret = kept(folder / CLIENT)

    def asked(instructions: Instructions, releases: Sequence[Release]) -> None:
        killer.training(instructions.round)
        if charged is not None:
            own = instructions.privacy
            charged.asked(releases, of_examples=own is not None and own.mechanism == "example")

    def accepted(scheme: Scheme) -> None:
        trainer.offered(scheme)
        if charged is not None:
            charged.accepted(scheme)

    trainer = LocalTrainer(
        peer.id, read_shard(folder), device, secret, limits=limits, asked=asked, tell=out.warn
    )
    test = read_shard(folder / TEST) if (folder / TEST / FILE).exists() else None
    seed = rounding_seed(secret)
    clipped = False
    with shown(out, since(lambda: f"client {peer.id}: {_at(killer.round)}")):
        while (
            contribution := peer.contribute(
                trainer,
                alike=partial(trainer.likeness, policy=peer.policy),
                rounding_seed=seed,
                largest_task=limits.task_bytes,
                progress=killer.progress,
                tell=out.warn,
                accepted=accepted,
                leaving=charged.leaving if charged is not None else lambda: None,
            )
        ) is not None:
            clipped = clipped or tell_clipping(out, peer.id, contribution, " (said once)")
            outcome = "in the sum" if contribution.summed else f"not in the sum: {contribution.reason}"
            out.say(f"client {peer.id}: round {killer.round}: {outcome}")
            fields = {"client": peer.id, "session": killer.round, "summed": contribution.summed}
            if contribution.result is not None:
                fields |= keep(trainer.keep(contribution.result), contribution.result, folder, test, device)
            out.record(fields)


def _at(round: int) -> str:
    return f"round {round} was the last that the server began" if round else "waiting for the server"


def keep(held: Held, total: Aggregate, folder: Path, test: Shard | None, device_name: str) -> dict[str, Any]:
    """Leave the model in a client's folder, and what it has learned of the round, which is returned."""
    import torch

    from fl.federation.records import Learned
    from fl.models.architectures import build
    from fl.models.weights import from_vector, save
    from fl.training.local import device, evaluate

    description, on = held.description, device(device_name)
    model = build(description.model, description.shape, description.classes, 0)
    from_vector(model, held.model.parameters)
    save(model, description, folder)
    evaluated = None
    if test is not None:
        evaluated = evaluate(model, torch.tensor(test.x, device=on), torch.tensor(test.y, device=on))
    record = {"round": held.round, **asdict(Learned.of([total], evaluated)), "alive": len(total.survivors)}
    first = held.round == 1
    if first:
        np.save(folder / FIRST_ROUND, held.model.parameters)
    with (folder / METRICS).open("w" if first else "a", encoding="utf-8") as metrics:
        metrics.write(json.dumps(record) + "\n")
    return record


def tell_clipping(out: Output, u: int, contribution: Contribution, note: str = "") -> bool:
    """What encoding changed in this client's vectors, if anything; the server does not learn it."""
    changed = {name: clipping for name, clipping in contribution.clipping.items() if clipping.coordinates}
    for name, clipping in changed.items():
        spec = contribution.scheme.vectors[name]
        were = "was" if clipping.coordinates == 1 else "were"
        out.warn(
            f"client {u}: {counted(clipping.coordinates, 'coordinate')} of {name or 'the vector'} {were} "
            f"beyond ±{getattr(spec, 'bound', 0):g} and {were} clipped{note}"
        )
    for name, clipping in contribution.clipping.items():
        if clipping.wrapped:
            out.detail(
                f"client {u}: its own noise took {counted(clipping.wrapped, 'coordinate')} of "
                f"{name or 'the vector'} out of the ring"
            )
    return bool(changed)
