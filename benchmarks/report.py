"""docs/benchmarks, a page a folder, from the committed results alone: `python -m benchmarks report`. It also
writes what `secagg report` shows (`published`), and the picture that the README begins with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import harness, joined, published
from benchmarks.provenance import called
from benchmarks.tables import markdown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOCS = harness.ROOT.parent / "docs"
PAGES = DOCS / "benchmarks"
FIGURES = harness.FIGURES
PROTECTIONS = "protections"
"""The picture of all of them, which is of several benchmarks."""

_HEAD = (
    "# Benchmarks: {folder}\n\n{what}\n\n"
    "`python -m benchmarks report` writes this page from the JSON in `benchmarks/results/{folder}`, where "
    "every repetition stands; the test suite fails when the two differ.\n\n"
    "`python -m benchmarks {folder} [NAME] --size quick|full` measures again; `secagg bench` is the same "
    "command. The quick sizes of a folder take minutes and are not what stands here. Times are processor "
    "time unless a table says otherwise, and medians of the repetitions. The machine is small, shared and "
    "noisy: read ratios, which are taken within one run, rather than milliseconds. A table that is wider "
    "than 80 columns is split: its rows go on below, in the same order.\n"
)


def folders() -> list[str]:
    """Those of benchmarks, by the alphabet."""
    return sorted(path.parent.name for path in harness.ROOT.glob("*/__init__.py"))


def measured(folder: str) -> list[str]:
    """Each benchmark with a committed result."""
    return [name for name in harness.names(folder) if harness.file(folder, name).exists()]


def unmeasured(folder: str) -> list[str]:
    """The others, which can be run and claim nothing."""
    return [name for name in harness.names(folder) if name not in measured(folder)]


def page(folder: str) -> Path:
    """Where a folder's stands."""
    return PAGES / f"{folder}.md"


def text(folder: str) -> str:
    """The whole page. Raises: NoControlError where a claim is compared with nothing."""
    what = (import_module(f"benchmarks.{folder}").__doc__ or "").strip()
    head = _HEAD.format(folder=folder, what=what)
    parts = [*_overview(folder), *(section(folder, name) for name in measured(folder)), *_to_come(folder)]
    return "\n".join([head, *parts])


def _overview(folder: str) -> list[str]:
    """Of all its tables in one, where they have one."""
    paragraphs = joined.overview() if folder == joined.FOLDER else []
    return ["\n\n".join(paragraphs) + "\n"] if paragraphs else []


def _to_come(folder: str) -> list[str]:
    lines = []
    for name in unmeasured(folder):
        first, *_ = (harness.load(folder, name).__doc__ or "").split("\n\n")
        lines.append(f"- `{name}`: {' '.join(first.split())}")
    for name in harness.names(folder):
        of = harness.on_gpu(harness.load(folder, name))
        if of and not harness.file(folder, name, harness.GPU).exists():
            lines.append(f"- `{name} --size {harness.GPU}`, since there was no GPU to measure it on: {of}")
    return ["\n".join(["## Not measured yet", "", *lines]) + "\n"] if lines else []


def section(folder: str, name: str) -> str:
    """That of one benchmark. Raises: NoControlError where its claim is compared with nothing."""
    benchmark, record = harness.load(folder, name), harness.read(folder, name)
    benchmark.CONTROL.check(record["rows"], measured=True)
    picture = hasattr(benchmark, "plot")
    parts = [
        f"## {name}",
        benchmark.CLAIM,
        f"Control: {benchmark.CONTROL.what}.",
        "\n".join(markdown(benchmark.table(record["rows"]))),
        *([f"![{name}](../figures/{_figure(folder, name).name})"] if picture else []),
        _provenance(folder, name, record),
    ]
    return "\n\n".join(parts) + "\n"


def _provenance(folder: str, name: str, record: Mapping[str, Any]) -> str:
    machine = record["machine"]
    packages = ", ".join(f"{package} {version}" for package, version in machine["packages"].items())
    at_once = record.get("at_once", 1)
    return (
        f"`python -m benchmarks {folder} {name} --size {record['size']} --seed {record['seed']}` at "
        f"{record['commit']}, {record['date']}: {record['seconds']:.0f} s on {called(machine)}"
        f"{f', {at_once} cases at a time' if at_once > 1 else ''}, "
        f"Python {machine['python']}, {packages}."
    )


def _figure(folder: str, name: str) -> Path:
    return FIGURES / f"{folder}-{name}.svg"


def write() -> Iterator[Path]:
    """The pages and their pictures, and what `secagg report` shows; each file once it is written."""
    for each in (PAGES, FIGURES):
        each.mkdir(parents=True, exist_ok=True)
    for folder in folders():
        for name in measured(folder):
            benchmark = harness.load(folder, name)
            if hasattr(benchmark, "plot"):
                yield _drawn(benchmark.plot(harness.read(folder, name)["rows"]), f"{folder}-{name}")
        page(folder).write_text(text(folder), encoding="utf-8")
        yield page(folder)
    yield from published.write()
    tables = joined.measured()
    if all(name in tables for name in joined.TABLES):
        yield _drawn(joined.plot(tables), PROTECTIONS)


def _drawn(figure: Figure, name: str) -> Path:
    figure.savefig(FIGURES / f"{name}.svg", metadata={"Date": None})
    return FIGURES / f"{name}.svg"
