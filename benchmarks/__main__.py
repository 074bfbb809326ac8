"""`python -m benchmarks FOLDER [NAME] [--size quick|full] [--seed N]`: measure, show, and write JSON.
The same command goes on where it was stopped, with the same code on the same machine.
`python -m benchmarks report`: write docs/benchmarks, and what `secagg report` shows, from the full results.
`python -m benchmarks page`: print what `secagg report --size` shows of the results of a size.
"""

from __future__ import annotations

import argparse
import sys
from typing import Final, NoReturn

import msgspec

from benchmarks import harness, published, report
from fl.cli import FAILED, INTERRUPTED, exit_code, explain
from fl.cli.output import Output
from fl.config.section import ConfigError
from fl.mistyped import nearest

NO_FOLDERS: Final = ("report", "page")
SIZES: Final = (*harness.SIZES, harness.GPU)


class _Parser(argparse.ArgumentParser):
    """Errors look as all others do."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (see `secagg bench --help`)")


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    """Raises: ConfigError for what there is not."""
    parser = _Parser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("folder", help=f"{', '.join(report.folders())}, {' or '.join(NO_FOLDERS)}")
    parser.add_argument("name", nargs="?", help="a benchmark of it, or a group; all if none is given")
    parser.add_argument("--size", default="quick", help=" or ".join(SIZES))
    parser.add_argument("--seed", type=int, default=0)
    for flag in ("--json", "--quiet", "--debug"):
        parser.add_argument(flag, action="store_true")
    given = parser.parse_args(arguments)
    _check("benchmarks", given.folder, [*report.folders(), *NO_FOLDERS])
    _check("size", given.size, SIZES)
    if given.name is not None and given.folder not in NO_FOLDERS:
        known = harness.names(given.folder)
        groups = [group for group in dict.fromkeys(map(harness.group_of, known)) if group not in known]
        _check(f"benchmark in {given.folder}", given.name, [*groups, *known])
    return given


def _check(what: str, word: str, known: list[str] | tuple[str, ...]) -> None:
    if word not in known:
        raise ConfigError(f"no {what} {word!r}: there are {', '.join(known)}{nearest(word, known)}")


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code."""
    out = Output()
    with exit_code(out):
        given = parsed(arguments)
        out.json, out.quiet, out.debug = given.json, given.quiet, given.debug
        if given.folder == "report":
            for path in report.write():
                out.say(f"wrote {path}")
            return 0
        if given.folder == "page":
            print(msgspec.json.encode(published.of_size(given.size)).decode())
            return 0
        asked = harness.asked_for(given.folder, given.name) if given.name else harness.names(given.folder)
        for name in asked:
            try:
                harness.measure(given.folder, name, given.size, given.seed, out)
            except (ModuleNotFoundError, NotImplementedError, harness.NoControlError) as error:
                why = explain(error)[1] if isinstance(error, ModuleNotFoundError) else str(error)
                if asked == [given.name]:
                    out.error(f"{name} cannot be measured: {why}")
                    return FAILED
                out.warn(f"{name} left out: {why}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        Output().error("interrupted: the same command goes on after the last whole case")
        sys.exit(INTERRUPTED)
