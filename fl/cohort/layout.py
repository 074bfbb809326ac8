"""Who holds what in a run on one machine, and what the server knows of it: all drawn from the run's seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fl.cohort.links import Link, place, speeds
from fl.cohort.selection import Declared
from fl.config.run import RunConfig
from fl.data import DataError, Dataset, hold_out, load
from fl.data.corrupt import CORRUPTERS
from fl.data.examples import Inputs, Labels
from fl.data.files import write_atomically
from fl.data.partition import Partition
from fl.data.shard import read_shard, write_shard

DECLARED, VALIDATION = "declared.json", "validation"

# Draws of one seed that know nothing of one another; the partition has the seed's own.
_VALIDATION, _LINKS, _SPEEDS, _DAMAGE = range(1, 5)


@dataclass(frozen=True)
class Serving:
    """What the server of a run knows beside its configuration: test data, validation data held out of the
    training data, what clients declare, and for a model of links and devices how many examples each holds
    and how many a second its device trains on. None where nobody told it.
    """

    dataset: Dataset
    validation: tuple[Inputs, Labels] | None = None
    declared: Mapping[int, Declared] | None = None
    examples: Mapping[int, int] | None = None
    speeds: Mapping[int, float] | None = None


@dataclass(frozen=True)
class Layout:
    """shares: client -> which of the examples x, y are its own; the damaged ones have copies of their own."""

    x: Inputs
    y: Labels
    shares: Mapping[int, NDArray[np.int64]]
    damaged: frozenset[int]
    serving: Serving

    def examples(self, u: int) -> tuple[Inputs, Labels]:
        return self.x[self.shares[u]], self.y[self.shares[u]]


def lay_out(config: RunConfig) -> Layout:
    """Raises: DataError where the data set is missing, or does not give every client its part."""
    dataset, validation = load(config.data.dataset, config.data.data_dir), None
    if config.held_out:
        rng = np.random.default_rng([config.training.seed, _VALIDATION])
        dataset, held_x, held_y = hold_out(dataset, config.held_out, rng)
        validation = held_x, held_y
    partition = Partition(
        config.data.partition,
        config.data.alpha,
        config.data.classes_per_client,
        config.data.examples_per_client,
    )
    dealt = partition.deal(
        dataset.train_y, config.cohort.clients, np.random.default_rng(config.training.seed)
    )
    shares = dict(enumerate(dealt))
    x, y, shares, damaged = _damaged(config, dataset, shares)
    links: tuple[Link | None, ...] = (None,) * config.cohort.clients
    if config.cohort.links is not None:
        links = place(
            config.cohort.clients, config.cohort.links, np.random.default_rng([config.training.seed, _LINKS])
        )
    quick = speeds(config.cohort.clients, np.random.default_rng([config.training.seed, _SPEEDS]))
    serving = Serving(
        dataset,
        validation,
        {
            u: Declared(1.0 - config.data.damage_level * (u in damaged), links[u], _interest(y[own]))
            for u, own in shares.items()
        },
        {u: len(own) for u, own in shares.items()},
        dict(enumerate(quick.tolist())),
    )
    return Layout(x, y, shares, damaged, serving)


def _interest(labels: Labels) -> int:
    """The most common label; of several the lowest."""
    return int(np.bincount(labels).argmax())


def _damaged(
    config: RunConfig, dataset: Dataset, shares: dict[int, NDArray[np.int64]]
) -> tuple[Inputs, Labels, dict[int, NDArray[np.int64]], frozenset[int]]:
    if config.data.damage is None:
        return dataset.train_x, dataset.train_y, shares, frozenset()
    rng = np.random.default_rng([config.training.seed, _DAMAGE])
    chosen = sorted(
        rng.permutation(config.cohort.clients)[: round(config.data.damaged * config.cohort.clients)].tolist()
    )
    every_x: list[NDArray[Any]] = [dataset.train_x]
    every_y, end = [dataset.train_y], len(dataset.train_y)
    for u in chosen:
        worse_x, worse_y = CORRUPTERS[config.data.damage](
            dataset.train_x[shares[u]],
            dataset.train_y[shares[u]],
            dataset.classes,
            config.data.damage_level,
            rng,
        )
        every_x.append(worse_x)
        every_y.append(worse_y)
        shares = shares | {u: np.arange(end, end + len(worse_y))}
        end += len(worse_y)
    return np.concatenate(every_x), np.concatenate(every_y), shares, frozenset(chosen)


class _Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    declared: dict[int, Declared]
    examples: dict[int, int]
    speeds: dict[int, float]


def write_serving(folder: Path, serving: Serving) -> None:
    """Into the server's folder, for `read_serving`: what clients declare, and the validation data."""
    told = _Told(dict(serving.declared or {}), dict(serving.examples or {}), dict(serving.speeds or {}))
    write_atomically(folder / DECLARED, msgspec.json.format(msgspec.json.encode(told), indent=1))
    if serving.validation is not None:
        write_shard(folder / VALIDATION, *serving.validation, serving.dataset.classes, serving.dataset.name)


def read_serving(folder: Path, dataset: Dataset) -> Serving:
    """Raises: DataError for a damaged file."""
    try:
        told = msgspec.json.decode((folder / DECLARED).read_bytes(), type=_Told, strict=False)
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DataError(f"{folder / DECLARED} is not readable: {error}") from error
    validation = None
    if (folder / VALIDATION).exists():
        shard = read_shard(folder / VALIDATION)
        validation = shard.x, shard.y
    return Serving(dataset, validation, told.declared, told.examples, told.speeds)
