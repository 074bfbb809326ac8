"""A client's record of what it has contributed to: written before anything leaves, and never forgotten."""

import errno
import math
import os
import signal
import stat
import subprocess
import sys

import pytest

from secagg import LocalProtocolError, RemoteProtocolError, tickets
from tests.play import TASK, Session, rounding_seed
from tests.secagg.helpers import FIVE, assert_sum_of, mixed_inputs
from tests.secagg.suspended import Suspended
from transport import TransportError
from transport.journal import Journal, SignedSets, Spent, Tickets

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


def test_a_context_is_a_whole_line_even_where_its_end_was_damaged(path):
    """A line without its end is one that a crash cut short; one with another end has been altered."""
    Journal(path).once(CONTEXT)
    path.write_bytes(path.read_bytes()[:-1] + b"0")
    with pytest.raises(TransportError, match="make a new key"):
        Journal(path).once(OTHER)


def test_the_folder_is_synced_even_if_the_file_was_there(path, monkeypatch):
    path.touch()  # by a process that crashed before its name was on the disk
    synced = []
    monkeypatch.setattr("transport.journal.sync_folder", synced.append)
    Journal(path).once(CONTEXT)
    assert synced == [path.parent]


@pytest.fixture
def signed(tmp_path):
    return tmp_path / "client.key.signed"


def entries(path):
    found = []
    SignedSets(path)(lambda kept: found.extend(kept))
    return found


def test_what_was_signed_is_kept_in_order_and_what_is_refused_is_not(signed):
    first, second = b"\x00\n\r one", bytes(range(256))
    for entry in (first, second):
        SignedSets(signed)(lambda kept, entry=entry: entry)

    def refuse(kept):
        raise RemoteProtocolError("no")

    with pytest.raises(RemoteProtocolError):
        SignedSets(signed)(refuse)
    assert entries(signed) == [first, second]
    assert stat.S_IMODE(signed.stat().st_mode) == 0o600


@pytest.mark.parametrize("left", range(1, 26))
def test_a_set_that_a_crash_cut_short_was_not_signed(signed, left):
    SignedSets(signed)(lambda kept: b"one")
    whole = signed.read_bytes()
    SignedSets(signed)(lambda kept: b"another one")
    line = signed.read_bytes()[len(whole) :]
    signed.write_bytes(whole + line[: min(left, len(line) - 1)])
    SignedSets(signed)(lambda kept: b"two")
    assert entries(signed) == [b"one", b"two"]


@pytest.mark.parametrize("at", range(13))
def test_no_character_of_what_was_signed_can_be_altered(signed, at):
    """The end of the line too. What base64 decodes differently is found when it is unsealed."""
    SignedSets(signed)(lambda kept: b"one")
    line = bytearray(signed.read_bytes())
    assert len(line) == 13
    line[at] ^= 0x40 if at == 12 else 0x80
    signed.write_bytes(line)
    with pytest.raises(TransportError, match="is damaged"):
        entries(signed)


@pytest.fixture
def spent(tmp_path):
    return tmp_path / "client.key.spent"


def test_costs_add_up_to_the_most_exactly_and_what_is_refused_is_not_kept(spent):
    for _ in range(10):
        Spent(spent).charge(8.0, 0.1, most=1.0)
    whole = spent.read_bytes()
    assert Spent(spent).check(8.0, 0.0, most=1.0) == 0.0
    with pytest.raises(
        RemoteProtocolError, match=r"costs 4\.941e-324 of Rényi divergence of order 8, and less is left"
    ):
        Spent(spent).charge(8.0, 5e-324, most=1.0 - 2**-53)
    for cost in (math.inf, math.nan):
        with pytest.raises(RemoteProtocolError, match="allows no more"):
            Spent(spent).charge(8.0, cost, most=2.0)
    assert spent.read_bytes() == whole
    Spent(spent).charge(8.0, 1.0, most=2.0)
    assert stat.S_IMODE(spent.stat().st_mode) == 0o600


def test_what_is_only_checked_is_not_charged(spent):
    assert [Spent(spent).check(8.0, 0.75, most=1.0) for _ in range(3)] == [0.25] * 3
    with pytest.raises(RemoteProtocolError, match="allows no more"):
        Spent(spent).check(8.0, 1.25, most=1.0)


