"""What every measurement shares: cases with progress, a table, and JSON that says where it was taken."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

ROOT = Path(__file__).parent
RESULTS = ROOT / "results"
SIZES = ("quick", "full")
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


def measure(folder: str, name: str, size: str, seed: int, console: Console) -> Path:
    """Run one benchmark, show its table, and write its JSON. Returns the file."""
    benchmark = load(folder, name)
    console.print(f"[bold]{folder}/{name}[/bold]: {escape(benchmark.CLAIM)}")
    begun, measured = time.monotonic(), commit()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    ) as progress:
        task = progress.add_task("", total=benchmark.cases(size))
        rows = []
        for row in benchmark.run(size, seed, lambda what: progress.update(task, description=what)):
            rows.append(row)
            progress.advance(task)
    show(benchmark, rows, console)
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
    path = file(folder, name, size)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")
    return path


def show(benchmark: Benchmark, rows: Sequence[Row], console: Console) -> None:
    header, cells = benchmark.table(rows)
    table = Table(*header)
    for row in cells:
        table.add_row(*row)
    console.print(table)


def file(folder: str, name: str, size: str = "full") -> Path:
    """Full results are committed, and what docs/benchmarks.md is made of; quick ones stand beside them."""
    return RESULTS / folder / (f"{name}.json" if size == "full" else f"{name}.{size}.json")


def read(folder: str, name: str) -> Mapping[str, Any]:
    """The committed result."""
    return msgspec.json.decode(file(folder, name).read_bytes(), type=dict)
