"""What a key has contributed to, and which roster it has seen: under every name of the key, one memory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from secagg import LocalProtocolError, RemoteProtocolError
from transport import TransportError, join
from transport.journal import Journal
from transport.keys import generate, read_private, write_private
from transport.processes import lay_out_keys
from transport.records import base_of
from transport.roster import read, remember, sign

CLIENT, KEEPER = generate("client", 7), generate("roster")
CONTEXT = bytes(32)
Base = Callable[[str], Path]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In it the key, a link to it beside it, and a second copy."""
    monkeypatch.chdir(tmp_path)
    Path("state").mkdir()
    write_private("c.key", CLIENT)
    Path("link.key").symlink_to("c.key")
    shutil.copy("c.key", "copy.key")
    return tmp_path


def base(key: str, state: str | None = None) -> Path:
    return base_of(key, CLIENT.public, state)


@pytest.mark.parametrize("names", [("c.key", "link.key"), ("link.key", "c.key")])
def test_a_link_to_a_key_has_its_memory(names: tuple[str, str]) -> None:
    first, second = names
    rosters = {v: sign([CLIENT.public], v, KEEPER) for v in (1, 2)}
    for version, signed in rosters.items():
        Path(f"roster{version}").write_bytes(signed)
    for named in (
        lambda key: base(key),
        lambda key: Path(key),
    ):  # by `join`, and by whoever names them itself
        remember(f"{named(first)}.seen", read("roster2", KEEPER.public))
        with pytest.raises(TransportError, match="version 2 was seen before"):
            remember(f"{named(second)}.seen", read("roster1", KEEPER.public))
    Journal(f"{base(first)}.journal").once(CONTEXT)
    for journal in (f"{base(second)}.journal", f"{second}.journal"):
        with pytest.raises(RemoteProtocolError, match="asks again"):
            Journal(journal).once(CONTEXT)


def test_all_copies_of_a_key_have_one_memory_in_a_folder_of_records() -> None:
    os.link("c.key", "hard.key")
    assert {base(key, "state") for key in ("c.key", "link.key", "copy.key", "hard.key")} == {
        base("c.key", "state")
    }
    Path("again").symlink_to("state")
    assert os.path.samefile(base("c.key", "again").parent, "state")
    assert base_of("c.key", generate("client", 7).public, "state") != base("c.key", "state")


def test_a_key_with_two_names_is_not_given_two_memories() -> None:
    os.link("c.key", "hard.key")
    with pytest.raises(TransportError, match=r"has other names .hard links.*delete them, or name one folder"):
        base("c.key")


def test_a_record_is_not_left_behind() -> None:
    Path("link.key.journal").touch()
    with pytest.raises(
        TransportError, match=r"link.key.journal is a record of this key, and .*c.key.journal is"
    ):
        base("link.key")
    Path("link.key.journal").rename("c.key.journal")
    assert base("link.key") == Path("c.key").resolve()
    with pytest.raises(TransportError, match=r"c.key.journal is a record of this key, and state/client7-"):
        base("link.key", "state")


def test_a_folder_of_records_that_is_not_there_is_not_made_anew() -> None:
    with pytest.raises(
        TransportError, match="the folder stat for this key's records is not there: make it, once"
    ):
        base("c.key", "stat")


def test_where_no_record_can_be_kept_nobody_is_connected_to(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key on a mount that is not to be written; tests may run as a user who can write anywhere."""
    _, (own, *_) = lay_out_keys(folder / "cohort", 3)
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != own and access(path, mode))
    files = own / "client.key", own / "server.pub", own / "roster"
    with pytest.raises(
        TransportError, match=r"cannot be written, and without its records no input .* \(state=\)"
    ):
        join("tcp://127.0.0.1:9", *files)
    assert {path.name for path in own.iterdir()} == {"client.key", "server.pub", "roster", "roster.pub"}
    join("tcp://127.0.0.1:9", *files, state="state").close()
    assert {path.suffix for path in Path("state").iterdir()} == {".seen", ".lock"}


def test_who_may_read_a_mounted_key() -> None:
    """As Kubernetes mounts it: a link through a folder that is replaced, its mode chosen by others."""
    Path("..2026").mkdir()
    Path("c.key").rename("..2026/c.key")
    Path("..data").symlink_to("..2026")
    Path("c.key").symlink_to("..data/c.key")
    for mode, readers, opens in [
        (0o440, "owner", False),
        (0o440, "group", True),
        (0o640, "group", True),
        (0o644, "group", False),
        (0o444, "all", True),
        (0o660, "group", False),
        (0o646, "all", False),
        (0o750, "all", False),
    ]:
        Path("c.key").chmod(mode)
        if opens:
            assert read_private("c.key", readers=readers).public == CLIENT.public
        else:
            with pytest.raises(
                TransportError, match=f'open to other users .mode {mode:04o}.*readers="group"'
            ):
                read_private("c.key", readers=readers)
    with pytest.raises(LocalProtocolError, match="a key's readers are owner, group, all; not 'everybody'"):
        read_private("c.key", readers="everybody")  # type: ignore[arg-type]
