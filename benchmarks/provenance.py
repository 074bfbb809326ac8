"""Where a result was measured, and of what code: without that a number is worth nothing."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parent.parent
OURS = ("secagg", "transport", "fl", "secagg_flower", "benchmarks")
PACKAGES = (
    *("secagg", "cryptography", "numpy", "python-flint", "msgspec", "pyzmq"),
    *("torch", "torchvision", "flwr", "ray", "tenseal"),
)


def machine() -> dict[str, Any]:
    """Processor, system, and the versions of what is measured and of what it stands on; the GPU that torch
    would use, where there is one.
    """
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
        **_gpu(),
    }


def called(machine: Mapping[str, Any]) -> str:
    """In a few words."""
    gpu = f", {machine['gpu']}" if "gpu" in machine else ""
    return f"{machine['cores']} cores of {machine['processor']}{gpu}"


def _gpu() -> dict[str, str]:
    with suppress(ModuleNotFoundError):
        import torch

        if torch.cuda.is_available():
            return {"gpu": torch.cuda.get_device_name()}
    return {}


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
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    return said.stdout.strip()


def code(checkout: Path = CHECKOUT) -> str:
    """A digest of every module of the four packages. A commit would not do: it does not say what has changed
    since, and changes with every document.
    """
    digest = hashlib.sha256()
    for path in sorted(path for package in OURS for path in (checkout / package).rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(checkout).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()
