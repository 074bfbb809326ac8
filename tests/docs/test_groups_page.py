"""docs/groups.md: its commands can be typed, and what it names is there."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from fl.cli import main
from fl.cli.flags import in_flags
from secagg import Bounded, LocalProtocolError, Masking, Policy, RemoteProtocolError, throwaway_identities
from tests.cli.commands import Command, at_once
from tests.docs.pages import code
from tests.docs.typed import can_be_typed

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "groups.md").read_text()
LINES = [line.removeprefix("$ ") for line in TEXT.splitlines()]


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("secagg ")])
def test_a_command_can_be_typed(line: str) -> None:
    can_be_typed(line)


def test_groups_that_are_too_small_are_refused_in_these_words() -> None:
    roster, _ = throwaway_identities(range(40))
    with pytest.raises(LocalProtocolError) as caught:
        Masking.for_cohort(40, Bounded(length=1, bound=1.0), roster=roster, groups=8)
    assert f"error: {in_flags(str(caught.value))}" in LINES


def test_a_client_that_takes_no_groups_is_told_in_these_words() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        Policy().check_groups(3, public_weights=False, unsafe=False, stay=True)
    assert f"error: {in_flags(str(caught.value))}" in LINES


def test_tests_that_are_named_are_there() -> None:
    there = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    named = {each for line in TEXT.splitlines() for each in code(line) if each.startswith("test_")}
    assert len(named) == 1
    assert named <= there


@pytest.mark.slow
def test_the_federation_over_a_network_is_run_as_it_stands_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its two clients' lines by turns for all twelve."""
    for name, body in re.findall(
        r"^<!-- file: (\S+) -->\n```toml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL
    ):
        (tmp_path / name).write_text(body, encoding="utf-8")
    shutil.copy(ROOT / "examples" / "my_task.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    keys, serve, *joins = [line for line in LINES if re.match(r"secagg (keys|serve|join) ", line)]
    assert main(shlex.split(keys)[1:]) == 0
    server = Command(*shlex.split(serve)[1:], "--bind", "tcp://127.0.0.1:*", "--json")
    endpoint = re.findall(r"tcp://[\d.:]+", server.line_with("listening"))[0]
    lines = []
    for u in range(12):
        (tmp_path / f"client{u}").mkdir()
        line = joins[u % 2].replace("tcp://127.0.0.1:5555", endpoint)
        lines.append(shlex.split(re.sub(r"client[01]\b", f"client{u}", line))[1:])
    with at_once(lines) as joined:
        assert {client.result() for client in joined} == {0}
    ran = server.end()
    assert ran.code == 0
    rounds = [each["training_round"] for each in ran.records if "training_round" in each]
    assert [(each["alive"], each["sums"]) for each in rounds] == [(12, 4)] * 2
