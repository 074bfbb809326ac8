"""What every measurement shares: cases with progress, a table, and JSON that says where it was taken."""

from __future__ import annotations

import os
import platform
import subprocess
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from itertools import compress
from pathlib import Path
from typing import Any, Protocol

import msgspec

from fl.cli.display import shown
from fl.cli.output import Output
from fl.cli.report import duration
from fl.cli.results import check_folder, write_result

ROOT = Path(__file__).parent
RESULTS = ROOT / "results"
SIZES = ("quick", "full")
PIPE_WIDTH = 80
PACKAGES = (
    *("secagg", "cryptography", "numpy", "python-flint", "msgspec", "pyzmq"),
    *("torch", "torchvision", "flwr", "ray", "tenseal"),
)

Row = dict[str, Any]
Step = Callable[[str], None]
"""Told what is being measured, when it begins."""


class Benchmark(Protocol):
    """A module of a folder: what it shows, how it is measured, and how it is read.

    run: size -> rows, one a case. cases: how many there will be.
    """

    CLAIM: str

    # def plot(rows) -> matplotlib's Figure, where a picture tells more than the table.

    def cases(self, size: str) -> int: ...

    def run(self, size: str, seed: int, step: Step) -> Iterable[Row]: ...

    def table(self, rows: Sequence[Row]) -> tuple[Sequence[str], Sequence[Sequence[str]]]: ...


def names(folder: str) -> list[str]:
    return sorted(path.stem for path in (ROOT / folder).glob("*.py") if path.stem != "__init__")


def load(folder: str, name: str) -> Benchmark:
    return import_module(f"benchmarks.{folder}.{name}")  # type: ignore[return-value]


def machine() -> Row:
    """Of which a time is worth nothing without it."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": dict(_versions(PACKAGES)),
    }


def _versions(packages: Iterable[str]) -> Iterator[tuple[str, str]]:
    for name in packages:
        with suppress(PackageNotFoundError):
            yield name, version(name)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def commit() -> str:
    """The commit that was measured; with a plus where files, other than results, had changed."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--", ":!benchmarks/results", ":!docs")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+" if changed else "")


def _git(*arguments: str) -> str:
    said = subprocess.run(  # noqa: S603
        ["git", *arguments],  # noqa: S607
        cwd=ROOT.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    return said.stdout.strip()


def measure(folder: str, name: str, size: str, seed: int, out: Output) -> Path:
    """Run one benchmark, show its table, and write its JSON. Returns the file.

    Raises: ConfigError where it could not be written; ResultError where it cannot any more, and is elsewhere.
    """
    path = file(folder, name, size)
    check_folder(path.parent, force=True)
    benchmark = load(folder, name)
    out.say(f"{folder}/{name}: {benchmark.CLAIM}")
    begun, measured = time.monotonic(), commit()
    rows: list[Row] = []
    doing, total = ["beginning"], benchmark.cases(size)

    def status() -> tuple[float, str]:
        case = f"case {min(len(rows) + 1, total)} of {total}: {doing[0]}"
        return len(rows) / max(1, total), f"{case}, {duration(time.monotonic() - begun)} so far"

    def step(what: str) -> None:
        doing[0] = what

    with shown(out, status):
        rows += benchmark.run(size, seed, step)
    show(benchmark, rows, out)
    record = {
        "claim": benchmark.CLAIM,
        "size": size,
        "seed": seed,
        "commit": measured,
        "date": date.today().isoformat(),
        "machine": machine(),
        "load": [round(load, 1) for load in os.getloadavg()],
        "seconds": round(time.monotonic() - begun, 1),
        "rows": rows,
    }
    out.record({"benchmark": f"{folder}/{name}", **record})
    kept = write_result(path, msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")
    out.say(f"wrote {kept.path}")
    kept.check()
    return kept.path


def show(benchmark: Benchmark, rows: Sequence[Row], out: Output) -> None:
    """A table; where that is wider than the terminal, what all rows share stands before it; where that does
    not help, each row is a block.
    """
    header, cells = benchmark.table(rows)
    width = out.width if out.terminal else PIPE_WIDTH
    if _wide(header, cells) > width:
        same = [len(cells) > 1 and len({row[i] for row in cells}) == 1 for i in range(len(header))]
        for line in _flow("all: ", named(header, cells[0], same), width) if any(same) else ():
            out.say(line)
        differs = [not each for each in same]
        header = list(compress(header, differs))
        cells = [list(compress(row, differs)) for row in cells]
    if _wide(header, cells) <= width:
        out.table(cells, header)
        return
    for row in cells:
        for line in _flow("", named(header, row, [True] * len(header)), width):
            out.say(line)


def _wide(header: Sequence[str], cells: Sequence[Sequence[str]]) -> int:
    """Columns of a terminal, with what is drawn between those of the table."""
    return sum(3 + max(map(len, column)) for column in zip(header, *cells, strict=True)) + 1


def named(header: Sequence[str], row: Sequence[str], wanted: Sequence[bool]) -> list[str]:
    """Cells with their names; one of a column without a name belongs to the one before."""
    parts: list[str] = []
    for name, cell, want in zip(header, row, wanted, strict=True):
        if want and cell and not name and parts:
            parts[-1] += f" ({cell})"
        elif want and cell:
            parts.append(f"{name} {cell}".strip())
    return parts


def _flow(begin: str, parts: Sequence[str], width: int) -> Iterator[str]:
    """The parts in lines of this width, broken between them where that can be."""
    line = begin
    for i, part in enumerate(parts):
        part += ", " if i < len(parts) - 1 else ""
        if len(line) + len(part.rstrip()) > width and line.strip():
            yield line.rstrip()
            line = "    "
        line += part
    yield from textwrap.wrap(line.rstrip(), width, subsequent_indent="    ")


def file(folder: str, name: str, size: str = "full") -> Path:
    """Full results are committed, and what docs/benchmarks.md is made of; quick ones stand beside them."""
    return RESULTS / folder / (f"{name}.json" if size == "full" else f"{name}.{size}.json")


def read(folder: str, name: str) -> Mapping[str, Any]:
    """The committed result."""
    return msgspec.json.decode(file(folder, name).read_bytes(), type=dict)
