"""`secagg bench`: the benchmarks of the checkout, which are no part of the package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import fl
from fl.config.section import ConfigError

CHECKOUT = Path(fl.__file__).parent.parent


def run(arguments: list[str], checkout: Path = CHECKOUT) -> int:
    """`python -m benchmarks` with these arguments; returns its exit code."""
    if not (checkout / "benchmarks" / "__main__.py").is_file():
        raise ConfigError(
            "the benchmarks are not installed with the package: clone the repository and run "
            "`pip install -e '.[fl]'` in it, or `make demo`"
        )
    return subprocess.run([sys.executable, "-m", "benchmarks", *arguments], cwd=checkout).returncode  # noqa: S603
