"""`secagg report`: what was measured, and runs of one's own, on a page, with its plots and tables beside."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from fl.cli import bench
from fl.cli.display import shown, since
from fl.cli.output import Output
from fl.cli.results import check_folder, write_result
from fl.page import vega
from fl.page.published import Published, read
from fl.page.render import Report, render
from fl.page.state import RunState
from secagg.errors import counted

PAGE = "report.html"
BESIDE: Final = re.compile(rb'download="([a-z0-9-]+\.(?:png|csv))"')
"""In a page the names of what stands beside it."""


def run(out: Output, runs: Sequence[Path], folder: Path, *, size: str | None = None, force: bool) -> None:
    """Write the page, a PNG of each plot and a CSV of each table into the folder, with `force` in the place
    of an earlier report; what else is there stays. size: of the benchmarks' results that lie here, None for
    those that come with the package.

    Raises: ConfigError for a folder that is no run's, or one that cannot be written, and where nothing of
    this size was measured here; ResultError.
    """
    check_folder(folder, force=force)
    published = read() if size is None else msgspec.json.decode(bench.page(size), type=Published)
    report = Report(published, tuple(RunState.of_folder(each) for each in runs))
    at = ["what draws plots"]
    with shown(out, since(lambda: f"report: {at[0]}"), lambda: at[0]):
        bundle, pictures = vega.bundle(), dict[str, bytes]()
        for plot in report.plots.values():
            at[0] = plot.name
            pictures[plot.name] = vega.png(plot.still)
    files = {PAGE: render(report, bundle, pictures).encode()}
    files |= {f"{name}.png": png for name, png in pictures.items()}
    files |= {f"{sheet.name}.csv": sheet.csv.encode() for sheet in report.sheets.values()}
    folder.mkdir(parents=True, exist_ok=True)
    for name in earlier(folder / PAGE) - files.keys():
        (folder / name).unlink(missing_ok=True)  # else it would pass for this report's
    kept = [write_result(folder / name, content) for name, content in files.items()]
    out.say(report.headline)
    beside = f"{counted(len(pictures), 'plot')} as PNG, {counted(len(report.sheets), 'table')} as CSV"
    out.say(f"wrote {kept[0].path}; beside it {beside}")
    out.record({"report": {"folder": str(folder), "files": list(files), "headline": report.headline}})
    for each in kept:
        each.check()


def earlier(page: Path) -> set[str]:
    """The plots and tables of the report whose page this is, by the page itself; none without one."""
    return {name.decode() for name in BESIDE.findall(page.read_bytes())} if page.is_file() else set()
