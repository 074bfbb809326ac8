"""`secagg info`: what this machine has, and what is missing."""

from __future__ import annotations

import os
import platform
import time
import warnings
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import zmq
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from fl.cli.output import Output

# The distributions of pyproject.toml; a test holds the two together.
CORE = ("cryptography", "msgspec", "numpy", "python-flint", "pyzmq", "rich", "typer")
EXTRAS = {
    "fl": (
        "torch",
        "torchvision",
        "scikit-learn",
        "matplotlib",
        "safetensors",
        "dp-accounting",
        "jinja2",
        "vl-convert-python",
    ),
    "ckks": ("tenseal", "zstandard"),
    "flower": ("flwr",),
    "ray": ("ray",),
}
_CHUNK = 128 * 1024  # bytes: what the masks are expanded by, small enough for the cache


def run(out: Output) -> None:
    """Print everything, or one JSON object."""
    facts = {
        "versions": _versions(),
        "machine": _machine(),
        "ciphers": _ciphers(),
        "gpu": _gpu(),
        "data": _data(),
        "extras": _extras(),
    }
    out.record(facts)
    for title, lines in _lines(facts).items():
        out.table(lines, title=title)
        out.say()


def _versions() -> dict[str, str | None]:
    names = [*CORE, *(name for extra in EXTRAS.values() for name in extra)]
    found = {"secagg": _version("secagg"), "python": platform.python_version(), "libzmq": zmq.zmq_version()}
    return found | {name: _version(name) for name in names}


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _machine() -> dict[str, Any]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": usable,
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "curve": zmq.has("curve"),
    }


def _ciphers(seconds: float = 0.1) -> dict[str, float]:
    """Keystream in GB/s (10^9 bytes) on one core."""
    key, nonce = os.urandom(32), bytes(16)  # ChaCha20 counts from its first 4 bytes
    ciphers = {
        "AES-128-CTR": Cipher(algorithms.AES(key[:16]), modes.CTR(nonce)),
        "ChaCha20": Cipher(algorithms.ChaCha20(key, nonce), mode=None),
    }
    return {name: _gigabytes_per_second(cipher, seconds) for name, cipher in ciphers.items()}


def _gigabytes_per_second(cipher: Cipher[Any], seconds: float) -> float:
    # 15 bytes more: `update_into` is documented to want room for a block less one beside what it writes.
    stream, zeros, chunk = cipher.encryptor(), bytes(_CHUNK), bytearray(_CHUNK + 15)
    stream.update_into(zeros, chunk)
    done, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        done += stream.update_into(zeros, chunk)
    return round(done / spent / 1e9, 2)


def _gpu() -> list[str] | None:
    """The devices that torch can use, None without a torch that loads."""
    try:
        import torch
    except (ImportError, OSError):
        return None

    with warnings.catch_warnings():  # a driver too old is no GPU, not a screen of warnings
        warnings.simplefilter("ignore")
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return [*names, "Apple MPS"] if torch.backends.mps.is_available() else names


def _data() -> dict[str, Any]:
    """Data sets by name (a path, "bundled", or None where missing), and the folder looked through."""
    from fl import data

    return {
        "found": {name: None if at is None else str(at) for name, at in data.found().items()},
        "search_path": str(data.search_path()),
    }


def _extras() -> dict[str, str | None]:
    """None for a complete extra, else the command that adds it."""
    return {
        extra: None if all(map(_version, names)) else f"pip install 'secagg[{extra}]'"
        for extra, names in EXTRAS.items()
    }


def _lines(facts: dict[str, Any]) -> dict[str, list[tuple[str, str]]]:
    from fl.cli.data import where

    machine, gpu, data = facts["machine"], facts["gpu"], facts["data"]
    none = "none found" if gpu is not None else "unknown: torch is missing or does not load"
    return {
        "versions": [(name, at or "not installed") for name, at in facts["versions"].items()],
        "machine": [
            ("system", machine["system"]),
            ("cores", str(machine["cores"])),
            ("memory", f"{machine['memory_bytes'] / 2**30:.1f} GiB"),
            ("CURVE", "yes" if machine["curve"] else "no: install the pyzmq wheel, this libzmq has none"),
            ("GPU", ", ".join(gpu or ()) or none),
            *((name, f"{speed:.2f} GB/s on one core") for name, speed in facts["ciphers"].items()),
        ],
        "data sets": [
            *((name, where(name, at)) for name, at in data["found"].items()),
            ("looked in", data["search_path"]),
        ],
        "extras": [(name, command or "present") for name, command in facts["extras"].items()],
    }
