"""Who holds what in a run on one machine, and what the server knows of it: all drawn from the run's seed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fl.cohort.links import Link, place, speeds
from fl.cohort.selection import Declared
from fl.config.run import RunConfig
from fl.data import DataError, Dataset, keep_back, load
from fl.data.corrupt import CORRUPTERS
from fl.data.examples import Inputs, Labels, Poison
from fl.data.files import write_atomically
from fl.data.partition import Partition
from fl.data.shard import read_shard, write_shard
from fl.own import OwnTask
from fl.poisoning.data import DATA, LEVELS, Aim
from fl.poisoning.timing import there

DECLARED, VALIDATION, ROOT = "declared.json", "validation", "root"

# Draws of one seed that know nothing of one another; the partition has the seed's own. A number that changed
# would deal other data, links or damage out under every seed. Root data come of the draw of validation data,
# after these.
_VALIDATION, _LINKS, _SPEEDS, _DAMAGE, _ATTACKERS, _POISON, _THERE = range(1, 8)


@dataclass(frozen=True)
class Serving:
    """What the server of a run knows beside its configuration: test data, validation and root data kept back
    from the training data, (x, y) each, what clients declare, and for a model of links and devices how many
    examples each holds and how many a second its device trains on. None where nobody told it.
    there: round -> who can be asked in it; in every other round all can.
    """

    dataset: Dataset
    validation: tuple[Inputs, Labels] | None = None
    declared: Mapping[int, Declared] | None = None
    examples: Mapping[int, int] | None = None
    speeds: Mapping[int, float] | None = None
    root: tuple[Inputs, Labels] | None = None
    there: Mapping[int, tuple[int, ...]] = field(default_factory=dict)


Parts = tuple[Inputs, Labels, Mapping[int, NDArray[np.int64]]]
"""(x, y, client -> which of the examples x, y are its own)."""


@dataclass(frozen=True)
class Layout:
    """What every party of a run holds. shares: client -> which of the examples x, y are its own; the damaged
    ones have copies of their own. attackers: who is malicious; poisoned: of these -> which examples they
    train on in the rounds of their attack, where it is one on data.
    """

    x: Inputs
    y: Labels
    shares: Mapping[int, NDArray[np.int64]]
    damaged: frozenset[int]
    serving: Serving
    attackers: frozenset[int] = frozenset()
    poisoned: Mapping[int, NDArray[np.int64]] = field(default_factory=dict)

    def examples(self, u: int) -> tuple[Inputs, Labels]:
        return self.x[self.shares[u]], self.y[self.shares[u]]

    def poisoned_examples(self, u: int) -> tuple[Inputs, Labels]:
        return self.x[self.poisoned[u]], self.y[self.poisoned[u]]


def lay_out(config: RunConfig, own: OwnTask | None = None) -> Layout:
    """Read the data set and draw who holds what of it, and over which link. own: the task that says both,
    instead of the configuration.

    Raises: DataError where the data set is missing, or does not give every client its part; TaskError.
    """
    if own is not None:
        return _laid_out(config, own)
    data, clients, seed = config.data, config.cohort.clients, config.training.seed
    # Before anything is dealt: by these the server decides, and no client may have trained on them.
    rng = np.random.default_rng([seed, _VALIDATION])
    kept = keep_back(load(data.dataset, data.data_dir), config.held_out, config.robust.root or 0, rng)
    dataset, copies = kept.dealt, config.robust.redundancy
    partition = Partition(data.partition, data.alpha, data.classes_per_client, data.examples_per_client)
    dealt = partition.deal(dataset.train_y, clients // copies, np.random.default_rng(seed))
    held = {u: dealt[u // copies] for u in range(clients)}
    (x, y, shares), damaged = _damaged(config, dataset, held)
    attackers = _attackers(config)
    x, y, poisoned = _poisoned(config, (x, y, shares), attackers, dataset.classes)
    serving = _serving(config, dataset, y, shares, damaged)
    serving = replace(serving, validation=kept.validation, root=kept.root, there=_there(config, attackers))
    return Layout(x, y, shares, damaged, serving, attackers, poisoned)


def _laid_out(config: RunConfig, own: OwnTask) -> Layout:
    """As a task's data() has it."""
    clients, folder = config.cohort.clients, config.data.folder
    dataset = own.served(clients, folder)
    parts = [own.examples(u, clients, folder, dataset)[0] for u in range(clients)]
    ends = np.cumsum([len(y) for _, y in parts])
    shares = {u: np.arange(end - len(parts[u][1]), end) for u, end in enumerate(ends.tolist())}
    x, y = (np.concatenate(each) for each in zip(*parts, strict=True))
    return Layout(x, y, shares, frozenset(), _serving(config, dataset, y, shares, frozenset()))


