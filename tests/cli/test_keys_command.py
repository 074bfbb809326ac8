"""`secagg keys`, and what every command shares: exit codes, flags, one line per error, no torch."""

from __future__ import annotations

import io
import json
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import fl.cli
import secagg.errors
import transport.errors
from fl.cli import main
from fl.cli.output import Output
from transport.keys import generate, read_private, read_public, write_public
from transport.roster import read

Run = Callable[..., list[str]]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """run("keys", "server") -> the lines on stdout; with code, the lines on stderr of that failure."""

    def run(*args: str, code: int = 0) -> list[str]:
        assert main(args) == code
        out, err = capsys.readouterr()
        if code == 0:
            assert err == ""
            return out.splitlines()
        assert out == ""
        return err.splitlines()

    return run


@pytest.fixture
def made(run: Run) -> None:
    """Keys of two clients and of the keeper, as their owners make them."""
    for args in (("client", "0"), ("client", "7"), ("roster-key",)):
        run("keys", *args, "--quiet")


def sign(run: Run, version: int, *args: str, code: int = 0) -> list[str]:
    return run("keys", "roster", "--version", str(version), "client0.pub", "client7.pub", *args, code=code)


# Keys


def test_the_server_makes_its_key(run: Run) -> None:
    lines = run("keys", "server")
    key = read_private("server.key", "server")
    assert read_public("server.pub", "server") == key.public
    assert stat.S_IMODE(Path("server.key").stat().st_mode) == 0o600
    assert lines[1] == f"fingerprint {key.fingerprint}"
    assert lines[2].startswith("next: give server.pub to every client")


def test_a_client_makes_its_key(run: Run) -> None:
    lines = run("keys", "client", "7")
    assert read_private("client7.key", "client").id == 7
    assert lines[2].startswith("next: send client7.pub to the keeper")
    run("keys", "client", "7", "--out", "mine.key")
    assert read_public("mine.pub").id == 7


def test_a_relay_makes_its_key(run: Run) -> None:
    lines = run("keys", "relay", "1")
    assert read_private("relay1.key", "relay").id == 1
    assert lines[2].startswith("next: send relay1.pub to the keeper")
    run("keys", "relay", "1", "--out", "mine.key")
    assert str(read_public("mine.pub")) == "relay 1"
    assert "a relay's id is 0 to 15, not 16" in run("keys", "relay", "16", code=2)[0]


def test_the_keeper_makes_the_roster_key(run: Run) -> None:
    lines = run("keys", "roster-key")
    assert read_private("roster.key", "roster").public == read_public("roster.pub", "roster")
    assert "offline" in lines[2]


def test_the_next_commands_are_ones_for_a_shell(run: Run) -> None:
    Path("my keys").mkdir()
    assert "(secagg keys show 'my keys/s.pub')" in run("keys", "server", "--out", "my keys/s.key")[2]
    lines = run("keys", "roster-key", "--out", "my keys/r.key")
    assert "secagg keys roster --key 'my keys/r.key' --version 1" in lines[3]
    run("keys", "client", "0")
    args = ("roster", "client0.pub", "--version", "1", "--key", "my keys/r.key", "--out", "my keys/roster")
    assert "(secagg keys show 'my keys/roster')" in run("keys", *args)[2]


def test_secrets_are_printed_by_no_command(run: Run, made: None) -> None:
    secret = read_private("client7.key")
    printed = [*run("keys", "show", "client7.key"), *run("keys", "show", "client7.key", "--json")]
    printed += run("keys", "client", "7", "--json", "--force")
    for hidden in (secret, read_private("client7.key")):
        assert hidden.curve_secret.decode() not in "".join(printed)
        assert hidden.signing.private_bytes_raw().hex() not in "".join(printed)


@pytest.mark.parametrize("existing", ["server.key", "server.pub"])
def test_nothing_is_overwritten_without_force(run: Run, existing: str) -> None:
    Path(existing).write_text("precious", encoding="utf-8")
    (line,) = run("keys", "server", code=2)
    assert line == f"error: {existing} would be overwritten: choose another name, or replace with --force"
    assert Path(existing).read_text(encoding="utf-8") == "precious"
    assert len(list(Path().iterdir())) == 1
    run("keys", "server", "--force")
    assert read_private("server.key").public == read_public("server.pub")


def test_a_private_key_may_not_take_the_name_of_a_public_one(run: Run) -> None:
    assert "does not end in .pub" in run("keys", "server", "--out", "server.pub", code=2)[0]


