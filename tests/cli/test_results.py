"""Results are not lost for want of a place: it is tried before the work, and at the end there are others."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import Command, Ran, at_once, is_one_line
from test_serve_join import CLIENTS, LENGTH, client_options, keys, listening, server_options, vector

import fl
from fl.cli import results
from fl.cli.results import Kept, ResultError, check_file, check_folder, npy, write_result
from fl.config.section import ConfigError

__all__ = ["keys"]
Here = Callable[..., Ran]


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every folder, also for root."""

    def refuse(dir: Path, prefix: str) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(dir))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)


def test_a_file_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "there.npy").write_bytes(b"precious")
    os.mkfifo(tmp_path / "pipe")
    for name, words in {
        "none/mean.npy": "there is no folder .*none: make it, or choose another --out",
        "there.npy": "exists: choose another --out, or replace it with --force",
        "there.npy/mean.npy": "there is no folder .*there.npy",
        "": "is a folder: name a file in it with --out",
        "pipe": "is no ordinary file: choose another --out",
    }.items():
        with pytest.raises(ConfigError, match=words):
            check_file(tmp_path / name, force=False)
    check_file(tmp_path / "there.npy", force=True)
    check_file(tmp_path / "new.npy", force=False)
    assert {path.name for path in tmp_path.iterdir()} == {"there.npy", "pipe"}


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ConfigError, match=r"file is a file, so .* cannot be made in it: choose another --out"
    ):
        check_folder(tmp_path / "file" / "run", force=False)
    with pytest.raises(ConfigError, match="is not empty: choose another --out, or replace its run"):
        check_folder(tmp_path, force=False)
    check_folder(tmp_path, force=True)
    check_folder(tmp_path / "new" / "run", force=False)
    assert {path.name for path in tmp_path.iterdir()} == {"file"}


@pytest.mark.usefixtures("read_only")
@pytest.mark.parametrize(
    "line",
    [
        "serve --length 5 --bind tcp://127.0.0.1:* --out new.npy",
        "serve --config run.toml --bind tcp://127.0.0.1:* --out run",
        "join --connect tcp://127.0.0.1:9 --key client0.key --data .",
        "join --connect tcp://127.0.0.1:9 --key client0.key --input x.npy --allow ckks",
        "train --out run",
        "data picture --out new.png",
    ],
)
def test_a_command_whose_result_has_no_place_does_not_begin(
    here: Here, keys: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.chdir(keys)
    (keys / "run.toml").write_text("[training]\nrounds = 1\n")
    np.save("x.npy", np.zeros(5))
    (keys / "shard.npz").touch()
    left = set(keys.iterdir())
    is_one_line(here(*line.split()), 2, "nothing can be written to the folder", "Read-only file system")
    assert set(keys.iterdir()) == left


def test_a_sum_whose_place_has_gone_is_kept_in_another(tmp_path: Path, keys: Path) -> None:
    """While the clients are waited for, the folder of --out becomes a file."""
    out, other = tmp_path / "out", tmp_path / "temporary"
    out.mkdir()
    other.mkdir()
    options = ["--length", str(LENGTH), "--out", str(out / "mean.npy")]
    server = Command("serve", *server_options(keys), *options, env={"TMPDIR": str(other)})
    endpoint = listening(server)
    shutil.rmtree(out)
    out.write_text("in the way")
    for u in range(CLIENTS):
        np.save(tmp_path / f"{u}.npy", vector(u))
    join = ["join", "--quiet", "--input"]
    with at_once(
        [*join, str(tmp_path / f"{u}.npy"), *client_options(keys, u, endpoint)] for u in range(CLIENTS)
    ) as joined:
        assert [client.result() for client in joined] == [0] * CLIENTS
    ran = server.end()
    kept = Path(ran.records[-1]["wrote"])
    assert kept.is_relative_to(other)
    warned, *error = ran.err.splitlines()
    assert warned.startswith(f"warning: {out}/mean.npy.session could not be written (")
    assert warned.endswith("if this server is stopped, its sum is lost")
    said = f"{out}/mean.npy could not be written", f"the result is kept in {kept}"
    is_one_line(replace(ran, err="\n".join(error)), 1, *said)
    mean = sum(vector(u).astype(np.float64) for u in range(CLIENTS)) / CLIENTS
    assert np.abs(np.load(kept) - mean).max() <= ran.records[-1]["error_bound"]


def test_a_result_replaces_the_old_one_through_a_link_and_whole(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "mean.npy").write_bytes(b"old")
    (tmp_path / "mean.npy").symlink_to(tmp_path / "real" / "mean.npy")
    kept = write_result(tmp_path / "mean.npy", npy(np.arange(3.0)))
    kept.check()
    assert kept == Kept(tmp_path / "mean.npy")
    assert np.load(tmp_path / "real" / "mean.npy").tolist() == [0, 1, 2]
    assert (tmp_path / "mean.npy").is_symlink()


def test_where_no_place_takes_it_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Iterator[Path]:
        yield tmp_path / "file"

    (tmp_path / "file").write_text("")
    monkeypatch.setattr(results, "elsewhere", nowhere)
    with pytest.raises(ResultError, match=r"could not be written .* nor anything in another folder: .* lost"):
        write_result(tmp_path / "file" / "mean.npy", b"")


def test_a_training_whose_folder_has_gone_is_kept_in_another(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the model, after the round of which nothing could be written any more."""
    folder, other = tmp_path / "run", tmp_path / "temporary"
    other.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(other))

    def full(at: Path, checkpoint: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(at / "checkpoint.bin"))

    monkeypatch.setattr("fl.cli.rounds.write_checkpoint", full)
    flags = ["--clients", "3", "--model", "logistic", "--rounds", "2", "--execution", "sequential"]
    ran = here("train", *flags, "--out", str(folder))
    (kept,) = other.glob("secagg-kept-*")
    full_disk = "checkpoint.bin could not be written (No space left on device)"
    is_one_line(ran, 1, f"{full_disk}: the run as far as it got is kept in {kept}")
    assert sorted(path.name for path in kept.iterdir()) == [
        "config.json",
        "metrics.jsonl",
        "model.safetensors",
    ]
    assert sum(parameter.numel() for parameter in fl.load(kept).parameters()) == 650
