"""`secagg demo` as its user sees it."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import SECAGG, Command, Ran, is_one_line, secagg

from fl.cli.demo import client_process
from secagg.masking.server import MaskingServer
from transport.frames import CHUNK_BYTES, wire_bytes

ROUNDS = ["join", "advertise-keys", "share-keys", "masked-input", "consistency-check", "unmasking"]
Here = Callable[..., Ran]


@pytest.mark.slow
def test_clients_lost_in_every_round_and_in_mid_upload_leave_an_exact_sum(
    tmp_path: Path, without_torch: dict[str, str]
) -> None:
    """As the issue has it: twenty processes, a million coordinates, and torch is not imported in any."""
    drops = {
        "3": "share-keys",
        "5": "masked-input:50%",
        "7": "unmasking",
        "9": "advertise-keys",
        "11": "masked-input",
    }
    flags = [flag for u, round in drops.items() for flag in ("--drop", f"{u}@{round}")]
    env = without_torch | {"TMPDIR": str(tmp_path)}
    ran = secagg("demo", "--clients", "20", "--length", "1000000", *flags, "--json", env=env)
    assert (ran.code, ran.err) == (0, "")
    *rounds, total, words, traffic = ran.records
    assert [report["round"] for report in rounds] == ROUNDS
    lost = {report["round"]: report["lost"] for report in rounds}
    assert lost == {
        "join": {},
        "advertise-keys": {"9": "vanished"},
        "share-keys": {"3": "vanished"},
        "masked-input": {"5": "vanished", "11": "vanished"},
        "consistency-check": {},
        "unmasking": {"7": "vanished"},
    }
    assert total["survivors"] == sorted(set(range(20)) - {3, 5, 9, 11})
    assert total["exact"] is True
    assert total["largest_error"] <= total["error_bound"]
    upload = rounds[3]["bytes_up"] // 16
    half = rounds[3]["wire_up"] - 16 * wire_bytes(upload, 3)[0]
    assert CHUNK_BYTES < half < 0.51 * upload
    assert 8 * upload / 10**6 < 21.01  # exactly b bits a coordinate, and a header
    assert words["masked"] != words["words"]
    assert traffic["bytes_up"] > upload
    assert list(tmp_path.iterdir()) == []


def test_the_story_is_told_round_by_round(here: Here) -> None:
    ran = here("demo", "--clients", "7", "--length", "20", "--drop", "1@masked-input", "--drop", "2@join")
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    at = [next(i for i, line in enumerate(lines) if line.startswith(f"{round}: ")) for round in ROUNDS]
    assert at == sorted(at)
    for i, (alive, lost) in zip(at, [(6, "2"), (6, ""), (6, ""), (5, "1"), (5, ""), (5, "")], strict=True):
        cells = lines[i + 1]
        assert f"{alive} alive" in cells
        assert all(word in cells for word in (" up ", " down ", " ms"))
        assert ("lost" in cells) == bool(lost)
        assert not lost or f"lost: {lost} vanished" in cells
    assert "survivors: 0, 3, 4, 5, 6" in lines
    assert "the server's sum equals the sum of the words of 5 survivors exactly, in the ring" in ran.out
    assert "active server" in ran.out
    assert "masking gives no integrity" in ran.out
    header = lines.index("client 0") + 1
    assert lines[header].split("  ") == [
        "coordinate",
        "its input",
        "words in the ring",
        "masked words, as sent",
    ]
    assert [len(line.split()) for line in lines[header + 1 : header + 7]] == [4] * 6
    formula = [line.split() for line in lines if "/" in line and line.split()[0] in ROUNDS]
    assert [f"{up} / {down}" for _, up, down, *_ in formula] == [" ".join(row[3:]) for row in formula]
    assert len(formula) == 6


def test_a_client_that_vanished_has_no_masked_words_to_show(here: Here) -> None:
    ran = here("demo", "--clients", "4", "--length", "9", "--show", "1", "--drop", "1@share-keys")
    assert (ran.code, ran.err) == (0, "")
    assert "client 1 sent no masked words: it vanished before" in ran.out


def test_two_runs_with_one_seed_share_no_masked_word(here: Here) -> None:
    """Of 35 bits: chance does not make two equal."""
    runs = [
        here("demo", "--clients", "3", "--length", "6", "--bits", "32", "--seed", "4", "--json")
        for _ in range(2)
    ]
    first, second = (ran.records[-2] for ran in runs)
    assert first["input"] == second["input"]
    assert len(set(first["masked"]) | set(second["masked"])) == 12
    assert not set(first["masked"]) & set(first["words"])


def test_plain_says_that_nothing_is_protected(here: Here) -> None:
    ran = here("demo", "--clients", "3", "--length", "9", "--scheme", "plain", "--drop", "2@input")
    assert (ran.code, ran.err) == (0, "")
    assert "NOTHING IS PROTECTED" in ran.out
    assert "survivors: 0, 1" in ran.out
    assert "exactly" not in ran.out


def test_quiet_prints_nothing(here: Here) -> None:
    assert here("demo", "--clients", "3", "--length", "9", "--quiet") == Ran(0, "", "")


def test_a_client_that_is_lost_too_many_ends_with_code_3(here: Here) -> None:
    drops = ["--drop", "0@share-keys", "--drop", "1@masked-input"]
    trust = ["--adversary", "semi-honest", "--corrupt", "0"]
    ran = here("demo", "--clients", "3", "--length", "9", *drops, *trust)
    is_one_line(ran, 3, "1 client left in round masked-input, 2 needed: no sum, nothing revealed")


def client_whose_process_ends_early(*args: Any) -> None:
    own: Path = args[3]
    if own.name == "client2":
        sys.exit(1)
    client_process(*args)


def test_who_lives_is_waited_for_and_who_has_ended_is_not(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no deadline: of two clients that have not joined, one never will."""
    monkeypatch.setattr("fl.cli.demo.client_process", client_whose_process_ends_early)
    monkeypatch.setattr("transport.server.JOIN_SECONDS", 0.0)
    ran = here("demo", "--clients", "4", "--length", "9", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert ran.records[0]["lost"] == {"2": "vanished"}
    assert ran.records[-3]["survivors"] == [0, 1, 3]


def test_unless_there_is_a_deadline(here: Here) -> None:
    ran = here("demo", "--clients", "3", "--length", "9", "--deadline", "0.000001")
    is_one_line(ran, 3, "0 clients left in round join, 3 needed")
    ran = here("demo", "--clients", "3", "--deadline", "-1")
    is_one_line(ran, 2, "--deadline -1: a number of seconds above 0")


def test_a_sum_that_is_not_the_survivors_ends_with_code_4(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One server, off by one in one word."""
    unmask = MaskingServer._unmask

    def wrong(server: MaskingServer) -> Any:
        total = unmask(server)
        total.codes[""][3] += np.int64(1)
        return total

    monkeypatch.setattr(MaskingServer, "_unmask", wrong)
    ran = here("demo", "--clients", "3", "--length", "9")
    is_one_line(ran, 4, "the sum is not the sum of the survivors' words")


def test_traffic_that_is_not_the_formulas_ends_with_code_4(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fl.cli.traffic.traffic", lambda *args: {"join": (1, 2)})
    ran = here("demo", "--clients", "3", "--length", "9")
    is_one_line(ran, 4, "join: 41 and 0 bytes, the formula says (1, 2)")


@pytest.mark.parametrize("moment", ["starting 4 processes", "join: "])
def test_ctrl_c_ends_every_process_and_leaves_nothing(tmp_path: Path, moment: str) -> None:
    env = {"TMPDIR": str(tmp_path)}
    command = Command("demo", "--clients", "4", "--length", "5000000", env=env)
    command.line_with(moment)
    command.interrupt()
    ran = command.end()
    assert (ran.code, ran.err) == (130, "error: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_so_does_a_request_to_end(tmp_path: Path) -> None:
    command = Command("demo", "--clients", "4", "--length", "5000000", env={"TMPDIR": str(tmp_path)})
    command.line_with("share-keys: ")
    command.terminate()
    command.terminate()  # as who waits impatiently does
    ran = command.end()
    assert (ran.code, ran.err) == (130, "error: interrupted\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_may_be_closed(tmp_path: Path, closed: str) -> None:
    line = f"exec {shlex.quote(SECAGG)} demo --clients 3 --length 50 {closed}"
    ran = subprocess.run(["sh", "-c", line], cwd=tmp_path)
    assert ran.returncode == 0


@pytest.mark.parametrize("args", [["--help"], ["demo", "--help"], ["keys", "--help"], ["serve", "--help"]])
def test_help_imports_nothing_heavy(without_torch: dict[str, str], args: list[str]) -> None:
    ran = secagg(*args, env=without_torch)
    assert (ran.code, ran.err) == (0, "")
    assert "Usage: secagg" in ran.out
