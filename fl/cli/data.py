"""`secagg data`: which data sets are here, getting them, checking them, and who would hold what of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fl.cli.output import Output
from fl.config.section import ConfigError
from fl.data import DATASETS, DataError, fetch, found, load, search_path
from fl.data.partition import Partition
from fl.data.places import FILES, LFW_AUTHORS, LFW_FOLDERS
from fl.data.verify import check_dataset
from fl.mistyped import nearest
from secagg.errors import counted

DAMAGED = 1  # the exit code
BUNDLED_WITH = {"digits": "scikit-learn", "text": "Python"}


def where(name: str, at: Path | str | None) -> str:
    """Where a data set is, or how to get it. at: as `found` has it."""
    if name in BUNDLED_WITH:
        way = "pip install 'secagg[fl]'" if name == "digits" else "install Python with its library's sources"
        return f"bundled with {BUNDLED_WITH[name]}" if at else f"not here: {way}"
    if at:
        return str(at)
    if name in FILES:
        return f"not here: secagg data fetch {name} ({FILES[name].megabytes} MB)"
    return f"not here: from {LFW_AUTHORS} into {LFW_FOLDERS[0]}/PERSON/*.jpg"


def check_name(name: str) -> None:
    """Raises: ConfigError for a name that no data set has: what was typed is wrong, no data set is."""
    if name not in DATASETS:
        raise ConfigError(f"no data set {name!r}: there are {', '.join(DATASETS)}{nearest(name, DATASETS)}")


def show(out: Output, data_dir: Path | None = None) -> None:
    """`secagg data list`: every data set with what it is, and where it is or how to get it."""
    places = found(data_dir)
    out.table([(name, where(name, places[name]), _summary(name)) for name in DATASETS])
    out.say(f"looked in {search_path(data_dir)}")
    for name, at in places.items():
        fields = {"found": None if at is None else str(at), "where": where(name, at)}
        out.record({"dataset": name, **fields, "size": _summary(name)})


def get(out: Output, name: str, data_dir: Path | None = None) -> None:
    """`secagg data fetch NAME`: download what is missing of a data set.

    Raises: ConfigError for an unknown set; DataError where it cannot be had.
    """
    check_name(name)
    at: Path | str | None = found(data_dir)[name]
    if at is None:
        at = fetch(name, search_path(data_dir), progress=out.terminal)
    out.say(f"{name}: {where(name, at)}")
    out.record({"dataset": name, "found": str(at)})


def check(out: Output, name: str | None = None, data_dir: Path | None = None) -> int:
    """`secagg data check [NAME]`: read a data set, or all that are here, to the end, and compare its files
    with the published ones. Returns the exit code: 1 where one is damaged.

    Raises: ConfigError for an unknown set; DataError where the named one is not here.
    """
    if name is not None:
        check_name(name)
    places = found(data_dir)
    if name is not None and places.get(name) is None:
        load(name, data_dir, download=False)  # which says what is missing
    code = 0
    for each in DATASETS if name is None else (name,):
        if places[each] is None:
            out.say(f"{each}: {where(each, None)}")
            out.record({"dataset": each, "ok": None})
            continue
        wrong = _wrong(each, data_dir)
        if wrong is None:
            out.say(f"{each}: ok, {where(each, places[each])}")
        else:
            out.error(wrong)
            code = DAMAGED
        out.record({"dataset": each, "ok": wrong is None, "wrong": wrong})
    return code


def picture(
    out: Output,
    path: Path,
    dataset: str,
    clients: int,
    how: Partition,
    *,
    seed: int = 0,
    data_dir: Path | None = None,
    force: bool = False,
) -> None:
    """`secagg data picture`: draw who would hold what, as a training of that seed deals it.

    Raises: ConfigError for a file that is there without `force`; DataError for data that cannot be had or
    dealt out so.
    """
    from fl.cli.results import check_file
    from fl.data.picture import draw_partition

    check_file(path, force=force)
    read = load(dataset, data_dir)
    shares = how.deal(read.train_y, clients, np.random.default_rng(seed))
    draw_partition(path, read.train_y, shares, read.classes, _title(dataset, clients, how, seed))
    sizes = [len(own) for own in shares]
    held = len(np.unique(np.concatenate(shares)))
    labels = [len(np.unique(read.train_y[own])) for own in shares]
    out.say(
        f"wrote {path}: {min(sizes)} to {counted(max(sizes), 'example')} of {min(labels)} to "
        f"{counted(max(labels), 'class', 'classes')} a "
        f"client; {held} of {counted(len(read.train_y), 'example')} are with somebody"
    )
    out.record({"picture": str(path), "examples": sizes, "classes": labels, "dealt": held})


def _summary(name: str) -> str:
    """The first line of its function's documentation, less the name."""
    line = (DATASETS[name].__doc__ or "").partition("\n")[0]
    return line.partition(": ")[2].rstrip(".")


def _wrong(name: str, data_dir: Path | None) -> str | None:
    """What is damaged of a data set, None if it is whole."""
    try:
        check_dataset(load(name, data_dir, download=False))
    except DataError as error:
        return str(error)
    return None


def _title(dataset: str, clients: int, how: Partition, seed: int) -> str:
    by_kind: dict[str, dict[str, Any]] = {
        "dirichlet": {"alpha": how.alpha},
        "quantity": {"alpha": how.alpha},
        "shards": {"classes each": how.classes_per_client},
    }
    named = by_kind.get(how.kind, {})
    if how.examples_per_client is not None:
        named["examples each"] = how.examples_per_client
    details = ", ".join(f"{key} {value}" for key, value in named.items())
    return (
        f"{dataset}, {counted(clients, 'client')}, {how.kind}{f' ({details})' if details else ''}, "
        f"seed {seed}"
    )
