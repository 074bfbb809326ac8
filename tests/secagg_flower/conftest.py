"""Nothing here runs where Flower is not installed; `make test` installs it."""

from __future__ import annotations

import os

import pytest

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"  # read when flwr is imported


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records of clients lie in the test's folder. What of them a crash leaves is tested elsewhere."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
