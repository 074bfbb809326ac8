"""What there is to show of a run, read of its folder."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fl.cli import main
from fl.cli.report import round_fields
from fl.config.run import RunConfig
from fl.config.section import ConfigError
from fl.federation.records import RoundRecord
from fl.page.state import ProtocolRound, RunState, TrainingRound
from tests.fl.leakage.helpers import quick_attack
from transport import RoundReport

NOISE = ("--privacy", "distributed", "--clip", "0.5", "--noise-multiplier", "0.5")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two rounds, with noise and a meter."""
    folder: Path = tmp_path_factory.mktemp("run") / "mine"
    small = ("--clients", "3", "--rounds", "2", "--model", "logistic", "--execution", "sequential")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fl.leakage.apart.run", quick_attack)
        line = ["train", "--quiet", *small, *NOISE, "--meter", "--no-baseline", "--out", str(folder)]
        assert main(line) == 0
    return folder


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    shutil.copytree(run, tmp_path / "copy")
    return tmp_path / "copy"


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_folder_tells_of_its_run(run: Path) -> None:
    state, written = RunState.of_folder(run), lines(run)
    assert (state.name, state.status, state.total) == ("mine", "ended", 2)
    assert state.title == "masking, distributed noise: logistic on digits, 3 clients"
    settings = dict(state.settings)
    assert (settings["clients"], settings["clip"], settings["noise_multiplier"]) == ("3", "0.5", "0.5")
    assert [each.accuracy for each in state.rounds] == [each["accuracy"] for each in written]
    last = written[-1]
    assert (state.epsilon, state.delta, state.against, state.honest) == (
        *(last["epsilon"], last["delta"], last["against"], last["honest"]),
    )
    assert state.accuracy == last["accuracy"]
    assert state.ledger is not None
    assert state.ledger.report.sessions == 2
    assert state.ledger.lines[0].startswith("updates: no combination of the last 2 of 2 sums isolates")
    assert state.meter is not None
    assert state.meter.scheme == "masking"
    assert "accuracy.png" in {path.name for path in state.pictures}


def test_what_it_reads_is_what_is_written() -> None:
    """By the same names; of a round of a session all of it."""
    written = {field.name for field in dataclasses.fields(RoundRecord)}
    assert {field.name for field in msgspec.structs.fields(TrainingRound)} <= written
    report = RoundReport("share-keys", frozenset({0, 1}), {2: "late"}, {0: 3}, {0: 4}, 5, 6, 0.25)
    fields = json.loads(json.dumps(round_fields(report)))
    read = json.loads(msgspec.json.encode(msgspec.convert(fields, ProtocolRound)))
    assert read == read | fields


def test_a_run_that_was_stopped_has_rounds_to_go_and_noise_may_be_spent_on_one_more(copy: Path) -> None:
    (copy / "accuracy.png").unlink()
    written = (copy / "metrics.jsonl").read_text().splitlines(keepends=True)
    (copy / "metrics.jsonl").write_text(written[0] + written[1][:40])  # the second is being written
    state = RunState.of_folder(copy)
    assert (len(state.rounds), state.status, state.unfinished) == (1, "unfinished", 1)
    assert state.epsilon == json.loads(written[0])["epsilon"]
    assert state.why == "1 round of 2: under way, or stopped"


def test_a_loss_that_is_no_number_is_read(copy: Path) -> None:
    text = (copy / "metrics.jsonl").read_text().splitlines()
    record = json.loads(text[1]) | {"loss": float("nan")}
    (copy / "metrics.jsonl").write_text(f"{text[0]}\n{json.dumps(record)}\n")
    state = RunState.of_folder(copy)
    assert state.rounds[1].loss != state.rounds[1].loss
    assert json.loads(msgspec.json.encode(state.rounds[1]))["loss"] is None


def test_nothing_of_the_machine_is_told(run: Path) -> None:
    """Neither secrets nor paths, but for those of pictures, which are there to be read."""
    config = RunConfig.read(run / "config.json").with_(data_dir="/a/place", noise_multiplier=0.75)
    told = str(RunState.of_config(config, "mine")) + str(
        msgspec.structs.replace(RunState.of_folder(run), pictures=())
    )
    assert "0.75" in told
    assert "/a/place" not in told
    assert str(run) not in told
    for secret in run.rglob("*.secret"):
        assert secret.read_bytes().hex() not in told


def test_no_field_holds_bytes() -> None:
    """As keys, masks, shares and secrets are; vectors are arrays, which no field holds either."""
    parts, known = [msgspec.inspect.type_info(RunState)], set[object]()
    plain = msgspec.inspect.IntType | msgspec.inspect.FloatType | msgspec.inspect.StrType
    while parts:
        part = parts.pop()
        fields = [field.type for field in getattr(part, "fields", ()) if field.name != "pictures"]
        inner = [
            getattr(part, name) for name in ("item_type", "key_type", "value_type") if hasattr(part, name)
        ]
        whole = (*getattr(part, "types", ()), *getattr(part, "item_types", ()), *fields, *inner)
        assert whole or isinstance(
            part, plain | msgspec.inspect.NoneType | msgspec.inspect.LiteralType | msgspec.inspect.BoolType
        ), part
        parts += [each for each in whole if id(each) not in known]
        known |= {id(each) for each in whole}


def damaged(copy: Path, name: str, content: bytes) -> str:
    (copy / name).write_bytes(content)
    with pytest.raises(ConfigError) as raised:
        RunState.of_folder(copy)
    (line,) = str(raised.value).splitlines()
    return line


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("metrics.jsonl", b"{}\n", "line 1 is not a round of a training: Object missing required field"),
        ("metrics.jsonl", b"[1\n", "line 1 is not a round of a training"),
        ("metrics.jsonl", b"[" * 100_000 + b"\n", "line 1 is not a round of a training"),
        ("metrics.jsonl", b"\xff\n", "metrics.jsonl: not what a run leaves, from byte 0 on: not UTF-8"),
        ("ledger.json", b"{", "ledger.json is not what a run leaves there: "),
        ("ledger.json", b'{"report": {"sessions": "many"}}', "ledger.json is not what a run leaves there: "),
        ("meter.json", b"[]", "meter.json is not what a run leaves there: "),
        ("config.json", b"[]", "config.json"),
    ],
)
def test_a_damaged_file_is_one_clear_line(copy: Path, name: str, content: bytes, says: str) -> None:
    assert says in damaged(copy, name, content)


def test_lines_of_other_rounds_are_refused(copy: Path) -> None:
    second = (copy / "metrics.jsonl").read_bytes().splitlines()[1]
    assert "line 1 is of round 2" in damaged(copy, "metrics.jsonl", second + b"\n")


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    for folder, says in (
        (tmp_path / "none", "is no folder: name one that secagg train or secagg serve has left"),
        (tmp_path, "holds no run"),
    ):
        with pytest.raises(ConfigError, match=says):
            RunState.of_folder(folder)


def test_it_is_read_without_torch() -> None:
    code = "import sys, fl.page.state; sys.exit(bool({'torch', 'transport'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