@pytest.mark.parametrize("id", ["2147483648", "x", "1.5"])
def test_ids_out_of_range_are_a_usage_error(run: Run, id: str) -> None:
    assert len(run("keys", "client", id, code=2)) == 1
    assert list(Path().iterdir()) == []


# Rosters


def test_the_keeper_signs_a_roster(run: Run, made: None) -> None:
    lines = sign(run, 1)
    roster = read("roster", read_public("roster.pub", "roster"))
    assert (roster.version, set(roster.clients)) == (1, {0, 7})
    assert lines[0] == "wrote roster: version 1, 2 clients"
    assert lines[1] == f"signed by {read_private('roster.key').fingerprint}"
    assert lines[2].startswith("next: give roster and roster.pub to every client")


def test_relays_are_listed_with_the_clients(run: Run, made: None) -> None:
    for number in ("1", "0"):
        run("keys", "relay", number, "--quiet")
    assert "relay 1, and no relay 0" in sign(run, 1, "relay1.pub", code=2)[0]
    lines = sign(run, 1, "relay1.pub", "relay0.pub")
    assert set(read("roster", read_public("roster.pub", "roster")).relays) == {0, 1}
    assert lines[0] == "wrote roster: version 1, 2 clients and 2 relays"
    assert lines[2].startswith("next: give roster and roster.pub to every client, every relay and the server")
    shown = [line.split() for line in run("keys", "show", "roster")]
    assert [row[2:4] for row in shown[-2:]] == [["relay", "0"], ["relay", "1"]]
    (fields,) = map(json.loads, run("keys", "show", "roster", "--json"))
    assert fields["relays"]["1"] == read_public("relay1.pub").fingerprint


def test_the_signer_is_kept_beside_a_roster_elsewhere(run: Run, made: None) -> None:
    Path("out").mkdir()
    sign(run, 1, "--out", "out/hospitals.txt")
    assert read_public("out/hospitals.txt.pub") == read_public("roster.pub")
    run("keys", "show", "out/hospitals.txt")


def test_another_key_beside_the_roster_is_not_overwritten(run: Run, made: None) -> None:
    write_public("r.pub", generate("roster").public)
    (line,) = sign(run, 1, "--out", "r", code=2)
    assert "r.pub is another key" in line
    assert not Path("r").exists()
    sign(run, 1, "--out", "r", "--force")
    assert read_public("r.pub") == read_public("roster.pub")


def test_a_roster_is_replaced_by_a_newer_one_only(run: Run, made: None) -> None:
    sign(run, 5)
    assert "--force" in sign(run, 6, code=2)[0]
    for version in (4, 5):
        (line,) = sign(run, version, "--force", code=2)
        assert line.endswith("give --version 6")
    sign(run, 6, "--force")
    assert read("roster", read_public("roster.pub")).version == 6


def test_a_roster_needs_the_roster_key_and_clients(run: Run, made: None) -> None:
    run("keys", "server", "--quiet")
    assert "a roster key is needed" in sign(run, 1, "--key", "server.key", code=2)[0]
    assert "server.pub holds a server key, and a roster lists" in sign(run, 1, "server.pub", code=2)[0]
    assert "client 7 stands twice" in sign(run, 1, "client7.pub", code=2)[0]
    assert "version" in sign(run, 0, code=2)[0]
    assert not Path("roster").exists()


# Show


def test_show_tells_kind_id_and_fingerprint_of_everything(run: Run, made: None) -> None:
    sign(run, 3)
    keys = {name: read_private(f"{name}.key").fingerprint for name in ("client0", "client7", "roster")}
    lines = run("keys", "show", "client7.key", "client7.pub", "roster.pub", "roster")
    shown = [line.split("  ") for line in lines]
    table = [[cell.strip() for cell in row if cell.strip()] for row in shown]
    assert table[0] == ["file", "what", "who", "fingerprint"]
    assert table[1] == ["client7.key", "private key", "client 7", keys["client7"]]
    assert table[2] == ["client7.pub", "public key", "client 7", keys["client7"]]
    assert table[3] == ["roster.pub", "public key", "roster", keys["roster"]]
    assert table[4][:3] == ["roster", "roster", "version 3"]
    assert table[5] == ["roster", "signed by", "roster key", keys["roster"]]
    assert table[6] == ["roster", "lists", "client 0", keys["client0"]]
    assert table[7] == ["roster", "lists", "client 7", keys["client7"]]


