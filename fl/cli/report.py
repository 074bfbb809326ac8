"""How rounds look: sizes in words, one protocol round, one training round, the curve of a run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from fl.cli.flags import in_flags
from fl.cli.output import Output
from fl.config.protection import Protection
from fl.config.robust import ON_ROOT, ON_VALIDATION, assuming
from fl.config.run import RunConfig
from secagg import Scheme, ckks, decoys
from secagg.errors import ClientId, counted
from secagg.identity import party
from secagg.wire import relay_of
from transport import Contribution, RoundReport

WARNINGS = {"ckks": ckks.WARNING, "decoys": decoys.WARNING}
"""What whoever takes part in such a session had better know."""


def warn(out: Output, protection: Protection) -> None:
    """What whoever asks for this scheme may not know."""
    if protection.scheme in WARNINGS:
        out.warn(WARNINGS[protection.scheme])


def warn_of_training(out: Output, config: RunConfig) -> None:
    """What a run's user should know before it begins: of its protection, and of what is not sent with it."""
    warn(out, config.protection)
    if config.training.metrics and not config.tells_metrics:
        among = config.protection.scheme == "decoys"
        noised = config.privacy.mechanism != "none"
        alone = "the server would read them" if among else "counts would tell who took part"
        if config.protection.groups:
            alone = "they would be told of each group"
        why = "beside noise they would have none" if noised else alone
        out.say(f"the clients' own loss and accuracy are not summed: {why}")
    if config.protection.groups:
        warn_of_groups(out, config)
    if config.comes_out_alike and not config.protection.batch:
        batches = ". With --batch N whole batches of clients are summed, as often as you like"
        instead = "" if config.protection.groups else batches
        out.warn(
            "updates of full gradients, one step or large batches count as alike, and by alike = 'any' all: "
            "a client helps to two different sums of them at most. Once some are lost, others are left out "
            f"or refuse{instead}"
        )


def warn_of_groups(out: Output, config: RunConfig) -> None:
    """What sums of groups give away, and what no rule makes of them."""
    groups, clients = config.protection.groups, config.cohort.per_round
    if config.protection.unsafe_groups:
        out.warn(
            "unsafe groups: the server's side may be all of a group but one, and then it reads that one's "
            "update: results are marked, and none of them is of a protected run" + _needless(config)
        )
    if config.redrawn:
        weight = ", as its number of examples," if config.protection.public_weights else ""
        out.warn(
            "every round is of other clients, and its groups are drawn anew: sums of a client in different "
            f"groups tell more together, and what it sends alike in each{weight} comes out of few of them, "
            "of 40 clients after 5 to 13 rounds. Without --sample groups stay as they are"
        )
    dirty = config.robust.attackers(clients)
    if 2 * dirty >= groups and config.robust.rule not in ("mean", *ON_ROOT, *ON_VALIDATION):
        out.warn(
            f"{config.robust.rule} stands while fewer than half of the groups have an attacker: with "
            f"{counted(dirty, 'attacker')} assumed of {counted(clients, 'client')}, up to "
            f"{min(dirty, groups)} of {groups} may have one. {_standing(config)}"
        )


def _needless(config: RunConfig) -> str:
    """Of groups that are called unsafe and are as large as they have to be."""
    safe = config.protection.groups <= config.with_(unsafe_groups=False, group_m_min=None).most_groups
    if not safe or config.protection.m_g is not None:
        return ""
    return ". Here there is no need: these groups are large enough, so leave --unsafe-groups out"


def _standing(config: RunConfig) -> str:
    """What to do where a rule does not withstand as many attackers as are assumed."""
    clients, groups = config.cohort.per_round, config.protection.groups
    dirty, withstood = config.robust.attackers(clients), (groups - 1) // 2
    few = f"no more than {withstood} attack" if withstood else "nobody attacks"
    less = f"If {few}, say so with --assumed {assuming(withstood, clients):g}"
    needed, most = 2 * dirty + 1, config.most_groups
    if needed <= most:
        return f"{less}; else take --groups {needed}"
    return (
        f"{less}; else no groups withstand them: {needed} it would take, and of {counted(clients, 'client')} "
        f"there may be {most}"
    )


