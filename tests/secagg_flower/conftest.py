"""Nothing here runs where Flower is not installed; `make test` installs it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from transport.keys import generate, write_private, write_public
from transport.roster import sign

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"  # read when flwr is imported


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records of clients lie in the test's folder. What of them a crash leaves is tested elsewhere."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A folder with the keys of clients 3, 10, 17, 24 and 31, and their roster."""
    made = [generate("client", 3 + 7 * i) for i in range(5)]
    signer = generate("roster")
    for i, key in enumerate(made):
        write_private(tmp_path / f"{i}.key", key)
    write_public(tmp_path / "roster.pub", signer.public)
    (tmp_path / "roster").write_bytes(sign([key.public for key in made], 1, signer))
    return tmp_path