def _serving(
    config: RunConfig,
    dataset: Dataset,
    y: Labels,
    shares: Mapping[int, NDArray[np.int64]],
    damaged: Collection[int],
) -> Serving:
    """With what clients declare, and what the model of links and devices knows of them."""
    clients, seed = config.cohort.clients, config.training.seed
    links: tuple[Link | None, ...] = (None,) * clients
    if config.cohort.links is not None:
        links = place(clients, config.cohort.links, np.random.default_rng([seed, _LINKS]))
    quick = speeds(clients, np.random.default_rng([seed, _SPEEDS]))
    level = config.data.damage_level
    declared = {
        u: Declared(1.0 - level * (u in damaged), links[u], _interest(y[own])) for u, own in shares.items()
    }
    examples = {u: len(own) for u, own in shares.items()}
    return Serving(dataset, None, declared, examples, dict(enumerate(quick.tolist())))


def _interest(labels: Labels) -> int:
    """The most common label; of several the lowest."""
    return int(np.bincount(labels).argmax())


def altered(
    parts: Parts,
    clients: Collection[int],
    poison: Poison,
    level: float,
    classes: int,
    rng: np.random.Generator,
) -> Parts:
    """The examples of these clients, in this order, as `poison` makes them of what each held. They stand
    after all that are there: whoever shares some of them still has them as they were.

    classes: of the data set. Raises: DataError as `poison`.
    """
    x, y, shares = parts
    every_x: list[NDArray[Any]] = [x]
    every_y, shares, end = [y], dict(shares), len(y)
    for u in clients:
        own_x, own_y = poison(x[shares[u]], y[shares[u]], classes, level, rng)
        every_x.append(own_x)
        every_y.append(own_y)
        shares[u] = np.arange(end, end + len(own_y))
        end += len(own_y)
    return np.concatenate(every_x), np.concatenate(every_y), shares


def _damaged(
    config: RunConfig, dataset: Dataset, shares: Mapping[int, NDArray[np.int64]]
) -> tuple[Parts, frozenset[int]]:
    """(parts, whose data are damaged)."""
    data, clients, parts = config.data, config.cohort.clients, (dataset.train_x, dataset.train_y, shares)
    if data.damage is None:
        return parts, frozenset()
    rng = np.random.default_rng([config.training.seed, _DAMAGE])
    chosen = sorted(rng.permutation(clients)[: round(data.damaged * clients)].tolist())
    damage = CORRUPTERS[data.damage]
    return altered(parts, chosen, damage, data.damage_level, dataset.classes, rng), frozenset(chosen)


def _attackers(config: RunConfig) -> frozenset[int]:
    rng, clients = np.random.default_rng([config.training.seed, _ATTACKERS]), config.cohort.clients
    return frozenset(rng.permutation(clients)[: config.attack.number_of(clients)].tolist())


def _poisoned(config: RunConfig, parts: Parts, attackers: Collection[int], classes: int) -> Parts:
    """With the examples that attackers train on in place of theirs; the shares are of these alone."""
    attack = config.attack
    if attack.name is None or not attack.of_data:
        return parts[0], parts[1], {}
    poison = DATA[attack.name](Aim(attack.victim, attack.target))
    level = LEVELS[attack.name] if attack.level is None else attack.level
    rng = np.random.default_rng([config.training.seed, _POISON])
    x, y, shares = altered(parts, sorted(attackers), poison, level, classes, rng)
    return x, y, {u: shares[u] for u in attackers}


def _there(config: RunConfig, attackers: Collection[int]) -> dict[int, tuple[int, ...]]:
    """Who is there in each round of an attack by clients who are there more often, or less, than others."""
    attack, cohort, seed = config.attack, config.cohort, config.training.seed
    if attack.availability is None:
        return {}
    return {
        round: there(
            cohort.clients,
            attackers,
            cohort.per_round,
            attack.availability,
            np.random.default_rng([seed, _THERE, round]),
        )
        for round in range(1, config.training.rounds + 1)
        if attack.at(round)
    }


class _Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    declared: dict[int, Declared]
    examples: dict[int, int]
    speeds: dict[int, float]
    there: dict[int, tuple[int, ...]] = {}  # of a run that was begun before it was told


def write_serving(folder: Path, serving: Serving) -> None:
    """Write into the server's folder, for `read_serving`, what clients declare and the data it keeps."""
    told = _Told(
        dict(serving.declared or {}),
        dict(serving.examples or {}),
        dict(serving.speeds or {}),
        dict(serving.there),
    )
    write_atomically(folder / DECLARED, msgspec.json.format(msgspec.json.encode(told), indent=1))
    for name, kept in ((VALIDATION, serving.validation), (ROOT, serving.root)):
        if kept is not None:
            write_shard(folder / name, *kept, serving.dataset.classes, serving.dataset.name)


def read_serving(folder: Path, dataset: Dataset) -> Serving:
    """What `write_serving` wrote, with the data set. Raises: DataError for a damaged file."""
    try:
        told = msgspec.json.decode((folder / DECLARED).read_bytes(), type=_Told)
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DataError(f"{folder / DECLARED} is not readable: {error}") from error
    kept = {name: read_shard(folder / name) for name in (VALIDATION, ROOT) if (folder / name).exists()}
    validation, root = ((kept[name].x, kept[name].y) if name in kept else None for name in (VALIDATION, ROOT))
    return Serving(dataset, validation, told.declared, told.examples, told.speeds, root, told.there)
