"""docs/benchmarks.md, from the committed results and nothing else: `python -m benchmarks report`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks import harness

DOCS = harness.ROOT.parent / "docs"
PAGE = DOCS / "benchmarks.md"
FIGURES = DOCS / "figures"

_HEAD = (
    "# Benchmarks\n\n"
    "`python -m benchmarks report` writes this page from the JSON in `benchmarks/results`, where every "
    "repetition stands; the test suite fails when the two differ.\n\n"
    "`python -m benchmarks FOLDER [NAME] --size quick|full` measures again; `secagg bench` is the same "
    "command. The quick sizes of a folder take minutes and are not what stands here. Times are processor "
    "time unless a table says otherwise, and medians of the repetitions. The machine is small, shared and "
    "noisy: read ratios, which are taken within one run, rather than milliseconds.\n"
)


def folders() -> list[str]:
    return sorted(path.parent.name for path in harness.ROOT.glob("*/__init__.py"))


def measured() -> Iterator[tuple[str, str]]:
    """(folder, name) of each benchmark with a committed result."""
    for folder in folders():
        for name in harness.names(folder):
            if harness.file(folder, name).exists():
                yield folder, name


def text() -> str:
    """The whole page."""
    parts = [_HEAD]
    seen = ""
    for folder, name in measured():
        if folder != seen:
            parts.append(f"## {folder}\n")
            seen = folder
        parts.append(section(folder, name))
    return "\n".join(parts)


def section(folder: str, name: str) -> str:
    benchmark, record = harness.load(folder, name), harness.read(folder, name)
    picture = f"\n![{name}](figures/{_figure(folder, name).name})\n" if hasattr(benchmark, "plot") else ""
    return (
        f"### {name}\n\n{benchmark.CLAIM}\n\n{_table(*benchmark.table(record['rows']))}\n{picture}\n"
        f"{_provenance(folder, name, record)}\n"
    )


def _table(header: Any, rows: Any) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _provenance(folder: str, name: str, record: Mapping[str, Any]) -> str:
    machine = record["machine"]
    packages = ", ".join(f"{package} {version}" for package, version in machine["packages"].items())
    return (
        f"`python -m benchmarks {folder} {name} --size {record['size']} --seed {record['seed']}` at "
        f"{record['commit']}, {record['date']}: {record['seconds']:.0f} s on {machine['cores']} cores of "
        f"{machine['processor']}, Python {machine['python']}, {packages}."
    )


def _figure(folder: str, name: str) -> Path:
    return FIGURES / f"{folder}-{name}.svg"


def write() -> list[Path]:
    """The page and its pictures. Returns the files."""
    FIGURES.mkdir(parents=True, exist_ok=True)
    written = [PAGE]
    for folder, name in measured():
        benchmark = harness.load(folder, name)
        if hasattr(benchmark, "plot"):
            figure = benchmark.plot(harness.read(folder, name)["rows"])
            figure.savefig(_figure(folder, name), metadata={"Date": None})
            written.append(_figure(folder, name))
    PAGE.write_text(text(), encoding="utf-8")
    return written
