"""What a run goes on from: the file, what becomes of it when it is damaged, and that nothing is lost."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fl.cohort.layout import lay_out
from fl.config.run import CHOICES, RunConfig
from fl.config.secret import RunSecrets
from fl.config.section import ConfigError
from fl.data import files
from fl.federation.records import Trained
from fl.federation.server import Server
from fl.federation.simulation import SimulatedCohort
from fl.training import checkpoint
from fl.training.checkpoint import FILE, Checkpoint, read_checkpoint, write_checkpoint

vectors = hnp.arrays(np.float64, st.integers(0, 6), elements=st.floats(width=64))
checkpoints = st.builds(
    Checkpoint,
    st.binary(min_size=16, max_size=16),
    st.integers(1, 2**63 - 1),
    vectors,
    st.fixed_dictionaries({"m": vectors, "v": vectors}),
    st.binary(max_size=20),
)
SOME = Checkpoint(bytes(range(16)), 3, np.arange(4.0), {"m": np.ones(2), "v": np.empty(0)}, b"lines")


# The file


def same(one: Checkpoint, other: Checkpoint) -> bool:
    return (
        (one.run, one.round, one.rest, one.memory.keys())
        == (other.run, other.round, other.rest, other.memory.keys())
        and one.parameters.tobytes() == other.parameters.tobytes()
        and all(one.memory[name].tobytes() == other.memory[name].tobytes() for name in one.memory)
    )


@given(written=checkpoints)
def test_what_is_read_is_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, written: Checkpoint
) -> None:
    """To the bit: every float64, NaN among them."""
    folder = tmp_path_factory.mktemp("run")
    write_checkpoint(folder, SOME)
    write_checkpoint(folder, written)
    read = read_checkpoint(folder)
    assert same(read, written)
    assert read.parameters.dtype == np.float64
    assert [path.name for path in folder.iterdir()] == [FILE]


def test_a_folder_without_one_says_when_there_is_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"checkpoint\.bin is not readable .*after its first round"):
        read_checkpoint(tmp_path)


def test_one_of_another_version_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "VERSION", 2)
    write_checkpoint(tmp_path, SOME)
    monkeypatch.undo()
    with pytest.raises(ConfigError, match=r"checkpoint\.bin is of another version of this program"):
        read_checkpoint(tmp_path)


def test_one_that_could_not_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path, SOME)

    def full(_descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_checkpoint(tmp_path, Checkpoint(bytes(16), 4, np.zeros(4), {}))
    assert same(read_checkpoint(tmp_path), SOME)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


# Damage


def with_checksum(content: bytes) -> bytes:
    return sha256(content).digest() + content


def reads_or_refuses(folder: Path, content: bytes) -> bool:
    """Whether it is read; nothing else can happen than that, or ConfigError with the file's name."""
    (folder / FILE).write_bytes(content)
    try:
        read = read_checkpoint(folder)
    except ConfigError as refused:
        words = str(refused)
    else:
        words = ""
    if words:
        assert words.startswith(str(folder / FILE))
        assert "begin the run anew" in words
        return False
    assert isinstance(read, Checkpoint)
    assert (len(read.run), type(read.round), type(read.rest)) == (16, int, bytes)
    assert read.round >= 1
    for vector in (read.parameters, *read.memory.values()):
        assert (vector.dtype, vector.ndim) == (np.float64, 1)
    return True


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, SOME)
    whole = (tmp_path / FILE).read_bytes()
    assert reads_or_refuses(tmp_path, whole)
    for length in range(len(whole)):
        assert not reads_or_refuses(tmp_path, whole[:length])
    assert not reads_or_refuses(tmp_path, whole + b"\0")


def test_every_flipped_bit_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, SOME)
    whole = (tmp_path / FILE).read_bytes()
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        assert not reads_or_refuses(tmp_path, bytes(flipped))


@given(content=st.binary(max_size=100), signed=st.booleans())
def test_any_bytes_are_a_checkpoint_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, signed: bool
) -> None:
    """signed: under their right checksum."""
    reads_or_refuses(tmp_path_factory.mktemp("run"), with_checksum(content) if signed else content)


@pytest.mark.parametrize(
    "changed",
    [
        {"run": bytes(15)},
        {"round": 0},
        {"parameters": bytes(7)},
        {"memory": {"m": bytes(9)}},
        {"memory": {1: b""}},
        {"rest": "text"},
        {"tag": "task"},
        {"more": 1},
    ],
    ids=str,
)
def test_a_field_that_will_not_do_is_damage(tmp_path: Path, changed: dict[str, Any]) -> None:
    fields = {
        "tag": "checkpoint",
        "version": 1,
        "run": bytes(16),
        "round": 1,
        "parameters": b"",
        "memory": {},
    }
    for content, taken in ((fields | {"rest": b""}, True), (fields | {"rest": b""} | changed, False)):
        (tmp_path / FILE).write_bytes(with_checksum(msgspec.msgpack.encode(list(content.values()))))
        if taken:
            assert read_checkpoint(tmp_path).round == 1
        else:
            with pytest.raises(ConfigError, match=r"is damaged \(.*\): begin the run anew, with --force"):
                read_checkpoint(tmp_path)