def size(count: float) -> str:
    """Bytes for people, in powers of ten."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5 or unit == "GB":  # what three digits would make 1000 is 1 of the next unit
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    raise AssertionError


def round_cells(report: RoundReport) -> tuple[str, ...]:
    """round, alive, lost, bytes up, bytes down, milliseconds."""
    clients, relays = report.of_clients, report.of_relays
    alive = [f"{len(clients.alive):>4} alive"] if clients.up or not relays.up else []
    alive += [counted(len(relays.alive), "relay")] if relays.up or relays.lost else []
    lost = [f"{u} {why}" for u, why in sorted(clients.lost.items())]
    lost += [f"relay {j} {why}" for j, why in sorted(relays.lost.items())]
    return (
        report.round,
        ", ".join(alive),
        ", ".join(lost),
        size(sum(report.up.values())),
        size(sum(report.down.values())),
        f"{report.seconds * 1000:.0f}",
    )


def round_line(report: RoundReport) -> str:
    name, alive, lost, up, down, ms = round_cells(report)
    return (
        f"  {name:<17} {alive:>10} {up:>8} up {down:>8} down {ms:>6} ms"
        + (f"  lost: {lost}" if lost else "")
        + "".join(
            f"  share of {dealer} unusable at {holder if relay_of(holder) is None else party(holder)}"
            for holder, dealer in sorted(report.unopened)
        )
    )


def round_fields(report: RoundReport) -> dict[str, Any]:
    """A round of a session as a line of JSON has it: clients by id, and relays apart, by their numbers."""
    clients, relays = report.of_clients, report.of_relays
    of_relays = {
        "relays": sorted(relays.alive),
        "relays_lost": {str(j): in_flags(why) for j, why in relays.lost.items()},
        "relays_unopened": sorted(relays.unopened),
        "relay_bytes_up": sum(relays.up.values()),
        "relay_bytes_down": sum(relays.down.values()),
    }
    return {
        "round": report.round,
        "alive": sorted(clients.alive),
        "lost": {str(u): in_flags(why) for u, why in clients.lost.items()},
        "unopened": sorted(clients.unopened),
        "bytes_up": sum(clients.up.values()),
        "bytes_down": sum(clients.down.values()),
        **(of_relays if any(of_relays.values()) else {}),
        "wire_up": report.wire_up,
        "wire_down": report.wire_down,
        "milliseconds": round(report.seconds * 1000, 1),
    }


def duration(seconds: float) -> str:
    """A duration for people: of days and hours, of minutes, or of seconds."""
    if seconds < 99.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


NOTHING = 20.0
"""An epsilon above this promises nothing: it lets what is told multiply the odds of a guess by e^20, which
makes one in 4.8e8 an even bet. Ponomareva et al. (2303.00654) call more than 10 weak to none."""


def reckoned(epsilon: float) -> str:
    """An epsilon as it is printed."""
    return f"{epsilon:.4g}{' (promises nothing)' if epsilon > NOTHING else ''}"


def training_cells(record: Mapping[str, Any], total: int) -> list[str]:
    """One training round, what matters most first: at most 80 columns with the time that is left."""
    alive, chosen = record["alive"], record["chosen"]
    cells = [f"round {record['round']:>{len(str(total))}}/{total}"]
    if record["abandoned"]:
        cells.append(f"abandoned: {record['abandoned']}")
    elif record["accuracy"] is None:
        cells.append("the clients keep the model")
    else:
        cells.append(f"accuracy {record['accuracy']:.4f}")
    if record.get("epsilon") is not None:
        cells.append(f"epsilon {reckoned(record['epsilon'])}")
    if record["validation"] is not None:
        cells.append(f"validation {record['validation']:.4f}")
    cells.append(counted(alive, "client") if alive == chosen else f"{alive} of {counted(chosen, 'client')}")
    if record["sums_asked"] > 1:
        cells.append(f"{record['sums']} of {counted(record['sums_asked'], 'sum')}")
    if too_long := record.get("too_long"):
        cells.append(f"{counted(len(too_long), 'group')} left out: too long")
    if record["loss"] is not None:
        cells.append(f"loss {record['loss']:.3f}")
    return [*cells, f"{size(record['bytes_up'])} up", duration(record["seconds"])]


def draw_accuracy(
    path: Path,
    curves: Mapping[str, Sequence[float | None]],
    title: str,
    epsilon: Sequence[float | None] = (),
) -> None:
    """accuracy.png: one curve a scheme over training rounds; beside them, on an axis of its own, what the
    noise of the first has spent.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for (name, values), style in zip(curves.items(), ("o-", "x--"), strict=False):
        known = [(round, value) for round, value in enumerate(values, 1) if value is not None]
        axes.plot(*zip(*known, strict=True), style, label=name, markersize=4)
    axes.set(xlabel="training round", ylabel="test accuracy", title=title, ylim=(None, 1.0))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    if spent := [(round, value) for round, value in enumerate(epsilon, 1) if value is not None]:
        beside = axes.twinx()
        beside.plot(*zip(*spent, strict=True), "s:", color="tab:red", markersize=3)
        beside.set_ylabel("epsilon spent", color="tab:red")
        beside.set_ylim(bottom=0)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def within(scheme: Scheme) -> str:
    """What the error bound of a mean is a bound of: whether anything was beyond, its client alone knows."""
    spec = scheme.vectors[""]
    clip = getattr(spec, "clip", None)
    to = f", scaled to a norm of {clip:g} at most" if clip else ""
    return f"their vectors in ±{getattr(spec, 'bound', 0):g}{to}"


def mean_over(scheme: Scheme, survivors: Collection[ClientId]) -> str:
    clients = counted(len(survivors), "client")
    if not scheme.blank:
        return f"the mean over {clients}"
    return f"the sum over {1 - scheme.blank:.4g} x {clients}, of whom nobody knows who took part"


def outcome(contribution: Contribution) -> str:
    """What became of a client's vectors, by what it knows itself."""
    if not contribution.summed:
        return f"not in the sum: {contribution.reason}"
    blank = contribution.scheme.blank
    return "in the sum" + (f", or zeros are, with a probability of {blank:g}" if blank else "")


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