def test_show_verifies_a_roster_under_a_key_of_the_reader(run: Run, made: None) -> None:
    sign(run, 3)
    write_public("other.pub", generate("roster").public)
    assert "signed by roster key" in run("keys", "show", "roster", "--signer", "other.pub", code=2)[0]
    Path("roster.pub").unlink()
    assert "roster.pub is missing: name the key that signed" in run("keys", "show", "roster", code=2)[0]


def test_show_refuses_what_it_does_not_know(run: Run) -> None:
    Path("notes").write_text("hello", encoding="utf-8")
    assert "is not a public key" in run("keys", "show", "notes", code=2)[0]
    assert "there is no file" in run("keys", "show", "none", code=2)[0]


def test_show_refuses_a_private_key_open_to_others(run: Run, made: None) -> None:
    Path("client7.key").chmod(0o644)
    assert "chmod 600 client7.key" in run("keys", "show", "client7.key", code=2)[0]


# Cohort


def test_cohort_makes_everything_for_a_demonstration(run: Run) -> None:
    lines = run("keys", "cohort", "3", "--out", "a/b")
    folder = Path("a/b")
    roster = read(folder / "roster", read_public(folder / "roster.pub", "roster"))
    keys = [read_private(folder / f"client{id}.key", "client") for id in range(3)]
    assert dict(roster.clients) == {id: key.public for id, key in enumerate(keys)}
    assert read_private(folder / "server.key", "server").public == read_public(folder / "server.pub")
    assert read_private(folder / "roster.key", "roster").public == roster.signer
    assert any("for demonstrations only" in line for line in lines)


def test_cohort_makes_relays_where_they_are_asked_for(run: Run) -> None:
    lines = run("keys", "cohort", "3", "--relays", "2", "--out", "a")
    roster = read("a/roster", read_public("a/roster.pub", "roster"))
    keys = [read_private(f"a/relay{j}.key", "relay") for j in range(2)]
    assert dict(roster.relays) == {j: key.public for j, key in enumerate(keys)}
    assert lines[0].startswith("wrote the keys of server, roster, 3 clients and 2 relays, and the signed")


def test_cohort_overwrites_nothing_without_force(run: Run) -> None:
    Path("client1.pub").write_text("precious", encoding="utf-8")
    assert "client1.pub would be overwritten" in run("keys", "cohort", "3", "--out", ".", code=2)[0]
    assert [path.name for path in Path().iterdir()] == ["client1.pub"]
    run("keys", "cohort", "3", "--out", ".", "--force")
    assert read_public("client1.pub").id == 1


def test_cohort_needs_a_client_and_a_folder(run: Run) -> None:
    Path("file").touch()
    run("keys", "cohort", "0", "--out", "a", code=2)
    assert "cannot make the folder" in run("keys", "cohort", "1", "--out", "file", code=1)[0]


# Flags


def test_json_prints_one_object_a_line_and_nothing_else(run: Run) -> None:
    for args in (("keys", "server"), ("keys", "client", "7"), ("keys", "cohort", "2", "--out", "a")):
        (line,) = run(*args, "--json")
        assert "fingerprint" in line
        json.loads(line)
    lines = run("--json", "keys", "show", "server.key", "a/roster", "client7.pub")
    server, roster, client = map(json.loads, lines)
    assert (server["type"], server["kind"], server["id"]) == ("private key", "server", None)
    assert (roster["version"], set(roster["clients"])) == (1, {"0", "1"})
    assert client["fingerprint"] == read_public("client7.pub").fingerprint


def test_quiet_prints_nothing_but_errors(run: Run, made: None) -> None:
    assert sign(run, 1, "--quiet") == []
    assert run("keys", "cohort", "1", "--out", "a", "--quiet") == []
    assert run("keys", "show", "roster", "--quiet", "--json") == []
    assert len(run("keys", "show", "none", "--quiet", code=2)) == 1


def test_a_flag_after_two_dashes_is_an_argument(run: Run) -> None:
    assert "no file --json" in run("keys", "show", "--", "--json", code=2)[0]


def test_version_and_help(run: Run) -> None:
    assert run("--version")[0].startswith("secagg ")
    assert any("Exit codes" in line for line in run("--help"))
    assert run() == run("--help")
    assert run("keys") == run("keys", "--help")


def test_the_help_names_every_exit_code(run: Run) -> None:
    text = run("--help")
    for code in (0, 1, 2, 3, 4, 130):
        assert any(line.strip().startswith(f"{code} ") for line in text)