def test_a_budget_is_counted_at_one_order_for_good(spent):
    Spent(spent).charge(8.0, 0.1, most=1.0)
    for use in (Spent(spent).charge, Spent(spent).check):
        with pytest.raises(LocalProtocolError, match=r"write order = 8 into \[privacy\] of its policy"):
            use(4.0, 0.1, most=1.0)


def test_a_cost_that_a_crash_cut_short_was_not_charged_and_a_damaged_one_lets_nothing_leave(spent):
    Spent(spent).charge(8.0, 0.5, most=1.0)
    whole = spent.read_bytes()
    spent.write_bytes(whole + whole[:-3])
    Spent(spent).charge(8.0, 0.5, most=1.0)
    assert spent.read_bytes() == whole * 2
    sized = [b"%08x%b\n" % (len(line), line) for line in (b"0x1p3 -0x1p9", b"0x1p3 nan", b"0x1p3 0x1p9999")]
    for damaged in (whole[1:], whole.replace(b"0x1", b"0y1"), whole.replace(b" ", b"0"), *sized):
        spent.write_bytes(damaged)
        with pytest.raises(TransportError, match="is damaged"):
            Spent(spent).check(8.0, 0.0, most=1.0)


# Suspended sessions

NAME, KEY, ANSWER, OTHER_ANSWER = b"n" * 16, b"k" * 32, b"a" * 64, b"b" * 64


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "client.key.tickets"


def begun(folder):
    Tickets(folder).begin(NAME, KEY)
    return folder / NAME.hex()


def test_a_step_has_one_answer_whoever_comes_first(folder):
    begun(folder)
    assert Tickets(folder).answered(NAME, 1) is None
    assert Tickets(folder).answer(NAME, 1, ANSWER) == ANSWER
    assert Tickets(folder).answer(NAME, 1, OTHER_ANSWER) == Tickets(folder).answered(NAME, 1) == ANSWER
    assert Tickets(folder).answer(NAME, 18, OTHER_ANSWER) == OTHER_ANSWER
    assert Tickets(folder).key(NAME) == KEY


def test_only_its_owner_reads_a_session(folder):
    path = begun(folder)
    assert [stat.S_IMODE(entry.stat().st_mode) for entry in (folder, path)] == [0o700, 0o600]


def test_a_session_that_has_ended_leaves_nothing(folder):
    begun(folder)
    Tickets(folder).answer(NAME, 1, ANSWER)
    for name in (NAME, NAME, b"x" * 16):
        Tickets(folder).end(name)
        assert list(folder.iterdir()) == []
        assert Tickets(folder).key(name) is Tickets(folder).answered(name, 1) is None
        assert Tickets(folder).answer(name, 1, ANSWER) is None
    assert list(folder.iterdir()) == []


def test_who_waits_while_a_session_ends_finds_no_key(folder):
    """Its file is open, and will have no name any more."""
    path = begun(folder)
    with path.open("rb") as waiting:
        Tickets(folder).end(NAME)
        assert waiting.read() == b""


@pytest.mark.parametrize("left", range(0, 140, 7))
def test_an_answer_that_a_crash_cut_short_was_not_given(folder, left):
    path = begun(folder)
    whole = path.read_bytes()
    Tickets(folder).answer(NAME, 1, ANSWER)
    path.write_bytes(whole + path.read_bytes()[len(whole) :][:left])
    assert Tickets(folder).answered(NAME, 1) is None
    assert Tickets(folder).answer(NAME, 1, OTHER_ANSWER) == OTHER_ANSWER
    assert Tickets(folder).answered(NAME, 1) == OTHER_ANSWER


