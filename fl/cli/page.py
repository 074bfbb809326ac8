"""`secagg report`: what was measured, and runs of one's own, on a page, with its plots and tables beside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fl.cli.display import shown, since
from fl.cli.output import Output
from fl.cli.results import check_folder, write_result
from fl.page import vega
from fl.page.published import read
from fl.page.render import Report, render
from fl.page.state import RunState
from secagg.errors import counted

PAGE = "report.html"


def run(out: Output, runs: Sequence[Path], folder: Path, *, force: bool) -> None:
    """Write the page, a PNG of each plot and a CSV of each table into the folder.

    Raises: ConfigError for a folder that is no run's, or one that cannot be written; ResultError.
    """
    check_folder(folder, force=force)
    report = Report(read(), tuple(RunState.of_folder(each) for each in runs))
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
    kept = [write_result(folder / name, content) for name, content in files.items()]
    out.say(report.headline)
    beside = f"{counted(len(pictures), 'plot')} as PNG, {counted(len(report.sheets), 'table')} as CSV"
    out.say(f"wrote {kept[0].path}; beside it {beside}")
    out.record({"report": {"folder": str(folder), "files": list(files), "headline": report.headline}})
    for each in kept:
        each.check()
