from __future__ import annotations

import pytest

from tests.fl.leakage.helpers import attack_here


@pytest.fixture(autouse=True)
def _attacks_run_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fl.leakage.apart.run", attack_here)