# A run that goes on


RUN: dict[str, Any] = {
    "clients": 6,
    "sample": 4,
    "rounds": 4,
    "model": "logistic",
    "lr": 0.1,
    "local_steps": 3,
    "examples_per_client": 30,
    "server_lr": 0.1,
    "execution": "batched",
}
SECRETS = RunSecrets.of_seed(0)


def train(config: RunConfig, resume: Checkpoint | None = None, rounds: int | None = None) -> list[Trained]:
    """All that is left of the run, or so many rounds of it; all with secrets of their own."""
    layout = lay_out(config)
    cohort = SimulatedCohort(config, layout, secrets=SECRETS.clients(6))
    server = Server(cohort, config, layout.serving, resume, secret=SECRETS.server)
    left = server.rounds(None, lambda report: None)
    return [trained for trained, _ in zip(left, range(rounds or config.training.rounds), strict=False)]


CASES = [("masking", step, "logistic") for step in CHOICES["server"]]
CASES += [("plain", "yogi", "logistic"), ("masking", "adam", "tolpegin-fmnist")]


@pytest.mark.parametrize(("scheme", "step", "model"), CASES)
def test_a_run_that_was_interrupted_after_any_round_ends_with_the_same_bits(
    tmp_path: Path, scheme: str, step: str, model: str
) -> None:
    """Who is chosen, what is rounded how, what the optimiser remembers, running statistics."""
    few = {"rounds": 3, "sample": 3} if model != "logistic" else {}
    config = RunConfig.of(**RUN | {"scheme": scheme, "server": step, "model": model} | few)
    begun = train(config, rounds=1)
    # A run has an id of its own, which decides how clients train: so both go on from one first round.
    whole = begun + train(config, begun[0].checkpoint)
    for interrupted in range(1, config.training.rounds):
        write_checkpoint(tmp_path, whole[interrupted - 1].checkpoint)
        resumed = train(config, read_checkpoint(tmp_path))
        assert [trained.record.round for trained in resumed] == [
            *range(interrupted + 1, config.training.rounds + 1)
        ]
        for one, other in zip(whole[interrupted:], resumed, strict=True):
            assert one.parameters.tobytes() == other.parameters.tobytes()
            assert one.survivors == other.survivors
            assert same(one.checkpoint, other.checkpoint)
    assert len({trained.survivors for trained in whole}) > 1


def test_without_their_secrets_clients_round_and_order_otherwise() -> None:
    """What the test above shows is not so by itself."""
    config = RunConfig.of(**RUN | {"rounds": 2})
    (first,) = train(config, rounds=1)
    (one,) = train(config, first.checkpoint)
    layout = lay_out(config)
    cohort = SimulatedCohort(config, layout)
    server = Server(cohort, config, layout.serving, first.checkpoint, secret=SECRETS.server)
    (other,) = server.rounds(None, lambda report: None)
    assert one.survivors == other.survivors
    assert not np.array_equal(one.parameters, other.parameters)


def test_a_run_that_is_done_has_no_round_left() -> None:
    config = RunConfig.of(**RUN | {"rounds": 1, "scheme": "plain"})
    (only,) = train(config)
    assert train(config, only.checkpoint) == []


def test_a_round_that_was_abandoned_can_be_gone_on_from() -> None:
    config = RunConfig.of(**RUN | {"scheme": "plain", "rounds": 2, "links": "lte", "deadline": 1e-6})
    first, second = train(config)
    assert first.record.abandoned
    (again,) = train(config, first.checkpoint)
    assert again.record.abandoned == second.record.abandoned
    assert np.array_equal(again.parameters, first.parameters)


@pytest.mark.parametrize(
    "foreign",
    [
        Checkpoint(bytes(16), 1, np.zeros(7), {"m": np.zeros(7), "v": np.zeros(7)}),
        Checkpoint(bytes(16), 1, np.zeros(650), {"m": np.zeros(650), "v": np.empty(0)}),
        Checkpoint(bytes(16), 1, np.zeros(650), {}),
        Checkpoint(bytes(16), 1, np.full(650, np.nan), {"m": np.zeros(650), "v": np.zeros(650)}),
        Checkpoint(bytes(16), 1, np.zeros(650), {"m": np.zeros(650), "v": np.full(650, np.inf)}),
    ],
    ids=["another model", "another optimiser", "none", "not finite", "memory not finite"],
)
def test_what_another_run_left_is_refused(foreign: Checkpoint) -> None:
    with pytest.raises(ConfigError, match=r"the checkpoint is not one of this run .*: begin the run anew"):
        train(RunConfig.of(**RUN | {"server": "adam"}), foreign)
