"""`python -m benchmarks FOLDER [NAME] [--size quick|full] [--seed N]`: measure, show, and write JSON."""

from __future__ import annotations

import argparse

from rich.console import Console

from benchmarks import harness


def main() -> None:
    folders = sorted(path.parent.name for path in harness.ROOT.glob("*/__init__.py"))
    arguments = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    arguments.add_argument("folder", choices=folders)
    arguments.add_argument("name", nargs="?", help="one of the folder's benchmarks; all if none is given")
    arguments.add_argument("--size", choices=harness.SIZES, default="quick")
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    names = harness.names(given.folder)
    if given.name is not None and given.name not in names:
        arguments.error(f"no benchmark {given.name!r} in {given.folder}: there are {', '.join(names)}")
    console = Console()
    for name in [given.name] if given.name else names:
        path = harness.measure(given.folder, name, given.size, given.seed, console)
        console.print(f"wrote {path}")


if __name__ == "__main__":
    main()