@pytest.mark.parametrize("left", [0, 5, 8, 30, 72])
def test_a_session_whose_beginning_a_crash_cut_short_was_not_begun(folder, left):
    path = begun(folder)
    path.write_bytes(path.read_bytes()[:left])
    assert Tickets(folder).key(NAME) is None
    assert Tickets(folder).answer(NAME, 1, ANSWER) is None
    assert path.read_bytes()[left:] == b""


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: b"x" + raw[1:],
        lambda raw: raw[:-1] + b"0",
        lambda raw: raw.replace(b" ", b"0"),
        lambda raw: raw.replace(KEY.hex().encode(), KEY.hex().encode()[:-1] + b"g"),
        lambda raw: raw.replace(b"00000040", b"00000042").replace(b"\n", b"00\n", 1),
        lambda raw: raw.replace(b"61\n", b"6g\n"),
    ],
)
def test_of_a_damaged_session_nothing_is_answered(folder, damage):
    path = begun(folder)
    Tickets(folder).answer(NAME, 1, ANSWER)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(TransportError, match="suspended session is not known any more; delete the file"):
        Tickets(folder).key(NAME), Tickets(folder).answered(NAME, 1), Tickets(folder).answer(NAME, 2, ANSWER)
    Tickets(folder).end(NAME)
    assert Tickets(folder).key(NAME) is None


def test_a_name_is_begun_once(folder):
    path = begun(folder)
    with pytest.raises(TransportError):
        Tickets(folder).begin(NAME, b"K" * 32)
    assert Tickets(folder).key(NAME) == KEY
    assert path.exists()


def test_it_is_on_the_disk_before_the_answer_leaves(folder, monkeypatch):
    path, synced, folders = begun(folder), [], []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(path.read_bytes()), fsync(fd)))
    monkeypatch.setattr("transport.journal.sync_folder", folders.append)
    Tickets(folder).answer(NAME, 1, ANSWER)
    assert synced == [path.read_bytes()]
    assert ANSWER.hex().encode() in synced[0]
    Tickets(folder.parent / "new.key.tickets").begin(NAME, KEY)
    assert folders == [folder, folder.parent, folder.parent / "new.key.tickets"]


def test_an_answer_that_another_wrote_is_on_the_disk_before_it_leaves(folder, monkeypatch):
    """Who wrote it was killed before it could see to that."""
    path, synced = begun(folder), []
    Tickets(folder).answer(NAME, 1, ANSWER)
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_ino))
    assert Tickets(folder).answer(NAME, 1, ANSWER) == ANSWER
    assert path.stat().st_ino in synced


def test_what_could_not_be_brought_to_the_disk_does_not_stand_there(folder, monkeypatch):
    """After an error the system takes it for written: who asks again is told so."""
    begun(folder)

    def fails(descriptor):
        raise OSError(errno.EIO, "the disk is broken")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fails)
        with pytest.raises(
            TransportError, match="the disk is broken: without this record no input may leave"
        ):
            Tickets(folder).answer(NAME, 1, ANSWER)
    assert Tickets(folder).answered(NAME, 1) is None
    assert Tickets(folder).answer(NAME, 1, OTHER_ANSWER) == OTHER_ANSWER


def test_where_no_session_can_be_kept_none_begins(tmp_path):
    with pytest.raises(TransportError, match="no input may leave"):
        Tickets(tmp_path / "missing" / "client.key.tickets").begin(NAME, KEY)


def test_the_answer_outlives_the_process_that_gave_it(folder):
    code = f"""
import os, signal
from transport.journal import Tickets
Tickets({str(folder)!r}).begin(b"n" * 16, b"k" * 32)
Tickets({str(folder)!r}).answer(b"n" * 16, 1, b"a" * 64)
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", code], env=os.environ, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert Tickets(folder).answer(NAME, 1, OTHER_ANSWER) == ANSWER


def test_a_session_of_tickets_on_disk(folder):
    """Each message in what could be a process of its own."""
    scheme, ids = FIVE["semi-honest"], range(5)
    inputs = mixed_inputs(ids)
    clients = {
        u: Suspended(
            scheme,
            u,
            lambda task, u=u: inputs[u],
            record=Tickets(f"{folder}{u}.tickets"),
            rounding_seed=rounding_seed(u),
        )
        for u in ids
    }
    play = Session(scheme.server(ids, TASK), clients).to("done")
    assert_sum_of(scheme, inputs, play.server.result, ids)
    for ticket in clients[0].shown[:-1]:
        with pytest.raises((RemoteProtocolError, LocalProtocolError)):
            clients[0].step(ticket, b"another message")
    tickets.end(clients[0].shown[-1], record=clients[0].record)
    with pytest.raises(LocalProtocolError, match="is over"):
        clients[0].step(clients[0].shown[-1], clients[0].asked[-1])
