"""`secagg bench`: the benchmarks of the checkout, which are no part of the package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import fl
from fl.config.section import ConfigError

CHECKOUT = Path(fl.__file__).parent.parent
COMMAND = (sys.executable, "-m", "benchmarks")


def run(arguments: list[str], checkout: Path = CHECKOUT) -> int:
    """`python -m benchmarks` with these arguments; returns its exit code."""
    _check(checkout)
    return subprocess.run([*COMMAND, *arguments], cwd=checkout).returncode  # noqa: S603


def page(size: str, checkout: Path = CHECKOUT) -> bytes:
    """What `secagg report` shows of the results of this size that lie here, as JSON.

    Raises: ConfigError where there are none.
    """
    _check(checkout)
    ran = subprocess.run([*COMMAND, "page", "--size", size], cwd=checkout, capture_output=True)  # noqa: S603
    if ran.returncode:
        *_, said = ran.stderr.decode(errors="replace").splitlines() or ["the benchmarks say nothing"]
        raise ConfigError(said.removeprefix("error: "))
    return ran.stdout


def _check(checkout: Path) -> None:
    if not (checkout / "benchmarks" / "__main__.py").is_file():
        raise ConfigError(
            "the benchmarks are not installed with the package: clone the repository and run "
            "`pip install -e '.[fl]'` in it, or `make demo`"
        )
