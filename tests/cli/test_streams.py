"""Whatever stdout is, a command does its work: a terminal of ASCII, a reader who leaves, a full disk."""

from __future__ import annotations

import io
import os
import subprocess
from pathlib import Path
from typing import IO, Any

import pytest
from commands import SECAGG, secagg

from fl.cli.output import Output
from fl.cli.streams import Stream, bearing


def written(encoding: str, text: str) -> bytes:
    content = io.BytesIO()
    stream = Stream(io.TextIOWrapper(content, encoding=encoding))
    stream.write(text)
    stream.flush()
    return content.getvalue()


@pytest.mark.parametrize(
    ("text", "ascii"),
    [
        ("5 numbers in ±1, 16 bits each", b"5 numbers in +/-1, 16 bits each"),
        ("╭─ 3 × é │", b"-- 3 x e? |"),
        ("run\udcff.toml", b"run?.toml"),
        ("mean 日", b"mean ?"),
    ],
)
def test_what_a_terminal_lacks_is_spelled(text: str, ascii: bytes) -> None:
    assert written("ascii", text) == ascii
    if "\udcff" not in text:
        assert written("utf-8", text) == text.encode()


def test_json_is_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output(json=True)
    out.record({"a": "±𝟙", "b": float("nan")})
    out.record({"wrote": Path("run\udcff")})
    exact, of_a_file = capsys.readouterr().out.splitlines()
    assert exact == r'{"a":"\u00b1\ud835\udfd9","b":null}'
    assert of_a_file == r'{"wrote": "run\udcff"}'


def test_a_command_on_a_terminal_of_ascii() -> None:
    ran = secagg("--help", env={"PYTHONIOENCODING": "ascii"})
    assert (ran.code, ran.err) == (0, "")
    assert "secagg" in ran.out
    assert ran.out.isascii()


def into(stdout: int | IO[Any], *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SECAGG, *args], stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)


@pytest.mark.parametrize("args", [("list", "data"), ("--help",), ("list", "data", "--json")])
def test_a_reader_who_has_left_stops_nothing(args: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ran = into(writer, *args)
    os.close(writer)
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_disk_that_is_full_is_told() -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        ran = into(full, "list", "data")
    words = "error: what was printed is not complete: No space left on device\n"
    assert (ran.returncode, ran.stderr) == (1, words)


def test_the_streams_are_as_before_afterwards(capsys: pytest.CaptureFixture[str]) -> None:
    with bearing():
        print("within")
    print("after")
    assert capsys.readouterr().out == "within\nafter\n"
