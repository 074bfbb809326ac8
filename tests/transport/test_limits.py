"""Limits of the machine are raised where that is allowed, and named where it is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from transport import TransportError
from transport.limits import open_files


def test_as_many_files_as_the_system_allows_may_be_open(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [(256, 4096)]
    monkeypatch.setattr("transport.limits.resource.getrlimit", lambda which: limits[-1])
    monkeypatch.setattr("transport.limits.resource.setrlimit", lambda which, both: limits.append(both))
    assert open_files(1000, "a server of 1000 clients") == 4096
    assert limits[-1] == (4096, 4096)
    words = r"a server of 4057 clients may need 4097 open files, and this process may have 4096: .*ulimit -n"
    with pytest.raises(TransportError, match=words):
        open_files(4057, "a server of 4057 clients")


def test_too_few_files_are_one_line_that_says_what_to_do() -> None:
    secagg = Path(sys.executable).with_name("secagg")
    line = f"ulimit -n 64; exec {secagg} demo --clients 60 --length 10"
    ended = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: a server of 60 clients may need 100 open files")
    assert ended.stderr.count("\n") == 1