def test_the_app_runs_without_main() -> None:
    result = CliRunner().invoke(fl.cli.app, ["keys", "server", "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["kind"] == "server"


# Errors


class ConfigError(ValueError):
    __module__ = "fl.config.run"


class DataError(ValueError):
    __module__ = "fl.data"


ForeignConfigError = type("ConfigError", (ValueError,), {"__module__": "elsewhere"})


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (secagg.errors.TooFewClients(3, 5, "masked-input"), 3, "3 clients left in round masked-input"),
        (secagg.errors.RemoteProtocolError("bad share", [7, 3]), 4, "bad share (culprits: clients 3, 7)"),
        (secagg.errors.RemoteProtocolError("bad server"), 4, "bad server"),
        (secagg.errors.LocalProtocolError("n is 2"), 2, "n is 2"),
        (secagg.errors.SecAggError("other"), 1, "other"),
        (transport.errors.TransportError("port in use:\n  choose another"), 1, "port in use: choose another"),
        (ConfigError("no such key"), 2, "no such key"),
        (DataError("no such data set"), 1, "no such data set"),
        (OSError(28, "No space left on device", "x"), 1, "No space left on device: x"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ModuleNotFoundError("x", name="torch.nn"), 1, "this needs torch: pip install 'secagg[fl]'"),
        (ModuleNotFoundError("x", name="sklearn"), 1, "this needs sklearn: pip install 'secagg[fl]'"),
        (ModuleNotFoundError("x", name="tenseal"), 1, "this needs tenseal: pip install 'secagg[ckks]'"),
        (ModuleNotFoundError("x", name="flwr"), 1, "this needs flwr: pip install 'secagg[flower]'"),
        (ModuleNotFoundError("x", name="ray"), 1, "this needs ray: pip install 'secagg[ray]'"),
        (ModuleNotFoundError("No module named 'y'", name="y"), 1, "internal: ModuleNotFoundError: No module"),
        (ZeroDivisionError("oops"), 1, "internal: ZeroDivisionError: oops (--debug shows where)"),
        (ForeignConfigError("x"), 1, "internal: "),
        (ValueError("x"), 1, "internal: ValueError: x"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_each_error_is_one_line_and_its_exit_code(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, line: str
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("fl.cli.keys.server", fail)
    (printed,) = run("keys", "server", code=code)
    assert printed.startswith(f"error: {line}")


def test_debug_shows_the_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fl.cli.keys.server", lambda *args, **options: 1 / 0)
    lines = run("keys", "server", "--debug", code=1)
    assert lines[0].startswith("Traceback")
    assert lines[-1].startswith("error: internal: ZeroDivisionError")


@pytest.mark.parametrize(
    "args", [["nothing"], ["keys", "nothing"], ["keys", "server", "--nothing"], ["--json"]]
)
def test_wrong_usage_is_one_line_that_names_the_help(run: Run, args: list[str]) -> None:
    (line,) = run(*args, code=2)
    assert line.startswith("error: ")
    assert "--help`" in line


# What is imported


@pytest.mark.parametrize("args", [["--help"], ["info", "--help"], ["keys", "server"], ["keys", "--help"]])
def test_torch_is_not_imported(args: list[str]) -> None:
    code = (
        "import sys; from fl.cli import main; assert main(sys.argv[1:]) == 0; "
        "slow = {'torch', 'sklearn', 'matplotlib', 'scipy', 'dp_accounting'}; "
        "print(slow & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=True)
    assert done.stderr == "set()\n"


# Output


def test_a_terminal_gets_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    screen.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdout", screen)
    out = Output()
    out.table([("a[b]", 1)], ("name", "value"), title="things")
    shown = screen.getvalue()
    for text in ("things", "name", "a[b]"):
        assert text in shown


def test_a_pipe_gets_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output()
    out.table([("a[b]", 1), ("c", 22)], ("name", "value"), title="things")
    lines = ["things", "name  value", "a[b]  1", "c     22"]
    assert capsys.readouterr().out.splitlines() == lines


def test_a_program_gets_records_only(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output(json=True)
    out.say("x")
    out.table([("x",)])
    out.record({"path": Path("a"), "loss": np.float32(0.5), "sum": np.arange(2), "none": float("nan")})
    assert capsys.readouterr().out == '{"path":"a","loss":0.5,"sum":[0,1],"none":null}\n'


def test_quiet_silences_warnings_too(capsys: pytest.CaptureFixture[str]) -> None:
    Output().warn("semi-honest")
    Output(quiet=True).warn("semi-honest")
    Output(quiet=True).record({"a": 1})
    assert capsys.readouterr() == ("", "warning: semi-honest\n")
