"""What every measurement shares: cases run and kept as they come, a control, a table, and JSON of it all."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

import msgspec

from benchmarks.begun import Begun, Row, left_out
from benchmarks.cores import Case, cores, finished
from benchmarks.provenance import code, commit, machine
from benchmarks.tables import PAGE_WIDTH, Table, fitted, flow
from fl.cli.display import shown
from fl.cli.output import Output
from fl.cli.report import duration
from fl.cli.results import check_folder, write_result
from secagg.errors import counted

__all__ = ["Benchmark", "Case", "Control", "Row", "Table"]

ROOT = Path(__file__).parent
RESULTS = ROOT / "results"
FIGURES = ROOT.parent / "docs" / "figures"
SIZES = ("quick", "full")
GPU = "gpu"
"""The size of what takes a GPU, of benchmarks that say with ON_GPU what it is of."""


class NoControlError(Exception):
    """A claim is compared with nothing that was measured."""


@dataclass(frozen=True)
class Control:
    """The rows beside which a claim is to be read: a peer, no protection, the formula, what was published.

    is_it: whether a row is one. by: where rows that differ in these fields each need one of their own.
    """

    what: str
    is_it: Callable[[Row], bool]
    by: tuple[str, ...] = ()

    def check(self, rows: Sequence[Row], *, measured: bool = False) -> None:
        """measured: a control that was left out, and says why, does not do.

        Raises: NoControlError where rows have no control among them.
        """
        if not rows:
            raise NoControlError("there are no rows")
        groups: dict[tuple[Any, ...], list[Row]] = {}
        for row in rows:
            groups.setdefault(tuple(row.get(field) for field in self.by), []).append(row)
        for of, some in groups.items():
            there = [row for row in some if self.is_it(row) and not (measured and "skipped" in row)]
            if not there and not left_out(some):
                where = ", ".join(f"{field} {value}" for field, value in zip(self.by, of, strict=True))
                raise NoControlError(
                    f"no row is the control ({self.what})" + (f" of {where}" if where else "")
                )


UNMEASURED = "Not measured yet."
"""The claim of a benchmark whose full size nobody has run."""


class Benchmark(Protocol):
    """A module of a folder: what it shows, how it is measured, and how it is read.

    CLAIM: what its committed rows show, and nothing that they do not. CONTROL: what it is compared with.
    ALONE: whether its cases run one at a time, here, since they measure time or take all cores. Otherwise one
    runs on each core. ON_GPU, of a benchmark that has a size GPU: what that measures, in words.
    """

    CLAIM: str
    CONTROL: Control
    ALONE: bool

    # def plot(rows) -> matplotlib's Figure, where a picture tells more than the table.

    def cases(self, size: str, seed: int) -> Sequence[Case]:
        """What is measured, in the order of the rows in the result."""

    def table(self, rows: Sequence[Row]) -> Table: ...


def names(folder: str) -> list[str]:
    """The benchmarks of a folder, by the alphabet."""
    return sorted(path.stem for path in (ROOT / folder).glob("*.py") if path.stem != "__init__")


def group_of(name: str) -> str:
    """Benchmarks of one question are called by it, and by what each looks at: dummy_split, dummy_blank."""
    return name.partition("_")[0]


def asked_for(folder: str, name: str) -> list[str]:
    """The benchmarks that a person means by it: the one, or all of a group. None: there is no such thing."""
    known = names(folder)
    return [name] if name in known else [each for each in known if group_of(each) == name]


def load(folder: str, name: str) -> Benchmark:
    """The module. Raises: ModuleNotFoundError for what there is not, and where its packages are not."""
    return cast(Benchmark, import_module(f"benchmarks.{folder}.{name}"))


def on_gpu(benchmark: Benchmark) -> str:
    """What its size GPU measures; nothing where it has none."""
    return getattr(benchmark, "ON_GPU", "")


def measure(folder: str, name: str, size: str, seed: int, out: Output) -> Path:
    """Run one benchmark, or go on with it, show its table, and write its JSON. Returns the file.

    It goes on where the same command was stopped, with the same code on the same machine, after its last
    whole case. Raises: ConfigError where nothing could be written; ResultError where it cannot any more, and
    is elsewhere; NoControlError; NotImplementedError where nothing can be measured here, or not of this size.
    """
    path = file(folder, name, size)
    check_folder(path.parent, force=True)  # now, and not after an hour of measuring
    benchmark = load(folder, name)
    of = benchmark.CLAIM
    if size == GPU and not (of := on_gpu(benchmark)):
        raise NotImplementedError(f"it has no size {GPU}: there are {', '.join(SIZES)}")
    out.say(f"{folder}/{name}: {of}")
    cases = benchmark.cases(size, seed)
    kept = path.with_suffix(".begun.json")
    begun = _begun(kept, {"of": f"{folder}/{name}", "size": size, "seed": seed}, cases, out)
    at_once = 1 if benchmark.ALONE else len(cores())
    rows = run(cases, begun, kept, at_once, out)
    if left_out(rows):
        raise NotImplementedError("\n".join(dict.fromkeys(row["skipped"] for row in rows)))
    benchmark.CONTROL.check(rows)
    show(benchmark.table(rows), out)
    record = {
        "size": size,
        "seed": seed,
        "commit": begun.settings["commit"],
        "date": date.today().isoformat(),
        "machine": begun.settings["machine"],
        "load": [round(load, 1) for load in os.getloadavg()],
        "seconds": round(begun.seconds, 1),
        "at_once": at_once,
        "rows": rows,
    }
    out.record({"benchmark": f"{folder}/{name}", **record})
    result = write_result(path, msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")
    with suppress(OSError):
        kept.unlink()  # after the result stands: a stop in between measures nothing again
    out.say(f"wrote {result.path}")
    result.check()  # last, since it may raise: what was measured is shown and kept by now
    return result.path


def _begun(path: Path, command: Row, cases: Sequence[Case], out: Output) -> Begun:
    """What there is of this, or nothing yet."""
    settings = {**command, "commit": commit(), "code": code(), "machine": machine()}
    before = Begun.read(path)
    if before is None:
        return Begun(settings)
    if not before.goes_on(settings):
        out.say("what was begun is of other settings, other code or another machine: from the beginning")
        return Begun(settings)
    done = len(cases) - len(before.missing([case.name for case in cases]))
    out.say(f"goes on after {done} of {counted(len(cases), 'case')}")
    return before


def run(cases: Sequence[Case], begun: Begun, kept: Path, at_once: int, out: Output) -> list[Row]:
    """Those that are missing, each kept as it is done. Returns all rows, in the order of the cases."""
    missing = begun.missing([case.name for case in cases])
    started, before = time.monotonic(), begun.seconds
    doing: dict[str, str] = {}

    def status() -> tuple[float, str]:
        done = len(cases) - len(missing)
        at = "; ".join(f"{case}, {what}" if what else case for case, what in list(doing.items()))
        text = f"case {min(done + 1, len(cases))} of {len(cases)}: {at or 'beginning'}"
        return done / max(1, len(cases)), f"{text}, {duration(time.monotonic() - started)} so far"

    todo = [case for case in cases if case.name in missing]
    # Closed whatever happens, and its processes with it: else a stop would leave them measuring.
    with shown(out, status), closing(finished(todo, at_once, doing.__setitem__)) as outcomes:
        for case, rows in outcomes:
            begun.seconds = round(before + time.monotonic() - started, 1)
            try:
                begun.add(case.name, rows, kept)
            except OSError as error:  # what is measured goes on, and ends elsewhere if it must
                out.warn(f"{kept} could not be written ({error.strerror}): stopped now, nothing goes on")
            del doing[case.name]
            missing.remove(case.name)
    return [row for case in cases for row in begun.rows[case.name]]


def show(table: Table, out: Output) -> None:
    """Show it in as many tables as the terminal's width asks for; row by row where a column is wider."""
    width = out.width if out.terminal else PAGE_WIDTH
    fit = fitted(table, width)
    for line in flow("all: ", fit.shared, width) if fit.shared else ():
        out.say(line)
    for i, each in enumerate(fit.tables):
        if i:
            out.say()
        out.table(each.rows, each.header)
    for row in fit.told:
        for line in flow("", row, width):
            out.say(line)


def file(folder: str, name: str, size: str = "full") -> Path:
    """Full results are committed, and what docs/benchmarks is made of; quick ones stand beside them."""
    return RESULTS / folder / (f"{name}.json" if size == "full" else f"{name}.{size}.json")


def read(folder: str, name: str, size: str = "full") -> Mapping[str, Any]:
    """A result: by default the committed one."""
    return cast(Mapping[str, Any], msgspec.json.decode(file(folder, name, size).read_bytes()))
