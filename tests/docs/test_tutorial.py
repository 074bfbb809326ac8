"""docs/tutorial.md: every command of it is run, as it stands there, and every file of it checked."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from fl.config.run import RunConfig
from tests.docs.typed import can_be_typed

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tutorial.md"
TEXT = PAGE.read_text(encoding="utf-8")
FILES = dict(re.findall(r"^<!-- file: (\S+) -->\n```\w+\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))
"""What the page says to write, by machine and name."""
TYPED = [
    (who, line)
    for block in re.findall(r"^```console\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    for who, line in re.findall(r"^(\w+\$|#) (.+)$", block, re.MULTILINE)
]
"""All that it says to type: (prompt, command line)."""
MACHINES = ("server", "ward", "keeper")
UNITS = [name for name in FILES if name.endswith(".service")]
SCP = """#!/bin/sh
# The machines are folders beside each other.
for last; do :; done
while [ $# -gt 1 ]; do cp "$1" "../${last%%:*}/" || exit 1; shift; done
"""
PATIENCE = 900  # of a machine that does other things beside


def test_what_stands_in_a_block_is_typed_or_written() -> None:
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert {prompt for prompt, _ in TYPED} == {"#", *(f"{name}$" for name in MACHINES)}
    lines = [line for kind, body in blocks if kind == "console" for line in body.splitlines()]
    assert len(lines) == len(TYPED)
    assert sum(kind != "console" for kind, _ in blocks) == len(FILES)


@pytest.mark.parametrize(("who", "line"), [each for each in TYPED if "secagg " in each[1]])
def test_what_is_typed_can_be(who: str, line: str) -> None:
    if (command := re.search(r"(?:^| )(secagg (?:keys|train|serve|join|evaluate) .*)", line)) is not None:
        can_be_typed(command[1])
    else:
        assert who == "#"


def environment(folder: Path) -> dict[str, str]:
    """With our `secagg` and `python3` first, and a copy for `scp`."""
    tools = folder / "tools"
    tools.mkdir()
    (tools / "scp").write_text(SCP, encoding="utf-8")
    (tools / "scp").chmod(0o755)
    # No link: Python looks beside what it was called by for its packages.
    (tools / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', encoding="utf-8")
    (tools / "python3").chmod(0o755)
    (tools / "secagg").symlink_to(Path(sys.executable).with_name("secagg"))
    return {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}


def a_free_port() -> int:
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        return int(some.getsockname()[1])


@pytest.mark.slow
def test_every_command_of_the_page_is_run_and_does_what_it_says(tmp_path: Path) -> None:
    for name in MACHINES:
        (tmp_path / name).mkdir()
    for name, body in FILES.items():
        (tmp_path / name).write_text(body, encoding="utf-8")
    shutil.copy(ROOT / "examples" / "my_task.py", tmp_path / "ward")
    env, port, running = environment(tmp_path), a_free_port(), list[subprocess.Popen[str]]()
    try:
        for prompt, line in TYPED:
            if prompt == "#":
                continue
            there = tmp_path / prompt.removesuffix("$")
            line = line.replace("tcp://*:5555", f"tcp://127.0.0.1:{port} --deadline {PATIENCE}")
            line = line.replace("tcp://server:5555", f"tcp://127.0.0.1:{port} --patience {PATIENCE}")
            stays = shlex.split(line)[1] in ("serve", "join")
            if not stays:
                ended(running)  # of whoever types in another terminal, once the run is over
            began = subprocess.Popen(
                ["bash", "-c", f"exec {line}"],
                **{"cwd": there, "env": env, "text": True},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            running.append(began)
            if not stays:
                ended(running)
        ended(running)
    finally:
        for each in running:
            each.kill()
            each.communicate()
    metrics = (tmp_path / "server" / "run" / "metrics.jsonl").read_text(encoding="utf-8")
    assert len(metrics.splitlines()) == 5
    saved = {name: in_archive(tmp_path / name) for name in ("server/server.tgz", "ward/client0.tgz")}
    assert {"server.key", "my_task.py", "run/checkpoint.bin"} <= set(saved["server/server.tgz"])
    records = [path.name for path in (tmp_path / "ward").glob("client0.key.*")]
    assert records
    assert not set(records) & set(saved["ward/client0.tgz"])


def in_archive(path: Path) -> list[str]:
    with tarfile.open(path) as archive:
        return archive.getnames()


def ended(running: list[subprocess.Popen[str]]) -> None:
    """Wait for all that was begun, each of which has to end well."""
    while running:
        out, _ = running[0].communicate(timeout=PATIENCE)
        assert running.pop(0).returncode == 0, out


# What is written


def test_the_run_of_the_page_is_one(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(FILES["server/run.toml"], encoding="utf-8")
    config = RunConfig.read(tmp_path / "run.toml", tell=pytest.fail)
    assert (config.training.task, config.data.max_examples) == (str(tmp_path / "my_task.py"), 200)


def test_the_firewall_lets_in_the_port_of_the_run_and_no_other_is_named() -> None:
    rules = FILES["server/secagg.nft"]
    assert set(re.findall(r"dport (\d+)", rules)) == set(re.findall(r"tcp://\*:(\d+)", TEXT))
    assert rules.count("{") == rules.count("}")
    assert re.findall(r"@(\w+)", rules) == re.findall(r"set (\w+)", rules)


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_is_one_that_systemd_takes(tmp_path: Path, name: str) -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=True)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(FILES[name])
    assert unit.sections() == ["Unit", "Service", "Install"]
    command = unit["Service"]["ExecStart"]
    assert unit["Service"]["User"] != "root"
    can_be_typed(command.removeprefix("/opt/secagg/bin/").replace("%i", "0"))
    # What it writes to outlives it; and the folders that it does not make itself, systemd makes.
    folders = [f"/var/lib/{name}" for name in unit["Service"]["StateDirectory"].split()]
    assert set(re.findall(r"--(?:state|data) (\S+)", command)) <= set(folders)
    assert all(path.startswith(f"{folders[0]}/") for path in re.findall(r"--out (\S+)", command))
    if shutil.which("systemd-analyze") is None:
        return
    here = str(Path(sys.executable).with_name("secagg"))
    there = FILES[name].replace("/opt/secagg/bin/secagg", here).replace("User=secagg\n", "")
    assert complaints(tmp_path / Path(name).name, there) == []
    assert complaints(tmp_path / Path(name).name, there.replace(here, "/no/such/command")) != []


def complaints(path: Path, unit: str) -> list[str]:
    """What systemd says of a unit, and not of any that it stands upon."""
    path.write_text(unit, encoding="utf-8")
    verify = ["systemd-analyze", "verify", str(path)]
    ran = subprocess.run(verify, capture_output=True, text=True, timeout=PATIENCE)
    stem = path.name.removesuffix(".service").removesuffix("@")
    return [line for line in ran.stderr.splitlines() if stem in line]


def test_the_container_file_builds_what_there_is_and_holds_no_key() -> None:
    lines = [line.split(None, 1) for line in FILES["ward/Containerfile"].splitlines()]
    assert [word for word, _ in lines] == ["FROM", "COPY", "RUN", "RUN", "USER", "WORKDIR", "ENTRYPOINT"]
    said = dict(lines)
    (version,) = re.findall(r"/python:3\.(\d+)-", said["FROM"])
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f"Python :: 3.{version}" in project
    assert "\nfl = [" in project
    assert (ROOT / "constraints.txt").exists()
    assert (said["USER"], said["ENTRYPOINT"]) == ("secagg", '["secagg"]')
    assert not re.search(r"\.key|roster|my_task", FILES["ward/Containerfile"])
