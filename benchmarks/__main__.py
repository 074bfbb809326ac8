"""`python -m benchmarks FOLDER [NAME] [--size quick|full] [--seed N]`: measure, show, and write JSON.
`python -m benchmarks report`: write docs/benchmarks.md from the full results.
"""

from __future__ import annotations

import argparse
import sys

from rich.console import Console
from rich.markup import escape

from benchmarks import harness, report
from fl.cli import FAILED, INTERRUPTED, explain
from fl.cli.streams import bearing


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    arguments.add_argument("folder", choices=[*report.folders(), "report"])
    arguments.add_argument("name", nargs="?", help="one of the folder's benchmarks; all if none is given")
    arguments.add_argument("--size", choices=harness.SIZES, default="quick")
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    console = Console()
    if given.folder == "report":
        for path in report.write():
            console.print(f"wrote {path}")
        return
    names = harness.names(given.folder)
    if given.name is not None and given.name not in names:
        arguments.error(f"no benchmark {given.name!r} in {given.folder}: there are {', '.join(names)}")
    for name in [given.name] if given.name else names:
        try:
            path = harness.measure(given.folder, name, given.size, given.seed, console)
        except (ModuleNotFoundError, NotImplementedError) as error:
            code, message = (FAILED, str(error)) if isinstance(error, NotImplementedError) else explain(error)
            console.print(f"[yellow]{name} left out: {escape(message)}[/yellow]")
            if given.name:
                sys.exit(code)
        else:
            console.print(f"wrote {path}")


if __name__ == "__main__":
    with bearing():
        try:
            main()
        except KeyboardInterrupt:
            print("interrupted: nothing of this benchmark was written", file=sys.stderr)
            sys.exit(INTERRUPTED)
