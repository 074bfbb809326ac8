"""A client's record of what it has contributed to: written before anything leaves, and never forgotten."""

import os
import signal
import stat
import subprocess
import sys

import pytest

from secagg import RemoteProtocolError
from transport import TransportError
from transport.journal import Journal

CONTEXT, OTHER = b"\x01" * 32, b"\x02" * 32


@pytest.fixture
def path(tmp_path):
    return tmp_path / "client.key.journal"


def test_a_context_is_recorded_once(path):
    Journal(path).once(CONTEXT)
    with pytest.raises(RemoteProtocolError, match="subtract"):
        Journal(path).once(CONTEXT)
    Journal(path).once(OTHER)
    assert path.read_bytes() == CONTEXT.hex().encode() + b"\n" + OTHER.hex().encode() + b"\n"


def test_only_its_owner_reads_the_record(path):
    Journal(path).once(CONTEXT)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_line_a_crash_cut_short_is_forgotten_and_the_rest_is_not(path):
    Journal(path).once(CONTEXT)
    with path.open("ab") as file:
        file.write(OTHER.hex().encode()[:17])
    Journal(path).once(OTHER)
    for context in (CONTEXT, OTHER):
        with pytest.raises(RemoteProtocolError):
            Journal(path).once(context)


def test_a_damaged_record_lets_nothing_leave(path):
    Journal(path).once(CONTEXT)
    path.write_bytes(b"x" + path.read_bytes()[1:])
    with pytest.raises(TransportError, match="is not known any more; make a new key"):
        Journal(path).once(OTHER)


def test_where_no_record_can_be_kept_nothing_leaves(tmp_path):
    with pytest.raises(TransportError, match="no input may leave"):
        Journal(tmp_path / "missing" / "journal").once(CONTEXT)


def test_the_record_outlives_the_process_that_made_it(path):
    code = f"""
import os, signal
from transport.journal import Journal
Journal({str(path)!r}).once(b"\\x01" * 32)
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", code], env=os.environ, check=False)
    assert killed.returncode == -signal.SIGKILL
    with pytest.raises(RemoteProtocolError):
        Journal(path).once(CONTEXT)


def test_it_is_on_the_disk_before_the_masked_input_leaves(path, monkeypatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(path.read_bytes()), fsync(fd)))
    Journal(path).once(CONTEXT)
    assert synced[0] == CONTEXT.hex().encode() + b"\n"
